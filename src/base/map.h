/* map.h: a bounded hash map from byte strings to 64-bit values.
 *
 * Keys are copied and may hold any bytes. The hash is SipHash-1-3 (Aumasson and
 * Bernstein, "SipHash: a fast short-input PRF", 2012) under a key drawn once
 * per process, so that nobody can choose keys that collide. Iteration is in
 * order of first insertion and so the same in every run. One owner thread. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define MAP_MAX_ENTRIES ((size_t)1 << 28)
#define MAP_MAX_KEY_BYTES ((size_t)UINT32_MAX)

struct map_entry;

struct map {
    struct map_entry *entries;  /* in order of insertion, removed ones included */
    uint32_t *index;            /* open addressing; entry + 1, 0 when empty */
    char     *keys;             /* the bytes of all keys */
    size_t    n_used, cap_entries, n_index, n_key_bytes, cap_key_bytes;
    size_t    n, max_entries;   /* n: live entries */
};

/* max_entries in 1..MAP_MAX_ENTRIES, else WATT_EINVAL. Allocates nothing yet. */
int    map_init(struct map *m, size_t max_entries, struct err *e) MUST_CHECK;
void   map_deinit(struct map *m);
void   map_reset(struct map *m);    /* empty, keeps the memory */
/* Inserts, or replaces the value. WATT_ELIMIT when full, WATT_ENOMEM; the map
 * is then as before. */
int    map_put(struct map *m, struct sv key, uint64_t value, struct err *e) MUST_CHECK;
bool   map_get(const struct map *m, struct sv key, uint64_t *value);   /* value may be NULL */
bool   map_remove(struct map *m, struct sv key);    /* false: it was not there */
static inline size_t map_count(const struct map *m) { return m->n; }
/* Starts at *cursor = 0; false at the end. key and value may be NULL; *key
 * points into the map and is good until the next map_put. Removing the entry
 * just returned is fine. */
bool   map_next(const struct map *m, size_t *cursor, struct sv *key, uint64_t *value);

/* The hash itself, for other tables of hostile strings. */
uint64_t map_hash(const void *bytes, size_t n);
/* SipHash-1-3 with a given key, for tests. */
uint64_t map_siphash13(uint64_t k0, uint64_t k1, const void *bytes, size_t n);

#endif
