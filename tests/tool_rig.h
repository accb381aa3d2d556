/* tool_rig.h: what the tests of tool calls share: a sink that writes down what it is told. Include
 * after cmocka.h. */
#ifndef TESTS_TOOL_RIG_H
#define TESTS_TOOL_RIG_H

#include <string.h>

#include "models/tool_parser.h"

#define RIG_NAME  (TOOL_NAME_MAX_BYTES + 1)
#define RIG_CALLS 8u

struct rig_call {
    char       name[RIG_NAME], id[RIG_NAME];
    struct str args;
    bool       begun, ended, complete;
};

struct rig {
    struct str      content, reasoning;
    struct rig_call calls[RIG_CALLS];
    uint32_t        n_calls;
};

static void rig_init(struct rig *r)
{
    memset(r, 0, sizeof *r);
    str_init(&r->content, 0);
    str_init(&r->reasoning, 0);
    for (size_t i = 0; i < RIG_CALLS; i++)
        str_init(&r->calls[i].args, 0);
}

static void rig_deinit(struct rig *r)
{
    str_deinit(&r->content);
    str_deinit(&r->reasoning);
    for (size_t i = 0; i < RIG_CALLS; i++)
        str_deinit(&r->calls[i].args);
}

static void rig_content(void *ctx, struct sv text)
{
    assert_true(text.len > 0);
    str_append(&((struct rig *)ctx)->content, text.data, text.len);
}

static void rig_reasoning(void *ctx, struct sv text)
{
    str_append(&((struct rig *)ctx)->reasoning, text.data, text.len);
}

static void rig_copy(char out[RIG_NAME], struct sv s)
{
    assert_true(s.len < RIG_NAME);
    memcpy(out, s.data, s.len);
    out[s.len] = '\0';
}

static void rig_begin(void *ctx, uint32_t call, struct sv name, struct sv id)
{
    struct rig *r = ctx;

    assert_int_equal(call, r->n_calls);
    assert_true(r->n_calls < RIG_CALLS);
    r->n_calls++;
    rig_copy(r->calls[call].name, name);
    rig_copy(r->calls[call].id, id);
    r->calls[call].begun = true;
}

static void rig_arguments(void *ctx, uint32_t call, struct sv json)
{
    struct rig *r = ctx;

    assert_true(call + 1 == r->n_calls && r->calls[call].begun && !r->calls[call].ended);
    assert_true(json.len > 0);
    str_append(&r->calls[call].args, json.data, json.len);
}

static void rig_end(void *ctx, uint32_t call, bool complete)
{
    struct rig *r = ctx;

    assert_true(call + 1 == r->n_calls && !r->calls[call].ended);
    r->calls[call].ended = true;
    r->calls[call].complete = complete;
}

static const struct tool_sink rig_sink = {
    .content = rig_content, .reasoning = rig_reasoning, .begin = rig_begin,
    .arguments = rig_arguments, .end = rig_end,
};

/* Parses text in pieces of n bytes. */
static void rig_parse(struct rig *r, const struct tool_format *f, const json_t *tools,
                      struct sv text, size_t n)
{
    struct tool_parser *p = NULL;
    struct err e = { 0 };

    rig_init(r);
    assert_int_equal(tool_parser_open(&p, f, tools, &rig_sink, r, &e), 0);
    for (size_t i = 0; i < text.len; i += n)
        tool_parser_push(p, (struct sv){ text.data + i, text.len - i < n ? text.len - i : n });
    tool_parser_finish(p);
    assert_true(tool_parser_ok(p));
    tool_parser_close(p);
    for (uint32_t i = 0; i < r->n_calls; i++)
        assert_true(r->calls[i].ended);
}

#endif
