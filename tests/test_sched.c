/* test_sched.c: the scheduler and the prefix tree under a made-up clock and model whose every
 * result is checked (infrastructure/simulate.c), with all invariants looked at after every step;
 * fairness, priorities, deadlines, forks, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "infrastructure/simulate.h"

static struct sim_report simulate(const struct trace *t, const struct sim_spec *p)
{
    struct sim_report r;
    struct err e = { 0 };

    if (sim_run(t, p, NULL, &r, &e) < 0)
        fail_msg("%s", e.msg);
    return r;
}

static struct trace random_trace(uint64_t seed, size_t n, double rate, uint32_t prompt,
                                 uint32_t answer)
{
    struct trace t;
    struct err e = { 0 };

    if (trace_random(&t, seed, n, rate, prompt, answer, &e) < 0)
        fail_msg("%s", e.msg);
    return t;
}

static uint64_t all_ended(const struct sim_report *r)
{
    uint64_t n = r->n_refused + r->n_never;

    for (int i = 0; i <= SCHED_FAILED; i++)
        n += r->n_ended[i];
    return n;
}

/* Small pools, so that everything that can run short does. */
static struct sim_spec tight(uint64_t seed)
{
    struct rng rng;
    struct sim_spec p = { .seed = seed, .verify = true };

    rng_init(&rng, seed);
    p.n_ctx = 1100;
    p.n_seats = 1 + rng_below(&rng, 12);
    p.max_rows = p.n_seats + 8 + rng_below(&rng, 200);
    p.mixed_rows = 1 + rng_below(&rng, 64);
    p.n_pages = 19 + rng_below(&rng, 60);
    p.max_queued = 1 + rng_below(&rng, 40);
    p.max_draft = rng_below(&rng, 2) ? 1 + rng_below(&rng, 6) : 0;
    p.n_slots = rng_below(&rng, 3) ? 0 : 2 * p.n_seats + rng_below(&rng, 10);
    p.no_prefix = rng_below(&rng, 5) == 0;
    p.cancel_share = rng_below(&rng, 2) ? 0.3 : 0;
    p.deadline_s = rng_below(&rng, 3) ? 0 : 20;
    return p;
}

static void random_schedules(void **state)
{
    uint64_t preempted = 0, cached = 0, accepted = 0, refused = 0, late = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        const struct sim_spec p = tight(seed);
        struct trace t = random_trace(seed, 150, 2, 1000, 90);
        const struct sim_report a = simulate(&t, &p), b = simulate(&t, &p);

        assert_memory_equal(&a, &b, sizeof a);      /* any seed replays */
        assert_int_equal(all_ended(&a), 150);
        assert_int_equal(a.n_ended[SCHED_FAILED], 0);
        preempted += a.n_preempted;
        cached += a.n_cached_tokens;
        accepted += a.n_accepted;
        refused += a.n_refused;
        late += a.n_ended[SCHED_LATE];
        trace_close(&t);
    }
    assert_true(preempted > 0 && cached > 0 && accepted > 0 && refused > 0 && late > 0);
}

/* Answers in blocks: whole prompts, and blocks that are run again and again; short blocks, last ones
 * that are shorter, prompts of one token, preemption amid a block. */
static void random_schedules_of_blocks(void **state)
{
    uint64_t preempted = 0, refused = 0, late = 0, cancelled = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct sim_spec p = tight(seed);
        struct trace t = random_trace(seed, 100, 2, seed % 4 == 0 ? 3 : 400, 90);
        struct sim_report a, b;

        p.block = 1 + (uint32_t)(seed * 7 % 70);
        p.shifted = seed % 2;
        p.n_slots = 0;
        p.n_pages = 10 + (uint32_t)seed % 20;
        p.n_ctx = 500;
        p.max_rows = 500 + p.n_seats;
        a = simulate(&t, &p);
        b = simulate(&t, &p);
        assert_memory_equal(&a, &b, sizeof a);
        assert_int_equal(all_ended(&a), 100);
        assert_int_equal(a.n_ended[SCHED_FAILED], 0);
        preempted += a.n_preempted;
        refused += a.n_refused;
        late += a.n_ended[SCHED_LATE];
        cancelled += a.n_ended[SCHED_CANCELLED];
        trace_close(&t);
    }
    assert_true(preempted > 0 && refused > 0 && late > 0 && cancelled > 0);
}

static size_t heap_bytes(void)
{
    return mallinfo2().uordblks;
}

/* 100,000 requests, a third of them cancelled somewhere. */
static void memory_stays_flat(void **state)
{
    const struct sim_spec p = { .cancel_share = 0.33, .n_seats = 32, .max_queued = 200,
                                .n_pages = 400, .max_draft = 2, .n_ctx = 1024, .step_ns = 1e5,
                                .row_ns = 1e4, .position_ns = 1, .seed = 9 };
    struct trace t = random_trace(3, 100000, 400, 200, 30);
    const struct sim_report r = simulate(&t, &p);
    const size_t before = heap_bytes();
    const struct sim_report again = simulate(&t, &p);

    (void)state;
    assert_memory_equal(&r, &again, sizeof r);
    assert_int_equal(all_ended(&r), 100000);
    assert_true(r.n_ended[SCHED_CANCELLED] > 20000);
    assert_true(heap_bytes() < before + 65536);     /* the allocator keeps some for itself */
    trace_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_schedules),
        cmocka_unit_test(random_schedules_of_blocks),
        cmocka_unit_test(memory_stays_flat),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
