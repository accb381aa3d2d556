/* quant_mix.c: the rules of the public mixes as one table; see quant_mix.h. */
#include "models/quant_mix.h"

#include <string.h>
#include <strings.h>

static const struct quant_mix_info infos[QUANT_MIX_COUNT] = {
    [QUANT_F32] = { "F32", 0, DTYPE_F32 },
    [QUANT_F16] = { "F16", 1, DTYPE_F16 },
    [QUANT_BF16] = { "BF16", 32, DTYPE_BF16 },
    [QUANT_Q4_0] = { "Q4_0", 2, DTYPE_Q4_0 },
    [QUANT_Q4_1] = { "Q4_1", 3, DTYPE_Q4_1 },
    [QUANT_Q5_0] = { "Q5_0", 8, DTYPE_Q5_0 },
    [QUANT_Q5_1] = { "Q5_1", 9, DTYPE_Q5_1 },
    [QUANT_Q8_0] = { "Q8_0", 7, DTYPE_Q8_0 },
    [QUANT_Q2_K] = { "Q2_K", 10, DTYPE_Q2_K },
    [QUANT_Q2_K_S] = { "Q2_K_S", 21, DTYPE_Q2_K },
    [QUANT_Q3_K_S] = { "Q3_K_S", 11, DTYPE_Q3_K },
    [QUANT_Q3_K_M] = { "Q3_K_M", 12, DTYPE_Q3_K },
    [QUANT_Q3_K_L] = { "Q3_K_L", 13, DTYPE_Q3_K },
    [QUANT_Q4_K_S] = { "Q4_K_S", 14, DTYPE_Q4_K },
    [QUANT_Q4_K_M] = { "Q4_K_M", 15, DTYPE_Q4_K },
    [QUANT_Q5_K_S] = { "Q5_K_S", 16, DTYPE_Q5_K },
    [QUANT_Q5_K_M] = { "Q5_K_M", 17, DTYPE_Q5_K },
    [QUANT_Q6_K] = { "Q6_K", 18, DTYPE_Q6_K },
    [QUANT_IQ1_S] = { "IQ1_S", 24, DTYPE_IQ1_S },
    [QUANT_IQ1_M] = { "IQ1_M", 31, DTYPE_IQ1_M },
    [QUANT_IQ2_XXS] = { "IQ2_XXS", 19, DTYPE_IQ2_XXS },
    [QUANT_IQ2_XS] = { "IQ2_XS", 20, DTYPE_IQ2_XS },
    [QUANT_IQ2_S] = { "IQ2_S", 28, DTYPE_IQ2_XS },
    [QUANT_IQ2_M] = { "IQ2_M", 29, DTYPE_IQ2_S },
    [QUANT_IQ3_XXS] = { "IQ3_XXS", 23, DTYPE_IQ3_XXS },
    [QUANT_IQ3_XS] = { "IQ3_XS", 22, DTYPE_IQ3_S },
    [QUANT_IQ3_S] = { "IQ3_S", 26, DTYPE_IQ3_S },
    [QUANT_IQ3_M] = { "IQ3_M", 27, DTYPE_IQ3_S },
    [QUANT_IQ4_NL] = { "IQ4_NL", 25, DTYPE_IQ4_NL },
    [QUANT_IQ4_XS] = { "IQ4_XS", 30, DTYPE_IQ4_XS },
    [QUANT_TQ1_0] = { "TQ1_0", 36, DTYPE_TQ1_0 },
    [QUANT_TQ2_0] = { "TQ2_0", 37, DTYPE_TQ2_0 },
    [QUANT_MXFP4] = { "MXFP4", 38, DTYPE_MXFP4 },
    [QUANT_MXFP4_MOE] = { "MXFP4_MOE", 38, DTYPE_Q8_0 },
    [QUANT_NVFP4] = { "NVFP4", 39, DTYPE_NVFP4 },
};

enum role { OTHER, OUTPUT, EMBD, ATTN_Q, ATTN_K, ATTN_V, ATTN_OUT, ATTN_QKV, FFN_DOWN,
            FFN_GATE_UP, EXPERTS };

/* When a rule holds. "First" and "middle" speak of layers; "blind" means that no
 * importance matrix is at hand. */
enum when { ALWAYS, FIRST_2, FIRST_4, FIRST_8TH, FIRST_16TH, BLIND, BLIND_FIRST_8TH,
            SEEING_FIRST_8TH, MIDDLE, MORE_BITS, GQA_4, GQA_4_OR_EXPERTS_4, EXPERTS_8,
            EXPERTS_8_MORE_BITS };

/* The first rule that holds decides; none: the base type. */
static const struct rule {
    uint8_t mix, role, when, then;
} rules[] = {
    { QUANT_IQ1_S, OUTPUT, ALWAYS, DTYPE_Q5_K },
    { QUANT_IQ1_S, EMBD, ALWAYS, DTYPE_Q2_K },
    { QUANT_IQ1_S, ATTN_V, GQA_4_OR_EXPERTS_4, DTYPE_Q4_K },
    { QUANT_IQ1_S, ATTN_V, ALWAYS, DTYPE_Q2_K },
    { QUANT_IQ1_S, ATTN_K, EXPERTS_8, DTYPE_Q4_K },
    { QUANT_IQ1_S, FFN_DOWN, FIRST_8TH, DTYPE_Q2_K },
    { QUANT_IQ1_S, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },
    { QUANT_IQ1_S, ATTN_OUT, ALWAYS, DTYPE_IQ2_XXS },

    { QUANT_IQ1_M, OUTPUT, ALWAYS, DTYPE_Q5_K },
    { QUANT_IQ1_M, EMBD, ALWAYS, DTYPE_Q2_K },
    { QUANT_IQ1_M, ATTN_V, GQA_4_OR_EXPERTS_4, DTYPE_Q4_K },
    { QUANT_IQ1_M, ATTN_V, ALWAYS, DTYPE_Q2_K },
    { QUANT_IQ1_M, ATTN_K, EXPERTS_8, DTYPE_Q4_K },
    { QUANT_IQ1_M, FFN_DOWN, FIRST_8TH, DTYPE_Q2_K },
    { QUANT_IQ1_M, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },
    { QUANT_IQ1_M, ATTN_OUT, ALWAYS, DTYPE_IQ2_XXS },

    { QUANT_IQ2_XXS, OUTPUT, ALWAYS, DTYPE_Q5_K },
    { QUANT_IQ2_XXS, EMBD, ALWAYS, DTYPE_Q2_K },
    { QUANT_IQ2_XXS, ATTN_V, GQA_4_OR_EXPERTS_4, DTYPE_Q4_K },
    { QUANT_IQ2_XXS, ATTN_V, ALWAYS, DTYPE_Q2_K },
    { QUANT_IQ2_XXS, ATTN_K, EXPERTS_8, DTYPE_Q4_K },
    { QUANT_IQ2_XXS, FFN_DOWN, FIRST_8TH, DTYPE_Q2_K },
    { QUANT_IQ2_XXS, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },

    { QUANT_IQ2_XS, OUTPUT, ALWAYS, DTYPE_Q5_K },
    { QUANT_IQ2_XS, EMBD, ALWAYS, DTYPE_Q2_K },
    { QUANT_IQ2_XS, ATTN_V, GQA_4_OR_EXPERTS_4, DTYPE_Q4_K },
    { QUANT_IQ2_XS, ATTN_V, ALWAYS, DTYPE_Q2_K },
    { QUANT_IQ2_XS, ATTN_K, EXPERTS_8, DTYPE_Q4_K },
    { QUANT_IQ2_XS, FFN_DOWN, FIRST_8TH, DTYPE_Q2_K },
    { QUANT_IQ2_XS, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },

    { QUANT_IQ2_S, OUTPUT, ALWAYS, DTYPE_Q5_K },
    { QUANT_IQ2_S, EMBD, ALWAYS, DTYPE_IQ3_S },
    { QUANT_IQ2_S, ATTN_V, GQA_4_OR_EXPERTS_4, DTYPE_Q4_K },
    { QUANT_IQ2_S, ATTN_V, ALWAYS, DTYPE_IQ3_S },
    { QUANT_IQ2_S, ATTN_K, EXPERTS_8, DTYPE_Q4_K },
    { QUANT_IQ2_S, FFN_DOWN, FIRST_8TH, DTYPE_IQ3_S },
    { QUANT_IQ2_S, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },
    { QUANT_IQ2_S, ATTN_OUT, ALWAYS, DTYPE_IQ3_S },

    { QUANT_IQ2_M, OUTPUT, ALWAYS, DTYPE_Q5_K },
    { QUANT_IQ2_M, EMBD, ALWAYS, DTYPE_IQ3_S },
    { QUANT_IQ2_M, ATTN_V, GQA_4_OR_EXPERTS_4, DTYPE_Q4_K },
    { QUANT_IQ2_M, ATTN_V, ALWAYS, DTYPE_IQ3_S },
    { QUANT_IQ2_M, ATTN_K, EXPERTS_8, DTYPE_Q4_K },
    { QUANT_IQ2_M, FFN_DOWN, FIRST_8TH, DTYPE_IQ3_S },
    { QUANT_IQ2_M, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },
    { QUANT_IQ2_M, ATTN_OUT, ALWAYS, DTYPE_IQ3_S },

    { QUANT_IQ3_XXS, OUTPUT, ALWAYS, DTYPE_Q5_K },
    { QUANT_IQ3_XXS, EMBD, ALWAYS, DTYPE_IQ3_S },
    { QUANT_IQ3_XXS, ATTN_V, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_IQ3_XXS, ATTN_V, GQA_4, DTYPE_Q4_K },
    { QUANT_IQ3_XXS, ATTN_V, BLIND, DTYPE_IQ3_S },
    { QUANT_IQ3_XXS, ATTN_K, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_IQ3_XXS, ATTN_K, ALWAYS, DTYPE_IQ2_S },
    { QUANT_IQ3_XXS, ATTN_Q, ALWAYS, DTYPE_IQ2_S },
    { QUANT_IQ3_XXS, FFN_DOWN, BLIND_FIRST_8TH, DTYPE_Q4_K },
    { QUANT_IQ3_XXS, FFN_DOWN, BLIND, DTYPE_Q3_K },
    { QUANT_IQ3_XXS, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },
    { QUANT_IQ3_XXS, ATTN_OUT, ALWAYS, DTYPE_IQ3_S },

    { QUANT_IQ3_XS, ATTN_V, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_IQ3_XS, ATTN_V, GQA_4, DTYPE_Q4_K },
    { QUANT_IQ3_XS, ATTN_K, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_IQ3_XS, ATTN_K, ALWAYS, DTYPE_IQ3_XXS },
    { QUANT_IQ3_XS, ATTN_Q, ALWAYS, DTYPE_IQ3_XXS },
    { QUANT_IQ3_XS, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },
    { QUANT_IQ3_XS, FFN_GATE_UP, MIDDLE, DTYPE_IQ3_XXS },

    { QUANT_IQ3_S, ATTN_V, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_IQ3_S, ATTN_V, GQA_4, DTYPE_Q4_K },
    { QUANT_IQ3_S, ATTN_K, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_IQ3_S, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },

    { QUANT_IQ3_M, ATTN_V, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_IQ3_M, ATTN_V, ALWAYS, DTYPE_Q4_K },
    { QUANT_IQ3_M, ATTN_K, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_IQ3_M, FFN_DOWN, FIRST_8TH, DTYPE_Q4_K },
    { QUANT_IQ3_M, FFN_DOWN, EXPERTS_8_MORE_BITS, DTYPE_Q4_K },
    { QUANT_IQ3_M, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },
    { QUANT_IQ3_M, ATTN_OUT, ALWAYS, DTYPE_Q4_K },
    { QUANT_IQ3_M, ATTN_QKV, ALWAYS, DTYPE_Q4_K },

    { QUANT_IQ4_NL, ATTN_V, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_IQ4_NL, ATTN_V, GQA_4, DTYPE_Q5_K },
    { QUANT_IQ4_NL, ATTN_K, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_IQ4_NL, FFN_DOWN, BLIND_FIRST_8TH, DTYPE_Q5_K },
    { QUANT_IQ4_NL, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },

    { QUANT_IQ4_XS, ATTN_V, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_IQ4_XS, ATTN_V, GQA_4, DTYPE_Q5_K },
    { QUANT_IQ4_XS, ATTN_K, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_IQ4_XS, FFN_DOWN, BLIND_FIRST_8TH, DTYPE_Q5_K },
    { QUANT_IQ4_XS, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },

    { QUANT_TQ1_0, EMBD, ALWAYS, DTYPE_Q4_K },
    { QUANT_TQ2_0, EMBD, ALWAYS, DTYPE_Q4_K },

    { QUANT_MXFP4, OUTPUT, ALWAYS, DTYPE_Q8_0 },
    { QUANT_MXFP4, EMBD, ALWAYS, DTYPE_Q8_0 },
    { QUANT_MXFP4_MOE, EXPERTS, ALWAYS, DTYPE_MXFP4 },
    { QUANT_NVFP4, OUTPUT, ALWAYS, DTYPE_Q8_0 },
    { QUANT_NVFP4, EMBD, ALWAYS, DTYPE_Q8_0 },

    { QUANT_Q4_0, FFN_DOWN, SEEING_FIRST_8TH, DTYPE_Q4_1 },
    { QUANT_Q5_0, FFN_DOWN, SEEING_FIRST_8TH, DTYPE_Q5_1 },

    { QUANT_Q2_K, ATTN_V, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_Q2_K, ATTN_V, GQA_4, DTYPE_Q4_K },
    { QUANT_Q2_K, ATTN_V, ALWAYS, DTYPE_Q3_K },
    { QUANT_Q2_K, FFN_DOWN, ALWAYS, DTYPE_Q3_K },
    { QUANT_Q2_K, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },
    { QUANT_Q2_K, ATTN_OUT, ALWAYS, DTYPE_Q3_K },

    { QUANT_Q2_K_S, ATTN_V, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_Q2_K_S, ATTN_V, GQA_4, DTYPE_Q4_K },
    { QUANT_Q2_K_S, FFN_DOWN, FIRST_8TH, DTYPE_Q4_K },

    { QUANT_Q3_K_S, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },

    { QUANT_Q3_K_M, ATTN_V, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_Q3_K_M, ATTN_V, FIRST_2, DTYPE_Q5_K },
    { QUANT_Q3_K_M, ATTN_V, ALWAYS, DTYPE_Q4_K },
    { QUANT_Q3_K_M, FFN_DOWN, FIRST_16TH, DTYPE_Q5_K },
    { QUANT_Q3_K_M, FFN_DOWN, ALWAYS, DTYPE_Q4_K },
    { QUANT_Q3_K_M, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },
    { QUANT_Q3_K_M, ATTN_OUT, ALWAYS, DTYPE_Q4_K },
    { QUANT_Q3_K_M, ATTN_QKV, ALWAYS, DTYPE_Q4_K },

    { QUANT_Q3_K_L, ATTN_V, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_Q3_K_L, ATTN_V, ALWAYS, DTYPE_Q5_K },
    { QUANT_Q3_K_L, FFN_DOWN, ALWAYS, DTYPE_Q5_K },
    { QUANT_Q3_K_L, ATTN_OUT, EXPERTS_8, DTYPE_Q3_K },
    { QUANT_Q3_K_L, ATTN_OUT, ALWAYS, DTYPE_Q5_K },
    { QUANT_Q3_K_L, ATTN_QKV, ALWAYS, DTYPE_Q4_K },

    { QUANT_Q4_K_S, ATTN_V, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_Q4_K_S, ATTN_V, FIRST_4, DTYPE_Q5_K },
    { QUANT_Q4_K_S, FFN_DOWN, FIRST_8TH, DTYPE_Q5_K },
    { QUANT_Q4_K_S, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },

    { QUANT_Q4_K_M, ATTN_V, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_Q4_K_M, ATTN_V, MORE_BITS, DTYPE_Q6_K },
    { QUANT_Q4_K_M, FFN_DOWN, MORE_BITS, DTYPE_Q6_K },
    { QUANT_Q4_K_M, ATTN_OUT, EXPERTS_8, DTYPE_Q5_K },
    { QUANT_Q4_K_M, ATTN_QKV, ALWAYS, DTYPE_Q5_K },

    { QUANT_Q5_K_M, ATTN_V, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_Q5_K_M, ATTN_V, MORE_BITS, DTYPE_Q6_K },
    { QUANT_Q5_K_M, FFN_DOWN, MORE_BITS, DTYPE_Q6_K },
    { QUANT_Q5_K_M, ATTN_QKV, ALWAYS, DTYPE_Q6_K },

    /* of every mix that said nothing else so far */
    { QUANT_MIX_COUNT, ATTN_V, EXPERTS_8, DTYPE_Q8_0 },
    { QUANT_MIX_COUNT, ATTN_K, EXPERTS_8, DTYPE_Q8_0 },
};

const struct quant_mix_info *quant_mix_info(enum quant_mix mix)
{
    return &infos[mix];
}

bool quant_mix_parse(const char *name, enum quant_mix *out)
{
    static const struct { const char *name; enum quant_mix mix; } short_names[] = {
        { "Q3_K", QUANT_Q3_K_M }, { "Q4_K", QUANT_Q4_K_M }, { "Q5_K", QUANT_Q5_K_M }
    };

    for (int i = 0; i < QUANT_MIX_COUNT; i++) {
        if (strcasecmp(infos[i].name, name) == 0) {
            *out = (enum quant_mix)i;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof short_names / sizeof short_names[0]; i++) {
        if (strcasecmp(short_names[i].name, name) == 0) {
            *out = short_names[i].mix;
            return true;
        }
    }
    return false;
}

static bool has(struct sv name, const char *part)
{
    return name.len > 0 && memmem(name.data, name.len, part, strlen(part)) != NULL;
}

bool quant_mix_applies(struct sv name, int n_dims)
{
    static const char *const kept[] = {
        "_norm.weight", "ffn_gate_inp", "position_embd.weight", "token_types.weight", "altup",
        "laurel", "per_layer_model_proj", "ssm_conv1d", "shortconv.conv.weight", "time_mix_first",
        "time_mix_w0", "time_mix_w1", "time_mix_w2", "time_mix_v0", "time_mix_v1", "time_mix_v2",
        "time_mix_a0", "time_mix_a1", "time_mix_a2", "time_mix_g1", "time_mix_g2",
        "time_mix_decay_w1", "time_mix_decay_w2", "time_mix_lerp_fused", "attn_rel_b.weight",
    };

    if (n_dims < 2 || !sv_ends(name, SV("weight")))
        return false;
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        if (has(name, kept[i]))
            return false;
    }
    return true;
}

static enum role role_of(enum quant_mix mix, const struct quant_model *m, struct sv name,
                         int n_dims)
{
    static const struct { const char *part; enum role role; } parts[] = {
        { "attn_v.weight", ATTN_V }, { "attn_k.weight", ATTN_K }, { "attn_q.weight", ATTN_Q },
        { "ffn_down", FFN_DOWN }, { "attn_output.weight", ATTN_OUT },
        { "attn_qkv.weight", ATTN_QKV }, { "ffn_gate", FFN_GATE_UP }, { "ffn_up", FFN_GATE_UP },
    };

    if (sv_eq_cstr(name, "output.weight"))
        return OUTPUT;
    if (sv_eq_cstr(name, "token_embd.weight"))
        return m->tied ? OUTPUT : EMBD;
    if (sv_eq_cstr(name, "per_layer_token_embd.weight"))
        return EMBD;
    if (mix == QUANT_MXFP4_MOE)
        return n_dims > 2 ? EXPERTS : OTHER;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (has(name, parts[i].part))
            return parts[i].role;
    }
    return OTHER;
}

/* "blk.7.…" is 7; a name without a layer counts as the last but never as the first. */
static uint32_t layer_of(struct sv name, uint32_t n_layers)
{
    uint32_t layer = 0;
    size_t i = 4;

    if (!sv_starts(name, SV("blk.")))
        return n_layers;
    for (; i < name.len && name.data[i] >= '0' && name.data[i] <= '9' && layer < 1u << 20; i++)
        layer = 10 * layer + (uint32_t)(name.data[i] - '0');
    return i > 4 ? layer : n_layers;
}

/* The first and the last eighth, and every third layer between them. */
static bool more_bits(uint32_t layer, uint32_t n)
{
    return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
}

static bool holds(enum when when, const struct quant_model *m, uint32_t layer)
{
    const uint32_t n = m->n_layers;

    switch (when) {
    case FIRST_2:             return layer < 2;
    case FIRST_4:             return layer < 4;
    case FIRST_8TH:           return layer < n / 8;
    case FIRST_16TH:          return layer < n / 16;
    case BLIND:               return !m->importance;
    case BLIND_FIRST_8TH:     return !m->importance && layer < n / 8;
    case SEEING_FIRST_8TH:    return m->importance && layer < n / 8;
    case MIDDLE:              return layer >= n / 8 && layer < 7 * n / 8;
    case MORE_BITS:           return more_bits(layer, n);
    case GQA_4:               return m->n_gqa >= 4;
    case GQA_4_OR_EXPERTS_4:  return m->n_gqa >= 4 || m->n_experts >= 4;
    case EXPERTS_8:           return m->n_experts == 8;
    case EXPERTS_8_MORE_BITS: return m->n_experts == 8 && more_bits(layer, n);
    case ALWAYS:              break;
    }
    return true;
}

static bool whole_blocks(enum dtype dtype, int64_t row)
{
    return row % (int64_t)dtype_info((uint32_t)dtype)->block_elems == 0;
}

/* For rows that are no whole blocks of 256: types of 32 with about as many bits. */
static enum dtype fitting(enum dtype dtype, int64_t row)
{
    if (whole_blocks(dtype, row))
        return dtype;
    switch (dtype) {
    case DTYPE_TQ1_0:
    case DTYPE_TQ2_0:
    case DTYPE_NVFP4:
        dtype = DTYPE_Q4_0;
        break;
    case DTYPE_Q4_K:
        dtype = DTYPE_Q5_0;
        break;
    case DTYPE_Q5_K:
        dtype = DTYPE_Q5_1;
        break;
    case DTYPE_Q6_K:
        dtype = DTYPE_Q8_0;
        break;
    default:
        dtype = DTYPE_IQ4_NL;
        break;
    }
    return whole_blocks(dtype, row) ? dtype : DTYPE_F16;
}

/* Output matrices that no rule names: Q6_K, or Q8_0 where that is the base or
 * where rows don't fit the base. */
static enum dtype output_type(enum dtype base, int64_t row)
{
    return base == DTYPE_Q8_0 || !whole_blocks(base, row) ? DTYPE_Q8_0 : DTYPE_Q6_K;
}

enum dtype quant_mix_pick(enum quant_mix mix, const struct quant_model *m, struct sv name,
                          int n_dims, int64_t row)
{
    const enum dtype base = infos[mix].base;
    enum dtype type = base;
    uint32_t layer;
    enum role role;

    if (!quant_mix_applies(name, n_dims))
        return DTYPE_F32;
    if (mix == QUANT_F32 || mix == QUANT_F16 || mix == QUANT_BF16)
        return base;
    role = role_of(mix, m, name, n_dims);
    layer = layer_of(name, m->n_layers);
    if (role == OUTPUT)
        type = output_type(base, row);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        const struct rule *r = &rules[i];

        if ((r->mix == mix || r->mix == QUANT_MIX_COUNT) && r->role == role &&
            holds((enum when)r->when, m, layer) && (role != OUTPUT || type != DTYPE_Q8_0)) {
            type = (enum dtype)r->then;
            break;
        }
    }
    /* 80 layers that share keys and values, as the 70B models: attn_v is an
     * eighth of attn_q, so more bits cost next to nothing. */
    if (role == ATTN_V && m->n_layers == 80 && m->n_gqa > 1 &&
        !(mix >= QUANT_IQ1_S && mix <= QUANT_IQ2_M) && (type == DTYPE_Q3_K || type == DTYPE_Q4_K))
        type = DTYPE_Q5_K;
    return fitting(type, row);
}
