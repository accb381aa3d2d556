/* rnd1.c: RND1 (Radical Numerics 2025): a diffusion language model made from Qwen3-MoE, attention both
 * ways. */
#include "models/arch.h"

arch_fn arch_llama, arch_rnd1;

void arch_rnd1(struct build *b)
{
    b->causal = false;
    arch_llama(b);
}
