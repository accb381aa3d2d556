/* test_grammar.c: grammars of GBNF, regular expressions, schemas and tags; masks against the
 * matcher; the JSON-Schema-Test-Suite where the shared data is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "models/grammar/grammar.h"
#include "models/grammar/matcher.h"
#include "models/grammar/structural.h"
#include "shared.h"

struct text_case {
    const char *grammar, *yes[6], *no[6];
};

static void check(struct grammar *g, const struct text_case *c)
{
    for (size_t i = 0; i < 6 && c->yes[i]; i++)
        if (!grammar_matches(g, sv_cstr(c->yes[i])))
            fail_msg("%s should accept '%s'", c->grammar, c->yes[i]);
    for (size_t i = 0; i < 6 && c->no[i]; i++)
        if (grammar_matches(g, sv_cstr(c->no[i])))
            fail_msg("%s should refuse '%s'", c->grammar, c->no[i]);
    grammar_close(g);
}

static struct grammar *schema_grammar(const char *text, const struct schema_opts *opts)
{
    struct grammar *g;
    struct err e = { 0 };
    json_t *j;

    assert_int_equal(json_parse(&j, "schema", text, strlen(text), NULL, &e), 0);
    if (grammar_from_schema(&g, j, opts, &e) < 0)
        fail_msg("%s: %s", text, e.msg);
    json_close(j);
    return g;
}

static struct token_trie *small_vocabulary(uint32_t *eog);

static void regular_expressions(void **state)
{
    static const struct text_case cases[] = {
        { "a(b|c)*d", { "ad", "abd", "abcbd" }, { "a", "abc", "xad", "add" } },
        { "^[^a-c\\d]{2,3}$", { "xy", "xyz", "é😀" }, { "x", "wxyz", "ax", "x1" } },
        { "\\u00e9\\x41\\cJ?", { "éA", "éA\n" }, { "eA", "éA\n\n" } },
        { "(?:ab){2}|x+?y{0,}", { "abab", "x", "xxyyy" }, { "ab", "y", "" } },
        { "\\p{Lu}\\P{L}\\s\\S", { "A1 b", "É- é" }, { "a1 b", "AA b", "A1b" } },
        { ".", { "x", "é" }, { "\n", "", "xx" } },
        { "", { "" }, { "a" } },
        { "(|a)(|b)", { "", "a", "b", "ab" }, { "ba", "aa" } },
        { "a{3}", { "aaa" }, { "aa", "aaaa" } },
        { "[\\]\\-a]+", { "]-a", "-" }, { "b", "" } },
        { "a{,3}", { "a{,3}" }, { "aaa" } },
    };
    static const char *const bad[] = { "(", ")", "[a", "a**", "(?=a)", "(?<!a)b", "\\bfoo", "(a)\\1",
        "\\p{Script=Greek}", "[b-a]", "a{2,1}", "(?i)a", "\\", "*a", "a{99999}" };
    struct grammar *g;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (grammar_from_regex(&g, sv_cstr(cases[i].grammar), &e) < 0)
            fail_msg("%s: %s", cases[i].grammar, e.msg);
        check(g, &cases[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(&e, 0, sizeof e);
        if (grammar_from_regex(&g, sv_cstr(bad[i]), &e) == 0)
            fail_msg("'%s' should be refused", bad[i]);
        assert_non_null(strstr(e.msg, "regular expression"));
    }
}

static void gbnf(void **state)
{
    static const struct text_case cases[] = {
        { "root ::= \"a\" b?\nb ::= [0-9]+ | \"(\" root \")\"", { "a", "a12", "a(a(a1))" },
          { "", "a(", "a()", "aa" } },
        { "root ::= root \"+\" t | t\nt ::= \"x\" # left recursion\n", { "x", "x+x+x" },
          { "+x", "x+", "" } },
        { "root ::= ws \"x\" ws\nws ::= [ \\t] ws |", { "x", "  x\t " }, { "", " ", "xx" } },
        { "root ::= [^a\\n]{2} .{0,1} \"\\u00e9\\x21\"", { "bbé!", "bbbé!", "éé\né!" },
          { "aaé!", "bé!", "bbbbé!" } },
        { "root ::= (\n  \"a\" |\n  \"b\"\n)+\n", { "a", "abab" }, { "", "c" } },
        { "root ::= e\ne ::= e e | \"a\" | ", { "", "a", "aaaa" }, { "b" } },
        { "root ::= \"a\" never | \"b\"\nnever ::= \"x\" never", { "b" }, { "a", "ax", "axx" } },
        { "root ::= \"ab\"{2,} \"c\"{0,2}", { "abab", "abababcc" }, { "ab", "ababccc" } },
    };
    static const char *const bad[] = { "", "root := a", "root ::= nothing", "a ::= \"x\"",
        "root ::= \"x", "root ::= [a", "root ::= (\"a\"", "root ::= \"a\"\nroot ::= \"b\"",
        "root ::= *", "root ::= \"a\"{2,1}", "root ::= \"\\q\"", "root ::= \"td\\u0c9", "root ::= root", "root ::= <think>" };
    struct grammar *g;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (grammar_from_gbnf(&g, sv_cstr(cases[i].grammar), &e) < 0)
            fail_msg("%s: %s", cases[i].grammar, e.msg);
        check(g, &cases[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (grammar_from_gbnf(&g, sv_cstr(bad[i]), &e) == 0)
            fail_msg("'%s' should be refused", bad[i]);
}

static void schemas(void **state)
{
    static const struct text_case cases[] = {
        { "{\"type\":\"integer\",\"minimum\":-5,\"maximum\":120}",
          { "0", "-5", "120", "99" }, { "-6", "121", "1.5", "007", "\"1\"", "7.0" } },
        { "{\"type\":\"number\",\"exclusiveMinimum\":0.25,\"maximum\":1}",
          { "0.250001", "1", "1.00", "0.3" }, { "0.25", "0.2500", "1.001", "-1", "2" } },
        { "{\"multipleOf\":0.05,\"type\":\"number\"}", { "0.15", "3", "-0.05", "10.0", "2.50" },
          { "0.01", "0.151", "2.52", "0.150" } },
        { "{\"type\":\"integer\"}", { "0", "-17", "9223372036854775807", "-9223372036854775807" },
          { "5.0", "-0", "9223372036854775808", "10000000000000000000", "1e3" } },
        { "{\"type\":\"number\"}", { "0.1", "-0.0", "2.50", "1e-7", "-9.1E+289", "900.5e05" },
          { "1.", "01", "1e290", "1e1000", "10000000000000000000.5", "0.123456789012345678901" } },
        { "{\"enum\":[17,-2.5,0]}", { "17", "-2.5", "17.0", "0" }, { "17.00", "-2.50", "2.5", "-17" } },
        { "{\"const\":1e25}", { "10000000000000000000000000" }, { "1e25", "10000000000000000000000000.0" } },
        { "{\"type\":\"number\",\"minimum\":1e20,\"maximum\":1e21}", { "100000000000000000000" },
          { "1e20", "10000000000000000000" } },
        { "{\"enum\":[1e-30,3]}", { "0.000000000000000000000000000001", "3" }, { "0.0", "0" } },
        { "{\"type\":\"number\",\"minimum\":0}", { "0", "0.0", "19.90" }, { "-0", "-0.0", "-1" } },
        { "{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
          { "\"ab\"", "\"é\\n\\u00e9\"", "\"😀x\"" }, { "\"a\"", "\"abcd\"", "ab", "\"a\nb\"" } },
        { "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{}},"
          "\"required\":[\"b\"],\"additionalProperties\":false}",
          { "{\"a\":1,\"b\":null}", "{ \"b\": [] }", "{\n  \"b\": {\"x\": 1}\n}" },
          { "{\"a\":1}", "{\"b\":1,\"c\":2}", "{\"a\":1 \"b\":2}", "{}" } },
        { "{\"enum\":[\"red\",1,null,[1],{\"x\":\"\\\"\"}]}",
          { "\"red\"", "1", "null", "[1]", "{\"x\":\"\\\"\"}" }, { "\"blue\"", "2", "[2]", "1.0" } },
        { "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"string\"}],\"items\":{\"type\":\"boolean\"},"
          "\"maxItems\":3}", { "[]", "[\"x\"]", "[\"x\", true, false]" },
          { "[true]", "[\"x\",1]", "[\"x\",true,true,true]" } },
        { "{\"oneOf\":[{\"type\":\"integer\"},{\"minimum\":2,\"type\":\"number\"}]}",
          { "1", "2.5", "-3" }, { "3", "1.5", "\"x\"" } },
        { "{\"$ref\":\"#/$defs/tree\",\"$defs\":{\"tree\":{\"type\":\"object\",\"properties\":{"
          "\"v\":{\"type\":\"integer\"},\"kids\":{\"type\":\"array\",\"items\":{\"$ref\":"
          "\"#/$defs/tree\"}}},\"required\":[\"v\"],\"additionalProperties\":false}}}",
          { "{\"v\":1}", "{\"v\":1,\"kids\":[{\"v\":2,\"kids\":[]}]}" },
          { "{\"kids\":[]}", "{\"v\":1,\"kids\":[{}]}" } },
        { "{\"not\":{\"type\":[\"string\",\"object\"]}}", { "1", "[\"x\"]", "null" },
          { "\"x\"", "{}" } },
        { "{\"type\":\"string\",\"format\":\"date\"}", { "\"2024-02-29\"", "\"1999-12-31\"" },
          { "\"2023-02-29\"", "\"2023-13-01\"", "\"2023-1-1\"" } },
        { "{\"type\":\"string\",\"pattern\":\"^[a-z]+@\"}", { "\"ab@\"", "\"ab@\\\"x\"" },
          { "\"@\"", "\"Ab@\"" } },
        { "{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"enum\":[\"a\",\"b\"]}}",
          { "[]", "[\"a\"]", "[\"b\",\"a\"]" }, { "[\"a\",\"a\"]", "[\"c\"]" } },
        { "{\"if\":{\"properties\":{\"k\":{\"const\":1}},\"required\":[\"k\"]},"
          "\"then\":{\"required\":[\"x\"]},\"else\":{\"required\":[\"y\"]},\"type\":\"object\"}",
          { "{\"k\":1,\"x\":0}", "{\"k\":2,\"y\":0}", "{\"y\":0}" },
          { "{\"k\":1,\"y\":0}", "{\"k\":2,\"x\":0}", "{}" } },
        { "{\"type\":\"object\",\"minProperties\":1,\"maxProperties\":2}",
          { "{\"a\":1}", "{\"a\":1,\"b\":2}" }, { "{}", "{\"a\":1,\"b\":2,\"c\":3}" } },
        { "{\"type\":\"object\",\"patternProperties\":{\"^n\":{\"type\":\"integer\"}},"
          "\"additionalProperties\":{\"type\":\"string\"}}",
          { "{\"n1\":1,\"x\":\"y\"}", "{}" }, { "{\"n1\":\"y\"}", "{\"x\":1}" } },
        { "{\"contains\":{\"type\":\"integer\"},\"maxContains\":1,\"type\":\"array\"}",
          { "[1]", "[\"a\",1,null]" }, { "[]", "[\"a\"]", "[1,2]" } },
    };
    static const char *const bad[] = { "{\"type\":\"florp\"}", "{\"$ref\":\"#/nowhere\"}",
        "{\"$ref\":\"other.json\"}", "{\"type\":\"array\",\"uniqueItems\":true}", "{\"type\":7}",
        "{\"minLength\":-1}", "{\"properties\":[]}", "{\"pattern\":\"(?=x)\",\"type\":\"string\"}",
        "{\"format\":\"regex\",\"type\":\"string\"}", "{\"$ref\":\"#\"}", "false",
        "{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", "{\"maxLength\":1000000000}",
        "{\"anyOf\":[]}", "{\"required\":\"x\"}", "17", "{\"allOf\":[{\"type\":\"string\"},"
        "{\"type\":\"null\"}]}" };
    struct grammar *g;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check(schema_grammar(cases[i].grammar, NULL), &cases[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *j;

        assert_int_equal(json_parse(&j, "schema", bad[i], strlen(bad[i]), NULL, &e), 0);
        if (grammar_from_schema(&g, j, NULL, &e) == 0)
            fail_msg("'%s' should be refused", bad[i]);
        assert_non_null(strstr(e.msg, "schema"));
        json_close(j);
    }
}

/* A model that prefers zeros, then points, then nines comes to an end of every number. */
static void numbers_end(void **state)
{
    static const char *const schema[] = { "{\"type\":\"integer\"}", "{\"type\":\"number\"}", "{\"enum\":[17,0.5]}",
        "{\"type\":\"number\",\"exclusiveMinimum\":0}", "{\"multipleOf\":0.05,\"type\":\"number\"}",
        "{\"type\":[\"number\",\"null\"],\"not\":{\"const\":3}}", "{\"minimum\":-1e19,\"type\":\"integer\"}" };
    static const char wishes[] = "0.9e1-2345678";
    uint32_t eog;
    struct token_trie *t = small_vocabulary(&eog);
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof schema / sizeof *schema; i++) {
        struct grammar *g = schema_grammar(schema[i], NULL);
        struct grammar_masks *masks;
        struct matcher *m;
        unsigned n = 0;

        assert_int_equal(grammar_masks_open(&masks, g, t, &e), 0);
        assert_int_equal(matcher_open(&m, masks, &e), 0);
        for (const char *w = wishes; *w;) {
            if (!matcher_allows(m, (unsigned char)*w)) {
                w++;
                continue;
            }
            assert_int_equal(matcher_accept(m, (unsigned char)*w, &e), 0);
            w = wishes;
            if (++n > 60)
                fail_msg("%s: over 60 digits", schema[i]);
        }
        assert_true(matcher_must_end(m));
        matcher_close(m);
        grammar_masks_close(masks);
        grammar_close(g);
    }
    token_trie_close(t);
}

/* Characters are counted, however they are spelled. */
static void lengths(void **state)
{
    static const char *const spelled[] = { "a", "é", "\xF0\x9F\x98\x80", "\\n", "\\u00e9", "\\ud83d\\ude00" };
    struct grammar *g = schema_grammar("{\"type\":\"string\",\"minLength\":40,\"maxLength\":300}", NULL);
    struct str text;

    (void)state;
    str_init(&text, 0);
    for (uint32_t n = 38; n <= 302; n++) {
        str_reset(&text);
        str_putc(&text, '"');
        for (uint32_t i = 0; i < n; i++)
            str_puts(&text, spelled[(i + n) % 6]);
        str_putc(&text, '"');
        assert_true(str_ok(&text));
        if (grammar_matches(g, sv_of(&text)) != (n >= 40 && n <= 300))
            fail_msg("%u characters of 40 to 300", n);
    }
    str_deinit(&text);
    grammar_close(g);
}

/* Patterns with lengths are counted beside their automaton: they accept what both do. */
#define ANY UINT32_MAX

static void counted_patterns(void **state)
{
    static const struct { const char *pattern; uint32_t min, max; } cases[] = {
        { "^[a-c]+@[a-c]+$", 0, 500 }, { "^[a-c]+@[a-c]+$", 30, 260 }, { "@b", 5, 300 },
        { "^(a|bc)+[.]$", 40, 220 }, { "^a+(bb|\u00e9@)$", 12, 300 }, { "^(a+|b.)(c@)?$", 0, 300 },
        { "^(ab|c)*$", 21, 500 }, { "^((a|b)c){0,40}$", 0, 71 }, { "^([a-c]{7}@)+$", 0, 300 },
        { "^[a-c]+@[a-c]+$", 70, ANY }, { "^([^x]{7})+$", 300, ANY }, { "^[a-c]{20,45}$", 30, ANY },
        { "^(ab|c)*$", 45, ANY }, { "^(a+|b+.)(c@)?$", 90, ANY }, { "@b", 600, ANY } };
    static const char *const letters[] = { "a", "a", "b", "c", "@", "\u00e9", ".", "a", "c", "bb" };
    struct str text;
    struct rng rng;

    (void)state;
    rng_init(&rng, 11);
    str_init(&text, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char any[200], bounded[256];
        struct grammar *a, *b;
        unsigned n_yes = 0;

        snprintf(any, sizeof any, "{\"type\":\"string\",\"pattern\":\"%s\"}", cases[i].pattern);
        snprintf(bounded, sizeof bounded, "{\"type\":\"string\",\"pattern\":\"%s\",\"minLength\":%u",
                 cases[i].pattern, cases[i].min);
        snprintf(bounded + strlen(bounded), sizeof bounded - strlen(bounded),
                 cases[i].max == ANY ? "}" : ",\"maxLength\":%u}", cases[i].max);
        a = schema_grammar(any, NULL);
        b = schema_grammar(bounded, NULL);
        for (uint32_t k = 0; k < 6000; k++) {
            const uint32_t most = cases[i].max == ANY ? cases[i].min + 90 : cases[i].max;
            const uint32_t around = k % 3 == 0 ? 8 : k % 3 == 1 ? cases[i].min : most;
            const uint32_t n = around + (uint32_t)rng_below(&rng, 7) - (around < 3 ? around : 3);
            const uint32_t few = 1 + rng_below(&rng, 3), from = rng_below(&rng, 8);
            uint32_t n_chars = 0;
            bool yes;

            str_reset(&text);
            str_putc(&text, '"');
            while (n_chars < n) {
                const bool late = n_chars + 3 > n || rng_below(&rng, 40) == 0;
                const char *c = letters[late ? rng_below(&rng, 10) : from + rng_below(&rng, few)];

                str_puts(&text, c);
                n_chars += *c == 'b' && c[1] ? 2 : 1;
            }
            str_putc(&text, '"');
            assert_true(str_ok(&text));
            yes = grammar_matches(a, sv_of(&text)) && n_chars >= cases[i].min && n_chars <= cases[i].max;
            n_yes += yes;
            if (grammar_matches(b, sv_of(&text)) != yes)
                fail_msg("%s: %u characters, %d expected: %s", bounded, n_chars, yes, str_cstr(&text));
        }
        assert_true(n_yes > 0);
        grammar_close(a);
        grammar_close(b);
    }
    str_deinit(&text);
}

static void mail_addresses(void **state)
{
    struct grammar *g = schema_grammar("{\"type\":\"string\",\"format\":\"email\"}", NULL);
    struct grammar *shorter = schema_grammar("{\"type\":\"string\",\"format\":\"email\",\"maxLength\":254}", NULL);
    char text[200];

    (void)state;
    for (int n = 1; n < 80; n++) {
        const int len = snprintf(text, sizeof text, "\"%.*s@example.org\"", n,
            "firstname.middlename-lastname-of-a-very-long-house.from_somewhere+and+more+and+more");
        const struct sv v = { text, (size_t)len };

        assert_int_equal(grammar_matches(g, v), n <= 64 && text[n] != '.');
        assert_int_equal(grammar_matches(shorter, v), n <= 64 && text[n] != '.');
    }
    assert_false(grammar_matches(g, SV("\"a..b@c.d\"")));
    assert_false(grammar_matches(g, SV("\".b@c.d\"")));
    grammar_close(g);
    grammar_close(shorter);
}

static void options(void **state)
{
    const struct schema_opts strict = { .strict = true, .compact = true };
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\","
                                 "\"format\":\"date\"}}}";
    const struct text_case open = { schema, { "{\"a\":\"2020-01-01\", \"b\": 1}", "{ }" }, { 0 } };
    const struct text_case closed = { schema, { "{\"a\":\"2020-01-01\"}", "{}" },
                                      { "{ }", "{\"b\":1}", "{\"a\": \"2020-01-01\"}" } };
    const struct text_case object = { "object", { "{}", "{\"a\":[1,{}]}" }, { "[]", "1", "{a:1}" } };
    struct grammar *g;
    struct err e;

    (void)state;
    check(schema_grammar(schema, NULL), &open);
    check(schema_grammar(schema, &strict), &closed);
    assert_int_equal(grammar_any_json(&g, true, false, &e), 0);
    check(g, &object);
}

static void tags(void **state)
{
    const struct sv triggers[] = { SV("<tool"), SV("<think>") };
    json_t *schema = json_pack("{s:s}", "type", "integer");
    const struct grammar_tag list[] = { { SV("<tool>"), SV("</tool>"), schema },
        { SV("<tool name=b>"), SV("</tool>"), NULL }, { SV("<think>"), SV("</think>"), NULL } };
    struct grammar_tags t = { triggers, 2, list, 3, false, false };
    const struct text_case any = { "tags", { "", "free <text> <too", "a<tool>12</tool>b<tool>3</tool>",
        "<think>x < y</think>ok", "<tool name=b>{</tool>" }, { "<tool>x</tool>", "<tool",
        "<toolbox>", "a<think>b", "<tool>1</tool><tool>", "<tool>1" } };
    const struct text_case one = { "tags", { "hm <tool>1</tool>" },
        { "", "free", "<tool>1</tool> more" } };
    struct grammar *g;
    struct err e;

    (void)state;
    assert_non_null(schema);
    assert_int_equal(grammar_from_tags(&g, &t, NULL, &e), 0);
    check(g, &any);
    t.at_least_one = t.stop_after_first = true;
    assert_int_equal(grammar_from_tags(&g, &t, NULL, &e), 0);
    check(g, &one);
    t.n_triggers = 1;
    assert_int_equal(grammar_from_tags(&g, &t, NULL, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "<think>"));
    json_decref(schema);
}

static void choices(void **state)
{
    const struct sv list[] = { SV("yes"), SV("no"), SV("not sure"), SV("") };
    const struct text_case c = { "choice", { "yes", "no", "not sure", "" }, { "n", "nope", "yesno" } };
    struct grammar *g;
    struct err e;

    (void)state;
    assert_int_equal(grammar_from_choices(&g, list, 4, &e), 0);
    check(g, &c);
    assert_int_equal(grammar_from_choices(&g, list, 0, &e), WATT_EINVAL);
}

/* ---- masks ---- */

/* A vocabulary of bytes and of common longer pieces; the last token ends. */
static struct token_trie *small_vocabulary(uint32_t *eog)
{
    static const char *const pieces[] = { "\":", "\", \"", "{\"", "\"}", "\"]", "[\"", "true", "tru",
        "false", "null", "12", "123", "0.5", "  ", "\n  ", "name", "na", "me", "age", "\": \"",
        "\": ", ", \"", "ab", "abc", "é", "\xC3", "\xA9", "<tool>", "</tool>", "hello ", "}}",
        "]}", "\"},", "\\\"", "\\n", "\\u00", "-", "e+", "x+x", "((", "))" };
    static char bytes[256];
    struct sv texts[256 + sizeof pieces / sizeof *pieces + 1];
    struct token_trie *t;
    uint32_t n = 0;
    struct err e;

    for (unsigned c = 0; c < 256; c++) {
        bytes[c] = (char)c;
        texts[n++] = (struct sv){ &bytes[c], 1 };
    }
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        texts[n++] = sv_cstr(pieces[i]);
    *eog = n;
    texts[n++] = (struct sv){ "", 0 };
    assert_int_equal(token_trie_from(&t, texts, n, (int32_t)*eog, &e), 0);
    return t;
}

#define N_SCHEMAS  9
#define N_GBNF     5
#define N_GRAMMARS (N_SCHEMAS + N_GBNF + 3)

static struct grammar *grammar_of(int which)
{
    static const char *const schema[N_SCHEMAS] = {
        "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"
        "\"integer\",\"minimum\":0},\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\","
        "\"maxLength\":5}}},\"required\":[\"name\"]}",
        "true", "{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"maxItems\":2}",
        "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":6,\"maxLength\":14}}",
        "{\"type\":\"object\",\"properties\":{\"na\":{\"type\":\"string\",\"pattern\":"
        "\"^[a-c]{2,9}(\\\"[a-c\\u00e9]{5}){0,2}x?$\"}},\"required\":[\"na\"]}",
        "{\"type\":\"string\",\"pattern\":\"^([^,]{5,7},)+n$\"}",
        "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"pattern\":\"^[a-c\\n]+([ \u00e9][a-c]+)*(x1|y2)$\","
        "\"minLength\":15,\"maxLength\":170}}",
        "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"format\":\"email\",\"maxLength\":90}}",
        "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"format\":\"email\"}}" };
    static const char *const gbnf_text[N_GBNF] = {
        "root ::= root \"+\" t | t\nt ::= \"x\" | \"(\" root \")\"",
        "root ::= e\ne ::= e e | \"a\" | \"ab\" | \"(\" e \")\"",
        "root ::= [a-z]+ (\" \" [a-z]+)* \".\"?",
        "root ::= ([ab]{3,30} \"+\" | [^+]{9} | (\"(\" root \")\"){2,12} \"x\"){9,}",
        "root ::= p (p \"\\\"\" | x)\np ::= [ !#-[^-~] | \"]\"\nx ::= \"(\" x \")\" | \"bc\"" };
    static const char *const regex_text[] = { "[a-c]{4,12}", "x([ab]{0,9},)+[^x]{7}y?",
                                              "(é{4}|[a-c]{6,8}\\+)*" };
    struct grammar *g = NULL;
    struct err e;

    if (which < N_SCHEMAS)
        return schema_grammar(schema[which], NULL);
    which -= N_SCHEMAS;
    if (which < N_GBNF)
        assert_int_equal(grammar_from_gbnf(&g, sv_cstr(gbnf_text[which]), &e), 0);
    else
        assert_int_equal(grammar_from_regex(&g, sv_cstr(regex_text[which - N_GBNF]), &e), 0);
    return g;
}

/* Walks at random under the masks. Every mask has a token, and says of each what the matcher
 * says; taking tokens back gives the same masks again. */
static void masks_are_exact(void **state)
{
    uint32_t eog;
    struct token_trie *t = small_vocabulary(&eog);
    struct rng rng;
    struct err e;

    (void)state;
    rng_init(&rng, 7);
    for (int which = 0; which < N_GRAMMARS; which++) {
        struct grammar *g = grammar_of(which);
        struct grammar_masks *masks;
        struct matcher *m, *copy;
        uint64_t bits[16], again[16];

        assert_true(t->n_words <= 16);
        assert_int_equal(grammar_masks_open(&masks, g, t, &e), 0);
        assert_int_equal(matcher_open(&m, masks, &e), 0);
        for (int step = 0; step < 400; step++) {
            int32_t allowed[1024], token;
            uint32_t n = 0;

            assert_int_equal(matcher_mask(m, bits, &e), 0);
            for (uint32_t i = 0; i < t->n_vocab; i++) {
                const bool in = bits[i / 64] >> i % 64 & 1;

                if (in != matcher_allows(m, (int32_t)i))
                    fail_msg("grammar %d step %d token %u: mask %d", which, step, i, in);
                if (in)
                    allowed[n++] = (int32_t)i;
            }
            assert_true(n > 0);
            token = allowed[rng_below(&rng, n)];
            if (token == (int32_t)eog) {
                assert_true(matcher_complete(m));
                matcher_reset(m);
                continue;
            }
            assert_int_equal(matcher_accept(m, token, &e), 0);
            if (step % 7 == 0) {
                assert_int_equal(matcher_clone(&copy, m, &e), 0);
                assert_int_equal(matcher_mask(m, again, &e), 0);
                matcher_rollback(copy, 1);
                assert_int_equal(matcher_mask(copy, again, &e), 0);
                assert_memory_equal(bits, again, t->n_words * sizeof *bits);
                matcher_close(copy);
            }
        }
        matcher_close(m);
        grammar_masks_close(masks);
        grammar_close(g);
    }
    token_trie_close(t);
}

#define N_PIECES 2600u

/* A vocabulary as merges leave it: every byte, words with and without a blank before them, beginnings of words,
 * runs, characters of several bytes and parts of them, and mixtures; the last one ends. */
static struct token_trie *wide_vocabulary(struct str *text)
{
    static const char *const part[] = { "a", "be", "cab", "foo", "of", "the", "ing", "Ada", "KING", "x", "0", "42",
        " ", "  ", "\t", "\n", ".", ",", "@", "-", "_", "/", "://", "\"", "\"}", "\": ", "{", "<tool", "<", ">", ">>",
        "\\", "\\n", "\\u00e9", "(", ")", "+", "=", "'", "\xC3\xA9", "\xE6\x9D\xB1", "\xF0\x9F\x98\x80", "\xC3", "\xA9",
        "\xE6\x9D", "\x9D\xB1", "\xF0\x9F", "\xFF", "<\xC3\xA9", "<\xE6\x9D\xB1,", ",<", "\xD0\xB0", "\xE2\x82\xAC" };
    static const char *const before[3] = { "", "=", "<=" };
    static const char *const between[10] = { "a", "thecab", "\xC3\xA9", "\xC3\xA9\xC3\xA9", "a\xC3\xA9", "b\xE6\x9D\xB1" "b",
        "cabcabcabcab", "\xC3\xA9\xE2\x80\xA8", "a\xE2\x80\xA8", "\xC2\xA0" "a" };
    static const char *const behind[8] = { "", ",", ",<", ",=", "!", ";", "!;", "0" };
    const uint32_t n_part = sizeof part / sizeof *part;
    size_t end[N_PIECES + 1] = { 0 };
    struct sv texts[N_PIECES];
    struct token_trie *t;
    struct rng rng;
    struct err e;

    rng_init(&rng, 3);
    for (uint32_t i = 0; i < N_PIECES - 1; i++) {
        const uint32_t first = rng_below(&rng, n_part), kind = i % 5;
        uint32_t n = i < 500 ? 0 : kind == 0 ? rng_below(&rng, 40) : 1 + rng_below(&rng, 4);

        if (i < 256)
            str_putc(text, (char)i);
        else if (i < 500)       /* texts between marks */
            str_printf(text, "%s%s%s", before[i % 3], between[i / 3 % 10], behind[i / 30 % 8]);
        if (kind == 1 && n)
            str_putc(text, ' ');
        for (; n > 0; n--)      /* a run; words; anything */
            str_puts(text, part[kind == 0 ? first : kind == 4 ? rng_below(&rng, n_part) : rng_below(&rng, 10)]);
        end[i + 1] = text->len;
    }
    assert_true(str_ok(text));
    for (uint32_t i = 0; i < N_PIECES - 1; i++)
        texts[i] = (struct sv){ text->data + end[i], end[i + 1] - end[i] };
    texts[N_PIECES - 1] = (struct sv){ "", 0 };
    assert_int_equal(token_trie_from(&t, texts, N_PIECES, N_PIECES - 1, &e), 0);
    return t;
}

static struct grammar *wide_grammar(size_t which)
{
    static const char *const strings[] = { "\"pattern\":\"^[a-z]+$\"", "\"pattern\":\"^[A-Z][a-z]+( [A-Z][a-z]+)*$\"",
        "\"pattern\":\"foo\"", "\"pattern\":\"^[^@]+@[^@]+\\\\.[a-z]+$\"", "\"pattern\":\"^\\\\S+$\"",
        "\"pattern\":\"^\\\\w{3,40}$\"", "\"pattern\":\"^[\\\\p{L} ]+$\"", "\"pattern\":\"^.{4}[a-z]*x?$\"",
        "\"pattern\":\"^[a-z-]+$\",\"minLength\":4,\"maxLength\":30", "\"format\":\"hostname\"", "\"format\":\"uri\"",
        "\"format\":\"email\",\"maxLength\":80", "\"not\":{\"const\":\"foo\"}", "\"minLength\":3,\"maxLength\":9",
        "\"pattern\":\"^([^,]*,){2}[^,]*$\"", "\"pattern\":\"^(a|be|cab)+$\",\"maxLength\":50", "\"pattern\":\"^[a-c]+(, ?[a-z\u00e9]+)*$\",\"minLength\":150",
        "\"pattern\":\"^(ab|x[^x]{3})+$\",\"minLength\":400" };
    static const char *const regexes[] = { "(.|\\n)*", "[\\w ]+", "[^\"]+", "[a-z]{10,40}", "[^\\n]{1,200}\\n",
        "(yes|no)[.!]? .{0,30}", "([^,\\n]*,){3}[^,\\n]*", "```[a-z]*\\n[\\s\\S]*\\n```", "[a-z ]{3,}x", "(a{2,9}|[a-z]{1,30})*" };
    static const char *const gbnfs[] = { "root ::= word (\" \" word)* \".\"\nword ::= [a-z]+ | \"(\" word \")\"",
        "root ::= line{2,30}\nline ::= [a-z ]{3,50} \"\\n\" | \"<\" line \">\"",
        "root ::= x x x\nx ::= [ a]+ | \"(\" x \")\"",
        "root ::= (l \",\")* l\nl ::= \"<\" w | \"(\" l \")\"\nw ::= [^>,]+ | \">\" w \">\"",
        "root ::= (l \",\")* l\nl ::= \"<\" w | \"(\" l \")\"\nw ::= [^>,]{2,6} | \">\" w \">\"",
        "root ::= [a-z\u6771]{3,9} \".\" (a \".\")* a\na ::= [^.]{0,5} | [ab]{2,7}",
        "root ::= (r \",\")* r\nr ::= \"<=\" w | \"(\" r \")\"\nw ::= [^>,]+ | \">\" w \">\"",
        "root ::= (r \",\")* r\nr ::= \"<=\" w | \"(\" r \")\"\nw ::= [^>,]{4,9} | \">\" w \">\"",
        "root ::= (r \",\")* r\nr ::= \"<=\" w | \"(\" r \")\"\nw ::= [a-z]{4,30} | \">\" w \">\"",
        "root ::= (w \",\")* w \"!\"\nw ::= \"=\" [^>,]{4,9} | \"(\" w \")\"",
        "root ::= (a \",\" | b \";\")*\na ::= [^,]+ | \"(\" a \")\"\nb ::= [^,]+ \"!\" | \"(\" b \")\"",
        "root ::= ([^\\u2028x]* (\"\\u2028\" | \"x\") [0-9]+ \";\")*",
        "root ::= (w \",\")* w\nw ::= [a-zA-Z]+ | [^,]+ \"!\" | w \"-\" w",
        "root ::= \"\\xC3\" [^x]* | [\\x80-\\xFF]* \"x\" | any\nany ::= [^\\n]{2,20} any | \"\\n\"" };
    static const char tags_text[] = "{\"type\":\"structural_tag\",\"format\":{\"type\":\"triggered_tags\","
        "\"triggers\":[\"<tool\"],\"tags\":[{\"type\":\"tag\",\"begin\":\"<tool>\",\"content\":{\"type\":"
        "\"json_schema\",\"json_schema\":{\"type\":\"object\"}},\"end\":\">>\"},{\"type\":\"tag\",\"begin\":"
        "\"<tool@\",\"content\":{\"type\":\"any_text\"},\"end\":\"the\"}]}}";
    const size_t n_strings = sizeof strings / sizeof *strings, n_regexes = sizeof regexes / sizeof *regexes;
    const size_t n_gbnfs = sizeof gbnfs / sizeof *gbnfs;
    struct grammar *g = NULL;
    struct err e = { 0 };
    char text[256];
    json_t *j;

    if (which < n_strings) {
        (void)snprintf(text, sizeof text, "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",%s}},"
                       "\"required\":[\"a\"]}", strings[which]);
        return schema_grammar(text, NULL);
    }
    which -= n_strings;
    if (which < n_regexes) {
        if (grammar_from_regex(&g, sv_cstr(regexes[which]), &e) < 0)
            fail_msg("%s: %s", regexes[which], e.msg);
    } else if (which - n_regexes < n_gbnfs) {
        if (grammar_from_gbnf(&g, sv_cstr(gbnfs[which - n_regexes]), &e) < 0)
            fail_msg("%s: %s", gbnfs[which - n_regexes], e.msg);
    } else if (which == n_regexes + n_gbnfs) {
        assert_int_equal(json_parse(&j, "tags", tags_text, strlen(tags_text), NULL, &e), 0);
        if (grammar_from_structure(&g, j, &e) < 0)
            fail_msg("%s", e.msg);
        json_close(j);
    }
    return g;
}

/* What a mask takes from the tree as a whole (mask_pure.c) is what the matcher says of each token. */
static void wide_masks_are_exact(void **state)
{
    struct grammar *g;
    struct token_trie *t;
    struct str text;
    struct rng rng;

    (void)state;
    rng_init(&rng, 5);
    str_init(&text, 0);
    t = wide_vocabulary(&text);
    for (size_t which = 0; (g = wide_grammar(which)); which++) {
        struct grammar_masks *masks;
        struct matcher *m;
        uint64_t bits[N_PIECES / 64 + 1];
        struct err e;

        assert_int_equal(grammar_masks_open(&masks, g, t, &e), 0);
        assert_int_equal(matcher_open(&m, masks, &e), 0);
        for (int step = 0; step < 36; step++) {
            int32_t next = -1;
            size_t n = 0;

            assert_int_equal(matcher_mask(m, bits, &e), 0);
            for (int32_t i = 0; i < (int32_t)N_PIECES; i++) {
                const bool in = bits[i / 64] >> i % 64 & 1;

                if (in != matcher_allows(m, i))
                    fail_msg("grammar %zu step %d token '%.*s': mask %d", which, step, (int)t->pieces[i].len,
                             t->pieces[i].data, in);
                if (in && rng_below(&rng, (uint32_t)++n) == 0 && (step % 2 || t->pieces[i].len < 2 || next < 0))
                    next = i;
            }
            if (next < 0 || next == (int32_t)N_PIECES - 1 || step % 12 == 11)
                matcher_reset(m);
            else
                assert_int_equal(matcher_accept(m, next, &e), 0);
        }
        matcher_close(m);
        grammar_masks_close(masks);
        grammar_close(g);
    }
    token_trie_close(t);
    str_deinit(&text);
}

static void long_texts_stay_small(void **state)
{
    uint32_t eog;
    struct token_trie *t = small_vocabulary(&eog);
    struct grammar *g = grammar_of(1);
    struct grammar_masks *masks;
    struct mask_stats st;
    struct matcher *m;
    uint64_t bits[16];
    struct err e;

    (void)state;
    assert_int_equal(grammar_masks_open(&masks, g, t, &e), 0);
    assert_int_equal(matcher_open(&m, masks, &e), 0);
    assert_int_equal(matcher_accept(m, '[', &e), 0);
    for (int i = 0; i < 20000; i++) {
        static const char item[] = "{\"a\":[1,\"b\"]},";

        for (const char *c = item; *c; c++)
            assert_int_equal(matcher_accept(m, (unsigned char)*c, &e), 0);
        assert_int_equal(matcher_mask(m, bits, &e), 0);
    }
    grammar_masks_stats(masks, &st);
    assert_true(st.n_walks < 100);
    assert_int_equal(matcher_accept(m, ']', &e), WATT_EINVAL);  /* after a comma */
    matcher_close(m);
    grammar_masks_close(masks);
    grammar_close(g);
    token_trie_close(t);
}

/* Texts that a grammar can read in very many ways are refused, not read in all of them. */
static void ambiguity_is_bounded(void **state)
{
    static const char runs[] = "                                                                                "
                               "                                                                                ";
    struct sv texts[164];
    struct token_trie *t;
    struct grammar *g;
    struct grammar_masks *masks;
    struct matcher *m;
    uint64_t bits[3];
    struct err e = { 0 };
    int rc;

    (void)state;
    for (size_t i = 0; i < 160; i++)
        texts[i] = (struct sv){ runs, i + 1 };
    texts[160] = SV("!");
    texts[161] = SV("(");
    texts[162] = SV(")");
    texts[163] = SV("");
    assert_int_equal(token_trie_from(&t, texts, 164, 163, &e), 0);
    assert_int_equal(grammar_from_gbnf(&g, SV("root ::= y y y y y y y y y y y y \"!\"\n"
                                              "y ::= [ ]+ | \"(\" y \")\" | y y"), &e), 0);
    assert_int_equal(grammar_masks_open(&masks, g, t, &e), 0);
    assert_int_equal(matcher_open(&m, masks, &e), 0);
    for (int i = 0; i < 3 && (rc = matcher_mask(m, bits, &e)) == 0; i++)
        assert_int_equal(matcher_accept(m, 9, &e), 0);
    assert_int_equal(rc, WATT_ELIMIT);
    assert_non_null(strstr(e.msg, "ambiguous"));
    for (size_t i = 0; i < t->n_words; i++)
        assert_int_equal(bits[i], 0);
    matcher_close(m);
    grammar_masks_close(masks);
    grammar_close(g);
    token_trie_close(t);
}

/* Few states, each of very many places at once: minutes of work, without a bound. */
static void automata_are_bounded(void **state)
{
    static const char text[] = "{\"type\":\"string\",\"pattern\":\"\\\\d([^\u6771]?\\\\w|[ a-z]?\\\\p{L}{2}){0,9}\u6771*\"}";
    struct grammar *g = NULL;
    struct err e = { 0 };
    json_t *j;

    (void)state;
    assert_int_equal(json_parse(&j, "schema", text, strlen(text), NULL, &e), 0);
    assert_int_equal(grammar_from_schema(&g, j, NULL, &e), WATT_ELIMIT);
    assert_non_null(strstr(e.msg, "too complex"));
    json_close(j);
}

static void forced_bytes(void **state)
{
    const struct schema_opts compact = { .compact = true };
    uint32_t eog;
    struct token_trie *t = small_vocabulary(&eog);
    struct grammar *g = schema_grammar("{\"type\":\"object\",\"properties\":{\"name\":{\"const\":"
        "\"Jo\"},\"age\":{\"type\":\"integer\"}},\"required\":[\"name\",\"age\"],"
        "\"additionalProperties\":false}", &compact);
    struct grammar_masks *masks;
    struct matcher *m;
    char bytes[64];
    struct err e;
    size_t n;

    (void)state;
    assert_int_equal(grammar_masks_open(&masks, g, t, &e), 0);
    assert_int_equal(matcher_open(&m, masks, &e), 0);
    n = matcher_forced(m, bytes, sizeof bytes);
    assert_int_equal(n, strlen("{\"name\":\"Jo\",\"age\":"));
    assert_memory_equal(bytes, "{\"name\":\"Jo\",\"age\":", n);
    assert_int_equal(matcher_forced(m, bytes, 3), 3);
    matcher_close(m);
    grammar_masks_close(masks);
    grammar_close(g);
    token_trie_close(t);
}

/* ---- JSON-Schema-Test-Suite ---- */

struct score {
    unsigned n_schemas, n_supported, n_valid, n_accepted;
};

/* Numbers are accepted in the form in which they are offered: whole ones without a point. */
static json_t *plainly(json_t *v)
{
    const char *key;
    json_t *member;
    void *next;
    size_t i;

    if (json_is_real(v) && json_real_value(v) >= -1e15 && json_real_value(v) <= 1e15 &&
        json_real_value(v) == (double)(json_int_t)json_real_value(v))
        return json_integer((json_int_t)json_real_value(v));
    json_array_foreach(v, i, member)
        assert_int_equal(json_array_set_new(v, i, plainly(member)), 0);
    json_object_foreach_safe(v, next, key, member)
        assert_int_equal(json_object_set_new(v, key, plainly(member)), 0);
    return json_incref(v);
}

static bool accepts(const struct grammar *g, const json_t *value)
{
    char text[1 << 14];
    const size_t n = json_dumpb(value, text, sizeof text, JSON_ENCODE_ANY | JSON_REAL_PRECISION(16));

    assert_true(n > 0 && n <= sizeof text);
    return grammar_matches(g, (struct sv){ text, n });
}

static void suite_case(const char *file, const json_t *c, struct score *score)
{
    const char *title = json_string_value(json_object_get(c, "description"));
    struct grammar *g;
    struct err e;
    json_t *t;
    size_t i;

    score->n_schemas++;
    if (grammar_from_schema(&g, json_object_get(c, "schema"), NULL, &e) < 0) {
        bool any = false;

        json_array_foreach(json_object_get(c, "tests"), i, t)
            any |= json_is_true(json_object_get(t, "valid"));
        score->n_supported += e.code == WATT_EINVAL && !any;    /* rightly: nothing satisfies it */
        return;
    }
    score->n_supported++;
    json_array_foreach(json_object_get(c, "tests"), i, t) {
        const bool valid = json_is_true(json_object_get(t, "valid"));
        bool accepted = accepts(g, json_object_get(t, "data"));
        json_t *plain = plainly(json_object_get(t, "data"));

        accepted |= accepts(g, plain);
        json_decref(plain);
        if (accepted && !valid)
            fail_msg("%s: %s: %s: is accepted", file, title,
                     json_string_value(json_object_get(t, "description")));
        score->n_valid += valid;
        score->n_accepted += valid && accepted;
    }
    grammar_close(g);
}

static void suite_folder(const char *path, struct score *score)
{
    DIR *d = opendir(path);
    struct dirent *x;

    assert_non_null(d);
    while ((x = readdir(d))) {
        char below[1024];
        json_t *j;
        json_t *c;
        size_t i;

        if (x->d_name[0] == '.')
            continue;
        snprintf(below, sizeof below, "%s/%s", path, x->d_name);
        if (!strstr(x->d_name, ".json")) {
            suite_folder(below, score);
            continue;
        }
        j = json_load_file(below, JSON_ALLOW_NUL, NULL);
        json_array_foreach(j, i, c)             /* NULL: numbers beyond 64 bits */
            suite_case(x->d_name, c, score);
        json_decref(j);
    }
    closedir(d);
}

static void schema_test_suite(void **state)
{
    struct score score = { 0 };

    (void)state;
    SHARED_OR_SKIP("eval/json-schema/draft2020-12/type.json");
    suite_folder(shared_path("eval/json-schema/draft2020-12"), &score);
    print_message("%u of %u schemas supported; %u of %u valid instances accepted, no invalid one\n",
                  score.n_supported, score.n_schemas, score.n_accepted, score.n_valid);
    assert_true(score.n_supported * 10 >= score.n_schemas * 9);
    assert_true(score.n_accepted * 100 >= score.n_valid * 85);
}

static void shared_grammars_parse(void **state)
{
    static const char *const files[] = { "arithmetic", "c", "chess", "english", "japanese", "json",
                                         "json_arr", "list" };

    (void)state;
    SHARED_OR_SKIP("grammars/json.gbnf");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char rel[64];
        struct file_map map;
        struct grammar *g;
        struct err e;

        snprintf(rel, sizeof rel, "grammars/%s.gbnf", files[i]);
        assert_int_equal(file_map_open(&map, shared_path(rel), &e), 0);
        if (grammar_from_gbnf(&g, (struct sv){ (const char *)map.data, map.size }, &e) < 0)
            fail_msg("%s: %s", files[i], e.msg);
        if (strcmp(files[i], "json") == 0) {
            assert_true(grammar_matches(g, SV("{\"a\": [1, 2.5e3, \"x\\n\"]}")));
            assert_false(grammar_matches(g, SV("{\"a\": [1, }")));
        }
        if (strcmp(files[i], "chess") == 0) {
            assert_true(grammar_matches(g, SV("1. e4 e5\n2. Nf3 Nc6\n")));
            assert_false(grammar_matches(g, SV("1. e9 e5\n2. Nf3 Nc6\n")));
        }
        grammar_close(g);
        file_map_close(&map);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regular_expressions),
        cmocka_unit_test(gbnf),
        cmocka_unit_test(schemas),
        cmocka_unit_test(numbers_end),
        cmocka_unit_test(lengths),
        cmocka_unit_test(counted_patterns),
        cmocka_unit_test(mail_addresses),
        cmocka_unit_test(options),
        cmocka_unit_test(tags),
        cmocka_unit_test(choices),
        cmocka_unit_test(masks_are_exact),
        cmocka_unit_test(wide_masks_are_exact),
        cmocka_unit_test(long_texts_stay_small),
        cmocka_unit_test(ambiguity_is_bounded),
        cmocka_unit_test(automata_are_bounded),
        cmocka_unit_test(forced_bytes),
        cmocka_unit_test(schema_test_suite),
        cmocka_unit_test(shared_grammars_parse),
    };

    return cmocka_run_group_tests_name("grammar", tests, NULL, NULL);
}
