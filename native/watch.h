// Which context is watched, and the way of a change from a hook to the inbox.
//
// llama-server makes its main context first; what is made while that lives (a draft model, a
// vocoder) holds no slots and is left alone. Contexts are learnt when they are first used, since
// the parameters of the function that makes them differ between versions.
#pragma once

#include "batches.h"
#include "inbox.h"
#include "interpose.h"

namespace contextpilot {

void start_reporter();  // reporter.h

// Off: hooks pass through. Decided when the library is loaded, and again in forked children.
static bool enabled;

static bool is_enabled() { return __atomic_load_n(&enabled, __ATOMIC_RELAXED); }

static void disable() { __atomic_store_n(&enabled, false, __ATOMIC_RELAXED); }

static struct Watch {
    enum { OTHERS = 16 };
    pthread_mutex_t mutex;
    const llama_context *context;
    llama_memory_t memory;
    const llama_context *others[OTHERS];
    int32_t highest_seq;  // of those seen in the watched context

    void init() { pthread_mutex_init(&mutex, nullptr); }

    llama_memory_t watched_memory() const { return __atomic_load_n(&memory, __ATOMIC_ACQUIRE); }

    bool is_watched(const llama_memory_i *mem) const { return mem && watched_memory() == mem; }

    bool is_watched(const llama_context *ctx) const {
        return ctx && __atomic_load_n(&context, __ATOMIC_ACQUIRE) == ctx;
    }

    void learn(const llama_context *ctx, llama_memory_t mem) {
        if (!mem || is_watched(ctx)) return;
        pthread_mutex_lock(&mutex);
        if (!context && !other(ctx)) {
            highest_seq = 0;
            __atomic_store_n(&memory, mem, __ATOMIC_RELEASE);
            __atomic_store_n(&context, ctx, __ATOMIC_RELEASE);
        } else if (!other(ctx) && other(nullptr)) {
            *other(nullptr) = ctx;
        }
        pthread_mutex_unlock(&mutex);
    }

    // Returns whether `ctx` was the watched one.
    bool forget(const llama_context *ctx) {
        pthread_mutex_lock(&mutex);
        const bool watched = ctx && context == ctx;
        if (watched) {
            __atomic_store_n(&context, nullptr, __ATOMIC_RELEASE);
            __atomic_store_n(&memory, nullptr, __ATOMIC_RELEASE);
        } else if (ctx && other(ctx)) {
            *other(ctx) = nullptr;
        }
        pthread_mutex_unlock(&mutex);
        return watched;
    }

   private:
    const llama_context **other(const llama_context *ctx) {
        for (const llama_context *&entry : others) {
            if (entry == ctx) return &entry;
        }
        return nullptr;
    }
} watch;

// Positions that `seq` of the watched context holds, asked of llama.cpp.
static int32_t positions_held(llama_seq_id seq) {
    return ORIGINAL(llama_memory_seq_pos_max)(watch.watched_memory(), seq) + 1;
}

static void recount(llama_seq_id seq) {
    const int32_t held = positions_held(seq);
    inbox.put(Operation{Change::RECOUNT, seq, held, held, 0, 0, 0, 0, 0});
}

static void recount_all() {
    for (llama_seq_id seq = 0; seq <= watch.highest_seq; seq++) recount(seq);
}

static void record(const Operation &operation) {
    const int caller_errno = errno;
    if (operation.seq > watch.highest_seq) watch.highest_seq = operation.seq;
    if (inbox.put(operation)) recount_all();
    errno = caller_errno;
}

THREAD_LOCAL int depth;  // of hooked calls on this thread

// One call of a hooked function. The originals may call each other through our hooks; only the
// outermost call is recorded.
class Call {
   public:
    Call() : counted_(is_enabled()), outermost_(counted_ && depth++ == 0) {
        if (outermost_) start_reporter();
    }
    ~Call() {
        if (counted_) depth--;
    }
    Call(const Call &) = delete;
    Call &operator=(const Call &) = delete;

    bool observes(const llama_memory_i *memory) const {
        return outermost_ && watch.is_watched(memory);
    }

    bool observes(const llama_context *ctx) const {
        if (!outermost_) return false;
        if (!watch.is_watched(ctx)) watch.learn(ctx, ORIGINAL(llama_get_memory)(ctx));
        return watch.is_watched(ctx);
    }

    // What is known of a batch that is being built; null: nothing.
    BatchContent *followed(const llama_batch_ext *batch) const {
        return outermost_ ? batches.find(batch) : nullptr;
    }

    bool is_outermost() const { return outermost_; }

   private:
    const bool counted_;
    const bool outermost_;
};

}  // namespace contextpilot
