/* grammar.h: what a model may say: a compiled grammar, made from a JSON Schema, a regular
 * expression, GBNF, a list of choices, or tags inside free text.
 *
 * A grammar is a set of byte strings. It is immutable, counted by reference, and shared by any
 * number of matchers (matcher.h) in any threads. No reachable state is a dead end: from every
 * accepted prefix some whole text can be reached.
 *
 * What can't be enforced is refused with the keyword's name (WATT_ENOTSUP), never ignored;
 * docs/grammar.md lists what is supported. Everything here comes from requests: sizes are
 * bounded by the limits below and those of the parts. */
#ifndef MODELS_GRAMMAR_H
#define MODELS_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "base/err.h"
#include "base/str.h"

#define GRAMMAR_MAX_TEXT_BYTES ((size_t)1 << 20)    /* GBNF source */
#define GRAMMAR_MAX_CHOICES    10000u

struct grammar;

struct schema_opts {
    bool strict;        /* objects with `properties` but without `additionalProperties` or
                         * `unevaluatedProperties` are closed */
    bool compact;       /* no white space between the tokens of JSON; else up to one space, or a
                         * new line and up to 32 spaces or tabs */
    bool no_format;     /* `format` is a remark, as the standard has it; else the standard's
                         * formats are enforced */
};

/* Texts that are JSON (RFC 8259) valid under the schema (JSON Schema 2020-12; draft-07's
 * `definitions`, `dependencies` and list-valued `items` too). An accepted text is always valid;
 * not every valid text is accepted: members stand in the order of the schema, numbers are written
 * in a form that ends (docs/grammar.md). opts may be NULL. WATT_ENOTSUP names the keyword and
 * its place, WATT_EFORMAT a malformed schema, WATT_EINVAL one that nothing satisfies,
 * WATT_ELIMIT, WATT_ENOMEM. */
int grammar_from_schema(struct grammar **out, const json_t *schema, const struct schema_opts *opts,
                        struct err *e) MUST_CHECK;
/* Any JSON object ("json_object"), or any JSON value. */
int grammar_any_json(struct grammar **out, bool object, bool compact, struct err *e) MUST_CHECK;
/* Texts that the regular expression matches as a whole (regex.h). */
int grammar_from_regex(struct grammar **out, struct sv pattern, struct err *e) MUST_CHECK;
/* GBNF, as llama.cpp documents it; the start rule is `root`. */
int grammar_from_gbnf(struct grammar **out, struct sv text, struct err *e) MUST_CHECK;
/* One of the texts. */
int grammar_from_choices(struct grammar **out, const struct sv *choices, size_t n,
                         struct err *e) MUST_CHECK;

/* Free text in which every occurrence of a trigger begins one of the tags that start with it:
 * the rest of its `begin`, then its content, then `end`. With `at_least_one`, and with
 * `stop_after_first`, as said. */
struct grammar_tag {
    struct sv     begin, end;
    const json_t *schema;       /* content is JSON of this schema; NULL: content is free text
                                 * up to `end` */
};
struct grammar_tags {
    const struct sv          *triggers;
    size_t                    n_triggers;
    const struct grammar_tag *tags;
    size_t                    n_tags;
    bool                      at_least_one, stop_after_first;
};
int grammar_from_tags(struct grammar **out, const struct grammar_tags *tags,
                      const struct schema_opts *opts, struct err *e) MUST_CHECK;

struct grammar *grammar_ref(struct grammar *g);
void            grammar_close(struct grammar *g);       /* drops a reference; NULL is fine */
/* Is the whole text in the language? For tests and checks; walks without a vocabulary. */
bool            grammar_matches(const struct grammar *g, struct sv text);

#endif
