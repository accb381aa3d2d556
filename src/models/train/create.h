/* create.h: a model to be trained from scratch: a GGUF file of a shape with weights as training
 * wants them at first.
 *
 * Matrices are normal with deviation 0.55 / sqrt(n_embd), which is 0.02 at a width of 768 (Radford
 * et al. 2019); those that add to the residual stream the same over sqrt(2 n_layers); embeddings
 * 0.02; gains 1; biases 0. State spaces as in Mamba-2 (Dao and Gu 2024, arXiv 2405.21060): decays
 * uniform in -16..-1, steps log-uniform in 0.001..0.1, convolutions uniform within 1 / sqrt(taps).
 * The same shape and seed give the same file everywhere up to the last bits of libm. */
#ifndef MODELS_TRAIN_CREATE_H
#define MODELS_TRAIN_CREATE_H

#include <stdint.h>

#include "base/err.h"
#include "models/gguf.h"
#include "models/shape.h"
#include "models/train/vocab.h"

struct create_opts {
    struct shape shape;                 /* n_vocab is set from the vocabulary below */
    uint64_t     seed;
    const struct gguf *tokenizer;       /* its vocabulary and chat template, or */
    const struct char_vocab *chars;     /* finished; or both NULL: ids only */
    uint32_t     n_chars;               /* what char_vocab_finish said */
    const char  *chat_template;         /* in place of the tokenizer's; NULL: that */
};

/* F32; the file appears when complete. WATT_EINVAL, WATT_ELIMIT shape; WATT_EFORMAT the
 * tokenizer's keys. */
int create_model(const char *path, const struct create_opts *o, struct err *e) MUST_CHECK;

#endif
