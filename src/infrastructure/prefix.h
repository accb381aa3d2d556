/* prefix.h: the beginnings of texts whose keys, values and states are still in memory.
 *
 * A tree over the pages of a pool (infrastructure/kv.h): a node is one page of token ids, reached
 * through a hash of its parent and its ids and compared id by id, so that a hit is never a guess.
 * The last page of a text may be partly filled; a text that agrees with its beginning shares it
 * (kv_seq makes a copy of its own before it writes there). Nodes hold their pages, and may hold
 * the slot of fixed state after their last position: a model with fixed state can only go on from
 * such a snapshot, so its texts match up to one.
 *
 * Texts of different spaces (model, adapter, salt) never share. What nobody but the tree holds is
 * given back least recently used first, leaves before their parents, when prefix_make_room asks;
 * with a spill folder it is written there first and read back when a text wants it again
 * (infrastructure/spill.h).
 *
 * One owner thread. Everything but the spill folder's buffers is had at open. */
#ifndef INFRASTRUCTURE_PREFIX_H
#define INFRASTRUCTURE_PREFIX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "infrastructure/kv.h"
#include "infrastructure/kv_seq.h"

struct spill;

/* Who may share: 128 bits that stand for model, adapter and salt. */
struct prefix_space { uint64_t id[2]; };

/* Where a sequence stands in the tree, so that nobody walks there again; zeroed: at the root. It
 * may be out of date and is then found anew. */
struct prefix_at { uint32_t node, gen; };

struct prefix;

/* kv is borrowed. max_nodes 0: as many as it has pages (models without pages: 64 per slot).
 * spill, borrowed, may be NULL. WATT_ENOMEM. */
int  prefix_open(struct prefix **out, struct kv *kv, uint32_t max_nodes, struct spill *spill,
                 struct err *e) MUST_CHECK;
/* What prefix_open takes for a pool of that spec, with max_nodes 0. */
uint64_t prefix_bytes(const struct kv_spec *spec);
/* Gives every page and slot back. NULL is fine. */
void prefix_close(struct prefix *p);

/* Makes the empty sequence q hold the longest known beginning of tokens[0..n_max) and returns its
 * length, which is q->len. With a spill folder this may read pages, as long as the pool has free
 * ones. */
uint32_t prefix_match(struct prefix *p, const struct prefix_space *space, const int32_t *tokens,
                      uint32_t n_max, struct kv_seq *q, struct prefix_at *at);
/* Goes on where q ends: when q's whole text is in the tree and more of tokens[0..n_max) is, q
 * holds that too. Returns q->len. For a text whose neighbour has computed the same meanwhile. */
uint32_t prefix_extend(struct prefix *p, const struct prefix_space *space, const int32_t *tokens,
                       uint32_t n_max, struct kv_seq *q, struct prefix_at *at);
/* How long a match would be, without making it. */
uint32_t prefix_peek(const struct prefix *p, const struct prefix_space *space,
                     const int32_t *tokens, uint32_t n_max);

/* Enters what q holds: full pages of tokens[0..q->len), with `partial` the last page too. A fixed
 * state is entered as a snapshot of position q->len, when that is a page's end or `partial` is
 * set, and of q's marks likewise. Where the tree has the same page already, q is given that one.
 * What has no room is left out. */
void prefix_insert(struct prefix *p, const struct prefix_space *space, const int32_t *tokens,
                   struct kv_seq *q, bool partial, struct prefix_at *at);

/* Gives pages and slots back until so many are free; false when what is left is in use. */
bool prefix_make_room(struct prefix *p, uint32_t n_pages, uint32_t n_slots);
/* Forgets everything that nobody else holds, in the spill folder too. */
void prefix_forget(struct prefix *p);

struct prefix_stats {
    uint32_t n_nodes, n_snapshots;
    uint64_t n_lookups, n_tokens_asked, n_tokens_hit;
    uint64_t n_evicted, n_spilled, n_returned;      /* pages */
};
void prefix_stats(const struct prefix *p, struct prefix_stats *st);

/* Checks the tree from end to end against the pool: our own mistakes are a CHECK. For tests. */
void prefix_verify(const struct prefix *p);

#endif
