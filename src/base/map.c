/* map.c: insertion-ordered hash map; see map.h.
 *
 * Entries stand in an array in order of insertion; a table of 32-bit numbers,
 * probed linearly and at most two thirds full, finds them. A removed entry
 * stays as a grave until the next rebuild, which also drops its key bytes. */
#include "base/map.h"

#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/mem.h"
#include "base/rng.h"

#define GRAVE UINT32_MAX     /* key_len of a removed entry */

struct map_entry {
    uint64_t value;
    uint64_t key_at;         /* offset in keys */
    uint32_t key_len;
    uint32_t hash;
};

static uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1]; v[1] = rotl(v[1], 13); v[1] ^= v[0]; v[0] = rotl(v[0], 32);
    v[2] += v[3]; v[3] = rotl(v[3], 16); v[3] ^= v[2];
    v[0] += v[3]; v[3] = rotl(v[3], 21); v[3] ^= v[0];
    v[2] += v[1]; v[1] = rotl(v[1], 17); v[1] ^= v[2]; v[2] = rotl(v[2], 32);
}

static uint64_t load_le(const unsigned char *p, size_t n)
{
    uint64_t x = 0;

    for (size_t i = 0; i < n; i++)
        x |= (uint64_t)p[i] << 8 * i;
    return x;
}

uint64_t map_siphash13(uint64_t k0, uint64_t k1, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint64_t v[4] = { k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du,
                      k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u };
    const uint64_t length = (uint64_t)n << 56;
    uint64_t m;

    for (; n >= 8; p += 8, n -= 8) {
        m = load_le(p, 8);
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    m = length | (n > 0 ? load_le(p, n) : 0);
    v[3] ^= m;
    sip_round(v);
    v[0] ^= m;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint64_t process_key[2];
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static void draw_key(void)
{
    if (getrandom(process_key, sizeof process_key, GRND_NONBLOCK) == (ssize_t)sizeof process_key)
        return;
    /* early at boot: guessable, but different in every process */
    process_key[0] = rng_mix((uint64_t)(uintptr_t)&process_key ^ (uint64_t)clock());
    process_key[1] = rng_mix(process_key[0] ^ (uint64_t)time(NULL));
}

uint64_t map_hash(const void *bytes, size_t n)
{
    (void)pthread_once(&key_once, draw_key);
    return map_siphash13(process_key[0], process_key[1], bytes, n);
}

int map_init(struct map *m, size_t max_entries, struct err *e)
{
    memset(m, 0, sizeof *m);
    if (max_entries == 0 || max_entries > MAP_MAX_ENTRIES)
        return err_set(e, WATT_EINVAL, "map: at most %zu entries is not in 1..%zu",
                       max_entries, MAP_MAX_ENTRIES);
    m->max_entries = max_entries;
    return 0;
}

void map_deinit(struct map *m)
{
    mem_free(m->entries);
    mem_free(m->index);
    mem_free(m->keys);
    memset(m, 0, sizeof *m);
}

void map_reset(struct map *m)
{
    if (m->index)
        memset(m->index, 0, m->n_index * sizeof *m->index);
    m->n = m->n_used = m->n_key_bytes = 0;
}

/* The slot of this key, or the empty one where it would go; n_index > 0. */
static size_t find_slot(const struct map *m, struct sv key, uint32_t hash)
{
    size_t mask = m->n_index - 1, slot = hash & mask;

    for (; m->index[slot] != 0; slot = (slot + 1) & mask) {
        const struct map_entry *x = &m->entries[m->index[slot] - 1];

        if (x->hash == hash && x->key_len == key.len && x->key_len != GRAVE &&
            (key.len == 0 || memcmp(m->keys + x->key_at, key.data, key.len) == 0))
            break;
    }
    return slot;
}

/* Entries without graves, keys without theirs, and an index for n_index slots.
 * Takes over the three new arrays. */
static void rebuild(struct map *m, struct map_entry *entries, char *keys, uint32_t *index,
                    size_t n_index)
{
    size_t used = 0, at = 0;

    for (size_t i = 0; i < m->n_used; i++) {
        struct map_entry x = m->entries[i];

        if (x.key_len == GRAVE)
            continue;
        if (x.key_len > 0)
            memcpy(keys + at, m->keys + x.key_at, x.key_len);
        x.key_at = at;
        at += x.key_len;
        entries[used++] = x;
    }
    for (size_t i = 0; i < used; i++) {
        size_t slot = entries[i].hash & (n_index - 1);

        while (index[slot] != 0)
            slot = (slot + 1) & (n_index - 1);
        index[slot] = (uint32_t)(i + 1);
    }
    mem_free(m->entries);
    mem_free(m->keys);
    mem_free(m->index);
    m->entries = entries;
    m->keys = keys;
    m->index = index;
    m->n_index = n_index;
    m->n_used = used;
    m->n_key_bytes = at;
}

/* Room for one more entry whose key has key_len bytes. */
static int make_room(struct map *m, size_t key_len, struct err *e)
{
    size_t need_keys, cap, cap_keys, n_index = 16;
    struct map_entry *entries;
    uint32_t *index;
    char *keys;

    if (!add_size(m->n_key_bytes, key_len, &need_keys))
        return err_set(e, WATT_ELIMIT, "map: keys are too long");
    if (m->n_used < m->cap_entries && need_keys <= m->cap_key_bytes)
        return 0;
    cap = m->n + m->n / 2 + 8;
    while (n_index * 2 < cap * 3)
        n_index *= 2;
    if (!add_size(need_keys, need_keys / 2 + 64, &cap_keys))
        return err_set(e, WATT_ELIMIT, "map: keys are too long");
    entries = mem_array(cap, sizeof *entries);
    keys = mem_alloc(cap_keys);
    index = mem_calloc(n_index, sizeof *index);
    if (!entries || !keys || !index) {
        mem_free(entries);
        mem_free(keys);
        mem_free(index);
        return err_set(e, WATT_ENOMEM, "map: out of memory at %zu entries", m->n);
    }
    rebuild(m, entries, keys, index, n_index);
    m->cap_entries = cap;
    m->cap_key_bytes = cap_keys;
    return 0;
}

int map_put(struct map *m, struct sv key, uint64_t value, struct err *e)
{
    uint32_t hash = (uint32_t)map_hash(key.data, key.len);
    struct map_entry *x;
    size_t slot;
    int rc;

    if (m->n_index > 0) {
        slot = find_slot(m, key, hash);
        if (m->index[slot] != 0) {
            m->entries[m->index[slot] - 1].value = value;
            return 0;
        }
    }
    if (m->n >= m->max_entries)
        return err_set(e, WATT_ELIMIT, "map: more than %zu entries", m->max_entries);
    if (key.len >= MAP_MAX_KEY_BYTES)
        return err_set(e, WATT_ELIMIT, "map: a key of %zu bytes", key.len);
    rc = make_room(m, key.len, e);
    if (rc < 0)
        return rc;
    slot = find_slot(m, key, hash);
    x = &m->entries[m->n_used];
    *x = (struct map_entry){ value, m->n_key_bytes, (uint32_t)key.len, hash };
    if (key.len > 0)
        memcpy(m->keys + m->n_key_bytes, key.data, key.len);
    m->n_key_bytes += key.len;
    m->index[slot] = (uint32_t)++m->n_used;
    m->n++;
    return 0;
}

bool map_get(const struct map *m, struct sv key, uint64_t *value)
{
    size_t slot;

    if (m->n == 0)
        return false;
    slot = find_slot(m, key, (uint32_t)map_hash(key.data, key.len));
    if (m->index[slot] == 0)
        return false;
    if (value)
        *value = m->entries[m->index[slot] - 1].value;
    return true;
}

bool map_remove(struct map *m, struct sv key)
{
    size_t slot;

    if (m->n == 0)
        return false;
    slot = find_slot(m, key, (uint32_t)map_hash(key.data, key.len));
    if (m->index[slot] == 0)
        return false;
    m->entries[m->index[slot] - 1].key_len = GRAVE;   /* the slot stays: probes go on past it */
    m->n--;
    return true;
}

bool map_next(const struct map *m, size_t *cursor, struct sv *key, uint64_t *value)
{
    while (*cursor < m->n_used) {
        const struct map_entry *x = &m->entries[(*cursor)++];

        if (x->key_len == GRAVE)
            continue;
        if (key)
            *key = (struct sv){ m->keys + x->key_at, x->key_len };
        if (value)
            *value = x->value;
        return true;
    }
    return false;
}
