/* lora.h: low-rank adapters (Hu et al. 2021, arXiv 2106.09685): beside a product y = W x, a model
 * with adapters records y + s B (A x), with A [rank, n_in], B [n_out, rank] and s = alpha / rank.
 *
 * Two ways to have them in a model (models/model.h):
 *   adapters    files, to be served: any number in one model; every row of a step has the one its
 *               sequence names (struct stream.adapter, 1 for the first; 0: none). The matrices of
 *               all adapters of a product lie in one tensor, as experts do, ranks filled up with
 *               zeros; rows without an adapter get zeros added, so their bits are the model's own;
 *               a sequence may have its adapter at another scale (struct stream.adapter_scale times s),
 *               and an adapter's bits are the same whatever stands beside it
 *   a new one   to be trained: A random, B zero
 *
 * Every product of a model can be adapted: those of its layers, the head, and those by expert, where
 * each expert has matrices of its own (A [experts, rank, n_in], B [experts, n_out, rank]). So can the
 * embedding, whose rows are gathered: A [n_tokens, rank] is gathered with them, and B [n_embd, rank]
 * takes its row to the embedding's columns. One tensor that is embedding and head has one name for
 * both: shapes tell which a file adapts, and a new adapter adapts the head. An adapter
 * of BF16 numbers is served in BF16 products, as it was trained; others in F32.
 *
 * The file is GGUF as the widely used engine has it: general.type "adapter", adapter.type "lora",
 * adapter.lora.alpha, general.architecture of the model, and for each adapted tensor NAME the
 * tensors NAME.lora_a and NAME.lora_b. Types other than F32 and BF16 are read into F32. Alpha 0 means a
 * scale of 1. A file is hostile: everything is checked, and a tensor that finds no product in the
 * model is an error that names it. */
#ifndef MODELS_LORA_H
#define MODELS_LORA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "models/gguf.h"

#define LORA_MAX_RANK     4096u
#define LORA_MAX_ADAPTERS 256u

struct lora;

/* scale multiplies alpha / rank; usually 1. WATT_EFORMAT names file and field. An open adapter is
 * immutable. */
int  lora_open(struct lora **out, const char *path, float scale, struct err *e) MUST_CHECK;
/* From an open file, which the adapter owns from then on (also when this fails). */
int  lora_open_gguf(struct lora **out, struct gguf *g, float scale, struct err *e) MUST_CHECK;
void lora_close(struct lora *l);        /* NULL is fine */
const char *lora_path(const struct lora *l);
size_t lora_n_targets(const struct lora *l);

/* A new adapter. */
struct lora_spec {
    uint32_t rank;              /* 1..LORA_MAX_RANK */
    float    alpha;             /* 0: a scale of 1 */
    /* Ends of names without ".weight", such as "attn_q" or "ffn_down"; "all": every product
     * of the layers; NULL: those of attention and feed-forward, which "all" is for most. */
    const char *const *targets;
    size_t      n_targets;
    uint64_t    seed;
};

/* Is this the name of an adapter's tensor? */
bool lora_is_name(const char *name);
float lora_scale(float alpha, uint32_t rank);

/* Writes base with the adapter added to its weights: those tensors become F32, or BF16 where they
 * were of 16 bits; all else is copied. A head that was the embedding too becomes a tensor of its own.
 * WATT_EINVAL: does not fit the model. */
int  lora_merge(const char *path, const struct gguf *base, const struct lora *l,
                struct err *e) MUST_CHECK;

/* ---- for models/build_tensors.c and model.c ---- */

struct program;

/* What a model being recorded adds to its products; zeroed: nothing. */
struct lora_build {
    const struct lora *const *adapters;
    uint32_t n_adapters;
    const struct lora_spec *fresh;
    void   **blocks;            /* memory of tensors: the model's from then on */
    size_t   n_blocks;
    bool   **used;              /* [n_adapters][targets] */
    uint32_t last_x, last_ids;  /* values: the same rows' ids serve several products */
    uint32_t last_experts, last_expert_ids;
    uint64_t n_fresh, found;    /* found: bits of fresh's first 64 targets */
};

/* The value that stands for y = W x from now on. What is recorded after a failure is ignored. */
uint32_t lora_apply(struct lora_build *b, struct program *p, uint32_t x, uint32_t y,
                    const char *weight);
/* The same for y = W[ids] x of n_experts matrices. */
uint32_t lora_apply_experts(struct lora_build *b, struct program *p, uint32_t x, uint32_t ids,
                            uint32_t n_experts, uint32_t y, const char *weight);
/* x: rows of token_embd.weight, a table of n_tokens; tied: it is the head, too. */
uint32_t lora_apply_embedding(struct lora_build *b, struct program *p, uint32_t x, uint32_t n_tokens,
                              bool tied);
/* After the recording: every tensor of every adapter found its product. */
int  lora_finish(struct lora_build *b, struct err *e) MUST_CHECK;
void lora_build_deinit(struct lora_build *b, bool keep_blocks);

#endif
