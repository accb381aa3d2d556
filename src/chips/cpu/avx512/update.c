/* update.c (AVX-512): kernels of optimisers. */
#include "chips/cpu/avx512/simd.h"

#include "chips/cpu/update_body.h"

void update_install_avx512(struct update_kernels *k)
{
    k->adamw = adamw;
    k->blend = blend;
}
