/* baichuan.c: Baichuan 1 and 2 (arXiv 2309.10305): the 7B turns queries and keys, the 13B has ALiBi
 * instead. Files do not say which they are but by the number of layers. */
#include "models/arch.h"

arch_fn arch_baichuan;

#define LAYERS_7B  32u
#define LAYERS_13B 40u

void arch_baichuan(struct build *b)
{
    val x = build_embed(b);

    if (b->n_layers == LAYERS_13B && b->alibi == 0)
        b->alibi = 8;
    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        const struct attn_args a = build_attn_args(b, &h);

        x = prog_add(b->p, x, build_attention_with(b, build_norm(b, x, "blk.%u.attn_norm"), &h, &a,
                                                   b->n_layers == LAYERS_7B));
        x = prog_add(b->p, x, build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_SILU, ""));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
