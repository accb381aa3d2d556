/* jinja_value.c: making, measuring, comparing and hashing values; see
 * jinja_value.h. Text forms are in jinja_text.c. */
#include "models/jinja_value.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

#define DICT_SMALL 8u            /* up to here a linear search is faster */

/* ---- strings ---------------------------------------------------------------- */

struct jstr *jstr_view(struct jrt *rt, const char *p, size_t len)
{
    struct jstr *s = jalloc(rt, sizeof *s);

    if (len > UINT32_MAX / 2)
        jfail(rt, WATT_ELIMIT, "a string is too long");
    *s = (struct jstr){ p, (uint32_t)len, JSTR_UNCOUNTED };
    return s;
}

struct jstr *jstr_new(struct jrt *rt, const char *p, size_t len)
{
    char *copy = jalloc(rt, len);

    if (len)
        memcpy(copy, p, len);
    jcharge(rt, len / 64);
    return jstr_view(rt, copy, len);
}

struct jval jv_strn(struct jrt *rt, const char *p, size_t len)
{
    return jv_str(jstr_new(rt, p, len));
}

struct jval jv_strz(struct jrt *rt, const char *z)
{
    return jv_str(jstr_view(rt, z, strlen(z)));
}

struct jval jv_like(struct jval like, struct jstr *s)
{
    struct jval v = jv_str(s);

    v.markup = like.kind == J_STR && like.markup;
    return v;
}

uint32_t jstr_chars(struct jstr *s)
{
    if (s->n_chars == JSTR_UNCOUNTED) {
        uint32_t n = 0;
        size_t i = 0;

        while (i < s->len) {
            uint32_t cp;

            if ((unsigned char)s->p[i] < 0x80)
                i++;
            else
                i += utf8_decode(s->p + i, s->len - i, &cp, NULL);
            n++;
        }
        s->n_chars = n;
    }
    return s->n_chars;
}

bool jstr_ascii(struct jstr *s)
{
    return jstr_chars(s) == s->len;
}

size_t jstr_offset(struct jstr *s, uint32_t i)
{
    size_t at = 0;
    uint32_t cp;

    if (jstr_ascii(s) || i == 0)
        return i;
    if (i >= s->n_chars)
        return s->len;
    while (i-- > 0)
        at += utf8_decode(s->p + at, s->len - at, &cp, NULL);
    return at;
}

struct jstr *jstr_slice(struct jrt *rt, struct jstr *s, uint32_t from, uint32_t to)
{
    const size_t a = jstr_offset(s, from), b = from < to ? jstr_offset(s, to) : a;

    if (!jstr_ascii(s))
        jcharge(rt, b / 64);
    return jstr_view(rt, s->p + a, b - a);
}

bool jstr_eq(const struct jstr *a, const struct jstr *b)
{
    return a == b || (a->len == b->len && memcmp(a->p, b->p, a->len) == 0);
}

bool jstr_is(const struct jstr *s, const char *z)
{
    return strlen(z) == s->len && memcmp(s->p, z, s->len) == 0;
}

int jstr_cmp(const struct jstr *a, const struct jstr *b)
{
    const uint32_t n = a->len < b->len ? a->len : b->len;
    const int c = n ? memcmp(a->p, b->p, n) : 0;   /* UTF-8 sorts like code points */

    return c ? (c > 0) - (c < 0) : (a->len > b->len) - (a->len < b->len);
}

size_t jstr_find(struct jrt *rt, const struct jstr *s, const struct jstr *what, size_t from)
{
    const char *hit;

    if (from > s->len || what->len > s->len - from)
        return SIZE_MAX;
    jcharge(rt, (s->len - from) / 64);
    hit = memmem(s->p + from, s->len - from, what->p, what->len);
    return hit ? (size_t)(hit - s->p) : SIZE_MAX;
}

size_t jstr_rfind(struct jrt *rt, const struct jstr *s, const struct jstr *what)
{
    if (what->len > s->len)
        return SIZE_MAX;
    jcharge(rt, s->len / 16);
    for (size_t i = s->len - what->len + 1; i-- > 0;) {
        if (what->len && s->p[i] != what->p[0])
            continue;
        jcharge(rt, what->len / 64);
        if (memcmp(s->p + i, what->p, what->len) == 0)
            return i;
    }
    return SIZE_MAX;
}

/* ---- other constructors -------------------------------------------------------- */

static struct jlist *list_new(struct jrt *rt, struct jval *v, size_t n)
{
    struct jlist *l = jalloc(rt, sizeof *l);

    if (n > UINT32_MAX / 2)
        jfail(rt, WATT_ELIMIT, "a list is too long");
    *l = (struct jlist){ v, (uint32_t)n };
    return l;
}

struct jval jv_list(struct jrt *rt, struct jval *v, size_t n)
{
    return (struct jval){ .kind = J_LIST, .u.list = list_new(rt, v, n) };
}

struct jval jv_tuple(struct jrt *rt, struct jval *v, size_t n)
{
    return (struct jval){ .kind = J_TUPLE, .u.list = list_new(rt, v, n) };
}

struct jval jv_iter(struct jrt *rt, struct jval *v, size_t n, const char *type)
{
    struct jiter *it = jalloc(rt, sizeof *it);

    *it = (struct jiter){ .v = v, .n = (uint32_t)n, .type = type };
    return (struct jval){ .kind = J_ITER, .u.iter = it };
}

struct jval jv_undef(struct jrt *rt, enum jundef_why why, struct jstr *name, const char *type)
{
    struct jundef *u = jalloc(rt, sizeof *u);

    *u = (struct jundef){ why, name, type };
    return (struct jval){ .kind = J_UNDEF, .u.undef = u };
}

struct jval jv_range(struct jrt *rt, int64_t start, int64_t stop, int64_t step)
{
    struct jrange *r = jalloc(rt, sizeof *r);
    uint64_t n = 0, span, stride;

    if (step > 0 && start < stop) {
        span = (uint64_t)stop - (uint64_t)start;
        n = (span - 1) / (uint64_t)step + 1;
    } else if (step < 0 && start > stop) {
        span = (uint64_t)start - (uint64_t)stop;
        stride = (uint64_t)0 - (uint64_t)step;
        n = (span - 1) / stride + 1;
    }
    if (n > 100000)   /* the sandbox's MAX_RANGE */
        jraise(rt, "range too big: the sandbox allows 100000 items");
    *r = (struct jrange){ start, stop, step, (uint32_t)n };
    return (struct jval){ .kind = J_RANGE, .u.range = r };
}

struct jval jrange_at(const struct jrange *r, uint32_t i)
{
    return jv_int((int64_t)((uint64_t)r->start + (uint64_t)r->step * i));
}

/* ---- numbers ---------------------------------------------------------------------- */

bool jis_integer(struct jval v) { return v.kind == J_INT || v.kind == J_BOOL; }
bool jis_number(struct jval v) { return jis_integer(v) || v.kind == J_FLOAT; }
int64_t jint_of(struct jval v) { return v.kind == J_BOOL ? v.u.b : v.u.i; }

double jdouble_of(struct jval v)
{
    return v.kind == J_FLOAT ? v.u.f : (double)jint_of(v);
}

static int compare_int_double(int64_t i, double f)
{
    double whole;

    if (isnan(f))
        return 2;
    if (f >= 0x1p63)
        return -1;
    if (f < -0x1p63)
        return 1;
    whole = trunc(f);
    if (i != (int64_t)whole)
        return i < (int64_t)whole ? -1 : 1;
    return f > whole ? -1 : f < whole;
}

int jcompare_numbers(struct jval a, struct jval b)
{
    int c;

    if (a.kind == J_FLOAT && b.kind == J_FLOAT) {
        if (isnan(a.u.f) || isnan(b.u.f))
            return 2;
        return a.u.f < b.u.f ? -1 : a.u.f > b.u.f;
    }
    if (a.kind == J_FLOAT) {
        c = compare_int_double(jint_of(b), a.u.f);
        return c == 2 ? 2 : -c;
    }
    if (b.kind == J_FLOAT)
        return compare_int_double(jint_of(a), b.u.f);
    return jint_of(a) < jint_of(b) ? -1 : jint_of(a) > jint_of(b);
}

/* ---- dictionaries -------------------------------------------------------------------- */

static uint64_t hash_bytes(const char *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u ^ n;

    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * 0x100000001b3u;
    return h ^ (h >> 29);
}

static uint64_t hash_of(struct jrt *rt, struct jval v)
{
    uint64_t h;

    switch ((enum jkind)v.kind) {
    case J_STR:
        jcharge(rt, v.u.s->len / 64);
        return hash_bytes(v.u.s->p, v.u.s->len);
    case J_BOOL:
    case J_INT:
        return (uint64_t)jint_of(v) * 0x9e3779b97f4a7c15u;
    case J_FLOAT:   /* equal to the integer of the same value */
        if (v.u.f >= -0x1p63 && v.u.f < 0x1p63 && v.u.f == trunc(v.u.f))
            return (uint64_t)(int64_t)v.u.f * 0x9e3779b97f4a7c15u;
        memcpy(&h, &v.u.f, sizeof h);
        return h * 0x9e3779b97f4a7c15u;
    case J_TUPLE:
        h = 0x345678;
        jenter(rt);
        for (uint32_t i = 0; i < v.u.list->n; i++)
            h = (h ^ hash_of(rt, v.u.list->v[i])) * 0x100000001b3u + i;
        jleave(rt);
        return h;
    case J_LIST:
    case J_DICT:
    case J_VIEW:
        jraise(rt, "unhashable type: '%s'", jtype_name(v));
    case J_UNDEF:
    case J_NONE:
        return v.kind;
    case J_RANGE:
        return v.u.range->n;
    default:
        return (uint64_t)(uintptr_t)v.u.iter;
    }
}

bool jhashable(struct jval v)
{
    if (v.kind == J_TUPLE) {
        for (uint32_t i = 0; i < v.u.list->n; i++)
            if (!jhashable(v.u.list->v[i]))
                return false;
        return true;
    }
    return v.kind != J_LIST && v.kind != J_DICT && v.kind != J_VIEW;
}

struct jdict *jdict_new(struct jrt *rt, uint32_t n_expected)
{
    struct jdict *d = jalloc(rt, sizeof *d);

    *d = (struct jdict){ .cap = n_expected ? n_expected : 4 };
    d->e = jalloc_array(rt, d->cap, sizeof *d->e);
    return d;
}

static bool key_equal(struct jrt *rt, struct jval a, struct jval b)
{
    if (a.kind == J_STR && b.kind == J_STR)
        return jstr_eq(a.u.s, b.u.s);
    return jequal(rt, a, b);
}

static struct jentry *find(struct jrt *rt, const struct jdict *d, struct jval key, uint64_t hash)
{
    if (!d->index) {
        for (uint32_t i = 0; i < d->n; i++)
            if (d->e[i].hash == hash && key_equal(rt, d->e[i].key, key))
                return &d->e[i];
        return NULL;
    }
    for (uint32_t at = (uint32_t)hash & d->mask;; at = (at + 1) & d->mask) {
        struct jentry *e;

        if (!d->index[at])
            return NULL;
        e = &d->e[d->index[at] - 1];
        jcharge(rt, 1);
        if (e->hash == hash && key_equal(rt, e->key, key))
            return e;
    }
}

static void build_index(struct jrt *rt, struct jdict *d, uint32_t slots)
{
    d->index = jalloc_array(rt, slots, sizeof *d->index);
    memset(d->index, 0, (size_t)slots * sizeof *d->index);
    d->mask = slots - 1;
    for (uint32_t i = 0; i < d->n; i++) {
        uint32_t at = (uint32_t)d->e[i].hash & d->mask;

        while (d->index[at])
            at = (at + 1) & d->mask;
        d->index[at] = i + 1;
    }
}

void jdict_set(struct jrt *rt, struct jdict *d, struct jval key, struct jval val)
{
    const uint64_t hash = hash_of(rt, key);
    struct jentry *e = find(rt, d, key, hash);

    if (e) {
        e->val = val;
        return;
    }
    if (d->n == d->cap) {
        const uint32_t cap = d->cap * 2;
        struct jentry *grown;

        if (d->cap > UINT32_MAX / 8)
            jfail(rt, WATT_ELIMIT, "a dict is too large");
        grown = jalloc_array(rt, cap, sizeof *grown);
        memcpy(grown, d->e, d->n * sizeof *grown);
        d->e = grown;
        d->cap = cap;
    }
    d->e[d->n++] = (struct jentry){ key, val, hash };
    if (d->index && d->n * 2 <= d->mask) {
        uint32_t at = (uint32_t)hash & d->mask;

        while (d->index[at])
            at = (at + 1) & d->mask;
        d->index[at] = d->n;
    } else if (d->n > DICT_SMALL) {
        uint32_t slots = 32;

        while (slots < d->n * 4)
            slots *= 2;
        build_index(rt, d, slots);
    }
}

struct jval *jdict_get(struct jrt *rt, const struct jdict *d, struct jval key)
{
    struct jentry *e;

    if (key.kind == J_STR)
        return jdict_get_str(rt, d, key.u.s);
    e = find(rt, d, key, hash_of(rt, key));
    return e ? &e->val : NULL;
}

struct jval *jdict_get_str(struct jrt *rt, const struct jdict *d, const struct jstr *key)
{
    struct jentry *e;

    if (!d->index) {     /* no hash needed */
        for (uint32_t i = 0; i < d->n; i++)
            if (d->e[i].key.kind == J_STR && jstr_eq(d->e[i].key.u.s, key))
                return &d->e[i].val;
        return NULL;
    }
    e = find(rt, d, jv_str((struct jstr *)(uintptr_t)key), hash_bytes(key->p, key->len));
    return e ? &e->val : NULL;
}

struct jval *jdict_get_z(struct jrt *rt, const struct jdict *d, const char *key)
{
    const struct jstr s = { key, (uint32_t)strlen(key), JSTR_UNCOUNTED };

    return jdict_get_str(rt, d, &s);
}

/* ---- what Python does with any value --------------------------------------------------- */

const char *jtype_name(struct jval v)
{
    static const char *const views[] = { "dict_keys", "dict_values", "dict_items" };
    static const char *const names[] = {
        [J_ABSENT] = "Undefined", [J_UNDEF] = "Undefined", [J_NONE] = "NoneType",
        [J_BOOL] = "bool", [J_INT] = "int", [J_FLOAT] = "float", [J_STR] = "str",
        [J_LIST] = "list", [J_TUPLE] = "tuple", [J_DICT] = "dict", [J_VIEW] = "dict_keys",
        [J_RANGE] = "range", [J_ITER] = "generator", [J_NS] = "Namespace",
        [J_MACRO] = "Macro", [J_FUNC] = "function", [J_METHOD] = "builtin_function_or_method",
        [J_LOOP] = "LoopContext", [J_CYCLER] = "Cycler", [J_JOINER] = "Joiner",
    };

    if (v.kind == J_STR && v.markup)
        return "Markup";
    if (v.kind == J_VIEW)
        return views[v.id];
    if (v.kind == J_ITER)
        return v.u.iter->type;
    return names[v.kind];
}

bool jtruth(struct jrt *rt, struct jval v)
{
    switch ((enum jkind)v.kind) {
    case J_ABSENT:
    case J_UNDEF:
    case J_NONE:
        return false;
    case J_BOOL:
        return v.u.b;
    case J_INT:
        return v.u.i != 0;
    case J_FLOAT:
        return v.u.f != 0.0;
    default:
        return !jhas_length(v) || jlength(rt, v) != 0;
    }
}

bool jhas_length(struct jval v)
{
    return v.kind == J_STR || v.kind == J_LIST || v.kind == J_TUPLE || v.kind == J_DICT ||
           v.kind == J_VIEW || v.kind == J_RANGE || v.kind == J_UNDEF || v.kind == J_LOOP;
}

static bool equal_sequences(struct jrt *rt, const struct jlist *a, const struct jlist *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (!jequal(rt, a->v[i], b->v[i]))
            return false;
    return true;
}

static bool equal_dicts(struct jrt *rt, const struct jdict *a, const struct jdict *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++) {
        const struct jval *other = jdict_get(rt, b, a->e[i].key);

        if (!other || !jequal(rt, a->e[i].val, *other))
            return false;
    }
    return true;
}

static bool equal_views(struct jrt *rt, struct jval a, struct jval b)
{
    if (a.id != b.id || a.id == JVIEW_VALUES || a.u.dict->n != b.u.dict->n)
        return a.id == b.id && a.u.dict == b.u.dict && a.id != JVIEW_VALUES;
    if (a.id == JVIEW_ITEMS)
        return equal_dicts(rt, a.u.dict, b.u.dict);
    for (uint32_t i = 0; i < a.u.dict->n; i++)
        if (!jdict_get(rt, b.u.dict, a.u.dict->e[i].key))
            return false;
    return true;
}

static bool equal_ranges(const struct jrange *a, const struct jrange *b)
{
    return a->n == b->n && (a->n == 0 || (a->start == b->start &&
                                          (a->n == 1 || a->step == b->step)));
}

bool jequal(struct jrt *rt, struct jval a, struct jval b)
{
    bool eq;

    jcharge(rt, 1);
    if (jis_number(a) && jis_number(b))
        return jcompare_numbers(a, b) == 0;
    if (a.kind != b.kind)
        return false;
    switch ((enum jkind)a.kind) {
    case J_ABSENT:
    case J_UNDEF:
    case J_NONE:
        return true;
    case J_STR:
        jcharge(rt, a.u.s->len / 64);
        return jstr_eq(a.u.s, b.u.s);
    case J_LIST:
    case J_TUPLE:
        jenter(rt);
        eq = equal_sequences(rt, a.u.list, b.u.list);
        jleave(rt);
        return eq;
    case J_DICT:
        jenter(rt);
        eq = equal_dicts(rt, a.u.dict, b.u.dict);
        jleave(rt);
        return eq;
    case J_VIEW:
        jenter(rt);
        eq = equal_views(rt, a, b);
        jleave(rt);
        return eq;
    case J_RANGE:
        return equal_ranges(a.u.range, b.u.range);
    case J_FUNC:
        return a.id == b.id;
    default:
        return a.u.iter == b.u.iter;
    }
}

static bool holds(int c, enum jorder op)
{
    if (c == 2)
        return false;
    switch (op) {
    case J_LT: return c < 0;
    case J_LE: return c <= 0;
    case J_GT: return c > 0;
    default:   return c >= 0;
    }
}

bool jordered(struct jrt *rt, struct jval a, struct jval b, enum jorder op)
{
    static const char *const signs[] = { "<", "<=", ">", ">=" };

    jcharge(rt, 1);
    if (jis_number(a) && jis_number(b))
        return holds(jcompare_numbers(a, b), op);
    if (a.kind == J_STR && b.kind == J_STR) {
        jcharge(rt, a.u.s->len / 64);
        return holds(jstr_cmp(a.u.s, b.u.s), op);
    }
    if (a.kind == b.kind && (a.kind == J_LIST || a.kind == J_TUPLE)) {
        const struct jlist *x = a.u.list, *y = b.u.list;
        uint32_t i = 0;
        bool r;

        jenter(rt);
        while (i < x->n && i < y->n && jequal(rt, x->v[i], y->v[i]))
            i++;
        r = i < x->n && i < y->n ? jordered(rt, x->v[i], y->v[i], op)
                                 : holds(x->n < y->n ? -1 : x->n > y->n, op);
        jleave(rt);
        return r;
    }
    if (a.kind == J_UNDEF)
        jfail_undefined(rt, a);
    if (b.kind == J_UNDEF)
        jfail_undefined(rt, b);
    jraise(rt, "'%s' not supported between instances of '%s' and '%s'", signs[op],
           jtype_name(a), jtype_name(b));
}

bool jcontains(struct jrt *rt, struct jval box, struct jval item)
{
    struct jlist l;

    switch ((enum jkind)box.kind) {
    case J_STR:
        if (item.kind != J_STR)
            jraise(rt, "'in <string>' requires string as left operand, not %s",
                   jtype_name(item));
        return jstr_find(rt, box.u.s, item.u.s, 0) != SIZE_MAX;
    case J_DICT:
        return jdict_get(rt, box.u.dict, item) != NULL;
    case J_VIEW:
        if (box.id == JVIEW_KEYS)
            return jdict_get(rt, box.u.dict, item) != NULL;
        break;
    case J_ITER: {
        struct jiter *it = box.u.iter;

        jiter_fill(rt, it);
        while (it->pos < it->n)
            if (jequal(rt, it->v[it->pos++], item))
                return true;
        return false;
    }
    default:
        if (!jis_iterable(box))
            jraise(rt, "argument of type '%s' is not iterable", jtype_name(box));
    }
    jiterate(rt, box, &l);
    for (uint32_t i = 0; i < l.n; i++)
        if (jequal(rt, l.v[i], item))
            return true;
    return false;
}

bool jis_iterable(struct jval v)
{
    return jhas_length(v) || v.kind == J_ITER;
}

static struct jval *view_items(struct jrt *rt, const struct jdict *d, unsigned which)
{
    struct jval *v = jalloc_array(rt, d->n, sizeof *v);

    for (uint32_t i = 0; i < d->n; i++) {
        const struct jentry *e = &d->e[i];

        if (which == JVIEW_ITEMS) {
            struct jval *pair = jalloc_array(rt, 2, sizeof *pair);

            pair[0] = e->key;
            pair[1] = e->val;
            v[i] = jv_tuple(rt, pair, 2);
        } else {
            v[i] = which == JVIEW_KEYS ? e->key : e->val;
        }
    }
    return v;
}

static struct jval *string_items(struct jrt *rt, struct jval s)
{
    const uint32_t n = jstr_chars(s.u.s);
    struct jval *v = jalloc_array(rt, n, sizeof *v);
    size_t at = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t cp;
        const size_t len = utf8_decode(s.u.s->p + at, s.u.s->len - at, &cp, NULL);

        /* Iterating Markup gives plain str. */
        v[i] = jv_str(jstr_view(rt, s.u.s->p + at, len));
        at += len;
    }
    return v;
}

void jiterate(struct jrt *rt, struct jval v, struct jlist *out)
{
    *out = (struct jlist){ NULL, 0 };
    if (jhas_length(v) && v.kind != J_LOOP)
        jcharge(rt, v.kind == J_STR ? v.u.s->len : jlength(rt, v) / 8);
    switch ((enum jkind)v.kind) {
    case J_LIST:
    case J_TUPLE:
        *out = *v.u.list;
        return;
    case J_STR:
        out->v = string_items(rt, v);
        out->n = jstr_chars(v.u.s);
        return;
    case J_DICT:
    case J_VIEW:
        out->v = view_items(rt, v.u.dict, v.kind == J_DICT ? JVIEW_KEYS : v.id);
        out->n = v.u.dict->n;
        return;
    case J_RANGE:
        out->n = v.u.range->n;
        out->v = jalloc_array(rt, out->n, sizeof *out->v);
        for (uint32_t i = 0; i < out->n; i++)
            out->v[i] = jrange_at(v.u.range, i);
        return;
    case J_ITER:
        jiter_fill(rt, v.u.iter);
        out->n = v.u.iter->n - v.u.iter->pos;
        out->v = out->n ? v.u.iter->v + v.u.iter->pos : NULL;
        v.u.iter->pos = v.u.iter->n;
        return;
    case J_UNDEF:
        return;
    default:
        jraise(rt, "'%s' object is not iterable", jtype_name(v));
    }
}

void jfail_undefined(struct jrt *rt, struct jval v)
{
    const struct jundef *u = v.u.undef;

    if (!u)
        jraise(rt, "an undefined value was used");
    switch (u->why) {
    case JUNDEF_NAME:
        jraise(rt, "'%.*s' is undefined", (int)u->name->len, u->name->p);
    case JUNDEF_ATTR:
        if (u->type && strcmp(u->type, "Undefined") != 0)
            jraise(rt, "'%s object' has no attribute '%.*s'", u->type, (int)u->name->len,
                   u->name->p);
        jraise(rt, "'%.*s' is undefined", (int)u->name->len, u->name->p);
    case JUNDEF_UNSAFE:
        jraise(rt, "access to attribute '%.*s' of '%s' object is unsafe", (int)u->name->len,
               u->name->p, u->type);
    default:
        jraise(rt, "%.*s", (int)u->name->len, u->name->p);
    }
}

uint32_t jlength(struct jrt *rt, struct jval v)
{
    switch ((enum jkind)v.kind) {
    case J_UNDEF:
        return 0;
    case J_STR:
        return jstr_chars(v.u.s);
    case J_LIST:
    case J_TUPLE:
        return v.u.list->n;
    case J_DICT:
    case J_VIEW:
        return v.u.dict->n;
    case J_RANGE:
        return v.u.range->n;
    case J_LOOP:
        return jloop_length(rt, v.u.loop);
    default:
        jraise(rt, "object of type '%s' has no len()", jtype_name(v));
    }
}
