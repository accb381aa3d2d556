/* test_stops.c: stop strings, however the text is cut into pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/rng.h"
#include "models/stops.h"

static void shows_text_before_the_stop(void **state)
{
    static const char *const stops[] = { "User:", "</s>", "<", "###" };
    const struct { size_t first, n; const char *text, *shown; int hit; } cases[] = {
        { 0, 2, "hello User: what", "hello ", 0 },
        { 0, 2, "hello Use", "hello Use", -1 },
        { 0, 2, "UsUser:", "Us", 0 },
        { 0, 2, "a</s>User:", "a", 1 },
        { 0, 3, "a</s>", "a", 2 },      /* "<" is complete before "</s>" can be */
        { 3, 1, "####", "", 0 },
        { 0, 0, "anything </s>", "anything </s>", -1 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t len = strlen(cases[i].text);

        for (size_t cut = 1; cut <= len; cut++) {
            struct stops s;
            struct str out;
            struct err e;
            bool done = false;

            str_init(&out, 0);
            assert_int_equal(stops_init(&s, stops + cases[i].first, cases[i].n, &e), 0);
            for (size_t at = 0; at < len && !done; at += cut)
                done = stops_push(&s, cases[i].text + at, len - at < cut ? len - at : cut, &out);
            assert_int_equal(done, cases[i].hit >= 0);
            /* one byte at a time, the shorter of two strings at one place wins */
            if (done && i != 4)
                assert_int_equal(s.hit, cases[i].hit);
            stops_finish(&s, &out);
            assert_string_equal(str_cstr(&out), cases[i].shown);
            str_deinit(&out);
            stops_deinit(&s);
        }
    }
}

static void held_back_only_while_undecided(void **state)
{
    static const char *const stops[] = { "STOP" };
    struct stops s;
    struct str out;
    struct err e;

    (void)state;
    str_init(&out, 0);
    assert_int_equal(stops_init(&s, stops, 1, &e), 0);
    assert_false(stops_push(&s, "xSTO", 4, &out));
    assert_string_equal(str_cstr(&out), "x");
    assert_false(stops_push(&s, "R", 1, &out));
    assert_string_equal(str_cstr(&out), "xSTOR");
    stops_reset(&s);
    assert_true(stops_push(&s, "STOPS", 5, &out));
    assert_string_equal(str_cstr(&out), "xSTOR");
    str_deinit(&out);
    stops_deinit(&s);
}

/* Against looking for the strings in the whole text. */
static void any_cut_gives_the_same(void **state)
{
    static const char *const stops[] = { "aba", "bb", "abcb" };
    struct rng r;

    (void)state;
    rng_init(&r, 4);
    for (int round = 0; round < 3000; round++) {
        char text[13] = "";
        size_t want = 12;
        struct stops s;
        struct str out;
        struct err e;
        bool done = false;

        for (int i = 0; i < 12; i++)
            text[i] = (char)('a' + rng_below(&r, 3));
        for (int i = 0; i < 3; i++) {
            const char *at = strstr(text, stops[i]);

            if (at && (size_t)(at - text) < want)
                want = (size_t)(at - text);
        }
        str_init(&out, 0);
        assert_int_equal(stops_init(&s, stops, 3, &e), 0);
        for (size_t at = 0; at < 12 && !done; ) {
            size_t n = 1 + rng_below(&r, 5);

            n = n < 12 - at ? n : 12 - at;
            done = stops_push(&s, text + at, n, &out);
            at += n;
        }
        stops_finish(&s, &out);
        assert_int_equal(done, want < 12);
        assert_int_equal(out.len, want);
        str_deinit(&out);
        stops_deinit(&s);
    }
}

static void bad_strings_are_refused(void **state)
{
    const char *many[STOPS_MAX + 1], *empty = "";
    char big[STOPS_MAX_BYTES + 2];
    const char *too_big = big;
    struct stops s;
    struct err e;

    (void)state;
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    for (size_t i = 0; i <= STOPS_MAX; i++)
        many[i] = "x";
    assert_int_equal(stops_init(&s, many, STOPS_MAX + 1, &e), WATT_EINVAL);
    assert_int_equal(stops_init(&s, &empty, 1, &e), WATT_EINVAL);
    assert_int_equal(stops_init(&s, &too_big, 1, &e), WATT_EINVAL);
    stops_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_text_before_the_stop),
        cmocka_unit_test(held_back_only_while_undecided),
        cmocka_unit_test(any_cut_gives_the_same),
        cmocka_unit_test(bad_strings_are_refused),
    };

    return cmocka_run_group_tests_name("stops", tests, NULL, NULL);
}
