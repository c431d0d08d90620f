// A stand-in for libllama that knows positions only: which ones every sequence holds.
//
// Functions forward to each other through the PLT where those of llama.cpp do, so that the shim's
// hooks nest here as they nest there. None of them touches errno.

#include "fake_llama.h"

#include <stdlib.h>
#include <string.h>

struct llama_memory_i {
    uint8_t held[FAKE_SEQS][FAKE_POSITIONS];
};

struct llama_context {
    llama_memory_i memory;
};

struct Entry {
    uint64_t seqs;
    llama_pos pos;
};

struct llama_batch_ext {
    int32_t count;
    Entry entry[FAKE_POSITIONS];
};

static int32_t next_result = 0;

extern "C" {

llama_context *fake_open(void) { return (llama_context *)calloc(1, sizeof(llama_context)); }

void fake_next_result(int32_t result) { next_result = result; }

bool fake_holds(llama_memory_t memory, llama_seq_id seq, llama_pos pos) {
    return memory->held[seq][pos];
}

const char *llama_version(void) { return "9.9.9-fake"; }

llama_memory_t llama_get_memory(const llama_context *ctx) {
    return const_cast<llama_memory_t>(&ctx->memory);
}

void llama_free(llama_context *ctx) { free(ctx); }

llama_pos llama_memory_seq_pos_max(llama_memory_t memory, llama_seq_id seq) {
    for (llama_pos pos = FAKE_POSITIONS - 1; pos >= 0; pos--) {
        if (memory->held[seq][pos]) return pos;
    }
    return -1;
}

void llama_memory_clear(llama_memory_t memory, bool) { memset(memory, 0, sizeof *memory); }

static llama_pos last(llama_pos end) {
    return end < 0 || end > FAKE_POSITIONS ? FAKE_POSITIONS : end;
}

bool llama_memory_seq_rm(llama_memory_t memory, llama_seq_id seq, llama_pos begin, llama_pos end) {
    if (begin < 0) begin = 0;
    for (llama_seq_id s = 0; s < FAKE_SEQS; s++) {
        if (seq >= 0 && s != seq) continue;
        for (llama_pos pos = begin; pos < last(end); pos++) memory->held[s][pos] = 0;
    }
    return true;
}

void llama_memory_seq_cp(llama_memory_t memory, llama_seq_id from, llama_seq_id to, llama_pos begin,
                         llama_pos end) {
    for (llama_pos pos = begin < 0 ? 0 : begin; pos < last(end); pos++) {
        memory->held[to][pos] |= memory->held[from][pos];
    }
}

void llama_memory_seq_keep(llama_memory_t memory, llama_seq_id seq) {
    for (llama_seq_id s = 0; s < FAKE_SEQS; s++) {
        if (s != seq) memset(memory->held[s], 0, FAKE_POSITIONS);
    }
}

void llama_memory_seq_add(llama_memory_t memory, llama_seq_id seq, llama_pos begin, llama_pos end,
                          llama_pos delta) {
    uint8_t moved[FAKE_POSITIONS] = {};
    for (llama_pos pos = begin < 0 ? 0 : begin; pos < last(end); pos++) {
        const llama_pos to = pos + delta;
        if (memory->held[seq][pos] && to >= 0 && to < FAKE_POSITIONS) moved[to] = 1;
        memory->held[seq][pos] = 0;
    }
    for (llama_pos pos = 0; pos < FAKE_POSITIONS; pos++) memory->held[seq][pos] |= moved[pos];
}

void llama_memory_seq_div(llama_memory_t memory, llama_seq_id seq, llama_pos begin, llama_pos end,
                          int divisor) {
    uint8_t divided[FAKE_POSITIONS] = {};
    for (llama_pos pos = begin < 0 ? 0 : begin; pos < last(end); pos++) {
        if (memory->held[seq][pos]) divided[pos / divisor] = 1;
        memory->held[seq][pos] = 0;
    }
    for (llama_pos pos = 0; pos < FAKE_POSITIONS; pos++) memory->held[seq][pos] |= divided[pos];
}

size_t llama_state_set_data(llama_context *ctx, const uint8_t *src, size_t size) {
    if (size < sizeof ctx->memory) return 0;
    memcpy(&ctx->memory, src, sizeof ctx->memory);
    return sizeof ctx->memory;
}

size_t llama_set_state_data(llama_context *ctx, const uint8_t *src) {
    return llama_state_set_data(ctx, src, SIZE_MAX);
}

bool llama_state_load_file(llama_context *ctx, const char *path, llama_token *, size_t, size_t *) {
    FILE *file = fopen(path, "rb");
    const bool read = file && fread(&ctx->memory, sizeof ctx->memory, 1, file) == 1;
    if (file) fclose(file);
    return read;
}

bool llama_load_session_file(llama_context *ctx, const char *path, llama_token *tokens,
                             size_t capacity, size_t *count) {
    return llama_state_load_file(ctx, path, tokens, capacity, count);
}

size_t llama_state_seq_get_data_ext(llama_context *ctx, uint8_t *dst, size_t size, llama_seq_id seq,
                                    llama_state_seq_flags) {
    if (size < FAKE_POSITIONS) return 0;
    memcpy(dst, ctx->memory.held[seq], FAKE_POSITIONS);
    return FAKE_POSITIONS;
}

size_t llama_state_seq_set_data_ext(llama_context *ctx, const uint8_t *src, size_t size,
                                    llama_seq_id seq, llama_state_seq_flags flags) {
    uint8_t *held = ctx->memory.held[seq];
    if (flags & STATE_PARTIAL) {  // takes the sequence back by half
        const llama_pos half = (llama_memory_seq_pos_max(&ctx->memory, seq) + 1) / 2;
        memset(held + half, 0, (size_t)(FAKE_POSITIONS - half));
        return size;
    }
    memset(held, 0, FAKE_POSITIONS);
    if (size < FAKE_POSITIONS) return 0;
    memcpy(held, src, FAKE_POSITIONS);
    return FAKE_POSITIONS;
}

size_t llama_state_seq_get_data(llama_context *ctx, uint8_t *dst, size_t size, llama_seq_id seq) {
    return llama_state_seq_get_data_ext(ctx, dst, size, seq, 0);
}

size_t llama_state_seq_set_data(llama_context *ctx, const uint8_t *src, size_t size,
                                llama_seq_id seq) {
    return llama_state_seq_set_data_ext(ctx, src, size, seq, 0);
}

size_t llama_state_seq_save_file(llama_context *ctx, const char *path, llama_seq_id seq,
                                 const llama_token *tokens, size_t count) {
    FILE *file = fopen(path, "wb");
    if (!file) return 0;
    fwrite(&count, sizeof count, 1, file);
    fwrite(tokens, sizeof *tokens, count, file);
    fwrite(ctx->memory.held[seq], 1, FAKE_POSITIONS, file);
    fclose(file);
    return sizeof count + count * sizeof *tokens + FAKE_POSITIONS;
}

size_t llama_state_seq_load_file(llama_context *ctx, const char *path, llama_seq_id seq,
                                 llama_token *tokens, size_t capacity, size_t *count) {
    FILE *file = fopen(path, "rb");
    if (!file) return 0;
    size_t size = 0;
    if (fread(count, sizeof *count, 1, file) == 1) {
        size = sizeof *count + *count * sizeof *tokens + FAKE_POSITIONS;
        if (tokens && (*count > capacity || fread(tokens, sizeof *tokens, *count, file) != *count ||
                       fread(ctx->memory.held[seq], 1, FAKE_POSITIONS, file) != FAKE_POSITIONS)) {
            size = 0;
        }
    }
    fclose(file);
    return size;
}

// Results as in llama.h; of a failed batch the first half stays when it was aborted.
static int32_t apply(llama_context *ctx, const llama_batch_ext *batch) {
    const int32_t result = next_result;
    next_result = 0;
    if (result == 1 || result == -1) return result;
    const int32_t processed = result == 0 ? batch->count : batch->count / 2;
    for (int32_t i = 0; i < processed; i++) {
        for (llama_seq_id seq = 0; seq < FAKE_SEQS; seq++) {
            const uint64_t has = batch->entry[i].seqs >> seq & 1;
            if (has) ctx->memory.held[seq][batch->entry[i].pos] = 1;
        }
    }
    return result;
}

int32_t llama_process(llama_context *ctx, int type, llama_batch_ext *batch) {
    return type == PROCESS_DECODE ? apply(ctx, batch) : 0;
}

int32_t llama_decode(llama_context *ctx, llama_batch batch) {
    llama_batch_ext *copy = llama_batch_ext_init(ctx);
    for (int32_t i = 0; i < batch.n_tokens; i++) {
        const llama_pos next = llama_memory_seq_pos_max(&ctx->memory, 0) + 1;
        copy->entry[i].pos = batch.pos ? batch.pos[i] : next + i;
        const int32_t seqs = batch.n_seq_id ? batch.n_seq_id[i] : 1;
        for (int32_t j = 0; j < seqs; j++) {
            copy->entry[i].seqs |= UINT64_C(1) << (batch.seq_id ? batch.seq_id[i][j] : 0);
        }
    }
    copy->count = batch.n_tokens;
    const int32_t result = apply(ctx, copy);
    llama_batch_ext_free(copy);
    return result;
}

llama_batch_ext *llama_batch_ext_init(llama_context *) {
    return (llama_batch_ext *)calloc(1, sizeof(llama_batch_ext));
}

void llama_batch_ext_free(llama_batch_ext *batch) { free(batch); }

void llama_batch_ext_clear(llama_batch_ext *batch) { batch->count = 0; }

int32_t llama_batch_ext_add(llama_batch_ext *batch, llama_seq_id seq) {
    if (batch->count == FAKE_POSITIONS) return -1;
    batch->entry[batch->count] = Entry{UINT64_C(1) << seq, 0};
    return batch->count++;
}

int32_t llama_batch_ext_add_token(llama_batch_ext *batch, llama_seq_id seq, llama_token) {
    return llama_batch_ext_add(batch, seq);
}

int32_t llama_batch_ext_add_embd(llama_batch_ext *batch, llama_seq_id seq, llama_embd) {
    return llama_batch_ext_add(batch, seq);
}

bool llama_batch_ext_add_seq(llama_batch_ext *batch, int32_t index, llama_seq_id seq) {
    batch->entry[index].seqs |= UINT64_C(1) << seq;
    return true;
}

bool llama_batch_ext_set_pos(llama_batch_ext *batch, int32_t index, const llama_pos *pos) {
    batch->entry[index].pos = pos[0];
    return true;
}

}  // extern "C"
