/* eval_tasks.h: `watt eval --tasks` and `--needle`: questions with checkable answers, counted with
 * confidence intervals. */
#ifndef APPLICATIONS_EVAL_TASKS_H
#define APPLICATIONS_EVAL_TASKS_H

#include "applications/model_args.h"

struct eval_tasks_opts {
    struct cli_list tasks;      /* files */
    struct cli_list needles;    /* lengths of haystacks, tokens */
    const char *text;           /* what the hay is made of */
    const char *url, *key_file, *answers, *template_file, *isa;
    const struct machine_args *machine;
    int64_t     samples, max_tokens, parallel, limit, seed, ctx;
    double      temperature;
    int         exec, kv;
    bool        json, csv;
};

/* The model is c->args[0]: a file, or with url the name there. Returns an enum cli_exit. */
int eval_tasks(const struct cli *c, const struct eval_tasks_opts *o);

#endif
