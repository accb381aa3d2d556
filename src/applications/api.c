/* api.c: from an HTTP request to the function of its route, and its errors. */
#include "applications/api.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/utf8.h"

#define JSON_TYPE "application/json"

void api_new_id(struct api_server *s, const char *prefix, char out[API_ID_BYTES])
{
    const uint64_t n = atomic_fetch_add(&s->next_id, 1);

    snprintf(out, API_ID_BYTES, "%s%016" PRIx64, prefix,
             rng_mix(n ^ (uint64_t)s->started << 20));
}

/* What has a part missing is no answer. */
void api_json(struct api_call *c, int status, json_t *body)
{
    static const char no_memory[] = "{\"type\":\"error\",\"error\":{\"message\":\"out of memory\","
        "\"type\":\"server_error\",\"param\":null,\"code\":\"out_of_memory\"}}";
    const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY;
    const size_t n = body ? json_dumpb(body, NULL, 0, flags) : 0;
    char *text = n ? mem_alloc(n) : NULL;

    if (text && json_dumpb(body, text, n, flags) == n && !json_was_short())
        http_reply(c->x, status, JSON_TYPE, text, n);
    else
        http_reply(c->x, 503, JSON_TYPE, no_memory, sizeof no_memory - 1);
    mem_free(text);
    json_decref(body);
}

static json_t *openai_error(int status, const char *type, const char *code, const char *param,
                            const char *message)
{
    (void)status;
    return json_pack("{s:{s:s,s:s,s:s?,s:s?}}", "error", "message", message, "type", type, "param",
                     param, "code", code);
}

json_t *api_error_body(const struct http_exchange *x, int status, const char *type,
                       const char *code, const char *param, const char *message)
{
    const struct api_shape *shape = api_shapes;

    while (shape->prefix && strncmp(http_path(x), shape->prefix, strlen(shape->prefix)) != 0)
        shape++;
    return (shape->prefix ? shape->error : openai_error)(status, type, code, param, message);
}

void api_error(struct api_call *c, int status, const char *type, const char *code,
               const char *param, const char *fmt, ...)
{
    char message[ERR_MSG_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    if (!utf8_valid(message, strlen(message)))
        (void)snprintf(message, sizeof message, "invalid request");
    api_json(c, status, api_error_body(c->x, status, type, code, param, message));
}

/* The member of the body that a message is about ("request body: a.b: …" gives a), else as it was. */
static const char *param_of(const char *message, const char *param, char out[64])
{
    static const char front[] = "request body: ";
    const char *from = message + sizeof front - 1;
    size_t n;

    if (strncmp(message, front, sizeof front - 1) != 0)
        return param;
    n = strcspn(from, ".:[ ");
    if (n == 0 || n >= 64 || !from[n] || from[n] == ' ')
        return param;
    memcpy(out, from, n);
    out[n] = '\0';
    return out;
}

void api_fail(struct api_call *c, const char *param, const struct err *e)
{
    static const struct { int code, status; const char *type, *name; } kinds[] = {
        { WATT_EINVAL,  400, "invalid_request_error", NULL },
        { WATT_EFORMAT, 400, "invalid_request_error", NULL },
        { WATT_ENOTSUP, 400, "invalid_request_error", NULL },
        { WATT_ENOENT,  404, "invalid_request_error", NULL },
        { WATT_ELIMIT,  400, "invalid_request_error", "limit_exceeded" },
        { WATT_EBUSY,   409, "invalid_request_error", "busy" },
        { WATT_ENOMEM,  503, "server_error",          "out_of_memory" },
        { 0,            500, "server_error",          NULL },
    };
    char field[64];
    size_t i = 0;

    while (kinds[i].code != 0 && kinds[i].code != e->code)
        i++;
    api_error(c, kinds[i].status, kinds[i].type, kinds[i].name, param_of(e->msg, param, field), "%s",
              e->msg);
}

/* ---- the model ---- */

static bool may_use(struct api_call *c, const char *name)
{
    if (api_key_may_use(c->key, name))
        return true;
    api_error(c, 403, "permission_error", "insufficient_permissions", "model",
              "This API key may not use the model '%.100s'.", name);
    return false;
}

const char *api_model_named(struct api_call *c, const char *given)
{
    const char *name = api_models_name(c->s->models, given);

    if (name)
        return may_use(c, name) ? name : NULL;
    if (given && *given)
        api_error(c, 404, "invalid_request_error", "model_not_found", "model",
                  "The model '%.100s' does not exist.", given);
    else
        api_error(c, 404, "invalid_request_error", "model_not_found", "model",
                  "This server has no model yet.");
    return NULL;
}

void api_model_fail(struct api_call *c, const struct err *e)
{
    switch (e->code) {
    case WATT_ELIMIT:
        api_error(c, 400, "invalid_request_error", "model_too_large", "model", "%s", e->msg);
        return;
    case WATT_ENOTSUP:
        api_error(c, 400, "invalid_request_error", "model_not_supported", "model", "%s", e->msg);
        return;
    case WATT_EBUSY:
        http_add_header(c->x, "Retry-After", "5");
        api_error(c, 429, "rate_limit_error", "models_busy", "model", "%s", e->msg);
        return;
    case WATT_ECANCEL:
        http_add_header(c->x, "Retry-After", "5");
        api_error(c, 503, "server_error", "shutting_down", NULL, "%s", e->msg);
        return;
    case WATT_ENOMEM:
        api_error(c, 503, "server_error", "out_of_memory", NULL, "%s", e->msg);
        return;
    default:
        api_error(c, 500, "server_error", "model_load_failed", "model", "%s", e->msg);
    }
}

bool api_model_is_ours(struct api_call *c)
{
    if (!c->m)
        api_error(c, 500, "server_error", NULL, NULL, "this path has no model");
    return c->m != NULL;
}

bool api_model_if_loaded(struct api_call *c, const char *name)
{
    const char *own = api_models_name(c->s->models, name);

    return own && (api_models_hold(c->s->models, own, API_USE_ANSWER, NULL, &c->m, NULL) == API_HELD ||
                   api_models_hold(c->s->models, own, API_USE_EMBED, NULL, &c->m, NULL) == API_HELD);
}

static bool needs_model(const struct api_route *r)
{
    return r->wants_body && (r->scope == API_INFER || r->scope == API_EMBED);
}

const char *api_adapter_name(const struct api_call *c, uint32_t index)
{
    for (size_t i = 0; c->m && i < c->s->n_adapters; i++) {
        const struct api_adapter *a = &c->s->adapters[i];

        if (a->index == index && strcmp(a->model, c->m->name) == 0)
            return api_key_may_use(c->key, a->name) ? a->name : NULL;
    }
    return NULL;
}

/* An adapter's name stands for its model with it. */
static const char *name_of_call(struct api_call *c, const char *given)
{
    for (size_t i = 0; given && i < c->s->n_adapters; i++)
        if (strcmp(given, c->s->adapters[i].name) == 0) {
            if (!may_use(c, given))
                return NULL;
            if (c->route->scope == API_EMBED) {
                api_error(c, 400, "invalid_request_error", "model_not_supported", "model",
                          "'%.100s' is an adapter: it answers, and neither embeds nor ranks.", given);
                return NULL;
            }
            c->adapter = c->s->adapters[i].index;
            c->adapter_name = c->s->adapters[i].name;
            return c->s->adapters[i].model;
        }
    return api_model_named(c, given);
}

bool api_find_model(struct api_call *c)
{
    const enum api_use use = c->route->scope == API_EMBED ? API_USE_EMBED : API_USE_ANSWER;
    const json_t *v = json_object_get(c->body, "model");
    const char *given = json_string_value(v);
    enum api_hold how;
    struct err e = { 0 };
    const char *name;

    if (v && !json_is_null(v) && !json_is_string(v)) {
        api_error(c, 400, "invalid_request_error", NULL, "model", "model must be a string");
        return false;
    }
    name = name_of_call(c, given ? given : http_query(c->x, "model"));
    if (!name)
        return false;
    if (api_models_hold(c->s->models, name, use, NULL, &c->m, NULL) == API_HELD)
        return true;
    if (!http_keep_head(c->x)) {
        api_error(c, 503, "server_error", "out_of_memory", NULL, "out of memory");
        return false;
    }
    how = api_models_hold(c->s->models, name, use, c, &c->m, &e);
    if (how == API_REFUSED)
        api_model_fail(c, &e);
    c->parked = how == API_PARKED;
    return how == API_HELD;
}

/* ---- routing ---- */

static const struct api_route *find_route(const char *method, const char *path, bool *other_method)
{
    *other_method = false;
    for (size_t t = 0; api_routes[t]; t++)
        for (const struct api_route *r = api_routes[t]; r->path; r++) {
            const size_t n = strlen(r->path);
            const bool hit = r->path[n - 1] == '/' && n > 1 ? strncmp(path, r->path, n) == 0
                                                            : strcmp(path, r->path) == 0;

            if (!hit)
                continue;
            if (strcmp(r->method, method) == 0 ||
                (strcmp(method, "HEAD") == 0 && strcmp(r->method, "GET") == 0))
                return r;
            *other_method = true;
        }
    return NULL;
}

static void common_headers(struct api_call *c)
{
    const char *given = http_header(c->x, "X-Request-Id");
    bool ok = given && *given && strlen(given) < sizeof c->request_id;

    for (const char *p = given; ok && *p; p++)
        ok = *p > ' ' && *p < 127;
    if (ok) {
        (void)snprintf(c->request_id, sizeof c->request_id, "%s", given);
    } else {
        char id[API_ID_BYTES];

        api_new_id(c->s, "req_", id);
        (void)snprintf(c->request_id, sizeof c->request_id, "%s", id);
    }
    http_add_header(c->x, "X-Request-Id", c->request_id);
    (void)api_trail_open(c);            /* without memory the log says less */
    if (c->s->cors) {
        http_add_header(c->x, "Access-Control-Allow-Origin", c->s->cors);
        http_add_header(c->x, "Access-Control-Allow-Headers",
                        "Authorization, Content-Type, X-Request-Id, x-api-key, anthropic-version, "
                        "anthropic-beta, anthropic-dangerous-direct-browser-access");
        http_add_header(c->x, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
        http_add_header(c->x, "Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
    }
}

static bool read_body(struct api_call *c)
{
    static const struct json_limits limits = { .max_bytes = (size_t)64 << 20, .max_depth = 128 };
    const struct sv body = http_body(c->x);
    struct err e = { 0 };

    if (json_parse(&c->body, "request body", body.data, body.len, &limits, &e) < 0) {
        api_fail(c, NULL, &e);
        return false;
    }
    c->at = json_root(c->body, "request body");
    if (!json_is_object(c->body)) {
        api_error(c, 400, "invalid_request_error", NULL, NULL,
                  "request body: a JSON object was expected");
        return false;
    }
    return true;
}

/* Looking around costs nobody a request. */
static bool counts(const struct api_route *r)
{
    return (r->scope == API_INFER || r->scope == API_EMBED) && strcmp(r->method, "POST") == 0;
}

static void call_end(struct api_call *c)
{
    struct http_exchange *x = c->x;

    if (c->drop_user)
        c->drop_user(c->user);
    api_model_release(c->m);
    api_leave(c);
    str_deinit(&c->continued);
    json_close(c->body);
    http_release(x);
}

/* Before the first model is there nobody is made to wait for it: who balances load sends it elsewhere. */
static bool may_work(struct api_call *c)
{
    if (!atomic_load(&c->s->loading) || strcmp(c->route->method, "GET") == 0)
        return true;
    http_add_header(c->x, "Retry-After", "5");
    api_error(c, 503, "unavailable_error", "loading_model", NULL, "Loading model");
    return false;
}

void api_resume(struct api_call *c, int rc, const struct err *e)
{
    (void)json_was_short();
    if (rc < 0)
        api_model_fail(c, e);
    else if (!http_gone(c->x) && api_find_model(c))
        c->route->fn(c);
    if (!c->parked)
        call_end(c);
}

void api_request(void *server, struct http_exchange *x)
{
    struct api_server *s = server;
    struct api_call c = { .s = s, .x = x };
    const char *method = http_method(x);
    const struct api_route *r;
    bool other;

    (void)json_was_short();
    common_headers(&c);
    r = c.route = find_route(method, http_path(x), &other);
    if (strcmp(method, "OPTIONS") == 0 && (r || other))
        http_reply(x, 204, "text/plain", "", 0);
    else if (!r && other)
        api_error(&c, 405, "invalid_request_error", NULL, NULL, "Method %.20s is not allowed here.",
                  method);
    else if (!r)
        api_error(&c, 404, "invalid_request_error", "not_found", NULL, "Unknown path %.200s.",
                  http_path(x));
    else if (api_may_enter(&c, r->scope) && may_work(&c) &&
             (!counts(r) || api_take_seat(&c)) && (!r->wants_body || read_body(&c)) &&
             (!needs_model(r) || api_find_model(&c)))
        r->fn(&c);
    if (!c.parked)
        call_end(&c);
}

void api_refused(void *server, struct http_exchange *x, int status, const char *why)
{
    struct api_call c = { .s = server, .x = x };

    (void)json_was_short();
    common_headers(&c);
    api_error(&c, status, status < 500 ? "invalid_request_error" : "server_error", NULL, NULL, "%s", why);
}
