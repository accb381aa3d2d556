/* budget_sync.c: the ledger's sums of today into the keys' budgets; see budget_sync.h. */
#include "applications/budget_sync.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "energy/ledger.h"

#define DAY_S 86400

struct budget_sync {
    struct api_keys *keys;
    char            *where;
    struct ledger   *ledger;            /* the thread's, once it runs; NULL: it was lost */
    bool             fails, no_room;    /* no_room: no memory for all keys of one reading */
    struct api_key_use *list;           /* [cap] by label, of one reading */
    size_t           n, cap;
    pthread_t        thread;
    bool             started, stop;     /* stop: under mu */
    pthread_mutex_t  mu;
    pthread_cond_t   wake;
};

/* Groups come in order of keys; several are one key's: of two currencies, estimates apart. */
static int take(void *ctx, const struct ledger_sum *s)
{
    struct budget_sync *b = ctx;
    const int64_t money = s->n_priced > 0 ? s->price_nano : s->cost_nano;
    struct api_key_use *u;

    if (s->n == 0)
        return 0;
    if (b->n == 0 || strcmp(b->list[b->n - 1].label, s->key) != 0) {
        if (b->n == b->cap) {
            struct api_key_use *p = mem_grow(b->list, b->cap ? 2 * b->cap : 64, sizeof *p);

            if (!p) {
                b->no_room = true;
                return -1;
            }
            b->list = p;
            b->cap = b->cap ? 2 * b->cap : 64;
        }
        b->list[b->n] = (struct api_key_use){ .used = { 0 } };
        memcpy(b->list[b->n++].label, s->key, sizeof b->list->label);
    }
    u = &b->list[b->n - 1];
    u->used[BUDGET_TOKENS] += (double)(s->n_input + s->n_cached + s->n_output + s->n_thinking);
    u->used[BUDGET_JOULES] += (double)(s->prefill_uj + s->decode_uj) * 1e-6;
    u->used[BUDGET_MONEY] += (double)money * 1e-9;
    return 0;
}

static int sync_once(struct budget_sync *b, struct err *e)
{
    const struct ledger_opts lo = { .read_only = true };
    const int64_t today = clock_wall_ns() / 1000000000 / DAY_S;
    const struct ledger_query q = { .from_s = today * DAY_S, .by = LEDGER_BY_KEY };
    int rc = b->ledger ? 0 : ledger_open(&b->ledger, b->where, &lo, e);

    b->n = 0;
    b->no_room = false;
    if (rc == 0)
        rc = ledger_report(b->ledger, &q, take, b, e);
    if (b->no_room)
        rc = err_set(e, WATT_ENOMEM, "budgets: no memory for what %zu keys have used", b->n);
    if (rc == 0) {
        api_keys_used(b->keys, b->list, b->n, today);
    } else {                            /* a new connection next time */
        ledger_close(b->ledger);
        b->ledger = NULL;
    }
    return rc;
}

static bool any_budget(struct api_keys *k)
{
    return api_keys_budget(k, BUDGET_TOKENS) || api_keys_budget(k, BUDGET_JOULES) ||
           api_keys_budget(k, BUDGET_MONEY);
}

static void again(struct budget_sync *b)
{
    struct err e = { 0 };
    const bool fails = any_budget(b->keys) && sync_once(b, &e) < 0;

    if (fails && !b->fails)
        log_printf(LOG_ERROR, "budgets", "%s; what other servers use is not known", e.msg);
    else if (b->fails && !fails)
        log_printf(LOG_INFO, "budgets", "the ledger is read again");
    b->fails = fails;
}

static void *run(void *arg)
{
    struct budget_sync *b = arg;
    struct timespec t;

    (void)pthread_mutex_lock(&b->mu);
    while (!b->stop) {
        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_sec += BUDGET_SYNC_MS / 1000;
        while (!b->stop && pthread_cond_timedwait(&b->wake, &b->mu, &t) != ETIMEDOUT)
            ;
        if (b->stop)
            break;
        (void)pthread_mutex_unlock(&b->mu);
        again(b);
        (void)pthread_mutex_lock(&b->mu);
    }
    (void)pthread_mutex_unlock(&b->mu);
    return NULL;
}

int budget_sync_open(struct budget_sync **out, const char *ledger, struct api_keys *keys,
                     struct err *e)
{
    struct budget_sync *b = mem_calloc(1, sizeof *b);
    pthread_condattr_t a;
    int rc;

    if (!b)
        return err_set(e, WATT_ENOMEM, "budgets");
    b->keys = keys;
    (void)pthread_mutex_init(&b->mu, NULL);
    (void)pthread_condattr_init(&a);
    (void)pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&b->wake, &a);
    (void)pthread_condattr_destroy(&a);
    b->where = mem_strdup(ledger);
    rc = b->where ? sync_once(b, e) : err_set(e, WATT_ENOMEM, "budgets");
    if (rc == 0) {
        rc = pthread_create(&b->thread, NULL, run, b);
        b->started = rc == 0;
        rc = rc ? err_errno(e, WATT_ENOMEM, rc, "budgets: no thread") : 0;
    }
    if (rc < 0) {
        budget_sync_close(b);
        return rc;
    }
    *out = b;
    return 0;
}

void budget_sync_close(struct budget_sync *b)
{
    if (!b)
        return;
    if (b->started) {
        (void)pthread_mutex_lock(&b->mu);
        b->stop = true;
        (void)pthread_cond_signal(&b->wake);
        (void)pthread_mutex_unlock(&b->mu);
        (void)pthread_join(b->thread, NULL);
    }
    ledger_close(b->ledger);
    (void)pthread_mutex_destroy(&b->mu);
    (void)pthread_cond_destroy(&b->wake);
    mem_free(b->where);
    mem_free(b->list);
    mem_free(b);
}
