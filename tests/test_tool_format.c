/* Formats of tool calls: learned from small templates of every kind, and, where the shared data
 * lies, from those of real models: what each of them writes for an assistant's calls must come back
 * as the same calls. */
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
#include "models/template.h"
#include "models/template_vars.h"
#include "models/tool_format.h"
#include "shared.h"
#include "tool_rig.h"

static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"W\","
    "\"parameters\":{\"type\":\"object\",\"properties\":{"
    "\"city\":{\"type\":\"string\",\"description\":\"d\"},"
    "\"days\":{\"type\":\"integer\",\"description\":\"d\"},"
    "\"exact\":{\"type\":\"boolean\",\"description\":\"d\"},"
    "\"notes\":{\"type\":\"string\",\"description\":\"d\"},"
    "\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"description\":\"d\"}},"
    "\"required\":[\"city\"]}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"stop_it\",\"description\":\"S\","
    "\"parameters\":{\"type\":\"object\",\"properties\":{"
    "\"why\":{\"type\":\"string\",\"description\":\"d\"}},\"required\":[]}}}]";

static const char *const arguments_text[2] = {
    "{\"city\":\"Pa\\\"ris, \\u00e9\",\"days\":-2,\"exact\":true,"
    "\"notes\":\"\\n  if a < b:\\n\\treturn '</x>'\\n\\n\",\"tags\":[\"one\",\"t(w)o\"]}",
    "{\"why\":\"12\"}",
};

static json_t *parse(const char *text)
{
    json_t *j = json_loads(text, 0, NULL);

    assert_non_null(j);
    return j;
}

static struct tool_format *learn(const char *source, size_t n, struct template **t)
{
    struct tool_format *f = NULL;
    struct err e = { 0 };

    assert_int_equal(template_open(t, source, n, "t", &e), 0);
    assert_int_equal(tool_format_open(&f, *t, SV("<s>"), SV("</s>"), &e), 0);
    return f;
}

/* ---- templates of our own ---- */

#define HEAD                                                                             \
    "{% for m in messages %}<|{{ m.role }}|>{% if m.reasoning_content is defined %}"      \
    "<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}"
#define TAIL "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
#define EACH "{% for c in m.tool_calls or [] %}{% set f = c.function %}"

static void expect(const char *source, const char *want, int line)
{
    struct template *t;
    struct tool_format *f = learn(source, strlen(source), &t);
    struct str s;

    str_init(&s, 0);
    tool_format_describe(f, &s);
    if (strcmp(str_cstr(&s), want) != 0)
        fail_msg("line %d: \"%s\", not \"%s\"", line, str_cstr(&s), want);
    str_deinit(&s);
    tool_format_close(f);
    template_close(t);
}
#define EXPECT(source, want) expect(source, want, __LINE__)
#define THINKS "; reasoning <think>…</think>"

static void test_shapes(void **state)
{
    (void)state;
    EXPECT(HEAD EACH "<call>{{ {'name': f.name, 'arguments': f.arguments} | tojson }}</call>"
           "{% endfor %}" TAIL, "<call>{\"name\": NAME, \"arguments\": ARGUMENTS}</call>" THINKS);
    EXPECT(HEAD "{% if m.tool_calls %}<calls>[" EACH "{{ {'tool': f.name, 'input': f.arguments, "
           "'ref': c.id} | tojson }}{{ ',' if not loop.last }}{% endfor %}]</calls>{% endif %}" TAIL,
           "<calls>[{\"tool\": NAME, \"input\": ARGUMENTS, ref}, …]</calls>" THINKS);
    EXPECT(HEAD "{% if m.tool_calls %}<calls>[" EACH "{\"{{ f.name }}\": {{ f.arguments | tojson }}}"
           "{{ ', ' if not loop.last }}{% endfor %}]</calls>{% endif %}" TAIL,
           "<calls>[{NAME: ARGUMENTS}, …]</calls>" THINKS);
    EXPECT(HEAD EACH "<call>{{ c | tojson }}</call>{% endfor %}" TAIL,
           "<call>{function: \"name\": NAME, \"arguments\": ARGUMENTS}</call>" THINKS);
    EXPECT(HEAD EACH "<f={{ f.name }}>{{ f.arguments | tojson }}</f>{% endfor %}" TAIL,
           "<f=NAME>{JSON}</f>" THINKS);
    EXPECT(HEAD EACH "[CALL]{{ f.name }}[ID]{{ c.id }}[ARGS]{{ f.arguments | tojson }}{% endfor %}"
           TAIL, "[CALL]NAME[ID]ID[ARGS]{JSON}" THINKS);
    EXPECT(HEAD "{% if m.tool_calls %}<all>" EACH "<one>fn.{{ f.name }}:{{ loop.index0 }}<args>"
           "{{ f.arguments | tojson }}</one>{% endfor %}</all>{% endif %}" TAIL,
           "<all><one>fn.NAME:COUNT<args>{JSON}</one></all>" THINKS);
    EXPECT(HEAD EACH "<call>\n<f={{ f.name }}>\n{% for k, v in f.arguments | items %}<p={{ k }}>\n"
           "{{ v }}\n</p>\n{% endfor %}</f>\n</call>{% endfor %}" TAIL,
           "<call>\\n<f=NAME>\\n<p=KEY>\\nVALUE\\n</p>…\\n</f>\\n</call>" THINKS);
    EXPECT(HEAD "{% if m.tool_calls %}<code>[" EACH "{{ f.name }}({% for k, v in f.arguments | items "
           "%}{{ k }}={{ v | tojson }}{{ ', ' if not loop.last }}{% endfor %}){{ ', ' if not "
           "loop.last }}{% endfor %}]</code>{% endif %}" TAIL,
           "<code>[NAME(KEY=VALUE, …)]</code>" THINKS);
    EXPECT(HEAD EACH "<call>do:{{ f.name }}{{ '{' }}{% for k, v in f.arguments | items %}{{ k }}:"
           "{% if v is string %}<q>{{ v }}<q>{% else %}{{ v }}{% endif %}{{ ',' if not loop.last }}"
           "{% endfor %}{{ '}' }}</call>{% endfor %}" TAIL,
           "<call>do:NAME{KEY:VALUE, …}</call>" THINKS);
    EXPECT(HEAD "{% if m.tool_calls and m.tool_calls | length > 1 %}{{ raise_exception('one') }}"
           "{% endif %}" EACH "{\"name\": \"{{ f.name }}\", \"parameters\": "
           "{{ f.arguments | tojson }}}{% endfor %}" TAIL,
           "{\"name\": NAME, \"parameters\": ARGUMENTS} (one call)" THINKS);
    EXPECT(HEAD TAIL, "no calls" THINKS);
    EXPECT("{{ messages[0].content }}", "no calls");
    EXPECT("{{ raise_exception('never') }}", "no calls");
}

/* The template wants arguments as text, or ids of nine characters. */
static void test_wishes(void **state)
{
    static const char text[] = HEAD EACH "<f={{ f.name }}>{{ '' + f.arguments }}</f>{% endfor %}" TAIL;
    static const char ids[] = HEAD EACH "{% if c.id | length != 9 %}{{ raise_exception('id') }}"
        "{% endif %}<f={{ f.name }}>{{ f.arguments | tojson }}</f>{% endfor %}" TAIL;
    struct template *t;
    struct tool_format *f = learn(text, sizeof text - 1, &t);

    (void)state;
    assert_true(f->string_arguments && !f->short_ids && f->shape == TOOL_NAMED);
    tool_format_close(f);
    template_close(t);
    f = learn(ids, sizeof ids - 1, &t);
    assert_true(!f->string_arguments && f->short_ids && f->shape == TOOL_NAMED);
    tool_format_close(f);
    template_close(t);
}

static void test_reasoning(void **state)
{
    static const char in_prompt[] =
        "{% for m in messages %}<|{{ m.role }}|>{% if m.reasoning_content is defined %}"
        "{{ m.reasoning_content }}\n[BEGIN ANSWER]\n{% endif %}{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>Steps:\n{% endif %}";
    static const char guessed[] =
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}";
    static const char switched[] =
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% if enable_thinking is false %}<think></think>"
        "{% endif %}{% endif %}";
    struct template *t;
    struct tool_format *f = learn(in_prompt, sizeof in_prompt - 1, &t);

    (void)state;
    assert_string_equal(f->think_open, "Steps:");
    assert_string_equal(f->think_close, "[BEGIN ANSWER]");
    assert_false(f->think_switch);
    tool_format_close(f);
    template_close(t);
    f = learn(guessed, sizeof guessed - 1, &t);
    assert_string_equal(f->think_open, "<think>");
    assert_string_equal(f->think_close, "</think>");
    tool_format_close(f);
    template_close(t);
    f = learn(switched, sizeof switched - 1, &t);
    assert_true(f->think_switch);
    assert_string_equal(f->think_variable, "enable_thinking");
    tool_format_close(f);
    template_close(t);
}

/* ---- templates of real models ---- */

static json_t *calls_of(const struct tool_format *f, size_t n)
{
    static const char *const names[2] = { "get_weather", "stop_it" };
    static const char *const ids[2] = { "abcDEF123", "ghiJKL456" };
    json_t *calls = json_array();

    for (size_t i = 0; i < n; i++) {
        json_t *args = f->string_arguments ? json_string(arguments_text[i])
                                           : parse(arguments_text[i]);

        json_array_append_new(calls, json_pack("{s:s,s:s,s:{s:s,s:o}}", "id", ids[i], "type",
                                               "function", "function", "name", names[i],
                                               "arguments", args));
    }
    return calls;
}

/* What the model would have written: the rendering behind what it begins after. False: the
 * template refuses such a conversation. */
static bool answer_of(const struct template *t, const struct tool_format *f, size_t n,
                      const char *content, struct str *out)
{
    json_t *tools = parse(tools_text), *vars;
    struct template_input in = { .bos_token = SV("<s>"), .eos_token = SV("</s>"), .has_now = true };
    struct str prompt;
    struct err e = { 0 };
    const char *at, *end;
    bool ok;

    str_init(&prompt, 0);
    vars = json_pack("{s:[{s:s,s:s}],s:O,s:b}", "messages", "role", "user", "content", "UuU",
                     "tools", tools, "add_generation_prompt", 1);
    in.vars = vars;
    ok = template_render_chat(t, &in, &prompt, &e) == 0;
    json_decref(vars);
    vars = json_pack("{s:[{s:s,s:s},{s:s,s:o,s:o}],s:O,s:b}", "messages", "role", "user", "content",
                     "UuU", "role", "assistant", "content", f->null_content && !*content
                     ? json_null() : json_string(content), "tool_calls", calls_of(f, n), "tools",
                     tools, "add_generation_prompt", 0);
    in.vars = vars;
    ok = ok && template_render_chat(t, &in, out, &e) == 0;
    json_decref(vars);
    json_decref(tools);
    if (f->null_content && *content)
        ok = false;             /* it shows the content only */
    if (ok && !sv_starts(sv_of(out), sv_of(&prompt))) {
        /* it begins elsewhere: behind the user's words */
        at = strstr(str_cstr(out), "UuU");
        for (const char *p = at; p; p = strstr(p + 1, "UuU"))
            at = p;
        str_reset(&prompt);
        str_append(&prompt, str_cstr(out), (size_t)(at + 3 - str_cstr(out)));
    }
    if (ok) {
        end = out->data + out->len;
        memmove(out->data, out->data + prompt.len, (size_t)(end - out->data) - prompt.len + 1);
        out->len -= prompt.len;
    }
    str_deinit(&prompt);
    return ok;
}

static void check_calls(const char *name, const struct rig *r, size_t n)
{
    static const char *const names[2] = { "get_weather", "stop_it" };

    if (r->n_calls != n)
        fail_msg("%s: %u calls, not %zu; content \"%.300s\"", name, r->n_calls, n,
                 r->content.len ? r->content.data : "");
    for (size_t i = 0; i < n; i++) {
        json_t *got = json_loadb(r->calls[i].args.data, r->calls[i].args.len, 0, NULL);
        json_t *want = parse(arguments_text[i]);

        assert_string_equal(r->calls[i].name, names[i]);
        if (!r->calls[i].complete || !json_equal(got, want))
            fail_msg("%s: call %zu: %.*s", name, i, (int)r->calls[i].args.len,
                     r->calls[i].args.data);
        json_decref(got);
        json_decref(want);
    }
}

/* Calls of one template back and forth; how many conversations it took. */
static unsigned round_trips(const char *name, const struct template *t, const struct tool_format *f)
{
    static const struct { size_t n; const char *content; } cases[] = {
        { 1, "" }, { 2, "" }, { 1, "Let me look." }, { 2, "Let me look." } };
    json_t *tools = parse(tools_text);
    unsigned n_done = 0;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t n = cases[i].n > 1 && !f->parallel ? 1 : cases[i].n;
        struct str text;
        struct rig whole, bytes;

        str_init(&text, 0);
        if (answer_of(t, f, cases[i].n, cases[i].content, &text)) {
            rig_parse(&whole, f, tools, sv_of(&text), text.len);
            check_calls(name, &whole, n);
            rig_parse(&bytes, f, tools, sv_of(&text), 1);
            check_calls(name, &bytes, n);
            assert_string_equal(str_cstr(&whole.content), str_cstr(&bytes.content));
            rig_deinit(&whole);
            rig_deinit(&bytes);
            n_done++;
        }
        str_deinit(&text);
    }
    json_decref(tools);
    return n_done;
}

/* Templates that mention tools and never write a call down, with the reason: docs/tools.md. */
static bool writes_no_calls(const char *name)
{
    static const char *const known[] = { "Kimi-K2-Thinking.jinja", "LFM2-8B-A1B.jinja",
                                         "LFM2.5-Instruct.jinja" };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i]) == 0)
            return true;
    return false;
}

static void test_real_templates(void **state)
{
    unsigned n_tools = 0, n_known = 0;
    struct dirent *d;
    DIR *dir;

    (void)state;
    SHARED_OR_SKIP("templates");
    dir = opendir(shared_path("templates"));
    assert_non_null(dir);
    while ((d = readdir(dir))) {
        const char *dot = strrchr(d->d_name, '.');
        char path[512];
        struct template *t;
        struct tool_format *f;
        struct err e = { 0 };
        char *source;
        size_t n;

        if (!dot || strcmp(dot, ".jinja") != 0)
            continue;
        (void)snprintf(path, sizeof path, "templates/%.256s", d->d_name);
        assert_int_equal(file_read(shared_path(path), TEMPLATE_SOURCE_MAX, &source, &n, &e), 0);
        f = learn(source, n, &t);
        if (f->shape != TOOL_NONE) {
            n_known++;
            if (round_trips(d->d_name, t, f) == 0)
                fail_msg("%s: no conversation with calls renders", d->d_name);
        }
        if (template_takes_tools(t)) {
            n_tools++;
            if (f->shape == TOOL_NONE && !writes_no_calls(d->d_name))
                fail_msg("%s: calls are not recognised", d->d_name);
        }
        mem_free(source);
        tool_format_close(f);
        template_close(t);
    }
    (void)closedir(dir);
    print_message("%u templates with tools, %u formats known\n", n_tools, n_known);
    assert_true(n_tools > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_wishes),
        cmocka_unit_test(test_reasoning),
        cmocka_unit_test(test_real_templates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
