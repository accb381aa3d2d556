/* tokenizer.c: the texts of a folder as tokenizer keys: vocabulary, ids with a role, template.
 *
 * The vocabulary is tokenizer.json's, else tokenizer.model's with the tokens that were added to it
 * (tokenizer_config.json, added_tokens.json). Ids with a role are those of tokenizer_config.json,
 * then of what the vocabulary's own file says, then of generation_config.json and config.json. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "models/hf/vocab.h"

#define PREFIX "tokenizer.ggml."

/* ---- a vocabulary ---- */

void hf_vocab_init(struct hf_vocab *v)
{
    *v = (struct hf_vocab){
        .bos = -1, .eos = -1, .unk = -1, .sep = -1, .pad = -1, .cls = -1, .mask = -1,
        .add_bos = -1, .add_eos = -1, .add_sep = -1, .add_space_prefix = -1, .remove_extra = -1,
        .lowercase = -1, .strip_accents = -1, .ignore_merges = -1, .nfc = -1,
    };
}

void hf_vocab_deinit(struct hf_vocab *v)
{
    mem_free(v->tokens);
    mem_free(v->scores);
    mem_free(v->kinds);
    mem_free(v->attrs);
    mem_free(v->pool);
    mem_free(v->merges);
    mem_free(v->charsmap);
    json_close(v->document);
    mem_free(v->bytes);
}

bool hf_vocab_room(struct hf_vocab *v, uint32_t n)
{
    uint32_t cap = v->cap ? v->cap : 1024;
    void *p;

    while (cap < n)
        cap *= 2;
    if (cap != v->cap) {
        if (!(p = mem_grow(v->tokens, cap, sizeof *v->tokens)))
            return false;
        v->tokens = p;
        if (!(p = mem_grow(v->scores, cap, sizeof *v->scores)))
            return false;
        v->scores = p;
        if (!(p = mem_grow(v->kinds, cap, sizeof *v->kinds)))
            return false;
        v->kinds = p;
        if (!(p = mem_grow(v->attrs, cap, sizeof *v->attrs)))
            return false;
        v->attrs = p;
        v->cap = cap;
    }
    for (; v->n < n; v->n++) {
        v->tokens[v->n] = (struct sv){ NULL, 0 };
        v->scores[v->n] = 0;
        v->kinds[v->n] = TOKEN_NORMAL;
        v->attrs[v->n] = 0;
    }
    return true;
}

int32_t hf_vocab_find(const struct hf_vocab *v, struct sv text)
{
    for (uint32_t i = 0; i < v->n; i++)
        if (v->tokens[i].data && sv_eq(v->tokens[i], text))
            return (int32_t)i;
    return -1;
}

/* ---- the folder's JSON files ---- */

static int no_memory(const struct hf *h, struct err *e)
{
    return err_set(e, WATT_ENOMEM, "%s: out of memory", h->dir);
}

/* A file of the folder; *bytes NULL: there is none. */
static int read_file(const struct hf *h, const char *name, size_t max, struct str *path,
                     char **bytes, size_t *n, struct err *e)
{
    int rc;

    *bytes = NULL;
    if (!hf_path(h, name, path))
        return no_memory(h, e);
    rc = file_read(str_cstr(path), max, bytes, n, e);
    return rc == WATT_ENOENT ? 0 : rc;
}

/* A JSON file; *out NULL: there is none. path keeps the name that places point at. */
static int read_json(const struct hf *h, const char *name, struct str *path, json_t **out,
                     struct err *e)
{
    const struct json_limits limits = { HF_MAX_TOKENIZER_BYTES, 64 };
    char *bytes;
    size_t n;
    int rc = read_file(h, name, HF_MAX_TOKENIZER_BYTES, path, &bytes, &n, e);

    *out = NULL;
    if (rc == 0 && bytes)
        rc = json_parse(out, str_cstr(path), bytes, n, &limits, e);
    mem_free(bytes);
    if (rc == 0 && *out && !json_is_object(*out))
        rc = err_set(e, WATT_EFORMAT, "%s: expected an object", str_cstr(path));
    return rc;
}

/* "<s>" or { "content": "<s>" } */
static struct sv token_text(const json_t *v)
{
    if (json_is_object(v))
        v = json_object_get(v, "content");
    return json_is_string(v) ? (struct sv){ json_string_value(v), json_string_length(v) }
                             : (struct sv){ NULL, 0 };
}

/* ---- ids with a role ---- */

static void role_from(struct hf_vocab *v, const json_t *config, const char *key, int32_t *id)
{
    const struct sv text = token_text(json_object_get(config, key));
    const int32_t found = text.data ? hf_vocab_find(v, text) : -1;

    if (found >= 0)
        *id = found;
}

static void read_roles(struct hf_vocab *v, const json_t *config)
{
    role_from(v, config, "bos_token", &v->bos);
    role_from(v, config, "eos_token", &v->eos);
    role_from(v, config, "unk_token", &v->unk);
    role_from(v, config, "sep_token", &v->sep);
    role_from(v, config, "pad_token", &v->pad);
    role_from(v, config, "cls_token", &v->cls);
    role_from(v, config, "mask_token", &v->mask);
}

/* added_tokens_decoder: { "32000": { "content": …, "special": … } } */
static int read_decoder(struct hf_vocab *v, const json_t *config, const char *path, struct err *e)
{
    json_t *list = json_object_get(config, "added_tokens_decoder"), *value;
    const char *key;

    json_object_foreach(list, key, value) {
        const struct sv text = token_text(value);
        char *end;
        const unsigned long id = strtoul(key, &end, 10);

        if (*end || !*key || id >= TOKENIZER_MAX_VOCAB || !text.data)
            return err_set(e, WATT_EFORMAT, "%s: added_tokens_decoder: '%.40s' is no id with "
                           "content", path, key);
        if (!hf_vocab_room(v, (uint32_t)id + 1))
            return err_set(e, WATT_ENOMEM, "%s: out of memory", path);
        if (v->tokens[id].data && sv_eq(v->tokens[id], text) && v->kinds[id] != TOKEN_NORMAL)
            continue;
        v->tokens[id] = text;
        v->kinds[id] = json_is_true(json_object_get(value, "special")) ? TOKEN_CONTROL
                                                                       : TOKEN_USER_DEFINED;
    }
    return 0;
}

/* added_tokens.json: { "<token>": id } */
static int read_added_file(struct hf_vocab *v, const json_t *list, const char *path, struct err *e)
{
    json_t *value;
    const char *key;

    json_object_foreach((json_t *)(uintptr_t)list, key, value) {
        const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;

        if (id < 0 || id >= TOKENIZER_MAX_VOCAB)
            return err_set(e, WATT_EFORMAT, "%s: '%.40s' has no id", path, key);
        if (!hf_vocab_room(v, (uint32_t)id + 1))
            return err_set(e, WATT_ENOMEM, "%s: out of memory", path);
        if (v->tokens[id].data)
            continue;
        v->tokens[id] = sv_cstr(key);
        v->kinds[id] = TOKEN_USER_DEFINED;
    }
    return 0;
}

/* ---- ends of a generation ---- */

#define MAX_ENDS 8

struct ends {
    uint32_t ids[MAX_ENDS];
    unsigned n;
};

static void read_ends(struct ends *ends, const json_t *v)
{
    for (size_t i = 0; i < (json_is_array(v) ? json_array_size(v) : 1); i++) {
        const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;

        if (json_is_integer(id) && json_integer_value(id) >= 0 &&
            json_integer_value(id) < TOKENIZER_MAX_VOCAB && ends->n < MAX_ENDS)
            ends->ids[ends->n++] = (uint32_t)json_integer_value(id);
    }
}

static void id_from(const struct hf *h, const char *field, int32_t *id)
{
    struct json_place at;

    if (*id < 0 && hf_field(h, field, &at, NULL) == 0 && json_is_integer(at.value) &&
        json_integer_value(at.value) >= 0 && json_integer_value(at.value) < TOKENIZER_MAX_VOCAB)
        *id = (int32_t)json_integer_value(at.value);
}

/* ---- keys ---- */

static void put_id(struct hf *h, const struct hf_vocab *v, const char *key, int32_t id)
{
    if (id >= 0 && (uint32_t)id < v->n)
        gguf_make_u32(h->out, key, (uint32_t)id);
}

static void put_flag(struct hf *h, const char *key, int flag)
{
    if (flag >= 0)
        gguf_make_bool(h->out, key, flag == 1);
}

static void put_roles(struct hf *h, struct hf_vocab *v, const struct ends *ends)
{
    static const char *const more[] = { PREFIX "eot_token_id", PREFIX "eom_token_id" };
    unsigned n = 0;

    if (v->eos < 0 && ends->n > 0)
        v->eos = (int32_t)ends->ids[0];
    id_from(h, "bos_token_id", &v->bos);
    id_from(h, "eos_token_id", &v->eos);
    id_from(h, "pad_token_id", &v->pad);
    put_id(h, v, PREFIX "bos_token_id", v->bos);
    put_id(h, v, PREFIX "eos_token_id", v->eos);
    put_id(h, v, PREFIX "unknown_token_id", v->unk);
    put_id(h, v, PREFIX "seperator_token_id", v->sep);
    put_id(h, v, PREFIX "padding_token_id", v->pad);
    put_id(h, v, PREFIX "cls_token_id", v->cls);
    put_id(h, v, PREFIX "mask_token_id", v->mask);
    for (unsigned i = 0; i < ends->n && n < 2; i++)
        if ((int32_t)ends->ids[i] != v->eos && ends->ids[i] < v->n)
            put_id(h, v, more[n++], (int32_t)ends->ids[i]);
    if (v->add_bos == 1 && v->bos < 0)
        v->add_bos = -1;
    if (v->add_eos == 1 && v->eos < 0)
        v->add_eos = -1;
}

/* As many tokens as the embedding has rows: the missing ones are padding. */
static int fit_to_rows(struct hf *h, struct hf_vocab *v, struct err *e)
{
    const uint32_t known = v->n;
    uint32_t n_missing = 0;
    char *pool, *to;

    if (v->n > h->n_vocab) {
        hf_warn(h, "%" PRIu32 " tokens have no row in the embedding of %" PRIu32, v->n - h->n_vocab,
                h->n_vocab);
        v->n = h->n_vocab;
    }
    if (!hf_vocab_room(v, h->n_vocab))
        return no_memory(h, e);
    for (uint32_t i = 0; i < v->n; i++)
        n_missing += !v->tokens[i].data;
    if (n_missing == 0)
        return 0;
    pool = mem_array(n_missing, 20);
    if (!pool)
        return no_memory(h, e);
    to = pool;
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->tokens[i].data)
            continue;
        v->tokens[i] = (struct sv){ to, (size_t)snprintf(to, 20, "[PAD%" PRIu32 "]", i) };
        v->kinds[i] = TOKEN_UNUSED;
        v->scores[i] = -10000;
        to += 20;
    }
    (void)known;
    v->bytes = pool;
    return 0;
}

static int put_vocab(struct hf *h, struct hf_vocab *v, const struct ends *ends, struct err *e)
{
    int rc = fit_to_rows(h, v, e);

    if (rc < 0)
        return rc;
    gguf_make_str(h->out, PREFIX "model", sv_cstr(v->model));
    gguf_make_str(h->out, PREFIX "pre", sv_cstr(v->pre[0] ? v->pre : "default"));
    gguf_make_strs(h->out, PREFIX "tokens", v->tokens, v->n);
    if (v->has_scores)
        gguf_make_array(h->out, PREFIX "scores", GGUF_F32, v->scores, v->n);
    gguf_make_array(h->out, PREFIX "token_type", GGUF_I32, v->kinds, v->n);
    if (v->n_merges)
        gguf_make_strs(h->out, PREFIX "merges", v->merges, v->n_merges);
    if (v->n_charsmap)
        gguf_make_array(h->out, PREFIX "precompiled_charsmap", GGUF_U8, v->charsmap,
                        v->n_charsmap);
    put_roles(h, v, ends);
    put_flag(h, PREFIX "add_bos_token", v->add_bos);
    put_flag(h, PREFIX "add_eos_token", v->add_eos);
    put_flag(h, PREFIX "add_space_prefix", v->add_space_prefix);
    put_flag(h, PREFIX "remove_extra_whitespaces", v->remove_extra);
    put_flag(h, PREFIX "normalizer.lowercase", v->lowercase);
    put_flag(h, PREFIX "normalizer.strip_accents", v->strip_accents);
    /* what GGUF has no keys for */
    put_flag(h, "watt.tokenizer.ignore_merges", v->ignore_merges);
    put_flag(h, "watt.tokenizer.nfc", v->nfc);
    if (v->has_attrs)
        gguf_make_array(h->out, "watt.tokenizer.attrs", GGUF_U8, v->attrs, v->n);
    if (v->n_patterns)
        gguf_make_strs(h->out, "watt.tokenizer.patterns", v->patterns, v->n_patterns);
    return 0;
}

/* ---- template ---- */

/* A text, or a list of { name, template }, of which "default" is taken. */
static struct sv template_text(const json_t *v)
{
    for (size_t i = 0; json_is_array(v) && i < json_array_size(v); i++) {
        const json_t *item = json_array_get(v, i);
        const char *name = json_string_value(json_object_get(item, "name"));

        if (name && strcmp(name, "default") == 0)
            return template_text(json_object_get(item, "template"));
    }
    return json_is_string(v) ? (struct sv){ json_string_value(v), json_string_length(v) }
                             : (struct sv){ NULL, 0 };
}

static int put_template(struct hf *h, const json_t *config, struct err *e)
{
    static const size_t max = (size_t)1 << 20;
    struct sv text = template_text(json_object_get(config, "chat_template"));
    struct str path;
    json_t *document = NULL;
    char *bytes;
    size_t n;
    int rc;

    str_init(&path, 0);
    rc = read_file(h, "chat_template.jinja", max, &path, &bytes, &n, e);
    if (rc == 0 && bytes)
        text = (struct sv){ bytes, n };
    else if (rc == 0 && !text.data)
        rc = read_json(h, "chat_template.json", &path, &document, e);
    if (document)
        text = template_text(json_object_get(document, "chat_template"));
    if (rc == 0 && text.data)
        gguf_make_str(h->out, "tokenizer.chat_template", text);
    mem_free(bytes);
    json_close(document);
    str_deinit(&path);
    return rc;
}

/* ---- all of it ---- */

static int read_vocab(struct hf *h, struct hf_vocab *v, struct str *path, char **kept,
                      struct err *e)
{
    size_t n;
    int rc = read_file(h, "tokenizer.json", HF_MAX_TOKENIZER_BYTES, path, kept, &n, e);

    if (rc == 0 && *kept)
        return hf_read_tokenizer_json(h, v, str_cstr(path), *kept, n, e);
    if (rc == 0)
        rc = read_file(h, "tokenizer.model", HF_MAX_TOKENIZER_BYTES, path, kept, &n, e);
    if (rc == 0 && *kept)
        return hf_read_sentencepiece(v, str_cstr(path), (const uint8_t *)*kept, n, e);
    return rc;
}

/* Beside tokenizer.model: tokens that were added to it, and whether bos is put in front. */
static int read_additions(struct hf *h, struct hf_vocab *v, const json_t *config,
                          json_t **added, const char *config_path, struct err *e)
{
    const json_t *bos = json_object_get(config, "add_bos_token");
    const json_t *eos = json_object_get(config, "add_eos_token");
    struct str path;
    int rc;

    str_init(&path, 0);
    rc = read_json(h, "added_tokens.json", &path, added, e);
    if (rc == 0 && config)
        rc = read_decoder(v, config, config_path, e);
    if (rc == 0 && *added)
        rc = read_added_file(v, *added, str_cstr(&path), e);
    str_deinit(&path);
    if (json_is_boolean(bos))
        v->add_bos = json_is_true(bos);
    if (json_is_boolean(eos))
        v->add_eos = json_is_true(eos);
    return rc;
}

int hf_tokenizer(struct hf *h, struct err *e)
{
    json_t *config = NULL, *special = NULL, *generation = NULL, *added = NULL;
    struct str path, config_path;
    struct hf_vocab v;
    struct ends ends = { 0 };
    char *kept = NULL;
    int rc;

    hf_vocab_init(&v);
    str_init(&path, 0);
    str_init(&config_path, 0);
    rc = read_json(h, "tokenizer_config.json", &config_path, &config, e);
    if (rc == 0)
        rc = read_json(h, "special_tokens_map.json", &path, &special, e);
    if (rc == 0)
        rc = read_json(h, "generation_config.json", &path, &generation, e);
    if (rc == 0)
        rc = put_template(h, config, e);
    if (rc == 0)
        rc = read_vocab(h, &v, &path, &kept, e);
    if (rc == 0 && v.model && !v.document)
        rc = read_additions(h, &v, config, &added, str_cstr(&config_path), e);
    if (rc == 0 && v.model) {
        read_roles(&v, special);
        read_roles(&v, config);
        read_ends(&ends, json_object_get(generation, "eos_token_id"));
        rc = put_vocab(h, &v, &ends, e);
    }
    if (rc == 0 && !v.model) {
        /* ids mean something even without texts */
        gguf_make_str(h->out, PREFIX "model", SV("no_vocab"));
        put_roles(h, &(struct hf_vocab){ .bos = -1, .eos = -1, .unk = -1, .sep = -1, .pad = -1,
                                         .cls = -1, .mask = -1, .n = h->n_vocab }, &ends);
    }
    hf_vocab_deinit(&v);
    json_close(config);
    json_close(special);
    json_close(generation);
    json_close(added);
    mem_free(kept);
    str_deinit(&path);
    str_deinit(&config_path);
    return rc;
}
