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
    "starcoder2-dense",
};

static void check(const char *name)
{
    const struct session_opts opts = { .exec = SESSION_EXEC_REF, .kv_set = true,
                                       .k_dtype = DTYPE_F32, .v_dtype = DTYPE_F32 };
    struct golden g = { 0 };
    float *once, *cut;
    double nmse;

    golden_open(&g, name);
    once = mem_array((size_t)g.n * g.width, sizeof *once);
    cut = mem_array((size_t)g.n * g.width, sizeof *cut);
    assert_true(once && cut);
    golden_run(&g, &opts, 0, once);
    nmse = golden_nmse(once, g.logits, (size_t)g.n * g.width);
    print_message("%-20s NMSE %.2e, %u warnings\n", name, nmse, model_n_warnings(g.m));
    for (uint32_t i = 0; i < model_n_warnings(g.m); i++)
        print_message("    %s\n", model_warning(g.m, i));
    if (!(nmse <= 1e-9))
        fail_msg("%s: NMSE %g, at most 1e-9", name, nmse);
    for (uint32_t chunk = 1; chunk <= 7 && model_facts(g.m)->causal; chunk += 6) {
        golden_run(&g, &opts, chunk, cut);
        assert_memory_equal(once, cut, (size_t)g.n * g.width * sizeof *once);
    }
    mem_free(once);
    mem_free(cut);
    golden_close(&g);
}

static void test_reference(void **state)
{
    (void)state;
    SHARED_OR_SKIP("golden/llama-dense.gguf");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check(names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_reference) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
