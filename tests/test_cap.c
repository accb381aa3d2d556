/* test_cap.c: the power cap against simulated machines: overshoot, settling, changes of load, noise,
 * lag, bounds that can't be held. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/rng.h"
#include "energy/cap.h"

#define TICK 0.01

/* Idle power, and what work at full level adds, behind a lag; noise on what is measured. */
struct plant {
    double idle, full, lag_s, noise, curve, power;
    double others;              /* what other programs add, which no level changes */
    double most;                /* the package's own limit as it was found; 0: none can be set */
    struct rng rng;
};

static double run_period(struct plant *p, const struct cap *c, double load)
{
    const double work = p->full * load * pow(c->level, p->curve) + p->others;
    const double goal = p->idle + (p->most > 0 ? fmin(work, p->most * c->limit) : work);
    double sum = 0;
    int n = 0;

    for (double t = 0; t < CAP_PERIOD - TICK / 2; t += TICK, n++) {
        p->power += (goal - p->power) * (p->lag_s > 0 ? 1 - exp(-TICK / p->lag_s) : 1);
        sum += p->power;
    }
    return sum / n * (1 + p->noise * rng_normal(&p->rng));
}

struct seen { double worst, mean, settle_s; };

/* Runs for so long; worst: mean of two seconds over the bound, as a share of it. */
static struct seen run(struct cap *c, struct plant *p, double load, double seconds)
{
    double window[4] = { 0 }, tail = 0;
    const int n = (int)(seconds / CAP_PERIOD);
    struct seen s = { 0 };
    int n_tail = 0;

    for (int i = 0; i < n; i++) {
        const double w = run_period(p, c, load);
        double mean = 0;

        window[i % 4] = w;
        for (int k = 0; k < 4; k++)
            mean += window[k] / 4;
        if (i >= 3 && mean / c->watts - 1 > s.worst)
            s.worst = mean / c->watts - 1;
        if (fabs(w - c->watts) > 0.1 * c->watts && !(c->level >= 1 && w < c->watts))
            s.settle_s = (i + 1) * CAP_PERIOD;
        if (i >= n * 2 / 3) {
            tail += w;
            n_tail++;
        }
        (void)cap_update(c, w, load);
        if (p->most > 0)
            (void)cap_limit(c, w, load);
    }
    s.mean = tail / n_tail;
    return s;
}

static void test_plants(void **state)
{
    static const double idles[] = { 5, 40, 100 }, fulls[] = { 60, 200, 700 }, lags[] = { 0, 0.3, 1 };
    double worst = 0, slowest = 0;

    (void)state;
    for (int i = 0; i < 27 * 3; i++) {
        struct plant p = { .idle = idles[i % 3], .full = fulls[i / 3 % 3], .lag_s = lags[i / 9 % 3],
                           .noise = 0.01, .curve = (const double[]){ 1, 0.6, 1.5 }[i / 27] };
        const double watts = p.idle + 0.45 * p.full;
        struct cap c;
        struct seen s;

        rng_init(&p.rng, (uint64_t)i + 1);
        p.power = p.idle;
        cap_init(&c, watts);
        for (int k = 0; k < 4; k++)
            (void)cap_update(&c, run_period(&p, &c, 0), 0);
        s = run(&c, &p, 1, 60);
        worst = s.worst > worst ? s.worst : worst;
        slowest = s.settle_s > slowest ? s.settle_s : slowest;
        if (s.worst > 0.05 || s.settle_s > 15 || s.mean > watts || s.mean < 0.9 * watts)
            fail_msg("plant %d: over by %.1f %%, settled after %.1f s, mean %.1f of %.1f W", i,
                     100 * s.worst, s.settle_s, s.mean, watts);
    }
    (void)fprintf(stderr, "81 plants: two seconds' mean over the bound by %.2f %% at most, settled in %.1f s "
                  "at most\n", 100 * worst, slowest);
}

/* Load comes and goes: every time the bound holds again soon. */
static void test_load_steps(void **state)
{
    struct plant p = { .idle = 30, .full = 120, .lag_s = 0.2, .noise = 0.01, .curve = 1, .power = 30 };
    struct cap c;

    (void)state;
    rng_init(&p.rng, 1);
    cap_init(&c, 60);
    for (int i = 0; i < 6; i++) {
        struct seen s;

        (void)run(&c, &p, 0, 10);
        s = run(&c, &p, 1, 30);
        assert_true(s.worst < 0.05);
        assert_true(s.mean < 60 && s.mean > 55);
        s = run(&c, &p, 0.4, 20);       /* a thin load must not open the gate for a full one */
        assert_true(s.worst < 0.05);
        s = run(&c, &p, 1, 20);
        assert_true(s.worst < 0.05);
    }
}

/* Other programs use the machine: working less is not enough, the package's limit is. It stays as
 * it was while it is not needed, and comes back when they are gone. */
static void test_limits(void **state)
{
    struct plant p = { .idle = 20, .full = 80, .lag_s = 0.3, .noise = 0.01, .curve = 1, .power = 20,
                       .most = 150 };
    struct cap c;
    struct seen s;

    (void)state;
    rng_init(&p.rng, 1);
    cap_init(&c, 60);
    s = run(&c, &p, 1, 60);
    assert_true(c.limit == 1 && s.mean > 54 && s.mean < 60);
    p.others = 70;
    (void)run(&c, &p, 1, 15);
    s = run(&c, &p, 1, 60);
    assert_true(c.limit < 0.5);
    assert_true(s.worst < 0.05 && s.mean < 60.6 && s.mean > 48);
    p.others = 0;
    p.full = 30;
    s = run(&c, &p, 1, 60);
    assert_true(c.limit > 0.3 && s.mean <= 60.6);       /* it no longer binds */
    assert_true(c.level == 1);
    (void)run(&c, &p, 0, 60);
    assert_true(c.limit > 0.3);                 /* nothing is learned from no work */
}

static void test_no_need(void **state)
{
    struct plant p = { .idle = 30, .full = 20, .curve = 1, .power = 30 };
    struct cap c;

    (void)state;
    rng_init(&p.rng, 1);
    cap_init(&c, 100);
    (void)run(&c, &p, 1, 20);
    assert_true(c.level == 1);
    assert_true(c.held && !c.out_of_reach);
}

static void test_out_of_reach(void **state)
{
    struct plant p = { .idle = 80, .full = 100, .curve = 1, .power = 80 };
    struct cap c;

    (void)state;
    rng_init(&p.rng, 1);
    cap_init(&c, 60);
    (void)run(&c, &p, 1, 30);
    assert_true(c.level == CAP_LEAST);
    assert_true(c.out_of_reach && !c.held);
    (void)cap_update(&c, NAN, 1);
    assert_true(c.level == CAP_LEAST);
}

/* A meter that says nothing: the level falls, and comes back with the readings. */
static void test_blind(void **state)
{
    struct plant p = { .idle = 30, .full = 120, .curve = 1, .power = 30 };
    struct cap c;

    (void)state;
    rng_init(&p.rng, 1);
    cap_init(&c, 60);
    (void)run(&c, &p, 1, 20);
    for (int i = 0; i < 20; i++)
        (void)cap_update(&c, NAN, 1);
    assert_true(c.level == CAP_LEAST);
    assert_true(run(&c, &p, 1, 30).mean > 55);
}

static void test_knobs(void **state)
{
    struct cap_knobs k;

    (void)state;
    cap_knobs(1, 16, 256, &k);
    assert_true(k.duty == 1 && k.max_running == 16 && k.max_rows == 256);
    cap_knobs(0.5, 16, 256, &k);
    assert_true(k.duty == 0.5 && k.max_running == 16 && k.max_rows == 128);
    cap_knobs(0.1, 16, 256, &k);
    assert_true(k.max_running == 4 && k.max_rows == 26);
    cap_knobs(CAP_LEAST, 1, 1, &k);
    assert_true(k.max_running == 1 && k.max_rows == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plants), cmocka_unit_test(test_load_steps),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_no_need), cmocka_unit_test(test_out_of_reach),
        cmocka_unit_test(test_blind), cmocka_unit_test(test_knobs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
