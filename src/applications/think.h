/* think.h: tells a model's reasoning from its answer while both stream by.
 *
 * Reasoning is what stands between a known pair of tags (<think>…</think> and its
 * relatives) at the beginning of an answer, or before a closing tag when the
 * chat template has opened one already. The tags and the blank lines around them
 * are not shown. One owner thread. */
#ifndef APPLICATIONS_THINK_H
#define APPLICATIONS_THINK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

enum think_state { THINK_BEFORE, THINK_INSIDE, THINK_AFTER };

struct think {
    enum think_state state;
    size_t     tag;         /* which pair, when INSIDE */
    bool       at_start;    /* of the reasoning or the answer: blanks are dropped */
    const char *open, *close;   /* of the model, beside the known ones; NULL: none */
    struct str held;        /* what may still be a tag */
};

void think_init(struct think *t);
void think_deinit(struct think *t);
/* Tags that were learned from the model's template; borrowed. `open` may be empty: then only a
 * prompt can open them. Before think_begin. */
void think_learn(struct think *t, const char *open, const char *close);
/* Before an answer; `prompt` is what the template rendered: when it ends with an
 * opening tag, the answer begins inside. */
void think_begin(struct think *t, const char *prompt, size_t len);
/* In place of think_begin where the answer goes on a text that the assistant has begun: its leading
 * blanks stay, and it begins inside when reasoning was opened there and not closed. */
void think_continue(struct think *t, const char *text, size_t len);
/* Appends to reasoning and to answer what has become certain. */
void think_push(struct think *t, const char *text, size_t len, struct str *reasoning,
                struct str *answer);
/* The end: what was held back is ordinary text. */
void think_finish(struct think *t, struct str *reasoning, struct str *answer);

#endif
