/* bench_sweep.h: `watt bench --sweep`: one load at several concurrencies, in this process or against
 * a server. */
#ifndef APPLICATIONS_BENCH_SWEEP_H
#define APPLICATIONS_BENCH_SWEEP_H

#include "applications/cli.h"
#include "applications/meter_args.h"
#include "applications/model_args.h"

struct sweep_args {
    const char *values;         /* --sweep */
    const char *url, *key, *model_name, *trace;
    double      scale;
    int64_t     requests, seed;
    int         endpoint;
    bool        by_watt, chart;
};

#define SWEEP_OPTIONS(type, member)                                                            \
    { "sweep", 0, CLI_TEXT, offsetof(type, member.values), "N,…",                              \
      "so many clients at a time: latency and throughput of each; with --trace: so many times as " \
      "fast as recorded", 0, 0 },                                                              \
    { "url", 0, CLI_TEXT, offsetof(type, member.url), "URL",                                   \
      "of a server with OpenAI's API, in place of MODEL, for --sweep", 0, 0 },                 \
    { "api-key", 0, CLI_TEXT, offsetof(type, member.key), "KEY",                               \
      "for --url (default: $OPENAI_API_KEY)", 0, 0 },                                          \
    { "model-name", 0, CLI_TEXT, offsetof(type, member.model_name), "NAME",                    \
      "which of its models (default: the first it lists)", 0, 0 },                             \
    { "endpoint", 0, CLI_CHOICE, offsetof(type, member.endpoint), "completions|chat",          \
      "which of its endpoints (default completions)", 0, 0 },                                  \
    { "requests", 0, CLI_INT, offsetof(type, member.requests), "N",                            \
      "requests of each point of a sweep (default: four for each client, at least 16)", 1, 1e7 }, \
    { "trace", 0, CLI_FILE, offsetof(type, member.trace), "FILE",                              \
      "recorded arrivals: when, how long prompts and answers, which begin alike", 0, 0 },      \
    { "scale", 0, CLI_REAL, offsetof(type, member.scale), "X",                                 \
      "a trace's prompts and answers are X times as long (default 1)", 1e-4, 1e3 },            \
    { "seed", 0, CLI_INT, offsetof(type, member.seed), "N", "of a sweep's prompts (default 1)", 0, \
      9e15 },                                                                                  \
    { "per-watt", 0, CLI_FLAG, offsetof(type, member.by_watt), NULL,                           \
      "a sweep's picture shows tokens a second a watt", 0, 0 },                                \
    { "chart", 0, CLI_FLAG, offsetof(type, member.chart), NULL,                                \
      "draw a sweep in the terminal", 0, 0 }

/* What the verb's other options say. */
struct sweep_run {
    uint32_t n_prompt, n_answer, max_rows;
    struct machine_args *machine;
    const struct meter_args *meter;
    int      kv, exec, format;
    const char *isa, *svg;
};

/* Returns an enum cli_exit. */
int bench_sweep(const struct cli *c, const struct sweep_args *a, const struct sweep_run *r);

#endif
