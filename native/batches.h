// What the program put into a batch, as runs of positions per sequence.
//
// `llama_batch_ext` is opaque, so its content is collected from the calls that build it; a plain
// `llama_batch` is read when it is decoded. A batch belongs to one thread at a time, as in
// llama.cpp itself; only finding and claiming an entry is shared.
#pragma once

#include "llama_api.h"

#include <stdint.h>

namespace contextpilot {

// A run of consecutive positions of one sequence. Media (embeddings) have no tokens that a prompt
// could be matched by, so their run says only where the known content ends.
struct BatchRun {
    int32_t seq;
    int32_t begin;
    int32_t end;
    bool media;
};

struct BatchContent {
    enum { CAPACITY = 1024, UNPLACED = -1 };
    BatchRun run[CAPACITY];
    int count;
    int last_entry;   // index of the newest entry in the program's batch
    int last_run;     // the runs from here on belong to that entry
    bool unreadable;  // built in a way that we do not follow

    void clear() {
        count = last_run = 0;
        last_entry = UNPLACED;
        unreadable = false;
    }

    void add(int32_t index, int32_t seq, bool media) {
        if (index < 0) return;  // the program's batch was full, or its entry invalid
        fold();
        if (index != last_entry + 1) unreadable = true;
        last_entry = index;
        last_run = count;
        push(BatchRun{seq, UNPLACED, UNPLACED, media});
    }

    void add_seq(int32_t index, int32_t seq) {
        if (index != last_entry || last_run == count) {
            unreadable = true;
            return;
        }
        const BatchRun &first = run[last_run];
        push(BatchRun{seq, first.begin, first.end, first.media});
    }

    void place(int32_t index, int32_t position) {
        if (index != last_entry) unreadable = true;
        for (int i = last_run; i < count; i++) {
            run[i].begin = position;
            run[i].end = position + 1;
        }
    }

    // Joins the newest entry with the runs that it continues. Call once before reading.
    void fold() {
        int kept = last_run;
        for (int i = last_run; i < count; i++) {
            if (!continues(run[i], kept)) run[kept++] = run[i];
        }
        count = last_run = kept;
    }

   private:
    void push(const BatchRun &added) {
        if (count < CAPACITY) {
            run[count++] = added;
        } else {
            unreadable = true;
        }
    }

    bool continues(const BatchRun &entry, int among) {
        for (int i = among - 1; i >= 0; i--) {
            if (run[i].seq != entry.seq) continue;
            if (run[i].media != entry.media) return false;
            // Positions of an image need not be consecutive (M-RoPE).
            if (!entry.media && run[i].end != entry.begin) return false;
            run[i].end = entry.end;
            return true;
        }
        return false;
    }
};

static struct Batches {
    enum { CAPACITY = 64 };
    const llama_batch_ext *owner[CAPACITY];
    BatchContent content[CAPACITY];
    int recent;

    // The entry of `batch`; null if it is not followed.
    BatchContent *find(const llama_batch_ext *batch) {
        const int guess = __atomic_load_n(&recent, __ATOMIC_RELAXED);
        if (owned_by(guess, batch)) return &content[guess];
        for (int i = 0; i < CAPACITY; i++) {
            if (!owned_by(i, batch)) continue;
            __atomic_store_n(&recent, i, __ATOMIC_RELAXED);
            return &content[i];
        }
        return nullptr;
    }

    // Begins to follow `batch`, or begins anew; with all entries in use it is not followed.
    void restart(const llama_batch_ext *batch) {
        BatchContent *known = find(batch);
        for (int i = 0; !known && i < CAPACITY; i++) {
            const llama_batch_ext *nobody = nullptr;
            if (__atomic_compare_exchange_n(&owner[i], &nobody, batch, false, __ATOMIC_ACQUIRE,
                                            __ATOMIC_RELAXED)) {
                known = &content[i];
            }
        }
        if (known) known->clear();
    }

    void release(const llama_batch_ext *batch) {
        const BatchContent *known = find(batch);
        if (known) __atomic_store_n(&owner[known - content], nullptr, __ATOMIC_RELEASE);
    }

   private:
    bool owned_by(int index, const llama_batch_ext *batch) const {
        return __atomic_load_n(&owner[index], __ATOMIC_RELAXED) == batch;
    }
} batches;

}  // namespace contextpilot
