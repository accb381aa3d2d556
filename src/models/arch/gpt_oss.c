/* gpt_oss.c: gpt-oss (arXiv 2508.10925): attention sinks, windows in every other layer, biased
 * experts with a clamped gate, softmax over the chosen. */
#include "models/arch.h"

arch_fn arch_gpt_oss;

void arch_gpt_oss(struct build *b)
{
    const uint32_t window = build_u32(b, "attention.sliding_window", 128);
    struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX_SELECTED, ACT_SILU);
    val x = build_embed(b);

    moe.act = (struct act_args){ .act = ACT_SILU, .alpha = 1.702f, .limit = 7, .up_offset = 1 };
    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        struct attn_args a = build_attn_args(b, &h);

        a.window = build_is_local(b, 2, false) ? window : 0;
        x = prog_add(b->p, x, build_attention_with(b, build_norm(b, x, "blk.%u.attn_norm"), &h, &a,
                                                   true));
        x = prog_add(b->p, x, build_moe(b, build_norm(b, x, "blk.%u.post_attention_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
