/* cohere2.c: Command R7B and Command A (arXiv 2504.00698): attention and feed-forward side by side;
 * three layers of four turn queries and keys in a window, the fourth sees all without positions. */
#include "models/arch.h"

arch_fn arch_cohere2;

void arch_cohere2(struct build *b)
{
    const uint32_t window = build_u32(b, "attention.sliding_window", 4096);
    val x = build_embed(b);

    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        const bool local = build_is_local(b, 4, false);
        const val y = build_norm(b, x, "blk.%u.attn_norm");
        struct attn_args a = build_attn_args(b, &h);
        val attn;

        a.window = local ? window : 0;
        attn = build_attention_with(b, y, &h, &a, local);
        x = prog_add(b->p, prog_add(b->p, x, build_ffn(b, y, ACT_SILU, "")), attn);
    }
    x = build_logits(b, build_norm(b, x, "output_norm"));
    prog_output(b->p, build_scale(b, x, build_f32(b, "logit_scale", 1)));
}
