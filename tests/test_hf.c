/* test_hf.c: Hugging Face folders: what becomes of names, orders and types; the same bits as the
 * GGUF file that is written from one; every way a folder can be wrong. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mem.h"
#include "hf_folder.h"
#include "models/hf/hf.h"
#include "models/model.h"
#include "models/quantise.h"
#include "models/session.h"
#include "models/tokenizer.h"

/* ---- a small Llama ---- */

#define LLAMA_BASE                                                                          \
    "\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":64,\"num_hidden_layers\":2,"      \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":96,"                  \
    "\"intermediate_size\":64,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":64"
#define LLAMA "{" LLAMA_BASE ",\"tie_word_embeddings\":true}"

static void add_llama(struct hf_shard *s, const char *type, uint32_t layer)
{
    static const struct { const char *name, *shape; size_t n; } all[] = {
        { "input_layernorm", "[64]", 64 }, { "post_attention_layernorm", "[64]", 64 },
        { "self_attn.q_proj", "[64,64]", 4096 }, { "self_attn.k_proj", "[32,64]", 2048 },
        { "self_attn.v_proj", "[32,64]", 2048 }, { "self_attn.o_proj", "[64,64]", 4096 },
        { "mlp.gate_proj", "[64,64]", 4096 }, { "mlp.up_proj", "[64,64]", 4096 },
        { "mlp.down_proj", "[64,64]", 4096 },
    };
    char name[96];

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        (void)snprintf(name, sizeof name, "model.layers.%u.%s.weight", layer, all[i].name);
        shard_random(s, name, type, all[i].shape, all[i].n);
    }
}

static void put_llama(const char *config, const char *type)
{
    struct hf_shard s;

    hf_puts("config.json", config);
    shard_begin(&s, 5);
    shard_random(&s, "model.embed_tokens.weight", type, "[96,64]", 96 * 64);
    shard_random(&s, "model.norm.weight", type, "[64]", 64);
    add_llama(&s, type, 0);
    add_llama(&s, type, 1);
    shard_end(&s, "model.safetensors");
}

static struct gguf *open_folder(void)
{
    struct gguf *g = NULL;
    struct err e = { 0 };

    if (hf_open(&g, hf_dir, NULL, &e) < 0)
        fail_msg("%s", e.msg);
    return g;
}

static const struct tensor *tensor_of(const struct gguf *g, const char *name)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, name);

    if (!t)
        fail_msg("no tensor %s", name);
    return &t->t;
}

/* Row r of a matrix as floats. */
static const float *row_of(const struct gguf *g, const char *name, int64_t r)
{
    static float x[1024];
    const struct tensor *t = tensor_of(g, name);
    const struct dtype_info *info = dtype_info((uint32_t)t->dtype);
    const int64_t n = tensor_row(t);

    assert_true(n <= 1024);
    info->dequant(x, (const uint8_t *)t->data + (uint64_t)(r * n) / info->block_elems *
                         info->block_bytes, (size_t)n);
    return x;
}

static void same_file(const struct gguf *a, const struct gguf *b)
{
    assert_int_equal(gguf_n_tensors(a), gguf_n_tensors(b));
    for (size_t i = 0; i < gguf_n_tensors(a); i++) {
        const struct gguf_tensor *x = gguf_tensor_at(a, i), *y = gguf_tensor_at(b, i);

        assert_true(sv_eq(x->name, y->name));
        assert_int_equal(x->t.dtype, y->t.dtype);
        assert_int_equal(x->t.size_bytes, y->t.size_bytes);
        assert_memory_equal(x->t.data, y->t.data, x->t.size_bytes);
    }
    for (size_t i = 0; i < gguf_n_kv(a); i++) {
        const struct gguf_kv *x = gguf_kv_at(a, i), *y;
        char key[128];

        (void)snprintf(key, sizeof key, "%.*s", (int)x->key.len, x->key.data);
        y = gguf_find(b, key);
        if (!y || y->type != x->type || y->n != x->n || y->size_bytes != x->size_bytes ||
            memcmp(x->data, y->data, (size_t)x->size_bytes) != 0)
            fail_msg("key %s differs", key);
    }
}

/* Opens what `watt convert` would write. */
static struct gguf *converted(const struct gguf *g, const char *type)
{
    struct quantise_options o = { .keep = type == NULL, .keep_quantised = true };
    struct quantise_plan *p = NULL;
    struct team *team = NULL;
    struct gguf *out = NULL;
    struct err e = { 0 };
    int rc;

    if (type)
        assert_true(quant_mix_parse(type, &o.mix));
    rc = quantise_plan_open(&p, g, &o, &e);
    if (rc == 0)
        rc = team_open(&team, 1, &e);
    if (rc == 0)
        rc = quantise_run(p, hf_in("out.gguf"), team, NULL, NULL, &e);
    if (rc == 0)
        rc = gguf_open(&out, hf_in("out.gguf"), &e);
    if (rc < 0)
        fail_msg("%s", e.msg);
    team_close(team);
    quantise_plan_close(p);
    return out;
}

static void test_llama(void **state)
{
    struct gguf *g, *file;
    struct model *m = NULL;
    struct sv arch;
    struct err e = { 0 };
    uint32_t v;
    float raw[64];

    (void)state;
    put_llama(LLAMA, "F32");
    g = open_folder();
    assert_int_equal(gguf_get_str(g, "general.architecture", &arch, &e), 0);
    assert_true(sv_eq_cstr(arch, "llama"));
    assert_int_equal(gguf_get_u32(g, "llama.attention.head_count_kv", &v, &e), 0);
    assert_int_equal(v, 2);
    assert_int_equal(gguf_get_u32(g, "llama.rope.dimension_count", &v, &e), 0);
    assert_int_equal(v, 16);
    assert_null(gguf_find_tensor(g, "output.weight"));
    /* the embedding stays in its file; row 3 of a head's q is row 9 (half of 16, plus 1) */
    assert_true(gguf_part_fd(g, gguf_find_tensor(g, "token_embd.weight")->part) >= 0);
    assert_int_equal(gguf_part_fd(g, gguf_find_tensor(g, "blk.0.attn_q.weight")->part), -1);
    memcpy(raw, row_of(g, "blk.0.attn_q.weight", 16 + 3), sizeof raw);
    gguf_close(g);
    put_llama("{" LLAMA_BASE ",\"model_type\":\"qwen2\",\"tie_word_embeddings\":true}", "F32");
    hf_puts("config.json", "{\"architectures\":[\"Qwen2ForCausalLM\"],\"hidden_size\":64,"
            "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
            "\"vocab_size\":96,\"intermediate_size\":64,\"tie_word_embeddings\":true}");
    g = open_folder();      /* not permuted */
    assert_memory_equal(raw, row_of(g, "blk.0.attn_q.weight", 16 + 9), sizeof raw);
    gguf_close(g);

    put_llama(LLAMA, "F32");
    g = open_folder();
    file = converted(g, NULL);
    same_file(g, file);
    if (model_open_gguf(&m, g, NULL, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(model_n_warnings(m), 0);
    model_close(m);
    gguf_close(file);
}

static void test_bf16(void **state)
{
    struct gguf *g, *file;

    (void)state;
    put_llama(LLAMA, "BF16");
    g = open_folder();
    assert_int_equal(tensor_of(g, "blk.1.ffn_down.weight")->dtype, DTYPE_BF16);
    assert_int_equal(tensor_of(g, "blk.1.attn_q.weight")->dtype, DTYPE_BF16);
    assert_int_equal(tensor_of(g, "blk.1.attn_norm.weight")->dtype, DTYPE_F32);
    file = converted(g, NULL);
    same_file(g, file);
    gguf_close(file);
    file = converted(g, "Q8_0");
    assert_int_equal(tensor_of(file, "blk.1.ffn_down.weight")->dtype, DTYPE_Q8_0);
    assert_int_equal(tensor_of(file, "blk.1.ffn_norm.weight")->dtype, DTYPE_F32);
    gguf_close(file);
    gguf_close(g);
}

/* ---- GPT-2: matrices the other way round ---- */

static void test_gpt2(void **state)
{
    float values[32 * 96], bias[96];
    struct hf_shard s;
    struct gguf *g;
    const float *row;

    (void)state;
    for (int i = 0; i < 32 * 96; i++)
        values[i] = (float)i;
    for (int i = 0; i < 96; i++)
        bias[i] = (float)-i;
    hf_puts("config.json", "{\"architectures\":[\"GPT2LMHeadModel\"],\"n_embd\":32,\"n_layer\":1,"
            "\"n_head\":2,\"n_positions\":16,\"vocab_size\":8,\"activation_function\":\"gelu_new\"}");
    shard_begin(&s, 1);
    shard_add(&s, "h.0.attn.c_attn.weight", "F32", "[32,96]", values, sizeof values);
    shard_add(&s, "h.0.attn.c_attn.bias", "F32", "[96]", bias, sizeof bias);
    shard_add(&s, "h.0.attn.bias", "F32", "[1,1,4,4]", bias, 64);
    shard_random(&s, "wte.weight", "F32", "[8,32]", 256);
    shard_end(&s, "model.safetensors");
    g = open_folder();
    assert_int_equal(tensor_of(g, "blk.0.attn_qkv.weight")->shape[0], 96);
    row = row_of(g, "blk.0.attn_qkv.weight", 70);
    for (int i = 0; i < 32; i++)
        assert_float_equal(row[i], (float)(96 * i + 70), 0);
    assert_float_equal(row_of(g, "blk.0.attn_qkv.bias", 0)[5], -5, 0);
    assert_int_equal(gguf_n_tensors(g), 3);
    gguf_close(g);
}

/* ---- experts ---- */

static void put_experts(unsigned missing)
{
    struct hf_shard s;
    char name[96];

    hf_puts("config.json", "{\"architectures\":[\"MixtralForCausalLM\"],\"hidden_size\":32,"
            "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"vocab_size\":8,"
            "\"num_local_experts\":3,\"num_experts_per_tok\":2}");
    shard_begin(&s, 2);
    for (unsigned i = 0; i < 3; i++) {
        float x[32 * 32];

        for (int k = 0; k < 32 * 32; k++)
            x[k] = (float)(1000 * i) + (float)k;
        (void)snprintf(name, sizeof name, "model.layers.0.block_sparse_moe.experts.%u.w2.weight", i);
        if (i != missing)
            shard_add(&s, name, "F32", "[32,32]", x, sizeof x);
    }
    shard_end(&s, "model.safetensors");
}

static void test_experts(void **state)
{
    struct gguf *g;
    struct err e;

    (void)state;
    put_experts(9);
    g = open_folder();
    assert_int_equal(tensor_of(g, "blk.0.ffn_down_exps.weight")->n_dims, 3);
    assert_float_equal(row_of(g, "blk.0.ffn_down_exps.weight", 2 * 32 + 5)[7], 2000 + 5 * 32 + 7,
                       0);
    gguf_close(g);
    put_experts(1);
    assert_int_equal(hf_open(&g, hf_dir, NULL, &e), WATT_EFORMAT);
    assert_non_null(strstr(e.msg, "expert 1 of 3 is missing"));
}

/* ---- types ---- */

static void one_tensor(const char *extra, struct hf_shard *s)
{
    char config[1024];

    (void)snprintf(config, sizeof config, "{" LLAMA_BASE "%s}", extra);
    hf_puts("config.json", config);
    shard_end(s, "model.safetensors");
}

#define UP "model.layers.0.mlp.up_proj."

static void test_fp8(void **state)
{
    static const float ends[] = { 1, 448, -0.001953125f };      /* 38, 7E, 81 */
    uint8_t q[160 * 64];
    const float scale[] = { 2, 0.5f }, single = 4;
    struct hf_shard s;
    struct gguf *g;

    (void)state;
    for (int i = 0; i < 160 * 64; i++)
        q[i] = i % 3 == 0 ? 0x38 : i % 3 == 1 ? 0x7E : 0x81;
    shard_begin(&s, 1);
    shard_add(&s, UP "weight", "F8_E4M3", "[160,64]", q, sizeof q);
    shard_add(&s, UP "weight_scale_inv", "F32", "[2,1]", scale, sizeof scale);
    one_tensor(",\"quantization_config\":{\"quant_method\":\"fp8\","
               "\"weight_block_size\":[128,128]}", &s);
    g = open_folder();
    assert_int_equal(tensor_of(g, "blk.0.ffn_up.weight")->dtype, DTYPE_BF16);
    for (int r = 0; r < 160; r += 37)
        for (int i = 0; i < 64; i++)
            assert_float_equal(row_of(g, "blk.0.ffn_up.weight", r)[i],
                               ends[(r * 64 + i) % 3] * scale[r / 128], 0);
    gguf_close(g);

    shard_begin(&s, 1);
    shard_add(&s, UP "weight", "F8_E4M3", "[160,64]", q, sizeof q);
    shard_add(&s, UP "weight_scale", "F32", "[]", &single, sizeof single);
    one_tensor(",\"quantization_config\":{\"quant_method\":\"compressed-tensors\"}", &s);
    g = open_folder();
    assert_float_equal(row_of(g, "blk.0.ffn_up.weight", 1)[0], ends[64 % 3] * 4, 0);
    gguf_close(g);
}

static void test_mxfp4(void **state)
{
    static const float values[] = { 0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3,
                                    -4, -6 };
    uint8_t blocks[2 * 4 * 2 * 16], scales[2 * 4 * 2];
    struct hf_shard s;
    struct gguf *g;
    struct rng rng;

    (void)state;
    rng_init(&rng, 4);
    for (size_t i = 0; i < sizeof blocks; i++)
        blocks[i] = (uint8_t)rng_below(&rng, 256);
    for (size_t i = 0; i < sizeof scales; i++)
        scales[i] = (uint8_t)(120 + rng_below(&rng, 16));
    hf_puts("config.json", "{\"architectures\":[\"GptOssForCausalLM\"],\"hidden_size\":64,"
            "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"vocab_size\":8,"
            "\"num_local_experts\":2,\"num_experts_per_tok\":1,\"intermediate_size\":2,"
            "\"quantization_config\":{\"quant_method\":\"mxfp4\"}}");
    shard_begin(&s, 1);
    shard_add(&s, "model.layers.1.mlp.experts.gate_up_proj_blocks", "U8", "[2,4,2,16]", blocks,
              sizeof blocks);
    shard_add(&s, "model.layers.1.mlp.experts.gate_up_proj_scales", "U8", "[2,4,2]", scales,
              sizeof scales);
    shard_end(&s, "model.safetensors");
    g = open_folder();
    assert_int_equal(tensor_of(g, "blk.1.ffn_up_exps.weight")->dtype, DTYPE_MXFP4);
    assert_int_equal(tensor_of(g, "blk.1.ffn_up_exps.weight")->shape[1], 2);
    for (int expert = 0; expert < 2; expert++)
        for (int odd = 0; odd < 2; odd++)
            for (int r = 0; r < 2; r++) {
                const float *x = row_of(g, odd ? "blk.1.ffn_up_exps.weight"
                                               : "blk.1.ffn_gate_exps.weight", expert * 2 + r);
                const int from = expert * 4 + 2 * r + odd;

                for (int i = 0; i < 64; i++) {
                    const uint8_t b = blocks[from * 32 + i / 2];

                    assert_float_equal(x[i], ldexpf(values[i % 2 ? b >> 4 : b & 15],
                                                    scales[from * 2 + i / 32] - 127), 0);
                }
            }
    gguf_close(g);
}

/* 64 inputs in groups of 32, 8 outputs; weight (in, out) is (3 in + 5 out) % 16. */
static void put_packed(bool awq, unsigned zero)
{
    static const uint8_t awq_at[] = { 0, 4, 1, 5, 2, 6, 3, 7 };
    uint32_t weights[64] = { 0 }, zeros[2] = { 0 };
    uint16_t scales[16];
    struct hf_shard s;

    for (unsigned in = 0; in < 64; in++)
        for (unsigned out = 0; out < 8; out++) {
            const uint32_t q = (3 * in + 5 * out) % 16;

            if (awq)
                weights[in] |= q << (4 * awq_at[out]);
            else
                weights[in / 8 * 8 + out] |= q << (4 * (in % 8));
        }
    for (unsigned i = 0; i < 16; i++) {
        scales[i] = f32_to_f16((float)(i + 1) / 16);
        zeros[i / 8] |= (zero + (zero == 8 ? 0 : i % 2)) << (4 * (awq ? awq_at[i % 8] : i % 8));
    }
    if (!awq)
        for (unsigned i = 0; i < 16; i++)       /* stored less 1 */
            zeros[i / 8] -= 1u << (4 * (i % 8));
    shard_begin(&s, 1);
    shard_add(&s, UP "qweight", "I32", awq ? "[64,1]" : "[8,8]", weights, sizeof weights);
    shard_add(&s, UP "qzeros", "I32", "[2,1]", zeros, sizeof zeros);
    shard_add(&s, UP "scales", "F16", "[2,8]", scales, sizeof scales);
    one_tensor(awq ? ",\"quantization_config\":{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":32}"
                   : ",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32}",
               &s);
}

static void test_packed4(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        const bool awq = kind & 1, symmetric = kind & 2;
        struct gguf *g;

        put_packed(awq, symmetric ? 8 : 5);
        g = open_folder();
        assert_int_equal(tensor_of(g, "blk.0.ffn_up.weight")->dtype,
                         symmetric ? DTYPE_Q4_0 : DTYPE_Q4_1);
        for (int out = 0; out < 8; out++) {
            const float *x = row_of(g, "blk.0.ffn_up.weight", out);

            for (int in = 0; in < 64; in++) {
                const int zero = symmetric ? 8 : 5 + out % 2;
                const float scale = (float)(in / 32 * 8 + out + 1) / 16;

                assert_float_equal(x[in], scale * (float)((3 * in + 5 * out) % 16 - zero), 2e-3);
            }
        }
        gguf_close(g);
    }
}

/* ---- what is wrong ---- */

static void refused(int code, const char *says)
{
    struct gguf *g = NULL;
    struct err e = { 0 };
    const int rc = hf_open(&g, hf_dir, NULL, &e);

    if (rc != code || !strstr(e.msg, says))
        fail_msg("got %d '%s', expected %d '%s'", rc, rc ? e.msg : "", code, says);
    assert_null(g);
}

/* Apertus' activations: single numbers of the weights become keys. wide: one of them is no such. */
static void put_apertus(unsigned n, bool wide)
{
    static const char *const names[] = { "0.mlp.act_fn.alpha_p", "0.mlp.act_fn.alpha_n", "0.mlp.act_fn.beta",
                                         "0.mlp.act_fn.eps", "1.mlp.act_fn.alpha_p", "1.mlp.act_fn.alpha_n",
                                         "1.mlp.act_fn.beta", "1.mlp.act_fn.eps" };
    const uint8_t half[2] = { 0, 0x3f };        /* 0.5 in BF16 */
    struct hf_shard s;
    char name[64];

    hf_puts("config.json", "{\"architectures\":[\"ApertusForCausalLM\"],\"hidden_size\":32,"
            "\"num_hidden_layers\":2,\"num_attention_heads\":2,\"intermediate_size\":48,"
            "\"vocab_size\":8,\"hidden_act\":\"xielu\",\"tie_word_embeddings\":true}");
    shard_begin(&s, 1);
    for (unsigned i = 0; i < n; i++) {
        const float value = (float)i - 2;

        (void)snprintf(name, sizeof name, "model.layers.%s", names[i]);
        if (wide && i == 5)
            shard_random(&s, name, "F32", "[2]", 2);
        else if (i % 4 == 2)
            shard_add(&s, name, "BF16", "[]", half, 2);
        else
            shard_add(&s, name, "F32", "[1]", &value, 4);
    }
    shard_random(&s, "model.embed_tokens.weight", "F32", "[8,32]", 256);
    shard_end(&s, "model.safetensors");
}

static void test_numbers_of_weights(void **state)
{
    const struct gguf_kv *kv;
    struct gguf *g;
    double v;

    (void)state;
    put_apertus(7, false);
    refused(WATT_EFORMAT, "model.layers.1.mlp.act_fn.eps is missing");
    put_apertus(8, true);
    refused(WATT_EFORMAT, "model.layers.1.mlp.act_fn.alpha_n is no single number");
    put_apertus(8, false);
    g = open_folder();
    kv = gguf_find(g, "xielu.alpha_n");
    assert_non_null(kv);
    assert_int_equal(kv->n, 2);
    assert_true(gguf_elem_f64(kv, 1, &v) && v == 3);
    kv = gguf_find(g, "xielu.beta");
    assert_true(kv && gguf_elem_f64(kv, 0, &v) && v == 0.5);
    assert_int_equal(gguf_n_tensors(g), 1);
    gguf_close(g);
}

/* Gemma 3n: lists of values for each layer, matrices that become one tensor, and a table of fewer
 * tokens than the model has, filled up with its first row. */
static void put_gemma3n(const char *more, int rows, int streams)
{
    static const char base[] =
        "{\"architectures\":[\"Gemma3nForConditionalGeneration\"],\"text_config\":{\"hidden_size\":32,"
        "\"num_hidden_layers\":2,\"num_attention_heads\":2,\"vocab_size\":8,\"altup_num_inputs\":%d,"
        "\"hidden_activation\":\"gelu_pytorch_tanh\",\"hidden_size_per_layer_input\":2,%s}}";
    struct hf_shard s;
    char text[1024], shape[16];

    (void)snprintf(text, sizeof text, base, streams, more);
    (void)snprintf(shape, sizeof shape, "[%d,4]", rows);
    hf_puts("config.json", text);
    shard_begin(&s, 1);
    shard_random(&s, "model.language_model.embed_tokens.weight", "F32", "[8,32]", 256);
    shard_random(&s, "model.language_model.embed_tokens_per_layer.weight", "BF16", shape, (size_t)rows * 4);
    shard_random(&s, "model.language_model.altup_projections.0.weight", "F32", "[32,32]", 1024);
    shard_random(&s, "model.language_model.altup_projections.1.weight", "F32", "[32,32]", 1024);
    shard_random(&s, "model.language_model.layers.1.altup.correct_output_scale", "F32", "[32]", 32);
    shard_random(&s, "model.vision_tower.conv.weight", "F32", "[2,2]", 4);
    shard_end(&s, "model.safetensors");
}

static void test_gemma3n(void **state)
{
#define TYPES "\"layer_types\":[\"sliding_attention\",\"full_attention\"]"
#define LISTS ",\"intermediate_size\":[48,64],\"activation_sparsity_pattern\":[0.95,0.0]"
    static const struct { const char *more; int rows, streams; const char *says; } bad[] = {
        { "\"layer_types\":[\"sliding_attention\",\"other\"]" LISTS, 6, 3, "layer_types[1] is neither" },
        { "\"layer_types\":7" LISTS, 6, 3, "layer_types[0] is neither" },
        { TYPES ",\"activation_sparsity_pattern\":0.5", 6, 3, "intermediate_size is missing" },
        { TYPES ",\"intermediate_size\":[48],\"activation_sparsity_pattern\":0.5", 6, 3,
          "has 1 values for 2 layers" },
        { TYPES ",\"intermediate_size\":48,\"activation_sparsity_pattern\":[0.5,1.0]", 6, 3,
          "activation_sparsity_pattern[1]" },
        { TYPES LISTS, 6, 1, "altup_num_inputs" },
        { TYPES LISTS, 6, 17, "altup_num_inputs is 17" },
        { TYPES LISTS, 6, 4, "expert 2 of 3 is missing" },
        { TYPES LISTS, 9, 3, "has 9 rows, expected a table of at most 8" },
    };
    const struct gguf_kv *kv;
    const struct tensor *t;
    struct gguf *g;
    double v = 0;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_gemma3n(bad[i].more, bad[i].rows, bad[i].streams);
        refused(WATT_EFORMAT, bad[i].says);
    }
    put_gemma3n(TYPES LISTS, 6, 3);
    g = open_folder();
    kv = gguf_find(g, "gemma3n.activation_sparsity_scale");
    assert_true(kv && kv->n == 2 && gguf_elem_f64(kv, 0, &v) && fabs(v - 1.6448536) < 1e-6);
    assert_true(gguf_elem_f64(kv, 1, &v) && isinf(v) && v < 0);
    kv = gguf_find(g, "gemma3n.feed_forward_length");
    assert_true(kv && kv->n == 2 && gguf_elem_f64(kv, 1, &v) && v == 64);
    kv = gguf_find(g, "gemma3n.attention.sliding_window_pattern");
    assert_true(kv && kv->n == 2 && gguf_elem_f64(kv, 0, &v) && v == 1);
    t = tensor_of(g, "altup_proj.weight");
    assert_true(t->n_dims == 3 && t->shape[0] == 2 && t->shape[1] == 32);
    assert_int_equal(tensor_of(g, "blk.1.altup_correct_scale.weight")->shape[0], 32);
    t = tensor_of(g, "per_layer_token_embd.weight");
    assert_int_equal(t->shape[0], 8);
    assert_memory_equal((const char *)t->data + 6 * 8, t->data, 8);
    assert_memory_equal((const char *)t->data + 7 * 8, t->data, 8);
    assert_memory_not_equal((const char *)t->data + 5 * 8, t->data, 8);
    gguf_close(g);
}

static void test_bad_configs(void **state)
{
    static const struct { const char *config; int code; const char *says; } bad[] = {
        { "", WATT_EFORMAT, "config.json" },
        { "[]", WATT_EFORMAT, "config.json: expected an object" },
        { "{}", WATT_EFORMAT, "model_type" },
        { "{\"architectures\":[\"NoSuchModel\"]}", WATT_ENOTSUP, "'NoSuchModel'" },
        { "{\"architectures\":[7]}", WATT_EFORMAT, "architectures[0]" },
        { "{\"architectures\":[\"LlamaForCausalLM\"]}", WATT_EFORMAT, "num_hidden_layers" },
        { "{" LLAMA_BASE ",\"hidden_act\":\"gelu\"}", WATT_ENOTSUP, "hidden_act: is \"gelu\"" },
        { "{" LLAMA_BASE ",\"head_dim\":\"x\"}", WATT_EFORMAT, "head_dim" },
        { "{" LLAMA_BASE ",\"head_dim\":4294967296}", WATT_EFORMAT, "head_dim" },
        { "{" LLAMA_BASE ",\"rope_theta\":-1}", WATT_EFORMAT, "rope_theta" },
        { "{" LLAMA_BASE ",\"rope_scaling\":{\"type\":\"spiral\"}}", WATT_ENOTSUP, "'spiral'" },
        { "{" LLAMA_BASE ",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":0}}", WATT_EFORMAT,
          "llama3 scaling" },
        { "{" LLAMA_BASE ",\"rope_scaling\":7}", WATT_EFORMAT, "rope_scaling" },
        { "{" LLAMA_BASE ",\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}}",
          WATT_ENOTSUP, "quant_method is 'bitsandbytes'" },
        { "{" LLAMA_BASE ",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":3}}",
          WATT_ENOTSUP, "3 bits" },
        { "{" LLAMA_BASE ",\"text_config\":7}", WATT_EFORMAT, "text_config" },
        { "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":64,\"num_hidden_layers\":1e9,"
          "\"vocab_size\":96}", WATT_EFORMAT, "num_hidden_layers" },
        { "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":64,\"num_hidden_layers\":1,"
          "\"vocab_size\":96,\"num_attention_heads\":5}", WATT_EFORMAT, "no multiple" },
        { "{" LLAMA_BASE ",\"tie_word_embeddings\":false}", WATT_EFORMAT,
          "lm_head.weight is missing" },
    };

    (void)state;
    put_llama(LLAMA, "F32");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hf_puts("config.json", bad[i].config);
        refused(bad[i].code, bad[i].says);
    }
    (void)remove(hf_in("config.json"));
    refused(WATT_EINVAL, "without config.json");
}

static unsigned n_warnings;
static char last_warning[256];

static void count_warning(void *ctx, const char *text)
{
    (void)ctx;
    n_warnings++;
    (void)snprintf(last_warning, sizeof last_warning, "%s", text);
}

static void test_bad_weights(void **state)
{
    const struct hf_opts opts = { .warn = count_warning };
    struct hf_shard s;
    struct gguf *g = NULL;
    struct err e = { 0 };
    uint8_t header[8];

    (void)state;
    hf_puts("config.json", LLAMA);
    (void)remove(hf_in("model.safetensors"));
    refused(WATT_ENOENT, "holds neither model.safetensors");
    hf_puts("model.safetensors.index.json",
            "{\"weight_map\":{\"model.norm.weight\":\"gone.safetensors\"}}");
    refused(WATT_ENOENT, "gone.safetensors");
    hf_puts("model.safetensors.index.json",
            "{\"weight_map\":{\"model.norm.weight\":\"../../etc/passwd\"}}");
    refused(WATT_EFORMAT, "expected the name of a file beside the index");
    (void)remove(hf_in("model.safetensors.index.json"));
    store_le64(header, UINT64_MAX);
    hf_put("model.safetensors", header, 8);
    refused(WATT_EFORMAT, "its header should take");

    shard_begin(&s, 1);     /* integers where weights belong */
    shard_random(&s, "model.norm.weight", "F32", "[64]", 64);
    shard_add(&s, "model.embed_tokens.weight", "I32", "[4,4]", "0123456789abcdef0123456789abcdef"
              "0123456789abcdef0123456789abcde", 64);
    shard_end(&s, "model.safetensors");
    refused(WATT_EFORMAT, "tensor 'model.embed_tokens.weight' (I32): is of a type");

    shard_begin(&s, 1);     /* rows that are not those of heads */
    shard_random(&s, "model.layers.0.self_attn.q_proj.weight", "F32", "[63,64]", 63 * 64);
    shard_end(&s, "model.safetensors");
    refused(WATT_EFORMAT, "self_attn.q_proj.weight' (F32): has 63 rows");

    shard_begin(&s, 1);     /* two tensors of one name */
    shard_random(&s, "model.norm.weight", "F32", "[64]", 64);
    shard_random(&s, "norm.weight", "F32", "[64]", 64);
    shard_end(&s, "model.safetensors");
    refused(WATT_EFORMAT, "is a second output_norm.weight");

    shard_begin(&s, 1);     /* FP8 without a scale */
    shard_add(&s, UP "weight", "F8_E4M3", "[2,4]", "01234567", 8);
    shard_end(&s, "model.safetensors");
    refused(WATT_EFORMAT, "its scale is missing");

    shard_begin(&s, 1);     /* what nobody knows is named */
    shard_random(&s, "model.norm.weight", "F32", "[64]", 64);
    shard_random(&s, "model.layers.0.surprise.weight", "F32", "[64]", 64);
    shard_end(&s, "model.safetensors");
    n_warnings = 0;
    if (hf_open(&g, hf_dir, &opts, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(n_warnings, 1);
    assert_non_null(strstr(last_warning, "model.layers.0.surprise.weight"));
    gguf_close(g);
}

/* ---- texts ---- */

#define ADDED "\"added_tokens\":[{\"id\":6,\"content\":\"<s>\",\"special\":true}," \
              "{\"id\":7,\"content\":\"</s>\",\"special\":true}]"

static void encode_is(const char *text, unsigned flags, const int32_t *ids, size_t n)
{
    const struct hf_opts opts = { .vocab_only = true };
    struct tokenizer *t = NULL;
    struct tokens out = { 0 };
    struct gguf *g = NULL;
    struct err e = { 0 };

    if (hf_open(&g, hf_dir, &opts, &e) < 0 || tokenizer_open(&t, g, &e) < 0 ||
        tokenizer_encode(t, NULL, text, strlen(text), flags, &out, &e) < 0)
        fail_msg("%s", e.msg);
    if (out.n != n || memcmp(out.ids, ids, n * sizeof *ids) != 0)
        fail_msg("'%s' gave %zu ids, the first %d", text, out.n, out.n ? (int)out.ids[0] : -1);
    tokens_deinit(&out);
    tokenizer_close(t);
    gguf_close(g);
}

static void test_tokenizer_json(void **state)
{
    struct gguf *g = NULL;
    struct err e = { 0 };
    struct sv text;
    uint32_t id;

    (void)state;
    hf_puts("config.json", LLAMA);
    /* byte-level, GPT-2's pattern */
    hf_puts("tokenizer.json", "{" ADDED ",\"pre_tokenizer\":{\"type\":\"ByteLevel\","
            "\"add_prefix_space\":false},\"post_processor\":{\"type\":\"TemplateProcessing\","
            "\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\","
            "\"type_id\":0}}]},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"\xC4\xA0\":2,"
            "\"ab\":3,\"\xC4\xA0" "ab\":4,\"abab\":5},\"merges\":[\"a b\",[\"\xC4\xA0\",\"ab\"],"
            "\"ab ab\"]}}");
    encode_is("abab ab", TOKENIZE_ADD_SPECIAL, (const int32_t[]){ 6, 5, 4 }, 3);
    encode_is("</s>", TOKENIZE_PARSE_SPECIAL, (const int32_t[]){ 7 }, 1);
    /* SentencePiece by merges, with a pattern of its own nowhere */
    hf_puts("tokenizer.json", "{" ADDED ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["
            "{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"},{\"type\":\"Replace\",\"pattern\":{"
            "\"String\":\" \"},\"content\":\"\xE2\x96\x81\"}]},\"model\":{\"type\":\"BPE\","
            "\"byte_fallback\":true,\"vocab\":{\"a\":0,\"b\":1,\"\xE2\x96\x81\":2,\"ab\":3,"
            "\"\xE2\x96\x81" "ab\":4,\"<0x21>\":5},\"merges\":[\"a b\",\"\xE2\x96\x81 ab\"]}}");
    encode_is("ab ab!", 0, (const int32_t[]){ 4, 4, 5 }, 3);
    /* patterns that have no name */
    hf_puts("tokenizer.json", "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":"
            "\"a{2}|b\"},\"behavior\":\"Isolated\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,"
            "\"b\":1,\"aa\":2,\"aaa\":3},\"merges\":[\"a a\",\"aa a\"]}}");
    encode_is("aaab", 0, (const int32_t[]){ 2, 0, 1 }, 3);
    /* WordPiece */
    hf_puts("tokenizer.json", "{\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true},"
            "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"vocab\":{\"[UNK]\":0,"
            "\"[CLS]\":1,\"[SEP]\":2,\"un\":3,\"##do\":4}},\"added_tokens\":[{\"id\":1,\"content\":"
            "\"[CLS]\",\"special\":true},{\"id\":2,\"content\":\"[SEP]\",\"special\":true}]}");
    encode_is("Undo do", TOKENIZE_ADD_SPECIAL, (const int32_t[]){ 1, 3, 4, 0, 2 }, 5);

    /* roles, ends and the template */
    hf_puts("tokenizer_config.json", "{\"eos_token\":{\"content\":\"[SEP]\"},\"chat_template\":["
            "{\"name\":\"tool_use\",\"template\":\"no\"},{\"name\":\"default\",\"template\":\"yes\"}]}");
    hf_puts("generation_config.json", "{\"eos_token_id\":[2,1]}");
    if (hf_open(&g, hf_dir, &(const struct hf_opts){ .vocab_only = true }, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(gguf_get_u32(g, "tokenizer.ggml.eos_token_id", &id, &e), 0);
    assert_int_equal(id, 2);
    assert_int_equal(gguf_get_u32(g, "tokenizer.ggml.eot_token_id", &id, &e), 0);
    assert_int_equal(id, 1);
    assert_int_equal(gguf_get_str(g, "tokenizer.chat_template", &text, &e), 0);
    assert_true(sv_eq_cstr(text, "yes"));
    assert_int_equal(gguf_find(g, "tokenizer.ggml.tokens")->n, 96);     /* padded to the rows */
    gguf_close(g);
}

static void test_bad_tokenizers(void **state)
{
    static const struct { const char *json; int code; const char *says; } bad[] = {
        { "{}", WATT_EFORMAT, "tokenizer.json: model" },
        { "{\"model\":{\"vocab\":7}}", WATT_EFORMAT, "model.vocab" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1}}}", WATT_EFORMAT, "id of \"a\"" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0}}}", WATT_EFORMAT, "id 0 is both" },
        { "{\"model\":{\"type\":\"Magic\",\"vocab\":{\"a\":0}}}", WATT_ENOTSUP, "'Magic'" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", WATT_EFORMAT,
          "merges[0]" },
        { "{\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{\"a\":0},\"merges\":"
          "[\"a b\"]}}", WATT_EFORMAT, "merges[0] makes no token" },
        { "{\"pre_tokenizer\":{\"type\":\"Wild\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}",
          WATT_ENOTSUP, "'Wild'" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}},\"added_tokens\":[{\"id\":1e12,"
          "\"content\":\"x\"}]}", WATT_EFORMAT, "added_tokens[0].id" },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}", WATT_EFORMAT, "vocab[0]" },
    };

    (void)state;
    (void)remove(hf_in("tokenizer_config.json"));
    hf_puts("config.json", LLAMA);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hf_puts("tokenizer.json", bad[i].json);
        refused(bad[i].code, bad[i].says);
    }
    (void)remove(hf_in("tokenizer.json"));
    hf_put("tokenizer.model", "\x0A\xFF\xFF\xFF\xFF\x0F", 6);
    refused(WATT_EFORMAT, "tokenizer.model: is no SentencePiece model");
    hf_put("tokenizer.model", "\x0A\x03\x0A\x01" "a", 5);
    refused(WATT_EFORMAT, "no pieces or no trainer_spec");
    (void)remove(hf_in("tokenizer.model"));
}

static void test_sentencepiece(void **state)
{
    /* pieces <unk> (kind 2), <s> (3), </s> (3), then ▁, a, ▁a with scores 0, -1, -2; bpe */
    static const char model[] =
        "\x0A\x09\x0A\x05<unk>\x18\x02" "\x0A\x07\x0A\x03<s>\x18\x03" "\x0A\x08\x0A\x04</s>\x18\x03"
        "\x0A\x0A\x0A\x03\xE2\x96\x81\x15\x00\x00\x00\x00"
        "\x0A\x08\x0A\x01" "a\x15\x00\x00\x80\xBF"
        "\x0A\x0B\x0A\x04\xE2\x96\x81" "a\x15\x00\x00\x00\xC0"
        "\x12\x02\x18\x02";

    (void)state;
    hf_puts("config.json", LLAMA);
    hf_put("tokenizer.model", model, sizeof model - 1);
    hf_puts("added_tokens.json", "{\"<x>\":7}");
    encode_is("a<x>", TOKENIZE_ADD_SPECIAL, (const int32_t[]){ 1, 5, 7 }, 3);
}

/* ---- failing allocations and reads ---- */

#ifdef WATT_FAULTS
static void test_torture(void **state)
{
    struct gguf *g;
    struct err e;
    int rc;

    (void)state;
    put_llama(LLAMA, "F32");
    hf_puts("tokenizer.json", "{" ADDED ",\"pre_tokenizer\":{\"type\":\"ByteLevel\","
            "\"add_prefix_space\":false},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,"
            "\"ab\":2},\"merges\":[\"a b\"]}}");
    for (int kind = FAULT_ALLOC; kind <= FAULT_READ; kind++) {
        for (unsigned long n = 1;; n++) {
            g = NULL;
            (void)fault_arm((enum fault_kind)kind, n);
            rc = hf_open(&g, hf_dir, NULL, &e);
            (void)fault_arm((enum fault_kind)kind, 0);
            if (rc == 0)
                break;
            assert_int_equal(rc, kind == FAULT_ALLOC ? WATT_ENOMEM : WATT_EIO);
            assert_null(g);
            assert_true(n < 5000);
        }
        gguf_close(g);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_llama, hf_clean),
        cmocka_unit_test_teardown(test_bf16, hf_clean),
        cmocka_unit_test_teardown(test_gpt2, hf_clean),
        cmocka_unit_test_teardown(test_experts, hf_clean),
        cmocka_unit_test_teardown(test_fp8, hf_clean),
        cmocka_unit_test_teardown(test_mxfp4, hf_clean),
        cmocka_unit_test_teardown(test_packed4, hf_clean),
        cmocka_unit_test_teardown(test_numbers_of_weights, hf_clean),
        cmocka_unit_test_teardown(test_gemma3n, hf_clean),
        cmocka_unit_test_teardown(test_bad_configs, hf_clean),
        cmocka_unit_test_teardown(test_bad_weights, hf_clean),
        cmocka_unit_test_teardown(test_tokenizer_json, hf_clean),
        cmocka_unit_test_teardown(test_bad_tokenizers, hf_clean),
        cmocka_unit_test_teardown(test_sentencepiece, hf_clean),
#ifdef WATT_FAULTS
        cmocka_unit_test_teardown(test_torture, hf_clean),
#endif
    };

    return cmocka_run_group_tests(tests, hf_make_dir, hf_remove_dir);
}
