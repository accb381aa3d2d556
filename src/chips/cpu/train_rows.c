/* train_rows.c: backward of row-wise instructions, one unit at a time; see train_internal.h.
 * Every gradient is written, or added where the step says so. */
#include <math.h>
#include <string.h>

#include "chips/cpu/train_internal.h"

/* Work on one row of one item. */
struct row {
    struct train *t;
    const struct train_item *it;
    const struct instr *in;
    uint32_t unit, block;
    uint64_t row;           /* of the result */
    float   *scratch;
};

static const float *dy_of(const struct row *r)
{
    return train_row(r->it->dy, r->row);
}

static const float *src_of(const struct row *r, int s)
{
    return train_row(train_value(r->t, r->in->src[s]), r->row);
}

static float *dst_of(const struct row *r, int s)
{
    return r->it->dst[s].p ? train_row(r->it->dst[s], r->row) : NULL;
}

static bool adds(const struct row *r, int s)
{
    return r->it->step->add >> s & 1;
}

static uint32_t width_of(const struct row *r)
{
    return train_width(r->t, r->in->dst[0]);
}

static const float *vector_of(const struct row *r, int w)
{
    return r->t->x->vector[r->in->w[w]];
}

static uint32_t vector_len(const struct row *r, int w)
{
    const wid id = r->in->w[w];

    return id ? (uint32_t)tensor_elems(&prog_weight_at(r->t->own, id)->t) : 0;
}

static float *part_of(const struct row *r, int k)
{
    return train_part_of(r->t, r->it, k, r->block);
}

/* y = x or y += x */
static void put(const struct row *r, int s, float *y, const float *x, size_t n)
{
    if (adds(r, s))
        r->t->x->k.add(y, y, x, n);
    else if (y != x)
        memcpy(y, x, n * sizeof *y);
}

static inline void put_one(float *y, float v, bool add)
{
    *y = add ? *y + v : v;
}

/* ---- norms ---- */

static void back_norm(const struct row *r)
{
    const uint32_t width = width_of(r), group = r->in->a.norm.group ? r->in->a.norm.group : width;
    const uint32_t gain_step = vector_len(r, 0) == width ? group : 0;
    const uint32_t bias_step = vector_len(r, 1) == width ? group : 0;
    const float *gain = vector_of(r, 0), *x = src_of(r, 0), *dy = dy_of(r);
    float *dx = dst_of(r, 0), *dgain = part_of(r, 0), *dbias = part_of(r, 1);

    for (uint32_t c = 0, g = 0; c < width; c += group, g++) {
        const struct norm_back_args a = {
            .dx = dx ? dx + c : NULL, .dgain = dgain ? dgain + (size_t)g * gain_step : NULL,
            .dbias = dbias ? dbias + (size_t)g * bias_step : NULL, .x = x + c, .dy = dy + c,
            .gain = gain ? gain + (size_t)g * gain_step : NULL, .kind = r->in->a.norm.kind,
            .eps = r->in->a.norm.eps, .add = adds(r, 0) };

        r->t->k.norm_back(&a, group);
    }
}

/* ---- rotation: the turn back, magnitude included ---- */

static void back_rope(const struct row *r)
{
    const struct rope_args *a = &r->in->a.rope;
    const float *cos_sin = r->t->x->s.ropes[r->it->rope].cos_sin + r->row * a->n_rot;
    const uint32_t n = width_of(r);
    float *back = r->scratch, *dx = dst_of(r, 0), *y = adds(r, 0) ? back + a->n_rot : dx;

    for (uint32_t i = 0; i < a->n_rot; i += 2) {
        back[i] = cos_sin[i];
        back[i + 1] = -cos_sin[i + 1];
    }
    memcpy(y, dy_of(r), n * sizeof *y);
    r->t->x->k.rope(y, back, a->n_heads, a->head_dim, a->n_rot, a->pairing);
    if (y != dx)
        r->t->x->k.add(dx, dx, y, n);
}

/* ---- element by element ---- */

static void back_unary(const struct row *r)
{
    r->t->k.unary_back(dst_of(r, 0), src_of(r, 0), dy_of(r), width_of(r), &r->in->a.act,
                       adds(r, 0));
}

static void back_gated(const struct row *r)
{
    const struct gated_back_args a = { .dgate = dst_of(r, 0), .dup = dst_of(r, 1),
                                       .gate = src_of(r, 0), .up = src_of(r, 1), .dy = dy_of(r),
                                       .act = &r->in->a.act, .add_gate = adds(r, 0),
                                       .add_up = adds(r, 1) };

    r->t->k.gated_back(&a, width_of(r));
}

/* dy with this row's dropout of operand s (or of the result), in scratch. */
static const float *dropped(const struct row *r, const float *dy, uint32_t operand)
{
    const struct cpu_exec *x = r->t->x;
    const uint32_t n = width_of(r), per = prog_value(r->t->own, r->in->dst[0])->per;
    const uint64_t unit = prog_value(r->t->own, r->in->dst[0])->extent == EXT_R
                              ? r->t->out_row[r->unit] : r->unit;

    if (x->dropout == 0.0f)
        return dy;
    memcpy(r->scratch, dy, n * sizeof *dy);
    exec_drop(x, r->scratch, n, (uint32_t)(r->in - prog_instr(r->t->own, 0)), operand,
              unit * per + r->row % per);
    return r->scratch;
}

static void back_add(const struct row *r)
{
    const uint32_t n = width_of(r), drop = r->it->drop;
    const float *dy = dy_of(r);
    float *part = part_of(r, 0);

    for (int s = 1; s >= 0; s--) {      /* operand 0 may share dy's memory: last */
        float *d = s < r->in->n_src ? dst_of(r, s) : NULL;
        const float *g;
        double sum = 0;

        if (!d || (r->it->step->same >> s & 1))
            continue;
        g = drop >> (s + 1) & 1 ? dropped(r, dy, (uint32_t)s) : dy;
        if (train_width(r->t, r->in->src[s]) == n) {
            put(r, s, d, g, n);
            continue;
        }
        for (uint32_t i = 0; i < n; i++)
            sum += g[i];
        put_one(d, (float)sum, adds(r, s));
    }
    if (part && vector_len(r, 0) == n) {
        r->t->x->k.add(part, part, dy, n);
    } else if (part) {
        for (uint32_t i = 0; i < n; i++)
            part[0] += dy[i];
    }
}

/* b and its gradient may be one number for the whole row. */
static void back_mul(const struct row *r)
{
    const uint32_t n = width_of(r);
    const bool divide = r->in->a.divide, weight = r->in->w[0] != 0;
    const float *a = src_of(r, 0), *b = weight ? vector_of(r, 0) : src_of(r, 1), *dy = dy_of(r);
    const uint32_t n_b = weight ? vector_len(r, 0) : train_width(r->t, r->in->src[1]);
    float *da = dst_of(r, 0), *db = weight ? part_of(r, 0) : dst_of(r, 1);
    const bool add_b = weight || adds(r, 1);
    double sum = 0;

    for (uint32_t i = 0; i < n; i++) {
        const float m = b[n_b == 1 ? 0 : i];
        const float d = divide ? -dy[i] * a[i] / (m * m) : dy[i] * a[i];

        if (da)
            put_one(&da[i], divide ? dy[i] / m : dy[i] * m, adds(r, 0));
        if (n_b == 1)
            sum += d;
        else if (db)
            put_one(&db[i], d, add_b);
    }
    if (db && n_b == 1)
        put_one(db, (float)sum, add_b);
}

static void scale_into(const struct row *r, float f)
{
    const float *dy = dy_of(r);
    float *dx = dst_of(r, 0);

    if (adds(r, 0))
        r->t->x->k.axpy(dx, dy, f, width_of(r));
    else
        r->t->x->k.affine(dx, dy, f, 0.0f, width_of(r));
}

static void back_softmax(const struct row *r)
{
    const uint32_t width = width_of(r), group = r->in->a.group ? r->in->a.group : width;
    const float *y = train_row(train_value(r->t, r->in->dst[0]), r->row), *dy = dy_of(r);
    float *dx = dst_of(r, 0);

    for (uint32_t c = 0; c < width; c += group) {
        double dot = 0;

        for (uint32_t i = c; i < c + group; i++)
            dot += (double)dy[i] * y[i];
        for (uint32_t i = c; i < c + group; i++)
            put_one(&dx[i], y[i] * (dy[i] - (float)dot), adds(r, 0));
    }
}

static void back_concat(const struct row *r)
{
    const float *dy = dy_of(r);

    for (int s = 0; s < r->in->n_src; s++) {
        const uint32_t n = train_width(r->t, r->in->src[s]);
        float *d = dst_of(r, s);

        if (d)
            put(r, s, d, dy, n);
        dy += n;
    }
}

static void back_group_sum(const struct row *r)
{
    const uint32_t group = r->in->a.group;
    const float *dy = dy_of(r);
    float *dx = dst_of(r, 0);

    for (uint32_t i = 0; i < width_of(r) * group; i++)
        put_one(&dx[i], dy[i / group], adds(r, 0));
}

/* ---- units ---- */

/* The wanted rows' gradients go home, all other rows get none. */
static void back_rows(const struct row *r)
{
    const uint32_t per = prog_value(r->t->own, r->in->src[0])->per, n = width_of(r);
    const uint32_t out = r->t->out_of[r->unit];

    for (uint32_t i = 0; i < per; i++) {
        float *dx = train_row(r->it->dst[0], (uint64_t)r->unit * per + i);

        if (out != UINT32_MAX)
            put(r, 0, dx, train_row(r->it->dy, (uint64_t)out * per + i), n);
        else if (!adds(r, 0))
            memset(dx, 0, n * sizeof *dx);
    }
}

static void back_pool(const struct row *r)
{
    const uint32_t stream = r->t->row_stream[r->unit];
    const float f = 1.0f / (float)r->t->streams[stream].n_rows;
    float *dx = train_row(r->it->dst[0], r->unit);

    if (adds(r, 0))
        r->t->x->k.axpy(dx, train_row(r->it->dy, stream), f, width_of(r));
    else
        r->t->x->k.affine(dx, train_row(r->it->dy, stream), f, 0.0f, width_of(r));
}

static void back_reshape(const struct row *r)
{
    const struct prog_value *s = prog_value(r->t->own, r->in->src[0]);
    const struct prog_value *d = prog_value(r->t->own, r->in->dst[0]);
    const uint32_t n = s->width < d->width ? s->width : d->width;
    const uint32_t from = s->width / n, to = d->width / n;
    const uint64_t first_from = (uint64_t)r->unit * s->per, first_to = (uint64_t)r->unit * d->per;

    for (uint32_t i = 0; i < d->per * to; i++)
        put(r, 0, train_row(r->it->dst[0], first_from + i / from) + (size_t)(i % from) * n,
            train_row(r->it->dy, first_to + i / to) + (size_t)(i % to) * n, n);
}

static double dot(const float *a, const float *b, uint32_t n)
{
    double s = 0;

    for (uint32_t i = 0; i < n; i++)
        s += (double)a[i] * b[i];
    return s;
}

/* y[slot] = weight[slot] * x */
static void back_spread(const struct row *r)
{
    const uint32_t k = train_width(r->t, r->in->src[1]), n = width_of(r);
    const float *x = train_row(train_value(r->t, r->in->src[0]), r->unit);
    const float *w = train_row(train_value(r->t, r->in->src[1]), r->unit);
    float *dx = r->it->dst[0].p ? train_row(r->it->dst[0], r->unit) : NULL;
    float *dw = r->it->dst[1].p ? train_row(r->it->dst[1], r->unit) : NULL;

    for (uint32_t i = 0; i < k; i++) {
        const float *dy = train_row(r->it->dy, (uint64_t)r->unit * k + i);

        if (dx && (i > 0 || adds(r, 0)))
            r->t->x->k.axpy(dx, dy, w[i], n);
        else if (dx)
            r->t->x->k.affine(dx, dy, w[i], 0.0f, n);
        if (dw)
            put_one(&dw[i], (float)dot(dy, x, n), adds(r, 1));
    }
}

/* y = sum over slots of weight * x[slot] */
static void back_expert_sum(const struct row *r)
{
    const uint32_t k = train_width(r->t, r->in->src[1]), n = width_of(r);
    const float *w = train_row(train_value(r->t, r->in->src[1]), r->unit);
    const float *dy = train_row(r->it->dy, r->unit);
    float *dw = r->it->dst[1].p ? train_row(r->it->dst[1], r->unit) : NULL;

    for (uint32_t i = 0; i < k; i++) {
        const uint64_t slot = (uint64_t)r->unit * k + i;

        if (r->it->dst[0].p) {
            float *dx = train_row(r->it->dst[0], slot);

            if (adds(r, 0))
                r->t->x->k.axpy(dx, dy, w[i], n);
            else
                r->t->x->k.affine(dx, dy, w[i], 0.0f, n);
        }
        if (dw)
            put_one(&dw[i], (float)dot(dy, train_row(train_value(r->t, r->in->src[0]), slot), n),
                    adds(r, 1));
    }
}

/* ---- routing ---- */

/* ds: gradient of the chosen scores, from that of the weights. */
static void back_weights(const struct route_args *a, const double *score, const int32_t *ids,
                         const float *dw, double *ds)
{
    const double scale = a->scale != 0 ? (double)a->scale : 1;
    double sum = 0, dot_sum = 0;

    for (uint32_t i = 0; i < a->n_used; i++)
        sum += score[ids[i]];
    if (!a->normalise || sum < (double)a->norm_floor) {
        for (uint32_t i = 0; i < a->n_used; i++)
            ds[i] = dw[i] * scale / (a->normalise ? (double)a->norm_floor : 1);
        return;
    }
    for (uint32_t i = 0; i < a->n_used; i++)
        dot_sum += dw[i] * score[ids[i]] / sum;
    for (uint32_t i = 0; i < a->n_used; i++)
        ds[i] = (dw[i] - dot_sum) / sum * scale;
}

static void softmax_double(double *p, const float *x, uint32_t n)
{
    double top = x[0], sum = 0;

    for (uint32_t i = 1; i < n; i++)
        top = x[i] > top ? x[i] : top;
    for (uint32_t i = 0; i < n; i++)
        sum += p[i] = exp(x[i] - top);
    for (uint32_t i = 0; i < n; i++)
        p[i] /= sum;
}

/* Softmax over the chosen logits, then over their sum where weights are normalised (which a
 * softmax already is). */
static void back_selected(const struct route_args *a, const float *x, const int32_t *ids,
                          const float *dw, double *dx)
{
    const double scale = a->scale != 0 ? (double)a->scale : 1;
    double top = x[ids[0]], sum = 0, mean = 0;

    for (uint32_t i = 1; i < a->n_used; i++)
        top = x[ids[i]] > top ? x[ids[i]] : top;
    for (uint32_t i = 0; i < a->n_used; i++)
        sum += exp(x[ids[i]] - top);
    for (uint32_t i = 0; i < a->n_used; i++)
        mean += dw[i] * exp(x[ids[i]] - top) / sum;
    for (uint32_t i = 0; i < a->n_used; i++)
        dx[ids[i]] += scale * exp(x[ids[i]] - top) / sum * (dw[i] - mean);
}

/* The load-balance loss c n sum_e f_e P_e: f is a count and has no gradient, P the mean of the
 * softmax over the rows. */
static void back_balance(const struct row *r, const float *x, double *p, double *dx)
{
    const struct route_args *a = &r->in->a.route;
    const double *f = r->t->balance + r->t->routes[r->it->extra].first;
    double mean = 0;

    softmax_double(p, x, a->n_experts);
    for (uint32_t e = 0; e < a->n_experts; e++)
        mean += f[e] * p[e];
    for (uint32_t e = 0; e < a->n_experts; e++)
        dx[e] += p[e] * (f[e] - mean);
}

static void back_route(const struct row *r)
{
    const struct route_args *a = &r->in->a.route;
    const uint32_t n = a->n_experts;
    const float *x = train_row(train_value(r->t, r->in->src[0]), r->unit);
    const int32_t *ids = (const int32_t *)(const void *)
        train_row(train_value(r->t, r->in->dst[0]), r->unit);
    const float *dw = train_row(r->it->dy, r->unit);
    double *dx = (double *)(void *)r->scratch, *score = dx + n, *ds = score + n;
    float *to = train_row(r->it->dst[0], r->unit);

    memset(dx, 0, n * sizeof *dx);
    if (a->score == ROUTE_SOFTMAX_SELECTED) {
        back_selected(a, x, ids, dw, dx);
    } else {
        double mean = 0;

        if (a->score == ROUTE_SOFTMAX)
            softmax_double(score, x, n);
        else
            for (uint32_t e = 0; e < n; e++)
                score[e] = a->score == ROUTE_SIGMOID ? 1 / (1 + exp(-(double)x[e])) : (double)x[e];
        back_weights(a, score, ids, dw, ds);
        for (uint32_t i = 0; i < a->n_used; i++)
            mean += ds[i] * score[ids[i]];
        for (uint32_t e = 0; a->score == ROUTE_SOFTMAX && e < n; e++)
            dx[e] = -score[e] * mean;
        for (uint32_t i = 0; i < a->n_used; i++) {
            const double s = score[ids[i]];

            dx[ids[i]] += a->score == ROUTE_SOFTMAX ? s * ds[i]
                        : a->score == ROUTE_SIGMOID ? s * (1 - s) * ds[i] : ds[i];
        }
    }
    if (r->it->extra != UINT32_MAX)
        back_balance(r, x, score, dx);
    for (uint32_t e = 0; e < n; e++)
        put_one(&to[e], (float)dx[e], adds(r, 0));
}

/* ---- dispatch ---- */

static void back_plain(const struct row *r)
{
    switch (r->in->op) {
    case OP_NORM:      back_norm(r); break;
    case OP_ROPE:      back_rope(r); break;
    case OP_UNARY:     back_unary(r); break;
    case OP_GATED:     back_gated(r); break;
    case OP_ADD:       back_add(r); break;
    case OP_MUL:       back_mul(r); break;
    case OP_AFFINE:    scale_into(r, r->in->a.affine.scale); break;
    case OP_SOFTMAX:   back_softmax(r); break;
    case OP_CONCAT:    back_concat(r); break;
    case OP_GROUP_SUM: back_group_sum(r); break;
    case OP_POSITION_SCALE: {
        const struct position_scale_args *a = &r->in->a.pscale;
        const double at = floor(((double)batch_pos(&r->t->batch, r->unit) + a->offset) / a->length);

        scale_into(r, (float)(1.0 + a->c * log(1.0 + at)));
        break;
    }
    default:
        CHECK(false && "row-wise operation without a backward");
    }
}

/* Of the result, in place: its gradient is nobody else's. */
static void drop_result(const struct row *r)
{
    float *dy = train_row(r->it->dy, r->row);
    const float *g = dropped(r, dy, PROG_MAX_SRC);

    if (g != dy)
        memcpy(dy, g, width_of(r) * sizeof *dy);
}

static void cell_bias(const struct row *r)
{
    const struct train_place g = train_extra(r->t, r->it);
    float *part = part_of(r, 0);

    r->t->x->k.add(part, part, train_row(g, r->row), vector_len(r, 1));
}

static void back_instr(struct row *r)
{
    const uint32_t per = prog_value(r->t->own, r->in->dst[0])->per;

    switch (r->in->op) {
    case OP_ROWS:          back_rows(r); return;
    case OP_POOL:          back_pool(r); return;
    case OP_RESHAPE:       back_reshape(r); return;
    case OP_EXPERT_SPREAD: back_spread(r); return;
    case OP_EXPERT_SUM:    back_expert_sum(r); return;
    case OP_ROUTE:         back_route(r); return;
    case OP_CONV:          train_conv(r->t, r->it, r->unit, part_of(r, 0), part_of(r, 1)); return;
    default:
        break;
    }
    for (uint32_t i = 0; i < per; i++) {
        r->row = (uint64_t)r->unit * per + i;
        if (r->it->drop & 1)
            drop_result(r);
        back_plain(r);
    }
}

/* Scale of the product in place, and its bias. */
static void back_bias(struct row *r)
{
    const struct instr *in = r->in;
    const bool expert = in->op == OP_EXPERT_LINEAR;
    const uint32_t n = width_of(r), per = prog_value(r->t->own, in->dst[0])->per;
    const float *scale = vector_of(r, 2);
    const uint32_t n_scale = vector_len(r, 2);
    const float factor = expert || in->a.linear.scale == 0.0f ? 1.0f : in->a.linear.scale;
    float *part = part_of(r, 0);
    const int32_t *ids = expert ? (const int32_t *)(const void *)
        train_row(train_value(r->t, in->src[1]), r->unit) : NULL;

    for (uint32_t i = 0; i < per; i++) {
        float *dy = train_row(r->it->dy, (uint64_t)r->unit * per + i), f = factor;
        const size_t at = ids ? (size_t)ids[i] : 0;

        if (part)
            r->t->x->k.add(part + at * n, part + at * n, dy, n);
        if (scale && (n_scale == 1 || expert))
            f *= scale[n_scale == 1 ? 0 : at];
        if (f != 1.0f)
            r->t->x->k.affine(dy, dy, f, 0.0f, n);
        if (scale && n_scale > 1 && !expert)
            r->t->x->k.mul(dy, dy, scale, n);
    }
}

static void prepare(struct row *r)
{
    const struct prog_value *v = prog_value(r->t->own, r->in->dst[0]);
    const struct train_buf *b = &r->t->bufs[r->it->prepared];

    for (uint32_t i = 0; i < v->per; i++) {
        const uint64_t row = (uint64_t)r->unit * v->per + i;

        r->t->x->k.act_prepare[r->it->format](r->t->region + b->offset + row * b->stride_bytes,
                                              train_row(r->it->dy, row), v->width);
    }
}

/* Bookkeeping: rows of whole buffers, or a part into its place. */
static void zero_or_add(struct row *r)
{
    const struct reverse_ref *to = &r->it->step->dst[0];
    const uint32_t per = r->t->rev.bufs[to->buf].per;

    for (uint32_t i = 0; i < per; i++) {
        const uint64_t row = (uint64_t)r->unit * per + i;
        float *y = train_row(r->it->dst[0], row);

        if (r->it->kind == T_ZERO)
            memset(y, 0, to->width * sizeof *y);
        else
            r->t->x->k.add(y, y, train_row(r->it->dy, row), to->width);
    }
}

static void slots(struct row *r)
{
    const struct train_place from = train_extra(r->t, r->it);
    const uint32_t k = prog_value(r->t->own, r->in->dst[0])->per;
    const uint32_t n = train_width(r->t, r->in->src[0]);
    float *y = train_row(r->it->dst[0], r->unit);

    for (uint32_t i = 0; i < k; i++) {
        const float *x = train_row(from, (uint64_t)r->unit * k + i);

        if (i == 0)
            memcpy(y, x, n * sizeof *y);
        else
            r->t->x->k.add(y, y, x, n);
    }
}

/* A block's sums start at zero with its first unit. */
static void begin_block(const struct row *r)
{
    for (int k = 0; k < (int)TRAIN_PARTS; k++)
        if (r->it->part[k] != UINT32_MAX)
            memset(part_of(r, k), 0, r->t->parts[r->it->part[k]].n * sizeof(float));
}

void train_rows_unit(struct train *t, const struct train_phase *ph, uint32_t unit, uint32_t block,
                     bool first, void *scratch)
{
    for (uint32_t i = ph->first; i != NO_PHASE; i = t->items[i].next) {
        const struct train_item *it = &t->items[i];
        struct row r = { .t = t, .it = it, .in = it->in, .unit = unit, .block = block, .row = unit,
                         .scratch = scratch };

        if (first && it->kind != T_LOSS)
            begin_block(&r);
        switch (it->kind) {
        case T_LOSS:    train_loss_row(t, it, unit); break;
        case T_ZERO:
        case T_ADD:     zero_or_add(&r); break;
        case T_ROWS:    back_instr(&r); break;
        case T_BIAS:    back_bias(&r); break;
        case T_PREPARE: prepare(&r); break;
        case T_SLOTS:   slots(&r); break;
        case T_DROP:    drop_result(&r); break;
        case T_CELL_BIAS: cell_bias(&r); break;
        case T_PRODUCT:
        case T_CELL_MATRIX:
        case T_EMBED:
        case T_ATTENTION:
        case T_SCAN:
        case T_SORT:
        case T_EXPERT:
            CHECK(false && "not a row-wise step");
        }
    }
}
