/* rwkv7.c: RWKV-7 "Goose" (Peng et al. 2025, arXiv 2503.14456): no attention at all. Time mixing keeps
 * a matrix per head that each token decays per column, corrects along one direction and adds to;
 * what it needs comes from mixtures of a token and the one before, through narrow pairs of
 * matrices (w1 and w2, a1 and a2, v1 and v2, g1 and g2). Channel mixing is the feed-forward. */
#include "models/arch.h"

arch_fn arch_rwkv7;

#define DECAY (-0.606531f)      /* -exp(-1/2): the strongest decay */
#define GROUP_EPS 64e-5f

static val act(struct build *b, val x, enum act f)
{
    return prog_unary(b->p, x, (struct act_args){ .act = f });
}

static val vector(struct build *b, const char *name)
{
    return build_need(b, name, SHAPE(b->n_embd));
}

/* y - x */
static val minus(struct build *b, val y, val x)
{
    return prog_add(b->p, y, prog_affine(b->p, x, -1, 0));
}

/* x of the token before less x. */
static val change(struct build *b, val x)
{
    return minus(b, prog_shift(b->p, x, prog_state_fixed(b->p, b->n_embd)), x);
}

/* [w0 +] w2 f(w1 x) */
static val pair(struct build *b, val x, const char *first, enum act f, const char *second,
                const char *base)
{
    val y = build_linear(b, x, first, 0);

    y = build_linear(b, f == ACT_NONE ? y : act(b, y, f), second, b->n_embd);
    return base ? prog_add_w(b->p, y, vector(b, base)) : y;
}

/* The token mixed with the one before in n ways, side by side: x + change * lerp. */
static val mixtures(struct build *b, val x, uint32_t n)
{
    const val d = change(b, x);
    const val ds[] = { d, d, d, d, d, d }, xs[] = { x, x, x, x, x, x };
    const wid lerp = build_need(b, "blk.%u.time_mix_lerp_fused.weight", SHAPE(n, 1, 1, b->n_embd));

    return prog_add(b->p, prog_mul_w(b->p, prog_concat(b->p, ds, n), lerp),
                    prog_concat(b->p, xs, n));
}

/* sum over a head of k r r_k, times v: what a token tells itself. */
static val bonus(struct build *b, val r, val k, val v, uint32_t heads)
{
    const val s = prog_group_sum(b->p, prog_mul_w(b->p, prog_mul(b->p, k, r),
                                                  vector(b, "blk.%u.time_mix_r_k.weight")),
                                 b->n_embd / heads);

    return prog_reshape(b->p, prog_mul(b->p, prog_reshape(b->p, v, heads),
                                       prog_reshape(b->p, s, heads)), 1);
}

static val time_mix(struct build *b, val x, val *v_first, uint32_t dim)
{
    const bool gated = build_has(b, "blk.%u.time_mix_g1.weight");
    const uint32_t n = b->n_embd, heads = n / dim;
    const struct wkv_args args = { heads, dim };
    const struct norm_args l2 = { .kind = NORM_L2, .group = dim, .eps = 1e-12f };
    const struct norm_args group = { .kind = NORM_LAYER, .group = dim, .eps = GROUP_EPS };
    val mix, part[6] = { 0 }, r, w, k, v, a, kk, ka, y, g;

    mix = mixtures(b, x, gated ? 6 : 5);
    for (uint32_t i = 0; i < (gated ? 6u : 5u); i++)
        part[i] = prog_cols(b->p, mix, i * n, n);
    r = build_linear(b, part[0], "blk.%u.time_mix_receptance", n);
    w = pair(b, part[1], "blk.%u.time_mix_w1", ACT_TANH, "blk.%u.time_mix_w2",
             "blk.%u.time_mix_w0.weight");
    w = prog_affine(b->p, act(b, w, ACT_SIGMOID), DECAY, 0);
    k = build_linear(b, part[2], "blk.%u.time_mix_key", n);
    v = build_linear(b, part[3], "blk.%u.time_mix_value", n);
    if (*v_first) {
        y = act(b, pair(b, part[3], "blk.%u.time_mix_v1", ACT_NONE, "blk.%u.time_mix_v2",
                        "blk.%u.time_mix_v0.weight"), ACT_SIGMOID);
        v = prog_add(b->p, v, prog_mul(b->p, minus(b, *v_first, v), y));
    } else {
        *v_first = v;       /* files have the three here too, and nobody reads them */
        build_known(b, "blk.%u.time_mix_v0.weight");
        build_known(b, "blk.%u.time_mix_v1.weight");
        build_known(b, "blk.%u.time_mix_v2.weight");
    }
    a = act(b, pair(b, part[4], "blk.%u.time_mix_a1", ACT_NONE, "blk.%u.time_mix_a2",
                    "blk.%u.time_mix_a0.weight"), ACT_SIGMOID);
    kk = prog_norm(b->p, prog_mul_w(b->p, k, vector(b, "blk.%u.time_mix_k_k.weight")), 0, 0, l2);
    ka = prog_mul_w(b->p, k, vector(b, "blk.%u.time_mix_k_a.weight"));
    k = prog_add(b->p, k, minus(b, prog_mul(b->p, a, ka), ka));
    y = prog_wkv(b->p, r, w, k, v, prog_affine(b->p, kk, -1, 0), prog_mul(b->p, kk, a),
                 prog_state_fixed(b->p, n * dim), &args);
    if (build_has(b, "blk.%u.time_mix_ln.weight"))
        y = prog_norm(b->p, y, vector(b, "blk.%u.time_mix_ln.weight"),
                      vector(b, "blk.%u.time_mix_ln.bias"), group);
    y = prog_add(b->p, y, bonus(b, r, k, v, heads));
    if (gated) {
        g = pair(b, part[5], "blk.%u.time_mix_g1", ACT_SIGMOID, "blk.%u.time_mix_g2", NULL);
        y = prog_mul(b->p, y, g);
    }
    return build_linear(b, y, "blk.%u.time_mix_output", n);
}

static val channel_mix(struct build *b, val x)
{
    const wid lerp = build_need(b, "blk.%u.channel_mix_lerp_k.weight", SHAPE(1, 1, b->n_embd));
    val y = prog_add(b->p, prog_mul_w(b->p, change(b, x), lerp), x);

    y = act(b, build_linear(b, y, "blk.%u.channel_mix_key", 0), ACT_RELU2);
    return build_linear(b, y, "blk.%u.channel_mix_value", b->n_embd);
}

void arch_rwkv7(struct build *b)
{
    const uint32_t dim = build_need_u32(b, "wkv.head_size");
    val x = build_embed(b), v_first = 0;

    if (!prog_failed(b->p) && (b->n_embd % dim != 0 || (uint64_t)b->n_embd * dim > (1u << 28)))
        prog_fail(b->p, WATT_EFORMAT, "%s: key %s.wkv.head_size is %u, expected a divisor of the %u "
                  "columns", gguf_path(b->g), b->arch, dim, b->n_embd);
    if (build_has(b, "token_embd_norm.weight"))
        x = build_norm(b, x, "token_embd_norm");
    while (build_layer(b)) {
        x = prog_add(b->p, x, time_mix(b, build_norm(b, x, "blk.%u.attn_norm"), &v_first, dim));
        x = prog_add(b->p, x, channel_mix(b, build_norm(b, x, "blk.%u.attn_norm_2")));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
