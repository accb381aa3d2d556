/* plan_fleet.h: recorded arrivals over planned servers: who waits how long, and what it costs.
 *
 * Each server runs the code that serves (scheduler, prefix tree, admission) on the made-up clock of
 * infrastructure/simulate.h; what a step takes there is a line through two steps that the plan
 * prices, one row and a full chunk, and slopes by context for both. Between them a real step is shorter,
 * since reading weights and multiplying overlap: times are on the safe side. */
#ifndef APPLICATIONS_PLAN_FLEET_H
#define APPLICATIONS_PLAN_FLEET_H

#include "applications/plan.h"
#include "infrastructure/simulate.h"

enum fleet_route {
    FLEET_PREFIX,       /* equal beginnings to one server, unless it has far more to do */
    FLEET_LEAST,        /* where the least work is outstanding, by the plan's estimate */
    FLEET_TURNS         /* one after the other */
};

struct fleet_spec {
    const struct plan_spec  *plan;
    const struct plan_point *point;     /* split and batch of each server */
    unsigned n_servers;                 /* at least 1 */
    enum fleet_route route;
    double   rate, scale;               /* as in sim_spec; 0: 1 */
    double   ttft_goal_s, itl_goal_s;   /* 0: the simulator's */
    double   max_wait_s;                /* a longer queue refuses; 0: any */
};

struct fleet_report {
    uint64_t n_requests, n_refused, n_never, n_good;
    struct quantiles ttft_s, itl_s, queue_s;    /* itl_s: of each request's mean */
    double   simulated_s;               /* of the server that ended last */
    double   busiest, idlest, busy;     /* shares of that time in steps */
    uint64_t n_prompt_tokens, n_cached_tokens, n_answer_tokens;
    double   out_tok_s, goodput_per_s;
    double   joules, all_in_joules, usd;        /* PLAN_UNKNOWN where the plan does not know */
    uint64_t digest;
};

/* WATT_EINVAL, WATT_ELIMIT, WATT_ENOMEM; WATT_ECANCEL when `cancelled` (may be NULL) says so. */
int fleet_run(const struct trace *t, const struct fleet_spec *spec, bool (*cancelled)(void),
              struct fleet_report *r, struct err *e) MUST_CHECK;

#endif
