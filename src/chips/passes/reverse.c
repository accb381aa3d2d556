/* reverse.c: derives the backward pass; see reverse.h. */
#include "chips/passes/reverse.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "chips/op.h"

static const struct reverse_info infos[OP_COUNT] = {
    [OP_EMBED] = { REVERSE_WHOLE, 0, 0, false, 0 },
    [OP_LINEAR] = { REVERSE_WHOLE, 1, 0, false, 1 },
    [OP_NORM] = { REVERSE_ROWS, 1, 0, false, 1 },
    [OP_ROPE] = { REVERSE_ROWS, 1, 0, false, 0 },
    [OP_ATTENTION] = { REVERSE_WHOLE, 7, 0, false, 7 },
    [OP_UNARY] = { REVERSE_ROWS, 1, 0, false, 1 },
    [OP_GATED] = { REVERSE_ROWS, 3, 0, false, 3 },
    [OP_ADD] = { REVERSE_ROWS, 3, 0, false, 0 },
    [OP_MUL] = { REVERSE_ROWS, 3, 0, false, 3 },
    [OP_AFFINE] = { REVERSE_ROWS, 1, 0, false, 0 },
    [OP_SOFTMAX] = { REVERSE_ROWS, 1, 0, false, REVERSE_READS_RESULT },
    [OP_CONCAT] = { REVERSE_ROWS, 0xFF, 0, false, 0 },
    [OP_ROWS] = { REVERSE_ROWS, 1, 0, true, 0 },
    [OP_POSITION_SCALE] = { REVERSE_ROWS, 1, 0, false, 0 },
    [OP_ROUTE] = { REVERSE_ROWS, 1, 1, false, 1 | REVERSE_READS_RESULT },
    [OP_EXPERT_LINEAR] = { REVERSE_WHOLE, 1, 0, false, 3 },
    [OP_EXPERT_SPREAD] = { REVERSE_ROWS, 3, 0, false, 3 },
    [OP_EXPERT_SUM] = { REVERSE_ROWS, 3, 0, false, 3 },
    [OP_RESHAPE] = { REVERSE_ROWS, 1, 0, false, 0 },
    [OP_SHORT_CONV] = { REVERSE_WHOLE, 1, 0, false, 1 },
    [OP_SSM_SCAN] = { REVERSE_WHOLE, 15, 0, false, 15 },
    [OP_POOL] = { REVERSE_ROWS, 1, 0, true, 0 },
    [OP_CELL] = { REVERSE_WHOLE, 1, 0, false, 1 | REVERSE_READS_RESULT },
    [OP_DELTA_RULE] = { REVERSE_WHOLE, 31, 0, false, 31 },
    [OP_LINEAR_ATTENTION] = { REVERSE_WHOLE, 7, 0, false, 7 },
    [OP_WKV] = { REVERSE_WHOLE, 63, 0, false, 63 },
    [OP_SHIFT] = { REVERSE_WHOLE, 1, 0, false, 0 },
    [OP_CONV] = { REVERSE_ROWS, 1, 0, false, 1 },
    [OP_GROUP_SUM] = { REVERSE_ROWS, 1, 0, false, 0 },
};

const struct reverse_info *reverse_info(enum op op)
{
    return op > OP_NONE && op < OP_COUNT && infos[op].how != REVERSE_NONE ? &infos[op] : NULL;
}

int reverse_n_operands(const struct instr *in)
{
    return in->op == OP_ATTENTION ? 3 : in->n_src;
}

val reverse_operand(const struct program *p, const struct instr *in, int s)
{
    const struct instr *writer = in;

    if (s < in->n_src)
        return in->src[s];
    do
        CHECK(writer-- > prog_instr(p, 0));     /* the recorder has seen it */
    while (writer->op != OP_ATTENTION || writer->state != in->state || !writer->a.attn.write);
    return writer->src[s];
}

/* A window of columns that some step contributes to. */
struct window { val base; uint32_t col, width; bool tiles, started; };

struct derive {
    struct reverse *r;
    const struct program *p;
    const bool *trains;
    const uint8_t *drop;
    bool    *needs;             /* [n_values + 1] by base: leads to a weight that trains */
    bool    *asked;             /* [n_values + 1] by base: some step contributes to its gradient */
    bool    *zeroed;            /* [n_values + 1] by base */
    struct window *windows;
    uint32_t n_windows;
    struct err *e;
};

static bool needs(const struct derive *d, val v)
{
    return d->needs[prog_value(d->p, v)->base];
}

static bool wants(const struct derive *d, const struct instr *in, int s)
{
    const struct reverse_info *info = reverse_info(in->op);

    return info && (info->src >> s & 1) && needs(d, reverse_operand(d->p, in, s));
}

static int no_backward(const struct derive *d, const struct instr *in)
{
    if (in->layer == UINT32_MAX)
        return err_set(d->e, WATT_ENOTSUP, "training: instruction %s has no backward",
                       op_name(in->op));
    return err_set(d->e, WATT_ENOTSUP, "training: layer %u: instruction %s has no backward",
                   in->layer, op_name(in->op));
}

/* Variants within an operation that have none. */
static bool has_backward(const struct derive *d, const struct instr *in)
{
    if (!reverse_info(in->op))
        return false;
    return in->op != OP_ROPE || !d->trains[in->w[0]];
}

/* A weight whose change moves the result smoothly. */
static bool weight_trains(const struct derive *d, const struct instr *in, int w)
{
    return in->w[w] && d->trains[in->w[w]] && in->op != OP_ROUTE;
}

static int spread_needs(struct derive *d)
{
    for (uint32_t i = 0; i < prog_n_instr(d->p); i++) {
        const struct instr *in = prog_instr(d->p, i);
        bool any = false;

        for (int w = 0; w < in->n_w; w++)
            any |= weight_trains(d, in, w);
        for (int s = 0; s < reverse_n_operands(in); s++) {
            const val v = reverse_operand(d->p, in, s);

            any |= needs(d, v) && !prog_value(d->p, v)->is_int;
        }
        if (!any)
            continue;
        if (!has_backward(d, in))
            return no_backward(d, in);
        for (int k = 0; k < in->n_dst; k++)
            d->needs[in->dst[k]] = !prog_value(d->p, in->dst[k])->is_int;
    }
    return 0;
}

/* ---- windows ---- */

static int by_place(const void *a, const void *b)
{
    const struct window *x = a, *y = b;

    if (x->base != y->base)
        return x->base < y->base ? -1 : 1;
    if (x->col != y->col)
        return x->col < y->col ? -1 : 1;
    return x->width < y->width ? -1 : x->width > y->width;
}

static struct window *window_of(const struct derive *d, val v)
{
    const struct prog_value *x = prog_value(d->p, v);
    const struct window key = { x->base, x->col, x->width, false, false };

    return bsearch(&key, d->windows, d->n_windows, sizeof key, by_place);
}

/* The windows of one base: do they lie side by side and cover it? */
static void judge(const struct derive *d, uint32_t first, uint32_t end)
{
    uint32_t col = 0;
    bool tiles = true;

    for (uint32_t i = first; i < end; i++) {
        tiles &= d->windows[i].col == col;
        col = d->windows[i].col + d->windows[i].width;
    }
    tiles &= col == prog_value(d->p, d->windows[first].base)->width;
    for (uint32_t i = first; i < end; i++)
        d->windows[i].tiles = tiles;
}

/* The windows of what has a backward step: an instruction that is there for its effect alone, the
 * writer of keys whose result nobody reads, has none. */
static size_t list_windows(struct derive *d)
{
    size_t n = 0;

    d->asked[prog_result(d->p)] = true;
    for (uint32_t i = prog_n_instr(d->p); i-- > 0;) {
        const struct instr *in = prog_instr(d->p, i);
        const struct reverse_info *info = reverse_info(in->op);

        for (int s = 0; info && d->asked[in->dst[info->dst]] && s < reverse_n_operands(in); s++)
            if (wants(d, in, s)) {
                const struct prog_value *v = prog_value(d->p, reverse_operand(d->p, in, s));

                d->asked[v->base] = true;
                d->windows[n++] = (struct window){ v->base, v->col, v->width, false, false };
            }
    }
    return n;
}

static int find_windows(struct derive *d)
{
    size_t n = 0, kept = 0;

    for (uint32_t i = 0; i < prog_n_instr(d->p); i++)
        n += (size_t)reverse_n_operands(prog_instr(d->p, i));
    d->windows = mem_calloc(n + 1, sizeof *d->windows);
    if (!d->windows)
        return err_set(d->e, WATT_ENOMEM, "training: work space of the backward pass");
    n = list_windows(d);
    qsort(d->windows, n, sizeof *d->windows, by_place);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || by_place(&d->windows[i], &d->windows[kept - 1]) != 0)
            d->windows[kept++] = d->windows[i];
    d->n_windows = (uint32_t)kept;
    for (uint32_t i = 0, first = 0; i < kept; i++)
        if (i + 1 == kept || d->windows[i + 1].base != d->windows[first].base) {
            judge(d, first, i + 1);
            first = i + 1;
        }
    return 0;
}

/* ---- steps ---- */

static bool add_step(struct derive *d, const struct reverse_step *s)
{
    struct reverse *r = d->r;

    if (r->n_steps == r->cap_steps) {
        const uint32_t cap = r->cap_steps * 2 + 64;
        void *bigger = mem_grow(r->steps, cap, sizeof *r->steps);

        if (!bigger)
            return false;
        r->steps = bigger;
        r->cap_steps = cap;
    }
    r->steps[r->n_steps++] = *s;
    return true;
}

/* 0: memory is short. */
static uint32_t add_buf(struct derive *d, const struct prog_value *v, uint32_t per, uint32_t width)
{
    struct reverse *r = d->r;

    if (r->n_bufs + 2 > r->cap_bufs) {
        const uint32_t cap = r->cap_bufs * 2 + 64;
        void *bigger = mem_grow(r->bufs, cap, sizeof *r->bufs);

        if (!bigger)
            return 0;
        r->bufs = bigger;
        r->cap_bufs = cap;
    }
    r->bufs[++r->n_bufs] = (struct reverse_buf){ v->extent, per, width };
    return r->n_bufs;
}

static uint32_t grad_of(struct derive *d, val base)
{
    const struct prog_value *v = prog_value(d->p, base);

    if (!d->r->buf_of[base])
        d->r->buf_of[base] = add_buf(d, v, v->per, v->width);
    return d->r->buf_of[base];
}

/* The residual stream: the first operand's gradient begins as the sum's own, and may stay where
 * that is, for nobody reads the sum's gradient afterwards. */
static bool can_share(const struct derive *d, const struct instr *in, uint32_t i)
{
    const val a = in->src[0];
    const struct window *w = window_of(d, a);

    return in->op == OP_ADD && !(d->drop && d->drop[i]) && prog_value(d->p, a)->base == a &&
           !d->r->buf_of[a] && w && w->tiles && w->width == prog_value(d->p, a)->width &&
           (in->n_src == 1 || prog_value(d->p, in->src[1])->base != a);
}

/* Where operand s of step st gets its gradient; later: what must follow the step. */
static bool place(struct derive *d, struct reverse_step *st, const struct instr *in, int s,
                  struct reverse_step *later, uint32_t *n_later)
{
    const val operand = reverse_operand(d->p, in, s);
    const struct prog_value *v = prog_value(d->p, operand);
    struct window *w = window_of(d, operand);
    const uint32_t buf = grad_of(d, v->base);
    const bool whole = reverse_info(in->op)->how == REVERSE_WHOLE;
    bool add = true;

    if (!buf || !w)
        return false;
    if (w->tiles) {
        add = w->started;
        w->started = true;
    } else if (!d->zeroed[v->base]) {
        const struct reverse_step zero = { .kind = REVERSE_ZERO,
            .dst = { { buf, 0, prog_value(d->p, v->base)->width } } };

        d->zeroed[v->base] = true;
        if (!add_step(d, &zero))
            return false;
    }
    st->dst[s] = (struct reverse_ref){ buf, v->col, v->width };
    if (add && whole) {
        const uint32_t part = add_buf(d, v, v->per, v->width);

        if (!part)
            return false;
        later[(*n_later)++] = (struct reverse_step){ .kind = REVERSE_ADD, .instr = st->instr,
            .dy = { part, 0, v->width }, .dst = { st->dst[s] } };
        st->dst[s] = (struct reverse_ref){ part, 0, v->width };
    } else if (add) {
        st->add |= (uint8_t)(1u << s);
    }
    return true;
}

static bool derive_instr(struct derive *d, uint32_t i)
{
    const struct instr *in = prog_instr(d->p, i);
    const struct reverse_info *info = reverse_info(in->op);
    struct reverse_step st = { .kind = REVERSE_INSTR, .instr = i }, later[PROG_MAX_SRC];
    uint32_t n_later = 0;
    val dst;

    if (!info || !d->needs[in->dst[info->dst]])
        return true;
    dst = in->dst[info->dst];
    if (!d->r->buf_of[dst])
        return true;            /* nobody asked for its gradient: it is zero */
    st.dy = (struct reverse_ref){ d->r->buf_of[dst], 0, prog_value(d->p, dst)->width };
    if (wants(d, in, 0) && can_share(d, in, i)) {
        d->r->buf_of[in->src[0]] = st.dy.buf;
        window_of(d, in->src[0])->started = true;
        st.dst[0] = st.dy;
        st.same = 1;
    }
    for (int s = 0; s < reverse_n_operands(in); s++)
        if (wants(d, in, s) && !(st.same >> s & 1) && !place(d, &st, in, s, later, &n_later))
            return false;
    if (!add_step(d, &st))
        return false;
    for (uint32_t k = 0; k < n_later; k++)
        if (!add_step(d, &later[k]))
            return false;
    return true;
}

/* The loss writes the result's gradient before the first step. */
static void begin_at_result(struct derive *d, val result)
{
    d->zeroed[result] = true;
    for (uint32_t i = 0; i < d->n_windows; i++)
        if (d->windows[i].base == result)
            d->windows[i].started = true;
}

int reverse_derive(struct reverse *r, const struct program *p, const bool *trains,
                   const uint8_t *drop, struct err *e)
{
    const size_t n = (size_t)prog_n_values(p) + 1;
    const val result = prog_result(p);
    struct derive d = { .r = r, .p = p, .trains = trains, .drop = drop, .e = e };
    int rc = 0;

    *r = (struct reverse){ .buf_of = mem_calloc(n, sizeof *r->buf_of) };
    d.needs = mem_calloc(n, sizeof *d.needs);
    d.asked = mem_calloc(n, sizeof *d.asked);
    d.zeroed = mem_calloc(n, sizeof *d.zeroed);
    if (!r->buf_of || !d.needs || !d.asked || !d.zeroed)
        rc = err_set(e, WATT_ENOMEM, "training: work space of the backward pass");
    if (rc == 0)
        rc = spread_needs(&d);
    if (rc == 0 && (prog_value(p, result)->base != result || !needs(&d, result)))
        rc = err_set(e, WATT_EINVAL, "training: the result depends on no weight that trains");
    if (rc == 0)
        rc = find_windows(&d);
    if (rc == 0 && !grad_of(&d, result))
        rc = err_set(e, WATT_ENOMEM, "training: backward pass");
    if (rc == 0)
        begin_at_result(&d, result);
    for (uint32_t i = prog_n_instr(p); rc == 0 && i-- > 0;)
        if (!derive_instr(&d, i))
            rc = err_set(e, WATT_ENOMEM, "training: backward pass");
    mem_free(d.needs);
    mem_free(d.asked);
    mem_free(d.zeroed);
    mem_free(d.windows);
    if (rc < 0)
        reverse_deinit(r);
    return rc;
}

void reverse_deinit(struct reverse *r)
{
    mem_free(r->steps);
    mem_free(r->bufs);
    mem_free(r->buf_of);
    *r = (struct reverse){ 0 };
}
