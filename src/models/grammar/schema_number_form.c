/* schema_number_form.c: which spellings of numbers are offered.
 *
 * A set of numbers is the language of all their spellings, 5 and 5.0 and 5.000, so that sets can be
 * combined; a model that may write them all can write zeros for ever, and readers with typed integers
 * refuse 5.0. Offered are
 *  - no more digits behind the point than the shortest spelling of some number in the set needs, so
 *    integers have none, and multiples of 0.05 two; where any number of digits can be needed, 20. Zeros up
 *    to there stay, because who wrote "2.5" and means 2.50 would have to go on with another digit;
 *  - of sets whose whole parts are without end those whose whole parts fit 64 bits, which every reader takes;
 *  - no minus before zero alone, unless fractions below zero are in the set.
 * A set that has nothing within these bounds is offered by its shortest spellings. */
#include <string.h>

#include "base/mem.h"
#include "models/grammar/regex.h"
#include "models/grammar/schema.h"

#define MAX_PART    20u
#define ENDLESS     512u        /* more digits than a bound has (schema_number.c) */
#define MAX_PRODUCT 8192u       /* states; of larger sets whole parts stay without end */
#define MAX_STATES  (SCHEMA_MAX_STATES * 4)

static const char most_whole[] = "9223372036854775807";

struct form {
    uint32_t n_part;            /* digits behind the point */
    bool     negative, bounded;
};

/* Digits of a whole part of at most 19 digits and at most most_whole: whether the digits so far are
 * its first ones, or else how many more there may be. */
static void bounded_whole(struct nfa *a, uint32_t from, uint32_t to)
{
    const uint32_t n = sizeof most_whole - 1;
    uint32_t left[sizeof most_whole], same = from;

    for (uint32_t i = 0; i < n; i++) {
        left[i] = nfa_node(a);
        nfa_empty(a, left[i], to);
        if (i > 0)
            nfa_range(a, left[i], '0', '9', left[i - 1]);
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t digit = (unsigned char)most_whole[i], next = nfa_node(a);

        nfa_range(a, same, i == 0 ? '1' : '0', digit - 1, left[n - 1 - i]);
        if (i + 1 < n)
            nfa_range(a, same, digit + 1, '9', left[n - 2 - i]);
        nfa_range(a, same, digit, digit, next);
        nfa_empty(a, next, to);
        same = next;
    }
}

static void whole_part(struct nfa *a, uint32_t from, bool bounded, uint32_t to)
{
    const uint32_t more = nfa_node(a);

    if (bounded) {
        bounded_whole(a, from, to);
        return;
    }
    nfa_range(a, from, '1', '9', more);
    nfa_range(a, more, '0', '9', more);
    nfa_empty(a, more, to);
}

static int form_dfa(struct schema *s, const struct form *f, const struct dfa **out)
{
    struct nfa a;
    uint32_t start, end, whole, minus, at;
    struct dfa *d;
    int rc;

    nfa_init(&a, 4096);
    start = nfa_node(&a);
    end = nfa_node(&a);
    whole = nfa_node(&a);
    nfa_range(&a, start, '0', '0', whole);
    whole_part(&a, start, f->bounded, whole);
    if (f->negative) {
        minus = nfa_node(&a);
        nfa_range(&a, start, '-', '-', minus);
        whole_part(&a, minus, f->bounded, whole);
        if (f->n_part)
            nfa_range(&a, minus, '0', '0', whole);
    }
    nfa_empty(&a, whole, end);
    at = nfa_node(&a);
    if (f->n_part)
        nfa_range(&a, whole, '.', '.', at);
    for (uint32_t i = 0; i < f->n_part; i++) {
        const uint32_t next = nfa_node(&a);

        nfa_range(&a, at, '0', '9', next);
        nfa_empty(&a, next, end);
        at = next;
    }
    rc = dfa_from_nfa(&d, &a, start, end, 4096, "schema: number", s->e);
    nfa_deinit(&a);
    if (rc == 0)
        rc = schema_own(s, d);
    if (rc == 0)
        *out = d;
    return rc;
}

/* The shortest spelling of every number. */
static int shortest(struct schema *s, const struct dfa **out)
{
    struct dfa *d;
    int rc = 0;

    if (!s->shortest_numbers) {
        rc = regex_compile(&d, SV("0|-?[1-9][0-9]*|-?(?:0|[1-9][0-9]*)\\.[0-9]*[1-9]"), REGEX_WHOLE,
                           "schema: number", s->e);
        if (rc == 0)
            rc = schema_own(s, d);
        if (rc == 0)
            s->shortest_numbers = d;
    }
    *out = s->shortest_numbers;
    return rc;
}

/* How many digits the longest whole part (with its sign) or part behind the point has, up to ENDLESS. */
static int longest(struct schema *s, const struct dfa *d, bool part, uint32_t *out)
{
    uint32_t *now = mem_array(2 * (size_t)d->n_states, sizeof *now);
    uint32_t *seen = mem_calloc(d->n_states, sizeof *seen);     /* the round in which a state was added */
    uint32_t n = 0, round = 1;

    *out = 0;
    if (!now || !seen) {
        mem_free(now);
        mem_free(seen);
        return err_set(s->e, WATT_ENOMEM, "schema: memory");
    }
    for (uint32_t k = 0; part && k < d->n_edges; k++)
        if (d->edges[k].lo == '.' && seen[d->edges[k].to] != round) {
            seen[d->edges[k].to] = round;
            now[n++] = d->edges[k].to;
        }
    if (!part)
        now[n++] = 0;
    for (; n && *out < ENDLESS; ++*out) {
        uint32_t *next = now + d->n_states, n_next = 0;

        round++;
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t k = 0; k < d->states[now[i]].n; k++) {
                const struct dfa_edge *x = &d->edges[d->states[now[i]].first + k];

                if (x->lo == '.' || seen[x->to] == round)
                    continue;
                seen[x->to] = round;
                next[n_next++] = x->to;
            }
        memcpy(now, next, n_next * sizeof *now);
        n = n_next;
    }
    *out -= *out > 0 && *out < ENDLESS;         /* edges, not states */
    mem_free(now);
    mem_free(seen);
    return 0;
}

int number_any(struct schema *s, const struct dfa **out)
{
    const struct form f = { .n_part = MAX_PART, .negative = true, .bounded = true };

    return form_dfa(s, &f, out);
}

int number_exponent(struct schema *s, const struct dfa **out)
{
    struct dfa *d;
    int rc = regex_compile(&d, SV("[eE][+-]?(?:[0-9]{1,2}|1[0-9]{2}|2[0-8][0-9])"), REGEX_WHOLE,
                           "schema: number", s->e);

    if (rc == 0)
        rc = schema_own(s, d);
    if (rc == 0)
        *out = d;
    return rc;
}

int number_form(struct schema *s, const struct dfa *d, const struct dfa **out)
{
    static const char what[] = "schema: number";
    const struct dfa *canonical, *limits;
    struct form f;
    uint32_t n_whole;
    int rc = shortest(s, &canonical);

    if (rc == 0)
        rc = schema_combine(s, d, DFA_AND, canonical, MAX_STATES, what, &canonical);
    if (rc == 0)
        rc = longest(s, canonical, true, &f.n_part);
    if (rc == 0)
        rc = longest(s, canonical, false, &n_whole);
    if (rc < 0)
        return rc;
    f.negative = dfa_next(canonical, 0, '-') != FA_NONE;
    f.bounded = n_whole >= ENDLESS;
    if (f.n_part >= ENDLESS)
        f.n_part = MAX_PART;
    rc = form_dfa(s, &f, &limits);
    if (rc == 0)
        rc = schema_combine(s, d, DFA_AND, limits, f.bounded ? MAX_PRODUCT : MAX_STATES, what, out);
    if (rc == WATT_ELIMIT && f.bounded) {
        f.bounded = false;
        rc = form_dfa(s, &f, &limits);
        if (rc == 0)
            rc = schema_combine(s, d, DFA_AND, limits, MAX_STATES, what, out);
    }
    if (rc == 0 && dfa_is_empty(*out))
        *out = canonical;
    return rc;
}
