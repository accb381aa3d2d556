/* schema_keywords.c: the keywords of arrays and of objects. */
#include <string.h>

#include "base/mem.h"
#include "models/grammar/regex.h"
#include "models/grammar/schema.h"

#define MAX_UNIQUE 10u          /* values that items may have under uniqueItems */

static int sub(struct schema *s, const json_t *at, const json_t *schema, uint32_t resource,
               uint32_t scope, expr_id *out)
{
    if (!json_is_object(schema) && !json_is_boolean(schema))
        return schema_refuse(s, at, WATT_EFORMAT, "a schema was expected");
    return expr_schema(s, schema, schema_resource_of(s, schema, resource), scope, out);
}

/* ---- arrays ---- */

/* Position by position: prefix, then items; min to max of them. State i: i items so far, the last
 * one any number more. */
static int positions(struct schema *s, const json_t *at, const json_t *prefix, uint32_t resource,
                     uint32_t scope, expr_id items, bool items_given, uint32_t min, uint32_t max,
                     struct arr **out)
{
    const uint32_t n_prefix = (uint32_t)json_array_size(prefix);
    uint32_t n = n_prefix > min ? n_prefix : min;
    struct arr *a = schema_alloc(s, 1, sizeof *a);
    int rc = 0;

    if (max != NO_BOUND)
        n = max;
    if (n > SCHEMA_MAX_COUNT)
        return schema_refuse(s, at, WATT_ELIMIT, "over %u items", SCHEMA_MAX_COUNT);
    if (!a)
        return WATT_ENOMEM;
    a->states = schema_alloc(s, (size_t)n + 1, sizeof *a->states);
    a->edges = schema_alloc(s, (size_t)n + 1, sizeof *a->edges);
    if (!a->states || !a->edges)
        return WATT_ENOMEM;
    for (uint32_t i = 0; i <= n && rc == 0; i++) {
        struct arr_edge *g = &a->edges[i];

        a->states[i] = (struct arr_state){ i, 1, i >= min };
        *g = (struct arr_edge){ items, i == n ? n : i + 1, items_given || i < n_prefix };
        if (i < n_prefix)
            rc = sub(s, at, json_array_get(prefix, i), resource, scope, &g->item);
        if (i == n && max != NO_BOUND)
            a->states[i].n = 0;         /* no more items */
    }
    a->n_states = n + 1;
    a->n_edges = n + 1;
    *out = a;
    return rc;
}

/* At least min and at most max items are in x. */
static int containing(struct schema *s, expr_id x, uint32_t min, uint32_t max, struct arr **out)
{
    const uint32_t n = max != NO_BOUND ? max : min;
    struct arr *a = schema_alloc(s, 1, sizeof *a);
    expr_id no;
    int rc = expr_not(s, x, &no);

    if (rc < 0 || !a)
        return rc < 0 ? rc : WATT_ENOMEM;
    a->states = schema_alloc(s, (size_t)n + 1, sizeof *a->states);
    a->edges = schema_alloc(s, 2 * ((size_t)n + 1), sizeof *a->edges);
    if (!a->states || !a->edges)
        return WATT_ENOMEM;
    for (uint32_t i = 0; i <= n; i++) {
        const bool last = i == n && max != NO_BOUND;

        a->states[i] = (struct arr_state){ a->n_edges, last ? 1 : 2, i >= min };
        if (!last)
            a->edges[a->n_edges++] = (struct arr_edge){ x, i == n ? n : i + 1, true };
        a->edges[a->n_edges++] = (struct arr_edge){ no, i, false };
    }
    a->n_states = n + 1;
    *out = a;
    return 0;
}

/* uniqueItems over a short list of literals: a state per set of those that were there. */
static int unique(struct schema *s, const json_t *at, const json_t *items, struct arr **out)
{
    const json_t *list = json_is_object(items) ? json_object_get(items, "enum") : NULL;
    const uint32_t k = (uint32_t)json_array_size(list);
    struct arr *a = schema_alloc(s, 1, sizeof *a);
    expr_id values[MAX_UNIQUE];
    int rc = 0;

    if (k == 0 || k > MAX_UNIQUE)
        return schema_refuse(s, at, WATT_ENOTSUP, "uniqueItems can be enforced only for items with "
                             "an enum of at most %u values", MAX_UNIQUE);
    if (!a)
        return WATT_ENOMEM;
    for (uint32_t i = 0; i < k && rc == 0; i++) {
        struct node *one;

        for (uint32_t j = 0; j < i; j++)
            if (json_equal(json_array_get(list, i), json_array_get(list, j)))
                return schema_refuse(s, at, WATT_ENOTSUP, "enum with a value twice, with "
                                     "uniqueItems");
        rc = schema_const(s, at, json_array_get(list, i), &one);
        if (rc == 0)
            rc = expr_node(s, one, &values[i]);
    }
    a->states = schema_alloc(s, 1u << k, sizeof *a->states);
    a->edges = schema_alloc(s, (size_t)k << k, sizeof *a->edges);
    if (rc < 0 || !a->states || !a->edges)
        return rc < 0 ? rc : WATT_ENOMEM;
    for (uint32_t set = 0; set < 1u << k; set++) {
        a->states[set] = (struct arr_state){ a->n_edges, 0, true };
        for (uint32_t i = 0; i < k; i++)
            if (!(set >> i & 1)) {
                a->edges[a->n_edges++] = (struct arr_edge){ values[i], set | 1u << i, false };
                a->states[set].n++;
            }
    }
    a->n_states = 1u << k;
    *out = a;
    return 0;
}

int schema_array(struct schema *s, const json_t *schema, uint32_t resource, uint32_t scope,
                 struct arr **out, bool *inexact)
{
    const json_t *prefix = json_object_get(schema, "prefixItems");
    const json_t *items = json_object_get(schema, "items");
    const json_t *contains = json_object_get(schema, "contains");
    const json_t *uniq = json_object_get(schema, "uniqueItems");
    uint32_t min = 0, max = NO_BOUND, least = 1, most = NO_BOUND;
    expr_id rest = EXPR_TRUE, x;
    struct arr *more;
    int rc = schema_count(s, schema, "minItems", &min);

    if (rc == 0)
        rc = schema_count(s, schema, "maxItems", &max);
    if (rc == 0)
        rc = schema_count(s, schema, "minContains", &least);
    if (rc == 0)
        rc = schema_count(s, schema, "maxContains", &most);
    if (json_is_array(items)) {         /* draft-07 */
        prefix = items;
        items = json_object_get(schema, "additionalItems");
    }
    if (rc == 0 && prefix && !json_is_array(prefix))
        rc = schema_refuse(s, schema, WATT_EFORMAT, "prefixItems must be a list of schemas");
    if (rc == 0 && items)
        rc = sub(s, schema, items, resource, scope, &rest);
    if (rc == 0 && min > max) {
        min = max = 0;
        rest = EXPR_FALSE;
        rc = arr_all(s, out);
        if (rc == 0)
            (*out)->states[0] = (struct arr_state){ 0, 0, false };
    } else if (rc == 0) {
        rc = positions(s, schema, prefix, resource, scope, rest, items != NULL, min, max, out);
    }
    if (rc == 0 && contains) {
        rc = sub(s, schema, contains, resource, scope, &x);
        if (rc == 0 && least > most)
            rc = arr_all(s, &more);
        else if (rc == 0)
            rc = containing(s, x, least, most, &more);
        if (rc == 0 && least > most)
            more->states[0] = (struct arr_state){ 0, 0, false };
        if (rc == 0)
            rc = arr_and(s, *out, more, out);
    }
    if (rc == 0 && json_is_true(uniq) && !(max != NO_BOUND && max <= 1)) {
        rc = unique(s, schema, items, &more);
        if (rc == 0)
            rc = arr_and(s, *out, more, out);
        *inexact = true;        /* labels are values, not a cover: no complement */
    }
    return rc;
}

/* ---- objects ---- */

struct object {
    struct schema *s;
    const json_t  *at;
    uint32_t       resource, scope;
    struct obj    *o;
    struct dfa   **patterns;
    expr_id       *pattern_values;
    uint32_t       n_patterns;
    expr_id        rest;            /* additionalProperties */
    bool           rest_given;
};

static int read_patterns(struct object *x)
{
    const json_t *map = json_object_get(x->at, "patternProperties");
    const char *key;
    json_t *v;
    int rc = 0;

    if (map && !json_is_object(map))
        return schema_refuse(x->s, x->at, WATT_EFORMAT, "patternProperties must be an object");
    x->patterns = schema_alloc(x->s, json_object_size(map), sizeof *x->patterns);
    x->pattern_values = schema_alloc(x->s, json_object_size(map), sizeof *x->pattern_values);
    if (!x->patterns || !x->pattern_values)
        return WATT_ENOMEM;
    json_object_foreach((json_t *)(uintptr_t)map, key, v) {
        struct dfa *d;

        if (rc == 0)
            rc = regex_compile(&d, sv_cstr(key), REGEX_SEARCH, "schema: patternProperties", x->s->e);
        if (rc == 0)
            rc = schema_own(x->s, d);
        if (rc == 0)
            rc = sub(x->s, x->at, v, x->resource, x->scope, &x->pattern_values[x->n_patterns]);
        if (rc < 0)
            return rc;
        x->patterns[x->n_patterns++] = d;
    }
    return 0;
}

/* Every combination of patterns that some name matches, with its value; then the rest. */
static int make_regions(struct object *x)
{
    struct schema *s = x->s;
    struct region *list = schema_alloc(s, SCHEMA_MAX_BRANCHES, sizeof *list);
    uint32_t n = 1;
    int rc = 0;

    if (!list)
        return WATT_ENOMEM;
    list[0] = (struct region){ s->all_strings, EXPR_TRUE, false };
    for (uint32_t p = 0; p < x->n_patterns && rc == 0; p++) {
        const struct lang pattern = { .d = x->patterns[p] };
        const uint32_t before = n;

        for (uint32_t i = 0; i < before && rc == 0; i++) {
            const struct lang names = { .all = list[i].names == s->all_strings,
                                        .d = list[i].names };
            struct lang in, out_;

            rc = lang_combine(s, &names, DFA_AND, &pattern, s->all_strings, &in);
            if (rc == 0)
                rc = lang_combine(s, &names, DFA_MINUS, &pattern, s->all_strings, &out_);
            if (rc < 0 || !in.d)
                continue;
            if (out_.d) {
                if (n == SCHEMA_MAX_BRANCHES)
                    return schema_refuse(s, x->at, WATT_ELIMIT, "too many patternProperties");
                list[n++] = (struct region){ out_.d, list[i].value, list[i].evaluated };
            }
            list[i].names = in.d;
            list[i].evaluated = true;
            rc = expr_and(s, list[i].value, x->pattern_values[p], &list[i].value);
        }
    }
    for (uint32_t i = 0; i < n && rc == 0; i++)
        if (!list[i].evaluated) {
            list[i].value = x->rest;
            list[i].evaluated = x->rest_given;
        }
    x->o->regions = list;
    x->o->n_regions = n;
    return rc;
}

static int add_member(struct object *x, const char *key, size_t len, const json_t *schema)
{
    struct schema *s = x->s;
    struct member m = { .name = { key, len }, .value = EXPR_TRUE, .evaluated = schema != NULL };
    int rc = 0;

    if (schema)
        rc = sub(s, x->at, schema, x->resource, x->scope, &m.value);
    for (uint32_t i = 0; i < x->n_patterns && rc == 0; i++)
        if (dfa_matches(x->patterns[i], m.name)) {
            m.evaluated = true;
            rc = expr_and(s, m.value, x->pattern_values[i], &m.value);
        }
    if (!m.evaluated) {
        m.value = x->rest;
        m.evaluated = x->rest_given;
    }
    x->o->members[x->o->n_members++] = m;
    return rc;
}

static int make_members(struct object *x)
{
    const json_t *properties = json_object_get(x->at, "properties");
    const json_t *required = json_object_get(x->at, "required");
    const char *key;
    size_t i;
    json_t *v;
    int rc = 0;

    if (properties && !json_is_object(properties))
        return schema_refuse(x->s, x->at, WATT_EFORMAT, "properties must be an object");
    if (required && !json_is_array(required))
        return schema_refuse(x->s, x->at, WATT_EFORMAT, "required must be a list of names");
    x->o->members = schema_alloc(x->s, json_object_size(properties) + json_array_size(required),
                                 sizeof *x->o->members);
    if (!x->o->members)
        return WATT_ENOMEM;
    json_object_foreach((json_t *)(uintptr_t)properties, key, v) {
        if (rc == 0)
            rc = add_member(x, key, strlen(key), v);
    }
    json_array_foreach(required, i, v) {
        bool known = false;

        if (!json_is_string(v))
            return schema_refuse(x->s, x->at, WATT_EFORMAT, "required must be a list of names");
        for (uint32_t k = 0; k < x->o->n_members; k++)
            if (sv_eq(x->o->members[k].name,
                      (struct sv){ json_string_value(v), json_string_length(v) })) {
                x->o->members[k].required = true;
                known = true;
            }
        if (rc == 0 && !known) {
            rc = add_member(x, json_string_value(v), json_string_length(v), NULL);
            x->o->members[x->o->n_members - 1].required = true;
        }
    }
    return rc;
}

/* propertyNames: only these names. */
static int narrow_names(struct object *x)
{
    struct schema *s = x->s;
    const json_t *v = json_object_get(x->at, "propertyNames");
    const struct node *names;
    struct lang allowed;
    uint32_t n = 0;
    expr_id id;
    int rc;

    if (!v)
        return 0;
    rc = sub(s, x->at, v, x->resource, x->scope, &id);
    if (rc == 0)
        rc = expr_to_node(s, id, &names);
    if (rc < 0 || names->string.all)
        return rc;
    if (names->string.inexact)
        return schema_refuse(s, x->at, WATT_ENOTSUP, "propertyNames with this format is not "
                             "supported");
    allowed = names->string;
    rc = lang_plain(s, &allowed);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < x->o->n_members; i++)
        if (!allowed.d || !dfa_matches(allowed.d, x->o->members[i].name))
            x->o->members[i].value = EXPR_FALSE;
    for (uint32_t i = 0; i < x->o->n_regions && rc == 0; i++) {
        struct region g = x->o->regions[i];
        const struct lang a = { .all = g.names == s->all_strings, .d = g.names };
        struct lang both;

        rc = lang_combine(s, &a, DFA_AND, &allowed, s->all_strings, &both);
        if (rc < 0 || !both.d)
            continue;
        g.names = both.d;
        x->o->regions[n++] = g;
    }
    x->o->n_regions = n;
    return rc;
}

int schema_object(struct schema *s, const json_t *schema, uint32_t resource, uint32_t scope,
                  struct obj **out)
{
    const json_t *rest = json_object_get(schema, "additionalProperties");
    struct object x = { .s = s, .at = schema, .resource = resource, .scope = scope,
                        .rest = EXPR_TRUE, .rest_given = rest != NULL };
    int rc = 0;

    x.o = schema_alloc(s, 1, sizeof *x.o);
    if (!x.o)
        return WATT_ENOMEM;
    x.o->max = NO_BOUND;
    if (rest)
        rc = sub(s, schema, rest, resource, scope, &x.rest);
    else if (s->opts.strict && json_object_get(schema, "properties") &&
             !json_object_get(schema, "unevaluatedProperties"))
        x.rest = EXPR_FALSE;
    if (rc == 0)
        rc = read_patterns(&x);
    if (rc == 0)
        rc = make_regions(&x);
    if (rc == 0)
        rc = make_members(&x);
    if (rc == 0)
        rc = narrow_names(&x);
    if (rc == 0)
        rc = schema_count(s, schema, "minProperties", &x.o->min);
    if (rc == 0)
        rc = schema_count(s, schema, "maxProperties", &x.o->max);
    *out = x.o;
    return rc;
}
