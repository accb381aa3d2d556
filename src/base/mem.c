/* mem.c: heap, mapped regions, arenas and the step guard; see mem.h. */
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem_guard.h"

#define HUGE_PAGE_BYTES ((size_t)2 << 20)
#define ARENA_ALIGN ((size_t)64)

/* initial-exec: reading it must not allocate, since malloc itself asks in test
 * builds (base/mem_guard.c) and a shared library's thread-locals may be made
 * on first use. */
static _Thread_local unsigned guard_depth __attribute__((tls_model("initial-exec")));

void mem_guard_enter(void) { guard_depth++; }
void mem_guard_leave(void) { CHECK(guard_depth > 0); guard_depth--; }

bool mem_guarded(void)
{
#ifdef WATT_FAULTS
    mem_guard_link();   /* a reference, so that a static link takes the interposers */
#endif
    return guard_depth > 0;
}

void *mem_alloc(size_t size_bytes)
{
    CHECK(guard_depth == 0);
    if (fault_hit(FAULT_ALLOC))
        return NULL;
    return malloc(size_bytes ? size_bytes : 1);
}

void *mem_calloc(size_t n, size_t size_bytes)
{
    CHECK(guard_depth == 0);
    if (fault_hit(FAULT_ALLOC))
        return NULL;
    return calloc(n ? n : 1, size_bytes ? size_bytes : 1);
}

void *mem_realloc(void *p, size_t size_bytes)
{
    CHECK(guard_depth == 0);
    if (fault_hit(FAULT_ALLOC))
        return NULL;
    return realloc(p, size_bytes ? size_bytes : 1);
}

void *mem_array(size_t n, size_t size_bytes)
{
    size_t total;

    return mul_size(n, size_bytes, &total) ? mem_alloc(total) : NULL;
}

void *mem_grow(void *p, size_t n, size_t size_bytes)
{
    size_t total;

    return mul_size(n, size_bytes, &total) ? mem_realloc(p, total) : NULL;
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, strlen(s));
}

char *mem_strndup(const char *s, size_t n)
{
    char *copy = n < SIZE_MAX ? mem_alloc(n + 1) : NULL;

    if (copy) {
        memcpy(copy, s, n);
        copy[n] = '\0';
    }
    return copy;
}

void *mem_aligned(size_t size_bytes, size_t align)
{
    size_t rounded;
    void *p;

    CHECK(guard_depth == 0 && align != 0 && (align & (align - 1)) == 0);
    if (fault_hit(FAULT_ALLOC) || !add_size(size_bytes ? size_bytes : 1, align - 1, &rounded))
        return NULL;
    rounded &= ~(align - 1);
    p = aligned_alloc(align, rounded);
    if (p)
        memset(p, 0, rounded);
    return p;
}

void mem_free(void *p)
{
    free(p);
}

static size_t page_ceil(size_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (n + page - 1) / page * page;
}

void *mem_map(size_t size_bytes)
{
    size_t room;
    void *p;

    CHECK(guard_depth == 0);
    if (size_bytes == 0 || fault_hit(FAULT_ALLOC))
        return NULL;
    /* from a large page's boundary on; the room before it is given back */
    if (size_bytes >= HUGE_PAGE_BYTES && add_size(size_bytes, HUGE_PAGE_BYTES, &room)) {
        uint8_t *whole = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                              -1, 0);
        size_t skip;

        if (whole == MAP_FAILED)
            return NULL;
        skip = (HUGE_PAGE_BYTES - ((uintptr_t)whole & (HUGE_PAGE_BYTES - 1))) &
               (HUGE_PAGE_BYTES - 1);
        if (skip > 0)
            (void)munmap(whole, skip);
        p = whole + skip;
        room -= skip;           /* what lies behind, in whole pages */
        if (page_ceil(size_bytes) < room)
            (void)munmap(whole + skip + page_ceil(size_bytes), room - page_ceil(size_bytes));
        (void)madvise(p, size_bytes, MADV_HUGEPAGE);   /* only a wish */
        return p;
    }
    p = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void mem_unmap(void *p, size_t size_bytes)
{
    if (p)
        (void)munmap(p, size_bytes);
}

int mem_lock(const void *p, size_t size_bytes, const char *what, struct err *e)
{
    struct rlimit lim;
    int why;

    if (size_bytes == 0 || mlock(p, size_bytes) == 0)
        return 0;
    why = errno;
    if (getrlimit(RLIMIT_MEMLOCK, &lim) == 0 && lim.rlim_cur != RLIM_INFINITY)
        return err_errno(e, WATT_ELIMIT, why, "cannot lock %zu bytes of %s in memory: RLIMIT_MEMLOCK "
                         "is %llu bytes (ulimit -l, LimitMEMLOCK= of systemd)", size_bytes, what,
                         (unsigned long long)lim.rlim_cur);
    return err_errno(e, WATT_ELIMIT, why, "cannot lock %zu bytes of %s in memory, though "
                     "RLIMIT_MEMLOCK is unlimited", size_bytes, what);
}

int arena_init(struct arena *a, size_t size_bytes, struct err *e)
{
    memset(a, 0, sizeof *a);
    if (size_bytes == 0)
        return 0;
    a->base = mem_map(size_bytes);
    if (!a->base)
        return err_set(e, WATT_ENOMEM, "arena: %zu bytes could not be mapped", size_bytes);
    a->size = size_bytes;
    return 0;
}

void arena_deinit(struct arena *a)
{
    mem_unmap(a->base, a->size);
    memset(a, 0, sizeof *a);
}

void *arena_alloc(struct arena *a, size_t size_bytes)
{
    size_t rounded;
    void *p;

    if (!add_size(size_bytes, ARENA_ALIGN - 1, &rounded))
        return NULL;
    rounded &= ~(ARENA_ALIGN - 1);
    if (rounded > a->size - a->used)
        return NULL;
    p = a->base + a->used;
    a->used += rounded;
    if (a->used > a->peak)
        a->peak = a->used;
    return p;
}

size_t arena_mark(const struct arena *a)
{
    return a->used;
}

void arena_rewind(struct arena *a, size_t mark)
{
    CHECK(mark <= a->used);
    a->used = mark;
}
