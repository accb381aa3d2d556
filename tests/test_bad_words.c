/* test_bad_words.c: sequences of tokens that a text must not have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/rng.h"
#include "models/bad_words.h"

#define VOCAB 6

/* Does some sequence end right behind `text` with `next`? By comparing whole sequences. */
static bool ends_badly(const int32_t *ids, const uint32_t *ends, size_t n, const int32_t *text,
                       size_t n_text, int32_t next)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t from = i ? ends[i - 1] : 0, len = ends[i] - from;
        bool same = len <= n_text + 1 && ids[ends[i] - 1] == next;

        for (uint32_t k = 0; same && k + 1 < len; k++)
            same = ids[from + k] == text[n_text - (len - 1) + k];
        if (same)
            return true;
    }
    return false;
}

static void forbids_the_last_token_of_each(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 11);
    for (int round = 0; round < 300; round++) {
        int32_t ids[64], text[64];
        uint32_t ends[12], at = 0;
        const size_t n = rng_below(&rng, 12);
        struct bad_words w;
        struct bad_words_text t;
        struct err e;

        for (size_t i = 0; i < n; i++) {
            const uint32_t len = 1 + (uint32_t)rng_below(&rng, 5);

            for (uint32_t k = 0; k < len; k++)
                ids[at++] = (int32_t)rng_below(&rng, VOCAB);
            ends[i] = at;
        }
        assert_int_equal(bad_words_init(&w, ids, ends, n, &e), 0);
        assert_int_equal(bad_words_text_init(&t, &w, &e), 0);
        for (size_t k = 0; k < 64; k++) {
            uint64_t bits[2] = { UINT64_MAX, UINT64_MAX }, want = UINT64_MAX;

            for (int32_t id = 0; id < VOCAB; id++)
                if (ends_badly(ids, ends, n, text, k, id))
                    want &= ~(UINT64_C(1) << id);
            bad_words_forbid(&t, bits);
            assert_true(bits[0] == want && bits[1] == UINT64_MAX);
            assert_int_equal(bad_words_any(&t), want != UINT64_MAX);
            text[k] = (int32_t)rng_below(&rng, VOCAB);
            bad_words_push(&t, text[k]);
        }
        bad_words_text_deinit(&t);
        bad_words_deinit(&w);
    }
}

static void none_is_nothing(void **state)
{
    struct bad_words_text t = { 0 };
    uint64_t bits[1] = { UINT64_MAX };

    (void)state;
    bad_words_push(&t, 3);
    bad_words_forbid(&t, bits);
    assert_true(!bad_words_any(&t) && bits[0] == UINT64_MAX);
    bad_words_text_deinit(&t);
}

static void refuses(void **state)
{
    static const int32_t ids[] = { 1, 2, 3 };
    static const uint32_t empty[] = { 2, 2 }, back[] = { 2, 1 }, none[] = { 0 },
                          large[] = { BAD_WORDS_MAX_TOKENS + 1 };
    struct bad_words w;
    struct err e;

    (void)state;
    assert_int_equal(bad_words_init(&w, ids, empty, 2, &e), WATT_EINVAL);
    assert_int_equal(bad_words_init(&w, ids, back, 2, &e), WATT_EINVAL);
    assert_int_equal(bad_words_init(&w, ids, none, 1, &e), WATT_EINVAL);
    assert_int_equal(bad_words_init(&w, ids, large, 1, &e), WATT_ELIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forbids_the_last_token_of_each),
        cmocka_unit_test(none_is_nothing),
        cmocka_unit_test(refuses),
    };

    return cmocka_run_group_tests_name("bad_words", tests, NULL, NULL);
}
