/* matmul_bf16.c: BF16 weights with the pairs' dot product of AVX-512 BF16. */
#include "chips/cpu/avx512/float_tile.h"
#include "chips/cpu/avx512/matmul.h"

ALWAYS_INLINE void bf16_dot(__m512 *acc, const uint8_t *panel, size_t stride, const uint8_t *x,
                            size_t i, const unsigned R, const unsigned P)
{
    __m512bh w[2];

    EACH_PANEL(P)
        w[p] = (__m512bh)load512(panel + p * stride + 64 * i);
    EACH_ROW(R) {
        const __m512bh v = (__m512bh)bcast32(x + 4 * r);

        EACH_PANEL(P)
            acc[p * R + r] = _mm512_dpbf16_ps(acc[p * R + r], w[p], v);
    }
}
FLOAT_KERNELS(bf16_dot)

void matmul_bf16_dot_avx512(const struct matmul_args *a) { matmul_blocked(a, &bf16_dot_blocking); }
