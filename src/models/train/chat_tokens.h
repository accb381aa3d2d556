/* chat_tokens.h: a conversation as the tokens that training sees, and which of them are to be
 * learned: the assistant's own, with what ends its turn.
 *
 * The template renders the conversation up to each of the assistant's turns twice: once asking for
 * the answer and once with it. What the second has beyond the first is the answer, exactly as it
 * would have to be generated when served; it is tokenized apart from what stands before it, as
 * serving does. A turn that the template shows otherwise once more turns follow (such as one whose
 * reasoning is taken out) is not learned there; n_hidden counts them.
 *
 * Records, one JSON object each:
 *   {"messages": [{"role": …, "content": …}, …], "tools": […], …}   through the template, which
 *       sees all other members, too. A member "learn" of a message, false, leaves it out
 *   {"prompt": …, "completion": …}      no template; the completion is learned, with the end token
 *   {"text": …}                         all of it is learned
 * Any thread; nothing is kept. */
#ifndef MODELS_TRAIN_CHAT_TOKENS_H
#define MODELS_TRAIN_CHAT_TOKENS_H

#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "models/template.h"
#include "models/tokenizer.h"

struct chat_tokens {
    const struct tokenizer   *tok;
    const struct template    *tmpl;     /* NULL: records of messages are refused */
    struct tokenizer_scratch *scratch;  /* of the calling thread; may be NULL */
    struct tokens             ids;      /* appended to; the caller's to free */
    struct str                marks;    /* one byte per id */
    uint64_t                  n_hidden;
};

/* Appends one record. WATT_EFORMAT names the place; what was appended before stays. */
int chat_tokens_add(struct chat_tokens *c, const struct json_place *record, struct err *e) MUST_CHECK;
/* Appends a text that is learned whole: with bos and end of text as the vocabulary has them, each
 * only where asked for. */
int chat_tokens_text(struct chat_tokens *c, struct sv text, bool begins, bool ends,
                     struct err *e) MUST_CHECK;

#endif
