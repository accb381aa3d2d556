/* smollm3.c: SmolLM 3: the llama decoder; every fourth layer goes without positions (Yang et al. 2025,
 * arXiv 2501.18795). */
#include "models/arch.h"

arch_fn arch_smollm3;

void arch_smollm3(struct build *b)
{
    val x = build_embed(b);

    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        const struct attn_args a = build_attn_args(b, &h);

        x = prog_add(b->p, x, build_attention_with(b, build_norm(b, x, "blk.%u.attn_norm"), &h, &a,
                                                   (b->layer + 1) % 4 != 0));
        x = prog_add(b->p, x, build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_SILU, ""));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
