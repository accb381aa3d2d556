/* meter_nvml.c: NVIDIA GPUs through NVML: the counter of total energy in millijoules (Volta and
 * later), else the power in milliwatts. */
#include <stdio.h>

#include "base/mem.h"
#include "energy/meter_internal.h"
#include "energy/nvml.h"

struct gpus {
    struct nvml nvml;
    struct gpu { const struct nvml *nvml; void *device; } gpus[NVML_MAX_GPUS];
};

static int failed(const struct gpu *g, const struct channel *c, int rc, struct err *e)
{
    return err_set(e, WATT_EIO, "%s: %s", c->name, nvml_error(g->nvml, rc));
}

static int read_energy(struct channel *c, double *value, struct err *e)
{
    const struct gpu *g = c->own;
    unsigned long long mj = 0;
    const int rc = g->nvml->energy(g->device, &mj);

    *value = (double)mj * 1e3;
    return rc == NVML_OK ? 0 : failed(g, c, rc, e);
}

static int read_power(struct channel *c, double *value, struct err *e)
{
    const struct gpu *g = c->own;
    unsigned mw = 0;
    const int rc = g->nvml->power(g->device, &mw);

    *value = (double)mw * 1e3;
    return rc == NVML_OK ? 0 : failed(g, c, rc, e);
}

static bool add_gpu(struct meter *m, struct gpus *x, unsigned i, struct err *e)
{
    const struct nvml *v = &x->nvml;
    struct gpu *g = &x->gpus[i];
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
    struct gpus *x;
    unsigned good = 0;
    struct err why = { 0 };

    if (!m->opts.nvml[0]) {
        meter_note_add(m, "nvml: not looked for");
        return 0;
    }
    x = mem_calloc(1, sizeof *x);
    if (!x)
        return 0;
    if (nvml_open(&x->nvml, m->opts.nvml, &why) < 0) {
        meter_note_add(m, "nvml: %s", why.msg);
        mem_free(x);
        return 0;
    }
    m->nvml = x;
    for (unsigned i = 0; i < nvml_count(&x->nvml); i++)
        good += add_gpu(m, x, i, &why);
    if (good == 0)
        meter_note_add(m, "nvml: %s", why.code ? why.msg : "no GPU");
    if (good == 0 && why.code && e)
        *e = why;
    return good;
}

void meter_close_nvml(struct meter *m)
{
    struct gpus *x = m->nvml;

    if (!x)
        return;
    nvml_close(&x->nvml);
    mem_free(x);
    m->nvml = NULL;
}
