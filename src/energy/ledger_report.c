/* ledger_report.c: what stands in the ledger: sums by time, key, model and source, requests one by
 * one, and whether it all adds up. Sums come from the smallest table that knows enough, row by row in
 * order of time, and are added up here. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "energy/ledger_db.h"

#define DAY_S   86400
#define FIRST   256u            /* groups before they are added up */

static int run(struct ledger_db *db, const char *sql, struct err *e)
{
    return db->ops->run(db, sql, false, NULL, 0, NULL, NULL, e);
}

/* ---- which rows ---- */

static int64_t ceil_to(int64_t s, int64_t unit)
{
    return -ledger_floor(-s, unit);
}

struct text_query { struct str sql; struct ledger_value p[8]; size_t n; };

static const char *word(const struct text_query *t, size_t n_before)
{
    return t->n == n_before ? " WHERE " : " AND ";
}

static void where_time(struct text_query *t, const struct ledger_query *q, const char *unit,
                       int64_t seconds)
{
    const size_t before = t->n;

    if (q->from_s) {
        str_printf(&t->sql, "%s%s >= $%zu", word(t, before), unit, t->n + 1);
        t->p[t->n++] = ledger_int(ledger_floor(q->from_s, seconds));
    }
    if (q->to_s) {
        str_printf(&t->sql, "%s%s < $%zu", word(t, before), unit, t->n + 1);
        t->p[t->n++] = ledger_int(ceil_to(q->to_s, seconds));
    }
}

static void where_names(struct text_query *t, const struct ledger_query *q, size_t before)
{
    if (q->key) {
        str_printf(&t->sql, "%skey = $%zu", word(t, before), t->n + 1);
        t->p[t->n++] = ledger_str(q->key);
    }
    if (q->model) {
        str_printf(&t->sql, "%smodel = $%zu", word(t, before), t->n + 1);
        t->p[t->n++] = ledger_str(q->model);
    }
}

/* Days answer where they can: they are fewest and are kept for ever. */
static const struct ledger_table *table_for(const struct ledger_db *db, const struct ledger_query *q)
{
    const bool days = !(q->by & LEDGER_BY_HOUR) && q->from_s % DAY_S == 0 && q->to_s % DAY_S == 0;
    const bool keys = q->by & LEDGER_BY_KEY || q->key || db->version < 2;

    return &ledger_sums[(keys ? 0 : 2) + (days ? 1 : 0)];
}

static void select_rows(struct text_query *t, const struct ledger_query *q,
                        const struct ledger_table *from, const struct ledger_db *db)
{
    str_printf(&t->sql, "SELECT %s, %s, model, source, currency", from->unit,
               from->keys ? "key" : "'' AS key");
    for (size_t i = 0; i < LEDGER_N_AMOUNTS; i++)
        str_printf(&t->sql, ", %s", ledger_amounts[i].name);
    str_printf(&t->sql, " FROM %s", from->name);
    if (q->key && from->hours == 1 && db->version >= 2) {
        /* one look into the index per hour, and not all keys of all hours */
        str_puts(&t->sql, " WHERE hour IN (SELECT hour FROM hours_all_keys");
        where_time(t, q, from->unit, 3600);
        str_puts(&t->sql, ")");
        where_names(t, q, SIZE_MAX);            /* never the first: AND */
    } else {
        where_time(t, q, from->unit, from->hours * 3600);
        where_names(t, q, 0);
    }
    str_printf(&t->sql, " ORDER BY %s", from->unit);
}

/* ---- sums ---- */

struct report {
    int (*fn)(void *ctx, const struct ledger_sum *sum);
    void *ctx;
    unsigned by;
    int64_t  unit_s;                /* of the rows' times */
    struct ledger_sum *groups;      /* of one time; several may be alike */
    size_t n, cap;
};

static void text(char *to, size_t size, const struct ledger_value *v)
{
    const size_t n = v->type == LEDGER_STR ? strnlen(v->s, size - 1) : 0;

    memcpy(to, v->s ? v->s : "", n);
    to[n] = '\0';
}

/* First second of the month of a day, by the civil calendar (Howard Hinnant's algorithm). */
static int64_t month_of(int64_t s)
{
    const int64_t day = ledger_floor(s, DAY_S), z = day + 719468;
    const int64_t era = ledger_floor(z, 146097), doe = z - era * 146097;
    const int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    const int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

    return (day - (doy - (153 * mp + 2) / 5)) * DAY_S;
}

static int64_t time_of(const struct report *r, int64_t unit)
{
    const int64_t s = unit * r->unit_s;

    return r->by & LEDGER_BY_HOUR ? s : r->by & LEDGER_BY_DAY ? ledger_floor(s, DAY_S) * DAY_S
         : r->by & LEDGER_BY_MONTH ? month_of(s) : 0;
}

/* Adds up groups that are alike; the rest is sorted. */
static int add_up(struct report *r, struct err *e)
{
    size_t n = 0, i = 1;

    while (i < r->n && ledger_compare(&r->groups[i - 1], &r->groups[i]) <= 0)
        i++;
    if (i < r->n)                       /* rows mostly come in order of the index */
        qsort(r->groups, r->n, sizeof *r->groups, ledger_compare);
    for (i = 0; i < r->n; i++) {
        if (n == 0 || ledger_compare(&r->groups[n - 1], &r->groups[i]) != 0)
            r->groups[n++] = r->groups[i];
        else if (!ledger_sum_add(&r->groups[n - 1], &r->groups[i]))
            return err_set(e, WATT_EFORMAT, "ledger: sums of key '%.40s', model '%.40s' are over "
                           "63 bits", r->groups[i].key, r->groups[i].model);
    }
    r->n = n;
    return 0;
}

static int give(struct report *r, struct err *e)
{
    int rc = add_up(r, e);

    for (size_t i = 0; rc == 0 && i < r->n; i++)
        if (r->fn(r->ctx, &r->groups[i]) < 0)
            rc = err_set(e, WATT_ECANCEL, "ledger: ended");
    r->n = 0;
    return rc;
}

/* Room for one more; grows when adding up leaves it over half full. */
static int make_room(struct report *r, struct err *e)
{
    const size_t cap = r->cap ? 2 * r->cap : FIRST;
    struct ledger_sum *p;
    int rc = 0;

    if (r->n < r->cap)
        return 0;
    rc = add_up(r, e);
    if (rc < 0 || r->n < r->cap / 2)
        return rc;
    p = mem_grow(r->groups, cap, sizeof *p);
    if (!p)
        return err_set(e, WATT_ENOMEM, "ledger: %zu groups", cap);
    r->groups = p;
    r->cap = cap;
    return 0;
}

static int take_row(void *ctx, const struct ledger_value *v, size_t n, struct err *e)
{
    struct report *r = ctx;
    struct ledger_sum *s;
    int rc;

    if (n < 5 + LEDGER_N_AMOUNTS)
        return err_set(e, WATT_EFORMAT, "ledger: sums of %zu columns", n);
    if (v[0].type != LEDGER_INT || v[0].i > INT64_MAX / DAY_S || v[0].i < INT64_MIN / DAY_S)
        return err_set(e, WATT_EFORMAT, "ledger: sums of a time that is none");
    if (r->n > 0 && r->groups[r->n - 1].from_s != time_of(r, v[0].i) && (rc = give(r, e)) < 0)
        return rc;
    rc = make_room(r, e);
    if (rc < 0)
        return rc;
    s = &r->groups[r->n++];
    *s = (struct ledger_sum){ .from_s = time_of(r, v[0].i) };
    if (r->by & LEDGER_BY_KEY)
        text(s->key, sizeof s->key, &v[1]);
    if (r->by & LEDGER_BY_MODEL)
        text(s->model, sizeof s->model, &v[2]);
    text(s->source, sizeof s->source, &v[3]);
    if (!(r->by & LEDGER_BY_SOURCE) && strcmp(s->source, "estimate") != 0)
        s->source[0] = '\0';
    text(s->currency, sizeof s->currency, &v[4]);
    for (size_t i = 0; i < LEDGER_N_AMOUNTS; i++)
        *ledger_amount_of(s, i) = v[5 + i].type == LEDGER_INT ? v[5 + i].i : 0;
    return 0;
}

int ledger_db_report(struct ledger_db *db, const struct ledger_query *q,
                     int (*fn)(void *ctx, const struct ledger_sum *sum), void *ctx, struct err *e)
{
    const struct ledger_table *from = table_for(db, q);
    struct report r = { .fn = fn, .ctx = ctx, .by = q->by, .unit_s = from->hours * 3600 };
    struct text_query t = { .n = 0 };
    int rc;

    str_init(&t.sql, LEDGER_SQL_MAX);
    select_rows(&t, q, from, db);
    rc = str_ok(&t.sql) ? db->ops->run(db, str_cstr(&t.sql), false, t.p, t.n, take_row, &r, e)
                        : err_set(e, WATT_ENOMEM, "ledger");
    if (rc == 0)
        rc = give(&r, e);
    mem_free(r.groups);
    str_deinit(&t.sql);
    return rc;
}

/* ---- requests one by one ---- */

struct each { int (*fn)(void *ctx, const struct ledger_entry *x); void *ctx; };

static int64_t or_unknown(const struct ledger_value *v)
{
    return v->type == LEDGER_INT ? v->i : LEDGER_UNKNOWN;
}

static int take_entry(void *ctx, const struct ledger_value *v, size_t n, struct err *e)
{
    const struct each *x = ctx;
    struct ledger_entry r = { 0 };

    if (n < 22)
        return err_set(e, WATT_EFORMAT, "ledger: requests of %zu columns", n);
    r.time_ms = v[0].i;
    text(r.key, sizeof r.key, &v[2]);
    text(r.model, sizeof r.model, &v[3]);
    text(r.source, sizeof r.source, &v[4]);
    text(r.currency, sizeof r.currency, &v[5]);
    text(r.request, sizeof r.request, &v[6]);
    r.n_input = (uint32_t)v[7].i;
    r.n_cached = (uint32_t)v[8].i;
    r.n_output = (uint32_t)v[9].i;
    r.n_thinking = (uint32_t)v[10].i;
    r.prefill_uj = or_unknown(&v[11]);
    r.decode_uj = or_unknown(&v[12]);
    r.saved_uj = v[13].i;
    r.queue_us = v[14].i;
    r.prefill_us = v[15].i;
    r.decode_us = v[16].i;
    r.machine_us = v[17].i;
    r.cost_nano = or_unknown(&v[18]);
    r.price_nano = or_unknown(&v[19]);
    r.carbon_ug = or_unknown(&v[20]);
    r.status = (enum ledger_status)v[21].i;
    return x->fn(x->ctx, &r) < 0 ? err_set(e, WATT_ECANCEL, "ledger: ended") : 0;
}

int ledger_db_each(struct ledger_db *db, const struct ledger_query *q,
                   int (*fn)(void *ctx, const struct ledger_entry *entry), void *ctx,
                   struct err *e)
{
    struct each x = { fn, ctx };
    struct text_query t = { .n = 0 };
    int rc;

    str_init(&t.sql, LEDGER_SQL_MAX);
    str_puts(&t.sql, "SELECT * FROM requests");
    where_time(&t, q, "hour", 3600);
    where_names(&t, q, 0);
    str_puts(&t.sql, " ORDER BY hour, time_ms");
    rc = str_ok(&t.sql) ? db->ops->run(db, str_cstr(&t.sql), false, t.p, t.n, take_entry, &x, e)
                        : err_set(e, WATT_ENOMEM, "ledger");
    str_deinit(&t.sql);
    return rc;
}

/* ---- verification ---- */

/* What a request is worth in each sum. */
static const char request_as_sum[] =
    "SELECT hour AS u, key, model, source, currency, 1 AS n, CASE WHEN status = 2 THEN 1 ELSE 0 END "
    "AS n_failed, n_input, n_cached, n_output, n_thinking, CASE WHEN prefill_uj IS NULL OR decode_uj "
    "IS NULL THEN 0 ELSE 1 END AS n_measured, COALESCE(prefill_uj, 0) AS prefill_uj, "
    "COALESCE(decode_uj, 0) AS decode_uj, saved_uj, 0 AS idle_uj, 0 AS idle_ms, queue_us, "
    "prefill_us, decode_us, machine_us, CASE WHEN cost_nano IS NULL THEN 0 ELSE 1 END AS n_costed, "
    "CASE WHEN price_nano IS NULL THEN 0 ELSE 1 END AS n_priced, COALESCE(cost_nano, 0) AS "
    "cost_nano, COALESCE(price_nano, 0) AS price_nano, COALESCE(carbon_ug, 0) AS carbon_ug, "
    "0 AS idle_cost_nano, 0 AS idle_carbon_ug "
    "FROM requests WHERE hour >= $1";

/* What a sum should be: amounts of `unit` from a table of sums, with the sign given. */
static void minus_sums(struct str *s, const struct ledger_table *t, const char *unit, bool keys,
                       bool idle, const char *sign)
{
    str_printf(s, "SELECT %s AS u, %s, model, source, currency", unit, keys ? "key" : "'' AS key");
    for (size_t i = 0; i < LEDGER_N_AMOUNTS; i++) {
        const char *name = ledger_amounts[i].name;
        const bool zero = !idle && strncmp(name, "idle", 4) == 0;

        str_printf(s, ", %s%s AS %s", zero ? "" : sign, zero ? "0" : name, name);
    }
    str_printf(s, " FROM %s", t->name);
}

/* A column of names may hold anything in a file that somebody has changed. */
static const char *name_in(const struct ledger_value *v)
{
    return v->type == LEDGER_STR ? v->s : "?";
}

static int differs(void *ctx, const struct ledger_value *v, size_t n, struct err *e)
{
    const struct ledger_table *t = ctx;

    if (n < 3)
        return err_set(e, WATT_EFORMAT, "ledger: in %s are sums that are none of their parts", t->name);
    return err_set(e, WATT_EFORMAT, "ledger: in %s, %s %" PRId64 " of key '%.40s', model '%.40s' is "
                   "not the sum of its parts", t->name, t->unit, v[0].i,
                   t->keys ? name_in(&v[1]) : "(all)", name_in(&v[2]));
}

/* Parts minus sums are 0 in every group. from_h: what is older is not compared; a day's first. */
static int compare_sums(struct ledger_db *db, const struct ledger_table *sums,
                        const struct ledger_table *parts, int64_t from_h, struct err *e)
{
    const int64_t from = ledger_floor(from_h, sums->hours);
    const bool alike = parts && parts->hours == sums->hours;    /* the parts' times are the sums' */
    const struct ledger_value p[] = { ledger_int(alike ? from : from * sums->hours),
                                      ledger_int(from) };
    struct str s;
    int rc;

    str_init(&s, LEDGER_SQL_MAX);
    str_puts(&s, "SELECT u, key, model, source, currency FROM (");
    if (parts) {
        minus_sums(&s, parts, alike ? parts->unit : "hour / 24", sums->keys, true, "");
        str_printf(&s, " WHERE %s >= $1", parts->unit);
    } else {
        str_puts(&s, request_as_sum);
    }
    str_puts(&s, " UNION ALL ");
    minus_sums(&s, sums, sums->unit, sums->keys, parts != NULL, "-");
    str_printf(&s, " WHERE %s >= $2) AS x GROUP BY u, key, model, source, currency HAVING ",
               sums->unit);
    for (size_t i = 0; i < LEDGER_N_AMOUNTS; i++)
        str_printf(&s, "%sSUM(%s) <> 0", i ? " OR " : "", ledger_amounts[i].name);
    str_puts(&s, " LIMIT 1");
    rc = str_ok(&s) ? db->ops->run(db, str_cstr(&s), false, p, 2, differs,
                                   (void *)(uintptr_t)sums, e)
                    : err_set(e, WATT_ENOMEM, "ledger");
    str_deinit(&s);
    return rc;
}

/* Hours of their requests, days of their hours; and both again without keys. */
static int compare_all(struct ledger_db *db, int64_t requests_from, int64_t hours_from, struct err *e)
{
    const struct ledger_table *hours = &ledger_sums[0], *days = &ledger_sums[1];
    int rc = compare_sums(db, hours, NULL, requests_from, e);

    if (rc == 0)
        rc = compare_sums(db, days, hours, hours_from, e);
    if (rc == 0 && db->version >= 2)
        rc = compare_sums(db, &ledger_sums[2], hours, hours_from, e);
    if (rc == 0 && db->version >= 2)
        rc = compare_sums(db, &ledger_sums[3], days, INT64_MIN / 4, e);
    return rc;
}

static int number(struct ledger_db *db, const char *sql, int64_t *out, struct err *e)
{
    *out = 0;
    return db->ops->run(db, sql, false, NULL, 0, ledger_one_number, out, e);
}

int ledger_db_verify(struct ledger_db *db, struct ledger_check *c, struct err *e)
{
    int64_t requests_from = 0, hours_from = 0;
    struct err none;
    int rc = db->ops->check(db, e);

    if (rc == 0)                            /* one moment for all of it */
        rc = run(db, "BEGIN", e);
    if (rc < 0)
        return rc;
    rc = ledger_get(db, "requests_from", &requests_from, e);
    if (rc == 0)
        rc = ledger_get(db, "hours_from", &hours_from, e);
    if (rc == 0)
        rc = compare_all(db, requests_from, hours_from, e);
    if (rc == 0)
        rc = number(db, "SELECT COUNT(*) FROM requests", &c->n_requests, e);
    if (rc == 0)
        rc = number(db, "SELECT COUNT(*) FROM hours", &c->n_hours, e);
    if (rc == 0)
        rc = number(db, "SELECT COUNT(*) FROM days", &c->n_days, e);
    if (rc == 0)
        rc = number(db, db->version < 2
                    ? "SELECT CAST(COALESCE(SUM(batch), 0) AS BIGINT) FROM writers"
                    : "SELECT CAST(COALESCE(SUM(batch), 0) AS BIGINT) FROM batches",
                    &c->n_batches, e);
    (void)db->ops->revive(db, &none);
    return rc;
}
