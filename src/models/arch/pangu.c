/* pangu.c: openPangu-Embedded: the llama decoder with biases, without frequency factors. */
#include "models/arch.h"

arch_fn arch_llama, arch_pangu;

void arch_pangu(struct build *b)
{
    b->rope_factors = false;
    arch_llama(b);
}
