/* plan_fleet.c: see plan_fleet.h. Servers know nothing of each other, so arrivals are dealt out
 * first and each server's are simulated by themselves. */
#include "applications/plan_fleet.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

#define MAX_SERVERS 4096u
#define MAX_QUEUED 65536u
#define PAGE_TOKENS 64.0        /* of the simulator */
#define OVERLOAD 1.5            /* a beginning's own server is left when it has so many times the
                                 * mean work */

struct fleet {
    const struct fleet_spec *spec;
    const struct trace *trace;
    struct trace part;          /* arrivals of the server at hand; blocks are the trace's */
    struct sim_spec sim;
    uint32_t *server_of;        /* [arrivals] */
    double   *free_at;          /* [servers] when what was dealt out will be done */
    double   *ttft, *itl, *queue;       /* [n_…] */
    size_t    n_ttft, n_itl, n_queue;
    double    token_s, prompt_s;        /* of the estimate */
    double    scale;
    uint32_t  n_pages;          /* that a server's memory holds */
};

/* ---- what a step takes ---- */

static int price_steps(struct fleet *f, struct err *e)
{
    const struct plan_spec *p = f->spec->plan;
    const unsigned tp = f->spec->point->tp;
    const uint32_t ctx = (uint32_t)fmax(1, p->load.prompt + p->load.answer);
    const double left = plan_usable_memory(p->chip) * tp * f->spec->point->pp -
                        (double)model_facts(p->model)->tensor_bytes;
    const double page = PAGE_TOKENS * fmax(plan_kv_bytes(p), 1);
    double one, full, deep, deep_full;
    int rc = plan_step(p, tp, 1, 1, 0, &one, NULL, NULL, e);

    if (rc == 0)
        rc = plan_step(p, tp, p->chunk, 1, 0, &full, NULL, NULL, e);
    if (rc == 0)
        rc = plan_step(p, tp, 1, 1, ctx, &deep, NULL, NULL, e);
    if (rc == 0)
        rc = plan_step(p, tp, p->chunk, 1, ctx, &deep_full, NULL, NULL, e);
    if (rc < 0)
        return rc;
    f->sim.row_ns = fmax(1, 1e9 * (full - one) / fmax(1, p->chunk - 1.0));
    f->sim.step_ns = fmax(1, 1e9 * one - f->sim.row_ns);
    f->sim.read_ns = fmax(0, 1e9 * (deep - one) / ctx);
    f->sim.position_ns = fmax(1e-6, 1e9 * (deep_full - full - (deep - one)) / ctx / p->chunk);
    f->n_pages = (uint32_t)fmin(fmax(left / page, 2), 1u << 26);
    if (model_facts(p->model)->fixed_floats)
        f->sim.n_slots = 2 * f->spec->point->batch + 1;
    f->prompt_s = f->sim.row_ns * 1e-9;
    f->token_s = (f->sim.step_ns / f->spec->point->batch + f->sim.row_ns) * 1e-9;
    return 0;
}

/* ---- dealing out ---- */

static uint32_t least(const struct fleet *f)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < f->spec->n_servers; i++)
        if (f->free_at[i] < f->free_at[best])
            best = i;
    return best;
}

static uint32_t choose(const struct fleet *f, size_t i, double now)
{
    const struct trace_arrival *a = &f->trace->v[i];
    double mean = 0;
    uint32_t own;

    if (f->spec->route == FLEET_TURNS)
        return (uint32_t)(i % f->spec->n_servers);
    if (f->spec->route == FLEET_LEAST || a->n_blocks == 0)
        return least(f);
    own = (uint32_t)(rng_mix(f->trace->blocks[a->first_block + (a->n_blocks > 1)]) %
                     f->spec->n_servers);
    for (uint32_t s = 0; s < f->spec->n_servers; s++)
        mean += fmax(0, f->free_at[s] - now) / f->spec->n_servers;
    return f->free_at[own] - now > OVERLOAD * mean + 1 ? least(f) : own;
}

static void deal(struct fleet *f)
{
    const double rate = f->sim.rate > 0 ? f->sim.rate : 1;

    for (size_t i = 0; i < f->trace->n; i++) {
        const struct trace_arrival *a = &f->trace->v[i];
        const double now = (double)a->at_ns * 1e-9 / rate;
        const double work = f->scale * (a->n_prompt * f->prompt_s + a->n_answer * f->token_s);
        const uint32_t s = choose(f, i, now);

        f->server_of[i] = s;
        f->free_at[s] = fmax(f->free_at[s], now) + work;
    }
}

/* ---- one server after the other ---- */

static void ended(void *ctx, const struct sim_outcome *o)
{
    struct fleet *f = ctx;

    f->queue[f->n_queue++] = o->queue_s;
    if (o->ttft_s > 0)
        f->ttft[f->n_ttft++] = o->ttft_s;
    if (o->itl_s > 0)
        f->itl[f->n_itl++] = o->itl_s;
}

/* No more than all arrivals would fill: the simulator's pages take memory, too. */
static uint32_t pages_needed(const struct fleet *f)
{
    double n = 2.0 * f->sim.n_seats + 2;

    for (size_t i = 0; i < f->part.n; i++)
        n += ceil(f->scale * ((double)f->part.v[i].n_prompt + f->part.v[i].n_answer) / PAGE_TOKENS) + 1;
    return n < f->n_pages ? (uint32_t)n : f->n_pages;
}

static int run_server(struct fleet *f, uint32_t s, bool (*cancelled)(void), struct fleet_report *r,
                      double *busy_s, struct err *e)
{
    struct sim_report one;
    int rc;

    f->part.n = 0;
    for (size_t i = 0; i < f->trace->n; i++)
        if (f->server_of[i] == s)
            f->part.v[f->part.n++] = f->trace->v[i];
    *busy_s = 0;
    if (f->part.n == 0)
        return 0;
    f->sim.seed = s;
    f->sim.max_queued = f->part.n < MAX_QUEUED ? (uint32_t)f->part.n : MAX_QUEUED;
    f->sim.n_pages = pages_needed(f);
    rc = sim_run(&f->part, &f->sim, cancelled, &one, e);
    if (rc < 0)
        return rc;
    *busy_s = one.busy_s;
    r->n_requests += one.n_requests;
    r->n_refused += one.n_refused;
    r->n_never += one.n_never;
    r->n_good += one.n_good;
    r->n_prompt_tokens += one.n_prompt_tokens;
    r->n_cached_tokens += one.n_cached_tokens;
    r->n_answer_tokens += one.n_answer_tokens;
    r->simulated_s = fmax(r->simulated_s, one.simulated_s);
    r->digest = rng_mix(r->digest ^ one.digest);
    return 0;
}

/* ---- the report ---- */

static void add_money(const struct fleet *f, double busy_s, struct fleet_report *r)
{
    const struct plan_spec *p = f->spec->plan;
    const struct plan_point *pt = f->spec->point;
    const double chips = (double)pt->tp * pt->pp, all_s = r->simulated_s * f->spec->n_servers;
    const double idle = plan_all_in_w(p, p->chip->max_w > 0 ? p->chip->idle_w : PLAN_UNKNOWN);

    r->joules = r->all_in_joules = r->usd = PLAN_UNKNOWN;
    if (pt->chip_w >= 0)
        r->joules = chips * (busy_s * pt->chip_w + (all_s - busy_s) * p->chip->idle_w);
    if (pt->all_in_w >= 0 && idle >= 0)
        r->all_in_joules = chips * (busy_s * pt->all_in_w + (all_s - busy_s) * idle);
    if (pt->usd_hour >= 0)
        r->usd = pt->usd_hour / p->n_chips * chips * all_s / 3600;
}

static int run_all(struct fleet *f, bool (*cancelled)(void), struct fleet_report *r, struct err *e)
{
    double *busy = mem_calloc(f->spec->n_servers, sizeof *busy), sum = 0;
    int rc = busy ? 0 : err_set(e, WATT_ENOMEM, "fleet of %u servers", f->spec->n_servers);

    deal(f);
    for (uint32_t s = 0; rc == 0 && s < f->spec->n_servers; s++)
        rc = run_server(f, s, cancelled, r, &busy[s], e);
    if (rc == 0 && r->simulated_s > 0) {
        r->idlest = INFINITY;
        for (uint32_t s = 0; s < f->spec->n_servers; s++) {
            sum += busy[s];
            r->busiest = fmax(r->busiest, busy[s] / r->simulated_s);
            r->idlest = fmin(r->idlest, busy[s] / r->simulated_s);
        }
        r->busy = sum / (r->simulated_s * f->spec->n_servers);
        r->out_tok_s = (double)r->n_answer_tokens / r->simulated_s;
        r->goodput_per_s = (double)r->n_good / r->simulated_s;
        add_money(f, sum, r);
    }
    mem_free(busy);
    return rc;
}

int fleet_run(const struct trace *t, const struct fleet_spec *spec, bool (*cancelled)(void),
              struct fleet_report *r, struct err *e)
{
    struct fleet f = { .spec = spec, .trace = t, .scale = spec->scale > 0 ? spec->scale : 1 };
    int rc;

    if (spec->n_servers == 0 || spec->n_servers > MAX_SERVERS || t->n == 0)
        return err_set(e, WATT_EINVAL, "fleet: %u servers and %zu arrivals, expected 1 to %u servers "
                       "and at least one arrival", spec->n_servers, t->n, MAX_SERVERS);
    f.sim = (struct sim_spec){
        .n_seats = spec->point->batch < SCHED_MAX_SEATS ? spec->point->batch : SCHED_MAX_SEATS,
        .max_rows = spec->plan->chunk > spec->point->batch ? spec->plan->chunk : spec->point->batch,
        .mixed_rows = spec->plan->chunk,
        .max_wait_s = spec->max_wait_s, .rate = spec->rate,
        .scale = spec->scale, .ttft_goal_s = spec->ttft_goal_s, .itl_goal_s = spec->itl_goal_s,
        .ended = ended, .ctx = &f,
    };
    *r = (struct fleet_report){ .joules = PLAN_UNKNOWN, .all_in_joules = PLAN_UNKNOWN,
                                .usd = PLAN_UNKNOWN };
    f.part = *t;
    f.part.v = mem_array(t->n, sizeof *f.part.v);
    f.server_of = mem_array(t->n, sizeof *f.server_of);
    f.free_at = mem_calloc(spec->n_servers, sizeof *f.free_at);
    f.ttft = mem_array(t->n, sizeof *f.ttft);
    f.itl = mem_array(t->n, sizeof *f.itl);
    f.queue = mem_array(t->n, sizeof *f.queue);
    if (!f.part.v || !f.server_of || !f.free_at || !f.ttft || !f.itl || !f.queue)
        rc = err_set(e, WATT_ENOMEM, "fleet: %zu arrivals", t->n);
    else
        rc = price_steps(&f, e);
    if (rc == 0)
        rc = run_all(&f, cancelled, r, e);
    if (rc == 0) {
        r->ttft_s = quantiles_of(f.ttft, f.n_ttft);
        r->itl_s = quantiles_of(f.itl, f.n_itl);
        r->queue_s = quantiles_of(f.queue, f.n_queue);
    }
    mem_free(f.part.v);
    mem_free(f.server_of);
    mem_free(f.free_at);
    mem_free(f.ttft);
    mem_free(f.itl);
    mem_free(f.queue);
    return rc;
}
