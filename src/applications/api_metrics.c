/* api_metrics.c: the registry in the text format of Prometheus 0.0.4, under our names and under those
 * that the dashboards, autoscalers and benchmarks of vLLM and llama-server look for. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "applications/api.h"
#include "base/mem.h"
#include "chips/kv_layout.h"

enum as { AS_IT_IS, AS_SUM, AS_REASON };        /* a histogram's sum as a counter; finish renamed */

static const struct alias { const char *theirs, *ours; enum as as; } aliases[] = {
    { "vllm:num_requests_running", "watt_requests_running", AS_IT_IS },
    { "vllm:num_requests_waiting", "watt_requests_waiting", AS_IT_IS },
    { "vllm:kv_cache_usage_perc", "watt_kv_usage_ratio", AS_IT_IS },
    { "vllm:gpu_cache_usage_perc", "watt_kv_usage_ratio", AS_IT_IS },
    { "vllm:prefix_cache_queries", "watt_prompt_tokens_total", AS_IT_IS },
    { "vllm:prefix_cache_queries_total", "watt_prompt_tokens_total", AS_IT_IS },
    { "vllm:prefix_cache_hits", "watt_cached_tokens_total", AS_IT_IS },
    { "vllm:prefix_cache_hits_total", "watt_cached_tokens_total", AS_IT_IS },
    { "vllm:num_preemptions_total", "watt_preemptions_total", AS_IT_IS },
    { "vllm:prompt_tokens_total", "watt_prompt_tokens_total", AS_IT_IS },
    { "vllm:generation_tokens_total", "watt_generated_tokens_total", AS_IT_IS },
    { "vllm:request_success_total", "watt_answers_total", AS_REASON },
    { "vllm:time_to_first_token_seconds", "watt_time_to_first_token_seconds", AS_IT_IS },
    { "vllm:inter_token_latency_seconds", "watt_inter_token_latency_seconds", AS_IT_IS },
    { "vllm:time_per_output_token_seconds", "watt_inter_token_latency_seconds", AS_IT_IS },
    { "vllm:e2e_request_latency_seconds", "watt_request_seconds", AS_IT_IS },
    { "vllm:request_queue_time_seconds", "watt_queue_seconds", AS_IT_IS },
    { "vllm:request_prefill_time_seconds", "watt_prefill_seconds", AS_IT_IS },
    { "vllm:request_decode_time_seconds", "watt_decode_seconds", AS_IT_IS },
    { "vllm:request_inference_time_seconds", "watt_run_seconds", AS_IT_IS },
    { "vllm:request_prompt_tokens", "watt_request_prompt_tokens", AS_IT_IS },
    { "vllm:request_generation_tokens", "watt_request_generated_tokens", AS_IT_IS },
    { "vllm:spec_decode_num_draft_tokens_total", "watt_drafted_tokens_total", AS_IT_IS },
    { "vllm:spec_decode_num_accepted_tokens_total", "watt_accepted_tokens_total", AS_IT_IS },
    { "llamacpp:prompt_tokens_total", "watt_prompt_tokens_total", AS_IT_IS },
    { "llamacpp:prompt_seconds_total", "watt_prefill_seconds", AS_SUM },
    { "llamacpp:tokens_predicted_total", "watt_generated_tokens_total", AS_IT_IS },
    { "llamacpp:tokens_predicted_seconds_total", "watt_decode_seconds", AS_SUM },
    { "llamacpp:requests_processing", "watt_requests_running", AS_IT_IS },
    { "llamacpp:requests_deferred", "watt_requests_waiting", AS_IT_IS },
    { "llamacpp:kv_cache_usage_ratio", "watt_kv_usage_ratio", AS_IT_IS },
    { "llamacpp:n_decode_total", "watt_steps_total", AS_IT_IS },
};

/* Gauges that are one sum over another. */
static const struct rate { const char *theirs, *above, *below, *help; } rates[] = {
    { "llamacpp:prompt_tokens_seconds", "watt_prompt_tokens_total", "watt_prefill_seconds",
      "Tokens of prompts per second of prefill" },
    { "llamacpp:predicted_tokens_seconds", "watt_generated_tokens_total", "watt_decode_seconds",
      "Tokens drawn per second of decoding" },
    { "llamacpp:n_busy_slots_per_decode", "watt_step_answers_total", "watt_steps_total",
      "Answers in a step, on average" },
};
#define N_RATES (sizeof rates / sizeof *rates)
#define MAX_RATED 256u

struct rated {                  /* the sums of one model */
    char   model[128];
    double above[N_RATES], below[N_RATES];
};

struct writer {
    struct str out;
    char       last[METRIC_MAX_TEXT];   /* whose header was written */
    const struct alias *alias;          /* in place of the name; NULL: the name */
    struct rated *rated;                /* [MAX_RATED], NULL: not collected */
    size_t        n_rated;
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

static void put_label(struct str *s, const char *name, const char *value)
{
    str_printf(s, "%s=\"", name);
    for (const char *c = value; *c; c++)
        str_printf(s, *c == '\n' ? "\\n" : *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
    str_putc(s, '"');
}

/* As vLLM names them. */
static const char *reason_of(const char *finish)
{
    return strcmp(finish, service_finish_name(SERVICE_CANCELLED)) == 0 ? "abort" : finish;
}

static void put_series(struct writer *w, const char *name, const char *suffix,
                       const struct metric_view *v, const double *bound, double value)
{
    const bool renamed = w->alias && w->alias->as == AS_REASON;
    struct str *s = &w->out;

    str_printf(s, "%s%s", name, suffix);
    if (v->n_labels > 0 || bound)
        str_putc(s, '{');
    for (size_t i = 0; i < v->n_labels; i++) {
        const bool finish = renamed && strcmp(v->labels[i].name, "finish") == 0;

        if (i > 0)
            str_putc(s, ',');
        put_label(s, finish ? "finished_reason" : v->labels[i].name,
                  finish ? reason_of(v->labels[i].value) : v->labels[i].value);
    }
    if (bound) {
        str_printf(s, "%sle=\"", v->n_labels ? "," : "");
        put_value(s, *bound);
        str_putc(s, '"');
    }
    str_puts(s, v->n_labels > 0 || bound ? "} " : " ");
    put_value(s, value);
    str_putc(s, '\n');
}

static void put_header(struct writer *w, const char *name, const char *help, const char *type)
{
    if (strcmp(w->last, name) == 0)
        return;
    str_printf(&w->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
    (void)snprintf(w->last, sizeof w->last, "%s", name);
}

static void put_histogram(struct writer *w, const char *name, const struct metric_view *v)
{
    uint64_t below = 0;

    for (size_t i = 0; i <= v->n_bounds; i++) {
        const double bound = i < v->n_bounds ? v->bounds[i] : INFINITY;

        below += v->counts[i];
        put_series(w, name, "_bucket", v, &bound, (double)below);
    }
    put_series(w, name, "_sum", v, NULL, v->value);
    put_series(w, name, "_count", v, NULL, (double)v->count);
}

static void put_metric(struct writer *w, const char *name, const struct metric_view *v)
{
    static const char *const types[] = { "counter", "gauge", "histogram" };
    const bool sum = w->alias && w->alias->as == AS_SUM;

    put_header(w, name, v->help ? v->help : "", sum ? "counter" : types[v->kind]);
    if (v->kind == METRIC_HISTOGRAM && !sum)
        put_histogram(w, name, v);
    else
        put_series(w, name, "", v, NULL, v->value);
}

static const char *model_of(const struct metric_view *v)
{
    for (size_t i = 0; i < v->n_labels; i++)
        if (strcmp(v->labels[i].name, "model_name") == 0)
            return v->labels[i].value;
    return "";
}

static struct rated *rated_of(struct writer *w, const char *model)
{
    for (size_t i = 0; i < w->n_rated; i++)
        if (strcmp(w->rated[i].model, model) == 0)
            return &w->rated[i];
    if (w->n_rated == MAX_RATED || strlen(model) >= sizeof w->rated->model)
        return NULL;
    (void)snprintf(w->rated[w->n_rated].model, sizeof w->rated->model, "%s", model);
    return &w->rated[w->n_rated++];
}

static void collect(struct writer *w, const struct metric_view *v)
{
    for (size_t i = 0; i < N_RATES; i++) {
        const bool above = strcmp(v->name, rates[i].above) == 0;
        struct rated *r = above || strcmp(v->name, rates[i].below) == 0
                              ? rated_of(w, model_of(v)) : NULL;

        if (r)
            *(above ? &r->above[i] : &r->below[i]) += v->value;
    }
}

static void each_metric(void *ctx, const struct metric_view *v)
{
    struct writer *w = ctx;

    if (!w->alias) {
        put_metric(w, v->name, v);
        if (w->rated)
            collect(w, v);
    } else if (strcmp(w->alias->ours, v->name) == 0) {
        put_metric(w, w->alias->theirs, v);
    }
}

static void put_rates(struct writer *w)
{
    for (size_t i = 0; i < N_RATES; i++)
        for (size_t k = 0; k < w->n_rated; k++) {
            const struct rated *r = &w->rated[k];

            put_header(w, rates[i].theirs, rates[i].help, "gauge");
            str_printf(&w->out, "%s{", rates[i].theirs);
            put_label(&w->out, "model_name", r->model);
            str_puts(&w->out, "} ");
            put_value(&w->out, r->below[i] > 0 ? r->above[i] / r->below[i] : 0);
            str_putc(&w->out, '\n');
        }
}

/* What gateways compute the room of a cache from. */
static void put_cache(void *ctx, const struct api_model_info *i)
{
    struct writer *w = ctx;
    struct service_stats st;
    char pages[16], size[16];

    if (!i->m || !i->m->svc)
        return;
    service_stats(i->m->svc, &st);
    (void)snprintf(pages, sizeof pages, "%u", st.n_pages);
    (void)snprintf(size, sizeof size, "%u", KV_PAGE_TOKENS);
    str_puts(&w->out, "vllm:cache_config_info{");
    put_label(&w->out, "block_size", size);
    str_putc(&w->out, ',');
    put_label(&w->out, "model_name", i->name);
    str_putc(&w->out, ',');
    put_label(&w->out, "num_gpu_blocks", pages);
    str_puts(&w->out, "} 1\n");
}

static void put_loaded(void *ctx, const struct api_model_info *i)
{
    struct writer *w = ctx;

    str_puts(&w->out, "watt_model_bytes{");
    put_label(&w->out, "model_name", i->name);
    str_putc(&w->out, ',');
    put_label(&w->out, "use", i->use == API_USE_EMBED ? "embed" : "answer");
    str_printf(&w->out, "} %" PRIu64 "\n", i->bytes);
}

static void put_models(struct writer *w, struct api_models *ms)
{
    uint64_t used, bound;

    put_header(w, "vllm:cache_config_info", "Pages of the cache and tokens of a page", "gauge");
    api_models_each(ms, false, put_cache, w);
    put_header(w, "watt_model_bytes", "Memory of a model, 0 while it is not loaded", "gauge");
    api_models_each(ms, false, put_loaded, w);
    api_models_memory(ms, &used, &bound);
    put_header(w, "watt_models_limit_bytes", "Memory that all models may have", "gauge");
    str_printf(&w->out, "watt_models_limit_bytes %" PRIu64 "\n", bound);
}

static void metrics(struct api_call *c)
{
    struct writer w = { .rated = mem_calloc(MAX_RATED, sizeof *w.rated) };

    str_init(&w.out, (size_t)64 << 20);
    metrics_walk(c->s->metrics, each_metric, &w);
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++) {
        w.alias = &aliases[i];
        metrics_walk(c->s->metrics, each_metric, &w);
    }
    put_rates(&w);
    put_models(&w, c->s->models);
    if (w.rated && str_ok(&w.out))
        http_reply(c->x, 200, "text/plain; version=0.0.4; charset=utf-8", w.out.data, w.out.len);
    else
        api_error(c, 503, "server_error", "out_of_memory", NULL, "out of memory");
    str_deinit(&w.out);
    mem_free(w.rated);
}

const struct api_route api_metrics_routes[] = {
    { "GET", "/metrics", metrics, API_METRICS, false, "Metrics in the text format of Prometheus" },
    { 0 }
};
