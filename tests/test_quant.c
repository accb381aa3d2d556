/* test_quant.c: the quantisers: error against bounds and against plain rounding,
 * importance, odd input, and that each writes what its dequantiser reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "chips/dtype.h"
#include "chips/quant_random.h"

enum { N = 64 * 256 };

/* Error of quantising N(0, 1), relative to it, as docs/quantise.md lists it, plus 2 %. */
static const struct { enum dtype type; double gauss; } types[] = {
    { DTYPE_Q4_0, 0.0828 },   { DTYPE_Q4_1, 0.0708 },   { DTYPE_Q5_0, 0.0411 },
    { DTYPE_Q5_1, 0.0342 },   { DTYPE_Q8_0, 0.0053 },   { DTYPE_Q2_K, 0.2650 },
    { DTYPE_Q3_K, 0.1466 },   { DTYPE_Q4_K, 0.0711 },   { DTYPE_Q5_K, 0.0350 },
    { DTYPE_Q6_K, 0.0174 },   { DTYPE_IQ4_NL, 0.0750 }, { DTYPE_IQ4_XS, 0.0754 },
    { DTYPE_TQ1_0, 0.4441 },  { DTYPE_TQ2_0, 0.4441 },  { DTYPE_MXFP4, 0.1137 },
    { DTYPE_NVFP4, 0.0961 },
};
#define N_TYPES (sizeof types / sizeof *types)

struct work {
    float  *x, *y, *w;
    uint8_t *blocks, *more;
};

static int setup(void **state)
{
    struct work *t = mem_calloc(1, sizeof *t);

    assert_non_null(t);
    t->x = mem_array(N, sizeof(float));
    t->y = mem_array(N, sizeof(float));
    t->w = mem_array(N, sizeof(float));
    t->blocks = mem_array(N, 4);
    t->more = mem_array(N, 4);
    assert_true(t->x && t->y && t->w && t->blocks && t->more);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct work *t = *state;

    mem_free(t->x);
    mem_free(t->y);
    mem_free(t->w);
    mem_free(t->blocks);
    mem_free(t->more);
    mem_free(t);
    return 0;
}

static void draw(float *x, size_t n, uint64_t seed)
{
    struct rng r;

    rng_init(&r, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&r);
}

static void there_and_back(struct work *t, enum dtype type, size_t n, const float *importance)
{
    dtype_info(type)->quant(t->blocks, t->x, n, importance);
    dtype_info(type)->dequant(t->y, t->blocks, n);
}

static double error_of(const struct work *t, size_t n, const float *w)
{
    double error = 0, sum = 0;

    for (size_t i = 0; i < n; i++) {
        const double d = (double)t->y[i] - (double)t->x[i], v = w ? (double)w[i] : 1;

        error += v * d * d;
        sum += v * (double)t->x[i] * (double)t->x[i];
    }
    return sum > 0 ? sqrt(error / sum) : sqrt(error);
}

static void errors_are_within_bounds(void **state)
{
    struct work *t = *state;

    for (size_t k = 0; k < N_TYPES; k++) {
        static const float scales[] = { 0.02f, 1.0f, 300.0f };

        for (size_t s = 0; s < 3; s++) {
            double error;

            if (types[k].type == DTYPE_NVFP4 && s == 0)
                continue;   /* its scales are subnormal there */
            draw(t->x, N, k);
            for (size_t i = 0; i < N; i++)
                t->x[i] *= scales[s];
            there_and_back(t, types[k].type, N, NULL);
            error = error_of(t, N, NULL);
            if (!(error < types[k].gauss))
                fail_msg("%s: error %.5f", dtype_name(types[k].type), error);
        }
    }
}

/* Rounding to the scale that maps the largest magnitude to the last level. */
static double plain_rounding(const struct work *t, double levels)
{
    double error = 0, sum = 0;

    for (size_t i = 0; i < N; i += 32) {
        double d = 0;

        for (size_t j = i; j < i + 32; j++)
            d = fmax(d, fabs((double)t->x[j]) / levels);
        for (size_t j = i; j < i + 32; j++) {
            const double x = (double)t->x[j], q = fmax(-levels, fmin(levels - 1, round(x / d)));

            error += (x - d * q) * (x - d * q);
            sum += x * x;
        }
    }
    return sqrt(error / sum);
}

static void search_beats_plain_rounding(void **state)
{
    struct work *t = *state;

    draw(t->x, N, 7);
    there_and_back(t, DTYPE_Q4_0, N, NULL);
    assert_true(error_of(t, N, NULL) < 0.97 * plain_rounding(t, 8));
    there_and_back(t, DTYPE_Q5_0, N, NULL);
    assert_true(error_of(t, N, NULL) < 0.97 * plain_rounding(t, 16));
}

static void importance_lowers_the_weighted_error(void **state)
{
    struct work *t = *state;
    struct rng r;

    draw(t->x, N, 8);
    rng_init(&r, 9);
    for (size_t i = 0; i < N; i++)
        t->w[i] = (float)exp(2 * rng_normal(&r));
    for (size_t k = 0; k < N_TYPES; k++) {
        double without;

        there_and_back(t, types[k].type, N, NULL);
        without = error_of(t, N, t->w);
        there_and_back(t, types[k].type, N, t->w);
        if (!(error_of(t, N, t->w) < 0.99 * without))
            fail_msg("%s: %.5f with importance, %.5f without", dtype_name(types[k].type),
                     error_of(t, N, t->w), without);
    }
}

static void odd_importance_is_harmless(void **state)
{
    struct work *t = *state;
    const double plain = 0.9;

    draw(t->x, N, 10);
    for (size_t k = 0; k < N_TYPES; k++) {
        for (size_t i = 0; i < N; i++)
            t->w[i] = i % 4 == 0 ? NAN : i % 4 == 1 ? -1.0f : i % 4 == 2 ? INFINITY : 0.0f;
        there_and_back(t, types[k].type, N, t->w);
        assert_true(error_of(t, N, NULL) < types[k].gauss);
        memset(t->w, 0, N * sizeof *t->w);
        there_and_back(t, types[k].type, N, t->w);
        assert_true(error_of(t, N, NULL) < types[k].gauss);
        /* one element of each block counts: the others are still roughly right */
        for (size_t i = 0; i < N; i++)
            t->w[i] = i % 32 == 5 ? FLT_MAX : 0;
        there_and_back(t, types[k].type, N, t->w);
        assert_true(error_of(t, N, NULL) < plain);
    }
}

static void zeros_give_zeros(void **state)
{
    struct work *t = *state;

    memset(t->x, 0, N * sizeof *t->x);
    for (size_t k = 0; k < N_TYPES; k++) {
        memset(t->blocks, 0xAA, N);
        there_and_back(t, types[k].type, 512, NULL);
        for (size_t i = 0; i < 512; i++)
            assert_true(t->y[i] == 0);
    }
}

static void constants_are_kept(void **state)
{
    struct work *t = *state;

    for (size_t k = 0; k < N_TYPES; k++)
        for (int sign = -1; sign <= 1; sign += 2) {
            for (size_t i = 0; i < 512; i++)
                t->x[i] = (float)sign * 0.75f;
            there_and_back(t, types[k].type, 512, NULL);
            if (!(error_of(t, 512, NULL) < 0.01))
                fail_msg("%s: %g gives %g", dtype_name(types[k].type), (double)t->x[0],
                         (double)t->y[0]);
        }
}

static void odd_values_are_defined(void **state)
{
    struct work *t = *state;

    for (size_t k = 0; k < N_TYPES; k++) {
        /* NaN is 0 and does not disturb its block */
        draw(t->x, N, 11);
        for (size_t i = 3; i < N; i += 32)
            t->x[i] = NAN;
        there_and_back(t, types[k].type, N, NULL);
        for (size_t i = 0; i < N; i++) {
            assert_true(isfinite(t->y[i]));
            if (isnan(t->x[i]))
                t->x[i] = 0;
        }
        assert_true(error_of(t, N, NULL) < 1.1 * types[k].gauss);

        /* infinities and huge values saturate with their sign */
        draw(t->x, N, 12);
        for (size_t i = 5; i < N; i += 32)
            t->x[i] = i % 64 == 5 ? INFINITY : -1e38f;
        there_and_back(t, types[k].type, N, NULL);
        for (size_t i = 0; i < N; i++) {
            assert_true(isfinite(t->y[i]));
            if (i % 32 == 5)
                assert_true(i % 64 == 5 ? t->y[i] > 1000 : t->y[i] < -1000);
        }

        /* denormals: nothing but finite, small values */
        for (size_t i = 0; i < N; i++)
            t->x[i] = i % 2 ? 1e-41f : -3e-42f;
        there_and_back(t, types[k].type, N, NULL);
        for (size_t i = 0; i < N; i++)
            assert_true(fabsf(t->y[i]) < 1e-37f);
    }
}

static void tiny_values_use_small_scales(void **state)
{
    struct work *t = *state;

    /* half-precision scales get coarse here, so bounds are loose */
    for (size_t k = 0; k < N_TYPES; k++) {
        if (types[k].type == DTYPE_NVFP4)
            continue;
        draw(t->x, N, 13);
        for (size_t i = 0; i < N; i++)
            t->x[i] *= 1e-4f;
        there_and_back(t, types[k].type, N, NULL);
        if (!(error_of(t, N, NULL) < 1.2 * types[k].gauss + 0.02))
            fail_msg("%s: %.5f", dtype_name(types[k].type), error_of(t, N, NULL));
    }
}

static void blocks_do_not_depend_on_their_neighbours(void **state)
{
    struct work *t = *state;

    draw(t->x, N, 14);
    for (size_t k = 0; k < N_TYPES; k++) {
        const struct dtype_info *info = dtype_info(types[k].type);
        const size_t n = 512 / info->block_elems;

        info->quant(t->blocks, t->x, 512, NULL);
        t->more[0] = 0x5A;
        for (size_t i = 0; i < n; i++)      /* to an odd address */
            info->quant(t->more + 1 + i * info->block_bytes, t->x + i * info->block_elems,
                        info->block_elems, NULL);
        assert_memory_equal(t->blocks, t->more + 1, n * info->block_bytes);
        assert_int_equal(t->more[0], 0x5A);
        t->blocks[0] = 0x77;
        info->quant(t->blocks, t->x, 0, NULL);
        assert_int_equal(t->blocks[0], 0x77);
    }
}

static void quantised_values_come_back_nearly_whole(void **state)
{
    struct work *t = *state;
    struct rng r;

    rng_init(&r, 15);
    for (size_t k = 0; k < N_TYPES; k++) {
        quant_random_blocks(types[k].type, t->more, N, 1.0f, &r);
        dtype_info(types[k].type)->dequant(t->x, t->more, N);
        there_and_back(t, types[k].type, N, NULL);
        if (!(error_of(t, N, NULL) < 0.7 * types[k].gauss))
            fail_msg("%s: %.5f", dtype_name(types[k].type), error_of(t, N, NULL));
    }
}

static void plain_types_convert(void **state)
{
    struct work *t = *state;
    static const enum dtype plain[] = { DTYPE_F32, DTYPE_F64, DTYPE_F16, DTYPE_BF16 };
    static const double bounds[] = { 0, 0, 0x1p-11, 0x1p-8 };

    draw(t->x, N, 16);
    for (size_t k = 0; k < 4; k++) {
        dtype_info(plain[k])->quant(t->blocks + 1, t->x, 1001, NULL);
        dtype_info(plain[k])->dequant(t->y, t->blocks + 1, 1001);
        for (size_t i = 0; i < 1001; i++)
            assert_true(fabs((double)t->y[i] - (double)t->x[i]) <=
                        bounds[k] * fabs((double)t->x[i]) + (k == 2 ? 0x1p-25 : 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_within_bounds),
        cmocka_unit_test(search_beats_plain_rounding),
        cmocka_unit_test(importance_lowers_the_weighted_error),
        cmocka_unit_test(odd_importance_is_harmless),
        cmocka_unit_test(zeros_give_zeros),
        cmocka_unit_test(constants_are_kept),
        cmocka_unit_test(odd_values_are_defined),
        cmocka_unit_test(tiny_values_use_small_scales),
        cmocka_unit_test(blocks_do_not_depend_on_their_neighbours),
        cmocka_unit_test(quantised_values_come_back_nearly_whole),
        cmocka_unit_test(plain_types_convert),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
