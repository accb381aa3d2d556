/* dtype.c: the table of element types; see dtype.h. */
#include "chips/dtype.h"

#include <strings.h>

#include "base/mem.h"

#define PLAIN(name, bytes) { name, 1, bytes, false, NULL, NULL }
#define BLOCK(name, elems, bytes) { name, elems, bytes, true, NULL, NULL }

static const struct dtype_info infos[DTYPE_COUNT] = {
    [DTYPE_F32] = PLAIN("F32", 4),
    [DTYPE_F16] = PLAIN("F16", 2),
    [DTYPE_Q4_0] = BLOCK("Q4_0", 32, 18),
    [DTYPE_Q4_1] = BLOCK("Q4_1", 32, 20),
    [DTYPE_Q5_0] = BLOCK("Q5_0", 32, 22),
    [DTYPE_Q5_1] = BLOCK("Q5_1", 32, 24),
    [DTYPE_Q8_0] = BLOCK("Q8_0", 32, 34),
    [DTYPE_Q8_1] = BLOCK("Q8_1", 32, 36),
    [DTYPE_Q2_K] = BLOCK("Q2_K", 256, 84),
    [DTYPE_Q3_K] = BLOCK("Q3_K", 256, 110),
    [DTYPE_Q4_K] = BLOCK("Q4_K", 256, 144),
    [DTYPE_Q5_K] = BLOCK("Q5_K", 256, 176),
    [DTYPE_Q6_K] = BLOCK("Q6_K", 256, 210),
    [DTYPE_Q8_K] = BLOCK("Q8_K", 256, 292),
    [DTYPE_IQ2_XXS] = BLOCK("IQ2_XXS", 256, 66),
    [DTYPE_IQ2_XS] = BLOCK("IQ2_XS", 256, 74),
    [DTYPE_IQ3_XXS] = BLOCK("IQ3_XXS", 256, 98),
    [DTYPE_IQ1_S] = BLOCK("IQ1_S", 256, 50),
    [DTYPE_IQ4_NL] = BLOCK("IQ4_NL", 32, 18),
    [DTYPE_IQ3_S] = BLOCK("IQ3_S", 256, 110),
    [DTYPE_IQ2_S] = BLOCK("IQ2_S", 256, 82),
    [DTYPE_IQ4_XS] = BLOCK("IQ4_XS", 256, 136),
    [DTYPE_I8] = PLAIN("I8", 1),
    [DTYPE_I16] = PLAIN("I16", 2),
    [DTYPE_I32] = PLAIN("I32", 4),
    [DTYPE_I64] = PLAIN("I64", 8),
    [DTYPE_F64] = PLAIN("F64", 8),
    [DTYPE_IQ1_M] = BLOCK("IQ1_M", 256, 56),
    [DTYPE_BF16] = PLAIN("BF16", 2),
    [DTYPE_TQ1_0] = BLOCK("TQ1_0", 256, 54),
    [DTYPE_TQ2_0] = BLOCK("TQ2_0", 256, 66),
    [DTYPE_MXFP4] = BLOCK("MXFP4", 32, 17),
    [DTYPE_NVFP4] = BLOCK("NVFP4", 64, 36),
};

const struct dtype_info *dtype_info(uint32_t dtype)
{
    return dtype < DTYPE_COUNT && infos[dtype].name ? &infos[dtype] : NULL;
}

bool dtype_parse(const char *name, enum dtype *out)
{
    for (uint32_t i = 0; i < DTYPE_COUNT; i++) {
        if (infos[i].name && strcasecmp(infos[i].name, name) == 0) {
            *out = (enum dtype)i;
            return true;
        }
    }
    return false;
}

const char *dtype_name(uint32_t dtype)
{
    const struct dtype_info *info = dtype_info(dtype);

    return info ? info->name : "?";
}

bool dtype_row_bytes(uint32_t dtype, uint64_t n, uint64_t *bytes)
{
    const struct dtype_info *info = dtype_info(dtype);

    return info && n % info->block_elems == 0 &&
           mul_u64(n / info->block_elems, info->block_bytes, bytes);
}
