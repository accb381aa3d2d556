/* profile.c: memory of a profile; see profile.h. */
#include "chips/profile.h"

#include <string.h>

#include "base/mem.h"

#define LINE_WORDS 8u       /* of 8 bytes in a cache line */

int profile_open(struct profile **out, uint32_t n_threads, uint32_t n_phases, uint32_t n_pieces,
                 struct err *e)
{
    struct profile *p = mem_calloc(1, sizeof *p);
    size_t n;

    if (!p)
        return err_set(e, WATT_ENOMEM, "profile: header");
    p->n_threads = n_threads;
    p->n_phases = n_phases;
    p->n_pieces = n_pieces;
    p->stride = (n_phases + LINE_WORDS) / LINE_WORDS * LINE_WORDS;
    p->phase = mem_calloc((size_t)n_phases + 1, sizeof *p->phase);
    p->piece = mem_calloc((size_t)n_pieces + 1, sizeof *p->piece);
    if (mul_size(n_threads, p->stride * sizeof *p->busy, &n))
        p->busy = mem_aligned(n, 64);
    if (!p->phase || !p->piece || !p->busy) {
        profile_close(p);
        return err_set(e, WATT_ENOMEM, "profile: %u phases", n_phases);
    }
    *out = p;
    return 0;
}

void profile_close(struct profile *p)
{
    if (!p)
        return;
    mem_free(p->phase);
    mem_free(p->piece);
    mem_free(p->busy);
    mem_free(p);
}

void profile_reset(struct profile *p)
{
    p->n_steps = 0;
    for (uint32_t i = 0; i < p->n_phases; i++)
        p->phase[i].ns = p->phase[i].busy_ns = 0;
    memset(p->busy, 0, (size_t)p->n_threads * p->stride * sizeof *p->busy);
}

void profile_collect(struct profile *p)
{
    for (uint32_t i = 0; i < p->n_phases; i++) {
        p->phase[i].busy_ns = 0;
        for (uint32_t w = 0; w < p->n_threads; w++)
            p->phase[i].busy_ns += p->busy[(size_t)w * p->stride + i];
    }
}
