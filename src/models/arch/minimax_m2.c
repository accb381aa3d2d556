/* minimax_m2.c: MiniMax-M2: as OLMoE, with a sigmoid router whose chosen weights sum to 1. */
#include "models/arch.h"

arch_fn arch_minimax_m2;

static val attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    const struct attn_args a = build_attn_args(b, &h);
    struct qkv t = build_qkv(b, x, &h);

    build_qk_norms(b, &t, &h, true);
    t.q = build_rope(b, t.q, h.n, h.k_dim);
    t.k = build_rope(b, t.k, h.n_kv, h.k_dim);
    return build_attend(b, &a, t);
}

void arch_minimax_m2(struct build *b)
{
    struct moe moe = build_moe_keys(b, ROUTE_SIGMOID, ACT_SILU);
    val x = build_embed(b);

    b->biases = false;
    moe.normalise = true;
    while (build_layer(b)) {
        x = prog_add(b->p, x, attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
