/* schema_containers.c: sets of arrays and of objects under and and not. */
#include <string.h>

#include "base/mem.h"
#include "models/grammar/schema.h"

/* ---- arrays ---- */

int arr_all(struct schema *s, struct arr **out)
{
    struct arr *a = schema_alloc(s, 1, sizeof *a);

    if (!a)
        return WATT_ENOMEM;
    a->states = schema_alloc(s, 1, sizeof *a->states);
    a->edges = schema_alloc(s, 1, sizeof *a->edges);
    if (!a->states || !a->edges)
        return WATT_ENOMEM;
    a->n_states = a->n_edges = 1;
    a->states[0] = (struct arr_state){ 0, 1, true };
    a->edges[0] = (struct arr_edge){ EXPR_TRUE, 0, false };
    *out = a;
    return 0;
}

struct pair_work {
    uint32_t        *pairs;     /* [n][2] */
    struct map       known;
    struct arr_edge *edges;
    uint32_t         n, cap, n_edges, cap_edges;
};

static int pair_of(struct schema *s, struct pair_work *w, uint32_t x, uint32_t y, uint32_t *out)
{
    const uint32_t pair[2] = { x, y };
    const struct sv key = { (const char *)pair, sizeof pair };
    uint64_t found;

    if (map_get(&w->known, key, &found)) {
        *out = (uint32_t)found;
        return 0;
    }
    if (w->n >= SCHEMA_MAX_COUNT)
        return err_set(s->e, WATT_ELIMIT, "schema: too complex (arrays of over %u states)",
                       SCHEMA_MAX_COUNT);
    if (w->n == w->cap) {
        const uint32_t cap = w->cap ? w->cap * 2 : 16;
        uint32_t *p = mem_grow(w->pairs, cap, 2 * sizeof *p);

        if (!p)
            return err_set(s->e, WATT_ENOMEM, "schema: memory");
        w->pairs = p;
        w->cap = cap;
    }
    w->pairs[2 * w->n] = x;
    w->pairs[2 * w->n + 1] = y;
    *out = w->n++;
    return map_put(&w->known, key, *out, s->e);
}

static int put_edge(struct schema *s, struct pair_work *w, struct arr_edge g)
{
    if (w->n_edges == w->cap_edges) {
        const uint32_t cap = w->cap_edges ? w->cap_edges * 2 : 16;
        struct arr_edge *p = mem_grow(w->edges, cap, sizeof *p);

        if (!p)
            return err_set(s->e, WATT_ENOMEM, "schema: memory");
        w->edges = p;
        w->cap_edges = cap;
    }
    w->edges[w->n_edges++] = g;
    return 0;
}

/* The product; an edge for each pair of labels that may have a common value. */
static int multiply(struct schema *s, const struct arr *a, const struct arr *b, struct arr *r,
                    struct pair_work *w)
{
    uint32_t start;
    int rc = pair_of(s, w, 0, 0, &start);

    for (uint32_t i = 0; i < w->n && rc == 0; i++) {
        const struct arr_state x = a->states[w->pairs[2 * i]], y = b->states[w->pairs[2 * i + 1]];
        struct arr_state *states;
        const uint32_t first = w->n_edges;

        for (uint32_t k = 0; k < x.n && rc == 0; k++) {
            for (uint32_t l = 0; l < y.n && rc == 0; l++) {
                const struct arr_edge *g = &a->edges[x.first + k], *h = &b->edges[y.first + l];
                struct arr_edge made = { .evaluated = g->evaluated || h->evaluated };

                rc = expr_and(s, g->item, h->item, &made.item);
                if (rc == 0 && made.item == EXPR_FALSE)
                    continue;
                if (rc == 0)
                    rc = pair_of(s, w, g->to, h->to, &made.to);
                if (rc == 0)
                    rc = put_edge(s, w, made);
            }
        }
        if (rc < 0)
            break;
        if (i == 0 || (i & (i - 1)) == 0) {     /* room for the next power of two */
            states = schema_alloc(s, i ? (size_t)i * 2 : 1, sizeof *states);
            if (!states)
                return WATT_ENOMEM;
            if (i)
                memcpy(states, r->states, i * sizeof *states);
            r->states = states;
        }
        r->states[i] = (struct arr_state){ first, w->n_edges - first, x.accept && y.accept };
        r->n_states = i + 1;
    }
    return rc;
}

int arr_and(struct schema *s, const struct arr *a, const struct arr *b, struct arr **out)
{
    struct pair_work w = { 0 };
    struct arr *r = schema_alloc(s, 1, sizeof *r);
    int rc;

    if (!r)
        return WATT_ENOMEM;
    rc = map_init(&w.known, 1u << 20, s->e);
    if (rc == 0)
        rc = multiply(s, a, b, r, &w);
    if (rc == 0) {
        r->edges = schema_alloc(s, w.n_edges, sizeof *r->edges);
        rc = r->edges ? 0 : WATT_ENOMEM;
    }
    if (rc == 0) {
        if (w.n_edges)
            memcpy(r->edges, w.edges, w.n_edges * sizeof *r->edges);
        r->n_edges = w.n_edges;
        *out = r;
    }
    mem_free(w.pairs);
    mem_free(w.edges);
    map_deinit(&w.known);
    return rc;
}

/* Makes every state cover all values (a product drops labels without a value) by edges to a new
 * state, and turns acceptance round. Labels of a state are disjoint, so what they leave is the
 * intersection of their complements. */
int arr_not(struct schema *s, const struct arr *a, struct arr **out)
{
    struct arr *r = schema_alloc(s, 1, sizeof *r);
    const uint32_t sink = a->n_states;
    uint32_t n = 0;
    int rc = 0;

    if (!r)
        return WATT_ENOMEM;
    r->states = schema_alloc(s, (size_t)a->n_states + 1, sizeof *r->states);
    r->edges = schema_alloc(s, (size_t)a->n_edges + a->n_states + 1, sizeof *r->edges);
    if (!r->states || !r->edges)
        return WATT_ENOMEM;
    for (uint32_t i = 0; i < a->n_states && rc == 0; i++) {
        const struct arr_state x = a->states[i];
        expr_id rest = EXPR_TRUE, no;

        r->states[i] = (struct arr_state){ n, x.n, !x.accept };
        for (uint32_t k = 0; k < x.n && rc == 0; k++) {
            const struct arr_edge g = a->edges[x.first + k];

            r->edges[n++] = (struct arr_edge){ g.item, g.to, false };
            rc = expr_not(s, g.item, &no);
            if (rc == 0)
                rc = expr_and(s, rest, no, &rest);
        }
        if (rc == 0 && rest != EXPR_FALSE) {
            r->edges[n++] = (struct arr_edge){ rest, sink, false };
            r->states[i].n++;
        }
    }
    r->states[sink] = (struct arr_state){ n, 1, true };
    r->edges[n++] = (struct arr_edge){ EXPR_TRUE, sink, false };
    r->n_states = a->n_states + 1;
    r->n_edges = n;
    *out = r;
    return rc;
}

int arr_empty(struct schema *s, const struct arr *a, bool *empty)
{
    bool *seen = mem_calloc(a->n_states, sizeof *seen);
    uint32_t *todo = mem_array(a->n_states, sizeof *todo), n = 0;
    int rc = 0;

    *empty = true;
    if (!seen || !todo) {
        rc = err_set(s->e, WATT_ENOMEM, "schema: memory");
        goto done;
    }
    seen[0] = true;
    todo[n++] = 0;
    while (n && *empty && rc == 0) {
        const struct arr_state x = a->states[todo[--n]];

        *empty = !x.accept;
        for (uint32_t k = 0; k < x.n && *empty && rc == 0; k++) {
            const struct arr_edge g = a->edges[x.first + k];
            bool none = false;

            if (seen[g.to])
                continue;
            rc = expr_empty(s, g.item, &none);
            if (none)
                continue;
            seen[g.to] = true;
            todo[n++] = g.to;
        }
    }
done:
    mem_free(seen);
    mem_free(todo);
    return rc;
}

/* ---- objects ---- */

int obj_all(struct schema *s, struct obj **out)
{
    struct obj *o = schema_alloc(s, 1, sizeof *o);

    if (!o)
        return WATT_ENOMEM;
    o->regions = schema_alloc(s, 1, sizeof *o->regions);
    if (!o->regions)
        return WATT_ENOMEM;
    o->regions[0] = (struct region){ s->all_strings, EXPR_TRUE, false };
    o->n_regions = 1;
    o->max = NO_BOUND;
    *out = o;
    return 0;
}

static const struct member *member_of(const struct obj *o, struct sv name)
{
    for (uint32_t i = 0; i < o->n_members; i++)
        if (sv_eq(o->members[i].name, name))
            return &o->members[i];
    return NULL;
}

expr_id obj_value(const struct obj *o, struct sv name, bool *evaluated)
{
    const struct member *m = member_of(o, name);

    *evaluated = m && m->evaluated;
    if (m)
        return m->value;
    for (uint32_t i = 0; i < o->n_regions; i++)
        if (dfa_matches(o->regions[i].names, name)) {
            *evaluated = o->regions[i].evaluated;
            return o->regions[i].value;
        }
    return EXPR_FALSE;
}

static int and_members(struct schema *s, const struct obj *a, const struct obj *b, struct obj *r)
{
    int rc = 0;

    r->members = schema_alloc(s, (size_t)a->n_members + b->n_members, sizeof *r->members);
    if (!r->members)
        return WATT_ENOMEM;
    for (uint32_t i = 0; i < a->n_members + b->n_members && rc == 0; i++) {
        const bool second = i >= a->n_members;
        const struct member m = second ? b->members[i - a->n_members] : a->members[i];
        const struct obj *other = second ? a : b;
        const struct member *twin = member_of(other, m.name);
        struct member *to = &r->members[r->n_members];
        bool evaluated;

        if (second && twin)
            continue;
        *to = m;
        rc = expr_and(s, m.value, obj_value(other, m.name, &evaluated), &to->value);
        to->required = m.required || (twin && twin->required);
        to->evaluated = m.evaluated || evaluated;
        r->n_members++;
    }
    return rc;
}

static int and_regions(struct schema *s, const struct obj *a, const struct obj *b, struct obj *r)
{
    const uint64_t most = (uint64_t)a->n_regions * b->n_regions;
    int rc = 0;

    if (most > SCHEMA_MAX_BRANCHES)
        return err_set(s->e, WATT_ELIMIT, "schema: too complex (over %u regions of names)",
                       SCHEMA_MAX_BRANCHES);
    r->regions = schema_alloc(s, most, sizeof *r->regions);
    if (!r->regions)
        return WATT_ENOMEM;
    for (uint32_t i = 0; i < a->n_regions && rc == 0; i++) {
        for (uint32_t k = 0; k < b->n_regions && rc == 0; k++) {
            const struct region *x = &a->regions[i], *y = &b->regions[k];
            const struct lang p = { .all = x->names == s->all_strings, .d = x->names };
            const struct lang q = { .all = y->names == s->all_strings, .d = y->names };
            struct region *to = &r->regions[r->n_regions];
            struct lang both;

            rc = expr_and(s, x->value, y->value, &to->value);
            if (rc < 0 || to->value == EXPR_FALSE)
                continue;
            if (x->names == y->names)
                both = p;
            else
                rc = lang_combine(s, &p, DFA_AND, &q, s->all_strings, &both);
            if (rc < 0 || (!both.all && !both.d))
                continue;
            to->names = both.d ? both.d : s->all_strings;
            to->evaluated = x->evaluated || y->evaluated;
            r->n_regions++;
        }
    }
    return rc;
}

int obj_and(struct schema *s, const struct obj *a, const struct obj *b, struct obj **out)
{
    struct obj *r = schema_alloc(s, 1, sizeof *r);
    int rc;

    if (!r)
        return WATT_ENOMEM;
    r->min = a->min > b->min ? a->min : b->min;
    r->max = a->max < b->max ? a->max : b->max;
    rc = and_members(s, a, b, r);
    if (rc == 0)
        rc = and_regions(s, a, b, r);
    if (rc < 0)
        return rc;
    r->obligations = schema_alloc(s, (size_t)a->n_obligations + b->n_obligations,
                                  sizeof *r->obligations);
    if (!r->obligations)
        return WATT_ENOMEM;
    for (uint32_t i = 0; i < a->n_obligations; i++)
        r->obligations[r->n_obligations++] = a->obligations[i];
    for (uint32_t i = 0; i < b->n_obligations; i++)
        r->obligations[r->n_obligations++] = b->obligations[i];
    *out = r;
    return 0;
}

/* Another alternative: all objects, to be narrowed by the caller. */
static int alternative(struct schema *s, struct obj **list, uint32_t *n, struct obj **out)
{
    if (*n >= SCHEMA_MAX_BRANCHES)
        return err_set(s->e, WATT_ELIMIT, "schema: too complex (over %u alternatives)",
                       SCHEMA_MAX_BRANCHES);
    const int rc = obj_all(s, out);

    if (rc == 0)
        list[(*n)++] = *out;
    return rc;
}

static int alternative_member(struct schema *s, struct obj **list, uint32_t *n, struct member m)
{
    struct obj *o;
    const int rc = alternative(s, list, n, &o);

    if (rc < 0)
        return rc;
    o->members = schema_alloc(s, 1, sizeof *o->members);
    if (!o->members)
        return WATT_ENOMEM;
    o->members[0] = m;
    o->n_members = 1;
    return 0;
}

static int alternative_obligation(struct schema *s, struct obj **list, uint32_t *n,
                                  const struct dfa *names, expr_id value)
{
    struct obj *o;
    const int rc = alternative(s, list, n, &o);

    if (rc < 0)
        return rc;
    o->obligations = schema_alloc(s, 1, sizeof *o->obligations);
    if (!o->obligations)
        return WATT_ENOMEM;
    o->obligations[0] = (struct obligation){ names, value };
    o->n_obligations = 1;
    return 0;
}

int obj_free_names(struct schema *s, const struct obj *o, const struct dfa *names, struct lang *out)
{
    const struct lang a = { .all = names == s->all_strings, .d = names };
    struct sv *texts;
    struct lang b = { 0 };
    struct dfa *d;
    int rc;

    *out = a;
    if (o->n_members == 0)
        return 0;
    texts = schema_alloc(s, o->n_members, sizeof *texts);
    if (!texts)
        return WATT_ENOMEM;
    for (uint32_t i = 0; i < o->n_members; i++)
        texts[i] = o->members[i].name;
    rc = dfa_literals(&d, texts, o->n_members, SCHEMA_MAX_STATES * 4, s->e);
    if (rc == 0)
        rc = schema_own(s, d);
    if (rc < 0)
        return rc;
    b.d = d;
    return lang_combine(s, &a, DFA_MINUS, &b, s->all_strings, out);
}

static int not_members(struct schema *s, const struct obj *a, struct obj **list, uint32_t *n)
{
    int rc = 0;

    for (uint32_t i = 0; i < a->n_members && rc == 0; i++) {
        const struct member *m = &a->members[i];
        struct member other = { .name = m->name, .required = true };

        rc = expr_not(s, m->value, &other.value);
        if (rc == 0 && other.value != EXPR_FALSE)
            rc = alternative_member(s, list, n, other);
        if (rc == 0 && m->required)
            rc = alternative_member(s, list, n,
                                    (struct member){ .name = m->name, .value = EXPR_FALSE });
    }
    return rc;
}

/* A member with a name of a region and a value that it forbids, or with a forbidden name. */
static int not_regions(struct schema *s, const struct obj *a, struct obj **list, uint32_t *n)
{
    struct lang forbidden = { .all = true }, names;
    int rc = 0;

    for (uint32_t i = 0; i < a->n_regions && rc == 0; i++) {
        const struct region *g = &a->regions[i];
        const struct lang x = { .all = g->names == s->all_strings, .d = g->names };
        expr_id no;

        rc = lang_combine(s, &forbidden, DFA_MINUS, &x, s->all_strings, &forbidden);
        if (rc == 0)
            rc = expr_not(s, g->value, &no);
        if (rc < 0 || no == EXPR_FALSE)
            continue;
        rc = obj_free_names(s, a, g->names, &names);
        if (rc == 0 && names.d)
            rc = alternative_obligation(s, list, n, names.d, no);
    }
    if (rc == 0 && (forbidden.all || forbidden.d)) {
        rc = obj_free_names(s, a, forbidden.all ? s->all_strings : forbidden.d, &names);
        if (rc == 0 && names.d)
            rc = alternative_obligation(s, list, n, names.d, EXPR_TRUE);
    }
    return rc;
}

/* No member of such a name has such a value. */
static int not_obligation(struct schema *s, const struct obligation *x, struct obj **list,
                          uint32_t *n)
{
    const struct lang all = { .all = true }, names = { .d = x->names };
    struct lang rest;
    struct obj *o;
    int rc = alternative(s, list, n, &o);

    if (rc == 0)
        rc = lang_combine(s, &all, DFA_MINUS, &names, s->all_strings, &rest);
    if (rc < 0)
        return rc;
    o->regions = schema_alloc(s, 2, sizeof *o->regions);
    if (!o->regions)
        return WATT_ENOMEM;
    o->n_regions = 1;
    o->regions[0].names = x->names;
    rc = expr_not(s, x->value, &o->regions[0].value);
    if (rest.d)
        o->regions[o->n_regions++] = (struct region){ rest.d, EXPR_TRUE, false };
    return rc;
}

int obj_not(struct schema *s, const struct obj *a, struct obj ***out, uint32_t *n)
{
    struct obj **list = schema_alloc(s, SCHEMA_MAX_BRANCHES, sizeof *list), *o;
    int rc;

    *n = 0;
    if (!list)
        return WATT_ENOMEM;
    rc = not_members(s, a, list, n);
    if (rc == 0)
        rc = not_regions(s, a, list, n);
    if (rc == 0 && a->min > 0) {
        rc = alternative(s, list, n, &o);
        if (rc == 0)
            o->max = a->min - 1;
    }
    if (rc == 0 && a->max != NO_BOUND) {
        rc = alternative(s, list, n, &o);
        if (rc == 0)
            o->min = a->max + 1;
    }
    for (uint32_t i = 0; i < a->n_obligations && rc == 0; i++)
        rc = not_obligation(s, &a->obligations[i], list, n);
    *out = list;
    return rc;
}

int obj_empty(struct schema *s, const struct obj *a, bool *empty)
{
    uint32_t n_required = 0;
    int rc = 0;

    *empty = false;
    for (uint32_t i = 0; i < a->n_members && rc == 0 && !*empty; i++)
        if (a->members[i].required) {
            n_required++;
            rc = expr_empty(s, a->members[i].value, empty);
        }
    if (rc == 0 && (a->min > a->max || n_required > a->max))
        *empty = true;
    return rc;
}
