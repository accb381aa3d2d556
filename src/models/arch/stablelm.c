/* stablelm.c: StableLM 2 (arXiv 2402.17834): layer norms, rotary positions on part of a head, norms with
 * a gain for each head in the 12B, whose feed-forward runs beside attention on the same input. */
#include "models/arch.h"

arch_fn arch_stablelm;

void arch_stablelm(struct build *b)
{
    val x = build_embed(b);

    while (build_layer(b)) {
        const val h = build_norm(b, x, "blk.%u.attn_norm");

        x = prog_add(b->p, x, build_attention(b, h));
        x = prog_add(b->p, x, build_ffn(b, build_has(b, "blk.%u.ffn_norm.weight")
                                               ? build_norm(b, x, "blk.%u.ffn_norm") : h,
                                        ACT_SILU, ""));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
