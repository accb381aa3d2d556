/* tokenize_train.h: `watt tokenize OUT.gguf --train FILE …`: a vocabulary made from text. */
#ifndef APPLICATIONS_TOKENIZE_TRAIN_H
#define APPLICATIONS_TOKENIZE_TRAIN_H

#include "applications/cli.h"

struct tokenize_train_opts {
    struct cli_list files, controls, added;
    const char     *pre, *bos, *eos, *chat_template;
    int64_t         vocab, min_count, threads;
};

#define TOKENIZE_TRAIN_VOCAB 32000

/* Writes c->args[0]; returns an enum cli_exit. */
int tokenize_train(const struct cli *c, const struct tokenize_train_opts *o);

#endif
