/* test_perplexity.c: windows over a text against a plain count over whole windows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/perplexity.h"
#include "tiny.h"

#define N 150
#define VOCAB 320u

static int32_t text[N];

static int make_text(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 17);
    for (int i = 0; i < N; i++)
        text[i] = (int32_t)rng_below(&rng, VOCAB);
    return 0;
}

static double nats_of(const float *x, int32_t id)
{
    double sum = 0;

    for (uint32_t i = 0; i < VOCAB; i++)
        sum += exp((double)x[i]);
    return log(sum) - x[id];
}

/* Each window in one piece; counted[i]: how often token i was. */
static double plain(struct session *s, const struct perplexity_opts *o, int *counted)
{
    float *rows = mem_array(N + 1, VOCAB * sizeof *rows);
    int32_t ids[N + 1];
    struct err e = { 0 };
    double sum = 0;

    assert_non_null(rows);
    for (uint32_t start = 0; start < N; start += o->stride) {
        uint32_t n = 0, first = start;

        if (o->bos >= 0)
            ids[n++] = o->bos;
        else
            first = start + 1;
        for (uint32_t i = start; i < N && n < o->ctx; i++)
            ids[n++] = text[i];
        session_reset(s, 0);
        if (session_eval(s, &(struct session_input){ .tokens = ids, .n_tokens = n,
                                                     .want = SESSION_ALL }, 1, rows, &e) < 0)
            fail_msg("%s", e.msg);
        for (uint32_t r = 0; r < n && first + r < N; r++)
            if (counted[first + r] == 0) {
                counted[first + r]++;
                sum += nats_of(rows + (size_t)r * VOCAB, text[first + r]);
            }
    }
    mem_free(rows);
    return sum;
}

static void check(struct session *s, uint32_t ctx, uint32_t stride, int32_t bos)
{
    const struct perplexity_opts o = { .ctx = ctx, .stride = stride, .bos = bos };
    struct perplexity r;
    struct err e = { 0 };
    int counted[N] = { 0 };
    const double want = plain(s, &o, counted);
    uint64_t n = 0;

    for (int i = 0; i < N; i++)
        n += (uint64_t)counted[i];
    if (perplexity_measure(&r, s, text, N, &o, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(r.n_scored, n);
    assert_int_equal(r.first, bos < 0 ? 1 : 0);
    if (!(fabs(r.nats - want) < 1e-6 * want && fabs(r.mean - want / (double)n) < 1e-6))
        fail_msg("%u every %u: %.9g nats, expected %.9g", ctx, stride, r.nats, want);
    assert_true(r.stderr_mean < 0);     /* one block only */
    assert_int_equal(session_len(s, 0), 0);
}

static void test_windows(void **state)
{
    const struct shape shape = tiny_shape("llama");
    struct model *m = tiny_open(&shape, QUANT_Q8_0);
    const struct session_opts o = { .n_threads = 2, .n_ctx = N + 1, .max_rows = N + 1,
                                    .max_out = N + 1 };
    struct session *s = NULL;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(session_open(&s, m, &o, &e), 0);
    for (int32_t bos = -1; bos < 4; bos += 4) {
        check(s, N + 1, N + 1, bos);
        check(s, 40, 40, bos);
        check(s, 40, 20, bos);
        check(s, 33, 7, bos);
        check(s, 2, 1, bos);
        check(s, N, 1, bos);
    }
    session_close(s);
    model_close(m);
}

/* Steps of fewer rows than a window, and the spread between blocks. */
static void test_chunks_and_spread(void **state)
{
    const struct shape shape = tiny_shape("llama");
    struct model *m = tiny_open(&shape, QUANT_Q8_0);
    const struct session_opts o = { .n_threads = 2, .n_ctx = 128, .max_rows = 16, .max_out = 16 };
    const struct perplexity_opts p = { .ctx = 128, .stride = 64, .bos = -1 };
    static int32_t longer[6 * PERPLEXITY_BLOCK];
    struct session *s = NULL;
    struct perplexity a, b;
    struct err e = { 0 };
    struct rng rng;

    (void)state;
    rng_init(&rng, 3);
    for (size_t i = 0; i < sizeof longer / sizeof *longer; i++)
        longer[i] = (int32_t)rng_below(&rng, VOCAB);
    assert_int_equal(session_open(&s, m, &o, &e), 0);
    assert_int_equal(perplexity_measure(&a, s, longer, sizeof longer / sizeof *longer, &p, &e), 0);
    assert_int_equal(a.n_scored, 6 * PERPLEXITY_BLOCK - 1);
    assert_true(a.stderr_mean > 0 && a.stderr_mean < 1);
    assert_int_equal(perplexity_measure(&b, s, longer, sizeof longer / sizeof *longer, &p, &e), 0);
    assert_true(a.nats == b.nats);
    session_close(s);
    model_close(m);
}

static int stop(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx, (void)total;
    return done > 60;
}

static void test_refused(void **state)
{
    const struct shape shape = tiny_shape("llama");
    struct model *m = tiny_open(&shape, QUANT_Q8_0);
    const struct session_opts o = { .n_threads = 1, .n_ctx = 64 };
    struct perplexity_opts p = { .ctx = 64, .stride = 32, .bos = -1 };
    const int32_t bad[3] = { 1, 2, 320 };
    struct session *s = NULL;
    struct perplexity r;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(session_open(&s, m, &o, &e), 0);
    assert_int_equal(perplexity_measure(&r, s, text, 1, &p, &e), WATT_EINVAL);
    assert_int_equal(perplexity_measure(&r, s, bad, 3, &p, &e), WATT_EINVAL);
    p.progress = stop;
    assert_int_equal(perplexity_measure(&r, s, text, N, &p, &e), WATT_ECANCEL);
    p.progress = NULL;
    p.ctx = 65;
    assert_int_equal(perplexity_measure(&r, s, text, N, &p, &e), WATT_EINVAL);
    p.ctx = 16;
    assert_int_equal(perplexity_measure(&r, s, text, N, &p, &e), WATT_EINVAL);
    p.stride = 0;
    assert_int_equal(perplexity_measure(&r, s, text, N, &p, &e), WATT_EINVAL);
    session_close(s);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_chunks_and_spread),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, make_text, NULL);
}
