/* dbrx.c: DBRX: clamped attention, experts in every layer, layer norms without biases. */
#include "models/arch.h"

arch_fn arch_dbrx;

void arch_dbrx(struct build *b)
{
    struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val x = build_embed(b);

    moe.normalise = true;
    while (build_layer(b)) {
        x = prog_add(b->p, x, build_attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_moe(b, build_norm(b, x, "blk.%u.attn_output_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
