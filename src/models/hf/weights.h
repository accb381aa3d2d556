/* weights.h: the plan of a folder's weights: which rows of which files make which tensor. */
#ifndef MODELS_HF_WEIGHTS_H
#define MODELS_HF_WEIGHTS_H

#include "models/hf/internal.h"

/* One tensor that is written to memory, or that stays where it is. */
struct hf_tensor {
    size_t    index;            /* in h->out */
    unsigned  how;              /* enum hf_map | flags */
    uint32_t  n_sources;        /* experts; else 1 */
    uint32_t  first_source;     /* in hf_weights.sources; those of experts follow each other */
    uint32_t  layer;
    bool      direct;
    /* of one source's part of the result: matrices, rows, columns */
    int64_t   n, rows, cols;
    uint64_t  at;               /* in hf_weights.memory */
    struct sv name;             /* lives in h->out's copy or the plan's pool */
};

struct hf_weights {
    const struct hf   *h;
    struct hf_tensor  *tensors;
    size_t             n_tensors, cap_tensors;
    struct hf_source  *sources;     /* t NULL: not found yet */
    size_t             n_sources, cap_sources;
    uint8_t           *memory;      /* mem_map, of everything that is written */
    size_t             memory_bytes;
    struct safetensors *st;         /* owned */
};

/* Writes all tensors that are not direct; the address of each is memory + at. */
int hf_fill(struct hf_weights *w, struct gguf_make *out, struct err *e) MUST_CHECK;

#endif
