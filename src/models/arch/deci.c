/* deci.c: DeciLM and the Nemotron models pruned by Puzzle (Bercovich et al. 2024, arXiv 2411.19146):
 * the llama decoder with heads and feed-forward of each layer's own, either of which may be
 * missing; where queries are, attention; where only its output matrix is, that alone. */
#include "models/arch.h"

arch_fn arch_deci;

static val attention(struct build *b, val x)
{
    const val y = build_norm(b, x, "blk.%u.attn_norm");

    if (build_has(b, "blk.%u.attn_q.weight") || build_has(b, "blk.%u.attn_qkv.weight"))
        return build_attention(b, y);
    return build_linear(b, y, "blk.%u.attn_output", b->n_embd);
}

void arch_deci(struct build *b)
{
    val x = build_embed(b);

    while (build_layer(b)) {
        if (build_has(b, "blk.%u.attn_output.weight"))
            x = prog_add(b->p, x, attention(b, x));
        if (build_has(b, "blk.%u.ffn_up.weight"))
            x = prog_add(b->p, x, build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_SILU, ""));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
