/* cfg.c: from recorded rules to the table of a grammar. */
#include "models/grammar/cfg.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/grammar/cfg_counted.h"
#include "models/grammar/grammar_impl.h"

#define INLINE_STATES 4096u         /* larger rules are called */
#define INLINE_TOTAL  (1u << 17)    /* nodes of a caller after which even small ones are */

void cfg_init(struct cfg *g)
{
    memset(g, 0, sizeof *g);
    nfa_init(&g->a, CFG_MAX_NODES);
    g->rare_char = FA_NONE;
}

void cfg_deinit(struct cfg *g)
{
    nfa_deinit(&g->a);
    mem_free(g->rules);
    mem_free(g->chains);
    mem_free(g->bounds);
    mem_free(g->jumps);
    mem_free(g->lengths);
    memset(g, 0, sizeof *g);
}

uint32_t cfg_rule(struct cfg *g)
{
    if (g->failed)
        return 0;
    if (g->n_rules == g->cap_rules) {
        const uint32_t cap = g->cap_rules ? g->cap_rules * 2 : 64;
        struct cfg_rule *p = cap <= CFG_MAX_RULES ? mem_grow(g->rules, cap, sizeof *p) : NULL;

        if (!p) {
            g->failed = true;
            return 0;
        }
        g->rules = p;
        g->cap_rules = cap;
    }
    g->rules[g->n_rules] = (struct cfg_rule){ FA_NONE, FA_NONE, false, false };
    return g->n_rules++;
}

void cfg_define(struct cfg *g, uint32_t rule, uint32_t start, uint32_t end)
{
    if (g->failed)
        return;
    g->rules[rule].start = start;
    g->rules[rule].end = end;
}

void cfg_call(struct cfg *g, uint32_t from, uint32_t rule, uint32_t to)
{
    nfa_range(&g->a, from, FA_CALL + rule, FA_CALL + rule, to);
}

/* ---- compilation ---- */

struct compiled {               /* per rule */
    struct dfa *d;
    uint32_t    base;           /* of its states in the table */
    bool        productive;     /* it has a word */
    bool        nullable;       /* the empty one */
    bool        recursive;
    bool        wanted;         /* called in the end */
    bool        inlined;        /* small and not recursive: written into its callers */
};

struct compiler {
    struct cfg      *g;
    struct compiled *rules;
    uint32_t        *seen, stamp;       /* [nodes] */
    uint32_t        *todo;              /* [nodes] */
    uint32_t        *order, n_order;    /* rules, callees before callers */
    uint32_t        *number, *low, *stack, n_stack, counter;    /* Tarjan's, per rule */
    uint32_t         n_placed;          /* then low lists the rules as they lie in the table */
    uint32_t        *block_of;          /* [chains] */
    const char      *what;
    struct err      *e;
    int              rc;
};

static bool is_call(uint32_t symbol)
{
    return symbol >= FA_CALL && symbol < FA_JUMP;
}

/* Visits the nodes of a rule; `through` says whether an edge may be passed. */
static bool reaches_end(struct compiler *c, uint32_t rule, bool consuming)
{
    const struct nfa *a = &c->g->a;
    const struct cfg_rule *r = &c->g->rules[rule];
    uint32_t n = 0;

    c->stamp++;
    c->seen[r->start] = c->stamp;
    c->todo[n++] = r->start;
    while (n) {
        const uint32_t at = c->todo[--n];

        if (at == r->end)
            return true;
        for (uint32_t k = a->first[at]; k != FA_NONE; k = a->edges[k].next) {
            const struct nfa_edge *x = &a->edges[k];
            bool pass = x->kind == NFA_EMPTY || x->lo >= FA_JUMP;   /* a jump consumes nothing */

            if (x->kind == NFA_RANGE && is_call(x->lo))
                pass = consuming ? c->rules[x->lo - FA_CALL].productive
                                 : c->rules[x->lo - FA_CALL].nullable;
            else if (x->kind == NFA_RANGE && !pass)
                pass = consuming;
            if (pass && c->seen[x->to] != c->stamp) {
                c->seen[x->to] = c->stamp;
                c->todo[n++] = x->to;
            }
        }
    }
    return false;
}

/* Least fixed points: which rules have words, and which the empty one. Callees first makes two
 * rounds enough but for recursion. */
static void find_words(struct compiler *c)
{
    for (int consuming = 1; consuming >= 0; consuming--) {
        bool changed = true;

        while (changed) {
            changed = false;
            for (uint32_t i = 0; i < c->n_order; i++) {
                struct compiled *r = &c->rules[c->order[i]];
                bool *flag = consuming ? &r->productive : &r->nullable;

                if (!*flag && reaches_end(c, c->order[i], consuming)) {
                    *flag = true;
                    changed = true;
                }
            }
        }
    }
}

/* One rule's callees, as an iterator over the nodes of its body: gathers them into list. */
static uint32_t callees(struct compiler *c, uint32_t rule, uint32_t *list)
{
    const struct nfa *a = &c->g->a;
    uint32_t n = 0, n_list = 0;

    c->stamp++;
    c->seen[c->g->rules[rule].start] = c->stamp;
    c->todo[n++] = c->g->rules[rule].start;
    while (n) {
        const uint32_t at = c->todo[--n];

        for (uint32_t k = a->first[at]; k != FA_NONE; k = a->edges[k].next) {
            const struct nfa_edge *x = &a->edges[k];

            if (x->kind == NFA_RANGE && is_call(x->lo))
                list[n_list++] = x->lo - FA_CALL;
            if (c->seen[x->to] != c->stamp) {
                c->seen[x->to] = c->stamp;
                c->todo[n++] = x->to;
            }
        }
    }
    return n_list;
}

/* Tarjan's strongly connected components, without recursion (rules come from requests): gives
 * callees-first order and marks the rules that call themselves. */
struct visit {
    uint32_t  rule, next, n;
    uint32_t *list;
};

static int strong_components(struct compiler *c, uint32_t root)
{
    struct visit *path = mem_array((size_t)c->g->n_rules + 1, sizeof *path);
    uint32_t *list = mem_array(c->g->a.n_edges ? c->g->a.n_edges : 1, sizeof *list);
    uint32_t n_path = 0;
    int rc = WATT_ENOMEM;

    if (!path || !list)
        goto done;
    path[n_path++] = (struct visit){ .rule = root };
    while (n_path) {
        struct visit *v = &path[n_path - 1];

        if (!v->list) {
            const uint32_t n = callees(c, v->rule, list);

            v->list = mem_array(n ? n : 1, sizeof *v->list);
            if (!v->list)
                goto done;
            memcpy(v->list, list, n * sizeof *list);
            v->n = n;
            c->number[v->rule] = c->low[v->rule] = ++c->counter;
            c->stack[c->n_stack++] = v->rule;
        }
        if (v->next < v->n) {
            const uint32_t to = v->list[v->next++];

            if (to == v->rule)
                c->rules[to].recursive = true;
            if (c->number[to] == 0)
                path[n_path++] = (struct visit){ .rule = to };
            else if (c->number[to] < c->low[v->rule])
                c->low[v->rule] = c->number[to];
            continue;
        }
        if (c->low[v->rule] == c->number[v->rule]) {
            const uint32_t first = c->n_order;

            for (;;) {
                const uint32_t r = c->stack[--c->n_stack];

                c->order[c->n_order++] = r;
                c->number[r] = UINT32_MAX;      /* done: no longer on the stack */
                if (r == v->rule)
                    break;
            }
            for (uint32_t i = first; c->n_order - first > 1 && i < c->n_order; i++)
                c->rules[c->order[i]].recursive = true;
        }
        if (n_path > 1 && c->low[v->rule] < c->low[path[n_path - 2].rule])
            c->low[path[n_path - 2].rule] = c->low[v->rule];
        mem_free(v->list);
        n_path--;
    }
    rc = 0;
done:
    while (path && n_path)
        mem_free(path[--n_path].list);
    mem_free(path);
    mem_free(list);
    return rc;
}

/* Writes a deterministic rule into x between two nodes. */
static void write_in(struct nfa *x, uint32_t from, const struct dfa *d, uint32_t to)
{
    const uint32_t base = x->n_nodes;

    for (uint32_t s = 0; s < d->n_states && !x->failed; s++)
        nfa_node(x);
    nfa_empty(x, from, base);
    for (uint32_t s = 0; s < d->n_states && !x->failed; s++) {
        for (uint32_t k = 0; k < d->states[s].n; k++) {
            const struct dfa_edge *g = &d->edges[d->states[s].first + k];

            nfa_range(x, base + s, g->lo, g->hi, base + g->to);
        }
        if (d->states[s].accept)
            nfa_empty(x, base + s, to);
    }
}

/* The body of a rule with small callees written in, calls that can't succeed left out, and a
 * way around calls that may be empty. */
static void expand(struct compiler *c, uint32_t rule, struct nfa *x, uint32_t *end)
{
    const struct nfa *a = &c->g->a;
    uint32_t *map = c->order + c->g->n_rules;   /* [nodes] scratch behind the order */
    uint32_t n = 0;

    c->stamp++;
    c->seen[c->g->rules[rule].start] = c->stamp;
    c->todo[n++] = c->g->rules[rule].start;
    map[c->g->rules[rule].start] = nfa_node(x);
    *end = FA_NONE;
    while (n && !x->failed) {
        const uint32_t at = c->todo[--n];

        if (at == c->g->rules[rule].end)
            *end = map[at];
        for (uint32_t k = a->first[at]; k != FA_NONE; k = a->edges[k].next) {
            const struct nfa_edge g = a->edges[k];
            const bool call = g.kind == NFA_RANGE && is_call(g.lo);
            const struct compiled *to = call ? &c->rules[g.lo - FA_CALL] : NULL;

            if (call && !to->productive)
                continue;
            if (c->seen[g.to] != c->stamp) {
                c->seen[g.to] = c->stamp;
                map[g.to] = nfa_node(x);
                c->todo[n++] = g.to;
            }
            if (!call && g.kind == NFA_EMPTY) {
                nfa_empty(x, map[at], map[g.to]);
            } else if (!call) {
                nfa_range(x, map[at], g.lo, g.hi, map[g.to]);
            } else if (to->inlined && x->n_nodes < INLINE_TOTAL) {
                write_in(x, map[at], to->d, map[g.to]);
            } else {
                nfa_range(x, map[at], g.lo, g.hi, map[g.to]);
                if (to->nullable)
                    nfa_empty(x, map[at], map[g.to]);
            }
        }
    }
}

static int compile_rule(struct compiler *c, uint32_t rule)
{
    struct compiled *r = &c->rules[rule];
    struct nfa x;
    uint32_t end;
    int rc;

    nfa_init(&x, CFG_MAX_NODES);
    expand(c, rule, &x, &end);
    rc = nfa_ok(&x, c->what, c->e);
    if (rc == 0)
        rc = dfa_from_nfa(&r->d, &x, 0, end, CFG_MAX_STATES, c->what, c->e);
    nfa_deinit(&x);
    if (rc == 0)
        r->inlined = !r->recursive && !c->g->rules[rule].keep && r->d->n_states <= INLINE_STATES;
    return rc;
}

/* A rule that is called never ends where it began, so that no rule ends at the byte at which it
 * was called; the caller has its way around. A start that is passed again gets a twin. */
static int split_start(struct compiler *c, struct dfa *d)
{
    struct dfa_state *states;
    struct dfa_edge *edges;
    const uint32_t n = d->states[0].n;

    if (!d->states[0].accept)
        return 0;
    states = mem_grow(d->states, (size_t)d->n_states + 1, sizeof *states);
    if (states)
        d->states = states;
    edges = mem_grow(d->edges, (size_t)d->n_edges + n + 1, sizeof *edges);
    if (edges)
        d->edges = edges;
    if (!states || !edges)
        return err_set(c->e, WATT_ENOMEM, "%s: automaton", c->what);
    memcpy(edges + d->n_edges, edges + states[0].first, n * sizeof *edges);
    states[d->n_states] = (struct dfa_state){ d->n_edges, n, true };
    d->n_edges += n;
    for (uint32_t i = 0; i < d->n_edges; i++)
        if (edges[i].to == 0)
            edges[i].to = d->n_states;
    d->n_states++;
    states[0].accept = false;
    return 0;
}

/* Marks what is called from the root's automaton on; gives bases in the table. */
static int place_rules(struct compiler *c, uint32_t root, uint32_t *n_states, uint32_t *n_calls)
{
    uint32_t n = 0;

    *n_states = 0;
    *n_calls = 0;
    c->rules[root].wanted = true;
    c->stack[n++] = root;
    while (n) {
        struct compiled *r = &c->rules[c->stack[--n]];

        if (r != &c->rules[root]) {
            const int rc = split_start(c, r->d);

            if (rc < 0)
                return rc;
        }
        c->low[c->n_placed++] = (uint32_t)(r - c->rules);
        r->base = *n_states;
        *n_states += r->d->n_states;
        if (*n_states > CFG_MAX_STATES)
            return err_set(c->e, WATT_ELIMIT, "%s: too complex (over %u states)", c->what,
                           CFG_MAX_STATES);
        for (uint32_t k = 0; k < r->d->n_edges; k++) {
            if (!is_call(r->d->edges[k].lo))
                continue;
            *n_calls += r->d->edges[k].hi - r->d->edges[k].lo + 1;
            for (uint32_t s = r->d->edges[k].lo; s <= r->d->edges[k].hi; s++) {
                struct compiled *to = &c->rules[s - FA_CALL];

                if (!to->wanted) {
                    to->wanted = true;
                    c->stack[n++] = s - FA_CALL;
                }
            }
        }
    }
    return 0;
}

/* Bytes that every state treats alike share a column. */
static void find_classes(const struct compiler *c, struct grammar *g)
{
    bool cut[257] = { true };

    for (uint32_t i = 0; i < c->g->n_rules; i++) {
        const struct dfa *d = c->rules[i].wanted ? c->rules[i].d : NULL;

        for (uint32_t k = 0; d && k < d->n_edges; k++)
            if (d->edges[k].lo < FA_CALL) {
                cut[d->edges[k].lo] = true;
                cut[d->edges[k].hi + 1] = true;
            }
    }
    g->n_classes = 0;
    for (unsigned b = 0; b < 256; b++) {
        g->n_classes += cut[b];
        g->classes[b] = (uint8_t)(g->n_classes - 1);
    }
}

static uint32_t state_of(const struct compiler *c, const struct grammar *g,
                         const struct compiled *r, uint32_t s)
{
    return c->g->n_jumps ? counted_state(g, c->g, r->d, r->base, c->block_of, s) : r->base + s;
}

static void fill_rule(const struct compiler *c, struct grammar *g, const struct compiled *r,
                      uint32_t *n_calls)
{
    for (uint32_t s = 0; s < r->d->n_states; s++) {
        const struct dfa_state *st = &r->d->states[s];
        const uint32_t at = r->base + s;

        g->state_flags[at] = st->accept ? STATE_ACCEPT : 0;
        g->call_at[at] = *n_calls;
        for (uint32_t k = 0; k < st->n; k++) {
            const struct dfa_edge *x = &r->d->edges[st->first + k];

            if (x->lo >= FA_JUMP)
                continue;
            if (x->lo >= FA_CALL) {
                for (uint32_t y = x->lo; y <= x->hi; y++)
                    g->calls[(*n_calls)++] = (struct rule_call){
                        c->rules[y - FA_CALL].base, state_of(c, g, r, x->to) };
                continue;
            }
            g->state_flags[at] |= STATE_BYTES;
            for (unsigned cl = g->classes[x->lo]; cl <= g->classes[x->hi]; cl++)
                g->next[(size_t)at * g->n_classes + cl] = state_of(c, g, r, x->to);
        }
    }
}

/* Counted repetition of the rules that are wanted. */
static int make_blocks(struct compiler *c, struct grammar *g)
{
    const uint32_t n = c->g->n_chains;
    uint32_t n_virtual = 0;
    int rc = 0;

    if (n == 0)
        return 0;
    g->blocks = mem_array(n, sizeof *g->blocks);
    c->block_of = mem_array(n, sizeof *c->block_of);
    if (!g->blocks || !c->block_of)
        return err_set(c->e, WATT_ENOMEM, "%s: counts", c->what);
    memset(c->block_of, 0xFF, n * sizeof *c->block_of);
    for (uint32_t i = 0; i < c->n_placed && rc == 0; i++) {
        const struct compiled *r = &c->rules[c->low[i]];

        if (c->g->rules[c->low[i]].counted)
            rc = counted_blocks(g, c->g, r->d, r->base, c->block_of, &n_virtual, c->what, c->e);
    }
    return rc;
}

static int make_table(struct compiler *c, uint32_t root, struct grammar **out)
{
    static atomic_ulong ids;
    struct grammar *g = mem_calloc(1, sizeof *g);
    uint32_t n_calls = 0;
    size_t cells;
    int rc;

    if (!g)
        return err_set(c->e, WATT_ENOMEM, "%s: table", c->what);
    atomic_init(&g->refs, 1);
    g->id = atomic_fetch_add(&ids, 1) + 1;
    rc = place_rules(c, root, &g->n_states, &n_calls);
    if (rc < 0)
        goto fail;
    find_classes(c, g);
    cells = (size_t)g->n_states * g->n_classes;
    if (cells > CFG_MAX_TABLE_BYTES / sizeof *g->next) {
        rc = err_set(c->e, WATT_ELIMIT, "%s: too complex (a table of %zu MB, at most %zu)", c->what,
                     cells * sizeof *g->next >> 20, CFG_MAX_TABLE_BYTES >> 20);
        goto fail;
    }
    g->next = mem_array(cells, sizeof *g->next);
    g->state_flags = mem_calloc(g->n_states, 1);
    g->call_at = mem_array((size_t)g->n_states + 1, sizeof *g->call_at);
    g->calls = mem_array(n_calls ? n_calls : 1, sizeof *g->calls);
    if (!g->next || !g->state_flags || !g->call_at || !g->calls) {
        rc = err_set(c->e, WATT_ENOMEM, "%s: table", c->what);
        goto fail;
    }
    memset(g->next, 0xFF, cells * sizeof *g->next);
    rc = make_blocks(c, g);
    if (rc < 0)
        goto fail;
    g->root = c->rules[root].base;
    n_calls = 0;
    for (uint32_t i = 0; i < c->n_placed; i++)      /* by rising base: call_at is a running sum */
        fill_rule(c, g, &c->rules[c->low[i]], &n_calls);
    g->call_at[g->n_states] = n_calls;
    *out = g;
    return 0;
fail:
    grammar_close(g);
    return rc;
}

int cfg_compile(struct grammar **out, struct cfg *g, uint32_t root, const char *what, struct err *e)
{
    const size_t n = g->n_rules ? g->n_rules : 1, nodes = g->a.n_nodes ? g->a.n_nodes : 1;
    struct compiler c = { .g = g, .what = what, .e = e };
    int rc = nfa_ok(&g->a, what, e);

    if (rc < 0)
        return rc;
    if (g->failed)
        return g->n_rules >= CFG_MAX_RULES
                   ? err_set(e, WATT_ELIMIT, "%s: over %u rules", what, CFG_MAX_RULES)
                   : err_set(e, WATT_ENOMEM, "%s: rules", what);
    c.rules = mem_calloc(n, sizeof *c.rules);
    c.seen = mem_calloc(nodes, sizeof *c.seen);
    c.todo = mem_array(nodes, sizeof *c.todo);
    c.order = mem_array(n + nodes, sizeof *c.order);
    c.number = mem_calloc(n, sizeof *c.number);
    c.low = mem_calloc(n, sizeof *c.low);
    c.stack = mem_array(n + 1, sizeof *c.stack);
    if (!c.rules || !c.seen || !c.todo || !c.order || !c.number || !c.low || !c.stack ||
        strong_components(&c, root) < 0) {
        rc = err_set(e, WATT_ENOMEM, "%s: rules", what);
        goto done;
    }
    find_words(&c);
    if (!c.rules[root].productive) {
        rc = err_set(e, WATT_EINVAL, "%s: nothing can satisfy it", what);
        goto done;
    }
    for (uint32_t i = 0; i < c.n_order && rc == 0; i++)
        if (c.rules[c.order[i]].productive)
            rc = compile_rule(&c, c.order[i]);
    if (rc == 0)
        rc = make_table(&c, root, out);
done:
    for (uint32_t i = 0; c.rules && i < g->n_rules; i++)
        dfa_close(c.rules[i].d);
    mem_free(c.rules);
    mem_free(c.seen);
    mem_free(c.todo);
    mem_free(c.order);
    mem_free(c.number);
    mem_free(c.low);
    mem_free(c.stack);
    mem_free(c.block_of);
    return rc;
}

struct grammar *grammar_ref(struct grammar *g)
{
    atomic_fetch_add(&g->refs, 1);
    return g;
}

void grammar_close(struct grammar *g)
{
    if (!g || atomic_fetch_sub(&g->refs, 1) != 1)
        return;
    mem_free(g->next);
    mem_free(g->state_flags);
    mem_free(g->call_at);
    mem_free(g->calls);
    for (uint32_t i = 0; i < g->n_blocks; i++) {
        mem_free(g->blocks[i].next);
        mem_free(g->blocks[i].ahead);
        mem_free(g->blocks[i].flags);
    }
    mem_free(g->blocks);
    mem_free(g);
}
