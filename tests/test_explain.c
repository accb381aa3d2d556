/* test_explain.c: what inspect says about layers, experts, positions and state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "applications/explain.h"
#include "shared.h"
#include "tiny.h"

static char text[EXPLAIN_TEXT_BYTES];

static void test_dense(void **state)
{
    const struct shape s = tiny_shape("llama");
    struct model *m = tiny_open(&s, QUANT_F32);
    struct explain_state keeps;

    (void)state;
    explain_layer(m, 1, text, sizeof text);
    assert_string_equal(text, "attention, 4 heads over 2 of 64; feed-forward of 512, gated SiLU");
    explain_kinds(m, text, sizeof text);
    assert_string_equal(text, "2 attention");
    explain_rope(m, text, sizeof text);
    assert_string_equal(text, "base 10000");
    explain_experts(m, text, sizeof text);
    assert_string_equal(text, "");
    assert_int_equal(explain_active_params(m), model_facts(m)->n_params);
    explain_state(m, &keeps);
    assert_int_equal(keeps.kv_layers, 2);
    assert_int_equal(keeps.kv_columns, 2 * 2 * (64 + 64));
    assert_int_equal(keeps.window_layers + keeps.fixed_layers, 0);
    model_close(m);
}

static void test_experts(void **state)
{
    struct shape s = tiny_shape("llama");
    struct model *m;

    (void)state;
    s.n_experts = 8;
    s.n_experts_used = 2;
    m = tiny_open(&s, QUANT_F32);
    explain_layer(m, 0, text, sizeof text);
    assert_string_equal(text, "attention, 4 heads over 2 of 64; 2 of 8 experts; each of 512, "
                              "gated SiLU");
    explain_experts(m, text, sizeof text);
    assert_ptr_equal(strstr(text, "2 of 8 in 2 layers, by softmax; "), text);
    /* six of eight experts idle, in each of two layers three matrices of 512 by 256 */
    assert_int_equal(model_facts(m)->n_params - explain_active_params(m), 2 * 3 * 6 * 512 * 256);
    model_close(m);
}

/* A text is cut, never written past its end. */
static void test_short_buffers(void **state)
{
    const struct shape s = tiny_shape("llama");
    struct model *m = tiny_open(&s, QUANT_F32);
    char small[12] = "###########";

    (void)state;
    explain_layer(m, 0, small, 8);
    assert_string_equal(small, "attenti");
    assert_int_equal(small[8], '#');
    model_close(m);
}

static void each_kind(const char *name, uint32_t layer, const char *expected)
{
    struct model *m = NULL;
    struct err e = { 0 };

    if (model_open(&m, shared_path(name), NULL, &e) < 0)
        fail_msg("%s", e.msg);
    explain_layer(m, layer, text, sizeof text);
    if (!strstr(text, expected))
        fail_msg("%s, layer %u: \"%s\" lacks \"%s\"", name, layer, text, expected);
    model_close(m);
}

static void test_kinds(void **state)
{
    (void)state;
    SHARED_OR_SKIP("golden/gemma2-dense.gguf");
    each_kind("golden/gemma2-dense.gguf", 0, "window 16, scores capped at 50");
    each_kind("golden/deepseek2-moe.gguf", 1, "latent attention, 1 head over one row of 576");
    each_kind("golden/deepseek2-moe.gguf", 1, "shared feed-forward");
    each_kind("golden/mamba-dense.gguf", 0, "Mamba-1");
    each_kind("golden/mamba2-dense.gguf", 0, "Mamba-2");
    each_kind("golden/qwen3next-moe.gguf", 0, "gated delta rule");
    each_kind("golden/lfm2-dense.gguf", 1, "convolution over 3 rows");
    each_kind("golden/gpt-oss-moe.gguf", 0, "sinks");
    each_kind("golden/bloom-dense.gguf", 0, "ALiBi 8");
    each_kind("golden/dream-dense.gguf", 0, "both ways");
    each_kind("golden/smallthinker-moe.gguf", 0, "no positions");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dense),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_short_buffers),
        cmocka_unit_test(test_kinds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
