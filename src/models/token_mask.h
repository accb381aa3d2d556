/* token_mask.h: the door through which a grammar says which tokens may come next.
 *
 * The service asks before each draw which tokens are allowed and enters every token that was
 * drawn; how a source knows (a grammar, a schema, a forced text, a list of words that may not
 * appear) is its own business. A source is one choice's: it has state. It fails closed: when it
 * can't say, the request ends with the error and no unconstrained token is shown.
 *
 * A source makes the first member of its struct a struct token_mask. fill and accept are called
 * from one thread at a time, but not always the same one, and must not allocate. */
#ifndef MODELS_TOKEN_MASK_H
#define MODELS_TOKEN_MASK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct token_mask;

enum token_mask_fill {
    TOKEN_MASK_ANY,         /* everything may come; bits were not written */
    TOKEN_MASK_SOME         /* bits hold what may come */
};

struct token_mask_ops {
    /* Writes one bit per token, 1: allowed (bit id % 64 of word id / 64), all (n_vocab + 63) / 64
     * words, as sampler_sample reads them; end tokens are tokens like others: allowed where the
     * text may end. Returns enum token_mask_fill, or a negative WATT_E… with e set. */
    int  (*fill)(struct token_mask *m, uint64_t *bits, struct err *e);
    /* Enters the token that was drawn. Negative WATT_E… when it can't be. */
    int  (*accept)(struct token_mask *m, int32_t id, struct err *e);
    /* Nothing but the end can follow: the answer is over. NULL: never. */
    bool (*complete)(const struct token_mask *m);
    /* A source in the same state, for another choice of the same request. */
    int  (*clone)(struct token_mask **out, const struct token_mask *m, struct err *e);
    void (*close)(struct token_mask *m);
};

struct token_mask { const struct token_mask_ops *ops; };

static inline void token_mask_close(struct token_mask *m)
{
    if (m)
        m->ops->close(m);
}

#endif
