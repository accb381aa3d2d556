/* minicpm.c: MiniCPM (Hu et al. 2024, arXiv 2404.06395): the llama decoder, dense or of experts, with
 * scales on embeddings, residuals and logits after Tensor Programs V (arXiv 2203.03466). Older
 * files carry no scales: they are of models with 12, 1.4 / sqrt(layers) and width / 256. */
#include <math.h>

#include "models/arch.h"

arch_fn arch_minicpm;

void arch_minicpm(struct build *b)
{
    const float residual = build_f32(b, "residual_scale",
                                     b->n_layers ? 1.4f / sqrtf((float)b->n_layers) : 1);
    const float logits = build_f32(b, "logit_scale", (float)b->n_embd / 256);
    struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val x = build_scale(b, build_embed(b), build_f32(b, "embedding_scale", 12)), y;

    moe.normalise = true;
    while (build_layer(b)) {
        y = build_attention(b, build_norm(b, x, "blk.%u.attn_norm"));
        x = prog_add(b->p, x, build_scale(b, y, residual));
        y = build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe);
        x = prog_add(b->p, x, build_scale(b, y, residual));
    }
    x = build_logits(b, build_norm(b, x, "output_norm"));
    prog_output(b->p, build_scale(b, x, 1 / logits));
}
