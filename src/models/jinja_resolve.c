/* jinja_resolve.c: gives every name its slot, by the rules that Jinja2's compiler
 * applies (idtracking.Symbols). A scope knows the names it refers to, what each
 * starts as when the scope is entered (unset, a copy of an outer variable, looked
 * up in the context), and which it stores. A name stored in some branches of an
 * if only starts as what lies outside, so that the other branches still see it.
 *
 * For each scope its statements are first analysed (visit) and then compiled
 * (compile), since later statements influence how earlier names start. */
#include <string.h>

#include "models/jinja_ast.h"
#include "models/jinja_run.h"

struct function { uint16_t depth; uint32_t n_slots; };

struct symbol {
    struct jstr *name;
    uint32_t slot;
    bool     in_refs, stored;
    uint8_t  how;            /* enum jload */
    uint16_t hops;           /* L_ALIAS */
    uint32_t from;
    uint32_t count;          /* branches that store it, while merging */
};

struct change { uint32_t at; struct symbol old; };

struct symbols {
    struct symbols  *parent;
    struct function *fn;
    struct symbol   *v;
    uint32_t         n, cap;
    struct jdict    *map;    /* name: index into v */
    struct change   *log;    /* while branches are open: what to undo */
    uint32_t         n_log, cap_log, open_branches;
};

struct branch { struct symbol *v; uint32_t *at; uint32_t n; };

struct resolver {
    struct jrt *rt;
    struct jdict *names;     /* all variables mentioned */
};

static void visit(struct resolver *r, struct symbols *s, const struct jnode *n);
static void compile(struct resolver *r, struct symbols *s, struct jnode *n, bool soft);

/* ---- symbols ---- */

static struct symbols *symbols_new(struct resolver *r, struct symbols *parent,
                                   struct function *fn)
{
    struct symbols *s = jalloc(r->rt, sizeof *s);

    *s = (struct symbols){ .parent = parent, .fn = fn, .map = jdict_new(r->rt, 4) };
    return s;
}

static struct function *function_new(struct resolver *r, const struct symbols *outer)
{
    struct function *fn = jalloc(r->rt, sizeof *fn);

    *fn = (struct function){ .depth = (uint16_t)(outer->fn->depth + 1) };
    return fn;
}

static struct symbol *find_own(struct resolver *r, struct symbols *s, const struct jstr *name)
{
    const struct jval *at = jdict_get_str(r->rt, s->map, name);

    return at ? &s->v[at->u.i] : NULL;
}

/* The symbol that a name refers to, and where. NULL: nowhere. */
static struct symbol *find_ref(struct resolver *r, struct symbols *s, const struct jstr *name,
                               struct symbols **owner)
{
    for (; s; s = s->parent) {
        struct symbol *y = find_own(r, s, name);

        jcharge(r->rt, 1);
        if (y && y->in_refs) {
            *owner = s;
            return y;
        }
    }
    return NULL;
}

static void log_change(struct resolver *r, struct symbols *s, uint32_t at)
{
    if (!s->open_branches)
        return;
    if (s->n_log == s->cap_log) {
        const uint32_t cap = s->cap_log ? s->cap_log * 2 : 16;
        struct change *grown = jalloc_array(r->rt, cap, sizeof *grown);

        if (s->n_log)
            memcpy(grown, s->log, s->n_log * sizeof *grown);
        s->log = grown;
        s->cap_log = cap;
    }
    s->log[s->n_log++] = (struct change){ at, s->v[at] };
}

/* The own symbol of that name, made if need be, ready to be changed. */
static struct symbol *touch(struct resolver *r, struct symbols *s, struct jstr *name)
{
    struct symbol *y = find_own(r, s, name);

    if (!y) {
        if (s->n == s->cap) {
            const uint32_t cap = s->cap ? s->cap * 2 : 8;
            struct symbol *grown = jalloc_array(r->rt, cap, sizeof *grown);

            if (s->n)
                memcpy(grown, s->v, s->n * sizeof *grown);
            s->v = grown;
            s->cap = cap;
        }
        y = &s->v[s->n];
        *y = (struct symbol){ .name = name, .slot = s->fn->n_slots++ };
        jdict_set(r->rt, s->map, jv_str(name), jv_int(s->n++));
    }
    log_change(r, s, (uint32_t)(y - s->v));
    return y;
}

static void alias_or(struct resolver *r, struct symbols *s, struct symbol *y, enum jload how)
{
    struct symbols *owner;
    const struct symbol *outer = find_ref(r, s->parent, y->name, &owner);

    y->how = (uint8_t)(outer ? L_ALIAS : how);
    if (outer) {
        y->hops = (uint16_t)(s->fn->depth - owner->fn->depth);
        y->from = outer->slot;
    }
}

static void declare_parameter(struct resolver *r, struct symbols *s, struct jstr *name)
{
    struct symbol *y = touch(r, s, name);

    y->in_refs = y->stored = true;
    y->how = L_PARAM;
}

static void store(struct resolver *r, struct symbols *s, struct jstr *name)
{
    struct symbol *y = touch(r, s, name);

    y->stored = true;
    if (!y->in_refs) {
        y->in_refs = true;
        alias_or(r, s, y, L_UNDEF);
    }
}

static void load(struct resolver *r, struct symbols *s, struct jstr *name)
{
    struct symbols *owner;
    struct symbol *y;

    if (find_ref(r, s, name, &owner))
        return;
    y = touch(r, s, name);
    y->in_refs = true;
    y->how = L_RESOLVE;
}

static struct jscope scope_of(struct resolver *r, const struct symbols *s)
{
    struct jscope out = { jalloc_array(r->rt, s->n, sizeof *out.v), 0 };

    for (uint32_t i = 0; i < s->n; i++) {
        const struct symbol *y = &s->v[i];

        if (y->in_refs && y->how != L_PARAM)
            out.v[out.n++] = (struct jslot_init){ y->how, y->hops, y->slot, y->from, y->name };
    }
    return out;
}

/* ---- branches ---- */

static uint32_t branch_begin(struct symbols *s)
{
    s->open_branches++;
    return s->n_log;
}

/* Takes back what happened since `mark` and returns it. */
static struct branch branch_end(struct resolver *r, struct symbols *s, uint32_t mark)
{
    const uint32_t n = s->n_log - mark;
    struct branch b = { jalloc_array(r->rt, n, sizeof *b.v),
                        jalloc_array(r->rt, n, sizeof *b.at), 0 };

    jcharge(r->rt, n);
    for (uint32_t i = s->n_log; i-- > mark;) {
        const uint32_t at = s->log[i].at;

        /* count marks what was seen; the old state restores it to 0 */
        if (s->v[at].count == 0) {
            b.v[b.n] = s->v[at];
            b.at[b.n++] = at;
        }
        s->v[at] = s->log[i].old;
        s->v[at].count = 1;
    }
    for (uint32_t i = 0; i < b.n; i++)
        s->v[b.at[i]].count = 0;
    s->n_log = mark;
    s->open_branches--;
    return b;
}

static void branch_update(struct resolver *r, struct symbols *s, const struct branch b[3])
{
    for (int k = 0; k < 3; k++)
        for (uint32_t i = 0; i < b[k].n; i++)
            if (b[k].v[i].stored && !s->v[b[k].at[i]].stored)
                s->v[b[k].at[i]].count++;
    for (int k = 0; k < 3; k++) {
        for (uint32_t i = 0; i < b[k].n; i++) {
            const uint32_t at = b[k].at[i], count = s->v[at].count;
            const bool stored = s->v[at].stored, in_refs = s->v[at].in_refs;

            s->v[at].count = 0;
            log_change(r, s, at);
            s->v[at] = b[k].v[i];
            s->v[at].stored |= stored;
            s->v[at].in_refs |= in_refs;
            s->v[at].count = count;
        }
    }
    for (int k = 0; k < 3; k++) {
        for (uint32_t i = 0; i < b[k].n; i++) {
            struct symbol *y = &s->v[b[k].at[i]];

            if (y->count != 0 && y->count != 3)
                alias_or(r, s, y, L_RESOLVE);
            y->count = 0;
        }
    }
}

static void visit_all(struct resolver *r, struct symbols *s, const struct jnodes *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        visit(r, s, l->v[i]);
}

static void visit_if(struct resolver *r, struct symbols *s, const struct jnode *n, uint32_t i)
{
    const struct jnodes *tests = &n->u.branch.tests;
    struct branch b[3] = { { 0 }, { 0 }, { 0 } };
    uint32_t mark;

    visit(r, s, tests->v[i]);
    mark = branch_begin(s);
    visit_all(r, s, &n->u.branch.bodies[i]);
    b[0] = branch_end(r, s, mark);
    if (i == 0) {
        mark = branch_begin(s);
        for (uint32_t k = 1; k < tests->n; k++)
            visit_if(r, s, n, k);
        b[1] = branch_end(r, s, mark);
        mark = branch_begin(s);
        visit_all(r, s, &n->u.branch.other);
        b[2] = branch_end(r, s, mark);
    }
    branch_update(r, s, b);
}

/* ---- analysis: which names a scope refers to and stores ---- */

static void visit_args(struct resolver *r, struct symbols *s, const struct jcall_args *a)
{
    visit_all(r, s, &a->pos);
    visit_all(r, s, &a->kw);
    visit(r, s, a->dyn_pos);
    visit(r, s, a->dyn_kw);
}

static void visit_target(struct resolver *r, struct symbols *s, const struct jnode *n, bool param)
{
    if (n->op == N_TUPLE)
        for (uint32_t i = 0; i < n->u.list.n; i++)
            visit_target(r, s, n->u.list.v[i], param);
    else if (n->op == N_NSREF)
        load(r, s, n->u.nsref.ns->u.name.id);
    else if (param)
        declare_parameter(r, s, n->u.name.id);
    else
        store(r, s, n->u.name.id);
}

static void visit(struct resolver *r, struct symbols *s, const struct jnode *n)
{
    if (!n)
        return;
    jcharge(r->rt, 1);
    switch ((enum jop)n->op) {
    case N_CONST: case N_DATA: case N_BREAK: case N_CONTINUE: case N_NSREF:
        return;
    case N_NAME:
        load(r, s, n->u.name.id);
        return;
    case N_TUPLE: case N_LIST: case N_CONCAT: case N_OUTPUT:
        visit_all(r, s, &n->u.list);
        return;
    case N_DICT:
        visit_all(r, s, &n->u.dict.keys);
        visit_all(r, s, &n->u.dict.vals);
        return;
    case N_COMPARE:
        visit(r, s, n->u.compare.first);
        visit_all(r, s, &n->u.compare.rest);
        return;
    case N_COND:
        visit(r, s, n->u.cond.test);
        visit(r, s, n->u.cond.yes);
        visit(r, s, n->u.cond.no);
        return;
    case N_GETATTR:
        visit(r, s, n->u.getattr.obj);
        return;
    case N_GETITEM:
        visit(r, s, n->u.getitem.obj);
        visit(r, s, n->u.getitem.key);
        return;
    case N_SLICE:
        visit(r, s, n->u.slice.start);
        visit(r, s, n->u.slice.stop);
        visit(r, s, n->u.slice.step);
        return;
    case N_CALL:
        visit(r, s, n->u.call.fn);
        visit_args(r, s, n->u.call.args);
        return;
    case N_FILTER: case N_TEST:
        visit(r, s, n->u.filter.in);
        visit_args(r, s, n->u.filter.args);
        return;
    case N_IF:
        visit_if(r, s, n, 0);
        return;
    case N_FOR:
        visit(r, s, n->u.loop->iter);
        return;
    case N_SET:
        visit(r, s, n->u.set.value);
        visit_target(r, s, n->u.set.target, false);
        return;
    case N_SETBLOCK:
        visit_target(r, s, n->u.block.target, false);
        return;
    case N_MACRO:
        store(r, s, n->u.macro.target->u.name.id);
        return;
    case N_CALLBLOCK:
        visit(r, s, n->u.macro.call);
        return;
    case N_FILTERBLOCK:
        visit(r, s, n->u.block.filter);
        return;
    case N_WITH:
        visit_all(r, s, &n->u.with.values);
        return;
    default:                             /* operators */
        visit(r, s, n->u.bin.l);
        visit(r, s, n->u.bin.r);
    }
}

/* ---- which of caller, kwargs, varargs a macro's body uses as given names ---- */

struct special { bool open[3], used[3]; };
static const char *const special_names[3] = { "caller", "kwargs", "varargs" };

static void special_name(struct special *p, const struct jstr *id, bool is_load)
{
    for (int i = 0; i < 3; i++) {
        if (!p->open[i] || !jstr_is(id, special_names[i]))
            continue;
        if (is_load)
            p->used[i] = true;
        else
            p->open[i] = false;
    }
}

static void special_in(struct resolver *r, struct special *p, const struct jnode *n);

static void special_all(struct resolver *r, struct special *p, const struct jnodes *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        special_in(r, p, l->v[i]);
}

static void special_args(struct resolver *r, struct special *p, const struct jcall_args *a)
{
    special_all(r, p, &a->pos);
    special_all(r, p, &a->kw);
    special_in(r, p, a->dyn_pos);
    special_in(r, p, a->dyn_kw);
}

static void special_function(struct resolver *r, struct special *p, const struct jmacro_def *d)
{
    special_all(r, p, &d->params);
    special_all(r, p, &d->defaults);
    special_all(r, p, &d->body);
}

static void special_in(struct resolver *r, struct special *p, const struct jnode *n)
{
    if (!n)
        return;
    jcharge(r->rt, 1);
    switch ((enum jop)n->op) {
    case N_CONST: case N_DATA: case N_BREAK: case N_CONTINUE: case N_NSREF:
        return;
    case N_NAME:
        special_name(p, n->u.name.id, !n->flag);
        return;
    case N_TUPLE: case N_LIST: case N_CONCAT: case N_OUTPUT:
        special_all(r, p, &n->u.list);
        return;
    case N_DICT:
        special_all(r, p, &n->u.dict.keys);
        special_all(r, p, &n->u.dict.vals);
        return;
    case N_COMPARE:
        special_in(r, p, n->u.compare.first);
        special_all(r, p, &n->u.compare.rest);
        return;
    case N_COND:
        special_in(r, p, n->u.cond.test);
        special_in(r, p, n->u.cond.yes);
        special_in(r, p, n->u.cond.no);
        return;
    case N_GETATTR:
        special_in(r, p, n->u.getattr.obj);
        return;
    case N_GETITEM:
        special_in(r, p, n->u.getitem.obj);
        special_in(r, p, n->u.getitem.key);
        return;
    case N_SLICE:
        special_in(r, p, n->u.slice.start);
        special_in(r, p, n->u.slice.stop);
        special_in(r, p, n->u.slice.step);
        return;
    case N_CALL:
        special_in(r, p, n->u.call.fn);
        special_args(r, p, n->u.call.args);
        return;
    case N_FILTER: case N_TEST:
        special_in(r, p, n->u.filter.in);
        special_args(r, p, n->u.filter.args);
        return;
    case N_IF:
        for (uint32_t i = 0; i < n->u.branch.tests.n; i++) {
            special_in(r, p, n->u.branch.tests.v[i]);
            special_all(r, p, &n->u.branch.bodies[i]);
        }
        special_all(r, p, &n->u.branch.other);
        return;
    case N_FOR:
        special_in(r, p, n->u.loop->target);
        special_in(r, p, n->u.loop->iter);
        special_all(r, p, &n->u.loop->body);
        special_all(r, p, &n->u.loop->other);
        special_in(r, p, n->u.loop->test);
        return;
    case N_SET:
        special_in(r, p, n->u.set.target);
        special_in(r, p, n->u.set.value);
        return;
    case N_SETBLOCK: case N_FILTERBLOCK:
        special_in(r, p, n->u.block.target);
        special_in(r, p, n->u.block.filter);
        special_all(r, p, &n->u.block.body);
        return;
    case N_MACRO:
        special_function(r, p, n->u.macro.def);
        return;
    case N_CALLBLOCK:
        special_in(r, p, n->u.macro.call);
        special_function(r, p, n->u.macro.def);
        return;
    case N_WITH:
        special_all(r, p, &n->u.with.targets);
        special_all(r, p, &n->u.with.values);
        special_all(r, p, &n->u.with.body);
        return;
    default:
        special_in(r, p, n->u.bin.l);
        special_in(r, p, n->u.bin.r);
    }
}

/* ---- compiling: every name gets its place ---- */

static void compile_all(struct resolver *r, struct symbols *s, struct jnodes *l, bool soft)
{
    for (uint32_t i = 0; i < l->n; i++)
        compile(r, s, l->v[i], soft);
}

static void compile_args(struct resolver *r, struct symbols *s, struct jcall_args *a, bool soft)
{
    compile_all(r, s, &a->pos, soft);
    compile_all(r, s, &a->kw, soft);
    compile(r, s, a->dyn_pos, soft);
    compile(r, s, a->dyn_kw, soft);
}

static void compile_name(struct resolver *r, struct symbols *s, struct jnode *n)
{
    struct symbols *owner = s;
    const struct symbol *y = find_ref(r, s, n->u.name.id, &owner);

    if (!y) {                            /* seen nowhere: from the context */
        load(r, s, n->u.name.id);
        y = find_ref(r, s, n->u.name.id, &owner);
    }
    n->u.name.hops = (uint16_t)(s->fn->depth - owner->fn->depth);
    n->u.name.slot = y->slot;
    if (!n->flag)
        jdict_set(r->rt, r->names, jv_str(n->u.name.id), jv_none());
}

static uint32_t slot_of(struct resolver *r, struct symbols *s, struct jstr *name)
{
    return find_own(r, s, name)->slot;
}

static void compile_function(struct resolver *r, struct symbols *outer, struct jnode *n)
{
    struct jmacro_def *d = n->u.macro.def;
    struct function *fn = function_new(r, outer);
    struct symbols *m = symbols_new(r, outer, fn);
    struct special special = { { true, true, true }, { false, false, false } };
    uint32_t explicit_caller = UINT32_MAX;
    bool *const wants[3] = { &d->wants_caller, &d->wants_kwargs, &d->wants_varargs };
    uint32_t *const slots[3] = { &d->caller_slot, &d->kwargs_slot, &d->varargs_slot };

    for (uint32_t i = 0; i < d->params.n; i++)
        declare_parameter(r, m, d->params.v[i]->u.name.id);
    visit_all(r, m, &d->defaults);
    visit_all(r, m, &d->body);
    special_all(r, &special, &d->body);
    for (uint32_t i = 0; i < d->params.n; i++) {
        const struct jstr *id = d->params.v[i]->u.name.id;

        if (jstr_is(id, "caller"))
            explicit_caller = i;
        for (int k = 1; k < 3; k++)
            if (jstr_is(id, special_names[k]))
                special.used[k] = false;
    }
    d->explicit_caller = explicit_caller != UINT32_MAX;
    if (special.used[0] && d->explicit_caller) {
        if (explicit_caller + d->defaults.n < d->params.n) {
            r->rt->line = n->line;
            jfail(r->rt, WATT_EFORMAT, "the special 'caller' argument must be omitted or be "
                  "given a default");
        }
        special.used[0] = false;
        d->wants_caller = false;
    }
    for (int k = 0; k < 3; k++) {
        struct jstr *name;

        if (!special.used[k])
            continue;
        name = jstr_view(r->rt, special_names[k], strlen(special_names[k]));
        declare_parameter(r, m, name);
        *wants[k] = true;
        *slots[k] = slot_of(r, m, name);
    }
    compile_all(r, m, &d->params, false);
    compile_all(r, m, &d->defaults, false);
    compile_all(r, m, &d->body, false);
    d->scope = scope_of(r, m);
    d->n_slots = fn->n_slots;
}

static struct jnode *clone_target(struct resolver *r, const struct jnode *n)
{
    struct jnode *c = jalloc(r->rt, sizeof *c);

    *c = *n;
    if (n->op == N_TUPLE) {
        c->u.list.v = jalloc_array(r->rt, n->u.list.n, sizeof *c->u.list.v);
        for (uint32_t i = 0; i < n->u.list.n; i++)
            c->u.list.v[i] = clone_target(r, n->u.list.v[i]);
    }
    return c;
}

static void compile_for(struct resolver *r, struct symbols *s, struct jnode *n, bool soft)
{
    struct jfor *f = n->u.loop;
    struct function *fn = n->flag ? function_new(r, s) : s->fn;
    struct symbols *body = symbols_new(r, s, fn), *other = symbols_new(r, s, fn), *test;
    struct jstr *loop = jstr_view(r->rt, "loop", 4);

    jstr_chars(loop);
    compile(r, s, f->iter, soft);
    declare_parameter(r, body, loop);
    f->loop_slot = slot_of(r, body, loop);
    visit_target(r, body, f->target, true);
    visit_all(r, body, &f->body);
    visit_all(r, other, &f->other);
    if (f->test) {
        test = symbols_new(r, s, fn);
        f->test_target = clone_target(r, f->target);
        visit_target(r, test, f->test_target, true);
        visit(r, test, f->test);
        compile(r, test, f->test_target, false);
        compile(r, test, f->test, false);
        f->test_scope = scope_of(r, test);
    }
    compile(r, body, f->target, false);
    compile_all(r, body, &f->body, false);
    compile_all(r, other, &f->other, false);
    f->scope = scope_of(r, body);
    f->else_scope = scope_of(r, other);
    f->n_slots = fn->n_slots;
}

static void compile_block(struct resolver *r, struct symbols *s, struct jnode *n)
{
    struct symbols *b = symbols_new(r, s, s->fn);

    if (n->u.block.filter)
        visit(r, b, n->u.block.filter);
    visit_all(r, b, &n->u.block.body);
    compile(r, b, n->u.block.filter, false);
    compile_all(r, b, &n->u.block.body, false);
    compile(r, s, n->u.block.target, false);
    n->u.block.scope = scope_of(r, b);
}

static void compile_with(struct resolver *r, struct symbols *s, struct jnode *n, bool soft)
{
    struct symbols *w = symbols_new(r, s, s->fn);

    for (uint32_t i = 0; i < n->u.with.targets.n; i++)
        visit_target(r, w, n->u.with.targets.v[i], true);
    visit_all(r, w, &n->u.with.body);
    compile_all(r, s, &n->u.with.values, soft);
    compile_all(r, w, &n->u.with.targets, false);
    compile_all(r, w, &n->u.with.body, false);
    n->u.with.scope = scope_of(r, w);
}

static void compile_filter(struct resolver *r, struct symbols *s, struct jnode *n, bool soft)
{
    const bool known = n->op == N_FILTER ? n->u.filter.filter != NULL : n->u.filter.test != NULL;

    if (!known && !soft) {
        r->rt->line = n->line;
        jfail(r->rt, WATT_EFORMAT, "no %s named '%.*s'", n->op == N_FILTER ? "filter" : "test",
              (int)n->u.filter.name->len, n->u.filter.name->p);
    }
    compile(r, s, n->u.filter.in, soft);
    compile_args(r, s, n->u.filter.args, soft);
}

static void compile(struct resolver *r, struct symbols *s, struct jnode *n, bool soft)
{
    if (!n)
        return;
    jcharge(r->rt, 1);
    switch ((enum jop)n->op) {
    case N_CONST: case N_DATA: case N_BREAK: case N_CONTINUE:
        return;
    case N_NAME:
        compile_name(r, s, n);
        return;
    case N_NSREF:
        compile(r, s, n->u.nsref.ns, soft);
        return;
    case N_TUPLE: case N_LIST: case N_CONCAT: case N_OUTPUT:
        compile_all(r, s, &n->u.list, soft);
        return;
    case N_DICT:
        compile_all(r, s, &n->u.dict.keys, soft);
        compile_all(r, s, &n->u.dict.vals, soft);
        return;
    case N_COMPARE:
        compile(r, s, n->u.compare.first, soft);
        compile_all(r, s, &n->u.compare.rest, soft);
        return;
    case N_COND:
        compile(r, s, n->u.cond.test, true);
        compile(r, s, n->u.cond.yes, true);
        compile(r, s, n->u.cond.no, true);
        return;
    case N_GETATTR:
        compile(r, s, n->u.getattr.obj, soft);
        return;
    case N_GETITEM:
        compile(r, s, n->u.getitem.obj, soft);
        compile(r, s, n->u.getitem.key, soft);
        return;
    case N_SLICE:
        compile(r, s, n->u.slice.start, soft);
        compile(r, s, n->u.slice.stop, soft);
        compile(r, s, n->u.slice.step, soft);
        return;
    case N_CALL:
        compile(r, s, n->u.call.fn, soft);
        compile_args(r, s, n->u.call.args, soft);
        return;
    case N_FILTER: case N_TEST:
        compile_filter(r, s, n, soft);
        return;
    case N_IF:
        for (uint32_t i = 0; i < n->u.branch.tests.n; i++) {
            compile(r, s, n->u.branch.tests.v[i], true);
            compile_all(r, s, &n->u.branch.bodies[i], true);
        }
        compile_all(r, s, &n->u.branch.other, true);
        return;
    case N_FOR:
        compile_for(r, s, n, soft);
        return;
    case N_SET:
        compile(r, s, n->u.set.value, soft);
        compile(r, s, n->u.set.target, soft);
        return;
    case N_SETBLOCK: case N_FILTERBLOCK:
        compile_block(r, s, n);
        return;
    case N_MACRO:
        compile_function(r, s, n);
        compile(r, s, n->u.macro.target, soft);
        return;
    case N_CALLBLOCK:
        compile_function(r, s, n);
        compile(r, s, n->u.macro.call, soft);
        return;
    case N_WITH:
        compile_with(r, s, n, soft);
        return;
    default:
        compile(r, s, n->u.bin.l, soft);
        compile(r, s, n->u.bin.r, soft);
    }
}

void jresolve(struct jrt *rt, struct template *t)
{
    struct resolver r = { rt, jdict_new(rt, 32) };
    struct function root = { 0, 0 };
    struct symbols *s = symbols_new(&r, NULL, &root);

    visit_all(&r, s, &t->body);
    compile_all(&r, s, &t->body, false);
    t->scope = scope_of(&r, s);
    t->n_slots = root.n_slots;
    t->names.n = r.names->n;
    t->names.v = jalloc_array(rt, r.names->n, sizeof *t->names.v);
    for (uint32_t i = 0; i < r.names->n; i++)
        t->names.v[i] = r.names->e[i].key.u.s;
}
