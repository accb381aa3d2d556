/* regex.c: a recursive-descent parser that builds an nfa as it reads. */
#include "models/grammar/regex.h"

#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "base/utf8.h"

struct parser {
    struct sv   text;
    size_t      at;
    unsigned    depth;
    struct nfa  a;
    const char *what;
    struct err *e;
    int         rc;             /* first failure */
};

struct piece {                  /* a fragment of the nfa */
    uint32_t start, end;
};

static int refuse(struct parser *p, int code, const char *why)
{
    if (p->rc == 0)
        p->rc = err_set(p->e, code, "%s: regular expression, character %zu: %s", p->what, p->at + 1,
                        why);
    return p->rc;
}

static bool more(const struct parser *p)
{
    return p->rc == 0 && p->at < p->text.len;
}

static char peek(const struct parser *p)
{
    return p->at < p->text.len ? p->text.data[p->at] : '\0';
}

static bool take(struct parser *p, const char *z)
{
    const size_t n = strlen(z);

    if (p->text.len - p->at < n || memcmp(p->text.data + p->at, z, n) != 0)
        return false;
    p->at += n;
    return true;
}

static uint32_t next_char(struct parser *p)
{
    uint32_t cp = 0;

    if (!more(p)) {
        refuse(p, WATT_EFORMAT, "ends too early");
        return 0;
    }
    p->at += utf8_decode(p->text.data + p->at, p->text.len - p->at, &cp, NULL);
    return cp;
}

/* ---- classes ---- */

static void add_digits(struct charset *s)
{
    charset_add(s, '0', '9');
}

static void add_words(struct charset *s)
{
    charset_add(s, '0', '9');
    charset_add(s, 'A', 'Z');
    charset_add(s, '_', '_');
    charset_add(s, 'a', 'z');
}

/* ECMA-262 WhiteSpace and LineTerminator. */
static void add_spaces(struct charset *s)
{
    static const uint32_t spaces[][2] = { { 9, 13 }, { 32, 32 }, { 0xA0, 0xA0 }, { 0x1680, 0x1680 },
        { 0x2000, 0x200A }, { 0x2028, 0x2029 }, { 0x202F, 0x202F }, { 0x205F, 0x205F },
        { 0x3000, 0x3000 }, { 0xFEFF, 0xFEFF } };

    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++)
        charset_add(s, spaces[i][0], spaces[i][1]);
}

static const struct category {
    const char *names;          /* "|a|b|" */
    uint32_t    mask;           /* bits of utf8proc_category_t */
} categories[] = {
    { "|L|Letter|", 1u << UTF8PROC_CATEGORY_LU | 1u << UTF8PROC_CATEGORY_LL |
        1u << UTF8PROC_CATEGORY_LT | 1u << UTF8PROC_CATEGORY_LM | 1u << UTF8PROC_CATEGORY_LO },
    { "|Lu|Uppercase_Letter|", 1u << UTF8PROC_CATEGORY_LU },
    { "|Ll|Lowercase_Letter|", 1u << UTF8PROC_CATEGORY_LL },
    { "|Lt|Titlecase_Letter|", 1u << UTF8PROC_CATEGORY_LT },
    { "|LC|Cased_Letter|", 1u << UTF8PROC_CATEGORY_LU | 1u << UTF8PROC_CATEGORY_LL |
        1u << UTF8PROC_CATEGORY_LT },
    { "|Lm|Modifier_Letter|", 1u << UTF8PROC_CATEGORY_LM },
    { "|Lo|Other_Letter|", 1u << UTF8PROC_CATEGORY_LO },
    { "|M|Mark|Combining_Mark|", 1u << UTF8PROC_CATEGORY_MN | 1u << UTF8PROC_CATEGORY_MC |
        1u << UTF8PROC_CATEGORY_ME },
    { "|Mn|Nonspacing_Mark|", 1u << UTF8PROC_CATEGORY_MN },
    { "|Mc|Spacing_Mark|", 1u << UTF8PROC_CATEGORY_MC },
    { "|Me|Enclosing_Mark|", 1u << UTF8PROC_CATEGORY_ME },
    { "|N|Number|", 1u << UTF8PROC_CATEGORY_ND | 1u << UTF8PROC_CATEGORY_NL |
        1u << UTF8PROC_CATEGORY_NO },
    { "|Nd|Decimal_Number|digit|", 1u << UTF8PROC_CATEGORY_ND },
    { "|Nl|Letter_Number|", 1u << UTF8PROC_CATEGORY_NL },
    { "|No|Other_Number|", 1u << UTF8PROC_CATEGORY_NO },
    { "|P|Punctuation|punct|", 1u << UTF8PROC_CATEGORY_PC | 1u << UTF8PROC_CATEGORY_PD |
        1u << UTF8PROC_CATEGORY_PS | 1u << UTF8PROC_CATEGORY_PE | 1u << UTF8PROC_CATEGORY_PI |
        1u << UTF8PROC_CATEGORY_PF | 1u << UTF8PROC_CATEGORY_PO },
    { "|Pc|Connector_Punctuation|", 1u << UTF8PROC_CATEGORY_PC },
    { "|Pd|Dash_Punctuation|", 1u << UTF8PROC_CATEGORY_PD },
    { "|Ps|Open_Punctuation|", 1u << UTF8PROC_CATEGORY_PS },
    { "|Pe|Close_Punctuation|", 1u << UTF8PROC_CATEGORY_PE },
    { "|Pi|Initial_Punctuation|", 1u << UTF8PROC_CATEGORY_PI },
    { "|Pf|Final_Punctuation|", 1u << UTF8PROC_CATEGORY_PF },
    { "|Po|Other_Punctuation|", 1u << UTF8PROC_CATEGORY_PO },
    { "|S|Symbol|", 1u << UTF8PROC_CATEGORY_SM | 1u << UTF8PROC_CATEGORY_SC |
        1u << UTF8PROC_CATEGORY_SK | 1u << UTF8PROC_CATEGORY_SO },
    { "|Sm|Math_Symbol|", 1u << UTF8PROC_CATEGORY_SM },
    { "|Sc|Currency_Symbol|", 1u << UTF8PROC_CATEGORY_SC },
    { "|Sk|Modifier_Symbol|", 1u << UTF8PROC_CATEGORY_SK },
    { "|So|Other_Symbol|", 1u << UTF8PROC_CATEGORY_SO },
    { "|Z|Separator|", 1u << UTF8PROC_CATEGORY_ZS | 1u << UTF8PROC_CATEGORY_ZL |
        1u << UTF8PROC_CATEGORY_ZP },
    { "|Zs|Space_Separator|", 1u << UTF8PROC_CATEGORY_ZS },
    { "|Zl|Line_Separator|", 1u << UTF8PROC_CATEGORY_ZL },
    { "|Zp|Paragraph_Separator|", 1u << UTF8PROC_CATEGORY_ZP },
    { "|Cc|Control|cntrl|", 1u << UTF8PROC_CATEGORY_CC },
    { "|Cf|Format|", 1u << UTF8PROC_CATEGORY_CF },
};

/* After \p or \P: {name} or {General_Category=name}. */
static void add_property(struct parser *p, struct charset *s, bool negate)
{
    struct sv name;
    char key[48];
    const char *brace;
    uint32_t mask = 0;
    struct charset found = { 0 };

    if (peek(p) != '{') {
        refuse(p, WATT_EFORMAT, "\\p needs {…}");
        return;
    }
    p->at++;
    brace = memchr(p->text.data + p->at, '}', p->text.len - p->at);
    if (!brace) {
        refuse(p, WATT_EFORMAT, "\\p{ without }");
        return;
    }
    name = (struct sv){ p->text.data + p->at, (size_t)(brace - p->text.data) - p->at };
    for (int i = 0; i < 2; i++) {
        static const char *const prefixes[] = { "gc=", "General_Category=" };

        if (sv_starts(name, sv_cstr(prefixes[i])))
            name = (struct sv){ name.data + strlen(prefixes[i]), name.len - strlen(prefixes[i]) };
    }
    if (name.len > 0 && name.len + 3 <= sizeof key) {
        key[0] = '|';
        memcpy(key + 1, name.data, name.len);
        memcpy(key + 1 + name.len, "|", 2);
        for (size_t i = 0; i < sizeof categories / sizeof *categories; i++)
            if (strstr(categories[i].names, key))
                mask = categories[i].mask;
    }
    if (mask == 0) {
        refuse(p, WATT_ENOTSUP, "this Unicode property is not supported");
        return;
    }
    p->at += name.data + name.len - (p->text.data + p->at) > 0
                 ? (size_t)(name.data + name.len - (p->text.data + p->at)) : 0;
    p->at++;
    for (uint32_t cp = 0; cp <= FA_MAX_CHAR; cp++) {
        uint32_t first = cp;

        if (cp >= 0xD800 && cp <= 0xDFFF)
            continue;
        if (!(mask >> utf8proc_category((utf8proc_int32_t)cp) & 1))
            continue;
        while (cp < FA_MAX_CHAR && mask >> utf8proc_category((utf8proc_int32_t)cp + 1) & 1)
            cp++;
        charset_add(&found, first, cp);
    }
    if (negate)
        charset_invert(&found);
    charset_merge(s, &found);
    charset_deinit(&found);
}

static uint32_t hex(struct parser *p, unsigned digits)
{
    uint32_t v = 0;

    for (unsigned i = 0; i < digits; i++) {
        const char c = peek(p);

        if (c >= '0' && c <= '9')
            v = v * 16 + (uint32_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            v = v * 16 + (uint32_t)((c | 32) - 'a') + 10;
        else {
            refuse(p, WATT_EFORMAT, "bad hexadecimal escape");
            return 0;
        }
        p->at++;
    }
    return v;
}

static uint32_t unicode_escape(struct parser *p)
{
    uint32_t v = 0;

    if (take(p, "{")) {
        while (more(p) && peek(p) != '}' && v <= FA_MAX_CHAR)
            v = v * 16 + hex(p, 1);
        if (!take(p, "}") || v > FA_MAX_CHAR)
            refuse(p, WATT_EFORMAT, "bad \\u{…}");
        return v;
    }
    v = hex(p, 4);
    if (v >= 0xD800 && v < 0xDC00 && take(p, "\\u")) {
        const uint32_t low = hex(p, 4);

        if (low < 0xDC00 || low > 0xDFFF)
            refuse(p, WATT_EFORMAT, "bad surrogate pair");
        v = 0x10000 + ((v - 0xD800) << 10) + (low - 0xDC00);
    }
    if (v >= 0xD800 && v <= 0xDFFF)
        refuse(p, WATT_EFORMAT, "a surrogate is no character");
    return v;
}

/* After a backslash. Adds a class to s, or gives a single character in *cp and returns true. */
static bool escape(struct parser *p, struct charset *s, uint32_t *cp)
{
    struct charset set = { 0 };
    const uint32_t c = next_char(p);

    switch (c) {
    case 'd': add_digits(s); return false;
    case 'w': add_words(s); return false;
    case 's': add_spaces(s); return false;
    case 'D': add_digits(&set); break;
    case 'W': add_words(&set); break;
    case 'S': add_spaces(&set); break;
    case 'p': add_property(p, s, false); return false;
    case 'P': add_property(p, s, true); return false;
    case 't': *cp = '\t'; return true;
    case 'n': *cp = '\n'; return true;
    case 'r': *cp = '\r'; return true;
    case 'v': *cp = '\v'; return true;
    case 'f': *cp = '\f'; return true;
    case 'a': refuse(p, WATT_EFORMAT, "\\a is not an escape of ECMA-262"); return true;
    case 'x': *cp = hex(p, 2); return true;
    case 'u': *cp = unicode_escape(p); return true;
    case 'c':
        *cp = next_char(p);
        if (!((*cp | 32) >= 'a' && (*cp | 32) <= 'z'))
            refuse(p, WATT_EFORMAT, "\\c needs a letter");
        *cp &= 31;
        return true;
    case '0':
        if (peek(p) >= '0' && peek(p) <= '9')
            refuse(p, WATT_EFORMAT, "octal escapes are not supported");
        *cp = 0;
        return true;
    default:
        if (c >= '1' && c <= '9')
            refuse(p, WATT_ENOTSUP, "back references are not supported");
        else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
            refuse(p, WATT_ENOTSUP, "this escape is not supported");
        *cp = c;
        return true;
    }
    charset_invert(&set);
    charset_merge(s, &set);
    charset_deinit(&set);
    return false;
}

/* After '['. */
static void bracket(struct parser *p, struct charset *s)
{
    const bool negate = take(p, "^");
    bool first = true;

    while (more(p) && (peek(p) != ']' || false)) {
        uint32_t lo, hi;
        bool single = true;

        first = false;
        lo = next_char(p);
        if (lo == '[' && (peek(p) == ':' || peek(p) == '.' || peek(p) == '=')) {
            refuse(p, WATT_ENOTSUP, "POSIX classes are not supported");
            return;
        }
        if (lo == '\\') {
            if (take(p, "b"))
                lo = '\b';
            else if (take(p, "-"))
                lo = '-';
            else
                single = escape(p, s, &lo);
        }
        if (single && peek(p) == '-' && p->at + 1 < p->text.len && p->text.data[p->at + 1] != ']') {
            struct charset none = { 0 };
            bool range = true;

            p->at++;
            hi = next_char(p);
            if (hi == '\\') {
                if (take(p, "b"))
                    hi = '\b';
                else if (take(p, "-"))
                    hi = '-';
                else
                    range = escape(p, &none, &hi);
            }
            charset_deinit(&none);
            if (!range || hi < lo)
                refuse(p, WATT_EFORMAT, "range out of order in a class");
            else
                charset_add(s, lo, hi);
        } else if (single) {
            charset_add(s, lo, lo);
        }
    }
    (void)first;
    if (!take(p, "]"))
        refuse(p, WATT_EFORMAT, "[ without ]");
    if (negate)
        charset_invert(s);
    else
        charset_normalise(s);
}

static struct piece of_set(struct parser *p, struct charset *s)
{
    const struct piece r = { nfa_node(&p->a), nfa_node(&p->a) };

    charset_normalise(s);
    for (uint32_t i = 0; i < s->n; i++)
        nfa_range(&p->a, r.start, s->ranges[i][0], s->ranges[i][1], r.end);
    p->a.failed |= s->failed;
    charset_deinit(s);
    return r;
}

static struct piece of_char(struct parser *p, uint32_t cp)
{
    const struct piece r = { nfa_node(&p->a), nfa_node(&p->a) };

    nfa_range(&p->a, r.start, cp, cp, r.end);
    return r;
}

static struct piece of_nothing(struct parser *p)
{
    const uint32_t at = nfa_node(&p->a);

    return (struct piece){ at, at };
}

static struct piece assertion(struct parser *p, enum nfa_kind kind)
{
    const struct piece r = { nfa_node(&p->a), nfa_node(&p->a) };

    nfa_assert(&p->a, r.start, kind, r.end);
    return r;
}

/* ---- expressions ---- */

static struct piece alternatives(struct parser *p);

static struct piece group(struct parser *p)
{
    struct piece r;

    if (take(p, "?")) {
        if (take(p, ":")) {
        } else if (peek(p) == '=' || peek(p) == '!') {
            refuse(p, WATT_ENOTSUP, "look-ahead is not supported");
        } else if (take(p, "<=") || take(p, "<!")) {
            refuse(p, WATT_ENOTSUP, "look-behind is not supported");
        } else if (take(p, "<") || take(p, "P<")) {
            while (more(p) && peek(p) != '>')
                p->at++;
            if (!take(p, ">"))
                refuse(p, WATT_EFORMAT, "name of a group without >");
        } else {
            refuse(p, WATT_ENOTSUP, "this kind of group is not supported");
        }
    }
    r = alternatives(p);
    if (!take(p, ")"))
        refuse(p, WATT_EFORMAT, "( without )");
    return r;
}

static struct piece atom(struct parser *p)
{
    struct charset s = { 0 };
    uint32_t c = next_char(p), cp;

    switch (c) {
    case '(':
        return group(p);
    case '[':
        bracket(p, &s);
        return of_set(p, &s);
    case '.':
        charset_add(&s, '\n', '\n');
        charset_add(&s, '\r', '\r');
        charset_add(&s, 0x2028, 0x2029);
        charset_invert(&s);
        return of_set(p, &s);
    case '^':
        return assertion(p, NFA_AT_START);
    case '$':
        return assertion(p, NFA_AT_END);
    case '\\':
        if (take(p, "A"))
            return assertion(p, NFA_AT_START);
        if (take(p, "z") || take(p, "Z"))
            return assertion(p, NFA_AT_END);
        if (peek(p) == 'b' || peek(p) == 'B') {
            refuse(p, WATT_ENOTSUP, "word boundaries are not supported");
            return of_nothing(p);
        }
        if (!escape(p, &s, &cp))
            return of_set(p, &s);
        return of_char(p, cp);
    case '*': case '+': case '?':
        refuse(p, WATT_EFORMAT, "nothing to repeat");
        return of_nothing(p);
    case ')': case ']': case '}':
        if (c == ')')
            refuse(p, WATT_EFORMAT, ") without (");
        return of_char(p, c);
    default:
        return of_char(p, c);
    }
}

static bool number(struct parser *p, uint32_t *v)
{
    const size_t from = p->at;

    *v = 0;
    while (peek(p) >= '0' && peek(p) <= '9') {
        *v = *v * 10 + (uint32_t)(peek(p) - '0');
        if (*v > REGEX_MAX_REPEAT) {
            refuse(p, WATT_ELIMIT, "too many repetitions");
            return false;
        }
        p->at++;
    }
    return p->at > from;
}

/* {n}, {n,}, {n,m}; anything else after '{' is a literal brace in many dialects. */
static bool counts(struct parser *p, uint32_t *min, uint32_t *max)
{
    const size_t from = p->at;

    if (!take(p, "{"))
        return false;
    if (number(p, min)) {
        *max = *min;
        if (take(p, ",")) {
            if (peek(p) == '}')
                *max = FA_NONE;
            else if (!number(p, max))
                *max = 0;
        }
        if (take(p, "}")) {
            if (*max < *min)
                refuse(p, WATT_EFORMAT, "repetition out of order");
            return true;
        }
    }
    p->at = from;
    return false;
}

/* start is where the atom of text[from..to) was built first; further copies are parsed again. */
static struct piece repeat(struct parser *p, struct piece one, size_t from, size_t to, uint32_t min,
                           uint32_t max)
{
    const size_t after = p->at;
    struct piece r = { nfa_node(&p->a), nfa_node(&p->a) };
    uint32_t at = r.start;

    (void)to;
    for (uint32_t i = 0; p->rc == 0 && !p->a.failed; i++) {
        struct piece copy = one;

        if (i >= min)
            nfa_empty(&p->a, at, r.end);
        if (max != FA_NONE && i >= max)
            break;
        if (i > 0) {
            p->at = from;
            copy = atom(p);
        }
        nfa_empty(&p->a, at, copy.start);
        if (max == FA_NONE && i >= min) {
            nfa_empty(&p->a, copy.end, at);     /* a loop */
            break;
        }
        at = nfa_node(&p->a);
        nfa_empty(&p->a, copy.end, at);
    }
    p->at = after;
    return r;
}

static struct piece term(struct parser *p)
{
    const size_t from = p->at;
    struct piece one = atom(p);
    const size_t to = p->at;
    uint32_t min = 1, max = 1;

    if (take(p, "*")) {
        min = 0;
        max = FA_NONE;
    } else if (take(p, "+")) {
        max = FA_NONE;
    } else if (take(p, "?")) {
        min = 0;
    } else if (!counts(p, &min, &max)) {
        return one;
    }
    one = repeat(p, one, from, to, min, max);
    if (take(p, "?")) {         /* lazy: the same language */
    } else if (peek(p) == '+') {
        refuse(p, WATT_ENOTSUP, "possessive quantifiers are not supported");
    }
    if (peek(p) == '*' || (peek(p) == '{' && counts(p, &min, &max)))
        refuse(p, WATT_EFORMAT, "nothing to repeat");
    return one;
}

static struct piece sequence(struct parser *p)
{
    struct piece r = of_nothing(p);

    while (more(p) && peek(p) != '|' && peek(p) != ')') {
        const struct piece next = term(p);

        nfa_empty(&p->a, r.end, next.start);
        r.end = next.end;
        if (p->a.failed)
            break;
    }
    return r;
}

static struct piece alternatives(struct parser *p)
{
    struct piece r = { nfa_node(&p->a), nfa_node(&p->a) };

    if (++p->depth > REGEX_MAX_DEPTH) {
        refuse(p, WATT_ELIMIT, "too deeply nested");
        return r;
    }
    do {
        const struct piece one = sequence(p);

        nfa_empty(&p->a, r.start, one.start);
        nfa_empty(&p->a, one.end, r.end);
    } while (p->rc == 0 && !p->a.failed && take(p, "|"));
    p->depth--;
    return r;
}

int regex_compile(struct dfa **out, struct sv pattern, enum regex_match match, const char *what,
                  struct err *e)
{
    struct parser p = { .text = pattern, .what = what, .e = e };
    struct piece body;
    int rc;

    if (pattern.len > REGEX_MAX_BYTES)
        return err_set(e, WATT_ELIMIT, "%s: regular expression of %zu bytes, at most %u", what,
                       pattern.len, REGEX_MAX_BYTES);
    if (!utf8_valid(pattern.data, pattern.len))
        return err_set(e, WATT_EFORMAT, "%s: regular expression is not UTF-8", what);
    nfa_init(&p.a, REGEX_MAX_STATES * 8);
    body = alternatives(&p);
    if (p.rc == 0 && p.at < pattern.len)
        refuse(&p, WATT_EFORMAT, ") without (");
    if (match == REGEX_SEARCH) {
        for (int i = 0; i < 2; i++) {
            const uint32_t at = i ? body.end : body.start;
            const uint32_t loop = nfa_node(&p.a);

            nfa_range(&p.a, loop, 0, 0xD7FF, loop);
            nfa_range(&p.a, loop, 0xE000, FA_MAX_CHAR, loop);
            nfa_empty(&p.a, i ? at : loop, i ? loop : at);
            if (i)
                body.end = loop;
            else
                body.start = loop;
        }
    }
    rc = p.rc;
    if (rc == 0)
        rc = dfa_from_nfa(out, &p.a, body.start, body.end, REGEX_MAX_STATES, what, e);
    nfa_deinit(&p.a);
    return rc;
}
