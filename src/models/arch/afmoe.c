/* afmoe.c: Arcee Trinity (AFMoE): norms before and after each block, attention's output gated by a
 * sigmoid of its input; three layers of four turn in windows, the fourth sees all without
 * positions; experts beside a shared one. */
#include <math.h>

#include "models/arch.h"

arch_fn arch_afmoe;

static val attention(struct build *b, val x, uint32_t window, bool use_rope)
{
    const struct heads h = build_heads(b);
    struct attn_args a = build_attn_args(b, &h);
    struct qkv t = build_qkv(b, x, &h);
    val y;

    if (prog_failed(b->p))
        return 0;
    a.window = window;
    build_qk_norms(b, &t, &h, false);
    if (use_rope) {
        t.q = build_rope(b, t.q, h.n, h.k_dim);
        t.k = build_rope(b, t.k, h.n_kv, h.k_dim);
    }
    y = prog_attention(b->p, t.q, t.k, t.v, 0,
                       prog_state_kv(b->p, h.n_kv, h.k_dim, h.v_dim, window), &a);
    x = prog_unary(b->p, build_linear(b, x, "blk.%u.attn_gate", h.n * h.v_dim),
                   (struct act_args){ .act = ACT_SIGMOID });
    return build_linear(b, prog_mul(b->p, y, x), "blk.%u.attn_output", b->n_embd);
}

void arch_afmoe(struct build *b)
{
    const uint32_t window = build_u32(b, "attention.sliding_window", 0);
    const struct moe moe = build_moe_keys(b, ROUTE_SIGMOID, ACT_SILU);
    val x = build_scale(b, build_embed(b), sqrtf((float)b->n_embd)), y;

    while (build_layer(b)) {
        const bool local = window != 0 && build_is_local(b, 4, false);

        y = attention(b, build_norm(b, x, "blk.%u.attn_norm"), local ? window : 0,
                      (b->layer + 1) % 4 != 0);
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_attention_norm"));
        y = build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe);
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_ffw_norm"));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
