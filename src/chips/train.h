/* train.h: the executor that trains: a program forward, its loss, and the gradient of every
 * parameter.
 *
 * The forward pass is the CPU executor's own (chips/cpu/exec.h): the same instructions, packed
 * weights, kernels and order of additions that serve. The backward pass is derived from the
 * program by passes/reverse.c.
 *
 * Parameters. Every weight of the program has an F32 master here, and a gradient when it trains.
 * A weight used twice (embeddings tied to the output) is one parameter, its gradients are summed.
 * What the forward pass reads is in the parameter's `serve` type: F32, or with BF16 compute BF16
 * for matrices and tables; it is made anew by train_refresh() from the masters. A file that holds
 * the masters rounded to their `serve` types (to nearest even) gives in the CPU executor, with
 * the same type of cache, the bits that train_logits() gives. Weights that don't train stay in
 * the file's own type and have no master: a quantised model serves as the base of adapters.
 *
 * Determinism. Loss and gradients depend on the batch, the parameters, the options and the
 * instruction set alone: every sum has a fixed order, so 1, 2 or 3 threads give the same bits, and
 * so do two runs. Dropout masks depend on (opts.seed, batch.seed, instruction, row, column). Sums
 * over rows are cut by the number of rows in the batch: a batch cut in two micro-batches gives the
 * same loss up to rounding, not the same bits. Streams in a batch don't see each other: a row's
 * logits are the same bits whatever streams lie beside it, dropout off.
 *
 * One owner thread. Nothing allocates in a step. */
#ifndef CHIPS_TRAIN_H
#define CHIPS_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/team.h"
#include "chips/cpu/features.h"
#include "chips/exec.h"
#include "chips/program.h"

struct train;

struct train_opts {
    struct team *team;          /* borrowed; must outlive the trainer */
    uint32_t     isa_mask;      /* CPU_ALL: all the machine has */
    enum dtype   compute;       /* of products: DTYPE_F32 or DTYPE_BF16 */
    enum dtype   kv;            /* what attention reads keys and values in: DTYPE_F32, F16 or BF16;
                                 * gradients pass the rounding unchanged */
    uint32_t     max_rows;      /* token rows of one call; > 0 */
    uint32_t     max_streams;   /* sequences of one call; > 0 */
    uint32_t     max_out;       /* rows with a target in one call; 0: max_rows */
    float        dropout;       /* 0 <= p < 1: of embeddings and of what is added to the residual
                                 * stream; survivors are scaled by 1 / (1 - p) */
    float        attn_dropout;  /* likewise, of the weights of attention */
    uint64_t     seed;
    bool         recompute;     /* keep only what layers hand on; run each layer forward again
                                 * before its backward: less memory, a third more work, same bits */
    float        balance;       /* coefficient of the load-balance loss of routed experts, 0: none
                                 * (Fedus et al. 2021, arXiv 2101.03961, eq. 4-6: per layer
                                 * n_experts * sum of fraction routed * mean probability) */
    /* Which weights train; NULL: all. Called at open. */
    bool       (*trains)(void *ctx, const struct prog_weight *w);
    void        *ctx;
};

enum train_kind {
    TRAIN_MATRIX,               /* of products, [mats][rows][cols] */
    TRAIN_EMBEDDING,            /* gathered by index (also when tied to the output) */
    TRAIN_VECTOR                /* gains, biases, convolutions, decays, a cell's inner matrix */
};

struct train_param {
    const char *name;           /* as in the program */
    enum train_kind kind;
    struct tensor shape;        /* the file's dims and type; data is the file's */
    enum dtype  serve;          /* what an exported file must hold to serve the same bits */
    bool        trains;
    uint32_t    mats, rows, cols;   /* experts; 1 where there is one matrix. A vector: 1, 1, n */
    uint64_t    n;              /* mats * rows * cols */
    float      *w;              /* [n] the master; NULL when it doesn't train */
    float      *g;              /* [n] the gradient; NULL likewise */
};

/* One call's rows: sequences one after the other, each from position 0. */
struct train_batch {
    uint32_t        n_rows, n_streams;
    const uint32_t *stream_rows;/* [n_streams], all > 0, their sum is n_rows */
    const int32_t  *token;      /* [n_rows] */
    const int32_t  *target;     /* [n_rows] the token to be predicted at the row; < 0: none */
    const float    *weight;     /* [n_rows] of each row's loss, or NULL: all 1. 0: as no target */
    uint64_t        seed;       /* of dropout: number the calls of a run */
};

struct train_loss {
    double   sum;               /* of weight * -log p(target), natural logarithm; rows ascending */
    double   weight;            /* sum of the weights */
    double   balance;           /* load-balance loss, coefficient applied; 0 without */
    uint64_t n_targets;         /* rows counted */
    uint64_t n_right;           /* of them, rows whose target has the largest logit */
};

struct train_memory {           /* bytes */
    uint64_t masters, gradients, prepared, values, scratch;
};

/* The program must be finished and outlive the trainer, and so must its tensors' data. On failure
 * *out is untouched: WATT_ENOTSUP names an instruction that has no backward, WATT_EINVAL,
 * WATT_ENOMEM. Masters are read from the program's tensors; gradients are zero. */
int  train_open(struct train **out, const struct program *p, const struct train_opts *o,
                struct err *e) MUST_CHECK;
void train_close(struct train *t);              /* NULL is fine */

/* Memory that train_open() would take with these options; opts.team may be NULL. */
int  train_plan(const struct program *p, const struct train_opts *o, unsigned n_threads,
                struct train_memory *m, struct err *e) MUST_CHECK;
void train_memory(const struct train *t, struct train_memory *m);

/* One per weight that the program reads, in the program's order, trained or not. */
uint32_t train_n_params(const struct train *t);
const struct train_param *train_param(const struct train *t, uint32_t i);

/* Adds to every gradient the gradient of scale * (sum of weight * -log p) + balance loss (which
 * takes scale * sum of weights as its factor). out: of this batch. A batch that breaks the limits
 * or names a token outside the table is WATT_EINVAL and changes nothing. */
int  train_forward_backward(struct train *t, const struct train_batch *b, float scale,
                            struct train_loss *out, struct err *e) MUST_CHECK;
/* Forward alone, without dropout. */
int  train_evaluate(struct train *t, const struct train_batch *b, struct train_loss *out,
                    struct err *e) MUST_CHECK;
/* Logits of the rows whose target is not negative (weights ignored), without dropout:
 * out[number of such rows][width of the program's result]. */
int  train_logits(struct train *t, const struct train_batch *b, float *out, struct err *e)
     MUST_CHECK;

/* After masters changed: makes what the forward pass reads anew, by the whole team. */
void train_refresh(struct train *t);
/* Sets all gradients to zero, by the whole team. */
void train_zero(struct train *t);

/* Operations (a multiplication and its addition counted apart) of one train_forward_backward of
 * n_rows rows in n_streams equal streams, n_out of them with a target; products and attention
 * scores count forward once and backward twice, work done again does not count. */
double train_ops(const struct train *t, uint32_t n_rows, uint32_t n_streams, uint32_t n_out);

#endif
