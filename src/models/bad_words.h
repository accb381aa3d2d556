/* bad_words.h: sequences of tokens that a text must not have: the last one of a sequence may not come
 * where those before it were just written.
 *
 * This is vLLM's `bad_words`: it is of tokens, so a word that is spelled by other tokens passes. One
 * list may serve any number of texts, on any threads; a text has one owner thread. */
#ifndef MODELS_BAD_WORDS_H
#define MODELS_BAD_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define BAD_WORDS_MAX        1024u      /* sequences */
#define BAD_WORDS_MAX_TOKENS 65536u     /* of all of them */

/* Zeroed: none. */
struct bad_words {
    int32_t  *ids;      /* all sequences, end to end */
    uint32_t *ends;     /* [n] where each ends in ids */
    size_t    n;
    uint32_t  longest;  /* tokens of one */
};

/* Copies. ends: ascending, the first above 0. WATT_EINVAL: an empty sequence; WATT_ELIMIT; WATT_ENOMEM. On failure
 * nothing needs freeing. */
int  bad_words_init(struct bad_words *w, const int32_t *ids, const uint32_t *ends, size_t n,
                    struct err *e) MUST_CHECK;
void bad_words_deinit(struct bad_words *w);

/* The end of one text, as far as sequences reach back. Zeroed: of a text with no bad words. */
struct bad_words_text {
    const struct bad_words *w;  /* borrowed */
    int32_t *last;              /* [w->longest - 1] the newest tokens, newest last */
    uint32_t n;
};

int  bad_words_text_init(struct bad_words_text *t, const struct bad_words *w,
                         struct err *e) MUST_CHECK;
void bad_words_text_deinit(struct bad_words_text *t);
void bad_words_push(struct bad_words_text *t, int32_t id);
/* Would anything be forbidden now? */
bool bad_words_any(const struct bad_words_text *t);
/* Clears the bits (id % 64 of word id / 64) of tokens that may not come now. */
void bad_words_forbid(const struct bad_words_text *t, uint64_t *bits);

#endif
