/* api_ollama.c: Ollama's API: conversations and texts as lines of JSON. What its clients ask about
 * models is in api_manage.c. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "applications/api_prompt.h"
#include "base/clock.h"
#include "watt.h"

#define MAX_LIST   100000u
#define TIME_BYTES 48

json_t *api_ollama_error(int status, const char *type, const char *code, const char *param,
                         const char *message)
{
    (void)status;
    (void)type;
    (void)code;
    (void)param;
    return json_pack("{s:s}", "error", message);
}

/* RFC 3339. */
static void time_text(int64_t s, long ns, char out[TIME_BYTES])
{
    const time_t t = (time_t)s;
    struct tm tm = { 0 };
    char date[24] = "";

    (void)gmtime_r(&t, &tm);
    (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(out, TIME_BYTES, "%s.%09ldZ", date, ns);
}

static void now_text(char out[TIME_BYTES])
{
    const int64_t now = clock_wall_ns();

    time_text(now / 1000000000, (long)(now % 1000000000), out);
}

/* ---- the answer ---- */

static const struct api_frame chat_frame, generate_frame;

static json_t *line(const char *model, bool chat, json_t *thinking, json_t *text)
{
    char now[TIME_BYTES];
    json_t *j, *m;

    now_text(now);
    j = json_pack("{s:s,s:s}", "model", model, "created_at", now);
    m = chat ? json_pack("{s:s}", "role", "assistant") : json_incref(j);
    (void)json_object_set_new(m, chat ? "content" : "response", text);
    if (thinking)
        (void)json_object_set_new(m, "thinking", thinking);
    if (chat)
        (void)json_object_set_new(j, "message", m);
    else
        json_decref(m);
    (void)json_object_set_new(j, "done", json_false());
    return j;
}

static json_t *run_line(struct api_run *r, struct sv reasoning, struct sv answer)
{
    json_t *j = line(r->model, r->frame == &chat_frame, reasoning.len ? api_text(reasoning) : NULL,
                     api_text(answer));
    struct api_choice *x = &r->choices[0];

    if (x->logprobs && json_array_size(x->logprobs) > 0) {
        (void)json_object_set_new(j, "logprobs", x->logprobs);
        x->logprobs = json_array();
    }
    return j;
}

static json_t *call_entry(const struct api_toolcall *t)
{
    return json_pack("{s:s,s:{s:s,s:o}}", "id", t->id, "function", "name", t->name, "arguments",
                     api_call_arguments(t));
}

/* A call comes as one line, when it is whole. */
static void call_end(struct api_run *r, uint32_t choice, uint32_t call)
{
    const struct api_toolcall *t = &r->choices[choice].calls[call];
    const struct sv nothing = { "", 0 };
    json_t *j;

    if (!t->complete)
        return;
    j = run_line(r, nothing, nothing);
    (void)json_object_set_new(json_object_get(j, "message"), "tool_calls",
                              json_pack("[o]", call_entry(t)));
    api_event(r, j);
}

static json_t *last_line(struct api_run *r, json_t *j)
{
    const struct api_choice *x = &r->choices[0];
    json_t *done = json_pack("{s:b,s:s,s:I,s:I,s:I,s:I,s:I,s:I}", "done", 1, "done_reason",
                             x->finish == SERVICE_STOP ? "stop" : "length",
                             "total_duration", (json_int_t)x->times.total,
                             "load_duration", (json_int_t)0,
                             "prompt_eval_count", (json_int_t)r->n_prompt,
                             "prompt_eval_duration", (json_int_t)x->times.prefill,
                             "eval_count", (json_int_t)x->usage.n_answer,
                             "eval_duration", (json_int_t)x->times.decode);

    (void)json_object_update(j, done);
    api_energy_into(j, r->m->energy, &r->energy);
    json_decref(done);
    return j;
}

static void delta(struct api_run *r, uint32_t choice, struct sv reasoning, struct sv answer)
{
    (void)choice;
    api_event(r, run_line(r, reasoning, answer));
}

static void choice_done(struct api_run *r, uint32_t choice)
{
    const struct sv nothing = { "", 0 };

    (void)choice;
    api_event(r, last_line(r, run_line(r, nothing, nothing)));
}

static void stream_done(struct api_run *r)
{
    (void)r;                            /* the last line was the last word */
}

static json_t *whole(struct api_run *r)
{
    const struct api_choice *x = &r->choices[0];
    json_t *j = run_line(r, sv_of(&x->reasoning), sv_of(&x->answer)), *calls = json_array();

    for (uint32_t k = 0; k < x->n_calls; k++)
        if (x->calls[k].complete)
            (void)json_array_append_new(calls, call_entry(&x->calls[k]));
    if (json_array_size(calls) > 0)
        (void)json_object_set(json_object_get(j, "message"), "tool_calls", calls);
    json_decref(calls);
    return last_line(r, j);
}

#define FRAME { .split = true, .call_end = call_end, .delta = delta, .choice_done = choice_done, \
                .stream_done = stream_done, .whole = whole, .logprob = api_openai_logprob, \
                .stream_type = "application/x-ndjson" }
static const struct api_frame chat_frame = FRAME, generate_frame = FRAME;
#undef FRAME

/* ---- the request ---- */

static void ollama_defaults(struct api_options *o)
{
    api_options_init(o);
    o->stream = true;
    o->sampling.temp = 0.8f;
    o->sampling.top_k = 40;
    o->sampling.top_p = 0.9f;
    o->sampling.repeat_penalty = 1.1f;
}

/* options.X is read as X. */
static int lift_options(struct api_call *c, struct err *e)
{
    const uint32_t n_ctx = service_n_ctx(c->m->svc);
    struct json_place at, p;
    uint64_t n = 0;
    int rc = json_find(&c->at, "options", &at, e);

    if (rc < 0 || !at.value)
        return rc;
    rc = json_find(&at, "num_ctx", &p, e);
    if (rc == 0 && p.value)
        rc = json_read_u64(&p, 0, UINT32_MAX, &n, e);
    if (rc == 0 && n > n_ctx)
        rc = json_refuse(&p, e, WATT_EINVAL, "this server was started with %u positions", n_ctx);
    if (rc == 0 && json_object_update_missing(c->body, (json_t *)(uintptr_t)at.value) < 0)
        rc = err_set(e, WATT_ENOMEM, "options");
    return rc;
}

/* think: true, false, or how much. */
static int lift_think(struct api_call *c, struct err *e)
{
    json_t *v = json_object_get(c->body, "think");
    int rc = 0;

    if (json_is_boolean(v))
        rc = json_object_set(c->body, "enable_thinking", v);
    else if (json_is_string(v))
        rc = json_object_set(c->body, "reasoning_effort", v);
    else if (v && !json_is_null(v))
        return err_set(e, WATT_EFORMAT, "request body: think: expected a boolean or a string");
    return rc < 0 ? err_set(e, WATT_ENOMEM, "think") : 0;
}

static int no_images(const struct json_place *at, struct err *e)
{
    struct json_place p;
    int rc = json_find(at, "images", &p, e);

    if (rc == 0 && p.value && json_array_size(p.value) > 0)
        rc = json_refuse(&p, e, WATT_ENOTSUP, "this model reads text");
    return rc;
}

/* Names that only Ollama's messages have. */
static int adapt_messages(const struct json_place *at, struct err *e)
{
    size_t n;
    int rc = json_read_array(at, MAX_LIST, &n, e);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(at, i);
        json_t *m = (json_t *)(uintptr_t)item.value, *v;

        rc = no_images(&item, e);
        v = json_object_get(m, "thinking");
        if (rc == 0 && json_is_string(v) && json_object_set(m, "reasoning_content", v) < 0)
            rc = err_set(e, WATT_ENOMEM, "messages");
        v = json_object_get(m, "tool_name");
        if (rc == 0 && json_is_string(v) && json_object_set(m, "name", v) < 0)
            rc = err_set(e, WATT_ENOMEM, "messages");
    }
    return rc;
}

static int chat_prompt(struct api_call *c, struct api_ask *a, struct err *e)
{
    struct json_place at;
    json_t *list = NULL;
    int rc = json_need(&c->at, "messages", &at, e);

    if (rc == 0)
        rc = adapt_messages(&at, e);
    if (rc == 0)
        rc = api_messages(&at, &list, e);
    return rc == 0 ? api_prompt(c, json_pack("{s:o}", "messages", list), &a->text, &a->ids, e) : rc;
}

static int generate_prompt(struct api_call *c, struct api_ask *a, struct err *e)
{
    struct json_place p, system;
    struct sv s = { "", 0 };
    bool raw = false;
    json_t *list;
    int rc = no_images(&c->at, e);

    if (rc == 0)
        rc = json_find(&c->at, "context", &p, e);
    if (rc == 0 && json_array_size(p.value) > 0)
        rc = json_refuse(&p, e, WATT_ENOTSUP, "is not supported: send the conversation to /api/chat");
    if (rc == 0)
        rc = json_find(&c->at, "template", &p, e);
    if (rc == 0 && json_string_length(p.value) > 0)
        rc = json_refuse(&p, e, WATT_ENOTSUP, "can't be changed by a request; see raw");
    if (rc == 0)
        rc = json_get_bool(&c->at, "raw", false, &raw, e);
    if (rc == 0)
        rc = json_find(&c->at, "suffix", &p, e);
    a->o.continues = raw || json_string_length(p.value) > 0;
    if (rc == 0 && a->o.continues)
        return api_text_prompt(c, "prompt", "suffix", &a->text, &a->ids, e);
    if (rc == 0)
        rc = json_need(&c->at, "prompt", &p, e);
    if (rc == 0)
        rc = json_read_str(&p, &s, e);
    if (rc == 0)
        rc = json_find(&c->at, "system", &system, e);
    if (rc == 0 && system.value && !json_is_string(system.value))
        rc = json_refuse(&system, e, WATT_EFORMAT, "expected a string");
    if (rc < 0)
        return rc;
    list = json_array();
    if (json_string_length(system.value) > 0)
        (void)json_array_append_new(list, json_pack("{s:s,s:O}", "role", "system", "content",
                                                    system.value));
    (void)json_array_append_new(list, json_pack("{s:s,s:o}", "role", "user", "content",
                                                api_text(s)));
    return api_prompt(c, json_pack("{s:o}", "messages", list), &a->text, &a->ids, e);
}

/* "5m", "1h30m", "300", 300, 0, -1: how long the model stays once nobody uses it. */
int api_read_keep_alive(struct api_call *c, struct err *e)
{
    struct json_place p;
    uint64_t keep;
    int rc = json_find(&c->at, "keep_alive", &p, e);

    if (rc < 0 || !p.value)
        return rc;
    if (json_is_string(p.value) ? !api_keep_parse(json_string_value(p.value), &keep)
                                : !json_is_number(p.value))
        return json_refuse(&p, e, WATT_EFORMAT, "expected seconds, or a duration such as \"5m\"");
    if (!json_is_string(p.value)) {
        const double s = json_number_value(p.value);

        keep = s < 0 || s > 1e9 ? API_KEEP_FOREVER : (uint64_t)(s * 1e9);
    }
    api_model_keep(c->m, keep);
    return 0;
}

/* A request that says nothing asks to load or unload. */
static bool only_loads(struct api_call *c, bool chat)
{
    const json_t *v = json_object_get(c->body, chat ? "messages" : "prompt");
    const json_t *keep = json_object_get(c->body, "keep_alive");
    uint64_t ns = 1;
    json_t *j;

    if (chat ? v && !json_is_null(v) && !(json_is_array(v) && json_array_size(v) == 0)
             : v && !json_is_null(v) && !(json_is_string(v) && json_string_length(v) == 0))
        return false;
    j = line(c->m->name, chat, NULL, json_string(""));
    (void)json_object_set_new(j, "done", json_true());
    (void)json_object_set_new(j, "done_reason", json_string(
        (json_is_number(keep) && json_number_value(keep) == 0) ||
        (json_is_string(keep) && api_keep_parse(json_string_value(keep), &ns) && ns == 0)
            ? "unload" : "load"));
    api_json(c, 200, j);
    return true;
}

static void answer(struct api_call *c, bool chat)
{
    struct api_ask *a = api_ask_open(c);
    struct err e = { 0 };
    int rc;

    if (!a)
        return;
    ollama_defaults(&a->o);
    rc = api_read_keep_alive(c, &e);
    if (rc == 0)
        rc = lift_options(c, &e);
    if (rc == 0 && only_loads(c, chat))
        goto done;
    if (rc == 0)
        rc = lift_think(c, &e);
    if (rc < 0) {
        api_fail(c, NULL, &e);
        goto done;
    }
    if (!api_read_options(c, &a->o))
        goto done;
    a->o.n = 1;
    a->o.echo = false;
    rc = (chat ? chat_prompt : generate_prompt)(c, a, &e);
    if (rc < 0)
        api_fail(c, NULL, &e);
    else
        api_generate(c, a, chat ? &chat_frame : &generate_frame, "");
done:
    api_ask_close(a);
}

static void chat(struct api_call *c)
{
    answer(c, true);
}

static void generate(struct api_call *c)
{
    answer(c, false);
}

/* ---- the rest ---- */

/* Of the Ollama whose API this is: clients look whether it is new enough (editors want 0.6.4, coding
 * assistants that use /v1/responses 0.13.4). Our own is at /version. */
static void version(struct api_call *c)
{
    api_json(c, 200, json_pack("{s:s}", "version", "0.13.4"));
}

static void root(struct api_call *c)
{
    static const char text[] = "Ollama is running";     /* clients compare it */

    http_reply(c->x, 200, "text/plain; charset=utf-8", text, sizeof text - 1);
}

const struct api_route api_ollama_routes[] = {
    { "GET", "/", root, API_OPEN, false, "What Ollama's clients look for" },
    { "POST", "/api/chat", chat, API_INFER, true, "The answer to a conversation, Ollama's API" },
    { "POST", "/api/generate", generate, API_INFER, true, "The answer to a prompt, Ollama's API" },
    { "GET", "/api/version", version, API_OPEN, false, "The version of Ollama whose API this is" },
    { 0 }
};
