/* test_base_log.c: lines for people and as JSON, levels, cutting, threads; and
 * the metric registry. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "base/rng.h"

static char last[LOG_LINE_MAX + 1];
static atomic_uint n_lines, n_bad;
static int64_t wall;

static uint64_t fake_mono(void *ctx) { (void)ctx; return 0; }
static int64_t fake_wall(void *ctx) { (void)ctx; return wall; }
static const struct clock_source fake_clock = { fake_mono, fake_wall, NULL };

static void keep(void *ctx, const char *line, size_t n)
{
    (void)ctx;
    assert_true(n <= LOG_LINE_MAX && line[n - 1] == '\n');
    assert_null(memchr(line, '\n', n - 1));
    memcpy(last, line, n);
    last[n] = '\0';
    (void)atomic_fetch_add(&n_lines, 1);
}

static void writes_for_people(void **state)
{
    const struct log_sink sink = { keep, NULL, LOG_INFO, LOG_HUMAN };

    (void)state;
    clock_install(&fake_clock);
    wall = INT64_C(1795362491123) * 1000000;
    log_printf(LOG_ERROR, "kv", "nobody listens");
    assert_int_equal(atomic_load(&n_lines), 0);
    assert_false(log_on(LOG_ERROR));
    log_install(&sink);
    assert_true(log_on(LOG_INFO));
    assert_false(log_on(LOG_DEBUG));
    mem_guard_enter();                    /* logging allocates nothing */
    log_fields(LOG_INFO, "kv", "pages freed", LOG_FIELDS(log_u64("n", 3), log_str("id", "a \"b\"\n"),
               log_i64("i", -4), log_f64("x", 0.5), log_bool("on", true), log_str("none", NULL)));
    mem_guard_leave();
    assert_string_equal(last, "2026-11-22T15:48:11.123Z info  kv: pages freed n=3 "
                              "id=\"a \\\"b\\\"\\n\" i=-4 x=0.5 on=true none=null\n");
    log_printf(LOG_DEBUG, "kv", "not this");
    log_printf(LOG_ERROR, "kv", "%s\x1b[2J %d", "line\nbreak", 5);
    assert_string_equal(last, "2026-11-22T15:48:11.123Z error kv: line\\nbreak\\u001b[2J 5\n");
    assert_int_equal(atomic_load(&n_lines), 2);
    log_install(NULL);
    clock_install(NULL);
}

/* A line as a document: its string at key. */
static void json_holds(const char *key, const char *expected)
{
    struct json_place root;
    struct err e;
    const char *z;
    json_t *doc;

    if (json_parse(&doc, "line", last, strlen(last), NULL, &e) < 0)
        fail_msg("%s in %s", e.msg, last);
    root = json_root(doc, "line");
    assert_int_equal(json_get_cstr(&root, key, NULL, &z, &e), 0);
    assert_string_equal(z, expected);
    json_close(doc);
}

static void writes_json(void **state)
{
    const struct log_sink sink = { keep, NULL, LOG_DEBUG, LOG_JSON };
    struct rng r;

    (void)state;
    clock_install(&fake_clock);
    wall = -1;                            /* a nanosecond before 1970 */
    log_install(&sink);
    log_fields(LOG_WARN, "http", "odd", LOG_FIELDS(log_f64("nan", NAN), log_str("who", "ü\"\x02\xff")));
    assert_string_equal(last, "{\"time\":\"1969-12-31T23:59:59.999Z\",\"level\":\"warn\","
                              "\"area\":\"http\",\"message\":\"odd\",\"nan\":null,"
                              "\"who\":\"ü\\\"\\u0002\xef\xbf\xbd\"}\n");
    json_holds("who", "ü\"\x02\xef\xbf\xbd");
    /* the calendar against libc's */
    rng_init(&r, 3);
    for (int i = 0; i < 2000; i++) {
        time_t t = (time_t)(rng_u64(&r) % 16725225600u) - 5364662400;   /* 1800..2330 */
        char expected[40];
        struct tm tm;

        wall = (int64_t)t < 9000000000 ? (int64_t)t * 1000000000 : 0;
        t = (time_t)(wall / 1000000000);
        (void)gmtime_r(&t, &tm);
        (void)strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%S.000Z", &tm);
        log_printf(LOG_DEBUG, "a", "b");
        json_holds("time", expected);
    }
    log_install(NULL);
    clock_install(NULL);
}

static void long_lines_are_cut_and_stay_whole(void **state)
{
    struct log_sink sink = { keep, NULL, LOG_DEBUG, LOG_JSON };
    char text[3 * LOG_LINE_MAX];

    (void)state;
    for (size_t n = LOG_LINE_MAX - 300; n < LOG_LINE_MAX + 20; n++)
        for (int quote = 0; quote < 3; quote++) {
            static const char fill[] = { 'a', '"', '\x01' };
            const size_t len = quote == 0 ? n : quote == 1 ? n / 2 : n / 6;

            memset(text, fill[quote], len);
            text[len] = '\0';
            sink.format = LOG_JSON;
            log_install(&sink);
            log_fields(LOG_INFO, "a", text, LOG_FIELDS(log_u64("k", 12345), log_str("s", text)));
            json_holds("area", "a");
            log_fields(LOG_INFO, "a", "m", LOG_FIELDS(log_str("s", text), log_str("t", text)));
            json_holds("message", "m");
            log_printf(LOG_INFO, "a", "%s", text);
            json_holds("area", "a");
            sink.format = LOG_HUMAN;
            log_fields(LOG_INFO, "a", text, LOG_FIELDS(log_str("s", text), log_str("t", text)));
            assert_non_null(strstr(last, "[cut]\n"));
        }
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    log_printf(LOG_INFO, "a", "%s", text);
    assert_non_null(strstr(last, "[cut]\n"));
    log_install(NULL);
}

static void parses_levels(void **state)
{
    enum log_level level = LOG_ERROR;

    (void)state;
    assert_true(log_level_parse("debug", &level));
    assert_int_equal(level, LOG_DEBUG);
    assert_false(log_level_parse("loud", &level));
    assert_false(log_level_parse("", &level));
}

static void check_whole(void *ctx, const char *line, size_t n)
{
    (void)ctx;
    (void)atomic_fetch_add(&n_lines, 1);
    if (n < 30 || line[0] != '{' || line[n - 2] != '}' || line[n - 1] != '\n')
        (void)atomic_fetch_add(&n_bad, 1);
}

static void *log_much(void *p)
{
    for (int i = 0; i < 500; i++)
        log_fields(LOG_INFO, "thread", "says", LOG_FIELDS(log_u64("who", (uintptr_t)p), log_i64("i", i)));
    return NULL;
}

static void threads_write_whole_lines(void **state)
{
    const struct log_sink sink = { check_whole, NULL, LOG_INFO, LOG_JSON };
    pthread_t threads[4];

    (void)state;
    atomic_store(&n_lines, 0);
    log_install(&sink);
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_much, (void *)i), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    log_install(NULL);
    assert_int_equal(atomic_load(&n_lines), 2000);
    assert_int_equal(atomic_load(&n_bad), 0);
}

static void writes_to_descriptors(void **state)
{
    int fd[2];
    struct log_sink sink = { log_write_fd, NULL, LOG_INFO, LOG_HUMAN };
    char text[200];
    ssize_t n;

    (void)state;
    assert_int_equal(pipe(fd), 0);
    sink.ctx = (void *)(intptr_t)fd[1];
    log_install(&sink);
    log_printf(LOG_INFO, "x", "through a pipe");
    log_install(NULL);
    (void)close(fd[1]);
    n = read(fd[0], text, sizeof text - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, "info  x: through a pipe\n"));
    (void)close(fd[0]);
}

/* Metrics. */

struct seen {
    char     text[1024];
    unsigned n;
};

static void note(void *ctx, const struct metric_view *v)
{
    struct seen *s = ctx;
    size_t len = strlen(s->text);

    s->n++;
    (void)snprintf(s->text + len, sizeof s->text - len, "%s%s%s=%g", len ? " " : "", v->name,
                   v->n_labels ? v->labels[0].value : "", v->value);
    for (size_t i = 0; v->kind == METRIC_HISTOGRAM && i <= v->n_bounds; i++) {
        len = strlen(s->text);
        (void)snprintf(s->text + len, sizeof s->text - len, "/%u", (unsigned)v->counts[i]);
    }
}

static double ask(void *ctx)
{
    return *(double *)ctx;
}

static void registers_and_reads(void **state)
{
    static const double bounds[] = { 0.1, 1, 10 };
    const struct metric_label a = { "model", "a" }, b = { "model", "b" };
    struct metric_spec requests = { .kind = METRIC_COUNTER, .name = "requests_total", .help = "h",
                                    .labels = &a, .n_labels = 1 };
    double depth = 3;
    const struct metric_spec queue = { .kind = METRIC_GAUGE, .name = "queue_depth", .help = "h",
                                       .read = ask, .ctx = &depth };
    const struct metric_spec wait = { .kind = METRIC_HISTOGRAM, .name = "wait_seconds",
                                      .help = "h", .bounds = bounds, .n_bounds = 3 };
    struct metric *ra, *rb, *again, *q, *w;
    struct seen seen = { 0 };
    struct metrics *m;
    struct err e;

    (void)state;
    assert_int_equal(metrics_open(&m, &e), 0);
    assert_int_equal(metric_open(&ra, m, &requests, &e), 0);
    assert_int_equal(metric_open(&q, m, &queue, &e), 0);
    assert_int_equal(metric_open(&w, m, &wait, &e), 0);
    requests.labels = &b;
    assert_int_equal(metric_open(&rb, m, &requests, &e), 0);
    assert_int_equal(metric_open(&again, m, &requests, &e), 0);
    assert_ptr_equal(again, rb);
    mem_guard_enter();                    /* updating allocates nothing */
    metric_add(ra, 2);
    metric_add_f(rb, 0.25);
    metric_add(rb, 1);
    metric_observe(w, 0.1);               /* a bound belongs to its bucket */
    metric_observe(w, 0.5);
    metric_observe(w, 10.5);
    metric_observe(w, NAN);
    mem_guard_leave();
    metrics_walk(m, note, &seen);
    assert_string_equal(seen.text, "requests_totala=2 requests_totalb=1.25 queue_depth=3 "
                                   "wait_seconds=11.1/1/1/0/1");
    metric_detach(m, q);
    metric_set(q, 8);
    metric_add_f(q, -1);
    memset(&seen, 0, sizeof seen);
    metrics_walk(m, note, &seen);
    assert_non_null(strstr(seen.text, "queue_depth=7"));
    metrics_close(m);
}

static void nobody_counts_for_nobody(void **state)
{
    const struct metric_spec spec = { .kind = METRIC_COUNTER, .name = "n", .help = "" };
    struct metric *x = (struct metric *)&spec;
    struct err e;

    (void)state;
    assert_int_equal(metric_open(&x, NULL, &spec, &e), 0);
    assert_null(x);
    metric_add(x, 1);
    metric_add_f(x, 1);
    metric_set(x, 1);
    metric_observe(x, 1);
    metric_detach(NULL, x);
    metrics_walk(NULL, note, NULL);
    metrics_close(NULL);
}

static void refuses_bad_metrics(void **state)
{
    static const double falling[] = { 2, 1 }, fine[] = { 1, 2 }, endless[] = { 1, INFINITY };
    const struct metric_label bad_label = { "a:b", "x" }, no_value = { "a", NULL };
    const struct metric_spec bad[] = {
        { .kind = METRIC_COUNTER, .name = "", .help = "" },
        { .kind = METRIC_COUNTER, .name = "1a", .help = "" },
        { .kind = METRIC_COUNTER, .name = "a-b", .help = "" },
        { .kind = METRIC_COUNTER, .name = NULL, .help = "" },
        { .kind = METRIC_COUNTER, .name = "a", .help = NULL },
        { .kind = METRIC_COUNTER, .name = "a", .help = "", .labels = &bad_label, .n_labels = 1 },
        { .kind = METRIC_COUNTER, .name = "a", .help = "", .labels = &no_value, .n_labels = 1 },
        { .kind = METRIC_COUNTER, .name = "a", .help = "", .bounds = fine, .n_bounds = 2 },
        { .kind = METRIC_COUNTER, .name = "a", .help = "", .read = ask },
        { .kind = METRIC_HISTOGRAM, .name = "a", .help = "" },
        { .kind = METRIC_HISTOGRAM, .name = "a", .help = "", .bounds = falling, .n_bounds = 2 },
        { .kind = METRIC_HISTOGRAM, .name = "a", .help = "", .bounds = endless, .n_bounds = 2 },
    };
    struct metric_spec spec = { .kind = METRIC_COUNTER, .name = "used", .help = "" };
    struct metric *x;
    struct metrics *m;
    struct err e;

    (void)state;
    assert_int_equal(metrics_open(&m, &e), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (metric_open(&x, m, &bad[i], &e) != WATT_EINVAL)
            fail_msg("spec %zu was taken", i);
    assert_int_equal(metric_open(&x, m, &spec, &e), 0);
    spec.kind = METRIC_GAUGE;
    assert_int_equal(metric_open(&x, m, &spec, &e), WATT_EINVAL);
    metrics_close(m);
}

#ifdef WATT_FAULTS
static void registering_survives_short_memory(void **state)
{
    static const double bounds[] = { 1 };
    const struct metric_label label = { "k", "v" };
    const struct metric_spec spec = { .kind = METRIC_HISTOGRAM, .name = "x", .help = "h", .bounds = bounds,
                                      .n_bounds = 1, .labels = &label, .n_labels = 1 };
    unsigned long n = 0;
    int rc;

    (void)state;
    do {
        struct metrics *m = NULL;
        struct seen seen = { 0 };
        struct metric *x = NULL;
        struct err e;

        (void)fault_arm(FAULT_ALLOC, ++n);
        rc = metrics_open(&m, &e);
        if (rc == 0)
            rc = metric_open(&x, m, &spec, &e);
        (void)fault_arm(FAULT_ALLOC, 0);
        metrics_walk(m, note, &seen);
        assert_int_equal(seen.n, rc == 0);
        assert_true((rc == 0) == (x != NULL));
        metrics_close(m);
    } while (rc != 0);
    assert_int_equal(n, 9);
}
#endif

struct counting { struct metrics *m; struct metric *whole, *real, *hist; };

static void *count_much(void *p)
{
    const struct counting *c = p;

    for (int i = 0; i < 10000; i++) {
        metric_add(c->whole, 1);
        metric_add_f(c->real, 0.5);
        metric_observe(c->hist, i % 2 ? 0.5 : 2);
    }
    return NULL;
}

static void threads_lose_no_count(void **state)
{
    static const double bounds[] = { 1 };
    const struct metric_spec specs[] = {
        { .kind = METRIC_COUNTER, .name = "a", .help = "" },
        { .kind = METRIC_COUNTER, .name = "b", .help = "" },
        { .kind = METRIC_HISTOGRAM, .name = "c", .help = "", .bounds = bounds, .n_bounds = 1 },
    };
    struct seen seen = { 0 }, meanwhile = { 0 };
    struct counting c;
    pthread_t threads[4];
    struct err e;

    (void)state;
    assert_int_equal(metrics_open(&c.m, &e), 0);
    assert_int_equal(metric_open(&c.whole, c.m, &specs[0], &e), 0);
    assert_int_equal(metric_open(&c.real, c.m, &specs[1], &e), 0);
    assert_int_equal(metric_open(&c.hist, c.m, &specs[2], &e), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_much, &c), 0);
    for (int i = 0; i < 10; i++)
        metrics_walk(c.m, note, &meanwhile);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    metrics_walk(c.m, note, &seen);
    assert_string_equal(seen.text, "a=40000 b=20000 c=50000/20000/20000");
    metrics_close(c.m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_for_people),
        cmocka_unit_test(writes_json),
        cmocka_unit_test(long_lines_are_cut_and_stay_whole),
        cmocka_unit_test(parses_levels),
        cmocka_unit_test(threads_write_whole_lines),
        cmocka_unit_test(writes_to_descriptors),
        cmocka_unit_test(registers_and_reads),
        cmocka_unit_test(nobody_counts_for_nobody),
        cmocka_unit_test(refuses_bad_metrics),
#ifdef WATT_FAULTS
        cmocka_unit_test(registering_survives_short_memory),
#endif
        cmocka_unit_test(threads_lose_no_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
