/* power_cap.h: holds a serving machine's power under a bound: energy/cap.h says how much it may work,
 * the service does so by admitting less, taking shorter steps and pausing between them. Where that is
 * not enough, limits of packages and GPUs are lowered (energy/power_limit.h). */
#ifndef APPLICATIONS_POWER_CAP_H
#define APPLICATIONS_POWER_CAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/metric.h"
#include "energy/cap.h"
#include "energy/meter.h"
#include "energy/power_limit.h"
#include "models/service.h"

struct power_cap {
    struct cap    cap;
    struct meter *meter;            /* borrowed */
    struct meter_reading last;
    uint32_t      n_ticks, n_busy;
    struct metric *level, *bound, *limit;
    struct power_limit *limits;     /* the machine's own */
    double        limit_set;        /* share of them that is set */
    bool          out_of_reach;     /* has been said */
    char          why[256];         /* a limit that was refused, to be said once; else "" */
};

/* The meter must measure: what is not seen can't be held. WATT_EINVAL, WATT_ENOMEM. */
int  power_cap_open(struct power_cap *p, double watts, struct meter *m,
                    const struct power_limit_opts *limits, struct metrics *metrics,
                    struct err *e) MUST_CHECK;
/* Puts the machine's limits back. A zeroed one is fine. */
void power_cap_close(struct power_cap *p);
/* Every quarter of a second or so, from one thread, with all services of the machine. */
void power_cap_tick(struct power_cap *p, struct service *const *services, size_t n);

#endif
