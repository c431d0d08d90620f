// One message to the index as HTTP request: the event schema, version 1, for llama.cpp.
//
// A message holds all that the journal holds, so its size is bounded. It is kept, byte for byte,
// until the index acknowledges it.
#pragma once

#include "interpose.h"
#include "journal.h"
#include "settings.h"

#include <stdarg.h>
#include <unistd.h>

namespace contextpilot {

// Text of bounded length; what does not fit marks it as cut.
template <int CAPACITY>
struct Text {
    char text[CAPACITY];
    int size;
    bool cut;

    void clear() {
        size = 0;
        cut = false;
    }

    __attribute__((format(printf, 2, 3))) void add(const char *format, ...) {
        va_list values;
        va_start(values, format);
        const int length = vsnprintf(text + size, (size_t)(CAPACITY - size), format, values);
        va_end(values);
        cut = cut || length < 0 || length >= CAPACITY - size;
        if (!cut) size += length;
    }

    void add_quoted(const char *value) {
        add("\"");
        for (; *value; value++) {
            const unsigned char c = (unsigned char)*value;
            if (c < 0x20 || c == '"' || c == '\\') {
                add("\\u%04x", c);
            } else {
                add("%c", c);
            }
        }
        add("\"");
    }
};

// Number of this build of llama.cpp ("b11434"), else its version, else nothing.
static void engine_version(char *version, size_t capacity) {
    version[0] = 0;
    int (*build)(void) = OPTIONAL(llama_build_number, "_Z18llama_build_numberv");
    const char *(*named)(void) = OPTIONAL(llama_version, "llama_version");
    const int number = build ? build() : 0;  // 0 where git was absent when it was built
    if (number > 0) {
        snprintf(version, capacity, "b%d", number);
    } else if (named) {
        snprintf(version, capacity, "%s", named());
    }
}

static struct Message {
    enum { EVENT_BYTES = 160, MAX_EVENTS = Journal::CAPACITY + MAX_SLOTS, MAX_HEAD = 4096 };
    enum { MAX_BODY = MAX_HEAD + EVENT_BYTES * MAX_EVENTS };
    Text<MAX_HEAD> head;
    Text<MAX_BODY> body;
    char epoch[17];
    char version[64];
    int64_t seq;
    bool snapshot;
    bool pending;  // written, and not acknowledged

    void begin_epoch() {
        uint8_t random[8] = {};
        FILE *source = fopen("/dev/urandom", "re");
        if (!source || fread(random, 1, sizeof random, source) != sizeof random) {
            const uint64_t unlikely_twice = (uint64_t)now_ms() << 32 ^ (uint64_t)getpid();
            memcpy(random, &unlikely_twice, sizeof random);
        }
        if (source) fclose(source);
        for (int i = 0; i < 8; i++) snprintf(epoch + 2 * i, 3, "%02x", random[i]);
        engine_version(version, sizeof version);
        seq = 0;
    }

    void write(bool as_snapshot) {
        snapshot = as_snapshot;
        write_body();
        head.clear();
        head.add("POST %s/sync HTTP/1.1\r\nHost: ", settings.path);
        head.add(strchr(settings.host, ':') ? "[%s]:%s\r\n" : "%s:%s\r\n", settings.host,
                 settings.port);
        if (*settings.token) head.add("Authorization: Bearer %s\r\n", settings.token);
        head.add("Content-Type: application/json\r\nContent-Length: %d\r\n\r\n", body.size);
        journal.sent();
        pending = true;
    }

   private:
    void write_body() {
        body.clear();
        body.add("{\"version\":1,\"engine\":");
        body.add_quoted(settings.engine);
        body.add(",\"epoch\":\"%s\",\"seq\":%lld,\"kind\":\"llamacpp\",\"engine_version\":", epoch,
                 (long long)seq);
        body.add_quoted(version);
        body.add(",\"block_size\":1,\"snapshot\":%s,\"pid\":%d", snapshot ? "true" : "false",
                 (int)getpid());
        if (settings.ram_limit_bytes >= 0) {
            body.add(",\"ram_limit_bytes\":%lld", (long long)settings.ram_limit_bytes);
        }
        body.add(",\"events\":[");
        const int start = body.size;
        if (snapshot) {
            write_slots(start);
        } else {
            for (int i = 0; i < journal.count; i++) write_event(journal.event[i], start);
        }
        body.add("]}");
    }

    void write_slots(int start) {
        for (int32_t slot = 0; slot < MAX_SLOTS; slot++) {
            const int32_t tokens = journal.tokens[slot];
            const int32_t kept = journal.kept_since_acknowledged(slot);
            if (tokens == 0) continue;
            write_event(Event{Kind::SLOT, Naming::UNKNOWN, slot, 0, kept, tokens, 0, 0}, start);
        }
    }

    void write_event(const Event &event, int start) {
        if (body.size > start) body.add(",");
        switch (event.kind) {
            case Kind::SLOT:
                body.add("{\"event\":\"slot\",\"slot\":%d,\"keep\":%d,\"tokens\":%d}", event.slot,
                         event.keep, event.tokens);
                return;
            case Kind::COPIED:
                body.add("{\"event\":\"copied\",\"slot\":%d,\"to\":%d}", event.slot, event.to);
                return;
            case Kind::SAVED:
                body.add("{\"event\":\"saved\",\"slot\":%d,", event.slot);
                write_copy(event);
                body.add(",\"bytes\":%llu}", (unsigned long long)event.bytes);
                return;
            case Kind::LOADED:
                body.add("{\"event\":\"loaded\",\"slot\":%d,", event.slot);
                write_copy(event);
                body.add(",\"tokens\":%d}", event.tokens);
                return;
            case Kind::CLEARED: body.add("{\"event\":\"cleared\"}"); return;
        }
    }

    void write_copy(const Event &event) {
        const unsigned long long copy = event.copy;
        switch (event.naming) {
            case Naming::UNKNOWN: body.add("\"copy\":\"\""); return;
            case Naming::COUNT: body.add("\"copy\":\"%llu\"", copy); return;
            case Naming::FILE: body.add("\"copy\":\"file-%016llx\"", copy); return;
        }
    }
} message;

}  // namespace contextpilot
