/* simulate.h: the scheduler and the prefix tree with a clock and a model that are made up.
 *
 * What runs is the code that serves (sched.h, prefix.h, kv.h); only the model is a formula: a step
 * takes step_ns, and more per row and per position that rows look back at. So a day of arrivals is
 * replayed in seconds, and what a change of policy does to waiting times and hit rates can be seen
 * before it meets anybody. The same trace, options and seed give the same report, digest included,
 * on every machine. One owner thread. */
#ifndef INFRASTRUCTURE_SIMULATE_H
#define INFRASTRUCTURE_SIMULATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/quantiles.h"
#include "infrastructure/sched.h"
#include "infrastructure/trace_file.h"

struct sim_outcome {            /* of one request that was taken */
    size_t   arrival;           /* which of the trace's */
    enum sched_end end;
    uint32_t n_drawn;
    double   queue_s, ttft_s, itl_s;    /* of a mean token; 0: did not happen */
    bool     good;
};

struct sim_spec {               /* zero means the default everywhere */
    double   step_ns;           /* of a step, whatever is in it; default 25e6: weights are read */
    double   row_ns;            /* of each row; default 3.5e6 */
    double   position_ns;       /* of each position that a row attends to; default 50 */
    double   read_ns;           /* of each position of a stream, read once for all its rows; 0: in
                                 * position_ns */
    uint32_t n_ctx;             /* default 131072 */
    uint32_t n_seats;           /* default 64 */
    uint32_t max_rows;          /* default 512 */
    uint32_t mixed_rows;        /* default 64 */
    uint32_t n_pages;           /* of 64 tokens; default 16384 */
    uint32_t n_slots;           /* fixed states; 0: the model has none */
    uint32_t block;             /* answers come in blocks of so many tokens; 0: one by one */
    bool     shifted;           /* and a row's results are of the next position */
    uint32_t max_draft;         /* proposals per answer; 0: none */
    double   draft_right;       /* how often a proposed token is right; default 0.7 */
    uint32_t max_queued;        /* default 1024 */
    double   max_wait_s;        /* a queue that will take longer refuses; 0: any length */
    bool     no_prefix;
    double   rate;              /* arrivals come so many times as fast; default 1 */
    double   scale;             /* lengths are multiplied by it; default 1 */
    double   deadline_s;        /* of each request from its arrival; 0: none */
    double   cancel_share;      /* of requests, cancelled at some point; default 0 */
    uint64_t seed;
    double   ttft_goal_s, itl_goal_s;   /* for goodput; default 10 and 0.25 */
    bool     verify;            /* every invariant after every step: slow */
    void   (*ended)(void *ctx, const struct sim_outcome *o);    /* NULL: nobody listens */
    void    *ctx;
};

struct sim_report {
    uint64_t n_requests, n_refused, n_never;    /* refused: the queue was full; never: too long */
    uint64_t n_ended[SCHED_FAILED + 1];
    uint64_t n_good;            /* ended well, and both goals were met */
    struct quantiles ttft_s, itl_s, queue_s;
    double   simulated_s, goodput_per_s;
    uint64_t n_prompt_tokens, n_cached_tokens, n_answer_tokens, n_drafted, n_accepted;
    uint64_t n_steps, n_preempted;
    double   mean_rows;         /* of a step */
    double   busy_s;            /* in steps */
    uint32_t peak_running, peak_waiting;
    uint64_t digest;            /* of every event and its time */
};

/* WATT_EINVAL, WATT_ELIMIT, WATT_ENOMEM; WATT_ECANCEL when `cancelled` says so. */
int sim_run(const struct trace *t, const struct sim_spec *spec, bool (*cancelled)(void),
            struct sim_report *r, struct err *e) MUST_CHECK;

#endif
