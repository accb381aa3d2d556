/* token_source.h: a matcher, and a budget of reasoning, behind the door that the service asks
 * (models/token_mask.h).
 *
 * Reasoning is free; the grammar applies to what follows it. Where an answer may begin with
 * reasoning of its own accord, the first tokens may open it or begin the grammar's text. While a
 * grammar waits the answer can't end inside the reasoning. When as many tokens were drawn inside as
 * the budget allows, the closing tag is forced. */
#ifndef MODELS_GRAMMAR_TOKEN_SOURCE_H
#define MODELS_GRAMMAR_TOKEN_SOURCE_H

#include "base/err.h"
#include "models/grammar/mask.h"
#include "models/reasoning.h"
#include "models/token_mask.h"
#include "models/tokenizer.h"

#define TOKEN_SOURCE_NO_BUDGET UINT32_MAX

struct token_thinking {
    const struct tokenizer *tok;    /* borrowed, as the tags are */
    struct reasoning        at;     /* as reasoning_begin left it */
    uint32_t                budget; /* tokens of reasoning, or TOKEN_SOURCE_NO_BUDGET */
};

/* Takes a reference to masks, which may be NULL: then there is only the budget. thinking NULL: the
 * grammar applies from the first token on. WATT_ENOMEM. */
int token_source_open(struct token_mask **out, struct grammar_masks *masks,
                      const struct token_thinking *thinking, struct err *e) MUST_CHECK;

#endif
