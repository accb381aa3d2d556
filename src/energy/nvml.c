/* nvml.c: see nvml.h. */
#include "energy/nvml.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

/* Takes a symbol; the cast goes through memory, as POSIX has it. */
static bool symbol(void *library, const char *name, void *fn)
{
    void *p = dlsym(library, name);

    memcpy(fn, &p, sizeof p);
    return p != NULL;
}

static bool take_all(struct nvml *v)
{
    void *l = v->library;

    (void)symbol(l, "nvmlErrorString", &v->error);
    (void)symbol(l, "nvmlDeviceGetName", &v->name);
    (void)symbol(l, "nvmlDeviceGetUUID", &v->uuid);
    (void)symbol(l, "nvmlDeviceGetTotalEnergyConsumption", &v->energy);
    (void)symbol(l, "nvmlDeviceGetPowerUsage", &v->power);
    (void)symbol(l, "nvmlDeviceGetPowerManagementLimit", &v->limit);
    (void)symbol(l, "nvmlDeviceGetPowerManagementLimitConstraints", &v->limit_range);
    (void)symbol(l, "nvmlDeviceSetPowerManagementLimit", &v->set_limit);
    return symbol(l, "nvmlInit_v2", &v->init) && symbol(l, "nvmlShutdown", &v->shutdown) &&
           symbol(l, "nvmlDeviceGetCount_v2", &v->count) &&
           symbol(l, "nvmlDeviceGetHandleByIndex_v2", &v->handle);
}

int nvml_open(struct nvml *v, const char *path, struct err *e)
{
    struct nvml n = { .library = dlopen(path ? path : NVML_LIBRARY, RTLD_NOW | RTLD_LOCAL) };
    int rc = 0;

    *v = (struct nvml){ 0 };
    if (!n.library)
        return err_set(e, WATT_ENOENT, "%.100s is not there (no NVIDIA driver)",
                       path ? path : NVML_LIBRARY);
    if (!take_all(&n))
        rc = err_set(e, WATT_EFORMAT, "%.100s lacks functions", path ? path : NVML_LIBRARY);
    else if (n.init() != NVML_OK)
        rc = err_set(e, WATT_EIO, "the driver does not answer");
    if (rc < 0) {
        (void)dlclose(n.library);
        return rc;
    }
    *v = n;
    return 0;
}

void nvml_close(struct nvml *v)
{
    if (!v->library)
        return;
    (void)v->shutdown();
    (void)dlclose(v->library);
    *v = (struct nvml){ 0 };
}

const char *nvml_error(const struct nvml *v, int rc)
{
    const char *text = v->error ? v->error(rc) : NULL;

    return text ? text : "NVML failed";
}

unsigned nvml_count(const struct nvml *v)
{
    unsigned n = 0;

    if (v->count(&n) != NVML_OK)
        return 0;
    return n < NVML_MAX_GPUS ? n : NVML_MAX_GPUS;
}
