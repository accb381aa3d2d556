/* team.h: a persistent team of threads that runs one job at a time.
 *
 * The caller of team_run is worker 0. Whoever waits (for a job, at a barrier,
 * for the others to finish) spins for some 20 µs, then yields, and after 200 µs
 * sleeps, so that an idle team costs no CPU and one with more threads than
 * processors still moves. Splits of work must not depend on n_workers: hand
 * out fixed-size tasks with team_next(). Workers take no signals. */
#ifndef BASE_TEAM_H
#define BASE_TEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TEAM_MAX_THREADS 512

struct team;
typedef void team_fn(void *arg, unsigned worker);

/* n_threads in 1..TEAM_MAX_THREADS counts the caller. WATT_EINVAL, WATT_ENOMEM. */
int  team_open(struct team **out, unsigned n_threads, struct err *e) MUST_CHECK;
void team_close(struct team *t);   /* NULL is fine; not while a job runs */
unsigned team_size(const struct team *t);

/* Runs fn(arg, worker) once on every worker and returns when all have returned.
 * One job at a time; one caller thread at a time. Allocates nothing. When the
 * caller is inside mem_guard_enter/leave, so are all workers during the job. */
void team_run(struct team *t, team_fn *fn, void *arg);

/* Inside a job only. All workers wait for each other; every write before it is
 * seen by all after it, and the task counter starts again at 0. */
void team_barrier(struct team *t, unsigned worker);

/* Inside a job only. Takes the next task of the current phase (the time between
 * two barriers): 0, 1, 2, … each to one worker. Returns n_tasks or more when
 * none is left. */
size_t team_next(struct team *t);

/* Inside a job only. The same for tasks whose data lie one behind the other: each worker
 * gets an even share of neighbouring tasks and walks it upward, so that what it reads is one
 * stream; who is done takes from the end of the others' shares. n_tasks must be the same on
 * all workers of a phase; a phase uses either this or team_next(). TEAM_NONE when none is left. */
#define TEAM_NONE SIZE_MAX
size_t team_take(struct team *t, unsigned worker, size_t n_tasks);

/* Processors this process may use: affinity mask and cgroup quota considered. */
unsigned team_default_threads(void);

#endif
