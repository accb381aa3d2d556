/* attention_vnni.c: attention whose products with keys of 8 bits are of integers; all else is as in rows.c. */
#include "chips/cpu/avx512/query8.h"

#include "chips/cpu/attention_body.h"

void kernels_init_avx512_attention(struct kernels *k)
{
    attention_install(k);
}
