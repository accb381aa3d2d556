/* test_golden.c: the reference interpreter against logits of an independent implementation,
 * and the same bits however the tokens are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shared.h"
#include "golden.h"

static const char *const names[] = {
    "arctic-moe", "bailingmoe-moe", "bailingmoe2-moe", "bloom-dense", "cogvlm-dense",
    "command-r-dense", "dbrx-moe", "deepseek-moe", "dream-dense", "ernie4_5-moe",
    "exaone-dense", "falcon-dense", "gemma-dense", "gemma2-dense", "glm4moe-moe",
    "gpt-oss-moe", "gpt2-dense", "gptneox-dense", "granite-dense", "granite-moe",
    "grok-moe", "hunyuan-dense-dense", "hunyuan_vl-dense", "hy_v3-moe", "jais-dense",
    "llada-dense", "llama-dense", "llama-moe", "llama4-moe", "minimax-m2-moe",
    "mistral3-dense", "mistral3-moe", "nanbeige-dense", "olmo-dense", "olmoe-moe",
    "paddleocr-moe", "pangu-embedded-dense", "phi2-dense", "phi3-dense", "plamo-dense",
    "qwen2-dense", "qwen2moe-moe", "qwen2vl-dense", "qwen3-dense", "qwen3moe-moe",
    "qwen3vl-dense", "qwen3vlmoe-moe", "smallthinker-moe", "starcoder-dense",
    "starcoder2-dense", "lfm2-dense", "mamba-dense", "mamba2-dense", "jamba-dense",
    "granitehybrid-dense", "nemotron_h-dense", "nemotron_h_moe-dense", "qwen3next-moe",
    "qwen35-dense", "qwen35moe-moe", "deepseek2-moe",
};

/* One executor against the golden logits; then the same bits token by token and by seven. */
static void check(const struct golden *g, const char *name, const struct session_opts *opts,
                  double limit)
{
    const size_t n = (size_t)g->n * g->width;
    float *once = mem_array(n, sizeof *once), *cut = mem_array(n, sizeof *cut);
    double nmse;

    assert_true(once && cut);
    golden_run(g, opts, 0, once);
    nmse = golden_nmse(once, g->logits, n);
    if (!(nmse <= limit))
        fail_msg("%s: NMSE %g, at most %g", name, nmse, limit);
    for (uint32_t chunk = 1; chunk <= 7 && model_facts(g->m)->causal; chunk += 6) {
        golden_run(g, opts, chunk, cut);
        if (memcmp(once, cut, n * sizeof *once) != 0)
            fail_msg("%s: other bits in chunks of %u", name, chunk);
    }
    mem_free(once);
    mem_free(cut);
}

static void each(const struct session_opts *opts, double limit)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct golden g = { 0 };

        golden_open(&g, names[i]);
        check(&g, names[i], opts, limit);
        golden_close(&g);
    }
}

static void test_reference(void **state)
{
    const struct session_opts opts = { .exec = SESSION_EXEC_REF };

    (void)state;
    SHARED_OR_SKIP("golden/llama-dense.gguf");
    each(&opts, 1e-9);
}

static void test_fast_kernels(void **state)
{
    const struct session_opts opts = { .exec = SESSION_EXEC_CPU, .n_threads = 2 };

    (void)state;
    SHARED_OR_SKIP("golden/llama-dense.gguf");
    each(&opts, 1e-6);
}

/* Tensors that an architecture does not read are named. */
static void test_warnings(void **state)
{
    struct golden g = { 0 };
    bool named = false;

    (void)state;
    SHARED_OR_SKIP("golden/olmoe-moe.gguf");
    golden_open(&g, "olmoe-moe");
    for (uint32_t i = 0; i < model_n_warnings(g.m); i++)
        named |= strstr(model_warning(g.m, i), "blk.1.attn_k.bias") != NULL;
    assert_true(named);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_fast_kernels),
        cmocka_unit_test(test_warnings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
