/* ranges.c: best-fit ranges; see ranges.h. */
#include "chips/passes/ranges.h"

#include <string.h>

#include "base/mem.h"

int ranges_init(struct ranges *r, size_t max_live, struct err *e)
{
    *r = (struct ranges){ .cap = max_live + 1 };
    r->free = mem_array(r->cap, sizeof *r->free);
    if (!r->free)
        return err_set(e, WATT_ENOMEM, "memory plan: %zu ranges", r->cap);
    return 0;
}

void ranges_deinit(struct ranges *r)
{
    mem_free(r->free);
    *r = (struct ranges){ 0 };
}

uint64_t ranges_take(struct ranges *r, uint64_t size)
{
    size_t best = SIZE_MAX;
    uint64_t at;

    for (size_t i = 0; i < r->n_free; i++)
        if (r->free[i].size >= size &&
            (best == SIZE_MAX || r->free[i].size < r->free[best].size))
            best = i;
    if (best == SIZE_MAX) {
        at = r->end;
        r->end += size;
        if (r->end > r->peak)
            r->peak = r->end;
        return at;
    }
    at = r->free[best].offset;
    r->free[best].offset += size;
    r->free[best].size -= size;
    if (r->free[best].size == 0) {
        memmove(&r->free[best], &r->free[best + 1],
                (r->n_free - best - 1) * sizeof *r->free);
        r->n_free--;
    }
    return at;
}

void ranges_give(struct ranges *r, uint64_t offset, uint64_t size)
{
    size_t i = 0;

    if (size == 0)
        return;
    while (i < r->n_free && r->free[i].offset < offset)
        i++;
    if (i > 0 && r->free[i - 1].offset + r->free[i - 1].size == offset) {
        r->free[--i].size += size;
    } else {
        memmove(&r->free[i + 1], &r->free[i], (r->n_free - i) * sizeof *r->free);
        r->free[i] = (struct range){ offset, size };
        r->n_free++;
    }
    if (i + 1 < r->n_free && r->free[i].offset + r->free[i].size == r->free[i + 1].offset) {
        r->free[i].size += r->free[i + 1].size;
        memmove(&r->free[i + 1], &r->free[i + 2], (r->n_free - i - 2) * sizeof *r->free);
        r->n_free--;
    }
    if (r->free[r->n_free - 1].offset + r->free[r->n_free - 1].size == r->end)
        r->end = r->free[--r->n_free].offset;
}
