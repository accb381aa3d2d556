/* tool_probe.c: conversations for templates; see tool_probe.h. */
#include "models/tool_probe.h"

#include <string.h>

#include "models/template_vars.h"

const char *probe_id(const struct probe *p, unsigned i)
{
    static const char *const ids[PROBE_N_IDS][2] = {
        { "call_Kq8nZr4mWd2xJt6vHs1bLy3c", "call_Tg5pRw9kXf7mBn2hVz4jQd8s" },
        { "Xk7Rm2Qp4", "Bz9Tn5Wd3" },
        { "functions." PROBE_NAME1 ":0", "functions." PROBE_NAME2 ":1" },
    };

    return ids[p->ids][i];
}

static json_t *one_tool(const char *name)
{
    return json_pack("{s:s,s:{s:s,s:s,s:{s:s,s:{s:{s:s,s:s},s:{s:s,s:s}},s:[s,s]}}}", "type",
                     "function", "function", "name", name, "description", "Does something",
                     "parameters", "type", "object", "properties", PROBE_KEY1, "type", "string",
                     "description", "A text", PROBE_KEY2, "type", "integer", "description",
                     "A number", "required", PROBE_KEY1, PROBE_KEY2);
}

static json_t *one_call(const struct probe *p, unsigned i)
{
    const char *name = i == 0 ? PROBE_NAME1 : PROBE_NAME2;
    json_t *args;

    if (p->string_arguments)
        args = json_string("{\"" PROBE_KEY1 "\": \"" PROBE_VALUE1 "\", \"" PROBE_KEY2 "\": "
                           PROBE_VALUE2_TEXT "}");
    else
        args = json_pack("{s:s,s:i}", PROBE_KEY1, PROBE_VALUE1, PROBE_KEY2, PROBE_VALUE2);
    return json_pack("{s:s,s:s,s:{s:s,s:o}}", "id", probe_id(p, i), "type", "function", "function",
                     "name", name, "arguments", args);
}

static json_t *assistant(const struct probe *p, const struct probe_turn *turn)
{
    json_t *m = json_pack("{s:s}", "role", "assistant"), *calls;

    if (turn->content || !p->null_content)
        (void)json_object_set_new(m, "content", json_string(turn->content ? turn->content : ""));
    else
        (void)json_object_set_new(m, "content", json_null());
    if (turn->thought_key)
        (void)json_object_set_new(m, turn->thought_key, json_string(PROBE_THOUGHT));
    if (turn->n_calls > 0) {
        calls = json_array();
        for (unsigned i = 0; i < turn->n_calls; i++)
            (void)json_array_append_new(calls, one_call(p, i));
        (void)json_object_set_new(m, "tool_calls", calls);
    }
    return m;
}

bool probe_render(const struct probe *p, const struct probe_turn *turn, struct str *out)
{
    struct template_input in = {
        .bos_token = p->bos, .eos_token = p->eos, .has_now = true,
        .limits = { .output_bytes = (size_t)1 << 20, .memory_bytes = (size_t)16 << 20,
                    .steps = 5000000, .iterations = 200000, .time_ms = 200 },
    };
    json_t *messages = json_pack("[{s:s,s:s}]", "role", "user", "content", PROBE_USER), *vars;
    struct err e = { 0 };
    size_t at;
    int rc;

    if (!turn->prompt)
        (void)json_array_append_new(messages, assistant(p, turn));
    vars = json_pack("{s:o,s:b}", "messages", messages, "add_generation_prompt", turn->prompt);
    if (!turn->no_tools)
        (void)json_object_set_new(vars, "tools", json_pack("[o,o]", one_tool(PROBE_NAME1),
                                                           one_tool(PROBE_NAME2)));
    if (turn->thinking != PROBE_THINK_UNSAID) {
        (void)json_object_set_new(vars, "enable_thinking",
                                  json_boolean(turn->thinking == PROBE_THINK_ON));
        (void)json_object_set_new(vars, "thinking", json_boolean(turn->thinking == PROBE_THINK_ON));
    }
    in.vars = vars;
    str_reset(out);
    rc = vars ? template_render_chat(p->t, &in, out, &e) : -1;
    json_decref(vars);
    if (rc < 0 || out->len == 0)
        return false;
    for (at = out->len; at >= strlen(PROBE_USER); at--)
        if (memcmp(out->data + at - strlen(PROBE_USER), PROBE_USER, strlen(PROBE_USER)) == 0) {
            memmove(out->data, out->data + at, out->len - at);
            out->len -= at;
            out->data[out->len] = '\0';
            return true;
        }
    return false;
}
