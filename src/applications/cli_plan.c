/* cli_plan.c: `watt plan`: what a model on given chips would do and cost, before they are bought. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "applications/cli.h"
#include "applications/plan_report.h"
#include "base/file.h"
#include "base/mem.h"
#include "models/hf_config.h"
#include "models/synth.h"

#define MAX_VARIANTS 16

struct plan_opts {
    const char *model, *type, *chip, *chips, *svg, *trace;
    int64_t count, tp, pp, batch, chunk, threads, prompt, answer, servers;
    double  power_mw, cached, utilisation, price, purchase, life, kwh, pue, price_in, price_cached,
            price_out, interactivity, ttft, watts, idle_watts, rate, scale, goal_ttft, goal_itl, wait;
    int     kv, format, route;
    bool    list, all, sensitivity, chart;
};

#define AT(member) offsetof(struct plan_opts, member)

static const struct cli_opt options[] = {
    { "model", 'm', CLI_FILE, AT(model), "SHAPE",
      "shape (`watt synth --list`), model file or folder, or config.json", 0, 0 },
    { "type", 0, CLI_TEXT, AT(type), "TYPE", "weights of a shape, such as Q4_K_M (default BF16)", 0, 0 },
    { "kv", 0, CLI_CHOICE, AT(kv), "f16|f32|q8_0", "type of the cache (default f16)", 0, 0 },
    { "chip", 0, CLI_TEXT, AT(chip), "NAME",
      "a chip of the table, or `this`: the machine at hand, measured (default this)", 0, 0 },
    { "chips", 0, CLI_FILE, AT(chips), "FILE", "more chips, as JSON", 0, 0 },
    { "list-chips", 0, CLI_FLAG, AT(list), NULL, "print the table of chips and end", 0, 0 },
    { "count", 'n', CLI_INT, AT(count), "N", "chips (default 1, or as --power-mw allows)", 1, 1e6 },
    { "power-mw", 0, CLI_REAL, AT(power_mw), "X", "as many chips as so many megawatts feed, all-in",
      0, 1e6 },
    { "tp", 0, CLI_INT, AT(tp), "N", "chips that split every matrix (default: all powers of two)", 1,
      1024 },
    { "pp", 0, CLI_INT, AT(pp), "N", "chips that split the layers (default: as few as hold the model)",
      1, 64 },
    { "batch", 'b', CLI_INT, AT(batch), "N", "most answers of a server at once (default: as fit)", 1,
      4096 },
    { "step", 0, CLI_INT, AT(chunk), "N", "most tokens of one step of a prompt (default 512)", 1, 65536 },
    { "prompt", 'p', CLI_INT, AT(prompt), "N", "tokens of a prompt (default 512)", 1, 1 << 24 },
    { "answer", 'a', CLI_INT, AT(answer), "N", "tokens of an answer (default 256)", 1, 1 << 24 },
    { "cache-hits", 0, CLI_REAL, AT(cached), "P", "share of prompts found in the cache (default 0)", 0,
      1 },
    { "utilisation", 'u', CLI_REAL, AT(utilisation), "P", "share of the hours under load (default 1)",
      0.001, 1 },
    { "interactivity", 'i', CLI_REAL, AT(interactivity), "X",
      "tokens a second that each answer shall get: the best point is of those", 0, 1e6 },
    { "ttft", 0, CLI_REAL, AT(ttft), "S", "seconds within which the first token shall come", 0, 1e6 },
    { "price", 0, CLI_REAL, AT(price), "USD",
      "an hour of a chip, power included (default: the table's)", 0, 1e6 },
    { "purchase", 0, CLI_REAL, AT(purchase), "USD",
      "a chip with its share of server is bought for this, not rented", 0, 1e9 },
    { "life", 0, CLI_REAL, AT(life), "YEARS", "over which that is written off (default 4)", 0.1, 50 },
    { "power-price", 0, CLI_REAL, AT(kwh), "USD", "a kilowatt-hour, with --purchase (default 0.10)", 0,
      100 },
    { "pue", 0, CLI_REAL, AT(pue), "X",
      "watts at the meter for each of the chip's, where the table has no all-in power (default 1.5)", 1,
      10 },
    { "price-in", 0, CLI_REAL, AT(price_in), "USD", "a million prompt tokens sell for this", 0, 1e6 },
    { "price-cached", 0, CLI_REAL, AT(price_cached), "USD", "the same, found in the cache", 0, 1e6 },
    { "price-out", 0, CLI_REAL, AT(price_out), "USD", "a million answered tokens sell for this", 0, 1e6 },
    { "watts", 0, CLI_REAL, AT(watts), "W", "what the chip may draw, in place of the table's", 0, 1e6 },
    { "idle-watts", 0, CLI_REAL, AT(idle_watts), "W", "what it draws idle", 0, 1e6 },
    { "sensitivity", 's', CLI_FLAG, AT(sensitivity), NULL,
      "the best point with other power prices, utilisations, cache hits and models", 0, 0 },
    { "all", 0, CLI_FLAG, AT(all), NULL, "points that others beat, too", 0, 0 },
    { "trace", 0, CLI_FILE, AT(trace), "FILE", "replay recorded arrivals on the best point's servers",
      0, 0 },
    { "servers", 0, CLI_INT, AT(servers), "N", "so many of them (default: as the chips make)", 1, 4096 },
    { "route", 0, CLI_CHOICE, AT(route), "prefix|least|turns",
      "which server gets a request (default prefix: equal beginnings go together)", 0, 0 },
    { "rate", 'r', CLI_REAL, AT(rate), "X", "arrivals come X times as fast (default 1)", 1e-6, 1e6 },
    { "scale", 0, CLI_REAL, AT(scale), "X", "prompts and answers are X times as long (default 1)", 1e-4,
      1e3 },
    { "ttft-goal", 0, CLI_REAL, AT(goal_ttft), "S", "for goodput (default 10)", 1e-6, 1e9 },
    { "itl-goal", 0, CLI_REAL, AT(goal_itl), "S", "for goodput (default 0.25)", 1e-6, 1e9 },
    { "max-wait", 0, CLI_REAL, AT(wait), "S", "refuse when a queue takes longer (default: never)", 0,
      1e9 },
    { "threads", 't', CLI_INT, AT(threads), "N", "threads of `this` (default: one per core)", 1, 512 },
    { "format", 'f', CLI_CHOICE, AT(format), "table|csv|json", "how results are printed (default table)",
      0, 0 },
    { "chart", 'c', CLI_FLAG, AT(chart), NULL, "draw the points in the terminal", 0, 0 },
    { "svg", 0, CLI_FILE, AT(svg), "FILE", "draw them as a picture", 0, 0 },
    { NULL, 0, CLI_FLAG, 0, NULL, NULL, 0, 0 },
};

struct plan {
    const struct cli *c;
    const struct plan_opts *o;
    struct plan_chips chips;
    struct plan_chip  chip;
    struct model     *model;
    struct plan_spec  spec;
    struct plan_point points[PLAN_MAX_POINTS];
    size_t            n;
    struct plan_variant variants[MAX_VARIANTS];
    size_t            n_variants;
};

/* ---- inputs ---- */

static int list_chips(const struct plan_chips *t)
{
    (void)printf("%-12s %8s %8s %8s %8s %8s %8s %9s %6s %7s %7s  %s\n", "chip", "GB", "GB/s", "bf16 T/s",
                 "int8", "fp8", "fp4", "link GB/s", "group", "watts", "USD/h", "source");
    for (size_t i = 0; i < t->n; i++) {
        const struct plan_chip *c = &t->v[i];

        (void)printf("%-12s %8.4g %8.4g %8.4g %8.4g %8.4g %8.4g %9.4g %6u %7.4g %7.3g  %s\n", c->name,
                     c->memory_bytes / 1e9, c->read_bytes_s / 1e9, c->ops[PLAN_BF16] / 1e12,
                     c->ops[PLAN_INT8] / 1e12, c->ops[PLAN_FP8] / 1e12, c->ops[PLAN_FP4] / 1e12,
                     c->link_bytes_s / 1e9, c->group, c->max_w, c->usd_hour, c->source);
    }
    return CLI_OK;
}

static int shape_model(struct model **out, const char *name, const char *type, struct err *e)
{
    const struct shape *known = shape_find(name);
    struct synth_opts so = { .mix = QUANT_BF16 };
    struct shape s;
    int rc = 0;

    if (type && !quant_mix_parse(type, &so.mix))
        return err_set(e, WATT_EINVAL, "--type %s: unknown; `watt synth --list-types` prints all", type);
    if (known)
        s = *known;
    else
        rc = hf_config_read(&s, name, e);
    return rc == 0 ? synth_plan(out, &s, &so, e) : rc;
}

static bool is_config(const char *path)
{
    const size_t n = strlen(path);

    return n >= 5 && strcmp(path + n - 5, ".json") == 0;
}

static int find_model(struct plan *p, struct err *e)
{
    const char *name = p->o->model;
    const char *names[64] = { NULL }, *near;

    if (shape_find(name) || is_config(name))
        return shape_model(&p->model, name, p->o->type, e);
    if (access(name, R_OK) == 0) {
        if (p->o->type)
            return err_set(e, WATT_EINVAL, "--type: %s has its own types", name);
        return model_open(&p->model, name, NULL, e);
    }
    for (size_t i = 0; i < shape_n_builtin() && i < 63; i++)
        names[i] = shape_builtin(i)->name;
    near = cli_nearest(name, names);
    return err_set(e, WATT_ENOENT, "--model %s: neither a shape nor a file%s%s%s; `watt synth --list` "
                   "prints the shapes", name, near ? ", did you mean '" : "", near ? near : "",
                   near ? "'" : "");
}

static int find_chip(struct plan *p, struct err *e)
{
    const struct plan_chip *known = plan_chips_find(&p->chips, p->o->chip);
    const char *names[PLAN_MAX_CHIPS + 2] = { "this" }, *near;
    int rc = 0;

    if (known) {
        p->chip = *known;
    } else if (strcmp(p->o->chip, "this") == 0) {
        rc = plan_chip_this(&p->chip, (unsigned)p->o->threads, e);
    } else {
        for (size_t i = 0; i < p->chips.n; i++)
            names[i + 1] = p->chips.v[i].name;
        near = cli_nearest(p->o->chip, names);
        return err_set(e, WATT_ENOENT, "--chip %s: not in the table%s%s%s; --list-chips prints it",
                       p->o->chip, near ? ", did you mean '" : "", near ? near : "", near ? "'" : "");
    }
    if (p->o->watts > 0)
        p->chip.max_w = p->o->watts;
    if (p->o->idle_watts > 0)
        p->chip.idle_w = p->o->idle_watts;
    if (rc == 0 && p->chip.idle_w > p->chip.max_w && p->chip.max_w > 0)
        return err_set(e, WATT_EINVAL, "--idle-watts %g: more than the %g that the chip may draw",
                       p->chip.idle_w, p->chip.max_w);
    return rc;
}

static int count_chips(struct plan *p, struct err *e)
{
    const double all_in = plan_all_in_w(&p->spec, p->chip.max_w > 0 ? p->chip.max_w : PLAN_UNKNOWN);
    double n;

    p->spec.n_chips = p->o->count ? (unsigned)p->o->count : 1;
    if (p->o->power_mw <= 0)
        return 0;
    if (p->o->count)
        return err_set(e, WATT_EINVAL, "--count and --power-mw: expected one of them");
    if (all_in <= 0)
        return err_set(e, WATT_EINVAL, "--power-mw: %s states no watts (--watts)", p->chip.name);
    n = floor(p->o->power_mw * 1e6 / all_in);
    if (n < 1 || n > 1e8)
        return err_set(e, WATT_EINVAL, "--power-mw %g: feeds %.0f chips of %.0f W", p->o->power_mw, n,
                       all_in);
    p->spec.n_chips = (unsigned)n;
    return 0;
}

static void fill_spec(struct plan *p)
{
    static const double kv_bytes[] = { 2, 4, 34.0 / 32 };
    const struct plan_opts *o = p->o;

    p->spec = (struct plan_spec){
        .model = p->model, .chip = &p->chip, .tp = (unsigned)o->tp, .pp = (unsigned)o->pp,
        .max_batch = (unsigned)o->batch, .chunk = (unsigned)o->chunk,
        .kv_element_bytes = kv_bytes[o->kv],
        .load = { (double)o->prompt, (double)o->answer, o->cached, o->utilisation },
        .money = { .chip_hour = o->price, .purchase = o->purchase, .life_years = o->life,
                   .kwh = o->kwh, .pue = o->pue, .price_in = o->price_in,
                   .price_cached = o->price_cached, .price_out = o->price_out },
    };
}

/* ---- what if ---- */

static int try_variant(struct plan *p, const struct plan_spec *s, const char *name, struct err *e)
{
    struct plan_variant *v = &p->variants[p->n_variants];
    struct plan_point *points = mem_array(PLAN_MAX_POINTS, sizeof *points);
    const struct plan_point *best = NULL;
    size_t n = 0;
    int rc;

    if (!points || p->n_variants == MAX_VARIANTS) {
        mem_free(points);
        return err_set(e, WATT_ENOMEM, "plan: variants");
    }
    rc = plan_points(s, points, &n, e);
    if (rc == 0)
        best = plan_best(s, points, n, p->o->interactivity, p->o->ttft);
    (void)snprintf(v->name, sizeof v->name, "%s", name);
    v->fits = best != NULL;
    if (best)
        v->point = *best;
    p->n_variants++;
    mem_free(points);
    return rc == WATT_ELIMIT ? 0 : rc;
}

static int vary_money(struct plan *p, struct err *e)
{
    static const double times[] = { 0.5, 2 };
    int rc = 0;

    for (int i = 0; rc == 0 && p->o->purchase > 0 && i < 2; i++) {
        struct plan_spec s = p->spec;
        char name[64];

        s.money.kwh *= times[i];
        (void)snprintf(name, sizeof name, "power at %.3g USD a kWh", s.money.kwh);
        rc = try_variant(p, &s, name, e);
    }
    for (int i = 0; rc == 0 && p->o->purchase <= 0 && i < 2; i++) {
        struct plan_spec s = p->spec;
        char name[64];
        const double hour = s.money.chip_hour >= 0 ? s.money.chip_hour : p->chip.usd_hour;

        if (hour <= 0)
            break;
        s.money.chip_hour = hour * times[i];
        (void)snprintf(name, sizeof name, "chips at %.3g USD an hour", s.money.chip_hour);
        rc = try_variant(p, &s, name, e);
    }
    return rc;
}

static int vary_load(struct plan *p, struct err *e)
{
    static const double uses[] = { 0.3, 0.6, 1 }, hits[] = { 0, 0.5, 0.9 };
    char name[64];
    int rc = 0;

    for (int i = 0; rc == 0 && i < 3; i++) {
        struct plan_spec s = p->spec;

        if (uses[i] == s.load.utilisation)
            continue;
        s.load.utilisation = uses[i];
        (void)snprintf(name, sizeof name, "load in %.0f %% of the hours", 100 * uses[i]);
        rc = try_variant(p, &s, name, e);
    }
    for (int i = 0; rc == 0 && i < 3; i++) {
        struct plan_spec s = p->spec;

        if (hits[i] == s.load.cached)
            continue;
        s.load.cached = hits[i];
        (void)snprintf(name, sizeof name, "%.0f %% of prompts cached", 100 * hits[i]);
        rc = try_variant(p, &s, name, e);
    }
    return rc;
}

/* The shapes next to this one in size. */
static int vary_model(struct plan *p, struct err *e)
{
    const double own = (double)model_facts(p->model)->n_params;
    const struct shape *less = NULL, *more = NULL;
    int rc = 0;

    for (size_t i = 0; i < shape_n_builtin(); i++) {
        const struct shape *s = shape_builtin(i);
        const double n = (double)shape_params(s);

        if (n < 0.8 * own && (!less || n > (double)shape_params(less)))
            less = s;
        if (n > 1.25 * own && (!more || n < (double)shape_params(more)))
            more = s;
    }
    for (int i = 0; rc == 0 && i < 2; i++) {
        const struct shape *s = i ? more : less;
        struct plan_spec spec = p->spec;
        struct model *m = NULL;
        char name[96];

        if (!s)
            continue;
        rc = shape_model(&m, s->name, p->o->type, e);
        if (rc < 0)
            return rc;
        spec.model = m;
        (void)snprintf(name, sizeof name, "the model %s", s->name);
        rc = try_variant(p, &spec, name, e);
        model_close(m);
    }
    return rc;
}

/* ---- output ---- */

static int write_svg(const struct plan_report *r, const char *path, struct err *e)
{
    struct str svg;
    int rc;

    str_init(&svg, 0);
    rc = plan_draw(r, NULL, &svg, e);
    if (rc == 0)
        rc = file_write(path, svg.data, svg.len, e);
    str_deinit(&svg);
    return rc;
}

static int replay(struct plan *p, const struct plan_point *best, struct fleet_spec *fs,
                  struct fleet_report *fr, struct err *e)
{
    const struct plan_opts *o = p->o;
    struct trace t = { 0 };
    int rc;

    if (!best)
        return err_set(e, WATT_ELIMIT, "--trace: no point is fast enough for its servers to be used");
    *fs = (struct fleet_spec){
        .plan = &p->spec, .point = best, .route = (enum fleet_route)o->route, .rate = o->rate,
        .scale = o->scale, .ttft_goal_s = o->goal_ttft, .itl_goal_s = o->goal_itl,
        .max_wait_s = o->wait,
        .n_servers = o->servers ? (unsigned)o->servers
                                : (unsigned)fmin(fmax(best->servers, 1), 4096),
    };
    rc = trace_read(&t, o->trace, e);
    if (rc == 0)
        rc = fleet_run(&t, fs, cli_interrupted, fr, e);
    trace_close(&t);
    return rc;
}

static int print(struct plan *p, const struct plan_report *r, const struct fleet_spec *fs,
                 const struct fleet_report *fleet, struct err *e)
{
    if (p->o->format == 1) {
        plan_print_csv(r, stdout);
    } else if (p->o->format == 2) {
        plan_print_json(r, p->variants, p->n_variants, fs, fleet, stdout);
    } else {
        plan_print_table(r, stdout);
        if (p->n_variants)
            plan_print_variants(p->variants, p->n_variants, stdout);
        if (fleet)
            plan_print_fleet(fs, fleet, stdout);
        if (p->o->chart) {
            const struct chart_terminal t = chart_terminal_here();
            struct str text;
            int rc;

            str_init(&text, 0);
            rc = plan_draw(r, &t, &text, e);
            if (rc == 0)
                (void)printf("\n%s", str_cstr(&text));
            str_deinit(&text);
            return rc;
        }
    }
    return 0;
}

static int work(struct plan *p, struct err *e)
{
    struct plan_report r = { .spec = &p->spec, .points = p->points, .all = p->o->all,
                             .want_user_tok_s = p->o->interactivity, .want_ttft_s = p->o->ttft };
    struct fleet_report fleet;
    struct fleet_spec fs;
    int rc = find_model(p, e);

    if (rc == 0)
        rc = find_chip(p, e);
    if (rc < 0)
        return rc;
    fill_spec(p);
    rc = count_chips(p, e);
    if (rc == 0)
        rc = plan_points(&p->spec, p->points, &p->n, e);
    r.n = p->n;
    if (rc == 0)
        r.best = plan_best(&p->spec, p->points, p->n, p->o->interactivity, p->o->ttft);
    if (rc == 0 && p->o->sensitivity) {
        rc = vary_money(p, e);
        if (rc == 0)
            rc = vary_load(p, e);
        if (rc == 0)
            rc = vary_model(p, e);
    }
    if (rc == 0 && p->o->trace)
        rc = replay(p, r.best, &fs, &fleet, e);
    if (rc == 0 && p->o->svg)
        rc = write_svg(&r, p->o->svg, e);
    return rc == 0 ? print(p, &r, &fs, p->o->trace ? &fleet : NULL, e) : rc;
}

static int run(const struct cli *c, const void *options_struct)
{
    struct plan *p = mem_calloc(1, sizeof *p);
    struct err e = { 0 };
    int rc = 0;

    if (!p)
        return cli_failf(c, "out of memory");
    p->c = c;
    p->o = options_struct;
    plan_chips_init(&p->chips);
    if (p->o->chips)
        rc = plan_chips_read(&p->chips, p->o->chips, &e);
    if (rc == 0 && p->o->list) {
        rc = list_chips(&p->chips);
        mem_free(p);
        return rc;
    }
    if (rc == 0 && !p->o->model) {
        mem_free(p);
        return cli_usage(c, "--model is missing");
    }
    cli_catch_interrupt();
    if (rc == 0)
        rc = work(p, &e);
    model_close(p->model);
    mem_free(p);
    return rc < 0 ? cli_fail(c, &e) : CLI_OK;
}

static const struct plan_opts defaults = {
    .chip = "this", .chunk = 512, .prompt = 512, .answer = 256, .utilisation = 1, .price = -1,
    .life = 4, .kwh = 0.10, .pue = 1.5, .rate = 1, .scale = 1,
};

const struct cli_verb verb_plan = {
    .name = "plan",
    .summary = "what a model on given chips would do: tokens, joules, money",
    .usage = "",
    .about = "From the model's program (its operations and bytes, instruction by instruction) and the "
             "chips' figures: throughput, time between tokens, memory, joules and money for every "
             "split over chips and every batch that fits. Points that another beats in both speed for "
             "one answer and throughput of a chip are left out unless --all is given; `>` marks the "
             "point of most margin (of most tokens, where nothing is sold) among those that are fast "
             "enough.\n\n"
             "Nothing here is a measurement, but for the machine's limits with --chip this. docs/plan.md "
             "has the formulas, and how far they were from what was measured.\n\n"
             "With --trace, recorded arrivals (Azure's CSV, Mooncake's JSON lines) are dealt out to the "
             "servers of the best point, which run the scheduler that serves on a made-up clock.",
    .examples = "watt plan --model llama-3.1-8b --chip h100 --price-in 0.05 --price-out 0.08\n"
                "watt plan --model llama-3.1-70b --chip b200 --power-mw 1 --interactivity 50 -s\n"
                "watt plan --model llama-3.2-1b --type Q4_0 --chart\n"
                "watt plan --model qwen3-32b --chip h200 --count 16 --trace arrivals.csv --route least",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof(struct plan_opts),
    .min_args = 0,
    .max_args = 0,
    .run = run,
};
