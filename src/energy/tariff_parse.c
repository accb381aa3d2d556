/* tariff_parse.c: tariffs from JSON and CSV; see tariff.h for the formats. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "base/mem.h"
#include "energy/tariff_internal.h"

#define MAX_PRICE  1e9          /* bounds that only slips of the finger exceed */
#define MAX_FIELDS 16u
#define MAX_LINE   1024u

bool tariff_is_json(const char *bytes, size_t n)
{
    size_t i = 0;

    while (i < n && isspace((unsigned char)bytes[i]))
        i++;
    return i < n && bytes[i] == '{';
}

/* ---- JSON ---- */

/* Members other than these are refused. */
static int only(const struct json_place *at, const char *const *names, struct err *e)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)at->value, key, value) {
        size_t i = 0;

        while (names[i] && strcmp(names[i], key) != 0)
            i++;
        if (!names[i])
            return json_refuse(at, e, WATT_EFORMAT, "unknown member '%.60s'", key);
    }
    return 0;
}

/* An object's member that is an object; at->value NULL when absent. */
static int section(const struct json_place *root, const char *key, const char *const *names,
                   struct json_place *at, struct err *e)
{
    int rc = json_find(root, key, at, e);

    if (rc < 0 || !at->value)
        return rc;
    if (!json_is_object(at->value))
        return json_refuse(at, e, WATT_EFORMAT, "expected an object");
    return only(at, names, e);
}

static int read_hourly(const struct json_place *at, double min, struct tariff_curve *c,
                       struct err *e)
{
    struct json_place list;
    size_t n;
    int rc = json_find(at, "hourly", &list, e);

    if (rc < 0 || !list.value)
        return rc;
    rc = json_read_array(&list, 24, &n, e);
    if (rc == 0 && n != 24)
        rc = json_refuse(&list, e, WATT_EFORMAT, "expected 24 numbers, found %zu", n);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&list, i);

        rc = json_read_double(&item, min, MAX_PRICE, &c->hourly[i], e);
    }
    c->has_hourly = rc == 0;
    return rc;
}

static int read_curve(const struct json_place *at, const char *fixed, double min,
                      struct tariff_curve *c, struct err *e)
{
    struct json_place p;
    int rc = json_find(at, fixed, &p, e);

    if (rc == 0 && p.value) {
        rc = json_read_double(&p, min, MAX_PRICE, &c->fixed, e);
        c->has_fixed = rc == 0;
    }
    return rc == 0 ? read_hourly(at, min, c, e) : rc;
}

/* Prices of electricity do go below 0. */
static int read_energy(struct tariff *t, const struct json_place *root, char **series,
                       struct err *e)
{
    static const char *const price[] = { "price_per_kwh", "hourly", "series", NULL };
    static const char *const carbon[] = { "g_per_kwh", "hourly", NULL };
    struct json_place at;
    const char *where = NULL;
    int rc = section(root, "electricity", price, &at, e);

    if (rc == 0 && at.value) {
        rc = read_curve(&at, "price_per_kwh", -MAX_PRICE, &t->price, e);
        if (rc == 0)
            rc = json_get_cstr(&at, "series", NULL, &where, e);
        if (rc == 0 && where) {
            *series = mem_strdup(where);
            rc = *series ? 0 : err_set(e, WATT_ENOMEM, "tariff");
        }
    }
    if (rc == 0)
        rc = section(root, "carbon", carbon, &at, e);
    if (rc == 0 && at.value)
        rc = read_curve(&at, "g_per_kwh", 0, &t->carbon, e);
    return rc;
}

static int read_hardware(struct tariff *t, const struct json_place *root, struct err *e)
{
    static const char *const names[] = { "purchase", "life_years", "share", "other_per_hour", NULL };
    struct json_place at;
    double purchase = 0, life = 4, share = 1, other = 0;
    int rc = section(root, "hardware", names, &at, e);

    if (rc < 0 || !at.value)
        return rc;
    rc = json_get_double(&at, "purchase", 0, 0, 1e12, &purchase, e);
    if (rc == 0)
        rc = json_get_double(&at, "life_years", 4, 0.01, 100, &life, e);
    if (rc == 0)
        rc = json_get_double(&at, "share", 1, 0, 1, &share, e);
    if (rc == 0)
        rc = json_get_double(&at, "other_per_hour", 0, 0, MAX_PRICE, &other, e);
    t->hardware_per_hour = purchase * share / (life * 365.25 * 24) + other;
    return rc;
}

static int read_model(struct tariff *t, const struct json_place *list, const char *pattern,
                      struct err *e)
{
    static const char *const names[] = { "input", "cached", "output", "thinking", NULL };
    struct tariff_row *row = &t->models[t->n_models];
    struct tariff_prices p = { 0 };
    struct json_place at;
    int rc = section(list, pattern, names, &at, e);

    if (rc == 0 && !at.value)
        rc = json_refuse(list, e, WATT_EFORMAT, "'%.60s' has no prices", pattern);
    if (rc == 0)
        rc = json_get_double(&at, "input", 0, 0, MAX_PRICE, &p.input, e);
    if (rc == 0)
        rc = json_get_double(&at, "cached", p.input, 0, MAX_PRICE, &p.cached, e);
    if (rc == 0)
        rc = json_get_double(&at, "output", 0, 0, MAX_PRICE, &p.output, e);
    if (rc == 0)
        rc = json_get_double(&at, "thinking", p.output, 0, MAX_PRICE, &p.thinking, e);
    if (rc < 0)
        return rc;
    row->pattern = mem_strdup(pattern);
    row->prices = p;
    if (!row->pattern)
        return err_set(e, WATT_ENOMEM, "tariff");
    t->n_models++;
    return 0;
}

static int read_models(struct tariff *t, const struct json_place *root, struct err *e)
{
    struct json_place at;
    const char *key;
    json_t *value;
    int rc = json_find(root, "prices", &at, e);

    if (rc < 0 || !at.value)
        return rc;
    if (!json_is_object(at.value))
        return json_refuse(&at, e, WATT_EFORMAT, "expected an object: patterns of models");
    if (json_count(&at) > TARIFF_MAX_MODELS)
        return json_refuse(&at, e, WATT_ELIMIT, "over %u models", TARIFF_MAX_MODELS);
    t->models = mem_calloc(json_count(&at) + 1, sizeof *t->models);
    if (!t->models)
        return err_set(e, WATT_ENOMEM, "tariff");
    json_object_foreach((json_t *)(uintptr_t)at.value, key, value) {
        rc = read_model(t, &at, key, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int read_root(struct tariff *t, const struct json_place *root, char **series, struct err *e)
{
    static const char *const names[] = { "currency", "electricity", "carbon", "utc_offset_hours",
                                         "pue", "hardware", "prices", "comment", NULL };
    const char *currency;
    double offset;
    int rc = only(root, names, e);

    if (rc == 0)
        rc = json_get_cstr(root, "currency", "USD", &currency, e);
    if (rc == 0 && (*currency == '\0' || strlen(currency) >= TARIFF_CURRENCY ||
                    strspn(currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(currency)))
        rc = err_set(e, WATT_EFORMAT, "%s: currency: expected capital letters, at most %u, as in "
                     "\"EUR\"", root->key, TARIFF_CURRENCY - 1);
    if (rc == 0)
        (void)snprintf(t->currency, sizeof t->currency, "%s", currency);
    if (rc == 0)
        rc = json_get_double(root, "pue", 1, 1, 10, &t->pue, e);
    if (rc == 0)
        rc = json_get_double(root, "utc_offset_hours", 0, -14, 14, &offset, e);
    if (rc == 0)
        t->utc_offset_s = offset * 3600;
    if (rc == 0)
        rc = read_energy(t, root, series, e);
    if (rc == 0)
        rc = read_hardware(t, root, e);
    return rc == 0 ? read_models(t, root, e) : rc;
}

int tariff_add_json(struct tariff *t, const char *name, const char *bytes, size_t n, char **series,
                    struct err *e)
{
    const struct json_limits limits = { .max_bytes = TARIFF_MAX_BYTES, .max_depth = 8 };
    struct json_place root;
    json_t *document;
    int rc = json_parse(&document, name, bytes, n, &limits, e);

    if (rc < 0)
        return rc;
    root = json_root(document, name);
    rc = json_is_object(document) ? read_root(t, &root, series, e)
                                  : json_refuse(&root, e, WATT_EFORMAT, "expected an object");
    json_close(document);
    return rc;
}

/* ---- CSV ---- */

/* "2026-11-22T13:00:00Z", "2026-11-22 13:00", "…+01:00", or seconds since 1970. */
static bool read_time(const char *s, int64_t *out)
{
    struct tm tm = { 0 };
    const char *p = strptime(s, "%Y-%m-%d", &tm);
    long long v;
    char *end;
    int zone = 0;

    if (!p) {
        errno = 0;
        v = strtoll(s, &end, 10);
        *out = v;
        return errno == 0 && end != s && *end == '\0' && v >= 0 && v < (1LL << 40);
    }
    if (*p == 'T' || *p == ' ') {
        const char *q = strptime(p + 1, "%H:%M:%S", &tm);

        p = q ? q : strptime(p + 1, "%H:%M", &tm);
        if (!p)
            return false;
    }
    if ((*p == '+' || *p == '-') && isdigit((unsigned char)p[1]) && isdigit((unsigned char)p[2])) {
        const char *m = p[3] == ':' ? p + 4 : p + 3;

        zone = ((p[1] - '0') * 10 + p[2] - '0') * 3600;
        if (isdigit((unsigned char)m[0]) && isdigit((unsigned char)m[1])) {
            zone += ((m[0] - '0') * 10 + m[1] - '0') * 60;
            m += 2;
        }
        zone = *p == '-' ? -zone : zone;
        p = m;
    } else if (*p == 'Z') {
        p++;
    }
    *out = (int64_t)timegm(&tm) - zone;
    return *p == '\0';
}

static bool read_number(const char *s, double min, double *out)
{
    char *end;

    *out = strtod(s, &end);
    return end != s && *end == '\0' && isfinite(*out) && *out >= min && *out <= MAX_PRICE;
}

/* Cuts a line at commas (or semicolons) in place; spaces and quotes around fields go. */
static size_t split(char *line, char separator, char *fields[MAX_FIELDS])
{
    size_t n = 0;
    char *p = line;

    while (n < MAX_FIELDS) {
        char *end = p + strcspn(p, separator == ';' ? ";" : ","), *last = end;
        const bool more = *end != '\0';

        *end = '\0';
        while (*p == ' ' || *p == '"')
            p++;
        while (last > p && (last[-1] == ' ' || last[-1] == '"'))
            *--last = '\0';
        fields[n++] = p;
        if (!more)
            return n;
        p = end + 1;
    }
    return n;
}

struct csv {
    const char *name;
    char   separator;
    size_t line;
    int    time, price, carbon;         /* columns; -1: absent */
};

static int read_header(struct csv *c, char *line, struct err *e)
{
    char *fields[MAX_FIELDS];
    size_t n;

    c->separator = strchr(line, ';') ? ';' : ',';
    n = split(line, c->separator, fields);
    c->time = c->price = c->carbon = -1;
    for (size_t i = 0; i < n; i++) {
        int *column = strcmp(fields[i], "time") == 0 ? &c->time
                    : strcmp(fields[i], "price_per_kwh") == 0 ? &c->price
                    : strcmp(fields[i], "carbon_g_per_kwh") == 0 ? &c->carbon : NULL;

        if (!column)
            return err_set(e, WATT_EFORMAT, "%s: line %zu: unknown column '%.40s'; expected time, "
                           "price_per_kwh, carbon_g_per_kwh", c->name, c->line, fields[i]);
        *column = (int)i;
    }
    if (c->time < 0 || (c->price < 0 && c->carbon < 0))
        return err_set(e, WATT_EFORMAT, "%s: line %zu: expected the columns time and price_per_kwh",
                       c->name, c->line);
    return 0;
}

static int grow(struct tariff *t, size_t *cap, struct err *e)
{
    const size_t n = *cap ? *cap * 2 : 1024;
    void *p;

    if (t->n_rows < *cap)
        return 0;
    if ((p = mem_grow(t->times, n, sizeof *t->times)) != NULL)
        t->times = p;
    if (p && (p = mem_grow(t->price.series, n, sizeof *t->price.series)) != NULL)
        t->price.series = p;
    if (p && (p = mem_grow(t->carbon.series, n, sizeof *t->carbon.series)) != NULL)
        t->carbon.series = p;
    if (!p)
        return err_set(e, WATT_ENOMEM, "tariff: %zu rows", n);
    *cap = n;
    return 0;
}

static int read_value(const struct csv *c, int column, char *const *fields, double min, double *out,
                      struct err *e)
{
    *out = NAN;
    if (column < 0 || fields[column][0] == '\0')
        return 0;
    if (read_number(fields[column], min, out))
        return 0;
    return err_set(e, WATT_EFORMAT, "%s: line %zu: '%.40s' is no number from %g to %g", c->name,
                   c->line, fields[column], min, MAX_PRICE);
}

static int read_row(struct tariff *t, const struct csv *c, char *line, struct err *e)
{
    char *fields[MAX_FIELDS];
    const size_t n = split(line, c->separator, fields), i = t->n_rows;
    int rc;

    if ((int)n <= c->time || (int)n <= c->price || (int)n <= c->carbon)
        return err_set(e, WATT_EFORMAT, "%s: line %zu: %zu columns are too few", c->name, c->line, n);
    if (!read_time(fields[c->time], &t->times[i]))
        return err_set(e, WATT_EFORMAT, "%s: line %zu: '%.40s' is no time; expected "
                       "2026-11-22T13:00:00Z", c->name, c->line, fields[c->time]);
    if (i > 0 && t->times[i] <= t->times[i - 1])
        return err_set(e, WATT_EFORMAT, "%s: line %zu: '%.40s' is not after the line before",
                       c->name, c->line, fields[c->time]);
    rc = read_value(c, c->price, fields, -MAX_PRICE, &t->price.series[i], e);
    if (rc == 0)
        rc = read_value(c, c->carbon, fields, 0, &t->carbon.series[i], e);
    t->n_rows += rc == 0;
    return rc;
}

int tariff_add_csv(struct tariff *t, const char *name, const char *bytes, size_t n, struct err *e)
{
    struct csv c = { .name = name };
    char line[MAX_LINE];
    size_t cap = 0;
    bool header = false;
    int rc = 0;

    for (size_t at = 0; rc == 0 && at < n;) {
        const char *nl = memchr(bytes + at, '\n', n - at);
        size_t len = nl ? (size_t)(nl - bytes) - at : n - at;
        const size_t next = at + len + 1;

        c.line++;
        if (len >= MAX_LINE || memchr(bytes + at, '\0', len))
            return err_set(e, WATT_EFORMAT, "%s: line %zu: expected text of at most %u bytes", name,
                           c.line, MAX_LINE - 1);
        while (len > 0 && (bytes[at + len - 1] == '\r' || bytes[at + len - 1] == ' '))
            len--;
        memcpy(line, bytes + at, len);
        line[len] = '\0';
        at = next;
        if (len == 0 || line[0] == '#')
            continue;
        if (!header) {
            rc = read_header(&c, line, e);
            header = true;
            continue;
        }
        if (t->n_rows == TARIFF_MAX_ROWS)
            return err_set(e, WATT_ELIMIT, "%s: over %u rows", name, TARIFF_MAX_ROWS);
        rc = grow(t, &cap, e);
        if (rc == 0)
            rc = read_row(t, &c, line, e);
    }
    if (rc == 0 && t->n_rows == 0)
        rc = err_set(e, WATT_EFORMAT, "%s: neither JSON nor rows of time and price", name);
    return rc;
}
