/* test_sampler.c: each stage against values worked out by hand, the order of
 * candidates against a plain sort, the draw against its distribution, and every
 * stage against hostile logits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "models/sampler.h"
#include "models/sampler_internal.h"

#define NEAR(a, b) assert_true(fabs((double)(a) - (double)(b)) < 1e-5)

/* All stages off: the raw distribution. */
static struct sampler_options all_off(void)
{
    struct sampler_options o;

    sampler_defaults(&o);
    o.temp = 1;
    o.top_k = 0;
    o.top_p = 1;
    o.min_p = 0;
    return o;
}

static struct sampler *opened(const struct sampler_options *o, uint32_t n_vocab)
{
    const struct sampler_spec spec = { .n_vocab = n_vocab, .n_ctx = 256 };
    struct err e = { 0 };
    struct sampler *s = NULL;

    if (sampler_open(&s, &spec, o, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

/* What is left, as "id id …", after one run of the chain. */
static const char *left(struct sampler *s, const float *logits)
{
    static char text[512];
    const struct sampler_token *t;
    struct err e = { 0 };
    size_t n, at = 0;

    if (sampler_apply(s, logits, NULL, &e) < 0)
        fail_msg("%s", e.msg);
    t = sampler_tokens(s, &n);
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, i ? " %u" : "%u", t[i].id);
    return text;
}

static float p_of(const struct sampler *s, uint32_t id)
{
    size_t n;
    const struct sampler_token *t = sampler_tokens(s, &n);

    for (size_t i = 0; i < n; i++)
        if (t[i].id == id)
            return t[i].p;
    return 0;
}

static float logit_of(const struct sampler *s, uint32_t id)
{
    size_t n;
    const struct sampler_token *t = sampler_tokens(s, &n);

    for (size_t i = 0; i < n; i++)
        if (t[i].id == id)
            return t[i].logit;
    fail_msg("token %u is not left", id);
    return 0;
}

static uint32_t sample(struct sampler *s, const float *logits)
{
    struct err e = { 0 };
    uint32_t id = UINT32_MAX;

    if (sampler_sample(s, logits, NULL, &id, &e) < 0)
        fail_msg("%s", e.msg);
    return id;
}

/* p = 0.5, 0.3, 0.15, 0.05 in another order than that of ids, times a constant. */
static void four(float logits[4])
{
    logits[0] = logf(0.15f) + 3;
    logits[1] = logf(0.5f) + 3;
    logits[2] = logf(0.05f) + 3;
    logits[3] = logf(0.3f) + 3;
}

static void greedy_takes_best_and_lowest_id(void **state)
{
    struct sampler_options o = all_off();
    const float logits[] = { 1, 5, -3, 5, 2 }, odd[] = { NAN, -INFINITY, -1e30f, INFINITY, FLT_MAX };
    struct sampler *s;

    (void)state;
    o.temp = 0;
    s = opened(&o, 5);
    assert_int_equal(sample(s, logits), 1);
    assert_string_equal(left(s, logits), "1");
    NEAR(p_of(s, 1), 1);
    assert_int_equal(sample(s, odd), 3);    /* +inf is FLT_MAX, so 3 and 4 tie */
    sampler_close(s);
}

static void hostile_logits(void **state)
{
    struct sampler_options o = all_off();
    const float none[] = { NAN, -INFINITY, -NAN }, one[] = { NAN, -INFINITY, -3e38f };
    const float spread[] = { FLT_MAX, -FLT_MAX, INFINITY };
    const uint64_t mask = 1, no_token = 0;
    struct sampler *s;
    struct err e = { 0 };
    uint32_t id;

    (void)state;
    for (int temp = 0; temp < 2; temp++) {
        o.temp = (float)temp;
        id = 77;
        s = opened(&o, 3);
        assert_int_equal(sampler_sample(s, none, NULL, &id, &e), WATT_EINVAL);
        assert_non_null(strstr(e.msg, "no token is left"));
        assert_int_equal(id, 77);
        assert_int_equal(sample(s, one), 2);
        assert_int_equal(sampler_sample(s, one, &mask, &id, &e), WATT_EINVAL);
        assert_int_equal(sampler_sample(s, spread, &no_token, &id, &e), WATT_EINVAL);
        assert_non_null(strstr(e.msg, "masked"));
        assert_int_equal(sampler_sample(s, spread, &mask, &id, &e), 0);
        assert_int_equal(id, 0);
        sampler_close(s);
    }
    s = opened(&o, 3);
    assert_string_equal(left(s, spread), "0 1 2");
    NEAR(p_of(s, 0), 0.5);
    NEAR(p_of(s, 1), 0);
    sampler_close(s);
}

static void bias_adds_and_bans(void **state)
{
    struct sampler_options o = all_off();
    const struct logit_bias bias[] = { { 1, 2.5f }, { 2, -INFINITY }, { 1, 0.5f }, { 3, 100 } };
    const float logits[] = { 1, 1, 9, -INFINITY };
    struct sampler *s;

    (void)state;
    o.bias = bias;
    o.n_bias = 4;
    s = opened(&o, 4);
    assert_string_equal(left(s, logits), "0 1");
    NEAR(logit_of(s, 0), 1);
    NEAR(logit_of(s, 1), 4);
    sampler_close(s);
}

static void penalties_by_hand(void **state)
{
    struct sampler_options o = all_off();
    const float logits[] = { 2, -2, 1, 0 };
    struct sampler *s;

    (void)state;
    o.repeat_penalty = 2;
    o.frequency_penalty = 0.5f;
    o.presence_penalty = 0.25f;
    o.penalty_last_n = 3;
    s = opened(&o, 4);
    assert_string_equal(left(s, logits), "0 1 2 3");
    NEAR(logit_of(s, 0), 2);                    /* nothing said yet */
    sampler_accept(s, 0);
    sampler_accept(s, 0);
    sampler_accept(s, 1);
    sampler_accept(s, 99);                      /* no such token: ignored */
    for (int twice = 0; twice < 2; twice++) {
        (void)left(s, logits);
        NEAR(logit_of(s, 0), 2.0 / 2 - 2 * 0.5 - 0.25);
        NEAR(logit_of(s, 1), -2.0 * 2 - 0.5 - 0.25);
        NEAR(logit_of(s, 2), 1);
    }
    sampler_accept(s, 2);                       /* the first 0 leaves the window */
    (void)left(s, logits);
    NEAR(logit_of(s, 0), 2.0 / 2 - 0.5 - 0.25);
    NEAR(logit_of(s, 2), 1.0 / 2 - 0.5 - 0.25);
    sampler_reset(s);
    (void)left(s, logits);
    NEAR(logit_of(s, 0), 2);
    sampler_close(s);
}

/* A large vocabulary takes another path than a small one. */
static void penalties_in_large_vocabulary(void **state)
{
    struct sampler_options o = all_off();
    float logits[1000];
    struct sampler *s;

    (void)state;
    for (int i = 0; i < 1000; i++)
        logits[i] = 1;
    o.frequency_penalty = 0.5f;
    o.penalty_last_n = -1;
    o.temp = 0;
    s = opened(&o, 1000);
    sampler_accept(s, 0);
    sampler_accept(s, 1);
    sampler_accept(s, 0);
    for (int twice = 0; twice < 2; twice++)
        assert_int_equal(sample(s, logits), 2);
    sampler_close(s);
    o.order[0] = SAMPLER_TOP_K;     /* penalties after a cut */
    o.order[1] = SAMPLER_PENALTIES;
    o.n_order = 2;
    o.top_k = 3;
    o.temp = 1;
    s = opened(&o, 1000);
    sampler_accept(s, 2);
    sampler_accept(s, 500);
    assert_string_equal(left(s, logits), "0 1 2");
    NEAR(logit_of(s, 2), 0.5);
    NEAR(logit_of(s, 1), 1);
    sampler_close(s);
}

static struct sv letter(void *ctx, uint32_t id)
{
    return (struct sv){ (const char *)ctx + id, 1 };
}

static struct sampler *dry_opened(const char *alphabet, struct sampler_options *o)
{
    const struct sampler_spec spec = { .n_vocab = (uint32_t)strlen(alphabet), .n_ctx = 64,
                                       .piece = letter, .piece_ctx = (void *)(uintptr_t)alphabet };
    struct sampler *s = NULL;
    struct err e = { 0 };

    *o = all_off();
    o->dry_multiplier = 0.8f;
    if (sampler_open(&s, &spec, o, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

static void say(struct sampler *s, const char *alphabet, const char *text)
{
    for (; *text; text++)
        sampler_accept(s, (uint32_t)(strchr(alphabet, *text) - alphabet));
}

static void dry_by_hand(void **state)
{
    static const char abc[] = "abcdefg\n";
    const float zero[8] = { 0 };
    const struct { const char *text; char token; double penalty; } cases[] = {
        { "abcab", 'c', 0.8 },                      /* "ab" again: length 2 */
        { "abcdabc", 'd', 0.8 * 1.75 },             /* length 3 */
        { "abcdabcdabcd", 'a', 0.8 * 1.75 * 1.75 * 1.75 * 1.75 * 1.75 * 1.75 },   /* 8 */
        { "abca", 'b', 0 },                         /* length 1 is free */
        { "aaaa", 'a', 0.8 * 1.75 },            /* overlapping: length 3 */
        { "dabcd\nab", 'c', 0.8 },                  /* 2 tokens since the breaker */
        { "dabcd\ndab", 'c', 0.8 * 1.75 },          /* 3 */
        { "ab\nab\n", 'a', 0 },                     /* nothing reaches over a breaker */
    };
    struct sampler_options o;
    struct sampler *s;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const uint32_t id = (uint32_t)(strchr(abc, cases[i].token) - abc);

        s = dry_opened(abc, &o);
        say(s, abc, cases[i].text);
        (void)left(s, zero);
        if (fabs((double)logit_of(s, id) + cases[i].penalty) > 1e-4)
            fail_msg("'%s' then %c: %g, wanted %g", cases[i].text, cases[i].token,
                     (double)logit_of(s, id), -cases[i].penalty);
        sampler_close(s);
    }
    s = dry_opened(abc, &o);
    say(s, abc, "abcdab\ncdab");        /* since the breaker: "cdab"; "cdab" stood before */
    (void)left(s, zero);
    NEAR(logit_of(s, 7), -0.8 * 1.75 * 1.75);       /* it was followed by the breaker */
    NEAR(logit_of(s, 2), -0.8);                     /* "ab" was followed by c, too */
    sampler_close(s);
}

/* Lengths from the Z algorithm against comparing every position. */
static void dry_against_brute_force(void **state)
{
    static const char abc[] = "abc";
    struct sampler_options o;
    struct rng r;

    (void)state;
    rng_init(&r, 5);
    for (int round = 0; round < 300; round++) {
        struct sampler *s = dry_opened(abc, &o);
        const size_t n = 1 + rng_below(&r, 60);
        const float zero[3] = { 0 };
        uint32_t text[64];
        size_t longest[3] = { 0 };

        for (size_t i = 0; i < n; i++) {
            text[i] = rng_below(&r, 1 + (uint32_t)round % 3);
            sampler_accept(s, text[i]);
        }
        for (size_t i = 0; i + 1 < n; i++) {
            size_t len = 0;

            while (len <= i && text[i - len] == text[n - 1 - len])
                len++;
            if (len > longest[text[i + 1]])
                longest[text[i + 1]] = len;
        }
        (void)left(s, zero);
        for (uint32_t id = 0; id < 3; id++) {
            const double want = longest[id] >= 2 ? -0.8 * pow(1.75, (double)longest[id] - 2) : 0;

            assert_true(fabs((double)logit_of(s, id) - want) <= 1e-5 * (1 + fabs(want)));
        }
        sampler_close(s);
    }
}

static void cuts_by_hand(void **state)
{
    struct sampler_options o;
    float logits[4];
    struct sampler *s;

    (void)state;
    four(logits);
    o = all_off();
    s = opened(&o, 4);
    assert_string_equal(left(s, logits), "0 1 2 3");
    NEAR(p_of(s, 1), 0.5);
    NEAR(p_of(s, 2), 0.05);
    sampler_close(s);

    o.top_k = 2;
    s = opened(&o, 4);
    assert_string_equal(left(s, logits), "1 3");
    NEAR(p_of(s, 1), 0.625);
    sampler_close(s);

    o = all_off();
    o.top_p = 0.7f;
    s = opened(&o, 4);
    assert_string_equal(left(s, logits), "1 3");
    NEAR(p_of(s, 3), 0.375);
    sampler_close(s);
    o.top_p = 0;
    s = opened(&o, 4);
    assert_string_equal(left(s, logits), "1");
    sampler_close(s);
    o.min_keep = 3;
    s = opened(&o, 4);
    assert_string_equal(left(s, logits), "0 1 3");
    sampler_close(s);

    o = all_off();
    o.min_p = 0.2f;     /* at least 0.1 */
    s = opened(&o, 4);
    assert_string_equal(left(s, logits), "0 1 3");
    sampler_close(s);
    o.min_p = 0.9f;
    o.min_keep = 2;
    s = opened(&o, 4);
    assert_string_equal(left(s, logits), "1 3");
    sampler_close(s);
}

/* p = 1/2, 1/4, 1/8, 1/8: entropy 1.75 bits; surprises 1, 2, 3, 3 are 0.75,
 * 0.25, 1.25, 1.25 away. */
static void typical_by_hand(void **state)
{
    const float logits[] = { logf(0.5f), logf(0.25f), logf(0.125f), logf(0.125f) };
    const struct { float p; const char *want; } cases[] = {
        { 0.2f, "1" }, { 0.5f, "0 1" }, { 0.8f, "0 1 2" }, { 0.95f, "0 1 2 3" }, { 0, "1" },
    };
    struct sampler_options o = all_off();

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sampler *s;

        o.typical_p = cases[i].p;
        s = opened(&o, 4);
        assert_string_equal(left(s, logits), cases[i].want);
        sampler_close(s);
    }
}

static void xtc_by_hand(void **state)
{
    struct sampler_options o = all_off();
    float logits[4];
    const struct { float threshold; const char *want; } cases[] = {
        { 0.1f, "0 2" },        /* three above: the least of them stays */
        { 0.2f, "0 2 3" },      /* two above */
        { 0.4f, "0 1 2 3" },    /* one above: nothing to leave out */
        { 0.0f, "2" },
        { 0.51f, "0 1 2 3" },   /* off */
    };
    struct sampler *s;
    int cut = 0;

    (void)state;
    four(logits);
    o.xtc_probability = 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        o.xtc_threshold = cases[i].threshold;
        s = opened(&o, 4);
        assert_string_equal(left(s, logits), cases[i].want);
        sampler_close(s);
    }
    o.xtc_threshold = 0.1f;
    o.min_keep = 3;
    s = opened(&o, 4);
    assert_string_equal(left(s, logits), "0 1 2 3");
    sampler_close(s);
    o.min_keep = 1;
    o.xtc_probability = 0.25f;
    s = opened(&o, 4);
    for (int i = 0; i < 4000; i++)
        cut += strcmp(left(s, logits), "0 2") == 0;
    assert_in_range(cut, 900, 1100);
    sampler_close(s);
}

static void temperatures_by_hand(void **state)
{
    const float logits[] = { logf(0.5f), logf(0.25f), logf(0.125f), logf(0.125f) };
    const float big[] = { 3e38f, 2.9e38f, -3e38f };
    struct sampler_options o = all_off();
    struct sampler *s;

    (void)state;
    o.temp = 2;
    s = opened(&o, 4);
    (void)left(s, logits);
    NEAR(p_of(s, 0) / p_of(s, 1), sqrt(2));
    NEAR(logit_of(s, 2), log(0.125) / 2);
    sampler_close(s);
    o.temp = 1e-6f;
    s = opened(&o, 3);
    assert_int_equal(sample(s, big), 0);
    sampler_close(s);

    o.temp = 1;
    o.dynatemp_range = 0.5f;        /* entropy 1.75 of 2 bits: 0.5 + 0.875 */
    s = opened(&o, 4);
    (void)left(s, logits);
    NEAR(logit_of(s, 0), log(0.5) / 1.375);
    sampler_close(s);
    o.dynatemp_exponent = 2;
    s = opened(&o, 4);
    (void)left(s, logits);
    NEAR(logit_of(s, 0), log(0.5) / (0.5 + 0.875 * 0.875));
    sampler_close(s);
    o.dynatemp_range = 5;           /* never below 0: 0 … 6 */
    o.dynatemp_exponent = 1;
    s = opened(&o, 4);
    (void)left(s, logits);
    NEAR(logit_of(s, 0), log(0.5) / (6 * 0.875));
    sampler_close(s);
}

static void mirostat_by_hand(void **state)
{
    const float logits[] = { logf(0.125f), logf(0.5f), logf(0.25f), logf(0.125f) };
    struct sampler_options o = all_off();
    struct sampler *s;

    (void)state;
    o.mirostat = 2;
    o.mirostat_tau = 0.9f;
    o.top_k = 1;                    /* has no say under mirostat */
    s = opened(&o, 4);
    NEAR(s->mu, 1.8);
    assert_int_equal(sample(s, logits), 1);     /* the others surprise by 2 bits and more */
    NEAR(s->mu, 1.8 - 0.1 * (0 - 0.9));
    sampler_close(s);
    o.mirostat_tau = 1.25f;         /* allows 2.5 bits */
    s = opened(&o, 4);
    assert_string_equal(left(s, logits), "1 2");
    NEAR(p_of(s, 1), 2.0 / 3);
    if (sample(s, logits) == 1)
        NEAR(s->mu, 2.5 - 0.1 * (log2(1.5) - 1.25));
    else
        NEAR(s->mu, 2.5 - 0.1 * (log2(3) - 1.25));
    sampler_close(s);
}

/* ---- order of candidates ---- */

static int by_logit(const void *a, const void *b)
{
    const struct sampler_token *x = a, *y = b;

    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static void partial_order_equals_sort(void **state)
{
    enum { N = 5000 };
    struct sampler_token *v = mem_array(N, sizeof *v), *want = mem_array(N, sizeof *want);
    struct rng r;

    (void)state;
    rng_init(&r, 11);
    for (int round = 0; round < 40; round++) {
        struct cands c = { .v = v, .n = round % 4 ? N : 1 + rng_below(&r, 40) };

        for (uint32_t i = 0; i < c.n; i++) {
            const float x = (float)rng_normal(&r) * 4;

            /* spread, few distinct values, all alike, ascending with signed zeros */
            v[i].logit = round % 5 == 0 ? x : round % 5 == 1 ? floorf(x) : round % 5 == 2 ? 1.0f
                         : round % 5 == 3 ? (float)i : (i & 1 ? 0.0f : -0.0f);
            v[i].p = v[i].logit;
            v[i].id = i;
        }
        memcpy(want, v, c.n * sizeof *v);
        qsort(want, c.n, sizeof *want, by_logit);
        for (size_t m = 1; ; m *= 3) {
            cands_sort_top(&c, m);
            assert_true(c.n_sorted >= (m < c.n ? m : c.n));
            for (size_t i = 0; i < c.n_sorted; i++)
                assert_int_equal(v[i].id, want[i].id);
            if (m >= c.n)
                break;
        }
        cands_sort_ids(&c);
        for (uint32_t i = 0; i < c.n; i++)
            assert_int_equal(v[i].id, i);
    }
    mem_free(v);
    mem_free(want);
}

/* ---- draw ---- */

static void draws_follow_distribution(void **state)
{
    enum { DRAWS = 100000 };
    const double p[4] = { 0.15, 0.5, 0.05, 0.3 };
    struct sampler_options o = all_off();
    unsigned count[4] = { 0 };
    double chi2 = 0;
    float logits[4];
    struct sampler *s;

    (void)state;
    four(logits);
    o.seed = 1;
    s = opened(&o, 4);
    for (int i = 0; i < DRAWS; i++)
        count[sample(s, logits)]++;
    for (int i = 0; i < 4; i++)
        chi2 += (count[i] - p[i] * DRAWS) * (count[i] - p[i] * DRAWS) / (p[i] * DRAWS);
    assert_true(chi2 < 16.3);       /* 3 degrees of freedom: 0.1 % of seeds exceed this */
    sampler_close(s);
}

static void same_seed_same_tokens(void **state)
{
    struct sampler_options o;
    float logits[300];
    uint32_t first[50];
    struct sampler *s;
    struct rng r;
    int differ = 0;

    (void)state;
    rng_init(&r, 3);
    for (int i = 0; i < 300; i++)
        logits[i] = (float)rng_normal(&r);
    sampler_defaults(&o);
    o.seed = 42;
    s = opened(&o, 300);
    for (int i = 0; i < 50; i++)
        first[i] = sample(s, logits);
    sampler_reset(s);
    for (int i = 0; i < 50; i++)
        assert_int_equal(sample(s, logits), first[i]);
    sampler_close(s);
    o.seed = 43;
    s = opened(&o, 300);
    for (int i = 0; i < 50; i++)
        differ += sample(s, logits) != first[i];
    assert_true(differ > 10);
    sampler_close(s);
}

/* A cut that removes nothing must not change what is drawn. */
static void draw_is_independent_of_path(void **state)
{
    struct sampler_options plain = all_off(), cut = all_off();
    float logits[500];
    struct sampler *a, *b;
    struct rng r;

    (void)state;
    rng_init(&r, 9);
    cut.top_k = 499;
    cut.top_p = 0.999999f;
    a = opened(&plain, 500);
    b = opened(&cut, 500);
    for (int i = 0; i < 200; i++) {
        for (int j = 0; j < 499; j++)
            logits[j] = (float)rng_normal(&r);
        logits[499] = -30;      /* the one that top_k takes away */
        assert_int_equal(sample(a, logits), sample(b, logits));
    }
    sampler_close(a);
    sampler_close(b);
}

/* ---- log probabilities ---- */

static void logprobs_of_raw_distribution(void **state)
{
    struct sampler_options o;
    struct token_logprob top[8];
    float logits[4];
    const float odd[] = { NAN, 0, -INFINITY, 0 };
    struct sampler *s;

    (void)state;
    four(logits);
    sampler_defaults(&o);
    s = opened(&o, 4);
    assert_int_equal(sampler_top_logprobs(s, logits, 3, top), 3);
    assert_int_equal(top[0].id, 1);
    assert_int_equal(top[1].id, 3);
    assert_int_equal(top[2].id, 0);
    NEAR(top[0].logprob, log(0.5));
    NEAR(top[2].logprob, log(0.15));
    assert_int_equal(sampler_top_logprobs(s, logits, 8, top), 4);
    assert_int_equal(sampler_top_logprobs(s, odd, 8, top), 2);
    NEAR(sampler_logprob(logits, 4, 2), log(0.05));
    NEAR(sampler_logprob(odd, 4, 3), log(0.5));
    assert_true(sampler_logprob(odd, 4, 0) == -INFINITY);
    assert_true(sampler_logprob(logits, 4, 4) == -INFINITY);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(sampler_rank(logits, 4, top[i].id), i + 1);
    assert_int_equal(sampler_rank(logits, 4, 2), 4);
    assert_int_equal(sampler_rank(odd, 4, 1), 1);       /* equal ones by id */
    assert_int_equal(sampler_rank(odd, 4, 3), 2);
    assert_int_equal(sampler_rank(odd, 4, 0), 3);
    sampler_close(s);
}

/* ---- options ---- */

static void order_is_parsed(void **state)
{
    struct sampler_options o;
    struct err e = { 0 };

    (void)state;
    sampler_defaults(&o);
    assert_int_equal(o.n_order, SAMPLER_STAGES);
    assert_int_equal(sampler_order_parse(&o, "temp;top_k,typ_p;penalties", &e), 0);
    assert_int_equal(o.n_order, 4);
    assert_int_equal(o.order[0], SAMPLER_TEMPERATURE);
    assert_int_equal(o.order[2], SAMPLER_TYPICAL_P);
    assert_string_equal(sampler_stage_name(o.order[3]), "penalties");
    assert_int_equal(sampler_order_parse(&o, "top_k;top_q", &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "'top_q'"));
    assert_int_equal(sampler_order_parse(&o, "top_k;temp;top_k", &e), WATT_EINVAL);
    assert_int_equal(o.n_order, 4);     /* a refused order changes nothing */
    assert_int_equal(sampler_order_parse(&o, "", &e), 0);
    assert_int_equal(o.n_order, 0);
}

static void order_changes_result(void **state)
{
    /* top_p 0.7 keeps two; after a temperature of 10 it needs three */
    struct sampler_options o = all_off();
    struct err e = { 0 };
    float logits[4];
    struct sampler *s;

    (void)state;
    four(logits);
    o.temp = 10;
    o.top_p = 0.7f;
    s = opened(&o, 4);
    assert_string_equal(left(s, logits), "1 3");
    sampler_close(s);
    assert_int_equal(sampler_order_parse(&o, "temperature;top_p", &e), 0);
    s = opened(&o, 4);
    assert_string_equal(left(s, logits), "0 1 3");
    sampler_close(s);
}

static void bad_options_are_refused(void **state)
{
    const struct sampler_spec spec = { .n_vocab = 4, .n_ctx = 8 }, empty = { .n_ctx = 8 };
    const struct logit_bias bad_id = { 4, 1 }, bad_bias = { 0, NAN };
    const char *long_breaker = "0123456789012345678901234567890123456789012345678901234567890123456789";
    struct sampler_options o;
    struct sampler *s = NULL;
    struct err e = { 0 };

    (void)state;
#define REFUSED(change, word)                                                   \
    do {                                                                        \
        sampler_defaults(&o);                                                   \
        change;                                                                 \
        assert_int_equal(sampler_open(&s, &spec, &o, &e), WATT_EINVAL);         \
        assert_null(s);                                                         \
        assert_non_null(strstr(e.msg, word));                                   \
    } while (0)
    REFUSED(o.temp = NAN, "temp");
    REFUSED(o.top_p = 1.5f, "top_p");
    REFUSED(o.min_p = -1, "min_p");
    REFUSED(o.typical_p = INFINITY, "typical_p");
    REFUSED(o.repeat_penalty = 0, "repeat_penalty");
    REFUSED(o.mirostat = 1, "mirostat");
    REFUSED(o.penalty_last_n = -2, "penalty_last_n");
    REFUSED(o.dry_last_n = -2, "dry_last_n");
    REFUSED((o.bias = &bad_id, o.n_bias = 1), "bias");
    REFUSED((o.bias = &bad_bias, o.n_bias = 1), "bias");
    REFUSED(o.n_order = 99, "order");
    REFUSED(o.order[0] = SAMPLER_STAGES, "order");
    REFUSED(o.order[0] = SAMPLER_TOP_K, "twice");
#undef REFUSED
    sampler_defaults(&o);
    assert_int_equal(sampler_open(&s, &empty, &o, &e), WATT_EINVAL);
    {
        struct sampler_spec texts = spec;

        texts.piece = letter;
        o.dry_multiplier = 1;
        o.dry_breakers = &long_breaker;
        o.n_dry_breakers = 1;
        assert_int_equal(sampler_open(&s, &texts, &o, &e), WATT_EINVAL);
        assert_non_null(strstr(e.msg, "breaker"));
    }
    sampler_close(NULL);
}

/* ---- torture ---- */

static void random_options(struct sampler_options *o, struct rng *r)
{
    sampler_defaults(o);
    o->seed = rng_u64(r);
    o->temp = rng_below(r, 4) ? (float)rng_double(r) * 2 : rng_below(r, 2) ? 0.0f : 1e-30f;
    o->dynatemp_range = rng_below(r, 3) ? 0.0f : (float)rng_double(r);
    o->top_k = rng_below(r, 3) ? rng_below(r, 60) : 0;
    o->top_p = rng_below(r, 2) ? 1.0f : (float)rng_double(r);
    o->min_p = rng_below(r, 2) ? 0.0f : (float)rng_double(r);
    o->typical_p = rng_below(r, 2) ? 1.0f : (float)rng_double(r);
    o->xtc_probability = rng_below(r, 2) ? 0.0f : (float)rng_double(r);
    o->repeat_penalty = rng_below(r, 2) ? 1.0f : 1000.0f;
    o->frequency_penalty = (float)rng_normal(r);
    o->dry_multiplier = rng_below(r, 2) ? 0.0f : 1000.0f;
    o->dry_base = rng_below(r, 2) ? 1000.0f : 1.0f;
    o->dry_allowed_length = rng_below(r, 3);
    o->mirostat = rng_below(r, 4) ? 0 : 2;
    o->min_keep = rng_below(r, 4);
    for (unsigned i = SAMPLER_STAGES - 1; i > 0; i--) {
        const uint32_t j = rng_below(r, i + 1);
        const enum sampler_stage t = o->order[i];

        o->order[i] = o->order[j];
        o->order[j] = t;
    }
    o->n_order = rng_below(r, SAMPLER_STAGES + 1);
}

static float random_logit(struct rng *r)
{
    switch (rng_below(r, 12)) {
    case 0:  return NAN;
    case 1:  return -INFINITY;
    case 2:  return rng_below(r, 20) ? 0.0f : INFINITY;
    case 3:  return rng_below(r, 20) ? -0.0f : -FLT_MAX;
    default: return (float)rng_normal(r) * 5;
    }
}

/* Whatever the options and the logits: probabilities of allowed tokens that sum
 * to 1, and no allocation. */
static void any_options_any_logits(void **state)
{
    struct rng r;

    (void)state;
    rng_init(&r, 2);
    for (int round = 0; round < 1500; round++) {
        const uint32_t n_vocab = 1 + rng_below(&r, 300);
        struct sampler_options o;
        struct sampler *s;
        float logits[300];
        uint64_t mask[5];

        random_options(&o, &r);
        s = opened(&o, n_vocab);
        for (int step = 0; step < 12; step++) {
            const struct sampler_token *t;
            struct err e = { 0 };
            double sum = 0;
            bool possible = false;
            uint32_t id = 0;
            size_t n;
            int rc;

            for (int i = 0; i < 5; i++)
                mask[i] = rng_u64(&r) | rng_u64(&r);
            for (uint32_t i = 0; i < n_vocab; i++) {
                logits[i] = random_logit(&r);
                possible |= !isnan(logits[i]) && logits[i] != -INFINITY && (mask[i / 64] >> (i % 64) & 1);
            }
            mem_guard_enter();
            rc = sampler_sample(s, logits, mask, &id, &e);
            sampler_accept(s, id);
            mem_guard_leave();
            assert_int_equal(rc, possible ? 0 : WATT_EINVAL);
            t = sampler_tokens(s, &n);
            for (size_t i = 0; i < n; i++) {
                assert_true(i == 0 || t[i - 1].id < t[i].id);
                assert_true(mask[t[i].id / 64] >> (t[i].id % 64) & 1);
                assert_true(t[i].p >= 0 && t[i].p <= 1);
                sum += (double)t[i].p;
            }
            if (possible)
                assert_true(n > 0 && fabs(sum - 1) < 1e-4);
        }
        sampler_close(s);
    }
}

static void failed_allocations(void **state)
{
#ifdef WATT_FAULTS
    const struct sampler_spec spec = { .n_vocab = 50, .n_ctx = 8, .piece = letter };
    const struct logit_bias bias = { 1, 1 };
    struct sampler_options o;
    struct sampler *s = NULL;
    struct err e = { 0 };
    unsigned long n;

    (void)state;
    sampler_defaults(&o);
    o.dry_multiplier = 1;
    o.repeat_penalty = 2;
    o.bias = &bias;
    o.n_bias = 1;
    for (n = 1; n < 100; n++) {
        int rc;

        fault_arm(FAULT_ALLOC, n);
        rc = sampler_open(&s, &spec, &o, &e);
        fault_arm(FAULT_ALLOC, 0);
        if (rc == 0)
            break;
        assert_int_equal(rc, WATT_ENOMEM);
        assert_null(s);
    }
    assert_in_range(n, 6, 99);
    sampler_close(s);
#else
    (void)state;
    skip();
#endif
}

static int best_first(const void *x, const void *y)
{
    const struct sampler_token *a = x, *b = y;

    return a->logit != b->logit ? (a->logit < b->logit ? 1 : -1) : (a->id > b->id) - (a->id < b->id);
}

/* A cut of a large vocabulary, which is not sorted for it, keeps what sorting would. */
static void top_p_without_sorting(void **state)
{
    enum { N = 20000 };
    static float logits[N];
    static struct sampler_token sorted[N];
    static bool wanted[N];
    struct rng rng;

    (void)state;
    rng_init(&rng, 11);
    for (int round = 0; round < 30; round++) {
        struct sampler_options o = all_off();
        const double spread = round % 5 == 4 ? 0 : 0.2 * (round + 1);
        double sum = 0, so_far = 0;
        const struct sampler_token *t;
        struct sampler *s;
        struct err e;
        size_t n, want = 0;

        o.top_p = (float)(0.05 + 0.9 * rng_double(&rng));
        s = opened(&o, N);
        for (uint32_t i = 0; i < N; i++) {
            double v = 0;

            for (int k = 0; k < 6; k++)
                v += rng_double(&rng) - 0.5;
            logits[i] = (float)(v * spread);
            if (round % 3 == 1)
                logits[i] = roundf(logits[i] * 4) / 4;  /* many alike */
            if (round % 7 == 6 && i % 3 == 0)
                logits[i] = -INFINITY;
            sorted[i] = (struct sampler_token){ i, logits[i], logits[i] };
        }
        qsort(sorted, N, sizeof *sorted, best_first);
        for (uint32_t i = 0; i < N; i++)
            sum += (double)expf(sorted[i].logit - sorted[0].logit);
        memset(wanted, 0, sizeof wanted);
        while (want < N) {
            so_far += (double)expf(sorted[want].logit - sorted[0].logit);
            wanted[sorted[want++].id] = true;
            if (so_far >= (double)o.top_p * sum)
                break;
        }
        assert_int_equal(sampler_apply(s, logits, NULL, &e), 0);
        t = sampler_tokens(s, &n);
        if (n > want + 1 || n + 1 < want)       /* sums are rounded in another order */
            fail_msg("round %d: %zu left, not %zu", round, n, want);
        for (size_t i = 0, off = 0; i < n; i++) {
            off += !wanted[t[i].id];
            assert_true(off <= 1 && (i == 0 || t[i - 1].id < t[i].id));
        }
        sampler_close(s);
    }
}

/* What admission reserves is not less than what a sampler takes. */
static void bytes_are_known(void **state)
{
    const struct sampler_spec spec = { .n_vocab = 1000, .n_ctx = 256 };
    struct sampler_options o = all_off();
    const uint64_t plain = sampler_bytes(&spec, &o);

    (void)state;
    assert_true(plain >= 12000 && plain < 13000);
    o.repeat_penalty = 1.1f;
    o.penalty_last_n = 64;
    assert_int_equal(sampler_bytes(&spec, &o), plain + 4000 + 64 * 4);
    o.dry_multiplier = 0.8f;
    o.dry_last_n = -1;
    assert_int_equal(sampler_bytes(&spec, &o), plain + 4000 + (1000 + 256) * 4 + 256 * 4);
    o.dry_last_n = INT32_MAX;
    assert_true(sampler_bytes(&spec, &o) > (UINT64_C(1) << 33));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(top_p_without_sorting),
        cmocka_unit_test(bytes_are_known),
        cmocka_unit_test(greedy_takes_best_and_lowest_id),
        cmocka_unit_test(hostile_logits),
        cmocka_unit_test(bias_adds_and_bans),
        cmocka_unit_test(penalties_by_hand),
        cmocka_unit_test(penalties_in_large_vocabulary),
        cmocka_unit_test(dry_by_hand),
        cmocka_unit_test(dry_against_brute_force),
        cmocka_unit_test(cuts_by_hand),
        cmocka_unit_test(typical_by_hand),
        cmocka_unit_test(xtc_by_hand),
        cmocka_unit_test(temperatures_by_hand),
        cmocka_unit_test(mirostat_by_hand),
        cmocka_unit_test(partial_order_equals_sort),
        cmocka_unit_test(draws_follow_distribution),
        cmocka_unit_test(same_seed_same_tokens),
        cmocka_unit_test(draw_is_independent_of_path),
        cmocka_unit_test(logprobs_of_raw_distribution),
        cmocka_unit_test(order_is_parsed),
        cmocka_unit_test(order_changes_result),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(any_options_any_logits),
        cmocka_unit_test(failed_allocations),
    };

    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
