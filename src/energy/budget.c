/* budget.c: daily bounds; see budget.h. */
#include "energy/budget.h"

#include <math.h>

#define DAY_S 86400

const char *budget_name(enum budget_kind k)
{
    static const char *const names[] = { "tokens", "joules", "money" };

    return (unsigned)k < N_BUDGETS ? names[k] : "?";
}

static int64_t day_of(int64_t s)
{
    return s >= 0 ? s / DAY_S : (s - DAY_S + 1) / DAY_S;
}

/* A clock that goes back a little renews nothing. */
static void turn(struct budget *b, int64_t s)
{
    if (day_of(s) > b->day)
        *b = (struct budget){ .day = day_of(s) };
}

enum budget_kind budget_exhausted(struct budget *b, const struct budget_limits *l, int64_t unix_s)
{
    turn(b, unix_s);
    for (int k = 0; k < N_BUDGETS; k++)
        if (l->a_day[k] > 0 && b->used[k] >= l->a_day[k])
            return (enum budget_kind)k;
    return BUDGET_NONE;
}

void budget_charge(struct budget *b, enum budget_kind k, double amount, int64_t unix_s)
{
    turn(b, unix_s);
    if (amount > 0 && isfinite(amount))
        b->used[k] += amount;
}

void budget_raise(struct budget *b, enum budget_kind k, double used, int64_t day)
{
    if (day < b->day || !isfinite(used))
        return;
    turn(b, day * DAY_S);
    if (used > b->used[k])
        b->used[k] = used;
}

int64_t budget_renews(int64_t unix_s)
{
    return (day_of(unix_s) + 1) * DAY_S;
}
