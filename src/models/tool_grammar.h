/* tool_grammar.h: what an answer with tools may say, as a structural tag (grammar/structural.h): made
 * from the model's format of calls and the tools' schemas.
 *
 * Texts that fit are taken apart by tool_parser.h into calls of declared tools, with arguments that
 * are valid JSON under their schemas. */
#ifndef MODELS_TOOL_GRAMMAR_H
#define MODELS_TOOL_GRAMMAR_H

#include <jansson.h>

#include "models/tool_format.h"

enum tool_demand {
    TOOL_MAY,               /* free text, in which calls are well formed */
    TOOL_MUST               /* at least one call and nothing else */
};

struct tool_wish {
    const json_t    *tools;         /* a list as OpenAI's API has it */
    enum tool_demand demand;
    const char      *only;          /* this tool; NULL: any */
    bool             parallel;      /* several calls in one answer */
    const json_t    *text;          /* with TOOL_MAY: a structural part in place of free text; NULL */
};

/* On success *out is a new structural tag, or NULL where there is nothing to enforce (TOOL_MAY, and
 * calls have no marker of their own and no tool is `strict`). Schemas that can't be enforced: with
 * TOOL_MUST or `strict` WATT_ENOTSUP or what the schema's compiler says, naming the keyword; else
 * any object will do. WATT_ENOTSUP where the format shows no calls; WATT_EINVAL for `only` without
 * such a tool; WATT_EFORMAT; WATT_ENOMEM. */
int tool_grammar(json_t **out, const struct tool_format *f, const struct tool_wish *w,
                 struct err *e) MUST_CHECK;

#endif
