/* synth.c: random model files; see synth.h.
 *
 * Tensors are cut into chunks of a fixed number of elements. A chunk's random
 * stream is seeded by (seed, tensor, chunk), so it doesn't matter which worker
 * draws it or when; each is written to its place in the file at once. */
#include "models/synth.h"

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
    struct quant_model       quant;
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

static enum dtype type_of(const struct plan *p, const struct shape_tensor *t)
{
    const int64_t row = t->shape[t->n_dims - 1];
    const enum dtype base = quant_mix_info(p->opts->mix)->base;

    if (p->opts->pure && quant_mix_applies(sv_cstr(t->name), t->n_dims) &&
        row % dtype_info((uint32_t)base)->block_elems == 0)
        return base;
    return quant_mix_pick(p->opts->mix, &p->quant, sv_cstr(t->name), t->n_dims, row);
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
    it.dtype = type_of(p, t);
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
    p->quant = (struct quant_model){ s->n_layers, s->n_experts, s->n_heads / s->n_kv_heads,
                                     s->tied, false };
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

/* ---- keys ---- */

struct keys {
    struct gguf_writer *w;
    const char         *arch;
    struct err         *e;
    int                 rc;     /* the first failure; later calls do nothing */
};

static const char *full_key(const struct keys *k, char buf[96], const char *name)
{
    (void)snprintf(buf, 96, "%s.%s", k->arch, name);
    return buf;
}

static void put_u32(struct keys *k, const char *name, uint32_t v)
{
    char key[96];

    if (k->rc == 0)
        k->rc = gguf_writer_u32(k->w, full_key(k, key, name), v, k->e);
}

static void put_f32(struct keys *k, const char *name, float v)
{
    char key[96];

    if (k->rc == 0)
        k->rc = gguf_writer_f32(k->w, full_key(k, key, name), v, k->e);
}

static void put_str(struct keys *k, const char *name, const char *v)
{
    char key[96];

    if (k->rc == 0)
        k->rc = gguf_writer_str(k->w, full_key(k, key, name), sv_cstr(v), k->e);
}

static void put_rope(struct keys *k, const struct shape *s)
{
    if (s->features & (SHAPE_GPT2 | SHAPE_BARE))
        return;
    put_u32(k, "rope.dimension_count", s->head_dim);
    put_f32(k, "rope.freq_base", s->rope_base);
    if (s->rope == SHAPE_ROPE_LINEAR || s->rope == SHAPE_ROPE_YARN) {
        put_str(k, "rope.scaling.type", s->rope == SHAPE_ROPE_YARN ? "yarn" : "linear");
        put_f32(k, "rope.scaling.factor", s->rope_factor);
        put_u32(k, "rope.scaling.original_context_length", s->rope_ctx);
    }
}

static void put_mamba2(struct keys *k, const struct shape *s)
{
    if (!(s->features & SHAPE_MAMBA2))
        return;
    put_u32(k, "ssm.inner_size", s->ssm_inner);
    put_u32(k, "ssm.state_size", s->ssm_state);
    put_u32(k, "ssm.time_step_rank", s->ssm_heads);
    put_u32(k, "ssm.group_count", s->ssm_groups);
    put_u32(k, "ssm.conv_kernel", s->ssm_conv);
}

static int write_general(struct gguf_writer *w, const struct shape *s, const struct synth_opts *o,
                         struct err *e)
{
    char text[96];
    int rc = gguf_writer_str(w, "general.architecture", sv_cstr(s->arch), e);

    if (rc == 0)
        rc = gguf_writer_str(w, "general.name", sv_cstr(s->name), e);
    (void)snprintf(text, sizeof text, "random weights, seed %" PRIu64, o->seed);
    if (rc == 0)
        rc = gguf_writer_str(w, "general.description", sv_cstr(text), e);
    if (rc == 0)
        rc = gguf_writer_u32(w, "general.file_type", quant_mix_info(o->mix)->file_type, e);
    return rc == 0 ? gguf_writer_u32(w, "general.quantization_version", 2, e) : rc;
}

/* The last of the reserved tokens is the mask. */
static int write_diffusion(struct gguf_writer *w, const struct shape *s, struct err *e)
{
    const int rc = gguf_writer_bool(w, "diffusion.shift_logits", s->features & SHAPE_SHIFTED, e);

    if (rc < 0 || s->n_vocab < SYNTH_VOCAB_MIN)
        return rc;
    return gguf_writer_u32(w, "tokenizer.ggml.mask_token_id", s->n_vocab - 1, e);
}

static int write_keys(struct gguf_writer *w, const struct shape *s, const struct synth_opts *o,
                      struct err *e)
{
    struct keys k = { w, s->arch, e, 0 };

    k.rc = write_general(w, s, o, e);
    put_u32(&k, "vocab_size", s->n_vocab);
    put_u32(&k, "context_length", s->n_ctx);
    put_u32(&k, "embedding_length", s->n_embd);
    put_u32(&k, "block_count", s->n_layers);
    if (!(s->features & SHAPE_BARE)) {
        put_u32(&k, "feed_forward_length", s->n_ff);
        put_u32(&k, "attention.head_count", s->n_heads);
        put_u32(&k, "attention.head_count_kv", s->n_kv_heads);
    }
    put_mamba2(&k, s);
    if (s->features & SHAPE_BARE) {
        put_f32(&k, "attention.layer_norm_rms_epsilon", s->norm_eps);
    } else if (s->features & SHAPE_GPT2) {
        put_f32(&k, "attention.layer_norm_epsilon", s->norm_eps);
    } else {
        put_u32(&k, "attention.key_length", s->head_dim);
        put_u32(&k, "attention.value_length", s->head_dim);
        put_f32(&k, "attention.layer_norm_rms_epsilon", s->norm_eps);
    }
    if (s->window)
        put_u32(&k, "attention.sliding_window", s->window);
    if (s->n_experts) {
        put_u32(&k, "expert_count", s->n_experts);
        put_u32(&k, "expert_used_count", s->n_experts_used);
        put_u32(&k, "expert_feed_forward_length", s->n_ff);
    }
    put_rope(&k, s);
    if (k.rc == 0 && (s->features & SHAPE_DIFFUSION))
        k.rc = write_diffusion(w, s, e);
    return k.rc == 0 ? synth_vocab_write(w, s->n_vocab, s->pre, e) : k.rc;
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
    rc = write_keys(w, s, o, e);
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
