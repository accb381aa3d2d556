/* jinja_expression.c: expressions into nodes, by the grammar of Jinja2's parser,
 * and the tools of both halves of ours; see jinja_parser.h. */
#include <string.h>

#include "models/jinja_parser.h"
#include "models/jinja_run.h"

/* ---- tools ---- */

void NORETURN jp_bad(struct parser *p, uint32_t line, const char *what)
{
    p->rt->line = line;
    jfail(p->rt, WATT_EFORMAT, "%s", what);
}

static const char *token_name(enum jtok type)
{
    static const char *const names[] = {
        "end of template", "template data", "begin of print statement",
        "end of print statement", "begin of statement block", "end of statement block",
        "name", "string", "integer", "float", "+", "-", "/", "//", "*", "%", "**", "~",
        "[", "]", "(", ")", "{", "}", "==", "!=", ">", ">=", "<", "<=", "=", ".", ":", "|",
        ",", ";",
    };

    return names[type];
}

void NORETURN jp_unexpected(struct parser *p, const char *wanted)
{
    const struct jtoken *t = p->tok;

    p->rt->line = t->line;
    if (t->type == T_NAME)
        jfail(p->rt, WATT_EFORMAT, "expected %s, got '%.*s'", wanted, (int)t->u.s->len,
              t->u.s->p);
    jfail(p->rt, WATT_EFORMAT, "expected %s, got '%s'", wanted, token_name(t->type));
}

bool jp_is_name(const struct jtoken *t, const char *z)
{
    return t->type == T_NAME && jstr_is(t->u.s, z);
}

void jp_next(struct parser *p)
{
    if (p->tok->type != T_EOF)
        p->tok++;
}

bool jp_skip(struct parser *p, enum jtok type)
{
    if (p->tok->type != type)
        return false;
    jp_next(p);
    return true;
}

bool jp_skip_name(struct parser *p, const char *z)
{
    if (!jp_is_name(p->tok, z))
        return false;
    jp_next(p);
    return true;
}

struct jtoken *jp_expect(struct parser *p, enum jtok type)
{
    struct jtoken *t = p->tok;

    if (t->type != type)
        jp_unexpected(p, token_name(type));
    jp_next(p);
    return t;
}

struct jtoken *jp_peek(struct parser *p)
{
    return p->tok->type == T_EOF ? p->tok : p->tok + 1;
}

struct jnode *jp_node(struct parser *p, enum jop op, uint32_t line)
{
    struct jnode *n = jalloc(p->rt, sizeof *n);

    jcharge(p->rt, 1);
    memset(n, 0, sizeof *n);
    n->op = (uint8_t)op;
    n->height = 1;
    n->line = line;
    return n;
}

void jp_over(struct parser *p, struct jnode *n, const struct jnode *child)
{
    if (child && child->height >= n->height)
        n->height = (uint16_t)(child->height + 1);
    if (n->height > JP_HEIGHT_MAX) {
        p->rt->line = n->line;
        jfail(p->rt, WATT_ELIMIT, "nested deeper than %u levels", JP_HEIGHT_MAX);
    }
}

void jp_over_all(struct parser *p, struct jnode *n, const struct jnodes *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        jp_over(p, n, l->v[i]);
}

void jp_deeper(struct parser *p)
{
    if (++p->depth > JP_HEIGHT_MAX) {
        p->rt->line = p->tok->line;
        jfail(p->rt, WATT_ELIMIT, "nested deeper than %u levels", JP_HEIGHT_MAX);
    }
}

/* A growing list: capacity is the next power of two of n. */
void jp_add(struct parser *p, struct jnodes *l, struct jnode *n)
{
    if ((l->n & (l->n - 1)) == 0) {
        struct jnode **v = jalloc_array(p->rt, l->n ? (size_t)l->n * 2 : 1, sizeof *v);

        if (l->n)
            memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
    }
    l->v[l->n++] = n;
}

void jp_add_name(struct parser *p, struct jstr ***v, uint32_t n, struct jstr *s)
{
    if ((n & (n - 1)) == 0) {
        struct jstr **grown = jalloc_array(p->rt, n ? (size_t)n * 2 : 1, sizeof *grown);

        if (n)
            memcpy(grown, *v, n * sizeof *grown);
        *v = grown;
    }
    (*v)[n] = s;
}

static struct jnode *constant(struct parser *p, uint32_t line, struct jval v)
{
    struct jnode *n = jp_node(p, N_CONST, line);

    n->u.value = v;
    return n;
}

struct jnode *jp_name(struct parser *p, uint32_t line, struct jstr *id, bool store)
{
    struct jnode *n = jp_node(p, N_NAME, line);

    n->u.name.id = id;
    n->flag = store;
    return n;
}

static struct jnode *binary(struct parser *p, enum jop op, uint32_t line, struct jnode *l,
                            struct jnode *r)
{
    struct jnode *n = jp_node(p, op, line);

    n->u.bin.l = l;
    n->u.bin.r = r;
    jp_over(p, n, l);
    jp_over(p, n, r);
    return n;
}

/* ---- expressions ---- */


static bool tuple_end(const struct parser *p, const char *end_name)
{
    const enum jtok t = p->tok->type;

    return t == T_VAR_END || t == T_BLOCK_END || t == T_RPAREN ||
           (end_name && jp_is_name(p->tok, end_name));
}

struct jnode *jp_tuple(struct parser *p, bool simplified, bool with_cond,
                                 const char *end_name, bool parens)
{
    const uint32_t line = p->tok->line;
    struct jnodes items = { 0 };
    bool is_tuple = false;
    struct jnode *n;

    jp_deeper(p);
    for (;;) {
        if (items.n)
            jp_expect(p, T_COMMA);
        if (tuple_end(p, end_name))
            break;
        jp_add(p, &items, simplified ? jp_primary(p) : jp_expression(p, with_cond));
        if (p->tok->type != T_COMMA)
            break;
        is_tuple = true;
    }
    p->depth--;
    if (!is_tuple) {
        if (items.n)
            return items.v[0];
        if (!parens)
            jp_unexpected(p, "an expression");
    }
    n = jp_node(p, N_TUPLE, line);
    n->u.list = items;
    jp_over_all(p, n, &items);
    return n;
}

static struct jnode *parse_list(struct parser *p)
{
    struct jnode *n = jp_node(p, N_LIST, jp_expect(p, T_LBRACKET)->line);

    while (p->tok->type != T_RBRACKET) {
        if (n->u.list.n)
            jp_expect(p, T_COMMA);
        if (p->tok->type == T_RBRACKET)
            break;
        jp_add(p, &n->u.list, jp_expression(p, true));
    }
    jp_expect(p, T_RBRACKET);
    jp_over_all(p, n, &n->u.list);
    return n;
}

static struct jnode *parse_dict(struct parser *p)
{
    struct jnode *n = jp_node(p, N_DICT, jp_expect(p, T_LBRACE)->line);

    while (p->tok->type != T_RBRACE) {
        if (n->u.dict.keys.n)
            jp_expect(p, T_COMMA);
        if (p->tok->type == T_RBRACE)
            break;
        jp_add(p, &n->u.dict.keys, jp_expression(p, true));
        jp_expect(p, T_COLON);
        jp_add(p, &n->u.dict.vals, jp_expression(p, true));
    }
    jp_expect(p, T_RBRACE);
    jp_over_all(p, n, &n->u.dict.keys);
    jp_over_all(p, n, &n->u.dict.vals);
    return n;
}

static struct jnode *parse_strings(struct parser *p)
{
    const uint32_t line = p->tok->line;
    struct jstr *s = jp_expect(p, T_STRING)->u.s;

    if (p->tok->type == T_STRING) {      /* "a" "b" is one string */
        struct jbuf b = { 0 };

        jbuf_put(p->rt, &b, s->p, s->len);
        while (p->tok->type == T_STRING) {
            jbuf_put(p->rt, &b, p->tok->u.s->p, p->tok->u.s->len);
            jp_next(p);
        }
        s = jbuf_str(p->rt, &b).u.s;
    }
    jstr_chars(s);                       /* counted now: later it is shared */
    return constant(p, line, jv_str(s));
}

struct jnode *jp_primary(struct parser *p)
{
    struct jtoken *t = p->tok;
    struct jnode *n;

    switch (t->type) {
    case T_NAME:
        jp_next(p);
        if (jstr_is(t->u.s, "true") || jstr_is(t->u.s, "True"))
            return constant(p, t->line, jv_bool(true));
        if (jstr_is(t->u.s, "false") || jstr_is(t->u.s, "False"))
            return constant(p, t->line, jv_bool(false));
        if (jstr_is(t->u.s, "none") || jstr_is(t->u.s, "None"))
            return constant(p, t->line, jv_none());
        return jp_name(p, t->line, t->u.s, false);
    case T_STRING:
        return parse_strings(p);
    case T_INT:
        jp_next(p);
        return constant(p, t->line, jv_int(t->u.i));
    case T_FLOAT:
        jp_next(p);
        return constant(p, t->line, jv_float(t->u.f));
    case T_LPAREN:
        jp_next(p);
        n = jp_tuple(p, false, true, NULL, true);
        jp_expect(p, T_RPAREN);
        return n;
    case T_LBRACKET:
        return parse_list(p);
    case T_LBRACE:
        return parse_dict(p);
    default:
        jp_unexpected(p, "an expression");
    }
}

struct jcall_args *jp_no_args(struct parser *p)
{
    struct jcall_args *a = jalloc(p->rt, sizeof *a);

    memset(a, 0, sizeof *a);
    return a;
}

static void add_keyword(struct parser *p, struct jcall_args *a)
{
    struct jtoken *key = p->tok;

    for (uint32_t i = 0; i < a->kw.n; i++)
        if (jstr_eq(a->names[i], key->u.s))
            jp_bad(p, key->line, "a keyword argument is repeated");
    jp_next(p);
    jp_next(p);
    jp_add_name(p, &a->names, a->kw.n, key->u.s);
    jp_add(p, &a->kw, jp_expression(p, true));
}

struct jcall_args *jp_args(struct parser *p)
{
    const uint32_t line = jp_expect(p, T_LPAREN)->line;
    struct jcall_args *a = jp_no_args(p);
    bool comma = false, ok = true;

    jp_deeper(p);
    while (p->tok->type != T_RPAREN) {
        if (comma) {
            jp_expect(p, T_COMMA);
            if (p->tok->type == T_RPAREN)
                break;
        }
        if (jp_skip(p, T_MUL)) {
            ok = !a->dyn_pos && !a->dyn_kw;
            a->dyn_pos = jp_expression(p, true);
        } else if (jp_skip(p, T_POW)) {
            ok = !a->dyn_kw;
            a->dyn_kw = jp_expression(p, true);
        } else if (p->tok->type == T_NAME && jp_peek(p)->type == T_ASSIGN) {
            ok = !a->dyn_kw;
            add_keyword(p, a);
        } else {
            ok = !a->dyn_pos && !a->dyn_kw && a->kw.n == 0;
            jp_add(p, &a->pos, jp_expression(p, true));
        }
        if (!ok)
            jp_bad(p, line, "invalid syntax for function call expression");
        comma = true;
    }
    jp_expect(p, T_RPAREN);
    p->depth--;
    return a;
}

static void over_args(struct parser *p, struct jnode *n, const struct jcall_args *a)
{
    jp_over_all(p, n, &a->pos);
    jp_over_all(p, n, &a->kw);
    jp_over(p, n, a->dyn_pos);
    jp_over(p, n, a->dyn_kw);
}

static struct jnode *parse_call(struct parser *p, struct jnode *fn)
{
    struct jnode *n = jp_node(p, N_CALL, p->tok->line);

    n->u.call.fn = fn;
    n->u.call.args = jp_args(p);
    jp_over(p, n, fn);
    over_args(p, n, n->u.call.args);
    return n;
}

static struct jnode *parse_subscribed(struct parser *p)
{
    const uint32_t line = p->tok->line;
    struct jnode *part[3] = { NULL, NULL, NULL }, *n;

    if (p->tok->type != T_COLON) {
        part[0] = jp_expression(p, true);
        if (p->tok->type != T_COLON)
            return part[0];
    }
    jp_next(p);
    if (p->tok->type != T_COLON && p->tok->type != T_RBRACKET && p->tok->type != T_COMMA)
        part[1] = jp_expression(p, true);
    if (jp_skip(p, T_COLON) && p->tok->type != T_RBRACKET && p->tok->type != T_COMMA)
        part[2] = jp_expression(p, true);
    n = jp_node(p, N_SLICE, line);
    n->u.slice.start = part[0];
    n->u.slice.stop = part[1];
    n->u.slice.step = part[2];
    for (int i = 0; i < 3; i++)
        jp_over(p, n, part[i]);
    return n;
}

static struct jnode *parse_subscript(struct parser *p, struct jnode *obj)
{
    const struct jtoken *dot = p->tok, *attr;
    struct jnode *n, *key;

    jp_next(p);
    if (dot->type == T_DOT) {
        attr = p->tok;
        jp_next(p);
        if (attr->type == T_NAME) {
            n = jp_node(p, N_GETATTR, dot->line);
            n->u.getattr.obj = obj;
            n->u.getattr.attr = attr->u.s;
            n->u.getattr.method = jmethod_find(attr->u.s);
            jstr_chars(attr->u.s);
            jp_over(p, n, obj);
            return n;
        }
        if (attr->type != T_INT)
            jp_bad(p, attr->line, "expected name or number");
        key = constant(p, attr->line, jv_int(attr->u.i));
    } else {
        struct jnodes keys = { 0 };

        while (p->tok->type != T_RBRACKET) {
            if (keys.n)
                jp_expect(p, T_COMMA);
            jp_add(p, &keys, parse_subscribed(p));
        }
        jp_expect(p, T_RBRACKET);
        if (keys.n == 1) {
            key = keys.v[0];
        } else {
            for (uint32_t i = 0; i < keys.n; i++)
                if (keys.v[i]->op == N_SLICE)
                    jp_bad(p, keys.v[i]->line, "a slice cannot be part of a tuple");
            key = jp_node(p, N_TUPLE, dot->line);
            key->u.list = keys;
            jp_over_all(p, key, &keys);
        }
    }
    n = jp_node(p, N_GETITEM, dot->line);
    n->u.getitem.obj = obj;
    n->u.getitem.key = key;
    jp_over(p, n, obj);
    jp_over(p, n, key);
    return n;
}

struct jnode *jp_postfix(struct parser *p, struct jnode *n)
{
    for (;;) {
        if (p->tok->type == T_DOT || p->tok->type == T_LBRACKET)
            n = parse_subscript(p, n);
        else if (p->tok->type == T_LPAREN)
            n = parse_call(p, n);
        else
            return n;
    }
}

/* name.name…, as filters and tests may be called. */
static struct jstr *dotted_name(struct parser *p)
{
    struct jstr *s = jp_expect(p, T_NAME)->u.s;

    while (jp_skip(p, T_DOT)) {
        struct jbuf b = { 0 };
        const struct jtoken *t = jp_expect(p, T_NAME);

        jbuf_put(p->rt, &b, s->p, s->len);
        jbuf_putc(p->rt, &b, '.');
        jbuf_put(p->rt, &b, t->u.s->p, t->u.s->len);
        s = jbuf_str(p->rt, &b).u.s;
    }
    return s;
}

struct jnode *jp_filters(struct parser *p, struct jnode *in, bool inline_first)
{
    while (inline_first || p->tok->type == T_PIPE) {
        struct jnode *n;

        if (!inline_first)
            jp_next(p);
        inline_first = false;
        n = jp_node(p, N_FILTER, p->tok->line);
        n->u.filter.in = in;
        n->u.filter.name = dotted_name(p);
        n->u.filter.filter = jfilter_find(n->u.filter.name);
        n->u.filter.args = p->tok->type == T_LPAREN ? jp_args(p) : jp_no_args(p);
        jp_over(p, n, in);
        over_args(p, n, n->u.filter.args);
        in = n;
    }
    return in;
}

static bool test_argument_follows(const struct parser *p)
{
    switch (p->tok->type) {
    case T_NAME:
        return !jp_is_name(p->tok, "else") && !jp_is_name(p->tok, "or") && !jp_is_name(p->tok, "and");
    case T_STRING:
    case T_INT:
    case T_FLOAT:
    case T_LBRACKET:
    case T_LBRACE:
        return true;
    default:
        return false;
    }
}

/* "is in x", "is == x" are names of tests too. */
static struct jnode *parse_test(struct parser *p, struct jnode *in)
{
    struct jnode *n = jp_node(p, N_TEST, p->tok->line);
    bool negated;

    jp_next(p);
    negated = jp_skip_name(p, "not");
    n->u.filter.in = in;
    n->u.filter.name = dotted_name(p);
    n->u.filter.test = jtest_find(n->u.filter.name);
    if (p->tok->type == T_LPAREN) {
        n->u.filter.args = jp_args(p);
    } else {
        n->u.filter.args = jp_no_args(p);
        if (test_argument_follows(p)) {
            if (jp_is_name(p->tok, "is"))
                jp_bad(p, p->tok->line, "you cannot chain multiple tests with is");
            jp_add(p, &n->u.filter.args->pos, jp_postfix(p, jp_primary(p)));
        }
    }
    jp_over(p, n, in);
    over_args(p, n, n->u.filter.args);
    return negated ? binary(p, N_NOT, n->line, n, NULL) : n;
}

static struct jnode *parse_unary(struct parser *p, bool with_filter)
{
    const uint32_t line = p->tok->line;
    struct jnode *n;

    jp_deeper(p);
    if (jp_skip(p, T_SUB))
        n = binary(p, N_NEG, line, parse_unary(p, false), NULL);
    else if (jp_skip(p, T_ADD))
        n = binary(p, N_POS, line, parse_unary(p, false), NULL);
    else
        n = jp_primary(p);
    n = jp_postfix(p, n);
    while (with_filter) {
        if (p->tok->type == T_PIPE)
            n = jp_filters(p, n, false);
        else if (jp_is_name(p->tok, "is"))
            n = parse_test(p, n);
        else if (p->tok->type == T_LPAREN)
            n = parse_call(p, n);
        else
            break;
    }
    p->depth--;
    return n;
}

static struct jnode *parse_pow(struct parser *p)
{
    const uint32_t line = p->tok->line;
    struct jnode *n = parse_unary(p, true);

    while (jp_skip(p, T_POW))
        n = binary(p, N_POW, line, n, parse_unary(p, true));
    return n;
}

static struct jnode *parse_math2(struct parser *p)
{
    struct jnode *n = parse_pow(p);

    for (;;) {
        const uint32_t line = p->tok->line;
        const enum jtok t = p->tok->type;
        const enum jop op = t == T_MUL ? N_MUL : t == T_DIV ? N_DIV
                          : t == T_FLOORDIV ? N_FLOORDIV : N_MOD;

        if (t != T_MUL && t != T_DIV && t != T_FLOORDIV && t != T_MOD)
            return n;
        jp_next(p);
        n = binary(p, op, line, n, parse_pow(p));
    }
}

static struct jnode *parse_concat(struct parser *p)
{
    const uint32_t line = p->tok->line;
    struct jnode *n = parse_math2(p), *c;

    if (p->tok->type != T_TILDE)
        return n;
    c = jp_node(p, N_CONCAT, line);
    jp_add(p, &c->u.list, n);
    while (jp_skip(p, T_TILDE))
        jp_add(p, &c->u.list, parse_math2(p));
    jp_over_all(p, c, &c->u.list);
    return c;
}

static struct jnode *parse_math1(struct parser *p)
{
    struct jnode *n = parse_concat(p);

    for (;;) {
        const uint32_t line = p->tok->line;

        if (jp_skip(p, T_ADD))
            n = binary(p, N_ADD, line, n, parse_concat(p));
        else if (jp_skip(p, T_SUB))
            n = binary(p, N_SUB, line, n, parse_concat(p));
        else
            return n;
    }
}

static int compare_op(struct parser *p)
{
    static const struct { enum jtok t; enum jcmp c; } ops[] = {
        { T_EQ, C_EQ }, { T_NE, C_NE }, { T_LT, C_LT }, { T_LE, C_LE }, { T_GT, C_GT },
        { T_GE, C_GE },
    };

    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (jp_skip(p, ops[i].t))
            return (int)ops[i].c;
    if (jp_skip_name(p, "in"))
        return C_IN;
    if (jp_is_name(p->tok, "not") && jp_is_name(jp_peek(p), "in")) {
        jp_next(p);
        jp_next(p);
        return C_NOTIN;
    }
    return -1;
}

static struct jnode *parse_compare(struct parser *p)
{
    const uint32_t line = p->tok->line;
    struct jnode *first = parse_math1(p), *n = NULL;
    struct jbuf ops = { 0 };
    int op;

    while ((op = compare_op(p)) >= 0) {
        if (!n) {
            n = jp_node(p, N_COMPARE, line);
            n->u.compare.first = first;
        }
        jbuf_putc(p->rt, &ops, (char)op);
        jp_add(p, &n->u.compare.rest, parse_math1(p));
    }
    if (!n)
        return first;
    n->u.compare.ops = (uint8_t *)ops.p;
    jp_over(p, n, first);
    jp_over_all(p, n, &n->u.compare.rest);
    return n;
}

static struct jnode *parse_not(struct parser *p)
{
    const uint32_t line = p->tok->line;
    struct jnode *n;

    if (!jp_skip_name(p, "not"))
        return parse_compare(p);
    jp_deeper(p);
    n = binary(p, N_NOT, line, parse_not(p), NULL);
    p->depth--;
    return n;
}

static struct jnode *parse_and(struct parser *p)
{
    const uint32_t line = p->tok->line;
    struct jnode *n = parse_not(p);

    while (jp_skip_name(p, "and"))
        n = binary(p, N_AND, line, n, parse_not(p));
    return n;
}

static struct jnode *parse_or(struct parser *p)
{
    const uint32_t line = p->tok->line;
    struct jnode *n = parse_and(p);

    while (jp_skip_name(p, "or"))
        n = binary(p, N_OR, line, n, parse_and(p));
    return n;
}

struct jnode *jp_expression(struct parser *p, bool with_cond)
{
    const uint32_t line = p->tok->line;
    struct jnode *n, *c;

    jp_deeper(p);
    n = parse_or(p);
    while (with_cond && jp_skip_name(p, "if")) {
        c = jp_node(p, N_COND, line);
        c->u.cond.yes = n;
        c->u.cond.test = parse_or(p);
        if (jp_skip_name(p, "else"))
            c->u.cond.no = jp_expression(p, true);
        jp_over(p, c, c->u.cond.yes);
        jp_over(p, c, c->u.cond.test);
        jp_over(p, c, c->u.cond.no);
        n = c;
    }
    p->depth--;
    return n;
}
