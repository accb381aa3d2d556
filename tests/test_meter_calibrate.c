/* test_meter_calibrate.c: coefficients of an estimate: the fit against numbers by hand, and a whole
 * calibration on a meter that charges 10 W, and 5 J for each second of processor time. */
#include <math.h>
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

#include "applications/meter_calibrate.h"
#include "spawn.h"

static struct err e;
static struct spawned r;

static void test_the_fit(void **state)
{
    struct calibration c = { .idle = { 1, 40, 0 }, .ops = { 1, 100, 5e12 }, .bytes = { 1, 70, 6e11 } };

    (void)state;
    calibration_fit(&c);
    assert_true(c.k.idle_w == 40);
    assert_true(fabs(c.k.pj_per_op - 12) < 1e-9);       /* 60 W over 5 T/s */
    assert_true(fabs(c.k.pj_per_byte - 50) < 1e-9);     /* 30 W over 0.6 TB/s */
    c.ops.watts = 39;
    calibration_fit(&c);
    assert_true(c.k.pj_per_op == 0);
}

static double now(clockid_t id)
{
    struct timespec t;

    (void)clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int counter(void *ctx, double *uj, struct err *why)
{
    (void)ctx;
    (void)why;
    *uj = 1e6 * (10 * now(CLOCK_MONOTONIC) + 5 * now(CLOCK_PROCESS_CPUTIME_ID));
    return 0;
}

static bool stopped(void)
{
    return true;
}

static void test_a_calibration(void **state)
{
    const struct meter_opts mo = { .want = "counter", .counter = counter, .no_thread = true };
    struct calibration c;
    struct meter *m;

    (void)state;
    assert_int_equal(meter_open(&m, &mo, &e), 0);
    for (int i = 0; i < 10; i++) {      /* others may have the processors for so long */
        assert_int_equal(meter_calibrate(m, 0.4, 0.1, 1, NULL, &c, &e), 0);
        if (c.idle.watts < 12 && c.k.pj_per_op > 0 && c.k.pj_per_byte > 0)
            break;
    }
    assert_true(c.idle.watts >= 9.9 && c.idle.watts < 12);
    assert_true(c.ops.rate > 1e8 && c.bytes.rate > 1e7);
    /* one thread took at most all of the time, and took some */
    assert_true(c.k.pj_per_op * c.ops.rate * 1e-12 < 5.5 && c.k.pj_per_op > 0);
    assert_true(c.k.pj_per_byte * c.bytes.rate * 1e-12 < 5.5 && c.k.pj_per_byte > 0);
    assert_int_equal(meter_calibrate(m, 0.1, 0, 1, stopped, &c, &e), WATT_ECANCEL);
    meter_close(m);
}

static double number_of(const char *name)
{
    char key[40];
    const char *at;

    (void)snprintf(key, sizeof key, "\"%s\":", name);
    at = strstr(r.out, key);
    if (!at)
        fail_msg("no %s in %s", name, r.out);
    return strtod(at + strlen(key), NULL);
}

/* What a wall meter shows: 20 W idle, 80 W while the process that asks multiplies, 65 W while it reads
 * memory. Which of them it is, it tells by the process's threads, its processor time (in hundredths of
 * a second) and its memory, however late a busy machine is with any of it. */
static void write_meter(const char *path)
{
    static const char script[] =
        "while read -r key value rest; do case $key in VmRSS:) memory=$value;; Threads:) threads=$value;; "
        "esac; done </proc/$PPID/status\n"
        "read -r stat </proc/$PPID/stat\nset -- ${stat##*) }\n"
        "if [ $memory -gt 200000 ]; then w=65; elif [ $threads -gt 2 ] || [ ${12} -gt 50 ]; then w=80; "
        "else w=20; fi\n"
        "echo \"{\\\"meters\\\":[{},{\\\"W\\\":\\\"$w\\\"}]}\"\n";
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs(script, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* A sample may be late by more than a load has to settle: then its power is not that load's. */
static bool calibrated(char *command)
{
    double idle, ops, bytes;

    spawn(&r, NULL, "meter", "--calibrate", "--seconds", "1", "--meter", command, "--meter-interval",
          "200", "--meter-name", "plug", "--json");
    if (r.code != 0)
        fail_msg("%s", r.err);
    idle = number_of("idle_w");
    ops = number_of("ops_w");
    bytes = number_of("bytes_w");
    return idle >= 19.9 && idle < 30 && ops > 70 && ops < 80.1 && bytes > 60 && bytes < 70;
}

/* As a person does it. What comes out is an estimate that other verbs take. */
static void test_a_wall_meter(void **state)
{
    char dir[] = "watt-plant-XXXXXX", script[64], command[96], coefficients[128];
    double idle, op, byte;
    bool ok = false;

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(script, sizeof script, "%s/plant.sh", dir);
    (void)snprintf(command, sizeof command, "cmd:exec sh %s #/meters/1/W", script);
    write_meter(script);
    for (int i = 0; i < 6 && !ok; i++)
        ok = calibrated(command);
    if (!ok)
        fail_msg("%s", r.out);
    assert_non_null(strstr(r.out, "\"source\":\"plug\""));
    idle = number_of("idle_w");
    op = number_of("pj_per_op");
    byte = number_of("pj_per_byte");
    assert_true(fabs(op * 1e-12 * number_of("ops_s") - (number_of("ops_w") - idle)) < 0.1);
    assert_true(fabs(byte * 1e-12 * number_of("bytes_s") - (number_of("bytes_w") - idle)) < 0.1);
    (void)snprintf(coefficients, sizeof coefficients, "idle=%.4g,op=%.4g,byte=%.4g", idle, op, byte);
    spawn(&r, NULL, "meter", "--meter", "estimate", "--estimate", coefficients, "--seconds", "0.2");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "an estimate and not a measurement"));
    assert_int_equal(unlink(script), 0);
    assert_int_equal(rmdir(dir), 0);
    spawn(&r, NULL, "meter", "--calibrate", "--seconds", "0.2", "--meter", "cmd:exit 1");
    assert_int_equal(r.code, 1);                /* a meter that says nothing */
    assert_non_null(strstr(r.err, "the command failed"));
}

static void test_what_does_not_measure_is_refused(void **state)
{
    (void)state;
    spawn(&r, NULL, "meter", "--calibrate", "--meter", "none", "--seconds", "0.05");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "needs a meter that measures"));
    spawn(&r, NULL, "meter", "--calibrate", "--meter", "estimate", "--estimate", "idle=1,op=1,byte=1",
          "--seconds", "0.05");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "estimate"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_fit),
        cmocka_unit_test(test_a_calibration),
        cmocka_unit_test(test_a_wall_meter),
        cmocka_unit_test(test_what_does_not_measure_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
