/* quant_256.c: quantisers of the super-blocks of 256 elements; see quant.h.
 *
 * A group's scale (and minimum) is itself a small whole number times a half-precision
 * number of the super-block. First each group is fitted alone; then the group scales
 * are fitted like elements, weighted by how fast their group's error grows; then, by
 * turns, each group takes the best of the neighbouring whole numbers by its true
 * error, and the super-block's numbers are solved by least squares. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "chips/quant.h"
#include "chips/quant_blocks.h"
#include "chips/quant_fit.h"

#define MAX_GROUPS 16
#define ROUNDS     2
#define HALF_MAX   65504.0f

/* One super-block at work. */
struct super {
    float    x[256], w[256];
    int      n_groups, group;           /* group: elements of each */
    uint16_t d, dmin;                   /* half precision */
    int      s[MAX_GROUPS], m[MAX_GROUPS];
    int8_t   q[256];
};

static uint16_t to_half(float f)
{
    return f32_to_f16(f > HALF_MAX ? HALF_MAX : f < -HALF_MAX ? -HALF_MAX : f);
}

static float super_prepare(struct super *b, const float *in, const float *importance, int group)
{
    b->group = group;
    b->n_groups = 256 / group;
    return fit_prepare(b->x, b->w, in, importance, 256);
}

static void super_round(struct super *b, const struct fit_levels *l)
{
    const float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);

    for (int g = 0; g < b->n_groups; g++)
        fit_round(b->q + g * b->group, b->x + g * b->group, (size_t)b->group, l,
                  d * (float)b->s[g], -dmin * (float)b->m[g]);
}

/* ---- x about d s q ---- */

/* Each group's s: the best of eight around the present one. */
static float scales_improve(struct super *b, const struct fit_levels *l, int s_lo, int s_hi)
{
    static const float zero[FIT_LANES] = { 0 };
    const float d = f16_to_f32(b->d);
    float total = 0;

    for (int g = 0; g < b->n_groups; g++) {
        const int at = g * b->group;
        float ds[FIT_LANES], error[FIT_LANES];
        int s[FIT_LANES], best = 3;

        for (int c = 0; c < FIT_LANES; c++) {
            s[c] = b->s[g] + c - 3;
            s[c] = s[c] < s_lo ? s_lo : s[c] > s_hi ? s_hi : s[c];
            ds[c] = d * (float)s[c];
        }
        fit_errors(error, b->x + at, b->w + at, (size_t)b->group, l, ds, zero);
        for (int c = 0; c < FIT_LANES; c++)
            if (error[c] < error[best])
                best = c;
        b->s[g] = s[best];
        total += error[best];
    }
    return total;
}

/* The super-block's scale by least squares, s and q as they are. */
static float scale_solve(const struct super *b, const struct fit_levels *l)
{
    double xq = 0, qq = 0;

    for (int i = 0; i < 256; i++) {
        const double q = (double)(fit_level(l, b->q[i]) * (float)b->s[i / b->group]);

        xq += (double)b->w[i] * (double)b->x[i] * q;
        qq += (double)b->w[i] * q * q;
    }
    return qq > 0 ? (float)(xq / qq) : 0;
}

/* Half-precision numbers below this many units of the last place are so coarse that
 * the nearest may clip groups: the next one up is tried as well. */
#define COARSE 128

static bool is_coarse(uint16_t half)
{
    return (half & 0x7FFF) < COARSE;
}

/* Takes d and the group scales nearest to the wanted ones if the error is below *least. */
static void scales_try(struct super *b, const struct fit_levels *l, int s_lo, int s_hi,
                       const float *scale, uint16_t d, float *least)
{
    const struct fit_levels scale_levels = { FIT_WHOLE, (float)s_lo, (float)s_hi };
    struct super next = *b;
    int8_t s[MAX_GROUPS];
    float error;

    next.d = d;
    fit_round(s, scale, (size_t)b->n_groups, &scale_levels, f16_to_f32(d), 0);
    for (int g = 0; g < b->n_groups; g++)
        next.s[g] = s[g];
    error = scales_improve(&next, l, s_lo, s_hi);
    if (error < *least) {
        *b = next;
        *least = error;
    }
}

/* Fits d, s of s_lo..s_hi and q. */
static void fit_super_scale(struct super *b, const struct fit_levels *l, int s_lo, int s_hi)
{
    const struct fit_levels scale_levels = { FIT_WHOLE, (float)s_lo, (float)s_hi };
    float scale[MAX_GROUPS], curve[MAX_GROUPS], curve_max = 0, least = INFINITY;
    uint16_t d;

    for (int g = 0; g < b->n_groups; g++) {
        const int at = g * b->group;

        scale[g] = fit_scale(b->x + at, b->w + at, (size_t)b->group, l, &curve[g]);
        curve_max = fmaxf(curve_max, curve[g]);
    }
    for (int g = 0; g < b->n_groups; g++)
        curve[g] = curve_max > 0 ? fmaxf(curve[g] / curve_max, 1e-5f) : 1;
    d = to_half(fit_scale(scale, curve, (size_t)b->n_groups, &scale_levels, NULL));
    b->d = b->dmin = 0;
    memset(b->s, 0, sizeof b->s);
    memset(b->m, 0, sizeof b->m);
    scales_try(b, l, s_lo, s_hi, scale, d, &least);
    if (is_coarse(d))
        scales_try(b, l, s_lo, s_hi, scale, (uint16_t)(d + 1), &least);
    super_round(b, l);
    for (int round = 0; round < ROUNDS; round++) {
        struct super next = *b;
        float error;

        next.d = to_half(scale_solve(b, l));
        error = scales_improve(&next, l, s_lo, s_hi);
        if (!(error < least))
            break;
        super_round(&next, l);
        *b = next;
        least = error;
    }
}

/* ---- x about d s q - dmin m ---- */

/* Each group's s and m: the best of 3 by 5 around the present ones. */
static float pairs_improve(struct super *b, const struct fit_levels *l, int top)
{
    const float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    float total = 0;

    for (int g = 0; g < b->n_groups; g++) {
        const int at = g * b->group, s0 = b->s[g], m0 = b->m[g];
        float least = INFINITY;

        for (int batch = 0; batch < 2; batch++) {
            float ds[FIT_LANES], dm[FIT_LANES], error[FIT_LANES];
            int s[FIT_LANES], m[FIT_LANES];

            for (int c = 0; c < FIT_LANES; c++) {
                const int k = batch * FIT_LANES + c;    /* the 16th is the middle again */

                s[c] = k < 15 ? s0 + k / 5 - 1 : s0;
                m[c] = k < 15 ? m0 + k % 5 - 2 : m0;
                s[c] = s[c] < 0 ? 0 : s[c] > top ? top : s[c];
                m[c] = m[c] < 0 ? 0 : m[c] > top ? top : m[c];
                ds[c] = d * (float)s[c];
                dm[c] = -dmin * (float)m[c];
            }
            fit_errors(error, b->x + at, b->w + at, (size_t)b->group, l, ds, dm);
            for (int c = 0; c < FIT_LANES; c++)
                if (error[c] < least) {
                    least = error[c];
                    b->s[g] = s[c];
                    b->m[g] = m[c];
                }
        }
        total += least;
    }
    return total;
}

/* d and dmin by least squares, s, m and q as they are. */
static void pair_solve(const struct super *b, float *d, float *dmin)
{
    double aa = 0, am = 0, mm = 0, xa = 0, xm = 0, det;

    for (int g = 0; g < b->n_groups; g++) {
        const double m = b->m[g];

        for (int i = g * b->group; i < (g + 1) * b->group; i++) {
            const double a = (double)(b->q[i] * b->s[g]), w = (double)b->w[i], x = (double)b->x[i];

            aa += w * a * a;
            am += w * a * m;
            mm += w * m * m;
            xa += w * x * a;
            xm += w * x * m;
        }
    }
    det = aa * mm - am * am;
    if (det > 1e-9 * aa * mm) {
        *d = (float)((xa * mm - xm * am) / det);
        *dmin = (float)((xa * am - xm * aa) / det);
    } else {
        *d = aa > 0 ? (float)(xa / aa) : 0;
        *dmin = 0;
    }
    *d = *d > 0 ? *d : 0;
    *dmin = *dmin > 0 ? *dmin : 0;
}

/* The half-precision factor of n values that are not negative, to be stored as whole
 * numbers 0..top. */
static uint16_t fit_factor(const float *v, const float *curvature, int n, int top)
{
    const struct fit_levels levels = { FIT_WHOLE, 0, (float)top };
    float w[MAX_GROUPS] = { 0 }, max = 0;

    for (int g = 0; g < n; g++)
        max = fmaxf(max, curvature[g]);
    for (int g = 0; g < n; g++)
        w[g] = max > 0 ? fmaxf(curvature[g] / max, 1e-5f) : 1;
    return to_half(fit_scale(v, w, (size_t)n, &levels, NULL));
}

/* Takes d and dmin, and the whole numbers nearest to the wanted scales and minima, if
 * the error is below *least. */
static void pairs_try(struct super *b, const struct fit_levels *l, int top, const float *scale,
                      const float *min, uint16_t d, uint16_t dmin, float *least)
{
    const struct fit_levels whole = { FIT_WHOLE, 0, (float)top };
    struct super next = *b;
    int8_t s[MAX_GROUPS], m[MAX_GROUPS];
    float error;

    next.d = d;
    next.dmin = dmin;
    fit_round(s, scale, (size_t)b->n_groups, &whole, f16_to_f32(d), 0);
    fit_round(m, min, (size_t)b->n_groups, &whole, f16_to_f32(dmin), 0);
    for (int g = 0; g < b->n_groups; g++) {
        next.s[g] = s[g];
        next.m[g] = m[g];
    }
    error = pairs_improve(&next, l, top);
    if (error < *least) {
        *b = next;
        *least = error;
    }
}

/* Fits d, dmin, s and m of 0..top, and q of 0..hi. */
static void fit_super_pair(struct super *b, int hi, int top)
{
    const struct fit_levels levels = { FIT_WHOLE, 0, (float)hi };
    float scale[MAX_GROUPS], min[MAX_GROUPS], curve_d[MAX_GROUPS], curve_m[MAX_GROUPS];
    float least = INFINITY;
    uint16_t d, dmin;

    for (int g = 0; g < b->n_groups; g++) {
        const int at = g * b->group;
        const struct fit_affine fit = fit_affine(b->x + at, b->w + at, (size_t)b->group,
                                                 (float)hi, true);

        scale[g] = fit.d;
        min[g] = -fit.m;
        curve_d[g] = fit.curvature_d;
        curve_m[g] = fit.curvature_m;
    }
    d = fit_factor(scale, curve_d, b->n_groups, top);
    dmin = fit_factor(min, curve_m, b->n_groups, top);
    pairs_try(b, &levels, top, scale, min, d, dmin, &least);
    for (int more = 1; more < 4 && (is_coarse(d) || is_coarse(dmin)); more++)
        pairs_try(b, &levels, top, scale, min, (uint16_t)(d + more % 2),
                  (uint16_t)(dmin + more / 2), &least);
    super_round(b, &levels);
    for (int round = 0; round < ROUNDS; round++) {
        struct super next = *b;
        float error, solved_d, solved_min;

        pair_solve(b, &solved_d, &solved_min);
        next.d = to_half(solved_d);
        next.dmin = to_half(solved_min);
        error = pairs_improve(&next, &levels, top);
        if (!(error < least))
            break;
        super_round(&next, &levels);
        *b = next;
        least = error;
    }
}

/* ---- packing ---- */

static const float *block_weights(const float *importance, size_t i)
{
    return importance ? importance + 256 * i : NULL;
}

/* Two bits of each element, starting at bit `shift` of q + offset, in 2-bit planes. */
static void pack_planes2(uint8_t qs[64], const int8_t q[256], int offset, int shift)
{
    memset(qs, 0, 64);
    for (int i = 0; i < 256; i++)
        qs[i / 128 * 32 + i % 32] |= (uint8_t)(((q[i] + offset) >> shift & 3) << i % 128 / 32 * 2);
}

static void pack_scales_45(uint8_t out[12], const int s[8], const int m[8])
{
    for (int g = 0; g < 4; g++) {
        out[g] = (uint8_t)(s[g] | s[g + 4] >> 4 << 6);
        out[g + 4] = (uint8_t)(m[g] | m[g + 4] >> 4 << 6);
        out[g + 8] = (uint8_t)((s[g + 4] & 15) | (m[g + 4] & 15) << 4);
    }
}

static void pack_nibbles_45(uint8_t qs[128], const int8_t q[256])
{
    for (int i = 0; i < 128; i++)
        qs[i] = (uint8_t)((q[i / 32 * 64 + i % 32] & 15) | (q[i / 32 * 64 + 32 + i % 32] & 15) << 4);
}

void quant_q2_k(void *blocks, const float *in, size_t n, const float *importance)
{
    struct block_q2_k *out = blocks;
    struct super b;

    for (size_t i = 0; i < n / 256; i++) {
        super_prepare(&b, in + 256 * i, block_weights(importance, i), 16);
        fit_super_pair(&b, 3, 15);
        out[i].d = b.d;
        out[i].dmin = b.dmin;
        for (int g = 0; g < 16; g++)
            out[i].scales[g] = (uint8_t)(b.s[g] | b.m[g] << 4);
        pack_planes2(out[i].qs, b.q, 0, 0);
    }
}

void quant_q4_k(void *blocks, const float *in, size_t n, const float *importance)
{
    struct block_q4_k *out = blocks;
    struct super b;

    for (size_t i = 0; i < n / 256; i++) {
        super_prepare(&b, in + 256 * i, block_weights(importance, i), 32);
        fit_super_pair(&b, 15, 63);
        out[i].d = b.d;
        out[i].dmin = b.dmin;
        pack_scales_45(out[i].scales, b.s, b.m);
        pack_nibbles_45(out[i].qs, b.q);
    }
}

void quant_q5_k(void *blocks, const float *in, size_t n, const float *importance)
{
    struct block_q5_k *out = blocks;
    struct super b;

    for (size_t i = 0; i < n / 256; i++) {
        super_prepare(&b, in + 256 * i, block_weights(importance, i), 32);
        fit_super_pair(&b, 31, 63);
        out[i].d = b.d;
        out[i].dmin = b.dmin;
        pack_scales_45(out[i].scales, b.s, b.m);
        pack_nibbles_45(out[i].qs, b.q);
        memset(out[i].qh, 0, sizeof out[i].qh);
        for (int j = 0; j < 256; j++)
            out[i].qh[j % 32] |= (uint8_t)((b.q[j] >> 4) << j / 32);
    }
}

void quant_q3_k(void *blocks, const float *in, size_t n, const float *importance)
{
    static const struct fit_levels levels = { FIT_WHOLE, -4, 3 };
    struct block_q3_k *out = blocks;
    struct super b;

    for (size_t i = 0; i < n / 256; i++) {
        super_prepare(&b, in + 256 * i, block_weights(importance, i), 16);
        fit_super_scale(&b, &levels, -32, 31);
        out[i].d = b.d;
        memset(out[i].scales, 0, sizeof out[i].scales);
        for (int g = 0; g < 16; g++) {
            const int s = b.s[g] + 32;

            out[i].scales[g % 8] |= (uint8_t)((s & 15) << g / 8 * 4);
            out[i].scales[8 + g % 4] |= (uint8_t)(s >> 4 << g / 4 * 2);
        }
        pack_planes2(out[i].qs, b.q, 4, 0);
        memset(out[i].hmask, 0, sizeof out[i].hmask);
        for (int j = 0; j < 256; j++)
            out[i].hmask[j % 32] |= (uint8_t)(((b.q[j] + 4) >> 2) << j / 32);
    }
}

void quant_q6_k(void *blocks, const float *in, size_t n, const float *importance)
{
    static const struct fit_levels levels = { FIT_WHOLE, -32, 31 };
    struct block_q6_k *out = blocks;
    struct super b;

    for (size_t i = 0; i < n / 256; i++) {
        super_prepare(&b, in + 256 * i, block_weights(importance, i), 16);
        fit_super_scale(&b, &levels, -128, 127);
        out[i].d = b.d;
        for (int g = 0; g < 16; g++)
            out[i].scales[g] = (int8_t)b.s[g];
        for (int j = 0; j < 128; j++) {
            const int8_t *q = b.q + j / 64 * 128 + j % 64;

            out[i].ql[j] = (uint8_t)(((q[0] + 32) & 15) | ((q[64] + 32) & 15) << 4);
        }
        pack_planes2(out[i].qh, b.q, 32, 4);
    }
}

void quant_iq4_xs(void *blocks, const float *in, size_t n, const float *importance)
{
    static const struct fit_levels levels = { FIT_IQ4, -127, 113 };
    struct block_iq4_xs *out = blocks;
    struct super b;

    for (size_t i = 0; i < n / 256; i++) {
        unsigned high = 0;

        super_prepare(&b, in + 256 * i, block_weights(importance, i), 32);
        fit_super_scale(&b, &levels, -32, 31);
        out[i].d = b.d;
        memset(out[i].scales_l, 0, sizeof out[i].scales_l);
        for (int g = 0; g < 8; g++) {
            const int s = b.s[g] + 32;

            out[i].scales_l[g / 2] |= (uint8_t)((s & 15) << g % 2 * 4);
            high |= (unsigned)s >> 4 << 2 * g;
            for (int j = 0; j < 16; j++)
                out[i].qs[16 * g + j] = (uint8_t)(b.q[32 * g + j] | b.q[32 * g + 16 + j] << 4);
        }
        out[i].scales_h = (uint16_t)high;
    }
}

/* ---- ternary ---- */

struct ranked {
    float mag, w;
};

static int by_magnitude(const void *a, const void *b)
{
    const float x = ((const struct ranked *)a)->mag, y = ((const struct ranked *)b)->mag;

    return (x < y) - (x > y);
}

/* x about d q, q of -1, 0, 1: the best choice is the k largest magnitudes for some k,
 * with d their mean; all 256 k are tried. */
static void fit_ternary(struct super *b)
{
    struct ranked r[256];
    double sum_w = 0, sum_x = 0, best = 0, d = 0;

    for (int i = 0; i < 256; i++)
        r[i] = (struct ranked){ fabsf(b->x[i]), b->w[i] };
    qsort(r, 256, sizeof *r, by_magnitude);
    for (int i = 0; i < 256; i++) {
        sum_w += (double)r[i].w;
        sum_x += (double)r[i].w * (double)r[i].mag;
        if (sum_x * sum_x > best * sum_w) {
            best = sum_x * sum_x / sum_w;
            d = sum_x / sum_w;
        }
    }
    b->d = to_half((float)d);
    const float half = f16_to_f32(b->d) / 2;

    for (int i = 0; i < 256; i++)
        b->q[i] = (int8_t)(half > 0 ? (b->x[i] > half) - (b->x[i] < -half) : 0);
}

void quant_tq2_0(void *blocks, const float *in, size_t n, const float *importance)
{
    struct block_tq2_0 *out = blocks;
    struct super b;

    for (size_t i = 0; i < n / 256; i++) {
        super_prepare(&b, in + 256 * i, block_weights(importance, i), 256);
        fit_ternary(&b);
        out[i].d = b.d;
        pack_planes2(out[i].qs, b.q, 1, 0);
    }
}

/* n_bytes bytes of n_digits base-3 digits, the first most significant, as a fraction of
 * 256 rounded up: the reader multiplies by 3 and takes the overflow. */
static void pack_digits(uint8_t *out, const int8_t *q, int n_bytes, int n_digits)
{
    for (int j = 0; j < n_bytes; j++) {
        int v = 0;

        for (int k = 0; k < 5; k++)
            v = 3 * v + (k < n_digits ? q[k * n_bytes + j] + 1 : 0);
        out[j] = (uint8_t)((v * 256 + 242) / 243);
    }
}

void quant_tq1_0(void *blocks, const float *in, size_t n, const float *importance)
{
    struct block_tq1_0 *out = blocks;
    struct super b;

    for (size_t i = 0; i < n / 256; i++) {
        super_prepare(&b, in + 256 * i, block_weights(importance, i), 256);
        fit_ternary(&b);
        out[i].d = b.d;
        pack_digits(out[i].qs, b.q, 32, 5);
        pack_digits(out[i].qs + 32, b.q + 160, 16, 5);
        pack_digits(out[i].qh, b.q + 240, 4, 4);
    }
}
