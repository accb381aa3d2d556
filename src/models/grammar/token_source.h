/* token_source.h: a matcher behind the door that the service asks (models/token_mask.h). */
#ifndef MODELS_GRAMMAR_TOKEN_SOURCE_H
#define MODELS_GRAMMAR_TOKEN_SOURCE_H

#include "base/err.h"
#include "models/grammar/mask.h"
#include "models/token_mask.h"

/* Takes a reference to masks. After `free_until` (a token id, -1: none) was drawn, and not
 * before, the grammar applies: what a reasoning model thinks is free. */
int token_source_open(struct token_mask **out, struct grammar_masks *masks, int32_t free_until,
                      struct err *e) MUST_CHECK;

#endif
