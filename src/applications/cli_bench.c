/* cli_bench.c: `watt bench`: prompt processing, generation, at depth, at batch sizes, each
 * beside what this machine could do.
 *
 * Runs of all tests are interleaved, and the machine's peaks are measured again before each
 * run, so that a ratio compares things that happened within the same second; medians are
 * shown. */
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "applications/bench_sweep.h"
#include "applications/progress.h"
#include "applications/roofline.h"
#include "applications/roofline_table.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"

enum { MAX_TESTS = 128, MAX_RUNS = 100, MAX_LIST = 16, MAX_SEQS_BENCH = 512 };

struct bench_opts {
    const char *prompt, *gen, *depth, *batch, *isa, *svg;
    int64_t runs, max_rows;
    struct machine_args machine;
    struct meter_args meter;
    struct sweep_args sweep;
    int kv, exec, format;
    bool no_peaks, roofline, layers;
};

static const struct cli_opt options[] = {
    { "prompt", 'p', CLI_TEXT, offsetof(struct bench_opts, prompt), "N,…",
      "prompt lengths to process (default 512; 0: none)", 0, 0 },
    { "gen", 'n', CLI_TEXT, offsetof(struct bench_opts, gen), "N,…",
      "numbers of tokens to generate (default 64; 0: none)", 0, 0 },
    { "depth", 'd', CLI_TEXT, offsetof(struct bench_opts, depth), "N,…",
      "positions already in the cache (default 0)", 0, 0 },
    { "batch", 'b', CLI_TEXT, offsetof(struct bench_opts, batch), "N,…",
      "streams that generate together (default 1)", 0, 0 },
    { "runs", 'r', CLI_INT, offsetof(struct bench_opts, runs), "N",
      "runs of each test, of which the median is shown (default 5)", 1, MAX_RUNS },
    MACHINE_OPTIONS(struct bench_opts, machine),
    { "step", 0, CLI_INT, offsetof(struct bench_opts, max_rows), "N",
      "most tokens of one step of a prompt (default 512)", 1, 65536 },
    { "kv", 0, CLI_CHOICE, offsetof(struct bench_opts, kv), KV_CHOICES,
      "type of the cache (default auto: f32 where most weights are F32, else f16)", 0, 0 },
    { "exec", 0, CLI_CHOICE, offsetof(struct bench_opts, exec), EXEC_CHOICES,
      "executor (default cpu)", 0, 0 },
    { "isa", 0, CLI_TEXT, offsetof(struct bench_opts, isa), "NAME",
      "no faster kernels than these: ref, avx2, avx512, … (default all)", 0, 0 },
    { "format", 'f', CLI_CHOICE, offsetof(struct bench_opts, format), "table|csv|json",
      "how results are printed (default table)", 0, 0 },
    { "roofline", 0, CLI_FLAG, offsetof(struct bench_opts, roofline), NULL,
      "show where a step's time goes, beside the limit of each part", 0, 0 },
    { "layers", 0, CLI_FLAG, offsetof(struct bench_opts, layers), NULL,
      "with --roofline: a row for every layer, not one for all that do the same", 0, 0 },
    { "svg", 0, CLI_FILE, offsetof(struct bench_opts, svg), "FILE",
      "write the roofline, or the sweep, as a picture", 0, 0 },
    { "no-peaks", 0, CLI_FLAG, offsetof(struct bench_opts, no_peaks), NULL,
      "do not measure the machine (0.4 s a run)", 0, 0 },
    SWEEP_OPTIONS(struct bench_opts, sweep),
    METER_OPTIONS(struct bench_opts, meter),
    { NULL, 0, CLI_FLAG, 0, NULL, NULL, 0, 0 },
};

struct test {
    bool     gen;               /* else prompt */
    uint32_t n, depth, batch;
    uint32_t n_runs;
    double   tok_s[MAX_RUNS];   /* all streams together */
    double   j_tok[MAX_RUNS];   /* joules of the machine per token; NaN: not known */
    double   bandwidth[MAX_RUNS], compute[MAX_RUNS];    /* fractions of the peaks; NaN: unknown */
    struct peaks peaks[MAX_RUNS];       /* right before each run; 0: not measured */
    struct roofline_table *tables;      /* [runs], of each run; NULL: not asked for */
};

struct bench {
    const struct bench_opts *o;
    struct model   *m;
    struct session *s;
    struct team    *team;
    struct session_opts so;
    struct machine_args machine;
    struct session_memory mem;
    struct meter   *meter;
    struct test     tests[MAX_TESTS];
    uint32_t        n_tests;
    struct peaks    now;                    /* what was measured last */
    struct peaks    peaks[MAX_RUNS * 4];    /* the first of them, for the report */
    uint32_t        n_peaks;
    int32_t        *tokens;
    float          *logits;
    struct prog_cost *cost, *step_cost; /* [instructions] */
    struct rng      rng;
    struct progress bar;
};

/* ---- arguments ---- */

struct list { uint32_t v[MAX_LIST]; uint32_t n; };

static int parse_list(const char *name, const char *text, uint32_t min, struct list *l,
                      struct err *e)
{
    l->n = 0;
    for (const char *at = text;; at++) {
        char *end;
        const unsigned long v = strtoul(at, &end, 10);

        if (end == at || (*end != ',' && *end != '\0') || v < min || v > 1u << 24 ||
            l->n == MAX_LIST)
            return err_set(e, WATT_EINVAL, "--%s %s: expected at most %d numbers from %u to %u, "
                           "separated by commas", name, text, MAX_LIST, min, 1u << 24);
        l->v[l->n++] = (uint32_t)v;
        at = end;
        if (*at == '\0')
            return 0;
    }
}

static int add_test(struct bench *b, bool gen, uint32_t n, uint32_t depth, uint32_t batch,
                    struct err *e)
{
    if (n == 0)
        return 0;
    if (b->n_tests == MAX_TESTS)
        return err_set(e, WATT_ELIMIT, "more than %d tests", MAX_TESTS);
    b->tests[b->n_tests++] = (struct test){ .gen = gen, .n = n, .depth = depth, .batch = batch };
    return 0;
}

static int make_tests(struct bench *b, struct err *e)
{
    struct list prompt, gen, depth, batch;
    int rc = parse_list("prompt", b->o->prompt, 0, &prompt, e);

    if (rc == 0)
        rc = parse_list("gen", b->o->gen, 0, &gen, e);
    if (rc == 0)
        rc = parse_list("depth", b->o->depth, 0, &depth, e);
    if (rc == 0)
        rc = parse_list("batch", b->o->batch, 1, &batch, e);
    for (uint32_t d = 0; rc == 0 && d < depth.n; d++) {
        for (uint32_t i = 0; rc == 0 && i < prompt.n; i++)
            rc = add_test(b, false, prompt.v[i], depth.v[d], 1, e);
        for (uint32_t k = 0; rc == 0 && k < batch.n; k++)
            for (uint32_t i = 0; rc == 0 && i < gen.n; i++)
                rc = add_test(b, true, gen.v[i], depth.v[d], batch.v[k], e);
    }
    if (rc == 0 && b->n_tests == 0)
        rc = err_set(e, WATT_EINVAL, "--prompt 0 and --gen 0 leave nothing to measure");
    return rc;
}

/* ---- running ---- */

static int32_t any_token(struct bench *b)
{
    return (int32_t)rng_below(&b->rng, model_facts(b->m)->n_vocab);
}

static int append(struct bench *b, uint32_t seq, uint32_t n, bool last, struct err *e)
{
    const struct session_input in = { .seq = seq, .tokens = b->tokens, .n_tokens = n,
                                      .want = last ? SESSION_LAST : SESSION_NONE };

    for (uint32_t i = 0; i < n; i++)
        b->tokens[i] = any_token(b);
    return session_eval(b->s, &in, 1, last ? b->logits : NULL, e);
}

/* Brings every stream of the test to its depth. */
static int fill(struct bench *b, const struct test *t, struct err *e)
{
    int rc = 0;

    for (uint32_t s = 0; rc == 0 && s < t->batch; s++) {
        if (session_len(b->s, s) > t->depth && session_truncate(b->s, s, t->depth, NULL) < 0)
            session_reset(b->s, s);
        if (session_len(b->s, s) < t->depth)
            rc = append(b, s, t->depth - session_len(b->s, s), false, e);
        session_mark(b->s, s);
        if (rc == 0 && cli_interrupted())
            rc = err_set(e, WATT_ECANCEL, "interrupted");
    }
    return rc;
}

static int generate(struct bench *b, const struct test *t, struct err *e)
{
    struct session_input in[MAX_SEQS_BENCH];
    int32_t token[MAX_SEQS_BENCH];
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < t->n; i++) {
        for (uint32_t s = 0; s < t->batch; s++) {
            token[s] = any_token(b);
            in[s] = (struct session_input){ .seq = s, .tokens = &token[s], .n_tokens = 1,
                                            .want = SESSION_LAST };
        }
        rc = session_eval(b->s, in, t->batch, b->logits, e);
        if (rc == 0 && cli_interrupted())
            rc = err_set(e, WATT_ECANCEL, "interrupted");
    }
    return rc;
}

/* Costs of all steps of one run of a test, by instruction, into b->cost. */
static void count_costs(struct bench *b, const struct test *t)
{
    const uint32_t step = session_max_rows(b->s), n_instr = prog_n_instr(model_program(b->m));

    memset(b->cost, 0, n_instr * sizeof *b->cost);
    for (uint32_t at = 0; at < t->n;) {
        const uint32_t n = t->gen ? 1 : t->n - at < step ? t->n - at : step;
        const struct roofline_load load = { t->gen ? t->batch : n, t->batch, t->depth + at,
                                            t->gen ? t->batch : at + n == t->n };

        roofline_costs(b->step_cost, b->m, &b->mem, &load);
        for (uint32_t i = 0; i < n_instr; i++) {
            b->cost[i].ops += b->step_cost[i].ops;
            b->cost[i].weight_bytes += b->step_cost[i].weight_bytes;
            b->cost[i].kv_bytes += b->step_cost[i].kv_bytes;
            b->cost[i].act_bytes += b->step_cost[i].act_bytes;
        }
        at += n;
    }
}

/* Fractions of the peaks that seconds of work on this test mean. */
static int compare(struct bench *b, struct test *t, double seconds, struct err *e)
{
    const struct program *p = model_program(b->m);
    const struct peaks *k = &b->now;
    const uint32_t run = t->n_runs;
    double read = 0, ops = 0;

    t->bandwidth[run] = t->compute[run] = NAN;
    if (b->o->no_peaks)
        return 0;
    count_costs(b, t);
    for (uint32_t i = 0; i < prog_n_instr(p); i++) {
        read += (b->cost[i].weight_bytes + b->cost[i].kv_bytes) / k->read_bytes_s;
        ops += b->cost[i].ops / roofline_ops_s(k, roofline_peak_of(p, prog_instr(p, i), k));
    }
    t->bandwidth[run] = read / seconds;
    t->compute[run] = ops / seconds;
    if (!t->tables)
        return 0;
    roofline_table_deinit(&t->tables[run]);     /* of the round before the first */
    return roofline_table_init(&t->tables[run], p, session_profiled(b->s), b->cost, k, seconds,
                               b->o->layers, e);
}

static int run_test(struct bench *b, struct test *t, struct err *e)
{
    struct meter_reading from, to;
    uint64_t start;
    double seconds;
    int rc = fill(b, t, e);

    if (rc == 0 && !b->o->no_peaks)
        rc = peaks_measure(&b->now, b->team, b->so.isa_mask ? b->so.isa_mask : CPU_ALL, e);
    if (rc == 0 && !b->o->no_peaks && b->n_peaks < MAX_RUNS * 4)
        b->peaks[b->n_peaks++] = b->now;
    if (rc == 0 && t->tables)
        rc = session_profile(b->s, true, e);
    if (rc < 0)
        return rc;
    meter_read(b->meter, &from);
    start = clock_mono_ns();
    rc = t->gen ? generate(b, t, e) : append(b, 0, t->n, true, e);
    seconds = clock_seconds(clock_mono_ns() - start);
    meter_read(b->meter, &to);
    if (rc < 0)
        return rc;
    t->tok_s[t->n_runs] = (double)t->n * t->batch / seconds;
    t->peaks[t->n_runs] = b->now;
    t->j_tok[t->n_runs] = meter_used(&from, &to) / ((double)t->n * t->batch);
    rc = compare(b, t, seconds, e);
    t->n_runs++;
    return rc;
}

static int run_all(struct bench *b, struct err *e)
{
    int rc = 0;

    progress_init(&b->bar, "measuring", "runs");
    /* one round unmeasured: first touches of memory, clocks that rise */
    for (int64_t r = -1; rc == 0 && r < b->o->runs; r++)
        for (uint32_t i = 0; rc == 0 && i < b->n_tests; i++) {
            progress_update(&b->bar, (uint64_t)(r + 1) * b->n_tests + i,
                            (uint64_t)(b->o->runs + 1) * b->n_tests);
            rc = run_test(b, &b->tests[i], e);
            if (r < 0)
                b->tests[i].n_runs = 0;
        }
    progress_finish(&b->bar);
    return rc;
}

/* ---- report ---- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(const double *v, uint32_t n)
{
    double copy[MAX_RUNS * 4];

    memcpy(copy, v, n * sizeof *copy);
    qsort(copy, n, sizeof *copy, by_value);
    return n % 2 ? copy[n / 2] : (copy[n / 2 - 1] + copy[n / 2]) / 2;
}

static double least(const double *v, uint32_t n)
{
    double m = v[0];

    for (uint32_t i = 1; i < n; i++)
        m = v[i] < m ? v[i] : m;
    return m;
}

static double most(const double *v, uint32_t n)
{
    double m = v[0];

    for (uint32_t i = 1; i < n; i++)
        m = v[i] > m ? v[i] : m;
    return m;
}

/* Median of one field of all measured peaks, at its byte offset. */
static double peak_median(const struct bench *b, size_t offset)
{
    double v[MAX_RUNS * 4];

    for (uint32_t i = 0; i < b->n_peaks; i++)
        memcpy(&v[i], (const char *)&b->peaks[i] + offset, sizeof v[i]);
    return b->n_peaks ? median(v, b->n_peaks) : 0;
}

static void test_name(const struct test *t, char *buf, size_t size)
{
    int n = snprintf(buf, size, "%s %" PRIu32, t->gen ? "generate" : "prompt", t->n);

    if (t->batch > 1 && n > 0 && (size_t)n < size)
        n += snprintf(buf + n, size - (size_t)n, " x %" PRIu32 " streams", t->batch);
    if (t->depth > 0 && n > 0 && (size_t)n < size)
        (void)snprintf(buf + n, size - (size_t)n, " at %" PRIu32, t->depth);
}

/* The run of median speed. */
static uint32_t median_run(const struct test *t)
{
    double sorted[MAX_RUNS];
    uint32_t i = 0;

    memcpy(sorted, t->tok_s, t->n_runs * sizeof *sorted);
    qsort(sorted, t->n_runs, sizeof *sorted, by_value);
    while (t->tok_s[i] < sorted[t->n_runs / 2] || t->tok_s[i] > sorted[t->n_runs / 2])
        i++;
    return i;
}

static void print_machine(const struct bench *b)
{
    (void)printf("machine   %s, %u threads\n", cpu_model_name(), team_size(b->team));
    if (b->n_peaks > 0)
        (void)printf("          %.1f GB/s read (best %.1f), %.0f GFLOP/s F32, %.0f GOP/s int8, %.0f GFLOP/s "
                     "BF16 (measured)\n", peak_median(b, offsetof(struct peaks, read_bytes_s)) / 1e9,
                     peak_median(b, offsetof(struct peaks, read_best_bytes_s)) / 1e9,
                     peak_median(b, offsetof(struct peaks, f32_ops_s)) / 1e9,
                     peak_median(b, offsetof(struct peaks, int8_ops_s)) / 1e9,
                     peak_median(b, offsetof(struct peaks, bf16_ops_s)) / 1e9);
}

/* Median of the runs; NaN when one of them is not known. */
static double joules_per_token(const struct test *t)
{
    for (uint32_t i = 0; i < t->n_runs; i++)
        if (isnan(t->j_tok[i]))
            return NAN;
    return median(t->j_tok, t->n_runs);
}

static void print_energy(const struct bench *b)
{
    const char *why = meter_why(b->meter);
    char name[64];

    if (*why) {
        (void)printf("\nenergy    %s: %.*s\n", meter_source(b->meter), (int)strcspn(why, ";"), why);
        return;
    }
    (void)printf("\nenergy    %s, %s\n", meter_source(b->meter), meter_measures(b->meter)
                 ? "the whole machine" : "computed from operations and bytes, not measured");
    for (uint32_t i = 0; i < b->n_tests; i++) {
        const double j = joules_per_token(&b->tests[i]);

        test_name(&b->tests[i], name, sizeof name);
        if (isnan(j))
            (void)printf("%-28s %12s\n", name, "-");
        else
            (void)printf("%-28s %12.4g J/token\n", name, j);
    }
}

static void print_table(const struct bench *b)
{
    const struct model_facts *f = model_facts(b->m);
    char size[32], name[64];

    (void)printf("model     %s %s, %.2f G parameters, %s, cache %s\n", f->arch, f->quant,
                 (double)f->n_params / 1e9, format_bytes(size, f->tensor_bytes),
                 dtype_name(b->so.k_dtype));
    print_machine(b);
    (void)printf("\n%-28s %12s %21s %12s %12s\n", "test", "tokens/s", "least … most", "bandwidth",
                 "compute");
    for (uint32_t i = 0; i < b->n_tests; i++) {
        const struct test *t = &b->tests[i];

        test_name(t, name, sizeof name);
        (void)printf("%-28s %12.1f %9.1f … %9.1f", name, median(t->tok_s, t->n_runs),
                     least(t->tok_s, t->n_runs), most(t->tok_s, t->n_runs));
        if (b->o->no_peaks)
            (void)printf(" %12s %12s\n", "-", "-");
        else
            (void)printf(" %10.1f %% %10.1f %%\n", 100 * median(t->bandwidth, t->n_runs),
                         100 * median(t->compute, t->n_runs));
    }
    print_energy(b);
    for (uint32_t i = 0; b->o->roofline && i < b->n_tests; i++) {
        const struct test *t = &b->tests[i];
        const struct roofline_table *table = &t->tables[median_run(t)];

        test_name(t, name, sizeof name);
        (void)printf("\n%s: %u step%s, the run of median speed\n", name, table->n_steps,
                     table->n_steps > 1 ? "s" : "");
        roofline_table_print(table, stdout);
    }
    if (!b->o->no_peaks)
        (void)printf("\nbandwidth, compute: the share of this machine's measured peaks that the "
                     "model's own\nbytes and operations mean; the larger one is the limit that "
                     "counts.\n");
}

static void print_roofline_csv(const struct bench *b)
{
    char name[64];

    (void)fputs(roofline_table_csv_head, stdout);
    for (uint32_t i = 0; i < b->n_tests; i++) {
        test_name(&b->tests[i], name, sizeof name);
        roofline_table_csv(&b->tests[i].tables[median_run(&b->tests[i])], name, stdout);
    }
}

static void print_csv(const struct bench *b)
{
    if (b->o->roofline) {
        print_roofline_csv(b);
        return;
    }
    (void)printf("arch,type,test,tokens,depth,batch,threads,runs,tokens_per_s,tokens_per_s_min,"
                 "tokens_per_s_max,bandwidth_share,compute_share,joules_per_token,energy_source\n");
    for (uint32_t i = 0; i < b->n_tests; i++) {
        const struct test *t = &b->tests[i];

        (void)printf("%s,%s,%s,%u,%u,%u,%u,%u,%.3f,%.3f,%.3f,", model_facts(b->m)->arch,
                     model_facts(b->m)->quant, t->gen ? "generate" : "prompt", t->n, t->depth,
                     t->batch, team_size(b->team), t->n_runs, median(t->tok_s, t->n_runs),
                     least(t->tok_s, t->n_runs), most(t->tok_s, t->n_runs));
        if (b->o->no_peaks)
            (void)printf(",,");
        else
            (void)printf("%.4f,%.4f,", median(t->bandwidth, t->n_runs),
                         median(t->compute, t->n_runs));
        if (!isnan(joules_per_token(t)))
            (void)printf("%.6g", joules_per_token(t));
        (void)printf(",%s\n", meter_source(b->meter));
    }
}

/* Each run beside what the machine could do right before it. */
static void print_runs(const struct test *t)
{
    (void)printf(", \"each\": [");
    for (uint32_t i = 0; i < t->n_runs; i++) {
        const struct peaks *k = &t->peaks[i];

        (void)printf("%s{\"tokens_per_s\": %.3f", i ? ", " : "", t->tok_s[i]);
        if (k->read_bytes_s > 0)
            (void)printf(", \"read_bytes_s\": %.4g, \"f32_ops_s\": %.4g, \"int8_ops_s\": %.4g, "
                         "\"bf16_ops_s\": %.4g", k->read_bytes_s, k->f32_ops_s, k->int8_ops_s,
                         k->bf16_ops_s);
        (void)printf("}");
    }
    (void)printf("]");
}

static void print_json(const struct bench *b)
{
    const struct model_facts *f = model_facts(b->m);

    (void)printf("{\"arch\": \"%s\", \"type\": \"%s\", \"parameters\": %" PRIu64
                 ", \"tensor_bytes\": %" PRIu64 ", \"cache\": \"%s\", \"threads\": %u, ",
                 f->arch, f->quant, f->n_params, f->tensor_bytes, dtype_name(b->so.k_dtype),
                 team_size(b->team));
    if (b->n_peaks > 0)
        (void)printf("\"peaks\": {\"read_bytes_s\": %.4g, \"f32_ops_s\": %.4g, \"int8_ops_s\": %.4g, "
                     "\"bf16_ops_s\": %.4g}, ", peak_median(b, offsetof(struct peaks, read_bytes_s)),
                     peak_median(b, offsetof(struct peaks, f32_ops_s)),
                     peak_median(b, offsetof(struct peaks, int8_ops_s)),
                     peak_median(b, offsetof(struct peaks, bf16_ops_s)));
    else
        (void)printf("\"peaks\": null, ");
    (void)printf("\"energy_source\": \"%s\", \"tests\": [", meter_source(b->meter));
    for (uint32_t i = 0; i < b->n_tests; i++) {
        const struct test *t = &b->tests[i];

        (void)printf("%s\n  {\"test\": \"%s\", \"tokens\": %u, \"depth\": %u, \"batch\": %u, \"runs\": %u, "
                     "\"tokens_per_s\": %.3f, \"tokens_per_s_min\": %.3f, \"tokens_per_s_max\": %.3f, ",
                     i ? "," : "", t->gen ? "generate" : "prompt", t->n, t->depth, t->batch,
                     t->n_runs, median(t->tok_s, t->n_runs), least(t->tok_s, t->n_runs),
                     most(t->tok_s, t->n_runs));
        if (b->o->no_peaks)
            (void)printf("\"bandwidth_share\": null, \"compute_share\": null");
        else
            (void)printf("\"bandwidth_share\": %.4f, \"compute_share\": %.4f",
                         median(t->bandwidth, t->n_runs), median(t->compute, t->n_runs));
        if (isnan(joules_per_token(t)))
            (void)printf(", \"joules_per_token\": null");
        else
            (void)printf(", \"joules_per_token\": %.6g", joules_per_token(t));
        print_runs(t);
        if (b->o->roofline) {
            (void)printf(",\n   \"roofline\": ");
            roofline_table_json(&t->tables[median_run(t)], stdout);
        }
        (void)printf("}");
    }
    (void)printf("\n]}\n");
}

/* The picture: the first dozen tests, under the roofs of their median run. */
static int write_svg(const struct bench *b, struct err *e)
{
    enum { MAX_PLOTS = 12 };
    const struct model_facts *f = model_facts(b->m);
    struct roofline_plot plots[MAX_PLOTS];
    char names[MAX_PLOTS][64], title[256], subtitle[256];
    struct peaks k = { 0 };
    struct str svg;
    uint32_t n = 0;
    int rc;

    for (; n < b->n_tests && n < MAX_PLOTS; n++) {
        const struct test *t = &b->tests[n];

        test_name(t, names[n], sizeof names[n]);
        plots[n] = (struct roofline_plot){ names[n], &t->tables[median_run(t)] };
    }
    k.read_bytes_s = peak_median(b, offsetof(struct peaks, read_bytes_s));
    k.f32_ops_s = peak_median(b, offsetof(struct peaks, f32_ops_s));
    k.int8_ops_s = peak_median(b, offsetof(struct peaks, int8_ops_s));
    k.bf16_ops_s = peak_median(b, offsetof(struct peaks, bf16_ops_s));
    (void)snprintf(title, sizeof title, "Roofline: %s %s", f->arch, f->quant);
    (void)snprintf(subtitle, sizeof subtitle, "%.100s, %u threads; area: share of the step",
                   cpu_model_name(), team_size(b->team));
    str_init(&svg, 0);
    rc = roofline_chart(plots, n, &k, title, subtitle, &svg, e);
    if (rc == 0)
        rc = file_write(b->o->svg, svg.data, svg.len, e);
    str_deinit(&svg);
    return rc;
}

/* ---- the verb ---- */

static int prepare(void *ctx, uint64_t done, uint64_t total)
{
    progress_update(ctx, done, total);
    return cli_interrupted();
}

static int open_bench(const struct cli *c, struct bench *b, struct err *e)
{
    uint32_t longest = 1, streams = 1, ctx = 1;
    int rc = make_tests(b, e);

    for (uint32_t i = 0; rc == 0 && i < b->n_tests; i++) {
        const struct test *t = &b->tests[i];

        if (t->batch > MAX_SEQS_BENCH)
            rc = err_set(e, WATT_ELIMIT, "--batch %u: at most %d streams", t->batch,
                         MAX_SEQS_BENCH);
        longest = t->n > longest ? t->n : longest;
        longest = t->depth > longest ? t->depth : longest;
        streams = t->batch > streams ? t->batch : streams;
        ctx = t->depth + t->n > ctx ? t->depth + t->n : ctx;
    }
    if (rc == 0)
        rc = session_opts_exec(&b->so, b->o->exec, b->o->isa, e);
    if (rc == 0)
        rc = session_opts_machine(&b->so, &b->machine, e);
    if (rc == 0)
        rc = open_model(c, &b->m, c->args[0], ctx, e);
    if (rc == 0)
        rc = session_team_open(&b->team, &b->so, e);
    if (rc < 0)
        return rc;
    session_opts_kv(&b->so, b->o->kv);
    b->so.team = b->team;
    b->so.n_ctx = ctx;
    b->so.n_marks = 1;          /* comes back to the depth after each repetition */
    b->so.n_seqs = b->so.max_out = streams;
    b->so.max_rows = longest < (uint32_t)b->o->max_rows ? longest : (uint32_t)b->o->max_rows;
    b->so.progress = prepare;
    b->so.ctx = &b->bar;
    b->so.note = machine_note;
    b->so.note_ctx = (void *)(uintptr_t)c;
    progress_init(&b->bar, "preparing", "B");
    rc = session_open(&b->s, b->m, &b->so, e);
    progress_finish(&b->bar);
    if (rc < 0)
        return rc;
    meter_count(b->meter, b->s);
    session_memory(b->s, &b->mem);
    if (!b->so.kv_set)
        b->so.k_dtype = model_facts(b->m)->main_dtype == DTYPE_F32 ? DTYPE_F32 : DTYPE_F16;
    for (uint32_t i = 0; (b->o->roofline || b->o->svg) && i < b->n_tests; i++) {
        b->tests[i].tables = mem_calloc((size_t)b->o->runs, sizeof *b->tests[i].tables);
        if (!b->tests[i].tables)
            return err_set(e, WATT_ENOMEM, "tables of %u tests", b->n_tests);
    }
    b->cost = mem_array(prog_n_instr(model_program(b->m)), sizeof *b->cost);
    b->step_cost = mem_array(prog_n_instr(model_program(b->m)), sizeof *b->step_cost);
    if (!b->cost || !b->step_cost)
        return err_set(e, WATT_ENOMEM, "costs of the program");
    b->tokens = mem_array(longest, sizeof *b->tokens);
    b->logits = mem_array(streams, session_width(b->s) * sizeof *b->logits);
    if (!b->tokens || !b->logits)
        return err_set(e, WATT_ENOMEM, "results of %u streams", streams);
    rng_init(&b->rng, 1);
    return 0;
}

static int run_sweep(const struct cli *c, const struct bench_opts *o)
{
    struct machine_args machine = o->machine;
    struct sweep_run r = { .machine = &machine, .meter = &o->meter, .kv = o->kv, .exec = o->exec,
                           .max_rows = (uint32_t)o->max_rows, .format = o->format, .isa = o->isa,
                           .svg = o->svg };
    struct list prompt, gen;
    struct err e = { 0 };
    int rc = parse_list("prompt", o->prompt, 1, &prompt, &e);

    if (rc == 0)
        rc = parse_list("gen", o->gen, 1, &gen, &e);
    if (rc == 0 && (prompt.n != 1 || gen.n != 1))
        rc = err_set(&e, WATT_EINVAL, "--sweep: --prompt and --gen take one number each");
    if (rc < 0)
        return cli_fail(c, &e);
    r.n_prompt = prompt.v[0];
    r.n_answer = gen.v[0];
    return bench_sweep(c, &o->sweep, &r);
}

static int run(const struct cli *c, const void *options_struct)
{
    const struct bench_opts *o = options_struct;
    struct bench *b;
    struct err e = { 0 };
    int rc;

    if (!o->sweep.values && (o->sweep.url || o->sweep.trace || o->sweep.chart))
        return cli_usage(c, "--url, --trace and --chart need --sweep");
    if ((c->n_args == 0) != (o->sweep.url != NULL))
        return cli_usage(c, o->sweep.url ? "--url stands in place of MODEL" : "MODEL is missing");
    if (o->sweep.values)
        return run_sweep(c, o);
    b = mem_calloc(1, sizeof *b);
    if (!b)
        return cli_failf(c, "out of memory");
    b->o = options_struct;
    b->machine = b->o->machine;
    if (b->o->no_peaks && (b->o->roofline || b->o->svg)) {
        mem_free(b);
        return cli_usage(c, "--roofline and --svg need the peaks that --no-peaks leaves out");
    }
    cli_catch_interrupt();
    rc = meter_args_open(&b->meter, &o->meter, &e);
    if (rc == 0)
        rc = open_bench(c, b, &e);
    if (rc == 0)
        rc = run_all(b, &e);
    if (rc == 0 && b->o->svg)
        rc = write_svg(b, &e);
    if (rc == 0 && b->o->format == 0)
        print_table(b);
    else if (rc == 0 && b->o->format == 1)
        print_csv(b);
    else if (rc == 0)
        print_json(b);
    for (uint32_t i = 0; i < b->n_tests; i++) {
        for (int64_t r = 0; b->tests[i].tables && r < b->o->runs; r++)
            roofline_table_deinit(&b->tests[i].tables[r]);
        mem_free(b->tests[i].tables);
    }
    meter_close(b->meter);
    session_close(b->s);
    team_close(b->team);
    model_close(b->m);
    mem_free(b->cost);
    mem_free(b->step_cost);
    mem_free(b->tokens);
    mem_free(b->logits);
    mem_free(b);
    return rc < 0 ? cli_fail(c, &e) : CLI_OK;
}

static const struct bench_opts defaults = { .prompt = "512", .gen = "64", .depth = "0",
                                            .batch = "1", .runs = 5, .max_rows = 512,
                                            .sweep = { .scale = 1, .seed = 1 } };

const struct cli_verb verb_bench = {
    .name = "bench",
    .summary = "measure prompt processing and generation beside this machine's limits",
    .usage = "[MODEL]",
    .about = "Every combination of --depth with --prompt, and of --depth, --batch and --gen, is one "
             "test. Tests take turns, one run each, so that a busy machine slows them alike; "
             "medians are shown. Before each run the machine's read bandwidth and its peaks of "
             "F32, 8-bit and BF16 products are measured.\n\n"
             "--roofline adds a table per test: for every part of a step that is timed by itself (an "
             "instruction of the program, or several that share a pass over memory) its time, share "
             "of the step, share of it that threads waited for the last one, bytes of weights and "
             "cache, operations, and how much of its own limit it reached: bytes at the measured "
             "bandwidth or operations at the measured peak, whichever takes longer.\n\n"
             "--sweep measures the service, in this process or at --url: so many clients, each sending "
             "its next request when its answer is over (or arrivals as --trace recorded them): time to "
             "the first token, between tokens, tokens a second of one user and of all, and with a meter "
             "of energy (`watt meter`) joules a token.",
    .examples = "watt bench model.gguf\n"
                "watt bench model.gguf -p 512,2048 -n 128 -d 0,4096\n"
                "watt bench model.gguf -p 0 -n 32 -b 1,8,16,32 --format csv\n"
                "watt bench model.gguf -p 512 -n 32 -b 1,16 --roofline --svg roofline.svg\n"
                "watt bench model.gguf -p 80 -n 64 --sweep 1,4,8,16 --svg sweep.svg\n"
                "watt bench --url http://localhost:8080 -p 80 -n 64 --sweep 1,2,4,8,16,32 --chart",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof(struct bench_opts),
    .min_args = 0,
    .max_args = 1,
    .run = run,
};
