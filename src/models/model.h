/* model.h: an open model file: facts, the recorded program, the file itself.
 *
 * model_open reads hyperparameters and tensors of a GGUF file or of a folder, finds the
 * architecture in the table of models/arch.h and records its program. The file stays
 * mapped until model_close, since executors read or pack weights from it. An open model is
 * immutable: any thread may read it, any number of sessions may share it.
 *
 * Tokenizer and chat template are made by their own modules from model_gguf(). */
#ifndef MODELS_MODEL_H
#define MODELS_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "chips/program.h"
#include "models/gguf.h"
#include "models/pooling.h"

struct model;
struct lora;
struct lora_spec;

struct model_opts {
    /* Called for each thing worth telling a person, such as a tensor that the architecture
     * does not use; NULL: not called. The texts are kept in the model as well. */
    void (*warn)(void *ctx, const char *text);
    void *ctx;
    uint32_t n_ctx;         /* context that sessions will use: chooses between LongRoPE's short
                             * and long factors; 0: as trained */
    bool     embed;         /* embeddings or scores in place of logits, from any model */
    enum pooling pooling;   /* of those */
    /* Adapters that sequences may name (models/lora.h), borrowed while the model is opened; or a
     * new one to be trained. */
    const struct lora *const *adapters;
    uint32_t n_adapters;    /* at most LORA_MAX_ADAPTERS */
    const struct lora_spec *new_adapter;
};

struct model_facts {
    char     arch[64];              /* GGUF name: "llama" */
    char     name[128];             /* general.name, "" when absent */
    char     quant[128];            /* types of tensors with their share of the bytes:
                                     * "Q4_K 82 %, Q6_K 18 %" */
    enum dtype main_dtype;          /* of most of the bytes */
    uint32_t n_vocab;               /* rows of the token embedding: logits of a row */
    uint32_t n_out;                 /* width of the result: n_vocab, n_embd of encoders, or of the
                                     * embedding, or labels of a classification head */
    uint32_t n_ctx_train, n_embd, n_layers;
    uint32_t n_heads, n_kv_heads;   /* of the first attention layer; 0: none */
    uint32_t k_dim, v_dim;
    uint32_t n_experts, n_experts_used;
    uint32_t window;                /* smallest attention window, 0: none */
    float    rope_base;             /* 0: no rope */
    uint64_t n_params;              /* elements of all tensors of the file */
    uint64_t tensor_bytes;          /* their bytes in the file */
    uint64_t fixed_floats;          /* fixed state of one sequence, in f32 */
    bool     causal;                /* false: a token sees those behind it, too */
    bool     pooled;                /* one row of results per sequence, not per token */
    bool     whole_inputs;          /* not causal, or pooled: an input goes in one step */
    bool     embeds;                /* the result is an embedding or a score, not logits */
    enum pooling pooling;           /* which rows an embedding is made of: NONE, MEAN, CLS, LAST */
    bool     ranks;                 /* it is the score of a classification head on those */
};

/* Opens what a path names as a GGUF file, whatever its form: one indeed, or a folder of Hugging
 * Face's (models/hf/hf.h) or of char-rnn's (models/charrnn.h). A path where nothing is may be the
 * name of a fetched model (infrastructure/store.h). vocab_only: tokenizer and template,
 * no weights where they are apart. */
int  model_file_open(struct gguf **out, const char *path, const struct model_opts *opts,
                     bool vocab_only, struct err *e) MUST_CHECK;
/* path: as model_file_open takes it. */
int  model_open(struct model **out, const char *path, const struct model_opts *opts,
                struct err *e) MUST_CHECK;
/* From an open file, which the model owns from then on (also when this fails). */
int  model_open_gguf(struct model **out, struct gguf *g, const struct model_opts *opts,
                     struct err *e) MUST_CHECK;
void model_close(struct model *m);      /* NULL is fine */

const struct gguf *model_gguf(const struct model *m);
const struct program *model_program(const struct model *m);
const struct model_facts *model_facts(const struct model *m);
uint32_t model_n_adapters(const struct model *m);
uint32_t model_n_warnings(const struct model *m);
const char *model_warning(const struct model *m, uint32_t i);

#endif
