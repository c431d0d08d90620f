// Reports to a ContextPilot index what every slot of an unchanged llama-server holds.
//
// Linux, preloaded with LD_PRELOAD:
//   c++ -std=c++17 -O2 -Wall -Wextra -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -shared
//       -o libcontextpilot_llama.so native/contextpilot_llama.cpp -Wl,--as-needed -pthread -ldl
// macOS, inserted with DYLD_INSERT_LIBRARIES:
//   clang++ -std=c++17 -O2 -Wall -Wextra -fvisibility=hidden -fno-exceptions -fno-rtti -dynamiclib
//       -mmacosx-version-min=13.0 -Wl,-undefined,dynamic_lookup
//       -install_name @rpath/libcontextpilot_llama.dylib
//       -o libcontextpilot_llama.dylib native/contextpilot_llama.cpp
//
// The path of a change: hooks.h -> inbox.h -> slots.h -> journal.h -> message.h -> http.h, where
// everything behind the inbox runs on the reporter's thread. See README.md beside this file.
//
// All state has static storage without constructors or destructors: hooks may run before and
// after this library's own initialisation, and while the process ends. Nothing here uses the C++
// runtime library: in an inserted Mach-O library its operators new and delete would be exported to
// the whole process.

#include "hooks.h"
#include "reporter.h"

#include <pthread.h>

using namespace contextpilot;

// Set by the first copy of this library in a process, and seen by every other.
extern "C" {
extern __attribute__((visibility("default"))) int contextpilot_llama_reports;
int contextpilot_llama_reports;
}

namespace {

// Two copies would report everything twice, under one name.
bool is_first_copy() {
    int *reports = (int *)dlsym(RTLD_DEFAULT, "contextpilot_llama_reports");
    if (!reports) return true;
    return !__atomic_exchange_n(reports, 1, __ATOMIC_RELAXED);
}

__attribute__((constructor)) void begin() {
    if (!settings.read() || !is_first_copy()) return;
    inbox.init();
    watch.init();
    reporter.init();
    pthread_atfork(nullptr, nullptr, disable);
    __atomic_store_n(&enabled, true, __ATOMIC_RELEASE);
}

__attribute__((destructor)) void end() {
    if (is_enabled()) reporter.finish();
}

}  // namespace
