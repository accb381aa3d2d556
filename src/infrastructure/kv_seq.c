/* kv_seq.c: sequences over pages and slots; see kv_seq.h. */
#include "infrastructure/kv_seq.h"

#include <string.h>

static bool has_fixed(const struct kv *kv)
{
    return kv_slot_bytes(kv) > 0;
}

static uint32_t pages_of(const struct kv *kv, uint64_t n_tokens)
{
    const uint32_t per = kv_page_tokens(kv);

    return kv_page_bytes(kv) == 0 ? 0 : (uint32_t)((n_tokens + per - 1) / per);
}

static void drop_slot(struct kv *kv, uint32_t *slot)
{
    if (*slot != KV_NO_SLOT)
        kv_slot_drop(kv, *slot);
    *slot = KV_NO_SLOT;
}

static void drop_pages(struct kv *kv, struct kv_seq *q, uint32_t n_keep)
{
    while (q->n_pages > n_keep)
        kv_page_drop(kv, q->pages[--q->n_pages]);
}

static void drop_marks(struct kv *kv, struct kv_seq *q, uint32_t n_keep)
{
    while (q->n_marks > n_keep)
        drop_slot(kv, &q->marks[--q->n_marks].slot);
}

void kv_seq_init(struct kv_seq *q, uint32_t *pages, struct kv_mark *marks, uint32_t max_marks)
{
    *q = (struct kv_seq){ .pages = pages, .slot = KV_NO_SLOT, .marks = marks,
                          .max_marks = marks ? max_marks : 0 };
}

void kv_seq_reset(struct kv *kv, struct kv_seq *q)
{
    drop_pages(kv, q, 0);
    drop_marks(kv, q, 0);
    drop_slot(kv, &q->slot);
    q->len = 0;
}

/* ---- growing ---- */

/* The page that the next position goes to, when it is there already and others hold it. */
static bool last_is_shared(const struct kv *kv, const struct kv_seq *q)
{
    return q->n_pages > 0 && q->len % kv_page_tokens(kv) != 0 &&
           kv_page_owners(kv, q->pages[q->n_pages - 1]) > 1;
}

static bool wants_slot(const struct kv *kv, const struct kv_seq *q)
{
    return has_fixed(kv) && (q->slot == KV_NO_SLOT || kv_slot_owners(kv, q->slot) > 1);
}

struct kv_need kv_seq_need(const struct kv *kv, const struct kv_seq *q, uint32_t n_tokens)
{
    const uint32_t n = pages_of(kv, (uint64_t)q->len + n_tokens);

    return (struct kv_need){
        .pages = (n > q->n_pages ? n - q->n_pages : 0) + (last_is_shared(kv, q) ? 1 : 0),
        .slots = wants_slot(kv, q) ? 1 : 0,
    };
}

bool kv_seq_reserve(struct kv *kv, struct kv_seq *q, uint32_t n_tokens)
{
    const struct kv_need need = kv_seq_need(kv, q, n_tokens);
    const uint32_t n = pages_of(kv, (uint64_t)q->len + n_tokens);

    if (need.pages > kv_n_free(kv) || need.slots > kv_n_free_slots(kv))
        return false;
    if (last_is_shared(kv, q))
        q->pages[q->n_pages - 1] = kv_page_own(kv, q->pages[q->n_pages - 1]);
    while (q->n_pages < n)
        q->pages[q->n_pages++] = kv_page_get(kv);
    if (wants_slot(kv, q))
        q->slot = q->slot == KV_NO_SLOT ? kv_slot_get(kv) : kv_slot_own(kv, q->slot);
    return true;
}

void kv_seq_advance(struct kv_seq *q, uint32_t n_tokens)
{
    q->len += n_tokens;
}

/* ---- going back ---- */

/* Marks at positions up to n. */
static uint32_t marks_until(const struct kv_seq *q, uint32_t n)
{
    uint32_t k = q->n_marks;

    while (k > 0 && q->marks[k - 1].len > n)
        k--;
    return k;
}

uint32_t kv_seq_reach(const struct kv *kv, const struct kv_seq *q, uint32_t n)
{
    const uint32_t k = marks_until(q, n);

    if (n >= q->len)
        return q->len;
    if (!has_fixed(kv))
        return n;
    return k > 0 ? q->marks[k - 1].len : 0;
}

/* The state after n positions, which are in reach. */
static uint32_t slot_at(const struct kv_seq *q, uint32_t n)
{
    if (n == q->len)
        return q->slot;
    return n == 0 ? KV_NO_SLOT : q->marks[marks_until(q, n) - 1].slot;
}

bool kv_seq_truncate(struct kv *kv, struct kv_seq *q, uint32_t n)
{
    if (n > q->len || kv_seq_reach(kv, q, n) != n)
        return false;
    if (has_fixed(kv) && n < q->len) {
        const uint32_t slot = slot_at(q, n);

        if (slot != KV_NO_SLOT)
            kv_slot_hold(kv, slot);
        drop_slot(kv, &q->slot);
        q->slot = slot;
    }
    drop_marks(kv, q, marks_until(q, n));
    drop_pages(kv, q, pages_of(kv, n));
    q->len = n;
    return true;
}

void kv_seq_mark(struct kv *kv, struct kv_seq *q)
{
    if (!has_fixed(kv) || q->len == 0 || q->max_marks == 0)
        return;
    if (q->n_marks > 0 && q->marks[q->n_marks - 1].len == q->len)
        return;
    if (q->n_marks == q->max_marks) {
        kv_slot_drop(kv, q->marks[0].slot);
        memmove(q->marks, q->marks + 1, --q->n_marks * sizeof *q->marks);
    }
    kv_slot_hold(kv, q->slot);
    q->marks[q->n_marks++] = (struct kv_mark){ q->len, q->slot };
}

bool kv_seq_fork(struct kv *kv, struct kv_seq *to, const struct kv_seq *from, uint32_t n)
{
    const uint32_t n_marks = marks_until(from, n), n_pages = pages_of(kv, n);
    uint32_t first;

    CHECK(to != from);
    if (n > from->len || kv_seq_reach(kv, from, n) != n)
        return false;
    kv_seq_reset(kv, to);
    for (; to->n_pages < n_pages; to->n_pages++) {
        to->pages[to->n_pages] = from->pages[to->n_pages];
        kv_page_hold(kv, to->pages[to->n_pages]);
    }
    to->slot = has_fixed(kv) ? slot_at(from, n) : KV_NO_SLOT;
    if (to->slot != KV_NO_SLOT)
        kv_slot_hold(kv, to->slot);
    first = n_marks > to->max_marks ? n_marks - to->max_marks : 0;
    for (uint32_t i = first; i < n_marks; i++) {
        to->marks[to->n_marks++] = from->marks[i];
        kv_slot_hold(kv, from->marks[i].slot);
    }
    to->len = n;
    return true;
}
