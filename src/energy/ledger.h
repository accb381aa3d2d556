/* ledger.h: the book of requests: tokens, joules and money, kept through kill -9.
 *
 * A ledger is an SQLite file (WAL), or a PostgreSQL database that many servers share
 * (postgresql://…). Requests are entered into memory and written by a thread of the ledger's, in
 * batches of one transaction each: a batch is there whole or not at all, with the sums by hour and
 * day that belong to it, so that reports over years don't count requests. Details are kept for
 * some days, hours for longer, days for ever.
 *
 * Amounts are whole numbers (µJ, a billionth of the currency, µg of carbon), so sums by hour are
 * the sums of their requests exactly; ledger_verify() adds them up.
 *
 * When nothing can be written (a full disk, a file that somebody locks, a database that is away)
 * the service goes on: entries wait in memory, the thread tries again, ledger_state() says so, and
 * what finds no room any more is counted as lost. ledger_put() may be called by any thread and
 * takes no more than a lock and a copy. */
#ifndef ENERGY_LEDGER_H
#define ENERGY_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define LEDGER_TEXT      64u        /* bytes of a key's, model's, source's name with their NUL */
#define LEDGER_UNKNOWN   INT64_MIN  /* of an amount; money may be below 0 */

struct ledger;

enum ledger_status { LEDGER_OK, LEDGER_CANCELLED, LEDGER_FAILED };

struct ledger_entry {               /* one request; copied */
    int64_t  time_ms;               /* when it ended, since 1970 */
    char     key[LEDGER_TEXT], model[LEDGER_TEXT], source[LEDGER_TEXT], request[LEDGER_TEXT];
    char     currency[8];
    uint32_t n_input, n_cached, n_output, n_thinking;   /* as in tariff.h: none counts twice */
    int64_t  prefill_uj, decode_uj; /* LEDGER_UNKNOWN: not measured */
    int64_t  saved_uj;              /* by the cache; computed, not measured */
    int64_t  queue_us, prefill_us, decode_us, machine_us;
    int64_t  cost_nano, price_nano; /* billionths of the currency; LEDGER_UNKNOWN */
    int64_t  carbon_ug;             /* LEDGER_UNKNOWN */
    enum ledger_status status;
};

struct ledger_idle {                /* what the machine used while nobody asked for anything */
    int64_t  time_ms;
    char     source[LEDGER_TEXT], currency[8];
    int64_t  uj, ms, cost_nano, carbon_ug;
};

struct ledger_opts {                /* zero means the default */
    bool     read_only;             /* no thread; a missing file is an error */
    uint32_t max_waiting;           /* entries in memory; default 16,384 */
    uint32_t batch;                 /* most entries of a transaction; default 1,000 */
    unsigned flush_ms;              /* longest that an entry waits for others; default 200 */
    unsigned busy_ms;               /* how long a write waits for another's lock; default 2,000 */
    unsigned keep_days;             /* of requests; default 90; UINT_MAX: for ever */
    unsigned keep_hour_days;        /* of sums by hour; default 730 */
};

/* where: a path or postgresql://… A file that is no ledger, or one of a later version, is refused:
 * WATT_EFORMAT; WATT_EIO when it can't be opened or written, WATT_EBUSY when another holds it. */
int  ledger_open(struct ledger **out, const char *where, const struct ledger_opts *opts,
                 struct err *e) MUST_CHECK;
/* Writes what waits; NULL is fine. */
void ledger_close(struct ledger *l);

/* False: there was no room, the entry is lost and counted. */
bool ledger_put(struct ledger *l, const struct ledger_entry *entry);
/* Idle energy of the machine, added to the sums of the hour under empty names of key and model. */
bool ledger_put_idle(struct ledger *l, const struct ledger_idle *idle);
/* Waits until all that was put is on disk, at most wait_ms: false when it is not. */
bool ledger_flush(struct ledger *l, unsigned wait_ms);

struct ledger_state { uint64_t n_written, n_waiting, n_lost, n_batches; char why[256]; };
void ledger_state(struct ledger *l, struct ledger_state *s);    /* why "": all is well */

/* ---- reading: of a ledger opened read_only ---- */

enum ledger_by { LEDGER_BY_HOUR = 1, LEDGER_BY_DAY = 2, LEDGER_BY_MONTH = 4, LEDGER_BY_KEY = 8,
                 LEDGER_BY_MODEL = 16, LEDGER_BY_SOURCE = 32 };

struct ledger_query {
    int64_t  from_s, to_s;          /* since 1970, to exclusive; 0: open */
    unsigned by;                    /* enum ledger_by, or-ed */
    const char *key, *model;        /* only these; NULL: all */
};

struct ledger_sum {
    int64_t  from_s;                /* of the hour, day or month; 0 without */
    char     key[LEDGER_TEXT], model[LEDGER_TEXT], source[LEDGER_TEXT], currency[8];
    int64_t  n, n_failed;
    int64_t  n_input, n_cached, n_output, n_thinking;
    int64_t  n_measured;            /* requests whose joules are known */
    int64_t  prefill_uj, decode_uj, saved_uj, idle_uj, idle_ms;
    int64_t  queue_us, prefill_us, decode_us, machine_us;
    int64_t  n_costed, n_priced, cost_nano, price_nano, carbon_ug;
    int64_t  idle_cost_nano, idle_carbon_ug;    /* not in the cost of requests */
};

/* Adds s's amounts to another's. False: over 63 bits. */
bool ledger_sum_add(struct ledger_sum *to, const struct ledger_sum *s);

/* Calls fn for each group in order of time, key, model; a negative return of fn ends it. Amounts of
 * different currencies are never added, nor are estimates to what was measured: without
 * LEDGER_BY_SOURCE a group's source is "estimate" or "". */
int  ledger_report(struct ledger *l, const struct ledger_query *q,
                   int (*fn)(void *ctx, const struct ledger_sum *sum), void *ctx, struct err *e)
    MUST_CHECK;
/* Every request from..to, in order of time. */
int  ledger_each(struct ledger *l, const struct ledger_query *q,
                 int (*fn)(void *ctx, const struct ledger_entry *entry), void *ctx, struct err *e)
    MUST_CHECK;

struct ledger_check { int64_t n_requests, n_hours, n_days, n_batches; };
/* Is the file whole, and are hours the sums of requests, and days of hours? WATT_EFORMAT says
 * where not. */
int  ledger_verify(struct ledger *l, struct ledger_check *c, struct err *e) MUST_CHECK;

#endif
