/* jinja_parser.h: what jinja_expression.c and jinja_parse.c share. Trees are at
 * most JP_HEIGHT_MAX high, so that everything after may recurse over them. */
#ifndef MODELS_JINJA_PARSER_H
#define MODELS_JINJA_PARSER_H

#include "models/jinja_ast.h"

#define JP_HEIGHT_MAX 200u

struct parser {
    struct jrt      *rt;
    struct template *t;
    struct jtoken   *tok;    /* current; the last is T_EOF */
    uint32_t         depth;
    uint32_t         loops;  /* loops around, inside this function */
    uint32_t         fors;   /* loops around, in all */
};

NORETURN void jp_bad(struct parser *p, uint32_t line, const char *what);
NORETURN void jp_unexpected(struct parser *p, const char *wanted);
bool jp_is_name(const struct jtoken *t, const char *z);
void jp_next(struct parser *p);
bool jp_skip(struct parser *p, enum jtok type);
bool jp_skip_name(struct parser *p, const char *z);
struct jtoken *jp_expect(struct parser *p, enum jtok type);
struct jtoken *jp_peek(struct parser *p);
struct jnode *jp_node(struct parser *p, enum jop op, uint32_t line);
/* n is higher than child (NULL is fine). */
void jp_over(struct parser *p, struct jnode *n, const struct jnode *child);
void jp_over_all(struct parser *p, struct jnode *n, const struct jnodes *l);
void jp_deeper(struct parser *p);      /* undo with p->depth-- */
void jp_add(struct parser *p, struct jnodes *l, struct jnode *n);
struct jnode *jp_name(struct parser *p, uint32_t line, struct jstr *id, bool store);

struct jnode *jp_expression(struct parser *p, bool with_cond);
struct jnode *jp_primary(struct parser *p);
/* One expression, or several with commas between; end_name ends it too. */
struct jnode *jp_tuple(struct parser *p, bool simplified, bool with_cond,
                       const char *end_name, bool parens);
/* "| name(args) | …" after `in`; inline_first: the first without its bar. */
struct jnode *jp_filters(struct parser *p, struct jnode *in, bool inline_first);

#endif
