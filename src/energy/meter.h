/* meter.h: how many joules the machine has used, from whatever can tell.
 *
 * A meter is a set of channels (a processor package, its memory, a GPU, a plug in the wall), some
 * of which are counted: their sum is what the machine used. Others are shown but not counted,
 * because what they measure is inside another one's: cores inside a package, package and memory
 * inside psys. Nothing is added twice, and nothing is made up: a meter without channels says
 * "none" and why.
 *
 *   rapl      /sys/class/powercap/intel-rapl:* (Intel and AMD): counters in µJ that wrap around
 *   hwmon     /sys/class/hwmon: chips known to measure a processor, an accelerator or a board
 *   acpi      the ACPI power meter (hwmon chip power_meter): the whole machine, once a second or so
 *   battery   /sys/class/power_supply: only while it discharges, when it feeds everything
 *   nvml      NVIDIA GPUs through libnvidia-ml.so.1, which is loaded when it is there
 *   cmd:…     a command's output, or http(s)://… an answer: a plug in the wall, a Redfish controller
 *   estimate  operations and bytes of the program times coefficients; only when asked for
 *
 * Counters are read when asked; powers are sampled by a thread of the meter's and held until the
 * next sample. A reading that can't be (more power than the channel's limit, a counter that goes
 * back) is skipped; after three of them the counter is taken to have been reset. What was used
 * meanwhile is not known then: the reading says so by `gaps`.
 *
 * Any thread may call anything but open and close. */
#ifndef ENERGY_METER_H
#define ENERGY_METER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define METER_MAX_CHANNELS 64u
#define METER_NAME_BYTES   64u

struct meter;

/* Coefficients of an estimate; see docs/energy.md for how to calibrate them. */
struct meter_coefficients {
    double idle_w;              /* of the machine doing nothing */
    double pj_per_op;           /* picojoules of an operation (a multiplication and an addition are two) */
    double pj_per_byte;         /* of a byte moved from or to memory */
};
/* "idle=45,op=12,byte=60" */
int  meter_coefficients_parse(const char *text, struct meter_coefficients *out, struct err *e)
    MUST_CHECK;

struct meter_opts {             /* zero means the default everywhere */
    const char *want;           /* NULL or "auto": rapl and nvml, else hwmon, acpi, battery, none.
                                 * "rapl", "hwmon", "hwmon:CHIP", "acpi", "battery", "nvml", "none",
                                 * "estimate", "cmd:COMMAND", "http://…#/json/pointer" */
    const char *root;           /* stands in front of /sys; default "" */
    const char *nvml;           /* library; default libnvidia-ml.so.1; "": don't look */
    const char *unit;           /* of an external meter: W (default), mW, kW, J, kJ, Wh, kWh, … */
    const char *name;           /* of an external meter; default "external" */
    double      max_w;          /* no channel can use more; default by kind, 10,000 W at most */
    unsigned    interval_ms;    /* between samples; default 100, of external meters 1,000 */
    const struct meter_coefficients *estimate;  /* for "estimate" */
    bool        no_thread;      /* nobody samples but meter_sample() */
    /* "counter": one of the caller's, in µJ, which wraps at range_uj (0: never); a negative return
     * is a failure. Called with a lock held. */
    int       (*counter)(void *ctx, double *uj, struct err *e);
    void       *counter_ctx;
    double      range_uj;
};

/* WATT_EINVAL for a source that does not exist; WATT_ENOENT, WATT_EIO when a source that
 * was asked for by name can't be read. With "auto" nothing found is no failure. External meters that do
 * not answer are none either: they may come back, and meter_why() says what is wrong. */
int  meter_open(struct meter **out, const struct meter_opts *opts, struct err *e) MUST_CHECK;
void meter_close(struct meter *m);      /* NULL is fine */

/* "rapl", "rapl+nvml", "acpi", "estimate", the name of an external meter, … or "none". */
const char *meter_source(const struct meter *m);
bool meter_measures(const struct meter *m);     /* neither "none" nor "estimate" */
/* Why there is nothing, or what fails now; "" when all is well. Good until the next call on this
 * thread. */
const char *meter_why(struct meter *m);

struct meter_reading {
    uint64_t ns;                /* clock_mono_ns */
    bool     valid;             /* every counted channel could be read */
    uint64_t gaps;              /* so many times something used was not seen; two readings
                                 * between which it grew have no difference to speak of */
    uint64_t uj;                /* sum of the counted channels since open, never falling */
    uint32_t n;                 /* counted channels */
    uint64_t channel_uj[METER_MAX_CHANNELS];    /* [n] */
};
/* valid is false with the source "none". */
void meter_read(struct meter *m, struct meter_reading *r);
/* The i-th counted channel, i < n of a reading: its name, kind of device and source. */
struct meter_channel_name { char name[METER_NAME_BYTES]; const char *device, *source; };
void meter_channel_name(const struct meter *m, uint32_t i, struct meter_channel_name *out);

/* What has been computed, for the estimate; else nothing happens. */
void meter_work(struct meter *m, double ops, double bytes);

/* ---- looking ---- */

struct meter_view {             /* a channel, counted or not */
    char        name[METER_NAME_BYTES], path[256];
    const char *source;         /* "rapl", … */
    const char *device;         /* "cpu", "dram", "gpu", "platform", "battery", "wall", "model" */
    bool        counted, ok;
    double      watts;          /* lately; NaN: not known */
    uint64_t    uj;             /* since open */
    uint64_t    skipped;        /* readings that could not be */
    char        why[256];       /* not counted, or not readable: why; else "" */
};
uint32_t meter_n_views(const struct meter *m);
void     meter_view(struct meter *m, uint32_t i, struct meter_view *out);   /* reads it */
/* What was looked for and not found, a line each; NULL past the end. */
const char *meter_note(const struct meter *m, uint32_t i);
/* Takes a sample of all channels now, as the thread does. */
void     meter_sample(struct meter *m);
/* Time that processors spent on reading since open, on all threads. */
uint64_t meter_cost_ns(struct meter *m);

#endif
