/* family_encoder.c: BERT, ModernBERT, the encoder of T5. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "models/hf/internal.h"

/* sentence-transformers' 1_Pooling/config.json; without one rows are not pooled. */
static int put_pooling(struct hf *h, struct err *e)
{
    static const struct { const char *field; uint32_t type; } kinds[] = {
        { "pooling_mode_mean_tokens", 1 }, { "pooling_mode_cls_token", 2 },
        { "pooling_mode_lasttoken", 3 },
    };
    const struct json_limits limits = { HF_MAX_CONFIG_BYTES, HF_MAX_DEPTH };
    struct json_place root;
    struct str path;
    json_t *document = NULL;
    char *bytes;
    size_t n;
    int rc = 0;

    str_init(&path, 0);
    if (!hf_path(h, "1_Pooling/config.json", &path))
        rc = err_set(e, WATT_ENOMEM, "%s: out of memory", h->dir);
    else
        rc = file_read(str_cstr(&path), HF_MAX_CONFIG_BYTES, &bytes, &n, e);
    if (rc == WATT_ENOENT) {
        str_deinit(&path);
        return 0;
    }
    if (rc == 0) {
        rc = json_parse(&document, str_cstr(&path), bytes, n, &limits, e);
        mem_free(bytes);
    }
    if (rc == 0) {
        root = json_root(document, str_cstr(&path));
        for (size_t i = 0; rc == 0 && i < sizeof kinds / sizeof *kinds; i++) {
            bool on;

            rc = json_get_bool(&root, kinds[i].field, false, &on, e);
            if (rc == 0 && on && !hf_has(h, "pooling_type"))
                hf_put_u32(h, "pooling_type", kinds[i].type);
        }
    }
    json_close(document);
    str_deinit(&path);
    return rc;
}

/* ---- BERT ---- */

static const struct hf_name bert_names[] = {
    { "embeddings.word_embeddings", "token_embd", 0 },
    { "embeddings.position_embeddings", "position_embd", 0 },
    { "embeddings.token_type_embeddings", "token_types", 0 },
    { "embeddings.LayerNorm", "token_embd_norm", 0 },
    { "embeddings.position_ids", "", HF_DROP },
    { "encoder.layer.#.attention.self.query", "blk.#.attn_q", 0 },
    { "encoder.layer.#.attention.self.key", "blk.#.attn_k", 0 },
    { "encoder.layer.#.attention.self.value", "blk.#.attn_v", 0 },
    { "encoder.layer.#.attention.output.dense", "blk.#.attn_output", 0 },
    { "encoder.layer.#.attention.output.LayerNorm", "blk.#.attn_output_norm", 0 },
    { "encoder.layer.#.intermediate.dense", "blk.#.ffn_up", 0 },
    { "encoder.layer.#.output.dense", "blk.#.ffn_down", 0 },
    { "encoder.layer.#.output.LayerNorm", "blk.#.layer_output_norm", 0 },
    { "pooler.dense", "", HF_DROP },
    { "cls.predictions.bias", "", HF_DROP },
    { "cls.predictions.decoder", "", HF_DROP },
    { "cls.predictions.transform.dense", "", HF_DROP },
    { "cls.predictions.transform.LayerNorm", "", HF_DROP },
    { 0 }
};
static int bert_more(struct hf *h, struct err *e)
{
    uint32_t n_types;
    int rc = hf_u32(h, "type_vocab_size", 2, &n_types, e);

    if (rc < 0)
        return rc;
    h->n_kv_heads = h->n_heads;
    hf_put_bool(h, "attention.causal", false);
    gguf_make_u32(h->out, "tokenizer.ggml.token_type_count", n_types);
    return put_pooling(h, e);
}
static const struct hf_expect bert_expect[] = {
    { "position_embedding_type", "absolute|" }, { "is_decoder", "false|" }, { 0 }
};
const struct hf_family hf_family_bert = {
    .arch = "bert", .names = bert_names, .acts = "gelu", .expect = bert_expect,
    .flags = HF_LAYER_NORM | HF_NO_ROPE | HF_ENCODER, .more = bert_more,
};

/* ---- ModernBERT ---- */

static const struct hf_name modern_bert_names[] = {
    { "embeddings.tok_embeddings", "token_embd", 0 },
    { "embeddings.norm", "token_embd_norm", 0 },
    { "final_norm", "output_norm", 0 },
    { "layers.#.attn_norm", "blk.#.attn_norm", 0 },
    { "layers.#.attn.Wqkv", "blk.#.attn_qkv", 0 },
    { "layers.#.attn.Wo", "blk.#.attn_output", 0 },
    { "layers.#.mlp_norm", "blk.#.ffn_norm", 0 },
    { "layers.#.mlp.Wi", "blk.#.ffn_up", 0 },
    { "layers.#.mlp.Wo", "blk.#.ffn_down", 0 },
    { "head.dense", "", HF_DROP },
    { "head.norm", "", HF_DROP },
    { "decoder", "", HF_DROP },
    { 0 }
};
static int modern_bert_more(struct hf *h, struct err *e)
{
    uint32_t window;
    int rc = hf_u32(h, "local_attention", 128, &window, e);

    if (rc < 0)
        return rc;
    h->n_kv_heads = h->n_heads;
    hf_put_bool(h, "attention.causal", false);
    hf_put_u32(h, "attention.sliding_window", window);
    return put_pooling(h, e);
}
static const struct hf_expect modern_bert_expect[] = {
    { "global_attn_every_n_layers", "3|" }, { "norm_bias", "false|" }, { 0 }
};
const struct hf_family hf_family_modern_bert = {
    .arch = "modern-bert", .names = modern_bert_names, .acts = "gelu|",
    .expect = modern_bert_expect, .flags = HF_LAYER_NORM | HF_ENCODER, .more = modern_bert_more,
};

/* ---- T5 ---- */

static const struct hf_name t5_names[] = {
    { "shared", "token_embd", 0 },
    { "encoder.embed_tokens", "", HF_DROP },
    { "encoder.final_layer_norm", "enc.output_norm", 0 },
    { "encoder.block.#.layer.0.layer_norm", "enc.blk.#.attn_norm", 0 },
    { "encoder.block.#.layer.0.SelfAttention.q", "enc.blk.#.attn_q", 0 },
    { "encoder.block.#.layer.0.SelfAttention.k", "enc.blk.#.attn_k", 0 },
    { "encoder.block.#.layer.0.SelfAttention.v", "enc.blk.#.attn_v", 0 },
    { "encoder.block.#.layer.0.SelfAttention.o", "enc.blk.#.attn_o", 0 },
    { "encoder.block.#.layer.0.SelfAttention.relative_attention_bias", "enc.blk.#.attn_rel_b", 0 },
    { "encoder.block.#.layer.1.layer_norm", "enc.blk.#.ffn_norm", 0 },
    { "encoder.block.#.layer.1.DenseReluDense.wi", "enc.blk.#.ffn_up", 0 },
    { "encoder.block.#.layer.1.DenseReluDense.wi_0", "enc.blk.#.ffn_gate", 0 },
    { "encoder.block.#.layer.1.DenseReluDense.wi_1", "enc.blk.#.ffn_up", 0 },
    { "encoder.block.#.layer.1.DenseReluDense.wo", "enc.blk.#.ffn_down", 0 },
    { 0 }
};
static const struct hf_key t5_keys[] = {
    { "context_length", 'u', "n_positions", 0 },
    { "attention.relative_buckets_count", 'u', "relative_attention_num_buckets", 0 },
    { "attention.head_count", 'u', "num_heads", 0 },
    { "attention.key_length", 'u', "d_kv", 0 },
    { "attention.value_length", 'u', "d_kv", 0 },
    { 0 }
};
static const struct hf_expect t5_expect[] = {
    { "feed_forward_proj", "relu|gated-gelu|" }, { "relative_attention_max_distance", "128|" },
    { 0 }
};
const struct hf_family hf_family_t5encoder = {
    .arch = "t5encoder", .names = t5_names, .keys = t5_keys, .expect = t5_expect,
    .flags = HF_NO_ROPE | HF_ENCODER | HF_NO_HEAD_DIM,
};
