/* plamo2.c: PLaMo 2 (Preferred Networks 2025, arXiv 2509.04897): Mamba with one decay per head, whose
 * dt, B and C are made from the convolved input and normalised, or attention with normalised queries
 * and keys; norms before and behind each block. */
#include <math.h>

#include "models/arch.h"

arch_fn arch_plamo2;

static val mamba(struct build *b, val x)
{
    const uint32_t inner = build_need_u32(b, "ssm.inner_size");
    const uint32_t n_state = build_need_u32(b, "ssm.state_size");
    const uint32_t heads = build_need_u32(b, "ssm.time_step_rank");
    const uint32_t rank = b->n_embd / 16 > 64 ? b->n_embd / 16 : 64;
    struct ssm_args a = { .n_heads = heads, .d_state = n_state, .n_groups = 1 };
    val zx, u, y, dt, bs, cs;

    if (prog_failed(b->p))
        return 0;
    if (inner % heads != 0 || inner > PROG_MAX_WIDTH / 8 || n_state > 65536 ||
        (uint64_t)inner * n_state > (1u << 28)) {
        prog_fail(b->p, WATT_EFORMAT, "%s: state space of %u columns with %u numbers each in %u heads",
                  gguf_path(b->g), inner, n_state, heads);
        return 0;
    }
    a.head_dim = inner / heads;
    zx = prog_reshape(b->p, build_linear(b, x, "blk.%u.ssm_in", 2 * inner), heads);
    u = prog_reshape(b->p, prog_cols(b->p, zx, a.head_dim, a.head_dim), 1);
    u = build_short_conv(b, u, "blk.%u.ssm_conv1d", build_need_u32(b, "ssm.conv_kernel"));
    u = prog_unary(b->p, u, (struct act_args){ .act = ACT_SILU });
    y = build_linear(b, u, "blk.%u.ssm_x", rank + 2 * n_state);
    bs = build_norm(b, prog_cols(b->p, y, 0, n_state), "blk.%u.ssm_b_norm");
    cs = build_norm(b, prog_cols(b->p, y, n_state, n_state), "blk.%u.ssm_c_norm");
    dt = build_norm(b, prog_cols(b->p, y, 2 * n_state, rank), "blk.%u.ssm_dt_norm");
    dt = build_linear(b, dt, "blk.%u.ssm_dt", heads);
    y = prog_ssm_scan(b->p, u, dt, bs, cs, build_need(b, "blk.%u.ssm_a", SHAPE(heads)),
                      build_need(b, "blk.%u.ssm_d", SHAPE(heads)),
                      prog_state_fixed(b->p, inner * n_state), &a);
    y = prog_gated(b->p, prog_reshape(b->p, prog_cols(b->p, zx, 0, a.head_dim), 1), y,
                   (struct act_args){ .act = ACT_SILU });
    return build_linear(b, y, "blk.%u.ssm_out", b->n_embd);
}

static val attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    struct attn_args a = build_attn_args(b, &h);

    a.scale = (float)(1 / sqrt(h.v_dim));
    return build_attention_with(b, x, &h, &a, true);
}

void arch_plamo2(struct build *b)
{
    val x = build_embed(b), y;

    while (build_layer(b)) {
        y = build_norm(b, x, "blk.%u.attn_norm");
        y = build_has(b, "blk.%u.ssm_in.weight") ? mamba(b, y) : attention(b, y);
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_attention_norm"));
        y = build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_SILU, "");
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_ffw_norm"));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
