// The background thread: follows the slots and tells the index.
//
// It starts at the first hooked call, says hello with message 0, and from then on sends what the
// journal holds: at once when content was lost or a prompt was read, a little later while tokens
// are generated, and an empty message when nothing happens. A message is repeated until the index
// acknowledges it, with growing pauses. It is idle while llama-server is.
#pragma once

#include "http.h"
#include "message.h"
#include "slots.h"
#include "watch.h"

#include <signal.h>

namespace contextpilot {

constexpr int64_t GATHER_MS = 5;       // changes within this time make one message
constexpr int64_t LINGER_MS = 1000;    // of watching the inbox: hooks need not wake us meanwhile
constexpr int64_t GENERATION_MS = 50;  // that a generated token may wait
constexpr int64_t HEARTBEAT_MS = 5000;
constexpr int64_t TIMEOUT_MS = 2000;  // for one message and its answer
constexpr int64_t FIRST_PAUSE_MS = 100;
constexpr int64_t LONGEST_PAUSE_MS = 5000;
constexpr int64_t EXIT_MS = 500;  // that the end of the process may wait for the last message

static struct Reporter {
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool started;
    bool done;
    bool reachable;  // the newest attempt to send was acknowledged

    // The fields below belong to the thread.
    bool snapshot_due;
    bool closing;
    int64_t last_change;
    int64_t waiting_since;  // the oldest event in the journal; 0: none
    int64_t last_sent;
    int64_t next_attempt;
    int64_t pause;

    void init() {
        pthread_mutex_init(&mutex, nullptr);
        init_condition(&ended);
    }

    void start() {
        pthread_mutex_lock(&mutex);
        if (!started) launch();
        pthread_mutex_unlock(&mutex);
    }

    // Lets the last changes out, if the index answers; called once, when the process ends.
    void finish() {
        if (!__atomic_load_n(&reachable, __ATOMIC_ACQUIRE)) return;
        inbox.put(Operation{Change::CLEAR, 0, 0, -1, 0, 0, 0, 0, 0});
        inbox.close();
        const int64_t end = now_ms() + EXIT_MS;
        pthread_mutex_lock(&mutex);
        while (!done && now_ms() < end) wait_ms(&ended, &mutex, end - now_ms());
        pthread_mutex_unlock(&mutex);
    }

   private:
    void launch() {
        __atomic_store_n(&started, true, __ATOMIC_RELEASE);
        if (settings.defect) {
            fprintf(stderr, "contextpilot: %s; the index will not know this engine's cache\n",
                    settings.defect);
            return disable();
        }
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are the program's, not ours
        pthread_t thread;
        if (pthread_create(&thread, nullptr, run, this) == 0) {
            pthread_detach(thread);
        } else {
            disable();
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    static void *run(void *self) {
        ((Reporter *)self)->follow();
        return nullptr;
    }

    void follow() {
        connection.init();
        journal.init();
        message.begin_epoch();
        message.write(true);  // the hello: nothing was held before the first hooked call
        do {
            wait();
            read_inbox();
            if (is_due()) deliver();
        } while (!closing);
        for (int i = 0; i < 2 && (message.pending || journal.count > 0); i++) deliver();
        pthread_mutex_lock(&mutex);
        done = true;
        pthread_cond_broadcast(&ended);
        pthread_mutex_unlock(&mutex);
    }

    void wait() {
        const int64_t now = now_ms();
        if (last_change && now - last_change < LINGER_MS) return sleep_ms(GATHER_MS);
        const int64_t left = due_at() - now;
        if (left <= 0) return;
        inbox.wait(left);
        sleep_ms(GATHER_MS);
    }

    void read_inbox() {
        const Taken taken = inbox.take();
        closing = taken.closing;
        if (taken.count == 0 && taken.complete) return;
        last_change = now_ms();
        slots.apply(taken);
        if (!waiting_since && (journal.count > 0 || journal.overflow)) waiting_since = last_change;
    }

    int64_t due_at() const {
        int64_t due = last_sent + HEARTBEAT_MS;
        if (waiting_since) due = waiting_since + (journal.urgent ? 0 : GENERATION_MS);
        if (message.pending || snapshot_due) due = 0;
        return due > next_attempt ? due : next_attempt;
    }

    bool is_due() const { return now_ms() >= due_at(); }

    void deliver() {
        if (!message.pending) write();
        const int64_t until = now_ms() + (closing ? EXIT_MS : TIMEOUT_MS);
        const Answer answer = connection.post(message.head.text, message.head.size,
                                              message.body.text, message.body.size, until);
        if (answer == Answer::NONE || (answer == Answer::RESYNC && message.snapshot)) {
            if (answer == Answer::RESYNC) message.pending = false;
            snapshot_due = snapshot_due || answer == Answer::RESYNC;
            return back_off();
        }
        if (answer == Answer::OK) journal.acknowledged();
        snapshot_due = answer == Answer::RESYNC;
        message.pending = false;
        message.seq++;
        last_sent = now_ms();
        pause = next_attempt = 0;
        __atomic_store_n(&reachable, true, __ATOMIC_RELEASE);
    }

    void write() {
        message.write(snapshot_due || journal.overflow);
        waiting_since = 0;
    }

    void back_off() {
        pause = pause ? pause * 2 : FIRST_PAUSE_MS;
        if (pause > LONGEST_PAUSE_MS) pause = LONGEST_PAUSE_MS;
        next_attempt = now_ms() + pause;
        __atomic_store_n(&reachable, false, __ATOMIC_RELEASE);
    }
} reporter;

inline void start_reporter() {
    if (__builtin_expect(__atomic_load_n(&reporter.started, __ATOMIC_ACQUIRE), 1)) return;
    const int caller_errno = errno;
    reporter.start();
    errno = caller_errno;
}

}  // namespace contextpilot
