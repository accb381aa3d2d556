/* meter_sysfs.c: meters that the kernel shows as files: RAPL, hwmon with the ACPI power meter,
 * batteries. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "energy/meter_internal.h"

#define MAX_ENTRIES 256         /* of one folder; more are not looked at */
#define NAME_MAX_   64

/* Names in a folder of sysfs that begin with prefix, sorted, so that every run sees one order. */
struct entries { char names[MAX_ENTRIES][NAME_MAX_]; int n; };

static int by_name(const void *a, const void *b)
{
    return strverscmp(a, b);
}

/* NULL: no such folder. mem_free it. */
static struct entries *list(const char *dir, const char *prefix)
{
    DIR *d = opendir(dir);
    struct entries *x = d ? mem_calloc(1, sizeof *x) : NULL;
    const struct dirent *e;

    while (x && x->n < MAX_ENTRIES && (e = readdir(d)) != NULL) {
        const size_t len = strlen(e->d_name);

        if (len >= NAME_MAX_ || strncmp(e->d_name, prefix, strlen(prefix)) != 0)
            continue;
        memcpy(x->names[x->n++], e->d_name, len + 1);
    }
    if (d)
        (void)closedir(d);
    if (x)
        qsort(x->names, (size_t)x->n, NAME_MAX_, by_name);
    return x;
}

/* root + dir + entry + file; too long is no file. */
static void path_of(const struct meter *m, char out[256], const char *dir, const char *entry,
                    const char *file)
{
    const int n = snprintf(out, 256, "%s%s/%s/%s", m->root, dir, entry, file);

    if (n < 0 || n >= 256)
        out[0] = '\0';
}

static bool text_of(const struct meter *m, const char *dir, const char *entry, const char *file,
                    char text[NAME_MAX_])
{
    char path[256];

    path_of(m, path, dir, entry, file);
    return path[0] && meter_text(path, text, NAME_MAX_) && text[0];
}

static bool number_of(const struct meter *m, const char *dir, const char *entry, const char *file,
                      double *out)
{
    char path[256];

    path_of(m, path, dir, entry, file);
    return path[0] && meter_number(path, out);
}

/* ---- RAPL: Linux's Documentation/power/powercap ---- */

#define POWERCAP "/sys/class/powercap"

struct zone_kind { const char *name, *device, *apart; double max_w; };

/* What a zone is, by its name; the first that it begins with. */
static const struct zone_kind zone_kinds[] = {
    { "package", "cpu", "", 3000 },
    { "psys", "platform", "", 10000 },
    { "dram", "dram", "", 1000 },
    { "core", "cpu", "inside the package", 3000 },
    { "uncore", "cpu", "inside the package", 3000 },
};

/* "intel-rapl:0:1" is the second part of package 0: its name gets the package's number. */
static void zone_name(const char *entry, const char *name, char out[METER_NAME_BYTES])
{
    const char *first = strchr(entry, ':'), *second = first ? strchr(first + 1, ':') : NULL;

    if (second)
        (void)snprintf(out, METER_NAME_BYTES, "%.40s-%.*s", name, (int)(second - first - 1),
                       first + 1);
    else
        (void)snprintf(out, METER_NAME_BYTES, "%.60s", name);
}

static bool add_zone(struct meter *m, const char *entry, struct err *e)
{
    const struct zone_kind *k = NULL;
    char name[NAME_MAX_], full[METER_NAME_BYTES];
    struct channel *c;
    double range = 0;

    if (!text_of(m, POWERCAP, entry, "name", name))
        return false;
    for (size_t i = 0; i < sizeof zone_kinds / sizeof *zone_kinds && !k; i++)
        if (strncmp(name, zone_kinds[i].name, strlen(zone_kinds[i].name)) == 0)
            k = &zone_kinds[i];
    zone_name(entry, name, full);
    c = meter_add(m, "rapl", k ? k->device : "cpu", full);
    if (!c)
        return false;
    path_of(m, c->path, POWERCAP, entry, "energy_uj");
    (void)snprintf(c->apart, sizeof c->apart, "%s", k ? k->apart : "a zone of an unknown kind");
    c->max_w = k ? k->max_w : c->max_w;
    if (number_of(m, POWERCAP, entry, "max_energy_range_uj", &range) && range > 0 && range < 1e18)
        c->range_uj = (uint64_t)range;
    return meter_try(c, e) && !c->apart[0];
}

unsigned meter_find_rapl(struct meter *m, struct err *e)
{
    struct entries *x;
    char dir[256];
    struct err why = { 0 };
    unsigned n = 0;
    int zones = 0;

    (void)snprintf(dir, sizeof dir, "%.200s" POWERCAP, m->root);
    x = list(dir, "intel-rapl:");       /* intel-rapl-mmio shows the same packages again */
    for (int i = 0; x && i < x->n; i++, zones++)
        n += add_zone(m, x->names[i], &why);
    if (!x || zones == 0)
        meter_note_add(m, "rapl: %s has no zones (no such processor, or a virtual machine)", dir);
    else if (n == 0)
        meter_note_add(m, "rapl: %s%s", why.msg, strstr(why.msg, strerror(EACCES))
                       ? "; readable by root only, see docs/energy.md" : "");
    if (n == 0 && e)
        *e = why.code ? why : *e;
    mem_free(x);
    return n;
}

/* ---- hwmon: Linux's Documentation/hwmon/sysfs-interface ---- */

#define HWMON "/sys/class/hwmon"

/* Chips whose sensors are known not to lie inside each other, but for those labels. */
static const struct chip { const char *name, *device, *only; } chips[] = {
    { "amd_energy", "cpu", "Esocket" },         /* cores are inside sockets */
    { "fam15h_power", "cpu", NULL },
    { "zenpower", "cpu", "SVI2_P" },
    { "amdgpu", "gpu", NULL },
    { "xe", "gpu", "card" },
    { "i915", "gpu", NULL },
    { "habanalabs", "gpu", NULL },
    { "occ", "platform", "system" },
    { "ibmpowernv", "platform", "System" },
    { "xgene_hwmon", "cpu", "CPU power" },
};

static const struct chip *chip_of(const char *name)
{
    for (size_t i = 0; i < sizeof chips / sizeof *chips; i++)
        if (strcmp(chips[i].name, name) == 0)
            return &chips[i];
    return NULL;
}

struct sensor { struct meter *m; const char *entry, *chip, *wanted; bool acpi; };

/* Does a file of this kind stand for something that is not there already: power1_average and
 * power1_input are one sensor, an energy counter is better than either. */
static bool add_sensor(const struct sensor *s, const char *file, bool power, int index,
                       struct err *e)
{
    const struct chip *chip = chip_of(s->chip);
    char label_file[32], label[NAME_MAX_] = "", name[METER_NAME_BYTES];
    struct channel *c;

    (void)snprintf(label_file, sizeof label_file, "%s%d_label", power ? "power" : "energy", index);
    (void)text_of(s->m, HWMON, s->entry, label_file, label);
    if (!label[0])
        (void)snprintf(label, sizeof label, "%s%d", power ? "power" : "energy", index);
    (void)snprintf(name, sizeof name, "%.24s-%.12s-%.24s", s->chip, s->entry, label);
    c = meter_add(s->m, s->acpi ? "acpi" : "hwmon", s->acpi ? "wall" : chip ? chip->device : "board",
                  name);
    if (!c)
        return false;
    path_of(s->m, c->path, HWMON, s->entry, file);
    c->power = power;
    c->slack_s = 1;                     /* some drivers read their device once a second */
    if (!s->wanted && !s->acpi && !chip)
        (void)snprintf(c->apart, sizeof c->apart,
                       "an unknown chip; count it by --meter hwmon:%.40s", s->chip);
    else if (!s->wanted && chip && chip->only && strncmp(label, chip->only, strlen(chip->only)) != 0)
        (void)snprintf(c->apart, sizeof c->apart, "inside another sensor of the chip");
    return meter_try(c, e) && !c->apart[0];
}

static bool there(const struct meter *m, const char *entry, const char *file)
{
    char path[256], text[NAME_MAX_];

    path_of(m, path, HWMON, entry, file);
    return path[0] && (meter_text(path, text, sizeof text) || errno == EACCES);
}

static unsigned add_chip(struct sensor *s, struct err *e)
{
    unsigned n = 0, energies = 0;
    char file[32];

    for (int i = 1; i < 200 && !s->acpi; i++) {
        (void)snprintf(file, sizeof file, "energy%d_input", i);
        if (!there(s->m, s->entry, file)) {
            if (i > 2)
                break;
            continue;
        }
        energies++;
        n += add_sensor(s, file, false, i, e);
    }
    for (int i = 1; i < 32 && energies == 0; i++) {
        (void)snprintf(file, sizeof file, "power%d_average", i);
        if (!there(s->m, s->entry, file))
            (void)snprintf(file, sizeof file, "power%d_input", i);
        if (there(s->m, s->entry, file))
            n += add_sensor(s, file, true, i, e);
    }
    return n;
}

unsigned meter_find_hwmon(struct meter *m, const char *chip, bool acpi, struct err *e)
{
    struct entries *x;
    char dir[256], name[NAME_MAX_];
    struct err why = { 0 };
    unsigned n = 0;

    (void)snprintf(dir, sizeof dir, "%.200s" HWMON, m->root);
    x = list(dir, "hwmon");
    for (int i = 0; x && i < x->n; i++) {
        struct sensor s = { .m = m, .entry = x->names[i], .chip = name, .wanted = chip,
                            .acpi = acpi };

        if (!text_of(m, HWMON, x->names[i], "name", name))
            continue;
        if (acpi != (strcmp(name, "power_meter") == 0) && !chip)
            continue;
        if (!chip || strcmp(chip, name) == 0)
            n += add_chip(&s, &why);
    }
    if (n == 0)
        meter_note_add(m, "%s: %s", acpi ? "acpi" : "hwmon", why.code ? why.msg
                       : acpi ? "no chip power_meter" : "no chip that measures power is known");
    if (n == 0 && why.code && e)
        *e = why;
    mem_free(x);
    return n;
}

/* ---- batteries: Linux's Documentation/ABI/testing/sysfs-class-power ---- */

#define SUPPLY "/sys/class/power_supply"

struct battery { char dir[256]; };

static bool supply_number(const struct battery *b, const char *file, double *out)
{
    char path[320];

    (void)snprintf(path, sizeof path, "%s%s", b->dir, file);
    return meter_number(path, out);
}

/* power_now in µW, or current in µA times voltage in µV. Some drivers say it with a minus. */
static int battery_read(struct channel *c, double *value, struct err *e)
{
    const struct battery *b = c->own;
    char path[320], status[32];
    double amps, volts;

    (void)snprintf(path, sizeof path, "%sstatus", b->dir);
    if (!meter_text(path, status, sizeof status))
        return err_set(e, WATT_ENOENT, "%s: can't be read", path);
    if (strcmp(status, "Discharging") != 0)
        return err_set(e, WATT_ENOENT, "the battery is %.20s: mains power is not seen by it",
                       status[0] ? status : "of unknown state");
    if (supply_number(b, "power_now", value)) {
        *value = *value < 0 ? -*value : *value;
        return 0;
    }
    if (!supply_number(b, "current_now", &amps) || !supply_number(b, "voltage_now", &volts))
        return err_set(e, WATT_ENOENT, "%s: neither power_now nor current_now and voltage_now",
                       b->dir);
    *value = amps * volts * 1e-6;
    *value = *value < 0 ? -*value : *value;
    return 0;
}

static void battery_close(struct channel *c)
{
    mem_free(c->own);
    c->own = NULL;
}

unsigned meter_find_battery(struct meter *m, struct err *e)
{
    struct entries *x;
    char dir[256], type[NAME_MAX_], scope[NAME_MAX_];
    unsigned n = 0;

    (void)snprintf(dir, sizeof dir, "%.200s" SUPPLY, m->root);
    x = list(dir, "");
    for (int i = 0; x && i < x->n; i++) {
        struct battery *b;
        struct channel *c;

        if (!text_of(m, SUPPLY, x->names[i], "type", type) || strcmp(type, "Battery") != 0)
            continue;
        if (text_of(m, SUPPLY, x->names[i], "scope", scope) && strcmp(scope, "Device") == 0)
            continue;                   /* a mouse's */
        b = mem_calloc(1, sizeof *b);
        c = b ? meter_add(m, "battery", "battery", x->names[i]) : NULL;
        if (!c) {
            mem_free(b);
            continue;
        }
        path_of(m, b->dir, SUPPLY, x->names[i], "");
        memcpy(c->path, b->dir, sizeof c->path);
        c->own = b;
        c->power = true;
        c->max_w = 500;
        c->read = battery_read;
        c->close = battery_close;
        n++;                            /* it counts when it discharges, and says so when not */
    }
    if (n == 0)
        meter_note_add(m, "battery: none");
    (void)e;
    mem_free(x);
    return n;
}
