/* plamo.c: PLaMo: one norm feeds attention and a gated feed-forward side by side. */
#include "models/arch.h"

arch_fn arch_plamo;

void arch_plamo(struct build *b)
{
    val x = build_embed(b);

    while (build_layer(b)) {
        const val h = build_norm(b, x, "blk.%u.attn_norm");
        const val attn = build_attention(b, h);

        x = prog_add(b->p, prog_add(b->p, build_ffn(b, h, ACT_SILU, ""), attn), x);
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
