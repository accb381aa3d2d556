/* tok_trie.c: a byte trie over a vocabulary: children contiguous and sorted, built
 * breadth first from the sorted strings. Immutable once built. */
#include "base/mem.h"
#include "models/tok_impl.h"

/* Strings share long prefixes in a hostile file: this bounds the nodes. */
#define TRIE_MAX_NODES (1u << 27)

static inline int byte_at(const struct strtab *tab, uint32_t id, size_t depth)
{
    const struct sv s = strtab_at(tab, id);

    return depth < s.len ? (uint8_t)s.data[depth] : -1;
}

static int compare_from(const struct strtab *tab, uint32_t a, uint32_t b, size_t depth)
{
    const struct sv x = strtab_at(tab, a), y = strtab_at(tab, b);
    const size_t n = x.len < y.len ? x.len : y.len;
    const int c = n > depth ? memcmp(x.data + depth, y.data + depth, n - depth) : 0;

    if (c != 0)
        return c;
    if (x.len != y.len)
        return x.len < y.len ? -1 : 1;
    return a < b ? -1 : a > b;
}

static void insertion_sort(const struct strtab *tab, uint32_t *ids, size_t n, size_t depth)
{
    for (size_t i = 1; i < n; i++) {
        const uint32_t id = ids[i];
        size_t j = i;

        for (; j > 0 && compare_from(tab, id, ids[j - 1], depth) < 0; j--)
            ids[j] = ids[j - 1];
        ids[j] = id;
    }
}

static void swap_ids(uint32_t *a, uint32_t *b)
{
    const uint32_t x = *a;

    *a = *b;
    *b = x;
}

/* Three-way radix quicksort (Bentley and Sedgewick 1997). The stack holds ranges
 * still to sort; the larger part is pushed first, so that it stays shallow: each
 * byte position and each halving adds at most two entries. */
struct sort_range { uint32_t *ids; size_t n, depth; };

static bool sort_push(struct sort_range **stack, size_t *cap, size_t *n, uint32_t *ids,
                      size_t count, size_t depth)
{
    if (count < 2)
        return true;
    if (!tok_room(stack, cap, *n + 1, sizeof **stack))
        return false;
    (*stack)[(*n)++] = (struct sort_range){ ids, count, depth };
    return true;
}

static int sort_ids(const struct strtab *tab, uint32_t *ids, size_t n_ids, struct err *e)
{
    struct sort_range *stack = NULL;
    size_t cap = 0, n_stack = 0;
    bool ok = sort_push(&stack, &cap, &n_stack, ids, n_ids, 0);

    while (ok && n_stack > 0) {
        const struct sort_range r = stack[--n_stack];
        size_t lt = 0, gt = r.n, i = 0;
        int pivot;

        if (r.n <= 12) {
            insertion_sort(tab, r.ids, r.n, r.depth);
            continue;
        }
        pivot = byte_at(tab, r.ids[r.n / 2], r.depth);
        while (i < gt) {
            const int c = byte_at(tab, r.ids[i], r.depth);

            if (c < pivot)
                swap_ids(&r.ids[lt++], &r.ids[i++]);
            else if (c > pivot)
                swap_ids(&r.ids[--gt], &r.ids[i]);
            else
                i++;
        }
        ok = sort_push(&stack, &cap, &n_stack, r.ids, lt, r.depth) &&
             sort_push(&stack, &cap, &n_stack, r.ids + gt, r.n - gt, r.depth);
        if (ok && pivot >= 0)
            ok = sort_push(&stack, &cap, &n_stack, r.ids + lt, gt - lt, r.depth + 1);
        else if (ok)        /* equal strings: the lowest id first */
            for (size_t j = lt + 1; j < gt; j++)
                if (r.ids[j] < r.ids[lt])
                    swap_ids(&r.ids[j], &r.ids[lt]);
    }
    mem_free(stack);
    return ok ? 0 : tok_nomem(e);
}

struct build {
    struct trie         *t;
    const struct strtab *tab;
    const uint32_t      *ids;
    struct { uint32_t lo, hi; } *range;     /* of ids under each node */
    size_t               cap_nodes, cap_range;
};

/* Gives node its token and its children; depth is the length of its string. */
static bool expand(struct build *b, uint32_t node, size_t depth)
{
    const uint32_t hi = b->range[node].hi;
    uint32_t lo = b->range[node].lo;

    while (lo < hi && byte_at(b->tab, b->ids[lo], depth) < 0) {
        if (b->t->nodes[node].token == NO_TOKEN)
            b->t->nodes[node].token = b->ids[lo];
        lo++;
    }
    b->t->nodes[node].first = b->t->n;
    while (lo < hi) {
        const int c = byte_at(b->tab, b->ids[lo], depth);
        uint32_t end = lo + 1;

        while (end < hi && byte_at(b->tab, b->ids[end], depth) == c)
            end++;
        if (b->t->n >= TRIE_MAX_NODES ||
            !tok_room(&b->t->nodes, &b->cap_nodes, b->t->n + 1u, sizeof *b->t->nodes) ||
            !tok_room(&b->range, &b->cap_range, b->t->n + 1u, sizeof *b->range))
            return false;
        b->t->nodes[b->t->n] = (struct trie_node){ .token = NO_TOKEN, .byte = (uint8_t)c };
        b->range[b->t->n].lo = lo;
        b->range[b->t->n].hi = end;
        b->t->n++;
        b->t->nodes[node].n_children++;
        lo = end;
    }
    return true;
}

int trie_init(struct trie *t, const struct strtab *tab, uint32_t *ids, uint32_t n_ids,
              struct err *e)
{
    struct build b = { .t = t, .tab = tab, .ids = ids };
    size_t depth = 0;
    int rc = sort_ids(tab, ids, n_ids, e);

    if (rc < 0)
        return rc;
    *t = (struct trie){ 0 };
    rc = WATT_ENOMEM;
    if (!tok_room(&t->nodes, &b.cap_nodes, 1, sizeof *t->nodes) ||
        !tok_room(&b.range, &b.cap_range, 1, sizeof *b.range))
        goto done;
    t->nodes[0] = (struct trie_node){ .token = NO_TOKEN };
    t->n = 1;
    b.range[0].lo = 0;
    b.range[0].hi = n_ids;
    for (uint32_t level = 0, end = 1; level < end; depth++) {     /* breadth first */
        for (; level < end; level++)
            if (!expand(&b, level, depth))
                goto done;
        end = t->n;
    }
    t->nodes[0].token = NO_TOKEN;   /* the empty string is no match */
    for (uint32_t i = 0; i < t->nodes[0].n_children; i++)
        t->root[t->nodes[t->nodes[0].first + i].byte] = t->nodes[0].first + i;
    rc = 0;
done:
    mem_free(b.range);
    if (rc < 0) {
        trie_deinit(t);
        return tok_nomem(e);
    }
    return 0;
}

void trie_deinit(struct trie *t)
{
    mem_free(t->nodes);
    *t = (struct trie){ 0 };
}

uint32_t trie_longest(const struct trie *t, const char *s, size_t n, size_t *len)
{
    uint32_t node = 0, best = NO_TOKEN;

    for (size_t i = 0; i < n; i++) {
        node = trie_child(t, node, (uint8_t)s[i]);
        if (node == 0)
            break;
        if (t->nodes[node].token != NO_TOKEN) {
            best = t->nodes[node].token;
            *len = i + 1;
        }
    }
    return best;
}
