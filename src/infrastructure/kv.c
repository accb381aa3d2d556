/* kv.c: pages and slots of sequences; see kv.h. Free ones form a stack, so the page that was
 * touched last (and is still in the caches) is given out first. */
#include "infrastructure/kv.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "chips/kv_layout.h"

struct kv {
    struct kv_spec spec;
    uint64_t  pages_bytes, slots_bytes;
    uint8_t  *pages;
    float    *slots;
    uint32_t *owners;           /* [n_pages] */
    uint32_t *slot_owners;      /* [n_slots] */
    uint32_t *free_pages;       /* stack of n_free_pages */
    uint32_t *free_slots;
    uint32_t  n_free_pages, n_free_slots;
    uint8_t  *cached_pages;     /* [n_pages] 1: the cache is among the owners */
    uint8_t  *cached_slots;     /* [n_slots] */
    uint32_t  n_lone_pages, n_lone_slots;   /* whose only owner is the cache */
    uint64_t  slot_stride;      /* floats from one slot to the next: whole cache lines */
};

static int sizes(struct kv *kv, struct err *e)
{
    const struct kv_spec *s = &kv->spec;

    kv->slot_stride = (s->slot_floats + 15) / 16 * 16;
    if (kv->spec.page_tokens == 0)
        kv->spec.page_tokens = KV_PAGE_TOKENS;
    if ((s->page_bytes == 0) != (s->n_pages == 0) || (s->slot_floats == 0) != (s->n_slots == 0) ||
        s->page_bytes % 64 != 0)
        return err_set(e, WATT_EINVAL, "kv: %u pages of %" PRIu64 " bytes, %u slots of %" PRIu64
                       " numbers", s->n_pages, s->page_bytes, s->n_slots, s->slot_floats);
    if (!mul_u64(s->page_bytes, s->n_pages, &kv->pages_bytes) ||
        !mul_u64(kv->slot_stride * 4, s->n_slots, &kv->slots_bytes) ||
        kv->pages_bytes > (UINT64_C(1) << 46) || kv->slots_bytes > (UINT64_C(1) << 46))
        return err_set(e, WATT_ELIMIT, "kv: %u pages of %" PRIu64 " bytes exceed 2^46 bytes",
                       s->n_pages, s->page_bytes);
    return 0;
}

static int allocate(struct kv *kv, struct err *e)
{
    const struct kv_spec *s = &kv->spec;

    kv->owners = mem_calloc((size_t)s->n_pages + 1, sizeof *kv->owners);
    kv->slot_owners = mem_calloc((size_t)s->n_slots + 1, sizeof *kv->slot_owners);
    kv->free_pages = mem_array((size_t)s->n_pages + 1, sizeof *kv->free_pages);
    kv->free_slots = mem_array((size_t)s->n_slots + 1, sizeof *kv->free_slots);
    if (kv->pages_bytes)
        kv->pages = mem_map((size_t)kv->pages_bytes);
    if (kv->slots_bytes)
        kv->slots = mem_map((size_t)kv->slots_bytes);
    kv->cached_pages = mem_calloc((size_t)s->n_pages + 1, 1);
    kv->cached_slots = mem_calloc((size_t)s->n_slots + 1, 1);
    if (!kv->owners || !kv->slot_owners || !kv->cached_pages || !kv->cached_slots || !kv->free_pages || !kv->free_slots ||
        (kv->pages_bytes && !kv->pages) || (kv->slots_bytes && !kv->slots))
        return err_set(e, WATT_ENOMEM, "kv: %" PRIu64 " bytes of pages and %" PRIu64
                       " of fixed state", kv->pages_bytes, kv->slots_bytes);
    for (uint32_t i = s->n_pages; i-- > 0;)
        kv->free_pages[kv->n_free_pages++] = i;
    for (uint32_t i = s->n_slots; i-- > 0;)
        kv->free_slots[kv->n_free_slots++] = i;
    return 0;
}

int kv_open(struct kv **out, const struct kv_spec *spec, struct err *e)
{
    struct kv *kv = mem_calloc(1, sizeof *kv);
    int rc;

    if (!kv)
        return err_set(e, WATT_ENOMEM, "kv: header");
    kv->spec = *spec;
    rc = sizes(kv, e);
    if (rc == 0)
        rc = allocate(kv, e);
    if (rc < 0) {
        kv_close(kv);
        return rc;
    }
    *out = kv;
    return 0;
}

int kv_lock(struct kv *kv, struct err *e)
{
    int rc = mem_lock(kv->pages, (size_t)kv->pages_bytes, "keys and values", e);

    return rc < 0 ? rc : mem_lock(kv->slots, (size_t)kv->slots_bytes, "fixed state", e);
}

void kv_close(struct kv *kv)
{
    if (!kv)
        return;
    mem_unmap(kv->pages, (size_t)kv->pages_bytes);
    mem_unmap(kv->slots, (size_t)kv->slots_bytes);
    mem_free(kv->owners);
    mem_free(kv->slot_owners);
    mem_free(kv->cached_pages);
    mem_free(kv->cached_slots);
    mem_free(kv->free_pages);
    mem_free(kv->free_slots);
    mem_free(kv);
}

uint64_t kv_bytes(const struct kv *kv) { return kv->pages_bytes + kv->slots_bytes; }

uint64_t kv_slots_bytes(const struct kv_spec *spec)
{
    return (spec->slot_floats + 15) / 16 * 64 * spec->n_slots;
}

/* ---- pages ---- */

void *kv_pages(const struct kv *kv) { return kv->pages; }
uint64_t kv_page_bytes(const struct kv *kv) { return kv->spec.page_bytes; }
uint32_t kv_page_tokens(const struct kv *kv) { return kv->spec.page_tokens; }
uint32_t kv_n_pages(const struct kv *kv) { return kv->spec.n_pages; }
uint32_t kv_n_free(const struct kv *kv) { return kv->n_free_pages; }

uint32_t kv_page_get(struct kv *kv)
{
    uint32_t page;

    if (kv->n_free_pages == 0)
        return KV_NO_PAGE;
    page = kv->free_pages[--kv->n_free_pages];
    CHECK(kv->owners[page] == 0);
    kv->owners[page] = 1;
    return page;
}

void kv_page_hold(struct kv *kv, uint32_t page)
{
    CHECK(page < kv->spec.n_pages && kv->owners[page] > 0);
    if (kv->cached_pages[page] && kv->owners[page] == 1)
        kv->n_lone_pages--;
    kv->owners[page]++;
}

void kv_page_drop(struct kv *kv, uint32_t page)
{
    CHECK(page < kv->spec.n_pages && kv->owners[page] > 0);
    if (--kv->owners[page] == 0)
        kv->free_pages[kv->n_free_pages++] = page;
    if (kv->cached_pages[page] && kv->owners[page] == 1)
        kv->n_lone_pages++;
}

uint32_t kv_page_owners(const struct kv *kv, uint32_t page)
{
    CHECK(page < kv->spec.n_pages);
    return kv->owners[page];
}

void kv_page_copy(struct kv *kv, uint32_t to, uint32_t from)
{
    CHECK(to < kv->spec.n_pages && from < kv->spec.n_pages && to != from);
    memcpy(kv->pages + to * kv->spec.page_bytes, kv->pages + from * kv->spec.page_bytes,
           (size_t)kv->spec.page_bytes);
}

uint32_t kv_page_own(struct kv *kv, uint32_t page)
{
    uint32_t own;

    if (kv_page_owners(kv, page) == 1)
        return page;
    own = kv_page_get(kv);
    if (own != KV_NO_PAGE) {
        kv_page_copy(kv, own, page);
        kv_page_drop(kv, page);
    }
    return own;
}

void kv_page_set_cached(struct kv *kv, uint32_t page, bool cached)
{
    CHECK(page < kv->spec.n_pages && kv->owners[page] > 0 && kv->cached_pages[page] != cached);
    kv->cached_pages[page] = cached;
    if (kv->owners[page] == 1)
        kv->n_lone_pages = cached ? kv->n_lone_pages + 1 : kv->n_lone_pages - 1;
}

bool kv_page_is_cached(const struct kv *kv, uint32_t page)
{
    CHECK(page < kv->spec.n_pages);
    return kv->cached_pages[page];
}

uint32_t kv_n_cached(const struct kv *kv) { return kv->n_lone_pages; }

/* ---- slots ---- */

uint64_t kv_slot_bytes(const struct kv *kv) { return kv->slot_stride * sizeof(float); }
uint32_t kv_n_slots(const struct kv *kv) { return kv->spec.n_slots; }
uint32_t kv_n_free_slots(const struct kv *kv) { return kv->n_free_slots; }

static uint32_t take_slot(struct kv *kv)
{
    uint32_t slot;

    if (kv->n_free_slots == 0)
        return KV_NO_SLOT;
    slot = kv->free_slots[--kv->n_free_slots];
    CHECK(kv->slot_owners[slot] == 0);
    kv->slot_owners[slot] = 1;
    return slot;
}

uint32_t kv_slot_get(struct kv *kv)
{
    const uint32_t slot = take_slot(kv);

    if (slot != KV_NO_SLOT)
        kv_slot_clear(kv, slot);
    return slot;
}

void kv_slot_hold(struct kv *kv, uint32_t slot)
{
    CHECK(slot < kv->spec.n_slots && kv->slot_owners[slot] > 0);
    if (kv->cached_slots[slot] && kv->slot_owners[slot] == 1)
        kv->n_lone_slots--;
    kv->slot_owners[slot]++;
}

void kv_slot_drop(struct kv *kv, uint32_t slot)
{
    CHECK(slot < kv->spec.n_slots && kv->slot_owners[slot] > 0);
    if (--kv->slot_owners[slot] == 0)
        kv->free_slots[kv->n_free_slots++] = slot;
    if (kv->cached_slots[slot] && kv->slot_owners[slot] == 1)
        kv->n_lone_slots++;
}

uint32_t kv_slot_owners(const struct kv *kv, uint32_t slot)
{
    CHECK(slot < kv->spec.n_slots);
    return kv->slot_owners[slot];
}

float *kv_slot(const struct kv *kv, uint32_t slot)
{
    CHECK(slot < kv->spec.n_slots);
    return kv->slots + slot * kv->slot_stride;
}

void kv_slot_clear(struct kv *kv, uint32_t slot)
{
    memset(kv_slot(kv, slot), 0, (size_t)kv->spec.slot_floats * sizeof(float));
}

void kv_slot_copy(struct kv *kv, uint32_t to, uint32_t from)
{
    CHECK(to != from);
    memcpy(kv_slot(kv, to), kv_slot(kv, from), (size_t)kv->spec.slot_floats * sizeof(float));
}

uint32_t kv_slot_own(struct kv *kv, uint32_t slot)
{
    uint32_t own;

    if (kv_slot_owners(kv, slot) == 1)
        return slot;
    own = take_slot(kv);
    if (own != KV_NO_SLOT) {
        kv_slot_copy(kv, own, slot);
        kv_slot_drop(kv, slot);
    }
    return own;
}

void kv_slot_set_cached(struct kv *kv, uint32_t slot, bool cached)
{
    CHECK(slot < kv->spec.n_slots && kv->slot_owners[slot] > 0 &&
          kv->cached_slots[slot] != cached);
    kv->cached_slots[slot] = cached;
    if (kv->slot_owners[slot] == 1)
        kv->n_lone_slots = cached ? kv->n_lone_slots + 1 : kv->n_lone_slots - 1;
}

bool kv_slot_is_cached(const struct kv *kv, uint32_t slot)
{
    CHECK(slot < kv->spec.n_slots);
    return kv->cached_slots[slot];
}

uint32_t kv_n_cached_slots(const struct kv *kv) { return kv->n_lone_slots; }
