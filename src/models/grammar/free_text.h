/* free_text.h: automata over bytes for text in which some strings do not occur. */
#ifndef MODELS_GRAMMAR_FREE_TEXT_H
#define MODELS_GRAMMAR_FREE_TEXT_H

#include "models/grammar/cfg.h"

#define FREE_MAX_STATES (1u << 15)

/* Strings in which none of the texts occurs. */
int free_without(struct dfa **out, const struct sv *texts, size_t n, struct err *e) MUST_CHECK;
/* Strings that end with `text`, and in which no text of the list occurs before their end. */
int free_up_to(struct dfa **out, struct sv text, const struct sv *texts, size_t n,
               struct err *e) MUST_CHECK;
/* A byte automaton between two nodes. */
void free_write(struct cfg *g, uint32_t from, const struct dfa *d, uint32_t to);

#endif
