/* test_chart.c: pictures as SVG: well-formed whatever the texts, points where they belong, what
 * can't be drawn is left out or refused, memory that runs out. */
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
#include "applications/ledger_chart.h"
#include "base/fault.h"

/* Tags match, attributes are quoted, '&' begins an entity, no byte is below space but newlines. */
static void assert_well_formed(const char *s)
{
    char stack[64][32];
    int depth = 0;

    for (; *s; s++) {
        if (*s == '&') {
            assert_true(strncmp(s, "&amp;", 5) == 0 || strncmp(s, "&lt;", 4) == 0 ||
                        strncmp(s, "&gt;", 4) == 0 || strncmp(s, "&quot;", 6) == 0);
        } else if (*s == '<') {
            const int closing = s[1] == '/';
            const char *name = s + 1 + closing, *end = strchr(s, '>');
            const size_t len = strcspn(name, " />\n");
            int quotes = 0;

            assert_non_null(end);
            assert_true(len > 0 && len < sizeof stack[0]);
            for (const char *q = s; q < end; q++)
                quotes += *q == '"';
            assert_int_equal(quotes % 2, 0);
            if (closing) {
                assert_true(depth > 0);
                depth--;
                assert_int_equal(strncmp(stack[depth], name, len), 0);
                assert_int_equal(stack[depth][len], 0);
            } else if (end[-1] != '/') {
                assert_true(depth < 64);
                memcpy(stack[depth], name, len);
                stack[depth++][len] = '\0';
            }
            s = end;
        } else {
            assert_true(*s != '>' || depth > 0);
            assert_true((unsigned char)*s >= 0x20 || *s == '\n');
        }
    }
    assert_int_equal(depth, 0);
}

static int count(const char *s, const char *what)
{
    int n = 0;

    while ((s = strstr(s, what))) {
        n++;
        s += strlen(what);
    }
    return n;
}

static char *draw(const struct chart *c)
{
    struct err e = { 0 };
    struct str out;
    char *text;

    str_init(&out, 0);
    if (chart_svg(c, &out, &e) < 0)
        fail_msg("%s", e.msg);
    text = str_take(&out, NULL);
    assert_non_null(text);
    assert_well_formed(text);
    return text;
}

static void lines_and_points(void **state)
{
    const double x[] = { 1, 10, NAN, 100, 1000, -5 }, y[] = { 2, 20, 3, INFINITY, 2000, 7 };
    const char *labels[] = { "a < b & \"c\"", NULL, NULL, NULL, "\x01\x1f", "hidden" };
    const struct chart_series s[] = {
        { .name = "loss <train>", .kind = CHART_LINE, .n = 6, .x = x, .y = y, .note = "note & all" },
        { .name = "points", .kind = CHART_POINTS, .color = 1, .n = 6, .x = x, .y = y,
          .labels = labels, .hints = labels },
        { .kind = CHART_DASHED, .color = CHART_GREY, .n = 2, .x = x, .y = y },
    };
    const struct chart c = { .title = "Title & more", .subtitle = "x < y",
                             .x = { "steps", NULL, true, 0, 0 }, .y = { "loss", "B/s", true, 0, 0 },
                             .series = s, .n_series = 3 };
    char *svg = draw(&c);

    (void)state;
    assert_int_equal(count(svg, "<circle"), 3 + 1);     /* three that can be drawn, one in the legend */
    assert_non_null(strstr(svg, "a &lt; b &amp; &quot;c&quot;"));
    assert_null(strstr(svg, "hidden"));
    assert_non_null(strstr(svg, "prefers-color-scheme:dark"));
    assert_null(strstr(svg, "nan"));
    assert_null(strstr(svg, "inf"));
    assert_null(strstr(svg, "http://www.w3.org/1999/xlink"));
    free(svg);
}

/* The i-th number after `attribute=` of the circles. */
static double circle(const char *svg, int i, const char *attribute)
{
    for (int k = 0;; k++) {
        svg = strstr(svg, "<circle");
        assert_non_null(svg);
        if (k == i)
            return strtod(strstr(svg, attribute) + strlen(attribute) + 2, NULL);
        svg++;
    }
}

static void scales_place_points(void **state)
{
    const double x[] = { 1, 10, 100 }, y[] = { 0, 5, 10 };
    const struct chart_series s = { .kind = CHART_POINTS, .n = 3, .x = x, .y = y };
    const struct chart c = { .x = { .title = "x", .log = true, .min = 1, .max = 100 },
                             .y = { .title = "y", .max = 10 },
                             .series = &s, .n_series = 1, .width = 400, .height = 300 };
    char *svg = draw(&c);

    (void)state;
    /* equal factors and equal differences are equal distances; y grows upwards */
    assert_true(fabs(circle(svg, 1, "cx") - circle(svg, 0, "cx") -
                     (circle(svg, 2, "cx") - circle(svg, 1, "cx"))) < 0.2);
    assert_true(fabs(circle(svg, 1, "cy") - circle(svg, 0, "cy") -
                     (circle(svg, 2, "cy") - circle(svg, 1, "cy"))) < 0.2);
    assert_true(circle(svg, 2, "cx") > circle(svg, 0, "cx"));
    assert_true(circle(svg, 2, "cy") < circle(svg, 0, "cy"));
    free(svg);
}

static void ticks_have_units(void **state)
{
    const double x[] = { 0, 4e6 }, y[] = { 1e-6, 3e9 };
    const struct chart_series s = { .kind = CHART_LINE, .n = 2, .x = x, .y = y };
    const struct chart c = { .x = { "tokens", NULL, false, 0, 0 }, .y = { "rate", "B/s", true, 0, 0 },
                             .series = &s, .n_series = 1 };
    char *svg = draw(&c);

    (void)state;
    assert_non_null(strstr(svg, ">1 M<"));
    assert_non_null(strstr(svg, ">1 GB/s<"));
    assert_non_null(strstr(svg, ">1 mB/s<"));
    free(svg);
}

/* One value, all values equal, huge and tiny ranges: there is always an axis. */
static void odd_ranges(void **state)
{
    static const double ranges[][2] = { { 5, 5 }, { 0, 0 }, { -3, -3 }, { 1e-300, 1e300 },
                                        { -1e300, 1e300 }, { 1e9, 1e9 + 1 }, { -7, 3 },
                                        { 0.1, 0.1000001 } };

    (void)state;
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        for (int log = 0; log < 2; log++) {
            const double y[] = { 1, 2 };
            const struct chart_series s = { .kind = CHART_LINE, .n = 2, .x = ranges[i], .y = y };
            const struct chart c = { .x = { "x", NULL, log, 0, 0 }, .series = &s, .n_series = 1 };
            struct err e = { 0 };
            struct str out;

            str_init(&out, 0);
            if (chart_svg(&c, &out, &e) == 0)
                assert_well_formed(str_cstr(&out));
            else
                assert_true(log && !(ranges[i][0] > 0));
            str_deinit(&out);
        }
}

static void assert_refused(const struct chart *c, int code)
{
    struct err e = { 0 };
    struct str out;

    str_init(&out, 0);
    assert_int_equal(chart_svg(c, &out, &e), code);
    assert_non_null(strstr(e.msg, "chart"));
    str_deinit(&out);
}

static void refuses_what_it_cannot_draw(void **state)
{
    const double x[] = { -1, NAN }, y[] = { 1, 1 };
    struct chart_series s = { .kind = CHART_LINE, .n = 2, .x = x, .y = y };
    struct chart c = { .x = { "x", NULL, true, 0, 0 }, .series = &s, .n_series = 1 };

    (void)state;
    assert_refused(&c, WATT_EINVAL);        /* nothing positive */
    c.n_series = 0;
    assert_refused(&c, WATT_EINVAL);
    c.n_series = CHART_MAX_SERIES + 1;
    assert_refused(&c, WATT_ELIMIT);
    c.n_series = 1;
    s.n = CHART_MAX_POINTS + 1;
    assert_refused(&c, WATT_ELIMIT);
    s.n = 2;
    c.x = (struct chart_axis){ .title = "x", .min = 3, .max = 2 };
    assert_refused(&c, WATT_EINVAL);
    c.x = (struct chart_axis){ .title = "x", .min = 2, .max = 3 };
    c.y = (struct chart_axis){ .title = "y", .log = true, .max = 5 };
    assert_refused(&c, WATT_EINVAL);
    c.y = (struct chart_axis){ .title = "y", .max = 5 };
    c.width = 20;
    assert_refused(&c, WATT_EINVAL);
    c.width = 0;
    s.color = CHART_GREY + 1;
    assert_refused(&c, WATT_EINVAL);
}

/* More labels than there is room for: none lies on another, the rest are left out. */
static void crowded_labels(void **state)
{
    enum { N = 400 };
    static double x[N], y[N];
    static const char *labels[N];
    const struct chart_series s = { .name = "many", .kind = CHART_POINTS, .n = N, .x = x, .y = y,
                                    .labels = labels };
    const struct chart c = { .series = &s, .n_series = 1 };
    char *svg;
    int n;

    (void)state;
    for (int i = 0; i < N; i++) {
        x[i] = 1 + i % 20 * 0.01;
        y[i] = 1 + i / 20 * 0.01;
        labels[i] = "a label of some length";
    }
    svg = draw(&c);
    n = count(svg, "a label of some length");
    assert_in_range(n, 1, N - 1);
    free(svg);
}

static void memory_that_runs_out(void **state)
{
#ifdef WATT_FAULTS
    const double x[] = { 1, 2 }, y[] = { 1, 2 };
    const struct chart_series s = { .name = "s", .kind = CHART_LINE, .n = 2, .x = x, .y = y };
    const struct chart c = { .title = "t", .series = &s, .n_series = 1 };
    int rc = -1;

    (void)state;
    for (unsigned n = 1; rc < 0; n++) {
        struct err e = { 0 };
        struct str out;

        (void)fault_arm(FAULT_ALLOC, n);
        str_init(&out, 0);
        rc = chart_svg(&c, &out, &e);
        (void)fault_arm(FAULT_ALLOC, 0);
        assert_true(rc == 0 || rc == WATT_ENOMEM);
        assert_true(n < 100);
        str_deinit(&out);
    }
#else
    (void)state;
    skip();
#endif
}

/* ---- a ledger's charts ---- */

static struct ledger_sum day(int d, const char *key, int64_t n, int64_t uj)
{
    struct ledger_sum s = { .from_s = d * 86400, .n = n, .n_measured = n, .decode_uj = uj,
                            .n_output = 10 * n, .currency = "EUR" };

    (void)snprintf(s.key, sizeof s.key, "%s", key);
    return s;
}

static size_t n_of(const char *text, const char *what)
{
    size_t n = 0;

    for (const char *p = text; (p = strstr(p, what)) != NULL; p += strlen(what))
        n++;
    return n;
}

/* The largest have lines of their own, the rest is added up, and the axis begins at nothing. */
static void ledger_lines(void **state)
{
    struct ledger_sum g[60];
    struct str out;
    struct err e = { 0 };
    size_t n = 0;

    (void)state;
    for (int d = 0; d < 3; d++)
        for (int k = 0; k < 12; k++) {
            char key[16];

            (void)snprintf(key, sizeof key, "key-%02d", k);
            g[n++] = day(d, key, 1, (k + 1) * 1000000);
        }
    str_init(&out, 0);
    assert_int_equal(ledger_chart(&out, g, n, LEDGER_BY_DAY | LEDGER_BY_KEY, LEDGER_CHART_ENERGY, &e), 0);
    assert_well_formed(str_cstr(&out));
    assert_non_null(strstr(str_cstr(&out), ">key-11<"));
    assert_non_null(strstr(str_cstr(&out), ">key-04<"));
    assert_null(strstr(str_cstr(&out), ">key-03<"));
    assert_non_null(strstr(str_cstr(&out), ">others<"));
    assert_non_null(strstr(str_cstr(&out), ">0 J<"));
    str_reset(&out);
    /* joules a token of others together: 4 requests of 1 to 4 J, 40 tokens, and no sum of quotients */
    assert_int_equal(ledger_chart(&out, g, n, LEDGER_BY_DAY | LEDGER_BY_KEY, LEDGER_CHART_PER_TOKEN, &e),
                     0);
    assert_non_null(strstr(str_cstr(&out), ">1.2 J<"));
    assert_null(strstr(str_cstr(&out), ">1.4 J<"));
    str_reset(&out);
    g[1] = day(4, "a", 1, 1000000);             /* a day without requests is one of nothing */
    assert_int_equal(ledger_chart(&out, g, 2, LEDGER_BY_DAY, LEDGER_CHART_REQUESTS, &e), 0);
    assert_int_equal(n_of(str_cstr(&out), ">all<"), 1);
    str_reset(&out);
    assert_int_equal(ledger_chart(&out, g, 1, LEDGER_BY_DAY, LEDGER_CHART_REQUESTS, &e), 0);
    str_reset(&out);
    (void)snprintf(g[1].currency, sizeof g[1].currency, "USD");
    g[0].n_priced = g[1].n_priced = 1;
    assert_int_equal(ledger_chart(&out, g, 2, LEDGER_BY_DAY, LEDGER_CHART_REVENUE, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "several currencies"));
    assert_int_equal(ledger_chart(&out, g, 0, LEDGER_BY_DAY, LEDGER_CHART_ENERGY, &e), WATT_EINVAL);
    g[1].from_s = INT64_MAX / 2;
    assert_true(ledger_chart(&out, g, 2, LEDGER_BY_HOUR, LEDGER_CHART_ENERGY, &e) < 0);
    str_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_and_points),
        cmocka_unit_test(scales_place_points),
        cmocka_unit_test(ticks_have_units),
        cmocka_unit_test(odd_ranges),
        cmocka_unit_test(refuses_what_it_cannot_draw),
        cmocka_unit_test(crowded_labels),
        cmocka_unit_test(memory_that_runs_out),
        cmocka_unit_test(ledger_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
