/* cli_meter.c: `watt meter`: which meters of energy this machine has, what they say now, and why
 * others don't. */
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "applications/meter_args.h"
#include "applications/meter_calibrate.h"
#include "base/clock.h"
#include "base/json.h"
#include "energy/power_limit.h"

struct look_opts {
    struct meter_args meter;
    double seconds;
    bool   watch, json, calibrate, restore;
};

static const struct cli_opt options[] = {
    METER_OPTIONS(struct look_opts, meter),
    { "seconds", 's', CLI_REAL, offsetof(struct look_opts, seconds), "S",
      "how long to look (default 1)", 0.05, 1e6 },
    { "watch", 'w', CLI_FLAG, offsetof(struct look_opts, watch), NULL,
      "a line every so many seconds until Ctrl-C", 0, 0 },
    { "calibrate", 0, CLI_FLAG, offsetof(struct look_opts, calibrate), NULL,
      "measure idle, multiplying and reading memory, so many seconds each after as many that "
      "don't count, and print the coefficients for --estimate", 0, 0 },
    { "restore-limits", 0, CLI_FLAG, offsetof(struct look_opts, restore), NULL,
      "put back the limits of power that a killed watt serve --power-cap has left, and end", 0, 0 },
    { "json", 0, CLI_FLAG, offsetof(struct look_opts, json), NULL, "print JSON", 0, 0 },
    { 0 }
};

static const struct look_opts defaults = { .seconds = 1 };

/* What was seen between two readings. */
struct seen {
    struct meter_reading from, to;
    double seconds, watts;          /* watts NaN: not known */
    double cost;                    /* of one processor, share of the time */
};

static void wait_s(double s)
{
    const uint64_t until = clock_mono_ns() + (uint64_t)(s * 1e9);
    uint64_t now;

    while (!cli_interrupted() && (now = clock_mono_ns()) < until)
        (void)poll(NULL, 0, (int)((until - now) / 1000000 + 1 < 100 ? (until - now) / 1000000 + 1
                                                                   : 100));
}

static void look(struct meter *m, double seconds, struct seen *x)
{
    const uint64_t cost = meter_cost_ns(m);
    struct meter_view v;

    for (uint32_t i = 0; i < meter_n_views(m); i++)     /* those not counted have a beginning, too */
        meter_view(m, i, &v);
    meter_read(m, &x->from);
    wait_s(seconds);
    meter_read(m, &x->to);
    x->seconds = (double)(x->to.ns - x->from.ns) * 1e-9;
    x->watts = x->from.valid && x->to.valid && x->from.gaps == x->to.gaps && x->seconds > 0
                   ? (double)(x->to.uj - x->from.uj) * 1e-6 / x->seconds : NAN;
    x->cost = x->seconds > 0 ? (double)(meter_cost_ns(m) - cost) * 1e-9 / x->seconds : 0;
}

static void print_watts(double w, int width)
{
    if (isnan(w))
        (void)printf("%*s", width, "-");
    else
        (void)printf("%*.2f", width, w);
}

static void print_table(struct meter *m, const struct seen *x)
{
    const uint32_t n = meter_n_views(m);

    (void)printf("source    %s\n", meter_source(m));
    if (meter_n_views(m) > 0 && meter_why(m)[0] == '\0') {
        (void)printf("power     ");
        print_watts(x->watts, 0);
        (void)printf(" W over %.2f s%s\n", x->seconds,
                     meter_measures(m) ? "" : ", an estimate and not a measurement");
        (void)printf("reading   %.4f %% of a processor\n", 100 * x->cost);
    } else {
        (void)printf("why       %s\n", meter_why(m));
    }
    if (n > 0)
        (void)printf("\n%-36s %-9s %-9s %10s %12s\n", "channel", "source", "device", "W", "J");
    for (uint32_t i = 0; i < n; i++) {
        struct meter_view v;

        meter_view(m, i, &v);
        (void)printf("%-36s %-9s %-9s ", v.name, v.source, v.device);
        print_watts(v.ok ? v.watts : NAN, 10);
        (void)printf(" %12.3f%s%s\n", (double)v.uj * 1e-6, v.counted ? "" : "  not counted",
                     "");
        if (v.why[0])
            (void)printf("  %s\n", v.why);
    }
    for (uint32_t i = 0; meter_n_views(m) > 0 && meter_note(m, i); i++)
        (void)printf("%s%s\n", i ? "" : "\n", meter_note(m, i));
}

static void put(struct str *s, const char *key, const char *text)
{
    str_printf(s, "\"%s\":", key);
    json_put_str(s, sv_cstr(text));
}

static void put_number(struct str *s, const char *key, double v)
{
    if (isnan(v))
        str_printf(s, ",\"%s\":null", key);
    else
        str_printf(s, ",\"%s\":%.6g", key, v);
}

static void put_channel(struct str *s, const struct meter_view *v)
{
    str_putc(s, '{');
    put(s, "name", v->name);
    str_putc(s, ',');
    put(s, "source", v->source);
    str_putc(s, ',');
    put(s, "device", v->device);
    str_printf(s, ",\"counted\":%s", v->counted ? "true" : "false");
    put_number(s, "watts", v->ok ? v->watts : NAN);
    str_printf(s, ",\"joules\":%.6f,\"skipped\":%" PRIu64 ",", (double)v->uj * 1e-6, v->skipped);
    put(s, "why", v->why);
    str_putc(s, '}');
}

static int print_json(struct meter *m, const struct seen *x)
{
    struct str s;

    str_init(&s, 0);
    str_putc(&s, '{');
    put(&s, "source", meter_source(m));
    str_printf(&s, ",\"measured\":%s", meter_measures(m) ? "true" : "false");
    put_number(&s, "watts", x->watts);
    put_number(&s, "seconds", x->seconds);
    put_number(&s, "cpu_share", x->cost);
    str_putc(&s, ',');
    put(&s, "why", meter_why(m));
    str_puts(&s, ",\"channels\":[");
    for (uint32_t i = 0; i < meter_n_views(m); i++) {
        struct meter_view v;

        meter_view(m, i, &v);
        str_puts(&s, i ? "," : "");
        put_channel(&s, &v);
    }
    str_puts(&s, "],\"notes\":[");
    for (uint32_t i = 0; meter_note(m, i); i++) {
        str_puts(&s, i ? "," : "");
        json_put_str(&s, sv_cstr(meter_note(m, i)));
    }
    str_puts(&s, "]}\n");
    (void)fputs(str_cstr(&s), stdout);
    str_deinit(&s);
    return CLI_OK;
}

static int watch(struct meter *m, const struct look_opts *o)
{
    struct seen x;

    while (!cli_interrupted()) {
        char when[32] = "";
        const time_t now = (time_t)(clock_wall_ns() / 1000000000);
        struct tm tm = { 0 };

        look(m, o->seconds, &x);
        if (cli_interrupted())
            break;
        if (o->json) {
            (void)print_json(m, &x);
        } else {
            (void)gmtime_r(&now, &tm);
            (void)strftime(when, sizeof when, "%H:%M:%SZ", &tm);
            (void)printf("%s ", when);
            print_watts(x.watts, 10);
            (void)printf(" W  %s  %s\n", meter_source(m), meter_why(m));
        }
        (void)fflush(stdout);
    }
    return CLI_OK;
}

static int calibrate(const struct cli *c, struct meter *m, const struct look_opts *o)
{
    struct calibration k;
    struct err e = { 0 };

    if (meter_calibrate(m, o->seconds, o->seconds, 0, cli_interrupted, &k, &e) < 0)
        return cli_fail(c, &e);
    if (o->json) {
        (void)printf("{\"source\":\"%s\",\"idle_w\":%.4g,\"ops\":\"%s\",\"ops_w\":%.4g,\"ops_s\":%.4g,"
                     "\"bytes_w\":%.4g,\"bytes_s\":%.4g,\"pj_per_op\":%.4g,\"pj_per_byte\":%.4g}\n",
                     meter_source(m), k.idle.watts, k.kind, k.ops.watts, k.ops.rate, k.bytes.watts,
                     k.bytes.rate, k.k.pj_per_op, k.k.pj_per_byte);
        return CLI_OK;
    }
    (void)printf("idle         %8.2f W\n%-12s %8.2f W at %.3g operations a second\nmemory       %8.2f W at "
                 "%.3g bytes a second\n\nby %s, %.3g s each:\n--estimate idle=%.4g,op=%.4g,byte=%.4g\n",
                 k.idle.watts, k.kind, k.ops.watts, k.ops.rate, k.bytes.watts, k.bytes.rate,
                 meter_source(m), o->seconds, k.k.idle_w, k.k.pj_per_op, k.k.pj_per_byte);
    if (k.k.pj_per_op <= 0 || k.k.pj_per_byte <= 0)
        cli_note(c, "a load drew no more than the idle machine: measure longer (--seconds), or the meter "
                 "does not see the processor");
    return CLI_OK;
}

static int restore(const struct cli *c, const struct look_opts *o)
{
    const struct power_limit_opts lo = { .root = o->meter.root, .nvml = o->meter.nvml };
    struct power_limit *p;
    struct err e = { 0 };
    uint32_t n;

    if (power_limit_open(&p, &lo, &e) < 0)
        return cli_fail(c, &e);
    n = power_limit_recovered(p);
    if (power_limit_n(p) == 0)
        cli_failf(c, "limits of power can't be set: %s", power_limit_why(p));
    else if (n == 0)
        (void)printf("no limits were left by a killed process\n");
    else
        (void)printf("%u limit%s was\n", n, n == 1 ? " is as it" : "s are each as it");
    n = power_limit_n(p);
    power_limit_close(p);
    return n == 0 ? CLI_FAILURE : CLI_OK;
}

static int run(const struct cli *c, const void *options_)
{
    const struct look_opts *o = options_;
    struct err e = { 0 };
    struct meter *m;
    struct seen x;
    int rc;

    if (o->restore)
        return restore(c, o);
    if (meter_args_open(&m, &o->meter, &e) < 0)
        return cli_fail(c, &e);
    cli_catch_interrupt();
    if (o->calibrate) {
        rc = calibrate(c, m, o);
    } else if (o->watch) {
        rc = watch(m, o);
    } else {
        look(m, o->seconds, &x);
        rc = cli_interrupted() ? CLI_INTERRUPTED : CLI_OK;
        if (rc == CLI_OK && o->json)
            rc = print_json(m, &x);
        else if (rc == CLI_OK)
            print_table(m, &x);
    }
    meter_close(m);
    return rc;
}

const struct cli_verb verb_meter = {
    .name = "meter",
    .summary = "what this machine's meters of energy say, and why others don't",
    .usage = "",
    .about = "Lists every channel that can tell joules or watts: processors (RAPL), GPUs (NVML),\n"
             "sensors (hwmon), the ACPI power meter, batteries, an external meter. Counted channels\n"
             "add up to what the machine uses; others lie inside those.\n"
             "\n"
             "Where nothing can be read the source is none, with the reason. docs/energy.md says\n"
             "how to get readings on bare metal, in containers and on GPUs.",
    .examples = "watt meter\n"
                "watt meter --watch --seconds 5\n"
                "watt meter --meter 'http://plug.local/rpc/Switch.GetStatus?id=0#/apower'\n"
                "watt meter --calibrate --seconds 30 --meter 'http://plug.local/status#/power'\n"
                "watt meter --meter 'cmd:ipmitool dcmi power reading | awk \"/Instant/{print \\$4}\"'",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof(struct look_opts),
    .run = run,
};
