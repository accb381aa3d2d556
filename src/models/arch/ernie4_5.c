/* ernie4_5.c: ERNIE 4.5, dense or of experts: the llama decoder; the output of attention has no
 * bias. */
#include "models/arch.h"

arch_fn arch_ernie4_5;

static val attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    const struct attn_args a = build_attn_args(b, &h);
    struct qkv t;

    b->biases = true;
    t = build_qkv(b, x, &h);
    b->biases = false;
    t.q = build_rope(b, t.q, h.n, h.k_dim);
    t.k = build_rope(b, t.k, h.n_kv, h.k_dim);
    return build_attend(b, &a, t);
}

void arch_ernie4_5(struct build *b)
{
    struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val x = build_embed(b);

    moe.normalise = true;
    while (build_layer(b)) {
        x = prog_add(b->p, x, attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
