/* test_dtype.c: element types: the table, half precision, dequantisation of every
 * type against hand-made blocks and against independent software's values, and
 * random blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "chips/dtype.h"
#include "chips/quant_blocks.h"
#include "chips/quant_random.h"
#include "chips/quant_tables.h"
#include "shared.h"

static uint32_t bits(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof u);
    return u;
}

static void table_names_and_sizes(void **state)
{
    enum dtype t;
    uint64_t n;

    (void)state;
    for (uint32_t i = 0; i < DTYPE_COUNT; i++) {
        const struct dtype_info *info = dtype_info(i);

        if (!info)
            continue;
        assert_true(dtype_parse(info->name, &t));
        assert_int_equal(t, i);
        assert_string_equal(dtype_name(i), info->name);
        assert_true(info->block_elems > 0 && info->block_bytes > 0);
        assert_int_equal(info->quantised, info->block_elems > 1);
        if (i < DTYPE_I8 || i > DTYPE_I64)
            assert_non_null(info->dequant);
    }
    assert_null(dtype_info(4));
    assert_null(dtype_info(DTYPE_COUNT));
    assert_null(dtype_info(UINT32_MAX));
    assert_string_equal(dtype_name(77), "?");
    assert_true(dtype_parse("q4_k", &t));
    assert_int_equal(t, DTYPE_Q4_K);
    assert_false(dtype_parse("", &t));
    assert_false(dtype_parse("Q4", &t));
    assert_true(dtype_row_bytes(DTYPE_Q4_K, 512, &n));
    assert_int_equal(n, 288);
    assert_false(dtype_row_bytes(DTYPE_Q4_K, 500, &n));
    assert_false(dtype_row_bytes(33, 512, &n));
    assert_false(dtype_row_bytes(DTYPE_F64, UINT64_MAX / 4, &n));
    assert_true(dtype_row_bytes(DTYPE_F32, 0, &n));
    assert_int_equal(n, 0);
}

static void block_structs_have_the_sizes_of_the_table(void **state)
{
    (void)state;
#define SIZE(type, s) assert_int_equal(dtype_info(type)->block_bytes, sizeof(struct s))
    SIZE(DTYPE_Q4_0, block_q4_0);
    SIZE(DTYPE_Q4_1, block_q4_1);
    SIZE(DTYPE_Q5_0, block_q5_0);
    SIZE(DTYPE_Q5_1, block_q5_1);
    SIZE(DTYPE_Q8_0, block_q8_0);
    SIZE(DTYPE_Q8_1, block_q8_1);
    SIZE(DTYPE_Q2_K, block_q2_k);
    SIZE(DTYPE_Q3_K, block_q3_k);
    SIZE(DTYPE_Q4_K, block_q4_k);
    SIZE(DTYPE_Q5_K, block_q5_k);
    SIZE(DTYPE_Q6_K, block_q6_k);
    SIZE(DTYPE_Q8_K, block_q8_k);
    SIZE(DTYPE_IQ2_XXS, block_iq2_xxs);
    SIZE(DTYPE_IQ2_XS, block_iq2_xs);
    SIZE(DTYPE_IQ2_S, block_iq2_s);
    SIZE(DTYPE_IQ3_XXS, block_iq3_xxs);
    SIZE(DTYPE_IQ3_S, block_iq3_s);
    SIZE(DTYPE_IQ1_S, block_iq1_s);
    SIZE(DTYPE_IQ1_M, block_iq1_m);
    SIZE(DTYPE_IQ4_NL, block_iq4_nl);
    SIZE(DTYPE_IQ4_XS, block_iq4_xs);
    SIZE(DTYPE_MXFP4, block_mxfp4);
    SIZE(DTYPE_NVFP4, block_nvfp4);
    SIZE(DTYPE_TQ1_0, block_tq1_0);
    SIZE(DTYPE_TQ2_0, block_tq2_0);
#undef SIZE
}

/* The definition, in double: sign, exponent, mantissa. */
static double half_value(uint16_t h)
{
    const int exponent = h >> 10 & 31, mantissa = h & 1023;
    const double mag = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);

    return h & 0x8000 ? -mag : mag;
}

static void half_precision_is_exact_and_rounds_to_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = f16_to_f32((uint16_t)h);

        if ((h & 0x7C00) == 0x7C00) {
            if (h & 0x3FF) {
                assert_true(isnan(f));
                assert_true(bits(f) & 0x00400000);
                assert_int_equal(f32_to_f16(f), h | 0x200);
            } else {
                assert_true(isinf(f));
                assert_int_equal(f32_to_f16(f), h);
            }
            continue;
        }
        assert_true((double)f == half_value((uint16_t)h));
        assert_int_equal(signbit(f) != 0, h >> 15);
        assert_int_equal(f32_to_f16(f), h);
        if ((h & 0x7FFF) < 0x7BFF) {
            /* half way to the next: the even one; just beside it: the nearer */
            const float mid = (float)((half_value((uint16_t)h) + half_value((uint16_t)(h + 1))) / 2);

            assert_int_equal(f32_to_f16(mid), h & 1 ? h + 1 : h);
            assert_int_equal(f32_to_f16(nextafterf(mid, 0.0f)), h);
            assert_int_equal(f32_to_f16(nextafterf(mid, signbit(f) ? -FLT_MAX : FLT_MAX)), h + 1);
        }
    }
    assert_int_equal(f32_to_f16(65519.99f), 0x7BFF);
    assert_int_equal(f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(f32_to_f16(-1e30f), 0xFC00);
    assert_int_equal(f32_to_f16(0x1p-25f), 0);
    assert_int_equal(f32_to_f16(0x1.000002p-25f), 1);
}

static void bfloat16_rounds_to_even_and_keeps_nan(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = bf16_to_f32((uint16_t)h);

        assert_int_equal(bits(f), h << 16);
        assert_int_equal(f32_to_bf16(f), isnan(f) ? h | 0x40 : h);
    }
    assert_int_equal(f32_to_bf16(1.00390625f), 0x3F80);     /* 1 + 2^-8: to even */
    assert_int_equal(f32_to_bf16(1.01171875f), 0x3F82);
    assert_int_equal(f32_to_bf16(FLT_MAX), 0x7F80);
}

static void dequantises_hand_made_blocks(void **state)
{
    float out[256];
    struct block_q4_0 q4 = { .d = 0x3800 };     /* 0.5 */
    struct block_q5_1 q5 = { .d = 0x3C00, .m = 0xC000 };
    struct block_q6_k q6 = { .d = 0x3C00 };
    struct block_q4_k q4k = { .d = 0x3C00, .dmin = 0x3C00 };
    struct block_q3_k q3 = { .d = 0x3C00 };
    struct block_mxfp4 mx = { .e = 127 };
    struct block_tq1_0 tq = { .d = 0x3C00 };

    (void)state;
    q4.qs[0] = 0xF0;
    dequant_fn *f = dtype_info(DTYPE_Q4_0)->dequant;
    f(out, &q4, 32);
    assert_true(out[0] == -4 && out[16] == 3.5f && out[1] == -4 && out[31] == -4);

    q5.qs[3] = 0x21;
    q5.qh[0] = 8;       /* element 3 */
    q5.qh[3] = 0x80;    /* element 31 */
    dtype_info(DTYPE_Q5_1)->dequant(out, &q5, 32);
    assert_true(out[3] == 15 && out[19] == 0 && out[31] == 14 && out[0] == -2);

    q6.scales[1] = -2;
    q6.scales[15] = 1;
    q6.ql[16] = 3;              /* element 16 */
    q6.ql[127] = 0xF0;          /* element 255 */
    q6.qh[63] = 0xC0;
    dtype_info(DTYPE_Q6_K)->dequant(out, &q6, 256);
    assert_true(out[0] == 0 && out[16] == 58 && out[17] == 64 && out[255] == 31);

    q4k.scales[1] = 0x80 | 5;   /* group 1: scale 5; group 5: high bits 2 */
    q4k.scales[5] = 3;          /* group 1: minimum 3 */
    q4k.scales[9] = 0x21;       /* group 5: scale 33, minimum 2 */
    q4k.qs[0] = 0x40;           /* element 32: 4 */
    q4k.qs[64] = 0x20;          /* element 160: 2 */
    dtype_info(DTYPE_Q4_K)->dequant(out, &q4k, 256);
    assert_true(out[32] == 17 && out[33] == -3 && out[160] == 64 && out[161] == -2);

    q3.scales[8] = 0xAA;        /* groups 0, 4, 8, 12: high bits 2: scale 0 */
    q3.scales[0] = 0x10;        /* group 8: scale 1 */
    q3.qs[32] = 2;              /* element 128 */
    q3.hmask[1] = 0x10;         /* element 129 */
    dtype_info(DTYPE_Q3_K)->dequant(out, &q3, 256);
    assert_true(out[0] == 0 && out[128] == -2 && out[129] == 0 && out[130] == -4);

    mx.qs[15] = 0xF7;
    dtype_info(DTYPE_MXFP4)->dequant(out, &mx, 32);
    assert_true(out[15] == 6 && out[31] == -6 && out[0] == 0);

    tq.qs[0] = 255;             /* digits 2 2 2 2 2 */
    tq.qh[3] = 128;             /* digits 1 1 1 1 */
    dtype_info(DTYPE_TQ1_0)->dequant(out, &tq, 256);
    assert_true(out[0] == 1 && out[32] == 1 && out[128] == 1 && out[1] == -1);
    assert_true(out[243] == 0 && out[255] == 0 && out[242] == -1);
}

static void dequantises_from_any_address(void **state)
{
    uint8_t raw[8 * 36 + 300];
    float a[256], b[256];
    struct rng r;

    (void)state;
    rng_init(&r, 3);
    for (uint32_t t = 0; t < DTYPE_COUNT; t++) {
        const struct dtype_info *info = dtype_info(t);
        uint8_t moved[300];

        if (!info || !info->dequant)
            continue;
        quant_random_blocks((enum dtype)t, moved, info->block_elems, 1.0f, &r);
        memcpy(raw + 1, moved, info->block_bytes);
        info->dequant(a, moved, info->block_elems);
        info->dequant(b, raw + 1, info->block_elems);
        assert_memory_equal(a, b, info->block_elems * sizeof *a);
    }
}

/* Distance in units in the last place; zeros of either sign are equal. */
static uint32_t ulps(float a, float b)
{
    const int64_t x = bits(a) & 0x80000000 ? -(int64_t)(bits(a) & 0x7FFFFFFF) : bits(a);
    const int64_t y = bits(b) & 0x80000000 ? -(int64_t)(bits(b) & 0x7FFFFFFF) : bits(b);

    return (uint32_t)(x > y ? x - y : y - x);
}

static void agrees_with_independent_values(void **state)
{
    static const char *const names[] = {
        "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K",
        "Q6_K", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ1_M", "IQ4_NL",
        "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4"
    };

    (void)state;
    SHARED_OR_SKIP("quants/index.json");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        char *blocks, *want;
        size_t n_bytes, n_want, n;
        enum dtype t;
        struct err e;
        float *out;
        uint32_t worst = 0;

        assert_true(dtype_parse(names[i], &t));
        (void)snprintf(name, sizeof name, "quants/%s.bin", names[i]);
        assert_int_equal(file_read(shared_path(name), 1 << 24, &blocks, &n_bytes, &e), 0);
        (void)snprintf(name, sizeof name, "quants/%s.f32", names[i]);
        assert_int_equal(file_read(shared_path(name), 1 << 24, &want, &n_want, &e), 0);
        n = n_bytes / dtype_info(t)->block_bytes * dtype_info(t)->block_elems;
        assert_int_equal(n * sizeof(float), n_want);
        out = mem_array(n, sizeof *out);
        assert_non_null(out);
        dtype_info(t)->dequant(out, blocks, n);
        for (size_t j = 0; j < n; j++) {
            float w;
            uint32_t d;

            memcpy(&w, want + j * sizeof w, sizeof w);
            d = isnan(w) && isnan(out[j]) ? 0 : ulps(out[j], w);
            worst = d > worst ? d : worst;
        }
        if (worst)
            print_message("%s: %u ulp\n", names[i], worst);
        assert_in_range(worst, 0, 0);
        mem_free(out);
        mem_free(blocks);
        mem_free(want);
    }
}

static void random_blocks_are_about_normal(void **state)
{
    enum { N = 1 << 18 };
    float *out = mem_array(N, sizeof *out);
    uint8_t *blocks = mem_array(N, 8), *again = mem_array(N, 8);
    static const float sigmas[] = { 0.02f, 1.0f };

    (void)state;
    assert_non_null(out);
    assert_non_null(blocks);
    assert_non_null(again);
    for (uint32_t t = 0; t < DTYPE_COUNT; t++) {
        const struct dtype_info *info = dtype_info(t);

        if (!info)
            continue;
        for (size_t k = 0; k < 2; k++) {
            const double sigma = (double)sigmas[k];
            double sum = 0, square = 0, fourth = 0;
            struct rng r;
            uint64_t size;

            assert_true(dtype_row_bytes(t, N, &size));
            rng_init(&r, t);
            quant_random_blocks((enum dtype)t, blocks, N, sigmas[k], &r);
            rng_init(&r, t);
            quant_random_blocks((enum dtype)t, again, N, sigmas[k], &r);
            assert_memory_equal(blocks, again, size);
            if (!info->dequant)
                continue;
            info->dequant(out, blocks, N);
            for (size_t i = 0; i < N; i++) {
                const double v = (double)out[i];

                assert_true(isfinite(out[i]));
                sum += v;
                square += v * v;
                fourth += v * v * v * v;
            }
            sum /= N;
            square /= N;
            fourth /= N;
            if (fabs(sum) > 0.02 * sigma || fabs(sqrt(square) / sigma - 1) > 0.03)
                fail_msg("%s: mean %g, deviation %g for %g", info->name, sum, sqrt(square), sigma);
            if (info->quantised && (fourth / square / square < 2 || fourth / square / square > 5))
                fail_msg("%s: kurtosis %g", info->name, fourth / square / square);
        }
    }
    mem_free(out);
    mem_free(blocks);
    mem_free(again);
}

static void random_blocks_stay_finite_at_extreme_deviations(void **state)
{
    static const float sigmas[] = { 0.0f, 1e-30f, 1e-7f, 1e6f, 1e30f };
    uint8_t blocks[1024 * 8];
    float out[1024];
    struct rng r;

    (void)state;
    rng_init(&r, 5);
    for (uint32_t t = 0; t < DTYPE_COUNT; t++)
        for (size_t k = 0; k < 5; k++) {
            if (!dtype_info(t) || !dtype_info(t)->quantised)
                continue;
            quant_random_blocks((enum dtype)t, blocks, 1024, sigmas[k], &r);
            dtype_info(t)->dequant(out, blocks, 1024);
            for (size_t i = 0; i < 1024; i++)
                assert_true(isfinite(out[i]));
        }
}

static void sign_byte_has_even_parity(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 128; i++) {
        assert_int_equal(iq_signs(i) & 127, i);
        assert_int_equal(__builtin_popcount(iq_signs(i)) % 2, 0);
    }
    assert_true(e8m0_half(127) == 0.5f && e8m0_half(0) == 0x1p-128f && e8m0_half(1) == 0x1p-127f);
    assert_true(ue4m3_half(0x38) == 0.5f && ue4m3_half(1) == 0x1p-10f && ue4m3_half(0x7E) == 224);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_names_and_sizes),
        cmocka_unit_test(block_structs_have_the_sizes_of_the_table),
        cmocka_unit_test(half_precision_is_exact_and_rounds_to_even),
        cmocka_unit_test(bfloat16_rounds_to_even_and_keeps_nan),
        cmocka_unit_test(dequantises_hand_made_blocks),
        cmocka_unit_test(dequantises_from_any_address),
        cmocka_unit_test(agrees_with_independent_values),
        cmocka_unit_test(random_blocks_are_about_normal),
        cmocka_unit_test(random_blocks_stay_finite_at_extreme_deviations),
        cmocka_unit_test(sign_byte_has_even_parity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
