/* update.c (AVX2): kernels of optimisers. */
#include "chips/cpu/avx2/simd.h"

#include "chips/cpu/update_body.h"

void update_install_avx2(struct update_kernels *k)
{
    k->adamw = adamw;
    k->blend = blend;
}
