/* glm4.c: GLM-4-0414 and the text part of GLM-4.1V (arXiv 2507.01006): norms before and after each
 * block; gate and up in one matrix. Files with sections of positions pair columns half a head
 * apart. */
#include "models/arch.h"

arch_fn arch_glm4;

void arch_glm4(struct build *b)
{
    val x = build_embed(b), y;

    (void)build_u32s(b, "rope.dimension_sections", b->rope.sections, 4);
    if (b->rope.sections[0] && b->rope.sections[1])
        b->rope.pairing = ROPE_NEOX;
    while (build_layer(b)) {
        y = build_attention(b, build_norm(b, x, "blk.%u.attn_norm"));
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_attention_norm"));
        y = build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_SILU, "");
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_ffw_norm"));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
