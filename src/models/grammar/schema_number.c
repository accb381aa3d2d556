/* schema_number.c: sets of numbers as they are written in decimal, -?int(.frac)?, exactly: bounds,
 * equality and multiples compare digits, so no rounding comes in. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/grammar/schema.h"

#define MAX_DIGITS  420         /* of the integer and of the fractional part of a bound */
#define MAX_MODULUS 20000u      /* states of a multiple */

struct decimal {
    bool  negative;
    char  whole[MAX_DIGITS + 8], part[MAX_DIGITS + 8];  /* digits; "0" and "" at least */
};

/* The shortest decimal that reads back as the same number. */
static int read_decimal(struct schema *s, const json_t *at, const json_t *value, struct decimal *d)
{
    char text[64], digits[40];
    const char *e10;
    int n = 0, point, exponent = 0;

    memset(d, 0, sizeof *d);
    if (json_is_integer(value)) {
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        d->negative = text[0] == '-';
        snprintf(d->whole, sizeof d->whole, "%s", text + d->negative);
        return 0;
    }
    if (!json_is_real(value) || !isfinite(json_real_value(value)))
        return schema_refuse(s, at, WATT_EFORMAT, "a number was expected");
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision - 1, json_real_value(value));
        if (strtod(text, NULL) == json_real_value(value))
            break;
    }
    d->negative = text[0] == '-';
    e10 = strchr(text, 'e');
    for (const char *c = text + d->negative; c < e10; c++)
        if (*c != '.')
            digits[n++] = *c;
    exponent = (int)strtol(e10 + 1, NULL, 10);
    point = exponent + 1;               /* digits before the point */
    if (point > MAX_DIGITS || n - point > MAX_DIGITS)
        return schema_refuse(s, at, WATT_ELIMIT, "number with too many digits");
    for (int i = 0; i < (point > 0 ? point : 0); i++)
        d->whole[i] = i < n ? digits[i] : '0';
    if (point <= 0)
        d->whole[0] = '0';
    n = n > 0 ? n : 0;
    for (int i = point, k = 0; i < n; i++)
        d->part[k++] = i < 0 ? '0' : digits[i];
    for (size_t k = strlen(d->part); k > 0 && d->part[k - 1] == '0'; k--)
        d->part[k - 1] = '\0';
    for (size_t k = strspn(d->whole, "0"); k > 0 && strlen(d->whole) > 1; k--)
        memmove(d->whole, d->whole + 1, strlen(d->whole));
    if (strcmp(d->whole, "0") == 0 && d->part[0] == '\0')
        d->negative = false;
    return 0;
}

/* ---- pieces of automata ---- */

static uint32_t digits_then(struct nfa *a, uint32_t from, uint32_t lo, uint32_t hi, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t next = nfa_node(a);

        nfa_range(a, from, '0' + lo, '0' + hi, next);
        from = next;
    }
    return from;
}

static void any_digits(struct nfa *a, uint32_t at)
{
    nfa_range(a, at, '0', '9', at);
}

/* (\.[0-9]+)? */
static void optional_part(struct nfa *a, uint32_t from, uint32_t to)
{
    const uint32_t point = nfa_node(a), more = nfa_node(a);

    nfa_empty(a, from, to);
    nfa_range(a, from, '.', '.', point);
    nfa_range(a, point, '0', '9', more);
    any_digits(a, more);
    nfa_empty(a, more, to);
}

/* A whole part without leading zeros. */
static void any_whole(struct nfa *a, uint32_t from, uint32_t to)
{
    const uint32_t more = nfa_node(a);

    nfa_range(a, from, '0', '0', to);
    nfa_range(a, from, '1', '9', more);
    any_digits(a, more);
    nfa_empty(a, more, to);
}

static void any_number(struct nfa *a, uint32_t from, uint32_t to)
{
    const uint32_t whole = nfa_node(a);

    any_whole(a, from, whole);
    optional_part(a, whole, to);
}

static uint32_t spelled(struct nfa *a, uint32_t from, const char *digits, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t next = nfa_node(a);

        nfa_range(a, from, (unsigned char)digits[i], (unsigned char)digits[i], next);
        from = next;
    }
    return from;
}

/* Not negative and equal to d (its sign aside): trailing zeros are free. */
static void equal_to(struct nfa *a, uint32_t from, const struct decimal *d, uint32_t to)
{
    uint32_t at = spelled(a, from, d->whole, strlen(d->whole)), point, end;

    if (d->part[0] == '\0')
        nfa_empty(a, at, to);
    point = nfa_node(a);
    nfa_range(a, at, '.', '.', point);
    end = d->part[0] ? spelled(a, point, d->part, strlen(d->part)) : digits_then(a, point, 0, 0, 1);
    nfa_range(a, end, '0', '0', end);
    nfa_empty(a, end, to);
}

/* Not negative, and greater than |d| (or less). */
static void greater_than(struct nfa *a, uint32_t from, const struct decimal *d, uint32_t to)
{
    const size_t n = strlen(d->whole), m = strlen(d->part);
    uint32_t at, point;

    at = nfa_node(a);           /* more digits */
    nfa_range(a, from, '1', '9', at);
    at = digits_then(a, at, 0, 9, n);
    any_digits(a, at);
    optional_part(a, at, to);
    for (size_t i = 0; i < n; i++) {
        if (d->whole[i] == '9')
            continue;
        at = spelled(a, from, d->whole, i);
        at = digits_then(a, at, (uint32_t)(d->whole[i] - '0') + 1, 9, 1);
        at = digits_then(a, at, 0, 9, n - i - 1);
        optional_part(a, at, to);
    }
    at = spelled(a, from, d->whole, n);
    point = nfa_node(a);
    nfa_range(a, at, '.', '.', point);
    for (size_t i = 0; i < m; i++) {
        if (d->part[i] == '9')
            continue;
        at = spelled(a, point, d->part, i);
        at = digits_then(a, at, (uint32_t)(d->part[i] - '0') + 1, 9, 1);
        any_digits(a, at);
        nfa_empty(a, at, to);
    }
    point = spelled(a, point, d->part, m);      /* then zeros and something that is none */
    nfa_range(a, point, '0', '0', point);
    at = digits_then(a, point, 1, 9, 1);
    any_digits(a, at);
    nfa_empty(a, at, to);
}

static void less_than(struct nfa *a, uint32_t from, const struct decimal *d, uint32_t to)
{
    const size_t n = strlen(d->whole), m = strlen(d->part);
    uint32_t at, point;

    for (size_t k = 1; k < n; k++) {            /* fewer digits */
        if (k == 1)
            at = digits_then(a, from, 0, 9, 1);
        else
            at = digits_then(a, digits_then(a, from, 1, 9, 1), 0, 9, k - 1);
        optional_part(a, at, to);
    }
    for (size_t i = 0; i < n; i++) {
        const uint32_t lo = i == 0 && n > 1 ? 1 : 0, hi = (uint32_t)(d->whole[i] - '0');

        if (hi == 0 || hi - 1 < lo)
            continue;
        at = spelled(a, from, d->whole, i);
        at = digits_then(a, at, lo, hi - 1, 1);
        at = digits_then(a, at, 0, 9, n - i - 1);
        optional_part(a, at, to);
    }
    if (m == 0)
        return;
    at = spelled(a, from, d->whole, n);
    nfa_empty(a, at, to);
    point = nfa_node(a);
    nfa_range(a, at, '.', '.', point);
    for (size_t i = 0; i < m; i++) {
        if (i > 0)                              /* a beginning of d's digits */
            nfa_empty(a, spelled(a, point, d->part, i), to);
        if (d->part[i] == '0')
            continue;
        at = spelled(a, point, d->part, i);
        at = digits_then(a, at, 0, (uint32_t)(d->part[i] - '0') - 1, 1);
        any_digits(a, at);
        nfa_empty(a, at, to);
    }
}

static uint32_t minus(struct nfa *a, uint32_t from)
{
    const uint32_t next = nfa_node(a);

    nfa_range(a, from, '-', '-', next);
    return next;
}

/* Numbers on one side of d, d itself if `or_equal`. */
static void one_side(struct nfa *a, uint32_t from, const struct decimal *d, bool above,
                     bool or_equal, uint32_t to)
{
    const bool zero = strcmp(d->whole, "0") == 0 && d->part[0] == '\0';
    const uint32_t below_zero = minus(a, from);
    const uint32_t same = d->negative ? below_zero : from, other = d->negative ? from : below_zero;

    if (or_equal) {
        equal_to(a, same, d, to);
        if (zero)
            equal_to(a, other, d, to);          /* -0 */
    }
    if (above == !d->negative) {                /* away from zero */
        greater_than(a, same, d, to);
        return;
    }
    less_than(a, same, d, to);
    if (zero) {                                 /* below zero: every negative number but -0 */
        greater_than(a, other, d, to);
        return;
    }
    any_number(a, other, to);                   /* across zero: every number of the other sign */
}

/* Multiples of d: the remainder of the digits read so far, and how many stood after the point. */
static int multiples(struct schema *s, const json_t *at, struct nfa *a, uint32_t from,
                     const struct decimal *d, uint32_t to)
{
    const size_t k = strlen(d->part);
    const uint32_t start = nfa_node(a);
    uint64_t m = 0, ten = 1;
    uint32_t base, zero;

    for (const char *c = d->whole; *c; c++)
        m = m < MAX_MODULUS ? m * 10 + (uint64_t)(*c - '0') : m;
    for (const char *c = d->part; *c; c++)
        m = m < MAX_MODULUS ? m * 10 + (uint64_t)(*c - '0') : m;
    if (m == 0 || d->negative)
        return schema_refuse(s, at, WATT_EFORMAT, "multipleOf must be above zero");
    if (m * (k + 1) > MAX_MODULUS)
        return schema_refuse(s, at, WATT_ENOTSUP, "multipleOf with this many digits is not "
                             "supported");
    nfa_empty(a, from, start);
    nfa_empty(a, minus(a, from), start);
    base = a->n_nodes;          /* node of remainder r after f digits: base + f * m + r */
    for (uint64_t i = 0; i < m * (k + 1); i++)
        nfa_node(a);
    zero = nfa_node(a);         /* a single 0: no digit may follow */
    nfa_range(a, start, '0', '0', zero);
    for (uint32_t digit = 1; digit < 10; digit++)
        nfa_range(a, start, '0' + digit, '0' + digit, base + (uint32_t)(digit % m));
    for (uint32_t r = 0; r < m && !a->failed; r++)
        for (uint32_t digit = 0; digit < 10; digit++)
            nfa_range(a, base + r, '0' + digit, '0' + digit,
                      base + (uint32_t)((r * 10u + digit) % m));
    for (size_t f = 0; f <= k && !a->failed; f++) {
        const uint32_t row = base + (uint32_t)(f * m);

        ten = 1;
        for (size_t i = f; i < k; i++)
            ten = ten * 10 % m;
        for (uint32_t r = 0; r < m; r++) {
            if (r * ten % m == 0)
                nfa_empty(a, row + r, to);
            for (uint32_t digit = 0; f > 0 && f < k && digit < 10; digit++)
                nfa_range(a, row + r, '0' + digit, '0' + digit,
                          row + (uint32_t)(m + (r * 10u + digit) % m));
        }
    }
    nfa_empty(a, zero, to);
    for (uint32_t r = 0; r <= m && !a->failed; r++) {   /* after the point; r == m: from "0" */
        const uint32_t point = nfa_node(a), value = r == m ? 0 : r;

        nfa_range(a, r == m ? zero : base + r, '.', '.', point);
        for (uint32_t digit = 0; k > 0 && digit < 10; digit++)
            nfa_range(a, point, '0' + digit, '0' + digit,
                      base + (uint32_t)(m + (value * 10u + digit) % m));
        if (k == 0 && value % m == 0) {
            const uint32_t zeros = digits_then(a, point, 0, 0, 1);

            nfa_range(a, zeros, '0', '0', zeros);
            nfa_empty(a, zeros, to);
        }
    }
    for (uint32_t r = 0; k > 0 && r < m && !a->failed; r++) {   /* zeros after the k-th digit */
        const uint32_t last = base + (uint32_t)(k * m) + r;

        if (r == 0) {
            const uint32_t zeros = digits_then(a, last, 0, 0, 1);

            nfa_range(a, zeros, '0', '0', zeros);
            nfa_empty(a, zeros, to);
        }
    }
    return 0;
}

static int finish(struct schema *s, struct nfa *a, uint32_t from, uint32_t to, const struct dfa **out)
{
    struct dfa *d;
    int rc = dfa_from_nfa(&d, a, from, to, SCHEMA_MAX_STATES, "schema: number", s->e);

    if (rc == 0)
        rc = schema_own(s, d);
    if (rc == 0)
        *out = d;
    return rc;
}

int number_dfa(struct schema *s, const json_t *at, enum number_set set, const json_t *bound,
               const struct dfa **out)
{
    struct decimal d;
    struct nfa a;
    uint32_t from, to;
    int rc = read_decimal(s, at, bound, &d);

    if (rc < 0)
        return rc;
    nfa_init(&a, 1u << 20);
    from = nfa_node(&a);
    to = nfa_node(&a);
    if (set == NUMBER_MULTIPLE) {
        rc = multiples(s, at, &a, from, &d, to);
    } else if (set == NUMBER_EQUAL) {
        const bool zero = strcmp(d.whole, "0") == 0 && d.part[0] == '\0';
        const uint32_t negative = minus(&a, from);

        if (!d.negative)
            equal_to(&a, from, &d, to);
        if (d.negative || zero)
            equal_to(&a, negative, &d, to);
    } else {
        one_side(&a, from, &d, set == NUMBER_AT_LEAST || set == NUMBER_ABOVE,
                 set == NUMBER_AT_LEAST || set == NUMBER_AT_MOST, to);
    }
    if (rc == 0)
        rc = finish(s, &a, from, to, out);
    nfa_deinit(&a);
    return rc;
}

int number_bases(struct schema *s)
{
    int rc = 0;

    for (int integers = 0; integers < 2 && rc == 0; integers++) {
        struct nfa a;
        uint32_t from, to;

        nfa_init(&a, 1024);
        from = nfa_node(&a);
        to = nfa_node(&a);
        for (int negative = 0; negative < 2; negative++) {
            const uint32_t start = negative ? minus(&a, from) : from, whole = nfa_node(&a);
            uint32_t point, zeros;

            any_whole(&a, start, whole);
            if (!integers) {
                optional_part(&a, whole, to);
                continue;
            }
            nfa_empty(&a, whole, to);           /* 1.0 is an integer */
            point = nfa_node(&a);
            nfa_range(&a, whole, '.', '.', point);
            zeros = digits_then(&a, point, 0, 0, 1);
            nfa_range(&a, zeros, '0', '0', zeros);
            nfa_empty(&a, zeros, to);
        }
        rc = finish(s, &a, from, to, integers ? &s->integers : &s->all_numbers);
        nfa_deinit(&a);
    }
    return rc;
}
