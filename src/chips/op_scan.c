/* op_scan.c: shape rules and costs of linear attention, RWKV, token shift, recurrent cells, group
 * sums and convolutions; see op.h. */
#include "chips/op_internal.h"

#include <math.h>

double prog_linear_slope(uint32_t head, uint32_t n_heads)
{
    return pow(2, -8.0 * (head + 1.0) / n_heads);
}

bool op_shape_linear_attention(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct linear_attn_args *a = &in->a.linattn;
    const uint64_t keys = (uint64_t)a->n_heads * a->k_dim, values = (uint64_t)a->n_heads * a->v_dim;

    if (a->k_dim == 0 || a->k_dim > 4096 || values == 0 || values > PROG_MAX_WIDTH)
        return fail_shape(p, in, "columns of a key head", a->k_dim, 128);
    if (!operand_is(p, in, 0, keys) || !operand_is(p, in, 1, keys) ||
        !operand_is(p, in, 2, values) || !fixed_is(p, in, values * a->k_dim))
        return false;
    same_rows(dst, src(p, in, 2), (uint32_t)values);
    return true;
}

bool op_shape_wkv(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct wkv_args *a = &in->a.wkv;
    const uint64_t width = (uint64_t)a->n_heads * a->head_dim;

    if (a->head_dim == 0 || a->head_dim > 4096 || width == 0 || width > PROG_MAX_WIDTH)
        return fail_shape(p, in, "columns of a head", a->head_dim, 64);
    for (int i = 0; i < in->n_src; i++)
        if (!operand_is(p, in, i, width))
            return false;
    if (!fixed_is(p, in, width * a->head_dim))
        return false;
    same_rows(dst, src(p, in, 0), (uint32_t)width);
    return true;
}

bool op_shape_shift(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const uint32_t width = src(p, in, 0)->width;

    if (!operand_is(p, in, 0, width) || !fixed_is(p, in, width))
        return false;
    same_rows(dst, src(p, in, 0), width);
    return true;
}

bool op_shape_cell(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct cell_args *a = &in->a.cell;
    const uint64_t n = a->n_hidden, gates = (a->kind == CELL_LSTM ? 4 : 3) * n;

    if (a->kind != CELL_LSTM && a->kind != CELL_GRU)
        return fail_shape(p, in, "kind of cell", a->kind, CELL_GRU);
    if (n == 0 || n > 65536)
        return fail_shape(p, in, "hidden units", (int64_t)n, 65536);
    if (!operand_is(p, in, 0, gates) || !fixed_is(p, in, a->kind == CELL_LSTM ? 2 * n : n))
        return false;
    if (!elems_are(p, in, 0, (int64_t)(gates * n)))
        return fail_weight(p, in, 0, (int64_t)(gates * n));
    if (!elems_are(p, in, 1, (int64_t)gates))
        return fail_weight(p, in, 1, (int64_t)gates);
    same_rows(dst, src(p, in, 0), a->n_hidden);
    return true;
}

bool op_shape_group_sum(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);
    const uint32_t group = in->a.group;

    if (!needs_float(p, in, x))
        return false;
    if (group == 0 || x->width % group != 0)
        return fail_shape(p, in, "width not a multiple of the group: width", x->width, group);
    same_rows(dst, x, x->width / group);
    return true;
}

uint32_t prog_conv_extent(uint32_t n, uint32_t kernel, uint32_t stride, uint32_t pad,
                          uint32_t dilation)
{
    const uint64_t all = n + 2 * (uint64_t)pad;
    const uint64_t reach = kernel ? (uint64_t)(kernel - 1) * dilation + 1 : 0;

    return reach == 0 || stride == 0 || reach > all ? 0 : (uint32_t)((all - reach) / stride + 1);
}

bool op_shape_conv(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);
    const struct conv2d_args *a = &in->a.conv2d;
    const uint64_t places = (uint64_t)a->height * a->width;
    uint64_t h, w, elems;

    if (!needs_float(p, in, x))
        return false;
    if (places == 0 || x->per != places)
        return fail_shape(p, in, "rows of a picture", x->per, (int64_t)places);
    if (a->groups == 0 || x->width % a->groups != 0 || a->n_out % a->groups != 0)
        return fail_shape(p, in, "groups of channels: channels", x->width, a->groups);
    if (a->k_height == 0 || a->k_width == 0 || a->k_height > 4096 || a->k_width > 4096 ||
        a->stride_y == 0 || a->stride_x == 0 || a->dilation_y == 0 || a->dilation_x == 0 ||
        a->pad_y > 4096 || a->pad_x > 4096)
        return fail_shape(p, in, "kernel, stride or dilation", 0, 1);
    h = prog_conv_extent(a->height, a->k_height, a->stride_y, a->pad_y, a->dilation_y);
    w = prog_conv_extent(a->width, a->k_width, a->stride_x, a->pad_x, a->dilation_x);
    if (h == 0 || w == 0 || h * w > PROG_MAX_PER)
        return fail_shape(p, in, "places of the result", (int64_t)(h * w), 1);
    if (!width_fits(p, in, a->n_out))
        return false;
    elems = (uint64_t)a->n_out * (x->width / a->groups) * a->k_height * a->k_width;
    if (!elems_are(p, in, 0, (int64_t)elems))
        return fail_weight(p, in, 0, (int64_t)elems);
    if (!elems_are(p, in, 1, a->n_out))
        return fail_weight(p, in, 1, a->n_out);
    same_rows(dst, x, a->n_out);
    dst->per = (uint32_t)(h * w);
    return true;
}

double op_scan_ops(enum op op)
{
    switch (op) {
    case OP_DELTA_RULE:       return 7;
    case OP_SSM_SCAN:         return 6;
    case OP_LINEAR_ATTENTION: return 5;
    case OP_WKV:              return 9;
    default:                  return 2;
    }
}

void op_cost_cell(const struct program *p, const struct instr *in, const struct op_load *load,
                  struct prog_cost *c)
{
    c->ops += 2.0 * (double)tensor_elems(weight(p, in, 0)) * load->n_rows;
    c->kv_bytes += 8.0 * prog_state_at(p, in->state)->n_floats * load->n_streams;
    c->weight_bytes += weight_bytes(p, in);
}

void op_cost_conv(const struct program *p, const struct instr *in, const struct op_load *load,
                  struct prog_cost *c)
{
    c->ops += 2.0 * (double)tensor_elems(weight(p, in, 0)) * load->rows;
    c->weight_bytes += weight_bytes(p, in);
}
