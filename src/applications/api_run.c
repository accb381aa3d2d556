/* api_run.c: one request at the service: its events into choices, streamed or whole. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "applications/api.h"
#include "base/clock.h"
#include "base/mem.h"

#define LOGPROB_BYTES 1024u     /* of one token's in a document, about */
#define JSON_FLAGS (JSON_COMPACT | JSON_ENCODE_ANY)

static void run_unref(struct api_run *r)
{
    if (atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    for (uint32_t i = 0; i < r->n; i++) {
        think_deinit(&r->choices[i].think);
        api_calls_deinit(&r->choices[i]);
        str_deinit(&r->choices[i].reasoning);
        str_deinit(&r->choices[i].answer);
        json_decref(r->choices[i].logprobs);
        json_decref(r->choices[i].ids);
    }
    for (uint32_t i = 0; i < r->n_parts; i++) {
        str_deinit(&r->parts[i].prompt);
        json_decref(r->parts[i].ids);
        json_decref(r->parts[i].logprobs);
    }
    mem_free(r->choices);
    mem_free(r->parts);
    if (r->drop_user)
        r->drop_user(r->user);
    json_decref(r->stops);
    api_model_release(r->m);
    mem_free(r);
}

static void cancel(struct api_run *r)
{
    for (uint32_t i = 0; i < r->n_parts; i++) {
        const uint64_t ticket = atomic_load(&r->parts[i].ticket);

        if (ticket)
            service_cancel(r->m->svc, ticket, SERVICE_ALL);
    }
}

/* The client is gone: nothing of it is computed any more. */
static void on_abort(void *ctx)
{
    cancel(ctx);
}

const struct api_part *api_part_of(const struct api_run *r, uint32_t choice)
{
    return &r->parts[choice / r->n_each];
}

void api_event(struct api_run *r, json_t *j)
{
    const bool sse = strncmp(r->frame->stream_type, "text/event-stream", 17) == 0;
    const char *name = r->frame->typed ? json_string_value(json_object_get(j, "type")) : NULL;
    const size_t n = j ? json_dumpb(j, NULL, 0, JSON_FLAGS) : 0;
    struct str s;

    str_init(&s, 0);
    if (n == 0) {
        s.failed = true;
    } else if (str_reserve(&s, n + 64)) {
        if (name)
            str_printf(&s, "event: %s\n", name);
        if (sse)
            str_puts(&s, "data: ");
        if (str_reserve(&s, n + 3))
            s.len += json_dumpb(j, s.data + s.len, n, JSON_FLAGS);
        str_puts(&s, sse ? "\n\n" : "\n");
    }
    if (json_was_short() || !str_ok(&s))
        api_run_short(r);
    else
        (void)http_write(r->x, s.data, s.len);      /* who is gone was told: on_abort */
    str_deinit(&s);
    json_decref(j);
}

json_t *api_text(struct sv s)
{
    json_t *j = json_stringn(s.len ? s.data : "", s.len);
    struct str quoted;

    if (j || s.len == 0)
        return j;
    str_init(&quoted, 0);               /* a prompt of token ids may end within a character */
    json_put_str(&quoted, s);
    if (str_ok(&quoted))
        j = json_loadb(quoted.data, quoted.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (!j)
        json_short();
    str_deinit(&quoted);
    return j;
}

json_t *api_str(const struct str *s)
{
    if (str_ok(s))
        return api_text(sv_of(s));
    json_short();
    return NULL;
}

/* Of n choices from the first on, which is a prompt's first. */
static struct service_usage usage_of(const struct api_run *r, uint32_t first, uint32_t n)
{
    struct service_usage u = r->choices[first].usage;

    for (uint32_t i = first + 1; i < first + n; i++) {
        u.n_answer += r->choices[i].usage.n_answer;
        u.n_drafted += r->choices[i].usage.n_drafted;
        u.n_accepted += r->choices[i].usage.n_accepted;
        u.n_cached += i % r->n_each == 0 ? r->choices[i].usage.n_cached : 0;
    }
    return u;
}

struct service_usage api_usage(const struct api_run *r)
{
    return usage_of(r, 0, r->n);
}

json_t *api_openai_usage(const struct api_run *r)
{
    const struct service_usage u = api_usage(r);
    uint32_t n_reasoning = 0;
    json_t *j;

    for (uint32_t i = 0; i < r->n; i++)
        n_reasoning += r->choices[i].n_reasoning;
    j = json_pack("{s:i,s:i,s:i,s:{s:i},s:{s:i,s:i,s:i}}", "prompt_tokens", (int)r->n_prompt,
                  "completion_tokens", (int)u.n_answer, "total_tokens",
                  (int)(r->n_prompt + u.n_answer), "prompt_tokens_details", "cached_tokens",
                  (int)u.n_cached, "completion_tokens_details", "reasoning_tokens",
                  (int)n_reasoning, "accepted_prediction_tokens", (int)u.n_accepted,
                  "rejected_prediction_tokens", (int)(u.n_drafted - u.n_accepted));
    api_energy_into(j, r->m->energy, &r->energy);
    return j;
}

/* ---- events ---- */

static struct sv tail(const struct str *s, size_t from)
{
    return (struct sv){ s->len ? s->data + from : "", s->len - from };
}

void api_run_short(struct api_run *r)
{
    if (r->failed)
        return;
    (void)err_set(&r->error, WATT_ENOMEM, "answer: out of memory");
    r->failed = true;
    cancel(r);
}

/* Reasoning and answer are told apart; calls are taken out of the answer. */
static void split(struct api_choice *c, struct sv text, bool end)
{
    struct str *answer = c->parser ? &c->unparsed : &c->answer;

    str_reset(&c->unparsed);
    if (c->run->reasoning_in_text) {
        str_append(answer, text.data, text.len);
        return;
    }
    think_push(&c->think, text.data, text.len, &c->reasoning, answer);
    if (end)
        think_finish(&c->think, &c->reasoning, answer);
    if (c->run->no_reasoning)
        str_reset(&c->reasoning);
}

static void add_text(struct api_run *r, uint32_t i, struct sv text, bool end)
{
    struct api_choice *c = &r->choices[i];
    const size_t reasoned = c->reasoning.len, answered = c->answer.len;

    if (r->frame->split)
        split(c, text, end);
    else
        str_append(&c->answer, text.data, text.len);
    if (!str_ok(&c->reasoning) || !str_ok(&c->answer) || !str_ok(&c->unparsed) ||
        !str_ok(&c->think.held))
        api_run_short(r);
    if (r->stream && !r->failed &&
        (c->reasoning.len > reasoned || c->answer.len > answered))
        r->frame->delta(r, i, tail(&c->reasoning, reasoned), tail(&c->answer, answered));
    if (c->parser && c->unparsed.len > 0)
        tool_parser_push(c->parser, sv_of(&c->unparsed));
    if (c->parser && end) {
        tool_parser_finish(c->parser);
        if (!tool_parser_ok(c->parser) || !str_ok(&c->reasoning) || !str_ok(&c->answer))
            api_run_short(r);
    }
}

/* Before the last bytes: who has read them may send the next request at once. */
static void give_back(struct api_run *r)
{
    const struct service_usage u = api_usage(r);

    if (r->trail) {
        atomic_store(&r->trail->n_prompt, r->n_prompt);
        atomic_store(&r->trail->n_cached, u.n_cached);
        atomic_store(&r->trail->n_answer, u.n_answer);
    }
    if (r->key)
        api_leave_seat(r->key, (uint64_t)r->n_prompt + u.n_answer);
    r->key = NULL;
}

/* Of its key's budgets: joules, and what its tokens are sold for, or else cost. Tokens are charged
 * with the seat. */
static void charge(struct api_run *r)
{
    const struct api_energy_use *u = &r->energy;

    if (u->known)
        api_key_charge(r->key, BUDGET_JOULES, (double)(u->prefill_uj + u->decode_uj) * 1e-6);
    if (u->billed)
        api_key_charge(r->key, BUDGET_MONEY, u->bill.has_price ? u->bill.revenue : u->bill.cost);
}

/* What a prompt and its choices used; their own numbers are whole. */
static void account(struct api_run *r, struct api_part *p, uint64_t id)
{
    const struct api_choice *first = &r->choices[p->first];
    struct api_energy_report e = {
        .key = r->owner, .model = r->m->name, .request = r->request_id, .id = id,
        .usage = usage_of(r, p->first, r->n_each), .n_prompt = p->n_prompt, .times = first->times,
        .finish = r->failed ? SERVICE_ERROR : first->finish,
    };

    for (uint32_t i = 0; i < r->n_each; i++)
        e.n_thinking += first[i].n_reasoning;
    api_energy_end(r->m->energy, &p->energy, &e);
}

/* What all of them used. */
static void add_up(struct api_run *r)
{
    char joules[32];

    for (uint32_t i = 0; i < r->n_parts; i++)
        if (r->parts[i].energy.over)
            api_energy_add(&r->energy, &r->parts[i].energy);
    charge(r);
    api_energy_text(&r->energy, joules);
    if (joules[0] && !r->stream)
        http_add_header(r->x, "X-Energy-Joules", joules);
    if (joules[0] && !r->stream)
        http_add_header(r->x, "X-Energy-Source", api_energy_source(r->m->energy));
}

/* A stream that has begun ends with an event that says why, or is broken off if that can't be said. */
static void finish_stream(struct api_run *r)
{
    if (!r->failed)
        r->frame->stream_done(r);
    if (r->failed) {
        const bool memory = r->error.code == WATT_ENOMEM, theirs = r->error.code == WATT_ENOTSUP;

        r->failed = false;
        if (r->frame->stream_failed)
            r->frame->stream_failed(r);
        else
            api_event(r, api_error_body(r->x, memory ? 503 : theirs ? 400 : 500,
                                        theirs ? "invalid_request_error" : "server_error",
                                        memory ? "out_of_memory" : NULL, NULL, r->error.msg));
        if (r->failed)
            http_break(r->x);
    }
    http_end(r->x);
}

static void finish(struct api_run *r)
{
    struct api_call c = { .s = r->s, .x = r->x };

    give_back(r);
    if (atomic_load(&r->refused)) {
        r->failed = true;
        r->error = r->refusal_error;
    }
    if (r->stream && (!r->failed || r->begun || http_begun(r->x)))
        finish_stream(r);
    else if (atomic_load(&r->refused))
        api_refuse(&c, &r->refusal, &r->refusal_error);
    else if (r->failed && (r->error.code == WATT_ENOMEM || r->error.code == WATT_ENOTSUP))
        api_fail(&c, NULL, &r->error);
    else if (r->failed)
        api_error(&c, 500, "server_error", NULL, NULL, "%s", r->error.msg);
    else
        api_json(&c, 200, r->frame->whole(r));
    atomic_store(&r->over, true);
    http_on_abort(r->x, NULL, NULL);
    http_release(r->x);
    run_unref(r);
}

/* n more prompts are over, or will never begin. */
static void part_over(struct api_run *r, uint32_t n)
{
    if (atomic_fetch_sub(&r->n_open, n) != n)
        return;
    if (r->n_parts > 1)
        add_up(r);
    finish(r);
}

static bool echoes_logprobs(const struct api_run *r)
{
    return r->echo && r->logprobs && !r->frame->split && r->frame->logprob;
}

/* Into the choices, all of which echo the prompt, and into the prompt's own list: of the service's
 * alternatives each has as many as were asked for there. */
static void add_prompt_logprob(struct api_run *r, struct api_part *p, const struct service_event *all)
{
    struct service_event ev = *all;

    if (p->logprobs) {
        ev.n_top = all->n_top < r->n_prompt_top ? all->n_top : r->n_prompt_top;
        (void)json_array_append_new(p->logprobs, api_prompt_logprob(r, &ev));
    }
    if (echoes_logprobs(r)) {
        json_t *entry;

        ev.n_top = all->n_top < r->n_top ? all->n_top : r->n_top;
        entry = r->frame->logprob(r, &ev);
        for (uint32_t i = p->first; i < p->first + r->n_each; i++)
            (void)json_array_append(r->choices[i].logprobs, entry);
        json_decref(entry);
    }
}

/* How fast it goes, for who wants to know before the end. */
static void watch(struct api_run *r, struct api_part *p, struct api_choice *c,
                  const struct service_event *ev)
{
    const uint64_t now = r->timings_each || r->usage_each || r->progress ? clock_mono_ns() : 0;

    if (now == 0)
        return;
    if (p->began_ns == 0)
        p->began_ns = now;
    if (ev->kind == SERVICE_PROGRESS) {
        c->usage.n_cached = ev->n_cached;
        c->times.prefill = now - p->began_ns;
        return;
    }
    if (c->usage.n_answer == 0) {
        c->times.prefill = now - p->began_ns;
        c->times.first_token = now;
    }
    c->usage.n_answer = ev->index + 1;
    c->times.decode = now - c->times.first_token;
}

static void on_event(void *ctx, const struct service_event *ev)
{
    struct api_part *p = ctx;
    struct api_run *r = p->run;
    const uint32_t i = p->first + ev->choice;
    struct api_choice *c = &r->choices[i];

    (void)json_was_short();
    if (r->stream && !r->begun && (ev->kind != SERVICE_DONE || ev->finish != SERVICE_ERROR)) {
        r->begun = true;
        http_stream(r->x, 200, r->frame->stream_type);
    }
    if (ev->kind == SERVICE_TOKEN && c->ids)
        (void)json_array_append_new(c->ids, json_integer(ev->id));
    if (ev->kind == SERVICE_PROMPT_TOKEN)
        add_prompt_logprob(r, p, ev);
    if (ev->kind == SERVICE_PROGRESS || ev->kind == SERVICE_TOKEN)
        watch(r, p, c, ev);
    if (ev->kind == SERVICE_PROGRESS && r->frame->progress && r->progress && !r->failed)
        r->frame->progress(r, ev);
    if (ev->kind == SERVICE_TOKEN) {
        if (r->frame->split) {
            reasoning_push(&c->track, tokenizer_piece(r->m->tm->tok, ev->id));
            c->n_reasoning = c->track.n_tokens;
        }
        if (ev->has_logprob && c->logprobs && r->frame->logprob)
            json_array_append_new(c->logprobs, r->frame->logprob(r, ev));
        add_text(r, i, ev->text, false);
    }
    if (ev->kind == SERVICE_DONE && r->token_ids && ev->stop_id >= 0)
        (void)json_array_append_new(c->ids, json_integer(ev->stop_id));
    if (ev->kind == SERVICE_DONE)
        add_text(r, i, ev->text, true);
    if (json_was_short())
        api_run_short(r);
    if (ev->kind != SERVICE_DONE)
        return;
    c->done = true;
    c->finish = ev->finish;
    c->stop_index = ev->stop_index;
    c->usage = ev->usage;
    c->times = ev->times;
    if (ev->finish == SERVICE_ERROR && !r->failed) {
        r->failed = true;
        r->error = *ev->error;
        cancel(r);                      /* other prompts' answers would be for nobody */
    }
    if (ev->last)
        account(r, p, ev->request);
    if (r->n_parts == 1 && ev->last)    /* so that the last choice can tell */
        add_up(r);
    if (r->stream && !r->failed)
        r->frame->choice_done(r, i);
    if (ev->last)
        part_over(r, 1);
}

/* ---- submission ---- */

/* What the path calls its prompt; NULL where the body is not at hand any more. */
static const char *prompt_field(const struct api_call *c)
{
    static const char *const names[] = { "prompt", "input_prefix", "messages" };
    static const char responses[] = "/v1/responses";

    if (c->route && strncmp(c->route->path, responses, sizeof responses - 1) == 0)
        return "input";                 /* the body is that of a chat by now */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (json_object_get(c->body, names[i]))
            return names[i];
    return NULL;
}

void api_refuse(struct api_call *c, const struct service_ticket *t, const struct err *e)
{
    static const struct refusal { int status; const char *type, *name; } refusals[] = {
        [SERVICE_REFUSED_CONTEXT] = { 400, "invalid_request_error", "context_length_exceeded" },
        [SERVICE_REFUSED_QUEUE]   = { 429, "rate_limit_error", "queue_full" },
        [SERVICE_REFUSED_CLOSING] = { 503, "server_error", "shutting_down" },
        [SERVICE_REFUSED_NOMEM]   = { 503, "server_error", "out_of_memory" },
        [SERVICE_REFUSED_MEMORY]  = { 400, "invalid_request_error", "request_too_large" },
        [SERVICE_REFUSED_INVALID] = { 0 },      /* what e says of it */
    };
    const struct refusal *r = &refusals[t->refusal];
    char seconds[24];

    if (r->status == 0) {
        api_fail(c, NULL, e);
        return;
    }
    if (t->refusal == SERVICE_REFUSED_QUEUE || t->refusal == SERVICE_REFUSED_CLOSING) {
        (void)snprintf(seconds, sizeof seconds, "%" PRIu64,
                       t->refusal == SERVICE_REFUSED_QUEUE ? t->retry_after_ms / 1000 + 1 : 5);
        http_add_header(c->x, "Retry-After", seconds);
    }
    api_error(c, r->status, r->type, r->name,
              t->refusal == SERVICE_REFUSED_CONTEXT ? prompt_field(c) : NULL, "%s", e->msg);
}

static void choice_open(struct api_run *r, const struct api_call *c, const struct api_options *o,
                        struct api_choice *x, struct sv prompt)
{
    const struct tool_format *f = r->m->tm->tools;

    x->run = r;
    think_init(&x->think);
    if (f)
        think_learn(&x->think, f->think_open, f->think_close);
    reasoning_begin(&x->track, f ? f->think_open : "", f ? f->think_close : "", prompt);
    str_init(&x->unparsed, 0);
    think_begin(&x->think, prompt.len ? prompt.data : "", prompt.len);
    if (c->continues) {
        think_continue(&x->think, c->continued.len ? c->continued.data : "", c->continued.len);
        x->track.state = x->think.state == THINK_INSIDE && *x->track.close ? REASONING_INSIDE
                                                                           : REASONING_AFTER;
    }
    str_init(&x->reasoning, 0);
    str_init(&x->answer, 0);
    x->logprobs = o->logprobs ? json_array() : NULL;
    x->ids = r->frame->ids || o->token_ids ? json_array() : NULL;
}

/* Prompt i of the request. */
static const struct tokens *ids_of(const struct api_ask *a, size_t i)
{
    return i == 0 ? &a->ids : &a->more[i - 1].ids;
}

static const struct str *text_of(const struct api_ask *a, size_t i)
{
    return i == 0 ? &a->text : &a->more[i - 1].text;
}

static json_t *id_list(const struct tokens *ids)
{
    json_t *list = json_array();

    for (size_t i = 0; i < ids->n; i++)
        (void)json_array_append_new(list, json_integer(ids->ids[i]));
    return list;
}

/* The prompts with their choices; false: no memory. */
static bool open_parts(struct api_run *r, const struct api_call *c, const struct api_ask *a)
{
    const uint32_t n_parts = (uint32_t)a->n_more + 1;

    r->n_each = a->o.n;
    r->parts = mem_calloc(n_parts, sizeof *r->parts);
    r->choices = mem_calloc((size_t)n_parts * r->n_each, sizeof *r->choices);
    if (!r->parts || !r->choices)
        return false;
    for (uint32_t i = 0; i < n_parts; i++) {
        struct api_part *p = &r->parts[r->n_parts++];
        const struct str *text = text_of(a, i);

        p->run = r;
        p->first = r->n;
        p->n_prompt = (uint32_t)ids_of(a, i)->n;
        r->n_prompt += p->n_prompt;
        str_init(&p->prompt, 0);
        str_append(&p->prompt, text->data, text->len);
        if (a->o.token_ids)
            p->ids = id_list(ids_of(a, i));
        if (a->o.prompt_logprobs)
            p->logprobs = json_array();
        for (uint32_t k = 0; k < r->n_each; k++)
            choice_open(r, c, &a->o, &r->choices[r->n++], sv_of(text));
        if (!str_ok(text) || !str_ok(&p->prompt))
            return false;
    }
    return !json_was_short();
}

static struct api_run *run_open(struct api_call *c, const struct api_ask *a,
                                const struct api_frame *frame, const char *id_prefix)
{
    const struct api_options *o = &a->o;
    struct api_run *r = mem_calloc(1, sizeof *r);

    if (!r)
        return NULL;
    r->s = c->s;
    r->m = c->m;
    r->model = c->adapter ? c->adapter_name : c->m->name;
    api_model_hold(r->m);
    r->x = c->x;
    r->frame = frame;
    r->stream = o->stream;
    r->include_usage = o->include_usage;
    r->reasoning_in_text = o->reasoning_in_text;
    r->logprobs = o->logprobs;
    r->n_top = o->n_top;
    r->n_prompt_top = o->n_prompt_top;
    r->echo = o->echo;
    r->progress = o->progress || !frame->progress_if_asked;
    r->timings_each = o->timings_each && o->stream;
    r->token_ids = o->token_ids;
    r->tokens_as_ids = o->tokens_as_ids;
    r->no_reasoning = o->no_reasoning;
    r->usage_each = o->usage_each;
    r->created = (int64_t)time(NULL);
    r->trail = api_trail(c);
    r->user = c->user;
    r->drop_user = c->drop_user;
    c->drop_user = NULL;
    memcpy(r->request_id, c->request_id, sizeof r->request_id);
    api_new_id(c->s, id_prefix, r->id);
    r->stops = json_array();
    for (size_t i = 0; i < o->n_stops; i++)
        (void)json_array_append_new(r->stops, json_string(o->stops[i]));
    if (!open_parts(r, c, a)) {
        atomic_init(&r->refs, 1);
        run_unref(r);
        return NULL;
    }
    atomic_init(&r->n_open, r->n_parts);
    atomic_init(&r->refs, 2);           /* this call's, and the service's until its last event */
    return r;
}

/* Calls are looked for where there are tools; messages in channels are told apart in any case. */
static int open_calls(struct api_call *c, struct api_run *r, struct err *e)
{
    const struct tool_format *f = c->m->tm->tools;
    const json_t *tools = json_object_get(c->body, "tools");
    int rc = 0;

    if (!f || f->shape == TOOL_NONE || (json_array_size(tools) == 0 && f->shape != TOOL_CHANNELS))
        return 0;
    for (uint32_t i = 0; i < r->n && rc == 0; i++)
        rc = api_calls_open(r, &r->choices[i], json_array_size(tools) ? tools : NULL, e);
    return rc;
}

/* Was thinking switched off, by any of the names for it? */
static bool thinking_is_off(const struct api_call *c)
{
    const json_t *kwargs = json_object_get(c->body, "chat_template_kwargs");
    const char *effort = json_string_value(json_object_get(c->body, "reasoning_effort"));

    return json_is_false(json_object_get(c->body, "enable_thinking")) ||
           json_is_false(json_object_get(kwargs, "enable_thinking")) ||
           json_is_false(json_object_get(kwargs, "thinking")) ||
           (effort && strcmp(effort, "none") == 0);
}

/* The grammar of the answer, from behind its reasoning on, and the bound of that. A template that
 * can't switch reasoning off has it closed at once. */
static int open_mask(struct api_call *c, const struct api_options *o, struct api_run *r,
                     struct token_mask **out, struct err *e)
{
    struct token_thinking thinking = { .tok = c->m->tm->tok, .at = r->choices[0].track,
                                       .budget = o->think_budget };
    struct grammar_masks *masks = NULL;
    int rc;

    if (service_diffusion(c->m->svc))
        return 0;               /* what would need one was refused */
    rc = api_grammar_of(c->m->grammars, &c->at, r->frame->split, &masks, e);
    if (thinking_is_off(c))
        thinking.budget = 0;
    if (!r->frame->split)
        thinking.at.state = REASONING_AFTER;
    if (rc == 0 && (masks || (thinking.budget != API_NO_BUDGET &&
                              thinking.at.state != REASONING_AFTER)))
        rc = token_source_open(out, masks, &thinking, e);
    grammar_masks_close(masks);
    return rc;
}

struct api_ask *api_ask_open(struct api_call *c)
{
    struct api_ask *a;

    if (!api_model_is_ours(c))
        return NULL;
    a = mem_calloc(1, sizeof *a);
    if (!a) {
        api_error(c, 503, "server_error", "out_of_memory", NULL, "out of memory");
        return NULL;
    }
    api_options_init(&a->o);
    str_init(&a->text, 0);
    return a;
}

void api_ask_close(struct api_ask *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->n_more; i++) {
        str_deinit(&a->more[i].text);
        tokens_deinit(&a->more[i].ids);
    }
    mem_free(a->more);
    mem_free(a->o.allowed);
    tokens_deinit(&a->o.bad_ids);
    str_deinit(&a->text);
    tokens_deinit(&a->ids);
    mem_free(a);
}

/* What is the same for all prompts. */
static void fill_request(struct api_call *c, const struct api_options *o, const struct api_run *r,
                         struct service_request *q)
{
    q->adapter = c->adapter;
    q->adapter_scale = c->adapter_scale;
    q->max_tokens = o->max_tokens;
    q->clip_max = true;
    q->min_tokens = o->min_tokens;
    q->n_choices = o->n;
    q->prompt_only = o->prompt_only;
    q->prompt_logprobs = o->prompt_logprobs || echoes_logprobs(r);
    q->n_prompt_top = echoes_logprobs(r) && o->n_top > o->n_prompt_top ? o->n_top : o->n_prompt_top;
    q->sampling = o->sampling;
    q->stops = o->stops;
    q->n_stops = o->n_stops;
    q->include_stop = o->include_stop;
    q->stop_ids = o->stop_ids;
    q->n_stop_ids = o->n_stop_ids;
    q->ignore_end = o->ignore_eos;
    q->allowed = o->allowed;
    q->bad_ids = o->bad_ids.ids;
    q->bad_ends = o->bad_ends;
    q->n_bad = o->n_bad;
    q->continues = o->continues || c->continues;
    q->special = o->special;
    if (r->frame->split && c->m->tm->tools) {
        const struct tool_format *f = c->m->tm->tools;

        q->shown = f->markers;
        q->n_shown = r->choices[0].parser ? f->n_markers : f->n_think_markers;
    }
    q->logprobs = o->logprobs;
    q->n_top = o->n_top;
    q->priority = api_key_priority(c->key, o->priority);
    q->account = api_key_account(c->key);
    q->salt = o->salt;
    q->no_cache = o->no_cache;
    q->speculate = o->speculate;
    q->progress = o->stream && (o->timings_each || (r->frame->progress &&
                                (o->progress || !r->frame->progress_if_asked)));
    q->on_event = on_event;
}

/* Hands a prompt to the service. Its grammar is the one in q for the first, its own for others. */
static int submit(struct api_call *c, const struct api_ask *a, struct api_run *r, uint32_t i,
                  struct service_request *q, struct service_ticket *t, struct err *e)
{
    struct api_part *p = &r->parts[i];
    int rc;

    if (i > 0) {
        q->mask = NULL;
        rc = open_mask(c, &a->o, r, &q->mask, e);
        if (rc < 0)
            return rc;
    }
    q->tokens = ids_of(a, i)->ids;
    q->n_tokens = p->n_prompt;
    /* the whole answer's go with the first: either all fits or nothing is begun */
    q->caller_bytes = q->prompt_logprobs && i == 0
                      ? (uint64_t)r->n_prompt * (q->n_prompt_top + 1) * LOGPROB_BYTES : 0;
    q->ctx = p;
    api_energy_begin(r->m->energy, &p->energy);
    rc = service_submit(r->m->svc, q, t, e);
    if (rc < 0)
        api_energy_end(r->m->energy, &p->energy, &(struct api_energy_report){ .id = 0 });
    else
        atomic_store(&p->ticket, t->id);
    return rc;
}

/* Those behind the first, which runs already. All or none: with one refused, the rest goes too. */
static void submit_more(struct api_call *c, const struct api_ask *a, struct api_run *r,
                        struct service_request *q)
{
    for (uint32_t i = 1; i < r->n_parts; i++) {
        struct service_ticket t = { .refusal = SERVICE_REFUSED_INVALID };

        if (submit(c, a, r, i, q, &t, &r->refusal_error) < 0) {
            r->refusal = t;
            atomic_store(&r->refused, true);
            cancel(r);
            part_over(r, r->n_parts - i);
            return;
        }
    }
}

/* False: has answered, for prompt_logprobs can't be had here, or not of so many tokens. */
static bool may_tell_prompts(struct api_call *c, const struct api_ask *a,
                             const struct api_frame *frame)
{
    uint64_t n = 0;

    if (!a->o.prompt_logprobs)
        return true;
    for (size_t i = 0; i <= a->n_more; i++)
        n += (uint64_t)ids_of(a, i)->n * (a->o.n_prompt_top + 1);
    if (!frame->prompt_logprobs)
        api_error(c, 400, "invalid_request_error", NULL, "prompt_logprobs",
                  "prompt_logprobs: can't be had on this path");
    else if (n > API_MAX_PROMPT_LOGPROBS)
        api_error(c, 400, "invalid_request_error", "limit_exceeded", "prompt_logprobs",
                  "prompt_logprobs: %" PRIu64 " log probabilities, at most %u", n,
                  API_MAX_PROMPT_LOGPROBS);
    return frame->prompt_logprobs && n <= API_MAX_PROMPT_LOGPROBS;
}

void api_generate(struct api_call *c, const struct api_ask *a, const struct api_frame *frame,
                  const char *id_prefix)
{
    const struct api_options *o = &a->o;
    struct api_run *r;
    struct service_request q;
    struct service_ticket t = { 0 };
    struct err e = { 0 };

    service_request_init(&q);
    if (!api_read_diffusion(c, o, &q))
        return;
    if ((a->n_more + 1) * o->n > API_MAX_ANSWERS) {
        api_error(c, 400, "invalid_request_error", "limit_exceeded", "n", "%zu prompts with %u choices "
                  "each are more than %u answers", a->n_more + 1, o->n, API_MAX_ANSWERS);
        return;
    }
    if (!may_tell_prompts(c, a, frame))
        return;
    r = run_open(c, a, frame, id_prefix);
    if (!r) {
        api_error(c, 503, "server_error", "out_of_memory", NULL, "out of memory");
        return;
    }
    if (open_mask(c, o, r, &q.mask, &e) < 0 || (frame->split && open_calls(c, r, &e) < 0)) {
        token_mask_close(q.mask);
        api_fail(c, strncmp(e.msg, "tool_choice:", 12) == 0 ? "tool_choice"
                    : strncmp(e.msg, "tools:", 6) == 0 ? "tools" : NULL, &e);
        atomic_store(&r->refs, 1);
        run_unref(r);
        return;
    }
    http_hold(c->x);            /* until the service's last event */
    fill_request(c, o, r, &q);
    r->key = api_pass_seat(c);
    api_key_label(c->key, r->owner);
    if (submit(c, a, r, 0, &q, &t, &e) < 0) {
        if (r->key)
            api_leave_seat(r->key, 0);
        api_refuse(c, &t, &e);
        http_release(c->x);
        run_unref(r);           /* the service's: no event will come */
    } else {
        submit_more(c, a, r, &q);
        if (o->stream && strcmp(frame->stream_type, "text/event-stream") == 0)
            http_keep_alive(c->x, frame->stream_type, ": still here\n\n", c->s->ping_ms);
        http_on_abort(c->x, on_abort, r);
        if (atomic_load(&r->over))      /* it was over before anybody could ask */
            http_on_abort(c->x, NULL, NULL);
    }
    run_unref(r);
}
