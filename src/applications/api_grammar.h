/* api_grammar.h: grammars of requests: compiled once per source, a bounded number kept. */
#ifndef APPLICATIONS_API_GRAMMAR_H
#define APPLICATIONS_API_GRAMMAR_H

#include "base/err.h"
#include "base/json.h"
#include "models/token_mask.h"
#include "models/tokenizer.h"

#define API_GRAMMARS_KEPT 64u

struct api_grammars;

/* t is borrowed. Threads: any. */
int  api_grammars_open(struct api_grammars **out, const struct tokenizer *t, struct err *e)
    MUST_CHECK;
void api_grammars_close(struct api_grammars *g);

/* What a request asks for, under any of its names: response_format, structured_outputs,
 * guided_json|regex|choice|grammar, json_schema, grammar, format (Ollama). *out stays NULL when
 * nothing is asked for. A keyword that can't be enforced is WATT_ENOTSUP and named. free_until:
 * token_source.h. */
int  api_grammar_of(struct api_grammars *g, const struct json_place *body, int32_t free_until,
                    struct token_mask **out, struct err *e) MUST_CHECK;

#endif
