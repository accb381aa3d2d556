/* jinja_ast.h: the parsed template: tokens, nodes, scopes. Everything lies in the
 * template's arena and is immutable once parsed.
 *
 * Variables are resolved when parsing, by the rules of Jinja2's own compiler
 * (its Symbols classes): each function (the template, a macro, a call block, a
 * recursive loop) has a frame of slots; a name is a slot so many frames out. A
 * scope (loop body, with, set block, …) says what its slots start as. */
#ifndef MODELS_JINJA_AST_H
#define MODELS_JINJA_AST_H

#include "models/jinja_value.h"

/* ---- tokens ---- */

enum jtok {
    T_EOF, T_DATA, T_VAR_BEGIN, T_VAR_END, T_BLOCK_BEGIN, T_BLOCK_END,
    T_NAME, T_STRING, T_INT, T_FLOAT,
    T_ADD, T_SUB, T_DIV, T_FLOORDIV, T_MUL, T_MOD, T_POW, T_TILDE,
    T_LBRACKET, T_RBRACKET, T_LPAREN, T_RPAREN, T_LBRACE, T_RBRACE,
    T_EQ, T_NE, T_GT, T_GE, T_LT, T_LE, T_ASSIGN, T_DOT, T_COLON, T_PIPE, T_COMMA,
    T_SEMICOLON
};

struct jtoken {
    enum jtok type;
    uint32_t  line;
    union {
        struct jstr *s;      /* T_DATA, T_NAME, T_STRING (unescaped) */
        int64_t      i;
        double       f;
    } u;
};

/* Tokens of source, T_EOF last. */
struct jtoken *jlex(struct jrt *rt, const char *source, size_t n, uint32_t *n_tokens);

/* ---- nodes ---- */

enum jop {
    /* expressions */
    N_CONST, N_NAME, N_TUPLE, N_LIST, N_DICT, N_CONCAT,
    N_ADD, N_SUB, N_MUL, N_DIV, N_FLOORDIV, N_MOD, N_POW,
    N_AND, N_OR, N_NOT, N_NEG, N_POS, N_COMPARE, N_COND,
    N_GETATTR, N_GETITEM, N_SLICE, N_CALL, N_FILTER, N_TEST, N_NSREF,
    /* statements */
    N_DATA, N_OUTPUT, N_IF, N_FOR, N_SET, N_SETBLOCK, N_MACRO, N_CALLBLOCK,
    N_FILTERBLOCK, N_WITH, N_BREAK, N_CONTINUE
};

enum jcmp { C_EQ, C_NE, C_LT, C_LE, C_GT, C_GE, C_IN, C_NOTIN };

struct jnodes { struct jnode **v; uint32_t n; };

/* What a slot starts as when its scope is entered. */
enum jload { L_PARAM, L_RESOLVE, L_ALIAS, L_UNDEF };
struct jslot_init {
    uint8_t      how;        /* enum jload */
    uint16_t     hops;       /* L_ALIAS: the slot it copies */
    uint32_t     slot, from;
    struct jstr *name;       /* L_RESOLVE */
};
struct jscope { struct jslot_init *v; uint32_t n; };

struct jcall_args {
    struct jnodes pos;
    struct jstr **names;     /* of keyword arguments */
    struct jnodes kw;
    struct jnode *dyn_pos, *dyn_kw;
};

struct jfilter;              /* jinja_run.h */
struct jtest;

/* The function made of a macro or a call block. */
struct jmacro_def {
    struct jstr  *name;      /* NULL: a call block */
    struct jnodes params;    /* N_NAME */
    struct jnodes defaults;  /* of the last n parameters */
    struct jnodes body;
    struct jscope scope;
    uint32_t n_slots;
    bool     wants_caller, wants_kwargs, wants_varargs, explicit_caller;
    uint32_t caller_slot, kwargs_slot, varargs_slot;
};

struct jnode {
    uint8_t  op;             /* enum jop */
    bool     flag;           /* N_FOR: recursive; N_NAME: a target, no load */
    uint16_t height;         /* of the tree below */
    uint32_t line;
    union {
        struct jval value;                                        /* N_CONST, N_DATA */
        struct { struct jstr *id; uint16_t hops; uint32_t slot; } name;
        struct { struct jnode *ns; struct jstr *attr; } nsref;
        struct { struct jnode *l, *r; } bin;                      /* unary: l */
        struct jnodes list;                                       /* tuple, list, concat, output */
        struct { struct jnodes keys, vals; } dict;
        struct { struct jnode *first; struct jnodes rest; uint8_t *ops; } compare;
        struct { struct jnode *test, *yes, *no; } cond;           /* no may be NULL */
        struct { struct jnode *obj; struct jstr *attr; uint16_t method; } getattr;
        struct { struct jnode *obj, *key; } getitem;
        struct { struct jnode *start, *stop, *step; } slice;      /* each may be NULL */
        struct { struct jnode *fn; struct jcall_args *args; } call;
        struct {
            struct jnode *in;                                     /* NULL: a block's text */
            struct jstr *name;
            const struct jfilter *filter;                         /* NULL: unknown */
            const struct jtest *test;
            struct jcall_args *args;
        } filter;                                                 /* and N_TEST */
        struct { struct jnodes tests; struct jnodes *bodies; struct jnodes other; } branch;
        struct jfor *loop;
        struct { struct jnode *target, *value; } set;
        struct { struct jnode *target, *filter; struct jnodes body; struct jscope scope; } block;
        struct { struct jmacro_def *def; struct jnode *target; struct jnode *call; } macro;
        struct { struct jnodes targets, values, body; struct jscope scope; } with;
    } u;
};

struct jfor {
    struct jnode *target, *iter, *test;
    struct jnodes body, other;
    struct jscope scope, test_scope, else_scope;
    uint32_t loop_slot;
    struct jnode *test_target;       /* the target in the test's scope */
    uint32_t n_slots;                /* recursive: of the loop's own function */
};

struct jname_list { struct jstr **v; uint32_t n; };

struct template {
    struct jmem   mem;
    char         *name;
    struct jnodes body;
    struct jscope scope;
    uint32_t      n_slots;
    struct jname_list names;         /* all names mentioned as variables */
};

/* Parses the tokens into t->body, and resolves its names. */
void jparse(struct jrt *rt, struct template *t, const char *source, size_t n);
void jresolve(struct jrt *rt, struct template *t);

#endif
