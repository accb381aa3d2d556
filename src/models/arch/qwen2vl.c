/* qwen2vl.c: the text part of Qwen2-VL (arXiv 2409.12191): Qwen2 with positions in sections,
 * which are equal in text. */
#include "models/arch.h"

arch_fn arch_llama, arch_qwen2vl;

void arch_qwen2vl(struct build *b)
{
    (void)build_u32s(b, "rope.dimension_sections", b->rope.sections, 4);
    b->output_bias = false;
    arch_llama(b);
}
