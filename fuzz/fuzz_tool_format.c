/* fuzz_tool_format.c: a chat template of any text: whatever it does, learning its format ends, and
 * the format can be described, read with, and made into a grammar or refused. */
#include <jansson.h>
#include <stdint.h>
#include <string.h>

#include "models/grammar/structural.h"
#include "models/tool_grammar.h"
#include "models/tool_parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void content(void *ctx, struct sv text)
{
    (void)ctx;
    (void)text;
}

static void begin(void *ctx, uint32_t call, struct sv name, struct sv id)
{
    (void)ctx;
    (void)call;
    (void)name;
    (void)id;
}

static void arguments(void *ctx, uint32_t call, struct sv json)
{
    (void)ctx;
    (void)call;
    (void)json;
}

static void end(void *ctx, uint32_t call, bool complete)
{
    (void)ctx;
    (void)call;
    (void)complete;
}

static const struct tool_sink sink = {
    .content = content, .reasoning = content, .begin = begin, .arguments = arguments, .end = end,
};

/* The template's own words as an answer. */
static void read_with(const struct tool_format *f, const json_t *tools, struct sv text)
{
    struct tool_parser *p;
    struct err e;

    if (tool_parser_open(&p, f, tools, &sink, NULL, &e) < 0)
        return;
    for (size_t i = 0; i < text.len; i += 7)
        tool_parser_push(p, (struct sv){ text.data + i, text.len - i < 7 ? text.len - i : 7 });
    tool_parser_finish(p);
    tool_parser_close(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static json_t *tools;
    struct template *t;
    struct tool_format *f;
    struct grammar *g;
    struct str text;
    struct err e;
    json_t *structure;

    if (size > 8192 || template_open(&t, (const char *)data, size, "t", &e) < 0)
        return 0;
    if (!tools)
        tools = json_loads("[{\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":"
                           "{\"s\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"}}}}}]", 0, NULL);
    if (tool_format_open(&f, t, SV("<s>"), SV("</s>"), &e) == 0) {
        const struct tool_wish must = { .tools = tools, .demand = TOOL_MUST, .parallel = true };

        str_init(&text, 0);
        tool_format_describe(f, &text);
        read_with(f, tools, sv_of(&text));
        read_with(f, tools, (struct sv){ (const char *)data, size });
        if (tool_grammar(&structure, f, &must, &e) == 0) {
            if (structure && grammar_from_structure(&g, structure, &e) == 0)
                grammar_close(g);
            json_decref(structure);
        }
        str_deinit(&text);
        tool_format_close(f);
    }
    template_close(t);
    return 0;
}
