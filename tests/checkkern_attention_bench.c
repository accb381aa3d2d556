/* checkkern_attention_bench.c: attention of one stream's newest row against this machine's
 * limits: reading the cache, and the multiplications. A cache larger than the last cache level
 * shows the first, a small one the second. A team takes the segments of all KV heads as the
 * executor does; attention, a plain read of as many bytes and the multiply-add loop take turns,
 * and medians are printed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/team.h"
#include "checkkern.h"
#include "chips/cpu/attention.h"
#include "chips/cpu/peaks.h"

enum { N_REPS = 25, READ_SLICE = 1 << 18, PEAK_STEPS = 200000 };

struct bench {
    struct kernels   k;
    struct team     *team;
    struct kv_layout layout;
    struct attn_args a;
    uint8_t         *pages;
    uint32_t        *table, n_keys, n_segments;
    float           *q, *out, *partials;
    uint8_t         *scratch;
    size_t           scratch_bytes, cache_bytes;
    uint64_t         sink;
};

static void *need_map(size_t n)
{
    void *p = mem_map(n);

    if (!p)
        abort();
    return p;
}

static void job_attention(void *arg, unsigned worker)
{
    struct bench *b = arg;
    const struct attn_args *a = &b->a;
    const size_t pf = (size_t)a->v_dim + 2, group = a->n_heads / a->n_kv_heads;
    size_t i;

    while ((i = team_next(b->team)) < (size_t)b->n_segments * a->n_kv_heads) {
        const struct attn_task t = {
            .args = a, .layout = &b->layout, .state = 1, .kv_pages = b->pages, .pages = b->table,
            .n_keys = b->n_keys, .kv_head = (uint32_t)(i / b->n_segments),
            .n_heads = (uint32_t)group, .first_pos = b->n_keys - 1, .n_rows = 1, .q = b->q,
            .q_stride = (size_t)a->n_heads * a->k_dim, .out = b->out,
            .out_stride = (size_t)a->n_heads * a->v_dim, .partial = b->partials + i * group * pf,
            .partial_stride = pf, .segment = (uint32_t)(i % b->n_segments),
            .scratch = b->scratch + worker * b->scratch_bytes };

        b->k.attention(&t);
    }
}

static void job_read(void *arg, unsigned worker)
{
    struct bench *b = arg;
    uint64_t sum = 0;
    size_t i;

    (void)worker;
    while ((i = team_next(b->team)) * READ_SLICE < b->cache_bytes) {
        const size_t left = b->cache_bytes - i * READ_SLICE;

        sum += peak_read(b->pages + i * READ_SLICE, left < READ_SLICE ? left & ~(size_t)511 : READ_SLICE,
                         b->k.mask);
    }
    (void)__atomic_fetch_add(&b->sink, sum, __ATOMIC_RELAXED);
}

static void job_peak(void *arg, unsigned worker)
{
    struct bench *b = arg;
    peak_fn *peak = peak_of(PEAK_F32, b->k.mask);

    (void)worker;
    if (peak)
        (void)__atomic_fetch_add(&b->sink, peak(PEAK_STEPS), __ATOMIC_RELAXED);
}

static double seconds_of(struct bench *b, team_fn *job)
{
    const uint64_t t0 = clock_mono_ns();

    team_run(b->team, job, b);
    return clock_seconds(clock_mono_ns() - t0);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* A cache of one layer; all its pages hold the same numbers. */
static void open_cache(struct bench *b, enum dtype dtype)
{
    const uint32_t n_pages = (b->n_keys + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    const size_t n = (size_t)b->a.n_kv_heads * b->a.k_dim;
    struct err e = { 0 };
    struct program *p;
    struct rng rng;
    float *kv = need_map(2 * n * sizeof *kv);

    if (prog_open(&p, &e) != 0 || prog_state_kv(p, b->a.n_kv_heads, b->a.k_dim, b->a.v_dim, 0) != 1 ||
        kv_layout_init(&b->layout, p, dtype, dtype, &e) != 0) {
        (void)fprintf(stderr, "checkkern: %s\n", e.msg);
        abort();
    }
    prog_close(p);
    rng_init(&rng, 1);
    b->cache_bytes = (size_t)n_pages * b->layout.page_bytes;
    b->pages = need_map(b->cache_bytes);
    b->table = need_map(n_pages * sizeof *b->table);
    for (uint32_t t = 0; t < KV_PAGE_TOKENS; t++) {
        for (size_t i = 0; i < 2 * n; i++)
            kv[i] = (float)rng_normal(&rng);
        b->k.kv_store(&b->layout, b->pages, 1, t, kv, kv + n);
    }
    for (uint32_t i = 0; i < n_pages; i++) {
        b->table[i] = i;
        if (i > 0)
            memcpy(b->pages + i * b->layout.page_bytes, b->pages, b->layout.page_bytes);
    }
    for (size_t i = 0; i < (size_t)b->a.n_heads * b->a.k_dim; i++)
        b->q[i] = (float)rng_normal(&rng);
    mem_unmap(kv, 2 * n * sizeof *kv);
}

static void measure(struct bench *b, const char *type)
{
    const double ops = 4.0 * b->n_keys * b->a.n_heads * b->a.k_dim;
    const uint64_t before = b->sink;
    double t[N_REPS], read[N_REPS], peak[N_REPS], peak_ops;

    (void)seconds_of(b, job_peak);
    peak_ops = (double)(b->sink - before);
    for (size_t i = 0; i < N_REPS; i++) {
        t[i] = seconds_of(b, job_attention);
        read[i] = seconds_of(b, job_read);
        peak[i] = seconds_of(b, job_peak);
    }
    qsort(t, N_REPS, sizeof *t, by_value);
    qsort(read, N_REPS, sizeof *read, by_value);
    qsort(peak, N_REPS, sizeof *peak, by_value);
    (void)printf("%-5s %6u positions, %u queries of %u columns a key, %u KV heads: %8.1f us, "
                 "%5.1f GB/s where %5.1f are read, %2.0f %% of FMA\n", type, b->n_keys,
                 b->a.n_heads / b->a.n_kv_heads, b->a.k_dim, b->a.n_kv_heads, t[N_REPS / 2] * 1e6,
                 (double)b->cache_bytes / t[N_REPS / 2] * 1e-9,
                 (double)b->cache_bytes / read[N_REPS / 2] * 1e-9,
                 100 * ops / t[N_REPS / 2] / (peak_ops / peak[N_REPS / 2]));
}

static uint32_t number(int argc, char **argv, int i, uint32_t or)
{
    return argc > i ? (uint32_t)strtoul(argv[i], NULL, 10) : or;
}

void ck_attention_bench(int argc, char **argv)
{
    const uint32_t group = number(argc, argv, 2, 4), dim = number(argc, argv, 3, 64),
                   n_kv = number(argc, argv, 4, 8);
    struct bench b = { .n_keys = number(argc, argv, 1, 32768) };
    struct err e = { 0 };
    size_t n_partials;
    enum dtype dtype = DTYPE_F16;

    if ((argc > 0 && !dtype_parse(argv[0], &dtype)) || b.n_keys == 0 || b.n_keys > 1u << 20 ||
        group == 0 || group > ATTN_MAX_QUERIES || dim == 0 || dim > ATTN_MAX_DIM || n_kv == 0 ||
        n_kv > 256) {
        (void)fprintf(stderr, "checkkern: --bench attention [TYPE [POSITIONS [QUERIES [COLUMNS [HEADS]]]]]\n");
        return;
    }
    kernels_init(&b.k, CPU_ALL);
    if (team_open(&b.team, team_default_threads(), &e) < 0) {
        (void)fprintf(stderr, "checkkern: %s\n", e.msg);
        return;
    }
    b.a = (struct attn_args){ .n_heads = group * n_kv, .n_kv_heads = n_kv, .k_dim = dim,
                              .v_dim = dim, .scale = 0.1f, .write = true };
    b.n_segments = (b.n_keys + ATTN_SEGMENT_TOKENS - 1) / ATTN_SEGMENT_TOKENS;
    n_partials = (size_t)b.n_segments * b.a.n_heads * (dim + 2);
    b.q = need_map((size_t)b.a.n_heads * dim * sizeof *b.q);
    b.out = need_map((size_t)b.a.n_heads * dim * sizeof *b.out);
    b.partials = need_map(n_partials * sizeof *b.partials);
    b.scratch_bytes = (attn_scratch_bytes(dim, dim) + 63) & ~(size_t)63;
    b.scratch = need_map(b.scratch_bytes * team_size(b.team));
    open_cache(&b, dtype);
    measure(&b, dtype_name(dtype));
    kv_layout_deinit(&b.layout);
    team_close(b.team);
}
