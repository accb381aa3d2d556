/* synth.c: random model files; see synth.h.
 *
 * Tensors are cut into chunks of a fixed number of elements. A chunk's random
 * stream is seeded by (seed, tensor, chunk), so it doesn't matter which worker
 * draws it or when; each is written to its place in the file at once. */
#include "models/synth_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/team.h"
#include "chips/quant_random.h"

#define CHUNK_ELEMS ((uint64_t)1 << 18)     /* whole blocks of every type; 1 MiB of f32 */

struct item {
    uint64_t        n_elems, bytes;
    uint64_t        first_task;     /* chunks of all tensors before it */
    enum dtype      dtype;
    enum shape_init init;
    float           sigma;
};

struct plan {
    const struct shape      *shape;
    const struct synth_opts *opts;
    struct gguf_writer      *writer;        /* NULL: sizes only */
    struct item             *items;
    uint32_t                 n_items, cap;
    uint64_t                 n_tasks, total_bytes;
    struct err              *e;

    struct team             *team;
    uint8_t                **buffers;       /* one per worker */
    _Atomic uint64_t         done_bytes;
    atomic_int               failed;        /* first error code; its worker wrote e */
};

/* ---- planning ---- */

static float sigma_of(const struct shape *s, const struct shape_tensor *t)
{
    const double n_in = (double)t->shape[t->n_dims - 1];

    if (t->init == SHAPE_RESIDUAL)
        return (float)(1.0 / sqrt(n_in * 2.0 * s->n_layers));
    return (float)(1.0 / sqrt(n_in));
}

enum dtype synth_type(const struct shape *s, const struct synth_opts *o,
                      const struct shape_tensor *t)
{
    const struct quant_model quant = { s->n_layers, s->n_experts, s->n_heads / s->n_kv_heads,
                                       s->tied, false };
    const int64_t row = t->shape[t->n_dims - 1];
    const enum dtype base = quant_mix_info(o->mix)->base;

    if (o->pure && quant_mix_applies(sv_cstr(t->name), t->n_dims) &&
        row % dtype_info((uint32_t)base)->block_elems == 0)
        return base;
    return quant_mix_pick(o->mix, &quant, sv_cstr(t->name), t->n_dims, row);
}

static int add_item(void *ctx, const struct shape_tensor *t)
{
    struct plan *p = ctx;
    struct item it = { .n_elems = 1, .init = t->init, .first_task = p->n_tasks };
    uint64_t row_bytes;

    if (p->n_items == p->cap) {
        const uint32_t cap = p->cap ? 2 * p->cap : 256;
        struct item *grown = mem_grow(p->items, cap, sizeof *grown);

        if (!grown)
            return err_set(p->e, WATT_ENOMEM, "out of memory for %" PRIu32 " tensors", cap);
        p->items = grown;
        p->cap = cap;
    }
    for (int i = 0; i < t->n_dims; i++)
        it.n_elems *= (uint64_t)t->shape[i];
    it.dtype = synth_type(p->shape, p->opts, t);
    it.sigma = sigma_of(p->shape, t);
    CHECK(dtype_row_bytes((uint32_t)it.dtype, (uint64_t)t->shape[t->n_dims - 1], &row_bytes));
    it.bytes = row_bytes * (it.n_elems / (uint64_t)t->shape[t->n_dims - 1]);
    p->n_tasks += (it.n_elems + CHUNK_ELEMS - 1) / CHUNK_ELEMS;
    p->total_bytes += it.bytes;
    p->items[p->n_items++] = it;
    return p->writer ? gguf_writer_tensor(p->writer, t->name, it.dtype, t->n_dims, t->shape, p->e)
                     : 0;
}

static int plan_init(struct plan *p, const struct shape *s, const struct synth_opts *o,
                     struct gguf_writer *w, struct err *e)
{
    int rc = shape_check(s, e);

    *p = (struct plan){ .shape = s, .opts = o, .writer = w, .e = e };
    if (rc < 0)
        return rc;
    return shape_each_tensor(s, add_item, p);
}

static void plan_deinit(struct plan *p, unsigned n_threads)
{
    for (unsigned i = 0; p->buffers && i < n_threads; i++)
        mem_free(p->buffers[i]);
    mem_free(p->buffers);
    mem_free(p->items);
}

int synth_size(const struct shape *s, const struct synth_opts *o, uint64_t *bytes, struct err *e)
{
    struct plan p;
    int rc = plan_init(&p, s, o, NULL, e);

    if (rc == 0)
        *bytes = p.total_bytes;
    plan_deinit(&p, 0);
    return rc;
}

/* ---- data ---- */

static void fill_plain(const struct plan *p, const struct item *it, float *out, size_t n,
                       struct rng *r)
{
    const float mean = it->init == SHAPE_GAIN ? 1.0f : it->init == SHAPE_DECAY ? -1.0f : 0.0f;

    if (it->init == SHAPE_ROPE_FACTORS) {
        shape_rope_factors(p->shape, out);
        return;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = mean + 0.05f * (float)rng_normal(r);
}

static void fill(const struct plan *p, const struct item *it, uint64_t tensor, uint64_t chunk,
                 void *out, size_t n)
{
    struct rng r;

    rng_init(&r, rng_mix(rng_mix(p->opts->seed + rng_mix(tensor)) + chunk));
    if (it->init == SHAPE_MATRIX || it->init == SHAPE_RESIDUAL)
        quant_random_blocks(it->dtype, out, n, it->sigma, &r);
    else
        fill_plain(p, it, out, n, &r);
}

static const struct item *item_of(const struct plan *p, uint64_t task)
{
    uint32_t low = 0, high = p->n_items;

    while (high - low > 1) {
        const uint32_t mid = low + (high - low) / 2;

        if (p->items[mid].first_task <= task)
            low = mid;
        else
            high = mid;
    }
    return &p->items[low];
}

static int write_chunk(struct plan *p, uint64_t task, uint8_t *buffer, uint64_t *bytes,
                       struct err *e)
{
    const struct item *it = item_of(p, task);
    const struct dtype_info *info = dtype_info((uint32_t)it->dtype);
    const uint64_t chunk = task - it->first_task, first = chunk * CHUNK_ELEMS;
    const uint64_t left = it->n_elems - first;
    const uint64_t n = left < CHUNK_ELEMS ? left : CHUNK_ELEMS;
    const uint32_t tensor = (uint32_t)(it - p->items);

    fill(p, it, tensor, chunk, buffer, (size_t)n);
    *bytes = n / info->block_elems * info->block_bytes;
    return gguf_writer_data_at(p->writer, tensor, first / info->block_elems * info->block_bytes,
                               buffer, (size_t)*bytes, e);
}

static void fail_with(struct plan *p, const struct err *e)
{
    int none = 0;

    if (atomic_compare_exchange_strong(&p->failed, &none, e->code) && p->e)
        *p->e = *e;     /* read by the caller after team_run, which orders it */
}

static void report(struct plan *p, unsigned worker, uint64_t bytes)
{
    const uint64_t done = atomic_fetch_add(&p->done_bytes, bytes) + bytes;
    struct err e;

    if (worker != 0 || !p->opts->progress || p->opts->progress(p->opts->ctx, done, p->total_bytes))
        return;
    (void)err_set(&e, WATT_ECANCEL, "stopped");
    fail_with(p, &e);
}

static void work(void *arg, unsigned worker)
{
    struct plan *p = arg;

    while (atomic_load_explicit(&p->failed, memory_order_relaxed) == 0) {
        const uint64_t task = team_next(p->team);
        uint64_t bytes = 0;
        struct err e;

        if (task >= p->n_tasks)
            return;
        if (write_chunk(p, task, p->buffers[worker], &bytes, &e) < 0)
            fail_with(p, &e);
        else
            report(p, worker, bytes);
    }
}

static int write_tensors(struct plan *p, unsigned n_threads, struct err *e)
{
    int rc;

    p->buffers = mem_calloc(n_threads, sizeof *p->buffers);
    for (unsigned i = 0; p->buffers && i < n_threads; i++) {
        p->buffers[i] = mem_alloc(CHUNK_ELEMS * sizeof(float));
        if (!p->buffers[i])
            return err_set(e, WATT_ENOMEM, "out of memory for %u buffers", n_threads);
    }
    if (!p->buffers)
        return err_set(e, WATT_ENOMEM, "out of memory for %u buffers", n_threads);
    rc = team_open(&p->team, n_threads, e);
    if (rc < 0)
        return rc;
    team_run(p->team, work, p);
    team_close(p->team);
    return atomic_load(&p->failed);
}

int synth_write(const char *path, const struct shape *s, const struct synth_opts *o, struct err *e)
{
    const unsigned n_threads = o->n_threads ? o->n_threads : team_default_threads();
    struct gguf_writer *w = NULL;
    struct plan p = { 0 };
    int rc = shape_check(s, e);

    if (rc < 0)
        return rc;
    rc = gguf_writer_open(&w, path, e);
    if (rc < 0)
        return rc;
    rc = synth_keys(&(struct synth_sink){ .writer = w }, s, o, e);
    if (rc == 0)
        rc = synth_vocab_write(w, s->n_vocab, s->pre, e);
    if (rc == 0)
        rc = plan_init(&p, s, o, w, e);
    if (rc == 0)
        rc = gguf_writer_begin(w, e);
    if (rc == 0)
        rc = write_tensors(&p, n_threads, e);
    plan_deinit(&p, n_threads);
    if (rc < 0) {
        gguf_writer_abort(w);
        return rc;
    }
    return gguf_writer_commit(w, e);
}
