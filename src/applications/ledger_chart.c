/* ledger_chart.c: which lines, and their points; see ledger_chart.h. */
#include "applications/ledger_chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "applications/chart.h"
#include "applications/ledger_figures.h"
#include "base/mem.h"

#define MAX_LINES  8u           /* the rest is one more */
#define NAME_BYTES 208

/* By enum ledger_chart_of. unit NULL: the report's currency. */
static const struct { const char *title, *unit; } axes[] = {
    { "Energy", "J" }, { "Tokens", "" }, { "Requests", "" }, { "Energy per computed token", "J" },
    { "Cost", NULL }, { "Revenue", NULL }, { "Margin", NULL }, { "Carbon", "g" },
};

static double value_of(const struct ledger_sum *x, enum ledger_chart_of of)
{
    switch (of) {
    case LEDGER_CHART_ENERGY:
        return x->n_measured || x->idle_uj ? ledger_joules(x) + (double)x->idle_uj * 1e-6 : NAN;
    case LEDGER_CHART_TOKENS:
        return (double)ledger_tokens(x);
    case LEDGER_CHART_REQUESTS:
        return (double)x->n;
    case LEDGER_CHART_PER_TOKEN:
        return ledger_per_token(x);
    case LEDGER_CHART_COST:
        return x->n_costed || x->idle_cost_nano ? ledger_cost(x) : NAN;
    case LEDGER_CHART_REVENUE:
        return x->n_priced ? ledger_revenue(x) : NAN;
    case LEDGER_CHART_MARGIN:
        return x->n_priced && x->n_costed ? ledger_revenue(x) - ledger_cost(x) : NAN;
    case LEDGER_CHART_CARBON:
        return x->n_measured ? (double)(x->carbon_ug + x->idle_carbon_ug) * 1e-6 : NAN;
    }
    return NAN;
}

static void name_of(const struct ledger_sum *x, unsigned by, char out[NAME_BYTES])
{
    const bool key = by & LEDGER_BY_KEY, model = by & LEDGER_BY_MODEL, source = by & LEDGER_BY_SOURCE;

    if (ledger_is_idle(x)) {
        (void)snprintf(out, NAME_BYTES, ledger_is_estimate(x) ? "idle (estimate)" : "idle");
        return;
    }
    (void)snprintf(out, NAME_BYTES, "%s%s%s%s%s", key ? (x->key[0] ? x->key : "no key") : "",
                   key && model ? " / " : "", model ? x->model : "",
                   source && (key || model) ? " / " : "",
                   source ? x->source : ledger_is_estimate(x) ? " (estimate)" : "");
    if (!out[0])
        (void)snprintf(out, NAME_BYTES, "all");
}

/* ---- lines ---- */

struct line { char name[NAME_BYTES]; double weight; };

struct plot {
    const struct ledger_sum *groups;
    unsigned by;
    enum ledger_chart_of of;
    struct line *lines;             /* [n_lines], the largest first; at most MAX_LINES are drawn */
    size_t   n_lines;
    struct chart_series series[MAX_LINES + 1];
    double  *x, *y;                 /* [MAX_LINES + 1][n_times] */
    size_t   n_times;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct line *)a)->name, ((const struct line *)b)->name);
}

static int by_weight(const void *a_, const void *b_)
{
    const struct line *a = a_, *b = b_;

    if (a->weight != b->weight)
        return a->weight > b->weight ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* What makes a line one of the large ones. */
static double weight_of(const struct ledger_sum *x, enum ledger_chart_of of)
{
    const double v = of == LEDGER_CHART_PER_TOKEN ? (double)ledger_tokens(x) : value_of(x, of);

    return isnan(v) ? 0 : fabs(v);
}

static int find_lines(struct plot *p, size_t n, struct err *e)
{
    size_t k = 0;

    p->lines = mem_array(n ? n : 1, sizeof *p->lines);
    if (!p->lines)
        return err_set(e, WATT_ENOMEM, "chart: %zu groups", n);
    for (size_t i = 0; i < n; i++) {
        name_of(&p->groups[i], p->by, p->lines[i].name);
        p->lines[i].weight = weight_of(&p->groups[i], p->of);
    }
    if (n > 1)
        qsort(p->lines, n, sizeof *p->lines, by_name);
    for (size_t i = 0; i < n; i++)
        if (k > 0 && strcmp(p->lines[k - 1].name, p->lines[i].name) == 0)
            p->lines[k - 1].weight += p->lines[i].weight;
        else
            p->lines[k++] = p->lines[i];
    if (k > 1)
        qsort(p->lines, k, sizeof *p->lines, by_weight);
    p->n_lines = k;
    return 0;
}

static size_t line_of(const struct plot *p, const struct ledger_sum *x)
{
    char name[NAME_BYTES];

    name_of(x, p->by, name);
    for (size_t i = 0; i < MAX_LINES && i < p->n_lines; i++)
        if (strcmp(p->lines[i].name, name) == 0)
            return i;
    return MAX_LINES;
}

/* ---- points ---- */

/* Hours, days or months since 1970. */
static int64_t step_of(int64_t s, unsigned by)
{
    const time_t t = (time_t)s;
    struct tm tm = { 0 };

    if (by & LEDGER_BY_HOUR)
        return s / 3600;
    if (by & LEDGER_BY_DAY)
        return s / 86400;
    (void)gmtime_r(&t, &tm);
    return (int64_t)tm.tm_year * 12 + tm.tm_mon;
}

static void add_points(struct plot *p, const struct ledger_sum *cell, double x)
{
    for (size_t i = 0; i <= MAX_LINES; i++) {
        struct chart_series *s = &p->series[i];
        const bool none = cell[i].n == 0 && cell[i].idle_uj == 0;
        const double v = none && p->of != LEDGER_CHART_PER_TOKEN ? 0 : value_of(&cell[i], p->of);

        if (isnan(v) || (i >= p->n_lines && i < MAX_LINES))
            continue;
        p->x[i * p->n_times + s->n] = x;
        p->y[i * p->n_times + s->n] = v;
        s->n++;
    }
}

static int fill(struct plot *p, size_t n, struct err *e)
{
    const int64_t first = step_of(p->groups[0].from_s, p->by);
    size_t at = 0;

    for (size_t t = 0; t < p->n_times; t++) {
        struct ledger_sum cell[MAX_LINES + 1] = { 0 };

        for (; at < n && step_of(p->groups[at].from_s, p->by) - first == (int64_t)t; at++) {
            const struct ledger_sum *x = &p->groups[at];

            if (!ledger_sum_add(&cell[line_of(p, x)], x))
                return err_set(e, WATT_EFORMAT, "chart: sums over 63 bits");
        }
        add_points(p, cell, (double)t);
    }
    return 0;
}

static int check(const struct plot *p, size_t n, struct err *e)
{
    for (size_t i = 0; i < n && !axes[p->of].unit; i++)
        if (strcmp(p->groups[i].currency, p->groups[n - 1].currency) != 0)
            return err_set(e, WATT_EINVAL, "the report has several currencies: one chart can't show "
                           "them");
    return 0;
}

static int measure(struct plot *p, size_t n, struct err *e)
{
    const int64_t steps = n ? step_of(p->groups[n - 1].from_s, p->by) -
                              step_of(p->groups[0].from_s, p->by) + 1 : 0;

    if (steps <= 0)
        return err_set(e, WATT_EINVAL, "chart: the ledger has nothing of that time");
    if (steps > (int64_t)CHART_MAX_POINTS)
        return err_set(e, WATT_ELIMIT, "chart: over %u points: take days or months, or --from and --to",
                       CHART_MAX_POINTS);
    p->n_times = (size_t)steps;
    p->x = mem_calloc((MAX_LINES + 1) * p->n_times, sizeof *p->x);
    p->y = mem_calloc((MAX_LINES + 1) * p->n_times, sizeof *p->y);
    return p->x && p->y ? 0 : err_set(e, WATT_ENOMEM, "chart: %zu points", p->n_times);
}

static size_t name_series(struct plot *p)
{
    size_t n = 0;

    for (size_t i = 0; i <= MAX_LINES; i++) {
        struct chart_series s = p->series[i];

        if (s.n == 0 || (i == MAX_LINES && p->n_lines <= MAX_LINES))
            continue;
        s.name = i == MAX_LINES ? "others" : p->lines[i].name;
        s.kind = s.n == 1 ? CHART_POINTS : CHART_LINE;      /* a line of one point is none */
        s.color = i < CHART_COLORS ? (unsigned)i : CHART_GREY;
        s.x = p->x + i * p->n_times;
        s.y = p->y + i * p->n_times;
        p->series[n++] = s;
    }
    return n;
}

static int draw(struct plot *p, size_t n, struct str *out, struct err *e)
{
    const char *currency = p->groups[n - 1].currency, *title = axes[p->of].title;
    const char *per = p->by & LEDGER_BY_HOUR ? "hour" : p->by & LEDGER_BY_DAY ? "day" : "month";
    char x_title[80], y_title[80], first[24];
    struct chart c = { .title = title, .series = p->series, .n_series = name_series(p) };

    ledger_time_text(p->groups[0].from_s, p->by, first);
    (void)snprintf(x_title, sizeof x_title, "%ss since %s (UTC)", per, first);
    if (p->of == LEDGER_CHART_PER_TOKEN)
        (void)snprintf(y_title, sizeof y_title, "Joules per computed token");
    else
        (void)snprintf(y_title, sizeof y_title, "%s%s%s per %s", title, axes[p->of].unit ? "" : ", ",
                       axes[p->of].unit ? "" : currency, per);
    c.x = (struct chart_axis){ .title = x_title, .max = p->n_times == 1 ? 1 : 0 };
    c.y = (struct chart_axis){ .title = y_title, .unit = axes[p->of].unit, .zero = true };
    return chart_svg(&c, out, e);
}

int ledger_chart(struct str *out, const struct ledger_sum *groups, size_t n, unsigned by,
                 enum ledger_chart_of of, struct err *e)
{
    struct plot *p = mem_calloc(1, sizeof *p);
    int rc;

    if (!p)
        return err_set(e, WATT_ENOMEM, "chart");
    p->groups = groups;
    p->by = by;
    p->of = of;
    rc = check(p, n, e);
    if (rc == 0)
        rc = measure(p, n, e);
    if (rc == 0)
        rc = find_lines(p, n, e);
    if (rc == 0)
        rc = fill(p, n, e);
    if (rc == 0)
        rc = draw(p, n, out, e);
    mem_free(p->lines);
    mem_free(p->x);
    mem_free(p->y);
    mem_free(p);
    return rc;
}
