/* test_session.c: sequences: the same bits however tokens are cut and whoever is beside them,
 * forks, truncation, full contexts, and failures that leave everything as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "chips/cpu/features.h"
#include "chips/cpu/weights_pool.h"
#include "models/session.h"
#include "tiny.h"

#define N 150           /* tokens of a text: three pages */
#define OTHERS 7

static int32_t text[OTHERS + 1][N];

static int make_texts(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 11);
    for (int t = 0; t <= OTHERS; t++)
        for (int i = 0; i < N; i++)
            text[t][i] = (int32_t)rng_below(&rng, 320);
    return 0;
}

static struct session *open_session(const struct model *m, struct session_opts o)
{
    struct session *s = NULL;
    struct err e = { 0 };

    if (session_open(&s, m, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

static void eval(struct session *s, uint32_t seq, const int32_t *tokens, uint32_t n,
                 enum session_want want, float *out)
{
    const struct session_input in = { .seq = seq, .tokens = tokens, .n_tokens = n, .want = want };
    struct err e = { 0 };

    if (session_eval(s, &in, 1, out, &e) < 0)
        fail_msg("%s", e.msg);
}

static float *rows(uint32_t n)
{
    float *p = mem_array(n, 320 * sizeof(float));

    assert_non_null(p);
    return p;
}

/* text[0] whole in one step: what everything else must equal. */
static float *reference_rows(const struct model *m, struct session_opts o)
{
    float *out = rows(N);
    struct session *s;

    o.n_ctx = o.max_rows = o.max_out = N;
    s = open_session(m, o);
    eval(s, 0, text[0], N, SESSION_ALL, out);
    session_close(s);
    for (int i = 0; i < N * 320; i++)
        if (!(out[i] > -1e6f && out[i] < 1e6f))
            fail_msg("logit %d is %g", i, (double)out[i]);
    return out;
}

static void same(const float *a, const float *b, uint32_t n, const char *what)
{
    if (memcmp(a, b, n * 320 * sizeof *a) != 0)
        fail_msg("%s: other bits", what);
}

static void check_chunks(const struct model *m, struct session_opts o, const float *want)
{
    static const uint32_t chunks[] = { 1, 7, 64, N };
    float *out = rows(N);

    o.n_ctx = N;
    o.max_rows = 64;
    o.max_out = 5;
    for (size_t c = 0; c < 4; c++) {
        struct session *s = open_session(m, o);

        for (uint32_t at = 0; at < N; at += chunks[c])
            eval(s, 0, text[0] + at, at + chunks[c] > N ? N - at : chunks[c], SESSION_ALL,
                 out + at * 320);
        same(out, want, N, "cut into chunks");
        session_close(s);
    }
    mem_free(out);
}

/* Beside seven others, with uneven pieces. */
static void check_company(const struct model *m, struct session_opts o, const float *want)
{
    float *out = rows(OTHERS + 1);
    struct err e = { 0 };
    uint32_t at = 0, piece = 1;
    struct session *s;

    o.n_ctx = N;
    o.n_seqs = OTHERS + 1;
    o.max_rows = 40;
    s = open_session(m, o);
    while (at < N) {
        struct session_input in[OTHERS + 1];
        const uint32_t n = at + piece > N ? N - at : piece;

        for (uint32_t i = 0; i <= OTHERS; i++)
            in[i] = (struct session_input){ .seq = (i + 3) % (OTHERS + 1), .n_tokens = n,
                                            .tokens = text[(i + 3) % (OTHERS + 1)] + at,
                                            .want = SESSION_LAST };
        if (session_eval(s, in, OTHERS + 1, out, &e) < 0)
            fail_msg("%s", e.msg);
        at += n;
        piece = piece * 2 + 1;
        same(out + 5 * 320, want + (at - 1) * 320, 1, "beside seven others");
    }
    session_close(s);
    mem_free(out);
}

static void check_model(const char *arch, enum quant_mix mix, struct session_opts o)
{
    const struct shape shape = tiny_shape(arch);
    struct model *m = tiny_open(&shape, mix);
    float *want = reference_rows(m, o);

    check_chunks(m, o, want);
    check_company(m, o, want);
    mem_free(want);
    model_close(m);
}

static void test_same_bits_reference(void **state)
{
    (void)state;
    check_model("llama", QUANT_Q4_0, (struct session_opts){ .exec = SESSION_EXEC_REF });
}

/* The thread team: every weight type's kernels, 1, 2 and 3 threads, two instruction sets. */
static void check_fast(enum quant_mix mix)
{
    const struct shape shape = tiny_shape("llama");
    struct model *m = tiny_open(&shape, mix);
    struct session_opts o = { .exec = SESSION_EXEC_CPU, .n_threads = 1 };
    float *want = reference_rows(m, o), *other;

    check_chunks(m, o, want);
    check_company(m, o, want);
    for (o.n_threads = 2; o.n_threads <= 3; o.n_threads++) {
        other = reference_rows(m, o);
        same(other, want, N, "with more threads");
        mem_free(other);
    }
    o.n_threads = 2;
    check_company(m, o, want);
    /* another instruction set may round otherwise, but as steadily */
    o.isa_mask = CPU_AVX2;
    other = reference_rows(m, o);
    check_company(m, o, other);
    mem_free(other);
    mem_free(want);
    model_close(m);
}

static void test_same_bits_q8_0(void **state)
{
    (void)state;
    check_fast(QUANT_Q8_0);
}

static void test_same_bits_q4_k(void **state)
{
    (void)state;
    check_fast(QUANT_Q4_K_S);
}

static void test_same_bits_bf16(void **state)
{
    (void)state;
    check_fast(QUANT_BF16);
}

static void test_same_bits_cache_types(void **state)
{
    static const enum dtype types[] = { DTYPE_F32, DTYPE_BF16, DTYPE_Q8_0 };
    const struct shape shape = tiny_shape("qwen3");
    struct model *m = tiny_open(&shape, QUANT_Q4_0);

    (void)state;
    for (int i = 0; i < 3; i++) {
        const struct session_opts o = { .exec = SESSION_EXEC_CPU, .n_threads = 2, .kv_set = true,
                                        .k_dtype = types[i], .v_dtype = types[i] };
        float *want = reference_rows(m, o);

        check_chunks(m, o, want);
        mem_free(want);
    }
    model_close(m);
}

/* ---- sequences ---- */

static void test_fork_and_truncate(void **state)
{
    const struct shape shape = tiny_shape("qwen3");
    struct model *m = tiny_open(&shape, QUANT_Q8_0);
    const struct session_opts o = { .n_threads = 2, .n_ctx = N, .n_seqs = 3 };
    struct session *s = open_session(m, o);
    float *a = rows(1), *b = rows(1), *c = rows(1);
    struct err e = { 0 };

    (void)state;
    eval(s, 0, text[0], 70, SESSION_LAST, a);
    assert_int_equal(session_fork(s, 0, 1, &e), 0);
    assert_int_equal(session_len(s, 1), 70);
    /* both go on from the shared page, each in its own copy */
    eval(s, 0, text[1], 20, SESSION_LAST, a);
    eval(s, 1, text[2], 20, SESSION_LAST, b);
    eval(s, 2, text[0], 70, SESSION_NONE, NULL);
    eval(s, 2, text[2], 20, SESSION_LAST, c);
    same(b, c, 1, "a fork");
    assert_int_equal(session_truncate(s, 2, 70, &e), 0);
    eval(s, 2, text[1], 20, SESSION_LAST, c);
    same(a, c, 1, "after truncation");
    /* back into a shared page: the other must not see what is written over it */
    assert_int_equal(session_fork(s, 1, 2, &e), 0);
    assert_int_equal(session_truncate(s, 2, 66, &e), 0);
    eval(s, 2, text[3], 10, SESSION_NONE, NULL);
    eval(s, 1, text[3], 1, SESSION_LAST, b);
    session_reset(s, 2);
    eval(s, 2, text[0], 70, SESSION_NONE, NULL);
    eval(s, 2, text[2], 20, SESSION_NONE, NULL);
    eval(s, 2, text[3], 1, SESSION_LAST, c);
    same(b, c, 1, "beside a truncated fork");
    assert_int_equal(session_truncate(s, 2, 92, &e), WATT_EINVAL);
    assert_int_equal(session_fork(s, 1, 1, &e), WATT_EINVAL);
    assert_int_equal(session_fork(s, 1, 3, &e), WATT_EINVAL);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    session_close(s);
    model_close(m);
}

static void test_full(void **state)
{
    const struct shape shape = tiny_shape("llama");
    struct model *m = tiny_open(&shape, QUANT_Q8_0);
    struct session_opts o = { .n_threads = 2, .n_ctx = 100, .n_seqs = 2 };
    struct session *s = open_session(m, o);
    struct session_memory mem;
    float *a = rows(1), *b = rows(1);
    struct err e = { 0 };

    (void)state;
    eval(s, 0, text[0], 99, SESSION_NONE, NULL);
    assert_int_equal(session_append(s, 0, text[0] + 99, 2, a, &e), WATT_ELIMIT);
    assert_non_null(strstr(e.msg, "99 positions used, 2 more"));
    assert_int_equal(session_len(s, 0), 99);
    assert_int_equal(session_append(s, 0, text[0] + 99, 1, a, &e), 0);
    session_memory(s, &mem);
    session_close(s);
    /* room for three pages only: two sequences of two pages don't fit */
    o.kv_bytes = 3 * 64 * mem.kv_token;
    s = open_session(m, o);
    eval(s, 0, text[0], 100, SESSION_LAST, b);
    same(a, b, 1, "with a small pool");
    assert_int_equal(session_append(s, 1, text[1], 65, a, &e), WATT_ELIMIT);
    assert_non_null(strstr(e.msg, "pages"));
    assert_int_equal(session_len(s, 1), 0);
    assert_int_equal(session_append(s, 1, text[1], 64, a, &e), 0);
    session_reset(s, 0);
    assert_int_equal(session_append(s, 1, text[1], 36, a, &e), 0);
    session_close(s);
    o.kv_bytes = 100;
    assert_int_equal(session_open(&s, m, &o, &e), WATT_ELIMIT);
    mem_free(a);
    mem_free(b);
    model_close(m);
}

static void test_refused(void **state)
{
    const struct shape shape = tiny_shape("llama");
    struct model *m = tiny_open(&shape, QUANT_Q8_0);
    const struct session_opts o = { .n_threads = 2, .n_ctx = 100, .n_seqs = 2 };
    struct session *s = open_session(m, o);
    const int32_t bad[2] = { 3, 320 };
    float *a = rows(2);
    struct session_input in[2] = { { .seq = 0, .tokens = text[0], .n_tokens = 3 },
                                   { .seq = 0, .tokens = text[0], .n_tokens = 3 } };
    struct session_opts q = { .kv_set = true, .k_dtype = DTYPE_Q4_0, .v_dtype = DTYPE_F16 };
    struct session *t = NULL;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(session_append(s, 0, bad, 2, a, &e), WATT_EINVAL);
    assert_string_equal(e.msg, "token 320 is outside 0..319");
    assert_int_equal(session_append(s, 2, text[0], 2, a, &e), WATT_EINVAL);
    assert_int_equal(session_append(s, 0, text[0], 0, a, &e), WATT_EINVAL);
    assert_int_equal(session_eval(s, in, 2, NULL, &e), WATT_EINVAL);
    in[1].seq = 1;
    in[1].want = SESSION_LAST;
    assert_int_equal(session_eval(s, in, 2, NULL, &e), WATT_EINVAL);
    assert_int_equal(session_len(s, 0) + session_len(s, 1), 0);
    assert_int_equal(session_open(&t, m, &q, &e), WATT_EINVAL);
    q = (struct session_opts){ .n_ctx = 1u << 30 };
    assert_int_equal(session_open(&t, m, &q, &e), WATT_ELIMIT);
    mem_free(a);
    session_close(s);
    model_close(m);
}

static void test_share(void **state)
{
    const struct shape shape = tiny_shape("llama");
    struct model *m = tiny_open(&shape, QUANT_Q8_0);
    struct session_opts o = { .n_threads = 2, .n_ctx = 100, .max_rows = 32 };
    struct session *a = open_session(m, o), *b, *c = NULL;
    float *x = rows(1), *y = rows(1);
    struct err e = { 0 };

    (void)state;
    o.share = a;
    b = open_session(m, o);
    o.max_rows = 33;
    assert_int_equal(session_open(&c, m, &o, &e), WATT_EINVAL);
    eval(a, 0, text[0], 40, SESSION_LAST, x);
    eval(b, 0, text[0], 30, SESSION_NONE, NULL);
    eval(a, 0, text[0] + 40, 20, SESSION_LAST, x);
    session_close(a);
    eval(b, 0, text[0] + 30, 30, SESSION_LAST, y);
    same(x, y, 1, "sharing an executor");
    session_close(b);
    mem_free(x);
    mem_free(y);
    model_close(m);
}

/* Opens a file twice, for logits and for embeddings, while it is there. */
static void open_both(struct model **m, struct model **em)
{
    const struct shape shape = tiny_shape("llama");
    const struct synth_opts o = { .mix = QUANT_Q4_0, .pure = true, .seed = 7, .n_threads = 1 };
    const struct model_opts embed = { .embed = true };
    char dir[] = "watt-session-XXXXXX", path[64];
    struct err e = { 0 };

    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/m.gguf", dir);
    if (synth_write(path, &shape, &o, &e) < 0 || model_open(m, path, NULL, &e) < 0 ||
        model_open(em, path, &embed, &e) < 0)
        fail_msg("%s", e.msg);
    (void)unlink(path);
    (void)rmdir(dir);
}

/* Two programs of a file over the same prepared weights: the same bits, had once, and there until the
 * last is closed. */
static void test_shared_weights(void **state)
{
    struct session_opts o = { .n_threads = 2, .n_ctx = 100, .max_rows = 32 };
    float *logits = rows(2), *vector = rows(2);
    struct session_memory alone, plan, mem;
    struct weights_pool *pool = NULL;
    struct session *a, *b, *third;
    struct model *m, *em;
    struct err e = { 0 };
    uint64_t bytes;

    (void)state;
    open_both(&m, &em);
    a = open_session(m, o);
    b = open_session(em, o);
    session_memory(b, &alone);
    eval(a, 0, text[0], 20, SESSION_LAST, logits);
    eval(b, 0, text[0], 20, SESSION_LAST, vector);
    session_close(a);
    session_close(b);
    assert_int_equal(weights_pool_open(&pool, &e), 0);
    o.weights_pool = pool;
    a = open_session(m, o);
    session_memory(a, &mem);
    assert_int_equal(mem.shared, 0);
    bytes = weights_pool_bytes(pool);
    assert_true(bytes > 0 && bytes <= mem.weights);
    assert_int_equal(session_plan(em, &o, &plan, &e), 0);
    b = open_session(em, o);
    third = open_session(em, o);
    session_memory(b, &mem);
    assert_memory_equal(&plan, &mem, sizeof mem);
    assert_true(mem.shared > 0);
    assert_int_equal(mem.weights + mem.shared, alone.weights);
    assert_int_equal(mem.total + mem.shared, alone.total);
    assert_int_equal(weights_pool_bytes(pool), bytes);      /* none of its own */
    eval(a, 0, text[0], 20, SESSION_LAST, logits + 320);
    same(logits, logits + 320, 1, "sharing weights");
    session_close(a);
    eval(b, 0, text[0], 20, SESSION_LAST, vector + 320);
    assert_memory_equal(vector, vector + 320, session_width(b) * sizeof *vector);
    session_close(b);
    assert_int_equal(weights_pool_bytes(pool), bytes);
    session_close(third);
    assert_int_equal(weights_pool_bytes(pool), 0);
    weights_pool_close(pool);
    mem_free(logits);
    mem_free(vector);
    model_close(m);
    model_close(em);
}

static void test_plan_is_kept(void **state)
{
    const struct shape shape = tiny_shape("llama");
    struct model *m = tiny_open(&shape, QUANT_Q8_0);
    const struct session_opts o = { .n_threads = 2, .n_ctx = 300, .n_seqs = 3 };
    struct session_memory planned, real;
    struct session *s = open_session(m, o);
    struct err e = { 0 };

    (void)state;
    assert_int_equal(session_plan(m, &o, &planned, &e), 0);
    session_memory(s, &real);
    assert_memory_equal(&planned, &real, sizeof real);
    /* 2 layers, 2 heads, keys and values of 64 in F16 */
    assert_int_equal(real.kv_token, 2 * 2 * 2 * 64 * 2);
    assert_int_equal(real.kv, 3ull * 5 * 64 * real.kv_token);
    session_close(s);
    model_close(m);
}

/* Every allocation fails once: an error each time, nothing leaked. */
static void test_out_of_memory(void **state)
{
#ifdef WATT_FAULTS
    const struct shape shape = tiny_shape("llama");
    struct model *m = tiny_open(&shape, QUANT_Q8_0);
    const struct session_opts o = { .n_threads = 2, .n_ctx = 64 };

    (void)state;
    for (unsigned long n = 1;; n++) {
        struct session *s = NULL;
        struct err e = { 0 };
        int rc;

        (void)fault_arm(FAULT_ALLOC, n);
        rc = session_open(&s, m, &o, &e);
        (void)fault_arm(FAULT_ALLOC, 0);
        session_close(s);
        if (rc == 0)
            break;
        assert_int_equal(rc, WATT_ENOMEM);
        assert_null(s);
        assert_true(n < 1000);
    }
    model_close(m);
#else
    (void)state;
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits_reference),
        cmocka_unit_test(test_same_bits_q8_0),
        cmocka_unit_test(test_same_bits_q4_k),
        cmocka_unit_test(test_same_bits_bf16),
        cmocka_unit_test(test_same_bits_cache_types),
        cmocka_unit_test(test_fork_and_truncate),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_shared_weights),
        cmocka_unit_test(test_plan_is_kept),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, make_texts, NULL);
}
