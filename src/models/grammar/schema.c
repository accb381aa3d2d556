/* schema.c: the schema compiler's memory, its messages, and its public face. */
#include "models/grammar/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

void *schema_alloc(struct schema *s, size_t n, size_t size)
{
    void *p;

    if (s->n_blocks == s->cap_blocks) {
        const uint32_t cap = s->cap_blocks ? s->cap_blocks * 2 : 256;
        void **q = mem_grow(s->blocks, cap, sizeof *q);

        if (!q) {
            (void)err_set(s->e, WATT_ENOMEM, "schema: memory");
            return NULL;
        }
        s->blocks = q;
        s->cap_blocks = cap;
    }
    p = mem_calloc(n ? n : 1, size);
    if (!p)
        (void)err_set(s->e, WATT_ENOMEM, "schema: memory");
    else
        s->blocks[s->n_blocks++] = p;
    return p;
}

int schema_own(struct schema *s, struct dfa *d)
{
    if (s->n_dfas == s->cap_dfas) {
        const uint32_t cap = s->cap_dfas ? s->cap_dfas * 2 : 64;
        struct dfa **q = mem_grow(s->dfas, cap, sizeof *q);

        if (!q) {
            dfa_close(d);
            return err_set(s->e, WATT_ENOMEM, "schema: memory");
        }
        s->dfas = q;
        s->cap_dfas = cap;
    }
    s->dfas[s->n_dfas++] = d;
    return 0;
}

int schema_combine(struct schema *s, const struct dfa *a, enum dfa_op op, const struct dfa *b,
                   uint32_t max_states, const char *what, const struct dfa **out)
{
    struct dfa *d;
    int rc = dfa_combine(&d, a, op, b, max_states, what, s->e);

    if (rc == 0)
        rc = schema_own(s, d);
    if (rc == 0)
        *out = d;
    return rc;
}

/* Appends the JSON pointer from `from` to `to`; false when it is not below. */
static bool find_path(const json_t *from, const json_t *to, struct str *path, unsigned depth)
{
    const size_t mark = path->len;
    const char *key;
    json_t *value;
    size_t i;

    if (from == to)
        return true;
    if (depth > 512)
        return false;
    if (json_is_object(from)) {
        json_object_foreach((json_t *)(uintptr_t)from, key, value) {
            str_printf(path, "/%s", key);
            if (find_path(value, to, path, depth + 1))
                return true;
            path->len = mark;
        }
    } else if (json_is_array(from)) {
        json_array_foreach(from, i, value) {
            str_printf(path, "/%zu", i);
            if (find_path(value, to, path, depth + 1))
                return true;
            path->len = mark;
        }
    }
    return false;
}

int schema_refuse(struct schema *s, const json_t *at, int code, const char *fmt, ...)
{
    char why[ERR_MSG_MAX];
    struct str path;
    va_list args;
    int rc;

    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    str_init(&path, 4096);
    if (!find_path(s->root, at, &path, 0))
        str_reset(&path);
    rc = err_set(s->e, code, "schema: #%s: %s", str_cstr(&path), why);
    str_deinit(&path);
    return rc;
}

static void schema_deinit(struct schema *s)
{
    for (uint32_t i = 0; i < s->n_blocks; i++)
        mem_free(s->blocks[i]);
    for (uint32_t i = 0; i < s->n_dfas; i++)
        dfa_close(s->dfas[i]);
    mem_free(s->blocks);
    mem_free(s->dfas);
    mem_free(s->exprs);
    mem_free(s->resources);
    mem_free(s->scope_lists);
    map_deinit(&s->interned);
    map_deinit(&s->places);
    map_deinit(&s->anchors);
    map_deinit(&s->dynamic);
    map_deinit(&s->scopes);
}

static int schema_init(struct schema *s, const json_t *root, const struct schema_opts *opts,
                       struct err *e)
{
    struct map *const maps[] = { &s->interned, &s->places, &s->anchors, &s->dynamic, &s->scopes };
    struct dfa *all;
    int rc = 0;

    memset(s, 0, sizeof *s);
    s->root = root;
    s->e = e;
    s->opts = opts ? *opts : (struct schema_opts){ 0 };
    s->rule_value = s->rule_string = s->rule_number = s->rule_integer = s->rule_space =
        s->rule_object = FA_NONE;
    if (!json_is_object(root) && !json_is_boolean(root))
        rc = err_set(e, WATT_EFORMAT, "schema: an object or a boolean was expected");
    for (size_t i = 0; i < sizeof maps / sizeof *maps && rc == 0; i++)
        rc = map_init(maps[i], 1u << 20, e);
    if (rc == 0)
        rc = dfa_all(&all, e);
    if (rc < 0)
        return rc;
    rc = schema_own(s, all);
    s->all_strings = all;
    if (rc == 0)
        rc = number_bases(s);
    if (rc == 0)
        rc = schema_index(s);
    return rc;
}

/* The two constants, then the whole schema. */
static int open_root(struct schema *s, expr_id *root)
{
    uint32_t scope = 0;
    int rc;

    s->exprs = mem_calloc(64, sizeof *s->exprs);
    if (!s->exprs)
        return err_set(s->e, WATT_ENOMEM, "schema: memory");
    s->cap_exprs = 64;
    s->n_exprs = 2;
    s->exprs[EXPR_TRUE] = (struct expr){ .kind = EXPR_ALL, .rule = FA_NONE };
    s->exprs[EXPR_FALSE] = (struct expr){ .kind = EXPR_NOTHING, .rule = FA_NONE, .empty = 1 };
    s->universe = node_new(s);
    if (!s->universe)
        return WATT_ENOMEM;
    s->universe->atoms = ATOM_NULL | ATOM_TRUE | ATOM_FALSE;
    s->universe->number.all = s->universe->string.all = true;
    s->universe->arrays = schema_alloc(s, 1, sizeof *s->universe->arrays);
    s->universe->objects = schema_alloc(s, 1, sizeof *s->universe->objects);
    if (!s->universe->arrays || !s->universe->objects)
        return WATT_ENOMEM;
    rc = arr_all(s, &s->universe->arrays[0]);
    if (rc == 0)
        rc = obj_all(s, &s->universe->objects[0]);
    if (rc < 0)
        return rc;
    s->universe->n_arrays = s->universe->n_objects = 1;
    s->exprs[EXPR_TRUE].node = s->universe;
    s->exprs[EXPR_FALSE].node = node_new(s);
    if (!s->exprs[EXPR_FALSE].node)
        return WATT_ENOMEM;
    return expr_schema(s, s->root, schema_resource_of(s, s->root, 0), scope, root);
}

int grammar_from_schema(struct grammar **out, const json_t *schema, const struct schema_opts *opts,
                        struct err *e)
{
    struct schema s;
    expr_id root;
    int rc = schema_init(&s, schema, opts, e);

    cfg_init(&s.g);
    if (rc == 0)
        rc = open_root(&s, &root);
    if (rc == 0)
        rc = schema_emit(&s, root, out);
    cfg_deinit(&s.g);
    schema_deinit(&s);
    return rc;
}

int schema_rule(struct cfg *g, const json_t *schema, const struct schema_opts *opts, uint32_t *rule,
                struct err *e)
{
    struct schema s;
    expr_id root;
    int rc = schema_init(&s, schema, opts, e);

    s.g = *g;
    if (rc == 0)
        rc = open_root(&s, &root);
    if (rc == 0)
        rc = schema_emit(&s, root, NULL);
    if (rc == 0)
        *rule = s.exprs[root].rule;
    *g = s.g;
    schema_deinit(&s);
    return rc;
}

int schema_text(struct dfa **out, const json_t *schema, struct err *e)
{
    struct schema s;
    const struct node *n;
    struct lang l = { 0 };
    expr_id root;
    int rc = schema_init(&s, schema, NULL, e);

    cfg_init(&s.g);
    if (rc == 0)
        rc = open_root(&s, &root);
    if (rc == 0)
        rc = expr_to_node(&s, root, &n);
    if (rc == 0) {
        l = n->string;
        rc = lang_plain(&s, &l);
    }
    if (rc == 0 && !l.all && !l.d)
        rc = err_set(e, WATT_EINVAL, "schema: no string can satisfy it");
    if (rc == 0) {
        const struct dfa *d = l.all ? s.all_strings : l.d;

        rc = dfa_combine(out, d, DFA_AND, d, SCHEMA_MAX_STATES * 4, "schema", e);   /* a copy */
    }
    cfg_deinit(&s.g);
    schema_deinit(&s);
    return rc;
}

int grammar_any_json(struct grammar **out, bool object, bool compact, struct err *e)
{
    const struct schema_opts opts = { .compact = compact };
    json_t *schema = object ? json_pack("{s:s}", "type", "object") : json_true();
    int rc;

    if (!schema)
        return err_set(e, WATT_ENOMEM, "schema: memory");
    rc = grammar_from_schema(out, schema, &opts, e);
    json_decref(schema);
    return rc;
}
