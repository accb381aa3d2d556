/* moe.c: Pre-norm decoders with routed and shared experts, first layers dense, whose keys say all
 * that differs: DeepSeek (arXiv 2401.06066), Bailing (Ling), Qwen2-MoE, GLM-4.5, Hunyuan 3. */
#include "models/arch.h"

arch_fn arch_moe;

void arch_moe(struct build *b)
{
    const struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val x = build_embed(b);

    while (build_layer(b)) {
        const bool post = build_has(b, "blk.%u.post_attention_norm.weight");

        x = prog_add(b->p, x, build_attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, post
                                                   ? "blk.%u.post_attention_norm"
                                                   : "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
