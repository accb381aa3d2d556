/* cpu_time.h: the processor time of this process, which a loaded machine does not lengthen as it does
 * the time on a clock. */
#ifndef TESTS_CPU_TIME_H
#define TESTS_CPU_TIME_H

#include <time.h>

static inline double cpu_seconds(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#endif
