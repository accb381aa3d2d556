/* eval_ask_url.c: questions to any server that speaks OpenAI's chat completions, over
 * infrastructure/http_client.h. Samples are requests of their own, with seeds one apart: not every
 * server knows "n". */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "applications/eval_ask_internal.h"
#include "base/json.h"
#include "base/mem.h"
#include "infrastructure/http_client.h"

#define MAX_TRIES 5u            /* of a request that a busy server refused */

struct remote;

struct call {
    struct remote              *r;
    const struct eval_question *q;
    uint32_t                    sample, tries;
    char                       *body;
    struct call                *next;   /* free, or to be sent again */
};

struct remote {
    struct eval_asker    a;
    struct http_client  *http;
    char                *url, *model, *key;
    struct call         *calls, *free_calls, *again;
    size_t               n_open;        /* sent, or to be sent again */
    eval_result_fn      *fn;
    void                *fn_ctx;
    struct err           e;             /* the first failure; ends it all */
};

static int nomem(struct err *e)
{
    return err_set(e, WATT_ENOMEM, "out of memory for questions");
}

/* ---- requests ---- */

static int poll_caller(void *ctx)
{
    const struct call *c = ctx;

    return c->r->a.o.poll ? c->r->a.o.poll(c->r->a.o.ctx) : 0;
}

static json_t *messages_of(const struct eval_item *it)
{
    return it->messages ? json_incref(it->messages)
                        : json_pack("[{s:s, s:s}]", "role", "user", "content", it->prompt);
}

static int append(const char *s, size_t n, void *out)
{
    str_append(out, s, n);
    return 0;
}

/* mem_free it; NULL: memory is short. */
static char *make_body(const struct call *c)
{
    const struct remote *r = c->r;
    json_t *o = json_pack("{s:s, s:o, s:f, s:I, s:I, s:b}", "model", r->model, "messages", messages_of(c->q->item),
                          "temperature", (double)c->q->temperature, "max_tokens", (json_int_t)r->a.o.max_tokens,
                          "seed", (json_int_t)((r->a.o.seed + c->q->index * EVAL_MAX_SAMPLES + c->sample) & INT32_MAX),
                          "stream", 0);
    struct str text;
    char *body;

    str_init(&text, 0);
    if (!o || (c->q->item->tools && json_object_set(o, "tools", (json_t *)c->q->item->tools) < 0)) {
        json_decref(o);
        return NULL;
    }
    body = json_dump_callback(o, append, &text, JSON_COMPACT) == 0 ? str_take(&text, NULL) : NULL;
    str_deinit(&text);
    json_decref(o);
    return body;
}

static void done(void *ctx, int rc, const struct http_client_response *resp, const struct err *why);

static int send_call(struct call *c, struct err *e)
{
    const struct http_client_request req = {
        .url = c->r->url, .body = c->body, .n_body = strlen(c->body), .bearer = c->r->key,
        .stall_ms = 600000, .poll = poll_caller, .on_done = done, .ctx = c,
    };

    return http_client_start(c->r->http, &req, e);
}

/* ---- answers ---- */

/* {"function": {"name", "arguments": "text of an object"}} as eval_answer has calls. */
static json_t *read_calls(const json_t *list)
{
    json_t *out = json_array();
    size_t i;
    const json_t *item;

    json_array_foreach(list, i, item) {
        const json_t *f = json_object_get(item, "function");
        const json_t *args = json_object_get(f, "arguments");
        json_t *parsed = json_is_string(args) ? json_loads(json_string_value(args), 0, NULL)
                                              : json_incref((json_t *)args);
        json_t *call = json_null();

        if (json_is_string(json_object_get(f, "name")) && json_is_object(parsed))
            call = json_pack("{s:O, s:O}", "name", json_object_get(f, "name"), "arguments", parsed);
        json_decref(parsed);
        if (!call || !out || json_array_append_new(out, call) < 0) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}

static int take_answer(struct call *c, const struct http_client_response *resp, struct err *e)
{
    struct eval_result r = { .question = c->q, .sample = c->sample };
    const json_t *choice, *message, *calls;
    json_t *doc = NULL;
    const char *text, *finish;
    int rc = http_client_refused(c->r->url, resp, e);

    if (rc == 0)
        rc = json_parse(&doc, "answer", resp->body.data, resp->body.len, NULL, e);
    if (rc < 0)
        return rc;
    choice = json_array_get(json_object_get(doc, "choices"), 0);
    message = json_object_get(choice, "message");
    if (!json_is_object(message)) {
        json_close(doc);
        return err_set(e, WATT_EFORMAT, "%s: answer: expected choices[0].message", c->r->url);
    }
    text = json_string_value(json_object_get(message, "content"));
    finish = json_string_value(json_object_get(choice, "finish_reason"));
    calls = json_object_get(message, "tool_calls");
    r.answer.text = sv_cstr(text ? text : "");
    r.n_tokens = (uint32_t)json_integer_value(json_object_get(json_object_get(doc, "usage"), "completion_tokens"));
    r.cut = finish && strcmp(finish, "length") == 0;
    if (json_array_size(calls) > 0 && !(r.answer.calls = read_calls(calls)))
        rc = nomem(e);
    if (rc == 0)
        rc = c->r->fn(c->r->fn_ctx, &r, e);
    json_decref(r.answer.calls);
    json_close(doc);
    return rc;
}

static void release(struct call *c)
{
    c->r->n_open--;
    c->next = c->r->free_calls;
    c->r->free_calls = c;
}

static void done(void *ctx, int rc, const struct http_client_response *resp, const struct err *why)
{
    struct call *c = ctx;
    struct remote *r = c->r;

    if (r->e.code == 0 && rc == 0 && (resp->status == 429 || resp->status == 503) && ++c->tries < MAX_TRIES) {
        c->next = r->again;
        r->again = c;
        return;
    }
    if (r->e.code == 0) {
        if (rc < 0)
            (void)err_set(&r->e, rc, "%s", why->msg);
        else if ((rc = take_answer(c, resp, &r->e)) < 0 && r->e.code == 0)
            r->e.code = rc;
    }
    release(c);
}

/* ---- asking ---- */

static int begin_call(struct remote *r, const struct eval_question *q, uint32_t sample, struct err *e)
{
    struct call *c = r->free_calls;
    int rc;

    CHECK(c);
    mem_free(c->body);
    *c = (struct call){ .r = r, .q = q, .sample = sample, .next = c->next };
    c->body = make_body(c);
    if (!c->body)
        return nomem(e);
    r->free_calls = c->next;
    r->n_open++;
    rc = send_call(c, e);
    if (rc < 0)
        release(c);
    return rc;
}

static int send_again(struct remote *r, struct err *e)
{
    struct call *c = r->again;

    r->again = NULL;
    while (c) {
        struct call *next = c->next;
        const int rc = send_call(c, e);

        if (rc < 0) {
            release(c);
            for (c = next; c; c = next) {
                next = c->next;
                release(c);
            }
            return rc;
        }
        c = next;
    }
    return 0;
}

static int ask(struct eval_asker *a, const struct eval_question *q, size_t n, eval_result_fn *fn, void *ctx,
               struct err *e)
{
    struct remote *r = (struct remote *)a;
    size_t next = 0;
    uint32_t sample = 0;

    r->fn = fn;
    r->fn_ctx = ctx;
    r->e = (struct err){ 0 };
    for (size_t i = 0; i < n; i++)
        if (q[i].item->kind == EVAL_CHOICE)
            return err_set(e, WATT_ENOTSUP, "choices are weighed by their likelihood, which %s does not tell", r->url);
    while (r->n_open > 0 || (r->e.code == 0 && next < n)) {
        while (r->e.code == 0 && next < n && r->n_open < a->o.at_once) {
            if (begin_call(r, &q[next], sample, &r->e) < 0)
                break;
            if (++sample == q[next].n_samples) {
                sample = 0;
                next++;
            }
        }
        if (r->e.code < 0)
            break;
        if (a->o.poll && a->o.poll(a->o.ctx)) {
            (void)err_set(&r->e, WATT_ECANCEL, "stopped");
            break;
        }
        (void)http_client_run(r->http, 500);
        if (r->again && r->e.code == 0)
            (void)send_again(r, &r->e);
    }
    if (r->e.code < 0)
        return err_set(e, r->e.code, "%s", r->e.msg);
    return 0;
}

/* ---- life ---- */

static void close_remote(struct eval_asker *a)
{
    struct remote *r = (struct remote *)a;

    http_client_close(r->http);
    for (size_t i = 0; r->calls && i < a->o.at_once; i++)
        mem_free(r->calls[i].body);
    mem_free(r->calls);
    mem_free(r->url);
    mem_free(r->model);
    mem_free(r->key);
    mem_free(r);
}

static int open_remote(struct remote *r, const char *base, const char *model, const char *key, struct err *e)
{
    size_t n = strlen(base);
    struct str url;

    while (n > 0 && base[n - 1] == '/')
        n--;
    str_init(&url, 0);
    str_append(&url, base, n);
    str_puts(&url, "/chat/completions");
    r->url = str_take(&url, NULL);
    str_deinit(&url);
    r->model = mem_strdup(model);
    r->key = key ? mem_strdup(key) : NULL;
    r->calls = mem_calloc(r->a.o.at_once, sizeof *r->calls);
    if (!r->url || !r->model || (key && !r->key) || !r->calls)
        return nomem(e);
    for (size_t i = 0; i < r->a.o.at_once; i++) {
        r->calls[i].next = r->free_calls;
        r->free_calls = &r->calls[i];
    }
    return http_client_open(&r->http, NULL, e);
}

int eval_ask_url(struct eval_asker **out, const char *base, const char *model, const char *key,
                 const struct eval_ask_opts *o, struct err *e)
{
    struct remote *r = mem_calloc(1, sizeof *r);
    int rc;

    if (!r)
        return nomem(e);
    r->a = (struct eval_asker){ .o = *o, .ask = ask, .close = close_remote };
    eval_ask_defaults(&r->a.o);
    rc = open_remote(r, base, model, key, e);
    if (rc < 0) {
        close_remote(&r->a);
        return rc;
    }
    *out = &r->a;
    return 0;
}
