/* eval_stats.h: how sure a measured share is. */
#ifndef APPLICATIONS_EVAL_STATS_H
#define APPLICATIONS_EVAL_STATS_H

#include <stddef.h>
#include <stdint.h>

struct interval { double low, high; };

/* 95 % of a share of k in n (Wilson 1927: right at the ends and for small n too). n 0: 0 to 1. */
struct interval eval_wilson(uint64_t k, uint64_t n);

/* 95 % of the mean of v[0..n), n > 0, by `rounds` draws with replacement (Efron 1979: percentiles).
 * Of differences in pairs it is the interval of their mean. The seed decides the bits. */
struct interval eval_bootstrap(const double *v, size_t n, unsigned rounds, uint64_t seed);

#define EVAL_BOOTSTRAP_ROUNDS 2000u

#endif
