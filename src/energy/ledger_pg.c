/* ledger_pg.c: the ledger's statements over PostgreSQL (libpq), for many servers with one book. */
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "energy/ledger_db.h"

#define MAX_KEPT    16
#define MAX_PARAMS  40
#define INT8_OID    20

struct pg {
    struct ledger_db db;
    PGconn     *c;
    const char *kept[MAX_KEPT];
    int         n_kept;
};

/* libpq's messages end in a newline and may have several lines. */
static int failed(const struct pg *p, const char *text, struct err *e)
{
    const char *m = text && *text ? text : PQerrorMessage(p->c);

    return err_set(e, PQstatus(p->c) == CONNECTION_OK ? WATT_EFORMAT : WATT_EIO,
                   "ledger in PostgreSQL: %.*s", (int)strcspn(m, "\n"), m);
}

static void pg_close(struct ledger_db *db)
{
    struct pg *p = (struct pg *)db;

    PQfinish(p->c);
    mem_free(p);
}

static int name_of(struct pg *p, const char *sql, char name[16], struct err *e)
{
    PGresult *r;
    int i = 0, rc = 0;

    while (i < p->n_kept && p->kept[i] != sql)
        i++;
    (void)snprintf(name, 16, "s%d", i);
    if (i < p->n_kept)
        return 0;
    if (i == MAX_KEPT)
        return err_set(e, WATT_ELIMIT, "ledger: over %d statements", MAX_KEPT);
    r = PQprepare(p->c, name, sql, 0, NULL);
    if (PQresultStatus(r) == PGRES_COMMAND_OK)
        p->kept[p->n_kept++] = sql;
    else
        rc = failed(p, PQresultErrorMessage(r), e);
    PQclear(r);
    return rc;
}

static int give_rows(PGresult *r, ledger_row_fn *fn, void *ctx, struct err *e)
{
    struct ledger_value v[MAX_PARAMS];
    const int n = PQnfields(r) < MAX_PARAMS ? PQnfields(r) : MAX_PARAMS;
    int rc = 0;

    for (int i = 0; rc >= 0 && i < PQntuples(r); i++) {
        for (int k = 0; k < n; k++) {
            if (PQgetisnull(r, i, k))
                v[k] = (struct ledger_value){ .type = LEDGER_NULL };
            else if (PQftype(r, k) == INT8_OID)
                v[k] = ledger_int(strtoll(PQgetvalue(r, i, k), NULL, 10));
            else
                v[k] = ledger_str(PQgetvalue(r, i, k));
        }
        rc = fn(ctx, v, (size_t)n, e);
    }
    return rc;
}

/* Whoever was told enough need not be sent the rest. */
static void cancel(struct pg *p)
{
    PGcancel *c = PQgetCancel(p->c);
    char why[64];

    if (c)
        (void)PQcancel(c, why, sizeof why);
    PQfreeCancel(c);
}

static int take_result(const struct pg *p, PGresult *r, ledger_row_fn *fn, void *ctx, struct err *e)
{
    const ExecStatusType status = PQresultStatus(r);

    if (status == PGRES_TUPLES_OK || status == PGRES_SINGLE_TUPLE)
        return fn ? give_rows(r, fn, ctx, e) : 0;
    return status == PGRES_COMMAND_OK ? 0 : failed(p, PQresultErrorMessage(r), e);
}

/* Row by row as they come: an export of millions of requests is never in memory at once. */
static int stream(struct pg *p, const char *sql, const char *const *values, int n, ledger_row_fn *fn,
                  void *ctx, struct err *e)
{
    PGresult *r;
    int rc = 0;

    if (!PQsendQueryParams(p->c, sql, n, NULL, values, NULL, NULL, 0))
        return failed(p, NULL, e);
    (void)PQsetSingleRowMode(p->c);
    while ((r = PQgetResult(p->c))) {
        const bool first = rc == 0;

        if (first)
            rc = take_result(p, r, fn, ctx, e);
        PQclear(r);
        if (first && rc < 0)
            cancel(p);
    }
    return rc;
}

static int pg_run(struct ledger_db *db, const char *sql, bool keep, const struct ledger_value *v,
                  size_t n, ledger_row_fn *fn, void *ctx, struct err *e)
{
    struct pg *p = (struct pg *)db;
    char numbers[MAX_PARAMS][24], name[16];
    const char *values[MAX_PARAMS];
    PGresult *r;
    int rc = 0;

    CHECK(n <= MAX_PARAMS);
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(numbers[i], sizeof numbers[i], "%" PRId64, v[i].i);
        values[i] = v[i].type == LEDGER_NULL ? NULL : v[i].type == LEDGER_INT ? numbers[i] : v[i].s;
    }
    if (!keep && fn)
        return stream(p, sql, values, (int)n, fn, ctx, e);
    if (keep && (rc = name_of(p, sql, name, e)) < 0)
        return rc;
    r = keep ? PQexecPrepared(p->c, name, (int)n, values, NULL, NULL, 0)
             : PQexecParams(p->c, sql, (int)n, NULL, values, NULL, NULL, 0);
    rc = take_result(p, r, fn, ctx, e);
    PQclear(r);
    return rc;
}

static int pg_revive(struct ledger_db *db, struct err *e)
{
    struct pg *p = (struct pg *)db;

    if (PQstatus(p->c) == CONNECTION_OK && PQtransactionStatus(p->c) != PQTRANS_IDLE)
        PQclear(PQexec(p->c, "ROLLBACK"));
    if (PQstatus(p->c) == CONNECTION_OK)
        return 0;
    PQreset(p->c);
    p->n_kept = 0;
    return PQstatus(p->c) == CONNECTION_OK ? 0 : failed(p, NULL, e);
}

static int pg_check(struct ledger_db *db, struct err *e)
{
    (void)db;
    (void)e;
    return 0;
}

static const struct ledger_db_ops ops = {
    .close = pg_close, .run = pg_run, .revive = pg_revive, .check = pg_check, .begin = "BEGIN",
    .exclusive = "SELECT pg_advisory_xact_lock(1463899220)",
};

static void say_nothing(void *ctx, const char *message)
{
    (void)ctx;
    (void)message;
}

int ledger_pg_open(struct ledger_db **out, const char *url, const struct ledger_opts *o,
                   struct err *e)
{
    /* what the URL says comes later and so goes before */
    const char *const keys[] = { "connect_timeout", "tcp_user_timeout", "application_name", "dbname",
                                 NULL };
    const char *const values[] = { "5", "10000", "watt", url, NULL };
    struct pg *p = mem_calloc(1, sizeof *p);
    int rc;

    (void)o;
    if (!p)
        return err_set(e, WATT_ENOMEM, "ledger");
    p->db.ops = &ops;
    p->c = PQconnectdbParams(keys, values, 1);
    if (!p->c || PQstatus(p->c) != CONNECTION_OK) {
        rc = p->c ? failed(p, NULL, e) : err_set(e, WATT_ENOMEM, "ledger");
        pg_close(&p->db);
        return rc;
    }
    (void)PQsetNoticeProcessor(p->c, say_nothing, NULL);
    *out = &p->db;
    return 0;
}
