/* kernels.c: the table of kernels of a mask; see kernels.h. */
#include "chips/cpu/kernels.h"

#include <string.h>

void kernels_init(struct kernels *k, uint32_t mask)
{
    memset(k, 0, sizeof *k);
    mask &= cpu_features();
    kernels_init_ref_matmul(k);
    kernels_init_ref_rows(k);
#if defined(__x86_64__)
    if (mask & CPU_AVX2) {
        k->mask |= mask & (CPU_AVX2 | CPU_AVX_VNNI);
        kernels_init_avx2_matmul(k, mask);
        kernels_init_avx2_rows(k, mask);
    }
    if ((mask & CPU_AVX2) && (mask & CPU_AVX512)) {
        k->mask |= mask & (CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_BF16);
        kernels_init_avx512_matmul(k, mask);
        kernels_init_avx512_rows(k, mask);
    }
#elif defined(__aarch64__)
    if (mask & CPU_NEON) {
        k->mask |= mask & (CPU_NEON | CPU_NEON_DOT | CPU_NEON_I8MM | CPU_NEON_BF16);
        kernels_init_neon_matmul(k, mask);
        kernels_init_neon_rows(k, mask);
    }
#endif
}
