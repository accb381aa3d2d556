/* jais.c: Jais (arXiv 2308.16149): ALiBi, gated feed-forward, scores scaled by 1/d instead of
 * 1/sqrt(d). */
#include "models/arch.h"

arch_fn arch_jais;

void arch_jais(struct build *b)
{
    val x = build_embed(b);

    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        struct attn_args a = build_attn_args(b, &h);

        a.scale = 1 / (float)h.k_dim;
        x = prog_add(b->p, x, build_attention_with(b, build_norm(b, x, "blk.%u.attn_norm"), &h, &a,
                                                   false));
        x = prog_add(b->p, x, build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_SILU, ""));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
