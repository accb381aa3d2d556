/* tariff_internal.h: shared by tariff.c (answers) and tariff_parse.c (reading). */
#ifndef ENERGY_TARIFF_INTERNAL_H
#define ENERGY_TARIFF_INTERNAL_H

#include "energy/tariff.h"

/* A value by time: a series if there is one, else by the hour of the day, else one. */
struct tariff_curve {
    bool    has_hourly, has_fixed;
    double  fixed, hourly[24];
    double *series;             /* [n_rows] of the tariff's times; NULL: none; NaN: not said */
};

struct tariff_row { char *pattern; struct tariff_prices prices; };

struct tariff {
    char     currency[TARIFF_CURRENCY];
    double   pue, hardware_per_hour, utc_offset_s;
    int64_t *times;             /* [n_rows] rising, seconds since 1970 */
    size_t   n_rows;
    struct tariff_curve price, carbon;
    struct tariff_row *models;  /* [n_models] */
    size_t   n_models;
};

struct tariff *tariff_new(struct err *e);       /* defaults; NULL: out of memory */
/* Adds the rows of a CSV series. */
int tariff_add_csv(struct tariff *t, const char *name, const char *bytes, size_t n, struct err *e)
    MUST_CHECK;
/* *series: where the series lies, or NULL; mem_free it. */
int tariff_add_json(struct tariff *t, const char *name, const char *bytes, size_t n, char **series,
                    struct err *e) MUST_CHECK;
/* Does it look like JSON? */
bool tariff_is_json(const char *bytes, size_t n);

#endif
