/* deepseek2.c: DeepSeek-V2 and V3 (arXiv 2405.04434, 2412.19437): latent attention: all heads read
 * one compressed key of kv_lora_rank columns plus one rotated key, and the up-projections of keys
 * and values are absorbed into query and output (attn_k_b, attn_v_b), or, in older files, applied
 * to every position (attn_kv_b). Experts beside a shared one. */
#include <math.h>

#include "models/arch.h"

arch_fn arch_deepseek2;

struct latent {
    uint32_t n, rank, nope, rot, v;
    float scale;
};

/* YaRN's magnitude belongs to the scores here, its log multiplier is stored as a tenth. */
static float read_scale(struct build *b, uint32_t k_dim)
{
    const double stretch = log(1 / (double)b->rope.freq_scale);
    const double m = 10 * build_f32(b, "rope.scaling.yarn_log_multiplier", 0);
    double magnitude;

    if (b->rope.ext_factor != 0 && m != 0)
        b->rope.attn_factor = build_f32(b, "rope.scaling.attn_factor", 1) /
                              (float)(1 + 0.1 * m * stretch);
    magnitude = b->rope.attn_factor * (1 + 0.1 * stretch) * (1 + 0.1 * m * stretch);
    return (float)(magnitude * magnitude / sqrt(k_dim));
}

static struct latent read_sizes(struct build *b)
{
    const uint32_t k = build_u32(b, "attention.key_length_mla",
                                 build_u32(b, "attention.key_length", 0));
    struct latent t = { .n = build_need_u32(b, "attention.head_count"),
                        .rank = build_need_u32(b, "attention.kv_lora_rank"),
                        .rot = build_need_u32(b, "rope.dimension_count"),
                        .v = build_u32(b, "attention.value_length_mla",
                                       build_u32(b, "attention.value_length", 0)) };

    if (prog_failed(b->p))
        return t;
    if (k <= t.rot || t.v == 0 || k > 65536 || t.v > 65536 || t.rank > 65536 || t.n > 4096 ||
        t.n > b->n_embd)
        prog_fail(b->p, WATT_EFORMAT, "%s: latent attention of %u heads with %u (%u rotated) and "
                  "%u columns over %u", gguf_path(b->g), t.n, k, t.rot, t.v, t.rank);
    t.nope = k - t.rot;
    t.scale = read_scale(b, k);
    return t;
}

/* Ids 0 .. n-1 for every token, so that a matrix per head is a matrix per expert. */
static val head_ids(struct build *b, val x, uint32_t n)
{
    const struct route_args a = { .score = ROUTE_NONE, .n_experts = n, .n_used = n };
    val ids, weights;

    prog_route(b->p, prog_affine(b->p, prog_cols(b->p, x, 0, n), 0, 0), 0, &a, &ids, &weights);
    return ids;
}

static val queries(struct build *b, val x, const struct latent *t)
{
    const uint32_t width = t->n * (t->nope + t->rot);

    if (!build_has(b, "blk.%u.attn_q_a.weight"))
        return build_linear(b, x, "blk.%u.attn_q", width);
    x = build_linear(b, x, "blk.%u.attn_q_a", build_need_u32(b, "attention.q_lora_rank"));
    return build_linear(b, build_norm(b, x, "blk.%u.attn_q_a_norm"), "blk.%u.attn_q_b", width);
}

static val pair(struct build *b, val x, val y)
{
    return prog_concat(b->p, (const val[]){ x, y }, 2);
}

/* One key head for all: the queries carry attn_k_b, the outputs attn_v_b. */
static val absorbed(struct build *b, const struct latent *t, val ids, val q, val q_rot, val kv,
                    val k_rot)
{
    const struct attn_args a = { .n_heads = t->n, .n_kv_heads = 1, .k_dim = t->rank + t->rot,
                                 .v_dim = t->rank, .scale = t->scale, .mask = MASK_CAUSAL,
                                 .write = true };
    const wid k_b = build_need(b, "blk.%u.attn_k_b.weight", SHAPE(t->n, t->rank, t->nope));
    const wid v_b = build_need(b, "blk.%u.attn_v_b.weight", SHAPE(t->n, t->v, t->rank));
    val y;

    q = prog_expert_linear(b->p, q, ids, k_b, 0, 0);
    q = prog_reshape(b->p, pair(b, q, q_rot), 1);
    y = prog_attention(b->p, q, pair(b, kv, k_rot), kv, 0,
                       prog_state_kv(b->p, 1, a.k_dim, a.v_dim, 0), &a);
    return prog_expert_linear(b->p, prog_reshape(b->p, y, t->n), ids, v_b, 0, 0);
}

/* Keys and values of every head. */
static val expanded(struct build *b, const struct latent *t, val q, val q_rot, val kv, val k_rot)
{
    const struct attn_args a = { .n_heads = t->n, .n_kv_heads = t->n, .k_dim = t->nope + t->rot,
                                 .v_dim = t->v, .scale = t->scale, .mask = MASK_CAUSAL,
                                 .write = true };
    const val all = prog_reshape(b->p, build_linear(b, kv, "blk.%u.attn_kv_b",
                                                    t->n * (t->nope + t->v)), t->n);
    const val ones = prog_affine(b->p, prog_cols(b->p, kv, 0, t->n), 0, 1);
    const val k = pair(b, prog_cols(b->p, all, 0, t->nope),
                       prog_expert_spread(b->p, k_rot, ones));

    return prog_attention(b->p, prog_reshape(b->p, pair(b, q, q_rot), 1),
                          prog_reshape(b->p, k, 1),
                          prog_reshape(b->p, prog_cols(b->p, all, t->nope, t->v), 1), 0,
                          prog_state_kv(b->p, t->n, a.k_dim, a.v_dim, 0), &a);
}

static val attention(struct build *b, val x, const struct latent *t, val ids)
{
    val q, q_rot, kv, k_rot, y;

    if (prog_failed(b->p))
        return 0;
    q = prog_reshape(b->p, queries(b, x, t), t->n);
    q_rot = prog_reshape(b->p, prog_cols(b->p, q, t->nope, t->rot), 1);
    q_rot = prog_reshape(b->p, build_rope(b, q_rot, t->n, t->rot), t->n);
    q = prog_cols(b->p, q, 0, t->nope);
    kv = build_linear(b, x, "blk.%u.attn_kv_a_mqa", t->rank + t->rot);
    k_rot = build_rope(b, prog_cols(b->p, kv, t->rank, t->rot), 1, t->rot);
    kv = build_norm(b, prog_cols(b->p, kv, 0, t->rank), "blk.%u.attn_kv_a_norm");
    y = build_has(b, "blk.%u.attn_k_b.weight") ? absorbed(b, t, ids, q, q_rot, kv, k_rot)
                                               : expanded(b, t, q, q_rot, kv, k_rot);
    return build_linear(b, prog_reshape(b->p, y, 1), "blk.%u.attn_output", b->n_embd);
}

void arch_deepseek2(struct build *b)
{
    const struct latent t = read_sizes(b);
    const struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val x = build_embed(b), ids;

    if (prog_failed(b->p))
        return;
    ids = head_ids(b, x, t.n);
    while (build_layer(b)) {
        x = prog_add(b->p, x, attention(b, build_norm(b, x, "blk.%u.attn_norm"), &t, ids));
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}
