// Milliseconds that never jump, and waits measured in them.
#pragma once

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <time.h>

namespace contextpilot {

static int64_t now_ms() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static timespec milliseconds(int64_t ms) {
    return timespec{(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
}

static void sleep_ms(int64_t ms) {
    const timespec span = milliseconds(ms);
    nanosleep(&span, nullptr);
}

static void init_condition(pthread_cond_t *condition) {
#if defined(__APPLE__)
    pthread_cond_init(condition, nullptr);
#else
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
#endif
}

// Waits for a signal or `ms` milliseconds; may wake for no reason.
static void wait_ms(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t ms) {
    if (ms <= 0) return;
#if defined(__APPLE__)
    const timespec span = milliseconds(ms);
    pthread_cond_timedwait_relative_np(condition, mutex, &span);
#else
    const timespec end = milliseconds(now_ms() + ms);
    pthread_cond_timedwait(condition, mutex, &end);
#endif
}

}  // namespace contextpilot
