/* family_llama.c: Llama and the decoders that differ from it by a norm, a bias or a scale. */
#include <stdio.h>

#include "models/hf/internal.h"

/* ---- Llama, Mistral, Mixtral ---- */

static const struct hf_name llama_names[] = {
    { "layers.#.block_sparse_moe.gate", "blk.#.ffn_gate_inp", 0 },
    { "layers.#.block_sparse_moe.experts.*.w1", "blk.#.ffn_gate_exps", 0 },
    { "layers.#.block_sparse_moe.experts.*.w2", "blk.#.ffn_down_exps", 0 },
    { "layers.#.block_sparse_moe.experts.*.w3", "blk.#.ffn_up_exps", 0 },
    { 0 }
};
/* The graph has no windows: a longer context than the window would see more than it should. */
static int llama_more(struct hf *h, struct err *e)
{
    uint32_t window;
    bool used;
    int rc = hf_u32(h, "sliding_window", 0, &window, e);

    if (rc == 0)
        rc = hf_bool(h, "use_sliding_window", true, &used, e);
    if (rc == 0 && used && window > 0 && window < h->n_ctx) {
        hf_warn(h, "sliding_window %u is kept by limiting the context to it", window);
        hf_put_u32(h, "context_length", window);
        h->n_ctx = window;
    }
    return rc;
}
const struct hf_family hf_family_llama = {
    .arch = "llama", .names = llama_names, .acts = "silu|", .flags = HF_PERMUTE | HF_NO_WINDOW,
    .more = llama_more,
};

const struct hf_family hf_family_arcee = {
    .arch = "arcee", .acts = "relu2", .flags = HF_PERMUTE | HF_NO_WINDOW,
};

/* ---- Apertus ---- */

static const struct hf_name apertus_names[] = {
    { "layers.#.attention_layernorm", "blk.#.attn_norm", 0 },
    { "layers.#.feedforward_layernorm", "blk.#.ffn_norm", 0 },
    { "layers.#.mlp.act_fn.alpha_p", "", HF_DROP }, { "layers.#.mlp.act_fn.alpha_n", "", HF_DROP },
    { "layers.#.mlp.act_fn.beta", "", HF_DROP }, { "layers.#.mlp.act_fn.eps", "", HF_DROP },
    { 0 }
};

/* The one number that a tensor holds. */
static int read_number(const struct hf *h, const char *name, float *out, struct err *e)
{
    const struct safetensors_tensor *t = safetensors_find(h->st, name);
    enum dtype type;
    const struct dtype_info *info = t && safetensors_dtype(t->type, &type) ? dtype_info((uint32_t)type)
                                                                          : NULL;

    if (!info || info->block_elems != 1 || !info->dequant || t->size_bytes != info->block_bytes)
        return err_set(e, WATT_EFORMAT, "%s: tensor %s %s", h->dir, name,
                       t ? "is no single number" : "is missing");
    info->dequant(out, t->data, 1);
    return 0;
}

/* The activations' numbers are tensors here and keys in GGUF. */
static int apertus_numbers(struct hf *h, struct err *e)
{
    static const char *const numbers[] = { "alpha_p", "alpha_n", "beta", "eps" };
    float *v = mem_array(h->n_layers, sizeof *v);
    char name[64];
    int rc = v ? 0 : err_set(e, WATT_ENOMEM, "%s: out of memory", h->dir);

    for (size_t k = 0; rc == 0 && k < 4; k++) {
        for (uint32_t i = 0; rc == 0 && i < h->n_layers; i++) {
            (void)snprintf(name, sizeof name, "model.layers.%u.mlp.act_fn.%s", i, numbers[k]);
            rc = read_number(h, name, &v[i], e);
        }
        (void)snprintf(name, sizeof name, "/xielu.%s", numbers[k]);
        if (rc == 0)
            hf_put_array(h, name, GGUF_F32, v, h->n_layers);
    }
    mem_free(v);
    return rc;
}
const struct hf_family hf_family_apertus = {
    .arch = "apertus", .names = apertus_names, .acts = "xielu|", .from_weights = apertus_numbers,
};

/* ---- Qwen ---- */

const struct hf_family hf_family_qwen2 = {
    .arch = "qwen2", .acts = "silu|", .flags = HF_NO_WINDOW, .more = llama_more,
};
static const struct hf_expect qwen2moe_expect[] = {
    { "decoder_sparse_step", "1|" }, { "norm_topk_prob", "false|" }, { 0 }
};
const struct hf_family hf_family_qwen2moe = {
    .arch = "qwen2moe", .acts = "silu|", .flags = HF_NO_WINDOW, .expect = qwen2moe_expect,
    .more = llama_more,
};
const struct hf_family hf_family_qwen3 = {
    .arch = "qwen3", .acts = "silu|", .flags = HF_NO_WINDOW, .more = llama_more,
};
static const struct hf_expect qwen3moe_expect[] = {
    { "decoder_sparse_step", "1|" }, { "norm_topk_prob", "true" }, { 0 }
};
const struct hf_family hf_family_qwen3moe = {
    .arch = "qwen3moe", .acts = "silu|", .flags = HF_NO_WINDOW, .expect = qwen3moe_expect,
    .more = llama_more,
};

/* ---- Phi-3 ---- */

const struct hf_family hf_family_phi3 = {
    .arch = "phi3", .acts = "silu|", .flags = HF_NO_WINDOW, .more = llama_more,
};

/* ---- OLMo ---- */

/* The first OLMo's norms have neither gain nor bias. */
static const struct hf_key olmo_keys[] = {
    { "attention.layer_norm_epsilon", 'f', NULL, 1e-5 }, { 0 }
};
const struct hf_family hf_family_olmo = {
    .arch = "olmo", .keys = olmo_keys, .acts = "silu|", .flags = HF_LAYER_NORM | HF_PERMUTE,
};

static const struct hf_name olmo2_names[] = {
    { "layers.#.post_attention_layernorm", "blk.#.post_attention_norm", 0 },
    { "layers.#.post_feedforward_layernorm", "blk.#.post_ffw_norm", 0 },
    { 0 }
};
/* OLMo 3: windows in three layers of four. */
static int olmo2_more(struct hf *h, struct err *e)
{
    struct json_place types;
    int rc = hf_field(h, "layer_types", &types, e);

    for (uint32_t i = 0; rc == 0 && types.value && i < h->n_layers; i++)
        if (hf_layer_is(h, "layer_types", i, "full_attention") != (i % 4 == 3))
            return json_refuse(&types, e, WATT_ENOTSUP, "full attention in other layers than every "
                               "fourth");
    return rc;
}
const struct hf_family hf_family_olmo2 = {
    .arch = "olmo2", .names = olmo2_names, .acts = "silu|", .more = olmo2_more,
};

static const struct hf_expect olmoe_expect[] = { { "norm_topk_prob", "false|" }, { 0 } };
const struct hf_family hf_family_olmoe = {
    .arch = "olmoe", .acts = "silu|", .expect = olmoe_expect,
};

/* ---- Granite ---- */

static const struct hf_key granite_keys[] = {
    { "attention.scale", 'f', "attention_multiplier", 0 },
    { "embedding_scale", 'f', "embedding_multiplier", 0 },
    { "residual_scale", 'f', "residual_multiplier", 0 },
    { "logit_scale", 'f', "logits_scaling", 0 },
    { 0 }
};
const struct hf_family hf_family_granite = {
    .arch = "granite", .keys = granite_keys, .acts = "silu|",
    .flags = HF_PERMUTE | HF_NO_HEAD_DIM,
};
static const struct hf_name granitemoe_names[] = {
    { "layers.#.block_sparse_moe.router.layer", "blk.#.ffn_gate_inp", 0 },
    { "layers.#.block_sparse_moe.input_linear.weight", "blk.#.ffn_gate_exps.weight", HF_FIRST },
    { "layers.#.block_sparse_moe.input_linear.weight", "blk.#.ffn_up_exps.weight", HF_SECOND },
    { "layers.#.block_sparse_moe.output_linear.weight", "blk.#.ffn_down_exps.weight", 0 },
    { 0 }
};
const struct hf_family hf_family_granitemoe = {
    .arch = "granitemoe", .names = granitemoe_names, .keys = granite_keys, .acts = "silu|",
    .flags = HF_PERMUTE | HF_NO_HEAD_DIM,
};

/* ---- Cohere ---- */

static const struct hf_key cohere_keys[] = { { "logit_scale", 'f', "logit_scale", 0 }, { 0 } };
static const struct hf_expect cohere_expect[] = { { "use_qk_norm", "false|" }, { 0 } };
const struct hf_family hf_family_cohere = {
    .arch = "command-r", .keys = cohere_keys, .acts = "silu|", .expect = cohere_expect,
    .flags = HF_LAYER_NORM,
};
const struct hf_family hf_family_cohere2 = {
    .arch = "cohere2", .keys = cohere_keys, .acts = "silu|", .flags = HF_LAYER_NORM,
    .more = olmo2_more,
};

/* ---- GLM ---- */

static const struct hf_name glm4_names[] = {
    { "layers.#.post_self_attn_layernorm", "blk.#.post_attention_norm", 0 },
    { "layers.#.post_mlp_layernorm", "blk.#.post_ffw_norm", 0 },
    { 0 }
};
const struct hf_family hf_family_glm4 = { .arch = "glm4", .names = glm4_names, .acts = "silu|" };

static const struct hf_name glm4moe_names[] = {
    { "layers.#.post_attention_layernorm", "blk.#.post_attention_norm", 0 },
    { 0 }
};
static const struct hf_key glm4moe_keys[] = {
    { "expert_gating_func", 'u', NULL, 2 }, { 0 }
};
const struct hf_family hf_family_glm4moe = {
    .arch = "glm4moe", .names = glm4moe_names, .keys = glm4moe_keys, .acts = "silu|",
};

/* ---- others ---- */

/* SmolLM3 leaves every fourth layer without positions, as its graph does. */
static int smollm3_more(struct hf *h, struct err *e)
{
    struct json_place list;
    size_t n = 0;
    int rc = hf_field(h, "no_rope_layers", &list, e);

    if (rc == 0 && list.value)
        rc = json_read_array(&list, 4096, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&list, i);
        uint64_t rope = 0;

        rc = json_read_u64(&item, 0, 1, &rope, e);
        if (rc == 0 && (rope == 0) != (i % 4 == 3))
            return json_refuse(&item, e, WATT_ENOTSUP, "layers without positions are others than "
                               "every fourth");
    }
    return rc;
}
const struct hf_family hf_family_smollm3 = {
    .arch = "smollm3", .acts = "silu|", .flags = HF_PERMUTE | HF_NO_WINDOW, .more = smollm3_more,
};
/* EXAONE 4 says of each layer whether it has a window; without the list none has. */
static int exaone4_more(struct hf *h, struct err *e)
{
    bool *local = mem_calloc(h->n_layers, sizeof *local);
    bool any = false;

    if (!local)
        return err_set(e, WATT_ENOMEM, "%s: out of memory", h->dir);
    for (uint32_t i = 0; i < h->n_layers; i++)
        any |= local[i] = hf_layer_is(h, "layer_types", i, "sliding_attention");
    if (any)
        hf_put_array(h, "attention.sliding_window_pattern", GGUF_BOOL, local, h->n_layers);
    mem_free(local);
    return 0;
}
const struct hf_family hf_family_exaone4 = {
    .arch = "exaone4", .names = olmo2_names, .acts = "silu|", .more = exaone4_more,
};
const struct hf_family hf_family_ernie4_5 = { .arch = "ernie4_5", .acts = "silu|" };

static const struct hf_name seed_oss_names[] = {
    { "layers.#.post_attention_layernorm", "blk.#.post_attention_norm", 0 },
    { 0 }
};
const struct hf_family hf_family_seed_oss = {
    .arch = "seed_oss", .names = seed_oss_names, .acts = "silu|",
};
static const struct hf_name hunyuan_names[] = {
    { "layers.#.self_attn.query_layernorm", "blk.#.attn_q_norm", 0 },
    { "layers.#.self_attn.key_layernorm", "blk.#.attn_k_norm", 0 },
    { 0 }
};
const struct hf_family hf_family_hunyuan = {
    .arch = "hunyuan-dense", .names = hunyuan_names, .acts = "silu|",
};
