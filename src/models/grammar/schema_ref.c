/* schema_ref.c: what $ref, $dynamicRef, $id and $anchor mean inside one document
 * (JSON Schema Core 2020-12, 8 and 9; URIs: RFC 3986, 5.2). Other documents are not fetched. */
#include <string.h>

#include "base/mem.h"
#include "models/grammar/schema.h"

#define MAX_URI 4096u

static struct sv key_of(const void *const *p)
{
    return (struct sv){ (const char *)p, sizeof *p };
}

/* ---- URIs ---- */

struct uri {                    /* views; data NULL: absent */
    struct sv scheme, authority, path, query, fragment;
};

static struct uri split(struct sv s)
{
    struct uri u = { 0 };
    size_t i = 0;

    while (i < s.len && s.data[i] != ':' && s.data[i] != '/' && s.data[i] != '?' && s.data[i] != '#')
        i++;
    if (i > 0 && i < s.len && s.data[i] == ':') {
        u.scheme = (struct sv){ s.data, i };
        s = (struct sv){ s.data + i + 1, s.len - i - 1 };
    }
    for (i = 0; i < s.len; i++)
        if (s.data[i] == '#') {
            u.fragment = (struct sv){ s.data + i + 1, s.len - i - 1 };
            s.len = i;
        }
    for (i = 0; i < s.len; i++)
        if (s.data[i] == '?') {
            u.query = (struct sv){ s.data + i + 1, s.len - i - 1 };
            s.len = i;
        }
    if (sv_starts(s, SV("//"))) {
        for (i = 2; i < s.len && s.data[i] != '/'; i++) {
        }
        u.authority = (struct sv){ s.data + 2, i - 2 };
        s = (struct sv){ s.data + i, s.len - i };
    }
    u.path = s;
    return u;
}

/* Appends path without its "." and ".." segments. */
static void put_path(struct str *out, struct sv path)
{
    const size_t from = out->len;
    size_t i = 0;

    while (i < path.len) {
        size_t end = i + 1;
        struct sv seg;

        while (end < path.len && path.data[end] != '/')
            end++;
        seg = (struct sv){ path.data + i, end - i };        /* with its leading slash */
        if (sv_eq_cstr(seg, "/.") || sv_eq_cstr(seg, "/..")) {
            if (seg.len == 3) {
                while (out->len > from && out->data[out->len - 1] != '/')
                    out->len--;
                if (out->len > from)
                    out->len--;
            }
            if (end == path.len)
                str_putc(out, '/');
        } else {
            str_append(out, seg.data, seg.len);
        }
        i = end;
    }
}

/* The reference against the base, without its fragment. */
static void resolve_uri(struct str *out, const char *base, struct sv ref)
{
    const struct uri b = split(sv_cstr(base)), r = split(ref);
    const bool own_scheme = r.scheme.data != NULL;
    const bool own_authority = own_scheme || r.authority.data;
    const bool own_path = own_authority || r.path.len > 0;
    const struct uri *const s = own_scheme ? &r : &b, *const a = own_authority ? &r : &b;
    const struct sv query = own_path || r.query.data ? r.query : b.query;
    struct str path;

    str_init(&path, MAX_URI);
    if (s->scheme.data)
        str_printf(out, "%.*s:", (int)s->scheme.len, s->scheme.data);
    if (a->authority.data)
        str_printf(out, "//%.*s", (int)a->authority.len, a->authority.data);
    if (!own_path) {
        str_append(&path, b.path.data, b.path.len);
    } else if (own_authority || (r.path.len > 0 && r.path.data[0] == '/')) {
        str_append(&path, r.path.data, r.path.len);
    } else {
        size_t n = b.path.len;

        while (n > 0 && b.path.data[n - 1] != '/')
            n--;
        if (b.authority.data && b.path.len == 0)
            str_putc(&path, '/');
        str_append(&path, b.path.data, n);
        str_append(&path, r.path.data, r.path.len);
    }
    if (own_scheme && path.len > 0 && str_cstr(&path)[0] != '/')
        str_puts(out, str_cstr(&path));         /* urn:… has no segments */
    else
        put_path(out, sv_of(&path));
    if (query.data)
        str_printf(out, "?%.*s", (int)query.len, query.data);
    str_deinit(&path);
}

/* ---- the index ---- */

static int add_resource(struct schema *s, const char *uri, const json_t *root, uint32_t *out)
{
    char *copy;

    if (s->n_resources == s->cap_resources) {
        const uint32_t cap = s->cap_resources ? s->cap_resources * 2 : 16;
        struct resource *p = mem_grow(s->resources, cap, sizeof *p);

        if (!p)
            return err_set(s->e, WATT_ENOMEM, "schema: memory");
        s->resources = p;
        s->cap_resources = cap;
    }
    copy = schema_alloc(s, strlen(uri) + 1, 1);
    if (!copy)
        return WATT_ENOMEM;
    memcpy(copy, uri, strlen(uri) + 1);
    *out = s->n_resources;
    s->resources[s->n_resources++] = (struct resource){ copy, root };
    return 0;
}

static int add_anchor(struct schema *s, struct map *to, uint32_t resource, const char *name,
                      const json_t *at)
{
    struct str key;
    int rc;

    str_init(&key, 2 * MAX_URI);
    str_printf(&key, "%s#%s", s->resources[resource].uri, name);
    rc = map_put(to, sv_of(&key), (uint64_t)(uintptr_t)at, s->e);
    str_deinit(&key);
    return rc;
}

static int index_schema(struct schema *s, const json_t *at, uint32_t resource, unsigned depth);

/* The values of an object, or the elements of an array, are schemas. */
static int index_all(struct schema *s, const json_t *group, uint32_t resource, unsigned depth)
{
    const char *key;
    json_t *value;
    size_t i;
    int rc = 0;

    if (json_is_object(group)) {
        json_object_foreach((json_t *)(uintptr_t)group, key, value) {
            if (rc == 0)
                rc = index_schema(s, value, resource, depth);
        }
    } else if (json_is_array(group)) {
        json_array_foreach(group, i, value) {
            if (rc == 0)
                rc = index_schema(s, value, resource, depth);
        }
    }
    return rc;
}

static int index_schema(struct schema *s, const json_t *at, uint32_t resource, unsigned depth)
{
    static const char *const one[] = { "additionalProperties", "unevaluatedProperties", "items",
        "additionalItems", "unevaluatedItems", "contains", "propertyNames", "not", "if", "then",
        "else", "contentSchema" };
    static const char *const many[] = { "properties", "patternProperties", "$defs", "definitions",
        "dependentSchemas", "dependencies", "allOf", "anyOf", "oneOf", "prefixItems", "items" };
    const void *address = at;
    const json_t *id, *anchor;
    const char *dialect;
    int rc;

    if (!json_is_object(at))
        return 0;
    if (depth > SCHEMA_MAX_DEPTH)
        return schema_refuse(s, at, WATT_ELIMIT, "nested deeper than %u", SCHEMA_MAX_DEPTH);
    dialect = json_string_value(json_object_get(at, "$schema"));
    if (dialect && !strstr(dialect, "//json-schema.org/"))
        return schema_refuse(s, at, WATT_ENOTSUP, "$schema '%s' is not a known dialect", dialect);
    id = json_object_get(at, "$id");
    if (id && json_is_string(id) && json_string_value(id)[0] != '#') {
        struct str uri;

        str_init(&uri, MAX_URI);
        resolve_uri(&uri, s->resources[resource].uri,
                    (struct sv){ json_string_value(id), json_string_length(id) });
        rc = str_ok(&uri) ? add_resource(s, str_cstr(&uri), at, &resource)
                          : schema_refuse(s, at, WATT_ELIMIT, "$id is too long");
        str_deinit(&uri);
        if (rc < 0)
            return rc;
    }
    rc = map_put(&s->places, key_of(&address), resource, s->e);
    anchor = json_object_get(at, "$anchor");
    if (rc == 0 && json_is_string(anchor))
        rc = add_anchor(s, &s->anchors, resource, json_string_value(anchor), at);
    if (rc == 0 && json_is_string(id) && json_string_value(id)[0] == '#')       /* draft-07 */
        rc = add_anchor(s, &s->anchors, resource, json_string_value(id) + 1, at);
    anchor = json_object_get(at, "$dynamicAnchor");
    if (rc == 0 && json_is_string(anchor)) {
        rc = add_anchor(s, &s->anchors, resource, json_string_value(anchor), at);
        if (rc == 0)
            rc = add_anchor(s, &s->dynamic, resource, json_string_value(anchor), at);
    }
    if (json_object_get(at, "$dynamicRef"))
        s->has_dynamic = true;
    for (size_t i = 0; i < sizeof one / sizeof *one && rc == 0; i++)
        rc = index_schema(s, json_object_get(at, one[i]), resource, depth + 1);
    for (size_t i = 0; i < sizeof many / sizeof *many && rc == 0; i++) {
        const json_t *group = json_object_get(at, many[i]);

        if (strcmp(many[i], "items") != 0 || json_is_array(group))
            rc = index_all(s, group, resource, depth + 1);
    }
    return rc;
}

int schema_index(struct schema *s)
{
    uint32_t root;
    int rc = add_resource(s, "", s->root, &root);

    s->scope_lists = mem_calloc(16, sizeof *s->scope_lists);
    if (!s->scope_lists)
        return err_set(s->e, WATT_ENOMEM, "schema: memory");
    s->cap_scopes = 16;
    s->scope_lists[0] = schema_alloc(s, 1, sizeof **s->scope_lists);    /* the empty list */
    if (!s->scope_lists[0])
        return WATT_ENOMEM;
    s->n_scopes = 1;
    if (rc == 0)
        rc = index_schema(s, s->root, root, 0);
    return rc;
}

uint32_t schema_resource_of(const struct schema *s, const json_t *at, uint32_t otherwise)
{
    const void *address = at;
    uint64_t r;

    return map_get(&s->places, key_of(&address), &r) ? (uint32_t)r : otherwise;
}

int schema_scope_push(struct schema *s, uint32_t scope, uint32_t resource, uint32_t *out)
{
    const uint32_t *list = s->scope_lists[scope];
    uint32_t *longer;
    uint64_t found;
    struct sv key;
    int rc;

    *out = scope;
    if (!s->has_dynamic)
        return 0;
    for (uint32_t i = 1; i <= list[0]; i++)     /* the outermost counts: later ones are no news */
        if (list[i] == resource)
            return 0;
    longer = schema_alloc(s, (size_t)list[0] + 2, sizeof *longer);
    if (!longer)
        return WATT_ENOMEM;
    memcpy(longer, list, ((size_t)list[0] + 1) * sizeof *list);
    longer[++longer[0]] = resource;
    key = (struct sv){ (const char *)longer, ((size_t)longer[0] + 1) * sizeof *longer };
    if (map_get(&s->scopes, key, &found)) {
        *out = (uint32_t)found;
        return 0;
    }
    if (s->n_scopes == s->cap_scopes) {
        uint32_t **p = mem_grow(s->scope_lists, (size_t)s->cap_scopes * 2, sizeof *p);

        if (!p)
            return err_set(s->e, WATT_ENOMEM, "schema: memory");
        s->scope_lists = p;
        s->cap_scopes *= 2;
    }
    rc = map_put(&s->scopes, key, s->n_scopes, s->e);
    if (rc < 0)
        return rc;
    *out = s->n_scopes;
    s->scope_lists[s->n_scopes++] = longer;
    return 0;
}

/* ---- resolution ---- */

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                                             : -1;
}

/* One segment of a pointer: %XX, ~0 and ~1 undone. */
static void unescape(struct str *out, struct sv seg)
{
    for (size_t i = 0; i < seg.len; i++) {
        if (seg.data[i] == '%' && i + 2 < seg.len && hex(seg.data[i + 1]) >= 0 &&
            hex(seg.data[i + 2]) >= 0) {
            str_putc(out, (char)(hex(seg.data[i + 1]) * 16 + hex(seg.data[i + 2])));
            i += 2;
        } else if (seg.data[i] == '~' && i + 1 < seg.len) {
            i++;
            str_putc(out, seg.data[i] == '0' ? '~' : seg.data[i] == '1' ? '/' : seg.data[i]);
        } else {
            str_putc(out, seg.data[i]);
        }
    }
}

static const json_t *follow(const struct schema *s, const json_t *at, struct sv pointer,
                            uint32_t *resource)
{
    struct str key;
    size_t i = 0;

    str_init(&key, 1 << 16);
    while (at && i < pointer.len) {
        size_t end = i + 1;

        while (end < pointer.len && pointer.data[end] != '/')
            end++;
        str_reset(&key);
        unescape(&key, (struct sv){ pointer.data + i + 1, end - i - 1 });
        if (json_is_object(at)) {
            at = json_object_getn(at, key.len ? key.data : "", key.len);
        } else if (json_is_array(at)) {
            size_t n = 0;
            bool ok = key.len > 0 && key.len < 9;

            for (size_t k = 0; k < key.len && ok; k++) {
                ok = key.data[k] >= '0' && key.data[k] <= '9';
                n = n * 10 + (size_t)(key.data[k] - '0');
            }
            at = ok ? json_array_get(at, n) : NULL;
        } else {
            at = NULL;
        }
        if (at)
            *resource = schema_resource_of(s, at, *resource);
        i = end;
    }
    str_deinit(&key);
    return at;
}

static const json_t *anchor_of(const struct map *m, const char *uri, struct sv name)
{
    struct str key;
    uint64_t found = 0;

    str_init(&key, 2 * MAX_URI);
    str_printf(&key, "%s#", uri);
    unescape(&key, name);
    if (!map_get(m, sv_of(&key), &found))
        found = 0;
    str_deinit(&key);
    return (const json_t *)(uintptr_t)found;
}

int schema_resolve(struct schema *s, const json_t *at, const char *ref, uint32_t from_resource,
                   const json_t **target, uint32_t *resource)
{
    const struct uri u = split(sv_cstr(ref));
    const struct sv fragment = u.fragment;
    struct str uri;
    uint32_t r = FA_NONE;

    str_init(&uri, MAX_URI);
    resolve_uri(&uri, s->resources[from_resource].uri,
                (struct sv){ ref, fragment.data ? (size_t)(fragment.data - ref) - 1 : strlen(ref) });
    for (uint32_t i = s->n_resources; i-- > 0 && r == FA_NONE;)
        if (strcmp(s->resources[i].uri, str_cstr(&uri)) == 0)
            r = i;
    str_deinit(&uri);
    if (r == FA_NONE)
        return schema_refuse(s, at, WATT_ENOTSUP,
                             "$ref '%s' points outside the schema, which is not fetched", ref);
    *resource = r;
    if (fragment.len == 0)
        *target = s->resources[r].root;
    else if (fragment.data[0] == '/')
        *target = follow(s, s->resources[r].root, fragment, resource);
    else
        *target = anchor_of(&s->anchors, s->resources[r].uri, fragment);
    if (!*target)
        return schema_refuse(s, at, WATT_EFORMAT, "$ref '%s' points at nothing", ref);
    *resource = schema_resource_of(s, *target, *resource);
    return 0;
}

/* An initial target with a dynamic anchor of that name is replaced by the outermost one in scope. */
int schema_resolve_dynamic(struct schema *s, const json_t *at, const char *ref,
                           uint32_t from_resource, uint32_t scope, const json_t **target,
                           uint32_t *resource)
{
    const struct sv name = split(sv_cstr(ref)).fragment;
    const uint32_t *list = s->scope_lists[scope];
    int rc = schema_resolve(s, at, ref, from_resource, target, resource);

    if (rc < 0 || name.len == 0 || name.data[0] == '/' ||
        anchor_of(&s->dynamic, s->resources[*resource].uri, name) != *target)
        return rc;
    for (uint32_t i = 1; i <= list[0]; i++) {
        const json_t *found = anchor_of(&s->dynamic, s->resources[list[i]].uri, name);

        if (found) {
            *target = found;
            *resource = schema_resource_of(s, found, list[i]);
            return 0;
        }
    }
    return 0;
}
