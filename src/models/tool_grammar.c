/* tool_grammar.c: structural tags of calls; see tool_grammar.h. */
#include "models/tool_grammar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/grammar/grammar.h"
#include "models/grammar/raw_text.h"
#include "models/tool_args.h"
#include "models/tool_literal.h"

#define MAX_TOOLS  1024u
#define NAME_OF_ID "urn:watt:tool"
/* White space that models put before a call. */
#define BLANKS     "[ \\n]{0,8}"
#define ID_SHORT   "[0-9A-Za-z]{9}"
#define ID_ANY     "[0-9A-Za-z_.:\\-]{1,64}"
#define COUNT      "0|[1-9][0-9]{0,3}"

struct tool {
    const char   *name;
    json_t       *schema;       /* owned; with $id, so that references stay within it */
    const json_t *declared;     /* parameters as they came; NULL: none */
    bool          strict;
};

struct making {
    const struct tool_format *f;
    const struct tool_wish   *w;
    bool        must;           /* the tool's schema has to be enforced */
    struct err *e;
};

/* ---- parts ---- */

static json_t *text_part(const char *text)
{
    return json_pack("{s:s,s:s}", "type", "const_string", "value", text);
}

static json_t *regex_part(const char *pattern)
{
    return json_pack("{s:s,s:s}", "type", "regex", "pattern", pattern);
}

/* Takes the reference. */
static json_t *schema_part(json_t *schema)
{
    return json_pack("{s:s,s:o,s:b}", "type", "json_schema", "json_schema", schema, "strict", 1);
}

static json_t *part_of(const char *type, json_t *elements)
{
    return json_pack("{s:s,s:o}", "type", type, "elements", elements);
}

/* Some text up to `end`, which is taken too. */
static json_t *text_up_to(const char *begin, const char *end)
{
    return json_pack("{s:s,s:s,s:{s:s},s:s}", "type", "tag", "begin", begin, "content", "type",
                     "any_text", "end", end);
}

/* ---- schemas ---- */

static json_t *any_object(void)
{
    return json_pack("{s:s}", "type", "object");
}

/* The schema as a document of its own: references within it go on to work wherever it stands. */
static json_t *own_document(const json_t *schema, size_t index)
{
    json_t *copy;
    char id[48];

    if (!schema)
        return json_pack("{s:s,s:{},s:b}", "type", "object", "properties", "additionalProperties",
                         0);
    copy = json_copy((json_t *)(uintptr_t)schema);
    (void)snprintf(id, sizeof id, NAME_OF_ID ":%zu", index);
    if (copy && !json_object_get(copy, "$id"))
        (void)json_object_set_new(copy, "$id", json_string(id));
    return copy;
}

static int check_schema(const char *name, const json_t *schema, struct err *e)
{
    const struct schema_opts opts = { .strict = true };
    struct grammar *g = NULL;
    struct err why = { 0 };
    int rc = grammar_from_schema(&g, schema, &opts, &why);

    grammar_close(g);
    return rc < 0 ? err_set(e, rc, "tools: %.80s: %s", name, why.msg) : 0;
}

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

/* ---- envelopes ---- */

static json_t *id_schema(const struct tool_format *f)
{
    return json_pack("{s:s,s:s}", "type", "string", "pattern",
                     f->id_counts ? "^(" COUNT ")$" : f->short_ids ? "^" ID_SHORT "$"
                                                                   : "^" ID_ANY "$");
}

static json_t *closed_object(json_t *properties)
{
    json_t *required = json_array();
    const char *key;
    json_t *v;

    json_object_foreach(properties, key, v)
        (void)json_array_append_new(required, json_string(key));
    return json_pack("{s:s,s:o,s:o,s:b}", "type", "object", "properties", properties, "required",
                     required, "additionalProperties", 0);
}

static json_t *envelope_schema(const struct tool_format *f, const struct tool *t)
{
    json_t *p = json_object(), *inner;

    if (f->name_is_key) {
        (void)json_object_set(p, t->name, t->schema);
        return closed_object(p);
    }
    if (*f->id_key && f->id_first && !*f->wrap_key)
        (void)json_object_set_new(p, f->id_key, id_schema(f));
    (void)json_object_set_new(p, f->name_key, json_pack("{s:s}", "const", t->name));
    (void)json_object_set(p, f->args_key, t->schema);
    if (*f->id_key && !f->id_first && !*f->wrap_key)
        (void)json_object_set_new(p, f->id_key, id_schema(f));
    if (!*f->wrap_key)
        return closed_object(p);
    inner = closed_object(p);
    p = json_object();
    (void)json_object_set_new(p, f->wrap_key, inner);
    return closed_object(p);
}

/* ---- tagged, Python and loose arguments ---- */

static json_t *choice_part(const json_t *values)
{
    json_t *list = json_array();

    for (size_t i = 0; i < json_array_size(values); i++)
        (void)json_array_append_new(list, text_part(json_string_value(json_array_get(values, i))));
    return part_of("or", list);
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
        raw = raw ? part_of("sequence", json_pack("[o,o,o]", text_part(m->f->quote), raw,
                                                  text_part(m->f->quote)))
                  : text_up_to(m->f->quote, m->f->quote);
    if (rc < 0 || !raw)
        return rc;
    rest = quoted ? json_pack("{s:[s,s,s]}", "type", "number", "boolean", "null")
                  : json_pack("{s:{s:s}}", "not", "type", "string");
    other = property_schema(t->declared, schema);
    (void)json_array_append_new(json_object_get(other, "allOf"), rest);
    rc = check_schema(t->name, other, &why);
    if (rc == 0) {
        *out = part_of("or", json_pack("[o,o]", raw, schema_part(other)));
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
    item = part_of("sequence", json_pack("[o,o,o]", text_part("'"), values ? choice_part(values)
                                         : regex_part("[^'\\\\\\n]*"), text_part("'")));
    more = part_of("sequence", json_pack("[o,O]", text_part(", "), item));
    more = json_pack("{s:s,s:o}", "type", "star", "content", more);
    item = part_of("sequence", json_pack("[o,o]", item, more));
    item = json_pack("{s:s,s:o}", "type", "optional", "content", item);
    return part_of("sequence", json_pack("[o,o,o]", text_part("["), item, text_part("]")));
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
            *out = part_of("sequence", json_pack("[o,o]", one, text_part(f->value_end)));
        else if (all_texts(values))
            *out = part_of("sequence", json_pack("[o,o]", choice_part(values),
                                                 text_part(f->value_end)));
        else if (json_is_string(only))
            *out = part_of("sequence", json_pack("[o,o]", text_part(json_string_value(only)),
                                                 text_part(f->value_end)));
        else
            *out = text_up_to("", f->value_end);
        return 0;
    }
    if (type == TOOL_TYPE_ANY && !*f->key_end_other) {
        one = NULL;
        if (!is_plain(schema) || json_object_get(schema, "type") || values || only)
            rc = mixed_part(m, t, key, schema, &one);
        if (rc == 0)
            *out = one ? part_of("sequence", json_pack("[o,o]", one, text_part(f->value_end)))
                       : text_up_to("", f->value_end);
        return rc;
    }
    one = schema_part(property_schema(t->declared, schema));
    if (name && strcmp(name, "boolean") == 0) {
        list = json_pack("[o,o,o]", one, text_part("True"), text_part("False"));
        one = part_of("or", list);
    }
    list = python_list(schema);     /* what a template makes of a list that it does not write as JSON */
    if (list)
        one = part_of("or", json_pack("[o,o]", one, list));
    *out = part_of("sequence", json_pack("[o,o]", one, text_part(f->value_end)));
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
        text = text ? part_of("sequence", json_pack("[o,o]", text, text_part(f->value_end)))
                    : text_up_to("", f->value_end);
        text = part_of("sequence", json_pack("[o,o]", text_part(f->key_end), text));
        data = part_of("sequence", json_pack("[o,o]", text_part(f->key_end_other), value));
        value = part_of("or", json_pack("[o,o]", text, data));
        *out = part_of("sequence", json_pack("[o,o,o]", text_part(f->param_open), text_part(key),
                                             value));
        return 0;
    }
    *out = part_of("sequence", json_pack("[o,o,o,o]", text_part(f->param_open), text_part(key),
                                         text_part(other ? f->key_end_other : f->key_end), value));
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
        value = raw ? part_of("sequence", json_pack("[o,o,o]", text_part(f->quote), raw,
                                                    text_part(f->quote)))
                : all_texts(values)
                    ? part_of("sequence", json_pack("[o,o,o]", text_part(f->quote),
                                                    choice_part(values), text_part(f->quote)))
                    : text_up_to(f->quote, f->quote);
        json_decref(doc);
    } else if (!python && type == TOOL_TYPE_ANY) {
        const int rc = mixed_part(m, t, key, schema, &value);

        json_decref(doc);
        if (rc < 0)
            return rc;
        if (!value)
            value = text_up_to(f->quote, f->quote);
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
        value = schema_part(doc);
        if (python && type == TOOL_TYPE_STRING && json_object_size(schema) <= 2 && !values &&
            !json_object_get(schema, "pattern"))
            value = part_of("or", json_pack("[o,o]", value,
                                            regex_part("'[^'\\\\\\n]*'")));
        if (python && name && strcmp(name, "boolean") == 0)
            value = part_of("or", json_pack("[o,o,o]", value, text_part("True"),
                                            text_part("False")));
    }
    *out = part_of("sequence", json_pack("[o,o,o]", text_part(key), text_part(python ? "=" : ":"),
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
    *out = by_name ? part_of("or", json_pack("[o,o]", declared, by_name)) : declared;
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

static int args_part(const struct making *m, const struct tool *t, json_t **out)
{
    int rc;

    if (m->f->args == TOOL_ARGS_JSON) {
        *out = schema_part(json_incref(t->schema));
        return 0;
    }
    rc = check_listed(m, t);
    return rc == 0 ? listed_args(m, t, out) : rc;
}

/* ---- a call ---- */

static json_t *head_piece(const struct tool_format *f, const struct tool_piece *p, const char *name)
{
    switch (p->kind) {
    case TOOL_NAME:  return text_part(name);
    case TOOL_ID:    return regex_part(f->short_ids ? ID_SHORT : ID_ANY);
    case TOOL_COUNT: return regex_part(COUNT);
    case TOOL_LITERAL: break;
    }
    return text_part(p->text);
}

/* A tag of one tool: begins with what calls begin with. */
static int call_part(const struct making *m, const struct tool *t, json_t **out)
{
    const struct tool_format *f = m->f;
    json_t *list = json_array(), *args = NULL;
    const char *begin = "";
    size_t i = 0;
    int rc = 0;

    if (f->shape == TOOL_ENVELOPE) {
        begin = f->call_open;
        args = schema_part(envelope_schema(f, t));
    } else {
        if (f->n_head > 0 && f->head[0].kind == TOOL_LITERAL)
            begin = f->head[i++].text;
        for (; i < f->n_head; i++)
            (void)json_array_append_new(list, head_piece(f, &f->head[i], t->name));
        rc = args_part(m, t, &args);
    }
    if (rc < 0) {
        json_decref(list);
        return rc;
    }
    (void)json_array_append_new(list, args);
    *out = json_pack("{s:s,s:s,s:o,s:s}", "type", "tag", "begin", begin, "content",
                     part_of("sequence", list), "end", f->call_close);
    return 0;
}

/* All calls of an answer. */
static json_t *section_part(const struct making *m, json_t *tags, json_t *schemas)
{
    const struct tool_format *f = m->f;
    const bool several = f->parallel && m->w->parallel && !m->w->only;
    json_t *calls;

    if (f->shape == TOOL_ENVELOPE && f->array) {
        json_decref(tags);
        calls = json_pack("{s:s,s:{s:o},s:i}", "type", "array", "items", "anyOf", schemas,
                          "minItems", 1);
        if (!several)
            (void)json_object_set_new(calls, "maxItems", json_integer(1));
        return part_of("sequence", json_pack("[o,o,o,o]", text_part(f->section_open),
                                             text_part(f->call_open), schema_part(calls),
                                             text_part(f->call_close)));
    }
    json_decref(schemas);
    calls = json_pack("{s:s,s:o,s:s,s:b,s:b}", "type", "tags_with_separator", "tags", tags,
                      "separator", f->sep, "at_least_one", 1, "stop_after_first", !several);
    return part_of("sequence", json_pack("[o,o,o]", text_part(f->section_open), calls,
                                         text_part(f->section_close)));
}

/* ---- channels ---- */

/* A header in which a call's recipient stands, as the template has it or behind the channel, then
 * the arguments. */
static json_t *channel_call(const struct tool_format *f, const struct tool *t)
{
    json_t *rest = json_pack("[o,o,o]", text_part(f->message_open),
                             text_up_to(" ", f->message_open),
                             text_up_to(f->channel_open, f->message_open));

    return part_of("sequence", json_pack("[o,o,o]", text_part(t->name), part_of("or", rest),
                                         schema_part(json_incref(t->schema))));
}

static json_t *channel_section(const struct making *m, json_t *calls)
{
    const struct tool_format *f = m->f;
    json_t *all = NULL, *tags = json_array(), *call;
    const char *trigger = f->head[0].text;
    size_t i;

    while (literal_blank(*trigger))
        trigger++;
    json_array_foreach(calls, i, call)
        (void)json_array_append_new(tags, json_pack("{s:s,s:s,s:O,s:s}", "type", "tag", "begin",
                                                    trigger, "content", call, "end", ""));
    json_decref(calls);
    if (m->w->demand == TOOL_MAY) {
        all = json_pack("{s:s,s:[s],s:o,s:b}", "type", "triggered_tags", "triggers", trigger, "tags",
                        tags, "stop_after_first", 1);
    } else {
        json_t *header = part_of("or", json_pack("[o,o]", text_part(" "),
            part_of("sequence", json_pack("[o,o]", text_part(f->channel_open),
                                          text_up_to("", " ")))));

        all = part_of("sequence", json_pack("[{s:s,s:o},o,{s:s,s:o,s:b,s:b}]", "type", "optional",
            "content", text_part(f->channel_next), header, "type", "tags_with_separator", "tags",
            tags, "at_least_one", 1, "stop_after_first", 1));
    }
    return all;
}

/* ---- all of it ---- */

/* What the calls begin with: the first word of it, where that is a marker. */
static bool trigger_of(const struct tool_format *f, struct str *out)
{
    struct str opening;
    const char *s;
    size_t n, k;

    str_init(&opening, 0);
    tool_format_opening(f, &opening);
    s = str_cstr(&opening);
    while (literal_blank(*s))
        s++;
    n = strcspn(s, " \n\t\r");
    k = strcspn(s, "<[|");
    str_append(out, s, k < n ? n : strlen(s));
    str_deinit(&opening);
    while (out->len && literal_blank(out->data[out->len - 1]))
        out->data[--out->len] = '\0';
    return out->len > 0;
}

/* Free text, or what stands for it, then perhaps calls; calls alone. */
static int around(const struct making *m, json_t *section, bool any_strict, json_t **out)
{
    struct str trigger;
    json_t *text, *blanks = regex_part(BLANKS);

    section = part_of("sequence", json_pack("[o,o]", blanks, section));
    if (m->w->demand == TOOL_MUST) {
        *out = section;
        return section ? 0 : err_set(m->e, WATT_ENOMEM, "tools");
    }
    str_init(&trigger, 0);
    if (trigger_of(m->f, &trigger)) {
        text = json_pack("{s:s,s:[s]}", "type", "any_text", "excludes", str_cstr(&trigger));
        if (m->w->text) {
            json_decref(text);
            *out = part_of("or", json_pack("[O,o]", m->w->text, section));
        } else {
            *out = part_of("sequence", json_pack("[o,{s:s,s:o}]", text, "type", "optional",
                                                 "content", section));
        }
    } else if (m->w->text) {
        *out = part_of("or", json_pack("[O,o]", m->w->text, section));
    } else if (any_strict) {
        *out = part_of("or", json_pack("[o,o]", section,
                                       regex_part("([ \\n]*[^ \\n{\\[][\\s\\S]*)?")));
    } else {
        json_decref(section);
        str_deinit(&trigger);
        return 0;               /* nothing to enforce */
    }
    str_deinit(&trigger);
    return *out ? 0 : err_set(m->e, WATT_ENOMEM, "tools");
}

static int read_tool(const json_t *entry, size_t index, struct tool *t, struct err *e)
{
    const json_t *fn = json_object_get(entry, "function");
    const json_t *parameters;

    fn = fn ? fn : entry;
    t->name = json_string_value(json_object_get(fn, "name"));
    if (!t->name || !*t->name || strlen(t->name) > 256)
        return err_set(e, WATT_EFORMAT, "tools[%zu]: needs a name of 1 to 256 bytes", index);
    parameters = json_object_get(fn, "parameters");
    if (parameters && !json_is_null(parameters) && !json_is_object(parameters))
        return err_set(e, WATT_EFORMAT, "tools[%zu]: parameters must be a schema", index);
    t->declared = json_is_object(parameters) && json_object_size(parameters) > 0 ? parameters : NULL;
    t->strict = json_is_true(json_object_get(fn, "strict"));
    t->schema = own_document(t->declared, index);
    return t->schema ? 0 : err_set(e, WATT_ENOMEM, "tools");
}

static int add_tool(struct making *m, struct tool *t, json_t *tags, json_t *schemas)
{
    json_t *part = NULL;
    int rc;

    m->must = t->strict || m->w->demand == TOOL_MUST;
    rc = check_schema(t->name, t->schema, m->e);
    if (rc < 0 && rc != WATT_ENOMEM && !m->must) {
        json_decref(t->schema);
        t->schema = any_object();
        rc = 0;
    }
    if (rc < 0)
        return rc;
    if (m->f->shape == TOOL_CHANNELS)
        part = channel_call(m->f, t);
    else
        rc = call_part(m, t, &part);
    if (rc < 0)
        return rc;
    (void)json_array_append_new(tags, part);
    if (m->f->shape == TOOL_ENVELOPE)
        (void)json_array_append_new(schemas, envelope_schema(m->f, t));
    return 0;
}

int tool_grammar(json_t **out, const struct tool_format *f, const struct tool_wish *w,
                 struct err *e)
{
    struct making m = { .f = f, .w = w, .e = e };
    json_t *tags = json_array(), *schemas = json_array(), *section;
    const size_t n = json_array_size(w->tools);
    bool found = false, any_strict = false;
    int rc = 0;

    *out = NULL;
    if (f->shape == TOOL_NONE)
        rc = err_set(e, WATT_ENOTSUP, "tool_choice: this model's template shows no calls that "
                     "could be enforced");
    if (n > MAX_TOOLS)
        rc = err_set(e, WATT_ELIMIT, "tools: %zu, at most %u", n, MAX_TOOLS);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct tool t = { 0 };

        rc = read_tool(json_array_get(w->tools, i), i, &t, e);
        if (rc == 0 && (!w->only || strcmp(w->only, t.name) == 0)) {
            found = true;
            any_strict |= t.strict;
            rc = add_tool(&m, &t, tags, schemas);
        }
        json_decref(t.schema);
    }
    if (rc == 0 && !found)
        rc = err_set(e, WATT_EINVAL, "tool_choice: %s%.80s", w->only ? "no tool is called " :
                     "no tools are given", w->only ? w->only : "");
    if (rc < 0) {
        json_decref(tags);
        json_decref(schemas);
        return rc;
    }
    if (f->shape == TOOL_CHANNELS) {
        json_decref(schemas);
        *out = channel_section(&m, tags);
        rc = *out ? 0 : err_set(e, WATT_ENOMEM, "tools");
    } else {
        section = section_part(&m, tags, schemas);
        rc = around(&m, section, any_strict, out);
    }
    return rc;
}
