/* ledger_db.h: what the ledger asks of a database: statements with whole numbers and texts, over
 * SQLite (ledger_sqlite.c) or PostgreSQL (ledger_pg.c). Parameters are $1, $2, … and appear in that
 * order. One owner thread at a time. */
#ifndef ENERGY_LEDGER_DB_H
#define ENERGY_LEDGER_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "energy/ledger.h"

struct ledger_value {
    enum { LEDGER_NULL, LEDGER_INT, LEDGER_STR } type;
    int64_t     i;
    const char *s;
};

/* A row of an answer; a negative return ends the statement with it. */
typedef int ledger_row_fn(void *ctx, const struct ledger_value *v, size_t n, struct err *e);

struct ledger_db;
struct ledger_db_ops {
    void (*close)(struct ledger_db *db);
    /* keep: the statement will come again, and its text stays where it is. fn may be NULL. */
    int  (*run)(struct ledger_db *db, const char *sql, bool keep, const struct ledger_value *p,
                size_t n, ledger_row_fn *fn, void *ctx, struct err *e);
    /* After a failure: is there anybody to talk to? Tries to make it so. */
    int  (*revive)(struct ledger_db *db, struct err *e);
    /* Is the store itself whole? */
    int  (*check)(struct ledger_db *db, struct err *e);
    const char *begin;              /* a transaction that writes */
    const char *exclusive;          /* statement inside it that keeps others from creating tables */
};
struct ledger_db {
    const struct ledger_db_ops *ops;
    int version;                    /* of the tables; ledger_tables() sets it */
};

int ledger_sqlite_open(struct ledger_db **out, const char *path, const struct ledger_opts *o,
                       struct err *e) MUST_CHECK;
int ledger_pg_open(struct ledger_db **out, const char *url, const struct ledger_opts *o,
                   struct err *e) MUST_CHECK;

static inline struct ledger_value ledger_int(int64_t i)
{
    return (struct ledger_value){ .type = LEDGER_INT, .i = i };
}
static inline struct ledger_value ledger_amount(int64_t i)      /* LEDGER_UNKNOWN: NULL */
{
    return (struct ledger_value){ .type = i == LEDGER_UNKNOWN ? LEDGER_NULL : LEDGER_INT, .i = i };
}
static inline struct ledger_value ledger_str(const char *s)
{
    return (struct ledger_value){ .type = LEDGER_STR, .s = s };
}

/* ---- ledger_sql.c: tables and batches, for either ---- */

/* Every amount of struct ledger_sum, in order. */
#define LEDGER_SUMS(X)                                                                         \
    X(n) X(n_failed) X(n_input) X(n_cached) X(n_output) X(n_thinking) X(n_measured)            \
    X(prefill_uj) X(decode_uj) X(saved_uj) X(idle_uj) X(idle_ms) X(queue_us) X(prefill_us)     \
    X(decode_us) X(machine_us) X(n_costed) X(n_priced) X(cost_nano) X(price_nano) X(carbon_ug)  \
    X(idle_cost_nano) X(idle_carbon_ug)

#define LEDGER_VERSION  2
#define LEDGER_SQL_MAX  ((size_t)64 << 10)
#define LEDGER_N_TABLES 4

enum {
#define COUNT(f) LEDGER_INDEX_##f,
    LEDGER_SUMS(COUNT)
#undef COUNT
    LEDGER_N_AMOUNTS
};
extern const struct ledger_amount_name { const char *name; size_t offset; }
    ledger_amounts[LEDGER_N_AMOUNTS];
/* Tables of sums; those without keys come after those with them, in the same order. */
extern const struct ledger_table {
    const char *name, *unit;        /* unit: the column of time */
    int64_t hours;                  /* of one unit */
    bool    keys;
} ledger_sums[LEDGER_N_TABLES];

int64_t *ledger_amount_of(struct ledger_sum *s, size_t i);
int      ledger_compare(const void *a, const void *b);      /* of sums, by time and names; for qsort */
int64_t  ledger_floor(int64_t s, int64_t unit);             /* whole units, also before 1970 */
int      ledger_get(struct ledger_db *db, const char *name, int64_t *out, struct err *e) MUST_CHECK;
ledger_row_fn ledger_one_number;    /* into an int64_t */

struct ledger_item {                /* an entry that waits, or idle energy */
    struct ledger_entry e;
    bool    is_idle;
    struct ledger_idle idle;
};

/* Makes the tables where there are none, and those of an earlier version this one's; refuses those
 * of a later one. Only reading changes nothing: version 1 is read as it is. */
int ledger_tables(struct ledger_db *db, bool read_only, struct err *e) MUST_CHECK;
/* One transaction: the items, their sums, and that `writer` has written batch number `batch`. One
 * that is there already is left. sums: room for n. */
int ledger_write(struct ledger_db *db, const char *writer, int64_t batch,
                 const struct ledger_item *const *items, size_t n, struct ledger_sum *sums,
                 struct err *e) MUST_CHECK;
/* Deletes what is older than the days given; UINT_MAX: nothing. */
int ledger_retain(struct ledger_db *db, int64_t now_s, unsigned days, unsigned hour_days,
                  struct err *e) MUST_CHECK;

/* ---- ledger_report.c: as the functions of ledger.h without _db ---- */

int ledger_db_report(struct ledger_db *db, const struct ledger_query *q,
                     int (*fn)(void *ctx, const struct ledger_sum *sum), void *ctx, struct err *e)
    MUST_CHECK;
int ledger_db_each(struct ledger_db *db, const struct ledger_query *q,
                   int (*fn)(void *ctx, const struct ledger_entry *entry), void *ctx, struct err *e)
    MUST_CHECK;
int ledger_db_verify(struct ledger_db *db, struct ledger_check *c, struct err *e) MUST_CHECK;

#endif
