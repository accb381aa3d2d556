/* test_ledger.c: the book of requests: sums, retention, kill -9 at random moments, files that are
 * none, disks that are full; on SQLite, and on a PostgreSQL server that the test starts. --full
 * kills 1,000 times on each; a pattern behind it chooses tests. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <sqlite3.h>

#include "base/rng.h"
#include "energy/ledger.h"
#include "energy/ledger_db.h"
#include "pg_rig.h"
#include "remove_tree.h"

#define DAY_MS INT64_C(86400000)
#define START  (INT64_C(20779) * DAY_MS)

static char dir[32], path[64];
static bool full;

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "ledger-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/book.db", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)remove_tree(dir);
    return 0;
}

static struct ledger *open_at(const char *where, bool read_only)
{
    const struct ledger_opts o = { .read_only = read_only, .batch = 500, .flush_ms = 20,
                                   .keep_days = UINT_MAX, .keep_hour_days = UINT_MAX };
    struct ledger *l = NULL;
    struct err e = { 0 };

    if (ledger_open(&l, where, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return l;
}

static struct ledger_entry entry(uint32_t i)
{
    struct ledger_entry x = {
        .time_ms = START + (int64_t)i * 1000, .n_input = 10 + i % 7, .n_cached = i % 3, .n_output = 20,
        .n_thinking = i % 5, .prefill_uj = 1000 + i, .decode_uj = 5000, .saved_uj = 10,
        .queue_us = 1, .prefill_us = 2, .decode_us = 3, .machine_us = 4, .cost_nano = 100 + i,
        .price_nano = 300, .carbon_ug = 7, .currency = "EUR",
    };

    (void)snprintf(x.key, sizeof x.key, "key%u", i % 4);
    (void)snprintf(x.model, sizeof x.model, "model%u", i % 2);
    (void)snprintf(x.source, sizeof x.source, "rapl");
    (void)snprintf(x.request, sizeof x.request, "req_%u", i);
    return x;
}

struct total { int64_t n, joules, cost, idle, n_groups; struct ledger_sum last; };

static int add(void *ctx, const struct ledger_sum *s)
{
    struct total *t = ctx;

    t->n += s->n;
    t->joules += s->prefill_uj + s->decode_uj;
    t->cost += s->cost_nano;
    t->idle += s->idle_uj;
    t->n_groups++;
    t->last = *s;
    return 0;
}

static struct total total(struct ledger *l, const struct ledger_query *q)
{
    struct total t = { 0 };
    struct err e = { 0 };

    if (ledger_report(l, q, add, &t, &e) < 0)
        fail_msg("%s", e.msg);
    return t;
}

static int count_entry(void *ctx, const struct ledger_entry *x)
{
    struct total *t = ctx;

    t->n++;
    t->joules += x->prefill_uj == LEDGER_UNKNOWN ? 0 : x->prefill_uj + x->decode_uj;
    return 0;
}

struct ordered { struct ledger_sum last; int64_t n, joules, idle, n_groups; };

static int add_ordered(void *ctx, const struct ledger_sum *s)
{
    struct ordered *o = ctx;

    assert_true(o->n_groups == 0 || ledger_compare(&o->last, s) < 0);
    o->last = *s;
    o->n += s->n;
    o->joules += s->prefill_uj + s->decode_uj;
    o->idle += s->idle_uj;
    o->n_groups++;
    return 0;
}

/* Whatever is asked for, groups come sorted, each once, and add up to the same. */
static void all_groupings(struct ledger *l)
{
    const struct ledger_query all = { 0 };
    const struct total want = total(l, &all);
    struct err e = { 0 };
    int64_t n_by_key[8] = { 0 };

    for (unsigned by = 0; by < 64; by++) {
        struct ledger_query q = { .by = by };
        struct ordered o = { 0 };

        if (ledger_report(l, &q, add_ordered, &o, &e) < 0)
            fail_msg("%s", e.msg);
        assert_true(o.n == want.n && o.joules == want.joules && o.idle == want.idle);
        for (int key = 0; key < 4; key++) {     /* of one key: as many as in the report by keys */
            char name[8];
            struct total t;

            (void)snprintf(name, sizeof name, "key%d", key);
            q.key = name;
            q.from_s = START / 1000 + 3600;     /* no whole day: from the hours */
            t = total(l, &q);
            assert_true(n_by_key[key] == 0 || n_by_key[key] == t.n);
            n_by_key[key] = t.n;
        }
    }
    assert_true(n_by_key[0] > 0 && n_by_key[2] > 0);
}

/* A ledger of the first version, which had no sums without keys. */
static void make_old(const char *where)
{
    static const char *const statements[] = {
        "DROP TABLE hours_all_keys", "DROP TABLE days_all_keys",
        "ALTER TABLE batches RENAME TO writers",
        "UPDATE ledger SET value = 1 WHERE name = 'version'",
    };
    const struct ledger_opts o = { .busy_ms = 2000 };
    struct ledger_db *db = NULL;
    struct err e = { 0 };
    const bool pg = strncmp(where, "postgresql", 10) == 0;

    if ((pg ? ledger_pg_open : ledger_sqlite_open)(&db, where, &o, &e) < 0)
        fail_msg("%s", e.msg);
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (db->ops->run(db, statements[i], false, NULL, 0, NULL, NULL, &e) < 0)
            fail_msg("%s", e.msg);
    db->ops->close(db);
}

static void upgrading(const char *where)
{
    struct ledger_check c;
    struct err e = { 0 };
    struct ledger *l;
    const struct ledger_entry x = entry(1);
    int64_t n;

    make_old(where);
    l = open_at(where, true);                   /* is read as it is */
    all_groupings(l);
    if (ledger_verify(l, &c, &e) < 0)
        fail_msg("%s", e.msg);
    n = c.n_requests;
    ledger_close(l);
    l = open_at(where, false);
    assert_true(ledger_put(l, &x));
    ledger_close(l);
    l = open_at(where, true);
    all_groupings(l);
    if (ledger_verify(l, &c, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(c.n_requests, n + 1);
    ledger_close(l);
}

/* What any database must do. */
static void everything(const char *where)
{
    const struct ledger_query all = { 0 }, by_key = { .by = LEDGER_BY_KEY | LEDGER_BY_DAY },
        one = { .key = "key1", .model = "model1", .from_s = START / 1000,
                .to_s = (START + DAY_MS) / 1000 },
        month = { .by = LEDGER_BY_MONTH }, hours = { .by = LEDGER_BY_HOUR };
    const struct ledger_idle idle = { .time_ms = START, .source = "rapl", .currency = "EUR",
                                      .uj = 777, .ms = 5, .cost_nano = 3 };
    struct ledger_check c;
    struct ledger_state s;
    struct err e = { 0 };
    struct ledger *l = open_at(where, false);
    struct ledger_entry odd = entry(0);
    struct total t;
    int64_t joules = 0, cost = 0;

    for (uint32_t i = 0; i < 10000; i++) {
        const struct ledger_entry x = entry(i * 30);

        joules += x.prefill_uj + x.decode_uj;
        cost += x.cost_nano;
        assert_true(ledger_put(l, &x));
    }
    odd.prefill_uj = odd.decode_uj = odd.price_nano = odd.carbon_ug = LEDGER_UNKNOWN;
    odd.cost_nano = -50;                        /* paid for using power */
    odd.status = LEDGER_FAILED;
    (void)snprintf(odd.model, sizeof odd.model, "caf\xC3\xA9 \xFF'); DROP TABLE requests; --");
    assert_true(ledger_put(l, &odd));
    odd = entry(0);
    (void)snprintf(odd.source, sizeof odd.source, "estimate");
    (void)snprintf(odd.key, sizeof odd.key, "guess");
    assert_true(ledger_put(l, &odd));
    assert_true(ledger_put_idle(l, &idle));
    assert_true(ledger_flush(l, 120000));
    ledger_state(l, &s);
    assert_int_equal(s.n_written, 10003);
    assert_int_equal(s.n_lost, 0);
    assert_string_equal(s.why, "");
    assert_true(ledger_report(l, &all, add, &t, &e) < 0);       /* the thread has it */
    ledger_close(l);

    l = open_at(where, true);
    assert_false(ledger_put(l, &odd));
    t = total(l, &all);
    assert_int_equal(t.n, 10002);
    assert_int_equal(t.n_groups, 2);            /* what was estimated is never added to the rest */
    assert_string_equal(t.last.source, "estimate");
    assert_int_equal(t.joules - odd.prefill_uj - odd.decode_uj, joules);
    assert_int_equal(t.cost - odd.cost_nano, cost - 50);
    assert_int_equal(t.idle, 777);
    t = total(l, &by_key);
    assert_int_equal(t.n_groups, 2 * 4 + 2);    /* two keys; 300,000 s touch four days; idle; a guess */
    t = total(l, &one);
    assert_int_equal(t.n, 0);                   /* odd keys, even requests of 30 */
    t = total(l, &hours);
    assert_int_equal(t.n_groups, 84 + 1);
    t = total(l, &month);
    assert_int_equal(t.n, 10002);
    assert_int_equal(t.last.from_s % 86400, 0);
    t = (struct total){ 0 };
    assert_int_equal(ledger_each(l, &all, count_entry, &t, &e), 0);
    assert_int_equal(t.n, 10002);
    if (ledger_verify(l, &c, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(c.n_requests, 10002);
    all_groupings(l);
    ledger_close(l);
    upgrading(where);
}

static void test_sqlite(void **state)
{
    (void)state;
    everything(path);
}

/* A file where one number was changed does not add up. */
static void test_verify(void **state)
{
    struct ledger *l = open_at(path, false);
    struct ledger_check c;
    struct err e = { 0 };
    const struct ledger_entry x = entry(1);
    const struct ledger_query by_key = { .by = LEDGER_BY_KEY };
    struct total t = { 0 };
    sqlite3 *s = NULL;

    (void)state;
    assert_true(ledger_put(l, &x));
    ledger_close(l);
    assert_int_equal(sqlite3_open(path, &s), SQLITE_OK);
    assert_int_equal(sqlite3_exec(s, "UPDATE requests SET decode_uj = decode_uj + 1", NULL, NULL,
                                  NULL), SQLITE_OK);
    l = open_at(path, true);
    assert_int_equal(ledger_verify(l, &c, &e), WATT_EFORMAT);
    assert_non_null(strstr(e.msg, "in hours,"));
    assert_int_equal(sqlite3_exec(s, "UPDATE hours SET decode_uj = decode_uj + 1", NULL, NULL,
                                  NULL), SQLITE_OK);
    assert_int_equal(ledger_verify(l, &c, &e), WATT_EFORMAT);
    assert_non_null(strstr(e.msg, "in days,"));
    assert_int_equal(sqlite3_exec(s, "UPDATE days SET decode_uj = decode_uj + 1", NULL, NULL,
                                  NULL), SQLITE_OK);
    assert_int_equal(ledger_verify(l, &c, &e), WATT_EFORMAT);
    assert_non_null(strstr(e.msg, "in hours_all_keys,"));
    assert_int_equal(sqlite3_exec(s, "UPDATE hours_all_keys SET decode_uj = decode_uj + 1", NULL,
                                  NULL, NULL), SQLITE_OK);
    assert_int_equal(ledger_verify(l, &c, &e), WATT_EFORMAT);
    assert_non_null(strstr(e.msg, "in days_all_keys,"));
    assert_int_equal(sqlite3_exec(s, "UPDATE days_all_keys SET decode_uj = decode_uj + 1", NULL,
                                  NULL, NULL), SQLITE_OK);
    assert_int_equal(ledger_verify(l, &c, &e), 0);
    assert_int_equal(sqlite3_exec(s, "UPDATE days SET decode_uj = 9223372036854775807; INSERT INTO "
                                  "days SELECT day + 1, key, model, source, currency, n, n_failed, "
                                  "n_input, n_cached, n_output, n_thinking, n_measured, prefill_uj, "
                                  "decode_uj, saved_uj, idle_uj, idle_ms, queue_us, prefill_us, "
                                  "decode_us, machine_us, n_costed, n_priced, cost_nano, price_nano, "
                                  "carbon_ug, idle_cost_nano, idle_carbon_ug FROM days", NULL,
                                  NULL, NULL), SQLITE_OK);
    assert_int_equal(ledger_report(l, &by_key, add, &t, &e), WATT_EFORMAT);
    assert_non_null(strstr(e.msg, "over 63 bits"));
    ledger_close(l);
    (void)sqlite3_close(s);
}

static void test_retention(void **state)
{
    struct ledger_db *db = NULL;
    struct ledger_opts o = { .busy_ms = 100 };
    struct ledger_item items[40];
    const struct ledger_item *list[40];
    struct ledger_sum sums[40];
    struct ledger_check c;
    struct err e = { 0 };
    const struct ledger_query all = { .by = LEDGER_BY_DAY };
    struct ledger *l;
    struct total t;

    (void)state;
    assert_int_equal(ledger_sqlite_open(&db, path, &o, &e), 0);
    assert_int_equal(ledger_tables(db, false, &e), 0);
    for (uint32_t i = 0; i < 40; i++) {
        items[i] = (struct ledger_item){ .e = entry(i) };
        items[i].e.time_ms = START + i * DAY_MS;
        list[i] = &items[i];
    }
    assert_int_equal(ledger_write(db, "w", 1, list, 40, sums, &e), 0);
    assert_int_equal(ledger_write(db, "w", 1, list, 40, sums, &e), 0);      /* once is enough */
    assert_int_equal(ledger_retain(db, (START + 40 * DAY_MS) / 1000, 10, 20, &e), 0);
    db->ops->close(db);
    l = open_at(path, true);
    if (ledger_verify(l, &c, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(c.n_requests, 10);
    assert_int_equal(c.n_hours, 20);
    assert_int_equal(c.n_days, 40);
    t = total(l, &all);
    assert_int_equal(t.n, 40);
    ledger_close(l);
}

static void refuse(bool read_only, int code, const char *why)
{
    const struct ledger_opts o = { .read_only = read_only, .busy_ms = 50 };
    struct ledger *l = NULL;
    struct err e = { 0 };

    assert_int_equal(ledger_open(&l, path, &o, &e), code);
    assert_null(l);
    if (!strstr(e.msg, why))
        fail_msg("'%s' does not say '%s'", e.msg, why);
}

static void put_file(const char *text, size_t n)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void test_foreign(void **state)
{
    sqlite3 *s = NULL;
    struct ledger *l;
    char page[100];
    int fd;

    (void)state;
    refuse(true, WATT_EIO, "unable to open");
    put_file("this is a text and no database, and it is long enough to be looked at, as files go; "
             "a header of SQLite has a hundred bytes", 120);
    refuse(false, WATT_EFORMAT, "not a database");
    put_file("", 0);
    assert_int_equal(sqlite3_open(path, &s), SQLITE_OK);
    assert_int_equal(sqlite3_exec(s, "CREATE TABLE recipes (text)", NULL, NULL, NULL), SQLITE_OK);
    refuse(false, WATT_EFORMAT, "another program");
    refuse(true, WATT_EFORMAT, "another program");
    assert_int_equal(sqlite3_exec(s, "DROP TABLE recipes", NULL, NULL, NULL), SQLITE_OK);
    (void)sqlite3_close(s);
    l = open_at(path, false);                   /* an empty database may become ours */
    ledger_close(l);
    assert_int_equal(sqlite3_open(path, &s), SQLITE_OK);
    assert_int_equal(sqlite3_exec(s, "UPDATE ledger SET value = 9 WHERE name = 'version'", NULL,
                                  NULL, NULL), SQLITE_OK);
    (void)sqlite3_close(s);
    refuse(false, WATT_EFORMAT, "version 9");
    fd = open(path, O_WRONLY);                  /* a page of rubbish in the middle */
    memset(page, 0x5a, sizeof page);
    for (int i = 0; i < 200; i++)
        assert_true(pwrite(fd, page, sizeof page, 200 + i * 100) == sizeof page);
    (void)close(fd);
    refuse(false, WATT_EFORMAT, "malformed");
}

/* Somebody else holds the file: the writer waits, tells, and writes when it can. */
static void test_locked(void **state)
{
    const struct ledger_opts o = { .busy_ms = 50, .flush_ms = 10 };
    struct ledger *l = NULL;
    struct ledger_state st;
    struct err e = { 0 };
    const struct ledger_entry x = entry(1);
    sqlite3 *s = NULL;

    (void)state;
    assert_int_equal(ledger_open(&l, path, &o, &e), 0);
    assert_int_equal(sqlite3_open(path, &s), SQLITE_OK);
    assert_int_equal(sqlite3_exec(s, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_true(ledger_put(l, &x));
    assert_false(ledger_flush(l, 300));
    for (int i = 0; i < 400; i++) {             /* a busy machine takes its time */
        ledger_state(l, &st);
        if (st.why[0])
            break;
        (void)usleep(50000);
    }
    assert_non_null(strstr(st.why, "locked"));
    assert_int_equal(st.n_waiting, 1);
    assert_int_equal(sqlite3_exec(s, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_true(ledger_flush(l, 30000));
    ledger_state(l, &st);
    assert_string_equal(st.why, "");
    ledger_close(l);
    (void)sqlite3_close(s);
}

/* In a child: no file may grow past a bound, as on a full disk. Entries wait, those without room
 * are counted, and what was written before is whole. */
static void test_full_disk(void **state)
{
    const struct ledger_opts o = { .max_waiting = 3000, .batch = 100, .flush_ms = 5 };
    const struct ledger_query all = { 0 };
    int status = 0;
    pid_t pid;
    struct ledger *l;
    struct ledger_check c;
    struct err e = { 0 };

    (void)state;
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const struct rlimit limit = { 600000, 600000 };
        struct ledger_state st;

        (void)signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit) < 0 || ledger_open(&l, path, &o, &e) < 0)
            _exit(2);
        for (uint32_t i = 0; i < 20000; i++) {
            const struct ledger_entry x = entry(i);

            (void)ledger_put(l, &x);
            for (int k = 0; i % 100 == 0 && k < 60000; k++) {   /* at the writer's pace, till it fails */
                ledger_state(l, &st);
                if (st.why[0] || st.n_waiting < 1000)
                    break;
                (void)usleep(1000);
            }
        }
        (void)ledger_flush(l, 500);
        ledger_state(l, &st);
        ledger_close(l);
        _exit(st.why[0] && st.n_lost > 0 && st.n_written > 0 &&
              st.n_written + st.n_waiting + st.n_lost == 20000 ? 0 : 3);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    l = open_at(path, true);
    if (ledger_verify(l, &c, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(total(l, &all).n, c.n_requests);
    assert_true(c.n_requests > 0);
    ledger_close(l);
}

static void test_read_only_file(void **state)
{
    struct ledger *l = open_at(path, false);

    (void)state;
    ledger_close(l);
    if (geteuid() == 0) {
        (void)fprintf(stderr, "skipped: root may write everything\n");
        skip();
    }
    assert_int_equal(chmod(path, 0400), 0);
    refuse(false, WATT_EIO, "may not be written");
    assert_int_equal(chmod(dir, 0500), 0);      /* a folder where no reader may write */
    l = open_at(path, true);
    ledger_close(l);
    assert_int_equal(chmod(dir, 0700), 0);
}

/* ---- kill -9 ---- */

/* Writes for ever; tells how many entries are certainly on disk. */
static void write_until_killed(const char *where, int fd, uint32_t seed)
{
    const struct ledger_opts o = { .batch = 1 + seed % 97, .flush_ms = 1 };
    const uint32_t none = 0;
    struct ledger *l = NULL;
    struct err e = { 0 };

    if (ledger_open(&l, where, &o, &e) < 0)
        _exit(1);
    if (write(fd, &none, sizeof none) != sizeof none)
        _exit(1);
    for (uint32_t n = 1;; n++) {
        const struct ledger_entry x = entry(n * 977);

        (void)ledger_put(l, &x);
        if (n % 37 == 0 && ledger_flush(l, 10000) && write(fd, &n, sizeof n) != sizeof n)
            _exit(1);
    }
}

static int64_t kill_once(const char *where, struct rng *r)
{
    const uint32_t when = rng_below(r, 8);
    uint32_t told = 0, n;
    int fds[2], status;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close(fds[0]);
        write_until_killed(where, fds[1], (uint32_t)rng_u64(r));
    }
    (void)close(fds[1]);
    if (when > 0)                               /* else perhaps while it opens */
        assert_true(read(fds[0], &told, sizeof told) == sizeof told);
    if (when > 4)                               /* a first batch is on disk for sure */
        assert_true(read(fds[0], &told, sizeof told) == sizeof told);
    (void)usleep(rng_below(r, 100000));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    while (read(fds[0], &n, sizeof n) == sizeof n)
        told = n;
    (void)close(fds[0]);
    return told;
}

static void test_kill(void **state)
{
    const int rounds = full ? 1000 : 15;
    struct rng r;
    int64_t least = 0;
    struct ledger_check c = { 0 };
    int n_with = 0;

    (void)state;
    rng_init(&r, 7);
    for (int i = 0; i < rounds; i++) {
        const int64_t told = kill_once(path, &r);
        struct ledger *l;
        struct err e = { 0 };

        least += told;
        n_with += told > 0;
        l = open_at(path, false);               /* as the server would: tables may be missing */
        ledger_close(l);
        l = open_at(path, true);
        if (ledger_verify(l, &c, &e) < 0)
            fail_msg("after kill %d: %s", i, e.msg);
        ledger_close(l);
        assert_true(c.n_requests >= least);
        least = c.n_requests;
    }
    assert_true(n_with > 0);
    (void)fprintf(stderr, "%d kills, of which %d while batches were told to be on disk: %lld requests "
                  "add up\n", rounds, n_with, (long long)c.n_requests);
}

/* ---- PostgreSQL ---- */

/* Several servers write to one book; some are killed. */
static void several_servers(const char *url)
{
    struct rng r;
    int64_t least = 0;
    struct ledger_check c;
    struct err e = { 0 };
    struct ledger *l, *a = open_at(url, false), *b = open_at(url, false);

    rng_init(&r, 3);
    for (uint32_t i = 0; i < 500; i++) {
        const struct ledger_entry x = entry(i);

        assert_true(ledger_put(a, &x));
        assert_true(ledger_put(b, &x));
    }
    for (int i = 0; i < (full ? 1000 : 5); i++)
        least += kill_once(url, &r);
    assert_true(ledger_flush(a, 20000));
    assert_true(ledger_flush(b, 20000));
    ledger_close(a);
    ledger_close(b);
    l = open_at(url, true);
    if (ledger_verify(l, &c, &e) < 0)
        fail_msg("%s", e.msg);
    assert_true(c.n_requests >= 10003 + 1000 + least);
    ledger_close(l);
}

static void test_postgres(void **state)
{
    struct pg_server s = { .url = "" };
    const struct ledger_opts o = { .busy_ms = 50 };
    struct ledger *l = NULL;
    struct err e = { 0 };

    (void)state;
    if (!pg_start(&s)) {
        (void)fprintf(stderr, "skipped: no PostgreSQL server can be started (package postgresql)\n");
        skip();
    }
    everything(s.url);
    several_servers(s.url);
    {   /* the server goes away and comes back: nothing is lost */
        struct ledger_state st;
        const struct ledger_entry x = entry(5);

        l = open_at(s.url, false);
        (void)pg_run_program((const char *const[]){ s.pg_ctl, "-D", s.data, "-m", "fast", "-w", "stop",
                                                 NULL });
        assert_true(ledger_put(l, &x));
        assert_false(ledger_flush(l, 500));
        for (int i = 0; i < 400; i++) {
            ledger_state(l, &st);
            if (st.why[0])
                break;
            (void)usleep(50000);
        }
        assert_true(st.why[0] != '\0');
        {
            char options[192];

            (void)snprintf(options, sizeof options, "-k %.*s -c listen_addresses= -c fsync=off",
                           (int)(strlen(s.data) - 5), s.data);
            assert_int_equal(pg_run_program((const char *const[]){ s.pg_ctl, "-D", s.data, "-o",
                             options, "-l", "/dev/null", "-w", "start", NULL }), 0);
        }
        assert_true(ledger_flush(l, 20000));
        ledger_close(l);
    }
    pg_stop(&s);
    assert_int_equal(ledger_open(&l, s.url, &o, &e), WATT_EIO);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sqlite, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verify, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retention, setup, teardown),
        cmocka_unit_test_setup_teardown(test_foreign, setup, teardown),
        cmocka_unit_test_setup_teardown(test_locked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_only_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
        cmocka_unit_test_setup_teardown(test_postgres, setup, teardown),
    };

    full = argc > 1 && strcmp(argv[1], "--full") == 0;
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
