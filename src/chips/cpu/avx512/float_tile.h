/* float_tile.h: products of float weights, AVX-512: per output one chain of fused
 * multiply-adds (or of pairs' dot products) in ascending order of inputs.
 *
 * A type is an always-inlined function STEP(acc, panel, stride, x, i, R, P) that
 * adds unit i of P panels times R rows, acc[p * R + r]. */
#ifndef CHIPS_CPU_AVX512_FLOAT_TILE_H
#define CHIPS_CPU_AVX512_FLOAT_TILE_H

#include "chips/cpu/avx512/vec.h"

#define EACH_PANEL(P) _Pragma("GCC unroll 2") for (unsigned p = 0; p < (P); p++)

#define FLOAT_KERNEL(NAME, R, P)                                                        \
    static void NAME##_##R##_##P(float *sum, const struct tile *t, const uint8_t *panel, \
                                 size_t panel_bytes, size_t n)                          \
    {                                                                                   \
        const uint8_t *x = t->x;                                                        \
        __m512 acc[(R) * (P)];                                                          \
                                                                                        \
        EACH_ROW(R) EACH_PANEL(P)                                                       \
            acc[p * (R) + r] = _mm512_load_ps(sum + ((P) * r + p) * PACK_ROWS);         \
        for (size_t i = 0; i < n; i++)                                                  \
            NAME(acc, panel, panel_bytes, x + 4 * (R) * i, i, R, P);                    \
        EACH_ROW(R) EACH_PANEL(P)                                                       \
            _mm512_store_ps(sum + ((P) * r + p) * PACK_ROWS, acc[p * (R) + r]);         \
    }
#define FLOAT_KERNELS(NAME)                                                             \
    FLOAT_KERNEL(NAME, 1, 1) FLOAT_KERNEL(NAME, 2, 1) FLOAT_KERNEL(NAME, 3, 1)          \
    FLOAT_KERNEL(NAME, 4, 1) FLOAT_KERNEL(NAME, 6, 1) FLOAT_KERNEL(NAME, 8, 1)          \
    FLOAT_KERNEL(NAME, 12, 1)                                                           \
    FLOAT_KERNEL(NAME, 1, 2) FLOAT_KERNEL(NAME, 2, 2) FLOAT_KERNEL(NAME, 3, 2)          \
    FLOAT_KERNEL(NAME, 4, 2) FLOAT_KERNEL(NAME, 6, 2) FLOAT_KERNEL(NAME, 8, 2)          \
    FLOAT_KERNEL(NAME, 12, 2)                                                           \
    static const struct blocking NAME##_blocking = {                                    \
        .rows_max = 12, .panels_max = 2, .parts = TILE_X,                               \
        .fn = { [1] = { NAME##_1_1, NAME##_1_2 }, [2] = { NAME##_2_1, NAME##_2_2 },     \
                [3] = { NAME##_3_1, NAME##_3_2 }, [4] = { NAME##_4_1, NAME##_4_2 },     \
                [6] = { NAME##_6_1, NAME##_6_2 }, [8] = { NAME##_8_1, NAME##_8_2 },     \
                [12] = { NAME##_12_1, NAME##_12_2 } },                                  \
    };

#endif
