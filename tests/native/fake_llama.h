// What the stand-in for libllama has beyond llama.cpp's own functions.
#pragma once

#include "llama_api.h"

#include <stdio.h>

enum { FAKE_SEQS = 8, FAKE_POSITIONS = 8192 };

extern "C" {
LLAMA_IMPORT llama_context *fake_open(void);
// The next batch that is decoded ends with this result.
LLAMA_IMPORT void fake_next_result(int32_t result);
LLAMA_IMPORT bool fake_holds(llama_memory_t memory, llama_seq_id seq, llama_pos pos);
}
