/* free_text.c: text in which some strings do not occur; see free_text.h. */
#include "models/grammar/free_text.h"

/* Byte strings: any, then `what` if given, then any if `after`. */
static int bytes_with(struct dfa **out, const struct sv *texts, size_t n, bool after, struct err *e)
{
    struct nfa a;
    uint32_t start, found, end;
    int rc;

    nfa_init(&a, FREE_MAX_STATES);
    start = nfa_node(&a);
    found = nfa_node(&a);
    end = nfa_node(&a);
    nfa_range(&a, start, 0, 255, start);
    for (size_t i = 0; i < n; i++)
        nfa_bytes(&a, start, texts[i], found);
    nfa_empty(&a, found, end);
    if (after)
        nfa_range(&a, end, 0, 255, end);
    rc = dfa_from_nfa(out, &a, start, end, FREE_MAX_STATES, "tags", e);
    nfa_deinit(&a);
    return rc;
}

static int all_bytes(struct dfa **out, struct err *e)
{
    struct nfa a;
    uint32_t at;
    int rc;

    nfa_init(&a, 8);
    at = nfa_node(&a);
    nfa_range(&a, at, 0, 255, at);
    rc = dfa_from_nfa(out, &a, at, at, 8, "tags", e);
    nfa_deinit(&a);
    return rc;
}

int free_without(struct dfa **out, const struct sv *texts, size_t n, struct err *e)
{
    struct dfa *all, *with;
    int rc = all_bytes(&all, e);

    if (rc < 0)
        return rc;
    rc = bytes_with(&with, texts, n, true, e);
    if (rc == 0) {
        rc = dfa_combine(out, all, DFA_MINUS, with, FREE_MAX_STATES, "tags", e);
        dfa_close(with);
    }
    dfa_close(all);
    return rc;
}

int free_up_to(struct dfa **out, struct sv text, const struct sv *texts, size_t n,
               struct err *e)
{
    struct dfa *without = NULL, *one_more = NULL, *ending = NULL;
    struct nfa a;
    uint32_t start, end;
    int rc = free_without(&without, texts, n, e);

    if (rc < 0)
        return rc;
    nfa_init(&a, FREE_MAX_STATES);
    start = nfa_node(&a);
    end = nfa_node(&a);
    for (uint32_t s = 0; s < without->n_states; s++)
        nfa_node(&a);
    nfa_empty(&a, start, end + 1);
    for (uint32_t s = 0; s < without->n_states; s++) {
        const struct dfa_state *st = &without->states[s];

        for (uint32_t k = 0; k < st->n; k++) {
            const struct dfa_edge *g = &without->edges[st->first + k];

            nfa_range(&a, end + 1 + s, g->lo, g->hi, end + 1 + g->to);
        }
        if (st->accept)
            nfa_range(&a, end + 1 + s, 0, 255, end);
    }
    rc = dfa_from_nfa(&one_more, &a, start, end, FREE_MAX_STATES, "tags", e);
    nfa_deinit(&a);
    if (rc == 0)
        rc = bytes_with(&ending, &text, 1, false, e);
    if (rc == 0)
        rc = dfa_combine(out, one_more, DFA_AND, ending, FREE_MAX_STATES, "tags", e);
    dfa_close(without);
    dfa_close(one_more);
    dfa_close(ending);
    return rc;
}

void free_write(struct cfg *g, uint32_t from, const struct dfa *d, uint32_t to)
{
    const uint32_t base = g->a.n_nodes;

    for (uint32_t s = 0; s < d->n_states; s++)
        nfa_node(&g->a);
    nfa_empty(&g->a, from, base);
    for (uint32_t s = 0; s < d->n_states && !g->a.failed; s++) {
        const struct dfa_state *st = &d->states[s];

        for (uint32_t k = 0; k < st->n; k++) {
            const struct dfa_edge *x = &d->edges[st->first + k];

            nfa_range(&g->a, base + s, x->lo, x->hi, base + x->to);
        }
        if (st->accept)
            nfa_empty(&g->a, base + s, to);
    }
}
