/* exec_weights.c: weights of the CPU executor: matrices packed by the whole team, vectors
 * turned to f32, tables left where the file is mapped. */
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "chips/cpu/exec_internal.h"

#define CHUNK_BYTES ((uint64_t)1 << 20)     /* packed per task */

/* Packing of one weight by the team. */
struct packing {
    const struct packed *packed;
    const struct tensor *t;
    struct team *team;
    uint32_t panels_per_task;
    size_t   n_tasks;
};

static void pack_job(void *arg, unsigned worker)
{
    const struct packing *job = arg;
    const uint32_t per = job->panels_per_task;
    const uint32_t per_mat = (job->packed->n_panels + per - 1) / per;

    (void)worker;
    for (size_t task; (task = team_next(job->team)) < job->n_tasks;) {
        const uint32_t mat = (uint32_t)(task / per_mat), first = (uint32_t)(task % per_mat) * per;
        const uint32_t end = first + per;

        pack_panels(job->packed, job->t, mat, first,
                    end < job->packed->n_panels ? end : job->packed->n_panels);
    }
}

/* at: where the next packed weight goes in the region. */
static void pack_weight(struct cpu_exec *x, wid w, uint64_t *at)
{
    const struct prog_weight *pw = prog_weight_at(x->p, w);
    struct packed *pk = &x->s.packed[w];
    struct packing job = { .packed = pk, .t = &pw->t, .team = x->team };

    if (pk->raw) {              /* read where the file is mapped */
        pk->data = (void *)(uintptr_t)pw->t.data;
        return;
    }
    pk->data = x->packed_region + *at;
    *at += (pack_bytes(pk) + 63) & ~UINT64_C(63);
    job.panels_per_task = (uint32_t)(CHUNK_BYTES / (pk->panel_bytes + 1)) + 1;
    job.n_tasks = (size_t)pk->n_mats *
                  ((pk->n_panels + job.panels_per_task - 1) / job.panels_per_task);
    team_run(x->team, pack_job, &job);
}

static int check_weight(const struct prog_weight *w, struct err *e)
{
    const struct dtype_info *info = dtype_info(w->t.dtype);
    uint64_t row_bytes;

    if (!info || !info->dequant)
        return err_set(e, WATT_ENOTSUP, "tensor %s: type %s can't be a weight", w->name,
                       dtype_name(w->t.dtype));
    if (!w->t.data)
        return err_set(e, WATT_EINVAL, "tensor %s: no data", w->name);
    if (!dtype_row_bytes(w->t.dtype, (uint64_t)tensor_row(&w->t), &row_bytes) ||
        w->t.size_bytes != row_bytes * (uint64_t)(tensor_elems(&w->t) / tensor_row(&w->t)))
        return err_set(e, WATT_EFORMAT, "tensor %s: %" PRIu64 " bytes don't fit its shape",
                       w->name, w->t.size_bytes);
    return 0;
}

static int load_vectors(struct cpu_exec *x, struct err *e)
{
    const uint32_t n = prog_n_weights(x->p);
    uint8_t *at;

    x->vector = mem_calloc((size_t)n + 1, sizeof *x->vector);
    if (x->s.vector_bytes > 0)
        x->vectors = mem_map((size_t)x->s.vector_bytes);
    if (!x->vector || (x->s.vector_bytes > 0 && !x->vectors))
        return err_set(e, WATT_ENOMEM, "executor: %" PRIu64 " bytes of vectors",
                       x->s.vector_bytes);
    at = (uint8_t *)x->vectors;
    for (wid w = 1; w <= n; w++) {
        const struct prog_weight *pw = prog_weight_at(x->p, w);
        const size_t elems = (size_t)tensor_elems(&pw->t);
        int rc;

        if (pw->uses == 0)
            continue;
        rc = check_weight(pw, e);
        if (rc < 0)
            return rc;
        if (!(pw->uses & USE_VECTOR))
            continue;
        x->vector[w] = (float *)(void *)at;
        dtype_info(pw->t.dtype)->dequant(x->vector[w], pw->t.data, elems);
        at += (elems * sizeof(float) + 63) & ~(size_t)63;
    }
    return 0;
}

/* Everything a step reads: copies, and what is read where the file is mapped. */
static int lock_weights(const struct cpu_exec *x, struct err *e)
{
    int rc = mem_lock(x->packed_region, (size_t)x->s.packed_bytes, "weights", e);

    if (rc == 0)
        rc = mem_lock(x->vectors, (size_t)x->s.vector_bytes, "weights", e);
    for (wid w = 1; rc == 0 && w <= prog_n_weights(x->p); w++) {
        const struct prog_weight *pw = prog_weight_at(x->p, w);
        const bool mapped = (pw->uses & USE_TABLE) || ((pw->uses & USE_MATRIX) && x->s.packed[w].raw);

        if (mapped)
            rc = mem_lock(pw->t.data, (size_t)pw->t.size_bytes, pw->name, e);
    }
    return rc;
}

int exec_weights_open(struct cpu_exec *x, const struct cpu_exec_opts *o, struct err *e)
{
    uint64_t done = 0, at = 0;
    int rc = load_vectors(x, e);

    /* one region, so that almost all of it can lie in large pages */
    if (rc == 0 && x->s.packed_bytes > 0) {
        x->packed_region = mem_map((size_t)x->s.packed_bytes);
        if (!x->packed_region)
            rc = err_set(e, WATT_ENOMEM, "executor: %" PRIu64 " bytes of prepared weights",
                         x->s.packed_bytes);
        else
            team_spread(x->team, x->packed_region, (size_t)x->s.packed_bytes);
    }

    for (wid w = 1; rc == 0 && w <= prog_n_weights(x->p); w++) {
        const struct prog_weight *pw = prog_weight_at(x->p, w);

        if (!(pw->uses & USE_MATRIX))
            continue;
        pack_weight(x, w, &at);
        if (!x->s.packed[w].raw) {
            done += pack_bytes(&x->s.packed[w]);
            if (o->forget)
                o->forget(o->ctx, pw->t.data, pw->t.size_bytes);
        }
        if (o->progress && o->progress(o->ctx, done, x->s.packed_bytes) != 0)
            rc = err_set(e, WATT_ECANCEL, "stopped while preparing weights");
    }
    return rc == 0 && o->lock ? lock_weights(x, e) : rc;
}

void exec_weights_close(struct cpu_exec *x)
{
    mem_unmap(x->packed_region, (size_t)x->s.packed_bytes);
    mem_free(x->vector);
    mem_unmap(x->vectors, (size_t)x->s.vector_bytes);
}
