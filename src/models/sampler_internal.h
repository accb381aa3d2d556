/* sampler_internal.h: shared by the sampler's files. */
#ifndef MODELS_SAMPLER_INTERNAL_H
#define MODELS_SAMPLER_INTERNAL_H

#include "base/rng.h"
#include "models/sampler.h"

/* Candidates: what is left of the vocabulary. While a chain runs, `p` holds the
 * key that the array is ordered by: the logit, or typical's score. */
struct cands {
    struct sampler_token *v;    /* capacity n_vocab */
    size_t n;
    size_t n_sorted;            /* v[0..n_sorted) is ordered, best first, and beats the rest */
    bool   whole;               /* v[i].id == i for all ids */
    bool   impossible;          /* some may be at -inf */
};

/* Orders the best m (or all) by key descending, then id ascending. */
void cands_sort_top(struct cands *c, size_t m);
/* Keeps the best candidates whose share of exp(logit - max) reaches `share`, in the order in which
 * they are, without sorting them. False, and nothing done: they have to be sorted. Keys are logits. */
bool cands_keep_mass(struct cands *c, float max, double share);
/* Orders all by id ascending. */
void cands_sort_ids(struct cands *c);
/* Drops candidates at -inf; may leave none. */
void cands_drop_impossible(struct cands *c);
/* The index of the best logit, lowest id first; n > 0. */
size_t cands_best(const struct cands *c);

/* The last tokens, newest last, for penalties and DRY. */
struct history {
    uint32_t *ring;
    size_t    cap, n, head;     /* head: where the next one goes; n <= cap */
};

/* i tokens before the newest; i < h->n. */
static inline uint32_t history_at(const struct history *h, size_t i)
{
    return h->ring[(h->head + h->cap - 1 - i) % h->cap];
}

struct dry {
    float     multiplier, base;
    size_t    allowed, window;  /* window 0: off */
    size_t    max_exponent;     /* SIZE_MAX: the base can't overflow */
    char    (*breakers)[SAMPLER_BREAKER_MAX];
    uint8_t  *breaker_len;
    size_t    n_breakers;
    char      tail[SAMPLER_BREAKER_MAX];    /* the last bytes of text */
    size_t    tail_len;
    size_t    since_break;      /* tokens after the last breaker; SIZE_MAX: none seen */
    uint32_t *match;            /* [window] lengths of repeats, newest first */
    uint32_t *longest;          /* [n_vocab] longest repeat each token would continue */
};

struct sampler {
    struct sampler_options o;
    struct sampler_spec    spec;
    struct logit_bias     *bias;
    struct cands    c;
    struct history  h;
    uint32_t       *counts;     /* [n_vocab] occurrences within the penalty window */
    size_t          penalty_window;
    struct dry      dry;
    struct rng      rng;
    float           mu;         /* mirostat: the surprise allowed, bits */
};

int  dry_open(struct dry *d, const struct sampler_spec *spec, const struct sampler_options *o,
              struct err *e) MUST_CHECK;
void dry_close(struct dry *d);
void dry_reset(struct dry *d);
void dry_accept(struct dry *d, struct sv piece);
void dry_apply(struct dry *d, const struct history *h, struct cands *c);

/* Stages; each leaves at least one candidate. */
void stage_penalties(struct sampler *s);
void stage_top_k(struct sampler *s);
void stage_typical_p(struct sampler *s);
void stage_top_p(struct sampler *s);
void stage_min_p(struct sampler *s);
void stage_xtc(struct sampler *s);
void stage_temperature(struct sampler *s);
void stage_mirostat(struct sampler *s);

/* A logit that arithmetic may have pushed out of range: NaN to -inf, +inf to
 * the largest finite. */
float logit_clean(float v);
/* v within the finite floats; not for NaN. */
float logit_finite(float v);

#endif
