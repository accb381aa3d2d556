/* test_serve_fields.c: fields that clients of llama-server and vLLM send: several prompts in a
 * request, what was asked told again, progress and speeds, ids of tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "serve_json.h"

/* ---- several prompts ---- */

#define ASKED "\"max_tokens\":8,\"temperature\":0,\"ignore_eos\":true"

static void prompts_are_answered_as_alone(void **state)
{
    static const char *const prompts[] = { "\"Once\"", "\"a b c\"", "[70,71,72]", "\"Once\"" };
    char body[512], alone[4][256], way[64];
    json_t *j;
    long long n_prompt = 0;

    (void)state;
    for (int i = 0; i < 4; i++) {
        (void)snprintf(body, sizeof body, "{\"prompt\":%s,\"echo\":true," ASKED "}", prompts[i]);
        assert_int_equal(post("/v1/completions", body), 200);
        j = parsed();
        (void)snprintf(alone[i], sizeof alone[i], "%s", text_at(j, "choices.0.text"));
        n_prompt += int_at(j, "usage.prompt_tokens");
        json_decref(j);
    }
    (void)snprintf(body, sizeof body, "{\"prompt\":[%s,%s,%s,%s],\"echo\":true,\"n\":2," ASKED "}",
                   prompts[0], prompts[1], prompts[2], prompts[3]);
    assert_int_equal(post("/v1/completions", body), 200);
    j = parsed();
    assert_int_equal(json_array_size(at(j, "choices")), 8);
    for (int i = 0; i < 8; i++) {
        (void)snprintf(way, sizeof way, "choices.%d.text", i);
        assert_string_equal(text_at(j, way), alone[i / 2]);
        (void)snprintf(way, sizeof way, "choices.%d.index", i);
        assert_int_equal(int_at(j, way), i);
    }
    assert_int_equal(int_at(j, "usage.prompt_tokens"), n_prompt);
    assert_int_equal(int_at(j, "usage.completion_tokens"), 64);
    json_decref(j);
}

/* Each choice of a stream, put together by its index. */
static void streamed_prompts(void **state)
{
    char text[3][512] = { "", "", "" };
    size_t n_done[3] = { 0 };
    json_t *j;

    (void)state;
    assert_int_equal(post("/v1/completions", "{\"prompt\":[\"Once\",\"a b\",\"zz\"],\"stream\":true,"
                          "\"stream_options\":{\"include_usage\":true}," ASKED "}"), 200);
    for (char *p = answer; (p = strstr(p, "data: {")); p += 6) {
        j = json_loadb(p + 6, (size_t)(strstr(p, "\n\n") - p - 6), 0, NULL);
        if (json_array_size(at(j, "choices")) == 1) {
            const size_t i = (size_t)int_at(j, "choices.0.index");

            assert_true(i < 3);
            assert_true(json_is_null(json_object_get(j, "usage")));
            n_done[i] += json_is_string(at(j, "choices.0.finish_reason"));
            strncat(text[i], text_at(j, "choices.0.text"), sizeof text[i] - strlen(text[i]) - 1);
        } else {
            assert_int_equal(int_at(j, "usage.completion_tokens"), 24);
        }
        json_decref(j);
    }
    assert_non_null(strstr(answer, "data: [DONE]"));
    assert_int_equal(post("/v1/completions", "{\"prompt\":[\"Once\",\"a b\",\"zz\"]," ASKED "}"), 200);
    j = parsed();
    for (int i = 0; i < 3; i++) {
        char way[32];

        (void)snprintf(way, sizeof way, "choices.%d.text", i);
        assert_string_equal(text[i], text_at(j, way));
        assert_int_equal(n_done[i], 1);
    }
    json_decref(j);
    assert_int_equal(post("/completion", "{\"prompt\":[\"Once\",\"zz\"]," ASKED "}"), 200);
    j = parsed();
    assert_int_equal(json_array_size(j), 2);
    assert_string_equal(text_at(j, "0.content"), text[0]);
    assert_string_equal(text_at(j, "1.content"), text[2]);
    assert_int_equal(int_at(j, "1.index"), 1);
    json_decref(j);
}

/* A grammar holds for each prompt; one that can't be served
 * takes the others with it. */
static void prompts_all_or_none(void **state)
{
    static const struct wrong wrong[] = {
        { "/v1/completions", "{\"prompt\":[]}", 400, "at least one prompt" },
        { "/v1/completions", "{\"prompt\":[\"a\",7]}", 400, "prompt[1]" },
        { "/v1/completions", "{\"prompt\":[\"a\",[]]}", 400, "prompt[1]" },
        { "/v1/completions", "{\"prompt\":[\"a\",[99999999]]}", 400, "prompt[1][0]" },
        { "/v1/completions", "{\"prompt\":[\"a\",\"b\"],\"suffix\":\"c\"}", 400, "suffix" },
    };
    char *body = malloc(40000);
    size_t n;
    json_t *j;

    (void)state;
    assert_non_null(body);
    refuses(wrong, sizeof wrong / sizeof *wrong, "{\"error\"");
    assert_int_equal(post("/v1/completions", "{\"prompt\":[\"x\",\"y\"],\"max_tokens\":9,"
                          "\"structured_outputs\":{\"choice\":[\"yes\",\"no\"]}}"), 200);
    j = parsed();
    for (int i = 0; i < 2; i++) {
        const char *t = text_at(j, i ? "choices.1.text" : "choices.0.text");

        assert_true(strcmp(t, "yes") == 0 || strcmp(t, "no") == 0);
    }
    json_decref(j);
    n = (size_t)snprintf(body, 40000, "{\"max_tokens\":200,\"prompt\":[\"short\",\"");
    memset(body + n, 'a', 30000);       /* more than the context */
    (void)snprintf(body + n + 30000, 40000 - n - 30000, "\"]}");
    assert_int_equal(post("/v1/completions", body), 400);
    assert_non_null(strstr(answer, "context_length_exceeded"));
    n = (size_t)snprintf(body, 40000, "{\"max_tokens\":1,\"prompt\":[\"a\"");
    for (int i = 0; i < 300; i++)
        n += (size_t)snprintf(body + n, 40000 - n, ",\"b\"");
    (void)snprintf(body + n, 40000 - n, "]}");
    assert_int_equal(post("/v1/completions", body), 400);
    assert_non_null(strstr(answer, "256"));
    assert_int_equal(post("/v1/completions", "{\"n\":128,\"max_tokens\":1,\"prompt\":[\"a\",\"a\",\"a\",\"a\","
                          "\"a\",\"a\",\"a\",\"a\",\"a\"]}"), 400);
    assert_non_null(strstr(answer, "1024 answers"));
    assert_int_equal(post("/v1/completions", "{\"n\":100,\"max_tokens\":1,\"prompt\":\"a\"}"), 200);
    j = parsed();
    assert_int_equal(json_array_size(at(j, "choices")), 100);
    json_decref(j);
    free(body);
}

/* ---- log probabilities of completions ---- */

static void offsets_are_of_characters(void **state)
{
    json_t *j;

    (void)state;
    assert_int_equal(post("/v1/completions", "{\"prompt\":\"a\xC3\xA4" "b\",\"echo\":true,\"logprobs\":1,"
                          "\"max_tokens\":1,\"ignore_eos\":true}"), 200);
    j = parsed();
    assert_int_equal(json_array_size(at(j, "choices.0.logprobs.text_offset")),
                     json_array_size(at(j, "choices.0.logprobs.tokens")));
    assert_int_equal(int_at(j, "choices.0.logprobs.text_offset.0"), 0);
    for (size_t i = 1; i < json_array_size(at(j, "choices.0.logprobs.tokens")); i++) {
        char now[64], before[64], token[64];
        const char *t;
        long long wide = 0;

        (void)snprintf(now, sizeof now, "choices.0.logprobs.text_offset.%zu", i);
        (void)snprintf(before, sizeof before, "choices.0.logprobs.text_offset.%zu", i - 1);
        (void)snprintf(token, sizeof token, "choices.0.logprobs.tokens.%zu", i - 1);
        for (t = text_at(j, token); *t; t++)
            wide += ((unsigned char)*t & 0xC0) != 0x80;
        assert_int_equal(int_at(j, now), int_at(j, before) + wide);
    }
    json_decref(j);
}

/* The prompt comes in front, with its own, also of a stream that has no answer. */
static void streams_echo(void **state)
{
    static const char *const bodies[] = {
        "{\"prompt\":[70,71,72],\"echo\":true,\"logprobs\":0,\"stream\":true,\"max_tokens\":2,"
            "\"ignore_eos\":true}",
        "{\"prompt\":[70,71,72],\"echo\":true,\"logprobs\":0,\"stream\":true,\"max_tokens\":0}" };

    (void)state;
    for (int i = 0; i < 2; i++) {
        json_t *j;
        char *p;

        assert_int_equal(post("/v1/completions", bodies[i]), 200);
        p = strstr(answer, "data: {");
        assert_non_null(p);
        j = json_loadb(p + 6, (size_t)(strstr(p, "\n\n") - p - 6), JSON_ALLOW_NUL, NULL);
        assert_string_not_equal(text_at(j, "choices.0.text"), "");
        assert_int_equal(json_array_size(at(j, "choices.0.logprobs.tokens")), 3);
        json_decref(j);
    }
}

/* ---- ids ---- */

static void ids_come_back(void **state)
{
    json_t *j;
    size_t n = 0;

    (void)state;
    assert_int_equal(post("/v1/completions", "{\"prompt\":[70,71],\"return_token_ids\":true," ASKED "}"),
                     200);
    j = parsed();
    assert_int_equal(int_at(j, "choices.0.prompt_token_ids.1"), 71);
    assert_int_equal(json_array_size(at(j, "choices.0.token_ids")), 8);
    json_decref(j);
    assert_int_equal(post("/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],"
                          "\"return_token_ids\":true,\"stream\":true," ASKED "}"), 200);
    for (char *p = answer; (p = strstr(p, "data: {")); p += 6) {
        j = json_loadb(p + 6, (size_t)(strstr(p, "\n\n") - p - 6), 0, NULL);
        if (p == answer)
            assert_true(json_array_size(at(j, "prompt_token_ids")) > 0);
        n += json_array_size(at(j, "choices.0.token_ids"));
        json_decref(j);
    }
    assert_int_equal(n, 8);
    assert_int_equal(post("/v1/completions", "{\"prompt\":\"x\"}"), 200);
    assert_null(strstr(answer, "token_ids"));
}

/* ---- progress and speeds ---- */

static void progress_and_timings(void **state)
{
    static const char *const paths[] = { "/completion", "/v1/chat/completions" };

    (void)state;
    for (int k = 0; k < 2; k++) {
        long long done = -1, total = 0;
        unsigned n_progress = 0, n_timed = 0;

        assert_int_equal(post(paths[k], "{\"prompt\":\"a b c d e f\",\"messages\":[{\"role\":\"user\","
            "\"content\":\"a b c d e\"}],\"cache_prompt\":false,\"stream\":true,\"return_progress\":"
            "true,\"timings_per_token\":true," ASKED "}"), 200);
        for (char *p = answer; (p = strstr(p, "data: {")); p += 6) {
            json_t *j = json_loadb(p + 6, (size_t)(strstr(p, "\n\n") - p - 6), 0, NULL);
            const json_t *t = at(j, "prompt_progress");

            if (t) {
                assert_int_equal(n_timed, 0);           /* in front of the answer */
                assert_true(int_at(t, "processed") > done);
                done = int_at(t, "processed");
                total = int_at(t, "total");
                assert_int_equal(int_at(t, "cache"), 0);
                assert_true(int_at(t, "time_ms") >= 0);
                n_progress++;
            } else if (at(j, "timings")) {
                const long long n = int_at(j, "timings.predicted_n");

                assert_true(n > 0 && n <= 8 && n >= n_timed);
                n_timed++;
            }
            json_decref(j);
        }
        assert_true(n_progress >= 2);
        assert_true(done == total && total > 0);
        assert_true(n_timed >= 2);
    }
    assert_int_equal(post("/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],"
                          "\"stream\":true," ASKED "}"), 200);
    assert_null(strstr(answer, "prompt_progress"));
}

/* Of a stream, how much it has been so far in every chunk. */
static void usage_in_every_chunk(void **state)
{
    long long before = 0, n = 0;

    (void)state;
    assert_int_equal(post("/v1/completions", "{\"prompt\":\"x\",\"stream\":true,\"stream_options\":"
                          "{\"include_usage\":true,\"continuous_usage_stats\":true}," ASKED "}"), 200);
    for (char *p = answer; (p = strstr(p, "data: {")); p += 6) {
        json_t *j = json_loadb(p + 6, (size_t)(strstr(p, "\n\n") - p - 6), 0, NULL);

        n = int_at(j, "usage.completion_tokens");
        assert_true(n >= before && n > 0);
        before = n;
        json_decref(j);
    }
    assert_int_equal(n, 8);
}

/* ---- the sampler's ---- */

static void stages_and_tokens(void **state)
{
    static const char *const good[] = {
        "\"samplers\":[\"penalties\",\"dry\",\"top_n_sigma\",\"top_k\",\"typ_p\",\"top_p\",\"min_p\","
            "\"xtc\",\"temperature\"]",
        "\"samplers\":\"top_k;temperature\"", "\"samplers\":[]",
        "\"dry_sequence_breakers\":[\"\\n\",\":\"],\"dry_multiplier\":0.5", "\"min_keep\":0",
        "\"top_n_sigma\":0,\"best_of\":1,\"length_penalty\":1.0",
        "\"functions\":[],\"function_call\":\"none\",\"lora\":[{\"id\":0,\"scale\":0}]",
    };
    static const struct wrong wrong[] = {
        { "/completion", "{\"prompt\":\"x\",\"samplers\":[\"no_such\"]}", 400, "\"param\":\"samplers\"" },
        { "/completion", "{\"prompt\":\"x\",\"samplers\":[\"top_k\",\"top_k\"]}", 400, "twice" },
        { "/completion", "{\"prompt\":\"x\",\"top_n_sigma\":1}", 400, "\"param\":\"top_n_sigma\"" },
        { "/completion", "{\"prompt\":\"x\",\"n_probs\":2,\"post_sampling_probs\":true}", 400,
          "\"param\":\"post_sampling_probs\"" },
        { "/completion", "{\"prompt\":\"x\",\"lora\":[{\"id\":0,\"scale\":1}]}", 400, "no adapter 0" },
        { "/v1/completions", "{\"prompt\":\"x\",\"best_of\":2}", 400, "\"param\":\"best_of\"" },
        { "/v1/completions", "{\"prompt\":\"x\",\"allowed_token_ids\":[]}", 400, "allowed_token_ids" },
        { "/v1/completions", "{\"prompt\":\"x\",\"allowed_token_ids\":[99999999]}", 400,
          "allowed_token_ids[0]" },
    };
    char body[512];
    json_t *j;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        (void)snprintf(body, sizeof body, "{\"prompt\":\"x\",\"n_predict\":2,%s}", good[i]);
        if (post("/completion", body) != 200)
            fail_msg("%s: %s", body, answer);
    }
    refuses(wrong, sizeof wrong / sizeof *wrong, "{\"error\"");
    assert_int_equal(post("/v1/completions", "{\"prompt\":\"x\",\"allowed_token_ids\":[70,71],"
                          "\"temperature\":2,\"max_tokens\":30,\"return_token_ids\":true}"), 200);
    j = parsed();
    assert_int_equal(json_array_size(at(j, "choices.0.token_ids")), 30);
    for (size_t i = 0; i < 30; i++) {
        const json_int_t id = json_integer_value(json_array_get(at(j, "choices.0.token_ids"), i));

        assert_true(id == 70 || id == 71);
    }
    json_decref(j);
    assert_int_equal(ask(&shared_server, "GET", "/lora-adapters", "", ""), 200);
    assert_string_equal(answer, "[]");
}

/* ---- an answer that has begun ---- */

#define HI "{\"role\":\"user\",\"content\":\"hi\"}"
#define BEGUN "\"messages\":[" HI ",{\"role\":\"assistant\",\"content\":\"abc\"}]"

static void answers_go_on(void **state)
{
    static const struct wrong wrong[] = {
        { "/v1/chat/completions", "{\"messages\":[" HI "],\"continue_final_message\":true}", 400,
          "\"param\":\"continue_final_message\"" },
        { "/v1/chat/completions", "{\"messages\":[" HI ",{\"role\":\"assistant\",\"content\":\"a\","
          "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}],"
          "\"continue_final_message\":true}", 400, "continue_final_message" },
    };
    char prompt[1024], whole[512], body[2048];
    size_t n;
    json_t *j;

    (void)state;
    refuses(wrong, sizeof wrong / sizeof *wrong, "{\"error\"");
    assert_int_equal(post("/apply-template", "{" BEGUN ",\"continue_final_message\":true}"), 200);
    j = parsed();
    (void)snprintf(prompt, sizeof prompt, "%s", text_at(j, "prompt"));
    json_decref(j);
    n = strlen(prompt);
    assert_true(n > 3 && strcmp(prompt + n - 3, "abc") == 0);
    assert_int_equal(post("/v1/chat/completions", "{" BEGUN ",\"continue_final_message\":true," ASKED "}"),
                     200);
    j = parsed();
    (void)snprintf(whole, sizeof whole, "%s", text_at(j, "choices.0.message.content"));
    json_decref(j);
    j = json_pack("{s:s,s:i,s:i,s:b}", "prompt", prompt, "max_tokens", 8, "temperature", 0, "ignore_eos", 1);
    {
        char *text = json_dumps(j, 0);

        (void)snprintf(body, sizeof body, "%s", text);
        free(text);
    }
    json_decref(j);
    assert_int_equal(post("/v1/completions", body), 200);
    j = parsed();
    assert_string_equal(text_at(j, "choices.0.text"), whole);
    json_decref(j);
    /* Anthropic: an assistant's last message is the beginning of the answer */
    assert_int_equal(post("/v1/messages", "{" BEGUN "," ASKED "}"), 200);
    j = parsed();
    assert_string_equal(text_at(j, "content.0.text"), whole);
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_are_answered_as_alone),
        cmocka_unit_test(streamed_prompts),
        cmocka_unit_test(prompts_all_or_none),
        cmocka_unit_test(offsets_are_of_characters),
        cmocka_unit_test(streams_echo),
        cmocka_unit_test(ids_come_back),
        cmocka_unit_test(progress_and_timings),
        cmocka_unit_test(usage_in_every_chunk),
        cmocka_unit_test(stages_and_tokens),
        cmocka_unit_test(answers_go_on),
    };

    return cmocka_run_group_tests_name("serve: fields", tests, group_up, group_down);
}
