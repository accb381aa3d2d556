/* team.c: the thread team; see team.h.
 *
 * Everybody waits in one way (await): on a word that somebody else will change,
 * first spinning, then yielding the processor, then asleep on a futex. The
 * word of a job is its number (`generation`), of a barrier how many were passed
 * (`phase`), of the caller how many workers still run (`running`). */
#include "base/team.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"

#define CACHE_LINE 64
/* A wait that ends within SPIN_NS must not pay for a system call; one that
 * takes longer than SLEEP_NS is longer than waking costs (some 50 µs). When
 * the team has more threads than processors, who is awaited may need ours. */
#define SPIN_NS 20000u
#define SLEEP_NS 200000u
#define CROWDED_SPIN_NS 500u
#define CROWDED_SLEEP_NS 20000u

#if defined(__x86_64__)
#define cpu_relax() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define cpu_relax() __asm__ volatile("yield")
#else
#define cpu_relax() ((void)0)
#endif

/* A word that is awaited, and how many sleep on it. */
struct signal_word {
    _Alignas(CACHE_LINE) atomic_uint value;
    atomic_uint n_asleep;
};

/* A worker's share of a phase's tasks, in one word: the phase it was cut in (upper 32 bits),
 * the first task not taken and the end. */
struct share { _Alignas(CACHE_LINE) _Atomic uint64_t word; };
#define SHARE_MAX_TASKS 0xFFFFu

struct member {
    struct team *team;
    pthread_t    thread;
    unsigned     index;
    bool         bind;
    struct topo_set mask;   /* processors to be bound to */
};

struct team {
    unsigned n;              /* workers, the caller included */
    unsigned n_started;      /* threads to join */
    uint64_t spin_ns, sleep_ns;
    /* the job: written before generation moves, read after it was seen to */
    team_fn *fn;
    void    *arg;
    bool     guarded;        /* the caller is inside a step */
    bool     stop;
    struct signal_word generation;  /* job number */
    struct signal_word running;     /* workers not yet done with the job */
    struct signal_word phase;       /* barriers passed */
    _Alignas(CACHE_LINE) atomic_uint   arrived;  /* at this barrier */
    _Alignas(CACHE_LINE) atomic_size_t next;     /* next task of the phase */
    struct member *members;  /* [n - 1] */
    struct share  *shares;   /* [n] */
    struct topo_cpu *place;  /* [n] */
    struct topo_set nodes;   /* of all places */
    pid_t    bound_tid;      /* the caller's thread, where it was bound; 0: not */
    struct topo_set before;  /* what that thread was bound to before */
};

/* Not clock_mono_ns(): tests stop that one, and we must still fall asleep. */
static uint64_t now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void futex_wait(atomic_uint *word, unsigned old)
{
    /* returns at once when *word is not old; may also return for no reason */
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
}

static void futex_wake_all(atomic_uint *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Call after changing w->value with memory_order_seq_cst. Either the sleeper's
 * n_asleep is seen here, or the sleeper sees the new value before it sleeps. */
static void signal_changed(struct signal_word *w)
{
    if (atomic_load(&w->n_asleep) != 0)
        futex_wake_all(&w->value);
}

/* Returns the first value of w that differs from old. */
static unsigned await(const struct team *t, struct signal_word *w, unsigned old)
{
    uint64_t start = 0, waited;
    unsigned value;

    for (unsigned round = 0;; round++) {
        value = atomic_load_explicit(&w->value, memory_order_acquire);
        if (value != old)
            return value;
        if ((round & 15) != 15) {
            cpu_relax();
            continue;
        }
        if (start == 0)
            start = now_ns();
        waited = now_ns() - start;
        if (waited > t->sleep_ns)
            break;
        if (waited > t->spin_ns)
            (void)sched_yield();
    }
    atomic_fetch_add(&w->n_asleep, 1);
    while ((value = atomic_load(&w->value)) == old)
        futex_wait(&w->value, old);
    atomic_fetch_sub(&w->n_asleep, 1);
    return value;
}

static bool bind_thread(pid_t tid, const struct topo_set *s)
{
    return syscall(SYS_sched_setaffinity, tid, sizeof s->word, s->word) == 0;
}

static void *member_main(void *p)
{
    struct member *m = p;
    struct team *t = m->team;
    unsigned seen = 0;

    if (m->bind)        /* the set may have shrunk since it was read: then work goes on unbound */
        (void)bind_thread(0, &m->mask);
    for (;;) {
        seen = await(t, &t->generation, seen);
        if (t->stop)
            return NULL;
        if (t->guarded)
            mem_guard_enter();
        t->fn(t->arg, m->index);
        if (t->guarded)
            mem_guard_leave();
        /* the last one touches t after this only to wake the caller, who may
         * not close the team before team_run returned */
        if (atomic_fetch_sub(&t->running.value, 1) == 1)
            signal_changed(&t->running);
    }
}

/* Lets the members see fn, arg, guarded and stop. */
static void announce(struct team *t)
{
    atomic_fetch_add(&t->generation.value, 1);
    signal_changed(&t->generation);
}

/* Signals are for the threads of the application, never for a worker. */
static int start_member(struct member *m)
{
    sigset_t all, before;
    char name[16];
    int rc;

    if (fault_hit(FAULT_THREAD))
        return EAGAIN;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&m->thread, NULL, member_main, m);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0) {
        (void)snprintf(name, sizeof name, "watt-%u", m->index);
        (void)pthread_setname_np(m->thread, name);
    }
    return rc;
}

/* The processors that a worker may use under o, of those that `mine` holds. */
static struct topo_set mask_of(const struct topology *topo, const struct team_opts *o,
                               const struct topo_cpu *place)
{
    struct topo_set s = { { 0 } };

    if (o->pin == TEAM_PIN_CPU) {
        topo_add(&s, place->id);
        return s;
    }
    for (uint32_t i = 0; i < topo->n_cpus; i++)
        if ((!o->only || topo_has(o->only, topo->cpus[i].id)) &&
            (o->pin == TEAM_PIN_NONE || topo->cpus[i].node == place->node))
            topo_add(&s, topo->cpus[i].id);
    return s;
}

/* The caller, as worker 0. */
static int bind_caller(struct team *t, const struct topo_set *s, struct err *e)
{
    const pid_t tid = (pid_t)syscall(SYS_gettid);

    if (syscall(SYS_sched_getaffinity, tid, sizeof t->before.word, t->before.word) <= 0 ||
        !bind_thread(tid, s))
        return err_errno(e, WATT_EINVAL, errno, "threads: cannot bind to processor %u",
                         t->place[0].id);
    t->bound_tid = tid;
    return 0;
}

static int start_members(struct team *t, const struct topology *topo, const struct team_opts *o,
                         struct err *e)
{
    /* nothing to bind where it would say no more than what holds anyway */
    const bool bind = o->only || o->pin == TEAM_PIN_CPU ||
                      (o->pin == TEAM_PIN_NODE && topo->n_nodes > 1);

    for (unsigned i = 1; i < t->n; i++) {
        struct member *m = &t->members[i - 1];
        int rc;

        *m = (struct member){ .team = t, .index = i, .bind = bind };
        if (bind)
            m->mask = mask_of(topo, o, &t->place[i]);
        rc = start_member(m);
        if (rc != 0)
            return err_errno(e, WATT_ENOMEM, rc, "threads: cannot start thread %u", i);
        t->n_started++;
    }
    if (o->only || o->pin == TEAM_PIN_CPU) {
        const struct topo_set mask = mask_of(topo, o, &t->place[0]);

        return bind_caller(t, &mask, e);
    }
    return 0;
}

static int open_on(struct team *t, const struct topology *topo, const struct team_opts *o,
                   struct err *e)
{
    const uint32_t has = o->only ? topo_count(o->only) : topo->n_cpus;
    const bool crowded = t->n > (has < topo->quota ? has : topo->quota);
    int rc;

    t->spin_ns = crowded ? CROWDED_SPIN_NS : SPIN_NS;
    t->sleep_ns = crowded ? CROWDED_SLEEP_NS : SLEEP_NS;
    t->members = mem_calloc(t->n, sizeof *t->members);
    t->shares = mem_aligned(t->n * sizeof *t->shares, CACHE_LINE);
    t->place = mem_calloc(t->n, sizeof *t->place);
    if (!t->members || !t->shares || !t->place)
        return err_set(e, WATT_ENOMEM, "threads: out of memory");
    rc = topology_place(topo, o->only, t->n, t->place, e);
    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < t->n; i++)
        topo_add(&t->nodes, t->place[i].node);
    return start_members(t, topo, o, e);
}

int team_open_with(struct team **out, const struct team_opts *o, struct err *e)
{
    struct topology topo;
    struct team *t;
    int rc = topology_read(&topo, "", e);

    if (rc < 0)
        return rc;
    t = mem_aligned(sizeof *t, CACHE_LINE);
    if (!t) {
        rc = err_set(e, WATT_ENOMEM, "threads: out of memory");
        goto out;
    }
    t->n = o->n_threads ? o->n_threads : topology_threads(&topo, o->only);
    if (!o->n_threads && t->n > TEAM_MAX_THREADS)
        t->n = TEAM_MAX_THREADS;
    rc = t->n <= TEAM_MAX_THREADS ? open_on(t, &topo, o, e)
                                  : err_set(e, WATT_EINVAL, "threads: %u is not in 1..%d", t->n,
                                            TEAM_MAX_THREADS);
    if (rc < 0)
        team_close(t);
    else
        *out = t;
out:
    topology_deinit(&topo);
    return rc;
}

int team_open(struct team **out, unsigned n_threads, struct err *e)
{
    const struct team_opts o = { .n_threads = n_threads };

    if (n_threads < 1)
        return err_set(e, WATT_EINVAL, "threads: 0 is not in 1..%d", TEAM_MAX_THREADS);
    return team_open_with(out, &o, e);
}

void team_close(struct team *t)
{
    if (!t)
        return;
    t->stop = true;
    announce(t);
    for (unsigned i = 0; i < t->n_started; i++)
        (void)pthread_join(t->members[i].thread, NULL);
    if (t->bound_tid != 0 && t->bound_tid == (pid_t)syscall(SYS_gettid))
        (void)bind_thread(t->bound_tid, &t->before);
    mem_free(t->members);
    mem_free(t->shares);
    mem_free(t->place);
    mem_free(t);
}

unsigned team_size(const struct team *t)
{
    return t->n;
}

void team_run(struct team *t, team_fn *fn, void *arg)
{
    unsigned left;

    t->fn = fn;
    t->arg = arg;
    t->guarded = mem_guarded();
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
    if (t->n > 1) {
        atomic_store_explicit(&t->running.value, t->n - 1, memory_order_relaxed);
        announce(t);
    } else {
        atomic_fetch_add_explicit(&t->generation.value, 1, memory_order_relaxed);
    }
    fn(arg, 0);
    while (t->n > 1 && (left = atomic_load_explicit(&t->running.value, memory_order_acquire)) != 0)
        (void)await(t, &t->running, left);
}

void team_barrier(struct team *t, unsigned worker)
{
    unsigned phase = atomic_load_explicit(&t->phase.value, memory_order_relaxed);

    (void)worker;
    if (t->n == 1) {
        atomic_store_explicit(&t->next, 0, memory_order_relaxed);
        atomic_store_explicit(&t->phase.value, phase + 1, memory_order_relaxed);
        return;
    }
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) + 1 == t->n) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&t->next, 0, memory_order_relaxed);
        atomic_store(&t->phase.value, phase + 1);
        signal_changed(&t->phase);
        return;
    }
    (void)await(t, &t->phase, phase);
}

size_t team_next(struct team *t)
{
    return atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);
}

/* Jobs and barriers so far, which no worker changes within a phase; never 0 there. */
static uint32_t phase_number(struct team *t)
{
    return atomic_load_explicit(&t->generation.value, memory_order_relaxed) +
           atomic_load_explicit(&t->phase.value, memory_order_relaxed);
}

/* Takes neighbouring tasks of worker w's share, from its front or its end: *n at most, half of
 * those left, one at least. Whoever comes first in a phase cuts the share. */
static size_t share_take(struct team *t, unsigned w, size_t n_tasks, bool front, size_t *n)
{
    const uint32_t now = phase_number(t);
    _Atomic uint64_t *word = &t->shares[w].word;
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed), new;
    size_t first, end, task, some;

    do {
        first = (old >> 16) & SHARE_MAX_TASKS;
        end = old & SHARE_MAX_TASKS;
        if (old >> 32 != now) {
            first = n_tasks * w / t->n;
            end = n_tasks * (w + 1) / t->n;
        }
        if (first == end)
            return TEAM_NONE;
        some = (end - first + 1) / 2;
        some = some < *n ? some : *n;
        task = front ? first : end - some;
        first += front ? some : 0;
        end -= front ? 0 : some;
        new = (uint64_t)now << 32 | (uint64_t)first << 16 | end;
    } while (!atomic_compare_exchange_weak_explicit(word, &old, new, memory_order_relaxed,
                                                    memory_order_relaxed));
    *n = some;
    return task;
}

size_t team_take_run(struct team *t, unsigned worker, size_t n_tasks, size_t *n)
{
    size_t task;

    if (n_tasks > SHARE_MAX_TASKS) {
        task = team_next(t);
        *n = 1;
        return task < n_tasks ? task : TEAM_NONE;
    }
    task = share_take(t, worker, n_tasks, true, n);
    for (unsigned i = 1; i < t->n && task == TEAM_NONE; i++)
        task = share_take(t, (worker + i) % t->n, n_tasks, false, n);
    return task;
}

size_t team_take(struct team *t, unsigned worker, size_t n_tasks)
{
    size_t one = 1;

    return team_take_run(t, worker, n_tasks, &one);
}

struct topo_cpu team_place(const struct team *t, unsigned worker)
{
    CHECK(worker < t->n);
    return t->place[worker];
}

void team_spread(const struct team *t, void *p, size_t size_bytes)
{
    enum { INTERLEAVE = 3 };        /* MPOL_INTERLEAVE of linux/mempolicy.h */

    if (topo_count(&t->nodes) > 1 && p)
        (void)syscall(SYS_mbind, p, size_bytes, INTERLEAVE, t->nodes.word,
                      (unsigned long)TOPO_MAX_NODES + 1, 0u);
}

unsigned team_threads(const struct topo_set *only)
{
    struct topology topo;
    struct err e;
    unsigned n = 1;

    if (topology_read(&topo, "", &e) == 0) {
        n = topology_threads(&topo, only);
        topology_deinit(&topo);
    }
    return n < TEAM_MAX_THREADS ? n : TEAM_MAX_THREADS;
}
