/* kv_seq.h: the memory of one sequence: the pages of its positions and the slot of its fixed
 * state, whatever kinds of state its model has. Forks, snapshots, restores and truncation are
 * the same calls for keys and values, recurrences, convolutions and mixtures of them.
 *
 * Pages remember every position; fixed state remembers one. So a sequence of a model with fixed
 * state can go back to a position only where somebody marked it: a mark holds the slot as it was
 * there, and costs one slot once the sequence moves on. Without fixed state marks are free and
 * not needed.
 *
 * A snapshot is a sequence that nobody appends to: kv_seq_fork saves it, and forking from it
 * restores, any number of times. A prefix cache that keeps pages by themselves holds
 * `pages[0 .. n_pages)` with kv_page_hold and `slot` with kv_slot_hold instead.
 *
 * Tables are the caller's memory; pages and slots are the pool's. As kv.h: one owner thread,
 * nothing allocates. */
#ifndef INFRASTRUCTURE_KV_SEQ_H
#define INFRASTRUCTURE_KV_SEQ_H

#include <stdbool.h>
#include <stdint.h>

#include "infrastructure/kv.h"

struct kv_mark { uint32_t len, slot; };

struct kv_seq {
    uint32_t *pages;        /* room for every page it may hold; the first n_pages are held */
    uint32_t  n_pages;
    uint32_t  len;          /* positions */
    uint32_t  slot;         /* the state after len positions; KV_NO_SLOT: zeros, or the model has
                             * no fixed state */
    struct kv_mark *marks;  /* [max_marks], the first n_marks are set, len ascending */
    uint32_t  n_marks, max_marks;
};

/* What appending would take from the pool. */
struct kv_need { uint32_t pages, slots; };

/* An empty sequence over the caller's tables. marks NULL: max_marks 0. */
void kv_seq_init(struct kv_seq *q, uint32_t *pages, struct kv_mark *marks, uint32_t max_marks);
/* Gives everything back; the sequence is empty. */
void kv_seq_reset(struct kv *kv, struct kv_seq *q);

struct kv_need kv_seq_need(const struct kv *kv, const struct kv_seq *q, uint32_t n_tokens);
/* Takes the room for n_tokens more and makes what will be written the sequence's own; false
 * when the pool has less than kv_seq_need says, and nothing is changed. The sequence gets longer
 * by kv_seq_advance, which never fails. */
bool kv_seq_reserve(struct kv *kv, struct kv_seq *q, uint32_t n_tokens);
void kv_seq_advance(struct kv_seq *q, uint32_t n_tokens);

/* The longest beginning of at most n positions that the sequence can go back to: n itself
 * without fixed state, else len, a mark or 0. */
uint32_t kv_seq_reach(const struct kv *kv, const struct kv_seq *q, uint32_t n);
/* Keeps the first n positions and the marks among them; false when they are not in reach. Gives
 * back room that was reserved and not used. */
bool kv_seq_truncate(struct kv *kv, struct kv_seq *q, uint32_t n);

/* Lets the sequence come back to where it is. The oldest mark goes when all are taken. Does
 * nothing for models without fixed state, at position 0, or with max_marks 0. */
void kv_seq_mark(struct kv *kv, struct kv_seq *q);

/* Makes `to` the first n positions of `from` and, as far as it has room for them, the latest
 * of its marks there. What `to` held is dropped. Takes nothing from the pool: everything is
 * shared until somebody writes. false when n is not in reach, and nothing is changed. */
bool kv_seq_fork(struct kv *kv, struct kv_seq *to, const struct kv_seq *from, uint32_t n);

#endif
