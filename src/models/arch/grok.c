/* grok.c: Grok-1: norms before and after each block, capped scores, GELU experts, beside them in
 * later releases a dense feed-forward. */
#include "models/arch.h"

arch_fn arch_grok;

static val feed_forward(struct build *b, val x, const struct moe *moe)
{
    const val experts = build_moe(b, x, moe);

    if (!build_has(b, "blk.%u.ffn_up.weight"))
        return experts;
    return prog_affine(b->p, prog_add(b->p, build_ffn(b, x, ACT_GELU, ""), experts),
                       0.70710678118654752f, 0);
}

void arch_grok(struct build *b)
{
    struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_GELU);
    const float logit_scale = build_f32(b, "logit_scale", 0.57735026918962576f);
    const float logit_cap = build_f32(b, "final_logit_softcapping", 0);
    val x = build_scale(b, build_embed(b), build_f32(b, "embedding_scale", 78.383671769061f));

    moe.normalise = true;
    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        struct attn_args a = build_attn_args(b, &h);
        val y;

        a.scale = build_f32(b, "attention.output_scale", 0.088388347648318f);
        a.softcap = build_f32(b, "attn_logit_softcapping", 30);
        y = build_attention_with(b, build_norm(b, x, "blk.%u.attn_norm"), &h, &a, true);
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.attn_output_norm"));
        y = feed_forward(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe);
        x = prog_add(b->p, x, build_norm(b, y, build_has(b, "blk.%u.layer_output_norm.weight")
                                                   ? "blk.%u.layer_output_norm"
                                                   : "blk.%u.post_ffw_norm"));
    }
    x = build_scale(b, build_logits(b, build_norm(b, x, "output_norm")), logit_scale);
    if (logit_cap > 0)
        x = prog_unary(b->p, x, (struct act_args){ .act = ACT_SOFTCAP, .param = logit_cap });
    prog_output(b->p, x);
}
