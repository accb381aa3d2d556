/* cli_sim.c: `watt sim`: replays recorded arrivals on the scheduler with a made-up model. */
#include <inttypes.h>
#include <stddef.h>

#include "applications/cli.h"
#include "applications/report.h"
#include "base/clock.h"
#include "infrastructure/simulate.h"

struct sim_opts {
    double  rate, scale, max_wait, step_ms, row_ms, position_ns, deadline, ttft, itl, draft_right, cancel;
    int64_t seats, rows, mixed, pages, ctx, queue, seed, slots, draft;
    int     format;
    bool    no_prefix;
};

static const struct cli_opt options[] = {
    { "rate", 'r', CLI_REAL, offsetof(struct sim_opts, rate), "X",
      "arrivals come X times as fast as recorded (default 1)", 1e-6, 1e6 },
    { "scale", 0, CLI_REAL, offsetof(struct sim_opts, scale), "X",
      "prompts and answers are X times as long (default 1)", 1e-4, 1e3 },
    { "step-ms", 0, CLI_REAL, offsetof(struct sim_opts, step_ms), "X",
      "milliseconds of a step without rows (default 25)", 1e-6, 1e6 },
    { "row-ms", 0, CLI_REAL, offsetof(struct sim_opts, row_ms), "X",
      "milliseconds of each row (default 3.5)", 1e-6, 1e6 },
    { "position-ns", 0, CLI_REAL, offsetof(struct sim_opts, position_ns), "X",
      "nanoseconds of each position that a row attends to (default 50)", 1e-6, 1e6 },
    { "seqs", 0, CLI_INT, offsetof(struct sim_opts, seats), "N",
      "answers that run together (default 64)", 1, SCHED_MAX_SEATS },
    { "step", 0, CLI_INT, offsetof(struct sim_opts, rows), "N",
      "most tokens of a step (default 512)", 1, 1 << 20 },
    { "mixed", 0, CLI_INT, offsetof(struct sim_opts, mixed), "N",
      "of those, prompt tokens while answers run (default 64)", 1, 1 << 20 },
    { "pages", 0, CLI_INT, offsetof(struct sim_opts, pages), "N",
      "cache pages of 64 tokens (default 16384)", 2, 1 << 26 },
    { "slots", 0, CLI_INT, offsetof(struct sim_opts, slots), "N",
      "fixed states, as recurrent models have them, at least two for each answer (default 0: none)",
      0, 1 << 20 },
    { "ctx", 'c', CLI_INT, offsetof(struct sim_opts, ctx), "N",
      "positions of one request (default 131072)", 1, 1 << 26 },
    { "queue", 0, CLI_INT, offsetof(struct sim_opts, queue), "N",
      "requests that wait; more are refused (default 1024)", 1, SCHED_MAX_REQS / 2 },
    { "max-wait", 0, CLI_REAL, offsetof(struct sim_opts, max_wait), "S",
      "refuse when the queue will take longer than this (default 0: never)", 0, 1e9 },
    { "draft", 0, CLI_INT, offsetof(struct sim_opts, draft), "N",
      "tokens proposed per answer and step (default 0)", 0, SCHED_MAX_DRAFT },
    { "draft-right", 0, CLI_REAL, offsetof(struct sim_opts, draft_right), "P",
      "how often a proposed token is right (default 0.7)", 0, 1 },
    { "deadline", 0, CLI_REAL, offsetof(struct sim_opts, deadline), "S",
      "seconds after which a request is given up (default 0: never)", 0, 1e9 },
    { "cancel", 0, CLI_REAL, offsetof(struct sim_opts, cancel), "P",
      "share of requests that are cancelled at some point (default 0)", 0, 1 },
    { "ttft", 0, CLI_REAL, offsetof(struct sim_opts, ttft), "S",
      "goal of the time to the first token, for goodput (default 10)", 1e-6, 1e9 },
    { "itl", 0, CLI_REAL, offsetof(struct sim_opts, itl), "S",
      "goal of the mean time between tokens (default 0.25)", 1e-6, 1e9 },
    { "no-prefix-cache", 0, CLI_FLAG, offsetof(struct sim_opts, no_prefix), NULL,
      "beginnings are not shared", 0, 0 },
    { "seed", 's', CLI_INT, offsetof(struct sim_opts, seed), "N",
      "of cancels and drafts (default 0)", 0, 9e15 },
    { "format", 'f', CLI_CHOICE, offsetof(struct sim_opts, format), "table|json",
      "how the report is printed (default table)", 0, 0 },
    { NULL, 0, CLI_FLAG, 0, NULL, NULL, 0, 0 },
};

static struct sim_spec spec_of(const struct sim_opts *o)
{
    return (struct sim_spec){
        .step_ns = o->step_ms * 1e6, .row_ns = o->row_ms * 1e6, .position_ns = o->position_ns,
        .n_ctx = (uint32_t)o->ctx, .n_seats = (uint32_t)o->seats, .max_rows = (uint32_t)o->rows,
        .mixed_rows = (uint32_t)o->mixed, .n_pages = (uint32_t)o->pages,
        .n_slots = (uint32_t)o->slots, .max_draft = (uint32_t)o->draft,
        .draft_right = o->draft_right, .max_queued = (uint32_t)o->queue,
        .no_prefix = o->no_prefix, .rate = o->rate, .scale = o->scale, .deadline_s = o->deadline,
        .cancel_share = o->cancel, .seed = (uint64_t)o->seed, .ttft_goal_s = o->ttft,
        .itl_goal_s = o->itl, .max_wait_s = o->max_wait,
    };
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100 * (double)part / (double)whole : 0;
}

static void print_table(const struct sim_report *r, double wall_s)
{
    (void)printf("requests  %" PRIu64 ": %" PRIu64 " answered, %" PRIu64 " refused for now, %" PRIu64
                 " too long, %" PRIu64 " cancelled, %" PRIu64 " late\n", r->n_requests,
                 r->n_ended[SCHED_LENGTH], r->n_refused, r->n_never, r->n_ended[SCHED_CANCELLED],
                 r->n_ended[SCHED_LATE]);
    (void)printf("time      %.1f s simulated in %.2f s, %.0f requests a second, digest %016" PRIx64
                 "\n", r->simulated_s, wall_s, (double)r->n_requests / wall_s, r->digest);
    (void)printf("steps     %" PRIu64 " of %.1f rows; at most %u answers at once, %u waiting; %" PRIu64
                 " preempted\n", r->n_steps, r->mean_rows, r->peak_running, r->peak_waiting,
                 r->n_preempted);
    (void)printf("tokens    %" PRIu64 " of prompts, %.1f %% cached; %" PRIu64 " of answers, %.1f a "
                 "second", r->n_prompt_tokens, percent(r->n_cached_tokens, r->n_prompt_tokens),
                 r->n_answer_tokens, (double)r->n_answer_tokens / r->simulated_s);
    if (r->n_drafted)
        (void)printf("; %.1f %% of proposals right", percent(r->n_accepted, r->n_drafted));
    (void)printf("\ngoodput   %" PRIu64 " requests within both goals (%.1f %%), %.3f a second\n\n",
                 r->n_good, percent(r->n_good, r->n_requests), r->goodput_per_s);
    report_quantiles_heading(stdout);
    report_quantiles(stdout, "queue", &r->queue_s);
    report_quantiles(stdout, "first token", &r->ttft_s);
    report_quantiles(stdout, "between tokens", &r->itl_s);
}

static void print_json(const struct sim_report *r, double wall_s)
{
    (void)printf("{\"requests\": %" PRIu64 ", \"answered\": %" PRIu64 ", \"refused\": %" PRIu64
                 ", \"too_long\": %" PRIu64 ", \"cancelled\": %" PRIu64 ", \"late\": %" PRIu64
                 ", \"good\": %" PRIu64 ", \"goodput_per_s\": %.6g, \"simulated_s\": %.6g, "
                 "\"wall_s\": %.6g", r->n_requests, r->n_ended[SCHED_LENGTH], r->n_refused,
                 r->n_never, r->n_ended[SCHED_CANCELLED], r->n_ended[SCHED_LATE], r->n_good,
                 r->goodput_per_s, r->simulated_s, wall_s);
    (void)printf(", \"prompt_tokens\": %" PRIu64 ", \"cached_tokens\": %" PRIu64
                 ", \"answer_tokens\": %" PRIu64 ", \"drafted\": %" PRIu64 ", \"accepted\": %" PRIu64
                 ", \"steps\": %" PRIu64 ", \"mean_rows\": %.6g, \"preempted\": %" PRIu64
                 ", \"digest\": \"%016" PRIx64 "\"", r->n_prompt_tokens, r->n_cached_tokens,
                 r->n_answer_tokens, r->n_drafted, r->n_accepted, r->n_steps, r->mean_rows,
                 r->n_preempted, r->digest);
    report_json_quantiles(stdout, "queue_s", &r->queue_s);
    report_json_quantiles(stdout, "ttft_s", &r->ttft_s);
    report_json_quantiles(stdout, "itl_s", &r->itl_s);
    (void)printf("}\n");
}

static int run(const struct cli *c, const void *options_struct)
{
    const struct sim_opts *o = options_struct;
    const struct sim_spec spec = spec_of(o);
    struct sim_report r;
    struct trace t;
    struct err e = { 0 };
    uint64_t start;
    int rc = trace_read(&t, c->args[0], &e);

    if (rc < 0)
        return cli_fail(c, &e);
    cli_catch_interrupt();
    start = clock_mono_ns();
    rc = sim_run(&t, &spec, cli_interrupted, &r, &e);
    trace_close(&t);
    if (rc < 0)
        return cli_fail(c, &e);
    if (o->format == 0)
        print_table(&r, clock_seconds(clock_mono_ns() - start));
    else
        print_json(&r, clock_seconds(clock_mono_ns() - start));
    return CLI_OK;
}

static const struct sim_opts defaults = {
    .rate = 1, .scale = 1, .step_ms = 25, .row_ms = 3.5, .position_ns = 50, .draft_right = 0.7,
    .ttft = 10, .itl = 0.25, .seats = 64, .rows = 512, .mixed = 64, .pages = 16384, .ctx = 131072,
    .queue = 1024,
};

const struct cli_verb verb_sim = {
    .name = "sim",
    .summary = "replay recorded arrivals on the scheduler with a made-up model",
    .usage = "TRACE",
    .about = "The scheduler, the prefix tree and the admission are those that serve; the clock and "
             "the model are made up: a step takes --step-ms, and --row-ms for each row. TRACE is a "
             "file of the Azure LLM inference trace (CSV) or of Mooncake (JSON lines). The same "
             "trace, options and seed give the same digest.",
    .examples = "watt sim AzureLLMInferenceTrace_conv.csv --scale 0.25\n"
                "watt sim mooncake_conversation_trace.jsonl --pages 65536 --row-ms 0.1 --format json",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof(struct sim_opts),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
