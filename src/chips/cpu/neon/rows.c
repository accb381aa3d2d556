/* rows.c (NEON): kernels over rows of floats, and attention. */
#include "chips/cpu/neon/simd.h"

#include "chips/cpu/attention_body.h"
#include "chips/cpu/rows_body.h"

void kernels_init_neon_rows(struct kernels *k, uint32_t mask)
{
    if (!(mask & CPU_NEON))
        return;
    rows_install(k);
    attention_install(k);
}
