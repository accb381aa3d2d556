/* falcon.c: Falcon (arXiv 2311.16867): attention and feed-forward side by side; the 40B has a norm
 * of its own for attention. */
#include "models/arch.h"

arch_fn arch_falcon;

void arch_falcon(struct build *b)
{
    val x = build_embed(b);

    while (build_layer(b)) {
        const val h = build_norm(b, x, "blk.%u.attn_norm");
        const val own = build_has(b, "blk.%u.attn_norm_2.weight")
                            ? build_norm(b, x, "blk.%u.attn_norm_2") : h;
        const val attn = build_attention(b, own);

        x = prog_add(b->p, prog_add(b->p, build_ffn(b, h, ACT_GELU, ""), attn), x);
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
