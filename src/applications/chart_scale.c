/* chart_scale.c: axes of charts; see chart_scale.h. */
#include "applications/chart_scale.h"

#include <math.h>
#include <stdio.h>

bool chart_usable(const struct chart_axis *a, double v)
{
    return isfinite(v) && (!a->log || v > 0);
}

double chart_at(const struct chart_scale *s, double v)
{
    const double u = s->log ? log10(v) : v;

    return s->from + (u - s->min) / (s->max - s->min) * (s->to - s->from);
}

/* 1, 2 or 5 times a power of ten, at least v. */
static double nice(double v)
{
    const double p = pow(10, floor(log10(v)));
    const double m = v / p;

    return (m <= 1 + 1e-9 ? 1 : m <= 2 + 1e-9 ? 2 : m <= 5 + 1e-9 ? 5 : 10) * p;
}

static void widen(double *lo, double *hi, double v)
{
    *lo = fmin(*lo, v);
    *hi = fmax(*hi, v);
}

/* Smallest and largest usable value of an axis over all series; false: there is none. */
static bool extent_of(const struct chart *c, bool is_x, double *lo, double *hi)
{
    *lo = INFINITY;
    *hi = -INFINITY;
    for (size_t i = 0; i < c->n_series; i++)
        for (size_t k = 0; k < c->series[i].n; k++)
            if (chart_usable(&c->x, c->series[i].x[k]) && chart_usable(&c->y, c->series[i].y[k]))
                widen(lo, hi, is_x ? c->series[i].x[k] : c->series[i].y[k]);
    return *lo <= *hi;
}

static double tick_step(double lo, double hi)
{
    return nice((hi - lo) / 8);
}

int chart_scale_init(struct chart_scale *s, const struct chart *c, bool is_x, double from, double to,
                      struct err *e)
{
    const struct chart_axis *a = is_x ? &c->x : &c->y;
    double lo = a->min, hi = a->max;

    if (lo == 0 && hi == 0) {
        if (!extent_of(c, is_x, &lo, &hi))
            return err_set(e, WATT_EINVAL, "chart: no point that can be drawn");
        if (a->log) {
            lo *= 0.8;
            hi *= 1.25;
        } else {
            double pad, step;

            if (a->zero) {
                lo = fmin(lo, 0);
                hi = fmax(hi, 0);
            }
            pad = hi > lo ? 0 : fabs(lo) > 0 ? fabs(lo) / 2 : 1;

            lo -= pad;
            hi += pad;
            if (lo > 0 && lo < hi / 2)      /* axes that can start at nothing do */
                lo = 0;
            step = tick_step(lo, hi);
            lo = floor(lo / step + 1e-9) * step;
            hi = ceil(hi / step - 1e-9) * step;
        }
    }
    if (!chart_usable(a, lo) || !chart_usable(a, hi) || !(lo < hi) || !isfinite(hi - lo))
        return err_set(e, WATT_EINVAL, "chart: an axis from %g to %g", lo, hi);
    *s = (struct chart_scale){ a->log, a->log ? log10(lo) : lo, a->log ? log10(hi) : hi, from, to };
    return 0;
}

static void add_tick(struct chart_ticks *t, const struct chart_scale *s, double v, bool major)
{
    const double u = s->log ? log10(v) : v;
    const double slack = 1e-9 * (s->max - s->min);

    if (t->n < CHART_MAX_TICKS && u >= s->min - slack && u <= s->max + slack) {
        t->v[t->n] = v;
        t->major[t->n++] = major;
    }
}

struct chart_ticks chart_ticks_of(const struct chart_scale *s)
{
    struct chart_ticks t = { .n = 0 };

    if (s->log) {
        const double decades = s->max - s->min;
        const int every = decades > 14 ? (int)(decades / 8) : 1;

        for (int d = (int)floor(s->min); d <= (int)ceil(s->max); d++) {
            const double p = pow(10, d);

            if (d % every == 0)
                add_tick(&t, s, p, true);
            if (decades < 7 && every == 1) {
                add_tick(&t, s, 2 * p, decades < 3.5);
                add_tick(&t, s, 5 * p, decades < 3.5);
            }
        }
    } else {
        const double step = tick_step(s->min, s->max);

        for (int i = 0; i < CHART_MAX_TICKS; i++)
            add_tick(&t, s, (floor(s->min / step + 1e-9) + i) * step, true);
    }
    return t;
}

/* 2500000 as "2.5 M" and the unit. */
void chart_number(char *buf, size_t size, double v, const char *unit)
{
    static const char *const prefix[] = { "p", "n", "µ", "m", "", "k", "M", "G", "T", "P", "E" };
    int p = 4;

    if (fabs(v) < 1e-300)
        v = 0;
    if (unit)
        for (; v != 0 && fabs(v) < 0.9999995 && p > 0; p--)
            v *= 1e3;
    for (; fabs(v) >= 999.9995 && p < 10; p++)
        v /= 1e3;
    (void)snprintf(buf, size, unit || p != 4 ? "%.6g %s%s" : "%.6g", v, prefix[p],
                   unit ? unit : "");
}

/* ---- pieces of SVG ---- */
