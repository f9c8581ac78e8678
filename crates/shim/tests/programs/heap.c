// What the heap promises, checked from inside a program. The first argument says which promise.
#define _GNU_SOURCE
#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#undef assert
#define assert(truth) \
    do { \
        if (!(truth)) { \
            dprintf(2, "line %d: not so: %s (errno %d)\n", __LINE__, #truth, errno); \
            _exit(1); \
        } \
    } while (0)

static uint64_t random_number(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// The mapping that holds `block`, found without allocating. Lines that no buffer end cuts are all that matters here:
// the file is read whole.
static char maps_text[1 << 20];
static void mapping_of(void *block, uintptr_t *start, uintptr_t *end) {
    int maps = open("/proc/self/maps", O_RDONLY);
    assert(maps >= 0);
    size_t filled = 0;
    ssize_t got;
    while ((got = read(maps, maps_text + filled, sizeof maps_text - 1 - filled)) > 0) filled += got;
    maps_text[filled] = 0;
    close(maps);
    for (char *line = maps_text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        char *rest;
        *start = strtoul(line, &rest, 16);
        *end = strtoul(rest + 1, &rest, 16);
        if (*start <= (uintptr_t)block && (uintptr_t)block < *end) return;
    }
    assert(!"a block lies in a mapping");
}

// Blocks are freed and allocated while none of the heap's memory may be touched at all: whatever jemalloc needs for
// that lies elsewhere.
#define APART 400000
static void *apart_blocks[APART];
static void *apart_churn(void *unused) {
    uint64_t state = 88172645463325252u;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < APART; i++) free(apart_blocks[i]);
        for (int i = 0; i < APART; i++) {
            uint64_t dice = random_number(&state);
            apart_blocks[i] = malloc(dice % 100 ? dice % 500 : dice % 100000);
            assert(apart_blocks[i]);
        }
    }
    return unused;
}
static void apart(void) {
    for (int i = 0; i < APART; i++) assert((apart_blocks[i] = malloc(16 + i % 2000)));
    uintptr_t start, end;
    mapping_of(apart_blocks[APART / 2], &start, &end);
    assert(end - start > 100 << 20);
    assert(syscall(SYS_mprotect, start, end - start, PROT_NONE) == 0);
    apart_churn(NULL);
    assert(syscall(SYS_mprotect, start, end - start, PROT_READ | PROT_WRITE) == 0);
}

// Every thread's memory comes from the reservation.
static uintptr_t heap_start, heap_end;
static void *from_reservation(void *block) {
    free(block);
    for (size_t size = 1; size < 64 << 20; size = size * 5 / 3 + 1) {
        char *mine = malloc(size), *zero = calloc(1, size), *aligned = aligned_alloc(4096, size);
        assert(mine && zero && aligned && (uintptr_t)aligned % 4096 == 0);
        char *all[] = {mine, zero, aligned};
        for (int i = 0; i < 3; i++) {
            uintptr_t at = (uintptr_t)all[i];
            assert(at >= heap_start && at + size <= heap_end);
            free(all[i]);
        }
    }
    return NULL;
}
static void managed(void) {
    char *first = malloc(100);
    uintptr_t start, end;
    mapping_of(first, &start, &end);
    heap_start = start;
    heap_end = start + (64ul << 30);
    from_reservation(first);
    pthread_t threads[20];
    for (int round = 0; round < 3; round++) {
        // The thread's first act is to free what another allocated.
        for (int i = 0; i < 20; i++) assert(pthread_create(&threads[i], NULL, from_reservation, malloc(50)) == 0);
        for (int i = 0; i < 20; i++) pthread_join(threads[i], NULL);
    }
}

// What the dynamic linker allocates is not in the reservation: its list of libraries, and each thread's table of
// thread-local storage (on x86-64 the second word of the thread).
static void outside(void *what) { assert((uintptr_t)what < heap_start || (uintptr_t)what >= heap_end); }
static void *thread_outside(void *unused) {
#ifdef __x86_64__
    void *table;
    __asm__("mov %%fs:8, %0" : "=r"(table));
    outside(table);
#endif
    return unused;
}
static void linker(void) {
    char *first = malloc(100);
    uintptr_t end;
    mapping_of(first, &heap_start, &end);
    heap_end = heap_start + (64ul << 30);
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        assert(pthread_create(&thread, NULL, thread_outside, NULL) == 0);
        pthread_join(thread, NULL);
    }
    // The handle is the linker's own description of the library.
    void *library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
    assert(library && dlsym(library, "cos"));
    outside(library);
    dlclose(library);
    first = realloc(first, 5000);
    assert((uintptr_t)first >= heap_start && (uintptr_t)first < heap_end);
}

static long resident_kib(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    long size, resident;
    assert(fscanf(file, "%ld %ld", &size, &resident) == 2);
    fclose(file);
    return resident * 4;
}

// glibc's manners.
static char untouched[1];
static void manners(void) {
    void *none = malloc(0), *none_too = malloc(0);
    assert(none && none_too && none != none_too);
    free(none), free(none_too), free(NULL);
    for (size_t size = 1; size < 5000; size += 7) {
        char *block = malloc(size);
        assert((uintptr_t)block % (size < 16 ? 8 : 16) == 0 && malloc_usable_size(block) >= size);
        memset(block, 1, malloc_usable_size(block));
        free(block);
    }
    assert(malloc_usable_size(NULL) == 0);

    static volatile size_t huge = SIZE_MAX / 2 + 1, most = SIZE_MAX;
    struct { void *(*make)(size_t); } makers[] = {{malloc}, {valloc}, {pvalloc}};
    for (int i = 0; i < 3; i++)
        for (size_t less = 0; less < 3; less++) {
            errno = 0;
            assert(makers[i].make(most - less) == NULL && errno == ENOMEM);
            errno = 0;
            assert(makers[i].make(huge) == NULL && errno == ENOMEM);
        }
    errno = 0;
    assert(calloc(huge, 2) == NULL && errno == ENOMEM);
    errno = 0;
    assert(calloc(huge / 2, 3) == NULL && errno == ENOMEM);
    char *kept = malloc(100);
    strcpy(kept, "kept");
    errno = 0;
    assert(realloc(kept, huge) == NULL && errno == ENOMEM && !strcmp(kept, "kept"));
    errno = 0;
    assert(reallocarray(kept, huge, 2) == NULL && errno == ENOMEM && !strcmp(kept, "kept"));
    kept = reallocarray(kept, 1000, 1000);
    assert(kept && !strcmp(kept, "kept"));
    kept = realloc(kept, 10);
    assert(kept && !strcmp(kept, "kept"));
    assert(realloc(kept, 0) == NULL);
    assert((kept = realloc(NULL, 10)));
    free(kept);

    void *out = untouched;
    assert(posix_memalign(&out, 3, 8) == EINVAL && posix_memalign(&out, 4, 8) == EINVAL && out == untouched);
    errno = 77;
    assert(posix_memalign(&out, 8, huge) == ENOMEM && errno == 77);
    for (size_t align = 8; align <= 16 << 20; align *= 2) {
        assert(posix_memalign(&out, align, align / 2 + 1) == 0 && (uintptr_t)out % align == 0);
        memset(out, 1, align / 2 + 1);
        free(out);
        assert((out = aligned_alloc(align, 3 * align)) && (uintptr_t)out % align == 0);
        assert((out = realloc(out, 5 * align)));
        free(out);
    }
    // glibc rounds an alignment up; 0 is the least.
    assert((out = memalign(24, 100)) && (uintptr_t)out % 32 == 0);
    free(out);
    assert((out = memalign(0, 100)));
    free(out);
    errno = 0;
    assert(memalign(huge + 1, 1) == NULL && errno == EINVAL);
    assert((out = valloc(1)) && (uintptr_t)out % 4096 == 0);
    free(out);
    assert((out = pvalloc(1)) && (uintptr_t)out % 4096 == 0 && malloc_usable_size(out) >= 4096);
    free(out);

    // Zeros, also where memory is used again.
    for (size_t size = 1; size < 40 << 20; size = size * 3 + 1) {
        char *dirty = malloc(size);
        memset(dirty, 0xff, size);
        free(dirty);
        char *zero = calloc(size, 1);
        for (size_t i = 0; i < size; i++) assert(zero[i] == 0);
        free(zero);
    }

    struct mallinfo2 before = mallinfo2();
    char *big = malloc(64 << 20);
    memset(big, 1, 64 << 20);
    struct mallinfo2 during = mallinfo2();
    assert(during.uordblks >= before.uordblks + (64 << 20) && during.arena >= during.uordblks);
    assert(during.fordblks == during.arena - during.uordblks);
    errno = 77;
    free(big);
    assert(errno == 77);
    assert(mallinfo2().uordblks < during.uordblks);
    assert(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);

    // What is freed goes back.
    static char *small[1 << 16];
    for (int i = 0; i < 1 << 16; i++) memset(small[i] = malloc(1000), 1, 1000);
    long full = resident_kib();
    for (int i = 0; i < 1 << 16; i++) free(small[i]);
    assert(malloc_trim(0) == 1);
    assert(resident_kib() < full - (50 << 10));
}

// An array that grows in small steps moves seldom, and gives back what it no longer needs.
static void growing(void) {
    char *array = NULL;
    int moves = 0;
    for (size_t size = 1 << 20; size <= 200 << 20; size += 1 << 20) {
        char *before = array;
        assert((array = realloc(array, size)));
        moves += array != before;
        array[size - 1] = 1;
    }
    assert(moves < 40);
    for (size_t size = 1 << 20; size <= 200 << 20; size += 1 << 20) assert(array[size - 1] == 1);
    memset(array, 1, 200 << 20);
    long full = resident_kib();
    assert((array = realloc(array, 10 << 20)));
    malloc_trim(0);
    assert(resident_kib() < full - (180 << 10));
    free(array);
}

// What is noted of blocks, which is never evicted, is small beside them, whatever their size.
static void noted(void) {
    for (size_t size = 64; size <= 8192; size *= 2) {
        long before = resident_kib();
        for (size_t bytes = 0; bytes < 32 << 20; bytes += size) assert(malloc(size));
        long grown = resident_kib() - before;
        printf("%zu bytes: %ld KiB\n", size, grown);
        assert(grown < (32 << 10) / 50);
    }
}

// Threads allocate, resize, free, and leave blocks for each other; each block says what must be in it.
#define SLOTS 4096
static _Atomic(uint64_t *) slots[SLOTS];
static int operations;
static uint64_t *filled(uint64_t *block, size_t words, uint64_t seed) {
    assert(block);
    block[0] = words;
    for (size_t i = 1; i < words; i++) block[i] = seed = seed * 6364136223846793005u + words;
    if (words > 1) block[1] = seed ^ words;
    for (size_t i = 2; i < words; i++) block[i] = block[i - 1] * 6364136223846793005u + words;
    return block;
}
static void check(uint64_t *block, size_t words) {
    for (size_t i = 2; i < words; i++) assert(block[i] == block[i - 1] * 6364136223846793005u + block[0]);
}
static void *churn(void *seed) {
    uint64_t state = (uintptr_t)seed * 2654435761u + 88172645463325252u;
    for (int i = 0; i < operations; i++) {
        uint64_t dice = random_number(&state);
        size_t words = 1 + (dice >> 8) % 64;
        if (dice % 64 == 0) words = 1 + (dice >> 8) % 8192;
        if (dice % 4096 == 0) words = 1 + (dice >> 8) % (1 << 18);
        uint64_t *block = filled(malloc(words * 8), words, state);
        block = atomic_exchange(&slots[dice >> 32 & (SLOTS - 1)], block);
        if (!block) continue;
        check(block, block[0]);
        if (dice % 5 == 0) {
            size_t old = block[0], now = 1 + (dice >> 20) % 1024, least = old < now ? old : now;
            assert((block = realloc(block, now * 8)));
            check(block, least);
            block = atomic_exchange(&slots[dice >> 44 & (SLOTS - 1)], filled(block, now, state));
            if (block) check(block, block[0]);
        }
        free(block);
    }
    return NULL;
}
static void threads(int count, int each) {
    operations = each;
    pthread_t all[256];
    for (long i = 0; i < count; i++) assert(pthread_create(&all[i], NULL, churn, (void *)(i + 1)) == 0);
    for (int i = 0; i < count; i++) pthread_join(all[i], NULL);
    for (int i = 0; i < SLOTS; i++) {
        uint64_t *block = atomic_exchange(&slots[i], NULL);
        if (block) check(block, block[0]);
        free(block);
    }
}

// Children are made while other threads allocate; in each of them the heap works and holds what it held.
static atomic_int stop;
static void *churn_on(void *seed) {
    operations = 1000;
    while (!stop) churn(seed);
    return NULL;
}
static void *thread_of_child(void *unused) {
    free(malloc(100));
    return unused;
}
static void forks(int count) {
    pthread_t all[4];
    for (long i = 0; i < 4; i++) assert(pthread_create(&all[i], NULL, churn_on, (void *)(i + 1)) == 0);
    uint64_t *mine = filled(malloc(80000), 10000, 5);
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        assert(child >= 0);
        if (child == 0) {
            check(mine, 10000);
            for (int j = 0; j < 1000; j++) free(filled(malloc(8000), 1000, j));
            pthread_t thread;
            assert(pthread_create(&thread, NULL, thread_of_child, NULL) == 0);
            pthread_join(thread, NULL);
            _exit(7);
        }
        int status;
        assert(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
    stop = 1;
    for (int i = 0; i < 4; i++) pthread_join(all[i], NULL);
}

// With a limit on address space memory ends, and does so politely.
static void limited(char *self) {
    struct rlimit limit;
    getrlimit(RLIMIT_AS, &limit);
    if (limit.rlim_cur == RLIM_INFINITY) {
        limit.rlim_cur = 1ul << 30;
        assert(setrlimit(RLIMIT_AS, &limit) == 0);
        execl(self, self, "limited", NULL);
        assert(!"exec");
    }
    static char *blocks[1024];
    int count = 0;
    while (count < 1024 && (blocks[count] = malloc(4 << 20))) blocks[count][0] = 1, count++;
    assert(errno == ENOMEM && count > 100 && count < 256);
    for (int i = 0; i < count; i++) free(blocks[i]);
    assert((blocks[0] = malloc(4 << 20)));
}

// When the heap may not grow, what was freed serves for blocks of every other size.
static void bounded(void) {
    static char *blocks[1 << 20];
    struct rlimit limit = {100 << 20, 100 << 20};
    assert(setrlimit(RLIMIT_DATA, &limit) == 0);
    for (int round = 0; round < 3; round++)
        for (size_t size = 200; size < 16 << 20; size *= 7) {
            size_t count = 0;
            errno = 0;
            while ((blocks[count] = malloc(size))) memset(blocks[count++], size % 251, size < 4096 ? size : 4096);
            assert(errno == ENOMEM);
            assert(count * size > 30 << 20);
            for (size_t i = 0; i < count; i++) {
                assert(blocks[i][0] == (char)(size % 251) && blocks[i][199] == (char)(size % 251));
                free(blocks[i]);
            }
        }
}

// Locking all memory locks what is used, not what is reserved.
static void locked(void) {
    char *block = malloc(1 << 20);
    memset(block, 1, 1 << 20);
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        assert(errno == EPERM || errno == ENOMEM);
        puts("NOT TESTED: memory may not be locked here");
        return;
    }
    for (int i = 0; i < 10; i++) {
        char *more = malloc(20 << 20);
        memset(more, 1, 20 << 20);
        free(more);
    }
    assert(resident_kib() < 2 << 20);
}

// A thread that ends runs destructors that allocate and free, after jemalloc's own.
static pthread_key_t key;
static void destructor(void *rounds) {
    char *block = malloc(1000);
    memset(block, 1, 1000);
    free(block);
    if ((long)rounds > 1) pthread_setspecific(key, (void *)((long)rounds - 1));
}
static void *short_life(void *unused) {
    pthread_setspecific(key, (void *)4);
    free(realloc(malloc(10), 100000));
    return unused;
}
static void ends(void) {
    assert(pthread_key_create(&key, destructor) == 0);
    for (int i = 0; i < 2000; i++) {
        pthread_t thread;
        assert(pthread_create(&thread, NULL, short_life, NULL) == 0);
        pthread_join(thread, NULL);
    }
    assert(resident_kib() < 200 << 10);
}

// jemalloc's interface is there, and its options are the library's whatever the environment says.
__attribute__((weak)) int mallctl(const char *, void *, size_t *, void *, size_t);
__attribute__((weak)) void *mallocx(size_t, int);
__attribute__((weak)) void *rallocx(void *, size_t, int);
__attribute__((weak)) size_t nallocx(size_t, int), sallocx(const void *, int), xallocx(void *, size_t, size_t, int);
__attribute__((weak)) void dallocx(void *, int), sdallocx(void *, size_t, int);
static void options(void) {
    unsigned arenas;
    bool truth;
    size_t size = sizeof arenas;
    assert(mallctl("opt.narenas", &arenas, &size, NULL, 0) == 0 && arenas == 1);
    size = sizeof truth;
    assert(mallctl("opt.retain", &truth, &size, NULL, 0) == 0 && truth);
    assert(mallctl("opt.zero", &truth, &size, NULL, 0) == 0 && !truth);
    assert(mallctl("background_thread", &truth, &size, NULL, 0) == ENOENT);
    truth = true;
    assert(mallctl("background_thread", NULL, NULL, &truth, sizeof truth) == ENOENT);
    char *block = mallocx(100, 12);
    assert(block && (uintptr_t)block % 4096 == 0 && sallocx(block, 0) >= 100 && nallocx(100, 12) == sallocx(block, 12));
    strcpy(block, "kept");
    block = rallocx(block, 1 << 20, 12);
    assert(block && (uintptr_t)block % 4096 == 0 && !strcmp(block, "kept"));
    assert(xallocx(block, 1 << 19, 0, 12) >= 1 << 19);
    sdallocx(block, sallocx(block, 12), 12);
    dallocx(mallocx(5, 0x40), 0);
}

int main(int count, char **arguments) {
    assert(count >= 2);
    char *what = arguments[1];
    if (!strcmp(what, "apart")) apart();
    else if (!strcmp(what, "managed")) managed();
    else if (!strcmp(what, "manners")) manners();
    else if (!strcmp(what, "threads")) threads(atoi(arguments[2]), atoi(arguments[3]));
    else if (!strcmp(what, "forks")) forks(atoi(arguments[2]));
    else if (!strcmp(what, "limited")) limited(arguments[0]);
    else if (!strcmp(what, "linker")) linker();
    else if (!strcmp(what, "bounded")) bounded();
    else if (!strcmp(what, "growing")) growing();
    else if (!strcmp(what, "noted")) noted();
    else if (!strcmp(what, "locked")) locked();
    else if (!strcmp(what, "ends")) ends();
    else if (!strcmp(what, "options")) options();
    else assert(!"a known promise");
    puts("so it is");
    return 0;
}
