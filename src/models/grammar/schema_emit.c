/* schema_emit.c: sets of values as rules that write them as JSON. */
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "models/grammar/schema.h"

#define MAX_SPACES 32u
#define MAX_COUNTED (1u << 17)      /* states of members times counts */

static uint32_t node(struct schema *s)
{
    return nfa_node(&s->g.a);
}

static uint32_t literal(struct schema *s, uint32_t from, const char *z)
{
    const uint32_t to = node(s);

    nfa_bytes(&s->g.a, from, sv_cstr(z), to);
    return to;
}

/* ---- shared rules ---- */

static uint32_t space(struct schema *s, uint32_t from)
{
    const uint32_t to = node(s);

    if (s->opts.compact) {
        nfa_empty(&s->g.a, from, to);
        return to;
    }
    if (s->rule_space == FA_NONE) {
        const uint32_t start = node(s), end = node(s);
        uint32_t at = node(s), cr = node(s);

        s->rule_space = cfg_rule(&s->g);
        nfa_empty(&s->g.a, start, end);
        nfa_range(&s->g.a, start, ' ', ' ', end);
        nfa_range(&s->g.a, start, '\r', '\r', cr);
        nfa_range(&s->g.a, cr, '\n', '\n', at);
        nfa_range(&s->g.a, start, '\n', '\n', at);
        nfa_empty(&s->g.a, at, end);
        for (uint32_t i = 0; i < MAX_SPACES; i++) {
            const uint32_t next = node(s);

            nfa_range(&s->g.a, at, ' ', ' ', next);
            nfa_range(&s->g.a, at, '\t', '\t', next);
            nfa_empty(&s->g.a, next, end);
            at = next;
        }
        cfg_define(&s->g, s->rule_space, start, end);
    }
    cfg_call(&s->g, from, s->rule_space, to);
    return to;
}

static void any_string(struct schema *s, uint32_t from, uint32_t to)
{
    if (s->rule_string == FA_NONE) {
        const uint32_t start = node(s), end = node(s);

        s->rule_string = cfg_rule(&s->g);
        cfg_json_text(&s->g, start, s->all_strings, end);
        cfg_define(&s->g, s->rule_string, start, end);
        if (!s->g.failed)
            s->g.rules[s->rule_string].keep = true;
    }
    cfg_call(&s->g, from, s->rule_string, to);
}

/* Any number, exponents too. */
static int any_number(struct schema *s, uint32_t from, uint32_t to)
{
    const struct dfa *number, *exponent;
    int rc = 0;

    if (s->rule_number == FA_NONE) {
        const uint32_t start = node(s), end = node(s), mid = node(s);

        s->rule_number = cfg_rule(&s->g);
        rc = number_any(s, &number);
        if (rc == 0)
            rc = number_exponent(s, &exponent);
        if (rc < 0)
            return rc;
        cfg_text(&s->g, start, number, mid);
        nfa_empty(&s->g.a, mid, end);
        cfg_text(&s->g, mid, exponent, end);
        cfg_define(&s->g, s->rule_number, start, end);
    }
    cfg_call(&s->g, from, s->rule_number, to);
    return rc;
}

static int some_number(struct schema *s, uint32_t from, const struct dfa *d, uint32_t to)
{
    const bool shared = d == s->integers;
    uint32_t start = from, end = to;
    int rc = 0;

    if (!shared || s->rule_integer == FA_NONE) {
        if (shared) {
            start = node(s);
            end = node(s);
            s->rule_integer = cfg_rule(&s->g);
        }
        rc = number_form(s, d, &d);
        if (rc == 0)
            cfg_text(&s->g, start, d, end);
        if (shared)
            cfg_define(&s->g, s->rule_integer, start, end);
    }
    if (shared)
        cfg_call(&s->g, from, s->rule_integer, to);
    return rc;
}

static uint32_t rule_of(struct schema *s, expr_id x)
{
    if (s->exprs[x].rule == FA_NONE)
        s->exprs[x].rule = cfg_rule(&s->g);
    return s->exprs[x].rule;
}

static void value(struct schema *s, uint32_t from, expr_id x, uint32_t to)
{
    if (x != EXPR_FALSE)
        cfg_call(&s->g, from, rule_of(s, x), to);
}

/* ---- arrays ---- */

static int array(struct schema *s, uint32_t from, const struct arr *a, uint32_t to)
{
    uint32_t *before = mem_array(a->n_states, sizeof *before);
    const uint32_t open = space(s, literal(s, from, "["));

    if (!before)
        return err_set(s->e, WATT_ENOMEM, "schema: memory");
    for (uint32_t i = 0; i < a->n_states; i++)
        before[i] = node(s);            /* after i's items: "," or "]" */
    if (a->states[0].accept)
        nfa_range(&s->g.a, open, ']', ']', to);
    for (uint32_t i = 0; i < a->n_states; i++) {
        const struct arr_state st = a->states[i];
        uint32_t item;

        if (st.accept)
            nfa_range(&s->g.a, before[i], ']', ']', to);
        if (st.n == 0)
            continue;
        item = space(s, literal(s, before[i], ","));
        if (i == 0)
            nfa_empty(&s->g.a, open, item);
        for (uint32_t k = 0; k < st.n; k++) {
            const struct arr_edge g = a->edges[st.first + k];
            const uint32_t after = node(s);

            value(s, item, g.item, after);
            nfa_empty(&s->g.a, space(s, after), before[g.to]);
        }
    }
    mem_free(before);
    return 0;
}

/* ---- objects ---- */

static void colon_value(struct schema *s, uint32_t from, expr_id x, uint32_t to)
{
    const uint32_t at = space(s, literal(s, space(s, from), ":")), after = node(s);

    value(s, at, x, after);
    nfa_empty(&s->g.a, space(s, after), to);
}

/* The name as it is usually written, and with all that is not ASCII escaped. */
static void name(struct schema *s, uint32_t from, struct sv text, uint32_t to)
{
    const size_t flags = JSON_ENCODE_ANY | JSON_ENSURE_ASCII;
    json_t *j = json_stringn(text.data, text.len);
    const size_t n = j ? json_dumpb(j, NULL, 0, flags) : 0;
    char *ascii = n ? mem_alloc(n) : NULL;
    struct str plain;

    str_init(&plain, 0);
    json_put_str(&plain, text);
    if (!ascii || !str_ok(&plain) || json_dumpb(j, ascii, n, flags) != n) {
        s->g.failed = true;
    } else {
        nfa_bytes(&s->g.a, from, sv_of(&plain), to);
        if (!sv_eq((struct sv){ ascii, n }, sv_of(&plain)))
            nfa_bytes(&s->g.a, from, (struct sv){ ascii, n }, to);
    }
    mem_free(ascii);
    json_decref(j);
    str_deinit(&plain);
}

struct object {
    struct schema    *s;
    const struct obj *o;
    struct region    *extra;        /* regions without the members' names, with values */
    uint32_t          n_extra;
    struct region    *owed;         /* obligations likewise */
    uint32_t          n_owed;
    uint32_t          close;        /* before "}" */
};

static void extra_name(struct object *x, uint32_t from, const struct dfa *names, uint32_t to)
{
    if (names == x->s->all_strings)
        any_string(x->s, from, to);
    else
        cfg_json_text(&x->s->g, from, names, to);
}

static void extra_member(struct object *x, uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < x->n_extra; i++) {
        const uint32_t at = node(x->s);

        extra_name(x, from, x->extra[i].names, at);
        colon_value(x->s, at, x->extra[i].value, to);
    }
}

/* What must still come, then the end. first: no member was written yet. */
static void owed_members(struct object *x, uint32_t from, bool first)
{
    for (uint32_t i = 0; i < x->n_owed; i++) {
        const uint32_t at = node(x->s), next = node(x->s);
        const uint32_t start = first ? from : space(x->s, literal(x->s, from, ","));

        extra_name(x, start, x->owed[i].names, at);
        colon_value(x->s, at, x->owed[i].value, next);
        from = next;
        first = false;
    }
    nfa_empty(&x->s->g.a, from, x->close);
}

/* Other members and the end, after n listed ones. Two of them may have the same name, so that
 * only the first counts towards min, while all count towards max; owed ones come last, so that
 * nothing written after them has their name. */
static void rest_of_object(struct object *x, uint32_t from, uint32_t n, bool first)
{
    const struct obj *o = x->o;
    uint32_t at = from;

    for (uint32_t k = 0;; k++) {
        const uint32_t least = n + (k == 0 ? x->n_owed : x->n_owed > 1 ? x->n_owed : 1);
        const uint32_t most = n + k + x->n_owed;
        uint32_t next, item;

        if (o->max != NO_BOUND && most > o->max)
            return;
        if (least >= o->min)
            owed_members(x, at, first && k == 0);
        if (x->n_extra == 0)
            return;
        next = node(x->s);
        item = first && k == 0 ? at : space(x->s, literal(x->s, at, ","));
        extra_member(x, item, next);
        if (o->max == NO_BOUND && k >= 1) {
            nfa_empty(&x->s->g.a, next, at);    /* any number more */
            return;
        }
        at = next;
    }
}

/* Members in order; at[c] stands after c of them, where counting matters, else c is 0 or 1. */
static int listed(struct object *x, uint32_t open)
{
    struct schema *s = x->s;
    const struct obj *o = x->o;
    uint32_t n_required = 0, top, *at, *next, zero = open, n = o->n_members;
    bool counted;

    for (uint32_t i = 0; i < n; i++)
        n_required += o->members[i].required;
    counted = o->max != NO_BOUND || o->min > n_required;
    top = counted ? (o->max < n ? o->max : n) : n ? 1 : 0;
    if ((uint64_t)top * n > MAX_COUNTED)
        return err_set(s->e, WATT_ELIMIT, "schema: minProperties or maxProperties with this many "
                       "properties is not supported");
    at = mem_array((size_t)top + 1, sizeof *at);
    next = mem_array((size_t)top + 1, sizeof *next);
    if (!at || !next) {
        mem_free(at);
        mem_free(next);
        return err_set(s->e, WATT_ENOMEM, "schema: memory");
    }
    for (uint32_t c = 0; c <= top; c++)
        at[c] = c ? node(s) : zero;
    for (uint32_t i = 0; i < n && !s->g.a.failed; i++) {
        const struct member *m = &o->members[i];

        for (uint32_t c = 0; c <= top; c++)
            next[c] = node(s);
        for (uint32_t c = 0; c <= top; c++) {
            const uint32_t to = counted || c == 0 ? c + 1 : c;

            if (!m->required)
                nfa_empty(&s->g.a, at[c], next[c]);
            if (m->value != EXPR_FALSE && to <= top) {
                const uint32_t item = c == 0 ? at[c] : space(s, literal(s, at[c], ",")),
                               named = node(s);

                name(s, item, m->name, named);
                colon_value(s, named, m->value, next[to]);
            }
        }
        memcpy(at, next, ((size_t)top + 1) * sizeof *at);
    }
    for (uint32_t c = 0; c <= top && !s->g.a.failed; c++)
        rest_of_object(x, at[c], counted ? c : c ? n_required > 1 ? n_required : 1 : 0, c == 0);
    mem_free(at);
    mem_free(next);
    return 0;
}

static int one_object(struct schema *s, uint32_t from, const struct obj *o, uint32_t to)
{
    struct object x = { .s = s, .o = o };
    const uint32_t open = space(s, literal(s, from, "{"));
    int rc = 0;

    x.close = node(s);
    nfa_range(&s->g.a, x.close, '}', '}', to);
    x.extra = schema_alloc(s, o->n_regions, sizeof *x.extra);
    x.owed = schema_alloc(s, o->n_obligations, sizeof *x.owed);
    if (!x.extra || !x.owed)
        return WATT_ENOMEM;
    for (uint32_t i = 0; i < o->n_regions && rc == 0; i++) {
        struct lang names;

        if (o->regions[i].value == EXPR_FALSE)
            continue;
        rc = obj_free_names(s, o, o->regions[i].names, &names);
        if (rc == 0 && (names.all || names.d))
            x.extra[x.n_extra++] = (struct region){ names.all ? s->all_strings : names.d,
                                                    o->regions[i].value, false };
    }
    for (uint32_t i = 0; i < o->n_obligations; i++)
        x.owed[x.n_owed++] = (struct region){ o->obligations[i].names, o->obligations[i].value,
                                              false };
    if (rc == 0)
        rc = listed(&x, open);
    return rc;
}

/* Pays the first obligation in every way there is: by a member that is listed, or by another of a
 * region; `done` of them are paid and stand at the front. Two that could be paid by one name are
 * left to the listed members, since a later member of the same name replaces an earlier one. */
static int pay(struct schema *s, uint32_t from, const struct obj *o, uint32_t done, uint32_t to)
{
    struct obligation owed;
    int rc = 0;

    if (done == o->n_obligations)
        return one_object(s, from, o, to);
    owed = o->obligations[done];
    for (uint32_t i = 0; i < o->n_members && rc == 0; i++) {
        struct obj *by = schema_alloc(s, 1, sizeof *by);

        if (!dfa_matches(owed.names, o->members[i].name))
            continue;
        if (!by)
            return WATT_ENOMEM;
        *by = *o;
        by->members = schema_alloc(s, o->n_members, sizeof *by->members);
        by->obligations = schema_alloc(s, o->n_obligations, sizeof *by->obligations);
        if (!by->members || !by->obligations)
            return WATT_ENOMEM;
        memcpy(by->members, o->members, o->n_members * sizeof *by->members);
        memcpy(by->obligations, o->obligations, o->n_obligations * sizeof *by->obligations);
        by->obligations[done] = by->obligations[--by->n_obligations];
        by->members[i].required = true;
        rc = expr_and(s, o->members[i].value, owed.value, &by->members[i].value);
        if (rc == 0 && by->members[i].value != EXPR_FALSE)
            rc = pay(s, from, by, done, to);
    }
    for (uint32_t i = 0; i < o->n_regions && rc == 0; i++) {
        const struct lang region = { .all = o->regions[i].names == s->all_strings,
                                     .d = o->regions[i].names };
        struct lang names, a = { .all = owed.names == s->all_strings, .d = owed.names };
        struct obj *by = schema_alloc(s, 1, sizeof *by);
        bool clash = false;
        expr_id x;

        if (!by)
            return WATT_ENOMEM;
        rc = lang_combine(s, &a, DFA_AND, &region, s->all_strings, &names);
        if (rc == 0 && (names.all || names.d))
            rc = obj_free_names(s, o, names.all ? s->all_strings : names.d, &names);
        if (rc == 0)
            rc = expr_and(s, o->regions[i].value, owed.value, &x);
        if (rc < 0 || (!names.all && !names.d) || x == EXPR_FALSE)
            continue;
        for (uint32_t k = 0; k < done && rc == 0 && !clash; k++)
            rc = dfa_overlap(o->obligations[k].names, names.all ? s->all_strings : names.d,
                             SCHEMA_MAX_STATES, &clash, s->e);
        if (rc < 0 || clash)
            continue;
        *by = *o;
        by->obligations = schema_alloc(s, o->n_obligations, sizeof *by->obligations);
        if (!by->obligations)
            return WATT_ENOMEM;
        memcpy(by->obligations, o->obligations, o->n_obligations * sizeof *by->obligations);
        by->obligations[done] = (struct obligation){ names.all ? s->all_strings : names.d, x };
        rc = pay(s, from, by, done + 1, to);
    }
    return rc;
}

/* ---- everything ---- */

static int emit_node(struct schema *s, uint32_t from, const struct node *n, uint32_t to)
{
    int rc = 0;

    if (n->atoms & ATOM_NULL)
        nfa_bytes(&s->g.a, from, SV("null"), to);
    if (n->atoms & ATOM_TRUE)
        nfa_bytes(&s->g.a, from, SV("true"), to);
    if (n->atoms & ATOM_FALSE)
        nfa_bytes(&s->g.a, from, SV("false"), to);
    if (n->number.all)
        rc = any_number(s, from, to);
    else if (n->number.d)
        rc = some_number(s, from, n->number.d, to);
    if (n->string.all)
        any_string(s, from, to);
    else if (n->string.counted)
        cfg_json_counted(&s->g, from, n->string.d, &n->string.count, to);
    else if (n->string.d)
        cfg_json_text(&s->g, from, n->string.d, to);
    for (uint32_t i = 0; i < n->n_arrays && rc == 0; i++)
        rc = array(s, from, n->arrays[i], to);
    for (uint32_t i = 0; i < n->n_objects && rc == 0; i++)
        rc = pay(s, from, n->objects[i], 0, to);
    return rc;
}

/* Rules are asked for by number before they are written; every expression gets its own. */
int schema_emit(struct schema *s, expr_id root, struct grammar **out)
{
    uint32_t whole, start, end, after;
    int rc = 0;

    rule_of(s, root);
    for (bool more = true; more && rc == 0;) {
        more = false;
        for (expr_id i = 0; i < s->n_exprs && rc == 0; i++) {
            const struct node *n;
            const uint32_t rule = s->exprs[i].rule;

            if (rule == FA_NONE || s->g.failed || s->g.rules[rule].start != FA_NONE)
                continue;
            start = node(s);
            end = node(s);
            cfg_define(&s->g, rule, start, end);
            rc = expr_to_node(s, i, &n);
            if (rc == 0)
                rc = emit_node(s, start, n, end);
            more = true;
        }
    }
    if (rc < 0 || !out)
        return rc;
    whole = cfg_rule(&s->g);
    start = node(s);
    after = node(s);
    cfg_call(&s->g, start, s->exprs[root].rule, after);
    cfg_define(&s->g, whole, start, after);
    return cfg_compile(out, &s->g, whole, "schema", s->e);
}
