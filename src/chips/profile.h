/* profile.h: where the time of steps went, by the phases of an executor.
 *
 * A phase is what an executor runs between two barriers of its team (for the reference
 * interpreter: one instruction), so several instructions may share one. Made and owned by the
 * executor; while none was asked for, a step pays one comparison per phase. */
#ifndef CHIPS_PROFILE_H
#define CHIPS_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"

/* A part of an instruction that a phase runs. */
struct profile_piece {
    uint32_t    instr;      /* of the program */
    const char *what;       /* NULL: the instruction's own work, where its cost belongs; else a
                             * side job of it: "prepare", "cache write", … */
};

struct profile_phase {
    const char *kind;       /* "rows", "products", … */
    uint32_t    first, n;   /* its pieces */
    uint64_t    ns;         /* from one barrier to the next, by worker 0's clock */
    uint64_t    busy_ns;    /* all workers together, without waiting at the barrier */
};

struct profile {
    uint32_t n_threads, n_phases, n_pieces;
    uint64_t n_steps;
    struct profile_phase *phase;
    struct profile_piece *piece;
    uint64_t *busy;         /* [n_threads][stride], each worker writes its own lines */
    uint32_t  stride;
};

/* Phases and pieces are the executor's to fill. */
int  profile_open(struct profile **out, uint32_t n_threads, uint32_t n_phases, uint32_t n_pieces,
                  struct err *e) MUST_CHECK;
void profile_close(struct profile *p);      /* NULL is fine */
void profile_reset(struct profile *p);      /* times and steps to zero */
/* Adds up what the workers noted; not during a step. */
void profile_collect(struct profile *p);

/* For the executor: p NULL is a profile that nobody asked for. */
static inline uint64_t profile_now(const struct profile *p) { return p ? clock_mono_ns() : 0; }

/* Worker is done with a phase that it began at `start`. */
static inline void profile_done(struct profile *p, uint32_t phase, unsigned worker, uint64_t start)
{
    if (p)
        p->busy[(uint64_t)worker * p->stride + phase] += clock_mono_ns() - start;
}

/* Every worker is done with it; returns where the next phase begins. */
static inline uint64_t profile_passed(struct profile *p, uint32_t phase, unsigned worker,
                                      uint64_t start)
{
    uint64_t now;

    if (!p)
        return 0;
    now = clock_mono_ns();
    if (worker == 0)
        p->phase[phase].ns += now - start;
    return now;
}

#endif
