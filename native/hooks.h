// The hooked functions. Each calls the original with the caller's arguments, returns its result
// and leaves errno alone; what it observed goes to the inbox.
//
// Facts about the calls are those of llama.cpp b11434 (include/llama.h, tools/server): a prompt
// that reuses k tokens of its slot begins with seq_rm(slot, k, -1), then decodes the rest.
#pragma once

#include "hash.h"
#include "watch.h"

namespace contextpilot {

static void record_range(Change change, llama_seq_id seq, llama_pos begin, llama_pos end,
                         llama_pos delta = 0, llama_seq_id other = 0) {
    record(Operation{change, seq, begin, end, delta, other, 0, 0, 0});
}

static void record_save(llama_seq_id seq, const void *address, size_t size) {
    const int32_t held = positions_held(seq);
    const uint64_t key = (uint64_t)(uintptr_t)address;
    record(Operation{Change::SAVE, seq, held, held, 0, 0, key, size, size});
}

static void record_load(llama_seq_id seq, const void *address, size_t size) {
    const int32_t held = positions_held(seq);
    const uint64_t key = (uint64_t)(uintptr_t)address;
    record(Operation{Change::LOAD, seq, held, held, 0, 0, key, size, 0});
}

// After a part of a state was loaded (window or recurrent layers), or decoding failed half way:
// llama.cpp holds less than before, and says how much.
static void record_setback(llama_seq_id seq) {
    record_range(Change::REMOVE, seq, positions_held(seq), -1);
}

static void record_growth(const BatchContent &batch) {
    for (int i = 0; i < batch.count; i++) {
        const BatchRun &run = batch.run[i];
        if (run.media) {
            record_range(Change::REMOVE, run.seq, run.begin, -1);
        } else {
            record_range(Change::GROW, run.seq, run.begin, run.end);
        }
    }
}

static void record_decode(BatchContent *batch, int32_t result) {
    enum { NO_ROOM = 1, INVALID = -1 };  // of the results, those that change nothing
    if (result == NO_ROOM || result == INVALID) return;
    if (batch) batch->fold();
    if (!batch || batch->unreadable) {
        recount_all();
    } else if (result == 0) {
        record_growth(*batch);
    } else {
        for (int i = 0; i < batch->count; i++) record_setback(batch->run[i].seq);
    }
}

static void read_batch(const llama_batch &batch, BatchContent *content) {
    content->clear();
    for (int32_t i = 0; i < batch.n_tokens; i++) {
        const int32_t num_seqs = batch.n_seq_id ? batch.n_seq_id[i] : 1;
        for (int32_t j = 0; j < num_seqs; j++) {
            const llama_seq_id seq = batch.seq_id ? batch.seq_id[i][j] : 0;
            if (j == 0) {
                content->add(i, seq, !batch.token);
            } else {
                content->add_seq(i, seq);
            }
        }
        // Without positions llama.cpp counts on from what the sequence holds.
        content->place(i, batch.pos ? batch.pos[i] : positions_held(0) + i);
    }
}

}  // namespace contextpilot

#define HOOK(result, name) extern "C" HOOK_VISIBILITY result OBSERVER(name)

using namespace contextpilot;

HOOK(llama_memory_t, llama_get_memory)(const llama_context *ctx) {
    Call call;
    llama_memory_t memory = ORIGINAL(llama_get_memory)(ctx);
    if (call.is_outermost()) watch.learn(ctx, memory);
    return memory;
}

HOOK(void, llama_free)(llama_context *ctx) {
    Call call;
    if (call.is_outermost() && watch.forget(ctx)) record_range(Change::CLEAR, 0, 0, -1);
    ORIGINAL(llama_free)(ctx);
}

HOOK(void, llama_memory_clear)(llama_memory_t memory, bool data) {
    Call call;
    ORIGINAL(llama_memory_clear)(memory, data);
    if (call.observes(memory)) record_range(Change::CLEAR, 0, 0, -1);
}

HOOK(bool, llama_memory_seq_rm)
(llama_memory_t memory, llama_seq_id seq, llama_pos begin, llama_pos end) {
    Call call;
    const bool removed = ORIGINAL(llama_memory_seq_rm)(memory, seq, begin, end);
    if (removed && call.observes(memory)) record_range(Change::REMOVE, seq, begin, end);
    return removed;
}

HOOK(void, llama_memory_seq_cp)
(llama_memory_t memory, llama_seq_id from, llama_seq_id to, llama_pos begin, llama_pos end) {
    Call call;
    ORIGINAL(llama_memory_seq_cp)(memory, from, to, begin, end);
    if (call.observes(memory)) record_range(Change::COPY, from, begin, end, 0, to);
}

HOOK(void, llama_memory_seq_keep)(llama_memory_t memory, llama_seq_id seq) {
    Call call;
    ORIGINAL(llama_memory_seq_keep)(memory, seq);
    if (call.observes(memory)) record_range(Change::KEEP, seq, 0, -1);
}

HOOK(void, llama_memory_seq_add)
(llama_memory_t memory, llama_seq_id seq, llama_pos begin, llama_pos end, llama_pos delta) {
    Call call;
    ORIGINAL(llama_memory_seq_add)(memory, seq, begin, end, delta);
    if (call.observes(memory)) record_range(Change::SHIFT, seq, begin, end, delta);
}

// Divided positions stand for several tokens each: from there on nothing can be matched.
HOOK(void, llama_memory_seq_div)
(llama_memory_t memory, llama_seq_id seq, llama_pos begin, llama_pos end, int divisor) {
    Call call;
    ORIGINAL(llama_memory_seq_div)(memory, seq, begin, end, divisor);
    if (divisor != 1 && call.observes(memory)) record_range(Change::REMOVE, seq, begin, -1);
}

HOOK(size_t, llama_state_set_data)(llama_context *ctx, const uint8_t *src, size_t size) {
    Call call;
    const size_t read = ORIGINAL(llama_state_set_data)(ctx, src, size);
    if (call.observes(ctx)) recount_all();
    return read;
}

HOOK(size_t, llama_set_state_data)(llama_context *ctx, const uint8_t *src) {
    Call call;
    const size_t read = ORIGINAL(llama_set_state_data)(ctx, src);
    if (call.observes(ctx)) recount_all();
    return read;
}

HOOK(bool, llama_state_load_file)
(llama_context *ctx, const char *path, llama_token *tokens, size_t capacity, size_t *count) {
    Call call;
    const bool loaded = ORIGINAL(llama_state_load_file)(ctx, path, tokens, capacity, count);
    if (call.observes(ctx)) recount_all();
    return loaded;
}

HOOK(bool, llama_load_session_file)
(llama_context *ctx, const char *path, llama_token *tokens, size_t capacity, size_t *count) {
    Call call;
    const bool loaded = ORIGINAL(llama_load_session_file)(ctx, path, tokens, capacity, count);
    if (call.observes(ctx)) recount_all();
    return loaded;
}

HOOK(size_t, llama_state_seq_get_data)
(llama_context *ctx, uint8_t *dst, size_t size, llama_seq_id seq) {
    Call call;
    const size_t written = ORIGINAL(llama_state_seq_get_data)(ctx, dst, size, seq);
    if (written && call.observes(ctx)) record_save(seq, dst, size);
    return written;
}

HOOK(size_t, llama_state_seq_get_data_ext)
(llama_context *ctx, uint8_t *dst, size_t size, llama_seq_id seq, llama_state_seq_flags flags) {
    Call call;
    const size_t written = ORIGINAL(llama_state_seq_get_data_ext)(ctx, dst, size, seq, flags);
    if (written && flags == 0 && call.observes(ctx)) record_save(seq, dst, size);
    return written;
}

HOOK(size_t, llama_state_seq_set_data)
(llama_context *ctx, const uint8_t *src, size_t size, llama_seq_id seq) {
    Call call;
    const size_t read = ORIGINAL(llama_state_seq_set_data)(ctx, src, size, seq);
    if (call.observes(ctx)) record_load(seq, src, size);
    return read;
}

HOOK(size_t, llama_state_seq_set_data_ext)
(llama_context *ctx, const uint8_t *src, size_t size, llama_seq_id seq,
 llama_state_seq_flags flags) {
    Call call;
    const size_t read = ORIGINAL(llama_state_seq_set_data_ext)(ctx, src, size, seq, flags);
    if (!call.observes(ctx)) return read;
    if (flags & STATE_PARTIAL) {
        record_setback(seq);
    } else {
        record_load(seq, flags == 0 && read ? src : nullptr, size);
    }
    return read;
}

HOOK(size_t, llama_state_seq_save_file)
(llama_context *ctx, const char *path, llama_seq_id seq, const llama_token *tokens, size_t count) {
    Call call;
    const size_t size = ORIGINAL(llama_state_seq_save_file)(ctx, path, seq, tokens, count);
    if (size && call.observes(ctx)) {
        const int32_t held = positions_held(seq);
        record(Operation{Change::SAVE_FILE, seq, held, held, 0, 0, hash_text(path),
                         hash_tokens(tokens, count), size});
    }
    return size;
}

HOOK(size_t, llama_state_seq_load_file)
(llama_context *ctx, const char *path, llama_seq_id seq, llama_token *tokens, size_t capacity,
 size_t *count) {
    Call call;
    const size_t size =
        ORIGINAL(llama_state_seq_load_file)(ctx, path, seq, tokens, capacity, count);
    // Without `tokens` it only says how many there are.
    if (tokens && call.observes(ctx)) {
        const int32_t held = positions_held(seq);
        const size_t read = size && count && *count <= capacity ? *count : 0;
        record(Operation{Change::LOAD_FILE, seq, held, held, 0, 0, hash_text(path),
                         hash_tokens(tokens, read), size});
    }
    return size;
}

HOOK(int32_t, llama_decode)(llama_context *ctx, llama_batch batch) {
    Call call;
    if (!call.observes(ctx)) return ORIGINAL(llama_decode)(ctx, batch);
    BatchContent content;
    read_batch(batch, &content);
    const int32_t result = ORIGINAL(llama_decode)(ctx, batch);
    record_decode(&content, result);
    return result;
}

HOOK(int32_t, llama_process)(llama_context *ctx, int type, llama_batch_ext *batch) {
    Call call;
    const int32_t result = ORIGINAL(llama_process)(ctx, type, batch);
    if (type == PROCESS_DECODE && call.observes(ctx)) record_decode(batches.find(batch), result);
    return result;
}

HOOK(llama_batch_ext *, llama_batch_ext_init)(llama_context *ctx) {
    Call call;
    llama_batch_ext *batch = ORIGINAL(llama_batch_ext_init)(ctx);
    if (call.is_outermost() && batch) batches.restart(batch);
    return batch;
}

HOOK(void, llama_batch_ext_free)(llama_batch_ext *batch) {
    Call call;
    if (call.is_outermost() && batch) batches.release(batch);
    ORIGINAL(llama_batch_ext_free)(batch);
}

HOOK(void, llama_batch_ext_clear)(llama_batch_ext *batch) {
    Call call;
    ORIGINAL(llama_batch_ext_clear)(batch);
    if (call.is_outermost()) batches.restart(batch);
}

HOOK(int32_t, llama_batch_ext_add)(llama_batch_ext *batch, llama_seq_id seq) {
    Call call;
    const int32_t index = ORIGINAL(llama_batch_ext_add)(batch, seq);
    if (BatchContent *content = call.followed(batch)) content->add(index, seq, true);
    return index;
}

HOOK(int32_t, llama_batch_ext_add_token)
(llama_batch_ext *batch, llama_seq_id seq, llama_token token) {
    Call call;
    const int32_t index = ORIGINAL(llama_batch_ext_add_token)(batch, seq, token);
    if (BatchContent *content = call.followed(batch)) content->add(index, seq, false);
    return index;
}

HOOK(int32_t, llama_batch_ext_add_embd)
(llama_batch_ext *batch, llama_seq_id seq, llama_embd embd) {
    Call call;
    const int32_t index = ORIGINAL(llama_batch_ext_add_embd)(batch, seq, embd);
    if (BatchContent *content = call.followed(batch)) content->add(index, seq, true);
    return index;
}

HOOK(bool, llama_batch_ext_add_seq)(llama_batch_ext *batch, int32_t index, llama_seq_id seq) {
    Call call;
    const bool added = ORIGINAL(llama_batch_ext_add_seq)(batch, index, seq);
    BatchContent *content = added ? call.followed(batch) : nullptr;
    if (content) content->add_seq(index, seq);
    return added;
}

HOOK(bool, llama_batch_ext_set_pos)
(llama_batch_ext *batch, int32_t index, const llama_pos *pos) {
    Call call;
    const bool placed = ORIGINAL(llama_batch_ext_set_pos)(batch, index, pos);
    BatchContent *content = placed ? call.followed(batch) : nullptr;
    if (content) content->place(index, pos[0]);
    return placed;
}
