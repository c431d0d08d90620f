// What every slot of the main context holds: operations in, journal entries out.
#pragma once

#include "copies.h"
#include "inbox.h"
#include "journal.h"
#include "runs.h"

namespace contextpilot {

static struct Slots {
    Runs slot[MAX_SLOTS];

    void apply(const Taken &taken) {
        for (size_t i = 0; i < taken.count; i++) apply(taken.operations[i]);
        if (!taken.complete) clear();
    }

    void apply(const Operation &operation) {
        switch (operation.change) {
            case Change::GROW: return grow(operation);
            case Change::REMOVE: return remove(operation);
            case Change::SHIFT: return shift(operation);
            case Change::COPY: return copy(operation);
            case Change::KEEP: return keep(operation.seq);
            case Change::CLEAR: return clear();
            case Change::SAVE: return save(operation, Naming::COUNT);
            case Change::SAVE_FILE: return save(operation, Naming::FILE);
            case Change::LOAD: return load(operation, Naming::COUNT);
            case Change::LOAD_FILE: return load(operation, Naming::FILE);
            case Change::RECOUNT: return load(operation, Naming::UNKNOWN);
        }
    }

   private:
    static bool followed(int32_t seq) { return seq >= 0 && seq < MAX_SLOTS; }
    static int32_t lesser(int32_t a, int32_t b) { return a < b ? a : b; }
    static int32_t from_zero(int32_t position) { return position < 0 ? 0 : position; }
    static int32_t to_end(int32_t position) { return position < 0 ? INT32_MAX : position; }

    void grow(const Operation &operation) {
        if (!followed(operation.seq)) return;
        Runs &runs = slot[operation.seq];
        const int32_t before = runs.prefix();
        runs.append(operation.begin, operation.end);
        const int32_t kept = lesser(before, operation.begin);
        if (kept == before && runs.prefix() == before) return;
        journal.slot_changed(operation.seq, kept, runs.prefix());
    }

    void remove(const Operation &operation) {
        const int32_t begin = from_zero(operation.begin), end = to_end(operation.end);
        if (operation.seq >= 0) return remove(operation.seq, begin, end);
        for (int32_t seq = 0; seq < MAX_SLOTS; seq++) remove(seq, begin, end);
    }

    void remove(int32_t seq, int32_t begin, int32_t end) {
        if (!followed(seq) || begin >= end) return;
        Runs &runs = slot[seq];
        const int32_t before = runs.prefix();
        runs.remove(begin, end);
        if (before > 0 && begin <= before) journal.slot_cut(seq, begin);
    }

    void shift(const Operation &operation) {
        const int32_t begin = from_zero(operation.begin), end = to_end(operation.end);
        if (!followed(operation.seq) || begin >= end || operation.delta == 0) return;
        Runs &runs = slot[operation.seq];
        const int32_t before = runs.prefix();
        runs.shift(begin, end, operation.delta);
        const int32_t touched = from_zero(lesser(begin, begin + operation.delta));
        const int32_t kept = lesser(lesser(before, touched), runs.prefix());
        if (kept == before && runs.prefix() == before) return;
        journal.slot_changed(operation.seq, kept, runs.prefix());
    }

    // llama-server copies whole slots to empty ones; of anything else only the part before counts.
    void copy(const Operation &operation) {
        const int32_t from = operation.seq, to = operation.other;
        if (from == to || !followed(to)) return;
        const int32_t begin = from_zero(operation.begin), end = to_end(operation.end);
        if (!followed(from) || begin > 0 || slot[to].count > 0 || end < slot[from].prefix()) {
            return remove(to, begin, INT32_MAX);
        }
        slot[to] = slot[from];
        slot[to].remove(end, INT32_MAX);
        journal.slot_copied(from, to, slot[to].prefix());
    }

    void keep(int32_t kept) {
        for (int32_t seq = 0; seq < MAX_SLOTS; seq++) {
            if (seq != kept) remove(seq, 0, INT32_MAX);
        }
    }

    void clear() {
        for (Runs &runs : slot) runs.clear();
        copies.forget_memory();
        journal.all_gone();
    }

    void save(const Operation &operation, Naming naming) {
        if (!followed(operation.seq)) return;
        const int32_t known = slot[operation.seq].prefix();
        const Copy *copy =
            naming == Naming::FILE
                ? copies.save_file(operation.key, operation.check, known, operation.end)
                : copies.save_memory(operation.key, operation.check, known, operation.end);
        journal.add_closing(operation.seq, Event{Kind::SAVED, naming, operation.seq, 0, 0, 0,
                                                 copy->id, operation.bytes});
    }

    void load(const Operation &operation, Naming naming) {
        if (!followed(operation.seq)) return;
        const Copy::Place place = naming == Naming::FILE ? Copy::Place::FILE : Copy::Place::MEMORY;
        Copy copy = {};
        const bool found = naming != Naming::UNKNOWN &&
                           copies.load(place, operation.key, operation.check, operation.end, &copy);
        if (!found) naming = Naming::UNKNOWN;
        const int32_t tokens = found ? copy.known : operation.begin;
        Runs &runs = slot[operation.seq];
        runs.clear();
        runs.append(0, tokens);
        journal.slot_replaced(
            operation.seq, tokens,
            Event{Kind::LOADED, naming, operation.seq, 0, 0, tokens, found ? copy.id : 0, 0});
    }
} slots;

}  // namespace contextpilot
