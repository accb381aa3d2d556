/* structural.c: parts of grammars into one; see structural.h. */
#include "models/grammar/structural.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "models/grammar/free_text.h"
#include "models/grammar/raw_text.h"
#include "models/grammar/regex.h"
#include "models/grammar/schema.h"

#define MAX_LIST    4096u
#define MAX_STRINGS 256u
#define MAX_TEXT    ((size_t)64 << 10)

struct maker {
    struct cfg  g;
    uint32_t    depth, n_parts;
    struct err *e;
};

static int part(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to);

/* ---- reading ---- */

static int read_text(struct maker *m, const struct json_place *at, const char *key, bool needed,
                     struct sv *out)
{
    struct json_place p;
    int rc = json_find(at, key, &p, m->e);

    *out = (struct sv){ "", 0 };
    if (rc == 0 && !p.value)
        return needed ? json_refuse(at, m->e, WATT_EFORMAT, "needs a text '%s'", key) : 0;
    if (rc == 0)
        rc = json_read_str(&p, out, m->e);
    if (rc == 0 && out->len > MAX_TEXT)
        rc = json_refuse(&p, m->e, WATT_ELIMIT, "over %zu bytes", MAX_TEXT);
    return rc;
}

/* A list of texts that are not empty, or one text; n is 0 where the key is absent. */
static int read_texts(struct maker *m, const struct json_place *at, const char *key,
                      struct sv texts[MAX_STRINGS], size_t *n)
{
    struct json_place p;
    int rc = json_find(at, key, &p, m->e);

    *n = 0;
    if (rc < 0 || !p.value)
        return rc;
    if (json_is_string(p.value)) {
        rc = json_read_str(&p, &texts[0], m->e);
        *n = rc == 0 && texts[0].len > 0;
        return rc;
    }
    rc = json_read_array(&p, MAX_STRINGS, n, m->e);
    for (size_t i = 0; rc == 0 && i < *n; i++) {
        const struct json_place item = json_item(&p, i);

        rc = json_read_str(&item, &texts[i], m->e);
        if (rc == 0 && (texts[i].len == 0 || texts[i].len > 4096))
            rc = json_refuse(&item, m->e, WATT_EINVAL, "must have 1 to 4096 bytes");
    }
    return rc;
}

static int read_list(struct maker *m, const struct json_place *at, const char *key,
                     struct json_place *list, size_t *n)
{
    int rc = json_need(at, key, list, m->e);

    if (rc == 0)
        rc = json_read_array(list, MAX_LIST, n, m->e);
    if (rc == 0 && *n == 0)
        rc = json_refuse(list, m->e, WATT_EINVAL, "must not be empty");
    return rc;
}

static uint32_t node(struct maker *m)
{
    return nfa_node(&m->g.a);
}

static void join(struct maker *m, uint32_t from, uint32_t to)
{
    nfa_empty(&m->g.a, from, to);
}

/* ---- plain parts ---- */

static int const_string(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to)
{
    struct sv text;
    int rc = read_text(m, at, "value", true, &text);

    if (rc == 0)
        nfa_bytes(&m->g.a, from, text, to);
    return rc;
}

static int json_part(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to)
{
    struct schema_opts opts = { 0 };
    struct json_place p;
    uint32_t rule;
    int rc = json_need(at, json_object_get(at->value, "json_schema") ? "json_schema" : "schema", &p,
                       m->e);

    if (rc == 0)
        rc = json_get_bool(at, "strict", false, &opts.strict, m->e);
    if (rc == 0)
        rc = schema_rule(&m->g, p.value, &opts, &rule, m->e);
    if (rc == 0)
        cfg_call(&m->g, from, rule, to);
    return rc;
}

static int regex_part(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to)
{
    struct sv pattern;
    struct dfa *d;
    int rc = read_text(m, at, "pattern", true, &pattern);

    if (rc == 0)
        rc = regex_compile(&d, pattern, REGEX_WHOLE, "regex", m->e);
    if (rc < 0)
        return rc;
    cfg_text(&m->g, from, d, to);
    dfa_close(d);
    return 0;
}

static int raw_text(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to)
{
    struct sv *texts = mem_array(MAX_STRINGS, sizeof *texts);
    struct raw_text r = { .trimmed = false };
    struct json_place p;
    struct dfa *d;
    int rc = texts ? read_texts(m, at, "excludes", texts, &r.n_excludes)
                   : err_set(m->e, WATT_ENOMEM, "structural tag");

    if (rc == 0 && r.n_excludes > RAW_MAX_EXCLUDES)
        rc = json_refuse(at, m->e, WATT_ELIMIT, "over %u texts to exclude", RAW_MAX_EXCLUDES);
    if (rc == 0)
        rc = json_get_bool(at, "trimmed", false, &r.trimmed, m->e);
    if (rc == 0)
        rc = json_get_bool(at, "no_literals", false, &r.no_literals, m->e);
    if (rc == 0)
        rc = json_need(at, "json_schema", &p, m->e);
    if (rc == 0) {
        r.schema = p.value;
        for (size_t i = 0; i < r.n_excludes; i++)
            r.excludes[i] = texts[i];
        rc = raw_text_dfa(&d, &r, m->e);
    }
    if (rc == 0) {
        cfg_text(&m->g, from, d, to);
        dfa_close(d);
    }
    mem_free(texts);
    return rc;
}

static int any_text(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to)
{
    struct sv *texts = mem_array(MAX_STRINGS, sizeof *texts);
    struct dfa *d = NULL;
    size_t n;
    int rc = texts ? read_texts(m, at, "excludes", texts, &n)
                   : err_set(m->e, WATT_ENOMEM, "structural tag");

    if (rc == 0 && n == 0)
        texts[n++] = (struct sv){ "\0", 1 };    /* no vocabulary's text has it */
    if (rc == 0)
        rc = free_without(&d, texts, n, m->e);
    if (rc == 0) {
        free_write(&m->g, from, d, to);
        dfa_close(d);
    }
    mem_free(texts);
    return rc;
}

static int sequence(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to)
{
    struct json_place list;
    size_t n;
    int rc = read_list(m, at, "elements", &list, &n);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&list, i);
        const uint32_t next = i + 1 == n ? to : node(m);

        rc = part(m, &item, from, next);
        from = next;
    }
    return rc;
}

static int either(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to)
{
    struct json_place list;
    size_t n;
    int rc = read_list(m, at, "elements", &list, &n);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&list, i);

        rc = part(m, &item, from, to);
    }
    return rc;
}

static int repeated(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to,
                    bool none, bool many)
{
    const uint32_t start = node(m), end = node(m);
    struct json_place content;
    int rc = json_need(at, "content", &content, m->e);

    join(m, from, start);
    join(m, end, to);
    if (none)
        join(m, from, to);
    if (many)
        join(m, end, start);
    return rc == 0 ? part(m, &content, start, end) : rc;
}

static int optional(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to)
{
    return repeated(m, at, from, to, true, false);
}

static int star(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to)
{
    return repeated(m, at, from, to, true, true);
}

static int plus(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to)
{
    return repeated(m, at, from, to, false, true);
}

/* ---- tags ---- */

/* Free text up to the first of the ends. */
static int text_up_to(struct maker *m, const struct json_place *content, const struct sv *ends,
                      size_t n_ends, uint32_t from, uint32_t to)
{
    struct sv *texts = mem_array(2 * MAX_STRINGS, sizeof *texts);
    size_t n = 0;
    int rc = texts ? read_texts(m, content, "excludes", texts, &n)
                   : err_set(m->e, WATT_ENOMEM, "structural tag");

    for (size_t i = 0; rc == 0 && i < n_ends; i++)
        texts[n++] = ends[i];
    for (size_t i = 0; rc == 0 && i < n_ends; i++) {
        struct dfa *d;

        rc = free_up_to(&d, ends[i], texts, n, m->e);
        if (rc == 0) {
            free_write(&m->g, from, d, to);
            dfa_close(d);
        }
    }
    mem_free(texts);
    return rc;
}

/* A tag, `skip` bytes of its beginning left out: its trigger. */
static int tag_behind(struct maker *m, const struct json_place *at, size_t skip, uint32_t from,
                      uint32_t to)
{
    struct sv *ends = mem_array(MAX_STRINGS, sizeof *ends), begin;
    const uint32_t start = node(m), end = node(m);
    struct json_place content;
    const char *type = "";
    size_t n_ends = 0;
    int rc = ends ? read_text(m, at, "begin", true, &begin)
                  : err_set(m->e, WATT_ENOMEM, "structural tag");

    if (rc == 0)
        rc = read_texts(m, at, "end", ends, &n_ends);
    if (rc == 0 && json_object_get(at->value, "schema")) {      /* the older form */
        nfa_bytes(&m->g.a, from, (struct sv){ begin.data + skip, begin.len - skip }, start);
        rc = json_part(m, at, start, end);
    } else if (rc == 0) {
        rc = json_need(at, "content", &content, m->e);
        if (rc == 0)
            rc = json_get_cstr(&content, "type", "", &type, m->e);
        if (rc == 0)
            nfa_bytes(&m->g.a, from, (struct sv){ begin.data + skip, begin.len - skip }, start);
        if (rc == 0 && strcmp(type, "any_text") == 0 && n_ends > 0) {
            rc = text_up_to(m, &content, ends, n_ends, start, to);
            mem_free(ends);
            return rc;
        }
        if (rc == 0)
            rc = part(m, &content, start, end);
    }
    for (size_t i = 0; rc == 0 && i < n_ends; i++)
        nfa_bytes(&m->g.a, end, ends[i], to);
    if (rc == 0 && n_ends == 0)
        join(m, end, to);
    mem_free(ends);
    return rc;
}

static int tag(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to)
{
    return tag_behind(m, at, 0, from, to);
}

/* The tags that begin with a trigger; whether there was one. */
static int tags_of(struct maker *m, const struct json_place *tags, size_t n_tags, struct sv trigger,
                   uint32_t from, uint32_t to, bool *any)
{
    int rc = 0;

    *any = false;
    for (size_t i = 0; i < n_tags && rc == 0; i++) {
        const struct json_place item = json_item(tags, i);
        struct sv begin;

        rc = read_text(m, &item, "begin", true, &begin);
        if (rc == 0 && sv_starts(begin, trigger)) {
            *any = true;
            rc = tag_behind(m, &item, trigger.len, from, to);
        }
    }
    return rc;
}

static int each_has_trigger(struct maker *m, const struct json_place *tags, size_t n_tags,
                            const struct sv *triggers, size_t n)
{
    int rc = 0;

    for (size_t i = 0; i < n_tags && rc == 0; i++) {
        const struct json_place item = json_item(tags, i);
        struct sv begin;
        bool found = false;

        rc = read_text(m, &item, "begin", true, &begin);
        for (size_t k = 0; k < n; k++)
            found |= sv_starts(begin, triggers[k]);
        if (rc == 0 && !found)
            rc = json_refuse(&item, m->e, WATT_EINVAL, "begin starts with no trigger");
    }
    return rc;
}

/* Free text, triggers[0..n) reserved; reserved[n..n_reserved) never come. */
static int text_with_tags(struct maker *m, const struct json_place *tags, size_t n_tags,
                          const struct sv *reserved, size_t n, size_t n_reserved, bool needed,
                          bool once, uint32_t from, uint32_t to)
{
    const uint32_t start = node(m), after = node(m), again = once ? to : after;
    struct dfa *d;
    int rc = each_has_trigger(m, tags, n_tags, reserved, n);

    join(m, from, start);
    for (size_t i = 0; i < n && rc == 0; i++) {
        const uint32_t there = node(m);
        bool any;

        rc = free_up_to(&d, reserved[i], reserved, n_reserved, m->e);
        if (rc < 0)
            break;
        free_write(&m->g, start, d, there);
        if (!once)
            free_write(&m->g, after, d, there);
        dfa_close(d);
        rc = tags_of(m, tags, n_tags, reserved[i], there, again, &any);
    }
    if (rc == 0)
        rc = free_without(&d, reserved, n_reserved, m->e);
    if (rc == 0) {
        if (!needed)
            free_write(&m->g, start, d, to);
        if (!once)
            free_write(&m->g, after, d, to);
        dfa_close(d);
    }
    return rc;
}

static int triggered_tags(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to)
{
    struct sv *texts = mem_array(2 * MAX_STRINGS, sizeof *texts);
    const char *key = json_object_get(at->value, "structures") ? "structures" : "tags";
    struct json_place tags;
    bool needed = false, once = false;
    size_t n = 0, n_more = 0, n_tags = 0;
    int rc = texts ? read_texts(m, at, "triggers", texts, &n)
                   : err_set(m->e, WATT_ENOMEM, "structural tag");

    if (rc == 0 && n == 0)
        rc = json_refuse(at, m->e, WATT_EINVAL, "needs triggers");
    if (rc == 0)
        rc = read_texts(m, at, "excludes", texts + n, &n_more);
    if (rc == 0)
        rc = read_list(m, at, key, &tags, &n_tags);
    if (rc == 0)
        rc = json_get_bool(at, "at_least_one", false, &needed, m->e);
    if (rc == 0)
        rc = json_get_bool(at, "stop_after_first", false, &once, m->e);
    if (rc == 0)
        rc = text_with_tags(m, &tags, n_tags, texts, n, n + n_more, needed, once, from, to);
    mem_free(texts);
    return rc;
}

static int tags_with_separator(struct maker *m, const struct json_place *at, uint32_t from,
                               uint32_t to)
{
    const uint32_t start = node(m), end = node(m);
    struct json_place tags;
    bool needed = false, once = false;
    struct sv separator;
    size_t n = 0;
    int rc = read_list(m, at, "tags", &tags, &n);

    if (rc == 0)
        rc = read_text(m, at, "separator", false, &separator);
    if (rc == 0)
        rc = json_get_bool(at, "at_least_one", false, &needed, m->e);
    if (rc == 0)
        rc = json_get_bool(at, "stop_after_first", false, &once, m->e);
    join(m, from, start);
    join(m, end, to);
    if (!needed)
        join(m, from, to);
    if (rc == 0 && !once)
        nfa_bytes(&m->g.a, end, separator, start);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&tags, i);

        rc = part(m, &item, start, end);
    }
    return rc;
}

/* Items in their order, those that are not required perhaps; a separator before each but the
 * first that comes. Two rows of nodes: nothing came yet, something did. */
static int members(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to)
{
    struct json_place list;
    struct sv open, close, separator;
    uint32_t none, some;
    size_t n = 0;
    int rc = read_text(m, at, "open", false, &open);

    if (rc == 0)
        rc = read_text(m, at, "close", false, &close);
    if (rc == 0)
        rc = read_text(m, at, "separator", false, &separator);
    if (rc == 0)
        rc = json_need(at, "items", &list, m->e);
    if (rc == 0)
        rc = json_read_array(&list, MAX_LIST, &n, m->e);
    if (rc < 0)
        return rc;
    none = node(m);
    some = node(m);
    nfa_bytes(&m->g.a, from, open, none);
    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct json_place item = json_item(&list, i);
        const uint32_t next_none = node(m), next_some = node(m), ready = node(m);
        const uint32_t rule = cfg_rule(&m->g), start = node(m), end = node(m);
        struct json_place content;
        bool needed = false;

        rc = json_get_bool(&item, "required", false, &needed, m->e);
        if (rc == 0)
            rc = json_need(&item, "content", &content, m->e);
        if (rc == 0)
            rc = part(m, &content, start, end);
        cfg_define(&m->g, rule, start, end);
        cfg_call(&m->g, none, rule, next_some);
        nfa_bytes(&m->g.a, some, separator, ready);
        cfg_call(&m->g, ready, rule, next_some);
        if (!needed) {
            join(m, none, next_none);
            join(m, some, next_some);
        }
        none = next_none;
        some = next_some;
    }
    nfa_bytes(&m->g.a, none, close, to);
    nfa_bytes(&m->g.a, some, close, to);
    return rc;
}

/* ---- all of it ---- */

static const struct {
    const char *type;
    int (*make)(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to);
} types[] = {
    { "const_string", const_string }, { "json_schema", json_part }, { "regex", regex_part },
    { "any_text", any_text }, { "sequence", sequence }, { "or", either }, { "optional", optional },
    { "star", star }, { "plus", plus }, { "tag", tag }, { "triggered_tags", triggered_tags },
    { "tags_with_separator", tags_with_separator }, { "members", members },
    { "raw_text", raw_text },
};

static int part(struct maker *m, const struct json_place *at, uint32_t from, uint32_t to)
{
    const char *type = "";
    int rc = json_get_cstr(at, "type", "", &type, m->e);

    if (rc < 0)
        return rc;
    if (m->depth == STRUCTURAL_MAX_DEPTH || ++m->n_parts > STRUCTURAL_MAX_PARTS)
        return json_refuse(at, m->e, WATT_ELIMIT, "over %u parts, or %u deep", STRUCTURAL_MAX_PARTS,
                           STRUCTURAL_MAX_DEPTH);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(type, types[i].type) == 0) {
            m->depth++;
            rc = types[i].make(m, at, from, to);
            m->depth--;
            return rc;
        }
    return json_refuse(at, m->e, WATT_ENOTSUP, "type '%.40s' is not supported", type);
}

static int whole(struct maker *m, const json_t *structure, uint32_t from, uint32_t to)
{
    const struct json_place root = json_root(structure, "structural_tag");
    const char *type = "";
    struct json_place format;
    int rc = json_get_cstr(&root, "type", "", &type, m->e);

    if (rc < 0)
        return rc;
    if (json_object_get(structure, "structures"))
        return triggered_tags(m, &root, from, to);
    if (strcmp(type, "structural_tag") != 0)
        return part(m, &root, from, to);
    rc = json_need(&root, "format", &format, m->e);
    return rc == 0 ? part(m, &format, from, to) : rc;
}

int grammar_from_structure(struct grammar **out, const json_t *structure, struct err *e)
{
    struct maker m = { .e = e };
    uint32_t rule, from, to;
    int rc;

    cfg_init(&m.g);
    rule = cfg_rule(&m.g);
    from = node(&m);
    to = node(&m);
    rc = whole(&m, structure, from, to);
    cfg_define(&m.g, rule, from, to);
    if (rc == 0)
        rc = cfg_compile(out, &m.g, rule, "structural tag", e);
    cfg_deinit(&m.g);
    return rc;
}
