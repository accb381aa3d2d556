/* float_tile.h: products of float weights, NEON: per output one chain of fused
 * multiply-adds (or of pairs' dot products) in ascending order of inputs.
 *
 * A type is an always-inlined function NAME(acc, panel, x, i, R) that adds unit i of the
 * panel times R rows; acc[4 * r + j] holds four outputs of row r. */
#ifndef CHIPS_CPU_NEON_FLOAT_TILE_H
#define CHIPS_CPU_NEON_FLOAT_TILE_H

#include "chips/cpu/neon/vec.h"

#define FLOAT_KERNEL(NAME, R)                                                      \
    static void NAME##_##R(float *sum, const struct tile *t, const uint8_t *panel, \
                           size_t panel_bytes, size_t n)                           \
    {                                                                              \
        const uint8_t *x = t->x;                                                   \
        float32x4_t acc[QUADS * (R)];                                              \
                                                                                   \
        (void)panel_bytes;                                                         \
        _Pragma("GCC unroll 24") for (unsigned i = 0; i < QUADS * (R); i++)        \
            acc[i] = vld1q_f32(sum + 4 * i);                                       \
        for (size_t i = 0; i < n; i++)                                             \
            NAME(acc, panel, x + 4 * (R) * i, i, R);                               \
        _Pragma("GCC unroll 24") for (unsigned i = 0; i < QUADS * (R); i++)        \
            vst1q_f32(sum + 4 * i, acc[i]);                                        \
    }
#define FLOAT_KERNELS(NAME)                                                        \
    FLOAT_KERNEL(NAME, 1) FLOAT_KERNEL(NAME, 2) FLOAT_KERNEL(NAME, 3)              \
    FLOAT_KERNEL(NAME, 4) FLOAT_KERNEL(NAME, 6)                                    \
    static const struct blocking NAME##_blocking = {                               \
        .rows_max = 6, .panels_max = 1, .parts = TILE_X,                           \
        .fn = { [1] = { NAME##_1 }, [2] = { NAME##_2 }, [3] = { NAME##_3 },        \
                [4] = { NAME##_4 }, [6] = { NAME##_6 } },                          \
    };

#endif
