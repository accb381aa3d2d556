/* mpt.c: MPT (MosaicML 2023): ALiBi or learned positions, clamped queries, keys and values, norms of
 * them over all heads in some; models quantised by AWQ (arXiv 2306.00978) divide activations. */
#include "models/arch.h"

arch_fn arch_mpt;

static val attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    const struct attn_args a = build_attn_args(b, &h);
    struct qkv t = build_qkv(b, x, &h);

    if (build_has(b, "blk.%u.attn_q_norm.weight"))
        build_qk_norms(b, &t, &h, true);
    return build_attend(b, &a, t);
}

static val feed_forward(struct build *b, val x)
{
    const uint32_t n_ff = build_need_u32(b, "feed_forward_length");
    val y = build_linear(b, x, "blk.%u.ffn_up", n_ff);

    y = prog_unary(b->p, y, build_act(b, ACT_GELU));
    if (build_has(b, "blk.%u.ffn.act.scales"))
        y = prog_div_w(b->p, y, build_need(b, "blk.%u.ffn.act.scales", SHAPE(n_ff)));
    return build_linear(b, y, "blk.%u.ffn_down", b->n_embd);
}

void arch_mpt(struct build *b)
{
    val x = build_embed(b);

    if (build_has(b, "position_embd.weight"))
        x = build_positions(b, x);
    while (build_layer(b)) {
        x = prog_add(b->p, x, attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, feed_forward(b, build_norm(b, x, "blk.%u.ffn_norm")));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
