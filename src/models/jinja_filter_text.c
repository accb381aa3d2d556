/* jinja_filter_text.c: filters that make or read text and numbers. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "models/jinja_run.h"
#include "models/jinja_string.h"
#include "models/jinja_text.h"

#define FILTER(name) \
    static struct jval name(struct jrt *rt, struct jval in, const struct jval *p, \
                            const struct jargs *all)
#define UNUSED (void)p; (void)all; (void)rt

/* soft_str(): Markup stays Markup. */
static struct jval soft(struct jrt *rt, struct jval v)
{
    return v.kind == J_STR ? v : jstr_of(rt, v);
}

static bool given(struct jval v) { return v.kind != J_ABSENT && v.kind != J_NONE; }
static bool truth_or(struct jrt *rt, struct jval v, bool otherwise)
{
    return v.kind == J_ABSENT ? otherwise : jtruth(rt, v);
}

FILTER(f_upper) { UNUSED; return ju_map(rt, soft(rt, in), JU_UPPER); }
FILTER(f_lower) { UNUSED; return ju_map(rt, soft(rt, in), JU_LOWER); }
FILTER(f_capitalize) { UNUSED; return ju_capitalize(rt, soft(rt, in)); }
FILTER(f_string) { UNUSED; return soft(rt, in); }

FILTER(f_trim)
{
    UNUSED;
    return js_strip(rt, soft(rt, in), given(p[0]) ? jneed_str(rt, p[0], "chars") : NULL,
                    JS_LEFT | JS_RIGHT);
}

FILTER(f_title)
{
    struct jval s = soft(rt, in), word;
    struct jbuf b = { 0 };
    size_t at = 0;

    UNUSED;
    jcharge(rt, s.u.s->len / 4);
    while (at < s.u.s->len) {            /* words are split at - white space ( { [ < */
        size_t end = at;
        uint32_t cp;

        while (end < s.u.s->len) {
            const size_t n = utf8_decode(s.u.s->p + end, s.u.s->len - end, &cp, NULL);

            if (cp == '-' || cp == '(' || cp == '{' || cp == '[' || cp == '<' || ju_space(cp)) {
                if (end == at) {
                    jbuf_put(rt, &b, s.u.s->p + at, n);
                    at = end = end + n;
                    continue;
                }
                break;
            }
            end += n;
        }
        if (end == at)
            break;
        {
            const size_t first = utf8_decode(s.u.s->p + at, end - at, &cp, NULL);

            word = ju_map(rt, jv_str(jstr_view(rt, s.u.s->p + at, first)), JU_UPPER);
            jbuf_put(rt, &b, word.u.s->p, word.u.s->len);
            word = ju_map(rt, jv_str(jstr_view(rt, s.u.s->p + at + first, end - at - first)),
                          JU_LOWER);
            jbuf_put(rt, &b, word.u.s->p, word.u.s->len);
        }
        at = end;
    }
    return jbuf_str(rt, &b);
}

FILTER(f_replace)
{
    UNUSED;
    return js_replace(rt, jstr_of(rt, in), jstr_of(rt, p[0]).u.s, jstr_of(rt, p[1]).u.s,
                      given(p[2]) ? jneed_int(rt, p[2], "count") : -1);
}

FILTER(f_safe)
{
    struct jval v = jstr_of(rt, in);

    UNUSED;
    v.markup = true;
    return v;
}

FILTER(f_escape) { UNUSED; return jescape(rt, in); }

FILTER(f_forceescape)
{
    UNUSED;
    return jescape(rt, jstr_of(rt, in));
}

FILTER(f_center)
{
    static const struct jstr space = { " ", 1, 1 };

    UNUSED;
    return js_pad(rt, soft(rt, in), p[0].kind == J_ABSENT ? 80 : jneed_int(rt, p[0], "width"),
                  &space, '^');
}

FILTER(f_indent)
{
    struct jval lines, tab;
    struct jbuf b = { 0 };
    const bool first = truth_or(rt, p[1], false), blank = truth_or(rt, p[2], false);

    UNUSED;
    if (in.kind == J_UNDEF)
        jfail_undefined(rt, in);
    jneed_str(rt, in, "the input of indent");
    if (p[0].kind == J_STR)
        tab = p[0];
    else {
        const int64_t width = p[0].kind == J_ABSENT ? 4 : jneed_int(rt, p[0], "width");

        tab = joperate(rt, N_MUL, jv_strz(rt, " "), jv_int(width));
    }
    if (in.markup)
        tab = p[0].kind == J_STR ? jescape(rt, f_safe(rt, tab, NULL, NULL)) : tab;
    /* Python adds a newline, so that the last line counts even when empty. */
    lines = js_splitlines(rt, jadd(rt, jstr_of(rt, in), jv_strz(rt, "\n")), false);
    if (first)
        jbuf_put(rt, &b, tab.u.s->p, tab.u.s->len);
    for (uint32_t i = 0; i < lines.u.list->n; i++) {
        const struct jstr *line = lines.u.list->v[i].u.s;

        if (i) {
            jbuf_putc(rt, &b, '\n');
            if (blank || line->len)
                jbuf_put(rt, &b, tab.u.s->p, tab.u.s->len);
        }
        jbuf_put(rt, &b, line->p, line->len);
    }
    jcharge(rt, b.len / 32);
    return jv_like(in, jbuf_str(rt, &b).u.s);
}

FILTER(f_truncate)
{
    const int64_t length = p[0].kind == J_ABSENT ? 255 : jneed_int(rt, p[0], "length");
    const bool kill = truth_or(rt, p[1], false);
    const struct jval end = p[2].kind == J_ABSENT ? jv_strz(rt, "...") : p[2];
    const int64_t leeway = given(p[3]) ? jneed_int(rt, p[3], "leeway") : 5;
    const int64_t keep = length - (int64_t)jlength(rt, end);
    struct jval s, parts;

    UNUSED;
    if (keep < 0)
        jraise(rt, "expected length >= %u, got %lld", jlength(rt, end), (long long)length);
    if (leeway < 0)
        jraise(rt, "expected leeway >= 0, got %lld", (long long)leeway);
    if ((int64_t)jlength(rt, in) <= length + leeway)
        return in;
    s = jslice(rt, in, jv_none(), jv_int(keep), jv_none());
    if (kill)
        return jadd(rt, s, end);
    jneed_str(rt, s, "the input of truncate");
    parts = js_split(rt, s, jv_strz(rt, " ").u.s, 1, true);
    return jadd(rt, parts.u.list->v[0], end);
}

FILTER(f_wordcount)
{
    const struct jstr *s = soft(rt, in).u.s;
    bool inside = false;
    int64_t n = 0;
    uint32_t cp;

    UNUSED;
    jcharge(rt, s->len / 8);
    for (size_t at = 0; at < s->len;) {
        bool word;

        at += utf8_decode(s->p + at, s->len - at, &cp, NULL);
        word = cp == '_' || ju_alpha(cp) || ju_decimal(cp) || ju_digit(cp) || ju_numeric(cp);
        n += word && !inside;
        inside = word;
    }
    return jv_int(n);
}

/* textwrap.wrap of one line of text, for wordwrap. */
struct wrapper {
    struct jrt  *rt;
    struct jbuf  b;
    struct jstr *s, *newline;
    int64_t width;
    bool    break_long;
    size_t  from, to;        /* the line so far, in s */
    int64_t n_chars;         /* of it */
    bool    open, any;       /* is there one; were there others */
};

/* A run of white space (textwrap's own set) or of anything else from `at`. */
static size_t wrap_chunk(const struct jstr *s, size_t at, int64_t *n_chars, bool *space)
{
    uint32_t cp;

    *n_chars = 0;
    while (at < s->len) {
        const size_t n = utf8_decode(s->p + at, s->len - at, &cp, NULL);
        const bool is_space = cp == ' ' || (cp >= 9 && cp <= 13);

        if (*n_chars && is_space != *space)
            break;
        *space = is_space;
        at += n;
        ++*n_chars;
    }
    return at;
}

static void wrap_flush(struct wrapper *w, bool strip)
{
    struct jval text;

    if (w->open) {
        text = jv_str(jstr_view(w->rt, w->s->p + w->from, w->to - w->from));
        if (strip)
            text = js_strip(w->rt, text, jv_strz(w->rt, " \t\n\v\f\r").u.s, JS_RIGHT);
        if (text.u.s->len) {
            if (w->any)
                jbuf_put(w->rt, &w->b, w->newline->p, w->newline->len);
            jbuf_put(w->rt, &w->b, text.u.s->p, text.u.s->len);
            w->any = true;
        }
    }
    w->open = false;
    w->n_chars = 0;
}

/* Makes s[from..to), n characters, part of the line. */
static void wrap_take(struct wrapper *w, size_t from, size_t to, int64_t n)
{
    if (!w->open)
        w->from = from;
    w->to = to;
    w->n_chars += n;
    w->open = true;
}

static void wrap_line(struct wrapper *w)
{
    size_t at = 0;

    while (at < w->s->len) {
        int64_t n;
        bool space = false;
        const size_t end = wrap_chunk(w->s, at, &n, &space);

        jcharge(w->rt, 1);
        if (!w->open && space && w->any) {           /* dropped at the start of a line */
            at = end;
        } else if (w->n_chars + n <= w->width) {
            wrap_take(w, at, end, n);
            at = end;
        } else if (n > w->width && w->break_long && w->n_chars < w->width) {
            struct jstr rest = { w->s->p + at, (uint32_t)(end - at), (uint32_t)n };
            const size_t cut = jstr_offset(&rest, (uint32_t)(w->width - w->n_chars));

            wrap_take(w, at, at + cut, w->width - w->n_chars);
            at += cut;
            wrap_flush(w, true);
        } else if (n > w->width && !w->break_long && !w->open) {
            wrap_take(w, at, end, n);
            at = end;
            wrap_flush(w, true);
        } else {
            /* textwrap puts nothing of a long word behind a full line, and then
             * takes that nothing for the white space to drop. */
            wrap_flush(w, !(n > w->width && w->break_long));
        }
    }
    wrap_flush(w, true);
}

FILTER(f_wordwrap)
{
    struct wrapper w = { .rt = rt, .break_long = truth_or(rt, p[1], true) };
    struct jval lines;

    UNUSED;
    w.newline = given(p[2]) ? jneed_str(rt, p[2], "wrapstring") : jv_strz(rt, "\n").u.s;
    w.width = p[0].kind == J_ABSENT ? 79 : jneed_int(rt, p[0], "width");
    if (in.kind == J_UNDEF)
        jfail_undefined(rt, in);
    jneed_str(rt, in, "the input of wordwrap");
    if (w.width <= 0)
        jraise(rt, "invalid width %lld (must be > 0)", (long long)w.width);
    if (truth_or(rt, p[3], true) && memchr(in.u.s->p, '-', in.u.s->len))
        jfail(rt, WATT_ENOTSUP, "wordwrap at hyphens is not supported: pass "
              "break_on_hyphens=false");
    lines = js_splitlines(rt, in, false);
    for (uint32_t i = 0; i < lines.u.list->n; i++) {
        if (i)
            jbuf_put(rt, &w.b, w.newline->p, w.newline->len);
        w.s = lines.u.list->v[i].u.s;
        w.any = false;
        wrap_line(&w);
    }
    return jbuf_str(rt, &w.b);
}

FILTER(f_format)
{
    UNUSED;
    if (all->n_pos && all->n_kw)
        jraise(rt, "can't handle positional and keyword arguments at the same time");
    if (all->n_kw) {
        struct jdict *d = jdict_new(rt, all->n_kw);

        for (uint32_t i = 0; i < all->n_kw; i++)
            jdict_set(rt, d, jv_str(all->names[i]), all->kw[i]);
        return jformat_percent(rt, soft(rt, in), (struct jval){ .kind = J_DICT, .u.dict = d });
    }
    return jformat_percent(rt, soft(rt, in), jv_tuple(rt, all->pos, all->n_pos));
}

static void quote(struct jrt *rt, struct jbuf *b, struct jval v, bool query)
{
    static const char hex[] = "0123456789ABCDEF";
    const struct jstr *s = jstr_of(rt, v).u.s;

    for (uint32_t i = 0; i < s->len; i++) {
        const unsigned char c = (unsigned char)s->p[i];

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !query)) {
            jbuf_putc(rt, b, (char)c);
        } else if (c == ' ' && query) {
            jbuf_putc(rt, b, '+');
        } else {
            jbuf_putc(rt, b, '%');
            jbuf_putc(rt, b, hex[c >> 4]);
            jbuf_putc(rt, b, hex[c & 15]);
        }
    }
    jcharge(rt, s->len / 16);
}

FILTER(f_urlencode)
{
    struct jbuf b = { 0 };
    struct jlist items, pair;

    UNUSED;
    if (in.kind == J_STR || (!jis_iterable(in) && in.kind != J_UNDEF)) {
        quote(rt, &b, in, false);
        return jbuf_str(rt, &b);
    }
    if (in.kind == J_DICT) {
        in.kind = J_VIEW;
        in.id = JVIEW_ITEMS;
    }
    jiterate(rt, in, &items);
    for (uint32_t i = 0; i < items.n; i++) {
        jiterate(rt, items.v[i], &pair);
        if (pair.n != 2)
            jraise(rt, "urlencode needs pairs");
        if (i)
            jbuf_putc(rt, &b, '&');
        quote(rt, &b, pair.v[0], true);
        jbuf_putc(rt, &b, '=');
        quote(rt, &b, pair.v[1], true);
    }
    return jbuf_str(rt, &b);
}

FILTER(f_xmlattr)
{
    struct jbuf b = { 0 };
    bool any = false;

    UNUSED;
    if (in.kind == J_UNDEF)
        jfail_undefined(rt, in);
    if (in.kind != J_DICT)
        jraise(rt, "'%s' object has no attribute 'items'", jtype_name(in));
    for (uint32_t i = 0; i < in.u.dict->n; i++) {
        const struct jentry *e = &in.u.dict->e[i];
        const struct jstr *key = jescape(rt, e->key).u.s, *val;

        if (e->val.kind == J_NONE || e->val.kind == J_UNDEF)
            continue;
        if (e->key.kind == J_STR)
            for (uint32_t k = 0; k < e->key.u.s->len; k++)
                if (strchr(" \t\n\f\r/>=", e->key.u.s->p[k]))
                    jraise(rt, "invalid character in attribute name");
        val = jescape(rt, e->val).u.s;
        if (any || truth_or(rt, p[0], true))
            jbuf_putc(rt, &b, ' ');
        any = true;
        jbuf_put(rt, &b, key->p, key->len);
        jbuf_puts(rt, &b, "=\"");
        jbuf_put(rt, &b, val->p, val->len);
        jbuf_putc(rt, &b, '"');
    }
    return jbuf_str(rt, &b);
}

/* ---- numbers ---- */

/* The float that Python's float(str) reads; false: none. */
static bool read_float(struct jrt *rt, struct jval s, double *out)
{
    const struct jstr *t = js_strip(rt, s, NULL, JS_LEFT | JS_RIGHT).u.s;
    char text[400];
    size_t n = 0, digits = 0, i = 0;
    uint32_t cp;

    if (t->len == 0 || t->len > 390)
        return false;
    for (size_t at = 0; at < t->len;) {
        at += utf8_decode(t->p + at, t->len - at, &cp, NULL);
        if (cp == '_') {                 /* only between digits */
            if (n == 0 || text[n - 1] < '0' || text[n - 1] > '9' || at >= t->len ||
                t->p[at] < '0' || t->p[at] > '9')
                return false;
            continue;
        }
        if (cp >= 0x80) {
            if (ju_digit_value(cp) < 0)
                return false;
            cp = (uint32_t)('0' + ju_digit_value(cp));
        }
        if (cp == 0)
            return false;
        text[n++] = (char)(cp >= 'A' && cp <= 'Z' ? cp | 0x20 : cp);
    }
    text[n] = '\0';
    if (text[0] == '+' || text[0] == '-')
        i++;
    if (strcmp(text + i, "inf") == 0 || strcmp(text + i, "infinity") == 0 ||
        strcmp(text + i, "nan") == 0) {
        *out = text[i] == 'n' ? (double)NAN : text[0] == '-' ? -INFINITY : INFINITY;
        return true;
    }
    for (; text[i] >= '0' && text[i] <= '9'; i++)
        digits++;
    if (text[i] == '.')
        for (i++; text[i] >= '0' && text[i] <= '9'; i++)
            digits++;
    if (digits == 0)
        return false;
    if (text[i] == 'e') {
        i++;
        if (text[i] == '+' || text[i] == '-')
            i++;
        if (text[i] < '0' || text[i] > '9')
            return false;
        while (text[i] >= '0' && text[i] <= '9')
            i++;
    }
    if (text[i])
        return false;
    *out = jnum_parse(text);
    return true;
}

/* What Python's int(str, base) reads: 1 yes, 0 no, and more than 64 bits raise. */
static bool read_int(struct jrt *rt, struct jval s, int64_t base, int64_t *out)
{
    const struct jstr *t = js_strip(rt, s, NULL, JS_LEFT | JS_RIGHT).u.s;
    size_t at = 0, n_digits = 0;
    bool negative = false, under = true;
    uint32_t cp;

    *out = 0;
    if (base != 0 && (base < 2 || base > 36))
        return false;
    if (at < t->len && (t->p[at] == '+' || t->p[at] == '-'))
        negative = t->p[at++] == '-';
    if (t->len - at >= 2 && t->p[at] == '0') {
        const char c = t->p[at + 1] | 0x20;
        const int prefix = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;

        if (prefix && (base == prefix || base == 0)) {
            base = prefix;
            at += 2;
            under = false;               /* one may follow the prefix */
        } else if (base == 0) {
            for (size_t i = at; i < t->len; i++)
                if (t->p[i] != '0' && t->p[i] != '_')
                    return false;
        }
    }
    if (base == 0)
        base = 10;
    while (at < t->len) {
        int d;

        at += utf8_decode(t->p + at, t->len - at, &cp, NULL);
        if (cp == '_') {
            if (under)
                return false;
            under = true;
            continue;
        }
        under = false;
        d = ju_digit_value(cp);
        if (d < 0 && cp < 0x80 && (cp | 0x20) >= 'a' && (cp | 0x20) <= 'z')
            d = (int)((cp | 0x20) - 'a') + 10;
        if (d < 0 || d >= base)
            return false;
        n_digits++;
        if (__builtin_mul_overflow(*out, base, out) ||
            __builtin_add_overflow(*out, negative ? -d : d, out))
            jraise(rt, "integer overflow: only 64-bit integers are supported");
    }
    return n_digits > 0 && !under;
}

static bool float_to_int(struct jrt *rt, double f, int64_t *out)
{
    if (isnan(f))
        return false;
    if (isinf(f))
        jraise(rt, "cannot convert float infinity to integer");
    f = trunc(f);
    if (f < -0x1p63 || f >= 0x1p63)
        jraise(rt, "integer overflow: only 64-bit integers are supported");
    *out = (int64_t)f;
    return true;
}

FILTER(f_int)
{
    const struct jval otherwise = p[0].kind == J_ABSENT ? jv_int(0) : p[0];
    int64_t i;
    double f;

    UNUSED;
    if (in.kind == J_UNDEF)
        jfail_undefined(rt, in);
    if (in.kind == J_STR) {
        if (read_int(rt, in, p[1].kind == J_ABSENT ? 10 : jneed_int(rt, p[1], "base"), &i))
            return jv_int(i);
        if (read_float(rt, in, &f)) {
            if (isinf(f))                /* int(float("inf")) */
                return otherwise;
            if (float_to_int(rt, f, &i))
                return jv_int(i);
        }
        return otherwise;
    }
    if (in.kind == J_FLOAT && isinf(in.u.f))
        jraise(rt, "cannot convert float infinity to integer");
    if (in.kind == J_FLOAT)
        return float_to_int(rt, in.u.f, &i) ? jv_int(i) : otherwise;
    return jis_integer(in) ? jv_int(jint_of(in)) : otherwise;
}

FILTER(f_float)
{
    double f;

    UNUSED;
    if (in.kind == J_UNDEF)
        jfail_undefined(rt, in);
    if (jis_number(in))
        return jv_float(jdouble_of(in));
    if (in.kind == J_STR && read_float(rt, in, &f))
        return jv_float(f);
    return p[0].kind == J_ABSENT ? jv_float(0.0) : p[0];
}

FILTER(f_abs)
{
    UNUSED;
    if (in.kind == J_UNDEF)
        jfail_undefined(rt, in);
    if (!jis_number(in))
        jraise(rt, "bad operand type for abs(): '%s'", jtype_name(in));
    if (in.kind == J_FLOAT)
        return jv_float(fabs(in.u.f));
    return jint_of(in) < 0 ? joperate(rt, N_NEG, in, jv_none()) : jv_int(jint_of(in));
}

static double power_of_ten(int64_t n)
{
    return pow(10.0, (double)n);
}

/* round(i, -n): to a multiple of 10**n, halves to even. */
static int64_t round_int(struct jrt *rt, int64_t i, int64_t n)
{
    int64_t unit = 1, rest, half;

    while (n-- > 0)
        if (__builtin_mul_overflow(unit, 10, &unit))
            return 0;
    half = unit / 2;
    rest = i % unit;
    i -= rest;
    if (rest < 0 ? -rest > half || (-rest == half && (i / unit) % 2 != 0)
                 : rest > half || (rest == half && (i / unit) % 2 != 0))
        if (__builtin_add_overflow(i, rest < 0 ? -unit : unit, &i))
            jraise(rt, "integer overflow: only 64-bit integers are supported");
    return i;
}

static double round_float(double v, int64_t digits)
{
    char text[800];
    double unit;

    if (!isfinite(v) || digits > 330)
        return v;
    if (digits < -310)
        return copysign(0.0, v);
    if (digits >= 0) {
        int n = snprintf(text, sizeof text, "%.*f", (int)digits, v);

        for (int i = 0; i < n; i++)      /* any decimal sign is read as a point */
            if (text[i] != '-' && (text[i] < '0' || text[i] > '9'))
                text[i] = '.';
        return jnum_parse(text);
    }
    unit = power_of_ten(-digits);
    return rint(v / unit) * unit;
}

FILTER(f_round)
{
    const int64_t digits = p[0].kind == J_ABSENT ? 0
                         : p[0].kind == J_NONE ? 0 : jneed_int(rt, p[0], "precision");
    const char *method = "common";
    double unit, r;

    UNUSED;
    if (p[1].kind != J_ABSENT) {
        const struct jstr *m = jneed_str(rt, p[1], "method");

        method = jstr_is(m, "common") ? "common" : jstr_is(m, "ceil") ? "ceil"
               : jstr_is(m, "floor") ? "floor" : NULL;
        if (!method)
            jraise(rt, "method must be common, ceil or floor");
    }
    if (in.kind == J_UNDEF)
        jfail_undefined(rt, in);
    if (!jis_number(in))
        jraise(rt, "type %s doesn't define __round__ method", jtype_name(in));
    if (method[0] == 'c' && method[1] == 'o') {
        if (in.kind == J_FLOAT) {
            int64_t whole;

            if (p[0].kind != J_NONE)
                return jv_float(round_float(in.u.f, digits));
            if (!float_to_int(rt, rint(in.u.f), &whole))
                jraise(rt, "cannot convert float NaN to integer");
            return jv_int(whole);
        }
        return jv_int(digits < 0 ? round_int(rt, jint_of(in), -digits) : jint_of(in));
    }
    unit = power_of_ten(digits);
    r = jdouble_of(in) * unit;
    if (!isfinite(r) && isfinite(jdouble_of(in)))
        jraise(rt, "int too large to convert to float");
    if (!isfinite(r))
        jraise(rt, "cannot convert float infinity or NaN to integer");
    /* Python divides an int, which has no -0. */
    return jv_float(((method[0] == 'c' ? ceil(r) : floor(r)) + 0.0) / unit);
}

FILTER(f_filesizeformat)
{
    static const char *const si[] = { "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB" };
    static const char *const iec[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB" };
    const bool binary = truth_or(rt, p[0], false);
    const double base = binary ? 1024 : 1000;
    struct jval f = f_float(rt, in, (struct jval[]){ jv_none() }, NULL);
    struct jval parts[2];
    double unit = base;
    int i = 0;

    UNUSED;
    if (f.kind != J_FLOAT)
        jraise(rt, "could not convert to float");
    if (f.u.f == 1.0)
        return jv_strz(rt, "1 Byte");
    if (f.u.f < base) {
        parts[0] = jv_int((int64_t)f.u.f);
        return jformat_percent(rt, jv_strz(rt, "%d Bytes"), parts[0]);
    }
    if (!isfinite(f.u.f))
        jraise(rt, "cannot convert float infinity or NaN to integer");
    for (i = 0; i < 8; i++) {
        unit *= base;
        if (f.u.f < unit)
            break;
    }
    if (i == 8)
        i = 7;
    parts[0] = jv_float(base * f.u.f / unit);
    parts[1] = jv_strz(rt, binary ? iec[i] : si[i]);
    return jformat_percent(rt, jv_strz(rt, "%.1f %s"), jv_tuple(rt, parts, 2));
}

/* ---- JSON ---- */

static struct jstr *separator(struct jrt *rt, struct jval pair, uint32_t i)
{
    struct jlist l;

    jiterate(rt, pair, &l);
    if (l.n != 2)
        jraise(rt, "separators must be (item_separator, key_separator)");
    return jneed_str(rt, l.v[i], "a separator");
}

/* The parameters of json.dumps as chat templates get them. */
FILTER(f_tojson)
{
    static const struct jstr comma = { ",", 1, 1 }, comma_space = { ", ", 2, 2 },
                             colon = { ": ", 2, 2 };
    struct jjson_style style = { .item_sep = &comma_space, .key_sep = &colon };

    UNUSED;
    style.ascii = truth_or(rt, p[0], false);
    style.sort_keys = truth_or(rt, p[3], false);
    if (given(p[1])) {
        style.indent = p[1].kind == J_STR ? p[1].u.s
                     : joperate(rt, N_MUL, jv_strz(rt, " "),
                                jv_int(jneed_int(rt, p[1], "indent"))).u.s;
        style.item_sep = &comma;
    }
    if (given(p[2])) {
        style.item_sep = separator(rt, p[2], 0);
        style.key_sep = separator(rt, p[2], 1);
    }
    return jtojson(rt, in, &style);
}

FILTER(f_striptags)
{
    struct jval s = jstr_of(rt, in), words;
    struct jbuf b = { 0 };
    size_t at = 0;

    UNUSED;
    /* Comments first, then tags, then entities and white space. */
    for (;;) {
        const size_t open = jstr_find(rt, s.u.s, jv_strz(rt, "<!--").u.s, 0);
        const size_t close = open == SIZE_MAX ? SIZE_MAX
                           : jstr_find(rt, s.u.s, jv_strz(rt, "-->").u.s, open);

        if (close == SIZE_MAX)
            break;
        s = jadd(rt, jv_str(jstr_view(rt, s.u.s->p, open)),
                 jv_str(jstr_view(rt, s.u.s->p + close + 3, s.u.s->len - close - 3)));
    }
    while (at < s.u.s->len) {
        const char *open = memchr(s.u.s->p + at, '<', s.u.s->len - at);
        const char *close = open ? memchr(open, '>', s.u.s->len - (size_t)(open - s.u.s->p)) : NULL;

        if (!close) {
            jbuf_put(rt, &b, s.u.s->p + at, s.u.s->len - at);
            break;
        }
        jbuf_put(rt, &b, s.u.s->p + at, (size_t)(open - s.u.s->p) - at);
        at = (size_t)(close - s.u.s->p) + 1;
    }
    words = js_split(rt, jbuf_str(rt, &b), NULL, -1, false);
    s = js_join(rt, jv_strz(rt, " "), words.u.list->v, words.u.list->n);
    if (memchr(s.u.s->p, '&', s.u.s->len)) {
        static const char *const entity[][2] = {
            { "&lt;", "<" }, { "&gt;", ">" }, { "&quot;", "\"" }, { "&#34;", "\"" },
            { "&#39;", "'" }, { "&amp;", "&" },
        };

        for (size_t i = 0; i < sizeof entity / sizeof entity[0]; i++)
            s = js_replace(rt, s, jv_strz(rt, entity[i][0]).u.s, jv_strz(rt, entity[i][1]).u.s, -1);
    }
    return s;
}

FILTER(f_pprint)
{
    struct jbuf b = { 0 };

    UNUSED;
    jput_repr(rt, &b, in);
    if (b.len > 79 && (in.kind == J_LIST || in.kind == J_DICT || in.kind == J_TUPLE ||
                       in.kind == J_STR))
        jfail(rt, WATT_ENOTSUP, "pprint of a value longer than a line is not supported");
    return jbuf_str(rt, &b);
}

FILTER(f_refused)
{
    UNUSED;
    (void)in;
    jfail(rt, WATT_ENOTSUP, "the filters random and urlize are not supported");
}

const struct jfilter jfilters_text[] = {
    { "abs", f_abs, "" },
    { "capitalize", f_capitalize, "" },
    { "center", f_center, "width=?" },
    { "e", f_escape, "" },
    { "escape", f_escape, "" },
    { "filesizeformat", f_filesizeformat, "binary=?" },
    { "float", f_float, "default=?" },
    { "forceescape", f_forceescape, "" },
    { "format", f_format, NULL },
    { "indent", f_indent, "width=? first=? blank=?" },
    { "int", f_int, "default=? base=?" },
    { "lower", f_lower, "" },
    { "pprint", f_pprint, "" },
    { "random", f_refused, "" },
    { "replace", f_replace, "old new count=?" },
    { "round", f_round, "precision=? method=?" },
    { "safe", f_safe, "" },
    { "string", f_string, "" },
    { "striptags", f_striptags, "" },
    { "title", f_title, "" },
    { "tojson", f_tojson, "ensure_ascii=? indent=? separators=? sort_keys=?" },
    { "trim", f_trim, "chars=?" },
    { "truncate", f_truncate, "length=? killwords=? end=? leeway=?" },
    { "upper", f_upper, "" },
    { "urlencode", f_urlencode, "" },
    { "urlize", f_refused, "" },
    { "wordcount", f_wordcount, "" },
    { "wordwrap", f_wordwrap, "width=? break_long_words=? wrapstring=? break_on_hyphens=?" },
    { "xmlattr", f_xmlattr, "autospace=?" },
    { NULL, NULL, NULL },
};
