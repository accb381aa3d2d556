/* cfg_counted.c: finding counted repetition in automata over characters, and its blocks. */
#include "models/grammar/cfg_counted.h"

#include <string.h>

#include "base/mem.h"

#define MIN_LENGTH  4u      /* shorter chains are as well written out */
#define MAX_TARGETS 8u      /* a state with more ways on is in no chain */

/* ---- chains of an automaton over characters ---- */

struct search {
    const struct dfa     *d;
    uint32_t             *next;     /* the state that most characters lead to, FA_NONE */
    uint32_t             *prev;     /* whose next this is, by the same characters as on from here */
    struct counted_place *place;
    bool                  json;
};

/* Where most characters go from s, unless that is s itself. */
static uint32_t main_target(const struct dfa *d, uint32_t s)
{
    const struct dfa_state *st = &d->states[s];
    uint32_t to[MAX_TARGETS], n = 0, best = 0;
    uint64_t width[MAX_TARGETS];

    for (uint32_t k = st->first; k < st->first + st->n; k++) {
        const struct dfa_edge *x = &d->edges[k];
        uint32_t i = 0;

        while (i < n && to[i] != x->to)
            i++;
        if (i == MAX_TARGETS)
            return FA_NONE;
        if (i == n) {
            to[n] = x->to;
            width[n++] = 0;
        }
        width[i] += (uint64_t)x->hi - x->lo + 1;
        best = width[i] > width[best] ? i : best;
    }
    return n && to[best] != s ? to[best] : FA_NONE;
}

/* The edge at k or behind it that does, or doesn't, lead to `to`. */
static uint32_t edge_from(const struct dfa *d, uint32_t s, uint32_t k, uint32_t to, bool leads)
{
    const uint32_t end = d->states[s].first + d->states[s].n;

    while (k < end && (d->edges[k].to == to) != leads)
        k++;
    return k < end ? k : FA_NONE;
}

/* Do the same characters lead from a to its next and from b to its? */
static bool same_step(const struct search *f, uint32_t a, uint32_t b)
{
    const struct dfa *d = f->d;
    uint32_t x, y;

    if (f->next[a] == FA_NONE || f->next[b] == FA_NONE)
        return false;
    x = edge_from(d, a, d->states[a].first, f->next[a], true);
    y = edge_from(d, b, d->states[b].first, f->next[b], true);
    while (x != FA_NONE && y != FA_NONE) {
        if (d->edges[x].lo != d->edges[y].lo || d->edges[x].hi != d->edges[y].hi)
            return false;
        x = edge_from(d, a, x + 1, f->next[a], true);
        y = edge_from(d, b, y + 1, f->next[b], true);
    }
    return x == y;
}

/* Is what s does besides going to its next all that `end` does? (An end that nothing leads to: is it nothing?) */
static bool same_rest(const struct search *f, uint32_t s, const struct dfa_state *end)
{
    const struct dfa *d = f->d;
    uint32_t x = edge_from(d, s, d->states[s].first, f->next[s], false), n = 0;

    if (d->states[s].accept != end->accept)
        return false;
    for (; x != FA_NONE; x = edge_from(d, s, x + 1, f->next[s], false), n++) {
        const struct dfa_edge *a = &d->edges[x], *b = &d->edges[end->first + n];

        if (n == end->n || a->lo != b->lo || a->hi != b->hi || a->to != b->to)
            return false;
    }
    return n == end->n;
}

static uint32_t lead_byte(uint32_t cp)
{
    return cp < 0x800 ? 0xC0 | cp >> 6 : cp < 0x10000 ? 0xE0 | cp >> 12 : 0xF0 | cp >> 18;
}

void counted_first_bytes(uint32_t lo, uint32_t hi, bool json, uint64_t *set)
{
    for (uint32_t c = lo; c <= hi && c < 0x80; c++) {
        const bool escaped = json && (c < 0x20 || c == '"' || c == '\\');

        set[(escaped ? '\\' : c) / 64] |= (uint64_t)1 << (escaped ? '\\' : c) % 64;
    }
    if (json && hi >= 0x7F)
        set['\\' / 64] |= (uint64_t)1 << '\\' % 64;
    if (hi >= 0x80)
        for (uint32_t b = lead_byte(lo > 0x80 ? lo : 0x80); b <= lead_byte(hi); b++)
            set[b / 64] |= (uint64_t)1 << b % 64;
}

/* Can the first byte of a character tell whether it goes on from s to the next or does what end does? */
static bool separable(const struct search *f, uint32_t s, uint32_t end, uint64_t *first)
{
    const struct dfa *d = f->d;
    uint64_t other[4] = { 0 };

    memset(first, 0, 4 * sizeof *first);
    for (uint32_t k = 0; k < d->states[s].n; k++) {
        const struct dfa_edge *x = &d->edges[d->states[s].first + k];

        if (x->to == f->next[s])
            counted_first_bytes(x->lo, x->hi, f->json, first);
    }
    for (uint32_t k = 0; k < d->states[end].n; k++) {
        const struct dfa_edge *x = &d->edges[d->states[end].first + k];

        counted_first_bytes(x->lo, x->hi, f->json, other);
    }
    for (int i = 0; i < 4; i++)
        if (first[i] & other[i])
            return false;
    return true;
}

static bool grow(void *list, uint32_t *cap, uint64_t need, size_t size)
{
    uint64_t n = *cap ? *cap : 8;
    void *p;

    if (need <= *cap)
        return true;
    while (n < need)
        n *= 2;
    memcpy(&p, list, sizeof p);
    p = n <= UINT32_MAX ? mem_grow(p, n, size) : NULL;
    if (!p)
        return false;
    memcpy(list, &p, sizeof p);
    *cap = (uint32_t)n;
    return true;
}

bool counted_add(struct cfg *g, uint32_t length, uint32_t min, bool open, uint32_t n_bounds)
{
    if (!grow(&g->chains, &g->cap_chains, (uint64_t)g->n_chains + 1, sizeof *g->chains) ||
        !grow(&g->bounds, &g->cap_bounds, (uint64_t)g->n_bounds + n_bounds, sizeof *g->bounds)) {
        g->failed = true;
        return false;
    }
    g->chains[g->n_chains++] = (struct counted_chain){ length, min, open, g->n_bounds, n_bounds };
    memset(g->bounds + g->n_bounds, 0, n_bounds * sizeof *g->bounds);
    g->n_bounds += n_bounds;
    return true;
}

/* The chain that ends with the step last -> end: back as far as the states are alike. */
static bool chain_to(struct search *f, struct cfg *g, uint32_t last, uint32_t end, bool with_start)
{
    static const struct dfa_state nothing;
    const struct dfa_state *rest = &f->d->states[end];
    uint32_t n = 0, min = 0, s;
    uint64_t first[4];
    bool keep;

    if (f->place[end].chain != FA_NONE || end == 0 || !separable(f, last, end, first))
        return true;
    for (s = last; s != FA_NONE && s != end && n < UINT32_MAX; s = f->prev[s]) {
        if (f->place[s].chain != FA_NONE || (s == 0 && !with_start))
            break;
        if (rest != &nothing && !same_rest(f, s, rest))
            rest = &nothing;
        if (rest == &nothing && !same_rest(f, s, &nothing))
            break;
        min += rest == &nothing;
        f->place[s] = (struct counted_place){ g->n_chains, n++ };   /* from the end; turned below */
    }
    keep = n >= MIN_LENGTH;
    f->place[end] = (struct counted_place){ keep ? g->n_chains : FA_NONE, n };
    for (s = last; n > 0; s = f->prev[s])
        f->place[s] = (struct counted_place){ keep ? g->n_chains : FA_NONE, --n };
    if (!keep)
        return true;
    if (!counted_add(g, f->place[end].layer, min, false, 1))
        return false;
    memcpy(g->bounds[g->n_bounds - 1].first, first, sizeof first);
    return true;
}

bool counted_find(struct cfg *g, const struct dfa *d, bool json, bool with_start,
                  struct counted_place *place, uint32_t *n)
{
    struct search f = { .d = d, .place = place, .json = json };
    const uint32_t before = g->n_chains;
    bool ok = false;

    *n = 0;
    f.next = mem_array(d->n_states, sizeof *f.next);
    f.prev = mem_array(d->n_states, sizeof *f.prev);
    if (!f.next || !f.prev)
        goto done;
    for (uint32_t s = 0; s < d->n_states; s++) {
        place[s] = (struct counted_place){ FA_NONE, 0 };
        f.prev[s] = FA_NONE;
        f.next[s] = main_target(d, s);
    }
    for (uint32_t s = 0; s < d->n_states; s++)
        if (f.next[s] != FA_NONE && same_step(&f, s, f.next[s]))
            f.prev[f.next[s]] = s;
    ok = true;
    for (uint32_t s = 0; s < d->n_states && ok; s++)
        if (f.next[s] != FA_NONE && place[s].chain == FA_NONE && !same_step(&f, s, f.next[s]))
            ok = chain_to(&f, g, s, f.next[s], with_start);
    *n = g->n_chains - before;
done:
    if (!ok)
        g->failed = true;
    mem_free(f.next);
    mem_free(f.prev);
    return ok;
}

uint32_t counted_jump(struct cfg *g, uint32_t chain, uint32_t layer, uint32_t bound)
{
    if (!grow(&g->jumps, &g->cap_jumps, (uint64_t)g->n_jumps + 1, sizeof *g->jumps)) {
        g->failed = true;
        return FA_JUMP;
    }
    g->jumps[g->n_jumps] = (struct counted_jump){ chain, layer, bound };
    return FA_JUMP + g->n_jumps++;
}

/* ---- blocks ---- */

static const struct dfa_edge *jump_edge(const struct dfa *d, uint32_t s)
{
    const struct dfa_state *st = &d->states[s];

    return st->n && d->edges[st->first + st->n - 1].lo >= FA_JUMP
               ? &d->edges[st->first + st->n - 1] : NULL;
}

uint32_t counted_state(const struct grammar *out, const struct cfg *cfg, const struct dfa *d,
                       uint32_t base, const uint32_t *block_of, uint32_t s)
{
    const struct dfa_edge *x = jump_edge(d, s);
    const struct counted_jump *j = x ? &cfg->jumps[x->lo - FA_JUMP] : NULL;
    const struct grammar_block *b = j ? &out->blocks[block_of[j->chain]] : NULL;

    return b && j->layer != FA_NONE ? b->first + j->layer * b->n_kinds + j->bound : base + s;
}

struct block_maker {
    struct grammar   *out;
    const struct cfg *cfg;
    const struct dfa *d;
    uint32_t          base, chain;
    const uint32_t   *block_of;
    uint32_t         *kind;         /* [states of d] in the block, FA_NONE */
    uint32_t         *list, n;      /* its states */
};

static bool begins(const struct block_maker *m, uint32_t bound, uint32_t byte)
{
    const struct counted_bound *b = &m->cfg->bounds[m->cfg->chains[m->chain].first_bound + bound];

    return b->first[byte / 64] >> byte % 64 & 1;
}

/* The chain's boundaries, by the jumps that lead to them, then the states that are inside of a
 * character from them on. */
static void find_kinds(struct block_maker *m)
{
    const uint32_t n_bounds = m->cfg->chains[m->chain].n_bounds;

    memset(m->kind, 0xFF, m->d->n_states * sizeof *m->kind);
    memset(m->list, 0xFF, n_bounds * sizeof *m->list);
    for (uint32_t s = 0; s < m->d->n_states; s++) {
        const struct dfa_edge *x = jump_edge(m->d, s);
        const struct counted_jump *j = x ? &m->cfg->jumps[x->lo - FA_JUMP] : NULL;

        if (j && j->chain == m->chain) {
            m->kind[x->to] = j->bound;
            m->list[j->bound] = x->to;
        }
    }
    m->n = n_bounds;
    for (uint32_t i = 0; i < m->n; i++) {
        const struct dfa_state *st = &m->d->states[m->list[i]];

        if (m->list[i] == FA_NONE)
            continue;
        for (uint32_t k = st->first; k < st->first + st->n; k++) {
            const struct dfa_edge *x = &m->d->edges[k];

            if (x->lo >= FA_CALL || jump_edge(m->d, x->to) || m->kind[x->to] != FA_NONE ||
                (i < n_bounds && !begins(m, i, x->lo)))
                continue;
            m->kind[x->to] = m->n;
            m->list[m->n++] = x->to;
        }
    }
}

/* What an edge of kind i leads to; false: not what a chain looks like. */
static bool edge_value(const struct block_maker *m, uint32_t i, const struct dfa_edge *x, uint32_t *v)
{
    const uint32_t n_bounds = m->cfg->chains[m->chain].n_bounds;
    const struct dfa_edge *jump = jump_edge(m->d, x->to);
    const struct counted_jump *j = jump ? &m->cfg->jumps[jump->lo - FA_JUMP] : NULL;

    if (j && j->layer == FA_NONE) {
        *v = BLOCK_ADVANCE | j->bound;
        return j->chain == m->chain && m->d->states[x->to].n == 1;
    }
    if (!j && m->kind[x->to] != FA_NONE) {
        *v = BLOCK_KIND | m->kind[x->to];
        return m->kind[x->to] >= n_bounds;
    }
    *v = counted_state(m->out, m->cfg, m->d, m->base, m->block_of, x->to) | BLOCK_LEAVE;
    return i < n_bounds;
}

static bool fill_kind(const struct block_maker *m, struct grammar_block *b, uint32_t i)
{
    const struct grammar *g = m->out;
    const struct dfa_state *st = &m->d->states[m->list[i]];

    for (uint32_t k = st->first; k < st->first + st->n; k++) {
        const struct dfa_edge *x = &m->d->edges[k];
        uint32_t v;

        if (x->lo >= FA_CALL || !edge_value(m, i, x, &v))
            return false;
        b->flags[i] |= (v & ~BLOCK_VALUE) == BLOCK_LEAVE ? KIND_LEAVES : KIND_ADVANCES;
        for (unsigned c = g->classes[x->lo]; c <= g->classes[x->hi]; c++)
            b->next[(size_t)i * g->n_classes + c] = v;
    }
    if (st->accept)
        b->flags[i] |= KIND_ACCEPT;
    return !st->accept || i < b->n_before;
}

/* What is inside of a character needs it, and what the nearest place behind it needs; it is fixed where all
 * those are (cfg_region.c sees to it that they are then equally far). */
static void find_ahead(const struct grammar *g, struct grammar_block *b)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = b->n_kinds; i-- > b->n_before;)
            for (uint32_t c = 0; c < g->n_classes; c++) {
                const uint32_t v = b->next[(size_t)i * g->n_classes + c];
                uint32_t ahead;

                if (v == STATE_NONE)
                    continue;
                ahead = b->ahead[v & BLOCK_VALUE];
                ahead += (v & ~BLOCK_VALUE) == BLOCK_ADVANCE && ahead != UINT32_MAX;
                if (ahead < b->ahead[i]) {
                    b->ahead[i] = ahead;
                    changed = true;
                }
                if (b->flags[i] & KIND_FIXED && !(b->flags[v & BLOCK_VALUE] & KIND_FIXED)) {
                    b->flags[i] &= (uint8_t)~KIND_FIXED;
                    changed = true;
                }
            }
    }
}

static bool fill_block(const struct block_maker *m, struct grammar_block *b)
{
    const struct counted_chain *c = &m->cfg->chains[m->chain];

    for (uint32_t i = 0; i < b->n_kinds; i++) {
        const bool before = i < b->n_before;

        b->ahead[i] = before ? m->cfg->bounds[c->first_bound + i].ahead : UINT32_MAX;
        b->flags[i] = !before || m->cfg->bounds[c->first_bound + i].fixed ? KIND_FIXED : 0;
        if (m->list[i] != FA_NONE && !fill_kind(m, b, i))
            return false;
    }
    find_ahead(m->out, b);
    return true;
}

/* The block of a chain; its states are numbered, its table is not filled. */
static int new_block(struct block_maker *m, uint32_t *n_virtual, const char *what, struct err *e)
{
    struct grammar *g = m->out;
    const struct counted_chain *c = &m->cfg->chains[m->chain];
    struct grammar_block b = { .length = c->length, .min = c->min, .open = c->open,
                               .n_before = c->n_bounds };
    uint64_t n;

    find_kinds(m);
    b.n_kinds = m->n;
    b.first = g->n_states + *n_virtual;
    n = ((uint64_t)c->length + 2) * m->n;
    if (n + b.first > BLOCK_VALUE)
        return err_set(e, WATT_ELIMIT, "%s: too complex (counts over %u states)", what, BLOCK_VALUE);
    b.next = mem_array((size_t)m->n * g->n_classes, sizeof *b.next);
    b.ahead = mem_array(m->n, sizeof *b.ahead);
    b.flags = mem_calloc(m->n, 1);
    b.twin = b.first + (c->length + 1) * m->n;
    b.profile = g->n_profiles;
    g->n_profiles += b.n_before;
    *n_virtual += (uint32_t)n;
    g->blocks[g->n_blocks++] = b;
    if (!b.next || !b.ahead || !b.flags)
        return err_set(e, WATT_ENOMEM, "%s: counts", what);
    memset(b.next, 0xFF, (size_t)m->n * g->n_classes * sizeof *b.next);
    return 0;
}

int counted_blocks(struct grammar *out, const struct cfg *cfg, const struct dfa *d, uint32_t base,
                   uint32_t *block_of, uint32_t *n_virtual, const char *what, struct err *e)
{
    struct block_maker m = { .out = out, .cfg = cfg, .d = d, .base = base, .block_of = block_of };
    const uint32_t before = out->n_blocks;
    int rc = 0;

    m.kind = mem_array(d->n_states, sizeof *m.kind);
    m.list = mem_array((size_t)d->n_states + cfg->n_bounds, sizeof *m.list);
    if (!m.kind || !m.list)
        rc = err_set(e, WATT_ENOMEM, "%s: counts", what);
    for (int filling = 0; filling < 2 && rc == 0; filling++) {
        uint32_t done = filling ? before : out->n_blocks;   /* blocks from here on are to be filled */

        for (uint32_t s = 0; s < d->n_states && rc == 0; s++) {
            const struct dfa_edge *x = jump_edge(d, s);

            if (!x)
                continue;
            m.chain = cfg->jumps[x->lo - FA_JUMP].chain;
            if (!filling && block_of[m.chain] == FA_NONE) {
                block_of[m.chain] = out->n_blocks;
                rc = new_block(&m, n_virtual, what, e);
            } else if (filling && block_of[m.chain] == done) {  /* in the order in which they were made */
                find_kinds(&m);
                if (!fill_block(&m, &out->blocks[done++]))
                    rc = err_set(e, WATT_ELIMIT, "%s: its counts can't be told apart", what);
            }
        }
    }
    mem_free(m.kind);
    mem_free(m.list);
    return rc;
}

/* ---- states of blocks ---- */

uint32_t grammar_next_counted(const struct grammar *g, uint32_t state, unsigned char c)
{
    const struct grammar_block *b = grammar_block(g, state);
    const uint32_t layer = (state - b->first) / b->n_kinds, kind = (state - b->first) % b->n_kinds;
    const uint32_t v = b->next[(size_t)kind * g->n_classes + g->classes[c]], to = v & BLOCK_VALUE;
    uint32_t advance, left;

    if (v == STATE_NONE)
        return STATE_NONE;
    if ((v & ~BLOCK_VALUE) == BLOCK_LEAVE)
        return layer >= b->min ? to : STATE_NONE;
    advance = (v & ~BLOCK_VALUE) == BLOCK_ADVANCE;
    left = block_room(b, layer);
    if (left < advance || b->ahead[to] > left - advance ||
        (b->flags[to] & KIND_FIXED && layer + advance + b->ahead[to] < b->min))
        return STATE_NONE;
    return b->first + (layer + (layer < b->length ? advance : 0)) * b->n_kinds + to;
}

unsigned grammar_flags_counted(const struct grammar *g, uint32_t state)
{
    const struct grammar_block *b = grammar_block(g, state);
    const uint32_t layer = (state - b->first) / b->n_kinds, kind = (state - b->first) % b->n_kinds;
    const unsigned flags = b->flags[kind];

    return (flags & KIND_ACCEPT && layer >= b->min ? STATE_ACCEPT : 0) |
           (flags & KIND_LEAVES || (flags & KIND_ADVANCES && block_room(b, layer) > 0) ? STATE_BYTES : 0);
}
