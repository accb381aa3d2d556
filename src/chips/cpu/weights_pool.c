/* weights_pool.c: see weights_pool.h. */
#include "chips/cpu/weights_pool.h"

#include <string.h>

#include "base/mem.h"

struct entry {
    char        name[128];
    uint64_t    key;
    const void *data;
};

struct weights_region {
    struct weights_pool   *pool;
    struct weights_region *next;
    uint32_t refs, n;
    void    *data;              /* [bytes] mapped memory, or */
    struct weights_cached cached;
    uint64_t bytes;
    struct entry *entries;      /* [n] */
};

struct weights_pool {
    struct weights_region *regions;
    uint64_t bytes;
};

int weights_pool_open(struct weights_pool **out, struct err *e)
{
    *out = mem_calloc(1, sizeof **out);
    return *out ? 0 : err_set(e, WATT_ENOMEM, "shared weights");
}

void weights_pool_close(struct weights_pool *p)
{
    if (!p)
        return;
    CHECK(!p->regions);
    mem_free(p);
}

uint64_t weights_pool_bytes(const struct weights_pool *p)
{
    return p ? p->bytes : 0;
}

const void *weights_pool_find(const struct weights_pool *p, const char *name, uint64_t key,
                              struct weights_region **region)
{
    for (struct weights_region *r = p ? p->regions : NULL; r; r = r->next)
        for (uint32_t i = 0; i < r->n; i++)
            if (r->entries[i].key == key && strcmp(r->entries[i].name, name) == 0) {
                *region = r;
                return r->entries[i].data;
            }
    return NULL;
}

int weights_region_open(struct weights_region **out, struct weights_pool *p, uint32_t n, void *data,
                        uint64_t bytes, const struct weights_cached *cached, struct err *e)
{
    struct weights_region *r = mem_calloc(1, sizeof *r);

    if (r)
        r->entries = mem_calloc(n ? n : 1, sizeof *r->entries);
    if (!r || !r->entries) {
        mem_free(r);
        return err_set(e, WATT_ENOMEM, "shared weights");
    }
    r->pool = p;
    r->refs = 1;
    r->n = n;
    r->data = data;
    r->cached = *cached;
    r->bytes = bytes;
    r->next = p->regions;
    p->regions = r;
    p->bytes += bytes;
    *out = r;
    return 0;
}

void weights_region_name(struct weights_region *r, uint32_t i, const char *name, uint64_t key,
                         const void *data)
{
    struct entry *x = &r->entries[i];

    CHECK(i < r->n && strlen(name) < sizeof x->name);
    memcpy(x->name, name, strlen(name) + 1);
    x->key = key;
    x->data = data;
}

void weights_region_hold(struct weights_region *r)
{
    r->refs++;
}

void weights_region_drop(struct weights_region *r)
{
    struct weights_region **at = &r->pool->regions;

    if (--r->refs > 0)
        return;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    r->pool->bytes -= r->bytes;
    mem_unmap(r->data, (size_t)r->bytes);
    weights_cache_unmap(&r->cached);
    mem_free(r->entries);
    mem_free(r);
}
