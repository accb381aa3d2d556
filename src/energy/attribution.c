/* attribution.c: windows between readings, shared out exactly; see attribution.h. */
#include "energy/attribution.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

#define DEFAULT_REQUESTS 8192u
#define DEFAULT_WINDOW   UINT64_C(50000000)
#define NO_SLOT          UINT32_MAX

struct slot {
    uint64_t request;           /* 0: free */
    uint32_t next;              /* of its bucket, or of the free ones */
    bool     touched, unknown;
    double   weight[2];         /* in the window, by phase */
    uint64_t uj[2];
    double   paid_weight;       /* of prompts, in windows that are closed */
    double   machine_s;
};

struct attribution {
    struct meter *meter;
    uint64_t window_ns;
    void   (*on_window)(void *ctx, const struct attribution_window *w);
    void    *ctx;
    pthread_mutex_t mu;         /* all below */
    struct meter_reading last;
    struct slot *slots;         /* [n_slots] */
    uint32_t *buckets;          /* [n_slots], a power of two */
    uint32_t *touched;          /* [n_slots] */
    uint32_t  n_slots, n_touched, free;
    uint32_t  n_present;        /* entered and not left */
    double    stray[2];         /* weight of requests that found no room */
    double    price_uj;         /* of a prompt's unit of weight, lately */
    double   *channel_uj;       /* [METER_MAX_CHANNELS][N_PHASES] */
    struct attribution_totals sum;
};

static uint32_t bucket_of(const struct attribution *a, uint64_t request)
{
    return (uint32_t)(request * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (a->n_slots - 1);
}

static struct slot *find(struct attribution *a, uint64_t request)
{
    uint32_t i = a->buckets[bucket_of(a, request)];

    while (i != NO_SLOT && a->slots[i].request != request)
        i = a->slots[i].next;
    return i == NO_SLOT ? NULL : &a->slots[i];
}

static struct slot *find_or_make(struct attribution *a, uint64_t request)
{
    uint32_t *bucket = &a->buckets[bucket_of(a, request)];
    struct slot *s = find(a, request);
    uint32_t i = a->free;

    if (s || i == NO_SLOT)
        return s;
    s = &a->slots[i];
    a->free = s->next;
    *s = (struct slot){ .request = request, .next = *bucket };
    *bucket = i;
    return s;
}

static void drop(struct attribution *a, struct slot *s)
{
    const uint32_t i = (uint32_t)(s - a->slots);
    uint32_t *p = &a->buckets[bucket_of(a, s->request)];

    while (*p != i)
        p = &a->slots[*p].next;
    *p = s->next;
    s->request = 0;
    s->next = a->free;
    a->free = i;
}

/* ---- a window's end ---- */

/* What the running sum of weights has come to, in µJ of the whole: parts are differences of
 * neighbours, so that they add up whatever the rounding. */
static uint64_t up_to(double weight, double total, uint64_t uj)
{
    const double part = weight >= total ? (double)uj : weight / total * (double)uj;

    return part >= (double)uj ? uj : (uint64_t)part;
}

static double window_weight(const struct attribution *a)
{
    double total = a->stray[0] + a->stray[1];

    for (uint32_t i = 0; i < a->n_touched; i++) {
        const struct slot *s = &a->slots[a->touched[i]];

        total += s->weight[0] + s->weight[1];
    }
    return total;
}

struct split { double at, total; uint64_t given, uj; };

/* The next part of the window. The last one takes what is left: see share_out. */
static uint64_t take(struct split *x, double weight)
{
    uint64_t until, part;

    x->at += weight;
    until = up_to(x->at, x->total, x->uj);
    if (until < x->given)
        until = x->given;
    part = until - x->given;
    x->given = until;
    return part;
}

static void share_out(struct attribution *a, uint64_t uj, bool known, double total,
                      uint64_t phase_uj[N_PHASES])
{
    struct split x = { .total = total, .uj = uj };
    struct slot *last = NULL;
    double prompts = 0;

    for (int p = 0; p < 2; p++) {
        const uint64_t part = take(&x, a->stray[p]);

        phase_uj[p] += part;
        a->sum.lost_uj += part;
        a->stray[p] = 0;
    }
    for (uint32_t i = 0; i < a->n_touched; i++) {
        struct slot *s = &a->slots[a->touched[i]];

        s->paid_weight += s->weight[0];
        prompts += s->weight[0];
        for (int p = 0; p < 2; p++) {
            const uint64_t part = take(&x, s->weight[p]);

            s->uj[p] += part;
            phase_uj[p] += part;
            s->weight[p] = 0;
        }
        s->unknown |= !known;
        s->touched = false;
        last = s;
    }
    if (x.given < uj && last) {         /* a rounding of the sum of weights */
        last->uj[PHASE_DECODE] += uj - x.given;
        phase_uj[PHASE_DECODE] += uj - x.given;
    } else if (x.given < uj) {
        a->sum.lost_uj += uj - x.given;
        phase_uj[PHASE_DECODE] += uj - x.given;
    }
    if (known && prompts > 0) {
        const double price = (double)phase_uj[PHASE_PREFILL] / prompts;

        a->price_uj = a->price_uj > 0 ? 0.9 * a->price_uj + 0.1 * price : price;
    }
    a->n_touched = 0;
}

/* Every channel's gain in the proportions of the whole. */
static void tell(struct attribution *a, const struct meter_reading *now,
                 struct attribution_window *w)
{
    for (uint32_t c = 0; c < now->n; c++)
        for (int p = 0; p < N_PHASES; p++)
            a->channel_uj[c * N_PHASES + (uint32_t)p] = w->uj == 0 ? 0 :
                (double)(now->channel_uj[c] - a->last.channel_uj[c]) *
                (double)w->phase_uj[p] / (double)w->uj;
    w->n_channels = now->n;
    w->channel_uj = a->channel_uj;
    a->on_window(a->ctx, w);
}

/* Under mu. */
static void settle(struct attribution *a)
{
    struct meter_reading now;
    struct attribution_window w = { 0 };
    double total;

    meter_read(a->meter, &now);
    w.known = now.valid && a->last.valid && now.gaps == a->last.gaps;
    w.uj = now.uj > a->last.uj ? now.uj - a->last.uj : 0;
    w.ns = now.ns > a->last.ns ? now.ns - a->last.ns : 0;
    total = window_weight(a);
    if (total > 0)
        share_out(a, w.uj, w.known, total, w.phase_uj);
    else
        w.phase_uj[PHASE_IDLE] = w.uj;
    for (int p = 0; p < N_PHASES; p++)
        a->sum.phase_uj[p] += w.phase_uj[p];
    a->sum.meter_uj += w.uj;
    *(total > 0 ? &a->sum.busy_ns : &a->sum.idle_ns) += w.ns;
    a->sum.n_windows++;
    a->sum.n_unknown += !w.known;
    if (a->on_window)
        tell(a, &now, &w);
    a->last = now;
}

/* ---- open and close ---- */

int attribution_open(struct attribution **out, const struct attribution_opts *o, struct err *e)
{
    const uint32_t want = o->max_requests ? o->max_requests : DEFAULT_REQUESTS;
    struct attribution *a;

    if (want > ATTRIBUTION_MAX_REQUESTS || !o->meter)
        return err_set(e, WATT_EINVAL, "attribution: %u requests, at most %u", want,
                       ATTRIBUTION_MAX_REQUESTS);
    a = mem_calloc(1, sizeof *a);
    if (!a)
        return err_set(e, WATT_ENOMEM, "attribution");
    a->n_slots = 1;
    while (a->n_slots < want)
        a->n_slots *= 2;
    a->meter = o->meter;
    a->window_ns = o->window_ns ? o->window_ns : DEFAULT_WINDOW;
    a->on_window = o->on_window;
    a->ctx = o->ctx;
    (void)pthread_mutex_init(&a->mu, NULL);
    a->slots = mem_calloc(a->n_slots, sizeof *a->slots);
    a->buckets = mem_array(a->n_slots, sizeof *a->buckets);
    a->touched = mem_array(a->n_slots, sizeof *a->touched);
    a->channel_uj = mem_calloc(METER_MAX_CHANNELS * N_PHASES, sizeof *a->channel_uj);
    if (!a->slots || !a->buckets || !a->touched || !a->channel_uj) {
        attribution_close(a);
        return err_set(e, WATT_ENOMEM, "attribution: %u requests", a->n_slots);
    }
    memset(a->buckets, 0xff, a->n_slots * sizeof *a->buckets);
    for (uint32_t i = 0; i < a->n_slots; i++)
        a->slots[i].next = i + 1 < a->n_slots ? i + 1 : NO_SLOT;
    meter_read(a->meter, &a->last);
    *out = a;
    return 0;
}

void attribution_close(struct attribution *a)
{
    if (!a)
        return;
    (void)pthread_mutex_destroy(&a->mu);
    mem_free(a->slots);
    mem_free(a->buckets);
    mem_free(a->touched);
    mem_free(a->channel_uj);
    mem_free(a);
}

/* ---- from any thread ---- */

void attribution_enter(struct attribution *a)
{
    (void)pthread_mutex_lock(&a->mu);
    if (a->n_present++ == 0)
        settle(a);
    (void)pthread_mutex_unlock(&a->mu);
}

static double sane(double weight)
{
    return weight > 0 && isfinite(weight) ? weight : 0;
}

void attribution_step(struct attribution *a, const struct attribution_share *shares, uint32_t n)
{
    uint64_t now;

    (void)pthread_mutex_lock(&a->mu);
    for (uint32_t i = 0; i < n; i++) {
        struct slot *s = find_or_make(a, shares[i].request);
        double *weight = s ? s->weight : a->stray;

        weight[PHASE_PREFILL] += sane(shares[i].prefill);
        weight[PHASE_DECODE] += sane(shares[i].decode);
        if (s)
            s->machine_s += sane(shares[i].machine_s);
        if (s && !s->touched) {
            s->touched = true;
            a->touched[a->n_touched++] = (uint32_t)(s - a->slots);
        }
    }
    now = clock_mono_ns();
    if (now >= a->last.ns + a->window_ns)
        settle(a);
    (void)pthread_mutex_unlock(&a->mu);
}

void attribution_leave(struct attribution *a, uint64_t request, double cached_weight,
                       struct attribution_result *out)
{
    struct attribution_result r = { 0 };
    struct slot *s;

    (void)pthread_mutex_lock(&a->mu);
    s = request ? find(a, request) : NULL;
    if (a->n_touched > 0 && (a->n_present == 1 || (s && s->touched)))
        settle(a);
    if (s) {
        const double own = s->paid_weight > 0 ? (double)s->uj[PHASE_PREFILL] / s->paid_weight : 0;

        r.known = !s->unknown && a->last.n > 0;
        r.prefill_uj = s->uj[PHASE_PREFILL];
        r.decode_uj = s->uj[PHASE_DECODE];
        r.machine_s = s->machine_s;
        r.saved_uj = sane(cached_weight) * (own > 0 ? own : a->price_uj);
        drop(a, s);
    } else {
        /* it never ran: that cost nothing, where a meter would have told */
        r.known = a->last.n > 0 && a->last.valid;
    }
    if (a->n_present > 0)
        a->n_present--;
    (void)pthread_mutex_unlock(&a->mu);
    if (out)
        *out = r;
}

void attribution_totals(struct attribution *a, struct attribution_totals *t)
{
    (void)pthread_mutex_lock(&a->mu);
    if (a->n_present == 0)              /* in the midst of a step it would be its part's end */
        settle(a);
    *t = a->sum;
    for (uint32_t i = 0; i < a->n_slots; i++)
        if (a->slots[i].request)
            t->live_uj += a->slots[i].uj[0] + a->slots[i].uj[1];
    (void)pthread_mutex_unlock(&a->mu);
}
