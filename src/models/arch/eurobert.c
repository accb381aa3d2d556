/* eurobert.c: Llama's layers read both ways: EuroBERT (arXiv 2503.05500), NeoBERT (arXiv
 * 2502.19587, gate and up in one matrix) and encoders made of Llama. */
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
    x = build_norm(b, x, build_has(b, "enc.output_norm.weight") ? "enc.output_norm"
                                                                 : "output_norm");
    prog_output(b->p, build_embedding(b, x));
}
