/* ledger_sqlite.c: the ledger's statements over SQLite in WAL mode. */
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "energy/ledger_db.h"

#define APPLICATION_ID 0x57415454       /* "WATT" */
#define MAX_KEPT    16
#define MAX_COLUMNS 40

struct sqlite {
    struct ledger_db db;
    sqlite3 *s;
    struct { const char *sql; sqlite3_stmt *st; } kept[MAX_KEPT];
    int      n_kept;
    char    *path;
};

static int code_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_NOTADB: case SQLITE_CORRUPT: case SQLITE_FORMAT: return WATT_EFORMAT;
    case SQLITE_BUSY: case SQLITE_LOCKED: return WATT_EBUSY;
    case SQLITE_NOMEM: return WATT_ENOMEM;
    default: return WATT_EIO;
    }
}

static int failed(const struct sqlite *q, int rc, struct err *e)
{
    return err_set(e, code_of(rc), "ledger %s: %s", q->path,
                   q->s ? sqlite3_errmsg(q->s) : sqlite3_errstr(rc));
}

static void sqlite_close(struct ledger_db *db)
{
    struct sqlite *q = (struct sqlite *)db;

    for (int i = 0; i < q->n_kept; i++)
        (void)sqlite3_finalize(q->kept[i].st);
    (void)sqlite3_close_v2(q->s);
    mem_free(q->path);
    mem_free(q);
}

static int prepare(struct sqlite *q, const char *sql, bool keep, sqlite3_stmt **out, bool *kept,
                   struct err *e)
{
    int rc;

    *kept = false;
    for (int i = 0; keep && i < q->n_kept; i++)
        if (q->kept[i].sql == sql) {
            *out = q->kept[i].st;
            *kept = true;
            return 0;
        }
    rc = sqlite3_prepare_v3(q->s, sql, -1, keep ? SQLITE_PREPARE_PERSISTENT : 0, out, NULL);
    if (rc != SQLITE_OK)
        return failed(q, rc, e);
    if (keep && q->n_kept < MAX_KEPT) {
        q->kept[q->n_kept].sql = sql;
        q->kept[q->n_kept++].st = *out;
        *kept = true;
    }
    return 0;
}

static int bind(sqlite3_stmt *st, const struct ledger_value *p, size_t n)
{
    int rc = SQLITE_OK;

    for (size_t i = 0; i < n && rc == SQLITE_OK; i++) {
        const int at = (int)i + 1;

        if (p[i].type == LEDGER_INT)
            rc = sqlite3_bind_int64(st, at, p[i].i);
        else if (p[i].type == LEDGER_STR)
            rc = sqlite3_bind_text(st, at, p[i].s, -1, SQLITE_STATIC);
        else
            rc = sqlite3_bind_null(st, at);
    }
    return rc;
}

static int give_row(sqlite3_stmt *st, ledger_row_fn *fn, void *ctx, struct err *e)
{
    struct ledger_value v[MAX_COLUMNS];
    const int n = sqlite3_column_count(st);

    for (int i = 0; i < n && i < MAX_COLUMNS; i++) {
        sqlite3_value *x = sqlite3_column_value(st, i);     /* one look; good until the next step */
        const int type = sqlite3_value_type(x);

        if (type == SQLITE_NULL)
            v[i] = (struct ledger_value){ .type = LEDGER_NULL };
        else if (type == SQLITE_INTEGER)
            v[i] = ledger_int(sqlite3_value_int64(x));
        else
            v[i] = ledger_str((const char *)sqlite3_column_text(st, i));
        if (v[i].type == LEDGER_STR && !v[i].s)
            v[i].s = "";
    }
    return fn(ctx, v, (size_t)(n < MAX_COLUMNS ? n : MAX_COLUMNS), e);
}

static int sqlite_run(struct ledger_db *db, const char *sql, bool keep,
                      const struct ledger_value *p, size_t n, ledger_row_fn *fn, void *ctx,
                      struct err *e)
{
    struct sqlite *q = (struct sqlite *)db;
    sqlite3_stmt *st = NULL;
    bool kept;
    int rc = prepare(q, sql, keep, &st, &kept, e), got;

    if (rc < 0)
        return rc;
    got = bind(st, p, n);
    while (rc == 0 && got == SQLITE_OK && (got = sqlite3_step(st)) == SQLITE_ROW) {
        rc = fn ? give_row(st, fn, ctx, e) : 0;
        got = SQLITE_OK;
    }
    if (rc == 0 && got != SQLITE_DONE)
        rc = failed(q, got, e);
    if (kept) {
        (void)sqlite3_reset(st);
        (void)sqlite3_clear_bindings(st);
    } else {
        (void)sqlite3_finalize(st);
    }
    return rc;
}

static int sqlite_revive(struct ledger_db *db, struct err *e)
{
    struct sqlite *q = (struct sqlite *)db;

    (void)e;
    if (!sqlite3_get_autocommit(q->s))
        (void)sqlite3_exec(q->s, "ROLLBACK", NULL, NULL, NULL);
    return 0;
}

static int first_word(void *ctx, const struct ledger_value *v, size_t n, struct err *e)
{
    (void)e;
    if (n > 0 && v[0].type == LEDGER_STR)
        (void)snprintf(ctx, 128, "%.127s", v[0].s);
    return 0;
}

static int sqlite_check(struct ledger_db *db, struct err *e)
{
    char word[128] = "";
    int rc = sqlite_run(db, "PRAGMA integrity_check(1)", false, NULL, 0, first_word, word, e);

    if (rc == 0 && strcmp(word, "ok") != 0)
        rc = err_set(e, WATT_EFORMAT, "ledger %s: %s", ((struct sqlite *)db)->path, word);
    return rc;
}

static const struct ledger_db_ops ops = {
    .close = sqlite_close, .run = sqlite_run, .revive = sqlite_revive, .check = sqlite_check,
    .begin = "BEGIN IMMEDIATE",
};

/* ---- opening ---- */

static int first_number(void *ctx, const struct ledger_value *v, size_t n, struct err *e)
{
    (void)e;
    *(int64_t *)ctx = n > 0 && v[0].type == LEDGER_INT ? v[0].i : 0;
    return 0;
}

static int number(struct sqlite *q, const char *sql, int64_t *out, struct err *e)
{
    *out = 0;
    return sqlite_run(&q->db, sql, false, NULL, 0, first_number, out, e);
}

/* Whose file is this? An empty one becomes ours. */
static int claim(struct sqlite *q, bool read_only, struct err *e)
{
    int64_t id, tables;
    char sql[64];
    int rc = number(q, "PRAGMA application_id", &id, e);

    if (rc == 0)
        rc = number(q, "SELECT count(*) FROM sqlite_master", &tables, e);
    if (rc < 0 || id == APPLICATION_ID)
        return rc;
    if (id != 0 || tables > 0 || read_only)
        return err_set(e, WATT_EFORMAT, "ledger %s: a database of another program", q->path);
    (void)snprintf(sql, sizeof sql, "PRAGMA application_id = %d", APPLICATION_ID);
    return sqlite_run(&q->db, sql, false, NULL, 0, NULL, NULL, e);
}

static int set_up(struct sqlite *q, const struct ledger_opts *o, struct err *e)
{
    char mode[128] = "";
    int rc;

    (void)sqlite3_busy_timeout(q->s, (int)o->busy_ms);
    (void)sqlite3_extended_result_codes(q->s, 1);
    rc = claim(q, o->read_only, e);
    if (rc < 0 || o->read_only)
        return rc;
    if (sqlite3_db_readonly(q->s, "main") == 1)
        return err_set(e, WATT_EIO, "ledger %s: the file may not be written", q->path);
    rc = sqlite_run(&q->db, "PRAGMA journal_mode = WAL", false, NULL, 0, first_word, mode, e);
    if (rc == 0 && strcmp(mode, "wal") != 0)
        rc = err_set(e, WATT_EIO, "ledger %s: this file system allows no write-ahead log", q->path);
    if (rc == 0)        /* a batch that was reported as written survives a power cut, too */
        rc = sqlite_run(&q->db, "PRAGMA synchronous = FULL", false, NULL, 0, NULL, NULL, e);
    return rc;
}

/* Readers of a write-ahead log make a file beside it. Where they may not, a ledger that nobody
 * writes can be read all the same: it has no log, and is told not to change. */
static int open_still(struct sqlite *q, const struct ledger_opts *o, struct err *e)
{
    struct str uri;
    int rc;

    str_init(&uri, 16384);
    str_puts(&uri, "file:");
    for (const char *p = q->path; *p; p++)
        if (strchr("?#%", *p))
            str_printf(&uri, "%%%02X", (unsigned)(unsigned char)*p);
        else
            str_printf(&uri, "%c", *p);
    str_puts(&uri, "?immutable=1");
    (void)sqlite3_close_v2(q->s);
    q->s = NULL;
    rc = str_ok(&uri) ? sqlite3_open_v2(str_cstr(&uri), &q->s, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI |
                                        SQLITE_OPEN_NOMUTEX, NULL) : SQLITE_NOMEM;
    str_deinit(&uri);
    return rc == SQLITE_OK ? set_up(q, o, e) : failed(q, rc, e);
}

static bool has_log(const char *path)
{
    char log[4096];
    const int n = snprintf(log, sizeof log, "%s-wal", path);

    return n < 0 || (size_t)n >= sizeof log || access(log, F_OK) == 0;
}

int ledger_sqlite_open(struct ledger_db **out, const char *path, const struct ledger_opts *o,
                       struct err *e)
{
    const int flags = (o->read_only ? SQLITE_OPEN_READONLY
                                    : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) |
                      SQLITE_OPEN_NOMUTEX;
    struct sqlite *q = mem_calloc(1, sizeof *q);
    int rc;

    if (!q || !(q->path = mem_strdup(path))) {
        mem_free(q);
        return err_set(e, WATT_ENOMEM, "ledger");
    }
    q->db.ops = &ops;
    rc = sqlite3_open_v2(path, &q->s, flags, NULL);
    rc = rc == SQLITE_OK ? set_up(q, o, e) : failed(q, rc, e);
    if (rc == WATT_EIO && o->read_only && access(path, R_OK) == 0 && !has_log(path))
        rc = open_still(q, o, e);
    if (rc < 0) {
        sqlite_close(&q->db);
        return rc;
    }
    *out = &q->db;
    return 0;
}
