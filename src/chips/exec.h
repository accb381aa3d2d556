/* exec.h: the face that every executor shows the engine.
 *
 * An executor binds a finished program to memory that was planned for given
 * maxima and runs steps. One owner thread; nothing allocates inside exec_step.
 *
 *   chips/interp.c   scalar reference in double precision, reads weights where
 *                    the file is mapped; the oracle
 *   chips/cpu/exec.c the thread team with packed weights */
#ifndef CHIPS_EXEC_H
#define CHIPS_EXEC_H

#include <stdint.h>

#include "base/err.h"
#include "chips/batch.h"
#include "chips/kv_layout.h"
#include "chips/profile.h"
#include "chips/program.h"

struct exec_limits {
    uint32_t max_rows, max_streams, max_out;    /* of one step; all > 0 */
};

struct exec_memory {            /* bytes, exact */
    uint64_t weights;           /* copies the executor made of the file's tensors */
    uint64_t shared;            /* those of others that it reads, or would */
    uint64_t arena;             /* values */
    uint64_t scratch;           /* per worker and shared work space */
};

struct exec;

struct exec_ops {
    const char *name;
    /* Logits or embeddings of the wanted rows into out: [n_out, width of the result].
     * kv_pages: base of the page pool (page i at kv_pages + i * layout->page_bytes).
     * Returns 0, or WATT_EINVAL when the batch breaks the limits or names an id
     * outside a table (checked before anything is written to the cache). */
    int  (*step)(struct exec *x, const struct batch *b, void *kv_pages, float *out, struct err *e);
    void (*memory)(const struct exec *x, struct exec_memory *m);
    void (*close)(struct exec *x);
    /* Begins a profile of the steps from here on (WATT_ENOMEM), or ends it; not during a
     * step. Beginning again sets its times to zero. */
    int  (*profile)(struct exec *x, bool on, struct err *e);
    /* What was noted since, NULL when off; the executor's, as it is until the next step. */
    const struct profile *(*profiled)(struct exec *x);
};

struct exec { const struct exec_ops *ops; };    /* first member of every executor */

static inline int exec_step(struct exec *x, const struct batch *b, void *kv_pages, float *out,
                            struct err *e)
{
    return x->ops->step(x, b, kv_pages, out, e);
}
static inline void exec_close(struct exec *x)
{
    if (x)
        x->ops->close(x);
}

/* layout is borrowed and must outlive the executor. */
int interp_open(struct exec **out, const struct program *p, const struct kv_layout *layout,
                const struct exec_limits *limits, struct err *e) MUST_CHECK;
/* What it would take, without doing it. */
int interp_plan(const struct program *p, const struct exec_limits *limits,
                struct exec_memory *m, struct err *e) MUST_CHECK;

#endif
