/* test_serve_habits.c: what clients send beside the fields that every server has: other spellings, parts
 * of messages, ways to switch reasoning, documents, caches that are to be emptied. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "serve_json.h"

#define HI "{\"role\":\"user\",\"content\":\"hi\"}"

/* Reasoning can be switched, and documents are shown. */
static struct server thinker;

/* The text that the template made of a chat's request. */
static void prompt_of(const struct server *s, const char *fields, char out[512])
{
    char body[1024];
    json_t *j;

    (void)snprintf(body, sizeof body, "{%s}", fields);
    if (ask(s, "POST", "/apply-template", "", body) != 200)
        fail_msg("%s: %s", body, answer);
    j = parsed();
    (void)snprintf(out, 512, "%s", text_at(j, "prompt"));
    json_decref(j);
}

static int up(void **state)
{
    static const char source[] = "{% for d in documents %}[{{ d.text }}]{% endfor %}"
        "{% for m in messages %}<{{ m.role }}>{% if m.reasoning_content %}({{ m.reasoning_content }})"
        "{% endif %}{{ m.content }}{% endfor %}<assistant>"
        "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% else %}<think>\n"
        "{% endif %}";
    static char path[80];
    const char *more[] = { "--template", path, NULL };
    FILE *f;

    (void)group_up(state);
    (void)snprintf(path, sizeof path, "%s/thinks.jinja", tiny_dir);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(source, f) >= 0);
    assert_int_equal(fclose(f), 0);
    start(&thinker, more);
    (void)remove(path);
    return 0;
}

static int down(void **state)
{
    assert_int_equal(stop(&thinker), 0);
    return group_down(state);
}

/* ---- tokens ---- */

/* llama-server's list says what an object says, and takes texts and false. */
static void biases_in_pairs(void **state)
{
    static const char *const same[] = { "{\"70\":-100,\"71\":3.5}", "[[70,false],[71,3.5]]",
                                        "[[70,-100],[71,3.5]]" };
    static const struct wrong wrong[] = {
        { "/completion", "{\"prompt\":\"x\",\"logit_bias\":[5]}", 400, "logit_bias[0]" },
        { "/completion", "{\"prompt\":\"x\",\"logit_bias\":[[5]]}", 400, "logit_bias[0]" },
        { "/completion", "{\"prompt\":\"x\",\"logit_bias\":[[5,true]]}", 400, "logit_bias[0]" },
        { "/completion", "{\"prompt\":\"x\",\"logit_bias\":[[5,1],[-5,1]]}", 400, "logit_bias[1]" },
        { "/completion", "{\"prompt\":\"x\",\"logit_bias\":[[99999999,1]]}", 400, "logit_bias[0]" },
        { "/completion", "{\"prompt\":\"x\",\"logit_bias\":[[null,1]]}", 400, "logit_bias[0]" },
        { "/completion", "{\"prompt\":\"x\",\"logit_bias\":\"x\"}", 400, "\"param\":\"logit_bias\"" },
    };
    char first[512] = "", body[512];
    json_t *j;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(body, sizeof body, "{\"prompt\":\"ab\",\"max_tokens\":30,\"temperature\":0,"
                       "\"ignore_eos\":true,\"logit_bias\":%s}", same[i]);
        j = posted("/v1/completions", body);
        if (i == 0)
            (void)snprintf(first, sizeof first, "%s", text_at(j, "choices.0.text"));
        assert_string_equal(text_at(j, "choices.0.text"), first);
        json_decref(j);
    }
    /* every token of a text, in a place where nothing else may come */
    j = posted("/v1/completions", "{\"prompt\":\"ab\",\"max_tokens\":9,\"temperature\":0,\"logit_bias\":"
               "[[\"q\",1000],[\"x\",false]]}");
    assert_string_equal(text_at(j, "choices.0.text"), "qqqqqqqqq");
    json_decref(j);
    json_decref(posted("/completion", "{\"prompt\":\"x\",\"n_predict\":1,\"logit_bias\":[]}"));
    refuses(wrong, sizeof wrong / sizeof *wrong, "{\"error\"");
}

static void samplers_by_letters(void **state)
{
    static const char *const good[] = { "\"edkypmxt\"", "\"k\"", "\"temp\"", "\"edskypmxti\"",
        "\"penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature\"", "\"\"" };
    char body[256];

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        (void)snprintf(body, sizeof body, "{\"prompt\":\"x\",\"n_predict\":1,\"samplers\":%s}", good[i]);
        json_decref(posted("/completion", body));
    }
    assert_int_equal(post("/completion", "{\"prompt\":\"x\",\"samplers\":\"kk\"}"), 400);
    assert_non_null(strstr(answer, "twice"));
    assert_int_equal(post("/completion", "{\"prompt\":\"x\",\"samplers\":\"kz\"}"), 400);
    assert_non_null(strstr(answer, "'kz'"));
}

static void tokens_named_by_id(void **state)
{
    json_t *j = posted("/v1/chat/completions", "{\"messages\":[" HI "],\"max_tokens\":2,\"ignore_eos\":true,"
                       "\"logprobs\":true,\"top_logprobs\":2,\"return_tokens_as_token_ids\":true,"
                       "\"return_token_ids\":true}");
    char want[32];

    (void)state;
    (void)snprintf(want, sizeof want, "token_id:%lld", int_at(j, "choices.0.token_ids.0"));
    assert_string_equal(text_at(j, "choices.0.logprobs.content.0.token"), want);
    assert_int_equal(strncmp(text_at(j, "choices.0.logprobs.content.1.top_logprobs.1.token"), "token_id:", 9), 0);
    json_decref(j);
    j = posted("/v1/completions", "{\"prompt\":[70,71],\"echo\":true,\"logprobs\":1,\"max_tokens\":1,"
               "\"return_tokens_as_token_ids\":true}");
    assert_string_equal(text_at(j, "choices.0.logprobs.tokens.1"), "token_id:71");
    assert_int_equal(int_at(j, "choices.0.logprobs.text_offset.1"), 1);     /* of the text itself */
    json_decref(j);
}

/* ---- messages ---- */

static void parts_of_messages(void **state)
{
    char prompt[512];

    (void)state;
    prompt_of(&thinker, "\"messages\":[" HI ",{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\","
              "\"thinking\":\"hm\",\"signature\":\"s\"},{\"type\":\"text\",\"text\":\"I\"},{\"type\":\"refusal\","
              "\"refusal\":\"won't\"}]}," HI "]", prompt);
    assert_string_equal(prompt, "<user>hi<assistant>(hm)I\nwon't<user>hi<assistant><think>\n");
    assert_int_equal(post("/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
                          "\"image_url\",\"image_url\":{\"url\":\"x\"}}]}]}"), 400);
    assert_non_null(strstr(answer, "'image_url'"));
}

static void documents_are_shown(void **state)
{
    static const char some[] = "{\"messages\":[" HI "],\"max_tokens\":1,\"documents\":[{\"text\":\"d\"}]}";
    char prompt[512];

    (void)state;
    prompt_of(&thinker, "\"messages\":[" HI "],\"documents\":[{\"text\":\"one\"},{\"text\":\"two\"}]", prompt);
    assert_int_equal(strncmp(prompt, "[one][two]<user>hi", 18), 0);
    assert_int_equal(post("/v1/chat/completions", some), 400);
    assert_non_null(strstr(answer, "\"param\":\"documents\""));
    json_decref(posted("/v1/chat/completions", "{\"messages\":[" HI "],\"max_tokens\":1,\"documents\":[],"
                       "\"chat_template\":null}"));
    assert_int_equal(post("/v1/chat/completions", "{\"messages\":[" HI "],\"chat_template\":\"x\"}"), 400);
    assert_non_null(strstr(answer, "\"param\":\"chat_template\""));
}

/* Anthropic's documents are text of the message that they stand in. */
static void documents_of_messages(void **state)
{
#define COUNT(content) "{\"messages\":[{\"role\":\"user\",\"content\":" content "}]}"
    static const char *const same[] = {
        COUNT("\"Title\\nwhat it says\\nAnd?\""),
        COUNT("[{\"type\":\"document\",\"title\":\"Title\",\"source\":{\"type\":\"text\",\"media_type\":"
              "\"text/plain\",\"data\":\"what it says\"}},{\"type\":\"text\",\"text\":\"And?\"}]"),
        COUNT("[{\"type\":\"document\",\"title\":\"Title\",\"source\":{\"type\":\"content\",\"content\":["
              "{\"type\":\"text\",\"text\":\"what it says\"}]}},{\"type\":\"text\",\"text\":\"And?\"}]"),
        COUNT("[{\"type\":\"search_result\",\"title\":\"Title\",\"source\":\"https://x\",\"content\":["
              "{\"type\":\"text\",\"text\":\"what it says\"}]},{\"type\":\"text\",\"text\":\"And?\"}]"),
    };
    static const struct wrong wrong[] = {
        { "/v1/messages/count_tokens", COUNT("[{\"type\":\"document\",\"source\":{\"type\":\"base64\",\"data\":\"A\"}}]"),
          400, "'base64'" },
        { "/v1/messages/count_tokens", COUNT("[{\"type\":\"document\"}]"), 400, "source" },
        { "/v1/messages/count_tokens", COUNT("[{\"type\":\"document\",\"source\":{\"type\":\"text\"}}]"), 400, "data" },
        { "/v1/messages/count_tokens", COUNT("[{\"type\":\"search_result\",\"source\":\"x\",\"content\":7}]"), 400,
          "content" },
    };
    long long n = 0;

    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        json_t *j = posted("/v1/messages/count_tokens", same[i]);

        if (i == 0)
            n = int_at(j, "input_tokens");
        assert_int_equal(int_at(j, "input_tokens"), n);
        json_decref(j);
    }
    refuses(wrong, sizeof wrong / sizeof *wrong, "{\"type\":\"error\"");
}

static void prompts_as_objects(void **state)
{
    json_t *j = posted("/completion", "{\"prompt\":{\"prompt_string\":\"Once\",\"multimodal_data\":[]},"
                       "\"n_predict\":4,\"temperature\":0}");
    char text[128];

    (void)state;
    (void)snprintf(text, sizeof text, "%s", text_at(j, "content"));
    json_decref(j);
    j = posted("/completion", "{\"prompt\":\"Once\",\"n_predict\":4,\"temperature\":0}");
    assert_string_equal(text_at(j, "content"), text);
    json_decref(j);
    assert_int_equal(post("/completion", "{\"prompt\":{\"prompt_string\":\"x\",\"multimodal_data\":[\"A\"]}}"), 400);
    assert_non_null(strstr(answer, "multimodal_data"));
    assert_int_equal(post("/completion", "{\"prompt\":{}}"), 400);
    assert_non_null(strstr(answer, "prompt_string"));
}

/* vLLM's: nothing goes in front of the text. */
static void prompts_without_bos(void **state)
{
    json_t *with = posted("/v1/completions", "{\"prompt\":\"abc\",\"max_tokens\":1}");
    json_t *without = posted("/v1/completions", "{\"prompt\":\"abc\",\"max_tokens\":1,\"add_special_tokens\":false}");
    json_t *plain = posted("/v1/tokenize", "{\"prompt\":\"abc\",\"add_special_tokens\":false}");

    (void)state;
    assert_int_equal(int_at(without, "usage.prompt_tokens"), int_at(plain, "count"));
    assert_true(int_at(with, "usage.prompt_tokens") >= int_at(plain, "count"));
    json_decref(with);
    json_decref(without);
    json_decref(plain);
}

/* ---- reasoning ---- */

static void thinking_is_switched(void **state)
{
    static const struct { const char *field; bool on; } cases[] = {
        { "\"thinking\":{\"type\":\"disabled\"}", false }, { "\"thinking\":false", false },
        { "\"thinking\":{\"type\":\"enabled\"}", true }, { "\"thinking\":true", true },
        { "\"thinking\":{\"type\":\"adaptive\"}", true }, { "\"thinking\":null", true },
        { "\"enable_thinking\":false", false }, { "\"reasoning_effort\":\"none\"", false },
    };
    long long n[2] = { 0, 0 };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[256];
        json_t *j;
        long long *want = &n[cases[i].on], now;

        (void)snprintf(body, sizeof body, "{\"messages\":[" HI "],\"max_tokens\":1,%s}", cases[i].field);
        if (ask(&thinker, "POST", "/v1/chat/completions", "", body) != 200)
            fail_msg("%s: %s", body, answer);
        j = parsed();
        now = int_at(j, "usage.prompt_tokens");
        if (*want == 0)
            *want = now;
        assert_int_equal(now, *want);
        json_decref(j);
    }
    assert_int_not_equal(n[0], n[1]);
    assert_int_equal(ask(&thinker, "POST", "/v1/chat/completions", "", "{\"messages\":[" HI "],"
                         "\"thinking\":{\"type\":\"maybe\"}}"), 400);
    assert_non_null(strstr(answer, "\"param\":\"thinking\""));
}

/* Apart, within the answer, or not at all. */
static void reasoning_is_hidden(void **state)
{
    static const char fields[] = "{\"messages\":[" HI "],\"max_tokens\":9,\"temperature\":0,"
                                 "\"ignore_eos\":true,\"stream\":%s%s}";
    static const char *const more[] = { "", ",\"include_reasoning\":false", ",\"separate_reasoning\":false" };
    char body[512];

    (void)state;
    for (int i = 0; i < 3; i++) {
        json_t *j;

        (void)snprintf(body, sizeof body, fields, "false", more[i]);
        assert_int_equal(ask(&thinker, "POST", "/v1/chat/completions", "", body), 200);
        j = parsed();
        assert_int_equal(at(j, "choices.0.message.reasoning_content") != NULL, i == 0);
        assert_int_equal(*text_at(j, "choices.0.message.content") != '\0', i == 2);
        assert_int_equal(int_at(j, "usage.completion_tokens"), 9);
        json_decref(j);
        (void)snprintf(body, sizeof body, fields, "true", more[i]);
        assert_int_equal(ask(&thinker, "POST", "/v1/chat/completions", "", body), 200);
        assert_int_equal(strstr(answer, "\"reasoning_content\"") != NULL, i == 0);
        assert_int_equal(strstr(answer, "\"content\":\"") != NULL, i == 2);
        assert_non_null(strstr(answer, "data: [DONE]"));
    }
}

/* ---- caches ---- */

static void caches_are_emptied(void **state)
{
    static const char body[] = "{\"prompt\":\"a text of some length\",\"max_tokens\":1}";
    static const char *const paths[] = { "/reset_prefix_cache", "/flush_cache" };

    (void)state;
    for (int i = 0; i < 2; i++) {
        json_t *j;

        json_decref(posted("/v1/completions", body));
        j = posted("/v1/completions", body);
        assert_true(int_at(j, "usage.prompt_tokens_details.cached_tokens") > 0);
        json_decref(j);
        assert_int_equal(post(paths[i], ""), 200);
        j = posted("/v1/completions", body);
        assert_int_equal(int_at(j, "usage.prompt_tokens_details.cached_tokens"), 0);
        json_decref(j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(biases_in_pairs),
        cmocka_unit_test(samplers_by_letters),
        cmocka_unit_test(tokens_named_by_id),
        cmocka_unit_test(parts_of_messages),
        cmocka_unit_test(documents_are_shown),
        cmocka_unit_test(documents_of_messages),
        cmocka_unit_test(prompts_as_objects),
        cmocka_unit_test(prompts_without_bos),
        cmocka_unit_test(thinking_is_switched),
        cmocka_unit_test(reasoning_is_hidden),
        cmocka_unit_test(caches_are_emptied),
    };

    return cmocka_run_group_tests_name("serve: habits", tests, up, down);
}
