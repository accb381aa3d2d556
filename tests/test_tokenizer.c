/* test_tokenizer.c: encoding, decoding, added tokens, roles and refusals, over
 * vocabularies made here; each algorithm against a plain version of itself. */
#include <float.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "cpu_time.h"
#include "tok_vocabs.h"

static struct small_vocab sv;   /* large: not on the stack */

static struct tokenizer *must_open(const struct small_vocab *v)
{
    struct tokenizer *t = NULL;
    struct err e = { 0 };

    if (tokenizer_open_spec(&t, &v->spec, &e) < 0)
        fail_msg("%s", e.msg);
    return t;
}

static void encode_n(const struct tokenizer *t, const char *text, size_t len, unsigned flags,
                     struct tokens *out)
{
    struct err e = { 0 };

    out->n = 0;
    if (tokenizer_encode(t, NULL, text, len, flags, out, &e) < 0)
        fail_msg("%s", e.msg);
}

/* The ids as the spellings of their tokens with | between them. */
static void expect(const struct tokenizer *t, const char *text, unsigned flags, const char *want)
{
    struct tokens v = { 0 };
    char got[1024];
    size_t n = 0;

    encode_n(t, text, strlen(text), flags, &v);
    for (size_t i = 0; i < v.n; i++) {
        const struct sv s = tokenizer_text(t, v.ids[i]);

        if (i)
            got[n++] = '|';
        memcpy(got + n, s.data, s.len);
        n += s.len;
    }
    got[n] = '\0';
    if (strcmp(got, want) != 0)
        fail_msg("\"%s\" gives \"%s\", expected \"%s\"", text, got, want);
    tokens_deinit(&v);
}

static void expect_back(const struct tokenizer *t, const char *text, size_t len, unsigned flags)
{
    struct tokens v = { 0 };
    struct str s;
    struct err e = { 0 };

    str_init(&s, 0);
    encode_n(t, text, len, flags, &v);
    assert_int_equal(tokenizer_decode(t, v.ids, v.n, DETOKENIZE_SPECIAL, &s, &e), 0);
    if (s.len != len || (len > 0 && memcmp(s.data, text, len) != 0))
        fail_msg("\"%.*s\" comes back as \"%s\"", (int)len, text, str_cstr(&s));
    str_deinit(&s);
    tokens_deinit(&v);
}

/* ---- byte-level BPE ---- */

static void test_bpe(void **state)
{
    struct tokenizer *t;

    (void)state;
    small_bpe(&sv, "gpt-2");
    t = must_open(&sv);
    assert_int_equal(tokenizer_type(t), TOKENIZER_BPE);
    assert_string_equal(tokenizer_pre(t), "gpt-2");
    expect(t, "", 0, "");
    expect(t, "hello the world", 0, "hello|Ġthe|Ġworld");
    expect(t, "aaaaaaa", 0, "aaaa|aa|a");
    expect(t, "é😁", 0, "Ã©|ðŁĺ|ģ");
    expect(t, "\xFF\xC3", 0, "ÿ|Ã");
    expect(t, "a\n\n", 0, "a|ĊĊ");
    expect(t, "a\n\nb", 0, "a|Ċ|Ċ|b");
    assert_int_equal(tokenizer_find(t, SV("Ġthe")), 258);
    assert_int_equal(tokenizer_find(t, SV("nothing")), -1);
    assert_int_equal(tokenizer_piece(t, 258).len, 4);
    assert_memory_equal(tokenizer_piece(t, 258).data, " the", 4);
    assert_int_equal(tokenizer_piece(t, -1).len, 0);
    assert_int_equal(tokenizer_piece(t, INT32_MAX).len, 0);
    assert_int_equal(tokenizer_role(t, TOKEN_NL), '\n');
    tokenizer_close(t);
}

/* Merging by the book: the best pair, the leftmost of equals, one at a time. */
static size_t plain_merge(const struct tokenizer *t, int32_t *ids, size_t n)
{
    for (;;) {
        const struct merge *best = NULL;
        size_t at = 0;

        for (size_t i = 0; i + 1 < n; i++) {
            const struct merge *m = merges_find(&t->merges, (uint32_t)ids[i], (uint32_t)ids[i + 1]);

            if (m && (!best || m->prio < best->prio)) {
                best = m;
                at = i;
            }
        }
        if (!best)
            return n;
        ids[at] = (int32_t)best->out;
        memmove(ids + at + 1, ids + at + 2, (--n - at - 1) * sizeof *ids);
    }
}

static void random_merges(struct small_vocab *v, struct rng *r)
{
    small_init(v, "gpt2", "superbpe");      /* one word per text without digits */
    small_letters(v);
    for (int i = 0; i < 60; i++) {
        struct sv l, x;
        char both[64];
        int n;

        /* over four letters and what was made of them */
        do {
            l = rng_below(r, 2) || v->spec.n_tokens == 256
                    ? v->tokens['a' + rng_below(r, 4)]
                    : v->tokens[256 + rng_below(r, v->spec.n_tokens - 256)];
            x = rng_below(r, 2) || v->spec.n_tokens == 256
                    ? v->tokens['a' + rng_below(r, 4)]
                    : v->tokens[256 + rng_below(r, v->spec.n_tokens - 256)];
            n = snprintf(both, sizeof both, "%.*s%.*s", (int)l.len, l.data, (int)x.len, x.data);
        } while (n > 20);
        small_merge(v, l, x);
    }
}

static void test_bpe_is_plain_merging(void **state)
{
    struct rng r;

    (void)state;
    rng_init(&r, 42);
    for (int round = 0; round < 40; round++) {
        struct tokenizer *t;

        random_merges(&sv, &r);
        t = must_open(&sv);
        for (int k = 0; k < 60; k++) {
            const size_t len = 1 + rng_below(&r, k % 4 == 0 ? 300 : 45);
            struct tokens v = { 0 };
            char text[512];
            int32_t ids[512];
            size_t n;

            for (size_t i = 0; i < len; i++)
                ids[i] = (uint8_t)(text[i] = (char)('a' + rng_below(&r, 4)));
            n = plain_merge(t, ids, len);
            encode_n(t, text, len, 0, &v);
            assert_int_equal(v.n, n);
            assert_memory_equal(v.ids, ids, n * sizeof *ids);
            tokens_deinit(&v);
        }
        tokenizer_close(t);
    }
}

static void test_ignore_merges(void **state)
{
    struct tokenizer *t;

    (void)state;
    small_bpe(&sv, "llama3");
    (void)small_token(&sv, "Ġnever", TOKEN_NORMAL, 0);     /* no merges lead there */
    t = must_open(&sv);
    expect(t, " never the", 0, "Ġnever|Ġthe");
    expect(t, " nevers", 0, "Ġ|n|e|v|e|r|s");
    assert_true(tokenizer_add_bos(t));
    expect(t, "hello", TOKENIZE_ADD_SPECIAL, "<|begin|>|hello");
    expect(t, "hello", TOKENIZE_ADD_SPECIAL | TOKENIZE_NO_BOS, "hello");
    tokenizer_close(t);
    sv.spec.ignore_merges = 0;
    t = must_open(&sv);
    expect(t, " never", 0, "Ġ|n|e|v|e|r");
    tokenizer_close(t);
}

static void test_nfc(void **state)
{
    struct tokenizer *t;
    struct tokens a = { 0 }, b = { 0 };
    static const char *const pairs[][2] = {
        { "e\xCC\x81", "é" }, { "xe\xCC\x81y", "xéy" }, { "\xCC\x81", "\xCC\x81" },
        { "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "한" }, { "\xEA\xB0\x80\xE1\x86\xA8", "각" },
        { "\xE2\x84\xAB", "Å" }, { "\xFF" "e\xCC\x81\xC3", "\xFF" "é\xC3" },
        { "q\xCC\x87\xCC\xA3", "q\xCC\xA3\xCC\x87" }, { "é", "é" }, { "中文", "中文" },
        { "ab\xC2\xB7\xCC\x81" "c", "ab\xC2\xB7\xCC\x81" "c" },
        { "a\x80\xCC\x81", "a\x80\xCC\x81" }, { "\xC3\xCC\x81z", "\xC3\xCC\x81z" },
    };

    (void)state;
    small_bpe(&sv, "qwen2");
    t = must_open(&sv);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        encode_n(t, pairs[i][0], strlen(pairs[i][0]), 0, &a);
        encode_n(t, pairs[i][1], strlen(pairs[i][1]), 0, &b);
        if (a.n != b.n || memcmp(a.ids, b.ids, a.n * sizeof *a.ids) != 0)
            fail_msg("pair %zu differs", i);
    }
    tokenizer_close(t);
    sv.spec.nfc = 0;
    t = must_open(&sv);
    expect_back(t, "e\xCC\x81", 3, 0);
    tokenizer_close(t);
    tokens_deinit(&a);
    tokens_deinit(&b);
}

static size_t random_text(struct rng *r, char *out, size_t cap)
{
    const uint32_t kind = rng_below(r, 3);
    size_t n = 0;

    while (n + 8 < cap && rng_below(r, 30) != 0) {
        uint32_t cp;

        if (kind == 0) {
            out[n++] = (char)rng_below(r, 256);
            continue;
        }
        cp = kind == 1 ? 0x20 + rng_below(r, 0x5F)
                       : rng_below(r, rng_below(r, 2) ? 0x3000 : 0x110000);
        n += utf8_encode(cp, out + n);
    }
    return n;
}

/* Any bytes at all come back. */
static void test_bytes_come_back(void **state)
{
    static const char *const pres[] = { "gpt-2", "llama3", "gpt-4o", "deepseek-llm", "deepseek-v3",
                                        "falcon", "bloom", "kimi-k2", "default", "starcoder",
                                        "tiny_aya", "chameleon", "exaone-moe", "youtu", "afmoe" };
    struct rng r;
    char text[512];

    (void)state;
    rng_init(&r, 3);
    for (size_t k = 0; k < sizeof pres / sizeof *pres; k++) {
        struct tokenizer_scratch *s = NULL;
        struct tokenizer *t;
        struct err e = { 0 };
        struct tokens v = { 0 };
        struct str back;

        small_bpe(&sv, pres[k]);
        t = must_open(&sv);
        str_init(&back, 0);
        assert_int_equal(tokenizer_scratch_open(&s, t, &e), 0);
        for (int i = 0; i < 2000; i++) {
            const size_t len = random_text(&r, text, sizeof text);

            v.n = 0;
            str_reset(&back);
            assert_int_equal(tokenizer_encode(t, s, text, len, 0, &v, &e), 0);
            assert_int_equal(tokenizer_decode(t, v.ids, v.n, 0, &back, &e), 0);
            assert_int_equal(back.len, len);
            if (len > 0)
                assert_memory_equal(back.data, text, len);
        }
        str_deinit(&back);
        tokens_deinit(&v);
        tokenizer_scratch_close(s);
        tokenizer_close(t);
    }
}

/* ---- added tokens ---- */

static void test_control_tokens_of_users(void **state)
{
    struct tokenizer *t;

    (void)state;
    small_bpe(&sv, "gpt-2");
    t = must_open(&sv);
    expect(t, "a<|begin|>b", 0, "a|<|||b|e|g|in|||>|b");
    expect(t, "a<|begin|>b", TOKENIZE_PARSE_SPECIAL, "a|<|begin|>|b");
    expect(t, "<|begin|><|begin|", TOKENIZE_PARSE_SPECIAL, "<|begin|>|<|||b|e|g|in||");
    expect(t, "a<tool>xb<tool>", 0, "a|<tool>x|b|<tool>");       /* user-defined, longest */
    expect_back(t, "a<|begin|>b <tool>xx", 21, TOKENIZE_PARSE_SPECIAL);
    assert_int_equal(tokenizer_kind(t, tokenizer_find(t, SV("<tool>"))), TOKEN_USER_DEFINED);
    assert_true(tokenizer_is_eog(t, tokenizer_find(t, SV("<|end_of_text|>"))));
    assert_false(tokenizer_is_eog(t, 5));
    assert_false(tokenizer_is_eog(t, -1));
    tokenizer_close(t);
}

static void test_attributes(void **state)
{
    struct tokenizer *t;
    int32_t l, r, w;

    (void)state;
    small_bpe(&sv, "gpt-2");
    l = small_token(&sv, "<L>", TOKEN_USER_DEFINED, 0);
    r = small_token(&sv, "<R>", TOKEN_USER_DEFINED, 0);
    w = small_token(&sv, "word", TOKEN_USER_DEFINED, 0);
    sv.attrs[l] = TOKEN_LSTRIP;
    sv.attrs[r] = TOKEN_RSTRIP;
    sv.attrs[w] = TOKEN_SINGLE_WORD;
    t = must_open(&sv);
    expect(t, "a \xC2\xA0 <L> b", 0, "a|<L>|Ġ|b");
    expect(t, "a <R> \n\xE3\x80\x80" "b", 0, "a|Ġ|<R>|b");
    expect(t, "<R>  <L>", 0, "<R>|<L>");
    expect(t, "word words sword é word.", 0,
           "word|Ġwor|d|s|Ġ|s|w|or|d|Ġ|Ã©|Ġ|word|.");
    expect(t, "ęword", 0, "Ä|Ļ|w|or|d");
    tokenizer_close(t);
}

/* ---- SentencePiece BPE ---- */

static void test_spm(void **state)
{
    struct tokenizer *t;

    (void)state;
    small_spm(&sv);
    t = must_open(&sv);
    assert_true(tokenizer_add_bos(t));
    expect(t, "", TOKENIZE_ADD_SPECIAL, "<s>");
    expect(t, "hello the world", TOKENIZE_ADD_SPECIAL, "<s>|▁hello|▁the|▁world");
    expect(t, "hello", TOKENIZE_NO_PREFIX, "h|el|lo");
    expect(t, "中文é!\xFF", 0, "▁|中文|é|<0x21>|<0xFF>");
    expect(t, "z", 0, "▁|<0x7A>");
    expect(t, "xy", 0, "▁|xy");                 /* x and y are no tokens of their own */
    expect(t, "x", 0, "▁|<0x78>");
    expect(t, "a    a", 0, "▁a|▁▁|▁|▁a");
    expect(t, "<s>the", 0, "▁|<0x3C>|<0x73>|<0x3E>|t|he");
    expect(t, "<s>the</s>the", TOKENIZE_PARSE_SPECIAL, "<s>|▁the|</s>|▁the");
    expect(t, "<0x0A>", 0, "▁|<0x3C>|<0x30>|<0x78>|<0x30>|<0x41>|<0x3E>");
    expect_back(t, "hello  the\xFFworld 中\n", 21, 0);
    expect_back(t, " hello", 6, 0);
    expect_back(t, "<s>the</s> the", 14, TOKENIZE_PARSE_SPECIAL);
    assert_int_equal(tokenizer_role(t, TOKEN_NL), 3 + '\n');
    tokenizer_close(t);
    sv.spec.add_space_prefix = 0;
    t = must_open(&sv);
    expect(t, "hello the", 0, "h|el|lo|▁the");
    expect_back(t, " the", 4, 0);
    tokenizer_close(t);
}

static void test_spm_unused(void **state)
{
    struct tokenizer *t;

    (void)state;
    small_spm(&sv);
    sv.kinds[small_find(&sv, "▁hello", 8)] = TOKEN_UNUSED;
    t = must_open(&sv);
    expect(t, "hello", 0, "▁hel|lo");
    tokenizer_close(t);
    sv.kinds[small_find(&sv, "▁hel", 6)] = TOKEN_UNUSED;
    t = must_open(&sv);
    expect(t, "hello the", 0, "▁h|el|lo|▁the");
    tokenizer_close(t);
}

/* Without byte tokens what is not known is one unk a run. */
static void test_spm_unknown(void **state)
{
    static const char *const pieces[] = { "▁", "a", "▁a", "aa" };
    struct tokenizer *t;

    (void)state;
    small_init(&sv, "llama", NULL);
    sv.spec.scores = sv.scores;
    (void)small_token(&sv, "<unk>", TOKEN_UNKNOWN, 0);
    (void)small_token(&sv, "<s>", TOKEN_CONTROL, 0);
    (void)small_token(&sv, "</s>", TOKEN_CONTROL, 0);
    for (size_t i = 0; i < 4; i++)
        (void)small_token(&sv, pieces[i], TOKEN_NORMAL, -(float)i);
    t = must_open(&sv);
    expect(t, "zéa\xFF" "b", 0, "▁|<unk>|a|<unk>");
    sv.spec.remove_extra_whitespaces = 1;
    tokenizer_close(t);
    t = must_open(&sv);
    expect(t, "  a   a  ", 0, "▁a|▁a");
    expect(t, "   ", 0, "");
    tokenizer_close(t);
}

/* ---- Unigram ---- */

/* The best sum over all segmentations, by trying them all. */
static double best_score(const char *s, size_t n, const struct small_vocab *v, double unk)
{
    double best = n == 0 ? 0 : -DBL_MAX;
    bool whole = false;
    size_t first;
    uint32_t cp;

    if (n == 0)
        return 0;
    first = utf8_decode(s, n, &cp, NULL);
    for (uint32_t id = 3; id < v->spec.n_tokens; id++) {
        const struct sv p = v->tokens[id];

        if (p.len <= n && memcmp(p.data, s, p.len) == 0) {
            const double x = (double)v->scores[id] + best_score(s + p.len, n - p.len, v, unk);

            whole = whole || p.len == first;
            best = x > best ? x : best;
        }
    }
    if (!whole) {
        const double x = unk + best_score(s + first, n - first, v, unk);

        best = x > best ? x : best;
    }
    return best;
}

static void test_unigram(void **state)
{
    struct tokenizer *t;
    struct rng r;

    (void)state;
    rng_init(&r, 9);
    for (int round = 0; round < 30; round++) {
        small_init(&sv, "t5", NULL);
        sv.spec.scores = sv.scores;
        (void)small_token(&sv, "<pad>", TOKEN_CONTROL, 0);
        (void)small_token(&sv, "</s>", TOKEN_CONTROL, 0);
        (void)small_token(&sv, "<unk>", TOKEN_UNKNOWN, 0);
        for (int i = 0; i < 30; i++) {
            char piece[16];
            size_t n = 0;
            const size_t len = 1 + rng_below(&r, 3);

            for (size_t k = 0; k < len; k++)
                piece[n++] = (char)('a' + rng_below(&r, 3));
            if (small_find(&sv, piece, n) < 0)
                (void)small_add(&sv, piece, n, TOKEN_NORMAL, -1 - rng_float(&r) * 9);
        }
        sv.spec.add_space_prefix = 0;
        t = must_open(&sv);
        for (int k = 0; k < 20; k++) {
            struct tokens v = { 0 };
            char text[16];
            const size_t len = 1 + rng_below(&r, 10);
            double got = 0;

            for (size_t i = 0; i < len; i++)
                text[i] = (char)('a' + rng_below(&r, 3));
            encode_n(t, text, len, 0, &v);
            for (size_t i = 0; i < v.n; i++)
                got += v.ids[i] == 2 ? 0 : (double)tokenizer_score(t, v.ids[i]);
            bool unknown = false;

            for (size_t i = 0; i < v.n; i++)
                unknown = unknown || v.ids[i] == 2;
            if (!unknown)       /* runs of unknown are one id: their number is not seen */
                assert_float_equal(got, best_score(text, len, &sv, t->unk_score), 1e-6);
            tokens_deinit(&v);
        }
        tokenizer_close(t);
    }
}

static void test_unigram_spaces(void **state)
{
    static const char *const pieces[] = { "▁", "▁a", "a", "b", "ab" };
    struct tokenizer *t;

    (void)state;
    small_init(&sv, "t5", NULL);
    sv.spec.scores = sv.scores;
    (void)small_token(&sv, "<pad>", TOKEN_CONTROL, 0);
    (void)small_token(&sv, "</s>", TOKEN_CONTROL, 0);
    (void)small_token(&sv, "<unk>", TOKEN_UNKNOWN, 0);
    for (size_t i = 0; i < 5; i++)
        (void)small_token(&sv, pieces[i], TOKEN_NORMAL, -2 - (float)i);
    sv.spec.remove_extra_whitespaces = 1;
    t = must_open(&sv);
    /* ▁ ab and ▁a b are equally good: the first found wins, as in the originals */
    expect(t, "  a  ab  ", TOKENIZE_ADD_SPECIAL, "▁a|▁|ab|</s>");
    expect(t, "zz\xFF" "a", 0, "▁|<unk>|a");
    expect(t, "", 0, "");
    tokenizer_close(t);
}

/* ---- WordPiece ---- */

static void test_wpm(void **state)
{
    static const char *const pieces[] = { "▁hello", "▁wor", "ld", "▁!", "▁中", "▁e", "cole", "▁a",
                                          "▁'", "▁s" };
    struct tokenizer *t;
    char longest[102];

    (void)state;
    small_init(&sv, "bert", "bert-bge");
    (void)small_token(&sv, "[PAD]", TOKEN_CONTROL, 0);
    (void)small_token(&sv, "[UNK]", TOKEN_CONTROL, 0);
    (void)small_token(&sv, "[CLS]", TOKEN_CONTROL, 0);
    (void)small_token(&sv, "[SEP]", TOKEN_CONTROL, 0);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        (void)small_token(&sv, pieces[i], TOKEN_NORMAL, 0);
    t = must_open(&sv);
    expect(t, "HeLLo  World!!", TOKENIZE_ADD_SPECIAL, "[CLS]|▁hello|▁wor|ld|▁!|▁!|[SEP]");
    expect(t, "école\x01 中中a", 0, "▁e|cole|▁中|▁中|▁a");
    expect(t, "a's worldx", 0, "▁a|▁'|▁s|[UNK]");
    expect(t, "[CLS]", 0, "[UNK]|[UNK]|[UNK]");
    expect(t, "[CLS]a", TOKENIZE_PARSE_SPECIAL, "[CLS]|▁a");
    expect(t, "\xFF\xEF\xBF\xBD", 0, "");
    memset(longest, 'a', sizeof longest - 1);
    longest[101] = '\0';
    expect(t, longest, 0, "[UNK]");
    expect_back(t, "hello world !", 13, 0);
    tokenizer_close(t);
    sv.spec.lowercase = 0;
    t = must_open(&sv);
    expect(t, "Hello hello", 0, "[UNK]|▁hello");
    tokenizer_close(t);
}

/* ---- RWKV and PLaMo-2 ---- */

static void test_rwkv(void **state)
{
    static const char *const pieces[] = { "<s>", "\\x00", "a", "ab", "abc", "\\n", "\\n\\n", "\\t",
                                          "\\\\", "\\xe4\\xb8", "b", "'" };
    struct tokenizer *t;

    (void)state;
    small_init(&sv, "rwkv", NULL);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        (void)small_token(&sv, pieces[i], i == 0 ? TOKEN_CONTROL : TOKEN_NORMAL, 0);
    t = must_open(&sv);
    expect(t, "abcab\n\n\n\\'", 0, "abc|ab|\\n\\n|\\n|\\\\|'");
    expect(t, "\xE4\xB8" "a", 0, "\\xe4\\xb8|a");
    expect_back(t, "abcab\n\n\n\t\\'a", 12, 0);
    tokenizer_close(t);
}

static void test_plamo(void **state)
{
    static const char *const pieces[] = { "a", "ab", "abc", "bc", "c", "中", "中a" };
    static const float scores[] = { -3, -1, -4, -2, -3, -5, -5.5f };
    struct tokenizer *t;

    (void)state;
    small_init(&sv, "plamo2", NULL);
    sv.spec.scores = sv.scores;
    (void)small_token(&sv, "<unk>", TOKEN_UNKNOWN, 0);
    (void)small_token(&sv, "<bos>", TOKEN_CONTROL, 0);
    (void)small_token(&sv, "<eos>", TOKEN_CONTROL, 0);
    for (unsigned b = 0; b < 256; b++) {
        char name[8];

        (void)snprintf(name, sizeof name, "<0x%02X>", b);
        (void)small_token(&sv, name, TOKEN_BYTE, 0);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        (void)small_token(&sv, pieces[i], TOKEN_NORMAL, scores[i]);
    t = must_open(&sv);
    expect(t, "abc", 0, "abc");         /* 4; ab c too: the longer first piece wins */
    expect(t, "abbc", 0, "ab|bc");
    expect(t, "中ab", 0, "中|ab");
    expect(t, "é\xFF", 0, "<0xC3>|<0xA9>|<0xFF>");
    expect(t, "\xEF\xBB\xBF" "a", 0, "a");
    expect_back(t, "abcbc中é\xFFz", 11, 0);
    tokenizer_close(t);
}

static void test_none(void **state)
{
    struct tokenizer *t;
    struct tokens v = { 0 };
    struct err e = { 0 };

    (void)state;
    small_init(&sv, "none", NULL);
    t = must_open(&sv);
    assert_int_equal(tokenizer_encode(t, NULL, "a", 1, 0, &v, &e), WATT_ENOTSUP);
    assert_int_equal(tokenizer_find(t, SV("a")), -1);
    tokenizer_close(t);
}

/* BPE on characters, spaces as U+2581, with byte fallback. */
static void test_raw_bpe(void **state)
{
    struct tokenizer *t;

    (void)state;
    small_init(&sv, "gemma4", NULL);
    sv.spec.roles[TOKEN_BOS] = small_token(&sv, "<bos>", TOKEN_CONTROL, 0);
    for (unsigned b = 0; b < 256; b++) {
        char name[8];

        (void)snprintf(name, sizeof name, "<0x%02X>", b);
        (void)small_token(&sv, name, TOKEN_BYTE, 0);
    }
    for (const char *const *p = (const char *const[]){ "▁", "a", "b", "\n", "\n\n", "中", NULL }; *p; p++)
        (void)small_token(&sv, *p, TOKEN_NORMAL, 0);
    small_merge(&sv, SV("a"), SV("b"));
    small_merge(&sv, SV("▁"), SV("ab"));
    small_merge(&sv, SV("▁"), SV("▁"));
    t = must_open(&sv);
    expect(t, "ab ab  中é", 0, "ab|▁ab|▁▁|中|<0xC3>|<0xA9>");
    expect(t, "a\n\nb\n\n\n", TOKENIZE_ADD_SPECIAL, "<bos>|a|\n\n|b|\n|\n|\n");
    expect_back(t, "ab ab  中é\xFF\n", 15, 0);
    tokenizer_close(t);
}

static void test_dna(void **state)
{
    struct tokenizer *t;

    (void)state;
    small_bpe(&sv, "gpt-2");
    sv.spec.model = "hybriddna";
    (void)small_token(&sv, "<dna>", TOKEN_NORMAL, 0);
    (void)small_token(&sv, "</dna>", TOKEN_NORMAL, 0);
    (void)small_token(&sv, "<oov>", TOKEN_NORMAL, 0);
    (void)small_token(&sv, "ACGTAC\xEE\x80\x80", TOKEN_NORMAL, 0);
    (void)small_token(&sv, "GAAAAA\xEE\x80\x80", TOKEN_NORMAL, 0);
    t = must_open(&sv);
    expect(t, "the<dna>acgtacNNNNNNg</dna>in", 0,
           "t|he|<dna>|ACGTAC\xEE\x80\x80|<oov>|GAAAAA\xEE\x80\x80|</dna>|in");
    tokenizer_close(t);
}

/* ---- refusals ---- */

static void refuse(const char *why, int code)
{
    struct tokenizer *t = NULL;
    struct err e = { 0 };

    assert_int_equal(tokenizer_open_spec(&t, &sv.spec, &e), code);
    assert_null(t);
    if (!strstr(e.msg, why))
        fail_msg("\"%s\" does not say \"%s\"", e.msg, why);
}

static void test_refusals(void **state)
{
    (void)state;
    small_bpe(&sv, "gpt-2");
    sv.spec.pre = "no-such";
    refuse("tokenizer.ggml.pre \"no-such\"", WATT_ENOTSUP);
    sv.spec.model = "no-model";
    refuse("tokenizer.ggml.model \"no-model\"", WATT_ENOTSUP);
    small_bpe(&sv, "gpt-2");
    (void)small_token(&sv, "he", TOKEN_NORMAL, 0);
    refuse("is a duplicate of [257]", WATT_EFORMAT);
    small_bpe(&sv, "gpt-2");
    sv.merges[3] = SV("inn");
    refuse("tokenizer.ggml.merges[3] \"inn\": expected \"left right\"", WATT_EFORMAT);
    sv.merges[3] = SV("zz n");
    refuse("the left part is no token", WATT_EFORMAT);
    sv.merges[3] = SV("n zz");
    refuse("the right part is no token", WATT_EFORMAT);
    sv.merges[3] = SV("z z");
    refuse("the product is no token", WATT_EFORMAT);
    small_bpe(&sv, "gpt-2");
    sv.spec.roles[TOKEN_EOS] = 100000;
    refuse("tokenizer.ggml.eos_token_id is 100000", WATT_EFORMAT);
    small_bpe(&sv, "gpt-2");
    sv.kinds[7] = 99;
    refuse("tokenizer.ggml.token_type[7] is 99", WATT_EFORMAT);
    small_bpe(&sv, "gpt-2");
    sv.spec.roles[TOKEN_BOS] = -1;
    sv.spec.add_bos = 1;
    refuse("tokenizer.ggml.add_bos_token is true", WATT_EFORMAT);
    small_bpe(&sv, "gpt-2");
    sv.spec.n_tokens = 0;
    refuse("tokenizer.ggml.tokens is empty", WATT_EFORMAT);
    small_bpe(&sv, "gpt-2");
    sv.tokens[9].len = TOKENIZER_MAX_PIECE_BYTES + 1;
    refuse("tokenizer.ggml.tokens[9]", WATT_ELIMIT);
    small_spm(&sv);
    sv.scores[5] = (float)(0.0 / (sv.scores[0] * 0.0));
    refuse("tokenizer.ggml.scores[5] is not a number", WATT_EFORMAT);
    small_spm(&sv);
    sv.spec.model = "t5";
    sv.spec.charsmap = SV("\x40\0\0\0abcd\0");
    refuse("precompiled_charsmap: a trie of 64 bytes in 9", WATT_EFORMAT);
}

static void test_bad_ids(void **state)
{
    struct tokenizer *t;
    struct err e = { 0 };
    struct str s;
    const int32_t bad[] = { 1, -5 };

    (void)state;
    small_bpe(&sv, "gpt-2");
    t = must_open(&sv);
    str_init(&s, 0);
    assert_int_equal(tokenizer_decode(t, bad, 2, 0, &s, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "id -5 at 1"));
    str_deinit(&s);
    tokenizer_close(t);
}

/* ---- streaming ---- */

/* What Python's bytes.decode("utf-8", "replace") gives. */
static void replace_bad(const char *s, size_t n, struct str *out)
{
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        bool ok;
        size_t len = utf8_decode(s + i, n - i, &cp, &ok);

        if (!ok) {
            len = 1;    /* the longest beginning of a character, at least one byte */
            while (i + len < n && utf8_complete(s + i, len + 1) == 0)
                len++;
            str_puts(out, "\xEF\xBF\xBD");
        } else {
            str_append(out, s + i, len);
        }
        i += len;
    }
}

static void test_detok(void **state)
{
    struct tokenizer *t;
    struct detok d;
    struct str got, want;
    struct rng r;

    (void)state;
    small_bpe(&sv, "gpt-2");
    t = must_open(&sv);
    str_init(&got, 0);
    str_init(&want, 0);
    rng_init(&r, 5);
    for (int round = 0; round < 20000; round++) {
        char text[64];
        size_t n = 0, n_bytes = 1 + rng_below(&r, 12);

        while (n < n_bytes) {
            static const unsigned char interesting[] = { 0xF0, 0x9F, 0x98, 0x81, 0xE4, 0xB8, 0xAD,
                                                         0xC3, 0xA9, 0xED, 0xA0, 0x80, 0xF4, 0x90,
                                                         0xFF, 'a', 0xE0, 0xC0 };

            if (rng_below(&r, 3) == 0)
                n += utf8_encode(rng_below(&r, 0x110000), text + n);
            else
                text[n++] = (char)interesting[rng_below(&r, sizeof interesting)];
        }
        str_reset(&got);
        str_reset(&want);
        replace_bad(text, n, &want);
        detok_init(&d, t, 0);
        for (size_t i = 0; i < n; i++) {
            detok_push(&d, (uint8_t)text[i], &got);     /* ids 0..255 are the bytes */
            assert_true(utf8_valid(str_cstr(&got), got.len));
            assert_true(d.n_held <= DETOK_HOLD);
        }
        detok_finish(&d, &got);
        assert_int_equal(got.len, want.len);
        assert_memory_equal(got.data, want.data, want.len);
    }
    /* a whole character is out as soon as it is whole */
    str_reset(&got);
    detok_push(&d, 0xF0, &got);
    detok_push(&d, 0x9F, &got);
    detok_push(&d, 0x98, &got);
    assert_int_equal(got.len, 0);
    detok_push(&d, 0x81, &got);
    assert_string_equal(str_cstr(&got), "😁");
    detok_push(&d, -1, &got);
    detok_push(&d, 1 << 30, &got);
    assert_int_equal(got.len, 4);
    str_deinit(&got);
    str_deinit(&want);
    tokenizer_close(t);
}

static void push_all(struct detok *d, const struct tokenizer *t, unsigned flags,
                     const int32_t *ids, size_t n, const char *want)
{
    struct str got;

    str_init(&got, 0);
    detok_init(d, t, flags);
    for (size_t i = 0; i < n; i++)
        detok_push(d, ids[i], &got);
    detok_finish(d, &got);
    assert_string_equal(str_cstr(&got), want);
    str_deinit(&got);
}

static void test_detok_spaces(void **state)
{
    struct tokenizer *t;
    struct detok d;
    int32_t hello, the;
    const char *a = "▁hello", *b = "▁the";

    (void)state;
    small_spm(&sv);
    t = must_open(&sv);
    hello = tokenizer_find(t, sv_cstr(a));
    the = tokenizer_find(t, sv_cstr(b));
    push_all(&d, t, 0, (const int32_t[]){ 1, hello, the, 2 }, 4, "hello the");
    push_all(&d, t, DETOKENIZE_CONTINUE, (const int32_t[]){ hello, the }, 2, " hello the");
    push_all(&d, t, DETOKENIZE_SPECIAL, (const int32_t[]){ 1, hello, 2 }, 3, "<s>hello</s>");
    tokenizer_close(t);
}

/* ---- hostile, short memory, threads ---- */

static void test_long_words(void **state)
{
    static const char *const runs[] = { "a", "ab", " ", "é", "中", "\xFF" };
    const size_t n = (size_t)1 << 20;
    char *text = malloc(n);

    (void)state;
    assert_non_null(text);
    for (int kind = 0; kind < 2; kind++) {
        struct tokenizer *t;

        if (kind == 0)
            small_bpe(&sv, "superbpe");
        else
            small_spm(&sv);
        t = must_open(&sv);
        for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
            const size_t len = strlen(runs[k]);
            const double began = cpu_seconds();

            for (size_t i = 0; i < n; i++)
                text[i] = runs[k][i % len];
            expect_back(t, text, n - n % len, 0);
            if (cpu_seconds() - began > 10)
                fail_msg("a run of \"%s\" takes too long", runs[k]);
        }
        tokenizer_close(t);
    }
    free(text);
}

#ifdef WATT_FAULTS
static void test_short_memory(void **state)
{
    static const char text[] = "hello <tool> the world é 中 \xFF 12345 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa e\xCC\x81";

    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        bool done = false;

        if (kind == 0)
            small_bpe(&sv, "qwen2");
        else if (kind == 1)
            small_bpe(&sv, "deepseek-llm");
        else
            small_spm(&sv);
        if (kind == 3)
            sv.spec.model = "t5";
        for (unsigned long n = 1; !done && n < 500; n++) {
            struct tokenizer *t = NULL;
            struct tokens v = { 0 };
            struct err e = { 0 };
            int rc;

            (void)fault_arm(FAULT_ALLOC, n);
            rc = tokenizer_open_spec(&t, &sv.spec, &e);
            if (rc == 0)
                rc = tokenizer_encode(t, NULL, text, sizeof text - 1, 0, &v, &e);
            done = fault_arm(FAULT_ALLOC, 0) < n;
            if (done)
                assert_int_equal(rc, 0);
            else if (rc < 0)    /* PCRE2 does without its JIT */
                assert_int_equal(rc, WATT_ENOMEM);
            tokens_deinit(&v);
            tokenizer_close(t);
        }
        assert_true(done);
    }
}
#endif

struct job {
    const struct tokenizer *t;
    const char             *text;
    size_t                  len;
    struct tokens           out;
    int                     rc;
};

static void *encode_job(void *arg)
{
    struct job *j = arg;
    struct tokenizer_scratch *s = NULL;
    struct err e = { 0 };

    j->rc = tokenizer_scratch_open(&s, j->t, &e);
    for (int i = 0; i < 20 && j->rc == 0; i++) {
        j->out.n = 0;
        j->rc = tokenizer_encode(j->t, s, j->text, j->len, 0, &j->out, &e);
    }
    tokenizer_scratch_close(s);
    return NULL;
}

static void test_threads(void **state)
{
    static char text[20000];
    struct job jobs[3];
    pthread_t threads[3];
    struct tokenizer *t;
    struct rng r;

    (void)state;
    small_bpe(&sv, "deepseek-llm");
    t = must_open(&sv);
    rng_init(&r, 1);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(rng_below(&r, 6) ? 'a' + rng_below(&r, 20) : ' ');
    for (int i = 0; i < 3; i++) {
        jobs[i] = (struct job){ .t = t, .text = text, .len = sizeof text };
        assert_int_equal(pthread_create(&threads[i], NULL, encode_job, &jobs[i]), 0);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(jobs[i].rc, 0);
        assert_int_equal(jobs[i].out.n, jobs[0].out.n);
        assert_memory_equal(jobs[i].out.ids, jobs[0].out.ids, jobs[0].out.n * sizeof(int32_t));
    }
    for (int i = 0; i < 3; i++)
        tokens_deinit(&jobs[i].out);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bpe),
        cmocka_unit_test(test_bpe_is_plain_merging),
        cmocka_unit_test(test_ignore_merges),
        cmocka_unit_test(test_nfc),
        cmocka_unit_test(test_bytes_come_back),
        cmocka_unit_test(test_control_tokens_of_users),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_spm),
        cmocka_unit_test(test_spm_unused),
        cmocka_unit_test(test_spm_unknown),
        cmocka_unit_test(test_unigram),
        cmocka_unit_test(test_unigram_spaces),
        cmocka_unit_test(test_wpm),
        cmocka_unit_test(test_rwkv),
        cmocka_unit_test(test_plamo),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_raw_bpe),
        cmocka_unit_test(test_dna),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_bad_ids),
        cmocka_unit_test(test_detok),
        cmocka_unit_test(test_detok_spaces),
        cmocka_unit_test(test_long_words),
#ifdef WATT_FAULTS
        cmocka_unit_test(test_short_memory),
#endif
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
