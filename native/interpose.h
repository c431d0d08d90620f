// Stands in front of llama.cpp's functions: OBSERVER(name) is ours, ORIGINAL(name) is llama.cpp's,
// OPTIONAL(name, symbol) is the address of a function that may be absent, or null.
//
// Linux: the shim is preloaded and defines functions of the same names; the originals are the next
// definitions in the dynamic linker's search order. macOS: dyld replaces every import of `name` in
// other images by OBSERVER(name), as listed in __DATA,__interpose; within this image `name` stays
// the original, a weak import, and an entry whose original is absent is ignored.
#pragma once

#include "llama_api.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define OBSERVED_FUNCTIONS(X)       \
    X(llama_get_memory)             \
    X(llama_free)                   \
    X(llama_memory_clear)           \
    X(llama_memory_seq_rm)          \
    X(llama_memory_seq_cp)          \
    X(llama_memory_seq_keep)        \
    X(llama_memory_seq_add)         \
    X(llama_memory_seq_div)         \
    X(llama_state_set_data)         \
    X(llama_set_state_data)         \
    X(llama_state_load_file)        \
    X(llama_load_session_file)      \
    X(llama_state_seq_get_data)     \
    X(llama_state_seq_set_data)     \
    X(llama_state_seq_get_data_ext) \
    X(llama_state_seq_set_data_ext) \
    X(llama_state_seq_save_file)    \
    X(llama_state_seq_load_file)    \
    X(llama_decode)                 \
    X(llama_process)                \
    X(llama_batch_ext_init)         \
    X(llama_batch_ext_free)         \
    X(llama_batch_ext_clear)        \
    X(llama_batch_ext_add)          \
    X(llama_batch_ext_add_token)    \
    X(llama_batch_ext_add_embd)     \
    X(llama_batch_ext_add_seq)      \
    X(llama_batch_ext_set_pos)

#if defined(__APPLE__)

#define OBSERVER(name) contextpilot_##name
#define ORIGINAL(name) name
#define OPTIONAL(name, symbol) (&(name))
#define THREAD_LOCAL static __thread
#define HOOK_VISIBILITY  // found through the section, not by name

struct InterposePair {
    const void *replacement;
    const void *original;
};

#define INTERPOSED __attribute__((used, section("__DATA,__interpose")))
#define PAIR(name)                                                                           \
    extern "C" decltype(name) contextpilot_##name;                                           \
    INTERPOSED static const InterposePair pair_##name = {(const void *)&contextpilot_##name, \
                                                         (const void *)&name};
OBSERVED_FUNCTIONS(PAIR)
#undef PAIR
#undef INTERPOSED

#else

#define HOOK_VISIBILITY __attribute__((visibility("default")))
#define OBSERVER(name) name
#define ORIGINAL(name) \
    (original(&originals.name, #name, __builtin_extract_return_addr(__builtin_return_address(0))))
#define OPTIONAL(name, symbol) ((decltype(&name))dlsym(RTLD_DEFAULT, symbol))
// Cheaper than a call into the dynamic linker, and safe in a preloaded library.
#define THREAD_LOCAL static __attribute__((tls_model("initial-exec"))) __thread

#define SLOT(name) decltype(&::name) name;
static struct Originals {
    OBSERVED_FUNCTIONS(SLOT)
    SLOT(llama_memory_seq_pos_max)
} originals;
#undef SLOT

// A libllama that was opened with RTLD_LOCAL is not in the search order, but its first caller, a
// part of it or linked with it, sees it.
static void *find_through_caller(const char *name, void *caller) {
    static void *library;
    Dl_info theirs, ours;
    if (!library && dladdr(caller, &theirs) && dladdr((void *)&originals, &ours) &&
        theirs.dli_fbase != ours.dli_fbase) {
        library = dlopen(theirs.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    }
    return library ? dlsym(library, name) : nullptr;
}

__attribute__((noinline, cold)) static void *find_original(const char *name, void *caller) {
    const int caller_errno = errno;
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) found = find_through_caller(name, caller);
    if (!found) {
        // Without us the program would not have linked either; there is nothing to return.
        fprintf(stderr, "contextpilot: no libllama defines %s\n", name);
        abort();
    }
    errno = caller_errno;
    return found;
}

template <typename Function>
static inline Function original(Function *slot, const char *name, void *caller) {
    Function found = __atomic_load_n(slot, __ATOMIC_RELAXED);
    if (__builtin_expect(!found, 0)) {
        found = (Function)find_original(name, caller);
        __atomic_store_n(slot, found, __ATOMIC_RELAXED);
    }
    return found;
}

#endif
