/* roofline_chart.c: the roofline picture of measured tables; see roofline_table.h. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "applications/chart.h"
#include "applications/roofline_table.h"
#include "base/mem.h"

enum { N_ROOFS = 3, MAX_PLOTS = 16, MIN_SHARE_PERCENT = 1, TEXT_BYTES = 256 };

/* One series of points and the memory of its texts. */
struct plotted {
    double *x, *y, *radius;
    char  (*label)[TEXT_BYTES], (*hint)[TEXT_BYTES];
    const char **labels, **hints;
    size_t  n;
};

static void plotted_deinit(struct plotted *p)
{
    mem_free(p->x);
    mem_free(p->y);
    mem_free(p->radius);
    mem_free(p->label);
    mem_free(p->hint);
    mem_free(p->labels);
    mem_free(p->hints);
}

static bool plotted_init(struct plotted *p, size_t n)
{
    *p = (struct plotted){
        .x = mem_array(n, sizeof *p->x), .y = mem_array(n, sizeof *p->y),
        .radius = mem_array(n, sizeof *p->radius), .label = mem_array(n, sizeof *p->label),
        .hint = mem_array(n, sizeof *p->hint), .labels = mem_array(n, sizeof *p->labels),
        .hints = mem_array(n, sizeof *p->hints),
    };
    return p->x && p->y && p->radius && p->label && p->hint && p->labels && p->hints;
}

/* Row-wise passes work out of the caches: their bytes are not the memory's. */
static bool belongs(const struct roofline_row *r, double step_s)
{
    return strcmp(r->kind, "rows") != 0 && strcmp(r->kind, "sort") != 0 && r->ops > 0 &&
           r->bytes > 0 && r->seconds > 0.01 * MIN_SHARE_PERCENT * step_s;
}

static void collect(struct plotted *p, const struct roofline_table *t)
{
    for (uint32_t i = 0; i < t->n_rows; i++) {
        const struct roofline_row *r = &t->rows[i];
        const size_t k = p->n;

        if (!belongs(r, t->seconds))
            continue;
        p->x[k] = r->ops / r->bytes;
        p->y[k] = r->ops / r->seconds;
        p->radius[k] = 3 + 12 * sqrt(r->seconds / t->seconds);
        (void)snprintf(p->label[k], TEXT_BYTES, "%.60s", r->name);
        (void)snprintf(p->hint[k], TEXT_BYTES, "%.120s: %.3g ms, %.1f %% of the step, %.0f %% of "
                       "its limit (%s)", r->name, 1e3 * r->seconds,
                       100 * r->seconds / t->seconds, 100 * r->limit_s / r->seconds,
                       roofline_peak_name(r->limit));
        p->labels[k] = p->label[k];
        p->hints[k] = p->hint[k];
        p->n++;
    }
}

/* The memory slope up to the highest ceiling, and each ceiling from where it is reached. */
struct roofs {
    double slope_x[2], slope_y[2], x[N_ROOFS][2], y[N_ROOFS][2];
    char   slope_note[64], note[N_ROOFS][64];
    size_t n;
};

static void ceiling(struct roofs *r, const char *name, double ops_s, double read_s, double x_max)
{
    if (!(ops_s > 0))
        return;
    r->x[r->n][0] = ops_s / read_s;
    r->x[r->n][1] = fmax(x_max, 2 * ops_s / read_s);
    r->y[r->n][0] = r->y[r->n][1] = ops_s;
    (void)snprintf(r->note[r->n], sizeof r->note[0], "%s %.3g %sop/s", name,
                   ops_s >= 1e12 ? ops_s / 1e12 : ops_s / 1e9, ops_s >= 1e12 ? "T" : "G");
    r->n++;
}

static void roofs_init(struct roofs *r, const struct peaks *k, double x_min, double x_max)
{
    double top = fmax(k->f32_ops_s, fmax(k->int8_ops_s, k->bf16_ops_s));

    r->n = 0;
    ceiling(r, "int8", k->int8_ops_s, k->read_bytes_s, x_max);
    ceiling(r, "BF16", k->bf16_ops_s, k->read_bytes_s, x_max);
    ceiling(r, "F32", k->f32_ops_s, k->read_bytes_s, x_max);
    r->slope_x[0] = x_min;
    r->slope_y[0] = x_min * k->read_bytes_s;
    r->slope_x[1] = top / k->read_bytes_s;
    r->slope_y[1] = top;
    (void)snprintf(r->slope_note, sizeof r->slope_note, "memory %.1f GB/s", k->read_bytes_s / 1e9);
}

static size_t roof_series(struct chart_series *s, const struct roofs *r)
{
    size_t n = 0;

    s[n++] = (struct chart_series){ .kind = CHART_LINE, .color = CHART_GREY, .n = 2,
                                    .x = r->slope_x, .y = r->slope_y, .note = r->slope_note };
    for (size_t i = 0; i < r->n; i++)
        s[n++] = (struct chart_series){ .kind = i ? CHART_DASHED : CHART_LINE, .color = CHART_GREY,
                                        .n = 2, .x = r->x[i], .y = r->y[i], .note = r->note[i] };
    return n;
}

int roofline_chart(const struct roofline_plot *plots, uint32_t n_plots, const struct peaks *k,
                   const char *title, const char *subtitle, struct str *out, struct err *e)
{
    struct plotted p[MAX_PLOTS] = { { 0 } };
    struct chart_series s[MAX_PLOTS + N_ROOFS + 1];
    struct roofs roofs;
    double x_min = 1, x_max = 100;
    size_t n;
    int rc = 0;

    if (!(k->read_bytes_s > 0))
        return err_set(e, WATT_EINVAL, "roofline: the machine's peaks were not measured");
    if (n_plots > MAX_PLOTS)
        n_plots = MAX_PLOTS;
    for (uint32_t i = 0; rc == 0 && i < n_plots; i++) {
        if (!plotted_init(&p[i], plots[i].table->n_rows)) {
            rc = err_set(e, WATT_ENOMEM, "roofline: points of %s", plots[i].name);
            break;
        }
        collect(&p[i], plots[i].table);
        for (size_t j = 0; j < p[i].n; j++) {
            x_min = fmin(x_min, p[i].x[j] / 2);
            x_max = fmax(x_max, p[i].x[j] * 3);
        }
    }
    if (rc == 0) {
        struct chart c = { .title = title, .subtitle = subtitle,
                           .x = { "operations per byte of weights, cache and state", NULL, true,
                                  0, 0 },
                           .y = { "operations per second", "", true, 0, 0 },
                           .series = s, .width = 1000, .height = 640 };

        roofs_init(&roofs, k, x_min, x_max);
        n = roof_series(s, &roofs);
        for (uint32_t i = 0; i < n_plots; i++)
            s[n++] = (struct chart_series){ .name = plots[i].name, .kind = CHART_POINTS,
                                            .color = i % CHART_COLORS, .n = p[i].n, .x = p[i].x,
                                            .y = p[i].y, .radius = p[i].radius,
                                            .labels = p[i].labels, .hints = p[i].hints };
        c.n_series = n;
        rc = chart_svg(&c, out, e);
    }
    for (uint32_t i = 0; i < n_plots; i++)
        plotted_deinit(&p[i]);
    return rc;
}
