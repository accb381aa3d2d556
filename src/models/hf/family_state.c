/* family_state.c: state spaces, short convolutions, the delta rule, and hybrids of these with
 * attention: Mamba, Mamba-2, Jamba, Nemotron-H, LFM2, Falcon-H1, Qwen3-Next. */
#include <stdio.h>
#include <string.h>

#include "models/hf/internal.h"

/* ---- sizes of a state space ---- */

struct ssm { uint32_t inner, state, rank, taps, groups; };

static int put_ssm(struct hf *h, const struct ssm *s, struct err *e)
{
    if (s->inner == 0 || s->state == 0 || s->rank == 0 || s->taps < 2 || s->groups == 0 ||
        s->inner > (1u << 24) || s->inner % s->groups != 0)
        return json_refuse(&h->text, e, WATT_EFORMAT, "a state space of %u columns, %u states, "
                           "rank or heads %u, %u taps, %u groups", s->inner, s->state, s->rank,
                           s->taps, s->groups);
    h->n_groups = s->groups;
    hf_put_u32(h, "ssm.conv_kernel", s->taps);
    hf_put_u32(h, "ssm.inner_size", s->inner);
    hf_put_u32(h, "ssm.state_size", s->state);
    hf_put_u32(h, "ssm.time_step_rank", s->rank);
    hf_put_u32(h, "ssm.group_count", s->groups);
    return 0;
}

/* Engines without attention's sizes want these keys all the same. */
static void put_no_attention(struct hf *h)
{
    hf_put_u32(h, "context_length", 1u << 20);
    hf_put_u32(h, "feed_forward_length", 0);
    hf_put_u32(h, "attention.head_count", 0);
}

/* head_count_kv per layer: 0 where there is no attention. */
static int put_kv_heads(struct hf *h, bool (*has_attention)(const struct hf *h, uint32_t layer),
                        struct err *e)
{
    uint32_t *heads = mem_calloc(h->n_layers, sizeof *heads);

    if (!heads)
        return err_set(e, WATT_ENOMEM, "%s: out of memory", h->dir);
    for (uint32_t i = 0; i < h->n_layers; i++)
        heads[i] = has_attention(h, i) ? h->n_kv_heads : 0;
    hf_put_array(h, "attention.head_count_kv", GGUF_U32, heads, h->n_layers);
    mem_free(heads);
    return 0;
}

/* ---- Mamba ---- */

static const struct hf_name mamba_names[] = {
    { "embeddings", "token_embd", 0 },
    { "norm_f", "output_norm", 0 },
    { "layers.#.norm", "blk.#.attn_norm", 0 },
    { "layers.#.mixer.in_proj", "blk.#.ssm_in", 0 },
    { "layers.#.mixer.conv1d.weight", "blk.#.ssm_conv1d.weight", HF_SQUEEZE },
    { "layers.#.mixer.conv1d.bias", "blk.#.ssm_conv1d.bias", 0 },
    { "layers.#.mixer.x_proj", "blk.#.ssm_x", 0 },
    { "layers.#.mixer.dt_proj", "blk.#.ssm_dt", 0 },
    { "layers.#.mixer.A_log", "blk.#.ssm_a", HF_NEG_EXP },
    { "layers.#.mixer.D", "blk.#.ssm_d", 0 },
    { "layers.#.mixer.out_proj", "blk.#.ssm_out", 0 },
    { 0 }
};

static int mamba_more(struct hf *h, struct err *e)
{
    struct ssm s = { .groups = 1 };
    uint32_t expand;
    int rc = hf_u32(h, "expand", 2, &expand, e);

    if (rc == 0)
        rc = hf_u32(h, "intermediate_size|d_inner", expand * h->n_embd, &s.inner, e);
    if (rc == 0)
        rc = hf_u32(h, "state_size|d_state", 16, &s.state, e);
    if (rc == 0)
        rc = hf_u32(h, "time_step_rank|dt_rank", (h->n_embd + 15) / 16, &s.rank, e);
    if (rc == 0)
        rc = hf_u32(h, "conv_kernel|d_conv", 4, &s.taps, e);
    if (rc < 0)
        return rc;
    put_no_attention(h);
    if (strcmp(h->class_name, "FalconMambaForCausalLM") == 0)
        hf_put_bool(h, "ssm.dt_b_c_rms", true);
    return put_ssm(h, &s, e);
}
static const struct hf_expect mamba_expect[] = {
    { "use_bias", "false|" }, { "time_step_scale", "1|" }, { 0 }
};
const struct hf_family hf_family_mamba = {
    .arch = "mamba", .names = mamba_names, .acts = "silu|", .expect = mamba_expect,
    .flags = HF_NO_ROPE, .more = mamba_more,
};

/* ---- Mamba-2 ---- */

static const struct hf_name mamba2_names[] = {
    { "embeddings", "token_embd", 0 },
    { "norm_f", "output_norm", 0 },
    { "layers.#.norm", "blk.#.attn_norm", 0 },
    { "layers.#.mixer.in_proj", "blk.#.ssm_in", 0 },
    { "layers.#.mixer.conv1d.weight", "blk.#.ssm_conv1d.weight", HF_SQUEEZE },
    { "layers.#.mixer.conv1d.bias", "blk.#.ssm_conv1d.bias", 0 },
    { "layers.#.mixer.dt_bias", "blk.#.ssm_dt.bias", 0 },
    { "layers.#.mixer.A_log", "blk.#.ssm_a", HF_NEG_EXP | HF_COLUMN },
    { "layers.#.mixer.D", "blk.#.ssm_d", HF_COLUMN },
    { "layers.#.mixer.norm.weight", "blk.#.ssm_norm.weight", HF_GROUPS },
    { "layers.#.mixer.out_proj", "blk.#.ssm_out", 0 },
    { 0 }
};

static int mamba2_more(struct hf *h, struct err *e)
{
    struct ssm s = { 0 };
    uint32_t expand, head_dim;
    int rc = hf_u32(h, "expand", 2, &expand, e);

    if (rc == 0)
        rc = hf_u32(h, "head_dim", 64, &head_dim, e);
    if (rc == 0)
        rc = hf_u32(h, "num_heads", head_dim ? expand * h->n_embd / head_dim : 0, &s.rank, e);
    if (rc == 0)
        rc = hf_u32(h, "state_size", 128, &s.state, e);
    if (rc == 0)
        rc = hf_u32(h, "conv_kernel", 4, &s.taps, e);
    if (rc == 0)
        rc = hf_u32(h, "n_groups", 1, &s.groups, e);
    if (rc < 0)
        return rc;
    s.inner = expand <= 64 ? expand * h->n_embd : 0;
    if ((uint64_t)s.rank * head_dim != s.inner)
        return json_refuse(&h->text, e, WATT_EFORMAT, "num_heads %u times head_dim %u is not "
                           "expand %u times hidden_size %u", s.rank, head_dim, expand, h->n_embd);
    put_no_attention(h);
    return put_ssm(h, &s, e);
}
/* A limited time step would clip what the scan takes. */
static const struct hf_expect mamba2_expect[] = {
    { "use_bias", "false|" }, { 0 }
};
const struct hf_family hf_family_mamba2 = {
    .arch = "mamba2", .names = mamba2_names, .acts = "silu|", .expect = mamba2_expect,
    .flags = HF_NO_ROPE | HF_NO_HEAD_DIM, .more = mamba2_more,
};

/* ---- Jamba ---- */

static const struct hf_name jamba_names[] = {
    { "final_layernorm", "output_norm", 0 },
    { "layers.#.pre_ff_layernorm", "blk.#.ffn_norm", 0 },
    { "layers.#.mamba.in_proj", "blk.#.ssm_in", 0 },
    { "layers.#.mamba.conv1d.weight", "blk.#.ssm_conv1d.weight", HF_SQUEEZE },
    { "layers.#.mamba.conv1d.bias", "blk.#.ssm_conv1d.bias", 0 },
    { "layers.#.mamba.x_proj", "blk.#.ssm_x", 0 },
    { "layers.#.mamba.dt_proj", "blk.#.ssm_dt", 0 },
    { "layers.#.mamba.dt_layernorm", "blk.#.ssm_dt_norm", 0 },
    { "layers.#.mamba.b_layernorm", "blk.#.ssm_b_norm", 0 },
    { "layers.#.mamba.c_layernorm", "blk.#.ssm_c_norm", 0 },
    { "layers.#.mamba.A_log", "blk.#.ssm_a", HF_NEG_EXP },
    { "layers.#.mamba.D", "blk.#.ssm_d", 0 },
    { "layers.#.mamba.out_proj", "blk.#.ssm_out", 0 },
    { "layers.#.feed_forward.gate_proj", "blk.#.ffn_gate", 0 },
    { "layers.#.feed_forward.up_proj", "blk.#.ffn_up", 0 },
    { "layers.#.feed_forward.down_proj", "blk.#.ffn_down", 0 },
    { "layers.#.feed_forward.router", "blk.#.ffn_gate_inp", 0 },
    { "layers.#.feed_forward.experts.*.gate_proj", "blk.#.ffn_gate_exps", 0 },
    { "layers.#.feed_forward.experts.*.up_proj", "blk.#.ffn_up_exps", 0 },
    { "layers.#.feed_forward.experts.*.down_proj", "blk.#.ffn_down_exps", 0 },
    { 0 }
};

static bool jamba_attends(const struct hf *h, uint32_t layer)
{
    uint32_t period = 8, offset = 4;

    if (hf_u32(h, "attn_layer_period", 8, &period, NULL) < 0 ||
        hf_u32(h, "attn_layer_offset", 4, &offset, NULL) < 0 || period == 0)
        return false;
    return layer % period == offset;
}

static int jamba_more(struct hf *h, struct err *e)
{
    struct ssm s = { .groups = 1 };
    struct json_place rank;
    uint32_t expand;
    int rc = hf_u32(h, "mamba_expand", 2, &expand, e);

    if (rc == 0)
        rc = hf_u32(h, "mamba_d_state", 16, &s.state, e);
    if (rc == 0)
        rc = hf_u32(h, "mamba_d_conv", 4, &s.taps, e);
    if (rc == 0)
        rc = hf_field(h, "mamba_dt_rank", &rank, e);
    s.rank = (h->n_embd + 15) / 16;
    if (rc == 0 && json_is_number(rank.value))      /* or "auto" */
        rc = hf_u32(h, "mamba_dt_rank", 0, &s.rank, e);
    if (rc < 0)
        return rc;
    s.inner = expand <= 64 ? expand * h->n_embd : 0;
    rc = put_ssm(h, &s, e);
    return rc == 0 ? put_kv_heads(h, jamba_attends, e) : rc;
}
static const struct hf_expect jamba_expect[] = {
    { "mamba_proj_bias", "false|" }, { 0 }
};
const struct hf_family hf_family_jamba = {
    .arch = "jamba", .names = jamba_names, .acts = "silu|", .expect = jamba_expect,
    .flags = HF_NO_ROPE, .more = jamba_more,
};

/* ---- Nemotron-H ---- */

static const struct hf_name nemotron_h_names[] = {
    { "embeddings", "token_embd", 0 },
    { "norm_f", "output_norm", 0 },
    { "layers.#.norm", "blk.#.attn_norm", 0 },
    { "layers.#.mixer.in_proj", "blk.#.ssm_in", 0 },
    { "layers.#.mixer.conv1d.weight", "blk.#.ssm_conv1d.weight", HF_SQUEEZE },
    { "layers.#.mixer.conv1d.bias", "blk.#.ssm_conv1d.bias", 0 },
    { "layers.#.mixer.dt_bias", "blk.#.ssm_dt.bias", 0 },
    { "layers.#.mixer.A_log", "blk.#.ssm_a", HF_NEG_EXP | HF_COLUMN },
    { "layers.#.mixer.D", "blk.#.ssm_d", HF_COLUMN },
    { "layers.#.mixer.norm.weight", "blk.#.ssm_norm.weight", HF_GROUPS },
    { "layers.#.mixer.out_proj", "blk.#.ssm_out", 0 },
    { "layers.#.mixer.q_proj", "blk.#.attn_q", 0 },
    { "layers.#.mixer.k_proj", "blk.#.attn_k", 0 },
    { "layers.#.mixer.v_proj", "blk.#.attn_v", 0 },
    { "layers.#.mixer.o_proj", "blk.#.attn_output", 0 },
    { "layers.#.mixer.up_proj", "blk.#.ffn_up", 0 },
    { "layers.#.mixer.down_proj", "blk.#.ffn_down", 0 },
    { 0 }
};

/* 'M', '*' or '-' of a layer, from the pattern or the list. */
static char nemotron_kind(const struct hf *h, uint32_t layer)
{
    static const char list[] = "layers_block_type|layer_types";
    struct json_place at;
    const char *pattern;

    if (hf_field(h, "hybrid_override_pattern", &at, NULL) == 0 && json_is_string(at.value)) {
        pattern = json_string_value(at.value);
        return layer < strlen(pattern) ? pattern[layer] : '?';
    }
    if (hf_layer_is(h, list, layer, "mamba") || hf_layer_is(h, list, layer, "linear_attention"))
        return 'M';
    if (hf_layer_is(h, list, layer, "attention") || hf_layer_is(h, list, layer, "full_attention"))
        return '*';
    return hf_layer_is(h, list, layer, "mlp") ? '-' : '?';
}

static bool nemotron_attends(const struct hf *h, uint32_t layer)
{
    return nemotron_kind(h, layer) == '*';
}

static int put_nemotron_layers(struct hf *h, struct err *e)
{
    uint32_t *widths = mem_calloc(h->n_layers, sizeof *widths);
    uint32_t width = 0;
    int rc = widths ? hf_u32(h, "intermediate_size", 0, &width, e)
                    : err_set(e, WATT_ENOMEM, "%s: out of memory", h->dir);

    for (uint32_t i = 0; rc == 0 && i < h->n_layers; i++) {
        const char kind = nemotron_kind(h, i);

        if (kind != 'M' && kind != '*' && kind != '-')
            rc = json_refuse(&h->text, e, WATT_ENOTSUP, "layer %u is of kind '%c', known are mamba, "
                             "attention and mlp", i, kind);
        widths[i] = kind == '-' ? width : 0;
    }
    if (rc == 0)
        hf_put_array(h, "feed_forward_length", GGUF_U32, widths, h->n_layers);
    mem_free(widths);
    return rc == 0 ? put_kv_heads(h, nemotron_attends, e) : rc;
}

static int nemotron_h_more(struct hf *h, struct err *e)
{
    struct ssm s = { 0 };
    uint32_t dim;
    int rc = hf_u32(h, "mamba_num_heads", 0, &s.rank, e);

    if (rc == 0)
        rc = hf_u32(h, "mamba_head_dim", 64, &dim, e);
    if (rc == 0)
        rc = hf_u32(h, "ssm_state_size", 128, &s.state, e);
    if (rc == 0)
        rc = hf_u32(h, "conv_kernel", 4, &s.taps, e);
    if (rc == 0)
        rc = hf_u32(h, "n_groups", 8, &s.groups, e);
    if (rc < 0)
        return rc;
    h->n_experts = 0;       /* a layer of experts is refused */
    s.inner = s.rank <= 65536 && dim <= 4096 ? s.rank * dim : 0;
    rc = put_ssm(h, &s, e);
    return rc == 0 ? put_nemotron_layers(h, e) : rc;
}
/* Routing's fields stand in every file, used or not. */
static const struct hf_key nemotron_h_keys[] = {
    { "expert_count", 'u', NULL, 0 }, { "expert_used_count", 'u', NULL, 0 },
    { "expert_feed_forward_length", 'u', NULL, 0 }, { "expert_shared_count", 'u', NULL, 0 },
    { "expert_group_count", 'u', NULL, 0 }, { "expert_group_used_count", 'u', NULL, 0 },
    { "rope.dimension_count", 'u', "head_dim|attention_head_dim", 0 },
    /* of its RMS norms; other engines ask for both keys */
    { "attention.layer_norm_epsilon", 'f', "layer_norm_epsilon|rms_norm_eps|norm_eps", 0 },
    { 0 }
};
static const struct hf_expect nemotron_h_expect[] = {
    { "use_bias", "false|" }, { "mamba_hidden_act", "silu|" }, { 0 }
};
const struct hf_family hf_family_nemotron_h = {
    .arch = "nemotron_h", .names = nemotron_h_names, .keys = nemotron_h_keys, .acts = "relu2|",
    .expect = nemotron_h_expect, .flags = HF_NO_ROPE, .more = nemotron_h_more,
};

/* ---- LFM2 ---- */

static const struct hf_name lfm2_names[] = {
    { "embedding_norm", "token_embd_norm", 0 },
    { "layers.#.operator_norm", "blk.#.attn_norm", 0 },
    { "layers.#.ffn_norm", "blk.#.ffn_norm", 0 },
    { "layers.#.conv.conv.weight", "blk.#.shortconv.conv.weight", HF_SQUEEZE },
    { "layers.#.conv.in_proj", "blk.#.shortconv.in_proj", 0 },
    { "layers.#.conv.out_proj", "blk.#.shortconv.out_proj", 0 },
    { "layers.#.self_attn.q_layernorm", "blk.#.attn_q_norm", 0 },
    { "layers.#.self_attn.k_layernorm", "blk.#.attn_k_norm", 0 },
    { "layers.#.self_attn.out_proj", "blk.#.attn_output", 0 },
    { "layers.#.feed_forward.w1", "blk.#.ffn_gate", 0 },
    { "layers.#.feed_forward.w2", "blk.#.ffn_down", 0 },
    { "layers.#.feed_forward.w3", "blk.#.ffn_up", 0 },
    { 0 }
};

static bool lfm2_attends(const struct hf *h, uint32_t layer)
{
    return hf_layer_is(h, "layer_types", layer, "full_attention");
}

/* The width of the feed-forward is two thirds of the field, rounded up to a multiple. */
static int lfm2_width(struct hf *h, struct err *e)
{
    bool adjust;
    float times;
    uint32_t width, multiple;
    int rc = hf_u32(h, "block_ff_dim|intermediate_size", 0, &width, e);

    if (rc == 0)
        rc = hf_bool(h, "block_auto_adjust_ff_dim", false, &adjust, e);
    if (rc == 0)
        rc = hf_f32(h, "block_ffn_dim_multiplier", 1, &times, e);
    if (rc == 0)
        rc = hf_u32(h, "block_multiple_of", 1, &multiple, e);
    if (rc < 0)
        return rc;
    if (width > (1u << 26) || multiple == 0 || multiple > (1u << 20) || !(times > 0 && times < 64))
        return json_refuse(&h->text, e, WATT_EFORMAT, "a feed-forward of %u times %g in multiples of "
                           "%u", width, (double)times, multiple);
    if (adjust) {
        width = (uint32_t)(times * (float)(2 * width / 3));
        width = (width + multiple - 1) / multiple * multiple;
    }
    hf_put_u32(h, "feed_forward_length", width);
    return 0;
}

static int lfm2_more(struct hf *h, struct err *e)
{
    uint32_t taps;
    int rc = hf_u32(h, "conv_L_cache", 3, &taps, e);

    if (rc < 0)
        return rc;
    h->tied = true;
    hf_put_u32(h, "shortconv.l_cache", taps);
    rc = lfm2_width(h, e);
    return rc == 0 ? put_kv_heads(h, lfm2_attends, e) : rc;
}
static const struct hf_expect lfm2_expect[] = { { "conv_bias", "false|" }, { 0 } };
const struct hf_family hf_family_lfm2 = {
    .arch = "lfm2", .names = lfm2_names, .expect = lfm2_expect, .more = lfm2_more,
};

/* ---- Falcon-H1 ---- */

static const struct hf_name falcon_h1_names[] = {
    { "embed_tokens", "token_embd", HF_SCALE(0) },
    { "lm_head", "output", HF_SCALE(1) },
    { "final_layernorm", "output_norm", 0 },
    { "layers.#.pre_ff_layernorm.weight", "blk.#.ffn_norm", 0 },     /* no suffix there */
    { "layers.#.self_attn.q_proj", "blk.#.attn_q", HF_SCALE(2) },
    { "layers.#.self_attn.k_proj", "blk.#.attn_k", HF_SCALE(3) },
    { "layers.#.self_attn.v_proj", "blk.#.attn_v", HF_SCALE(2) },
    { "layers.#.self_attn.o_proj", "blk.#.attn_output", HF_SCALE(4) },
    { "layers.#.feed_forward.gate_proj", "blk.#.ffn_gate", HF_SCALE(5) },
    { "layers.#.feed_forward.up_proj", "blk.#.ffn_up", 0 },
    { "layers.#.feed_forward.down_proj", "blk.#.ffn_down", HF_SCALE(6) },
    { "layers.#.mamba.in_proj", "blk.#.ssm_in", HF_SCALE_ROWS },
    { "layers.#.mamba.conv1d.weight", "blk.#.ssm_conv1d.weight", HF_SQUEEZE },
    { "layers.#.mamba.conv1d.bias", "blk.#.ssm_conv1d.bias", 0 },
    { "layers.#.mamba.dt_bias", "blk.#.ssm_dt.bias", 0 },
    { "layers.#.mamba.A_log", "blk.#.ssm_a", HF_NEG_EXP | HF_COLUMN },
    { "layers.#.mamba.D", "blk.#.ssm_d", HF_COLUMN },
    { "layers.#.mamba.norm.weight", "blk.#.ssm_norm.weight", HF_GROUPS },
    { "layers.#.mamba.out_proj", "blk.#.ssm_out", HF_SCALE(7) },
    { 0 }
};

static int read_list(struct hf *h, const char *field, float *out, size_t n, struct err *e)
{
    struct json_place list, item;
    size_t found;
    double v;
    int rc = hf_field(h, field, &list, e);

    for (size_t i = 0; i < n; i++)
        out[i] = 1;
    if (rc < 0 || !list.value)
        return rc;
    rc = json_read_array(&list, 64, &found, e);
    if (rc == 0 && found != n)
        rc = json_refuse(&list, e, WATT_EFORMAT, "%zu numbers, expected %zu", found, n);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        item = json_item(&list, i);
        rc = json_read_double(&item, -1e6, 1e6, &v, e);
        out[i] = (float)v;
    }
    return rc;
}

/* The multipliers of its parametrisation, which are multiplied into the weights. */
static int falcon_h1_scales(struct hf *h, struct err *e)
{
    float in, out, key, mlp[2], parts[5], ssm_in;
    int rc = hf_f32(h, "embedding_multiplier", 1, &h->scale[0], e);

    if (rc == 0)
        rc = hf_f32(h, "lm_head_multiplier", 1, &h->scale[1], e);
    if (rc == 0)
        rc = hf_f32(h, "attention_in_multiplier", 1, &in, e);
    if (rc == 0)
        rc = hf_f32(h, "key_multiplier", 1, &key, e);
    if (rc == 0)
        rc = hf_f32(h, "attention_out_multiplier", 1, &out, e);
    if (rc == 0)
        rc = read_list(h, "mlp_multipliers", mlp, 2, e);
    if (rc == 0)
        rc = hf_f32(h, "ssm_out_multiplier", 1, &h->scale[7], e);
    if (rc == 0)
        rc = hf_f32(h, "ssm_in_multiplier", 1, &ssm_in, e);
    if (rc == 0)
        rc = read_list(h, "ssm_multipliers", parts, 5, e);
    if (rc < 0)
        return rc;
    h->scale[2] = in;
    h->scale[3] = in * key;
    h->scale[4] = out;
    h->scale[5] = mlp[0];
    h->scale[6] = mlp[1];
    for (unsigned i = 0; i < 5; i++)
        h->row_scale[i] = ssm_in * parts[i];
    return 0;
}

static int falcon_h1_more(struct hf *h, struct err *e)
{
    struct ssm s = { 0 };
    uint32_t dim;
    int rc = hf_u32(h, "mamba_n_heads", 0, &s.rank, e);

    if (rc == 0)
        rc = hf_u32(h, "mamba_d_head", 64, &dim, e);
    if (rc == 0)
        rc = hf_u32(h, "mamba_d_ssm", 0, &s.inner, e);
    if (rc == 0)
        rc = hf_u32(h, "mamba_d_state", 128, &s.state, e);
    if (rc == 0)
        rc = hf_u32(h, "mamba_d_conv", 4, &s.taps, e);
    if (rc == 0)
        rc = hf_u32(h, "mamba_n_groups", 1, &s.groups, e);
    if (rc == 0)
        rc = falcon_h1_scales(h, e);
    if (rc < 0)
        return rc;
    if ((uint64_t)s.rank * dim != s.inner)
        return json_refuse(&h->text, e, WATT_EFORMAT, "mamba_n_heads %u times mamba_d_head %u is not "
                           "mamba_d_ssm %u", s.rank, dim, s.inner);
    h->row_ends[0] = s.inner;
    h->row_ends[1] = 2 * s.inner;
    h->row_ends[2] = h->row_ends[1] + s.groups * s.state;
    h->row_ends[3] = h->row_ends[2] + s.groups * s.state;
    h->row_ends[4] = UINT32_MAX;
    return put_ssm(h, &s, e);
}
static const struct hf_expect falcon_h1_expect[] = {
    { "mamba_proj_bias", "false|" }, { "mamba_rms_norm", "false|" }, { 0 }
};
const struct hf_family hf_family_falcon_h1 = {
    .arch = "falcon-h1", .names = falcon_h1_names, .acts = "silu|", .expect = falcon_h1_expect,
    .more = falcon_h1_more,
};

/* ---- Qwen3-Next ---- */

static const struct hf_name qwen3next_names[] = {
    { "layers.#.post_attention_layernorm", "blk.#.post_attention_norm", 0 },
    { "layers.#.linear_attn.in_proj_qkvz", "blk.#.ssm_in", 0 },
    { "layers.#.linear_attn.in_proj_ba", "blk.#.ssm_ba", 0 },
    { "layers.#.linear_attn.conv1d.weight", "blk.#.ssm_conv1d.weight", HF_SQUEEZE },
    { "layers.#.linear_attn.dt_bias", "blk.#.ssm_dt.bias", 0 },
    { "layers.#.linear_attn.A_log", "blk.#.ssm_a", HF_NEG_EXP },
    { "layers.#.linear_attn.norm.weight", "blk.#.ssm_norm.weight", 0 },
    { "layers.#.linear_attn.out_proj", "blk.#.ssm_out", 0 },
    { 0 }
};
static int qwen3next_more(struct hf *h, struct err *e)
{
    struct ssm s = { 0 };
    struct json_place types;
    uint32_t v_dim;
    int rc = hf_u32(h, "linear_num_value_heads", 0, &s.rank, e);

    if (rc == 0)
        rc = hf_u32(h, "linear_num_key_heads", 0, &s.groups, e);
    if (rc == 0)
        rc = hf_u32(h, "linear_key_head_dim", 128, &s.state, e);
    if (rc == 0)
        rc = hf_u32(h, "linear_value_head_dim", 128, &v_dim, e);
    if (rc == 0)
        rc = hf_u32(h, "linear_conv_kernel_dim", 4, &s.taps, e);
    if (rc == 0)
        rc = hf_field(h, "layer_types", &types, e);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; types.value && i < h->n_layers; i++)
        if (hf_layer_is(h, "layer_types", i, "full_attention") != (i % 4 == 3))
            return json_refuse(&types, e, WATT_ENOTSUP, "full attention in other layers than every "
                               "fourth");
    if (v_dim != s.state || v_dim > 65536 || s.rank > 65536)
        return json_refuse(&h->text, e, WATT_ENOTSUP, "linear_value_head_dim %u differs from "
                           "linear_key_head_dim %u", v_dim, s.state);
    s.inner = v_dim * s.rank;
    hf_put_u32(h, "full_attention_interval", 4);
    return put_ssm(h, &s, e);
}
static const struct hf_expect qwen3next_expect[] = {
    { "decoder_sparse_step", "1|" }, { "norm_topk_prob", "true|" }, { "attention_bias", "false|" },
    { 0 }
};
const struct hf_family hf_family_qwen3next = {
    .arch = "qwen3next", .names = qwen3next_names, .acts = "silu|", .expect = qwen3next_expect,
    .flags = HF_NORMS_ADD1, .more = qwen3next_more,
};
