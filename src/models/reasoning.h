/* reasoning.h: follows the tokens of an answer through the model's reasoning: whether it has begun,
 * how many tokens it has, where it ends. The tags are those of the model's format (tool_format.h).
 * One owner thread; no memory of its own. */
#ifndef MODELS_REASONING_H
#define MODELS_REASONING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define REASONING_TAG_MAX 128u      /* bytes; longer tags are not followed */

enum reasoning_state {
    REASONING_BEFORE,       /* nothing but white space and what may become the opening tag came */
    REASONING_INSIDE,
    REASONING_AFTER         /* closed, or the answer began without */
};

struct reasoning {
    const char *open, *close;       /* borrowed; close "": there is no reasoning */
    enum reasoning_state state;
    uint32_t n_tokens;              /* drawn inside: without the tags, once they are whole */
    uint32_t n_matched;             /* BEFORE: bytes of the opening tag that came */
    uint32_t n_tail;
    char     tail[REASONING_TAG_MAX];   /* INSIDE: the last bytes, which may begin the closing tag */
    uint32_t n_lens;                /* of the last tokens, in bytes, so that those of the tag can be */
    uint32_t lens[REASONING_TAG_MAX];   /* told from those before it */
    size_t   n_behind;              /* bytes of the last token that follow the closing tag */
    bool     stray;                 /* … and are not all white space */
};

/* `prompt`: what the template rendered; where it ends with the opening tag the answer begins
 * inside. */
void reasoning_begin(struct reasoning *r, const char *open, const char *close, struct sv prompt);
/* The bytes of the token that was drawn. */
void reasoning_push(struct reasoning *r, struct sv piece);

#endif
