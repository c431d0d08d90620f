// Copies of slot contents outside the slots: in memory (llama-server's prompt cache) and in files.
//
// A copy in memory is known by its address and size: llama-server moves these buffers without
// reallocating them. Whether the server still keeps one cannot be seen, but memory that is written
// anew proves that what was there before is gone. A file is known by its path, and recognised by
// the tokens in it.
#pragma once

#include <stdint.h>

namespace contextpilot {

struct Copy {
    enum class Place : int8_t { NOWHERE, MEMORY, FILE };
    Place place;
    uint64_t key;    // address, or hash of the path
    uint64_t check;  // bytes, or hash of the tokens
    uint64_t id;     // what it is called in events: a count, or the hash of the path
    int32_t known;   // positions without a gap from 0 on
    int32_t length;  // positions in all
};

static struct Copies {
    enum { CAPACITY = 1024 };
    Copy copy[CAPACITY];
    int next;
    uint64_t ids;

    const Copy *save_memory(uint64_t address, uint64_t size, int32_t known, int32_t length) {
        for (Copy &other : copy) {
            if (overlaps(other, address, size)) other.place = Copy::Place::NOWHERE;
        }
        return keep(Copy{Copy::Place::MEMORY, address, size, ids++, known, length});
    }

    const Copy *save_file(uint64_t path, uint64_t tokens, int32_t known, int32_t length) {
        Copy *old = find(Copy::Place::FILE, path);
        if (old) old->place = Copy::Place::NOWHERE;
        return keep(Copy{Copy::Place::FILE, path, tokens, path, known, length});
    }

    // The copy, if it is the one that was saved there; what memory held is used up by loading it.
    bool load(Copy::Place place, uint64_t key, uint64_t check, int32_t length, Copy *loaded) {
        Copy *found = find(place, key);
        if (!found) return false;
        *loaded = *found;
        if (place == Copy::Place::MEMORY) found->place = Copy::Place::NOWHERE;
        return loaded->check == check && loaded->length == length;
    }

    void forget_memory() {
        for (Copy &other : copy) {
            if (other.place == Copy::Place::MEMORY) other.place = Copy::Place::NOWHERE;
        }
    }

   private:
    static bool overlaps(const Copy &other, uint64_t address, uint64_t size) {
        return other.place == Copy::Place::MEMORY && other.key < address + size &&
               address < other.key + other.check;
    }

    Copy *find(Copy::Place place, uint64_t key) {
        for (Copy &other : copy) {
            if (other.place == place && other.key == key) return &other;
        }
        return nullptr;
    }

    // The oldest entry makes room.
    const Copy *keep(const Copy &added) {
        Copy *entry = &copy[next];
        next = (next + 1) % CAPACITY;
        *entry = added;
        return entry;
    }
} copies;

}  // namespace contextpilot
