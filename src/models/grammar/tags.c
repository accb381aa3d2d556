/* tags.c: free text in which some openings are reserved for tags with a grammar inside: tool
 * calls, "structural tags". */
#include <string.h>

#include "models/grammar/cfg.h"
#include "models/grammar/grammar.h"
#include "models/grammar/schema.h"

#define MAX_TRIGGERS 64u
#define MAX_TAGS     1024u
#define MAX_STATES   (1u << 15)

/* Byte strings: any, then `what` if given, then any if `after`. */
static int bytes_with(struct dfa **out, const struct sv *texts, size_t n, bool after, struct err *e)
{
    struct nfa a;
    uint32_t start, found, end;
    int rc;

    nfa_init(&a, MAX_STATES);
    start = nfa_node(&a);
    found = nfa_node(&a);
    end = nfa_node(&a);
    nfa_range(&a, start, 0, 255, start);
    for (size_t i = 0; i < n; i++)
        nfa_bytes(&a, start, texts[i], found);
    nfa_empty(&a, found, end);
    if (after)
        nfa_range(&a, end, 0, 255, end);
    rc = dfa_from_nfa(out, &a, start, end, MAX_STATES, "tags", e);
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

/* Strings in which none of the texts occurs. */
static int bytes_without(struct dfa **out, const struct sv *texts, size_t n, struct err *e)
{
    struct dfa *all, *with;
    int rc = all_bytes(&all, e);

    if (rc < 0)
        return rc;
    rc = bytes_with(&with, texts, n, true, e);
    if (rc == 0) {
        rc = dfa_combine(out, all, DFA_MINUS, with, MAX_STATES, "tags", e);
        dfa_close(with);
    }
    dfa_close(all);
    return rc;
}

/* Strings that end with `text`, and in which no text of the list occurs before their end. */
static int bytes_up_to(struct dfa **out, struct sv text, const struct sv *texts, size_t n,
                       struct err *e)
{
    struct dfa *without = NULL, *one_more = NULL, *ending = NULL;
    struct nfa a;
    uint32_t start, end;
    int rc = bytes_without(&without, texts, n, e);

    if (rc < 0)
        return rc;
    nfa_init(&a, MAX_STATES);
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
    rc = dfa_from_nfa(&one_more, &a, start, end, MAX_STATES, "tags", e);
    nfa_deinit(&a);
    if (rc == 0)
        rc = bytes_with(&ending, &text, 1, false, e);
    if (rc == 0)
        rc = dfa_combine(out, one_more, DFA_AND, ending, MAX_STATES, "tags", e);
    dfa_close(without);
    dfa_close(one_more);
    dfa_close(ending);
    return rc;
}

/* A byte automaton between two nodes. */
static void write_in(struct cfg *g, uint32_t from, const struct dfa *d, uint32_t to)
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

/* The tag after its trigger: what is left of begin, the content, the end. */
static int write_tag(struct cfg *g, uint32_t from, const struct grammar_tag *tag, size_t skip,
                     const struct schema_opts *opts, uint32_t to, struct err *e)
{
    const uint32_t content = nfa_node(&g->a), after = nfa_node(&g->a);
    struct dfa *d;
    uint32_t rule;
    int rc;

    nfa_bytes(&g->a, from, (struct sv){ tag->begin.data + skip, tag->begin.len - skip }, content);
    if (tag->schema) {
        rc = schema_rule(g, tag->schema, opts, &rule, e);
        if (rc < 0)
            return rc;
        cfg_call(g, content, rule, after);
        nfa_bytes(&g->a, after, tag->end, to);
        return 0;
    }
    if (tag->end.len == 0)
        return err_set(e, WATT_EINVAL, "tags: free text needs an end");
    rc = bytes_up_to(&d, tag->end, &tag->end, 1, e);
    if (rc < 0)
        return rc;
    write_in(g, content, d, to);
    dfa_close(d);
    return 0;
}

static int check_tags(const struct grammar_tags *t, struct err *e)
{
    if (t->n_triggers == 0 || t->n_triggers > MAX_TRIGGERS)
        return err_set(e, WATT_EINVAL, "tags: 1 to %u triggers are needed", MAX_TRIGGERS);
    if (t->n_tags == 0 || t->n_tags > MAX_TAGS)
        return err_set(e, WATT_EINVAL, "tags: 1 to %u tags are needed", MAX_TAGS);
    for (size_t i = 0; i < t->n_triggers; i++)
        if (t->triggers[i].len == 0 || t->triggers[i].len > 256)
            return err_set(e, WATT_EINVAL, "tags: trigger %zu must have 1 to 256 bytes", i);
    for (size_t k = 0; k < t->n_tags; k++) {
        bool found = false;

        for (size_t i = 0; i < t->n_triggers; i++)
            found |= sv_starts(t->tags[k].begin, t->triggers[i]);
        if (!found)
            return err_set(e, WATT_EINVAL, "tags: begin '%.*s' starts with no trigger",
                           t->tags[k].begin.len > 80 ? 80 : (int)t->tags[k].begin.len,
                           t->tags[k].begin.data);
    }
    return 0;
}

int grammar_from_tags(struct grammar **out, const struct grammar_tags *t,
                      const struct schema_opts *opts, struct err *e)
{
    struct dfa *d;
    struct cfg g;
    uint32_t rule, start, after, again, end;
    int rc = check_tags(t, e);

    if (rc < 0)
        return rc;
    cfg_init(&g);
    rule = cfg_rule(&g);
    start = nfa_node(&g.a);     /* before the first tag */
    after = nfa_node(&g.a);     /* behind a tag */
    end = nfa_node(&g.a);
    again = t->stop_after_first ? end : after;
    for (size_t i = 0; i < t->n_triggers && rc == 0; i++) {
        const uint32_t there = nfa_node(&g.a);

        rc = bytes_up_to(&d, t->triggers[i], t->triggers, t->n_triggers, e);
        if (rc < 0)
            break;
        write_in(&g, start, d, there);
        if (!t->stop_after_first)
            write_in(&g, after, d, there);
        dfa_close(d);
        for (size_t k = 0; k < t->n_tags && rc == 0; k++)
            if (sv_starts(t->tags[k].begin, t->triggers[i]))
                rc = write_tag(&g, there, &t->tags[k], t->triggers[i].len, opts, again, e);
    }
    if (rc == 0)
        rc = bytes_without(&d, t->triggers, t->n_triggers, e);
    if (rc == 0) {
        if (!t->at_least_one)
            write_in(&g, start, d, end);
        if (!t->stop_after_first)
            write_in(&g, after, d, end);
        dfa_close(d);
        cfg_define(&g, rule, start, end);
        rc = cfg_compile(out, &g, rule, "tags", e);
    }
    cfg_deinit(&g);
    return rc;
}
