/* denoiser.h: which tokens of a block of masks are fixed, given a row of logits for each: the part
 * of diffusion (diffusion.h) that knows nothing of sessions or batches.
 *
 * One owner at a time. Stepping allocates nothing. */
#ifndef MODELS_DENOISER_H
#define MODELS_DENOISER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "models/diffusion.h"
#include "models/sampler.h"

struct denoiser;

/* o with its defaults filled in (diffusion_fill). WATT_ENOMEM. */
int  denoiser_open(struct denoiser **out, const struct diffusion_opts *o, uint32_t n_vocab,
                   int32_t mask, struct err *e) MUST_CHECK;
void denoiser_close(struct denoiser *d);        /* NULL is fine */
size_t denoiser_bytes(uint32_t n_block);        /* what one takes */
/* Another answer; seed: of the random order. */
void denoiser_reset(struct denoiser *d, uint64_t seed);

struct denoise_step {
    int32_t *block;             /* [n_block] mask ids where nothing is fixed yet */
    uint32_t n_block;           /* at most the block that it was opened for */
    uint32_t first_at;          /* position of its first token, for messages */
    uint32_t step;              /* of this block, from 0 */
    const float *rows;          /* [n_block][n_vocab]; packed: only of those that are masks */
    bool     packed;
    struct sampler *sampler;    /* draws each token; NULL: the most probable one */
    const uint64_t *allowed;    /* bits of the tokens that may come; without the mask's */
    const uint64_t *early;      /* those of the first n_early tokens; NULL: as the others */
    uint32_t n_early;
};

/* Fixes the tokens that the model is surest of. Returns how many masks are left, or WATT_EFORMAT
 * when logits are no numbers, or what the sampler says. n_fixed may be NULL. */
int  denoiser_step(struct denoiser *d, const struct denoise_step *s, uint32_t *n_fixed,
                   struct err *e) MUST_CHECK;

#endif
