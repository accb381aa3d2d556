/* chart_scale.h: axes of a chart: from values to places, ticks, numbers; for chart.c, which draws
 * SVG, and chart_text.c, which draws on terminals. */
#ifndef APPLICATIONS_CHART_SCALE_H
#define APPLICATIONS_CHART_SCALE_H

#include "applications/chart.h"

#define CHART_MAX_TICKS 40

struct chart_scale {
    bool   log;
    double min, max;            /* of the data; log: base 10 logarithms */
    double from, to;            /* places of min and max */
};

struct chart_ticks {
    double v[CHART_MAX_TICKS];
    bool   major[CHART_MAX_TICKS];      /* has a number */
    int    n;
};

/* Can the value stand on the axis at all. */
bool   chart_usable(const struct chart_axis *a, double v);
/* The x or y axis of a chart, between two places. WATT_EINVAL. */
int    chart_scale_init(struct chart_scale *s, const struct chart *c, bool is_x, double from,
                        double to, struct err *e) MUST_CHECK;
double chart_at(const struct chart_scale *s, double v);
struct chart_ticks chart_ticks_of(const struct chart_scale *s);
/* "1.5 GB/s"; unit NULL: plain. */
void   chart_number(char *buf, size_t size, double v, const char *unit);

#endif
