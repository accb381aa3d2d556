/* minimax_01.c: MiniMax-Text-01 (arXiv 2501.08313): lightning attention, linear with a constant decay
 * per head that weakens towards the last layer, and every eighth layer softmax attention; experts in
 * all. The residual goes around each block behind its norm, scaled. */
#include "models/arch.h"

arch_fn arch_minimax_01;

static val lightning(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    const uint32_t width = h.n * h.k_dim;
    const double place = b->n_layers > 1 ? b->layer / (b->n_layers - 1.0) : 0;
    const struct linear_attn_args a = { .n_heads = h.n, .k_dim = h.k_dim, .v_dim = h.k_dim, .scale = 1,
                                        .decay = (float)(1 - place + 1e-5) };
    val qkv, part[3], y;

    if (prog_failed(b->p))
        return 0;
    if ((uint64_t)width * h.k_dim > (1u << 28)) {
        prog_fail(b->p, WATT_EFORMAT, "%s: linear attention of %u heads of %u columns: the state must "
                  "stay under 2^28 numbers", gguf_path(b->g), h.n, h.k_dim);
        return 0;
    }
    qkv = prog_unary(b->p, build_linear(b, x, "blk.%u.attn_qkv", 3 * width),
                     (struct act_args){ .act = ACT_SILU });
    qkv = prog_reshape(b->p, qkv, h.n);     /* q, k, v of a head after another */
    for (uint32_t i = 0; i < 3; i++)
        part[i] = prog_reshape(b->p, prog_cols(b->p, qkv, i * h.k_dim, h.k_dim), 1);
    y = prog_linear_attention(b->p, part[0], part[1], part[2],
                              prog_state_fixed(b->p, width * h.k_dim), &a);
    y = prog_gated(b->p, build_linear(b, x, "blk.%u.attn_gate", width),
                   build_norm(b, y, "blk.%u.attn_norm_2"),
                   (struct act_args){ .act = ACT_SIGMOID });
    return build_linear(b, y, "blk.%u.attn_output", b->n_embd);
}

void arch_minimax_01(struct build *b)
{
    const float residual = build_f32(b, "residual_scale", 1);
    struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val x = build_embed(b), y;

    moe.score = ROUTE_SOFTMAX;
    moe.normalise = true;
    while (build_layer(b)) {
        x = build_norm(b, x, "blk.%u.attn_norm");
        y = build_has(b, "blk.%u.attn_gate.weight") ? lightning(b, x) : build_attention(b, x);
        x = prog_add(b->p, y, build_scale(b, x, residual));
        x = build_norm(b, x, "blk.%u.ffn_norm");
        x = prog_add(b->p, build_moe(b, x, &moe), build_scale(b, x, residual));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
