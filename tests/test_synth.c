/* test_synth.c: synthetic models: their tensors, types and statistics, the same
 * bytes with any number of threads, a usable vocabulary, nothing left by failures. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "models/name_table.h"
#include "models/synth.h"

static char dir[] = "test_synth.XXXXXX";
static char path[64];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(path, sizeof path, "%s/out.gguf", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    (void)remove(path);
    return rmdir(dir);
}

static size_t files_there(void)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    size_t n = 0;

    assert_non_null(d);
    while ((entry = readdir(d)) != NULL)
        n += entry->d_name[0] != '.';
    (void)closedir(d);
    return n;
}

static struct gguf *made(const struct shape *s, enum quant_mix mix, uint64_t seed, unsigned threads)
{
    const struct synth_opts o = { .mix = mix, .seed = seed, .n_threads = threads };
    struct gguf *g;
    struct err e;

    if (synth_write(path, s, &o, &e) < 0 || gguf_open(&g, path, &e) < 0)
        fail_msg("%s", e.msg);
    return g;
}

/* ---- shapes ---- */

static void test_known_sizes(void **state)
{
    static const struct { const char *name; uint64_t params; } known[] = {
        { "llama-3.2-1b", 1235814400 }, { "llama-3.1-8b", 8030261248 },
        { "qwen3-0.6b", 596049920 }, { "qwen2.5-0.5b", 494032768 }, { "gpt2-124m", 124439808 },
        { "mixtral-8x7b", 46702792704 },
    };
    struct err e;

    (void)state;
    for (size_t i = 0; i < shape_n_builtin(); i++) {
        if (shape_check(shape_builtin(i), &e) < 0)
            fail_msg("%s", e.msg);
        assert_ptr_equal(shape_find(shape_builtin(i)->name), shape_builtin(i));
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint64_t params = shape_params(shape_find(known[i].name));

        if (shape_find(known[i].name)->rope == SHAPE_ROPE_LLAMA3)
            params -= shape_find(known[i].name)->head_dim / 2;    /* factors aren't learned */
        assert_int_equal(params, known[i].params);
    }
    assert_null(shape_find("gpt-5"));
}

static void test_bad_shapes(void **state)
{
    struct err e;
    struct shape s;

    (void)state;
#define BAD(change, code, says)                         \
    do {                                                \
        s = *shape_find("tiny-llama");                  \
        change;                                         \
        assert_int_equal(shape_check(&s, &e), code);    \
        assert_non_null(strstr(e.msg, says));           \
    } while (0)
    BAD(s.n_layers = 0, WATT_EINVAL, "layers is 0");
    BAD(s.n_layers = 5000, WATT_ELIMIT, "layers is 5000");
    BAD(s.n_kv_heads = 3, WATT_EINVAL, "4 heads don't share 3");
    BAD(s.n_kv_heads = 8, WATT_ELIMIT, "key/value heads is 8");
    BAD(s.head_dim = 63, WATT_EINVAL, "head_dim is 63");
    BAD(s.n_vocab = 1u << 23, WATT_ELIMIT, "vocabulary");
    BAD(s.n_experts = 4, WATT_EINVAL, "experts used is 0");
    BAD((s.n_experts = 4, s.n_experts_used = 5), WATT_ELIMIT, "experts used is 5");
    BAD(s.norm_eps = NAN, WATT_EINVAL, "epsilon");
    BAD(s.rope_base = 0.0f, WATT_EINVAL, "rotary base");
    BAD(s.rope_factor = 0.0f, WATT_EINVAL, "rotary scaling");
    BAD(s.rope_high = 0.5f, WATT_EINVAL, "frequency factors");
    BAD((s.n_ff = 1u << 20, s.n_embd = 1u << 20, s.n_layers = 1024, s.n_experts = 4096,
         s.n_experts_used = 1), WATT_ELIMIT, "parameters, at most");
    BAD((s.features = SHAPE_GPT2), WATT_EINVAL, "gpt2");
#undef BAD
    assert_int_equal(shape_set_arch(&s, "nonesuch", &e), WATT_ENOTSUP);
    assert_non_null(strstr(e.msg, "known are llama, mistral3, qwen2"));
    assert_int_equal(shape_set_arch(&s, "qwen3", &e), 0);
    assert_int_equal(s.features, SHAPE_QK_NORM);
}

static void test_rope_factors(void **state)
{
    const struct shape *s = shape_find("llama-3.2-1b");
    float f[32];

    (void)state;
    shape_rope_factors(s, f);
    assert_true(f[0] == 1.0f && f[31] == 32.0f);
    for (int i = 1; i < 32; i++)
        assert_true(f[i] >= f[i - 1]);
}

/* ---- files ---- */

static void test_tensors_and_keys(void **state)
{
    struct gguf *g = made(shape_find("tiny-llama"), QUANT_Q4_K_M, 1, 2);
    const struct gguf_tensor *t;
    struct err e;
    uint32_t v;
    struct sv sv;

    (void)state;
    assert_int_equal(gguf_get_str(g, "general.architecture", &sv, &e), 0);
    assert_true(sv_eq_cstr(sv, "llama"));
    assert_int_equal(gguf_get_u32(g, "general.file_type", &v, &e), 0);
    assert_int_equal(v, 15);
    assert_int_equal(gguf_get_u32(g, "llama.attention.head_count_kv", &v, &e), 0);
    assert_int_equal(v, 2);
    assert_int_equal(gguf_n_tensors(g), 4 + 2 * 9);
    t = gguf_find_tensor(g, "blk.1.ffn_down.weight");
    assert_non_null(t);
    assert_int_equal(t->t.dtype, DTYPE_Q6_K);
    assert_int_equal(t->t.shape[0], 256);
    assert_int_equal(t->t.shape[1], 512);
    t = gguf_find_tensor(g, "rope_freqs.weight");
    assert_int_equal(t->t.shape[0], 32);
    assert_true(((const float *)t->t.data)[0] == 1.0f && ((const float *)t->t.data)[31] == 8.0f);
    gguf_close(g);

    g = made(shape_find("tiny-moe"), QUANT_Q8_0, 1, 1);
    t = gguf_find_tensor(g, "blk.0.ffn_down_exps.weight");
    assert_int_equal(t->t.n_dims, 3);
    assert_int_equal(t->t.shape[0], 8);
    assert_int_equal(t->t.shape[1], 256);
    assert_int_equal(gguf_find_tensor(g, "blk.0.ffn_gate_inp.weight")->t.dtype, DTYPE_F32);
    assert_null(gguf_find_tensor(g, "blk.0.ffn_gate.weight"));
    gguf_close(g);

    g = made(shape_find("tiny-qwen3"), QUANT_F16, 1, 1);
    assert_non_null(gguf_find_tensor(g, "blk.0.attn_k_norm.weight"));
    assert_null(gguf_find_tensor(g, "output.weight"));
    gguf_close(g);
    g = made(shape_find("tiny-qwen2"), QUANT_F16, 1, 1);
    assert_non_null(gguf_find_tensor(g, "blk.0.attn_v.bias"));
    gguf_close(g);
    g = made(shape_find("tiny-gpt2"), QUANT_F32, 1, 1);
    assert_int_equal(gguf_find_tensor(g, "blk.0.attn_qkv.weight")->t.shape[0], 768);
    assert_non_null(gguf_find_tensor(g, "position_embd.weight"));
    gguf_close(g);
}

/* Deviation of a matrix and mean and range of gains, in every mix. */
static void test_statistics(void **state)
{
    float *out = malloc(512 * 256 * sizeof *out);

    (void)state;
    assert_non_null(out);
    for (int mix = 0; mix < QUANT_MIX_COUNT; mix++) {
        struct gguf *g = made(shape_find("tiny-llama"), (enum quant_mix)mix, 7, 2);
        const struct tensor *t = &gguf_find_tensor(g, "blk.0.ffn_gate.weight")->t;
        const size_t n = (size_t)tensor_elems(t);
        double sum = 0.0, square = 0.0;

        if (t->dtype == DTYPE_F32)
            memcpy(out, t->data, t->size_bytes);
        else
            dtype_info(t->dtype)->dequant(out, t->data, n);
        for (size_t i = 0; i < n; i++) {
            assert_true(isfinite(out[i]));
            sum += (double)out[i];
            square += (double)out[i] * (double)out[i];
        }
        assert_true(fabs(sum / (double)n) < 0.05 / 16);
        assert_true(fabs(sqrt(square / (double)n) * 16 - 1.0) < 0.1);
        t = &gguf_find_tensor(g, "blk.0.ffn_norm.weight")->t;
        for (size_t i = 0; i < 256; i++)
            assert_true(fabsf(((const float *)t->data)[i] - 1.0f) < 0.4f);
        gguf_close(g);
    }
    free(out);
}

static void read_made(uint64_t seed, unsigned threads, char **bytes, size_t *n)
{
    struct shape s = *shape_find("tiny-llama");
    struct err e;

    s.n_vocab = 4000;       /* several chunks */
    gguf_close(made(&s, QUANT_Q4_K_M, seed, threads));
    assert_int_equal(file_read(path, 64 << 20, bytes, n, &e), 0);
}

static void test_same_bytes(void **state)
{
    char *first, *other;
    size_t n_first, n_other;

    (void)state;
    read_made(3, 1, &first, &n_first);
    for (unsigned threads = 2; threads <= 5; threads++) {
        read_made(3, threads, &other, &n_other);
        assert_int_equal(n_first, n_other);
        assert_memory_equal(first, other, n_first);
        mem_free(other);
    }
    read_made(4, 2, &other, &n_other);
    assert_int_equal(n_first, n_other);
    assert_memory_not_equal(first, other, n_first);
    mem_free(other);
    mem_free(first);
}

static void test_pure_and_size(void **state)
{
    struct synth_opts o = { .mix = QUANT_Q4_0, .pure = true, .n_threads = 2 };
    struct err e;
    struct gguf *g;
    uint64_t bytes, sum = 0;

    (void)state;
    assert_int_equal(synth_write(path, shape_find("tiny-llama"), &o, &e), 0);
    assert_int_equal(gguf_open(&g, path, &e), 0);
    assert_int_equal(gguf_find_tensor(g, "output.weight")->t.dtype, DTYPE_Q4_0);
    for (size_t i = 0; i < gguf_n_tensors(g); i++)
        sum += gguf_tensor_at(g, i)->t.size_bytes;
    assert_int_equal(synth_size(shape_find("tiny-llama"), &o, &bytes, &e), 0);
    assert_int_equal(bytes, sum);
    gguf_close(g);
    assert_int_equal(synth_size(shape_find("llama-3.1-8b"), &o, &bytes, &e), 0);
    assert_true(bytes > 4500000000u && bytes < 4530000000u);
}

/* ---- vocabulary ---- */

struct strings {
    const struct gguf    *g;
    const struct gguf_kv *kv;
};

static struct sv string_at(const void *array, uint32_t i)
{
    const struct strings *s = array;
    struct sv v = { NULL, 0 };

    assert_true(gguf_elem_str(s->g, s->kv, i, &v));
    return v;
}

/* All tokens differ, every merge joins two tokens to a third. */
static void check_vocab(uint32_t n_vocab)
{
    struct shape shape = *shape_find("tiny-llama");
    struct strings tokens, merges;
    struct name_table names;
    struct gguf *g;
    struct err e;

    shape.n_vocab = n_vocab;
    shape.n_embd = 32;
    g = made(&shape, QUANT_Q4_0, 1, 2);
    tokens = (struct strings){ g, gguf_find(g, "tokenizer.ggml.tokens") };
    merges = (struct strings){ g, gguf_find(g, "tokenizer.ggml.merges") };
    assert_int_equal(tokens.kv->n, n_vocab);
    assert_int_equal(gguf_find(g, "tokenizer.ggml.token_type")->n, n_vocab);
    assert_int_equal(name_table_init(&names, n_vocab, &e), 0);
    for (uint32_t i = 0; i < n_vocab; i++)
        assert_true(name_table_put(&names, i, string_at, &tokens) == NAME_NONE);
    for (uint32_t i = 0; i < merges.kv->n; i++) {
        const struct sv m = string_at(&merges, i);
        const char *space = memchr(m.data, ' ', m.len);
        char joined[64];
        size_t left;

        assert_non_null(space);
        left = (size_t)(space - m.data);
        memcpy(joined, m.data, left);
        memcpy(joined + left, space + 1, m.len - left - 1);
        assert_true(name_table_find(&names, (struct sv){ m.data, left }, string_at, &tokens) !=
                    NAME_NONE);
        assert_true(name_table_find(&names, (struct sv){ space + 1, m.len - left - 1 }, string_at,
                                    &tokens) != NAME_NONE);
        assert_true(name_table_find(&names, (struct sv){ joined, m.len - 1 }, string_at, &tokens) !=
                    NAME_NONE);
    }
    name_table_deinit(&names);
    gguf_close(g);
}

static void test_vocabularies(void **state)
{
    struct shape s = *shape_find("tiny-llama");
    struct err e;
    struct gguf *g;
    struct sv model;

    (void)state;
    check_vocab(SYNTH_VOCAB_MIN);
    check_vocab(SYNTH_VOCAB_MIN + 1);
    check_vocab(512);
    check_vocab(50257);
    check_vocab(128256);
    s.n_vocab = SYNTH_VOCAB_MIN - 1;
    g = made(&s, QUANT_Q4_0, 1, 1);
    assert_int_equal(gguf_get_str(g, "tokenizer.ggml.model", &model, &e), 0);
    assert_true(sv_eq_cstr(model, "none"));
    assert_null(gguf_find(g, "tokenizer.ggml.tokens"));
    gguf_close(g);
}

/* ---- failures ---- */

static bool stop(void *ctx, uint64_t done, uint64_t total)
{
    unsigned *calls = ctx;

    assert_true(done <= total);
    return ++*calls < 2;
}

static void test_cancel(void **state)
{
    unsigned calls = 0;
    struct synth_opts o = { .mix = QUANT_Q4_0, .n_threads = 1, .progress = stop, .ctx = &calls };
    struct err e;

    (void)state;
    (void)remove(path);
    assert_int_equal(synth_write(path, shape_find("tiny-llama"), &o, &e), WATT_ECANCEL);
    assert_int_equal(calls, 2);
    assert_int_equal(files_there(), 0);
}

static void test_keeps_old_file(void **state)
{
    const struct synth_opts o = { .mix = QUANT_Q4_0, .n_threads = 1 };
    struct shape s = *shape_find("tiny-llama");
    struct err e;
    struct gguf *g;

    (void)state;
    gguf_close(made(&s, QUANT_Q4_0, 1, 1));
    s.n_layers = 0;
    assert_int_equal(synth_write(path, &s, &o, &e), WATT_EINVAL);
    assert_int_equal(gguf_open(&g, path, &e), 0);
    gguf_close(g);
    assert_int_equal(synth_write("absent-folder/out.gguf", shape_find("tiny-llama"), &o, &e),
                     WATT_EIO);
}

#ifdef WATT_FAULTS
static void test_torture(void **state)
{
    static const enum fault_kind kinds[] = { FAULT_ALLOC, FAULT_WRITE, FAULT_THREAD };
    const struct synth_opts o = { .mix = QUANT_Q4_0, .n_threads = 2 };
    struct shape s = *shape_find("tiny-llama");
    struct err e;
    int rc;

    (void)state;
    (void)remove(path);
    for (size_t k = 0; k < 3; k++) {
        for (unsigned long n = 1;; n++) {
            (void)fault_arm(kinds[k], n);
            rc = synth_write(path, &s, &o, &e);
            (void)fault_arm(kinds[k], 0);
            if (rc == 0)
                break;
            assert_int_equal(rc, e.code);
            assert_true(kinds[k] == FAULT_WRITE ? rc == WATT_EIO : rc == WATT_ENOMEM);
            assert_int_equal(files_there(), 0);
            assert_true(n < 500);
        }
        assert_int_equal(remove(path), 0);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_sizes),
        cmocka_unit_test(test_bad_shapes),
        cmocka_unit_test(test_rope_factors),
        cmocka_unit_test(test_tensors_and_keys),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_pure_and_size),
        cmocka_unit_test(test_vocabularies),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_keeps_old_file),
#ifdef WATT_FAULTS
        cmocka_unit_test(test_torture),
#endif
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
