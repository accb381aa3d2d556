/* phi3.c: Phi-3 (arXiv 2404.14219) and Phi-3.5-MoE: gate and up in one matrix, LongRoPE factors, norms
 * with biases where experts are. */
#include "models/arch.h"

arch_fn arch_phi3;

void arch_phi3(struct build *b)
{
    struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val x = build_embed(b);

    moe.normalise = true;
    while (build_layer(b)) {
        x = prog_add(b->p, x, build_attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
