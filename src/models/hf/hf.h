/* hf.h: a Hugging Face model folder, opened as if it were a GGUF file.
 *
 * Read are config.json; model.safetensors or its index and shards (F32, F16, BF16, FP8 with
 * scales, MXFP4, GPTQ and AWQ in 4 bits); tokenizer.json, tokenizer.model or vocab.txt;
 * tokenizer_config.json, generation_config.json and chat_template.jinja. The families that are
 * known are rows of one table, hf/families.def; what each one's tensors and fields are called in
 * GGUF stands in hf/family_*.c. docs/huggingface.md says what is read of each file.
 *
 * Weights that GGUF has in the same order stay in the mapped files. Others (turned, permuted,
 * merged from experts, of a type that no kernel reads) are written to memory at open, by a team
 * of threads. Nothing in a folder is trusted: messages name the file, the field or tensor, what
 * was found and what was expected. */
#ifndef MODELS_HF_HF_H
#define MODELS_HF_HF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "models/gguf.h"

/* Named maxima of the folder's files. */
#define HF_MAX_CONFIG_BYTES    ((size_t)4 << 20)
#define HF_MAX_TOKENIZER_BYTES ((size_t)256 << 20)
#define HF_MAX_DEPTH           16u

struct hf_opts {
    /* Called for each thing worth telling a person, such as a tensor that is not used. */
    void (*warn)(void *ctx, const char *text);
    void *ctx;
    bool vocab_only;        /* no weights: for tokenizers and templates */
};

/* Is this path a folder, so that hf_open and not gguf_open is to read it? */
bool hf_is_folder(const char *path);

/* opts may be NULL. On failure *out is untouched: WATT_EINVAL no config.json, WATT_ENOENT
 * another file is missing, WATT_EFORMAT,
 * WATT_ENOTSUP a class, a quantisation or a field's value that is not known, WATT_ELIMIT,
 * WATT_EIO, WATT_ENOMEM. */
int hf_open(struct gguf **out, const char *path, const struct hf_opts *opts,
            struct err *e) MUST_CHECK;

#endif
