/* test_serve_diffusion.c: a model that writes by diffusion behind every API: whole and streamed, the
 * same answer beside others, seeds, limits, choices; what it can't honour is a 400 that names the
 * field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "models/shape.h"
#include "serve_rig.h"

#define FIELDS "\"max_tokens\":20,\"ignore_eos\":true,\"seed\":7,\"temperature\":0.8"

static int up(void **state)
{
    const struct synth_opts o = { .mix = QUANT_F32, .pure = true, .seed = 7, .n_threads = 1 };
    struct err e = { 0 };
    const char *argv[] = { "watt", "serve", NULL, "--port", "0", "--quiet", "--name", "blocks",
                           "--threads", "2", "--ctx", "128", "--diffusion-block", "8", "--model",
                           NULL, NULL };
    static char path[96], other[160];

    (void)signal(SIGPIPE, SIG_IGN);
    (void)tiny_make(state);
    (void)snprintf(path, sizeof path, "%s/llada.gguf", tiny_dir);
    (void)snprintf(other, sizeof other, "plain=%s", tiny_path);
    argv[2] = path;
    argv[15] = other;
    if (synth_write(path, shape_find("tiny-llada"), &o, &e) < 0)
        fail_msg("%s", e.msg);
    start_argv(&shared_server, argv);
    return 0;
}

static int down(void **state)
{
    char path[96];

    (void)snprintf(path, sizeof path, "%s/llada.gguf", tiny_dir);
    (void)unlink(path);
    return group_down(state);
}

static const json_t *at(const json_t *j, const char *key)
{
    return json_object_get(j, key);
}

/* The text of a completion of the OpenAI API, copied; its usage is checked. */
static char *completion(const char *more)
{
    char body[512], *text;
    json_t *j;

    (void)snprintf(body, sizeof body, "{\"prompt\":\"the house\"," FIELDS "%s}", more);
    if (post("/v1/completions", body) != 200)
        fail_msg("%s", answer);
    j = parsed();
    assert_int_equal(json_integer_value(at(at(j, "usage"), "completion_tokens")), 20);
    assert_string_equal(json_string_value(at(json_array_get(at(j, "choices"), 0), "finish_reason")),
                        "length");
    text = strdup(json_string_value(at(json_array_get(at(j, "choices"), 0), "text")));
    json_decref(j);
    return text;
}

static void whole_and_repeated(void **state)
{
    char *a = completion(""), *b = completion(""), *c = completion(",\"diffusion_steps\":2");
    char *d = completion(",\"diffusion_threshold\":1e-9"), *e = completion(",\"diffusion_algorithm\":\"random\"");

    (void)state;
    assert_true(strlen(a) > 0);
    assert_string_equal(a, b);
    assert_string_not_equal(a, c);
    assert_string_not_equal(a, e);
    free(a);
    free(b);
    free(c);
    free(d);
    free(e);
}

/* ---- company ---- */

static void *ask_apart(void *arg)
{
    static const char body[] = "{\"prompt\":\"a long walk\",\"max_tokens\":60,\"n\":2,\"ignore_eos\":true}";
    char request[512], reply[4096];
    const int fd = dial(&shared_server);
    const int n = snprintf(request, sizeof request, "POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
                           "Connection: close\r\nContent-Type: application/json\r\n"
                           "Content-Length: %zu\r\n\r\n%s", strlen(body), body);

    say(fd, request, (size_t)n);
    if (!arg)
        while (recv(fd, reply, sizeof reply, 0) > 0)
            ;
    (void)close(fd);        /* or leaves at once */
    return NULL;
}

static void same_beside_others(void **state)
{
    char *alone = completion("");
    pthread_t t[6];

    (void)state;
    for (int i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&t[i], NULL, ask_apart, i % 3 == 2 ? &t : NULL), 0);
    for (int i = 0; i < 4; i++) {
        char *again = completion("");

        assert_string_equal(again, alone);
        free(again);
    }
    for (int i = 0; i < 6; i++)
        (void)pthread_join(t[i], NULL);
    free(alone);
}

/* ---- the other APIs, and streams ---- */

/* The strings under a path of two keys in every event of a stream, one behind the other. */
static void gather(char *to, size_t size, const char *mark)
{
    size_t n = 0;

    to[0] = '\0';
    for (const char *p = answer; (p = strstr(p, mark)) != NULL;) {
        const char *from = p += strlen(mark), *end = from;

        while (*end && (*end != '"' || end[-1] == '\\'))
            end++;
        n += (size_t)snprintf(to + n, size - n, "%.*s", (int)(end - from), from);
        assert_true(n < size);
    }
}

static void every_api(void **state)
{
    static const struct { const char *path, *body, *mark; } ways[] = {
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]," FIELDS "%s}",
          "\"content\":\"" },
        { "/v1/messages", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]," FIELDS "%s}",
          "\"text\":\"" },
        { "/api/chat", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"options\":{\"num_predict\":20,"
          "\"ignore_eos\":true,\"seed\":7,\"temperature\":0.8}%s}", "\"content\":\"" },
        { "/v1/responses", "{\"input\":\"hi\",\"max_output_tokens\":20,\"ignore_eos\":true,\"seed\":7,"
          "\"temperature\":0.8%s}", NULL },
        { "/completion", "{\"prompt\":\"hi\"," FIELDS "%s}", "\"content\":\"" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char body[512], whole[4096], streamed[4096];

        (void)snprintf(body, sizeof body, ways[i].body, ",\"stream\":false");
        if (post(ways[i].path, body) != 200)
            fail_msg("%s: %s", ways[i].path, answer);
        if (ways[i].mark)
            gather(whole, sizeof whole, ways[i].mark);
        (void)snprintf(body, sizeof body, ways[i].body, ",\"stream\":true");
        if (post(ways[i].path, body) != 200)
            fail_msg("%s: %s", ways[i].path, answer);
        if (!ways[i].mark)
            continue;
        gather(streamed, sizeof streamed, ways[i].mark);
        assert_true(strlen(whole) > 0);
        assert_string_equal(streamed, whole);
    }
}

static void choices_and_limits(void **state)
{
    json_t *j;

    (void)state;
    assert_int_equal(post("/v1/completions", "{\"prompt\":\"hi\",\"n\":3,\"max_tokens\":9,\"seed\":1,"
                          "\"ignore_eos\":true,\"temperature\":1}"), 200);
    j = parsed();
    assert_int_equal(json_array_size(at(j, "choices")), 3);
    assert_int_equal(json_integer_value(at(at(j, "usage"), "completion_tokens")), 27);
    json_decref(j);
    assert_int_equal(post("/v1/completions", "{\"prompt\":\"hi\",\"max_tokens\":0}"), 200);
    assert_int_equal(post("/v1/completions", "{\"prompt\":[1,2,3],\"max_tokens\":500}"), 200);
    {
        char body[2048] = "{\"prompt\":[1";

        for (int i = 0; i < 140; i++)
            (void)snprintf(body + strlen(body), sizeof body - strlen(body), ",%d", i);
        (void)snprintf(body + strlen(body), sizeof body - strlen(body), "]}");
        assert_int_equal(post("/v1/completions", body), 400);
        assert_non_null(strstr(answer, "context_length_exceeded"));
    }
}

/* ---- refusals ---- */

static void names_what_it_cannot(void **state)
{
    static const struct { const char *path, *more, *field; } cases[] = {
        { "/v1/chat/completions", "\"logprobs\":true", "logprobs" },
        { "/v1/completions", "\"logprobs\":2", "logprobs" },
        { "/v1/completions", "\"prompt_logprobs\":2", "prompt_logprobs" },
        { "/v1/completions", "\"bad_words\":[\"x\"]", "bad_words" },
        { "/completion", "\"n_probs\":2", "n_probs" },
        { "/v1/chat/completions", "\"response_format\":{\"type\":\"json_object\"}", "response_format" },
        { "/v1/chat/completions", "\"structured_outputs\":{\"regex\":\"a\"}", "structured_outputs" },
        { "/v1/chat/completions", "\"guided_choice\":[\"a\"]", "guided_choice" },
        { "/completion", "\"grammar\":\"root ::= \\\"a\\\"\"", "grammar" },
        { "/api/chat", "\"format\":\"json\"", "format" },
        { "/v1/chat/completions", "\"thinking_token_budget\":5", "thinking_token_budget" },
        { "/v1/completions", "\"mirostat\":2", "mirostat" },
        { "/v1/completions", "\"speculative.n_max\":4", "speculative.n_max" },
        { "/v1/completions", "\"diffusion_steps\":9", "diffusion_steps" },
        { "/v1/completions", "\"diffusion_threshold\":2", "diffusion_threshold" },
        { "/v1/completions", "\"diffusion_algorithm\":\"best\"", "diffusion_algorithm" },
        { "/v1/completions", "\"model\":\"plain\",\"diffusion_steps\":2", "diffusion_steps" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[512];

        (void)snprintf(body, sizeof body, "{\"prompt\":\"hi\",\"messages\":[{\"role\":\"user\","
                       "\"content\":\"hi\"}],\"max_tokens\":4,%s}", cases[i].more);
        if (post(cases[i].path, body) != 400 || !strstr(answer, cases[i].field))
            fail_msg("%s %s: %s", cases[i].path, cases[i].more, answer);
    }
    assert_int_equal(post("/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],"
                          "\"max_tokens\":4,\"response_format\":{\"type\":\"text\"},\"logprobs\":false}"), 200);
}

/* At start: never a server that has quietly become something else. */
static void refuses_to_start(void **state)
{
    static struct spawned r;
    char path[96];

    (void)state;
    (void)snprintf(path, sizeof path, "%s/llada.gguf", tiny_dir);
    spawn(&r, NULL, "serve", path, "--port", "0", "--draft", tiny_path);
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "a draft model for one that writes by diffusion"));
    spawn(&r, NULL, "serve", path, "--port", "0", "--ctx", "64", "--diffusion-block", "65");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "blocks of 65 tokens in a context of 64"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_and_repeated),
        cmocka_unit_test(same_beside_others),
        cmocka_unit_test(every_api),
        cmocka_unit_test(choices_and_limits),
        cmocka_unit_test(names_what_it_cannot),
        cmocka_unit_test(refuses_to_start),
    };

    return cmocka_run_group_tests(tests, up, down);
}
