/* test_serve.c: `watt serve` over real sockets: right requests, wrong ones, hostile ones, clients that
 * leave, and the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "serve_rig.h"

static void say_post(int fd, const char *body)
{
    char text[1024];
    const int n = snprintf(text, sizeof text, "POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
                           "Connection: close\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);

    say(fd, text, (size_t)n);
}

static const char *text_at(const json_t *j, const char *list, const char *a, const char *b)
{
    const json_t *x = json_array_get(json_object_get(j, list), 0);

    x = json_object_get(x, a);
    return json_string_value(b ? json_object_get(x, b) : x);
}

/* ---- tests ---- */

static void says_what_it_is(void **state)
{
    json_t *j;

    (void)state;
    assert_int_equal(ask(&shared_server, "GET", "/health", "", ""), 200);
    assert_string_equal(answer, "{\"status\":\"ok\"}");
    assert_int_equal(ask(&shared_server, "GET", "/v1/models", "X-Request-Id: abc\r\n", ""), 200);
    assert_non_null(strstr(head, "X-Request-Id: abc"));
    j = parsed();
    assert_string_equal(text_at(j, "data", "id", NULL), "tiny");
    json_decref(j);
    assert_int_equal(ask(&shared_server, "GET", "/v1/models/tiny", "", ""), 200);
    assert_int_equal(ask(&shared_server, "GET", "/v1/models/other", "", ""), 404);
    assert_int_equal(ask(&shared_server, "GET", "/metrics", "", ""), 200);
    assert_non_null(strstr(answer, "# TYPE watt_requests_running gauge"));
    assert_non_null(strstr(answer, "vllm:num_requests_running{"));
    assert_non_null(strstr(answer, "le=\"+Inf\""));
    assert_int_equal(ask(&shared_server, "GET", "/openapi.json", "", ""), 200);
    j = parsed();
    assert_non_null(json_object_get(json_object_get(j, "paths"), "/v1/chat/completions"));
    json_decref(j);
}

/* No series twice, and what the tools of others look for. */
static void names_of_other_servers(void **state)
{
    static const char *const names[] = { "vllm:num_requests_waiting{", "vllm:kv_cache_usage_perc{",
        "vllm:request_success_total{model_name=\"tiny\",finished_reason=\"abort\"}",
        "vllm:prefix_cache_queries_total{", "vllm:request_inference_time_seconds_count{",
        "vllm:cache_config_info{block_size=", "llamacpp:prompt_seconds_total{",
        "llamacpp:predicted_tokens_seconds{", "llamacpp:n_busy_slots_per_decode{" };
    const char *lines[4096];
    size_t n = 0;

    (void)state;
    assert_int_equal(ask(&shared_server, "GET", "/metrics", "", ""), 200);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strstr(answer, names[i]))
            fail_msg("%s", names[i]);
    for (char *p = answer, *end; (end = strchr(p, '\n')); p = end + 1) {
        char *space;

        *end = '\0';
        space = strrchr(p, ' ');
        if (*p == '#')
            continue;
        assert_non_null(space);
        *space = '\0';
        assert_true(n < sizeof lines / sizeof *lines);
        for (size_t i = 0; i < n; i++)
            assert_string_not_equal(lines[i], p);
        lines[n++] = p;
    }
}

static void errors_name_the_field(void **state)
{
    static const struct { const char *path, *body; int status; const char *needle; } cases[] = {
        { "/v1/completions", "{\"prompt\":\"x\"", 400, "request body" },
        { "/v1/completions", "[]", 400, "object" },
        { "/v1/completions", "{}", 400, "prompt" },
        { "/v1/completions", "{\"prompt\":7}", 400, "prompt" },
        { "/v1/completions", "{\"prompt\":[1,999999]}", 400, "prompt" },
        { "/v1/completions", "{\"prompt\":\"x\",\"temperature\":\"hot\"}", 400, "temperature" },
        { "/v1/completions", "{\"prompt\":\"x\",\"top_p\":1.5}", 400, "top_p" },
        { "/v1/completions", "{\"prompt\":\"x\",\"n\":0}", 400, "\"n\"" },
        { "/v1/completions", "{\"prompt\":\"x\",\"stop\":[1]}", 400, "stop" },
        { "/v1/completions", "{\"prompt\":\"x\",\"logit_bias\":{\"x\":1}}", 400, "logit_bias" },
        { "/v1/completions", "{\"prompt\":\"x\",\"suffix\":\"y\"}", 400, "suffix" },
        { "/v1/completions", "{\"prompt\":\"x\",\"model\":\"gpt-5\"}", 404, "model_not_found" },
        { "/v1/completions", "{\"prompt\":\"x\",\"guided_regex\":\"(?=x)\"}", 400, "look-ahead" },
        { "/v1/completions", "{\"prompt\":\"x\",\"response_format\":{\"type\":\"json_schema\","
          "\"json_schema\":{\"schema\":{\"type\":\"array\",\"uniqueItems\":true}}}}", 400,
          "uniqueItems" },
        { "/v1/chat/completions", "{\"messages\":[]}", 400, "messages" },
        { "/v1/chat/completions", "{\"messages\":[{\"content\":\"x\"}]}", 400, "role" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
          "\"image_url\"}]}]}", 400, "image_url" },
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
          "\"tool_choice\":\"required\"}", 400, "\"param\":\"tool_choice\"" },
        { "/v1/completions", "{\"prompt\":\"x\",\"best_of\":3}", 400, "\"param\":\"best_of\"" },
        { "/v1/completions", "{\"prompt\":\"x\",\"stream_options\":{\"include_usage\":1}}", 400,
          "\"param\":\"stream_options\"" },
        { "/v1/completions", "{\"prompt\":\"x\",\"logit_bias\":{\"x\":1}}", 400,
          "\"param\":\"logit_bias\"" },
        { "/v1/nothing", "{}", 404, "not_found" },
        { "/health", "{}", 405, "not allowed" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int status = post(cases[i].path, cases[i].body);

        if (status != cases[i].status || !strstr(answer, cases[i].needle) ||
            !strstr(answer, "\"error\""))
            fail_msg("%s %s: %d %s", cases[i].path, cases[i].body, status, answer);
    }
}

static void too_long_for_the_context(void **state)
{
    char body[4096];
    size_t n = (size_t)snprintf(body, sizeof body, "{\"prompt\":[");

    (void)state;
    for (int i = 0; i < 300; i++)
        n += (size_t)snprintf(body + n, sizeof body - n, "7,");
    (void)snprintf(body + n, sizeof body - n, "7]}");
    assert_int_equal(post("/v1/completions", body), 400);
    assert_non_null(strstr(answer, "context_length_exceeded"));
    assert_non_null(strstr(answer, "\"param\":\"prompt\""));
}

/* The deltas of a stream put together. */
static void join_stream(char *to, size_t cap, const char *field, unsigned *n_events)
{
    size_t len = 0;

    *n_events = 0;
    to[0] = '\0';
    for (char *p = answer; (p = strstr(p, "data: ")); p += 6) {
        char *end = strstr(p, "\n\n");
        json_t *j, *choice;
        const char *t;

        assert_non_null(end);
        ++*n_events;
        if (strncmp(p + 6, "[DONE]", 6) == 0) {
            assert_int_equal(end[2], '\0');
            return;
        }
        j = json_loadb(p + 6, (size_t)(end - p - 6), 0, NULL);
        assert_non_null(j);
        choice = json_array_get(json_object_get(j, "choices"), 0);
        t = json_string_value(strcmp(field, "text") == 0
                                  ? json_object_get(choice, "text")
                                  : json_object_get(json_object_get(choice, "delta"), field));
        if (t)
            len += (size_t)snprintf(to + len, cap - len, "%s", t);
        json_decref(j);
    }
    fail_msg("no [DONE]: %s", answer);
}

static void streams_say_the_same(void **state)
{
    static const char plain[] = "{\"prompt\":\"Once\",\"max_tokens\":20,\"temperature\":0}";
    static const char stream[] = "{\"prompt\":\"Once\",\"max_tokens\":20,\"temperature\":0,"
                                 "\"stream\":true,\"stream_options\":{\"include_usage\":true}}";
    char whole[4096], joined[4096];
    unsigned n;
    json_t *j;

    (void)state;
    assert_int_equal(post("/v1/completions", plain), 200);
    j = parsed();
    (void)snprintf(whole, sizeof whole, "%s", text_at(j, "choices", "text", NULL));
    assert_string_equal(text_at(j, "choices", "finish_reason", NULL), "length");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "usage"),
                                                        "completion_tokens")), 20);
    json_decref(j);
    assert_int_equal(post("/v1/completions", stream), 200);
    assert_non_null(strstr(head, "text/event-stream"));
    assert_non_null(strstr(answer, "\"usage\":{\"prompt_tokens\""));
    join_stream(joined, sizeof joined, "text", &n);
    assert_string_equal(joined, whole);
}

static void chats(void **state)
{
    static const char plain[] = "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
        "\"text\":\"hi\"}]}],\"max_tokens\":12,\"temperature\":0,\"logprobs\":true,"
        "\"top_logprobs\":2,\"unknown_field\":{\"a\":1}}";
    static const char stream[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],"
        "\"max_completion_tokens\":12,\"temperature\":0,\"stream\":true}";
    char whole[4096], joined[4096];
    unsigned n;
    json_t *j;

    (void)state;
    assert_int_equal(post("/v1/chat/completions", plain), 200);
    j = parsed();
    (void)snprintf(whole, sizeof whole, "%s", text_at(j, "choices", "message", "content"));
    assert_non_null(strstr(answer, "\"top_logprobs\":[{\"token\""));
    json_decref(j);
    assert_int_equal(post("/v1/chat/completions", stream), 200);
    assert_non_null(strstr(answer, "\"delta\":{\"role\":\"assistant\",\"content\":null}"));
    assert_null(strstr(answer, "\"usage\""));
    join_stream(joined, sizeof joined, "content", &n);
    assert_string_equal(joined, whole);
}

/* Every token's entry comes, those of tokens that show nothing too. */
static void streamed_logprobs(void **state)
{
    static const struct { const char *path, *body, *field; } cases[] = {
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],"
          "\"max_tokens\":12,\"ignore_eos\":true,\"stream\":true,\"logprobs\":true}", "content" },
        { "/v1/completions", "{\"prompt\":\"hi\",\"max_tokens\":12,\"ignore_eos\":true,"
          "\"stream\":true,\"logprobs\":1}", "tokens" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = 0;

        assert_int_equal(post(cases[i].path, cases[i].body), 200);
        for (char *p = answer; (p = strstr(p, "data: {")); p += 6) {
            json_t *j = json_loadb(p + 6, (size_t)(strstr(p, "\n\n") - p - 6), JSON_ALLOW_NUL,
                                   NULL);   /* one token is that byte */
            const json_t *x = json_array_get(json_object_get(j, "choices"), 0);

            n += json_array_size(json_object_get(json_object_get(x, "logprobs"), cases[i].field));
            json_decref(j);
        }
        assert_int_equal(n, 12);
    }
}

/* A prompt's own log probabilities, and no answer. */
static void echoes_with_logprobs(void **state)
{
    const json_t *x, *l;
    json_t *j;

    (void)state;
    assert_int_equal(post("/v1/completions", "{\"prompt\":[70,71,72,73],\"max_tokens\":2,"
                          "\"ignore_eos\":true,\"echo\":true,\"logprobs\":1}"), 200);
    j = parsed();
    x = json_object_get(json_array_get(json_object_get(j, "choices"), 0), "logprobs");
    l = json_object_get(x, "token_logprobs");
    assert_int_equal(json_array_size(l), 6);
    assert_true(json_is_null(json_array_get(l, 0)));
    assert_true(json_is_null(json_array_get(json_object_get(x, "top_logprobs"), 0)));
    for (size_t i = 1; i < 6; i++)
        assert_true(json_real_value(json_array_get(l, i)) < 0);
    json_decref(j);
    assert_int_equal(post("/v1/completions", "{\"prompt\":[70,71,72,73],\"max_tokens\":0,"
                          "\"echo\":true,\"logprobs\":1}"), 200);
    j = parsed();
    x = json_object_get(json_array_get(json_object_get(j, "choices"), 0), "logprobs");
    assert_int_equal(json_array_size(json_object_get(x, "tokens")), 4);
    json_decref(j);
    assert_int_equal(post("/v1/completions", "{\"prompt\":[200,201],\"max_tokens\":1,"
                          "\"echo\":true}"), 200);      /* halves of characters */
    assert_int_equal(post("/completion", "{\"prompt\":[200,201],\"n_predict\":1}"), 200);
    assert_non_null(strstr(answer, "\"timings\""));
    assert_int_equal(post("/v1/completions", "{\"prompt\":\"x\",\"max_tokens\":0}"), 200);
    assert_non_null(strstr(answer, "\"completion_tokens\":0"));
}

static void grammars_hold(void **state)
{
    static const char body[] = "{\"prompt\":\"x\",\"max_tokens\":100,\"seed\":%d,\"response_format\":"
        "{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"type\":\"object\",\"properties\":"
        "{\"ok\":{\"type\":\"boolean\"},\"k\":{\"enum\":[\"a\",\"b\"]}},\"required\":[\"ok\",\"k\"],"
        "\"additionalProperties\":false}}}}";
    char request[1024];

    (void)state;
    for (int seed = 0; seed < 5; seed++) {
        const char *text;
        json_t *j, *v;

        (void)snprintf(request, sizeof request, body, seed);
        assert_int_equal(post("/v1/completions", request), 200);
        j = parsed();
        text = text_at(j, "choices", "text", NULL);
        if (strcmp(text_at(j, "choices", "finish_reason", NULL), "stop") == 0) {
            v = json_loads(text, 0, NULL);
            if (!v || !json_is_boolean(json_object_get(v, "ok")))
                fail_msg("not of the schema: %s", text);
            json_decref(v);
        } else {
            assert_int_equal(text[strspn(text, " \n\t\r")], '{');
        }
        json_decref(j);
    }
    assert_int_equal(post("/v1/completions", "{\"prompt\":\"x\",\"structured_outputs\":{\"choice\":"
                          "[\"yes\",\"no\"]},\"max_tokens\":10}"), 200);
    assert_true(strstr(answer, "\"text\":\"yes\"") || strstr(answer, "\"text\":\"no\""));
}

static void choices_of_one_prompt(void **state)
{
    json_t *j;

    (void)state;
    assert_int_equal(post("/v1/completions", "{\"prompt\":\"abc\",\"n\":3,\"max_tokens\":8,\"echo\":"
                          "true,\"seed\":1}"), 200);
    j = parsed();
    assert_int_equal(json_array_size(json_object_get(j, "choices")), 3);
    assert_int_equal(strncmp(text_at(j, "choices", "text", NULL), "abc", 3), 0);
    json_decref(j);
}

static void hostile_bytes(void **state)
{
    static const char *const raw[] = { "\x16\x03\x01garbage\r\n\r\n", "GET\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
        "GET /%00%ff../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" };
    char *deep = malloc(200002);
    int fd;

    (void)state;
    assert_non_null(deep);
    for (size_t i = 0; i < sizeof raw / sizeof *raw; i++) {
        fd = dial(&shared_server);
        say(fd, raw[i], strlen(raw[i]));
        (void)shutdown(fd, SHUT_WR);
        assert_true(hear(fd) != 200);
    }
    memset(deep, '[', 200000);
    memcpy(deep + 200000, "", 1);
    assert_int_equal(post("/v1/completions", deep), 400);
    free(deep);
    fd = dial(&shared_server);          /* half a request, then gone */
    say(fd, "POST /v1/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{\"pro", 56);
    (void)close(fd);
    assert_int_equal(ask(&shared_server, "GET", "/health", "", ""), 200);
}

/* Somebody who leaves in the middle costs nothing from then on. */
static void leaving_frees_the_slot(void **state)
{
    static const char body[] = "{\"prompt\":\"a\",\"max_tokens\":110,\"ignore_eos\":true,"
                               "\"stream\":%s}";
    int fds[20];

    (void)state;
    for (int i = 0; i < 20; i++) {
        char text[512];

        (void)snprintf(text, sizeof text, body, i % 2 ? "true" : "false");
        fds[i] = dial(&shared_server);
        say_post(fds[i], text);
    }
    for (int i = 0; i < 20; i++)
        (void)close(fds[i]);
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(ask(&shared_server, "GET", "/load", "", ""), 200);
        if (strstr(answer, "\"server_load\":0"))
            return;
        (void)poll(NULL, 0, 50);
    }
    fail_msg("%s", answer);
}

static void keys_are_asked_for(void **state)
{
    static const char *const more[] = { "--api-key", "secret", "--cors", "*", NULL };
    struct server s;

    (void)state;
    start(&s, more);
    assert_int_equal(ask(&s, "GET", "/health", "", ""), 200);
    assert_int_equal(ask(&s, "GET", "/v1/models", "", ""), 401);
    assert_non_null(strstr(answer, "authentication_error"));
    assert_int_equal(ask(&s, "GET", "/v1/models", "Authorization: Bearer wrong\r\n", ""), 401);
    assert_int_equal(ask(&s, "GET", "/v1/models", "Authorization: Bearer secret\r\n", ""), 200);
    assert_non_null(strstr(head, "Access-Control-Allow-Origin: *"));
    assert_int_equal(ask(&s, "GET", "/v1/models", "x-api-key: secret\r\n", ""), 200);
    assert_int_equal(ask(&s, "OPTIONS", "/v1/models", "", ""), 204);
    assert_int_equal(stop(&s), 0);
}

static void limits_are_kept(void **state)
{
    static const char *const more[] = { "--max-body", "1K", NULL };
    struct server s;
    char body[3000];

    (void)state;
    start(&s, more);
    memset(body, ' ', sizeof body - 1);
    body[sizeof body - 1] = '\0';
    assert_int_equal(ask(&s, "POST", "/v1/completions", "", body), 413);
    assert_non_null(strstr(answer, "\"error\""));
    assert_int_equal(ask(&s, "GET", "/health", "", ""), 200);
    assert_int_equal(stop(&s), 0);
}

static void running_answers_finish(void **state)
{
    struct server s;
    int fd;

    (void)state;
    start(&s, NULL);
    fd = dial(&s);
    say_post(fd, "{\"prompt\":\"a\",\"max_tokens\":100,\"min_tokens\":100}");
    for (int i = 0; i < 10000 && poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 1) == 0; i++) {
        assert_int_equal(ask(&s, "GET", "/load", "", ""), 200);
        if (!strstr(answer, "\"server_load\":0"))
            break;
    }
    assert_int_equal(kill(s.pid, SIGTERM), 0);
    assert_int_equal(hear(fd), 200);
    assert_int_equal(waitpid(s.pid, NULL, 0), s.pid);
}

static void refuses_to_start(void **state)
{
    static char serve[] = "serve", missing[] = "/nonexistent.gguf", quiet[] = "-q", cert[] = "--tls-cert";
    char *no_file[] = { serve, serve, missing, quiet, NULL };
    char *half[] = { serve, serve, tiny_path, cert, missing, NULL };
    struct spawned *r = malloc(sizeof *r);

    (void)state;
    assert_non_null(r);
    spawn_program(r, watt_bin(), no_file, NULL, -1);
    assert_int_equal(r->code, 1);
    assert_non_null(strstr(r->err, "/nonexistent.gguf"));
    spawn_program(r, watt_bin(), half, NULL, -1);
    assert_int_equal(r->code, 2);
    assert_non_null(strstr(r->err, "--tls-key"));
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_it_is),
        cmocka_unit_test(names_of_other_servers),
        cmocka_unit_test(errors_name_the_field),
        cmocka_unit_test(too_long_for_the_context),
        cmocka_unit_test(streams_say_the_same),
        cmocka_unit_test(chats),
        cmocka_unit_test(streamed_logprobs),
        cmocka_unit_test(echoes_with_logprobs),
        cmocka_unit_test(grammars_hold),
        cmocka_unit_test(choices_of_one_prompt),
        cmocka_unit_test(hostile_bytes),
        cmocka_unit_test(leaving_frees_the_slot),
        cmocka_unit_test(keys_are_asked_for),
        cmocka_unit_test(limits_are_kept),
        cmocka_unit_test(running_answers_finish),
        cmocka_unit_test(refuses_to_start),
    };

    return cmocka_run_group_tests_name("serve", tests, group_up, group_down);
}
