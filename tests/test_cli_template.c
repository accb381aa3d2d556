/* `watt template`: the exact text, the clock, files, and one line of error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "spawn.h"

static struct spawned r;
static char dir[] = "watt-template-XXXXXX", file[64], out[64];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(file, sizeof file, "%s/t.jinja", dir);
    (void)snprintf(out, sizeof out, "%s/out.txt", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(file);
    (void)unlink(out);
    return rmdir(dir);
}

static void write_file(const char *text)
{
    FILE *f = fopen(file, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void prints_the_text_and_nothing_else(void **state)
{
    (void)state;
    write_file("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}\n");
    spawn(&r, "{\"messages\":[{\"role\":\"user\",\"content\":\"h\\u00e9\"}]}", "template", file,
          "--vars", "-");
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out, "<user>h\xc3\xa9");
    assert_string_equal(r.err, "");
}

static void shows_the_clock_it_is_given(void **state)
{
    (void)state;
    write_file("{{ strftime_now('%d %b %Y %H:%M') }}");
    spawn(&r, NULL, "template", file, "--now", "2026-07-26T12:00");
    assert_string_equal(r.out, "26 Jul 2026 12:00");
    spawn(&r, NULL, "template", file, "--now", "2024-02-29");
    assert_string_equal(r.out, "29 Feb 2024 00:00");
    spawn(&r, NULL, "template", file, "--now", "2023-02-29");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "--now 2023-02-29: expected a time"));
}

static void a_failure_leaves_nothing(void **state)
{
    (void)state;
    write_file("text\n{{ raise_exception('roles must alternate') }}");
    spawn(&r, NULL, "template", file, "--out", out);
    assert_int_equal(r.code, 1);
    assert_string_equal(r.out, "");
    assert_non_null(strstr(r.err, "t.jinja:2: roles must alternate\n"));
    assert_int_equal(access(out, F_OK), -1);
    spawn(&r, "[1]", "template", file, "--vars", "-");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "one JSON object"));
    spawn(&r, NULL, "template", "no-such-file");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "no-such-file"));
    spawn(&r, NULL, "template", dir);
    assert_int_equal(r.code, 1);
}

static void a_loop_for_ever_stops(void **state)
{
    (void)state;
    write_file("{% macro f() %}{% for i in range(99999) %}{{ f() }}{% endfor %}{% endmacro %}{{ f() }}");
    spawn(&r, NULL, "template", file);
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "nested deeper"));
    write_file("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}");
    spawn(&r, NULL, "template", file);
    assert_int_equal(r.code, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_the_text_and_nothing_else),
        cmocka_unit_test(shows_the_clock_it_is_given),
        cmocka_unit_test(a_failure_leaves_nothing),
        cmocka_unit_test(a_loop_for_ever_stops),
    };

    return cmocka_run_group_tests_name("cli_template", tests, set_up, tear_down);
}
