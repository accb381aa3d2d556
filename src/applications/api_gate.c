/* api_gate.c: who comes in: keys, scopes, rates, and what the access log remembers of a call. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "applications/api.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

/* ---- what the log remembers ---- */

struct api_trail *api_trail(const struct api_call *c)
{
    return http_user(c->x);
}

bool api_trail_open(struct api_call *c)
{
    struct api_trail *t = mem_calloc(1, sizeof *t);

    if (!t)
        return false;
    (void)snprintf(t->request_id, sizeof t->request_id, "%s", c->request_id);
    http_set_user(c->x, t, mem_free);
    return true;
}

void api_ended(void *server, const struct http_exchange *x, int status, uint64_t n_bytes,
               uint64_t ns)
{
    const struct api_server *s = server;
    struct api_trail *t = http_user(x), none = { 0 };

    if (!s->access_log)
        return;
    if (!t)
        t = &none;
    log_fields(LOG_INFO, "access", "request",
               LOG_FIELDS(log_str("request_id", t->request_id), log_str("method", http_method(x)),
                          log_str("path", http_path(x)), log_str("peer", http_peer(x)),
                          log_str("key", t->key), log_u64("status", (uint64_t)status),
                          log_u64("bytes", n_bytes), log_f64("ms", (double)ns / 1e6),
                          log_u64("prompt_tokens", atomic_load(&t->n_prompt)),
                          log_u64("cached_tokens", atomic_load(&t->n_cached)),
                          log_u64("answer_tokens", atomic_load(&t->n_answer))));
}

/* ---- keys ---- */

static void say_401(struct api_call *c, bool given)
{
    http_add_header(c->x, "WWW-Authenticate", "Bearer");
    api_error(c, 401, "authentication_error", "invalid_api_key", NULL,
              given ? "Incorrect API key provided." : "You didn't provide an API key.");
}

bool api_may_enter(struct api_call *c, enum api_scope scope)
{
    const char *header = http_header(c->x, "Authorization"), *key = NULL;

    if (scope == API_OPEN || api_keys_count(c->s->keys) == 0)
        return true;
    if (header && strncasecmp(header, "Bearer ", 7) == 0)
        key = header + 7;
    if (!key)
        key = http_header(c->x, "x-api-key");
    if (!key)
        key = http_header(c->x, "api-key");
    c->key = key ? api_keys_find(c->s->keys, key) : NULL;
    if (!c->key) {
        say_401(c, key != NULL);
        return false;
    }
    if (api_trail(c))
        api_key_name(c->key, api_trail(c)->key);
    if (api_key_may(c->key, scope))
        return true;
    api_error(c, 403, "permission_error", "insufficient_permissions", NULL,
              "This API key lacks the scope '%s'.", api_scope_name(scope));
    return false;
}

/* ---- rates ---- */

static void add_count(struct api_call *c, const char *name, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    http_add_header(c->x, name, text);
}

/* "1.5s", as the OpenAI API writes how long until a bucket is full. */
static void add_span(struct api_call *c, const char *name, uint64_t ms)
{
    char text[32];

    (void)snprintf(text, sizeof text, "%.3gs", (double)ms / 1000);
    http_add_header(c->x, name, text);
}

/* RFC 3339, as the Anthropic API writes it. */
static void add_time(struct api_call *c, const char *name, uint64_t ms)
{
    const time_t at = (time_t)(clock_wall_ns() / 1000000000 + (int64_t)((ms + 999) / 1000));
    struct tm tm;
    char text[32];

    if (gmtime_r(&at, &tm) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm) > 0)
        http_add_header(c->x, name, text);
}

static void rate_headers(struct api_call *c, const struct api_allowance *a)
{
    const bool anthropic = strncmp(http_path(c->x), "/v1/messages", 12) == 0;

    if (a->limit_requests && anthropic) {
        add_count(c, "anthropic-ratelimit-requests-limit", a->limit_requests);
        add_count(c, "anthropic-ratelimit-requests-remaining", a->left_requests);
        add_time(c, "anthropic-ratelimit-requests-reset", a->full_requests_ms);
    } else if (a->limit_requests) {
        add_count(c, "x-ratelimit-limit-requests", a->limit_requests);
        add_count(c, "x-ratelimit-remaining-requests", a->left_requests);
        add_span(c, "x-ratelimit-reset-requests", a->full_requests_ms);
    }
    if (a->limit_tokens && anthropic) {
        add_count(c, "anthropic-ratelimit-tokens-limit", a->limit_tokens);
        add_count(c, "anthropic-ratelimit-tokens-remaining", a->left_tokens);
        add_time(c, "anthropic-ratelimit-tokens-reset", a->full_tokens_ms);
    } else if (a->limit_tokens) {
        add_count(c, "x-ratelimit-limit-tokens", a->limit_tokens);
        add_count(c, "x-ratelimit-remaining-tokens", a->left_tokens);
        add_span(c, "x-ratelimit-reset-tokens", a->full_tokens_ms);
    }
}

static void say_budget(struct api_call *c, const struct api_allowance *a)
{
    const time_t at = (time_t)a->budget_renews;
    const char *currency = api_energy_currency(c->s->energy);
    struct tm tm = { 0 };
    char when[32] = "", code[48];

    (void)gmtime_r(&at, &tm);
    (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    (void)snprintf(code, sizeof code, "%s_budget_exhausted", budget_name(a->budget));
    api_error(c, 429, "insufficient_quota", code, NULL,
              "This API key has used its budget of %.15g %s a day; it renews at %s.",
              a->budget_limit, a->budget == BUDGET_MONEY && currency[0] ? currency
                                                                         : budget_name(a->budget),
              when);
}

bool api_take_seat(struct api_call *c)
{
    struct api_allowance a;
    const enum api_verdict v = api_key_enter(c->key, clock_mono_ns(), &a);

    rate_headers(c, &a);
    if (v == API_ENTERS) {
        c->seated = c->key != NULL;
        return true;
    }
    add_count(c, "Retry-After", (a.retry_ms + 999) / 1000);
    if (v == API_OVER_BUDGET) {
        say_budget(c, &a);
        return false;
    }
    if (v == API_OVER_REQUESTS)
        api_error(c, 429, "rate_limit_error", "rate_limit_exceeded", NULL,
                  "This API key may send %llu requests a minute.",
                  (unsigned long long)a.limit_requests);
    else if (v == API_OVER_TOKENS)
        api_error(c, 429, "rate_limit_error", "rate_limit_exceeded", NULL,
                  "This API key may use %llu tokens a minute.", (unsigned long long)a.limit_tokens);
    else
        api_error(c, 429, "rate_limit_error", "rate_limit_exceeded", NULL,
                  "This API key may have %u answers at a time.", a.concurrent);
    return false;
}

struct api_key *api_pass_seat(struct api_call *c)
{
    if (!c->seated)
        return NULL;
    c->seated = false;
    api_key_hold(c->key);
    return c->key;
}

void api_leave_seat(struct api_key *key, uint64_t n_tokens)
{
    api_key_spend(key, clock_mono_ns(), n_tokens);
    api_key_leave(key);
    api_key_release(key);
}

void api_leave(struct api_call *c)
{
    if (c->seated)
        api_key_leave(c->key);
    c->seated = false;
    api_key_release(c->key);
    c->key = NULL;
}
