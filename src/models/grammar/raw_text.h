/* raw_text.h: strings of a schema as they stand in a text without quotes, between two marks: what tagged
 * arguments of tool calls are (models/tool_grammar.h). */
#ifndef MODELS_GRAMMAR_RAW_TEXT_H
#define MODELS_GRAMMAR_RAW_TEXT_H

#include <jansson.h>

#include "base/err.h"
#include "base/str.h"
#include "models/grammar/fa.h"

#define RAW_MAX_EXCLUDES 8u

struct raw_text {
    const json_t *schema;       /* its values that are strings */
    struct sv     excludes[RAW_MAX_EXCLUDES];   /* do not occur: what ends the text, say */
    size_t        n_excludes;
    bool          trimmed;      /* no white space at the ends: a reader may drop it */
    bool          no_literals;  /* nothing that reads as a number, true, None, a list …: a reader may
                                 * take it for one */
};

/* Strings over characters. Where exclusion would need too many states, texts with the first
 * character of an excluded one are left out, too. Errors as of grammar_from_schema; WATT_EINVAL: no
 * string is left. *out is the caller's to dfa_close. */
int raw_text_dfa(struct dfa **out, const struct raw_text *r, struct err *e) MUST_CHECK;

#endif
