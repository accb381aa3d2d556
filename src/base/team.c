/* team.c: the thread team; see team.h.
 *
 * Jobs are announced by a generation counter. Workers spin on it for SPIN_NS,
 * then sleep on a futex-backed condition; the caller wakes sleepers only if
 * there are any. The barrier is a counting one with a generation. */
#include "base/team.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"

#define SPIN_NS 200000u   /* a step follows the last within this, or the user is reading */
#define CACHE_LINE 64

#if defined(__x86_64__)
#define cpu_relax() __builtin_ia32_pause()
#else
#define cpu_relax() ((void)0)
#endif

struct member {
    struct team *team;
    pthread_t    thread;
    unsigned     index;
};

struct team {
    unsigned n;              /* workers, the caller included */
    unsigned n_started;      /* threads to join */
    team_fn *fn;             /* published by generation's release store */
    void    *arg;
    bool     stop;           /* likewise */
    _Alignas(CACHE_LINE) atomic_uint   generation;  /* job number */
    _Alignas(CACHE_LINE) atomic_uint   running;     /* workers not yet done with the job */
    _Alignas(CACHE_LINE) atomic_uint   arrived;     /* barrier: who is there */
    _Alignas(CACHE_LINE) atomic_uint   phase;       /* barrier: how many were passed */
    _Alignas(CACHE_LINE) atomic_size_t next;        /* next task of the phase */
    _Alignas(CACHE_LINE) atomic_uint   n_asleep;
    pthread_mutex_t mu;
    pthread_cond_t  wake;    /* generation moved; under mu */
    struct member  *members; /* [n - 1] */
};

/* More workers than processors must yield, or spinning starves who is awaited. */
static void spin_wait(unsigned *rounds)
{
    if (++*rounds < 2000) {
        cpu_relax();
        return;
    }
    *rounds = 0;
    (void)sched_yield();
}

static unsigned await_job(struct team *t, unsigned seen)
{
    const uint64_t start = clock_mono_ns();
    unsigned rounds = 0, now;

    for (;;) {
        now = atomic_load_explicit(&t->generation, memory_order_acquire);
        if (now != seen)
            return now;
        if ((++rounds & 127) != 0) {
            cpu_relax();
            continue;
        }
        if (clock_mono_ns() - start > SPIN_NS)
            break;
    }
    (void)pthread_mutex_lock(&t->mu);
    atomic_fetch_add(&t->n_asleep, 1);
    while ((now = atomic_load(&t->generation)) == seen)
        (void)pthread_cond_wait(&t->wake, &t->mu);
    atomic_fetch_sub(&t->n_asleep, 1);
    (void)pthread_mutex_unlock(&t->mu);
    return now;
}

static void *member_main(void *p)
{
    struct member *m = p;
    struct team *t = m->team;
    unsigned seen = 0;

    for (;;) {
        seen = await_job(t, seen);
        if (t->stop)
            return NULL;
        t->fn(t->arg, m->index);
        atomic_fetch_sub_explicit(&t->running, 1, memory_order_release);
    }
}

/* Publishes fn/arg/stop to the members. */
static void announce(struct team *t)
{
    atomic_fetch_add(&t->generation, 1);
    if (atomic_load(&t->n_asleep) == 0)
        return;
    (void)pthread_mutex_lock(&t->mu);
    (void)pthread_cond_broadcast(&t->wake);
    (void)pthread_mutex_unlock(&t->mu);
}

int team_open(struct team **out, unsigned n_threads, struct err *e)
{
    struct team *t;

    if (n_threads < 1 || n_threads > TEAM_MAX_THREADS)
        return err_set(e, WATT_EINVAL, "threads: %u is not in 1..%d", n_threads, TEAM_MAX_THREADS);
    t = mem_aligned(sizeof *t, CACHE_LINE);
    if (!t)
        return err_set(e, WATT_ENOMEM, "threads: out of memory");
    t->n = n_threads;
    (void)pthread_mutex_init(&t->mu, NULL);
    (void)pthread_cond_init(&t->wake, NULL);
    t->members = mem_calloc(n_threads, sizeof *t->members);
    if (!t->members) {
        team_close(t);
        return err_set(e, WATT_ENOMEM, "threads: out of memory");
    }
    for (unsigned i = 1; i < n_threads; i++) {
        struct member *m = &t->members[i - 1];
        int rc;

        *m = (struct member){ .team = t, .index = i };
        rc = fault_hit(FAULT_THREAD) ? EAGAIN : pthread_create(&m->thread, NULL, member_main, m);
        if (rc != 0) {
            team_close(t);
            return err_errno(e, WATT_ENOMEM, rc, "threads: cannot start thread %u", i);
        }
        t->n_started++;
    }
    *out = t;
    return 0;
}

void team_close(struct team *t)
{
    if (!t)
        return;
    t->stop = true;
    announce(t);
    for (unsigned i = 0; i < t->n_started; i++)
        (void)pthread_join(t->members[i].thread, NULL);
    (void)pthread_cond_destroy(&t->wake);
    (void)pthread_mutex_destroy(&t->mu);
    mem_free(t->members);
    mem_free(t);
}

unsigned team_size(const struct team *t)
{
    return t->n;
}

void team_run(struct team *t, team_fn *fn, void *arg)
{
    unsigned rounds = 0;

    t->fn = fn;
    t->arg = arg;
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
    if (t->n > 1) {
        atomic_store_explicit(&t->running, t->n - 1, memory_order_relaxed);
        announce(t);
    }
    fn(arg, 0);
    while (t->n > 1 && atomic_load_explicit(&t->running, memory_order_acquire) != 0)
        spin_wait(&rounds);
}

void team_barrier(struct team *t, unsigned worker)
{
    unsigned phase = atomic_load_explicit(&t->phase, memory_order_relaxed);
    unsigned rounds = 0;

    (void)worker;
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) + 1 == t->n) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&t->next, 0, memory_order_relaxed);
        atomic_store_explicit(&t->phase, phase + 1, memory_order_release);
        return;
    }
    while (atomic_load_explicit(&t->phase, memory_order_acquire) == phase)
        spin_wait(&rounds);
}

size_t team_next(struct team *t)
{
    return atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);
}

/* cgroup v2 quota in whole processors, 0 when there is none. */
static unsigned cgroup_limit(void)
{
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    unsigned long quota = 0, period = 0;
    int n;

    if (!f)
        return 0;
    n = fscanf(f, "%lu %lu", &quota, &period);   /* "max 100000" matches nothing */
    (void)fclose(f);
    if (n != 2 || period == 0 || quota == 0)
        return 0;
    return (unsigned)((quota + period - 1) / period);
}

unsigned team_default_threads(void)
{
    cpu_set_t set;
    unsigned n = 1, limit = cgroup_limit();

    if (sched_getaffinity(0, sizeof set, &set) == 0)
        n = (unsigned)CPU_COUNT(&set);
    if (limit > 0 && limit < n)
        n = limit;
    if (n < 1)
        n = 1;
    return n < TEAM_MAX_THREADS ? n : TEAM_MAX_THREADS;
}
