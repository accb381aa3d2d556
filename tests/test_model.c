/* test_model.c: opening models: facts, and files that are wrong in one thing each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mem.h"
#include "models/arch.h"
#include "tiny.h"

/* ---- a llama of one layer, written tensor by tensor ---- */

struct spec_tensor { const char *name; int n_dims; int64_t shape[3]; };

static const struct spec_tensor llama[] = {
    { "token_embd.weight", 2, { 40, 16 } },      { "output_norm.weight", 1, { 16 } },
    { "blk.0.attn_norm.weight", 1, { 16 } },     { "blk.0.attn_q.weight", 2, { 16, 16 } },
    { "blk.0.attn_k.weight", 2, { 8, 16 } },     { "blk.0.attn_v.weight", 2, { 8, 16 } },
    { "blk.0.attn_output.weight", 2, { 16, 16 } }, { "blk.0.ffn_norm.weight", 1, { 16 } },
    { "blk.0.ffn_gate.weight", 2, { 24, 16 } },  { "blk.0.ffn_up.weight", 2, { 24, 16 } },
    { "blk.0.ffn_down.weight", 2, { 16, 24 } },
};
#define N_LLAMA (sizeof llama / sizeof *llama)

/* What to change: a tensor left out, added or of another shape; a key's value. */
struct change {
    const char *drop;
    struct spec_tensor swap, extra;
    const char *key;
    uint32_t value;
    const char *arch, *scaling;
};

static void put_keys(struct gguf_writer *w, const struct change *c, struct err *e)
{
    static const struct { const char *key; uint32_t value; } keys[] = {
        { "llama.block_count", 1 }, { "llama.embedding_length", 16 },
        { "llama.feed_forward_length", 24 }, { "llama.attention.head_count", 4 },
        { "llama.attention.head_count_kv", 2 }, { "llama.context_length", 128 },
    };

    assert_int_equal(gguf_writer_str(w, "general.architecture",
                                     sv_cstr(c->arch ? c->arch : "llama"), e), 0);
    assert_int_equal(gguf_writer_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, e), 0);
    if (c->scaling)
        assert_int_equal(gguf_writer_str(w, "llama.rope.scaling.type", sv_cstr(c->scaling), e), 0);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const bool other = c->key && strcmp(c->key, keys[i].key) == 0;

        assert_int_equal(gguf_writer_u32(w, keys[i].key, other ? c->value : keys[i].value, e), 0);
    }
}

static uint64_t put_tensor(struct gguf_writer *w, const struct spec_tensor *t, struct err *e)
{
    uint64_t n = 1;

    for (int i = 0; i < t->n_dims; i++)
        n *= (uint64_t)t->shape[i];
    assert_int_equal(gguf_writer_tensor(w, t->name, DTYPE_F32, t->n_dims, t->shape, e), 0);
    return n;
}

static void write_model(const char *path, const struct change *c)
{
    static const float zeros[4096];
    struct gguf_writer *w = NULL;
    struct err e = { 0 };
    uint64_t sizes[N_LLAMA + 1];
    size_t n = 0;

    if (gguf_writer_open(&w, path, &e) < 0)
        fail_msg("%s", e.msg);
    put_keys(w, c, &e);
    for (size_t i = 0; i < N_LLAMA; i++) {
        const bool swap = c->swap.name && strcmp(c->swap.name, llama[i].name) == 0;

        if (!c->drop || strcmp(c->drop, llama[i].name) != 0)
            sizes[n++] = put_tensor(w, swap ? &c->swap : &llama[i], &e);
    }
    if (c->extra.name)
        sizes[n++] = put_tensor(w, &c->extra, &e);
    assert_int_equal(gguf_writer_begin(w, &e), 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(gguf_writer_data(w, zeros, sizes[i] * sizeof(float), &e), 0);
    if (gguf_writer_commit(w, &e) < 0)
        fail_msg("%s", e.msg);
}

static int open_changed(struct model **m, const struct change *c, struct err *e)
{
    char dir[] = "watt-model-XXXXXX", path[64];
    int rc;

    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/m.gguf", dir);
    write_model(path, c);
    rc = model_open(m, path, NULL, e);
    (void)unlink(path);
    (void)rmdir(dir);
    return rc;
}

static void test_facts(void **state)
{
    const struct change c = { .extra = { "blk.0.mystery.weight", 1, { 3 } } };
    struct model *m = NULL;
    const struct model_facts *f;
    struct err e = { 0 };

    (void)state;
    if (open_changed(&m, &c, &e) < 0)
        fail_msg("%s", e.msg);
    f = model_facts(m);
    assert_string_equal(f->arch, "llama");
    assert_string_equal(f->quant, "F32 100 %");
    assert_int_equal(f->n_vocab, 40);
    assert_int_equal(f->n_out, 40);
    assert_int_equal(f->n_heads, 4);
    assert_int_equal(f->n_kv_heads, 2);
    assert_int_equal(f->k_dim, 4);
    assert_int_equal(f->n_params, 40 * 16 + 16 + 16 + 256 + 128 + 128 + 256 + 16 + 3 * 384 + 3);
    assert_true(f->causal && f->rope_base == 10000);
    assert_int_equal(model_n_warnings(m), 1);
    assert_string_equal(model_warning(m, 0),
                        "tensor blk.0.mystery.weight is not used by architecture llama");
    model_close(m);
}

static void test_wrong_files(void **state)
{
    static const struct { struct change c; const char *says; } cases[] = {
        { { .drop = "blk.0.attn_k.weight" }, "blk.0.attn_k.weight is missing" },
        { { .drop = "token_embd.weight" }, "token_embd.weight is missing" },
        { { .drop = "output_norm.weight" }, "output_norm.weight is missing" },
        { { .swap = { "blk.0.attn_v.weight", 2, { 12, 16 } } }, "shape [12, 16], expected [8, 16]" },
        { { .swap = { "blk.0.ffn_down.weight", 2, { 16, 25 } } },
          "shape [16, 25], expected [16, 24]" },
        { { .swap = { "blk.0.ffn_norm.weight", 1, { 17 } } }, "shape [17], expected [16]" },
        { { .swap = { "blk.0.attn_q.weight", 3, { 2, 8, 16 } } }, "expected [16, 16]" },
        { { .extra = { "output.weight", 2, { 41, 16 } } }, "expected [40, 16]" },
        { { .extra = { "blk.0.attn_q.bias", 1, { 15 } } }, "blk.0.attn_q.bias" },
        { { .extra = { "rope_freqs.weight", 1, { 3 } } }, "rope_freqs.weight" },
        { { .key = "llama.block_count", .value = 2 }, "blk.1.attn_norm.weight is missing" },
        { { .key = "llama.block_count", .value = 4000000000u }, "block_count" },
        { { .key = "llama.block_count", .value = 0 }, "block_count" },
        { { .key = "llama.embedding_length", .value = 0 }, "embedding_length" },
        { { .key = "llama.embedding_length", .value = 4294967294u }, "token_embd.weight" },
        { { .key = "llama.attention.head_count", .value = 3 }, "heads" },
        { { .key = "llama.attention.head_count_kv", .value = 1000000 }, "heads" },
        { { .arch = "nonesuch" }, "\"nonesuch\"" },
        { { .scaling = "magic" }, "rope.scaling.type" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model *m = NULL;
        struct err e = { 0 };

        if (open_changed(&m, &cases[i].c, &e) == 0)
            fail_msg("case %zu was opened", i);
        assert_null(m);
        if (!strstr(e.msg, cases[i].says))
            fail_msg("case %zu: '%s' does not mention '%s'", i, e.msg, cases[i].says);
    }
}

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; arch_at(i); i++)
        assert_ptr_equal(arch_find(sv_cstr(arch_at(i)->name)), arch_at(i));
    assert_null(arch_find(sv_cstr("llam")));
    assert_null(arch_find(sv_cstr("")));
}

static void test_out_of_memory(void **state)
{
#ifdef WATT_FAULTS
    const struct change c = { .extra = { "blk.0.mystery.weight", 1, { 3 } } };
    char dir[] = "watt-model-XXXXXX", path[64];

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/m.gguf", dir);
    write_model(path, &c);
    for (unsigned long n = 1;; n++) {
        struct model *m = NULL;
        struct err e = { 0 };
        int rc;

        (void)fault_arm(FAULT_ALLOC, n);
        rc = model_open(&m, path, NULL, &e);
        (void)fault_arm(FAULT_ALLOC, 0);
        model_close(m);
        if (rc == 0)
            break;
        assert_int_equal(rc, WATT_ENOMEM);
        assert_null(m);
        assert_true(n < 1000);
    }
    (void)unlink(path);
    (void)rmdir(dir);
#else
    (void)state;
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_wrong_files),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
