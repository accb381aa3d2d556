/* eval_stats.c: see eval_stats.h. */
#include "applications/eval_stats.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/rng.h"

#define Z 1.959963985

struct interval eval_wilson(uint64_t k, uint64_t n)
{
    const double m = (double)n, p = n ? (double)k / m : 0, z2 = Z * Z;
    double middle, half;

    if (n == 0)
        return (struct interval){ 0, 1 };
    middle = (p + z2 / (2 * m)) / (1 + z2 / m);
    half = Z / (1 + z2 / m) * sqrt(p * (1 - p) / m + z2 / (4 * m * m));
    return (struct interval){ k == 0 ? 0 : fmax(0, middle - half), k == n ? 1 : fmin(1, middle + half) };
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

struct interval eval_bootstrap(const double *v, size_t n, unsigned rounds, uint64_t seed)
{
    double means[EVAL_BOOTSTRAP_ROUNDS];
    struct rng r;

    CHECK(n > 0 && n <= UINT32_MAX && rounds > 0 && rounds <= EVAL_BOOTSTRAP_ROUNDS);
    rng_init(&r, seed);
    for (unsigned i = 0; i < rounds; i++) {
        double sum = 0;

        for (size_t k = 0; k < n; k++)
            sum += v[rng_below(&r, (uint32_t)n)];
        means[i] = sum / (double)n;
    }
    qsort(means, rounds, sizeof *means, compare);
    return (struct interval){ means[(unsigned)(0.025 * rounds)], means[(unsigned)(0.975 * rounds)] };
}
