/* cfg_chars.c: characters and automata over characters as bytes: UTF-8, and JSON strings. */
#include "base/mem.h"
#include "models/grammar/cfg.h"

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

static void lift(struct cfg *g, uint32_t from, const struct dfa *d, uint32_t to, bool json)
{
    const bool large = d->n_states > SMALL_DFA;
    uint32_t *node = mem_array(d->n_states, sizeof *node);

    if (!node) {
        g->failed = true;
        return;
    }
    for (uint32_t s = 0; s < d->n_states; s++)
        node[s] = nfa_node(&g->a);
    nfa_empty(&g->a, from, node[0]);
    for (uint32_t s = 0; s < d->n_states && !g->a.failed && !g->failed; s++) {
        const struct dfa_state *st = &d->states[s];

        if (st->accept)
            nfa_empty(&g->a, node[s], to);
        if (json && large && all_chars(d, st)) {
            json_plain(g, node[s], 0, 0x7F, node[d->edges[st->first].to]);
            cfg_call(g, node[s], rare_rule(g), node[d->edges[st->first].to]);
            continue;
        }
        for (uint32_t k = 0; k < st->n; k++) {
            const struct dfa_edge *x = &d->edges[st->first + k];

            if (json)
                json_chars(g, node[s], x->lo, x->hi, node[x->to]);
            else
                cfg_chars(g, node[s], x->lo, x->hi, node[x->to]);
        }
    }
    mem_free(node);
}

void cfg_text(struct cfg *g, uint32_t from, const struct dfa *d, uint32_t to)
{
    lift(g, from, d, to, false);
}

void cfg_json_text(struct cfg *g, uint32_t from, const struct dfa *d, uint32_t to)
{
    lift(g, from, d, to, true);
}
