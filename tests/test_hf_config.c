/* test_hf_config.c: config.json of published models, and every way one can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/rng.h"
#include "models/hf_config.h"

#define LLAMA_FIELDS \
    "\"hidden_size\": 2048, \"intermediate_size\": 8192, \"num_hidden_layers\": 16," \
    "\"num_attention_heads\": 32, \"num_key_value_heads\": 8, \"vocab_size\": 128256," \
    "\"max_position_embeddings\": 131072, \"rms_norm_eps\": 1e-05, \"rope_theta\": 500000.0," \
    "\"tie_word_embeddings\": true,"

static const char llama[] =
    "{ \"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"head_dim\": 64,"
    LLAMA_FIELDS
    "\"attention_bias\": false, \"mlp_bias\": false, \"rope_scaling\": { \"factor\": 32.0,"
    "\"high_freq_factor\": 4.0, \"low_freq_factor\": 1.0,"
    "\"original_max_position_embeddings\": 8192, \"rope_type\": \"llama3\" } }";

static const char mixtral[] =
    "{ \"architectures\": [\"MixtralForCausalLM\"], \"hidden_size\": 4096,"
    "\"intermediate_size\": 14336, \"num_hidden_layers\": 32, \"num_attention_heads\": 32,"
    "\"num_key_value_heads\": 8, \"vocab_size\": 32000, \"max_position_embeddings\": 32768,"
    "\"num_local_experts\": 8, \"num_experts_per_tok\": 2, \"rms_norm_eps\": 1e-05,"
    "\"rope_theta\": 1000000.0, \"sliding_window\": null, \"tie_word_embeddings\": false }";

static const char qwen3_moe[] =
    "{ \"model_type\": \"qwen3_moe\", \"hidden_size\": 2048, \"intermediate_size\": 6144,"
    "\"moe_intermediate_size\": 768, \"num_hidden_layers\": 48, \"num_attention_heads\": 32,"
    "\"num_key_value_heads\": 4, \"head_dim\": 128, \"vocab_size\": 151936, \"num_experts\": 128,"
    "\"num_experts_per_tok\": 8, \"max_position_embeddings\": 40960, \"rms_norm_eps\": 1e-06,"
    "\"rope_theta\": 1000000, \"use_sliding_window\": false, \"sliding_window\": 4096 }";

static const char ministral[] =
    "{ \"architectures\": [\"Mistral3ForConditionalGeneration\"], \"text_config\": {"
    "\"model_type\": \"ministral3\", \"hidden_size\": 3072, \"intermediate_size\": 9216,"
    "\"num_hidden_layers\": 26, \"num_attention_heads\": 32, \"num_key_value_heads\": 8,"
    "\"head_dim\": 128, \"vocab_size\": 131072, \"max_position_embeddings\": 262144,"
    "\"tie_word_embeddings\": true, \"rope_parameters\": { \"rope_theta\": 1000000.0,"
    "\"rope_type\": \"yarn\", \"factor\": 16.0,"
    "\"original_max_position_embeddings\": 16384 } } }";

static const char gpt2[] =
    "{ \"architectures\": [\"GPT2LMHeadModel\"], \"n_embd\": 768, \"n_layer\": 12, \"n_head\": 12,"
    "\"n_positions\": 1024, \"vocab_size\": 50257, \"layer_norm_epsilon\": 1e-05,"
    "\"n_inner\": null }";

static struct shape parsed(const char *json)
{
    struct shape s;
    struct err e;

    if (hf_config_parse(&s, "config.json", json, strlen(json), &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

static void test_llama(void **state)
{
    const struct shape *known = shape_find("llama-3.2-1b");
    const struct shape s = parsed(llama);

    (void)state;
    assert_int_equal(shape_params(&s), shape_params(known));
    assert_string_equal(s.arch, "llama");
    assert_int_equal(s.rope, SHAPE_ROPE_LLAMA3);
    assert_true(s.rope_factor == 32.0f && s.rope_base == 500000.0f && s.norm_eps == 1e-5f);
    assert_int_equal(s.rope_ctx, 8192);
    assert_true(s.tied);
    assert_int_equal(s.features, 0);
}

static void test_mixtral(void **state)
{
    const struct shape s = parsed(mixtral);

    (void)state;
    assert_int_equal(shape_params(&s), shape_params(shape_find("mixtral-8x7b")));
    assert_int_equal(s.n_experts_used, 2);
    assert_int_equal(s.window, 0);
    assert_int_equal(s.head_dim, 128);
}

static void test_qwen3_moe(void **state)
{
    const struct shape s = parsed(qwen3_moe);

    (void)state;
    assert_string_equal(s.arch, "qwen3moe");
    assert_int_equal(shape_params(&s), shape_params(shape_find("qwen3-30b-a3b")));
    assert_int_equal(s.window, 0);
    assert_int_equal(s.features, SHAPE_QK_NORM);
}

static void test_nested(void **state)
{
    const struct shape s = parsed(ministral);

    (void)state;
    assert_string_equal(s.arch, "mistral3");
    assert_int_equal(s.rope, SHAPE_ROPE_YARN);
    assert_int_equal(s.rope_ctx, 16384);
    assert_true(s.rope_factor == 16.0f && s.rope_base == 1000000.0f);
}

static void test_gpt2(void **state)
{
    const struct shape s = parsed(gpt2);

    (void)state;
    assert_int_equal(shape_params(&s), shape_params(shape_find("gpt2-124m")));
    assert_int_equal(s.n_ff, 3072);
    assert_true(s.tied);
}

static void refused(const char *json, int code, const char *says)
{
    struct shape s = { .n_vocab = 77 };
    struct err e = { 0 };
    int rc = hf_config_parse(&s, "config.json", json, strlen(json), &e);

    if (rc != code || !strstr(e.msg, says) || strncmp(e.msg, "config.json", 11) != 0)
        fail_msg("got %d '%s', expected %d '%s'", rc, e.msg, code, says);
    assert_int_equal(s.n_vocab, 77);
}

#define CONFIG(rest) "{ \"architectures\": [\"LlamaForCausalLM\"], " rest "}"

static void test_refusals(void **state)
{
    (void)state;
    refused("", WATT_EFORMAT, "");
    refused("[]", WATT_EFORMAT, "");
    refused("{}", WATT_EFORMAT, "model_type");
    refused("{ \"architectures\": [\"BertModel\"] }", WATT_ENOTSUP,
            "architectures is 'BertModel', known are LlamaForCausalLM, MistralForCausalLM");
    refused("{ \"model_type\": \"bert\" }", WATT_ENOTSUP, "model_type is 'bert', known are");
    refused("{ \"architectures\": [7] }", WATT_EFORMAT, "architectures");
    refused("{ \"architectures\": \"x\" , \"model_type\": 7 }", WATT_EFORMAT, "model_type");
    refused(CONFIG("\"hidden_size\": 8"), WATT_EFORMAT, "intermediate_size");
    refused(CONFIG("\"hidden_size\": \"8\""), WATT_EFORMAT, "hidden_size");
    refused(CONFIG("\"hidden_size\": -8"), WATT_EFORMAT, "hidden_size");
    refused(CONFIG("\"hidden_size\": 99999999999"), WATT_EFORMAT, "hidden_size");
    refused(CONFIG(LLAMA_FIELDS "\"head_dim\": 63"), WATT_EINVAL, "head_dim is 63");
    refused(CONFIG(LLAMA_FIELDS "\"attention_bias\": 1"), WATT_EFORMAT, "attention_bias");
    refused(CONFIG(LLAMA_FIELDS "\"rope_scaling\": { \"type\": \"longrope\" }"), WATT_ENOTSUP,
            "rope_type is 'longrope'");
    refused(CONFIG(LLAMA_FIELDS "\"rope_scaling\": { \"type\": \"linear\", \"factor\": 0 }"),
            WATT_EINVAL, "rotary scaling");
    refused(CONFIG(LLAMA_FIELDS "\"rope_scaling\": 7"), WATT_EFORMAT, "rope_scaling");
    refused("{ \"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 100,"
            "\"intermediate_size\": 8, \"num_hidden_layers\": 1, \"vocab_size\": 8,"
            "\"num_attention_heads\": 3 }", WATT_EFORMAT, "hidden_size 100 is no multiple");
    refused("{ \"architectures\": [\"GPT2LMHeadModel\"], \"n_embd\": 4294967295, \"n_layer\": 1,"
            "\"n_head\": 1, \"vocab_size\": 8 }", WATT_EFORMAT, "n_embd 4294967295");
    refused("{ \"architectures\": [\"Mistral3ForConditionalGeneration\"] }", WATT_EFORMAT,
            "text_config");
}

/* Bytes changed and cut anywhere: an answer or an error, never a crash. */
static void test_damage(void **state)
{
    static const char *const good[] = { llama, mixtral, qwen3_moe, ministral, gpt2 };
    struct rng r;

    (void)state;
    rng_init(&r, 11);
    for (int round = 0; round < 5000; round++) {
        const char *from = good[rng_below(&r, 5)];
        const size_t n = rng_below(&r, 8) ? strlen(from) : rng_below(&r, (uint32_t)strlen(from));
        char *bytes = malloc(n ? n : 1);
        struct shape s;
        struct err e;

        assert_non_null(bytes);
        memcpy(bytes, from, n);
        for (uint32_t k = rng_below(&r, 4); k > 0 && n > 0; k--)
            bytes[rng_below(&r, (uint32_t)n)] = (char)rng_below(&r, 256);
        if (hf_config_parse(&s, "config.json", bytes, n, &e) == 0) {
            assert_int_equal(shape_check(&s, &e), 0);
            assert_true(shape_params(&s) > 0);
        }
        free(bytes);
    }
}

static void test_files(void **state)
{
    char dir[] = "test_hf_config.XXXXXX", path[64];
    struct shape s;
    struct err e;
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(hf_config_read(&s, dir, &e), WATT_ENOENT);
    assert_non_null(strstr(e.msg, "config.json"));
    (void)snprintf(path, sizeof path, "%s/config.json", dir);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fputs(llama, f) >= 0 && fclose(f) == 0);
    assert_int_equal(hf_config_read(&s, dir, &e), 0);
    assert_int_equal(s.n_layers, 16);
    assert_int_equal(hf_config_read(&s, path, &e), 0);
    assert_int_equal(remove(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

#ifdef WATT_FAULTS
static void test_torture(void **state)
{
    struct shape s;
    struct err e;
    int rc;

    (void)state;
    for (unsigned long n = 1;; n++) {
        (void)fault_arm(FAULT_ALLOC, n);
        rc = hf_config_parse(&s, "config.json", llama, strlen(llama), &e);
        (void)fault_arm(FAULT_ALLOC, 0);
        if (rc == 0)
            break;
        assert_int_equal(rc, WATT_ENOMEM);
        assert_true(n < 1000);
    }
}
#endif

/* Small files for fuzz/corpus/config: test_hf_config --corpus FOLDER. */
static int write_corpus(const char *folder)
{
    static const struct { const char *name, *text; } files[] = {
        { "llama", llama }, { "mixtral", mixtral }, { "qwen3-moe", qwen3_moe },
        { "ministral", ministral }, { "gpt2", gpt2 },
    };
    int failed = 0;

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char name[4096];
        FILE *f;

        (void)snprintf(name, sizeof name, "%s/%s.json", folder, files[i].name);
        f = fopen(name, "wb");
        failed |= !f || fputs(files[i].text, f) < 0 || fclose(f) != 0;
    }
    return failed;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_mixtral),
        cmocka_unit_test(test_qwen3_moe),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_gpt2),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_files),
#ifdef WATT_FAULTS
        cmocka_unit_test(test_torture),
#endif
    };

    if (argc == 3 && strcmp(argv[1], "--corpus") == 0)
        return write_corpus(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
