/* exec_rows.c: row-wise items of the CPU executor: all items of a phase, one after the
 * other, on one unit: a token row, a result row or a stream. A unit may have several
 * rows of a value (expert slots). */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "chips/cpu/drop.h"
#include "chips/cpu/exec_internal.h"
#include "chips/rope.h"
#include "chips/route.h"

static const struct prog_value *value(const struct cpu_exec *x, val v)
{
    return prog_value(x->p, v);
}

static float *dst_row(const struct item *it, uint64_t row)
{
    return it->dst + row * it->dst_stride;
}

static const float *src_row(const struct item *it, int i, uint64_t row)
{
    return it->src[i] + row * it->src_stride[i];
}

static uint32_t vector_len(const struct cpu_exec *x, wid w)
{
    return w ? (uint32_t)tensor_elems(&prog_weight_at(x->p, w)->t) : 0;
}

/* Row `id` of a table, where the file is mapped. */
static void table_row(const struct cpu_exec *x, wid w, uint64_t id, float *y)
{
    const struct tensor *t = &prog_weight_at(x->p, w)->t;
    const uint64_t n = (uint64_t)tensor_row(t);
    const uint64_t row_bytes = t->size_bytes / (uint64_t)t->shape[0];

    dtype_info(t->dtype)->dequant(y, (const uint8_t *)t->data + id * row_bytes, (size_t)n);
}

static void row_embed(struct cpu_exec *x, const struct item *it, uint32_t row)
{
    table_row(x, it->in->w[0], batch_table_row(x->b, &it->in->a.embed, row), dst_row(it, row));
}

static void row_norm(struct cpu_exec *x, const struct item *it, uint64_t row)
{
    const struct instr *in = it->in;
    const struct norm_args *a = &in->a.norm;
    const uint32_t width = value(x, in->dst[0])->width;
    const uint32_t group = a->group ? a->group : width;
    const float *gain = x->vector[in->w[0]], *bias = x->vector[in->w[1]];
    const uint32_t gain_step = vector_len(x, in->w[0]) == width ? group : 0;
    const uint32_t bias_step = vector_len(x, in->w[1]) == width ? group : 0;
    const float *s = src_row(it, 0, row);
    float *y = dst_row(it, row);

    for (uint32_t c = 0, g = 0; c < width; c += group, g++) {
        const float *gg = gain ? gain + (size_t)g * gain_step : NULL;
        const float *bb = bias ? bias + (size_t)g * bias_step : NULL;

        if (a->kind == NORM_LAYER) {
            x->k.layer_norm(y + c, s + c, gg, bb, group, a->eps);
            continue;
        }
        if (a->kind == NORM_RMS) {
            x->k.rms_norm(y + c, s + c, gg, group, a->eps);
        } else {
            x->k.l2_norm(y + c, s + c, group, a->eps);
            if (gg)
                x->k.mul(y + c, y + c, gg, group);
        }
        if (bb)
            x->k.add(y + c, y + c, bb, group);
    }
}

static void row_rope_table(struct cpu_exec *x, const struct item *it, uint32_t row)
{
    const struct rope_table *t = &x->s.ropes[it->index];
    const int32_t pos = (int32_t)batch_pos(x->b, row), same[4] = { pos, pos, pos, pos };

    rope_cos_sin(&t->args, t->freq, t->magnitude, x->b->pos4 ? x->b->pos4 + 4 * (size_t)row : same,
                 t->cos_sin + (size_t)row * t->args.n_rot);
}

static void row_rope(struct cpu_exec *x, const struct item *it, uint32_t row)
{
    const struct rope_args *a = &it->in->a.rope;
    const struct rope_table *t = &x->s.ropes[it->index];
    float *y = dst_row(it, row);

    memcpy(y, src_row(it, 0, row), (size_t)a->n_heads * a->head_dim * sizeof *y);
    x->k.rope(y, t->cos_sin + (size_t)row * a->n_rot, a->n_heads, a->head_dim, a->n_rot,
              a->pairing);
}

/* Rare enough to go without a kernel. */
static void row_divide(float *y, const float *a, const float *b, uint32_t n_b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] = a[i] / b[n_b == 1 ? 0 : i];
}

static void row_binary(struct cpu_exec *x, const struct item *it, uint64_t row)
{
    const struct instr *in = it->in;
    const uint32_t width = value(x, in->dst[0])->width;
    const bool adds = in->op == OP_ADD;
    const float *a = src_row(it, 0, row);
    const float *b = in->w[0] ? x->vector[in->w[0]] : src_row(it, 1, row);
    const uint32_t n = in->w[0] ? vector_len(x, in->w[0]) : value(x, in->src[1])->width;

    if (!adds && in->a.divide)
        row_divide(dst_row(it, row), a, b, n, width);
    else if (n == 1 && width != 1)
        x->k.affine(dst_row(it, row), a, adds ? 1.0f : b[0], adds ? b[0] : 0.0f, width);
    else
        (adds ? x->k.add : x->k.mul)(dst_row(it, row), a, b, width);
}

static void row_softmax(struct cpu_exec *x, const struct item *it, uint64_t row)
{
    const uint32_t width = value(x, it->in->dst[0])->width;
    const uint32_t group = it->in->a.group ? it->in->a.group : width;

    for (uint32_t c = 0; c < width; c += group)
        x->k.softmax(dst_row(it, row) + c, src_row(it, 0, row) + c, group);
}

static void row_concat(struct cpu_exec *x, const struct item *it, uint64_t row)
{
    float *y = dst_row(it, row);

    for (int i = 0; i < it->in->n_src; i++) {
        const uint32_t width = value(x, it->in->src[i])->width;

        memcpy(y, src_row(it, i, row), width * sizeof *y);
        y += width;
    }
}

/* One unit's numbers in pieces of the narrower of both widths. */
static void row_reshape(struct cpu_exec *x, const struct item *it, uint32_t unit)
{
    const struct prog_value *s = value(x, it->in->src[0]), *d = value(x, it->in->dst[0]);
    const uint32_t n = s->width < d->width ? s->width : d->width;
    const uint32_t from = s->width / n, to = d->width / n;
    const uint64_t first_from = (uint64_t)unit * s->per, first_to = (uint64_t)unit * d->per;

    for (uint32_t i = 0; i < d->per * to; i++)
        memcpy(dst_row(it, first_to + i / to) + (size_t)(i % to) * n,
               src_row(it, 0, first_from + i / from) + (size_t)(i % from) * n,
               n * sizeof(float));
}

/* The mean of a stream's rows. */
static void row_pool(struct cpu_exec *x, const struct item *it, uint32_t unit)
{
    const struct stream *s = &x->b->streams[unit];
    const uint32_t width = value(x, it->in->dst[0])->width;
    float *y = dst_row(it, unit);

    memcpy(y, src_row(it, 0, s->first_row), width * sizeof *y);
    for (uint32_t r = 1; r < s->n_rows; r++)
        x->k.add(y, y, src_row(it, 0, (uint64_t)s->first_row + r), width);
    x->k.affine(y, y, 1.0f / (float)s->n_rows, 0.0f, width);
}

static void row_position_scale(struct cpu_exec *x, const struct item *it, uint32_t row)
{
    const struct position_scale_args *a = &it->in->a.pscale;
    const double at = floor(((double)batch_pos(x->b, row) + a->offset) / a->length);

    x->k.affine(dst_row(it, row), src_row(it, 0, row), (float)(1.0 + a->c * log(1.0 + at)), 0.0f,
                value(x, it->in->dst[0])->width);
}

static void row_expert_sum(struct cpu_exec *x, const struct item *it, uint32_t unit)
{
    const uint32_t k = value(x, it->in->src[0])->per, width = value(x, it->in->dst[0])->width;
    const float *weight = src_row(it, 1, unit);
    float *y = dst_row(it, unit);

    memset(y, 0, width * sizeof *y);
    for (uint32_t i = 0; i < k; i++)
        x->k.axpy(y, src_row(it, 0, (uint64_t)unit * k + i), weight[i], width);
}

static void row_group_sum(const struct item *it, uint64_t row, uint32_t width)
{
    const uint32_t group = it->in->a.group;

    for (uint32_t g = 0; g < width; g++) {
        const float *x = src_row(it, 0, row) + (size_t)g * group;
        double sum = 0;

        for (uint32_t i = 0; i < group; i++)
            sum += x[i];
        dst_row(it, row)[g] = (float)sum;
    }
}

/* One row of the value that in->dst[0] is, for operations that know nothing of units. */
static void row_plain(struct cpu_exec *x, const struct item *it, uint64_t row)
{
    const struct instr *in = it->in;
    const uint32_t width = value(x, in->dst[0])->width;

    switch (in->op) {
    case OP_NORM:
        row_norm(x, it, row);
        break;
    case OP_UNARY:
        x->k.unary(dst_row(it, row), src_row(it, 0, row), width, &in->a.act);
        break;
    case OP_GATED:
        x->k.gated(dst_row(it, row), src_row(it, 0, row), src_row(it, 1, row), width, &in->a.act);
        break;
    case OP_ADD:
    case OP_MUL:
        row_binary(x, it, row);
        break;
    case OP_AFFINE:
        x->k.affine(dst_row(it, row), src_row(it, 0, row), in->a.affine.scale,
                    in->a.affine.offset, width);
        break;
    case OP_SOFTMAX:
        row_softmax(x, it, row);
        break;
    case OP_CONCAT:
        row_concat(x, it, row);
        break;
    case OP_GROUP_SUM:
        row_group_sum(it, row, width);
        break;
    default:
        CHECK(false && "row-wise operation without a kernel");
    }
}

/* Rows of the batch that a unit stands for: masks don't depend on which rows are wanted. */
static uint64_t unit_row(const struct cpu_exec *x, enum extent extent, uint32_t unit)
{
    return extent == EXT_R ? x->b->out_row[unit] : unit;
}

static void row_adapter(struct cpu_exec *x, const struct item *it, uint32_t unit)
{
    const uint64_t row = unit_row(x, value(x, it->in->dst[0])->extent, unit);

    const int32_t own = (int32_t)x->b->streams[x->b->row_stream[row]].adapter;
    const int32_t n_each = (int32_t)it->in->a.adapter.n_each;
    int32_t *to = (int32_t *)(void *)dst_row(it, unit);

    if (n_each == 0) {
        *to = own;
        return;
    }
    for (uint32_t k = 0; k < value(x, it->in->dst[0])->width; k++)
        to[k] = own * n_each + ((const int32_t *)(const void *)src_row(it, 0, unit))[k];
}

/* A scale of 1 leaves every bit as it is. */
static void row_adapter_scale(struct cpu_exec *x, const struct item *it, uint32_t unit)
{
    const struct prog_value *v = value(x, it->in->dst[0]);
    const uint64_t row = unit_row(x, v->extent, unit);
    const float scale = stream_adapter_scale(&x->b->streams[x->b->row_stream[row]]);

    for (uint32_t i = 0; i < v->per; i++) {
        const float *from = src_row(it, 0, (uint64_t)unit * v->per + i);
        float *to = dst_row(it, (uint64_t)unit * v->per + i);

        if (scale != 1.0f)
            x->k.affine(to, from, scale, 0.0f, v->width);
        else if (to != from)
            memcpy(to, from, v->width * sizeof *to);
    }
}

static void run_instr(struct cpu_exec *x, const struct item *it, uint32_t unit, void *scratch)
{
    const struct instr *in = it->in;
    const uint32_t per = value(x, in->dst[0])->per;

    switch (in->op) {
    case OP_EMBED:
        row_embed(x, it, unit);
        break;
    case OP_ROPE:
        row_rope(x, it, unit);
        break;
    case OP_POSITION_SCALE:
        row_position_scale(x, it, unit);
        break;
    case OP_ROUTE:
        route_row(&in->a.route, src_row(it, 0, unit), x->vector[in->w[0]],
                  (int32_t *)(void *)dst_row(it, unit),
                  (float *)(void *)((uint8_t *)x->region + x->s.offset[in->dst[1]]) +
                      (size_t)unit * value(x, in->dst[1])->width, scratch);
        break;
    case OP_EXPERT_SPREAD:
        for (uint32_t i = 0; i < per; i++)
            x->k.affine(dst_row(it, (uint64_t)unit * per + i), src_row(it, 0, unit),
                        src_row(it, 1, unit)[i], 0.0f, value(x, in->dst[0])->width);
        break;
    case OP_EXPERT_SUM:
        row_expert_sum(x, it, unit);
        break;
    case OP_ADAPTER:
        row_adapter(x, it, unit);
        break;
    case OP_ADAPTER_SCALE:
        row_adapter_scale(x, it, unit);
        break;
    case OP_RESHAPE:
        row_reshape(x, it, unit);
        break;
    case OP_POOL:
        row_pool(x, it, unit);
        break;
    case OP_CONV:
        exec_conv_unit(x, it, unit);
        break;
    case OP_ROWS:
        for (uint32_t i = 0; i < per; i++)
            memcpy(dst_row(it, (uint64_t)unit * per + i),
                   src_row(it, 0, (uint64_t)x->b->out_row[unit] * per + i),
                   value(x, in->dst[0])->width * sizeof(float));
        break;
    default:
        for (uint32_t i = 0; i < per; i++)
            row_plain(x, it, (uint64_t)unit * per + i);
    }
}

/* Scale and bias of a product. */
static void run_finish(struct cpu_exec *x, const struct item *it, uint32_t unit)
{
    const struct instr *in = it->in;
    const bool expert = in->op == OP_EXPERT_LINEAR;
    const uint32_t width = value(x, in->dst[0])->width, per = value(x, in->dst[0])->per;
    const float *bias = x->vector[in->w[1]], *scale = x->vector[in->w[2]];
    const uint32_t n_scale = vector_len(x, in->w[2]);
    const int32_t *ids = expert ? (const int32_t *)(const void *)src_row(it, 1, unit) : NULL;
    const float factor = expert || in->a.linear.scale == 0.0f ? 1.0f : in->a.linear.scale;

    for (uint32_t i = 0; i < per; i++) {
        float *y = dst_row(it, (uint64_t)unit * per + i);
        const size_t at = ids ? (size_t)ids[i] : 0;
        float f = factor;

        if (scale && (n_scale == 1 || expert))
            f *= scale[n_scale == 1 ? 0 : at];
        if (f != 1.0f)
            x->k.affine(y, y, f, 0.0f, width);
        if (scale && n_scale > 1 && !expert)
            x->k.mul(y, y, scale, width);
        if (bias)
            x->k.add(y, y, bias + at * width, width);
    }
}

static void run_kv_store(struct cpu_exec *x, const struct item *it, uint32_t row)
{
    const struct stream *s = &x->b->streams[x->b->row_stream[row]];
    const uint32_t pos = batch_pos(x->b, row);
    uint8_t *page = (uint8_t *)x->kv_pages +
                    (size_t)s->pages[pos / KV_PAGE_TOKENS] * x->layout->page_bytes;

    x->k.kv_store(x->layout, page, it->in->state, pos % KV_PAGE_TOKENS, src_row(it, 1, row),
                  src_row(it, 2, row));
}

static void run_prepare(struct cpu_exec *x, const struct item *it, uint32_t unit)
{
    const struct prepared *p = &x->s.prepared[it->index];
    const struct prog_value *v = value(x, p->value);

    for (uint32_t i = 0; i < v->per; i++) {
        const uint64_t row = (uint64_t)unit * v->per + i;

        x->k.act_prepare[p->format](p->rows + row * p->stride, src_row(it, 0, row), v->width);
    }
}

void exec_drop(const struct cpu_exec *x, float *y, size_t n, uint32_t instr, uint32_t operand,
               uint64_t row)
{
    const struct drop d = drop_of(x->k.drop, x->drop_seed, instr, operand, x->dropout);

    drop_cols(&d, y, row, 0, (uint32_t)n);
}

static void run_drop(struct cpu_exec *x, const struct item *it, uint32_t unit)
{
    const struct instr *in = it->in;
    const bool result = it->index == PROG_MAX_SRC;
    const val v = result ? in->dst[0] : in->src[it->index];
    const uint32_t n = value(x, v)->width, per = value(x, v)->per;
    const uint64_t row = unit_row(x, value(x, v)->extent, unit);

    if (x->dropout == 0.0f)
        return;
    for (uint32_t i = 0; i < per; i++) {
        const uint64_t at = (uint64_t)unit * per + i;

        exec_drop(x, result ? dst_row(it, at)
                            : it->src[it->index] + at * it->src_stride[it->index],
                  n, (uint32_t)(in - prog_instr(x->p, 0)), it->index, row * per + i);
    }
}

void exec_rows_unit(struct cpu_exec *x, const struct phase *ph, uint32_t unit, void *scratch)
{
    for (uint32_t i = ph->first; i != NO_PHASE; i = x->s.items[i].next) {
        const struct item *it = &x->s.items[i];

        switch (it->kind) {
        case ITEM_INSTR:      run_instr(x, it, unit, scratch); break;
        case ITEM_ROPE_TABLE: row_rope_table(x, it, unit); break;
        case ITEM_PREPARE:    run_prepare(x, it, unit); break;
        case ITEM_FINISH:     run_finish(x, it, unit); break;
        case ITEM_KV_STORE:   run_kv_store(x, it, unit); break;
        case ITEM_DROP:       run_drop(x, it, unit); break;
        case ITEM_PRODUCT:
        case ITEM_EXPERT_PRODUCT:
        case ITEM_SORT:
        case ITEM_ATTENTION:
        case ITEM_SCAN:
            CHECK(false && "not a row-wise item");
        }
    }
}
