/* hf_config.c: one reader per family of config.json; see hf_config.h. */
#include "models/hf_config.h"

#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

static int need_u32(const struct json_place *at, const char *key, uint32_t *out, struct err *e)
{
    struct json_place place;
    uint64_t v;
    int rc = json_need(at, key, &place, e);

    if (rc == 0)
        rc = json_read_u64(&place, 1, UINT32_MAX, &v, e);
    if (rc == 0)
        *out = (uint32_t)v;
    return rc;
}

static int get_u32(const struct json_place *at, const char *key, uint32_t otherwise,
                   uint32_t *out, struct err *e)
{
    uint64_t v;
    int rc = json_get_u64(at, key, otherwise, 0, UINT32_MAX, &v, e);

    if (rc == 0)
        *out = (uint32_t)v;
    return rc;
}

static int get_f32(const struct json_place *at, const char *key, float otherwise, float *out,
                   struct err *e)
{
    double v;
    int rc = json_get_double(at, key, (double)otherwise, 0.0, (double)FLT_MAX, &v, e);

    if (rc == 0)
        *out = (float)v;
    return rc;
}

static int get_feature(const struct json_place *at, const char *key, unsigned features,
                       struct shape *s, struct err *e)
{
    bool on;
    int rc = json_get_bool(at, key, false, &on, e);

    if (rc == 0 && on)
        s->features |= features;
    return rc;
}

/* ---- rotary embedding ---- */

static int read_scaling_type(const struct json_place *at, struct shape *s, struct err *e)
{
    static const struct { const char *name; enum shape_rope rope; } types[] = {
        { "default", SHAPE_ROPE_PLAIN }, { "linear", SHAPE_ROPE_LINEAR },
        { "yarn", SHAPE_ROPE_YARN }, { "llama3", SHAPE_ROPE_LLAMA3 },
    };
    const char *name;
    int rc = json_get_cstr(at, "type", "default", &name, e);    /* its older name */

    if (rc == 0)
        rc = json_get_cstr(at, "rope_type", name, &name, e);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(types[i].name, name) == 0) {
            s->rope = types[i].rope;
            return 0;
        }
    }
    return json_refuse(at, e, WATT_ENOTSUP,
                       "rope_type is '%.40s', known are default, linear, yarn, llama3", name);
}

static int read_scaling(const struct json_place *at, struct shape *s, struct err *e)
{
    int rc = read_scaling_type(at, s, e);

    if (rc < 0 || s->rope == SHAPE_ROPE_PLAIN)
        return rc;
    rc = get_f32(at, "factor", 1.0f, &s->rope_factor, e);
    if (rc == 0)
        rc = get_f32(at, "low_freq_factor", 1.0f, &s->rope_low, e);
    if (rc == 0)
        rc = get_f32(at, "high_freq_factor", 4.0f, &s->rope_high, e);
    if (rc == 0)
        rc = get_u32(at, "original_max_position_embeddings", s->n_ctx, &s->rope_ctx, e);
    return rc;
}

/* rope_theta and rope_scaling, or both in rope_parameters as newer files have it. */
static int read_rope(const struct json_place *at, float base, struct shape *s, struct err *e)
{
    struct json_place scaling;
    int rc = get_f32(at, "rope_theta", base, &s->rope_base, e);

    if (rc == 0)
        rc = json_find(at, "rope_parameters", &scaling, e);
    if (rc == 0 && scaling.value)
        rc = get_f32(&scaling, "rope_theta", s->rope_base, &s->rope_base, e);
    else if (rc == 0)
        rc = json_find(at, "rope_scaling", &scaling, e);
    return rc == 0 && scaling.value ? read_scaling(&scaling, s, e) : rc;
}

/* ---- families ---- */

static int read_heads(const struct json_place *at, struct shape *s, struct err *e)
{
    int rc = need_u32(at, "num_attention_heads", &s->n_heads, e);

    if (rc == 0)
        rc = get_u32(at, "num_key_value_heads", s->n_heads, &s->n_kv_heads, e);
    if (rc == 0)
        rc = get_u32(at, "head_dim", 0, &s->head_dim, e);
    if (rc < 0 || s->head_dim)
        return rc;
    if (s->n_embd % s->n_heads != 0)
        return json_refuse(at, e, WATT_EFORMAT,
                           "hidden_size %" PRIu32 " is no multiple of num_attention_heads %" PRIu32
                           " and there is no head_dim", s->n_embd, s->n_heads);
    s->head_dim = s->n_embd / s->n_heads;
    return 0;
}

/* What llama, mistral, qwen and their kin share. */
static int read_common(const struct json_place *at, struct shape *s, struct err *e)
{
    int rc = need_u32(at, "hidden_size", &s->n_embd, e);

    if (rc == 0)
        rc = need_u32(at, "intermediate_size", &s->n_ff, e);
    if (rc == 0)
        rc = need_u32(at, "num_hidden_layers", &s->n_layers, e);
    if (rc == 0)
        rc = need_u32(at, "vocab_size", &s->n_vocab, e);
    if (rc == 0)
        rc = get_u32(at, "max_position_embeddings", 2048, &s->n_ctx, e);
    if (rc == 0)
        rc = read_heads(at, s, e);
    if (rc == 0)
        rc = get_f32(at, "rms_norm_eps", 1e-6f, &s->norm_eps, e);
    if (rc == 0)
        rc = json_get_bool(at, "tie_word_embeddings", false, &s->tied, e);
    return rc == 0 ? read_rope(at, 10000.0f, s, e) : rc;
}

static int read_llama(const struct json_place *at, struct shape *s, struct err *e)
{
    int rc = read_common(at, s, e);

    if (rc == 0)
        rc = get_feature(at, "attention_bias", SHAPE_QKV_BIAS | SHAPE_OUT_BIAS, s, e);
    return rc == 0 ? get_feature(at, "mlp_bias", SHAPE_FFN_BIAS, s, e) : rc;
}

static int read_mistral(const struct json_place *at, struct shape *s, struct err *e)
{
    int rc = read_common(at, s, e);

    return rc == 0 ? get_u32(at, "sliding_window", 0, &s->window, e) : rc;
}

static int read_mixtral(const struct json_place *at, struct shape *s, struct err *e)
{
    int rc = read_mistral(at, s, e);

    if (rc == 0)
        rc = need_u32(at, "num_local_experts", &s->n_experts, e);
    return rc == 0 ? need_u32(at, "num_experts_per_tok", &s->n_experts_used, e) : rc;
}

/* The text half of a model that sees: the same fields in text_config. */
static int read_mistral3(const struct json_place *at, struct shape *s, struct err *e)
{
    struct json_place text;
    const char *type;
    int rc = json_need(at, "text_config", &text, e);

    if (rc == 0)
        rc = json_get_cstr(&text, "model_type", "mistral", &type, e);
    if (rc == 0 && strcmp(type, "ministral3") != 0)
        rc = shape_set_arch(s, "llama", e);
    return rc == 0 ? read_mistral(&text, s, e) : rc;
}

static int read_qwen(const struct json_place *at, struct shape *s, struct err *e)
{
    bool windowed;
    int rc = read_common(at, s, e);

    if (rc == 0)
        rc = json_get_bool(at, "use_sliding_window", false, &windowed, e);
    if (rc == 0 && windowed)
        rc = get_u32(at, "sliding_window", 0, &s->window, e);
    return rc;
}

static int read_qwen3(const struct json_place *at, struct shape *s, struct err *e)
{
    int rc = read_qwen(at, s, e);

    return rc == 0 ? get_feature(at, "attention_bias", SHAPE_QKV_BIAS | SHAPE_OUT_BIAS, s, e) : rc;
}

static int read_qwen3_moe(const struct json_place *at, struct shape *s, struct err *e)
{
    uint32_t step;
    int rc = read_qwen3(at, s, e);

    if (rc == 0)
        rc = need_u32(at, "num_experts", &s->n_experts, e);
    if (rc == 0)
        rc = need_u32(at, "num_experts_per_tok", &s->n_experts_used, e);
    if (rc == 0)
        rc = need_u32(at, "moe_intermediate_size", &s->n_ff, e);
    if (rc == 0)
        rc = get_u32(at, "decoder_sparse_step", 1, &step, e);
    if (rc == 0 && step != 1)
        return json_refuse(at, e, WATT_ENOTSUP,
                           "decoder_sparse_step is %" PRIu32 ", only 1 is known", step);
    return rc;
}

static int read_gpt2(const struct json_place *at, struct shape *s, struct err *e)
{
    int rc = need_u32(at, "n_embd", &s->n_embd, e);

    if (rc == 0)
        rc = need_u32(at, "n_layer", &s->n_layers, e);
    if (rc == 0)
        rc = need_u32(at, "n_head", &s->n_heads, e);
    if (rc == 0)
        rc = need_u32(at, "vocab_size", &s->n_vocab, e);
    if (rc == 0)
        rc = get_u32(at, "n_positions", 1024, &s->n_ctx, e);
    if (rc == 0)
        rc = get_u32(at, "n_inner", 0, &s->n_ff, e);
    if (rc == 0)
        rc = get_f32(at, "layer_norm_epsilon", 1e-5f, &s->norm_eps, e);
    if (rc == 0)
        rc = json_get_bool(at, "tie_word_embeddings", true, &s->tied, e);
    if (rc < 0)
        return rc;
    if (s->n_embd % s->n_heads != 0 || s->n_embd > SHAPE_MAX_WIDTH)
        return json_refuse(at, e, WATT_EFORMAT,
                           "n_embd %" PRIu32 " is too wide or no multiple of n_head %" PRIu32,
                           s->n_embd, s->n_heads);
    if (s->n_ff == 0)
        s->n_ff = 4 * s->n_embd;
    s->n_kv_heads = s->n_heads;
    s->head_dim = s->n_embd / s->n_heads;
    return 0;
}

/* ---- table ---- */

static const struct family {
    const char *class_name, *model_type;    /* architectures[0], or else model_type */
    const char *arch, *pre;
    int       (*read)(const struct json_place *at, struct shape *s, struct err *e);
} families[] = {
    { "LlamaForCausalLM", "llama", "llama", "llama-bpe", read_llama },
    { "MistralForCausalLM", "mistral", "llama", "gpt-2", read_mistral },
    { "MixtralForCausalLM", "mixtral", "llama", "gpt-2", read_mixtral },
    { "Mistral3ForConditionalGeneration", "mistral3", "mistral3", "gpt-2", read_mistral3 },
    { "Ministral3ForCausalLM", "ministral3", "mistral3", "gpt-2", read_mistral },
    { "Qwen2ForCausalLM", "qwen2", "qwen2", "qwen2", read_qwen },
    { "Qwen3ForCausalLM", "qwen3", "qwen3", "qwen2", read_qwen3 },
    { "Qwen3MoeForCausalLM", "qwen3_moe", "qwen3moe", "qwen2", read_qwen3_moe },
    { "GPT2LMHeadModel", "gpt2", "gpt2", "gpt-2", read_gpt2 },
};
#define N_FAMILIES (sizeof families / sizeof families[0])

static int unknown_family(const struct json_place *at, const char *what, const char *name,
                          struct err *e)
{
    char known[320] = "";
    size_t len = 0;

    for (size_t i = 0; i < N_FAMILIES && len < sizeof known; i++)
        len += (size_t)snprintf(known + len, sizeof known - len, "%s%s", i ? ", " : "",
                                families[i].class_name);
    return json_refuse(at, e, WATT_ENOTSUP, "%s is '%.60s', known are %s", what, name, known);
}

static int find_family(const struct json_place *at, const struct family **out, struct err *e)
{
    struct json_place classes, first;
    const char *name;
    bool by_class;
    int rc = json_find(at, "architectures", &classes, e);

    if (rc < 0)
        return rc;
    by_class = classes.value && json_count(&classes) > 0;
    if (by_class) {
        size_t n;

        rc = json_read_array(&classes, 64, &n, e);
        if (rc < 0)
            return rc;
        first = json_item(&classes, 0);
    } else {
        rc = json_need(at, "model_type", &first, e);
    }
    if (rc == 0)
        rc = json_read_cstr(&first, &name, e);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < N_FAMILIES; i++) {
        if (strcmp(by_class ? families[i].class_name : families[i].model_type, name) == 0) {
            *out = &families[i];
            return 0;
        }
    }
    return unknown_family(at, by_class ? "architectures" : "model_type", name, e);
}

int hf_config_parse(struct shape *out, const char *name, const void *bytes, size_t n,
                    struct err *e)
{
    const struct json_limits limits = { HF_CONFIG_MAX_BYTES, HF_CONFIG_MAX_DEPTH };
    const struct family *family = NULL;
    struct shape s = { 0 };
    struct json_place root;
    json_t *document;
    int rc = json_parse(&document, name, bytes, n, &limits, e);

    if (rc < 0)
        return rc;
    root = json_root(document, name);
    rc = find_family(&root, &family, e);
    if (rc == 0)
        rc = shape_set_arch(&s, family->arch, e);
    if (rc == 0) {
        (void)snprintf(s.name, sizeof s.name, "%s", family->class_name);
        (void)snprintf(s.pre, sizeof s.pre, "%s", family->pre);
        rc = family->read(&root, &s, e);
    }
    if (rc == 0) {
        rc = shape_check(&s, e);
        if (rc < 0)
            (void)err_prefix(e, "%s", name);
    }
    json_close(document);
    if (rc == 0)
        *out = s;
    return rc;
}

int hf_config_read(struct shape *out, const char *path, struct err *e)
{
    struct str full;
    struct stat st;
    char *bytes;
    size_t n;
    int rc;

    str_init(&full, 0);
    str_puts(&full, path);
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        str_puts(&full, "/config.json");
    if (!str_ok(&full)) {
        str_deinit(&full);
        return err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    }
    rc = file_read(str_cstr(&full), HF_CONFIG_MAX_BYTES, &bytes, &n, e);
    if (rc == 0) {
        rc = hf_config_parse(out, str_cstr(&full), bytes, n, e);
        mem_free(bytes);
    }
    str_deinit(&full);
    return rc;
}
