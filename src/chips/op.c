/* op.c: the table of operations with their shape rules and costs; see op.h. */
#include "chips/op_internal.h"

#include <math.h>

/* ---- shape rules ---- */

static bool shape_embed(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct tensor *t = weight(p, in, 0);

    if (t->n_dims != 2)
        return fail_shape(p, in, "number of dimensions of the table", t->n_dims, 2);
    if (!width_fits(p, in, t->shape[1]))
        return false;
    if (in->a.embed.by == EMBED_ZERO && in->a.embed.offset >= t->shape[0])
        return fail_shape(p, in, "row of the table", in->a.embed.offset, t->shape[0] - 1);
    dst->extent = EXT_N;
    dst->per = 1;
    dst->width = (uint32_t)t->shape[1];
    return true;
}

static bool shape_linear(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);
    const struct tensor *t = weight(p, in, 0);
    const int64_t n_out = tensor_elems(t) / tensor_row(t);

    if (!needs_float(p, in, x) || !width_fits(p, in, n_out))
        return false;
    if (tensor_row(t) != x->width)
        return fail_shape(p, in, prog_weight_at(p, in->w[0])->name, tensor_row(t), x->width);
    if (!elems_are(p, in, 1, n_out))
        return fail_weight(p, in, 1, n_out);
    if (!elems_are(p, in, 2, 1) && !elems_are(p, in, 2, n_out))
        return fail_weight(p, in, 2, 1);
    same_rows(dst, x, (uint32_t)n_out);
    return true;
}

static bool shape_norm(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);
    const uint32_t group = in->a.norm.group ? in->a.norm.group : x->width;

    if (!needs_float(p, in, x))
        return false;
    if (x->width % group != 0)
        return fail_shape(p, in, "width not a multiple of the group: width", x->width, group);
    for (int i = 0; i < 2; i++)
        if (!elems_are(p, in, i, group) && !elems_are(p, in, i, x->width))
            return fail_weight(p, in, i, group);
    same_rows(dst, x, x->width);
    return true;
}

static bool shape_rope(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);
    const struct rope_args *a = &in->a.rope;

    if (!needs_float(p, in, x))
        return false;
    if (x->extent != EXT_N || x->per != 1)
        return fail_shape(p, in, "source other than one row per token: rows per unit", x->per, 1);
    if ((uint64_t)a->n_heads * a->head_dim != x->width)
        return fail_shape(p, in, "heads times head size", (int64_t)a->n_heads * a->head_dim,
                          x->width);
    if (a->n_rot == 0 || a->n_rot % 2 != 0 || a->n_rot > a->head_dim)
        return fail_shape(p, in, "even number of rotated columns in a head", a->n_rot,
                          a->head_dim);
    if (!elems_are(p, in, 0, a->n_rot / 2))
        return fail_weight(p, in, 0, a->n_rot / 2);
    if (!(a->base > 0) || !isfinite(a->base) || !isfinite(a->freq_scale)) {
        prog_fail(p, WATT_EFORMAT, "rope: base %g and scale %g are not positive and finite",
                  (double)a->base, (double)a->freq_scale);
        return false;
    }
    same_rows(dst, x, x->width);
    return true;
}

/* Half of the buckets for each direction, half of those for single distances. */
static bool buckets_are_sane(struct program *p, const struct instr *in)
{
    const struct attn_args *a = &in->a.attn;

    if (a->n_buckets < 4 || a->n_buckets % 4 != 0 || a->n_buckets > 4096)
        return fail_shape(p, in, "number of relative buckets", a->n_buckets, 32);
    if (a->max_distance <= a->n_buckets / 4 || a->max_distance > 65536)
        return fail_shape(p, in, "distance of the last relative bucket", a->max_distance, 128);
    if (!elems_are(p, in, 1, (int64_t)a->n_buckets * a->n_heads))
        return fail_weight(p, in, 1, (int64_t)a->n_buckets * a->n_heads);
    return true;
}

/* One instruction writes the keys and values of a state, in front of all that read them. */
static bool is_written(const struct program *p, sid state)
{
    for (uint32_t i = prog_n_instr(p); i-- > 0;) {
        const struct instr *in = prog_instr(p, i);

        if (in->op == OP_ATTENTION && in->state == state && in->a.attn.write)
            return true;
    }
    return false;
}

static bool shape_attention(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct attn_args *a = &in->a.attn;
    const struct prog_value *q = src(p, in, 0);
    const struct prog_state *s;

    if (in->state == 0) {
        prog_fail(p, WATT_EINVAL, "attention: no state");
        return false;
    }
    s = prog_state_at(p, in->state);
    if (a->n_heads == 0 || a->n_kv_heads == 0 || a->n_heads % a->n_kv_heads != 0)
        return fail_shape(p, in, "query heads not a multiple of key heads: query heads",
                          a->n_heads, a->n_kv_heads);
    if (s->kind != STATE_KV || s->n_kv_heads != a->n_kv_heads || s->k_dim != a->k_dim ||
        s->v_dim != a->v_dim)
        return fail_shape(p, in, "geometry of the cache; key heads", s->n_kv_heads,
                          a->n_kv_heads);
    if (q->extent != EXT_N || q->per != 1)
        return fail_shape(p, in, "query rows per token", q->per, 1);
    if ((uint64_t)a->n_heads * a->k_dim != q->width)
        return fail_shape(p, in, "width of the queries", q->width,
                          (int64_t)a->n_heads * a->k_dim);
    if (a->write != (in->n_src == 3))
        return fail_shape(p, in, "number of sources", in->n_src, a->write ? 3 : 1);
    if (a->write == is_written(p, in->state)) {
        prog_fail(p, WATT_EINVAL, a->write ? "attention: state %u has keys already"
                                           : "attention: nobody in front writes the keys of state %u",
                  in->state);
        return false;
    }
    if (!a->write && s->window && (a->window == 0 || a->window > s->window))
        return fail_shape(p, in, "window over another layer's keys", a->window, s->window);
    for (int i = 1; i < in->n_src; i++) {
        const struct prog_value *v = src(p, in, i);
        const uint64_t width = (uint64_t)a->n_kv_heads * (i == 1 ? a->k_dim : a->v_dim);

        if (v->extent != EXT_N || v->per != 1 || v->width != width)
            return fail_shape(p, in, i == 1 ? "width of the keys" : "width of the values",
                              v->width, (int64_t)width);
    }
    if (!elems_are(p, in, 0, a->n_heads))
        return fail_weight(p, in, 0, a->n_heads);
    if (in->w[1] && !buckets_are_sane(p, in))
        return false;
    if ((a->mask == MASK_CHUNKED || a->mask == MASK_SYMMETRIC) && a->window == 0)
        return fail_shape(p, in, "window of a chunked or symmetric mask", 0, 1);
    if (!width_fits(p, in, (int64_t)a->n_heads * a->v_dim))
        return false;
    same_rows(dst, q, a->n_heads * a->v_dim);
    return true;
}

static bool shape_unary(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);

    if (!needs_float(p, in, x))
        return false;
    if (in->a.act.act >= ACT_COUNT)
        return fail_shape(p, in, "activation", in->a.act.act, ACT_COUNT - 1);
    same_rows(dst, x, x->width);
    return true;
}

static bool same_shape(const struct prog_value *a, const struct prog_value *b)
{
    return a->extent == b->extent && a->per == b->per && a->width == b->width;
}

static bool shape_gated(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *gate = src(p, in, 0), *up = src(p, in, 1);

    if (!needs_float(p, in, gate) || !needs_float(p, in, up))
        return false;
    if (!same_shape(gate, up))
        return fail_shape(p, in, "width of gate against up", gate->width, up->width);
    if (in->a.act.act >= ACT_COUNT)
        return fail_shape(p, in, "activation", in->a.act.act, ACT_COUNT - 1);
    same_rows(dst, gate, gate->width);
    return true;
}

/* add and mul: a second value of the same shape or one column, or a vector. */
static bool shape_binary(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);

    if (!needs_float(p, in, x))
        return false;
    if ((in->n_src == 2) == (in->w[0] != 0))
        return fail_shape(p, in, "number of operands", in->n_src + (in->w[0] != 0), 2);
    if (in->n_src == 2) {
        const struct prog_value *y = src(p, in, 1);

        if (!needs_float(p, in, y))
            return false;
        if (y->extent != x->extent || y->per != x->per)
            return fail_shape(p, in, "rows per unit of the second operand", y->per, x->per);
        if (y->width != x->width && y->width != 1)
            return fail_shape(p, in, "width of the second operand", y->width, x->width);
    } else if (!elems_are(p, in, 0, x->width) && !elems_are(p, in, 0, 1)) {
        return fail_weight(p, in, 0, x->width);
    }
    same_rows(dst, x, x->width);
    return true;
}

static bool shape_keep(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);

    if (!needs_float(p, in, x))
        return false;
    same_rows(dst, x, x->width);
    return true;
}

static bool shape_softmax(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);

    if (in->a.group && x->width % in->a.group != 0)
        return fail_shape(p, in, "width not a multiple of the group: width", x->width,
                          in->a.group);
    return shape_keep(p, in, dst);
}

static bool shape_concat(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);
    uint64_t width = 0;

    for (int i = 0; i < in->n_src; i++) {
        const struct prog_value *v = src(p, in, i);

        if (!needs_float(p, in, v))
            return false;
        if (v->extent != x->extent || v->per != x->per)
            return fail_shape(p, in, "rows per unit of a part", v->per, x->per);
        width += v->width;
    }
    if (!width_fits(p, in, (int64_t)width))
        return false;
    same_rows(dst, x, (uint32_t)width);
    return true;
}

static bool shape_rows(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);

    if (x->extent != EXT_N)
        return fail_shape(p, in, "extent of the source", x->extent, EXT_N);
    *dst = (struct prog_value){ .extent = EXT_R, .per = x->per, .width = x->width,
                                .is_int = x->is_int };
    return true;
}

static bool shape_position_scale(struct program *p, const struct instr *in,
                                 struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);

    if (x->extent != EXT_N || x->per != 1)
        return fail_shape(p, in, "rows per token", x->per, 1);
    if (in->a.pscale.length == 0)
        return fail_shape(p, in, "length", 0, 1);
    return shape_keep(p, in, dst);
}

static bool shape_route(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);
    const struct route_args *a = &in->a.route;

    if (!needs_float(p, in, x))
        return false;
    if (x->per != 1 || x->width != a->n_experts)
        return fail_shape(p, in, "number of router logits", x->width, a->n_experts);
    if (a->n_used == 0 || a->n_used > a->n_experts || a->n_used > 4096)
        return fail_shape(p, in, "experts used per token", a->n_used, a->n_experts);
    if (a->n_groups > 1) {
        if (a->n_experts % a->n_groups != 0 || a->n_groups_used == 0 ||
            a->n_groups_used > a->n_groups)
            return fail_shape(p, in, "expert groups", a->n_groups, a->n_experts);
        if (a->n_experts / a->n_groups * a->n_groups_used < a->n_used)
            return fail_shape(p, in, "experts in the chosen groups",
                              a->n_experts / a->n_groups * a->n_groups_used, a->n_used);
    }
    if (a->n_sharing > 1 && a->n_experts % a->n_sharing != 0)
        return fail_shape(p, in, "experts that share one", a->n_sharing, a->n_experts);
    if (!elems_are(p, in, 0, a->n_experts))
        return fail_weight(p, in, 0, a->n_experts);
    same_rows(&dst[0], x, a->n_used);
    same_rows(&dst[1], x, a->n_used);
    dst[0].is_int = true;
    return true;
}

/* How many matrices ids were made for; 0: no ids. */
static uint32_t ids_reach(const struct program *p, val ids)
{
    for (uint32_t i = prog_n_instr(p); i-- > 0;) {
        const struct instr *in = prog_instr(p, i);

        if (in->dst[0] != ids)
            continue;
        if (in->op == OP_ROUTE)
            return in->a.route.n_experts / (in->a.route.n_sharing ? in->a.route.n_sharing : 1);
        if (in->op == OP_ADAPTER)
            return in->a.adapter.n * (in->a.adapter.n_each ? in->a.adapter.n_each : 1);
        return 0;
    }
    return 0;
}

static bool shape_adapter(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);
    const struct adapter_args *a = &in->a.adapter;

    if (x->per != 1 || (x->extent != EXT_N && x->extent != EXT_R))
        return fail_shape(p, in, "rows per token", x->per, 1);
    if (a->n == 0 || a->n > 65536 || a->n_each > 65536)
        return fail_shape(p, in, "adapters", a->n, 1);
    if (a->n_each && (!x->is_int || ids_reach(p, in->src[0]) != a->n_each))
        return fail_shape(p, in, "experts of an adapter", a->n_each, ids_reach(p, in->src[0]));
    same_rows(dst, x, a->n_each ? x->width : 1);
    dst->is_int = true;
    return true;
}

static bool shape_adapter_scale(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);

    if (x->is_int || (x->extent != EXT_N && x->extent != EXT_R))
        return fail_shape(p, in, "rows of tokens", x->extent, EXT_N);
    same_rows(dst, x, x->width);
    return true;
}

static bool shape_expert_linear(struct program *p, const struct instr *in,
                                struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0), *ids = src(p, in, 1);
    const struct tensor *t = weight(p, in, 0);
    const char *name = prog_weight_at(p, in->w[0])->name;
    uint32_t n_experts;

    if (!needs_float(p, in, x))
        return false;
    if (!ids->is_int || ids->per != 1 || ids->extent != x->extent)
        return fail_shape(p, in, "expert ids: rows per token", ids->per, 1);
    if (x->per != 1 && x->per != ids->width)
        return fail_shape(p, in, "rows per token", x->per, ids->width);
    if (t->n_dims != 3) {
        prog_fail(p, WATT_EFORMAT, "tensor %s: %d dimensions, expected 3", name, t->n_dims);
        return false;
    }
    if (t->shape[2] != x->width) {
        prog_fail(p, WATT_EFORMAT, "tensor %s: rows of %" PRId64 ", expected %u", name,
                  t->shape[2], x->width);
        return false;
    }
    /* ids were made for a stated number of experts: the weight must have them all */
    n_experts = ids_reach(p, in->src[1]);
    if (t->shape[0] != n_experts)
        return fail_shape(p, in, name, t->shape[0], n_experts);
    if (!width_fits(p, in, t->shape[1]))
        return false;
    if (!elems_are(p, in, 1, t->shape[0] * t->shape[1]))
        return fail_weight(p, in, 1, t->shape[0] * t->shape[1]);
    if (!elems_are(p, in, 2, t->shape[0]) && !elems_are(p, in, 2, 1))
        return fail_weight(p, in, 2, t->shape[0]);
    same_rows(dst, x, (uint32_t)t->shape[1]);
    dst->per = ids->width;
    return true;
}

static bool shape_expert_spread(struct program *p, const struct instr *in,
                                struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0), *w = src(p, in, 1);

    if (!needs_float(p, in, x) || !needs_float(p, in, w))
        return false;
    if (w->per != 1 || x->per != 1 || w->extent != x->extent || w->width > 4096)
        return fail_shape(p, in, "rows per token", x->per, 1);
    same_rows(dst, x, x->width);
    dst->per = w->width;
    return true;
}

static bool shape_expert_sum(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0), *w = src(p, in, 1);

    if (!needs_float(p, in, x) || !needs_float(p, in, w))
        return false;
    if (w->per != 1 || w->extent != x->extent || x->per != w->width)
        return fail_shape(p, in, "slots per token", x->per, w->width);
    same_rows(dst, x, x->width);
    dst->per = 1;
    return true;
}

static bool shape_reshape(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);
    const uint64_t n = (uint64_t)x->per * x->width;
    const uint32_t per = in->a.group;

    if (per == 0 || per > PROG_MAX_PER || n % per != 0)
        return fail_shape(p, in, "rows per unit", per, x->per);
    if ((n / per) % x->width != 0 && x->width % (n / per) != 0)
        return fail_shape(p, in, "columns of a row", (int64_t)(n / per), x->width);
    if (!needs_float(p, in, x) || !width_fits(p, in, (int64_t)(n / per)))
        return false;
    same_rows(dst, x, (uint32_t)(n / per));
    dst->per = per;
    return true;
}

static bool shape_short_conv(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);
    const uint32_t taps = in->a.conv.n_taps;

    if (taps < 2 || taps > 256)
        return fail_shape(p, in, "columns of the kernel", taps, 4);
    if (!operand_is(p, in, 0, x->width) || !fixed_is(p, in, (uint64_t)(taps - 1) * x->width))
        return false;
    if (!elems_are(p, in, 0, (int64_t)taps * x->width))
        return fail_weight(p, in, 0, (int64_t)taps * x->width);
    if (!elems_are(p, in, 1, x->width))
        return fail_weight(p, in, 1, x->width);
    same_rows(dst, x, x->width);
    return true;
}

static bool shape_ssm_scan(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct ssm_args *a = &in->a.ssm;
    const uint64_t width = (uint64_t)a->n_heads * a->head_dim;
    const uint64_t bc = (uint64_t)a->n_groups * a->d_state;

    if (a->n_groups == 0 || a->n_heads == 0 || a->n_heads % a->n_groups != 0)
        return fail_shape(p, in, "heads in groups: heads", a->n_heads, a->n_groups);
    if (a->d_state == 0 || a->d_state > 65536 || width == 0 || width > PROG_MAX_WIDTH)
        return fail_shape(p, in, "numbers of state per column", a->d_state, 128);
    if (!operand_is(p, in, 0, width) || !operand_is(p, in, 1, a->n_heads) ||
        !operand_is(p, in, 2, bc) || !operand_is(p, in, 3, bc) ||
        !fixed_is(p, in, width * a->d_state))
        return false;
    if (!elems_are(p, in, 0, a->n_heads) &&
        !elems_are(p, in, 0, (int64_t)a->n_heads * a->d_state))
        return fail_weight(p, in, 0, a->n_heads);
    if (!elems_are(p, in, 1, a->n_heads))
        return fail_weight(p, in, 1, a->n_heads);
    same_rows(dst, src(p, in, 0), (uint32_t)width);
    return true;
}

static bool shape_delta_rule(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct delta_args *a = &in->a.delta;
    const uint64_t keys = (uint64_t)a->n_k_heads * a->k_dim;
    const uint64_t values = (uint64_t)a->n_heads * a->v_dim;
    const uint32_t decay = src(p, in, 3)->width;

    if (a->n_k_heads == 0 || a->n_heads == 0 || a->n_heads % a->n_k_heads != 0)
        return fail_shape(p, in, "value heads in key heads: value heads", a->n_heads,
                          a->n_k_heads);
    if (a->k_dim == 0 || a->k_dim > 4096 || values == 0 || values > PROG_MAX_WIDTH)
        return fail_shape(p, in, "columns of a key head", a->k_dim, 128);
    if (!operand_is(p, in, 0, keys) || !operand_is(p, in, 1, keys) ||
        !operand_is(p, in, 2, values) ||
        !operand_is(p, in, 3, decay == a->n_heads ? decay : (uint64_t)a->n_heads * a->k_dim) ||
        !operand_is(p, in, 4, a->n_heads) || !fixed_is(p, in, values * a->k_dim))
        return false;
    same_rows(dst, src(p, in, 2), (uint32_t)values);
    return true;
}

static bool shape_pool(struct program *p, const struct instr *in, struct prog_value *dst)
{
    const struct prog_value *x = src(p, in, 0);

    if (!operand_is(p, in, 0, x->width))
        return false;
    *dst = (struct prog_value){ .extent = EXT_S, .per = 1, .width = x->width };
    return true;
}

/* ---- costs ---- */

static void cost_free(const struct program *p, const struct instr *in,
                      const struct op_load *load, struct prog_cost *c)
{
    (void)p, (void)in, (void)load, (void)c;
}

static void cost_embed(const struct program *p, const struct instr *in,
                       const struct op_load *load, struct prog_cost *c)
{
    const struct tensor *t = weight(p, in, 0);

    c->weight_bytes += load->rows * (double)t->size_bytes / (double)t->shape[0];
}

static void cost_linear(const struct program *p, const struct instr *in,
                        const struct op_load *load, struct prog_cost *c)
{
    c->ops += 2.0 * load->rows * (double)tensor_elems(weight(p, in, 0));
    c->weight_bytes += weight_bytes(p, in);
}

/* Experts are chosen as if at random: of E, k per row, rows rows touch
 * E (1 - (1 - k/E)^rows). */
static void cost_expert_linear(const struct program *p, const struct instr *in,
                               const struct op_load *load, struct prog_cost *c)
{
    const struct tensor *t = weight(p, in, 0);
    const double n_experts = (double)t->shape[0];
    const double k = prog_value(p, in->src[1])->width;
    const double touched = 1 - pow(1 - k / n_experts, load->rows / k);

    c->ops += 2.0 * load->rows * (double)t->shape[1] * (double)t->shape[2];
    c->weight_bytes += weight_bytes(p, in) * touched;
}

/* A few operations for each element: small beside products, but not nothing. */
static void cost_rowwise(const struct program *p, const struct instr *in,
                         const struct op_load *load, struct prog_cost *c)
{
    c->ops += 4.0 * load->rows * prog_value(p, in->dst[0])->width;
    c->weight_bytes += weight_bytes(p, in);
}

static void cost_attention(const struct program *p, const struct instr *in,
                           const struct op_load *load, struct prog_cost *c)
{
    const struct attn_args *a = &in->a.attn;
    const double per_stream = load->n_rows / load->n_streams;
    const double cols = (double)a->k_dim + a->v_dim;
    double seen = load->n_past + (per_stream + 1) / 2;      /* mean keys of a query */
    double held = load->n_past + per_stream;                /* keys read at least once */

    if (a->mask != MASK_CAUSAL)
        seen = held;
    if (a->window) {
        seen = fmin(seen, a->window);
        held = fmin(held, a->window + per_stream);
    }
    c->ops += load->n_rows * a->n_heads * seen * (2 * cols + 4);
    c->kv_bytes += 2 * load->n_streams * a->n_kv_heads * cols * held;
    if (a->write)
        c->kv_bytes += 2 * load->n_rows * a->n_kv_heads * cols;
    c->weight_bytes += weight_bytes(p, in);
}

static void cost_pool(const struct program *p, const struct instr *in,
                      const struct op_load *load, struct prog_cost *c)
{
    c->ops += load->n_rows * prog_value(p, in->dst[0])->width;
}

/* The state is read and written once per stream. */
static void cost_recurrence(const struct program *p, const struct instr *in,
                            const struct op_load *load, struct prog_cost *c)
{
    const double n = prog_state_at(p, in->state)->n_floats;

    c->ops += op_scan_ops(in->op) * n * load->n_rows;
    c->kv_bytes += 8 * n * load->n_streams;
    c->weight_bytes += weight_bytes(p, in);
}

/* ---- the table ---- */

#define W_TABLE { USE_TABLE }
#define W_LINEAR { USE_MATRIX, USE_VECTOR, USE_VECTOR }
#define W_VECTORS { USE_VECTOR, USE_VECTOR }

static const struct op_info infos[OP_COUNT] = {
    /*                   name       src   dst w  req use  row-wise in-place effect */
    [OP_EMBED] = { "embed", 0, 0, 1, 1, 1, W_TABLE, false, false, false,
                   shape_embed, cost_embed, ref_embed },
    [OP_LINEAR] = { "linear", 1, 1, 1, 3, 1, W_LINEAR, true, false, false,
                    shape_linear, cost_linear, ref_linear },
    [OP_NORM] = { "norm", 1, 1, 1, 2, 0, W_VECTORS, true, false, false,
                  shape_norm, cost_rowwise, ref_norm },
    [OP_ROPE] = { "rope", 1, 1, 1, 1, 0, W_VECTORS, false, false, false,
                  shape_rope, cost_rowwise, ref_rope },
    [OP_ATTENTION] = { "attention", 1, 3, 1, 2, 0, W_VECTORS, false, false, true,
                       shape_attention, cost_attention, ref_attention },
    [OP_UNARY] = { "unary", 1, 1, 1, 0, 0, { 0 }, true, true, false,
                   shape_unary, cost_rowwise, ref_unary },
    [OP_GATED] = { "gated", 2, 2, 1, 0, 0, { 0 }, true, true, false,
                   shape_gated, cost_rowwise, ref_gated },
    [OP_ADD] = { "add", 1, 2, 1, 1, 0, W_VECTORS, true, true, false,
                 shape_binary, cost_rowwise, ref_add },
    [OP_MUL] = { "mul", 1, 2, 1, 1, 0, W_VECTORS, true, true, false,
                 shape_binary, cost_rowwise, ref_mul },
    [OP_AFFINE] = { "affine", 1, 1, 1, 0, 0, { 0 }, true, true, false,
                    shape_keep, cost_rowwise, ref_affine },
    [OP_SOFTMAX] = { "softmax", 1, 1, 1, 0, 0, { 0 }, true, false, false,
                     shape_softmax, cost_rowwise, ref_softmax },
    [OP_CONCAT] = { "concat", 1, PROG_MAX_SRC, 1, 0, 0, { 0 }, true, false, false,
                    shape_concat, cost_free, ref_concat },
    [OP_ROWS] = { "rows", 1, 1, 1, 0, 0, { 0 }, false, false, false,
                  shape_rows, cost_free, ref_rows },
    [OP_POSITION_SCALE] = { "position_scale", 1, 1, 1, 0, 0, { 0 }, false, false, false,
                            shape_position_scale, cost_rowwise, ref_position_scale },
    [OP_ROUTE] = { "route", 1, 1, 2, 1, 0, W_VECTORS, true, false, false,
                   shape_route, cost_rowwise, ref_route },
    [OP_EXPERT_LINEAR] = { "expert_linear", 2, 2, 1, 3, 1, W_LINEAR, true, false, false,
                           shape_expert_linear, cost_expert_linear, ref_expert_linear },
    [OP_EXPERT_SPREAD] = { "expert_spread", 2, 2, 1, 0, 0, { 0 }, true, false, false,
                           shape_expert_spread, cost_rowwise, ref_expert_spread },
    [OP_EXPERT_SUM] = { "expert_sum", 2, 2, 1, 0, 0, { 0 }, true, false, false,
                        shape_expert_sum, cost_rowwise, ref_expert_sum },
    [OP_RESHAPE] = { "reshape", 1, 1, 1, 0, 0, { 0 }, true, false, false,
                     shape_reshape, cost_free, ref_reshape },
    [OP_SHORT_CONV] = { "short_conv", 1, 1, 1, 2, 1, W_VECTORS, false, false, true,
                        shape_short_conv, cost_recurrence, ref_short_conv },
    [OP_SSM_SCAN] = { "ssm_scan", 4, 4, 1, 2, 1, W_VECTORS, false, false, true,
                      shape_ssm_scan, cost_recurrence, ref_ssm_scan },
    [OP_DELTA_RULE] = { "delta_rule", 5, 5, 1, 0, 0, { 0 }, false, false, true,
                        shape_delta_rule, cost_recurrence, ref_delta_rule },
    [OP_POOL] = { "pool", 1, 1, 1, 0, 0, { 0 }, false, false, false,
                  shape_pool, cost_pool, ref_pool },
    [OP_LINEAR_ATTENTION] = { "linear_attention", 3, 3, 1, 0, 0, { 0 }, false, false, true,
                              op_shape_linear_attention, cost_recurrence, ref_linear_attention },
    [OP_WKV] = { "wkv", 6, 6, 1, 0, 0, { 0 }, false, false, true,
                 op_shape_wkv, cost_recurrence, ref_wkv },
    [OP_SHIFT] = { "shift", 1, 1, 1, 0, 0, { 0 }, false, false, true,
                   op_shape_shift, cost_recurrence, ref_shift },
    [OP_CELL] = { "cell", 1, 1, 1, 2, 1, W_VECTORS, false, false, true,
                  op_shape_cell, op_cost_cell, ref_cell },
    [OP_GROUP_SUM] = { "group_sum", 1, 1, 1, 0, 0, { 0 }, true, false, false,
                       op_shape_group_sum, cost_rowwise, ref_group_sum },
    [OP_CONV] = { "conv", 1, 1, 1, 2, 1, W_VECTORS, true, false, false,
                  op_shape_conv, op_cost_conv, ref_conv },
    [OP_ADAPTER] = { "adapter", 1, 1, 1, 0, 0, { 0 }, true, false, false,
                     shape_adapter, cost_free, ref_adapter },
    [OP_ADAPTER_SCALE] = { "adapter_scale", 1, 1, 1, 0, 0, { 0 }, true, true, false,
                           shape_adapter_scale, cost_rowwise, ref_adapter_scale },
};

const struct op_info *op_info(enum op op)
{
    return op > OP_NONE && op < OP_COUNT ? &infos[op] : NULL;
}

const char *op_name(enum op op)
{
    return op > OP_NONE && op < OP_COUNT ? infos[op].name : "none";
}
