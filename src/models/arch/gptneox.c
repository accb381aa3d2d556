/* gptneox.c: GPT-NeoX (arXiv 2204.06745): rotary positions on part of a head; attention and
 * feed-forward side by side where the file says so. */
#include "models/arch.h"

arch_fn arch_gptneox;

void arch_gptneox(struct build *b)
{
    const bool parallel = build_bool(b, "use_parallel_residual", false);
    val x = build_embed(b);

    while (build_layer(b)) {
        const val h = prog_add(b->p, x, build_attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        const val ffn = build_ffn(b, build_norm(b, parallel ? x : h, "blk.%u.ffn_norm"), ACT_GELU,
                                  "");

        x = prog_add(b->p, h, ffn);
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
