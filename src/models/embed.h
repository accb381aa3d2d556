/* embed.h: texts to vectors, and documents scored against a query.
 *
 * An embedder is a model opened for its embeddings instead of its logits: an encoder, or any
 * decoder, whose last token then stands for the text. Texts go several to a step; their
 * vectors are the same bits alone and in company. Encoders see a whole text at once, so a text
 * must fit one step: max_tokens, which bounds the work space too.
 *
 * One owner thread. Running allocates for text only, never inside a step. */
#ifndef MODELS_EMBED_H
#define MODELS_EMBED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "models/model.h"
#include "models/session.h"
#include "models/tokenizer.h"

#define EMBED_MAX_TOKENS 8192u  /* default bound of max_tokens */

struct embedder;

struct embedder_opts {          /* zero means the default everywhere */
    enum pooling pooling;       /* default: as the file says. POOLING_RANK for embedder_rank */
    bool     raw;               /* vectors as the model gives them, not of length 1 */
    bool     truncate;          /* longer texts lose their end; default: they are WATT_ELIMIT */
    uint32_t max_tokens;        /* of one text; default: as trained, at most EMBED_MAX_TOKENS */
    uint32_t n_texts;           /* most texts of one step; default 16 */
    uint32_t n_dims;            /* keep the first so many numbers (Matryoshka models, arXiv
                                 * 2205.13147); default: all */
    struct model_opts model;    /* embed, pooling and n_ctx are set here */
    struct session_opts session;/* executor, threads, instruction set, progress; the rest is set
                                 * here */
};

/* WATT_ENOTSUP: rank pooling of a model without a classification head, or no vocabulary. */
int  embedder_open(struct embedder **out, const char *path, const struct embedder_opts *opts,
                   struct err *e) MUST_CHECK;
void embedder_close(struct embedder *x);    /* NULL is fine */

const struct model *embedder_model(const struct embedder *x);
const struct tokenizer *embedder_tokenizer(const struct embedder *x);
uint32_t embedder_width(const struct embedder *x);      /* numbers per row of a result */
uint32_t embedder_max_tokens(const struct embedder *x);
enum pooling embedder_pooling(const struct embedder *x);    /* never POOLING_FILE */

/* One text, or ids that are taken as they are (text ignored when ids is not NULL). */
struct embed_input {
    struct sv      text;
    const int32_t *ids;
    uint32_t       n_ids;
};

/* One text's result, valid during the call. */
struct embedded {
    size_t       index;         /* of the input; in order */
    const float *rows;          /* [n_rows][embedder_width], each of length 1 unless raw */
    uint32_t     n_rows;        /* 1, or n_tokens without pooling */
    uint32_t     n_tokens;      /* of the text, special ones included */
};

/* Calls each() for every input; other than 0 stops with WATT_ECANCEL. WATT_ELIMIT names the
 * input that is too long, WATT_EINVAL an empty one or an id outside the vocabulary. What was
 * handed out before an error stands. */
int  embedder_run(struct embedder *x, const struct embed_input *in, size_t n,
                  int (*each)(void *ctx, const struct embedded *r), void *ctx,
                  struct err *e) MUST_CHECK;

/* scores: [n] how well each document answers the query, higher is better: the first output of
 * the classification head as it is (a logit for most models). n_tokens: of all pairs, may be
 * NULL. The embedder must pool by rank: WATT_EINVAL otherwise. With truncate documents lose
 * their end, never the query. */
int  embedder_rank(struct embedder *x, struct sv query, const struct sv *docs, size_t n,
                   float *scores, uint64_t *n_tokens, struct err *e) MUST_CHECK;

/* "mean", "cls", …; NULL-ended lists are made from these. */
const char *pooling_name(enum pooling p);

#endif
