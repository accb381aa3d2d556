/* quantiles.c: see quantiles.h. */
#include "base/quantiles.h"

#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double rank(const double *v, size_t n, double q)
{
    return v[(size_t)(q * (double)(n - 1))];
}

struct quantiles quantiles_of(double *v, size_t n)
{
    struct quantiles q = { 0, 0, 0, 0, 0 };

    if (n == 0)
        return q;
    qsort(v, n, sizeof *v, by_value);
    for (size_t i = 0; i < n; i++)
        q.mean += v[i] / (double)n;
    q.p50 = rank(v, n, 0.5);
    q.p90 = rank(v, n, 0.9);
    q.p99 = rank(v, n, 0.99);
    q.max = v[n - 1];
    return q;
}
