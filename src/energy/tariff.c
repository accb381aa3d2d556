/* tariff.c: prices of energy, machines and tokens; see tariff.h. */
#include "energy/tariff.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "energy/fetch.h"
#include "energy/tariff_internal.h"

#define FETCH_MS 15000u
#define HOUR_S   3600

struct tariff *tariff_new(struct err *e)
{
    struct tariff *t = mem_calloc(1, sizeof *t);

    if (!t) {
        (void)err_set(e, WATT_ENOMEM, "tariff");
        return NULL;
    }
    memcpy(t->currency, "USD", 4);
    t->pue = 1;
    return t;
}

void tariff_close(struct tariff *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n_models; i++)
        mem_free(t->models[i].pattern);
    mem_free(t->models);
    mem_free(t->times);
    mem_free(t->price.series);
    mem_free(t->carbon.series);
    mem_free(t);
}

/* ---- opening ---- */

static int read_where(const char *where, char **data, size_t *size, struct err *e)
{
    struct fetch *f = NULL;
    struct str body;
    int rc;

    if (!fetch_is_url(where))
        return file_read(where, TARIFF_MAX_BYTES, data, size, e);
    str_init(&body, TARIFF_MAX_BYTES);
    rc = fetch_open(&f, e);
    if (rc == 0)
        rc = fetch_get(f, where, FETCH_MS, &body, e);
    if (rc == 0 && body.len == 0)
        rc = err_set(e, WATT_EFORMAT, "%.200s: an empty answer", where);
    if (rc == 0) {
        *data = str_take(&body, size);
        rc = *data ? 0 : err_set(e, WATT_ENOMEM, "tariff");
    }
    fetch_close(f);
    str_deinit(&body);
    return rc;
}

/* A series named in a file lies beside it. */
static char *beside(const char *where, const char *series)
{
    const char *slash = strrchr(where, '/');
    struct str s;

    if (fetch_is_url(series) || *series == '/' || !slash)
        return mem_strdup(series);
    str_init(&s, 0);
    str_append(&s, where, (size_t)(slash - where) + 1);
    str_puts(&s, series);
    return str_take(&s, NULL);
}

static int add_series(struct tariff *t, const char *where, const char *series, struct err *e)
{
    char *path = beside(where, series), *data = NULL;
    size_t n = 0;
    int rc;

    if (!path)
        return err_set(e, WATT_ENOMEM, "tariff");
    rc = read_where(path, &data, &n, e);
    if (rc == 0)
        rc = tariff_add_csv(t, path, data, n, e);
    mem_free(data);
    mem_free(path);
    return rc;
}

int tariff_open(struct tariff **out, const char *where, struct err *e)
{
    struct tariff *t = tariff_new(e);
    char *data = NULL, *series = NULL;
    size_t n = 0;
    int rc = t ? read_where(where, &data, &n, e) : WATT_ENOMEM;

    if (rc == 0)
        rc = tariff_is_json(data, n) ? tariff_add_json(t, where, data, n, &series, e)
                                     : tariff_add_csv(t, where, data, n, e);
    if (rc == 0 && series)
        rc = add_series(t, where, series, e);
    mem_free(series);
    mem_free(data);
    if (rc < 0) {
        tariff_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

int tariff_parse(struct tariff **out, const char *name, const char *bytes, size_t n, struct err *e)
{
    struct tariff *t = tariff_new(e);
    char *series = NULL;
    int rc;

    if (!t)
        return WATT_ENOMEM;
    rc = tariff_is_json(bytes, n) ? tariff_add_json(t, name, bytes, n, &series, e)
                                  : tariff_add_csv(t, name, bytes, n, e);
    if (rc == 0 && series)
        rc = err_set(e, WATT_EINVAL, "%s: electricity.series needs a file to lie beside", name);
    mem_free(series);
    if (rc < 0) {
        tariff_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

int tariff_fixed(struct tariff **out, const char *currency, double price_per_kwh,
                 double carbon_g_per_kwh, double pue, double hardware_per_hour, struct err *e)
{
    struct tariff *t;

    if (!isfinite(price_per_kwh) || !isfinite(carbon_g_per_kwh) || !isfinite(hardware_per_hour) ||
        !isfinite(pue) || pue < 1 || carbon_g_per_kwh < 0 || hardware_per_hour < 0 ||
        (currency && strlen(currency) >= TARIFF_CURRENCY))
        return err_set(e, WATT_EINVAL, "tariff: price %g, carbon %g, PUE %g, hardware %g: expected "
                       "finite numbers, none below 0 but the price, and a PUE of 1 or more",
                       price_per_kwh, carbon_g_per_kwh, pue, hardware_per_hour);
    t = tariff_new(e);
    if (!t)
        return WATT_ENOMEM;
    if (currency)
        (void)snprintf(t->currency, sizeof t->currency, "%s", currency);
    t->price = (struct tariff_curve){ .has_fixed = true, .fixed = price_per_kwh };
    t->carbon = (struct tariff_curve){ .has_fixed = true, .fixed = carbon_g_per_kwh };
    t->pue = pue;
    t->hardware_per_hour = hardware_per_hour;
    *out = t;
    return 0;
}

/* ---- asking ---- */

/* The row that holds at this time: the last one that is not later. n_rows > 0. */
static size_t row_at(const struct tariff *t, int64_t s)
{
    size_t lo = 0, hi = t->n_rows;      /* times[lo] <= s, or lo is 0 */

    while (hi - lo > 1) {
        const size_t mid = lo + (hi - lo) / 2;

        if (t->times[mid] <= s)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static bool in_series(const struct tariff *t, int64_t s)
{
    return t->n_rows > 0 && s >= t->times[0] && s - t->times[t->n_rows - 1] < HOUR_S;
}

static double value_at(const struct tariff *t, const struct tariff_curve *c, int64_t s)
{
    int64_t hour;

    if (c->series && in_series(t, s)) {
        const double v = c->series[row_at(t, s)];

        if (!isnan(v))
            return v;
    }
    if (c->has_hourly) {
        hour = (int64_t)floor(((double)s + t->utc_offset_s) / HOUR_S) % 24;
        return c->hourly[hour < 0 ? hour + 24 : hour];
    }
    if (!c->has_fixed && c->series) {
        const double v = c->series[row_at(t, s)];

        return isnan(v) ? 0 : v;
    }
    return c->fixed;
}

const char *tariff_currency(const struct tariff *t) { return t->currency; }
double tariff_pue(const struct tariff *t) { return t->pue; }
double tariff_hardware_per_hour(const struct tariff *t) { return t->hardware_per_hour; }
double tariff_price_per_kwh(const struct tariff *t, int64_t unix_s)
{
    return value_at(t, &t->price, unix_s);
}
double tariff_carbon_g_per_kwh(const struct tariff *t, int64_t unix_s)
{
    return value_at(t, &t->carbon, unix_s);
}

/* Length of the pattern when it fits, else -1; a longer fit is a better one. */
static int fits(const char *pattern, const char *model)
{
    const size_t n = strlen(pattern);

    if (n > 0 && pattern[n - 1] == '*')
        return strncmp(pattern, model, n - 1) == 0 ? (int)n - 1 : -1;
    return strcmp(pattern, model) == 0 ? (int)n + 1 : -1;
}

bool tariff_prices(const struct tariff *t, const char *model, struct tariff_prices *out)
{
    int best = -1;

    *out = (struct tariff_prices){ 0 };
    for (size_t i = 0; i < t->n_models; i++) {
        const int fit = fits(t->models[i].pattern, model ? model : "");

        if (fit > best) {
            best = fit;
            *out = t->models[i].prices;
        }
    }
    return best >= 0;
}

void tariff_bill(const struct tariff *t, const struct tariff_use *use, struct tariff_bill *out)
{
    struct tariff_prices p;

    *out = (struct tariff_bill){ .has_energy = use->has_joules };
    if (use->has_joules)
        out->kwh = use->joules / 3.6e6 * t->pue;
    out->carbon_g = out->kwh * tariff_carbon_g_per_kwh(t, use->unix_s);
    out->energy = out->kwh * tariff_price_per_kwh(t, use->unix_s);
    out->hardware = t->hardware_per_hour * use->machine_s / HOUR_S;
    out->cost = out->energy + out->hardware;
    out->has_price = tariff_prices(t, use->model, &p);
    out->revenue = ((double)use->n_input * p.input + (double)use->n_cached * p.cached +
                    (double)use->n_output * p.output + (double)use->n_thinking * p.thinking) / 1e6;
    out->margin = out->revenue - out->cost;
}
