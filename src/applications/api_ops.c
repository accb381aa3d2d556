/* api_ops.c: what operators and load balancers ask: health, metrics, version, the OpenAPI document. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "applications/api.h"
#include "base/mem.h"
#include "watt.h"

static void health(struct api_call *c)
{
    if (atomic_load(&c->s->draining))
        api_json(c, 503, json_pack("{s:{s:i,s:s,s:s}}", "error", "code", 503, "message",
                                   "shutting down", "type", "unavailable_error"));
    else
        api_json(c, 200, json_pack("{s:s}", "status", "ok"));
}

static void version(struct api_call *c)
{
    api_json(c, 200, json_pack("{s:s}", "version", watt_version()));
}

static void load(struct api_call *c)
{
    struct service_stats st;

    service_stats(c->m->svc, &st);
    api_json(c, 200, json_pack("{s:i,s:i}", "server_load", (int)(st.n_running + st.n_waiting),
                               "max_load", (int)(st.max_seqs + st.max_queued)));
}

/* ---- metrics: the text format of Prometheus 0.0.4 ---- */

/* The names that dashboards of other servers look for. */
static const struct { const char *ours, *theirs[2]; } names[] = {
    { "watt_requests_running", { "vllm:num_requests_running", "llamacpp:requests_processing" } },
    { "watt_requests_waiting", { "vllm:num_requests_waiting", "llamacpp:requests_deferred" } },
    { "watt_kv_usage_ratio", { "vllm:kv_cache_usage_perc", NULL } },
    { "watt_prompt_tokens_total", { "vllm:prompt_tokens_total", "llamacpp:prompt_tokens_total" } },
    { "watt_generated_tokens_total", { "vllm:generation_tokens_total",
                                       "llamacpp:tokens_predicted_total" } },
    { "watt_cached_tokens_total", { "vllm:prefix_cache_hits", NULL } },
    { "watt_preemptions_total", { "vllm:num_preemptions_total", NULL } },
    { "watt_time_to_first_token_seconds", { "vllm:time_to_first_token_seconds", NULL } },
    { "watt_inter_token_latency_seconds", { "vllm:inter_token_latency_seconds", NULL } },
    { "watt_request_seconds", { "vllm:e2e_request_latency_seconds", NULL } },
    { "watt_queue_seconds", { "vllm:request_queue_time_seconds", NULL } },
    { "watt_prefill_seconds", { "vllm:request_prefill_time_seconds", NULL } },
    { "watt_decode_seconds", { "vllm:request_decode_time_seconds", NULL } },
    { "watt_steps_total", { "llamacpp:n_decode_total", NULL } },
};

struct writer {
    struct str out;
    char       last[METRIC_MAX_TEXT];   /* whose header was written */
    const char *alias;                  /* written in place of the name; NULL: the name */
};

static void put_value(struct str *s, double v)
{
    if (isinf(v))
        str_puts(s, v > 0 ? "+Inf" : "-Inf");
    else if (isnan(v))
        str_puts(s, "NaN");
    else
        str_printf(s, "%.17g", v);
}

static void put_series(struct writer *w, const char *name, const char *suffix,
                       const struct metric_view *v, const double *bound, double value)
{
    struct str *s = &w->out;
    const size_t n = v->n_labels + (bound != NULL);

    str_printf(s, "%s%s", name, suffix);
    if (n > 0)
        str_putc(s, '{');
    for (size_t i = 0; i < v->n_labels; i++) {
        str_printf(s, "%s%s=\"", i ? "," : "", v->labels[i].name);
        for (const char *c = v->labels[i].value; *c; c++)
            str_printf(s, *c == '\n' ? "\\n" : *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
        str_putc(s, '"');
    }
    if (bound) {
        str_printf(s, "%sle=\"", v->n_labels ? "," : "");
        put_value(s, *bound);
        str_putc(s, '"');
    }
    str_puts(s, n > 0 ? "} " : " ");
    put_value(s, value);
    str_putc(s, '\n');
}

static void put_metric(struct writer *w, const char *name, const struct metric_view *v)
{
    static const char *const types[] = { "counter", "gauge", "histogram" };
    uint64_t below = 0;

    if (strcmp(w->last, name) != 0) {
        str_printf(&w->out, "# HELP %s %s\n# TYPE %s %s\n", name, v->help ? v->help : "", name,
                   types[v->kind]);
        snprintf(w->last, sizeof w->last, "%s", name);
    }
    if (v->kind != METRIC_HISTOGRAM) {
        put_series(w, name, "", v, NULL, v->value);
        return;
    }
    for (size_t i = 0; i <= v->n_bounds; i++) {
        const double bound = i < v->n_bounds ? v->bounds[i] : INFINITY;

        below += v->counts[i];
        put_series(w, name, "_bucket", v, &bound, (double)below);
    }
    put_series(w, name, "_sum", v, NULL, v->value);
    put_series(w, name, "_count", v, NULL, (double)v->count);
}

static void each_metric(void *ctx, const struct metric_view *v)
{
    struct writer *w = ctx;

    if (!w->alias) {
        put_metric(w, v->name, v);
        return;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t k = 0; k < 2; k++)
            if (names[i].theirs[k] && strcmp(names[i].theirs[k], w->alias) == 0 &&
                strcmp(names[i].ours, v->name) == 0)
                put_metric(w, w->alias, v);
}

static void metrics(struct api_call *c)
{
    struct writer w = { 0 };

    str_init(&w.out, (size_t)64 << 20);
    metrics_walk(c->s->metrics, each_metric, &w);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t k = 0; k < 2; k++) {
            w.alias = names[i].theirs[k];
            if (w.alias)
                metrics_walk(c->s->metrics, each_metric, &w);
        }
    if (str_ok(&w.out))
        http_reply(c->x, 200, "text/plain; version=0.0.4; charset=utf-8", w.out.data, w.out.len);
    else
        api_error(c, 500, "server_error", NULL, NULL, "out of memory");
    str_deinit(&w.out);
}

/* ---- the OpenAPI document ---- */

static void openapi(struct api_call *c)
{
    json_t *paths = json_object();

    for (size_t t = 0; api_routes[t]; t++)
        for (const struct api_route *r = api_routes[t]; r->path; r++) {
            json_t *op = json_pack("{s:s,s:{s:{s:s},s:{s:s}}}", "summary", r->summary, "responses",
                                   "200", "description", "Success", "default", "description",
                                   "An error: {\"error\": {\"message\", \"type\", \"param\", \"code\"}}");
            const size_t n = strlen(r->path);
            const bool below = n > 1 && r->path[n - 1] == '/';
            char path[256], method[16] = "";
            json_t *item;

            snprintf(path, sizeof path, "%s%s", r->path, below ? "{name}" : "");
            for (size_t i = 0; i + 1 < sizeof method && r->method[i]; i++)
                method[i] = (char)(r->method[i] | 32);
            if (below)
                json_object_set_new(op, "parameters", json_pack("[{s:s,s:s,s:b,s:{s:s}}]", "name",
                    "name", "in", "path", "required", 1, "schema", "type", "string"));
            if (r->wants_body)
                json_object_set_new(op, "requestBody", json_pack("{s:b,s:{s:{s:{s:s}}}}", "required",
                    1, "content", "application/json", "schema", "type", "object"));
            item = json_object_get(paths, path);
            if (!item) {
                json_object_set_new(paths, path, json_object());
                item = json_object_get(paths, path);
            }
            json_object_set_new(item, method, op);
        }
    api_json(c, 200, json_pack("{s:s,s:{s:s,s:s},s:o}", "openapi", "3.1.0", "info", "title", "Watt",
                               "version", watt_version(), "paths", paths));
}

const struct api_route api_ops_routes[] = {
    { "GET", "/health", health, API_OPEN, false, "Does it serve?" },
    { "GET", "/healthz", health, API_OPEN, false, "The same" },
    { "GET", "/ready", health, API_OPEN, false, "May requests be sent here?" },
    { "GET", "/v1/health", health, API_OPEN, false, "The same" },
    { "GET", "/version", version, API_OPEN, false, "Watt's version" },
    { "GET", "/load", load, API_METRICS, false, "Answers that run or wait" },
    { "GET", "/metrics", metrics, API_METRICS, false, "Metrics in the text format of Prometheus" },
    { "GET", "/openapi.json", openapi, API_OPEN, false, "This document" },
    { 0 }
};
