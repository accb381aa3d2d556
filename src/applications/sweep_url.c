/* sweep_url.c: a sweep's requests to a server with OpenAI's API; see sweep_targets.h. All connections
 * are driven by one thread, in run(). */
#include "applications/sweep_targets.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "infrastructure/http_client.h"

struct target;

/* A request under way, and what must outlive it. */
struct call {
    struct target *target;
    struct sweep_slot *slot;
    struct call *next;          /* of the free ones */
    struct str body;
    uint32_t n_prompt, n_cached, n_answer;
    bool   failed;
    char   failure[160];
};

struct target {
    struct http_client *client;
    char   url[1024], model[256];
    const char *key;
    enum sweep_endpoint endpoint;
    struct call *free, *all[SWEEP_MAX_SLOTS];
    uint32_t n_all;
};

static const char *const words[] = {
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on",
    "not", "he", "this", "are", "or", "his", "from", "at", "which", "but", "have", "an", "had", "they",
    "you", "were", "their", "one", "all", "we", "can", "her", "has", "there", "been", "if", "more",
    "when", "will", "would", "who", "so", "no", "out", "up", "into", "them", "then", "what", "time",
    "water", "day", "man", "new", "old", "house", "world", "year", "work",
};
enum { N_WORDS = sizeof words / sizeof *words };

/* ---- one answer's events ---- */

/* The counts of a usage object, where there is one. */
static void read_usage(struct call *c, const struct json_place *root)
{
    struct json_place usage, details;
    uint64_t v;

    if (json_find(root, "usage", &usage, NULL) < 0 || !usage.value)
        return;
    if (json_get_u64(&usage, "prompt_tokens", c->n_prompt, 0, UINT32_MAX, &v, NULL) == 0)
        c->n_prompt = (uint32_t)v;
    if (json_get_u64(&usage, "completion_tokens", c->n_answer, 0, UINT32_MAX, &v, NULL) == 0)
        c->n_answer = (uint32_t)v;
    if (json_find(&usage, "prompt_tokens_details", &details, NULL) == 0 && details.value &&
        json_get_u64(&details, "cached_tokens", 0, 0, UINT32_MAX, &v, NULL) == 0)
        c->n_cached = (uint32_t)v;
}

/* Does the first choice bring text: content, reasoning, or a completion's text. */
static bool has_text(const struct json_place *root)
{
    static const char *const names[] = { "content", "reasoning_content", "reasoning", "text" };
    struct json_place choices, choice, delta;

    if (json_find(root, "choices", &choices, NULL) < 0 || !choices.value ||
        json_count(&choices) == 0)
        return false;
    choice = json_item(&choices, 0);
    if (json_find(&choice, "delta", &delta, NULL) < 0)
        return false;
    if (!delta.value)
        delta = choice;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct json_place text;
        struct sv s;

        if (json_find(&delta, names[i], &text, NULL) == 0 && text.value &&
            json_read_str(&text, &s, NULL) == 0 && s.len > 0)
            return true;
    }
    return false;
}

static int on_event(void *ctx, struct sv name, struct sv data)
{
    const struct json_limits limits = { (size_t)1 << 20, 32 };
    struct call *c = ctx;
    struct json_place root, error, message;
    const char *says;
    json_t *document;

    (void)name;
    if (sv_eq_cstr(data, "[DONE]"))
        return 0;
    if (json_parse(&document, "event", data.data, data.len, &limits, NULL) < 0) {
        c->failed = true;
        (void)snprintf(c->failure, sizeof c->failure, "an event that is no JSON");
        return 0;
    }
    root = json_root(document, "event");
    if (has_text(&root))
        sweep_token(c->slot);
    read_usage(c, &root);
    if (json_find(&root, "error", &error, NULL) == 0 && error.value) {
        c->failed = true;
        if (json_find(&error, "message", &message, NULL) == 0 && message.value &&
            json_read_cstr(&message, &says, NULL) == 0)
            (void)snprintf(c->failure, sizeof c->failure, "%.150s", says);
        else
            (void)snprintf(c->failure, sizeof c->failure, "an error within the stream");
    }
    json_close(document);
    return 0;
}

static void give_back(struct call *c)
{
    c->next = c->target->free;
    c->target->free = c;
}

static void on_done(void *ctx, int rc, const struct http_client_response *r, const struct err *why)
{
    struct call *c = ctx;
    struct err e = { 0 };
    const char *failure = c->failed ? c->failure : NULL;

    if (rc < 0) {
        failure = why ? why->msg : "no answer";
    } else if (http_client_refused(c->target->url, r, &e) < 0) {
        failure = e.msg;
    }
    sweep_done(c->slot, c->n_prompt, c->n_cached, c->n_answer, rc == 0 && r->status == 429, failure);
    give_back(c);
}

/* ---- requests ---- */

static void put_prompt(struct str *out, const struct sweep_slot *s)
{
    str_putc(out, '"');
    for (uint32_t i = 0; i < sweep_n_prompt(s); i++)
        str_printf(out, "%s%s", i ? " " : "", words[sweep_prompt_token(s, i) % N_WORDS]);
    str_putc(out, '"');
}

static void put_body(struct call *c)
{
    struct str *b = &c->body;

    str_reset(b);
    str_puts(b, "{\"model\":");
    json_put_str(b, sv_cstr(c->target->model));
    str_puts(b, c->target->endpoint == SWEEP_CHAT
                    ? ",\"messages\":[{\"role\":\"user\",\"content\":" : ",\"prompt\":");
    put_prompt(b, c->slot);
    str_puts(b, c->target->endpoint == SWEEP_CHAT ? "}]" : "");
    str_printf(b, ",\"max_tokens\":%u,\"temperature\":0,\"ignore_eos\":true,\"stream\":true,"
               "\"stream_options\":{\"include_usage\":true}}", sweep_n_answer(c->slot));
}

static struct call *take_call(struct target *t)
{
    struct call *c = t->free;

    if (c) {
        t->free = c->next;
        return c;
    }
    if (t->n_all == SWEEP_MAX_SLOTS || !(c = mem_calloc(1, sizeof *c)))
        return NULL;
    c->target = t;
    str_init(&c->body, 0);
    t->all[t->n_all++] = c;
    return c;
}

static int start(void *ctx, struct sweep_slot *s, struct err *e)
{
    struct target *t = ctx;
    struct call *c = take_call(t);
    struct http_client_request r = { .url = t->url, .bearer = t->key, .on_event = on_event,
                                     .on_done = on_done, .stall_ms = 600000, .ctx = c };
    int rc;

    if (!c)
        return err_set(e, WATT_ENOMEM, "sweep: a request");
    c->slot = s;
    c->n_prompt = c->n_cached = c->n_answer = 0;
    c->failed = false;
    put_body(c);
    if (!str_ok(&c->body)) {
        give_back(c);
        return err_set(e, WATT_ENOMEM, "sweep: a prompt of %u words", sweep_n_prompt(s));
    }
    r.body = c->body.data;
    r.n_body = c->body.len;
    rc = http_client_start(t->client, &r, e);
    if (rc < 0)
        give_back(c);
    return rc;
}

static void run(void *ctx, unsigned ms)
{
    (void)http_client_run(((struct target *)ctx)->client, ms);
}

static void stop(void *ctx)
{
    struct target *t = ctx;

    http_client_close(t->client);
    t->client = NULL;
}

static void close_target(void *ctx)
{
    struct target *t = ctx;

    stop(t);
    for (uint32_t i = 0; i < t->n_all; i++) {
        str_deinit(&t->all[i]->body);
        mem_free(t->all[i]);
    }
    mem_free(t);
}

/* ---- opening ---- */

/* "http://host", "http://host/" and "http://host/v1" to "http://host/v1/PATH". */
static int make_url(char *out, size_t size, const char *base, const char *path, struct err *e)
{
    const size_t len = strlen(base);
    size_t n = len < size ? len : size;

    while (n > 0 && base[n - 1] == '/')
        n--;
    if (n >= 3 && memcmp(base + n - 3, "/v1", 3) == 0)
        n -= 3;
    if (len >= size || n + strlen(path) + 5 > size ||
        snprintf(out, size, "%.*s/v1/%s", (int)n, base, path) >= (int)size)
        return err_set(e, WATT_EINVAL, "--url: longer than %zu bytes", size);
    return 0;
}

static int first_model(struct target *t, const char *base, struct err *e)
{
    struct http_client_response r;
    struct json_place root, data, item, id;
    const char *name = NULL;
    char url[1024];
    json_t *document = NULL;
    int rc = make_url(url, sizeof url, base, "models", e);

    if (rc < 0)
        return rc;
    rc = http_client_fetch(t->client, &(struct http_client_request){ .url = url, .bearer = t->key,
                                                                     .total_ms = 30000 }, &r, e);
    if (rc == 0)
        rc = http_client_refused(url, &r, e);
    if (rc == 0)
        rc = json_parse(&document, url, r.body.data, r.body.len, NULL, e);
    if (rc == 0) {
        root = json_root(document, url);
        rc = json_need(&root, "data", &data, e);
    }
    if (rc == 0 && json_count(&data) == 0)
        rc = json_refuse(&data, e, WATT_EFORMAT, "expected at least one model (--model-name)");
    if (rc == 0) {
        item = json_item(&data, 0);
        rc = json_need(&item, "id", &id, e);
    }
    if (rc == 0)
        rc = json_read_cstr(&id, &name, e);
    if (rc == 0)
        (void)snprintf(t->model, sizeof t->model, "%s", name);
    json_close(document);
    http_client_response_deinit(&r);
    return rc;
}

int sweep_url_open(struct sweep_target *out, const struct sweep_url *u, struct err *e)
{
    struct target *t = mem_calloc(1, sizeof *t);
    int rc;

    if (!t)
        return err_set(e, WATT_ENOMEM, "sweep: target");
    t->key = u->key;
    t->endpoint = u->endpoint;
    rc = make_url(t->url, sizeof t->url, u->url,
                  u->endpoint == SWEEP_CHAT ? "chat/completions" : "completions", e);
    if (rc == 0)
        rc = http_client_open(&t->client, NULL, e);
    if (rc == 0 && u->model)
        (void)snprintf(t->model, sizeof t->model, "%s", u->model);
    else if (rc == 0)
        rc = first_model(t, u->url, e);
    if (rc < 0) {
        close_target(t);
        return rc;
    }
    *out = (struct sweep_target){ .name = u->url, .ctx = t, .start = start, .run = run, .stop = stop,
                                  .close = close_target };
    return 0;
}
