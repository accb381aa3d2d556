/* gbnf.c: GBNF, the grammar notation of llama.cpp: rules `name ::= …` of literals, character
 * classes, references, groups and repetitions. A recursive-descent parser that records nodes as
 * it reads. What is repeated a few times is read again for every copy; many times a set of characters is counted
 * (cfg_counted.h), and anything else becomes a rule that is called as often. */
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "models/grammar/cfg.h"
#include "models/grammar/grammar.h"
#include "models/grammar/regex.h"

#define MAX_DEPTH  100u
#define MAX_REPEAT 100000u
#define FEW        8u           /* copies that are written out */

struct parser {
    struct sv   text;
    size_t      at;
    unsigned    depth;
    struct cfg  g;
    struct map  names;          /* rule numbers */
    struct err *e;
    int         rc;
};

struct piece {
    uint32_t start, end;
};

static int refuse(struct parser *p, int code, const char *why)
{
    size_t line = 1, column = 1;

    for (size_t i = 0; i < p->at && i < p->text.len; i++) {
        column++;
        if (p->text.data[i] == '\n') {
            line++;
            column = 1;
        }
    }
    if (p->rc == 0)
        p->rc = err_set(p->e, code, "grammar: line %zu, column %zu: %s", line, column, why);
    return p->rc;
}

static char peek(const struct parser *p)
{
    return p->at < p->text.len ? p->text.data[p->at] : '\0';
}

static bool more(const struct parser *p)
{
    return p->rc == 0 && p->at < p->text.len && !p->g.a.failed && !p->g.failed;
}

static bool take(struct parser *p, const char *z)
{
    const size_t n = strlen(z);

    if (p->text.len - p->at < n || memcmp(p->text.data + p->at, z, n) != 0)
        return false;
    p->at += n;
    return true;
}

static void skip(struct parser *p, bool lines)
{
    for (;;) {
        const char c = peek(p);

        if (c == '#') {
            while (p->at < p->text.len && peek(p) != '\n' && peek(p) != '\r')
                p->at++;
        } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
            p->at++;
        } else {
            return;
        }
    }
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '_';
}

static struct sv name(struct parser *p)
{
    const size_t from = p->at;

    while (p->at < p->text.len && is_name(peek(p)))
        p->at++;
    if (p->at == from)
        refuse(p, WATT_EFORMAT, "a rule's name was expected");
    return (struct sv){ p->text.data + from, p->at - from };
}

static uint32_t rule_of(struct parser *p, struct sv n)
{
    uint64_t rule;

    if (map_get(&p->names, n, &rule))
        return (uint32_t)rule;
    rule = cfg_rule(&p->g);
    if (p->rc == 0 && map_put(&p->names, n, rule, p->e) < 0)
        p->rc = WATT_ELIMIT;
    return (uint32_t)rule;
}

/* One character of a literal or a class. */
static uint32_t character(struct parser *p)
{
    uint32_t cp = 0;
    unsigned digits = 0;

    if (p->at >= p->text.len) {
        refuse(p, WATT_EFORMAT, "ends too early");
        return 0;
    }
    p->at += utf8_decode(p->text.data + p->at, p->text.len - p->at, &cp, NULL);
    if (cp != '\\')
        return cp;
    switch (peek(p)) {
    case 'n': cp = '\n'; break;
    case 'r': cp = '\r'; break;
    case 't': cp = '\t'; break;
    case '\\': case '"': case '[': case ']': case '-': case '^': case '/':
        cp = (unsigned char)peek(p);
        break;
    case 'x': digits = 2; break;
    case 'u': digits = 4; break;
    case 'U': digits = 8; break;
    default:
        refuse(p, WATT_EFORMAT, "unknown escape");
        return 0;
    }
    p->at++;
    if (digits == 0)
        return cp;
    cp = 0;
    for (unsigned i = 0; i < digits; i++) {
        const char c = peek(p);

        if (c >= '0' && c <= '9')
            cp = cp * 16 + (uint32_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            cp = cp * 16 + (uint32_t)((c | 32) - 'a') + 10;
        else {
            refuse(p, WATT_EFORMAT, "bad hexadecimal escape");
            return 0;
        }
        p->at++;
    }
    if (cp > FA_MAX_CHAR || (cp >= 0xD800 && cp <= 0xDFFF))
        refuse(p, WATT_EFORMAT, "an escape that is no character");
    return cp;
}

static struct piece literal(struct parser *p)
{
    struct piece r;

    r.start = r.end = nfa_node(&p->g.a);
    while (more(p) && peek(p) != '"') {
        const uint32_t cp = character(p), next = nfa_node(&p->g.a);

        cfg_chars(&p->g, r.end, cp, cp, next);
        r.end = next;
    }
    if (!take(p, "\""))
        refuse(p, WATT_EFORMAT, "\" without \"");
    return r;
}

static struct piece of_set(struct parser *p, struct charset *s)
{
    const struct piece r = { nfa_node(&p->g.a), nfa_node(&p->g.a) };

    charset_normalise(s);
    for (uint32_t i = 0; i < s->n; i++)
        cfg_chars(&p->g, r.start, s->ranges[i][0], s->ranges[i][1], r.end);
    p->g.failed |= s->failed;
    charset_deinit(s);
    return r;
}

/* The characters of a class, or of "."; behind its first character. */
static void characters(struct parser *p, bool all, struct charset *s)
{
    const bool negate = !all && take(p, "^");

    if (all) {
        charset_add(s, 0, FA_MAX_CHAR);
        return;
    }
    while (more(p) && peek(p) != ']') {
        const uint32_t lo = character(p);
        uint32_t hi = lo;

        if (peek(p) == '-' && p->at + 1 < p->text.len && p->text.data[p->at + 1] != ']') {
            p->at++;
            hi = character(p);
        }
        if (hi < lo)
            refuse(p, WATT_EFORMAT, "range out of order in a class");
        charset_add(s, lo, hi);
    }
    if (!take(p, "]"))
        refuse(p, WATT_EFORMAT, "[ without ]");
    if (negate)
        charset_invert(s);
}

static struct piece alternatives(struct parser *p, bool nested);

static struct piece element(struct parser *p)
{
    const bool all = peek(p) == '.';
    struct charset set = { 0 };
    struct piece r;

    if (take(p, "\""))
        return literal(p);
    if (take(p, "[") || take(p, ".")) {
        characters(p, all, &set);
        return of_set(p, &set);
    }
    if (take(p, "(")) {
        skip(p, true);
        r = alternatives(p, true);
        if (!take(p, ")"))
            refuse(p, WATT_EFORMAT, "( without )");
        return r;
    }
    r.start = nfa_node(&p->g.a);
    r.end = nfa_node(&p->g.a);
    if (is_name(peek(p)))
        cfg_call(&p->g, r.start, rule_of(p, name(p)), r.end);
    else
        refuse(p, peek(p) == '<' || peek(p) == '!' ? WATT_ENOTSUP : WATT_EFORMAT,
               peek(p) == '<' || peek(p) == '!' ? "tokens by name or number are not supported"
                                                : "unexpected character");
    return r;
}

static bool number(struct parser *p, uint32_t *v)
{
    const size_t from = p->at;

    *v = 0;
    while (peek(p) >= '0' && peek(p) <= '9') {
        *v = *v * 10 + (uint32_t)(peek(p) - '0');
        if (*v > MAX_REPEAT) {
            refuse(p, WATT_ELIMIT, "too many repetitions");
            return false;
        }
        p->at++;
    }
    return p->at > from;
}

static bool repetition(struct parser *p, uint32_t *min, uint32_t *max)
{
    *min = 0;
    *max = FA_NONE;
    if (take(p, "*"))
        return true;
    if (take(p, "+")) {
        *min = 1;
        return true;
    }
    if (take(p, "?")) {
        *max = 1;
        return true;
    }
    if (!take(p, "{"))
        return false;
    skip(p, false);
    if (!number(p, min))
        *min = 0;
    skip(p, false);
    if (take(p, ",")) {
        skip(p, false);
        if (peek(p) != '}' && !number(p, max))
            refuse(p, WATT_EFORMAT, "a number was expected");
    } else {
        *max = *min;
    }
    skip(p, false);
    if (!take(p, "}"))
        refuse(p, WATT_EFORMAT, "{ without }");
    if (*max < *min)
        refuse(p, WATT_EFORMAT, "repetition out of order");
    return true;
}

/* A set of characters min to max times, max FA_NONE: at least min times. */
static struct piece repeat_set(struct parser *p, struct charset *s, uint32_t min, uint32_t max)
{
    const struct piece r = { nfa_node(&p->g.a), nfa_node(&p->g.a) };
    const uint32_t n = max == FA_NONE ? min : max;
    struct dfa *d = NULL;
    struct nfa a;
    uint32_t start, end, at;

    nfa_init(&a, MAX_REPEAT + 8);
    at = start = nfa_node(&a);
    end = nfa_node(&a);
    charset_normalise(s);
    for (uint32_t i = 0;; i++) {
        const uint32_t next = i < n ? nfa_node(&a) : at;

        if (i >= min)
            nfa_empty(&a, at, end);
        for (uint32_t k = 0; k < s->n && (i < n || max == FA_NONE); k++)
            nfa_range(&a, at, s->ranges[k][0], s->ranges[k][1], next);
        if (i == n || a.failed)
            break;
        at = next;
    }
    p->g.failed |= s->failed;
    charset_deinit(s);
    if (p->rc == 0)
        p->rc = nfa_ok(&a, "grammar", p->e);
    if (p->rc == 0)
        p->rc = dfa_from_nfa(&d, &a, start, end, MAX_REPEAT + 8, "grammar", p->e);
    if (p->rc == 0 && !dfa_is_empty(d))
        cfg_text(&p->g, r.start, d, r.end);
    dfa_close(d);
    nfa_deinit(&a);
    return r;
}

/* A rule min to max times. */
static struct piece repeat_rule(struct parser *p, struct piece one, uint32_t min, uint32_t max)
{
    const struct piece r = { nfa_node(&p->g.a), nfa_node(&p->g.a) };
    const uint32_t rule = cfg_rule(&p->g), n = max == FA_NONE ? min : max;
    uint32_t at = r.start;

    cfg_define(&p->g, rule, one.start, one.end);
    if (!p->g.failed)
        p->g.rules[rule].keep = true;
    for (uint32_t i = 0; i < n && !p->g.a.failed; i++) {
        const uint32_t next = nfa_node(&p->g.a);

        if (i >= min)
            nfa_empty(&p->g.a, at, r.end);
        cfg_call(&p->g, at, rule, next);
        at = next;
    }
    if (max == FA_NONE)
        cfg_call(&p->g, at, rule, at);
    nfa_empty(&p->g.a, at, r.end);
    return r;
}

/* The element of text[from..) min to max times; `one` is its first copy. */
static struct piece repeat(struct parser *p, struct piece one, size_t from, uint32_t min,
                           uint32_t max)
{
    const size_t after = p->at;
    const struct piece r = { nfa_node(&p->g.a), nfa_node(&p->g.a) };
    const char first = p->text.data[from];
    uint32_t at = r.start;

    if ((max == FA_NONE ? min : max) > FEW && p->rc == 0) {
        struct charset set = { 0 };
        struct piece many;

        if (first != '[' && first != '.')
            return repeat_rule(p, one, min, max);
        p->at = from + 1;
        characters(p, first == '.', &set);
        many = repeat_set(p, &set, min, max);
        p->at = after;
        return many;
    }
    for (uint32_t i = 0; p->rc == 0 && !p->g.a.failed; i++) {
        struct piece copy = one;

        if (i >= min)
            nfa_empty(&p->g.a, at, r.end);
        if (max != FA_NONE && i >= max)
            break;
        if (i > 0) {
            p->at = from;
            copy = element(p);
        }
        nfa_empty(&p->g.a, at, copy.start);
        if (max == FA_NONE && i >= min) {
            nfa_empty(&p->g.a, copy.end, at);
            break;
        }
        at = nfa_node(&p->g.a);
        nfa_empty(&p->g.a, copy.end, at);
    }
    p->at = after;
    return r;
}

static struct piece sequence(struct parser *p, bool nested)
{
    struct piece r;

    r.start = r.end = nfa_node(&p->g.a);
    while (more(p) && peek(p) != '|' && peek(p) != ')' && peek(p) != '\n' && peek(p) != '\r') {
        const size_t from = p->at;
        struct piece one = element(p);
        uint32_t min, max;

        skip(p, nested);
        while (p->rc == 0 && repetition(p, &min, &max)) {
            one = repeat(p, one, from, min, max);
            skip(p, nested);
            if (peek(p) == '*' || peek(p) == '+' || peek(p) == '?' || peek(p) == '{')
                refuse(p, WATT_EFORMAT, "a repetition of a repetition needs parentheses");
        }
        nfa_empty(&p->g.a, r.end, one.start);
        r.end = one.end;
    }
    return r;
}

static struct piece alternatives(struct parser *p, bool nested)
{
    const struct piece r = { nfa_node(&p->g.a), nfa_node(&p->g.a) };

    if (++p->depth > MAX_DEPTH) {
        refuse(p, WATT_ELIMIT, "too deeply nested");
        return r;
    }
    for (;;) {
        const struct piece one = sequence(p, nested);

        nfa_empty(&p->g.a, r.start, one.start);
        nfa_empty(&p->g.a, one.end, r.end);
        if (p->rc < 0 || !take(p, "|"))
            break;
        skip(p, true);
    }
    p->depth--;
    return r;
}

static void rule(struct parser *p)
{
    const struct sv n = name(p);
    struct piece body;
    uint32_t id;

    if (p->rc < 0)
        return;
    skip(p, false);
    if (!take(p, "::=")) {
        refuse(p, WATT_EFORMAT, "::= was expected");
        return;
    }
    skip(p, true);
    id = rule_of(p, n);
    body = alternatives(p, false);
    if (p->rc < 0 || p->g.failed)
        return;
    if (p->g.rules[id].start != FA_NONE) {
        refuse(p, WATT_EFORMAT, "a rule is defined twice");
        return;
    }
    if (p->at < p->text.len && peek(p) != '\n' && peek(p) != '\r') {
        refuse(p, WATT_EFORMAT, "the end of the rule was expected");
        return;
    }
    cfg_define(&p->g, id, body.start, body.end);
    skip(p, true);
}

static int check_names(struct parser *p, uint64_t *root)
{
    size_t cursor = 0;
    struct sv n;
    uint64_t id;

    while (map_next(&p->names, &cursor, &n, &id))
        if (p->g.rules[id].start == FA_NONE)
            return err_set(p->e, WATT_EFORMAT, "grammar: rule '%.*s' is used but not defined",
                           n.len > 80 ? 80 : (int)n.len, n.data);
    if (!map_get(&p->names, SV("root"), root))
        return err_set(p->e, WATT_EFORMAT, "grammar: no rule 'root'");
    return 0;
}

int grammar_from_gbnf(struct grammar **out, struct sv text, struct err *e)
{
    struct parser p = { .text = text, .e = e };
    uint64_t root = 0;
    int rc;

    if (text.len > GRAMMAR_MAX_TEXT_BYTES)
        return err_set(e, WATT_ELIMIT, "grammar: %zu bytes, at most %zu", text.len,
                       GRAMMAR_MAX_TEXT_BYTES);
    if (!utf8_valid(text.data, text.len))
        return err_set(e, WATT_EFORMAT, "grammar: not UTF-8");
    rc = map_init(&p.names, CFG_MAX_RULES, e);
    if (rc < 0)
        return rc;
    cfg_init(&p.g);
    skip(&p, true);
    while (more(&p))
        rule(&p);
    rc = p.rc;
    if (rc == 0 && !p.g.failed && !p.g.a.failed)
        rc = check_names(&p, &root);
    if (rc == 0) {
        const uint32_t whole = cfg_rule(&p.g), start = nfa_node(&p.g.a), end = nfa_node(&p.g.a);

        cfg_call(&p.g, start, (uint32_t)root, end);
        cfg_define(&p.g, whole, start, end);
        rc = cfg_compile(out, &p.g, whole, "grammar", e);
    }
    cfg_deinit(&p.g);
    map_deinit(&p.names);
    return rc;
}
