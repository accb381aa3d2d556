/* tool_grammar.c: structural tags of calls; see tool_grammar.h. */
#include "models/tool_grammar_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "models/grammar/grammar.h"
#include "models/tool_args.h"
#include "models/tool_literal.h"

#define MAX_TOOLS  1024u
#define NAME_OF_ID "urn:watt:tool"
/* White space that models put before a call. */
#define BLANKS     "[ \\n]{0,8}"
#define ID_SHORT   "[0-9A-Za-z]{9}"
#define ID_ANY     "[0-9A-Za-z_.:\\-]{1,64}"
#define COUNT      "0|[1-9][0-9]{0,3}"

/* ---- parts ---- */

json_t *tool_text_part(const char *text)
{
    return json_pack("{s:s,s:s}", "type", "const_string", "value", text);
}

json_t *tool_regex_part(const char *pattern)
{
    return json_pack("{s:s,s:s}", "type", "regex", "pattern", pattern);
}

/* Takes the reference. */
json_t *tool_schema_part(json_t *schema)
{
    return json_pack("{s:s,s:o,s:b}", "type", "json_schema", "json_schema", schema, "strict", 1);
}

json_t *tool_part_of(const char *type, json_t *elements)
{
    return json_pack("{s:s,s:o}", "type", type, "elements", elements);
}

/* Some text up to `end`, which is taken too. */
json_t *tool_text_up_to(const char *begin, const char *end)
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

int tool_check_schema(const char *name, const json_t *schema, struct err *e)
{
    const struct schema_opts opts = { .strict = true };
    struct grammar *g = NULL;
    struct err why = { 0 };
    int rc = grammar_from_schema(&g, schema, &opts, &why);

    grammar_close(g);
    return rc < 0 ? err_set(e, rc, "tools: %.80s: %s", name, why.msg) : 0;
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

/* ---- a call ---- */

static json_t *head_piece(const struct tool_format *f, const struct tool_piece *p, const char *name)
{
    switch (p->kind) {
    case TOOL_NAME:  return tool_text_part(name);
    case TOOL_ID:    return tool_regex_part(f->short_ids ? ID_SHORT : ID_ANY);
    case TOOL_COUNT: return tool_regex_part(COUNT);
    case TOOL_LITERAL: break;
    }
    return tool_text_part(p->text);
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
        args = tool_schema_part(envelope_schema(f, t));
    } else {
        if (f->n_head > 0 && f->head[0].kind == TOOL_LITERAL)
            begin = f->head[i++].text;
        for (; i < f->n_head; i++)
            (void)json_array_append_new(list, head_piece(f, &f->head[i], t->name));
        rc = tool_args_part(m, t, &args);
    }
    if (rc < 0) {
        json_decref(list);
        return rc;
    }
    (void)json_array_append_new(list, args);
    *out = json_pack("{s:s,s:s,s:o,s:s}", "type", "tag", "begin", begin, "content",
                     tool_part_of("sequence", list), "end", f->call_close);
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
        return tool_part_of("sequence", json_pack("[o,o,o,o]", tool_text_part(f->section_open),
                                             tool_text_part(f->call_open), tool_schema_part(calls),
                                             tool_text_part(f->call_close)));
    }
    json_decref(schemas);
    calls = json_pack("{s:s,s:o,s:s,s:b,s:b}", "type", "tags_with_separator", "tags", tags,
                      "separator", f->sep, "at_least_one", 1, "stop_after_first", !several);
    return tool_part_of("sequence", json_pack("[o,o,o]", tool_text_part(f->section_open), calls,
                                         tool_text_part(f->section_close)));
}

/* ---- channels ---- */

/* A header in which a call's recipient stands, as the template has it or behind the channel, then
 * the arguments. */
static json_t *channel_call(const struct tool_format *f, const struct tool *t)
{
    json_t *rest = json_pack("[o,o,o]", tool_text_part(f->message_open),
                             tool_text_up_to(" ", f->message_open),
                             tool_text_up_to(f->channel_open, f->message_open));

    return tool_part_of("sequence", json_pack("[o,o,o]", tool_text_part(t->name), tool_part_of("or", rest),
                                         tool_schema_part(json_incref(t->schema))));
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
        json_t *header = tool_part_of("or", json_pack("[o,o]", tool_text_part(" "),
            tool_part_of("sequence", json_pack("[o,o]", tool_text_part(f->channel_open),
                                          tool_text_up_to("", " ")))));

        all = tool_part_of("sequence", json_pack("[{s:s,s:o},o,{s:s,s:o,s:b,s:b}]", "type", "optional",
            "content", tool_text_part(f->channel_next), header, "type", "tags_with_separator", "tags",
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
    json_t *text, *blanks = tool_regex_part(BLANKS);

    section = tool_part_of("sequence", json_pack("[o,o]", blanks, section));
    if (m->w->demand == TOOL_MUST) {
        *out = section;
        return section ? 0 : err_set(m->e, WATT_ENOMEM, "tools");
    }
    str_init(&trigger, 0);
    if (trigger_of(m->f, &trigger)) {
        text = json_pack("{s:s,s:[s]}", "type", "any_text", "excludes", str_cstr(&trigger));
        if (m->w->text) {
            json_decref(text);
            *out = tool_part_of("or", json_pack("[O,o]", m->w->text, section));
        } else {
            *out = tool_part_of("sequence", json_pack("[o,{s:s,s:o}]", text, "type", "optional",
                                                 "content", section));
        }
    } else if (m->w->text) {
        *out = tool_part_of("or", json_pack("[O,o]", m->w->text, section));
    } else if (any_strict) {
        *out = tool_part_of("or", json_pack("[o,o]", section,
                                       tool_regex_part("([ \\n]*[^ \\n{\\[][\\s\\S]*)?")));
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
    rc = tool_check_schema(t->name, t->schema, m->e);
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
