// The positions that a sequence holds, as a sorted list of disjoint runs [begin, end).
//
// Only the run at position 0 can be reused by the next prompt; the others matter because a shift
// may move them there. The list is bounded: what does not fit is forgotten from the far end.
#pragma once

#include <stdint.h>

namespace contextpilot {

struct Run {
    int32_t begin;
    int32_t end;
};

struct Runs {
    enum { CAPACITY = 32 };
    Run run[CAPACITY];
    int count;

    // How many positions are held without a gap from 0 on.
    int32_t prefix() const { return count > 0 && run[0].begin == 0 ? run[0].end : 0; }

    void clear() { count = 0; }

    void cut_from(int32_t position) {
        while (count > 0 && run[count - 1].begin >= position) count--;
        if (count > 0 && run[count - 1].end > position) run[count - 1].end = position;
    }

    // [begin, end) replaces whatever was held from `begin` on.
    void append(int32_t begin, int32_t end) {
        cut_from(begin);
        push(begin, end);
    }

    void remove(int32_t begin, int32_t end) {
        const Runs old = *this;
        clear();
        for (int i = 0; i < old.count; i++) {
            push(old.run[i].begin, min(old.run[i].end, begin));
            push(max(old.run[i].begin, end), old.run[i].end);
        }
    }

    // Moves [begin, end) by `delta`. Positions that would be held twice end what is known.
    void shift(int32_t begin, int32_t end, int32_t delta) {
        Runs moved = *this, stayed = *this;
        moved.keep_only(begin, end);
        stayed.remove(begin, end);
        for (int i = 0; i < moved.count; i++) {
            moved.run[i].begin = max(moved.run[i].begin + delta, 0);
            moved.run[i].end = max(moved.run[i].end + delta, 0);
        }
        *this = merged(moved, stayed);
    }

   private:
    static int32_t min(int32_t a, int32_t b) { return a < b ? a : b; }
    static int32_t max(int32_t a, int32_t b) { return a > b ? a : b; }

    // Appends a run that does not begin before the last one ends.
    void push(int32_t begin, int32_t end) {
        if (begin >= end) return;
        if (count > 0 && run[count - 1].end == begin) {
            run[count - 1].end = end;
        } else if (count < CAPACITY) {
            run[count++] = Run{begin, end};
        }
    }

    void keep_only(int32_t begin, int32_t end) {
        const Runs old = *this;
        clear();
        for (int i = 0; i < old.count; i++) {
            push(max(old.run[i].begin, begin), min(old.run[i].end, end));
        }
    }

    static Runs merged(const Runs &a, const Runs &b) {
        Runs both;
        both.clear();
        int i = 0, j = 0;
        while (i < a.count || j < b.count) {
            const bool from_a = j == b.count || (i < a.count && a.run[i].begin <= b.run[j].begin);
            const Run next = from_a ? a.run[i++] : b.run[j++];
            if (both.count > 0 && next.begin < both.run[both.count - 1].end) {
                both.cut_from(next.begin);
                break;
            }
            both.push(next.begin, next.end);
        }
        return both;
    }
};

}  // namespace contextpilot
