/* budget.h: what an account may use in a day: tokens, joules, money. Days begin at 00:00 UTC.
 *
 * Whoever is under the bound may begin; what a request used is charged when it is known, so that
 * the last one of a day may pass the bound, and the next is refused. The caller locks. */
#ifndef ENERGY_BUDGET_H
#define ENERGY_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

enum budget_kind { BUDGET_TOKENS, BUDGET_JOULES, BUDGET_MONEY, N_BUDGETS, BUDGET_NONE = N_BUDGETS };

struct budget_limits { double a_day[N_BUDGETS]; };     /* 0: no bound */
struct budget { int64_t day; double used[N_BUDGETS]; };

/* "tokens", "joules", "money". */
const char *budget_name(enum budget_kind k);
/* The first bound that is reached; BUDGET_NONE: there is room. */
enum budget_kind budget_exhausted(struct budget *b, const struct budget_limits *l, int64_t unix_s);
void    budget_charge(struct budget *b, enum budget_kind k, double amount, int64_t unix_s);
/* That much has been used on that day (since 1970) by all: more than is known here, or no news. */
void    budget_raise(struct budget *b, enum budget_kind k, double used, int64_t day);
int64_t budget_renews(int64_t unix_s);      /* when the next day begins */

#endif
