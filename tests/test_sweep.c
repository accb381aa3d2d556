/* test_sweep.c: concurrency sweeps: what is counted from a made-up answerer with a known pace, the
 * service in this process, a server, failures, interruption, pictures. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "applications/sweep_report.h"
#include "applications/sweep_targets.h"
#include "base/mem.h"
#include "serve_rig.h"

static struct err e;
static struct spawned r;
static struct sweep_point points[SWEEP_MAX_POINTS];

/* ---- an answerer that is driven by run(): a token each time, of every request ---- */

struct fake {
    struct sweep_slot *under_way[64];
    uint32_t given[64], n, most, n_started, fail_every;
    bool     stopped;
    uint64_t prompt_sum[8];     /* of the first requests */
};

static int fake_start(void *ctx, struct sweep_slot *s, struct err *why)
{
    struct fake *f = ctx;
    uint64_t sum = 0;

    (void)why;
    assert_true(f->n < 64);
    for (uint32_t k = 0; k < sweep_n_prompt(s); k++)
        sum += sweep_prompt_token(s, k);
    if (f->n_started < 8)
        f->prompt_sum[f->n_started] = sum;
    f->n_started++;
    if (f->fail_every && f->n_started % f->fail_every == 0) {
        sweep_done(s, 0, 0, 0, f->n_started % (2 * f->fail_every) == 0, "no");
        return 0;
    }
    f->given[f->n] = 0;
    f->under_way[f->n++] = s;
    f->most = f->n > f->most ? f->n : f->most;
    return 0;
}

static void fake_run(void *ctx, unsigned ms)
{
    struct fake *f = ctx;
    const struct timespec pause = { .tv_nsec = 200000 };

    (void)ms;
    (void)nanosleep(&pause, NULL);
    for (uint32_t i = 0; i < f->n;) {
        struct sweep_slot *s = f->under_way[i];

        sweep_token(s);
        if (++f->given[i] < sweep_n_answer(s)) {
            i++;
            continue;
        }
        sweep_done(s, sweep_n_prompt(s), 1, sweep_n_answer(s), false, NULL);
        f->n--;
        f->under_way[i] = f->under_way[f->n];
        f->given[i] = f->given[f->n];
    }
}

static void fake_stop(void *ctx)
{
    ((struct fake *)ctx)->stopped = true;
}

static struct sweep_target target_of(struct fake *f)
{
    return (struct sweep_target){ .name = "fake", .ctx = f, .start = fake_start, .run = fake_run,
                                  .stop = fake_stop };
}

static struct sweep_spec spec_of(const double *values, size_t n)
{
    return (struct sweep_spec){ .values = values, .n_values = n, .n_prompt = 7, .n_answer = 5,
                                .scale = 1, .seed = 3 };
}

static void test_a_closed_loop_keeps_its_clients(void **state)
{
    static const double values[] = { 1, 4 };
    struct fake f = { .n = 0 };
    struct sweep_target t = target_of(&f);
    const struct sweep_spec s = spec_of(values, 2);
    size_t n;

    (void)state;
    assert_int_equal(sweep_run(&t, &s, points, &n, &e), 0);
    assert_int_equal(n, 2);
    assert_int_equal(f.most, 4);
    assert_false(f.stopped);
    for (size_t i = 0; i < n; i++) {
        const struct sweep_point *p = &points[i];

        assert_int_equal(p->n_requests, 16);
        assert_int_equal(p->n_failed + p->n_refused, 0);
        assert_true(fabs(p->out_tok_s * p->seconds - 16 * 5) < 1e-6);
        assert_true(fabs(p->in_tok_s * p->seconds - 16 * 7) < 1e-6);
        assert_true(fabs(p->cached_share - 1.0 / 7) < 1e-9);
        assert_true(p->itl_s.p50 >= 0.0002 && p->itl_s.p50 <= p->itl_s.p99 &&
                    p->itl_s.p99 <= p->itl_s.max);
        assert_true(p->ttft_s.p50 > 0 && p->user_tok_s > 0 && p->user_tok_s < 5001);
        assert_true(p->watts == SWEEP_UNKNOWN && p->joules_token == SWEEP_UNKNOWN);
    }
    assert_true(points[1].out_tok_s > points[0].out_tok_s);
    assert_true(points[1].front);
    for (int i = 0; i < 8; i++)         /* no prompt comes twice */
        for (int k = 0; k < i; k++)
            assert_true(f.prompt_sum[i] != f.prompt_sum[k]);
}

static void test_recorded_arrivals(void **state)
{
    static const double values[] = { 50 };
    struct fake f = { .n = 0 };
    struct sweep_target t = target_of(&f);
    struct sweep_spec s = spec_of(values, 1);
    struct trace trace;
    double answers = 0;
    size_t n;

    (void)state;
    assert_int_equal(trace_random(&trace, 5, 30, 10, 40, 12, &e), 0);
    s.trace = &trace;
    s.scale = 0.5;
    assert_int_equal(sweep_run(&t, &s, points, &n, &e), 0);
    assert_int_equal(points[0].n_requests, 30);
    for (size_t i = 0; i < trace.n; i++)
        answers += fmax(1, round(trace.v[i].n_answer * 0.5));
    assert_true(fabs(points[0].out_tok_s * points[0].seconds - answers) < 1e-6);
    assert_true(points[0].seconds >= (double)(trace.v[29].at_ns - trace.v[0].at_ns) * 1e-9 / 50);
    trace_close(&trace);
}

static void test_failures_are_told_apart(void **state)
{
    static const double values[] = { 2 };
    struct fake f = { .fail_every = 2 };
    struct sweep_target t = target_of(&f);
    const struct sweep_spec s = spec_of(values, 1);
    size_t n;

    (void)state;
    assert_int_equal(sweep_run(&t, &s, points, &n, &e), 0);
    assert_int_equal(points[0].n_requests, 16);
    assert_int_equal(points[0].n_failed, 4);
    assert_int_equal(points[0].n_refused, 4);
    assert_string_equal(points[0].failure, "no");
    assert_true(fabs(points[0].out_tok_s * points[0].seconds - 8 * 5) < 1e-6);
}

static bool at_once(void)
{
    return true;
}

static void test_interrupted(void **state)
{
    static const double values[] = { 2 };
    struct fake f = { .n = 0 };
    struct sweep_target t = target_of(&f);
    struct sweep_spec s = spec_of(values, 1);
    size_t n;

    (void)state;
    s.cancelled = at_once;
    assert_int_equal(sweep_run(&t, &s, points, &n, &e), WATT_ECANCEL);
    assert_true(f.stopped);
    assert_int_equal(n, 0);
}

static void test_bad_sweeps_are_refused(void **state)
{
    static const double half[] = { 1.5 }, none[] = { 0 }, many[] = { 5000 };
    static const double *const bad[] = { half, none, many };
    struct fake f = { .n = 0 };
    struct sweep_target t = target_of(&f);
    struct sweep_spec s;
    size_t n;

    (void)state;
    for (int i = 0; i < 3; i++) {
        s = spec_of(bad[i], 1);
        assert_int_equal(sweep_run(&t, &s, points, &n, &e), WATT_EINVAL);
    }
    s = spec_of(half, 0);
    assert_int_equal(sweep_run(&t, &s, points, &n, &e), WATT_EINVAL);
    s = spec_of(&(double){ 1 }, 1);
    s.n_answer = 0;
    assert_int_equal(sweep_run(&t, &s, points, &n, &e), WATT_EINVAL);
}

/* A counter that grows with time: 25 W. */
static int counter(void *ctx, double *uj, struct err *why)
{
    struct timespec now;

    (void)ctx;
    (void)why;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    *uj = 25e6 * ((double)now.tv_sec + (double)now.tv_nsec * 1e-9);
    return 0;
}

static void test_joules(void **state)
{
    static const double values[] = { 2 };
    const struct meter_opts mo = { .want = "counter", .counter = counter, .no_thread = true };
    struct fake f = { .n = 0 };
    struct sweep_target t = target_of(&f);
    struct sweep_spec s = spec_of(values, 1);
    const struct sweep_point *p = &points[0];
    size_t n;

    (void)state;
    assert_int_equal(meter_open(&s.meter, &mo, &e), 0);
    assert_int_equal(sweep_run(&t, &s, points, &n, &e), 0);
    assert_true(fabs(p->watts - 25) < 1);
    assert_true(fabs(p->joules_token * p->out_tok_s - p->watts) < 1e-6);
    assert_true(fabs(p->tok_s_watt * p->watts - p->out_tok_s) < 1e-6);
    meter_close(s.meter);
}

/* ---- reports ---- */

static void test_a_picture(void **state)
{
    static const struct sweep_point two[] = {
        { .value = 1, .user_tok_s = 30, .out_tok_s = 30, .watts = -1, .tok_s_watt = -1, .front = true },
        { .value = 8, .user_tok_s = 20, .out_tok_s = 160, .watts = -1, .tok_s_watt = -1, .front = true },
    };
    const struct sweep_report report = { .title = "a <model>", .load = "load", .points = two, .n = 2 };
    const struct chart_terminal t = { 60, 10, false, false };
    struct str svg;

    (void)state;
    str_init(&svg, 0);
    assert_int_equal(sweep_draw(&report, false, NULL, &svg, &e), 0);
    assert_non_null(strstr(str_cstr(&svg), "a &lt;model&gt;"));
    str_reset(&svg);
    assert_int_equal(sweep_draw(&report, false, &t, &svg, &e), 0);
    assert_non_null(strstr(str_cstr(&svg), "tokens a second of all answers"));
    str_deinit(&svg);
}

/* ---- the command ---- */

static char dir[] = "watt-sweep-XXXXXX", model[64];

static int make_model(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(model, sizeof model, "%s/m.gguf", dir);
    spawn(&r, NULL, "synth", "tiny-llama", model, "--type", "Q8_0");
    return r.code;
}

static int remove_model(void **state)
{
    (void)state;
    (void)unlink(model);
    return rmdir(dir);
}

static void test_in_this_process(void **state)
{
    (void)state;
    spawn(&r, NULL, "bench", model, "-p", "20", "-n", "8", "--sweep", "1,3", "--format", "csv", "-t", "1",
          "--meter", "none");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "\n1,16,0,0,"));
    assert_non_null(strstr(r.out, "\n3,16,0,0,"));
    assert_non_null(strstr(r.out, ",none\n"));
    spawn(&r, NULL, "bench", model, "-p", "20", "-n", "8", "--sweep", "2", "--format", "json", "-t", "1",
          "--meter", "estimate", "--estimate", "idle=10,op=5,byte=50");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "\"energy_source\": \"estimate\""));
    assert_null(strstr(r.out, "\"watts\": null"));
    spawn(&r, NULL, "bench", model, "-p", "20", "-n", "8", "--sweep", "1", "--meter", "none", "--per-watt",
          "--chart");
    assert_int_equal(r.code, 1);                /* and no picture of what is not known */
    assert_non_null(strstr(r.err, "--per-watt needs a meter"));
    spawn(&r, NULL, "bench", model, "-p", "20", "-n", "8", "--sweep", "1", "--per-watt",
          "--chart", "--estimate", "idle=10,op=5,byte=50");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "watts are an estimate"));
    spawn(&r, NULL, "bench", model, "-p", "20", "-n", "8", "--sweep", "1", "--meter", "teapot");
    assert_int_equal(r.code, 1);                /* the option reaches the sweep, too */
    assert_non_null(strstr(r.err, "teapot"));
    spawn(&r, NULL, "bench", model, "-p", "20", "-n", "8", "-r", "1", "--no-peaks", "-f", "csv",
          "--estimate", "idle=0,op=0,byte=1000000");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, ",estimate\n"));
    assert_null(strstr(r.out, ",0,estimate\n"));
}

static void test_against_a_server(void **state)
{
    const char *const argv[] = { "watt", "serve", model, "--port", "0", "--quiet", "--threads", "1", NULL };
    static struct server s;
    char url[64];

    (void)state;
    start_argv(&s, argv);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/v1/", s.port);
    spawn(&r, NULL, "bench", "--url", url, "-p", "20", "-n", "6", "--sweep", "1,3", "--format", "json",
          "--meter", "none");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "{\"clients\": 1, \"requests\": 16, \"failed\": 0, \"refused\": 0"));
    assert_non_null(strstr(r.out, "{\"clients\": 3, \"requests\": 16, \"failed\": 0, \"refused\": 0"));
    assert_null(strstr(r.out, "\"output_tokens_per_s\": 0,"));
    spawn(&r, NULL, "bench", "--url", url, "--endpoint", "chat", "-p", "20", "-n", "6", "--sweep", "2",
          "--format", "csv", "--meter", "none");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "\n2,16,0,0,"));
    spawn(&r, NULL, "bench", "--url", url, "--model-name", "nobody", "--sweep", "1", "--format", "csv",
          "--meter", "none");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.out, "\n1,16,16,0,"));
    assert_non_null(strstr(r.err, "no request was answered"));
    assert_non_null(strstr(r.err, "nobody"));
    spawn(&r, NULL, "bench", "--url", url, "-p", "20", "-n", "6", "--sweep", "1", "--estimate",
          "idle=1,op=1,byte=1");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "--estimate"));
    assert_int_equal(stop(&s), 0);
}

static void test_the_command_refuses(void **state)
{
    (void)state;
    spawn(&r, NULL, "bench", model, "--sweep", "1,x");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "--sweep"));
    spawn(&r, NULL, "bench", model, "--sweep", "1", "--url", "http://localhost:1");
    assert_int_equal(r.code, 2);
    spawn(&r, NULL, "bench", "--url", "http://localhost:1");
    assert_int_equal(r.code, 2);
    spawn(&r, NULL, "bench", "--url", "http://localhost:1", "--sweep", "1");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "localhost:1"));
    spawn(&r, NULL, "bench", model, "--sweep", "1", "-p", "1,2");
    assert_int_equal(r.code, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_closed_loop_keeps_its_clients),
        cmocka_unit_test(test_recorded_arrivals),
        cmocka_unit_test(test_failures_are_told_apart),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_bad_sweeps_are_refused),
        cmocka_unit_test(test_joules),
        cmocka_unit_test(test_a_picture),
        cmocka_unit_test(test_in_this_process),
        cmocka_unit_test(test_against_a_server),
        cmocka_unit_test(test_the_command_refuses),
    };

    return cmocka_run_group_tests(tests, make_model, remove_model);
}
