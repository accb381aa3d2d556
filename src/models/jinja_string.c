/* jinja_string.c: the methods of str. Results of methods on Markup are Markup;
 * what is joined into Markup is escaped first. */
#include "models/jinja_string.h"

#include <string.h>

#include "base/utf8.h"
#include "models/jinja_text.h"

/* ---- shared with the filters ---- */

static bool has_char(const struct jstr *set, const char *p, size_t n)
{
    return memmem(set->p, set->len, p, n) != NULL;   /* UTF-8: no false hits */
}

static bool strips(const struct jstr *chars, const char *p, size_t n, uint32_t cp)
{
    return chars ? has_char(chars, p, n) : ju_space(cp);
}

struct jval js_strip(struct jrt *rt, struct jval s, const struct jstr *chars, int sides)
{
    const char *p = s.u.s->p;
    size_t from = 0, to = s.u.s->len;
    uint32_t cp;

    while ((sides & JS_LEFT) && from < to) {
        const size_t n = utf8_decode(p + from, to - from, &cp, NULL);

        if (!strips(chars, p + from, n, cp))
            break;
        from += n;
    }
    while ((sides & JS_RIGHT) && to > from) {
        size_t at = to - 1;

        while (at > from && ((unsigned char)p[at] & 0xC0) == 0x80)
            at--;
        if (at + utf8_decode(p + at, to - at, &cp, NULL) < to)
            at = to - 1;                     /* stray bytes: one by one */
        if (!strips(chars, p + at, to - at, cp))
            break;
        to = at;
    }
    jcharge(rt, (s.u.s->len - (to - from)) / 8 * (1 + (chars ? chars->len / 64 : 0)));
    if (from == 0 && to == s.u.s->len)
        return s;
    return jv_like(s, jstr_view(rt, p + from, to - from));
}

static struct jval replace_empty(struct jrt *rt, struct jval s, const struct jstr *with,
                                 int64_t count)
{
    struct jbuf b = { 0 };
    uint32_t cp;

    for (size_t at = 0, n; at <= s.u.s->len; at += n) {
        if (count-- != 0)
            jbuf_put(rt, &b, with->p, with->len);
        if (at == s.u.s->len)
            break;
        n = utf8_decode(s.u.s->p + at, s.u.s->len - at, &cp, NULL);
        jbuf_put(rt, &b, s.u.s->p + at, n);
    }
    jcharge(rt, b.len / 32);
    return jv_like(s, jbuf_str(rt, &b).u.s);
}

struct jval js_replace(struct jrt *rt, struct jval s, const struct jstr *old,
                       const struct jstr *with, int64_t count)
{
    struct jbuf b = { 0 };
    size_t at = 0, hit;

    if (old->len == 0)
        return replace_empty(rt, s, with, count);
    jcharge(rt, s.u.s->len / 16);
    while (count != 0 && (hit = jstr_find(rt, s.u.s, old, at)) != SIZE_MAX) {
        jbuf_put(rt, &b, s.u.s->p + at, hit - at);
        jbuf_put(rt, &b, with->p, with->len);
        at = hit + old->len;
        count--;
    }
    if (at == 0)
        return s;
    jbuf_put(rt, &b, s.u.s->p + at, s.u.s->len - at);
    return jv_like(s, jbuf_str(rt, &b).u.s);
}

struct jval js_splitlines(struct jrt *rt, struct jval s, bool keep_ends)
{
    struct jvec out = { 0 };
    const char *p = s.u.s->p;
    size_t from = 0;
    uint32_t cp;

    jcharge(rt, s.u.s->len / 8);
    for (size_t at = 0, n; at < s.u.s->len; at += n) {
        size_t end;

        n = utf8_decode(p + at, s.u.s->len - at, &cp, NULL);
        if (!ju_line_break(cp))
            continue;
        if (cp == '\r' && at + 1 < s.u.s->len && p[at + 1] == '\n')
            n = 2;
        end = keep_ends ? at + n : at;
        jvec_push(rt, &out, jv_like(s, jstr_view(rt, p + from, end - from)));
        from = at + n;
    }
    if (from < s.u.s->len)
        jvec_push(rt, &out, jv_like(s, jstr_view(rt, p + from, s.u.s->len - from)));
    return jv_list(rt, out.v, out.n);
}

static void reverse(struct jvec *v)
{
    for (uint32_t i = 0; i < v->n / 2; i++) {
        const struct jval t = v->v[i];

        v->v[i] = v->v[v->n - 1 - i];
        v->v[v->n - 1 - i] = t;
    }
}

static void split_space(struct jrt *rt, struct jval s, int64_t max, struct jvec *out)
{
    const char *p = s.u.s->p;
    const size_t len = s.u.s->len;
    size_t at = 0, n;
    uint32_t cp;

    for (;;) {
        size_t from;

        for (; at < len; at += n) {
            n = utf8_decode(p + at, len - at, &cp, NULL);
            if (!ju_space(cp))
                break;
        }
        if (at == len)
            return;
        from = at;
        if (max-- == 0) {
            jvec_push(rt, out, jv_like(s, jstr_view(rt, p + from, len - from)));
            return;
        }
        for (; at < len; at += n) {
            n = utf8_decode(p + at, len - at, &cp, NULL);
            if (ju_space(cp))
                break;
        }
        jvec_push(rt, out, jv_like(s, jstr_view(rt, p + from, at - from)));
    }
}

/* Words from the right; only a bounded count makes it differ from the left. */
static void rsplit_space(struct jrt *rt, struct jval s, int64_t max, struct jvec *out)
{
    struct jvec words = { 0 };
    struct jstr *first_kept;
    size_t end;

    split_space(rt, s, -1, &words);
    if (max < 0 || words.n <= max) {
        *out = words;
        return;
    }
    /* The rest on the left keeps its inner white space. */
    if (max == 0) {
        jvec_push(rt, out, js_strip(rt, s, NULL, JS_RIGHT));
        return;
    }
    first_kept = words.v[words.n - (uint32_t)max].u.s;
    end = (size_t)(first_kept->p - s.u.s->p);
    jvec_push(rt, out, js_strip(rt, jv_like(s, jstr_view(rt, s.u.s->p, end)), NULL,
                                JS_RIGHT));
    for (uint32_t i = words.n - (uint32_t)max; i < words.n; i++)
        jvec_push(rt, out, words.v[i]);
}

struct jval js_split(struct jrt *rt, struct jval s, const struct jstr *sep, int64_t max,
                     bool from_right)
{
    struct jvec out = { 0 };
    size_t at = 0, end = s.u.s->len, hit;

    jcharge(rt, s.u.s->len / 16);
    if (!sep) {
        if (from_right)
            rsplit_space(rt, s, max, &out);
        else
            split_space(rt, s, max, &out);
        return jv_list(rt, out.v, out.n);
    }
    if (sep->len == 0)
        jraise(rt, "empty separator");
    if (!from_right) {
        while (max-- != 0 && (hit = jstr_find(rt, s.u.s, sep, at)) != SIZE_MAX) {
            jvec_push(rt, &out, jv_like(s, jstr_view(rt, s.u.s->p + at, hit - at)));
            at = hit + sep->len;
        }
        jvec_push(rt, &out, jv_like(s, jstr_view(rt, s.u.s->p + at, end - at)));
    } else {
        struct jstr left = *s.u.s;

        while (max-- != 0 && (hit = jstr_rfind(rt, &left, sep)) != SIZE_MAX) {
            jvec_push(rt, &out, jv_like(s, jstr_view(rt, s.u.s->p + hit + sep->len,
                                                     end - hit - sep->len)));
            end = hit;
            left.len = (uint32_t)end;
        }
        jvec_push(rt, &out, jv_like(s, jstr_view(rt, s.u.s->p, end)));
        reverse(&out);
    }
    return jv_list(rt, out.v, out.n);
}

struct jval js_pad(struct jrt *rt, struct jval s, int64_t width, const struct jstr *fill,
                   char align)
{
    const int64_t room = width - (int64_t)jstr_chars(s.u.s);
    int64_t left = 0;
    struct jbuf b = { 0 };

    if (room <= 0)
        return s;
    if (room > UINT32_MAX / 4)
        jfail(rt, WATT_ELIMIT, "a padded string is too long");
    jcharge(rt, (uint64_t)room / 16);
    if (align == '>')
        left = room;
    else if (align == '^')               /* CPython's choice of side */
        left = room / 2 + (room & width & 1);
    for (int64_t i = 0; i < left; i++)
        jbuf_put(rt, &b, fill->p, fill->len);
    jbuf_put(rt, &b, s.u.s->p, s.u.s->len);
    for (int64_t i = left; i < room; i++)
        jbuf_put(rt, &b, fill->p, fill->len);
    return jv_like(s, jbuf_str(rt, &b).u.s);
}

struct jval js_join(struct jrt *rt, struct jval sep, const struct jval *v, uint32_t n)
{
    struct jbuf b = { 0 };

    for (uint32_t i = 0; i < n; i++) {
        struct jval item = v[i];

        if (sep.markup)
            item = jescape(rt, item);
        else if (item.kind != J_STR)
            jraise(rt, "sequence item %u: expected str instance, %s found", i, jtype_name(item));
        if (i)
            jbuf_put(rt, &b, sep.u.s->p, sep.u.s->len);
        jbuf_put(rt, &b, item.u.s->p, item.u.s->len);
        jcharge(rt, 1);
    }
    jcharge(rt, b.len / 32);
    return jv_like(sep, jbuf_str(rt, &b).u.s);
}

/* ---- methods ---- */

typedef struct jval method_fn(struct jrt *rt, struct jval s, const char *name,
                              const struct jval *p);

static struct jval m_case(struct jrt *rt, struct jval s, const char *name, const struct jval *p)
{
    (void)p;
    switch (name[0]) {
    case 'u': return ju_map(rt, s, JU_UPPER);
    case 'l': return ju_map(rt, s, JU_LOWER);
    case 's': return ju_map(rt, s, JU_SWAP);
    case 't': return ju_titlecase(rt, s);
    default:  return name[2] == 's' ? ju_map(rt, s, JU_FOLD) : ju_capitalize(rt, s);
    }
}

static struct jval m_strip(struct jrt *rt, struct jval s, const char *name, const struct jval *p)
{
    const struct jstr *chars = NULL;

    if (p[0].kind != J_ABSENT && p[0].kind != J_NONE)
        chars = jneed_str(rt, p[0], "the argument of strip()");
    return js_strip(rt, s, chars, name[0] == 'l' ? JS_LEFT : name[0] == 'r' ? JS_RIGHT
                                                         : JS_LEFT | JS_RIGHT);
}

static struct jval m_split(struct jrt *rt, struct jval s, const char *name, const struct jval *p)
{
    const struct jstr *sep = NULL;

    if (p[0].kind != J_ABSENT && p[0].kind != J_NONE)
        sep = jneed_str(rt, p[0], "the separator");
    return js_split(rt, s, sep, p[1].kind == J_ABSENT ? -1 : jneed_int(rt, p[1], "maxsplit"),
                    name[0] == 'r');
}

static struct jval m_splitlines(struct jrt *rt, struct jval s, const char *name,
                                const struct jval *p)
{
    (void)name;
    if (p[0].kind == J_UNDEF)
        jfail_undefined(rt, p[0]);
    return js_splitlines(rt, s, p[0].kind != J_ABSENT && jtruth(rt, p[0]));
}

/* start and stop in characters as a view; false: start lies behind the end. */
static bool window(struct jrt *rt, struct jstr *s, const struct jval *p, struct jstr **out,
                   uint32_t *first)
{
    const int64_t n = jstr_chars(s);
    int64_t from = 0, to = n;

    if (p[0].kind != J_ABSENT && p[0].kind != J_NONE)
        from = jneed_int(rt, p[0], "the start");
    if (p[1].kind != J_ABSENT && p[1].kind != J_NONE)
        to = jneed_int(rt, p[1], "the end");
    if (from < 0)
        from = from + n < 0 ? 0 : from + n;
    if (to < 0)
        to = to + n < 0 ? 0 : to + n;
    if (to > n)
        to = n;
    if (from > n || from > to)
        return false;
    *out = jstr_slice(rt, s, (uint32_t)from, (uint32_t)to);
    *first = (uint32_t)from;
    return true;
}

static bool fits(const struct jstr *s, const struct jstr *part, bool at_end)
{
    return part->len <= s->len &&
           memcmp(at_end ? s->p + s->len - part->len : s->p, part->p, part->len) == 0;
}

static struct jval m_affix(struct jrt *rt, struct jval s, const char *name, const struct jval *p)
{
    const bool at_end = name[0] == 'e';
    struct jstr *part;
    uint32_t first;
    const bool inside = window(rt, s.u.s, p + 1, &part, &first);

    if (p[0].kind == J_TUPLE) {
        for (uint32_t i = 0; i < p[0].u.list->n; i++) {
            const struct jstr *one = jneed_str(rt, p[0].u.list->v[i],
                                               "each item of the tuple given to it");

            if (inside && fits(part, one, at_end))
                return jv_bool(true);
        }
        return jv_bool(false);
    }
    if (p[0].kind != J_STR)
        jraise(rt, "%s first arg must be str or a tuple of str, not %s", name, jtype_name(p[0]));
    return jv_bool(inside && fits(part, p[0].u.s, at_end));
}

static struct jval m_find(struct jrt *rt, struct jval s, const char *name, const struct jval *p)
{
    const struct jstr *what = jneed_str(rt, p[0], "what is looked for");
    const bool right = name[0] == 'r', must = strstr(name, "index") != NULL;
    size_t hit = SIZE_MAX;
    struct jstr *part, before;
    uint32_t first;

    if (window(rt, s.u.s, p + 1, &part, &first))
        hit = right ? jstr_rfind(rt, part, what) : jstr_find(rt, part, what, 0);
    if (hit == SIZE_MAX) {
        if (must)
            jraise(rt, "substring not found");
        return jv_int(-1);
    }
    before = (struct jstr){ part->p, (uint32_t)hit, JSTR_UNCOUNTED };
    return jv_int((int64_t)first + jstr_chars(&before));
}

static struct jval m_count(struct jrt *rt, struct jval s, const char *name, const struct jval *p)
{
    const struct jstr *what = jneed_str(rt, p[0], "what is counted");
    struct jstr *part;
    uint32_t first;
    int64_t n = 0;

    (void)name;
    if (!window(rt, s.u.s, p + 1, &part, &first))
        return jv_int(0);
    if (what->len == 0)
        return jv_int((int64_t)jstr_chars(part) + 1);
    for (size_t at = 0; (at = jstr_find(rt, part, what, at)) != SIZE_MAX; at += what->len)
        n++;
    return jv_int(n);
}

static struct jval m_replace(struct jrt *rt, struct jval s, const char *name,
                             const struct jval *p)
{
    const struct jstr *old = jneed_str(rt, p[0], "the old text");
    struct jval with = p[1];

    (void)name;
    jneed_str(rt, with, "the new text");
    if (s.markup)
        with = jescape(rt, with);
    return js_replace(rt, s, old, with.u.s,
                      p[2].kind == J_ABSENT ? -1 : jneed_int(rt, p[2], "the count"));
}

static struct jval m_join(struct jrt *rt, struct jval s, const char *name, const struct jval *p)
{
    struct jlist l;

    (void)name;
    if (p[0].kind == J_UNDEF || jis_iterable(p[0]))
        jiterate(rt, p[0], &l);
    else
        jraise(rt, "can only join an iterable");
    return js_join(rt, s, l.v, l.n);
}

static struct jval m_pad(struct jrt *rt, struct jval s, const char *name, const struct jval *p)
{
    static struct jstr space = { " ", 1, 1 };
    struct jstr *fill = &space;
    const int64_t width = jneed_int(rt, p[0], "the width");

    if (p[1].kind != J_ABSENT) {
        fill = jneed_str(rt, p[1], "the fill character");
        if (jstr_chars(fill) != 1)
            jraise(rt, "the fill character must be exactly one character long");
        if (s.markup)
            fill = jescape(rt, p[1]).u.s;
    }
    return js_pad(rt, s, width, fill, name[0] == 'l' ? '<' : name[0] == 'r' ? '>' : '^');
}

static struct jval m_zfill(struct jrt *rt, struct jval s, const char *name, const struct jval *p)
{
    const int64_t room = jneed_int(rt, p[0], "the width") - (int64_t)jstr_chars(s.u.s);
    const bool sign = s.u.s->len && (s.u.s->p[0] == '-' || s.u.s->p[0] == '+');
    struct jbuf b = { 0 };

    (void)name;
    if (room <= 0)
        return s;
    if (room > UINT32_MAX / 4)
        jfail(rt, WATT_ELIMIT, "a padded string is too long");
    jbuf_put(rt, &b, s.u.s->p, sign);
    for (int64_t i = 0; i < room; i++)
        jbuf_putc(rt, &b, '0');
    jbuf_put(rt, &b, s.u.s->p + sign, s.u.s->len - sign);
    jcharge(rt, b.len / 16);
    return jv_like(s, jbuf_str(rt, &b).u.s);
}

static struct jval m_partition(struct jrt *rt, struct jval s, const char *name,
                               const struct jval *p)
{
    struct jstr *sep = jneed_str(rt, p[0], "the separator"), *t = s.u.s;
    const bool right = name[0] == 'r';
    struct jval *v = jalloc_array(rt, 3, sizeof *v);
    size_t hit;

    if (sep->len == 0)
        jraise(rt, "empty separator");
    hit = right ? jstr_rfind(rt, t, sep) : jstr_find(rt, t, sep, 0);
    for (int i = 0; i < 3; i++)
        v[i] = jv_like(s, jstr_view(rt, "", 0));
    if (hit == SIZE_MAX) {
        v[right ? 2 : 0] = s;
    } else {
        v[0] = jv_like(s, jstr_view(rt, t->p, hit));
        v[1] = jv_like(s, jstr_view(rt, t->p + hit, sep->len));
        v[2] = jv_like(s, jstr_view(rt, t->p + hit + sep->len, t->len - hit - sep->len));
    }
    return jv_tuple(rt, v, 3);
}

static struct jval m_remove(struct jrt *rt, struct jval s, const char *name, const struct jval *p)
{
    const bool at_end = strcmp(name, "removesuffix") == 0;
    const struct jstr *part = jneed_str(rt, p[0], "the affix");

    if (part->len == 0 || !fits(s.u.s, part, at_end))
        return s;
    return jv_like(s, jstr_view(rt, at_end ? s.u.s->p : s.u.s->p + part->len,
                                s.u.s->len - part->len));
}

static struct jval m_expandtabs(struct jrt *rt, struct jval s, const char *name,
                                const struct jval *p)
{
    const int64_t size = p[0].kind == J_ABSENT ? 8 : jneed_int(rt, p[0], "the tab size");
    struct jbuf b = { 0 };
    int64_t column = 0;
    uint32_t cp;

    (void)name;
    if (size > 100000)
        jfail(rt, WATT_ELIMIT, "a tab is at most 100000 wide");
    for (size_t at = 0, n; at < s.u.s->len; at += n) {
        n = utf8_decode(s.u.s->p + at, s.u.s->len - at, &cp, NULL);
        if (cp == '\t') {
            const int64_t pad = size > 0 ? size - column % size : 0;

            for (int64_t i = 0; i < pad; i++)
                jbuf_putc(rt, &b, ' ');
            jcharge(rt, (uint64_t)pad / 16);
            column += pad;
            continue;
        }
        jbuf_put(rt, &b, s.u.s->p + at, n);
        column = cp == '\n' || cp == '\r' ? 0 : column + 1;
    }
    jcharge(rt, b.len / 16);
    return jv_like(s, jbuf_str(rt, &b).u.s);
}

static bool is_class(const char *name, uint32_t cp)
{
    if (strcmp(name, "isalpha") == 0)
        return ju_alpha(cp);
    if (strcmp(name, "isdigit") == 0)
        return ju_digit(cp);
    if (strcmp(name, "isdecimal") == 0)
        return ju_decimal(cp);
    if (strcmp(name, "isnumeric") == 0)
        return ju_numeric(cp);
    if (strcmp(name, "isspace") == 0)
        return ju_space(cp);
    if (strcmp(name, "isprintable") == 0)
        return ju_printable(cp);
    if (strcmp(name, "isascii") == 0)
        return cp < 0x80;
    return ju_alpha(cp) || ju_decimal(cp) || ju_digit(cp) || ju_numeric(cp);   /* isalnum */
}

/* islower, isupper: some cased character and none of the other case. */
static bool is_cased(const struct jstr *s, bool upper)
{
    bool any = false;
    uint32_t cp;

    for (size_t at = 0; at < s->len;) {
        at += utf8_decode(s->p + at, s->len - at, &cp, NULL);
        if (ju_title(cp) || (upper ? ju_lower(cp) : ju_upper(cp)))
            return false;
        any |= upper ? ju_upper(cp) : ju_lower(cp);
    }
    return any;
}

static bool is_title(const struct jstr *s)
{
    bool any = false, inside = false;
    uint32_t cp;

    for (size_t at = 0; at < s->len;) {
        at += utf8_decode(s->p + at, s->len - at, &cp, NULL);
        if (ju_upper(cp) || ju_title(cp)) {
            if (inside)
                return false;
            inside = any = true;
        } else if (ju_lower(cp)) {
            if (!inside)
                return false;
            any = true;
        } else {
            inside = false;
        }
    }
    return any;
}

static struct jval m_is(struct jrt *rt, struct jval s, const char *name, const struct jval *p)
{
    const struct jstr *t = s.u.s;
    uint32_t cp;
    bool first = true;

    (void)p;
    jcharge(rt, t->len / 8);
    if (strcmp(name, "islower") == 0 || strcmp(name, "isupper") == 0)
        return jv_bool(is_cased(t, name[2] == 'u'));
    if (strcmp(name, "istitle") == 0)
        return jv_bool(is_title(t));
    if (t->len == 0)
        return jv_bool(strcmp(name, "isprintable") == 0 || strcmp(name, "isascii") == 0);
    for (size_t at = 0; at < t->len; first = false) {
        at += utf8_decode(t->p + at, t->len - at, &cp, NULL);
        if (strcmp(name, "isidentifier") == 0) {
            if (first ? !ju_identifier_start(cp) : !ju_identifier(cp))
                return jv_bool(false);
        } else if (!is_class(name, cp)) {
            return jv_bool(false);
        }
    }
    return jv_bool(true);
}

static struct jval m_format_map(struct jrt *rt, struct jval s, const char *name,
                                const struct jval *p)
{
    struct jargs a = { 0 };
    const struct jdict *d = p[0].u.dict;

    (void)name;
    if (p[0].kind != J_DICT)
        jraise(rt, "format_map() needs a dict");
    a.names = jalloc_array(rt, d->n, sizeof *a.names);
    a.kw = jalloc_array(rt, d->n, sizeof *a.kw);
    for (uint32_t i = 0; i < d->n; i++) {
        if (d->e[i].key.kind != J_STR)
            continue;
        a.names[a.n_kw] = d->e[i].key.u.s;
        a.kw[a.n_kw++] = d->e[i].val;
    }
    return jformat_braces(rt, s, &a);
}

static struct jval m_refused(struct jrt *rt, struct jval s, const char *name,
                             const struct jval *p)
{
    (void)s;
    (void)p;
    jfail(rt, WATT_ENOTSUP, "str.%s() is not supported", name);
}

static const struct { const char *name; method_fn *fn; const char *spec; } table[] = {
    { "capitalize", m_case, "" }, { "casefold", m_case, "" }, { "center", m_pad, "width fillchar=? /" },
    { "count", m_count, "sub start=? end=? /" }, { "encode", m_refused, "encoding=? errors=?" },
    { "endswith", m_affix, "suffix start=? end=? /" }, { "expandtabs", m_expandtabs, "tabsize=?" },
    { "find", m_find, "sub start=? end=? /" }, { "format_map", m_format_map, "mapping /" },
    { "index", m_find, "sub start=? end=? /" }, { "isalnum", m_is, "" }, { "isalpha", m_is, "" },
    { "isascii", m_is, "" }, { "isdecimal", m_is, "" }, { "isdigit", m_is, "" },
    { "isidentifier", m_is, "" }, { "islower", m_is, "" }, { "isnumeric", m_is, "" },
    { "isprintable", m_is, "" }, { "isspace", m_is, "" }, { "istitle", m_is, "" },
    { "isupper", m_is, "" }, { "join", m_join, "iterable /" }, { "ljust", m_pad, "width fillchar=? /" },
    { "lower", m_case, "" }, { "lstrip", m_strip, "chars=? /" }, { "maketrans", m_refused, "x=? y=? z=?" },
    { "partition", m_partition, "sep /" }, { "removeprefix", m_remove, "prefix /" },
    { "removesuffix", m_remove, "suffix /" }, { "replace", m_replace, "old new count=? /" },
    { "rfind", m_find, "sub start=? end=? /" }, { "rindex", m_find, "sub start=? end=? /" },
    { "rjust", m_pad, "width fillchar=? /" }, { "rpartition", m_partition, "sep /" },
    { "rsplit", m_split, "sep=? maxsplit=?" }, { "rstrip", m_strip, "chars=? /" },
    { "split", m_split, "sep=? maxsplit=?" }, { "splitlines", m_splitlines, "keepends=?" },
    { "startswith", m_affix, "prefix start=? end=? /" }, { "strip", m_strip, "chars=? /" },
    { "swapcase", m_case, "" }, { "title", m_case, "" }, { "translate", m_refused, "table /" },
    { "upper", m_case, "" }, { "zfill", m_zfill, "width /" },
};

struct jval jstring_method(struct jrt *rt, struct jval self, const char *name,
                           const struct jargs *a)
{
    struct jval p[JBIND_MAX];

    if (strcmp(name, "format") == 0)
        return jformat_braces(rt, self, a);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strcmp(table[i].name, name) == 0) {
            jbind(rt, name, table[i].spec, a, p);
            return table[i].fn(rt, self, name, p);
        }
    }
    jraise(rt, "str.%s() is not supported", name);
}
