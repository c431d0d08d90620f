// POST over one kept-alive connection, from the reporter's thread alone. No step waits beyond the
// deadline that the caller gives, except the lookup of a host name.
#pragma once

#include "clock.h"
#include "settings.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <strings.h>
#include <sys/socket.h>

namespace contextpilot {

enum class Answer { NONE, OK, RESYNC };

static struct Connection {
    int socket;  // -1: none
    char answer[8192];
    size_t received;
    int64_t deadline;

    void init() { socket = -1; }

    // NONE unless the index took the message. A connection that the index closed while it was
    // idle is opened anew once; sending a message twice does no harm.
    Answer post(const char *head, int head_size, const char *body, int body_size,
                int64_t until_ms) {
        deadline = until_ms;
        received = 0;
        const bool reused = socket >= 0;
        if (!reused) open();
        bool sent = send_all(head, head_size) && send_all(body, body_size);
        Answer result = sent ? receive() : Answer::NONE;
        if (result == Answer::NONE && reused && received == 0 && now_ms() < deadline) {
            close();
            open();
            sent = send_all(head, head_size) && send_all(body, body_size);
            result = sent ? receive() : Answer::NONE;
        }
        if (result == Answer::NONE) close();
        return result;
    }

    void close() {
        if (socket >= 0) ::close(socket);
        socket = -1;
    }

   private:
    bool wait_for(short events) {
        pollfd waiting = {socket, events, 0};
        for (;;) {
            const int64_t left = deadline - now_ms();
            if (left <= 0) return false;
            const int ready = poll(&waiting, 1, (int)left);
            if (ready > 0) return true;
            if (ready < 0 && errno != EINTR) return false;
        }
    }

    void open() {
        received = 0;
        addrinfo wanted = {};
        wanted.ai_socktype = SOCK_STREAM;
        addrinfo *addresses = nullptr;
        if (getaddrinfo(settings.host, settings.port, &wanted, &addresses) != 0) return;
        for (addrinfo *address = addresses; address && socket < 0; address = address->ai_next) {
            if (!connect_to(address)) close();
        }
        freeaddrinfo(addresses);
    }

    bool connect_to(const addrinfo *address) {
        socket = ::socket(address->ai_family, address->ai_socktype, address->ai_protocol);
        if (socket < 0) return false;
        const int on = 1;
        fcntl(socket, F_SETFD, FD_CLOEXEC);
        fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
#if defined(SO_NOSIGPIPE)
        setsockopt(socket, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
        if (connect(socket, address->ai_addr, address->ai_addrlen) == 0) return true;
        if (errno != EINPROGRESS || !wait_for(POLLOUT)) return false;
        int error = 0;
        socklen_t size = sizeof error;
        return getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
    }

    bool send_all(const char *data, int size) {
#if defined(MSG_NOSIGNAL)
        const int flags = MSG_NOSIGNAL;
#else
        const int flags = 0;
#endif
        while (socket >= 0 && size > 0) {
            const ssize_t sent = send(socket, data, (size_t)size, flags);
            if (sent > 0) {
                data += sent;
                size -= (int)sent;
            } else if (sent == 0 || (errno != EAGAIN && errno != EINTR) || !wait_for(POLLOUT)) {
                return false;
            }
        }
        return socket >= 0;
    }

    // Returns whether anything more came.
    bool receive_some() {
        for (;;) {
            if (received == sizeof answer - 1 || !wait_for(POLLIN)) return false;
            const ssize_t size = recv(socket, answer + received, sizeof answer - 1 - received, 0);
            if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) return false;
            if (size < 0) continue;
            received += (size_t)size;
            answer[received] = 0;
            return true;
        }
    }

    Answer receive() {
        received = 0;
        answer[0] = 0;
        const char *body = nullptr;
        while (!(body = strstr(answer, "\r\n\r\n"))) {
            if (!receive_some()) return Answer::NONE;
        }
        body += 4;
        if (strncmp(answer, "HTTP/1.", 7) != 0 || strncmp(answer + 8, " 200", 4) != 0) {
            return Answer::NONE;
        }
        const char *length = header("Content-Length:", body);
        const size_t head = (size_t)(body - answer);
        const size_t size = length ? head + strtoul(length, nullptr, 10) : sizeof answer;
        if (size < head || size > sizeof answer) return Answer::NONE;
        while (received < size && receive_some()) {
        }
        if (length && received != size) return Answer::NONE;
        const Answer result = status(body);
        // Without a length the connection ends with the answer.
        const char *ending = header("Connection:", body);
        if (!length || (ending && strncasecmp(ending, "close", 5) == 0)) close();
        return result;
    }

    const char *header(const char *name, const char *end) const {
        const char *line = answer;
        while ((line = strstr(line, "\r\n")) && (line += 2) < end) {
            if (strncasecmp(line, name, strlen(name)) != 0) continue;
            const char *value = line + strlen(name);
            return value + strspn(value, " \t");
        }
        return nullptr;
    }

    static Answer status(const char *body) {
        static const char key[] = "\"status\"";
        const char *found = strstr(body, key);
        if (!found) return Answer::NONE;
        found += sizeof key - 1;
        found += strspn(found, " \t\r\n:");
        if (strncmp(found, "\"ok\"", 4) == 0) return Answer::OK;
        if (strncmp(found, "\"resync\"", 8) == 0) return Answer::RESYNC;
        return Answer::NONE;
    }
} connection;

}  // namespace contextpilot
