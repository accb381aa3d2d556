/* test_archs.c: every architecture of the table as a tiny model of random weights: the fast
 * executor against the interpreter, and the same bits however the tokens are cut.
 *
 * Which tensors a model has is asked of the loader: one that is missing or has another shape is
 * named in the error with the shape expected, and put right until the model opens. Each
 * architecture is made twice: with what it needs, and with experts in all layers but the first and
 * the tensors that are optional somewhere (what an architecture does not read is a warning). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/rng.h"
#include "models/arch.h"
#include "models/model.h"
#include "models/session.h"

#define N_LAYERS    5
#define N_TOKENS    12
#define N_VOCAB     40
#define MAX_TENSORS 512
#define MAX_REPAIRS 600
#define IMAGE_BYTES (4 << 20)

struct spec_tensor { char name[64]; int n_dims; int64_t shape[4]; };

struct spec {
    const struct arch *arch;
    struct spec_tensor t[MAX_TENSORS];
    uint32_t n;
    const float *eps;       /* xielu.eps of each layer; NULL: the file has no such key */
    uint8_t *image;         /* [IMAGE_BYTES] the file */
    size_t   size;
};

/* Keys of all architectures; each reads those that it knows. */
static const struct { const char *key; uint32_t value; } numbers[] = {
    { "block_count", N_LAYERS }, { "context_length", 64 }, { "embedding_length", 32 },
    { "feed_forward_length", 48 }, { "vocab_size", N_VOCAB },
    { "attention.head_count", 4 }, { "attention.head_count_kv", 2 },
    { "attention.key_length", 8 }, { "attention.value_length", 8 },
    { "attention.key_length_mla", 24 }, { "attention.value_length_mla", 16 },
    { "attention.kv_lora_rank", 32 }, { "attention.q_lora_rank", 24 },
    { "attention.sliding_window", 4 }, { "attention.relative_buckets_count", 8 },
    { "rope.dimension_count", 4 },
    { "expert_count", 4 }, { "expert_used_count", 2 }, { "experts_per_group", 2 },
    { "expert_feed_forward_length", 16 }, { "expert_shared_feed_forward_length", 32 },
    { "ssm.conv_kernel", 4 }, { "ssm.inner_size", 64 }, { "ssm.state_size", 16 },
    { "ssm.time_step_rank", 4 }, { "ssm.group_count", 2 }, { "shortconv.l_cache", 3 },
    { "wkv.head_size", 16 }, { "kda.head_dim", 16 },
    { "attention.decay_lora_rank", 8 }, { "attention.iclr_lora_rank", 8 },
    { "attention.value_residual_mix_lora_rank", 8 }, { "attention.gate_lora_rank", 8 },
    { "altup.num_inputs", 3 }, { "altup.active_idx", 1 }, { "embedding_length_per_layer_input", 12 },
};
/* And those that one architecture alone shall have, or have otherwise. */
static const struct { const char *arch, *key; uint32_t value; } own_numbers[] = {
    { "gemma3n", "attention.sliding_window_pattern", 2 }, { "gemma3n", "attention.shared_kv_layers", 2 },
    { "neo-bert", "attention.head_count_kv", 4 },
};
static const struct { const char *key; float value; } reals[] = {
    { "attention.layer_norm_epsilon", 1e-5f }, { "attention.layer_norm_rms_epsilon", 1e-5f },
    { "attention.group_norm_epsilon", 1e-5f }, { "logit_scale", 0.5f },
    { "rope.freq_base", 1000 }, { "rope.freq_base_swa", 500 }, { "residual_scale", 0.7f },
    { "embedding_scale", 2 }, { "kda.gate_lower_bound", -5 },
    { "/xielu.alpha_p", 0.2f }, { "/xielu.alpha_n", -0.9f },
};

/* Optional somewhere. %u: every layer; a shape that is wrong is put right like any other. */
static const char *const optional[] = {
    "rope_freqs.weight", "output.weight", "output.bias",
    "blk.%u.attn_q.bias", "blk.%u.attn_k.bias", "blk.%u.attn_v.bias", "blk.%u.attn_output.bias",
    "blk.%u.attn_q_norm.weight", "blk.%u.attn_k_norm.weight", "blk.%u.attn_norm.bias",
    "blk.%u.attn_sinks.weight", "blk.%u.ffn_norm.bias", "blk.%u.ffn_gate.weight",
    "blk.%u.ffn_gate_exps.weight", "blk.%u.ffn_gate.bias",
    "blk.%u.ffn_up.bias", "blk.%u.ffn_down.bias", "blk.%u.exp_probs_b.bias",
    "blk.%u.ffn_up_shexp.weight", "blk.%u.ffn_gate_shexp.weight",
    "blk.%u.ffn_gate_inp_shexp.weight", "output_norm.bias",
};

/* What decides the kind of a layer, where a family has several: a tensor that one layer of two, or
 * the one given, has. */
static const struct { const char *arch, *name; int layer; } kinds[] = {
    { "mamba", "blk.%u.ssm_x.weight", -1 },
    { "jamba", "blk.%u.ssm_in.weight", 1 }, { "jamba", "blk.%u.ssm_in.weight", 3 },
    { "granitehybrid", "blk.%u.ssm_in.weight", 1 }, { "granitehybrid", "blk.%u.ssm_in.weight", 3 },
    { "nemotron_h", "blk.%u.ssm_in.weight", 0 }, { "nemotron_h", "blk.%u.attn_output.weight", 1 },
    { "nemotron_h_moe", "blk.%u.ssm_in.weight", 0 },
    { "nemotron_h_moe", "blk.%u.attn_output.weight", 1 },
    { "lfm2", "blk.%u.shortconv.conv.weight", 0 }, { "lfm2", "blk.%u.shortconv.conv.weight", 2 },
    { "lfm2moe", "blk.%u.shortconv.conv.weight", 0 },
    { "qwen3next", "blk.%u.ssm_conv1d.weight", 0 }, { "qwen3next", "blk.%u.ssm_conv1d.weight", 2 },
    { "qwen35", "blk.%u.ssm_conv1d.weight", 0 }, { "qwen35", "blk.%u.ssm_alpha.weight", 0 },
    { "qwen35moe", "blk.%u.ssm_conv1d.weight", 1 }, { "qwen35moe", "blk.%u.ssm_alpha.weight", 1 },
    { "deepseek2", "blk.%u.attn_k_b.weight", -1 }, { "mistral4", "blk.%u.attn_k_b.weight", -1 },
    { "deepseek2", "blk.%u.attn_q_a.weight", -1 }, { "minicpm3", "blk.%u.attn_q_a.weight", -1 },
    { "deci", "blk.%u.attn_q.weight", 0 }, { "deci", "blk.%u.attn_output.weight", 1 },
    { "deci", "blk.%u.ffn_up.weight", 0 }, { "deci", "blk.%u.ffn_up.weight", 2 },
};

/* ---- the list of tensors ---- */

static struct spec_tensor *named(struct spec *s, const char *name)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (strcmp(s->t[i].name, name) == 0)
            return &s->t[i];
    if (s->n == MAX_TENSORS)
        fail_msg("%s: more than %d tensors", s->arch->name, MAX_TENSORS);
    (void)snprintf(s->t[s->n].name, sizeof s->t[s->n].name, "%s", name);
    return &s->t[s->n++];
}

/* In every layer, or in the one given; the shape is put right later. */
static void add(struct spec *s, const char *name, int layer)
{
    const char *at = strstr(name, "%u");
    char full[64];

    for (int i = 0; i < N_LAYERS; i++) {
        struct spec_tensor *t;

        if (at && layer >= 0 && i != layer)
            continue;
        if (at)
            (void)snprintf(full, sizeof full, "%.*s%d%s", (int)(at - name), name, i, at + 2);
        t = named(s, at ? full : name);
        if (t->n_dims == 0) {
            t->n_dims = 1;
            t->shape[0] = 1;
        }
        if (!at)
            break;
    }
}

/* "[4, ?, 16]": what is left open keeps its extent, or becomes 32. */
static bool parse_shape(const char *text, struct spec_tensor *t)
{
    int64_t shape[4];
    int n = 0;

    while (*text && *text != ']' && n < 4) {
        text += strspn(text, "[, ");
        if (*text == '?')
            shape[n] = n < t->n_dims && t->shape[n] > 1 ? t->shape[n] : 32;
        else
            shape[n] = strtoll(text, NULL, 10);
        if (shape[n++] <= 0)
            return false;
        text += strcspn(text, ",]");
    }
    if (n == 0)
        return false;
    t->n_dims = n;
    memcpy(t->shape, shape, sizeof t->shape);
    return true;
}

/* Does what the message asks for; false when it asks for nothing of the kind. */
static bool repair(struct spec *s, const char *msg)
{
    const char *name = strstr(msg, "tensor "), *expected = strstr(msg, "expected");
    const char *shape = expected ? strchr(expected, '[') : NULL;
    struct spec_tensor *t;
    char full[64];

    if (!name || !expected)
        return false;
    name += strlen("tensor ");
    (void)snprintf(full, sizeof full, "%.*s", (int)strcspn(name, " :"), name);
    t = named(s, full);
    if (shape)
        return parse_shape(shape, t);
    t->n_dims = strstr(full, "exps") ? 3 : 2;
    memcpy(t->shape, strstr(full, "exps") ? (int64_t[]){ 4, 32, 32, 0 } : (int64_t[]){ 32, 32, 0, 0 },
           sizeof t->shape);
    return true;
}

static bool is_suffix(const char *s, const char *suffix)
{
    const size_t n = strlen(s), k = strlen(suffix);

    return n >= k && strcmp(s + n - k, suffix) == 0;
}

/* Values as trained models have them: gains near 1, decays negative, matrices that keep length. */
static float value(const struct spec_tensor *t, struct rng *r)
{
    const double x = rng_normal(r);

    if (strstr(t->name, "norm") && is_suffix(t->name, ".weight"))
        return (float)(1 + 0.2 * x);
    if (strstr(t->name, "rope_f"))
        return (float)(1 + fabs(x));
    if (is_suffix(t->name, "ssm_a"))
        return (float)(-fabs(x) - 0.1);
    return (float)(t->n_dims == 1 ? 0.3 * x : 1.5 * x / sqrt((double)t->shape[t->n_dims - 1]));
}

/* ---- a GGUF file in memory ---- */

static void put(struct spec *s, const void *p, size_t n)
{
    if (n > IMAGE_BYTES - s->size)
        fail_msg("%s: more than %d bytes", s->arch->name, IMAGE_BYTES);
    memcpy(s->image + s->size, p, n);
    s->size += n;
}

static void put32(struct spec *s, uint32_t v)
{
    uint8_t b[4];

    store_le32(b, v);
    put(s, b, sizeof b);
}

static void put64(struct spec *s, uint64_t v)
{
    put32(s, (uint32_t)v);
    put32(s, (uint32_t)(v >> 32));
}

static void put_text(struct spec *s, const char *prefix, const char *text)
{
    put64(s, strlen(prefix) + strlen(text));
    put(s, prefix, strlen(prefix));
    put(s, text, strlen(text));
}

static void put_key(struct spec *s, const char *key, enum gguf_type type)
{
    char prefix[64];

    (void)snprintf(prefix, sizeof prefix, "%s.", s->arch->name);
    put_text(s, key[0] == '/' ? "" : prefix, key + (key[0] == '/'));
    put32(s, type);
}

static uint64_t elems(const struct spec_tensor *t)
{
    uint64_t n = 1;

    for (int i = 0; i < t->n_dims; i++)
        n *= (uint64_t)t->shape[i];
    return n;
}

static void put_float(struct spec *s, float v)
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof bits);
    put32(s, bits);
}

static void pad(struct spec *s)
{
    while (s->size % 32 != 0)
        put(s, "", 1);
}

static bool is_otherwise(const struct spec *s, const char *key)
{
    for (size_t i = 0; i < sizeof own_numbers / sizeof *own_numbers; i++)
        if (strcmp(own_numbers[i].arch, s->arch->name) == 0 && strcmp(own_numbers[i].key, key) == 0)
            return true;
    return false;
}

/* The file, with zeros for values or with random ones. */
static void write_model(struct spec *s, bool values)
{
    const size_t n_numbers = sizeof numbers / sizeof *numbers, n_reals = sizeof reals / sizeof *reals;
    const size_t n_own = sizeof own_numbers / sizeof *own_numbers;
    uint64_t offset = 0, n_mine = 0;
    struct rng r;

    s->size = 0;
    put(s, "GGUF", 4);
    put32(s, 3);
    put64(s, s->n);
    for (size_t i = 0; i < n_own; i++)
        n_mine += strcmp(own_numbers[i].arch, s->arch->name) == 0;
    for (size_t i = 0; i < n_numbers; i++)
        n_mine -= is_otherwise(s, numbers[i].key);
    put64(s, 1 + n_numbers + n_reals + n_mine + (s->eps != NULL));
    put_text(s, "general.", "architecture");
    put32(s, GGUF_STRING);
    put_text(s, "", s->arch->name);
    for (size_t i = 0; i < n_numbers; i++) {
        if (is_otherwise(s, numbers[i].key))
            continue;
        put_key(s, numbers[i].key, GGUF_U32);
        put32(s, numbers[i].value);
    }
    for (size_t i = 0; i < n_own; i++) {
        if (strcmp(own_numbers[i].arch, s->arch->name) != 0)
            continue;
        put_key(s, own_numbers[i].key, GGUF_U32);
        put32(s, own_numbers[i].value);
    }
    for (size_t i = 0; i < n_reals; i++) {
        put_key(s, reals[i].key, GGUF_F32);
        put_float(s, reals[i].value);
    }
    if (s->eps) {
        put_key(s, "/xielu.eps", GGUF_ARRAY);
        put32(s, GGUF_F32);
        put64(s, N_LAYERS);
        for (int i = 0; i < N_LAYERS; i++)
            put_float(s, s->eps[i]);
    }
    for (uint32_t i = 0; i < s->n; i++) {
        const struct spec_tensor *t = &s->t[i];

        put_text(s, "", t->name);
        put32(s, (uint32_t)t->n_dims);
        for (int d = t->n_dims; d-- > 0;)
            put64(s, (uint64_t)t->shape[d]);
        put32(s, 0);
        put64(s, offset);
        offset += (elems(t) * 4 + 31) / 32 * 32;
    }
    pad(s);
    rng_init(&r, 11);
    for (uint32_t i = 0; i < s->n; i++) {
        for (uint64_t k = 0; k < elems(&s->t[i]); k++)
            put_float(s, values ? value(&s->t[i], &r) : 0);
        pad(s);
    }
}

/* Opens the model, asking for its tensors one by one. */
static struct model *open_repaired(struct spec *s)
{
    struct model *m = NULL;

    for (int i = 0; i < MAX_REPAIRS; i++) {
        struct gguf *g = NULL;
        struct err e = { 0 };

        write_model(s, false);
        if (gguf_open_memory(&g, s->image, s->size, s->arch->name, &e) == 0 &&
            model_open_gguf(&m, g, NULL, &e) == 0) {
            write_model(s, true);       /* in place: nothing has read values yet */
            return m;
        }
        if (!repair(s, e.msg))
            fail_msg("%s: %s", s->arch->name, e.msg);
    }
    fail_msg("%s: asks for ever more tensors", s->arch->name);
    return NULL;
}

/* ---- running ---- */

static void run(struct model *m, enum session_exec exec, uint32_t chunk, float *out)
{
    const struct session_opts o = { .exec = exec, .n_threads = 1, .n_ctx = N_TOKENS,
                                    .max_rows = N_TOKENS, .max_out = N_TOKENS };
    const size_t width = model_facts(m)->n_out;
    struct session *s = NULL;
    int32_t tokens[N_TOKENS];
    struct err e = { 0 };

    for (int i = 0; i < N_TOKENS; i++)
        tokens[i] = (i * 7 + 3) % N_VOCAB;
    if (session_open(&s, m, &o, &e) < 0)
        fail_msg("%s", e.msg);
    for (uint32_t at = 0; at < N_TOKENS; at += chunk) {
        const uint32_t n = chunk < N_TOKENS - at ? chunk : N_TOKENS - at;
        const struct session_input in = { .tokens = tokens + at, .n_tokens = n,
                                          .want = SESSION_ALL };

        if (session_eval(s, &in, 1, out + at * width, &e) < 0)
            fail_msg("%s", e.msg);
    }
    session_close(s);
}

static double nmse(const float *got, const float *want, size_t n)
{
    double err = 0, ref = 0;

    for (size_t i = 0; i < n; i++) {
        err += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        ref += (double)want[i] * want[i];
    }
    return isfinite(err) && ref > 0 ? err / ref : INFINITY;
}

static void check(const struct arch *arch, struct model *m)
{
    static const enum session_exec execs[] = { SESSION_EXEC_REF, SESSION_EXEC_CPU };
    const size_t n = (size_t)N_TOKENS * model_facts(m)->n_out;
    float *whole[2], *cut = mem_array(n, sizeof *cut);

    assert_non_null(cut);
    for (int k = 0; k < 2; k++) {
        whole[k] = mem_array(n, sizeof *cut);
        assert_non_null(whole[k]);
        run(m, execs[k], N_TOKENS, whole[k]);
        for (uint32_t chunk = 1; chunk <= 8 && model_facts(m)->causal; chunk += 7) {
            run(m, execs[k], chunk, cut);
            if (memcmp(whole[k], cut, n * sizeof *cut) != 0)
                fail_msg("%s, %s: other bits in chunks of %u", arch->name,
                         k ? "kernels" : "interpreter", chunk);
        }
    }
    /* the interpreter's GELU is a table of halves, which AltUp's coefficients multiply */
    if (!(nmse(whole[1], whole[0], n) <= (strcmp(arch->name, "gemma3n") == 0 ? 1e-5 : 1e-6)))
        fail_msg("%s: executors differ, NMSE %g", arch->name, nmse(whole[1], whole[0], n));
    mem_free(whole[0]);
    mem_free(whole[1]);
    mem_free(cut);
}

static void begin(struct spec *s, const struct arch *arch, uint8_t *image)
{
    memset(s, 0, sizeof *s);
    s->arch = arch;
    s->image = image;
    named(s, "token_embd.weight")->n_dims = 2;
    memcpy(s->t[0].shape, (int64_t[]){ N_VOCAB, 32, 0, 0 }, sizeof s->t[0].shape);
}

static void each(bool rich)
{
    struct spec *s = mem_calloc(1, sizeof *s);
    uint8_t *image = mem_array(IMAGE_BYTES, 1);

    assert_true(s && image);
    for (size_t i = 0; arch_at(i); i++) {
        struct model *m;

        begin(s, arch_at(i), image);
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
            if (strcmp(kinds[k].arch, s->arch->name) == 0)
                add(s, kinds[k].name, kinds[k].layer);
        for (size_t k = 0; rich && k < sizeof optional / sizeof *optional; k++)
            add(s, optional[k], -1);
        for (int layer = 1; rich && layer < N_LAYERS; layer++)
            add(s, "blk.%u.ffn_gate_inp.weight", layer);
        m = open_repaired(s);
        check(s->arch, m);
        model_close(m);
    }
    mem_free(image);
    mem_free(s);
}

static void test_needed(void **state)
{
    (void)state;
    each(false);
}

static void test_optional(void **state)
{
    (void)state;
    each(true);
}

/* xIELU asks for min(x, eps) of x <= 0: above 0 every eps is the same as 0, below each layer's counts. */
static void test_xielu_eps(void **state)
{
    static const float eps[][N_LAYERS] = { { 0 }, { 0.5f, 1e-3f, 1, 1e30f, 0 }, { -0.25f }, { 0, -0.25f } };
    enum { N = sizeof eps / sizeof *eps };
    struct spec *s = mem_calloc(1, sizeof *s);
    uint8_t *image = mem_array(IMAGE_BYTES, 1);
    float (*out)[N_TOKENS * N_VOCAB] = mem_array(N, sizeof *out);

    (void)state;
    assert_true(s && image && out);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < N; i++) {
            struct model *m;

            begin(s, arch_find(SV("apertus")), image);
            s->eps = eps[i];
            m = open_repaired(s);
            assert_int_equal(model_facts(m)->n_out, N_VOCAB);
            run(m, k ? SESSION_EXEC_CPU : SESSION_EXEC_REF, N_TOKENS, out[i]);
            model_close(m);
        }
        assert_memory_equal(out[0], out[1], sizeof *out);
        assert_true(nmse(out[2], out[0], N_TOKENS * N_VOCAB) > 1e-6);
        assert_true(nmse(out[3], out[2], N_TOKENS * N_VOCAB) > 1e-6);
    }
    mem_free(out);
    mem_free(image);
    mem_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_needed),
        cmocka_unit_test(test_optional),
        cmocka_unit_test(test_xielu_eps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
