/* test_sched_order.c: who comes when: shares of accounts, priorities without starvation, places
 * taken over, forks whose leader goes, late requests, refusals by waiting time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "infrastructure/sched.h"

enum { MAX_REQS = 400, MS = 1000000 };

struct one {
    struct rig *rig;
    uint64_t id;
    bool     over;
    uint32_t place;                 /* how many had ended before */
    struct sched_result result;
};

struct rig {
    struct kv     *kv;
    struct prefix *prefix;
    struct sched  *s;
    uint64_t now_ns;
    uint32_t n_over, n;
    struct one reqs[MAX_REQS];
};

static int step(void *ctx, const struct batch *b, float *out, struct err *e)
{
    (void)e;
    memset(out, 0, b->n_out * sizeof *out);
    ((struct rig *)ctx)->now_ns += MS + (uint64_t)b->n_rows * MS / 10;
    return 0;
}

static uint64_t now(void *ctx) { return ((struct rig *)ctx)->now_ns; }

static int32_t draw(void *ctx, const float *row)
{
    (void)ctx;
    (void)row;
    return 1;
}

static bool took(void *ctx, int32_t token)
{
    (void)ctx;
    return token != 1;
}

static void failed(void *ctx, struct err *e)
{
    (void)ctx;
    (void)e;
}

static void ended(void *ctx, const struct sched_result *r)
{
    struct one *o = ctx;

    o->over = true;
    o->place = o->rig->n_over++;
    o->result = *r;
}

static const struct sched_client client = { .draw = draw, .took = took, .failed = failed,
                                            .ended = ended };

static struct rig *rig_open(uint32_t n_seats, uint32_t n_pages, uint64_t max_wait_ns)
{
    struct rig *g = mem_calloc(1, sizeof *g);
    const struct kv_spec kv = { .page_bytes = 64, .page_tokens = 64, .n_pages = n_pages };
    struct sched_spec p = { .width = 1, .n_vocab = 100, .n_ctx = 4096, .n_seats = n_seats,
                            .max_rows = 128, .mixed_rows = 32, .max_out = n_seats + 1,
                            .max_reqs = MAX_REQS, .max_req_bytes = 1 << 30,
                            .max_wait_ns = max_wait_ns };
    struct err e = { 0 };

    assert_non_null(g);
    p.model.ctx = g;
    p.model.step = step;
    p.model.now_ns = now;
    if (kv_open(&g->kv, &kv, &e) < 0 || prefix_open(&g->prefix, g->kv, 0, NULL, &e) < 0)
        fail_msg("%s", e.msg);
    p.kv = g->kv;
    p.prefix = g->prefix;
    if (sched_open(&g->s, &p, &e) < 0)
        fail_msg("%s", e.msg);
    return g;
}

static void rig_close(struct rig *g)
{
    sched_close(g->s);
    prefix_close(g->prefix);
    assert_int_equal(kv_n_free(g->kv), kv_n_pages(g->kv));
    kv_close(g->kv);
    mem_free(g);
}

/* A prompt of n tokens that nobody else has, and `answer` to draw. */
static int add(struct rig *g, struct sched_request r, uint32_t n, uint32_t answer)
{
    int32_t tokens[4096];
    struct one *o = &g->reqs[g->n];

    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (int32_t)((i + g->n * 17) % 99);
    r.tokens = tokens;
    r.n_tokens = n;
    r.max_new = answer;
    r.no_cache = true;
    r.client = &client;
    r.ctx = o;
    *o = (struct one){ .rig = g };
    if (sched_submit(g->s, &r, &o->id, NULL) < 0)
        return -1;
    return (int)g->n++;
}

static void run_until(struct rig *g, const struct one *o)
{
    for (int i = 0; i < 100000 && !o->over; i++) {
        (void)sched_step(g->s);
        sched_verify(g->s);
    }
    assert_true(o->over);
}

static void run_all(struct rig *g)
{
    while (!sched_idle(g->s)) {
        (void)sched_step(g->s);
        sched_verify(g->s);
    }
}

static void accounts_share(void **state)
{
    struct rig *g = rig_open(2, 200, 0);
    uint32_t last_small = 0;

    (void)state;
    for (int i = 0; i < 100; i++)           /* floods */
        assert_true(add(g, (struct sched_request){ .account = 1 }, 64, 8) >= 0);
    for (int i = 0; i < 10; i++)
        assert_true(add(g, (struct sched_request){ .account = 2 }, 64, 8) >= 0);
    run_all(g);
    for (int i = 100; i < 110; i++)
        last_small = g->reqs[i].place > last_small ? g->reqs[i].place : last_small;
    assert_true(last_small <= 24);          /* ten of each, and who was there before */
    rig_close(g);
}

static void saving_up_is_no_use(void **state)
{
    struct rig *g = rig_open(1, 200, 0);
    uint32_t late = 0;

    (void)state;
    for (int i = 0; i < 40; i++)
        assert_true(add(g, (struct sched_request){ .account = 1 }, 64, 8) >= 0);
    run_until(g, &g->reqs[19]);
    for (int i = 0; i < 20; i++)            /* was away: begins where the other stands */
        assert_true(add(g, (struct sched_request){ .account = 2 }, 64, 8) >= 0);
    run_all(g);
    for (int i = 20; i < 40; i++)
        late += g->reqs[i].place < 40;
    assert_true(late >= 8 && late <= 12);   /* half of what came next */
    rig_close(g);
}

static void priorities_without_starvation(void **state)
{
    struct rig *g = rig_open(1, 200, 0);
    int low, high = -1;

    (void)state;
    assert_true(add(g, (struct sched_request){ .account = 1 }, 64, 4) >= 0);
    low = add(g, (struct sched_request){ .account = 1, .priority = -5 }, 64, 4);
    for (int i = 0; i < 8; i++)
        high = add(g, (struct sched_request){ .account = 1, .priority = 3 }, 64, 4);
    run_until(g, &g->reqs[high]);
    assert_false(g->reqs[low].over);
    while (g->n < 200 && !g->reqs[low].over) {      /* there is always one that is preferred */
        high = add(g, (struct sched_request){ .account = 1, .priority = 3 }, 64, 4);
        high = add(g, (struct sched_request){ .account = 1, .priority = 3 }, 64, 4);
        run_until(g, &g->reqs[high]);
    }
    assert_true(g->reqs[low].over && g->reqs[low].place <= 2 * SCHED_FAIR_EVERY);
    run_all(g);
    rig_close(g);
}

static void higher_ones_take_places(void **state)
{
    struct rig *g = rig_open(1, 200, 0);
    int low, high;

    (void)state;
    low = add(g, (struct sched_request){ .priority = 0 }, 64, 100);
    for (int i = 0; i < 10; i++)
        (void)sched_step(g->s);
    high = add(g, (struct sched_request){ .priority = 1 }, 64, 4);
    run_until(g, &g->reqs[high]);
    assert_false(g->reqs[low].over);
    run_all(g);
    assert_int_equal(g->reqs[low].result.n_preempted, 1);
    assert_int_equal(g->reqs[low].result.n_drawn, 100);
    rig_close(g);
}

static void followers_survive_their_leader(void **state)
{
    struct rig *g = rig_open(4, 200, 0);
    int lead, a, b;

    (void)state;
    lead = add(g, (struct sched_request){ .account = 1 }, 1000, 4);
    a = add(g, (struct sched_request){ .fork_of = g->reqs[lead].id }, 1000, 4);
    b = add(g, (struct sched_request){ .fork_of = g->reqs[lead].id }, 1000, 4);
    (void)sched_step(g->s);
    sched_cancel(g->s, g->reqs[lead].id);
    sched_cancel(g->s, g->reqs[b].id);
    run_all(g);
    assert_int_equal(g->reqs[lead].result.end, SCHED_CANCELLED);
    assert_int_equal(g->reqs[b].result.end, SCHED_CANCELLED);
    assert_int_equal(g->reqs[a].result.end, SCHED_LENGTH);
    rig_close(g);
}

static void late_ones_end(void **state)
{
    struct rig *g = rig_open(1, 200, 0);
    int first, waiting, in_time;

    (void)state;
    first = add(g, (struct sched_request){ .deadline_ns = 50 * (uint64_t)MS }, 64, 1000);
    waiting = add(g, (struct sched_request){ .deadline_ns = 20 * (uint64_t)MS }, 64, 10);
    in_time = add(g, (struct sched_request){ .deadline_ns = 5000 * (uint64_t)MS }, 64, 10);
    run_all(g);
    assert_int_equal(g->reqs[first].result.end, SCHED_LATE);
    assert_true(g->reqs[first].result.n_drawn > 0);
    assert_true(g->reqs[first].result.times.ended <= 55 * (uint64_t)MS);
    assert_int_equal(g->reqs[waiting].result.end, SCHED_LATE);
    assert_int_equal(g->reqs[waiting].result.n_drawn, 0);
    assert_int_equal(g->reqs[in_time].result.end, SCHED_LENGTH);
    rig_close(g);
}

static void long_queues_refuse(void **state)
{
    struct rig *g = rig_open(1, 200, 100 * (uint64_t)MS);
    struct sched_wait wait;
    int taken = 0;

    (void)state;
    assert_true(add(g, (struct sched_request){ .account = 1 }, 64, 100) >= 0);
    for (int i = 0; i < 10; i++)
        (void)sched_step(g->s);
    while (taken < 100 && add(g, (struct sched_request){ .account = 1 }, 64, 4) >= 0)
        taken++;
    assert_true(taken > 0 && taken < 20);
    wait = sched_wait(g->s);
    assert_int_equal(wait.mean_tokens, 64);
    /* the prompt itself counts, a longer one not more than those that wait */
    assert_true(sched_wait_ns(&wait, 0) < sched_wait_ns(&wait, 32));
    assert_true(sched_wait_ns(&wait, 64) > 100 * (uint64_t)MS);
    assert_int_equal(sched_wait_ns(&wait, 64), sched_wait_ns(&wait, 1 << 20));
    run_all(g);
    assert_true(add(g, (struct sched_request){ .account = 1 }, 64, 4) >= 0);
    rig_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accounts_share),
        cmocka_unit_test(saving_up_is_no_use),
        cmocka_unit_test(priorities_without_starvation),
        cmocka_unit_test(higher_ones_take_places),
        cmocka_unit_test(followers_survive_their_leader),
        cmocka_unit_test(late_ones_end),
        cmocka_unit_test(long_queues_refuse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
