/* perplexity.h: how well a model predicts a text: the sum of -log p of its tokens.
 *
 * The text is cut into windows of at most `ctx` tokens that start every `stride` tokens, each run
 * from an empty state (after `bos`, where there is one). A token counts once: in the first window
 * that has it with a token in front. So with stride = ctx no token sees across a cut, and with a
 * smaller stride every counted token but the first window's has at least ctx - stride tokens of
 * context. With ctx >= n there is one window: the usual way for models whose state does not grow.
 *
 * Neighbouring tokens are not independent: the spread is taken between means of blocks of
 * PERPLEXITY_BLOCK counted tokens. Logarithms are natural, sums in double and in the order of the
 * text. One owner thread: the session's. */
#ifndef MODELS_PERPLEXITY_H
#define MODELS_PERPLEXITY_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "models/session.h"

#define PERPLEXITY_BLOCK 256u

struct perplexity_opts {
    uint32_t ctx, stride;       /* 1 <= stride <= ctx; ctx >= 2 and at most the session's n_ctx */
    int32_t  bos;               /* in front of every window; -1: nothing */
    /* Now and then; non-zero stops with WATT_ECANCEL. NULL: not called. */
    int    (*progress)(void *ctx, uint64_t done, uint64_t total);
    void    *progress_ctx;
};

struct perplexity {
    uint64_t n_scored;          /* tokens that counted */
    uint64_t n_run;             /* tokens that went through the model */
    uint32_t n_windows;
    double   nats;              /* sum of -log p */
    double   mean;              /* nats / n_scored */
    double   stderr_mean;       /* of mean; negative: fewer than two blocks */
    uint64_t first;             /* index of the first token that counted */
};

/* Runs ids[0..n), n >= 2, through sequence 0 of s, which is empty afterwards. */
int perplexity_measure(struct perplexity *out, struct session *s, const int32_t *ids, size_t n,
                       const struct perplexity_opts *o, struct err *e) MUST_CHECK;

#endif
