/* test_serve_apis.c: the other APIs of `watt serve`: each one's requests, streams and errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "serve_json.h"

/* ---- Anthropic ---- */

#define SAY_HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

/* The order of events, and the text of their deltas. */
static void read_events(char *order, char *text, size_t cap, json_t **start, json_t **last)
{
    size_t n = 0, len = 0;

    order[0] = text[0] = '\0';
    *start = *last = NULL;
    for (char *p = answer; (p = strstr(p, "event: ")); p += 7) {
        char *data = strstr(p, "\ndata: "), *end = data ? strstr(data, "\n\n") : NULL;
        const char *type, *t;
        json_t *j;

        assert_non_null(end);
        j = json_loadb(data + 7, (size_t)(end - data - 7), 0, NULL);
        type = json_string_value(json_object_get(j, "type"));
        assert_non_null(type);
        assert_int_equal(strncmp(p + 7, type, (size_t)(data - p - 7)), 0);
        t = json_string_value(at(j, "delta.text"));
        if (t)
            len += (size_t)snprintf(text + len, cap - len, "%s", t);
        if (strcmp(type, "ping") != 0 && (!t || n < 2 || strcmp(order + n - 2, "d ") != 0))
            n += (size_t)snprintf(order + n, cap - n, "%s ",
                                  t ? "d" : strcmp(type, "content_block_delta") == 0 ? "?" : type);
        if (strcmp(type, "message_start") == 0)
            *start = json_incref(j);
        if (strcmp(type, "message_delta") == 0)
            *last = json_incref(j);
        json_decref(j);
    }
}

static void messages_whole_and_streamed(void **state)
{
    static const char body[] = "{\"model\":\"tiny\",\"max_tokens\":12,\"temperature\":0,"
        "\"ignore_eos\":true,\"system\":[{\"type\":\"text\",\"text\":\"x-anthropic-billing-header: cch=%d\"},"
        "{\"type\":\"text\",\"text\":\"Be brief.\",\"cache_control\":{\"type\":\"ephemeral\"}}],"
        "\"stream\":%s," SAY_HI "}";
    char request[1024], whole[4096], order[4096], text[4096];
    json_t *j, *first, *last;

    (void)state;
    (void)snprintf(request, sizeof request, body, 1, "false");
    assert_int_equal(post("/v1/messages", request), 200);
    j = parsed();
    assert_string_equal(text_at(j, "type"), "message");
    assert_string_equal(text_at(j, "role"), "assistant");
    assert_string_equal(text_at(j, "content.0.type"), "text");
    assert_string_equal(text_at(j, "stop_reason"), "max_tokens");
    assert_true(json_is_null(at(j, "stop_sequence")));
    assert_int_equal(int_at(j, "usage.output_tokens"), 12);
    assert_true(int_at(j, "usage.input_tokens") > 0);
    (void)snprintf(whole, sizeof whole, "%s", text_at(j, "content.0.text"));
    json_decref(j);
    (void)snprintf(request, sizeof request, body, 2, "true");   /* the mark changes nothing */
    assert_int_equal(post("/v1/messages", request), 200);
    assert_non_null(strstr(head, "text/event-stream"));
    read_events(order, text, sizeof order, &first, &last);
    assert_string_equal(order, "message_start content_block_start d content_block_stop "
                               "message_delta message_stop ");
    assert_string_equal(text, whole);
    assert_int_equal(int_at(last, "usage.output_tokens"), 12);
    assert_string_equal(text_at(last, "delta.stop_reason"), "max_tokens");
    assert_true(int_at(last, "usage.cache_read_input_tokens") >= 0);
    json_decref(first);
    json_decref(last);
}

static void stop_sequences_are_told(void **state)
{
    char request[1024], whole[256], stop_at[3] = "";
    json_t *j;

    (void)state;
    assert_int_equal(post("/v1/messages", "{\"max_tokens\":20,\"temperature\":0," SAY_HI "}"), 200);
    j = parsed();
    (void)snprintf(whole, sizeof whole, "%s", text_at(j, "content.0.text"));
    json_decref(j);
    for (size_t i = 1; whole[i] && !stop_at[0]; i++)    /* a letter that comes */
        if ((whole[i] >= 'a' && whole[i] <= 'z') || (whole[i] >= 'A' && whole[i] <= 'Z'))
            stop_at[0] = whole[i];
    if (!stop_at[0])
        skip();
    (void)snprintf(request, sizeof request, "{\"max_tokens\":20,\"temperature\":0,"
                   "\"stop_sequences\":[\"never this\",\"%s\"]," SAY_HI "}", stop_at);
    assert_int_equal(post("/v1/messages", request), 200);
    j = parsed();
    assert_string_equal(text_at(j, "stop_reason"), "stop_sequence");
    assert_string_equal(text_at(j, "stop_sequence"), stop_at);
    json_decref(j);
}

static void tools_and_results_are_counted(void **state)
{
    static const char plain[] = "{" SAY_HI "}";
    static const char rich[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},"
        "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\","
        "\"signature\":\"\"},{\"type\":\"text\",\"text\":\"I look.\"},{\"type\":\"tool_use\",\"id\":"
        "\"t1\",\"name\":\"look\",\"input\":{\"where\":\"here\"}}]},{\"role\":\"user\",\"content\":["
        "{\"type\":\"tool_result\",\"tool_use_id\":\"t1\",\"content\":[{\"type\":\"text\",\"text\":"
        "\"nothing\"}]},{\"type\":\"text\",\"text\":\"And now?\"}]}]}";
    long long n;
    json_t *j;

    (void)state;
    assert_int_equal(post("/v1/messages/count_tokens", plain), 200);
    j = parsed();
    n = int_at(j, "input_tokens");
    json_decref(j);
    assert_int_equal(post("/v1/messages/count_tokens", rich), 200);
    j = parsed();
    assert_true(int_at(j, "input_tokens") > n + 10);
    json_decref(j);
}

static long long tokens_of_result(const char *content, const char *more)
{
    char body[512];
    long long n;
    json_t *j;

    (void)snprintf(body, sizeof body, "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":"
                   "\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"f\",\"input\":{}}]},"
                   "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"t1\","
                   "\"content\":\"%s\"%s}]}]}", content, more);
    if (post("/v1/messages/count_tokens", body) != 200)
        fail_msg("%s: %s", body, answer);
    j = parsed();
    n = int_at(j, "input_tokens");
    json_decref(j);
    return n;
}

/* The model sees that a call failed; who says so already is left alone. */
static void failed_calls_are_marked(void **state)
{
    static const char failed[] = ",\"is_error\":true";
    static const char *const said[] = { "Error: no", "ERROR no", "<tool_use_error>no</tool_use_error>",
                                        " [error] no", "error" };

    (void)state;
    assert_int_equal(tokens_of_result("no file", failed), tokens_of_result("Error: no file", ""));
    assert_int_equal(tokens_of_result("", failed), tokens_of_result("Error", ""));
    assert_int_equal(tokens_of_result("no file", ",\"is_error\":false"), tokens_of_result("no file", ""));
    assert_true(tokens_of_result("no file", failed) > tokens_of_result("no file", ""));
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        assert_int_equal(tokens_of_result(said[i], failed), tokens_of_result(said[i], ""));
    assert_int_equal(post("/v1/messages", "{\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":["
        "{\"type\":\"tool_result\",\"tool_use_id\":\"t\",\"content\":\"x\",\"is_error\":\"yes\"}]}]}"), 400);
    assert_non_null(strstr(answer, "is_error"));
}

/* A template that opens the reasoning: all that comes is reasoning. */
static void start_thinking(struct server *s)
{
    static const char source[] = "{% for m in messages %}{{ m.content }}{% endfor %}<think>\n";
    static char path[80];
    const char *more[] = { "--template", path, NULL };
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/think.jinja", tiny_dir);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(source, f) >= 0);
    assert_int_equal(fclose(f), 0);
    start(s, more);
    (void)remove(path);
}

static void reasoning_is_a_block(void **state)
{
    static const char body[] = "{\"max_tokens\":9,\"temperature\":0,\"ignore_eos\":true,"
                               "\"stream\":%s," SAY_HI "}";
    char request[512], order[4096], text[4096];
    json_t *j, *first, *last;
    struct server s;

    (void)state;
    start_thinking(&s);
    (void)snprintf(request, sizeof request, body, "false");
    assert_int_equal(ask(&s, "POST", "/v1/messages", "", request), 200);
    j = parsed();
    assert_string_equal(text_at(j, "content.0.type"), "thinking");
    assert_true(strlen(text_at(j, "content.0.thinking")) > 0);
    json_decref(j);
    (void)snprintf(request, sizeof request, body, "true");
    assert_int_equal(ask(&s, "POST", "/v1/messages", "", request), 200);
    read_events(order, text, sizeof order, &first, &last);
    assert_non_null(strstr(answer, "\"thinking_delta\""));
    assert_non_null(strstr(answer, "\"signature_delta\""));
    assert_int_equal(strncmp(order, "message_start content_block_start ? ", 36), 0);
    json_decref(first);
    json_decref(last);
    assert_int_equal(stop(&s), 0);
}

static void anthropic_errors(void **state)
{
    static const struct wrong cases[] = {
        { "/v1/messages", "{\"max_tokens\":", 400, "request body" },
        { "/v1/messages", "{" SAY_HI "}", 400, "max_tokens" },
        { "/v1/messages", "{\"max_tokens\":0," SAY_HI "}", 400, "max_tokens" },
        { "/v1/messages", "{\"max_tokens\":5}", 400, "messages" },
        { "/v1/messages", "{\"max_tokens\":5," SAY_HI ",\"tools\":[{\"type\":\"web_search_20250305\","
          "\"name\":\"web_search\"}]}", 400, "tools[0]: type 'web_search_20250305'" },
        { "/v1/messages", "{\"max_tokens\":5," SAY_HI ",\"mcp_servers\":[{}]}", 400, "mcp_servers" },
        { "/v1/messages", "{\"max_tokens\":5,\"messages\":[]}", 400, "messages" },
        { "/v1/messages", "{\"max_tokens\":5,\"messages\":[{\"role\":\"tool\",\"content\":\"\"}]}", 400,
          "role" },
        { "/v1/messages", "{\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
          "\"image\"}]}]}", 400, "image" },
        { "/v1/messages", "{\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
          "\"tool_use\",\"name\":\"x\",\"input\":{}}]}]}", 400, "assistant" },
        { "/v1/messages", "{\"max_tokens\":5,\"system\":7," SAY_HI "}", 400, "system" },
        { "/v1/messages", "{\"max_tokens\":5,\"thinking\":{\"type\":\"much\"}," SAY_HI "}", 400,
          "thinking" },
        { "/v1/messages", "{\"max_tokens\":5,\"tool_choice\":{\"type\":\"any\"}," SAY_HI "}", 400,
          "tool_choice" },
        { "/v1/messages", "{\"max_tokens\":5,\"temperature\":\"x\"," SAY_HI "}", 400, "temperature" },
        { "/v1/messages", "{\"max_tokens\":5,\"model\":\"claude\"," SAY_HI "}", 404,
          "not_found_error" },
        { "/v1/messages/batches", "{}", 404, "not_found_error" },
    };

    (void)state;
    refuses(cases, sizeof cases / sizeof *cases, "{\"type\":\"error\",\"error\":{\"type\":");
}

/* ---- Ollama ---- */

/* Lines of a stream: their texts, and the last one. */
static json_t *read_lines(const char *way, char *text, size_t cap, unsigned *n)
{
    json_t *j = NULL;
    size_t len = 0;

    *n = 0;
    text[0] = '\0';
    for (char *p = answer; *p; ++*n) {
        char *end = strchr(p, '\n');

        assert_non_null(end);
        json_decref(j);
        j = json_loadb(p, (size_t)(end - p), 0, NULL);
        assert_true(json_is_object(j));
        assert_int_equal(json_is_true(at(j, "done")), end[1] == '\0');
        len += (size_t)snprintf(text + len, cap - len, "%s", text_at(j, way));
        p = end + 1;
    }
    assert_true(*n > 1);
    return j;
}

static void chats_and_generates(void **state)
{
    static const struct { const char *path, *body, *way; } apis[] = {
        { "/api/chat", "{\"model\":\"tiny:latest\"," SAY_HI ",\"options\":{\"num_predict\":10,"
          "\"temperature\":0,\"ignore_eos\":true,\"num_ctx\":64},\"keep_alive\":\"5m\"%s}",
          "message.content" },
        { "/api/generate", "{\"model\":\"tiny\",\"prompt\":\"hi\",\"system\":\"s\",\"options\":{"
          "\"num_predict\":10,\"temperature\":0,\"ignore_eos\":true,\"repeat_last_n\":-1},"
          "\"context\":[]%s}", "response" },
        { "/api/generate", "{\"prompt\":\"hi\",\"raw\":true,\"options\":{\"num_predict\":10,"
          "\"temperature\":0,\"ignore_eos\":true}%s}", "response" },
    };
    static const char *const times[] = { "total_duration", "load_duration", "prompt_eval_duration",
                                         "eval_duration", "prompt_eval_count", "eval_count" };

    (void)state;
    for (size_t i = 0; i < sizeof apis / sizeof *apis; i++) {
        char request[1024], text[4096];
        unsigned n;
        json_t *j;

        (void)snprintf(request, sizeof request, apis[i].body, "");
        assert_int_equal(post(apis[i].path, request), 200);
        assert_non_null(strstr(head, "application/x-ndjson"));
        j = read_lines(apis[i].way, text, sizeof text, &n);
        assert_string_equal(text_at(j, "done_reason"), "length");
        for (size_t k = 0; k < sizeof times / sizeof *times; k++)
            assert_true(int_at(j, times[k]) >= (k != 1));
        assert_int_equal(int_at(j, "eval_count"), 10);
        assert_true(int_at(j, "total_duration") >= int_at(j, "eval_duration"));
        json_decref(j);
        (void)snprintf(request, sizeof request, apis[i].body, ",\"stream\":false");
        assert_int_equal(post(apis[i].path, request), 200);
        j = parsed();
        assert_string_equal(text_at(j, apis[i].way), text);
        assert_true(json_is_true(at(j, "done")));
        json_decref(j);
    }
}

static void formats_and_thoughts(void **state)
{
    struct server s;
    json_t *j;

    (void)state;
    assert_int_equal(post("/api/chat", "{" SAY_HI ",\"stream\":false,\"format\":{\"enum\":[\"a\","
                          "\"b\"]},\"options\":{\"num_predict\":20}}"), 200);
    j = parsed();
    assert_true(strcmp(text_at(j, "message.content"), "\"a\"") == 0 ||
                strcmp(text_at(j, "message.content"), "\"b\"") == 0);
    assert_string_equal(text_at(j, "done_reason"), "stop");
    json_decref(j);
    start_thinking(&s);
    assert_int_equal(ask(&s, "POST", "/api/chat", "", "{" SAY_HI ",\"stream\":false,\"think\":true,"
                         "\"options\":{\"num_predict\":9,\"ignore_eos\":true,\"seed\":1}}"), 200);
    j = parsed();
    assert_true(strlen(text_at(j, "message.thinking")) > 0);
    assert_string_equal(text_at(j, "message.content"), "");
    json_decref(j);
    assert_int_equal(stop(&s), 0);
}

static void ollama_shows_its_model(void **state)
{
    unsigned v[3];
    json_t *j;

    (void)state;
    assert_int_equal(ask(&shared_server, "GET", "/", "", ""), 200);
    assert_string_equal(answer, "Ollama is running");
    assert_int_equal(ask(&shared_server, "HEAD", "/", "", ""), 200);
    assert_int_equal(ask(&shared_server, "GET", "/api/tags", "", ""), 200);
    j = parsed();
    assert_string_equal(text_at(j, "models.0.model"), "tiny");
    assert_int_equal(strlen(text_at(j, "models.0.digest")), 64);
    assert_true(int_at(j, "models.0.size") > 0);
    assert_string_equal(text_at(j, "models.0.details.family"), "llama");
    json_decref(j);
    assert_int_equal(ask(&shared_server, "GET", "/api/ps", "", ""), 200);
    j = parsed();
    assert_int_equal(int_at(j, "models.0.context_length"), TINY_CTX);
    json_decref(j);
    assert_int_equal(post("/api/show", "{\"name\":\"tiny\"}"), 200);
    j = parsed();
    assert_string_equal(text_at(j, "capabilities.0"), "completion");
    assert_int_equal(json_integer_value(json_object_get(at(j, "model_info"),
                                                        "llama.context_length")), TINY_CTX);
    json_decref(j);
    assert_int_equal(post("/api/pull", "{\"model\":\"tiny\"}"), 200);
    assert_string_equal(answer, "{\"status\":\"success\"}");
    assert_int_equal(ask(&shared_server, "GET", "/api/version", "", ""), 200);
    j = parsed();                       /* three numbers, from 0.6.4 on: others are turned away */
    assert_int_equal(sscanf(text_at(j, "version"), "%u.%u.%u", &v[0], &v[1], &v[2]), 3);
    assert_true(v[0] * 1000000 + v[1] * 1000 + v[2] >= 6004);
    json_decref(j);
    assert_int_equal(post("/api/chat", "{\"model\":\"tiny\",\"keep_alive\":0.0}"), 200);
    assert_non_null(strstr(answer, "\"unload\""));
    assert_int_equal(post("/api/generate", "{\"model\":\"tiny\",\"keep_alive\":0}"), 200);
    assert_non_null(strstr(answer, "\"done_reason\":\"unload\""));
    assert_int_equal(post("/api/chat", "{\"model\":\"tiny\",\"messages\":[]}"), 200);
    assert_non_null(strstr(answer, "\"done_reason\":\"load\""));
}

static void ollama_errors(void **state)
{
    static const struct wrong cases[] = {
        { "/api/chat", "{", 400, "request body" },
        { "/api/chat", "{\"messages\":7}", 400, "messages" },
        { "/api/chat", "{" SAY_HI ",\"model\":\"tiny:7b\"}", 404, "tiny:7b" },
        { "/api/chat", "{" SAY_HI ",\"options\":{\"temperature\":\"x\"}}", 400, "temperature" },
        { "/api/chat", "{" SAY_HI ",\"options\":{\"num_ctx\":99999}}", 400, "num_ctx" },
        { "/api/chat", "{" SAY_HI ",\"options\":7}", 400, "options" },
        { "/api/chat", "{" SAY_HI ",\"think\":7}", 400, "think" },
        { "/api/chat", "{" SAY_HI ",\"format\":{\"uniqueItems\":true}}", 400, "uniqueItems" },
        { "/api/chat", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"images\":[\"AA\"]}]}",
          400, "images" },
        { "/api/generate", "{\"prompt\":7}", 400, "prompt" },
        { "/api/generate", "{\"prompt\":\"x\",\"context\":[1,2]}", 400, "context" },
        { "/api/generate", "{\"prompt\":\"x\",\"template\":\"y\"}", 400, "template" },
        { "/api/generate", "{\"prompt\":\"x\",\"suffix\":\"y\"}", 400, "suffix" },
        { "/api/pull", "{\"model\":\"other\"}", 404, "other" },
        { "/api/show", "{\"model\":\"other\"}", 404, "other" },
        { "/api/push", "{}", 404, "/api/push" },
    };

    (void)state;
    refuses(cases, sizeof cases / sizeof *cases, "{\"error\":\"");
}

/* ---- llama-server ---- */

static void completes_with_timings(void **state)
{
    static const char body[] = "{\"prompt\":\"Once\",\"n_predict\":10,\"temperature\":0,"
                               "\"ignore_eos\":true,\"n_probs\":2,\"stream\":%s}";
    static const char *const numbers[] = { "prompt_ms", "prompt_per_second", "predicted_ms",
                                           "predicted_per_second", "predicted_per_token_ms" };
    char request[512], text[4096] = "", way[64];
    size_t len = 0, n_ids = 0;
    json_t *j, *last = NULL;

    (void)state;
    (void)snprintf(request, sizeof request, body, "true");
    assert_int_equal(post("/completion", request), 200);
    for (char *p = answer; (p = strstr(p, "data: ")); p += 6) {
        j = json_loadb(p + 6, strcspn(p + 6, "\n"), 0, NULL);
        assert_non_null(j);
        len += (size_t)snprintf(text + len, sizeof text - len, "%s", text_at(j, "content"));
        n_ids += json_array_size(at(j, "tokens"));
        json_decref(last);
        last = j;
    }
    assert_int_equal(n_ids, 10);
    assert_true(json_is_true(at(last, "stop")));
    json_decref(last);
    (void)snprintf(request, sizeof request, body, "false");
    assert_int_equal(post("/completion", request), 200);
    j = parsed();
    assert_string_equal(text_at(j, "content"), text);
    assert_string_equal(text_at(j, "stop_type"), "limit");
    assert_int_equal(int_at(j, "tokens_predicted"), 10);
    assert_int_equal(json_array_size(at(j, "tokens")), 10);
    assert_int_equal(json_array_size(at(j, "completion_probabilities")), 10);
    assert_int_equal(json_array_size(at(j, "completion_probabilities.0.top_logprobs")), 2);
    assert_int_equal(int_at(j, "timings.predicted_n"), 10);
    assert_int_equal(int_at(j, "timings.prompt_n") + int_at(j, "timings.cache_n"),
                     int_at(j, "tokens_evaluated"));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        (void)snprintf(way, sizeof way, "timings.%s", numbers[i]);
        assert_true(json_number_value(at(j, way)) > 0);
    }
    json_decref(j);
}

static void tokens_there_and_back(void **state)
{
    static const char content[] = "Hi, caf\\u00e9 & co";
    char request[2048], tokens[1024];
    json_t *j;
    char *ids;

    (void)state;
    (void)snprintf(request, sizeof request, "{\"content\":\"%s\"}", content);
    assert_int_equal(post("/tokenize", request), 200);
    ids = strchr(answer, '[');
    assert_non_null(ids);
    (void)snprintf(tokens, sizeof tokens, "%.*s", (int)(strchr(ids, ']') - ids + 1), ids);
    (void)snprintf(request, sizeof request, "{\"tokens\":%s}", tokens);
    assert_int_equal(post("/detokenize", request), 200);
    j = parsed();
    assert_string_equal(text_at(j, "content"), "Hi, caf\xC3\xA9 & co");
    json_decref(j);
    (void)snprintf(request, sizeof request, "{\"content\":\"%s\",\"with_pieces\":true}", content);
    assert_int_equal(post("/tokenize", request), 200);
    j = parsed();
    assert_string_equal(text_at(j, "tokens.0.piece"), "H");
    json_decref(j);
    assert_int_equal(post("/apply-template", "{" SAY_HI "}"), 200);
    j = parsed();
    assert_non_null(strstr(text_at(j, "prompt"), "hi"));
    json_decref(j);
}

static void llama_shows_its_state(void **state)
{
    bool free_slot = false;
    json_t *j;

    (void)state;
    assert_int_equal(ask(&shared_server, "GET", "/props", "", ""), 200);
    j = parsed();
    assert_int_equal(int_at(j, "total_slots"), 16);
    assert_int_equal(int_at(j, "default_generation_settings.n_ctx"), TINY_CTX);
    assert_true(strlen(text_at(j, "chat_template")) > 0);
    json_decref(j);
    for (int i = 0; i < 1000 && !free_slot; i++) {      /* the answer before may just have come */
        assert_int_equal(ask(&shared_server, "GET", "/slots?fail_on_no_slot=1", "", ""), 200);
        j = parsed();
        assert_int_equal(json_array_size(j), 16);
        free_slot = json_is_false(at(j, "0.is_processing"));
        json_decref(j);
        (void)poll(NULL, 0, free_slot ? 0 : 20);
    }
    assert_true(free_slot);
}

static void llama_errors(void **state)
{
    static const struct wrong cases[] = {
        { "/completion", "{", 400, "request body" },
        { "/completion", "{}", 400, "prompt" },
        { "/completion", "{\"prompt\":[1,-1]}", 400, "prompt" },
        { "/completion", "{\"prompt\":\"x\",\"n_probs\":100000}", 400, "n_probs" },
        { "/completion", "{\"prompt\":\"x\",\"grammar\":\"root ::= (\"}", 400, "grammar:" },
        { "/infill", "{\"input_suffix\":\"x\"}", 400, "input_prefix" },
        { "/infill", "{\"input_prefix\":\"x\"}", 400, "input_suffix" },
        { "/infill", "{\"input_prefix\":\"x\",\"input_suffix\":\"\"}", 400, "middle" },
        { "/infill", "{\"input_extra\":[{}],\"input_prefix\":\"x\"}", 400, "input_extra" },
        { "/tokenize", "{\"content\":[1]}", 400, "content" },
        { "/detokenize", "{\"tokens\":[999999]}", 400, "tokens" },
        { "/detokenize", "{\"tokens\":7}", 400, "tokens" },
        { "/apply-template", "{\"messages\":[]}", 400, "messages" },
        { "/props", "{}", 405, "not allowed" },
    };

    (void)state;
    refuses(cases, sizeof cases / sizeof *cases, "{\"error\":{");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_whole_and_streamed),
        cmocka_unit_test(stop_sequences_are_told),
        cmocka_unit_test(tools_and_results_are_counted),
        cmocka_unit_test(failed_calls_are_marked),
        cmocka_unit_test(reasoning_is_a_block),
        cmocka_unit_test(anthropic_errors),
        cmocka_unit_test(chats_and_generates),
        cmocka_unit_test(formats_and_thoughts),
        cmocka_unit_test(ollama_shows_its_model),
        cmocka_unit_test(ollama_errors),
        cmocka_unit_test(completes_with_timings),
        cmocka_unit_test(tokens_there_and_back),
        cmocka_unit_test(llama_shows_its_state),
        cmocka_unit_test(llama_errors),
    };

    return cmocka_run_group_tests_name("serve_apis", tests, group_up, group_down);
}
