/* clock.h: time, through a door that tests can replace.
 *
 * Monotonic nanoseconds for durations, wall-clock for dates. A test installs
 * its own source before threads start and takes it away after they ended. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

struct clock_source {
    uint64_t (*mono_ns)(void *ctx);
    int64_t  (*wall_ns)(void *ctx);   /* since 1970-01-01T00:00:00Z */
    void      *ctx;
};

uint64_t clock_mono_ns(void);
int64_t  clock_wall_ns(void);
/* NULL: the system's clocks. Not thread-safe. */
void clock_install(const struct clock_source *source);

static inline double clock_seconds(uint64_t ns) { return (double)ns * 1e-9; }

#endif
