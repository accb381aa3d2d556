/* meter_args.h: the options by which verbs choose a meter of energy (energy/meter.h). */
#ifndef APPLICATIONS_METER_ARGS_H
#define APPLICATIONS_METER_ARGS_H

#include "applications/cli.h"
#include "energy/meter.h"
#include "models/session.h"

struct meter_args {
    const char *source, *root, *nvml, *unit, *name, *estimate;
    double      max_w;
    int64_t     interval_ms;
};

#define METER_OPTIONS(type, member)                                                            \
    { "meter", 0, CLI_TEXT, offsetof(type, member.source), "SOURCE",                           \
      "where joules come from: auto, none, rapl, nvml, hwmon, hwmon:CHIP, acpi, battery, "     \
      "estimate, cmd:COMMAND, or a URL with #/json/pointer (default: $WATT_METER, else auto)", 0, 0 }, \
    { "meter-unit", 0, CLI_TEXT, offsetof(type, member.unit), "UNIT",                          \
      "of an external meter: W, mW, kW, J, kJ, Wh, kWh (default W)", 0, 0 },                   \
    { "meter-name", 0, CLI_TEXT, offsetof(type, member.name), "NAME",                          \
      "what figures of an external meter are called (default external)", 0, 0 },               \
    { "meter-interval", 0, CLI_INT, offsetof(type, member.interval_ms), "MS",                  \
      "milliseconds between samples (default 100, of an external meter 1000)", 10, 3600000 },  \
    { "meter-max-watts", 0, CLI_REAL, offsetof(type, member.max_w), "W",                       \
      "readings of more power are taken for errors (default: by kind of meter)", 1, 1e7 },     \
    { "meter-root", 0, CLI_FILE, offsetof(type, member.root), "DIR",                           \
      "look for /sys below this folder, for containers and tests", 0, 0 },                     \
    { "meter-nvml", 0, CLI_FILE, offsetof(type, member.nvml), "FILE",                          \
      "NVIDIA's library (default libnvidia-ml.so.1; empty: don't look)", 0, 0 },               \
    { "estimate", 0, CLI_TEXT, offsetof(type, member.estimate), "idle=W,op=PJ,byte=PJ",        \
      "where no meter is, compute joules from operations and bytes; labelled as an estimate", 0, 0 }

/* Joules between two readings; NaN: not known. */
double meter_used(const struct meter_reading *from, const struct meter_reading *to);
/* "12.3 J by rapl, 0.45 J/token", or "no joules: " and why. */
const char *meter_used_text(char buf[200], struct meter *m, const struct meter_reading *from,
                            const struct meter_reading *to, uint64_t n_tokens);
/* {"joules": 12.3, "source": "rapl", "schema": 1}, as a server's usage.energy; joules null with
 * "why". */
const char *meter_used_json(char buf[512], struct meter *m, const struct meter_reading *from,
                            const struct meter_reading *to);

/* Lets an estimate know what the session computes; other meters need no telling. m must outlive s. */
void meter_count(struct meter *m, struct session *s);
/* Opens the meter that was asked for; with --estimate and nothing to read, the estimate. */
int  meter_args_open(struct meter **out, const struct meter_args *a, struct err *e) MUST_CHECK;

#endif
