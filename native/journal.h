// The changes that the index has not been told yet, as events, and what a snapshot has to say.
//
// Growth is merged into the newest event of its slot; a truncation, even one that takes nothing,
// always begins an event, for that is where a prompt starts. The journal is bounded: when the
// index is away for long it is dropped, and a snapshot takes its place.
#pragma once

#include "operation.h"

#include <stdint.h>

namespace contextpilot {

enum class Kind : int8_t { SLOT, COPIED, SAVED, LOADED, CLEARED };
// How a copy is named: not at all, by a count, by the hash of its path.
enum class Naming : int8_t { UNKNOWN, COUNT, FILE };

struct Event {
    Kind kind;
    Naming naming;
    int32_t slot;
    int32_t to;
    int32_t keep;
    int32_t tokens;
    uint64_t copy;
    uint64_t bytes;
};

static struct Journal {
    enum { CAPACITY = 1024, NONE = -1 };
    Event event[CAPACITY];
    int count;
    bool urgent;    // something other than a token generated
    bool overflow;  // events were dropped: only a snapshot can follow
    int32_t tokens[MAX_SLOTS];

    void init() {
        clear();
        for (int32_t slot = 0; slot < MAX_SLOTS; slot++) {
            sent_low[slot] = low[slot] = tokens[slot] = 0;
        }
    }

    // Of what `slot` held its first `keep` remain, and it now holds `now` tokens.
    void slot_changed(int32_t slot, int32_t keep, int32_t now) {
        lower(slot, keep);
        Event *open = keep == tokens[slot] ? open_event(slot) : nullptr;
        if (now - keep != 1 || keep < tokens[slot]) urgent = true;
        tokens[slot] = now;
        if (open) {
            open->tokens = now;
        } else {
            add(Event{Kind::SLOT, Naming::UNKNOWN, slot, 0, keep, now, 0, 0});
            newest[slot] = overflow ? NONE : count - 1;
        }
    }

    // The slot's first `keep` tokens stay, and the next prompt begins behind them.
    void slot_cut(int32_t slot, int32_t keep) {
        newest[slot] = NONE;
        slot_changed(slot, keep, keep);
        urgent = true;
    }

    // The slot's content was replaced; `loaded` says by what.
    void slot_replaced(int32_t slot, int32_t now, const Event &loaded) {
        lower(slot, 0);
        tokens[slot] = now;
        add_closing(slot, loaded);
    }

    // `to`, which was empty, now holds the `now` tokens that `from` holds.
    void slot_copied(int32_t from, int32_t to, int32_t now) {
        newest[to] = NONE;
        lower(to, 0);
        tokens[to] = now;
        add_closing(from, Event{Kind::COPIED, Naming::UNKNOWN, from, to, 0, 0, 0, 0});
    }

    // Adds an event after which growth of `slot` may not be merged into earlier ones.
    void add_closing(int32_t slot, const Event &added) {
        newest[slot] = NONE;
        urgent = true;
        add(added);
    }

    void all_gone() {
        clear_events();
        for (int32_t slot = 0; slot < MAX_SLOTS; slot++) low[slot] = tokens[slot] = 0;
        urgent = true;
        if (!overflow) add(Event{Kind::CLEARED, Naming::UNKNOWN, 0, 0, 0, 0, 0, 0});
    }

    // The events were put into a message.
    void sent() {
        for (int32_t slot = 0; slot < MAX_SLOTS; slot++) {
            if (low[slot] < sent_low[slot]) sent_low[slot] = low[slot];
            low[slot] = tokens[slot];
        }
        clear();
    }

    // The index applied that message.
    void acknowledged() {
        for (int32_t slot = 0; slot < MAX_SLOTS; slot++) sent_low[slot] = INT32_MAX;
    }

    // How much of `slot` the index still knows if it applied the last acknowledged message.
    int32_t kept_since_acknowledged(int32_t slot) const {
        return sent_low[slot] < low[slot] ? sent_low[slot] : low[slot];
    }

   private:
    int32_t newest[MAX_SLOTS];    // the event that growth may be merged into
    int32_t low[MAX_SLOTS];       // least since the newest message was written
    int32_t sent_low[MAX_SLOTS];  // least since the newest acknowledged message was written

    void lower(int32_t slot, int32_t keep) {
        if (keep < low[slot]) low[slot] = keep;
    }

    Event *open_event(int32_t slot) {
        return newest[slot] == NONE ? nullptr : &event[newest[slot]];
    }

    void add(const Event &added) {
        if (count == CAPACITY) {
            clear_events();
            overflow = true;
        }
        if (!overflow) event[count++] = added;
    }

    void clear_events() {
        count = 0;
        for (int32_t &index : newest) index = NONE;
    }

    void clear() {
        clear_events();
        urgent = overflow = false;
    }
} journal;

}  // namespace contextpilot
