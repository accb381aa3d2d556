/* t5encoder.c: the encoder of T5 (Raffel et al. 2020, arXiv 1910.10683): unscaled scores with a bias
 * per bucket of distances, shared by all layers where only the first has one. */
#include "models/arch.h"

arch_fn arch_t5encoder;

#define MAX_DISTANCE 128u

static wid buckets(struct build *b, uint32_t n_buckets, uint32_t n_heads)
{
    const int64_t *shape = SHAPE(n_buckets, n_heads);

    return build_has(b, "enc.blk.%u.attn_rel_b.weight")
               ? build_need(b, "enc.blk.%u.attn_rel_b.weight", shape)
               : build_need(b, "enc.blk.0.attn_rel_b.weight", shape);
}

static val attention(struct build *b, val x, uint32_t n_buckets)
{
    const struct heads h = build_heads(b);
    struct attn_args a = build_attn_args(b, &h);
    const val q = build_linear(b, x, "enc.blk.%u.attn_q", h.n * h.k_dim);
    const val k = build_linear(b, x, "enc.blk.%u.attn_k", h.n_kv * h.k_dim);
    const val v = build_linear(b, x, "enc.blk.%u.attn_v", h.n_kv * h.v_dim);

    if (prog_failed(b->p))
        return 0;
    a.scale = 1;
    a.buckets = buckets(b, n_buckets, h.n);
    a.n_buckets = n_buckets;
    a.max_distance = MAX_DISTANCE;
    return build_linear(b, prog_attention(b->p, q, k, v, 0,
                                          prog_state_kv(b->p, h.n_kv, h.k_dim, h.v_dim, 0), &a),
                        "enc.blk.%u.attn_o", b->n_embd);
}

static val feed_forward(struct build *b, val x)
{
    const bool gated = build_has(b, "enc.blk.%u.ffn_gate.weight");
    const struct act_args act = build_act(b, gated ? ACT_GELU : ACT_RELU);
    const val up = build_linear(b, x, "enc.blk.%u.ffn_up", 0);
    const val h = gated ? prog_gated(b->p, build_linear(b, x, "enc.blk.%u.ffn_gate", 0), up, act)
                        : prog_unary(b->p, up, act);

    return build_linear(b, h, "enc.blk.%u.ffn_down", b->n_embd);
}

void arch_t5encoder(struct build *b)
{
    const uint32_t n_buckets = build_need_u32(b, "attention.relative_buckets_count");
    val x = build_embed(b);

    b->causal = false;
    build_known(b, "output.weight");
    while (build_layer(b)) {
        x = prog_add(b->p, x, attention(b, build_norm(b, x, "enc.blk.%u.attn_norm"), n_buckets));
        x = prog_add(b->p, x, feed_forward(b, build_norm(b, x, "enc.blk.%u.ffn_norm")));
    }
    prog_output(b->p, build_embedding(b, build_norm(b, x, "enc.output_norm")));
}
