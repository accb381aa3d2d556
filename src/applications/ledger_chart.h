/* ledger_chart.h: a ledger's sums over time as a picture: a line for each of the largest keys, models
 * and sources, and one for all others together. */
#ifndef APPLICATIONS_LEDGER_CHART_H
#define APPLICATIONS_LEDGER_CHART_H

#include <stddef.h>

#include "base/str.h"
#include "energy/ledger.h"

enum ledger_chart_of { LEDGER_CHART_ENERGY, LEDGER_CHART_TOKENS, LEDGER_CHART_REQUESTS,
                       LEDGER_CHART_PER_TOKEN, LEDGER_CHART_COST, LEDGER_CHART_REVENUE,
                       LEDGER_CHART_MARGIN, LEDGER_CHART_CARBON };

/* Appends an SVG to out. groups: [n] in order of time, as ledger_report gives them by an hour, day or
 * month. An hour without a row is one without requests; one whose figure is not known is left out.
 * WATT_EINVAL: nothing to draw, or money of several currencies; WATT_ENOMEM. */
int ledger_chart(struct str *out, const struct ledger_sum *groups, size_t n, unsigned by,
                 enum ledger_chart_of of, struct err *e) MUST_CHECK;

#endif
