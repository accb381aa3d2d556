/* test_base_json.c: limits, paths in messages, ranges, kinds, escaping. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"

static json_t *parse(const char *text)
{
    json_t *doc = NULL;
    struct err e;

    if (json_parse(&doc, "d.json", text, strlen(text), NULL, &e) < 0)
        fail_msg("%s", e.msg);
    return doc;
}

static void refuse(const char *text, size_t n, int code, const char *message)
{
    static const struct json_limits limits = { .max_bytes = 1000, .max_depth = 5 };
    json_t *doc = NULL;
    struct err e = { 0 };

    assert_int_equal(json_parse(&doc, "d.json", text, n, &limits, &e), code);
    assert_null(doc);
    if (!strstr(e.msg, message) || strncmp(e.msg, "d.json: ", 8) != 0)
        fail_msg("said '%s', not '%s'", e.msg, message);
}

static void parses_within_limits(void **state)
{
    char big[1001];

    (void)state;
    json_close(parse("null"));
    json_close(parse("[1, \"a\\u0000b\"]"));
    json_close(NULL);
    memset(big, ' ', sizeof big);
    refuse(big, sizeof big, WATT_ELIMIT, "1001 bytes, at most 1000");
    refuse("[[[[[[1]]]]]]", 13, WATT_ELIMIT, "nested 6 deep, at most 5");
    refuse("{\"a\":{\"a\":{\"a\":[[[", 18, WATT_ELIMIT, "nested 6 deep");
    refuse("[[[[[1]]]]", 10, WATT_EFORMAT, ": column 10");
    refuse("[[[[[\n1]]]]", 11, WATT_EFORMAT, ": line 2, column 5");
    refuse("", 0, WATT_EFORMAT, ": column ");
    refuse("{\"a\":1,\"a\":2}", 13, WATT_EFORMAT, "duplicate");
    refuse("[1] x", 5, WATT_EFORMAT, ": column 5");
    refuse("1e999", 5, WATT_EFORMAT, "overflow");
    refuse("99999999999999999999", 20, WATT_EFORMAT, "big");
    refuse("\"\xff\"", 3, WATT_EFORMAT, "0xff");
    refuse("[1,]", 4, WATT_EFORMAT, ": column ");
    refuse("nan", 3, WATT_EFORMAT, ": column ");
    /* brackets in strings are no nesting, and an escaped quote ends none */
    json_close(parse("[\"[[[[\\\"[[[[[[\"]"));
}

static void deep_nesting_never_reaches_the_stack(void **state)
{
    static char deep[2000001];
    struct json_limits limits = { .max_bytes = sizeof deep, .max_depth = UINT32_MAX };
    json_t *doc = NULL;
    struct err e;

    (void)state;
    memset(deep, '[', sizeof deep);
    assert_int_equal(json_parse(&doc, "x", deep, sizeof deep, &limits, &e), WATT_ELIMIT);
    memset(deep + JSON_MAX_DEPTH, ']', JSON_MAX_DEPTH);
    assert_int_equal(json_parse(&doc, "x", deep, 2 * JSON_MAX_DEPTH, &limits, &e), 0);
    json_close(doc);
}

static void messages_name_the_way(void **state)
{
    json_t *doc = parse("{\"rope\":{\"list\":[1,{\"factor\":\"x\"}]},\"n\":-3,\"f\":1.5,\"z\":null}");
    struct json_place root = json_root(doc, "d.json"), rope, list, item, p;
    struct err e;
    double d;
    uint64_t u;
    size_t n;

    (void)state;
    assert_int_equal(json_need(&root, "rope", &rope, &e), 0);
    assert_int_equal(json_need(&rope, "list", &list, &e), 0);
    assert_int_equal(json_count(&list), 2);
    assert_int_equal(json_read_array(&list, 2, &n, &e), 0);
    assert_int_equal(json_read_array(&list, 1, &n, &e), WATT_ELIMIT);
    assert_string_equal(e.msg, "d.json: rope.list: 2 elements, at most 1 are read");
    item = json_item(&list, 1);
    assert_int_equal(json_get_double(&item, "factor", 1, 0, 9, &d, &e), WATT_EFORMAT);
    assert_string_equal(e.msg, "d.json: rope.list[1].factor: expected a number, found a string");
    assert_int_equal(json_need(&rope, "gone", &p, &e), WATT_EFORMAT);
    assert_string_equal(e.msg, "d.json: rope.gone: is missing");
    assert_int_equal(json_need(&root, "z", &p, &e), WATT_EFORMAT);
    assert_int_equal(json_find(&root, "z", &p, &e), 0);
    assert_null(p.value);
    assert_int_equal(json_find(&list, "x", &p, &e), WATT_EFORMAT);
    assert_string_equal(e.msg, "d.json: rope.list: expected an object, found an array");
    assert_int_equal(json_get_u64(&root, "n", 0, 0, 10, &u, &e), WATT_EFORMAT);
    assert_string_equal(e.msg, "d.json: n: expected a whole number in 0..10, found -3");
    assert_int_equal(json_get_u64(&root, "f", 0, 0, 10, &u, &e), WATT_EFORMAT);
    assert_int_equal(json_refuse(&root, &e, WATT_ENOTSUP, "odd %d", 3), WATT_ENOTSUP);
    assert_string_equal(e.msg, "d.json: odd 3");
    json_close(doc);
}

static void long_paths_are_cut(void **state)
{
    char name[5000], key[3000], text[3100];
    struct json_place root, p[60];
    struct err e;
    json_t *doc;

    (void)state;
    memset(name, 'n', sizeof name);
    memcpy(name + sizeof name - 7, "d.json", 7);
    memset(key, 'k', sizeof key);
    key[sizeof key - 1] = '\0';
    (void)snprintf(text, sizeof text, "{\"%s\":1}", key);
    doc = parse(text);
    root = json_root(doc, name);
    assert_int_equal(json_need(&root, "k", &p[0], &e), WATT_EFORMAT);
    assert_non_null(strstr(e.msg, "nnd.json: k: is missing"));
    assert_int_equal(json_need(&root, key, &p[0], &e), 0);
    assert_int_equal(json_find(&p[0], "x", &p[1], &e), WATT_EFORMAT);
    assert_true(strlen(e.msg) < ERR_MSG_MAX);
    assert_non_null(strstr(e.msg, "found a number"));
    json_close(doc);

    memset(text, '[', 50);
    memset(text + 50, ']', 50);
    text[100] = '\0';
    doc = parse(text);
    p[0] = json_root(doc, "d");
    for (int i = 1; i < 50; i++)
        p[i] = json_item(&p[i - 1], 0);
    assert_int_equal(json_find(&p[49], "x", &p[50], &e), WATT_EFORMAT);
    assert_true(strncmp(e.msg, "d: ...[0][0]", 12) == 0);
    json_close(doc);
}

static void numbers_keep_their_range(void **state)
{
    json_t *doc = parse("[0, -1, 1e3, 2.5, 9223372036854775807, 1e19, 1e300, -9223372036854775808,"
                        " true, \"s\", 1.8446744073709552e19]");
    struct json_place root = json_root(doc, "d"), p;
    struct err e;
    uint64_t u;
    int64_t i;
    double d;
    bool b;

    (void)state;
    p = json_item(&root, 2);
    assert_int_equal(json_read_u64(&p, 0, UINT64_MAX, &u, &e), 0);
    assert_int_equal(u, 1000);
    assert_int_equal(json_read_i64(&p, 0, 999, &i, &e), WATT_EFORMAT);
    assert_string_equal(e.msg, "d: [2]: 1000 is not in 0..999");
    p = json_item(&root, 3);
    assert_int_equal(json_read_i64(&p, INT64_MIN, INT64_MAX, &i, &e), WATT_EFORMAT);
    assert_int_equal(json_read_double(&p, 0, 3, &d, &e), 0);
    assert_true(d == 2.5);
    assert_int_equal(json_read_double(&p, 0, 2, &d, &e), WATT_EFORMAT);
    p = json_item(&root, 4);
    assert_int_equal(json_read_i64(&p, INT64_MIN, INT64_MAX, &i, &e), 0);
    assert_true(i == INT64_MAX);
    p = json_item(&root, 5);
    assert_int_equal(json_read_u64(&p, 0, UINT64_MAX, &u, &e), 0);
    assert_true(u == 10000000000000000000u);
    assert_int_equal(json_read_i64(&p, INT64_MIN, INT64_MAX, &i, &e), WATT_EFORMAT);
    p = json_item(&root, 6);
    assert_int_equal(json_read_u64(&p, 0, UINT64_MAX, &u, &e), WATT_EFORMAT);
    p = json_item(&root, 7);
    assert_int_equal(json_read_i64(&p, INT64_MIN, INT64_MAX, &i, &e), 0);
    assert_true(i == INT64_MIN);
    p = json_item(&root, 8);
    assert_int_equal(json_read_bool(&p, &b, &e), 0);
    assert_true(b);
    assert_int_equal(json_read_u64(&p, 0, 1, &u, &e), WATT_EFORMAT);
    p = json_item(&root, 9);
    assert_int_equal(json_read_bool(&p, &b, &e), WATT_EFORMAT);
    p = json_item(&root, 10);             /* 2^64 itself */
    assert_int_equal(json_read_u64(&p, 0, UINT64_MAX, &u, &e), WATT_EFORMAT);
    json_close(doc);
}

static void absent_means_otherwise(void **state)
{
    json_t *doc = parse("{\"s\":\"a\\u0000b\",\"t\":\"ok\",\"b\":false}");
    struct json_place root = json_root(doc, "d"), p;
    struct err e;
    const char *z;
    struct sv s;
    uint64_t u;
    double d;
    bool b;

    (void)state;
    assert_int_equal(json_get_u64(&root, "no", 7, 0, 1, &u, &e), 0);
    assert_int_equal(u, 7);
    assert_int_equal(json_get_double(&root, "no", -1, 0, 1, &d, &e), 0);
    assert_true(d == -1);
    assert_int_equal(json_get_bool(&root, "b", true, &b, &e), 0);
    assert_false(b);
    assert_int_equal(json_get_bool(&root, "no", true, &b, &e), 0);
    assert_true(b);
    assert_int_equal(json_get_cstr(&root, "t", NULL, &z, &e), 0);
    assert_string_equal(z, "ok");
    assert_int_equal(json_get_cstr(&root, "s", NULL, &z, &e), WATT_EFORMAT);
    assert_non_null(strstr(e.msg, "NUL"));
    assert_int_equal(json_get_cstr(&root, "no", NULL, &z, &e), 0);
    assert_null(z);
    assert_int_equal(json_need(&root, "s", &p, &e), 0);
    assert_int_equal(json_read_str(&p, &s, &e), 0);
    assert_int_equal(s.len, 3);
    json_close(doc);
}

static void escapes_what_json_needs(void **state)
{
    struct str s;
    char small[10];
    size_t taken;

    (void)state;
    str_init(&s, 0);
    json_put_str(&s, SV("a\"\\\n\x01\x7f\xff/é𝔸"));
    assert_string_equal(str_cstr(&s), "\"a\\\"\\\\\\n\\u0001\\u007f\xef\xbf\xbd/é𝔸\"");
    {
        FILE *f = tmpfile();
        char same[64];
        size_t n;

        assert_non_null(f);
        json_print_str(f, SV("a\"\\\n\x01\x7f\xff/é𝔸"));
        rewind(f);
        n = fread(same, 1, sizeof same, f);
        assert_int_equal(n, s.len);
        assert_memory_equal(same, s.data, n);
        (void)fclose(f);
    }
    str_reset(&s);
    for (unsigned cp = 1; cp < 0x3000; cp++) {
        char one[4];

        str_append(&s, one, utf8_encode(cp, one));
    }
    {
        struct str out;
        struct json_place p;
        struct sv back;
        struct err e;
        json_t *doc;

        str_init(&out, 0);
        json_put_str(&out, sv_of(&s));
        doc = parse(str_cstr(&out));
        p = json_root(doc, "d");
        assert_int_equal(json_read_str(&p, &back, &e), 0);
        assert_true(sv_eq(back, sv_of(&s)));
        json_close(doc);
        str_deinit(&out);
    }
    str_deinit(&s);
    assert_int_equal(json_escape(small, sizeof small, SV("12345678\n\n"), &taken), 10);
    assert_int_equal(taken, 9);
    assert_int_equal(json_escape(small, sizeof small, SV("123456789\n"), &taken), 9);
    assert_int_equal(taken, 9);
    assert_int_equal(json_escape(small, 0, SV("1"), &taken), 0);
    assert_int_equal(taken, 0);
}

#ifdef WATT_FAULTS
static void survives_short_memory(void **state)
{
    static const char text[] = "{\"a\":[1,2.5,\"three\",{\"b\":null}],\"c\":{\"d\":\"e\",\"f\":[[]]}}";
    unsigned long n = 0;
    int rc;

    (void)state;
    do {
        json_t *doc = NULL;
        struct err e;

        (void)fault_arm(FAULT_ALLOC, ++n);
        rc = json_parse(&doc, "d", text, sizeof text - 1, NULL, &e);
        (void)fault_arm(FAULT_ALLOC, 0);
        assert_true((rc == 0) == (doc != NULL));
        json_close(doc);
    } while (rc != 0);
    assert_true(n > 10);                  /* jansson's memory does come from mem.h */
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_within_limits),
        cmocka_unit_test(deep_nesting_never_reaches_the_stack),
        cmocka_unit_test(messages_name_the_way),
        cmocka_unit_test(long_paths_are_cut),
        cmocka_unit_test(numbers_keep_their_range),
        cmocka_unit_test(absent_means_otherwise),
        cmocka_unit_test(escapes_what_json_needs),
#ifdef WATT_FAULTS
        cmocka_unit_test(survives_short_memory),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
