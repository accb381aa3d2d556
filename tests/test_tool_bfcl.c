/* Calls of real questions, in the notation of every template in the shared data: the reference answers of
 * the Berkeley function calling questions are rendered, read back, and held against the grammar of
 * their tools, which refuses the same calls with another name or without a required argument. A sample; with --full
 * all of them. */
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
#include "models/grammar/grammar.h"
#include "models/grammar/structural.h"
#include "models/template.h"
#include "models/template_vars.h"
#include "models/tool_format.h"
#include "models/tool_grammar.h"
#include "shared.h"
#include "tool_rig.h"

#define MAX_QUESTIONS 2000u
#define SAMPLE        6u        /* questions for each template */
#define MAX_TAIL      1200u     /* bytes that a template writes behind the calls */

static bool full;

struct question {
    json_t *tools, *calls;      /* calls: [{name, arguments}] */
};

static struct question questions[MAX_QUESTIONS];
static size_t n_questions;

/* ---- questions ---- */

static const char *type_of(const char *s)
{
    static const char *const names[][2] = { { "dict", "object" }, { "float", "number" },
        { "tuple", "array" }, { "any", NULL } };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(s, names[i][0]) == 0)
            return names[i][1];
    return s;
}

/* Their spelling of schemas into JSON Schema's. */
static json_t *schema_of(const json_t *from)
{
    static const char *const kept[] = { "description", "enum", "required" };
    json_t *s = json_object(), *props = json_object_get(from, "properties"), *v;
    const char *type = json_string_value(json_object_get(from, "type")), *key;

    if (type && type_of(type))
        (void)json_object_set_new(s, "type", json_string(type_of(type)));
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (json_object_get(from, kept[i]))
            (void)json_object_set(s, kept[i], json_object_get(from, kept[i]));
    if (props) {
        json_t *to = json_object();

        json_object_foreach(props, key, v)
            (void)json_object_set_new(to, key, schema_of(v));
        (void)json_object_set_new(s, "properties", to);
    }
    if (json_object_get(from, "items"))
        (void)json_object_set_new(s, "items", schema_of(json_object_get(from, "items")));
    return s;
}

static json_t *first_choice(const json_t *schema, const json_t *value);

/* The arguments of a call, the first acceptable value of each, in the order of the schema. */
static json_t *chosen(const json_t *schema, const json_t *options)
{
    json_t *out = json_object(), *props = json_object_get(schema, "properties"), *v;
    const char *key;

    json_object_foreach(props, key, v) {
        const json_t *list = json_object_get(options, key);
        size_t i = 0;

        while (i < json_array_size(list) && json_is_string(json_array_get(list, i)) &&
               !*json_string_value(json_array_get(list, i)))
            i++;                /* "": may be left out */
        if (i < json_array_size(list))
            (void)json_object_set_new(out, key, first_choice(v, json_array_get(list, i)));
    }
    return out;
}

static json_t *first_choice(const json_t *schema, const json_t *value)
{
    const json_t *items = json_object_get(schema, "items");

    if (json_is_object(value) && json_object_get(schema, "properties"))
        return chosen(schema, value);
    if (json_is_array(value) && items) {
        json_t *list = json_array();

        for (size_t i = 0; i < json_array_size(value); i++)
            (void)json_array_append_new(list, first_choice(items, json_array_get(value, i)));
        return list;
    }
    return json_deep_copy(value);
}

static char *plain_name(const char *name)
{
    char *s = strdup(name);

    for (char *p = s; p && *p; p++)
        if (*p == '.')
            *p = '_';
    return s;
}

static json_t *tool_of(const json_t *fn)
{
    char *name = plain_name(json_string_value(json_object_get(fn, "name")));
    json_t *t = json_pack("{s:s,s:{s:s,s:O,s:o}}", "type", "function", "function", "name", name,
                          "description", json_object_get(fn, "description"), "parameters",
                          schema_of(json_object_get(fn, "parameters")));

    free(name);
    return t;
}

static const json_t *parameters_of(const json_t *tools, const char *name)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *fn = json_object_get(json_array_get(tools, i), "function");

        if (strcmp(json_string_value(json_object_get(fn, "name")), name) == 0)
            return json_object_get(fn, "parameters");
    }
    return NULL;
}

/* As JSON, in a buffer that the next call reuses. */
static struct sv written(const json_t *j)
{
    static char text[1 << 14];
    const size_t n = json_dumpb(j, text, sizeof text - 1, 0);

    assert_true(n > 0 && n < sizeof text);
    text[n] = '\0';
    return (struct sv){ text, n };
}

/* Are the arguments what the schema says? Some reference answers are not. */
static bool is_valid(const json_t *schema, const json_t *args)
{
    const struct schema_opts opts = { .strict = true };
    struct grammar *g = NULL;
    struct err e;
    const bool ok = grammar_from_schema(&g, schema, &opts, &e) == 0 &&
                    grammar_matches(g, written(args));

    grammar_close(g);
    return ok;
}

static void add_question(const json_t *question, const json_t *answer)
{
    struct question *q = &questions[n_questions];
    json_t *truth = json_object_get(answer, "ground_truth"), *fn, *options;
    const char *name;
    bool ok = true;
    size_t i;

    q->tools = json_array();
    q->calls = json_array();
    json_array_foreach(json_object_get(question, "function"), i, fn)
        (void)json_array_append_new(q->tools, tool_of(fn));
    for (i = 0; i < json_array_size(truth) && ok; i++)
        json_object_foreach(json_array_get(truth, i), name, options) {
            char *plain = plain_name(name);
            const json_t *schema = parameters_of(q->tools, plain);
            json_t *args = chosen(schema, options);

            ok = ok && schema && is_valid(schema, args);
            (void)json_array_append_new(q->calls, json_pack("{s:s,s:o}", "name", plain, "arguments", args));
            free(plain);
        }
    if (ok && json_array_size(q->calls) > 0 && json_array_size(q->calls) <= RIG_CALLS &&
        n_questions + 1 < MAX_QUESTIONS) {
        n_questions++;
        return;
    }
    json_decref(q->tools);
    json_decref(q->calls);
}

/* The lines of a file, each a document. */
static json_t *read_lines(const char *rel)
{
    json_t *list = json_array();
    struct file_map map;
    struct err e;

    assert_int_equal(file_map_open(&map, shared_path(rel), &e), 0);
    for (size_t i = 0; i < map.size;) {
        const char *at = (const char *)map.data + i, *end = memchr(at, '\n', map.size - i);
        const size_t n = end ? (size_t)(end - at) : map.size - i;

        if (n)
            (void)json_array_append_new(list, json_loadb(at, n, 0, NULL));
        i += n + 1;
    }
    file_map_close(&map);
    return list;
}

static int read_questions(void **state)
{
    static const char *const files[] = { "simple_python", "multiple", "parallel" };

    (void)state;
    if (!shared_there("eval/bfcl/BFCL_v4_parallel.json"))
        return 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[128];
        json_t *asked, *answers;

        (void)snprintf(path, sizeof path, "eval/bfcl/BFCL_v4_%s.json", files[i]);
        asked = read_lines(path);
        (void)snprintf(path, sizeof path, "eval/bfcl/possible_answer/BFCL_v4_%s.json", files[i]);
        answers = read_lines(path);
        for (size_t k = 0; k < json_array_size(asked) && k < json_array_size(answers); k++)
            add_question(json_array_get(asked, k), json_array_get(answers, k));
        json_decref(asked);
        json_decref(answers);
    }
    return 0;
}

static int drop_questions(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_questions; i++) {
        json_decref(questions[i].tools);
        json_decref(questions[i].calls);
    }
    return 0;
}

/* ---- an answer as a template writes it ---- */

static json_t *messages_of(const struct tool_format *f, const json_t *calls)
{
    json_t *list = json_array(), *call;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)calls, i, call) {
        json_t *args = json_object_get(call, "arguments");
        char id[16];

        (void)snprintf(id, sizeof id, "abcDEF%03u", (unsigned)i % 1000);
        (void)json_array_append_new(list, json_pack("{s:s,s:s,s:{s:O,s:o}}", "id", id, "type", "function",
            "function", "name", json_object_get(call, "name"), "arguments",
            f->string_arguments ? json_string(written(args).data) : json_incref(args)));
    }
    return json_pack("[{s:s,s:s},{s:s,s:o,s:o}]", "role", "user", "content", "UuU", "role", "assistant",
                     "content", f->null_content ? json_null() : json_string(""), "tool_calls", list);
}

static bool render(const struct template *t, const json_t *tools, json_t *messages, bool prompt,
                   struct str *out)
{
    struct template_input in = { .bos_token = SV("<s>"), .eos_token = SV("</s>"), .has_now = true };
    json_t *vars = json_pack("{s:o,s:O,s:b}", "messages", messages, "tools", tools,
                             "add_generation_prompt", prompt);
    struct err e;
    bool ok;

    in.vars = vars;
    ok = template_render_chat(t, &in, out, &e) == 0;
    json_decref(vars);
    return ok;
}

/* Some templates write quotes as HTML does; their models don't. */
static void plain_quotes(struct str *s)
{
    static const char quote[] = "&#34;";
    char *at = s->len ? strstr(s->data, quote) : NULL;

    while (at) {
        *at = '"';
        memmove(at + 1, at + 5, s->len - (size_t)(at + 5 - s->data) + 1);
        s->len -= 4;
        at = strstr(at, quote);
    }
}

/* What the model would have written. False: the template refuses such a conversation. */
static bool answer_of(const struct template *t, const struct tool_format *f, const json_t *tools,
                      const json_t *calls, struct str *out)
{
    struct str all, prompt;
    bool ok;

    str_init(&all, 0);
    str_init(&prompt, 0);
    ok = render(t, tools, json_pack("[{s:s,s:s}]", "role", "user", "content", "UuU"), true, &prompt) &&
         render(t, tools, messages_of(f, calls), false, &all);
    if (ok && sv_starts(sv_of(&all), sv_of(&prompt))) {
        str_append(out, all.data + prompt.len, all.len - prompt.len);
    } else if (ok) {            /* it begins elsewhere: behind the user's words */
        const char *at = all.data;
        size_t same = 0;

        for (const char *p = strstr(at, "UuU"); p; p = strstr(p + 1, "UuU"))
            at = p + 3;
        /* or behind the marks that the prompt has as well */
        while (same < prompt.len && prompt.data[same] == all.data[same])
            same++;
        while (same > 0 && all.data[same - 1] != '>')
            same--;
        at = all.data + same > at ? all.data + same : at;
        str_append(out, at, all.len - (size_t)(at - all.data));
    }
    if (ok && f->html_quotes)
        plain_quotes(out);
    str_deinit(&all);
    str_deinit(&prompt);
    return ok;
}

/* ---- checks ---- */

struct tally {
    unsigned n, n_grammars, n_accepted;
};

static void same_calls(const char *what, const struct rig *r, const json_t *calls, const char *text)
{
    if (r->n_calls != json_array_size(calls))
        fail_msg("%s: %u calls, not %zu, of %s", what, r->n_calls, json_array_size(calls), text);
    for (size_t i = 0; i < r->n_calls; i++) {
        const json_t *call = json_array_get(calls, i);
        json_t *got = json_loadb(r->calls[i].args.data, r->calls[i].args.len, 0, NULL);

        assert_string_equal(r->calls[i].name, json_string_value(json_object_get(call, "name")));
        if (!r->calls[i].complete || !json_equal(got, json_object_get(call, "arguments")))
            fail_msg("%s: %.*s of %s", what, (int)r->calls[i].args.len, r->calls[i].args.data, text);
        json_decref(got);
    }
}

/* Does the grammar accept the text, but for what the template writes behind the calls? Some write the end
 * of the section behind several calls only. */
static bool accepted(const struct grammar *g, const struct tool_format *f, struct sv text)
{
    bool ok = false;

    for (size_t cut = 0; cut <= text.len && cut < MAX_TAIL && !ok; cut++) {
        struct str closed;

        str_init(&closed, 0);
        str_append(&closed, text.data, text.len - cut);
        ok = grammar_matches(g, sv_of(&closed));
        str_puts(&closed, f->section_close);
        ok = ok || (*f->section_close && grammar_matches(g, sv_of(&closed)));
        str_deinit(&closed);
    }
    return ok;
}

/* The text from where the calls begin: a template may have closed reasoning in front of them. */
static struct sv from_opening(const struct tool_format *f, struct sv text)
{
    struct str opening;
    const char *at, *core;

    str_init(&opening, 0);
    tool_format_opening(f, &opening);
    while (opening.len && strchr(" \n\t\r", opening.data[opening.len - 1]))
        opening.data[--opening.len] = '\0';
    core = str_cstr(&opening) + strspn(str_cstr(&opening), " \n\t\r");
    at = *core ? strstr(text.data, core) : NULL;
    while (at && at > text.data && strchr(" \n\t\r", at[-1]))
        at--;
    str_deinit(&opening);
    return at ? (struct sv){ at, text.len - (size_t)(at - text.data) } : text;
}

/* The calls without a required argument; NULL: there is none. */
static json_t *less_one(const json_t *tools, const json_t *calls)
{
    json_t *copy = json_deep_copy(calls), *call = json_array_get(copy, 0);
    const json_t *schema = parameters_of(tools, json_string_value(json_object_get(call, "name")));
    const char *key = json_string_value(json_array_get(json_object_get(schema, "required"), 0));

    if (key && json_object_size(json_object_get(call, "arguments")) > 1 &&
        json_object_del(json_object_get(call, "arguments"), key) == 0)
        return copy;
    json_decref(copy);
    return NULL;
}

static void hold_grammar(const char *what, const struct template *t, const struct tool_format *f,
                         const struct question *q, const json_t *calls, struct sv text, struct tally *tally)
{
    const struct sv from = from_opening(f, text);
    const struct tool_wish w = { .tools = q->tools, .demand = TOOL_MUST,
                                 .parallel = json_array_size(calls) > 1 };
    json_t *structure = NULL, *wrong = json_deep_copy(calls), *less = less_one(q->tools, calls);
    struct grammar *g = NULL;
    struct err e = { 0 };
    struct str other;

    if (tool_grammar(&structure, f, &w, &e) == 0 && structure) {
        if (grammar_from_structure(&g, structure, &e) < 0)
            fail_msg("%s: %s", what, e.msg);
        tally->n_grammars++;
        if (accepted(g, f, text) || accepted(g, f, from))
            tally->n_accepted++;
        else if (f->args == TOOL_ARGS_TAGGED && strstr(text.data, "{'"))
            tally->n_grammars--;    /* an object as Python spells it, where the model may write JSON */
        else
            print_message("%s: refused: %.*s\n", what, (int)text.len, text.data);
        (void)json_object_set_new(json_array_get(wrong, 0), "name", json_string("no_such_tool"));
        for (int i = 0; i < 2; i++) {
            const json_t *bad = i ? less : wrong;

            str_init(&other, 0);
            if (bad && answer_of(t, f, q->tools, bad, &other) &&
                (accepted(g, f, sv_of(&other)) || accepted(g, f, from_opening(f, sv_of(&other)))))
                fail_msg("%s: accepted: %s", what, str_cstr(&other));
            str_deinit(&other);
        }
    } else if (e.code != WATT_ENOTSUP) {
        fail_msg("%s: %s", what, e.msg);
    }
    grammar_close(g);
    json_decref(structure);
    json_decref(wrong);
    json_decref(less);
}

static unsigned occurrences(const struct str *s, const char *part)
{
    unsigned n = 0;

    for (const char *at = *part && s->len ? strstr(s->data, part) : NULL; at; at = strstr(at + 1, part))
        n++;
    return n;
}

static void one_question(const char *name, const struct template *t, const struct tool_format *f,
                         size_t index, struct tally *tally)
{
    const struct question *q = &questions[index];
    json_t *calls = json_array();
    struct rig whole, bytes;
    struct str text;
    char what[320];
    bool rendered;

    (void)snprintf(what, sizeof what, "%.256s, question %zu", name, index);
    for (size_t i = 0; i < json_array_size(q->calls) && (i == 0 || f->parallel); i++)
        (void)json_array_append(calls, json_array_get(q->calls, i));
    str_init(&text, 0);
    rendered = answer_of(t, f, q->tools, calls, &text);
    if (rendered && json_array_size(calls) > 2 && occurrences(&text, f->section_close) > 1) {
        while (json_array_size(calls) > 2)      /* a template that counts to two */
            (void)json_array_remove(calls, 2);
        str_reset(&text);
        rendered = answer_of(t, f, q->tools, calls, &text);
    }
    if (rendered) {
        tally->n++;
        rig_parse(&whole, f, q->tools, sv_of(&text), text.len ? text.len : 1);
        same_calls(what, &whole, calls, str_cstr(&text));
        rig_parse(&bytes, f, q->tools, sv_of(&text), 1);
        same_calls(what, &bytes, calls, str_cstr(&text));
        assert_string_equal(str_cstr(&whole.content), str_cstr(&bytes.content));
        for (uint32_t i = 0; i < whole.n_calls; i++)
            assert_string_equal(str_cstr(&whole.calls[i].args), str_cstr(&bytes.calls[i].args));
        rig_deinit(&whole);
        rig_deinit(&bytes);
        hold_grammar(what, t, f, q, calls, sv_of(&text), tally);
    }
    str_deinit(&text);
    json_decref(calls);
}

static void with_template(const char *name, struct tally *tally)
{
    struct template *t;
    struct tool_format *f;
    struct err e = { 0 };
    char path[512], *source;
    size_t n, step;

    (void)snprintf(path, sizeof path, "templates/%.256s", name);
    assert_int_equal(file_read(shared_path(path), TEMPLATE_SOURCE_MAX, &source, &n, &e), 0);
    assert_int_equal(template_open(&t, source, n, "t", &e), 0);
    assert_int_equal(tool_format_open(&f, t, SV("<s>"), SV("</s>"), &e), 0);
    step = full ? 1 : n_questions / SAMPLE;
    for (size_t i = (unsigned char)name[0] % step; i < n_questions && f->shape != TOOL_NONE; i += step)
        one_question(name, t, f, i, tally);
    mem_free(source);
    tool_format_close(f);
    template_close(t);
}

static void test_reference_answers(void **state)
{
    struct tally tally = { 0 };
    struct dirent *d;
    DIR *dir;

    (void)state;
    SHARED_OR_SKIP("templates");
    SHARED_OR_SKIP("eval/bfcl/BFCL_v4_parallel.json");
    assert_true(n_questions > 500);
    dir = opendir(shared_path("templates"));
    assert_non_null(dir);
    while ((d = readdir(dir))) {
        const char *dot = strrchr(d->d_name, '.');

        if (dot && strcmp(dot, ".jinja") == 0)
            with_template(d->d_name, &tally);
    }
    (void)closedir(dir);
    print_message("%zu questions; %u answers read back, %u of %u accepted by grammars\n", n_questions,
                  tally.n, tally.n_accepted, tally.n_grammars);
    assert_true(tally.n >= 200);
    assert_int_equal(tally.n_accepted, tally.n_grammars);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_reference_answers) };

    full = argc > 1 && strcmp(argv[1], "--full") == 0;
    return cmocka_run_group_tests(tests, read_questions, drop_questions);
}
