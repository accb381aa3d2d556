/* dataset.h: batches of token sequences from a mixture of shards, in a seeded order that can be
 * taken up again at any batch.
 *
 * Two ways of cutting:
 *   windows     a shard is one long text; a sequence is ctx + 1 neighbouring tokens, documents'
 *               borders and all. Windows of an epoch don't overlap but in one token, and begin at
 *               another offset in each epoch
 *   documents   a sequence is one document, or a piece of at most ctx + 1 tokens of a long one.
 *               Sequences are put side by side until a batch is full, each from position 0 and
 *               blind to the others: packing without padding, and without crossing documents
 *
 * An epoch's order is a permutation of its sequences, computed for one index at a time (a Feistel
 * network; Luby and Rackoff 1988), so that nothing grows with the data and a position is three
 * numbers. Which shard of a mixture the n-th sequence comes from depends on the seed and n alone:
 * shards are drawn with probabilities in proportion to their weights. Weights of 0 in all: in
 * proportion to their tokens.
 *
 * The last `held` share of every shard can be kept apart for validation. One owner thread. */
#ifndef MODELS_TRAIN_DATASET_H
#define MODELS_TRAIN_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "models/train/shard.h"

#define DATASET_MAX_SOURCES 256u

enum dataset_part {
    DATASET_ALL,
    DATASET_TRAIN,      /* all but the last `held` of each shard */
    DATASET_HELD        /* those */
};

struct dataset_source {
    struct shard *shard;        /* borrowed */
    double        weight;       /* >= 0 */
};

struct dataset_opts {
    uint32_t ctx;               /* rows of the longest sequence, > 0 */
    uint32_t max_rows;          /* of a batch, >= ctx */
    uint32_t max_streams;       /* sequences of a batch, > 0 */
    bool     documents;         /* cut by documents, not windows */
    bool     in_order;          /* no permutation, shards one after the other: for validation */
    enum dataset_part part;
    double   held;              /* 0 <= held < 1 */
    uint64_t seed;
};

/* A batch: rows of its sequences one after the other. */
struct dataset_batch {
    uint32_t  n_rows, n_streams;
    uint32_t *stream_rows;      /* [n_streams] */
    int32_t  *token, *target;   /* [n_rows] */
    float    *weight;           /* [n_rows] 1 where the target is to be learned, else 0 */
    uint64_t  n_targets;        /* rows of weight 1 */
};

struct dataset_place {          /* of one shard */
    uint64_t epoch, index;      /* sequences (or documents) of this epoch already given */
    uint64_t piece;             /* of the document at index */
};

/* All that a position is: what it takes to go on with the next batch. */
struct dataset_state {
    uint64_t n_drawn;           /* sequences given in all */
    struct dataset_place place[DATASET_MAX_SOURCES];
};

struct dataset;

/* WATT_EINVAL: no source, options out of range, a part too small for one sequence (the message
 * names the shard and the numbers). Shards must outlive the dataset. */
int  dataset_open(struct dataset **out, const struct dataset_source *sources, size_t n,
                  const struct dataset_opts *o, struct err *e) MUST_CHECK;
void dataset_close(struct dataset *d);      /* NULL is fine */

/* The next batch, never empty. in_order: WATT_ENOENT after the last one. On failure the position
 * stays. b is the dataset's until the next call. */
int  dataset_next(struct dataset *d, const struct dataset_batch **b, struct err *e) MUST_CHECK;
void dataset_rewind(struct dataset *d);
void dataset_state(const struct dataset *d, struct dataset_state *s);
/* WATT_EINVAL: not a position of these shards. */
int  dataset_seek(struct dataset *d, const struct dataset_state *s, struct err *e) MUST_CHECK;

uint64_t dataset_n_tokens(const struct dataset *d);     /* of its part of all shards */
/* Passes over the data, as the average of all tokens. */
double   dataset_epochs(const struct dataset *d);

#endif
