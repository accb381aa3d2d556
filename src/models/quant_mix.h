/* quant_mix.h: which element type each tensor of a model gets when the model is
 * quantised "as Q4_K_M" and the like.
 *
 * The mixes, their names and their file_type numbers are those in public use with
 * GGUF files: most matrices get the base type, a few sensitive ones get more bits.
 * Thread-safe: all tables are constant. */
#ifndef MODELS_QUANT_MIX_H
#define MODELS_QUANT_MIX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "chips/dtype.h"

enum quant_mix {
    QUANT_F32, QUANT_F16, QUANT_BF16,
    QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0,
    QUANT_Q2_K, QUANT_Q2_K_S, QUANT_Q3_K_S, QUANT_Q3_K_M, QUANT_Q3_K_L,
    QUANT_Q4_K_S, QUANT_Q4_K_M, QUANT_Q5_K_S, QUANT_Q5_K_M, QUANT_Q6_K,
    QUANT_IQ1_S, QUANT_IQ1_M, QUANT_IQ2_XXS, QUANT_IQ2_XS, QUANT_IQ2_S, QUANT_IQ2_M,
    QUANT_IQ3_XXS, QUANT_IQ3_XS, QUANT_IQ3_S, QUANT_IQ3_M, QUANT_IQ4_NL, QUANT_IQ4_XS,
    QUANT_TQ1_0, QUANT_TQ2_0, QUANT_MXFP4, QUANT_MXFP4_MOE, QUANT_NVFP4,
    QUANT_MIX_COUNT
};

struct quant_mix_info {
    const char *name;           /* "Q4_K_M" */
    uint32_t    file_type;      /* value of the key general.file_type */
    enum dtype  base;
};

const struct quant_mix_info *quant_mix_info(enum quant_mix mix);
/* By name, case-insensitively. Q3_K, Q4_K and Q5_K mean the _M mixes. */
bool quant_mix_parse(const char *name, enum quant_mix *out);

struct quant_model {
    uint32_t n_layers, n_experts;   /* n_experts 0: dense */
    uint32_t n_gqa;                 /* query heads per key/value head, at least 1 */
    bool     tied;                  /* no output.weight: token_embd serves as output too */
    bool     importance;            /* an importance matrix is at hand */
};

/* Is this tensor stored in fewer bits at all? Vectors, norms, routers, positions
 * and small convolutions are not. */
bool quant_mix_applies(struct sv name, int n_dims);

/* The type of a tensor, rows of `row` elements; F32 where quant_mix_applies says
 * no. Where rows are no whole blocks of the type, the nearest one of smaller
 * blocks, at last F16. */
enum dtype quant_mix_pick(enum quant_mix mix, const struct quant_model *m, struct sv name,
                          int n_dims, int64_t row);

#endif
