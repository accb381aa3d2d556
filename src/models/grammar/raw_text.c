/* raw_text.c: strings of a schema without those that a reader would take for something else. */
#include "models/grammar/raw_text.h"

#include "base/utf8.h"
#include "models/grammar/schema.h"

#define MANY_STATES 8192u       /* of the product; then exclusion is by characters */

static const char *const words[] = { "true", "false", "null", "True", "False", "None", "NaN", "Infinity",
                                     "-Infinity", "nan", "inf", "undefined" };

/* Characters that a reader looks at first. */
static const char brackets[] = "\"'[{(<";
/* What numbers are written with, in Python too, behind a digit, a sign or a point. */
static const char number_start[] = "+-.0123456789";
static const char number_more[] = "+-.0123456789_eExXoObBaAcCdDfFjJlL ";

static void any_char(struct nfa *a, uint32_t from, uint32_t to)
{
    nfa_range(a, from, 0, 0xD7FF, to);
    nfa_range(a, from, 0xE000, FA_MAX_CHAR, to);
}

static void one_of(struct nfa *a, uint32_t from, const char *chars, uint32_t to)
{
    for (; *chars; chars++)
        nfa_range(a, from, (unsigned char)*chars, (unsigned char)*chars, to);
}

/* The first max characters of a text. */
static void literal(struct nfa *a, uint32_t from, struct sv text, size_t max, uint32_t to)
{
    for (size_t i = 0; i < text.len && max > 0; max--) {
        const uint32_t next = nfa_node(a);
        uint32_t c;

        i += utf8_decode(text.data + i, text.len - i, &c, NULL);
        nfa_range(a, from, c, c, next);
        from = next;
    }
    nfa_empty(a, from, to);
}

/* What must not be: excluded texts of at most `max` characters. */
static int unwanted(struct dfa **out, const struct raw_text *r, size_t max, struct err *e)
{
    static const char blanks[] = " \t\r\n";
    uint32_t start, inside, found, end, at;
    struct nfa a;
    int rc;

    nfa_init(&a, 1u << 14);
    start = nfa_node(&a);
    inside = nfa_node(&a);      /* behind anything */
    found = nfa_node(&a);       /* whatever follows */
    end = nfa_node(&a);
    nfa_empty(&a, start, inside);
    any_char(&a, inside, inside);
    any_char(&a, found, found);
    nfa_empty(&a, found, end);
    for (size_t i = 0; i < r->n_excludes; i++)
        if (r->excludes[i].len)
            literal(&a, inside, r->excludes[i], max, found);
    if (r->trimmed) {
        one_of(&a, start, blanks, found);
        one_of(&a, inside, blanks, end);
    }
    if (r->no_literals) {
        nfa_empty(&a, start, end);
        one_of(&a, start, brackets, found);
        at = nfa_node(&a);
        one_of(&a, start, number_start, at);
        one_of(&a, at, number_more, at);
        nfa_empty(&a, at, end);
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            literal(&a, start, sv_cstr(words[i]), SIZE_MAX, end);
    }
    rc = dfa_from_nfa(out, &a, start, end, 1u << 14, "text", e);
    nfa_deinit(&a);
    return rc;
}

int raw_text_dfa(struct dfa **out, const struct raw_text *r, struct err *e)
{
    struct dfa *all = NULL, *not = NULL, *d = NULL;
    int rc = schema_text(&all, r->schema, e);

    if (rc == 0)
        rc = unwanted(&not, r, SIZE_MAX, e);
    if (rc == 0 && (uint64_t)all->n_states * not->n_states > MANY_STATES) {
        dfa_close(not);
        not = NULL;
        rc = unwanted(&not, r, 1, e);
    }
    if (rc == 0)
        rc = dfa_combine(&d, all, DFA_MINUS, not, SCHEMA_MAX_STATES * 4, "text", e);
    dfa_close(all);
    dfa_close(not);
    if (rc == 0 && dfa_is_empty(d)) {
        dfa_close(d);
        rc = err_set(e, WATT_EINVAL, "text: nothing can satisfy it");
    }
    if (rc == 0)
        *out = d;
    return rc;
}
