/* gpt2.c: GPT-2 (Radford et al. 2019) and StarCoder: learned positions, layer norms with biases,
 * plain feed-forward. */
#include "models/arch.h"

arch_fn arch_gpt2;

void arch_gpt2(struct build *b)
{
    val x = build_positions(b, build_embed(b));

    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        const struct attn_args a = build_attn_args(b, &h);

        x = prog_add(b->p, x, build_attention_with(b, build_norm(b, x, "blk.%u.attn_norm"), &h, &a,
                                                   false));
        x = prog_add(b->p, x, build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_GELU, ""));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
