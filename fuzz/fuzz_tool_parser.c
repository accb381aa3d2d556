/* fuzz_tool_parser.c: the first byte picks a format, the second how the rest, an answer, is cut into
 * pieces. Whole and in pieces the same must come out: calls in turn, each begun and ended once, and
 * arguments of complete calls that are JSON objects. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "models/tool_parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls or [] %}"
#define TAIL "{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"

static const char *const sources[] = {
    HEAD "<c>{\"name\": \"{{ c.function.name }}\", \"arguments\": {{ c.function.arguments | tojson }}}</c>"
        TAIL,
    HEAD "{\"name\": \"{{ c.function.name }}\", \"parameters\": {{ c.function.arguments | tojson }}}" TAIL,
    HEAD "<f={{ c.function.name }}>{{ c.function.arguments | tojson }}</f>" TAIL,
    HEAD "<f={{ c.function.name }}>{% for k, v in c.function.arguments | items %}<p={{ k }}>{{ v }}</p>"
        "{% endfor %}</f>" TAIL,
    HEAD "<c>{{ c.function.name }}({% for k, v in c.function.arguments | items %}{{ k }}={{ v | tojson }}"
        "{{ ', ' if not loop.last }}{% endfor %})</c>" TAIL,
    HEAD "<c>{{ c.function.name }}{{ '{' }}{% for k, v in c.function.arguments | items %}{{ k }}:"
        "{% if v is string %}<q>{{ v }}<q>{% else %}{{ v }}{% endif %}{{ ',' if not loop.last }}"
        "{% endfor %}{{ '}' }}</c>" TAIL,
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if m.tool_calls %}[C][{% for c in "
        "m.tool_calls %}{&#34;n&#34;: &#34;{{ c.function.name }}&#34;, &#34;a&#34;: "
        "{{ c.function.arguments | tojson }}}{{ ',' if not loop.last }}{% endfor %}]{% endif %}"
        "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "{% for m in messages %}{% if m.role == 'user' %}<|s|>user<|m|>{{ m.content }}<|e|>"
        "{% elif m.tool_calls %}<|s|>bot to=f.{{ m.tool_calls[0].function.name }}<|c|>x json<|m|>"
        "{{ m.tool_calls[0].function.arguments | tojson }}<|call|>{% else %}"
        "{% if m.thinking is defined %}<|s|>bot<|c|>think<|m|>{{ m.thinking }}<|e|>{% endif %}"
        "<|s|>bot<|c|>final<|m|>{{ m.content }}<|r|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|s|>bot{% endif %}",
};
#define N_FORMATS (sizeof sources / sizeof *sources)

struct told {
    struct str all;
    struct str args;
    uint32_t   n_calls;
    bool       open, content;
};

static void must(bool fine)
{
    if (!fine)
        abort();
}

static void content(void *ctx, struct sv text)
{
    struct told *t = ctx;

    must(!t->open && text.len > 0);
    if (!t->content)
        str_puts(&t->all, "\ncontent ");
    t->content = true;
    str_append(&t->all, text.data, text.len);
}

static void begin(void *ctx, uint32_t call, struct sv name, struct sv id)
{
    struct told *t = ctx;

    must(!t->open && call == t->n_calls && name.len > 0 && name.len <= TOOL_NAME_MAX_BYTES);
    t->open = true;
    t->content = false;
    str_reset(&t->args);
    str_printf(&t->all, "\ncall %.*s %.*s ", (int)name.len, name.data, (int)id.len, id.data);
}

static void arguments(void *ctx, uint32_t call, struct sv json)
{
    struct told *t = ctx;

    must(t->open && call == t->n_calls && json.len > 0);
    str_append(&t->args, json.data, json.len);
}

static void end(void *ctx, uint32_t call, bool complete)
{
    struct told *t = ctx;
    json_t *v = NULL;

    must(t->open && call == t->n_calls++);
    t->open = false;
    if (complete) {
        /* a key twice, a number out of range and NUL are JSON all the same */
        v = json_loadb(str_cstr(&t->args), t->args.len, JSON_ALLOW_NUL, NULL);
        must(t->args.len >= 2 && t->args.data[0] == '{' && t->args.data[t->args.len - 1] == '}');
        json_decref(v);
    }
    str_append(&t->all, str_cstr(&t->args), t->args.len);
    str_puts(&t->all, complete ? " done" : " cut");
}

static const struct tool_sink sink = {
    .content = content, .reasoning = content, .begin = begin, .arguments = arguments, .end = end,
};

static void parse(struct told *t, const struct tool_format *f, const json_t *tools, struct sv text,
                  size_t n)
{
    struct tool_parser *p;
    struct err e;

    *t = (struct told){ 0 };
    str_init(&t->all, 0);
    str_init(&t->args, 0);
    must(tool_parser_open(&p, f, tools, &sink, t, &e) == 0);
    for (size_t i = 0; i < text.len; i += n)
        tool_parser_push(p, (struct sv){ text.data + i, text.len - i < n ? text.len - i : n });
    tool_parser_finish(p);
    must(tool_parser_ok(p) && !t->open);
    tool_parser_close(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tool_format *formats[N_FORMATS];
    static json_t *tools;
    struct told whole, pieces;
    struct sv text;
    struct err e;

    if (size < 3 || size > 20000)
        return 0;
    if (!tools) {
        tools = json_loads("[{\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":"
                           "{\"s\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"}}}}}]", 0, NULL);
        for (size_t i = 0; i < N_FORMATS; i++) {
            struct template *t;

            must(template_open(&t, sources[i], strlen(sources[i]), "t", &e) == 0 &&
                 tool_format_open(&formats[i], t, SV(""), SV(""), &e) == 0 &&
                 formats[i]->shape != TOOL_NONE);
            template_close(t);
        }
    }
    text = (struct sv){ (const char *)data + 2, size - 2 };
    parse(&whole, formats[data[0] % N_FORMATS], tools, text, text.len);
    parse(&pieces, formats[data[0] % N_FORMATS], tools, text, 1 + data[1] % 16);
    if (str_ok(&whole.all) && str_ok(&pieces.all))
        must(sv_eq(sv_of(&whole.all), sv_of(&pieces.all)));
    str_deinit(&whole.all);
    str_deinit(&whole.args);
    str_deinit(&pieces.all);
    str_deinit(&pieces.args);
    return 0;
}
