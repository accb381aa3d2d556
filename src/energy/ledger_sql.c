/* ledger_sql.c: the ledger's tables, its batches and its reports, in statements that SQLite and
 * PostgreSQL read alike. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "energy/ledger_db.h"

#define VERSION  1
#define HOUR_S   3600
#define DAY_H    24
#define SQL_MAX  ((size_t)64 << 10)

/* Names of the amounts, their places in struct ledger_sum. */
static const struct { const char *name; size_t offset; } amounts[] = {
#define ROW(f) { #f, offsetof(struct ledger_sum, f) },
    LEDGER_SUMS(ROW)
#undef ROW
};
#define N_AMOUNTS (sizeof amounts / sizeof *amounts)

static int64_t *amount(struct ledger_sum *s, size_t i)
{
    return (int64_t *)(void *)((char *)s + amounts[i].offset);
}

static int64_t hour_of(int64_t ms)
{
    const int64_t s = ms / 1000;

    return s >= 0 ? s / HOUR_S : (s - HOUR_S + 1) / HOUR_S;
}

static int run(struct ledger_db *db, const char *sql, struct err *e)
{
    return db->ops->run(db, sql, false, NULL, 0, NULL, NULL, e);
}

/* ---- tables ---- */

static const char requests_sql[] =
    "CREATE TABLE IF NOT EXISTS requests (time_ms BIGINT NOT NULL, hour BIGINT NOT NULL, "
    "key TEXT NOT NULL, model TEXT NOT NULL, source TEXT NOT NULL, currency TEXT NOT NULL, "
    "request TEXT NOT NULL, n_input BIGINT NOT NULL, n_cached BIGINT NOT NULL, "
    "n_output BIGINT NOT NULL, n_thinking BIGINT NOT NULL, prefill_uj BIGINT, decode_uj BIGINT, "
    "saved_uj BIGINT NOT NULL, queue_us BIGINT NOT NULL, prefill_us BIGINT NOT NULL, "
    "decode_us BIGINT NOT NULL, machine_us BIGINT NOT NULL, cost_nano BIGINT, price_nano BIGINT, "
    "carbon_ug BIGINT, status BIGINT NOT NULL)";

static int make_sums(struct ledger_db *db, const char *table, const char *unit, struct err *e)
{
    struct str s;
    int rc;

    str_init(&s, SQL_MAX);
    str_printf(&s, "CREATE TABLE IF NOT EXISTS %s (%s BIGINT NOT NULL, key TEXT NOT NULL, "
               "model TEXT NOT NULL, source TEXT NOT NULL, currency TEXT NOT NULL", table, unit);
    for (size_t i = 0; i < N_AMOUNTS; i++)
        str_printf(&s, ", %s BIGINT NOT NULL", amounts[i].name);
    str_printf(&s, ", PRIMARY KEY (%s, key, model, source, currency))", unit);
    rc = run(db, str_cstr(&s), e);
    str_deinit(&s);
    return rc;
}

static int make_tables(struct ledger_db *db, struct err *e)
{
    static const char *const small[] = {
        "CREATE TABLE IF NOT EXISTS ledger (name TEXT PRIMARY KEY, value BIGINT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS writers (writer TEXT PRIMARY KEY, batch BIGINT NOT NULL, "
        "time_s BIGINT NOT NULL)",
        requests_sql,
        "CREATE INDEX IF NOT EXISTS requests_by_hour ON requests (hour)",
        "INSERT INTO ledger VALUES ('version', 1) ON CONFLICT DO NOTHING",
        "INSERT INTO ledger VALUES ('requests_from', 0) ON CONFLICT DO NOTHING",
        "INSERT INTO ledger VALUES ('hours_from', 0) ON CONFLICT DO NOTHING",
    };
    int rc = run(db, db->ops->begin, e);

    if (rc == 0 && db->ops->exclusive)
        rc = run(db, db->ops->exclusive, e);
    for (size_t i = 0; rc == 0 && i < sizeof small / sizeof *small; i++)
        rc = run(db, small[i], e);
    if (rc == 0)
        rc = make_sums(db, "hours", "hour", e);
    if (rc == 0)
        rc = make_sums(db, "days", "day", e);
    if (rc == 0)
        rc = run(db, "COMMIT", e);
    if (rc < 0) {
        struct err none;

        (void)db->ops->revive(db, &none);
    }
    return rc;
}

static int one_number(void *ctx, const struct ledger_value *v, size_t n, struct err *e)
{
    (void)e;
    if (n > 0 && v[0].type == LEDGER_INT)
        *(int64_t *)ctx = v[0].i;
    return 0;
}

static int get(struct ledger_db *db, const char *name, int64_t *out, struct err *e)
{
    const struct ledger_value p = ledger_str(name);

    *out = 0;
    return db->ops->run(db, "SELECT value FROM ledger WHERE name = $1", false, &p, 1, one_number,
                        out, e);
}

int ledger_tables(struct ledger_db *db, bool read_only, struct err *e)
{
    int64_t version = 0;
    int rc = read_only ? 0 : make_tables(db, e);

    if (rc == 0)
        rc = get(db, "version", &version, e);
    if (rc == 0 && version != VERSION)
        rc = err_set(e, WATT_EFORMAT, "ledger: version %" PRId64 ", this program knows %d", version,
                     VERSION);
    return rc;
}

/* ---- batches ---- */

static void begin_sum(struct ledger_sum *s, const struct ledger_item *it)
{
    *s = (struct ledger_sum){ .from_s = hour_of(it->e.time_ms) };
    memcpy(s->key, it->e.key, sizeof s->key);
    memcpy(s->model, it->e.model, sizeof s->model);
    memcpy(s->source, it->e.source, sizeof s->source);
    memcpy(s->currency, it->e.currency, sizeof s->currency);
}

static int compare(const void *a_, const void *b_)
{
    const struct ledger_sum *a = a_, *b = b_;
    int c = a->from_s < b->from_s ? -1 : a->from_s > b->from_s;

    c = c ? c : strcmp(a->key, b->key);
    c = c ? c : strcmp(a->model, b->model);
    c = c ? c : strcmp(a->source, b->source);
    return c ? c : strcmp(a->currency, b->currency);
}

static void add_known(int64_t *to, int64_t *n, int64_t v)
{
    if (v == LEDGER_UNKNOWN)
        return;
    *to += v;
    *n += n != NULL;
}

static void add_item(struct ledger_sum *s, const struct ledger_item *it)
{
    const struct ledger_entry *x = &it->e;
    int64_t ignored = 0;

    if (it->is_idle) {
        s->idle_uj += it->idle.uj;
        s->idle_ms += it->idle.ms;
        s->idle_cost_nano += it->idle.cost_nano;
        s->idle_carbon_ug += it->idle.carbon_ug;
        return;
    }
    s->n++;
    s->n_failed += x->status == LEDGER_FAILED;
    s->n_input += x->n_input;
    s->n_cached += x->n_cached;
    s->n_output += x->n_output;
    s->n_thinking += x->n_thinking;
    s->n_measured += x->prefill_uj >= 0 && x->decode_uj >= 0;
    add_known(&s->prefill_uj, &ignored, x->prefill_uj);
    add_known(&s->decode_uj, &ignored, x->decode_uj);
    s->saved_uj += x->saved_uj;
    s->queue_us += x->queue_us;
    s->prefill_us += x->prefill_us;
    s->decode_us += x->decode_us;
    s->machine_us += x->machine_us;
    add_known(&s->cost_nano, &s->n_costed, x->cost_nano);
    add_known(&s->price_nano, &s->n_priced, x->price_nano);
    add_known(&s->carbon_ug, &ignored, x->carbon_ug);
}

/* Sums by hour and names, sorted: two servers that write to the same rows take them in one order. */
static size_t group(const struct ledger_item *const *items, size_t n, struct ledger_sum *sums)
{
    size_t k = 0;

    for (size_t i = 0; i < n; i++) {
        struct ledger_sum s;
        size_t at = k;

        begin_sum(&s, items[i]);
        while (at > 0 && compare(&sums[at - 1], &s) != 0)   /* neighbours are often alike */
            at--;
        if (at == 0)
            sums[k++] = s;
        add_item(at == 0 ? &sums[k - 1] : &sums[at - 1], items[i]);
    }
    qsort(sums, k, sizeof *sums, compare);
    return k;
}

static int put_request(struct ledger_db *db, const struct ledger_entry *x, struct err *e)
{
    static const char sql[] =
        "INSERT INTO requests VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,"
        "$18,$19,$20,$21,$22)";
    const struct ledger_value p[] = {
        ledger_int(x->time_ms), ledger_int(hour_of(x->time_ms)), ledger_str(x->key),
        ledger_str(x->model), ledger_str(x->source), ledger_str(x->currency),
        ledger_str(x->request), ledger_int(x->n_input), ledger_int(x->n_cached),
        ledger_int(x->n_output), ledger_int(x->n_thinking), ledger_amount(x->prefill_uj),
        ledger_amount(x->decode_uj), ledger_int(x->saved_uj), ledger_int(x->queue_us),
        ledger_int(x->prefill_us), ledger_int(x->decode_us), ledger_int(x->machine_us),
        ledger_amount(x->cost_nano), ledger_amount(x->price_nano), ledger_amount(x->carbon_ug),
        ledger_int(x->status),
    };

    return db->ops->run(db, sql, true, p, sizeof p / sizeof *p, NULL, NULL, e);
}

/* "INSERT INTO hours … ON CONFLICT … DO UPDATE SET n = hours.n + excluded.n, …", made once. */
static int put_sum(struct ledger_db *db, bool day, const struct ledger_sum *s, struct err *e)
{
    static _Thread_local char made[2][4096];
    const char *table = day ? "days" : "hours", *unit = day ? "day" : "hour";
    struct ledger_value p[5 + N_AMOUNTS];
    char *sql = made[day];
    struct ledger_sum copy = *s;

    if (!sql[0]) {
        struct str t;

        str_init(&t, sizeof made[0] - 1);
        str_printf(&t, "INSERT INTO %s VALUES ($1,$2,$3,$4,$5", table);
        for (size_t i = 0; i < N_AMOUNTS; i++)
            str_printf(&t, ",$%zu", i + 6);
        str_printf(&t, ") ON CONFLICT (%s, key, model, source, currency) DO UPDATE SET ", unit);
        for (size_t i = 0; i < N_AMOUNTS; i++)
            str_printf(&t, "%s%s = %s.%s + excluded.%s", i ? ", " : "", amounts[i].name, table,
                       amounts[i].name, amounts[i].name);
        if (!str_ok(&t)) {
            str_deinit(&t);
            return err_set(e, WATT_ENOMEM, "ledger");
        }
        (void)snprintf(sql, sizeof made[0], "%s", str_cstr(&t));
        str_deinit(&t);
    }
    p[0] = ledger_int(day ? (s->from_s >= 0 ? s->from_s / DAY_H : (s->from_s - 23) / DAY_H)
                          : s->from_s);
    p[1] = ledger_str(s->key);
    p[2] = ledger_str(s->model);
    p[3] = ledger_str(s->source);
    p[4] = ledger_str(s->currency);
    for (size_t i = 0; i < N_AMOUNTS; i++)
        p[5 + i] = ledger_int(*amount(&copy, i));
    return db->ops->run(db, sql, true, p, 5 + N_AMOUNTS, NULL, NULL, e);
}

static int put_batch(struct ledger_db *db, const char *writer, int64_t batch,
                     const struct ledger_item *const *items, size_t n, struct ledger_sum *sums,
                     struct err *e)
{
    static const char mark[] =
        "INSERT INTO writers VALUES ($1, $2, $3) ON CONFLICT (writer) DO UPDATE SET "
        "batch = excluded.batch, time_s = excluded.time_s";
    const struct ledger_value p[] = {
        ledger_str(writer), ledger_int(batch), ledger_int(items[n - 1]->e.time_ms / 1000),
    };
    const size_t k = group(items, n, sums);
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n; i++)
        if (!items[i]->is_idle)
            rc = put_request(db, &items[i]->e, e);
    for (size_t i = 0; rc == 0 && i < k; i++)
        rc = put_sum(db, false, &sums[i], e);
    for (size_t i = 0; rc == 0 && i < k; i++)
        rc = put_sum(db, true, &sums[i], e);
    return rc == 0 ? db->ops->run(db, mark, true, p, 3, NULL, NULL, e) : rc;
}

int ledger_write(struct ledger_db *db, const char *writer, int64_t batch,
                 const struct ledger_item *const *items, size_t n, struct ledger_sum *sums,
                 struct err *e)
{
    static const char known[] = "SELECT batch FROM writers WHERE writer = $1";
    const struct ledger_value p = ledger_str(writer);
    int64_t last = 0;
    struct err none;
    int rc = run(db, db->ops->begin, e);

    if (rc == 0)        /* a commit whose answer was lost is no reason to write twice */
        rc = db->ops->run(db, known, true, &p, 1, one_number, &last, e);
    if (rc == 0 && last < batch)
        rc = put_batch(db, writer, batch, items, n, sums, e);
    if (rc == 0)
        rc = run(db, "COMMIT", e);
    if (rc < 0)
        (void)db->ops->revive(db, &none);
    return rc;
}

/* ---- retention ---- */

static int forget(struct ledger_db *db, const char *sql, const char *name, int64_t hour,
                  struct err *e)
{
    const struct ledger_value p[] = { ledger_int(hour) };
    const struct ledger_value q[] = { ledger_int(hour), ledger_str(name) };
    int rc = db->ops->run(db, sql, false, p, 1, NULL, NULL, e);

    return rc < 0 ? rc : db->ops->run(db, "UPDATE ledger SET value = $1 WHERE name = $2 AND "
                                      "value < $1", false, q, 2, NULL, NULL, e);
}

int ledger_retain(struct ledger_db *db, int64_t now_s, unsigned days, unsigned hour_days,
                  struct err *e)
{
    const int64_t today = now_s / HOUR_S / DAY_H;
    struct err none;
    int rc = run(db, db->ops->begin, e);

    if (rc == 0 && days != UINT_MAX)
        rc = forget(db, "DELETE FROM requests WHERE hour < $1", "requests_from",
                    (today - days) * DAY_H, e);
    if (rc == 0 && hour_days != UINT_MAX)
        rc = forget(db, "DELETE FROM hours WHERE hour < $1", "hours_from",
                    (today - hour_days) * DAY_H, e);
    if (rc == 0)
        rc = run(db, "COMMIT", e);
    if (rc < 0)
        (void)db->ops->revive(db, &none);
    return rc;
}

/* ---- reports ---- */

/* The time of a group as seconds: hours and days are numbered; a month is its first day. */
static const char *unit_of(const struct ledger_query *q, bool days)
{
    if (q->by & LEDGER_BY_HOUR)
        return "hour * 3600";
    if (q->by & (LEDGER_BY_DAY | LEDGER_BY_MONTH))
        return days ? "day * 86400" : "hour / 24 * 86400";
    return "CAST(0 AS BIGINT)";
}

static int64_t floor_to(int64_t s, int64_t unit)
{
    return s >= 0 ? s / unit : -((-s + unit - 1) / unit);
}

static int64_t ceil_to(int64_t s, int64_t unit)
{
    return -floor_to(-s, unit);
}

struct text_query { struct str sql; struct ledger_value p[4]; size_t n; };

static void where(struct text_query *t, const struct ledger_query *q, const char *unit, int64_t s)
{
    const char *word = " WHERE ";

    if (q->from_s) {
        t->p[t->n++] = ledger_int(floor_to(q->from_s, s));
        str_printf(&t->sql, "%s%s >= $%zu", word, unit, t->n);
        word = " AND ";
    }
    if (q->to_s) {
        t->p[t->n++] = ledger_int(ceil_to(q->to_s, s));
        str_printf(&t->sql, "%s%s < $%zu", word, unit, t->n);
        word = " AND ";
    }
    if (q->key) {
        t->p[t->n++] = ledger_str(q->key);
        str_printf(&t->sql, "%skey = $%zu", word, t->n);
        word = " AND ";
    }
    if (q->model) {
        t->p[t->n++] = ledger_str(q->model);
        str_printf(&t->sql, "%smodel = $%zu", word, t->n);
    }
}

static void select_sums(struct text_query *t, const struct ledger_query *q, bool days)
{
    const bool key = q->by & LEDGER_BY_KEY, model = q->by & LEDGER_BY_MODEL;
    const bool source = q->by & LEDGER_BY_SOURCE;

    str_printf(&t->sql, "SELECT %s AS t, %s, %s, %s, currency", unit_of(q, days),
               key ? "key" : "'' AS k", model ? "model" : "'' AS m", source ? "source"
               : "CASE WHEN source = 'estimate' THEN source ELSE '' END AS o");
    for (size_t i = 0; i < N_AMOUNTS; i++)
        str_printf(&t->sql, ", CAST(SUM(%s) AS BIGINT)", amounts[i].name);
    str_printf(&t->sql, " FROM %s", days ? "days" : "hours");
    where(t, q, days ? "day" : "hour", days ? HOUR_S * DAY_H : HOUR_S);
    str_puts(&t->sql, " GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5");
}

struct report {
    int (*fn)(void *ctx, const struct ledger_sum *sum);
    void *ctx;
    unsigned by;
    struct ledger_sum *months;      /* by month: groups wait here */
    size_t n, cap;
};

static void text(char *to, size_t size, const struct ledger_value *v)
{
    (void)snprintf(to, size, "%.*s", (int)size - 1, v->type == LEDGER_STR ? v->s : "");
}

/* First second of the month of a day, by the civil calendar (Howard Hinnant's algorithm). */
static int64_t month_of(int64_t s)
{
    const int64_t day = floor_to(s, 86400), z = day + 719468;
    const int64_t era = floor_to(z, 146097), doe = z - era * 146097;
    const int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    const int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

    return (day - (doy - (153 * mp + 2) / 5)) * 86400;
}

static int add_month(struct report *r, struct ledger_sum *s, struct err *e)
{
    s->from_s = month_of(s->from_s);
    for (size_t i = 0; i < r->n; i++)
        if (compare(&r->months[i], s) == 0) {
            for (size_t k = 0; k < N_AMOUNTS; k++)
                *amount(&r->months[i], k) += *amount(s, k);
            return 0;
        }
    if (r->n == r->cap) {
        const size_t cap = r->cap ? 2 * r->cap : 64;
        struct ledger_sum *p = mem_grow(r->months, cap, sizeof *p);

        if (!p)
            return err_set(e, WATT_ENOMEM, "ledger: %zu groups", cap);
        r->months = p;
        r->cap = cap;
    }
    r->months[r->n++] = *s;
    return 0;
}

static int take_sum(void *ctx, const struct ledger_value *v, size_t n, struct err *e)
{
    struct report *r = ctx;
    struct ledger_sum s = { 0 };

    if (n < 5 + N_AMOUNTS)
        return err_set(e, WATT_EFORMAT, "ledger: a report of %zu columns", n);
    s.from_s = v[0].i;
    text(s.key, sizeof s.key, &v[1]);
    text(s.model, sizeof s.model, &v[2]);
    text(s.source, sizeof s.source, &v[3]);
    text(s.currency, sizeof s.currency, &v[4]);
    for (size_t i = 0; i < N_AMOUNTS; i++)
        *amount(&s, i) = v[5 + i].type == LEDGER_INT ? v[5 + i].i : 0;
    if (r->by & LEDGER_BY_MONTH)
        return add_month(r, &s, e);
    return r->fn(r->ctx, &s) < 0 ? err_set(e, WATT_ECANCEL, "ledger: ended") : 0;
}

/* Days answer where they can: they are fewest and are kept for ever. */
int ledger_db_report(struct ledger_db *db, const struct ledger_query *q,
                     int (*fn)(void *ctx, const struct ledger_sum *sum), void *ctx, struct err *e)
{
    const bool days = !(q->by & LEDGER_BY_HOUR) && q->from_s % 86400 == 0 && q->to_s % 86400 == 0;
    struct report r = { .fn = fn, .ctx = ctx, .by = q->by };
    struct text_query t = { .n = 0 };
    int rc;

    str_init(&t.sql, SQL_MAX);
    select_sums(&t, q, days);
    rc = str_ok(&t.sql) ? db->ops->run(db, str_cstr(&t.sql), false, t.p, t.n, take_sum, &r, e)
                        : err_set(e, WATT_ENOMEM, "ledger");
    if (rc == 0 && r.n > 0)
        qsort(r.months, r.n, sizeof *r.months, compare);
    for (size_t i = 0; rc == 0 && i < r.n; i++)
        if (fn(ctx, &r.months[i]) < 0)
            rc = err_set(e, WATT_ECANCEL, "ledger: ended");
    mem_free(r.months);
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

    str_init(&t.sql, SQL_MAX);
    str_puts(&t.sql, "SELECT * FROM requests");
    where(&t, q, "hour", HOUR_S);
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

static void minus_sums(struct str *s, const char *table, const char *unit, bool idle, const char *sign)
{
    str_printf(s, "SELECT %s AS u, key, model, source, currency", unit);
    for (size_t i = 0; i < N_AMOUNTS; i++) {
        const bool zero = !idle && strncmp(amounts[i].name, "idle", 4) == 0;

        str_printf(s, ", %s%s AS %s", zero ? "" : sign, zero ? "0" : amounts[i].name,
                   amounts[i].name);
    }
    str_printf(s, " FROM %s", table);
}

static int differs(void *ctx, const struct ledger_value *v, size_t n, struct err *e)
{
    const char *what = ctx;

    (void)n;
    return err_set(e, WATT_EFORMAT, "ledger: %s %" PRId64 " of key '%.40s', model '%.40s' is not the "
                   "sum of its parts", what, v[0].i, v[1].s, v[2].s);
}

/* Parts minus sums are 0 in every group. */
static int compare_sums(struct ledger_db *db, bool day, int64_t from, struct err *e)
{
    char what[8];
    const struct ledger_value p[] = { ledger_int(from), ledger_int(from) };
    struct str s;
    int rc;

    (void)snprintf(what, sizeof what, "%s", day ? "day" : "hour");
    str_init(&s, SQL_MAX);
    str_puts(&s, "SELECT u, key, model, source, currency FROM (");
    if (day) {
        minus_sums(&s, "hours", "hour / 24", true, "");
        str_puts(&s, " WHERE hour >= $1 * 24");
    } else {
        str_puts(&s, request_as_sum);
    }
    str_puts(&s, " UNION ALL ");
    minus_sums(&s, day ? "days" : "hours", day ? "day" : "hour", day, "-");
    str_printf(&s, " WHERE %s >= $2) AS x GROUP BY u, key, model, source, currency HAVING ",
               day ? "day" : "hour");
    for (size_t i = 0; i < N_AMOUNTS; i++)
        str_printf(&s, "%sSUM(%s) <> 0", i ? " OR " : "", amounts[i].name);
    str_puts(&s, " LIMIT 1");
    rc = str_ok(&s) ? db->ops->run(db, str_cstr(&s), false, p, 2, differs, what, e)
                    : err_set(e, WATT_ENOMEM, "ledger");
    str_deinit(&s);
    return rc;
}

static int number(struct ledger_db *db, const char *sql, int64_t *out, struct err *e)
{
    *out = 0;
    return db->ops->run(db, sql, false, NULL, 0, one_number, out, e);
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
    rc = get(db, "requests_from", &requests_from, e);
    if (rc == 0)
        rc = get(db, "hours_from", &hours_from, e);
    if (rc == 0)
        rc = compare_sums(db, false, requests_from, e);
    if (rc == 0)
        rc = compare_sums(db, true, floor_to(hours_from, DAY_H), e);
    if (rc == 0)
        rc = number(db, "SELECT COUNT(*) FROM requests", &c->n_requests, e);
    if (rc == 0)
        rc = number(db, "SELECT COUNT(*) FROM hours", &c->n_hours, e);
    if (rc == 0)
        rc = number(db, "SELECT COUNT(*) FROM days", &c->n_days, e);
    if (rc == 0)
        rc = number(db, "SELECT CAST(COALESCE(SUM(batch), 0) AS BIGINT) FROM writers",
                    &c->n_batches, e);
    (void)db->ops->revive(db, &none);
    return rc;
}
