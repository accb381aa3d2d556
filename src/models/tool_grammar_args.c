/* tool_grammar_args.c: arguments that are no JSON, as parts: tagged ones, those of Python's calls, and
 * those under bare keys. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/grammar/grammar.h"
#include "models/grammar/raw_text.h"
#include "models/tool_args.h"
#include "models/tool_grammar_internal.h"
#include "models/tool_literal.h"

/* A property as a document of its own: with the definitions of the whole. */
static json_t *property_schema(const json_t *schema, json_t *property)
{
    static const char *const shared[] = { "$defs", "definitions", "$schema" };
    json_t *doc = json_pack("{s:[O]}", "allOf", property);

    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
        json_t *v = json_object_get(schema, shared[i]);

        if (v && doc)
            (void)json_object_set(doc, shared[i], v);
    }
    return doc;
}

static bool is_required(const json_t *schema, const char *key)
{
    const json_t *list = json_object_get(schema, "required");

    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *s = json_string_value(json_array_get(list, i));

        if (s && strcmp(s, key) == 0)
            return true;
    }
    return false;
}

/* ---- tagged, Python and loose arguments ---- */

static json_t *choice_part(const json_t *values)
{
    json_t *list = json_array();

    for (size_t i = 0; i < json_array_size(values); i++)
        (void)json_array_append_new(list, tool_text_part(json_string_value(json_array_get(values, i))));
    return tool_part_of("or", list);
}

static bool all_texts(const json_t *values)
{
    for (size_t i = 0; i < json_array_size(values); i++)
        if (!json_is_string(json_array_get(values, i)))
            return false;
    return json_array_size(values) > 0;
}

/* Does a schema say more than what type a value has, or which values there are? */
static bool is_plain(const json_t *schema)
{
    static const char *const plain[] = { "type", "enum", "const", "description", "title", "default",
        "examples", "$comment", "deprecated", "readOnly", "writeOnly" };
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)schema, key, v) {
        bool known = false;

        for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
            known |= strcmp(key, plain[i]) == 0;
        if (!known)
            return false;
    }
    return true;
}

/* A literal without the white space around it, which readers don't insist on. */
static struct sv core_of(const char *literal)
{
    struct sv s = sv_cstr(literal);

    for (; s.len && literal_blank(*s.data); s.data++)
        s.len--;
    while (s.len && literal_blank(s.data[s.len - 1]))
        s.len--;
    return s;
}

/* A string of the schema without quotes, up to `end`, which is not taken. *out NULL: any text will do, because
 * it can't be held to the schema and need not be. */
static int raw_part(const struct making *m, const struct tool *t, const char *key, json_t *schema,
                    const char *end, bool trimmed, bool no_literals, json_t **out)
{
    json_t *doc = property_schema(t->declared, schema);
    struct raw_text r = { .schema = doc, .excludes = { core_of(end), SV(TOOL_CDATA) }, .n_excludes = 2,
                          .trimmed = trimmed, .no_literals = no_literals };
    struct err why = { 0 };
    struct dfa *d = NULL;
    int rc = doc ? raw_text_dfa(&d, &r, &why) : err_set(&why, WATT_ENOMEM, "tools");

    dfa_close(d);
    *out = NULL;
    if (rc == 0 && r.excludes[0].len == 0)
        rc = err_set(&why, WATT_ENOTSUP, "this model's texts have no end that could be told");
    if (rc == 0) {
        *out = json_pack("{s:s,s:o,s:[s#,s],s:b,s:b}", "type", "raw_text", "json_schema", doc,
                         "excludes", r.excludes[0].data, (int)r.excludes[0].len, TOOL_CDATA,
                         "trimmed", trimmed, "no_literals", no_literals);
        return *out ? 0 : err_set(m->e, WATT_ENOMEM, "tools");
    }
    json_decref(doc);
    if (rc == WATT_ENOMEM || m->must)
        return err_set(m->e, rc, "tools: %.80s: %.80s: %s", t->name, key, why.msg);
    return 0;
}

/* Of a type that may be a string or something else: a string (between f->quote, or else one that reads
 * as nothing else), or JSON; bare keys know only numbers and words beside strings. */
static int mixed_part(const struct making *m, const struct tool *t, const char *key, json_t *schema,
                      json_t **out)
{
    const bool quoted = m->f->args == TOOL_ARGS_LOOSE;
    json_t *raw, *other, *rest;
    struct err why = { 0 };
    int rc = raw_part(m, t, key, schema, quoted ? m->f->quote : m->f->value_end, !quoted, !quoted, &raw);

    *out = NULL;
    if (rc == 0 && quoted)
        raw = raw ? tool_part_of("sequence", json_pack("[o,o,o]", tool_text_part(m->f->quote), raw,
                                                  tool_text_part(m->f->quote)))
                  : tool_text_up_to(m->f->quote, m->f->quote);
    if (rc < 0 || !raw)
        return rc;
    rest = quoted ? json_pack("{s:[s,s,s]}", "type", "number", "boolean", "null")
                  : json_pack("{s:{s:s}}", "not", "type", "string");
    other = property_schema(t->declared, schema);
    (void)json_array_append_new(json_object_get(other, "allOf"), rest);
    rc = tool_check_schema(t->name, other, &why);
    if (rc == 0) {
        *out = tool_part_of("or", json_pack("[o,o]", raw, tool_schema_part(other)));
        return *out ? 0 : err_set(m->e, WATT_ENOMEM, "tools");
    }
    json_decref(other);
    if (rc == WATT_EINVAL) {        /* nothing but strings */
        *out = raw;
        return 0;
    }
    json_decref(raw);
    return m->must ? err_set(m->e, rc, "%s", why.msg) : 0;
}

/* A list of strings as Python spells it: ['a', 'b']. NULL: the schema is not such a list's, or says more. */
static json_t *python_list(const json_t *schema)
{
    const json_t *items = json_object_get(schema, "items"), *values = json_object_get(items, "enum");
    const char *type = json_string_value(json_object_get(schema, "type"));
    const char *of = json_string_value(json_object_get(items, "type"));
    json_t *rest = json_copy((json_t *)(uintptr_t)schema), *item, *more;
    bool fits = type && strcmp(type, "array") == 0 && of && strcmp(of, "string") == 0 &&
                is_plain(items) && !json_object_get(items, "const") && (!values || all_texts(values));

    (void)json_object_del(rest, "items");
    fits = fits && is_plain(rest) && !json_object_get(rest, "enum") && !json_object_get(rest, "const");
    json_decref(rest);
    for (size_t i = 0; fits && i < json_array_size(values); i++)
        fits = !strpbrk(json_string_value(json_array_get(values, i)), "'\\\n");
    if (!fits)
        return NULL;
    item = tool_part_of("sequence", json_pack("[o,o,o]", tool_text_part("'"), values ? choice_part(values)
                                         : tool_regex_part("[^'\\\\\\n]*"), tool_text_part("'")));
    more = tool_part_of("sequence", json_pack("[o,O]", tool_text_part(", "), item));
    more = json_pack("{s:s,s:o}", "type", "star", "content", more);
    item = tool_part_of("sequence", json_pack("[o,o]", item, more));
    item = json_pack("{s:s,s:o}", "type", "optional", "content", item);
    return tool_part_of("sequence", json_pack("[o,o,o]", tool_text_part("["), item, tool_text_part("]")));
}

/* A value and what ends it, behind key_end. */
static int tagged_value(const struct making *m, const struct tool *t, const char *key,
                        json_t *schema, enum tool_type type, json_t **out)
{
    const struct tool_format *f = m->f;
    const json_t *values = json_object_get(schema, "enum"), *only = json_object_get(schema, "const");
    const char *name = json_string_value(json_object_get(schema, "type"));
    json_t *one, *list;
    int rc = 0;

    if (type == TOOL_TYPE_STRING) {
        one = NULL;
        if (!is_plain(schema))
            rc = raw_part(m, t, key, schema, f->value_end, true, false, &one);
        if (rc < 0)
            return rc;
        if (one)
            *out = tool_part_of("sequence", json_pack("[o,o]", one, tool_text_part(f->value_end)));
        else if (all_texts(values))
            *out = tool_part_of("sequence", json_pack("[o,o]", choice_part(values),
                                                 tool_text_part(f->value_end)));
        else if (json_is_string(only))
            *out = tool_part_of("sequence", json_pack("[o,o]", tool_text_part(json_string_value(only)),
                                                 tool_text_part(f->value_end)));
        else
            *out = tool_text_up_to("", f->value_end);
        return 0;
    }
    if (type == TOOL_TYPE_ANY && !*f->key_end_other) {
        one = NULL;
        if (!is_plain(schema) || json_object_get(schema, "type") || values || only)
            rc = mixed_part(m, t, key, schema, &one);
        if (rc == 0)
            *out = one ? tool_part_of("sequence", json_pack("[o,o]", one, tool_text_part(f->value_end)))
                       : tool_text_up_to("", f->value_end);
        return rc;
    }
    one = tool_schema_part(property_schema(t->declared, schema));
    if (name && strcmp(name, "boolean") == 0) {
        list = json_pack("[o,o,o]", one, tool_text_part("True"), tool_text_part("False"));
        one = tool_part_of("or", list);
    }
    list = python_list(schema);     /* what a template makes of a list that it does not write as JSON */
    if (list)
        one = tool_part_of("or", json_pack("[o,o]", one, list));
    *out = tool_part_of("sequence", json_pack("[o,o]", one, tool_text_part(f->value_end)));
    return 0;
}

static int tagged_item(const struct making *m, const struct tool *t, const char *key,
                       json_t *schema, json_t **out)
{
    const struct tool_format *f = m->f;
    const enum tool_type type = tool_type_of(t->declared, sv_cstr(key));
    const bool other = *f->key_end_other && type == TOOL_TYPE_OTHER;
    json_t *value = NULL, *text, *data;
    int rc = tagged_value(m, t, key, schema, type, &value);

    if (rc < 0)
        return rc;
    if (*f->key_end_other && type == TOOL_TYPE_ANY) {
        /* the key's end says which it is */
        rc = 0;
        text = NULL;
        if (!is_plain(schema) || json_object_get(schema, "enum") || json_object_get(schema, "const"))
            rc = raw_part(m, t, key, schema, f->value_end, true, false, &text);
        if (rc < 0) {
            json_decref(value);
            return rc;
        }
        text = text ? tool_part_of("sequence", json_pack("[o,o]", text, tool_text_part(f->value_end)))
                    : tool_text_up_to("", f->value_end);
        text = tool_part_of("sequence", json_pack("[o,o]", tool_text_part(f->key_end), text));
        data = tool_part_of("sequence", json_pack("[o,o]", tool_text_part(f->key_end_other), value));
        value = tool_part_of("or", json_pack("[o,o]", text, data));
        *out = tool_part_of("sequence", json_pack("[o,o,o]", tool_text_part(f->param_open), tool_text_part(key),
                                             value));
        return 0;
    }
    *out = tool_part_of("sequence", json_pack("[o,o,o,o]", tool_text_part(f->param_open), tool_text_part(key),
                                         tool_text_part(other ? f->key_end_other : f->key_end), value));
    return 0;
}

/* ---- values under bare keys ---- */

#define LOOSE_DEPTH 8u
#define LOOSE_COUNT 64u         /* of counted items */

struct loose {
    const struct making *m;
    const struct tool   *t;
    const char          *key;   /* of the parameter, for messages */
    struct err          *e;
};

static int loose_value(const struct loose *l, json_t *schema, unsigned depth, json_t **out);

static int cannot(const struct loose *l, const char *what)
{
    return err_set(l->e, WATT_ENOTSUP, "tools: %.80s: %.80s: %.40s can't be enforced in this model's "
                   "notation", l->t->name, l->key, what);
}

/* Keywords that say nothing of what a value may be. */
static bool is_note(const char *key)
{
    static const char *const notes[] = { "description", "title", "default", "examples", "$comment",
        "deprecated", "readOnly", "writeOnly" };

    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
        if (strcmp(key, notes[i]) == 0)
            return true;
    return false;
}

/* Refuses keywords beside notes and those of a list. */
static int check_keywords(const struct loose *l, const json_t *schema, const char *const *fine,
                          size_t n)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)schema, key, v) {
        bool known = is_note(key);

        for (size_t i = 0; i < n; i++)
            known |= strcmp(key, fine[i]) == 0;
        if (!known && !(strcmp(key, "uniqueItems") == 0 && json_is_false(v)))
            return cannot(l, key);
    }
    return 0;
}

static json_t *quoted(const struct loose *l, json_t *text)
{
    const char *q = l->m->f->quote;

    return tool_part_of("sequence", json_pack("[o,o,o]", tool_text_part(q), text, tool_text_part(q)));
}

/* A string, a number, or a word, held to the schema. */
static int loose_scalar(const struct loose *l, json_t *schema, json_t **out)
{
    const struct making m = { l->m->f, l->m->w, l->m->must, l->e };
    const json_t *values = json_object_get(schema, "enum");
    json_t *whole = json_pack("{s:{s:O},s:O*,s:O*}", "properties", "value", schema, "$defs",
                              json_object_get(l->t->declared, "$defs"), "definitions",
                              json_object_get(l->t->declared, "definitions")), *part = NULL;
    enum tool_type type;
    int rc = 0;

    for (size_t i = 0; i < json_array_size(values); i++)
        if (json_is_object(json_array_get(values, i)) || json_is_array(json_array_get(values, i)))
            rc = cannot(l, "enum");
    if (json_is_object(json_object_get(schema, "const")) || json_is_array(json_object_get(schema, "const")))
        rc = cannot(l, "const");
    if (!whole)
        rc = err_set(l->e, WATT_ENOMEM, "tools");
    type = tool_type_of(whole, SV("value"));
    json_decref(whole);
    if (rc < 0)
        return rc;
    if (type == TOOL_TYPE_ANY) {
        rc = mixed_part(&m, l->t, l->key, schema, &part);
    } else if (type == TOOL_TYPE_STRING) {
        if (!is_plain(schema))
            rc = raw_part(&m, l->t, l->key, schema, l->m->f->quote, false, false, &part);
        if (rc == 0 && !part && all_texts(values))
            part = choice_part(values);
        if (rc == 0 && part)
            part = quoted(l, part);
    } else {
        part = tool_schema_part(property_schema(l->t->declared, schema));
    }
    if (rc == 0 && !part)
        part = tool_text_up_to(l->m->f->quote, l->m->f->quote);
    *out = part;
    return rc < 0 ? rc : part ? 0 : err_set(l->e, WATT_ENOMEM, "tools");
}

/* Anything that is no list and no object. */
static json_t *any_scalar(const struct loose *l)
{
    return tool_part_of("or", json_pack("[o,o]",
        tool_text_up_to(l->m->f->quote, l->m->f->quote),
        tool_schema_part(json_pack("{s:[s,s,s]}", "type", "number", "boolean", "null"))));
}

static int loose_or_any(const struct loose *l, json_t *schema, unsigned depth, json_t **out)
{
    if (json_object_size(schema) > 0)
        return loose_value(l, schema, depth, out);
    if (json_is_false(schema))
        return cannot(l, "a value that can't be");
    *out = any_scalar(l);
    return *out ? 0 : err_set(l->e, WATT_ENOMEM, "tools");
}

/* A count of items; false: larger than what is written out. */
static bool count_of(const json_t *schema, const char *key, json_int_t otherwise, json_int_t *n)
{
    const json_t *v = json_object_get(schema, key);

    *n = json_is_number(v) ? (json_int_t)json_number_value(v) : otherwise;
    return *n <= (json_int_t)LOOSE_COUNT;
}

/* `min` to `max` of them, or (max < 0) as many as may be, with commas between them. */
static json_t *repeated(json_t *item, json_int_t min, json_int_t max)
{
    json_t *list = json_array();

    if (max >= 0) {
        for (json_int_t i = 0; i < max; i++)
            (void)json_array_append_new(list, json_pack("{s:b,s:O}", "required", i < min, "content",
                                                        item));
        json_decref(item);
        return json_pack("{s:s,s:s,s:s,s:s,s:o}", "type", "members", "open", "[", "close", "]",
                         "separator", ",", "items", list);
    }
    (void)json_array_append_new(list, tool_text_part("["));
    for (json_int_t i = 1; i < min; i++) {
        (void)json_array_append(list, item);
        (void)json_array_append_new(list, tool_text_part(","));
    }
    (void)json_array_append_new(list, json_pack("{s:s,s:[o],s:s,s:b}", "type", "tags_with_separator",
        "tags", item, "separator", ",", "at_least_one", min > 0));
    (void)json_array_append_new(list, tool_text_part("]"));
    return tool_part_of("sequence", list);
}

static int loose_list(const struct loose *l, json_t *schema, unsigned depth, json_t **out)
{
    static const char *const fine[] = { "type", "items", "minItems", "maxItems" };
    json_t *items = json_object_get(schema, "items"), *item = NULL;
    json_int_t min = 0, max = -1;
    int rc = check_keywords(l, schema, fine, sizeof fine / sizeof *fine);

    if (rc == 0 && !count_of(schema, "minItems", 0, &min))
        rc = cannot(l, "minItems");
    if (rc == 0 && !count_of(schema, "maxItems", -1, &max))
        rc = cannot(l, "maxItems");
    if (rc < 0)
        return rc;
    if (json_is_false(items))
        max = 0;
    if (max >= 0 && max < min)
        return cannot(l, "minItems above maxItems");
    rc = max == 0 ? 0 : loose_or_any(l, items, depth + 1, &item);
    if (rc == 0)
        *out = max == 0 ? tool_text_part("[]") : repeated(item, min, max);
    return rc < 0 ? rc : *out ? 0 : err_set(l->e, WATT_ENOMEM, "tools");
}

/* A key as readers take it: bare, or between the quotes of strings. */
static int loose_key(const struct loose *l, const char *key, struct str *out)
{
    const char *q = l->m->f->quote;
    bool bare = *key != '\0';

    for (const char *c = key; *c; c++)
        bare &= (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
                *c == '_' || *c == '-' || *c == '.' || *c == '$' || (unsigned char)*c >= 0x80;
    if (!bare && (!*q || strstr(key, q)))
        return cannot(l, "a key like that");
    str_printf(out, "%s%s%s:", bare ? "" : q, key, bare ? "" : q);
    return str_ok(out) ? 0 : err_set(l->e, WATT_ENOMEM, "tools");
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The members of an object in the order of their names, which is that of templates. */
static int loose_members(const struct loose *l, json_t *schema, unsigned depth, json_t **out)
{
    json_t *props = json_object_get(schema, "properties"), *items = json_array(), *v;
    const size_t n = json_object_size(props);
    const char **keys = mem_array(n ? n : 1, sizeof *keys), *key;
    size_t k = 0;
    int rc = keys ? 0 : err_set(l->e, WATT_ENOMEM, "tools");

    if (keys)
        json_object_foreach(props, key, v)
            keys[k++] = key;
    if (keys)
        qsort(keys, n, sizeof *keys, by_text);
    for (size_t i = 0; i < n && rc == 0; i++) {
        json_t *value = NULL;
        struct str head;

        str_init(&head, 0);
        rc = loose_key(l, keys[i], &head);
        if (rc == 0)
            rc = loose_or_any(l, json_object_get(props, keys[i]), depth + 1, &value);
        if (rc == 0)
            (void)json_array_append_new(items, json_pack("{s:b,s:o}", "required",
                is_required(schema, keys[i]), "content", tool_part_of("sequence",
                json_pack("[o,o]", tool_text_part(str_cstr(&head)), value))));
        str_deinit(&head);
    }
    mem_free(keys);
    if (rc < 0) {
        json_decref(items);
        return rc;
    }
    *out = json_pack("{s:s,s:s,s:s,s:s,s:o}", "type", "members", "open", "{", "close", "}",
                     "separator", ",", "items", items);
    return 0;
}

/* Any names with values of one schema. */
static int loose_map(const struct loose *l, json_t *of, unsigned depth, json_t **out)
{
    json_t *value = NULL;
    int rc = loose_or_any(l, of, depth + 1, &value);

    if (rc < 0)
        return rc;
    value = tool_part_of("sequence", json_pack("[o,o]", tool_regex_part("[A-Za-z_][A-Za-z0-9_]{0,63}:"),
                                               value));
    *out = tool_part_of("sequence", json_pack("[o,{s:s,s:[o],s:s},o]", tool_text_part("{"), "type",
        "tags_with_separator", "tags", value, "separator", ",", tool_text_part("}")));
    return 0;
}

static int loose_object(const struct loose *l, json_t *schema, unsigned depth, json_t **out)
{
    static const char *const fine[] = { "type", "properties", "required", "additionalProperties" };
    json_t *props = json_object_get(schema, "properties"), *required, *name;
    json_t *more = json_object_get(schema, "additionalProperties");
    size_t i;
    int rc = check_keywords(l, schema, fine, sizeof fine / sizeof *fine);

    required = json_object_get(schema, "required");
    json_array_foreach(required, i, name)
        if (rc == 0 && !json_object_get(props, json_string_value(name) ? json_string_value(name) : ""))
            rc = cannot(l, "required");
    if (rc < 0)
        return rc;
    if (json_object_size(props) == 0 && !json_is_false(more))
        rc = loose_map(l, more, depth, out);
    else
        rc = loose_members(l, schema, depth, out);
    return rc < 0 ? rc : *out ? 0 : err_set(l->e, WATT_ENOMEM, "tools");
}

/* Of a list of schemas, or of types, one. */
static int loose_either(const struct loose *l, json_t *schema, const char *key, unsigned depth,
                        json_t **out)
{
    json_t *list = json_object_get(schema, key), *parts = json_array(), *one;
    const bool types = strcmp(key, "type") == 0;
    size_t i;
    int rc = 0;

    json_array_foreach(list, i, one) {
        json_t *each = types ? json_copy(schema) : json_incref(one), *part = NULL;

        if (types)
            (void)json_object_set(each, "type", one);
        if (rc == 0)
            rc = loose_value(l, each, depth + 1, &part);
        if (rc == 0)
            (void)json_array_append_new(parts, part);
        json_decref(each);
    }
    if (rc == 0 && json_array_size(parts) == 0)
        rc = cannot(l, key);
    if (rc < 0) {
        json_decref(parts);
        return rc;
    }
    *out = tool_part_of("or", parts);
    return 0;
}

/* Is a list or an object among what this may be? */
static bool may_contain(const json_t *types)
{
    const json_t *v;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)types, i, v) {
        const char *s = json_string_value(v);

        if (s && (strcmp(s, "array") == 0 || strcmp(s, "object") == 0))
            return true;
    }
    return false;
}

/* A value between bare keys: strings between the model's quotes, lists and objects with what is in them
 * likewise. *out is only set on success. */
static int loose_value(const struct loose *l, json_t *schema, unsigned depth, json_t **out)
{
    const json_t *type = json_object_get(schema, "type");
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    const char *name = json_string_value(type);

    if (depth > LOOSE_DEPTH)
        return cannot(l, "nesting so deep");
    if (ref) {
        static const char *const fine[] = { "$ref" };
        const json_t *to = tool_schema_at(l->t->declared, ref);
        const int rc = check_keywords(l, schema, fine, 1);

        if (rc < 0 || !json_is_object(to))
            return rc < 0 ? rc : cannot(l, "$ref");
        return loose_value(l, (json_t *)(uintptr_t)to, depth + 1, out);
    }
    if (json_object_get(schema, "anyOf")) {
        static const char *const fine[] = { "anyOf" };
        struct err why = { 0 };
        const struct loose quiet = { l->m, l->t, l->key, &why };

        if (check_keywords(&quiet, schema, fine, 1) == 0)
            return loose_either(l, schema, "anyOf", depth, out);
    }
    if (json_is_array(type) && may_contain(type))
        return loose_either(l, schema, "type", depth, out);
    if (name ? strcmp(name, "array") == 0 : json_object_get(schema, "items") != NULL)
        return loose_list(l, schema, depth, out);
    if (name ? strcmp(name, "object") == 0 : json_object_get(schema, "properties") != NULL)
        return loose_object(l, schema, depth, out);
    return loose_scalar(l, schema, out);
}

/* Of a call in Python, or under a bare key. */
static int named_value(const struct making *m, const struct tool *t, const char *key,
                       json_t *schema, json_t **out)
{
    const bool python = m->f->args == TOOL_ARGS_PYTHON;
    const enum tool_type type = tool_type_of(t->declared, sv_cstr(key));
    const char *name = json_string_value(json_object_get(schema, "type"));
    json_t *value = NULL;

    if (!python) {
        struct err why = { 0 };
        const struct loose l = { m, t, key, &why };
        const int rc = loose_or_any(&l, schema, 0, &value);

        if (rc < 0 && (m->must || rc == WATT_ENOMEM))
            return err_set(m->e, rc, "%s", why.msg);
        if (rc < 0)         /* whatever is between brackets, too */
            value = tool_part_of("or", json_pack("[o,o]", any_scalar(&l),
                                                 tool_regex_part("[\\[{][^\\n]{0,4000}[\\]}]")));
    } else {
        value = tool_schema_part(property_schema(t->declared, schema));
        if (type == TOOL_TYPE_STRING && json_object_size(schema) <= 2 &&
            !json_object_get(schema, "enum") && !json_object_get(schema, "pattern"))
            value = tool_part_of("or", json_pack("[o,o]", value, tool_regex_part("'[^'\\\\\\n]*'")));
        if (name && strcmp(name, "boolean") == 0)
            value = tool_part_of("or", json_pack("[o,o,o]", value, tool_text_part("True"),
                                                 tool_text_part("False")));
    }
    *out = tool_part_of("sequence", json_pack("[o,o,o]", tool_text_part(key),
                                              tool_text_part(python ? "=" : ":"), value));
    return 0;
}

/* ---- all of them ---- */

/* Parameters one by one: as they are declared, or by name. */
static int members_part(const struct making *m, const struct tool *t, bool by_name, json_t **out)
{
    const struct tool_format *f = m->f;
    json_t *props = json_object_get(t->declared, "properties"), *items = json_array(), *schema;
    const char *open = "", *close = "", *separator = "", *key;
    const size_t n = json_object_size(props);
    const char **keys = mem_array(n ? n : 1, sizeof *keys);
    size_t k = 0;
    int rc = keys ? 0 : err_set(m->e, WATT_ENOMEM, "tools");

    if (f->args == TOOL_ARGS_PYTHON) {
        open = "(";
        close = ")";
        separator = ", ";
    } else if (f->args == TOOL_ARGS_LOOSE) {
        open = "{";
        close = "}";
        separator = ",";
    }
    if (keys)
        json_object_foreach(props, key, schema)
            keys[k++] = key;
    if (keys && by_name)
        qsort(keys, n, sizeof *keys, by_text);
    for (size_t i = 0; i < n && rc == 0; i++) {
        json_t *content = NULL;

        schema = json_object_get(props, keys[i]);
        rc = f->args == TOOL_ARGS_TAGGED ? tagged_item(m, t, keys[i], schema, &content)
                                         : named_value(m, t, keys[i], schema, &content);
        if (rc == 0)
            (void)json_array_append_new(items, json_pack("{s:b,s:o}", "required",
                                                         is_required(t->declared, keys[i]),
                                                         "content", content));
    }
    mem_free(keys);
    if (rc < 0) {
        json_decref(items);
        return rc;
    }
    *out = json_pack("{s:s,s:s,s:s,s:s,s:o}", "type", "members", "open", open, "close", close,
                     "separator", separator, "items", items);
    return 0;
}

static bool sorted(const json_t *props)
{
    const char *key, *last = NULL;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)props, key, v) {
        if (last && strcmp(last, key) > 0)
            return false;
        last = key;
    }
    return true;
}

/* Templates with bare keys sort them, and their models have learned that. */
static int listed_args(const struct making *m, const struct tool *t, json_t **out)
{
    json_t *declared = NULL, *by_name = NULL;
    int rc = members_part(m, t, false, &declared);

    if (rc == 0 && m->f->args == TOOL_ARGS_LOOSE &&
        !sorted(json_object_get(t->declared, "properties")))
        rc = members_part(m, t, true, &by_name);
    if (rc < 0) {
        json_decref(declared);
        return rc;
    }
    *out = by_name ? tool_part_of("or", json_pack("[o,o]", declared, by_name)) : declared;
    return 0;
}

/* Keywords beside the properties, which a list of parameters can't be held to. */
static int check_listed(const struct making *m, const struct tool *t)
{
    static const char *const fine[] = { "type", "properties", "required", "additionalProperties",
        "description", "title", "$defs", "definitions", "$schema", "$id", "examples", "default",
        "$comment" };
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)t->declared, key, v) {
        bool known = false;

        for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
            known |= strcmp(key, fine[i]) == 0;
        if (!known && m->must)
            return err_set(m->e, WATT_ENOTSUP, "tools: %.80s: %.40s can't be enforced in this "
                           "model's notation", t->name, key);
    }
    return 0;
}

int tool_args_part(const struct making *m, const struct tool *t, json_t **out)
{
    int rc;

    if (m->f->args == TOOL_ARGS_JSON) {
        *out = tool_schema_part(json_incref(t->schema));
        return 0;
    }
    rc = check_listed(m, t);
    return rc == 0 ? listed_args(m, t, out) : rc;
}
