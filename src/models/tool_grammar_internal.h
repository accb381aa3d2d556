/* tool_grammar_internal.h: between the files of tool_grammar.h: tools that are being written down, and
 * parts of structural tags (grammar/structural.h). Whoever gets a part owns it. */
#ifndef MODELS_TOOL_GRAMMAR_INTERNAL_H
#define MODELS_TOOL_GRAMMAR_INTERNAL_H

#include "models/tool_grammar.h"

struct tool {
    const char   *name;
    json_t       *schema;       /* owned; with $id, so that references stay within it */
    const json_t *declared;     /* parameters as they came; NULL: none */
    bool          strict;
};

struct making {
    const struct tool_format *f;
    const struct tool_wish   *w;
    bool        must;           /* the tool's schema has to be enforced */
    struct err *e;
};

/* ---- parts ---- */

json_t *tool_text_part(const char *text);
json_t *tool_regex_part(const char *pattern);
json_t *tool_schema_part(json_t *schema);       /* takes the reference */
json_t *tool_part_of(const char *type, json_t *elements);
/* Some text up to `end`, which is taken too. */
json_t *tool_text_up_to(const char *begin, const char *end);

/* ---- schemas ---- */

/* Can it be compiled? */
int tool_check_schema(const char *name, const json_t *schema, struct err *e) MUST_CHECK;

/* ---- arguments that are no JSON ---- */

/* All of a tool's. WATT_ENOTSUP names what can't be enforced. */
int tool_args_part(const struct making *m, const struct tool *t, json_t **out) MUST_CHECK;

#endif
