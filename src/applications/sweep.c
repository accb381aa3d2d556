/* sweep.c: drives a target and notes what comes; see sweep.h. */
#include "applications/sweep.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "applications/pareto.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"

#define WAIT_MS 20u

struct sweep_slot {
    struct sweep *sweep;
    uint64_t  index;            /* of the request */
    const struct trace_arrival *arrival;
    uint32_t  n_prompt, n_answer;
    uint64_t  start_ns;
    uint64_t *token_ns;         /* [SWEEP_MAX_ANSWER at most] of n_tokens */
    uint32_t  n_tokens, cap_tokens;
    bool      busy, over;
    uint32_t  usage_prompt, usage_cached, usage_answer;
    bool      refused, failed;
    char      failure[160];
};

struct samples { double *v; size_t n, cap; };

struct sweep {
    const struct sweep_spec *spec;
    struct sweep_target *target;
    pthread_mutex_t mu;
    pthread_cond_t  cond;
    struct sweep_slot *slots;   /* [n_slots], of which the first n_used were ever taken */
    uint32_t n_slots, n_used, n_busy;
    atomic_uint n_over;         /* of those under way */
    uint64_t n_started, n_total;
    uint64_t salt;              /* of the point: no prompt comes twice */
    /* of the point at hand */
    struct samples ttft, itl, user;
    double   n_in, n_cached, n_out;
    uint64_t begin_ns, end_ns;
};

/* ---- requests ---- */

uint32_t sweep_n_prompt(const struct sweep_slot *s)
{
    return s->n_prompt;
}

uint32_t sweep_n_answer(const struct sweep_slot *s)
{
    return s->n_answer;
}

uint64_t sweep_prompt_token(const struct sweep_slot *s, uint32_t k)
{
    const struct sweep_spec *spec = s->sweep->spec;
    uint64_t id = (UINT64_C(1) << 62) + s->index;

    if (s->arrival) {
        const uint64_t block = (uint64_t)(k / spec->scale) / TRACE_BLOCK_TOKENS;

        if (block < s->arrival->n_blocks)
            id = spec->trace->blocks[s->arrival->first_block + block];
    }
    return rng_mix(rng_mix(rng_mix(spec->seed + s->sweep->salt) ^ id) + k);
}

/* ---- events ---- */

void sweep_token(struct sweep_slot *s)
{
    struct sweep *w = s->sweep;

    (void)pthread_mutex_lock(&w->mu);
    if (s->n_tokens < s->cap_tokens)
        s->token_ns[s->n_tokens++] = clock_mono_ns();
    (void)pthread_mutex_unlock(&w->mu);
}

void sweep_done(struct sweep_slot *s, uint32_t n_prompt, uint32_t n_cached, uint32_t n_answer,
                bool refused, const char *failure)
{
    struct sweep *w = s->sweep;

    (void)pthread_mutex_lock(&w->mu);
    s->usage_prompt = n_prompt;
    s->usage_cached = n_cached;
    s->usage_answer = n_answer;
    s->refused = refused;
    s->failed = failure != NULL;
    (void)snprintf(s->failure, sizeof s->failure, "%s", failure ? failure : "");
    s->over = true;
    atomic_fetch_add(&w->n_over, 1);
    (void)pthread_cond_signal(&w->cond);
    (void)pthread_mutex_unlock(&w->mu);
}

/* ---- samples ---- */

static int keep(struct samples *s, double v, struct err *e)
{
    if (s->n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 1024;
        double *grown = mem_grow(s->v, cap, sizeof *grown);

        if (!grown)
            return err_set(e, WATT_ENOMEM, "sweep: %zu samples", cap);
        s->v = grown;
        s->cap = cap;
    }
    s->v[s->n++] = v;
    return 0;
}

/* ---- one request's beginning and end ---- */

static uint32_t scaled(uint32_t n, double scale, uint32_t most)
{
    const double v = round(n * scale);

    return v < 1 ? 1 : v > most ? most : (uint32_t)v;
}

static int start(struct sweep *w, struct sweep_slot *s, struct err *e)
{
    const struct sweep_spec *spec = w->spec;

    s->index = w->n_started++;
    s->arrival = spec->trace ? &spec->trace->v[s->index] : NULL;
    s->n_prompt = spec->trace ? scaled(s->arrival->n_prompt, spec->scale, TRACE_MAX_TOKENS)
                              : spec->n_prompt;
    s->n_answer = spec->trace ? scaled(s->arrival->n_answer, spec->scale, SWEEP_MAX_ANSWER)
                              : spec->n_answer;
    if (s->n_answer > s->cap_tokens) {
        uint64_t *grown = mem_grow(s->token_ns, s->n_answer, sizeof *grown);

        if (!grown)
            return err_set(e, WATT_ENOMEM, "sweep: an answer of %u tokens", s->n_answer);
        s->token_ns = grown;
        s->cap_tokens = s->n_answer;
    }
    s->n_tokens = 0;
    s->busy = true;
    w->n_used = s - w->slots < w->n_used ? w->n_used : (uint32_t)(s - w->slots) + 1;
    s->over = s->refused = s->failed = false;
    w->n_busy++;
    s->start_ns = clock_mono_ns();
    return w->target->start(w->target->ctx, s, e);
}

/* Takes what a request that is over has shown. */
static int finish(struct sweep *w, struct sweep_slot *s, struct sweep_point *p, struct err *e)
{
    const uint32_t n = s->n_tokens, shown = s->usage_answer ? s->usage_answer : n;
    int rc = 0;

    s->busy = false;
    w->n_busy--;
    atomic_fetch_sub(&w->n_over, 1);
    p->n_requests++;
    p->n_refused += s->refused;
    p->n_failed += s->failed && !s->refused;
    if ((s->failed || s->refused) && p->failure[0] == '\0')
        (void)snprintf(p->failure, sizeof p->failure, "%s", s->failure);
    if (s->failed || s->refused || n == 0)
        return 0;
    w->n_in += s->usage_prompt ? s->usage_prompt : s->n_prompt;
    w->n_cached += s->usage_cached;
    w->n_out += shown;
    w->end_ns = s->token_ns[n - 1] > w->end_ns ? s->token_ns[n - 1] : w->end_ns;
    rc = keep(&w->ttft, (double)(s->token_ns[0] - s->start_ns) * 1e-9, e);
    for (uint32_t i = 1; rc == 0 && i < n; i++)
        rc = keep(&w->itl, (double)(s->token_ns[i] - s->token_ns[i - 1]) * 1e-9, e);
    if (rc == 0 && n > 1 && shown > 1 && s->token_ns[n - 1] > s->token_ns[0])
        rc = keep(&w->user, (shown - 1) / ((double)(s->token_ns[n - 1] - s->token_ns[0]) * 1e-9), e);
    return rc;
}

/* ---- one point ---- */

static uint64_t due_ns(const struct sweep *w, double rate)
{
    return w->begin_ns + (uint64_t)((double)(w->spec->trace->v[w->n_started].at_ns -
                                             w->spec->trace->v[0].at_ns) / rate);
}

static struct sweep_slot *free_slot(struct sweep *w, uint32_t most)
{
    for (uint32_t i = 0; i < most; i++)
        if (!w->slots[i].busy)
            return &w->slots[i];
    return NULL;
}

/* Starts all that is to be started now. */
static int start_due(struct sweep *w, double value, struct err *e)
{
    const uint32_t most = w->spec->trace ? w->n_slots : (uint32_t)value;
    struct sweep_slot *s;
    int rc = 0;

    while (rc == 0 && w->n_started < w->n_total && (s = free_slot(w, most)) &&
           (!w->spec->trace || due_ns(w, value) <= clock_mono_ns()))
        rc = start(w, s, e);
    return rc;
}

static void wait_for_events(struct sweep *w, double value)
{
    unsigned ms = WAIT_MS;
    struct timespec until;

    if (w->spec->trace && w->n_started < w->n_total) {
        const uint64_t due = due_ns(w, value), now = clock_mono_ns();

        ms = due <= now ? 0 : due - now < WAIT_MS * UINT64_C(1000000)
                                  ? (unsigned)((due - now) / 1000000) : WAIT_MS;
    }
    if (w->target->run) {
        w->target->run(w->target->ctx, ms);
        return;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)ms * 1000000 + 100000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_mutex_lock(&w->mu);
    (void)pthread_cond_timedwait(&w->cond, &w->mu, &until);
    (void)pthread_mutex_unlock(&w->mu);
}

static bool is_over(struct sweep *w, struct sweep_slot *s)
{
    bool over;

    (void)pthread_mutex_lock(&w->mu);
    over = s->busy && s->over;
    (void)pthread_mutex_unlock(&w->mu);
    return over;
}

static int take_finished(struct sweep *w, struct sweep_point *p, struct err *e)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && atomic_load(&w->n_over) > 0 && i < w->n_used; i++)
        if (is_over(w, &w->slots[i]))
            rc = finish(w, &w->slots[i], p, e);
    return rc;
}

static void fill_point(struct sweep *w, const struct meter_reading *from,
                       const struct meter_reading *to, struct sweep_point *p)
{
    p->seconds = w->end_ns > w->begin_ns ? (double)(w->end_ns - w->begin_ns) * 1e-9 : 0;
    p->ttft_s = quantiles_of(w->ttft.v, w->ttft.n);
    p->itl_s = quantiles_of(w->itl.v, w->itl.n);
    p->user_tok_s = quantiles_of(w->user.v, w->user.n).p50;
    p->cached_share = w->n_in > 0 ? w->n_cached / w->n_in : 0;
    p->watts = p->joules_token = p->tok_s_watt = SWEEP_UNKNOWN;
    if (p->seconds <= 0)
        return;
    p->in_tok_s = w->n_in / p->seconds;
    p->out_tok_s = w->n_out / p->seconds;
    p->requests_s = (double)w->ttft.n / p->seconds;
    if (from->valid && to->valid && from->gaps == to->gaps && to->ns > from->ns) {
        const double joules = (double)(to->uj - from->uj) * 1e-6;

        p->watts = joules / ((double)(to->ns - from->ns) * 1e-9);
        p->joules_token = w->n_out > 0 ? p->watts / p->out_tok_s : SWEEP_UNKNOWN;
        p->tok_s_watt = p->watts > 0 ? p->out_tok_s / p->watts : SWEEP_UNKNOWN;
    }
}

static int run_point(struct sweep *w, double value, struct sweep_point *p, uint64_t done,
                     uint64_t total, struct err *e)
{
    struct meter_reading from = { 0 }, to = { 0 };
    int rc = 0;

    *p = (struct sweep_point){ .value = value };
    w->ttft.n = w->itl.n = w->user.n = 0;
    w->n_in = w->n_cached = w->n_out = 0;
    w->n_started = 0;
    if (w->spec->meter)
        meter_read(w->spec->meter, &from);
    w->begin_ns = w->end_ns = clock_mono_ns();
    while (rc == 0 && (w->n_started < w->n_total || w->n_busy > 0)) {
        rc = start_due(w, value, e);
        if (rc == 0)
            wait_for_events(w, value);
        if (rc == 0)
            rc = take_finished(w, p, e);
        if (rc == 0 && w->spec->cancelled && w->spec->cancelled())
            rc = err_set(e, WATT_ECANCEL, "interrupted");
        if (w->spec->progress)
            w->spec->progress(w->spec->progress_ctx, done + p->n_requests, total);
    }
    if (w->spec->meter)
        meter_read(w->spec->meter, &to);
    if (rc < 0)
        w->target->stop(w->target->ctx);
    fill_point(w, &from, &to, p);
    return rc;
}

/* ---- all of them ---- */

static uint64_t requests_of(const struct sweep_spec *s, double value)
{
    const uint64_t wanted = s->n_requests;

    if (s->trace)
        return wanted && wanted < s->trace->n ? wanted : s->trace->n;
    if (wanted)
        return wanted;
    return value < 4 ? 16 : 4 * (uint64_t)value;
}

static int check(const struct sweep_spec *s, struct err *e)
{
    if (s->n_values == 0 || s->n_values > SWEEP_MAX_POINTS)
        return err_set(e, WATT_EINVAL, "sweep: %zu points, expected 1 to %u", s->n_values,
                       SWEEP_MAX_POINTS);
    for (size_t i = 0; i < s->n_values; i++)
        if (!(s->values[i] > 0) || (!s->trace && (s->values[i] > SWEEP_MAX_SLOTS ||
                                                  s->values[i] != floor(s->values[i]))))
            return err_set(e, WATT_EINVAL, "sweep: %g, expected %s", s->values[i],
                           s->trace ? "a rate above 0" : "whole numbers of clients from 1 to 4096");
    if (s->trace && s->trace->n == 0)
        return err_set(e, WATT_EINVAL, "sweep: a trace without arrivals");
    if (!s->trace && (s->n_prompt == 0 || s->n_answer == 0 || s->n_answer > SWEEP_MAX_ANSWER))
        return err_set(e, WATT_EINVAL, "sweep: prompts of %u tokens and answers of %u, expected 1 and "
                       "more, and at most %u", s->n_prompt, s->n_answer, SWEEP_MAX_ANSWER);
    return 0;
}

static void mark_front(struct sweep_point *v, size_t n)
{
    double x[SWEEP_MAX_POINTS] = { 0 }, y[SWEEP_MAX_POINTS] = { 0 };
    bool front[SWEEP_MAX_POINTS];

    for (size_t i = 0; i < n; i++) {
        x[i] = v[i].user_tok_s > 0 ? v[i].user_tok_s : NAN;
        y[i] = v[i].out_tok_s;
    }
    pareto_front(x, y, n, front);
    for (size_t i = 0; i < n; i++)
        v[i].front = front[i];
}

static int run_all(struct sweep *w, struct sweep_point *out, size_t *n, struct err *e)
{
    const struct sweep_spec *s = w->spec;
    uint64_t total = 0, done = 0;
    int rc = 0;

    for (size_t i = 0; i < s->n_values; i++)
        total += requests_of(s, s->values[i]);
    for (size_t i = 0; rc == 0 && i < s->n_values; i++) {
        w->n_total = requests_of(s, s->values[i]);
        w->salt = i << 32;
        rc = run_point(w, s->values[i], &out[i], done, total, e);
        done += w->n_total;
        *n += rc == 0;
    }
    return rc;
}

int sweep_run(struct sweep_target *t, const struct sweep_spec *spec, struct sweep_point *out,
              size_t *n, struct err *e)
{
    struct sweep w = { .spec = spec, .target = t, .n_slots = spec->trace ? SWEEP_MAX_SLOTS : 1 };
    pthread_condattr_t attr;
    int rc = check(spec, e);

    *n = 0;
    if (rc < 0)
        return rc;
    for (size_t i = 0; !spec->trace && i < spec->n_values; i++)
        w.n_slots = spec->values[i] > w.n_slots ? (uint32_t)spec->values[i] : w.n_slots;
    w.slots = mem_calloc(w.n_slots, sizeof *w.slots);
    if (!w.slots)
        return err_set(e, WATT_ENOMEM, "sweep: %u requests under way", w.n_slots);
    for (uint32_t i = 0; i < w.n_slots; i++)
        w.slots[i].sweep = &w;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&w.cond, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)pthread_mutex_init(&w.mu, NULL);
    rc = run_all(&w, out, n, e);
    mark_front(out, *n);
    for (uint32_t i = 0; i < w.n_slots; i++)
        mem_free(w.slots[i].token_ns);
    mem_free(w.slots);
    mem_free(w.ttft.v);
    mem_free(w.itl.v);
    mem_free(w.user.v);
    (void)pthread_cond_destroy(&w.cond);
    (void)pthread_mutex_destroy(&w.mu);
    return rc;
}
