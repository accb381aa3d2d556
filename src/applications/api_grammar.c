/* api_grammar.c: from a request's fields to a grammar, kept under its source. */
#include "applications/api_grammar.h"

#include <pthread.h>
#include <string.h>

#include "base/mem.h"
#include "models/grammar/token_source.h"

enum kind { KIND_SCHEMA, KIND_REGEX, KIND_GBNF, KIND_CHOICE, KIND_OBJECT };

struct kept {
    char                 *key;          /* kind and source */
    size_t                n_key;
    struct grammar_masks *masks;
    uint64_t              used;
};

struct api_grammars {
    const struct tokenizer *t;
    struct token_trie      *trie;       /* under mu until made */
    pthread_mutex_t         mu;
    struct kept             kept[API_GRAMMARS_KEPT];    /* under mu */
    uint64_t                clock;                      /* under mu */
};

int api_grammars_open(struct api_grammars **out, const struct tokenizer *t, struct err *e)
{
    struct api_grammars *g = mem_calloc(1, sizeof *g);

    if (!g)
        return err_set(e, WATT_ENOMEM, "grammars");
    g->t = t;
    pthread_mutex_init(&g->mu, NULL);
    *out = g;
    return 0;
}

void api_grammars_close(struct api_grammars *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < API_GRAMMARS_KEPT; i++) {
        mem_free(g->kept[i].key);
        grammar_masks_close(g->kept[i].masks);
    }
    token_trie_close(g->trie);
    pthread_mutex_destroy(&g->mu);
    mem_free(g);
}

static int compile(struct grammar **out, enum kind kind, const json_t *v, struct err *e)
{
    const size_t n = json_array_size(v);
    struct sv *list;
    int rc;

    switch (kind) {
    case KIND_SCHEMA:
        return grammar_from_schema(out, v, NULL, e);
    case KIND_OBJECT:
        return grammar_any_json(out, true, false, e);
    case KIND_REGEX:
        return grammar_from_regex(out, (struct sv){ json_string_value(v), json_string_length(v) }, e);
    case KIND_GBNF:
        return grammar_from_gbnf(out, (struct sv){ json_string_value(v), json_string_length(v) }, e);
    case KIND_CHOICE:
        break;
    }
    list = mem_array(n ? n : 1, sizeof *list);
    if (!list)
        return err_set(e, WATT_ENOMEM, "choice");
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(v, i);

        if (!json_is_string(x)) {
            mem_free(list);
            return err_set(e, WATT_EINVAL, "choice: entry %zu is no string", i);
        }
        list[i] = (struct sv){ json_string_value(x), json_string_length(x) };
    }
    rc = grammar_from_choices(out, list, n, e);
    mem_free(list);
    return rc;
}

static int put_key(struct str *key, enum kind kind, const json_t *v, struct err *e)
{
    size_t n;

    str_putc(key, (char)('0' + (int)kind));
    if (v) {
        n = json_dumpb(v, NULL, 0, JSON_ENCODE_ANY | JSON_COMPACT);
        if (n == 0 || !str_reserve(key, n))
            return err_set(e, WATT_ENOMEM, "grammar");
        key->len += json_dumpb(v, key->data + key->len, n, JSON_ENCODE_ANY | JSON_COMPACT);
    }
    return str_ok(key) ? 0 : err_set(e, WATT_ENOMEM, "grammar");
}

/* With the lock held: the one under this key, else NULL and *place is where one may go. */
static struct grammar_masks *known(struct api_grammars *g, const struct str *key,
                                   struct kept **place)
{
    *place = &g->kept[0];
    for (size_t i = 0; i < API_GRAMMARS_KEPT; i++) {
        struct kept *k = &g->kept[i];

        if (k->key && k->n_key == key->len && memcmp(k->key, key->data, key->len) == 0) {
            k->used = ++g->clock;
            return k->masks;
        }
        if (k->used < (*place)->used)
            *place = k;
    }
    return NULL;
}

static int make(struct api_grammars *g, enum kind kind, const json_t *v, struct str *key,
                struct grammar_masks **out, struct err *e)
{
    struct grammar *grammar = NULL;
    struct grammar_masks *masks = NULL, *found;
    struct kept *place;
    int rc = 0;

    pthread_mutex_lock(&g->mu);
    found = known(g, key, &place);
    if (found)
        *out = grammar_masks_ref(found);
    else if (!g->trie)
        rc = token_trie_open(&g->trie, g->t, NULL, 0, e);
    pthread_mutex_unlock(&g->mu);
    if (found || rc < 0)
        return rc;
    rc = compile(&grammar, kind, v, e);         /* others need not wait for it */
    if (rc < 0)
        return rc;
    rc = grammar_masks_open(&masks, grammar, g->trie, e);
    grammar_close(grammar);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&g->mu);
    if (!known(g, key, &place)) {
        mem_free(place->key);
        grammar_masks_close(place->masks);
        place->masks = grammar_masks_ref(masks);
        place->n_key = key->len;
        place->key = str_take(key, NULL);
        place->used = ++g->clock;
        if (!place->key)
            place->n_key = 0;
    }
    pthread_mutex_unlock(&g->mu);
    *out = masks;
    return 0;
}

/* ---- fields ---- */

static int from_schema_object(const struct json_place *at, enum kind *kind, const json_t **v,
                              struct err *e)
{
    struct json_place p;
    int rc = json_find(at, "schema", &p, e);

    if (rc < 0)
        return rc;
    *kind = KIND_SCHEMA;
    *v = p.value ? p.value : at->value;
    return 0;
}

static int response_format(const struct json_place *at, enum kind *kind, const json_t **v,
                           struct err *e)
{
    struct json_place p;
    const char *type;
    int rc = json_get_cstr(at, "type", "", &type, e);

    if (rc < 0 || strcmp(type, "text") == 0)
        return rc;
    if (strcmp(type, "json_object") == 0) {
        rc = json_find(at, "schema", &p, e);    /* llama-server's extension */
        *kind = rc == 0 && p.value ? KIND_SCHEMA : KIND_OBJECT;
        *v = p.value ? p.value : at->value;
        return rc;
    }
    if (strcmp(type, "json_schema") == 0) {
        rc = json_find(at, "json_schema", &p, e);
        if (rc == 0 && !p.value)
            p = *at;
        return rc < 0 ? rc : from_schema_object(&p, kind, v, e);
    }
    if (strcmp(type, "grammar") == 0 || strcmp(type, "regex") == 0) {
        rc = json_need(at, strcmp(type, "regex") == 0 ? "pattern" : "grammar", &p, e);
        *kind = type[0] == 'r' ? KIND_REGEX : KIND_GBNF;
        *v = p.value;
        return rc;
    }
    return json_refuse(at, e, WATT_ENOTSUP, "type '%s' is not supported", type);
}

static const struct { const char *name; enum kind kind; } direct[] = {
    { "json", KIND_SCHEMA }, { "regex", KIND_REGEX }, { "choice", KIND_CHOICE },
    { "grammar", KIND_GBNF } };

static int find(const struct json_place *body, struct json_place *at, enum kind *kind,
                const json_t **v, struct err *e)
{
    static const struct { const char *name; enum kind kind; } flat[] = {
        { "guided_json", KIND_SCHEMA }, { "guided_regex", KIND_REGEX },
        { "guided_choice", KIND_CHOICE }, { "guided_grammar", KIND_GBNF },
        { "json_schema", KIND_SCHEMA }, { "grammar", KIND_GBNF } };
    int rc = json_find(body, "response_format", at, e);

    if (rc == 0 && at->value)
        rc = response_format(at, kind, v, e);
    if (rc < 0 || *v)
        return rc;
    rc = json_find(body, "structured_outputs", at, e);
    for (size_t i = 0; rc == 0 && at->value && i < sizeof direct / sizeof *direct; i++) {
        struct json_place p;

        rc = json_find(at, direct[i].name, &p, e);
        if (rc == 0 && p.value) {
            *kind = direct[i].kind;
            *v = p.value;
            return 0;
        }
    }
    if (rc == 0 && at->value && json_object_get(at->value, "structural_tag"))
        return json_refuse(at, e, WATT_ENOTSUP, "structural_tag is not supported");
    for (size_t i = 0; rc == 0 && i < sizeof flat / sizeof *flat; i++) {
        rc = json_find(body, flat[i].name, at, e);
        if (rc == 0 && at->value && !(json_is_string(at->value) &&
                                      json_string_length(at->value) == 0)) {
            *kind = flat[i].kind;
            *v = at->value;
            return 0;
        }
    }
    if (rc == 0)
        rc = json_find(body, "format", at, e);
    if (rc == 0 && at->value) {
        *kind = json_is_string(at->value) ? KIND_OBJECT : KIND_SCHEMA;
        *v = json_is_string(at->value) && json_string_length(at->value) == 0 ? NULL : at->value;
    }
    return rc;
}

int api_grammar_of(struct api_grammars *g, const struct json_place *body, int32_t free_until,
                   struct token_mask **out, struct err *e)
{
    struct grammar_masks *masks = NULL;
    enum kind kind = KIND_OBJECT;
    struct json_place at;
    const json_t *v = NULL;
    json_t *parsed = NULL;
    struct str key;
    int rc = find(body, &at, &kind, &v, e);

    *out = NULL;
    if (rc < 0 || !v)
        return rc;
    if (kind == KIND_SCHEMA && json_is_string(v)) {     /* a schema as text */
        rc = json_parse(&parsed, "schema", json_string_value(v), json_string_length(v), NULL, e);
        if (rc < 0)
            return rc;
        v = parsed;
    }
    if ((kind == KIND_REGEX || kind == KIND_GBNF) && !json_is_string(v))
        rc = json_refuse(&at, e, WATT_EFORMAT, "a string was expected");
    if (kind == KIND_CHOICE && !json_is_array(v))
        rc = json_refuse(&at, e, WATT_EFORMAT, "a list of strings was expected");
    str_init(&key, 0);
    if (rc == 0)
        rc = put_key(&key, kind, kind == KIND_OBJECT ? NULL : v, e);
    if (rc == 0)
        rc = make(g, kind, v, &key, &masks, e);
    if (rc == 0)
        rc = token_source_open(out, masks, free_until, e);
    grammar_masks_close(masks);
    str_deinit(&key);
    json_decref(parsed);
    return rc;
}
