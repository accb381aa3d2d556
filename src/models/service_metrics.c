/* service_metrics.c: what a service counts, in the registry that it was given. Names under watt_;
 * whoever writes them out may give the same series under other engines' names too. */
#include "base/mem.h"
#include "models/service_internal.h"

enum counter { PROMPT, CACHED, ANSWER, STEPS, PREEMPTED, DRAFTED, ACCEPTED, BUSY, COUNTERS };
enum gauge { RUNNING, WAITING, KV_USAGE, GAUGES };
enum hist { TTFT, ITL, E2E, QUEUE_TIME, PREFILL_TIME, DECODE_TIME, RUN_TIME,
            PROMPT_SIZE, ANSWER_SIZE, HISTS };

struct service_metrics {
    struct metrics *registry;
    struct metric *counters[COUNTERS], *gauges[GAUGES], *hists[HISTS];
    struct metric *finished[SERVICE_ERROR + 1];
    struct metric *refused[SERVICE_REFUSED_NOMEM + 1];
    struct sched_stats seen;
};

static const struct { const char *name, *help; } counter_names[COUNTERS] = {
    [PROMPT] = { "watt_prompt_tokens_total", "Tokens of prompts, cached ones included" },
    [CACHED] = { "watt_cached_tokens_total", "Tokens of prompts that the prefix cache had" },
    [ANSWER] = { "watt_generated_tokens_total", "Tokens drawn" },
    [STEPS] = { "watt_steps_total", "Steps of the engine" },
    [PREEMPTED] = { "watt_preemptions_total", "Answers that gave their memory away for a while" },
    [DRAFTED] = { "watt_drafted_tokens_total", "Tokens proposed by speculation" },
    [ACCEPTED] = { "watt_accepted_tokens_total", "Proposed tokens that were right" },
    [BUSY] = { "watt_step_answers_total", "Answers in steps, summed over all steps" },
};
static const struct { const char *name, *help; } gauge_names[GAUGES] = {
    [RUNNING] = { "watt_requests_running", "Answers in the present step" },
    [WAITING] = { "watt_requests_waiting", "Answers in the queue" },
    [KV_USAGE] = { "watt_kv_usage_ratio", "Share of the cache pages that answers hold" },
};
static const struct { const char *name, *help; bool tokens; } hist_names[HISTS] = {
    [TTFT] = { "watt_time_to_first_token_seconds", "From submission to the first token", false },
    [ITL] = { "watt_inter_token_latency_seconds", "Mean time between tokens of an answer", false },
    [E2E] = { "watt_request_seconds", "From submission to the end", false },
    [QUEUE_TIME] = { "watt_queue_seconds", "From submission to the first step", false },
    [PREFILL_TIME] = { "watt_prefill_seconds", "From the first step to the first token", false },
    [DECODE_TIME] = { "watt_decode_seconds", "From the first token to the last", false },
    [RUN_TIME] = { "watt_run_seconds", "From the first step to the end", false },
    [PROMPT_SIZE] = { "watt_request_prompt_tokens", "Tokens of a prompt", true },
    [ANSWER_SIZE] = { "watt_request_generated_tokens", "Tokens of an answer", true },
};
static const double seconds_bounds[] = { 0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15,
                                         0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160,
                                         640 };
static const double token_bounds[] = { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000,
                                       10000, 20000, 50000, 100000 };
static const char *const refusal_names[] = { "invalid", "context", "memory", "queue", "closing",
                                             "nomem" };

static int open_one(struct service_metrics *x, struct metric **out, struct metric_spec spec,
                    const struct service *s, const char *label, const char *value, struct err *e)
{
    const struct metric_label labels[] = { { "model_name", s->name }, { label, value } };

    spec.labels = labels;
    spec.n_labels = label ? 2 : 1;
    return metric_open(out, x->registry, &spec, e);
}

static int open_labelled(struct service_metrics *x, const struct service *s, struct err *e)
{
    const struct metric_spec done = { .kind = METRIC_COUNTER, .name = "watt_answers_total",
                                      .help = "Answers that are over, by why" };
    const struct metric_spec no = { .kind = METRIC_COUNTER, .name = "watt_refused_total",
                                    .help = "Requests that were refused, by why" };
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i <= SERVICE_ERROR; i++)
        rc = open_one(x, &x->finished[i], done, s, "finish",
                      service_finish_name((enum service_finish)i), e);
    for (unsigned i = 0; rc == 0 && i <= SERVICE_REFUSED_NOMEM; i++)
        rc = open_one(x, &x->refused[i], no, s, "reason", refusal_names[i], e);
    return rc;
}

static int open_all(struct service_metrics *x, const struct service *s, struct err *e)
{
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < COUNTERS; i++)
        rc = open_one(x, &x->counters[i],
                      (struct metric_spec){ .kind = METRIC_COUNTER, .name = counter_names[i].name,
                                            .help = counter_names[i].help }, s, NULL, NULL, e);
    for (unsigned i = 0; rc == 0 && i < GAUGES; i++)
        rc = open_one(x, &x->gauges[i],
                      (struct metric_spec){ .kind = METRIC_GAUGE, .name = gauge_names[i].name,
                                            .help = gauge_names[i].help }, s, NULL, NULL, e);
    for (unsigned i = 0; rc == 0 && i < HISTS; i++) {
        const bool tokens = hist_names[i].tokens;

        rc = open_one(x, &x->hists[i],
                      (struct metric_spec){ .kind = METRIC_HISTOGRAM, .name = hist_names[i].name,
                                            .help = hist_names[i].help,
                                            .bounds = tokens ? token_bounds : seconds_bounds,
                                            .n_bounds = tokens
                                                ? sizeof token_bounds / sizeof *token_bounds
                                                : sizeof seconds_bounds / sizeof *seconds_bounds },
                      s, NULL, NULL, e);
    }
    return rc < 0 ? rc : open_labelled(x, s, e);
}

int service_metrics_open(struct service_metrics **out, struct service *s, struct err *e)
{
    struct service_metrics *x = mem_calloc(1, sizeof *x);
    int rc;

    if (!x)
        return err_set(e, WATT_ENOMEM, "metrics");
    x->registry = s->opts.metrics;
    rc = open_all(x, s, e);
    if (rc < 0) {
        mem_free(x);
        return rc;
    }
    *out = x;
    return 0;
}

void service_metrics_close(struct service_metrics *x)
{
    mem_free(x);
}

void service_metrics_step(struct service *s)
{
    struct service_metrics *x = s->metrics;
    const struct sched_stats had = x->seen;
    const double pages = kv_n_pages(s->kv);

    sched_stats(s->sched, &x->seen);
    metric_add(x->counters[PROMPT], x->seen.n_prompt_tokens - had.n_prompt_tokens);
    metric_add(x->counters[CACHED], x->seen.n_cached_tokens - had.n_cached_tokens);
    metric_add(x->counters[ANSWER], x->seen.n_drawn - had.n_drawn);
    metric_add(x->counters[STEPS], x->seen.n_steps - had.n_steps);
    metric_add(x->counters[PREEMPTED], x->seen.n_preempted - had.n_preempted);
    metric_add(x->counters[DRAFTED], x->seen.n_drafted - had.n_drafted);
    metric_add(x->counters[ACCEPTED], x->seen.n_accepted - had.n_accepted);
    metric_add(x->counters[BUSY], (x->seen.n_steps - had.n_steps) * x->seen.n_running);
    metric_set(x->gauges[RUNNING], x->seen.n_running);
    metric_set(x->gauges[WAITING], x->seen.n_waiting);
    if (pages > 0)
        metric_set(x->gauges[KV_USAGE],
                   1 - (double)(kv_n_free(s->kv) + kv_n_cached(s->kv)) / pages);
}

static void observe_ns(struct metric *x, uint64_t ns)
{
    metric_observe(x, (double)ns * 1e-9);
}

void service_metrics_done(struct service *s, const struct service_event *ev)
{
    struct service_metrics *x = s->metrics;

    service_metrics_step(s);    /* whoever waits for the event sees its tokens counted */
    metric_add(x->finished[ev->finish], 1);
    if (ev->times.first_token > 0)
        observe_ns(x->hists[TTFT], ev->times.first_token);
    if (ev->usage.n_answer > 1)
        observe_ns(x->hists[ITL], ev->times.decode / (ev->usage.n_answer - 1));
    observe_ns(x->hists[E2E], ev->times.total);
    observe_ns(x->hists[QUEUE_TIME], ev->times.queued);
    observe_ns(x->hists[PREFILL_TIME], ev->times.prefill);
    observe_ns(x->hists[DECODE_TIME], ev->times.decode);
    observe_ns(x->hists[RUN_TIME], ev->times.prefill + ev->times.decode);
    metric_observe(x->hists[PROMPT_SIZE], ev->usage.n_prompt);
    metric_observe(x->hists[ANSWER_SIZE], ev->usage.n_answer);
}

void service_metrics_refused(struct service *s, enum service_refusal why)
{
    metric_add(s->metrics->refused[why], 1);
}
