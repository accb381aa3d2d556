/* eval_tally.h: counts verdicts by task, and prints them: a table, one JSON object, or CSV. */
#ifndef APPLICATIONS_EVAL_TALLY_H
#define APPLICATIONS_EVAL_TALLY_H

#include "applications/eval_ask.h"

struct eval_tally;

struct eval_tally_head {        /* what the report names */
    const char *model, *source; /* source: NULL, or the address */
    uint32_t    n_samples;      /* drawn per item beside the greedy answer; 0: greedy alone */
    double      temperature;
    uint64_t    seed;
    double      seconds;
};

/* items must outlive it. */
int  eval_tally_open(struct eval_tally **out, const struct eval_items *items, uint32_t n_samples,
                     struct err *e) MUST_CHECK;
void eval_tally_close(struct eval_tally *t);    /* NULL is fine */

/* item's answer: greedy, or the n-th sample. */
void eval_tally_answer(struct eval_tally *t, size_t item, bool greedy, uint32_t sample,
                       const struct eval_verdict *v, uint32_t n_tokens, bool cut);
/* Likelihoods of an item's choices. The least counts, and apart from that the least per byte. */
void eval_tally_choice(struct eval_tally *t, size_t item, const double *nats);

enum eval_format { EVAL_TABLE, EVAL_JSON, EVAL_CSV };
void eval_tally_print(const struct eval_tally *t, const struct eval_tally_head *h, enum eval_format f);

#endif
