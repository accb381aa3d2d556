/* lfm2.c: LFM2 (Liquid AI): layers of gated short convolutions, some of attention with norms of
 * queries and keys; first layers dense, the others of experts in LFM2-MoE. */
#include "models/arch.h"

arch_fn arch_lfm2;

/* b, c and x of one matrix: conv(b * x) * c. */
static val short_conv(struct build *b, val x)
{
    const uint32_t n = b->n_embd, taps = build_need_u32(b, "shortconv.l_cache");
    const val bcx = build_linear(b, x, "blk.%u.shortconv.in_proj", 3 * n);
    const val in = prog_mul(b->p, prog_cols(b->p, bcx, 0, n), prog_cols(b->p, bcx, 2 * n, n));
    val y = build_short_conv(b, in, "blk.%u.shortconv.conv", taps);

    y = prog_mul(b->p, prog_cols(b->p, bcx, n, n), y);
    return build_linear(b, y, "blk.%u.shortconv.out_proj", n);
}

static val attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    struct attn_args a = build_attn_args(b, &h);

    a.window = build_u32(b, "attention.sliding_window", 0);
    return build_attention_with(b, x, &h, &a, true);
}

void arch_lfm2(struct build *b)
{
    struct moe moe = build_moe_keys(b, ROUTE_SIGMOID, ACT_SILU);
    val x = build_embed(b), y;

    moe.normalise = true;
    while (build_layer(b)) {
        y = build_norm(b, x, "blk.%u.attn_norm");
        y = build_has(b, "blk.%u.shortconv.conv.weight") ? short_conv(b, y)
                                                         : attention(b, y);
        x = prog_add(b->p, x, y);
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, build_has(b, "output_norm.weight")
                                                          ? "output_norm"
                                                          : "token_embd_norm")));
}
