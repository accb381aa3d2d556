/* mem.h: all of Watt's heap memory comes through here.
 *
 * Three owners: an object (mem_alloc … mem_free), a step (struct arena, rewound
 * after it), a pool (base/pool.h). Test builds can make the n-th allocation
 * fail (base/fault.h). Thread-safe, except that an arena has one owner.
 *
 * Nothing may allocate inside a step: the engine brackets it with
 * mem_guard_enter/leave. In between, on that thread and on every worker of a
 * team_run() that it calls (base/team.h hands the guard on),
 * - any call below that would allocate is a CHECK failure, in every build;
 * - in builds with -Dfaults=true any allocation at all, by libc, jansson or
 *   another library too, prints its size and aborts (base/mem_guard.c).
 * Freeing is allowed. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* a*b and a+b into *out; false on overflow (then *out is untouched). */
static inline bool mul_size(size_t a, size_t b, size_t *out)
{
    size_t r;

    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}
static inline bool add_size(size_t a, size_t b, size_t *out)
{
    size_t r;

    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}
static inline bool mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;

    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}
static inline bool add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;

    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

/* NULL when memory is short or size overflows. Zero sizes give a valid pointer. */
void *mem_alloc(size_t size_bytes);
void *mem_calloc(size_t n, size_t size_bytes);
void *mem_realloc(void *p, size_t size_bytes);   /* on NULL, p is still valid */
void *mem_array(size_t n, size_t size_bytes);    /* uninitialised, overflow-checked */
void *mem_grow(void *p, size_t n, size_t size_bytes); /* realloc of an array, overflow-checked */
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);      /* copies exactly n bytes and adds NUL */
void *mem_aligned(size_t size_bytes, size_t align); /* zeroed; align a power of two; mem_free it */
void  mem_free(void *p);                         /* NULL is fine; so is a library's malloc */

/* Big, zeroed, page-aligned regions straight from the kernel (weights, caches,
 * arenas). Transparent huge pages are asked for above 2 MiB. */
void *mem_map(size_t size_bytes);
void  mem_unmap(void *p, size_t size_bytes);     /* NULL is fine */

/* Keeps a region in memory until it is unmapped: never swapped out, never dropped. Touches all of
 * it. WATT_ELIMIT with the limit (RLIMIT_MEMLOCK) when the system refuses. what: "weights". */
int   mem_lock(const void *p, size_t size_bytes, const char *what, struct err *e) MUST_CHECK;

/* Per thread and nested. */
void mem_guard_enter(void);
void mem_guard_leave(void);
/* True between enter and leave; team_run and base/mem_guard.c ask it. */
bool mem_guarded(void);

/* Arena: bump allocation over one region of fixed size; no destructor runs. */
struct arena {
    uint8_t *base;
    size_t   size, used, peak;
};

/* Maps size_bytes. On failure *a is zeroed: WATT_ENOMEM. */
int    arena_init(struct arena *a, size_t size_bytes, struct err *e) MUST_CHECK;
void   arena_deinit(struct arena *a);
/* 64-byte aligned, uninitialised; NULL when the arena is full. */
void  *arena_alloc(struct arena *a, size_t size_bytes);
size_t arena_mark(const struct arena *a);
void   arena_rewind(struct arena *a, size_t mark);

#endif
