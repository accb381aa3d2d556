/* test_bpe_train.c: vocabularies made from text: against a trainer by the book, the
 * same on any number of threads, encoding as training left the words, added tokens,
 * refusals, bounded memory, the n-th allocation failing, files that open again. */
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
#include "base/mem.h"
#include "base/rng.h"
#include "models/bpe_train.h"
#include "models/gguf.h"

/* ---- texts ---- */

/* Words of few letters, so that pairs repeat and tie. */
static char *words_text(uint64_t seed, size_t n)
{
    char *s = malloc(n + 1);
    struct rng r;

    assert_non_null(s);
    rng_init(&r, seed);
    for (size_t i = 0; i < n; i++)
        s[i] = rng_below(&r, 5) == 0 ? (rng_below(&r, 9) ? ' ' : '\n') : (char)('a' + rng_below(&r, 4));
    s[n] = '\0';
    return s;
}

static char *byte_text(uint64_t seed, size_t n)
{
    char *s = malloc(n + 1);
    struct rng r;

    assert_non_null(s);
    rng_init(&r, seed);
    for (size_t i = 0; i < n; i++)
        s[i] = (char)rng_below(&r, 256);
    s[n] = '\0';
    return s;
}

static struct bpe_train *trained(const struct bpe_train_opts *o, const char *text, size_t n)
{
    struct bpe_train *b = NULL;
    struct err e = { 0 };

    if (bpe_train_open(&b, o, &e) < 0 || bpe_train_add(b, text, n, &e) < 0 || bpe_train_run(b, &e) < 0)
        fail_msg("%s", e.msg);
    return b;
}

static void assert_same(const struct bpe_train *a, const struct bpe_train *b)
{
    struct vocab_spec x, y;

    bpe_train_spec(a, &x);
    bpe_train_spec(b, &y);
    assert_int_equal(x.n_tokens, y.n_tokens);
    assert_int_equal(x.n_merges, y.n_merges);
    for (uint32_t i = 0; i < x.n_tokens; i++)
        assert_true(sv_eq(x.tokens[i], y.tokens[i]) && x.kinds[i] == y.kinds[i]);
    for (uint32_t i = 0; i < x.n_merges; i++)
        assert_true(sv_eq(x.merges[i], y.merges[i]));
}

/* ---- by the book ---- */

#define BOOK_IDS 4096

/* GPT-2's pre-tokenizer on letters, spaces and line ends alone: a space goes with the word behind it. */
static size_t book_word(const char *s, size_t i, size_t n)
{
    size_t end = i;

    if (s[i] != ' ' && s[i] != '\n') {
        while (end < n && s[end] != ' ' && s[end] != '\n')
            end++;
        return end;
    }
    while (end < n && (s[end] == ' ' || s[end] == '\n'))
        end++;
    if (end == n)
        return end;
    if (end - i > 1)            /* the last one stays for the word, when it is a space */
        return end - 1;
    if (s[i] == '\n')
        return end;
    while (end < n && s[end] != ' ' && s[end] != '\n')
        end++;
    return end;
}

struct book { uint32_t ids[BOOK_IDS]; bool starts[BOOK_IDS]; size_t n; uint32_t left[400], right[400], out[400], n_rules; };

static void book_join(struct book *k, uint32_t left, uint32_t right, uint32_t out)
{
    size_t n = 0;

    for (size_t i = 0; i < k->n; n++) {
        const bool hit = i + 1 < k->n && k->ids[i] == left && k->ids[i + 1] == right && !k->starts[i + 1];

        k->starts[n] = k->starts[i];
        k->ids[n] = hit ? out : k->ids[i];
        i += hit ? 2 : 1;
    }
    k->n = n;
}

/* Counts all pairs anew for every merge. */
static void book_train(struct book *k, uint32_t n_tokens)
{
    static uint32_t count[700][700];

    for (uint32_t next = 256; next < n_tokens; next++) {
        uint32_t best = 1, left = 0, right = 0;

        memset(count, 0, sizeof count);
        for (size_t i = 0; i + 1 < k->n; i++)
            if (!k->starts[i + 1])
                count[k->ids[i]][k->ids[i + 1]]++;
        for (uint32_t l = 0; l < next; l++)
            for (uint32_t r = 0; r < next; r++)
                if (count[l][r] > best) {
                    best = count[l][r];
                    left = l;
                    right = r;
                }
        if (best < 2)
            return;
        k->left[k->n_rules] = left;
        k->right[k->n_rules] = right;
        k->out[k->n_rules++] = next;
        book_join(k, left, right, next);
    }
}

/* The id of a byte in a trained vocabulary: printable ones first. */
static uint32_t byte_id(char c)
{
    return c == '\n' ? 188 + 10 : c == ' ' ? 188 + 32 : (uint32_t)(c - '!');
}

static void test_by_the_book(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        const struct bpe_train_opts o = { .n_vocab = 256 + 60, .n_threads = 1 };
        const size_t n = 200 + 150 * (size_t)seed;
        char *text = words_text(seed, n), want[80];
        struct bpe_train *b = trained(&o, text, n);
        struct book *k = calloc(1, sizeof *k);
        struct tokenizer *t = NULL;
        struct tokens v = { 0 };
        struct vocab_spec s;
        struct err e = { 0 };

        assert_non_null(k);
        for (size_t i = 0; i < n;) {
            const size_t end = book_word(text, i, n);

            k->starts[k->n] = true;
            for (; i < end; i++)
                k->ids[k->n++] = byte_id(text[i]);
        }
        book_train(k, o.n_vocab);
        bpe_train_spec(b, &s);
        assert_int_equal(s.n_merges, k->n_rules);
        for (uint32_t i = 0; i < k->n_rules; i++) {
            (void)snprintf(want, sizeof want, "%.*s %.*s", (int)s.tokens[k->left[i]].len,
                           s.tokens[k->left[i]].data, (int)s.tokens[k->right[i]].len,
                           s.tokens[k->right[i]].data);
            assert_true(sv_eq_cstr(s.merges[i], want));
        }
        /* encoding the text gives what training left of it */
        if (tokenizer_open_spec(&t, &s, &e) < 0 || tokenizer_encode(t, NULL, text, n, 0, &v, &e) < 0)
            fail_msg("%s", e.msg);
        assert_int_equal(v.n, k->n);
        for (size_t i = 0; i < v.n; i++)
            assert_int_equal(v.ids[i], k->ids[i]);
        tokens_deinit(&v);
        tokenizer_close(t);
        bpe_train_close(b);
        free(k);
        free(text);
    }
}

/* ---- threads and documents ---- */

static void test_threads(void **state)
{
    const size_t n = (size_t)3 << 20;
    char *text = words_text(7, n);
    struct bpe_train_opts o = { .n_vocab = 900, .n_threads = 1, .pre = "llama-bpe" };
    struct bpe_train *one = trained(&o, text, n);

    (void)state;
    for (o.n_threads = 2; o.n_threads <= 5; o.n_threads++) {
        struct bpe_train *b = trained(&o, text, n);

        assert_same(one, b);
        assert_int_equal(bpe_train_words(one), bpe_train_words(b));
        bpe_train_close(b);
    }
    assert_int_equal(bpe_train_bytes(one), n);
    bpe_train_close(one);
    free(text);
}

/* A document's end ends a word; order of documents is of no matter. */
static void test_documents(void **state)
{
    const struct bpe_train_opts o = { .n_vocab = 256 + 8, .n_threads = 1 };
    static const char *const docs[] = { "abab", "abab", "cd", "cd", "xyz" };
    struct bpe_train *a = NULL, *b = NULL;
    struct vocab_spec s;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(bpe_train_open(&a, &o, &e), 0);
    assert_int_equal(bpe_train_open(&b, &o, &e), 0);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(bpe_train_add(a, docs[i], strlen(docs[i]), &e), 0);
        assert_int_equal(bpe_train_add(b, docs[4 - i], strlen(docs[4 - i]), &e), 0);
    }
    assert_int_equal(bpe_train_run(a, &e), 0);
    assert_int_equal(bpe_train_run(b, &e), 0);
    assert_same(a, b);
    bpe_train_spec(a, &s);
    assert_int_equal(s.n_merges, 3);    /* a b, then ab ab and c d, equally frequent: c is older */
    assert_true(sv_eq_cstr(s.merges[0], "a b"));
    assert_true(sv_eq_cstr(s.merges[1], "c d"));
    assert_true(sv_eq_cstr(s.merges[2], "ab ab"));
    bpe_train_close(a);
    bpe_train_close(b);
}

static void test_round_trip(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        static const char *const pres[] = { "gpt-2", "llama-bpe", "qwen2", "deepseek-v3", "gpt-4o", "falcon" };
        const struct bpe_train_opts o = { .n_vocab = 600, .n_threads = 2, .pre = pres[seed % 6] };
        const size_t n = 20000;
        char *text = byte_text(seed, n);
        struct bpe_train *b = trained(&o, text, n);
        struct tokenizer *t = NULL;
        struct tokens v = { 0 };
        struct vocab_spec s;
        struct str back;
        struct err e = { 0 };

        bpe_train_spec(b, &s);
        s.nfc = 0;      /* what it changes can't come back */
        str_init(&back, 0);
        if (tokenizer_open_spec(&t, &s, &e) < 0 || tokenizer_encode(t, NULL, text, n, 0, &v, &e) < 0 ||
            tokenizer_decode(t, v.ids, v.n, 0, &back, &e) < 0)
            fail_msg("%s", e.msg);
        assert_int_equal(back.len, n);
        assert_memory_equal(back.data, text, n);
        str_deinit(&back);
        tokens_deinit(&v);
        tokenizer_close(t);
        bpe_train_close(b);
        free(text);
    }
}

/* ---- added tokens ---- */

static const struct bpe_added chat[] = {
    { { "<|im_start|>", 12 }, TOKEN_CONTROL },
    { { "<|im_end|>", 10 }, TOKEN_CONTROL },
    { { "<tool_call>", 11 }, TOKEN_USER_DEFINED },
};

static void test_added(void **state)
{
    struct bpe_train_opts o = { .n_vocab = 320, .added = chat, .n_added = 3, .n_threads = 1 };
    static const char text[] = "<|im_start|>user\nhello hello<|im_end|>\n<tool_call>tool tool</tool_call>\n"
                               "<|im_start|>user\nhello tool<|im_end|>\n";
    struct bpe_train *b = trained(&o, text, sizeof text - 1);
    struct tokenizer *t = NULL;
    struct tokens v = { 0 };
    struct vocab_spec s;
    struct err e = { 0 };

    (void)state;
    bpe_train_spec(b, &s);
    for (uint32_t i = 0; i < s.n_merges; i++)   /* nothing was learned from their spelling */
        assert_null(memmem(s.merges[i].data, s.merges[i].len, "im", 2));
    assert_true(sv_eq_cstr(s.tokens[s.n_tokens - 1], "<tool_call>"));
    assert_int_equal(tokenizer_open_spec(&t, &s, &e), 0);
    assert_int_equal(tokenizer_kind(t, (int32_t)s.n_tokens - 3), TOKEN_CONTROL);
    assert_int_equal(tokenizer_encode(t, NULL, "<tool_call>", 11, 0, &v, &e), 0);
    assert_int_equal(v.n, 1);
    v.n = 0;
    assert_int_equal(tokenizer_encode(t, NULL, "<|im_end|>", 10, TOKENIZE_PARSE_SPECIAL, &v, &e), 0);
    assert_int_equal(v.n, 1);
    v.n = 0;
    assert_int_equal(tokenizer_encode(t, NULL, "<|im_end|>", 10, 0, &v, &e), 0);
    assert_true(v.n > 1);
    assert_true(tokenizer_is_eog(t, (int32_t)s.n_tokens - 2));
    tokens_deinit(&v);
    tokenizer_close(t);
    bpe_train_close(b);
}

/* ---- bounds ---- */

static void refused(const struct bpe_train_opts *o, int code, const char *says)
{
    struct bpe_train *b = NULL;
    struct err e = { 0 };

    assert_int_equal(bpe_train_open(&b, o, &e), code);
    assert_null(b);
    assert_non_null(strstr(e.msg, says));
}

static void test_refusals(void **state)
{
    const struct bpe_added twice[] = { chat[0], chat[0] }, bad[] = { { { "\xff\xff", 2 }, TOKEN_CONTROL } };
    const struct bpe_added kind[] = { { { "<x>", 3 }, TOKEN_BYTE } };
    struct bpe_train_opts o = { .n_vocab = 300 };
    struct bpe_train *b = NULL;
    struct err e = { 0 };

    (void)state;
    o.pre = "nonesuch";
    refused(&o, WATT_ENOTSUP, "\"nonesuch\"");
    o.pre = "gemma4";
    refused(&o, WATT_ENOTSUP, "not one over bytes");
    o.pre = NULL;
    o.n_vocab = 255;
    refused(&o, WATT_EINVAL, "vocabulary of 255");
    o.n_vocab = TOKENIZER_MAX_VOCAB + 1;
    refused(&o, WATT_EINVAL, "more than");
    o = (struct bpe_train_opts){ .n_vocab = 257, .added = twice, .n_added = 2 };
    refused(&o, WATT_EINVAL, "are 258");
    o.n_vocab = 300;
    refused(&o, WATT_EINVAL, "given twice");
    o.added = bad;
    o.n_added = 1;
    refused(&o, WATT_EINVAL, "bytes of text");
    o.added = kind;
    refused(&o, WATT_EINVAL, "kind 6");
    o = (struct bpe_train_opts){ .n_vocab = 300, .n_threads = 1 };
    assert_int_equal(bpe_train_open(&b, &o, &e), 0);
    assert_int_equal(bpe_train_run(b, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "no text"));
    bpe_train_close(b);
}

/* More different words than memory may hold: the rarest go, the vocabulary stays sensible. */
static void test_bounded(void **state)
{
    struct bpe_train_opts o = { .n_vocab = 256 + 20, .n_threads = 2, .max_words = 500 };
    struct bpe_train *a = NULL, *b = NULL;
    struct rng r;
    struct err e = { 0 };
    char line[64];

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct bpe_train **p = i ? &b : &a;
        struct str text;

        o.n_threads = i ? 3 : 1;
        rng_init(&r, 5);
        str_init(&text, 0);
        for (int k = 0; k < 6000; k++) {
            (void)snprintf(line, sizeof line, "the cat %08x\n", (unsigned)rng_u64(&r));
            str_puts(&text, line);
        }
        assert_int_equal(bpe_train_open(p, &o, &e), 0);
        assert_int_equal(bpe_train_add(*p, text.data, text.len, &e), 0);
        assert_int_equal(bpe_train_run(*p, &e), 0);
        str_deinit(&text);
    }
    assert_true(bpe_train_words(a) <= 500);
    assert_true(bpe_train_dropped(a) > 1000);
    assert_int_equal(bpe_train_dropped(a), bpe_train_dropped(b));
    assert_same(a, b);
    bpe_train_close(a);
    bpe_train_close(b);
}

/* A word without end, and a token that may not grow without end. */
static void test_long_word(void **state)
{
    const struct bpe_train_opts o = { .n_vocab = 400, .n_threads = 1 };
    const size_t n = (size_t)2 << 20;
    char *text = malloc(n);
    struct bpe_train *b;
    struct vocab_spec s;

    (void)state;
    assert_non_null(text);
    memset(text, 'a', n);
    b = trained(&o, text, n);
    bpe_train_spec(b, &s);
    assert_int_equal(s.n_tokens, 256 + 8);      /* aa … a^256 */
    assert_int_equal(s.tokens[s.n_tokens - 1].len, 256);
    bpe_train_close(b);
    free(text);
}

static int stop(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    assert_true(done <= total);
    return 1;
}

static void test_stop(void **state)
{
    const struct bpe_train_opts o = { .n_vocab = 800, .n_threads = 1, .progress = stop };
    char *text = words_text(3, 100000);
    struct bpe_train *b = NULL;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(bpe_train_open(&b, &o, &e), 0);
    assert_int_equal(bpe_train_add(b, text, 100000, &e), 0);
    assert_int_equal(bpe_train_run(b, &e), WATT_ECANCEL);
    bpe_train_close(b);
    free(text);
}

/* ---- files ---- */

static int write_gguf(const struct bpe_train *b, const char *path, const char *eos, struct err *e)
{
    struct gguf_writer *w = NULL;
    int rc = gguf_writer_open(&w, path, e);

    if (rc == 0)
        rc = bpe_train_write(b, w, (struct sv){ NULL, 0 }, sv_cstr(eos), e);
    if (rc == 0)
        rc = gguf_writer_begin(w, e);
    if (rc == 0)
        return gguf_writer_commit(w, e);
    gguf_writer_abort(w);
    return rc;
}

static void test_file(void **state)
{
    const struct bpe_train_opts o = { .n_vocab = 320, .added = chat, .n_added = 3, .n_threads = 1, .pre = "qwen2" };
    static const char text[] = "one two one two one two three three";
    char dir[] = "test_bpe_train.XXXXXX", path[64];
    struct bpe_train *b = trained(&o, text, sizeof text - 1);
    struct tokenizer *t = NULL;
    struct gguf *g = NULL;
    struct vocab_spec s;
    struct err e = { 0 };

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/v.gguf", dir);
    assert_int_equal(write_gguf(b, path, "<nonesuch>", &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "no added token"));
    assert_int_equal(access(path, F_OK), -1);
    if (write_gguf(b, path, "<|im_end|>", &e) < 0 || gguf_open(&g, path, &e) < 0 || tokenizer_open(&t, g, &e) < 0)
        fail_msg("%s", e.msg);
    bpe_train_spec(b, &s);
    assert_int_equal(tokenizer_n_vocab(t), s.n_tokens);
    assert_int_equal(tokenizer_n_merges(t), s.n_merges);
    assert_string_equal(tokenizer_pre(t), "qwen2");
    assert_int_equal(tokenizer_eos(t), (int32_t)s.n_tokens - 2);
    assert_false(tokenizer_add_bos(t));
    tokenizer_close(t);
    gguf_close(g);
    bpe_train_close(b);
    assert_int_equal(remove(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

/* ---- faults ---- */

#ifdef WATT_FAULTS
static int whole(const char *text, size_t n)
{
    const struct bpe_train_opts o = { .n_vocab = 330, .added = chat, .n_added = 3, .n_threads = 2 };
    struct bpe_train *b = NULL;
    struct err e = { 0 };
    int rc = bpe_train_open(&b, &o, &e);

    if (rc == 0)
        rc = bpe_train_add(b, text, n, &e);
    if (rc == 0)
        rc = bpe_train_run(b, &e);
    if (rc < 0)
        assert_true(e.msg[0] != '\0');
    bpe_train_close(b);
    return rc;
}

static void test_faults(void **state)
{
    static const enum fault_kind kinds[] = { FAULT_ALLOC, FAULT_THREAD };
    char *text = words_text(9, 3000);

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        unsigned long n = 0;
        int rc;

        do {
            (void)fault_arm(kinds[k], ++n);
            rc = whole(text, 3000);
            assert_true(rc == 0 || rc == WATT_ENOMEM);
        } while (fault_arm(kinds[k], 0) >= n && n < 2000);
        assert_int_equal(rc, 0);
        assert_true(n > 1 && n < 2000);
    }
    free(text);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_the_book),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_added),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_long_word),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_file),
#ifdef WATT_FAULTS
        cmocka_unit_test(test_faults),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
