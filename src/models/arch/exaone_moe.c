/* exaone_moe.c: K-EXAONE: experts beside a shared one behind pre-norm attention that turns in windows;
 * every fourth layer sees all without positions. */
#include "models/arch.h"

arch_fn arch_exaone_moe;

void arch_exaone_moe(struct build *b)
{
    const uint32_t window = build_u32(b, "attention.sliding_window", 128);
    const struct moe moe = build_moe_keys(b, ROUTE_SIGMOID, ACT_SILU);
    val x = build_embed(b), y;

    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        const bool local = build_is_local(b, 4, false);
        struct attn_args a = build_attn_args(b, &h);

        a.window = local ? window : 0;
        y = build_attention_with(b, build_norm(b, x, "blk.%u.attn_norm"), &h, &a, local);
        x = prog_add(b->p, x, y);
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
