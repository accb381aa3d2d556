/* synth_keys.c: keys of a model of random weights; see synth_internal.h. */
#include "models/synth_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct keys {
    const struct synth_sink *to;
    const char              *arch;
    struct err              *e;
    int                      rc;    /* the first failure; later calls do nothing */
};

/* name: under the architecture's prefix, but those with a prefix of their own. */
static const char *full_key(const struct keys *k, char buf[96], const char *name)
{
    static const char *const own[] = { "general.", "tokenizer.", "diffusion." };

    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strncmp(name, own[i], strlen(own[i])) == 0)
            return name;
    (void)snprintf(buf, 96, "%s.%s", k->arch, name);
    return buf;
}

static void put_u32(struct keys *k, const char *name, uint32_t v)
{
    char buf[96];
    const char *key = full_key(k, buf, name);

    if (k->rc == 0 && k->to->make)
        gguf_make_u32(k->to->make, key, v);
    else if (k->rc == 0)
        k->rc = gguf_writer_u32(k->to->writer, key, v, k->e);
}

static void put_f32(struct keys *k, const char *name, float v)
{
    char buf[96];
    const char *key = full_key(k, buf, name);

    if (k->rc == 0 && k->to->make)
        gguf_make_f32(k->to->make, key, v);
    else if (k->rc == 0)
        k->rc = gguf_writer_f32(k->to->writer, key, v, k->e);
}

static void put_bool(struct keys *k, const char *name, bool v)
{
    char buf[96];
    const char *key = full_key(k, buf, name);

    if (k->rc == 0 && k->to->make)
        gguf_make_bool(k->to->make, key, v);
    else if (k->rc == 0)
        k->rc = gguf_writer_bool(k->to->writer, key, v, k->e);
}

static void put_str(struct keys *k, const char *name, const char *v)
{
    char buf[96];
    const char *key = full_key(k, buf, name);

    if (k->rc == 0 && k->to->make)
        gguf_make_str(k->to->make, key, sv_cstr(v));
    else if (k->rc == 0)
        k->rc = gguf_writer_str(k->to->writer, key, sv_cstr(v), k->e);
}

static void put_general(struct keys *k, const struct shape *s, const struct synth_opts *o)
{
    char text[96];

    put_str(k, "general.architecture", s->arch);
    put_str(k, "general.name", s->name);
    (void)snprintf(text, sizeof text, "random weights, seed %" PRIu64, o->seed);
    put_str(k, "general.description", text);
    put_u32(k, "general.file_type", quant_mix_info(o->mix)->file_type);
    put_u32(k, "general.quantization_version", 2);
}

static void put_attention(struct keys *k, const struct shape *s)
{
    if (s->features & SHAPE_BARE) {
        put_f32(k, "attention.layer_norm_rms_epsilon", s->norm_eps);
    } else if (s->features & SHAPE_GPT2) {
        put_f32(k, "attention.layer_norm_epsilon", s->norm_eps);
    } else {
        put_u32(k, "attention.key_length", s->head_dim);
        put_u32(k, "attention.value_length", s->head_dim);
        put_f32(k, "attention.layer_norm_rms_epsilon", s->norm_eps);
    }
    if (s->window)
        put_u32(k, "attention.sliding_window", s->window);
}

static void put_rope(struct keys *k, const struct shape *s)
{
    if (s->features & (SHAPE_GPT2 | SHAPE_BARE))
        return;
    put_u32(k, "rope.dimension_count", s->head_dim);
    put_f32(k, "rope.freq_base", s->rope_base);
    if (s->rope == SHAPE_ROPE_LINEAR || s->rope == SHAPE_ROPE_YARN) {
        put_str(k, "rope.scaling.type", s->rope == SHAPE_ROPE_YARN ? "yarn" : "linear");
        put_f32(k, "rope.scaling.factor", s->rope_factor);
        put_u32(k, "rope.scaling.original_context_length", s->rope_ctx);
    }
}

static void put_mamba2(struct keys *k, const struct shape *s)
{
    if (!(s->features & SHAPE_MAMBA2))
        return;
    put_u32(k, "ssm.inner_size", s->ssm_inner);
    put_u32(k, "ssm.state_size", s->ssm_state);
    put_u32(k, "ssm.time_step_rank", s->ssm_heads);
    put_u32(k, "ssm.group_count", s->ssm_groups);
    put_u32(k, "ssm.conv_kernel", s->ssm_conv);
}

/* The last of the reserved tokens is the mask. */
static void put_diffusion(struct keys *k, const struct shape *s)
{
    if (!(s->features & SHAPE_DIFFUSION))
        return;
    put_bool(k, "diffusion.shift_logits", s->features & SHAPE_SHIFTED);
    if (s->n_vocab >= SYNTH_VOCAB_MIN)
        put_u32(k, "tokenizer.ggml.mask_token_id", s->n_vocab - 1);
}

int synth_keys(const struct synth_sink *to, const struct shape *s, const struct synth_opts *o,
               struct err *e)
{
    struct keys k = { to, s->arch, e, 0 };

    if (o)
        put_general(&k, s, o);
    put_u32(&k, "vocab_size", s->n_vocab);
    put_u32(&k, "context_length", s->n_ctx);
    put_u32(&k, "embedding_length", s->n_embd);
    put_u32(&k, "block_count", s->n_layers);
    if (!(s->features & SHAPE_BARE)) {
        put_u32(&k, "feed_forward_length", s->n_ff);
        put_u32(&k, "attention.head_count", s->n_heads);
        put_u32(&k, "attention.head_count_kv", s->n_kv_heads);
    }
    put_mamba2(&k, s);
    put_attention(&k, s);
    if (s->n_experts) {
        put_u32(&k, "expert_count", s->n_experts);
        put_u32(&k, "expert_used_count", s->n_experts_used);
        put_u32(&k, "expert_feed_forward_length", s->n_ff);
    }
    put_rope(&k, s);
    if (o)
        put_diffusion(&k, s);
    return k.rc;
}
