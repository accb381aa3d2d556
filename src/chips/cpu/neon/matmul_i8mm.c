/* matmul_i8mm.c: quantised types with the 8-bit matrix product of NEON.
 *
 * One instruction multiplies eight inputs of two outputs with eight of two activation rows.
 * Panels are expanded (chips/cpu/wide.h), words in pairs put side by side, so that a
 * register holds eight inputs of two outputs; that pays from some rows on. Fewer rows take
 * the kernels of the dot product. Integers are exact and the float arithmetic is that of
 * matmul_wide.c, so the bits are the same. */
#include "chips/cpu/neon/matmul.h"
#include "chips/cpu/neon/wide.h"

#define WIDE_MANY
#define WIDE_ALL
#include "chips/cpu/wide_body.h"

#define FEW_ROWS 8u     /* at most so many go to the dot product */
#define PAIR_ROWS 8u    /* activation rows of a kernel at most, an even number */

/* The weights of one block, [8][16][4] to [4][16][8]. */
static inline void pair_words(uint8_t *block)
{
    for (unsigned t = 0; t < 8; t += 2) {
        uint32x4_t even[QUADS], odd[QUADS];
        uint8_t *p = block + 64 * t;

        EACH_QUAD {
            even[j] = vreinterpretq_u32_u8(vld1q_u8(p + 16 * j));
            odd[j] = vreinterpretq_u32_u8(vld1q_u8(p + 64 + 16 * j));
        }
        EACH_QUAD {
            vst1q_u8(p + 32 * j, vreinterpretq_u8_u32(vzip1q_u32(even[j], odd[j])));
            vst1q_u8(p + 32 * j + 16, vreinterpretq_u8_u32(vzip2q_u32(even[j], odd[j])));
        }
    }
}

static void pair_blocks(uint8_t *dst, size_t n, size_t block_bytes)
{
    for (size_t i = 0; i < n; i++)
        pair_words(dst + i * block_bytes);
}

/* Where a kernel stands: tile of R rows. */
struct cursor {
    const int8_t  *q;
    const float   *d, *ds;
    const int32_t *b16;
};

/* s[i][2 j'] …: row pair i, outputs 8h + 2j' and the next, over sixteen inputs of a block. */
ALWAYS_INLINE void dots(int32x4_t s[PAIR_ROWS / 2][4], const struct cursor *c,
                        const uint8_t *block, const unsigned part, const unsigned h,
                        const unsigned R)
{
    int8x16_t x[2][PAIR_ROWS / 2];

#pragma GCC unroll 4
    for (unsigned i = 0; i < R / 2; i++) {
        const int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(c->q + ACT_BLOCK * (2 * i) + 16 * part));
        const int64x2_t b = vreinterpretq_s64_s8(vld1q_s8(c->q + ACT_BLOCK * (2 * i + 1) +
                                                          16 * part));

        x[0][i] = vreinterpretq_s8_s64(vzip1q_s64(a, b));
        x[1][i] = vreinterpretq_s8_s64(vzip2q_s64(a, b));
    }
#pragma GCC unroll 2
    for (unsigned k = 0; k < 2; k++)
#pragma GCC unroll 4
        for (unsigned o = 0; o < 4; o++) {
            const int8x16_t w = load_s8(block + 128 * (2 * part + k) + 64 * h + 16 * o);

#pragma GCC unroll 4
            for (unsigned i = 0; i < R / 2; i++)
                s[i][o] = vmmlaq_s32(s[i][o], x[k][i], w);
        }
}

ALWAYS_INLINE void dots_zero(int32x4_t s[PAIR_ROWS / 2][4], const unsigned R)
{
#pragma GCC unroll 4
    for (unsigned i = 0; i < R / 2; i++)
#pragma GCC unroll 4
        for (unsigned o = 0; o < 4; o++)
            s[i][o] = vdupq_n_s32(0);
}

/* Row r, four outputs: quad q of the half. */
ALWAYS_INLINE float32x4_t dots_of(int32x4_t s[PAIR_ROWS / 2][4], const unsigned r,
                                  const unsigned q)
{
    const int64x2_t a = vreinterpretq_s64_s32(s[r / 2][2 * q]);
    const int64x2_t b = vreinterpretq_s64_s32(s[r / 2][2 * q + 1]);

    return vcvtq_f32_s32(vreinterpretq_s32_s64(r % 2 ? vzip2q_s64(a, b) : vzip1q_s64(a, b)));
}

ALWAYS_INLINE float32x4_t floats_at(const uint8_t *block, const unsigned i, const unsigned quad)
{
    return load_f32(block + WIDE_W + WIDE_F * i + 16 * quad);
}

#define EACH_OF_HALF _Pragma("GCC unroll 2") for (unsigned q = 0; q < 2; q++)

/* Outputs 8h …; sum: [R][16]. */
ALWAYS_INLINE void one_scale(float *sum, const struct cursor *c, const uint8_t *block,
                             const unsigned h, const unsigned with_min, const unsigned R)
{
    int32x4_t s[PAIR_ROWS / 2][4];

    dots_zero(s, R);
    dots(s, c, block, 0, h, R);
    dots(s, c, block, 1, h, R);
    EACH_OF_HALF {
        const unsigned quad = 2 * h + q;

        EACH_ROW(R) {
            float *p = sum + PACK_ROWS * r + 4 * quad;
            float32x4_t acc = vfmaq_f32(vld1q_f32(p), dots_of(s, r, q),
                                        vmulq_n_f32(floats_at(block, 0, quad), c->d[r]));

            if (with_min)
                acc = vfmaq_n_f32(acc, floats_at(block, 1, quad), c->ds[r]);
            vst1q_f32(p, acc);
        }
    }
}

ALWAYS_INLINE void two_scales(float *sum, const struct cursor *c, const uint8_t *block,
                              const unsigned h, const unsigned with_min, const unsigned R)
{
    int32x4_t s[PAIR_ROWS / 2][4];
    float32x4_t u[2][PAIR_ROWS];

    dots_zero(s, R);
    dots(s, c, block, 0, h, R);
    EACH_OF_HALF EACH_ROW(R)
        u[q][r] = vmulq_f32(dots_of(s, r, q), floats_at(block, 0, 2 * h + q));
    dots_zero(s, R);
    dots(s, c, block, 1, h, R);
    EACH_OF_HALF EACH_ROW(R) {
        const unsigned quad = 2 * h + q;
        float *p = sum + PACK_ROWS * r + 4 * quad;
        float32x4_t v = vfmaq_f32(u[q][r], dots_of(s, r, q), floats_at(block, 1, quad));

        if (with_min) {
            v = vfmaq_n_f32(v, floats_at(block, 2, quad), (float)c->b16[r]);
            v = vfmaq_n_f32(v, floats_at(block, 3, quad), (float)c->b16[R + r]);
        }
        vst1q_f32(p, vfmaq_n_f32(vld1q_f32(p), v, c->d[r]));
    }
}

ALWAYS_INLINE void pairs(float *sum, const struct tile *t, const uint8_t *p, size_t n,
                         const unsigned R, const unsigned n_scales, const unsigned with_min)
{
    struct cursor c = { t->q, t->d, t->ds, t->b16 };

    for (size_t i = 0; i < n; i++, p += wide_block_bytes(n_scales, with_min)) {
        for (unsigned h = 0; h < 2; h++) {
            if (n_scales == 1)
                one_scale(sum, &c, p, h, with_min, R);
            else
                two_scales(sum, &c, p, h, with_min, R);
        }
        c.q += ACT_BLOCK * R;
        c.d += R;
        c.ds += R;
        c.b16 += 2 * R;
    }
}

#define PAIR_KERNEL(S, M, R)                                                              \
    static void pairs_##S##_##M##_##R(float *sum, const struct tile *t, const uint8_t *p, \
                                      size_t panel_bytes, size_t n)                       \
    {                                                                                     \
        (void)panel_bytes;                                                                \
        pairs(sum, t, p, n, R, S, M);                                                     \
    }
#define PAIR_KERNELS(S, M)                                                                \
    PAIR_KERNEL(S, M, 2) PAIR_KERNEL(S, M, 4) PAIR_KERNEL(S, M, 6) PAIR_KERNEL(S, M, 8)
PAIR_KERNELS(1, 0)
PAIR_KERNELS(1, 1)
PAIR_KERNELS(2, 0)
PAIR_KERNELS(2, 1)

/* BLOCKS: of 32 inputs in a group. */
#define PAIR_MATMUL(name, S, M, BLOCKS)                                                   \
    static void paired_##name(uint8_t *dst, const uint8_t *groups, size_t n)              \
    {                                                                                     \
        expand_##name(dst, groups, n);                                                    \
        pair_blocks(dst, (BLOCKS) * n, wide_block_bytes(S, M));                           \
    }                                                                                     \
    static const struct blocking name##_pairs = {                                         \
        .rows_max = PAIR_ROWS, .panels_max = 1, .expand = paired_##name,                  \
        .parts = TILE_D | ((M) == 0 ? 0 : (S) == 1 ? TILE_DS : TILE_B16),                 \
        .fn = { [2] = { pairs_##S##_##M##_2 }, [4] = { pairs_##S##_##M##_4 },             \
                [6] = { pairs_##S##_##M##_6 }, [8] = { pairs_##S##_##M##_8 } },           \
    };                                                                                    \
    void matmul_##name##_neoni8mm(const struct matmul_args *a)                            \
    {                                                                                     \
        if (a->n_rows <= FEW_ROWS)                                                        \
            matmul_##name##_neondot(a);                                                   \
        else                                                                              \
            matmul_blocked(a, &name##_pairs);                                             \
    }
PAIR_MATMUL(q4_0, 1, 0, 2)
PAIR_MATMUL(q8_0, 1, 0, 2)
PAIR_MATMUL(q4_k, 1, 1, 8)
PAIR_MATMUL(q5_k, 1, 1, 8)
PAIR_MATMUL(q6_k, 2, 0, 8)
PAIR_MATMUL(q4_1, 1, 1, 2)
PAIR_MATMUL(q5_0, 1, 0, 2)
PAIR_MATMUL(q5_1, 1, 1, 2)
PAIR_MATMUL(iq4_nl, 1, 0, 2)
PAIR_MATMUL(iq4_xs, 1, 0, 8)
PAIR_MATMUL(mxfp4, 1, 0, 4)
PAIR_MATMUL(nvfp4, 2, 0, 2)
PAIR_MATMUL(q2_k, 2, 1, 8)
PAIR_MATMUL(q3_k, 2, 0, 8)
PAIR_MATMUL(tq2_0, 1, 0, 8)
