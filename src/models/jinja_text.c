/* jinja_text.c: values as text: str(), repr(), HTML escapes, and JSON as
 * json.dumps writes it. */
#include "models/jinja_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "models/jinja_run.h"

static void put_int(struct jrt *rt, struct jbuf *b, int64_t i)
{
    char text[24];

    jbuf_put(rt, b, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)i));
}

/* ---- repr ---- */

static void repr_str(struct jrt *rt, struct jbuf *b, const struct jstr *s)
{
    const bool single = s->len && memchr(s->p, '\'', s->len);
    const char quote = single && !memchr(s->p, '"', s->len) ? '"' : '\'';
    char text[16];
    uint32_t cp;
    bool valid;

    jcharge(rt, s->len / 16);
    jbuf_putc(rt, b, quote);
    for (size_t at = 0, n; at < s->len; at += n) {
        valid = true;
        n = utf8_decode(s->p + at, s->len - at, &cp, &valid);
        if (cp == (unsigned char)quote || cp == '\\') {
            jbuf_putc(rt, b, '\\');
            jbuf_putc(rt, b, (char)cp);
        } else if (cp == '\n' || cp == '\r' || cp == '\t') {
            jbuf_puts(rt, b, cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : "\\t");
        } else if (!valid || ju_printable(cp)) {
            jbuf_put(rt, b, s->p + at, n);
        } else {
            snprintf(text, sizeof text, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x"
                     : "\\U%08x", cp);
            jbuf_puts(rt, b, text);
        }
    }
    jbuf_putc(rt, b, quote);
}

static void repr_items(struct jrt *rt, struct jbuf *b, const struct jval *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (i)
            jbuf_puts(rt, b, ", ");
        jput_repr(rt, b, v[i]);
    }
}

static void repr_dict(struct jrt *rt, struct jbuf *b, const struct jdict *d)
{
    jbuf_putc(rt, b, '{');
    for (uint32_t i = 0; i < d->n; i++) {
        if (i)
            jbuf_puts(rt, b, ", ");
        jput_repr(rt, b, d->e[i].key);
        jbuf_puts(rt, b, ": ");
        jput_repr(rt, b, d->e[i].val);
    }
    jbuf_putc(rt, b, '}');
}

static void repr_range(struct jrt *rt, struct jbuf *b, const struct jrange *r)
{
    jbuf_puts(rt, b, "range(");
    put_int(rt, b, r->start);
    jbuf_puts(rt, b, ", ");
    put_int(rt, b, r->stop);
    if (r->step != 1) {
        jbuf_puts(rt, b, ", ");
        put_int(rt, b, r->step);
    }
    jbuf_putc(rt, b, ')');
}

static void repr_object(struct jrt *rt, struct jbuf *b, struct jval v)
{
    struct jlist items;

    switch ((enum jkind)v.kind) {
    case J_VIEW:
        jbuf_puts(rt, b, jtype_name(v));
        jbuf_puts(rt, b, "([");
        jiterate(rt, v, &items);
        repr_items(rt, b, items.v, items.n);
        jbuf_puts(rt, b, "])");
        return;
    case J_RANGE:
        repr_range(rt, b, v.u.range);
        return;
    case J_NS:
        jbuf_puts(rt, b, "<Namespace ");
        repr_dict(rt, b, v.u.dict);
        jbuf_putc(rt, b, '>');
        return;
    case J_MACRO:
        jbuf_puts(rt, b, "<Macro ");
        if (v.u.macro->def->name)
            repr_str(rt, b, v.u.macro->def->name);
        else
            jbuf_puts(rt, b, "anonymous");
        jbuf_putc(rt, b, '>');
        return;
    case J_LOOP:
        jbuf_puts(rt, b, "<LoopContext ");
        put_int(rt, b, v.u.loop->index0 + 1);
        jbuf_putc(rt, b, '/');
        put_int(rt, b, jlength(rt, v));
        jbuf_putc(rt, b, '>');
        return;
    case J_METHOD:
        jbuf_puts(rt, b, "<built-in method ");
        jbuf_puts(rt, b, jmethod_name(v.u.method->id));
        jbuf_puts(rt, b, " of ");
        jbuf_puts(rt, b, jtype_name(v.u.method->self));
        jbuf_puts(rt, b, " object>");
        return;
    default:                             /* Python would add an address */
        jbuf_putc(rt, b, '<');
        jbuf_puts(rt, b, jtype_name(v));
        jbuf_puts(rt, b, " object>");
    }
}

void jput_repr(struct jrt *rt, struct jbuf *b, struct jval v)
{
    jcharge(rt, 1);
    jenter(rt);
    switch ((enum jkind)v.kind) {
    case J_ABSENT: case J_UNDEF:
        jbuf_puts(rt, b, "Undefined");
        break;
    case J_NONE:
        jbuf_puts(rt, b, "None");
        break;
    case J_BOOL:
        jbuf_puts(rt, b, v.u.b ? "True" : "False");
        break;
    case J_INT:
        put_int(rt, b, v.u.i);
        break;
    case J_FLOAT:
        jput_float(rt, b, v.u.f);
        break;
    case J_STR:
        if (v.markup)
            jbuf_puts(rt, b, "Markup(");
        repr_str(rt, b, v.u.s);
        if (v.markup)
            jbuf_putc(rt, b, ')');
        break;
    case J_LIST:
        jbuf_putc(rt, b, '[');
        repr_items(rt, b, v.u.list->v, v.u.list->n);
        jbuf_putc(rt, b, ']');
        break;
    case J_TUPLE:
        jbuf_putc(rt, b, '(');
        repr_items(rt, b, v.u.list->v, v.u.list->n);
        jbuf_puts(rt, b, v.u.list->n == 1 ? ",)" : ")");
        break;
    case J_DICT:
        repr_dict(rt, b, v.u.dict);
        break;
    default:
        repr_object(rt, b, v);
    }
    jleave(rt);
}

void jput_str(struct jrt *rt, struct jbuf *b, struct jval v)
{
    if (v.kind == J_STR)
        jbuf_put(rt, b, v.u.s->p, v.u.s->len);
    else if (v.kind != J_UNDEF && v.kind != J_ABSENT)
        jput_repr(rt, b, v);
}

struct jval jstr_of(struct jrt *rt, struct jval v)
{
    struct jbuf b = { 0 };

    if (v.kind == J_STR) {
        v.markup = false;
        return v;
    }
    jput_str(rt, &b, v);
    return jbuf_str(rt, &b);
}

struct jval jescape(struct jrt *rt, struct jval v)
{
    struct jbuf b = { 0 };
    struct jval s = jstr_of(rt, v);

    if (v.kind == J_STR && v.markup)
        return v;
    for (uint32_t i = 0; i < s.u.s->len; i++) {
        switch (s.u.s->p[i]) {
        case '&': jbuf_puts(rt, &b, "&amp;"); break;
        case '<': jbuf_puts(rt, &b, "&lt;"); break;
        case '>': jbuf_puts(rt, &b, "&gt;"); break;
        case '"': jbuf_puts(rt, &b, "&#34;"); break;
        case '\'': jbuf_puts(rt, &b, "&#39;"); break;
        default: jbuf_putc(rt, &b, s.u.s->p[i]);
        }
    }
    jcharge(rt, s.u.s->len / 16);
    s = jbuf_str(rt, &b);
    s.markup = true;
    return s;
}

/* ---- JSON ---- */

struct json_out {
    struct jrt *rt;
    struct jbuf b;
    const struct jjson_style *style;
    uint32_t level;
};

static void put_json_unicode(struct json_out *w, uint32_t cp)
{
    char text[16];

    if (cp >= 0x10000)
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD800 + ((cp - 0x10000) >> 10),
                 0xDC00 + ((cp - 0x10000) & 0x3FF));
    else
        snprintf(text, sizeof text, "\\u%04x", cp);
    jbuf_puts(w->rt, &w->b, text);
}

static void put_json_string(struct json_out *w, const struct jstr *s)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    size_t plain = 0;
    uint32_t cp;

    jcharge(w->rt, s->len / 16);
    jbuf_putc(w->rt, &w->b, '"');
    for (size_t at = 0, n; at < s->len; at += n) {
        const unsigned char c = (unsigned char)s->p[at];
        const char *simple;

        n = 1;
        if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && !(w->style->ascii && c == 0x7F))
            continue;
        if (c >= 0x80 && !w->style->ascii)
            continue;
        jbuf_put(w->rt, &w->b, s->p + plain, at - plain);
        n = utf8_decode(s->p + at, s->len - at, &cp, NULL);
        plain = at + n;
        simple = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
        if (simple && *simple) {
            jbuf_putc(w->rt, &w->b, '\\');
            jbuf_putc(w->rt, &w->b, to[simple - from]);
        } else if (cp == 0x7F) {
            jbuf_putc(w->rt, &w->b, (char)cp);
        } else {
            put_json_unicode(w, cp);
        }
    }
    jbuf_put(w->rt, &w->b, s->p + plain, s->len - plain);
    jbuf_putc(w->rt, &w->b, '"');
}

static void put_json_float(struct json_out *w, double f)
{
    if (isnan(f))
        jbuf_puts(w->rt, &w->b, "NaN");
    else if (isinf(f))
        jbuf_puts(w->rt, &w->b, f < 0 ? "-Infinity" : "Infinity");
    else
        jput_float(w->rt, &w->b, f);
}

static void put_json_line(struct json_out *w)
{
    if (!w->style->indent)
        return;
    jbuf_putc(w->rt, &w->b, '\n');
    for (uint32_t i = 0; i < w->level; i++)
        jbuf_put(w->rt, &w->b, w->style->indent->p, w->style->indent->len);
    jcharge(w->rt, w->level / 4);
}

static void put_json_value(struct json_out *w, struct jval v);

static void put_json_array(struct json_out *w, const struct jlist *l)
{
    jbuf_putc(w->rt, &w->b, '[');
    w->level++;
    for (uint32_t i = 0; i < l->n; i++) {
        if (i)
            jbuf_put(w->rt, &w->b, w->style->item_sep->p, w->style->item_sep->len);
        put_json_line(w);
        put_json_value(w, l->v[i]);
    }
    w->level--;
    if (l->n)
        put_json_line(w);
    jbuf_putc(w->rt, &w->b, ']');
}

static void put_json_key(struct json_out *w, struct jval key)
{
    switch ((enum jkind)key.kind) {
    case J_STR:
        put_json_string(w, key.u.s);
        return;
    case J_NONE: case J_BOOL: case J_INT: case J_FLOAT:
        jbuf_putc(w->rt, &w->b, '"');
        put_json_value(w, key);
        jbuf_putc(w->rt, &w->b, '"');
        return;
    default:
        jraise(w->rt, "keys must be str, int, float, bool or None, not %s", jtype_name(key));
    }
}

/* The entries in order of their keys; keys of different kinds cannot be ordered. */
static void sort_entries(struct jrt *rt, struct jentry *e, uint32_t n, struct jentry *spare)
{
    const uint32_t half = n / 2;
    uint32_t a = 0, b = half, k = 0;

    if (n < 2)
        return;
    sort_entries(rt, e, half, spare);
    sort_entries(rt, e + half, n - half, spare);
    while (a < half && b < n)
        spare[k++] = jordered(rt, e[b].key, e[a].key, J_LT) ? e[b++] : e[a++];
    while (a < half)
        spare[k++] = e[a++];
    memcpy(e, spare, k * sizeof *e);
}

static void put_json_object(struct json_out *w, const struct jdict *d)
{
    const struct jentry *e = d->e;

    if (w->style->sort_keys && d->n > 1) {
        struct jentry *sorted = jalloc_array(w->rt, d->n, sizeof *sorted);

        memcpy(sorted, d->e, d->n * sizeof *sorted);
        sort_entries(w->rt, sorted, d->n, jalloc_array(w->rt, d->n, sizeof *sorted));
        e = sorted;
    }
    jbuf_putc(w->rt, &w->b, '{');
    w->level++;
    for (uint32_t i = 0; i < d->n; i++) {
        if (i)
            jbuf_put(w->rt, &w->b, w->style->item_sep->p, w->style->item_sep->len);
        put_json_line(w);
        put_json_key(w, e[i].key);
        jbuf_put(w->rt, &w->b, w->style->key_sep->p, w->style->key_sep->len);
        put_json_value(w, e[i].val);
    }
    w->level--;
    if (d->n)
        put_json_line(w);
    jbuf_putc(w->rt, &w->b, '}');
}

static void put_json_value(struct json_out *w, struct jval v)
{
    jcharge(w->rt, 1);
    jenter(w->rt);
    switch ((enum jkind)v.kind) {
    case J_NONE:
        jbuf_puts(w->rt, &w->b, "null");
        break;
    case J_BOOL:
        jbuf_puts(w->rt, &w->b, v.u.b ? "true" : "false");
        break;
    case J_INT:
        put_int(w->rt, &w->b, v.u.i);
        break;
    case J_FLOAT:
        put_json_float(w, v.u.f);
        break;
    case J_STR:
        put_json_string(w, v.u.s);
        break;
    case J_LIST: case J_TUPLE:
        put_json_array(w, v.u.list);
        break;
    case J_DICT:
        put_json_object(w, v.u.dict);
        break;
    default:
        jraise(w->rt, "Object of type %s is not JSON serializable", jtype_name(v));
    }
    jleave(w->rt);
}

struct jval jtojson(struct jrt *rt, struct jval v, const struct jjson_style *style)
{
    struct json_out w = { .rt = rt, .style = style };

    put_json_value(&w, v);
    return jbuf_str(rt, &w.b);
}
