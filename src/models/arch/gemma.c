/* gemma.c: Gemma (arXiv 2403.08295): embeddings scaled by sqrt(width), GELU gates. */
#include <math.h>

#include "models/arch.h"

arch_fn arch_gemma;

void arch_gemma(struct build *b)
{
    val x = build_scale(b, build_embed(b), sqrtf((float)b->n_embd));

    while (build_layer(b)) {
        x = prog_add(b->p, x, build_attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_GELU, ""));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
