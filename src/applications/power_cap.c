/* power_cap.c: readings in, limits out; see power_cap.h. */
#include "applications/power_cap.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int open_gauge(struct metric **out, struct metrics *m, const char *name, const char *help,
                      struct err *e)
{
    const struct metric_spec spec = { .kind = METRIC_GAUGE, .name = name, .help = help };

    return metric_open(out, m, &spec, e);
}

int power_cap_open(struct power_cap *p, double watts, struct meter *m,
                   const struct power_limit_opts *limits, struct metrics *metrics, struct err *e)
{
    int rc;

    *p = (struct power_cap){ .meter = m, .limit_set = 1 };
    if (!meter_measures(m))
        return err_set(e, WATT_EINVAL, "--power-cap needs a meter that measures: %s",
                       strcmp(meter_source(m), "none") == 0 ? meter_why(m)
                                                            : "an estimate is none");
    rc = open_gauge(&p->bound, metrics, "watt_power_cap_watts", "Bound of the mean power", e);
    if (rc == 0)
        rc = open_gauge(&p->level, metrics, "watt_power_cap_level",
                        "Share of full work that the bound leaves", e);
    if (rc == 0)
        rc = open_gauge(&p->limit, metrics, "watt_power_cap_limit",
                        "Share of their own limits that packages and GPUs are set to", e);
    if (rc == 0)
        rc = power_limit_open(&p->limits, limits, e);
    if (rc < 0)
        return rc;
    cap_init(&p->cap, watts);
    metric_set(p->limit, 1);
    metric_set(p->bound, watts);
    metric_set(p->level, p->cap.level);
    meter_read(m, &p->last);
    return rc;
}

static bool any_work(struct service *const *services, size_t n)
{
    struct service_stats st;

    for (size_t i = 0; i < n; i++) {
        service_stats(services[i], &st);
        if (st.n_running + st.n_waiting > 0)
            return true;
    }
    return false;
}

static void apply(const struct power_cap *p, struct service *const *services, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct service_limits l = { 0 };
        struct service_stats st;
        struct cap_knobs k;

        service_stats(services[i], &st);
        cap_knobs(p->cap.level, st.max_seqs, 256, &k);
        if (p->cap.level < 1)
            l = (struct service_limits){ k.max_running, k.max_rows, k.duty };
        service_limit(services[i], &l);
    }
}

void power_cap_close(struct power_cap *p)
{
    power_limit_close(p->limits);
    p->limits = NULL;
}

static void set_limits(struct power_cap *p, double watts, double busy)
{
    struct err e = { 0 };

    if (power_limit_n(p->limits) == 0)
        return;
    (void)cap_limit(&p->cap, watts, busy);
    if (p->cap.limit > CAP_LEAST_LIMIT)
        p->cap.out_of_reach = false;        /* there is more that can be done */
    if (p->cap.limit == p->limit_set)
        return;
    if (power_limit_set(p->limits, p->cap.limit, &e) < 0)
        (void)snprintf(p->why, sizeof p->why, "%.255s", e.msg);
    p->limit_set = p->cap.limit;
    metric_set(p->limit, p->limit_set);
}

void power_cap_tick(struct power_cap *p, struct service *const *services, size_t n)
{
    struct meter_reading r;
    double seconds, watts, busy;

    p->n_ticks++;
    p->n_busy += any_work(services, n);
    meter_read(p->meter, &r);
    seconds = (double)(r.ns - p->last.ns) * 1e-9;
    if (seconds < CAP_PERIOD)
        return;
    watts = r.valid && p->last.valid && r.gaps == p->last.gaps
                ? (double)(r.uj - p->last.uj) * 1e-6 / seconds : NAN;
    busy = (double)p->n_busy / p->n_ticks;
    (void)cap_update(&p->cap, watts, busy);
    set_limits(p, watts, busy);
    metric_set(p->level, p->cap.level);
    apply(p, services, n);
    p->last = r;
    p->n_ticks = p->n_busy = 0;
}
