/* api_ops.c: what operators and load balancers ask: health, load, version. */
#include <stdio.h>
#include <string.h>

#include "applications/api.h"
#include "watt.h"

/* As llama-server says it, whose clients look for it. */
static void health(struct api_call *c)
{
    const char *why = atomic_load(&c->s->draining) ? "shutting down"
                    : atomic_load(&c->s->loading) ? "Loading model" : NULL;

    if (why) {
        http_add_header(c->x, "Retry-After", "5");
        api_json(c, 503, json_pack("{s:{s:i,s:s,s:s}}", "error", "code", 503, "message", why, "type",
                                   "unavailable_error"));
    }
    else
        api_json(c, 200, json_pack("{s:s,s:o*}", "status", "ok", "ledger",
                                   api_energy_ledger(c->s->energy)));
}

/* The field's names (InferenceX) beside ours; see docs/energy.md. */
static void energy_metrics(struct api_call *c)
{
    if (c->s->energy)
        api_json(c, 200, api_energy_metrics(c->s->energy));
    else
        api_error(c, 404, "invalid_request_error", "not_found", NULL, "Energy is not metered here.");
}

static void alive(struct api_call *c)
{
    api_json(c, 200, json_pack("{s:s}", "status", "ok"));
}

static void version(struct api_call *c)
{
    api_json(c, 200, json_pack("{s:s}", "version", watt_version()));
}

static void forget_all(void *ctx, struct service *const *list, size_t n)
{
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        service_forget(list[i]);
}

/* Between two measurements, so that the second begins cold. */
static void forget(struct api_call *c)
{
    api_models_services(c->s->models, forget_all, NULL);
    api_json(c, 200, json_pack("{s:b}", "success", 1));
}

struct load { uint64_t now, max; };

static void add_load(void *ctx, const struct api_model_info *i)
{
    struct load *l = ctx;
    struct service_stats st;

    if (!i->m || !i->m->svc)
        return;
    service_stats(i->m->svc, &st);
    l->now += st.n_running + st.n_waiting;
    l->max += st.max_seqs + st.max_queued;
}

/* Of all models in memory. */
static void load(struct api_call *c)
{
    struct load l = { 0 };

    api_models_each(c->s->models, false, add_load, &l);
    api_json(c, 200, json_pack("{s:I,s:I}", "server_load", (json_int_t)l.now, "max_load",
                               (json_int_t)l.max));
}

const struct api_route api_ops_routes[] = {
    { "GET", "/health", health, API_OPEN, false, "Does it serve?" },
    { "GET", "/healthz", alive, API_OPEN, false, "Is the process alive? Also while it shuts down" },
    { "GET", "/livez", alive, API_OPEN, false, "The same" },
    { "GET", "/ready", health, API_OPEN, false, "May requests be sent here?" },
    { "GET", "/readyz", health, API_OPEN, false, "The same" },
    { "GET", "/ping", health, API_OPEN, false, "The same" },
    { "GET", "/v1/health", health, API_OPEN, false, "The same" },
    { "GET", "/version", version, API_OPEN, false, "Watt's version" },
    { "GET", "/load", load, API_METRICS, false, "Answers that run or wait" },
    { "POST", "/reset_prefix_cache", forget, API_ADMIN, false, "Empties the caches of prefixes" },
    { "POST", "/flush_cache", forget, API_ADMIN, false, "The same" },
    { "GET", "/energy_metrics", energy_metrics, API_METRICS, false,
      "Joules per token and query, and average power" },
    { 0 }
};
