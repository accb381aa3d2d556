/* meter_calibrate.c: see meter_calibrate.h. */
#include "applications/meter_calibrate.h"

#include <poll.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/team.h"
#include "chips/cpu/peaks.h"

#define REGION_BYTES ((size_t)256 << 20)
#define SLICE_BYTES  ((size_t)1 << 20)
#define NOISE        0.002      /* of idle power: no more than this is nothing */
#define OPS_STEPS    (UINT64_C(1) << 16)     /* of a kernel's loop between two looks at the clock */

struct load {
    struct meter *m;
    peak_fn      *fn;           /* NULL: reads the region, which may be NULL: idle */
    uint8_t      *region;
    unsigned      n_threads;
    uint64_t      settled_ns, end_ns;       /* clock_mono_ns */
    bool        (*cancelled)(void);
    _Atomic uint64_t done;      /* operations or bytes */
    atomic_bool   stop;
    _Atomic uint64_t sink;      /* so that what is read counts */
    /* worker 0's */
    struct meter_reading from, to;
    uint64_t      done_from, done_to;
    bool          settled;
};

/* A short piece of the load; returns what was done. */
static uint64_t piece(struct load *l, unsigned worker, size_t *at)
{
    if (l->fn)
        return l->fn(OPS_STEPS);
    if (!l->region) {
        (void)poll(NULL, 0, 20);
        return 0;
    }
    atomic_fetch_add_explicit(&l->sink, peak_read(l->region + *at, SLICE_BYTES, CPU_ALL),
                              memory_order_relaxed);
    *at += l->n_threads * SLICE_BYTES;
    if (*at >= REGION_BYTES)
        *at = worker * SLICE_BYTES;
    return SLICE_BYTES;
}

/* Worker 0 reads the meter when the load has settled, and at the end. */
static void watch(struct load *l)
{
    const uint64_t now = clock_mono_ns();

    if (!l->settled && now >= l->settled_ns) {
        l->settled = true;
        l->done_from = atomic_load(&l->done);
        meter_read(l->m, &l->from);
    }
    if (now >= l->end_ns || (l->cancelled && l->cancelled())) {
        l->done_to = atomic_load(&l->done);
        meter_read(l->m, &l->to);
        atomic_store(&l->stop, true);
    }
}

static void work(void *arg, unsigned worker)
{
    struct load *l = arg;
    size_t at = worker * SLICE_BYTES;

    if (at >= REGION_BYTES)
        at = 0;
    while (!atomic_load_explicit(&l->stop, memory_order_relaxed)) {
        atomic_fetch_add_explicit(&l->done, piece(l, worker, &at), memory_order_relaxed);
        if (worker == 0)
            watch(l);
    }
}

static int run_phase(struct load *l, struct team *team, double seconds, double settle_s,
                     struct calibrate_phase *p, struct err *e)
{
    const uint64_t start = clock_mono_ns();

    l->settled_ns = start + (uint64_t)(settle_s * 1e9);
    l->end_ns = l->settled_ns + (uint64_t)(seconds * 1e9);
    l->n_threads = team ? team_size(team) : 1;
    if (team)
        team_run(team, work, l);
    else
        work(l, 0);
    if (l->cancelled && l->cancelled())
        return err_set(e, WATT_ECANCEL, "interrupted");
    if (!l->settled || !l->from.valid || !l->to.valid || l->from.gaps != l->to.gaps ||
        l->to.ns <= l->from.ns)
        return err_set(e, WATT_EINVAL, "the meter %s could not be read all the time: %s",
                       meter_source(l->m), *meter_why(l->m) ? meter_why(l->m)
                                                      : "its readings came seconds apart");
    p->seconds = (double)(l->to.ns - l->from.ns) * 1e-9;
    p->watts = (double)(l->to.uj - l->from.uj) * 1e-6 / p->seconds;
    p->rate = (double)(l->done_to - l->done_from) / p->seconds;
    return 0;
}

static double pico(const struct calibrate_phase *p, double idle_w)
{
    return p->watts > (1 + NOISE) * idle_w && p->rate > 0 ? (p->watts - idle_w) / p->rate * 1e12 : 0;
}

void calibration_fit(struct calibration *c)
{
    c->k.idle_w = c->idle.watts;
    c->k.pj_per_op = pico(&c->ops, c->idle.watts);
    c->k.pj_per_byte = pico(&c->bytes, c->idle.watts);
}

int meter_calibrate(struct meter *m, double seconds, double settle_s, unsigned n_threads,
                    bool (*cancelled)(void), struct calibration *out, struct err *e)
{
    const struct load none = { .m = m, .cancelled = cancelled };
    peak_fn *int8 = peak_of(PEAK_INT8, CPU_ALL);
    struct load idle = none, ops = none, bytes = none;
    struct team *team = NULL;
    int rc;

    if (!meter_measures(m))
        return err_set(e, WATT_EINVAL, "calibration needs a meter that measures (--meter), found %s: %s",
                       meter_source(m), meter_why(m));
    *out = (struct calibration){ .kind = int8 ? "int8" : "F32" };
    ops.fn = int8 ? int8 : peak_of(PEAK_F32, CPU_ALL);
    rc = run_phase(&idle, NULL, seconds, settle_s, &out->idle, e);
    out->idle.rate = 0;
    if (rc == 0)
        rc = team_open(&team, n_threads ? n_threads : team_default_threads(), e);
    if (rc == 0)
        rc = run_phase(&ops, team, seconds, settle_s, &out->ops, e);
    if (rc == 0 && !(bytes.region = mem_map(REGION_BYTES)))
        rc = err_set(e, WATT_ENOMEM, "calibration: no region of %zu bytes to read", REGION_BYTES);
    if (rc == 0) {
        for (size_t i = 0; i < REGION_BYTES; i += 4096)
            bytes.region[i] = (uint8_t)(i >> 12);
        rc = run_phase(&bytes, team, seconds, settle_s, &out->bytes, e);
    }
    if (bytes.region)
        mem_unmap(bytes.region, REGION_BYTES);
    team_close(team);
    if (rc == 0)
        calibration_fit(out);
    return rc;
}
