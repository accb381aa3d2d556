/* nemotron_h.c: Nemotron-H (NVIDIA 2025, arXiv 2504.03624): each layer is one of Mamba-2, attention
 * without positions, or a feed-forward of squared ReLU, dense or of experts. */
#include "models/arch.h"

arch_fn arch_nemotron_h;

static val attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    const struct attn_args a = build_attn_args(b, &h);

    return build_attention_with(b, x, &h, &a, false);
}

void arch_nemotron_h(struct build *b)
{
    struct moe moe = build_moe_keys(b, ROUTE_SIGMOID, ACT_RELU2);
    val x = build_embed(b), y;

    moe.score = ROUTE_SIGMOID;
    while (build_layer(b)) {
        y = build_norm(b, x, "blk.%u.attn_norm");
        if (build_has(b, "blk.%u.ssm_in.weight"))
            y = build_mamba2(b, y);
        else if (build_has(b, "blk.%u.attn_output.weight"))
            y = attention(b, y);
        else
            y = build_ffn_or_moe(b, y, &moe);
        x = prog_add(b->p, x, y);
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
