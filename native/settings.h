// What the environment and the command line say: where the index listens, and who reports.
//
//   CONTEXTPILOT_INDEX_URL     http://host[:port][/path]; unset or empty: the shim stays out
//   CONTEXTPILOT_INDEX_TOKEN   sent as `Authorization: Bearer`, when set
//   CONTEXTPILOT_ENGINE_ID     name of this engine, stable across restarts
//   CONTEXTPILOT_LLAMA_RAM_BYTES   this build's default for --cache-ram, from the launcher
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__APPLE__)
#include <crt_externs.h>
#endif

namespace contextpilot {

struct CommandLine;

static struct Settings {
    char host[256];
    char port[8];
    char path[512];  // without a slash at its end
    char token[2048];
    char engine[512];
    int64_t ram_limit_bytes;  // of llama-server's prompt cache; -1: not known, or none
    const char *defect;       // null, or why the shim stays out although it was asked for

    // Returns whether the shim was asked for.
    bool read();

   private:
    const char *read_url(const char *url);
    bool read_authority(const char *begin, const char *end);
    void name_engine(const CommandLine &words);
    void read_ram_limit(const CommandLine &words);
} settings;

// The words of this process's command line, each ended by a zero byte.
struct CommandLine {
    char text[16384];
    size_t size;

    void read() {
        size = 0;
#if defined(__APPLE__)
        char **words = *_NSGetArgv();
        for (int i = 0; i < *_NSGetArgc(); i++) {
            const size_t length = strlen(words[i]) + 1;
            if (length > sizeof text - size) return;
            memcpy(text + size, words[i], length);
            size += length;
        }
#else
        FILE *file = fopen("/proc/self/cmdline", "re");
        if (!file) return;
        size = fread(text, 1, sizeof text, file);
        fclose(file);
        while (size > 0 && text[size - 1]) size--;  // of a word that was cut off
#endif
    }

    // The value of the last `name value` or `name=value`; null if there is none. An option may
    // have two names.
    const char *option(const char *name, const char *other) const {
        const char *found = nullptr;
        for (const char *word = text; word < text + size; word += strlen(word) + 1) {
            const size_t length = strcspn(word, "=");
            if (!is_name(word, length, name) && !is_name(word, length, other)) continue;
            const char *next = word + strlen(word) + 1;
            if (word[length]) {
                found = word + length + 1;
            } else if (next < text + size) {
                found = next;
            }
        }
        return found;
    }

   private:
    static bool is_name(const char *word, size_t length, const char *name) {
        return length == strlen(name) && strncmp(word, name, length) == 0;
    }
};

static bool is_printable(const char *text) {
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) return false;
    }
    return true;
}

static bool is_number(const char *text) {
    return *text && strlen(text) < 16 && strspn(text, "0123456789") == strlen(text);
}

// Copies [begin, end); returns whether it fits.
static bool copy_text(char *to, size_t capacity, const char *begin, const char *end) {
    const size_t length = (size_t)(end - begin);
    if (length >= capacity) return false;
    memcpy(to, begin, length);
    to[length] = 0;
    return true;
}

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

inline bool Settings::read() {
    const char *url = variable("CONTEXTPILOT_INDEX_URL");
    if (!*url) return false;
    defect = read_url(url);
    const char *secret = variable("CONTEXTPILOT_INDEX_TOKEN");
    if (!is_printable(secret) || !copy_text(token, sizeof token, secret, strchr(secret, 0))) {
        defect = "CONTEXTPILOT_INDEX_TOKEN must be one line of at most 2047 bytes";
    }
    static CommandLine words;
    words.read();
    name_engine(words);
    read_ram_limit(words);
    return true;
}

// Returns null, or what is wrong.
inline const char *Settings::read_url(const char *url) {
    static const char scheme[] = "http://";
    if (strncmp(url, "https://", 8) == 0) {
        return "CONTEXTPILOT_INDEX_URL: https is not supported here, use http://host:port";
    }
    if (strncmp(url, scheme, sizeof scheme - 1) != 0) {
        return "CONTEXTPILOT_INDEX_URL must look like http://127.0.0.1:8765";
    }
    const char *begin = url + sizeof scheme - 1;
    const char *slash = begin + strcspn(begin, "/");
    const char *end = strchr(slash, 0);
    while (end > slash && end[-1] == '/') end--;
    const bool clean = is_printable(url) && !strpbrk(url, " ?#@\"\\");
    if (!clean || !read_authority(begin, slash) || !copy_text(path, sizeof path, slash, end)) {
        return "CONTEXTPILOT_INDEX_URL must look like http://127.0.0.1:8765";
    }
    return nullptr;
}

// host, host:port, [address] or [address]:port
inline bool Settings::read_authority(const char *begin, const char *end) {
    const bool bracketed = *begin == '[';
    const char *host_end = begin + strcspn(begin, bracketed ? "]" : ":");
    if (host_end > end) host_end = end;
    if (bracketed && *host_end != ']') return false;
    const char *rest = bracketed ? host_end + 1 : host_end;
    if (!copy_text(host, sizeof host, begin + bracketed, host_end) || !*host) return false;
    if (rest == end) {
        memcpy(port, "80", sizeof "80");
        return true;
    }
    if (*rest != ':' || !copy_text(port, sizeof port, rest + 1, end)) return false;
    return is_number(port) && atol(port) > 0 && atol(port) < 65536;
}

inline void Settings::name_engine(const CommandLine &words) {
    const char *name = variable("CONTEXTPILOT_ENGINE_ID");
    if (*name) {
        snprintf(engine, sizeof engine, "%s", name);
        return;
    }
    char machine[256] = "localhost";
    gethostname(machine, sizeof machine - 1);
    const char *server_port = words.option("--port", "--port");
    if (!server_port) server_port = variable("LLAMA_ARG_PORT");
    if (is_number(server_port)) {
        snprintf(engine, sizeof engine, "llamacpp-%s-%s", machine, server_port);
    } else {
        snprintf(engine, sizeof engine, "llamacpp-%s-%d", machine, (int)getpid());
    }
}

inline void Settings::read_ram_limit(const CommandLine &words) {
    const char *mebibytes = words.option("--cache-ram", "-cram");
    if (!mebibytes) mebibytes = variable("LLAMA_ARG_CACHE_RAM");
    const char *bytes = variable("CONTEXTPILOT_LLAMA_RAM_BYTES");
    ram_limit_bytes = -1;
    if (is_number(mebibytes)) {
        ram_limit_bytes = atoll(mebibytes) << 20;
    } else if (!*mebibytes && is_number(bytes)) {
        ram_limit_bytes = atoll(bytes);
    }
}

}  // namespace contextpilot
