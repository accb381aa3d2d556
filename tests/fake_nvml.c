/* fake_nvml.c: a library with NVML's functions for tests: two GPUs, of which the second has no
 * counter of energy. $FAKE_NVML names a file with "MILLIJOULES MILLIWATTS", or "fail"; $FAKE_NVML_LIMITS
 * one with both limits in milliwatts, which may be set between 100 and 700 W where there is a third
 * number. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int nvmlInit_v2(void);
EXPORT int nvmlShutdown(void);
EXPORT int nvmlDeviceGetCount_v2(unsigned *n);
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **device);
EXPORT int nvmlDeviceGetName(void *device, char *name, unsigned n);
EXPORT int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *mj);
EXPORT int nvmlDeviceGetPowerUsage(void *device, unsigned *mw);
EXPORT const char *nvmlErrorString(int rc);

EXPORT int nvmlDeviceGetUUID(void *device, char *uuid, unsigned n);
EXPORT int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *mw);
EXPORT int nvmlDeviceGetPowerManagementLimitConstraints(void *device, unsigned *least,
                                                        unsigned *most);
EXPORT int nvmlDeviceSetPowerManagementLimit(void *device, unsigned mw);

static int index0, index1;

static int limits(unsigned mw[3])
{
    const char *path = getenv("FAKE_NVML_LIMITS");
    FILE *f = path ? fopen(path, "r") : NULL;
    const int n = f ? fscanf(f, "%u %u %u", &mw[0], &mw[1], &mw[2]) : 0;

    if (f)
        (void)fclose(f);
    return n;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned n)
{
    (void)snprintf(uuid, n, "GPU-0000-%d", device == &index1);
    return 0;
}

int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *mw)
{
    unsigned both[3];

    if (limits(both) < 2)
        return 3;
    *mw = both[device == &index1];
    return 0;
}

int nvmlDeviceGetPowerManagementLimitConstraints(void *device, unsigned *least, unsigned *most)
{
    unsigned both[3];

    (void)device;
    *least = 100000;
    *most = 700000;
    return limits(both) < 2 ? 3 : 0;
}

int nvmlDeviceSetPowerManagementLimit(void *device, unsigned mw)
{
    unsigned both[3];
    FILE *f;

    if (limits(both) < 3)
        return 4;
    if (mw < 100000 || mw > 700000)
        return 2;
    both[device == &index1] = mw;
    f = fopen(getenv("FAKE_NVML_LIMITS"), "w");
    if (!f)
        return 999;
    (void)fprintf(f, "%u %u 1\n", both[0], both[1]);
    return fclose(f) == 0 ? 0 : 999;
}

static int values(unsigned long long *mj, unsigned *mw)
{
    const char *path = getenv("FAKE_NVML");
    FILE *f = path ? fopen(path, "r") : NULL;
    int n = f ? fscanf(f, "%llu %u", mj, mw) : 0;

    if (f)
        (void)fclose(f);
    return n == 2 ? 0 : 999;
}

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }

int nvmlDeviceGetCount_v2(unsigned *n)
{
    *n = 2;
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **device)
{
    *device = i == 0 ? &index0 : &index1;
    return i < 2 ? 0 : 2;
}

int nvmlDeviceGetName(void *device, char *name, unsigned n)
{
    (void)snprintf(name, n, "Simulated GPU %d", device == &index1);
    return 0;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *mj)
{
    unsigned mw;

    return device == &index1 ? 3 : values(mj, &mw);
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *mw)
{
    unsigned long long mj;

    (void)device;
    return values(&mj, mw);
}

const char *nvmlErrorString(int rc)
{
    return rc == 3 ? "Not Supported" : rc == 4 ? "Insufficient Permissions" : "Unknown Error";
}
