/* jamba.c: Jamba (Lieber et al. 2024, arXiv 2403.19887): Mamba layers with norms of dt, B and C,
 * a few of attention without positions, experts in some. */
#include "models/arch.h"

arch_fn arch_jamba;

static val attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    const struct attn_args a = build_attn_args(b, &h);

    return build_attention_with(b, x, &h, &a, false);
}

void arch_jamba(struct build *b)
{
    struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val x = build_embed(b), y;

    moe.normalise = false;
    while (build_layer(b)) {
        y = build_norm(b, x, "blk.%u.attn_norm");
        x = prog_add(b->p, x, build_has(b, "blk.%u.ssm_in.weight") ? build_mamba(b, y)
                                                                   : attention(b, y));
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
