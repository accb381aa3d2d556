/* pool.h: a fixed number of pages of one size, all reserved at the start.
 *
 * Pages are handed out by number, so that tables of pages are small and can be
 * written to a file. The lowest never-used page is taken only when none was
 * given back: memory is touched as it is needed, and warm pages come first.
 * Contents of a page are zero at first and afterwards what its last user left.
 * One owner thread; taking and giving allocate nothing. */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define POOL_NONE UINT32_MAX

struct pool {
    uint8_t  *base;       /* n_pages * page_bytes, page-aligned */
    size_t    page_bytes;
    uint32_t  n_pages, n_fresh;   /* n_fresh: pages taken at least once */
    uint32_t  n_taken, peak;      /* now and at most so far */
    uint32_t  n_back;
    uint32_t *back;       /* stack of pages given back [n_pages] */
    uint64_t *taken;      /* one bit per page: catches a page given back twice */
};

/* page_bytes > 0, n_pages in 1..POOL_NONE-1. On failure *p is zeroed:
 * WATT_EINVAL, WATT_ELIMIT (the product overflows), WATT_ENOMEM. */
int      pool_init(struct pool *p, size_t page_bytes, uint64_t n_pages, struct err *e) MUST_CHECK;
void     pool_deinit(struct pool *p);                 /* zeroed is fine */
uint32_t pool_take(struct pool *p);                   /* POOL_NONE when all are taken */
void     pool_give(struct pool *p, uint32_t page);    /* a page that is not taken is a CHECK */
void     pool_reset(struct pool *p);                  /* gives all back */

static inline void *pool_at(const struct pool *p, uint32_t page)
{
    return p->base + (size_t)page * p->page_bytes;
}
static inline uint32_t pool_free_pages(const struct pool *p)
{
    return p->n_pages - p->n_taken;
}

#endif
