/* test_meter.c: every source of a meter on simulated trees: what is counted, what is not, and what
 * happens when counters wrap, vanish or lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "meter_rig.h"
#include "energy/meter_internal.h"

#define RANGE 262143328850.0
#define JOULES(m, j) assert_true(fabs(rig_joules(m) - (double)(j)) < 1e-3)

static void tree(struct rig *r)
{
    rig_open(r);
    rig_zone(r, "intel-rapl:0", "package-0\n", 1e6, RANGE);
    rig_zone(r, "intel-rapl:0:0", "core\n", 5e5, RANGE);
    rig_zone(r, "intel-rapl:0:1", "dram\n", 2e6, RANGE);
    rig_zone(r, "intel-rapl:1", "package-1\n", 3e6, RANGE);
    rig_zone(r, "intel-rapl-mmio:0", "package-0\n", 1e6, RANGE);
}

static struct meter_view view(struct meter *m, const char *name)
{
    struct meter_view v = { 0 };

    for (uint32_t i = 0; i < meter_n_views(m); i++) {
        meter_view(m, i, &v);
        if (strcmp(v.name, name) == 0)
            return v;
    }
    fail_msg("no channel %s", name);
    return v;
}

/* Two packages and memory add up; cores are inside, the second interface shows the same again. */
static void test_rapl(void **state)
{
    struct rig r;
    struct meter *m;
    struct meter_channel_name name;
    struct meter_reading x;

    (void)state;
    tree(&r);
    m = rig_meter(&r, NULL);
    assert_string_equal(meter_source(m), "rapl");
    assert_true(meter_measures(m));
    assert_string_equal(meter_why(m), "");
    JOULES(m, 0);
    r.now += SECOND;
    rig_energy(&r, "intel-rapl:0", 1e6 + 50e6);
    rig_energy(&r, "intel-rapl:0:0", 5e5 + 40e6);
    rig_energy(&r, "intel-rapl:0:1", 2e6 + 8e6);
    rig_energy(&r, "intel-rapl:1", 3e6 + 30e6);
    meter_read(m, &x);
    assert_true(x.valid);
    assert_int_equal(x.n, 3);
    assert_int_equal(x.uj, 88000000);
    meter_channel_name(m, 1, &name);
    assert_string_equal(name.name, "dram-0");
    assert_string_equal(name.device, "dram");
    assert_int_equal(x.channel_uj[1], 8000000);
    assert_int_equal(meter_n_views(m), 4);
    assert_string_equal(view(m, "core-0").why, "inside the package");
    assert_false(view(m, "core-0").counted);
    assert_true(fabs(view(m, "package-0").watts - 50) < 1e-6);
    meter_close(m);
    rig_close(&r);
}

/* psys holds everything: it alone counts. */
static void test_psys(void **state)
{
    struct rig r;
    struct meter *m;

    (void)state;
    tree(&r);
    rig_zone(&r, "intel-rapl:2", "psys\n", 0, RANGE);
    m = rig_meter(&r, NULL);
    r.now += SECOND;
    rig_energy(&r, "intel-rapl:0", 51e6);
    rig_energy(&r, "intel-rapl:2", 90e6);
    JOULES(m, 90);
    assert_string_equal(view(m, "package-0").why, "inside psys");
    meter_close(m);
    rig_close(&r);
}

static void test_wrap(void **state)
{
    struct rig r;
    struct meter *m;
    double at = RANGE - 3e6, used = 0;

    (void)state;
    rig_open(&r);
    rig_zone(&r, "intel-rapl:0", "package-0\n", at, RANGE);
    m = rig_meter(&r, "rapl");
    for (int i = 0; i < 5000; i++) {        /* some 20 wraps */
        const double step = 1e6 * (1 + i % 1000);

        r.now += SECOND;
        used += step;
        at = fmod(at + step, RANGE);
        rig_energy(&r, "intel-rapl:0", at);
        JOULES(m, used / 1e6);
    }
    meter_close(m);
    rig_close(&r);
}

/* A counter that begins anew is no wrap when that would be too much power: what was used while it
 * did so is not known, and the reading says that there was a gap. */
static void test_reset(void **state)
{
    struct rig r;
    struct meter *m;
    struct meter_reading before, after;

    (void)state;
    rig_open(&r);
    rig_zone(&r, "intel-rapl:0", "package-0\n", 100e6, RANGE);
    m = rig_meter(&r, "rapl");
    r.now += SECOND;
    rig_energy(&r, "intel-rapl:0", 150e6);
    meter_read(m, &before);
    assert_int_equal(before.uj, 50000000);
    for (int i = 0; i < 4; i++) {
        r.now += SECOND;
        rig_energy(&r, "intel-rapl:0", 20e6 * i);
        meter_read(m, &after);
    }
    assert_int_equal(after.gaps, before.gaps + 1);
    assert_int_equal(after.uj, 50000000 + 20000000);    /* the step after it was believed */
    assert_int_equal(view(m, "package-0").skipped, 3);
    meter_close(m);
    rig_close(&r);
}

/* One absurd reading changes nothing: what came meanwhile is in the next one. */
static void test_spike(void **state)
{
    struct rig r;
    struct meter *m;
    struct meter_reading x;

    (void)state;
    rig_open(&r);
    rig_zone(&r, "intel-rapl:0", "package-0\n", 100e6, RANGE);
    m = rig_meter(&r, "rapl");
    r.now += SECOND;
    rig_energy(&r, "intel-rapl:0", 260000e6);
    JOULES(m, 0);
    r.now += SECOND;
    rig_energy(&r, "intel-rapl:0", 0);
    JOULES(m, 0);
    r.now += SECOND;
    rig_energy(&r, "intel-rapl:0", 190e6);
    meter_read(m, &x);
    assert_true(x.valid);
    assert_int_equal(x.gaps, 0);
    assert_int_equal(x.uj, 90000000);
    meter_close(m);
    rig_close(&r);
}

static void test_vanishing(void **state)
{
    struct rig r;
    struct meter *m;

    (void)state;
    rig_open(&r);
    rig_zone(&r, "intel-rapl:0", "package-0\n", 100e6, RANGE);
    m = rig_meter(&r, "rapl");
    r.now += SECOND;
    rig_put(&r, "sys/class/powercap/intel-rapl:0/energy_uj", "garbage\n");
    assert_true(isnan(rig_joules(m)));
    assert_non_null(strstr(meter_why(m), "'garbage"));
    rig_put(&r, "sys/class/powercap/intel-rapl:0/energy_uj", "");
    r.now += 2 * SECOND;
    assert_true(isnan(rig_joules(m)));
    r.now += 2 * SECOND;
    rig_energy(&r, "intel-rapl:0", 400e6);      /* a counter went on meanwhile: nothing is lost */
    JOULES(m, 300);
    assert_string_equal(meter_why(m), "");
    meter_close(m);
    rig_close(&r);
}

static void test_denied(void **state)
{
    struct rig r;
    struct meter *m = NULL;
    struct err e = { 0 };
    char path[128];

    (void)state;
    tree(&r);
    for (int i = 0; i < 3; i++) {
        static const char *const zones[] = { "intel-rapl:0", "intel-rapl:0:1", "intel-rapl:1" };

        (void)snprintf(path, sizeof path, "%s/sys/class/powercap/%s/energy_uj", r.root, zones[i]);
        assert_int_equal(unlink(path), 0);
        if (geteuid() == 0) {               /* root may read everything: a folder it can't */
            assert_int_equal(mkdir(path, 0700), 0);
        } else {
            rig_zone(&r, zones[i], "package-0\n", 1, RANGE);
            assert_int_equal(chmod(path, 0), 0);
        }
    }
    m = rig_meter(&r, NULL);
    assert_string_equal(meter_source(m), "none");
    assert_false(meter_measures(m));
    assert_non_null(strstr(meter_why(m), "energy_uj"));
    if (geteuid() != 0)
        assert_non_null(strstr(meter_why(m), "readable by root only"));
    assert_true(isnan(rig_joules(m)));
    meter_close(m);
    {
        const struct meter_opts o = { .want = "rapl", .root = r.root, .nvml = "", .no_thread = true };

        assert_true(meter_open(&m, &o, &e) < 0);
        assert_non_null(strstr(e.msg, "energy_uj"));
    }
    rig_close(&r);
}

static void test_none(void **state)
{
    struct rig r;
    struct meter *m;
    struct meter_reading x;

    (void)state;
    rig_open(&r);
    m = rig_meter(&r, NULL);
    assert_string_equal(meter_source(m), "none");
    assert_non_null(strstr(meter_why(m), "no zones"));
    assert_non_null(strstr(meter_why(m), "battery: none"));
    meter_read(m, &x);
    assert_false(x.valid);
    meter_close(m);
    m = rig_meter(&r, "none");
    assert_string_equal(meter_why(m), "switched off");
    meter_close(m);
    rig_close(&r);
}

/* A power is held from sample to sample, and for a while only. */
static void test_hwmon(void **state)
{
    struct rig r;
    struct meter *m;
    struct meter_reading x;

    (void)state;
    rig_open(&r);
    rig_put(&r, "sys/class/hwmon/hwmon0/name", "coretemp\n");
    rig_put(&r, "sys/class/hwmon/hwmon1/name", "amdgpu\n");
    rig_number(&r, "sys/class/hwmon/hwmon1/power1_average", 50e6);
    rig_put(&r, "sys/class/hwmon/hwmon2/name", "someboard\n");
    rig_number(&r, "sys/class/hwmon/hwmon2/power1_input", 7e6);
    rig_put(&r, "sys/class/hwmon/hwmon2/power1_label", "rail 3V3\n");
    m = rig_meter(&r, NULL);
    assert_string_equal(meter_source(m), "hwmon");
    r.now += SECOND;
    JOULES(m, 50);
    rig_number(&r, "sys/class/hwmon/hwmon1/power1_average", 100e6);
    JOULES(m, 50);                          /* nobody has sampled */
    meter_sample(m);
    r.now += SECOND;
    JOULES(m, 150);
    rig_number(&r, "sys/class/hwmon/hwmon1/power1_average", 9e15);      /* absurd: held on */
    meter_sample(m);
    r.now += SECOND;
    JOULES(m, 250);
    rig_number(&r, "sys/class/hwmon/hwmon1/power1_average", 10e6);
    meter_sample(m);
    r.now += 60 * SECOND;                   /* asleep: what happened is not known */
    assert_true(isnan(rig_joules(m)));
    meter_sample(m);
    meter_read(m, &x);
    assert_true(x.valid);
    assert_int_equal(x.gaps, 1);
    assert_non_null(strstr(view(m, "someboard-hwmon2-rail-3V3").why, "--meter hwmon:someboard"));
    meter_close(m);
    m = rig_meter(&r, "hwmon:someboard");
    r.now += SECOND;
    JOULES(m, 7);
    meter_close(m);
    rig_close(&r);
}

static void test_amd_energy(void **state)
{
    struct rig r;
    struct meter *m;

    (void)state;
    rig_open(&r);
    rig_put(&r, "sys/class/hwmon/hwmon0/name", "amd_energy\n");
    rig_number(&r, "sys/class/hwmon/hwmon0/energy1_input", 1e6);
    rig_put(&r, "sys/class/hwmon/hwmon0/energy1_label", "Ecore000\n");
    rig_number(&r, "sys/class/hwmon/hwmon0/energy2_input", 5e6);
    rig_put(&r, "sys/class/hwmon/hwmon0/energy2_label", "Esocket0\n");
    m = rig_meter(&r, NULL);
    r.now += SECOND;
    rig_number(&r, "sys/class/hwmon/hwmon0/energy1_input", 11e6);
    rig_number(&r, "sys/class/hwmon/hwmon0/energy2_input", 65e6);
    JOULES(m, 60);
    meter_close(m);
    rig_close(&r);
}

static void test_acpi(void **state)
{
    struct rig r;
    struct meter *m;

    (void)state;
    rig_open(&r);
    rig_put(&r, "sys/class/hwmon/hwmon3/name", "power_meter\n");
    rig_number(&r, "sys/class/hwmon/hwmon3/power1_average", 240e6);
    m = rig_meter(&r, NULL);
    assert_string_equal(meter_source(m), "acpi");
    r.now += SECOND / 2;
    JOULES(m, 120);
    meter_close(m);
    m = rig_meter(&r, "acpi");
    meter_close(m);
    rig_close(&r);
}

static void test_battery(void **state)
{
    struct rig r;
    struct meter *m;

    (void)state;
    rig_open(&r);
    rig_put(&r, "sys/class/power_supply/AC/type", "Mains\n");
    rig_put(&r, "sys/class/power_supply/mouse/type", "Battery\n");
    rig_put(&r, "sys/class/power_supply/mouse/scope", "Device\n");
    rig_put(&r, "sys/class/power_supply/BAT0/type", "Battery\n");
    rig_put(&r, "sys/class/power_supply/BAT0/status", "Discharging\n");
    rig_number(&r, "sys/class/power_supply/BAT0/current_now", -2e6);
    rig_number(&r, "sys/class/power_supply/BAT0/voltage_now", 12e6);
    m = rig_meter(&r, NULL);
    assert_string_equal(meter_source(m), "battery");
    r.now += SECOND;
    JOULES(m, 24);
    rig_number(&r, "sys/class/power_supply/BAT0/power_now", 30e6);
    meter_sample(m);
    r.now += SECOND;
    JOULES(m, 54);
    rig_put(&r, "sys/class/power_supply/BAT0/status", "Charging\n");
    meter_sample(m);
    assert_true(isnan(rig_joules(m)));
    assert_non_null(strstr(meter_why(m), "mains power is not seen"));
    meter_close(m);
    rig_close(&r);
}

static void test_nvml(void **state)
{
    struct rig r;
    struct meter *m = NULL;
    struct err e = { 0 };
    const char *library = getenv("WATT_FAKE_NVML");
    struct meter_opts o = { .nvml = library, .no_thread = true };
    char path[64];

    (void)state;
    if (!library) {
        (void)fprintf(stderr, "skipped: WATT_FAKE_NVML is not set\n");
        skip();
    }
    tree(&r);
    rig_zone(&r, "intel-rapl:2", "psys\n", 0, RANGE);
    rig_put(&r, "nvml", "5000 300000");
    (void)snprintf(path, sizeof path, "%s/nvml", r.root);
    assert_int_equal(setenv("FAKE_NVML", path, 1), 0);
    o.root = r.root;
    assert_int_equal(meter_open(&m, &o, &e), 0);
    assert_string_equal(meter_source(m), "rapl+nvml");
    assert_string_equal(view(m, "gpu-0").path, "Simulated GPU 0");
    assert_non_null(strstr(view(m, "psys").why, "GPU"));    /* it may hold them: not counted */
    r.now += SECOND;
    rig_put(&r, "nvml", "405000 300000");
    rig_energy(&r, "intel-rapl:0", 11e6);
    JOULES(m, 400 + 300 + 10);              /* a counter, a power held, a package */
    rig_put(&r, "nvml", "fail");
    r.now += SECOND / 10;
    assert_true(isnan(rig_joules(m)));
    assert_non_null(strstr(meter_why(m), "Unknown Error"));
    meter_close(m);
    o.want = "nvml";
    assert_true(meter_open(&m, &o, &e) < 0);
    o.nvml = "libnothing-of-the-kind.so";
    o.want = NULL;
    assert_int_equal(meter_open(&m, &o, &e), 0);
    assert_string_equal(meter_source(m), "rapl");
    meter_close(m);
    rig_close(&r);
}

static void test_external(void **state)
{
    struct rig r;
    struct meter *m = NULL;
    struct err e = { 0 };
    char command[128];
    struct meter_opts o = { .want = command, .nvml = "", .no_thread = true, .name = "pdu 7" };

    (void)state;
    rig_open(&r);
    (void)snprintf(command, sizeof command, "cmd:cat %s/answer", r.root);
    assert_int_equal(meter_open(&m, &o, &e), 0);            /* it may come yet */
    assert_true(isnan(rig_joules(m)));
    assert_non_null(strstr(meter_why(m), "pdu-7: the command failed"));
    rig_put(&r, "answer", " 1234.5 W\n");
    meter_sample(m);
    r.now += SECOND;
    JOULES(m, 1234.5);
    rig_put(&r, "answer", "none of your business\n");
    meter_sample(m);
    assert_true(isnan(rig_joules(m)));
    meter_close(m);
    (void)snprintf(command, sizeof command, "cmd:cat %s/answer #/meters/0/total", r.root);
    o.unit = "kWh";
    rig_put(&r, "answer", "{\"meters\":[{\"total\":\"100.5\"}]}");
    assert_int_equal(meter_open(&m, &o, &e), 0);
    assert_string_equal(meter_source(m), "pdu-7");
    rig_put(&r, "answer", "{\"meters\":[{\"total\":100.501}]}");
    r.now += 20 * SECOND;
    meter_sample(m);
    JOULES(m, 3600);
    meter_close(m);
    o.unit = "horsepower";
    assert_true(meter_open(&m, &o, &e) < 0);
    assert_non_null(strstr(e.msg, "horsepower"));
    o.unit = NULL;
    o.want = "teapot";
    assert_true(meter_open(&m, &o, &e) < 0);
    o.want = "cmd: ";
    assert_true(meter_open(&m, &o, &e) < 0);
    rig_close(&r);
}

static void test_answers(void **state)
{
    double v;

    (void)state;
#define ANSWER(text, pointer) meter_answer(text, sizeof text - 1, pointer, &v, NULL)
    assert_int_equal(ANSWER("12.5", NULL), 0);
    assert_true(v == 12.5);
    assert_int_equal(ANSWER("-3e2 mW\n", ""), 0);
    assert_true(v == -300);
    assert_true(ANSWER("", NULL) < 0);
    assert_true(ANSWER("nan", NULL) < 0);
    assert_true(ANSWER("inf W", NULL) < 0);
    assert_true(ANSWER("0x10", NULL) < 0);
    assert_true(ANSWER("1 2", NULL) < 0);
    assert_true(ANSWER("1e999", NULL) < 0);
    assert_int_equal(ANSWER("{\"a/b\":{\"~c\":[1,2.5]}}", "/a~1b/~0c/1"), 0);
    assert_true(v == 2.5);
    assert_true(ANSWER("{\"a\":1}", "/b") < 0);
    assert_true(ANSWER("{\"a\":1}", "a") < 0);
    assert_true(ANSWER("{\"a\":1}", "/a~2") < 0);
    assert_true(ANSWER("{\"a\":[1]}", "/a/1") < 0);
    assert_true(ANSWER("{\"a\":true}", "/a") < 0);
    assert_true(ANSWER("{\"a\":\"x\"}", "/a") < 0);
    assert_true(ANSWER("{\"a\":", "/a") < 0);
#undef ANSWER
}

static void test_estimate(void **state)
{
    struct rig r;
    struct meter *m = NULL;
    struct err e = { 0 };
    struct meter_coefficients k;
    struct meter_opts o = { .want = "estimate", .nvml = "", .no_thread = true };

    (void)state;
    rig_open(&r);
    assert_true(meter_open(&m, &o, &e) < 0);        /* never without coefficients */
    assert_int_equal(meter_coefficients_parse("idle=40,op=10,byte=50", &k, &e), 0);
    assert_true(meter_coefficients_parse("op=10", &k, &e) < 0);
    assert_true(meter_coefficients_parse("op=10,byte=-1", &k, &e) < 0);
    assert_true(meter_coefficients_parse("op=10,op=10,byte=1", &k, &e) < 0);
    assert_true(meter_coefficients_parse("watts=10", &k, &e) < 0);
    assert_true(meter_coefficients_parse("op=,byte=1", &k, &e) < 0);
    o.estimate = &k;
    assert_int_equal(meter_open(&m, &o, &e), 0);
    assert_string_equal(meter_source(m), "estimate");
    assert_false(meter_measures(m));
    r.now += SECOND;
    JOULES(m, 40);
    meter_work(m, 1e12, 2e11);
    JOULES(m, 40 + 10 + 10);
    r.now += 3600 * SECOND;
    JOULES(m, 40 * 3601 + 20);
    meter_close(m);
    rig_close(&r);
}

/* What the thread and readings cost, on a real clock. */
static void test_cost(void **state)
{
    struct rig r;
    struct meter *m = NULL;
    struct err e = { 0 };
    struct meter_opts o = { .nvml = "" };
    double share;
    uint64_t began;

    (void)state;
    tree(&r);
    clock_install(NULL);
    o.root = r.root;
    assert_int_equal(meter_open(&m, &o, &e), 0);
    began = clock_mono_ns();
    for (int i = 0; i < 16; i++) {
        struct meter_reading x;

        (void)usleep(50000);
        meter_read(m, &x);
        assert_true(x.valid);
    }
    share = (double)meter_cost_ns(m) / (double)(clock_mono_ns() - began);
    (void)fprintf(stderr, "reading three counters, 20 readings a second: %.4f %% of "
                  "a processor\n", 100 * share);
    assert_true(share < 0.01);              /* a loaded machine; docs/energy.md has the figure */
    meter_close(m);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rapl), cmocka_unit_test(test_psys), cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_reset), cmocka_unit_test(test_spike),
        cmocka_unit_test(test_vanishing), cmocka_unit_test(test_denied),
        cmocka_unit_test(test_none), cmocka_unit_test(test_hwmon),
        cmocka_unit_test(test_amd_energy), cmocka_unit_test(test_acpi),
        cmocka_unit_test(test_battery), cmocka_unit_test(test_nvml),
        cmocka_unit_test(test_external), cmocka_unit_test(test_answers),
        cmocka_unit_test(test_estimate), cmocka_unit_test(test_cost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
