/* dtype.h: element types and quantised blocks.
 *
 * Values are the type numbers of GGUF files. A quantised type stores a row as
 * blocks of block_elems elements in block_bytes bytes; rows are whole blocks.
 * Thread-safe: all tables are constant. */
#ifndef CHIPS_DTYPE_H
#define CHIPS_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum dtype {
    DTYPE_F32 = 0, DTYPE_F16 = 1, DTYPE_Q4_0 = 2, DTYPE_Q4_1 = 3,
    DTYPE_Q5_0 = 6, DTYPE_Q5_1 = 7, DTYPE_Q8_0 = 8, DTYPE_Q8_1 = 9,
    DTYPE_Q2_K = 10, DTYPE_Q3_K = 11, DTYPE_Q4_K = 12, DTYPE_Q5_K = 13, DTYPE_Q6_K = 14,
    DTYPE_Q8_K = 15, DTYPE_IQ2_XXS = 16, DTYPE_IQ2_XS = 17, DTYPE_IQ3_XXS = 18,
    DTYPE_IQ1_S = 19, DTYPE_IQ4_NL = 20, DTYPE_IQ3_S = 21, DTYPE_IQ2_S = 22,
    DTYPE_IQ4_XS = 23, DTYPE_I8 = 24, DTYPE_I16 = 25, DTYPE_I32 = 26, DTYPE_I64 = 27,
    DTYPE_F64 = 28, DTYPE_IQ1_M = 29, DTYPE_BF16 = 30, DTYPE_TQ1_0 = 34, DTYPE_TQ2_0 = 35,
    DTYPE_MXFP4 = 39, DTYPE_NVFP4 = 40,
    DTYPE_COUNT = 41
};

/* n elements (a multiple of block_elems) of blocks into f32. */
typedef void dequant_fn(float *out, const void *blocks, size_t n);
/* The reverse; importance: [n] weights of each element's squared error, or NULL. */
typedef void quant_fn(void *blocks, const float *in, size_t n, const float *importance);

struct dtype_info {
    const char *name;           /* "Q4_K"; NULL: no such type */
    uint32_t    block_elems;    /* 1 for plain types */
    uint32_t    block_bytes;
    bool        quantised;
    dequant_fn *dequant;        /* NULL for integer types */
    quant_fn   *quant;          /* NULL where no quantiser is defined */
};

/* NULL for numbers that name no type. */
const struct dtype_info *dtype_info(uint32_t dtype);
/* By name, case-insensitively; false when unknown. */
bool dtype_parse(const char *name, enum dtype *out);
const char *dtype_name(uint32_t dtype);     /* "type 77" style numbers give "?" */
/* Bytes of a row of n elements; false when n isn't whole blocks or on overflow. */
bool dtype_row_bytes(uint32_t dtype, uint64_t n, uint64_t *bytes);

/* IEEE half and bfloat16, round to nearest even, NaN kept quiet. */
float    f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);
float    bf16_to_f32(uint16_t h);
uint16_t f32_to_bf16(float f);

#endif
