/* cfg_counted.h: counted repetition ("at most 2,000 characters", [a-z]{1,63}) as blocks of a grammar
 * (grammar_impl.h) instead of a state for every count. Internal to models/grammar.
 *
 * Two things become chains. An automaton over characters is searched for states p0 … pn, each of which goes on
 * to the next by the same set of characters A, and from pmin on does whatever pn does, the same way; and
 * an automaton may come with counts of its own (cfg_json_counted), each of whose states is then a
 * boundary of one chain. Lifted to bytes a boundary is written once, with jumps (symbols FA_JUMP + index)
 * where the count changes or where the chain is entered. When the rule has become deterministic, what lies between
 * jumps are the kinds of the block. */
#ifndef MODELS_GRAMMAR_CFG_COUNTED_H
#define MODELS_GRAMMAR_CFG_COUNTED_H

#include "models/grammar/cfg.h"
#include "models/grammar/grammar_impl.h"

struct counted_chain {
    uint32_t length, min;
    bool     open;                      /* no most count: length is min, and stays so (grammar_impl.h) */
    uint32_t first_bound, n_bounds;     /* of g->bounds; one where it was found in an automaton */
};

struct counted_bound {
    uint64_t first[4];          /* bytes that begin the characters with which it goes on in the chain */
    uint32_t ahead;             /* how many characters it needs at least until it can leave */
    bool     fixed;             /* exactly so many */
};

struct counted_jump {
    uint32_t chain, layer;      /* FA_NONE: the layer after this one */
    uint32_t bound;
};

/* The chains of d: to[s] is the chain of a state and its layer, FA_NONE in none. */
struct counted_place {
    uint32_t chain, layer;
};
/* Appends them to g->chains; *n says how many. `with_start`: the first state may be in one. */
bool counted_find(struct cfg *g, const struct dfa *d, bool json, bool with_start,
                  struct counted_place *place, uint32_t *n);
/* One chain of the states of d that count (cfg_can_count said that they can): to[s].layer is then the
 * number of the state's boundary. */
bool counted_region(struct cfg *g, const struct dfa *d, const struct cfg_count *c,
                    struct counted_place *place);
/* A jump's symbol; 0: no memory (g->failed). */
uint32_t counted_jump(struct cfg *g, uint32_t chain, uint32_t layer, uint32_t bound);
/* A chain with room for its boundaries, which are zero; false: no memory (g->failed). */
bool     counted_add(struct cfg *g, uint32_t length, uint32_t min, bool open, uint32_t n_bounds);
/* Adds the bytes that lo..hi may begin with as cfg_chars.c writes them. */
void     counted_first_bytes(uint32_t lo, uint32_t hi, bool json, uint64_t *set);

/* ---- when rules are deterministic ---- */

/* Adds the blocks of a rule with jumps to out->blocks; its own states begin at `base`. The classes of
 * out are known. block_of: [cfg's chains]. *n_virtual: states of all blocks so far. */
int counted_blocks(struct grammar *out, const struct cfg *cfg, const struct dfa *d, uint32_t base,
                   uint32_t *block_of, uint32_t *n_virtual, const char *what, struct err *e) MUST_CHECK;
/* The state that a rule's state s is in the grammar. */
uint32_t counted_state(const struct grammar *out, const struct cfg *cfg, const struct dfa *d,
                       uint32_t base, const uint32_t *block_of, uint32_t s);

#endif
