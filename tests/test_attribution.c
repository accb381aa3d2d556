/* test_attribution.c: joules of requests and idle joules are what the meter gained, whatever comes,
 * goes, is cancelled or preempted, and however the counter behaves. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "energy/attribution.h"

#define SECOND UINT64_C(1000000000)
#define RANGE  65536e6
#define MAX    24

/* A machine with a clock and a counter that tests move. */
struct machine { uint64_t now; double uj; bool fails; };

static uint64_t mono(void *ctx) { return ((struct machine *)ctx)->now; }
static int64_t wall(void *ctx) { return (int64_t)((struct machine *)ctx)->now; }

static int counter(void *ctx, double *uj, struct err *e)
{
    const struct machine *m = ctx;

    *uj = fmod(m->uj, RANGE);
    return m->fails ? err_set(e, WATT_EIO, "simulated") : 0;
}

static void begin(struct machine *m, struct clock_source *source)
{
    *source = (struct clock_source){ mono, wall, m };
    clock_install(source);
}

static struct meter *open_meter(struct machine *x)
{
    const struct meter_opts o = { .want = "counter", .counter = counter, .counter_ctx = x,
                                  .range_uj = RANGE, .no_thread = true };
    struct meter *m = NULL;
    struct err e = { 0 };

    if (meter_open(&m, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return m;
}

static struct attribution *open_attribution(struct meter *m, uint32_t max, uint64_t window)
{
    const struct attribution_opts o = { .meter = m, .max_requests = max, .window_ns = window };
    struct attribution *a = NULL;
    struct err e = { 0 };

    if (attribution_open(&a, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return a;
}

static void pass(struct machine *x, double seconds, double watts)
{
    x->now += (uint64_t)(seconds * 1e9);
    x->uj += floor(seconds * watts * 1e6);
}

/* One request alone has all but what was idle, prompt and answer by their weights. */
static void test_alone(void **state)
{
    struct machine x = { .now = SECOND };
    struct clock_source source;
    struct attribution_share s = { .request = 7, .prefill = 3 };
    struct attribution_result r;
    struct attribution_totals t;
    struct meter *m;
    struct attribution *a;

    (void)state;
    begin(&x, &source);
    m = open_meter(&x);
    a = open_attribution(m, 16, 0);
    pass(&x, 1, 20);                    /* idle */
    attribution_enter(a);
    pass(&x, 0.5, 100);
    attribution_step(a, &s, 1);         /* its window is closed: it was long */
    pass(&x, 0.01, 100);
    s = (struct attribution_share){ .request = 7, .decode = 1 };
    attribution_step(a, &s, 1);
    attribution_leave(a, 7, 6, &r);
    assert_true(r.known);
    assert_int_equal(r.prefill_uj, 50000000);
    assert_int_equal(r.decode_uj, 1000000);
    assert_true(fabs(r.saved_uj - 100e6) < 1);      /* twice its own prompt's weight */
    pass(&x, 2, 20);
    attribution_totals(a, &t);
    assert_int_equal(t.meter_uj, 111000000);
    assert_int_equal(t.phase_uj[PHASE_IDLE], 60000000);
    assert_int_equal(t.phase_uj[PHASE_PREFILL], 50000000);
    assert_int_equal(t.phase_uj[PHASE_DECODE], 1000000);
    assert_int_equal(t.idle_ns, 3 * SECOND);
    assert_int_equal(t.live_uj, 0);
    attribution_close(a);
    meter_close(m);
    clock_install(NULL);
}

/* Two requests in one window share it by weight. */
static void test_together(void **state)
{
    struct machine x = { .now = SECOND };
    struct clock_source source;
    const struct attribution_share s[] = { { .request = 1, .prefill = 30 }, { .request = 2, .decode = 10 } };
    struct attribution_result r1, r2;
    struct meter *m;
    struct attribution *a;

    (void)state;
    begin(&x, &source);
    m = open_meter(&x);
    a = open_attribution(m, 2, 0);
    attribution_enter(a);
    attribution_enter(a);
    pass(&x, 0.04, 100);
    attribution_step(a, s, 2);
    attribution_leave(a, 1, 0, &r1);
    attribution_leave(a, 2, 0, &r2);
    assert_int_equal(r1.prefill_uj, 3000000);
    assert_int_equal(r2.decode_uj, 1000000);
    attribution_close(a);
    meter_close(m);
    clock_install(NULL);
}

/* A meter that fails while a request runs leaves that request unknown, not others. */
static void test_unknown(void **state)
{
    struct machine x = { .now = SECOND };
    struct clock_source source;
    struct attribution_share s = { .request = 1, .decode = 1 };
    struct attribution_result r;
    struct meter *m;
    struct attribution *a;

    (void)state;
    begin(&x, &source);
    m = open_meter(&x);
    a = open_attribution(m, 2, 0);
    attribution_enter(a);
    pass(&x, 1, 50);
    attribution_step(a, &s, 1);
    x.fails = true;
    pass(&x, 1, 50);
    attribution_step(a, &s, 1);
    x.fails = false;
    pass(&x, 5, 50);
    attribution_step(a, &s, 1);
    attribution_leave(a, 1, 0, &r);
    assert_false(r.known);
    attribution_enter(a);
    s.request = 2;
    pass(&x, 1, 50);
    attribution_step(a, &s, 1);
    attribution_leave(a, 2, 0, &r);
    assert_true(r.known);
    assert_int_equal(r.decode_uj, 50000000);
    attribution_enter(a);
    attribution_leave(a, 0, 0, &r);     /* one that never ran */
    assert_true(r.known);
    assert_int_equal(r.decode_uj + r.prefill_uj, 0);
    attribution_close(a);
    meter_close(m);
    clock_install(NULL);
}

static void test_none(void **state)
{
    const struct meter_opts o = { .want = "none" };
    struct attribution_share s = { .request = 1, .decode = 1 };
    struct attribution_result r;
    struct attribution *a;
    struct meter *m = NULL;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(meter_open(&m, &o, &e), 0);
    a = open_attribution(m, 2, 0);
    attribution_enter(a);
    attribution_step(a, &s, 1);
    attribution_leave(a, 1, 0, &r);
    assert_false(r.known);
    attribution_close(a);
    meter_close(m);
}

/* ---- random schedules ---- */

struct live { uint64_t id; uint32_t prompt, done, answer; bool ran; };

struct schedule {
    struct machine x;
    struct rng rng;
    struct attribution *a;
    struct live live[MAX];
    uint32_t n, n_over;
    uint64_t next_id, over_uj;
};

static double random_weight(struct rng *r)
{
    return exp(rng_double(r) * 40 - 10);        /* 17 orders of magnitude */
}

static void random_step(struct schedule *s)
{
    struct attribution_share shares[MAX];
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        struct live *l = &s->live[i];

        if (rng_below(&s->rng, 4) == 0)         /* it waits, or was preempted */
            continue;
        if (rng_below(&s->rng, 40) == 0)
            l->done = 0;                        /* and computes its prompt again */
        shares[n++] = (struct attribution_share){
            .request = l->id,
            .prefill = l->done < l->prompt ? random_weight(&s->rng) : 0,
            .decode = l->done >= l->prompt ? random_weight(&s->rng) : 0,
        };
        l->done++;
        l->ran = true;
    }
    pass(&s->x, rng_double(&s->rng) * 0.2, rng_double(&s->rng) * 900);
    if (rng_below(&s->rng, 200) == 0)
        s->x.uj += 1e12;                        /* an absurd reading, or a reset */
    s->x.fails = rng_below(&s->rng, 100) == 0;
    attribution_step(s->a, shares, n);
}

static void random_end(struct schedule *s)
{
    const uint32_t i = rng_below(&s->rng, s->n);
    struct attribution_result r;

    attribution_leave(s->a, s->live[i].ran ? s->live[i].id : 0, random_weight(&s->rng), &r);
    s->over_uj += r.prefill_uj + r.decode_uj;
    s->live[i] = s->live[--s->n];
    s->n_over++;
}

static void run_schedule(uint64_t seed, double *worst)
{
    struct schedule s = { .x = { .now = SECOND }, .next_id = seed << 20 };
    struct clock_source source;
    struct attribution_totals t;
    struct meter_reading from, to;
    struct meter *m;
    uint64_t sum;
    double off;

    begin(&s.x, &source);
    rng_init(&s.rng, seed);
    m = open_meter(&s.x);
    meter_read(m, &from);
    s.a = open_attribution(m, 1 + rng_below(&s.rng, 2 * MAX),
                           1 + rng_below(&s.rng, 300000000));
    for (int i = 0; i < 120; i++) {
        const uint32_t what = rng_below(&s.rng, 10);

        if (what < 2 && s.n < MAX) {
            s.live[s.n++] = (struct live){ .id = ++s.next_id, .prompt = rng_below(&s.rng, 5) };
            attribution_enter(s.a);
        } else if (what == 2 && s.n > 0) {
            random_end(&s);
        } else if (what == 3) {
            pass(&s.x, rng_double(&s.rng), 30);
        } else {
            random_step(&s);
        }
        if (i % 40 == 0)
            attribution_totals(s.a, &t);
    }
    while (s.n > 0)
        random_end(&s);
    s.x.fails = false;
    attribution_totals(s.a, &t);
    meter_read(m, &to);
    sum = s.over_uj + t.phase_uj[PHASE_IDLE] + t.lost_uj + t.live_uj;
    off = fabs((double)sum - (double)(to.uj - from.uj)) / ((double)(to.uj - from.uj) + 1);
    *worst = off > *worst ? off : *worst;
    assert_int_equal(t.meter_uj, to.uj - from.uj);
    assert_int_equal(t.meter_uj, t.phase_uj[0] + t.phase_uj[1] + t.phase_uj[2]);
    attribution_close(s.a);
    meter_close(m);
    clock_install(NULL);
}

static void test_conservation(void **state)
{
    double worst = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 10000; seed++)
        run_schedule(seed, &worst);
    (void)fprintf(stderr, "10000 random schedules: off by %g of the total at most\n", worst);
    assert_true(worst < 1e-9);
}

/* ---- threads ---- */

struct client { struct attribution *a; uint64_t id, uj; };

static void *client(void *arg)
{
    struct client *c = arg;

    for (int i = 0; i < 300; i++) {
        const struct attribution_share s = { .request = c->id + (uint64_t)i * 64, .prefill = 1, .decode = 2 };
        struct attribution_result r;

        attribution_enter(c->a);
        attribution_step(c->a, &s, 1);
        attribution_leave(c->a, s.request, 1, &r);
        c->uj += r.prefill_uj + r.decode_uj;
    }
    return NULL;
}

static void test_threads(void **state)
{
    const struct meter_coefficients k = { .idle_w = 1e6, .pj_per_op = 1, .pj_per_byte = 1 };
    const struct meter_opts o = { .want = "estimate", .estimate = &k, .interval_ms = 10 };
    struct meter *m = NULL;
    struct err e = { 0 };
    struct attribution *a;
    struct attribution_totals t;
    struct client c[4];
    pthread_t threads[4];
    uint64_t sum = 0;

    (void)state;
    assert_int_equal(meter_open(&m, &o, &e), 0);
    a = open_attribution(m, 64, 1);
    for (unsigned i = 0; i < 4; i++) {
        c[i] = (struct client){ .a = a, .id = i + 1 };
        assert_int_equal(pthread_create(&threads[i], NULL, client, &c[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        sum += c[i].uj;
    }
    attribution_totals(a, &t);
    assert_int_equal(sum + t.phase_uj[PHASE_IDLE] + t.lost_uj, t.meter_uj);
    assert_int_equal(t.live_uj, 0);
    attribution_close(a);
    meter_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone), cmocka_unit_test(test_together),
        cmocka_unit_test(test_unknown), cmocka_unit_test(test_none),
        cmocka_unit_test(test_conservation), cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
