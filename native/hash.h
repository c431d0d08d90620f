// FNV-1a, 64 bits: names for paths, and a check of the tokens in a file.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace contextpilot {

static uint64_t hash_bytes(const void *data, size_t size) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    }
    return hash;
}

static uint64_t hash_text(const char *text) { return hash_bytes(text, strlen(text)); }

static uint64_t hash_tokens(const int32_t *tokens, size_t count) {
    return hash_bytes(tokens, count * sizeof *tokens);
}

}  // namespace contextpilot
