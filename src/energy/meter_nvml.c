/* meter_nvml.c: NVIDIA GPUs through NVML, which is loaded when it is there: the counter of total
 * energy in millijoules (Volta and later), else the power in milliwatts. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "energy/meter_internal.h"

#define NVML_OK       0
#define MAX_GPUS      32u

/* From NVML's reference manual; handles are opaque pointers, results ints. */
struct nvml {
    void *library;
    int (*init)(void);
    int (*shutdown)(void);
    int (*count)(unsigned *n);
    int (*handle)(unsigned index, void **device);
    int (*name)(void *device, char *name, unsigned n);
    int (*energy)(void *device, unsigned long long *mj);
    int (*power)(void *device, unsigned *mw);
    const char *(*error)(int rc);
    struct gpu { struct nvml *nvml; void *device; } gpus[MAX_GPUS];
};

static int failed(const struct nvml *v, const struct channel *c, int rc, struct err *e)
{
    return err_set(e, WATT_EIO, "%s: %s", c->name,
                   v->error ? v->error(rc) : "NVML failed");
}

static int read_energy(struct channel *c, double *value, struct err *e)
{
    const struct gpu *g = c->own;
    unsigned long long mj = 0;
    const int rc = g->nvml->energy(g->device, &mj);

    *value = (double)mj * 1e3;
    return rc == NVML_OK ? 0 : failed(g->nvml, c, rc, e);
}

static int read_power(struct channel *c, double *value, struct err *e)
{
    const struct gpu *g = c->own;
    unsigned mw = 0;
    const int rc = g->nvml->power(g->device, &mw);

    *value = (double)mw * 1e3;
    return rc == NVML_OK ? 0 : failed(g->nvml, c, rc, e);
}

/* Takes a symbol; the cast goes through memory, as POSIX has it. */
static bool symbol(void *library, const char *name, void *fn)
{
    void *p = dlsym(library, name);

    memcpy(fn, &p, sizeof p);
    return p != NULL;
}

static bool load(struct nvml *v, const char *path)
{
    v->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!v->library)
        return false;
    (void)symbol(v->library, "nvmlErrorString", &v->error);
    (void)symbol(v->library, "nvmlDeviceGetName", &v->name);
    (void)symbol(v->library, "nvmlDeviceGetTotalEnergyConsumption", &v->energy);
    (void)symbol(v->library, "nvmlDeviceGetPowerUsage", &v->power);
    return symbol(v->library, "nvmlInit_v2", &v->init) &&
           symbol(v->library, "nvmlShutdown", &v->shutdown) &&
           symbol(v->library, "nvmlDeviceGetCount_v2", &v->count) &&
           symbol(v->library, "nvmlDeviceGetHandleByIndex_v2", &v->handle) &&
           (v->energy || v->power);
}

static bool add_gpu(struct meter *m, struct nvml *v, unsigned i, struct err *e)
{
    struct gpu *g = &v->gpus[i];
    char name[METER_NAME_BYTES], card[96] = "";
    struct channel *c;

    g->nvml = v;
    if (v->handle(i, &g->device) != NVML_OK)
        return false;
    (void)snprintf(name, sizeof name, "gpu-%u", i);
    c = meter_add(m, "nvml", "gpu", name);
    if (!c)
        return false;
    if (v->name && v->name(g->device, card, sizeof card) == NVML_OK)
        (void)snprintf(c->path, sizeof c->path, "%.95s", card);
    c->own = g;
    c->close = NULL;
    c->max_w = 3000;
    c->slack_s = 0.3;                   /* the counter moves every 20 to 100 ms */
    c->read = read_energy;
    if (v->energy && meter_try(c, e))
        return true;
    c->read = read_power;
    c->power = true;
    return v->power && meter_try(c, e);
}

unsigned meter_find_nvml(struct meter *m, struct err *e)
{
    struct nvml *v;
    unsigned n = 0, good = 0;
    struct err why = { 0 };

    if (!m->opts.nvml[0]) {
        meter_note_add(m, "nvml: not looked for");
        return 0;
    }
    v = mem_calloc(1, sizeof *v);
    if (!v)
        return 0;
    if (!load(v, m->opts.nvml)) {
        meter_note_add(m, "nvml: %.100s %s", m->opts.nvml,
                       v->library ? "lacks functions" : "is not there (no NVIDIA driver)");
    } else if (v->init() != NVML_OK) {
        meter_note_add(m, "nvml: the driver does not answer");
    } else {
        m->nvml = v;
        (void)v->count(&n);
        for (unsigned i = 0; i < n && i < MAX_GPUS; i++)
            good += add_gpu(m, v, i, &why);
        if (good == 0)
            meter_note_add(m, "nvml: %s", why.code ? why.msg : "no GPU");
        if (good == 0 && why.code && e)
            *e = why;
        return good;
    }
    if (v->library)
        (void)dlclose(v->library);
    mem_free(v);
    return 0;
}

void meter_close_nvml(struct meter *m)
{
    struct nvml *v = m->nvml;

    if (!v)
        return;
    (void)v->shutdown();
    (void)dlclose(v->library);
    mem_free(v);
    m->nvml = NULL;
}
