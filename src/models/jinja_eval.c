/* jinja_eval.c: the value of an expression; attributes and items by the rules of
 * Jinja2's immutable sandbox. */
#include <string.h>

#include "models/jinja_run.h"

struct jframe *jframe_new(struct jrt *rt, struct jframe *outer, uint32_t n_slots)
{
    struct jframe *f = jalloc(rt, sizeof *f + (size_t)n_slots * sizeof f->slots[0]);

    f->outer = outer;
    for (uint32_t i = 0; i < n_slots; i++)
        f->slots[i] = jv_absent();
    return f;
}

static struct jframe *outward(struct jframe *f, uint16_t hops)
{
    while (hops-- > 0)
        f = f->outer;
    return f;
}

static struct jval resolve(struct jrt *rt, const struct jstr *name)
{
    const struct jval *v = jdict_get_str(rt, rt->vars, name);

    return v ? *v : jglobal(name);
}

void jenter_scope(struct jrt *rt, struct jframe *f, const struct jscope *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const struct jslot_init *in = &s->v[i];

        if (in->how == L_ALIAS)
            f->slots[in->slot] = outward(f, in->hops)->slots[in->from];
        else if (in->how == L_RESOLVE)
            f->slots[in->slot] = resolve(rt, in->name);
        else
            f->slots[in->slot] = jv_absent();
    }
}

void jassign(struct jrt *rt, struct jframe *f, const struct jnode *target, struct jval v)
{
    struct jlist items;

    if (target->op == N_NAME) {
        outward(f, target->u.name.hops)->slots[target->u.name.slot] = v;
        return;
    }
    if (target->op == N_NSREF) {
        const struct jval ns = jeval(rt, f, target->u.nsref.ns);

        rt->line = target->line;
        if (ns.kind != J_NS)
            jraise(rt, "cannot assign attribute on non-namespace object");
        jdict_set(rt, ns.u.dict, jv_str(target->u.nsref.attr), v);
        return;
    }
    rt->line = target->line;
    if (v.kind != J_UNDEF && !jis_iterable(v))
        jraise(rt, "cannot unpack non-iterable %s object", jtype_name(v));
    jiterate(rt, v, &items);
    if (items.n != target->u.list.n)
        jraise(rt, "%s values to unpack (expected %u, got %u)",
               items.n < target->u.list.n ? "not enough" : "too many", target->u.list.n, items.n);
    for (uint32_t i = 0; i < items.n; i++)
        jassign(rt, f, target->u.list.v[i], items.v[i]);
}

/* ---- attributes and items ------------------------------------------------- */

static struct jval bound(struct jrt *rt, struct jval self, uint16_t id)
{
    struct jmethod *m = jalloc(rt, sizeof *m);

    *m = (struct jmethod){ self, id };
    return (struct jval){ .kind = J_METHOD, .u.method = m };
}

static struct jval macro_attr(struct jrt *rt, const struct jmacro *m, const struct jstr *attr)
{
    const struct jmacro_def *d = m->def;

    if (jstr_is(attr, "name"))
        return d->name ? jv_str(d->name) : jv_none();
    if (jstr_is(attr, "arguments")) {
        struct jval *v = jalloc_array(rt, d->params.n, sizeof *v);

        for (uint32_t i = 0; i < d->params.n; i++)
            v[i] = jv_str(d->params.v[i]->u.name.id);
        return jv_tuple(rt, v, d->params.n);
    }
    if (jstr_is(attr, "catch_kwargs"))
        return jv_bool(d->wants_kwargs);
    if (jstr_is(attr, "catch_varargs"))
        return jv_bool(d->wants_varargs);
    if (jstr_is(attr, "caller"))
        return jv_bool(d->wants_caller);
    return jv_absent();
}

static struct jval number_attr(struct jval obj, const struct jstr *attr)
{
    if (jstr_is(attr, "real"))
        return obj.kind == J_FLOAT ? obj : jv_int(jint_of(obj));
    if (jstr_is(attr, "imag"))
        return obj.kind == J_FLOAT ? jv_float(0.0) : jv_int(0);
    if (obj.kind != J_FLOAT && jstr_is(attr, "numerator"))
        return jv_int(jint_of(obj));
    if (obj.kind != J_FLOAT && jstr_is(attr, "denominator"))
        return jv_int(1);
    return jv_absent();
}

static struct jval unsafe(struct jrt *rt, struct jval obj, struct jstr *attr)
{
    return jv_undef(rt, JUNDEF_UNSAFE, attr, jtype_name(obj));
}

/* Names that Python gives every object, or that it guards. */
static bool dunder(const struct jstr *s)
{
    static const char *const known[] = {
        "__class__", "__doc__", "__init__", "__dir__", "__eq__", "__format__", "__ge__",
        "__getattribute__", "__gt__", "__hash__", "__init_subclass__", "__le__", "__lt__",
        "__ne__", "__new__", "__reduce__", "__reduce_ex__", "__repr__", "__setattr__",
        "__delattr__", "__sizeof__", "__str__", "__subclasshook__",
    };

    if (s->len < 5 || s->p[0] != '_' || s->p[1] != '_')
        return false;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (jstr_is(s, known[i]))
            return true;
    return false;
}

struct jval jattribute(struct jrt *rt, struct jval obj, struct jstr *attr, uint16_t method)
{
    struct jval v = jv_absent();

    if (obj.kind == J_UNDEF) {
        if (attr->len >= 2 && attr->p[0] == '_' && attr->p[1] == '_')
            return dunder(attr) ? unsafe(rt, obj, attr) : v;
        jfail_undefined(rt, obj);
    }
    if (method != JMETHOD_NONE) {
        const enum jmethod_kind k = jmethod_of(obj, method);

        if (k == JM_UNSAFE)
            return unsafe(rt, obj, attr);
        if (k == JM_YES)
            return bound(rt, obj, method);
    }
    switch ((enum jkind)obj.kind) {
    case J_NS: {
        const struct jval *found = jdict_get_str(rt, obj.u.dict, attr);

        if (found)
            return attr->len && attr->p[0] == '_' ? unsafe(rt, obj, attr) : *found;
        break;
    }
    case J_LOOP:
        v = jloop_attr(rt, obj.u.loop, attr);
        break;
    case J_MACRO:
        v = macro_attr(rt, obj.u.macro, attr);
        break;
    case J_BOOL: case J_INT: case J_FLOAT:
        v = number_attr(obj, attr);
        break;
    case J_TUPLE:
        if (obj.markup && jstr_is(attr, "grouper"))
            v = obj.u.list->v[0];
        else if (obj.markup && jstr_is(attr, "list"))
            v = obj.u.list->v[1];
        break;
    case J_RANGE:
        if (jstr_is(attr, "start"))
            v = jv_int(obj.u.range->start);
        else if (jstr_is(attr, "stop"))
            v = jv_int(obj.u.range->stop);
        else if (jstr_is(attr, "step"))
            v = jv_int(obj.u.range->step);
        break;
    case J_CYCLER:
        if (jstr_is(attr, "current"))
            v = obj.u.cycler->items.v[obj.u.cycler->pos];
        else if (jstr_is(attr, "pos"))
            v = jv_int(obj.u.cycler->pos);
        break;
    default:
        break;
    }
    if (v.kind == J_ABSENT && dunder(attr))
        return unsafe(rt, obj, attr);
    return v;
}

/* obj[key] where Python would not raise TypeError or LookupError, else absent. */
static struct jval subscript(struct jrt *rt, struct jval obj, struct jval key)
{
    const struct jval *found;
    int64_t i, n;

    switch ((enum jkind)obj.kind) {
    case J_UNDEF:
        jfail_undefined(rt, obj);
    case J_DICT:
        if (!jhashable(key))
            return jv_absent();
        found = jdict_get(rt, obj.u.dict, key);
        return found ? *found : jv_absent();
    case J_LIST: case J_TUPLE: case J_STR: case J_RANGE:
        if (!jis_integer(key))
            return jv_absent();
        i = jint_of(key);
        n = jlength(rt, obj);
        if (i < 0)
            i += n;
        if (i < 0 || i >= n)
            return jv_absent();
        if (obj.kind == J_RANGE)
            return jrange_at(obj.u.range, (uint32_t)i);
        if (obj.kind == J_STR)
            return jv_like(obj, jstr_slice(rt, obj.u.s, (uint32_t)i, (uint32_t)i + 1));
        return obj.u.list->v[i];
    default:
        return jv_absent();
    }
}

struct jval jgetattr(struct jrt *rt, struct jval obj, struct jstr *attr, uint16_t method)
{
    struct jval v = jattribute(rt, obj, attr, method);

    if (v.kind == J_ABSENT)
        v = subscript(rt, obj, jv_str(attr));
    return v.kind == J_ABSENT ? jv_undef(rt, JUNDEF_ATTR, attr, jtype_name(obj)) : v;
}

struct jval jgetitem(struct jrt *rt, struct jval obj, struct jval key)
{
    struct jval v = subscript(rt, obj, key);

    if (v.kind != J_ABSENT)
        return v;
    if (key.kind == J_STR) {
        v = jattribute(rt, obj, key.u.s, jmethod_find(key.u.s));
        return v.kind == J_ABSENT ? jv_undef(rt, JUNDEF_ATTR, key.u.s, jtype_name(obj)) : v;
    }
    return jv_undef(rt, JUNDEF_ATTR, jstr_of(rt, key).u.s, jtype_name(obj));
}

/* ---- calls ------------------------------------------------------------------ */

static void spread_positional(struct jrt *rt, struct jval v, struct jvec *out)
{
    struct jlist l;

    if (!jis_iterable(v))
        jraise(rt, "argument after * must be an iterable, not %s", jtype_name(v));
    jiterate(rt, v, &l);
    for (uint32_t i = 0; i < l.n; i++)
        jvec_push(rt, out, l.v[i]);
}

static void spread_keywords(struct jrt *rt, struct jval v, struct jargs *out)
{
    const struct jdict *d = v.u.dict;
    struct jstr **names;
    struct jval *kw;

    if (v.kind != J_DICT)
        jraise(rt, "argument after ** must be a mapping, not %s", jtype_name(v));
    names = jalloc_array(rt, (size_t)out->n_kw + d->n, sizeof *names);
    kw = jalloc_array(rt, (size_t)out->n_kw + d->n, sizeof *kw);
    if (out->n_kw) {
        memcpy(names, out->names, out->n_kw * sizeof *names);
        memcpy(kw, out->kw, out->n_kw * sizeof *kw);
    }
    for (uint32_t i = 0; i < d->n; i++) {
        const struct jval key = d->e[i].key;

        if (key.kind != J_STR)
            jraise(rt, "keywords must be strings");
        for (uint32_t k = 0; k < out->n_kw; k++)
            if (jstr_eq(out->names[k], key.u.s))
                jraise(rt, "multiple values for keyword argument '%.*s'", (int)key.u.s->len,
                       key.u.s->p);
        names[out->n_kw + i] = key.u.s;
        kw[out->n_kw + i] = d->e[i].val;
    }
    out->names = names;
    out->kw = kw;
    out->n_kw += d->n;
}

struct jargs jeval_args(struct jrt *rt, struct jframe *f, const struct jcall_args *a,
                        bool with_caller, struct jval caller)
{
    const uint32_t n_kw = a->kw.n + with_caller;
    struct jargs out = { .n_pos = a->pos.n, .n_kw = n_kw };

    out.pos = out.n_pos ? jalloc_array(rt, out.n_pos, sizeof *out.pos) : NULL;
    for (uint32_t i = 0; i < a->pos.n; i++)
        out.pos[i] = jeval(rt, f, a->pos.v[i]);
    if (n_kw) {
        out.names = jalloc_array(rt, n_kw, sizeof *out.names);
        out.kw = jalloc_array(rt, n_kw, sizeof *out.kw);
    }
    for (uint32_t i = 0; i < a->kw.n; i++) {
        out.names[i] = a->names[i];
        out.kw[i] = jeval(rt, f, a->kw.v[i]);
    }
    if (with_caller) {
        out.names[a->kw.n] = jv_strz(rt, "caller").u.s;
        out.kw[a->kw.n] = caller;
    }
    if (a->dyn_pos) {
        struct jvec all = { 0 };

        for (uint32_t i = 0; i < out.n_pos; i++)
            jvec_push(rt, &all, out.pos[i]);
        spread_positional(rt, jeval(rt, f, a->dyn_pos), &all);
        out.pos = all.v;
        out.n_pos = all.n;
    }
    if (a->dyn_kw)
        spread_keywords(rt, jeval(rt, f, a->dyn_kw), &out);
    return out;
}

static struct jval eval_filter(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    const struct jval in = jeval(rt, f, n->u.filter.in);
    const struct jargs a = jeval_args(rt, f, n->u.filter.args, false, jv_none());

    rt->line = n->line;
    if (n->op == N_FILTER) {
        if (!n->u.filter.filter)
            jraise(rt, "no filter named '%.*s' found", (int)n->u.filter.name->len,
                   n->u.filter.name->p);
        return jfilter_call(rt, n->u.filter.filter, in, &a);
    }
    if (!n->u.filter.test)
        jraise(rt, "no test named '%.*s' found", (int)n->u.filter.name->len,
               n->u.filter.name->p);
    return jv_bool(jtest_call(rt, n->u.filter.test, in, &a));
}

/* ---- expressions --------------------------------------------------------------- */

static struct jval eval_name(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    const struct jval v = outward(f, n->u.name.hops)->slots[n->u.name.slot];

    if (v.kind != J_ABSENT)
        return v;
    return jv_undef(rt, JUNDEF_NAME, n->u.name.id, NULL);
}

static struct jval *eval_list(struct jrt *rt, struct jframe *f, const struct jnodes *l)
{
    struct jval *v = jalloc_array(rt, l->n, sizeof *v);

    for (uint32_t i = 0; i < l->n; i++)
        v[i] = jeval(rt, f, l->v[i]);
    return v;
}

static struct jval eval_dict(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    struct jdict *d = jdict_new(rt, n->u.dict.keys.n);

    for (uint32_t i = 0; i < n->u.dict.keys.n; i++) {
        const struct jval key = jeval(rt, f, n->u.dict.keys.v[i]);
        const struct jval val = jeval(rt, f, n->u.dict.vals.v[i]);

        rt->line = n->line;
        jdict_set(rt, d, key, val);
    }
    return (struct jval){ .kind = J_DICT, .u.dict = d };
}

static bool compare(struct jrt *rt, struct jval a, struct jval b, enum jcmp op)
{
    switch (op) {
    case C_EQ: return jequal(rt, a, b);
    case C_NE: return !jequal(rt, a, b);
    case C_LT: return jordered(rt, a, b, J_LT);
    case C_LE: return jordered(rt, a, b, J_LE);
    case C_GT: return jordered(rt, a, b, J_GT);
    case C_GE: return jordered(rt, a, b, J_GE);
    case C_IN: return jcontains(rt, b, a);
    default:   return !jcontains(rt, b, a);
    }
}

static struct jval eval_compare(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    struct jval left = jeval(rt, f, n->u.compare.first);

    for (uint32_t i = 0; i < n->u.compare.rest.n; i++) {
        const struct jval right = jeval(rt, f, n->u.compare.rest.v[i]);

        rt->line = n->line;
        if (!compare(rt, left, right, (enum jcmp)n->u.compare.ops[i]))
            return jv_bool(false);
        left = right;
    }
    return jv_bool(true);
}

static struct jval eval_cond(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    if (jtruth(rt, jeval(rt, f, n->u.cond.test)))
        return jeval(rt, f, n->u.cond.yes);
    if (n->u.cond.no)
        return jeval(rt, f, n->u.cond.no);
    return jv_undef(rt, JUNDEF_HINT,
                    jv_strz(rt, "the inline if-expression evaluated to false and no else section "
                                "was defined").u.s, NULL);
}

static struct jval eval_getitem(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    const struct jval obj = jeval(rt, f, n->u.getitem.obj);
    const struct jnode *key = n->u.getitem.key;
    struct jval part[3] = { jv_none(), jv_none(), jv_none() }, k;

    if (key->op != N_SLICE) {
        k = jeval(rt, f, key);
        rt->line = n->line;
        return jgetitem(rt, obj, k);
    }
    if (key->u.slice.start)
        part[0] = jeval(rt, f, key->u.slice.start);
    if (key->u.slice.stop)
        part[1] = jeval(rt, f, key->u.slice.stop);
    if (key->u.slice.step)
        part[2] = jeval(rt, f, key->u.slice.step);
    rt->line = n->line;
    return jslice(rt, obj, part[0], part[1], part[2]);
}

static struct jval eval_getattr(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    const struct jval obj = jeval(rt, f, n->u.getattr.obj);

    rt->line = n->line;
    return jgetattr(rt, obj, n->u.getattr.attr, n->u.getattr.method);
}

static struct jval eval_call(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    const struct jval fn = jeval(rt, f, n->u.call.fn);
    const struct jargs a = jeval_args(rt, f, n->u.call.args, false, jv_none());

    rt->line = n->line;
    return jcall(rt, fn, &a);
}

static struct jval eval_operator(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    const struct jval a = jeval(rt, f, n->u.bin.l);
    const struct jval b = n->u.bin.r ? jeval(rt, f, n->u.bin.r) : jv_none();

    rt->line = n->line;
    return joperate(rt, (enum jop)n->op, a, b);
}

static struct jval eval_inner(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    struct jval a;

    switch ((enum jop)n->op) {
    case N_TUPLE:
        return jv_tuple(rt, eval_list(rt, f, &n->u.list), n->u.list.n);
    case N_LIST:
        return jv_list(rt, eval_list(rt, f, &n->u.list), n->u.list.n);
    case N_DICT:
        return eval_dict(rt, f, n);
    case N_CONCAT:
        return jconcat(rt, eval_list(rt, f, &n->u.list), n->u.list.n);
    case N_AND:
        a = jeval(rt, f, n->u.bin.l);
        return jtruth(rt, a) ? jeval(rt, f, n->u.bin.r) : a;
    case N_OR:
        a = jeval(rt, f, n->u.bin.l);
        return jtruth(rt, a) ? a : jeval(rt, f, n->u.bin.r);
    case N_NOT:
        return jv_bool(!jtruth(rt, jeval(rt, f, n->u.bin.l)));
    case N_COMPARE:
        return eval_compare(rt, f, n);
    case N_COND:
        return eval_cond(rt, f, n);
    case N_GETATTR:
        return eval_getattr(rt, f, n);
    case N_GETITEM:
        return eval_getitem(rt, f, n);
    case N_CALL:
        return eval_call(rt, f, n);
    case N_FILTER:
    case N_TEST:
        return eval_filter(rt, f, n);
    default:
        return eval_operator(rt, f, n);
    }
}

struct jval jeval(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    struct jval v;

    jcharge(rt, 1);
    if (n->op == N_CONST)
        return n->u.value;
    if (n->op == N_NAME)
        return eval_name(rt, f, n);
    jenter(rt);
    v = eval_inner(rt, f, n);
    jleave(rt);
    return v;
}
