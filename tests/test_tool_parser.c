/* The parser of tool calls: content, calls and pieces of arguments, whole and byte by byte; calls
 * that are cut, malformed or none; JSON as it is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/fault.h"
#include "models/json_scan.h"
#include "models/tool_args.h"
#include "models/tool_parser.h"
#include "tool_rig.h"

#define HEAD "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls or [] %}"
#define TAIL "{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"

static const char hermes[] = HEAD "{% set f = c.function %}\n<tool_call>\n{\"name\": \"{{ f.name }}\", "
    "\"arguments\": {{ f.arguments | tojson }}}\n</tool_call>" TAIL;
static const char bare[] = HEAD "{\"name\": \"{{ c.function.name }}\", \"parameters\": "
    "{{ c.function.arguments | tojson }}}" TAIL;
static const char named[] = HEAD "<f={{ c.function.name }}>{{ c.function.arguments | tojson }}</f>" TAIL;
static const char tagged[] = HEAD "<call>\n<f={{ c.function.name }}>\n{% for k, v in "
    "c.function.arguments | items %}<p={{ k }}>\n{{ v }}\n</p>\n{% endfor %}</f>\n</call>" TAIL;
static const char python[] =
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if m.tool_calls %}<code>["
    "{% for c in m.tool_calls %}{{ c.function.name }}({% for k, v in c.function.arguments | items %}"
    "{{ k }}={{ v | tojson }}{{ ', ' if not loop.last }}{% endfor %}){{ ', ' if not loop.last }}"
    "{% endfor %}]</code>{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}";
static const char channels[] =
    "{% for m in messages %}{% if m.role == 'user' %}<|start|>user<|message|>{{ m.content }}<|end|>"
    "{% elif m.tool_calls %}<|start|>assistant to=fn.{{ m.tool_calls[0].function.name }}<|channel|>"
    "comment json<|message|>{{ m.tool_calls[0].function.arguments | tojson }}<|call|>{% else %}"
    "{% if m.thinking is defined %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}"
    "<|end|>{% endif %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|return|>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}";

static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"look\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"at\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"},"
    "\"any\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]},"
    "\"ref\":{\"$ref\":\"#/$defs/s\"}},\"$defs\":{\"s\":{\"enum\":[\"1\",\"2\"]}}}}}]";

struct fixture {
    struct template    *t;
    struct tool_format *f;
    json_t             *tools;
};

static void open_format(struct fixture *x, const char *source)
{
    struct err e = { 0 };

    assert_int_equal(template_open(&x->t, source, strlen(source), "t", &e), 0);
    assert_int_equal(tool_format_open(&x->f, x->t, SV("<s>"), SV("</s>"), &e), 0);
    x->tools = json_loads(tools_text, 0, NULL);
    assert_non_null(x->tools);
}

static void close_format(struct fixture *x)
{
    json_decref(x->tools);
    tool_format_close(x->f);
    template_close(x->t);
}

/* What came, in one line: content as it is, calls as {name args} or {name args!} when not
 * complete, reasoning as (…). */
static void write_down(const struct rig *r, struct str *out)
{
    if (r->reasoning.len)
        str_printf(out, "(%s)", str_cstr(&r->reasoning));
    str_puts(out, str_cstr(&r->content));
    for (uint32_t i = 0; i < r->n_calls; i++)
        str_printf(out, "{%s %s%s}", r->calls[i].name, str_cstr(&r->calls[i].args),
                   r->calls[i].complete ? "" : "!");
}

static void expect(const char *source, const char *text, const char *want, int line)
{
    struct fixture x;

    open_format(&x, source);
    for (size_t n = 1; n <= 64; n *= 4) {
        struct rig r;
        struct str got;

        str_init(&got, 0);
        rig_parse(&r, x.f, x.tools, sv_cstr(text), n);
        write_down(&r, &got);
        if (strcmp(str_cstr(&got), want) != 0)
            fail_msg("line %d, by %zu: \"%s\", not \"%s\"", line, n, str_cstr(&got), want);
        str_deinit(&got);
        rig_deinit(&r);
    }
    close_format(&x);
}
#define EXPECT(source, text, want) expect(source, text, want, __LINE__)

#define CALL(args) "<tool_call>\n{\"name\": \"look\", \"arguments\": " args "}\n</tool_call>"

static void test_envelopes(void **state)
{
    (void)state;
    EXPECT(hermes, "Hello < world.\n ", "Hello < world.\n ");
    EXPECT(hermes, "Hi.\n" CALL("{\"at\": \"x\"}"), "Hi.{look {\"at\": \"x\"}}");
    EXPECT(hermes, CALL("{\"a\": [1, {\"b\": -1.5e3}]}") "\n" CALL("{}") "\nDone.",
           "Done.{look {\"a\": [1, {\"b\": -1.5e3}]}}{look {}}");
    /* other white space, other members, another order, no arguments, arguments as text */
    EXPECT(hermes, "<tool_call>{\"id\":\"7\",\"arguments\":{\"at\":\"}\\\"\"},\"name\":\"look\"}"
           "</tool_call>", "{look {\"at\":\"}\\\"\"}}");
    EXPECT(hermes, "<tool_call>\n{\"name\": \"look\"}\n</tool_call>", "{look {}}");
    EXPECT(hermes, "<tool_call>\n{\"name\": \"look\", \"arguments\": \"{\\\"n\\\": 1}\"}\n</tool_call>",
           "{look {\"n\": 1}}");
    EXPECT(hermes, "<tool_call>[{\"name\": \"look\", \"arguments\": {}}, {\"name\": \"b\", "
           "\"arguments\": {\"x\": 1}}]</tool_call> x", "x{look {}}{b {\"x\": 1}}");
    /* the end is missing */
    EXPECT(hermes, "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"x\"}}",
           "{look {\"at\": \"x\"}}");
}

static void test_no_calls(void **state)
{
    (void)state;
    EXPECT(hermes, "The tag <tool_call> is for calls.", "The tag <tool_call> is for calls.");
    EXPECT(hermes, "<tool_call>\n{\"x\": 1}\n</tool_call>", "<tool_call>\n{\"x\": 1}\n</tool_call>");
    EXPECT(hermes, "<tool_call> " CALL("{}"), "<tool_call> {look {}}");
    EXPECT(hermes, "<tool_call>\n{\"name\": \"a\\u0000\"}\n</tool_call>",
           "<tool_call>\n{\"name\": \"a\\u0000\"}\n</tool_call>");
    EXPECT(named, "a <f b> <f=> <f=x\ny>{} c", "a <f b> <f=> <f=x\ny>{} c");
    EXPECT(bare, "{\"name\": \"Bob\", \"parameters\": {}} is an object",
           "{\"name\": \"Bob\", \"parameters\": {}} is an object");
    EXPECT(bare, " {\"name\": \"look\", \"parameters\": {\"at\": \"x\"}}",
           "{look {\"at\": \"x\"}}");
    EXPECT(bare, "See {\"name\": \"look\", \"parameters\": {}}",
           "See {\"name\": \"look\", \"parameters\": {}}");
}

static void test_cut(void **state)
{
    (void)state;
    EXPECT(hermes, "Hi <tool_ca", "Hi <tool_ca");
    EXPECT(hermes, "Hi <tool_call>\n{\"name\": \"lo", "Hi");
    EXPECT(hermes, "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"Par",
           "{look {\"at\": \"Par!}");
    EXPECT(tagged, "<call>\n<f=look>\n<p=at>\nParis, ", "{look {\"at\": \"Paris,!}");
    EXPECT(tagged, "<call>\n<f=look>\n<p=n>\n4", "{look {!}");
    EXPECT(python, "<code>[look(at='x', n=", "{look !}");
}

static void test_broken(void **state)
{
    (void)state;
    EXPECT(named, "<f=look>{\"at\": oops}</f> after", "after{look {\"at\": oops}!}");
    EXPECT(named, "<f=look>oops</f>", "{look oops!}");
    EXPECT(named, "<f=look></f>", "{look {}}");
    EXPECT(tagged, "<call>\n<f=look>\noops</f>\n</call>", "oops</f>\n</call>{look {}!}");
    EXPECT(python, "<code>[look(1, 2)]</code>", "{look (1, 2)!}");
}

static void test_tagged(void **state)
{
    (void)state;
    EXPECT(tagged, "<call>\n<f=look>\n<p=at>\n12\n</p>\n<p=n>\n12\n</p>\n<p=any>\nnull\n</p>\n"
           "<p=ref>\n2\n</p>\n<p=more>\n[1, 'x']\n</p>\n<p=text>\nit's\n</p>\n</f>\n</call>",
           "{look {\"at\": \"12\", \"n\": 12, \"any\": null, \"ref\": \"2\", \"more\": [1, \"x\"], "
           "\"text\": \"it's\"}}");
    EXPECT(tagged, "<call><f=look><p=at>\n\n  a < b </p \xC3\xA9\n\n</p></f></call>",
           "{look {\"at\": \"\\n  a < b </p \xC3\xA9\\n\"}}");
    EXPECT(tagged, "x\n<call>\n<f=look>\n</f>\n</call>\n<call>\n<f=b>\n<p=n>\n1\n</p>\n</f>\n</call>",
           "x{look {}}{b {\"n\": 1}}");
}

/* A long string comes while it is written. */
static void test_tagged_streams(void **state)
{
    struct tool_parser *p = NULL;
    struct fixture x;
    struct rig r;
    struct err e = { 0 };

    (void)state;
    open_format(&x, tagged);
    rig_init(&r);
    assert_int_equal(tool_parser_open(&p, x.f, x.tools, &rig_sink, &r, &e), 0);
    tool_parser_push(p, SV("<call>\n<f=look>\n<p=at>\nfirst line\nsecond"));
    assert_int_equal(r.n_calls, 1);
    assert_string_equal(str_cstr(&r.calls[0].args), "{\"at\": \"first line\\nsecond");
    tool_parser_push(p, SV(" and \"third\"\n</p"));
    assert_string_equal(str_cstr(&r.calls[0].args),
                        "{\"at\": \"first line\\nsecond and \\\"third\\\"");
    tool_parser_push(p, SV(">\n</f>\n</call>"));
    assert_string_equal(str_cstr(&r.calls[0].args),
                        "{\"at\": \"first line\\nsecond and \\\"third\\\"\"}");
    assert_true(r.calls[0].complete);
    tool_parser_close(p);
    rig_deinit(&r);
    close_format(&x);
}

static void test_python(void **state)
{
    (void)state;
    EXPECT(python, "Hm <code>[look(at='it\\'s (1)', n=-1_000, any=None), b()]</code>",
           "Hm{look {\"at\": \"it's (1)\", \"n\": -1000, \"any\": null}}{b {}}");
    EXPECT(python, "<code>[look(at=\"a\", x={'k': [True, .5, (1, 2,)]},)]</code>",
           "{look {\"at\": \"a\", \"x\": {\"k\": [true, 0.5, [1, 2]]}}}");
}

static void test_channels(void **state)
{
    struct fixture x;

    (void)state;
    open_format(&x, channels);
    assert_int_equal(x.f->shape, TOOL_CHANNELS);
    close_format(&x);
    EXPECT(channels, "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final"
           "<|message|>Yes.", "(Hm.)Yes.");
    EXPECT(channels, "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>comment "
           "to=fn.look json<|message|>{\"at\": \"x\"}", "(Hm.){look {\"at\": \"x\"}}");
    EXPECT(channels, " to=fn.look<|channel|>comment json<|message|>{\"n\": 1}<|call|>",
           "{look {\"n\": 1}}");
    EXPECT(channels, "Just text.", "Just text.");
}

/* ---- parts ---- */

static void test_scan(void **state)
{
    static const struct { const char *text; bool ok; } cases[] = {
        { "{}", true }, { "[]", true }, { "{\"a\": [1, 2.5e-3, -0, \"\\u00e9\\n\"], \"b\": null}", true },
        { "[true,false , null]", true }, { "{\"a\":{\"b\":{}}}", true }, { "[0]", true },
        { "[01]", false }, { "[1.]", false }, { "[+1]", false }, { "{a: 1}", false },
        { "{\"a\" 1}", false }, { "[1,]", false }, { "{\"a\":1,}", false }, { "[nul]", false },
        { "[\"\\x\"]", false }, { "[\"\n\"]", false }, { "[}", false }, { "{\"a\":1]", false },
        { "[\"\\u12g4\"]", false }, { "[-]", false }, { "[1e]", false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json_scan s;
        unsigned flags = 0;
        size_t k = 0;

        json_scan_init(&s);
        for (; cases[i].text[k] && !(flags & (JSON_SCAN_BAD | JSON_SCAN_DONE)); k++)
            flags = json_scan_push(&s, (unsigned char)cases[i].text[k]);
        if (cases[i].ok != ((flags & JSON_SCAN_DONE) && !cases[i].text[k]))
            fail_msg("%s", cases[i].text);
    }
}

static void test_scan_depth(void **state)
{
    struct json_scan s;

    (void)state;
    json_scan_init(&s);
    for (uint32_t i = 0; i < JSON_SCAN_MAX_DEPTH; i++)
        assert_false(json_scan_push(&s, '[') & JSON_SCAN_BAD);
    assert_true(json_scan_push(&s, '[') & JSON_SCAN_BAD);
    for (uint32_t i = 0; i < JSON_SCAN_MAX_DEPTH; i++)
        assert_false(json_scan_push(&s, ']') & JSON_SCAN_BAD);
}

static void expect_object(const char *text, const char *quote, const char *want)
{
    struct str out;

    str_init(&out, 0);
    assert_int_equal(tool_put_object(&out, sv_cstr(text), quote), want != NULL);
    assert_string_equal(str_cstr(&out), want ? want : "");
    str_deinit(&out);
}

static void test_objects(void **state)
{
    char deep[400];

    (void)state;
    expect_object("{a:<q>x \"y\"<q>,b:[1,<q><q>],c:{d:true}}", "<q>",
                  "{\"a\": \"x \\\"y\\\"\", \"b\": [1, \"\"], \"c\": {\"d\": true}}");
    expect_object("{'a': 1, \"b-c\": 'x\\u00e9\\ud83d\\ude80'}", NULL,
                  "{\"a\": 1, \"b-c\": \"x\xC3\xA9\xF0\x9F\x9A\x80\"}");
    expect_object("{}", NULL, "{}");
    expect_object("{a:1", NULL, NULL);
    expect_object("{a:1} x", NULL, NULL);
    expect_object("{a:b}", NULL, NULL);
    expect_object("{a:'x}", NULL, NULL);
    expect_object("{a:--1}", NULL, NULL);
    memcpy(deep, "{a:", 3);
    memset(deep + 3, '[', 300);
    deep[303] = '\0';
    expect_object(deep, NULL, NULL);
}

/* Whatever stands in an answer, no byte of it is lost without a call. */
static void test_random(void **state)
{
    static const char *const pieces[] = { "<tool_call>", "</tool_call>", "\n", "{\"name\": \"look\"",
        ", \"arguments\": ", "{\"at\": \"x\"}", "}", "text ", "\"", "<f=", "look>", "</f>", "<p=at>",
        "</p>", "<call>", "[", "]", "<code>[", "look(", ")", "&#34;", " to=fn.", "<|channel|>",
        "<|message|>", "<|end|>" };
    static const char *const sources[] = { hermes, bare, named, tagged, python, channels };
    uint32_t seed = 1;

    (void)state;
    for (size_t k = 0; k < sizeof sources / sizeof *sources; k++) {
        struct fixture x;

        open_format(&x, sources[k]);
        for (unsigned i = 0; i < 1500; i++) {
            struct str text, a, b;
            struct rig whole, bytes;

            str_init(&text, 0);
            str_init(&a, 0);
            str_init(&b, 0);
            for (unsigned n = 0; n < 12; n++) {
                seed = seed * 1664525 + 1013904223;
                str_puts(&text, pieces[(seed >> 16) % (sizeof pieces / sizeof *pieces)]);
            }
            rig_parse(&whole, x.f, x.tools, sv_of(&text), text.len);
            rig_parse(&bytes, x.f, x.tools, sv_of(&text), 1);
            write_down(&whole, &a);
            write_down(&bytes, &b);
            if (strcmp(str_cstr(&a), str_cstr(&b)) != 0)
                fail_msg("\"%s\": whole \"%s\", by bytes \"%s\"", str_cstr(&text), str_cstr(&a),
                         str_cstr(&b));
            if (whole.n_calls == 0 && whole.content.len + whole.reasoning.len > text.len)
                fail_msg("\"%s\" became longer: \"%s\"", str_cstr(&text), str_cstr(&a));
            rig_deinit(&whole);
            rig_deinit(&bytes);
            str_deinit(&text);
            str_deinit(&a);
            str_deinit(&b);
        }
        close_format(&x);
    }
}

/* Names, keys and headers of any length around their bounds come out the same whole and in pieces. */
static void test_bounds(void **state)
{
    static const struct { const char *source, *head, *tail; } cases[] = {
        { tagged, "<call>\n<f=look>\n<p=", ">\nx\n</p>\n</f>\n</call>" },
        { tagged, "<call>\n<f=", ">\n</f>\n</call>" },
        { named, "<f=", ">{}</f>" },
        { named, "<f= ", "  look>{}</f>" },
        { named, "<f=look>", "</f>" },
        { named, "<f=look>", "{}</f>" },
        { channels, "<|channel|>comment ", " to=fn.look<|message|>{}<|call|>" } };
    static const unsigned around[] = { 0, 200, 235, 256, 300, 490, 512, 800, 960, 1024 };

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        for (size_t i = 0; i < 20 * sizeof around / sizeof *around; i++) {
            const unsigned n = around[i / 20] + (unsigned)(i % 20);
            struct str text, got[3];
            struct fixture x;

            open_format(&x, cases[k].source);
            str_init(&text, 0);
            str_puts(&text, cases[k].head);
            for (unsigned c = 0; c < n; c++)
                str_putc(&text, k >= 3 && k <= 5 ? ' ' : 'a');
            str_puts(&text, cases[k].tail);
            for (size_t r = 0; r < 3; r++) {
                static const size_t by[] = { 1, 16, 100000 };
                struct rig rig;

                str_init(&got[r], 0);
                rig_parse(&rig, x.f, x.tools, sv_of(&text), by[r]);
                write_down(&rig, &got[r]);
                rig_deinit(&rig);
                if (strcmp(str_cstr(&got[0]), str_cstr(&got[r])) != 0)
                    fail_msg("case %zu, %u bytes: by 1 \"%s\", by %zu \"%s\"", k, n, str_cstr(&got[0]),
                             by[r], str_cstr(&got[r]));
            }
            for (size_t r = 0; r < 3; r++)
                str_deinit(&got[r]);
            str_deinit(&text);
            close_format(&x);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_envelopes),
        cmocka_unit_test(test_no_calls),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_tagged),
        cmocka_unit_test(test_tagged_streams),
        cmocka_unit_test(test_python),
        cmocka_unit_test(test_channels),
        cmocka_unit_test(test_scan),
        cmocka_unit_test(test_scan_depth),
        cmocka_unit_test(test_objects),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
