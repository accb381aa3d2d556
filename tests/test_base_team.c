/* test_base_team.c: every worker once, every task once, barriers, crowding, sleep. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/team.h"
#include "cpu_time.h"

#define N_MAX 16
#define N_TASKS 1000
#define N_MANY 70000u
#define N_RUNS 4u       /* of 1, 7, 49 and 343 tasks at most */

struct job {
    struct team *team;
    unsigned     ran[N_MAX];          /* by each worker, of its own */
    unsigned     done[N_TASKS];       /* by whoever took the task */
    unsigned     sum;
    atomic_uint  guarded, many, odd;
    atomic_uint  taken[N_TASKS];      /* by shares */
    atomic_uint  in_runs[N_TASKS];    /* by shares, several at once */
};

static void every_task(void *arg, unsigned worker)
{
    struct job *j = arg;
    size_t task;

    j->ran[worker]++;
    if (mem_guarded())
        atomic_fetch_add(&j->guarded, 1);
    while ((task = team_next(j->team)) < N_TASKS)
        j->done[task]++;
    team_barrier(j->team, worker);
    /* what others wrote before the barrier is seen now; the counter is at 0 again */
    if (team_next(j->team) == 0)
        for (size_t i = 0; i < N_TASKS; i++)
            j->sum += j->done[i];
    team_barrier(j->team, worker);
    while ((task = team_next(j->team)) < N_TASKS)
        j->done[task]++;
    for (size_t n = 0; n < 3; n++) {        /* shares: of all, of none, of more than fit a word */
        const size_t n_tasks = n == 0 ? N_TASKS : n == 1 ? 0 : N_MANY;

        team_barrier(j->team, worker);
        while ((task = team_take(j->team, worker, n_tasks)) != TEAM_NONE)
            atomic_fetch_add(n == 0 ? &j->taken[task] : &j->many, 1);
    }
    for (size_t most = 1; most <= N_TASKS; most *= 7) {     /* runs of neighbours */
        size_t run = most;

        team_barrier(j->team, worker);
        for (; (task = team_take_run(j->team, worker, N_TASKS, &run)) != TEAM_NONE; run = most) {
            if (run < 1 || run > most || task + run > N_TASKS)
                atomic_fetch_add(&j->odd, 1);
            for (size_t i = 0; i < run && task + i < N_TASKS; i++)
                atomic_fetch_add(&j->in_runs[task + i], 1);
        }
    }
}

static void check_team(unsigned n, unsigned rounds)
{
    struct job j = { 0 };
    struct err e;

    if (team_open(&j.team, n, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(team_size(j.team), n);
    for (unsigned r = 1; r <= rounds; r++) {
        j.sum = 0;
        team_run(j.team, every_task, &j);
        assert_int_equal(j.sum, (2 * r - 1) * N_TASKS);
        for (unsigned i = 0; i < n; i++)
            assert_int_equal(j.ran[i], r);
    }
    for (size_t i = 0; i < N_TASKS; i++)
        assert_int_equal(j.done[i], 2 * rounds);
    for (size_t i = 0; i < N_TASKS; i++)
        assert_int_equal(atomic_load(&j.taken[i]), rounds);
    assert_int_equal(atomic_load(&j.many), rounds * N_MANY);
    for (size_t i = 0; i < N_TASKS; i++)
        assert_int_equal(atomic_load(&j.in_runs[i]), N_RUNS * rounds);
    assert_int_equal(atomic_load(&j.odd), 0);
    assert_int_equal(atomic_load(&j.guarded), 0);
    mem_guard_enter();
    team_run(j.team, every_task, &j);
    mem_guard_leave();
    assert_int_equal(atomic_load(&j.guarded), n);
    team_run(j.team, every_task, &j);
    assert_int_equal(atomic_load(&j.guarded), n);
    team_close(j.team);
}

static void runs_everything_once(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 5; n++)
        check_team(n, 50);
}

static void many_phases(void *arg, unsigned worker)
{
    struct job *j = arg;

    for (int i = 0; i < 200; i++) {
        if (worker == 0)
            j->sum++;
        team_barrier(j->team, worker);
    }
}

/* Eight times as many threads as processors: each barrier needs every one of
 * them to be scheduled, and must not wait out somebody's time slice. */
static void crowded_team_moves(void **state)
{
    struct job j = { 0 };
    struct err e;
    unsigned n = 8 * team_default_threads();
    uint64_t start;

    (void)state;
    n = n < N_MAX ? n : N_MAX;
    if (team_open(&j.team, n, &e) < 0)
        fail_msg("%s", e.msg);
    start = clock_mono_ns();
    for (int i = 0; i < 10; i++)
        team_run(j.team, many_phases, &j);
    start = clock_mono_ns() - start;
    assert_int_equal(j.sum, 2000);
    print_message("%u threads: %.1f us a barrier\n", n, (double)start / 2000 / 1000);
    assert_true(start < UINT64_C(60) * 1000000000);
    team_close(j.team);
}

static void idle_team_sleeps(void **state)
{
    struct job j = { 0 };
    struct err e;
    double used;

    (void)state;
    assert_int_equal(team_open(&j.team, 4, &e), 0);
    team_run(j.team, every_task, &j);
    used = cpu_seconds();
    (void)usleep(300000);
    used = cpu_seconds() - used;
    assert_true(used < 0.1);              /* three spinning threads would use up to 0.6 */
    team_run(j.team, every_task, &j);     /* and wakes up */
    assert_int_equal(j.ran[3], 2);
    team_close(j.team);
}

static void late_worker(void *arg, unsigned worker)
{
    struct job *j = arg;

    if (worker == 1)
        (void)usleep(5000);               /* the others fall asleep at the barrier */
    team_barrier(j->team, worker);
    j->ran[worker]++;
    if (worker == 2)
        (void)usleep(5000);               /* the caller falls asleep at the end */
}

static void waits_for_the_slow(void **state)
{
    struct job j = { 0 };
    struct err e;

    (void)state;
    assert_int_equal(team_open(&j.team, 3, &e), 0);
    for (unsigned i = 1; i <= 10; i++) {
        team_run(j.team, late_worker, &j);
        assert_int_equal(j.ran[0] + j.ran[1] + j.ran[2], 3 * i);
    }
    team_close(j.team);
}

static void ask_mask(void *arg, unsigned worker)
{
    unsigned *blocked = arg;
    sigset_t set;

    (void)pthread_sigmask(SIG_SETMASK, NULL, &set);
    blocked[worker] = (unsigned)sigismember(&set, SIGINT);
}

static void workers_take_no_signals(void **state)
{
    unsigned blocked[3] = { 9, 9, 9 };
    struct team *t;
    struct err e;

    (void)state;
    assert_int_equal(team_open(&t, 3, &e), 0);
    team_run(t, ask_mask, blocked);
    team_close(t);
    assert_int_equal(blocked[0], 0);
    assert_int_equal(blocked[1], 1);
    assert_int_equal(blocked[2], 1);
}

static void refuses_bad_sizes(void **state)
{
    struct team *t = NULL;
    struct err e;

    (void)state;
    assert_int_equal(team_open(&t, 0, &e), WATT_EINVAL);
    assert_int_equal(team_open(&t, TEAM_MAX_THREADS + 1, &e), WATT_EINVAL);
    assert_null(t);
    team_close(NULL);
    assert_true(team_default_threads() >= 1);
}

#ifdef WATT_FAULTS
static void start_can_fail(void **state)
{
    static const enum fault_kind kinds[] = { FAULT_THREAD, FAULT_ALLOC };

    (void)state;
    for (size_t k = 0; k < 2; k++)
        for (unsigned long n = 1;; n++) {
            struct team *t = NULL;
            struct err e = { 0 };
            int rc;

            (void)fault_arm(kinds[k], n);
            rc = team_open(&t, 4, &e);
            (void)fault_arm(kinds[k], 0);
            if (rc == 0) {
                assert_true(kinds[k] == FAULT_THREAD ? n == 4 : n > 3 && n < 20);
                team_close(t);
                break;
            }
            assert_null(t);
            assert_int_equal(rc, WATT_ENOMEM);
        }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_everything_once),
        cmocka_unit_test(crowded_team_moves),
        cmocka_unit_test(idle_team_sleeps),
        cmocka_unit_test(waits_for_the_slow),
        cmocka_unit_test(workers_take_no_signals),
        cmocka_unit_test(refuses_bad_sizes),
#ifdef WATT_FAULTS
        cmocka_unit_test(start_can_fail),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
