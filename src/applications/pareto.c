/* pareto.c: see pareto.h. */
#include "applications/pareto.h"

#include <math.h>

static bool beats(double ax, double ay, double bx, double by)
{
    return ax >= bx && ay >= by && (ax > bx || ay > by);
}

void pareto_front(const double *x, const double *y, size_t n, bool *keep)
{
    for (size_t i = 0; i < n; i++) {
        keep[i] = isfinite(x[i]) && isfinite(y[i]);
        for (size_t k = 0; keep[i] && k < n; k++)
            keep[i] = !isfinite(x[k]) || !isfinite(y[k]) ||
                      (!beats(x[k], y[k], x[i], y[i]) &&
                       !(k < i && x[k] == x[i] && y[k] == y[i]));
    }
}
