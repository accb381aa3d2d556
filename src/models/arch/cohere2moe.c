/* cohere2moe.c: Command A of experts: attention and feed-forward side by side as in Command A, the
 * mean of routed and shared experts; the first layer of four sees all without positions, but for
 * the leading dense ones. Layer norms, or RMS norms where the file has an epsilon for these. */
#include "models/arch.h"

arch_fn arch_cohere2moe;

static val feed_forward(struct build *b, val x, const struct moe *moe)
{
    const val y = build_ffn_or_moe(b, x, moe);

    return build_has(b, "blk.%u.ffn_up_shexp.weight") ? prog_affine(b->p, y, 0.5f, 0) : y;
}

void arch_cohere2moe(struct build *b)
{
    const uint32_t window = build_u32(b, "attention.sliding_window", 4096);
    const uint32_t n_dense = build_u32(b, "leading_dense_block_count", 0);
    const float rms_eps = build_f32(b, "attention.layer_norm_rms_epsilon", 0);
    const struct moe moe = build_moe_keys(b, ROUTE_SIGMOID, ACT_SILU);
    val x = build_embed(b);

    if (rms_eps > 0)
        b->norm = (struct norm_args){ .kind = NORM_RMS, .eps = rms_eps };
    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        const bool local = build_is_local(b, 4, true);
        const val y = build_norm(b, x, "blk.%u.attn_norm");
        struct attn_args a = build_attn_args(b, &h);
        val attn;

        a.window = local ? window : 0;
        attn = build_attention_with(b, y, &h, &a, local || b->layer < n_dense);
        x = prog_add(b->p, prog_add(b->p, x, feed_forward(b, y, &moe)), attn);
    }
    x = build_logits(b, build_norm(b, x, "output_norm"));
    prog_output(b->p, build_scale(b, x, build_f32(b, "logit_scale", 1)));
}
