/* lora_internal.h: what an open adapter holds, shared by lora.c and lora_merge.c alone. */
#ifndef MODELS_LORA_INTERNAL_H
#define MODELS_LORA_INTERNAL_H

#include "chips/dtype.h"
#include "models/lora.h"

#define EMBEDDING "token_embd.weight"

struct target {
    char    *name;              /* of the adapted tensor */
    uint32_t mats;              /* experts; 0: one matrix, no experts */
    uint32_t rank, n_in, n_out;
    float    scale;
    enum dtype type;            /* of products with it: BF16 or F32 */
    bool     table;             /* of the embedding's rows: n_in tokens, n_out columns */
    float   *a, *b;             /* [mats][rank][n_in], [mats][n_out][rank]; a of a table [n_in][rank] */
};

struct lora {
    struct gguf   *g;
    float          alpha, factor;
    char           arch[64];
    struct target *targets;
    size_t         n_targets;
};

/* NULL: the adapter does not adapt it. */
const struct target *lora_target(const struct lora *l, const char *name);

#endif
