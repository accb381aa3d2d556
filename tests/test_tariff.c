/* test_tariff.c: prices of energy, machines and tokens. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "energy/tariff.h"

#define NEAR(a, b) assert_true(fabs((a) - (double)(b)) <= 1e-9 * (1 + fabs((double)(b))))

static struct tariff *parse(const char *text)
{
    struct tariff *t = NULL;
    struct err e = { 0 };

    if (tariff_parse(&t, "tariff", text, strlen(text), &e) < 0)
        fail_msg("%s", e.msg);
    return t;
}

static void refuse(const char *text, const char *why)
{
    struct tariff *t = NULL;
    struct err e = { 0 };

    assert_true(tariff_parse(&t, "tariff", text, strlen(text), &e) < 0);
    assert_null(t);
    if (!strstr(e.msg, why))
        fail_msg("'%s' does not say '%s'", e.msg, why);
}

static void test_bill(void **state)
{
    struct tariff *t = parse("{\"currency\":\"EUR\",\"pue\":1.2,"
        "\"electricity\":{\"price_per_kwh\":0.25},\"carbon\":{\"g_per_kwh\":400},"
        "\"hardware\":{\"purchase\":35064,\"life_years\":4,\"share\":0.5,\"other_per_hour\":0.5},"
        "\"prices\":{\"llama-*\":{\"input\":0.5,\"cached\":0.1,\"output\":2,\"thinking\":3},"
        "\"llama-3\":{\"input\":7},\"*\":{\"output\":1}}}");
    struct tariff_use use = { .model = "llama-8b", .has_joules = true, .joules = 3.6e6,
                              .machine_s = 1800, .n_input = 1000000, .n_cached = 2000000,
                              .n_output = 500000, .n_thinking = 100000 };
    struct tariff_prices p;
    struct tariff_bill b;

    (void)state;
    assert_string_equal(tariff_currency(t), "EUR");
    NEAR(tariff_hardware_per_hour(t), 1.0);
    tariff_bill(t, &use, &b);
    NEAR(b.kwh, 1.2);
    NEAR(b.energy, 0.3);
    NEAR(b.carbon_g, 480);
    NEAR(b.hardware, 0.5);
    NEAR(b.revenue, 0.5 + 0.2 + 1.0 + 0.3);
    NEAR(b.margin, 2.0 - 0.8);
    assert_true(b.has_energy && b.has_price);
    use.has_joules = false;             /* unknown energy is no energy, and said to be unknown */
    tariff_bill(t, &use, &b);
    assert_false(b.has_energy);
    NEAR(b.cost, 0.5);
    assert_true(tariff_prices(t, "llama-3", &p));       /* the longest fit */
    NEAR(p.input, 7);
    NEAR(p.cached, 7);
    assert_true(tariff_prices(t, "qwen", &p));
    NEAR(p.thinking, 1);
    tariff_close(t);
    t = parse("{\"prices\":{\"a\":{\"input\":1}}}");
    assert_false(tariff_prices(t, "b", &p));
    tariff_close(t);
}

static void test_hours(void **state)
{
    struct tariff *t = parse("{\"utc_offset_hours\":1,\"electricity\":{\"hourly\":"
        "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23]}}");

    (void)state;
    NEAR(tariff_price_per_kwh(t, 0), 1);                    /* 01:00 there */
    NEAR(tariff_price_per_kwh(t, 23 * 3600), 0);
    NEAR(tariff_price_per_kwh(t, 86400 * 20000 + 3600 * 12 + 3599), 13);
    tariff_close(t);
}

static void test_series(void **state)
{
    struct tariff *t = parse("time,price_per_kwh,carbon_g_per_kwh\n"
                             "# a comment\r\n"
                             "1970-01-01T01:00:00Z,0.1,100\r\n"
                             "\"1970-01-01 03:00+01:00\", -0.2 ,\n"
                             "1970-01-01T05:00Z,0.3,300\n");

    (void)state;
    NEAR(tariff_price_per_kwh(t, 0), 0.1);                  /* before: the nearest */
    NEAR(tariff_price_per_kwh(t, 3600), 0.1);
    NEAR(tariff_price_per_kwh(t, 7199), 0.1);
    NEAR(tariff_price_per_kwh(t, 7200), -0.2);
    NEAR(tariff_carbon_g_per_kwh(t, 7200), 0);              /* not said */
    NEAR(tariff_price_per_kwh(t, 18000 + 3599), 0.3);
    NEAR(tariff_price_per_kwh(t, 1000000), 0.3);
    tariff_close(t);
    t = parse("time;price_per_kwh\n1000;1.5\n4600;2.5\n");
    NEAR(tariff_price_per_kwh(t, 5000), 2.5);
    tariff_close(t);
}

static void test_refusals(void **state)
{
    struct tariff *t = NULL;
    struct err e = { 0 };

    (void)state;
    refuse("", "neither JSON nor rows");
    refuse("time,price_per_kwh\n", "neither JSON nor rows");
    refuse("price\n1\n", "unknown column 'price'");
    refuse("price_per_kwh\n1\n", "expected the columns");
    refuse("time,price_per_kwh\nyesterday,1\n", "line 2: 'yesterday' is no time");
    refuse("time,price_per_kwh\n7,one\n", "line 2: 'one' is no number");
    refuse("time,price_per_kwh\n7,1\n7,1\n", "line 3: '7' is not after");
    refuse("time,price_per_kwh\n7\n", "too few");
    refuse("{\"pue\":0.9}", "pue");
    refuse("{\"electricty\":{}}", "unknown member 'electricty'");
    refuse("{\"electricity\":{\"price\":1}}", "unknown member 'price'");
    refuse("{\"electricity\":{\"hourly\":[1,2]}}", "expected 24 numbers, found 2");
    refuse("{\"electricity\":{\"series\":\"a.csv\"}}", "needs a file");
    refuse("{\"electricity\":5}", "expected an object");
    refuse("{\"prices\":{\"x\":{\"input\":-1}}}", "prices.x.input");
    refuse("{\"prices\":{\"x\":null}}", "has no prices");
    refuse("{\"currency\":\"euro\"}", "capital letters");
    refuse("{\"pue\":1,}", "tariff");
    assert_int_equal(tariff_open(&t, "/nonexistent/tariff.json", &e), WATT_ENOENT);
    assert_true(tariff_fixed(&t, NULL, NAN, 0, 1, 0, &e) < 0);
    assert_true(tariff_fixed(&t, NULL, 0.1, 0, 0.5, 0, &e) < 0);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* The series lies beside the file that names it. */
static void test_files(void **state)
{
    char dir[] = "tariff-XXXXXX", json[64], csv[64];
    struct tariff *t = NULL;
    struct err e = { 0 };

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(json, sizeof json, "%s/t.json", dir);
    (void)snprintf(csv, sizeof csv, "%s/p.csv", dir);
    write_file(json, "{\"electricity\":{\"series\":\"p.csv\",\"price_per_kwh\":0.5}}");
    assert_int_equal(tariff_open(&t, json, &e), WATT_ENOENT);
    assert_non_null(strstr(e.msg, "p.csv"));
    write_file(csv, "time,price_per_kwh\n3600,0.1\n");
    assert_int_equal(tariff_open(&t, json, &e), 0);
    NEAR(tariff_price_per_kwh(t, 3600), 0.1);
    NEAR(tariff_price_per_kwh(t, 7200), 0.5);       /* outside the series */
    tariff_close(t);
    (void)unlink(json);
    (void)unlink(csv);
    (void)rmdir(dir);
}

static void test_fixed(void **state)
{
    struct tariff *t = NULL;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(tariff_fixed(&t, NULL, 0.12, 350, 1.1, 2, &e), 0);
    NEAR(tariff_price_per_kwh(t, 12345), 0.12);
    NEAR(tariff_carbon_g_per_kwh(t, 12345), 350);
    NEAR(tariff_pue(t), 1.1);
    NEAR(tariff_hardware_per_hour(t), 2);
    tariff_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bill), cmocka_unit_test(test_hours), cmocka_unit_test(test_series),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_files), cmocka_unit_test(test_fixed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
