/* quant_random.c: valid random quantised blocks; see quant_random.h.
 *
 * A normal variable is a uniform one on [-a, a] where a follows a chi distribution
 * with 3 degrees of freedom. So the levels are plain random bits, which is fast, and
 * only the scales, one per group of 16 to 256, are drawn from a table of that
 * distribution. Scales get a random sign where the type has one, so that codebooks
 * with an uneven range still give mean 0. */
#include "chips/quant_random.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "chips/quant_blocks.h"
#include "chips/quant_tables.h"

/* Quantiles of the chi distribution, 3 degrees of freedom, at (i + 0.5) / 64, scaled
 * to mean square 1. */
static const float chi3[64] = {
    0.18022f, 0.26275f, 0.31426f, 0.35433f, 0.38812f, 0.41787f, 0.44478f, 0.46956f,
    0.49270f, 0.51454f, 0.53530f, 0.55519f, 0.57433f, 0.59284f, 0.61082f, 0.62835f,
    0.64548f, 0.66227f, 0.67878f, 0.69504f, 0.71109f, 0.72697f, 0.74270f, 0.75831f,
    0.77384f, 0.78930f, 0.80471f, 0.82011f, 0.83551f, 0.85094f, 0.86641f, 0.88195f,
    0.89758f, 0.91332f, 0.92920f, 0.94523f, 0.96145f, 0.97788f, 0.99455f, 1.01149f,
    1.02874f, 1.04633f, 1.06431f, 1.08271f, 1.10160f, 1.12103f, 1.14108f, 1.16181f,
    1.18332f, 1.20572f, 1.22915f, 1.25375f, 1.27973f, 1.30733f, 1.33688f, 1.36879f,
    1.40362f, 1.44218f, 1.48565f, 1.53592f, 1.59620f, 1.67288f, 1.78196f, 1.99360f,
};
#define CHI3_MAX 1.99360f

/* Root mean squares of uniformly drawn levels. */
#define RMS_4BIT     4.63681f   /* q - 8, q of 0..15 */
#define RMS_4BIT_MID 4.60977f   /* q - 7.5 */
#define RMS_5BIT     9.24662f   /* q - 16 */
#define RMS_5BIT_MID 9.23309f   /* q - 15.5 */
#define RMS_8BIT     73.9019f   /* q of -128..127 */
#define RMS_2BIT_MID 1.11803f   /* q - 1.5 */
#define RMS_3BIT     2.34521f   /* q - 4 */
#define RMS_6BIT     18.4797f   /* q - 32 */
#define RMS_IQ4      67.439f
#define RMS_FP4      5.85235f
#define RMS_TERNARY  0.816497f

static float draw_chi3(struct rng *r)
{
    return chi3[rng_u64(r) >> 58];
}

static bool draw_bit(struct rng *r)
{
    return rng_u64(r) >> 63;
}

static void draw_bytes(void *p, size_t n, struct rng *r)
{
    uint8_t *b = p;

    for (; n >= 8; n -= 8, b += 8) {
        const uint64_t v = rng_u64(r);

        memcpy(b, &v, 8);
    }
    if (n) {
        const uint64_t v = rng_u64(r);

        memcpy(b, &v, n);
    }
}

/* A finite, positive half near f. */
static uint16_t half_scale(float f)
{
    if (!(f > 0x1p-24f))
        return 1;
    return f < 65504.0f ? f32_to_f16(f) : 0x7BFF;
}

static uint16_t signed_half(float f, struct rng *r)
{
    return (uint16_t)(half_scale(f) | (draw_bit(r) ? 0x8000u : 0u));
}

/* Integer of lo..hi around f drawn so that the mean of its square is f squared. */
static unsigned draw_int(float f, unsigned lo, unsigned hi, struct rng *r)
{
    const float base = floorf(f);
    const float p = (f * f - base * base) / (2 * base + 1);
    const float v = base + (rng_float(r) < p ? 1.0f : 0.0f);

    if (!(v > (float)lo))
        return lo;
    return v < (float)hi ? (unsigned)v : hi;
}

/* Two values about N(0, 1) per call of the generator. */
static float draw_normal(struct rng *r, uint64_t *bits, unsigned *left)
{
    if (*left == 0) {
        *bits = rng_u64(r);
        *left = 2;
    }
    const uint32_t half = (uint32_t)(*bits >> 32);

    *bits <<= 32;
    --*left;
    return ((float)(half & 0x3FFFFFF) - 33554431.5f) * (1.7320508f * 0x1p-25f) * chi3[half >> 26];
}

static void random_plain(enum dtype dtype, void *out, size_t n, float sigma, struct rng *r)
{
    const size_t size = dtype_info(dtype)->block_bytes;
    uint8_t *p = out;
    uint64_t bits = 0;
    unsigned left = 0;

    for (size_t i = 0; i < n; i++, p += size) {
        const float v = sigma * draw_normal(r, &bits, &left);
        const double wide = (double)v;
        /* little-endian: the low bytes of an int64 are the narrower integer */
        const float limit = size >= 8 ? 0x1p62f : (float)((UINT64_C(1) << (8 * size - 1)) - 1);
        int64_t whole;
        uint16_t h;

        switch (dtype) {
        case DTYPE_F32:
            memcpy(p, &v, size);
            break;
        case DTYPE_F64:
            memcpy(p, &wide, size);
            break;
        case DTYPE_F16:
            h = f32_to_f16(v);
            memcpy(p, &h, size);
            break;
        case DTYPE_BF16:
            h = f32_to_bf16(v);
            memcpy(p, &h, size);
            break;
        default:
            whole = fabsf(v) < limit ? llrintf(v) : 0;
            memcpy(p, &whole, size);
            break;
        }
    }
}

/* ---- blocks of 32 and 64; each fills one block whose bytes are already random ---- */

static void random_q4_0(void *block, float sigma, struct rng *r)
{
    struct block_q4_0 *b = block;

    b->d = signed_half(sigma * draw_chi3(r) / RMS_4BIT, r);
}

static void random_q4_1(void *block, float sigma, struct rng *r)
{
    struct block_q4_1 *b = block;

    b->d = half_scale(sigma * draw_chi3(r) / RMS_4BIT_MID);
    b->m = f32_to_f16(fmaxf(-7.5f * f16_to_f32(b->d), -65504.0f));
}

static void random_q5_0(void *block, float sigma, struct rng *r)
{
    struct block_q5_0 *b = block;

    b->d = signed_half(sigma * draw_chi3(r) / RMS_5BIT, r);
}

static void random_q5_1(void *block, float sigma, struct rng *r)
{
    struct block_q5_1 *b = block;

    b->d = half_scale(sigma * draw_chi3(r) / RMS_5BIT_MID);
    b->m = f32_to_f16(fmaxf(-15.5f * f16_to_f32(b->d), -65504.0f));
}

static void random_q8_0(void *block, float sigma, struct rng *r)
{
    struct block_q8_0 *b = block;

    b->d = signed_half(sigma * draw_chi3(r) / RMS_8BIT, r);
}

static void random_q8_1(void *block, float sigma, struct rng *r)
{
    struct block_q8_1 *b = block;
    int sum = 0;

    b->d = half_scale(sigma * draw_chi3(r) / RMS_8BIT);
    for (int j = 0; j < 32; j++)
        sum += b->qs[j];
    b->s = f32_to_f16(fmaxf(fminf((float)sum * f16_to_f32(b->d), 65504.0f), -65504.0f));
}

static void random_iq4_nl(void *block, float sigma, struct rng *r)
{
    struct block_iq4_nl *b = block;

    b->d = signed_half(sigma * draw_chi3(r) / RMS_IQ4, r);
}

/* Levels of E2M1 crowd around 0 as a normal variable does: the scale needn't vary.
 * It has powers of two only: take the one below or above, so that the mean square fits. */
static void random_mxfp4(void *block, float sigma, struct rng *r)
{
    struct block_mxfp4 *b = block;
    const float d = 2 * sigma / RMS_FP4;
    int e;
    const float f = 2 * frexpf(d, &e);     /* d = f 2^(e - 1), f in 1..2 */

    e += 126 + (rng_float(r) < (f * f - 1) / 3);
    b->e = (uint8_t)(d > 0 && e > 0 ? (e < 254 ? e : 254) : 0);
}

static void random_nvfp4(void *block, float sigma, struct rng *r)
{
    struct block_nvfp4 *b = block;

    for (int g = 0; g < 4; g++) {
        const float d = fminf(sigma / RMS_FP4, 224.0f);
        unsigned code = 1;

        /* the code below d, then it or the next by chance */
        while (code < 0x7E && ue4m3_half((uint8_t)(code + 1)) <= d)
            code++;
        const float lo = d < ue4m3_half(1) ? 0 : ue4m3_half((uint8_t)code);
        const float hi = lo > 0 ? ue4m3_half((uint8_t)(code < 0x7E ? code + 1 : 0x7E)) : ue4m3_half(1);
        const bool up = hi > lo && rng_float(r) * (hi * hi - lo * lo) < d * d - lo * lo;

        b->d[g] = (uint8_t)(lo > 0 ? code + (up && code < 0x7E) : (unsigned)up);
    }
}

/* ---- super-blocks of 256 ---- */

static void random_q2_k(void *block, float sigma, struct rng *r)
{
    struct block_q2_k *b = block;
    const float d = sigma * CHI3_MAX / (15 * RMS_2BIT_MID);

    for (int g = 0; g < 16; g++)
        b->scales[g] = (uint8_t)(draw_int(draw_chi3(r) * (15 / CHI3_MAX), 1, 15, r) * 0x11);
    b->d = half_scale(d);
    b->dmin = half_scale(1.5f * d);
}

static void random_q3_k(void *block, float sigma, struct rng *r)
{
    struct block_q3_k *b = block;

    memset(b->scales, 0, sizeof b->scales);
    for (unsigned g = 0; g < 16; g++) {
        const unsigned s = draw_int(draw_chi3(r) * (31 / CHI3_MAX), 1, 31, r);
        const unsigned code = draw_bit(r) ? 32 + s : 32 - s;

        b->scales[g % 8] |= (uint8_t)((code & 15) << g / 8 * 4);
        b->scales[8 + g % 4] |= (uint8_t)(code >> 4 << g / 4 * 2);
    }
    b->d = half_scale(sigma * CHI3_MAX / (31 * RMS_3BIT));
}

/* Scale and minimum of each group are the same number, so dmin = 7.5 d centres it. */
static void random_scales_45(uint8_t s[12], struct rng *r)
{
    memset(s, 0, 12);
    for (unsigned g = 0; g < 8; g++) {
        const unsigned v = draw_int(draw_chi3(r) * (63 / CHI3_MAX), 1, 63, r);

        if (g < 4) {
            s[g] |= (uint8_t)v;
            s[g + 4] |= (uint8_t)v;
        } else {
            s[g + 4] = (uint8_t)((v & 15) * 0x11);
            s[g - 4] |= (uint8_t)(v >> 4 << 6);
            s[g] |= (uint8_t)(v >> 4 << 6);
        }
    }
}

static void random_q4_k(void *block, float sigma, struct rng *r)
{
    struct block_q4_k *b = block;
    const float d = sigma * CHI3_MAX / (63 * RMS_4BIT_MID);

    random_scales_45(b->scales, r);
    b->d = half_scale(d);
    b->dmin = half_scale(7.5f * d);
}

static void random_q5_k(void *block, float sigma, struct rng *r)
{
    struct block_q5_k *b = block;
    const float d = sigma * CHI3_MAX / (63 * RMS_5BIT_MID);

    random_scales_45(b->scales, r);
    b->d = half_scale(d);
    b->dmin = half_scale(15.5f * d);
}

static void random_q6_k(void *block, float sigma, struct rng *r)
{
    struct block_q6_k *b = block;

    for (int g = 0; g < 16; g++) {
        const int s = (int)draw_int(draw_chi3(r) * (127 / CHI3_MAX), 1, 127, r);

        b->scales[g] = (int8_t)(draw_bit(r) ? s : -s);
    }
    b->d = half_scale(sigma * CHI3_MAX / (127 * RMS_6BIT));
}

static void random_q8_k(void *block, float sigma, struct rng *r)
{
    struct block_q8_k *b = block;

    b->d = sigma * draw_chi3(r) / RMS_8BIT;
    for (int g = 0; g < 16; g++) {
        int sum = 0;

        for (int j = 0; j < 16; j++)
            sum += b->qs[16 * g + j];
        b->bsums[g] = (int16_t)sum;
    }
}

static void random_iq4_xs(void *block, float sigma, struct rng *r)
{
    struct block_iq4_xs *b = block;
    unsigned high = 0;

    memset(b->scales_l, 0, sizeof b->scales_l);
    for (unsigned g = 0; g < 8; g++) {
        const unsigned s = draw_int(draw_chi3(r) * (31 / CHI3_MAX), 1, 31, r);
        const unsigned code = draw_bit(r) ? 32 + s : 32 - s;

        b->scales_l[g / 2] |= (uint8_t)((code & 15) << g % 2 * 4);
        high |= code >> 4 << 2 * g;
    }
    b->scales_h = (uint16_t)high;
    b->d = half_scale(sigma * CHI3_MAX / (31 * RMS_IQ4));
}

/* ---- codebooks: only d is set, the 3- or 4-bit scales stay uniform ---- */

static void random_iq2_xxs(void *block, float sigma, struct rng *r)
{
    ((struct block_iq2_xxs *)block)->d = signed_half(sigma / 53.362f, r);
}

static void random_iq2_xs(void *block, float sigma, struct rng *r)
{
    ((struct block_iq2_xs *)block)->d = signed_half(sigma / 55.9f, r);
}

static void random_iq2_s(void *block, float sigma, struct rng *r)
{
    ((struct block_iq2_s *)block)->d = signed_half(sigma / 56.392f, r);
}

static void random_iq3_xxs(void *block, float sigma, struct rng *r)
{
    ((struct block_iq3_xxs *)block)->d = signed_half(sigma / 142.41f, r);
}

static void random_iq3_s(void *block, float sigma, struct rng *r)
{
    ((struct block_iq3_s *)block)->d = signed_half(sigma / 140.24f, r);
}

static void random_iq1_s(void *block, float sigma, struct rng *r)
{
    ((struct block_iq1_s *)block)->d = signed_half(sigma / 7.1995f, r);
}

static void random_iq1_m(void *block, float sigma, struct rng *r)
{
    struct block_iq1_m *b = block;
    const unsigned d = signed_half(sigma / 7.1995f, r);

    for (unsigned k = 0; k < 4; k++)
        b->scales[k] = (uint16_t)((b->scales[k] & 0x0FFFu) | (d >> 4 * k & 15) << 12);
}

/* ---- ternary ---- */

static void random_tq1_0(void *block, float sigma, struct rng *r)
{
    struct block_tq1_0 *b = block;

    for (int j = 0; j < 48; j++)
        b->qs[j] = (uint8_t)((rng_below(r, 243) * 256 + 242) / 243);
    for (int j = 0; j < 4; j++)
        b->qh[j] = (uint8_t)((rng_below(r, 81) * 3 * 256 + 242) / 243);
    b->d = half_scale(sigma * draw_chi3(r) / RMS_TERNARY);
}

static void random_tq2_0(void *block, float sigma, struct rng *r)
{
    struct block_tq2_0 *b = block;

    for (int j = 0; j < 64; j++) {
        const unsigned v = rng_below(r, 81);

        b->qs[j] = (uint8_t)(v % 3 | v / 3 % 3 << 2 | v / 9 % 3 << 4 | v / 27 << 6);
    }
    b->d = half_scale(sigma * draw_chi3(r) / RMS_TERNARY);
}

typedef void random_fn(void *block, float sigma, struct rng *r);

static random_fn *const random_block[DTYPE_COUNT] = {
    [DTYPE_Q4_0] = random_q4_0,       [DTYPE_Q4_1] = random_q4_1,
    [DTYPE_Q5_0] = random_q5_0,       [DTYPE_Q5_1] = random_q5_1,
    [DTYPE_Q8_0] = random_q8_0,       [DTYPE_Q8_1] = random_q8_1,
    [DTYPE_Q2_K] = random_q2_k,       [DTYPE_Q3_K] = random_q3_k,
    [DTYPE_Q4_K] = random_q4_k,       [DTYPE_Q5_K] = random_q5_k,
    [DTYPE_Q6_K] = random_q6_k,       [DTYPE_Q8_K] = random_q8_k,
    [DTYPE_IQ2_XXS] = random_iq2_xxs, [DTYPE_IQ2_XS] = random_iq2_xs,
    [DTYPE_IQ2_S] = random_iq2_s,     [DTYPE_IQ3_XXS] = random_iq3_xxs,
    [DTYPE_IQ3_S] = random_iq3_s,     [DTYPE_IQ1_S] = random_iq1_s,
    [DTYPE_IQ1_M] = random_iq1_m,     [DTYPE_IQ4_NL] = random_iq4_nl,
    [DTYPE_IQ4_XS] = random_iq4_xs,   [DTYPE_MXFP4] = random_mxfp4,
    [DTYPE_NVFP4] = random_nvfp4,     [DTYPE_TQ1_0] = random_tq1_0,
    [DTYPE_TQ2_0] = random_tq2_0,
};

void quant_random_blocks(enum dtype dtype, void *blocks, size_t n_elems, float sigma,
                         struct rng *r)
{
    const struct dtype_info *info = dtype_info(dtype);
    uint8_t *p = blocks;

    CHECK(info && n_elems % info->block_elems == 0);
    if (!info->quantised) {
        random_plain(dtype, blocks, n_elems, sigma, r);
        return;
    }
    for (size_t i = 0; i < n_elems / info->block_elems; i++, p += info->block_bytes) {
        draw_bytes(p, info->block_bytes, r);
        random_block[dtype](p, sigma, r);
    }
}
