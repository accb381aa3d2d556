/* jinja_exec.c: statements and output. */
#include <string.h>

#include "models/jinja_run.h"

void joutput(struct jrt *rt, const char *p, size_t n)
{
    jcharge(rt, n / 64);
    if (rt->buf) {
        jbuf_put(rt, rt->buf, p, n);
        return;
    }
    if (n > rt->out_max - (rt->out->len - rt->out_start))
        jfail(rt, WATT_ELIMIT, "the text is longer than %zu bytes", rt->out_max);
    if (!str_reserve(rt->out, n)) {
        const bool full = n > rt->out->max || rt->out->len > rt->out->max - n;

        jfail(rt, full ? WATT_ELIMIT : WATT_ENOMEM, "no room for the text");
    }
    str_append(rt->out, p, n);
}

static void output_value(struct jrt *rt, struct jval v)
{
    if (v.kind != J_STR)
        v = jstr_of(rt, v);
    joutput(rt, v.u.s->p, v.u.s->len);
}

/* What a filter block or a call block gives must be text: Jinja2 joins it as it
 * is, unlike what stands between {{ and }}. */
static void output_text(struct jrt *rt, struct jval v)
{
    if (v.kind != J_STR)
        jraise(rt, "expected str instance, %s found", jtype_name(v));
    joutput(rt, v.u.s->p, v.u.s->len);
}

/* The text of a body, not output. */
static struct jval capture(struct jrt *rt, struct jframe *f, const struct jnodes *body,
                           enum jflow *flow)
{
    struct jbuf *outer = rt->buf, b = { 0 };

    rt->buf = &b;
    *flow = jexec(rt, f, body);
    rt->buf = outer;
    return jbuf_str(rt, &b);
}

static enum jflow exec_turns(struct jrt *rt, struct jframe *f, const struct jnode *n,
                             struct jloop *l)
{
    const struct jfor *loop = n->u.loop;
    bool any = false;

    while (jloop_next(rt, l)) {
        enum jflow flow;

        jassign(rt, f, loop->target, l->current);
        f->slots[loop->loop_slot] = (struct jval){ .kind = J_LOOP, .u.loop = l };
        jenter_scope(rt, f, &loop->scope);
        jcharge(rt, 1);
        flow = jexec(rt, f, &loop->body);
        if (flow == F_BREAK)
            break;
        /* Jinja2 notes a turn at its end only: when continue or break cut all of
         * them short, else runs. */
        any |= flow == F_NEXT;
        rt->line = n->line;
    }
    if (!any && loop->other.n) {
        jenter_scope(rt, f, &loop->else_scope);
        return jexec(rt, f, &loop->other);
    }
    return F_NEXT;
}

struct jval jrecurse(struct jrt *rt, const struct jnode *n, struct jframe *outer,
                     struct jval iterable, uint32_t depth)
{
    struct jframe *f = jframe_new(rt, outer, n->u.loop->n_slots);
    struct jbuf *outer_buf = rt->buf, b = { 0 };
    struct jloop *l;

    jenter(rt);
    l = jloop_open(rt, n, iterable, f);
    l->depth = depth;
    l->outer = outer;
    rt->buf = &b;
    exec_turns(rt, f, n, l);
    rt->buf = outer_buf;
    jleave(rt);
    return jbuf_str(rt, &b);
}

static enum jflow exec_for(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    const struct jval iterable = jeval(rt, f, n->u.loop->iter);

    rt->line = n->line;
    if (iterable.kind != J_UNDEF && !jis_iterable(iterable))
        jraise(rt, "'%s' object is not iterable", jtype_name(iterable));
    if (n->flag) {
        output_value(rt, jrecurse(rt, n, f, iterable, 0));
        return F_NEXT;
    }
    return exec_turns(rt, f, n, jloop_open(rt, n, iterable, f));
}

static enum jflow exec_if(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    for (uint32_t i = 0; i < n->u.branch.tests.n; i++)
        if (jtruth(rt, jeval(rt, f, n->u.branch.tests.v[i])))
            return jexec(rt, f, &n->u.branch.bodies[i]);
    return jexec(rt, f, &n->u.branch.other);
}

/* A filter chain over a block's text: the innermost has no input of its own. */
static struct jval filter_block(struct jrt *rt, struct jframe *f, const struct jnode *n,
                                struct jval text)
{
    const struct jval in = n->u.filter.in ? filter_block(rt, f, n->u.filter.in, text) : text;
    const struct jargs a = jeval_args(rt, f, n->u.filter.args, false, jv_none());

    rt->line = n->line;
    if (!n->u.filter.filter)
        jraise(rt, "no filter named '%.*s' found", (int)n->u.filter.name->len,
               n->u.filter.name->p);
    return jfilter_call(rt, n->u.filter.filter, in, &a);
}

static enum jflow exec_block(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    enum jflow flow;
    struct jval text;

    jenter_scope(rt, f, &n->u.block.scope);
    text = capture(rt, f, &n->u.block.body, &flow);
    if (flow != F_NEXT)
        return flow;                     /* the text is dropped, as in Python */
    if (n->u.block.filter)
        text = filter_block(rt, f, n->u.block.filter, text);
    if (n->op == N_SETBLOCK)
        jassign(rt, f, n->u.block.target, text);
    else
        output_text(rt, text);
    return F_NEXT;
}

static struct jval macro_value(struct jrt *rt, struct jframe *f, const struct jmacro_def *def)
{
    struct jmacro *m = jalloc(rt, sizeof *m);

    *m = (struct jmacro){ def, f };
    return (struct jval){ .kind = J_MACRO, .u.macro = m };
}

static void exec_callblock(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    const struct jval caller = macro_value(rt, f, n->u.macro.def);
    const struct jnode *call = n->u.macro.call;
    struct jval fn;
    struct jargs a;

    if (!call) {                         /* {% generation %} */
        a = (struct jargs){ 0 };
        output_value(rt, jcall(rt, caller, &a));
        return;
    }
    fn = jeval(rt, f, call->u.call.fn);
    a = jeval_args(rt, f, call->u.call.args, true, caller);
    rt->line = n->line;
    output_text(rt, jcall(rt, fn, &a));
}

static enum jflow exec_with(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    jenter_scope(rt, f, &n->u.with.scope);
    for (uint32_t i = 0; i < n->u.with.targets.n; i++)
        jassign(rt, f, n->u.with.targets.v[i], jeval(rt, f, n->u.with.values.v[i]));
    return jexec(rt, f, &n->u.with.body);
}

static enum jflow exec_one(struct jrt *rt, struct jframe *f, const struct jnode *n)
{
    jcharge(rt, 1);
    switch ((enum jop)n->op) {
    case N_DATA:
        joutput(rt, n->u.value.u.s->p, n->u.value.u.s->len);
        return F_NEXT;
    case N_OUTPUT:
        for (uint32_t i = 0; i < n->u.list.n; i++) {
            const struct jval v = jeval(rt, f, n->u.list.v[i]);

            rt->line = n->line;
            output_value(rt, v);
        }
        return F_NEXT;
    case N_IF:
        return exec_if(rt, f, n);
    case N_FOR:
        return exec_for(rt, f, n);
    case N_SET:
        jassign(rt, f, n->u.set.target, jeval(rt, f, n->u.set.value));
        return F_NEXT;
    case N_SETBLOCK:
    case N_FILTERBLOCK:
        return exec_block(rt, f, n);
    case N_MACRO:
        jassign(rt, f, n->u.macro.target, macro_value(rt, f, n->u.macro.def));
        return F_NEXT;
    case N_CALLBLOCK:
        exec_callblock(rt, f, n);
        return F_NEXT;
    case N_WITH:
        return exec_with(rt, f, n);
    case N_BREAK:
        return F_BREAK;
    case N_CONTINUE:
        return F_CONTINUE;
    default:
        jraise(rt, "an expression stands where a statement should");
    }
}

enum jflow jexec(struct jrt *rt, struct jframe *f, const struct jnodes *body)
{
    enum jflow flow = F_NEXT;

    jenter(rt);
    for (uint32_t i = 0; i < body->n && flow == F_NEXT; i++)
        flow = exec_one(rt, f, body->v[i]);
    jleave(rt);
    return flow;
}
