/* eurobert.c: Llama's layers read both ways: EuroBERT (arXiv 2503.05500) and encoders made of Llama. */
#include "models/arch.h"

arch_fn arch_eurobert;

void arch_eurobert(struct build *b)
{
    const struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val x = build_embed(b);

    b->causal = build_bool(b, "attention.causal", false);
    build_known(b, "output.weight");
    while (build_layer(b)) {
        x = prog_add(b->p, x, build_attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_embedding(b, build_norm(b, x, "output_norm")));
}
