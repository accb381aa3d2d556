/* plan_report.c: see plan_report.h. A figure that no input gives is "-" in tables, empty in CSV and
 * null in JSON. */
#include "applications/plan_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "applications/report.h"
#include "base/mem.h"

#define MAX_SPLITS 16

/* ---- the table ---- */

/* Three significant digits in a field; PLAN_UNKNOWN is "-". Margins may be negative. */
static const char *figure(char buf[32], double v, bool known)
{
    if (!known || !isfinite(v))
        (void)snprintf(buf, 32, "-");
    else if (v != 0 && fabs(v) < 0.0995)
        (void)snprintf(buf, 32, "%.4f", v);
    else if (fabs(v) < 99.5)
        (void)snprintf(buf, 32, fabs(v) < 9.95 ? "%.2f" : "%.1f", v);
    else
        (void)snprintf(buf, 32, "%.0f", v);
    return buf;
}

static void put(FILE *f, int width, double v, bool known)
{
    char buf[32];

    (void)fprintf(f, " %*s", width, figure(buf, v, known));
}

static void print_inputs(const struct plan_report *r, FILE *f)
{
    const struct plan_spec *s = r->spec;
    const struct model_facts *m = model_facts(s->model);
    const struct plan_chip *c = s->chip;

    (void)fprintf(f, "model    %s, %s, %.1f GB; %.0f bytes of cache a position\n", m->name, m->quant,
                  (double)m->tensor_bytes / 1e9, plan_kv_bytes(s));
    (void)fprintf(f, "chips    %u x %s: %.4g GB at %.4g GB/s, T/s:", s->n_chips, c->name,
                  c->memory_bytes / 1e9, c->read_bytes_s / 1e9);
    for (int i = 0; i < PLAN_N_OPS; i++)
        if (c->ops[i] > 0)
            (void)fprintf(f, " %s %.3g", plan_ops_name((enum plan_ops)i), c->ops[i] / 1e12);
    (void)fprintf(f, "\n         %s\n", c->source);
    (void)fprintf(f, "engine   reaches %.0f %% of int8, %.0f %% of BF16 operations (%.0f %% in attention), "
                  "%.0f %% of bandwidth (%.0f %% in caches)\n", 100 * c->ops_share[PLAN_INT8],
                  100 * c->ops_share[PLAN_BF16], 100 * c->attention_share, 100 * c->read_share,
                  100 * c->kv_share);
    (void)fprintf(f, "load     prompts of %.0f tokens, %.0f %% cached; answers of %.0f; %.0f %% of the "
                  "hours\n\n", s->load.prompt, 100 * s->load.cached, s->load.answer,
                  100 * s->load.utilisation);
}

static void print_heading(FILE *f)
{
    (void)fprintf(f, "  %3s %3s %5s %8s %8s %8s %9s %9s %7s %-6s %7s %8s %8s %8s %9s\n", "tp", "pp",
                  "batch", "tok/s", "ITL", "TTFT", "tok/s", "tok/s", "memory", "bound", "watts",
                  "J/token", "J/token", "USD per", "margin");
    (void)fprintf(f, "  %3s %3s %5s %8s %8s %8s %9s %9s %7s %-6s %7s %8s %8s %8s %9s\n", "", "", "",
                  "a user", "ms", "s", "a chip", "in all", "GB", "by", "a chip", "chips", "all-in",
                  "M tokens", "USD/h");
}

static void print_point(const struct plan_report *r, const struct plan_point *p, FILE *f)
{
    const bool priced = p->usd_hour >= 0;

    (void)fprintf(f, "%c %3u %3u %5u", p == r->best ? '>' : ' ', p->tp, p->pp, p->batch);
    put(f, 8, p->user_tok_s, true);
    put(f, 8, 1000 * p->itl_s, true);
    put(f, 8, p->ttft_s, true);
    put(f, 9, p->chip_tok_s, true);
    put(f, 9, p->out_tok_s, true);
    put(f, 7, p->memory_bytes / 1e9, true);
    (void)fprintf(f, " %-6s", plan_bound_name(p->bound));
    put(f, 7, p->chip_w, p->chip_w >= 0);
    put(f, 8, p->out_j, p->out_j >= 0);
    put(f, 8, p->all_in_j, p->all_in_j >= 0);
    put(f, 8, p->usd_out, priced);
    put(f, 9, p->margin_hour, priced && p->revenue_hour > 0);
    (void)fprintf(f, "\n");
}

static void print_best(const struct plan_report *r, FILE *f)
{
    const struct plan_point *p = r->best;
    char a[32], b[32], c[32], d[32];

    if (!p) {
        (void)fprintf(f, "\nno point gives every answer %.4g tokens a second%s\n", r->want_user_tok_s,
                      r->want_ttft_s > 0 ? " and its first one in time" : "");
        return;
    }
    (void)fprintf(f, "\n> best%s: %.0f servers of %u chips, %u answers each; %.4g requests a second, %s "
                  "tokens a second in, %s out\n", r->want_user_tok_s > 0 ? " of those fast enough" : "",
                  p->servers, p->tp * p->pp, p->batch, p->requests_s, figure(a, p->in_tok_s, true),
                  figure(b, p->out_tok_s, true));
    if (p->prefill_j >= 0)
        (void)fprintf(f, "  a prompt token computed takes %.3g J, a token answered %.3g J of the chips\n",
                      p->prefill_j, p->decode_j);
    if (p->usd_hour >= 0)
        (void)fprintf(f, "  %s USD an hour; a million tokens cost %s answered, %s in all\n",
                      figure(a, p->usd_hour, true), figure(b, p->usd_out, true),
                      figure(c, p->usd_total, true));
    if (p->usd_hour >= 0 && p->revenue_hour > 0)
        (void)fprintf(f, "  revenue %s USD an hour, margin %s, %s for each MW all-in\n",
                      figure(a, p->revenue_hour, true), figure(b, p->margin_hour, true),
                      figure(d, p->margin_mw, p->all_in_w >= 0));
}

void plan_print_table(const struct plan_report *r, FILE *f)
{
    print_inputs(r, f);
    print_heading(f);
    for (size_t i = 0; i < r->n; i++)
        if (r->all || r->points[i].front || &r->points[i] == r->best)
            print_point(r, &r->points[i], f);
    print_best(r, f);
    if (r->spec->chip->max_w <= 0)
        (void)fprintf(f, "  joules are not known: %s states no watts (--watts)\n",
                      r->spec->chip->name);
    if (r->n && r->points[0].usd_hour < 0)
        (void)fprintf(f, "  money is not known: %s states no price (--price, or --purchase)\n",
                      r->spec->chip->name);
}

/* ---- fields of a point, for machines ---- */

enum unknown { ALWAYS, IF_WATTS, IF_ALL_IN, IF_PRICE };

static const struct field { const char *name; size_t offset; enum unknown when; } fields[] = {
    { "step_s", offsetof(struct plan_point, step_s), ALWAYS },
    { "prefill_s", offsetof(struct plan_point, prefill_s), ALWAYS },
    { "ttft_s", offsetof(struct plan_point, ttft_s), ALWAYS },
    { "itl_s", offsetof(struct plan_point, itl_s), ALWAYS },
    { "tokens_per_s_user", offsetof(struct plan_point, user_tok_s), ALWAYS },
    { "tokens_per_s_chip", offsetof(struct plan_point, chip_tok_s), ALWAYS },
    { "output_tokens_per_s", offsetof(struct plan_point, out_tok_s), ALWAYS },
    { "input_tokens_per_s", offsetof(struct plan_point, in_tok_s), ALWAYS },
    { "requests_per_s", offsetof(struct plan_point, requests_s), ALWAYS },
    { "memory_bytes_chip", offsetof(struct plan_point, memory_bytes), ALWAYS },
    { "watts_chip", offsetof(struct plan_point, chip_w), IF_WATTS },
    { "watts_all_in", offsetof(struct plan_point, all_in_w), IF_ALL_IN },
    { "joules_per_input_token_computed", offsetof(struct plan_point, prefill_j), IF_WATTS },
    { "joules_per_decode_token", offsetof(struct plan_point, decode_j), IF_WATTS },
    { "joules_per_output_token", offsetof(struct plan_point, out_j), IF_WATTS },
    { "joules_per_output_token_all_in", offsetof(struct plan_point, all_in_j), IF_ALL_IN },
    { "usd_hour", offsetof(struct plan_point, usd_hour), IF_PRICE },
    { "usd_per_million_output_tokens", offsetof(struct plan_point, usd_out), IF_PRICE },
    { "usd_per_million_tokens", offsetof(struct plan_point, usd_total), IF_PRICE },
    { "revenue_usd_hour", offsetof(struct plan_point, revenue_hour), ALWAYS },
    { "margin_usd_hour", offsetof(struct plan_point, margin_hour), IF_PRICE },
    { "margin_usd_hour_mw", offsetof(struct plan_point, margin_mw), IF_PRICE },
};
enum { N_FIELDS = sizeof fields / sizeof *fields };

static bool known(const struct plan_point *p, const struct field *f, double *v)
{
    const bool energy_margin = f->offset == offsetof(struct plan_point, margin_mw);

    *v = *(const double *)(const void *)((const char *)p + f->offset);
    if ((f->when == IF_WATTS && p->chip_w < 0) || (f->when == IF_ALL_IN && p->all_in_w < 0) ||
        (f->when == IF_PRICE && p->usd_hour < 0) || (energy_margin && p->all_in_w < 0))
        return false;
    return isfinite(*v);
}

void plan_print_csv(const struct plan_report *r, FILE *f)
{
    (void)fprintf(f, "tp,pp,batch,servers,bound,front,best");
    for (int i = 0; i < N_FIELDS; i++)
        (void)fprintf(f, ",%s", fields[i].name);
    (void)fprintf(f, "\n");
    for (size_t k = 0; k < r->n; k++) {
        const struct plan_point *p = &r->points[k];

        if (!r->all && !p->front && p != r->best)
            continue;
        (void)fprintf(f, "%u,%u,%u,%.0f,%s,%d,%d", p->tp, p->pp, p->batch, p->servers,
                      plan_bound_name(p->bound), p->front, p == r->best);
        for (int i = 0; i < N_FIELDS; i++) {
            double v;

            if (known(p, &fields[i], &v))
                (void)fprintf(f, ",%.6g", v);
            else
                (void)fprintf(f, ",");
        }
        (void)fprintf(f, "\n");
    }
}

static void json_point(const struct plan_point *p, bool best, FILE *f)
{
    (void)fprintf(f, "{\"tp\": %u, \"pp\": %u, \"batch\": %u, \"servers\": %.0f, \"bound\": \"%s\", "
                  "\"front\": %s, \"best\": %s", p->tp, p->pp, p->batch, p->servers,
                  plan_bound_name(p->bound), p->front ? "true" : "false", best ? "true" : "false");
    for (int i = 0; i < N_FIELDS; i++) {
        double v;

        if (known(p, &fields[i], &v))
            (void)fprintf(f, ", \"%s\": %.6g", fields[i].name, v);
        else
            (void)fprintf(f, ", \"%s\": null", fields[i].name);
    }
    (void)fprintf(f, "}");
}

static void json_inputs(const struct plan_report *r, FILE *f)
{
    const struct plan_spec *s = r->spec;
    const struct plan_chip *c = s->chip;

    (void)fprintf(f, "{");
    report_json_text(f, "model", model_facts(s->model)->name);
    (void)fprintf(f, ", ");
    report_json_text(f, "types", model_facts(s->model)->quant);
    (void)fprintf(f, ", \"weight_bytes\": %" PRIu64 ", \"kv_bytes_token\": %.6g,\n ",
                  model_facts(s->model)->tensor_bytes, plan_kv_bytes(s));
    report_json_text(f, "chip", c->name);
    (void)fprintf(f, ", ");
    report_json_text(f, "chip_source", c->source);
    (void)fprintf(f, ", \"read_gb_s\": %.4g, \"f32_tops\": %.4g, \"bf16_tops\": %.4g, \"int8_tops\": %.4g",
                  c->read_bytes_s * 1e-9, c->ops[PLAN_F32] * 1e-12, c->ops[PLAN_BF16] * 1e-12,
                  c->ops[PLAN_INT8] * 1e-12);
    (void)fprintf(f, ",\n \"chips\": %u, \"read_share\": %g,\n \"prompt_tokens\": %g, "
                  "\"cached_share\": %g, \"answer_tokens\": %g, \"utilisation\": %g, "
                  "\"wanted_tokens_per_s_user\": %g", s->n_chips, c->read_share,
                  s->load.prompt, s->load.cached, s->load.answer, s->load.utilisation,
                  r->want_user_tok_s);
}

static void json_or_null(const char *name, double v, FILE *f)
{
    if (v >= 0)
        (void)fprintf(f, ", \"%s\": %.6g", name, v);
    else
        (void)fprintf(f, ", \"%s\": null", name);
}

static void json_fleet(const struct fleet_spec *s, const struct fleet_report *r, FILE *f)
{
    (void)fprintf(f, ",\n \"fleet\": {\"servers\": %u, \"requests\": %" PRIu64 ", \"refused\": %" PRIu64
                  ", \"too_long\": %" PRIu64 ", \"good\": %" PRIu64 ", \"simulated_s\": %.6g, "
                  "\"busy\": %.4f, \"busiest\": %.4f, \"idlest\": %.4f, \"prompt_tokens\": %" PRIu64
                  ", \"cached_tokens\": %" PRIu64 ", \"answer_tokens\": %" PRIu64
                  ", \"output_tokens_per_s\": %.6g, \"goodput_per_s\": %.6g, \"digest\": \"%016" PRIx64
                  "\"", s->n_servers, r->n_requests, r->n_refused, r->n_never, r->n_good,
                  r->simulated_s, r->busy, r->busiest, r->idlest, r->n_prompt_tokens,
                  r->n_cached_tokens, r->n_answer_tokens, r->out_tok_s, r->goodput_per_s, r->digest);
    report_json_quantiles(f, "ttft_s", &r->ttft_s);
    report_json_quantiles(f, "itl_s", &r->itl_s);
    report_json_quantiles(f, "queue_s", &r->queue_s);
    json_or_null("joules", r->joules, f);
    json_or_null("joules_all_in", r->all_in_joules, f);
    json_or_null("usd", r->usd, f);
    (void)fprintf(f, "}");
}

void plan_print_json(const struct plan_report *r, const struct plan_variant *v, size_t n_variants,
                     const struct fleet_spec *fs, const struct fleet_report *fleet, FILE *f)
{
    bool first = true;

    json_inputs(r, f);
    (void)fprintf(f, ",\n \"points\": [");
    for (size_t i = 0; i < r->n; i++) {
        if (!r->all && !r->points[i].front && &r->points[i] != r->best)
            continue;
        (void)fprintf(f, "%s\n  ", first ? "" : ",");
        json_point(&r->points[i], &r->points[i] == r->best, f);
        first = false;
    }
    (void)fprintf(f, "]");
    if (n_variants)
        (void)fprintf(f, ",\n \"sensitivity\": [");
    for (size_t i = 0; i < n_variants; i++) {
        (void)fprintf(f, "%s\n  {", i ? "," : "");
        report_json_text(f, "change", v[i].name);
        (void)fprintf(f, ", \"best\": ");
        if (v[i].fits)
            json_point(&v[i].point, true, f);
        else
            (void)fprintf(f, "null");
        (void)fprintf(f, "}");
    }
    if (n_variants)
        (void)fprintf(f, "]");
    if (fleet)
        json_fleet(fs, fleet, f);
    (void)fprintf(f, "}\n");
}

/* ---- variants and the fleet ---- */

void plan_print_variants(const struct plan_variant *v, size_t n, FILE *f)
{
    (void)fprintf(f, "\n%-34s %9s %9s %9s %9s %10s %11s\n", "with", "tok/s", "tok/s", "J/token",
                  "USD per", "margin", "margin");
    (void)fprintf(f, "%-34s %9s %9s %9s %9s %10s %11s\n", "", "a user", "in all", "all-in", "M tokens",
                  "USD/h", "USD/h MW");
    for (size_t i = 0; i < n; i++) {
        const struct plan_point *p = &v[i].point;
        const bool priced = v[i].fits && p->usd_hour >= 0;

        (void)fprintf(f, "%-34s", v[i].name);
        put(f, 9, p->user_tok_s, v[i].fits);
        put(f, 9, p->out_tok_s, v[i].fits);
        put(f, 9, p->all_in_j, v[i].fits && p->all_in_w >= 0);
        put(f, 9, p->usd_out, priced);
        put(f, 10, p->margin_hour, priced && p->revenue_hour > 0);
        put(f, 11, p->margin_mw, priced && p->revenue_hour > 0 && p->all_in_w >= 0);
        (void)fprintf(f, "\n");
    }
}

void plan_print_fleet(const struct fleet_spec *s, const struct fleet_report *r, FILE *f)
{
    const double hits = r->n_prompt_tokens ? 100 * (double)r->n_cached_tokens /
                                                 (double)r->n_prompt_tokens : 0;
    char a[32], b[32];

    (void)fprintf(f, "\nfleet    %u servers; %" PRIu64 " requests, %" PRIu64 " refused for now, %" PRIu64
                  " too long, %" PRIu64 " within both goals; %.1f s, digest %016" PRIx64 "\n",
                  s->n_servers, r->n_requests, r->n_refused, r->n_never, r->n_good, r->simulated_s,
                  r->digest);
    (void)fprintf(f, "         busy %.1f %% of the time (from %.1f to %.1f); %.1f %% of the prompts' "
                  "tokens cached; %s tokens a second out, goodput %.3g requests a second\n",
                  100 * r->busy, 100 * r->idlest, 100 * r->busiest, hits,
                  figure(a, r->out_tok_s, true), r->goodput_per_s);
    if (r->all_in_joules >= 0 && r->n_answer_tokens)
        (void)fprintf(f, "         %s J for a token answered, all-in", figure(a, r->all_in_joules /
                      (double)r->n_answer_tokens, true));
    if (r->usd >= 0 && r->n_answer_tokens)
        (void)fprintf(f, "%s%s USD for a million of them", r->all_in_joules >= 0 ? "; " : "         ",
                      figure(b, 1e6 * r->usd / (double)r->n_answer_tokens, true));
    (void)fprintf(f, "\n\n");
    report_quantiles_heading(f);
    report_quantiles(f, "queue", &r->queue_s);
    report_quantiles(f, "first token", &r->ttft_s);
    report_quantiles(f, "between tokens", &r->itl_s);
}

/* ---- the picture ---- */

static int by_user(const void *a, const void *b)
{
    const struct plan_point *const *x = a, *const *y = b;

    return ((*x)->user_tok_s > (*y)->user_tok_s) - ((*x)->user_tok_s < (*y)->user_tok_s);
}

struct drawn {
    double x[PLAN_MAX_POINTS], y[PLAN_MAX_POINTS], fx[PLAN_MAX_POINTS], fy[PLAN_MAX_POINTS];
    char   hint[PLAN_MAX_POINTS][96], name[MAX_SPLITS][32];
    const char *hints[PLAN_MAX_POINTS];
    struct chart_series series[MAX_SPLITS + 2];
    size_t n_series;
    double bx, by;
};

/* A series for each split: points of one split follow each other. */
static void add_splits(struct drawn *d, const struct plan_report *r)
{
    for (size_t i = 0, from = 0; i < r->n; i++) {
        const struct plan_point *p = &r->points[i];

        d->x[i] = p->user_tok_s;
        d->y[i] = p->chip_tok_s;
        (void)snprintf(d->hint[i], sizeof d->hint[i], "batch %u: %.4g tok/s a user, %.4g a chip",
                       p->batch, p->user_tok_s, p->chip_tok_s);
        d->hints[i] = d->hint[i];
        if (i + 1 < r->n && r->points[i + 1].tp == p->tp && r->points[i + 1].pp == p->pp)
            continue;
        if (d->n_series < MAX_SPLITS) {
            char *name = d->name[d->n_series];

            (void)snprintf(name, sizeof d->name[0], "tp %u, pp %u", p->tp, p->pp);
            d->series[d->n_series] = (struct chart_series){
                .name = name, .kind = CHART_POINTS, .color = (unsigned)d->n_series % CHART_COLORS,
                .n = i + 1 - from, .x = d->x + from, .y = d->y + from, .hints = d->hints + from,
            };
            d->n_series++;
        }
        from = i + 1;
    }
}

static const double best_radius[] = { 7 };

static void add_front(struct drawn *d, const struct plan_report *r)
{
    const struct plan_point *front[PLAN_MAX_POINTS];
    size_t n = 0;

    for (size_t i = 0; i < r->n; i++)
        if (r->points[i].front)
            front[n++] = &r->points[i];
    qsort(front, n, sizeof *front, by_user);
    for (size_t i = 0; i < n; i++) {
        d->fx[i] = front[i]->user_tok_s;
        d->fy[i] = front[i]->chip_tok_s;
    }
    d->series[d->n_series++] = (struct chart_series){ .name = "not beaten", .kind = CHART_LINE,
                                                      .color = CHART_GREY, .n = n, .x = d->fx,
                                                      .y = d->fy };
    if (r->best) {
        d->bx = r->best->user_tok_s;
        d->by = r->best->chip_tok_s;
        d->series[d->n_series++] = (struct chart_series){ .name = "best", .kind = CHART_POINTS,
                                                          .color = (unsigned)d->n_series %
                                                                   CHART_COLORS,
                                                          .n = 1, .x = &d->bx, .y = &d->by,
                                                          .radius = best_radius };
    }
}

int plan_draw(const struct plan_report *r, const struct chart_terminal *t, struct str *out,
              struct err *e)
{
    struct drawn *d = mem_calloc(1, sizeof *d);
    char title[256], subtitle[256];
    int rc;

    if (!d)
        return err_set(e, WATT_ENOMEM, "plan: picture");
    add_splits(d, r);
    add_front(d, r);
    (void)snprintf(title, sizeof title, "%.64s on %u x %s", model_facts(r->spec->model)->name,
                   r->spec->n_chips, r->spec->chip->name);
    (void)snprintf(subtitle, sizeof subtitle, "planned: prompts of %.0f tokens (%.0f %% cached), answers "
                   "of %.0f", r->spec->load.prompt, 100 * r->spec->load.cached, r->spec->load.answer);
    {
        const struct chart c = {
            .title = title, .subtitle = subtitle, .series = d->series, .n_series = d->n_series,
            .x = { .title = "tokens a second of one answer", .log = true },
            .y = { .title = "tokens a second of a chip", .log = true },
        };

        rc = t ? chart_text(&c, t, out, e) : chart_svg(&c, out, e);
    }
    mem_free(d);
    return rc;
}
