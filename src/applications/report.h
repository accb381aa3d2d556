/* report.h: small pieces that the reports of several verbs share. */
#ifndef APPLICATIONS_REPORT_H
#define APPLICATIONS_REPORT_H

#include <stdio.h>

#include "base/quantiles.h"

/* The heading of a table of quantiles in seconds, and one row of it. */
void report_quantiles_heading(FILE *f);
void report_quantiles(FILE *f, const char *name, const struct quantiles *q);
/* The same as a member of a JSON object, a comma in front: , "name": {"p50": ...} */
void report_json_quantiles(FILE *f, const char *name, const struct quantiles *q);
/* "key": "value", without a comma. */
void report_json_text(FILE *f, const char *key, const char *value);

#endif
