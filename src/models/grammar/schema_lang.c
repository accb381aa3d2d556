/* schema_lang.c: sets of strings and of numbers: automata, or automata with counts beside them. */
#include "models/grammar/schema.h"

#define SMALL_PRODUCT 1024u     /* states that are as well written out */

static int combined(struct schema *s, const struct dfa *a, enum dfa_op op, const struct dfa *b,
                    const struct dfa **out)
{
    const struct dfa *d;
    const int rc = schema_combine(s, a, op, b, SCHEMA_MAX_STATES, "schema", &d);

    if (rc == 0)
        *out = dfa_is_empty(d) ? NULL : d;
    return rc;
}

/* min..max characters before the first `until`, then anything. */
static int counts_before(const struct cfg_count *c, struct dfa **out, struct err *e)
{
    struct nfa a;
    uint32_t start, end, at;
    int rc;

    nfa_init(&a, SCHEMA_MAX_COUNT + 8);
    at = start = nfa_node(&a);
    end = nfa_node(&a);
    nfa_range(&a, end, 0, 0xD7FF, end);
    nfa_range(&a, end, 0xE000, FA_MAX_CHAR, end);
    for (uint32_t i = 0; i <= c->max && !a.failed; i++) {
        const uint32_t next = nfa_node(&a);

        if (i >= c->min)
            nfa_range(&a, at, c->until, c->until, end);
        if (i == c->max)
            break;
        nfa_range(&a, at, 0, c->until - 1, next);
        nfa_range(&a, at, c->until + 1, 0xD7FF, next);
        nfa_range(&a, at, 0xE000, FA_MAX_CHAR, next);
        at = next;
    }
    rc = nfa_ok(&a, "schema", e);
    if (rc == 0)
        rc = dfa_from_nfa(out, &a, start, end, SCHEMA_MAX_COUNT + 8, "schema", e);
    nfa_deinit(&a);
    return rc;
}

int lang_plain(struct schema *s, struct lang *l)
{
    struct dfa *limit;
    int rc;

    if (!l->counted)
        return 0;
    rc = l->count.until == FA_NONE ? dfa_length(&limit, l->count.min, l->count.max, s->e)
                                   : counts_before(&l->count, &limit, s->e);
    if (rc == 0)
        rc = schema_own(s, limit);
    if (rc == 0 && l->d == s->all_strings)
        l->d = limit;
    else if (rc == 0)
        rc = combined(s, l->d, DFA_AND, limit, &l->d);
    l->counted = false;
    return rc;
}

int lang_limit(struct schema *s, struct lang *l, const struct cfg_count *c)
{
    bool can = false, empty = false;
    int rc = lang_plain(s, l);

    if (rc < 0 || (!l->all && !l->d))
        return rc;
    l->counted = true;
    l->count = *c;
    if (l->all)
        l->d = s->all_strings;
    else if (((uint64_t)(c->max != NO_BOUND ? c->max : c->min) + 1) * l->d->n_states > SMALL_PRODUCT &&
             (c->max != NO_BOUND || c->until == FA_NONE))
        rc = cfg_can_count(l->d, c, &can, &empty, s->e);
    l->all = false;
    if (rc == 0 && empty)
        *l = (struct lang){ 0 };
    return rc < 0 || can ? rc : lang_plain(s, l);
}

/* The counts of both, where they can be said at once. */
static bool both_counts(const struct lang *a, const struct lang *b, struct cfg_count *c)
{
    *c = a->counted ? a->count : b->count;
    if (a->counted && b->counted) {
        if (a->count.until != b->count.until)
            return false;
        c->min = c->min > b->count.min ? c->min : b->count.min;
        c->max = c->max < b->count.max ? c->max : b->count.max;
    }
    return (a->counted || b->counted) && c->min <= c->max;
}

int lang_combine(struct schema *s, const struct lang *a, enum dfa_op op, const struct lang *b,
                 const struct dfa *all, struct lang *out)
{
    const bool no_a = !a->all && !a->d, no_b = !b->all && !b->d;

    if (op == DFA_AND && (no_a || no_b))
        *out = (struct lang){ 0 };
    else if (op == DFA_AND && a->all)
        *out = *b;
    else if (op == DFA_AND && b->all)
        *out = *a;
    else if (op == DFA_OR && (a->all || b->all))
        *out = (struct lang){ .all = true };
    else if ((op == DFA_OR && no_b) || (op == DFA_MINUS && no_b))
        *out = *a;
    else if (op == DFA_OR && no_a)
        *out = *b;
    else if (op == DFA_MINUS && (no_a || b->all))
        *out = (struct lang){ 0 };
    else {
        struct lang x = *a, y = *b, r = { .inexact = a->inexact || b->inexact };
        struct cfg_count c;
        const bool limit = op == DFA_AND && both_counts(a, b, &c);
        int rc = limit ? 0 : lang_plain(s, &x);

        if (rc == 0 && !limit)
            rc = lang_plain(s, &y);
        if (rc == 0)
            rc = combined(s, x.all ? all : x.d, op, y.d, &r.d);
        if (rc == 0 && limit && r.d)
            rc = lang_limit(s, &r, &c);
        if (rc < 0)
            return rc;
        *out = r;
    }
    return 0;
}
