/* family_gemma.c: Gemma 1 to 3n: the head is the embedding, gains are stored less 1 (not 3n's). */
#include <inttypes.h>
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

/* ---- Gemma 3n ---- */

static const struct hf_name gemma3n_names[] = {
    { "layers.#.post_attention_layernorm", "blk.#.post_attention_norm", 0 },
    { "layers.#.pre_feedforward_layernorm", "blk.#.ffn_norm", 0 },
    { "layers.#.post_feedforward_layernorm", "blk.#.post_ffw_norm", 0 },
    { "embed_tokens_per_layer.weight", "per_layer_token_embd.weight", HF_TO_VOCAB },
    { "per_layer_model_projection", "per_layer_model_proj", 0 },
    { "per_layer_projection_norm", "per_layer_proj_norm", 0 },
    { "altup_projections.*", "altup_proj", 0 },
    { "altup_unembed_projections.*", "altup_unembd_proj", 0 },
    { "layers.#.altup.correct_output_scale", "blk.#.altup_correct_scale.weight", 0 },
    { "layers.#.altup.correction_coefs", "blk.#.altup_correct_coef", 0 },
    { "layers.#.altup.prediction_coefs", "blk.#.altup_predict_coef", 0 },
    { "layers.#.altup.modality_router", "blk.#.altup_router", 0 },
    { "layers.#.altup.router_norm", "blk.#.altup_router_norm", 0 },
    { "layers.#.laurel.linear_left", "blk.#.laurel_l", 0 },
    { "layers.#.laurel.linear_right", "blk.#.laurel_r", 0 },
    { "layers.#.laurel.post_laurel_norm", "blk.#.laurel_post_norm", 0 },
    { "layers.#.per_layer_input_gate", "blk.#.inp_gate", 0 },
    { "layers.#.per_layer_projection", "blk.#.proj", 0 },
    { "layers.#.post_per_layer_input_norm", "blk.#.post_norm", 0 },
    { 0 }
};
static const struct hf_key gemma3n_keys[] = {
    { "altup.active_idx", 'u', "altup_active_idx", 0 },
    { "altup.num_inputs", 'u', "altup_num_inputs", 0 },
    { "embedding_length_per_layer_input", 'u', "hidden_size_per_layer_input", 0 },
    { "attention.shared_kv_layers", 'u', "num_kv_shared_layers", 0 },
    { 0 }
};
static const struct hf_expect gemma3n_expect[] = {
    { "tie_word_embeddings", "true|" }, { "altup_correct_scale", "true|" }, { 0 }
};

/* z with this share of a normal distribution below it. */
static float deviations(double share)
{
    double low = -40, high = 40;

    if (share <= 0)
        return -INFINITY;
    for (int i = 0; i < 100; i++) {
        const double z = 0.5 * (low + high);

        if (0.5 * erfc(-z / sqrt(2)) < share)
            low = z;
        else
            high = z;
    }
    return (float)high;
}

/* A field that has a value for each layer, or one for all. */
static int each_layer(struct hf *h, const char *field, double most, double *out, struct err *e)
{
    struct json_place list, item;
    size_t n;
    int rc = hf_field(h, field, &list, e);

    if (rc < 0)
        return rc;
    if (!list.value)
        return json_refuse(&h->text, e, WATT_EFORMAT, "%s is missing", field);
    if (!json_is_array(list.value)) {
        rc = json_read_double(&list, 0, most, out, e);
        for (uint32_t i = 1; i < h->n_layers; i++)
            out[i] = out[0];
        return rc;
    }
    rc = json_read_array(&list, h->n_layers, &n, e);
    if (rc == 0 && n != h->n_layers)
        return json_refuse(&list, e, WATT_EFORMAT, "has %zu values for %" PRIu32 " layers", n, h->n_layers);
    for (uint32_t i = 0; rc == 0 && i < h->n_layers; i++) {
        item = json_item(&list, i);
        rc = json_read_double(&item, 0, most, &out[i], e);
    }
    return rc;
}

struct layers { double *v; float *cutoff; uint32_t *width; bool *local; };

static int put_layers(struct hf *h, const struct layers *l, struct err *e)
{
    const uint32_t n = h->n_layers;
    int rc;

    for (uint32_t i = 0; i < n; i++) {
        l->local[i] = hf_layer_is(h, "layer_types", i, "sliding_attention");
        if (!l->local[i] && !hf_layer_is(h, "layer_types", i, "full_attention"))
            return json_refuse(&h->text, e, WATT_EFORMAT, "layer_types[%" PRIu32 "] is neither "
                               "\"sliding_attention\" nor \"full_attention\"", i);
    }
    rc = each_layer(h, "activation_sparsity_pattern", 0.999999, l->v, e);

    for (uint32_t i = 0; rc == 0 && i < n; i++)
        l->cutoff[i] = deviations(l->v[i]);
    if (rc == 0)
        rc = each_layer(h, "intermediate_size", 1 << 24, l->v, e);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < n; i++)
        l->width[i] = (uint32_t)l->v[i];
    hf_put_array(h, "activation_sparsity_scale", GGUF_F32, l->cutoff, n);
    hf_put_array(h, "feed_forward_length", GGUF_U32, l->width, n);
    hf_put_array(h, "attention.sliding_window_pattern", GGUF_BOOL, l->local, n);
    return 0;
}

static int gemma3n_more(struct hf *h, struct err *e)
{
    struct layers l = { mem_array(h->n_layers, sizeof *l.v), mem_array(h->n_layers, sizeof *l.cutoff),
                        mem_array(h->n_layers, sizeof *l.width), mem_array(h->n_layers, sizeof *l.local) };
    uint32_t streams = 0;
    int rc = l.v && l.cutoff && l.width && l.local ? put_layers(h, &l, e)
                                                   : err_set(e, WATT_ENOMEM, "%s: out of memory", h->dir);

    mem_free(l.v);
    mem_free(l.cutoff);
    mem_free(l.width);
    mem_free(l.local);
    if (rc == 0)
        rc = hf_u32(h, "altup_num_inputs", 4, &streams, e);
    if (rc == 0 && (streams < 2 || streams > 16))
        return json_refuse(&h->text, e, WATT_EFORMAT, "altup_num_inputs is %" PRIu32 ", expected 2 to 16",
                           streams);
    h->n_experts = streams - 1;     /* matrices that become one tensor */
    h->tied = true;
    return rc;
}
const struct hf_family hf_family_gemma3n = {
    .arch = "gemma3n", .names = gemma3n_names, .keys = gemma3n_keys, .expect = gemma3n_expect,
    .acts = "gelu_pytorch_tanh|", .more = gemma3n_more,
};
