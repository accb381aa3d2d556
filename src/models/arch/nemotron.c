/* nemotron.c: Nemotron and Minitron (Muralidharan et al. 2024, arXiv 2407.14679), Arcee AFM and
 * Jais 2: pre-norm decoders whose feed-forward is a squared ReLU without a gate (So et al. 2021,
 * arXiv 2109.08668). */
#include "models/arch.h"

arch_fn arch_nemotron;

void arch_nemotron(struct build *b)
{
    val x = build_embed(b);

    while (build_layer(b)) {
        x = prog_add(b->p, x, build_attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_RELU2, ""));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
