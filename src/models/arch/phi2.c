/* phi2.c: Phi-2: one norm feeds attention and feed-forward side by side; rotary positions on part
 * of a head. */
#include "models/arch.h"

arch_fn arch_phi2;

void arch_phi2(struct build *b)
{
    val x = build_embed(b);

    while (build_layer(b)) {
        const val h = build_norm(b, x, "blk.%u.attn_norm");
        const val attn = build_attention(b, h);

        x = prog_add(b->p, prog_add(b->p, attn, build_ffn(b, h, ACT_GELU, "")), x);
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
