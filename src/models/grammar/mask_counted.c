/* mask_counted.c: masks inside of counted text (grammar_impl.h), from one walk for all counts.
 *
 * A walk over the vocabulary's tree from a kind of a block as if it had no least and no most count tells of every
 * token how many characters it takes. After i of n characters a token then fits when
 *  - it ends in the block: its count and what must still come from there on are at most n - i;
 *  - it left the block, or can leave it only after so many more: that is at most n - i, and at least what is
 *    still missing of the least count.
 * So a mask is a set by count and a part of two lists. */
#include <string.h>

#include "base/mem.h"
#include "models/grammar/mask_impl.h"

#define N_SETS    TRIE_MAX_PLAIN
#define MIN_SET   1024u     /* fewer tokens are quicker as a list */

/* Things by rising count. */
struct by_count {
    uint32_t *items;
    uint32_t *counts;
    uint32_t  n, cap;
};

struct mask_profile {
    uint64_t       *sets;       /* [N_SETS][n_words]: tokens that end in the block and need at most 1, 2, …
                                 * characters; NULL: few, and all in `stay` */
    struct by_count stay;       /* those that need more than N_SETS */
    struct by_count left, exits;
    bool            with_exits;     /* else `exits` is empty: nothing lies below where the rule ends */
};

/* A walk's place: in the block, or in states outside that frames hold. */
struct step {
    uint32_t kind;      /* STATE_NONE: outside */
    uint32_t count;
    uint32_t base;      /* inside of a character: the kind before it, to which it leads; else STATE_NONE */
    uint64_t loop;      /* kinds of characters that lead back to kind, or to base */
};

struct profiling {
    struct grammar_masks       *m;
    struct gss                 *s;
    const struct grammar_block *b;
    struct mask_profile        *p;
    struct step                *steps;      /* [max_depth + 1] */
};

static void list_close(struct by_count *l)
{
    mem_free(l->items);
    mem_free(l->counts);
}

void mask_profile_close(struct mask_profile *p)
{
    if (!p)
        return;
    mem_free(p->sets);
    list_close(&p->stay);
    list_close(&p->left);
    list_close(&p->exits);
    mem_free(p);
}

static bool put(struct by_count *l, uint32_t item, uint32_t count)
{
    if (l->n == l->cap) {
        const uint32_t cap = l->cap ? l->cap * 2 : 64;
        uint32_t *items = mem_grow(l->items, cap, sizeof *items);
        uint32_t *counts;

        if (!items)
            return false;
        l->items = items;
        counts = mem_grow(l->counts, cap, sizeof *counts);
        if (!counts)
            return false;
        l->counts = counts;
        l->cap = cap;
    }
    l->items[l->n] = item;
    l->counts[l->n++] = count;
    return true;
}

/* Sorts by count and keeps the order of equals. */
static bool sort(struct by_count *l)
{
    struct by_count to = { .n = l->n, .cap = l->n };
    uint32_t *at, most = 0;

    for (uint32_t i = 0; i < l->n; i++)
        most = l->counts[i] > most ? l->counts[i] : most;
    if (most == 0)
        return true;
    at = mem_calloc((size_t)most + 2, sizeof *at);
    to.items = mem_array(l->n, sizeof *to.items);
    to.counts = mem_array(l->n, sizeof *to.counts);
    if (!at || !to.items || !to.counts) {
        mem_free(at);
        list_close(&to);
        return false;
    }
    for (uint32_t i = 0; i < l->n; i++)
        at[l->counts[i] + 1]++;
    for (uint32_t i = 0; i < most; i++)
        at[i + 1] += at[i];
    for (uint32_t i = 0; i < l->n; i++) {
        const uint32_t k = at[l->counts[i]]++;

        to.items[k] = l->items[i];
        to.counts[k] = l->counts[i];
    }
    mem_free(at);
    list_close(l);
    *l = to;
    return true;
}

/* How many of a list have a count of at most `most`. */
static uint32_t up_to(const struct by_count *l, uint32_t most)
{
    uint32_t lo = 0, hi = l->n;

    while (lo < hi) {
        const uint32_t mid = (lo + hi) / 2;

        if (l->counts[mid] <= most)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* ---- the walk ---- */

static bool put_place(struct profiling *w, uint32_t place, uint32_t count)
{
    return !w->p->with_exits || put(&w->p->exits, place, count);
}

/* Tokens order[from..to). */
static bool put_tokens(struct profiling *w, struct by_count *l, uint32_t from, uint32_t to, uint32_t count)
{
    for (; from < to; from++)
        if (!put(l, (uint32_t)w->m->t->order[from], count))
            return false;
    return true;
}

static void set_token(struct profiling *w, uint32_t token, uint32_t need)
{
    w->p->sets[(need - 1) * w->m->t->n_words + token / 64] |= (uint64_t)1 << token % 64;
}

/* Sets instead of the list so far of those that need few characters. */
static bool begin_sets(struct profiling *w)
{
    struct by_count *l = &w->p->stay;
    uint32_t n = 0;

    w->p->sets = mem_calloc(N_SETS * (size_t)w->m->t->n_words, sizeof *w->p->sets);
    if (!w->p->sets)
        return false;
    for (uint32_t i = 0; i < l->n; i++)
        if (l->counts[i] <= N_SETS) {
            set_token(w, l->items[i], l->counts[i]);
        } else {
            l->items[n] = l->items[i];
            l->counts[n++] = l->counts[i];
        }
    l->n = n;
    return true;
}

/* A token that ends in the block and needs so many characters. */
static bool put_stay(struct profiling *w, uint32_t token, uint32_t need)
{
    if (!w->p->sets && w->p->stay.n >= MIN_SET && !begin_sets(w))
        return false;
    if (!w->p->sets || need > N_SETS)
        return put(&w->p->stay, token, need);
    set_token(w, token, need);
    return true;
}

/* A byte outside, or one that leaves (to `target`). *dead: nothing goes on there. */
static bool outside(struct profiling *w, uint32_t i, uint32_t target, bool *dead)
{
    const struct trie_node *node = &w->m->t->nodes[i];
    struct frame *after = &w->m->frames[node->depth];
    struct gss *s = w->s;

    if (target == STATE_NONE) {
        if (!mask_step(w->m, s, &w->m->frames[node->depth - 1], after, node->byte))
            return false;
    } else {
        s->n_nodes = GSS_FIRST;
        s->n_edges = 0;
        gss_begin(s);
        gss_add(s, target, GSS_OPEN);
        gss_finish(s, w->m->g, s->n_nodes);
        if (s->failed || !mask_frame(w->m, s, 0, after))
            return false;
    }
    w->steps[node->depth] = (struct step){ STATE_NONE, w->steps[node->depth - 1].count, STATE_NONE, 0 };
    *dead = s->n_work == 0;
    if (*dead && !s->at_open)
        return true;
    if (!put_tokens(w, &w->p->left, node->first, node[1].first, w->steps[node->depth].count))
        return false;
    return !s->at_open || node->skip <= i + 1 ||
           put_place(w, i, w->steps[node->depth].count);
}

/* Before node i, which is over a character or goes on with it. */
static void find_loop(struct profiling *w, uint32_t i, const struct step *from, uint32_t kind, bool whole,
                      struct step *to)
{
    const uint8_t byte = w->m->t->nodes[i].byte;

    to->base = STATE_NONE;
    if (whole || (w->m->t->kinds[i] & TRIE_BLANK && !(from->loop & TRIE_BLANK)))
        ;       /* over, or it may lead elsewhere */
    else if (from->base != STATE_NONE && trie_goes_on(byte) && w->m->t->kinds[i] != UINT64_MAX)
        to->base = from->base;
    else if (from->base == STATE_NONE && byte >= 0xC2 && from->loop & TRIE_MULTI)
        to->base = from->kind;
    to->loop = to->base != STATE_NONE ? from->loop | TRIE_INSIDE : mask_kinds_counted(w->m, w->b, kind);
}

static bool inside(struct profiling *w, uint32_t i, struct step at, uint32_t v)
{
    const struct trie_node *node = &w->m->t->nodes[i];
    const bool whole = (v & ~BLOCK_VALUE) == BLOCK_ADVANCE;
    struct step *to = &w->steps[node->depth];

    to->kind = v & BLOCK_VALUE;
    to->count = at.count + whole;
    find_loop(w, i, &at, to->kind, whole, to);
    at = *to;
    if (whole && w->b->flags[at.kind] & KIND_ACCEPT && node->skip > i + 1 &&
        !put_place(w, i, at.count))
        return false;
    at.count += w->b->ahead[at.kind];
    if (w->b->flags[at.kind] & KIND_FIXED)
        return put_tokens(w, &w->p->left, node->first, node[1].first, at.count);
    for (uint32_t k = node->first; k < node[1].first; k++)
        if (!put_stay(w, (uint32_t)w->m->t->order[k], at.count))
            return false;
    return true;
}

/* Node i and all below it, whose characters all lead from `at` back there. */
static bool inside_pure(struct profiling *w, uint32_t i, struct step at)
{
    const struct token_trie *t = w->m->t;
    const uint32_t end = t->nodes[i].skip, kind = at.base != STATE_NONE ? at.base : at.kind;
    /* characters before node i, with the one that it goes on with */
    const uint32_t before = at.count + (at.base != STATE_NONE) - t->nodes[i].above;

    for (uint32_t k = t->nodes[i].first; k < t->nodes[end].first; k++) {
        const uint32_t need = before + t->chars[k] + w->b->ahead[kind];

        if (w->p->sets && need <= N_SETS)
            set_token(w, (uint32_t)t->order[k], need);
        else if (!put_stay(w, (uint32_t)t->order[k], need))
            return false;
    }
    for (uint32_t k = i; w->p->with_exits && w->b->flags[kind] & KIND_ACCEPT && k < end; k++) {
        const struct trie_node *node = &t->nodes[k];

        if (node->skip > k + 1 && !trie_goes_on(node[1].byte) &&
            !put_place(w, k, before + node->above + !trie_goes_on(node->byte)))
            return false;
    }
    return true;
}

/* The same, from states outside. 0: they must be walked; < 0: failed. */
static int outside_pure(struct profiling *w, uint32_t i, struct step at)
{
    const struct trie_node *nodes = w->m->t->nodes;
    uint32_t exits;
    const int rc = mask_pure(w->m, w->s, &w->m->frames[nodes[i].depth - 1], i, &exits);

    if (rc <= 0)
        return rc;
    if (!put_tokens(w, &w->p->left, nodes[i].first, nodes[nodes[i].skip].first, at.count))
        return -1;
    return !exits || nodes[i].skip == i + 1 || put_place(w, i | exits, at.count) ? 1 : -1;
}

static int pure(struct profiling *w, uint32_t i)
{
    const uint32_t above = w->m->t->nodes[i].depth - 1u;
    const struct step at = w->steps[above];
    const uint64_t kinds = w->m->t->kinds[i];

    if (at.kind == STATE_NONE)
        return kinds & ~w->m->frames[above].loop ? 0 : outside_pure(w, i, at);
    if (kinds & ~at.loop)
        return 0;
    return inside_pure(w, i, at) ? 1 : -1;
}

static bool walk(struct profiling *w, uint32_t from, uint32_t to)
{
    const struct grammar *g = w->m->g;
    const struct trie_node *nodes = w->m->t->nodes;

    for (uint32_t i = from; i < to;) {
        const struct trie_node *node = &nodes[i];
        const struct step at = w->steps[node->depth - 1];
        const int known = pure(w, i);
        uint32_t v = STATE_NONE;
        bool dead = false;

        if (known < 0)
            return false;
        if (known > 0) {
            i = node->skip;
            continue;
        }
        if (at.kind != STATE_NONE) {
            v = w->b->next[(size_t)at.kind * g->n_classes + g->classes[node->byte]];
            if (v == STATE_NONE) {
                i = node->skip;
                continue;
            }
            if ((v & ~BLOCK_VALUE) != BLOCK_LEAVE) {
                if (!inside(w, i, at, v))
                    return false;
                i++;
                continue;
            }
            v &= BLOCK_VALUE;
        }
        if (!outside(w, i, v, &dead))
            return false;
        i = dead ? node->skip : i + 1;
    }
    return true;
}

/* ---- what is kept of it ---- */

/* Does each plain character count as one and lead back, so that plain tokens are known without a walk? */
static bool takes_plain(const struct grammar *g, const struct grammar_block *b, uint32_t kind)
{
    const struct mask_block t = { g, b };
    uint32_t to;

    return !(b->flags[kind] & KIND_ACCEPT) && b->ahead[kind] == 0 &&
           mask_plain_step(mask_next_kind, &t, kind, &to) && to == (BLOCK_ADVANCE | kind);
}

/* Each set has what the ones before it have, and plain tokens that weren't walked. */
static void finish_sets(struct profiling *w, bool plain)
{
    const struct token_trie *t = w->m->t;
    const size_t n_words = t->n_words;
    uint64_t *sets = w->p->sets;

    for (size_t i = n_words; sets && i < N_SETS * n_words; i++)
        sets[i] |= sets[i - n_words];
    for (size_t i = 0; plain && i < N_SETS * n_words; i++)
        sets[i] |= t->plain[i];
}

static size_t profile_bytes(const struct mask_profile *p, size_t n_words)
{
    const size_t each = sizeof *p->stay.items + sizeof *p->stay.counts;

    return sizeof *p + (p->sets ? N_SETS * n_words * sizeof *p->sets : 0) +
           ((size_t)p->stay.cap + p->left.cap + p->exits.cap) * each;
}

static bool fill(struct profiling *w, uint32_t kind)
{
    const struct token_trie *t = w->m->t;
    const bool plain = takes_plain(w->m->g, w->b, kind);

    w->steps = mem_array((size_t)t->max_depth + 1, sizeof *w->steps);
    if (!w->steps)
        return false;
    w->steps[0] = (struct step){ kind, 0, STATE_NONE, mask_kinds_counted(w->m, w->b, kind) };
    w->s->n_nodes = GSS_FIRST;
    w->s->n_edges = 0;
    if ((plain && !begin_sets(w)) || !walk(w, plain ? t->rest : 0, plain ? t->end_rest : t->n_nodes))
        return false;
    finish_sets(w, plain);
    return sort(&w->p->stay) && sort(&w->p->left) && sort(&w->p->exits);
}

static struct mask_profile *profile_of(struct grammar_masks *m, const struct grammar_block *b,
                                       uint32_t kind, bool with_exits)
{
    struct mask_profile **known = &m->profiles[b->profile + kind];
    struct profiling w = { .m = m, .s = &m->stack, .b = b };
    bool ok;

    if (*known && ((*known)->with_exits || !with_exits))
        return *known;
    w.p = mem_calloc(1, sizeof *w.p);
    if (w.p)
        w.p->with_exits = with_exits;
    ok = w.p && fill(&w, kind);
    mem_free(w.steps);
    if (!ok) {
        mask_profile_close(w.p);
        return NULL;
    }
    mask_profile_close(*known);
    *known = w.p;
    m->bytes += profile_bytes(w.p, m->t->n_words);
    m->stats.n_walks++;
    return w.p;
}

/* ---- masks ---- */

bool mask_is_counted(const struct grammar *g, uint32_t state)
{
    const struct grammar_block *b;

    if (state < g->n_states)
        return false;
    b = grammar_block(g, state);
    return (state - b->first) % b->n_kinds < b->n_before;
}

static void set_tokens(uint64_t *bits, const struct by_count *l, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        bits[l->items[i] / 64] |= (uint64_t)1 << l->items[i] % 64;
}

bool mask_counted(struct grammar_masks *m, uint32_t state, bool with_exits, uint64_t *bits,
                  struct mask_exits *out)
{
    const struct grammar_block *b = grammar_block(m->g, state);
    const uint32_t layer = (state - b->first) / b->n_kinds, room = block_room(b, layer);
    const uint32_t missing = b->min > layer ? b->min - layer : 0;
    const uint32_t kind = (state - b->first) % b->n_kinds;
    const size_t n_words = m->t->n_words;
    const struct mask_profile *p = profile_of(m, b, kind, with_exits);
    uint32_t from, to;

    if (!p)
        return false;
    m->stats.n_hits++;
    if (p->sets && room) {
        const uint64_t *set = p->sets + ((room < N_SETS ? room : N_SETS) - 1) * n_words;

        for (size_t i = 0; i < n_words; i++)
            bits[i] |= set[i];
    }
    set_tokens(bits, &p->stay, 0, up_to(&p->stay, room));
    set_tokens(bits, &p->left, missing ? up_to(&p->left, missing - 1) : 0, up_to(&p->left, room));
    from = missing ? up_to(&p->exits, missing - 1) : 0;
    to = up_to(&p->exits, room);
    out->n = to > from ? to - from : 0;
    out->nodes = out->n ? p->exits.items + from : NULL;
    out->class[0] = b->twin + kind;
    out->class[1] = from;
    out->class[2] = to;
    return true;
}
