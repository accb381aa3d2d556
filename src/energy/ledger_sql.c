/* ledger_sql.c: the ledger's tables, their upgrades, batches and retention, in statements that SQLite
 * and PostgreSQL read alike. Reports are ledger_report.c's. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "energy/ledger_db.h"

#define HOUR_S   3600
#define DAY_H    24
#define SQL_MAX  LEDGER_SQL_MAX
#define PUT_MAX  4096

const struct ledger_amount_name ledger_amounts[LEDGER_N_AMOUNTS] = {
#define ROW(f) { #f, offsetof(struct ledger_sum, f) },
    LEDGER_SUMS(ROW)
#undef ROW
};

/* Sums with keys, and again without: reports that don't ask for keys read a few rows an hour. */
const struct ledger_table ledger_sums[LEDGER_N_TABLES] = {
    { "hours", "hour", 1, true }, { "days", "day", DAY_H, true },
    { "hours_all_keys", "hour", 1, false }, { "days_all_keys", "day", DAY_H, false },
};

int64_t *ledger_amount_of(struct ledger_sum *s, size_t i)
{
    return (int64_t *)(void *)((char *)s + ledger_amounts[i].offset);
}

bool ledger_sum_add(struct ledger_sum *to, const struct ledger_sum *s)
{
    struct ledger_sum from = *s;
    bool over = false;

    for (size_t i = 0; i < LEDGER_N_AMOUNTS; i++)
        over |= __builtin_add_overflow(*ledger_amount_of(to, i), *ledger_amount_of(&from, i),
                                       ledger_amount_of(to, i));
    return !over;
}

int64_t ledger_floor(int64_t s, int64_t unit)
{
    return s >= 0 ? s / unit : -((-s + unit - 1) / unit);
}

static int64_t hour_of(int64_t ms)
{
    return ledger_floor(ledger_floor(ms, 1000), HOUR_S);
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

static int make_sums(struct ledger_db *db, const struct ledger_table *table, struct err *e)
{
    struct str s;
    int rc;

    str_init(&s, SQL_MAX);
    str_printf(&s, "CREATE TABLE IF NOT EXISTS %s (%s BIGINT NOT NULL%s, model TEXT NOT NULL, "
               "source TEXT NOT NULL, currency TEXT NOT NULL", table->name, table->unit,
               table->keys ? ", key TEXT NOT NULL" : "");
    for (size_t i = 0; i < LEDGER_N_AMOUNTS; i++)
        str_printf(&s, ", %s BIGINT NOT NULL", ledger_amounts[i].name);
    str_printf(&s, ", PRIMARY KEY (%s%s, model, source, currency))", table->unit,
               table->keys ? ", key" : "");
    rc = str_ok(&s) ? run(db, str_cstr(&s), e) : err_set(e, WATT_ENOMEM, "ledger");
    str_deinit(&s);
    return rc;
}

/* The sums of version 1, which had them by key only, without keys. */
static int fill_sums(struct ledger_db *db, const struct ledger_table *to,
                     const struct ledger_table *from, struct err *e)
{
    struct str s;
    int rc;

    str_init(&s, SQL_MAX);
    str_printf(&s, "INSERT INTO %s SELECT %s, model, source, currency", to->name, from->unit);
    for (size_t i = 0; i < LEDGER_N_AMOUNTS; i++)
        str_printf(&s, ", CAST(SUM(%s) AS BIGINT)", ledger_amounts[i].name);
    str_printf(&s, " FROM %s GROUP BY %s, model, source, currency", from->name, from->unit);
    rc = str_ok(&s) ? run(db, str_cstr(&s), e) : err_set(e, WATT_ENOMEM, "ledger");
    str_deinit(&s);
    return rc;
}

int ledger_one_number(void *ctx, const struct ledger_value *v, size_t n, struct err *e)
{
    (void)e;
    if (n > 0 && v[0].type == LEDGER_INT)
        *(int64_t *)ctx = v[0].i;
    return 0;
}

int ledger_get(struct ledger_db *db, const char *name, int64_t *out, struct err *e)
{
    const struct ledger_value p = ledger_str(name);

    *out = 0;
    return db->ops->run(db, "SELECT value FROM ledger WHERE name = $1", false, &p, 1,
                        ledger_one_number, out, e);
}

/* Version 2 has sums without keys. What marks batches has another name, so that a server of the
 * old version that still runs can't go on writing sums that lack a part: its entries wait. */
static int upgrade(struct ledger_db *db, struct err *e)
{
    int rc = run(db, "ALTER TABLE writers RENAME TO batches", e);

    if (rc == 0)
        rc = fill_sums(db, &ledger_sums[2], &ledger_sums[0], e);
    if (rc == 0)
        rc = fill_sums(db, &ledger_sums[3], &ledger_sums[1], e);
    return rc < 0 ? rc : run(db, "UPDATE ledger SET value = 2 WHERE name = 'version'", e);
}

static int check_version(int64_t version, struct err *e)
{
    if (version >= 1 && version <= LEDGER_VERSION)
        return 0;
    return err_set(e, WATT_EFORMAT, "ledger: version %" PRId64 ", this program knows 1 to %d", version,
                   LEDGER_VERSION);
}

/* Inside a transaction that keeps others out. A database without tables gets this version's. */
static int make_tables(struct ledger_db *db, int64_t *version, struct err *e)
{
    static const char *const first[] = {
        "CREATE TABLE IF NOT EXISTS ledger (name TEXT PRIMARY KEY, value BIGINT NOT NULL)",
        "INSERT INTO ledger VALUES ('version', 2) ON CONFLICT DO NOTHING",
        "INSERT INTO ledger VALUES ('requests_from', 0) ON CONFLICT DO NOTHING",
        "INSERT INTO ledger VALUES ('hours_from', 0) ON CONFLICT DO NOTHING",
        requests_sql,
        "CREATE INDEX IF NOT EXISTS requests_by_hour ON requests (hour)",
    };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof first / sizeof *first; i++)
        rc = run(db, first[i], e);
    if (rc == 0)
        rc = ledger_get(db, "version", version, e);
    if (rc == 0)
        rc = check_version(*version, e);
    for (size_t i = 0; rc == 0 && i < LEDGER_N_TABLES; i++)
        rc = make_sums(db, &ledger_sums[i], e);
    if (rc == 0 && *version == 1) {
        rc = upgrade(db, e);
        *version = LEDGER_VERSION;
    }
    return rc < 0 ? rc : run(db, "CREATE TABLE IF NOT EXISTS batches (writer TEXT PRIMARY KEY, "
                             "batch BIGINT NOT NULL, time_s BIGINT NOT NULL)", e);
}

static int open_tables(struct ledger_db *db, int64_t *version, struct err *e)
{
    int rc = run(db, db->ops->begin, e);

    if (rc == 0 && db->ops->exclusive)
        rc = run(db, db->ops->exclusive, e);
    if (rc == 0)
        rc = make_tables(db, version, e);
    if (rc == 0)
        rc = run(db, "COMMIT", e);
    if (rc < 0) {
        struct err none;

        (void)db->ops->revive(db, &none);
    }
    return rc;
}

int ledger_tables(struct ledger_db *db, bool read_only, struct err *e)
{
    int64_t version = 0;
    int rc = read_only ? ledger_get(db, "version", &version, e) : open_tables(db, &version, e);

    if (rc == 0)
        rc = check_version(version, e);
    db->version = (int)version;
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

int ledger_compare(const void *a_, const void *b_)
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
        while (at > 0 && ledger_compare(&sums[at - 1], &s) != 0)   /* neighbours are often alike */
            at--;
        if (at == 0)
            sums[k++] = s;
        add_item(at == 0 ? &sums[k - 1] : &sums[at - 1], items[i]);
    }
    qsort(sums, k, sizeof *sums, ledger_compare);
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

/* "INSERT INTO hours … ON CONFLICT … DO UPDATE SET n = hours.n + excluded.n, …" */
static int make_put(const struct ledger_table *table, char sql[PUT_MAX], struct err *e)
{
    const char *key = table->keys ? " key," : "";
    struct str t;
    int rc = 0;

    str_init(&t, PUT_MAX - 1);
    str_printf(&t, "INSERT INTO %s (%s,%s model, source, currency", table->name, table->unit, key);
    for (size_t i = 0; i < LEDGER_N_AMOUNTS; i++)
        str_printf(&t, ", %s", ledger_amounts[i].name);
    str_puts(&t, ") VALUES ($1");
    for (size_t i = 1; i < LEDGER_N_AMOUNTS + (table->keys ? 5u : 4u); i++)
        str_printf(&t, ",$%zu", i + 1);
    str_printf(&t, ") ON CONFLICT (%s,%s model, source, currency) DO UPDATE SET ", table->unit, key);
    for (size_t i = 0; i < LEDGER_N_AMOUNTS; i++)
        str_printf(&t, "%s%s = %s.%s + excluded.%s", i ? ", " : "", ledger_amounts[i].name,
                   table->name, ledger_amounts[i].name, ledger_amounts[i].name);
    if (str_ok(&t))
        (void)snprintf(sql, PUT_MAX, "%s", str_cstr(&t));
    else
        rc = err_set(e, WATT_ENOMEM, "ledger");
    str_deinit(&t);
    return rc;
}

static int put_sum(struct ledger_db *db, size_t which, const struct ledger_sum *s, struct err *e)
{
    static _Thread_local char made[LEDGER_N_TABLES][PUT_MAX];   /* kept: statements are known by it */
    const struct ledger_table *table = &ledger_sums[which];
    struct ledger_value p[5 + LEDGER_N_AMOUNTS];
    struct ledger_sum copy = *s;
    size_t n = 0;
    int rc = made[which][0] ? 0 : make_put(table, made[which], e);

    if (rc < 0)
        return rc;
    p[n++] = ledger_int(ledger_floor(s->from_s, table->hours));
    if (table->keys)
        p[n++] = ledger_str(s->key);
    p[n++] = ledger_str(s->model);
    p[n++] = ledger_str(s->source);
    p[n++] = ledger_str(s->currency);
    for (size_t i = 0; i < LEDGER_N_AMOUNTS; i++)
        p[n++] = ledger_int(*ledger_amount_of(&copy, i));
    return db->ops->run(db, made[which], true, p, n, NULL, NULL, e);
}

/* Adds up what differs by the key alone; they are sorted again, with empty keys. */
static size_t without_keys(struct ledger_sum *sums, size_t n)
{
    size_t k = 0;

    for (size_t i = 0; i < n; i++)
        memset(sums[i].key, 0, sizeof sums[i].key);
    qsort(sums, n, sizeof *sums, ledger_compare);
    for (size_t i = 0; i < n; i++)
        if (k > 0 && ledger_compare(&sums[k - 1], &sums[i]) == 0)
            (void)ledger_sum_add(&sums[k - 1], &sums[i]);   /* a thousand at most of what fits in each */
        else
            sums[k++] = sums[i];
    return k;
}

static int put_sums(struct ledger_db *db, size_t which, const struct ledger_sum *sums, size_t n,
                    struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = put_sum(db, which, &sums[i], e);
    return rc;
}

static int put_batch(struct ledger_db *db, const char *writer, int64_t batch,
                     const struct ledger_item *const *items, size_t n, struct ledger_sum *sums,
                     struct err *e)
{
    static const char mark[] =
        "INSERT INTO batches VALUES ($1, $2, $3) ON CONFLICT (writer) DO UPDATE SET "
        "batch = excluded.batch, time_s = excluded.time_s";
    const struct ledger_value p[] = {
        ledger_str(writer), ledger_int(batch), ledger_int(items[n - 1]->e.time_ms / 1000),
    };
    size_t k = group(items, n, sums);
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n; i++)
        if (!items[i]->is_idle)
            rc = put_request(db, &items[i]->e, e);
    for (size_t t = 0; rc == 0 && t < LEDGER_N_TABLES; t++) {
        if (t == 2)
            k = without_keys(sums, k);
        rc = put_sums(db, t, sums, k, e);
    }
    return rc == 0 ? db->ops->run(db, mark, true, p, 3, NULL, NULL, e) : rc;
}

int ledger_write(struct ledger_db *db, const char *writer, int64_t batch,
                 const struct ledger_item *const *items, size_t n, struct ledger_sum *sums,
                 struct err *e)
{
    static const char known[] = "SELECT batch FROM batches WHERE writer = $1";
    const struct ledger_value p = ledger_str(writer);
    int64_t last = 0;
    struct err none;
    int rc = run(db, db->ops->begin, e);

    if (rc == 0)        /* a commit whose answer was lost is no reason to write twice */
        rc = db->ops->run(db, known, true, &p, 1, ledger_one_number, &last, e);
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
    if (rc == 0 && hour_days != UINT_MAX)
        rc = forget(db, "DELETE FROM hours_all_keys WHERE hour < $1", "hours_from",
                    (today - hour_days) * DAY_H, e);
    if (rc == 0)
        rc = run(db, "COMMIT", e);
    if (rc < 0)
        (void)db->ops->revive(db, &none);
    return rc;
}

