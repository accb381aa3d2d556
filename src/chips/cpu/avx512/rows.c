/* rows.c (AVX-512): kernels over rows of floats, and attention. */
#include "chips/cpu/avx512/simd.h"

#include "chips/cpu/attention_body.h"
#include "chips/cpu/rows_body.h"

void kernels_init_avx512_rows(struct kernels *k, uint32_t mask)
{
    if (!(mask & CPU_AVX512))
        return;
    rows_install(k);
    if (mask & CPU_AVX512_VNNI)
        kernels_init_avx512_attention(k);
    else
        attention_install(k);
}
