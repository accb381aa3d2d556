/* meter_args.c: a meter from the options of a verb; see meter_args.h. */
#include "applications/meter_args.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int meter_args_open(struct meter **out, const struct meter_args *a, struct err *e)
{
    const char *env = getenv("WATT_METER");
    struct meter_coefficients k;
    struct meter_opts o = {
        .want = a->source ? a->source : env && *env ? env : NULL, .root = a->root, .nvml = a->nvml,
        .unit = a->unit, .name = a->name, .max_w = a->max_w,
        .interval_ms = (unsigned)a->interval_ms,
    };
    int rc = a->estimate ? meter_coefficients_parse(a->estimate, &k, e) : 0;

    if (rc < 0)
        return rc;
    if (a->estimate)
        o.estimate = &k;
    rc = meter_open(out, &o, e);
    if (rc < 0 || !a->estimate || meter_measures(*out) || (o.want && strcmp(o.want, "auto") != 0))
        return rc;
    meter_close(*out);
    o.want = "estimate";
    return meter_open(out, &o, e);
}

double meter_used(const struct meter_reading *from, const struct meter_reading *to)
{
    return from->valid && to->valid && from->gaps == to->gaps ? (double)(to->uj - from->uj) * 1e-6
                                                              : NAN;
}

const char *meter_used_text(char buf[200], struct meter *m, const struct meter_reading *from,
                            const struct meter_reading *to, uint64_t n_tokens)
{
    const double joules = meter_used(from, to);
    const char *why = meter_why(m);

    if (isnan(joules))
        (void)snprintf(buf, 200, "no joules: %.*s", (int)(strcspn(why, ";") < 180 ? strcspn(why, ";")
                                                                                  : 180), why);
    else if (n_tokens == 0)
        (void)snprintf(buf, 200, "%.3f J by %.60s", joules, meter_source(m));
    else
        (void)snprintf(buf, 200, "%.3f J by %.60s, %.4g J/token", joules, meter_source(m),
                       joules / (double)n_tokens);
    return buf;
}
