/* relative.h: relative position buckets of T5 (Raffel et al. 2020, arXiv 1910.10683), in both
 * directions: small distances have a bucket each, larger ones share buckets that widen with the
 * logarithm, and from max_distance on there is one. */
#ifndef CHIPS_RELATIVE_H
#define CHIPS_RELATIVE_H

#include <stddef.h>
#include <stdint.h>

#include "chips/kv_layout.h"
#include "chips/program.h"

/* Bucket of a key `distance` positions behind its query (negative: before it); n_buckets is a
 * multiple of 4, max_distance above n_buckets / 4. */
uint32_t relative_bucket(int64_t distance, uint32_t n_buckets, uint32_t max_distance);

/* The biases of one head by distance, with room for a tile of keys beyond either end. */
static inline size_t relative_stride(uint32_t max_distance)
{
    return 2 * ((size_t)max_distance + KV_LANES);
}

/* out: [n_heads][relative_stride()] from weights [n_buckets][n_heads]. */
void relative_table(float *out, const float *weights, const struct attn_args *a);

/* KV_LANES biases of a head: of keys at `distance` from the query and those that follow. */
static inline const float *relative_biases(const float *table, uint32_t head,
                                           uint32_t max_distance, int64_t distance)
{
    const int64_t last = max_distance, first = -last - KV_LANES;
    const int64_t at = distance < first ? first : distance > last ? last : distance;

    return table + head * relative_stride(max_distance) + (at - first);
}

#endif
