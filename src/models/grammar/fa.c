/* fa.c: building finite automata and making them deterministic. */
#include "models/grammar/fa.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

#define GROW_FIRST 64u
#define MAX_MEMBERS ((size_t)1 << 21)   /* of all sets of a subset construction: bounds its memory */
#define MAX_WORK    ((uint64_t)1 << 29) /* edges looked at: bounds its time, to about a second */

/* ---- nfa ---- */

void nfa_init(struct nfa *a, uint32_t max_nodes)
{
    memset(a, 0, sizeof *a);
    a->max_nodes = max_nodes;
}

void nfa_deinit(struct nfa *a)
{
    mem_free(a->first);
    mem_free(a->edges);
    memset(a, 0, sizeof *a);
}

uint32_t nfa_node(struct nfa *a)
{
    if (a->failed)
        return 0;
    if (a->n_nodes == a->cap_nodes) {
        const uint32_t cap = a->cap_nodes ? a->cap_nodes * 2 : GROW_FIRST;
        uint32_t *p = a->n_nodes < a->max_nodes ? mem_grow(a->first, cap, sizeof *p) : NULL;

        if (!p) {
            a->failed = true;
            return 0;
        }
        a->first = p;
        a->cap_nodes = cap;
    }
    a->first[a->n_nodes] = FA_NONE;
    return a->n_nodes++;
}

static void add_edge(struct nfa *a, uint32_t from, uint32_t kind, uint32_t lo, uint32_t hi,
                     uint32_t to)
{
    if (a->failed)
        return;
    if (a->n_edges == a->cap_edges) {
        const uint32_t cap = a->cap_edges ? a->cap_edges * 2 : GROW_FIRST;
        struct nfa_edge *p = a->n_edges / 8 < a->max_nodes ? mem_grow(a->edges, cap, sizeof *p)
                                                           : NULL;

        if (!p) {
            a->failed = true;
            return;
        }
        a->edges = p;
        a->cap_edges = cap;
    }
    a->edges[a->n_edges] = (struct nfa_edge){ lo, hi, to, a->first[from], kind };
    a->first[from] = a->n_edges++;
}

void nfa_range(struct nfa *a, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    if (lo <= hi)
        add_edge(a, from, NFA_RANGE, lo, hi, to);
}

void nfa_empty(struct nfa *a, uint32_t from, uint32_t to)
{
    add_edge(a, from, NFA_EMPTY, 0, 0, to);
}

void nfa_assert(struct nfa *a, uint32_t from, enum nfa_kind kind, uint32_t to)
{
    add_edge(a, from, kind, 0, 0, to);
}

void nfa_bytes(struct nfa *a, uint32_t from, struct sv text, uint32_t to)
{
    if (text.len == 0)
        nfa_empty(a, from, to);
    for (size_t i = 0; i < text.len && !a->failed; i++) {
        const uint32_t c = (unsigned char)text.data[i];
        const uint32_t next = i + 1 == text.len ? to : nfa_node(a);

        nfa_range(a, from, c, c, next);
        from = next;
    }
}

void nfa_copy(struct nfa *a, const struct nfa *b, uint32_t from, uint32_t end, uint32_t *start,
              uint32_t to)
{
    uint32_t *map = mem_array(b->n_nodes ? b->n_nodes : 1, sizeof *map);
    uint32_t *todo = mem_array(b->n_nodes ? b->n_nodes : 1, sizeof *todo);
    uint32_t n = 0;

    *start = 0;
    if (!map || !todo) {
        a->failed = true;
        goto done;
    }
    memset(map, 0xFF, b->n_nodes * sizeof *map);
    map[end] = to;
    if (map[from] == FA_NONE)
        map[from] = nfa_node(a);
    *start = map[from];
    todo[n++] = from;
    /* `end` is copied too: it may have edges out, where the language goes on after it. */
    if (end != from)
        todo[n++] = end;
    while (n && !a->failed) {
        const uint32_t at = todo[--n];

        for (uint32_t i = b->first[at]; i != FA_NONE; i = b->edges[i].next) {
            const struct nfa_edge g = b->edges[i];

            if (map[g.to] == FA_NONE) {
                map[g.to] = nfa_node(a);
                todo[n++] = g.to;
            }
            add_edge(a, map[at], g.kind, g.lo, g.hi, map[g.to]);
        }
    }
done:
    mem_free(map);
    mem_free(todo);
}

int nfa_ok(const struct nfa *a, const char *what, struct err *e)
{
    if (!a->failed)
        return 0;
    if (a->n_nodes >= a->max_nodes || a->n_edges / 8 >= a->max_nodes)
        return err_set(e, WATT_ELIMIT, "%s: too complex (over %u states)", what, a->max_nodes);
    return err_set(e, WATT_ENOMEM, "%s: automaton", what);
}

/* ---- making it deterministic ---- */

/* Sets of nodes, each sorted, in one array; a state of the dfa is a set. */
struct subsets {
    const struct nfa *a;
    uint32_t  start, end;
    uint32_t *members;          /* of all sets */
    size_t    n_members, cap_members;
    size_t   *at;               /* [n + 1] where a set begins */
    uint32_t  n, cap;
    uint32_t *slots;            /* hash of sets: index + 1 */
    uint32_t  n_slots;
    uint32_t *mark, stamp;      /* [n_nodes] visited in this closure */
    uint32_t *set, n_set;       /* the closure being made [n_nodes] */
    struct dfa_edge *edges;     /* of the dfa */
    uint32_t  n_edges, cap_edges;
    struct dfa_state *states;   /* parallel to at */
    struct nfa_edge *out;       /* range edges of the current set, by their beginnings */
    uint32_t  n_out, cap_out;
    uint32_t *cuts, cap_cuts;
    uint32_t *open, cap_open;   /* of those the ones that a cut lies in */
    uint64_t  work;             /* edges looked at, of all sets */
};

static void subsets_deinit(struct subsets *s)
{
    mem_free(s->members);
    mem_free(s->at);
    mem_free(s->slots);
    mem_free(s->mark);
    mem_free(s->set);
    mem_free(s->edges);
    mem_free(s->states);
    mem_free(s->out);
    mem_free(s->cuts);
    mem_free(s->open);
}

static bool grow(void *pp, uint32_t *cap, uint64_t need, size_t size)
{
    void *p;
    uint64_t c = *cap ? *cap : GROW_FIRST;

    if (need <= *cap)
        return true;
    while (c < need)
        c *= 2;
    if (c > UINT32_MAX)
        return false;
    memcpy(&p, pp, sizeof p);
    p = mem_grow(p, c, size);
    if (!p)
        return false;
    memcpy(pp, &p, sizeof p);
    *cap = (uint32_t)c;
    return true;
}

static void mark_node(struct subsets *s, uint32_t node)
{
    if (s->mark[node] == s->stamp)
        return;
    s->mark[node] = s->stamp;
    s->set[s->n_set++] = node;
}

/* Follows the edges that consume nothing. */
static void close_set(struct subsets *s, bool at_start, bool at_end)
{
    for (uint32_t i = 0; i < s->n_set; i++) {
        for (uint32_t k = s->a->first[s->set[i]]; k != FA_NONE; k = s->a->edges[k].next) {
            const struct nfa_edge *g = &s->a->edges[k];

            s->work++;
            if (g->kind == NFA_EMPTY || (g->kind == NFA_AT_START && at_start) ||
                (g->kind == NFA_AT_END && at_end))
                mark_node(s, g->to);
        }
    }
}

static int by_value(const void *x, const void *y)
{
    const uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

    return (a > b) - (a < b);
}

static int by_beginning(const void *x, const void *y)
{
    const struct nfa_edge *a = x, *b = y;

    return (a->lo > b->lo) - (a->lo < b->lo);
}

static uint64_t hash_set(const uint32_t *v, size_t n, bool first)
{
    uint64_t h = first ? 0x9E3779B97F4A7C15u : 0;

    for (size_t i = 0; i < n; i++) {
        h = (h ^ v[i]) * 0xFF51AFD7ED558CCDu;
        h ^= h >> 32;
    }
    return h;
}

static bool rehash(struct subsets *s)
{
    const uint32_t n_slots = s->n_slots ? s->n_slots * 2 : 256;
    uint32_t *slots = mem_calloc(n_slots, sizeof *slots);

    if (!slots)
        return false;
    for (uint32_t i = 0; i < s->n; i++) {
        uint64_t h = hash_set(s->members + s->at[i], s->at[i + 1] - s->at[i], i == 0);

        while (slots[h & (n_slots - 1)])
            h++;
        slots[h & (n_slots - 1)] = i + 1;
    }
    mem_free(s->slots);
    s->slots = slots;
    s->n_slots = n_slots;
    return true;
}

/* The state of the set that mark_node gathered, new or known; FA_NONE: no memory. Only nodes
 * with edges that consume, assertions at the end, and `end` itself make a difference. */
static uint32_t intern_set(struct subsets *s, bool first)
{
    uint32_t n = 0;
    uint64_t h;
    bool accept = false;

    close_set(s, first, false);
    for (uint32_t i = 0; i < s->n_set; i++) {
        bool keep = s->set[i] == s->end;

        for (uint32_t k = s->a->first[s->set[i]]; k != FA_NONE && !keep; k = s->a->edges[k].next)
            keep = s->a->edges[k].kind == NFA_RANGE || s->a->edges[k].kind == NFA_AT_END;
        if (keep)
            s->set[n++] = s->set[i];
    }
    s->n_set = n;
    qsort(s->set, n, sizeof *s->set, by_value);
    h = hash_set(s->set, n, first);
    for (uint64_t at = h; s->n_slots && s->slots[at & (s->n_slots - 1)]; at++) {
        const uint32_t i = s->slots[at & (s->n_slots - 1)] - 1;

        /* the start state may follow AT_START edges, which no other may */
        if (s->at[i + 1] - s->at[i] == n && (i == 0) == first &&
            (n == 0 || memcmp(s->members + s->at[i], s->set, n * sizeof *s->set) == 0))
            return i;
    }
    if ((s->n + 1) * 2 > s->n_slots && !rehash(s))
        return FA_NONE;
    if (s->n + 2 > s->cap) {
        const uint32_t cap = s->cap ? s->cap * 2 : GROW_FIRST;
        size_t *at = mem_grow(s->at, cap, sizeof *at);
        struct dfa_state *states;

        if (!at)
            return FA_NONE;
        s->at = at;
        states = mem_grow(s->states, cap, sizeof *states);
        if (!states)
            return FA_NONE;
        s->states = states;
        s->cap = cap;
        if (s->n == 0)
            s->at[0] = 0;
    }
    if (s->n_members + n > s->cap_members) {
        size_t cap = s->cap_members ? s->cap_members : 1024;
        uint32_t *p;

        while (cap < s->n_members + n)
            cap *= 2;
        p = mem_grow(s->members, cap, sizeof *p);
        if (!p)
            return FA_NONE;
        s->members = p;
        s->cap_members = cap;
    }
    if (n)
        memcpy(s->members + s->n_members, s->set, n * sizeof *s->set);
    s->n_members += n;
    for (uint64_t at = h;; at++) {
        if (!s->slots[at & (s->n_slots - 1)]) {
            s->slots[at & (s->n_slots - 1)] = s->n + 1;
            break;
        }
    }
    close_set(s, first, true);
    for (uint32_t i = 0; i < s->n_set; i++)
        accept |= s->set[i] == s->end;
    s->states[s->n] = (struct dfa_state){ 0, 0, accept };
    s->at[s->n + 1] = s->n_members;
    return s->n++;
}

/* Edges of one set, cut where ranges begin or end; one target each. */
static bool expand_set(struct subsets *s, uint32_t state, uint32_t max_states)
{
    uint32_t n_cuts = 0, n_begun = 0, n_open = 0;
    const uint32_t first_edge = s->n_edges;

    s->n_out = 0;
    for (size_t i = s->at[state]; i < s->at[state + 1]; i++) {
        for (uint32_t k = s->a->first[s->members[i]]; k != FA_NONE; k = s->a->edges[k].next) {
            if (s->a->edges[k].kind != NFA_RANGE)
                continue;
            if (!grow(&s->out, &s->cap_out, (uint64_t)s->n_out + 1, sizeof *s->out))
                return false;
            s->out[s->n_out++] = s->a->edges[k];
        }
    }
    if (!grow(&s->cuts, &s->cap_cuts, 2 * (uint64_t)s->n_out + 1, sizeof *s->cuts) ||
        !grow(&s->open, &s->cap_open, (uint64_t)s->n_out + 1, sizeof *s->open))
        return false;
    if (s->n_out > 1)
        qsort(s->out, s->n_out, sizeof *s->out, by_beginning);
    s->work += 8 * (uint64_t)s->n_out;
    for (uint32_t i = 0; i < s->n_out; i++) {
        s->cuts[n_cuts++] = s->out[i].lo;
        s->cuts[n_cuts++] = s->out[i].hi + 1;
    }
    qsort(s->cuts, n_cuts, sizeof *s->cuts, by_value);
    for (uint32_t c = 0; c + 1 < n_cuts; c++) {
        const uint32_t lo = s->cuts[c], hi = s->cuts[c + 1] - 1;
        uint32_t to;

        if (s->cuts[c] == s->cuts[c + 1])
            continue;
        s->n_set = 0;
        s->stamp++;
        for (; n_begun < s->n_out && s->out[n_begun].lo <= lo; n_begun++)
            s->open[n_open++] = n_begun;
        s->work += n_open;
        for (uint32_t i = 0, n = n_open; i < n; i++) {
            const struct nfa_edge *g = &s->out[s->open[i]];

            if (i == 0)
                n_open = 0;
            if (lo > g->hi)
                continue;
            s->open[n_open++] = s->open[i];
            mark_node(s, g->to);
        }
        if (s->n_set == 0)
            continue;
        if (s->work > MAX_WORK)
            return true;
        to = intern_set(s, false);
        if (to == FA_NONE || s->n > max_states)
            return false;
        if (s->n_edges > first_edge && s->edges[s->n_edges - 1].to == to &&
            s->edges[s->n_edges - 1].hi + 1 == lo) {
            s->edges[s->n_edges - 1].hi = hi;
            continue;
        }
        if (!grow(&s->edges, &s->cap_edges, (uint64_t)s->n_edges + 1, sizeof *s->edges))
            return false;
        s->edges[s->n_edges++] = (struct dfa_edge){ lo, hi, to };
    }
    s->states[state].first = first_edge;
    s->states[state].n = s->n_edges - first_edge;
    return true;
}

/* Drops states that can't reach acceptance and numbers the rest anew. Takes states and edges
 * over. NULL: no memory. */
static struct dfa *trimmed(struct dfa_state *states, uint32_t n, struct dfa_edge *edges,
                           uint32_t n_edges)
{
    struct dfa *d = mem_calloc(1, sizeof *d);
    struct dfa_edge *none = edges ? NULL : mem_calloc(1, sizeof *none);     /* never NULL + 0 */
    uint32_t *back_first = mem_array((size_t)n + 1, sizeof *back_first);
    uint32_t *back = mem_array(n_edges ? n_edges : 1, sizeof *back);
    uint32_t *number = mem_array(n, sizeof *number), *todo = mem_array(n, sizeof *todo);
    uint32_t n_todo = 0, kept = 0, k_edges = 0;

    if (!d || !back_first || !back || !number || !todo || (!edges && !none)) {
        mem_free(none);
        mem_free(d);
        d = NULL;
        goto done;
    }
    memset(back_first, 0, ((size_t)n + 1) * sizeof *back_first);
    for (uint32_t i = 0; i < n_edges; i++)
        back_first[edges[i].to + 1]++;
    for (uint32_t i = 0; i < n; i++)
        back_first[i + 1] += back_first[i];
    for (uint32_t s = n; s-- > 0;)
        for (uint32_t k = 0; k < states[s].n; k++) {
            const uint32_t to = edges[states[s].first + k].to;

            back[back_first[to]++] = s;
        }
    for (uint32_t i = n; i > 0; i--)    /* the fill moved every start to its end */
        back_first[i] = back_first[i - 1];
    back_first[0] = 0;
    memset(number, 0xFF, n * sizeof *number);
    for (uint32_t i = 0; i < n; i++)
        if (states[i].accept) {
            number[i] = 0;
            todo[n_todo++] = i;
        }
    while (n_todo) {
        const uint32_t at = todo[--n_todo];

        for (uint32_t k = back_first[at]; k < back_first[at + 1]; k++)
            if (number[back[k]] == FA_NONE) {
                number[back[k]] = 0;
                todo[n_todo++] = back[k];
            }
    }
    number[0] = 0;
    for (uint32_t i = 0; i < n; i++)
        if (number[i] != FA_NONE)
            number[i] = kept++;
    for (uint32_t i = 0; i < n; i++) {
        const struct dfa_state s = states[i];
        uint32_t m = 0;

        if (number[i] == FA_NONE)
            continue;
        for (uint32_t k = 0; k < s.n; k++) {
            const struct dfa_edge g = edges[s.first + k];

            if (number[g.to] != FA_NONE)
                edges[k_edges + m++] = (struct dfa_edge){ g.lo, g.hi, number[g.to] };
        }
        states[number[i]] = (struct dfa_state){ k_edges, m, s.accept };
        k_edges += m;
    }
    d->states = states;
    d->edges = edges ? edges : none;
    d->n_states = kept;
    d->n_edges = k_edges;
done:
    mem_free(back_first);
    mem_free(back);
    mem_free(number);
    mem_free(todo);
    return d;
}

int dfa_from_nfa(struct dfa **out, const struct nfa *a, uint32_t start, uint32_t end,
                 uint32_t max_states, const char *what, struct err *e)
{
    struct subsets s = { .a = a, .start = start, .end = end };
    struct dfa *d;
    int rc = nfa_ok(a, what, e);

    if (rc < 0)
        return rc;
    s.mark = mem_calloc(a->n_nodes ? a->n_nodes : 1, sizeof *s.mark);
    s.set = mem_array(a->n_nodes ? a->n_nodes : 1, sizeof *s.set);
    if (!s.mark || !s.set)
        goto no_memory;
    s.stamp = 1;
    mark_node(&s, start);
    if (intern_set(&s, true) == FA_NONE)
        goto no_memory;
    for (uint32_t i = 0; i < s.n; i++) {
        const bool ok = expand_set(&s, i, max_states);

        if (ok && s.n_members <= MAX_MEMBERS && s.work <= MAX_WORK)
            continue;
        if (!ok && s.n <= max_states)
            goto no_memory;
        subsets_deinit(&s);
        return ok ? err_set(e, WATT_ELIMIT, "%s: too complex (its states overlap too much)", what)
                  : err_set(e, WATT_ELIMIT, "%s: too complex (over %u states)", what, max_states);
    }
    d = trimmed(s.states, s.n, s.edges, s.n_edges);
    if (!d)
        goto no_memory;
    s.states = NULL;
    s.edges = NULL;
    subsets_deinit(&s);
    *out = d;
    return 0;
no_memory:
    subsets_deinit(&s);
    return err_set(e, WATT_ENOMEM, "%s: automaton", what);
}

void dfa_close(struct dfa *d)
{
    if (!d)
        return;
    mem_free(d->states);
    mem_free(d->edges);
    mem_free(d);
}

/* ---- pairs of automata ---- */

struct pairs {
    const struct dfa *a, *b;
    uint32_t *pa, *pb;          /* [n] states; FA_NONE: left the automaton */
    uint32_t  n, cap_a, cap_b, max;
    uint32_t *slots, n_slots;
    struct dfa_edge  *edges;
    struct dfa_state *states;
    uint32_t  n_edges, cap_edges, cap_states;
};

static void pairs_deinit(struct pairs *p)
{
    mem_free(p->pa);
    mem_free(p->pb);
    mem_free(p->slots);
    mem_free(p->edges);
    mem_free(p->states);
}

static uint64_t hash_pair(uint32_t x, uint32_t y)
{
    uint64_t h = ((uint64_t)x << 32 | y) * 0x9E3779B97F4A7C15u;

    return h ^ h >> 29;
}

static uint32_t intern_pair(struct pairs *p, uint32_t x, uint32_t y)
{
    uint64_t at;

    if ((p->n + 1) * 2 > p->n_slots) {
        const uint32_t n_slots = p->n_slots ? p->n_slots * 2 : 256;
        uint32_t *slots = mem_calloc(n_slots, sizeof *slots);

        if (!slots)
            return FA_NONE;
        for (uint32_t i = 0; i < p->n; i++) {
            at = hash_pair(p->pa[i], p->pb[i]);
            while (slots[at & (n_slots - 1)])
                at++;
            slots[at & (n_slots - 1)] = i + 1;
        }
        mem_free(p->slots);
        p->slots = slots;
        p->n_slots = n_slots;
    }
    for (at = hash_pair(x, y); p->slots[at & (p->n_slots - 1)]; at++) {
        const uint32_t i = p->slots[at & (p->n_slots - 1)] - 1;

        if (p->pa[i] == x && p->pb[i] == y)
            return i;
    }
    if (!grow(&p->pa, &p->cap_a, (uint64_t)p->n + 1, sizeof *p->pa) ||
        !grow(&p->pb, &p->cap_b, (uint64_t)p->n + 1, sizeof *p->pb) ||
        !grow(&p->states, &p->cap_states, (uint64_t)p->n + 1, sizeof *p->states))
        return FA_NONE;
    p->slots[at & (p->n_slots - 1)] = p->n + 1;
    p->pa[p->n] = x;
    p->pb[p->n] = y;
    return p->n++;
}

static bool accepts(const struct dfa *d, uint32_t s)
{
    return s != FA_NONE && d->states[s].accept;
}

/* Walks both edge lists side by side; `op` says which pairs are worth having. */
static bool expand_pair(struct pairs *p, uint32_t i, enum dfa_op op)
{
    const uint32_t sa = p->pa[i], sb = p->pb[i];
    const struct dfa_edge *ea = sa == FA_NONE ? NULL : p->a->edges + p->a->states[sa].first;
    const struct dfa_edge *eb = sb == FA_NONE ? NULL : p->b->edges + p->b->states[sb].first;
    const uint32_t na = sa == FA_NONE ? 0 : p->a->states[sa].n;
    const uint32_t nb = sb == FA_NONE ? 0 : p->b->states[sb].n;
    uint32_t ka = 0, kb = 0;
    uint64_t at = 0;

    p->states[i].first = p->n_edges;
    for (;;) {
        uint32_t lo, hi, to, ta = FA_NONE, tb = FA_NONE;

        while (ka < na && ea[ka].hi < at)
            ka++;
        while (kb < nb && eb[kb].hi < at)
            kb++;
        if (ka == na && kb == nb)
            break;
        lo = ka < na ? (ea[ka].lo > at ? ea[ka].lo : (uint32_t)at) : FA_NONE;
        if (kb < nb && (eb[kb].lo > at ? eb[kb].lo : (uint32_t)at) < lo)
            lo = eb[kb].lo > at ? eb[kb].lo : (uint32_t)at;
        hi = FA_NONE;
        if (ka < na) {
            if (ea[ka].lo <= lo) {
                ta = ea[ka].to;
                hi = ea[ka].hi;
            } else {
                hi = ea[ka].lo - 1;
            }
        }
        if (kb < nb) {
            if (eb[kb].lo <= lo) {
                tb = eb[kb].to;
                hi = eb[kb].hi < hi ? eb[kb].hi : hi;
            } else if (eb[kb].lo - 1 < hi) {
                hi = eb[kb].lo - 1;
            }
        }
        at = (uint64_t)hi + 1;
        if ((op == DFA_AND && (ta == FA_NONE || tb == FA_NONE)) ||
            (op == DFA_MINUS && ta == FA_NONE))
            continue;
        to = intern_pair(p, ta, tb);
        if (to == FA_NONE || p->n > p->max)
            return false;
        if (p->n_edges > p->states[i].first && p->edges[p->n_edges - 1].to == to &&
            p->edges[p->n_edges - 1].hi + 1 == lo) {
            p->edges[p->n_edges - 1].hi = hi;
            continue;
        }
        if (!grow(&p->edges, &p->cap_edges, (uint64_t)p->n_edges + 1, sizeof *p->edges))
            return false;
        p->edges[p->n_edges++] = (struct dfa_edge){ lo, hi, to };
    }
    p->states[i].n = p->n_edges - p->states[i].first;
    return true;
}

int dfa_combine(struct dfa **out, const struct dfa *a, enum dfa_op op, const struct dfa *b,
                uint32_t max_states, const char *what, struct err *e)
{
    struct pairs p = { .a = a, .b = b, .max = max_states };
    struct dfa *d = NULL;
    bool ok = intern_pair(&p, 0, 0) != FA_NONE;

    for (uint32_t i = 0; ok && i < p.n; i++) {
        const bool x = accepts(a, p.pa[i]), y = accepts(b, p.pb[i]);

        ok = expand_pair(&p, i, op);
        p.states[i].accept = op == DFA_AND ? x && y : op == DFA_OR ? x || y : x && !y;
    }
    if (ok)
        d = trimmed(p.states, p.n, p.edges, p.n_edges);
    if (!d) {
        const bool many = p.n > max_states;

        pairs_deinit(&p);
        return many ? err_set(e, WATT_ELIMIT, "%s: too complex (over %u states)", what, max_states)
                    : err_set(e, WATT_ENOMEM, "%s: automaton", what);
    }
    p.states = NULL;
    p.edges = NULL;
    pairs_deinit(&p);
    *out = d;
    return 0;
}

bool dfa_is_empty(const struct dfa *d)
{
    return d->n_edges == 0 && !d->states[0].accept;
}

int dfa_overlap(const struct dfa *a, const struct dfa *b, uint32_t max_pairs, bool *yes,
                struct err *e)
{
    struct dfa *both;
    const int rc = dfa_combine(&both, a, DFA_AND, b, max_pairs, "overlap", e);

    if (rc < 0)
        return rc;
    *yes = !dfa_is_empty(both);
    dfa_close(both);
    return 0;
}

/* ---- ready-made languages ---- */

/* A chain, written down as it is: lengths of tens of thousands are common. */
int dfa_length(struct dfa **out, uint32_t min, uint32_t max, struct err *e)
{
    const uint32_t last = max == FA_NONE ? min : max;
    const size_t n = (size_t)last + 1;
    struct dfa *d = mem_calloc(1, sizeof *d);

    if (d) {
        d->states = mem_array(n, sizeof *d->states);
        d->edges = mem_array(2 * n, sizeof *d->edges);
    }
    if (!d || !d->states || !d->edges) {
        dfa_close(d);
        return err_set(e, WATT_ENOMEM, "length: automaton");
    }
    for (uint32_t i = 0; i <= last; i++) {
        const uint32_t to = i < last ? i + 1 : i;
        const bool goes_on = i < last || max == FA_NONE;

        d->states[i] = (struct dfa_state){ d->n_edges, goes_on ? 2 : 0, i >= min };
        if (!goes_on)
            continue;
        d->edges[d->n_edges++] = (struct dfa_edge){ 0, 0xD7FF, to };
        d->edges[d->n_edges++] = (struct dfa_edge){ 0xE000, FA_MAX_CHAR, to };
    }
    d->n_states = last + 1;
    *out = d;
    return 0;
}

int dfa_all(struct dfa **out, struct err *e)
{
    return dfa_length(out, 0, FA_NONE, e);
}

int dfa_literals(struct dfa **out, const struct sv *texts, size_t n, uint32_t max_states,
                 struct err *e)
{
    struct nfa a;
    uint32_t start, end;
    int rc;

    nfa_init(&a, 4 * max_states + 8);
    start = nfa_node(&a);
    end = nfa_node(&a);
    for (size_t i = 0; i < n && !a.failed; i++) {
        uint32_t at = start, cp;

        for (size_t k = 0; k < texts[i].len;) {
            const uint32_t next = nfa_node(&a);

            k += utf8_decode(texts[i].data + k, texts[i].len - k, &cp, NULL);
            nfa_range(&a, at, cp, cp, next);
            at = next;
        }
        nfa_empty(&a, at, end);
    }
    rc = dfa_from_nfa(out, &a, start, end, max_states, "literals", e);
    nfa_deinit(&a);
    return rc;
}

uint32_t dfa_next(const struct dfa *d, uint32_t state, uint32_t symbol)
{
    const struct dfa_edge *g = d->edges + d->states[state].first;
    uint32_t lo = 0, hi = d->states[state].n;

    while (lo < hi) {
        const uint32_t mid = (lo + hi) / 2;

        if (g[mid].hi < symbol)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < d->states[state].n && g[lo].lo <= symbol ? g[lo].to : FA_NONE;
}

bool dfa_matches(const struct dfa *d, struct sv text)
{
    uint32_t state = 0, cp;

    for (size_t i = 0; i < text.len;) {
        i += utf8_decode(text.data + i, text.len - i, &cp, NULL);
        state = dfa_next(d, state, cp);
        if (state == FA_NONE)
            return false;
    }
    return d->states[state].accept;
}
