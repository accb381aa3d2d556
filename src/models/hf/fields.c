/* fields.c: config.json: finds the family and writes the keys that tables can say. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "models/hf/internal.h"

#define MAX_LAYERS 4096u

static const struct {
    const char             *class_name, *model_type;
    const struct hf_family *family;
} families[] = {
#define HF_FAMILY(class_name, model_type, family) { class_name, model_type, &hf_family_##family },
#include "models/hf/families.def"
#undef HF_FAMILY
};
#define N_FAMILIES (sizeof families / sizeof *families)

/* ---- fields ---- */

/* The next of "a|b|c" into word; NULL after the last. */
static const char *next_word(const char *at, char word[64])
{
    const size_t n = strcspn(at, "|");

    (void)snprintf(word, 64, "%.*s", (int)n, at);
    return at[n] ? at + n + 1 : NULL;
}

int hf_field(const struct hf *h, const char *fields, struct json_place *out, struct err *e)
{
    const struct json_place *at[2] = { &h->text, &h->root };
    char word[64];

    for (unsigned i = 0; i < (h->text.value == h->root.value ? 1 : 2); i++) {
        for (const char *next = fields; next;) {
            int rc;

            next = next_word(next, word);
            rc = json_find(at[i], word, out, e);
            if (rc < 0)
                return rc;
            if (out->value) {
                /* the word is ours and goes away: the key in the document stays */
                void *const it = json_object_iter_at((json_t *)(uintptr_t)at[i]->value, word);

                out->key = json_object_iter_key(it);
                return 0;
            }
        }
    }
    out->value = NULL;
    return 0;
}

int hf_u32(const struct hf *h, const char *fields, uint32_t otherwise, uint32_t *out,
           struct err *e)
{
    struct json_place at;
    uint64_t v = otherwise;
    int rc = hf_field(h, fields, &at, e);

    if (rc == 0 && at.value)
        rc = json_read_u64(&at, 0, UINT32_MAX, &v, e);
    if (rc == 0)
        *out = (uint32_t)v;
    return rc;
}

int hf_f32(const struct hf *h, const char *fields, float otherwise, float *out, struct err *e)
{
    struct json_place at;
    double v = (double)otherwise;
    int rc = hf_field(h, fields, &at, e);

    if (rc == 0 && at.value)
        rc = json_read_double(&at, -(double)FLT_MAX, (double)FLT_MAX, &v, e);
    if (rc == 0)
        *out = (float)v;
    return rc;
}

int hf_bool(const struct hf *h, const char *fields, bool otherwise, bool *out, struct err *e)
{
    struct json_place at;
    int rc = hf_field(h, fields, &at, e);

    *out = otherwise;
    return rc == 0 && at.value ? json_read_bool(&at, out, e) : rc;
}

bool hf_layer_is(const struct hf *h, const char *fields, uint32_t layer, const char *name)
{
    struct json_place at;
    const char *text;

    if (hf_field(h, fields, &at, NULL) < 0 || !json_is_array(at.value) ||
        layer >= json_count(&at))
        return false;
    text = json_string_value(json_array_get(at.value, layer));
    return text && strcmp(text, name) == 0;
}

/* ---- keys ---- */

#define KEY_MAX 128

static const char *full_key(const struct hf *h, const char *key, char out[KEY_MAX])
{
    if (key[0] == '/')
        (void)snprintf(out, KEY_MAX, "%s", key + 1);
    else
        (void)snprintf(out, KEY_MAX, "%s.%s", h->family->arch, key);
    return out;
}

void hf_put_u32(struct hf *h, const char *key, uint32_t v)
{
    char full[KEY_MAX];

    gguf_make_u32(h->out, full_key(h, key, full), v);
}

void hf_put_f32(struct hf *h, const char *key, float v)
{
    char full[KEY_MAX];

    gguf_make_f32(h->out, full_key(h, key, full), v);
}

void hf_put_bool(struct hf *h, const char *key, bool v)
{
    char full[KEY_MAX];

    gguf_make_bool(h->out, full_key(h, key, full), v);
}

void hf_put_str(struct hf *h, const char *key, const char *v)
{
    char full[KEY_MAX];

    gguf_make_str(h->out, full_key(h, key, full), sv_cstr(v));
}

void hf_put_array(struct hf *h, const char *key, enum gguf_type type, const void *v, uint32_t n)
{
    char full[KEY_MAX];

    gguf_make_array(h->out, full_key(h, key, full), type, v, n);
}

bool hf_has(const struct hf *h, const char *key)
{
    char full[KEY_MAX];

    return gguf_make_has(h->out, full_key(h, key, full));
}

static const struct hf_key common_keys[] = {
    { "context_length", 'u', "max_position_embeddings|n_positions|n_ctx|max_seq_len|"
                             "max_sequence_length|model_max_length", 0 },
    { "feed_forward_length", 'u', "intermediate_size|n_inner|ffn_hidden_size|ffn_dim|d_ff", 0 },
    { "expert_count", 'u', "num_local_experts|num_experts|n_routed_experts", 0 },
    { "expert_used_count", 'u', "num_experts_per_tok|num_experts_per_token|moe_topk", 0 },
    { "expert_feed_forward_length", 'u', "moe_intermediate_size", 0 },
    { "expert_shared_feed_forward_length", 'u', "shared_expert_intermediate_size", 0 },
    { "expert_shared_count", 'u', "n_shared_experts|num_shared_experts", 0 },
    { "expert_group_count", 'u', "n_group", 0 },
    { "expert_group_used_count", 'u', "topk_group", 0 },
    { "expert_weights_scale", 'f', "routed_scaling_factor", 0 },
    { "expert_weights_norm", 'b', "norm_topk_prob", 0 },
    { "leading_dense_block_count", 'u', "first_k_dense_replace", 0 },
    { "attn_logit_softcapping", 'f', "attn_logit_softcapping", 0 },
    { "final_logit_softcapping", 'f', "final_logit_softcapping", 0 },
    { "logit_scale", 'f', "logit_scale", 0 },
    { "attention.clamp_kqv", 'f', "clip_qkv", 0 },
    { 0 }
};

static int put_row(struct hf *h, const struct hf_key *row, struct err *e)
{
    struct json_place at = { 0 };
    uint32_t u = (uint32_t)row->value;
    float f = (float)row->value;
    bool b = row->value != 0;
    int rc = row->fields ? hf_field(h, row->fields, &at, e) : 0;

    if (rc < 0 || hf_has(h, row->key) || (row->fields && !at.value))
        return rc;
    if (row->kind == 'u') {
        rc = row->fields ? hf_u32(h, row->fields, 0, &u, e) : 0;
        if (rc == 0)
            hf_put_u32(h, row->key, u);
    } else if (row->kind == 'f') {
        rc = row->fields ? hf_f32(h, row->fields, 0, &f, e) : 0;
        if (rc == 0)
            hf_put_f32(h, row->key, f);
    } else {
        rc = row->fields ? hf_bool(h, row->fields, false, &b, e) : 0;
        if (rc == 0)
            hf_put_bool(h, row->key, b);
    }
    return rc;
}

static int put_rows(struct hf *h, const struct hf_key *rows, struct err *e)
{
    int rc = 0;

    for (; rc == 0 && rows && rows->key; rows++)
        rc = put_row(h, rows, e);
    return rc;
}

/* ---- facts that tensors depend on ---- */

/* A size that must be there, 1..max. */
static int need_size(struct hf *h, const char *fields, uint32_t max, uint32_t *out, struct err *e)
{
    struct json_place at;
    uint64_t v;
    int rc = hf_field(h, fields, &at, e);

    if (rc < 0)
        return rc;
    if (!at.value) {
        char first[64];

        (void)next_word(fields, first);
        return json_refuse(&h->text, e, WATT_EFORMAT, "%s is missing", first);
    }
    rc = json_read_u64(&at, 1, max, &v, e);
    if (rc == 0)
        *out = (uint32_t)v;
    return rc;
}

static int get_size(struct hf *h, const char *fields, uint32_t max, uint32_t otherwise,
                    uint32_t *out, struct err *e)
{
    struct json_place at;
    int rc = hf_field(h, fields, &at, e);

    *out = otherwise;
    return rc == 0 && at.value ? need_size(h, fields, max, out, e) : rc;
}

#define LAYERS_FIELDS "num_hidden_layers|n_layer|n_layers|num_layers"

static int count_layers(struct hf *h, struct err *e)
{
    struct json_place at;
    size_t n;
    int rc = hf_field(h, LAYERS_FIELDS, &at, e);

    if (rc < 0 || at.value)
        return rc < 0 ? rc : need_size(h, LAYERS_FIELDS, MAX_LAYERS, &h->n_layers, e);
    rc = hf_field(h, "layers_block_type|layer_types", &at, e);
    if (rc < 0 || !at.value)
        return rc < 0 ? rc : need_size(h, LAYERS_FIELDS, MAX_LAYERS, &h->n_layers, e);
    rc = json_read_array(&at, MAX_LAYERS, &n, e);
    if (rc == 0 && n == 0)
        rc = json_refuse(&at, e, WATT_EFORMAT, "is empty");
    h->n_layers = (uint32_t)n;
    return rc;
}

static int read_facts(struct hf *h, struct err *e)
{
    int rc = count_layers(h, e);

    if (rc == 0)
        rc = need_size(h, "hidden_size|n_embd|d_model|dim", 1u << 20, &h->n_embd, e);
    if (rc == 0)
        rc = need_size(h, "vocab_size", 1u << 22, &h->n_vocab, e);
    if (rc == 0)
        rc = get_size(h, "num_attention_heads|n_head|n_heads", 1u << 16, 0, &h->n_heads, e);
    if (rc == 0)
        rc = get_size(h, "num_key_value_heads|n_kv_heads", 1u << 16, h->n_heads, &h->n_kv_heads,
                      e);
    if (rc == 0)
        rc = get_size(h, "head_dim|attention_head_dim|d_kv", 1u << 16, 0, &h->head_dim, e);
    if (rc == 0)
        rc = get_size(h, "num_local_experts|num_experts|n_routed_experts", 1u << 16, 0,
                      &h->n_experts, e);
    if (rc == 0)
        rc = get_size(h, common_keys[0].fields, 1u << 30, 2048, &h->n_ctx, e);
    if (rc == 0)
        rc = hf_bool(h, "tie_word_embeddings", false, &h->tied, e);
    if (rc < 0 || h->n_heads == 0)
        return rc;
    if (h->n_kv_heads > h->n_heads || h->n_heads % h->n_kv_heads != 0)
        return json_refuse(&h->text, e, WATT_EFORMAT, "num_attention_heads %" PRIu32 " is no "
                           "multiple of num_key_value_heads %" PRIu32, h->n_heads, h->n_kv_heads);
    if (h->head_dim == 0 || (h->family->flags & HF_NO_HEAD_DIM)) {
        if (h->n_embd % h->n_heads != 0)
            return json_refuse(&h->text, e, WATT_EFORMAT, "hidden_size %" PRIu32 " is no multiple "
                               "of num_attention_heads %" PRIu32 ", and there is no head_dim",
                               h->n_embd, h->n_heads);
        h->head_dim = h->n_embd / h->n_heads;
    }
    return 0;
}

/* The text of a field as JSON spells it, without quotes. */
static void spell(const json_t *v, char out[64])
{
    if (!v)
        out[0] = '\0';
    else if (json_is_string(v))
        (void)snprintf(out, 64, "%s", json_string_value(v));
    else if (json_is_boolean(v))
        (void)snprintf(out, 64, "%s", json_is_true(v) ? "true" : "false");
    else if (json_is_number(v))
        (void)snprintf(out, 64, "%g", json_number_value(v));
    else
        (void)snprintf(out, 64, "?");
}

static int check_one(const struct hf *h, const char *fields, const char *values, struct err *e)
{
    struct json_place at;
    char found[64], word[64];
    int rc = hf_field(h, fields, &at, e);

    if (rc < 0)
        return rc;
    spell(at.value, found);
    for (const char *next = values; next;) {
        next = next_word(next, word);
        if (strcmp(word, found) == 0)
            return 0;
    }
    if (!at.value) {
        (void)next_word(fields, word);
        return json_refuse(&h->text, e, WATT_EFORMAT, "%s is missing, expected one of %s", word,
                           values);
    }
    return json_refuse(&at, e, WATT_ENOTSUP, "is \"%s\", for %s known is %s", found,
                       h->class_name, values);
}

#define ACT_FIELDS \
    "hidden_activation|hidden_act|activation_function|mlp_hidden_act|activation|dense_act_fn"

/* "gelu" is the exact one, the others are its tanh form: GGUF has no key for that, so ours says
 * which. Gemma's first files say "gelu" and mean the other. */
static int put_gelu(struct hf *h, struct err *e)
{
    struct json_place act;
    int rc = hf_field(h, ACT_FIELDS, &act, e);
    const char *name = rc == 0 ? json_string_value(act.value) : NULL;

    if (name && strncmp(name, "gelu", 4) == 0)
        hf_put_str(h, "hidden_act", (h->family->flags & HF_TANH_GELU) || name[4] ? "gelu_tanh"
                                                                                  : "gelu");
    return rc;
}

static int check_values(struct hf *h, struct err *e)
{
    const struct hf_expect *x = h->family->expect;
    int rc = 0;

    if (h->family->acts)
        rc = check_one(h, ACT_FIELDS, h->family->acts, e);
    if (rc == 0)
        rc = put_gelu(h, e);
    for (; rc == 0 && x && x->fields; x++)
        rc = check_one(h, x->fields, x->values, e);
    return rc;
}

/* ---- all of it ---- */

static int put_norm_eps(struct hf *h, struct err *e)
{
    static const char fields[] = "rms_norm_eps|layer_norm_eps|layer_norm_epsilon|norm_epsilon|"
                                 "norm_eps|layernorm_epsilon";
    const char *key = h->family->flags & HF_LAYER_NORM ? "attention.layer_norm_epsilon"
                                                       : "attention.layer_norm_rms_epsilon";
    float eps;
    int rc;

    if (hf_has(h, key))
        return 0;
    rc = hf_f32(h, fields, h->family->flags & HF_LAYER_NORM ? 1e-5f : 1e-6f, &eps, e);
    if (rc == 0 && !(eps >= 0 && eps < 1))
        return json_refuse(&h->text, e, WATT_EFORMAT, "the norms' epsilon is %g, expected 0 to 1",
                           (double)eps);
    if (rc == 0)
        hf_put_f32(h, key, eps);
    return rc;
}

static int put_window(struct hf *h, struct err *e)
{
    uint32_t window;
    bool used;
    int rc = hf_bool(h, "use_sliding_window", true, &used, e);

    if (rc < 0 || !used || (h->family->flags & HF_NO_WINDOW) ||
        hf_has(h, "attention.sliding_window"))
        return rc;
    rc = hf_u32(h, "sliding_window", 0, &window, e);
    if (rc == 0 && window > 0)
        hf_put_u32(h, "attention.sliding_window", window);
    return rc;
}

static int put_heads(struct hf *h, struct err *e)
{
    struct json_place at;
    int rc = hf_field(h, "head_dim|attention_head_dim|d_kv", &at, e);

    if (rc < 0 || h->n_heads == 0)
        return rc;
    if (!hf_has(h, "attention.head_count"))
        hf_put_u32(h, "attention.head_count", h->n_heads);
    if (!hf_has(h, "attention.head_count_kv"))
        hf_put_u32(h, "attention.head_count_kv", h->n_kv_heads);
    if (!at.value || (h->family->flags & HF_NO_HEAD_DIM) || hf_has(h, "attention.key_length"))
        return 0;
    hf_put_u32(h, "attention.key_length", h->head_dim);
    hf_put_u32(h, "attention.value_length", h->head_dim);
    return 0;
}

int hf_keys(struct hf *h, struct err *e)
{
    int rc = read_facts(h, e);

    if (rc == 0)
        rc = check_values(h, e);
    if (rc < 0)
        return rc;
    hf_put_u32(h, "block_count", h->n_layers);
    hf_put_u32(h, "embedding_length", h->n_embd);
    hf_put_u32(h, "vocab_size", h->n_vocab);
    rc = put_rows(h, h->family->keys, e);
    if (rc == 0 && h->family->more)
        rc = h->family->more(h, e);
    if (rc == 0)
        rc = put_heads(h, e);
    if (rc == 0)
        rc = put_norm_eps(h, e);
    if (rc == 0)
        rc = put_window(h, e);
    if (rc == 0)
        rc = put_rows(h, common_keys, e);
    if (rc == 0 && !(h->family->flags & HF_NO_ROPE))
        rc = hf_rope(h, e);
    return rc;
}

float *hf_make(struct hf *h, const char *name, uint32_t n, struct err *e)
{
    struct hf_made *m = &h->made[h->n_made];

    CHECK(h->n_made < HF_MAX_MADE);
    m->data = mem_calloc(n, sizeof *m->data);
    if (!m->data) {
        (void)err_set(e, WATT_ENOMEM, "%s: out of memory", h->dir);
        return NULL;
    }
    (void)snprintf(m->name, sizeof m->name, "%s", name);
    m->n = n;
    h->n_made++;
    return m->data;
}

/* ---- the family ---- */

static int unknown(const struct hf *h, const struct json_place *at, const char *what,
                   const char *name, struct err *e)
{
    (void)h;
    return json_refuse(at, e, WATT_ENOTSUP, "%s is '%.60s', which is not among the %zu known "
                       "classes (docs/huggingface.md lists them)", what, name, N_FAMILIES);
}

static int find_family(struct hf *h, struct err *e)
{
    struct json_place classes, first;
    const char *name;
    bool by_class;
    size_t n;
    int rc = json_find(&h->root, "architectures", &classes, e);

    if (rc < 0)
        return rc;
    by_class = classes.value && json_count(&classes) > 0;
    if (by_class) {
        rc = json_read_array(&classes, 64, &n, e);
        if (rc < 0)
            return rc;
        first = json_item(&classes, 0);
    } else {
        rc = json_need(&h->root, "model_type", &first, e);
    }
    if (rc == 0)
        rc = json_read_cstr(&first, &name, e);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < N_FAMILIES; i++) {
        if (strcmp(by_class ? families[i].class_name : families[i].model_type, name) == 0) {
            h->family = families[i].family;
            h->class_name = families[i].class_name;
            return 0;
        }
    }
    return unknown(h, &h->root, by_class ? "architectures" : "model_type", name, e);
}

/* Python writes Infinity and NaN, which are no JSON: outside of strings they become numbers. */
static void tame_floats(char *s, size_t n)
{
    static const char *const words[] = { "-Infinity", "Infinity", "NaN" };
    static const char *const numbers[] = { "-1e38    ", "1e38    ", "0  " };
    bool in_string = false;

    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\\' && in_string) {
            i++;
            continue;
        }
        in_string ^= s[i] == '"';
        for (size_t k = 0; !in_string && k < 3; k++) {
            const size_t len = strlen(words[k]);

            if (n - i >= len && memcmp(s + i, words[k], len) == 0) {
                memcpy(s + i, numbers[k], len);
                i += len - 1;
                break;
            }
        }
    }
}

int hf_config_load(struct hf *h, struct err *e)
{
    const struct json_limits limits = { HF_MAX_CONFIG_BYTES, HF_MAX_DEPTH };
    char *bytes;
    size_t n;
    int rc = file_read(h->config_path, HF_MAX_CONFIG_BYTES, &bytes, &n, e);

    if (rc == WATT_ENOENT)
        return err_set(e, WATT_EINVAL, "%s: is a directory without config.json, so no model folder",
                       h->dir);
    if (rc < 0)
        return rc;
    tame_floats(bytes, n);
    rc = json_parse(&h->config, h->config_path, bytes, n, &limits, e);
    mem_free(bytes);
    if (rc < 0)
        return rc;
    h->root = json_root(h->config, h->config_path);
    rc = json_find(&h->root, "text_config", &h->text, e);
    if (rc == 0 && h->text.value && !json_is_object(h->text.value))
        rc = json_refuse(&h->text, e, WATT_EFORMAT, "expected an object");
    if (rc == 0 && !h->text.value)
        h->text = h->root;
    return rc == 0 ? find_family(h, e) : rc;
}
