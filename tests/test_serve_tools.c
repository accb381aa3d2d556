/* Tools and thinking over HTTP: calls that are demanded come as calls in every API, whole and as
 * streams; schemas that can't be enforced are refused; thinking is told apart, counted, bounded and
 * switched off. The model is a tiny one that says anything: what it may say is all that holds it. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "serve_rig.h"

static const char template_text[] =
    "{% for m in messages %}[{{ m.role }}]{% if m.reasoning_content is defined %}<think>"
    "{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}{% for c in m.tool_calls or [] %}"
    "<call>{\"name\": \"{{ c.function.name }}\", \"arguments\": {{ c.function.arguments | tojson }}}"
    "</call>{% endfor %}[end]{% endfor %}{% if tools %}{{ tools | length }}{% endif %}"
    "{% if add_generation_prompt %}[assistant]{% if enable_thinking is defined and enable_thinking %}"
    "<think>{% elif enable_thinking is defined %}<think></think>{% endif %}{% endif %}";

#define PARAMETERS "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\",\"minimum\":0," \
    "\"maximum\":9},\"way\":{\"enum\":[\"up\",\"down\"]}},\"required\":[\"n\",\"way\"]," \
    "\"additionalProperties\":false}"
#define TOOLS "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"go\",\"parameters\":" PARAMETERS \
    "}},{\"type\":\"function\",\"function\":{\"name\":\"halt\"}}]"
#define THEIR_TOOLS "\"tools\":[{\"name\":\"go\",\"input_schema\":" PARAMETERS "},{\"name\":\"halt\"," \
    "\"input_schema\":{\"type\":\"object\"}}]"
#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define ASK(more) "{\"temperature\":0,\"max_tokens\":200," HI "," more "}"

static char template_path[] = "watt_tools_XXXXXX";

static int up(void **state)
{
    const char *more[3] = { "--template", template_path, NULL };
    const int fd = mkstemp(template_path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, template_text, sizeof template_text - 1),
                     (ssize_t)sizeof template_text - 1);
    (void)close(fd);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)tiny_make(state);
    start(&shared_server, more);
    return 0;
}

static int down(void **state)
{
    (void)unlink(template_path);
    return group_down(state);
}

/* The arguments of a call of `go`. */
static void check_go(const json_t *args)
{
    const char *way = json_string_value(json_object_get(args, "way"));

    assert_true(json_is_number(json_object_get(args, "n")));
    assert_non_null(way);
    assert_true(strcmp(way, "up") == 0 || strcmp(way, "down") == 0);
}

static json_t *args_of(const json_t *function)
{
    const char *text = json_string_value(json_object_get(function, "arguments"));
    json_t *args;

    assert_non_null(text);
    args = json_loads(text, 0, NULL);
    if (!json_is_object(args))
        fail_msg("arguments: %s", text);
    return args;
}

static const json_t *first_choice(const json_t *j)
{
    return json_array_get(json_object_get(j, "choices"), 0);
}

static const char *text_at(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));

    return s ? s : "";
}

/* Each call declared, its arguments as they should be; returns how many. */
static size_t check_calls(const json_t *calls)
{
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *call = json_array_get(calls, i), *fn = json_object_get(call, "function");
        const char *name = text_at(fn, "name");
        json_t *args = args_of(fn);

        assert_string_equal(text_at(call, "type"), "function");
        assert_memory_equal(text_at(call, "id"), "call_", 5);
        assert_true(strcmp(name, "go") == 0 || strcmp(name, "halt") == 0);
        if (strcmp(name, "go") == 0)
            check_go(args);
        else
            assert_int_equal(json_object_size(args), 0);
        json_decref(args);
    }
    return json_array_size(calls);
}

static void a_call_is_demanded(void **state)
{
    static const char *const choices[] = { "\"required\"", "\"any\"", "{\"type\":\"function\","
        "\"function\":{\"name\":\"go\"}}", "{\"type\":\"function\",\"name\":\"go\"}",
        "{\"type\":\"allowed_tools\",\"allowed_tools\":{\"mode\":\"required\",\"tools\":[{\"type\":"
        "\"function\",\"function\":{\"name\":\"go\"}}]}}" };
    char body[2048];

    (void)state;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        const json_t *choice, *message, *calls;
        json_t *j;

        (void)snprintf(body, sizeof body, ASK(TOOLS ",\"parallel_tool_calls\":false,"
                       "\"tool_choice\":%s"), choices[i]);
        assert_int_equal(post("/v1/chat/completions", body), 200);
        j = parsed();
        choice = first_choice(j);
        message = json_object_get(choice, "message");
        calls = json_object_get(message, "tool_calls");
        if (strcmp(text_at(choice, "finish_reason"), "tool_calls") != 0)
            fail_msg("%s: %s", choices[i], answer);
        assert_true(json_is_null(json_object_get(message, "content")));
        assert_int_equal(check_calls(calls), 1);
        if (i >= 2)
            assert_string_equal(text_at(json_object_get(json_array_get(calls, 0), "function"),
                                        "name"), "go");
        json_decref(j);
    }
}

/* Next event of an event stream in *at; NULL at its end. */
static json_t *next_event(const char **at)
{
    const char *p = strstr(*at, "data: "), *end;
    json_t *j;

    if (!p || strncmp(p + 6, "[DONE]", 6) == 0)
        return NULL;
    end = strchr(p, '\n');
    j = json_loadb(p + 6, (size_t)(end - p - 6), 0, NULL);
    assert_non_null(j);
    *at = end;
    return j;
}

static void calls_are_streamed(void **state)
{
    char name[64] = "", args[512] = "", id[64] = "";
    const char *at = answer, *finish = "";
    unsigned n_pieces = 0;
    json_t *j, *whole;

    (void)state;
    assert_int_equal(post("/v1/chat/completions", ASK(TOOLS ",\"stream\":true,\"logprobs\":true,"
                          "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"go\"}}")),
                     200);
    while ((j = next_event(&at))) {
        const json_t *choice = first_choice(j), *delta = json_object_get(choice, "delta");
        const json_t *call = json_array_get(json_object_get(delta, "tool_calls"), 0);
        const json_t *fn = json_object_get(call, "function");

        assert_int_equal(strlen(text_at(delta, "content")), 0);
        if (call) {
            assert_int_equal(json_integer_value(json_object_get(call, "index")), 0);
            if (n_pieces++ == 0) {
                (void)snprintf(name, sizeof name, "%s", text_at(fn, "name"));
                (void)snprintf(id, sizeof id, "%s", text_at(call, "id"));
            } else {
                assert_null(json_object_get(fn, "name"));
                assert_null(json_object_get(call, "id"));
            }
            (void)strncat(args, text_at(fn, "arguments"), sizeof args - strlen(args) - 1);
        }
        if (json_is_string(json_object_get(choice, "finish_reason")))
            finish = strcmp(text_at(choice, "finish_reason"), "tool_calls") == 0 ? "calls" : "other";
        json_decref(j);
    }
    assert_string_equal(name, "go");
    assert_string_equal(finish, "calls");
    assert_memory_equal(id, "call_", 5);
    assert_true(n_pieces >= 3);
    whole = json_loads(args, 0, NULL);
    check_go(whole);
    json_decref(whole);
}

static void anthropic_calls(void **state)
{
    const json_t *block;
    json_t *j;

    (void)state;
    assert_int_equal(post("/v1/messages", ASK(THEIR_TOOLS ",\"tool_choice\":{\"type\":\"tool\","
                          "\"name\":\"go\"}")), 200);
    j = parsed();
    assert_string_equal(text_at(j, "stop_reason"), "tool_use");
    block = json_array_get(json_object_get(j, "content"), 0);
    assert_string_equal(text_at(block, "type"), "tool_use");
    assert_string_equal(text_at(block, "name"), "go");
    assert_memory_equal(text_at(block, "id"), "toolu_", 6);
    check_go(json_object_get(block, "input"));
    json_decref(j);
    assert_int_equal(post("/v1/messages", ASK(THEIR_TOOLS ",\"tool_choice\":{\"type\":\"any\","
                          "\"disable_parallel_tool_use\":true}")), 200);
    j = parsed();
    assert_int_equal(json_array_size(json_object_get(j, "content")), 1);
    json_decref(j);
}

static void anthropic_streams_calls(void **state)
{
    static const char *const order[] = { "message_start", "ping", "content_block_start" };
    char args[512] = "", last[64] = "";
    const char *at = answer;
    unsigned n = 0;
    json_t *j, *whole;

    (void)state;
    assert_int_equal(post("/v1/messages", ASK(THEIR_TOOLS ",\"stream\":true,\"tool_choice\":{\"type\":"
                          "\"tool\",\"name\":\"go\"}")), 200);
    while ((j = next_event(&at))) {
        const char *type = text_at(j, "type");
        const json_t *delta = json_object_get(j, "delta");

        if (n < 3 && strcmp(type, "ping") != 0)
            assert_true(strcmp(type, order[n == 1 ? 2 : n]) == 0 || n == 2);
        n++;
        if (strcmp(type, "content_block_start") == 0)
            assert_string_equal(text_at(json_object_get(j, "content_block"), "type"), "tool_use");
        if (strcmp(text_at(delta, "type"), "input_json_delta") == 0)
            (void)strncat(args, text_at(delta, "partial_json"), sizeof args - strlen(args) - 1);
        if (strcmp(type, "message_delta") == 0)
            assert_string_equal(text_at(delta, "stop_reason"), "tool_use");
        (void)snprintf(last, sizeof last, "%s", type);
        json_decref(j);
    }
    assert_string_equal(last, "message_stop");
    whole = json_loads(args, 0, NULL);
    check_go(whole);
    json_decref(whole);
}

static void ollama_calls(void **state)
{
    const json_t *call;
    json_t *j;

    (void)state;
    assert_int_equal(post("/api/chat", "{" HI "," TOOLS ",\"stream\":false,\"tool_choice\":{\"type\":"
                          "\"function\",\"function\":{\"name\":\"go\"}},\"options\":{\"temperature\":0,"
                          "\"num_predict\":200}}"), 200);
    j = parsed();
    call = json_array_get(json_object_get(json_object_get(j, "message"), "tool_calls"), 0);
    call = json_object_get(call, "function");
    assert_string_equal(text_at(call, "name"), "go");
    check_go(json_object_get(call, "arguments"));
    json_decref(j);
}

#define FLAT_TOOLS "\"tools\":[{\"type\":\"function\",\"name\":\"go\",\"parameters\":" PARAMETERS "}]"

static void responses_calls(void **state)
{
    char args[512] = "", last[64] = "";
    const char *at = answer;
    const json_t *item;
    json_t *j, *whole;

    (void)state;
    assert_int_equal(post("/v1/responses", "{\"input\":\"hi\",\"temperature\":0," FLAT_TOOLS
                          ",\"max_output_tokens\":200,\"tool_choice\":\"required\","
                          "\"parallel_tool_calls\":false}"), 200);
    j = parsed();
    item = json_array_get(json_object_get(j, "output"), 0);
    assert_string_equal(text_at(item, "type"), "function_call");
    assert_string_equal(text_at(item, "name"), "go");
    whole = args_of(item);
    check_go(whole);
    json_decref(whole);
    json_decref(j);
    assert_int_equal(post("/v1/responses", "{\"input\":\"hi\",\"temperature\":0," FLAT_TOOLS
                          ",\"max_output_tokens\":200,\"tool_choice\":{\"type\":\"function\","
                          "\"name\":\"go\"},\"stream\":true}"), 200);
    while ((j = next_event(&at))) {
        const char *type = text_at(j, "type");

        if (strcmp(type, "response.function_call_arguments.delta") == 0)
            (void)strncat(args, text_at(j, "delta"), sizeof args - strlen(args) - 1);
        if (strcmp(type, "response.function_call_arguments.done") == 0)
            assert_string_equal(text_at(j, "arguments"), args);
        (void)snprintf(last, sizeof last, "%s", type);
        json_decref(j);
    }
    assert_string_equal(last, "response.completed");
    whole = json_loads(args, 0, NULL);
    check_go(whole);
    json_decref(whole);
}

/* Free text stays free; what begins like a call is one. */
static void none_and_auto(void **state)
{
    json_t *j;

    (void)state;
    assert_int_equal(post("/v1/chat/completions", ASK(TOOLS ",\"tool_choice\":\"none\"")), 200);
    j = parsed();
    assert_null(json_object_get(json_object_get(first_choice(j), "message"), "tool_calls"));
    json_decref(j);
    assert_int_equal(post("/v1/chat/completions", ASK(TOOLS)), 200);
    j = parsed();
    assert_null(strstr(answer, "<call>"));
    json_decref(j);
}

static void choices_and_drafts(void **state)
{
    json_t *j;

    (void)state;
    assert_int_equal(post("/v1/chat/completions", "{\"temperature\":1,\"seed\":5,\"n\":4,\"max_tokens\":"
                          "300,\"thinking_token_budget\":3," HI "," TOOLS ",\"tool_choice\":\"required\",\"parallel_tool_calls\":"
                          "false}"), 200);
    j = parsed();
    for (size_t i = 0; i < 4; i++) {
        const json_t *choice = json_array_get(json_object_get(j, "choices"), i);

        assert_string_equal(text_at(choice, "finish_reason"), "tool_calls");
        assert_int_equal(check_calls(json_object_get(json_object_get(choice, "message"),
                                                     "tool_calls")), 1);
    }
    json_decref(j);
}

static void refusals_name_what(void **state)
{
    static const struct { const char *body, *part; } cases[] = {
        { ASK("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a\",\"strict\":true,"
              "\"parameters\":{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"string\","
              "\"pattern\":\"(?=a)\"}}}}}]"), "pattern" },
        { ASK("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a\",\"parameters\":{\"$ref\":"
              "\"http://x/y\"}}}],\"tool_choice\":\"required\""), "$ref" },
        { ASK(TOOLS ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"b\"}}"),
          "tool_choice" },
        { ASK(TOOLS ",\"tool_choice\":\"sometimes\""), "sometimes" },
        { ASK("\"tool_choice\":\"required\""), "tool_choice" },
        { ASK("\"tools\":{}"), "\"param\":\"tools\"" },
        { ASK("\"tools\":[1]"), "tools[0]: expected an object" },
        { ASK("\"tools\":[{\"type\":\"plumber\"}]"), "plumber" },
        { ASK("\"tools\":[{\"type\":\"function\"}]"), "tools[0].function" },
        { ASK("\"tools\":[{\"function\":{}}]"), "tools[0].function.name" },
        { ASK("\"tools\":[{\"function\":{\"name\":\"\"}}]"), "tools[0].function.name: is empty" },
        { ASK("\"tools\":[{\"function\":{\"name\":\"f\",\"parameters\":1}}]"), "expected a schema" },
        { ASK("\"response_format\":{\"type\":\"structural_tag\",\"format\":{\"type\":\"magic\"}}"),
          "magic" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (post("/v1/chat/completions", cases[i].body) != 400 || !strstr(answer, cases[i].part))
            fail_msg("%s: %s", cases[i].body, answer);
}

static void structural_tags(void **state)
{
    static const char *const bodies[] = {
        ASK("\"response_format\":{\"type\":\"structural_tag\",\"format\":{\"type\":\"sequence\","
            "\"elements\":[{\"type\":\"const_string\",\"value\":\"go \"},{\"type\":\"or\",\"elements\":["
            "{\"type\":\"const_string\",\"value\":\"up\"},{\"type\":\"const_string\",\"value\":"
            "\"down\"}]}]}}"),
        ASK("\"structured_outputs\":{\"structural_tag\":\"{\\\"type\\\":\\\"structural_tag\\\",\\\"format"
            "\\\":{\\\"type\\\":\\\"regex\\\",\\\"pattern\\\":\\\"go (up|down)\\\"}}\"}"),
    };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const char *text;
        json_t *j;

        assert_int_equal(post("/v1/chat/completions", bodies[i]), 200);
        j = parsed();
        text = text_at(json_object_get(first_choice(j), "message"), "content");
        if (strcmp(text, "go up") != 0 && strcmp(text, "go down") != 0)
            fail_msg("%s", answer);
        json_decref(j);
    }
}

/* ---- thinking ---- */

static json_int_t reasoning_tokens(const json_t *j)
{
    return json_integer_value(json_object_get(json_object_get(json_object_get(j, "usage"),
        "completion_tokens_details"), "reasoning_tokens"));
}

static void budgets_are_exact(void **state)
{
    static const unsigned budgets[] = { 0, 1, 7 };
    char body[1024];

    (void)state;
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        const json_t *message;
        json_t *j;

        (void)snprintf(body, sizeof body, "{\"temperature\":0,\"max_tokens\":60,\"ignore_eos\":true," HI
                       ",\"chat_template_kwargs\":{\"enable_thinking\":true},"
                       "\"thinking_token_budget\":%u}", budgets[i]);
        assert_int_equal(post("/v1/chat/completions", body), 200);
        j = parsed();
        message = json_object_get(first_choice(j), "message");
        if (reasoning_tokens(j) != budgets[i])
            fail_msg("%u: %s", budgets[i], answer);
        assert_string_equal(text_at(message, "reasoning"), text_at(message, "reasoning_content"));
        if (budgets[i] != 1)            /* one token may be white space */
            assert_int_equal(budgets[i] > 0, strlen(text_at(message, "reasoning")) > 0);
        assert_null(strstr(text_at(message, "content"), "</think>"));
        assert_true(strlen(text_at(message, "content")) > 0);
        json_decref(j);
    }
}

static void reasoning_in_the_answer(void **state)
{
    const json_t *message;
    json_t *j;

    (void)state;
    assert_int_equal(post("/v1/chat/completions", "{\"temperature\":0,\"max_tokens\":40,\"ignore_eos\":"
                          "true," HI ",\"chat_template_kwargs\":{\"enable_thinking\":true},"
                          "\"thinking_token_budget\":4,\"reasoning_format\":\"none\"}"), 200);
    j = parsed();
    message = json_object_get(first_choice(j), "message");
    assert_null(json_object_get(message, "reasoning"));
    assert_non_null(strstr(text_at(message, "content"), "</think>"));
    json_decref(j);
    assert_int_equal(post("/v1/chat/completions", "{" HI ",\"reasoning_format\":\"loud\"}"), 400);
}

static void anthropic_budget(void **state)
{
    const json_t *content;
    json_t *j;

    (void)state;
    assert_int_equal(post("/v1/messages", "{\"temperature\":0,\"max_tokens\":60,\"ignore_eos\":true," HI
                          ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":5}}"), 200);
    j = parsed();
    content = json_object_get(j, "content");
    assert_string_equal(text_at(json_array_get(content, 0), "type"), "thinking");
    assert_string_equal(text_at(json_array_get(content, 1), "type"), "text");
    json_decref(j);
    assert_int_equal(post("/v1/messages", "{\"temperature\":0,\"max_tokens\":20,\"ignore_eos\":true," HI
                          ",\"thinking\":{\"type\":\"disabled\"}}"), 200);
    j = parsed();
    assert_string_equal(text_at(json_array_get(json_object_get(j, "content"), 0), "type"), "text");
    json_decref(j);
}

/* The grammar begins behind the reasoning. */
static void thinking_then_calls(void **state)
{
    const json_t *message;
    json_t *j;

    (void)state;
    assert_int_equal(post("/v1/chat/completions", ASK(TOOLS ",\"tool_choice\":{\"type\":\"function\","
                          "\"function\":{\"name\":\"go\"}},\"chat_template_kwargs\":{\"enable_thinking\":"
                          "true},\"thinking_token_budget\":6")), 200);
    j = parsed();
    message = json_object_get(first_choice(j), "message");
    if (check_calls(json_object_get(message, "tool_calls")) != 1)
        fail_msg("%s", answer);
    assert_true(strlen(text_at(message, "reasoning")) > 0);
    assert_int_equal(reasoning_tokens(j), 6);
    json_decref(j);
    assert_int_equal(post("/v1/chat/completions", ASK("\"response_format\":{\"type\":\"json_schema\","
                          "\"json_schema\":{\"schema\":{\"enum\":[\"a\",\"b\"]}}},"
                          "\"chat_template_kwargs\":{\"enable_thinking\":true},"
                          "\"thinking_token_budget\":3")), 200);
    j = parsed();
    message = json_object_get(first_choice(j), "message");
    assert_true(strcmp(text_at(message, "content"), "\"a\"") == 0 ||
                strcmp(text_at(message, "content"), "\"b\"") == 0);
    assert_int_equal(reasoning_tokens(j), 3);
    json_decref(j);
}

/* What the vendors' own services run: the prompt is the one without them; nothing else, or demanded, it
 * is refused. */
static void their_tools_are_left_out(void **state)
{
#define OURS "{\"type\":\"function\",\"name\":\"halt\",\"parameters\":{\"type\":\"object\"}}"
#define ANTHROPICS "{\"name\":\"halt\",\"input_schema\":{\"type\":\"object\"}}"
    static const struct { const char *path, *one, *more, *demanded, *alone; } cases[] = {
        { "/v1/responses/input_tokens", "{\"input\":\"hi\",\"tools\":[" OURS "]}",
          "{\"input\":\"hi\",\"tools\":[{\"type\":\"web_search\"}," OURS ",{\"type\":\"custom\",\"name\":\"patch\"},"
          "{\"type\":\"namespace\",\"tools\":[]}]}",
          "{\"input\":\"hi\",\"tools\":[{\"type\":\"web_search\"}," OURS "],\"tool_choice\":{\"type\":\"web_search\"}}",
          "{\"input\":\"hi\",\"tools\":[{\"type\":\"web_search\"}]}" },
        { "/v1/messages/count_tokens", "{" HI ",\"tools\":[" ANTHROPICS "]}",
          "{" HI ",\"tools\":[" ANTHROPICS ",{\"type\":\"web_search_20250305\",\"name\":\"web_search\"}]}",
          "{" HI ",\"max_tokens\":4,\"tools\":[" ANTHROPICS ",{\"type\":\"web_search_20250305\",\"name\":\"web_search\"}],"
          "\"tool_choice\":{\"type\":\"tool\",\"name\":\"web_search\"}}",
          "{" HI ",\"tools\":[{\"type\":\"web_search_20250305\",\"name\":\"web_search\"}]}" },
    };

    (void)state;
    for (int i = 0; i < 2; i++) {
        json_int_t n;
        json_t *j;

        assert_int_equal(post(cases[i].path, cases[i].one), 200);
        j = parsed();
        n = json_integer_value(json_object_get(j, "input_tokens"));
        assert_true(n > 0);
        json_decref(j);
        if (post(cases[i].path, cases[i].more) != 200)
            fail_msg("%s", answer);
        j = parsed();
        assert_int_equal(json_integer_value(json_object_get(j, "input_tokens")), n);
        json_decref(j);
        if (post(i ? "/v1/messages" : "/v1/responses", cases[i].demanded) != 400)
            fail_msg("%s", answer);
        assert_non_null(strstr(answer, "web_search"));
        assert_int_equal(post(cases[i].path, cases[i].alone), 400);
        assert_non_null(strstr(answer, "tools[0]"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_is_demanded),
        cmocka_unit_test(calls_are_streamed),
        cmocka_unit_test(anthropic_calls),
        cmocka_unit_test(anthropic_streams_calls),
        cmocka_unit_test(ollama_calls),
        cmocka_unit_test(responses_calls),
        cmocka_unit_test(none_and_auto),
        cmocka_unit_test(choices_and_drafts),
        cmocka_unit_test(refusals_name_what),
        cmocka_unit_test(structural_tags),
        cmocka_unit_test(budgets_are_exact),
        cmocka_unit_test(reasoning_in_the_answer),
        cmocka_unit_test(anthropic_budget),
        cmocka_unit_test(thinking_then_calls),
        cmocka_unit_test(their_tools_are_left_out),
    };

    return cmocka_run_group_tests(tests, up, down);
}
