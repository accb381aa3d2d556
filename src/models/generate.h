/* generate.h: the loop from a prompt to an answer over one sequence of a session.
 *
 * A generator holds the sequence's place: the token drawn last is not yet in the
 * session (nothing needs its logits until more follows), so it waits here and
 * goes in front of what comes next. One owner thread; generator_run allocates
 * for text only, never inside a step. */
#ifndef MODELS_GENERATE_H
#define MODELS_GENERATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "models/diffusion.h"
#include "models/sampler.h"
#include "models/session.h"
#include "models/tokenizer.h"

struct generator;

enum generate_reason {
    GENERATE_END,           /* the model ended its answer */
    GENERATE_STOP,          /* a stop string came */
    GENERATE_LENGTH,        /* n_max */
    GENERATE_CONTEXT,       /* the context is full */
    GENERATE_CANCELLED      /* on_token or cancelled asked */
};

/* One step of an answer. */
struct generated {
    int32_t      id;        /* -1: text that had been held back, at the end */
    struct sv    text;      /* whole UTF-8 characters; often empty; valid during the call */
    const float *logits;    /* [width] that id was drawn from; NULL for id -1 and in blocks */
};

struct generate_opts {
    uint32_t n_max;                 /* tokens; 0: until the context is full */
    const char *const *stops;       /* see models/stops.h for the limits */
    size_t   n_stops;
    bool     ignore_end;            /* go on after the model's end token */
    bool     special;               /* control tokens are shown as spelled */
    bool     continues;             /* the answer goes on a text: its leading space stays */
    /* Both may be NULL. Not 0 or true ends the answer. `cancelled` is asked between
     * steps, also while the prompt is run. */
    int    (*on_token)(void *ctx, const struct generated *g);
    bool   (*cancelled)(void *ctx);
    void   (*on_prefill)(void *ctx, uint32_t done, uint32_t total);   /* tokens; may be NULL */
    void    *ctx;
};

struct generate_result {
    enum generate_reason reason;
    uint32_t n_prompt, n_generated; /* tokens; the end token is not counted */
    uint64_t prefill_ns;            /* running the prompt */
    uint64_t first_token_ns;        /* from the call to the first token; 0: none came */
    uint64_t decode_ns;             /* from the first token to the last; of blocks: all steps */
    uint32_t n_steps;               /* of a diffusion language model; else 0 */
};

/* Borrows session, model and tokenizer (NULL: no text). WATT_ENOTSUP when the model gives no
 * logits (encoders), WATT_ENOMEM.
 *
 * Diffusion language models (models/diffusion.h) answer in blocks, by the same calls: tokens that
 * are appended wait until an answer is asked for and are run anew for each, on_token is called for
 * the tokens of a block when it is done, and there are no logits to look at. */
int  generator_open(struct generator **out, struct session *s, uint32_t seq,
                    const struct model *m, const struct tokenizer *tok, struct err *e) MUST_CHECK;
void generator_close(struct generator *g);      /* NULL is fine */
/* Tokens so far, the waiting one included. */
uint32_t generator_len(const struct generator *g);
void generator_reset(struct generator *g);
/* The longest beginning of at most n tokens that generator_truncate can keep. */
uint32_t generator_reach(const struct generator *g, uint32_t n);
/* Keeps the first n tokens; as session_truncate. The end of every appended prompt is marked. */
int  generator_truncate(struct generator *g, uint32_t n, struct err *e) MUST_CHECK;
/* Appends tokens; logits of the last one in generator_logits. WATT_ELIMIT when
 * they don't fit (nothing was appended); WATT_ECANCEL: between chunks `cancelled`
 * said so. cancelled and on_prefill as above, or opts NULL. */
int  generator_append(struct generator *g, const int32_t *ids, size_t n,
                      const struct generate_opts *opts, struct err *e) MUST_CHECK;
/* How a diffusion language model makes its blocks. WATT_ENOTSUP of others; on failure the old
 * options stay. */
int  generator_diffusion(struct generator *g, const struct diffusion_opts *opts,
                         struct err *e) MUST_CHECK;
/* NULL for diffusion language models. */
const float *generator_logits(const struct generator *g);
uint32_t generator_width(const struct generator *g);    /* floats of logits */

/* Appends the prompt (n > 0, or n = 0 to go on after a waiting token) and
 * generates. Prompt and answer are accepted by the sampler. Being cancelled is a
 * result, not an error. On an error the tokens appended so far stay. */
int  generator_run(struct generator *g, struct sampler *sampler, const int32_t *prompt, size_t n,
                   const struct generate_opts *opts, struct generate_result *result,
                   struct err *e) MUST_CHECK;

const char *generate_reason_name(enum generate_reason reason);  /* "end", "stop", … */

/* The sampler's view of a vocabulary: sampler_spec.piece; ctx is the tokenizer. */
struct sv generate_piece(void *tokenizer, uint32_t id);

#endif
