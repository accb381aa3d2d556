/* schema_node.c: what the keywords of one schema object mean, as a set of values. */
#include <string.h>

#include "base/mem.h"
#include "models/grammar/regex.h"
#include "models/grammar/schema.h"

struct here {                   /* the schema object being read */
    struct schema *s;
    const json_t  *at;
    uint32_t       resource, scope;
};

static const json_t *get(const struct here *h, const char *key)
{
    return json_object_get(h->at, key);
}

static int sub(const struct here *h, const json_t *schema, expr_id *out)
{
    if (!json_is_object(schema) && !json_is_boolean(schema))
        return schema_refuse(h->s, h->at, WATT_EFORMAT, "a schema was expected");
    return expr_schema(h->s, schema, schema_resource_of(h->s, schema, h->resource), h->scope, out);
}

static int sub_node(const struct here *h, const json_t *schema, const struct node **out)
{
    expr_id x;
    int rc = sub(h, schema, &x);

    return rc < 0 ? rc : expr_to_node(h->s, x, out);
}

int schema_count(struct schema *s, const json_t *schema, const char *key, uint32_t *out)
{
    const json_t *v = json_object_get(schema, key);
    double x;

    if (!v)
        return 0;
    if (!json_is_number(v))
        return schema_refuse(s, schema, WATT_EFORMAT, "%s must be a number", key);
    x = json_number_value(v);
    if (x < 0 || x != (double)(int64_t)(x < 1e15 ? x : 0))
        return schema_refuse(s, schema, WATT_EFORMAT, "%s must be a whole number", key);
    if (x > SCHEMA_MAX_COUNT)
        return schema_refuse(s, schema, WATT_ELIMIT, "%s: at most %u is supported", key,
                             SCHEMA_MAX_COUNT);
    *out = (uint32_t)x;
    return 0;
}

/* ---- literals ---- */

static int const_object(struct schema *s, const json_t *at, const json_t *value, struct node *n)
{
    struct obj *o = schema_alloc(s, 1, sizeof *o);
    const char *key;
    json_t *v;

    if (!o)
        return WATT_ENOMEM;
    o->max = NO_BOUND;
    o->members = schema_alloc(s, json_object_size(value), sizeof *o->members);
    n->objects = schema_alloc(s, 1, sizeof *n->objects);
    if (!o->members || !n->objects)
        return WATT_ENOMEM;
    json_object_foreach((json_t *)(uintptr_t)value, key, v) {
        struct member *m = &o->members[o->n_members++];
        struct node *one;
        int rc = schema_const(s, at, v, &one);

        *m = (struct member){ .name = sv_cstr(key), .required = true };
        if (rc == 0)
            rc = expr_node(s, one, &m->value);
        if (rc < 0)
            return rc;
    }
    n->objects[0] = o;
    n->n_objects = 1;
    return 0;
}

static int const_array(struct schema *s, const json_t *at, const json_t *value, struct node *n)
{
    const size_t len = json_array_size(value);
    struct arr *a = schema_alloc(s, 1, sizeof *a);
    json_t *v;
    size_t i;

    n->arrays = schema_alloc(s, 1, sizeof *n->arrays);
    if (!a || !n->arrays)
        return WATT_ENOMEM;
    a->states = schema_alloc(s, len + 1, sizeof *a->states);
    a->edges = schema_alloc(s, len, sizeof *a->edges);
    if (!a->states || !a->edges)
        return WATT_ENOMEM;
    json_array_foreach(value, i, v) {
        struct node *one;
        int rc = schema_const(s, at, v, &one);

        a->edges[i].to = (uint32_t)i + 1;
        a->states[i] = (struct arr_state){ (uint32_t)i, 1, false };
        if (rc == 0)
            rc = expr_node(s, one, &a->edges[i].item);
        if (rc < 0)
            return rc;
    }
    a->states[len] = (struct arr_state){ (uint32_t)len, 0, true };
    a->n_states = (uint32_t)len + 1;
    a->n_edges = (uint32_t)len;
    n->arrays[0] = a;
    n->n_arrays = 1;
    return 0;
}

int schema_const(struct schema *s, const json_t *at, const json_t *value, struct node **out)
{
    struct node *n = node_new(s);
    struct sv text;
    struct dfa *d;
    int rc = 0;

    if (!n)
        return WATT_ENOMEM;
    switch (json_typeof(value)) {
    case JSON_NULL: n->atoms = ATOM_NULL; break;
    case JSON_TRUE: n->atoms = ATOM_TRUE; break;
    case JSON_FALSE: n->atoms = ATOM_FALSE; break;
    case JSON_INTEGER: case JSON_REAL:
        rc = number_dfa(s, at, NUMBER_EQUAL, value, &n->number.d);
        break;
    case JSON_STRING:
        text = (struct sv){ json_string_value(value), json_string_length(value) };
        rc = dfa_literals(&d, &text, 1, SCHEMA_MAX_STATES, s->e);
        if (rc == 0)
            rc = schema_own(s, d);
        n->string.d = d;
        break;
    case JSON_ARRAY: rc = const_array(s, at, value, n); break;
    case JSON_OBJECT: rc = const_object(s, at, value, n); break;
    }
    *out = n;
    return rc;
}

/* Strings are many in enumerations: they become one automaton. */
static int enumeration(const struct here *h, const json_t *list, struct node **out)
{
    struct schema *s = h->s;
    const size_t n = json_array_size(list);
    struct node *all = node_new(s), *one;
    struct sv *texts = schema_alloc(s, n, sizeof *texts);
    size_t i, n_texts = 0;
    json_t *v;
    int rc = 0;

    if (!all || !texts)
        return WATT_ENOMEM;
    if (!json_is_array(list))
        return schema_refuse(s, h->at, WATT_EFORMAT, "enum must be an array");
    json_array_foreach(list, i, v) {
        if (json_is_string(v)) {
            texts[n_texts++] = (struct sv){ json_string_value(v), json_string_length(v) };
            continue;
        }
        if (rc == 0)
            rc = schema_const(s, h->at, v, &one);
        if (rc == 0)
            rc = node_or(s, all, one, &all);
    }
    if (rc == 0 && n_texts) {
        struct dfa *d;

        rc = dfa_literals(&d, texts, n_texts, SCHEMA_MAX_STATES * 4, s->e);
        if (rc == 0)
            rc = schema_own(s, d);
        if (rc == 0)
            all->string.d = d;
    }
    *out = all;
    return rc;
}

/* ---- types ---- */

static int one_type(const struct here *h, const json_t *name, struct node *n)
{
    const struct node *const all = h->s->universe;
    const char *z = json_string_value(name);

    if (!z)
        return schema_refuse(h->s, h->at, WATT_EFORMAT, "type must be a string or an array of them");
    if (strcmp(z, "null") == 0) {
        n->atoms |= ATOM_NULL;
    } else if (strcmp(z, "boolean") == 0) {
        n->atoms |= ATOM_TRUE | ATOM_FALSE;
    } else if (strcmp(z, "number") == 0) {
        n->number = (struct lang){ .all = true };
    } else if (strcmp(z, "integer") == 0) {
        if (!n->number.all)
            n->number.d = h->s->integers;
    } else if (strcmp(z, "string") == 0) {
        n->string.all = true;
    } else if (strcmp(z, "array") == 0) {
        n->arrays = all->arrays;
        n->n_arrays = 1;
    } else if (strcmp(z, "object") == 0) {
        n->objects = all->objects;
        n->n_objects = 1;
    } else {
        return schema_refuse(h->s, h->at, WATT_EFORMAT, "type '%s' is unknown", z);
    }
    return 0;
}

static int types(const struct here *h, struct node *n)
{
    const json_t *type = get(h, "type");
    size_t i;
    json_t *v;
    int rc = 0;

    if (!type) {
        *n = *h->s->universe;
        return 0;
    }
    if (!json_is_array(type))
        return one_type(h, type, n);
    json_array_foreach(type, i, v) {
        if (rc == 0)
            rc = one_type(h, v, n);
    }
    return rc;
}

static int narrow(struct schema *s, struct lang *to, const struct dfa *d, bool inexact,
                  const struct dfa *all)
{
    const struct lang with = { .d = d, .inexact = inexact };
    struct lang r;
    const int rc = lang_combine(s, to, DFA_AND, &with, all, &r);

    if (rc == 0)
        *to = r;
    return rc;
}

static int numbers(const struct here *h, struct node *n)
{
    static const struct { const char *key; enum number_set set; } keys[] = {
        { "minimum", NUMBER_AT_LEAST }, { "exclusiveMinimum", NUMBER_ABOVE },
        { "maximum", NUMBER_AT_MOST }, { "exclusiveMaximum", NUMBER_BELOW },
        { "multipleOf", NUMBER_MULTIPLE } };
    int rc = 0;

    for (size_t i = 0; i < sizeof keys / sizeof *keys && rc == 0; i++) {
        const json_t *v = get(h, keys[i].key);
        const struct dfa *d;

        if (!v)
            continue;
        if (!json_is_number(v))
            return schema_refuse(h->s, h->at, WATT_EFORMAT, "%s must be a number", keys[i].key);
        if (!n->number.all && !n->number.d)
            continue;
        rc = number_dfa(h->s, h->at, keys[i].set, v, &d);
        if (rc == 0)
            rc = narrow(h->s, &n->number, d, false, h->s->all_numbers);
    }
    return rc;
}

static int strings(const struct here *h, struct node *n)
{
    struct schema *s = h->s;
    const json_t *pattern = get(h, "pattern"), *format = get(h, "format");
    uint32_t min = 0, max = NO_BOUND;
    struct dfa *d;
    int rc = schema_count(s, h->at, "minLength", &min);

    if (rc == 0)
        rc = schema_count(s, h->at, "maxLength", &max);
    if (rc < 0 || (!n->string.all && !n->string.d))
        return rc;
    if (pattern) {
        if (!json_is_string(pattern))
            return schema_refuse(s, h->at, WATT_EFORMAT, "pattern must be a string");
        rc = regex_compile(&d, (struct sv){ json_string_value(pattern),
                                            json_string_length(pattern) },
                           REGEX_SEARCH, "schema: pattern", s->e);
        if (rc == 0)
            rc = schema_own(s, d);
        if (rc == 0)
            rc = narrow(s, &n->string, d, false, s->all_strings);
    }
    if (rc == 0 && format && !s->opts.no_format) {
        struct lang f, r;

        if (!json_is_string(format))
            return schema_refuse(s, h->at, WATT_EFORMAT, "format must be a string");
        rc = format_lang(s, h->at, json_string_value(format), &f);
        if (rc == 0)
            rc = lang_combine(s, &n->string, DFA_AND, &f, s->all_strings, &r);
        if (rc == 0)
            n->string = r;
    }
    if (rc == 0 && max < min) {
        n->string = (struct lang){ 0 };
        return 0;
    }
    if (rc == 0 && (min > 0 || max != NO_BOUND))
        rc = lang_limit(s, &n->string, &(struct cfg_count){ min, max, FA_NONE });
    return rc;
}

/* ---- combinations ---- */

static int and_with(struct schema *s, struct node **n, const struct node *with)
{
    return node_and(s, *n, with, n);
}

static int need_list(const struct here *h, const json_t *v, const char *key)
{
    if (!json_is_array(v) || json_array_size(v) == 0)
        return schema_refuse(h->s, h->at, WATT_EFORMAT, "%s must be a list of schemas", key);
    return 0;
}

static int all_of(const struct here *h, struct node **n)
{
    const json_t *list = get(h, "allOf");
    const struct node *one;
    size_t i;
    json_t *v;
    int rc = list ? need_list(h, list, "allOf") : 0;

    json_array_foreach(list, i, v) {
        if (rc == 0)
            rc = sub_node(h, v, &one);
        if (rc == 0)
            rc = and_with(h->s, n, one);
    }
    return rc;
}

static int any_of(const struct here *h, struct node **n)
{
    const json_t *list = get(h, "anyOf");
    struct node *any = NULL;
    const struct node *one;
    size_t i;
    json_t *v;
    int rc;

    if (!list)
        return 0;
    rc = need_list(h, list, "anyOf");
    any = node_new(h->s);
    if (!any)
        return WATT_ENOMEM;
    json_array_foreach(list, i, v) {
        if (rc == 0)
            rc = sub_node(h, v, &one);
        if (rc == 0)
            rc = node_or(h->s, any, one, &any);
    }
    return rc < 0 ? rc : and_with(h->s, n, any);
}

/* One branch and none of the others; those that can't hold together with it need no complement,
 * and a branch that names a value by a constant most often has no such others. */
static int one_of(const struct here *h, struct node **n)
{
    struct schema *s = h->s;
    const json_t *list = get(h, "oneOf");
    struct node *any = node_new(s);
    size_t i, k;
    json_t *v, *w;
    int rc;

    if (!list)
        return 0;
    if (!any)
        return WATT_ENOMEM;
    rc = need_list(h, list, "oneOf");
    json_array_foreach(list, i, v) {
        const struct node *base;
        struct node *only;

        if (rc < 0)
            break;
        rc = sub_node(h, v, &base);
        only = (struct node *)(uintptr_t)base;
        if (rc == 0)
            rc = node_and(s, only, *n, &only);
        json_array_foreach(list, k, w) {
            const struct node *other;
            struct node *both, *no;
            bool empty = false;

            if (rc < 0 || k == i)
                continue;
            rc = sub_node(h, w, &other);
            if (rc == 0)
                rc = node_and(s, only, other, &both);
            if (rc == 0)
                rc = node_empty(s, both, &empty);
            if (rc < 0 || empty)
                continue;
            rc = node_not(s, other, &no);
            if (rc == 0)
                rc = node_and(s, only, no, &only);
        }
        if (rc == 0)
            rc = node_or(s, any, only, &any);
    }
    if (rc == 0)
        *n = any;
    return rc;
}

static int not_this(const struct here *h, struct node **n)
{
    const json_t *v = get(h, "not");
    const struct node *one;
    struct node *no;
    int rc;

    if (!v)
        return 0;
    rc = sub_node(h, v, &one);
    if (rc == 0)
        rc = node_not(h->s, one, &no);
    return rc < 0 ? rc : and_with(h->s, n, no);
}

/* (if and then) or (not if and else). */
static int if_then_else(const struct here *h, struct node **n)
{
    const json_t *const parts[] = { get(h, "if"), get(h, "then"), get(h, "else") };
    const struct node *condition, *then = h->s->universe, *otherwise = h->s->universe;
    struct node *yes, *no;
    int rc;

    if (!parts[0] || (!parts[1] && !parts[2]))
        return 0;
    rc = sub_node(h, parts[0], &condition);
    if (rc == 0 && parts[1])
        rc = sub_node(h, parts[1], &then);
    if (rc == 0 && parts[2])
        rc = sub_node(h, parts[2], &otherwise);
    if (rc == 0)
        rc = node_and(h->s, condition, then, &yes);
    if (rc == 0)
        rc = node_not(h->s, condition, &no);
    if (rc == 0)
        rc = node_and(h->s, no, otherwise, &no);
    if (rc == 0)
        rc = node_or(h->s, yes, no, &yes);
    return rc < 0 ? rc : and_with(h->s, n, yes);
}

/* Objects without the name, or with it and as said. */
static int depends(const struct here *h, struct node **n, const char *name, const struct node *then)
{
    struct schema *s = h->s;
    struct node *without = node_new(s), *with = node_new(s), *either;
    struct obj *o[2];
    int rc = 0;

    if (!without || !with)
        return WATT_ENOMEM;
    *without = *s->universe;
    *with = (struct node){ 0 };
    for (int i = 0; i < 2 && rc == 0; i++) {
        struct node *to = i ? with : without;

        rc = obj_all(s, &o[i]);
        if (rc < 0)
            break;
        o[i]->members = schema_alloc(s, 1, sizeof *o[i]->members);
        to->objects = schema_alloc(s, 1, sizeof *to->objects);
        if (!o[i]->members || !to->objects)
            return WATT_ENOMEM;
        o[i]->members[0] = (struct member){ .name = sv_cstr(name), .required = i == 1,
                                            .value = i ? EXPR_TRUE : EXPR_FALSE };
        o[i]->n_members = 1;
        to->objects[0] = o[i];
        to->n_objects = 1;
    }
    if (rc == 0)
        rc = node_and(s, with, then, &with);
    if (rc == 0)
        rc = node_or(s, without, with, &either);
    return rc < 0 ? rc : and_with(s, n, either);
}

/* The names of a list must be there. */
static int all_required(const struct here *h, const json_t *list, struct node **out)
{
    struct schema *s = h->s;
    struct node *n = node_new(s);
    struct obj *o;
    size_t i;
    json_t *v;
    int rc;

    if (!n)
        return WATT_ENOMEM;
    rc = obj_all(s, &o);
    if (rc < 0)
        return rc;
    o->members = schema_alloc(s, json_array_size(list), sizeof *o->members);
    n->objects = schema_alloc(s, 1, sizeof *n->objects);
    if (!o->members || !n->objects)
        return WATT_ENOMEM;
    json_array_foreach(list, i, v) {
        if (!json_is_string(v))
            return schema_refuse(s, h->at, WATT_EFORMAT, "a list of names was expected");
        o->members[o->n_members++] = (struct member){
            .name = { json_string_value(v), json_string_length(v) }, .required = true,
            .value = EXPR_TRUE };
    }
    n->objects[0] = o;
    n->n_objects = 1;
    *out = n;
    return 0;
}

static int dependencies(const struct here *h, struct node **n)
{
    static const char *const keys[] = { "dependentSchemas", "dependentRequired", "dependencies" };
    const char *name;
    json_t *v;
    int rc = 0;

    for (size_t i = 0; i < 3 && rc == 0; i++) {
        const json_t *map = get(h, keys[i]);

        if (map && !json_is_object(map))
            return schema_refuse(h->s, h->at, WATT_EFORMAT, "%s must be an object", keys[i]);
        json_object_foreach((json_t *)(uintptr_t)map, name, v) {
            const struct node *then;
            struct node *required = NULL;

            if (rc < 0)
                break;
            if (json_is_array(v)) {
                rc = all_required(h, v, &required);
                then = required;
            } else {
                rc = sub_node(h, v, &then);
            }
            if (rc == 0)
                rc = depends(h, n, name, then);
        }
    }
    return rc;
}

static int references(const struct here *h, struct node **n)
{
    static const char *const keys[] = { "$ref", "$dynamicRef" };
    int rc = 0;

    for (int i = 0; i < 2 && rc == 0; i++) {
        const json_t *v = get(h, keys[i]), *target;
        const struct node *one;
        uint32_t resource;
        expr_id x;

        if (!v)
            continue;
        if (!json_is_string(v))
            return schema_refuse(h->s, h->at, WATT_EFORMAT, "%s must be a string", keys[i]);
        rc = i ? schema_resolve_dynamic(h->s, h->at, json_string_value(v), h->resource, h->scope,
                                        &target, &resource)
               : schema_resolve(h->s, h->at, json_string_value(v), h->resource, &target, &resource);
        if (rc == 0 && !json_is_object(target) && !json_is_boolean(target))
            rc = schema_refuse(h->s, h->at, WATT_EFORMAT, "%s points at no schema", keys[i]);
        if (rc == 0)
            rc = expr_schema(h->s, target, resource, h->scope, &x);
        if (rc == 0)
            rc = expr_to_node(h->s, x, &one);
        if (rc == 0)
            rc = and_with(h->s, n, one);
    }
    return rc;
}

/* ---- what no other keyword looked at ---- */

static int unevaluated_members(const struct here *h, struct node *n, expr_id x)
{
    struct schema *s = h->s;
    int rc = 0;

    for (uint32_t i = 0; i < n->n_objects && rc == 0; i++) {
        struct obj *o = schema_alloc(s, 1, sizeof *o);

        if (!o)
            return WATT_ENOMEM;
        *o = *n->objects[i];
        o->members = schema_alloc(s, o->n_members, sizeof *o->members);
        o->regions = schema_alloc(s, o->n_regions, sizeof *o->regions);
        if (!o->members || !o->regions)
            return WATT_ENOMEM;
        for (uint32_t k = 0; k < o->n_members && rc == 0; k++) {
            o->members[k] = n->objects[i]->members[k];
            if (!o->members[k].evaluated)
                rc = expr_and(s, o->members[k].value, x, &o->members[k].value);
            o->members[k].evaluated = true;
        }
        for (uint32_t k = 0; k < o->n_regions && rc == 0; k++) {
            o->regions[k] = n->objects[i]->regions[k];
            if (!o->regions[k].evaluated)
                rc = expr_and(s, o->regions[k].value, x, &o->regions[k].value);
            o->regions[k].evaluated = true;
        }
        n->objects[i] = o;
    }
    return rc;
}

static int unevaluated_items(const struct here *h, struct node *n, expr_id x)
{
    struct schema *s = h->s;
    int rc = 0;

    for (uint32_t i = 0; i < n->n_arrays && rc == 0; i++) {
        struct arr *a = schema_alloc(s, 1, sizeof *a);

        if (!a)
            return WATT_ENOMEM;
        *a = *n->arrays[i];
        a->edges = schema_alloc(s, a->n_edges, sizeof *a->edges);
        if (!a->edges)
            return WATT_ENOMEM;
        for (uint32_t k = 0; k < a->n_edges && rc == 0; k++) {
            a->edges[k] = n->arrays[i]->edges[k];
            if (!a->edges[k].evaluated)
                rc = expr_and(s, a->edges[k].item, x, &a->edges[k].item);
            a->edges[k].evaluated = true;
        }
        n->arrays[i] = a;
    }
    return rc;
}

static int unevaluated(const struct here *h, struct node **n)
{
    static const char *const keys[] = { "unevaluatedProperties", "unevaluatedItems" };
    int rc = 0;

    for (int i = 0; i < 2 && rc == 0; i++) {
        const json_t *v = get(h, keys[i]);
        struct node *copy;
        expr_id x;

        if (!v)
            continue;
        rc = sub(h, v, &x);
        if (rc == 0)
            rc = node_and(h->s, *n, h->s->universe, &copy);     /* lists of its own */
        if (rc < 0)
            return rc;
        *n = copy;
        /* An alternative does not know what the others would have looked at: it asks for more
         * than the standard does. */
        copy->inexact |= (i ? copy->n_arrays : copy->n_objects) > 1;
        rc = i ? unevaluated_items(h, copy, x) : unevaluated_members(h, copy, x);
    }
    return rc;
}

/* ---- a whole schema ---- */

static int containers(const struct here *h, struct node *n)
{
    struct schema *s = h->s;
    int rc = 0;

    if (n->n_arrays) {
        struct node arrays = { 0 }, *both;
        struct arr *a;

        rc = schema_array(s, h->at, h->resource, h->scope, &a, &n->inexact);
        if (rc < 0)
            return rc;
        arrays.arrays = &a;
        arrays.n_arrays = 1;
        arrays.inexact = n->inexact;
        rc = node_and(s, n, &arrays, &both);
        if (rc < 0)
            return rc;
        n->arrays = both->arrays;
        n->n_arrays = both->n_arrays;
    }
    if (n->n_objects) {
        struct node objects = { 0 }, *both;
        struct obj *o;

        rc = schema_object(s, h->at, h->resource, h->scope, &o);
        if (rc < 0)
            return rc;
        objects.objects = &o;
        objects.n_objects = 1;
        rc = node_and(s, n, &objects, &both);
        if (rc < 0)
            return rc;
        n->objects = both->objects;
        n->n_objects = both->n_objects;
    }
    return rc;
}

int schema_to_node(struct schema *s, const json_t *schema, uint32_t resource, uint32_t scope,
                   const struct node **out)
{
    struct here h = { s, schema, resource, scope };
    struct node *n = node_new(s), *literal;
    int rc;

    if (!n)
        return WATT_ENOMEM;
    if (json_is_boolean(schema)) {
        *out = s->exprs[json_is_true(schema) ? EXPR_TRUE : EXPR_FALSE].node;
        return 0;
    }
    rc = schema_scope_push(s, scope, resource, &h.scope);
    if (rc == 0)
        rc = types(&h, n);
    if (rc == 0 && get(&h, "const")) {
        rc = schema_const(s, schema, get(&h, "const"), &literal);
        if (rc == 0)
            rc = and_with(s, &n, literal);
    }
    if (rc == 0 && get(&h, "enum")) {
        rc = enumeration(&h, get(&h, "enum"), &literal);
        if (rc == 0)
            rc = and_with(s, &n, literal);
    }
    if (rc == 0)
        rc = numbers(&h, n);
    if (rc == 0)
        rc = strings(&h, n);
    if (rc == 0)
        rc = containers(&h, n);
    if (rc == 0)
        rc = references(&h, &n);
    if (rc == 0)
        rc = all_of(&h, &n);
    if (rc == 0)
        rc = dependencies(&h, &n);
    if (rc == 0)
        rc = any_of(&h, &n);
    if (rc == 0)
        rc = one_of(&h, &n);
    if (rc == 0)
        rc = not_this(&h, &n);
    if (rc == 0)
        rc = if_then_else(&h, &n);
    if (rc == 0)
        rc = unevaluated(&h, &n);
    *out = n;
    return rc;
}
