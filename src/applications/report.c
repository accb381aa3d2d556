/* report.c: see report.h. */
#include "applications/report.h"

#include "base/json.h"

void report_quantiles_heading(FILE *f)
{
    (void)fprintf(f, "%-22s %9s %9s %9s %9s %9s\n", "seconds", "p50", "p90", "p99", "mean", "max");
}

void report_quantiles(FILE *f, const char *name, const struct quantiles *q)
{
    (void)fprintf(f, "%-22s %9.3f %9.3f %9.3f %9.3f %9.3f\n", name, q->p50, q->p90, q->p99, q->mean,
                  q->max);
}

void report_json_quantiles(FILE *f, const char *name, const struct quantiles *q)
{
    (void)fprintf(f, ", \"%s\": {\"p50\": %.6g, \"p90\": %.6g, \"p99\": %.6g, \"mean\": %.6g, "
                  "\"max\": %.6g}", name, q->p50, q->p90, q->p99, q->mean, q->max);
}

void report_json_text(FILE *f, const char *key, const char *value)
{
    json_print_str(f, sv_cstr(key));
    (void)fputs(": ", f);
    json_print_str(f, sv_cstr(value));
}
