/* fa.h: finite automata over ranges of 32-bit symbols: what regular expressions, formats,
 * numeric bounds and lists of literals all become, and what the rules of a grammar are made of.
 *
 * Symbols are Unicode characters (0..FA_MAX_CHAR), bytes (0..255), calls of a rule
 * (FA_CALL + rule) or jumps (FA_JUMP + jump); an automaton uses one kind of letter, and calls and
 * jumps beside it if it likes.
 *
 * An nfa is a growing graph; a dfa is immutable, deterministic and trimmed: every state can be
 * reached and can reach acceptance, except that the empty language keeps its start state.
 * Limits are arguments, because patterns come from requests: what would grow over them is
 * WATT_ELIMIT. Subset construction: Rabin and Scott 1959. One owner thread while it is made. */
#ifndef MODELS_GRAMMAR_FA_H
#define MODELS_GRAMMAR_FA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define FA_MAX_CHAR 0x10FFFFu
#define FA_CALL     0x80000000u     /* symbol of the call of rule 0 */
#define FA_JUMP     0xC0000000u     /* symbol of jump 0 into counted repetition (cfg_counted.h) */
#define FA_NONE     UINT32_MAX

/* ---- non-deterministic ---- */

enum nfa_kind {
    NFA_RANGE,      /* consumes a symbol of [lo, hi] */
    NFA_EMPTY,      /* consumes nothing */
    NFA_AT_START,   /* consumes nothing; only before the first symbol */
    NFA_AT_END      /* consumes nothing; only after the last symbol */
};

struct nfa_edge {
    uint32_t lo, hi, to, next;  /* next edge of the same node, FA_NONE at the end */
    uint32_t kind;
};

struct nfa {
    uint32_t        *first;     /* [n_nodes] newest edge, FA_NONE without */
    struct nfa_edge *edges;
    uint32_t         n_nodes, cap_nodes, n_edges, cap_edges;
    uint32_t         max_nodes; /* more fail */
    bool             failed;    /* memory or max_nodes; edges are dropped from then on */
};

void     nfa_init(struct nfa *a, uint32_t max_nodes);
void     nfa_deinit(struct nfa *a);
/* A new node; 0 after a failure, so that building may go on and ask nfa_ok once. */
uint32_t nfa_node(struct nfa *a);
void     nfa_range(struct nfa *a, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to);
void     nfa_empty(struct nfa *a, uint32_t from, uint32_t to);
void     nfa_assert(struct nfa *a, uint32_t from, enum nfa_kind kind, uint32_t to);
/* A chain of symbols for the bytes of text. */
void     nfa_bytes(struct nfa *a, uint32_t from, struct sv text, uint32_t to);
/* A copy of everything reachable from `from` in b, with `end` becoming `to`; *start is the
 * copy of `from`. */
void     nfa_copy(struct nfa *a, const struct nfa *b, uint32_t from, uint32_t end, uint32_t *start,
                  uint32_t to);
/* 0, WATT_ENOMEM or WATT_ELIMIT, with `what` named. */
int      nfa_ok(const struct nfa *a, const char *what, struct err *e) MUST_CHECK;

/* ---- deterministic ---- */

struct dfa_edge {
    uint32_t lo, hi, to;
};

struct dfa_state {
    uint32_t first, n;          /* edges, sorted and disjoint */
    bool     accept;
};

struct dfa {                    /* the start is state 0 */
    struct dfa_state *states;
    struct dfa_edge  *edges;
    uint32_t          n_states, n_edges;
};

/* Words from `start` to `end`. */
int  dfa_from_nfa(struct dfa **out, const struct nfa *a, uint32_t start, uint32_t end,
                  uint32_t max_states, const char *what, struct err *e) MUST_CHECK;
void dfa_close(struct dfa *d);                          /* NULL is fine */

enum dfa_op { DFA_AND, DFA_OR, DFA_MINUS };
int  dfa_combine(struct dfa **out, const struct dfa *a, enum dfa_op op, const struct dfa *b,
                 uint32_t max_states, const char *what, struct err *e) MUST_CHECK;
bool dfa_is_empty(const struct dfa *d);
/* Is some word in both? WATT_ELIMIT after max_pairs pairs of states. */
int  dfa_overlap(const struct dfa *a, const struct dfa *b, uint32_t max_pairs, bool *yes,
                 struct err *e) MUST_CHECK;
/* Every string of characters (no surrogates). */
int  dfa_all(struct dfa **out, struct err *e) MUST_CHECK;
/* Strings of min..max characters; max FA_NONE: no bound. */
int  dfa_length(struct dfa **out, uint32_t min, uint32_t max, struct err *e) MUST_CHECK;
/* The characters of UTF-8 texts. */
int  dfa_literals(struct dfa **out, const struct sv *texts, size_t n, uint32_t max_states,
                  struct err *e) MUST_CHECK;
/* Is the text, read as UTF-8 characters, a word? */
bool dfa_matches(const struct dfa *d, struct sv text);
uint32_t dfa_next(const struct dfa *d, uint32_t state, uint32_t symbol);  /* FA_NONE: no edge */

#endif
