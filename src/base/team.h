/* team.h: a persistent team of threads that runs one job at a time.
 *
 * The caller of team_run is worker 0. Whoever waits (for a job, at a barrier,
 * for the others to finish) spins for some 20 µs, then yields, and after 200 µs
 * sleeps, so that an idle team costs no CPU and one with more threads than
 * processors still moves. Splits of work must not depend on n_workers: hand
 * out fixed-size tasks with team_next(). Slow and fast cores then take as many
 * as they can, and results don't depend on who did which. Workers take no
 * signals. */
#ifndef BASE_TEAM_H
#define BASE_TEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/topology.h"

#define TEAM_MAX_THREADS 512

struct team;
typedef void team_fn(void *arg, unsigned worker);

/* Which processors a worker may be moved to by the system. */
enum team_pin {
    TEAM_PIN_NODE,      /* those of its memory node; on machines with one node: all. Other processes
                         * lose nothing by it, for each node has many */
    TEAM_PIN_NONE,      /* all */
    TEAM_PIN_CPU        /* one, its own: for machines or processor sets that this process has to
                         * itself. Two processes that pin choose the same ones */
};

struct team_opts {              /* zero means the default everywhere */
    unsigned n_threads;         /* counts the caller; default: topology_threads() */
    enum team_pin pin;
    const struct topo_set *only;    /* processors to use; copied; NULL: all that are permitted */
};

/* The thread that opens a team is its worker 0 as far as binding goes: it is bound only with
 * TEAM_PIN_CPU or a list, and until it closes the team; threads it starts meanwhile inherit
 * that. WATT_EINVAL (also for a processor that is not permitted), WATT_ENOMEM. */
int  team_open_with(struct team **out, const struct team_opts *o, struct err *e) MUST_CHECK;
/* n_threads in 1..TEAM_MAX_THREADS, the rest as by default. */
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
/* The same, several neighbouring tasks at once for work that costs less in one piece: *n (>= 1)
 * is the most wanted and comes back as how many were given, never more than half of the share
 * they come from, so that others can still help out. The first one is returned. */
size_t team_take_run(struct team *t, unsigned worker, size_t n_tasks, size_t *n);

/* Where worker i was placed: the processor chosen for it, bound to it or not. */
struct topo_cpu team_place(const struct team *t, unsigned worker);
/* Asks that pages of a region (page-aligned, not yet touched) come in turn from the memory nodes
 * of all workers, for what all of them read: no node is then the bottleneck. Only a wish;
 * nothing on machines with one node. */
void team_spread(const struct team *t, void *p, size_t size_bytes);

/* topology_threads() of this machine; only NULL: all processors. */
unsigned team_threads(const struct topo_set *only);
static inline unsigned team_default_threads(void) { return team_threads(NULL); }

#endif
