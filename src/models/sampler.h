/* sampler.h: from logits to the next token.
 *
 * A chain in the field's usual order, each stage off until its option asks:
 *
 *   mask, logit bias, penalties, dry, top_k, typical_p, top_p, min_p, xtc,
 *   temperature (plain or dynamic), mirostat v2, seeded draw
 *
 * Bias and mask always come first and the draw last; the rest may be reordered.
 * Sources: repetition penalty: Keskar et al., "CTRL" (2019); frequency and
 * presence penalties: the OpenAI API; DRY: p-e-w, text-generation-webui #5677;
 * top-k: Fan et al. (2018); typical: Meister et al. (2022); top-p: Holtzman et al.
 * (2019); min-p: Nguyen et al. (2024); XTC: p-e-w, text-generation-webui #6335;
 * mirostat: Basu et al. (2020). Formulas stand in docs/sampler.md.
 *
 * Same options, seed, history and logits give the same token. Equal logits are
 * ranked by lower id. NaN counts as -inf, +inf as the largest finite float.
 * Nothing allocates after sampler_open. One owner thread. */
#ifndef MODELS_SAMPLER_H
#define MODELS_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define SAMPLER_MAX_VOCAB    (1u << 24)
#define SAMPLER_MAX_BREAKERS 64
#define SAMPLER_BREAKER_MAX  64     /* bytes of one sequence breaker */

enum sampler_stage {
    SAMPLER_PENALTIES, SAMPLER_DRY, SAMPLER_TOP_K, SAMPLER_TYPICAL_P, SAMPLER_TOP_P,
    SAMPLER_MIN_P, SAMPLER_XTC, SAMPLER_TEMPERATURE,
    SAMPLER_STAGES
};

struct logit_bias {
    uint32_t id;
    float    bias;      /* added to the logit; -INFINITY bans the token */
};

/* Defaults are in brackets. */
struct sampler_options {
    uint64_t seed;              /* [0] */
    float    temp;              /* [0.8] 0 or less: greedy, the stages from top_k on are not run */
    float    dynatemp_range;    /* [0] temperature moves within temp ± this, by entropy */
    float    dynatemp_exponent; /* [1] */
    uint32_t top_k;             /* [40] 0: off */
    float    top_p;             /* [0.95] 1: off */
    float    min_p;             /* [0.05] 0: off */
    float    typical_p;         /* [1] 1: off */
    float    xtc_probability;   /* [0] 0: off */
    float    xtc_threshold;     /* [0.1] above 0.5: off */
    float    repeat_penalty;    /* [1] 1: off */
    float    frequency_penalty; /* [0] */
    float    presence_penalty;  /* [0] */
    int32_t  penalty_last_n;    /* [64] tokens looked back at; 0: off, -1: the context */
    float    dry_multiplier;    /* [0] 0: off */
    float    dry_base;          /* [1.75] */
    uint32_t dry_allowed_length;/* [2] repeats shorter than this are free */
    int32_t  dry_last_n;        /* [-1] as penalty_last_n */
    const char *const *dry_breakers;    /* [newline, colon, quote, asterisk] */
    size_t   n_dry_breakers;
    uint32_t mirostat;          /* [0] 2: version 2, in place of top_k … xtc */
    float    mirostat_tau;      /* [5] target surprise, bits */
    float    mirostat_eta;      /* [0.1] learning rate */
    uint32_t min_keep;          /* [1] tokens that typical_p, top_p, min_p and xtc leave at least */
    const struct logit_bias *bias;      /* [none] a repeated id adds up */
    size_t   n_bias;
    enum sampler_stage order[SAMPLER_STAGES];   /* [as the enum] no stage twice */
    size_t   n_order;           /* stages left out are not run */
};

void sampler_defaults(struct sampler_options *o);
/* "penalties;top_k;temperature", separated by ; or , into o->order. Names are
 * those of sampler_stage_name, typ_p and temp are understood too. */
int  sampler_order_parse(struct sampler_options *o, const char *names, struct err *e) MUST_CHECK;
const char *sampler_stage_name(enum sampler_stage stage);

struct sampler_spec {
    uint32_t n_vocab;       /* 1..SAMPLER_MAX_VOCAB */
    uint32_t n_ctx;         /* what -1 in penalty_last_n and dry_last_n means */
    /* The text of a token, for DRY's sequence breakers; NULL: none break. */
    struct sv (*piece)(void *ctx, uint32_t id);
    void    *piece_ctx;
};

struct sampler;

/* Copies everything it needs of o and spec. WATT_EINVAL names the option. */
int  sampler_open(struct sampler **out, const struct sampler_spec *spec,
                  const struct sampler_options *o, struct err *e) MUST_CHECK;
/* The memory that it takes, to the byte but for what the allocator adds; options as they would be taken. */
uint64_t sampler_bytes(const struct sampler_spec *spec, const struct sampler_options *o);
void sampler_close(struct sampler *s);      /* NULL is fine */
/* Forgets history and mirostat's state and seeds again. */
void sampler_reset(struct sampler *s);
/* Forgets the history only: another text is about to be entered. */
void sampler_forget(struct sampler *s);

/* The next token of logits[0..n_vocab): sampler_apply and a draw. Does not
 * enter it into the history. mask: NULL, or one bit per token, 1 = allowed
 * (bit id % 64 of word id / 64), as a grammar fills it.
 * WATT_EINVAL: no token is left (all masked, or no finite logit). */
int  sampler_sample(struct sampler *s, const float *logits, const uint64_t *mask,
                    uint32_t *id, struct err *e) MUST_CHECK;
/* Enters a token of the prompt or of the answer into the history that penalties
 * and DRY look at. Ids outside the vocabulary are ignored. */
void sampler_accept(struct sampler *s, uint32_t id);

/* A token still in the running, with its probability after the whole chain. */
struct sampler_token {
    uint32_t id;
    float    logit, p;
};

/* Runs the chain without drawing; sampler_tokens is then what is left, ids
 * ascending, until the next call on s. XTC draws its coin from the seed. */
int  sampler_apply(struct sampler *s, const float *logits, const uint64_t *mask,
                   struct err *e) MUST_CHECK;
const struct sampler_token *sampler_tokens(const struct sampler *s, size_t *n);

struct token_logprob {
    uint32_t id;
    float    logprob;       /* natural logarithm */
};

/* The n most probable tokens of the raw distribution softmax(logits), best
 * first (fewer when the vocabulary is smaller or logits are -inf); returns how
 * many. Uses s's scratch memory, not its options. */
size_t sampler_top_logprobs(struct sampler *s, const float *logits, size_t n,
                            struct token_logprob *out);
/* The raw log probability of one token; -INFINITY where the logit is NaN or -inf. */
float  sampler_logprob(const float *logits, uint32_t n_vocab, uint32_t id);
/* Its place among all tokens by logit, equal ones by id; 1 is the most probable. */
uint32_t sampler_rank(const float *logits, uint32_t n_vocab, uint32_t id);

#endif
