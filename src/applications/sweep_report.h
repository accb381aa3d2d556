/* sweep_report.h: how a sweep is shown. A figure that nothing measured is "-" in tables, empty in
 * CSV and null in JSON. */
#ifndef APPLICATIONS_SWEEP_REPORT_H
#define APPLICATIONS_SWEEP_REPORT_H

#include <stdio.h>

#include "applications/chart.h"
#include "applications/sweep.h"

struct sweep_report {
    const char *title;          /* the model, or the server */
    const char *load;           /* "prompts of 80 tokens, answers of 64" */
    bool   by_rate;             /* values are rates of a trace, else clients */
    const char *source;         /* of the joules: meter_source() */
    const char *why;            /* there are none */
    const struct sweep_point *points;
    size_t n;
};

void sweep_print_table(const struct sweep_report *r, FILE *f);
void sweep_print_csv(const struct sweep_report *r, FILE *f);
void sweep_print_json(const struct sweep_report *r, FILE *f);
/* Tokens a second of one answer against tokens a second of all, or, by_watt, those a watt. SVG, or
 * in characters with t. WATT_EINVAL: nothing to draw. */
int  sweep_draw(const struct sweep_report *r, bool by_watt, const struct chart_terminal *t,
                struct str *out, struct err *e) MUST_CHECK;

#endif
