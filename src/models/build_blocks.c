/* build_blocks.c: the blocks that architectures share: attention, feed-forward, experts. */
#include <math.h>
#include <stdio.h>

#include "models/build.h"

/* Weights of chosen experts are divided by their sum, which f16 engines keep from
 * underflowing with the smallest normal half: part of the definition by now. */
#define ROUTE_NORM_FLOOR 6.103515625e-5f

struct heads build_heads(struct build *b)
{
    const uint32_t n = build_u32(b, "attention.head_count", 0);
    const uint32_t n_kv = build_u32(b, "attention.head_count_kv", n);
    const uint32_t dim = n ? b->n_embd / n : 0;
    const struct heads h = {
        n, n_kv, build_u32(b, "attention.key_length", dim),
        build_u32(b, "attention.value_length", dim),
    };

    if (n == 0 || n_kv == 0 || n % n_kv != 0 || h.k_dim == 0 || h.v_dim == 0 || n > 65536 ||
        (uint64_t)n * h.k_dim > PROG_MAX_WIDTH || (uint64_t)n * h.v_dim > PROG_MAX_WIDTH) {
        prog_fail(b->p, WATT_EFORMAT, "%s: %u query heads, %u key heads of %u and %u columns: "
                  "heads must divide and their columns sum up to 1..%u", gguf_path(b->g), n, n_kv,
                  h.k_dim, h.v_dim, PROG_MAX_WIDTH);
        return (struct heads){ 0 };
    }
    return h;
}

static val clamp(struct build *b, val x, float limit)
{
    return limit > 0 ? prog_unary(b->p, x, (struct act_args){ .act = ACT_CLAMP, .param = limit })
                     : x;
}

/* Columns of a fused product, with a bias of their own where the product has none. */
static val fused_part(struct build *b, val all, uint32_t col, uint32_t n, const char *name,
                      float limit)
{
    const bool whole = !b->biases || build_has(b, "blk.%u.attn_qkv.bias");
    const wid bias = whole ? 0 : build_opt(b, name, SHAPE(n));
    const val x = prog_cols(b->p, all, col, n);

    return clamp(b, bias ? prog_add_w(b->p, x, bias) : x, limit);
}

struct qkv build_qkv(struct build *b, val x, const struct heads *h)
{
    const uint32_t n_q = h->n * h->k_dim, n_k = h->n_kv * h->k_dim, n_v = h->n_kv * h->v_dim;
    const float limit = build_f32(b, "attention.clamp_kqv", 0);
    struct qkv t;

    if (prog_failed(b->p))
        return (struct qkv){ 0 };
    if (build_has(b, "blk.%u.attn_qkv.weight")) {
        const val all = build_linear(b, x, "blk.%u.attn_qkv", n_q + n_k + n_v);

        t.q = fused_part(b, all, 0, n_q, "blk.%u.attn_q.bias", limit);
        t.k = fused_part(b, all, n_q, n_k, "blk.%u.attn_k.bias", limit);
        t.v = fused_part(b, all, n_q + n_k, n_v, "blk.%u.attn_v.bias", limit);
        return t;
    }
    t.q = clamp(b, build_linear(b, x, "blk.%u.attn_q", n_q), limit);
    t.k = clamp(b, build_linear(b, x, "blk.%u.attn_k", n_k), limit);
    t.v = clamp(b, build_linear(b, x, "blk.%u.attn_v", n_v), limit);
    return t;
}

struct attn_args build_attn_args(struct build *b, const struct heads *h)
{
    return (struct attn_args){
        .n_heads = h->n, .n_kv_heads = h->n_kv, .k_dim = h->k_dim, .v_dim = h->v_dim,
        .scale = build_f32(b, "attention.scale", (float)(1 / sqrt(h->k_dim))),
        .mask = b->causal ? MASK_CAUSAL : MASK_NONE,
        .alibi_max_bias = b->alibi,
        .write = true,
    };
}

void build_two_sided(struct build *b, struct attn_args *a, uint32_t window, uint32_t n,
                     uint32_t dense)
{
    if (window != 0 && build_is_local(b, n, dense == 0)) {
        a->mask = MASK_SYMMETRIC;
        a->window = window;
    }
}

val build_attend(struct build *b, const struct attn_args *a, struct qkv t)
{
    sid state;

    if (prog_failed(b->p))
        return 0;
    state = prog_state_kv(b->p, a->n_kv_heads, a->k_dim, a->v_dim, a->window);
    return build_linear(b, prog_attention(b->p, t.q, t.k, t.v,
                                          build_opt(b, "blk.%u.attn_sinks.weight",
                                                    SHAPE(a->n_heads)), state, a),
                        "blk.%u.attn_output", b->n_embd);
}

void build_qk_norms(struct build *b, struct qkv *t, const struct heads *h, bool whole_rows)
{
    const uint32_t group = whole_rows ? 0 : h->k_dim;

    if (build_has(b, "blk.%u.attn_q_norm.weight"))
        t->q = build_norm_heads(b, t->q, "blk.%u.attn_q_norm", group);
    if (build_has(b, "blk.%u.attn_k_norm.weight"))
        t->k = build_norm_heads(b, t->k, "blk.%u.attn_k_norm", group);
}

val build_attention_with(struct build *b, val x, const struct heads *h,
                         const struct attn_args *a, bool use_rope)
{
    struct qkv t = build_qkv(b, x, h);

    build_qk_norms(b, &t, h, false);
    if (use_rope) {
        t.q = build_rope(b, t.q, h->n, h->k_dim);
        t.k = build_rope(b, t.k, h->n_kv, h->k_dim);
    }
    return build_attend(b, a, t);
}

val build_attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    const struct attn_args a = build_attn_args(b, &h);

    return build_attention_with(b, x, &h, &a, true);
}

/* ---- feed-forward ---- */

/* gate and up next to each other in one value */
static val gated_halves(struct build *b, val both, struct act_args act)
{
    const uint32_t half = prog_width(b->p, both) / 2;

    return prog_gated(b->p, prog_cols(b->p, both, 0, half), prog_cols(b->p, both, half, half),
                      act);
}

/* act(gate) * up, both clamped first when there is a limit (far below the least value of act,
 * so that only the upper end of act(gate) is cut). */
static val gated_pair(struct build *b, val gate, val up, struct act_args act, float limit)
{
    if (limit <= 0)
        return prog_gated(b->p, gate, up, act);
    return prog_mul(b->p, clamp(b, prog_unary(b->p, gate, act), limit), clamp(b, up, limit));
}

struct act_args build_act(struct build *b, enum act act)
{
    if (act == ACT_GELU && build_set(b, "hidden_act"))
        return build_str_is(b, "hidden_act", "gelu") ? (struct act_args){ .act = ACT_GELU_ERF }
                                                     : (struct act_args){ act, .param = 1 };
    return (struct act_args){ .act = act };
}

static val ffn(struct build *b, val x, enum act act, const char *suffix, float limit)
{
    const uint32_t n_embd = prog_width(b->p, x);
    char gate[64], up[64], down[64], weight[72];
    uint32_t n_ff, n_up;
    val h;

    if (prog_failed(b->p))
        return 0;
    (void)snprintf(gate, sizeof gate, "blk.%%u.ffn_gate%s", suffix);
    (void)snprintf(up, sizeof up, "blk.%%u.ffn_up%s", suffix);
    (void)snprintf(down, sizeof down, "blk.%%u.ffn_down%s", suffix);
    (void)snprintf(weight, sizeof weight, "%s.weight", down);
    n_ff = suffix[0] ? 0 : b->n_ff ? b->n_ff : build_u32(b, "feed_forward_length", 0);
    if (n_ff == 0)
        n_ff = build_extent(b, weight, 1);
    (void)snprintf(weight, sizeof weight, "%s.weight", gate);
    if (build_has(b, weight)) {
        const val g = build_linear(b, x, gate, n_ff), u = build_linear(b, x, up, n_ff);

        h = gated_pair(b, g, u, build_act(b, act), limit);
    } else {
        (void)snprintf(weight, sizeof weight, "%s.weight", up);
        n_up = build_extent(b, weight, 0);
        h = build_linear(b, x, up, n_up == 2 * (uint64_t)n_ff ? n_up : n_ff);
        h = n_up == 2 * (uint64_t)n_ff ? gated_halves(b, h, build_act(b, act))
                                       : prog_unary(b->p, h, build_act(b, act));
    }
    return build_linear(b, h, down, n_embd);
}

val build_ffn(struct build *b, val x, enum act act, const char *suffix)
{
    return ffn(b, x, act, suffix, 0);
}

static val expert_linear(struct build *b, val x, val ids, const char *name, uint32_t n_experts,
                         uint32_t n_out)
{
    const int64_t n_in = prog_width(b->p, x);
    char full[64];
    wid w, bias, scale;

    (void)snprintf(full, sizeof full, "%s.weight", name);
    if (n_out == 0)
        n_out = build_extent(b, full, 1);
    if (prog_failed(b->p))
        return 0;
    w = build_need(b, full, SHAPE(n_experts, n_out, n_in));
    (void)snprintf(full, sizeof full, "%s.bias", name);
    bias = build_opt(b, full, SHAPE(n_experts, n_out));
    (void)snprintf(full, sizeof full, "%s.scale", name);
    scale = build_opt(b, full, SHAPE(-1));
    return build_adapted_experts(b, x, ids, n_experts, prog_expert_linear(b->p, x, ids, w, bias, scale),
                                 w);
}

static wid selection_bias(struct build *b, uint32_t n_experts)
{
    const wid w = build_opt(b, "blk.%u.exp_probs_b.bias", SHAPE(n_experts));

    return w ? w : build_opt(b, "blk.%u.exp_probs_b", SHAPE(n_experts));
}

struct moe build_moe_keys(struct build *b, enum route_score unset, enum act act)
{
    static const enum route_score scores[] = { ROUTE_SOFTMAX, ROUTE_SOFTMAX, ROUTE_SIGMOID,
                                               ROUTE_SOFTMAX_SELECTED };
    const uint32_t key = build_u32(b, "expert_gating_func", 0);

    if (key > 3)
        prog_fail(b->p, WATT_ENOTSUP, "%s: key %s.expert_gating_func is %u, expected 1 (softmax), 2 "
                  "(sigmoid) or 3 (softmax of the chosen)", gguf_path(b->g), b->arch, key);
    return (struct moe){
        .score = key == 0 || key > 3 ? unset : scores[key],
        .act = build_act(b, act),
        .normalise = build_bool(b, "expert_weights_norm", false),
        .scale = build_f32(b, "expert_weights_scale", 1),
    };
}

/* The experts' own feed-forward, a row per slot. */
static val expert_ffn(struct build *b, val x, val ids, uint32_t n, const struct moe *m)
{
    const char *suffix = m->suffix ? m->suffix : "_exps";
    const uint32_t n_embd = prog_width(b->p, x);
    char gate_up[64], gate[64], up[64], down[64], weight[72];
    val h;

    (void)snprintf(gate_up, sizeof gate_up, "blk.%%u.ffn_gate_up%s", suffix);
    (void)snprintf(gate, sizeof gate, "blk.%%u.ffn_gate%s", suffix);
    (void)snprintf(up, sizeof up, "blk.%%u.ffn_up%s", suffix);
    (void)snprintf(down, sizeof down, "blk.%%u.ffn_down%s", suffix);
    (void)snprintf(weight, sizeof weight, "%s.weight", gate_up);
    if (build_has(b, weight)) {
        h = gated_halves(b, expert_linear(b, x, ids, gate_up, n, 0), m->act);
        return expert_linear(b, h, ids, down, n, n_embd);
    }
    (void)snprintf(weight, sizeof weight, "%s.weight", gate);
    if (build_has(b, weight)) {
        const val g = expert_linear(b, x, ids, gate, n, 0);

        h = gated_pair(b, g, expert_linear(b, x, ids, up, n, prog_width(b->p, g)), m->act,
                       m->clamp);
    } else {
        h = prog_unary(b->p, expert_linear(b, x, ids, up, n, 0), m->act);
    }
    return expert_linear(b, h, ids, down, n, n_embd);
}

val build_moe(struct build *b, val x, const struct moe *m)
{
    const struct route_args route = {
        .score = m->score, .n_experts = build_need_u32(b, "expert_count"),
        .n_used = m->n_used ? m->n_used : build_need_u32(b, "expert_used_count"),
        .n_groups = build_u32(b, "expert_group_count", 0),
        .n_groups_used = build_u32(b, "expert_group_used_count", 0),
        .normalise = m->normalise, .norm_floor = ROUTE_NORM_FLOOR, .scale = m->scale,
        .n_sharing = m->n_sharing,
    };
    const uint32_t n = route.n_experts, n_own = m->n_sharing ? n / m->n_sharing : n;
    const val logits = m->logits ? m->logits : build_linear(b, x, "blk.%u.ffn_gate_inp", n);
    val ids, weights, h;

    prog_route(b->p, logits, selection_bias(b, n), &route, &ids, &weights);
    if (m->weigh_input) {
        h = expert_ffn(b, prog_expert_spread(b->p, x, weights), ids, n_own, m);
        weights = prog_affine(b->p, weights, 0, 1);
    } else {
        h = expert_ffn(b, x, ids, n_own, m);
    }
    return prog_expert_sum(b->p, h, weights);
}

val build_moe_shared(struct build *b, val x, const struct moe *m)
{
    const val sum = build_moe(b, x, m);
    val shared;

    if (!build_has(b, "blk.%u.ffn_up_shexp.weight"))
        return sum;
    shared = ffn(b, x, m->act.act, "_shexp", m->clamp_shared);
    if (build_has(b, "blk.%u.ffn_gate_inp_shexp.weight"))
        shared = prog_mul(b->p, shared,
                          prog_unary(b->p, build_linear(b, x, "blk.%u.ffn_gate_inp_shexp", 1),
                                     (struct act_args){ .act = ACT_SIGMOID }));
    return prog_add(b->p, sum, shared);
}

val build_ffn_or_moe(struct build *b, val x, const struct moe *m)
{
    return build_has(b, "blk.%u.ffn_gate_inp.weight") ? build_moe_shared(b, x, m)
                                                       : ffn(b, x, m->act.act, "", m->clamp_shared);
}
