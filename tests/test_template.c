/* Chat templates: the language by cases of our own, limits and hostile input,
 * failing allocations, threads, and (where the shared data lies) the templates of
 * real models against what Python's Jinja2 renders. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "models/template.h"
#include "models/template_vars.h"
#include "shared.h"

#define NOON_2026_07_26 1785067200   /* as if local time were UTC */

static struct template_input input(const json_t *vars)
{
    return (struct template_input){ .vars = vars, .has_now = true, .now_s = NOON_2026_07_26 };
}

/* Renders source with vars (JSON text, NULL: none); the code, text or message. */
static int render(const char *source, const char *vars, struct template_input in, struct str *out,
                  struct err *e)
{
    struct template *t = NULL;
    json_t *j = vars ? json_loads(vars, 0, NULL) : NULL;
    int rc;

    assert_true(!vars || j);
    in.vars = j;
    rc = template_open(&t, source, strlen(source), "t", e);
    if (rc == 0)
        rc = template_render(t, &in, out, e);
    template_close(t);
    json_decref(j);
    return rc;
}

static void expect_text(const char *source, const char *vars, const char *want, int line)
{
    struct str out;
    struct err e = { 0 };
    int rc;

    str_init(&out, 0);
    rc = render(source, vars, input(NULL), &out, &e);
    if (rc < 0 || strcmp(str_cstr(&out), want) != 0)
        fail_msg("line %d: \"%s\" gives \"%s\" (%s), not \"%s\"", line, source, str_cstr(&out),
                 rc < 0 ? e.msg : "no error", want);
    str_deinit(&out);
}
#define TEXT(source, vars, want) expect_text(source, vars, want, __LINE__)

static void expect_error(const char *source, const char *vars, int code, const char *part, int line)
{
    struct str out;
    struct err e = { 0 };
    int rc;

    str_init(&out, 0);
    str_puts(&out, "kept");
    rc = render(source, vars, input(NULL), &out, &e);
    if (rc != code || !strstr(e.msg, part) || strcmp(str_cstr(&out), "kept") != 0)
        fail_msg("line %d: \"%s\" gives %d \"%s\" and \"%s\", not %d \"%s\"", line, source, rc,
                 e.msg, str_cstr(&out), code, part);
    str_deinit(&out);
}
#define ERROR(source, vars, code, part) expect_error(source, vars, code, part, __LINE__)

static void test_white_space(void **state)
{
    (void)state;
    TEXT("a\n{% if true %}\nb\n{% endif %}\nc\n", NULL, "a\nb\nc");
    TEXT("a  {%- if true -%}  b  {%- endif %} c", NULL, "ab c");
    TEXT("  {% if true %}x{% endif %}", NULL, "x");
    TEXT("  {%+ if true +%}\nx{% endif %}", NULL, "  \nx");
    TEXT("a\n  {# note #}\nb", NULL, "a\nb");
    TEXT("a {{- ' b ' -}} c", NULL, "a b c");
    TEXT("{% raw %}{{ x }}{% y %}{% endraw %}", NULL, "{{ x }}{% y %}");
    TEXT("x\r\ny\rz\n\n", NULL, "x\ny\nz\n");
    TEXT("{{ '{%' }}}}", NULL, "{%}}");
    TEXT("a\xc2\xa0{%- set x = 1 %}b", NULL, "ab");   /* Unicode's spaces too */
}

static void test_expressions(void **state)
{
    (void)state;
    TEXT("{{ 1 + 2 * 3 ** 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** -1 }}", NULL,
         "19 -4 2 3.5 0.5");
    TEXT("{{ 1e16 }} {{ 1.0 }} {{ 0.1 + 0.2 }} {{ 1e-5 }} {{ 1_000 }} {{ 0x1F }}", NULL,
         "1e+16 1.0 0.30000000000000004 1e-05 1000 31");
    TEXT("{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 'a' in 'cat' }} {{ 3 not in [1, 2] }}", NULL,
         "True False True True");
    TEXT("{{ 'a' ~ 1 ~ none ~ true }} {{ 'ab' * 2 }} {{ [1] + [2] }} {{ (1,) }}", NULL,
         "a1NoneTrue abab [1, 2] (1,)");
    TEXT("{{ 'x' if false }}|{{ 'x' if 1 else 'y' }}|{{ none or 'z' }}|{{ not 0 }}", NULL,
         "|x|z|True");
    TEXT("{{ s[1] }}{{ s[-1] }} {{ s[::-1] }} {{ s[1:3] }} {{ s|length }}",
         "{\"s\":\"h\\u00e9llo\"}", "\xc3\xa9o oll\xc3\xa9h \xc3\xa9l 5");
    TEXT("{{ {'a': 1, 'b': [2, 'x']} }} {{ \"it's\" }} {{ [\"it's\", '\\n', '\xc3\xa9'] }}", NULL,
         "{'a': 1, 'b': [2, 'x']} it's [\"it's\", '\\n', '\xc3\xa9']");
    TEXT("{{ '\\x41\\u00e9\\t' 'b' }}", NULL, "A\xc3\xa9\tb");
    TEXT("{{ d.items }} {{ d['items'] }} {{ d.x }}", "{\"d\":{\"items\":3,\"x\":4}}",
         "<built-in method items of dict object> 3 4");
}

static void test_undefined(void **state)
{
    (void)state;
    TEXT("[{{ nope }}{{ d.nope }}{% for x in nope %}x{% endfor %}{{ nope|length }}]",
         "{\"d\":{}}", "[0]");
    TEXT("{{ nope is defined }} {{ nope == other }} {{ nope|default('d') }} {{ none|d('x') }}",
         NULL, "False True d None");
    ERROR("{{ nope.x }}", NULL, WATT_EINVAL, "t:1: 'nope' is undefined");
    ERROR("\n\n{{ d.nope.x }}", "{\"d\":{}}", WATT_EINVAL,
          "t:3: 'dict object' has no attribute 'nope'");
    ERROR("{{ nope + 1 }}", NULL, WATT_EINVAL, "undefined");
    ERROR("{{ nope() }}", NULL, WATT_EINVAL, "undefined");
}

static void test_scopes(void **state)
{
    (void)state;
    TEXT("{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = i + 5 %}{{ x }} {% endfor %}{{ x }}",
         NULL, "16 17 1");
    TEXT("{% set ns = namespace(n=0) %}{% for i in [1, 2, 3] %}{% set ns.n = ns.n + i %}"
         "{% endfor %}{{ ns.n }}", NULL, "6");
    TEXT("{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}", NULL, "1");
    TEXT("{% if false %}{% set x = 1 %}{% endif %}{{ x }}", "{\"x\":\"ctx\"}", "ctx");
    TEXT("{% for i in [1] %}{{ x }}{% endfor %}{% set x = 2 %}", "{\"x\":5}", "");
    TEXT("{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}", NULL, "3");
    TEXT("{% set a, b = 1, 2 %}{{ b }}{{ a }}", NULL, "21");
    TEXT("{% set x %}a{{ 1 }}{% endset %}{{ x|upper }}", NULL, "A1");
    TEXT("{% filter upper %}abc{% endfilter %}", NULL, "ABC");
    TEXT("{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{\"d\":{\"b\":1,\"a\":2}}",
         "b=1;a=2;");
}

static void test_loops(void **state)
{
    (void)state;
    TEXT("{% for x in 'abc' %}{{ loop.index }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}"
         "{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}", NULL,
         "12TrueFalseb 21FalseFalseac 30FalseTrueb ");
    TEXT("{% for x in range(5) if x is odd %}{{ loop.length }}{{ x }}{% else %}e{% endfor %}", NULL,
         "2123");
    TEXT("{% for x in [] %}x{% else %}empty{% endfor %}", NULL, "empty");
    TEXT("{% for x in range(9) %}{% if x == 2 %}{% continue %}{% endif %}"
         "{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}", NULL, "013");
    TEXT("{% for x in t recursive %}{{ x.n }}{% if x.c %}({{ loop(x.c) }}){% endif %}"
         "{{ loop.depth }}{% endfor %}",
         "{\"t\":[{\"n\":1,\"c\":[{\"n\":2},{\"n\":3}]},{\"n\":4}]}", "1(2232)141");
    TEXT("{% for x in 'aab' %}{{ loop.cycle('x', 'y') }}{{ loop.changed(x) }} {% endfor %}", NULL,
         "xTrue yFalse xTrue ");
    TEXT("{% set ns = namespace(stop=false) %}{% for x in [1, 2, 3] if not ns.stop %}{{ x }}"
         "{% if x == 2 %}{% set ns.stop = true %}{% endif %}{% endfor %}", NULL, "12");
}

static void test_macros(void **state)
{
    (void)state;
    TEXT("{% macro m(a, b='B', c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, c=3) }}",
         NULL, "1B1 1B3");
    TEXT("{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", NULL,
         "(1, 2){'x': 3}");
    TEXT("{% macro m(x) %}<{{ caller(x) }}>{% endmacro %}{% call(y) m(4) %}{{ y + 1 }}{% endcall %}",
         NULL, "<5>");
    TEXT("{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", NULL,
         "3210");
    ERROR("{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", NULL, WATT_EINVAL, "not more than 1");
    ERROR("{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", NULL, WATT_EINVAL, "no keyword argument 'b'");
    TEXT("{% generation %}x{% set y = 1 %}{% endgeneration %}{{ y }}", NULL, "x");
}

static void test_builtins(void **state)
{
    (void)state;
    TEXT("{{ {'a': [1, 2.5, none, true, 'x<\xc3\xa9\"']}|tojson }}", NULL,
         "{\"a\": [1, 2.5, null, true, \"x<\xc3\xa9\\\"\"]}");
    TEXT("{{ {'b': 1, 'a': []}|tojson(indent=2, sort_keys=true) }}", NULL,
         "{\n  \"a\": [],\n  \"b\": 1\n}");
    TEXT("{{ {'a': 1}|tojson(separators=(',', ':')) }}", NULL, "{\"a\":1}");
    TEXT("{{ strftime_now('%Y-%m-%d %H:%M %d %b %Y') }}", NULL, "2026-07-26 12:00 26 Jul 2026");
    TEXT("{{ xs|map(attribute='a')|join(',') }} {{ xs|selectattr('a', 'gt', 1)|list|length }}",
         "{\"xs\":[{\"a\":1},{\"a\":2}]}", "1,2 1");
    TEXT("{{ '%s-%03d' % ('a', 7) }} {{ '{:>4}|{}'.format(1, 'b') }}", NULL, "a-007    1|b");
    TEXT("{{ ' a b '.strip().split() }} {{ 'abc'.startswith(('x', 'a')) }}", NULL,
         "['a', 'b'] True");
    TEXT("{{ 'stra\xc3\x9f""e'|upper }} {{ 'hello world'|title }} {{ [3, 1]|sort }}", NULL,
         "STRASSE Hello World [1, 3]");
    TEXT("{{ 'a\nb'|indent(2) }} {{ '42'|int + 1 }} {{ 2.5|round }} {{ d|dictsort }}",
         "{\"d\":{\"b\":1,\"A\":2}}", "a\n  b 43 2.0 [('A', 2), ('b', 1)]");
    ERROR("{{ raise_exception('no ' ~ 'way') }}", NULL, WATT_EINVAL, "t:1: no way");
    ERROR("{% set _ = [].append(1) %}", NULL, WATT_EINVAL, "unsafe");
    ERROR("{{ ''.__class__.__mro__ }}", NULL, WATT_EINVAL, "unsafe");
}

static void test_refusals(void **state)
{
    (void)state;
    ERROR("{% include 'x' %}", NULL, WATT_ENOTSUP, "t:1: a chat template stands alone");
    ERROR("a\n{% if %}", NULL, WATT_EFORMAT, "t:2:");
    ERROR("{% if x %}", NULL, WATT_EFORMAT, "endif");
    ERROR("{{ x ", NULL, WATT_EFORMAT, "t:1:");
    ERROR("{{ 'abc }}", NULL, WATT_EFORMAT, "not closed");
    ERROR("{% do x %}", NULL, WATT_EFORMAT, "unknown tag 'do'");
    ERROR("{{ x|nofilter }}", NULL, WATT_EFORMAT, "no filter named 'nofilter'");
    TEXT("{% if false %}{{ x|nofilter }}{% endif %}ok", NULL, "ok");
    ERROR("{% break %}", NULL, WATT_EFORMAT, "outside loop");
    ERROR("\xff", NULL, WATT_EFORMAT, "UTF-8");
    ERROR("{{ 9223372036854775807 + 1 }}", NULL, WATT_EINVAL, "64-bit");
    ERROR("{{ 1 // 0 }}", NULL, WATT_EINVAL, "zero");
    ERROR("{{ (1 + 'a') }}", NULL, WATT_EINVAL, "unsupported operand");
    ERROR("{{ 'a' + 1 }}", NULL, WATT_EINVAL, "can only concatenate str (not \"int\") to str");
}

static void test_limits(void **state)
{
    (void)state;
    ERROR("{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}"
          "{% endfor %}", NULL, WATT_ELIMIT, "memory limit");
    ERROR("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", NULL,
          WATT_ELIMIT, "turns of loops");
    ERROR("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", NULL, WATT_ELIMIT, "nested deeper");
    ERROR("{{ 'x' * 99999999999 }}", NULL, WATT_ELIMIT, "too long");
    ERROR("{{ 'x' * 900000000 }}", NULL, WATT_ELIMIT, "memory limit");
    ERROR("{% for i in range(100000) %}{{ 'xxxxxxxxxxxxxxxxxxxx' * 100 }}{% endfor %}", NULL,
          WATT_ELIMIT, "");
    ERROR("{{ range(100001) }}", NULL, WATT_EINVAL, "range too big");
    ERROR("{{ '%999999999d' % 1 }}", NULL, WATT_ELIMIT, "width");
    ERROR("{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}"
          "{% endfor %}{{ ns.x }}", NULL, WATT_ELIMIT, "nested deeper");
}

static void test_time_limit(void **state)
{
    struct template_input in = input(NULL);
    struct str out;
    struct err e = { 0 };

    (void)state;
    in.limits = (struct template_limits){ .time_ms = 20, .iterations = 1u << 30,
                                          .steps = (uint64_t)1 << 40 };
    str_init(&out, 0);
    assert_int_equal(render("{% for i in range(99999) %}{% for j in range(99999) %}"
                            "{% endfor %}{% endfor %}", NULL, in, &out, &e), WATT_ETIME);
    assert_non_null(strstr(e.msg, "time limit"));
    in.limits = (struct template_limits){ .steps = 1000 };
    assert_int_equal(render("{% for i in range(9999) %}{{ i + 1 }}{% endfor %}", NULL, in, &out, &e),
                     WATT_ELIMIT);
    in.limits = (struct template_limits){ .output_bytes = 10 };
    assert_int_equal(render("12345678901", NULL, in, &out, &e), WATT_ELIMIT);
    assert_int_equal(render("1234567890", NULL, in, &out, &e), 0);
    assert_string_equal(str_cstr(&out), "1234567890");
    str_deinit(&out);
}

/* Deep nesting is refused when parsing, whatever its kind. */
static void test_deep_sources(void **state)
{
    static const char *const parts[][2] = {
        { "{{ ((((((((((", "" }, { "{{ [[[[[[[[[[", "" }, { "{{ not not not not not ", "" },
        { "{{ - - - - - - - - - -", "" }, { "{% if x %}", "" }, { "{% for x in y %}", "" },
        { "{{ a.b.c.d.e.f.g.h.i.j", ".k.l.m.n.o.p.q.r.s.t" }, { "{{ 1 + 1 + 1", " + 1 + 1" },
        { "{{ x|a|b|c", "|d|e|f" }, { "{{ x is a", " is b" }, { "{{ f(", "f(f(f(" },
        { "{{ {1:", "{1:{1:" }, { "{{ a if b else ", "a if b else " },
    };

    (void)state;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        struct template *t = NULL;
        struct err e = { 0 };
        struct str s;
        int rc;

        str_init(&s, 0);
        str_puts(&s, parts[i][0]);
        for (int k = 0; k < 5000; k++)
            str_puts(&s, *parts[i][1] ? parts[i][1] : parts[i][0] + (parts[i][0][1] == '{' ? 3 : 0));
        rc = template_open(&t, s.data, s.len, "deep", &e);
        assert_true(rc == WATT_ELIMIT || rc == WATT_EFORMAT);
        assert_null(t);
        str_deinit(&s);
    }
}

static const char chat[] =
    "{%- for m in messages -%}<{{ m.role }}>{{ m.content | trim }}{{ m | tojson }}"
    "{%- endfor -%}{%- if add_generation_prompt %}<a>{% endif -%}";
static const char chat_vars[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\" hi \"}],\"add_generation_prompt\":true}";
static const char chat_text[] = "<user>hi{\"role\": \"user\", \"content\": \" hi \"}<a>";

struct shared_render { const struct template *t; const json_t *vars; bool ok; };

static void *render_often(void *arg)
{
    struct shared_render *s = arg;
    struct template_input in = input(s->vars);

    s->ok = true;
    for (int i = 0; i < 200; i++) {
        struct str out;
        struct err e;

        str_init(&out, 0);
        s->ok = s->ok && template_render(s->t, &in, &out, &e) == 0 &&
                strcmp(str_cstr(&out), chat_text) == 0;
        str_deinit(&out);
    }
    return NULL;
}

static void test_threads(void **state)
{
    json_t *vars = json_loads(chat_vars, 0, NULL);
    struct template *t = NULL;
    struct shared_render s[4];
    pthread_t th[4];
    struct err e;

    (void)state;
    assert_int_equal(template_open(&t, chat, strlen(chat), "t", &e), 0);
    for (int i = 0; i < 4; i++) {
        s[i] = (struct shared_render){ t, vars, false };
        assert_int_equal(pthread_create(&th[i], NULL, render_often, &s[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(th[i], NULL);
        assert_true(s[i].ok);
    }
    template_close(t);
    json_decref(vars);
}

/* Each allocation in turn fails: an error each time, and nothing leaks. */
static void test_faults(void **state)
{
    (void)state;
#ifdef WATT_FAULTS
    for (unsigned long n = 1;; n++) {
        struct str out;
        struct err e = { 0 };
        int rc;

        str_init(&out, 0);
        fault_arm(FAULT_ALLOC, n);
        rc = render(chat, chat_vars, input(NULL), &out, &e);
        fault_arm(FAULT_ALLOC, 0);
        if (rc == 0) {
            assert_string_equal(str_cstr(&out), chat_text);
            str_deinit(&out);
            assert_true(n > 4);
            break;
        }
        assert_int_equal(rc, WATT_ENOMEM);
        str_deinit(&out);
        assert_true(n < 100);
    }
#else
    skip();
#endif
}

static void test_default(void **state)
{
    (void)state;
    TEXT(template_default(),
         "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},"
         "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"image\"},"
         "{\"type\":\"text\",\"text\":\"b\"}]}],\"add_generation_prompt\":true}",
         "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n");
}

static void test_tokens_and_mentions(void **state)
{
    static const char source[] = "{{ bos_token }}{% if enable_thinking is defined %}{% endif %}"
                                 "{% for tools in x %}{% endfor %}{{ eos_token }}";
    json_t *vars = json_pack("{s:s}", "eos_token", "E");
    struct template_input in = input(vars);
    struct template *t = NULL;
    struct str out;
    struct err e;

    (void)state;
    str_init(&out, 0);
    in.bos_token = SV("<s>");
    in.eos_token = SV("</s>");
    assert_int_equal(template_open(&t, source, strlen(source), "t", &e), 0);
    assert_int_equal(template_render(t, &in, &out, &e), 0);
    assert_string_equal(str_cstr(&out), "<s>E");
    assert_true(template_mentions(t, "enable_thinking"));
    assert_false(template_mentions(t, "tools"));
    template_close(t);
    str_deinit(&out);
    json_decref(vars);
}

/* ---- the shared data ---- */

static json_t *shared_json(const char *name)
{
    return json_load_file(shared_path(name), 0, NULL);
}

static json_t *case_vars(const json_t *conversations, const char *name)
{
    size_t i;
    json_t *c, *vars = NULL;

    json_array_foreach(conversations, i, c)
        if (strcmp(json_string_value(json_object_get(c, "name")), name) == 0)
            vars = json_deep_copy(json_object_get(c, "vars"));
    assert_non_null(vars);
    json_object_set_new(vars, "date_string", json_string("26 Jul 2026"));
    return vars;
}

static void check_row(const json_t *row, const json_t *conversations)
{
    const char *file = json_string_value(json_object_get(row, "template"));
    const json_t *want = json_object_get(row, "text");
    json_t *vars = case_vars(conversations, json_string_value(json_object_get(row, "case")));
    struct template_input in = input(vars);
    struct template *t = NULL;
    struct str out;
    struct err e = { 0 };
    char path[512], *source;
    size_t size;
    int rc;

    snprintf(path, sizeof path, "templates/%s", file);
    assert_int_equal(file_read(shared_path(path), 1 << 20, &source, &size, &e), 0);
    str_init(&out, 0);
    in.bos_token = SV("<s>");
    in.eos_token = SV("</s>");
    rc = template_open(&t, source, size, file, &e);
    if (rc == 0)
        rc = template_render(t, &in, &out, &e);
    if (want && (rc < 0 || strcmp(str_cstr(&out), json_string_value(want)) != 0))
        fail_msg("%s: %s", file, rc < 0 ? e.msg : str_cstr(&out));
    if (!want)
        assert_true(rc < 0);
    template_close(t);
    str_deinit(&out);
    mem_free(source);
    json_decref(vars);
}

static void test_real_templates(void **state)
{
    json_t *conversations;
    char line[1 << 16];
    FILE *f;
    int n = 0;

    (void)state;
    SHARED_OR_SKIP("templates/expected.jsonl");
    conversations = shared_json("templates/conversations.json");
    f = fopen(shared_path("templates/expected.jsonl"), "r");
    assert_non_null(conversations);
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        json_t *row = json_loads(line, 0, NULL);

        assert_non_null(row);
        check_row(row, conversations);
        json_decref(row);
        n++;
    }
    assert_true(n >= 400);
    fclose(f);
    json_decref(conversations);
}

/* A convention without `tools`: functions as text, and the time. */
static void test_functions_as_text(void **state)
{
    static const char source[] = "{{ functions }}|{{ datetime }}";
    struct template_input in = { .has_now = true, .now_s = 1719000123 };
    struct template *t;
    struct str out;
    struct err e;

    (void)state;
    assert_int_equal(template_open(&t, source, strlen(source), "t", &e), 0);
    assert_true(template_takes_tools(t));
    str_init(&out, 0);
    assert_int_equal(template_render_chat(t, &in, &out, &e), 0);
    assert_string_equal(str_cstr(&out), "[]|2024-06-21 20:00:00 UTC");
    in.vars = json_pack("{s:[{s:s,s:{s:s}}],s:s}", "tools", "type", "function", "function", "name", "f",
                        "datetime", "now");
    str_reset(&out);
    assert_int_equal(template_render_chat(t, &in, &out, &e), 0);
    assert_string_equal(str_cstr(&out), "[\n    {\n        \"name\": \"f\"\n    }\n]|now");
    assert_null(json_object_get(in.vars, "functions"));
    assert_int_equal(template_render(t, &in, &out, &e), 0);     /* as it stands: undefined prints nothing */
    json_decref((json_t *)(uintptr_t)in.vars);
    template_close(t);
    str_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_white_space), cmocka_unit_test(test_expressions),
        cmocka_unit_test(test_undefined), cmocka_unit_test(test_scopes),
        cmocka_unit_test(test_loops), cmocka_unit_test(test_macros),
        cmocka_unit_test(test_builtins), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_time_limit),
        cmocka_unit_test(test_deep_sources), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_faults), cmocka_unit_test(test_default),
        cmocka_unit_test(test_tokens_and_mentions),
        cmocka_unit_test(test_functions_as_text), cmocka_unit_test(test_real_templates),
    };

    return cmocka_run_group_tests_name("template", tests, NULL, NULL);
}
