/* test_quant_mix.c: the types that published files of known models have, counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "models/quant_mix.h"

struct counts { unsigned of[DTYPE_COUNT]; };

static void count(struct counts *c, enum quant_mix mix, const struct quant_model *m,
                  const char *name, int n_dims, int64_t row)
{
    c->of[quant_mix_pick(mix, m, sv_cstr(name), n_dims, row)]++;
}

/* A llama of n_layers, wide n_embd and n_ff. */
static struct counts llama(enum quant_mix mix, uint32_t n_layers, uint32_t n_gqa,
                           uint32_t n_experts, bool tied, int64_t n_embd, int64_t n_ff)
{
    static const char *const wide[] = { "attn_q", "attn_k", "attn_v", "attn_output" };
    static const char *const dense[] = { "ffn_gate", "ffn_up", "ffn_down" };
    const struct quant_model m = { n_layers, n_experts, n_gqa, tied, false };
    struct counts c = { { 0 } };
    char name[64];

    count(&c, mix, &m, "token_embd.weight", 2, n_embd);
    count(&c, mix, &m, "output_norm.weight", 1, n_embd);
    if (!tied)
        count(&c, mix, &m, "output.weight", 2, n_embd);
    for (uint32_t l = 0; l < n_layers; l++) {
        for (size_t i = 0; i < 4; i++) {
            (void)snprintf(name, sizeof name, "blk.%u.%s.weight", l, wide[i]);
            count(&c, mix, &m, name, 2, n_embd);
        }
        for (size_t i = 0; i < 3; i++) {
            (void)snprintf(name, sizeof name, "blk.%u.%s%s.weight", l, dense[i],
                           n_experts ? "_exps" : "");
            count(&c, mix, &m, name, n_experts ? 3 : 2, i == 2 ? n_ff : n_embd);
        }
        (void)snprintf(name, sizeof name, "blk.%u.attn_norm.weight", l);
        count(&c, mix, &m, name, 1, n_embd);
        (void)snprintf(name, sizeof name, "blk.%u.ffn_norm.weight", l);
        count(&c, mix, &m, name, 1, n_embd);
        if (n_experts) {
            (void)snprintf(name, sizeof name, "blk.%u.ffn_gate_inp.weight", l);
            count(&c, mix, &m, name, 2, n_embd);
        }
    }
    return c;
}

static void test_published_counts(void **state)
{
    struct counts c;

    (void)state;
    c = llama(QUANT_Q4_K_M, 32, 4, 0, false, 4096, 14336);      /* Llama 3.1 8B */
    assert_int_equal(c.of[DTYPE_F32], 65);
    assert_int_equal(c.of[DTYPE_Q4_K], 193);
    assert_int_equal(c.of[DTYPE_Q6_K], 33);
    c = llama(QUANT_Q4_K_M, 16, 4, 0, true, 2048, 8192);        /* Llama 3.2 1B */
    assert_int_equal(c.of[DTYPE_Q4_K], 96);
    assert_int_equal(c.of[DTYPE_Q6_K], 17);
    c = llama(QUANT_Q3_K_M, 32, 1, 0, false, 4096, 11008);      /* Llama 2 7B */
    assert_int_equal(c.of[DTYPE_Q3_K], 129);
    assert_int_equal(c.of[DTYPE_Q4_K], 92);
    assert_int_equal(c.of[DTYPE_Q5_K], 4);
    assert_int_equal(c.of[DTYPE_Q6_K], 1);
    c = llama(QUANT_Q4_K_S, 32, 1, 0, false, 4096, 11008);
    assert_int_equal(c.of[DTYPE_Q4_K], 217);
    assert_int_equal(c.of[DTYPE_Q5_K], 8);
    assert_int_equal(c.of[DTYPE_Q6_K], 1);
    c = llama(QUANT_Q2_K, 32, 1, 0, false, 4096, 11008);
    assert_int_equal(c.of[DTYPE_Q2_K], 129);
    assert_int_equal(c.of[DTYPE_Q3_K], 96);
    c = llama(QUANT_Q4_0, 32, 1, 0, false, 4096, 11008);
    assert_int_equal(c.of[DTYPE_Q4_0], 225);
    assert_int_equal(c.of[DTYPE_Q6_K], 1);
    c = llama(QUANT_Q8_0, 32, 1, 0, false, 4096, 11008);
    assert_int_equal(c.of[DTYPE_Q8_0], 226);
}

static void test_experts(void **state)
{
    struct counts c;

    (void)state;
    c = llama(QUANT_Q4_K_M, 32, 4, 8, false, 4096, 14336);      /* Mixtral 8x7B */
    assert_int_equal(c.of[DTYPE_Q8_0], 64);
    assert_int_equal(c.of[DTYPE_Q5_K], 32);
    assert_int_equal(c.of[DTYPE_Q6_K], 17);
    assert_int_equal(c.of[DTYPE_F32], 97);
    c = llama(QUANT_MXFP4_MOE, 32, 4, 8, false, 4096, 14336);
    assert_int_equal(c.of[DTYPE_MXFP4], 96);
    assert_int_equal(c.of[DTYPE_Q8_0], 130);
}

static void test_narrow_rows(void **state)
{
    struct counts c;

    (void)state;
    c = llama(QUANT_Q4_K_M, 8, 1, 0, true, 96, 200);     /* 200 is no multiple of 32 */
    assert_int_equal(c.of[DTYPE_Q8_0], 1 + 4);           /* output; attn_v with more bits */
    assert_int_equal(c.of[DTYPE_Q5_0], 5 * 8 + 4);
    assert_int_equal(c.of[DTYPE_F16], 8);
    c = llama(QUANT_IQ2_XS, 8, 1, 0, true, 96, 224);
    assert_int_equal(c.of[DTYPE_IQ4_NL], 7 * 8);
    for (int mix = 0; mix < QUANT_MIX_COUNT; mix++) {
        for (int64_t row = 1; row <= 512; row += row < 70 ? 1 : 31) {
            const struct quant_model m = { 80, 8, 8, false, true };
            const enum dtype t = quant_mix_pick((enum quant_mix)mix, &m,
                                                SV("blk.3.ffn_down.weight"), 2, row);
            uint64_t bytes;

            assert_true(dtype_row_bytes(t, (uint64_t)row, &bytes));
        }
    }
}

static void test_what_applies(void **state)
{
    static const char *const kept[] = { "blk.0.attn_norm.weight", "blk.0.ffn_gate_inp.weight",
                                        "blk.0.attn_q.bias", "position_embd.weight" };

    (void)state;
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        assert_false(quant_mix_applies(sv_cstr(kept[i]), 2));
    assert_false(quant_mix_applies(SV("blk.0.attn_q.weight"), 1));
    assert_false(quant_mix_applies((struct sv){ NULL, 0 }, 2));
    assert_true(quant_mix_applies(SV("blk.0.attn_q.weight"), 2));
}

static void test_names(void **state)
{
    enum quant_mix mix;

    (void)state;
    for (int i = 0; i < QUANT_MIX_COUNT; i++) {
        const struct quant_mix_info *info = quant_mix_info((enum quant_mix)i);

        assert_non_null(info->name);
        assert_true(quant_mix_parse(info->name, &mix));
        assert_int_equal(mix, i);
    }
    assert_true(quant_mix_parse("q4_k", &mix));
    assert_int_equal(mix, QUANT_Q4_K_M);
    assert_int_equal(quant_mix_info(mix)->file_type, 15);
    assert_false(quant_mix_parse("Q4", &mix));
    assert_false(quant_mix_parse("", &mix));
}

/* Layer numbers of hostile names stay numbers. */
static void test_odd_names(void **state)
{
    static const char *const names[] = { "blk.99999999999999999999.ffn_down.weight",
                                         "blk..ffn_down.weight", "ffn_down.weight", "blk.weight",
                                         "blk.-1.attn_v.weight" };
    const struct quant_model m = { 0, 0, 0, false, false };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        for (int mix = 0; mix < QUANT_MIX_COUNT; mix++)
            (void)quant_mix_pick((enum quant_mix)mix, &m, sv_cstr(names[i]), 2, 256);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_counts),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_narrow_rows),
        cmocka_unit_test(test_what_applies),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_odd_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
