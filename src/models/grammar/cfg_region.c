/* cfg_region.c: which states of an automaton count their characters (cfg_json_counted), and whether
 * counting leaves no dead end: after any number of characters that can be reached, some way on has to end
 * within the bounds. */
#include <string.h>

#include "base/mem.h"
#include "models/grammar/cfg_counted.h"

#define MAX_BOUNDS 512u

struct region {
    const struct dfa       *d;
    const struct cfg_count *c;
    uint32_t *bound;            /* [n_states] number of a state that counts, FA_NONE of others */
    uint32_t *list, n;          /* those states */
    uint32_t *depth, *ahead;    /* [n] characters from the start, and to a way out, at least */
    uint32_t *ever;             /* [n] and of the longest way out that was found */
    uint8_t  *space, *first, *now, *next;       /* [n] is there a way out of exactly so many characters? */
    bool     *fixed;            /* [n] are all ways out of the same number of characters? */
};

static bool leaves_by(const struct region *r, const struct dfa_edge *x)
{
    return x->lo <= r->c->until && r->c->until <= x->hi;    /* FA_NONE is no character */
}

static bool can_leave(const struct region *r, uint32_t state)
{
    const struct dfa_state *st = &r->d->states[state];

    for (uint32_t k = st->first; k < st->first + st->n; k++)
        if (leaves_by(r, &r->d->edges[k]))
            return true;
    return st->accept;
}

/* The states before `until`; false: too many, or what is behind it counts again. */
static bool find(struct region *r)
{
    const struct dfa *d = r->d;

    memset(r->bound, 0xFF, d->n_states * sizeof *r->bound);
    r->bound[0] = 0;
    r->list[r->n++] = 0;
    r->depth[0] = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        const struct dfa_state *st = &d->states[r->list[i]];

        for (uint32_t k = st->first; k < st->first + st->n; k++) {
            const struct dfa_edge *x = &d->edges[k];

            if (leaves_by(r, x) ? x->lo != x->hi : r->bound[x->to] == FA_NONE && r->n == MAX_BOUNDS)
                return false;
            if (leaves_by(r, x) || r->bound[x->to] != FA_NONE)
                continue;
            r->depth[r->n] = r->depth[i] + 1;
            r->bound[x->to] = r->n;
            r->list[r->n++] = x->to;
        }
    }
    for (uint32_t s = 0; s < d->n_states; s++)
        for (uint32_t k = d->states[s].first; k < d->states[s].first + d->states[s].n; k++) {
            const bool leaves = r->bound[s] == FA_NONE || leaves_by(r, &d->edges[k]);

            if (leaves && r->bound[d->edges[k].to] != FA_NONE)
                return false;
        }
    return true;
}

/* Ways out of one character more; true: some state has one. */
static bool longer(struct region *r)
{
    bool any = false;
    uint8_t *t;

    for (uint32_t i = 0; i < r->n; i++) {
        const struct dfa_state *st = &r->d->states[r->list[i]];

        r->next[i] = 0;
        for (uint32_t k = st->first; k < st->first + st->n && !r->next[i]; k++)
            if (!leaves_by(r, &r->d->edges[k]))
                r->next[i] = r->now[r->bound[r->d->edges[k].to]];
        any |= r->next[i];
    }
    t = r->now;
    r->now = r->next;
    r->next = t;
    return any;
}

/* Is `ahead` all there is, given which others are fixed? */
static bool only_ahead(const struct region *r, uint32_t i)
{
    const struct dfa_state *st = &r->d->states[r->list[i]];

    if (can_leave(r, r->list[i]) && r->ahead[i] > 0)
        return false;
    for (uint32_t k = st->first; k < st->first + st->n; k++) {
        const struct dfa_edge *x = &r->d->edges[k];

        if (!leaves_by(r, x) && (!r->fixed[r->bound[x->to]] || r->ahead[r->bound[x->to]] + 1 != r->ahead[i]))
            return false;
    }
    return true;
}

static void find_fixed(struct region *r)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = r->n; i-- > 0;)
            if (!r->fixed[i] && only_ahead(r, i))
                changed = r->fixed[i] = true;
    }
}

/* Without a most count: from every state that is not fixed there is a way out that is long enough, however
 * early it is reached. A way of as many characters as there are states has a loop: there are others, as
 * long as one likes, and the next is at most so much longer. */
static bool long_enough(struct region *r)
{
    memset(r->ever, 0, r->n * sizeof *r->ever);
    memcpy(r->now, r->first, r->n);
    for (uint32_t n = 0; n < 2 * r->n; n++) {
        for (uint32_t i = 0; i < r->n; i++)
            if (r->now[i])
                r->ever[i] = n;
        longer(r);
    }
    for (uint32_t i = 0; i < r->n; i++)
        if (!r->fixed[i] && r->ever[i] < r->n && (uint64_t)r->depth[i] + r->ever[i] < r->c->min)
            return false;
    return true;
}

/* Fills ahead and fixed. Below min a state that is not fixed needs ways out of every number of characters
 * that may be missing. */
static bool measure(struct region *r)
{
    uint32_t unknown = r->n;
    bool any = true;

    for (uint32_t i = 0; i < r->n; i++) {
        r->now[i] = can_leave(r, r->list[i]);
        r->ahead[i] = FA_NONE;
        r->fixed[i] = false;
    }
    memcpy(r->first, r->now, r->n);
    for (uint32_t n = 0; unknown && any; n++) {
        for (uint32_t i = 0; i < r->n; i++)
            if (r->now[i] && r->ahead[i] == FA_NONE) {
                r->ahead[i] = n;
                unknown--;
            }
        any = longer(r);
    }
    if (unknown)
        return false;           /* can't be: every state reaches acceptance */
    find_fixed(r);
    if (r->c->max == FA_NONE)
        return long_enough(r);
    memcpy(r->now, r->first, r->n);
    for (uint32_t n = 0; n <= r->c->min; n++) {
        for (uint32_t i = 0; i < r->n; i++)
            if (!r->now[i] && !r->fixed[i] && n > r->ahead[i] && (uint64_t)n + r->depth[i] <= r->c->min)
                return false;
        longer(r);
    }
    return true;
}

/* Characters of several bytes may begin alike, so that what is fixed for one must be so for all. */
static bool tells_apart(const struct region *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        const struct dfa_state *st = &r->d->states[r->list[i]];
        uint32_t fixed = FA_NONE;       /* ahead of those that are */
        bool others = false, differ = false;

        for (uint32_t k = st->first; k < st->first + st->n; k++) {
            const struct dfa_edge *x = &r->d->edges[k];
            const uint32_t to = leaves_by(r, x) ? 0 : r->bound[x->to];
            const bool longer = x->hi > 0x7E || x->lo < 0x20 || (x->lo <= '"' && x->hi >= '"') ||
                                (x->lo <= '\\' && x->hi >= '\\');

            if (!longer || leaves_by(r, x))
                continue;
            if (!r->fixed[to]) {
                others = true;
                continue;
            }
            differ |= fixed != FA_NONE && fixed != r->ahead[to];
            fixed = r->ahead[to];
        }
        if (differ || (others && fixed != FA_NONE))
            return false;
    }
    return true;
}

static bool open_region(struct region *r)
{
    const size_t n = r->d->n_states;

    r->bound = mem_array(n, sizeof *r->bound);
    r->list = mem_array(MAX_BOUNDS, sizeof *r->list);
    r->depth = mem_array(MAX_BOUNDS, sizeof *r->depth);
    r->ahead = mem_array(MAX_BOUNDS, sizeof *r->ahead);
    r->fixed = mem_array(MAX_BOUNDS, sizeof *r->fixed);
    r->ever = mem_array(MAX_BOUNDS, sizeof *r->ever);
    r->space = mem_array(3 * MAX_BOUNDS, 1);
    r->first = r->space;
    r->now = r->space ? r->space + MAX_BOUNDS : NULL;
    r->next = r->space ? r->space + 2 * MAX_BOUNDS : NULL;
    return r->bound && r->list && r->depth && r->ahead && r->ever && r->fixed && r->space;
}

static void close_region(struct region *r)
{
    mem_free(r->bound);
    mem_free(r->list);
    mem_free(r->depth);
    mem_free(r->ahead);
    mem_free(r->ever);
    mem_free(r->fixed);
    mem_free(r->space);
}

int cfg_can_count(const struct dfa *d, const struct cfg_count *c, bool *can, bool *empty,
                  struct err *e)
{
    struct region r = { .d = d, .c = c };
    int rc = 0;

    *can = *empty = false;
    if (!open_region(&r)) {
        rc = err_set(e, WATT_ENOMEM, "grammar: counts");
    } else if (find(&r) && measure(&r) && tells_apart(&r)) {
        *can = true;
        *empty = r.ahead[0] > c->max || (r.fixed[0] && r.ahead[0] < c->min);
    }
    close_region(&r);
    return rc;
}

bool counted_region(struct cfg *g, const struct dfa *d, const struct cfg_count *c,
                    struct counted_place *place)
{
    struct region r = { .d = d, .c = c };
    bool ok = open_region(&r) && find(&r) && measure(&r) && counted_add(g, c->max == FA_NONE ? c->min : c->max, c->min, c->max == FA_NONE, r.n);

    for (uint32_t s = 0; s < d->n_states && ok; s++)
        place[s] = (struct counted_place){ r.bound[s] == FA_NONE ? FA_NONE : g->n_chains - 1,
                                           r.bound[s] };
    for (uint32_t i = 0; i < r.n && ok; i++) {
        struct counted_bound *b = &g->bounds[g->chains[g->n_chains - 1].first_bound + i];
        const struct dfa_state *st = &d->states[r.list[i]];

        b->ahead = r.ahead[i];
        b->fixed = r.fixed[i];
        for (uint32_t k = st->first; k < st->first + st->n; k++)
            if (!leaves_by(&r, &d->edges[k]))
                counted_first_bytes(d->edges[k].lo, d->edges[k].hi, true, b->first);
    }
    if (!ok)
        g->failed = true;
    close_region(&r);
    return ok;
}
