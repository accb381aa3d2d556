/* llama.c: the decoder that most families share (Touvron et al. 2023, arXiv 2302.13971;
 * Mixtral, arXiv 2401.04088, where a layer has a router): pre-norm attention with rotary
 * positions, gated feed-forward. Qwen2 adds biases, Qwen3 query and key norms: tensors that
 * the blocks apply where they are present. */
#include "models/arch.h"

arch_fn arch_llama;

void arch_llama(struct build *b)
{
    const struct moe moe = { .score = ROUTE_SOFTMAX, .act = { .act = ACT_SILU }, .normalise = true,
                             .scale = build_f32(b, "expert_weights_scale", 1) };
    val x = build_embed(b);

    while (build_layer(b)) {
        x = prog_add(b->p, x, build_attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
