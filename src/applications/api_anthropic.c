/* api_anthropic.c: the Anthropic API: messages and the counting of their tokens.
 *
 * Requests become the messages and tools that chat templates know; what the model says goes out
 * as blocks. */
#include <string.h>
#include <strings.h>

#include "applications/api_prompt.h"

#define MAX_LIST 100000u

json_t *api_anthropic_error(int status, const char *type, const char *code, const char *param,
                            const char *message)
{
    static const struct { int status; const char *type; } types[] = {
        { 401, "authentication_error" }, { 403, "permission_error" }, { 404, "not_found_error" },
        { 413, "request_too_large" }, { 429, "rate_limit_error" }, { 503, "overloaded_error" },
    };
    const char *t = status < 500 ? "invalid_request_error" : "api_error";

    (void)type;
    (void)code;
    (void)param;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].status == status)
            t = types[i].type;
    return json_pack("{s:s,s:{s:s,s:s}}", "type", "error", "error", "type", t, "message", message);
}

/* ---- the request ---- */

static int whole_text(int rc, const struct str *s, struct err *e)
{
    return rc < 0 || str_ok(s) ? rc : err_set(e, WATT_ENOMEM, "messages: out of memory");
}

/* A string, or a list of text blocks. */
static int add_text(const struct json_place *at, struct str *out, struct err *e)
{
    size_t n = 0;
    struct sv s;
    int rc;

    if (json_is_string(at->value)) {
        rc = json_read_str(at, &s, e);
        if (rc == 0)
            str_append(out, s.data, s.len);
        return whole_text(rc, out, e);
    }
    rc = json_read_array(at, MAX_LIST, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(at, i);
        struct json_place p;
        const char *type;

        rc = json_get_cstr(&item, "type", "", &type, e);
        if (rc == 0 && strcmp(type, "text") != 0)
            rc = json_refuse(&item, e, WATT_ENOTSUP, "type '%.40s' is not supported here: this "
                             "model reads text", type);
        if (rc == 0)
            rc = json_need(&item, "text", &p, e);
        if (rc == 0)
            rc = json_read_str(&p, &s, e);
        if (rc == 0 && out->len > 0)
            str_putc(out, '\n');
        if (rc == 0)
            str_append(out, s.data, s.len);
    }
    return whole_text(rc, out, e);
}

/* One message of theirs may be several of the template's: results of tools stand alone. */
struct turn {
    json_t     *list;                   /* messages so far */
    json_t     *tools;                  /* names of calls by their ids */
    const char *role;
    struct str  text, thinking;
    json_t     *calls;
};

static int append(json_t *list, json_t *item, struct err *e)
{
    return json_array_append_new(list, item) < 0 ? err_set(e, WATT_ENOMEM, "messages") : 0;
}

static int end_turn(struct turn *t, bool even_empty, struct err *e)
{
    json_t *m;

    if (!even_empty && t->text.len == 0 && t->thinking.len == 0 && json_array_size(t->calls) == 0)
        return 0;
    m = json_pack("{s:s,s:o}", "role", t->role, "content", api_str(&t->text));
    if (m && t->thinking.len)
        (void)json_object_set_new(m, "reasoning_content", api_str(&t->thinking));
    if (m && json_array_size(t->calls) > 0)
        (void)json_object_set(m, "tool_calls", t->calls);
    str_reset(&t->text);
    str_reset(&t->thinking);
    return append(t->list, m, e);
}

static int tool_use(const struct json_place *at, struct turn *t, struct err *e)
{
    const char *id = "", *name = "";
    struct json_place input;
    int rc = json_get_cstr(at, "id", "", &id, e);

    if (rc == 0)
        rc = json_get_cstr(at, "name", "", &name, e);
    if (rc == 0)
        rc = json_need(at, "input", &input, e);
    if (rc == 0 && !json_is_object(input.value))
        rc = json_refuse(&input, e, WATT_EFORMAT, "expected an object");
    if (rc == 0 && (*name == '\0' || strcmp(t->role, "assistant") != 0))
        rc = json_refuse(at, e, WATT_EINVAL, "a tool_use needs a name and the role assistant");
    if (rc < 0)
        return rc;
    (void)json_object_set_new(t->tools, id, json_string(name));
    return append(t->calls, json_pack("{s:s,s:s,s:{s:s,s:O}}", "id", id, "type", "function",
                                      "function", "name", name, "arguments", input.value), e);
}

/* Templates have no place for a call that failed: where its result does not begin by saying so, it does
 * from here on. */
static int mark_failed(struct str *text, struct err *e)
{
    static const char *const says[] = { "error", "<error", "<tool_use_error" };
    const char *from = str_cstr(text);
    struct str marked;

    from += strspn(from, " \t\n[*");
    for (size_t i = 0; i < sizeof says / sizeof *says; i++)
        if (strncasecmp(from, says[i], strlen(says[i])) == 0)
            return 0;
    str_init(&marked, 0);
    str_puts(&marked, text->len ? "Error: " : "Error");
    str_append(&marked, str_cstr(text), text->len);
    str_deinit(text);
    *text = marked;
    return whole_text(0, text, e);
}

static int tool_result(const struct json_place *at, struct turn *t, struct err *e)
{
    const char *id = "";
    struct json_place content;
    struct str text;
    bool failed = false;
    json_t *m = NULL, *name;
    int rc = json_get_cstr(at, "tool_use_id", "", &id, e);

    str_init(&text, 0);
    if (rc == 0)
        rc = end_turn(t, false, e);             /* what was said before it */
    if (rc == 0)
        rc = json_find(at, "content", &content, e);
    if (rc == 0 && content.value)
        rc = add_text(&content, &text, e);
    if (rc == 0)
        rc = json_get_bool(at, "is_error", false, &failed, e);
    if (rc == 0 && failed)
        rc = mark_failed(&text, e);
    if (rc == 0) {
        m = json_pack("{s:s,s:s,s:o,s:o*}", "role", "tool", "tool_call_id", id, "content",
                      api_str(&text), "is_error", failed ? json_true() : NULL);
        name = json_object_get(t->tools, id);
        if (m && name)
            (void)json_object_set(m, "name", name);
        rc = append(t->list, m, e);
    }
    str_deinit(&text);
    return rc;
}

/* A document of plain text, or a result of a search: its title and what it says. */
static int document(const struct json_place *at, struct str *to, struct err *e)
{
    const char *title = "", *type = "";
    struct json_place source, p = *at;
    int rc = json_get_cstr(at, "title", "", &title, e);

    if (rc == 0)
        rc = json_need(at, "source", &source, e);
    if (rc == 0 && json_is_object(source.value)) {
        rc = json_get_cstr(&source, "type", "", &type, e);
        if (rc == 0 && strcmp(type, "text") != 0 && strcmp(type, "content") != 0)
            rc = json_refuse(&source, e, WATT_ENOTSUP, "type '%.40s' is not supported: this model reads "
                             "text", type);
        p = source;
    }
    if (rc == 0)
        rc = json_need(&p, strcmp(type, "text") == 0 ? "data" : "content", &source, e);
    if (rc < 0)
        return rc;
    if (to->len > 0)
        str_putc(to, '\n');
    str_printf(to, "%s%s", title, *title ? "\n" : "");
    {
        struct str text;

        str_init(&text, 0);             /* add_text parts blocks by lines of what is there already */
        rc = add_text(&source, &text, e);
        str_append(to, str_cstr(&text), text.len);
        str_deinit(&text);
    }
    return whole_text(rc, to, e);
}

static int one_block(const struct json_place *at, struct turn *t, struct err *e)
{
    const char *type;
    struct json_place p;
    struct sv s;
    int rc = json_get_cstr(at, "type", "", &type, e);

    if (rc < 0)
        return rc;
    if (strcmp(type, "tool_use") == 0)
        return tool_use(at, t, e);
    if (strcmp(type, "tool_result") == 0)
        return tool_result(at, t, e);
    if (strcmp(type, "document") == 0 || strcmp(type, "search_result") == 0)
        return document(at, &t->text, e);
    if (strcmp(type, "redacted_thinking") == 0)
        return 0;
    if (strcmp(type, "text") != 0 && strcmp(type, "thinking") != 0)
        return json_refuse(at, e, WATT_ENOTSUP, "type '%.40s' is not supported: this model reads "
                           "text", type);
    rc = json_need(at, type, &p, e);
    if (rc == 0)
        rc = json_read_str(&p, &s, e);
    if (rc == 0 && strcmp(type, "thinking") == 0) {
        str_append(&t->thinking, s.data, s.len);
    } else if (rc == 0) {
        if (t->text.len)
            str_putc(&t->text, '\n');
        str_append(&t->text, s.data, s.len);
    }
    return whole_text(whole_text(rc, &t->text, e), &t->thinking, e);
}

static int one_message(const struct json_place *at, struct turn *t, struct err *e)
{
    struct json_place role, content;
    size_t n = 0, before = json_array_size(t->list);
    int rc = json_need(at, "role", &role, e);

    if (rc == 0)
        rc = json_read_cstr(&role, &t->role, e);
    if (rc == 0 && strcmp(t->role, "user") != 0 && strcmp(t->role, "assistant") != 0 &&
        strcmp(t->role, "system") != 0)
        rc = json_refuse(&role, e, WATT_EINVAL, "'%.40s' is neither user nor assistant", t->role);
    if (rc == 0)
        rc = json_need(at, "content", &content, e);
    if (rc < 0)
        return rc;
    t->calls = json_array();
    if (json_is_string(content.value))
        rc = add_text(&content, &t->text, e);
    else
        rc = json_read_array(&content, MAX_LIST, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&content, i);

        rc = one_block(&item, t, e);
    }
    if (rc == 0)
        rc = end_turn(t, json_array_size(t->list) == before, e);
    json_decref(t->calls);
    t->calls = NULL;
    return rc;
}

static int read_messages(const struct json_place *at, json_t *list, struct err *e)
{
    struct turn t = { .list = list, .tools = json_object() };
    size_t n;
    int rc = json_read_array(at, MAX_LIST, &n, e);

    str_init(&t.text, 0);
    str_init(&t.thinking, 0);
    if (rc == 0 && n == 0)
        rc = json_refuse(at, e, WATT_EINVAL, "at least one message is needed");
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(at, i);

        rc = one_message(&item, &t, e);
    }
    if (rc == 0 && !(str_ok(&t.text) && str_ok(&t.thinking)))
        rc = err_set(e, WATT_ENOMEM, "messages");
    str_deinit(&t.text);
    str_deinit(&t.thinking);
    json_decref(t.tools);
    return rc;
}

static int add_system(const struct json_place *body, json_t *list, struct err *e)
{
    struct json_place p;
    struct str text;
    int rc = json_find(body, "system", &p, e);

    if (rc < 0 || !p.value)
        return rc;
    str_init(&text, 0);
    rc = add_text(&p, &text, e);
    if (rc == 0 && text.len > 0)
        rc = append(list, json_pack("{s:s,s:o}", "role", "system", "content",
                                    api_str(&text)), e);
    str_deinit(&text);
    return rc;
}

/* tool_choice as the others spell it. */
static int read_choice(struct api_call *c, bool *none, struct err *e)
{
    struct json_place choice, p;
    const char *type = "auto", *name = "";
    bool alone = false;
    json_t *ours;
    int rc = json_find(&c->at, "tool_choice", &choice, e);

    *none = false;
    if (rc < 0 || !choice.value)
        return rc;
    rc = json_get_cstr(&choice, "type", "auto", &type, e);
    if (rc == 0)
        rc = json_get_bool(&choice, "disable_parallel_tool_use", false, &alone, e);
    if (rc == 0 && strcmp(type, "tool") == 0) {
        rc = json_need(&choice, "name", &p, e);
        if (rc == 0)
            rc = json_read_cstr(&p, &name, e);
    }
    if (rc < 0)
        return rc;
    *none = strcmp(type, "none") == 0;
    if (strcmp(type, "tool") == 0)
        ours = json_pack("{s:s,s:{s:s}}", "type", "function", "function", "name", name);
    else if (strcmp(type, "any") == 0)
        ours = json_string("required");
    else if (strcmp(type, "auto") == 0 || *none)
        ours = json_string(type);
    else
        return json_refuse(&choice, e, WATT_EINVAL, "type '%.40s' is none of auto, any, tool and "
                           "none", type);
    if (json_object_set_new(c->body, "tool_choice", ours) < 0 ||
        (alone && json_object_set_new(c->body, "parallel_tool_calls", json_false()) < 0))
        return err_set(e, WATT_ENOMEM, "tool_choice");
    return 0;
}

/* Tools as templates know them; NULL when none may be called. */
/* Tools that the vendor's own service runs are left out beside others, since a model may leave any of
 * them unused; alone they are refused. */
static int read_tools(struct api_call *c, json_t **out, struct err *e)
{
    struct json_place at, theirs = { 0 };
    const char *name, *about, *type, *of_theirs = "";
    bool none = false, strict = false;
    size_t n = 0;
    int rc = json_find(&c->at, "tools", &at, e);

    *out = NULL;
    if (rc == 0)
        rc = read_choice(c, &none, e);
    if (rc == 0 && at.value)
        rc = json_read_array(&at, 1024, &n, e);
    if (rc < 0 || n == 0 || none)
        return rc;
    *out = json_array();
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place tool = json_item(&at, i);
        struct json_place schema, p;
        json_t *one;

        rc = json_get_cstr(&tool, "type", "custom", &type, e);
        if (rc == 0 && strcmp(type, "custom") != 0) {
            theirs = tool;
            of_theirs = type;
            continue;
        }
        if (rc == 0)
            rc = json_need(&tool, "name", &p, e);
        if (rc == 0)
            rc = json_read_cstr(&p, &name, e);
        if (rc == 0)
            rc = json_get_cstr(&tool, "description", "", &about, e);
        if (rc == 0)
            rc = json_get_bool(&tool, "strict", false, &strict, e);
        if (rc == 0)
            rc = json_need(&tool, "input_schema", &schema, e);
        if (rc < 0)
            break;
        one = json_pack("{s:s,s:{s:s,s:s,s:O}}", "type", "function", "function", "name", name,
                        "description", about, "parameters", schema.value);
        if (strict)
            (void)json_object_set_new(json_object_get(one, "function"), "strict", json_true());
        rc = append(*out, one, e);
    }
    if (rc == 0 && json_array_size(*out) == 0)
        rc = json_refuse(&theirs, e, WATT_ENOTSUP, "type '%.40s' is not supported: this server runs no "
                         "tools of its own", of_theirs);
    if (rc < 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

/* output_config: the schema of the answer, and how long it may think. */
static int read_output(struct api_call *c, struct err *e)
{
    struct json_place p, format, schema;
    const char *effort = NULL, *type = "";
    int rc = json_find(&c->at, "output_config", &p, e);

    if (rc < 0 || !p.value)
        return rc;
    rc = json_get_cstr(&p, "effort", NULL, &effort, e);
    if (rc == 0 && effort &&
        json_object_set_new(c->body, "reasoning_effort", json_string(effort)) < 0)
        rc = err_set(e, WATT_ENOMEM, "output_config");
    if (rc == 0)
        rc = json_find(&p, "format", &format, e);
    if (rc < 0 || !format.value)
        return rc;
    rc = json_get_cstr(&format, "type", "", &type, e);
    if (rc == 0 && strcmp(type, "json_schema") != 0)
        rc = json_refuse(&format, e, WATT_EINVAL, "type '%.40s' is not json_schema", type);
    if (rc == 0)
        rc = json_need(&format, "schema", &schema, e);
    if (rc == 0 && json_object_set_new(c->body, "response_format",
                                       json_pack("{s:s,s:{s:O}}", "type", type, "json_schema",
                                                 "schema", schema.value)) < 0)
        rc = err_set(e, WATT_ENOMEM, "output_config");
    return rc;
}

/* A conversation that the assistant spoke last in is one whose answer it has begun. */
static int read_prefill(struct api_call *c, const json_t *list, struct err *e)
{
    const json_t *m = json_array_get(list, json_array_size(list) - 1);
    const char *role = json_string_value(json_object_get(m, "role"));

    if (!role || strcmp(role, "assistant") != 0 || json_object_get(m, "tool_calls"))
        return 0;
    return json_object_set_new(c->body, "continue_final_message", json_true()) < 0
               ? err_set(e, WATT_ENOMEM, "messages") : 0;
}

/* What only the vendor's own service has. */
static int refuse_theirs(struct api_call *c, struct err *e)
{
    static const char *const names[] = { "mcp_servers", "container" };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof names / sizeof *names; i++) {
        struct json_place p;

        rc = json_find(&c->at, names[i], &p, e);
        if (rc == 0 && p.value && !(json_is_array(p.value) && json_array_size(p.value) == 0))
            rc = json_refuse(&p, e, WATT_ENOTSUP, "is not supported");
    }
    return rc;
}

static int read_prompt(struct api_call *c, struct api_options *o, struct str *text,
                       struct tokens *ids, struct err *e)
{
    struct json_place at, plain;
    json_t *list = json_array(), *tools = NULL, *messages = NULL;
    int rc = json_need(&c->at, "messages", &at, e);

    if (rc == 0)
        rc = refuse_theirs(c, e);
    if (rc == 0)
        rc = add_system(&c->at, list, e);
    if (rc == 0)
        rc = read_messages(&at, list, e);
    if (rc == 0)
        rc = read_tools(c, &tools, e);
    if (rc == 0)
        rc = api_read_thinking(c, &o->think_budget, e);
    if (rc == 0)
        rc = read_prefill(c, list, e);
    if (rc == 0) {
        plain = json_root(list, "messages");
        rc = api_messages(&plain, &messages, e);
    }
    if (rc == 0) {
        if (tools)
            (void)json_object_set(c->body, "tools", tools);
        else
            (void)json_object_del(c->body, "tools");
        rc = api_prompt(c, json_pack("{s:o}", "messages", messages), text, ids, e);
    }
    json_decref(tools);
    json_decref(list);
    return rc;
}

/* ---- the answer ---- */

static json_t *usage_of(const struct api_run *r, uint32_t n_cached, uint32_t n_answer)
{
    json_t *j = json_pack("{s:i,s:i,s:i,s:i}", "input_tokens", (int)(r->n_prompt - n_cached),
                          "cache_creation_input_tokens", 0, "cache_read_input_tokens",
                          (int)n_cached, "output_tokens", (int)n_answer);

    api_energy_into(j, r->m->energy, &r->energy);
    return j;
}

static const char *stop_reason(const struct api_choice *x)
{
    if (api_has_calls(x))
        return "tool_use";
    if (x->finish == SERVICE_STOP)
        return x->stop_index >= 0 ? "stop_sequence" : "end_turn";
    return "max_tokens";
}

static json_t *stop_sequence(const struct api_run *r)
{
    const struct api_choice *x = &r->choices[0];
    json_t *s = x->finish == SERVICE_STOP && x->stop_index >= 0
                    ? json_array_get(r->stops, (size_t)x->stop_index) : NULL;

    return s ? json_incref(s) : json_null();
}

static json_t *message(const struct api_run *r, json_t *content, json_t *reason, json_t *sequence,
                       json_t *usage)
{
    return json_pack("{s:s,s:s,s:s,s:s,s:o,s:o,s:o,s:o}", "id", r->id, "type", "message", "role",
                     "assistant", "model", r->model, "content", content, "stop_reason", reason,
                     "stop_sequence", sequence, "usage", usage);
}

static void begin(struct api_run *r, uint32_t n_cached)
{
    struct api_choice *x = &r->choices[0];

    if (x->begun)
        return;
    x->begun = true;
    api_event(r, json_pack("{s:s,s:o}", "type", "message_start", "message",
                           message(r, json_array(), json_null(), json_null(),
                                   usage_of(r, n_cached, 0))));
    api_event(r, json_pack("{s:s}", "type", "ping"));
}

static void progress(struct api_run *r, const struct service_event *ev)
{
    if (r->choices[0].begun)
        api_event(r, json_pack("{s:s}", "type", "ping"));
    begin(r, ev->n_cached);
}

enum block { BLOCK_NONE, BLOCK_THINKING, BLOCK_TEXT, BLOCK_CALL };

static void block_delta(struct api_run *r, json_t *delta)
{
    api_event(r, json_pack("{s:s,s:i,s:o}", "type", "content_block_delta", "index",
                           (int)r->choices[0].n_blocks - 1, "delta", delta));
}

static void close_block(struct api_run *r)
{
    struct api_choice *x = &r->choices[0];

    if (x->block == BLOCK_THINKING)
        block_delta(r, json_pack("{s:s,s:s}", "type", "signature_delta", "signature", ""));
    if (x->block != BLOCK_NONE)
        api_event(r, json_pack("{s:s,s:i}", "type", "content_block_stop", "index",
                               (int)x->n_blocks - 1));
    x->block = BLOCK_NONE;
}

static json_t *block_of(enum block kind, json_t *text)
{
    if (kind == BLOCK_THINKING)
        return json_pack("{s:s,s:o,s:s}", "type", "thinking", "thinking", text, "signature", "");
    return json_pack("{s:s,s:o}", "type", "text", "text", text);
}

static void in_block(struct api_run *r, enum block kind, struct sv text)
{
    struct api_choice *x = &r->choices[0];
    const bool thinks = kind == BLOCK_THINKING;

    if (x->block != kind) {
        close_block(r);
        x->block = kind;
        api_event(r, json_pack("{s:s,s:i,s:o}", "type", "content_block_start", "index",
                               (int)x->n_blocks++, "content_block",
                               block_of(kind, json_string(""))));
    }
    block_delta(r, json_pack("{s:s,s:o}", "type", thinks ? "thinking_delta" : "text_delta",
                             thinks ? "thinking" : "text", api_text(text)));
}

static void delta(struct api_run *r, uint32_t choice, struct sv reasoning, struct sv answer)
{
    (void)choice;
    begin(r, 0);
    if (reasoning.len)
        in_block(r, BLOCK_THINKING, reasoning);
    if (answer.len)
        in_block(r, BLOCK_TEXT, answer);
}

static json_t *call_block(const struct api_toolcall *t, json_t *input)
{
    return json_pack("{s:s,s:s,s:s,s:o}", "type", "tool_use", "id", t->id, "name", t->name, "input",
                     input);
}

static void call_begin(struct api_run *r, uint32_t choice, uint32_t call)
{
    struct api_choice *x = &r->choices[choice];

    begin(r, 0);
    close_block(r);
    x->block = BLOCK_CALL;
    api_event(r, json_pack("{s:s,s:i,s:o}", "type", "content_block_start", "index",
                           (int)x->n_blocks++, "content_block",
                           call_block(&x->calls[call], json_object())));
}

static void call_piece(struct api_run *r, uint32_t choice, uint32_t call, struct sv json)
{
    (void)choice;
    (void)call;
    block_delta(r, json_pack("{s:s,s:o}", "type", "input_json_delta", "partial_json",
                             api_text(json)));
}

static void call_end(struct api_run *r, uint32_t choice, uint32_t call)
{
    (void)choice;
    (void)call;
    close_block(r);
}

static void choice_done(struct api_run *r, uint32_t choice)
{
    (void)choice;
    begin(r, r->choices[0].usage.n_cached);
    close_block(r);
}

static void stream_done(struct api_run *r)
{
    const struct service_usage u = api_usage(r);

    api_event(r, json_pack("{s:s,s:{s:s,s:o},s:o}", "type", "message_delta", "delta",
                           "stop_reason", stop_reason(&r->choices[0]), "stop_sequence",
                           stop_sequence(r), "usage",
                           usage_of(r, u.n_cached, u.n_answer)));
    api_event(r, json_pack("{s:s}", "type", "message_stop"));
}

static json_t *whole(struct api_run *r)
{
    const struct api_choice *x = &r->choices[0];
    const struct service_usage u = api_usage(r);
    json_t *content = json_array();

    if (x->reasoning.len)
        (void)json_array_append_new(content, block_of(BLOCK_THINKING,
                                                      api_str(&x->reasoning)));
    if (x->answer.len)
        (void)json_array_append_new(content, block_of(BLOCK_TEXT, api_str(&x->answer)));
    for (uint32_t k = 0; k < x->n_calls; k++)
        if (x->calls[k].complete)
            (void)json_array_append_new(content, call_block(&x->calls[k],
                                                            api_call_arguments(&x->calls[k])));
    return message(r, content, json_string(stop_reason(x)), stop_sequence(r),
                   usage_of(r, u.n_cached, u.n_answer));
}

static const struct api_frame frame = {
    .split = true, .delta = delta, .choice_done = choice_done, .stream_done = stream_done,
    .call_begin = call_begin, .call_piece = call_piece, .call_end = call_end, .call_id = "toolu_",
    .whole = whole, .progress = progress, .stream_type = "text/event-stream", .typed = true,
};

/* ---- routes ---- */

static int need_max_tokens(struct api_call *c, struct err *e)
{
    struct json_place p;
    uint64_t n;
    int rc = json_need(&c->at, "max_tokens", &p, e);

    return rc == 0 ? json_read_u64(&p, 1, 1000000000, &n, e) : rc;
}

static void messages_or_count(struct api_call *c, bool count)
{
    struct api_ask *a = api_ask_open(c);
    struct err e = { 0 };
    int rc;

    if (!a)
        return;
    rc = count ? 0 : need_max_tokens(c, &e);
    if (rc == 0)
        rc = read_output(c, &e);
    if (rc < 0) {
        api_fail(c, "max_tokens", &e);
        goto done;
    }
    if (!count && !api_read_options(c, &a->o))
        goto done;
    a->o.n = 1;
    rc = read_prompt(c, &a->o, &a->text, &a->ids, &e);
    if (rc < 0)
        api_fail(c, "messages", &e);
    else if (count)
        api_json(c, 200, json_pack("{s:I}", "input_tokens", (json_int_t)a->ids.n));
    else
        api_generate(c, a, &frame, "msg_");
done:
    api_ask_close(a);
}

static void messages(struct api_call *c)
{
    messages_or_count(c, false);
}

static void count_tokens(struct api_call *c)
{
    messages_or_count(c, true);
}

const struct api_route api_anthropic_routes[] = {
    { "POST", "/v1/messages", messages, API_INFER, true, "The answer to a conversation, Anthropic's API" },
    { "POST", "/v1/messages/count_tokens", count_tokens, API_INFER, true, "Tokens of a conversation" },
    { 0 }
};
