/* dtype.c: the table of element types, plain types and half-precision conversion;
 * see dtype.h. */
#include "chips/dtype.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "chips/dequant.h"
#include "chips/quant.h"

static uint32_t float_bits(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof u);
    return u;
}

static float bits_float(uint32_t u)
{
    float f;

    memcpy(&f, &u, sizeof f);
    return f;
}

float f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t rest = (uint32_t)(h & 0x7FFF) << 13;

    if (rest >= UINT32_C(0x0F800000))       /* infinity, NaN: quiet, payload kept */
        return bits_float(sign | UINT32_C(0x7F800000) | rest |
                          (rest > UINT32_C(0x0F800000) ? UINT32_C(0x00400000) : 0));
    /* read as f32 the exponent is 112 too small; the product is exact, subnormals too */
    return bits_float(sign | float_bits(bits_float(rest) * 0x1p112f));
}

uint16_t f32_to_f16(float f)
{
    const uint32_t u = float_bits(f);
    const uint32_t sign = u >> 16 & 0x8000, mag = u & UINT32_C(0x7FFFFFFF);

    if (mag > UINT32_C(0x7F800000))
        return (uint16_t)(sign | 0x7E00 | (mag >> 13 & 0x3FF));
    if (mag >= UINT32_C(0x477FF000))        /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7C00);
    if (mag < UINT32_C(0x38800000))         /* below 2^-14: adding 0.5 rounds at 2^-24 */
        return (uint16_t)(sign | (float_bits(bits_float(mag) + 0.5f) - UINT32_C(0x3F000000)));
    return (uint16_t)(sign | ((mag - UINT32_C(0x38000000) + 0xFFF + (mag >> 13 & 1)) >> 13));
}

float bf16_to_f32(uint16_t h)
{
    return bits_float((uint32_t)h << 16);
}

uint16_t f32_to_bf16(float f)
{
    const uint32_t u = float_bits(f);

    if ((u & UINT32_C(0x7FFFFFFF)) > UINT32_C(0x7F800000))
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

static void dequant_f32(float *out, const void *blocks, size_t n)
{
    memcpy(out, blocks, n * sizeof *out);
}

static void dequant_f64(float *out, const void *blocks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double v;

        memcpy(&v, (const uint8_t *)blocks + i * sizeof v, sizeof v);
        out[i] = (float)v;
    }
}

static void dequant_f16(float *out, const void *blocks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t v;

        memcpy(&v, (const uint8_t *)blocks + i * sizeof v, sizeof v);
        out[i] = f16_to_f32(v);
    }
}

static void dequant_bf16(float *out, const void *blocks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t v;

        memcpy(&v, (const uint8_t *)blocks + i * sizeof v, sizeof v);
        out[i] = bf16_to_f32(v);
    }
}

static void quant_f32(void *blocks, const float *in, size_t n, const float *importance)
{
    (void)importance;
    memcpy(blocks, in, n * sizeof *in);
}

static void quant_f64(void *blocks, const float *in, size_t n, const float *importance)
{
    (void)importance;
    for (size_t i = 0; i < n; i++) {
        const double v = (double)in[i];

        memcpy((uint8_t *)blocks + i * sizeof v, &v, sizeof v);
    }
}

static void quant_f16(void *blocks, const float *in, size_t n, const float *importance)
{
    (void)importance;
    for (size_t i = 0; i < n; i++) {
        const uint16_t v = f32_to_f16(in[i]);

        memcpy((uint8_t *)blocks + i * sizeof v, &v, sizeof v);
    }
}

static void quant_bf16(void *blocks, const float *in, size_t n, const float *importance)
{
    (void)importance;
    for (size_t i = 0; i < n; i++) {
        const uint16_t v = f32_to_bf16(in[i]);

        memcpy((uint8_t *)blocks + i * sizeof v, &v, sizeof v);
    }
}

static const struct dtype_info types[DTYPE_COUNT] = {
    [DTYPE_F32]     = { "F32",     1,   4,   false, dequant_f32,     quant_f32 },
    [DTYPE_F16]     = { "F16",     1,   2,   false, dequant_f16,     quant_f16 },
    [DTYPE_Q4_0]    = { "Q4_0",    32,  18,  true,  dequant_q4_0,    quant_q4_0 },
    [DTYPE_Q4_1]    = { "Q4_1",    32,  20,  true,  dequant_q4_1,    quant_q4_1 },
    [DTYPE_Q5_0]    = { "Q5_0",    32,  22,  true,  dequant_q5_0,    quant_q5_0 },
    [DTYPE_Q5_1]    = { "Q5_1",    32,  24,  true,  dequant_q5_1,    quant_q5_1 },
    [DTYPE_Q8_0]    = { "Q8_0",    32,  34,  true,  dequant_q8_0,    quant_q8_0 },
    [DTYPE_Q8_1]    = { "Q8_1",    32,  36,  true,  dequant_q8_1,    NULL },
    [DTYPE_Q2_K]    = { "Q2_K",    256, 84,  true,  dequant_q2_k,    quant_q2_k },
    [DTYPE_Q3_K]    = { "Q3_K",    256, 110, true,  dequant_q3_k,    quant_q3_k },
    [DTYPE_Q4_K]    = { "Q4_K",    256, 144, true,  dequant_q4_k,    quant_q4_k },
    [DTYPE_Q5_K]    = { "Q5_K",    256, 176, true,  dequant_q5_k,    quant_q5_k },
    [DTYPE_Q6_K]    = { "Q6_K",    256, 210, true,  dequant_q6_k,    quant_q6_k },
    [DTYPE_Q8_K]    = { "Q8_K",    256, 292, true,  dequant_q8_k,    NULL },
    [DTYPE_IQ2_XXS] = { "IQ2_XXS", 256, 66,  true,  dequant_iq2_xxs, NULL },
    [DTYPE_IQ2_XS]  = { "IQ2_XS",  256, 74,  true,  dequant_iq2_xs,  NULL },
    [DTYPE_IQ3_XXS] = { "IQ3_XXS", 256, 98,  true,  dequant_iq3_xxs, NULL },
    [DTYPE_IQ1_S]   = { "IQ1_S",   256, 50,  true,  dequant_iq1_s,   NULL },
    [DTYPE_IQ4_NL]  = { "IQ4_NL",  32,  18,  true,  dequant_iq4_nl,  quant_iq4_nl },
    [DTYPE_IQ3_S]   = { "IQ3_S",   256, 110, true,  dequant_iq3_s,   NULL },
    [DTYPE_IQ2_S]   = { "IQ2_S",   256, 82,  true,  dequant_iq2_s,   NULL },
    [DTYPE_IQ4_XS]  = { "IQ4_XS",  256, 136, true,  dequant_iq4_xs,  quant_iq4_xs },
    [DTYPE_I8]      = { "I8",      1,   1,   false, NULL,            NULL },
    [DTYPE_I16]     = { "I16",     1,   2,   false, NULL,            NULL },
    [DTYPE_I32]     = { "I32",     1,   4,   false, NULL,            NULL },
    [DTYPE_I64]     = { "I64",     1,   8,   false, NULL,            NULL },
    [DTYPE_F64]     = { "F64",     1,   8,   false, dequant_f64,     quant_f64 },
    [DTYPE_IQ1_M]   = { "IQ1_M",   256, 56,  true,  dequant_iq1_m,   NULL },
    [DTYPE_BF16]    = { "BF16",    1,   2,   false, dequant_bf16,    quant_bf16 },
    [DTYPE_TQ1_0]   = { "TQ1_0",   256, 54,  true,  dequant_tq1_0,   quant_tq1_0 },
    [DTYPE_TQ2_0]   = { "TQ2_0",   256, 66,  true,  dequant_tq2_0,   quant_tq2_0 },
    [DTYPE_MXFP4]   = { "MXFP4",   32,  17,  true,  dequant_mxfp4,   quant_mxfp4 },
    [DTYPE_NVFP4]   = { "NVFP4",   64,  36,  true,  dequant_nvfp4,   quant_nvfp4 },
};

const struct dtype_info *dtype_info(uint32_t dtype)
{
    return dtype < DTYPE_COUNT && types[dtype].name ? &types[dtype] : NULL;
}

bool dtype_parse(const char *name, enum dtype *out)
{
    for (unsigned i = 0; i < DTYPE_COUNT; i++)
        if (types[i].name && strcasecmp(types[i].name, name) == 0) {
            *out = (enum dtype)i;
            return true;
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

    if (!info || n % info->block_elems != 0)
        return false;
    return mul_u64(n / info->block_elems, info->block_bytes, bytes);
}
