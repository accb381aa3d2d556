/* api_responses_input.c: items of the Responses API into messages of a chat. */
#include <string.h>

#include "applications/api_responses.h"
#include "base/mem.h"

#define MAX_ITEMS 100000u
#define MAX_TOOLS 1024u

struct reading {
    json_t *list;               /* messages so far */
    json_t *names;              /* of functions, by the ids of their calls */
    struct str thinking;        /* belongs to the assistant's next message */
};

static int append(json_t *list, json_t *item, struct err *e)
{
    return json_array_append_new(list, item) < 0 ? err_set(e, WATT_ENOMEM, "input") : 0;
}

/* The last message, when it is the assistant's; else a new one of it. */
static int assistant_message(struct reading *r, json_t **out, struct err *e)
{
    const size_t n = json_array_size(r->list);
    json_t *m = n ? json_array_get(r->list, n - 1) : NULL;
    const char *role = json_string_value(json_object_get(m, "role"));

    if (!role || strcmp(role, "assistant") != 0 || r->thinking.len > 0) {
        m = json_pack("{s:s,s:s}", "role", "assistant", "content", "");
        if (m && r->thinking.len > 0)
            (void)json_object_set_new(m, "reasoning_content", api_str(&r->thinking));
        str_reset(&r->thinking);
        if (append(r->list, m, e) < 0)
            return e->code;
    }
    *out = m;
    return 0;
}

/* Parts as api_messages reads them; a refusal is text, too. */
static int content_of(const struct json_place *at, json_t **out, struct err *e)
{
    struct json_place p;
    size_t n;
    int rc = json_need(at, "content", &p, e);

    if (rc < 0)
        return rc;
    if (json_is_string(p.value)) {
        *out = json_incref((json_t *)(uintptr_t)p.value);
        return 0;
    }
    rc = json_read_array(&p, MAX_ITEMS, &n, e);
    *out = rc == 0 ? json_array() : NULL;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place part = json_item(&p, i);
        const json_t *refusal = json_object_get(part.value, "refusal");

        rc = append(*out, json_is_string(refusal)
                              ? json_pack("{s:s,s:O}", "type", "text", "text", refusal)
                              : json_incref((json_t *)(uintptr_t)part.value), e);
    }
    if (rc < 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

static int add_message(const struct json_place *at, struct reading *r, struct err *e)
{
    struct json_place p;
    json_t *content = NULL, *m;
    const char *role;
    int rc = json_need(at, "role", &p, e);

    if (rc == 0)
        rc = json_read_cstr(&p, &role, e);
    if (rc == 0 && strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0 &&
        strcmp(role, "system") != 0 && strcmp(role, "developer") != 0)
        rc = json_refuse(&p, e, WATT_EINVAL, "'%.40s' is none of user, assistant, system, "
                         "developer", role);
    if (rc == 0)
        rc = content_of(at, &content, e);
    if (rc < 0)
        return rc;
    m = json_pack("{s:s,s:o}", "role", role, "content", content);
    if (m && strcmp(role, "assistant") == 0 && r->thinking.len > 0)
        (void)json_object_set_new(m, "reasoning_content", api_str(&r->thinking));
    str_reset(&r->thinking);
    return append(r->list, m, e);
}

static int add_call(const struct json_place *at, struct reading *r, struct err *e)
{
    struct json_place id, name, arguments;
    json_t *m = NULL, *calls;
    const char *z;
    int rc = json_need(at, "call_id", &id, e);

    if (rc == 0)
        rc = json_read_cstr(&id, &z, e);
    if (rc == 0)
        rc = json_need(at, "name", &name, e);
    if (rc == 0)
        rc = json_read_cstr(&name, &z, e);
    if (rc == 0)
        rc = json_need(at, "arguments", &arguments, e);
    if (rc == 0 && !json_is_string(arguments.value))
        rc = json_refuse(&arguments, e, WATT_EFORMAT, "expected a string of JSON");
    if (rc == 0)
        rc = assistant_message(r, &m, e);
    if (rc < 0)
        return rc;
    (void)json_object_set(r->names, json_string_value(id.value), (json_t *)(uintptr_t)name.value);
    calls = json_object_get(m, "tool_calls");
    if (!calls) {
        if (json_object_set_new(m, "tool_calls", json_array()) < 0)
            return err_set(e, WATT_ENOMEM, "input");
        calls = json_object_get(m, "tool_calls");
    }
    return append(calls, json_pack("{s:O,s:s,s:{s:O,s:O}}", "id", id.value, "type", "function",
                                   "function", "name", name.value, "arguments", arguments.value),
                  e);
}

static int add_result(const struct json_place *at, struct reading *r, struct err *e)
{
    struct json_place id, output;
    json_t *m, *name;
    const char *z = "";
    int rc = json_need(at, "call_id", &id, e);

    if (rc == 0)
        rc = json_read_cstr(&id, &z, e);
    if (rc == 0)
        rc = json_need(at, "output", &output, e);
    if (rc == 0 && !json_is_string(output.value) && !json_is_array(output.value))
        rc = json_refuse(&output, e, WATT_EFORMAT, "expected a string or a list of parts");
    if (rc < 0)
        return rc;
    m = json_pack("{s:s,s:s,s:O}", "role", "tool", "tool_call_id", z, "content", output.value);
    name = json_object_get(r->names, z);
    if (m && name)
        (void)json_object_set(m, "name", name);
    return append(r->list, m, e);
}

static int add_texts(const struct json_place *at, const char *key, struct str *out, struct err *e)
{
    struct json_place list;
    size_t n = 0;
    int rc = json_find(at, key, &list, e);

    if (rc == 0 && list.value)
        rc = json_read_array(&list, MAX_ITEMS, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place part = json_item(&list, i);
        struct json_place p;
        struct sv s;

        rc = json_need(&part, "text", &p, e);
        if (rc == 0)
            rc = json_read_str(&p, &s, e);
        if (rc == 0)
            str_append(out, s.data, s.len);
    }
    if (rc == 0 && !str_ok(out))
        rc = err_set(e, WATT_ENOMEM, "input: out of memory");
    return rc;
}

/* What it reasoned, or else the summary of that. */
static int add_reasoning(const struct json_place *at, struct reading *r, struct err *e)
{
    int rc;

    str_reset(&r->thinking);
    rc = add_texts(at, "content", &r->thinking, e);
    if (rc == 0 && r->thinking.len == 0)
        rc = add_texts(at, "summary", &r->thinking, e);
    return rc;
}

static int add_item(const struct json_place *at, struct reading *r, struct err *e)
{
    const char *type;
    int rc = json_get_cstr(at, "type", "message", &type, e);

    if (rc < 0)
        return rc;
    if (strcmp(type, "message") == 0)
        return add_message(at, r, e);
    if (strcmp(type, "function_call") == 0)
        return add_call(at, r, e);
    if (strcmp(type, "function_call_output") == 0)
        return add_result(at, r, e);
    if (strcmp(type, "reasoning") == 0)
        return add_reasoning(at, r, e);
    return json_refuse(at, e, WATT_ENOTSUP, "type '%.40s' is not supported", type);
}

/* Names of functions that earlier calls in the conversation gave their ids. */
static void remember_names(const json_t *list, json_t *names)
{
    json_t *m, *call;
    size_t i, k;

    json_array_foreach(list, i, m)
        json_array_foreach(json_object_get(m, "tool_calls"), k, call) {
            const char *id = json_string_value(json_object_get(call, "id"));

            if (id)
                (void)json_object_set(names, id, json_object_get(json_object_get(call, "function"),
                                                                 "name"));
        }
}

/* Items as clients read them again: with a type and an id. */
static json_t *named_items(const json_t *list)
{
    json_t *out = json_array(), *item;
    size_t i;

    json_array_foreach(list, i, item) {
        json_t *copy = json_copy(item);

        if (copy && !json_object_get(copy, "type"))
            (void)json_object_set_new(copy, "type", json_string("message"));
        if (copy && !json_is_string(json_object_get(copy, "id")))
            (void)json_object_set_new(copy, "id", json_sprintf("item_%zu", i));
        (void)json_array_append_new(out, copy);
    }
    return out;
}

static int read_input(const struct json_place *at, struct reading *r, json_t **items,
                      struct err *e)
{
    struct json_place p;
    size_t n = 0;
    int rc = json_need(at, "input", &p, e);

    if (rc < 0)
        return rc;
    if (json_is_string(p.value)) {
        *items = json_pack("[{s:s,s:s,s:s,s:[{s:s,s:O}]}]", "id", "item_0", "type", "message",
                           "role", "user", "content", "type", "input_text", "text", p.value);
        return append(r->list, json_pack("{s:s,s:O}", "role", "user", "content", p.value), e);
    }
    if (!json_is_array(p.value))
        return json_refuse(&p, e, WATT_EFORMAT, "expected a string or a list of items");
    rc = json_read_array(&p, MAX_ITEMS, &n, e);
    if (rc == 0 && n == 0)
        rc = json_refuse(&p, e, WATT_EINVAL, "at least one item is needed");
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&p, i);

        rc = add_item(&item, r, e);
    }
    if (rc == 0 && !str_ok(&r->thinking))
        rc = err_set(e, WATT_ENOMEM, "input");
    *items = rc == 0 ? named_items(p.value) : NULL;
    return rc;
}

/* ---- the rest of the body ---- */

static int set(json_t *body, const char *key, json_t *value, struct err *e)
{
    return json_object_set_new(body, key, value) < 0 ? err_set(e, WATT_ENOMEM, "request") : 0;
}

/* Tools of other kinds (web_search, custom, namespace, …) are left out beside functions, since a model may
 * leave any of them unused; one that demands such a tool, or has no others, is refused. */
static int add_tools(const struct json_place *at, json_t *body, struct err *e)
{
    struct json_place list, left_out = { 0 };
    json_t *tools;
    size_t n = 0;
    int rc = json_find(at, "tools", &list, e);

    if (rc < 0 || !list.value)
        return rc;
    rc = json_read_array(&list, MAX_TOOLS, &n, e);
    tools = json_array();
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place tool = json_item(&list, i);
        const char *type = "", *name;
        struct json_place p;
        json_t *function;

        rc = json_get_cstr(&tool, "type", "", &type, e);
        if (rc == 0 && strcmp(type, "function") != 0) {
            left_out = left_out.value ? left_out : tool;
            continue;
        }
        if (rc == 0)
            rc = json_need(&tool, "name", &p, e);
        if (rc == 0)
            rc = json_read_cstr(&p, &name, e);
        if (rc < 0)
            break;
        function = json_copy((json_t *)(uintptr_t)tool.value);
        (void)json_object_del(function, "type");
        rc = append(tools, json_pack("{s:s,s:o}", "type", "function", "function", function), e);
    }
    if (rc == 0 && left_out.value && json_array_size(tools) == 0) {
        const char *type = json_string_value(json_object_get(left_out.value, "type"));

        rc = json_refuse(&left_out, e, WATT_ENOTSUP, "type '%.40s' is not supported: only functions are",
                         type ? type : "");
    }
    if (rc == 0 && n > 0)
        return set(body, "tools", tools, e);
    json_decref(tools);
    return rc;
}

/* {"type": "function", "name"} is nested one deeper there. */
static int add_tool_choice(const struct json_place *at, json_t *body, struct err *e)
{
    const json_t *choice = json_object_get(at->value, "tool_choice"), *name;

    if (!choice || json_is_null(choice))
        return 0;
    name = json_object_get(choice, "name");
    return set(body, "tool_choice",
               name ? json_pack("{s:s,s:{s:O}}", "type", "function", "function", "name", name)
                    : json_incref((json_t *)(uintptr_t)choice), e);
}

static int add_format(const struct json_place *at, json_t *body, struct err *e)
{
    struct json_place text, format = { 0 }, schema;
    const char *type = "text";
    int rc = json_find(at, "text", &text, e);

    if (rc == 0 && text.value)
        rc = json_find(&text, "format", &format, e);
    if (rc == 0 && format.value)
        rc = json_get_cstr(&format, "type", "text", &type, e);
    if (rc < 0 || strcmp(type, "text") == 0)
        return rc;
    if (strcmp(type, "json_object") == 0)
        return set(body, "response_format", json_pack("{s:s}", "type", type), e);
    if (strcmp(type, "json_schema") != 0)
        return json_refuse(&format, e, WATT_EINVAL, "type '%.40s' is none of text, json_object, "
                           "json_schema", type);
    rc = json_need(&format, "schema", &schema, e);
    return rc == 0 ? set(body, "response_format",
                         json_pack("{s:s,s:{s:O}}", "type", type, "json_schema", "schema",
                                   schema.value), e) : rc;
}

static int add_effort(const struct json_place *at, json_t *body, struct err *e)
{
    struct json_place p;
    const char *effort = NULL;
    int rc = json_find(at, "reasoning", &p, e);

    if (rc == 0 && p.value)
        rc = json_get_cstr(&p, "effort", NULL, &effort, e);
    return rc == 0 && effort ? set(body, "reasoning_effort", json_string(effort), e) : rc;
}

/* include: message.output_text.logprobs. */
static int add_logprobs(const struct json_place *at, json_t *body, struct err *e)
{
    const json_t *list = json_object_get(at->value, "include"), *what;
    bool wanted = false;
    size_t i;

    json_array_foreach(list, i, what) {
        const char *name = json_string_value(what);

        wanted |= name && strcmp(name, "message.output_text.logprobs") == 0;
    }
    if (!wanted) {
        (void)json_object_del(body, "top_logprobs");
        return 0;
    }
    return set(body, "logprobs", json_true(), e);
}

/* What can't be done is refused before anything else is looked at. */
static int refuse_unsupported(const struct json_place *at, struct err *e)
{
    static const char *const names[] = { "background", "conversation", "prompt" };
    struct json_place p;
    const char *truncation = "";
    int rc = json_get_cstr(at, "truncation", "disabled", &truncation, e);

    if (rc == 0 && strcmp(truncation, "disabled") != 0 && strcmp(truncation, "auto") != 0)
        rc = json_find(at, "truncation", &p, e) < 0
                 ? e->code : json_refuse(&p, e, WATT_EINVAL, "is neither disabled nor auto");
    for (size_t i = 0; rc == 0 && i < sizeof names / sizeof *names; i++) {
        rc = json_find(at, names[i], &p, e);
        if (rc == 0 && p.value && !json_is_false(p.value))
            rc = json_refuse(&p, e, WATT_ENOTSUP, "is not supported");
    }
    return rc;
}

static int add_instructions(const struct json_place *at, json_t *messages, struct err *e)
{
    struct json_place p;
    json_t *first, *content;
    const char *role;
    struct sv s;
    int rc = json_find(at, "instructions", &p, e);

    if (rc < 0 || !p.value)
        return rc;
    rc = json_read_str(&p, &s, e);
    if (rc < 0 || s.len == 0)
        return rc;
    first = json_array_get(messages, 0);
    role = json_string_value(json_object_get(first, "role"));
    content = json_object_get(first, "content");
    /* Templates want one system message, in front. */
    if (role && (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0) &&
        json_is_string(content)) {
        json_t *joined = json_sprintf("%.*s\n\n%s", (int)s.len, s.data,
                                      json_string_value(content));

        return json_array_set_new(messages, 0, json_pack("{s:s,s:o}", "role", "system", "content",
                                                         joined)) < 0
                   ? err_set(e, WATT_ENOMEM, "instructions") : 0;
    }
    return json_array_insert_new(messages, 0, json_pack("{s:s,s:O}", "role", "system", "content",
                                                        p.value)) < 0
               ? err_set(e, WATT_ENOMEM, "instructions") : 0;
}

static int translate(const struct json_place *at, json_t *body, json_t *said, struct err *e)
{
    static const char *const ours[] = { "input", "instructions", "tools", "tool_choice", "text",
        "reasoning", "previous_response_id", "store", "include", "metadata", "n",
        "background", "conversation", "prompt", "stream_options", "messages" };
    json_t *messages = json_copy(said);
    int rc = add_instructions(at, messages, e);

    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        (void)json_object_del(body, ours[i]);
    if (rc < 0) {
        json_decref(messages);
        return rc;
    }
    rc = set(body, "messages", messages, e);
    if (rc == 0)
        rc = add_tools(at, body, e);
    if (rc == 0)
        rc = add_tool_choice(at, body, e);
    if (rc == 0)
        rc = add_format(at, body, e);
    if (rc == 0)
        rc = add_effort(at, body, e);
    return rc == 0 ? add_logprobs(at, body, e) : rc;
}

int api_responses_body(const struct json_place *at, const json_t *before, json_t **body,
                       json_t **items, json_t **said, struct err *e)
{
    struct reading r = { .list = before ? json_copy((json_t *)(uintptr_t)before) : json_array(),
                         .names = json_object() };
    json_t *b = json_copy((json_t *)(uintptr_t)at->value), *input = NULL;
    int rc = r.list && r.names && b ? 0 : err_set(e, WATT_ENOMEM, "request");

    str_init(&r.thinking, 0);
    if (rc == 0)
        rc = refuse_unsupported(at, e);
    if (rc == 0) {
        remember_names(r.list, r.names);
        rc = read_input(at, &r, &input, e);
    }
    if (rc == 0)
        rc = translate(at, b, r.list, e);
    str_deinit(&r.thinking);
    json_decref(r.names);
    if (rc < 0 || !input) {
        json_decref(r.list);
        json_decref(b);
        json_decref(input);
        return rc < 0 ? rc : err_set(e, WATT_ENOMEM, "input");
    }
    *body = b;
    *items = input;
    *said = r.list;
    return 0;
}
