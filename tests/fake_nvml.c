/* fake_nvml.c: a library with NVML's functions for tests: two GPUs, of which the second has no
 * counter of energy. $FAKE_NVML names a file with "MILLIJOULES MILLIWATTS", or "fail". */
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

static int index0, index1;

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
    return rc == 3 ? "Not Supported" : "Unknown Error";
}
