/* family_moe.c: DeepSeek-V2 and V3, gpt-oss. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/hf/internal.h"

/* ---- DeepSeek ---- */

static const struct hf_name deepseek2_names[] = {
    { "layers.#.self_attn.q_a_proj", "blk.#.attn_q_a", 0 },
    { "layers.#.self_attn.q_a_layernorm", "blk.#.attn_q_a_norm", 0 },
    { "layers.#.self_attn.q_b_proj", "blk.#.attn_q_b", 0 },
    { "layers.#.self_attn.kv_a_proj_with_mqa", "blk.#.attn_kv_a_mqa", 0 },
    { "layers.#.self_attn.kv_a_layernorm", "blk.#.attn_kv_a_norm", 0 },
    { "layers.#.self_attn.kv_b_proj.weight", "blk.#.attn_k_b.weight", HF_K_B },
    { "layers.#.self_attn.kv_b_proj.weight", "blk.#.attn_v_b.weight", HF_V_B },
    { 0 }
};
static const struct hf_expect deepseek2_expect[] = {
    { "rope_interleave", "true|" }, { "moe_layer_freq", "1|" }, { 0 }
};

static int need(struct hf *h, const char *field, uint32_t max, uint32_t *out, struct err *e)
{
    int rc = hf_u32(h, field, 0, out, e);

    if (rc == 0 && (*out == 0 || *out > max))
        return json_refuse(&h->text, e, WATT_EFORMAT, "%s is %u, expected 1 to %u", field, *out,
                           max);
    return rc;
}

/* How experts are chosen: V2 by softmax, greedily or within groups; V3 by sigmoid with a bias. */
static int put_gate(struct hf *h, struct err *e)
{
    const bool v3 = strcmp(h->class_name, "DeepseekV3ForCausalLM") == 0;
    struct json_place method;
    bool norm;
    int rc = hf_field(h, "topk_method", &method, e);

    if (rc == 0)
        rc = hf_bool(h, "norm_topk_prob", v3, &norm, e);
    if (rc < 0)
        return rc;
    hf_put_u32(h, "expert_gating_func", v3 ? 2 : 1);
    if (!v3 && json_is_string(method.value) &&
        strcmp(json_string_value(method.value), "greedy") == 0) {
        hf_put_u32(h, "expert_group_count", 1);
        hf_put_u32(h, "expert_group_used_count", 1);
    }
    /* V2 scales its weights or makes them sum to 1, never both */
    if (!v3 && norm)
        return json_refuse(&h->text, e, WATT_ENOTSUP, "norm_topk_prob is true, which is not known "
                           "of DeepSeek-V2");
    return 0;
}

static int deepseek2_more(struct hf *h, struct err *e)
{
    uint32_t rank, nope, rot, v, q_rank;
    int rc = need(h, "kv_lora_rank", 65536, &rank, e);

    if (rc == 0)
        rc = need(h, "qk_nope_head_dim", 65536, &nope, e);
    if (rc == 0)
        rc = need(h, "qk_rope_head_dim", 65536, &rot, e);
    if (rc == 0)
        rc = need(h, "v_head_dim", 65536, &v, e);
    if (rc == 0)
        rc = hf_u32(h, "q_lora_rank", 0, &q_rank, e);
    if (rc < 0)
        return rc;
    h->kv_b[0] = nope;
    h->kv_b[1] = v;
    h->n_rot = rot;
    hf_put_u32(h, "attention.kv_lora_rank", rank);
    if (q_rank)
        hf_put_u32(h, "attention.q_lora_rank", q_rank);
    hf_put_u32(h, "attention.head_count_kv", 1);
    hf_put_u32(h, "attention.key_length", rank + rot);
    hf_put_u32(h, "attention.value_length", rank);
    hf_put_u32(h, "attention.key_length_mla", nope + rot);
    hf_put_u32(h, "attention.value_length_mla", v);
    return h->n_experts ? put_gate(h, e) : 0;
}
const struct hf_family hf_family_deepseek2 = {
    .arch = "deepseek2", .names = deepseek2_names, .acts = "silu|", .expect = deepseek2_expect,
    .flags = HF_NO_HEAD_DIM, .more = deepseek2_more,
};

/* ---- gpt-oss ---- */

static const struct hf_name gpt_oss_names[] = {
    { "layers.#.post_attention_layernorm", "blk.#.post_attention_norm", 0 },
    { "layers.#.mlp.router", "blk.#.ffn_gate_inp", 0 },
    { "layers.#.mlp.experts.gate_up_proj", "blk.#.ffn_gate_exps.weight", HF_TURN | HF_EVEN },
    { "layers.#.mlp.experts.gate_up_proj", "blk.#.ffn_up_exps.weight", HF_TURN | HF_ODD },
    { "layers.#.mlp.experts.gate_up_proj_blocks", "blk.#.ffn_gate_exps.weight", HF_EVEN },
    { "layers.#.mlp.experts.gate_up_proj_blocks", "blk.#.ffn_up_exps.weight", HF_ODD },
    { "layers.#.mlp.experts.gate_up_proj_bias", "blk.#.ffn_gate_exps.bias", HF_VECTOR | HF_EVEN },
    { "layers.#.mlp.experts.gate_up_proj_bias", "blk.#.ffn_up_exps.bias", HF_VECTOR | HF_ODD },
    { "layers.#.mlp.experts.down_proj", "blk.#.ffn_down_exps.weight", HF_TURN },
    { "layers.#.mlp.experts.down_proj_blocks", "blk.#.ffn_down_exps.weight", 0 },
    { "layers.#.mlp.experts.down_proj_bias", "blk.#.ffn_down_exps.bias", 0 },
    { 0 }
};
static const struct hf_key gpt_oss_keys[] = {
    { "expert_feed_forward_length", 'u', "intermediate_size", 0 },
    { 0 }
};
static const struct hf_expect gpt_oss_expect[] = {
    { "swiglu_alpha", "1.702|" }, { "swiglu_limit", "7|" }, { 0 }
};
static int gpt_oss_more(struct hf *h, struct err *e)
{
    struct json_place types;
    int rc = hf_field(h, "layer_types", &types, e);

    for (uint32_t i = 0; rc == 0 && types.value && i < h->n_layers; i++)
        if (hf_layer_is(h, "layer_types", i, "sliding_attention") != (i % 2 == 0))
            return json_refuse(&types, e, WATT_ENOTSUP, "windows in other layers than every other");
    return rc;
}
const struct hf_family hf_family_gpt_oss = {
    .arch = "gpt-oss", .names = gpt_oss_names, .keys = gpt_oss_keys, .acts = "silu|",
    .expect = gpt_oss_expect, .more = gpt_oss_more,
};
