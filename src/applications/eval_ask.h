/* eval_ask.h: asks a model many questions at once: one opened here, or one behind an
 * OpenAI-compatible address.
 *
 * Both take the same questions and give the same answers back, in any order, on the thread that
 * calls eval_ask_all. One owner thread. */
#ifndef APPLICATIONS_EVAL_ASK_H
#define APPLICATIONS_EVAL_ASK_H

#include "applications/eval_task.h"
#include "models/service.h"
#include "models/text_model.h"

#define EVAL_MAX_SAMPLES 128u       /* answers to one question */
#define EVAL_MAX_AT_ONCE 256u

struct eval_asker;

struct eval_ask_opts {
    uint32_t max_tokens;        /* of an answer; 0: 512 */
    uint32_t at_once;           /* questions under way; 0: 16 */
    uint64_t seed;              /* of sampling */
    /* Now and then; non-zero stops with WATT_ECANCEL. */
    int    (*poll)(void *ctx);
    void    *ctx;
};

/* A model that stays the caller's. so: threads and the like; its n_ctx, max_seqs are chosen here
 * from n_ctx (0: as trained, at most 4096). */
int  eval_ask_local(struct eval_asker **out, const struct text_model *m, const struct service_opts *so,
                    const struct eval_ask_opts *o, struct err *e) MUST_CHECK;
/* base: "http://host:8080/v1"; model: the name that the server knows; key: NULL, or the token. */
int  eval_ask_url(struct eval_asker **out, const char *base, const char *model, const char *key,
                  const struct eval_ask_opts *o, struct err *e) MUST_CHECK;
void eval_ask_close(struct eval_asker *a);      /* NULL is fine */

/* One question: item's, answered n_samples times at this temperature (0: greedy). An EVAL_CHOICE
 * has its choices weighed instead. */
struct eval_question {
    const struct eval_item *item;
    size_t   index;             /* the caller's */
    uint32_t n_samples;         /* 1..EVAL_MAX_SAMPLES */
    float    temperature;
};

struct eval_result {
    const struct eval_question *question;
    uint32_t sample;
    struct eval_answer answer;
    const double *nats;         /* EVAL_CHOICE: [number of choices] -log p of each; else NULL */
    uint32_t n_tokens;          /* of the answer; 0: not told */
    bool     cut;               /* max_tokens, or the context, ended it */
};
/* result lives during the call. Non-zero stops with that value. */
typedef int eval_result_fn(void *ctx, const struct eval_result *r, struct err *e);

/* Asks all of them. WATT_ENOTSUP: the model can't take such a question (no template; no
 * likelihoods over an address); what a server refuses is WATT_EIO and the like, with its words. */
int  eval_ask_all(struct eval_asker *a, const struct eval_question *q, size_t n, eval_result_fn *fn, void *ctx,
                  struct err *e) MUST_CHECK;

#endif
