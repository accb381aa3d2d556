/* checkkern_attention.c: attention over the paged cache and the store into it, against the
 * reference in double: every cache type, head size, mask, cap, slope and sink; and the
 * promise that a query's bits depend neither on the queries beside it nor on whether long
 * contexts were cut into segments.
 *
 * Unwritten cache is NaN, so that a kernel that reads beyond the last key shows. */
#include "checkkern.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "chips/cpu/attention.h"

struct setup {
    struct ck *ck;
    const struct kernels *k, *ref;
    struct program *p;
    struct kv_layout layout;
    struct attn_args a;
    uint32_t n_keys, n_pages;
    uint8_t *pages;
    uint32_t *table;
    float *q, *sinks, *slopes;
    void *scratch;
};

static float *floats(size_t n)
{
    float *p = calloc(n ? n : 1, sizeof *p);

    if (!p)
        abort();
    return p;
}

static void randomise(struct ck *ck, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&ck->rng);
}

/* A program of nothing but the state, for the layout. */
static void open_layout(struct setup *s, enum dtype dtype)
{
    struct err e = { 0 };

    if (prog_open(&s->p, &e) != 0 ||
        prog_state_kv(s->p, s->a.n_kv_heads, s->a.k_dim, s->a.v_dim, 0) != 1 ||
        kv_layout_init(&s->layout, s->p, dtype, dtype, &e) != 0) {
        (void)fprintf(stderr, "checkkern: %s\n", e.msg);
        abort();
    }
}

static void open_setup(struct setup *s, struct ck *ck, const struct kernels *k,
                       const struct kernels *ref, const struct attn_args *a, uint32_t n_keys,
                       enum dtype dtype)
{
    size_t bytes;
    float *kv;

    *s = (struct setup){ .ck = ck, .k = k, .ref = ref, .a = *a, .n_keys = n_keys };
    open_layout(s, dtype);
    s->n_pages = (n_keys + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    bytes = (size_t)s->n_pages * s->layout.page_bytes;
    s->pages = aligned_alloc(64, bytes);
    s->table = calloc(s->n_pages, sizeof *s->table);
    s->q = floats((size_t)n_keys * a->n_heads * a->k_dim);
    s->sinks = floats(a->n_heads);
    s->slopes = floats(a->n_heads);
    s->scratch = aligned_alloc(64, (attn_scratch_bytes(a->k_dim, a->v_dim) + 63) & ~(size_t)63);
    kv = floats((size_t)a->n_kv_heads * (a->k_dim + a->v_dim));
    if (!s->pages || !s->table || !s->scratch)
        abort();
    memset(s->pages, 0xFF, bytes);
    for (uint32_t i = 0; i < s->n_pages; i++)
        s->table[i] = s->n_pages - 1 - i;
    for (uint32_t i = 0; i < n_keys; i++) {
        uint8_t *page = s->pages + (size_t)s->table[i / KV_PAGE_TOKENS] * s->layout.page_bytes;

        randomise(ck, kv, (size_t)a->n_kv_heads * (a->k_dim + a->v_dim));
        k->kv_store(&s->layout, page, 1, i % KV_PAGE_TOKENS, kv,
                    kv + (size_t)a->n_kv_heads * a->k_dim);
    }
    free(kv);
    randomise(ck, s->q, (size_t)n_keys * a->n_heads * a->k_dim);
    randomise(ck, s->sinks, a->n_heads);
    attn_slopes(s->slopes, a->n_heads, a->alibi_max_bias ? a->alibi_max_bias : 8.0f);
}

static void close_setup(struct setup *s)
{
    kv_layout_deinit(&s->layout);
    prog_close(s->p);
    free(s->pages);
    free(s->table);
    free(s->q);
    free(s->sinks);
    free(s->slopes);
    free(s->scratch);
}

/* Rows [pos, pos + n) as tasks of `rows` rows and `heads` heads of a group. */
static void run(const struct setup *s, const struct kernels *k, uint32_t pos, uint32_t n,
                uint32_t rows, uint32_t heads, bool sinks, bool split, float *out)
{
    const struct attn_args *a = &s->a;
    const uint32_t group = a->n_heads / a->n_kv_heads;
    const uint32_t n_segments = (s->n_keys + ATTN_SEGMENT_TOKENS - 1) / ATTN_SEGMENT_TOKENS;
    const size_t pf = (size_t)a->v_dim + 2;
    float *partial = floats((size_t)ATTN_MAX_QUERIES * n_segments * pf);

    for (uint32_t r = 0; r < n; r += rows)
        for (uint32_t kvh = 0; kvh < a->n_kv_heads; kvh++)
            for (uint32_t h = 0; h < group; h += heads) {
                struct attn_task t = {
                    .args = a, .layout = &s->layout, .state = 1, .kv_pages = s->pages,
                    .pages = s->table, .n_keys = s->n_keys, .kv_head = kvh, .first_head = h,
                    .n_heads = group - h < heads ? group - h : heads, .first_pos = pos + r,
                    .n_rows = n - r < rows ? n - r : rows,
                    .q = s->q + (size_t)(pos + r) * a->n_heads * a->k_dim,
                    .q_stride = (size_t)a->n_heads * a->k_dim,
                    .out = out + (size_t)r * a->n_heads * a->v_dim,
                    .out_stride = (size_t)a->n_heads * a->v_dim,
                    .sinks = sinks ? s->sinks : NULL,
                    .slopes = a->alibi_max_bias != 0 ? s->slopes : NULL, .scratch = s->scratch };

                if (!split) {
                    k->attention(&t);
                    continue;
                }
                t.partial_stride = n_segments * pf;
                for (t.segment = 0; t.segment < n_segments; t.segment++) {
                    t.partial = partial + t.segment * pf;
                    k->attention(&t);
                }
                t.partial = partial;
                k->attention_merge(&t, n_segments, pf);
            }
    free(partial);
}

static void compare(const struct setup *s, const float *got, const float *want, size_t n,
                    const char *what)
{
    /* queries of an 8-bit cache may be rounded to 16 bits, a hundredth of the cache's own rounding */
    const float tolerance = s->layout.k_dtype == DTYPE_Q8_0 ? 2e-4f : 2e-5f;
    float top = 0;

    for (size_t i = 0; i < n; i++)
        top = fabsf(want[i]) > top ? fabsf(want[i]) : top;
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(got[i] - want[i]) <= tolerance * top)) {
            ck_expect(s->ck, false, "attention %s, cache %s, %u keys, heads %u/%u of %u/%u, mask %d "
                      "window %u: %.8g, expected %.8g", what, dtype_name(s->layout.k_dtype),
                      s->n_keys, s->a.n_heads, s->a.n_kv_heads, s->a.k_dim, s->a.v_dim,
                      (int)s->a.mask, s->a.window, (double)got[i], (double)want[i]);
            return;
        }
    ck_expect(s->ck, true, "attention");
}

static void check(struct setup *s, bool sinks)
{
    const struct attn_args *a = &s->a;
    const uint32_t group = a->n_heads / a->n_kv_heads;
    const uint32_t heads = group < ATTN_MAX_QUERIES ? group : ATTN_MAX_QUERIES;
    const uint32_t most = s->ck->full ? 40 : 10, n = s->n_keys < most ? s->n_keys : most;
    const uint32_t pos = s->n_keys - n;
    const size_t floats_n = (size_t)n * a->n_heads * a->v_dim;
    float *want = floats(floats_n), *got = floats(floats_n), *other = floats(floats_n);

    run(s, s->ref, pos, n, 1, heads, sinks, false, want);
    run(s, s->k, pos, n, ATTN_MAX_QUERIES / heads, heads, sinks, false, got);
    compare(s, got, want, floats_n, "blocked");
    run(s, s->k, pos, n, 1, 1, sinks, false, other);
    ck_expect(s->ck, memcmp(got, other, floats_n * sizeof *got) == 0,
              "attention: a query alone has other bits (cache %s, %u keys, mask %d)",
              dtype_name(s->layout.k_dtype), s->n_keys, (int)a->mask);
    run(s, s->k, pos, n, 1, heads, sinks, true, other);
    ck_expect(s->ck, memcmp(got, other, floats_n * sizeof *got) == 0,
              "attention: cut into segments it has other bits (cache %s, %u keys, mask %d)",
              dtype_name(s->layout.k_dtype), s->n_keys, (int)a->mask);
    free(want);
    free(got);
    free(other);
}

/* The store against the scalar one, byte for byte. */
static void check_store(struct ck *ck, const struct kernels *k, enum dtype dtype)
{
    struct setup s = { .ck = ck, .a = { .n_heads = 3, .n_kv_heads = 3, .k_dim = 48, .v_dim = 80 } };
    float kv[3 * 128];
    uint8_t *one, *two;

    open_layout(&s, dtype);
    one = calloc(1, s.layout.page_bytes);
    two = calloc(1, s.layout.page_bytes);
    if (!one || !two)
        abort();
    for (uint32_t token = 0; token < KV_PAGE_TOKENS; token++) {
        randomise(ck, kv, 3 * 128);
        k->kv_store(&s.layout, one, 1, token, kv, kv + 3 * 48);
        for (uint32_t h = 0; h < 3; h++) {
            kv_write_k(&s.layout, two, 1, h, token, kv + h * 48);
            kv_write_v(&s.layout, two, 1, h, token, kv + 3 * 48 + h * 80);
        }
    }
    ck_expect(ck, memcmp(one, two, s.layout.page_bytes) == 0, "kv_store of %s: other bytes",
              dtype_name(dtype));
    free(one);
    free(two);
    kv_layout_deinit(&s.layout);
    prog_close(s.p);
}

void ck_attention(struct ck *ck, const struct kernels *k, const struct kernels *ref)
{
    static const enum dtype types[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0 };
    static const struct { uint32_t heads, kv, k_dim, v_dim; } shapes[] = {
        { 4, 1, 64, 64 }, { 6, 2, 40, 48 }, { 3, 3, 128, 128 }, { 2, 1, 20, 12 }, { 40, 1, 32, 33 },
    };
    static const uint32_t keys[] = { 1, 17, 200, 513, 2100, 4200 };

    for (size_t t = 0; t < 4; t++) {
        check_store(ck, k, types[t]);
        for (size_t h = 0; h < 5; h++)
            for (size_t n = 0; n < (ck->full ? 6 : ck->brief ? 2 : 3); n++) {
                const struct attn_args base = {
                    .n_heads = shapes[h].heads, .n_kv_heads = shapes[h].kv,
                    .k_dim = shapes[h].k_dim, .v_dim = shapes[h].v_dim, .scale = 0.2f,
                    .softcap = n % 2 ? 15.0f : 0, .write = true,
                    .mask = (enum mask_kind)((n + h + t) % 4), .window = n % 3 ? 37 + 50 * (uint32_t)n : 0,
                    .alibi_max_bias = h % 2 ? 8.0f : 0 };
                struct attn_args a = base;
                struct setup s;

                if ((a.mask == MASK_CHUNKED || a.mask == MASK_SYMMETRIC) && a.window == 0)
                    a.window = 20;
                open_setup(&s, ck, k, ref, &a, keys[n], types[t]);
                check(&s, (n + t) % 2);
                close_setup(&s);
            }
    }
    {   /* past one segment, so that there is something to merge */
        const struct attn_args a = { .n_heads = 4, .n_kv_heads = 2, .k_dim = 16, .v_dim = 16,
                                     .scale = 0.3f, .write = true };
        struct setup s;

        open_setup(&s, ck, k, ref, &a, 2 * ATTN_SEGMENT_TOKENS + 100, DTYPE_F16);
        check(&s, true);
        close_setup(&s);
    }
}
