/* train_recurrent.c: backward of recurrences whose state is a matrix per head: the gated delta rule,
 * linear attention with decay and RWKV-7, and of the shift by a row; see program.h for what they
 * compute. The rows of the state (a column of v each) know nothing of each other: each is run forward
 * again with all its history, then walked back with the gradient of the state in `carry`. Operands
 * that the rows of a head share (and heads of a key head) collect their gradients in that order. */
#include <math.h>
#include <string.h>

#include "chips/cpu/scan.h"
#include "chips/cpu/train_internal.h"

/* One head of one stream; arrays over the rows of the stream. */
struct walk {
    struct train *t;
    const struct train_item *it;
    const struct instr *in;
    const struct stream *s;
    const struct scan_kernels *k;
    uint32_t n, width;          /* floats of a state's row */
    bool     each;              /* a decay per element, not one for the head */
    float   *state;             /* [n][width] after each row */
    float   *keep;              /* [n][width], or [n]: what is left of the state */
    float   *held, *change;     /* [n] */
    float   *carry, *kept, *zero;   /* [width] */
};

uint64_t train_recurrent_scratch(const struct train *t, const struct instr *in)
{
    const uint64_t width = in->op == OP_DELTA_RULE ? in->a.delta.k_dim
                         : in->op == OP_WKV        ? in->a.wkv.head_dim
                         : in->op == OP_LINEAR_ATTENTION ? in->a.linattn.k_dim : 0;

    return (t->limits.max_rows * (2 * width + 2) + 3 * width) * sizeof(float);
}

static struct walk walk_of(struct train *t, const struct train_item *it, uint32_t stream,
                           uint32_t width, float *scratch)
{
    struct walk w = { .t = t, .it = it, .in = it->in, .s = &t->streams[stream],
                      .k = scan_kernels_of(t->x->k.mask), .width = width };
    const size_t n = w.s->n_rows;

    w.n = w.s->n_rows;
    w.state = scratch;
    w.keep = w.state + n * width;
    w.held = w.keep + n * width;
    w.change = w.held + n;
    w.carry = w.change + n;
    w.kept = w.carry + width;
    w.zero = w.kept + width;
    memset(w.zero, 0, width * sizeof *w.zero);
    return w;
}

static const float *src_row(const struct walk *w, int s, uint32_t row)
{
    return train_row(train_value(w->t, w->in->src[s]), (uint64_t)w->s->first_row + row);
}

/* NULL: its gradient is not wanted. */
static float *dst_row(const struct walk *w, int s, uint32_t row)
{
    return w->it->dst[s].p ? train_row(w->it->dst[s], (uint64_t)w->s->first_row + row) : NULL;
}

static float dy_at(const struct walk *w, uint32_t row, uint32_t col)
{
    return train_row(w->it->dy, (uint64_t)w->s->first_row + row)[col];
}

static float dot(const struct walk *w, const float *a, const float *b)
{
    float y;

    w->k->dots(&y, a, b, 1, w->width);
    return y;
}

/* y += f x; y may be NULL. */
static void add(const struct walk *w, float *y, size_t at, const float *x, float f)
{
    if (y)
        w->t->x->k.axpy(y + at, x, f, w->width);
}

static void clear(const struct walk *w, int s, size_t at, uint32_t width)
{
    for (uint32_t r = 0; r < w->n && w->it->dst[s].p; r++)
        memset(dst_row(w, s, r) + at, 0, width * sizeof(float));
}

static const float *before(const struct walk *w, uint32_t row)
{
    return row ? w->state + (size_t)(row - 1) * w->width : w->zero;
}

/* What row r leaves of x: y = keep x. */
static void decayed(const struct walk *w, uint32_t r, float *y, const float *x)
{
    if (w->each)
        w->t->x->k.mul(y, x, w->keep + (size_t)r * w->width, w->width);
    else
        w->t->x->k.affine(y, x, w->keep[r], 0.0f, w->width);
}

/* Decays are logarithms; `at` is the head's first. */
static void load_keep(const struct walk *w, int s, size_t at)
{
    const uint32_t n = w->each ? w->width : 1;

    for (uint32_t r = 0; r < w->n; r++)
        for (uint32_t j = 0; j < n; j++)
            w->keep[(size_t)r * n + j] = expf(src_row(w, s, r)[at + j]);
}

/* Of the decays of row r: the carry is the gradient of what was kept. */
static void keep_back(const struct walk *w, int s, size_t at, uint32_t r)
{
    float *d = dst_row(w, s, r);

    if (!d)
        return;
    if (w->each)
        for (uint32_t j = 0; j < w->width; j++)
            d[at + j] += w->carry[j] * w->kept[j];
    else
        d[at] += dot(w, w->carry, w->kept);
}

/* ---- gated delta rule ---- */

enum { DELTA_Q, DELTA_K, DELTA_V, DELTA_DECAY, DELTA_BETA };

static void delta_history(const struct walk *w, uint32_t head, size_t key, uint32_t col)
{
    for (uint32_t r = 0; r < w->n; r++) {
        const float *k = src_row(w, DELTA_K, r) + key;
        float *s = w->state + (size_t)r * w->width;

        decayed(w, r, s, before(w, r));
        w->held[r] = dot(w, s, k);
        w->change[r] = src_row(w, DELTA_BETA, r)[head] * (src_row(w, DELTA_V, r)[col] - w->held[r]);
        add(w, s, 0, k, w->change[r]);
    }
}

static void delta_row(const struct walk *w, uint32_t r, uint32_t head, size_t key, uint32_t col)
{
    const float *k = src_row(w, DELTA_K, r) + key, beta = src_row(w, DELTA_BETA, r)[head];
    const float dy = dy_at(w, r, col) * w->in->a.delta.scale;
    float *dbeta = dst_row(w, DELTA_BETA, r), *dv = dst_row(w, DELTA_V, r), dchange, dheld;

    add(w, dst_row(w, DELTA_Q, r), key, w->state + (size_t)r * w->width, dy);
    add(w, w->carry, 0, src_row(w, DELTA_Q, r) + key, dy);
    dchange = dot(w, w->carry, k);
    dheld = -dchange * beta;
    add(w, dst_row(w, DELTA_K, r), key, w->carry, w->change[r]);
    if (dbeta)
        dbeta[head] += dchange * (src_row(w, DELTA_V, r)[col] - w->held[r]);
    if (dv)
        dv[col] = dchange * beta;
    decayed(w, r, w->kept, before(w, r));
    add(w, dst_row(w, DELTA_K, r), key, w->kept, dheld);
    add(w, w->carry, 0, k, dheld);
    keep_back(w, DELTA_DECAY, (size_t)head * (w->each ? w->width : 1), r);
    decayed(w, r, w->carry, w->carry);
}

static void delta_head(const struct walk *w, uint32_t head, size_t key)
{
    const struct delta_args *a = &w->in->a.delta;
    const uint32_t n = w->each ? w->width : 1;

    load_keep(w, DELTA_DECAY, (size_t)head * n);
    clear(w, DELTA_DECAY, (size_t)head * n, n);
    clear(w, DELTA_BETA, head, 1);
    for (uint32_t col = head * a->v_dim; col < (head + 1) * a->v_dim; col++) {
        memset(w->carry, 0, w->width * sizeof *w->carry);
        delta_history(w, head, key, col);
        for (uint32_t r = w->n; r-- > 0;)
            delta_row(w, r, head, key, col);
    }
}

/* The value heads that read one key head, one after the other. */
static void delta_key_head(struct walk *w, uint32_t key_head)
{
    const struct delta_args *a = &w->in->a.delta;
    const size_t key = (size_t)key_head * a->k_dim;

    w->each = train_width(w->t, w->in->src[DELTA_DECAY]) != a->n_heads;
    clear(w, DELTA_Q, key, a->k_dim);
    clear(w, DELTA_K, key, a->k_dim);
    for (uint32_t h = 0; h < a->n_heads; h++)
        if ((a->tiled ? h % a->n_k_heads : h / (a->n_heads / a->n_k_heads)) == key_head)
            delta_head(w, h, key);
}

/* ---- linear attention ---- */

static void linear_history(const struct walk *w, size_t key, uint32_t col)
{
    for (uint32_t r = 0; r < w->n; r++) {
        float *s = w->state + (size_t)r * w->width;

        decayed(w, r, s, before(w, r));
        add(w, s, 0, src_row(w, 1, r) + key, src_row(w, 2, r)[col]);
    }
}

static void linear_row(const struct walk *w, uint32_t r, size_t key, uint32_t col)
{
    const float dy = dy_at(w, r, col) * w->in->a.linattn.scale;
    float *dv = dst_row(w, 2, r);

    add(w, dst_row(w, 0, r), key, w->state + (size_t)r * w->width, dy);
    add(w, w->carry, 0, src_row(w, 0, r) + key, dy);
    add(w, dst_row(w, 1, r), key, w->carry, src_row(w, 2, r)[col]);
    if (dv)
        dv[col] = dot(w, w->carry, src_row(w, 1, r) + key);
    decayed(w, r, w->carry, w->carry);
}

static void linear_head(const struct walk *w, uint32_t head)
{
    const struct linear_attn_args *a = &w->in->a.linattn;
    const size_t key = (size_t)head * a->k_dim;
    const float keep = (float)exp(-a->decay * prog_linear_slope(head, a->n_heads));

    for (uint32_t r = 0; r < w->n; r++)
        w->keep[r] = keep;
    clear(w, 0, key, a->k_dim);
    clear(w, 1, key, a->k_dim);
    for (uint32_t col = head * a->v_dim; col < (head + 1) * a->v_dim; col++) {
        memset(w->carry, 0, w->width * sizeof *w->carry);
        linear_history(w, key, col);
        for (uint32_t r = w->n; r-- > 0;)
            linear_row(w, r, key, col);
    }
}

/* ---- RWKV-7 ---- */

enum { WKV_R, WKV_DECAY, WKV_K, WKV_V, WKV_A, WKV_B };

static void wkv_history(const struct walk *w, size_t at, uint32_t col)
{
    for (uint32_t r = 0; r < w->n; r++) {
        float *s = w->state + (size_t)r * w->width;

        w->held[r] = dot(w, before(w, r), src_row(w, WKV_A, r) + at);
        decayed(w, r, s, before(w, r));
        add(w, s, 0, src_row(w, WKV_B, r) + at, w->held[r]);
        add(w, s, 0, src_row(w, WKV_K, r) + at, src_row(w, WKV_V, r)[col]);
    }
}

static void wkv_row(const struct walk *w, uint32_t r, size_t at, uint32_t col)
{
    const float dy = dy_at(w, r, col);
    float *dv = dst_row(w, WKV_V, r), dheld;

    add(w, dst_row(w, WKV_R, r), at, w->state + (size_t)r * w->width, dy);
    add(w, w->carry, 0, src_row(w, WKV_R, r) + at, dy);
    add(w, dst_row(w, WKV_K, r), at, w->carry, src_row(w, WKV_V, r)[col]);
    if (dv)
        dv[col] = dot(w, w->carry, src_row(w, WKV_K, r) + at);
    add(w, dst_row(w, WKV_B, r), at, w->carry, w->held[r]);
    dheld = dot(w, w->carry, src_row(w, WKV_B, r) + at);
    add(w, dst_row(w, WKV_A, r), at, before(w, r), dheld);
    decayed(w, r, w->kept, before(w, r));
    keep_back(w, WKV_DECAY, at, r);
    decayed(w, r, w->carry, w->carry);
    add(w, w->carry, 0, src_row(w, WKV_A, r) + at, dheld);
}

static void wkv_head(struct walk *w, uint32_t head)
{
    const size_t at = (size_t)head * w->width;

    w->each = true;
    load_keep(w, WKV_DECAY, at);
    for (int s = WKV_R; s <= WKV_B; s++)
        if (s != WKV_V)
            clear(w, s, at, w->width);
    for (uint32_t col = head * w->width; col < (head + 1) * w->width; col++) {
        memset(w->carry, 0, w->width * sizeof *w->carry);
        wkv_history(w, at, col);
        for (uint32_t r = w->n; r-- > 0;)
            wkv_row(w, r, at, col);
    }
}

/* ---- tasks ---- */

static void shift(const struct walk *w)
{
    const size_t bytes = train_width(w->t, w->in->dst[0]) * sizeof(float);

    for (uint32_t r = 0; r + 1 < w->n && w->it->dst[0].p; r++)
        memcpy(dst_row(w, 0, r), train_row(w->it->dy, (uint64_t)w->s->first_row + r + 1), bytes);
    if (w->it->dst[0].p)
        memset(dst_row(w, 0, w->n - 1), 0, bytes);
}

uint32_t train_recurrent_cuts(const struct instr *in)
{
    switch (in->op) {
    case OP_DELTA_RULE:       return in->a.delta.n_k_heads;
    case OP_LINEAR_ATTENTION: return in->a.linattn.n_heads;
    case OP_WKV:              return in->a.wkv.n_heads;
    default:                  return 1;
    }
}

void train_recurrent(struct train *t, const struct train_item *it, uint32_t stream, uint32_t cut,
                     float *scratch)
{
    const struct instr *in = it->in;
    struct walk w;

    switch (in->op) {
    case OP_DELTA_RULE:
        w = walk_of(t, it, stream, in->a.delta.k_dim, scratch);
        delta_key_head(&w, cut);
        break;
    case OP_LINEAR_ATTENTION:
        w = walk_of(t, it, stream, in->a.linattn.k_dim, scratch);
        linear_head(&w, cut);
        break;
    case OP_WKV:
        w = walk_of(t, it, stream, in->a.wkv.head_dim, scratch);
        wkv_head(&w, cut);
        break;
    default:
        w = walk_of(t, it, stream, 0, scratch);
        shift(&w);
    }
}
