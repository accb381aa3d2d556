/* Grammars of tool calls: what a model that says anything at all says under them is calls of the
 * declared tools, with arguments as their schemas want them: for every kind of format and, where the
 * shared data lies, for those of real models. And structural tags as requests send them. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "models/grammar/matcher.h"
#include "models/grammar/structural.h"
#include "models/tool_grammar.h"
#include "shared.h"
#include "tool_rig.h"

#define MAX_STEPS 3000u

static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"look\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"at\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\",\"minimum\":0,"
    "\"maximum\":99},\"on\":{\"type\":\"boolean\"},\"way\":{\"enum\":[\"up\",\"down\"]},"
    "\"code\":{\"type\":\"string\",\"pattern\":\"^[a-c </]+$\",\"minLength\":2,\"maxLength\":6},"
    "\"maybe\":{\"type\":[\"string\",\"null\"],\"maxLength\":4},"
    "\"spots\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":2,\"items\":{\"$ref\":\"#/$defs/spot\"}}},"
    "\"$defs\":{\"spot\":{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"integer\",\"minimum\":0,"
    "\"maximum\":9},\"tag\":{\"enum\":[\"p\",\"q r\"]},\"in\":{\"type\":\"array\",\"items\":{\"type\":"
    "\"boolean\"}}},\"required\":[\"x\",\"tag\"],\"additionalProperties\":false}},"
    "\"required\":[\"at\",\"n\",\"code\"]}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"halt\",\"parameters\":{}}}]";

static json_t *parse(const char *text)
{
    json_t *j = json_loads(text, 0, NULL);

    assert_non_null(j);
    return j;
}

static struct grammar *compile(const json_t *structure)
{
    struct grammar *g = NULL;
    struct err e = { 0 };

    if (grammar_from_structure(&g, structure, &e) < 0) {
        char *text = json_dumps(structure, 0);

        fail_msg("%s: %s", e.msg, text);
    }
    return g;
}

/* ---- structural tags ---- */

static void expect_match(const char *structure, const char *text, bool match, int line)
{
    json_t *j = parse(structure);
    struct grammar *g = compile(j);

    if (grammar_matches(g, sv_cstr(text)) != match)
        fail_msg("line %d: \"%s\" %s", line, text, match ? "is refused" : "is accepted");
    grammar_close(g);
    json_decref(j);
}
#define MATCH(s, text) expect_match(s, text, true, __LINE__)
#define NO_MATCH(s, text) expect_match(s, text, false, __LINE__)

static void test_structures(void **state)
{
    static const char old[] = "{\"structures\":[{\"begin\":\"<f=a>\",\"schema\":{\"type\":\"integer\"},"
        "\"end\":\"</f>\"}],\"triggers\":[\"<f=\"]}";
    static const char newer[] = "{\"type\":\"structural_tag\",\"format\":{\"type\":\"triggered_tags\","
        "\"triggers\":[\"<f=\"],\"tags\":[{\"type\":\"tag\",\"begin\":\"<f=a>\",\"content\":{\"type\":"
        "\"json_schema\",\"json_schema\":{\"type\":\"integer\"}},\"end\":\"</f>\"}],\"at_least_one\":true,"
        "\"stop_after_first\":true}}";
    static const char parts[] = "{\"type\":\"sequence\",\"elements\":[{\"type\":\"optional\",\"content\":"
        "{\"type\":\"const_string\",\"value\":\"a\"}},{\"type\":\"plus\",\"content\":{\"type\":\"regex\","
        "\"pattern\":\"[0-9]\"}},{\"type\":\"or\",\"elements\":[{\"type\":\"const_string\",\"value\":\"x\"},"
        "{\"type\":\"tag\",\"begin\":\"(\",\"content\":{\"type\":\"any_text\"},\"end\":[\")\",\"]\"]}]},"
        "{\"type\":\"star\",\"content\":{\"type\":\"const_string\",\"value\":\"!\"}}]}";
    static const char separated[] = "{\"type\":\"tags_with_separator\",\"separator\":\", \",\"tags\":["
        "{\"begin\":\"<\",\"content\":{\"type\":\"any_text\",\"excludes\":[\"q\"]},\"end\":\">\",\"type\":"
        "\"tag\"}]}";
    static const char members[] = "{\"type\":\"members\",\"open\":\"(\",\"close\":\")\",\"separator\":\",\","
        "\"items\":[{\"required\":true,\"content\":{\"type\":\"const_string\",\"value\":\"a\"}},{\"content\":"
        "{\"type\":\"const_string\",\"value\":\"b\"}},{\"content\":{\"type\":\"const_string\",\"value\":"
        "\"c\"}}]}";

    static const char raw[] = "{\"type\":\"tag\",\"begin\":\"\",\"content\":{\"type\":\"raw_text\","
        "\"json_schema\":{\"pattern\":\"^[^x]*$\",\"minLength\":2,\"maxLength\":8},\"trimmed\":true,"
        "\"excludes\":[\"</c>\"]},\"end\":\"</c>\"}";
    static const char mixed[] = "{\"type\":\"or\",\"elements\":[{\"type\":\"raw_text\",\"no_literals\":true,"
        "\"json_schema\":{\"type\":[\"string\",\"null\"],\"maxLength\":4}},"
        "{\"type\":\"json_schema\",\"json_schema\":{\"type\":\"null\"}}]}";

    (void)state;
    MATCH(old, "free <f text");
    MATCH(old, "one <f=a>12</f> two <f=a>-3</f>");
    NO_MATCH(old, "one <f=b>12</f>");
    NO_MATCH(old, "one <f=a>x</f>");
    NO_MATCH(newer, "none");
    MATCH(newer, "x<f=a>1</f>");
    NO_MATCH(newer, "x<f=a>1</f>y");
    MATCH(parts, "a12x");
    MATCH(parts, "7(any thing)!!");
    MATCH(parts, "7(any]");
    NO_MATCH(parts, "7(a)b)");
    NO_MATCH(parts, "ax");
    MATCH(separated, "");
    MATCH(separated, "<a>, <b>");
    NO_MATCH(separated, "<a> <b>");
    NO_MATCH(separated, "<q>");
    MATCH(members, "(a)");
    MATCH(members, "(a,b,c)");
    MATCH(members, "(a,c)");
    NO_MATCH(members, "(b)");
    NO_MATCH(members, "(a,)");
    NO_MATCH(members, "(c,a)");
    MATCH(raw, "ab</c>");
    MATCH(raw, "a b c</c>");
    NO_MATCH(raw, "a</c>");
    NO_MATCH(raw, "ab </c>");
    NO_MATCH(raw, "a</c>b</c>");
    NO_MATCH(raw, "abcabcabc</c>");
    MATCH(mixed, "a1");
    MATCH(mixed, "null");
    MATCH(mixed, "nul");
    MATCH(mixed, "-zz");
    NO_MATCH(mixed, "12");
    NO_MATCH(mixed, "None");
    NO_MATCH(mixed, "[1]");
    NO_MATCH(mixed, "abcde");
}

static void expect_refused(const char *structure, const char *part)
{
    json_t *j = parse(structure);
    struct grammar *g = NULL;
    struct err e = { 0 };

    assert_true(grammar_from_structure(&g, j, &e) < 0);
    if (!strstr(e.msg, part))
        fail_msg("\"%s\" lacks \"%s\"", e.msg, part);
    json_decref(j);
}

static void test_structures_refused(void **state)
{
    (void)state;
    expect_refused("{\"type\":\"magic\"}", "magic");
    expect_refused("{}", "type");
    expect_refused("{\"type\":\"sequence\"}", "elements");
    expect_refused("{\"type\":\"const_string\"}", "value");
    expect_refused("{\"type\":\"const_string\",\"value\":3}", "value");
    expect_refused("{\"type\":\"regex\",\"pattern\":\"(\"}", "regex");
    expect_refused("{\"type\":\"json_schema\",\"json_schema\":{\"$ref\":\"http://x/y\"}}", "$ref");
    expect_refused("{\"type\":\"triggered_tags\",\"triggers\":[\"<a\"],\"tags\":[{\"begin\":\"<b\","
                   "\"content\":{\"type\":\"any_text\"},\"end\":\">\"}]}", "trigger");
    expect_refused("{\"type\":\"triggered_tags\",\"triggers\":[],\"tags\":[]}", "triggers");
    expect_refused("{\"type\":\"raw_text\"}", "json_schema");
    expect_refused("{\"type\":\"raw_text\",\"json_schema\":{\"type\":\"null\"}}", "string");
    expect_refused("{\"type\":\"raw_text\",\"json_schema\":{\"pattern\":\"(?=a)\"}}", "pattern");
}

/* ---- a model that says anything ---- */

/* Its vocabulary: single characters, and what the format is written with. */
struct babble {
    struct sv          texts[256];
    uint32_t           n;
    struct token_trie *trie;
};

static void add_word(struct babble *b, struct sv s)
{
    for (uint32_t i = 0; i < b->n; i++)
        if (sv_eq(b->texts[i], s))
            return;
    if (s.len > 0 && b->n < 255)
        b->texts[b->n++] = s;
}

static void open_babble(struct babble *b, const struct tool_format *f)
{
    static char chars[128];
    const char *const strings[] = { f->section_open, f->section_close, f->call_open, f->call_close,
        f->sep, f->param_open, f->key_end, f->key_end_other, f->value_end, f->quote,
        f->message_open, f->channel_end, f->channel_next, "look", "halt", "\"}", "}}", "at", "null",
        "up", "\", \"" };
    struct err e = { 0 };

    b->n = 1;
    b->texts[0] = (struct sv){ "", 0 };         /* the end */
    for (char c = ' '; c < 127; c++)
        chars[(int)c] = c;
    for (char c = ' '; c < 127; c++)
        add_word(b, (struct sv){ &chars[(int)c], 1 });
    add_word(b, SV("\n"));
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        add_word(b, sv_cstr(strings[i]));
    for (size_t i = 0; i < f->n_head; i++)
        if (f->head[i].kind == TOOL_LITERAL)
            add_word(b, sv_cstr(f->head[i].text));
    for (uint32_t i = 1; i < b->n; i++)         /* bytes of other letters in them */
        for (size_t k = 0; b->texts[i].len > 1 && k < b->texts[i].len; k++)
            if ((unsigned char)b->texts[i].data[k] >= 0x80)
                add_word(b, (struct sv){ b->texts[i].data + k, 1 });
    assert_int_equal(token_trie_from(&b->trie, b->texts, b->n, 0, &e), 0);
}

/* A text of the grammar; false: it did not end in time. */
static bool say(const struct babble *b, struct grammar *g, uint64_t seed, struct str *out)
{
    struct grammar_masks *masks;
    struct matcher *m;
    struct rng r;
    struct err e = { 0 };
    uint64_t bits[4];
    bool over = false;

    rng_init(&r, seed);
    assert_int_equal(grammar_masks_open(&masks, g, b->trie, &e), 0);
    assert_int_equal(matcher_open(&m, masks, &e), 0);
    for (unsigned i = 0; i < MAX_STEPS && !over; i++) {
        uint32_t n = 0, pick;
        int32_t id = -1;

        if (matcher_mask(m, bits, &e) < 0)
            fail_msg("%s behind \"%s\"", e.msg, str_cstr(out));
        for (uint32_t k = 0; k < b->n; k++)
            n += bits[k / 64] >> k % 64 & 1;
        assert_true(n > 0);
        pick = rng_below(&r, n);
        /* where it may end, it often does; where a word of the format may come, too */
        if ((bits[0] & 1) && rng_below(&r, 3) == 0)
            pick = 0;
        else if (rng_below(&r, 3) == 0)
            pick = n - 1;
        for (uint32_t k = 0; k < b->n; k++)
            if ((bits[k / 64] >> k % 64 & 1) && pick-- == 0)
                id = (int32_t)k;
        assert_true(id >= 0);
        assert_int_equal(matcher_accept(m, id, &e), 0);
        if (id == 0)
            over = true;
        else
            str_append(out, b->texts[id].data, b->texts[id].len);
    }
    matcher_close(m);
    grammar_masks_close(masks);
    return over;
}

static size_t characters(const char *s)
{
    size_t n = 0;

    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static bool spots_fit(const json_t *spots)
{
    const json_t *spot, *v;
    size_t i, k;

    if (!spots)
        return true;
    json_array_foreach((json_t *)(uintptr_t)spots, i, spot) {
        const char *tag = json_string_value(json_object_get(spot, "tag"));
        const json_t *x = json_object_get(spot, "x"), *in = json_object_get(spot, "in");

        if (!json_is_integer(x) || json_integer_value(x) < 0 || json_integer_value(x) > 9 || !tag ||
            (strcmp(tag, "p") != 0 && strcmp(tag, "q r") != 0) || (in && !json_is_array(in)) ||
            json_object_size(spot) != 2 + (in != NULL))
            return false;
        json_array_foreach((json_t *)(uintptr_t)in, k, v)
            if (!json_is_boolean(v))
                return false;
    }
    return json_is_array(spots) && json_array_size(spots) >= 1 && json_array_size(spots) <= 2;
}

static void check_arguments(const char *what, const struct rig_call *c, const char *text)
{
    json_t *args = json_loadb(str_cstr(&c->args), c->args.len, 0, NULL);
    const json_t *at = json_object_get(args, "at"), *n = json_object_get(args, "n");
    const char *way = json_string_value(json_object_get(args, "way"));
    const char *code = json_string_value(json_object_get(args, "code"));
    const json_t *maybe = json_object_get(args, "maybe");

    if (!c->complete || !json_is_object(args))
        fail_msg("%s: arguments %s of \"%s\"", what, str_cstr(&c->args), text);
    if (strcmp(c->name, "halt") == 0) {
        assert_int_equal(json_object_size(args), 0);
    } else {
        if (strcmp(c->name, "look") != 0)
            fail_msg("%s: a call of %s in \"%s\"", what, c->name, text);
        if (!json_is_string(at) || !json_is_number(n) || !(json_number_value(n) >= 0) ||
            json_number_value(n) > 99 ||
            (way && strcmp(way, "up") != 0 && strcmp(way, "down") != 0) || !code ||
            strlen(code) < 2 || strlen(code) > 6 || strspn(code, "abc </") != strlen(code) ||
            !spots_fit(json_object_get(args, "spots")) ||
            (maybe && !json_is_null(maybe) &&
             !(json_is_string(maybe) && characters(json_string_value(maybe)) <= 4)))
            fail_msg("%s: arguments %s of \"%s\"", what, str_cstr(&c->args), text);
    }
    json_decref(args);
}

/* Says things under a grammar; returns how many calls there were. */
static unsigned babble(const char *what, const struct tool_format *f, const json_t *tools,
                       const struct tool_wish *w, unsigned n_texts, struct babble *b)
{
    json_t *structure = NULL;
    struct err e = { 0 };
    struct grammar *g;
    unsigned n_calls = 0, n_over = 0;

    if (tool_grammar(&structure, f, w, &e) < 0)
        fail_msg("%s: %s", what, e.msg);
    if (!structure)
        return 0;
    g = compile(structure);
    for (unsigned i = 0; i < n_texts; i++) {
        struct str text;
        struct rig r;

        str_init(&text, 0);
        if (say(b, g, i + 1, &text)) {
            n_over++;
            rig_parse(&r, f, tools, sv_of(&text), text.len ? text.len : 1);
            if (w->demand == TOOL_MUST && (r.n_calls == 0 || r.content.len > 0))
                fail_msg("%s: %u calls, content \"%s\" of \"%s\"", what, r.n_calls,
                         str_cstr(&r.content), str_cstr(&text));
            if (r.n_calls > 1)
                assert_true(w->parallel && !w->only && f->parallel);
            for (uint32_t k = 0; k < r.n_calls; k++) {
                check_arguments(what, &r.calls[k], str_cstr(&text));
                if (w->only)
                    assert_string_equal(r.calls[k].name, w->only);
            }
            n_calls += r.n_calls;
            rig_deinit(&r);
        }
        str_deinit(&text);
    }
    if (n_over == 0)
        fail_msg("%s: no text came to an end", what);
    grammar_close(g);
    json_decref(structure);
    return n_calls;
}

static void babble_all(const char *what, const struct tool_format *f)
{
    json_t *tools = parse(tools_text);
    struct tool_wish w = { .tools = tools, .demand = TOOL_MUST };
    struct babble b;

    open_babble(&b, f);
    assert_true(babble(what, f, tools, &w, 6, &b) > 0);
    w.only = "halt";
    assert_true(babble(what, f, tools, &w, 2, &b) > 0);
    w.only = "look";
    assert_true(babble(what, f, tools, &w, 4, &b) > 0);
    w.only = NULL;
    w.demand = TOOL_MAY;
    (void)babble(what, f, tools, &w, 4, &b);
    token_trie_close(b.trie);
    json_decref(tools);
}

static void with_template(const char *name, const char *source, size_t n)
{
    struct template *t;
    struct tool_format *f;
    struct err e = { 0 };

    assert_int_equal(template_open(&t, source, n, "t", &e), 0);
    assert_int_equal(tool_format_open(&f, t, SV("<s>"), SV("</s>"), &e), 0);
    if (f->shape != TOOL_NONE)
        babble_all(name, f);
    tool_format_close(f);
    template_close(t);
}

#define HEAD "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls or [] %}"
#define TAIL "{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"

/* Keys without quotes, strings between marks. */
#define BARE_VALUE "{% macro value(v) %}{% if v is string %}<q>{{ v }}<q>{% elif v is boolean %}{{ 'true' if v else " \
    "'false' }}{% elif v is mapping %}{{ '{' }}{% for k, x in v | dictsort %}{{ ',' if not loop.first }}{{ k }}:" \
    "{{ value(x) }}{% endfor %}{{ '}' }}{% elif v is sequence %}[{% for x in v %}{{ ',' if not loop.first }}" \
    "{{ value(x) }}{% endfor %}]{% else %}{{ v }}{% endif %}{% endmacro %}"

static void test_own(void **state)
{
    static const char *const sources[] = {
        HEAD "<call>{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}</call>"
            TAIL,
        HEAD "<f={{ c.function.name }}>{{ c.function.arguments | tojson }}</f>" TAIL,
        HEAD "[C]{{ c.function.name }}[I]{{ c.id }}[A]{{ c.function.arguments | tojson }}" TAIL,
        HEAD "<call>\n<f={{ c.function.name }}>\n{% for k, v in c.function.arguments | items %}"
            "<p={{ k }}>\n{{ v }}\n</p>\n{% endfor %}</f>\n</call>" TAIL,
        HEAD "<code>{{ c.function.name }}({% for k, v in c.function.arguments | items %}{{ k }}="
            "{{ v | tojson }}{{ ', ' if not loop.last }}{% endfor %})</code>" TAIL,
        BARE_VALUE HEAD "<call>call:{{ c.function.name }}{{ '{' }}{% for k, v in c.function.arguments | dictsort %}"
            "{{ ',' if not loop.first }}{{ k }}:{{ value(v) }}{% endfor %}{{ '}' }}<call|>" TAIL,
    };
    char name[16];

    (void)state;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        (void)snprintf(name, sizeof name, "template %zu", i);
        with_template(name, sources[i], strlen(sources[i]));
    }
}

static void test_real(void **state)
{
    struct dirent *d;
    DIR *dir;

    (void)state;
    SHARED_OR_SKIP("templates");
    dir = opendir(shared_path("templates"));
    assert_non_null(dir);
    while ((d = readdir(dir))) {
        const char *dot = strrchr(d->d_name, '.');
        char path[512], *source;
        struct err e = { 0 };
        size_t n;

        if (!dot || strcmp(dot, ".jinja") != 0)
            continue;
        (void)snprintf(path, sizeof path, "templates/%.256s", d->d_name);
        assert_int_equal(file_read(shared_path(path), TEMPLATE_SOURCE_MAX, &source, &n, &e), 0);
        with_template(d->d_name, source, n);
        mem_free(source);
    }
    (void)closedir(dir);
}

/* ---- lists and objects under bare keys ---- */

/* The grammar of a demanded call of f(x), whose x is of this schema; NULL with why. */
static struct grammar *bare_grammar(const struct tool_format *f, const char *schema, struct err *why)
{
    json_t *tools = json_pack("[{s:{s:s,s:{s:s,s:{s:o},s:[s],s:{s:{s:s,s:{s:{s:s,s:{s:s}}}}}}}}]", "function",
        "name", "f", "parameters", "type", "object", "properties", "x", parse(schema), "required", "x",
        "$defs", "tree", "type", "object", "properties", "kids", "type", "array", "items", "$ref",
        "#/$defs/tree");
    struct tool_wish w = { .tools = tools, .demand = TOOL_MUST };
    json_t *structure = NULL;
    struct grammar *g = NULL;

    assert_non_null(tools);
    if (tool_grammar(&structure, f, &w, why) == 0)
        g = compile(structure);
    json_decref(structure);
    json_decref(tools);
    return g;
}

static void test_bare_keys(void **state)
{
    static const char source[] = BARE_VALUE HEAD "<call>call:{{ c.function.name }}{{ '{' }}"
        "{% for k, v in c.function.arguments | dictsort %}{{ ',' if not loop.first }}{{ k }}:{{ value(v) }}"
        "{% endfor %}{{ '}' }}<call|>" TAIL;
    static const struct { const char *schema; const char *good[4], *bad[4]; } cases[] = {
        { "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}",
          { "[]", "[<q>a, b]<q>]", "[<q>a<q>,<q><q>]" }, { "[a]", "[\"a\"]", "[<q>a<q>,]", "<q>a<q>" } },
        { "{\"type\":\"array\",\"minItems\":2,\"items\":{\"type\":\"integer\"}}",
          { "[1,2]", "[1,2,3]" }, { "[1]", "[]", "[1.5,2]" } },
        { "{\"type\":\"array\",\"minItems\":1,\"maxItems\":2}",
          { "[1]", "[<q>a<q>,null]", "[true]" }, { "[]", "[1,2,3]", "[[1]]" } },
        { "{\"type\":\"object\",\"properties\":{\"b\":{\"type\":\"number\"},\"a c\":{\"enum\":[\"u\",\"v\"]}},"
          "\"required\":[\"b\"]}",
          { "{b:1}", "{<q>a c<q>:<q>u<q>,b:2.5}" }, { "{}", "{<q>a c<q>:<q>u<q>}", "{b:1,c:2}", "{b:<q>1<q>}" } },
        { "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}}",
          { "{}", "{k:[1],l:[]}" }, { "{k:1}", "{1k:[]}" } },
        { "{\"type\":\"object\"}", { "{}", "{k:1,l:<q>x<q>}" }, { "{k:{}}", "{k}" } },
        { "{\"anyOf\":[{\"type\":\"array\",\"items\":{\"type\":\"boolean\"}},{\"type\":\"null\"}]}",
          { "null", "[true,false]" }, { "true", "{}" } },
        { "{\"type\":[\"array\",\"string\"],\"items\":{\"const\":3}}", { "[3,3]", "<q>3<q>" }, { "3", "[4]" } },
        { "{\"properties\":{\"p\":{\"properties\":{\"q\":{\"type\":\"string\",\"maxLength\":2}},\"required\":[\"q\"]}},"
          "\"required\":[\"p\"]}", { "{p:{q:<q>ab<q>}}" }, { "{p:{q:<q>abc<q>}}", "{p:{}}" } },
    };
    static const struct { const char *schema, *why; } refused[] = {
        { "{\"$ref\":\"#/$defs/tree\"}", "nesting" },
        { "{\"type\":\"array\",\"uniqueItems\":true}", "uniqueItems" },
        { "{\"type\":\"array\",\"maxItems\":65}", "maxItems" },
        { "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}},\"minProperties\":2}", "minProperties" },
        { "{\"type\":\"object\",\"properties\":{\"<q>\":{}}}", "key" },
        { "{\"type\":\"array\",\"items\":{\"enum\":[[1]]}}", "enum" },
    };
    struct template *t;
    struct tool_format *f;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(template_open(&t, source, strlen(source), "t", &e), 0);
    assert_int_equal(tool_format_open(&f, t, SV("<s>"), SV("</s>"), &e), 0);
    assert_int_equal(f->args, TOOL_ARGS_LOOSE);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct grammar *g = bare_grammar(f, cases[i].schema, &e);
        char text[256];

        if (!g)
            fail_msg("%s: %s", cases[i].schema, e.msg);
        for (size_t k = 0; k < 8; k++) {
            const char *value = k < 4 ? cases[i].good[k] : cases[i].bad[k - 4];

            if (!value)
                continue;
            (void)snprintf(text, sizeof text, "<call>call:f{x:%s}<call|>", value);
            if (grammar_matches(g, sv_cstr(text)) != (k < 4))
                fail_msg("%s: %s", cases[i].schema, text);
        }
        grammar_close(g);
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct grammar *g = bare_grammar(f, refused[i].schema, &e);

        if (g || !strstr(e.msg, refused[i].why) || !strstr(e.msg, "x: "))
            fail_msg("%s: %s", refused[i].schema, g ? "is taken" : e.msg);
    }
    tool_format_close(f);
    template_close(t);
}

/* ---- refusals ---- */

static void test_refused(void **state)
{
    static const char hermes[] = HEAD "<call>{{ {'name': c.function.name, 'arguments': "
        "c.function.arguments} | tojson }}</call>" TAIL;
    static const char tagged[] = HEAD "<f={{ c.function.name }}>{% for k, v in c.function.arguments | "
        "items %}<p={{ k }}>{{ v }}</p>{% endfor %}</f>" TAIL;
    static const char *const sources[] = { hermes, tagged };
    json_t *bad = parse("[{\"function\":{\"name\":\"a\",\"parameters\":{\"type\":\"object\","
                        "\"properties\":{\"x\":{\"type\":\"string\",\"pattern\":\"(?=a)\"}}}}}]");
    json_t *strict = json_deep_copy(bad);

    (void)state;
    (void)json_object_set_new(json_object_get(json_array_get(strict, 0), "function"), "strict",
                              json_true());
    for (size_t i = 0; i < 2; i++) {
        struct template *t;
        struct tool_format *f;
        struct err e = { 0 };
        json_t *out = NULL;
        struct tool_wish w = { .tools = bad, .demand = TOOL_MUST };

        assert_int_equal(template_open(&t, sources[i], strlen(sources[i]), "t", &e), 0);
        assert_int_equal(tool_format_open(&f, t, SV("<s>"), SV("</s>"), &e), 0);
        assert_true(tool_grammar(&out, f, &w, &e) < 0);
        assert_non_null(strstr(e.msg, "pattern"));
        w.demand = TOOL_MAY;
        w.tools = strict;
        assert_true(tool_grammar(&out, f, &w, &e) < 0);
        assert_non_null(strstr(e.msg, "pattern"));
        w.tools = bad;                          /* not strict: any object will do */
        assert_int_equal(tool_grammar(&out, f, &w, &e), 0);
        assert_non_null(out);
        json_decref(out);
        w.only = "b";
        w.demand = TOOL_MUST;
        assert_int_equal(tool_grammar(&out, f, &w, &e), WATT_EINVAL);
        assert_non_null(strstr(e.msg, "b"));
        tool_format_close(f);
        template_close(t);
    }
    json_decref(bad);
    json_decref(strict);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structures),
        cmocka_unit_test(test_structures_refused),
        cmocka_unit_test(test_own),
        cmocka_unit_test(test_real),
        cmocka_unit_test(test_bare_keys),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
