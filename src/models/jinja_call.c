/* jinja_call.c: calling things: macros, the global functions, methods; and
 * binding arguments to parameters. */
#include <string.h>

#include "models/jinja_run.h"
#include "models/jinja_text.h"

int64_t jneed_int(struct jrt *rt, struct jval v, const char *what)
{
    if (v.kind == J_UNDEF)
        jfail_undefined(rt, v);
    if (!jis_integer(v))
        jraise(rt, "%s must be an integer, not %s", what, jtype_name(v));
    return jint_of(v);
}

struct jstr *jneed_str(struct jrt *rt, struct jval v, const char *what)
{
    if (v.kind != J_STR)
        jraise(rt, "%s must be str, not %s", what, jtype_name(v));
    return v.u.s;
}

/* ---- binding ---- */

struct param { const char *name; size_t len; bool optional, positional; };

static uint32_t parse_spec(const char *spec, struct param out[JBIND_MAX])
{
    uint32_t n = 0;

    while (*spec) {
        const char *end = strchrnul(spec, ' ');
        size_t len = (size_t)(end - spec);

        if (len == 1 && *spec == '/') {
            for (uint32_t i = 0; i < n; i++)
                out[i].positional = true;
        } else {
            const bool optional = len > 2 && end[-1] == '?';

            CHECK(n < JBIND_MAX);
            out[n++] = (struct param){ spec, optional ? len - 2 : len, optional, false };
        }
        spec = *end ? end + 1 : end;
    }
    return n;
}

void jbind(struct jrt *rt, const char *what, const char *spec, const struct jargs *a,
           struct jval out[JBIND_MAX])
{
    struct param params[JBIND_MAX];
    const uint32_t n = parse_spec(spec, params);

    for (uint32_t i = 0; i < JBIND_MAX; i++)
        out[i] = i < a->n_pos && i < n ? a->pos[i] : jv_absent();
    if (a->n_pos > n)
        jraise(rt, "%s takes at most %u arguments (%u given)", what, n, a->n_pos);
    for (uint32_t k = 0; k < a->n_kw; k++) {
        uint32_t i = 0;

        while (i < n && (params[i].positional || params[i].len != a->names[k]->len ||
                         memcmp(params[i].name, a->names[k]->p, params[i].len) != 0))
            i++;
        if (i == n)
            jraise(rt, "%s got an unexpected keyword argument '%.*s'", what,
                   (int)a->names[k]->len, a->names[k]->p);
        if (out[i].kind != J_ABSENT)
            jraise(rt, "%s got multiple values for argument '%.*s'", what,
                   (int)a->names[k]->len, a->names[k]->p);
        out[i] = a->kw[k];
    }
    for (uint32_t i = 0; i < n; i++)
        if (!params[i].optional && out[i].kind == J_ABSENT)
            jraise(rt, "%s is missing its argument '%.*s'", what, (int)params[i].len,
                   params[i].name);
}

struct jval jfilter_call(struct jrt *rt, const struct jfilter *f, struct jval in,
                         const struct jargs *a)
{
    struct jval p[JBIND_MAX];
    struct jval v;

    jenter(rt);
    if (f->spec)
        jbind(rt, f->name, f->spec, a, p);
    v = f->fn(rt, in, f->spec ? p : NULL, a);
    jleave(rt);
    return v;
}

bool jtest_call(struct jrt *rt, const struct jtest *t, struct jval in, const struct jargs *a)
{
    struct jval p[JBIND_MAX];

    jbind(rt, t->name, t->spec, a, p);
    return t->fn(rt, in, p);
}

/* ---- macros ---- */

static struct jval take_keyword(struct jargs *a, bool *taken, const struct jstr *name)
{
    for (uint32_t i = 0; i < a->n_kw; i++) {
        if (!taken[i] && jstr_eq(a->names[i], name)) {
            taken[i] = true;
            return a->kw[i];
        }
    }
    return jv_absent();
}

/* Arguments into the macro's slots; what is left into kwargs and varargs. */
static void fill_macro(struct jrt *rt, const struct jmacro_def *d, const struct jargs *args,
                       struct jframe *f)
{
    static const struct jstr caller_name = { "caller", 6, 6 };
    struct jargs a = *args;
    bool *taken = jalloc(rt, a.n_kw);
    bool found_caller = a.n_pos >= d->params.n && d->explicit_caller;

    memset(taken, 0, a.n_kw);
    for (uint32_t i = 0; i < d->params.n; i++) {
        const struct jnode *param = d->params.v[i];
        struct jval v;

        if (i < a.n_pos) {
            v = a.pos[i];
        } else {
            v = take_keyword(&a, taken, param->u.name.id);
            found_caller |= jstr_eq(param->u.name.id, &caller_name);
        }
        f->slots[param->u.name.slot] = v;
    }
    if (d->wants_caller && !found_caller) {
        struct jval caller = take_keyword(&a, taken, &caller_name);

        if (caller.kind == J_ABSENT || caller.kind == J_NONE)
            caller = jv_undef(rt, JUNDEF_HINT, jv_strz(rt, "no caller defined").u.s, NULL);
        f->slots[d->caller_slot] = caller;
    }
    if (d->wants_kwargs) {
        struct jdict *rest = jdict_new(rt, a.n_kw);

        for (uint32_t i = 0; i < a.n_kw; i++)
            if (!taken[i])
                jdict_set(rt, rest, jv_str(a.names[i]), a.kw[i]);
        f->slots[d->kwargs_slot] = (struct jval){ .kind = J_DICT, .u.dict = rest };
    } else {
        for (uint32_t i = 0; i < a.n_kw; i++)
            if (!taken[i])
                jraise(rt, "macro '%.*s' takes no keyword argument '%.*s'",
                       d->name ? (int)d->name->len : 6, d->name ? d->name->p : "caller",
                       (int)a.names[i]->len, a.names[i]->p);
    }
    if (d->wants_varargs) {
        const uint32_t n = a.n_pos > d->params.n ? a.n_pos - d->params.n : 0;

        f->slots[d->varargs_slot] = jv_tuple(rt, n ? a.pos + d->params.n : NULL, n);
    } else if (a.n_pos > d->params.n) {
        jraise(rt, "macro '%.*s' takes not more than %u argument(s)",
               d->name ? (int)d->name->len : 6, d->name ? d->name->p : "caller", d->params.n);
    }
}

struct jval jcall_macro(struct jrt *rt, const struct jmacro *m, const struct jargs *a)
{
    const struct jmacro_def *d = m->def;
    struct jframe *f = jframe_new(rt, m->outer, d->n_slots);
    struct jbuf *outer = rt->buf, b = { 0 };

    jenter(rt);
    fill_macro(rt, d, a, f);
    jenter_scope(rt, f, &d->scope);
    for (uint32_t i = 0; i < d->params.n; i++) {
        struct jval *slot = &f->slots[d->params.v[i]->u.name.slot];
        const uint32_t first_default = d->params.n - d->defaults.n;

        if (slot->kind != J_ABSENT)
            continue;
        if (i >= first_default)
            *slot = jeval(rt, f, d->defaults.v[i - first_default]);
        else
            *slot = jv_undef(rt, JUNDEF_NAME, d->params.v[i]->u.name.id, NULL);
    }
    rt->buf = &b;
    jexec(rt, f, &d->body);
    rt->buf = outer;
    jleave(rt);
    return jbuf_str(rt, &b);
}

/* ---- global functions ---- */

struct jval jglobal(const struct jstr *name)
{
    static const char *const names[JF_COUNT] = {
        "range", "dict", "namespace", "cycler", "joiner", "raise_exception", "strftime_now",
        "lipsum",
    };

    for (uint16_t i = 0; i < JF_COUNT; i++)
        if (jstr_is(name, names[i]))
            return (struct jval){ .kind = J_FUNC, .id = i };
    return jv_absent();
}

static struct jval call_range(struct jrt *rt, const struct jargs *a)
{
    int64_t v[3] = { 0, 0, 1 };

    if (a->n_kw)
        jraise(rt, "range() takes no keyword arguments");
    if (a->n_pos < 1 || a->n_pos > 3)
        jraise(rt, "range expected 1 to 3 arguments, got %u", a->n_pos);
    for (uint32_t i = 0; i < a->n_pos; i++)
        v[i] = jneed_int(rt, a->pos[i], "a range argument");
    if (a->n_pos == 1) {
        v[1] = v[0];
        v[0] = 0;
    }
    if (v[2] == 0)
        jraise(rt, "range() arg 3 must not be zero");
    return jv_range(rt, v[0], v[1], v[2]);
}

/* dict(mapping or pairs, **kwargs); a namespace is made the same way. */
static struct jdict *call_dict(struct jrt *rt, const struct jargs *a, const char *what)
{
    struct jdict *d = jdict_new(rt, a->n_kw);
    struct jlist items, pair;

    if (a->n_pos > 1)
        jraise(rt, "%s expected at most 1 argument, got %u", what, a->n_pos);
    if (a->n_pos && a->pos[0].kind == J_UNDEF)
        jfail_undefined(rt, a->pos[0]);
    if (a->n_pos && (a->pos[0].kind == J_DICT || a->pos[0].kind == J_NS)) {
        const struct jdict *from = a->pos[0].u.dict;

        if (a->pos[0].kind == J_NS)
            jraise(rt, "'Namespace' object is not iterable");
        for (uint32_t i = 0; i < from->n; i++)
            jdict_set(rt, d, from->e[i].key, from->e[i].val);
    } else if (a->n_pos) {
        jiterate(rt, a->pos[0], &items);
        for (uint32_t i = 0; i < items.n; i++) {
            if (!jis_iterable(items.v[i]))
                jraise(rt, "cannot convert dictionary update sequence element to a sequence");
            jiterate(rt, items.v[i], &pair);
            if (pair.n != 2)
                jraise(rt, "dictionary update sequence element has length %u; 2 is required",
                       pair.n);
            jdict_set(rt, d, pair.v[0], pair.v[1]);
        }
    }
    for (uint32_t i = 0; i < a->n_kw; i++)
        jdict_set(rt, d, jv_str(a->names[i]), a->kw[i]);
    return d;
}

static struct jval call_cycler(struct jrt *rt, const struct jargs *a)
{
    struct jcycler *c = jalloc(rt, sizeof *c);

    if (a->n_kw)
        jraise(rt, "cycler() takes no keyword arguments");
    if (a->n_pos == 0)
        jraise(rt, "at least one item has to be provided");
    *c = (struct jcycler){ { a->pos, a->n_pos }, 0 };
    return (struct jval){ .kind = J_CYCLER, .u.cycler = c };
}

struct joiner { bool used; struct jval sep; };

static struct jval call_joiner(struct jrt *rt, const struct jargs *a)
{
    struct joiner *j = jalloc(rt, sizeof *j);
    struct jval p[JBIND_MAX];

    jbind(rt, "joiner()", "sep=?", a, p);
    j->used = false;
    j->sep = p[0].kind == J_ABSENT ? jv_strz(rt, ", ") : p[0];
    return (struct jval){ .kind = J_JOINER, .u.used = &j->used };
}

static struct jval use_joiner(struct jrt *rt, struct jval v, const struct jargs *a)
{
    struct joiner *j = (struct joiner *)(void *)v.u.used;   /* its first member */

    if (a->n_pos || a->n_kw)
        jraise(rt, "a joiner takes no arguments");
    if (j->used)
        return j->sep;
    j->used = true;
    return jv_strz(rt, "");
}

static NORETURN void raise_exception(struct jrt *rt, const struct jargs *a)
{
    struct jval p[JBIND_MAX];
    const struct jstr *s;

    jbind(rt, "raise_exception()", "message", a, p);
    s = jstr_of(rt, p[0]).u.s;
    jraise(rt, "%.*s", s->len > 400 ? 400 : (int)s->len, s->p);
}

static struct jval call_global(struct jrt *rt, unsigned id, const struct jargs *a)
{
    struct jval p[JBIND_MAX];

    switch ((enum jfunc)id) {
    case JF_RANGE:
        return call_range(rt, a);
    case JF_DICT:
        return (struct jval){ .kind = J_DICT, .u.dict = call_dict(rt, a, "dict") };
    case JF_NAMESPACE:
        return (struct jval){ .kind = J_NS, .u.dict = call_dict(rt, a, "namespace") };
    case JF_CYCLER:
        return call_cycler(rt, a);
    case JF_JOINER:
        return call_joiner(rt, a);
    case JF_RAISE:
        raise_exception(rt, a);
    case JF_STRFTIME:
        jbind(rt, "strftime_now()", "format", a, p);
        return jstrftime(rt, p[0]);
    default:
        jfail(rt, WATT_ENOTSUP, "lipsum() is random and not supported");
    }
}

/* ---- the loop variable's methods ---- */

struct jval jloop_method(struct jrt *rt, struct jloop *l, unsigned id, const struct jargs *a)
{
    struct jval now;

    if (a->n_kw)
        jraise(rt, "loop methods take no keyword arguments");
    if (strcmp(jmethod_name((uint16_t)id), "cycle") == 0) {
        if (a->n_pos == 0)
            jraise(rt, "no items for cycling given");
        return a->pos[l->index0 % a->n_pos];
    }
    now = jv_tuple(rt, a->pos, a->n_pos);        /* changed() */
    if (l->last_changed.kind != J_ABSENT && jequal(rt, l->last_changed, now))
        return jv_bool(false);
    l->last_changed = now;
    return jv_bool(true);
}

static struct jval call_loop(struct jrt *rt, struct jloop *l, const struct jargs *a)
{
    if (!l->node->flag)
        jraise(rt, "the loop must have the 'recursive' marker to be called recursively");
    if (a->n_pos != 1 || a->n_kw)
        jraise(rt, "loop() takes exactly one argument");
    if (a->pos[0].kind != J_UNDEF && !jis_iterable(a->pos[0]))
        jraise(rt, "'%s' object is not iterable", jtype_name(a->pos[0]));
    return jrecurse(rt, l->node, l->outer, a->pos[0], l->depth + 1);
}

struct jval jcall(struct jrt *rt, struct jval fn, const struct jargs *a)
{
    struct jval v;

    jcharge(rt, 1);
    switch ((enum jkind)fn.kind) {
    case J_UNDEF:
        jfail_undefined(rt, fn);
    case J_MACRO:
        return jcall_macro(rt, fn.u.macro, a);
    case J_FUNC:
        return call_global(rt, fn.id, a);
    case J_METHOD:
        jenter(rt);
        v = jmethod_call(rt, fn.u.method->self, fn.u.method->id, a);
        jleave(rt);
        return v;
    case J_LOOP:
        return call_loop(rt, fn.u.loop, a);
    case J_JOINER:
        return use_joiner(rt, fn, a);
    default:
        jraise(rt, "'%s' object is not callable", jtype_name(fn));
    }
}
