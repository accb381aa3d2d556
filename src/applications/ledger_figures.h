/* ledger_figures.h: what reports and charts show of a ledger's sums. */
#ifndef APPLICATIONS_LEDGER_FIGURES_H
#define APPLICATIONS_LEDGER_FIGURES_H

#include <stdbool.h>
#include <stdint.h>

#include "energy/ledger.h"

double  ledger_joules(const struct ledger_sum *s);      /* of requests, without idle ones */
int64_t ledger_tokens(const struct ledger_sum *s);      /* of all kinds */
double  ledger_cost(const struct ledger_sum *s);        /* with idle energy's */
double  ledger_revenue(const struct ledger_sum *s);
double  ledger_per_token(const struct ledger_sum *s);   /* joules; NaN: not all are known */
/* "2026-11-22", …, by the finest unit of by; "": not by time. */
void    ledger_time_text(int64_t s, unsigned by, char out[24]);
bool    ledger_is_idle(const struct ledger_sum *s);     /* its row has no names */
bool    ledger_is_estimate(const struct ledger_sum *s);

#endif
