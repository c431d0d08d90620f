// One observed change of what a sequence (llama-server: a slot) holds, as hooks hand it over.
#pragma once

#include <stdint.h>

namespace contextpilot {

// Sequences beyond are not followed; llama.cpp itself has 256 (LLAMA_MAX_SEQ).
enum { MAX_SLOTS = 256 };

enum class Change : int32_t {
    GROW,       // positions [begin, end) of `seq` were computed from tokens
    REMOVE,     // positions [begin, end) are gone, or no longer known; end < 0: to the end
    SHIFT,      // positions [begin, end) moved by `delta`
    COPY,       // positions [begin, end) of `seq` now belong to `other` as well
    KEEP,       // all sequences but `seq` are gone
    CLEAR,      // all is gone
    SAVE,       // content was written to memory: key = address, check = bytes
    LOAD,       // content was replaced from memory
    SAVE_FILE,  // key = hash of the path, check = hash of the tokens, bytes = size of the file
    LOAD_FILE,  // content was replaced from a file
    RECOUNT,    // content may have changed unseen
    // After SAVE to RECOUNT: end = positions held, begin = how many of them tokens stand for.
};

struct Operation {
    Change change;
    int32_t seq;
    int32_t begin;
    int32_t end;
    int32_t delta;
    int32_t other;
    uint64_t key;
    uint64_t check;
    uint64_t bytes;
};

}  // namespace contextpilot
