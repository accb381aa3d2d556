/* matcher.h: one text being written under a grammar: tokens in, masks out.
 *
 * After matcher_open the text is empty. matcher_mask says which tokens may come next,
 * matcher_accept moves on. The last MATCHER_HISTORY tokens can be taken back (speculation).
 * One owner thread; the masks behind it may be shared. */
#ifndef MODELS_GRAMMAR_MATCHER_H
#define MODELS_GRAMMAR_MATCHER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "models/grammar/mask.h"

#define MATCHER_HISTORY 64u

struct matcher;

/* Takes a reference to masks. */
int  matcher_open(struct matcher **out, struct grammar_masks *masks, struct err *e) MUST_CHECK;
void matcher_close(struct matcher *m);                  /* NULL is fine */
int  matcher_clone(struct matcher **out, const struct matcher *m, struct err *e) MUST_CHECK;
void matcher_reset(struct matcher *m);                  /* the empty text again */

size_t matcher_n_words(const struct matcher *m);
const struct token_trie *matcher_trie(const struct matcher *m);
/* Writes the tokens that may come next to bits[matcher_n_words]: token i is bit i % 64 of word
 * i / 64, as the sampler has it. Tokens that end the generation are among them exactly when the text is complete. At
 * least one is set. WATT_ELIMIT, WATT_ENOMEM: the text can't go on; bits is then empty. */
int  matcher_mask(struct matcher *m, uint64_t *bits, struct err *e) MUST_CHECK;
/* May this token come next? The same answer as the mask's bit. */
bool matcher_allows(struct matcher *m, int32_t token);
/* Moves on; an ending token is accepted where the text is complete and changes nothing else.
 * WATT_EINVAL when it is not allowed (nothing changed). */
int  matcher_accept(struct matcher *m, int32_t token, struct err *e) MUST_CHECK;
/* Takes back the last n accepted tokens, n <= matcher_n_history. */
void matcher_rollback(struct matcher *m, uint32_t n);
uint32_t matcher_n_history(const struct matcher *m);
/* Is the text complete? Can it only end? */
bool matcher_complete(const struct matcher *m);
bool matcher_must_end(const struct matcher *m);
/* The bytes that must come next whatever is chosen, at most cap: what can be appended without
 * asking the model. Does not move. */
size_t matcher_forced(struct matcher *m, char *bytes, size_t cap);

#endif
