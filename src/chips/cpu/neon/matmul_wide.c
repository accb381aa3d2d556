/* matmul_wide.c: quantised types by way of their expanded form, NEON with and without the
 * dot product; see chips/cpu/wide.h. The arithmetic of avx512/matmul_wide.c. */
#include "chips/cpu/neon/matmul.h"
#include "chips/cpu/neon/q8_tile.h"
#include "chips/cpu/neon/wide.h"

#include "chips/cpu/wide_body.h"

/* Four outputs: block points at their part. */
ALWAYS_INLINE float32x4_t floats_at(const uint8_t *block, const unsigned i)
{
    return load_f32(block + WIDE_W + WIDE_F * i);
}

ALWAYS_INLINE void one_scale(float32x4_t *acc, const struct cursor *c, const uint8_t *block,
                             const unsigned with_min, const unsigned R)
{
    isum s[R_MAX];

    start_zero(s, R);
    dot8(s, block, c->q, 0, 0, R);
    dot8(s, block, c->q, 4, 0, R);
    finish(acc, s, floats_at(block, 0), c->d, R);
    if (with_min)
        EACH_ROW(R)
            acc[r] = vfmaq_n_f32(acc[r], floats_at(block, 1), c->ds[r]);
}

ALWAYS_INLINE void two_scales(float32x4_t *acc, const struct cursor *c, const uint8_t *block,
                              const unsigned with_min, const unsigned R)
{
    float32x4_t u[R_MAX];
    isum s[R_MAX];

    start_zero(s, R);
    dot8(s, block, c->q, 0, 0, R);
    EACH_ROW(R)
        u[r] = vmulq_f32(isum_float(s[r]), floats_at(block, 0));
    start_zero(s, R);
    dot8(s, block, c->q, 4, 0, R);
    EACH_ROW(R)
        u[r] = vfmaq_f32(u[r], isum_float(s[r]), floats_at(block, 1));
    if (with_min)
        EACH_ROW(R) {
            u[r] = vfmaq_n_f32(u[r], floats_at(block, 2), (float)c->b16[r]);
            u[r] = vfmaq_n_f32(u[r], floats_at(block, 3), (float)c->b16[R + r]);
        }
    EACH_ROW(R)
        acc[r] = vfmaq_n_f32(acc[r], u[r], c->d[r]);
}

ALWAYS_INLINE void wide(float *sum, const struct tile *t, const uint8_t *p, size_t n,
                        const unsigned R, const unsigned n_scales, const unsigned with_min)
{
    struct cursor c = cursor_of(t);
    float32x4_t acc[QUADS][R_MAX];

    sums_load(acc, sum, R);
    for (size_t i = 0; i < n; i++, p += wide_block_bytes(n_scales, with_min)) {
        EACH_QUAD {
            if (n_scales == 1)
                one_scale(acc[j], &c, p + 16 * j, with_min, R);
            else
                two_scales(acc[j], &c, p + 16 * j, with_min, R);
        }
        cursor_next(&c, R);
    }
    sums_store(sum, acc, R);
}

#define WIDE_KERNEL(S, M, R)                                                             \
    static void wide_##S##_##M##_##R(float *sum, const struct tile *t, const uint8_t *p, \
                                     size_t panel_bytes, size_t n)                       \
    {                                                                                    \
        (void)panel_bytes;                                                               \
        wide(sum, t, p, n, R, S, M);                                                     \
    }
#define WIDE_KERNELS(S, M)                                                               \
    WIDE_KERNEL(S, M, 1) WIDE_KERNEL(S, M, 2) WIDE_KERNEL(S, M, 3) WIDE_KERNEL(S, M, 4)
WIDE_KERNELS(1, 0)
WIDE_KERNELS(1, 1)
WIDE_KERNELS(2, 0)
WIDE_KERNELS(2, 1)

#define WIDE_MATMUL(name, S, M)                                                          \
    static const struct blocking name##_wide = {                                         \
        .rows_max = R_MAX, .panels_max = 1, .expand = expand_##name,                     \
        .parts = TILE_D | ((M) == 0 ? 0 : (S) == 1 ? TILE_DS : TILE_B16),                \
        .fn = { [1] = { wide_##S##_##M##_1 }, [2] = { wide_##S##_##M##_2 },              \
                [3] = { wide_##S##_##M##_3 }, [4] = { wide_##S##_##M##_4 } },            \
    };                                                                                   \
    void ISA(matmul_##name)(const struct matmul_args *a)                                 \
    {                                                                                    \
        matmul_blocked(a, &name##_wide);                                                 \
    }
WIDE_MATMUL(q4_1, 1, 1)
WIDE_MATMUL(q5_0, 1, 0)
WIDE_MATMUL(q5_1, 1, 1)
WIDE_MATMUL(iq4_nl, 1, 0)
WIDE_MATMUL(iq4_xs, 1, 0)
WIDE_MATMUL(mxfp4, 1, 0)
WIDE_MATMUL(nvfp4, 2, 0)
WIDE_MATMUL(q2_k, 2, 1)
WIDE_MATMUL(q3_k, 2, 0)
WIDE_MATMUL(tq2_0, 1, 0)
