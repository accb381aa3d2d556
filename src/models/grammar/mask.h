/* mask.h: which tokens may come next, for a grammar over a vocabulary.
 *
 * A frontier's mask is the union over its states. One state's mask depends on the state and on
 * as many of the calls above it as tokens can return through; it is found once by walking the
 * vocabulary's tree and kept under that short list of states, so that nearly every later mask is
 * a look-up. States whose list would be too long are walked each time.
 *
 * Shared by matchers of any threads (a lock inside); counted by reference. */
#ifndef MODELS_GRAMMAR_MASK_H
#define MODELS_GRAMMAR_MASK_H

#include <stdint.h>

#include "base/err.h"
#include "models/grammar/grammar.h"
#include "models/grammar/gss.h"
#include "models/grammar/token_trie.h"

#define MASK_CACHE_BYTES ((size_t)64 << 20)     /* per grammar; then it starts anew */
#define MASK_MAX_WORK    (1u << 26)     /* nodes and states that one mask may take: some tenths of a second */

struct grammar_masks;

/* Takes a reference to g; the trie is borrowed and must outlive it. */
int  grammar_masks_open(struct grammar_masks **out, struct grammar *g, const struct token_trie *t,
                        struct err *e) MUST_CHECK;
struct grammar_masks *grammar_masks_ref(struct grammar_masks *m);
void grammar_masks_close(struct grammar_masks *m);      /* drops a reference; NULL is fine */
const struct token_trie *grammar_masks_trie(const struct grammar_masks *m);
struct grammar          *grammar_masks_grammar(const struct grammar_masks *m);

/* Ors the tokens that may follow a frontier into bits[n_words of the trie]; s is the stack that
 * the frontier's nodes are in (as it was on return). WATT_ENOMEM, WATT_ELIMIT: too ambiguous. */
int  grammar_masks_of(struct grammar_masks *m, struct gss *s, const struct gss_config *at,
                      uint32_t n, uint64_t *bits, struct err *e) MUST_CHECK;

struct mask_stats {
    uint64_t n_hits, n_walks, n_uncached;
    size_t   bytes;
};
void grammar_masks_stats(struct grammar_masks *m, struct mask_stats *st);

#endif
