/* sweep_report.c: see sweep_report.h. */
#include "applications/sweep_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "applications/report.h"

/* ---- tables ---- */

static void put(FILE *f, int width, int digits, double v)
{
    if (v < 0)
        (void)fprintf(f, " %*s", width, "-");
    else
        (void)fprintf(f, " %*.*f", width, digits, v);
}

void sweep_print_table(const struct sweep_report *r, FILE *f)
{
    (void)fprintf(f, "%s: %s\n\n", r->title, r->load);
    (void)fprintf(f, "  %7s %8s %6s %8s %8s %8s %8s %7s %7s %7s %7s %8s %8s\n",
                  r->by_rate ? "rate" : "clients", "requests", "failed", "tok/s", "tok/s", "TTFT s", "TTFT s",
                  "ITL ms", "ITL ms", "ITL ms", "watts", "J/token", "tok/s/W");
    (void)fprintf(f, "  %7s %8s %6s %8s %8s %8s %8s %7s %7s %7s %7s %8s %8s\n", "", "", "", "a user",
                  "in all", "p50", "p99", "p50", "p90", "p99", "", "", "");
    for (size_t i = 0; i < r->n; i++) {
        const struct sweep_point *p = &r->points[i];

        (void)fprintf(f, "%c %7g %8u %6u", p->front ? '*' : ' ', p->value, p->n_requests,
                      p->n_failed + p->n_refused);
        put(f, 8, 2, p->user_tok_s);
        put(f, 8, 1, p->out_tok_s);
        put(f, 8, 3, p->ttft_s.p50);
        put(f, 8, 3, p->ttft_s.p99);
        put(f, 7, 1, 1000 * p->itl_s.p50);
        put(f, 7, 1, 1000 * p->itl_s.p90);
        put(f, 7, 1, 1000 * p->itl_s.p99);
        put(f, 7, 1, p->watts);
        put(f, 8, 3, p->joules_token);
        put(f, 8, 3, p->tok_s_watt);
        (void)fprintf(f, "\n");
    }
    (void)fprintf(f, "\n* not beaten in both tok/s\n");
    if (r->why && *r->why)
        (void)fprintf(f, "joules are not known: %s\n", r->why);
    else if (r->source)
        (void)fprintf(f, "joules by %s, idle ones too\n", r->source);
    for (size_t i = 0; i < r->n; i++)
        if (r->points[i].failure[0])
            (void)fprintf(f, "at %g: %u failed, %u asked to come back later; the first: %s\n",
                          r->points[i].value, r->points[i].n_failed, r->points[i].n_refused,
                          r->points[i].failure);
}

/* ---- for machines ---- */

static const struct field { const char *name; size_t offset; } fields[] = {
    { "seconds", offsetof(struct sweep_point, seconds) },
    { "tokens_per_s_user", offsetof(struct sweep_point, user_tok_s) },
    { "output_tokens_per_s", offsetof(struct sweep_point, out_tok_s) },
    { "input_tokens_per_s", offsetof(struct sweep_point, in_tok_s) },
    { "requests_per_s", offsetof(struct sweep_point, requests_s) },
    { "cached_share", offsetof(struct sweep_point, cached_share) },
    { "ttft_s_p50", offsetof(struct sweep_point, ttft_s.p50) },
    { "ttft_s_p90", offsetof(struct sweep_point, ttft_s.p90) },
    { "ttft_s_p99", offsetof(struct sweep_point, ttft_s.p99) },
    { "itl_s_p50", offsetof(struct sweep_point, itl_s.p50) },
    { "itl_s_p90", offsetof(struct sweep_point, itl_s.p90) },
    { "itl_s_p99", offsetof(struct sweep_point, itl_s.p99) },
    { "itl_s_mean", offsetof(struct sweep_point, itl_s.mean) },
    { "itl_s_max", offsetof(struct sweep_point, itl_s.max) },
    { "watts", offsetof(struct sweep_point, watts) },
    { "joules_per_output_token", offsetof(struct sweep_point, joules_token) },
    { "output_tokens_per_s_per_watt", offsetof(struct sweep_point, tok_s_watt) },
};
enum { N_FIELDS = sizeof fields / sizeof *fields };

static double value_of(const struct sweep_point *p, const struct field *f)
{
    return *(const double *)(const void *)((const char *)p + f->offset);
}

void sweep_print_csv(const struct sweep_report *r, FILE *f)
{
    (void)fprintf(f, "%s,requests,failed,refused,front", r->by_rate ? "rate" : "clients");
    for (int i = 0; i < N_FIELDS; i++)
        (void)fprintf(f, ",%s", fields[i].name);
    (void)fprintf(f, ",energy_source\n");
    for (size_t k = 0; k < r->n; k++) {
        const struct sweep_point *p = &r->points[k];

        (void)fprintf(f, "%g,%u,%u,%u,%d", p->value, p->n_requests, p->n_failed, p->n_refused,
                      p->front);
        for (int i = 0; i < N_FIELDS; i++) {
            if (value_of(p, &fields[i]) < 0)
                (void)fprintf(f, ",");
            else
                (void)fprintf(f, ",%.6g", value_of(p, &fields[i]));
        }
        (void)fprintf(f, ",%s\n", r->source ? r->source : "none");
    }
}

void sweep_print_json(const struct sweep_report *r, FILE *f)
{
    (void)fprintf(f, "{");
    report_json_text(f, "target", r->title);
    (void)fprintf(f, ", ");
    report_json_text(f, "load", r->load);
    (void)fprintf(f, ", ");
    report_json_text(f, "energy_source", r->source ? r->source : "none");
    if (r->why && *r->why) {
        (void)fprintf(f, ", ");
        report_json_text(f, "energy_reason", r->why);
    }
    (void)fprintf(f, ", \"points\": [");
    for (size_t k = 0; k < r->n; k++) {
        const struct sweep_point *p = &r->points[k];

        (void)fprintf(f, "%s\n  {\"%s\": %g, \"requests\": %u, \"failed\": %u, \"refused\": %u, "
                      "\"front\": %s", k ? "," : "", r->by_rate ? "rate" : "clients", p->value,
                      p->n_requests, p->n_failed, p->n_refused, p->front ? "true" : "false");
        for (int i = 0; i < N_FIELDS; i++) {
            if (value_of(p, &fields[i]) < 0)
                (void)fprintf(f, ", \"%s\": null", fields[i].name);
            else
                (void)fprintf(f, ", \"%s\": %.6g", fields[i].name, value_of(p, &fields[i]));
        }
        if (p->failure[0]) {
            (void)fprintf(f, ", ");
            report_json_text(f, "first_failure", p->failure);
        }
        (void)fprintf(f, "}");
    }
    (void)fprintf(f, "\n]}\n");
}

/* ---- the picture ---- */

struct drawn {
    double x[SWEEP_MAX_POINTS], y[SWEEP_MAX_POINTS], fx[SWEEP_MAX_POINTS], fy[SWEEP_MAX_POINTS];
    char   label[SWEEP_MAX_POINTS][24], hint[SWEEP_MAX_POINTS][128];
    const char *labels[SWEEP_MAX_POINTS], *hints[SWEEP_MAX_POINTS];
    size_t n_front;
};

static void fill(struct drawn *d, const struct sweep_report *r, bool by_watt)
{
    for (size_t i = 0; i < r->n; i++) {
        const struct sweep_point *p = &r->points[i];

        d->x[i] = p->user_tok_s;
        d->y[i] = by_watt ? p->tok_s_watt : p->out_tok_s;
        if (d->y[i] == SWEEP_UNKNOWN)
            d->y[i] = NAN;              /* is left out */
        (void)snprintf(d->label[i], sizeof d->label[i], "%g", p->value);
        (void)snprintf(d->hint[i], sizeof d->hint[i], "%s %g: TTFT %.3f s, ITL %.1f ms (99th of 100: %.1f)",
                       r->by_rate ? "rate" : "clients", p->value, p->ttft_s.p50, 1000 * p->itl_s.p50,
                       1000 * p->itl_s.p99);
        d->labels[i] = d->label[i];
        d->hints[i] = d->hint[i];
        if (!p->front || isnan(d->y[i]))
            continue;
        size_t at = d->n_front++;       /* by x, as a line needs them */

        for (; at > 0 && d->fx[at - 1] > d->x[i]; at--) {
            d->fx[at] = d->fx[at - 1];
            d->fy[at] = d->fy[at - 1];
        }
        d->fx[at] = d->x[i];
        d->fy[at] = d->y[i];
    }
}

int sweep_draw(const struct sweep_report *r, bool by_watt, const struct chart_terminal *t,
               struct str *out, struct err *e)
{
    struct drawn d = { 0 };
    const struct chart_series series[] = {
        { .name = "not beaten", .kind = CHART_LINE, .color = CHART_GREY, .n = 0, .x = d.fx, .y = d.fy },
        { .name = r->by_rate ? "rate of arrivals" : "clients", .kind = CHART_POINTS, .n = r->n, .x = d.x,
          .y = d.y, .labels = d.labels, .hints = d.hints },
    };
    struct chart_series both[2];
    char per_watt[96];
    struct chart c = {
        .title = r->title, .subtitle = r->load, .series = both, .n_series = 2,
        .x = { .title = "tokens a second of one answer" },
        .y = { .title = by_watt ? per_watt : "tokens a second of all answers" },
    };

    if (r->source && strcmp(r->source, "estimate") == 0)
        (void)snprintf(per_watt, sizeof per_watt, "tokens a second a watt (watts are an estimate)");
    else
        (void)snprintf(per_watt, sizeof per_watt, "tokens a second a watt (by %.60s)",
                       r->source ? r->source : "none");
    fill(&d, r, by_watt);
    memcpy(both, series, sizeof both);
    both[0].n = d.n_front;
    return t ? chart_text(&c, t, out, e) : chart_svg(&c, out, e);
}
