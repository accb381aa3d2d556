/* schema.h: inside the JSON Schema compiler (models/grammar only).
 *
 * A schema is read as a set of JSON values in a form that is closed under and, or and not:
 *  - literals and strings and numbers are regular languages (numbers as they are written);
 *  - arrays are automata over items, whose edges are labelled with sets of values;
 *  - objects are a table of named members, regions of other names, and counts.
 * The labels are expressions (struct expr): references into the schema, and, or, not; they are
 * looked into only when needed, so recursive schemas are finite. What every part accepts is
 * never more than the schema does; where it is less (formats), `inexact` forbids the complement.
 *
 * Order: schema_ref.c finds what references mean, schema_node.c turns keywords into nodes with
 * schema_algebra.c, schema_lang.c, schema_number.c and schema_format.c, schema_emit.c writes nodes as rules, with
 * schema_number_form.c for the numbers. */
#ifndef MODELS_GRAMMAR_SCHEMA_H
#define MODELS_GRAMMAR_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"
#include "base/map.h"
#include "base/str.h"
#include "models/grammar/cfg.h"
#include "models/grammar/grammar.h"

#define SCHEMA_MAX_STATES (1u << 15)    /* of one automaton over characters */
#define SCHEMA_MAX_EXPRS  50000u
#define SCHEMA_MAX_BRANCHES 512u        /* alternatives of arrays or objects in one node */
#define SCHEMA_MAX_COUNT  65536u        /* lengths, numbers of items or members */
#define SCHEMA_MAX_DEPTH  400u          /* of expressions being looked into */

#define NO_BOUND UINT32_MAX

typedef uint32_t expr_id;
#define EXPR_TRUE  0u
#define EXPR_FALSE 1u

enum expr_kind { EXPR_ALL, EXPR_NOTHING, EXPR_SCHEMA, EXPR_AND, EXPR_OR, EXPR_NOT, EXPR_NODE };

struct expr {
    enum expr_kind kind;
    const json_t  *schema;      /* EXPR_SCHEMA */
    uint32_t       resource;    /* EXPR_SCHEMA: where it is looked up from */
    uint32_t       scope;       /* EXPR_SCHEMA: for $dynamicRef */
    expr_id        a, b;        /* AND, OR; NOT has a */
    struct node   *node;
    bool           busy;        /* node being made */
    int8_t         empty;       /* -1: not known */
    uint32_t       rule;        /* FA_NONE until asked for */
};

#define ATOM_NULL  1u
#define ATOM_TRUE  2u
#define ATOM_FALSE 4u

/* A regular language: everything, or d; NULL and not all: nothing. */
struct lang {
    bool              all;
    bool              inexact;  /* a part of what is meant */
    bool              counted;  /* only the words of d that have so many characters: an automaton of
                                 * their own (lang_plain) may be large */
    const struct dfa *d;
    struct cfg_count  count;
};

struct arr_edge {
    expr_id  item;
    uint32_t to;
    bool     evaluated;
};

struct arr_state {
    uint32_t first, n;          /* edges; their labels are disjoint and cover all values */
    bool     accept;
};

struct arr {                    /* deterministic; the start is state 0 */
    struct arr_state *states;
    struct arr_edge  *edges;
    uint32_t          n_states, n_edges;
};

struct member {
    struct sv name;
    expr_id   value;
    bool      required, evaluated;
};

struct region {                 /* names that are not among the members */
    const struct dfa *names;    /* the regions are disjoint; a name in none is forbidden */
    expr_id           value;
    bool              evaluated;
};

struct obligation {             /* some member must have such a name and such a value */
    const struct dfa *names;
    expr_id           value;
};

struct obj {
    struct member     *members;
    struct region     *regions;
    struct obligation *obligations;
    uint32_t n_members, n_regions, n_obligations;
    uint32_t min, max;          /* members; NO_BOUND */
};

struct node {
    unsigned     atoms;
    struct lang  number, string;
    struct arr **arrays;
    struct obj **objects;
    uint32_t     n_arrays, n_objects;
    bool         inexact;       /* arrays or objects are a part of what is meant */
};

struct resource {
    char         *uri;          /* absolute where the schema says so; no fragment */
    const json_t *root;
};

struct schema {
    const json_t      *root;
    struct schema_opts opts;
    struct err        *e;
    struct cfg         g;
    struct expr       *exprs;
    uint32_t           n_exprs, cap_exprs;
    struct map         interned;        /* of expressions, by their fields */
    void             **blocks;          /* memory until the end */
    uint32_t           n_blocks, cap_blocks;
    struct dfa       **dfas;
    uint32_t           n_dfas, cap_dfas;
    struct resource   *resources;
    uint32_t           n_resources, cap_resources;
    struct map         places;          /* of schema objects: their resource */
    struct map         anchors;         /* "uri#name": the object's address */
    struct map         dynamic;         /* the same for $dynamicAnchor */
    struct map         scopes;          /* interned lists of resources */
    uint32_t         **scope_lists;     /* [n_scopes], first the length */
    uint32_t           n_scopes, cap_scopes;
    bool               has_dynamic;
    unsigned           depth;
    const struct dfa  *all_strings, *all_numbers, *integers, *shortest_numbers;
    struct node       *universe;
    uint32_t           rule_value, rule_string, rule_number, rule_integer, rule_space, rule_object;
};

/* ---- memory and messages (schema.c) ---- */

void *schema_alloc(struct schema *s, size_t n, size_t size);    /* zeroed; NULL and e set */
/* Takes d over. */
int   schema_own(struct schema *s, struct dfa *d) MUST_CHECK;
/* *out is the schema's. */
int   schema_combine(struct schema *s, const struct dfa *a, enum dfa_op op, const struct dfa *b,
                     uint32_t max_states, const char *what, const struct dfa **out) MUST_CHECK;
/* The place of a value in the schema as a JSON pointer stands in front. */
int   schema_refuse(struct schema *s, const json_t *at, int code, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* ---- references (schema_ref.c) ---- */

int  schema_index(struct schema *s) MUST_CHECK;
int  schema_resolve(struct schema *s, const json_t *at, const char *ref, uint32_t from_resource,
                    const json_t **target, uint32_t *resource) MUST_CHECK;
int  schema_resolve_dynamic(struct schema *s, const json_t *at, const char *ref,
                            uint32_t from_resource, uint32_t scope, const json_t **target,
                            uint32_t *resource) MUST_CHECK;
/* The resource that a schema object begins or lies in, else `otherwise`. */
uint32_t schema_resource_of(const struct schema *s, const json_t *at, uint32_t otherwise);
int  schema_scope_push(struct schema *s, uint32_t scope, uint32_t resource, uint32_t *out)
    MUST_CHECK;

/* ---- expressions (schema_algebra.c) ---- */

int expr_schema(struct schema *s, const json_t *schema, uint32_t resource, uint32_t scope,
                expr_id *out) MUST_CHECK;
int expr_node(struct schema *s, struct node *n, expr_id *out) MUST_CHECK;
int expr_and(struct schema *s, expr_id a, expr_id b, expr_id *out) MUST_CHECK;
int expr_or(struct schema *s, expr_id a, expr_id b, expr_id *out) MUST_CHECK;
int expr_not(struct schema *s, expr_id a, expr_id *out) MUST_CHECK;
/* Has it no value for certain? A recursion that is not decided yet counts as not. */
int expr_empty(struct schema *s, expr_id a, bool *empty) MUST_CHECK;

/* ---- sets of values (schema_algebra.c, schema_containers.c) ---- */

struct node *node_new(struct schema *s);        /* nothing in it; NULL and e set */
int  node_and(struct schema *s, const struct node *a, const struct node *b, struct node **out)
    MUST_CHECK;
int  node_or(struct schema *s, const struct node *a, const struct node *b, struct node **out)
    MUST_CHECK;
int  node_not(struct schema *s, const struct node *a, struct node **out) MUST_CHECK;
int  node_empty(struct schema *s, const struct node *a, bool *empty) MUST_CHECK;

int  lang_combine(struct schema *s, const struct lang *a, enum dfa_op op, const struct lang *b,
                  const struct dfa *all, struct lang *out) MUST_CHECK;
/* Only words with so many characters. */
int  lang_limit(struct schema *s, struct lang *l, const struct cfg_count *c) MUST_CHECK;
/* The same language without counts beside its automaton. */
int  lang_plain(struct schema *s, struct lang *l) MUST_CHECK;

int  arr_all(struct schema *s, struct arr **out) MUST_CHECK;
int  arr_and(struct schema *s, const struct arr *a, const struct arr *b, struct arr **out)
    MUST_CHECK;
int  arr_not(struct schema *s, const struct arr *a, struct arr **out) MUST_CHECK;
int  arr_empty(struct schema *s, const struct arr *a, bool *empty) MUST_CHECK;
/* *out: these names but those of o's members; its d is NULL when none is left. */
int  obj_free_names(struct schema *s, const struct obj *o, const struct dfa *names, struct lang *out)
    MUST_CHECK;
int  obj_all(struct schema *s, struct obj **out) MUST_CHECK;
int  obj_and(struct schema *s, const struct obj *a, const struct obj *b, struct obj **out)
    MUST_CHECK;
/* A union of objects. */
int  obj_not(struct schema *s, const struct obj *a, struct obj ***out, uint32_t *n) MUST_CHECK;
int  obj_empty(struct schema *s, const struct obj *a, bool *empty) MUST_CHECK;
/* The value that a name must have, and whether it counts as evaluated. EXPR_FALSE: forbidden. */
expr_id obj_value(const struct obj *o, struct sv name, bool *evaluated);

/* ---- keywords (schema_node.c and beside) ---- */

int  expr_to_node(struct schema *s, expr_id a, const struct node **out) MUST_CHECK;
int  schema_to_node(struct schema *s, const json_t *schema, uint32_t resource, uint32_t scope,
                    const struct node **out) MUST_CHECK;
int  schema_const(struct schema *s, const json_t *at, const json_t *value, struct node **out)
    MUST_CHECK;
int  schema_array(struct schema *s, const json_t *schema, uint32_t resource, uint32_t scope,
                  struct arr **out, bool *inexact) MUST_CHECK;
int  schema_object(struct schema *s, const json_t *schema, uint32_t resource, uint32_t scope,
                   struct obj **out) MUST_CHECK;
/* A count: *out stays as it is when the keyword is absent. */
int  schema_count(struct schema *s, const json_t *schema, const char *key, uint32_t *out)
    MUST_CHECK;

enum number_set { NUMBER_AT_LEAST, NUMBER_ABOVE, NUMBER_AT_MOST, NUMBER_BELOW, NUMBER_EQUAL,
                  NUMBER_MULTIPLE };
/* Numbers as they may be written, without exponents. */
int  number_dfa(struct schema *s, const json_t *at, enum number_set set, const json_t *bound,
                const struct dfa **out) MUST_CHECK;
int  number_bases(struct schema *s) MUST_CHECK;     /* all_numbers, integers */

/* What is offered of a set's spellings (schema_number_form.c), never nothing of a set that is not empty;
 * of all numbers, without an exponent and what may follow as one. */
int  number_form(struct schema *s, const struct dfa *d, const struct dfa **out) MUST_CHECK;
int  number_any(struct schema *s, const struct dfa **out) MUST_CHECK;
int  number_exponent(struct schema *s, const struct dfa **out) MUST_CHECK;

/* WATT_ENOTSUP for one that is known but can't be enforced; all: a name that the standard does not
 * have, which is only a remark. */
int  format_lang(struct schema *s, const json_t *at, const char *name, struct lang *out) MUST_CHECK;

/* ---- rules (schema_emit.c) ---- */

int  schema_emit(struct schema *s, expr_id root, struct grammar **out) MUST_CHECK;
/* The strings that satisfy a schema, without quotes and escapes, over characters. */
int  schema_text(struct dfa **out, const json_t *schema, struct err *e) MUST_CHECK;
/* The rule of JSON that satisfies a schema, in somebody else's grammar. */
int  schema_rule(struct cfg *g, const json_t *schema, const struct schema_opts *opts,
                 uint32_t *rule, struct err *e) MUST_CHECK;

#endif
