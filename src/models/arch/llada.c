/* llada.c: LLaDA (arXiv 2502.09992): a diffusion language model with the llama decoder's layers,
 * attention both ways. */
#include "models/arch.h"

arch_fn arch_llada;

void arch_llada(struct build *b)
{
    const struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val x = build_embed(b);

    b->causal = false;
    b->rope_factors = b->biases = false;
    while (build_layer(b)) {
        x = prog_add(b->p, x, build_attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
