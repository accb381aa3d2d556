/* test_encoder.c: what encoders need of programs: attention both ways, windows on both sides,
 * relative buckets, token types, pooled rows; the CPU executor against the interpreter on every
 * instruction set, and the same bits beside other texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "chips/cpu/attention.h"
#include "chips/cpu/exec.h"
#include "chips/relative.h"

enum { VOCAB = 50, EMBD = 32, HEADS = 4, KV_HEADS = 2, DIM = 12, TYPES = 2, MAX_WEIGHTS = 40,
       TEXTS = 3, PAGES = 4, MAX_ROWS = 300 };

static const uint32_t lengths[TEXTS] = { 33, 150, 1 };

struct rig {
    struct program *p;
    struct kv_layout layout;
    float   *data[MAX_WEIGHTS];
    size_t   n_data;
    struct rng rng;
};

static wid weight(struct rig *g, int64_t a, int64_t b, float sigma)
{
    struct tensor t = { .dtype = DTYPE_F32, .n_dims = b ? 2 : 1, .shape = { a, b } };
    const size_t n = (size_t)(a * (b ? b : 1));
    char name[32];

    assert_true(g->n_data < MAX_WEIGHTS);
    g->data[g->n_data] = mem_array(n, sizeof(float));
    assert_non_null(g->data[g->n_data]);
    for (size_t i = 0; i < n; i++)
        g->data[g->n_data][i] = sigma * (float)rng_normal(&g->rng);
    (void)snprintf(name, sizeof name, "w%zu", g->n_data);
    t.data = g->data[g->n_data++];
    t.size_bytes = n * sizeof(float);
    return prog_weight(g->p, name, &t);
}

static val linear(struct rig *g, val x, int64_t n_out)
{
    const uint32_t n_in = prog_width(g->p, x);

    return prog_linear(g->p, x, weight(g, n_out, n_in, 1 / sqrtf((float)n_in)), 0, 0,
                       (struct linear_args){ 0 });
}

static val layer(struct rig *g, val x, const struct attn_args *kind)
{
    struct attn_args a = *kind;
    const val q = linear(g, x, HEADS * DIM), k = linear(g, x, KV_HEADS * DIM);
    const val v = linear(g, x, KV_HEADS * DIM);
    val h;

    a.n_heads = HEADS;
    a.n_kv_heads = KV_HEADS;
    a.k_dim = a.v_dim = DIM;
    a.scale = 0.4f;
    a.write = true;
    if (a.n_buckets)
        a.buckets = weight(g, a.n_buckets, HEADS, 1);
    h = prog_attention(g->p, q, k, v, 0, prog_state_kv(g->p, KV_HEADS, DIM, DIM, a.window), &a);
    return prog_norm(g->p, prog_add(g->p, x, linear(g, h, EMBD)), weight(g, EMBD, 0, 1),
                     weight(g, EMBD, 0, 1), (struct norm_args){ .kind = NORM_LAYER, .eps = 1e-5f });
}

static void rig_init(struct rig *g, bool pooled)
{
    static const struct attn_args kinds[] = {
        { .mask = MASK_NONE }, { .mask = MASK_SYMMETRIC, .window = 16 },
        { .mask = MASK_NONE, .n_buckets = 8, .max_distance = 20 },
        { .mask = MASK_NONE, .n_buckets = 32, .max_distance = 128 },
    };
    struct err e = { 0 };
    val x;

    *g = (struct rig){ 0 };
    rng_init(&g->rng, 11);
    assert_int_equal(prog_open(&g->p, &e), 0);
    x = prog_embed(g->p, weight(g, VOCAB, EMBD, 1), (struct embed_args){ .by = EMBED_TOKEN });
    x = prog_add(g->p, x, prog_embed(g->p, weight(g, TYPES, EMBD, 1),
                                     (struct embed_args){ .by = EMBED_TYPE }));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        x = layer(g, x, &kinds[i]);
    x = pooled ? prog_pool(g->p, x) : prog_rows(g->p, x);
    prog_output(g->p, linear(g, x, EMBD));
    if (prog_finish(g->p, &e) != 0)
        fail_msg("%s", e.msg);
    if (kv_layout_init(&g->layout, g->p, DTYPE_F32, DTYPE_F32, &e) != 0)
        fail_msg("%s", e.msg);
}

static void rig_deinit(struct rig *g)
{
    kv_layout_deinit(&g->layout);
    prog_close(g->p);
    for (size_t i = 0; i < g->n_data; i++)
        mem_free(g->data[i]);
}

struct texts {
    int32_t  token[MAX_ROWS], type[MAX_ROWS];
    uint32_t row_stream[MAX_ROWS], out_row[MAX_ROWS], page[TEXTS][PAGES];
    struct stream streams[TEXTS];
    struct batch b;
};

/* Texts [first, first + n) in one step; the tokens of a text are the same in every batch. */
static void make_texts(struct texts *t, uint32_t first, uint32_t n)
{
    uint32_t row = 0;

    memset(t, 0, sizeof *t);
    for (uint32_t s = 0; s < n; s++) {
        const uint32_t text = first + s;
        struct rng r;

        rng_init(&r, 100 + text);
        t->streams[s] = (struct stream){ .first_row = row, .n_rows = lengths[text],
                                         .pages = t->page[s] };
        for (uint32_t i = 0; i < PAGES; i++)
            t->page[s][i] = (s * PAGES + i) * 5 % (TEXTS * PAGES);
        for (uint32_t i = 0; i < lengths[text]; i++, row++) {
            t->token[row] = (int32_t)rng_below(&r, VOCAB);
            t->type[row] = i > lengths[text] / 2;
            t->row_stream[row] = s;
            t->out_row[row] = row;
        }
    }
    t->b = (struct batch){ .n_rows = row, .n_streams = n, .n_out = row, .token = t->token,
                           .type = t->type, .row_stream = t->row_stream, .streams = t->streams,
                           .out_row = t->out_row };
}

static const struct exec_limits limits = { .max_rows = MAX_ROWS, .max_streams = TEXTS,
                                           .max_out = MAX_ROWS };

static void step(const struct rig *g, struct exec *x, struct texts *t, float *out)
{
    const size_t bytes = (size_t)g->layout.page_bytes * TEXTS * PAGES;
    uint8_t *pages = mem_aligned(bytes, 64);
    struct err e = { 0 };

    assert_non_null(pages);
    memset(pages, 0xFF, bytes);     /* NaN where nothing was written */
    if (exec_step(x, &t->b, pages, out, &e) != 0)
        fail_msg("%s", e.msg);
    mem_free(pages);
}

static void compare(const float *got, const float *want, size_t n, const char *what)
{
    double worst = 0, largest = 0;

    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)got[i] - want[i]));
        largest = fmax(largest, fabs((double)want[i]));
    }
    if (!(worst <= 1e-5 * largest))
        fail_msg("%s: %g off of %g", what, worst, largest);
}

static float want[MAX_ROWS * EMBD], got[MAX_ROWS * EMBD], alone[MAX_ROWS * EMBD];

static void check(bool pooled)
{
    static const char *const masks[] = { "ref", "avx2", "avx512", "neon", "all" };
    struct exec *ref = NULL;
    struct team *team = NULL;
    struct err e = { 0 };
    struct texts t;
    struct rig g;

    rig_init(&g, pooled);
    assert_int_equal(team_open(&team, 2, &e), 0);
    assert_int_equal(interp_open(&ref, g.p, &g.layout, &limits, &e), 0);
    make_texts(&t, 0, TEXTS);
    step(&g, ref, &t, want);
    for (size_t m = 0; m < sizeof masks / sizeof *masks; m++) {
        struct cpu_exec_opts o = { .team = team };
        struct exec *x = NULL;
        size_t at = 0;

        if (!cpu_mask_parse(masks[m], &o.isa_mask))
            continue;
        assert_int_equal(cpu_exec_open(&x, g.p, &g.layout, &limits, &o, &e), 0);
        make_texts(&t, 0, TEXTS);
        step(&g, x, &t, got);
        compare(got, want, (size_t)(pooled ? TEXTS : t.b.n_rows) * EMBD, masks[m]);
        for (uint32_t i = 0; i < TEXTS; i++) {
            const size_t n = (pooled ? 1 : lengths[i]) * (size_t)EMBD;

            make_texts(&t, i, 1);
            step(&g, x, &t, alone);
            assert_memory_equal(alone, got + at, n * sizeof *alone);
            at += n;
        }
        exec_close(x);
    }
    exec_close(ref);
    team_close(team);
    rig_deinit(&g);
}

static void test_rows(void **state)
{
    (void)state;
    check(false);
}

static void test_pooled(void **state)
{
    (void)state;
    check(true);
}

/* The batch is refused before anything is written. */
static void test_bad_batches(void **state)
{
    struct exec *x = NULL;
    struct err e = { 0 };
    struct texts t;
    struct rig g;

    (void)state;
    rig_init(&g, true);
    assert_int_equal(interp_open(&x, g.p, &g.layout, &limits, &e), 0);
    make_texts(&t, 0, 1);
    t.type[3] = TYPES;
    assert_int_equal(exec_step(x, &t.b, NULL, got, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "token type 2 is outside 0..1"));
    t.type[3] = -1;
    assert_int_equal(exec_step(x, &t.b, NULL, got, &e), WATT_EINVAL);
    t.type[3] = 0;
    t.streams[0].n_past = 1;
    assert_int_equal(exec_step(x, &t.b, NULL, got, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "is pooled, but begins at position 1"));
    exec_close(x);
    rig_deinit(&g);
}

static void expect_failure(const struct attn_args *kind, const char *part)
{
    struct err e = { 0 };
    struct rig g = { 0 };
    val x;

    rng_init(&g.rng, 1);
    assert_int_equal(prog_open(&g.p, &e), 0);
    x = prog_embed(g.p, weight(&g, VOCAB, EMBD, 1), (struct embed_args){ .by = EMBED_TOKEN });
    prog_output(g.p, prog_rows(g.p, layer(&g, x, kind)));
    assert_true(prog_finish(g.p, &e) < 0);
    if (!strstr(e.msg, part))
        fail_msg("\"%s\" has no \"%s\"", e.msg, part);
    prog_close(g.p);
    for (size_t i = 0; i < g.n_data; i++)
        mem_free(g.data[i]);
}

static void test_bad_programs(void **state)
{
    const struct attn_args odd = { .mask = MASK_NONE, .n_buckets = 6, .max_distance = 128 };
    const struct attn_args near = { .mask = MASK_NONE, .n_buckets = 32, .max_distance = 8 };

    (void)state;
    expect_failure(&odd, "number of relative buckets is 6");
    expect_failure(&near, "distance of the last relative bucket is 8");
}

/* Distances at which the published implementation changes its bucket. */
static void test_buckets(void **state)
{
    static const int64_t at[] = { -90, -63, -45, -31, -22, -15, -11, -7, -6, -5, -4, -3, -2, -1, 0 };
    static const uint32_t bucket[] = { 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0 };
    static const int64_t ahead[] = { 1, 2, 7, 8, 11, 12, 16, 23, 32, 46, 64, 90, 91, 128, 1 << 20 };
    static const uint32_t right[] = { 17, 18, 23, 24, 24, 25, 26, 27, 28, 29, 30, 30, 31, 31, 31 };

    (void)state;
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        assert_int_equal(relative_bucket(at[i], 32, 128), bucket[i]);
        if (at[i] < -7)     /* the bucket before begins one further away */
            assert_int_equal(relative_bucket(at[i] - 1, 32, 128), bucket[i] + 1);
        assert_int_equal(relative_bucket(ahead[i], 32, 128), right[i]);
    }
    assert_int_equal(relative_bucket(-200, 32, 128), 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_pooled),
        cmocka_unit_test(test_bad_batches),
        cmocka_unit_test(test_bad_programs),
        cmocka_unit_test(test_buckets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
