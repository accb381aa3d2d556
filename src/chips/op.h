/* op.h: the table of operations: what each one reads and makes, what it costs,
 * and its reference in double precision.
 *
 * Adding an operation is one row in op.c, its name in enum op, its arguments in
 * struct instr, and its reference function in an interp_*.c. The recorder, the passes and the
 * interpreter are driven by this table alone. */
#ifndef CHIPS_OP_H
#define CHIPS_OP_H

#include <stdbool.h>
#include <stdint.h>

#include "chips/program.h"

struct interp;      /* chips/interp_internal.h */

/* Checks the operands of in (already known to exist and to be as many as the row
 * says) and fills extent, per, width and is_int of dst[0 .. n_dst). On a mistake:
 * prog_fail() and false. */
typedef bool op_shape_fn(struct program *p, const struct instr *in, struct prog_value *dst);

/* Adds operations and weight and state bytes of one instruction. */
struct op_load {
    double rows;            /* of the first result */
    double n_rows;          /* token rows of the step */
    double n_streams, n_past;
};
typedef void op_cost_fn(const struct program *p, const struct instr *in,
                        const struct op_load *load, struct prog_cost *c);

/* Runs one instruction on the values of x. */
typedef void op_ref_fn(struct interp *x, const struct instr *in);

struct op_info {
    const char  *name;
    uint8_t      min_src, max_src, n_dst, n_w;
    uint8_t      w_required;            /* bit i: weight i may not be none */
    uint8_t      w_use[PROG_MAX_W];     /* enum weight_use */
    bool         row_wise;  /* each result row depends on the same source rows only, and
                             * not on position: may be moved behind OP_ROWS */
    bool         in_place;  /* element by element: a result may lie on a source */
    bool         effect;    /* writes state: never dropped */
    op_shape_fn *shape;
    op_cost_fn  *cost;
    op_ref_fn   *ref;
};

/* NULL for numbers that name no operation. */
const struct op_info *op_info(enum op op);

/* The reference functions, by family. */
op_ref_fn ref_adapter, ref_adapter_scale, ref_embed, ref_rows, ref_concat, ref_reshape, ref_pool;       /* interp_move.c */
op_ref_fn ref_linear, ref_expert_linear, ref_expert_spread, ref_expert_sum,
          ref_route;                                                    /* interp_linear.c */
op_ref_fn ref_norm, ref_unary, ref_gated, ref_add, ref_mul, ref_affine, ref_softmax,
          ref_position_scale;                                           /* interp_rowwise.c */
op_ref_fn ref_short_conv, ref_ssm_scan, ref_delta_rule;                 /* interp_recurrent.c */
op_ref_fn ref_linear_attention, ref_wkv, ref_shift, ref_cell;           /* interp_cells.c */
op_ref_fn ref_group_sum, ref_conv;                                      /* interp_conv.c */
op_ref_fn ref_rope, ref_attention;                                      /* interp_attention.c */

#endif
