/* test_exec.c: the CPU executor against the reference interpreter, and the promise that
 * bits do not depend on chunking, neighbours, or threads; on a program with most
 * operations in it, random weights, several element types and every mask. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "chips/cpu/attention.h"
#include "chips/cpu/exec.h"
#include "chips/cpu/features.h"
#include "chips/quant_random.h"

enum { VOCAB = 96, EMBD = 256, HEADS = 6, KV_HEADS = 2, K_DIM = 40, V_DIM = 48, FF = 512,
       EXPERTS = 5, USED = 2, EXPERT_FF = 256, MAX_WEIGHTS = 64, LAYERS = 2 };

/* A program, its weights, and a cache for N_SEQ streams of N_CTX positions. */
struct rig {
    struct program *p;
    struct kv_layout layout;
    void    *data[MAX_WEIGHTS];
    size_t   n_data;
    struct rng rng;
    enum dtype dtype;
};

static struct tensor random_tensor(struct rig *g, enum dtype dtype, int n_dims, int64_t a,
                                   int64_t b, int64_t c, float sigma)
{
    struct tensor t = { .dtype = dtype, .n_dims = (uint8_t)n_dims, .shape = { a, b, c } };
    uint64_t row = 0;
    void *data;

    assert_true(dtype_row_bytes(dtype, (uint64_t)tensor_row(&t), &row));
    t.size_bytes = row * (uint64_t)(tensor_elems(&t) / tensor_row(&t));
    data = mem_alloc((size_t)t.size_bytes);
    assert_non_null(data);
    quant_random_blocks(dtype, data, (size_t)tensor_elems(&t), sigma, &g->rng);
    assert_true(g->n_data < MAX_WEIGHTS);
    g->data[g->n_data++] = data;
    t.data = data;
    return t;
}

static wid matrix(struct rig *g, const char *name, int layer, int64_t n_out, int64_t n_in)
{
    char full[64];
    struct tensor t = random_tensor(g, g->dtype, 2, n_out, n_in, 0, 1.0f / sqrtf((float)n_in));

    (void)snprintf(full, sizeof full, "%s.%d", name, layer);
    return prog_weight(g->p, full, &t);
}

static wid experts(struct rig *g, const char *name, int layer, int64_t n_out, int64_t n_in)
{
    char full[64];
    struct tensor t = random_tensor(g, g->dtype, 3, EXPERTS, n_out, n_in,
                                    1.0f / sqrtf((float)n_in));

    (void)snprintf(full, sizeof full, "%s.%d", name, layer);
    return prog_weight(g->p, full, &t);
}

static wid vector(struct rig *g, const char *name, int layer, int64_t n, float sigma)
{
    char full[64];
    struct tensor t = random_tensor(g, DTYPE_F32, 1, n, 0, 0, sigma);

    (void)snprintf(full, sizeof full, "%s.%d", name, layer);
    return prog_weight(g->p, full, &t);
}

static val layer(struct rig *g, val x, int l)
{
    struct program *p = g->p;
    const struct norm_args rms = { .kind = NORM_RMS, .eps = 1e-5f };
    const struct norm_args heads = { .kind = NORM_RMS, .group = K_DIM, .eps = 1e-5f };
    const struct norm_args ln = { .kind = NORM_LAYER, .eps = 1e-5f };
    const struct rope_args rope = { .pairing = l ? ROPE_NEOX : ROPE_NORMAL, .n_heads = HEADS,
                                    .head_dim = K_DIM, .n_rot = K_DIM - 8, .base = 10000,
                                    .freq_scale = 1, .attn_factor = 1 };
    struct rope_args rope_k = rope;
    const struct attn_args attn = { .n_heads = HEADS, .n_kv_heads = KV_HEADS, .k_dim = K_DIM,
                                    .v_dim = V_DIM, .scale = 0.15f, .softcap = l ? 20.0f : 0,
                                    .window = l ? 50 : 0, .write = true,
                                    .alibi_max_bias = l ? 0 : 8.0f };
    const struct route_args route = { .score = ROUTE_SOFTMAX, .n_experts = EXPERTS, .n_used = USED,
                                      .normalise = true };
    const sid s = prog_state_kv(p, KV_HEADS, K_DIM, V_DIM, attn.window);
    val h, q, k, v, gate, ids, weights;

    prog_layer(p, (uint32_t)l);
    rope_k.n_heads = KV_HEADS;
    h = prog_norm(p, x, vector(g, "norm", l, EMBD, 1), 0, rms);
    q = prog_linear(p, h, matrix(g, "q", l, HEADS * K_DIM, EMBD), vector(g, "qb", l, HEADS * K_DIM, 0.1f), 0,
                    (struct linear_args){ 0 });
    q = prog_rope(p, prog_norm(p, q, vector(g, "qn", l, K_DIM, 1), 0, heads), 0, &rope);
    k = prog_linear(p, h, matrix(g, "k", l, KV_HEADS * K_DIM, EMBD), 0, 0, (struct linear_args){ 0 });
    k = prog_rope(p, k, 0, &rope_k);
    v = prog_linear(p, h, matrix(g, "v", l, KV_HEADS * V_DIM, EMBD), 0, 0,
                    (struct linear_args){ .scale = 0.5f });
    h = prog_attention(p, q, k, v, vector(g, "sink", l, HEADS, 1), s, &attn);
    /* 288 inputs: no whole number of 256-blocks, so this one is always F32 */
    g->dtype = g->dtype == DTYPE_F32 ? DTYPE_F32 : g->dtype;
    {
        const enum dtype keep = g->dtype;

        if (HEADS * V_DIM % dtype_info(keep)->block_elems != 0)
            g->dtype = DTYPE_F16;
        h = prog_linear(p, h, matrix(g, "o", l, EMBD, HEADS * V_DIM), 0, 0, (struct linear_args){ 0 });
        g->dtype = keep;
    }
    x = prog_add(p, x, h);
    h = prog_norm(p, x, vector(g, "norm2", l, EMBD, 1), vector(g, "norm2b", l, EMBD, 0.2f), ln);
    if (l == 0) {
        gate = prog_linear(p, h, matrix(g, "gate", l, 2 * FF, EMBD), 0, 0, (struct linear_args){ 0 });
        gate = prog_gated(p, prog_cols(p, gate, 0, FF), prog_cols(p, gate, FF, FF),
                          (struct act_args){ .act = ACT_SILU });
        h = prog_linear(p, gate, matrix(g, "down", l, EMBD, FF), 0, 0, (struct linear_args){ 0 });
        return prog_add(p, x, h);
    }
    prog_route(p, prog_linear(p, h, matrix(g, "router", l, EXPERTS, EMBD), 0, 0,
                              (struct linear_args){ 0 }),
               vector(g, "routeb", l, EXPERTS, 0.1f), &route, &ids, &weights);
    gate = prog_expert_linear(p, h, ids, experts(g, "eg", l, EXPERT_FF, EMBD),
                              vector(g, "egb", l, EXPERTS * EXPERT_FF, 0.1f), 0);
    v = prog_expert_linear(p, h, ids, experts(g, "eu", l, EXPERT_FF, EMBD), 0,
                           vector(g, "eus", l, EXPERTS, 1));
    gate = prog_gated(p, gate, v, (struct act_args){ .act = ACT_GELU_ERF });   /* the interpreter rounds the tanh form to halves */
    h = prog_expert_linear(p, gate, ids, experts(g, "ed", l, EMBD, EXPERT_FF), 0, 0);
    return prog_add(p, x, prog_expert_sum(p, h, weights));
}

static void rig_init(struct rig *g, enum dtype dtype, enum dtype kv)
{
    struct err e = { 0 };
    struct tensor table;
    val x;

    *g = (struct rig){ .dtype = dtype };
    rng_init(&g->rng, 7);
    assert_int_equal(prog_open(&g->p, &e), 0);
    table = random_tensor(g, dtype, 2, VOCAB, EMBD, 0, 1);
    x = prog_embed(g->p, prog_weight(g->p, "embd", &table), (struct embed_args){ .by = EMBED_TOKEN });
    for (int l = 0; l < LAYERS; l++)
        x = layer(g, x, l);
    x = prog_norm(g->p, prog_rows(g->p, x), vector(g, "out", 0, EMBD, 1), 0,
                  (struct norm_args){ .kind = NORM_RMS, .eps = 1e-5f });
    x = prog_linear(g->p, x, prog_weight(g->p, "embd", &table), 0, 0, (struct linear_args){ 0 });
    prog_output(g->p, prog_unary(g->p, x, (struct act_args){ .act = ACT_SOFTCAP, .param = 30 }));
    if (prog_finish(g->p, &e) != 0)
        fail_msg("%s", e.msg);
    if (kv_layout_init(&g->layout, g->p, kv, kv, &e) != 0)
        fail_msg("%s", e.msg);
}

static void rig_deinit(struct rig *g)
{
    kv_layout_deinit(&g->layout);
    prog_close(g->p);
    for (size_t i = 0; i < g->n_data; i++)
        mem_free(g->data[i]);
}

enum { MAX_SEQ = 8, PAGES_PER_SEQ = 3, MAX_TOKENS = PAGES_PER_SEQ * 64 };

/* A cache whose pages are scattered, full of NaN where nothing was written. */
struct cache {
    uint8_t *pages;
    uint32_t table[MAX_SEQ][PAGES_PER_SEQ];
    uint32_t len[MAX_SEQ];
};

static void cache_init(struct cache *c, const struct rig *g)
{
    const size_t bytes = (size_t)g->layout.page_bytes * MAX_SEQ * PAGES_PER_SEQ;

    c->pages = mem_aligned(bytes, 64);
    assert_non_null(c->pages);
    memset(c->pages, 0xFF, bytes);
    for (uint32_t s = 0; s < MAX_SEQ; s++) {
        c->len[s] = 0;
        for (uint32_t i = 0; i < PAGES_PER_SEQ; i++)
            c->table[s][i] = (s * 5 + i * 7) % (MAX_SEQ * PAGES_PER_SEQ);
    }
    /* 5s + 7i mod 24 is not one to one: number them apart */
    for (uint32_t s = 0; s < MAX_SEQ; s++)
        for (uint32_t i = 0; i < PAGES_PER_SEQ; i++)
            c->table[s][i] = (s * PAGES_PER_SEQ + i) * 5 % (MAX_SEQ * PAGES_PER_SEQ);
}

/* Appends n tokens to each of n_seq sequences in one step; logits of every row of
 * sequence 0 to out. */
static void feed(struct exec *x, struct cache *c, const int32_t *const *tokens, uint32_t n_seq,
                 uint32_t n, float *out, float *work)
{
    int32_t ids[MAX_SEQ * MAX_TOKENS];
    uint32_t row_stream[MAX_SEQ * MAX_TOKENS], out_row[MAX_TOKENS];
    struct stream streams[MAX_SEQ];
    struct err e = { 0 };
    struct batch b = { .n_rows = n * n_seq, .n_streams = n_seq, .n_out = n, .token = ids,
                       .row_stream = row_stream, .streams = streams, .out_row = out_row };

    for (uint32_t k = 0; k < n_seq; k++) {
        const uint32_t s = n_seq - 1 - k;       /* sequence 0 comes last in the batch */

        streams[k] = (struct stream){ .first_row = k * n, .n_rows = n, .n_past = c->len[s],
                                      .pages = c->table[s] };
        for (uint32_t i = 0; i < n; i++) {
            ids[k * n + i] = tokens[s][c->len[s] + i];
            row_stream[k * n + i] = k;
        }
        c->len[s] += n;
    }
    for (uint32_t i = 0; i < n; i++)
        out_row[i] = (n_seq - 1) * n + i;
    if (exec_step(x, &b, c->pages, work, &e) != 0)
        fail_msg("%s", e.msg);
    memcpy(out, work, (size_t)n * VOCAB * sizeof *out);
}

/* Logits of n tokens of sequence 0 fed in steps of `chunk`, beside n_seq - 1 others. */
static void run(const struct rig *g, struct exec *x, uint32_t n, uint32_t chunk, uint32_t n_seq,
                float *out)
{
    static int32_t text[MAX_SEQ][MAX_TOKENS];
    const int32_t *tokens[MAX_SEQ];
    float *work = mem_array((size_t)n * VOCAB, sizeof *work);
    struct cache c;
    struct rng r;

    assert_non_null(work);
    rng_init(&r, 99);
    for (uint32_t s = 0; s < MAX_SEQ; s++) {
        for (uint32_t i = 0; i < MAX_TOKENS; i++)
            text[s][i] = (int32_t)rng_below(&r, VOCAB);
        tokens[s] = text[s];
    }
    cache_init(&c, g);
    for (uint32_t at = 0; at < n; at += chunk)
        feed(x, &c, tokens, n_seq, n - at < chunk ? n - at : chunk, out + (size_t)at * VOCAB, work);
    mem_free(c.pages);
    mem_free(work);
}

static double nmse(const float *a, const float *ref, size_t n)
{
    double d = 0, s = 0;

    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - ref[i]) * ((double)a[i] - ref[i]);
        s += (double)ref[i] * ref[i];
    }
    return d / s;
}

static const struct exec_limits limits = { .max_rows = 640, .max_streams = MAX_SEQ, .max_out = 160 };

static struct exec *open_cpu(const struct rig *g, struct team *team, uint32_t mask)
{
    const struct cpu_exec_opts o = { .team = team, .isa_mask = mask };
    struct exec *x = NULL;
    struct err e = { 0 };

    if (cpu_exec_open(&x, g->p, &g->layout, &limits, &o, &e) != 0)
        fail_msg("%s", e.msg);
    return x;
}

static struct team *open_team(unsigned n)
{
    struct team *t = NULL;
    struct err e = { 0 };

    assert_int_equal(team_open(&t, n, &e), 0);
    return t;
}

enum { N = 100 };
static float want[N * VOCAB], got[N * VOCAB], other[N * VOCAB];

static const char *const masks[] = { "ref", "avx2", "avx512", "avx512vnni", "neon", "neondot", "all" };

/* False where this machine lacks some of it. */
static bool mask_usable(const char *name, uint32_t *mask)
{
    assert_true(cpu_mask_parse(name, mask));
    return *mask == CPU_ALL || (*mask & cpu_features()) == *mask;
}

/* Against the interpreter: exact types to rounding, quantised activations within their
 * noise. */
static void check_type(enum dtype dtype, enum dtype kv, double tolerance)
{
    struct rig g;
    struct exec *ref = NULL;
    struct err e = { 0 };
    struct team *team = open_team(2);

    rig_init(&g, dtype, kv);
    assert_int_equal(interp_open(&ref, g.p, &g.layout, &limits, &e), 0);
    run(&g, ref, N, N, 1, want);
    exec_close(ref);
    /* the reference kernels are slow: one exact and one quantised type are enough of them */
    for (size_t m = dtype == DTYPE_F32 && kv == DTYPE_F32 ? 0 : dtype != DTYPE_Q8_0;
         m < sizeof masks / sizeof *masks; m++) {
        uint32_t mask = 0;
        struct exec *x;

        if (!mask_usable(masks[m], &mask))
            continue;
        x = open_cpu(&g, team, mask);
        run(&g, x, N, N, 1, got);
        if (getenv("WATT_TEST_VERBOSE"))
            for (size_t r = 0; r < N; r++)
                if (nmse(got + r * VOCAB, want + r * VOCAB, VOCAB) > 1e-3)
                    print_message("row %zu: %g\n", r, nmse(got + r * VOCAB, want + r * VOCAB, VOCAB));
        if (getenv("WATT_TEST_VERBOSE"))
            print_message("%s cache %s mask %s: nmse %g\n", dtype_name(dtype), dtype_name(kv),
                          masks[m], nmse(got, want, N * VOCAB));
        if (!(nmse(got, want, N * VOCAB) <= tolerance))
            fail_msg("%s, cache %s, mask %s: nmse %g > %g", dtype_name(dtype), dtype_name(kv),
                     masks[m], nmse(got, want, N * VOCAB), tolerance);
        exec_close(x);
    }
    rig_deinit(&g);
    team_close(team);
}

static void test_against_reference(void **state)
{
    (void)state;
    check_type(DTYPE_F32, DTYPE_F32, 1e-10);
    check_type(DTYPE_F32, DTYPE_F16, 1e-7);
    check_type(DTYPE_F32, DTYPE_BF16, 1e-5);
    check_type(DTYPE_F32, DTYPE_Q8_0, 1e-5);
    check_type(DTYPE_F16, DTYPE_F16, 1e-7);
    check_type(DTYPE_BF16, DTYPE_BF16, 1e-3);
    check_type(DTYPE_Q8_0, DTYPE_F16, 3e-3);
    check_type(DTYPE_Q4_0, DTYPE_F16, 3e-3);
    check_type(DTYPE_Q4_K, DTYPE_Q8_0, 3e-3);
    check_type(DTYPE_Q6_K, DTYPE_F16, 3e-3);
    check_type(DTYPE_IQ4_XS, DTYPE_F16, 3e-3);
    check_type(DTYPE_IQ2_S, DTYPE_F16, 1e-7);   /* no layout of its own: the general path */
}

struct way { uint32_t chunk, n_seq; unsigned threads; };

/* All at once on one thread against other ways. */
static void check_bits(enum dtype dtype, enum dtype kv, uint32_t mask, const struct way *ways,
                       size_t n_ways)
{
    struct rig g;
    struct team *team = open_team(1);
    struct exec *x;

    rig_init(&g, dtype, kv);
    x = open_cpu(&g, team, mask);
    run(&g, x, N, N, 1, want);
    exec_close(x);
    team_close(team);
    for (size_t i = 0; i < N * VOCAB; i++)
        assert_true(isfinite(want[i]));
    for (size_t w = 0; w < n_ways; w++) {
        team = open_team(ways[w].threads);
        x = open_cpu(&g, team, mask);
        run(&g, x, N, ways[w].chunk, ways[w].n_seq, other);
        if (memcmp(other, want, sizeof want) != 0)
            fail_msg("%s, cache %s, mask %x: other bits in chunks of %u beside %u with %u threads",
                     dtype_name(dtype), dtype_name(kv), mask, ways[w].chunk, ways[w].n_seq - 1,
                     ways[w].threads);
        exec_close(x);
        team_close(team);
    }
    rig_deinit(&g);
}

static const enum dtype caches[] = { DTYPE_F16, DTYPE_Q8_0, DTYPE_BF16, DTYPE_F32 };

/* Chunks of 1, 7, 64, all at once; 1, 2, 3 threads; alone and beside seven others. */
static void test_same_bits(void **state)
{
    static const struct way ways[] = {
        { 1, 1, 2 }, { 7, 1, 3 }, { 7, 8, 2 }, { 64, 8, 1 }, { N, 1, 2 },
    };
    static const enum dtype types[] = { DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_BF16, DTYPE_F32 };
    static const char *const some[] = { "avx2", "neon", "all" };

    (void)state;
    for (size_t m = 0; m < sizeof some / sizeof *some; m++)
        for (size_t i = 0; i < 4; i++) {
            uint32_t mask = 0;

            if (!mask_usable(some[m], &mask))
                continue;
            check_bits(types[i], caches[(i + m) % 4], mask, ways, sizeof ways / sizeof *ways);
        }
}

static bool every_mask;         /* --full */

/* Every type that can be a weight, so every layout, on every mask that differs here; without
 * --full each type on one of them. */
static void test_same_bits_of_all_types(void **state)
{
    static const char *const all[] = { "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16",
                                       "neon", "neondot", "neoni8mm", "neonbf16" };
    static const struct way ways[] = { { 5, 3, 2 } };
    uint32_t differ[sizeof all / sizeof *all];
    size_t n_masks = 0, n = 0;

    (void)state;
    for (size_t m = 0; m < sizeof all / sizeof *all; m++) {
        uint32_t mask = 0;

        assert_true(cpu_mask_parse(all[m], &mask));
        mask &= cpu_features();
        if (mask != 0 && (n_masks == 0 || mask != differ[n_masks - 1]))
            differ[n_masks++] = mask;
    }
    for (uint32_t t = 0; t < DTYPE_COUNT; t++) {
        const struct dtype_info *info = dtype_info((enum dtype)t);

        if (!info || !info->dequant || t == DTYPE_F64)
            continue;
        for (size_t m = 0; m < n_masks; m++)
            if (every_mask || m == t % n_masks)
                check_bits((enum dtype)t, caches[n++ % 4], differ[m], ways, 1);
    }
    print_message("%zu types and masks\n", n);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_reference),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_same_bits_of_all_types),
    };

    every_mask = argc > 1 && strcmp(argv[1], "--full") == 0;
    return cmocka_run_group_tests_name("exec", tests, NULL, NULL);
}
