/* eval_ask_internal.h: what a way of asking is. Private to eval_ask*.c. */
#ifndef APPLICATIONS_EVAL_ASK_INTERNAL_H
#define APPLICATIONS_EVAL_ASK_INTERNAL_H

#include "applications/eval_ask.h"

struct eval_asker {
    struct eval_ask_opts o;
    int  (*ask)(struct eval_asker *a, const struct eval_question *q, size_t n, eval_result_fn *fn, void *ctx,
                struct err *e);
    void (*close)(struct eval_asker *a);
};

void eval_ask_defaults(struct eval_ask_opts *o);

#endif
