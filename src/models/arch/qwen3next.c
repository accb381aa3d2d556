/* qwen3next.c: Qwen3-Next and Qwen3.5: three layers of four keep a matrix by the gated delta rule
 * (Yang, Kautz, Hatamizadeh 2024, arXiv 2412.06464), the fourth is attention whose output is
 * gated; dense or with experts. Qwen3.5 files hold value heads in the order of their key head's
 * turn, h % n_k_heads, and beta and decay apart. */
#include <math.h>

#include "models/arch.h"

arch_fn arch_qwen3next;

struct delta { uint32_t n_k, n_v, dim, ratio; };

static val act(struct build *b, val x, enum act f)
{
    return prog_unary(b->p, x, (struct act_args){ .act = f });
}

/* Columns [first, first + n) of each of `rows` equal parts of x, side by side. */
static val part(struct build *b, val x, uint32_t rows, uint32_t first, uint32_t n)
{
    return prog_reshape(b->p, prog_cols(b->p, prog_reshape(b->p, x, rows), first, n), 1);
}

static val attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    const struct attn_args a = build_attn_args(b, &h);
    struct qkv t;
    val q, y;

    if (prog_failed(b->p))
        return 0;
    q = build_linear(b, x, "blk.%u.attn_q", 2 * h.n * h.k_dim);
    t.q = part(b, q, h.n, 0, h.k_dim);
    t.k = build_linear(b, x, "blk.%u.attn_k", h.n_kv * h.k_dim);
    t.v = build_linear(b, x, "blk.%u.attn_v", h.n_kv * h.v_dim);
    build_qk_norms(b, &t, &h, false);
    t.q = build_rope(b, t.q, h.n, h.k_dim);
    t.k = build_rope(b, t.k, h.n_kv, h.k_dim);
    y = prog_attention(b->p, t.q, t.k, t.v, 0,
                       prog_state_kv(b->p, h.n_kv, h.k_dim, h.v_dim, 0), &a);
    y = prog_mul(b->p, y, act(b, part(b, q, h.n, h.k_dim, h.k_dim), ACT_SIGMOID));
    return build_linear(b, y, "blk.%u.attn_output", b->n_embd);
}

/* q, k, v side by side, and the gate z; older files have all four in one matrix by key head. */
static val project(struct build *b, val x, const struct delta *d, val *z)
{
    const uint32_t keys = d->n_k * d->dim, values = d->n_v * d->dim, v = d->ratio * d->dim;
    val all;

    if (build_has(b, "blk.%u.attn_qkv.weight")) {
        *z = build_linear(b, x, "blk.%u.attn_gate", values);
        return build_linear(b, x, "blk.%u.attn_qkv", 2 * keys + values);
    }
    all = build_linear(b, x, "blk.%u.ssm_in", 2 * keys + 2 * values);
    *z = part(b, all, d->n_k, 2 * d->dim + v, v);
    return prog_concat(b->p, (const val[]){ part(b, all, d->n_k, 0, d->dim),
                                            part(b, all, d->n_k, d->dim, d->dim),
                                            part(b, all, d->n_k, 2 * d->dim, v) }, 3);
}

static val l2_norm(struct build *b, val x, uint32_t group)
{
    return prog_norm(b->p, x, 0, 0, (struct norm_args){ .kind = NORM_L2, .group = group,
                                                        .eps = b->norm.eps });
}

static val linear_attention(struct build *b, val x, const struct delta *d)
{
    const uint32_t keys = d->n_k * d->dim, values = d->n_v * d->dim;
    const bool tiled = build_has(b, "blk.%u.ssm_alpha.weight");
    const struct delta_args args = { .n_heads = d->n_v, .n_k_heads = d->n_k, .k_dim = d->dim,
                                     .v_dim = d->dim, .scale = (float)(1 / sqrt(d->dim)),
                                     .tiled = tiled };
    val z, u, alpha, beta, y;

    if (prog_failed(b->p))
        return 0;
    u = project(b, x, d, &z);
    if (tiled) {
        alpha = build_linear(b, x, "blk.%u.ssm_alpha", d->n_v);
        beta = build_linear(b, x, "blk.%u.ssm_beta", d->n_v);
    } else {
        y = build_linear(b, x, "blk.%u.ssm_ba", 2 * d->n_v);
        beta = part(b, y, d->n_k, 0, d->ratio);
        alpha = part(b, y, d->n_k, d->ratio, d->ratio);
    }
    alpha = prog_add_w(b->p, alpha, build_need(b, "blk.%u.ssm_dt.bias", SHAPE(d->n_v)));
    alpha = prog_mul_w(b->p, act(b, alpha, ACT_SOFTPLUS),
                       build_need(b, "blk.%u.ssm_a", SHAPE(d->n_v)));
    u = build_short_conv(b, u, "blk.%u.ssm_conv1d", build_need_u32(b, "ssm.conv_kernel"));
    u = act(b, u, ACT_SILU);
    y = prog_delta_rule(b->p, l2_norm(b, prog_cols(b->p, u, 0, keys), d->dim),
                        l2_norm(b, prog_cols(b->p, u, keys, keys), d->dim),
                        prog_cols(b->p, u, 2 * keys, values), alpha,
                        act(b, beta, ACT_SIGMOID),
                        prog_state_fixed(b->p, values * d->dim), &args);
    y = prog_gated(b->p, z, build_norm_heads(b, y, "blk.%u.ssm_norm", d->dim),
                   (struct act_args){ .act = ACT_SILU });
    return build_linear(b, y, "blk.%u.ssm_out", b->n_embd);
}

static struct delta read_sizes(struct build *b)
{
    struct delta d = { build_need_u32(b, "ssm.group_count"),
                       build_need_u32(b, "ssm.time_step_rank"),
                       build_need_u32(b, "ssm.state_size"), 0 };

    if (prog_failed(b->p))
        return d;
    if (d.n_v % d.n_k != 0 || d.dim > 4096 || d.n_v > 4096 ||
        (uint64_t)d.n_v * d.dim * d.dim > (1u << 28))
        prog_fail(b->p, WATT_EFORMAT, "%s: %u value heads of %u columns over %u key heads: key "
                  "heads must divide and the state stay under 2^28 numbers", gguf_path(b->g),
                  d.n_v, d.dim, d.n_k);
    d.ratio = d.n_v / d.n_k;
    return d;
}

void arch_qwen3next(struct build *b)
{
    const struct delta d = read_sizes(b);
    struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val x = build_embed(b), y;

    moe.normalise = true;
    b->biases = false;      /* of q, k and v: the published architecture reads none */
    while (build_layer(b)) {
        y = build_norm(b, x, "blk.%u.attn_norm");
        x = prog_add(b->p, x, build_has(b, "blk.%u.ssm_conv1d.weight")
                                  ? linear_attention(b, y, &d) : attention(b, y));
        y = build_norm(b, x, "blk.%u.post_attention_norm");
        x = prog_add(b->p, x, build_ffn_or_moe(b, y, &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
