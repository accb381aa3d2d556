/* build_latent.c: latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values come from one
 * compressed row of kv_lora_rank columns, and positions from rotated columns that all heads share.
 *
 * With attn_k_b and attn_v_b the up-projections are absorbed into queries and outputs, and the cache
 * holds one compressed key for all heads; with attn_kv_b, as older files have it, keys and values of
 * every head are made and kept. */
#include <math.h>

#include "models/build.h"

val build_all_ids(struct build *b, val x, uint32_t n)
{
    const struct route_args a = { .score = ROUTE_NONE, .n_experts = n, .n_used = n };
    val ids = 0, weights;

    prog_route(b->p, prog_affine(b->p, prog_cols(b->p, x, 0, n), 0, 0), 0, &a, &ids, &weights);
    return ids;
}

struct latent build_latent_sizes(struct build *b, val x)
{
    const uint32_t k = build_u32(b, "attention.key_length_mla",
                                 build_u32(b, "attention.key_length", 0));
    struct latent t = { .n = build_need_u32(b, "attention.head_count"),
                        .rank = build_need_u32(b, "attention.kv_lora_rank"),
                        .rot = build_need_u32(b, "rope.dimension_count"),
                        .v = build_u32(b, "attention.value_length_mla",
                                       build_u32(b, "attention.value_length", 0)),
                        .rope = true };

    if (prog_failed(b->p))
        return (struct latent){ 0 };
    if (k < t.rot || t.v == 0 || k > 65536 || t.v > 65536 || t.rank > 65536 || t.n > 4096 ||
        t.n > prog_width(b->p, x)) {
        prog_fail(b->p, WATT_EFORMAT, "%s: latent attention of %u heads with %u (%u rotated) and "
                  "%u columns over %u", gguf_path(b->g), t.n, k, t.rot, t.v, t.rank);
        return (struct latent){ 0 };
    }
    t.nope = k - t.rot;
    t.scale = (float)(1 / sqrt(k));
    t.ids = build_all_ids(b, x, t.n);
    return t;
}

static val queries(struct build *b, val x, const struct latent *t)
{
    const uint32_t width = t->n * (t->nope + t->rot);

    if (!build_has(b, "blk.%u.attn_q_a.weight"))
        return build_linear(b, x, "blk.%u.attn_q", width);
    x = build_linear(b, x, "blk.%u.attn_q_a", build_need_u32(b, "attention.q_lora_rank"));
    return build_linear(b, build_norm(b, x, "blk.%u.attn_q_a_norm"), "blk.%u.attn_q_b", width);
}

/* Plain columns before rotated ones; some models have no plain ones. */
static val pair(struct build *b, val x, val y)
{
    return x == 0 ? y : prog_concat(b->p, (const val[]){ x, y }, 2);
}

/* All heads of a token in one row. */
static val whole_queries(struct build *b, const struct latent *t, val q, val q_rot)
{
    const val x = prog_reshape(b->p, pair(b, q, q_rot), 1);

    if (t->temperature == 0)
        return x;
    return prog_position_scale(b->p, x, (struct position_scale_args){ .c = t->temperature,
                                                                      .length = t->length });
}

static val absorbed(struct build *b, const struct latent *t, val q, val q_rot, val kv, val k_rot)
{
    const struct attn_args a = { .n_heads = t->n, .n_kv_heads = 1, .k_dim = t->rank + t->rot,
                                 .v_dim = t->rank, .scale = t->scale, .mask = MASK_CAUSAL,
                                 .write = true };
    const wid k_b = build_need(b, "blk.%u.attn_k_b.weight", SHAPE(t->n, t->rank, t->nope));
    const wid v_b = build_need(b, "blk.%u.attn_v_b.weight", SHAPE(t->n, t->v, t->rank));
    val y;

    q = whole_queries(b, t, prog_expert_linear(b->p, q, t->ids, k_b, 0, 0), q_rot);
    y = prog_attention(b->p, q, pair(b, kv, k_rot), kv, 0,
                       prog_state_kv(b->p, 1, a.k_dim, a.v_dim, 0), &a);
    return prog_expert_linear(b->p, prog_reshape(b->p, y, t->n), t->ids, v_b, 0, 0);
}

static val expanded(struct build *b, const struct latent *t, val q, val q_rot, val kv, val k_rot)
{
    const struct attn_args a = { .n_heads = t->n, .n_kv_heads = t->n, .k_dim = t->nope + t->rot,
                                 .v_dim = t->v, .scale = t->scale, .mask = MASK_CAUSAL,
                                 .write = true };
    const val all = prog_reshape(b->p, build_linear(b, kv, "blk.%u.attn_kv_b",
                                                    t->n * (t->nope + t->v)), t->n);
    const val ones = prog_affine(b->p, prog_cols(b->p, kv, 0, t->n), 0, 1);
    const val plain = t->nope ? prog_cols(b->p, all, 0, t->nope) : 0;
    const val k = pair(b, plain, prog_expert_spread(b->p, k_rot, ones));

    return prog_attention(b->p, whole_queries(b, t, q, q_rot), prog_reshape(b->p, k, 1),
                          prog_reshape(b->p, prog_cols(b->p, all, t->nope, t->v), 1), 0,
                          prog_state_kv(b->p, t->n, a.k_dim, a.v_dim, 0), &a);
}

val build_latent(struct build *b, val x, const struct latent *t)
{
    val q, q_rot, kv, k_rot, y;

    if (prog_failed(b->p))
        return 0;
    q = prog_reshape(b->p, queries(b, x, t), t->n);
    q_rot = prog_reshape(b->p, prog_cols(b->p, q, t->nope, t->rot), 1);
    q = t->nope ? prog_cols(b->p, q, 0, t->nope) : 0;
    kv = build_linear(b, x, "blk.%u.attn_kv_a_mqa", t->rank + t->rot);
    k_rot = prog_cols(b->p, kv, t->rank, t->rot);
    kv = build_norm(b, prog_cols(b->p, kv, 0, t->rank), "blk.%u.attn_kv_a_norm");
    if (t->rope) {
        q_rot = build_rope(b, q_rot, t->n, t->rot);
        k_rot = build_rope(b, k_rot, 1, t->rot);
    }
    q_rot = prog_reshape(b->p, q_rot, t->n);
    y = t->nope && build_has(b, "blk.%u.attn_k_b.weight") ? absorbed(b, t, q, q_rot, kv, k_rot)
                                               : expanded(b, t, q, q_rot, kv, k_rot);
    if (t->gate)
        y = prog_mul(b->p, prog_reshape(b->p, y, t->n), prog_reshape(b->p, t->gate, t->n));
    return build_linear(b, prog_reshape(b->p, y, 1), "blk.%u.attn_output", b->n_embd);
}
