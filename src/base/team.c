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

static void *member_main(void *p)
{
    struct member *m = p;
    struct team *t = m->team;
    unsigned seen = 0;

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

int team_open(struct team **out, unsigned n_threads, struct err *e)
{
    bool crowded = n_threads > team_default_threads();
    struct team *t;

    if (n_threads < 1 || n_threads > TEAM_MAX_THREADS)
        return err_set(e, WATT_EINVAL, "threads: %u is not in 1..%d", n_threads, TEAM_MAX_THREADS);
    t = mem_aligned(sizeof *t, CACHE_LINE);
    if (!t)
        return err_set(e, WATT_ENOMEM, "threads: out of memory");
    t->n = n_threads;
    t->spin_ns = crowded ? CROWDED_SPIN_NS : SPIN_NS;
    t->sleep_ns = crowded ? CROWDED_SLEEP_NS : SLEEP_NS;
    t->members = mem_calloc(n_threads, sizeof *t->members);
    t->shares = mem_aligned(n_threads * sizeof *t->shares, CACHE_LINE);
    if (!t->members || !t->shares) {
        team_close(t);
        return err_set(e, WATT_ENOMEM, "threads: out of memory");
    }
    for (unsigned i = 1; i < n_threads; i++) {
        struct member *m = &t->members[i - 1];
        int rc;

        *m = (struct member){ .team = t, .index = i };
        rc = start_member(m);
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
    mem_free(t->members);
    mem_free(t->shares);
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

/* Takes a task of worker w's share, from its front or its end. Whoever comes first in a phase
 * cuts the share. */
static size_t share_take(struct team *t, unsigned w, size_t n_tasks, bool front)
{
    const uint32_t now = phase_number(t);
    _Atomic uint64_t *word = &t->shares[w].word;
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed), new;
    size_t first, end, task;

    do {
        first = (old >> 16) & SHARE_MAX_TASKS;
        end = old & SHARE_MAX_TASKS;
        if (old >> 32 != now) {
            first = n_tasks * w / t->n;
            end = n_tasks * (w + 1) / t->n;
        }
        if (first == end)
            return TEAM_NONE;
        task = front ? first++ : --end;
        new = (uint64_t)now << 32 | (uint64_t)first << 16 | end;
    } while (!atomic_compare_exchange_weak_explicit(word, &old, new, memory_order_relaxed,
                                                    memory_order_relaxed));
    return task;
}

size_t team_take(struct team *t, unsigned worker, size_t n_tasks)
{
    size_t task;

    if (n_tasks > SHARE_MAX_TASKS) {
        task = team_next(t);
        return task < n_tasks ? task : TEAM_NONE;
    }
    task = share_take(t, worker, n_tasks, true);
    for (unsigned i = 1; i < t->n && task == TEAM_NONE; i++)
        task = share_take(t, (worker + i) % t->n, n_tasks, false);
    return task;
}

/* Quota of one cgroup v2 folder in whole processors, UINT_MAX when it has none. */
static unsigned cgroup_quota(const char *folder)
{
    char path[PATH_MAX];
    unsigned long quota = 0, period = 0;
    FILE *f;
    int n;

    n = snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", folder);
    if (n < 0 || (size_t)n >= sizeof path || !(f = fopen(path, "re")))
        return UINT_MAX;
    n = fscanf(f, "%lu %lu", &quota, &period);   /* "max 100000" matches nothing */
    (void)fclose(f);
    if (n != 2 || period == 0 || quota == 0)
        return UINT_MAX;
    quota = (quota - 1) / period + 1;
    return quota < UINT_MAX ? (unsigned)quota : UINT_MAX;
}

/* The tightest quota of our cgroup and its parents. In a container our own
 * folder may be mounted as the root, and the path in /proc not exist. */
static unsigned cgroup_limit(void)
{
    char line[PATH_MAX], folder[PATH_MAX] = "";
    FILE *f = fopen("/proc/self/cgroup", "re");
    unsigned limit, q;

    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "0::/", 4) == 0) {
            line[strcspn(line, "\n")] = '\0';
            memcpy(folder, line + 3, strlen(line + 3) + 1);
        }
    if (f)
        (void)fclose(f);
    limit = cgroup_quota("");
    while (folder[0] == '/' && folder[1]) {
        q = cgroup_quota(folder);
        if (q < limit)
            limit = q;
        *strrchr(folder, '/') = '\0';
    }
    return limit;
}

unsigned team_default_threads(void)
{
    cpu_set_t set;
    unsigned n = 1, limit = cgroup_limit();

    if (sched_getaffinity(0, sizeof set, &set) == 0)
        n = (unsigned)CPU_COUNT(&set);
    else if (sysconf(_SC_NPROCESSORS_ONLN) > 0)   /* more than a cpu_set_t holds */
        n = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    if (limit < n)
        n = limit;
    if (n < 1)
        n = 1;
    return n < TEAM_MAX_THREADS ? n : TEAM_MAX_THREADS;
}
