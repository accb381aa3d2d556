/* granite.c: Granite 3: the llama decoder with scales on embeddings, residuals, scores and logits;
 * rotary positions and windows only where the file says so. Granite 4 has Mamba-2 in most
 * layers. */
#include "models/arch.h"

arch_fn arch_granite;

/* A flag for each layer, or, in older files, one for all. */
static bool turns(struct build *b)
{
    if (build_set(b, "attention.rope_pattern"))
        return build_bool(b, "attention.rope_pattern", true);
    return build_bool(b, "rope.scaling.finetuned", true);
}

static val attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    struct attn_args a = build_attn_args(b, &h);

    if (build_set(b, "attention.sliding_window_pattern") && build_is_local(b, 1, false))
        a.window = build_u32(b, "attention.sliding_window", 0);
    return build_attention_with(b, x, &h, &a, turns(b));
}

void arch_granite(struct build *b)
{
    const float residual = build_f32(b, "residual_scale", 1);
    struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val x = build_scale(b, build_embed(b), build_f32(b, "embedding_scale", 1));

    moe.normalise = true;
    while (build_layer(b)) {
        val y = build_norm(b, x, "blk.%u.attn_norm");

        y = build_has(b, "blk.%u.ssm_in.weight") ? build_mamba2(b, y) : attention(b, y);
        x = prog_add(b->p, x, build_scale(b, y, residual));
        y = build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe);
        x = prog_add(b->p, x, build_scale(b, y, residual));
    }
    x = build_logits(b, build_norm(b, x, "output_norm"));
    prog_output(b->p, build_scale(b, x, 1 / build_f32(b, "logit_scale", 1)));
}
