/* jinja_test.c: the tests behind `is`. */
#include <string.h>

#include "models/jinja_run.h"
#include "models/jinja_text.h"

#define TEST(name) \
    static bool name(struct jrt *rt, struct jval in, const struct jval *p)
#define UNUSED (void)rt; (void)p

static int64_t whole(struct jrt *rt, struct jval in, struct jval by, bool *is_zero)
{
    const struct jval r = joperate(rt, N_MOD, in, by);

    *is_zero = jis_number(r) && jdouble_of(r) == 0.0;
    return jis_integer(r) ? jint_of(r) : 2;
}

TEST(t_odd)
{
    const struct jval one = jv_int(1);
    const struct jval r = joperate(rt, N_MOD, in, jv_int(2));

    UNUSED;
    return jequal(rt, r, one);
}

TEST(t_even)
{
    bool zero;

    UNUSED;
    whole(rt, in, jv_int(2), &zero);
    return zero;
}

TEST(t_divisibleby)
{
    bool zero;

    whole(rt, in, p[0], &zero);
    return zero;
}

TEST(t_defined) { UNUSED; return in.kind != J_UNDEF; }
TEST(t_undefined) { UNUSED; return in.kind == J_UNDEF; }
TEST(t_none) { UNUSED; return in.kind == J_NONE; }
TEST(t_boolean) { UNUSED; return in.kind == J_BOOL; }
TEST(t_true) { UNUSED; return in.kind == J_BOOL && in.u.b; }
TEST(t_false) { UNUSED; return in.kind == J_BOOL && !in.u.b; }
TEST(t_integer) { UNUSED; return in.kind == J_INT; }
TEST(t_float) { UNUSED; return in.kind == J_FLOAT; }
TEST(t_number) { UNUSED; return jis_number(in); }
TEST(t_string) { UNUSED; return in.kind == J_STR; }
TEST(t_mapping) { UNUSED; return in.kind == J_DICT; }
TEST(t_iterable) { UNUSED; return jis_iterable(in); }
TEST(t_escaped) { UNUSED; return in.kind == J_STR && in.markup; }

/* Has a length and items: what len() and __getitem__ say. */
TEST(t_sequence)
{
    UNUSED;
    return in.kind == J_STR || in.kind == J_LIST || in.kind == J_TUPLE || in.kind == J_DICT ||
           in.kind == J_RANGE || in.kind == J_UNDEF;
}

TEST(t_callable)
{
    UNUSED;
    return in.kind == J_MACRO || in.kind == J_FUNC || in.kind == J_METHOD || in.kind == J_LOOP ||
           in.kind == J_JOINER || in.kind == J_UNDEF;
}

TEST(t_lower)
{
    struct jval s = jstr_of(rt, in);
    struct jargs none = { 0 };

    UNUSED;
    return jtruth(rt, jstring_method(rt, s, "islower", &none));
}

TEST(t_upper)
{
    struct jval s = jstr_of(rt, in);
    struct jargs none = { 0 };

    UNUSED;
    return jtruth(rt, jstring_method(rt, s, "isupper", &none));
}

TEST(t_sameas)
{
    UNUSED;
    if (in.kind != p[0].kind)
        return false;
    switch ((enum jkind)in.kind) {
    case J_NONE:
        return true;
    case J_BOOL:
        return in.u.b == p[0].u.b;
    case J_INT:          /* CPython shares small integers */
        return in.u.i == p[0].u.i;
    case J_STR:
        return jstr_eq(in.u.s, p[0].u.s);
    case J_LIST: case J_TUPLE:
        return in.u.list == p[0].u.list || (in.kind == J_TUPLE && in.u.list->n == 0 &&
                                            p[0].u.list->n == 0);
    case J_FUNC:
        return in.id == p[0].id;
    default:
        return in.u.iter == p[0].u.iter;
    }
}

TEST(t_filter)
{
    UNUSED;
    if (!jhashable(in))
        jraise(rt, "unhashable type: '%s'", jtype_name(in));
    return in.kind == J_STR && jfilter_find(in.u.s);
}

TEST(t_test)
{
    UNUSED;
    if (!jhashable(in))
        jraise(rt, "unhashable type: '%s'", jtype_name(in));
    return in.kind == J_STR && jtest_find(in.u.s);
}

TEST(t_in) { return jcontains(rt, p[0], in); }
TEST(t_eq) { return jequal(rt, in, p[0]); }
TEST(t_ne) { return !jequal(rt, in, p[0]); }
TEST(t_lt) { return jordered(rt, in, p[0], J_LT); }
TEST(t_le) { return jordered(rt, in, p[0], J_LE); }
TEST(t_gt) { return jordered(rt, in, p[0], J_GT); }
TEST(t_ge) { return jordered(rt, in, p[0], J_GE); }

static const struct jtest tests[] = {
    { "odd", t_odd, "" }, { "even", t_even, "" }, { "divisibleby", t_divisibleby, "num" },
    { "defined", t_defined, "" }, { "undefined", t_undefined, "" }, { "none", t_none, "" },
    { "boolean", t_boolean, "" }, { "true", t_true, "" }, { "false", t_false, "" },
    { "integer", t_integer, "" }, { "float", t_float, "" }, { "number", t_number, "" },
    { "string", t_string, "" }, { "mapping", t_mapping, "" }, { "iterable", t_iterable, "" },
    { "sequence", t_sequence, "" }, { "callable", t_callable, "" }, { "escaped", t_escaped, "" },
    { "lower", t_lower, "" }, { "upper", t_upper, "" }, { "sameas", t_sameas, "other" },
    { "filter", t_filter, "" }, { "test", t_test, "" }, { "in", t_in, "seq" },
    { "==", t_eq, "b /" }, { "eq", t_eq, "b /" }, { "equalto", t_eq, "b /" },
    { "!=", t_ne, "b /" }, { "ne", t_ne, "b /" }, { "<", t_lt, "b /" }, { "lt", t_lt, "b /" },
    { "lessthan", t_lt, "b /" }, { "<=", t_le, "b /" }, { "le", t_le, "b /" },
    { ">", t_gt, "b /" }, { "gt", t_gt, "b /" }, { "greaterthan", t_gt, "b /" },
    { ">=", t_ge, "b /" }, { "ge", t_ge, "b /" },
};

const struct jtest *jtest_find(const struct jstr *name)
{
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        if (jstr_is(name, tests[i].name))
            return &tests[i];
    return NULL;
}
