/* attribution.h: whose joules they were.
 *
 * Between two readings of a meter lies a window. While it is open, every step says which requests
 * had rows in it and what those weigh by the cost model (in picojoules or any other unit: only
 * ratios count), prompts and answers apart. When it closes, what the meter gained is shared out in
 * those proportions, to the microjoule, so that at any time
 *
 *     joules of all requests, over and running + idle = what the meter gained since open
 *
 * exactly. A window in which nobody was there is idle; one with requests but no work is, too. A
 * window closes when nobody was there and somebody comes, when a request that worked in it ends,
 * and after a step when it has been open for a while. Where the meter could not be read, the
 * requests of that window are not known; what was counted still goes to them.
 *
 * Work that is neither saw nor paid: tokens from a cache. What they would have weighed is told at
 * the end of a request and comes back priced at what its own prompt, or prompts lately, cost.
 *
 * Nothing allocates after open. Any thread may call anything but open and close. */
#ifndef ENERGY_ATTRIBUTION_H
#define ENERGY_ATTRIBUTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "energy/meter.h"

#define ATTRIBUTION_MAX_REQUESTS (1u << 20)

enum attribution_phase { PHASE_PREFILL, PHASE_DECODE, PHASE_IDLE, N_PHASES };

struct attribution;

/* A closed window: by phase and counted channel, in µJ. Called with a lock held. */
struct attribution_window {
    bool     known;                 /* the meter could be read at both ends */
    uint64_t ns, uj;
    uint64_t phase_uj[N_PHASES];
    uint32_t n_channels;
    const double *channel_uj;       /* [n_channels][N_PHASES] */
};

struct attribution_opts {
    struct meter *meter;            /* borrowed */
    uint32_t max_requests;          /* with a share in the energy at one time; default 8192 */
    uint64_t window_ns;             /* between readings while steps run; default 50 ms */
    void   (*on_window)(void *ctx, const struct attribution_window *w);
    void    *ctx;
};

struct attribution_share {
    uint64_t request;               /* not 0 */
    double   prefill, decode;       /* weights; none below 0 */
    double   machine_s;             /* of the step's time, what it is charged with */
};

struct attribution_result {         /* of one request */
    bool     known;                 /* false: the meter failed while it ran, or there is none */
    uint64_t prefill_uj, decode_uj;
    double   machine_s;
    double   saved_uj;              /* not measured: cached weight at the price of prompts */
};

struct attribution_totals {
    uint64_t meter_uj;              /* since open, by the windows that are closed */
    uint64_t phase_uj[N_PHASES];    /* add up to it */
    uint64_t live_uj;               /* of the first two, what requests have that are not over */
    uint64_t idle_ns, busy_ns;
    uint64_t n_windows, n_unknown;
    uint64_t lost_uj;               /* of requests that found no room; in the phases as well */
};

/* WATT_EINVAL, WATT_ENOMEM. */
int  attribution_open(struct attribution **out, const struct attribution_opts *opts,
                      struct err *e) MUST_CHECK;
void attribution_close(struct attribution *a);      /* NULL is fine */

/* A request is there from now on, waiting or running. */
void attribution_enter(struct attribution *a);
/* After a step. A request's first share makes it known. */
void attribution_step(struct attribution *a, const struct attribution_share *shares, uint32_t n);
/* It has ended; with `request` the one whose shares it had, or 0. Every enter needs one. out may be
 * NULL. */
void attribution_leave(struct attribution *a, uint64_t request, double cached_weight,
                       struct attribution_result *out);
/* Of the windows that are closed; the open one is closed when nobody is there. */
void attribution_totals(struct attribution *a, struct attribution_totals *t);

#endif
