/* test_grammar_random.c: masks of random grammars are what the matcher says of each token. The ways
 * in which masks are found at once (mask_plain.c, mask_counted.c, mask_pure.c) have conditions that no list
 * of grammars meets all of; thousands of random ones, over texts and sets around the kinds of characters that
 * the vocabulary's tree knows, meet most. WATT_RANDOM_GRAMMARS=N[:SEED] tries N of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/rng.h"
#include "models/grammar/grammar.h"
#include "models/grammar/matcher.h"

#define N_GRAMMARS 240u
#define N_PIECES 640u
#define N_STEPS 12
#define N_RULES 3u

static const char *const parts[] = { "a", "e", "z", "ab", "cab", "the", "B", "Q", "AB", "0", "7", "42", " ", "  ", "\t", "\n",
    ".", ",", ";", "!", "-", "_", "'", "\"", "\\", "(", ")", "<", ">", "=", "/", "@", "\x01", "\x7F", "\xC3\xA9",
    "\xD0\xB0", "\xE6\x9D\xB1", "\xE2\x80\xA8", "\xC2\xA0", "\xC2\x85", "\xE3\x80\x80", "\xF0\x9F\x98\x80", "\xC3", "\xA9", "\xE6\x9D",
    "\x9D\xB1", "\xF0\x9F", "\xE2\x80", "\xFF", "\xC0" };
#define N_PARTS (sizeof parts / sizeof *parts)

/* Every byte, then what merges leave: runs of one part, short mixtures, mixtures around a mark. */
static struct token_trie *vocabulary(struct rng *rng, struct str *text)
{
    size_t end[N_PIECES + 1] = { 0 };
    struct sv texts[N_PIECES];
    struct token_trie *t;
    struct err e;

    for (uint32_t i = 0; i + 1 < N_PIECES; i++) {
        const uint32_t one = rng_below(rng, N_PARTS), way = rng_below(rng, 4);
        const uint32_t n = way == 0 ? 1 + rng_below(rng, 36) : 1 + rng_below(rng, 5);

        if (i < 256)
            str_putc(text, (char)i);
        for (uint32_t k = 0; i >= 256 && k < n; k++)
            str_puts(text, parts[way == 0 ? one : way == 1 ? rng_below(rng, 12) : rng_below(rng, N_PARTS)]);
        end[i + 1] = text->len;
    }
    assert_true(str_ok(text));
    for (uint32_t i = 0; i + 1 < N_PIECES; i++)
        texts[i] = (struct sv){ text->data + end[i], end[i + 1] - end[i] };
    texts[N_PIECES - 1] = (struct sv){ "", 0 };
    assert_int_equal(token_trie_from(&t, texts, N_PIECES, N_PIECES - 1, &e), 0);
    return t;
}

/* ---- GBNF ---- */

static void put_set(struct str *s, struct rng *rng)
{
    static const char *const sets[] = { "[a-z]", "[a-c]", "[a-zA-Z]", "[A-Z]", "[a-zA-Z0-9_]", "[0-9]", "[ a-z]", "[a-z ,.]",
        "[^\\n]", "[^,]", "[^>,]", "[^\"\\\\]", "[^a]", "[^0-9]", "[^\\x00-\\x20]", "[^\\x00-\\x1F\"\\\\]", "[\u00e9\u6771" "a]",
        "[\u0430-\u044f]", "[^\u6771]", "[^\\u2028]", "[\\u2028 ]", "[^ \\t\\n\\u00A0\\u2028\\u3000]", "[\xC2\x80-\U0010FFFF]",
        "[^x\u00e9]", "[ ]", "[\\n]" };

    str_puts(s, sets[rng_below(rng, sizeof sets / sizeof *sets)]);
}

static void put_literal(struct str *s, struct rng *rng)
{
    static const char *const texts[] = { "a", "ab", "the", "B", "0", "42", " ", ",", ";", "!", "(", ">", "=", "\\n", "\u00e9", "\u6771",
        "\\u2028", "\\\"", "\\\\", "a\u00e9" };

    str_printf(s, "\"%s\"", texts[rng_below(rng, sizeof texts / sizeof *texts)]);
}

static void put_count(struct str *s, struct rng *rng)
{
    const uint32_t least = rng_below(rng, 4), more = rng_below(rng, 12);

    switch (rng_below(rng, 8)) {
    case 0: str_putc(s, '*'); break;
    case 1: str_putc(s, '+'); break;
    case 2: str_putc(s, '?'); break;
    case 3: str_printf(s, "{%u}", least + 1); break;
    case 4: str_printf(s, "{%u,}", least); break;
    case 5: str_printf(s, "{%u,%u}", least, least + 1 + more); break;
    default: break;
    }
}

static void put_term(struct str *s, struct rng *rng, uint32_t depth)
{
    const uint32_t way = rng_below(rng, depth ? 9 : 6);

    if (way < 4)
        put_set(s, rng);
    else if (way < 6)
        put_literal(s, rng);
    else if (way == 6) {        /* a rule, behind something that it must read first */
        put_literal(s, rng);
        str_printf(s, " r%u ", rng_below(rng, N_RULES));
        put_literal(s, rng);
        return;
    } else {
        str_putc(s, '(');
        for (uint32_t alt = 0, n = 1 + rng_below(rng, 2); alt < n; alt++) {
            str_puts(s, alt ? " | " : "");
            for (uint32_t k = 0, m = 1 + rng_below(rng, 3); k < m; k++) {
                str_putc(s, ' ');
                put_term(s, rng, depth - 1);
            }
        }
        str_putc(s, ')');
    }
    put_count(s, rng);
}

static struct grammar *random_gbnf(struct rng *rng, struct str *text)
{
    struct grammar *g;
    struct err e;

    str_reset(text);
    for (uint32_t rule = 0; rule <= N_RULES; rule++) {
        if (rule)
            str_printf(text, "r%u ::=", rule - 1);
        else
            str_puts(text, "root ::=");
        for (uint32_t alt = 0, n = 1 + rng_below(rng, 2); alt < n; alt++) {
            str_puts(text, alt ? " |" : "");
            for (uint32_t k = 0, m = 1 + rng_below(rng, 3); k < m; k++) {
                str_putc(text, ' ');
                put_term(text, rng, 1);
            }
        }
        str_putc(text, '\n');
    }
    assert_true(str_ok(text));
    return grammar_from_gbnf(&g, sv_cstr(str_cstr(text)), &e) < 0 ? NULL : g;
}

/* ---- schemas of one string with pattern and lengths ---- */

static void put_pattern(struct str *s, struct rng *rng, uint32_t depth)
{
    static const char *const sets[] = { "[a-z]", "[a-c]", "[A-Z]", "\\\\w", "\\\\d", "\\\\s", "\\\\S", ".", "[^,]", "[^@]", "[a-z\u00e9]",
        "\\\\p{L}", "[a-z-]", "[ a-z]", "a", "be", ",", "@", " ", "\u6771", "[^\u6771]", "\\\\W" };

    for (uint32_t k = 0, m = 1 + rng_below(rng, 3); k < m; k++) {
        if (depth && rng_below(rng, 4) == 0) {
            str_putc(s, '(');
            put_pattern(s, rng, depth - 1);
            if (rng_below(rng, 2)) {
                str_putc(s, '|');
                put_pattern(s, rng, depth - 1);
            }
            str_putc(s, ')');
        } else {
            str_puts(s, sets[rng_below(rng, sizeof sets / sizeof *sets)]);
        }
        put_count(s, rng);
    }
}

static struct grammar *random_schema(struct rng *rng, struct str *text)
{
    const uint32_t anchors = rng_below(rng, 4), least = rng_below(rng, 30);
    struct grammar *g;
    struct err e;
    json_t *j;
    int rc;

    str_reset(text);
    str_puts(text, "{\"type\":\"string\",\"pattern\":\"");
    str_puts(text, anchors ? "^" : "");
    put_pattern(text, rng, 1);
    str_puts(text, anchors > 1 ? "$\"" : "\"");
    if (rng_below(rng, 3))
        str_printf(text, ",\"minLength\":%u", least);
    if (rng_below(rng, 2))
        str_printf(text, ",\"maxLength\":%u", least + rng_below(rng, 40));
    str_putc(text, '}');
    assert_true(str_ok(text));
    assert_int_equal(json_parse(&j, "schema", str_cstr(text), text->len, NULL, &e), 0);
    rc = grammar_from_schema(&g, j, NULL, &e);
    json_close(j);
    return rc < 0 ? NULL : g;
}

/* ---- masks ---- */

/* A few texts under the grammar, token by token; false: it is too ambiguous to be masked. */
static bool masks_agree(struct grammar *g, const struct token_trie *t, struct rng *rng, const char *text)
{
    uint64_t bits[N_PIECES / 64 + 1];
    struct grammar_masks *masks;
    struct matcher *m;
    bool masked = true;
    struct err e;

    assert_int_equal(grammar_masks_open(&masks, g, t, &e), 0);
    assert_int_equal(matcher_open(&m, masks, &e), 0);
    for (int step = 0; step < N_STEPS && masked; step++) {
        int32_t next = -1;
        uint32_t n = 0;

        masked = matcher_mask(m, bits, &e) == 0;
        for (int32_t i = 0; masked && i < (int32_t)N_PIECES; i++) {
            const bool in = bits[i / 64] >> i % 64 & 1;

            if (in != matcher_allows(m, i)) {
                print_error("token %d", i);
                for (size_t k = 0; k < t->pieces[i].len; k++)
                    print_error(" %02x", (unsigned char)t->pieces[i].data[k]);
                fail_msg("is %s the mask at step %d of\n%s", in ? "in" : "not in", step, text);
            }
            if (in && i != (int32_t)N_PIECES - 1 && rng_below(rng, ++n) == 0)
                next = i;
        }
        if (next < 0 || step % 7 == 6)
            matcher_reset(m);
        else
            assert_int_equal(matcher_accept(m, next, &e), 0);
    }
    matcher_close(m);
    grammar_masks_close(masks);
    return masked;
}

static void random_masks_are_exact(void **state)
{
    const char *wish = getenv("WATT_RANDOM_GRAMMARS");
    char *seed = NULL;
    const unsigned long n = wish ? strtoul(wish, &seed, 10) : N_GRAMMARS;
    unsigned long n_open = 0, n_masked = 0;
    struct str text, tokens;
    struct token_trie *t = NULL;
    struct rng rng;

    (void)state;
    rng_init(&rng, seed && *seed == ':' ? strtoul(seed + 1, NULL, 10) : 11);
    str_init(&text, 0);
    str_init(&tokens, 0);
    for (unsigned long i = 0; i < n; i++) {
        struct grammar *g = i % 3 == 2 ? random_schema(&rng, &text) : random_gbnf(&rng, &text);

        if (i % 40 == 0) {
            token_trie_close(t);
            str_reset(&tokens);
            t = vocabulary(&rng, &tokens);
        }
        if (!g)         /* an expression that matches nothing, or more states than are allowed */
            continue;
        n_open++;
        n_masked += masks_agree(g, t, &rng, str_cstr(&text));
        grammar_close(g);
    }
    print_message("%lu random grammars, %lu opened, %lu masked\n", n, n_open, n_masked);
    assert_true(2 * n_open >= n);
    assert_true(10 * n_masked >= 9 * n_open);
    token_trie_close(t);
    str_deinit(&tokens);
    str_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_masks_are_exact),
    };

    return cmocka_run_group_tests_name("grammar_random", tests, NULL, NULL);
}
