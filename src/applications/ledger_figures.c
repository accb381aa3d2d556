/* ledger_figures.c: see ledger_figures.h. */
#include "applications/ledger_figures.h"

#include <math.h>
#include <string.h>
#include <time.h>

double ledger_joules(const struct ledger_sum *s)
{
    return (double)(s->prefill_uj + s->decode_uj) * 1e-6;
}

int64_t ledger_tokens(const struct ledger_sum *s)
{
    return s->n_input + s->n_cached + s->n_output + s->n_thinking;
}

double ledger_cost(const struct ledger_sum *s)
{
    return (double)(s->cost_nano + s->idle_cost_nano) * 1e-9;
}

double ledger_revenue(const struct ledger_sum *s)
{
    return (double)s->price_nano * 1e-9;
}

/* Of the tokens of requests whose joules are known, as far as the sums tell. */
double ledger_per_token(const struct ledger_sum *s)
{
    const int64_t n = s->n_input + s->n_output + s->n_thinking;

    return s->n_measured == s->n && s->n > 0 && n > 0 ? ledger_joules(s) / (double)n : NAN;
}

void ledger_time_text(int64_t s, unsigned by, char out[24])
{
    const time_t t = (time_t)s;
    struct tm tm = { 0 };

    out[0] = '\0';
    if (!(by & (LEDGER_BY_HOUR | LEDGER_BY_DAY | LEDGER_BY_MONTH)))
        return;
    (void)gmtime_r(&t, &tm);
    (void)strftime(out, 24, by & LEDGER_BY_HOUR ? "%Y-%m-%dT%H:00Z" : by & LEDGER_BY_MONTH
                   ? "%Y-%m" : "%Y-%m-%d", &tm);
}

/* The row of idle energy has no names. */
bool ledger_is_idle(const struct ledger_sum *s)
{
    return s->n == 0 && s->idle_uj > 0;
}

bool ledger_is_estimate(const struct ledger_sum *s)
{
    return strcmp(s->source, "estimate") == 0;
}
