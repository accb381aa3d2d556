/* test_serve_vllm.c: fields of vLLM's that change what comes or what is told: bad_words,
 * prompt_logprobs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "serve_json.h"

#define MESSAGES "\"messages\":[{\"role\":\"user\",\"content\":\"a b c\"}]"

/* The text of a token. */
static void text_of(long long id, char out[64])
{
    char body[64];
    json_t *j;

    (void)snprintf(body, sizeof body, "{\"tokens\":[%lld]}", id);
    assert_int_equal(post("/detokenize", body), 200);
    j = parsed();
    (void)snprintf(out, 64, "%s", text_at(j, "content"));
    json_decref(j);
}

/* Ids of the first choice. */
static size_t ids_of(const json_t *j, long long *ids, size_t cap)
{
    const json_t *list = at(j, "choices.0.token_ids");
    const size_t n = json_array_size(list);

    assert_true(n <= cap);
    for (size_t i = 0; i < n; i++)
        ids[i] = json_integer_value(json_array_get(list, i));
    return n;
}

/* ---- bad_words ---- */

static void bad_words_never_come(void **state)
{
    static const char plain[] = "{\"prompt\":\"Once\",\"max_tokens\":40,\"temperature\":0,\"ignore_eos\":true,"
                                "\"return_token_ids\":true%s}";
    long long free_[64], ids[64], again[64], banned = -1;
    char words[128], body[512], word[64], escaped[72];
    size_t n;
    json_t *j;

    (void)state;
    (void)snprintf(body, sizeof body, plain, "");
    assert_int_equal(post("/v1/completions", body), 200);
    j = parsed();
    n = ids_of(j, free_, 64);
    json_decref(j);
    for (size_t i = 1; i < n && banned < 0; i++) {      /* one that a word can be written with */
        text_of(free_[i], word);
        if (strlen(word) == 1 && word[0] > ' ' && word[0] < 127 && free_[i] != free_[0])
            banned = free_[i];
    }
    assert_true(banned >= 0);
    (void)snprintf(escaped, sizeof escaped, "%s%s", strchr("\"\\", word[0]) ? "\\" : "", word);
    (void)snprintf(words, sizeof words, ",\"bad_words\":[\"%s\",\"zq\"]", escaped);
    (void)snprintf(body, sizeof body, plain, words);
    assert_int_equal(post("/v1/completions", body), 200);
    j = parsed();
    assert_int_equal(ids_of(j, ids, 64), 40);
    json_decref(j);
    for (size_t i = 0; i < 40; i++)
        assert_int_not_equal(ids[i], banned);
    assert_int_equal(ids[0], free_[0]);                 /* nothing else is changed */
    (void)snprintf(words, sizeof words, ",\"bad_words\":[\"  %s\",\"zq\"],\"n\":2", escaped);
    (void)snprintf(body, sizeof body, plain, words);
    assert_int_equal(post("/v1/completions", body), 200);
    j = parsed();
    assert_int_equal(ids_of(j, again, 64), 40);
    json_decref(j);
    assert_memory_equal(ids, again, 40 * sizeof *ids);
    /* nothing is left: the request's doing, not ours */
    (void)snprintf(body, sizeof body, "{\"prompt\":\"x\",\"allowed_token_ids\":[%lld],\"bad_words\":[\"%s\"]}",
                   banned, escaped);
    assert_int_equal(post("/v1/completions", body), 400);
    assert_non_null(strstr(answer, "forbidden"));
    (void)snprintf(body, sizeof body, "{\"prompt\":\"x\",\"allowed_token_ids\":[%lld],\"logit_bias\":"
                   "{\"%lld\":-100},\"stream\":true}", banned, banned);
    assert_int_equal(post("/v1/completions", body), 400);
    assert_non_null(strstr(answer, "invalid_request_error"));
}

static void bad_words_are_bounded(void **state)
{
    static const struct wrong wrong[] = {
        { "/v1/completions", "{\"prompt\":\"x\",\"bad_words\":\"x\"}", 400, "\"param\":\"bad_words\"" },
        { "/v1/completions", "{\"prompt\":\"x\",\"bad_words\":[\"\"]}", 400, "bad_words[0]" },
        { "/v1/completions", "{\"prompt\":\"x\",\"bad_words\":[\"a\",7]}", 400, "bad_words[1]" },
    };
    char body[8192];
    size_t n;

    (void)state;
    refuses(wrong, sizeof wrong / sizeof *wrong, "{\"error\"");
    n = (size_t)snprintf(body, sizeof body, "{\"prompt\":\"x\",\"bad_words\":[\"a\"");
    for (int i = 0; i < 256; i++)
        n += (size_t)snprintf(body + n, sizeof body - n, ",\"b\"");
    (void)snprintf(body + n, sizeof body - n, "]}");
    assert_int_equal(post("/v1/completions", body), 400);
    assert_non_null(strstr(answer, "bad_words"));
    n = (size_t)snprintf(body, sizeof body, "{\"prompt\":\"x\",\"bad_words\":[\"");
    memset(body + n, 'a', 257);
    (void)snprintf(body + n + 257, sizeof body - n - 257, "\"]}");
    assert_int_equal(post("/v1/completions", body), 400);
    assert_non_null(strstr(answer, "257 bytes"));
    assert_int_equal(post("/v1/completions", "{\"prompt\":\"x\",\"max_tokens\":2,\"bad_words\":[\" \",\"   \"]}"),
                     200);
    assert_int_equal(post("/v1/completions", "{\"prompt\":\"x\",\"max_tokens\":2,\"bad_words\":[]}"), 200);
}

/* ---- prompt_logprobs ---- */

/* Entry i of a list: the token's own probability is there, and the best k in order. */
static double check_entry(const json_t *list, size_t i, long long id, size_t k)
{
    const json_t *entry = json_array_get(list, i);
    size_t n_ranked = 0;
    double own = NAN;
    const char *key;
    json_t *v;

    assert_true(json_object_size(entry) >= k && json_object_size(entry) <= k + 1);
    json_object_foreach((json_t *)(uintptr_t)entry, key, v) {
        const long long rank = int_at(v, "rank");

        assert_true(json_is_real(at(v, "logprob")) && json_real_value(at(v, "logprob")) <= 0);
        assert_true(json_is_string(at(v, "decoded_token")));
        assert_true(rank >= 1 && rank <= (long long)TINY_VOCAB);
        if (rank <= (long long)k)
            n_ranked++;
        if (strtoll(key, NULL, 10) == id)
            own = json_real_value(at(v, "logprob"));
    }
    assert_int_equal(n_ranked, k);
    assert_true(own <= 0);              /* and no NaN */
    return own;
}

/* The numbers are those that echo with logprobs gives. */
static void prompts_are_told(void **state)
{
    json_t *echo, *j;
    const json_t *list, *values;

    (void)state;
    assert_int_equal(post("/v1/completions", "{\"prompt\":[70,71,72,70,71],\"echo\":true,\"logprobs\":2,"
                          "\"max_tokens\":1,\"ignore_eos\":true}"), 200);
    echo = parsed();
    values = at(echo, "choices.0.logprobs.token_logprobs");
    for (int round = 0; round < 2; round++) {
        assert_int_equal(post("/v1/completions", "{\"prompt\":[70,71,72,70,71],\"prompt_logprobs\":3,"
                              "\"max_tokens\":4,\"n\":2,\"return_token_ids\":true}"), 200);
        j = parsed();
        for (int i = 0; i < 2; i++) {
            list = at(j, i ? "choices.1.prompt_logprobs" : "choices.0.prompt_logprobs");
            assert_int_equal(json_array_size(list), 5);
            assert_true(json_is_null(json_array_get(list, 0)));
            for (size_t k = 1; k < 5; k++)
                assert_true(check_entry(list, k, k == 3 ? 70 : k == 2 ? 72 : 71, 3) ==
                            json_real_value(json_array_get(values, k)));
        }
        assert_true(json_is_null(at(j, "choices.0.logprobs")));
        json_decref(j);
    }
    json_decref(echo);
    /* beside echo, each has its own number of alternatives; and with no answer */
    assert_int_equal(post("/v1/completions", "{\"prompt\":[70,71,72],\"echo\":true,\"logprobs\":1,"
                          "\"prompt_logprobs\":4,\"max_tokens\":0}"), 200);
    j = parsed();
    assert_int_equal(json_object_size(at(j, "choices.0.logprobs.top_logprobs.1")), 1);
    (void)check_entry(at(j, "choices.0.prompt_logprobs"), 1, 71, 4);
    json_decref(j);
    assert_int_equal(post("/v1/completions", "{\"prompt\":[[70,71],[72,73,74]],\"prompt_logprobs\":0,"
                          "\"max_tokens\":1}"), 200);
    j = parsed();
    assert_int_equal(json_array_size(at(j, "choices.0.prompt_logprobs")), 2);
    assert_int_equal(json_array_size(at(j, "choices.1.prompt_logprobs")), 3);
    assert_int_equal(json_object_size(at(j, "choices.1.prompt_logprobs.1")), 1);
    (void)check_entry(at(j, "choices.1.prompt_logprobs"), 2, 74, 0);
    json_decref(j);
}

static void chats_are_told(void **state)
{
    json_t *j;
    size_t n;

    (void)state;
    assert_int_equal(post("/v1/chat/completions", "{" MESSAGES ",\"prompt_logprobs\":1,\"max_tokens\":3,"
                          "\"logprobs\":true,\"ignore_eos\":true,\"return_token_ids\":true}"), 200);
    j = parsed();
    n = (size_t)int_at(j, "usage.prompt_tokens");
    assert_int_equal(json_array_size(at(j, "prompt_logprobs")), n);
    assert_true(json_is_null(at(j, "prompt_logprobs.0")));
    for (size_t i = 1; i < n; i++)
        (void)check_entry(at(j, "prompt_logprobs"), i,
                          json_integer_value(json_array_get(at(j, "prompt_token_ids"), i)), 1);
    assert_int_equal(json_array_size(at(j, "choices.0.logprobs.content")), 3);
    json_decref(j);
    assert_int_equal(post("/v1/chat/completions", "{" MESSAGES ",\"max_tokens\":3}"), 200);
    assert_null(strstr(answer, "prompt_logprobs"));
    /* as there: a stream has none, and asks in vain for 0 */
    assert_int_equal(post("/v1/chat/completions", "{" MESSAGES ",\"prompt_logprobs\":0,\"max_tokens\":3,"
                          "\"stream\":true}"), 200);
    assert_null(strstr(answer, "prompt_logprobs"));
}

static void prompt_logprobs_are_bounded(void **state)
{
    static const struct wrong wrong[] = {
        { "/v1/completions", "{\"prompt\":\"x\",\"prompt_logprobs\":-1}", 400, "\"param\":\"prompt_logprobs\"" },
        { "/v1/completions", "{\"prompt\":\"x\",\"prompt_logprobs\":65}", 400, "\"param\":\"prompt_logprobs\"" },
        { "/v1/completions", "{\"prompt\":\"x\",\"prompt_logprobs\":true}", 400, "prompt_logprobs" },
        { "/v1/chat/completions", "{" MESSAGES ",\"prompt_logprobs\":1,\"stream\":true}", 400,
          "\"param\":\"prompt_logprobs\"" },
        { "/completion", "{\"prompt\":\"x\",\"prompt_logprobs\":1}", 400, "\"param\":\"prompt_logprobs\"" },
        { "/v1/responses", "{\"input\":\"x\",\"prompt_logprobs\":1}", 400, "\"param\":\"prompt_logprobs\"" },
    };
    char body[32768];
    size_t n = 0;

    (void)state;
    refuses(wrong, sizeof wrong / sizeof *wrong, "{\"error\"");
    /* 60 prompts of 70 tokens with 64 each */
    n = (size_t)snprintf(body, sizeof body, "{\"max_tokens\":0,\"prompt_logprobs\":64,\"prompt\":[");
    for (int i = 0; i < 60; i++) {
        n += (size_t)snprintf(body + n, sizeof body - n, "%s[1", i ? "," : "");
        for (int k = 0; k < 69; k++)
            n += (size_t)snprintf(body + n, sizeof body - n, ",%d", 70 + k % 9);
        n += (size_t)snprintf(body + n, sizeof body - n, "]");
    }
    (void)snprintf(body + n, sizeof body - n, "]}");
    assert_int_equal(post("/v1/completions", body), 400);
    assert_non_null(strstr(answer, "273000 log probabilities, at most 262144"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_words_never_come),
        cmocka_unit_test(bad_words_are_bounded),
        cmocka_unit_test(prompts_are_told),
        cmocka_unit_test(chats_are_told),
        cmocka_unit_test(prompt_logprobs_are_bounded),
    };

    return cmocka_run_group_tests_name("serve: vLLM's fields", tests, group_up, group_down);
}
