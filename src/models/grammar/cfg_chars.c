/* cfg_chars.c: characters and automata over characters as bytes: UTF-8, and JSON strings. */
#include "base/mem.h"
#include "models/grammar/cfg_counted.h"

/* Above this many states the long way to write a character is a call of a shared rule: one state
 * per character instead of dozens. */
#define SMALL_DFA 128u

/* How the digits of a number are written: hexadecimal, or UTF-8 after the length is known. */
enum spelling { HEX4, UTF8_1, UTF8_2, UTF8_3, UTF8_4 };

static void digit(struct cfg *g, enum spelling how, unsigned left, uint32_t from, uint32_t lo,
                  uint32_t hi, uint32_t to)
{
    static const uint32_t lead[] = { 0, 0, 0xC0, 0xE0, 0xF0 };

    if (how == HEX4) {
        if (lo <= 9)
            nfa_range(&g->a, from, '0' + lo, '0' + (hi < 9 ? hi : 9), to);
        if (hi > 9) {
            const uint32_t first = lo > 10 ? lo : 10;

            nfa_range(&g->a, from, 'a' + first - 10, 'a' + hi - 10, to);
            nfa_range(&g->a, from, 'A' + first - 10, 'A' + hi - 10, to);
        }
        return;
    }
    if (left + 1 == (unsigned)how)
        nfa_range(&g->a, from, lead[how] | lo, lead[how] | hi, to);
    else
        nfa_range(&g->a, from, 0x80 | lo, 0x80 | hi, to);
}

/* All numbers lo..hi of `left + 1` digits of `bits` bits. */
static void digits(struct cfg *g, enum spelling how, unsigned bits, unsigned left, uint32_t from,
                   uint32_t lo, uint32_t hi, uint32_t to)
{
    const uint32_t low = left ? (1u << bits * left) - 1 : 0;
    uint32_t a = lo >> bits * left, b = hi >> bits * left, mid;

    if (g->a.failed)
        return;
    if (left == 0) {
        digit(g, how, 0, from, lo, hi, to);
        return;
    }
    if (a == b) {
        mid = nfa_node(&g->a);
        digit(g, how, left, from, a, a, mid);
        digits(g, how, bits, left - 1, mid, lo & low, hi & low, to);
        return;
    }
    if (lo & low) {
        mid = nfa_node(&g->a);
        digit(g, how, left, from, a, a, mid);
        digits(g, how, bits, left - 1, mid, lo & low, low, to);
        a++;
    }
    if ((hi & low) != low) {
        mid = nfa_node(&g->a);
        digit(g, how, left, from, b, b, mid);
        digits(g, how, bits, left - 1, mid, 0, hi & low, to);
        b--;
    }
    if (a <= b) {
        mid = nfa_node(&g->a);
        digit(g, how, left, from, a, b, mid);
        digits(g, how, bits, left - 1, mid, 0, low, to);
    }
}

static void utf8_range(struct cfg *g, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    static const uint32_t last[] = { 0, 0x7F, 0x7FF, 0xFFFF, 0x10FFFF };

    for (unsigned n = 1; n <= 4; n++) {
        const uint32_t a = lo > last[n - 1] + (n > 1) ? lo : last[n - 1] + (n > 1);
        const uint32_t b = hi < last[n] ? hi : last[n];

        if (a > b)
            continue;
        if (n == 1)
            nfa_range(&g->a, from, a, b, to);
        else
            digits(g, (enum spelling)n, 6, n - 1, from, a, b, to);
    }
}

void cfg_chars(struct cfg *g, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    if (lo <= 0xD7FF)
        utf8_range(g, from, lo, hi < 0xD7FF ? hi : 0xD7FF, to);
    if (hi >= 0xE000)
        utf8_range(g, from, lo > 0xE000 ? lo : 0xE000, hi, to);
}

/* \uXXXX, as a pair of surrogates above U+FFFF. */
static void unicode_escapes(struct cfg *g, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    if (lo <= 0xFFFF) {
        const uint32_t u = nfa_node(&g->a), top = hi < 0xFFFF ? hi : 0xFFFF;

        nfa_bytes(&g->a, from, SV("\\u"), u);
        if (lo <= 0xD7FF)
            digits(g, HEX4, 4, 3, u, lo, top < 0xD7FF ? top : 0xD7FF, to);
        if (top >= 0xE000)
            digits(g, HEX4, 4, 3, u, lo > 0xE000 ? lo : 0xE000, top, to);
    }
    if (hi > 0xFFFF) {
        const uint32_t a = (lo > 0x10000 ? lo : 0x10000) - 0x10000, b = hi - 0x10000;

        for (uint32_t h = a >> 10; h <= b >> 10;) {
            /* as many leading surrogates at once as have the same trailing ones */
            const uint32_t first = h == a >> 10 ? a & 1023 : 0;
            const uint32_t final = h == b >> 10 ? b & 1023 : 1023;
            uint32_t same = h;
            const uint32_t u = nfa_node(&g->a), mid = nfa_node(&g->a), u2 = nfa_node(&g->a);

            if (first == 0 && final == 1023)
                same = (b & 1023) == 1023 ? b >> 10 : h < b >> 10 ? (b >> 10) - 1 : h;
            nfa_bytes(&g->a, from, SV("\\u"), u);
            digits(g, HEX4, 4, 3, u, 0xD800 + h, 0xD800 + same, mid);
            nfa_bytes(&g->a, mid, SV("\\u"), u2);
            digits(g, HEX4, 4, 3, u2, 0xDC00 + first, 0xDC00 + final, to);
            h = same + 1;
        }
    }
}

static void short_escapes(struct cfg *g, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    static const struct { uint32_t cp, letter; } list[] = { { '"', '"' }, { '\\', '\\' },
        { '\b', 'b' }, { '\f', 'f' }, { '\n', 'n' }, { '\r', 'r' }, { '\t', 't' } };
    uint32_t slash = FA_NONE;

    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (list[i].cp < lo || list[i].cp > hi)
            continue;
        if (slash == FA_NONE) {
            slash = nfa_node(&g->a);
            nfa_range(&g->a, from, '\\', '\\', slash);
        }
        nfa_range(&g->a, slash, list[i].letter, list[i].letter, to);
    }
}

static void json_plain(struct cfg *g, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    static const uint32_t plain[][2] = { { 0x20, '"' - 1 }, { '"' + 1, '\\' - 1 },
                                         { '\\' + 1, FA_MAX_CHAR } };

    for (size_t i = 0; i < 3; i++) {
        const uint32_t a = lo > plain[i][0] ? lo : plain[i][0];
        const uint32_t b = hi < plain[i][1] ? hi : plain[i][1];

        if (a <= b)
            cfg_chars(g, from, a, b, to);
    }
}

static void json_chars(struct cfg *g, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    json_plain(g, from, lo, hi, to);
    short_escapes(g, from, lo, hi, to);
    if (lo < 0x20)
        unicode_escapes(g, from, lo, hi < 0x1F ? hi : 0x1F, to);
    if (hi > 0x7E)
        unicode_escapes(g, from, lo > 0x7F ? lo : 0x7F, hi, to);
}

/* Everything that json_chars makes of all characters, but for plain ASCII. */
static uint32_t rare_rule(struct cfg *g)
{
    if (g->rare_char == FA_NONE) {
        const uint32_t rule = cfg_rule(g), start = nfa_node(&g->a), end = nfa_node(&g->a);

        json_plain(g, start, 0x80, FA_MAX_CHAR, end);
        short_escapes(g, start, 0, FA_MAX_CHAR, end);
        unicode_escapes(g, start, 0, 0x1F, end);
        unicode_escapes(g, start, 0x7F, FA_MAX_CHAR, end);
        cfg_define(g, rule, start, end);
        g->rare_char = rule;
    }
    return g->rare_char;
}

/* Does one state's list of edges send every character to the same state from edge k on?
 * (Two edges around the surrogates.) */
static bool all_chars(const struct dfa *d, const struct dfa_state *s)
{
    const struct dfa_edge *g = d->edges + s->first;

    return s->n == 2 && g[0].lo == 0 && g[0].hi == 0xD7FF && g[1].lo == 0xE000 &&
           g[1].hi == FA_MAX_CHAR && g[0].to == g[1].to;
}

/* Where characters of an automaton go: to nodes of its states, and for states of chains to jumps. */
struct lifting {
    struct cfg           *g;
    const struct dfa     *d;
    bool                  json, large;
    uint32_t             *node;         /* [n_states]; of a chain's state its jump, FA_NONE until used */
    struct counted_place *place;        /* [n_states]; NULL: no chains */
    uint32_t             *body, first;  /* [chains] a chain's node; the number of the first chain */
};

static uint32_t node_of(struct lifting *l, uint32_t s)
{
    if (l->node[s] == FA_NONE) {
        const struct counted_place p = l->place[s];
        const uint32_t jump = counted_jump(l->g, p.chain, p.layer, 0);

        l->node[s] = nfa_node(&l->g->a);
        nfa_range(&l->g->a, l->node[s], jump, jump, l->body[p.chain - l->first]);
    }
    return l->node[s];
}

static void lift_edge(struct lifting *l, uint32_t from, const struct dfa_edge *x, uint32_t to)
{
    if (l->json)
        json_chars(l->g, from, x->lo, x->hi, to);
    else
        cfg_chars(l->g, from, x->lo, x->hi, to);
}

static void lift_end(struct lifting *l, uint32_t from, uint32_t to)
{
    if (l->json)
        nfa_range(&l->g->a, from, '"', '"', to);
    else
        nfa_empty(&l->g->a, from, to);
}

static void lift_state(struct lifting *l, uint32_t s, uint32_t to)
{
    const struct dfa_state *st = &l->d->states[s];

    if (st->accept)
        lift_end(l, l->node[s], to);
    if (l->json && l->large && all_chars(l->d, st)) {
        const uint32_t next = node_of(l, l->d->edges[st->first].to);

        json_plain(l->g, l->node[s], 0, 0x7F, next);
        cfg_call(l->g, l->node[s], rare_rule(l->g), next);
        return;
    }
    for (uint32_t k = 0; k < st->n; k++)
        lift_edge(l, l->node[s], &l->d->edges[st->first + k], node_of(l, l->d->edges[st->first + k].to));
}

/* What all states of a chain do, written once. s: the one before the last; the last does what they do
 * besides going on. */
static void lift_chain(struct lifting *l, uint32_t s, uint32_t last, uint32_t to)
{
    const uint32_t chain = l->place[s].chain, body = l->body[chain - l->first];
    const uint32_t jump = counted_jump(l->g, chain, FA_NONE, 0), on = nfa_node(&l->g->a);

    nfa_range(&l->g->a, on, jump, jump, body);
    if (l->d->states[last].accept)
        lift_end(l, body, to);
    for (int which = 0; which < 2; which++) {
        const struct dfa_state *st = &l->d->states[which ? last : s];

        for (uint32_t k = st->first; k < st->first + st->n; k++)
            if (which)
                lift_edge(l, body, &l->d->edges[k], node_of(l, l->d->edges[k].to));
            else if (l->place[l->d->edges[k].to].chain == chain && l->d->edges[k].to == last)
                lift_edge(l, body, &l->d->edges[k], on);
    }
}

static void lift(struct lifting *l, uint32_t from, uint32_t to, uint32_t n_chains)
{
    struct cfg *g = l->g;
    const struct dfa *d = l->d;
    uint32_t n_plain = 0;

    for (uint32_t s = 0; s < d->n_states; s++) {
        const bool plain = !l->place || l->place[s].chain == FA_NONE;

        l->node[s] = plain ? nfa_node(&g->a) : FA_NONE;
        n_plain += plain;
    }
    l->large = n_plain > SMALL_DFA;
    for (uint32_t i = 0; i < n_chains; i++)
        l->body[i] = nfa_node(&g->a);
    nfa_empty(&g->a, from, node_of(l, 0));
    for (uint32_t s = 0; s < d->n_states && !g->a.failed && !g->failed; s++) {
        if (!l->place || l->place[s].chain == FA_NONE)
            lift_state(l, s, to);
        else if (l->place[s].layer + 1 == g->chains[l->place[s].chain].length)
            for (uint32_t k = 0; k < d->states[s].n; k++) {
                const uint32_t last = d->edges[d->states[s].first + k].to;

                if (l->place[last].chain == l->place[s].chain &&
                    l->place[last].layer == l->place[s].layer + 1) {
                    lift_chain(l, s, last, to);
                    break;
                }
            }
    }
}

/* Strings of some lengths are most often the same ones. */
static const struct cfg_length *known_length(const struct cfg *g, uint32_t min, uint32_t max)
{
    for (uint32_t i = 0; i < g->n_lengths; i++)
        if (g->lengths[i].min == min && g->lengths[i].max == max)
            return &g->lengths[i];
    return NULL;
}

static void know_length(struct cfg *g, uint32_t min, uint32_t max, uint32_t rule)
{
    if (g->n_lengths == g->cap_lengths) {
        const uint32_t cap = g->cap_lengths ? g->cap_lengths * 2 : 8;
        struct cfg_length *p = mem_grow(g->lengths, cap, sizeof *p);

        if (!p) {
            g->failed = true;
            return;
        }
        g->lengths = p;
        g->cap_lengths = cap;
    }
    g->lengths[g->n_lengths++] = (struct cfg_length){ min, max, rule };
}

/* Is it nothing but min..max characters of any kind? */
static bool only_counts(const struct lifting *l, uint32_t n_chains, uint32_t *min, uint32_t *max)
{
    const struct counted_chain *c = &l->g->chains[l->first];

    *min = n_chains ? c->min : 0;
    *max = n_chains ? c->length : 0;
    return n_chains == 1 && l->d->n_states == c->length + 1 && l->place[0].layer == 0 &&
           l->place[0].chain == l->first && all_chars(l->d, &l->d->states[0]);
}

static void lift_text(struct cfg *g, uint32_t from, const struct dfa *d, uint32_t to, bool json)
{
    struct lifting l = { .g = g, .d = d, .json = json, .first = g->n_chains };
    const struct cfg_length *known;
    uint32_t n_chains = 0, rule, start, end, min, max;

    l.node = mem_array(d->n_states, sizeof *l.node);
    l.place = mem_array(d->n_states, sizeof *l.place);
    if (!l.node || !l.place || !counted_find(g, d, json, json, l.place, &n_chains)) {
        g->failed = true;
        goto done;
    }
    l.body = mem_array(n_chains ? n_chains : 1, sizeof *l.body);
    if (!l.body) {
        g->failed = true;
        goto done;
    }
    if (n_chains == 0) {
        start = json ? nfa_node(&g->a) : from;
        if (json)
            nfa_range(&g->a, from, '"', '"', start);
        mem_free(l.place);
        l.place = NULL;
        lift(&l, start, to, 0);
        goto done;
    }
    if (json && only_counts(&l, n_chains, &min, &max)) {
        known = known_length(g, min, max);
        if (known) {
            g->n_chains = l.first;
            cfg_call(g, from, known->rule, to);
            goto done;
        }
        know_length(g, min, max, g->n_rules);
    }
    rule = cfg_rule(g);
    start = nfa_node(&g->a);
    end = nfa_node(&g->a);
    cfg_define(g, rule, start, end);
    if (!g->failed)
        g->rules[rule].keep = g->rules[rule].counted = true;
    if (json) {
        const uint32_t open = nfa_node(&g->a);

        nfa_range(&g->a, start, '"', '"', open);
        start = open;
    }
    lift(&l, start, end, n_chains);
    cfg_call(g, from, rule, to);
done:
    mem_free(l.node);
    mem_free(l.place);
    mem_free(l.body);
}

/* Every state that counts is a boundary: what is a character further leads to one by a jump. */
static void lift_region(struct lifting *l, uint32_t to)
{
    struct cfg *g = l->g;
    const uint32_t n = g->chains[l->first].n_bounds;
    uint32_t *body = l->body, *on = l->body + n;

    for (uint32_t i = 0; i < n; i++) {
        const uint32_t jump = counted_jump(g, l->first, FA_NONE, i);

        body[i] = nfa_node(&g->a);
        on[i] = nfa_node(&g->a);
        nfa_range(&g->a, on[i], jump, jump, body[i]);
    }
    for (uint32_t s = 0; s < l->d->n_states && !g->a.failed && !g->failed; s++) {
        const struct dfa_state *st = &l->d->states[s];
        const struct counted_place p = l->place[s];

        if (p.chain == FA_NONE) {
            lift_state(l, s, to);
            continue;
        }
        if (st->accept)
            lift_end(l, body[p.layer], to);
        for (uint32_t k = st->first; k < st->first + st->n; k++) {
            const struct dfa_edge *x = &l->d->edges[k];

            lift_edge(l, body[p.layer], x,
                      l->place[x->to].chain == FA_NONE ? l->node[x->to] : on[l->place[x->to].layer]);
        }
    }
}

void cfg_json_counted(struct cfg *g, uint32_t from, const struct dfa *d, const struct cfg_count *c,
                      uint32_t to)
{
    struct lifting l = { .g = g, .d = d, .json = true, .first = g->n_chains };
    const uint32_t rule = cfg_rule(g), start = nfa_node(&g->a), open = nfa_node(&g->a),
                   end = nfa_node(&g->a);
    uint32_t jump;

    l.node = mem_array(d->n_states, sizeof *l.node);
    l.place = mem_array(d->n_states, sizeof *l.place);
    l.body = mem_array(2 * (size_t)d->n_states, sizeof *l.body);
    if (!l.node || !l.place || !l.body || g->failed || !counted_region(g, d, c, l.place)) {
        g->failed = true;
        goto done;
    }
    for (uint32_t s = 0; s < d->n_states; s++)
        l.node[s] = l.place[s].chain == FA_NONE ? nfa_node(&g->a) : FA_NONE;
    cfg_define(g, rule, start, end);
    g->rules[rule].keep = g->rules[rule].counted = true;
    lift_region(&l, end);
    nfa_range(&g->a, start, '"', '"', open);
    jump = counted_jump(g, l.first, 0, 0);
    nfa_range(&g->a, open, jump, jump, l.body[0]);
    cfg_call(g, from, rule, to);
done:
    mem_free(l.node);
    mem_free(l.place);
    mem_free(l.body);
}

void cfg_text(struct cfg *g, uint32_t from, const struct dfa *d, uint32_t to)
{
    lift_text(g, from, d, to, false);
}

void cfg_json_text(struct cfg *g, uint32_t from, const struct dfa *d, uint32_t to)
{
    lift_text(g, from, d, to, true);
}
