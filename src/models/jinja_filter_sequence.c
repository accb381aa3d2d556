/* jinja_filter_sequence.c: filters over lists, dicts and other iterables. Those
 * that Python writes as generators give an iterator that is filled, whole, when
 * something first reads it. */
#include <string.h>

#include "models/jinja_run.h"
#include "models/jinja_string.h"
#include "models/jinja_text.h"

#define FILTER(name) \
    static struct jval name(struct jrt *rt, struct jval in, const struct jval *p, \
                            const struct jargs *all)
#define UNUSED (void)p; (void)all; (void)rt

static bool given(struct jval v) { return v.kind != J_ABSENT && v.kind != J_NONE; }
static bool truth_or(struct jrt *rt, struct jval v, bool otherwise)
{
    return v.kind == J_ABSENT ? otherwise : jtruth(rt, v);
}

/* ---- attributes and keys ---- */

/* "a.b.0" or 3 of an item: getitem, as Jinja2's make_attrgetter does. */
static struct jval attribute_of(struct jrt *rt, struct jval item, struct jval attr,
                                struct jval otherwise)
{
    const struct jstr *s;
    size_t from = 0;

    if (attr.kind == J_ABSENT || attr.kind == J_NONE)
        return item;
    if (attr.kind != J_STR) {
        item = jgetitem(rt, item, attr);
        return item.kind == J_UNDEF && given(otherwise) ? otherwise : item;
    }
    s = attr.u.s;
    for (;;) {
        const char *dot = memchr(s->p + from, '.', s->len - from);
        const size_t to = dot ? (size_t)(dot - s->p) : s->len;
        struct jval key = jv_str(jstr_view(rt, s->p + from, to - from));
        int64_t index = 0;
        bool digits = to > from;

        for (size_t i = from; i < to; i++) {
            digits = digits && s->p[i] >= '0' && s->p[i] <= '9' && i - from < 18;
            if (digits)
                index = index * 10 + (s->p[i] - '0');
        }
        item = jgetitem(rt, item, digits ? jv_int(index) : key);
        if (item.kind == J_UNDEF && given(otherwise))
            item = otherwise;
        if (!dot)
            return item;
        from = to + 1;
    }
}

static struct jval fold_case(struct jrt *rt, struct jval v, bool sensitive)
{
    return v.kind == J_STR && !sensitive ? ju_map(rt, v, JU_LOWER) : v;
}

struct keyed { struct jval key, val; };

/* Stable merge sort; Python's reverse keeps equal items in order too. */
static void merge_sort(struct jrt *rt, struct keyed *v, uint32_t n, struct keyed *spare,
                       bool reverse)
{
    const uint32_t half = n / 2;
    uint32_t a = 0, b = half, k = 0;

    if (n < 2)
        return;
    merge_sort(rt, v, half, spare, reverse);
    merge_sort(rt, v + half, n - half, spare, reverse);
    while (a < half && b < n) {
        const bool right = reverse ? jordered(rt, v[a].key, v[b].key, J_LT)
                                   : jordered(rt, v[b].key, v[a].key, J_LT);

        spare[k++] = right ? v[b++] : v[a++];
    }
    while (a < half)
        spare[k++] = v[a++];
    memcpy(v, spare, k * sizeof *v);
}

static struct jval sorted(struct jrt *rt, struct keyed *v, uint32_t n, bool reverse)
{
    struct jval *out = jalloc_array(rt, n, sizeof *out);

    merge_sort(rt, v, n, jalloc_array(rt, n, sizeof *v), reverse);
    for (uint32_t i = 0; i < n; i++)
        out[i] = v[i].val;
    return jv_list(rt, out, n);
}

/* The list of keys that sort(attribute="a,b") compares by. */
static struct jval multi_key(struct jrt *rt, struct jval item, struct jval attr, bool sensitive)
{
    struct jval parts, *v;
    uint32_t n = 1;

    if (attr.kind != J_STR) {
        v = jalloc_array(rt, 1, sizeof *v);
        v[0] = fold_case(rt, attribute_of(rt, item, attr, jv_absent()), sensitive);
        return jv_list(rt, v, 1);
    }
    parts = js_split(rt, attr, jv_strz(rt, ",").u.s, -1, false);
    n = parts.u.list->n;
    v = jalloc_array(rt, n, sizeof *v);
    for (uint32_t i = 0; i < n; i++)
        v[i] = fold_case(rt, attribute_of(rt, item, parts.u.list->v[i], jv_absent()), sensitive);
    return jv_list(rt, v, n);
}

FILTER(f_sort)
{
    struct jlist l;
    struct keyed *v;

    UNUSED;
    jiterate(rt, in, &l);
    v = jalloc_array(rt, l.n, sizeof *v);
    for (uint32_t i = 0; i < l.n; i++)
        v[i] = (struct keyed){ multi_key(rt, l.v[i], p[2], truth_or(rt, p[1], false)), l.v[i] };
    return sorted(rt, v, l.n, truth_or(rt, p[0], false));
}

FILTER(f_dictsort)
{
    const bool sensitive = truth_or(rt, p[0], false);
    bool by_value = false;
    struct jlist l;
    struct keyed *v;

    UNUSED;
    if (p[1].kind != J_ABSENT) {
        by_value = p[1].kind == J_STR && jstr_is(p[1].u.s, "value");
        if (!by_value && !(p[1].kind == J_STR && jstr_is(p[1].u.s, "key")))
            jraise(rt, "You can only sort by either \"key\" or \"value\"");
    }
    if (in.kind == J_UNDEF)
        jfail_undefined(rt, in);
    if (in.kind != J_DICT)
        jraise(rt, "'%s' object has no attribute 'items'", jtype_name(in));
    in.kind = J_VIEW;
    in.id = JVIEW_ITEMS;
    jiterate(rt, in, &l);
    v = jalloc_array(rt, l.n, sizeof *v);
    for (uint32_t i = 0; i < l.n; i++)
        v[i] = (struct keyed){ fold_case(rt, l.v[i].u.list->v[by_value], sensitive), l.v[i] };
    return sorted(rt, v, l.n, truth_or(rt, p[2], false));
}

FILTER(f_groupby)
{
    const bool sensitive = truth_or(rt, p[2], false);
    struct jvec out = { 0 };
    struct jlist l;
    struct keyed *v;
    struct jval all_items;

    UNUSED;
    jiterate(rt, in, &l);
    v = jalloc_array(rt, l.n, sizeof *v);
    for (uint32_t i = 0; i < l.n; i++)
        v[i] = (struct keyed){ fold_case(rt, attribute_of(rt, l.v[i], p[0], p[1]), sensitive),
                               l.v[i] };
    all_items = sorted(rt, v, l.n, false);
    for (uint32_t from = 0, to; from < l.n; from = to) {
        struct jval *pair = jalloc_array(rt, 2, sizeof *pair), tuple;

        for (to = from + 1; to < l.n && jequal(rt, v[from].key, v[to].key); to++)
            ;
        pair[0] = sensitive ? v[from].key : attribute_of(rt, v[from].val, p[0], p[1]);
        pair[1] = jv_list(rt, all_items.u.list->v + from, to - from);
        tuple = jv_tuple(rt, pair, 2);
        tuple.markup = true;             /* has .grouper and .list */
        jvec_push(rt, &out, tuple);
    }
    return jv_list(rt, out.v, out.n);
}

static struct jval extreme(struct jrt *rt, struct jval in, const struct jval *p, enum jorder op)
{
    const bool sensitive = truth_or(rt, p[0], false);
    struct jlist l;
    uint32_t best = 0;
    struct jval best_key;

    jiterate(rt, in, &l);
    if (l.n == 0)
        return jv_undef(rt, JUNDEF_HINT, jv_strz(rt, "No aggregated item, sequence was empty.").u.s,
                        NULL);
    best_key = fold_case(rt, attribute_of(rt, l.v[0], p[1], jv_absent()), sensitive);
    for (uint32_t i = 1; i < l.n; i++) {
        const struct jval key = fold_case(rt, attribute_of(rt, l.v[i], p[1], jv_absent()),
                                          sensitive);

        if (jordered(rt, key, best_key, op)) {
            best = i;
            best_key = key;
        }
    }
    return l.v[best];
}

FILTER(f_min) { UNUSED; return extreme(rt, in, p, J_LT); }
FILTER(f_max) { UNUSED; return extreme(rt, in, p, J_GT); }

FILTER(f_sum)
{
    struct jval total = p[1].kind == J_ABSENT ? jv_int(0) : p[1];
    struct jlist l;

    UNUSED;
    if (total.kind == J_STR)
        jraise(rt, "sum() can't sum strings [use ''.join(seq) instead]");
    jiterate(rt, in, &l);
    for (uint32_t i = 0; i < l.n; i++)
        total = jadd(rt, total, attribute_of(rt, l.v[i], p[0], jv_absent()));
    return total;
}

/* ---- single items ---- */

FILTER(f_first)
{
    struct jlist l;

    UNUSED;
    if (in.kind == J_ITER) {
        jiter_fill(rt, in.u.iter);
        if (in.u.iter->pos < in.u.iter->n)
            return in.u.iter->v[in.u.iter->pos++];
        l.n = 0;
    } else {
        jiterate(rt, in, &l);
    }
    if (l.n)
        return l.v[0];
    return jv_undef(rt, JUNDEF_HINT, jv_strz(rt, "No first item, sequence was empty.").u.s, NULL);
}

static bool reversible(struct jval v)
{
    return v.kind == J_STR || v.kind == J_LIST || v.kind == J_TUPLE || v.kind == J_DICT ||
           v.kind == J_VIEW || v.kind == J_RANGE;
}

FILTER(f_last)
{
    struct jlist l;

    UNUSED;
    if (in.kind == J_UNDEF)
        l.n = 0;             /* reversed() asks for its length and items */
    else if (!reversible(in))
        jraise(rt, "'%s' object is not reversible", jtype_name(in));
    else
        jiterate(rt, in, &l);
    if (l.n)
        return l.v[l.n - 1];
    return jv_undef(rt, JUNDEF_HINT, jv_strz(rt, "No last item, sequence was empty.").u.s, NULL);
}

FILTER(f_length) { UNUSED; return jv_int(jlength(rt, in)); }

FILTER(f_default)
{
    UNUSED;
    if (in.kind == J_UNDEF || (truth_or(rt, p[1], false) && !jtruth(rt, in)))
        return p[0].kind == J_ABSENT ? jv_strz(rt, "") : p[0];
    return in;
}

FILTER(f_attr)
{
    struct jstr *name = jstr_of(rt, p[0]).u.s;
    struct jval v = jattribute(rt, in, name, jmethod_find(name));

    UNUSED;
    return v.kind == J_ABSENT ? jv_undef(rt, JUNDEF_ATTR, name, jtype_name(in)) : v;
}

/* ---- whole sequences ---- */

FILTER(f_list)
{
    struct jlist l;

    UNUSED;
    jiterate(rt, in, &l);
    return jv_list(rt, l.v, l.n);
}

FILTER(f_join)
{
    const struct jval sep = p[0].kind == J_ABSENT ? jv_strz(rt, "") : jstr_of(rt, p[0]);
    struct jlist l;
    struct jval *v;

    UNUSED;
    jiterate(rt, in, &l);
    v = jalloc_array(rt, l.n, sizeof *v);
    for (uint32_t i = 0; i < l.n; i++)
        v[i] = jstr_of(rt, attribute_of(rt, l.v[i], p[1], jv_absent()));
    return js_join(rt, sep, v, l.n);
}

FILTER(f_reverse)
{
    struct jlist l;
    struct jval *v;

    UNUSED;
    if (in.kind == J_STR)
        return jslice(rt, in, jv_none(), jv_none(), jv_int(-1));
    jiterate(rt, in, &l);
    v = jalloc_array(rt, l.n, sizeof *v);
    for (uint32_t i = 0; i < l.n; i++)
        v[i] = l.v[l.n - 1 - i];
    if (in.kind == J_ITER)
        return jv_list(rt, v, l.n);
    return jv_iter(rt, v, l.n, in.kind == J_LIST ? "list_reverseiterator" : "reversed");
}

/* ---- lazy ones ---- */

static struct jval lazy(struct jrt *rt, struct jval in, const struct jargs *a, int mode,
                        void (*fill)(struct jrt *, struct jiter *))
{
    struct jval v = jv_iter(rt, NULL, 0, "generator");

    v.u.iter->fill = fill;
    v.u.iter->in = in;
    v.u.iter->args = *a;
    v.u.iter->mode = mode;
    return v;
}

static void filled(struct jiter *it, const struct jvec *v)
{
    it->v = v->v;
    it->n = v->n;
}

/* Bound arguments kept for a lazy filter: as positional ones. */
static struct jargs keep(struct jrt *rt, const struct jval *p, uint32_t n)
{
    struct jargs a = { .pos = jalloc_array(rt, n, sizeof *p), .n_pos = n };

    memcpy(a.pos, p, n * sizeof *p);
    return a;
}

static void fill_items(struct jrt *rt, struct jiter *it)
{
    struct jval v = it->in;
    struct jlist l = { NULL, 0 };

    it->fill = NULL;
    if (v.kind == J_UNDEF)
        return;
    if (v.kind != J_DICT)
        jraise(rt, "Can only get item pairs from a mapping.");
    v.kind = J_VIEW;
    v.id = JVIEW_ITEMS;
    jiterate(rt, v, &l);
    it->v = l.v;
    it->n = l.n;
}

FILTER(f_items) { UNUSED; return lazy(rt, in, all, 0, fill_items); }

static void fill_unique(struct jrt *rt, struct jiter *it)
{
    struct jdict *seen = jdict_new(rt, 8);
    struct jvec out = { 0 };
    struct jlist l;

    it->fill = NULL;
    jiterate(rt, it->in, &l);
    for (uint32_t i = 0; i < l.n; i++) {
        const struct jval key = fold_case(rt, attribute_of(rt, l.v[i], it->args.pos[1], jv_absent()),
                                          truth_or(rt, it->args.pos[0], false));

        if (jdict_get(rt, seen, key))
            continue;
        jdict_set(rt, seen, key, jv_none());
        jvec_push(rt, &out, l.v[i]);
    }
    filled(it, &out);
}

FILTER(f_unique)
{
    const struct jargs a = keep(rt, p, 2);

    (void)all;
    return lazy(rt, in, &a, 0, fill_unique);
}

static void fill_batch(struct jrt *rt, struct jiter *it)
{
    const struct jval *p = it->args.pos;
    struct jvec out = { 0 };
    struct jlist l;
    int64_t size;

    it->fill = NULL;
    jiterate(rt, it->in, &l);
    if (p[0].kind == J_FLOAT)
        jraise(rt, "linecount must be an integer");
    size = jneed_int(rt, p[0], "linecount");
    if (size == 0 && l.n) {              /* Python's: an empty batch, then all */
        jvec_push(rt, &out, jv_list(rt, NULL, 0));
        size = -1;
    }
    for (uint32_t from = 0, to; from < l.n; from = to) {
        struct jval batch;

        to = size > 0 && size < l.n - from ? from + (uint32_t)size : l.n;
        batch = jv_list(rt, l.v + from, to - from);
        if (to == l.n && given(p[1]) && size > to - from) {
            const struct jval fill[1] = { p[1] };

            batch = jadd(rt, batch, joperate(rt, N_MUL, jv_list(rt, keep(rt, fill, 1).pos, 1),
                                             jv_int(size - (to - from))));
        }
        jvec_push(rt, &out, batch);
    }
    filled(it, &out);
}

FILTER(f_batch)
{
    const struct jargs a = keep(rt, p, 2);

    (void)all;
    return lazy(rt, in, &a, 0, fill_batch);
}

static void fill_slice(struct jrt *rt, struct jiter *it)
{
    const struct jval *p = it->args.pos;
    struct jvec out = { 0 };
    struct jlist l;
    int64_t n, per, extra, offset = 0;

    it->fill = NULL;
    jiterate(rt, it->in, &l);
    n = jneed_int(rt, p[0], "slices");
    if (n == 0)
        jraise(rt, "integer division or modulo by zero");
    if (n < 0)
        return;
    per = l.n / n;
    extra = l.n % n;
    for (int64_t i = 0; i < n; i++) {
        const int64_t from = offset + i * per;
        struct jval part;

        jcharge(rt, 1);
        if (i < extra)
            offset++;
        part = jv_list(rt, l.n ? l.v + from : NULL, (size_t)(offset + (i + 1) * per - from));
        if (given(p[1]) && i >= extra) {
            const struct jval fill[1] = { p[1] };

            part = jadd(rt, part, jv_list(rt, keep(rt, fill, 1).pos, 1));
        }
        jvec_push(rt, &out, part);
    }
    filled(it, &out);
}

FILTER(f_slice)
{
    const struct jargs a = keep(rt, p, 2);

    (void)all;
    return lazy(rt, in, &a, 0, fill_slice);
}

/* The arguments after the first n positional ones. */
static struct jargs rest_of(const struct jargs *a, uint32_t n)
{
    struct jargs r = *a;

    r.pos = a->n_pos > n ? a->pos + n : NULL;
    r.n_pos = a->n_pos > n ? a->n_pos - n : 0;
    return r;
}

static void map_attribute(struct jrt *rt, struct jiter *it, const struct jlist *l,
                          struct jvec *out)
{
    const struct jargs *a = &it->args;
    struct jval attr = jv_absent(), otherwise = jv_none();

    for (uint32_t i = 0; i < a->n_kw; i++) {
        if (jstr_is(a->names[i], "attribute"))
            attr = a->kw[i];
        else if (jstr_is(a->names[i], "default"))
            otherwise = a->kw[i];
        else
            jraise(rt, "Unexpected keyword argument '%.*s'", (int)a->names[i]->len,
                   a->names[i]->p);
    }
    for (uint32_t i = 0; i < l->n; i++)
        jvec_push(rt, out, attribute_of(rt, l->v[i], attr, otherwise));
}

static bool has_keyword(const struct jargs *a, const char *name)
{
    for (uint32_t i = 0; i < a->n_kw; i++)
        if (jstr_is(a->names[i], name))
            return true;
    return false;
}

static void fill_map(struct jrt *rt, struct jiter *it)
{
    const struct jargs *a = &it->args;
    const struct jfilter *f;
    struct jvec out = { 0 };
    struct jargs rest;
    struct jlist l;

    it->fill = NULL;
    if (!jtruth(rt, it->in))
        return;
    if (a->n_pos == 0 && !has_keyword(a, "attribute"))
        jraise(rt, "map requires a filter argument");
    jiterate(rt, it->in, &l);
    if (a->n_pos == 0) {
        map_attribute(rt, it, &l, &out);
        filled(it, &out);
        return;
    }
    rest = rest_of(a, 1);
    f = a->pos[0].kind == J_STR ? jfilter_find(a->pos[0].u.s) : NULL;
    for (uint32_t i = 0; i < l.n; i++) {
        if (!f)
            jraise(rt, "no such filter for map");
        jvec_push(rt, &out, jfilter_call(rt, f, l.v[i], &rest));
    }
    filled(it, &out);
}

FILTER(f_map) { UNUSED; return lazy(rt, in, all, 0, fill_map); }

enum { SELECT_REJECT = 1, SELECT_ATTR = 2 };

static void fill_select(struct jrt *rt, struct jiter *it)
{
    const struct jargs *a = &it->args;
    const uint32_t off = it->mode & SELECT_ATTR ? 1 : 0;
    const struct jtest *t = NULL;
    struct jvec out = { 0 };
    struct jargs rest;
    struct jlist l;

    it->fill = NULL;
    if (!jtruth(rt, it->in))
        return;
    if (a->n_pos < off)
        jraise(rt, "Missing parameter for attribute name");
    jiterate(rt, it->in, &l);
    rest = rest_of(a, off + 1);
    if (a->n_pos > off && a->pos[off].kind == J_STR)
        t = jtest_find(a->pos[off].u.s);
    for (uint32_t i = 0; i < l.n; i++) {
        struct jval v = off ? attribute_of(rt, l.v[i], a->pos[0], jv_absent()) : l.v[i];
        bool yes;

        if (a->n_pos > off && !t)
            jraise(rt, "no such test for select or reject");
        yes = t ? jtest_call(rt, t, v, &rest) : jtruth(rt, v);
        if (yes != ((it->mode & SELECT_REJECT) != 0))
            jvec_push(rt, &out, l.v[i]);
    }
    filled(it, &out);
}

FILTER(f_select) { UNUSED; return lazy(rt, in, all, 0, fill_select); }
FILTER(f_reject) { UNUSED; return lazy(rt, in, all, SELECT_REJECT, fill_select); }
FILTER(f_selectattr) { UNUSED; return lazy(rt, in, all, SELECT_ATTR, fill_select); }
FILTER(f_rejectattr) { UNUSED; return lazy(rt, in, all, SELECT_ATTR | SELECT_REJECT, fill_select); }

const struct jfilter jfilters_sequence[] = {
    { "attr", f_attr, "name" },
    { "batch", f_batch, "linecount fill_with=?" },
    { "count", f_length, "" },
    { "d", f_default, "default_value=? boolean=?" },
    { "default", f_default, "default_value=? boolean=?" },
    { "dictsort", f_dictsort, "case_sensitive=? by=? reverse=?" },
    { "first", f_first, "" },
    { "groupby", f_groupby, "attribute default=? case_sensitive=?" },
    { "items", f_items, "" },
    { "join", f_join, "d=? attribute=?" },
    { "last", f_last, "" },
    { "length", f_length, "" },
    { "list", f_list, "" },
    { "map", f_map, NULL },
    { "max", f_max, "case_sensitive=? attribute=?" },
    { "min", f_min, "case_sensitive=? attribute=?" },
    { "reject", f_reject, NULL },
    { "rejectattr", f_rejectattr, NULL },
    { "reverse", f_reverse, "" },
    { "select", f_select, NULL },
    { "selectattr", f_selectattr, NULL },
    { "slice", f_slice, "slices fill_with=?" },
    { "sort", f_sort, "reverse=? case_sensitive=? attribute=?" },
    { "sum", f_sum, "attribute=? start=?" },
    { "unique", f_unique, "case_sensitive=? attribute=?" },
    { NULL, NULL, NULL },
};

const struct jfilter *jfilter_find(const struct jstr *name)
{
    for (const struct jfilter *f = jfilters_sequence; f->name; f++)
        if (jstr_is(name, f->name))
            return f;
    for (const struct jfilter *f = jfilters_text; f->name; f++)
        if (jstr_is(name, f->name))
            return f;
    return NULL;
}
