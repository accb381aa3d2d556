/* rows.c (AVX2): kernels over rows of floats, and attention. */
#include "chips/cpu/avx2/simd.h"

#include "chips/cpu/attention_body.h"
#include "chips/cpu/rows_body.h"

void kernels_init_avx2_rows(struct kernels *k, uint32_t mask)
{
    if (!(mask & CPU_AVX2))
        return;
    rows_install(k);
    attention_install(k);
}
