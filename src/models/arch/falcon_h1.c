/* falcon_h1.c: Falcon-H1 (TII 2025, arXiv 2507.22448): attention and Mamba-2 side by side in every
 * layer, on the same normalised input. The multipliers of the paper are folded into the weights. */
#include "models/arch.h"

arch_fn arch_falcon_h1;

/* Its output product has no bias even where queries, keys and values have them. */
static val attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    const struct attn_args a = build_attn_args(b, &h);
    struct qkv t = build_qkv(b, x, &h);
    val y;

    t.q = build_rope(b, t.q, h.n, h.k_dim);
    t.k = build_rope(b, t.k, h.n_kv, h.k_dim);
    b->biases = false;
    y = build_attend(b, &a, t);
    b->biases = true;
    return y;
}

/* Public files leave out the suffix of this one name. */
static val ffn_norm(struct build *b, val x)
{
    if (!build_has(b, "blk.%u.ffn_norm"))
        return build_norm(b, x, "blk.%u.ffn_norm");
    return prog_norm(b->p, x, build_need(b, "blk.%u.ffn_norm", SHAPE(b->n_embd)), 0, b->norm);
}

void arch_falcon_h1(struct build *b)
{
    val x = build_embed(b), y;

    b->rope_factors = false;
    while (build_layer(b)) {
        y = build_norm(b, x, "blk.%u.attn_norm");
        y = prog_add(b->p, attention(b, y), build_mamba2(b, y));
        x = prog_add(b->p, x, y);
        y = build_ffn(b, ffn_norm(b, x), ACT_SILU, "");
        x = prog_add(b->p, x, y);
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
