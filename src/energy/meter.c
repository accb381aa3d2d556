/* meter.c: a meter's channels, their sums, and the thread that samples; see meter.h. */
#include "energy/meter.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "energy/meter_internal.h"
#include "energy/nvml.h"

#define INTERVAL_MS  100u
#define EXTERNAL_MS  1000u
#define MAX_WATTS    10000.0
#define BAD_IN_A_ROW 3u             /* then it was a reset */
#define RETRY_NS     UINT64_C(1000000000)
#define WATTS_NS     UINT64_C(200000000)    /* over which the power of a counter is taken */
#define COUNTER_NS   UINT64_C(1000000000)   /* between samples of a counter, which misses nothing */
#define COST_EVERY   16u                    /* one reading in so many is timed: that costs, too */

/* ---- files of sysfs ---- */

void meter_file_close(struct channel *c)
{
    if (c->fd >= 0)
        (void)close(c->fd);
    c->fd = -1;
}

static int file_error(const struct channel *c, int errnum, struct err *e)
{
    return err_errno(e, errnum == ENOENT || errnum == ENODEV ? WATT_ENOENT : WATT_EIO, errnum,
                     "%s", c->path);
}

int meter_file_read(struct channel *c, double *value, struct err *e)
{
    char text[64], *end;
    ssize_t n;

    if (c->fd < 0)
        c->fd = open(c->path, O_RDONLY | O_CLOEXEC);
    if (c->fd < 0)
        return file_error(c, errno, e);
    n = pread(c->fd, text, sizeof text - 1, 0);
    if (n < 0) {
        const int rc = file_error(c, errno, e);

        meter_file_close(c);            /* a device that comes back is another file */
        return rc;
    }
    text[n] = '\0';
    *value = strtod(text, &end);
    if (end == text || (*end != '\n' && *end != '\0') || !isfinite(*value))
        return err_set(e, WATT_EFORMAT, "%s: '%.20s' is no number", c->path, text);
    *value *= c->unit;
    return 0;
}

bool meter_text(const char *path, char *text, size_t n)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t got = fd < 0 ? -1 : read(fd, text, n - 1);

    if (fd >= 0)
        (void)close(fd);
    text[got > 0 ? got : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return got >= 0;
}

bool meter_number(const char *path, double *out)
{
    char text[64], *end;

    if (!meter_text(path, text, sizeof text))
        return false;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*out);
}

bool meter_try(struct channel *c, struct err *e)
{
    double v;

    return c->read(c, &v, e) == 0;
}

/* ---- channels ---- */

struct channel *meter_add(struct meter *m, const char *source, const char *device,
                          const char *name)
{
    struct channel *c;

    if (m->n == METER_MAX_CHANNELS) {
        meter_note_add(m, "%s: %s: over %u channels", source, name, METER_MAX_CHANNELS);
        return NULL;
    }
    c = &m->channels[m->n++];
    *c = (struct channel){ .source = source, .device = device, .fd = -1, .unit = 1,
                           .max_w = MAX_WATTS, .slack_s = 0.02, .read = meter_file_read,
                           .close = meter_file_close };
    (void)snprintf(c->name, sizeof c->name, "%s", name);
    for (char *p = c->name; *p; p++)        /* names go into metrics and tables */
        if ((unsigned char)*p < 33 || (unsigned char)*p > 126 || *p == '"' || *p == '\\')
            *p = '-';
    return c;
}

void meter_note_add(struct meter *m, const char *fmt, ...)
{
    va_list args;

    if (m->n_notes == METER_MAX_NOTES)
        return;
    va_start(args, fmt);
    (void)vsnprintf(m->notes[m->n_notes++], METER_NOTE_BYTES, fmt, args);
    va_end(args);
}

static double seconds(uint64_t from, uint64_t to)
{
    return to > from ? (double)(to - from) * 1e-9 : 0;
}

/* A reading that can't be. */
static void skip(struct channel *c, double value, uint64_t now, const char *what)
{
    c->skipped++;
    (void)snprintf(c->why, sizeof c->why, "%s (%g)", what, value);
    if (++c->bad < BAD_IN_A_ROW)
        return;
    c->gaps++;                          /* it was reset; what it counted before is lost */
    c->bad = 0;
    c->last = value;
    c->last_ns = now;
    c->mark_ns = 0;
}

static void take_counter(struct channel *c, double value, uint64_t now)
{
    const double dt = seconds(c->last_ns, now), most = c->max_w * (dt + c->slack_s) * 1e6;
    double delta = value - c->last;

    if (!c->has_last) {
        c->has_last = true;
        c->last = value;
        c->last_ns = now;
        c->mark_ns = 0;
        return;
    }
    if (delta < 0 && c->range_uj > 0)
        delta += (double)c->range_uj;
    if (delta < 0 || delta > most) {
        skip(c, value, now, delta < 0 ? "the counter went back" : "more power than there can be");
        return;
    }
    c->bad = 0;
    c->why[0] = '\0';
    c->sum_uj += delta;
    c->last = value;
    c->last_ns = now;
    if (c->mark_ns == 0 || now - c->mark_ns >= WATTS_NS) {
        if (c->mark_ns != 0)
            c->watts = (c->sum_uj - c->mark_uj) * 1e-6 / seconds(c->mark_ns, now);
        c->mark_ns = now;
        c->mark_uj = c->sum_uj;
    }
}

static bool held(const struct channel *c, uint64_t now)
{
    return c->lasting || now < c->last_ns || now - c->last_ns <= c->hold_ns;
}

/* What a power added since its last sample, which holds for a while only. */
static double since(const struct channel *c, uint64_t now)
{
    const double dt = held(c, now) ? seconds(c->last_ns, now) : (double)c->hold_ns * 1e-9;

    return c->power && c->has_last ? c->watts * dt * 1e6 : 0;
}

static void take_power(struct channel *c, double uw, uint64_t now)
{
    const double w = uw * 1e-6;

    if (w < 0 || w > c->max_w) {
        c->skipped++;
        (void)snprintf(c->why, sizeof c->why, "no power that can be (%g W)", w);
        if (++c->bad < BAD_IN_A_ROW)
            return;
        c->ok = false;                  /* until one comes that can */
        return;
    }
    c->bad = 0;
    c->why[0] = '\0';
    c->gaps += c->has_last && !held(c, now);
    c->sum_uj += since(c, now);
    c->has_last = true;
    c->watts = w;
    c->last_ns = now;
}

/* Its clock tells what reading costs; a thread's own time may not be simulated. */
static uint64_t cpu_ns(void)
{
    struct timespec t = { 0 };

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* Under mu, or before anybody else knows the meter. */
static void take(struct channel *c, int rc, double value, const struct err *e, uint64_t now)
{
    if (rc < 0) {
        c->ok = false;
        c->retry_ns = now + RETRY_NS;
        (void)snprintf(c->why, sizeof c->why, "%.255s", e->msg);
        return;
    }
    c->ok = true;
    (c->power ? take_power : take_counter)(c, value, now);
}

/* Under mu. */
static void read_channel(struct channel *c, uint64_t now)
{
    struct err e = { 0 };
    double value = 0;
    int rc;

    if (!c->ok && c->has_last && now < c->retry_ns)
        return;
    rc = c->read(c, &value, &e);
    take(c, rc, value, &e, now);
}

/* ---- the thread ---- */

/* Slow sources are asked without the lock: nobody else reads them. */
static void sample_slow(struct meter *m, struct channel *c)
{
    struct err e = { 0 };
    double value = 0;
    const int rc = c->read(c, &value, &e);

    (void)pthread_mutex_lock(&m->mu);
    take(c, rc, value, &e, clock_mono_ns());
    (void)pthread_mutex_unlock(&m->mu);
}

void meter_sample(struct meter *m)
{
    const uint64_t began = cpu_ns(), now = clock_mono_ns();

    for (uint32_t i = 0; i < m->n; i++) {
        struct channel *c = &m->channels[i];

        if (!c->counted || (!c->power && !c->slow && now < c->sampled_ns + COUNTER_NS))
            continue;
        c->sampled_ns = now;
        if (c->slow) {
            sample_slow(m, c);
            continue;
        }
        (void)pthread_mutex_lock(&m->mu);
        read_channel(c, clock_mono_ns());
        (void)pthread_mutex_unlock(&m->mu);
    }
    (void)pthread_mutex_lock(&m->mu);
    m->cost_ns += cpu_ns() - began;
    (void)pthread_mutex_unlock(&m->mu);
}

static void *run(void *arg)
{
    struct meter *m = arg;
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    (void)pthread_mutex_lock(&m->mu);
    while (!m->stop) {
        struct timespec now;

        (void)pthread_mutex_unlock(&m->mu);
        meter_sample(m);
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        until.tv_nsec += (long)(m->opts.interval_ms % 1000) * 1000000;
        until.tv_sec += m->opts.interval_ms / 1000 + until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (until.tv_sec < now.tv_sec)      /* the machine slept, or the meter is slow */
            until = now;
        (void)pthread_mutex_lock(&m->mu);
        while (!m->stop && pthread_cond_timedwait(&m->wake, &m->mu, &until) != ETIMEDOUT)
            ;
    }
    (void)pthread_mutex_unlock(&m->mu);
    return NULL;
}

static int start(struct meter *m, struct err *e)
{
    pthread_condattr_t a;
    int rc;

    (void)pthread_cond_destroy(&m->wake);
    (void)pthread_condattr_init(&a);
    (void)pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&m->wake, &a);
    (void)pthread_condattr_destroy(&a);
    rc = pthread_create(&m->thread, NULL, run, m);
    if (rc != 0)
        return err_errno(e, WATT_ENOMEM, rc, "meter: no thread");
    m->started = true;
    return 0;
}

/* ---- choosing ---- */

/* Counts the channels of a source that are not apart from it. */
static unsigned count(struct meter *m, const char *source)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < m->n; i++) {
        struct channel *c = &m->channels[i];

        if (strcmp(c->source, source) != 0 || c->apart[0])
            continue;
        c->counted = true;
        n++;
    }
    if (n > 0)
        (void)snprintf(m->source + strlen(m->source), sizeof m->source - strlen(m->source), "%s%s",
                       m->source[0] ? "+" : "", source);
    return n;
}

/* psys has packages and memory inside, and perhaps accelerators: beside those it is not counted,
 * alone it is, and they are not. */
static void settle_psys(struct meter *m, bool gpus)
{
    struct channel *psys = NULL;

    for (uint32_t i = 0; i < m->n; i++)
        if (strcmp(m->channels[i].source, "rapl") == 0 &&
            strcmp(m->channels[i].device, "platform") == 0)
            psys = &m->channels[i];
    if (!psys || psys->apart[0])
        return;
    if (gpus) {
        (void)snprintf(psys->apart, sizeof psys->apart,
                       "may hold what the GPUs' own counters say");
        return;
    }
    for (uint32_t i = 0; i < m->n; i++)
        if (&m->channels[i] != psys && strcmp(m->channels[i].source, "rapl") == 0 &&
            !m->channels[i].apart[0])
            (void)snprintf(m->channels[i].apart, sizeof m->channels[i].apart, "inside psys");
}

static int choose_auto(struct meter *m, struct err *e)
{
    struct err why = { 0 };
    const unsigned rapl = meter_find_rapl(m, &why), gpus = meter_find_nvml(m, &why);

    (void)e;
    settle_psys(m, gpus > 0);
    if (rapl > 0)
        (void)count(m, "rapl");
    if (gpus > 0)
        (void)count(m, "nvml");
    if (rapl > 0)
        return 0;
    /* without the processor's own counter, the board's; a GPU's own may be inside */
    if (gpus == 0 && (meter_find_hwmon(m, NULL, false, &why) == 0 || count(m, "hwmon") == 0) &&
        (meter_find_hwmon(m, NULL, true, &why) == 0 || count(m, "acpi") == 0) &&
        meter_find_battery(m, &why) > 0)
        (void)count(m, "battery");
    return 0;
}

static int choose_one(struct meter *m, const char *source, unsigned found, const struct err *why,
                      struct err *e)
{
    if (found > 0 && strcmp(source, "rapl") == 0)
        settle_psys(m, false);
    if (found > 0 && count(m, source) > 0)
        return 0;
    return err_set(e, why->code ? why->code : WATT_ENOENT, "meter %s: %s", source,
                   why->code ? why->msg : m->n_notes ? m->notes[m->n_notes - 1] : "nothing found");
}

static int estimate_read(struct channel *c, double *value, struct err *e)
{
    (void)e;
    *value = c->unit;           /* the idle power in µW */
    return 0;
}

static int choose_estimate(struct meter *m, struct err *e)
{
    const struct meter_coefficients *k = m->opts.estimate;
    struct channel *c;

    if (!k)
        return err_set(e, WATT_EINVAL, "meter estimate: needs coefficients, as in "
                       "idle=45,op=12,byte=60");
    c = meter_add(m, "estimate", "model", "cost-model");
    c->power = c->lasting = true;
    c->read = estimate_read;
    c->close = NULL;
    c->unit = k->idle_w * 1e6;
    m->k = *k;
    m->work = c;
    (void)count(m, "estimate");
    return 0;
}

static int counter_read(struct channel *c, double *value, struct err *e)
{
    const struct meter *m = c->own;

    return m->opts.counter(m->opts.counter_ctx, value, e);
}

static int choose_counter(struct meter *m, struct err *e)
{
    struct channel *c;

    if (!m->opts.counter)
        return err_set(e, WATT_EINVAL, "meter counter: there is none");
    c = meter_add(m, "counter", "machine", "counter");
    c->read = counter_read;
    c->close = NULL;
    c->own = m;
    c->range_uj = (uint64_t)m->opts.range_uj;
    (void)count(m, "counter");
    return 0;
}

static int choose(struct meter *m, struct err *e)
{
    const char *want = m->opts.want ? m->opts.want : "auto";
    struct err why = { 0 };

    if (strcmp(want, "auto") == 0)
        return choose_auto(m, e);
    if (strcmp(want, "none") == 0) {
        meter_note_add(m, "switched off");
        return 0;
    }
    if (strcmp(want, "rapl") == 0)
        return choose_one(m, "rapl", meter_find_rapl(m, &why), &why, e);
    if (strcmp(want, "nvml") == 0)
        return choose_one(m, "nvml", meter_find_nvml(m, &why), &why, e);
    if (strcmp(want, "acpi") == 0)
        return choose_one(m, "acpi", meter_find_hwmon(m, NULL, true, &why), &why, e);
    if (strcmp(want, "battery") == 0)
        return choose_one(m, "battery", meter_find_battery(m, &why), &why, e);
    if (strcmp(want, "hwmon") == 0 || strncmp(want, "hwmon:", 6) == 0)
        return choose_one(m, "hwmon",
                          meter_find_hwmon(m, want[5] ? want + 6 : NULL, false, &why), &why, e);
    if (strcmp(want, "estimate") == 0)
        return choose_estimate(m, e);
    if (strcmp(want, "counter") == 0)
        return choose_counter(m, e);
    return meter_add_external(m, e);
}

/* ---- open and close ---- */

static void settle_none(struct meter *m)
{
    struct str s;

    if (m->n_counted > 0)
        return;
    (void)snprintf(m->source, sizeof m->source, "none");
    str_init(&s, sizeof m->none_why - 1);
    for (uint32_t i = 0; i < m->n_notes; i++)
        str_printf(&s, "%s%s", i ? "; " : "", m->notes[i]);
    (void)snprintf(m->none_why, sizeof m->none_why, "%s", m->n_notes == 0 ? "no meter was found"
                   : str_ok(&s) ? str_cstr(&s) : m->notes[0]);
    str_deinit(&s);
}

static void first_reading(struct meter *m)
{
    const unsigned least_ms = m->opts.interval_ms;

    for (uint32_t i = 0; i < m->n; i++) {
        struct channel *c = &m->channels[i];

        if (m->opts.max_w > 0)
            c->max_w = m->opts.max_w;
        if (c->hold_ns == 0)
            c->hold_ns = UINT64_C(1000000) * 10 * least_ms + UINT64_C(2000000000);
        if (c->counted)
            m->counted[m->n_counted++] = i;
    }
    meter_sample(m);
}

int meter_open(struct meter **out, const struct meter_opts *opts, struct err *e)
{
    struct meter *m = mem_calloc(1, sizeof *m);
    int rc;

    if (!m)
        return err_set(e, WATT_ENOMEM, "meter");
    (void)pthread_mutex_init(&m->mu, NULL);
    (void)pthread_cond_init(&m->wake, NULL);
    if (opts)
        m->opts = *opts;
    m->root = mem_strdup(m->opts.root ? m->opts.root : "");
    m->external = mem_strdup(m->opts.want ? m->opts.want : "");
    if (!m->opts.nvml)
        m->opts.nvml = NVML_LIBRARY;
    rc = m->root && m->external ? choose(m, e) : err_set(e, WATT_ENOMEM, "meter");
    if (m->opts.interval_ms == 0)
        m->opts.interval_ms = m->n > 0 && m->channels[0].slow ? EXTERNAL_MS : INTERVAL_MS;
    if (rc == 0) {
        first_reading(m);
        settle_none(m);
        if (m->n_counted > 0 && !m->opts.no_thread)
            rc = start(m, e);
    }
    /* the caller's texts need not outlive this call */
    m->opts.want = m->external;
    m->opts.root = m->root;
    m->opts.unit = m->opts.name = m->opts.nvml = NULL;
    m->opts.estimate = NULL;
    if (rc < 0) {
        meter_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

void meter_close(struct meter *m)
{
    if (!m)
        return;
    if (m->started) {
        (void)pthread_mutex_lock(&m->mu);
        m->stop = true;
        (void)pthread_cond_signal(&m->wake);
        (void)pthread_mutex_unlock(&m->mu);
        (void)pthread_join(m->thread, NULL);
    }
    for (uint32_t i = 0; i < m->n; i++)
        if (m->channels[i].close)
            m->channels[i].close(&m->channels[i]);
    meter_close_nvml(m);
    (void)pthread_mutex_destroy(&m->mu);
    (void)pthread_cond_destroy(&m->wake);
    mem_free(m->root);
    mem_free(m->external);
    mem_free(m);
}

/* ---- asking ---- */

const char *meter_source(const struct meter *m) { return m->source; }

bool meter_measures(const struct meter *m)
{
    return m->n_counted > 0 && !m->work;
}

const char *meter_why(struct meter *m)
{
    static _Thread_local char why[512];

    why[0] = '\0';
    if (m->n_counted == 0)
        return m->none_why;
    (void)pthread_mutex_lock(&m->mu);
    for (uint32_t i = 0; i < m->n_counted && !why[0]; i++) {
        const struct channel *c = &m->channels[m->counted[i]];

        if (!c->ok)
            (void)snprintf(why, sizeof why, "%s: %s", c->name, c->why);
    }
    (void)pthread_mutex_unlock(&m->mu);
    return why;
}

/* Under mu: what it has used by now; false: not known. */
static bool used(struct channel *c, uint64_t now, double *uj)
{
    *uj = c->sum_uj + since(c, now);
    return c->ok && c->has_last && (!c->power || held(c, now));
}

void meter_read(struct meter *m, struct meter_reading *r)
{
    uint64_t began = 0;

    *r = (struct meter_reading){ .ns = clock_mono_ns(), .valid = m->n_counted > 0,
                                 .n = m->n_counted };
    if (m->n_counted == 0)
        return;
    (void)pthread_mutex_lock(&m->mu);
    if (m->n_reads++ % COST_EVERY == 0)
        began = cpu_ns();
    r->ns = clock_mono_ns();
    for (uint32_t i = 0; i < m->n_counted; i++) {
        struct channel *c = &m->channels[m->counted[i]];
        double uj;

        if (!c->power && !c->slow)
            read_channel(c, r->ns);
        r->valid &= used(c, r->ns, &uj);
        r->gaps += c->gaps;
        r->channel_uj[i] = (uint64_t)uj;
        r->uj += r->channel_uj[i];
    }
    if (began)
        m->cost_ns += COST_EVERY * (cpu_ns() - began);
    (void)pthread_mutex_unlock(&m->mu);
}

void meter_channel_name(const struct meter *m, uint32_t i, struct meter_channel_name *out)
{
    const struct channel *c;

    CHECK(i < m->n_counted);
    c = &m->channels[m->counted[i]];
    memcpy(out->name, c->name, sizeof out->name);
    out->device = c->device;
    out->source = c->source;
}

uint64_t meter_cost_ns(struct meter *m)
{
    uint64_t ns;

    (void)pthread_mutex_lock(&m->mu);
    ns = m->cost_ns;
    (void)pthread_mutex_unlock(&m->mu);
    return ns;
}

uint32_t meter_n_views(const struct meter *m) { return m->n; }

const char *meter_note(const struct meter *m, uint32_t i)
{
    return i < m->n_notes ? m->notes[i] : NULL;
}

void meter_view(struct meter *m, uint32_t i, struct meter_view *out)
{
    struct channel *c = &m->channels[i];
    double uj;

    CHECK(i < m->n);
    (void)pthread_mutex_lock(&m->mu);
    if (!c->slow && (!c->counted || !c->power))
        read_channel(c, clock_mono_ns());
    *out = (struct meter_view){ .source = c->source, .device = c->device, .counted = c->counted,
                                .ok = used(c, clock_mono_ns(), &uj), .skipped = c->skipped };
    memcpy(out->name, c->name, sizeof out->name);
    memcpy(out->path, c->path, sizeof out->path);
    out->watts = c->has_last && (c->power || c->mark_ns) && c->ok ? c->watts : NAN;
    out->uj = (uint64_t)uj;
    (void)snprintf(out->why, sizeof out->why, "%s", !c->ok || c->why[0] ? c->why : c->apart);
    (void)pthread_mutex_unlock(&m->mu);
}

void meter_work(struct meter *m, double ops, double bytes)
{
    if (!m->work || !(ops >= 0) || !(bytes >= 0))
        return;
    (void)pthread_mutex_lock(&m->mu);
    m->work->sum_uj += (ops * m->k.pj_per_op + bytes * m->k.pj_per_byte) * 1e-6;
    (void)pthread_mutex_unlock(&m->mu);
}
