/* jinja_format.c: "…" % values, "…".format(…) and strftime, as Python has them.
 * Numbers are laid out here; the C library only makes digits. */
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "models/jinja_run.h"
#include "models/jinja_text.h"

#define WIDTH_MAX 100000         /* of a field */
#define PRECISION_MAX 400        /* of a float */

struct field {
    uint32_t fill;
    char     align;              /* < > = ^, or 0 */
    char     sign;               /* + space, or 0 */
    bool     alternate, zero;
    char     group;              /* , _ or 0 */
    int64_t  width, precision;   /* -1: none */
    char     type;               /* 0: none */
};

/* ---- laying out ---- */

static void put_fill(struct jrt *rt, struct jbuf *b, uint32_t fill, int64_t n)
{
    jcharge(rt, (uint64_t)(n > 0 ? n : 0) / 16);
    while (n-- > 0)
        jbuf_cp(rt, b, fill);
}

static void put_text(struct jrt *rt, struct jbuf *b, const struct field *f, struct jstr *s,
                     char align)
{
    int64_t room;

    if (f->precision >= 0 && (uint64_t)f->precision < jstr_chars(s))
        s = jstr_slice(rt, s, 0, (uint32_t)f->precision);
    room = f->width - (int64_t)jstr_chars(s);
    if (f->align)
        align = f->align;
    if (room < 0)
        room = 0;
    put_fill(rt, b, f->fill, align == '>' ? room : align == '^' ? room / 2 : 0);
    jbuf_put(rt, b, s->p, s->len);
    put_fill(rt, b, f->fill, align == '<' ? room : align == '^' ? room - room / 2 : 0);
}

/* digits: ASCII, without sign; prefix: "0x" and the like. */
static void put_number(struct jrt *rt, struct jbuf *b, const struct field *f, bool negative,
                       const char *prefix, const char *digits, size_t n)
{
    const char sign[2] = { negative ? '-' : f->sign == '+' || f->sign == ' ' ? f->sign : '\0', 0 };
    const char align = f->align ? f->align : f->zero ? '=' : '>';
    const uint32_t fill = f->zero && !f->align ? '0' : f->fill;
    int64_t room = f->width - (int64_t)(strlen(sign) + strlen(prefix) + n);

    if (room < 0)
        room = 0;
    put_fill(rt, b, fill, align == '>' ? room : align == '^' ? room / 2 : 0);
    jbuf_puts(rt, b, sign);
    jbuf_puts(rt, b, prefix);
    put_fill(rt, b, fill, align == '=' ? room : 0);
    jbuf_put(rt, b, digits, n);
    put_fill(rt, b, fill, align == '<' ? room : align == '^' ? room - room / 2 : 0);
}

/* Inserts separators into the digits before the first that is not one. */
static size_t group_digits(const struct field *f, const char *in, size_t n, int every, char *out)
{
    size_t whole = 0, len = 0;

    while (whole < n && ((in[whole] >= '0' && in[whole] <= '9') ||
                         (every == 4 && ((in[whole] | 0x20) >= 'a' && (in[whole] | 0x20) <= 'f'))))
        whole++;
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && i < whole && (whole - i) % (size_t)every == 0)
            out[len++] = f->group;
        out[len++] = in[i];
    }
    return len;
}

static void put_int(struct jrt *rt, struct jbuf *b, const struct field *f, int64_t value)
{
    static const char lower[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
    const unsigned base = f->type == 'x' || f->type == 'X' ? 16 : f->type == 'o' ? 8
                        : f->type == 'b' ? 2 : 10;
    uint64_t u = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    char digits[80], grouped[160];
    const char *prefix = "", *p;
    size_t n = sizeof digits;

    do
        digits[--n] = f->type == 'X' ? upper[u % base] : lower[u % base];
    while ((u /= base) != 0);
    while (f->precision > (int64_t)(sizeof digits - n) && n > 0)     /* of % only */
        digits[--n] = '0';
    if (f->alternate)
        prefix = f->type == 'x' ? "0x" : f->type == 'X' ? "0X" : f->type == 'o' ? "0o"
               : f->type == 'b' ? "0b" : "";
    p = digits + n;
    n = sizeof digits - n;
    if (f->group) {
        if (f->zero && f->width > 0)
            jfail(rt, WATT_ENOTSUP, "a format with both grouping and zero padding");
        n = group_digits(f, p, n, base == 10 ? 3 : 4, grouped);
        p = grouped;
    }
    put_number(rt, b, f, value < 0, prefix, p, n);
}

/* The decimal sign is made a point, whatever the locale. */
static size_t print_float(char *out, size_t max, double v, char type, int precision,
                          bool alternate)
{
    const char format[] = { '%', alternate ? '#' : '.', alternate ? '.' : '*',
                            alternate ? '*' : type, alternate ? type : '\0', '\0' };
    size_t n = 0;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(out, max, format, precision, v);
#pragma GCC diagnostic pop
    for (char *p = out; *p; p++) {
        const bool plain = (*p >= '0' && *p <= '9') || *p == 'e' || *p == 'E' || *p == '+' ||
                           *p == '-';

        if (plain)
            out[n++] = *p;
        else if (n > 0 && out[n - 1] != '.')
            out[n++] = '.';
    }
    out[n] = '\0';
    return n;
}

/* What format() without a type and with a precision gives. */
static size_t print_general(char *out, size_t max, double v, int precision)
{
    int exp;
    size_t n;
    char *mark;

    if (precision == 0)
        precision = 1;
    print_float(out, max, v, 'e', precision - 1, false);
    mark = strchr(out, 'e');
    exp = mark ? (int)strtol(mark + 1, NULL, 10) : 0;
    if (exp >= -4 && exp < precision - 1) {
        n = print_float(out, max, v, 'f', precision - 1 - exp > 0 ? precision - 1 - exp : 1, false);
        while (n > 2 && out[n - 1] == '0' && out[n - 2] != '.')
            out[--n] = '\0';
        return n;
    }
    {
        char tail[16];
        size_t digits = (size_t)(mark - out);

        snprintf(tail, sizeof tail, "%s", mark);
        while (digits > 1 && out[digits - 1] == '0' && memchr(out, '.', digits))
            digits--;
        if (out[digits - 1] == '.')
            digits--;
        memcpy(out + digits, tail, strlen(tail) + 1);
        return digits + strlen(tail);
    }
}

static void put_float(struct jrt *rt, struct jbuf *b, const struct field *f, double v)
{
    const bool negative = signbit(v) && !isnan(v);
    const double a = fabs(v);
    char text[1024], grouped[1400];
    const char *p = text;
    char type = f->type;
    int precision = f->precision < 0 ? 6 : (int)f->precision;
    size_t n;

    if (f->precision > PRECISION_MAX)
        jfail(rt, WATT_ELIMIT, "a float's precision is at most %d", PRECISION_MAX);
    if (!isfinite(v)) {
        const bool up = type == 'E' || type == 'F' || type == 'G';

        snprintf(text, sizeof text, "%s%s", isnan(v) ? up ? "NAN" : "nan" : up ? "INF" : "inf",
                 type == '%' ? "%" : "");
        n = strlen(text);
    } else if (type == '%') {
        n = print_float(text, sizeof text - 1, a * 100, 'f', precision, f->alternate);
        text[n++] = '%';
    } else if (type == 0) {
        n = f->precision < 0 ? jnum_format(a, text)
                             : print_general(text, sizeof text, a, precision);
    } else {
        if (type == 'n')
            type = 'g';
        if ((type == 'g' || type == 'G') && precision == 0)
            precision = 1;
        n = print_float(text, sizeof text, a, type, precision, f->alternate);
    }
    if (f->group) {
        if (f->zero && f->width > 0)
            jfail(rt, WATT_ENOTSUP, "a format with both grouping and zero padding");
        n = group_digits(f, text, n, 3, grouped);
        p = grouped;
    }
    put_number(rt, b, f, negative, "", p, n);
}

/* ---- "…" % values ---- */

struct percent {
    struct jrt *rt;
    const struct jstr *s;
    size_t at;
    struct jval values;
    uint32_t next;               /* of a tuple; 1: the single value was used */
    bool markup;
    struct jbuf b;
};

static struct jval next_value(struct percent *p)
{
    if (p->values.kind == J_TUPLE) {
        if (p->next >= p->values.u.list->n)
            jraise(p->rt, "not enough arguments for format string");
        return p->values.u.list->v[p->next++];
    }
    if (p->next++)
        jraise(p->rt, "not enough arguments for format string");
    return p->values;
}

static char peek_char(struct percent *p)
{
    if (p->at >= p->s->len)
        jraise(p->rt, "incomplete format");
    return p->s->p[p->at];
}

static struct jval keyed_value(struct percent *p)
{
    const size_t from = ++p->at;
    const struct jval *found;
    int depth = 1;

    while (depth > 0) {
        const char c = p->at < p->s->len ? p->s->p[p->at] : '\0';

        if (p->at >= p->s->len)
            jraise(p->rt, "incomplete format key");
        depth += c == '(' ? 1 : c == ')' ? -1 : 0;
        p->at++;
    }
    if (p->values.kind != J_DICT)
        jraise(p->rt, "format requires a mapping");
    found = jdict_get_str(p->rt, p->values.u.dict,
                          jstr_view(p->rt, p->s->p + from, p->at - 1 - from));
    if (!found)
        jraise(p->rt, "KeyError: '%.*s'", (int)(p->at - 1 - from), p->s->p + from);
    p->next = 1;
    return *found;
}

static int64_t percent_size(struct percent *p, bool *negative)
{
    int64_t n = 0;

    if (peek_char(p) == '*') {
        const struct jval v = next_value(p);

        if (!jis_integer(v))
            jraise(p->rt, "* wants int");
        p->at++;
        n = jint_of(v);
        *negative = n < 0;
        n = n < 0 ? -n : n;
    } else {
        while (peek_char(p) >= '0' && peek_char(p) <= '9' && n <= WIDTH_MAX)
            n = n * 10 + (p->s->p[p->at++] - '0');
    }
    if (n < 0 || n > WIDTH_MAX)
        jfail(p->rt, WATT_ELIMIT, "a format's width is at most %d", WIDTH_MAX);
    return n;
}

static void percent_char(struct percent *p, const struct field *f, struct jval v)
{
    struct jbuf one = { 0 };

    if (jis_integer(v) && jint_of(v) >= 0 && jint_of(v) < 0x110000 &&
        !(jint_of(v) >= 0xD800 && jint_of(v) < 0xE000))
        jbuf_cp(p->rt, &one, (uint32_t)jint_of(v));
    else if (v.kind == J_STR && jstr_chars(v.u.s) == 1)
        jbuf_put(p->rt, &one, v.u.s->p, v.u.s->len);
    else
        jraise(p->rt, "%%c requires int or char");
    put_text(p->rt, &p->b, f, jbuf_str(p->rt, &one).u.s, '>');
}

static void ascii_repr(struct jrt *rt, struct jbuf *b, struct jval v)
{
    struct jbuf full = { 0 };
    char text[16];
    uint32_t cp;

    jput_repr(rt, &full, v);
    for (size_t at = 0; at < full.len;) {
        at += utf8_decode(full.p + at, full.len - at, &cp, NULL);
        snprintf(text, sizeof text, cp < 0x80 ? "%c" : cp < 0x100 ? "\\x%02x"
                 : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
        jbuf_puts(rt, b, text);
    }
}

static void percent_text(struct percent *p, const struct field *f, struct jval v)
{
    struct jbuf text = { 0 };
    struct jval s;

    if (f->type == 's')
        s = p->markup ? jescape(p->rt, v) : jstr_of(p->rt, v);
    else {
        if (f->type == 'r')
            jput_repr(p->rt, &text, v);
        else
            ascii_repr(p->rt, &text, v);
        s = jbuf_str(p->rt, &text);
        if (p->markup)
            s = jescape(p->rt, s);
    }
    put_text(p->rt, &p->b, f, s.u.s, '>');
}

static void percent_value(struct percent *p, struct field *f, struct jval v)
{
    double d;

    switch (f->type) {
    case 's': case 'r': case 'a':
        percent_text(p, f, v);
        return;
    case 'c':
        percent_char(p, f, v);
        return;
    case 'd': case 'i': case 'u': case 'o': case 'x': case 'X':
        if (v.kind == J_UNDEF)
            jfail_undefined(p->rt, v);
        if (v.kind == J_FLOAT && (f->type == 'd' || f->type == 'i' || f->type == 'u')) {
            d = trunc(v.u.f);
            if (!(d >= -0x1p63 && d < 0x1p63))
                jraise(p->rt, "cannot convert float to a 64-bit integer");
            v = jv_int((int64_t)d);
        }
        if (!jis_integer(v))
            jraise(p->rt, "%%%c format: a number is required, not %s", f->type, jtype_name(v));
        if (f->precision > 64)
            jfail(p->rt, WATT_ELIMIT, "an integer's precision is at most 64");
        put_int(p->rt, &p->b, f, jint_of(v));
        return;
    case 'e': case 'E': case 'f': case 'F': case 'g': case 'G':
        if (v.kind == J_UNDEF)
            jfail_undefined(p->rt, v);
        if (!jis_number(v))
            jraise(p->rt, "must be real number, not %s", jtype_name(v));
        put_float(p->rt, &p->b, f, jdouble_of(v));
        return;
    default:
        jraise(p->rt, "unsupported format character '%c'", f->type);
    }
}

static void percent_field(struct percent *p)
{
    struct field f = { .fill = ' ', .precision = -1 };
    struct jval v = jv_absent();
    bool negative = false;

    if (peek_char(p) == '(')
        v = keyed_value(p);
    for (;; p->at++) {
        const char c = peek_char(p);

        if (c == '-')
            f.align = '<';
        else if (c == '+' || (c == ' ' && f.sign != '+'))
            f.sign = c;
        else if (c == '#')
            f.alternate = true;
        else if (c == '0')
            f.zero = true;
        else if (c != ' ')
            break;
    }
    f.width = percent_size(p, &negative);
    if (negative)
        f.align = '<';
    if (peek_char(p) == '.') {
        p->at++;
        negative = false;
        f.precision = percent_size(p, &negative);
        if (negative)
            f.precision = 0;
    }
    while (peek_char(p) == 'h' || peek_char(p) == 'l' || peek_char(p) == 'L')
        p->at++;
    f.type = peek_char(p);
    p->at++;
    if (f.type == '%') {
        jbuf_putc(p->rt, &p->b, '%');
        return;
    }
    if (v.kind == J_ABSENT)
        v = next_value(p);
    percent_value(p, &f, v);
}

struct jval jformat_percent(struct jrt *rt, struct jval left, struct jval right)
{
    struct percent p = { .rt = rt, .s = left.u.s, .values = right, .markup = left.markup };
    struct jval out;

    jcharge(rt, left.u.s->len / 16);
    while (p.at < p.s->len) {
        const char *hit = memchr(p.s->p + p.at, '%', p.s->len - p.at);
        const size_t to = hit ? (size_t)(hit - p.s->p) : p.s->len;

        jbuf_put(rt, &p.b, p.s->p + p.at, to - p.at);
        p.at = to;
        if (hit) {
            p.at++;
            percent_field(&p);
        }
    }
    if (right.kind == J_TUPLE ? p.next < right.u.list->n
                              : p.next == 0 && right.kind != J_DICT && right.kind != J_LIST &&
                                right.kind != J_UNDEF && right.kind != J_RANGE)
        jraise(rt, "not all arguments converted during string formatting");
    out = jbuf_str(rt, &p.b);
    out.markup = left.markup;
    return out;
}

/* ---- "…".format(…) ---- */

struct braces {
    struct jrt *rt;
    const struct jargs *args;
    int64_t  next;               /* automatic numbering */
    bool     automatic, manual, markup;
};

static void parse_spec(struct jrt *rt, const struct jstr *s, struct field *f)
{
    size_t at = 0;
    uint32_t cp = ' ';
    size_t n = s->len ? utf8_decode(s->p, s->len, &cp, NULL) : 0;

    *f = (struct field){ .fill = ' ', .precision = -1 };
    if (n < s->len && n > 0 && strchr("<>=^", s->p[n]) && s->p[n]) {
        f->fill = cp;
        f->align = s->p[n];
        at = n + 1;
    } else if (s->len && s->p[0] && strchr("<>=^", s->p[0])) {
        f->align = s->p[0];
        at = 1;
    }
    if (at < s->len && (s->p[at] == '+' || s->p[at] == '-' || s->p[at] == ' '))
        f->sign = s->p[at++];
    if (at < s->len && s->p[at] == '#') {
        f->alternate = true;
        at++;
    }
    if (at < s->len && s->p[at] == '0') {
        f->zero = true;
        at++;
    }
    while (at < s->len && s->p[at] >= '0' && s->p[at] <= '9' && f->width <= WIDTH_MAX)
        f->width = f->width * 10 + (s->p[at++] - '0');
    if (at < s->len && (s->p[at] == ',' || s->p[at] == '_'))
        f->group = s->p[at++];
    if (at < s->len && s->p[at] == '.') {
        const size_t first = ++at;

        f->precision = 0;
        while (at < s->len && s->p[at] >= '0' && s->p[at] <= '9' && f->precision <= WIDTH_MAX)
            f->precision = f->precision * 10 + (s->p[at++] - '0');
        if (at == first)
            jraise(rt, "format specifier missing precision");
    }
    if (f->width > WIDTH_MAX || f->precision > WIDTH_MAX)
        jfail(rt, WATT_ELIMIT, "a format's width is at most %d", WIDTH_MAX);
    if (at < s->len)
        f->type = s->p[at++];
    if (at < s->len)
        jraise(rt, "invalid format specifier '%.*s'", (int)s->len, s->p);
}

static NORETURN void bad_type(struct jrt *rt, const struct field *f, struct jval v)
{
    jraise(rt, "unknown format code '%c' for object of type '%s'", f->type, jtype_name(v));
}

static void format_str(struct jrt *rt, struct jbuf *b, struct field *f, struct jval v)
{
    if (f->type && f->type != 's')
        bad_type(rt, f, v);
    if (f->sign || f->alternate || f->group || f->align == '=')
        jraise(rt, "this format option is not allowed for strings");
    if (f->zero && !f->align) {
        f->fill = '0';
        f->align = '<';
    }
    put_text(rt, b, f, v.u.s, '<');
}

static void format_number(struct jrt *rt, struct jbuf *b, struct field *f, struct jval v)
{
    if (f->zero && f->align && f->fill == ' ')
        f->fill = '0';
    if (v.kind == J_FLOAT || (f->type && strchr("eEfFgG%", f->type))) {
        if (f->type && !strchr("eEfFgGn%", f->type))
            bad_type(rt, f, v);
        put_float(rt, b, f, jdouble_of(v));
        return;
    }
    if (f->type && !strchr("bcdnoxX", f->type))
        bad_type(rt, f, v);
    if (f->precision >= 0)
        jraise(rt, "precision not allowed in integer format specifier");
    if (f->type == 'c') {
        const struct jval args[1] = { v };
        struct percent p = { .rt = rt };

        if (f->sign || f->alternate)
            jraise(rt, "this format option is not allowed with 'c'");
        if (!f->align)
            f->align = '<';
        percent_char(&p, f, args[0]);
        jbuf_put(rt, b, p.b.p, p.b.len);
        return;
    }
    if (f->group == ',' && f->type && f->type != 'd')
        jraise(rt, "cannot specify ',' with '%c'", f->type);
    if (f->group && f->type == 'n')
        jraise(rt, "cannot specify '%c' with 'n'", f->group);
    put_int(rt, b, f, jint_of(v));
}

static void format_value(struct jrt *rt, struct jbuf *b, struct jval v, const struct jstr *spec)
{
    struct field f;

    if (spec->len == 0) {
        jput_str(rt, b, v);
        return;
    }
    if (v.kind != J_STR && !jis_number(v))
        jraise(rt, "unsupported format string passed to %s.__format__", jtype_name(v));
    parse_spec(rt, spec, &f);
    if (v.kind == J_STR)
        format_str(rt, b, &f, v);
    else
        format_number(rt, b, &f, v);
}

static bool all_digits(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] < '0' || p[i] > '9')
            return false;
    return n > 0;
}

static int64_t read_index(struct jrt *rt, const char *p, size_t n)
{
    int64_t i = 0;

    if (n > 9)
        jraise(rt, "too many decimal digits in format string");
    for (size_t k = 0; k < n; k++)
        i = i * 10 + (p[k] - '0');
    return i;
}

static struct jval first_value(struct braces *x, const char *p, size_t n)
{
    struct jrt *rt = x->rt;
    int64_t i;

    if (n == 0 || all_digits(p, n)) {
        x->automatic |= n == 0;
        x->manual |= n != 0;
        if (x->automatic && x->manual)
            jraise(rt, "cannot switch between automatic and manual field numbering");
        i = n ? read_index(rt, p, n) : x->next++;
        if (i >= x->args->n_pos)
            jraise(rt, "replacement index %lld out of range for positional args tuple",
                   (long long)i);
        return x->args->pos[i];
    }
    for (uint32_t k = 0; k < x->args->n_kw; k++)
        if (x->args->names[k]->len == n && memcmp(x->args->names[k]->p, p, n) == 0)
            return x->args->kw[k];
    jraise(rt, "KeyError: '%.*s'", (int)n, p);
}

/* name.attr[key]…: attributes and items by the sandbox's rules. */
static struct jval field_value(struct braces *x, const char *p, size_t n)
{
    size_t at = 0, from;
    struct jval v;

    while (at < n && p[at] != '.' && p[at] != '[')
        at++;
    v = first_value(x, p, at);
    while (at < n) {
        const char kind = p[at++];
        struct jstr *name;

        from = at;
        while (at < n && (kind == '.' ? p[at] != '.' && p[at] != '[' : p[at] != ']'))
            at++;
        if (kind == '[' && at == n)
            jraise(x->rt, "expected ']' before end of string");
        if (at == from)
            jraise(x->rt, "empty attribute in format string");
        name = jstr_view(x->rt, p + from, at - from);
        if (kind == '.')
            v = jgetattr(x->rt, v, name, jmethod_find(name));
        else
            v = jgetitem(x->rt, v, all_digits(p + from, at - from)
                                       ? jv_int(read_index(x->rt, p + from, at - from))
                                       : jv_str(name));
        if (kind == '[' && ++at < n && p[at] != '.' && p[at] != '[')
            jraise(x->rt, "only '.' or '[' may follow ']' in format field specifier");
    }
    return v;
}

static void format_braces(struct braces *x, struct jbuf *b, const char *p, size_t n, int depth);

/* p[0..n) is what stood between the braces. */
static void format_field(struct braces *x, struct jbuf *b, const char *p, size_t n, int depth)
{
    size_t name = 0, at;
    struct jbuf spec = { 0 }, text = { 0 };
    struct jval v;
    char conv = 0;
    bool bracket = false;

    while (name < n && (bracket || (p[name] != '!' && p[name] != ':'))) {
        bracket = p[name] == '[' || (bracket && p[name] != ']');
        name++;
    }
    at = name;
    if (at < n && p[at] == '!') {
        if (at + 1 >= n || (at + 2 < n && p[at + 2] != ':'))
            jraise(x->rt, "expected ':' after conversion specifier");
        conv = p[at + 1];
        at += 2;
    }
    v = field_value(x, p, name);
    if (conv == 'r')
        jput_repr(x->rt, &text, v);
    else if (conv == 's')
        jput_str(x->rt, &text, v);
    else if (conv == 'a')
        ascii_repr(x->rt, &text, v);
    else if (conv)
        jraise(x->rt, "unknown conversion specifier '%c'", conv);
    if (conv)
        v = jbuf_str(x->rt, &text);
    if (at < n)
        format_braces(x, &spec, p + at + 1, n - at - 1, depth + 1);
    if (x->markup) {
        struct jbuf plain = { 0 };
        struct jval s;

        if (v.kind == J_STR && v.markup && spec.len == 0) {
            jbuf_put(x->rt, b, v.u.s->p, v.u.s->len);
            return;
        }
        format_value(x->rt, &plain, v, jbuf_str(x->rt, &spec).u.s);
        s = jescape(x->rt, jbuf_str(x->rt, &plain));
        jbuf_put(x->rt, b, s.u.s->p, s.u.s->len);
        return;
    }
    format_value(x->rt, b, v, jbuf_str(x->rt, &spec).u.s);
}

static void format_braces(struct braces *x, struct jbuf *b, const char *p, size_t n, int depth)
{
    if (depth > 1)
        jraise(x->rt, "max string recursion exceeded");
    for (size_t at = 0; at < n;) {
        size_t end;
        int open = 1;
        bool bracket = false;

        jcharge(x->rt, 1);
        if (p[at] != '{' && p[at] != '}') {
            jbuf_putc(x->rt, b, p[at++]);
            continue;
        }
        if (depth == 0 && at + 1 < n && p[at + 1] == p[at]) {
            jbuf_putc(x->rt, b, p[at]);
            at += 2;
            continue;
        }
        if (p[at] == '}')
            jraise(x->rt, "single '}' encountered in format string");
        for (end = at + 1; end < n && open > 0; end++) {
            if (p[end] == '[')
                bracket = true;
            else if (p[end] == ']')
                bracket = false;
            else if (!bracket)
                open += p[end] == '{' ? 1 : p[end] == '}' ? -1 : 0;
        }
        if (open > 0)
            jraise(x->rt, at + 1 == n ? "single '{' encountered in format string"
                                      : "expected '}' before end of string");
        format_field(x, b, p + at + 1, end - at - 2, depth);
        at = end;
    }
}

struct jval jformat_braces(struct jrt *rt, struct jval s, const struct jargs *args)
{
    struct braces x = { .rt = rt, .args = args, .markup = s.markup };
    struct jbuf b = { 0 };
    struct jval out;

    format_braces(&x, &b, s.u.s->p, s.u.s->len, 0);
    out = jbuf_str(rt, &b);
    out.markup = s.markup;
    return out;
}

/* ---- strftime ---- */

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void open_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

static struct tm now_of(struct jrt *rt)
{
    struct tm tm;
    time_t t;

    if (rt->has_now) {
        int64_t local;

        if (__builtin_add_overflow(rt->now_s, (int64_t)rt->utc_offset_s, &local))
            jraise(rt, "the clock is out of range");
        t = (time_t)local;
        if (!gmtime_r(&t, &tm))
            jraise(rt, "the clock is out of range");
    } else {
        t = (time_t)(clock_wall_ns() / 1000000000);
        if (!localtime_r(&t, &tm))
            jraise(rt, "the clock is out of range");
    }
    if (tm.tm_year < 1 - 1900 || tm.tm_year > 9999 - 1900)
        jraise(rt, "the clock is out of range");
    return tm;
}

struct jval jstrftime(struct jrt *rt, struct jval format)
{
    const struct jstr *s = jneed_str(rt, format, "the format of strftime_now()");
    const struct tm tm = now_of(rt);
    struct jbuf b = { 0 };
    char *out;
    size_t n;

    pthread_once(&c_locale_once, open_locale);
    if (!c_locale)
        jfail(rt, WATT_ENOMEM, "no memory for a locale");
    if (s->len > 1024)
        jfail(rt, WATT_ELIMIT, "a date format is at most 1024 bytes");
    if (s->len == 0 || memchr(s->p, '\0', s->len))
        return jv_strz(rt, "");
    /* A naive datetime: no zone; Python does microseconds itself. */
    for (size_t i = 0; i < s->len; i++) {
        const char next = i + 1 < s->len ? s->p[i + 1] : '\0';

        if (s->p[i] != '%' || !next) {
            jbuf_putc(rt, &b, s->p[i]);
        } else {
            i++;
            if (next == 'f')
                jbuf_puts(rt, &b, "000000");
            else if (next != 'z' && next != 'Z')
                jbuf_put(rt, &b, s->p + i - 1, 2);
        }
    }
    jbuf_puts(rt, &b, "x");              /* so that an empty result is not a failure */
    jbuf_putc(rt, &b, '\0');
    out = jalloc(rt, 8192);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    n = strftime_l(out, 8192, b.p, &tm, c_locale);
#pragma GCC diagnostic pop
    if (n == 0)
        jfail(rt, WATT_ELIMIT, "a date is longer than 8192 bytes");
    return jv_str(jstr_view(rt, out, n - 1));
}
