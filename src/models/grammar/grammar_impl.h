/* grammar_impl.h: what a compiled grammar is: the states of all its rules in one table.
 * Internal to models/grammar. */
#ifndef MODELS_GRAMMAR_IMPL_H
#define MODELS_GRAMMAR_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "models/grammar/grammar.h"

#define STATE_NONE UINT32_MAX

/* state_flags */
#define STATE_ACCEPT 1u     /* its rule may end here */
#define STATE_BYTES  2u     /* it has transitions on bytes */

struct rule_call {
    uint32_t start;         /* first state of the called rule */
    uint32_t back;          /* where the caller goes on */
};

struct grammar {
    uint32_t          n_states, n_classes;
    uint32_t          root;         /* start state of the whole; it is no rule that is called */
    uint8_t           classes[256]; /* of bytes that no state tells apart */
    uint32_t         *next;         /* [n_states][n_classes] */
    uint8_t          *state_flags;
    uint32_t         *call_at;      /* [n_states + 1] into calls */
    struct rule_call *calls;
    uint64_t          id;           /* unique in the process: key of cached masks */
    atomic_uint       refs;
};

static inline uint32_t grammar_next(const struct grammar *g, uint32_t state, unsigned char c)
{
    return g->next[(size_t)state * g->n_classes + g->classes[c]];
}

#endif
