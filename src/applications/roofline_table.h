/* roofline_table.h: where the time of measured steps went: a row per piece of the program that
 * is timed by itself (an instruction, or several that share a pass), beside what its bytes and
 * operations would take at the machine's peaks. `watt bench --roofline` prints it. */
#ifndef APPLICATIONS_ROOFLINE_TABLE_H
#define APPLICATIONS_ROOFLINE_TABLE_H

#include <stdio.h>

#include "applications/roofline.h"
#include "base/str.h"

/* All figures are per step. */
struct roofline_row {
    char    *name;          /* "attn_q + attn_k + attn_v Q4_0", "add, norm, prepare" */
    const char *kind;       /* "rows", "products", …: of struct profile_phase */
    uint32_t layer;         /* UINT32_MAX: of several layers, or outside layers */
    uint32_t n;             /* phases of the step that the row sums up */
    double   seconds;
    double   wait;          /* share of the workers' time spent waiting for the last one */
    double   ops, bytes;    /* bytes: weights and cache or state, read or written */
    double   act_bytes;     /* values read and written, which mostly stay in caches */
    double   limit_s;       /* the larger of bytes at the read bandwidth and operations at their
                             * peaks; 0 where neither counts */
    enum roofline_peak limit;   /* which of the peaks that is */
};

struct roofline_table {
    struct roofline_row *rows;      /* in the order of the step */
    uint32_t n_rows;
    uint32_t n_steps;
    double   seconds;       /* of a step, everything included */
    double   outside_s;     /* of that, before, between and after the phases */
};

/* profile: n_steps steps that together took `seconds`; cost[prog_n_instr] of all of them. Phases
 * that do the same in different layers make one row, unless by_layer. On failure *t is zeroed:
 * WATT_ENOMEM. */
int  roofline_table_init(struct roofline_table *t, const struct program *p,
                         const struct profile *profile, const struct prog_cost *cost,
                         const struct peaks *peaks, double seconds, bool by_layer,
                         struct err *e) MUST_CHECK;
void roofline_table_deinit(struct roofline_table *t);   /* a zeroed one is fine */

void roofline_table_print(const struct roofline_table *t, FILE *f);
void roofline_table_csv(const struct roofline_table *t, const char *test, FILE *f);
extern const char roofline_table_csv_head[];    /* a line, with its newline */
/* An array of objects. */
void roofline_table_json(const struct roofline_table *t, FILE *f);

/* One measured table on a chart. */
struct roofline_plot { const char *name; const struct roofline_table *table; };
/* The roofline picture as SVG into out: memory slope, ceilings, a point per row that moves
 * bytes and computes (products, experts, attention, scans), as large as its share of the step.
 * WATT_ENOMEM. */
int  roofline_chart(const struct roofline_plot *plots, uint32_t n_plots, const struct peaks *peaks,
                    const char *title, const char *subtitle, struct str *out,
                    struct err *e) MUST_CHECK;

#endif
