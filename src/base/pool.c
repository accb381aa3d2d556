/* pool.c: fixed-size pages; see pool.h. */
#include "base/pool.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"

int pool_init(struct pool *p, size_t page_bytes, uint64_t n_pages, struct err *e)
{
    size_t total;
    int rc;

    memset(p, 0, sizeof *p);
    if (page_bytes == 0 || n_pages == 0)
        return err_set(e, WATT_EINVAL, "pool: %" PRIu64 " pages of %zu bytes", n_pages, page_bytes);
    if (n_pages >= POOL_NONE || !mul_size((size_t)n_pages, page_bytes, &total))
        return err_set(e, WATT_ELIMIT, "pool: %" PRIu64 " pages of %zu bytes are too many",
                       n_pages, page_bytes);
    p->page_bytes = page_bytes;
    p->n_pages = (uint32_t)n_pages;
    p->back = mem_array(p->n_pages, sizeof *p->back);
    p->taken = mem_calloc(((size_t)p->n_pages + 63) / 64, sizeof *p->taken);
    p->base = p->back && p->taken ? mem_map(total) : NULL;
    if (!p->base) {
        rc = err_set(e, WATT_ENOMEM, "pool: %" PRIu64 " pages of %zu bytes could not be had",
                     n_pages, page_bytes);
        pool_deinit(p);
        return rc;
    }
    return 0;
}

void pool_deinit(struct pool *p)
{
    mem_unmap(p->base, (size_t)p->n_pages * p->page_bytes);
    mem_free(p->back);
    mem_free(p->taken);
    memset(p, 0, sizeof *p);
}

uint32_t pool_take(struct pool *p)
{
    uint32_t page;

    if (p->n_back > 0)
        page = p->back[--p->n_back];
    else if (p->n_fresh < p->n_pages)
        page = p->n_fresh++;
    else
        return POOL_NONE;
    p->taken[page / 64] |= (uint64_t)1 << page % 64;
    p->n_taken++;
    if (p->n_taken > p->peak)
        p->peak = p->n_taken;
    return page;
}

void pool_give(struct pool *p, uint32_t page)
{
    CHECK(page < p->n_pages && (p->taken[page / 64] >> page % 64 & 1) != 0);
    p->taken[page / 64] &= ~((uint64_t)1 << page % 64);
    p->back[p->n_back++] = page;
    p->n_taken--;
}

void pool_reset(struct pool *p)
{
    memset(p->taken, 0, ((size_t)p->n_pages + 63) / 64 * sizeof *p->taken);
    p->n_taken = p->n_back = p->n_fresh = 0;
}
