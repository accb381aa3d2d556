/* api_grammar.h: grammars of requests: compiled once per source, a bounded number kept. */
#ifndef APPLICATIONS_API_GRAMMAR_H
#define APPLICATIONS_API_GRAMMAR_H

#include "base/err.h"
#include "base/json.h"
#include "models/grammar/mask.h"
#include "models/tokenizer.h"
#include "models/tool_format.h"

#define API_GRAMMARS_KEPT 64u

struct api_grammars;

/* Both are borrowed; f, NULL where none is known, has the control tokens that grammars of calls may
 * use. Threads: any. */
int  api_grammars_open(struct api_grammars **out, const struct tokenizer *t,
                       const struct tool_format *f, struct err *e) MUST_CHECK;
void api_grammars_close(struct api_grammars *g);

/* What a request asks for, under any of its names: response_format, structured_outputs,
 * guided_json|regex|choice|grammar, json_schema, grammar, format (Ollama); and, with `tools`, that
 * calls are well formed and come as tool_choice and parallel_tool_calls say. *out stays NULL when
 * there is nothing to enforce. A keyword that can't be enforced is WATT_ENOTSUP and named. */
int  api_grammar_of(struct api_grammars *g, const struct json_place *body, bool tools,
                    struct grammar_masks **out, struct err *e) MUST_CHECK;

#endif
