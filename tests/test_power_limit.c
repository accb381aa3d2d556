/* test_power_limit.c: limits of processor packages on simulated trees and of GPUs of a simulated
 * library: set, put back, left by a killed process and found again. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "energy/power_limit.h"
#include "meter_rig.h"

#define ZONE "sys/class/powercap/intel-rapl:"
#define NOTE "run/watt-power-limits"

static void package(struct rig *r, int i, double watts)
{
    char path[128];

    (void)snprintf(path, sizeof path, ZONE "%d/name", i);
    rig_put(r, path, i == 0 ? "package-0\n" : "package-1\n");
    (void)snprintf(path, sizeof path, ZONE "%d/enabled", i);
    rig_put(r, path, "1\n");
    (void)snprintf(path, sizeof path, ZONE "%d/constraint_0_name", i);
    rig_put(r, path, "short_term\n");
    (void)snprintf(path, sizeof path, ZONE "%d/constraint_0_power_limit_uw", i);
    rig_number(r, path, 9e8);
    (void)snprintf(path, sizeof path, ZONE "%d/constraint_1_name", i);
    rig_put(r, path, "long_term\n");
    (void)snprintf(path, sizeof path, ZONE "%d/constraint_1_power_limit_uw", i);
    rig_number(r, path, watts * 1e6);
    (void)snprintf(path, sizeof path, ZONE "%d/constraint_1_max_power_uw", i);
    rig_number(r, path, 300e6);
}

static void machine(struct rig *r)
{
    rig_open(r);
    rig_put(r, "run/other", "");
    package(r, 0, 200);
    package(r, 1, 150);
    rig_put(r, ZONE "0:0/name", "dram\n");
}

static struct power_limit *open_limits(const struct rig *r, const char *nvml)
{
    const struct power_limit_opts o = { .root = r->root, .nvml = nvml };
    struct power_limit *p = NULL;
    struct err e = { 0 };

    if (power_limit_open(&p, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return p;
}

/* Limits of the machine's packages, of no GPU. */
static struct power_limit *machine_limits(struct rig *r)
{
    machine(r);
    return open_limits(r, "");
}

static bool there(const struct rig *r, const char *path)
{
    char full[256];

    (void)snprintf(full, sizeof full, "%s/%s", r->root, path);
    return access(full, F_OK) == 0;
}

static double watts(const struct rig *r, int i)
{
    char path[256];
    double uw = -1;
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/" ZONE "%d/constraint_1_power_limit_uw", r->root, i);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lf", &uw), 1);
    (void)fclose(f);
    return uw * 1e-6;
}

static void test_packages(void **state)
{
    struct rig r;
    struct power_limit *p = machine_limits(&r);
    struct err e = { 0 };

    (void)state;
    assert_int_equal(power_limit_n(p), 2);
    assert_string_equal(power_limit_why(p), "");
    assert_string_equal(power_limit_name(p, 1), "package-1");
    assert_true(watts(&r, 0) == 200 && watts(&r, 1) == 150);
    assert_int_equal(power_limit_set(p, 0.5, &e), 0);
    assert_true(watts(&r, 0) == 100 && watts(&r, 1) == 75);
    assert_true(there(&r, NOTE));
    assert_int_equal(power_limit_set(p, 0.001, &e), 0);     /* not under a tenth */
    assert_true(watts(&r, 0) == 20 && watts(&r, 1) == 15);
    assert_int_equal(power_limit_set(p, 1, &e), 0);
    assert_true(watts(&r, 0) == 200);
    assert_int_equal(power_limit_set(p, 0.7, &e), 0);
    power_limit_close(p);
    assert_true(watts(&r, 0) == 200 && watts(&r, 1) == 150);
    assert_false(there(&r, NOTE));
    power_limit_close(NULL);
    rig_close(&r);
}

/* Firmware that sets no bound shows one of kilowatts: shares are of what the package can take. */
static void test_no_bound(void **state)
{
    struct rig r;
    struct power_limit *p;
    struct err e = { 0 };

    (void)state;
    machine(&r);
    package(&r, 0, 4095.875);
    p = open_limits(&r, "");
    assert_int_equal(power_limit_set(p, 0.5, &e), 0);
    assert_true(watts(&r, 0) == 150 && watts(&r, 1) == 75);
    assert_int_equal(power_limit_set(p, 1, &e), 0);
    assert_true(watts(&r, 0) == 4095.875);
    assert_int_equal(power_limit_set(p, 0.5, &e), 0);
    power_limit_close(p);
    assert_true(watts(&r, 0) == 4095.875);
    rig_close(&r);
}

static void test_nothing_to_set(void **state)
{
    struct rig r;
    struct power_limit *p;
    struct err e = { 0 };

    (void)state;
    rig_open(&r);
    rig_zone(&r, "intel-rapl:0", "package-0\n", 1e6, 1e9);      /* AMD's: counters alone */
    p = open_limits(&r, "");
    assert_int_equal(power_limit_n(p), 0);
    assert_non_null(strstr(power_limit_why(p), "package-0 has no limit to set"));
    assert_int_equal(power_limit_set(p, 0.5, &e), 0);
    power_limit_close(p);
    package(&r, 0, 200);
    rig_put(&r, ZONE "0/enabled", "0\n");
    p = open_limits(&r, "");
    assert_non_null(strstr(power_limit_why(p), "switched off"));
    power_limit_close(p);
    rig_put(&r, ZONE "0/enabled", "1\n");
    (void)unsetenv("RUNTIME_DIRECTORY");
    (void)unsetenv("XDG_RUNTIME_DIR");
    p = open_limits(&r, "");
    assert_int_equal(power_limit_n(p), 0);
    assert_non_null(strstr(power_limit_why(p), "no place to note what they were"));
    power_limit_close(p);
    rig_put(&r, "run/other", "");
    rig_put(&r, ZONE "0/constraint_1_power_limit_uw", "a lot\n");
    p = open_limits(&r, "");
    assert_non_null(strstr(power_limit_why(p), "can't be read"));
    power_limit_close(p);
    rig_put(&r, ZONE "0/constraint_1_power_limit_uw", "99999999999999999999\n");
    p = open_limits(&r, "");
    assert_int_equal(power_limit_n(p), 0);
    power_limit_close(p);
    rig_close(&r);
}

static void test_denied(void **state)
{
    struct rig r;
    struct power_limit *p;
    char path[256];

    (void)state;
    if (geteuid() == 0) {
        (void)fprintf(stderr, "skipped: root may write everything\n");
        skip();
    }
    machine(&r);
    (void)snprintf(path, sizeof path, "%s/" ZONE "0/constraint_1_power_limit_uw", r.root);
    assert_int_equal(chmod(path, 0400), 0);
    p = open_limits(&r, "");
    assert_int_equal(power_limit_n(p), 1);
    assert_non_null(strstr(power_limit_why(p), "Permission denied"));
    assert_string_equal(power_limit_name(p, 0), "package-1");
    power_limit_close(p);
    rig_close(&r);
}

/* A device that refuses later is left as it was found; the other one is set. */
static void test_refused(void **state)
{
    struct rig r;
    struct power_limit *p = machine_limits(&r);
    struct err e = { 0 };

    (void)state;
    assert_int_equal(power_limit_set(p, 0.8, &e), 0);
    rig_unlink(&r, ZONE "0/constraint_1_power_limit_uw");
    assert_int_equal(power_limit_set(p, 0.5, &e), WATT_EIO);
    assert_non_null(strstr(e.msg, "constraint_1_power_limit_uw"));
    assert_int_equal(power_limit_n(p), 1);
    assert_true(watts(&r, 1) == 75);
    assert_int_equal(power_limit_set(p, 0.4, &e), 0);
    rig_number(&r, ZONE "0/constraint_1_power_limit_uw", 160e6);
    power_limit_close(p);
    assert_true(watts(&r, 0) == 200 && watts(&r, 1) == 150);
    rig_close(&r);
}

/* A child sets limits and is killed. */
static void leave(const struct rig *r, const char *nvml, double share)
{
    int status;
    const pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct power_limit *p = open_limits(r, nvml);
        struct err e;

        if (power_limit_set(p, 0.9, &e) < 0 || power_limit_set(p, share, &e) < 0)
            _exit(1);
        (void)kill(getpid(), SIGKILL);
        _exit(2);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void test_killed(void **state)
{
    struct rig r;
    struct power_limit *p;
    struct err e = { 0 };

    (void)state;
    machine(&r);
    leave(&r, "", 0.5);
    assert_true(watts(&r, 0) == 100);
    p = open_limits(&r, "");
    assert_int_equal(power_limit_recovered(p), 2);
    assert_true(watts(&r, 0) == 200 && watts(&r, 1) == 150);
    assert_int_equal(power_limit_set(p, 0.5, &e), 0);
    assert_true(watts(&r, 0) == 100);           /* of what it was at first */
    power_limit_close(p);
    assert_false(there(&r, NOTE));

    leave(&r, "", 0.5);                         /* somebody has changed one since */
    rig_number(&r, ZONE "0/constraint_1_power_limit_uw", 120e6);
    p = open_limits(&r, "");
    assert_int_equal(power_limit_recovered(p), 1);
    assert_true(watts(&r, 0) == 120 && watts(&r, 1) == 150);
    power_limit_close(p);
    assert_true(watts(&r, 0) == 120);

    package(&r, 0, 200);                        /* hardware rounds */
    leave(&r, "", 0.5);
    rig_number(&r, ZONE "0/constraint_1_power_limit_uw", 100.875e6);
    p = open_limits(&r, "");
    assert_int_equal(power_limit_recovered(p), 2);
    power_limit_close(p);
    assert_true(watts(&r, 0) == 200);
    rig_close(&r);
}

/* What stands in the note is not believed when it can't be. */
static void test_hostile_notes(void **state)
{
    static const char *const notes[] = {
        "", "\n\n", "rubbish", "intel-rapl:0", "intel-rapl:0 x y z\n",
        "intel-rapl:0 -5 200000000 200000000\n",
        "intel-rapl:0 400000000000 200000000 200000000\n",      /* over what any can take */
        "intel-rapl:0 99999999999999999999999 200000000 200000000\n",
        "intel-rapl:0 250000000 1 1\n",                         /* not what is set now */
        "intel-rapl:0 100000000 200000000 200000000\n",         /* lower: no limit of ours */
    };
    struct rig r;
    struct power_limit *p;
    char path[256];

    (void)state;
    machine(&r);
    (void)snprintf(path, sizeof path, "%s/" NOTE, r.root);
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
        rig_put(&r, NOTE, notes[i]);
        assert_int_equal(chmod(path, 0600), 0);
        p = open_limits(&r, "");
        assert_int_equal(power_limit_n(p), 2);
        assert_int_equal(power_limit_recovered(p), 0);
        power_limit_close(p);
        assert_true(watts(&r, 0) == 200 && watts(&r, 1) == 150);
    }
    rig_put(&r, NOTE, "intel-rapl:0 250000000 200000000 200000000\n");  /* another's could be */
    assert_int_equal(chmod(path, 0666), 0);
    p = open_limits(&r, "");
    assert_int_equal(power_limit_n(p), 0);
    assert_true(watts(&r, 0) == 200);
    power_limit_close(p);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("other", path), 0);
    p = open_limits(&r, "");
    assert_int_equal(power_limit_n(p), 0);
    power_limit_close(p);
    rig_close(&r);
}

static void test_one_at_a_time(void **state)
{
    struct rig r;
    struct power_limit *p, *q;
    struct err e = { 0 };

    (void)state;
    machine(&r);
    p = open_limits(&r, "");
    assert_int_equal(power_limit_set(p, 0.5, &e), 0);
    q = open_limits(&r, "");
    assert_int_equal(power_limit_n(q), 0);
    assert_non_null(strstr(power_limit_why(q), "another process has them"));
    power_limit_close(q);
    assert_true(watts(&r, 0) == 100);
    assert_true(there(&r, NOTE));
    power_limit_close(p);
    assert_true(watts(&r, 0) == 200);
    rig_close(&r);
}

static void set_gpus(struct rig *r, const char *text)
{
    char path[64];

    rig_put(r, "limits", text);
    (void)snprintf(path, sizeof path, "%s/limits", r->root);
    assert_int_equal(setenv("FAKE_NVML_LIMITS", path, 1), 0);
}

static void gpus_are(const struct rig *r, unsigned a, unsigned b)
{
    char path[64];
    unsigned v[2] = { 0, 0 };
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/limits", r->root);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%u %u", &v[0], &v[1]), 2);
    (void)fclose(f);
    assert_int_equal(v[0], a);
    assert_int_equal(v[1], b);
}

static void test_gpus(void **state)
{
    const char *library = getenv("WATT_FAKE_NVML");
    struct rig r;
    struct power_limit *p;
    struct err e = { 0 };

    (void)state;
    if (!library) {
        (void)fprintf(stderr, "skipped: WATT_FAKE_NVML is not set\n");
        skip();
    }
    rig_open(&r);
    rig_put(&r, "run/other", "");
    set_gpus(&r, "700000 400000 1");
    p = open_limits(&r, library);
    assert_int_equal(power_limit_n(p), 2);
    assert_string_equal(power_limit_name(p, 1), "gpu-1 (Simulated GPU 1)");
    assert_int_equal(power_limit_set(p, 0.5, &e), 0);
    gpus_are(&r, 350000, 200000);
    assert_int_equal(power_limit_set(p, 0.1, &e), 0);       /* not under what they can take */
    gpus_are(&r, 100000, 100000);
    power_limit_close(p);
    gpus_are(&r, 700000, 400000);
    leave(&r, library, 0.5);
    package(&r, 0, 200);
    p = open_limits(&r, "");                    /* nobody looks for GPUs: their lines stay */
    assert_int_equal(power_limit_n(p), 1);
    power_limit_close(p);
    gpus_are(&r, 350000, 200000);
    p = open_limits(&r, library);
    assert_int_equal(power_limit_recovered(p), 2);
    gpus_are(&r, 700000, 400000);
    power_limit_close(p);
    assert_false(there(&r, NOTE));
    set_gpus(&r, "700000 400000");              /* no permission */
    p = open_limits(&r, library);
    assert_int_equal(power_limit_n(p), 1);
    assert_non_null(strstr(power_limit_why(p), "Insufficient Permissions (only root may)"));
    power_limit_close(p);
    (void)unsetenv("FAKE_NVML_LIMITS");
    p = open_limits(&r, library);
    assert_non_null(strstr(power_limit_why(p), "gpu-0 (Simulated GPU 0) has no limit to set"));
    power_limit_close(p);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packages), cmocka_unit_test(test_no_bound), cmocka_unit_test(test_nothing_to_set),
        cmocka_unit_test(test_denied), cmocka_unit_test(test_refused), cmocka_unit_test(test_killed),
        cmocka_unit_test(test_hostile_notes), cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_gpus),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
