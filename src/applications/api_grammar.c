/* api_grammar.c: from a request's fields to a grammar, kept under its source. */
#include "applications/api_grammar.h"

#include <pthread.h>
#include <string.h>

#include "base/mem.h"
#include "models/grammar/structural.h"
#include "models/tool_grammar.h"

enum kind { KIND_SCHEMA, KIND_REGEX, KIND_GBNF, KIND_CHOICE, KIND_OBJECT, KIND_PARTS };

struct kept {
    char                 *key;          /* kind and source */
    size_t                n_key;
    struct grammar_masks *masks;
    uint64_t              used;
};

struct api_grammars {
    const struct tokenizer *t;
    const struct tool_format *f;        /* NULL: none */
    struct token_trie      *trie;       /* under mu until made */
    struct token_trie      *marked;     /* the same, with the markers of calls */
    pthread_mutex_t         mu;
    struct kept             kept[API_GRAMMARS_KEPT];    /* under mu */
    uint64_t                clock;                      /* under mu */
};

int api_grammars_open(struct api_grammars **out, const struct tokenizer *t,
                      const struct tool_format *f, struct err *e)
{
    struct api_grammars *g = mem_calloc(1, sizeof *g);

    if (!g)
        return err_set(e, WATT_ENOMEM, "grammars");
    g->t = t;
    g->f = f;
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
    token_trie_close(g->marked);
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
    case KIND_PARTS:
        return grammar_from_structure(out, v, e);
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
    const bool marked = kind == KIND_PARTS && g->f && g->f->n_markers > 0;
    struct token_trie **trie = marked ? &g->marked : &g->trie;
    struct kept *place;
    int rc = 0;

    pthread_mutex_lock(&g->mu);
    found = known(g, key, &place);
    if (found)
        *out = grammar_masks_ref(found);
    else if (!*trie)
        rc = token_trie_open(trie, g->t, marked ? g->f->markers : NULL,
                             marked ? g->f->n_markers : 0, e);
    pthread_mutex_unlock(&g->mu);
    if (found || rc < 0)
        return rc;
    rc = compile(&grammar, kind, v, e);         /* others need not wait for it */
    if (rc < 0)
        return rc;
    rc = grammar_masks_open(&masks, grammar, *trie, e);
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
    if (strcmp(type, "structural_tag") == 0) {
        *kind = KIND_PARTS;
        *v = at->value;
        return 0;
    }
    return json_refuse(at, e, WATT_ENOTSUP, "type '%s' is not supported", type);
}

static const struct { const char *name; enum kind kind; } direct[] = {
    { "json", KIND_SCHEMA }, { "regex", KIND_REGEX }, { "choice", KIND_CHOICE },
    { "grammar", KIND_GBNF }, { "structural_tag", KIND_PARTS } };

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

/* Sources that came as text, where they are JSON. */
static int as_json(enum kind kind, const json_t **v, json_t **parsed, struct err *e)
{
    const bool schema = kind == KIND_SCHEMA;
    int rc;

    if ((!schema && kind != KIND_PARTS) || !json_is_string(*v))
        return 0;
    rc = json_parse(parsed, schema ? "schema" : "structural_tag", json_string_value(*v),
                    json_string_length(*v), NULL, e);
    if (rc == 0)
        *v = *parsed;
    return rc;
}

/* ---- tools ---- */

/* What an answer may be in place of a call, as a part of a structural tag. */
static int text_part(const struct json_place *at, enum kind kind, const json_t *v, json_t **out,
                     struct err *e)
{
    json_t *list;

    *out = NULL;
    switch (kind) {
    case KIND_SCHEMA:
        *out = json_pack("{s:s,s:O}", "type", "json_schema", "json_schema", v);
        break;
    case KIND_OBJECT:
        *out = json_pack("{s:s,s:{s:s}}", "type", "json_schema", "json_schema", "type", "object");
        break;
    case KIND_REGEX:
        *out = json_pack("{s:s,s:O}", "type", "regex", "pattern", v);
        break;
    case KIND_CHOICE:
        list = json_array();
        for (size_t i = 0; i < json_array_size(v); i++)
            (void)json_array_append_new(list, json_pack("{s:s,s:O}", "type", "const_string",
                                                        "value", json_array_get(v, i)));
        *out = json_pack("{s:s,s:o}", "type", "or", "elements", list);
        break;
    case KIND_GBNF: case KIND_PARTS:
        return json_refuse(at, e, WATT_ENOTSUP, "can't be had together with tools");
    }
    return *out ? 0 : err_set(e, WATT_ENOMEM, "tools");
}

/* The tools of a list that another names; a new list. */
static json_t *subset(const json_t *tools, const json_t *names)
{
    json_t *out = json_array();

    for (size_t i = 0; i < json_array_size(names); i++) {
        const json_t *entry = json_array_get(names, i), *fn = json_object_get(entry, "function");
        const char *name = json_string_value(json_object_get(fn ? fn : entry, "name"));

        for (size_t k = 0; name && k < json_array_size(tools); k++) {
            json_t *tool = json_array_get(tools, k);
            const json_t *f = json_object_get(tool, "function");
            const char *is = json_string_value(json_object_get(f ? f : tool, "name"));

            if (is && strcmp(is, name) == 0)
                (void)json_array_append(out, tool);
        }
    }
    return out;
}

/* tool_choice under all its spellings. *list: the tools, a new reference. */
static int read_choice(const struct json_place *body, struct tool_wish *w, json_t **list,
                       struct err *e)
{
    json_t *tools = json_object_get(body->value, "tools");
    struct json_place at, p;
    const char *type = "auto";
    bool parallel = true;
    int rc = json_find(body, "tool_choice", &at, e);

    *list = NULL;
    if (rc == 0)
        rc = json_get_bool(body, "parallel_tool_calls", true, &parallel, e);
    if (rc == 0 && at.value && json_is_string(at.value))
        rc = json_read_cstr(&at, &type, e);
    else if (rc == 0 && at.value)
        rc = json_get_cstr(&at, "type", "auto", &type, e);
    if (rc < 0)
        return rc;
    w->parallel = parallel;
    *list = json_incref(tools);
    if (strcmp(type, "allowed_tools") == 0) {
        rc = json_find(&at, "allowed_tools", &p, e);
        if (rc == 0 && !p.value)
            p = at;
        if (rc == 0)
            rc = json_get_cstr(&p, "mode", "auto", &type, e);
        if (rc == 0) {
            json_decref(*list);
            *list = subset(tools, json_object_get(p.value, "tools"));
        }
    } else if (strcmp(type, "function") == 0 || strcmp(type, "tool") == 0) {
        rc = json_find(&at, "function", &p, e);
        if (rc == 0 && !p.value)
            p = at;
        if (rc == 0)
            rc = json_get_cstr(&p, "name", "", &w->only, e);
        if (rc == 0 && !*w->only)
            rc = json_refuse(&p, e, WATT_EFORMAT, "needs a name");
        type = "required";
    }
    w->tools = *list;
    w->demand = strcmp(type, "required") == 0 || strcmp(type, "any") == 0 ? TOOL_MUST : TOOL_MAY;
    if (rc == 0 && w->demand == TOOL_MAY && strcmp(type, "auto") != 0 && strcmp(type, "none") != 0)
        rc = json_refuse(&at, e, WATT_EINVAL, "'%.40s' is none of auto, none, required and a "
                         "function's name", type);
    if (rc == 0 && strcmp(type, "none") == 0)
        w->tools = NULL;
    return rc;
}

/* What the grammar of tools is made of, as a key; and that grammar where it is kept. */
static int find_kept(struct api_grammars *g, const struct tool_wish *w, struct str *key,
                     struct grammar_masks **out, struct err *e)
{
    struct grammar_masks *found;
    struct kept *place;
    int rc = put_key(key, KIND_PARTS, w->tools, e);

    str_printf(key, "|%d|%d|%s|", (int)w->demand, w->parallel, w->only ? w->only : "");
    if (rc == 0)
        rc = put_key(key, KIND_PARTS, w->text, e);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&g->mu);
    found = known(g, key, &place);
    if (found)
        *out = grammar_masks_ref(found);
    pthread_mutex_unlock(&g->mu);
    return 0;
}

/* Puts a structural tag of the tools in place of what was asked for, with its key; or finds the
 * grammar. */
static int with_tools(struct api_grammars *g, const struct json_place *body,
                      const struct json_place *at, enum kind *kind, const json_t **v,
                      json_t **parsed, struct str *key, struct grammar_masks **out, struct err *e)
{
    static const struct tool_format none;
    const struct tool_format *f = g->f ? g->f : &none;
    struct tool_wish w = { 0 };
    json_t *list = NULL, *text = NULL, *structure = NULL;
    int rc = read_choice(body, &w, &list, e);

    if (rc == 0 && ((json_array_size(w.tools) == 0 && w.demand == TOOL_MAY) ||
                    (f->shape == TOOL_NONE && w.demand == TOOL_MAY))) {
        json_decref(list);
        return 0;
    }
    if (rc == 0 && *v && w.demand == TOOL_MAY)
        rc = text_part(at, *kind, *v, &text, e);
    w.text = text;
    if (rc == 0)
        rc = find_kept(g, &w, key, out, e);
    if (rc == 0 && !*out)
        rc = tool_grammar(&structure, f, &w, e);
    if (rc == 0 && !*out && !structure)
        str_reset(key);
    if (rc == 0 && structure) {
        json_decref(*parsed);
        *parsed = structure;
        *v = structure;
        *kind = KIND_PARTS;
    }
    json_decref(text);
    json_decref(list);
    return rc;
}

int api_grammar_of(struct api_grammars *g, const struct json_place *body, bool tools,
                   struct grammar_masks **out, struct err *e)
{
    enum kind kind = KIND_OBJECT;
    struct json_place at;
    const json_t *v = NULL;
    json_t *parsed = NULL;
    struct str key;
    int rc = find(body, &at, &kind, &v, e);

    *out = NULL;
    str_init(&key, 0);
    if (rc == 0 && v)
        rc = as_json(kind, &v, &parsed, e);
    if (rc == 0 && v && (kind == KIND_REGEX || kind == KIND_GBNF) && !json_is_string(v))
        rc = json_refuse(&at, e, WATT_EFORMAT, "a string was expected");
    if (rc == 0 && v && kind == KIND_CHOICE && !json_is_array(v))
        rc = json_refuse(&at, e, WATT_EFORMAT, "a list of strings was expected");
    if (rc == 0 && tools)
        rc = with_tools(g, body, &at, &kind, &v, &parsed, &key, out, e);
    if (rc < 0 || !v || *out) {
        str_deinit(&key);
        json_decref(parsed);
        return rc;
    }
    if (key.len == 0)
        rc = put_key(&key, kind, kind == KIND_OBJECT ? NULL : v, e);
    if (rc == 0)
        rc = make(g, kind, v, &key, out, e);
    str_deinit(&key);
    json_decref(parsed);
    return rc;
}
