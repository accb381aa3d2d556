/* smallthinker.c: SmallThinker (arXiv 2507.20984): the router reads the layer's input; every fourth layer
 * sees all without positions, the others a window. */
#include "models/arch.h"

arch_fn arch_smallthinker;

void arch_smallthinker(struct build *b)
{
    const uint32_t window = build_u32(b, "attention.sliding_window", 0);
    struct moe moe = build_moe_keys(b, ROUTE_SIGMOID, ACT_RELU);
    val x = build_embed(b);

    moe.normalise = true;
    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        const bool use_rope = window == 0 || b->layer % 4 != 0;
        struct attn_args a = build_attn_args(b, &h);

        a.window = build_is_local(b, 4, true) ? window : 0;
        moe.logits = build_linear(b, x, "blk.%u.ffn_gate_inp", build_need_u32(b, "expert_count"));
        x = prog_add(b->p, x, build_attention_with(b, build_norm(b, x, "blk.%u.attn_norm"), &h, &a,
                                                   use_rope));
        x = prog_add(b->p, x, build_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
