/* mellum.c: Mellum 2 (JetBrains): Qwen3-MoE with windows in three layers of four, which turn by a
 * rotation that is not stretched. */
#include "models/arch.h"

arch_fn arch_mellum;

void arch_mellum(struct build *b)
{
    const uint32_t window = build_u32(b, "attention.sliding_window", 0);
    const struct rope_args stretched = b->rope;
    struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    struct rope_args plain = b->rope;
    val x = build_embed(b), y;

    moe.score = ROUTE_SOFTMAX;
    moe.normalise = true;
    plain.freq_scale = plain.attn_factor = 1;
    plain.ext_factor = 0;
    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        const bool local = window != 0 && build_is_local(b, 4, false);
        struct attn_args a = build_attn_args(b, &h);

        a.window = local ? window : 0;
        b->rope = local ? plain : stretched;
        y = build_attention_with(b, build_norm(b, x, "blk.%u.attn_norm"), &h, &a, true);
        x = prog_add(b->p, x, y);
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
