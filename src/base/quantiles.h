/* quantiles.h: how measured times are told: median, 90th and 99th of a hundred, mean, largest. */
#ifndef BASE_QUANTILES_H
#define BASE_QUANTILES_H

#include <stddef.h>

struct quantiles { double p50, p90, p99, mean, max; };

/* Of v[0..n), which is sorted on the way; zeros when n is 0. A quantile is the value of nearest rank
 * below: always one that was measured. */
struct quantiles quantiles_of(double *v, size_t n);

#endif
