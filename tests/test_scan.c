/* test_scan.c: the operations that walk a sequence and keep a state, against plain code in double
 * over the whole sequence, in both executors; and the shapes they refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "op_rig.h"

#define REF 1e-12
#define FAST 1e-11

static double *doubles(size_t n)
{
    double *x = mem_calloc(n, sizeof *x);

    assert_non_null(x);
    return x;
}

static double softplus(double x)
{
    return log1p(exp(x));
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* ---- short convolution ---- */

static void check_short_conv(uint32_t width, uint32_t taps, bool with_bias)
{
    struct op_rig g;
    const float *kernel, *bias = NULL;
    wid k, b = 0;
    double *want = doubles((size_t)RIG_ROWS * width);

    rig_open(&g, width, 1);
    k = rig_weight(&g, width * taps, 0, 1, &kernel);
    if (with_bias)
        b = rig_weight(&g, width, 0, 1, &bias);
    rig_finish(&g, prog_short_conv(g.p, rig_input(&g), k, b,
                                   prog_state_fixed(g.p, width * (taps - 1)),
                                   (struct conv_args){ taps }));
    for (int t = 0; t < RIG_ROWS; t++)
        for (uint32_t c = 0; c < width; c++) {
            double sum = bias ? bias[c] : 0;

            for (uint32_t j = 0; j < taps; j++)
                if (t - (int)j >= 0)
                    sum += (double)kernel[c * taps + taps - 1 - j] *
                           rig_row(&g, 0, t - (int)j)[c];
            want[(size_t)t * width + c] = sum;
        }
    rig_check(&g, want, REF, FAST, "short convolution");
    mem_free(want);
    rig_close(&g);
}

static void test_short_conv(void **state)
{
    (void)state;
    check_short_conv(70, 4, true);
    check_short_conv(16, 2, false);
    check_short_conv(3, 9, true);       /* longer than the steps of one row */
}

/* ---- selective state space ---- */

struct ssm_case { uint32_t heads, dim, state, groups; bool per_state, skip; };

static void check_ssm(const struct ssm_case *c)
{
    const uint32_t width = c->heads * c->dim, bc = c->groups * c->state;
    const struct ssm_args args = { c->heads, c->dim, c->state, c->groups };
    double *want = doubles((size_t)RIG_ROWS * width), *s = doubles((size_t)width * c->state);
    const float *a, *d = NULL;
    struct op_rig g;
    wid a_w, d_w = 0;
    val x;

    rig_open(&g, width + c->heads + 2 * bc, 2);
    a_w = rig_weight(&g, c->heads * (c->per_state ? c->state : 1), -1, 0.2f, &a);
    if (c->skip)
        d_w = rig_weight(&g, c->heads, 1, 0.5f, &d);
    x = rig_input(&g);
    rig_finish(&g, prog_ssm_scan(g.p, prog_cols(g.p, x, 0, width),
                                 prog_cols(g.p, x, width, c->heads),
                                 prog_cols(g.p, x, width + c->heads, bc),
                                 prog_cols(g.p, x, width + c->heads + bc, bc), a_w, d_w,
                                 prog_state_fixed(g.p, width * c->state), &args));
    for (int t = 0; t < RIG_ROWS; t++)
        for (uint32_t i = 0; i < width; i++) {
            const float *u = rig_row(&g, 0, t);
            const uint32_t h = i / c->dim, group = h / (c->heads / c->groups);
            const float *b = u + width + c->heads + group * c->state, *cc = b + bc;
            const double dt = softplus(u[width + h]);
            double sum = d ? (double)d[h] * u[i] : 0;

            for (uint32_t k = 0; k < c->state; k++) {
                double *z = &s[(size_t)i * c->state + k];

                *z = *z * exp(dt * a[c->per_state ? h * c->state + k : h]) + dt * b[k] * u[i];
                sum += *z * cc[k];
            }
            want[(size_t)t * width + i] = sum;
        }
    rig_check(&g, want, REF, FAST, c->per_state ? "Mamba-1 scan" : "Mamba-2 scan");
    mem_free(want);
    mem_free(s);
    rig_close(&g);
}

static void test_ssm(void **state)
{
    static const struct ssm_case cases[] = {
        { 40, 1, 16, 1, true, true }, { 7, 1, 5, 1, true, false },
        { 4, 16, 32, 2, false, true }, { 6, 5, 20, 3, false, false }, { 2, 80, 128, 1, false, true },
        { 3, 7, 64, 1, false, true }, { 1, 9, 256, 1, false, true }, { 2, 66, 16, 1, false, false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_ssm(&cases[i]);
}

/* ---- delta rule ---- */

struct delta_case { uint32_t heads, k_heads, k, v; bool per_key, tiled; };

static void check_delta(const struct delta_case *c)
{
    const struct delta_args args = { c->heads, c->k_heads, c->k, c->v, 0.3f, c->tiled };
    const uint32_t keys = c->k_heads * c->k, values = c->heads * c->v;
    const uint32_t decays = c->heads * (c->per_key ? c->k : 1);
    const uint32_t at_decay = 2 * keys + values, at_beta = at_decay + decays;
    double *want = doubles((size_t)RIG_ROWS * values), *s = doubles((size_t)values * c->k);
    struct op_rig g;
    val x;

    rig_open(&g, at_beta + c->heads, 3);
    /* keys of length 1, decays below 0, betas in 0..1: what keeps the rule stable */
    for (int t = 0; t < RIG_VOCAB; t++) {
        float *r = g.table + (size_t)t * g.in_width;

        for (uint32_t h = 0; h < c->k_heads; h++) {
            double n = 0;

            for (uint32_t j = 0; j < c->k; j++)
                n += (double)r[keys + h * c->k + j] * r[keys + h * c->k + j];
            for (uint32_t j = 0; j < c->k; j++)
                r[keys + h * c->k + j] /= (float)sqrt(n);
        }
        for (uint32_t j = at_decay; j < at_beta; j++)
            r[j] = -0.2f * fabsf(r[j]);
        for (uint32_t j = at_beta; j < g.in_width; j++)
            r[j] = (float)sigmoid(r[j]);
    }
    x = rig_input(&g);
    rig_finish(&g, prog_delta_rule(g.p, prog_cols(g.p, x, 0, keys), prog_cols(g.p, x, keys, keys),
                                   prog_cols(g.p, x, 2 * keys, values),
                                   prog_cols(g.p, x, at_decay, decays),
                                   prog_cols(g.p, x, at_beta, c->heads),
                                   prog_state_fixed(g.p, values * c->k), &args));
    for (int t = 0; t < RIG_ROWS; t++)
        for (uint32_t i = 0; i < values; i++) {
            const float *r = rig_row(&g, 0, t);
            const uint32_t h = i / c->v;
            const uint32_t kh = c->tiled ? h % c->k_heads : h / (c->heads / c->k_heads);
            const float *q = r + kh * c->k, *k = q + keys, *decay = r + at_decay;
            double *z = s + (size_t)i * c->k, held = 0, sum = 0;

            for (uint32_t j = 0; j < c->k; j++) {
                z[j] *= exp(c->per_key ? decay[h * c->k + j] : decay[h]);
                held += z[j] * k[j];
            }
            for (uint32_t j = 0; j < c->k; j++) {
                z[j] += k[j] * r[at_beta + h] * (r[2 * keys + i] - held);
                sum += z[j] * q[j];
            }
            want[(size_t)t * values + i] = sum * 0.3f;
        }
    rig_check(&g, want, REF, FAST, "delta rule");
    mem_free(want);
    mem_free(s);
    rig_close(&g);
}

static void test_delta(void **state)
{
    static const struct delta_case cases[] = {
        { 4, 2, 32, 16, false, false }, { 4, 2, 24, 20, false, true }, { 3, 3, 16, 16, true, false },
        { 2, 1, 7, 100, true, false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_delta(&cases[i]);
}

/* ---- linear attention ---- */

static void check_linear_attention(uint32_t heads, uint32_t k_dim, uint32_t v_dim)
{
    const struct linear_attn_args args = { heads, k_dim, v_dim, 0.5f, 0.75f };
    const uint32_t keys = heads * k_dim, values = heads * v_dim;
    double *want = doubles((size_t)RIG_ROWS * values);
    struct op_rig g;
    val x;

    rig_open(&g, 2 * keys + values, 4);
    x = rig_input(&g);
    rig_finish(&g, prog_linear_attention(g.p, prog_cols(g.p, x, 0, keys),
                                         prog_cols(g.p, x, keys, keys),
                                         prog_cols(g.p, x, 2 * keys, values),
                                         prog_state_fixed(g.p, values * k_dim), &args));
    /* as attention without a softmax, not as a recurrence */
    for (int t = 0; t < RIG_ROWS; t++)
        for (uint32_t i = 0; i < values; i++) {
            const uint32_t h = i / v_dim;
            const double slope = 0.75 * pow(2, -8.0 * (h + 1) / heads);
            double sum = 0;

            for (int j = 0; j <= t; j++) {
                double qk = 0;

                for (uint32_t d = 0; d < k_dim; d++)
                    qk += (double)rig_row(&g, 0, t)[h * k_dim + d] *
                          rig_row(&g, 0, j)[keys + h * k_dim + d];
                sum += exp(-slope * (t - j)) * qk * rig_row(&g, 0, j)[2 * keys + i];
            }
            want[(size_t)t * values + i] = 0.5 * sum;
        }
    rig_check(&g, want, REF, FAST, "linear attention");
    mem_free(want);
    rig_close(&g);
}

static void test_linear_attention(void **state)
{
    (void)state;
    check_linear_attention(4, 32, 32);
    check_linear_attention(3, 10, 70);
}

/* ---- RWKV-7 ---- */

static void check_wkv(uint32_t heads, uint32_t dim)
{
    const uint32_t width = heads * dim;
    const struct wkv_args args = { heads, dim };
    double *want = doubles((size_t)RIG_ROWS * width), *s = doubles((size_t)width * dim);
    double *next = doubles(dim);
    struct op_rig g;
    val x, part[6];

    rig_open(&g, 6 * width, 5);
    for (int t = 0; t < RIG_VOCAB; t++)
        for (uint32_t i = 0; i < width; i++) {
            float *r = g.table + (size_t)t * g.in_width;

            r[width + i] = -0.5f * (float)sigmoid(r[width + i]);
            r[4 * width + i] *= 0.3f;
            r[5 * width + i] *= 0.3f;
        }
    x = rig_input(&g);
    for (uint32_t i = 0; i < 6; i++)
        part[i] = prog_cols(g.p, x, i * width, width);
    rig_finish(&g, prog_wkv(g.p, part[0], part[1], part[2], part[3], part[4], part[5],
                            prog_state_fixed(g.p, width * dim), &args));
    for (int t = 0; t < RIG_ROWS; t++)
        for (uint32_t i = 0; i < width; i++) {
            const float *r = rig_row(&g, 0, t) + i / dim * dim;
            double *z = s + (size_t)i * dim, sum = 0;

            /* row i of S (diag(w) + a b^T) + v k^T */
            for (uint32_t j = 0; j < dim; j++) {
                next[j] = z[j] * exp(r[width + j]) +
                          (double)r[3 * width + i % dim] * r[2 * width + j];
                for (uint32_t m = 0; m < dim; m++)
                    next[j] += z[m] * r[4 * width + m] * r[5 * width + j];
            }
            memcpy(z, next, dim * sizeof *z);
            for (uint32_t j = 0; j < dim; j++)
                sum += z[j] * r[j];
            want[(size_t)t * width + i] = sum;
        }
    rig_check(&g, want, REF, FAST, "RWKV-7");
    mem_free(want);
    mem_free(s);
    mem_free(next);
    rig_close(&g);
}

static void test_wkv(void **state)
{
    (void)state;
    check_wkv(2, 16);
    check_wkv(3, 11);
}

static void test_shift(void **state)
{
    enum { WIDTH = 75 };
    double *want = doubles((size_t)RIG_ROWS * WIDTH);
    struct op_rig g;

    (void)state;
    rig_open(&g, WIDTH, 6);
    rig_finish(&g, prog_shift(g.p, rig_input(&g), prog_state_fixed(g.p, WIDTH)));
    for (int t = 1; t < RIG_ROWS; t++)
        for (int i = 0; i < WIDTH; i++)
            want[t * WIDTH + i] = rig_row(&g, 0, t - 1)[i];
    rig_check(&g, want, 0, 0, "token shift");
    mem_free(want);
    rig_close(&g);
}

/* ---- cells ---- */

static void check_cell(enum cell_kind kind, uint32_t n, bool with_bias)
{
    const uint32_t gates = kind == CELL_LSTM ? 4 : 3;
    const float *w, *bias = NULL;
    double *want = doubles((size_t)RIG_ROWS * n), *h = doubles(n), *c = doubles(n);
    double *sum = doubles((size_t)gates * n), *from = doubles((size_t)gates * n);
    struct op_rig g;
    wid w_w, b_w = 0;

    rig_open(&g, gates * n, 7);
    w_w = rig_weight(&g, gates * n * n, 0, 0.5f / sqrtf((float)n), &w);
    if (with_bias)
        b_w = rig_weight(&g, gates * n, 0, 0.5f, &bias);
    rig_finish(&g, prog_cell(g.p, rig_input(&g), w_w, b_w,
                             prog_state_fixed(g.p, kind == CELL_LSTM ? 2 * n : n),
                             (struct cell_args){ kind, n }));
    for (int t = 0; t < RIG_ROWS; t++) {
        const float *x = rig_row(&g, 0, t);

        for (uint32_t i = 0; i < gates * n; i++) {
            from[i] = bias ? bias[i] : 0;
            for (uint32_t j = 0; j < n; j++)
                from[i] += w[(size_t)i * n + j] * h[j];
            sum[i] = x[i] + from[i];
        }
        for (uint32_t i = 0; i < n; i++) {
            if (kind == CELL_LSTM) {
                c[i] = sigmoid(sum[n + i]) * c[i] + sigmoid(sum[i]) * tanh(sum[2 * n + i]);
                h[i] = sigmoid(sum[3 * n + i]) * tanh(c[i]);
            } else {
                const double z = sigmoid(sum[n + i]);

                h[i] = (1 - z) * tanh(x[2 * n + i] + sigmoid(sum[i]) * from[2 * n + i]) + z * h[i];
            }
            want[(size_t)t * n + i] = h[i];
        }
    }
    rig_check(&g, want, REF, FAST, kind == CELL_LSTM ? "LSTM" : "GRU");
    mem_free(want);
    mem_free(h);
    mem_free(c);
    mem_free(sum);
    mem_free(from);
    rig_close(&g);
}

static void test_cells(void **state)
{
    (void)state;
    check_cell(CELL_LSTM, 32, false);
    check_cell(CELL_LSTM, 21, true);
    check_cell(CELL_GRU, 32, true);
    check_cell(CELL_GRU, 5, false);
}

/* ---- shapes that are refused ---- */

typedef val record_fn(struct op_rig *g, val x);

static void refused(record_fn *record, uint32_t in_width, const char *part)
{
    struct op_rig g;
    struct err e = { 0 };

    rig_open(&g, in_width, 8);
    prog_output(g.p, prog_rows(g.p, record(&g, rig_input(&g))));
    assert_true(prog_finish(g.p, &e) < 0);
    if (!strstr(e.msg, part))
        fail_msg("'%s' lacks '%s'", e.msg, part);
    rig_close(&g);
}

static val bad_conv_state(struct op_rig *g, val x)
{
    const float *w;

    return prog_short_conv(g->p, x, rig_weight(g, 32, 0, 1, &w), 0, prog_state_fixed(g->p, 25),
                           (struct conv_args){ 4 });
}

static val bad_conv_kernel(struct op_rig *g, val x)
{
    const float *w;

    return prog_short_conv(g->p, x, rig_weight(g, 31, 0, 1, &w), 0, prog_state_fixed(g->p, 24),
                           (struct conv_args){ 4 });
}

static val bad_ssm_groups(struct op_rig *g, val x)
{
    const float *w;

    return prog_ssm_scan(g->p, x, x, x, x, rig_weight(g, 8, 0, 1, &w), 0,
                         prog_state_fixed(g->p, 8), &(struct ssm_args){ 8, 1, 1, 3 });
}

static val bad_delta_width(struct op_rig *g, val x)
{
    return prog_delta_rule(g->p, x, x, x, x, x, prog_state_fixed(g->p, 16),
                           &(struct delta_args){ .n_heads = 2, .n_k_heads = 2, .k_dim = 3,
                                                 .v_dim = 4, .scale = 1 });
}

static val bad_linear_state(struct op_rig *g, val x)
{
    return prog_linear_attention(g->p, x, x, x, prog_state_fixed(g->p, 31),
                                 &(struct linear_attn_args){ 2, 4, 4, 1, 1 });
}

static val bad_wkv_state(struct op_rig *g, val x)
{
    return prog_wkv(g->p, x, x, x, x, x, x, 0, &(struct wkv_args){ 2, 4 });
}

static val bad_shift_kv(struct op_rig *g, val x)
{
    return prog_shift(g->p, x, prog_state_kv(g->p, 1, 8, 8, 0));
}

static val bad_cell_weight(struct op_rig *g, val x)
{
    const float *w;

    return prog_cell(g->p, x, rig_weight(g, 15, 0, 1, &w), 0, prog_state_fixed(g->p, 4),
                     (struct cell_args){ CELL_LSTM, 2 });
}

static val bad_cell_gates(struct op_rig *g, val x)
{
    const float *w;

    return prog_cell(g->p, x, rig_weight(g, 12, 0, 1, &w), 0, prog_state_fixed(g->p, 2),
                     (struct cell_args){ CELL_GRU, 2 });
}

static void test_refused(void **state)
{
    (void)state;
    refused(bad_conv_state, 8, "short_conv: numbers of state is 25, expected 24");
    refused(bad_conv_kernel, 8, "31 elements, expected 32");
    refused(bad_ssm_groups, 8, "ssm_scan: heads in groups");
    refused(bad_delta_width, 8, "delta_rule: columns of an operand is 8, expected 6");
    refused(bad_linear_state, 8, "linear_attention: numbers of state is 31, expected 32");
    refused(bad_wkv_state, 8, "wkv: numbers of state is 0, expected 32");
    refused(bad_shift_kv, 8, "shift: numbers of state");
    refused(bad_cell_weight, 8, "15 elements, expected 16");
    refused(bad_cell_gates, 8, "cell: columns of an operand is 8, expected 6");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_conv),
        cmocka_unit_test(test_ssm),
        cmocka_unit_test(test_delta),
        cmocka_unit_test(test_linear_attention),
        cmocka_unit_test(test_wkv),
        cmocka_unit_test(test_shift),
        cmocka_unit_test(test_cells),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
