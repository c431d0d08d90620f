// The part of llama.cpp's C API that the shim stands in front of, as in llama.h of b11434.
//
// The shim is compiled without llama.cpp at hand, and one binary serves several of its versions:
// functions that a version lacks are never called. Types are opaque where we only pass them on.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__APPLE__)
#define LLAMA_IMPORT __attribute__((weak_import))
#else
#define LLAMA_IMPORT __attribute__((visibility("default")))
#endif

struct llama_context;
struct llama_memory_i;
struct llama_batch_ext;

typedef llama_memory_i *llama_memory_t;
typedef int32_t llama_token;
typedef int32_t llama_pos;
typedef int32_t llama_seq_id;
typedef uint32_t llama_state_seq_flags;

// LLAMA_PROCESS_TYPE_DECODE; an enum in llama.h, passed like an int.
enum { PROCESS_DECODE = 1 };
// LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY and _ON_DEVICE.
enum { STATE_PARTIAL = 1, STATE_ON_DEVICE = 2 };

struct llama_embd {
    const float *data;
    size_t n_rows;
    size_t n_embd;
};

struct llama_batch {
    int32_t n_tokens;
    llama_token *token;
    float *embd;
    llama_pos *pos;
    int32_t *n_seq_id;
    llama_seq_id **seq_id;
    int8_t *logits;
};

extern "C" {
LLAMA_IMPORT const char *llama_version(void);
LLAMA_IMPORT llama_pos llama_memory_seq_pos_max(llama_memory_t memory, llama_seq_id seq);

LLAMA_IMPORT llama_memory_t llama_get_memory(const llama_context *ctx);
LLAMA_IMPORT void llama_free(llama_context *ctx);

LLAMA_IMPORT void llama_memory_clear(llama_memory_t memory, bool data);
LLAMA_IMPORT bool llama_memory_seq_rm(llama_memory_t memory, llama_seq_id seq, llama_pos begin,
                                      llama_pos end);
LLAMA_IMPORT void llama_memory_seq_cp(llama_memory_t memory, llama_seq_id from, llama_seq_id to,
                                      llama_pos begin, llama_pos end);
LLAMA_IMPORT void llama_memory_seq_keep(llama_memory_t memory, llama_seq_id seq);
LLAMA_IMPORT void llama_memory_seq_add(llama_memory_t memory, llama_seq_id seq, llama_pos begin,
                                       llama_pos end, llama_pos delta);
LLAMA_IMPORT void llama_memory_seq_div(llama_memory_t memory, llama_seq_id seq, llama_pos begin,
                                       llama_pos end, int divisor);

LLAMA_IMPORT size_t llama_state_set_data(llama_context *ctx, const uint8_t *src, size_t size);
LLAMA_IMPORT size_t llama_set_state_data(llama_context *ctx, const uint8_t *src);
LLAMA_IMPORT bool llama_state_load_file(llama_context *ctx, const char *path, llama_token *tokens,
                                        size_t capacity, size_t *count);
LLAMA_IMPORT bool llama_load_session_file(llama_context *ctx, const char *path, llama_token *tokens,
                                          size_t capacity, size_t *count);

LLAMA_IMPORT size_t llama_state_seq_get_data(llama_context *ctx, uint8_t *dst, size_t size,
                                             llama_seq_id seq);
LLAMA_IMPORT size_t llama_state_seq_set_data(llama_context *ctx, const uint8_t *src, size_t size,
                                             llama_seq_id seq);
LLAMA_IMPORT size_t llama_state_seq_get_data_ext(llama_context *ctx, uint8_t *dst, size_t size,
                                                 llama_seq_id seq, llama_state_seq_flags flags);
LLAMA_IMPORT size_t llama_state_seq_set_data_ext(llama_context *ctx, const uint8_t *src,
                                                 size_t size, llama_seq_id seq,
                                                 llama_state_seq_flags flags);
LLAMA_IMPORT size_t llama_state_seq_save_file(llama_context *ctx, const char *path,
                                              llama_seq_id seq, const llama_token *tokens,
                                              size_t count);
LLAMA_IMPORT size_t llama_state_seq_load_file(llama_context *ctx, const char *path,
                                              llama_seq_id seq, llama_token *tokens,
                                              size_t capacity, size_t *count);

LLAMA_IMPORT int32_t llama_decode(llama_context *ctx, llama_batch batch);
LLAMA_IMPORT int32_t llama_process(llama_context *ctx, int type, llama_batch_ext *batch);
LLAMA_IMPORT llama_batch_ext *llama_batch_ext_init(llama_context *ctx);
LLAMA_IMPORT void llama_batch_ext_free(llama_batch_ext *batch);
LLAMA_IMPORT void llama_batch_ext_clear(llama_batch_ext *batch);
LLAMA_IMPORT int32_t llama_batch_ext_add(llama_batch_ext *batch, llama_seq_id seq);
LLAMA_IMPORT int32_t llama_batch_ext_add_token(llama_batch_ext *batch, llama_seq_id seq,
                                               llama_token token);
LLAMA_IMPORT int32_t llama_batch_ext_add_embd(llama_batch_ext *batch, llama_seq_id seq,
                                              llama_embd embd);
LLAMA_IMPORT bool llama_batch_ext_add_seq(llama_batch_ext *batch, int32_t index, llama_seq_id seq);
LLAMA_IMPORT bool llama_batch_ext_set_pos(llama_batch_ext *batch, int32_t index,
                                          const llama_pos *pos);
}

// In libllama-common, with C++ linkage; only there in builds that number themselves.
LLAMA_IMPORT int llama_build_number(void);
