/* dream.c: Dream (arXiv 2508.15487): a diffusion language model with Qwen2's layers, attention
 * both ways. */
#include "models/arch.h"

arch_fn arch_dream;

void arch_dream(struct build *b)
{
    const struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val x = build_embed(b);

    b->causal = false;
    b->rope_factors = b->output_bias = false;
    while (build_layer(b)) {
        x = prog_add(b->p, x, build_attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
