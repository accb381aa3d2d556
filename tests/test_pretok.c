/* test_pretok.c: the pre-tokenizers. Every hand-written stage gives the pieces
 * that its regular expression gives through PCRE2, on texts made to sit on the
 * edges of the patterns; pieces always cover the text; long runs stay linear. */
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
#include "cpu_time.h"
#include "models/tok_impl.h"

/* ---- cutting a text ---- */

#define MAX_CUTS 4096

struct cuts {
    const char *text;
    size_t      at[MAX_CUTS];   /* where pieces end */
    size_t      n;
};

static int note_cut(void *ctx, const char *piece, size_t len, struct err *e)
{
    struct cuts *c = ctx;

    (void)e;
    assert_true(len > 0 && c->n < MAX_CUTS);
    assert_ptr_equal(piece, c->text + (c->n ? c->at[c->n - 1] : 0));
    c->at[c->n] = (size_t)(piece - c->text) + len;
    c->n++;
    return 0;
}

static void cut(const struct splitter *s, struct split_scratch *x, const char *text, size_t len,
                struct cuts *c)
{
    struct err e = { 0 };

    c->text = text;
    c->n = 0;
    if (splitter_run(s, x, text, len, note_cut, c, &e) < 0)
        fail_msg("%s", e.msg);
    if (len > 0)
        assert_int_equal(c->at[c->n - 1], len);
}

/* "a|b|c" */
static void show(const char *what, const struct cuts *c)
{
    size_t from = 0;

    (void)fprintf(stderr, "  %s:", what);
    for (size_t i = 0; i < c->n; i++) {
        (void)fputc('|', stderr);
        for (; from < c->at[i]; from++) {
            const unsigned char b = (unsigned char)c->text[from];

            if (b < 0x20)
                (void)fprintf(stderr, "\\x%02x", b);
            else
                (void)fputc(b, stderr);
        }
    }
    (void)fputc('\n', stderr);
}

/* ---- texts ---- */

/* Parts that meet every alternative of every pattern: letters of each case class,
 * marks, numbers of each kind, punctuation, symbols, spaces, controls, scripts,
 * contractions, and bytes that are no UTF-8. */
static const char *const parts[] = {
    "a", "b", "Z", "Ab", "aB", "é", "É", "ǅ", "ʰ", "ª", "ß", "İ", "ſ", "K", "µ", "Å",
    "\xCC\x81", "\xE0\xA4\xBE", "\xE2\x83\x9D", "\xF0\x96\xBF\xB0",
    "1", "23", "456", "7890", "٣", "½", "Ⅷ", "²", "〇", "〡", "①",
    ".", ",", "!", "'", "\"", "-", "_", "/", "//", "(", "’", "…", "。", "、", "！", "‿",
    "+", "$", "<", "=", "`", "|", "~", "^", "©", "€", "😁", "🇩🇪", "\xEF\xBF\xBD",
    " ", "  ", "   ", "\t", "\n", "\r", "\r\n", "\n\n", "\x0B", "\x0C", "\xC2\x85", "\xC2\xA0",
    "\xE1\xA0\x8E", "\xE2\x80\x83", "\xE2\x80\xA8", "\xE3\x80\x80", "\xE2\x80\x8B", "\xEF\xBB\xBF",
    "\x01", "\x7F", "\xC2\xAD", "\xE2\x80\x8D", "\xEE\x80\x80", "\xCD\xB8",
    "中", "文", "日本", "ひ", "カ", "ー", "々", "⺀", "한국", "ㄱ", "ᄀ", "ㄅ", "ไทย", "ខ្មែរ", "हिन्दी", "தமிழ்",
    "العربية", "עברית", "Ελλ", "Рус", "русский", "Ⴀ", "ა", "ᲀ", "ԱԲ", "ⓐ", "Ⓐ", "𝐀", "𝐚", "𐐀", "𐐨",
    "'s", "'S", "'ſ", "'t", "'T", "'re", "'RE", "'Re", "'ve", "'m", "'M", "'ll", "'LL", "'lL",
    "'d", "'D", "'x", "''", "'l", "'v", " '", "' ",
    "<sentinel:12>", "IMGIMGABZ", "    ", "\xFF", "\xC3", "\xE4\xB8", "\x80", "\xF0\x9F\x98",
    "\xED\xA0\x80", "\xC0\x80",
};

static size_t make_text(struct rng *r, char *out, size_t cap)
{
    const uint32_t n_parts = 1 + rng_below(r, 12);
    /* few kinds of part per text make runs, which is where patterns differ */
    const uint32_t kinds = rng_below(r, 3) == 0 ? sizeof parts / sizeof *parts
                                                : 1 + rng_below(r, 4);
    uint32_t chosen[4];
    size_t n = 0;

    for (int i = 0; i < 4; i++)
        chosen[i] = rng_below(r, sizeof parts / sizeof *parts);
    for (uint32_t i = 0; i < n_parts; i++) {
        const char *p = parts[kinds > 4 ? rng_below(r, kinds) : chosen[rng_below(r, kinds)]];
        const size_t len = strlen(p);

        if (n + len > cap)
            break;
        memcpy(out + n, p, len);
        n += len;
    }
    return n;
}

/* ---- tests ---- */

static unsigned n_texts(void)
{
    const char *s = getenv("WATT_TEST_TEXTS");

    return s ? (unsigned)strtoul(s, NULL, 10) : 4000;
}

static void compare(const struct pretok *p)
{
    struct splitter *fast = NULL, *slow = NULL;
    struct split_scratch *fx = NULL, *sx = NULL;
    struct err e = { 0 };
    struct cuts a, b;
    struct rng r;
    char text[512];

    assert_int_equal(splitter_open(&fast, p, &e), 0);
    if (splitter_open_regex(&slow, p, &e) < 0)
        fail_msg("%s: %s", p->name, e.msg);
    assert_int_equal(split_scratch_open(&fx, fast, &e), 0);
    assert_int_equal(split_scratch_open(&sx, slow, &e), 0);
    rng_init(&r, 20260101);
    for (unsigned i = 0; i < n_texts(); i++) {
        const size_t len = make_text(&r, text, sizeof text);

        cut(fast, fx, text, len, &a);
        cut(slow, sx, text, len, &b);
        if (a.n != b.n || memcmp(a.at, b.at, a.n * sizeof *a.at) != 0) {
            show("by hand", &a);
            show("pattern", &b);
            fail_msg("%s: text %u is cut differently", p->name, i);
        }
    }
    split_scratch_close(fx);
    split_scratch_close(sx);
    splitter_close(fast);
    splitter_close(slow);
}

static bool same_stages(const struct pretok *a, const struct pretok *b)
{
    if (a->n_stages != b->n_stages)
        return false;
    for (unsigned i = 0; i < a->n_stages; i++)
        if (a->stages[i].kind != b->stages[i].kind || a->stages[i].flags != b->stages[i].flags ||
            a->stages[i].max_digits != b->stages[i].max_digits)
            return false;
    return true;
}

static bool by_regex_only(const struct pretok *p)
{
    for (unsigned i = 0; i < p->n_stages; i++)
        if (p->stages[i].kind != SPLIT_REGEX)
            return false;
    return true;
}

static void test_by_hand_is_pattern(void **state)
{
    (void)state;
    for (size_t i = 0; i < pretok_count(); i++) {
        size_t j = 0;

        while (j < i && !same_stages(pretok_at(i), pretok_at(j)))
            j++;
        if (j == i && !by_regex_only(pretok_at(i)))
            compare(pretok_at(i));
    }
}

/* Every name opens and cuts; names are unique. */
static void test_every_name(void **state)
{
    struct rng r;

    (void)state;
    rng_init(&r, 7);
    for (size_t i = 0; i < pretok_count(); i++) {
        const struct pretok *p = pretok_at(i);
        struct splitter *s = NULL;
        struct split_scratch *x = NULL;
        struct err e = { 0 };
        struct cuts c;
        char text[512];

        assert_ptr_equal(pretok_find(sv_cstr(p->name)), p);
        if (splitter_open(&s, p, &e) < 0)
            fail_msg("%s: %s", p->name, e.msg);
        assert_int_equal(split_scratch_open(&x, s, &e), 0);
        for (int k = 0; k < 300; k++)
            cut(s, x, text, make_text(&r, text, sizeof text), &c);
        split_scratch_close(x);
        splitter_close(s);
    }
    assert_ptr_equal(pretok_find(SV("")), pretok_find(SV("default")));
    assert_null(pretok_find(SV("no-such-name")));
}

static void expect(const char *pre, const char *text, const char *want)
{
    const struct pretok *p = pretok_find(sv_cstr(pre));
    struct splitter *s = NULL;
    struct split_scratch *x = NULL;
    struct err e = { 0 };
    struct cuts c;
    char got[1024];
    size_t n = 0, from = 0;

    assert_non_null(p);
    assert_int_equal(splitter_open(&s, p, &e), 0);
    assert_int_equal(split_scratch_open(&x, s, &e), 0);
    cut(s, x, text, strlen(text), &c);
    for (size_t i = 0; i < c.n; i++) {
        if (i)
            got[n++] = '|';
        memcpy(got + n, text + from, c.at[i] - from);
        n += c.at[i] - from;
        from = c.at[i];
    }
    got[n] = '\0';
    if (strcmp(got, want) != 0)
        fail_msg("%s: \"%s\" is cut \"%s\", expected \"%s\"", pre, text, got, want);
    split_scratch_close(x);
    splitter_close(s);
}

static void test_known_cuts(void **state)
{
    (void)state;
    expect("gpt-2", "I'll've it's  12345 abc!? \n x", "I|'ll|'ve| it|'s| | 12345| abc|!?| \n| x");
    expect("llama3", "I'LL 12345 a.b\n\n  c  ", "I|'LL| |123|45| a|.b|\n\n| | c|  ");
    expect("qwen2", "x 123", "x| |1|2|3");
    expect("gpt-4o", "HelloWorld HTTPServer it'S a/b//", "Hello|World| HTTPServer| it'S| a|/b|//");
    expect("gpt-4o", "ABC def1234", "ABC| def|123|4");
    expect("tekken", "camelCase'll 42", "camel|Case|'ll| |4|2");
    expect("starcoder", "a 123", "a| |1|2|3");
    expect("deepseek-v3", "x=1234 中文abc", "x|=|123|4| |中文|abc");
    expect("deepseek-llm", "a 12\n b  ", "a| |1|2|\n| b|  ");
    expect("tiny_aya", "1234567 1234567x 12", "1|234|567| |123|456|7|x| |12");
    expect("superbpe", "a1234567b", "a|1|234|567|b");
    expect("afmoe", "a1234567 b", "a|1|234|567| b");
    expect("falcon", "a 12345!", "a| |123|45|!");
    expect("kimi-k2", "中文ABCdef", "中文|ABCdef");
    expect("bloom", "Hello, world", "Hello|,| world");
    expect("viking", "a12", "a|1|2");
    expect("laguna", "a\n\nb", "a|\n\n|b");
    expect("bailingmoe", "a'S \n\n", "a|'S| \n\n");
    expect("qwen35", "हिन्दी", "हिन्दी");
    expect("qwen2", "हिन्दी", "ह|िन|्द|ी");
}

/* ---- long texts take linear time ---- */

static int count_piece(void *ctx, const char *piece, size_t len, struct err *e)
{
    (void)piece;
    (void)e;
    *(size_t *)ctx += len;
    return 0;
}

#define LONG_BYTES ((size_t)1 << 18)

static void test_long_runs(void **state)
{
    static const char *const runs[] = { "a", "A", "1", " ", "\n", "!", "'", "é", "中", "\xCC\x81",
                                        " \n", "a ", "1a", "  x", "\xFF", "٣", " a" };
    struct str s;

    (void)state;
    for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
        str_init(&s, 0);
        while (s.len < LONG_BYTES)
            str_puts(&s, runs[k]);
        str_puts(&s, "x");
        for (size_t i = 0; i < pretok_count(); i++) {
            struct splitter *sp = NULL;
            struct split_scratch *x = NULL;
            struct err e = { 0 };
            size_t covered = 0;
            double began;
            size_t j = 0;

            while (j < i && !same_stages(pretok_at(i), pretok_at(j)))
                j++;
            if (j < i && !by_regex_only(pretok_at(i)))
                continue;
            assert_int_equal(splitter_open(&sp, pretok_at(i), &e), 0);
            assert_int_equal(split_scratch_open(&x, sp, &e), 0);
            began = cpu_seconds();
            if (splitter_run(sp, x, s.data, s.len, count_piece, &covered, &e) < 0)
                fail_msg("%s, run of \"%s\": %s", pretok_at(i)->name, runs[k], e.msg);
            assert_int_equal(covered, s.len);
            /* quadratic would be hours; a slow machine may take a second */
            if (cpu_seconds() - began > 8)
                fail_msg("%s takes too long for a run of \"%s\"", pretok_at(i)->name, runs[k]);
            split_scratch_close(x);
            splitter_close(sp);
        }
        str_deinit(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_cuts),
        cmocka_unit_test(test_every_name),
        cmocka_unit_test(test_by_hand_is_pattern),
        cmocka_unit_test(test_long_runs),
    };

    return cmocka_run_group_tests_name("pretok", tests, NULL, NULL);
}
