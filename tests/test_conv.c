/* test_conv.c: convolutions over pictures and lines against plain code in double, sums of groups,
 * and a small convolutional net put together from them. */
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

/* Results of one picture [height][width][channels] to y [height'][width'][n_out]: by scattering each
 * number of the source to where it goes. */
static void naive_conv(const struct conv2d_args *a, uint32_t channels, const double *x,
                       const float *kernel, const float *bias, double *y)
{
    const uint32_t h = prog_conv_extent(a->height, a->k_height, a->stride_y, a->pad_y, a->dilation_y);
    const uint32_t w = prog_conv_extent(a->width, a->k_width, a->stride_x, a->pad_x, a->dilation_x);
    const uint32_t per = channels / a->groups, out_per = a->n_out / a->groups;

    for (size_t i = 0; i < (size_t)h * w * a->n_out; i++)
        y[i] = bias ? bias[i % a->n_out] : 0;
    for (uint32_t sy = 0; sy < a->height; sy++)
        for (uint32_t sx = 0; sx < a->width; sx++)
            for (uint32_t ky = 0; ky < a->k_height; ky++)
                for (uint32_t kx = 0; kx < a->k_width; kx++) {
                    const int64_t ty = (int64_t)sy + a->pad_y - (int64_t)ky * a->dilation_y;
                    const int64_t tx = (int64_t)sx + a->pad_x - (int64_t)kx * a->dilation_x;

                    if (ty < 0 || tx < 0 || ty % a->stride_y || tx % a->stride_x ||
                        ty / a->stride_y >= h || tx / a->stride_x >= w)
                        continue;
                    for (uint32_t c = 0; c < channels; c++)
                        for (uint32_t o = c / per * out_per; o < (c / per + 1) * out_per; o++)
                            y[((uint64_t)(ty / a->stride_y) * w + (uint64_t)(tx / a->stride_x)) *
                                  a->n_out + o] +=
                                kernel[((o * per + c % per) * a->k_height + ky) * a->k_width + kx] *
                                x[(sy * a->width + sx) * channels + c];
                }
}

static void check_conv(const struct conv2d_args *a, uint32_t channels, bool with_bias)
{
    const uint32_t h = prog_conv_extent(a->height, a->k_height, a->stride_y, a->pad_y, a->dilation_y);
    const uint32_t w = prog_conv_extent(a->width, a->k_width, a->stride_x, a->pad_x, a->dilation_x);
    const uint32_t n_in = a->height * a->width * channels, n_out = h * w * a->n_out;
    double *want = doubles((size_t)RIG_ROWS * n_out), *picture = doubles(n_in);
    const float *kernel, *bias = NULL;
    struct op_rig g;
    wid k, b = 0;
    val x;

    rig_open(&g, n_in, 9);
    k = rig_weight(&g, a->n_out * channels / a->groups * a->k_height * a->k_width, 0, 1, &kernel);
    if (with_bias)
        b = rig_weight(&g, a->n_out, 0, 1, &bias);
    x = prog_reshape(g.p, rig_input(&g), a->height * a->width);
    rig_finish(&g, prog_reshape(g.p, prog_conv2d(g.p, x, k, b, a), 1));
    assert_int_equal(g.out_width, n_out);
    for (int t = 0; t < RIG_ROWS; t++) {
        for (uint32_t i = 0; i < n_in; i++)
            picture[i] = rig_row(&g, 0, t)[i];
        naive_conv(a, channels, picture, kernel, bias, want + (size_t)t * n_out);
    }
    rig_check(&g, want, REF, FAST, "convolution");
    mem_free(want);
    mem_free(picture);
    rig_close(&g);
}

static void test_conv2d(void **state)
{
    /*  height width n_out kernel stride pad dilation groups */
    static const struct conv2d_args cases[] = {
        { 6, 5, 4, 3, 3, 1, 1, 0, 0, 1, 1, 1 }, { 6, 5, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1 },
        { 7, 6, 2, 3, 2, 2, 3, 1, 2, 1, 1, 2 }, { 8, 8, 6, 3, 3, 2, 2, 2, 2, 2, 2, 3 },
        { 5, 9, 6, 2, 4, 1, 2, 0, 3, 3, 2, 6 }, { 4, 4, 8, 1, 1, 1, 1, 0, 0, 1, 1, 1 },
        { 3, 3, 1, 3, 3, 1, 1, 0, 0, 1, 1, 1 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_conv(&cases[i], 6, i % 2 == 0);
}

/* A line of samples is a picture of height 1. */
static void test_conv1d(void **state)
{
    static const struct conv2d_args cases[] = {
        { 1, 20, 5, 1, 3, 1, 1, 0, 1, 1, 1, 1 }, { 1, 20, 4, 1, 4, 1, 2, 0, 0, 1, 1, 2 },
        { 1, 21, 4, 1, 3, 1, 1, 0, 4, 1, 4, 4 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_conv(&cases[i], 4, true);
}

static void test_group_sum(void **state)
{
    double want[RIG_ROWS * 7] = { 0 };
    struct op_rig g;

    (void)state;
    rig_open(&g, 35, 10);
    rig_finish(&g, prog_group_sum(g.p, rig_input(&g), 5));
    for (int t = 0; t < RIG_ROWS; t++)
        for (int i = 0; i < 35; i++)
            want[t * 7 + i / 5] += rig_row(&g, 0, t)[i];
    rig_check(&g, want, REF, FAST, "group sum");
    rig_close(&g);
}

/* ---- a small net: two convolutions, a strided one by channel, mean over the places, classes ---- */

enum { SIDE = 8, IN = 3, C1 = 8, C2 = 12, CLASSES = 5 };

static const struct conv2d_args layers[3] = {
    { SIDE, SIDE, C1, 3, 3, 1, 1, 1, 1, 1, 1, 1 },
    { SIDE, SIDE, C1, 3, 3, 2, 2, 1, 1, 1, 1, C1 },
    { SIDE / 2, SIDE / 2, C2, 1, 1, 1, 1, 0, 0, 1, 1, 1 },
};
static const uint32_t channels_in[3] = { IN, C1, C1 };

struct net {
    struct op_rig g;
    const float *kernel[3], *bias[3], *classes;
};

static void net_open(struct net *n)
{
    const uint32_t places = SIDE / 2 * (SIDE / 2);
    wid k, b;
    val x;

    rig_open(&n->g, SIDE * SIDE * IN, 11);
    x = prog_reshape(n->g.p, rig_input(&n->g), SIDE * SIDE);
    for (int l = 0; l < 3; l++) {
        const struct conv2d_args *a = &layers[l];

        k = rig_weight(&n->g, a->n_out * channels_in[l] / a->groups * a->k_height * a->k_width, 0,
                       0.4f, &n->kernel[l]);
        b = rig_weight(&n->g, a->n_out, 0, 0.2f, &n->bias[l]);
        x = prog_unary(n->g.p, prog_conv2d(n->g.p, x, k, b, a),
                       (struct act_args){ .act = ACT_RELU });
    }
    /* mean over the places: a convolution by channel that covers them all */
    k = rig_weight(&n->g, C2 * places, 1.0f / (float)places, 0, &n->classes);
    x = prog_conv2d(n->g.p, x, k, 0, &(struct conv2d_args){ SIDE / 2, SIDE / 2, C2, SIDE / 2, SIDE / 2,
                                                            1, 1, 0, 0, 1, 1, C2 });
    k = rig_weight(&n->g, CLASSES * C2, 0, 0.5f, &n->classes);
    x = prog_conv2d(n->g.p, x, k, 0, &(struct conv2d_args){ 1, 1, CLASSES, 1, 1, 1, 1, 0, 0, 1, 1, 1 });
    rig_finish(&n->g, prog_softmax(n->g.p, x, 0));
}

static void naive_net(const struct net *n, int row, double *out)
{
    double a[SIDE * SIDE * C2], b[SIDE * SIDE * C2], mean[C2] = { 0 }, sum = 0;

    for (int i = 0; i < SIDE * SIDE * IN; i++)
        a[i] = rig_row(&n->g, 0, row)[i];
    for (int l = 0; l < 3; l++) {
        naive_conv(&layers[l], channels_in[l], a, n->kernel[l], n->bias[l], b);
        for (size_t i = 0; i < SIDE * SIDE * C2; i++)
            a[i] = b[i] > 0 ? b[i] : 0;
    }
    for (int i = 0; i < SIDE / 2 * (SIDE / 2) * C2; i++)
        mean[i % C2] += a[i] / (SIDE / 2 * (SIDE / 2));
    for (int c = 0; c < CLASSES; c++) {
        double z = 0;

        for (int i = 0; i < C2; i++)
            z += n->classes[c * C2 + i] * mean[i];
        sum += out[c] = exp(z);
    }
    for (int c = 0; c < CLASSES; c++)
        out[c] /= sum;
}

static void test_net(void **state)
{
    struct net n;
    double want[RIG_ROWS * CLASSES];

    (void)state;
    net_open(&n);
    for (int t = 0; t < RIG_ROWS; t++)
        naive_net(&n, t, want + t * CLASSES);
    rig_check(&n.g, want, REF, FAST, "a small net");
    rig_close(&n.g);
}

/* ---- shapes that are refused ---- */

static void refused(const struct conv2d_args *a, uint32_t n_weights, const char *part)
{
    struct op_rig g;
    struct err e = { 0 };
    const float *w;
    val x;

    rig_open(&g, 48, 12);
    x = prog_reshape(g.p, rig_input(&g), 12);
    x = prog_conv2d(g.p, x, rig_weight(&g, n_weights, 0, 1, &w), 0, a);
    prog_output(g.p, prog_rows(g.p, prog_reshape(g.p, x, 1)));
    assert_true(prog_finish(g.p, &e) < 0);
    if (!strstr(e.msg, part))
        fail_msg("'%s' lacks '%s'", e.msg, part);
    rig_close(&g);
}

static void test_refused(void **state)
{
    (void)state;
    refused(&(struct conv2d_args){ 3, 5, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1 }, 4,
            "conv: rows of a picture is 12, expected 15");
    refused(&(struct conv2d_args){ 3, 4, 1, 4, 1, 1, 1, 0, 0, 1, 1, 1 }, 16, "places of the result");
    refused(&(struct conv2d_args){ 3, 4, 1, 1, 1, 0, 1, 0, 0, 1, 1, 1 }, 4, "kernel, stride");
    refused(&(struct conv2d_args){ 3, 4, 3, 1, 1, 1, 1, 0, 0, 1, 1, 3 }, 4, "groups of channels");
    refused(&(struct conv2d_args){ 3, 4, 2, 2, 2, 1, 1, 0, 0, 1, 1, 1 }, 31,
            "31 elements, expected 32");
    assert_int_equal(prog_conv_extent(7, 3, 2, 1, 1), 4);
    assert_int_equal(prog_conv_extent(7, 3, 2, 0, 3), 1);
    assert_int_equal(prog_conv_extent(2, 3, 1, 0, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv2d),
        cmocka_unit_test(test_conv1d),
        cmocka_unit_test(test_group_sum),
        cmocka_unit_test(test_net),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
