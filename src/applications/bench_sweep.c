/* bench_sweep.c: see bench_sweep.h. */
#include "applications/bench_sweep.h"

#include <stdlib.h>
#include <string.h>

#include "applications/progress.h"
#include "applications/sweep_report.h"
#include "applications/sweep_targets.h"
#include "base/file.h"
#include "base/mem.h"

struct run {
    const struct cli *c;
    const struct sweep_args *a;
    const struct sweep_run  *r;
    double   values[SWEEP_MAX_POINTS];
    size_t   n_values;
    struct trace  trace;
    struct model *m;
    struct team  *team;
    struct meter *meter;
    struct sweep_target target;
    struct sweep_point  points[SWEEP_MAX_POINTS];
    size_t   n_points;
    char     title[256], load[160];
    struct progress bar;
};

static int parse_values(struct run *x, struct err *e)
{
    for (const char *at = x->a->values;;) {
        char *end;
        const double v = strtod(at, &end);

        if (end == at || (*end != ',' && *end != '\0') || !(v > 0 && v <= 1e6) ||
            x->n_values == SWEEP_MAX_POINTS)
            return err_set(e, WATT_EINVAL, "--sweep %s: expected 1 to %u numbers above 0, separated by "
                           "commas", x->a->values, SWEEP_MAX_POINTS);
        x->values[x->n_values++] = v;
        if (*end == '\0')
            return 0;
        at = end + 1;
    }
}

/* The longest prompt with its answer, and the most clients. */
static void bounds(const struct run *x, uint32_t *n_ctx, uint32_t *clients)
{
    double most = 1, longest = (double)x->r->n_prompt + x->r->n_answer;

    for (size_t i = 0; !x->a->trace && i < x->n_values; i++)
        most = x->values[i] > most ? x->values[i] : most;
    for (size_t i = 0; i < x->trace.n; i++) {
        const double n = x->a->scale * ((double)x->trace.v[i].n_prompt + x->trace.v[i].n_answer) + 2;

        longest = i == 0 || n > longest ? n : longest;
    }
    *n_ctx = longest < 1e8 ? (uint32_t)longest + 1 : 100000000u;
    *clients = x->a->trace ? 64 : (uint32_t)(most < SWEEP_MAX_SLOTS ? most : SWEEP_MAX_SLOTS);
}

static int prepare(void *ctx, uint64_t done, uint64_t total)
{
    progress_update(ctx, done, total);
    return cli_interrupted();
}

static int open_service(struct run *x, struct err *e)
{
    struct session_opts so = { .n_ctx = 0 };
    uint32_t n_ctx, clients;
    int rc;

    bounds(x, &n_ctx, &clients);
    rc = session_opts_exec(&so, x->r->exec, x->r->isa, e);
    if (rc == 0)
        rc = session_opts_machine(&so, x->r->machine, e);
    if (rc == 0)
        rc = open_model(x->c, &x->m, x->c->args[0], n_ctx, e);
    if (rc == 0)
        rc = session_team_open(&x->team, &so, e);
    if (rc < 0)
        return rc;
    session_opts_kv(&so, x->r->kv);
    so.team = x->team;
    so.progress = prepare;
    so.ctx = &x->bar;
    so.note = machine_note;
    so.note_ctx = (void *)(uintptr_t)x->c;
    progress_init(&x->bar, "preparing", "B");
    rc = sweep_service_open(&x->target, x->m, &so, n_ctx, clients,
                            x->r->max_rows > clients ? x->r->max_rows : clients, x->meter, e);
    progress_finish(&x->bar);
    (void)snprintf(x->title, sizeof x->title, "%.100s %.100s", model_facts(x->m)->name[0]
                   ? model_facts(x->m)->name : model_facts(x->m)->arch, model_facts(x->m)->quant);
    return rc;
}

static int open_url(struct run *x, struct err *e)
{
    const char *key = x->a->key ? x->a->key : getenv("OPENAI_API_KEY");
    const struct sweep_url u = { .url = x->a->url, .model = x->a->model_name,
                                 .key = key && *key ? key : NULL,
                                 .endpoint = (enum sweep_endpoint)x->a->endpoint };

    (void)snprintf(x->title, sizeof x->title, "%.200s", x->a->url);
    return sweep_url_open(&x->target, &u, e);
}

static int open_all(struct run *x, struct err *e)
{
    int rc = parse_values(x, e);

    if (rc == 0 && x->a->url && x->r->meter->estimate)
        rc = err_set(e, WATT_EINVAL, "--estimate: what a server at --url computes is not known here");
    if (rc == 0 && x->a->trace)
        rc = trace_read(&x->trace, x->a->trace, e);
    if (rc == 0)
        rc = meter_args_open(&x->meter, x->r->meter, e);
    if (rc == 0 && x->a->by_watt && strcmp(meter_source(x->meter), "none") == 0)
        rc = err_set(e, WATT_EINVAL, "--per-watt needs a meter: %s", meter_why(x->meter));
    if (rc < 0)
        return rc;
    if (x->a->trace)
        (void)snprintf(x->load, sizeof x->load, "arrivals of %.100s, lengths times %g", x->a->trace,
                       x->a->scale);
    else
        (void)snprintf(x->load, sizeof x->load, "prompts of %u tokens, answers of %u", x->r->n_prompt,
                       x->r->n_answer);
    return x->a->url ? open_url(x, e) : open_service(x, e);
}

static int measure(struct run *x, struct err *e)
{
    const struct sweep_spec spec = {
        .values = x->values, .n_values = x->n_values, .trace = x->a->trace ? &x->trace : NULL,
        .n_prompt = x->r->n_prompt, .n_answer = x->r->n_answer, .scale = x->a->scale,
        .n_requests = (uint32_t)x->a->requests, .seed = (uint64_t)x->a->seed, .meter = x->meter,
        .cancelled = cli_interrupted, .progress = progress_callback, .progress_ctx = &x->bar,
    };
    int rc;

    progress_init(&x->bar, "measuring", "requests");
    rc = sweep_run(&x->target, &spec, x->points, &x->n_points, e);
    progress_finish(&x->bar);
    return rc;
}

static int write_svg(const struct sweep_report *report, const struct run *x, struct err *e)
{
    struct str svg;
    int rc;

    str_init(&svg, 0);
    rc = sweep_draw(report, x->a->by_watt, NULL, &svg, e);
    if (rc == 0)
        rc = file_write(x->r->svg, svg.data, svg.len, e);
    str_deinit(&svg);
    return rc;
}

/* A script must see that nothing was measured. */
static int check_answered(const struct run *x, struct err *e)
{
    for (size_t i = 0; i < x->n_points; i++)
        if (x->points[i].out_tok_s > 0)
            return 0;
    return err_set(e, WATT_EIO, "no request was answered: %s",
                   x->points[0].failure[0] ? x->points[0].failure : "none brought a token");
}

static int report(struct run *x, struct err *e)
{
    const struct sweep_report r = {
        .title = x->title, .load = x->load, .by_rate = x->a->trace != NULL,
        .source = meter_source(x->meter), .why = meter_why(x->meter), .points = x->points,
        .n = x->n_points,
    };
    int rc;

    if (x->r->format == 1)
        sweep_print_csv(&r, stdout);
    else if (x->r->format == 2)
        sweep_print_json(&r, stdout);
    else
        sweep_print_table(&r, stdout);
    rc = check_answered(x, e);
    if (rc == 0 && x->a->chart && x->r->format == 0) {
        const struct chart_terminal t = chart_terminal_here();
        struct str text;

        str_init(&text, 0);
        rc = sweep_draw(&r, x->a->by_watt, &t, &text, e);
        if (rc == 0)
            (void)printf("\n%s", str_cstr(&text));
        str_deinit(&text);
    }
    return rc == 0 && x->r->svg ? write_svg(&r, x, e) : rc;
}

int bench_sweep(const struct cli *c, const struct sweep_args *a, const struct sweep_run *r)
{
    struct run *x = mem_calloc(1, sizeof *x);
    struct err e = { 0 };
    int rc;

    if (!x)
        return cli_failf(c, "out of memory");
    x->c = c;
    x->a = a;
    x->r = r;
    cli_catch_interrupt();
    rc = open_all(x, &e);
    if (rc == 0)
        rc = measure(x, &e);
    if (rc == 0)
        rc = report(x, &e);
    if (x->target.close)
        x->target.close(x->target.ctx);
    trace_close(&x->trace);
    meter_close(x->meter);
    team_close(x->team);
    model_close(x->m);
    mem_free(x);
    return rc < 0 ? cli_fail(c, &e) : CLI_OK;
}
