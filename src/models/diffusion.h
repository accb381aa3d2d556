/* diffusion.h: answers of diffusion language models, a block of tokens at a time.
 *
 * A block begins as mask tokens. Each step runs the model over it, takes a token for every mask,
 * and fixes those it is surest of, until no mask is left (LLaDA: arXiv 2502.09992, with blocks one
 * after the other; Dream: arXiv 2508.15487, whose logits are of the next position). With a
 * threshold every token that is sure enough is fixed at once (Fast-dLLM: arXiv 2505.22618).
 *
 * What a step can see, and what is kept between steps, is the cache's kind:
 *
 *   BLOCK   the prompt and finished blocks see what is in front of them and themselves, and their
 *           keys and values are computed once; a step runs the block alone. The length of an answer
 *           need not be known. The default.
 *   PREFIX  the whole answer is there from the start as masks; keys and values of what is in front
 *           of the block are those of the block's first step, and later steps run the block and
 *           what follows (Fast-dLLM's prefix cache).
 *   NONE    every step runs everything, as the models' own samplers do.
 *
 * This is for one answer at a time, over a session; a service makes many together, block by block
 * with the cache kind BLOCK and the same bits (service.h). Which tokens of a block are fixed is
 * denoiser.h in both.
 *
 * One owner thread. Stepping allocates nothing. The sequence of the session is this module's own
 * while it is at work. */
#ifndef MODELS_DIFFUSION_H
#define MODELS_DIFFUSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "models/sampler.h"
#include "models/session.h"
#include "models/tokenizer.h"

#define DIFFUSION_BLOCK 32u         /* default length of a block */

/* By what "sure" is measured, of the model's own distribution. */
enum diffusion_algorithm {
    DIFFUSION_CONFIDENCE,   /* the probability of the token taken ("low confidence" is remasked) */
    DIFFUSION_ENTROPY,      /* negative entropy */
    DIFFUSION_MARGIN,       /* how far the first token is ahead of the second */
    DIFFUSION_RANDOM        /* any order */
};
#define DIFFUSION_ALGORITHMS "confidence|entropy|margin|random"

enum diffusion_cache { DIFFUSION_CACHE_BLOCK, DIFFUSION_CACHE_PREFIX, DIFFUSION_CACHE_NONE };
#define DIFFUSION_CACHES "block|prefix|none"

struct diffusion_opts {         /* zero means the default everywhere */
    uint32_t block;             /* tokens; default DIFFUSION_BLOCK */
    uint32_t steps;             /* of a block; default: its length, so one token a step */
    float    threshold;         /* above 0: fix every token with at least this probability, and the
                                 * surest one in any case; steps are not counted then */
    enum diffusion_algorithm algorithm;
    enum diffusion_cache cache;
    uint64_t seed;              /* of the random order */
};

struct diffusion;

struct diffusion_facts {        /* of a model */
    int32_t mask;               /* the token that blocks begin as */
    bool    shift;              /* a row's logits are of the next position */
};
/* WATT_ENOTSUP: another kind of model, or none of the mask token that the vocabulary should have. */
int  diffusion_read(const struct model *m, const struct tokenizer *tok, struct diffusion_facts *f,
                    struct err *e) MUST_CHECK;
void diffusion_fill(struct diffusion_opts *o);      /* defaults of block and steps */
int  diffusion_check(const struct diffusion_opts *o, struct err *e) MUST_CHECK;     /* WATT_EINVAL */

/* Can this model's answers be made here: logits, and attention both ways. */
bool diffusion_fits(const struct model *m);

/* Borrows session, model and tokenizer. WATT_ENOTSUP: another kind of model, or none of the mask
 * token that the vocabulary should have; WATT_ELIMIT: a block larger than the session's max_out. */
int  diffusion_open(struct diffusion **out, struct session *s, uint32_t seq, const struct model *m,
                    const struct tokenizer *tok, const struct diffusion_opts *opts,
                    struct err *e) MUST_CHECK;
void diffusion_close(struct diffusion *d);      /* NULL is fine */

/* An answer of at most n_max tokens (0: what the context holds; PREFIX and NONE run all of it in
 * every step) to n > 0 ids. sampler: draws each token; NULL: the most probable one. WATT_ELIMIT
 * when prompt and one block don't fit the context. */
int  diffusion_start(struct diffusion *d, const int32_t *ids, size_t n, uint32_t n_max,
                     struct sampler *sampler, struct err *e) MUST_CHECK;

struct diffusion_step {
    const int32_t *block;       /* [n_block] mask ids where nothing is fixed yet */
    uint32_t       n_block;
    uint32_t       n_fixed;     /* tokens that this step fixed */
    bool           block_done;  /* no mask is left */
    bool           done;        /* and no block follows */
};

/* One run of the model. After `done` there is nothing to step: WATT_EINVAL. */
int  diffusion_step(struct diffusion *d, struct diffusion_step *r, struct err *e) MUST_CHECK;

int32_t  diffusion_mask(const struct diffusion *d);     /* the mask's id */
uint64_t diffusion_n_steps(const struct diffusion *d);  /* since diffusion_start */

#endif
