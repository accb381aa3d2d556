/* pretokenizer.c: which of the named pre-tokenizers (models/tok_pretok.c) a tokenizer.json means.
 *
 * Its tree becomes a list of patterns, one for each stage, which is compared with the patterns of
 * the table's rows. Where none is equal the patterns themselves go along, under a key of ours, so
 * that the tokenizer is right here; other engines would take the default for it. */
#include <stdio.h>
#include <string.h>

#include "models/hf/vocab.h"
#include "models/tok_impl.h"

#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define PUNCTUATION_PATTERN "[\\p{P}!-/:-@\\[-`{-~]"

static int add_pattern(struct hf_vocab *v, const struct json_place *at, struct sv pattern,
                       struct err *e)
{
    if (v->n_patterns == PRETOK_MAX_STAGES)
        return json_refuse(at, e, WATT_ENOTSUP, "more than %d stages", PRETOK_MAX_STAGES);
    if (pattern.len > 16384 || memchr(pattern.data, '\0', pattern.len))
        return json_refuse(at, e, WATT_ELIMIT, "a pattern of %zu bytes", pattern.len);
    v->patterns[v->n_patterns++] = pattern;
    return 0;
}

static int add_split(struct hf_vocab *v, const struct json_place *step, struct err *e)
{
    struct json_place pattern, text;
    const char *behavior;
    bool invert;
    int rc = json_need(step, "pattern", &pattern, e);

    if (rc == 0)
        rc = json_get_cstr(step, "behavior", "Isolated", &behavior, e);
    if (rc == 0)
        rc = json_get_bool(step, "invert", false, &invert, e);
    if (rc == 0)
        rc = json_find(&pattern, "Regex", &text, e);
    if (rc < 0)
        return rc;
    if (!text.value)
        return json_refuse(&pattern, e, WATT_ENOTSUP, "only a Regex is known");
    /* where the pattern covers everything, what is removed or inverted is nothing */
    if (strcmp(behavior, "Isolated") != 0 && !(strcmp(behavior, "Removed") == 0 && invert))
        return json_refuse(step, e, WATT_ENOTSUP, "behavior is '%.40s', known is Isolated",
                           behavior);
    return add_pattern(v, &text, (struct sv){ json_string_value(text.value),
                                              json_string_length(text.value) }, e);
}

static int add_step(const struct hf *h, struct hf_vocab *v, const struct json_place *step,
                    unsigned depth, struct err *e)
{
    struct json_place list;
    const char *type;
    bool flag;
    int rc = json_get_cstr(step, "type", "", &type, e);

    if (rc < 0)
        return rc;
    if (strcmp(type, "Sequence") == 0 && depth > 0) {
        rc = json_need(step, "pretokenizers", &list, e);
        for (size_t i = 0; rc == 0 && i < json_count(&list); i++) {
            const struct json_place inner = json_item(&list, i);

            rc = add_step(h, v, &inner, depth - 1, e);
        }
        return rc;
    }
    if (strcmp(type, "Split") == 0)
        return add_split(v, step, e);
    if (strcmp(type, "Digits") == 0) {
        rc = json_get_bool(step, "individual_digits", false, &flag, e);
        return rc == 0 ? add_pattern(v, step, flag ? SV("\\p{N}") : SV("\\p{N}+"), e) : rc;
    }
    if (strcmp(type, "Punctuation") == 0) {
        const char *behavior;

        rc = json_get_cstr(step, "behavior", "Isolated", &behavior, e);
        return rc < 0 ? rc : add_pattern(v, step, strcmp(behavior, "Contiguous") == 0
                                                      ? SV(PUNCTUATION_PATTERN "+")
                                                      : SV(PUNCTUATION_PATTERN), e);
    }
    if (strcmp(type, "ByteLevel") == 0) {
        rc = json_get_bool(step, "add_prefix_space", true, &flag, e);
        if (rc == 0 && flag)
            hf_warn(h, "add_prefix_space: no space is put in front of texts");
        if (rc == 0)
            rc = json_get_bool(step, "use_regex", true, &flag, e);
        return rc == 0 && flag ? add_pattern(v, step, SV(GPT2_PATTERN), e) : rc;
    }
    return json_refuse(step, e, WATT_ENOTSUP, "type is '%.40s', known are Sequence, Split, Digits, "
                       "Punctuation, ByteLevel", type);
}

static bool row_fits(const struct hf_vocab *v, const struct pretok *row)
{
    if (row->raw || row->n_stages != v->n_patterns)
        return false;
    for (unsigned i = 0; i < row->n_stages; i++)
        if (!row->stages[i].regex || !sv_eq_cstr(v->patterns[i], row->stages[i].regex))
            return false;
    return true;
}

int hf_read_pretokenizer(const struct hf *h, struct hf_vocab *v, const struct json_place *root,
                         struct err *e)
{
    const struct pretok *found = NULL;
    struct json_place at;
    unsigned best = 0;
    int rc = json_find(root, "pre_tokenizer", &at, e);

    if (rc == 0 && at.value)
        rc = add_step(h, v, &at, 8, e);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < pretok_count(); i++) {
        const struct pretok *row = pretok_at(i);
        const unsigned same = 1u + 4u * (row->ignore_merges == (v->ignore_merges == 1)) +
                              2u * (row->nfc == (v->nfc == 1)) +
                              1u * (row->add_bos == (v->add_bos == 1));

        if (row_fits(v, row) && same > best) {
            found = row;
            best = same;
        }
    }
    if (!found) {
        hf_warn(h, "its pre-tokenizer is none of those with a name: other engines will not know it");
        return 0;
    }
    (void)snprintf(v->pre, sizeof v->pre, "%s", found->name);
    if (found->ignore_merges == (v->ignore_merges == 1))
        v->ignore_merges = -1;
    if (found->nfc == (v->nfc == 1))
        v->nfc = -1;
    v->n_patterns = 0;
    return 0;
}
