/* test_think.c: reasoning and answer told apart, however the text is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "applications/think.h"

static void splits_reasoning_from_answer(void **state)
{
    static const struct { const char *prompt, *text, *reasoning, *answer; } cases[] = {
        { "", "<think>\nhm, 2\n</think>\n\n4.\n", "hm, 2", "4.\n" },
        { "", "\n<think></think>four", "", "four" },
        { "", "plain <think>no</think>", "", "plain <think>no</think>" },
        { "", "  plain", "", "  plain" },
        { "", "<thin air", "", "<thin air" },
        { "", "<thi", "", "<thi" },
        { "<|im_start|>assistant\n<think>\n", "a\n\nb</think>c", "a\n\nb", "c" },
        { "<think>", "never ends </thi", "never ends </thi", "" },
        { "x", "[THINK]a[/THIN]b[/THINK] c", "a[/THIN]b", "c" },
        { "x", "<thinking>a</think></thinking>b", "a</think>", "b" },
        { "x", "", "", "" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t len = strlen(cases[i].text);

        for (size_t cut = 1; cut <= len + 1; cut++) {
            struct str reasoning, answer;
            struct think t;

            str_init(&reasoning, 0);
            str_init(&answer, 0);
            think_init(&t);
            think_begin(&t, cases[i].prompt, strlen(cases[i].prompt));
            for (size_t at = 0; at < len; at += cut)
                think_push(&t, cases[i].text + at, len - at < cut ? len - at : cut, &reasoning, &answer);
            think_finish(&t, &reasoning, &answer);
            assert_string_equal(str_cstr(&reasoning), cases[i].reasoning);
            assert_string_equal(str_cstr(&answer), cases[i].answer);
            think_deinit(&t);
            str_deinit(&reasoning);
            str_deinit(&answer);
        }
    }
}

/* An answer without tags must not wait for its end. */
static void streams_at_once(void **state)
{
    struct str reasoning, answer;
    struct think t;

    (void)state;
    str_init(&reasoning, 0);
    str_init(&answer, 0);
    think_init(&t);
    think_begin(&t, "", 0);
    think_push(&t, "H", 1, &reasoning, &answer);
    assert_string_equal(str_cstr(&answer), "H");
    think_push(&t, "i <", 3, &reasoning, &answer);
    assert_string_equal(str_cstr(&answer), "Hi <");
    think_begin(&t, "", 0);
    think_push(&t, "<think>one <", 12, &reasoning, &answer);
    assert_string_equal(str_cstr(&reasoning), "one");
    think_push(&t, "b", 1, &reasoning, &answer);
    assert_string_equal(str_cstr(&reasoning), "one <b");
    think_deinit(&t);
    str_deinit(&reasoning);
    str_deinit(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_reasoning_from_answer),
        cmocka_unit_test(streams_at_once),
    };

    return cmocka_run_group_tests_name("think", tests, NULL, NULL);
}
