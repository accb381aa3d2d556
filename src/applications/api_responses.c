/* api_responses.c: the Responses API of OpenAI: items in, items out, kept for a while.
 *
 * A request becomes a chat completion (api_responses_input.c); what the model says goes out as
 * items: what it reasoned, its message, its calls of functions. Streams number their events. */
#include "applications/api_responses.h"

#include <stdio.h>
#include <string.h>

#include "applications/api_prompt.h"
#include "applications/api_store.h"
#include "base/mem.h"

#define PATH "/v1/responses/"

enum item { ITEM_NONE, ITEM_REASONING, ITEM_MESSAGE };

/* What a run of ours knows beyond api_run; the run's `user`. */
struct responding {
    struct api_store *store;    /* NULL: it is not kept */
    uint64_t account;
    json_t  *echo;              /* fields of the response that the request gave */
    json_t  *items, *said;      /* what went in, as items and as messages */
    json_t  *output;            /* items that are complete */
    bool     summary;           /* what is reasoned goes out as its summary */
    bool     begun;
    uint32_t sequence;
    size_t   n_logprobs;        /* entries that deltas have carried */
    enum item open;
    size_t   from;              /* of the open item's text in the choice's */
    char     item_id[API_ID_BYTES];
};

static void responding_drop(void *user)
{
    struct responding *u = user;

    if (!u)
        return;
    json_decref(u->echo);
    json_decref(u->items);
    json_decref(u->said);
    json_decref(u->output);
    mem_free(u);
}

static json_t *or_null(json_t *v)
{
    return v ? json_incref(v) : json_null();
}

static json_t *member_or(const json_t *body, const char *key, json_t *otherwise)
{
    json_t *v = json_object_get(body, key);

    if (!v || json_is_null(v))
        return otherwise;
    json_decref(otherwise);
    return json_incref(v);
}

/* Must be called before the body becomes that of a chat. */
static json_t *echo_of(const json_t *body)
{
    json_t *reasoning = json_object_get(body, "reasoning");
    json_t *text = json_object_get(body, "text");

    return json_pack("{s:O,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:{s:o,s:o},s:o}",
        "model", or_null(json_object_get(body, "model")),
        "instructions", or_null(json_object_get(body, "instructions")),
        "max_output_tokens", or_null(json_object_get(body, "max_output_tokens")),
        "metadata", member_or(body, "metadata", json_object()),
        "parallel_tool_calls", member_or(body, "parallel_tool_calls", json_true()),
        "previous_response_id", or_null(json_object_get(body, "previous_response_id")),
        "store", member_or(body, "store", json_true()),
        "temperature", member_or(body, "temperature", json_integer(1)),
        "text", text && json_is_object(text) && json_object_get(text, "format")
                    ? json_incref(text) : json_pack("{s:{s:s}}", "format", "type", "text"),
        "tool_choice", member_or(body, "tool_choice", json_string("auto")),
        "tools", member_or(body, "tools", json_array()),
        "top_p", member_or(body, "top_p", json_integer(1)),
        "truncation", member_or(body, "truncation", json_string("disabled")),
        "user", or_null(json_object_get(body, "user")),
        "reasoning", "effort", or_null(json_object_get(reasoning, "effort")),
        "summary", or_null(json_object_get(reasoning, "summary")),
        "top_logprobs", member_or(body, "top_logprobs", json_integer(0)));
}

/* ---- the response ---- */

static json_t *usage(const struct api_run *r)
{
    const struct service_usage u = api_usage(r);
    json_t *j = json_pack("{s:i,s:{s:i},s:i,s:{s:i},s:i}", "input_tokens", (int)r->n_prompt,
                          "input_tokens_details", "cached_tokens", (int)u.n_cached,
                          "output_tokens", (int)u.n_answer, "output_tokens_details",
                          "reasoning_tokens", (int)r->choices[0].n_reasoning, "total_tokens",
                          (int)(r->n_prompt + u.n_answer));

    api_energy_into(j, r->m->energy, &r->energy);
    return j;
}

static const char *status_of(const struct api_choice *x)
{
    return x->finish == SERVICE_STOP ? "completed"
         : x->finish == SERVICE_LENGTH ? "incomplete" : "cancelled";
}

static json_t *response(const struct api_run *r, const char *status, const char *error)
{
    const struct responding *u = r->user;
    const bool done = strcmp(status, "in_progress") != 0;
    const bool cut = strcmp(status, "incomplete") == 0;
    json_t *j = json_pack("{s:s,s:s,s:I,s:s,s:b,s:o,s:o,s:O,s:o,s:s}", "id", r->id, "object",
                          "response", "created_at", (json_int_t)r->created, "status", status,
                          "background", 0, "error",
                          error ? json_pack("{s:s,s:s}", "code", "server_error", "message", error)
                                : json_null(),
                          "incomplete_details",
                          cut ? json_pack("{s:s}", "reason", "max_output_tokens") : json_null(),
                          "output", u->output, "usage", done && !error ? usage(r) : json_null(),
                          "service_tier", "default");

    if (j)
        (void)json_object_update(j, u->echo);
    (void)json_object_set_new(j, "model", json_string(r->model));
    return j;
}

static json_t *reasoning_item(const struct responding *u, const char *id, struct sv text)
{
    json_t *part = json_pack("[{s:s,s:o}]", "type", u->summary ? "summary_text" : "reasoning_text",
                             "text", api_text(text));

    return json_pack("{s:s,s:s,s:s,s:o,s:o}", "id", id, "type", "reasoning", "status", "completed",
                     "summary", u->summary ? part : json_array(), "content",
                     u->summary ? json_array() : part);
}

static json_t *text_part(struct sv text, json_t *logprobs)
{
    return json_pack("{s:s,s:o,s:[],s:o}", "type", "output_text", "text", api_text(text),
                     "annotations", "logprobs", logprobs ? json_incref(logprobs) : json_array());
}

static json_t *message_item(const char *id, const char *status, json_t *part)
{
    return json_pack("{s:s,s:s,s:s,s:s,s:[o]}", "id", id, "type", "message", "status", status,
                     "role", "assistant", "content", part);
}

static json_t *call_item(const char *id, const char *status, const struct api_toolcall *t)
{
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:o}", "id", id, "type", "function_call", "status", status,
                     "call_id", t->id, "name", t->name, "arguments", api_str(&t->args));
}

/* The conversation with this answer, for those that go on from it. */
static void keep(struct api_run *r, const json_t *whole)
{
    struct responding *u = r->user;
    const struct api_choice *x = &r->choices[0];
    const json_t *docs[API_N_STORED] = { whole, u->items, u->said };
    json_t *m;

    if (!u->store || r->failed)
        return;
    m = json_pack("{s:s,s:o}", "role", "assistant", "content", api_str(&x->answer));
    if (m && x->reasoning.len)
        (void)json_object_set_new(m, "reasoning_content", api_str(&x->reasoning));
    for (uint32_t k = 0; m && k < x->n_calls; k++) {
        const struct api_toolcall *t = &x->calls[k];

        if (k == 0)
            (void)json_object_set_new(m, "tool_calls", json_array());
        (void)json_array_append_new(json_object_get(m, "tool_calls"),
            json_pack("{s:s,s:s,s:{s:s,s:o}}", "id", t->id, "type", "function", "function", "name",
                      t->name, "arguments", api_str(&t->args)));
    }
    (void)json_array_append_new(u->said, m);
    api_store_put(u->store, r->id, u->account, docs);
}

static json_t *whole(struct api_run *r)
{
    struct responding *u = r->user;
    const struct api_choice *x = &r->choices[0];
    char id[API_ID_BYTES];
    json_t *j;

    if (x->reasoning.len) {
        api_new_id(r->s, "rs_", id);
        (void)json_array_append_new(u->output, reasoning_item(u, id, sv_of(&x->reasoning)));
    }
    if (x->answer.len) {
        api_new_id(r->s, "msg_", id);
        (void)json_array_append_new(u->output,
            message_item(id, x->finish == SERVICE_STOP ? "completed" : "incomplete",
                         text_part(sv_of(&x->answer), x->logprobs)));
    }
    for (uint32_t k = 0; k < x->n_calls; k++) {
        api_new_id(r->s, "fc_", id);
        (void)json_array_append_new(u->output, call_item(id, x->calls[k].complete ? "completed"
                                                         : "incomplete", &x->calls[k]));
    }
    j = response(r, status_of(x), NULL);
    keep(r, j);
    return j;
}

/* ---- streams ---- */

/* Takes the reference; the fields of an event come behind its type and number. */
static void event(struct api_run *r, const char *type, json_t *fields)
{
    struct responding *u = r->user;
    json_t *j = json_pack("{s:s,s:i}", "type", type, "sequence_number", (int)u->sequence++);

    if (j && fields)
        (void)json_object_update(j, fields);
    json_decref(fields);
    api_event(r, j);
}

static void begin(struct api_run *r)
{
    struct responding *u = r->user;

    if (u->begun)
        return;
    u->begun = true;
    event(r, "response.created", json_pack("{s:o}", "response", response(r, "in_progress", NULL)));
    event(r, "response.in_progress",
          json_pack("{s:o}", "response", response(r, "in_progress", NULL)));
}

static int output_index(const struct responding *u)
{
    return (int)json_array_size(u->output);
}

/* Fields that all events about the open item's part have; more may be added. */
static json_t *of_part(const struct responding *u)
{
    return json_pack("{s:s,s:i,s:i}", "item_id", u->item_id, "output_index", output_index(u),
                     u->open == ITEM_REASONING && u->summary ? "summary_index" : "content_index",
                     0);
}

static void part_event(struct api_run *r, const char *type, const char *key, json_t *value)
{
    json_t *fields = of_part(r->user);

    (void)json_object_set_new(fields, key, value);
    event(r, type, fields);
}

static json_t *part_of(const struct responding *u, struct sv text)
{
    if (u->open == ITEM_MESSAGE)
        return text_part(text, NULL);
    return json_pack("{s:s,s:o}", "type", u->summary ? "summary_text" : "reasoning_text", "text",
                     api_text(text));
}

static void item_event(struct api_run *r, const char *type, json_t *item)
{
    event(r, type, json_pack("{s:i,s:o}", "output_index", output_index(r->user), "item", item));
}

static void open_item(struct api_run *r, enum item kind)
{
    struct responding *u = r->user;
    const struct api_choice *x = &r->choices[0];
    const bool thinks = kind == ITEM_REASONING;
    json_t *item;

    u->open = kind;
    u->from = thinks ? x->reasoning.len : x->answer.len;
    api_new_id(r->s, thinks ? "rs_" : "msg_", u->item_id);
    item = thinks ? json_pack("{s:s,s:s,s:s,s:[],s:[]}", "id", u->item_id, "type", "reasoning",
                              "status", "in_progress", "summary", "content")
                  : json_pack("{s:s,s:s,s:s,s:s,s:[]}", "id", u->item_id, "type", "message",
                              "status", "in_progress", "role", "assistant", "content");
    item_event(r, "response.output_item.added", item);
    part_event(r, thinks && u->summary ? "response.reasoning_summary_part.added"
                                       : "response.content_part.added",
               "part", part_of(u, (struct sv){ "", 0 }));
}

static struct sv open_text(const struct api_run *r)
{
    const struct responding *u = r->user;
    const struct str *s = u->open == ITEM_REASONING ? &r->choices[0].reasoning
                                                    : &r->choices[0].answer;

    return s->len > u->from ? (struct sv){ s->data + u->from, s->len - u->from }
                            : (struct sv){ "", 0 };
}

static void close_reasoning(struct api_run *r)
{
    struct responding *u = r->user;
    const struct sv text = open_text(r);
    json_t *item = reasoning_item(u, u->item_id, text);

    part_event(r, u->summary ? "response.reasoning_summary_text.done"
                             : "response.reasoning_text.done", "text", api_text(text));
    part_event(r, u->summary ? "response.reasoning_summary_part.done"
                             : "response.content_part.done", "part", part_of(u, text));
    item_event(r, "response.output_item.done", json_incref(item));
    (void)json_array_append_new(u->output, item);
}

static void close_message(struct api_run *r, const char *status)
{
    struct responding *u = r->user;
    const struct api_choice *x = &r->choices[0];
    const struct sv text = open_text(r);
    json_t *item = message_item(u->item_id, status, text_part(text, x->logprobs));
    json_t *done = of_part(u);

    (void)json_object_set_new(done, "text", api_text(text));
    (void)json_object_set_new(done, "logprobs", x->logprobs ? json_incref(x->logprobs)
                                                            : json_array());
    event(r, "response.output_text.done", done);
    part_event(r, "response.content_part.done", "part", text_part(text, x->logprobs));
    item_event(r, "response.output_item.done", json_incref(item));
    (void)json_array_append_new(u->output, item);
}

static void close_item(struct api_run *r, const char *status)
{
    struct responding *u = r->user;

    if (u->open == ITEM_REASONING)
        close_reasoning(r);
    else if (u->open == ITEM_MESSAGE)
        close_message(r, status);
    u->open = ITEM_NONE;
}

static json_t *new_logprobs(struct responding *u, const struct api_choice *x)
{
    json_t *out = json_array();

    for (; u->n_logprobs < json_array_size(x->logprobs); u->n_logprobs++)
        (void)json_array_append(out, json_array_get(x->logprobs, u->n_logprobs));
    return out;
}

/* The pieces are at the end of the choice's texts: an item that opens now begins in front. */
static void in_item(struct api_run *r, enum item kind, struct sv text)
{
    struct responding *u = r->user;
    json_t *fields;

    if (u->open != kind) {
        close_item(r, "completed");
        open_item(r, kind);
        u->from -= text.len;
    }
    fields = of_part(u);
    (void)json_object_set_new(fields, "delta", api_text(text));
    if (kind == ITEM_MESSAGE)
        (void)json_object_set_new(fields, "logprobs", new_logprobs(u, &r->choices[0]));
    event(r, kind == ITEM_MESSAGE ? "response.output_text.delta"
             : u->summary ? "response.reasoning_summary_text.delta"
                          : "response.reasoning_text.delta", fields);
}

static void delta(struct api_run *r, uint32_t choice, struct sv reasoning, struct sv answer)
{
    (void)choice;
    begin(r);
    if (reasoning.len)
        in_item(r, ITEM_REASONING, reasoning);
    if (answer.len)
        in_item(r, ITEM_MESSAGE, answer);
}

static void call_begin(struct api_run *r, uint32_t choice, uint32_t call)
{
    struct responding *u = r->user;
    const struct api_toolcall *t = &r->choices[choice].calls[call];

    begin(r);
    close_item(r, "completed");
    api_new_id(r->s, "fc_", u->item_id);
    item_event(r, "response.output_item.added", call_item(u->item_id, "in_progress", t));
}

static void call_event(struct api_run *r, const char *type, const char *key, struct sv text)
{
    const struct responding *u = r->user;
    json_t *fields = json_pack("{s:s,s:i}", "item_id", u->item_id, "output_index", output_index(u));

    (void)json_object_set_new(fields, key, api_text(text));
    event(r, type, fields);
}

static void call_piece(struct api_run *r, uint32_t choice, uint32_t call, struct sv json)
{
    (void)choice;
    (void)call;
    call_event(r, "response.function_call_arguments.delta", "delta", json);
}

static void call_end(struct api_run *r, uint32_t choice, uint32_t call)
{
    struct responding *u = r->user;
    const struct api_toolcall *t = &r->choices[choice].calls[call];
    json_t *item = call_item(u->item_id, t->complete ? "completed" : "incomplete", t);

    call_event(r, "response.function_call_arguments.done", "arguments", sv_of(&t->args));
    item_event(r, "response.output_item.done", json_incref(item));
    (void)json_array_append_new(u->output, item);
}

static void progress(struct api_run *r, const struct service_event *ev)
{
    (void)ev;
    begin(r);
}

static void choice_done(struct api_run *r, uint32_t choice)
{
    begin(r);
    close_item(r, r->choices[choice].finish == SERVICE_STOP ? "completed" : "incomplete");
}

static void stream_done(struct api_run *r)
{
    const char *status = status_of(&r->choices[0]);
    json_t *j = response(r, status, NULL);

    keep(r, j);
    event(r, strcmp(status, "completed") == 0 ? "response.completed" : "response.incomplete",
          json_pack("{s:o}", "response", j));
}

static void stream_failed(struct api_run *r)
{
    begin(r);
    event(r, "response.failed",
          json_pack("{s:o}", "response", response(r, "failed", r->error.msg)));
}

static const struct api_frame frame = {
    .split = true, .delta = delta, .choice_done = choice_done, .stream_done = stream_done,
    .call_begin = call_begin, .call_piece = call_piece, .call_end = call_end, .call_id = "call_",
    .stream_failed = stream_failed, .whole = whole, .logprob = api_openai_logprob,
    .progress = progress, .stream_type = "text/event-stream", .typed = true,
};

/* ---- requests ---- */

/* The conversation that previous_response_id names; *out NULL without one. */
static bool find_previous(struct api_call *c, json_t **out)
{
    const json_t *id = json_object_get(c->body, "previous_response_id");

    *out = NULL;
    if (!id || json_is_null(id))
        return true;
    if (json_is_string(id))
        *out = api_store_get(c->s->responses, json_string_value(id), api_key_account(c->key),
                             API_STORED_MESSAGES);
    if (!*out)
        api_error(c, 400, "invalid_request_error", "previous_response_not_found",
                  "previous_response_id", "Previous response '%.60s' is not here (any more).",
                  json_is_string(id) ? json_string_value(id) : "?");
    return *out != NULL;
}

static struct responding *responding_new(struct api_call *c, bool *ok)
{
    struct responding *u = mem_calloc(1, sizeof *u);
    const json_t *reasoning = json_object_get(c->body, "reasoning");
    struct err e = { 0 };
    bool store = true;

    *ok = u != NULL;
    if (!u) {
        api_error(c, 503, "server_error", "out_of_memory", NULL, "out of memory");
        return NULL;
    }
    if (json_get_bool(&c->at, "store", true, &store, &e) < 0) {
        api_fail(c, "store", &e);
        *ok = false;
    }
    u->store = store ? c->s->responses : NULL;
    u->account = api_key_account(c->key);
    u->echo = echo_of(c->body);
    u->output = json_array();
    u->summary = json_is_string(json_object_get(reasoning, "summary"));
    return u;
}

/* Turns the call into one of a chat; false: has answered. */
static bool as_chat(struct api_call *c)
{
    struct responding *u;
    json_t *before, *body;
    struct err e = { 0 };
    bool ok;
    int rc;

    if (!find_previous(c, &before))
        return false;
    u = responding_new(c, &ok);
    c->user = u;
    c->drop_user = responding_drop;
    if (!ok) {
        json_decref(before);
        return false;
    }
    rc = api_responses_body(&c->at, before, &body, &u->items, &u->said, &e);
    json_decref(before);
    if (rc < 0) {
        api_fail(c, "input", &e);
        return false;
    }
    json_decref(c->body);
    c->body = body;
    c->at = json_root(c->body, "request body");
    return true;
}

static void create(struct api_call *c)
{
    if (as_chat(c))
        api_chat(c, &frame, "resp_");
}

static void count(struct api_call *c)
{
    struct tokens ids = { 0 };
    struct str text;

    str_init(&text, 0);
    if (as_chat(c) && api_chat_prompt(c, &text, &ids))
        api_json(c, 200, json_pack("{s:s,s:I}", "object", "response.input_tokens", "input_tokens",
                                   (json_int_t)ids.n));
    str_deinit(&text);
    tokens_deinit(&ids);
}

/* The id in the path; what follows it in *rest ("" or "/input_items"). */
static bool path_id(const struct api_call *c, char id[64], const char **rest)
{
    const char *from = http_path(c->x) + strlen(PATH);
    const size_t n = strcspn(from, "/");

    *rest = from + n;
    if (n == 0 || n >= 64)
        return false;
    memcpy(id, from, n);
    id[n] = '\0';
    return true;
}

static void not_here(struct api_call *c)
{
    api_error(c, 404, "invalid_request_error", NULL, NULL, "No response is kept at %.100s.",
              http_path(c->x));
}

static void retrieve(struct api_call *c)
{
    const char *rest, *first, *last;
    json_t *doc = NULL;
    bool items = false;
    size_t n;
    char id[64];

    if (path_id(c, id, &rest)) {
        items = strcmp(rest, "/input_items") == 0;
        if (items || *rest == '\0')
            doc = api_store_get(c->s->responses, id, api_key_account(c->key),
                                items ? API_STORED_INPUT : API_STORED_RESPONSE);
    }
    if (!doc) {
        not_here(c);
        return;
    }
    if (!items) {
        api_json(c, 200, doc);
        return;
    }
    n = json_array_size(doc);
    first = json_string_value(json_object_get(json_array_get(doc, 0), "id"));
    last = json_string_value(json_object_get(json_array_get(doc, n ? n - 1 : 0), "id"));
    api_json(c, 200, json_pack("{s:s,s:o,s:s?,s:s?,s:b}", "object", "list", "data", doc,
                               "first_id", first, "last_id", last, "has_more", 0));
}

static void discard(struct api_call *c)
{
    const char *rest;
    char id[64];

    if (path_id(c, id, &rest) && *rest == '\0' &&
        api_store_drop(c->s->responses, id, api_key_account(c->key)))
        api_json(c, 200, json_pack("{s:s,s:s,s:b}", "id", id, "object", "response", "deleted", 1));
    else
        not_here(c);
}

const struct api_route api_responses_routes[] = {
    { "POST", "/v1/responses", create, API_INFER, true, "The answer to items, OpenAI's Responses API" },
    { "POST", "/responses", create, API_INFER, true, "The same" },
    { "POST", "/v1/responses/input_tokens", count, API_INFER, true, "Tokens of such a request" },
    { "GET", PATH, retrieve, API_INFER, false, "A response that is kept, or its /input_items" },
    { "DELETE", PATH, discard, API_INFER, false, "Forgets it" },
    { 0 }
};
