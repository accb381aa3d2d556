/* test_base_err.c: messages: context, errno, hostile bytes, cutting. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/utf8.h"

static void sets_code_and_message(void **state)
{
    struct err e = { 0 };

    (void)state;
    assert_int_equal(err_set(&e, WATT_EFORMAT, "a.gguf: field %d", 3), WATT_EFORMAT);
    assert_int_equal(e.code, WATT_EFORMAT);
    assert_string_equal(e.msg, "a.gguf: field 3");
    assert_int_equal(err_set(NULL, WATT_EIO, "nobody listens"), WATT_EIO);
}

static void puts_context_in_front(void **state)
{
    struct err e = { 0 };

    (void)state;
    (void)err_set(&e, WATT_ENOENT, "no key");
    assert_int_equal(err_prefix(&e, "model %s", "x"), WATT_ENOENT);
    assert_string_equal(e.msg, "model x: no key");
    /* its own message as an argument */
    (void)err_set(&e, WATT_EINVAL, "again: %s", e.msg);
    assert_string_equal(e.msg, "again: model x: no key");
    assert_int_equal(err_prefix(NULL, "x"), WATT_EINVAL);
}

static void says_what_the_system_says(void **state)
{
    struct err e = { 0 };

    (void)state;
    (void)err_errno(&e, WATT_EIO, ENOENT, "%s", "f");
    assert_string_equal(e.msg, "f: No such file or directory");
    (void)err_errno(&e, WATT_EIO, 99999, "f");
    assert_non_null(strstr(e.msg, "99999"));
}

static void replaces_hostile_bytes(void **state)
{
    struct err e = { 0 };

    (void)state;
    (void)err_set(&e, WATT_EFORMAT, "a\nb\x1b[2Jc\x7f" "d");
    assert_string_equal(e.msg, "a?b?[2Jc?d");
    (void)err_set(&e, WATT_EFORMAT, "x\xff\xc3y\xc2\x9bz");   /* U+009B is a terminal's CSI */
    assert_string_equal(e.msg, "x??y?z");
    (void)err_set(&e, WATT_EFORMAT, "grün 水 𝔸");
    assert_string_equal(e.msg, "grün 水 𝔸");
}

static void cuts_between_characters(void **state)
{
    struct err e = { 0 };
    char text[2 * ERR_MSG_MAX];

    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        size_t n = 0;

        memset(text, 'a', shift);
        n = shift;
        while (n + 4 < sizeof text) {
            memcpy(text + n, "\xf0\x9d\x94\xb8", 4);
            n += 4;
        }
        text[n] = '\0';
        (void)err_set(&e, WATT_EFORMAT, "%s", text);
        assert_true(strlen(e.msg) < ERR_MSG_MAX);
        assert_true(strlen(e.msg) > ERR_MSG_MAX - 8);
        assert_true(utf8_valid(e.msg, strlen(e.msg)));
        assert_string_equal(e.msg + strlen(e.msg) - 3, "...");
        assert_null(strchr(e.msg, '?'));
        (void)err_prefix(&e, "%s", text);
        assert_true(utf8_valid(e.msg, strlen(e.msg)));
        (void)err_errno(&e, WATT_EIO, ENOENT, "%s", text);
        assert_true(utf8_valid(e.msg, strlen(e.msg)));
    }
}

static void names_every_code(void **state)
{
    (void)state;
    for (int code = WATT_ETIME; code <= WATT_OK; code++)
        assert_string_not_equal(err_name(code), "unknown error");
    assert_string_equal(err_name(-1000), "unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_code_and_message),
        cmocka_unit_test(puts_context_in_front),
        cmocka_unit_test(says_what_the_system_says),
        cmocka_unit_test(replaces_hostile_bytes),
        cmocka_unit_test(cuts_between_characters),
        cmocka_unit_test(names_every_code),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
