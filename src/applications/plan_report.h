/* plan_report.h: how a plan is shown: table, CSV, JSON, pictures. */
#ifndef APPLICATIONS_PLAN_REPORT_H
#define APPLICATIONS_PLAN_REPORT_H

#include <stdio.h>

#include "applications/chart.h"
#include "applications/plan.h"
#include "applications/plan_fleet.h"

struct plan_report {
    const struct plan_spec *spec;
    const struct plan_point *points;        /* [n] */
    size_t n;
    const struct plan_point *best;          /* one of them, or NULL */
    double want_user_tok_s, want_ttft_s;    /* what best was asked for */
    bool all;                               /* points behind the front, too */
};

/* One change of the inputs and the best point with it. */
struct plan_variant {
    char name[64];
    bool fits;
    struct plan_point point;
};

void plan_print_table(const struct plan_report *r, FILE *f);
void plan_print_csv(const struct plan_report *r, FILE *f);
/* variants and fleet may be NULL. */
void plan_print_json(const struct plan_report *r, const struct plan_variant *v, size_t n_variants,
                     const struct fleet_spec *fs, const struct fleet_report *fleet, FILE *f);
void plan_print_variants(const struct plan_variant *v, size_t n, FILE *f);
void plan_print_fleet(const struct fleet_spec *s, const struct fleet_report *r, FILE *f);

/* Tokens a second of one answer against tokens a second of a chip: every point, and the front as a
 * line; as SVG, or in characters when t is given. */
int plan_draw(const struct plan_report *r, const struct chart_terminal *t, struct str *out,
              struct err *e) MUST_CHECK;

#endif
