/* api_openai.c: the OpenAI API: chat completions, completions. */
#include <stdio.h>
#include <string.h>

#include "applications/api_prompt.h"

/* ---- shared ---- */

static const char *finish_reason(const struct api_choice *x)
{
    if (api_has_calls(x))
        return "tool_calls";
    return x->finish == SERVICE_LENGTH ? "length" : x->finish == SERVICE_STOP ? "stop" : "abort";
}

/* Ids of tokens, which vLLM's clients ask for: those of the answer that were not told yet. */
static void put_ids(const struct api_run *r, struct api_choice *x, json_t *choice)
{
    if (!r->token_ids)
        return;
    (void)json_object_set_new(choice, "token_ids", x->ids);
    x->ids = json_array();
}

static void put_prompt_ids(const struct api_run *r, uint32_t i, json_t *j)
{
    if (r->token_ids)
        (void)json_object_set(j, "prompt_token_ids", api_part_of(r, i)->ids);
}

/* Of the prompt of choice i, when they were asked for. */
static void put_prompt_logprobs(const struct api_run *r, uint32_t i, json_t *j)
{
    json_t *list = api_part_of(r, i)->logprobs;

    if (list)
        (void)json_object_set(j, "prompt_logprobs", list);
}

/* Of a stream whose client will get a chunk of usage, every other chunk says that it isn't that, or
 * how much it has been so far. */
static json_t *chunk(const struct api_run *r, const char *object, json_t *choice)
{
    json_t *j = json_pack("{s:s,s:s,s:I,s:s,s:[o]}", "id", r->id, "object", object, "created",
                          (json_int_t)r->created, "model", r->model, "choices", choice);

    if (j && r->include_usage)
        (void)json_object_set_new(j, "usage", r->usage_each ? api_openai_usage(r) : json_null());
    return j;
}

static json_t *usage_chunk(const struct api_run *r, const char *object)
{
    return json_pack("{s:s,s:s,s:I,s:s,s:[],s:o}", "id", r->id, "object", object, "created",
                     (json_int_t)r->created, "model", r->model, "choices", "usage",
                     api_openai_usage(r));
}

/* ---- chat completions ---- */

static json_t *chat_chunk(struct api_run *r, uint32_t i, json_t *delta, const char *reason,
                          json_t *logprobs)
{
    json_t *choice = json_pack("{s:i,s:o,s:o,s:o}", "index", (int)i, "delta", delta, "logprobs",
                               logprobs ? logprobs : json_null(), "finish_reason",
                               reason ? json_string(reason) : json_null()), *j;

    put_ids(r, &r->choices[i], choice);
    j = chunk(r, "chat.completion.chunk", choice);
    if (r->n == 1 && (reason || (r->timings_each && r->choices[i].usage.n_answer > 0)))
        (void)json_object_set_new(j, "timings", api_timings(r, i));
    return j;
}

/* The role comes once, in front. */
static void chat_begin(struct api_run *r, uint32_t i)
{
    json_t *j;

    if (r->choices[i].begun)
        return;
    r->choices[i].begun = true;
    j = chat_chunk(r, i, json_pack("{s:s,s:n}", "role", "assistant", "content"), NULL, NULL);
    put_prompt_ids(r, i, j);
    api_event(r, j);
}

/* return_progress */
static void chat_progress(struct api_run *r, const struct service_event *ev)
{
    json_t *j;

    chat_begin(r, 0);
    j = chat_chunk(r, 0, json_object(), NULL, NULL);
    (void)json_object_set_new(j, "prompt_progress", api_prompt_progress(r, ev));
    api_event(r, j);
}

/* The entries that no chunk has carried yet; NULL: none. The caller owns them. */
static json_t *take_logprobs(struct api_choice *x)
{
    json_t *entries = x->logprobs;

    if (!entries || json_array_size(entries) == 0)
        return NULL;
    x->logprobs = json_array();
    return entries;
}

static json_t *chat_logprobs(struct api_choice *x)
{
    json_t *entries = take_logprobs(x);

    return entries ? json_pack("{s:o,s:n}", "content", entries, "refusal") : NULL;
}

static void chat_delta(struct api_run *r, uint32_t i, struct sv reasoning, struct sv answer)
{
    struct api_choice *x = &r->choices[i];
    json_t *delta = json_object();

    chat_begin(r, i);
    if (reasoning.len) {
        json_object_set_new(delta, "reasoning_content", api_text(reasoning));
        json_object_set_new(delta, "reasoning", api_text(reasoning));
    }
    if (answer.len)
        json_object_set_new(delta, "content", api_text(answer));
    api_event(r, chat_chunk(r, i, delta, NULL, chat_logprobs(x)));
}

static void call_delta(struct api_run *r, uint32_t i, json_t *call)
{
    chat_begin(r, i);
    api_event(r, chat_chunk(r, i, json_pack("{s:[o]}", "tool_calls", call), NULL,
                            chat_logprobs(&r->choices[i])));
}

static void chat_call_begin(struct api_run *r, uint32_t i, uint32_t call)
{
    const struct api_toolcall *t = &r->choices[i].calls[call];

    call_delta(r, i, json_pack("{s:i,s:s,s:s,s:{s:s,s:s}}", "index", (int)call, "id", t->id, "type",
                               "function", "function", "name", t->name, "arguments", ""));
}

static void chat_call_piece(struct api_run *r, uint32_t i, uint32_t call, struct sv json)
{
    call_delta(r, i, json_pack("{s:i,s:{s:o}}", "index", (int)call, "function", "arguments",
                               api_text(json)));
}

/* The calls of an answer; NULL: none. */
static json_t *chat_calls(const struct api_choice *x)
{
    json_t *list = x->n_calls > 0 ? json_array() : NULL;

    for (uint32_t k = 0; k < x->n_calls; k++)
        (void)json_array_append_new(list, json_pack("{s:s,s:s,s:{s:s,s:o}}", "id", x->calls[k].id,
            "type", "function", "function", "name", x->calls[k].name, "arguments",
            api_str(&x->calls[k].args)));
    return list;
}

static void chat_choice_done(struct api_run *r, uint32_t i)
{
    struct api_choice *x = &r->choices[i];

    chat_begin(r, i);
    api_event(r, chat_chunk(r, i, json_object(), finish_reason(x), chat_logprobs(x)));
}

static void chat_stream_done(struct api_run *r)
{
    if (r->include_usage)
        api_event(r, usage_chunk(r, "chat.completion.chunk"));
    (void)http_write(r->x, "data: [DONE]\n\n", 14);
}

static json_t *chat_whole(struct api_run *r)
{
    json_t *choices = json_array(), *j;

    for (uint32_t i = 0; i < r->n; i++) {
        struct api_choice *x = &r->choices[i];
        json_t *calls = chat_calls(x);
        json_t *message = json_pack("{s:s,s:o,s:n}", "role", "assistant", "content",
                                    calls && x->answer.len == 0 ? json_null()
                                                                : api_str(&x->answer), "refusal");

        if (calls)
            json_object_set_new(message, "tool_calls", calls);
        if (x->reasoning.len) {
            json_object_set_new(message, "reasoning_content", api_str(&x->reasoning));
            json_object_set_new(message, "reasoning", api_str(&x->reasoning));
        }
        j = json_pack("{s:i,s:o,s:o,s:s}", "index", (int)i, "message",
            message, "logprobs", x->logprobs ? json_pack("{s:O,s:n}", "content", x->logprobs,
                                                         "refusal") : json_null(), "finish_reason", finish_reason(x));
        put_ids(r, x, j);
        json_array_append_new(choices, j);
    }
    j = json_pack("{s:s,s:s,s:I,s:s,s:o,s:o}", "id", r->id, "object", "chat.completion", "created",
                  (json_int_t)r->created, "model", r->model, "choices", choices, "usage",
                  api_openai_usage(r));
    put_prompt_ids(r, 0, j);
    put_prompt_logprobs(r, 0, j);
    if (r->n == 1)
        (void)json_object_set_new(j, "timings", api_timings(r, 0));
    return j;
}

static const struct api_frame chat_frame = {
    .split = true, .delta = chat_delta, .progress = chat_progress, .progress_if_asked = true,
    .choice_done = chat_choice_done,
    .call_begin = chat_call_begin, .call_piece = chat_call_piece, .call_id = "call_",
    .stream_done = chat_stream_done, .whole = chat_whole, .logprob = api_openai_logprob,
    .prompt_logprobs = true, .stream_type = "text/event-stream",
};

/* "none": the model is not told of tools. */
static int read_tool_choice(struct api_call *c, struct err *e)
{
    struct json_place p;
    const char *choice;
    int rc = json_find(&c->at, "tool_choice", &p, e);

    if (rc < 0 || !p.value)
        return rc;
    choice = json_string_value(p.value);
    if (choice && strcmp(choice, "none") == 0)
        (void)json_object_del(c->body, "tools");
    return 0;
}

static bool has_role(const json_t *message, const char *role)
{
    const char *is = json_string_value(json_object_get(message, "role"));

    return is && strcmp(is, role) == 0;
}

/* Takes away at least `n` of the oldest messages behind the system's, up to one of the user; false:
 * nothing may go. */
static bool drop_oldest(json_t *messages, size_t n)
{
    const size_t from = has_role(json_array_get(messages, 0), "system");
    size_t to = from + n;

    while (to < json_array_size(messages) && !has_role(json_array_get(messages, to), "user"))
        to++;
    if (to >= json_array_size(messages))
        return false;
    while (to-- > from)
        (void)json_array_remove(messages, from);
    return true;
}

/* With "truncation": "auto" the oldest turns go until an eighth of the context is left. */
static int truncate_prompt(struct api_call *c, json_t *messages, struct str *text,
                           struct tokens *ids, struct err *e)
{
    const char *how = json_string_value(json_object_get(c->body, "truncation"));
    const size_t room = service_n_ctx(c->m->svc) - service_n_ctx(c->m->svc) / 8;
    int rc = 0;

    for (size_t n = 1; how && strcmp(how, "auto") == 0 && rc == 0 && ids->n > room; n *= 2) {
        if (!drop_oldest(messages, n) && (n == 1 || !drop_oldest(messages, 1)))
            break;
        str_reset(text);
        ids->n = 0;
        rc = api_prompt(c, json_pack("{s:O}", "messages", messages), text, ids, e);
    }
    return rc;
}

bool api_chat_prompt(struct api_call *c, struct str *text, struct tokens *ids)
{
    struct json_place at;
    struct err e = { 0 };
    json_t *messages = NULL;
    int rc = read_tool_choice(c, &e);

    if (rc == 0)
        rc = json_need(&c->at, "messages", &at, &e);
    if (rc == 0)
        rc = api_messages(&at, &messages, &e);
    if (rc == 0)
        rc = api_prompt(c, json_pack("{s:O}", "messages", messages), text, ids, &e);
    if (rc == 0)
        rc = truncate_prompt(c, messages, text, ids, &e);
    json_decref(messages);
    if (rc < 0)
        api_fail(c, "messages", &e);
    return rc == 0;
}

static bool read_thinking(struct api_call *c, uint32_t *budget)
{
    struct err e = { 0 };
    const int rc = api_read_thinking(c, budget, &e);

    if (rc < 0)
        api_fail(c, "thinking", &e);
    return rc == 0;
}

void api_chat(struct api_call *c, const struct api_frame *frame, const char *id_prefix)
{
    struct api_ask *a = api_ask_open(c);

    if (a && api_read_options(c, &a->o) && read_thinking(c, &a->o.think_budget) &&
        api_chat_prompt(c, &a->text, &a->ids))
        api_generate(c, a, frame, id_prefix);
    api_ask_close(a);
}

static void chat_completions(struct api_call *c)
{
    api_chat(c, &chat_frame, "chatcmpl-");
}

/* As llama-server counts: what the prompt of such a request would have. */
static void chat_input_tokens(struct api_call *c)
{
    struct tokens ids = { 0 };
    uint32_t budget;
    struct str text;

    str_init(&text, 0);
    if (api_model_is_ours(c) && read_thinking(c, &budget) && api_chat_prompt(c, &text, &ids))
        api_json(c, 200, json_pack("{s:I}", "input_tokens", (json_int_t)ids.n));
    str_deinit(&text);
    tokens_deinit(&ids);
}

/* ---- completions ---- */

/* Takes entries over. */
static json_t *text_chunk(struct api_run *r, uint32_t i, struct sv text, const char *reason,
                          json_t *entries)
{
    json_t *logprobs = entries ? api_text_logprobs(entries, &r->choices[i].n_shown) : json_null();
    json_t *choice = json_pack("{s:i,s:o,s:o,s:o}", "index", (int)i, "text", api_text(text),
                               "logprobs", logprobs, "finish_reason",
                               reason ? json_string(reason) : json_null());

    json_decref(entries);
    put_ids(r, &r->choices[i], choice);
    if (!r->choices[i].begun)
        put_prompt_ids(r, i, choice);
    r->choices[i].begun = true;
    return chunk(r, "text_completion", choice);
}

/* In front of the answer, with its own log probabilities. */
static void echo_prompt(struct api_run *r, uint32_t i)
{
    const struct api_part *p = api_part_of(r, i);
    struct api_choice *x = &r->choices[i];
    json_t *own = NULL, *all, *entry;
    size_t k;

    if (!r->echo || x->begun)
        return;
    all = take_logprobs(x);
    if (all)
        own = json_array();
    json_array_foreach(all, k, entry)
        (void)json_array_append(k < p->n_prompt ? own : x->logprobs, entry);
    json_decref(all);
    api_event(r, text_chunk(r, i, sv_of(&p->prompt), NULL, own));
}

static void text_delta(struct api_run *r, uint32_t i, struct sv reasoning, struct sv answer)
{
    (void)reasoning;
    echo_prompt(r, i);
    api_event(r, text_chunk(r, i, answer, NULL, take_logprobs(&r->choices[i])));
}

static void text_choice_done(struct api_run *r, uint32_t i)
{
    struct api_choice *x = &r->choices[i];

    echo_prompt(r, i);
    api_event(r, text_chunk(r, i, (struct sv){ "", 0 }, finish_reason(x), take_logprobs(x)));
}

static void text_stream_done(struct api_run *r)
{
    if (r->include_usage)
        api_event(r, usage_chunk(r, "text_completion"));
    (void)http_write(r->x, "data: [DONE]\n\n", 14);
}

static json_t *text_whole(struct api_run *r)
{
    json_t *choices = json_array();

    for (uint32_t i = 0; i < r->n; i++) {
        struct api_choice *x = &r->choices[i];
        const struct str *prompt = &api_part_of(r, i)->prompt;
        uint32_t offset = 0;
        struct str text;
        json_t *j;

        str_init(&text, 0);
        if (r->echo)
            str_append(&text, prompt->data, prompt->len);
        str_append(&text, x->answer.data, x->answer.len);
        j = json_pack("{s:i,s:o,s:o,s:s}", "index", (int)i, "text",
            api_str(&text), "logprobs", x->logprobs ? api_text_logprobs(x->logprobs,
                                                                             &offset) : json_null(),
            "finish_reason", finish_reason(x));
        put_ids(r, x, j);
        put_prompt_ids(r, i, j);
        put_prompt_logprobs(r, i, j);
        json_array_append_new(choices, j);
        str_deinit(&text);
    }
    return json_pack("{s:s,s:s,s:I,s:s,s:o,s:o}", "id", r->id, "object", "text_completion",
                     "created", (json_int_t)r->created, "model", r->model, "choices", choices,
                     "usage", api_openai_usage(r));
}

static const struct api_frame text_frame = {
    .delta = text_delta, .choice_done = text_choice_done, .stream_done = text_stream_done,
    .whole = text_whole, .logprob = api_openai_logprob, .prompt_logprobs = true,
    .stream_type = "text/event-stream",
};

static void completions(struct api_call *c)
{
    struct api_ask *a = api_ask_open(c);
    struct err e = { 0 };

    if (!a)
        return;
    a->o.max_tokens = 16;               /* the API's default */
    a->o.continues = true;
    if (!api_read_options(c, &a->o))
        goto done;
    if (api_text_prompts(c, "prompt", "suffix", a, &e) < 0)
        api_fail(c, "prompt", &e);
    else
        api_generate(c, a, &text_frame, "cmpl-");
done:
    api_ask_close(a);
}

const struct api_route api_openai_routes[] = {
    { "POST", "/v1/chat/completions", chat_completions, API_INFER, true, "The answer to a conversation" },
    { "POST", "/chat/completions", chat_completions, API_INFER, true, "The same" },
    { "POST", "/v1/chat/completions/input_tokens", chat_input_tokens, API_INFER, true,
      "Tokens of such a request" },
    { "POST", "/v1/completions", completions, API_INFER, true, "The continuation of a text" },
    { 0 }
};
