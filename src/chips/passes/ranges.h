/* ranges.h: best-fit allocation of ranges of one growing space, for memory plans: takes
 * and gives are replayed at planning time, and the peak is what the space must hold. */
#ifndef CHIPS_PASSES_RANGES_H
#define CHIPS_PASSES_RANGES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct range { uint64_t offset, size; };

struct ranges {
    struct range *free;     /* in order of offset, never touching each other */
    size_t   n_free, cap;
    uint64_t end, peak;     /* everything from end on is free */
};

/* At most max_live ranges are held at once. WATT_ENOMEM. */
int      ranges_init(struct ranges *r, size_t max_live, struct err *e) MUST_CHECK;
void     ranges_deinit(struct ranges *r);
/* Sizes must be given back as they were taken; size 0 is fine. The smallest free range
 * that holds it, or the end. */
uint64_t ranges_take(struct ranges *r, uint64_t size);
void     ranges_give(struct ranges *r, uint64_t offset, uint64_t size);

#endif
