/* test_program.c: recording, shape rules, passes, memory plan, cost, cache layout. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "chips/exec.h"
#include "chips/kv_layout.h"
#include "chips/op.h"
#include "chips/program.h"

#define RMS ((struct norm_args){ .kind = NORM_RMS, .eps = 1e-5f })
#define PLAIN ((struct linear_args){ 0 })
#define TOKENS ((struct embed_args){ .by = EMBED_TOKEN })

static struct tensor matrix(int64_t n_out, int64_t n_in)
{
    return (struct tensor){ .dtype = DTYPE_F32, .n_dims = 2, .shape = { n_out, n_in },
                            .size_bytes = (uint64_t)(n_out * n_in) * 4 };
}

static struct tensor vector(int64_t n)
{
    return (struct tensor){ .dtype = DTYPE_F32, .n_dims = 1, .shape = { n },
                            .size_bytes = (uint64_t)n * 4 };
}

static wid add_matrix(struct program *p, const char *name, int64_t n_out, int64_t n_in)
{
    const struct tensor t = matrix(n_out, n_in);

    return prog_weight(p, name, &t);
}

static struct program *fresh(void)
{
    struct program *p = NULL;
    struct err e = { 0 };

    assert_int_equal(prog_open(&p, &e), 0);
    return p;
}

/* embed -> attention -> feed-forward -> logits of the wanted rows */
static struct program *small_model(void)
{
    struct program *p = fresh();
    const struct tensor gain = vector(8);
    const struct rope_args rope = { .pairing = ROPE_NEOX, .n_heads = 2, .head_dim = 4,
                                    .n_rot = 4, .base = 1e4f, .freq_scale = 1,
                                    .attn_factor = 1 };
    const struct attn_args attn = { .n_heads = 2, .n_kv_heads = 1, .k_dim = 4, .v_dim = 4,
                                    .scale = 0.5f, .write = true };
    const sid state = prog_state_kv(p, 1, 4, 4, 0);
    val x, h, q, kv, gu;

    x = prog_embed(p, add_matrix(p, "embd", 32, 8), TOKENS);
    prog_layer(p, 0);
    h = prog_norm(p, x, prog_weight(p, "norm", &gain), 0, RMS);
    q = prog_rope(p, prog_linear(p, h, add_matrix(p, "q", 8, 8), 0, 0, PLAIN), 0, &rope);
    kv = prog_linear(p, h, add_matrix(p, "kv", 8, 8), 0, 0, PLAIN);
    h = prog_attention(p, q, prog_cols(p, kv, 0, 4), prog_cols(p, kv, 4, 4), 0, state, &attn);
    x = prog_add(p, x, prog_linear(p, h, add_matrix(p, "o", 8, 8), 0, 0, PLAIN));
    h = prog_norm(p, x, 0, 0, RMS);
    gu = prog_linear(p, h, add_matrix(p, "gate_up", 32, 8), 0, 0, PLAIN);
    h = prog_gated(p, prog_cols(p, gu, 0, 16), prog_cols(p, gu, 16, 16),
                   (struct act_args){ .act = ACT_SILU });
    (void)prog_affine(p, h, 2, 0);      /* nobody reads it */
    x = prog_add(p, x, prog_linear(p, h, add_matrix(p, "down", 8, 16), 0, 0, PLAIN));
    prog_layer(p, UINT32_MAX);
    x = prog_norm(p, prog_rows(p, x), 0, 0, RMS);
    prog_output(p, prog_linear(p, x, add_matrix(p, "out", 32, 8), 0, 0, PLAIN));
    return p;
}

static unsigned count_op(const struct program *p, enum op op, enum extent extent)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < prog_n_instr(p); i++)
        n += prog_instr(p, i)->op == op &&
             prog_value(p, prog_instr(p, i)->dst[0])->extent == extent;
    return n;
}

static void test_rows_move_up(void **state)
{
    struct program *p = small_model();
    struct err e = { 0 };

    (void)state;
    assert_int_equal(prog_finish(p, &e), 0);
    /* everything after attention runs on R rows; the residual and attention are gathered */
    assert_int_equal(count_op(p, OP_ROWS, EXT_R), 2);
    assert_int_equal(count_op(p, OP_LINEAR, EXT_N), 2);
    assert_int_equal(count_op(p, OP_LINEAR, EXT_R), 4);
    assert_int_equal(count_op(p, OP_GATED, EXT_R), 1);
    assert_int_equal(count_op(p, OP_AFFINE, EXT_N) + count_op(p, OP_AFFINE, EXT_R), 0);
    assert_int_equal(prog_value(p, prog_result(p))->extent, EXT_R);
    assert_int_equal(prog_value(p, prog_result(p))->width, 32);
    prog_close(p);
}

static void test_uses(void **state)
{
    struct program *p = fresh();
    const struct tensor t = matrix(32, 8);
    const wid w = prog_weight(p, "embd", &t);
    struct err e = { 0 };

    (void)state;
    assert_int_equal(prog_weight(p, "embd", &t), w);
    assert_int_equal(prog_weight(p, "absent", NULL), 0);
    prog_output(p, prog_linear(p, prog_rows(p, prog_embed(p, w, TOKENS)), w, 0, 0, PLAIN));
    assert_int_equal(prog_finish(p, &e), 0);
    assert_int_equal(prog_weight_at(p, w)->uses, USE_TABLE | USE_MATRIX);
    prog_close(p);
}

static void test_many_weights(void **state)
{
    struct program *p = fresh();
    const struct tensor t = vector(4);
    char name[32];

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        (void)snprintf(name, sizeof name, "w.%u", i);
        assert_int_equal(prog_weight(p, name, &t), i + 1);
    }
    for (unsigned i = 0; i < 3000; i += 7) {
        (void)snprintf(name, sizeof name, "w.%u", i);
        assert_int_equal(prog_weight(p, name, &t), i + 1);
    }
    prog_close(p);
}

/* Each records one mistake; prog_finish must return it, with a message that names it. */
static void bad_linear(struct program *p)
{
    (void)prog_linear(p, prog_embed(p, add_matrix(p, "embd", 32, 8), TOKENS),
                      add_matrix(p, "blk.0.w", 8, 9), 0, 0, PLAIN);
}
static void bad_bias(struct program *p)
{
    const struct tensor t = vector(7);

    (void)prog_linear(p, prog_embed(p, add_matrix(p, "embd", 32, 8), TOKENS),
                      add_matrix(p, "w", 8, 8), prog_weight(p, "w.bias", &t), 0, PLAIN);
}
static void bad_norm(struct program *p)
{
    const struct tensor t = vector(3);

    (void)prog_norm(p, prog_embed(p, add_matrix(p, "embd", 32, 8), TOKENS),
                    prog_weight(p, "norm", &t), 0, RMS);
}
static void bad_rope(struct program *p)
{
    (void)prog_rope(p, prog_embed(p, add_matrix(p, "embd", 32, 8), TOKENS), 0,
                    &(struct rope_args){ .n_heads = 2, .head_dim = 4, .n_rot = 5, .base = 1e4f,
                                         .freq_scale = 1 });
}
static void bad_add(struct program *p)
{
    const val x = prog_embed(p, add_matrix(p, "embd", 32, 8), TOKENS);

    (void)prog_add(p, x, prog_cols(p, x, 0, 4));
}
static void bad_cols(struct program *p)
{
    (void)prog_cols(p, prog_embed(p, add_matrix(p, "embd", 32, 8), TOKENS), 4, 5);
}
static void bad_route(struct program *p)
{
    val ids, weights;

    prog_route(p, prog_embed(p, add_matrix(p, "embd", 32, 8), TOKENS), 0,
               &(struct route_args){ .n_experts = 8, .n_used = 9 }, &ids, &weights);
}
static void bad_state(struct program *p)
{
    const val x = prog_embed(p, add_matrix(p, "embd", 32, 8), TOKENS);
    const sid s = prog_state_kv(p, 1, 8, 4, 0);

    (void)prog_attention(p, x, x, x, 0, s,
                         &(struct attn_args){ .n_heads = 1, .n_kv_heads = 1, .k_dim = 8,
                                              .v_dim = 8, .write = true });
}
static void no_output(struct program *p)
{
    (void)prog_embed(p, add_matrix(p, "embd", 32, 8), TOKENS);
}

static void test_mistakes(void **state)
{
    static const struct { void (*make)(struct program *p); const char *says; } cases[] = {
        { bad_linear, "blk.0.w" }, { bad_bias, "w.bias" }, { bad_norm, "norm" },
        { bad_rope, "rotated" }, { bad_add, "second operand" }, { bad_cols, "columns" },
        { bad_route, "experts used" }, { bad_state, "cache" }, { no_output, "result" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct program *p = fresh();
        struct err e = { 0 };

        cases[i].make(p);
        assert_true(prog_finish(p, &e) < 0);
        if (!strstr(e.msg, cases[i].says))
            fail_msg("'%s' does not mention '%s'", e.msg, cases[i].says);
        prog_close(p);
    }
}

/* No two values that live at the same time may share bytes, in-place heirs excepted. */
static void check_plan(const struct program *p, const uint64_t *offset, uint32_t n)
{
    for (val a = 1; a <= prog_n_values(p); a++) {
        const struct prog_value *va = prog_value(p, a);

        if (va->base != a || va->first == UINT32_MAX)
            continue;
        assert_int_equal(offset[a] % 64, 0);
        for (val b = 1; b < a; b++) {
            const struct prog_value *vb = prog_value(p, b);
            const uint64_t size_a = 4ull * prog_rows_of(va, n, 1, n) * va->width;
            const uint64_t size_b = 4ull * prog_rows_of(vb, n, 1, n) * vb->width;

            if (vb->base != b || vb->first == UINT32_MAX || va->last < vb->first ||
                vb->last < va->first)
                continue;
            if ((va->first == vb->last || vb->first == va->last) && offset[a] == offset[b])
                continue;
            assert_true(offset[a] + size_a <= offset[b] || offset[b] + size_b <= offset[a]);
        }
    }
}

static void test_plan(void **state)
{
    struct program *p = small_model();
    struct err e = { 0 };
    uint64_t total, sum = 0, *offset;

    (void)state;
    assert_int_equal(prog_finish(p, &e), 0);
    offset = mem_array(prog_n_values(p) + 1, sizeof *offset);
    assert_non_null(offset);
    for (uint32_t n = 1; n < 200; n += 33) {
        assert_int_equal(prog_plan(p, n, 1, n, offset, &total, &e), 0);
        check_plan(p, offset, n);
        sum = 0;
        for (val v = 1; v <= prog_n_values(p); v++)
            if (prog_value(p, v)->base == v && prog_value(p, v)->first != UINT32_MAX)
                sum += 4ull * n * prog_value(p, v)->width;
        if (n > 16)
            assert_true(total < sum * 6 / 10);
    }
    assert_int_equal(prog_plan(p, 0, 1, 1, offset, &total, &e), WATT_EINVAL);
    assert_int_equal(prog_plan(p, 1u << 30, 1, 1, offset, &total, &e), WATT_EINVAL);
    mem_free(offset);
    prog_close(p);
}

static void test_cost(void **state)
{
    struct program *p = small_model();
    struct err e = { 0 };
    struct prog_cost one, many;

    (void)state;
    assert_int_equal(prog_finish(p, &e), 0);
    prog_cost(p, 1, 1, 0, 1, &one, NULL);
    prog_cost(p, 16, 1, 0, 1, &many, NULL);
    /* q 64, kv 64, o 64, gate_up 256, down 128, out 256 multiply-adds, and small change */
    assert_true(one.ops > 2 * 832 && one.ops < 2 * 832 * 1.5);
    assert_true(one.weight_bytes > 4 * 832 && one.weight_bytes < 4 * 832 * 1.2);
    /* 15 more rows cost q and kv only: the rest runs on one row */
    assert_true(many.ops < one.ops + 15 * (2 * 128 + 2 * 16 * 16 + 200));
    assert_true(many.kv_bytes > one.kv_bytes);
    prog_cost(p, 0, 0, 0, 0, &one, NULL);
    assert_true(one.ops == 0);
    prog_close(p);
}

/* ---- cache layout ---- */

static void test_kv_roundtrip(void **state)
{
    static const enum dtype dtypes[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0 };
    static const double tolerance[] = { 0, 1e-3, 8e-3, 8e-3 };
    struct rng rng;

    (void)state;
    rng_init(&rng, 1);
    for (int t = 0; t < 4; t++) {
        struct program *p = fresh();
        struct kv_layout l;
        struct err e = { 0 };
        float x[2][KV_PAGE_TOKENS][3][37], y[37];
        uint8_t *page;

        assert_int_equal(prog_state_kv(p, 1, 5, 8, 0), 1);
        assert_int_equal(prog_state_fixed(p, 10), 2);
        assert_int_equal(prog_state_kv(p, 3, 37, 33, 0), 3);
        assert_int_equal(kv_layout_init(&l, p, dtypes[t], dtypes[t], &e), 0);
        assert_int_equal(l.page_bytes % 64, 0);
        page = mem_aligned(l.page_bytes, 64);
        assert_non_null(page);
        for (uint32_t tok = 0; tok < KV_PAGE_TOKENS; tok++)
            for (uint32_t h = 0; h < 3; h++) {
                for (int i = 0; i < 37; i++) {
                    x[0][tok][h][i] = (float)rng_normal(&rng);
                    x[1][tok][h][i] = (float)rng_normal(&rng);
                }
                kv_write_k(&l, page, 3, h, tok, x[0][tok][h]);
                kv_write_v(&l, page, 3, h, tok, x[1][tok][h]);
            }
        for (uint32_t tok = 0; tok < KV_PAGE_TOKENS; tok++)
            for (uint32_t h = 0; h < 3; h++) {
                kv_read_k(&l, page, 3, h, tok, y);
                for (int i = 0; i < 37; i++)
                    assert_true(fabs((double)y[i] - x[0][tok][h][i]) <=
                                tolerance[t] * (t == 3 ? 4 : fabs((double)y[i])));
                kv_read_v(&l, page, 3, h, tok, y);
                for (int i = 0; i < 33; i++)
                    assert_true(fabs((double)y[i] - x[1][tok][h][i]) <=
                                tolerance[t] * (t == 3 ? 4 : fabs((double)y[i])));
            }
        mem_free(page);
        kv_layout_deinit(&l);
        prog_close(p);
    }
}

static void test_kv_q8_rounding(void **state)
{
    struct program *p = fresh();
    struct kv_layout l;
    struct err e = { 0 };
    float x[32] = { 127, 0.5f, 1.5f, -0.5f, -2.5f }, y[32];
    uint8_t *page;

    (void)state;
    assert_int_equal(prog_state_kv(p, 1, 32, 32, 0), 1);
    assert_int_equal(kv_layout_init(&l, p, DTYPE_Q4_0, DTYPE_F32, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "Q4_0"));
    assert_int_equal(kv_layout_init(&l, p, DTYPE_Q8_0, DTYPE_Q8_0, &e), 0);
    page = mem_aligned(l.page_bytes, 64);
    assert_non_null(page);
    kv_write_k(&l, page, 1, 0, 17, x);
    kv_read_k(&l, page, 1, 0, 17, y);
    assert_true(y[0] == 127 && y[1] == 0 && y[2] == 2 && y[3] == 0 && y[4] == -2);
    x[5] = INFINITY;
    kv_write_v(&l, page, 1, 0, 17, x);
    kv_read_v(&l, page, 1, 0, 17, y);
    assert_true(isnan(y[0]) && isnan(y[31]));
    memset(x, 0, sizeof x);
    kv_write_v(&l, page, 1, 0, 17, x);
    kv_read_v(&l, page, 1, 0, 17, y);
    assert_true(y[0] == 0 && y[31] == 0);
    mem_free(page);
    kv_layout_deinit(&l);
    prog_close(p);
}

/* ---- interpreter ---- */

static const void *random_weights(struct program *p, struct rng *rng, float **owned)
{
    size_t n = 0, at = 0;
    float *data;

    for (wid w = 1; w <= prog_n_weights(p); w++)
        n += (size_t)tensor_elems(&prog_weight_at(p, w)->t);
    data = mem_array(n, sizeof *data);
    assert_non_null(data);
    for (size_t i = 0; i < n; i++)
        data[i] = (float)(rng_normal(rng) * 0.4);
    for (wid w = 1; w <= prog_n_weights(p); w++) {
        /* the recorder keeps a copy of the view: tests may point it at memory */
        struct tensor *t = (struct tensor *)(uintptr_t)&prog_weight_at(p, w)->t;

        t->data = data + at;
        at += (size_t)tensor_elems(t);
    }
    *owned = data;
    return data;
}

static void run_step(struct exec *x, uint8_t *pages, const int32_t *tokens, uint32_t n_past,
                     uint32_t n, const uint32_t *table, float *out)
{
    uint32_t row_stream[16] = { 0 }, out_row[16];
    const struct stream s = { .n_rows = n, .n_past = n_past, .pages = table };
    struct batch b = { .n_rows = n, .n_streams = 1, .n_out = n, .token = tokens + n_past,
                       .row_stream = row_stream, .streams = &s, .out_row = out_row };
    struct err e = { 0 };

    for (uint32_t i = 0; i < n; i++)
        out_row[i] = i;
    assert_int_equal(exec_step(x, &b, pages, out, &e), 0);
}

static void test_interp_same_bits(void **state)
{
    static const int32_t tokens[12] = { 1, 5, 9, 31, 0, 2, 2, 7, 11, 30, 8, 3 };
    const uint32_t table[1] = { 1 };
    struct program *p = small_model();
    struct exec_limits limits = { .max_rows = 12, .max_streams = 1, .max_out = 12 };
    struct kv_layout l;
    struct exec *x = NULL;
    struct err e = { 0 };
    struct rng rng;
    float *weights, once[12][32], parts[12][32];
    uint8_t *pages;

    (void)state;
    rng_init(&rng, 3);
    assert_int_equal(prog_finish(p, &e), 0);
    (void)random_weights(p, &rng, &weights);
    assert_int_equal(kv_layout_init(&l, p, DTYPE_F16, DTYPE_F16, &e), 0);
    pages = mem_aligned(2 * l.page_bytes, 64);
    assert_non_null(pages);
    assert_int_equal(interp_open(&x, p, &l, &limits, &e), 0);
    mem_guard_enter();
    run_step(x, pages, tokens, 0, 12, table, &once[0][0]);
    mem_guard_leave();
    for (uint32_t chunk = 1; chunk <= 5; chunk += 2) {
        for (uint32_t at = 0; at < 12; at += chunk)
            run_step(x, pages, tokens, at, at + chunk > 12 ? 12 - at : chunk, table, parts[at]);
        assert_memory_equal(once, parts, sizeof once);
    }
    for (int i = 0; i < 32; i++)
        assert_true(isfinite(once[11][i]));
    exec_close(x);
    mem_free(pages);
    mem_free(weights);
    kv_layout_deinit(&l);
    prog_close(p);
}

static void test_batch_refused(void **state)
{
    struct program *p = small_model();
    const struct exec_limits limits = { .max_rows = 4, .max_streams = 1, .max_out = 4 };
    int32_t tokens[5] = { 1, 2, 3, 4, 5 };
    uint32_t row_stream[5] = { 0 }, out_row[2] = { 1, 3 };
    struct stream s = { .n_rows = 4 };
    struct batch b = { .n_rows = 4, .n_streams = 1, .n_out = 2, .token = tokens,
                       .row_stream = row_stream, .streams = &s, .out_row = out_row };
    struct err e = { 0 };

    (void)state;
    assert_int_equal(prog_finish(p, &e), 0);
    assert_int_equal(batch_check(&b, p, &limits, &e), 0);
    tokens[2] = 32;
    assert_int_equal(batch_check(&b, p, &limits, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "token 32"));
    tokens[2] = -1;
    assert_int_equal(batch_check(&b, p, &limits, &e), WATT_EINVAL);
    tokens[2] = 3;
    out_row[1] = 1;
    assert_int_equal(batch_check(&b, p, &limits, &e), WATT_EINVAL);
    out_row[1] = 4;
    assert_int_equal(batch_check(&b, p, &limits, &e), WATT_EINVAL);
    out_row[1] = 3;
    s.n_rows = 3;
    assert_int_equal(batch_check(&b, p, &limits, &e), WATT_EINVAL);
    s.n_rows = b.n_rows = 5;
    assert_int_equal(batch_check(&b, p, &limits, &e), WATT_EINVAL);
    prog_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_move_up),
        cmocka_unit_test(test_uses),
        cmocka_unit_test(test_many_weights),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_cost),
        cmocka_unit_test(test_kv_roundtrip),
        cmocka_unit_test(test_kv_q8_rounding),
        cmocka_unit_test(test_interp_same_bits),
        cmocka_unit_test(test_batch_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
