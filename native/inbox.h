// Operations on their way from inference threads to the reporter's thread.
//
// `put` copies 48 bytes under a mutex that the other side holds only to swap two pointers: nothing
// on the inference thread allocates, formats or waits for I/O. A full buffer drops operations and
// says so; the other side then forgets what it knew.
#pragma once

#include "clock.h"
#include "operation.h"

#include <stddef.h>

namespace contextpilot {

enum { INBOX_CAPACITY = 32768 };

struct Taken {
    const Operation *operations;
    size_t count;
    bool complete;  // false: operations after these were dropped
    bool closing;
};

static struct Inbox {
    pthread_mutex_t mutex;
    pthread_cond_t filled;
    Operation buffers[2][INBOX_CAPACITY];
    int filling;
    size_t count;
    bool overflowed;
    bool recount_due;
    bool reader_sleeps;
    bool closing;

    void init() {
        pthread_mutex_init(&mutex, nullptr);
        init_condition(&filled);
    }

    // Returns whether operations were dropped before this one: the caller should recount.
    bool put(const Operation &operation) {
        pthread_mutex_lock(&mutex);
        if (count < INBOX_CAPACITY && !overflowed) {
            buffers[filling][count++] = operation;
        } else {
            overflowed = true;
        }
        const bool recount = recount_due && !overflowed;
        if (recount) recount_due = false;
        wake_reader();
        pthread_mutex_unlock(&mutex);
        return recount;
    }

    void close() {
        pthread_mutex_lock(&mutex);
        closing = true;
        wake_reader();
        pthread_mutex_unlock(&mutex);
    }

    // What came in since the last call; valid until the next one.
    Taken take() {
        pthread_mutex_lock(&mutex);
        const Taken taken = {buffers[filling], count, !overflowed, closing};
        filling = 1 - filling;
        count = 0;
        if (overflowed) recount_due = true;
        overflowed = false;
        pthread_mutex_unlock(&mutex);
        return taken;
    }

    // Sleeps until something is put, for `ms` at most.
    void wait(int64_t ms) {
        pthread_mutex_lock(&mutex);
        if (count == 0 && !closing) {
            reader_sleeps = true;
            wait_ms(&filled, &mutex, ms);
            reader_sleeps = false;
        }
        pthread_mutex_unlock(&mutex);
    }

   private:
    void wake_reader() {
        if (!reader_sleeps) return;
        reader_sleeps = false;
        pthread_cond_signal(&filled);
    }
} inbox;

}  // namespace contextpilot
