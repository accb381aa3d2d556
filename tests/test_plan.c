/* test_plan.c: the planner: its table of chips, a step against sums by hand, throughput and latency
 * that agree, memory, money, what is best, the fleet; pictures in characters. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "applications/chart.h"
#include "applications/pareto.h"
#include "applications/plan_fleet.h"
#include "applications/plan_report.h"
#include "base/fault.h"
#include "base/mem.h"
#include "models/synth.h"
#include "spawn.h"

static struct plan_chips table;
static struct err e;
static struct spawned r;

static struct model *model_of(const char *shape, enum quant_mix mix)
{
    const struct synth_opts o = { .mix = mix };
    struct model *m = NULL;

    assert_non_null(shape_find(shape));
    assert_int_equal(synth_plan(&m, shape_find(shape), &o, &e), 0);
    return m;
}

/* A chip that reaches all it has, and nothing but reading takes time. */
static const struct plan_chip reader = {
    .name = "reader", .ops = { 1e30, 1e30, 1e30, 1e30, 1e30 }, .memory_bytes = 1e12,
    .read_bytes_s = 1e9, .group = 1, .idle_w = 10, .max_w = 110, .usd_hour = 2, .ops_share = { 1, 1, 1, 1, 1 },
    .attention_share = 1, .read_share = 1, .kv_share = 1, .link_share = 1,
};

static struct plan_spec spec_of(const struct model *m, const struct plan_chip *c)
{
    return (struct plan_spec){
        .model = m, .chip = c, .n_chips = 1, .chunk = 512, .kv_element_bytes = 2,
        .load = { 100, 50, 0, 1 },
        .money = { .chip_hour = -1, .life_years = 4, .kwh = 0.1, .pue = 1.5 },
    };
}

static void check_near(double got, double want, double share, const char *what)
{
    if (!(fabs(got - want) <= share * fabs(want)))
        fail_msg("%s is %g, expected %g", what, got, want);
}

/* ---- chips ---- */

static void test_table_is_sound(void **state)
{
    (void)state;
    plan_chips_init(&table);
    assert_true(table.n > 10);
    for (size_t i = 0; i < table.n; i++) {
        const struct plan_chip *c = &table.v[i];

        assert_true(c->ops[PLAN_F32] > 0 && c->memory_bytes > 0 && c->read_bytes_s > 0);
        assert_true(c->group >= 1 && c->max_w > c->idle_w && c->source[0]);
        assert_true(c->all_in_w <= 0 || c->all_in_w > c->max_w);
        assert_true(c->ops_share[PLAN_F32] > 0 && c->ops_share[PLAN_BF16] <= 1 && c->kv_share > 0);
        assert_ptr_equal(plan_chips_find(&table, c->name), c);
    }
    assert_non_null(plan_chips_find(&table, "H100"));
    assert_null(plan_chips_find(&table, "h1000"));
}

#define OWN "{\"name\": \"h100\", \"tops\": {\"f32\": 1, \"int8\": 4}, \"memory_gb\": 10, \"read_gb_s\": 5"

static void test_a_file_adds_chips(void **state)
{
    static const char text[] = "{\"chips\": [" OWN ", \"cpu\": true, \"max_w\": 9}]}";
    const struct plan_chip *c;
    size_t n;

    (void)state;
    plan_chips_init(&table);
    n = table.n;
    assert_int_equal(plan_chips_parse(&table, "chips", text, sizeof text - 1, &e), 0);
    assert_int_equal(table.n, n + 1);
    c = plan_chips_find(&table, "h100");
    assert_true(c->cpu && c->ops[PLAN_INT8] == 4e12 && c->memory_bytes == 10e9 && c->max_w == 9);
}

static void test_a_bad_file_is_refused(void **state)
{
    static const struct { const char *text, *says; } cases[] = {
        { "{", "chips" },
        { "{}", "chips" },
        { "[{}]", "name" },
        { "[{\"name\": \"\", \"tops\": {\"f32\": 1}, \"memory_gb\": 1, \"read_gb_s\": 1}]", "1 to 47" },
        { "[{\"name\": \"a\", \"memory_gb\": 1, \"read_gb_s\": 1}]", "tops" },
        { "[{\"name\": \"a\", \"tops\": {}, \"memory_gb\": 1, \"read_gb_s\": 1}]", "f32" },
        { "[{\"name\": \"a\", \"tops\": {\"f32\": 1}, \"read_gb_s\": 1}]", "memory_gb" },
        { "[{\"name\": \"a\", \"tops\": {\"f32\": -1}, \"memory_gb\": 1, \"read_gb_s\": 1}]", "f32" },
        { "[" OWN ", \"read_share\": 0}]", "shares" },
        { "[" OWN ", \"ops_sher\": 0.5}]", "unknown member 'ops_sher'" },
        { "[" OWN ", \"ops_share\": {\"int9\": 0.5}}]", "unknown member 'int9'" },
        { "[" OWN ", \"ops_share\": 1.5}]", "ops_share" },
        { "[" OWN ", \"ops_share\": {\"int8\": 2}}]", "ops_share.int8" },
        { "[" OWN ", \"idle_w\": 5, \"max_w\": 4}]", "idle_w" },
        { "[" OWN ", \"group\": 0}]", "group" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        plan_chips_init(&table);
        const size_t n = table.n;

        assert_true(plan_chips_parse(&table, "chips", cases[i].text, strlen(cases[i].text), &e) < 0);
        if (!strstr(e.msg, cases[i].says))
            fail_msg("case %zu: \"%s\" does not name %s", i, e.msg, cases[i].says);
        assert_int_equal(table.n, n);
    }
}

/* ---- a model without weights ---- */

/* The program costs what that of the written file does. */
static void test_a_shape_is_priced_as_its_file(void **state)
{
    static const char *const shapes[] = { "tiny-llama", "tiny-moe", "tiny-gpt2", "tiny-qwen3",
                                          "tiny-mistral3", "tiny-mamba2", "tiny-falcon-h1",
                                          "tiny-llada" };
    static const char path[] = "plan_test.gguf";

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct synth_opts o = { .mix = QUANT_Q4_K_M, .seed = 1, .n_threads = 1 };
        struct model *planned = model_of(shapes[i], QUANT_Q4_K_M), *written;
        struct prog_cost a, b;

        assert_int_equal(synth_write(path, shape_find(shapes[i]), &o, &e), 0);
        assert_int_equal(model_open(&written, path, NULL, &e), 0);
        prog_cost(model_program(planned), 7, 2, 11, 3, &a, NULL);
        prog_cost(model_program(written), 7, 2, 11, 3, &b, NULL);
        assert_memory_equal(&a, &b, sizeof a);
        assert_true(a.ops > 0 && a.weight_bytes > 0);
        assert_int_equal(model_facts(planned)->tensor_bytes, model_facts(written)->tensor_bytes);
        assert_int_equal(model_facts(planned)->n_params, model_facts(written)->n_params);
        model_close(planned);
        model_close(written);
    }
    assert_int_equal(remove(path), 0);
}

/* ---- a step ---- */

static void test_a_step_takes_its_bytes(void **state)
{
    struct model *m = model_of("tiny-llama", QUANT_BF16);
    struct plan_spec s = spec_of(m, &reader);
    struct prog_cost cost;
    enum plan_bound bound;
    double t, w;

    (void)state;
    prog_cost(model_program(m), 3, 3, 40, 3, &cost, NULL);
    assert_int_equal(plan_step(&s, 1, 3, 3, 40, &t, &w, &bound, &e), 0);
    check_near(t, (cost.weight_bytes + cost.kv_bytes) / 1e9, 1e-9, "a step");
    assert_int_equal(bound, PLAN_BY_MEMORY);
    check_near(w, 10 + 100 * 0.65, 1e-6, "watts");

    s.kv_element_bytes = 4;
    assert_int_equal(plan_step(&s, 1, 3, 3, 40, &t, NULL, NULL, &e), 0);
    check_near(t, (cost.weight_bytes + 2 * cost.kv_bytes) / 1e9, 1e-9, "a step with an F32 cache");
    model_close(m);
}

static void test_a_step_takes_its_operations(void **state)
{
    struct model *m = model_of("tiny-llama", QUANT_Q8_0);
    struct plan_chip c = reader;
    struct plan_spec s = spec_of(m, &c);
    struct prog_cost cost;
    enum plan_bound bound;
    double t, half;

    (void)state;
    c.read_bytes_s = 1e30;
    for (int i = 0; i < PLAN_N_OPS; i++)
        c.ops[i] = 1e9;
    prog_cost(model_program(m), 64, 1, 0, 1, &cost, NULL);
    assert_int_equal(plan_step(&s, 1, 64, 1, 0, &t, NULL, &bound, &e), 0);
    check_near(t, cost.ops / 1e9, 1e-9, "a step");
    assert_int_equal(bound, PLAN_BY_OPS);
    c.ops[PLAN_INT8] = c.ops[PLAN_FP8] = 2e9;       /* most products are by Q8_0 */
    assert_int_equal(plan_step(&s, 1, 64, 1, 0, &half, NULL, NULL, &e), 0);
    assert_true(half < 0.6 * t && half > 0.45 * t);
    model_close(m);
}

static void test_links_and_heads_bound_a_split(void **state)
{
    struct model *m = model_of("tiny-llama", QUANT_BF16);       /* 2 heads of keys, 2 layers, 256 wide */
    struct plan_chip c = reader;
    struct plan_spec s = spec_of(m, &c);
    struct prog_cost cost;
    double t;

    (void)state;
    c.link_bytes_s = 1e9;
    c.link_latency_s = 1e-3;
    c.group = 4;
    prog_cost(model_program(m), 8, 8, 100, 8, &cost, NULL);
    assert_int_equal(plan_step(&s, 4, 8, 8, 100, &t, NULL, NULL, &e), 0);
    check_near(t, (cost.weight_bytes / 4 + cost.kv_bytes / 2) / 1e9 +
                      2 * 2 * (2 * 0.75 * 8 * 256 * 2 / 1e9 + 2 * 2 * 1e-3), 1e-9, "a split step");
    model_close(m);
}

static void test_a_prompt_is_its_chunks(void **state)
{
    struct model *m = model_of("tiny-qwen3", QUANT_Q4_0);
    struct plan_spec s = spec_of(m, &reader);
    double whole, a, b;

    (void)state;
    s.chunk = 64;
    assert_int_equal(plan_prefill(&s, 1, 100, 20, &whole, NULL, &e), 0);
    assert_int_equal(plan_step(&s, 1, 64, 1, 20, &a, NULL, NULL, &e), 0);
    assert_int_equal(plan_step(&s, 1, 36, 1, 84, &b, NULL, NULL, &e), 0);
    check_near(whole, a + b, 1e-12, "a prompt");
    model_close(m);
}

/* ---- points ---- */

static struct plan_point points[PLAN_MAX_POINTS];

static void test_points_agree_with_themselves(void **state)
{
    struct model *m = model_of("llama-3.1-8b", QUANT_BF16);
    struct plan_spec s;
    size_t n, fronts = 0;

    (void)state;
    plan_chips_init(&table);
    s = spec_of(m, plan_chips_find(&table, "h100"));
    s.n_chips = 16;
    assert_int_equal(plan_points(&s, points, &n, &e), 0);
    assert_true(n > 20);
    for (size_t i = 0; i < n; i++) {
        const struct plan_point *p = &points[i];

        /* Little: answers at work are their rate times their time */
        check_near(p->requests_s * s.load.answer * p->itl_s, p->servers * p->batch, 1e-9, "Little");
        check_near(p->out_tok_s, p->servers * p->batch * p->user_tok_s, 1e-9, "throughput");
        check_near(p->requests_s * (p->prefill_s / p->pp + s.load.answer / p->batch * p->step_s),
                   p->servers, 1e-9, "time of a server");
        check_near(p->out_j * p->out_tok_s, p->chip_w * s.n_chips, 1e-9, "joules");
        check_near(p->usd_out * p->out_tok_s * 3600 / 1e6, s.chip->usd_hour * 16, 1e-9, "USD");
        assert_true(p->memory_bytes <= plan_usable_memory(s.chip));
        assert_true(p->itl_s >= p->step_s && p->chip_w <= s.chip->max_w);
        fronts += p->front;
        for (size_t k = 0; p->front && k < n; k++)
            assert_false(points[k].user_tok_s > p->user_tok_s &&
                         points[k].chip_tok_s > p->chip_tok_s);
    }
    assert_true(fronts > 0 && fronts < n);
    model_close(m);
}

static void test_the_largest_batch_fits(void **state)
{
    struct model *m = model_of("llama-3.1-8b", QUANT_BF16);
    struct plan_spec s;
    size_t n;

    (void)state;
    plan_chips_init(&table);
    s = spec_of(m, plan_chips_find(&table, "h100"));
    s.load.prompt = 3000;
    assert_int_equal(plan_points(&s, points, &n, &e), 0);
    assert_true(plan_memory(&s, 1, 1, points[n - 1].batch + 1) > plan_usable_memory(s.chip));
    assert_true(plan_memory(&s, 1, 1, points[n - 1].batch) <= plan_usable_memory(s.chip));
    check_near(plan_kv_bytes(&s), 131072, 0, "bytes of a position");
    s.max_batch = 24;
    assert_int_equal(plan_points(&s, points, &n, &e), 0);
    assert_int_equal(points[n - 1].batch, 24);
    model_close(m);
}

static void test_a_model_too_large_is_refused_or_staged(void **state)
{
    struct model *m = model_of("llama-3.1-405b", QUANT_BF16);
    struct plan_spec s;
    size_t n;

    (void)state;
    plan_chips_init(&table);
    s = spec_of(m, plan_chips_find(&table, "h100"));
    s.n_chips = 8;
    assert_int_equal(plan_points(&s, points, &n, &e), WATT_ELIMIT);
    assert_non_null(strstr(e.msg, "8 chips"));
    s.n_chips = 16;                             /* two groups of eight, one behind the other */
    assert_int_equal(plan_points(&s, points, &n, &e), 0);
    for (size_t i = 0; i < n; i++)
        assert_true(points[i].tp == 8 && points[i].pp == 2 && points[i].servers == 1);
    model_close(m);
}

static void test_money(void **state)
{
    struct model *m = model_of("tiny-llama", QUANT_BF16);
    struct plan_spec s = spec_of(m, &reader);
    struct plan_point half;
    size_t n;

    (void)state;
    s.max_batch = 1;
    s.money.price_out = 3;
    s.money.price_in = 1;
    s.money.price_cached = 0.5;
    s.load.cached = 0.25;
    assert_int_equal(plan_points(&s, points, &n, &e), 0);
    check_near(points[0].revenue_hour,
               3600e-6 * (points[0].out_tok_s * 3 + points[0].in_tok_s * (0.75 * 1 + 0.25 * 0.5)), 1e-9,
               "revenue");
    check_near(points[0].margin_hour, points[0].revenue_hour - 2, 1e-9, "margin");
    check_near(points[0].margin_mw, points[0].margin_hour / (1.5 * points[0].chip_w / 1e6), 1e-9,
               "margin of a MW");
    s.load.utilisation = 0.5;                   /* the same rent for half of the tokens */
    half = points[0];
    assert_int_equal(plan_points(&s, points, &n, &e), 0);
    check_near(points[0].usd_out, 2 * half.usd_out, 1e-9, "USD at half load");
    check_near(points[0].out_j, half.out_j + 10 / half.out_tok_s, 1e-9, "joules at half load");
    s.money.purchase = 8766 * 4;                /* a dollar an hour, and power */
    assert_int_equal(plan_points(&s, points, &n, &e), 0);
    check_near(points[0].usd_hour, 1 + 1.5 * (half.chip_w + 10) / 2 / 1000 * 0.1, 1e-9, "bought");
    model_close(m);
}

static void test_the_best_point_is_fast_enough(void **state)
{
    struct model *m = model_of("llama-3.1-8b", QUANT_BF16);
    const struct plan_point *any, *quick;
    struct plan_spec s;
    size_t n;

    (void)state;
    plan_chips_init(&table);
    s = spec_of(m, plan_chips_find(&table, "h100"));
    s.n_chips = 8;
    assert_int_equal(plan_points(&s, points, &n, &e), 0);
    any = plan_best(&s, points, n, 0, 0);
    quick = plan_best(&s, points, n, 100, 0);
    assert_non_null(any);
    assert_non_null(quick);
    assert_true(quick->user_tok_s >= 100 && any->out_tok_s > quick->out_tok_s);
    for (size_t i = 0; i < n; i++)
        assert_true(points[i].user_tok_s < 100 ||
                    0.99 * points[i].out_tok_s <= quick->out_tok_s);
    assert_null(plan_best(&s, points, n, 1e6, 0));
    assert_null(plan_best(&s, points, n, 0, 1e-9));
    model_close(m);
}

static void test_pareto(void **state)
{
    const double x[] = { 1, 2, 3, 2, 1, NAN, 3 }, y[] = { 5, 4, 1, 3, 5, 9, 1 };
    const bool want[] = { true, true, true, false, false, false, false };
    bool keep[7];

    (void)state;
    pareto_front(x, y, 7, keep);
    assert_memory_equal(keep, want, sizeof want);
}

static void test_quantiles(void **state)
{
    double v[100];
    struct quantiles q = quantiles_of(v, 0);

    (void)state;
    assert_true(q.p50 == 0 && q.max == 0);
    for (int i = 0; i < 100; i++)
        v[i] = 100 - i;                     /* 100 .. 1 */
    q = quantiles_of(v, 100);
    assert_true(q.p50 == 50 && q.p90 == 90 && q.p99 == 99 && q.max == 100);
    assert_true(fabs(q.mean - 50.5) < 1e-9);
}

/* ---- the fleet ---- */

static void test_a_fleet_replays(void **state)
{
    struct model *m = model_of("llama-3.1-8b", QUANT_BF16);
    struct plan_spec s;
    struct fleet_spec f;
    struct fleet_report one, four, again;
    struct trace t;
    size_t n;

    (void)state;
    plan_chips_init(&table);
    s = spec_of(m, plan_chips_find(&table, "h100"));
    s.max_batch = 16;
    assert_int_equal(plan_points(&s, points, &n, &e), 0);
    assert_int_equal(trace_random(&t, 7, 400, 40, 600, 60, &e), 0);
    f = (struct fleet_spec){ .plan = &s, .point = &points[n - 1], .n_servers = 1 };
    assert_int_equal(fleet_run(&t, &f, NULL, &one, &e), 0);
    assert_int_equal(one.n_requests, 400);
    for (int route = FLEET_PREFIX; route <= FLEET_TURNS; route++) {
        f.n_servers = 4;
        f.route = (enum fleet_route)route;
        assert_int_equal(fleet_run(&t, &f, NULL, &four, &e), 0);
        assert_int_equal(fleet_run(&t, &f, NULL, &again, &e), 0);
        assert_memory_equal(&four, &again, sizeof four);
        assert_int_equal(four.n_requests, 400);
        assert_int_equal(four.n_answer_tokens, one.n_answer_tokens);
        assert_true(four.ttft_s.p90 <= one.ttft_s.p90 && four.busy <= one.busy);
        assert_true(four.busiest >= four.busy && four.idlest <= four.busy && four.busiest <= 1);
        assert_true(four.joules > 0 && four.all_in_joules > four.joules && four.usd > 0);
    }
    f.n_servers = 0;
    assert_int_equal(fleet_run(&t, &f, NULL, &four, &e), WATT_EINVAL);
    trace_close(&t);
    model_close(m);
}

#ifdef WATT_FAULTS
static void test_memory_that_runs_out(void **state)
{
    struct model *m = model_of("tiny-llama", QUANT_BF16);
    struct plan_spec s = spec_of(m, &reader);
    struct fleet_report report;
    struct trace t;
    size_t n;

    (void)state;
    s.max_batch = 2;
    assert_int_equal(trace_random(&t, 1, 5, 10, 20, 5, &e), 0);
    for (uint64_t i = 1;; i++) {
        const struct fleet_spec f = { .plan = &s, .point = points, .n_servers = 2 };
        int rc;

        (void)fault_arm(FAULT_ALLOC, i);
        rc = plan_points(&s, points, &n, &e);
        if (rc == 0)
            rc = fleet_run(&t, &f, NULL, &report, &e);
        (void)fault_arm(FAULT_ALLOC, 0);
        if (rc == 0)
            break;
        assert_int_equal(rc, WATT_ENOMEM);
        assert_true(i < 1000);
    }
    trace_close(&t);
    model_close(m);
}
#endif

/* ---- pictures in characters ---- */

static void test_a_chart_in_characters(void **state)
{
    const double x[] = { 0, 5, 10, NAN }, y[] = { 0, 5, 10, 3 };
    const struct chart_series series[] = {
        { .name = "line", .kind = CHART_LINE, .n = 4, .x = x, .y = y },
        { .name = "points", .kind = CHART_POINTS, .n = 4, .x = x, .y = y },
    };
    const struct chart c = { .title = "T", .x = { .title = "horizontal" },
                             .y = { .title = "vertical" }, .series = series, .n_series = 2 };
    struct chart_terminal t = { .columns = 50, .rows = 11 };
    struct str s;
    size_t letters = 0;

    (void)state;
    str_init(&s, 0);
    assert_int_equal(chart_text(&c, &t, &s, &e), 0);
    for (const char *at = str_cstr(&s); (at = strchr(at, 'b')); at++)
        letters++;
    assert_int_equal(letters, 3 + 1);           /* three points, the legend */
    assert_non_null(strstr(str_cstr(&s), "y: vertical, x: horizontal"));
    assert_null(strchr(str_cstr(&s), '\033'));
    for (const char *at = str_cstr(&s); *at; at++)
        assert_true((unsigned char)*at < 0x80);
    str_reset(&s);
    t.utf8 = t.color = true;
    assert_int_equal(chart_text(&c, &t, &s, &e), 0);
    assert_non_null(strchr(str_cstr(&s), '\033'));
    assert_non_null(strstr(str_cstr(&s), "\xe2\xa0"));
    t.columns = 39;
    assert_int_equal(chart_text(&c, &t, &s, &e), WATT_EINVAL);
    str_deinit(&s);
}

/* ---- the command ---- */

static void test_the_command(void **state)
{
    (void)state;
    spawn(&r, NULL, "plan", "--model", "llama-3.1-8b", "--chip", "h100", "--format", "json", "-s");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "\"best\": true"));
    assert_non_null(strstr(r.out, "\"sensitivity\""));
    spawn(&r, NULL, "plan", "--model", "llama-3.1-8b", "--chip", "h100", "--format", "csv");
    assert_int_equal(r.code, 0);
    assert_int_equal(strncmp(r.out, "tp,pp,batch,", 12), 0);
    spawn(&r, NULL, "plan", "--list-chips");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "h200"));
}

static void test_the_command_refuses(void **state)
{
    (void)state;
    spawn(&r, NULL, "plan");
    assert_int_equal(r.code, 2);
    spawn(&r, NULL, "plan", "--model", "llama-3.1-8c", "--chip", "h100");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "did you mean 'llama-3.1-8b'"));
    spawn(&r, NULL, "plan", "--model", "llama-3.1-8b", "--chip", "h10");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "--list-chips"));
    spawn(&r, NULL, "plan", "--model", "llama-3.1-405b", "--chip", "l4");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "does not fit"));
    spawn(&r, NULL, "plan", "--model", "llama-3.1-8b", "--chip", "h100", "--trace", "no-such-trace");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "no-such-trace"));
    spawn(&r, NULL, "plan", "--model", "llama-3.1-8b", "--chip", "h100", "--count", "2", "--power-mw",
          "1");
    assert_int_equal(r.code, 1);
    spawn(&r, NULL, "plan", "--model", "llama-3.1-8b", "--type", "Q9", "--chip", "h100");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "Q9"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_sound),
        cmocka_unit_test(test_a_file_adds_chips),
        cmocka_unit_test(test_a_bad_file_is_refused),
        cmocka_unit_test(test_a_shape_is_priced_as_its_file),
        cmocka_unit_test(test_a_step_takes_its_bytes),
        cmocka_unit_test(test_a_step_takes_its_operations),
        cmocka_unit_test(test_links_and_heads_bound_a_split),
        cmocka_unit_test(test_a_prompt_is_its_chunks),
        cmocka_unit_test(test_points_agree_with_themselves),
        cmocka_unit_test(test_the_largest_batch_fits),
        cmocka_unit_test(test_a_model_too_large_is_refused_or_staged),
        cmocka_unit_test(test_money),
        cmocka_unit_test(test_the_best_point_is_fast_enough),
        cmocka_unit_test(test_pareto),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_a_fleet_replays),
#ifdef WATT_FAULTS
        cmocka_unit_test(test_memory_that_runs_out),
#endif
        cmocka_unit_test(test_a_chart_in_characters),
        cmocka_unit_test(test_the_command),
        cmocka_unit_test(test_the_command_refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
