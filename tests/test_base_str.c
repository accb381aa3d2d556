/* test_base_str.c: strings that grow within a bound, views, UTF-8, random numbers, clock. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "base/utf8.h"

static void grows_and_stays_terminated(void **state)
{
    struct str s;
    char *taken;
    size_t len;

    (void)state;
    str_init(&s, 0);
    assert_string_equal(str_cstr(&s), "");
    assert_true(str_reserve(&s, 100));
    assert_string_equal(str_cstr(&s), "");
    str_puts(&s, "ab");
    str_putc(&s, 'c');
    str_printf(&s, "%d-%s", 12, "x");
    str_append(&s, "\0y", 2);
    assert_int_equal(s.len, 9);
    assert_memory_equal(s.data, "abc12-x\0y", 10);
    for (int i = 0; i < 1000; i++)
        str_printf(&s, "%d,", i);
    assert_true(str_ok(&s));
    assert_int_equal(s.data[s.len], '\0');
    taken = str_take(&s, &len);
    assert_non_null(taken);
    assert_int_equal(strlen(taken + 8), len - 8);
    mem_free(taken);
    taken = str_take(&s, &len);           /* an empty one gives "" */
    assert_string_equal(taken, "");
    mem_free(taken);
    str_deinit(&s);
}

static void keeps_its_maximum(void **state)
{
    struct str s;

    (void)state;
    str_init(&s, 5);
    str_puts(&s, "12345");
    assert_true(str_ok(&s));
    str_putc(&s, '6');
    assert_false(str_ok(&s));
    assert_string_equal(str_cstr(&s), "12345");
    str_puts(&s, "");
    str_printf(&s, "%s", "7");
    assert_int_equal(s.len, 5);
    assert_null(str_take(&s, NULL));
    str_reset(&s);
    assert_true(str_ok(&s));
    str_printf(&s, "%05d", 42);
    assert_string_equal(str_cstr(&s), "00042");
    assert_false(str_reserve(&s, SIZE_MAX));
    str_deinit(&s);
}

static void compares_views(void **state)
{
    (void)state;
    assert_true(sv_eq(SV("abc"), sv_cstr("abc")));
    assert_false(sv_eq(SV("abc"), SV("abd")));
    assert_true(sv_eq((struct sv){ NULL, 0 }, SV("")));
    assert_true(sv_eq_cstr(SV("x"), "x"));
    assert_true(sv_starts(SV("abc"), SV("ab")));
    assert_false(sv_starts(SV("a"), SV("ab")));
    assert_true(sv_ends(SV("abc"), SV("bc")));
    assert_true(sv_ends(SV("abc"), SV("")));
    assert_false(sv_ends(SV("c"), SV("bc")));
}

#ifdef WATT_FAULTS
static void survives_short_memory(void **state)
{
    (void)state;
    for (unsigned long n = 1;; n++) {
        struct str s;
        bool ok;

        str_init(&s, 0);
        (void)fault_arm(FAULT_ALLOC, n);
        for (int i = 0; i < 100; i++)
            str_printf(&s, "%d ", i);
        ok = str_ok(&s);
        (void)fault_arm(FAULT_ALLOC, 0);
        assert_int_equal(strlen(str_cstr(&s)), s.len);
        str_deinit(&s);
        if (ok) {
            assert_true(n > 3);
            return;
        }
    }
}
#endif

/* Every code point there and back, and what is none. */
static void utf8_goes_round(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp <= 0x110000; cp++) {
        char out[4];
        size_t n = utf8_encode(cp, out);
        uint32_t back;
        bool valid, is_char = cp < 0x110000 && (cp < 0xD800 || cp > 0xDFFF);

        assert_int_equal(utf8_decode(out, n, &back, &valid), n);
        if (!valid || back != (is_char ? cp : UTF8_REPLACEMENT))
            fail_msg("U+%04X", (unsigned)cp);
        for (size_t cut = 1; cut < n; cut++) {
            if (utf8_valid(out, cut) || utf8_complete(out, cut) != 0)
                fail_msg("U+%04X cut at %zu", (unsigned)cp, cut);
        }
        if (utf8_complete(out, n) != n)
            fail_msg("U+%04X is complete", (unsigned)cp);
    }
}

static void utf8_refuses(void **state)
{
    static const struct { const char *bytes; size_t n; } bad[] = {
        { "\x80", 1 }, { "\xc0\x80", 2 }, { "\xc1\xbf", 2 }, { "\xe0\x80\x80", 3 },
        { "\xe0\x9f\xbf", 3 }, { "\xed\xa0\x80", 3 }, { "\xed\xbf\xbf", 3 },
        { "\xf0\x80\x80\x80", 4 }, { "\xf0\x8f\xbf\xbf", 4 }, { "\xf4\x90\x80\x80", 4 },
        { "\xf5\x80\x80\x80", 4 }, { "\xff", 1 }, { "\xc3(", 2 }, { "\xe2\x82(", 3 },
        { "\xf0\x9f\x98(", 4 }, { "a\xc3", 2 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (utf8_valid(bad[i].bytes, bad[i].n))
            fail_msg("case %zu", i);
    assert_true(utf8_valid("", 0));
    assert_true(utf8_valid("a\xc3\xa9\xe6\xb0\xb4\xf0\x9f\x98\x80", 10));
    /* what can never become a character is complete: a stream must not hold it for ever */
    assert_int_equal(utf8_complete("a\xff", 2), 2);
    assert_int_equal(utf8_complete("a\xed\xa0", 3), 3);
    assert_int_equal(utf8_complete("a\xf0\x9f\x98", 4), 1);
    assert_int_equal(utf8_complete("a\x80\x80\x80\x80", 5), 5);
    assert_int_equal(utf8_complete("", 0), 0);
}

/* xoshiro256** from the states that splitmix64 gives for seed 0: computed with
 * the authors' published definitions, independently of rng.c. */
static void rng_is_what_it_says(void **state)
{
    struct rng a, b;
    double sum = 0, squares = 0;
    unsigned seen[7] = { 0 };

    (void)state;
    rng_init(&a, 0);
    assert_true(a.s[0] == 0xe220a8397b1dcdafu && a.s[1] == 0x6e789e6aa1b965f4u &&
                a.s[2] == 0x06c45d188009454fu && a.s[3] == 0xf88bb8a8724c81ecu);
    assert_true(rng_u64(&a) == 0x99ec5f36cb75f2b4u);
    rng_init(&a, 1);
    rng_init(&b, 1);
    for (int i = 0; i < 100000; i++) {
        double x = rng_double(&a), n;
        float f;

        assert_true(x >= 0 && x < 1);
        assert_true(x == rng_double(&b));
        f = rng_float(&a);
        assert_true(f >= 0 && f < 1);
        n = rng_normal(&a);
        assert_true(isfinite(n));
        sum += n;
        squares += n * n;
        seen[rng_below(&a, 7)]++;
        b = a;
    }
    /* 100,000 draws: the mean within 5 standard errors, as the others */
    assert_true(fabs(sum / 1e5) < 5 / sqrt(1e5));
    assert_true(fabs(squares / 1e5 - 1) < 5 * sqrt(2 / 1e5));
    for (int i = 0; i < 7; i++)
        assert_true(fabs(seen[i] - 1e5 / 7) < 5 * sqrt(1e5 / 7));
    assert_int_equal(rng_below(&a, 1), 0);
}

static uint64_t fake_mono(void *ctx) { return *(uint64_t *)ctx; }
static int64_t fake_wall(void *ctx) { (void)ctx; return -5; }

static void clock_can_be_replaced(void **state)
{
    uint64_t now = 42, t;
    const struct clock_source fake = { fake_mono, fake_wall, &now };

    (void)state;
    clock_install(&fake);
    assert_true(clock_mono_ns() == 42);
    now += 1000;
    assert_true(clock_mono_ns() == 1042);
    assert_true(clock_wall_ns() == -5);
    clock_install(NULL);
    t = clock_mono_ns();
    assert_true(t != 1042 && clock_mono_ns() >= t);
    assert_true(clock_wall_ns() > INT64_C(1700000000) * 1000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_stays_terminated),
        cmocka_unit_test(keeps_its_maximum),
        cmocka_unit_test(compares_views),
#ifdef WATT_FAULTS
        cmocka_unit_test(survives_short_memory),
#endif
        cmocka_unit_test(utf8_goes_round),
        cmocka_unit_test(utf8_refuses),
        cmocka_unit_test(rng_is_what_it_says),
        cmocka_unit_test(clock_can_be_replaced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
