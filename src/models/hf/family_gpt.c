/* family_gpt.c: GPT-2 and other decoders with layer norms and feed-forwards without a gate. */
#include "models/hf/internal.h"

#define TANH_OR_EXACT "gelu_new|gelu_fast|gelu_pytorch_tanh|gelu|"

/* ---- GPT-2, StarCoder ---- */

static const struct hf_name gpt2_names[] = {
    { "wte", "token_embd", 0 },
    { "wpe", "position_embd", 0 },
    { "ln_f", "output_norm", 0 },
    { "h.#.ln_1", "blk.#.attn_norm", 0 },
    { "h.#.ln_2", "blk.#.ffn_norm", 0 },
    { "h.#.attn.c_attn.weight", "blk.#.attn_qkv.weight", HF_TURN },
    { "h.#.attn.c_attn.bias", "blk.#.attn_qkv.bias", 0 },
    { "h.#.attn.c_proj.weight", "blk.#.attn_output.weight", HF_TURN },
    { "h.#.attn.c_proj.bias", "blk.#.attn_output.bias", 0 },
    { "h.#.mlp.c_fc.weight", "blk.#.ffn_up.weight", HF_TURN },
    { "h.#.mlp.c_fc.bias", "blk.#.ffn_up.bias", 0 },
    { "h.#.mlp.c_proj.weight", "blk.#.ffn_down.weight", HF_TURN },
    { "h.#.mlp.c_proj.bias", "blk.#.ffn_down.bias", 0 },
    { "h.#.attn.bias", "", HF_DROP },
    { "h.#.attn.masked_bias", "", HF_DROP },
    { 0 }
};
static const struct hf_expect gpt2_expect[] = {
    { "scale_attn_by_inverse_layer_idx", "false|" }, { "scale_attn_weights", "true|" },
    { "tie_word_embeddings", "true|" }, { 0 }
};
static int gpt2_more(struct hf *h, struct err *e)
{
    struct json_place inner;
    int rc = hf_field(h, "n_inner", &inner, e);

    h->tied = true;
    if (rc == 0 && !inner.value)
        hf_put_u32(h, "feed_forward_length", 4 * h->n_embd);
    return rc;
}
const struct hf_family hf_family_gpt2 = {
    .arch = "gpt2", .names = gpt2_names, .acts = TANH_OR_EXACT, .expect = gpt2_expect,
    .flags = HF_LAYER_NORM | HF_NO_ROPE, .more = gpt2_more,
};

static const struct hf_name starcoder_names[] = {
    { "wte", "token_embd", 0 },
    { "wpe", "position_embd", 0 },
    { "ln_f", "output_norm", 0 },
    { "h.#.ln_1", "blk.#.attn_norm", 0 },
    { "h.#.ln_2", "blk.#.ffn_norm", 0 },
    { "h.#.attn.c_attn", "blk.#.attn_qkv", 0 },
    { "h.#.attn.c_proj", "blk.#.attn_output", 0 },
    { "h.#.mlp.c_fc", "blk.#.ffn_up", 0 },
    { "h.#.mlp.c_proj", "blk.#.ffn_down", 0 },
    { "h.#.attn.bias", "", HF_DROP },
    { 0 }
};
static const struct hf_expect starcoder_expect[] = { { "multi_query", "true|" }, { 0 } };
static int starcoder_more(struct hf *h, struct err *e)
{
    h->n_kv_heads = 1;
    return gpt2_more(h, e);
}
const struct hf_family hf_family_starcoder = {
    .arch = "starcoder", .names = starcoder_names, .acts = TANH_OR_EXACT,
    .expect = starcoder_expect, .flags = HF_LAYER_NORM | HF_NO_ROPE, .more = starcoder_more,
};

static const struct hf_name starcoder2_names[] = {
    { "layers.#.mlp.c_fc", "blk.#.ffn_up", 0 },
    { "layers.#.mlp.c_proj", "blk.#.ffn_down", 0 },
    { 0 }
};
const struct hf_family hf_family_starcoder2 = {
    .arch = "starcoder2", .names = starcoder2_names, .acts = TANH_OR_EXACT,
    .flags = HF_LAYER_NORM | HF_NO_WINDOW,
};

/* ---- GPT-NeoX, BLOOM, MPT ---- */

static const struct hf_name gptneox_names[] = {
    { "embed_in", "token_embd", 0 },
    { "embed_out", "output", 0 },
    { "final_layer_norm", "output_norm", 0 },
    { "layers.#.input_layernorm", "blk.#.attn_norm", 0 },
    { "layers.#.post_attention_layernorm", "blk.#.ffn_norm", 0 },
    { "layers.#.attention.query_key_value", "blk.#.attn_qkv", HF_QKV },
    { "layers.#.attention.dense", "blk.#.attn_output", 0 },
    { "layers.#.mlp.dense_h_to_4h", "blk.#.ffn_up", 0 },
    { "layers.#.mlp.dense_4h_to_h", "blk.#.ffn_down", 0 },
    { "layers.#.attention.bias", "", HF_DROP },
    { "layers.#.attention.masked_bias", "", HF_DROP },
    { "layers.#.attention.rotary_emb.inv_freq", "", HF_DROP },
    { 0 }
};
static int gptneox_more(struct hf *h, struct err *e)
{
    bool parallel;
    int rc = hf_bool(h, "use_parallel_residual", true, &parallel, e);

    h->n_kv_heads = h->n_heads;
    if (rc == 0)
        hf_put_bool(h, "use_parallel_residual", parallel);
    return rc;
}
const struct hf_family hf_family_gptneox = {
    .arch = "gptneox", .names = gptneox_names, .acts = TANH_OR_EXACT, .flags = HF_LAYER_NORM,
    .more = gptneox_more,
};

static const struct hf_name bloom_names[] = {
    { "word_embeddings", "token_embd", 0 },
    { "word_embeddings_layernorm", "token_embd_norm", 0 },
    { "ln_f", "output_norm", 0 },
    { "h.#.input_layernorm", "blk.#.attn_norm", 0 },
    { "h.#.post_attention_layernorm", "blk.#.ffn_norm", 0 },
    { "h.#.self_attention.query_key_value", "blk.#.attn_qkv", HF_QKV },
    { "h.#.self_attention.dense", "blk.#.attn_output", 0 },
    { "h.#.mlp.dense_h_to_4h", "blk.#.ffn_up", 0 },
    { "h.#.mlp.dense_4h_to_h", "blk.#.ffn_down", 0 },
    { 0 }
};
static const struct hf_key bloom_keys[] = {
    { "context_length", 'u', "seq_length|n_positions", 0 },
    { "attention.max_alibi_bias", 'f', NULL, 8 },
    { 0 }
};
static const struct hf_expect bloom_expect[] = {
    { "apply_residual_connection_post_layernorm", "false|" }, { 0 }
};
static int bloom_more(struct hf *h, struct err *e)
{
    (void)e;
    h->tied = true;
    hf_put_u32(h, "feed_forward_length", 4 * h->n_embd);
    hf_put_str(h, "hidden_act", "gelu_tanh");
    return 0;
}
const struct hf_family hf_family_bloom = {
    .arch = "bloom", .names = bloom_names, .keys = bloom_keys, .expect = bloom_expect,
    .flags = HF_LAYER_NORM | HF_NO_ROPE, .more = bloom_more,
};

static const struct hf_name mpt_names[] = {
    { "wte", "token_embd", 0 },
    { "norm_f", "output_norm", 0 },
    { "blocks.#.norm_1", "blk.#.attn_norm", 0 },
    { "blocks.#.norm_2", "blk.#.ffn_norm", 0 },
    { "blocks.#.attn.Wqkv", "blk.#.attn_qkv", 0 },
    { "blocks.#.attn.out_proj", "blk.#.attn_output", 0 },
    { "blocks.#.ffn.up_proj", "blk.#.ffn_up", 0 },
    { "blocks.#.ffn.down_proj", "blk.#.ffn_down", 0 },
    { 0 }
};
static int mpt_more(struct hf *h, struct err *e)
{
    struct json_place attn;
    double bias = 8, clip = 0;
    bool alibi = true;
    uint32_t ratio;
    int rc = hf_field(h, "attn_config", &attn, e);

    if (rc == 0 && attn.value)
        rc = json_get_bool(&attn, "alibi", true, &alibi, e);
    if (rc == 0 && attn.value)
        rc = json_get_double(&attn, "alibi_bias_max", 8, 0, 1e6, &bias, e);
    if (rc == 0 && attn.value)
        rc = json_get_double(&attn, "clip_qkv", 0, 0, 1e6, &clip, e);
    if (rc == 0)
        rc = hf_u32(h, "expansion_ratio", 4, &ratio, e);
    if (rc < 0)
        return rc;
    if (!alibi || ratio == 0 || ratio > 64)
        return json_refuse(&h->text, e, WATT_ENOTSUP, "attn_config.alibi false or expansion_ratio "
                           "%u", ratio);
    h->tied = true;
    hf_put_u32(h, "feed_forward_length", ratio * h->n_embd);
    hf_put_f32(h, "attention.max_alibi_bias", (float)bias);
    if (clip > 0)
        hf_put_f32(h, "attention.clamp_kqv", (float)clip);
    hf_put_str(h, "hidden_act", "gelu");
    return 0;
}
const struct hf_family hf_family_mpt = {
    .arch = "mpt", .names = mpt_names, .flags = HF_LAYER_NORM | HF_NO_ROPE, .more = mpt_more,
};

/* ---- Falcon ---- */

static const struct hf_name falcon_names[] = {
    { "word_embeddings", "token_embd", 0 },
    { "ln_f", "output_norm", 0 },
    { "h.#.input_layernorm", "blk.#.attn_norm", 0 },
    { "h.#.ln_attn", "blk.#.attn_norm_2", 0 },
    { "h.#.ln_mlp", "blk.#.attn_norm", 0 },
    { "h.#.self_attention.query_key_value", "blk.#.attn_qkv", HF_QKV },
    { "h.#.self_attention.dense", "blk.#.attn_output", 0 },
    { "h.#.mlp.dense_h_to_4h", "blk.#.ffn_up", 0 },
    { "h.#.mlp.dense_4h_to_h", "blk.#.ffn_down", 0 },
    { 0 }
};
static const struct hf_expect falcon_expect[] = {
    { "alibi", "false|" }, { "parallel_attn", "true|" }, { "bias", "false|" }, { 0 }
};
static int falcon_more(struct hf *h, struct err *e)
{
    struct json_place inner;
    bool grouped, multi_query;
    int rc = hf_bool(h, "new_decoder_architecture", false, &grouped, e);

    if (rc == 0)
        rc = hf_bool(h, "multi_query", true, &multi_query, e);
    if (rc == 0)
        rc = hf_field(h, "ffn_hidden_size", &inner, e);
    if (rc < 0)
        return rc;
    h->n_kv_heads = multi_query ? 1 : h->n_heads;
    if (grouped)
        rc = hf_u32(h, "num_kv_heads|n_head_kv", h->n_heads, &h->n_kv_heads, e);
    if (rc == 0 && (h->n_kv_heads == 0 || h->n_heads % h->n_kv_heads != 0))
        return json_refuse(&h->text, e, WATT_EFORMAT, "num_attention_heads %u is no multiple of "
                           "num_kv_heads %u", h->n_heads, h->n_kv_heads);
    hf_put_u32(h, "tensor_data_layout", 0);
    if (rc == 0 && inner.value)
        rc = hf_u32(h, "ffn_hidden_size", 0, &h->n_ff, e);
    hf_put_u32(h, "feed_forward_length", inner.value ? h->n_ff : 4 * h->n_embd);
    return rc;
}
const struct hf_family hf_family_falcon = {
    .arch = "falcon", .names = falcon_names, .acts = TANH_OR_EXACT, .expect = falcon_expect,
    .flags = HF_LAYER_NORM, .more = falcon_more,
};

/* ---- Phi-2, StableLM, Nemotron ---- */

static const struct hf_name phi2_names[] = {
    { "final_layernorm", "output_norm", 0 },
    { "layers.#.self_attn.dense", "blk.#.attn_output", 0 },
    { "layers.#.mlp.fc1", "blk.#.ffn_up", 0 },
    { "layers.#.mlp.fc2", "blk.#.ffn_down", 0 },
    { 0 }
};
static const struct hf_expect no_qk_norm[] = {
    { "qk_layernorm", "false|" }, { 0 }
};
const struct hf_family hf_family_phi2 = {
    .arch = "phi2", .names = phi2_names, .acts = TANH_OR_EXACT, .expect = no_qk_norm,
    .flags = HF_LAYER_NORM,
};

static int stablelm_more(struct hf *h, struct err *e)
{
    bool parallel;
    int rc = hf_bool(h, "use_parallel_residual", false, &parallel, e);

    if (rc == 0)
        hf_put_bool(h, "use_parallel_residual", parallel);
    return rc;
}
const struct hf_family hf_family_stablelm = {
    .arch = "stablelm", .acts = "silu|", .expect = no_qk_norm, .flags = HF_LAYER_NORM,
    .more = stablelm_more,
};

const struct hf_family hf_family_nemotron = {
    .arch = "nemotron", .acts = "relu2", .flags = HF_LAYER_NORM | HF_NORMS_ADD1,
};
