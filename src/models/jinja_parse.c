/* jinja_parse.c: statements into nodes, by the grammar of Jinja2's parser. */
#include <string.h>

#include "models/jinja_parser.h"

static struct jnodes subparse(struct parser *p, const char *const *ends);

/* ---- tools ---- */

/* The body up to one of the named tags, which is left current. */
static struct jnodes statements(struct parser *p, const char *const *ends)
{
    struct jnodes body;

    jp_skip(p, T_COLON);
    jp_expect(p, T_BLOCK_END);
    jp_deeper(p);
    body = subparse(p, ends);
    p->depth--;
    if (p->tok->type == T_EOF) {
        p->rt->line = p->tok->line;
        jfail(p->rt, WATT_EFORMAT, "unexpected end of template, looking for '%s'", ends[0]);
    }
    return body;
}

static struct jnodes statements_to(struct parser *p, const char *end)
{
    const char *const ends[] = { end, NULL };
    const struct jnodes body = statements(p, ends);

    jp_next(p);
    return body;
}

/* Makes the names of a target stores; anything else cannot be assigned to. */
static void make_target(struct parser *p, struct jnode *n)
{
    if (n->op == N_NAME) {
        n->flag = true;
        return;
    }
    if (n->op != N_TUPLE)
        jp_bad(p, n->line, "can't assign to this expression");
    for (uint32_t i = 0; i < n->u.list.n; i++)
        make_target(p, n->u.list.v[i]);
}

static struct jnode *name_target(struct parser *p)
{
    struct jtoken *t = jp_expect(p, T_NAME);

    if (jstr_is(t->u.s, "true") || jstr_is(t->u.s, "false") || jstr_is(t->u.s, "none") ||
        jstr_is(t->u.s, "True") || jstr_is(t->u.s, "False") || jstr_is(t->u.s, "None"))
        jp_bad(p, t->line, "can't assign to a constant");
    return jp_name(p, t->line, t->u.s, true);
}

static struct jnode *target(struct parser *p, const char *end_name, bool with_namespace)
{
    struct jnode *n;

    if (with_namespace && jp_peek(p)->type == T_DOT) {
        struct jtoken *t = jp_expect(p, T_NAME);

        n = jp_node(p, N_NSREF, t->line);
        n->u.nsref.ns = jp_name(p, t->line, t->u.s, false);
        jp_next(p);
        n->u.nsref.attr = jp_expect(p, T_NAME)->u.s;
        jstr_chars(n->u.nsref.attr);
        return n;
    }
    n = jp_tuple(p, true, true, end_name, false);
    make_target(p, n);
    return n;
}

/* ---- statements ---- */

/* Inside a loop nothing may be stored to `loop`, not even deep down. */
static void no_loop_target(struct parser *p, const struct jnode *n)
{
    if (p->fors > 0 && n->op == N_NAME && jstr_is(n->u.name.id, "loop"))
        jp_bad(p, n->line, "can't assign to special loop variable in for-loop target");
    if (n->op == N_TUPLE)
        for (uint32_t i = 0; i < n->u.list.n; i++)
            no_loop_target(p, n->u.list.v[i]);
}

static struct jnode *parse_set(struct parser *p, uint32_t line)
{
    struct jnode *to = target(p, NULL, true), *n;

    no_loop_target(p, to);
    if (jp_skip(p, T_ASSIGN)) {
        n = jp_node(p, N_SET, line);
        n->u.set.target = to;
        n->u.set.value = jp_tuple(p, false, true, NULL, false);
        jp_over(p, n, n->u.set.value);
        return n;
    }
    n = jp_node(p, N_SETBLOCK, line);
    n->u.block.target = to;
    n->u.block.filter = jp_filters(p, NULL, false);
    n->u.block.body = statements_to(p, "endset");
    jp_over(p, n, n->u.block.filter);
    jp_over_all(p, n, &n->u.block.body);
    return n;
}

static struct jnode *parse_for(struct parser *p, uint32_t line)
{
    static const char *const ends[] = { "endfor", "else", NULL };
    struct jnode *n = jp_node(p, N_FOR, line);
    struct jfor *f = jalloc(p->rt, sizeof *f);
    const uint32_t loops = p->loops;

    memset(f, 0, sizeof *f);
    n->u.loop = f;
    p->fors++;
    f->target = target(p, "in", false);
    no_loop_target(p, f->target);
    if (!jp_skip_name(p, "in"))
        jp_unexpected(p, "'in'");
    f->iter = jp_tuple(p, false, false, "recursive", false);
    if (jp_skip_name(p, "if"))
        f->test = jp_expression(p, true);
    n->flag = jp_skip_name(p, "recursive");
    p->loops = n->flag ? 1 : loops + 1;
    f->body = statements(p, ends);
    /* A recursive loop is a function of its own, and its else stands in no loop. */
    p->loops = n->flag ? 0 : loops;
    if (jp_skip_name(p, "else"))
        f->other = statements_to(p, "endfor");
    else
        jp_next(p);
    p->loops = loops;
    p->fors--;
    jp_over(p, n, f->iter);
    jp_over(p, n, f->test);
    jp_over_all(p, n, &f->body);
    jp_over_all(p, n, &f->other);
    return n;
}

static struct jnode *parse_if(struct parser *p, uint32_t line)
{
    static const char *const ends[] = { "endif", "elif", "else", NULL };
    struct jnode *n = jp_node(p, N_IF, line);

    for (;;) {
        const uint32_t i = n->u.branch.tests.n;
        struct jnode *test = jp_tuple(p, false, false, NULL, false);

        if ((i & (i - 1)) == 0) {
            struct jnodes *grown = jalloc_array(p->rt, i ? (size_t)i * 2 : 1, sizeof *grown);

            if (i)
                memcpy(grown, n->u.branch.bodies, i * sizeof *grown);
            n->u.branch.bodies = grown;
        }
        jp_add(p, &n->u.branch.tests, test);
        n->u.branch.bodies[i] = statements(p, ends);
        jp_over(p, n, test);
        jp_over_all(p, n, &n->u.branch.bodies[i]);
        if (jp_skip_name(p, "elif"))
            continue;
        if (jp_skip_name(p, "else")) {
            n->u.branch.other = statements_to(p, "endif");
            jp_over_all(p, n, &n->u.branch.other);
        } else {
            jp_next(p);
        }
        return n;
    }
}

static struct jnode *parse_with(struct parser *p, uint32_t line)
{
    struct jnode *n = jp_node(p, N_WITH, line);

    while (p->tok->type != T_BLOCK_END) {
        if (n->u.with.targets.n)
            jp_expect(p, T_COMMA);
        jp_add(p, &n->u.with.targets, target(p, NULL, false));
        jp_expect(p, T_ASSIGN);
        jp_add(p, &n->u.with.values, jp_expression(p, true));
    }
    n->u.with.body = statements_to(p, "endwith");
    jp_over_all(p, n, &n->u.with.values);
    jp_over_all(p, n, &n->u.with.body);
    return n;
}

static struct jmacro_def *macro_def(struct parser *p)
{
    struct jmacro_def *d = jalloc(p->rt, sizeof *d);

    memset(d, 0, sizeof *d);
    return d;
}

static void parse_signature(struct parser *p, struct jmacro_def *d)
{
    jp_expect(p, T_LPAREN);
    while (p->tok->type != T_RPAREN) {
        struct jnode *param;

        if (d->params.n)
            jp_expect(p, T_COMMA);
        param = name_target(p);
        for (uint32_t i = 0; i < d->params.n; i++)
            if (jstr_eq(d->params.v[i]->u.name.id, param->u.name.id))
                jp_bad(p, param->line, "a parameter is named twice");
        if (jp_skip(p, T_ASSIGN))
            jp_add(p, &d->defaults, jp_expression(p, true));
        else if (d->defaults.n)
            jp_bad(p, param->line, "non-default argument follows default argument");
        jp_add(p, &d->params, param);
    }
    jp_expect(p, T_RPAREN);
}

static void function_body(struct parser *p, struct jnode *n, struct jmacro_def *d,
                          const char *end)
{
    const uint32_t loops = p->loops;

    p->loops = 0;
    d->body = statements_to(p, end);
    p->loops = loops;
    jp_over_all(p, n, &d->defaults);
    jp_over_all(p, n, &d->body);
}

static struct jnode *parse_macro(struct parser *p, uint32_t line)
{
    struct jnode *n = jp_node(p, N_MACRO, line);
    struct jmacro_def *d = macro_def(p);

    n->u.macro.def = d;
    n->u.macro.target = name_target(p);
    d->name = n->u.macro.target->u.name.id;
    parse_signature(p, d);
    function_body(p, n, d, "endmacro");
    return n;
}

static struct jnode *parse_callblock(struct parser *p, uint32_t line)
{
    struct jnode *n = jp_node(p, N_CALLBLOCK, line);

    n->u.macro.def = macro_def(p);
    if (p->tok->type == T_LPAREN)
        parse_signature(p, n->u.macro.def);
    n->u.macro.call = jp_expression(p, true);
    if (n->u.macro.call->op != N_CALL)
        jp_bad(p, line, "expected call");
    jp_over(p, n, n->u.macro.call);
    function_body(p, n, n->u.macro.def, "endcall");
    return n;
}

/* {% generation %} marks assistant text for training; rendering calls its body. */
static struct jnode *parse_generation(struct parser *p, uint32_t line)
{
    struct jnode *n = jp_node(p, N_CALLBLOCK, line);

    n->u.macro.def = macro_def(p);
    function_body(p, n, n->u.macro.def, "endgeneration");
    return n;
}

static struct jnode *parse_filterblock(struct parser *p, uint32_t line)
{
    struct jnode *n = jp_node(p, N_FILTERBLOCK, line);

    n->u.block.filter = jp_filters(p, NULL, true);
    n->u.block.body = statements_to(p, "endfilter");
    jp_over(p, n, n->u.block.filter);
    jp_over_all(p, n, &n->u.block.body);
    return n;
}

static struct jnode *parse_print(struct parser *p, uint32_t line)
{
    struct jnode *n = jp_node(p, N_OUTPUT, line);

    while (p->tok->type != T_BLOCK_END) {
        if (n->u.list.n)
            jp_expect(p, T_COMMA);
        jp_add(p, &n->u.list, jp_expression(p, true));
    }
    jp_over_all(p, n, &n->u.list);
    return n;
}

static struct jnode *parse_jump(struct parser *p, uint32_t line, enum jop op)
{
    if (p->loops == 0)
        jp_bad(p, line, op == N_BREAK ? "'break' outside loop" : "'continue' outside loop");
    return jp_node(p, op, line);
}

static struct jnode *parse_statement(struct parser *p)
{
    static const struct { const char *name; struct jnode *(*parse)(struct parser *, uint32_t); }
    tags[] = {
        { "set", parse_set }, { "for", parse_for }, { "if", parse_if }, { "with", parse_with },
        { "macro", parse_macro }, { "call", parse_callblock }, { "filter", parse_filterblock },
        { "print", parse_print }, { "generation", parse_generation },
    };
    static const char *const refused[] = {
        "include", "import", "from", "extends", "block", "autoescape",
    };
    const struct jtoken *t = p->tok;

    if (t->type != T_NAME)
        jp_unexpected(p, "the name of a tag");
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++) {
        if (jp_is_name(t, tags[i].name)) {
            jp_next(p);
            return tags[i].parse(p, t->line);
        }
    }
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (jp_is_name(t, refused[i])) {
            p->rt->line = t->line;
            jfail(p->rt, WATT_ENOTSUP, "a chat template stands alone: '%s' is not supported",
                  refused[i]);
        }
    }
    if (jp_skip_name(p, "break"))
        return parse_jump(p, t->line, N_BREAK);
    if (jp_skip_name(p, "continue"))
        return parse_jump(p, t->line, N_CONTINUE);
    p->rt->line = t->line;
    jfail(p->rt, WATT_EFORMAT, "unknown tag '%.*s'", (int)t->u.s->len, t->u.s->p);
}

static bool at_end(const struct parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (jp_is_name(p->tok, *ends))
            return true;
    return false;
}

static struct jnodes subparse(struct parser *p, const char *const *ends)
{
    struct jnodes body = { 0 };

    for (;;) {
        const struct jtoken *t = p->tok;
        struct jnode *n;

        switch (t->type) {
        case T_EOF:
            return body;
        case T_DATA:
            n = jp_node(p, N_DATA, t->line);
            n->u.value = jv_str(t->u.s);
            jp_next(p);
            break;
        case T_VAR_BEGIN:
            jp_next(p);
            n = jp_node(p, N_OUTPUT, t->line);
            jp_add(p, &n->u.list, jp_tuple(p, false, true, NULL, false));
            jp_over_all(p, n, &n->u.list);
            jp_expect(p, T_VAR_END);
            break;
        default:
            jp_expect(p, T_BLOCK_BEGIN);
            if (at_end(p, ends))
                return body;
            n = parse_statement(p);
            jp_expect(p, T_BLOCK_END);
        }
        jp_add(p, &body, n);
    }
}

void jparse(struct jrt *rt, struct template *t, const char *source, size_t n)
{
    struct parser p = { .rt = rt, .t = t };
    uint32_t n_tokens;

    p.tok = jlex(rt, source, n, &n_tokens);
    t->body = subparse(&p, NULL);
}
