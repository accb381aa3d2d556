/* shape.h: the hyperparameters of a model without its weights, and the list of
 * tensors that follows from them.
 *
 * Shapes come from a table of well-known models or from a Hugging Face
 * config.json (models/hf_config.h). They name a GGUF architecture; which tensors
 * it has is decided by features, so that related architectures share one list. */
#ifndef MODELS_SHAPE_H
#define MODELS_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Named maxima. */
#define SHAPE_MAX_LAYERS  1024u
#define SHAPE_MAX_WIDTH   (1u << 20)    /* any extent but vocabulary and context */
#define SHAPE_MAX_HEAD    (1u << 16)
#define SHAPE_MAX_VOCAB   (1u << 22)
#define SHAPE_MAX_CONTEXT (1u << 27)
#define SHAPE_MAX_EXPERTS 4096u
#define SHAPE_MAX_PARAMS  0x1p50
#define SHAPE_NAME_BYTES  64

/* Features of an architecture. */
enum {
    SHAPE_QKV_BIAS = 1,         /* attn_q, attn_k, attn_v have biases */
    SHAPE_QK_NORM = 2,          /* each head of q and k is normalised */
    SHAPE_GPT2 = 4,             /* layer norms and biases, fused qkv, learned positions,
                                   ungated feed-forward */
    SHAPE_OUT_BIAS = 8,         /* attn_output has a bias */
    SHAPE_FFN_BIAS = 16,        /* the feed-forward matrices have biases */
    SHAPE_DIFFUSION = 32,       /* a diffusion language model: has a mask token */
    SHAPE_SHIFTED = 64,         /* whose logits are of the next position */
    SHAPE_MAMBA2 = 128,         /* every layer has a Mamba-2 block */
    SHAPE_BARE = 256            /* and neither attention nor feed-forward */
};

enum shape_rope { SHAPE_ROPE_PLAIN, SHAPE_ROPE_LINEAR, SHAPE_ROPE_YARN, SHAPE_ROPE_LLAMA3 };

struct shape {
    char     name[SHAPE_NAME_BYTES];    /* "llama-3.2-1b" */
    char     arch[24];                  /* as GGUF names it: "llama" */
    char     pre[24];                   /* pre-tokenizer of the synthetic vocabulary */
    uint32_t n_layers, n_embd, n_ff;    /* n_ff of an expert when n_experts > 0 */
    uint32_t n_heads, n_kv_heads, head_dim;
    uint32_t n_vocab, n_ctx;
    uint32_t n_experts, n_experts_used; /* 0: dense */
    uint32_t window;                    /* sliding window, 0: none */
    uint32_t ssm_inner, ssm_state, ssm_heads, ssm_groups, ssm_conv;     /* of Mamba-2 */
    unsigned features;                  /* SHAPE_… */
    bool     tied;                      /* the embedding is the output matrix too */
    float    norm_eps;
    float    rope_base;                 /* 0: no rotary embedding */
    enum shape_rope rope;
    float    rope_factor;               /* of every scaling but PLAIN */
    float    rope_low, rope_high;       /* LLAMA3: frequency factors */
    uint32_t rope_ctx;                  /* context before scaling */
};

size_t shape_n_builtin(void);
const struct shape *shape_builtin(size_t i);
const struct shape *shape_find(const char *name);   /* NULL: not in the table */

/* Sets arch and the features that it implies. WATT_ENOTSUP names those known. */
int  shape_set_arch(struct shape *s, const char *arch, struct err *e) MUST_CHECK;
/* Every extent in its range and fitting the others, else WATT_EINVAL or WATT_ELIMIT. */
int  shape_check(const struct shape *s, struct err *e) MUST_CHECK;

/* How a tensor of a trained model is distributed, roughly. */
enum shape_init {
    SHAPE_MATRIX,       /* mean 0, deviation 1 / sqrt(n_in) */
    SHAPE_RESIDUAL,     /* the same / sqrt(2 n_layers): adds to the residual stream */
    SHAPE_GAIN,         /* near 1 */
    SHAPE_BIAS,         /* near 0 */
    SHAPE_DECAY,        /* near -1 */
    SHAPE_ROPE_FACTORS  /* computed from rope_… */
};

struct shape_tensor {
    char            name[64];
    int             n_dims;
    int64_t         shape[3];       /* outermost first */
    enum shape_init init;
};

/* Calls fn for every tensor, in the order of public files, until it returns
 * other than 0; returns that. s must have passed shape_check. */
int shape_each_tensor(const struct shape *s, int (*fn)(void *ctx, const struct shape_tensor *t),
                      void *ctx);
/* Elements of all tensors. */
uint64_t shape_params(const struct shape *s);
/* out: [head_dim / 2], what each rotary frequency is divided by. */
void shape_rope_factors(const struct shape *s, float *out);

#endif
