/* meter_rig.h: simulated trees of sysfs and a clock that only tests move. Include after cmocka.h. */
#ifndef TESTS_METER_RIG_H
#define TESTS_METER_RIG_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "energy/meter.h"
#include "remove_tree.h"

#define SECOND UINT64_C(1000000000)

struct rig { char root[32]; uint64_t now; };

static inline uint64_t rig_mono(void *ctx) { return ((struct rig *)ctx)->now; }
static inline int64_t rig_wall(void *ctx) { return (int64_t)((struct rig *)ctx)->now; }

static inline void rig_open(struct rig *r)
{
    static struct clock_source source;

    (void)snprintf(r->root, sizeof r->root, "meter-XXXXXX");
    assert_non_null(mkdtemp(r->root));
    r->now = 1000 * SECOND;
    source = (struct clock_source){ rig_mono, rig_wall, r };
    clock_install(&source);
}

static inline void rig_close(struct rig *r)
{
    clock_install(NULL);
    (void)remove_tree(r->root);
}

/* Writes a file below the root in place, as sysfs shows a new value under an open descriptor;
 * folders are made. */
static inline void rig_put(struct rig *r, const char *path, const char *text)
{
    char full[512];
    FILE *f;

    (void)snprintf(full, sizeof full, "%s/%s", r->root, path);
    for (char *p = full + strlen(r->root) + 1; *p; p++)
        if (*p == '/') {
            *p = '\0';
            (void)mkdir(full, 0777);
            *p = '/';
        }
    f = fopen(full, "r+");
    f = f ? f : fopen(full, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    (void)fflush(f);
    assert_int_equal(ftruncate(fileno(f), (off_t)strlen(text)), 0);
    (void)fclose(f);
}

static inline void rig_number(struct rig *r, const char *path, double v)
{
    char text[64];

    (void)snprintf(text, sizeof text, "%.0f\n", v);
    rig_put(r, path, text);
}

static inline void rig_unlink(struct rig *r, const char *path)
{
    char full[512];

    (void)snprintf(full, sizeof full, "%s/%s", r->root, path);
    assert_int_equal(unlink(full), 0);
}

/* zone: "intel-rapl:0"; range 0: the file is missing. */
static inline void rig_zone(struct rig *r, const char *zone, const char *name, double uj,
                            double range)
{
    char path[128];

    (void)snprintf(path, sizeof path, "sys/class/powercap/%s/name", zone);
    rig_put(r, path, name);
    (void)snprintf(path, sizeof path, "sys/class/powercap/%s/energy_uj", zone);
    rig_number(r, path, uj);
    (void)snprintf(path, sizeof path, "sys/class/powercap/%s/max_energy_range_uj", zone);
    if (range > 0)
        rig_number(r, path, range);
}

static inline void rig_energy(struct rig *r, const char *zone, double uj)
{
    char path[128];

    (void)snprintf(path, sizeof path, "sys/class/powercap/%s/energy_uj", zone);
    rig_number(r, path, uj);
}

static inline struct meter *rig_meter(struct rig *r, const char *want)
{
    const struct meter_opts o = { .want = want, .root = r->root, .nvml = "", .no_thread = true };
    struct meter *m = NULL;
    struct err e = { 0 };

    if (meter_open(&m, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return m;
}

/* Joules since open; NaN when not known. */
static inline double rig_joules(struct meter *m)
{
    struct meter_reading x;

    meter_read(m, &x);
    return x.valid ? (double)x.uj * 1e-6 : NAN;
}

#endif
