/* family_gemma.c: Gemma 1 to 3: gains are stored less 1, the head is the embedding. */
#include <math.h>

#include "models/hf/internal.h"

static const struct hf_expect tied[] = { { "tie_word_embeddings", "true|" }, { 0 } };

const struct hf_family hf_family_gemma = {
    .arch = "gemma", .acts = "gelu_pytorch_tanh|gelu|", .expect = tied, .flags = HF_NORMS_ADD1 | HF_TANH_GELU,
};

static const struct hf_name gemma2_names[] = {
    { "layers.#.post_attention_layernorm", "blk.#.post_attention_norm", 0 },
    { "layers.#.pre_feedforward_layernorm", "blk.#.ffn_norm", 0 },
    { "layers.#.post_feedforward_layernorm", "blk.#.post_ffw_norm", 0 },
    { 0 }
};

/* Which layers have windows is part of the architecture; a list that says otherwise is refused. */
static int check_windows(struct hf *h, uint32_t period, struct err *e)
{
    struct json_place types;
    int rc = hf_field(h, "layer_types", &types, e);

    for (uint32_t i = 0; rc == 0 && types.value && i < h->n_layers; i++)
        if (hf_layer_is(h, "layer_types", i, "full_attention") != (i % period == period - 1))
            return json_refuse(&types, e, WATT_ENOTSUP, "full attention in other layers than every "
                               "%u.", period);
    return rc;
}

/* Scores are scaled by a number of their own where that is not the head's width. */
static int put_scale(struct hf *h, struct err *e)
{
    float scalar;
    int rc = hf_f32(h, "query_pre_attn_scalar", (float)h->head_dim, &scalar, e);

    if (rc == 0 && !(scalar > 0))
        return json_refuse(&h->text, e, WATT_EFORMAT, "query_pre_attn_scalar is %g",
                           (double)scalar);
    if (rc == 0 && scalar != (float)h->head_dim)
        hf_put_f32(h, "attention.scale", 1 / sqrtf(scalar));
    return rc;
}

static int gemma2_more(struct hf *h, struct err *e)
{
    int rc = check_windows(h, 2, e);

    h->tied = true;
    return rc == 0 ? put_scale(h, e) : rc;
}
const struct hf_family hf_family_gemma2 = {
    .arch = "gemma2", .names = gemma2_names, .acts = "gelu_pytorch_tanh|gelu|", .expect = tied,
    .flags = HF_NORMS_ADD1 | HF_TANH_GELU, .more = gemma2_more,
};

static const struct hf_key gemma3_keys[] = {
    { "context_length", 'u', "max_position_embeddings", 0 },
    { 0 }
};
static int gemma3_more(struct hf *h, struct err *e)
{
    int rc = check_windows(h, 6, e);

    h->tied = true;
    return rc == 0 ? put_scale(h, e) : rc;
}
static const struct hf_expect gemma3_expect[] = {
    { "tie_word_embeddings", "true|" }, { "use_bidirectional_attention", "false|" },
    { "attn_logit_softcapping", "" }, { 0 }
};
const struct hf_family hf_family_gemma3 = {
    .arch = "gemma3", .names = gemma2_names, .keys = gemma3_keys,
    .acts = "gelu_pytorch_tanh|gelu|", .expect = gemma3_expect, .flags = HF_NORMS_ADD1 | HF_TANH_GELU,
    .more = gemma3_more,
};
