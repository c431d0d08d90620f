// Calls the llama_* functions as the lines on its standard input say; answers each with a line.
//
// A call must leave errno alone; where one does not, the answer is "errno".

#include "fake_llama.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CONTEXTS = 8, BUFFERS = 16, MARK = 7777, MAX_WORDS = 64 };

static llama_context *contexts[CONTEXTS];
static int current = 0;
static uint8_t *buffers[BUFFERS];
static const size_t buffer_size = sizeof(uint8_t) * FAKE_POSITIONS * FAKE_SEQS;

static char *word[MAX_WORDS];
static int words = 0;

static int number(int index) { return index < words ? atoi(word[index]) : -1; }
static bool is(const char *name) { return strcmp(word[0], name) == 0; }
static llama_context *context() { return contexts[current]; }
static llama_memory_t memory() { return llama_get_memory(context()); }

static uint8_t *buffer(int index) {
    if (!buffers[index]) buffers[index] = (uint8_t *)calloc(1, buffer_size);
    return buffers[index];
}

// Adds tokens [begin, end) of `seq`; media has no tokens.
static void fill(llama_batch_ext *batch, int seq, int begin, int end, bool media, int also) {
    for (llama_pos pos = begin; pos < end; pos++) {
        const int32_t index = media ? llama_batch_ext_add_embd(batch, seq, llama_embd{})
                                    : llama_batch_ext_add_token(batch, seq, 5);
        if (also >= 0 && pos % 2) llama_batch_ext_add_seq(batch, index, also);
        llama_batch_ext_set_pos(batch, index, &pos);
        if (also >= 0 && pos % 2 == 0) llama_batch_ext_add_seq(batch, index, also);
    }
}

// process SEQ BEGIN END [SEQ BEGIN END ...]
static int process(bool media, int type) {
    static llama_batch_ext *batch = nullptr;
    if (!batch) batch = llama_batch_ext_init(context());
    llama_batch_ext_clear(batch);
    for (int i = 1; i + 2 < words; i += 3)
        fill(batch, number(i), number(i + 1), number(i + 2), media, -1);
    return llama_process(context(), type, batch);
}

// shared SEQ OTHER BEGIN END
static int shared() {
    llama_batch_ext *batch = llama_batch_ext_init(context());
    fill(batch, number(1), number(3), number(4), false, number(2));
    const int result = llama_process(context(), PROCESS_DECODE, batch);
    llama_batch_ext_free(batch);
    return result;
}

// backwards SEQ BEGIN END: positions are set after all entries were added, which we do not follow
static int backwards() {
    llama_batch_ext *batch = llama_batch_ext_init(context());
    for (llama_pos pos = number(2); pos < number(3); pos++)
        llama_batch_ext_add_token(batch, number(1), 5);
    for (llama_pos pos = number(3) - 1; pos >= number(2); pos--) {
        llama_batch_ext_set_pos(batch, pos - number(2), &pos);
    }
    const int result = llama_process(context(), PROCESS_DECODE, batch);
    llama_batch_ext_free(batch);
    return result;
}

// decode SEQ BEGIN END: through the plain batch of older builds
static int decode() {
    static llama_token tokens[FAKE_POSITIONS];
    static llama_pos positions[FAKE_POSITIONS];
    static int32_t counts[FAKE_POSITIONS];
    static llama_seq_id *seqs[FAKE_POSITIONS];
    static llama_seq_id seq;
    seq = number(1);
    const int32_t count = number(3) - number(2);
    for (int32_t i = 0; i < count; i++) {
        positions[i] = number(2) + i;
        counts[i] = 1;
        seqs[i] = &seq;
    }
    return llama_decode(context(),
                        llama_batch{count, tokens, nullptr, positions, counts, seqs, nullptr});
}

// decode_next COUNT: a plain batch of tokens alone, for sequence 0
static int decode_next() {
    static llama_token tokens[FAKE_POSITIONS];
    return llama_decode(
        context(), llama_batch{number(1), tokens, nullptr, nullptr, nullptr, nullptr, nullptr});
}

// save PATH SEQ COUNT SEED: the tokens in the file are SEED, SEED + 1, ...
static size_t save_file() {
    static llama_token tokens[FAKE_POSITIONS];
    for (int i = 0; i < number(3); i++) tokens[i] = number(4) + i;
    return llama_state_seq_save_file(context(), word[1], number(2), tokens, (size_t)number(3));
}

// load PATH SEQ: first only asks for the number of tokens, as llama-server does
static size_t load_file() {
    static llama_token tokens[FAKE_POSITIONS];
    size_t count = 0;
    llama_state_seq_load_file(context(), word[1], number(2), nullptr, 0, &count);
    return llama_state_seq_load_file(context(), word[1], number(2), tokens, FAKE_POSITIONS, &count);
}

static int whole_file() {
    FILE *file = fopen(word[1], "wb");
    if (!file) return -1;
    fwrite(buffer(number(2)), 1, buffer_size, file);
    fclose(file);
    size_t count = 0;
    return llama_load_session_file(context(), word[1], nullptr, 0, &count);
}

// A child that goes on calling, and leaves through exit.
static int fork_child(int calls) {
    const pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < calls; i++) llama_memory_seq_rm(memory(), 0, 0, -1);
        exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void *drive_draft(void *draft) {
    llama_batch_ext *batch = llama_batch_ext_init((llama_context *)draft);
    for (int round = 0; round < 2000; round++) {
        llama_memory_seq_rm(llama_get_memory((llama_context *)draft), 1, 0, -1);
        llama_batch_ext_clear(batch);
        fill(batch, 1, 0, 8, false, -1);
        llama_process((llama_context *)draft, PROCESS_DECODE, batch);
    }
    llama_batch_ext_free(batch);
    return nullptr;
}

// race OTHER: the current context on this thread, the other one on a second thread
static int race() {
    pthread_t thread;
    pthread_create(&thread, nullptr, drive_draft, contexts[number(1)]);
    drive_draft(context());
    pthread_join(thread, nullptr);
    return 0;
}

static int flood(int calls) {
    for (int i = 0; i < calls; i++) llama_memory_seq_rm(memory(), 0, 4000, -1);
    return 0;
}

static double nanoseconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    const double difference = *(const double *)a - *(const double *)b;
    return difference < 0 ? -1 : difference > 0;
}

static void one_call(const char *kind, llama_batch_ext *batch, int round) {
    if (strcmp(kind, "get_memory") == 0) {
        memory();
    } else if (strcmp(kind, "seq_rm") == 0) {
        llama_memory_seq_rm(memory(), 0, FAKE_POSITIONS - 1, -1);
    } else if (strcmp(kind, "token") == 0) {
        llama_batch_ext_clear(batch);
        fill(batch, 1, round % FAKE_POSITIONS, round % FAKE_POSITIONS + 1, false, -1);
        llama_process(context(), PROCESS_DECODE, batch);
    } else if (strcmp(kind, "prompt") == 0) {
        llama_batch_ext_clear(batch);
        fill(batch, 2, 0, 512, false, -1);
        llama_process(context(), PROCESS_DECODE, batch);
    }
}

// bench KIND CALLS SAMPLES: median and p99 of nanoseconds, each sample the mean of CALLS in a row
static void bench() {
    const int calls = number(2), samples = number(3);
    double *spent = (double *)malloc(sizeof(double) * (size_t)samples);
    llama_batch_ext *batch = llama_batch_ext_init(context());
    for (int i = 0; i < samples; i++) {
        const double start = nanoseconds();
        for (int j = 0; j < calls; j++) one_call(word[1], batch, i * calls + j);
        spent[i] = (nanoseconds() - start) / calls;
        const timespec pause = {0, 20000};
        nanosleep(&pause, nullptr);  // as a model would: the reporter is never outrun
    }
    qsort(spent, (size_t)samples, sizeof(double), by_value);
    printf("ok %.1f %.1f\n", spent[samples / 2], spent[samples * 99 / 100]);
    llama_batch_ext_free(batch);
    free(spent);
}

static long context_command() {
    if (is("open")) return (contexts[number(1)] = fake_open()) != nullptr;
    if (is("use")) return (current = number(1));
    if (is("memory")) return memory() != nullptr;
    llama_free(context());  // free
    contexts[current] = nullptr;
    return 0;
}

static long memory_command() {
    if (is("rm")) return llama_memory_seq_rm(memory(), number(1), number(2), number(3));
    if (is("max")) return llama_memory_seq_pos_max(memory(), number(1));
    if (is("cp")) llama_memory_seq_cp(memory(), number(1), number(2), number(3), number(4));
    if (is("keep")) llama_memory_seq_keep(memory(), number(1));
    if (is("add")) llama_memory_seq_add(memory(), number(1), number(2), number(3), number(4));
    if (is("div")) llama_memory_seq_div(memory(), number(1), number(2), number(3), number(4));
    if (is("clear")) llama_memory_clear(memory(), true);
    return 0;
}

// get, set SEQ BUFFER [FLAGS [SIZE]]; get_plain, set_plain SEQ BUFFER
static long state_command() {
    uint8_t *data = buffer(number(2));
    const uint32_t flags = words > 3 ? (uint32_t)number(3) : 0;
    const size_t size = (size_t)(words > 4 ? number(4) : FAKE_POSITIONS);
    llama_context *ctx = context();
    if (is("get")) return (long)llama_state_seq_get_data_ext(ctx, data, size, number(1), flags);
    if (is("set")) return (long)llama_state_seq_set_data_ext(ctx, data, size, number(1), flags);
    if (is("get_plain")) return (long)llama_state_seq_get_data(ctx, data, size, number(1));
    if (is("set_plain")) return (long)llama_state_seq_set_data(ctx, data, size, number(1));
    if (is("set_whole")) return (long)llama_state_set_data(ctx, data, buffer_size);
    return (long)llama_set_state_data(ctx, data);  // set_whole_plain
}

static long batch_command() {
    if (is("process")) return process(false, PROCESS_DECODE);
    if (is("encode")) return process(false, 0);
    if (is("media")) return process(true, PROCESS_DECODE);
    if (is("shared")) return shared();
    if (is("backwards")) return backwards();
    if (is("decode")) return decode();
    return decode_next();
}

static long other_command() {
    if (is("result")) return fake_next_result(number(1)), 0;
    if (is("save")) return (long)save_file();
    if (is("load")) return (long)load_file();
    if (is("load_whole")) return whole_file();
    if (is("fork")) return fork_child(number(1));
    if (is("race")) return race();
    if (is("flood")) return flood(number(1));
    return -1;
}

static bool among(const char *names) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, " %s ", word[0]);
    return strstr(names, wanted) != nullptr;
}

static long execute() {
    if (among(" open use memory free ")) return context_command();
    if (among(" rm max cp keep add div clear ")) return memory_command();
    if (among(" get set get_plain set_plain set_whole set_whole_plain ")) return state_command();
    if (among(" process encode media shared backwards decode decode_next ")) return batch_command();
    return other_command();
}

int main() {
    static char line[4096];
    // Files are allowed to change errno themselves.
    const char *with_files = " save load load_whole fork race bench ";
    while (fgets(line, sizeof line, stdin)) {
        words = 0;
        for (char *next = strtok(line, " \n"); next && words < MAX_WORDS;
             next = strtok(nullptr, " \n")) {
            word[words++] = next;
        }
        if (is("bench")) {
            bench();
        } else {
            errno = MARK;
            const long result = execute();
            const bool changed = errno != MARK && !among(with_files);
            printf(changed ? "errno\n" : "ok %ld\n", result);
        }
        fflush(stdout);
    }
    return 0;
}
