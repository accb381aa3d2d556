/* jinja_operator.c: arithmetic, concatenation and slices, as Python does them.
 * Integers are 64-bit: a result beyond that is an error. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "models/jinja_run.h"
#include "models/jinja_text.h"

static const char *sign(enum jop op)
{
    switch (op) {
    case N_ADD: return "+";
    case N_SUB: return "-";
    case N_MUL: return "*";
    case N_DIV: return "/";
    case N_FLOORDIV: return "//";
    case N_MOD: return "%";
    default: return "** or pow()";
    }
}

static NORETURN void unsupported(struct jrt *rt, enum jop op, struct jval a, struct jval b)
{
    if (op == N_ADD && a.kind == J_STR)
        jraise(rt, "can only concatenate str (not \"%s\") to str", jtype_name(b));
    if (op == N_ADD && (a.kind == J_LIST || a.kind == J_TUPLE))
        jraise(rt, "can only concatenate %s (not \"%s\") to %s", jtype_name(a), jtype_name(b),
               jtype_name(a));
    jraise(rt, "unsupported operand type(s) for %s: '%s' and '%s'", sign(op), jtype_name(a),
           jtype_name(b));
}

static NORETURN void overflow(struct jrt *rt)
{
    jraise(rt, "integer overflow: only 64-bit integers are supported");
}

static NORETURN void zero(struct jrt *rt)
{
    jraise(rt, "division or modulo by zero");
}

/* ---- numbers ---- */

static struct jval int_power(struct jrt *rt, int64_t base, int64_t exp)
{
    int64_t r = 1;

    if (exp < 0) {
        if (base == 0)
            jraise(rt, "0.0 cannot be raised to a negative power");
        return jv_float(pow((double)base, (double)exp));
    }
    while (exp > 0) {
        if ((exp & 1) && __builtin_mul_overflow(r, base, &r))
            overflow(rt);
        exp >>= 1;
        if (exp > 0 && __builtin_mul_overflow(base, base, &base))
            overflow(rt);
    }
    return jv_int(r);
}

static struct jval int_operate(struct jrt *rt, enum jop op, int64_t a, int64_t b)
{
    int64_t r, q;

    switch (op) {
    case N_ADD:
        if (__builtin_add_overflow(a, b, &r))
            overflow(rt);
        return jv_int(r);
    case N_SUB:
        if (__builtin_sub_overflow(a, b, &r))
            overflow(rt);
        return jv_int(r);
    case N_MUL:
        if (__builtin_mul_overflow(a, b, &r))
            overflow(rt);
        return jv_int(r);
    case N_DIV:
        if (b == 0)
            zero(rt);
        return jv_float((double)((long double)a / (long double)b));
    case N_FLOORDIV:
    case N_MOD:
        if (b == 0)
            zero(rt);
        if (b == -1) {
            if (op == N_MOD)
                return jv_int(0);
            if (a == INT64_MIN)
                overflow(rt);
            return jv_int(-a);
        }
        q = a / b;
        r = a % b;
        if (r != 0 && (r < 0) != (b < 0)) {
            q--;
            r += b;
        }
        return jv_int(op == N_MOD ? r : q);
    default:
        return int_power(rt, a, b);
    }
}

/* CPython's float_divmod. */
static struct jval float_floor(double a, double b, bool want_mod)
{
    double mod = fmod(a, b), div = (a - mod) / b, whole;

    if (mod != 0.0) {
        if ((b < 0) != (mod < 0)) {
            mod += b;
            div -= 1.0;
        }
    } else {
        mod = copysign(0.0, b);
    }
    if (want_mod)
        return jv_float(mod);
    if (div == 0.0)
        return jv_float(copysign(0.0, a / b));
    whole = floor(div);
    return jv_float(div - whole > 0.5 ? whole + 1.0 : whole);
}

static struct jval float_operate(struct jrt *rt, enum jop op, double a, double b)
{
    double r;

    switch (op) {
    case N_ADD: return jv_float(a + b);
    case N_SUB: return jv_float(a - b);
    case N_MUL: return jv_float(a * b);
    case N_DIV:
        if (b == 0.0)
            zero(rt);
        return jv_float(a / b);
    case N_FLOORDIV:
    case N_MOD:
        if (b == 0.0)
            zero(rt);
        return float_floor(a, b, op == N_MOD);
    default:
        if (a == 0.0 && b < 0.0)
            jraise(rt, "0.0 cannot be raised to a negative power");
        if (a < 0.0 && isfinite(a) && isfinite(b) && b != floor(b))
            jraise(rt, "complex numbers are not supported");
        r = pow(a, b);
        if (isinf(r) && isfinite(a) && isfinite(b))
            jraise(rt, "numerical result out of range");
        return jv_float(r);
    }
}

/* ---- sequences ---- */

static struct jval str_add(struct jrt *rt, struct jval a, struct jval b)
{
    struct jval out;
    char *p;
    size_t n;

    if (a.markup != b.markup) {      /* Markup escapes what it is joined with */
        if (!a.markup)
            a = jescape(rt, a);
        else
            b = jescape(rt, b);
    }
    n = (size_t)a.u.s->len + b.u.s->len;
    p = jalloc(rt, n);
    memcpy(p, a.u.s->p, a.u.s->len);
    memcpy(p + a.u.s->len, b.u.s->p, b.u.s->len);
    jcharge(rt, n / 64);
    out = jv_like(a, jstr_view(rt, p, n));
    return out;
}

static struct jval list_add(struct jrt *rt, struct jval a, struct jval b)
{
    const size_t n = (size_t)a.u.list->n + b.u.list->n;
    struct jval *v = jalloc_array(rt, n, sizeof *v);

    if (a.u.list->n)
        memcpy(v, a.u.list->v, a.u.list->n * sizeof *v);
    if (b.u.list->n)
        memcpy(v + a.u.list->n, b.u.list->v, b.u.list->n * sizeof *v);
    jcharge(rt, n / 8);
    return a.kind == J_LIST ? jv_list(rt, v, n) : jv_tuple(rt, v, n);
}

static struct jval repeat(struct jrt *rt, struct jval v, int64_t times)
{
    const size_t one = v.kind == J_STR ? v.u.s->len : v.u.list->n;
    size_t n, bytes;
    char *p;

    if (times < 0)
        times = 0;
    if (!mul_size(one, (size_t)times, &n) || n > UINT32_MAX / 4)
        jfail(rt, WATT_ELIMIT, "a repeated value is too long");
    if (v.kind == J_STR) {
        p = jalloc(rt, n);
        jcharge(rt, n / 16);
        for (size_t i = 0; i < n; i += one)
            memcpy(p + i, v.u.s->p, one);
        return jv_like(v, jstr_view(rt, p, n));
    }
    bytes = one * sizeof(struct jval);
    p = jalloc_array(rt, n, sizeof(struct jval));
    jcharge(rt, n / 8);
    for (size_t i = 0; i < n; i += one)
        memcpy(p + i * sizeof(struct jval), v.u.list->v, bytes);
    if (v.kind == J_LIST)
        return jv_list(rt, (struct jval *)(void *)p, n);
    return jv_tuple(rt, (struct jval *)(void *)p, n);
}

static bool repeats(struct jval v)
{
    return v.kind == J_STR || v.kind == J_LIST || v.kind == J_TUPLE;
}

struct jval jadd(struct jrt *rt, struct jval a, struct jval b)
{
    return joperate(rt, N_ADD, a, b);
}

static struct jval unary(struct jrt *rt, enum jop op, struct jval a)
{
    if (a.kind == J_UNDEF)
        jfail_undefined(rt, a);
    if (!jis_number(a))
        jraise(rt, "bad operand type for unary %c: '%s'", op == N_NEG ? '-' : '+',
               jtype_name(a));
    if (a.kind == J_FLOAT)
        return jv_float(op == N_NEG ? -a.u.f : a.u.f);
    if (op == N_NEG && jint_of(a) == INT64_MIN)
        overflow(rt);
    return jv_int(op == N_NEG ? -jint_of(a) : jint_of(a));
}

struct jval joperate(struct jrt *rt, enum jop op, struct jval a, struct jval b)
{
    if (op == N_NEG || op == N_POS)
        return unary(rt, op, a);
    if (jis_number(a) && jis_number(b)) {
        if (a.kind == J_FLOAT || b.kind == J_FLOAT)
            return float_operate(rt, op, jdouble_of(a), jdouble_of(b));
        return int_operate(rt, op, jint_of(a), jint_of(b));
    }
    if (op == N_MOD && a.kind == J_STR)
        return jformat_percent(rt, a, b);
    if (a.kind == J_UNDEF)
        jfail_undefined(rt, a);
    if (b.kind == J_UNDEF)
        jfail_undefined(rt, b);
    if (op == N_ADD && a.kind == J_STR && b.kind == J_STR)
        return str_add(rt, a, b);
    if (op == N_ADD && a.kind == b.kind && (a.kind == J_LIST || a.kind == J_TUPLE))
        return list_add(rt, a, b);
    if (op == N_MUL && repeats(a) && jis_integer(b))
        return repeat(rt, a, jint_of(b));
    if (op == N_MUL && repeats(b) && jis_integer(a))
        return repeat(rt, b, jint_of(a));
    unsupported(rt, op, a, b);
}

struct jval jconcat(struct jrt *rt, const struct jval *v, uint32_t n)
{
    struct jval *s = jalloc_array(rt, n, sizeof *s);
    size_t total = 0;
    char *p;

    for (uint32_t i = 0; i < n; i++) {
        s[i] = jstr_of(rt, v[i]);
        total += s[i].u.s->len;
    }
    p = jalloc(rt, total);
    total = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (s[i].u.s->len)
            memcpy(p + total, s[i].u.s->p, s[i].u.s->len);
        total += s[i].u.s->len;
    }
    jcharge(rt, total / 64);
    return jv_str(jstr_view(rt, p, total));
}

/* ---- slices ---- */

static int64_t slice_index(struct jrt *rt, struct jval v, int64_t n, int64_t low, int64_t high)
{
    int64_t i;

    if (!jis_integer(v))
        jraise(rt, "slice indices must be integers or None");
    i = jint_of(v);
    if (i < 0)
        i += n;
    return i < low ? low : i > high ? high : i;
}

static struct jval slice_str(struct jrt *rt, struct jval obj, int64_t start, int64_t step,
                             uint32_t count)
{
    struct jstr *s = obj.u.s;
    struct jbuf b = { 0 };
    struct jlist chars = { NULL, 0 };

    if (step == 1)
        return jv_like(obj, jstr_slice(rt, s, (uint32_t)start, (uint32_t)start + count));
    if (!jstr_ascii(s))
        jiterate(rt, jv_str(s), &chars);
    for (uint32_t i = 0; i < count; i++, start += step) {
        if (chars.v)
            jbuf_put(rt, &b, chars.v[start].u.s->p, chars.v[start].u.s->len);
        else
            jbuf_putc(rt, &b, s->p[start]);
    }
    jcharge(rt, count / 8);
    return jv_like(obj, jbuf_str(rt, &b).u.s);
}

struct jval jslice(struct jrt *rt, struct jval obj, struct jval start, struct jval stop,
                   struct jval step)
{
    int64_t by = 1, n, from, to, stride;
    uint32_t count = 0;
    struct jval *v;

    if (obj.kind == J_UNDEF)
        jfail_undefined(rt, obj);
    if (obj.kind != J_STR && obj.kind != J_LIST && obj.kind != J_TUPLE && obj.kind != J_RANGE)
        jraise(rt, "'%s' object cannot be sliced", jtype_name(obj));
    if (step.kind != J_NONE) {
        if (!jis_integer(step))
            jraise(rt, "slice indices must be integers or None");
        by = jint_of(step);
    }
    if (by == 0)
        jraise(rt, "slice step cannot be zero");
    n = jlength(rt, obj);
    from = by > 0 ? 0 : n - 1;
    to = by > 0 ? n : -1;
    if (start.kind != J_NONE)
        from = slice_index(rt, start, n, by > 0 ? 0 : -1, by > 0 ? n : n - 1);
    if (stop.kind != J_NONE)
        to = slice_index(rt, stop, n, by > 0 ? 0 : -1, by > 0 ? n : n - 1);
    stride = by;
    if (by > n + 1)      /* as good as any larger step, and far from overflow */
        by = n + 1;
    if (by < -(n + 1))
        by = -(n + 1);
    if (by > 0 && from < to)
        count = (uint32_t)((to - from - 1) / by + 1);
    if (by < 0 && from > to)
        count = (uint32_t)((from - to - 1) / -by + 1);
    if (obj.kind == J_STR)
        return slice_str(rt, obj, from, by, count);
    if (obj.kind == J_RANGE) {
        const struct jrange *r = obj.u.range;
        const int64_t first = (int64_t)((uint64_t)r->start + (uint64_t)r->step * (uint64_t)from);

        if (__builtin_mul_overflow(stride, r->step, &stride))
            overflow(rt);
        return jv_range(rt, first, (int64_t)((uint64_t)r->start + (uint64_t)r->step * (uint64_t)to),
                        stride);
    }
    if (by == 1) {
        v = count ? obj.u.list->v + from : NULL;
    } else {
        v = jalloc_array(rt, count, sizeof *v);
        for (uint32_t i = 0; i < count; i++, from += by)
            v[i] = obj.u.list->v[from];
        jcharge(rt, count / 8);
    }
    return obj.kind == J_LIST ? jv_list(rt, v, count) : jv_tuple(rt, v, count);
}
