/* prefix.c: the tree of prefixes; see prefix.h.
 *
 * A use of a node marks that node only. Leaves stand in a heap by last use; when one goes, its
 * parent may become a leaf and is as fresh as the freshest of the two, so a chain that was used as
 * a whole goes from its end, and no use costs more than the depth of the heap. A node's children
 * are kept by last use, and the first few are compared token by token when no whole page matches. */
#include "infrastructure/prefix.h"

#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "infrastructure/spill.h"

#define NONE UINT32_MAX
#define ROOT 0u
#define CHILDREN_LOOKED_AT 64u
#define NODES_PER_SLOT 64u
#define MAX_NODES (1u << 26)

struct node {
    uint32_t parent, first_child, prev_sibling, next_sibling;
    uint32_t gen;                   /* counts the lives of this entry */
    uint32_t heap_at;               /* leaves: index in the heap, else NONE */
    uint32_t snapshot_at;           /* index in snapshots, or NONE */
    uint64_t used;                  /* tick of the last use */
    uint32_t hash_next;
    uint32_t page, slot;
    uint32_t n_tokens;              /* of its page that are filled */
    uint32_t end;                   /* position after its last token */
    struct prefix_space space;
    struct spill_key key;           /* of whole pages, with a spill folder */
};

struct prefix {
    struct kv     *kv;
    struct spill  *spill;
    struct node   *nodes;           /* [max_nodes + 1], 0 is the root */
    int32_t       *tokens;          /* [max_nodes + 1][page_tokens] */
    uint32_t      *buckets;         /* [n_buckets] */
    uint32_t       n_buckets;       /* a power of two */
    uint32_t       max_nodes, free_node;    /* free ones are chained by next_sibling */
    uint64_t       tick;
    uint32_t      *heap;            /* [max_nodes] leaves, the one that was used first on top */
    uint32_t       n_heap;
    uint32_t      *snapshots;       /* [n slots] nodes that hold one */
    uint32_t       page_tokens;
    bool           has_pages, has_slots;
    struct prefix_stats stats;
};

/* ---- open and close ---- */

static uint32_t default_nodes(uint32_t n_pages, uint32_t n_slots)
{
    const uint64_t slots = (uint64_t)n_slots * NODES_PER_SLOT;

    if (n_pages > 0)
        return n_pages < MAX_NODES ? n_pages : MAX_NODES;
    return slots < MAX_NODES ? (uint32_t)slots : MAX_NODES;
}

uint64_t prefix_bytes(const struct kv_spec *spec)
{
    const uint64_t n = (uint64_t)default_nodes(spec->n_pages, spec->n_slots) + 1;
    uint64_t n_buckets = 16;

    while (n_buckets < n - 1)
        n_buckets *= 2;
    return sizeof(struct prefix) + n * (sizeof(struct node) + 4 + (uint64_t)spec->page_tokens * 4) +
           n_buckets * 4 + ((uint64_t)spec->n_slots + 1) * 4;
}

static int allocate(struct prefix *p, struct err *e)
{
    const size_t n = (size_t)p->max_nodes + 1;

    for (p->n_buckets = 16; p->n_buckets < p->max_nodes;)
        p->n_buckets *= 2;
    p->nodes = mem_array(n, sizeof *p->nodes);
    p->tokens = mem_array(n, (size_t)p->page_tokens * sizeof *p->tokens);
    p->buckets = mem_array(p->n_buckets, sizeof *p->buckets);
    p->heap = mem_array(n, sizeof *p->heap);
    p->snapshots = mem_array((size_t)kv_n_slots(p->kv) + 1, sizeof *p->snapshots);
    if (!p->nodes || !p->tokens || !p->buckets || !p->heap || !p->snapshots)
        return err_set(e, WATT_ENOMEM, "prefix tree: %u nodes of %u tokens", p->max_nodes,
                       p->page_tokens);
    memset(p->buckets, 0xff, p->n_buckets * sizeof *p->buckets);
    p->nodes[ROOT] = (struct node){ .parent = NONE, .first_child = NONE, .page = KV_NO_PAGE,
                                    .slot = KV_NO_SLOT, .heap_at = NONE, .snapshot_at = NONE };
    p->free_node = NONE;
    for (uint32_t i = p->max_nodes; i > 0; i--) {
        p->nodes[i] = (struct node){ .next_sibling = p->free_node };
        p->free_node = i;
    }
    return 0;
}

int prefix_open(struct prefix **out, struct kv *kv, uint32_t max_nodes, struct spill *spill,
                struct err *e)
{
    struct prefix *p = mem_calloc(1, sizeof *p);
    int rc;

    if (!p)
        return err_set(e, WATT_ENOMEM, "prefix tree");
    p->kv = kv;
    p->spill = spill;
    p->page_tokens = kv_page_tokens(kv);
    p->has_pages = kv_page_bytes(kv) > 0;
    p->has_slots = kv_slot_bytes(kv) > 0;
    p->max_nodes = max_nodes ? max_nodes : default_nodes(kv_n_pages(kv), kv_n_slots(kv));
    if (p->max_nodes > MAX_NODES)
        p->max_nodes = MAX_NODES;
    rc = allocate(p, e);
    if (rc < 0) {
        mem_free(p->nodes);
        p->nodes = NULL;
        prefix_close(p);
        return rc;
    }
    *out = p;
    return 0;
}

static void remove_node(struct prefix *p, uint32_t i);

void prefix_close(struct prefix *p)
{
    if (!p)
        return;
    while (p->nodes && p->n_heap > 0)
        remove_node(p, p->heap[0]);
    mem_free(p->nodes);
    mem_free(p->tokens);
    mem_free(p->buckets);
    mem_free(p->heap);
    mem_free(p->snapshots);
    mem_free(p);
}

/* ---- nodes ---- */

static int32_t *tokens_of(const struct prefix *p, uint32_t i)
{
    return p->tokens + (size_t)i * p->page_tokens;
}

static uint32_t pages_of(const struct prefix *p, uint32_t n_tokens)
{
    return (n_tokens + p->page_tokens - 1) / p->page_tokens;
}

static bool same_space(const struct prefix_space *a, const struct prefix_space *b)
{
    return a->id[0] == b->id[0] && a->id[1] == b->id[1];
}

static uint32_t *bucket(const struct prefix *p, uint32_t parent, const struct prefix_space *space,
                        const int32_t *tokens)
{
    const uint64_t key[3] = { map_hash(tokens, p->page_tokens * sizeof *tokens), parent,
                              parent == ROOT ? space->id[0] : 0 };

    return &p->buckets[map_hash(key, sizeof key) & (p->n_buckets - 1)];
}

/* ---- leaves by last use ---- */

static void heap_set(struct prefix *p, uint32_t at, uint32_t i)
{
    p->heap[at] = i;
    p->nodes[i].heap_at = at;
}

static void heap_up(struct prefix *p, uint32_t at, uint32_t i)
{
    while (at > 0 && p->nodes[i].used < p->nodes[p->heap[(at - 1) / 2]].used) {
        heap_set(p, at, p->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_set(p, at, i);
}

static void heap_down(struct prefix *p, uint32_t at, uint32_t i)
{
    for (;;) {
        uint32_t least = 2 * at + 1;

        if (least >= p->n_heap)
            break;
        if (least + 1 < p->n_heap &&
            p->nodes[p->heap[least + 1]].used < p->nodes[p->heap[least]].used)
            least++;
        if (p->nodes[i].used <= p->nodes[p->heap[least]].used)
            break;
        heap_set(p, at, p->heap[least]);
        at = least;
    }
    heap_set(p, at, i);
}

static void heap_add(struct prefix *p, uint32_t i)
{
    heap_up(p, p->n_heap++, i);
}

static void heap_remove(struct prefix *p, uint32_t i)
{
    const uint32_t at = p->nodes[i].heap_at, last = p->heap[--p->n_heap];

    p->nodes[i].heap_at = NONE;
    if (last == i)
        return;
    heap_up(p, at, last);
    heap_down(p, p->nodes[last].heap_at, last);
}

static void sibling_unlink(struct prefix *p, uint32_t i)
{
    const struct node *n = &p->nodes[i];

    *(n->prev_sibling == NONE ? &p->nodes[n->parent].first_child
                              : &p->nodes[n->prev_sibling].next_sibling) = n->next_sibling;
    if (n->next_sibling != NONE)
        p->nodes[n->next_sibling].prev_sibling = n->prev_sibling;
}

static void sibling_front(struct prefix *p, uint32_t i)
{
    struct node *n = &p->nodes[i];
    uint32_t *first = &p->nodes[n->parent].first_child;

    n->prev_sibling = NONE;
    n->next_sibling = *first;
    if (*first != NONE)
        p->nodes[*first].prev_sibling = i;
    *first = i;
}

static void touch(struct prefix *p, uint32_t i)
{
    struct node *n = &p->nodes[i];

    n->used = ++p->tick;
    if (n->heap_at != NONE)
        heap_down(p, n->heap_at, i);
    sibling_unlink(p, i);
    sibling_front(p, i);
}

static void drop_snapshot(struct prefix *p, struct node *n)
{
    const uint32_t last = p->snapshots[--p->stats.n_snapshots];

    p->snapshots[n->snapshot_at] = last;
    p->nodes[last].snapshot_at = n->snapshot_at;
    n->snapshot_at = NONE;
    kv_slot_set_cached(p->kv, n->slot, false);
    kv_slot_drop(p->kv, n->slot);
    n->slot = KV_NO_SLOT;
}

/* The node's from now on is the caller's hold of the slot. */
static void keep_snapshot(struct prefix *p, uint32_t i, uint32_t slot)
{
    struct node *n = &p->nodes[i];

    n->slot = slot;
    kv_slot_set_cached(p->kv, slot, true);
    n->snapshot_at = p->stats.n_snapshots;
    p->snapshots[p->stats.n_snapshots++] = i;
}

/* Takes a leaf out. */
static void remove_node(struct prefix *p, uint32_t i)
{
    struct node *n = &p->nodes[i], *parent = &p->nodes[n->parent];

    CHECK(n->first_child == NONE);
    if (n->n_tokens == p->page_tokens) {
        uint32_t *at = bucket(p, n->parent, &n->space, tokens_of(p, i));

        while (*at != i)
            at = &p->nodes[*at].hash_next;
        *at = n->hash_next;
    }
    heap_remove(p, i);
    sibling_unlink(p, i);
    if (n->parent != ROOT && parent->first_child == NONE) {
        if (parent->used < n->used)
            parent->used = n->used;
        heap_add(p, n->parent);
    }
    if (n->slot != KV_NO_SLOT)
        drop_snapshot(p, n);
    if (n->page != KV_NO_PAGE) {
        kv_page_set_cached(p->kv, n->page, false);
        kv_page_drop(p->kv, n->page);
    }
    n->gen++;
    n->next_sibling = p->free_node;
    p->free_node = i;
    p->stats.n_nodes--;
}

/* Held by nothing but the tree. */
static bool is_lone(const struct prefix *p, const struct node *n)
{
    return (n->page == KV_NO_PAGE || kv_page_owners(p->kv, n->page) == 1) &&
           (n->slot == KV_NO_SLOT || kv_slot_owners(p->kv, n->slot) == 1);
}

/* A page that leaves memory goes to the folder. */
static void spill_node(struct prefix *p, uint32_t i)
{
    const struct node *n = &p->nodes[i];
    const uint8_t *pages = kv_pages(p->kv);

    if (p->spill && n->n_tokens == p->page_tokens && (p->has_pages || n->slot != KV_NO_SLOT))
        p->stats.n_spilled += spill_put(p->spill, &n->key, tokens_of(p, i), p->has_pages
                                        ? pages + n->page * kv_page_bytes(p->kv) : NULL,
                                        n->slot != KV_NO_SLOT ? kv_slot(p->kv, n->slot) : NULL);
}

/* Gives back the leaf that was used least recently and that nobody holds; `keep` stays. False
 * when there is none. */
static bool evict(struct prefix *p, uint32_t keep)
{
    for (uint32_t tries = p->n_heap; tries > 0; tries--) {
        const uint32_t i = p->heap[0];

        if (i != keep && is_lone(p, &p->nodes[i])) {
            spill_node(p, i);
            remove_node(p, i);
            p->stats.n_evicted++;
            return true;
        }
        touch(p, i);    /* in use */
    }
    return false;
}

/* ---- finding ---- */

struct found { uint32_t node, len; };

static uint32_t whole_child(const struct prefix *p, uint32_t parent,
                            const struct prefix_space *space, const int32_t *tokens)
{
    uint32_t i = *bucket(p, parent, space, tokens);

    for (; i != NONE; i = p->nodes[i].hash_next) {
        const struct node *n = &p->nodes[i];

        if (n->parent == parent && (parent != ROOT || same_space(&n->space, space)) &&
            memcmp(tokens_of(p, i), tokens, p->page_tokens * sizeof *tokens) == 0)
            return i;
    }
    return NONE;
}

static uint32_t common(const int32_t *a, const int32_t *b, uint32_t n)
{
    uint32_t i = 0;

    while (i < n && a[i] == b[i])
        i++;
    return i;
}

/* The child that shares most of tokens[0..n) in part; with fixed states, one whose snapshot lies
 * within. *len: how many. */
static uint32_t part_child(const struct prefix *p, uint32_t parent,
                           const struct prefix_space *space, const int32_t *tokens, uint32_t n,
                           uint32_t *len)
{
    uint32_t best = NONE, looked = 0;

    *len = 0;
    for (uint32_t i = p->nodes[parent].first_child; i != NONE && looked < CHILDREN_LOOKED_AT;
         i = p->nodes[i].next_sibling, looked++) {
        const struct node *c = &p->nodes[i];
        uint32_t same;

        if (!same_space(&c->space, space))
            continue;
        same = common(tokens_of(p, i), tokens, n < c->n_tokens ? n : c->n_tokens);
        if (p->has_slots && (c->slot == KV_NO_SLOT || same < c->n_tokens))
            continue;
        if (same > *len) {
            *len = same;
            best = i;
        }
    }
    return best;
}

/* The longest known beginning of tokens[0..n_max) that a sequence can go on from, looked for from
 * a node on; node ROOT: there is no longer one. *deepest: the last whole page's node. */
static struct found walk(const struct prefix *p, const struct prefix_space *space,
                         const int32_t *tokens, uint32_t node, uint32_t n_max, uint32_t *deepest)
{
    uint32_t at = p->nodes[node].end, part, len;
    struct found f = { ROOT, at };

    while (n_max - at >= p->page_tokens) {
        const uint32_t child = whole_child(p, node, space, tokens + at);

        if (child == NONE)
            break;
        node = child;
        at += p->page_tokens;
        if (!p->has_slots || p->nodes[node].slot != KV_NO_SLOT)
            f = (struct found){ node, at };
    }
    *deepest = node;
    part = at < n_max ? part_child(p, node, space, tokens + at, n_max - at, &len) : NONE;
    if (part != NONE)
        f = (struct found){ part, at + len };
    return f;
}

/* The node where a sequence stands: its cursor, or found again; NONE: its text is not there. */
static uint32_t stand(const struct prefix *p, const struct prefix_space *space,
                      const int32_t *tokens, uint32_t len, const struct prefix_at *at)
{
    uint32_t node = ROOT;

    if (at->node <= p->max_nodes && at->gen == p->nodes[at->node].gen &&
        p->nodes[at->node].end <= len)
        node = at->node;
    while (p->nodes[node].end < len) {
        node = whole_child(p, node, space, tokens + p->nodes[node].end);
        if (node == NONE)
            return NONE;
    }
    return node;
}

static void set_at(const struct prefix *p, struct prefix_at *at, uint32_t node)
{
    *at = (struct prefix_at){ node, p->nodes[node].gen };
}

/* q, which ends at a page's end or is empty, holds what was found beyond that. */
static void attach(struct prefix *p, struct kv_seq *q, const struct found *f)
{
    uint32_t node = f->node;

    if (p->has_pages) {
        const uint32_t had = q->n_pages;

        q->n_pages = pages_of(p, f->len);
        for (uint32_t i = q->n_pages; i > had; node = p->nodes[node].parent) {
            q->pages[--i] = p->nodes[node].page;
            kv_page_hold(p->kv, q->pages[i]);
        }
    }
    if (p->has_slots) {
        if (q->slot != KV_NO_SLOT)
            kv_slot_drop(p->kv, q->slot);
        q->slot = p->nodes[f->node].slot;
        kv_slot_hold(p->kv, q->slot);
    }
    q->len = f->len;
    touch(p, f->node);
}

static uint32_t add_node(struct prefix *p, uint32_t parent, const struct prefix_space *space,
                         const int32_t *tokens, uint32_t n);

/* Reads the page that follows a node back from the folder; NONE: it is not there, or there is no
 * room for it. */
static uint32_t bring_back(struct prefix *p, uint32_t parent, const struct prefix_space *space,
                           const int32_t *tokens)
{
    const struct spill_key key = spill_key(space->id, parent == ROOT ? NULL : &p->nodes[parent].key,
                                           tokens, p->page_tokens);
    uint32_t page = KV_NO_PAGE, slot = KV_NO_SLOT, i = NONE;
    bool has_slot = false;

    if (!spill_has(p->spill, &key))
        return NONE;
    while (p->has_pages && kv_n_free(p->kv) == 0)
        if (kv_n_cached(p->kv) == 0 || !evict(p, parent))
            return NONE;
    page = p->has_pages ? kv_page_get(p->kv) : KV_NO_PAGE;
    slot = p->has_slots ? kv_slot_get(p->kv) : KV_NO_SLOT;
    if (spill_get(p->spill, &key, tokens, p->has_pages
                  ? (uint8_t *)kv_pages(p->kv) + page * kv_page_bytes(p->kv) : NULL,
                  slot != KV_NO_SLOT ? kv_slot(p->kv, slot) : NULL, &has_slot))
        i = add_node(p, parent, space, tokens, p->page_tokens);
    if (i != NONE && p->has_pages) {
        p->nodes[i].page = page;
        kv_page_set_cached(p->kv, page, true);
    } else if (page != KV_NO_PAGE) {
        kv_page_drop(p->kv, page);
    }
    if (i != NONE && has_slot && slot != KV_NO_SLOT)
        keep_snapshot(p, i, slot);
    else if (slot != KV_NO_SLOT)
        kv_slot_drop(p->kv, slot);
    p->stats.n_returned += i != NONE;
    return i;
}

/* Brings back what follows the deepest known page; true when the tree is another one now: what
 * came may have taken the place of a page that had been found, or gone wrong after that. */
static bool bring_back_all(struct prefix *p, const struct prefix_space *space,
                           const int32_t *tokens, uint32_t deepest, uint32_t n_max)
{
    const uint64_t before = p->stats.n_returned + p->stats.n_evicted;

    while (p->spill && deepest != NONE && n_max - p->nodes[deepest].end >= p->page_tokens)
        deepest = bring_back(p, deepest, space, tokens + p->nodes[deepest].end);
    return p->stats.n_returned + p->stats.n_evicted != before;
}

uint32_t prefix_extend(struct prefix *p, const struct prefix_space *space, const int32_t *tokens,
                       uint32_t n_max, struct kv_seq *q, struct prefix_at *at)
{
    uint32_t node, deepest;
    struct found f;

    if (q->len % p->page_tokens != 0 || q->len >= n_max ||
        (p->has_pages && q->n_pages != pages_of(p, q->len)))
        return q->len;
    node = stand(p, space, tokens, q->len, at);
    if (node == NONE)
        return q->len;
    set_at(p, at, node);
    f = walk(p, space, tokens, node, n_max, &deepest);
    if (bring_back_all(p, space, tokens, deepest, n_max))
        f = walk(p, space, tokens, node, n_max, &deepest);
    if (f.node == ROOT)
        return q->len;
    p->stats.n_tokens_hit += f.len - q->len;
    attach(p, q, &f);
    set_at(p, at, f.len == p->nodes[f.node].end && f.len % p->page_tokens == 0
                      ? f.node : p->nodes[f.node].parent);
    return q->len;
}

uint32_t prefix_match(struct prefix *p, const struct prefix_space *space, const int32_t *tokens,
                      uint32_t n_max, struct kv_seq *q, struct prefix_at *at)
{
    CHECK(q->len == 0 && q->n_pages == 0 && q->slot == KV_NO_SLOT);
    p->stats.n_lookups++;
    p->stats.n_tokens_asked += n_max;
    *at = (struct prefix_at){ ROOT, p->nodes[ROOT].gen };
    return prefix_extend(p, space, tokens, n_max, q, at);
}

uint32_t prefix_peek(const struct prefix *p, const struct prefix_space *space,
                     const int32_t *tokens, uint32_t n_max)
{
    uint32_t deepest;
    const struct found f = walk(p, space, tokens, ROOT, n_max, &deepest);

    return f.node == ROOT ? 0 : f.len;
}

/* ---- entering ---- */

/* A child that begins with tokens[0..n) in a partly filled page. */
static uint32_t longer_child(const struct prefix *p, uint32_t parent,
                             const struct prefix_space *space, const int32_t *tokens, uint32_t n)
{
    uint32_t looked = 0;

    for (uint32_t i = p->nodes[parent].first_child; i != NONE && looked < CHILDREN_LOOKED_AT;
         i = p->nodes[i].next_sibling, looked++) {
        const struct node *c = &p->nodes[i];

        if (c->n_tokens >= n && (!p->has_slots || c->n_tokens == n) &&
            same_space(&c->space, space) && common(tokens_of(p, i), tokens, n) == n)
            return i;
    }
    return NONE;
}

/* Partly filled pages that a fuller one makes needless. */
static void remove_shorter(struct prefix *p, uint32_t i)
{
    uint32_t looked = 0, c = p->nodes[p->nodes[i].parent].first_child;

    while (c != NONE && looked++ < CHILDREN_LOOKED_AT) {
        const struct node *n = &p->nodes[c];
        const uint32_t next = n->next_sibling;

        if (c != i && n->n_tokens < p->nodes[i].n_tokens && n->slot == KV_NO_SLOT &&
            n->first_child == NONE && is_lone(p, n) && same_space(&n->space, &p->nodes[i].space) &&
            common(tokens_of(p, c), tokens_of(p, i), n->n_tokens) == n->n_tokens)
            remove_node(p, c);
        c = next;
    }
}

static uint32_t add_node(struct prefix *p, uint32_t parent, const struct prefix_space *space,
                         const int32_t *tokens, uint32_t n)
{
    uint32_t i = p->free_node;
    struct node *node;

    if (i == NONE) {
        if (!evict(p, parent))
            return NONE;
        i = p->free_node;
    }
    node = &p->nodes[i];
    p->free_node = node->next_sibling;
    *node = (struct node){ .parent = parent, .first_child = NONE, .page = KV_NO_PAGE,
                           .slot = KV_NO_SLOT, .n_tokens = n, .hash_next = NONE,
                           .gen = node->gen, .heap_at = NONE, .snapshot_at = NONE,
                           .used = ++p->tick, .end = p->nodes[parent].end + n,
                           .space = *space };
    memcpy(tokens_of(p, i), tokens, n * sizeof *tokens);
    if (n == p->page_tokens) {
        uint32_t *at = bucket(p, parent, space, tokens);

        node->hash_next = *at;
        *at = i;
        if (p->spill)
            node->key = spill_key(space->id, parent == ROOT ? NULL : &p->nodes[parent].key, tokens,
                                  n);
    }
    if (parent != ROOT && p->nodes[parent].first_child == NONE)
        heap_remove(p, parent);
    heap_add(p, i);
    sibling_front(p, i);
    p->stats.n_nodes++;
    return i;
}

/* The node of page i of q, found or made; NONE when there is no room. */
static uint32_t enter_page(struct prefix *p, uint32_t parent, const struct prefix_space *space,
                           const int32_t *tokens, uint32_t n, uint32_t *page)
{
    uint32_t i = n == p->page_tokens ? whole_child(p, parent, space, tokens)
                                     : longer_child(p, parent, space, tokens, n);

    if (i != NONE) {
        if (page && n == p->page_tokens && *page != p->nodes[i].page) {
            kv_page_hold(p->kv, p->nodes[i].page);
            kv_page_drop(p->kv, *page);
            *page = p->nodes[i].page;
        }
        return i;
    }
    if (page && kv_page_is_cached(p->kv, *page))
        return NONE;
    i = add_node(p, parent, space, tokens, n);
    if (i != NONE && page) {
        p->nodes[i].page = *page;
        kv_page_hold(p->kv, *page);
        kv_page_set_cached(p->kv, *page, true);
    }
    return i;
}

static void enter_snapshot(struct prefix *p, uint32_t i, const struct kv_seq *q)
{
    struct node *n = &p->nodes[i];
    uint32_t slot = n->end == q->len ? q->slot : KV_NO_SLOT;

    for (uint32_t k = 0; k < q->n_marks; k++)
        if (q->marks[k].len == n->end)
            slot = q->marks[k].slot;
    if (n->slot != KV_NO_SLOT || slot == KV_NO_SLOT || kv_slot_is_cached(p->kv, slot))
        return;
    kv_slot_hold(p->kv, slot);
    keep_snapshot(p, i, slot);
}

void prefix_insert(struct prefix *p, const struct prefix_space *space, const int32_t *tokens,
                   struct kv_seq *q, bool partial, struct prefix_at *at)
{
    uint32_t node = ROOT;

    if (at->node <= p->max_nodes && at->gen == p->nodes[at->node].gen &&
        p->nodes[at->node].end <= q->len)
        node = at->node;
    if (p->has_slots && node != ROOT)
        enter_snapshot(p, node, q);
    while (p->nodes[node].end < q->len) {
        const uint32_t done = p->nodes[node].end, left = q->len - done;
        const uint32_t n = left < p->page_tokens ? left : p->page_tokens;
        uint32_t i;

        if (n < p->page_tokens && !partial)
            break;
        i = enter_page(p, node, space, tokens + done, n,
                       p->has_pages ? &q->pages[done / p->page_tokens] : NULL);
        if (i == NONE)
            break;
        if (p->has_slots)
            enter_snapshot(p, i, q);
        touch(p, i);
        if (p->has_pages && !p->has_slots)
            remove_shorter(p, i);
        if (p->nodes[i].n_tokens < p->page_tokens || n < p->page_tokens)
            break;
        node = i;
    }
    set_at(p, at, node);
}

/* ---- room ---- */

/* Gives back the snapshot that was used least recently and that nobody holds. */
static bool evict_snapshot(struct prefix *p)
{
    struct node *best = NULL;

    for (uint32_t i = 0; i < p->stats.n_snapshots; i++) {
        struct node *n = &p->nodes[p->snapshots[i]];

        if (kv_slot_owners(p->kv, n->slot) == 1 && (!best || n->used < best->used))
            best = n;
    }
    if (best) {
        spill_node(p, (uint32_t)(best - p->nodes));
        drop_snapshot(p, best);
    }
    return best != NULL;
}

bool prefix_make_room(struct prefix *p, uint32_t n_pages, uint32_t n_slots)
{
    while (kv_n_free_slots(p->kv) < n_slots)
        if (kv_n_cached_slots(p->kv) == 0 || !evict_snapshot(p))
            return false;
    while (kv_n_free(p->kv) < n_pages)
        if (kv_n_cached(p->kv) == 0 || !evict(p, NONE))
            return false;
    return true;
}

void prefix_forget(struct prefix *p)
{
    struct spill *spill = p->spill;

    p->spill = NULL;        /* forgotten, not put away */
    while (evict(p, NONE))
        ;
    p->spill = spill;
    if (spill)
        spill_forget(spill);
}

void prefix_stats(const struct prefix *p, struct prefix_stats *st)
{
    *st = p->stats;
}

/* ---- checking ---- */

static void verify_node(const struct prefix *p, uint32_t i)
{
    const struct node *n = &p->nodes[i], *parent = &p->nodes[n->parent];

    CHECK(n->n_tokens > 0 && n->n_tokens <= p->page_tokens);
    CHECK(n->end == parent->end + n->n_tokens);
    CHECK(n->parent == ROOT || parent->n_tokens == p->page_tokens);
    CHECK(n->parent == ROOT || same_space(&n->space, &parent->space));
    CHECK((n->page != KV_NO_PAGE) == p->has_pages);
    CHECK(n->page == KV_NO_PAGE || kv_page_is_cached(p->kv, n->page));
    CHECK(n->slot == KV_NO_SLOT || kv_slot_is_cached(p->kv, n->slot));
    if (n->n_tokens == p->page_tokens)
        CHECK(whole_child(p, n->parent, &n->space, tokens_of(p, i)) == i);
    else
        CHECK(n->first_child == NONE);
}

/* A node and all below it. */
static void verify_below(const struct prefix *p, uint32_t i, uint32_t *n_nodes, uint32_t *n_lone)
{
    for (uint32_t c = p->nodes[i].first_child; c != NONE; c = p->nodes[c].next_sibling) {
        const struct node *n = &p->nodes[c];

        CHECK((*n_nodes)++ < p->max_nodes);
        verify_node(p, c);
        CHECK((n->heap_at != NONE) == (n->first_child == NONE));
        *n_lone += n->page != KV_NO_PAGE && kv_page_owners(p->kv, n->page) == 1;
        verify_below(p, c, n_nodes, n_lone);
    }
}

void prefix_verify(const struct prefix *p)
{
    uint32_t n_nodes = 0, n_lone = 0;

    verify_below(p, ROOT, &n_nodes, &n_lone);
    CHECK(n_nodes == p->stats.n_nodes && n_lone == kv_n_cached(p->kv));
    for (uint32_t i = 0; i < p->n_heap; i++) {
        CHECK(p->nodes[p->heap[i]].heap_at == i);
        CHECK(i == 0 || p->nodes[p->heap[(i - 1) / 2]].used <= p->nodes[p->heap[i]].used);
    }
    for (uint32_t i = 0; i < p->stats.n_snapshots; i++)
        CHECK(p->nodes[p->snapshots[i]].snapshot_at == i &&
              p->nodes[p->snapshots[i]].slot != KV_NO_SLOT);
}
