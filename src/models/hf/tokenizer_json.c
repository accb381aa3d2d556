/* tokenizer_json.c: tokenizer.json of Hugging Face's tokenizers: BPE (byte-level, or SentencePiece's
 * with byte fallback), Unigram and WordPiece; the normalisers, post-processors and added tokens
 * that change ids. What a pre-tokenizer means is found in pretokenizer.c. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "models/hf/vocab.h"

#define SPACE_MARK "\xE2\x96\x81"

static int no_memory(const struct json_place *root, struct err *e)
{
    return err_set(e, WATT_ENOMEM, "%s: out of memory", root->key);
}

/* ---- steps: normalisers and others are a tree of sequences ---- */

/* The element called type anywhere in a tree of Sequence; value NULL: none. */
static int find_step(const struct json_place *at, const char *list, const char *type,
                     struct json_place *out, unsigned depth, struct err *e)
{
    struct json_place steps;
    const char *name;
    int rc = json_get_cstr(at, "type", "", &name, e);

    out->value = NULL;
    if (rc < 0)
        return rc;
    if (strcmp(name, type) == 0) {
        *out = *at;
        return 0;
    }
    if (strcmp(name, "Sequence") != 0 || depth == 0)
        return 0;
    rc = json_find(at, list, &steps, e);
    for (size_t i = 0; rc == 0 && steps.value && i < json_count(&steps) && !out->value; i++) {
        const struct json_place step = json_item(&steps, i);

        rc = json_is_object(step.value) ? find_step(&step, list, type, out, depth - 1, e) : 0;
    }
    /* the places on the way are on this stack: messages name the file alone */
    if (out->value)
        out->parent = NULL, out->key = at->parent ? at->parent->key : at->key;
    return rc;
}

static int section(const struct json_place *root, const char *name, struct json_place *out,
                   struct err *e)
{
    int rc = json_find(root, name, out, e);

    if (rc == 0 && out->value && !json_is_object(out->value))
        return json_refuse(out, e, WATT_EFORMAT, "expected an object");
    return rc;
}

static int has_step(const struct json_place *root, const char *name, const char *list,
                    const char *type, bool *out, struct err *e)
{
    struct json_place at, step = { 0 };
    int rc = section(root, name, &at, e);

    if (rc == 0 && at.value)
        rc = find_step(&at, list, type, &step, 8, e);
    *out = step.value != NULL;
    return rc;
}

/* ---- the model's vocabulary ---- */

static int read_vocab_object(struct hf_vocab *v, const struct json_place *vocab, struct err *e)
{
    const char *key;
    json_t *value;

    if (json_count(vocab) > TOKENIZER_MAX_VOCAB)
        return json_refuse(vocab, e, WATT_ELIMIT, "%zu tokens, more than %u", json_count(vocab),
                           TOKENIZER_MAX_VOCAB);
    json_object_foreach((json_t *)(uintptr_t)vocab->value, key, value) {
        const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;

        if (id < 0 || id >= TOKENIZER_MAX_VOCAB)
            return json_refuse(vocab, e, WATT_EFORMAT, "the id of \"%.40s\" is no number in 0 to "
                               "%u", key, TOKENIZER_MAX_VOCAB - 1);
        if (!hf_vocab_room(v, (uint32_t)id + 1))
            return no_memory(vocab, e);
        if (v->tokens[id].data)
            return json_refuse(vocab, e, WATT_EFORMAT, "id %lld is both \"%.40s\" and \"%.40s\"",
                               (long long)id, v->tokens[id].data, key);
        v->tokens[id] = sv_cstr(key);
    }
    return 0;
}

static int read_vocab_list(struct hf_vocab *v, const struct json_place *vocab, struct err *e)
{
    size_t n;
    int rc = json_read_array(vocab, TOKENIZER_MAX_VOCAB, &n, e);

    if (rc < 0)
        return rc;
    if (!hf_vocab_room(v, (uint32_t)n))
        return no_memory(vocab, e);
    for (size_t i = 0; i < n; i++) {
        const struct json_place pair = json_item(vocab, i);
        const json_t *text = json_array_get(pair.value, 0), *score = json_array_get(pair.value, 1);

        if (json_count(&pair) != 2 || !json_is_string(text) || !json_is_number(score))
            return json_refuse(&pair, e, WATT_EFORMAT, "expected a text and a score");
        v->tokens[i] = (struct sv){ json_string_value(text), json_string_length(text) };
        v->scores[i] = (float)json_number_value(score);
    }
    v->has_scores = true;
    return 0;
}

/* "left right" or ["left", "right"], best first; the second form is joined in the pool. */
static int read_merges(struct hf_vocab *v, const struct json_place *model, struct err *e)
{
    struct json_place list;
    size_t n = 0, bytes = 0;
    int rc = json_find(model, "merges", &list, e);

    if (rc == 0 && list.value)
        rc = json_read_array(&list, TOKENIZER_MAX_MERGES, &n, e);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < n; i++) {
        const struct json_place m = json_item(&list, i);

        if (json_is_array(m.value) && json_count(&m) == 2)
            bytes += json_string_length(json_array_get(m.value, 0)) +
                     json_string_length(json_array_get(m.value, 1)) + 1;
    }
    v->merges = mem_array(n ? n : 1, sizeof *v->merges);
    v->pool = mem_alloc(bytes + 1);
    if (!v->merges || !v->pool)
        return no_memory(model, e);
    for (size_t i = 0; i < n; i++) {
        const struct json_place m = json_item(&list, i);
        const json_t *left = json_array_get(m.value, 0), *right = json_array_get(m.value, 1);
        char *to = v->pool + v->pool_used;

        if (json_is_string(m.value)) {
            v->merges[i] = (struct sv){ json_string_value(m.value), json_string_length(m.value) };
            continue;
        }
        if (json_count(&m) != 2 || !json_is_string(left) || !json_is_string(right))
            return json_refuse(&m, e, WATT_EFORMAT, "expected two texts");
        memcpy(to, json_string_value(left), json_string_length(left));
        to[json_string_length(left)] = ' ';
        memcpy(to + json_string_length(left) + 1, json_string_value(right),
               json_string_length(right));
        v->merges[i] = (struct sv){ to, json_string_length(left) + 1 + json_string_length(right) };
        v->pool_used += v->merges[i].len;
    }
    v->n_merges = (uint32_t)n;
    return 0;
}

/* ---- added tokens ---- */

static int read_added(struct hf_vocab *v, const struct json_place *root, struct err *e)
{
    struct json_place list, item;
    size_t n = 0;
    int rc = json_find(root, "added_tokens", &list, e);

    if (rc == 0 && list.value)
        rc = json_read_array(&list, TOKENIZER_MAX_VOCAB, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct json_place at;
        struct sv text = { 0 };
        uint64_t id = 0;
        bool special = false, left = false, right = false, word = false;

        item = json_item(&list, i);
        rc = json_need(&item, "id", &at, e);
        if (rc == 0)
            rc = json_read_u64(&at, 0, TOKENIZER_MAX_VOCAB - 1, &id, e);
        if (rc == 0)
            rc = json_need(&item, "content", &at, e);
        if (rc == 0)
            rc = json_read_str(&at, &text, e);
        if (rc == 0)
            rc = json_get_bool(&item, "special", false, &special, e);
        if (rc == 0)
            rc = json_get_bool(&item, "lstrip", false, &left, e);
        if (rc == 0)
            rc = json_get_bool(&item, "rstrip", false, &right, e);
        if (rc == 0)
            rc = json_get_bool(&item, "single_word", false, &word, e);
        if (rc < 0)
            break;
        if (!hf_vocab_room(v, (uint32_t)id + 1))
            return no_memory(root, e);
        v->tokens[id] = text;
        if (v->kinds[id] != TOKEN_UNKNOWN)
            v->kinds[id] = special ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
        v->attrs[id] = (uint8_t)((left ? TOKEN_LSTRIP : 0) | (right ? TOKEN_RSTRIP : 0) |
                                 (word ? TOKEN_SINGLE_WORD : 0));
        v->has_attrs |= v->attrs[id] != 0;
    }
    return rc;
}

/* ---- what the post-processor puts around a text ---- */

static int template_ends(struct hf_vocab *v, const struct json_place *step, struct err *e)
{
    struct json_place list, inner, id;
    size_t n = 0, text = SIZE_MAX;
    const char *name;
    int rc = json_find(step, "single", &list, e);

    if (rc == 0 && list.value)
        rc = json_read_array(&list, 64, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&list, i);
        int32_t token;

        rc = json_find(&item, "SpecialToken", &inner, e);
        if (rc < 0)
            break;
        if (!inner.value) {
            text = i;
            continue;
        }
        rc = json_need(&inner, "id", &id, e);
        if (rc == 0)
            rc = json_read_cstr(&id, &name, e);
        if (rc < 0)
            break;
        token = hf_vocab_find(v, sv_cstr(name));
        if (token < 0)
            return json_refuse(&id, e, WATT_EFORMAT, "\"%.40s\" is no token", name);
        if (text == SIZE_MAX) {
            v->add_bos = 1;
            v->bos = token;
        } else {
            v->add_eos = 1;
            v->eos = token;
        }
    }
    return rc;
}

static int read_post_processor(struct hf_vocab *v, const struct json_place *root, struct err *e)
{
    static const char *const pairs[] = { "RobertaProcessing", "BertProcessing" };
    struct json_place at, step = { 0 };
    int rc = section(root, "post_processor", &at, e);

    v->add_bos = v->add_eos = 0;
    if (rc < 0 || !at.value)
        return rc;
    rc = find_step(&at, "processors", "TemplateProcessing", &step, 8, e);
    if (rc == 0 && step.value)
        return template_ends(v, &step, e);
    for (size_t i = 0; rc == 0 && i < 2 && !step.value; i++)
        rc = find_step(&at, "processors", pairs[i], &step, 8, e);
    if (rc == 0 && step.value) {
        const json_t *cls = json_array_get(json_object_get(step.value, "cls"), 1);
        const json_t *sep = json_array_get(json_object_get(step.value, "sep"), 1);

        if (!json_is_integer(cls) || !json_is_integer(sep) || json_integer_value(cls) < 0 ||
            json_integer_value(sep) < 0 || json_integer_value(cls) >= v->n ||
            json_integer_value(sep) >= v->n)
            return json_refuse(&at, e, WATT_EFORMAT, "cls and sep are no tokens");
        v->add_bos = v->add_eos = 1;
        v->bos = (int32_t)json_integer_value(cls);
        v->eos = (int32_t)json_integer_value(sep);
    }
    return rc;
}

/* ---- kinds of models ---- */

/* SentencePiece BPE merges what gives the best piece; files here say which pairs merge. A piece's
 * score is the place of the first pair that makes it. */
static int scores_of_merges(struct hf_vocab *v, const struct json_place *root, struct err *e)
{
    struct map ids;
    struct str joined;
    int rc = map_init(&ids, MAP_MAX_ENTRIES, e);

    if (rc < 0)
        return rc;
    str_init(&joined, 0);
    for (uint32_t i = 0; rc == 0 && i < v->n; i++) {
        v->scores[i] = -1e9f;
        if (v->tokens[i].data)
            rc = map_put(&ids, v->tokens[i], i, e);
    }
    for (uint32_t i = 0; rc == 0 && i < v->n_merges; i++) {
        const struct sv m = v->merges[i];
        const char *space = memchr(m.data, ' ', m.len);
        uint64_t id;

        str_reset(&joined);
        if (space)
            str_append(&joined, m.data, (size_t)(space - m.data));
        if (space)
            str_append(&joined, space + 1, m.len - (size_t)(space + 1 - m.data));
        if (!str_ok(&joined))
            rc = no_memory(root, e);
        else if (!space || !map_get(&ids, sv_of(&joined), &id))
            rc = err_set(e, WATT_EFORMAT, "%s: model.merges[%" PRIu32 "] makes no token", root->key,
                         i);
        else if (v->scores[id] < -(float)i)
            v->scores[id] = -(float)i;
    }
    str_deinit(&joined);
    map_deinit(&ids);
    v->has_scores = true;
    v->n_merges = 0;
    return rc;
}

static void mark_bytes(struct hf_vocab *v)
{
    static const char hex[] = "0123456789ABCDEF";

    for (uint32_t i = 0; i < v->n; i++) {
        const struct sv t = v->tokens[i];

        if (t.data && t.len == 6 && memcmp(t.data, "<0x", 3) == 0 && t.data[5] == '>' &&
            memchr(hex, t.data[3], 16) && memchr(hex, t.data[4], 16) &&
            v->kinds[i] == TOKEN_NORMAL)
            v->kinds[i] = TOKEN_BYTE;
    }
}

/* Does a space go in front of a text? From the normaliser Prepend or the pre-tokenizer Metaspace. */
static int read_space_prefix(struct hf_vocab *v, const struct json_place *root, struct err *e)
{
    struct json_place at, step = { 0 };
    const char *scheme;
    bool prepend, add;
    int rc = has_step(root, "normalizer", "normalizers", "Prepend", &prepend, e);

    v->add_space_prefix = prepend;
    if (rc == 0)
        rc = section(root, "pre_tokenizer", &at, e);
    if (rc == 0 && at.value)
        rc = find_step(&at, "pretokenizers", "Metaspace", &step, 8, e);
    if (rc < 0 || !step.value)
        return rc;
    rc = json_get_bool(&step, "add_prefix_space", true, &add, e);
    if (rc == 0)
        rc = json_get_cstr(&step, "prepend_scheme", add ? "always" : "never", &scheme, e);
    if (rc == 0)
        v->add_space_prefix = strcmp(scheme, "never") != 0;
    return rc;
}

static int read_unknown(struct hf_vocab *v, const struct json_place *model, struct err *e)
{
    struct json_place at;
    uint64_t id;
    struct sv text;
    int rc = json_find(model, "unk_id", &at, e);

    if (rc == 0 && at.value) {
        rc = json_read_u64(&at, 0, v->n ? v->n - 1 : 0, &id, e);
        if (rc == 0)
            v->unk = (int32_t)id;
    } else if (rc == 0) {
        rc = json_find(model, "unk_token", &at, e);
        if (rc == 0 && at.value) {
            rc = json_read_str(&at, &text, e);
            if (rc == 0)
                v->unk = hf_vocab_find(v, text);
        }
    }
    if (rc == 0 && v->unk >= 0)
        v->kinds[v->unk] = TOKEN_UNKNOWN;
    return rc;
}

static int base64_value(char c)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) : -1;
}

static int read_charsmap(struct hf_vocab *v, const struct json_place *root, struct err *e)
{
    struct json_place at, step = { 0 }, map;
    struct sv text;
    uint32_t bits = 0;
    unsigned have = 0;
    int rc = section(root, "normalizer", &at, e);

    if (rc == 0 && at.value)
        rc = find_step(&at, "normalizers", "Precompiled", &step, 8, e);
    if (rc < 0 || !step.value)
        return rc;
    rc = json_find(&step, "precompiled_charsmap", &map, e);
    if (rc < 0 || !map.value)
        return rc;
    rc = json_read_str(&map, &text, e);
    if (rc < 0)
        return rc;
    v->charsmap = mem_alloc(text.len / 4 * 3 + 3);
    if (!v->charsmap)
        return no_memory(root, e);
    for (size_t i = 0; i < text.len && text.data[i] != '='; i++) {
        const int digit = base64_value(text.data[i]);

        if (digit < 0)
            return json_refuse(&map, e, WATT_EFORMAT, "is no base64 at character %zu", i);
        bits = bits << 6 | (uint32_t)digit;
        have += 6;
        if (have >= 8) {
            have -= 8;
            v->charsmap[v->n_charsmap++] = (uint8_t)(bits >> have);
        }
    }
    return 0;
}

static int finish_sentence(const struct hf *h, struct hf_vocab *v, const struct json_place *root,
                           bool unigram, struct err *e)
{
    bool squeeze;
    int rc = read_space_prefix(v, root, e);

    (void)h;
    mark_bytes(v);
    if (rc == 0 && unigram)
        rc = read_charsmap(v, root, e);
    if (rc == 0 && unigram)     /* Replace of several spaces by one */
        rc = has_step(root, "normalizer", "normalizers", "Replace", &squeeze, e);
    if (rc == 0 && unigram)
        v->remove_extra = squeeze;
    if (rc == 0 && !unigram)
        rc = scores_of_merges(v, root, e);
    v->model = unigram ? "t5" : "llama";
    (void)snprintf(v->pre, sizeof v->pre, "default");
    return rc;
}

/* A word's first piece is stored with a space in front, the others without "##". */
static int finish_wordpiece(struct hf_vocab *v, const struct json_place *root,
                            const struct json_place *model, struct err *e)
{
    struct json_place at, step = { 0 };
    const char *prefix;
    bool lowercase = false, strip = false;
    size_t bytes = 0, n;
    int rc = json_get_cstr(model, "continuing_subword_prefix", "##", &prefix, e);

    if (rc == 0)
        rc = section(root, "normalizer", &at, e);
    if (rc == 0 && at.value)
        rc = find_step(&at, "normalizers", "BertNormalizer", &step, 8, e);
    if (rc == 0 && step.value)
        rc = json_get_bool(&step, "lowercase", true, &lowercase, e);
    if (rc == 0 && step.value)
        rc = json_get_bool(&step, "strip_accents", lowercase, &strip, e);
    if (rc < 0)
        return rc;
    n = strlen(prefix);
    for (uint32_t i = 0; i < v->n; i++)
        bytes += v->tokens[i].len + 3;
    mem_free(v->pool);
    v->pool = mem_alloc(bytes + 1);
    v->pool_used = 0;
    if (!v->pool)
        return no_memory(root, e);
    for (uint32_t i = 0; i < v->n; i++) {
        struct sv *t = &v->tokens[i];
        char *to = v->pool + v->pool_used;

        if (!t->data || v->kinds[i] != TOKEN_NORMAL)
            continue;
        if (n > 0 && sv_starts(*t, sv_cstr(prefix)) && t->len > n) {
            t->data += n;
            t->len -= n;
            continue;
        }
        memcpy(to, SPACE_MARK, 3);
        memcpy(to + 3, t->data, t->len);
        *t = (struct sv){ to, t->len + 3 };
        v->pool_used += t->len;
    }
    v->lowercase = lowercase;
    v->strip_accents = strip;
    v->add_bos = v->add_eos = -1;
    v->model = "bert";
    return 0;
}

static int finish_bpe(const struct hf *h, struct hf_vocab *v, const struct json_place *root,
                      const struct json_place *model, struct err *e)
{
    bool fallback, nfc, ignore;
    int rc = json_get_bool(model, "byte_fallback", false, &fallback, e);

    if (rc < 0)
        return rc;
    if (fallback)
        return finish_sentence(h, v, root, false, e);
    rc = has_step(root, "normalizer", "normalizers", "NFC", &nfc, e);
    if (rc == 0)
        rc = json_get_bool(model, "ignore_merges", false, &ignore, e);
    if (rc < 0)
        return rc;
    v->model = "gpt2";
    v->nfc = nfc;
    v->ignore_merges = ignore;
    return hf_read_pretokenizer(h, v, root, e);
}

static int read_model(struct hf_vocab *v, const struct json_place *model, const char **type,
                      struct err *e)
{
    struct json_place vocab;
    int rc = json_need(model, "vocab", &vocab, e);

    if (rc < 0)
        return rc;
    rc = json_is_array(vocab.value) ? read_vocab_list(v, &vocab, e)
       : json_is_object(vocab.value) ? read_vocab_object(v, &vocab, e)
       : json_refuse(&vocab, e, WATT_EFORMAT, "expected an object or a list");
    if (rc == 0)
        rc = read_merges(v, model, e);
    /* older files don't say the type */
    if (rc == 0)
        rc = json_get_cstr(model, "type", json_is_array(vocab.value) ? "Unigram"
                           : json_object_get(model->value, "merges") ? "BPE" : "WordPiece", type,
                           e);
    return rc;
}

int hf_read_tokenizer_json(const struct hf *h, struct hf_vocab *v, const char *name,
                           const char *bytes, size_t n, struct err *e)
{
    const struct json_limits limits = { HF_MAX_TOKENIZER_BYTES, 64 };
    struct json_place root, model;
    const char *type;
    int rc = json_parse(&v->document, name, bytes, n, &limits, e);

    if (rc < 0)
        return rc;
    root = json_root(v->document, name);
    rc = json_need(&root, "model", &model, e);
    if (rc == 0)
        rc = read_model(v, &model, &type, e);
    if (rc == 0)
        rc = read_unknown(v, &model, e);
    if (rc == 0)
        rc = read_added(v, &root, e);
    if (rc == 0)
        rc = read_post_processor(v, &root, e);
    if (rc < 0)
        return rc;
    if (strcmp(type, "BPE") == 0)
        return finish_bpe(h, v, &root, &model, e);
    if (strcmp(type, "Unigram") == 0)
        return finish_sentence(h, v, &root, true, e);
    if (strcmp(type, "WordPiece") == 0)
        return finish_wordpiece(v, &root, &model, e);
    return json_refuse(&model, e, WATT_ENOTSUP, "type is '%.40s', known are BPE, Unigram, WordPiece",
                       type);
}
