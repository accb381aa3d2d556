/* program.c: records programs; see program.h.
 *
 * Shape rules are in op.c; this file keeps the lists, checks what holds for every
 * operation (operands exist, counts, required weights) and runs the passes. */
#include "chips/program.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/mem.h"
#include "chips/op.h"
#include "chips/program_internal.h"

int prog_open(struct program **out, struct err *e)
{
    struct program *p = mem_calloc(1, sizeof *p);

    if (!p)
        return err_set(e, WATT_ENOMEM, "program: header");
    p->layer = UINT32_MAX;
    *out = p;
    return 0;
}

void prog_close(struct program *p)
{
    if (!p)
        return;
    mem_free(p->instr);
    mem_free(p->value);
    mem_free(p->weight);
    mem_free(p->state);
    mem_free(p->names);
    mem_free(p);
}

void prog_fail(struct program *p, int code, const char *fmt, ...)
{
    char msg[ERR_MSG_MAX];
    va_list ap;

    if (p->err.code != 0)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (p->layer == UINT32_MAX)
        (void)err_set(&p->err, code, "%s", msg);
    else
        (void)err_set(&p->err, code, "layer %u: %s", p->layer, msg);
}

bool prog_failed(const struct program *p)
{
    return p->err.code != 0;
}

/* Room for one more element after `n` (ids start at `first`); false after prog_fail. */
static bool grow(struct program *p, void **array, uint32_t *cap, uint32_t n, uint32_t max,
                 size_t size, const char *what)
{
    uint32_t want = *cap ? *cap : 64;
    void *bigger;

    if (n >= max) {
        prog_fail(p, WATT_ELIMIT, "program: more than %u %s", max, what);
        return false;
    }
    if (n + 2 <= *cap)
        return true;
    while (want < n + 2)
        want *= 2;
    bigger = mem_grow(*array, want, size);
    if (!bigger) {
        prog_fail(p, WATT_ENOMEM, "program: %u %s", want, what);
        return false;
    }
    *array = bigger;
    *cap = want;
    return true;
}

val program_add_value(struct program *p, const struct prog_value *v)
{
    void *array = p->value;
    const bool ok = grow(p, &array, &p->cap_values, p->n_values, PROG_MAX_VALUES,
                         sizeof *p->value, "values");

    p->value = array;
    if (!ok)
        return 0;
    p->value[++p->n_values] = *v;
    if (v->base == 0)
        p->value[p->n_values].base = p->n_values;
    return p->n_values;
}

bool program_add_instr(struct program *p, const struct instr *in)
{
    void *array = p->instr;
    const bool ok = grow(p, &array, &p->cap_instr, p->n_instr, PROG_MAX_INSTR,
                         sizeof *p->instr, "instructions");

    p->instr = array;
    if (ok)
        p->instr[p->n_instr++] = *in;
    return ok;
}

/* ---- weights, states ---- */

static uint64_t hash_name(const char *s)
{
    uint64_t h = 1469598103934665603u;      /* FNV-1a */

    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 1099511628211u;
    return h;
}

/* The slot of name: its wid, or the empty place where it belongs. */
static uint32_t *name_slot(struct program *p, const char *name)
{
    uint32_t i = (uint32_t)hash_name(name) & (p->n_names - 1);

    while (p->names[i] && strcmp(p->weight[p->names[i]].name, name) != 0)
        i = (i + 1) & (p->n_names - 1);
    return &p->names[i];
}

static bool names_grow(struct program *p)
{
    const uint32_t n = p->n_names ? p->n_names * 2 : 256;
    uint32_t *names = mem_calloc(n, sizeof *names);

    if (!names) {
        prog_fail(p, WATT_ENOMEM, "program: %u weight names", n);
        return false;
    }
    mem_free(p->names);
    p->names = names;
    p->n_names = n;
    for (wid w = 1; w <= p->n_weights; w++)
        *name_slot(p, p->weight[w].name) = w;
    return true;
}

static bool weight_is_sane(const struct tensor *t)
{
    if (t->n_dims < 1 || t->n_dims > TENSOR_MAX_DIMS || !dtype_info(t->dtype))
        return false;
    for (int i = 0; i < t->n_dims; i++)
        if (t->shape[i] <= 0)
            return false;
    return true;
}

wid prog_weight(struct program *p, const char *name, const struct tensor *t)
{
    void *array = p->weight;
    struct prog_weight *w;
    bool ok;

    if (!t || prog_failed(p))
        return 0;
    if (!weight_is_sane(t) || strlen(name) >= sizeof w->name) {
        prog_fail(p, WATT_EINVAL, "tensor %.100s: bad type, shape or name", name);
        return 0;
    }
    if (p->n_weights + 1 > p->n_names / 2 && !names_grow(p))
        return 0;
    if (*name_slot(p, name))
        return *name_slot(p, name);
    ok = grow(p, &array, &p->cap_weights, p->n_weights, PROG_MAX_WEIGHTS, sizeof *p->weight,
              "weights");
    p->weight = array;
    if (!ok)
        return 0;
    w = &p->weight[p->n_weights + 1];
    *w = (struct prog_weight){ .t = *t };
    (void)snprintf(w->name, sizeof w->name, "%s", name);
    *name_slot(p, name) = p->n_weights + 1;
    return ++p->n_weights;
}

static sid add_state(struct program *p, const struct prog_state *s)
{
    void *array = p->state;
    bool ok;

    if (prog_failed(p))
        return 0;
    ok = grow(p, &array, &p->cap_states, p->n_states, PROG_MAX_STATES, sizeof *p->state,
              "states");
    p->state = array;
    if (!ok)
        return 0;
    p->state[++p->n_states] = *s;
    return p->n_states;
}

sid prog_state_kv(struct program *p, uint32_t n_kv_heads, uint32_t k_dim, uint32_t v_dim,
                  uint32_t window)
{
    if (n_kv_heads == 0 || k_dim == 0 || v_dim == 0 || n_kv_heads > 65536 || k_dim > 65536 ||
        v_dim > 65536) {
        prog_fail(p, WATT_EINVAL, "cache of %u heads of %u and %u columns: each must be in "
                  "1..65536", n_kv_heads, k_dim, v_dim);
        return 0;
    }
    return add_state(p, &(struct prog_state){ .kind = STATE_KV, .n_kv_heads = n_kv_heads,
                                              .k_dim = k_dim, .v_dim = v_dim,
                                              .window = window });
}

sid prog_state_fixed(struct program *p, uint32_t n_floats)
{
    uint64_t first = 0;

    if (n_floats == 0 || n_floats > (1u << 28)) {
        prog_fail(p, WATT_EINVAL, "state of %u numbers: must be in 1..2^28", n_floats);
        return 0;
    }
    for (sid s = 1; s <= p->n_states; s++)
        first += p->state[s].n_floats;
    return add_state(p, &(struct prog_state){ .kind = STATE_FIXED, .n_floats = n_floats,
                                              .first = first });
}

void prog_layer(struct program *p, uint32_t layer)
{
    p->layer = layer;
}

/* ---- instructions ---- */

/* Fills counts from the arrays of in, checks, appends; false after prog_fail. */
static bool record(struct program *p, struct instr *in)
{
    const struct op_info *info = op_info(in->op);
    struct prog_value dst[PROG_MAX_DST] = { { 0 } };

    if (prog_failed(p))
        return false;
    CHECK(info && !p->finished);
    in->layer = p->layer;
    in->n_dst = info->n_dst;
    in->n_w = info->n_w;
    if (in->n_src < info->min_src || in->n_src > info->max_src) {
        prog_fail(p, WATT_EINVAL, "%s: %u operands", info->name, in->n_src);
        return false;
    }
    for (int i = 0; i < in->n_src; i++) {
        if (in->src[i] == 0 || in->src[i] > p->n_values) {
            prog_fail(p, WATT_EINVAL, "%s: operand %d is missing", info->name, i);
            return false;
        }
    }
    for (int i = 0; i < info->n_w; i++) {
        if (in->w[i] > p->n_weights || (in->w[i] == 0 && (info->w_required >> i & 1))) {
            prog_fail(p, WATT_EINVAL, "%s: weight %d is missing", info->name, i);
            return false;
        }
    }
    if (in->state > p->n_states) {
        prog_fail(p, WATT_EINVAL, "%s: no state %u", info->name, in->state);
        return false;
    }
    if (!info->shape(p, in, dst))
        return false;
    for (int i = 0; i < in->n_dst; i++) {
        in->dst[i] = program_add_value(p, &dst[i]);
        if (!in->dst[i])
            return false;
    }
    return program_add_instr(p, in);
}

static val record1(struct program *p, struct instr *in)
{
    return record(p, in) ? in->dst[0] : 0;
}

val prog_embed(struct program *p, wid table, struct embed_args a)
{
    return record1(p, &(struct instr){ .op = OP_EMBED, .w = { table }, .a.embed = a });
}

val prog_linear(struct program *p, val x, wid w, wid bias, wid scale, struct linear_args a)
{
    return record1(p, &(struct instr){ .op = OP_LINEAR, .n_src = 1, .src = { x },
                                       .w = { w, bias, scale }, .a.linear = a });
}

val prog_norm(struct program *p, val x, wid gain, wid bias, struct norm_args a)
{
    return record1(p, &(struct instr){ .op = OP_NORM, .n_src = 1, .src = { x },
                                       .w = { gain, bias }, .a.norm = a });
}

val prog_rope(struct program *p, val x, wid factors, const struct rope_args *a)
{
    return record1(p, &(struct instr){ .op = OP_ROPE, .n_src = 1, .src = { x },
                                       .w = { factors }, .a.rope = *a });
}

val prog_attention(struct program *p, val q, val k, val v, wid sinks, sid state,
                   const struct attn_args *a)
{
    return record1(p, &(struct instr){ .op = OP_ATTENTION, .n_src = a->write ? 3 : 1,
                                       .src = { q, k, v }, .w = { sinks, a->buckets },
                                       .state = state,
                                       .a.attn = *a });
}

val prog_unary(struct program *p, val x, struct act_args a)
{
    return record1(p, &(struct instr){ .op = OP_UNARY, .n_src = 1, .src = { x }, .a.act = a });
}

val prog_gated(struct program *p, val gate, val up, struct act_args a)
{
    return record1(p, &(struct instr){ .op = OP_GATED, .n_src = 2, .src = { gate, up },
                                       .a.act = a });
}

val prog_add(struct program *p, val x, val y)
{
    return record1(p, &(struct instr){ .op = OP_ADD, .n_src = 2, .src = { x, y } });
}

val prog_add_w(struct program *p, val x, wid vector)
{
    return record1(p, &(struct instr){ .op = OP_ADD, .n_src = 1, .src = { x },
                                       .w = { vector } });
}

val prog_mul(struct program *p, val x, val y)
{
    return record1(p, &(struct instr){ .op = OP_MUL, .n_src = 2, .src = { x, y } });
}

val prog_mul_w(struct program *p, val x, wid vector)
{
    return record1(p, &(struct instr){ .op = OP_MUL, .n_src = 1, .src = { x },
                                       .w = { vector } });
}

val prog_div_w(struct program *p, val x, wid vector)
{
    return record1(p, &(struct instr){ .op = OP_MUL, .n_src = 1, .src = { x },
                                       .w = { vector }, .a.divide = true });
}

val prog_affine(struct program *p, val x, float scale, float offset)
{
    return record1(p, &(struct instr){ .op = OP_AFFINE, .n_src = 1, .src = { x },
                                       .a.affine = { scale, offset } });
}

val prog_reshape(struct program *p, val x, uint32_t per)
{
    return record1(p, &(struct instr){ .op = OP_RESHAPE, .n_src = 1, .src = { x },
                                       .a.group = per });
}

val prog_short_conv(struct program *p, val x, wid kernel, wid bias, sid state, struct conv_args a)
{
    return record1(p, &(struct instr){ .op = OP_SHORT_CONV, .n_src = 1, .src = { x },
                                       .w = { kernel, bias }, .state = state, .a.conv = a });
}

val prog_ssm_scan(struct program *p, val x, val dt, val b, val c, wid a_w, wid d_w, sid state,
                  const struct ssm_args *a)
{
    return record1(p, &(struct instr){ .op = OP_SSM_SCAN, .n_src = 4, .src = { x, dt, b, c },
                                       .w = { a_w, d_w }, .state = state, .a.ssm = *a });
}

val prog_delta_rule(struct program *p, val q, val k, val v, val decay, val beta, sid state,
                    const struct delta_args *a)
{
    return record1(p, &(struct instr){ .op = OP_DELTA_RULE, .n_src = 5,
                                       .src = { q, k, v, decay, beta }, .state = state,
                                       .a.delta = *a });
}

val prog_pool(struct program *p, val x)
{
    return record1(p, &(struct instr){ .op = OP_POOL, .n_src = 1, .src = { x } });
}

val prog_linear_attention(struct program *p, val q, val k, val v, sid state,
                          const struct linear_attn_args *a)
{
    return record1(p, &(struct instr){ .op = OP_LINEAR_ATTENTION, .n_src = 3, .src = { q, k, v },
                                       .state = state, .a.linattn = *a });
}

val prog_wkv(struct program *p, val r, val decay, val k, val v, val a, val b, sid state,
             const struct wkv_args *args)
{
    return record1(p, &(struct instr){ .op = OP_WKV, .n_src = 6, .src = { r, decay, k, v, a, b },
                                       .state = state, .a.wkv = *args });
}

val prog_shift(struct program *p, val x, sid state)
{
    return record1(p, &(struct instr){ .op = OP_SHIFT, .n_src = 1, .src = { x },
                                       .state = state });
}

val prog_cell(struct program *p, val gates, wid w, wid bias, sid state, struct cell_args a)
{
    return record1(p, &(struct instr){ .op = OP_CELL, .n_src = 1, .src = { gates },
                                       .w = { w, bias }, .state = state, .a.cell = a });
}

val prog_group_sum(struct program *p, val x, uint32_t group)
{
    return record1(p, &(struct instr){ .op = OP_GROUP_SUM, .n_src = 1, .src = { x },
                                       .a.group = group });
}

val prog_conv2d(struct program *p, val x, wid kernel, wid bias, const struct conv2d_args *a)
{
    return record1(p, &(struct instr){ .op = OP_CONV, .n_src = 1, .src = { x },
                                       .w = { kernel, bias }, .a.conv2d = *a });
}

val prog_softmax(struct program *p, val x, uint32_t group)
{
    return record1(p, &(struct instr){ .op = OP_SOFTMAX, .n_src = 1, .src = { x },
                                       .a.group = group });
}

val prog_concat(struct program *p, const val *xs, uint32_t n)
{
    struct instr in = { .op = OP_CONCAT };

    if (n > PROG_MAX_SRC) {
        prog_fail(p, WATT_EINVAL, "concat: %u parts, at most %d", n, PROG_MAX_SRC);
        return 0;
    }
    in.n_src = (uint8_t)n;
    memcpy(in.src, xs, n * sizeof *xs);
    return record1(p, &in);
}

val prog_rows(struct program *p, val x)
{
    return record1(p, &(struct instr){ .op = OP_ROWS, .n_src = 1, .src = { x } });
}

val prog_position_scale(struct program *p, val x, struct position_scale_args a)
{
    return record1(p, &(struct instr){ .op = OP_POSITION_SCALE, .n_src = 1, .src = { x },
                                       .a.pscale = a });
}

void prog_route(struct program *p, val logits, wid bias, const struct route_args *a, val *ids,
                val *weights)
{
    struct instr in = { .op = OP_ROUTE, .n_src = 1, .src = { logits }, .w = { bias },
                        .a.route = *a };
    const bool ok = record(p, &in);

    *ids = ok ? in.dst[0] : 0;
    *weights = ok ? in.dst[1] : 0;
}

val prog_expert_linear(struct program *p, val x, val ids, wid w, wid bias, wid scale)
{
    return record1(p, &(struct instr){ .op = OP_EXPERT_LINEAR, .n_src = 2, .src = { x, ids },
                                       .w = { w, bias, scale } });
}
val prog_adapter(struct program *p, val x, uint32_t n_adapters, uint32_t n_each)
{
    return record1(p, &(struct instr){ .op = OP_ADAPTER, .n_src = 1, .src = { x },
                                       .a.adapter = { n_adapters, n_each } });
}

val prog_adapter_scale(struct program *p, val x)
{
    return record1(p, &(struct instr){ .op = OP_ADAPTER_SCALE, .n_src = 1, .src = { x } });
}

val prog_expert_spread(struct program *p, val x, val weights)
{
    return record1(p, &(struct instr){ .op = OP_EXPERT_SPREAD, .n_src = 2,
                                       .src = { x, weights } });
}

val prog_expert_sum(struct program *p, val x, val weights)
{
    return record1(p, &(struct instr){ .op = OP_EXPERT_SUM, .n_src = 2,
                                       .src = { x, weights } });
}

val prog_cols(struct program *p, val x, uint32_t col, uint32_t width)
{
    struct prog_value v;

    if (prog_failed(p))
        return 0;
    if (x == 0 || x > p->n_values || width == 0 || col > p->value[x].width ||
        width > p->value[x].width - col) {
        prog_fail(p, WATT_EINVAL, "columns %u and %u more of a value of %u", col, width,
                  x && x <= p->n_values ? p->value[x].width : 0);
        return 0;
    }
    v = p->value[x];
    v.col += col;
    v.width = width;
    return program_add_value(p, &v);
}

void prog_output(struct program *p, val x)
{
    if (prog_failed(p))
        return;
    if (x == 0 || x > p->n_values || p->value[x].is_int || p->value[x].per != 1 ||
        p->value[x].base != x) {
        prog_fail(p, WATT_EINVAL, "the result must be a whole value with one row per unit");
        return;
    }
    p->result = x;
}

int prog_finish(struct program *p, struct err *e)
{
    int rc;

    CHECK(!p->finished);
    if (p->err.code == 0 && p->result == 0)
        prog_fail(p, WATT_EINVAL, "program without a result");
    if (p->err.code != 0) {
        if (e)
            *e = p->err;
        return p->err.code;
    }
    rc = pass_dead(p, e);   /* first, so that dead readers hold nothing back */
    if (rc == 0)
        rc = pass_rows(p, e);
    if (rc < 0)
        return rc;
    rc = pass_dead(p, e);
    if (rc < 0)
        return rc;
    p->finished = true;
    return 0;
}

static void *copy_array(const void *from, size_t n, size_t size)
{
    void *to = from ? mem_array(n, size) : NULL;

    if (to)
        memcpy(to, from, n * size);
    return to;
}

int prog_clone(struct program **out, const struct program *p, const struct tensor *tensors,
               struct err *e)
{
    struct program *q = mem_calloc(1, sizeof *q);

    CHECK(p->finished);
    if (!q)
        return err_set(e, WATT_ENOMEM, "program: copy");
    *q = *p;
    q->instr = copy_array(p->instr, p->cap_instr, sizeof *p->instr);
    q->value = copy_array(p->value, p->cap_values, sizeof *p->value);
    q->weight = copy_array(p->weight, p->cap_weights, sizeof *p->weight);
    q->state = copy_array(p->state, p->cap_states, sizeof *p->state);
    q->names = copy_array(p->names, p->n_names, sizeof *p->names);
    if ((p->instr && !q->instr) || (p->value && !q->value) || (p->weight && !q->weight) ||
        (p->state && !q->state) || (p->names && !q->names)) {
        prog_close(q);
        return err_set(e, WATT_ENOMEM, "program: copy");
    }
    for (wid w = 1; w <= p->n_weights; w++)
        q->weight[w].t = tensors[w];
    *out = q;
    return 0;
}

/* ---- reading ---- */

uint32_t prog_n_instr(const struct program *p) { return p->n_instr; }
uint32_t prog_n_values(const struct program *p) { return p->n_values; }
uint32_t prog_n_weights(const struct program *p) { return p->n_weights; }
uint32_t prog_n_states(const struct program *p) { return p->n_states; }
val prog_result(const struct program *p) { return p->result; }

const struct instr *prog_instr(const struct program *p, uint32_t i)
{
    CHECK(i < p->n_instr);
    return &p->instr[i];
}

const struct prog_value *prog_value(const struct program *p, val v)
{
    CHECK(v >= 1 && v <= p->n_values);
    return &p->value[v];
}

const struct prog_weight *prog_weight_at(const struct program *p, wid w)
{
    CHECK(w >= 1 && w <= p->n_weights);
    return &p->weight[w];
}

const struct prog_state *prog_state_at(const struct program *p, sid s)
{
    CHECK(s >= 1 && s <= p->n_states);
    return &p->state[s];
}

uint32_t prog_width(const struct program *p, val v)
{
    return v >= 1 && v <= p->n_values ? p->value[v].width : 0;
}

static void print_value(const struct program *p, val v, FILE *out)
{
    const struct prog_value *x = &p->value[v];

    if (x->base == v)
        (void)fprintf(out, " %%%u", v);
    else
        (void)fprintf(out, " %%%u[%u:%u]", x->base, x->col, x->col + x->width);
}

static void print_weight(const struct prog_weight *w, FILE *out)
{
    (void)fprintf(out, "  %s %s[", w->name, dtype_name(w->t.dtype));
    for (int i = 0; i < w->t.n_dims; i++)
        (void)fprintf(out, "%s%" PRId64, i ? "," : "", w->t.shape[i]);
    (void)fputc(']', out);
}

void prog_print(const struct program *p, FILE *out)
{
    static const char extents[] = { 'N', 'S', 'R', '1' };

    for (uint32_t i = 0; i < p->n_instr; i++) {
        const struct instr *in = &p->instr[i];

        if (in->layer == UINT32_MAX)
            (void)fprintf(out, "%5u   -  ", i);
        else
            (void)fprintf(out, "%5u %3u  ", i, in->layer);
        for (int d = 0; d < in->n_dst; d++) {
            const struct prog_value *v = &p->value[in->dst[d]];

            (void)fprintf(out, "%s%%%u:", d ? ", " : "", in->dst[d]);
            if (v->per != 1)
                (void)fprintf(out, "%u", v->per);
            (void)fprintf(out, "%cx%u", extents[v->extent], v->width);
        }
        (void)fprintf(out, " = %s", op_name(in->op));
        for (int s = 0; s < in->n_src; s++)
            print_value(p, in->src[s], out);
        for (int w = 0; w < in->n_w; w++)
            if (in->w[w])
                print_weight(&p->weight[in->w[w]], out);
        if (in->state)
            (void)fprintf(out, "  state %u", in->state);
        (void)fputc('\n', out);
    }
}
