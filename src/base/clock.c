/* clock.c: system clocks behind a replaceable source; see clock.h. */
#include "base/clock.h"

#include <stddef.h>
#include <time.h>

static const struct clock_source *installed;

static int64_t read_ns(clockid_t id)
{
    struct timespec ts;

    (void)clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
    return installed ? installed->mono_ns(installed->ctx) : (uint64_t)read_ns(CLOCK_MONOTONIC);
}

int64_t clock_wall_ns(void)
{
    return installed ? installed->wall_ns(installed->ctx) : read_ns(CLOCK_REALTIME);
}

void clock_install(const struct clock_source *source)
{
    installed = source;
}
