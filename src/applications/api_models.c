/* api_models.c: see api_models.h. */
#include "applications/api_models.h"

#include <inttypes.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "applications/api.h"
#include "base/clock.h"
#include "base/mem.h"
#include "chips/cpu/weights_pool.h"

#define MAX_SERVICES 256u
/* Who was answered may ask for another model before the last holder of this one is through. */
#define BUSY_NS   UINT64_C(1000000000)
#define FAILED_NS UINT64_C(2000000000)  /* a model that can't be loaded isn't tried again so long */

struct parked { struct parked *next; struct api_call call; };

struct entry;

/* One use of a model. Under mu, but for `m`, which belongs to whoever holds it. */
struct face {
    struct api_model m;             /* first: api_model_release finds the face by it */
    struct api_models *ms;
    struct entry   *entry;
    enum api_use    use;
    enum api_state  state;
    bool            wanted, leave;  /* to be loaded; to go when idle */
    uint32_t        n_holders;
    uint64_t        bytes, keep_ns, idle_since, load_ns, wanted_at;
    struct parked  *parked, **parked_end;
    struct err      why;            /* FAILED */
    uint64_t        failed_at;
};

struct entry {
    struct entry *next;
    char    *name, *path;
    char   **aliases;               /* [n_aliases] */
    size_t   n_aliases;
    bool     from_store;
    struct weights_pool *pool;      /* used by whoever loads */
    uint64_t pool_bytes;            /* of it, as counted in `used` */
    struct face faces[API_USES];
};

struct api_models {
    struct api_models_opts o;
    pthread_mutex_t mu;
    pthread_cond_t  wake;
    pthread_t       thread;
    bool            started, stop, draining;
    bool            short_of_room;  /* somebody waits for a model to be idle */
    struct entry   *list, **list_end;
    size_t          n;
    uint32_t        n_parked;
    uint64_t        used, wants;    /* bytes; how often something was wanted */
};

static struct face *face_of(const struct api_model *m)
{
    return (struct face *)(uintptr_t)m;     /* its first member */
}

/* ---- names ---- */

/* "name:latest" is the name, too. */
static bool same_name(const char *given, const char *name)
{
    const size_t n = strlen(name);

    return strncmp(given, name, n) == 0 && (given[n] == '\0' || strcmp(given + n, ":latest") == 0);
}

static struct entry *find(const struct api_models *ms, const char *name)
{
    for (struct entry *x = ms->list; x; x = x->next) {
        if (same_name(name, x->name))
            return x;
        for (size_t i = 0; i < x->n_aliases; i++)
            if (same_name(name, x->aliases[i]))
                return x;
    }
    return NULL;
}

static void entry_close(struct entry *x)
{
    if (!x)
        return;
    for (size_t i = 0; i < x->n_aliases; i++)
        mem_free(x->aliases[i]);
    mem_free(x->aliases);
    weights_pool_close(x->pool);
    mem_free(x->name);
    mem_free(x->path);
    mem_free(x);
}

static int entry_open(struct entry **out, struct api_models *ms, const char *name, const char *path,
                      const char *const *aliases, size_t n, struct err *e)
{
    struct entry *x = mem_calloc(1, sizeof *x);
    bool ok = x != NULL;

    if (ok) {
        x->name = mem_strdup(name);
        x->path = mem_strdup(path);
        x->aliases = mem_calloc(n ? n : 1, sizeof *x->aliases);
        ok = x->name && x->path && x->aliases && weights_pool_open(&x->pool, NULL) == 0;
    }
    for (size_t i = 0; ok && i < n; i++) {
        x->aliases[i] = mem_strdup(aliases[i]);
        ok = x->aliases[i] != NULL;
        x->n_aliases += ok;
    }
    if (!ok) {
        entry_close(x);
        return err_set(e, WATT_ENOMEM, "model %.100s", name);
    }
    for (int u = 0; u < API_USES; u++) {
        struct face *f = &x->faces[u];

        f->ms = ms;
        f->entry = x;
        f->use = (enum api_use)u;
        f->keep_ns = ms->o.keep_ns;
        f->parked_end = &f->parked;
        f->m.name = x->name;
        f->m.weights = x->pool;
    }
    *out = x;
    return 0;
}

/* Under mu. */
static int add(struct api_models *ms, struct entry *x, struct err *e)
{
    if (ms->n >= API_MAX_MODELS)
        return err_set(e, WATT_ELIMIT, "over %u models", API_MAX_MODELS);
    if (find(ms, x->name))
        return err_set(e, WATT_EINVAL, "two models are called '%.100s'", x->name);
    for (size_t i = 0; i < x->n_aliases; i++)
        if (find(ms, x->aliases[i]))
            return err_set(e, WATT_EINVAL, "two models are called '%.100s'", x->aliases[i]);
    *ms->list_end = x;
    ms->list_end = &x->next;
    ms->n++;
    return 0;
}

int api_models_add(struct api_models *ms, const char *name, const char *path,
                   const char *const *aliases, size_t n_aliases, struct err *e)
{
    struct entry *x;
    int rc = entry_open(&x, ms, name, path, aliases, n_aliases, e);

    if (rc < 0)
        return rc;
    (void)pthread_mutex_lock(&ms->mu);
    rc = add(ms, x, e);
    (void)pthread_mutex_unlock(&ms->mu);
    if (rc < 0)
        entry_close(x);
    return rc;
}

static bool in_memory(const struct entry *x)
{
    for (int u = 0; u < API_USES; u++)
        if (x->faces[u].state == API_LOADED || x->faces[u].state == API_LOADING)
            return true;
    return false;
}

/* A model of the store: its entry, made when it is first named, and gone when the model is. */
static struct entry *from_store(struct api_models *ms, const char *name)
{
    struct store_model m = { 0 };
    struct entry *x = NULL, *had;

    if (!ms->o.store || store_find(ms->o.store, name, &m, NULL) < 0)
        return NULL;
    (void)pthread_mutex_lock(&ms->mu);
    had = find(ms, m.name);
    if (!had && entry_open(&x, ms, m.name, m.path, NULL, 0, NULL) == 0) {
        x->from_store = true;
        if (add(ms, x, NULL) < 0) {
            entry_close(x);
            x = NULL;
        }
        had = x;
    } else if (had && had->from_store && !in_memory(had) && strcmp(had->path, m.path) != 0) {
        char *path = had->path;     /* another version has other files */

        had->path = m.path;
        m.path = path;
    }
    (void)pthread_mutex_unlock(&ms->mu);
    store_model_deinit(&m);
    return had;
}

const char *api_models_name(struct api_models *ms, const char *name)
{
    struct entry *x;
    bool usable;

    (void)pthread_mutex_lock(&ms->mu);
    x = name && *name ? find(ms, name) : ms->list;
    usable = x && (!x->from_store || in_memory(x));
    (void)pthread_mutex_unlock(&ms->mu);
    if (!usable && name && *name)
        x = from_store(ms, name);
    else if (!usable && x)
        x = from_store(ms, x->name);
    return x ? x->name : NULL;
}

/* ---- loading; on the thread of ms ---- */

static struct parked *take_parked(struct face *f)
{
    struct parked *p = f->parked;

    f->parked = NULL;
    f->parked_end = &f->parked;
    for (struct parked *q = p; q; q = q->next)
        f->ms->n_parked--;
    return p;
}

static void resume_all(struct api_models *ms, struct parked *p, int rc, const struct err *e)
{
    while (p) {
        struct parked *next = p->next;

        ms->o.loader.resume(&p->call, rc, e);
        mem_free(p);
        p = next;
    }
}

/* Under mu: shared weights are counted as what is there. */
static void count_pool(struct api_models *ms, struct entry *x)
{
    ms->used -= x->pool_bytes;
    x->pool_bytes = weights_pool_bytes(x->pool);
    ms->used += x->pool_bytes;
}

/* Under mu, which is let go while the model is closed. Nobody holds it. */
static void unload(struct api_models *ms, struct face *f)
{
    f->state = API_LOADING;         /* nobody may have it from now on */
    (void)pthread_mutex_unlock(&ms->mu);
    ms->o.loader.close(ms->o.loader.ctx, &f->m);
    (void)pthread_mutex_lock(&ms->mu);
    f->state = API_UNLOADED;
    f->leave = false;
    f->keep_ns = ms->o.keep_ns;
    ms->used -= f->bytes;
    f->bytes = 0;
    count_pool(ms, f->entry);
    if (f->parked)                  /* somebody came meanwhile */
        f->wanted = true;
}

/* Under mu: the idle one that was used longest ago; another use of `but`'s file stays, for its weights
 * are counted on. */
static struct face *least_recent(const struct api_models *ms, const struct face *but)
{
    struct face *best = NULL;

    for (struct entry *x = ms->list; x; x = x->next)
        for (int u = 0; u < API_USES; u++) {
            struct face *f = &x->faces[u];

            if (x != but->entry && f->state == API_LOADED && f->n_holders == 0 &&
                (!best || f->idle_since < best->idle_since))
                best = f;
        }
    return best;
}

static void wait_until(struct api_models *ms, uint64_t now, uint64_t when)
{
    struct timespec t;
    uint64_t ns = when - now;

    if (when == UINT64_MAX) {
        (void)pthread_cond_wait(&ms->wake, &ms->mu);
        return;
    }
    if (ns > UINT64_C(3600000000000))
        ns = UINT64_C(3600000000000);
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)(ns / 1000000000);
    t.tv_nsec += (long)(ns % 1000000000);
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    (void)pthread_cond_timedwait(&ms->wake, &ms->mu, &t);
}

/* Under mu, which is let go meanwhile: the idle one that was used longest ago, if need be once one is
 * idle; NULL: none was until then. */
static struct face *await_idle(struct api_models *ms, const struct face *but, uint64_t until)
{
    struct face *idle;
    uint64_t now;

    while (!(idle = least_recent(ms, but)) && !ms->draining && (now = clock_mono_ns()) < until) {
        ms->short_of_room = true;
        wait_until(ms, now, until);
    }
    ms->short_of_room = false;
    return idle;
}

/* Under mu: what could be freed by and by. */
static int make_room(struct api_models *ms, const struct face *f, uint64_t bytes, struct err *e)
{
    const uint64_t bound = ms->o.memory_bytes, until = clock_mono_ns() + BUSY_NS;

    if (bound == 0)
        return 0;
    if (bytes > bound)
        return err_set(e, WATT_ELIMIT, "model %s needs %" PRIu64 " bytes of memory%s%s%s; all models "
                       "together may have %" PRIu64, f->entry->name, bytes, *f->m.parts ? " (" : "",
                       f->m.parts, *f->m.parts ? ")" : "", bound);
    while (ms->used > bound || bytes > bound - ms->used) {
        struct face *idle = await_idle(ms, f, until);

        if (!idle)
            return err_set(e, WATT_EBUSY, "model %s needs %" PRIu64 " bytes of memory; of %" PRIu64
                           " models that are busy have %" PRIu64, f->entry->name, bytes, bound,
                           ms->used);
        unload(ms, idle);
    }
    return 0;
}

/* Under mu, which is let go meanwhile: plans, and makes room for that. */
static int plan_and_make_room(struct api_models *ms, struct face *f, uint64_t *bytes, struct err *e)
{
    const struct api_loader *l = &ms->o.loader;
    int rc;

    (void)pthread_mutex_unlock(&ms->mu);
    rc = l->plan(l->ctx, &f->m, f->entry->path, f->use, bytes, e);
    (void)pthread_mutex_lock(&ms->mu);
    return rc == 0 ? make_room(ms, f, *bytes, e) : rc;
}

/* Under mu: the other use of the file, when it may go. */
static struct face *idle_sibling(struct face *f)
{
    struct face *other = &f->entry->faces[f->use == API_USE_ANSWER ? API_USE_EMBED : API_USE_ANSWER];

    return other->state == API_LOADED && other->n_holders == 0 ? other : NULL;
}

/* Under mu, which is let go meanwhile. */
static int load(struct api_models *ms, struct face *f, struct err *e)
{
    const struct api_loader *l = &ms->o.loader;
    const uint64_t start = clock_mono_ns();
    uint64_t bytes = 0;
    struct face *other;
    int rc;

    f->wanted = f->leave = false;
    f->state = API_LOADING;
    rc = plan_and_make_room(ms, f, &bytes, e);
    if ((rc == WATT_EBUSY || rc == WATT_ELIMIT) && (other = idle_sibling(f))) {
        unload(ms, other);          /* not both at once, then */
        (void)pthread_mutex_unlock(&ms->mu);
        l->close(l->ctx, &f->m);
        (void)pthread_mutex_lock(&ms->mu);
        rc = plan_and_make_room(ms, f, &bytes, e);
    }
    if (rc == 0)
        ms->used += bytes;
    (void)pthread_mutex_unlock(&ms->mu);
    if (rc == 0) {
        rc = l->open(l->ctx, &f->m, f->entry->path, f->use, e);
        if (rc < 0) {
            (void)pthread_mutex_lock(&ms->mu);
            ms->used -= bytes;
            (void)pthread_mutex_unlock(&ms->mu);
        }
    }
    if (rc < 0)
        l->close(l->ctx, &f->m);
    (void)pthread_mutex_lock(&ms->mu);
    if (rc == 0) {
        const uint64_t had = f->entry->pool_bytes, now = weights_pool_bytes(f->entry->pool);
        const uint64_t ours = now > had ? now - had : 0;

        f->bytes = bytes > ours ? bytes - ours : 0;     /* the pool's are its own */
        ms->used -= bytes - f->bytes;
    }
    count_pool(ms, f->entry);
    f->load_ns = clock_mono_ns() - start;
    f->idle_since = clock_mono_ns();
    f->state = rc == 0 ? API_LOADED : API_FAILED;
    if (rc < 0) {
        f->why = *e;
        f->failed_at = clock_mono_ns();
    }
    return rc;
}

static void load_and_resume(struct api_models *ms, struct face *f)
{
    struct err e = { 0 };
    const int rc = load(ms, f, &e);
    struct parked *p = take_parked(f);

    f->n_holders++;                 /* it stays until they have had their turn */
    (void)pthread_mutex_unlock(&ms->mu);
    resume_all(ms, p, rc, &e);
    (void)pthread_mutex_lock(&ms->mu);
    f->n_holders--;
    f->idle_since = clock_mono_ns();
}

/* ---- the thread ---- */

/* Under mu: the first that was wanted. */
static struct face *wanted(const struct api_models *ms)
{
    struct face *best = NULL;

    for (struct entry *x = ms->list; x; x = x->next)
        for (int u = 0; u < API_USES; u++)
            if (x->faces[u].wanted && (!best || x->faces[u].wanted_at < best->wanted_at))
                best = &x->faces[u];
    return best;
}

static uint64_t expires(const struct face *f)
{
    if (f->leave || f->keep_ns == 0)
        return 0;
    return f->keep_ns > UINT64_MAX - f->idle_since ? UINT64_MAX : f->idle_since + f->keep_ns;
}

/* Under mu: one whose time is over; else *next: when the first one's will be. */
static struct face *expired(const struct api_models *ms, uint64_t now, uint64_t *next)
{
    *next = UINT64_MAX;
    for (struct entry *x = ms->list; x; x = x->next)
        for (int u = 0; u < API_USES; u++) {
            struct face *f = &x->faces[u];

            if (f->state != API_LOADED || f->n_holders > 0)
                continue;
            if (expires(f) <= now)
                return f;
            if (expires(f) < *next)
                *next = expires(f);
        }
    return NULL;
}

static void fail_parked(struct api_models *ms)
{
    struct err e = { 0 };

    (void)err_set(&e, WATT_ECANCEL, "the server is shutting down");
    for (struct entry *x = ms->list; x; x = x->next)
        for (int u = 0; u < API_USES; u++) {
            struct parked *p = take_parked(&x->faces[u]);

            x->faces[u].wanted = false;
            (void)pthread_mutex_unlock(&ms->mu);
            resume_all(ms, p, WATT_ECANCEL, &e);
            (void)pthread_mutex_lock(&ms->mu);
        }
}

static void *run(void *arg)
{
    struct api_models *ms = arg;

    (void)pthread_mutex_lock(&ms->mu);
    while (!ms->stop) {
        const uint64_t now = clock_mono_ns();
        uint64_t next = UINT64_MAX;
        struct face *f;

        if (ms->draining)
            fail_parked(ms);        /* lets mu go: `stop` may have come, and would not come again */
        if (ms->stop)
            break;
        if ((f = ms->draining ? NULL : wanted(ms)))
            load_and_resume(ms, f);
        else if ((f = ms->draining ? NULL : expired(ms, now, &next)))
            unload(ms, f);
        else
            wait_until(ms, now, next);
    }
    fail_parked(ms);
    (void)pthread_mutex_unlock(&ms->mu);
    return NULL;
}

/* ---- open and close ---- */

int api_models_open(struct api_models **out, const struct api_models_opts *o, struct err *e)
{
    struct api_models *ms = mem_calloc(1, sizeof *ms);
    pthread_condattr_t attr;
    int rc;

    if (!ms)
        return err_set(e, WATT_ENOMEM, "models");
    ms->o = *o;
    ms->list_end = &ms->list;
    (void)pthread_mutex_init(&ms->mu, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&ms->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    rc = pthread_create(&ms->thread, NULL, run, ms);
    if (rc != 0) {
        api_models_close(ms);
        return err_errno(e, WATT_EIO, rc, "models: thread");
    }
    ms->started = true;
    *out = ms;
    return 0;
}

bool api_models_drain(struct api_models *ms, uint64_t wait_ns)
{
    const uint64_t end = clock_mono_ns() + wait_ns;
    bool calm = true;

    (void)pthread_mutex_lock(&ms->mu);
    ms->draining = true;
    (void)pthread_cond_broadcast(&ms->wake);
    for (int pass = 0; pass < 2; pass++)        /* first none takes more, then each is waited for */
        for (struct entry *x = ms->list; x; x = x->next)
            for (int u = 0; u < API_USES; u++) {
                struct face *f = &x->faces[u];
                const uint64_t now = clock_mono_ns();

                if (f->state != API_LOADED || !f->m.svc)
                    continue;
                f->n_holders++;
                (void)pthread_mutex_unlock(&ms->mu);
                if (!service_drain(f->m.svc, pass && end > now ? end - now : 0) && pass)
                    calm = false;
                (void)pthread_mutex_lock(&ms->mu);
                f->n_holders--;
            }
    (void)pthread_mutex_unlock(&ms->mu);
    return calm;
}

void api_models_stop(struct api_models *ms)
{
    if (!ms)
        return;
    (void)pthread_mutex_lock(&ms->mu);
    ms->stop = ms->draining = true;
    (void)pthread_cond_broadcast(&ms->wake);
    (void)pthread_mutex_unlock(&ms->mu);
    if (ms->started)
        (void)pthread_join(ms->thread, NULL);
    ms->started = false;
    /* last events answer what is open; who still holds one is refused by it */
    for (struct entry *x = ms->list; x; x = x->next)
        for (int u = 0; u < API_USES; u++)
            if (x->faces[u].state == API_LOADED && x->faces[u].m.svc)
                service_stop(x->faces[u].m.svc);
}

void api_models_close(struct api_models *ms)
{
    if (!ms)
        return;
    api_models_stop(ms);
    for (struct entry *x = ms->list, *next; x; x = next) {
        next = x->next;
        for (int u = 0; u < API_USES; u++)
            if (x->faces[u].state == API_LOADED)
                ms->o.loader.close(ms->o.loader.ctx, &x->faces[u].m);
        entry_close(x);
    }
    (void)pthread_cond_destroy(&ms->wake);
    (void)pthread_mutex_destroy(&ms->mu);
    mem_free(ms);
}

int api_models_load(struct api_models *ms, const char *name, enum api_use use, struct err *e)
{
    struct entry *x;
    int rc;

    (void)pthread_mutex_lock(&ms->mu);
    x = find(ms, name);
    rc = x ? load(ms, &x->faces[use], e) : err_set(e, WATT_ENOENT, "no model '%.100s'", name);
    (void)pthread_cond_broadcast(&ms->wake);
    (void)pthread_mutex_unlock(&ms->mu);
    return rc;
}

/* ---- holding ---- */

/* Under mu. */
static enum api_hold park(struct api_models *ms, struct face *f, const struct api_call *c,
                          struct err *e)
{
    struct parked *p;

    p = ms->n_parked < API_MAX_PARKED ? mem_alloc(sizeof *p) : NULL;
    if (!p) {
        (void)err_set(e, WATT_EBUSY, "%u requests wait for models to load", ms->n_parked);
        return API_REFUSED;
    }
    p->next = NULL;
    p->call = *c;
    *f->parked_end = p;
    f->parked_end = &p->next;
    ms->n_parked++;
    if (f->state != API_LOADING && !f->wanted) {
        f->wanted = true;
        f->wanted_at = ++ms->wants;
        (void)pthread_cond_signal(&ms->wake);
    }
    return API_PARKED;
}

/* Under mu: it would fail again, and trying costs. */
static bool stays_failed(const struct face *f)
{
    return f->state == API_FAILED && clock_mono_ns() - f->failed_at < FAILED_NS &&
           (f->why.code == WATT_ENOTSUP || f->why.code == WATT_ELIMIT ||
            f->why.code == WATT_EFORMAT);
}

enum api_hold api_models_hold(struct api_models *ms, const char *name, enum api_use use,
                              const struct api_call *c, const struct api_model **m, struct err *e)
{
    enum api_hold how = API_REFUSED;
    struct entry *x;
    struct face *f;

    (void)pthread_mutex_lock(&ms->mu);
    x = find(ms, name);
    f = x ? &x->faces[use] : NULL;
    if (f && ms->draining) {
        (void)err_set(e, WATT_ECANCEL, "the server is shutting down");
    } else if (f && f->state == API_LOADED && !(f->leave && f->n_holders == 0)) {
        f->n_holders++;
        *m = &f->m;
        how = API_HELD;
    } else if (!f) {
        (void)err_set(e, WATT_ENOENT, "no model '%.100s'", name);
    } else if (!c) {
        (void)err_set(e, WATT_EBUSY, "model %s is not loaded", x->name);
    } else if (stays_failed(f)) {
        *e = f->why;
    } else {
        how = park(ms, f, c, e);
    }
    (void)pthread_mutex_unlock(&ms->mu);
    return how;
}

void api_model_hold(const struct api_model *m)
{
    struct face *f = face_of(m);

    (void)pthread_mutex_lock(&f->ms->mu);
    f->n_holders++;
    (void)pthread_mutex_unlock(&f->ms->mu);
}

void api_model_release(const struct api_model *m)
{
    struct face *f = m ? face_of(m) : NULL;

    if (!f)
        return;
    (void)pthread_mutex_lock(&f->ms->mu);
    if (--f->n_holders == 0) {
        f->idle_since = clock_mono_ns();
        if (f->leave || f->keep_ns != API_KEEP_FOREVER || f->ms->short_of_room)
            (void)pthread_cond_broadcast(&f->ms->wake);
    }
    (void)pthread_mutex_unlock(&f->ms->mu);
}

void api_model_keep(const struct api_model *m, uint64_t keep_ns)
{
    struct face *f = face_of(m);

    (void)pthread_mutex_lock(&f->ms->mu);
    f->keep_ns = keep_ns;
    (void)pthread_cond_signal(&f->ms->wake);
    (void)pthread_mutex_unlock(&f->ms->mu);
}

bool api_keep_parse(const char *text, uint64_t *keep_ns)
{
    static const struct { const char *unit; double s; } units[] = {
        { "ns", 1e-9 }, { "us", 1e-6 }, { "ms", 1e-3 }, { "h", 3600 }, { "m", 60 }, { "s", 1 },
    };
    const bool forever = *text == '-';
    double sum = 0;
    const char *p = text + forever;

    if (!*p)
        return false;
    while (*p) {
        char *end;
        double v;
        size_t i = 0;

        if (*p < '0' || *p > '9')
            return false;
        v = strtod(p, &end);
        if (*end == '\0' && p == text + forever) {
            sum = v;
            break;
        }
        while (i < sizeof units / sizeof *units &&
               strncmp(end, units[i].unit, strlen(units[i].unit)) != 0)
            i++;
        if (i == sizeof units / sizeof *units)
            return false;
        sum += v * units[i].s;
        p = end + strlen(units[i].unit);
    }
    *keep_ns = forever || !(sum < 1e9) ? API_KEEP_FOREVER : (uint64_t)(sum * 1e9);
    return true;
}

uint64_t api_model_load_ns(const struct api_model *m)
{
    return face_of(m)->load_ns;
}

int api_models_want(struct api_models *ms, const char *name, struct err *e)
{
    struct entry *x;
    struct face *f;
    int rc = 0;

    (void)pthread_mutex_lock(&ms->mu);
    x = find(ms, name);
    f = x ? &x->faces[API_USE_ANSWER] : NULL;
    if (!f) {
        rc = err_set(e, WATT_ENOENT, "no model '%.100s'", name);
    } else if (!ms->draining && f->state != API_LOADED && f->state != API_LOADING && !f->wanted) {
        f->wanted = true;
        f->wanted_at = ++ms->wants;
        (void)pthread_cond_signal(&ms->wake);
    }
    (void)pthread_mutex_unlock(&ms->mu);
    return rc;
}

int api_models_unload(struct api_models *ms, const char *name, struct err *e)
{
    struct entry *x;

    (void)pthread_mutex_lock(&ms->mu);
    x = find(ms, name);
    for (int u = 0; x && u < API_USES; u++)
        x->faces[u].leave = x->faces[u].state == API_LOADED;
    (void)pthread_cond_signal(&ms->wake);
    (void)pthread_mutex_unlock(&ms->mu);
    return x ? 0 : err_set(e, WATT_ENOENT, "no model '%.100s'", name);
}

/* ---- looking ---- */

struct look {
    struct api_models *ms;
    void (*fn)(void *ctx, const struct api_model_info *i);
    void  *ctx;
};

static void tell(const struct look *l, const struct entry *x, const struct face *f,
                 const struct store_model *stored)
{
    const uint64_t now = clock_mono_ns(), end = expires(f);
    const struct api_model_info info = {
        .name = x->name, .path = x->path, .stored = stored,
        .aliases = (const char *const *)x->aliases, .n_aliases = x->n_aliases, .use = f->use,
        .state = f->state, .why = f->state == API_FAILED ? f->why.msg : NULL,
        .first = x == l->ms->list, .m = f->state == API_LOADED ? &f->m : NULL,
        .n_holders = f->n_holders,
        .bytes = f->bytes + (f->use == API_USE_ANSWER || x->faces[API_USE_ANSWER].state != API_LOADED
                             ? x->pool_bytes : 0),
        .idle_left_ns = f->n_holders > 0 || end == UINT64_MAX ? -1
                        : end > now ? (int64_t)(end - now) : 0,
    };

    l->fn(l->ctx, &info);
}

/* Under mu. */
static void tell_uses(const struct look *l, const struct entry *x, const struct store_model *stored)
{
    bool any = false;

    for (int u = API_USES - 1; u >= 0; u--) {
        const struct face *f = &x->faces[u];

        if (f->state == API_UNLOADED && (u > 0 || any))
            continue;
        any = true;
        tell(l, x, f, stored);
    }
}

static int look_at_stored(void *ctx, const struct store_model *m)
{
    const struct look *l = ctx;
    const struct entry *x;

    (void)pthread_mutex_lock(&l->ms->mu);
    x = find(l->ms, m->name);
    if (x && x->from_store) {
        tell_uses(l, x, m);
    } else if (!x) {
        const struct api_model_info info = { .name = m->name, .path = m->path, .stored = m,
                                             .idle_left_ns = -1 };

        l->fn(l->ctx, &info);
    }
    (void)pthread_mutex_unlock(&l->ms->mu);
    return 0;
}

void api_models_each(struct api_models *ms, bool stored,
                     void (*fn)(void *ctx, const struct api_model_info *i), void *ctx)
{
    struct look l = { ms, fn, ctx };

    (void)pthread_mutex_lock(&ms->mu);
    for (const struct entry *x = ms->list; x; x = x->next)
        if (!stored || !x->from_store)
            tell_uses(&l, x, NULL);
    (void)pthread_mutex_unlock(&ms->mu);
    if (stored && ms->o.store && store_list(ms->o.store, look_at_stored, NULL, &l, NULL) < 0)
        return;                         /* a store that can't be read has none */
}

void api_models_services(struct api_models *ms,
                         void (*fn)(void *ctx, struct service *const *list, size_t n), void *ctx)
{
    struct service *list[MAX_SERVICES];
    size_t n = 0;

    (void)pthread_mutex_lock(&ms->mu);
    for (const struct entry *x = ms->list; x; x = x->next)
        for (int u = 0; u < API_USES; u++)
            if (x->faces[u].state == API_LOADED && x->faces[u].m.svc && n < MAX_SERVICES)
                list[n++] = x->faces[u].m.svc;
    fn(ctx, list, n);
    (void)pthread_mutex_unlock(&ms->mu);
}

void api_models_memory(struct api_models *ms, uint64_t *used, uint64_t *bound)
{
    (void)pthread_mutex_lock(&ms->mu);
    *used = ms->used;
    *bound = ms->o.memory_bytes;
    (void)pthread_mutex_unlock(&ms->mu);
}
