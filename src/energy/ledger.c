/* ledger.c: entries that wait, and the thread that writes them; see ledger.h. */
#include "energy/ledger.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "energy/ledger_db.h"

#define DEFAULT_WAITING  16384u
#define DEFAULT_BATCH    1000u
#define DEFAULT_FLUSH_MS 200u
#define DEFAULT_BUSY_MS  2000u
#define DEFAULT_DAYS     90u
#define DEFAULT_HOURS    730u
#define RETRY_MS         1000
#define RETAIN_S         3600

struct ledger {
    struct ledger_opts opts;
    struct ledger_db *db;               /* the thread's; without one, the caller's */
    char     writer[20];
    struct ledger_sum *sums;            /* [batch] */
    const struct ledger_item **list;    /* [batch] */
    int64_t  batch, retained_s;
    pthread_t thread;
    bool     started;
    pthread_mutex_t mu;                 /* all below */
    pthread_cond_t  wake, done;
    struct ledger_item *items;          /* ring of max_waiting */
    uint32_t head, n;
    uint64_t n_put, n_written, n_lost, n_batches, lost_said;
    bool     stop, hurry;
    unsigned n_hurrying;
    char     why[256];
};

/* ---- the thread ---- */

static void until_ms(struct timespec *t, unsigned ms)
{
    (void)clock_gettime(CLOCK_MONOTONIC, t);
    t->tv_sec += ms / 1000;
    t->tv_nsec += (long)(ms % 1000) * 1000000;
    if (t->tv_nsec >= 1000000000) {
        t->tv_sec++;
        t->tv_nsec -= 1000000000;
    }
}

/* Under mu: waits until a batch is full, or its first entry has waited long enough. */
static void wait_for_batch(struct ledger *l)
{
    struct timespec t;

    while (l->n == 0 && !l->stop)
        (void)pthread_cond_wait(&l->wake, &l->mu);
    until_ms(&t, l->opts.flush_ms);
    while (l->n < l->opts.batch && !l->stop && l->n_hurrying == 0 &&
           pthread_cond_timedwait(&l->wake, &l->mu, &t) != ETIMEDOUT)
        ;
}

static void note_failure(struct ledger *l, const struct err *e)
{
    const bool first = l->why[0] == '\0';

    (void)snprintf(l->why, sizeof l->why, "%.255s", e->msg);
    if (first)
        log_printf(LOG_ERROR, "ledger", "%s; entries wait in memory", l->why);
}

static void note_success(struct ledger *l, uint32_t n)
{
    if (l->why[0])
        log_printf(LOG_INFO, "ledger", "is written again");
    l->why[0] = '\0';
    l->head = (l->head + n) % l->opts.max_waiting;
    l->n -= n;
    l->n_written += n;
    l->n_batches++;
    (void)pthread_cond_broadcast(&l->done);
}

/* Once an hour; a failure is no reason to stop: it is tried again. */
static void retain(struct ledger *l)
{
    const int64_t now = clock_wall_ns() / 1000000000;
    struct err e = { 0 };

    if (now - l->retained_s < RETAIN_S)
        return;
    l->retained_s = now;
    if (ledger_retain(l->db, now, l->opts.keep_days, l->opts.keep_hour_days, &e) < 0)
        log_printf(LOG_WARN, "ledger", "old entries stay: %s", e.msg);
}

/* Under mu, which is released while it writes: the batch's places in the ring stay its own until
 * it is written. */
static void write_batch(struct ledger *l)
{
    const uint32_t n = l->n < l->opts.batch ? l->n : l->opts.batch;
    struct err e = { 0 };
    int rc;

    for (uint32_t i = 0; i < n; i++)
        l->list[i] = &l->items[(l->head + i) % l->opts.max_waiting];
    (void)pthread_mutex_unlock(&l->mu);
    rc = l->why[0] ? l->db->ops->revive(l->db, &e) : 0;
    if (rc == 0)
        rc = ledger_write(l->db, l->writer, l->batch + 1, l->list, n, l->sums, &e);
    if (rc == 0) {
        l->batch++;
        retain(l);
    }
    (void)pthread_mutex_lock(&l->mu);
    if (rc < 0)
        note_failure(l, &e);
    else
        note_success(l, n);
    if (l->n_lost > l->lost_said)
        log_printf(LOG_ERROR, "ledger", "%" PRIu64 " entries are lost: there was no room",
                   l->n_lost - l->lost_said);
    l->lost_said = l->n_lost;
}

static void *run(void *arg)
{
    struct ledger *l = arg;
    struct timespec t;

    (void)pthread_mutex_lock(&l->mu);
    for (;;) {
        wait_for_batch(l);
        if (l->n == 0)
            break;
        write_batch(l);
        if (!l->why[0])
            continue;
        if (l->stop)            /* it was tried once more */
            break;
        until_ms(&t, RETRY_MS);
        while (!l->stop && pthread_cond_timedwait(&l->wake, &l->mu, &t) != ETIMEDOUT)
            ;
    }
    (void)pthread_mutex_unlock(&l->mu);
    return NULL;
}

/* ---- open and close ---- */

static void fill_opts(struct ledger_opts *o, const struct ledger_opts *in)
{
    *o = in ? *in : (struct ledger_opts){ 0 };
    o->max_waiting = o->max_waiting ? o->max_waiting : DEFAULT_WAITING;
    o->batch = o->batch ? o->batch : DEFAULT_BATCH;
    o->batch = o->batch < o->max_waiting ? o->batch : o->max_waiting;
    o->flush_ms = o->flush_ms ? o->flush_ms : DEFAULT_FLUSH_MS;
    o->busy_ms = o->busy_ms ? o->busy_ms : DEFAULT_BUSY_MS;
    o->keep_days = o->keep_days ? o->keep_days : DEFAULT_DAYS;
    o->keep_hour_days = o->keep_hour_days ? o->keep_hour_days : DEFAULT_HOURS;
}

static int open_db(struct ledger *l, const char *where, struct err *e)
{
    const bool pg = strncmp(where, "postgresql://", 13) == 0 ||
                    strncmp(where, "postgres://", 11) == 0;
    int rc = (pg ? ledger_pg_open : ledger_sqlite_open)(&l->db, where, &l->opts, e);

    return rc < 0 ? rc : ledger_tables(l->db, l->opts.read_only, e);
}

static int start(struct ledger *l, struct err *e)
{
    uint64_t id = 0;
    int rc;

    if (getrandom(&id, sizeof id, 0) != sizeof id)
        id = (uint64_t)clock_wall_ns();
    (void)snprintf(l->writer, sizeof l->writer, "%016" PRIx64, id);
    l->items = mem_array(l->opts.max_waiting, sizeof *l->items);
    l->sums = mem_array(l->opts.batch, sizeof *l->sums);
    l->list = mem_array(l->opts.batch, sizeof *l->list);
    if (!l->items || !l->sums || !l->list)
        return err_set(e, WATT_ENOMEM, "ledger: %u entries", l->opts.max_waiting);
    rc = pthread_create(&l->thread, NULL, run, l);
    if (rc != 0)
        return err_errno(e, WATT_ENOMEM, rc, "ledger: no thread");
    l->started = true;
    return 0;
}

int ledger_open(struct ledger **out, const char *where, const struct ledger_opts *opts,
                struct err *e)
{
    struct ledger *l = mem_calloc(1, sizeof *l);
    pthread_condattr_t a;
    int rc;

    if (!l)
        return err_set(e, WATT_ENOMEM, "ledger");
    fill_opts(&l->opts, opts);
    (void)pthread_mutex_init(&l->mu, NULL);
    (void)pthread_condattr_init(&a);
    (void)pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&l->wake, &a);
    (void)pthread_cond_init(&l->done, &a);
    (void)pthread_condattr_destroy(&a);
    rc = open_db(l, where, e);
    if (rc == 0 && !l->opts.read_only)
        rc = start(l, e);
    if (rc < 0) {
        ledger_close(l);
        return rc;
    }
    *out = l;
    return 0;
}

void ledger_close(struct ledger *l)
{
    if (!l)
        return;
    if (l->started) {
        (void)pthread_mutex_lock(&l->mu);
        l->stop = true;
        (void)pthread_cond_broadcast(&l->wake);
        (void)pthread_mutex_unlock(&l->mu);
        (void)pthread_join(l->thread, NULL);
        if (l->n > 0)
            log_printf(LOG_ERROR, "ledger", "%u entries are lost at the end: %s", l->n, l->why);
    }
    if (l->db)
        l->db->ops->close(l->db);
    (void)pthread_mutex_destroy(&l->mu);
    (void)pthread_cond_destroy(&l->wake);
    (void)pthread_cond_destroy(&l->done);
    mem_free(l->items);
    mem_free(l->sums);
    mem_free(l->list);
    mem_free(l);
}

/* ---- from any thread ---- */

static bool put(struct ledger *l, const struct ledger_item *it)
{
    bool room;

    (void)pthread_mutex_lock(&l->mu);
    room = l->started && l->n < l->opts.max_waiting;
    if (room) {
        l->items[(l->head + l->n++) % l->opts.max_waiting] = *it;
        l->n_put++;
        if (l->n == 1 || l->n == l->opts.batch)
            (void)pthread_cond_signal(&l->wake);
    } else {
        l->n_lost++;
    }
    (void)pthread_mutex_unlock(&l->mu);
    return room;
}

/* A name as any database takes it: cut to its room, and valid UTF-8. */
static void clean(char text[LEDGER_TEXT])
{
    text[LEDGER_TEXT - 1] = '\0';
    if (utf8_valid(text, strlen(text)))
        return;
    for (char *p = text; *p; p++)
        if ((unsigned char)*p > 126)
            *p = '?';
}

static int64_t amount(int64_t v)
{
    return v < 0 ? LEDGER_UNKNOWN : v;
}

bool ledger_put(struct ledger *l, const struct ledger_entry *entry)
{
    struct ledger_item it = { .e = *entry };

    clean(it.e.key);
    clean(it.e.model);
    clean(it.e.source);
    clean(it.e.request);
    it.e.currency[sizeof it.e.currency - 1] = '\0';
    it.e.prefill_uj = amount(it.e.prefill_uj);
    it.e.decode_uj = amount(it.e.decode_uj);
    return put(l, &it);
}

bool ledger_put_idle(struct ledger *l, const struct ledger_idle *idle)
{
    struct ledger_item it = { .is_idle = true, .idle = *idle, .e = { .time_ms = idle->time_ms } };

    memcpy(it.e.source, idle->source, sizeof it.e.source);
    memcpy(it.e.currency, idle->currency, sizeof it.e.currency);
    clean(it.e.source);
    it.e.currency[sizeof it.e.currency - 1] = '\0';
    return put(l, &it);
}

bool ledger_flush(struct ledger *l, unsigned wait_ms)
{
    struct timespec t;
    uint64_t want;
    bool all;

    until_ms(&t, wait_ms);
    (void)pthread_mutex_lock(&l->mu);
    want = l->n_put;
    l->n_hurrying++;
    (void)pthread_cond_signal(&l->wake);
    while (l->n_written < want && pthread_cond_timedwait(&l->done, &l->mu, &t) != ETIMEDOUT)
        ;
    l->n_hurrying--;
    all = l->n_written >= want;
    (void)pthread_mutex_unlock(&l->mu);
    return all;
}

void ledger_state(struct ledger *l, struct ledger_state *s)
{
    (void)pthread_mutex_lock(&l->mu);
    *s = (struct ledger_state){ .n_written = l->n_written, .n_waiting = l->n, .n_lost = l->n_lost,
                                .n_batches = l->n_batches };
    memcpy(s->why, l->why, sizeof s->why);
    (void)pthread_mutex_unlock(&l->mu);
}

/* ---- reading: only where no thread writes ---- */

static int readable(const struct ledger *l, struct err *e)
{
    return l->opts.read_only ? 0 : err_set(e, WATT_EINVAL, "ledger: it was opened for writing");
}

int ledger_report(struct ledger *l, const struct ledger_query *q,
                  int (*fn)(void *ctx, const struct ledger_sum *sum), void *ctx, struct err *e)
{
    const int rc = readable(l, e);

    return rc < 0 ? rc : ledger_db_report(l->db, q, fn, ctx, e);
}

int ledger_each(struct ledger *l, const struct ledger_query *q,
                int (*fn)(void *ctx, const struct ledger_entry *entry), void *ctx, struct err *e)
{
    const int rc = readable(l, e);

    return rc < 0 ? rc : ledger_db_each(l->db, q, fn, ctx, e);
}

int ledger_verify(struct ledger *l, struct ledger_check *c, struct err *e)
{
    const int rc = readable(l, e);

    *c = (struct ledger_check){ 0 };
    return rc < 0 ? rc : ledger_db_verify(l->db, c, e);
}
