/* power_limit.c: devices, their limits and the note of what they were; see power_limit.h. */
#include "energy/power_limit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "energy/meter_internal.h"
#include "energy/nvml.h"

#define POWERCAP     "/sys/class/powercap"
#define NOTE         "watt-power-limits"
#define MAX_PACKAGES 64u
#define MAX_DEVICES  (MAX_PACKAGES + NVML_MAX_GPUS)
#define MAX_NOTE     16384u
#define MOST_UW      INT64_C(100000000000)      /* no device may take more than 100 kW */
#define LEAST_SHARE  0.1                        /* of a package's limit, which says no least one */
#define ALIKE        0.02                       /* hardware rounds what it is told */

struct device {
    char    id[112], name[112];     /* id: of the note */
    char    path[256];              /* of a package: its limit's file */
    void   *gpu;                    /* NVML's; NULL: a package */
    int64_t found_uw;               /* what it is put back to */
    int64_t least_uw, most_uw;
    int64_t last_uw, next_uw;       /* what we set: before, and now; 0: nothing yet */
    bool    refused;                /* from then on it is only put back */
};

struct power_limit {
    struct nvml    nvml;
    struct device *list;            /* [MAX_DEVICES] */
    uint32_t       n, n_recovered;
    int            note_fd;         /* locked; -1: none */
    struct str     others;          /* lines of devices that are not seen this time: they stay */
    bool           keep;            /* what a killed process left could not be put back */
    char           note[320], why[256];
};

/* ---- one device ---- */

static int read_limit(const struct power_limit *p, const struct device *d, int64_t *uw)
{
    unsigned mw = 0;
    double v;

    if (d->gpu) {
        if (p->nvml.limit(d->gpu, &mw) != NVML_OK)
            return WATT_EIO;
        *uw = (int64_t)mw * 1000;
    } else {
        if (!meter_number(d->path, &v) || v < 0 || v > (double)MOST_UW)
            return WATT_EIO;
        *uw = (int64_t)v;
    }
    return *uw > 0 ? 0 : WATT_EIO;
}

static int write_file(const char *path, int64_t uw, struct err *e)
{
    const int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    char text[32];
    const int n = snprintf(text, sizeof text, "%" PRId64 "\n", uw);
    int why = fd < 0 ? errno : 0;

    if (fd >= 0 && write(fd, text, (size_t)n) != n)
        why = errno ? errno : EIO;
    if (fd >= 0 && close(fd) < 0 && !why)
        why = errno;
    return why ? err_errno(e, WATT_EIO, why, "%s", path) : 0;
}

static int write_limit(const struct power_limit *p, const struct device *d, int64_t uw, struct err *e)
{
    int rc;

    if (!d->gpu)
        return write_file(d->path, uw, e);
    rc = p->nvml.set_limit(d->gpu, (unsigned)(uw / 1000));
    return rc == NVML_OK ? 0 : err_set(e, WATT_EIO, "%s: %s%s", d->name, nvml_error(&p->nvml, rc),
                                       rc == NVML_NO_PERMISSION ? " (only root may)" : "");
}

/* What a share is of: firmware that sets no bound shows one of some kilowatts, which a share of
 * would not bound either; what the device can take at most does. */
static int64_t full_uw(const struct device *d)
{
    return d->most_uw > 0 && d->most_uw < d->found_uw ? d->most_uw : d->found_uw;
}

/* ---- looking ---- */

static void because(struct power_limit *p, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void because(struct power_limit *p, const char *fmt, ...)
{
    const size_t n = strlen(p->why);
    va_list args;

    if (n + 3 >= sizeof p->why)
        return;
    (void)snprintf(p->why + n, sizeof p->why - n, "%s", n ? "; " : "");
    va_start(args, fmt);
    (void)vsnprintf(p->why + strlen(p->why), sizeof p->why - strlen(p->why), fmt, args);
    va_end(args);
}

/* The number of the constraint that holds over seconds; -1: it has none. */
static int long_term(const char *zone)
{
    for (int i = 0; i < 8; i++) {
        char path[320], name[32];

        (void)snprintf(path, sizeof path, "%s/constraint_%d_name", zone, i);
        if (meter_text(path, name, sizeof name) && strcmp(name, "long_term") == 0)
            return i;
    }
    return -1;
}

static void add_package(struct power_limit *p, const char *root, unsigned i)
{
    struct device *d = &p->list[p->n];
    char zone[200], path[256], text[64];
    double enabled = 0, most = 0;
    int k;

    (void)snprintf(zone, sizeof zone, "%.150s" POWERCAP "/intel-rapl:%u", root, i);
    (void)snprintf(path, sizeof path, "%s/name", zone);
    if (!meter_text(path, text, sizeof text) || strncmp(text, "package", 7) != 0)
        return;
    k = long_term(zone);
    if (k < 0) {
        because(p, "%.40s has no limit to set", text);
        return;
    }
    *d = (struct device){ .gpu = NULL };
    (void)snprintf(d->name, sizeof d->name, "%.60s", text);
    (void)snprintf(d->id, sizeof d->id, "intel-rapl:%u", i);
    (void)snprintf(d->path, sizeof d->path, "%s/constraint_%d_power_limit_uw", zone, k);
    (void)snprintf(path, sizeof path, "%s/enabled", zone);
    if (!meter_number(path, &enabled) || enabled < 1) {
        because(p, "the limit of %.40s is switched off", text);
        return;
    }
    if (read_limit(p, d, &d->found_uw) < 0) {
        because(p, "%.120s can't be read", d->path);
        return;
    }
    (void)snprintf(path, sizeof path, "%s/constraint_%d_max_power_uw", zone, k);
    if (meter_number(path, &most) && most > 0 && most <= (double)MOST_UW)
        d->most_uw = (int64_t)most;
    p->n++;
}

static void add_gpu(struct power_limit *p, unsigned i)
{
    struct device *d = &p->list[p->n];
    unsigned least = 0, most = 0;
    char text[80] = "";

    *d = (struct device){ .gpu = NULL };
    if (p->nvml.handle(i, &d->gpu) != NVML_OK || !d->gpu)
        return;
    (void)snprintf(d->id, sizeof d->id, "gpu-%u", i);
    if (p->nvml.uuid && p->nvml.uuid(d->gpu, text, sizeof text) == NVML_OK && text[0] &&
        !strpbrk(text, " \n"))
        (void)snprintf(d->id, sizeof d->id, "%.79s", text);
    text[0] = '\0';
    if (p->nvml.name)
        (void)p->nvml.name(d->gpu, text, sizeof text);
    (void)snprintf(d->name, sizeof d->name, "gpu-%u%s%.79s%s", i, text[0] ? " (" : "", text,
                   text[0] ? ")" : "");
    if (read_limit(p, d, &d->found_uw) < 0 ||
        p->nvml.limit_range(d->gpu, &least, &most) != NVML_OK) {
        because(p, "%.60s has no limit to set", d->name);
        return;
    }
    d->least_uw = (int64_t)least * 1000;
    d->most_uw = (int64_t)most * 1000;
    p->n++;
}

static void look(struct power_limit *p, const struct power_limit_opts *o, const char *root)
{
    struct err e = { 0 };

    for (unsigned i = 0; i < MAX_PACKAGES; i++)
        add_package(p, root, i);
    if ((!o->nvml || o->nvml[0]) && nvml_open(&p->nvml, o->nvml, &e) == 0 && p->nvml.limit &&
        p->nvml.limit_range && p->nvml.set_limit)
        for (unsigned i = 0; i < nvml_count(&p->nvml); i++)
            add_gpu(p, i);
    if (p->n == 0 && !p->why[0])
        because(p, "no processor package and no GPU shows one here");
}

/* ---- the note ---- */

/* One line a device: ID FOUND LAST NEXT, in µW. One write: a killed process leaves the old or the
 * new. */
static int write_note(struct power_limit *p, struct err *e)
{
    struct str s;
    int rc = 0;

    str_init(&s, MAX_NOTE);
    for (uint32_t i = 0; i < p->n; i++)
        str_printf(&s, "%s %" PRId64 " %" PRId64 " %" PRId64 "\n", p->list[i].id, p->list[i].found_uw,
                   p->list[i].last_uw, p->list[i].next_uw);
    str_puts(&s, str_cstr(&p->others));
    if (!str_ok(&s))
        rc = err_set(e, WATT_ENOMEM, "power limits");
    else if (pwrite(p->note_fd, s.data, s.len, 0) != (ssize_t)s.len ||
             ftruncate(p->note_fd, (off_t)s.len) < 0)
        rc = err_errno(e, WATT_EIO, errno ? errno : EIO, "%s", p->note);
    str_deinit(&s);
    return rc;
}

static bool alike(int64_t a, int64_t b)
{
    return fabs((double)a - (double)b) <= ALIKE * (double)b;
}

/* A line of the note. The limit is put back when it is one that the note's process set, and what it
 * found is one that the device can have. */
static void recover(struct power_limit *p, const char *line)
{
    char id[112];
    int64_t found, last, next, now;
    struct device *d = NULL;
    struct err e;

    if (sscanf(line, "%111s %" SCNd64 " %" SCNd64 " %" SCNd64, id, &found, &last, &next) != 4)
        return;
    for (uint32_t i = 0; i < p->n && !d; i++)
        d = strcmp(id, p->list[i].id) == 0 ? &p->list[i] : NULL;
    if (!d) {
        str_printf(&p->others, "%.300s\n", line);
        return;
    }
    if (found <= 0 || found > (d->gpu ? d->most_uw : MOST_UW) ||
        read_limit(p, d, &now) < 0 || now >= found || !(alike(now, last) || alike(now, next)))
        return;
    if (write_limit(p, d, found, &e) == 0) {
        d->found_uw = found;
        p->n_recovered++;
    } else {
        p->keep = true;
    }
}

static void read_note(struct power_limit *p)
{
    char *text = mem_alloc(MAX_NOTE + 1), *at = NULL;
    const ssize_t n = text ? pread(p->note_fd, text, MAX_NOTE, 0) : -1;

    if (n > 0) {
        text[n] = '\0';
        for (char *line = strtok_r(text, "\n", &at); line; line = strtok_r(NULL, "\n", &at))
            recover(p, line);
    }
    mem_free(text);
}

/* The file may be nobody else's, or another user could tell us what to set. */
static bool take_note_file(struct power_limit *p, const char *dir, int *why)
{
    struct stat st;

    *why = ENOENT;
    if (!dir || !*dir)
        return false;
    (void)snprintf(p->note, sizeof p->note, "%.250s/" NOTE, dir);
    p->note_fd = open(p->note, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    *why = errno;
    if (p->note_fd < 0)
        return false;
    if (fstat(p->note_fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
        (st.st_mode & 022) == 0)
        return true;
    *why = EPERM;
    (void)close(p->note_fd);
    p->note_fd = -1;
    return false;
}

static void nothing(struct power_limit *p)
{
    p->n = 0;
    if (p->note_fd >= 0)
        (void)close(p->note_fd);
    p->note_fd = -1;
}

static void open_note(struct power_limit *p, const char *root)
{
    struct stat st;
    char run[256];
    int why, first;

    (void)snprintf(run, sizeof run, "%.240s/run", root);
    if (!take_note_file(p, run, &first) && !take_note_file(p, getenv("RUNTIME_DIRECTORY"), &why) &&
        !take_note_file(p, getenv("XDG_RUNTIME_DIR"), &why)) {
        because(p, "no place to note what they were (%.80s: %s)", run, strerror(first));
        nothing(p);
        return;
    }
    /* the last one to have it may have removed it just now */
    if (flock(p->note_fd, LOCK_EX | LOCK_NB) < 0 || fstat(p->note_fd, &st) < 0 || st.st_nlink == 0) {
        because(p, "another process has them (%.120s is locked)", p->note);
        nothing(p);
        return;
    }
    read_note(p);
}

/* Setting what is set already shows whether we may. */
static void try_all(struct power_limit *p)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->n; i++) {
        struct device *d = &p->list[i];
        struct err e = { 0 };

        if (d->least_uw == 0)
            d->least_uw = (int64_t)((double)full_uw(d) * LEAST_SHARE);
        if (write_limit(p, d, d->found_uw, &e) == 0)
            p->list[n++] = *d;
        else
            because(p, "%.160s", e.msg);
    }
    p->n = n;
}

int power_limit_open(struct power_limit **out, const struct power_limit_opts *opts, struct err *e)
{
    const struct power_limit_opts none = { 0 }, *o = opts ? opts : &none;
    const char *root = o->root ? o->root : "";
    struct power_limit *p = mem_calloc(1, sizeof *p);

    if (p)
        p->list = mem_array(MAX_DEVICES, sizeof *p->list);
    if (!p || !p->list) {
        mem_free(p);
        return err_set(e, WATT_ENOMEM, "power limits");
    }
    p->note_fd = -1;
    str_init(&p->others, MAX_NOTE);
    look(p, o, root);
    if (p->n > 0)
        open_note(p, root);
    try_all(p);
    *out = p;
    return 0;
}

static bool put_back(struct power_limit *p)
{
    bool all = !p->keep;

    for (uint32_t i = 0; i < p->n; i++) {
        struct err e;

        if (p->list[i].next_uw > 0 && write_limit(p, &p->list[i], p->list[i].found_uw, &e) < 0)
            all = false;
    }
    return all;
}

static void leave_others(struct power_limit *p)
{
    struct err e;

    p->n = 0;
    if (p->others.len == 0)
        (void)unlink(p->note);
    else
        (void)write_note(p, &e);
}

void power_limit_close(struct power_limit *p)
{
    if (!p)
        return;
    if (put_back(p) && p->note_fd >= 0)
        leave_others(p);            /* what is not put back is the next one's to try */
    if (p->note_fd >= 0)
        (void)close(p->note_fd);
    str_deinit(&p->others);
    nvml_close(&p->nvml);
    mem_free(p->list);
    mem_free(p);
}

/* ---- using ---- */

uint32_t power_limit_n(const struct power_limit *p)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->n; i++)
        n += !p->list[i].refused;
    return n;
}

const char *power_limit_why(const struct power_limit *p) { return p->why; }
const char *power_limit_name(const struct power_limit *p, uint32_t i) { return p->list[i].name; }
uint32_t power_limit_recovered(const struct power_limit *p) { return p->n_recovered; }

static int64_t wanted(const struct device *d, double share)
{
    const double uw = (double)full_uw(d) * share;

    if (!(share < 1) || d->least_uw >= d->found_uw)
        return d->found_uw;
    return uw > (double)d->least_uw ? (int64_t)uw : d->least_uw;
}

int power_limit_set(struct power_limit *p, double share, struct err *e)
{
    int rc = 0;

    for (uint32_t i = 0; i < p->n; i++) {
        struct device *d = &p->list[i];

        d->last_uw = d->next_uw ? d->next_uw : d->found_uw;
        d->next_uw = d->refused ? d->found_uw : wanted(d, share);
    }
    if (p->n > 0)
        rc = write_note(p, e);
    if (rc < 0)                         /* nothing is changed that is not noted */
        return rc;
    for (uint32_t i = 0; i < p->n; i++) {
        struct device *d = &p->list[i];
        struct err why = { 0 };

        if (d->refused || write_limit(p, d, d->next_uw, &why) == 0)
            continue;
        rc = err_set(e, WATT_EIO, "%s", why.msg);
        d->refused = true;
        (void)write_limit(p, d, d->found_uw, &why);
    }
    return rc;
}
