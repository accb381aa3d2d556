/* metric.c: the registry of series; see metric.h. */
#include "base/metric.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"

/* A double in an atomic word. Updates are relaxed: a reader wants each number
 * whole, not numbers that belong together. */
typedef _Atomic uint64_t atomic_bits;

struct metric {
    struct metric *next;              /* of the same family; under mu */
    struct family *family;
    struct metric_label labels[METRIC_MAX_LABELS];
    size_t         n_labels;
    double       (*read)(void *ctx);  /* under mu */
    void          *ctx;
    atomic_uint_least64_t whole;      /* counter: whole part, metric_add */
    atomic_bits    real;              /* counter: metric_add_f; gauge; histogram's sum */
    atomic_uint_least64_t *counts;    /* histogram: [n_bounds + 1] */
    char          *texts;             /* what labels point to */
};

struct family {
    struct family  *next;
    enum metric_kind kind;
    char           *name, *help;
    double         *bounds;
    size_t          n_bounds;
    struct metric  *first, **last;
};

struct metrics {
    pthread_mutex_t mu;
    struct family  *first, **last;    /* under mu, as what hangs on it */
    size_t          n_series;
};

int metrics_open(struct metrics **out, struct err *e)
{
    struct metrics *m = mem_calloc(1, sizeof *m);

    if (!m)
        return err_set(e, WATT_ENOMEM, "metrics: out of memory");
    m->last = &m->first;
    (void)pthread_mutex_init(&m->mu, NULL);
    *out = m;
    return 0;
}

static void metric_free(struct metric *x)
{
    if (x) {
        mem_free(x->counts);
        mem_free(x->texts);
        mem_free(x);
    }
}

static void family_free(struct family *f)
{
    struct metric *x, *next;

    if (!f)
        return;
    for (x = f->first; x; x = next) {
        next = x->next;
        metric_free(x);
    }
    mem_free(f->name);
    mem_free(f->help);
    mem_free(f->bounds);
    mem_free(f);
}

void metrics_close(struct metrics *m)
{
    struct family *f, *next;

    if (!m)
        return;
    for (f = m->first; f; f = next) {
        next = f->next;
        family_free(f);
    }
    (void)pthread_mutex_destroy(&m->mu);
    mem_free(m);
}

static bool name_ok(const char *s, bool colon)
{
    if (!s || !*s || strlen(s) > METRIC_MAX_TEXT || (*s >= '0' && *s <= '9'))
        return false;
    for (; *s; s++)
        if (!(*s == '_' || (colon && *s == ':') || (*s >= '0' && *s <= '9') ||
              (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z')))
            return false;
    return true;
}

static int check_spec(const struct metric_spec *s, struct err *e)
{
    if (!name_ok(s->name, true))
        return err_set(e, WATT_EINVAL, "metric: bad name '%s'", s->name ? s->name : "");
    if (!s->help || strlen(s->help) > METRIC_MAX_TEXT)
        return err_set(e, WATT_EINVAL, "metric %s: no help, or too long", s->name);
    if (s->n_labels > METRIC_MAX_LABELS)
        return err_set(e, WATT_ELIMIT, "metric %s: %zu labels, at most %d", s->name, s->n_labels,
                       METRIC_MAX_LABELS);
    for (size_t i = 0; i < s->n_labels; i++) {
        if (!name_ok(s->labels[i].name, false))
            return err_set(e, WATT_EINVAL, "metric %s: bad label name", s->name);
        if (!s->labels[i].value || strlen(s->labels[i].value) > METRIC_MAX_TEXT)
            return err_set(e, WATT_EINVAL, "metric %s: label %s has no value, or one too long",
                           s->name, s->labels[i].name);
    }
    if (s->n_bounds > METRIC_MAX_BOUNDS || (s->kind == METRIC_HISTOGRAM) != (s->n_bounds > 0))
        return err_set(e, WATT_EINVAL, "metric %s: %zu bounds", s->name, s->n_bounds);
    for (size_t i = 0; i < s->n_bounds; i++)
        if (!isfinite(s->bounds[i]) || (i > 0 && !(s->bounds[i] > s->bounds[i - 1])))
            return err_set(e, WATT_EINVAL, "metric %s: bounds do not rise", s->name);
    if (s->read && s->kind != METRIC_GAUGE)
        return err_set(e, WATT_EINVAL, "metric %s: only a gauge can be asked", s->name);
    return 0;
}

/* The family of this name, made when there is none; NULL when memory is short. */
static struct family *family_make(const struct metric_spec *s)
{
    struct family *f = mem_calloc(1, sizeof *f);

    if (!f)
        return NULL;
    f->kind = s->kind;
    f->last = &f->first;
    f->name = mem_strdup(s->name);
    f->help = mem_strdup(s->help);
    if (s->n_bounds > 0) {
        f->bounds = mem_array(s->n_bounds, sizeof *f->bounds);
        if (f->bounds)
            memcpy(f->bounds, s->bounds, s->n_bounds * sizeof *f->bounds);
        f->n_bounds = s->n_bounds;
    }
    if (!f->name || !f->help || (s->n_bounds > 0 && !f->bounds)) {
        family_free(f);
        return NULL;
    }
    return f;
}

static char *copy_text(char **at, const char *z)
{
    size_t n = strlen(z) + 1;
    char *copy = *at;

    memcpy(copy, z, n);
    *at += n;
    return copy;
}

static struct metric *metric_make(struct family *f, const struct metric_spec *s)
{
    struct metric *x = mem_calloc(1, sizeof *x);
    size_t n = 1;
    char *at;

    if (!x)
        return NULL;
    for (size_t i = 0; i < s->n_labels; i++)
        n += strlen(s->labels[i].name) + strlen(s->labels[i].value) + 2;
    x->texts = mem_alloc(n);
    if (f->n_bounds > 0)
        x->counts = mem_calloc(f->n_bounds + 1, sizeof *x->counts);
    if (!x->texts || (f->n_bounds > 0 && !x->counts)) {
        metric_free(x);
        return NULL;
    }
    at = x->texts;
    for (size_t i = 0; i < s->n_labels; i++) {
        x->labels[i].name = copy_text(&at, s->labels[i].name);
        x->labels[i].value = copy_text(&at, s->labels[i].value);
    }
    x->n_labels = s->n_labels;
    x->family = f;
    return x;
}

static bool same_labels(const struct metric *x, const struct metric_spec *s)
{
    if (x->n_labels != s->n_labels)
        return false;
    for (size_t i = 0; i < s->n_labels; i++)
        if (strcmp(x->labels[i].name, s->labels[i].name) != 0 ||
            strcmp(x->labels[i].value, s->labels[i].value) != 0)
            return false;
    return true;
}

/* Under mu. */
static int find_or_make(struct metric **out, struct metrics *m, const struct metric_spec *s,
                        struct err *e)
{
    struct family *f = m->first;
    bool fresh = false;
    struct metric *x;

    while (f && strcmp(f->name, s->name) != 0)
        f = f->next;
    if (f && (f->kind != s->kind || f->n_bounds != s->n_bounds ||
              (s->n_bounds > 0 && memcmp(f->bounds, s->bounds, s->n_bounds * sizeof(double)) != 0)))
        return err_set(e, WATT_EINVAL, "metric %s: registered before with another kind or bounds",
                       s->name);
    for (x = f ? f->first : NULL; x; x = x->next)
        if (same_labels(x, s)) {
            *out = x;
            return 0;
        }
    if (m->n_series >= METRIC_MAX_SERIES)
        return err_set(e, WATT_ELIMIT, "metric %s: more than %d series", s->name,
                       METRIC_MAX_SERIES);
    if (!f) {
        f = family_make(s);
        fresh = true;
    }
    x = f ? metric_make(f, s) : NULL;
    if (!x) {
        if (fresh)
            family_free(f);
        return err_set(e, WATT_ENOMEM, "metric %s: out of memory", s->name);
    }
    *f->last = x;
    f->last = &x->next;
    m->n_series++;
    if (fresh) {
        *m->last = f;
        m->last = &f->next;
    }
    *out = x;
    return 0;
}

int metric_open(struct metric **out, struct metrics *m, const struct metric_spec *spec,
                struct err *e)
{
    struct metric *x = NULL;
    int rc;

    if (!m) {
        *out = NULL;
        return 0;
    }
    rc = check_spec(spec, e);
    if (rc < 0)
        return rc;
    (void)pthread_mutex_lock(&m->mu);
    rc = find_or_make(&x, m, spec, e);
    if (rc == 0) {
        x->read = spec->read;
        x->ctx = spec->ctx;
    }
    (void)pthread_mutex_unlock(&m->mu);
    if (rc == 0)
        *out = x;
    return rc;
}

void metric_detach(struct metrics *m, struct metric *x)
{
    if (!m || !x)
        return;
    (void)pthread_mutex_lock(&m->mu);
    x->read = NULL;
    x->ctx = NULL;
    (void)pthread_mutex_unlock(&m->mu);
}

static uint64_t bits_of(double x)
{
    uint64_t u;

    memcpy(&u, &x, sizeof u);
    return u;
}

static double of_bits(uint64_t u)
{
    double x;

    memcpy(&x, &u, sizeof x);
    return x;
}

static void add_real(atomic_bits *a, double amount)
{
    uint64_t old = atomic_load_explicit(a, memory_order_relaxed);

    while (!atomic_compare_exchange_weak_explicit(a, &old, bits_of(of_bits(old) + amount),
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

void metric_add(struct metric *x, uint64_t n)
{
    if (!x)
        return;
    CHECK(x->family->kind == METRIC_COUNTER);
    (void)atomic_fetch_add_explicit(&x->whole, n, memory_order_relaxed);
}

void metric_add_f(struct metric *x, double amount)
{
    if (!x)
        return;
    CHECK(x->family->kind == METRIC_GAUGE || (x->family->kind == METRIC_COUNTER && amount >= 0));
    add_real(&x->real, amount);
}

void metric_set(struct metric *x, double value)
{
    if (!x)
        return;
    CHECK(x->family->kind == METRIC_GAUGE);
    atomic_store_explicit(&x->real, bits_of(value), memory_order_relaxed);
}

void metric_observe(struct metric *x, double value)
{
    size_t i = 0;

    if (!x || isnan(value))
        return;
    CHECK(x->family->kind == METRIC_HISTOGRAM);
    while (i < x->family->n_bounds && value > x->family->bounds[i])
        i++;
    (void)atomic_fetch_add_explicit(&x->counts[i], 1, memory_order_relaxed);
    add_real(&x->real, value);
}

static void view(const struct metric *x, metric_fn *fn, void *ctx)
{
    const struct family *f = x->family;
    uint64_t counts[METRIC_MAX_BOUNDS + 1];
    struct metric_view v = {
        .kind = f->kind, .name = f->name, .help = f->help,
        .labels = x->labels, .n_labels = x->n_labels,
        .bounds = f->bounds, .counts = counts, .n_bounds = f->n_bounds,
    };

    v.value = x->read ? x->read(x->ctx)
                      : of_bits(atomic_load_explicit(&x->real, memory_order_relaxed));
    if (f->kind == METRIC_COUNTER)
        v.value += (double)atomic_load_explicit(&x->whole, memory_order_relaxed);
    if (f->kind == METRIC_HISTOGRAM)
        for (size_t i = 0; i <= f->n_bounds; i++) {
            counts[i] = atomic_load_explicit(&x->counts[i], memory_order_relaxed);
            v.count += counts[i];
        }
    fn(ctx, &v);
}

void metrics_walk(struct metrics *m, metric_fn *fn, void *ctx)
{
    if (!m)
        return;
    (void)pthread_mutex_lock(&m->mu);
    for (const struct family *f = m->first; f; f = f->next)
        for (const struct metric *x = f->first; x; x = x->next)
            view(x, fn, ctx);
    (void)pthread_mutex_unlock(&m->mu);
}
