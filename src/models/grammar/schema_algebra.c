/* schema_algebra.c: expressions, and what nodes are under and, or and not. */
#include <string.h>

#include "base/mem.h"
#include "models/grammar/schema.h"

/* ---- expressions ---- */

/* The expression with these fields, new or known. */
static int intern(struct schema *s, struct expr x, expr_id *out)
{
    const struct { uint64_t schema; uint32_t kind, resource, scope, a, b, zero; } fields = {
        (uint64_t)(uintptr_t)x.schema, (uint32_t)x.kind, x.resource, x.scope, x.a, x.b, 0 };
    const struct sv key = { (const char *)&fields, sizeof fields };
    uint64_t found;
    int rc;

    if (x.kind != EXPR_NODE && map_get(&s->interned, key, &found)) {
        *out = (expr_id)found;
        return 0;
    }
    if (s->n_exprs == s->cap_exprs) {
        struct expr *p;

        if (s->n_exprs >= SCHEMA_MAX_EXPRS)
            return err_set(s->e, WATT_ELIMIT, "schema: too complex (over %u parts)",
                           SCHEMA_MAX_EXPRS);
        p = mem_grow(s->exprs, (size_t)s->cap_exprs * 2, sizeof *p);
        if (!p)
            return err_set(s->e, WATT_ENOMEM, "schema: memory");
        s->exprs = p;
        s->cap_exprs *= 2;
    }
    if (x.kind != EXPR_NODE) {
        rc = map_put(&s->interned, key, s->n_exprs, s->e);
        if (rc < 0)
            return rc;
    }
    x.empty = -1;
    x.rule = FA_NONE;
    s->exprs[s->n_exprs] = x;
    *out = s->n_exprs++;
    return 0;
}

int expr_schema(struct schema *s, const json_t *schema, uint32_t resource, uint32_t scope,
                expr_id *out)
{
    if (json_is_true(schema) || (json_is_object(schema) && json_object_size(schema) == 0)) {
        *out = EXPR_TRUE;
        return 0;
    }
    if (json_is_false(schema)) {
        *out = EXPR_FALSE;
        return 0;
    }
    return intern(s, (struct expr){ .kind = EXPR_SCHEMA, .schema = schema, .resource = resource,
                                    .scope = scope }, out);
}

int expr_node(struct schema *s, struct node *n, expr_id *out)
{
    return intern(s, (struct expr){ .kind = EXPR_NODE, .node = n }, out);
}

int expr_and(struct schema *s, expr_id a, expr_id b, expr_id *out)
{
    if (a == EXPR_FALSE || b == EXPR_FALSE)
        *out = EXPR_FALSE;
    else if (a == EXPR_TRUE || a == b)
        *out = b;
    else if (b == EXPR_TRUE)
        *out = a;
    else if ((s->exprs[a].kind == EXPR_NOT && s->exprs[a].a == b) ||
             (s->exprs[b].kind == EXPR_NOT && s->exprs[b].a == a))
        *out = EXPR_FALSE;
    else
        return intern(s, (struct expr){ .kind = EXPR_AND, .a = a < b ? a : b, .b = a < b ? b : a },
                      out);
    return 0;
}

int expr_or(struct schema *s, expr_id a, expr_id b, expr_id *out)
{
    if (a == EXPR_TRUE || b == EXPR_TRUE)
        *out = EXPR_TRUE;
    else if (a == EXPR_FALSE || a == b)
        *out = b;
    else if (b == EXPR_FALSE)
        *out = a;
    else
        return intern(s, (struct expr){ .kind = EXPR_OR, .a = a < b ? a : b, .b = a < b ? b : a },
                      out);
    return 0;
}

int expr_not(struct schema *s, expr_id a, expr_id *out)
{
    if (a == EXPR_TRUE)
        *out = EXPR_FALSE;
    else if (a == EXPR_FALSE)
        *out = EXPR_TRUE;
    else if (s->exprs[a].kind == EXPR_NOT)
        *out = s->exprs[a].a;
    else
        return intern(s, (struct expr){ .kind = EXPR_NOT, .a = a }, out);
    return 0;
}

/* The set of values of an expression, made once. */
int expr_to_node(struct schema *s, expr_id id, const struct node **out)
{
    const struct expr x = s->exprs[id];     /* the table may move */
    const struct node *a, *b;
    struct node *made = NULL;
    int rc;

    if (x.node) {
        *out = x.node;
        return 0;
    }
    if (x.busy)
        return x.schema ? schema_refuse(s, x.schema, WATT_EFORMAT, "refers to itself without end")
                        : err_set(s->e, WATT_EFORMAT, "schema: refers to itself without end");
    if (++s->depth > SCHEMA_MAX_DEPTH)
        return err_set(s->e, WATT_ELIMIT, "schema: nested deeper than %u", SCHEMA_MAX_DEPTH);
    s->exprs[id].busy = true;
    if (x.kind == EXPR_SCHEMA) {
        rc = schema_to_node(s, x.schema, x.resource, x.scope, out);
    } else {
        rc = expr_to_node(s, x.a, &a);
        if (rc == 0 && x.kind != EXPR_NOT)
            rc = expr_to_node(s, x.b, &b);
        if (rc == 0)
            rc = x.kind == EXPR_NOT ? node_not(s, a, &made)
                 : x.kind == EXPR_AND ? node_and(s, a, b, &made) : node_or(s, a, b, &made);
        *out = made;
    }
    s->exprs[id].busy = false;
    s->depth--;
    if (rc == 0)
        s->exprs[id].node = (struct node *)(uintptr_t)*out;
    return rc;
}

int expr_empty(struct schema *s, expr_id id, bool *empty)
{
    const struct node *n;
    int rc;

    *empty = false;
    if (s->exprs[id].empty >= 0) {
        *empty = s->exprs[id].empty;
        return 0;
    }
    if (s->exprs[id].busy)
        return 0;
    /* its node may hold what recurses into it */
    rc = expr_to_node(s, id, &n);
    if (rc < 0)
        return rc;
    s->exprs[id].busy = true;
    rc = node_empty(s, n, empty);
    s->exprs[id].busy = false;
    if (rc == 0)
        s->exprs[id].empty = *empty;
    return rc;
}

/* ---- nodes ---- */

struct node *node_new(struct schema *s)
{
    return schema_alloc(s, 1, sizeof(struct node));
}

static int push(struct schema *s, void ***list, uint32_t *n, void *p)
{
    if ((*n & (*n - 1)) == 0) {         /* a power of two, or none: full */
        void **q = schema_alloc(s, *n ? (size_t)*n * 2 : 1, sizeof *q);

        if (!q)
            return WATT_ENOMEM;
        if (*n)
            memcpy(q, *list, *n * sizeof *q);
        *list = q;
    }
    if (*n >= SCHEMA_MAX_BRANCHES)
        return err_set(s->e, WATT_ELIMIT, "schema: too complex (over %u alternatives)",
                       SCHEMA_MAX_BRANCHES);
    (*list)[(*n)++] = p;
    return 0;
}

static int push_array(struct schema *s, struct node *n, struct arr *a)
{
    void **list = (void **)n->arrays;
    const int rc = push(s, &list, &n->n_arrays, a);

    n->arrays = (struct arr **)list;
    return rc;
}

static int push_object(struct schema *s, struct node *n, struct obj *o)
{
    void **list = (void **)n->objects;
    const int rc = push(s, &list, &n->n_objects, o);

    n->objects = (struct obj **)list;
    return rc;
}

static int and_arrays(struct schema *s, const struct node *a, const struct node *b, struct node *n)
{
    int rc = 0;

    for (uint32_t i = 0; i < a->n_arrays && rc == 0; i++)
        for (uint32_t k = 0; k < b->n_arrays && rc == 0; k++) {
            struct arr *both;
            bool empty = false;

            rc = arr_and(s, a->arrays[i], b->arrays[k], &both);
            if (rc == 0)
                rc = arr_empty(s, both, &empty);
            if (rc == 0 && !empty)
                rc = push_array(s, n, both);
        }
    return rc;
}

static int and_objects(struct schema *s, const struct node *a, const struct node *b, struct node *n)
{
    int rc = 0;

    for (uint32_t i = 0; i < a->n_objects && rc == 0; i++)
        for (uint32_t k = 0; k < b->n_objects && rc == 0; k++) {
            struct obj *both;
            bool empty = false;

            rc = obj_and(s, a->objects[i], b->objects[k], &both);
            if (rc == 0)
                rc = obj_empty(s, both, &empty);
            if (rc == 0 && !empty)
                rc = push_object(s, n, both);
        }
    return rc;
}

int node_and(struct schema *s, const struct node *a, const struct node *b, struct node **out)
{
    struct node *n = node_new(s);
    int rc;

    if (!n)
        return WATT_ENOMEM;
    n->atoms = a->atoms & b->atoms;
    n->inexact = a->inexact || b->inexact;
    rc = lang_combine(s, &a->number, DFA_AND, &b->number, s->all_numbers, &n->number);
    if (rc == 0)
        rc = lang_combine(s, &a->string, DFA_AND, &b->string, s->all_strings, &n->string);
    if (rc == 0)
        rc = and_arrays(s, a, b, n);
    if (rc == 0)
        rc = and_objects(s, a, b, n);
    *out = n;
    return rc;
}

int node_or(struct schema *s, const struct node *a, const struct node *b, struct node **out)
{
    struct node *n = node_new(s);
    int rc;

    if (!n)
        return WATT_ENOMEM;
    n->atoms = a->atoms | b->atoms;
    n->inexact = a->inexact || b->inexact;
    rc = lang_combine(s, &a->number, DFA_OR, &b->number, s->all_numbers, &n->number);
    if (rc == 0)
        rc = lang_combine(s, &a->string, DFA_OR, &b->string, s->all_strings, &n->string);
    for (int i = 0; i < 2; i++) {
        const struct node *from = i ? b : a;

        for (uint32_t k = 0; k < from->n_arrays && rc == 0; k++)
            rc = push_array(s, n, from->arrays[k]);
        for (uint32_t k = 0; k < from->n_objects && rc == 0; k++)
            rc = push_object(s, n, from->objects[k]);
    }
    *out = n;
    return rc;
}

/* All arrays but a's: the intersection of the complements. Likewise objects. */
static int not_arrays(struct schema *s, const struct node *a, struct node *n)
{
    struct node rest = { .arrays = s->universe->arrays, .n_arrays = 1 };
    int rc = 0;

    for (uint32_t i = 0; i < a->n_arrays && rc == 0; i++) {
        struct node one = { 0 }, next = { 0 };
        struct arr *no;

        rc = arr_not(s, a->arrays[i], &no);
        if (rc == 0)
            rc = push_array(s, &one, no);
        if (rc == 0)
            rc = and_arrays(s, &rest, &one, &next);
        rest = next;
    }
    n->arrays = rest.arrays;
    n->n_arrays = rest.n_arrays;
    return rc;
}

static int not_objects(struct schema *s, const struct node *a, struct node *n)
{
    struct node rest = { .objects = s->universe->objects, .n_objects = 1 };
    int rc = 0;

    for (uint32_t i = 0; i < a->n_objects && rc == 0; i++) {
        struct node one = { 0 }, next = { 0 };

        rc = obj_not(s, a->objects[i], &one.objects, &one.n_objects);
        if (rc == 0)
            rc = and_objects(s, &rest, &one, &next);
        rest = next;
    }
    n->objects = rest.objects;
    n->n_objects = rest.n_objects;
    return rc;
}

int node_not(struct schema *s, const struct node *a, struct node **out)
{
    const struct lang all = { .all = true };
    struct node *n = node_new(s);
    int rc;

    if (!n)
        return WATT_ENOMEM;
    if (a->string.inexact || a->number.inexact || a->inexact)
        return err_set(s->e, WATT_ENOTSUP, "schema: a format or an unevaluated… keyword under "
                       "not, oneOf or if can't be enforced");
    n->atoms = ~a->atoms & (ATOM_NULL | ATOM_TRUE | ATOM_FALSE);
    rc = lang_combine(s, &all, DFA_MINUS, &a->number, s->all_numbers, &n->number);
    if (rc == 0)
        rc = lang_combine(s, &all, DFA_MINUS, &a->string, s->all_strings, &n->string);
    if (rc == 0)
        rc = not_arrays(s, a, n);
    if (rc == 0)
        rc = not_objects(s, a, n);
    *out = n;
    return rc;
}

int node_empty(struct schema *s, const struct node *a, bool *empty)
{
    int rc = 0;

    *empty = !a->atoms && !a->number.all && !a->number.d && !a->string.all && !a->string.d;
    for (uint32_t i = 0; i < a->n_arrays && *empty && rc == 0; i++)
        rc = arr_empty(s, a->arrays[i], empty);
    for (uint32_t i = 0; i < a->n_objects && *empty && rc == 0; i++)
        rc = obj_empty(s, a->objects[i], empty);
    return rc;
}
