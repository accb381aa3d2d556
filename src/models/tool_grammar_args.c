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

static int named_value(const struct making *m, const struct tool *t, const char *key,
                       json_t *schema, json_t **out)
{
    const struct tool_format *f = m->f;
    const bool python = f->args == TOOL_ARGS_PYTHON;
    const enum tool_type type = tool_type_of(t->declared, sv_cstr(key));
    const char *name = json_string_value(json_object_get(schema, "type"));
    json_t *value, *doc = property_schema(t->declared, schema);
    const json_t *values = json_object_get(schema, "enum");

    if (!python && type == TOOL_TYPE_STRING) {
        json_t *raw = NULL;
        const int rc = is_plain(schema)
                           ? 0 : raw_part(m, t, key, schema, f->quote, false, false, &raw);

        if (rc < 0) {
            json_decref(doc);
            return rc;
        }
        value = raw ? tool_part_of("sequence", json_pack("[o,o,o]", tool_text_part(f->quote), raw,
                                                    tool_text_part(f->quote)))
                : all_texts(values)
                    ? tool_part_of("sequence", json_pack("[o,o,o]", tool_text_part(f->quote),
                                                    choice_part(values), tool_text_part(f->quote)))
                    : tool_text_up_to(f->quote, f->quote);
        json_decref(doc);
    } else if (!python && type == TOOL_TYPE_ANY) {
        const int rc = mixed_part(m, t, key, schema, &value);

        json_decref(doc);
        if (rc < 0)
            return rc;
        if (!value)
            value = tool_text_up_to(f->quote, f->quote);
    } else if (!python && name && (strcmp(name, "array") == 0 || strcmp(name, "object") == 0)) {
        if (m->must) {
            json_decref(doc);
            return err_set(m->e, WATT_ENOTSUP, "tools: %.80s: %.80s: type %s can't be enforced in "
                           "this model's notation", t->name, key, name);
        }
        /* balanced brackets without strings that hold any, and strings between their quotes */
        json_decref(doc);
        value = json_pack("{s:s,s:s}", "type", "regex", "pattern", "[\\[{][^\\n]{0,4000}[\\]}]");
    } else {
        value = tool_schema_part(doc);
        if (python && type == TOOL_TYPE_STRING && json_object_size(schema) <= 2 && !values &&
            !json_object_get(schema, "pattern"))
            value = tool_part_of("or", json_pack("[o,o]", value,
                                            tool_regex_part("'[^'\\\\\\n]*'")));
        if (python && name && strcmp(name, "boolean") == 0)
            value = tool_part_of("or", json_pack("[o,o,o]", value, tool_text_part("True"),
                                            tool_text_part("False")));
    }
    *out = tool_part_of("sequence", json_pack("[o,o,o]", tool_text_part(key), tool_text_part(python ? "=" : ":"),
                                         value));
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

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
