/* weights_pool.h: packed weights that executors of one file share.
 *
 * A file may be opened as several programs (answers and embeddings); their matrices are the same
 * bytes. Each executor that opens with a pool takes what it finds there, packs the rest, and leaves
 * that in the pool as a region of its own. A region stays until the last executor that reads any of
 * it is closed.
 *
 * One thread at a time. Weights are not written once they are here. */
#ifndef CHIPS_CPU_WEIGHTS_POOL_H
#define CHIPS_CPU_WEIGHTS_POOL_H

#include <stdint.h>

#include "base/err.h"
#include "chips/cpu/weights_cache.h"

struct weights_pool;
struct weights_region;

/* WATT_ENOMEM. */
int  weights_pool_open(struct weights_pool **out, struct err *e) MUST_CHECK;
/* After every executor that used it. NULL is fine. */
void weights_pool_close(struct weights_pool *p);
uint64_t weights_pool_bytes(const struct weights_pool *p);      /* of all regions; NULL: 0 */

/* The packed bytes of a weight; NULL: not there, or p is NULL. key: of its file and its layout.
 * *region: where they lie, to be held as long as they are read. */
const void *weights_pool_find(const struct weights_pool *p, const char *name, uint64_t key,
                              struct weights_region **region);

/* A new region of n weights, held once, for bytes that are mapped memory or, in its place, a cached
 * file; takes over both. WATT_ENOMEM: nothing was taken over. */
int  weights_region_open(struct weights_region **out, struct weights_pool *p, uint32_t n,
                         void *data, uint64_t bytes, const struct weights_cached *cached,
                         struct err *e) MUST_CHECK;
/* The i-th of its weights. */
void weights_region_name(struct weights_region *r, uint32_t i, const char *name, uint64_t key,
                         const void *data);
void weights_region_hold(struct weights_region *r);
void weights_region_drop(struct weights_region *r);

#endif
