/* minicpm3.c: MiniCPM3 (arXiv 2404.06395): MiniCPM's scales, which files do not carry, over latent
 * attention with LongRoPE factors. */
#include <math.h>

#include "models/arch.h"

arch_fn arch_minicpm3;

void arch_minicpm3(struct build *b)
{
    const float residual = b->n_layers ? 1.4f / sqrtf((float)b->n_layers) : 1;
    val x = build_scale(b, build_embed(b), 12), y;
    const struct latent t = build_latent_sizes(b, x);

    while (build_layer(b)) {
        y = build_latent(b, build_norm(b, x, "blk.%u.attn_norm"), &t);
        x = prog_add(b->p, x, build_scale(b, y, residual));
        y = build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_SILU, "");
        x = prog_add(b->p, x, build_scale(b, y, residual));
    }
    x = build_scale(b, build_norm(b, x, "output_norm"), b->n_embd ? 256 / (float)b->n_embd : 1);
    prog_output(b->p, build_logits(b, x));
}
