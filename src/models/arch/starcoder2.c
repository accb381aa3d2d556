/* starcoder2.c: StarCoder 2 (arXiv 2402.19173): rotary positions, layer norms, plain feed-forward with
 * biases. */
#include "models/arch.h"

arch_fn arch_starcoder2;

void arch_starcoder2(struct build *b)
{
    val x = build_embed(b);

    while (build_layer(b)) {
        x = prog_add(b->p, x, build_attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_GELU, ""));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
