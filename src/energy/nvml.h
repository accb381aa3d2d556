/* nvml.h: NVIDIA's management library, loaded where it is there. Functions and their numbers are
 * those of NVML's reference manual; handles are opaque pointers, results ints. What a library lacks
 * is NULL here, but for those that nvml_open() asks for. */
#ifndef ENERGY_NVML_H
#define ENERGY_NVML_H

#include <stdbool.h>

#include "base/err.h"

#define NVML_OK            0
#define NVML_NO_PERMISSION 4
#define NVML_MAX_GPUS      32u
#define NVML_LIBRARY       "libnvidia-ml.so.1"

struct nvml {
    void *library;
    int (*init)(void);
    int (*shutdown)(void);
    int (*count)(unsigned *n);
    int (*handle)(unsigned index, void **device);
    /* optional */
    int (*name)(void *device, char *name, unsigned n);
    int (*uuid)(void *device, char *uuid, unsigned n);
    int (*energy)(void *device, unsigned long long *mj);
    int (*power)(void *device, unsigned *mw);
    int (*limit)(void *device, unsigned *mw);
    int (*limit_range)(void *device, unsigned *least_mw, unsigned *most_mw);
    int (*set_limit)(void *device, unsigned mw);
    const char *(*error)(int rc);
};

/* path NULL: NVML_LIBRARY. WATT_ENOENT: it is not there; WATT_EFORMAT: it lacks functions;
 * WATT_EIO: the driver does not answer. */
int  nvml_open(struct nvml *v, const char *path, struct err *e) MUST_CHECK;
void nvml_close(struct nvml *v);        /* a zeroed one is fine */
const char *nvml_error(const struct nvml *v, int rc);
/* How many GPUs, at most NVML_MAX_GPUS. */
unsigned nvml_count(const struct nvml *v);

#endif
