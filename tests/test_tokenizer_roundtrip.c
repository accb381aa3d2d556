/* test_tokenizer_roundtrip.c: decode(encode(x)) = x for a million strings, half of
 * random bytes and half of random Unicode: over published byte-level vocabularies
 * where the shared data is there, and over a small one in any case.
 * WATT_TEST_TEXTS sets another number. Some vocabularies lack tokens for bytes that
 * UTF-8 never has (F5 to FF) or their training never saw: those are left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/gguf.h"
#include "shared.h"
#include "tok_vocabs.h"

static struct small_vocab sv;

static unsigned n_texts(void)
{
    const char *s = getenv("WATT_TEST_TEXTS");

    return s ? (unsigned)strtoul(s, NULL, 10) : 1000000;
}

static size_t random_bytes(struct rng *r, char *out, size_t cap)
{
    const size_t n = rng_below(r, (uint32_t)cap);

    for (size_t i = 0; i < n; i++)
        out[i] = (char)rng_below(r, 256);
    return n;
}

/* Characters of one block of 256 and of ASCII, or of all planes. */
static size_t random_unicode(struct rng *r, char *out, size_t cap)
{
    const uint32_t block = rng_below(r, 0x300) << 8, spread = rng_below(r, 4);
    size_t n = 0;

    while (n + 4 < cap && rng_below(r, 40) != 0) {
        const uint32_t cp = spread == 0   ? rng_below(r, 0x110000)
                            : spread == 1 ? 9 + rng_below(r, 0x76)
                                          : rng_below(r, 3) == 0 ? 0x20 + rng_below(r, 0x5F)
                                                                 : block + rng_below(r, 256);

        n += utf8_encode(cp, out + n);
    }
    return n;
}

/* Takes the bytes out that have no token; the rest may stop being UTF-8. */
static size_t known_bytes(const struct tokenizer *t, char *s, size_t n)
{
    size_t k = 0;

    for (size_t i = 0; i < n; i++)
        if (t->byte_ids[(uint8_t)s[i]] >= 0)
            s[k++] = s[i];
    return k;
}

static void round_trips(const struct tokenizer *t, unsigned n, uint64_t seed)
{
    struct tokenizer_scratch *s = NULL;
    struct tokens v = { 0 };
    struct err e = { 0 };
    struct str back;
    struct rng r;
    char text[160];

    rng_init(&r, seed);
    str_init(&back, 0);
    assert_int_equal(tokenizer_scratch_open(&s, t, &e), 0);
    for (unsigned i = 0; i < n; i++) {
        const size_t len = known_bytes(
            t, text, (i & 1 ? random_bytes : random_unicode)(&r, text, sizeof text));

        v.n = 0;
        str_reset(&back);
        if (tokenizer_encode(t, s, text, len, 0, &v, &e) < 0 ||
            tokenizer_decode(t, v.ids, v.n, 0, &back, &e) < 0)
            fail_msg("string %u: %s", i, e.msg);
        if (back.len != len || (len > 0 && memcmp(back.data, text, len) != 0))
            fail_msg("string %u of seed %llu does not come back", i, (unsigned long long)seed);
    }
    str_deinit(&back);
    tokens_deinit(&v);
    tokenizer_scratch_close(s);
}

static void test_small(void **state)
{
    struct tokenizer *t = NULL;
    struct err e = { 0 };

    (void)state;
    small_bpe(&sv, "llama3");
    assert_int_equal(tokenizer_open_spec(&t, &sv.spec, &e), 0);
    round_trips(t, n_texts(), 1);
    tokenizer_close(t);
}

static void test_published(void **state)
{
    const char *name = *state;
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct err e = { 0 };

    SHARED_OR_SKIP(name);
    if (gguf_open(&g, shared_path(name), &e) < 0 || tokenizer_open(&t, g, &e) < 0)
        fail_msg("%s", e.msg);
    gguf_close(g);
    round_trips(t, n_texts() / 6, 2);
    tokenizer_close(t);
}

#define PUBLISHED(name)                                                                     \
    { name, test_published, NULL, NULL,                                                     \
      (void *)(uintptr_t)("tokenizers/ggml-vocab-" name ".gguf") }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small), PUBLISHED("llama-bpe"), PUBLISHED("gpt-2"),
        PUBLISHED("gpt-4o"),          PUBLISHED("falcon"),    PUBLISHED("refact"),
        PUBLISHED("deepseek-llm"),
    };

    return cmocka_run_group_tests_name("tokenizer_roundtrip", tests, NULL, NULL);
}
