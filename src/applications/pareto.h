/* pareto.h: the points that no other point beats. */
#ifndef APPLICATIONS_PARETO_H
#define APPLICATIONS_PARETO_H

#include <stdbool.h>
#include <stddef.h>

/* keep[i]: no other point has both x and y at least as large and one of them larger; of equal
 * points the first is kept. Points that are not finite are not. */
void pareto_front(const double *x, const double *y, size_t n, bool *keep);

#endif
