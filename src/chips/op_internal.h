/* op_internal.h: what the shape rules and costs of op.c and op_scan.c share. */
#ifndef CHIPS_OP_INTERNAL_H
#define CHIPS_OP_INTERNAL_H

#include <inttypes.h>

#include "base/err.h"
#include "chips/op.h"

static inline const struct prog_value *src(const struct program *p, const struct instr *in, int i)
{
    return prog_value(p, in->src[i]);
}

static inline const struct tensor *weight(const struct program *p, const struct instr *in, int i)
{
    return in->w[i] ? &prog_weight_at(p, in->w[i])->t : NULL;
}

static inline bool fail_shape(struct program *p, const struct instr *in, const char *what,
                       int64_t found, int64_t expected)
{
    prog_fail(p, WATT_EFORMAT, "%s: %s is %" PRId64 ", expected %" PRId64, op_name(in->op), what,
              found, expected);
    return false;
}

static inline bool fail_weight(struct program *p, const struct instr *in, int i, int64_t expected)
{
    const struct prog_weight *w = prog_weight_at(p, in->w[i]);

    prog_fail(p, WATT_EFORMAT, "tensor %s: %" PRId64 " elements, expected %" PRId64, w->name,
              tensor_elems(&w->t), expected);
    return false;
}

/* An absent weight has any number of elements. */
static inline bool elems_are(const struct program *p, const struct instr *in, int i, int64_t n)
{
    const struct tensor *t = weight(p, in, i);

    return !t || tensor_elems(t) == n;
}

static inline void same_rows(struct prog_value *dst, const struct prog_value *x, uint32_t width)
{
    dst->extent = x->extent;
    dst->per = x->per;
    dst->width = width;
    dst->is_int = false;
}

static inline bool needs_float(struct program *p, const struct instr *in, const struct prog_value *v)
{
    if (!v->is_int)
        return true;
    prog_fail(p, WATT_EINVAL, "%s: expert ids where numbers are expected", op_name(in->op));
    return false;
}

static inline bool width_fits(struct program *p, const struct instr *in, int64_t width)
{
    if (width >= 1 && width <= (int64_t)PROG_MAX_WIDTH)
        return true;
    prog_fail(p, WATT_ELIMIT, "%s: width %" PRId64 " is not in 1..%u", op_name(in->op), width,
              PROG_MAX_WIDTH);
    return false;
}

/* Operand i of a recurrence: one row of numbers per token, so many columns. */
static inline bool operand_is(struct program *p, const struct instr *in, int i, uint64_t width)
{
    const struct prog_value *x = src(p, in, i);

    if (!needs_float(p, in, x))
        return false;
    if (x->extent != EXT_N || x->per != 1)
        return fail_shape(p, in, "rows per token", x->per, 1);
    return x->width == width || fail_shape(p, in, "columns of an operand", x->width,
                                           (int64_t)width);
}

static inline bool fixed_is(struct program *p, const struct instr *in, uint64_t n_floats)
{
    const struct prog_state *s = in->state ? prog_state_at(p, in->state) : NULL;

    if (!s || s->kind != STATE_FIXED || s->n_floats != n_floats)
        return fail_shape(p, in, "numbers of state", s ? s->n_floats : 0, (int64_t)n_floats);
    return true;
}

static inline double weight_bytes(const struct program *p, const struct instr *in)
{
    double bytes = 0;

    for (int i = 0; i < in->n_w; i++)
        if (in->w[i])
            bytes += (double)prog_weight_at(p, in->w[i])->t.size_bytes;
    return bytes;
}

/* op_scan.c */
op_shape_fn op_shape_linear_attention, op_shape_wkv, op_shape_shift, op_shape_cell,
            op_shape_group_sum, op_shape_conv;
op_cost_fn op_cost_cell, op_cost_conv;
/* Multiplications and additions per number of state and row. */
double op_scan_ops(enum op op);

#endif
