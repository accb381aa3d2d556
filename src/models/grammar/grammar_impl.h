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

/* Counted text: an automaton over characters whose texts have at least `min` and at most `length`
 * characters (a set of characters, again and again, most often), without a state for every count. What is
 * before a character, one kind for each state of the automaton, and what is inside of one are kinds; kind
 * k after i characters (layer i) is the state first + i * n_kinds + k, which no table lists. Before a
 * character it may also leave or end its rule, from layer `min` on. Where there is no most count it is open: `length`
 * is `min`, and counting stops there. */
struct grammar_block {
    uint32_t  first, n_kinds, length, min;
    bool      open;
    uint32_t  n_before;     /* kinds before a character; they come first */
    uint32_t  twin;         /* n_kinds states that stand for the kinds in any layer: keys of masks */
    uint32_t  profile;      /* of kind 0 in grammar_masks: one for each kind before a character */
    uint8_t  *flags;        /* [n_kinds] */
    uint32_t *ahead;        /* [n_kinds] how many characters must come at least until it can leave */
    uint32_t *next;         /* [n_kinds][n_classes] */
};

#define BLOCK_KIND    0u            /* of next: another kind, in the low bits */
#define BLOCK_ADVANCE (1u << 30)    /* a character is over: a kind of the next layer, in the low bits */
#define BLOCK_LEAVE   (2u << 30)    /* a state outside, in the low bits */
#define BLOCK_VALUE   ((1u << 30) - 1)

#define KIND_ACCEPT   1u    /* ends its rule */
#define KIND_LEAVES   2u    /* has transitions out of the block */
#define KIND_ADVANCES 4u    /* has others */
#define KIND_FIXED    8u    /* leaves after exactly `ahead` characters, so that it is only where that is enough */

struct grammar {
    uint32_t          n_states, n_classes;      /* states of the table; those of blocks come after */
    uint32_t          root;         /* start state of the whole; it is no rule that is called */
    uint8_t           classes[256]; /* of bytes that no state tells apart */
    uint32_t         *next;         /* [n_states][n_classes] */
    uint8_t          *state_flags;
    uint32_t         *call_at;      /* [n_states + 1] into calls */
    struct rule_call *calls;
    struct grammar_block *blocks;   /* by rising `first` */
    uint32_t          n_blocks, n_profiles;
    uint64_t          id;           /* unique in the process: key of cached masks */
    atomic_uint       refs;
};

/* The block of a state that is in none of the tables. */
static inline const struct grammar_block *grammar_block(const struct grammar *g, uint32_t state)
{
    uint32_t lo = 0, hi = g->n_blocks;

    while (hi - lo > 1) {
        const uint32_t mid = (lo + hi) / 2;

        if (g->blocks[mid].first <= state)
            lo = mid;
        else
            hi = mid;
    }
    return &g->blocks[lo];
}

/* How many characters may follow before one that is in this layer. */
static inline uint32_t block_room(const struct grammar_block *b, uint32_t layer)
{
    return b->open ? UINT32_MAX : b->length - layer;
}

/* In cfg_counted.c: the same for states of blocks. */
uint32_t grammar_next_counted(const struct grammar *g, uint32_t state, unsigned char c);
unsigned grammar_flags_counted(const struct grammar *g, uint32_t state);

static inline uint32_t grammar_next(const struct grammar *g, uint32_t state, unsigned char c)
{
    if (state >= g->n_states)
        return grammar_next_counted(g, state, c);
    return g->next[(size_t)state * g->n_classes + g->classes[c]];
}

static inline unsigned grammar_flags(const struct grammar *g, uint32_t state)
{
    return state < g->n_states ? g->state_flags[state] : grammar_flags_counted(g, state);
}

/* The calls of a state: g->calls[return value..*end). */
static inline uint32_t grammar_calls(const struct grammar *g, uint32_t state, uint32_t *end)
{
    *end = state < g->n_states ? g->call_at[state + 1] : 0;
    return state < g->n_states ? g->call_at[state] : 0;
}

static inline bool grammar_has_calls(const struct grammar *g, uint32_t state)
{
    return state < g->n_states && g->call_at[state] != g->call_at[state + 1];
}

#endif
