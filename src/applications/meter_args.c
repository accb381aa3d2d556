/* meter_args.c: a meter from the options of a verb; see meter_args.h. */
#include "applications/meter_args.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

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

const char *meter_used_json(char buf[512], struct meter *m, const struct meter_reading *from,
                            const struct meter_reading *to)
{
    const double joules = meter_used(from, to);
    struct str s;

    str_init(&s, 511);
    if (isnan(joules)) {
        const char *why = meter_why(m);
        const char *text = *why ? why : "the meter could not be read while this ran";

        str_puts(&s, "{\"joules\": null, \"why\": ");
        json_put_str(&s, (struct sv){ text, strcspn(text, ";") });
    } else {
        str_printf(&s, "{\"joules\": %.6f", joules);
    }
    str_puts(&s, ", \"source\": ");
    json_put_str(&s, sv_cstr(meter_source(m)));
    str_puts(&s, ", \"schema\": 1}");
    (void)snprintf(buf, 512, "%s", str_ok(&s) ? str_cstr(&s) : "null");
    str_deinit(&s);
    return buf;
}

static void on_work(void *m, double ops, double bytes)
{
    meter_work(m, ops, bytes);
}

void meter_count(struct meter *m, struct session *s)
{
    if (strcmp(meter_source(m), "estimate") == 0)
        session_on_work(s, on_work, m);
}
