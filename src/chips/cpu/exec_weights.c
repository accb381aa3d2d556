/* exec_weights.c: weights of the CPU executor: matrices packed by the whole team, vectors
 * turned to f32, tables left where the file is mapped. */
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
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

static bool is_packed(const struct cpu_exec *x, wid w)
{
    return (prog_weight_at(x->p, w)->uses & USE_MATRIX) && !x->s.packed[w].raw &&
           !(x->shared && x->shared[w]);
}

static uint64_t region_bytes(const struct packed *pk)
{
    return (pack_bytes(pk) + 63) & ~UINT64_C(63);
}

/* Where each matrix lies in the region; raw ones are read where the file is mapped, and others in a
 * pool. */
static void place_weights(struct cpu_exec *x, uint8_t *region)
{
    uint64_t at = 0;

    for (wid w = 1; w <= prog_n_weights(x->p); w++) {
        const struct prog_weight *pw = prog_weight_at(x->p, w);
        struct packed *pk = &x->s.packed[w];

        if (is_packed(x, w)) {
            pk->data = region + at;
            at += region_bytes(pk);
        } else if ((pw->uses & USE_MATRIX) && pk->raw) {
            pk->data = (void *)(uintptr_t)pw->t.data;
        }
    }
}

static void pack_weight(struct cpu_exec *x, wid w)
{
    const struct prog_weight *pw = prog_weight_at(x->p, w);
    struct packed *pk = &x->s.packed[w];
    struct packing job = { .packed = pk, .t = &pw->t, .team = x->team };

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
    int rc = x->cached.map ? mem_lock(x->cached.data, (size_t)x->own_bytes, "weights", e)
                           : mem_lock(x->packed_region, (size_t)x->own_bytes, "weights", e);

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

/* ---- the cache on disk ---- */

/* Everything that decides what lies where in the region. */
static uint64_t layout_of_region(const struct cpu_exec *x)
{
#if defined(__x86_64__)
    uint64_t h = 0x8664;
#elif defined(__aarch64__)
    uint64_t h = 0xAA64;
#else
    uint64_t h = 0;
#endif

    for (wid w = 1; w <= prog_n_weights(x->p); w++)
        if (is_packed(x, w))
            h = pack_fingerprint(&x->s.packed[w], rng_mix(h ^ w));
    return h;
}

/* One panel of every matrix, packed anew and compared with the cached region. */
struct probe {
    struct cpu_exec *x;
    uint8_t *bufs;              /* [threads][buf_bytes] */
    uint64_t buf_bytes, seed;
    bool     differs;
};

static void probe_weight(struct probe *j, wid w, uint8_t *buf)
{
    const struct packed *pk = &j->x->s.packed[w];
    const struct tensor *t = &prog_weight_at(j->x->p, w)->t;
    struct rng rng;
    uint32_t mat, panel, rows;
    struct packed one = *pk;
    struct tensor view = *t;

    rng_init(&rng, j->seed + w);
    mat = rng_below(&rng, pk->n_mats);
    panel = rng_below(&rng, pk->n_panels);
    rows = pk->n_out - panel * PACK_ROWS;
    one.n_out = rows < PACK_ROWS ? rows : PACK_ROWS;
    one.n_mats = one.n_panels = 1;
    one.data = buf;
    view.data = (uint8_t *)(uintptr_t)t->data +
                t->size_bytes / ((uint64_t)pk->n_mats * pk->n_out) *
                    ((uint64_t)mat * pk->n_out + (uint64_t)panel * PACK_ROWS);
    pack_panels(&one, &view, 0, 0, 1);
    if (memcmp(buf, (const uint8_t *)pk->data + mat * pk->mat_bytes + panel * pk->panel_bytes,
               (size_t)pk->panel_bytes) != 0)
        __atomic_store_n(&j->differs, true, __ATOMIC_RELAXED);
}

static void probe_job(void *arg, unsigned worker)
{
    struct probe *j = arg;

    for (size_t w; (w = team_next(j->x->team) + 1) <= prog_n_weights(j->x->p);)
        if (is_packed(j->x, (wid)w))
            probe_weight(j, (wid)w, j->bufs + worker * j->buf_bytes);
}

static bool probes_hold(struct cpu_exec *x)
{
    struct probe j = { .x = x, .seed = clock_mono_ns() };
    size_t bytes;

    for (wid w = 1; w <= prog_n_weights(x->p); w++)
        if (is_packed(x, w) && x->s.packed[w].panel_bytes > j.buf_bytes)
            j.buf_bytes = x->s.packed[w].panel_bytes;
    if (!mul_size(team_size(x->team), (size_t)j.buf_bytes, &bytes) || !(j.bufs = mem_map(bytes)))
        return false;
    team_run(x->team, probe_job, &j);
    mem_unmap(j.bufs, bytes);
    return !j.differs;
}

/* True: the region is the cached one, and holds. */
static bool use_cached(struct cpu_exec *x, const struct weights_cache_opts *o,
                       const struct weights_key *key)
{
    if (!weights_cache_find(&x->cached, key, o, x->team))
        return false;
    place_weights(x, (uint8_t *)(uintptr_t)x->cached.data);     /* kernels only read */
    if (probes_hold(x))
        return true;
    if (o->note)
        o->note(o->ctx, "weights cache: made anew: its panels are not those of the model");
    weights_cache_unmap(&x->cached);
    return false;
}

/* ---- the pool ---- */

static uint64_t pool_key_of(const struct packed *pk, uint64_t pool_key)
{
    return pack_fingerprint(pk, rng_mix(pool_key));
}

uint64_t exec_weights_shared(const struct program *p, const struct schedule *s,
                             const struct weights_pool *pool, uint64_t pool_key)
{
    struct weights_region *r;
    uint64_t n = 0;

    for (wid w = 1; pool && w <= prog_n_weights(p); w++) {
        const struct prog_weight *pw = prog_weight_at(p, w);
        const struct packed *pk = &s->packed[w];

        if ((pw->uses & USE_MATRIX) && !pk->raw &&
            weights_pool_find(pool, pw->name, pool_key_of(pk, pool_key), &r))
            n += region_bytes(pk);
    }
    return n;
}

static void hold(struct cpu_exec *x, struct weights_region *r)
{
    for (uint32_t i = 0; i < x->n_held; i++)
        if (x->held[i] == r)
            return;
    weights_region_hold(r);
    x->held[x->n_held++] = r;
}

/* What others have packed is read there. */
static int take_shared(struct cpu_exec *x, const struct cpu_exec_opts *o, struct err *e)
{
    const uint32_t n = prog_n_weights(x->p);

    x->own_bytes = x->s.packed_bytes;
    if (!o->pool)
        return 0;
    x->shared = mem_calloc((size_t)n + 1, sizeof *x->shared);
    x->held = mem_array((size_t)n + 1, sizeof(struct weights_region *));
    if (!x->shared || !x->held)
        return err_set(e, WATT_ENOMEM, "executor: %u shared weights", n);
    for (wid w = 1; w <= n; w++) {
        const struct prog_weight *pw = prog_weight_at(x->p, w);
        struct packed *pk = &x->s.packed[w];
        struct weights_region *r;
        const void *data;

        if (!is_packed(x, w) ||
            !(data = weights_pool_find(o->pool, pw->name, pool_key_of(pk, o->pool_key), &r)))
            continue;
        pk->data = (void *)(uintptr_t)data;     /* kernels only read */
        hold(x, r);
        x->shared[w] = true;
        x->own_bytes -= region_bytes(pk);
    }
    return 0;
}

/* What was packed here is there for others. */
static int give_shared(struct cpu_exec *x, const struct cpu_exec_opts *o, struct err *e)
{
    struct weights_region *r;
    uint32_t n = 0;
    int rc;

    for (wid w = 1; w <= prog_n_weights(x->p); w++)
        n += is_packed(x, w);
    if (!o->pool || n == 0)
        return 0;
    rc = weights_region_open(&r, o->pool, n, x->packed_region, x->own_bytes, &x->cached, e);
    if (rc < 0)
        return rc;
    x->packed_region = NULL;
    x->cached = (struct weights_cached){ 0 };
    x->held[x->n_held++] = r;
    n = 0;
    for (wid w = 1; w <= prog_n_weights(x->p); w++)
        if (is_packed(x, w))
            weights_region_name(r, n++, prog_weight_at(x->p, w)->name,
                                pool_key_of(&x->s.packed[w], o->pool_key), x->s.packed[w].data);
    return 0;
}

/* ---- opening ---- */

static int pack_all(struct cpu_exec *x, const struct cpu_exec_opts *o, struct err *e)
{
    uint64_t done = 0;
    int rc = 0;

    /* one region, so that almost all of it can lie in large pages */
    x->packed_region = mem_map((size_t)x->own_bytes);
    if (!x->packed_region)
        return err_set(e, WATT_ENOMEM, "executor: %" PRIu64 " bytes of prepared weights",
                       x->own_bytes);
    team_spread(x->team, x->packed_region, (size_t)x->own_bytes);
    place_weights(x, x->packed_region);
    for (wid w = 1; rc == 0 && w <= prog_n_weights(x->p); w++) {
        const struct prog_weight *pw = prog_weight_at(x->p, w);

        if (!is_packed(x, w))
            continue;
        pack_weight(x, w);
        done += pack_bytes(&x->s.packed[w]);
        if (o->forget)          /* a table's rows come back as they are wanted */
            o->forget(o->ctx, pw->t.data, pw->t.size_bytes);
        if (o->progress && o->progress(o->ctx, done, x->own_bytes) != 0)
            rc = err_set(e, WATT_ECANCEL, "stopped while preparing weights");
    }
    return rc;
}

int exec_weights_open(struct cpu_exec *x, const struct cpu_exec_opts *o, struct err *e)
{
    struct weights_key key;
    bool cache = o->cache && o->cache->dir;
    int rc = load_vectors(x, e);

    if (rc == 0)
        rc = take_shared(x, o, e);
    if (rc < 0)
        return rc;
    if (x->own_bytes == 0) {
        place_weights(x, NULL);
    } else {
        cache = cache && x->n_held == 0 &&      /* a file has all of them */
                weights_cache_key(&key, o->cache, layout_of_region(x), x->own_bytes);
        if (!cache || !use_cached(x, o->cache, &key)) {
            rc = pack_all(x, o, e);
            if (rc == 0 && cache)
                (void)weights_cache_store(&key, o->cache, x->packed_region, x->team);
        }
    }
    if (rc == 0 && o->lock)
        rc = lock_weights(x, e);
    return rc == 0 ? give_shared(x, o, e) : rc;
}

void exec_weights_refresh(struct cpu_exec *x, const bool *which)
{
    for (wid w = 1; w <= prog_n_weights(x->p); w++) {
        const struct prog_weight *pw = prog_weight_at(x->p, w);

        if (!which[w])
            continue;
        if (x->vector[w])
            dtype_info(pw->t.dtype)->dequant(x->vector[w], pw->t.data,
                                             (size_t)tensor_elems(&pw->t));
        if (is_packed(x, w))
            pack_weight(x, w);
    }
}

void exec_weights_close(struct cpu_exec *x)
{
    mem_unmap(x->packed_region, (size_t)x->own_bytes);
    weights_cache_unmap(&x->cached);
    for (uint32_t i = 0; i < x->n_held; i++)
        weights_region_drop(x->held[i]);
    mem_free(x->held);
    mem_free(x->shared);
    mem_free(x->vector);
    mem_unmap(x->vectors, (size_t)x->s.vector_bytes);
}
