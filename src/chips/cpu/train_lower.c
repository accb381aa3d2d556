/* train_lower.c: lowers the derived backward pass to items in phases and plans its memory; see
 * train_internal.h.
 *
 * An item goes to the earliest phase that it can join and that lies behind whatever it reads, and
 * behind earlier readers and writers of what it writes. Items of one row phase run one after the
 * other on each row, so among them order is enough. */
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "chips/cpu/train_internal.h"
#include "chips/passes/ranges.h"
#include "chips/route.h"

#define LOOK_BACK 6u
#define ALIGN64(n) (((uint64_t)(n) + 63) & ~UINT64_C(63))

static bool grow(void **array, uint32_t n, uint32_t *cap, size_t size)
{
    void *bigger;

    if (n < *cap)
        return true;
    bigger = mem_grow(*array, (size_t)*cap * 2 + 64, size);
    if (!bigger)
        return false;
    *array = bigger;
    *cap = *cap * 2 + 64;
    return true;
}

static uint64_t max_rows_of(const struct train *t, enum extent extent, uint32_t per)
{
    const struct prog_value v = { .extent = extent, .per = per };

    return prog_rows_of(&v, t->limits.max_rows, t->limits.max_streams, t->limits.max_out);
}

/* UINT32_MAX: memory is short. */
static uint32_t new_buf(struct train *t, enum extent extent, uint64_t bytes, uint64_t stride)
{
    if (!grow((void **)&t->bufs, t->n_bufs, &t->cap_bufs, sizeof *t->bufs))
        return UINT32_MAX;
    t->bufs[t->n_bufs] = (struct train_buf){ .bytes = ALIGN64(bytes), .stride_bytes = stride,
        .first = UINT32_MAX, .written_at = UINT32_MAX, .read_at = UINT32_MAX, .extent = extent };
    return t->n_bufs++;
}

static bool gradient_bufs(struct train *t)
{
    if (new_buf(t, EXT_ONE, 0, 0) == UINT32_MAX)
        return false;
    for (uint32_t i = 1; i <= t->rev.n_bufs; i++) {
        const struct reverse_buf *b = &t->rev.bufs[i];
        const bool in_place = t->loss_in_place && i == t->rev.buf_of[prog_result(t->own)];

        if (new_buf(t, b->extent, in_place ? 0 : max_rows_of(t, b->extent, b->per) * b->width * 4,
                    (uint64_t)b->width * 4) == UINT32_MAX)
            return false;
    }
    return true;
}

/* Nobody reads the logits once their loss is known when a plain product makes them: their
 * gradient, which is as large, takes their place. */
static bool loss_in_place(const struct train *t)
{
    for (uint32_t i = prog_n_instr(t->own); i-- > 0;)
        if (prog_instr(t->own, i)->dst[0] == prog_result(t->own))
            return prog_instr(t->own, i)->op == OP_LINEAR;
    return false;
}

/* ---- where an item may go ---- */

struct want { enum train_phase_kind kind; enum extent extent; uint32_t from; };

static bool in_rows(const struct train *t, const struct want *w, uint32_t ph, bool by_rows,
                    const struct train_buf *b)
{
    return w->kind == TP_ROWS && by_rows && t->phases[ph].kind == TP_ROWS &&
           t->phases[ph].extent == w->extent && b->extent == w->extent;
}

static void after(const struct train *t, struct want *w, uint32_t ph, bool by_rows,
                  const struct train_buf *b)
{
    const uint32_t from = ph == UINT32_MAX ? 0 : in_rows(t, w, ph, by_rows, b) ? ph : ph + 1;

    if (from > w->from)
        w->from = from;
}

static void will_read(const struct train *t, struct want *w, uint32_t buf)
{
    if (buf)
        after(t, w, t->bufs[buf].written_at, t->bufs[buf].written_by_rows, &t->bufs[buf]);
}

static void will_write(const struct train *t, struct want *w, uint32_t buf)
{
    will_read(t, w, buf);
    if (buf)
        after(t, w, t->bufs[buf].read_at, t->bufs[buf].read_by_rows, &t->bufs[buf]);
}

static void touch(struct train_buf *b, uint32_t ph)
{
    if (b->first == UINT32_MAX || ph < b->first)
        b->first = ph;
    if (ph > b->last)
        b->last = ph;
}

static void has_read(struct train *t, uint32_t buf, uint32_t ph)
{
    struct train_buf *b = &t->bufs[buf];

    if (!buf)
        return;
    touch(b, ph);
    if (b->read_at == UINT32_MAX || ph > b->read_at) {
        b->read_at = ph;
        b->read_by_rows = true;
    }
    if (ph == b->read_at && (t->phases[ph].kind != TP_ROWS || t->phases[ph].extent != b->extent))
        b->read_by_rows = false;
}

static void has_written(struct train *t, uint32_t buf, uint32_t ph)
{
    struct train_buf *b = &t->bufs[buf];

    if (!buf)
        return;
    touch(b, ph);
    b->written_at = ph;
    b->written_by_rows = t->phases[ph].kind == TP_ROWS && t->phases[ph].extent == b->extent;
}

static bool joins(const struct train_phase *ph, const struct want *w)
{
    if (ph->kind != w->kind)
        return false;
    if (w->kind == TP_ROWS)
        return ph->extent == w->extent;
    return w->kind == TP_PRODUCTS;
}

/* UINT32_MAX: memory is short. */
static uint32_t put(struct train *t, const struct train_item *it, const struct want *w)
{
    uint32_t ph = t->n_phases > LOOK_BACK ? t->n_phases - LOOK_BACK : 0;

    ph = ph > w->from ? ph : w->from;
    ph = ph > t->floor ? ph : t->floor;
    while (ph < t->n_phases && !joins(&t->phases[ph], w))
        ph++;
    if (!grow((void **)&t->phases, t->n_phases, &t->cap_phases, sizeof *t->phases) ||
        !grow((void **)&t->items, t->n_items, &t->cap_items, sizeof *t->items))
        return UINT32_MAX;
    if (ph >= t->n_phases) {
        ph = t->n_phases++;
        t->phases[ph] = (struct train_phase){ w->kind, w->extent, NO_PHASE, NO_PHASE };
    }
    t->items[t->n_items] = *it;
    t->items[t->n_items].phase = ph;
    t->items[t->n_items].next = NO_PHASE;
    if (t->phases[ph].last == NO_PHASE)
        t->phases[ph].first = t->n_items;
    else
        t->items[t->phases[ph].last].next = t->n_items;
    t->phases[ph].last = t->n_items++;
    return ph;
}

/* Reads dy, writes the operands' gradients. */
static uint32_t put_step(struct train *t, const struct train_item *it, struct want *w)
{
    const struct reverse_step *s = it->step;
    uint32_t ph;

    will_read(t, w, s->dy.buf);
    for (int i = 0; i < PROG_MAX_SRC; i++)
        will_write(t, w, s->dst[i].buf);
    ph = put(t, it, w);
    if (ph == UINT32_MAX)
        return ph;
    has_read(t, s->dy.buf, ph);
    for (int i = 0; i < PROG_MAX_SRC; i++)
        has_written(t, s->dst[i].buf, ph);
    return ph;
}

/* ---- vector gradients ---- */

static bool add_part(struct train *t, struct train_item *it, int k, wid w, enum extent extent,
                     bool by_stream)
{
    const uint64_t blocks = by_stream ? t->limits.max_streams : TRAIN_BLOCKS;
    uint32_t n;

    it->part[k] = UINT32_MAX;
    if (!w || !t->trains[w])
        return true;
    n = (uint32_t)t->weight[w].param->n;
    if (!grow((void **)&t->parts, t->n_parts, &t->cap_parts, sizeof *t->parts))
        return false;
    t->parts[t->n_parts] = (struct train_part){ w, n, extent, by_stream, t->part_floats };
    t->part_floats += blocks * n;
    it->part[k] = t->n_parts++;
    return true;
}

static struct train_item item_of(const struct train *t, const struct reverse_step *s,
                                 enum train_item_kind kind)
{
    struct train_item it = { .kind = kind, .step = s, .in = prog_instr(t->own, s->instr),
                             .prepared = UINT32_MAX, .extra = UINT32_MAX };

    for (uint32_t k = 0; k < TRAIN_PARTS; k++)
        it.part[k] = UINT32_MAX;
    it.drop = t->drop[s->instr];
    return it;
}

static uint32_t rope_table_of(const struct train *t, const struct instr *in)
{
    for (uint32_t i = 0; i < t->x->s.n_items; i++)
        if (t->x->s.items[i].in == in && t->x->s.items[i].kind == ITEM_INSTR)
            return t->x->s.items[i].index;
    return 0;
}

/* A router with a load-balance loss. */
static bool add_route(struct train *t, const struct instr *in, uint32_t *index)
{
    const uint32_t n = in->a.route.n_experts;
    const uint32_t at = t->n_routes ? t->routes[t->n_routes - 1].first +
                                      2 * t->routes[t->n_routes - 1].in->a.route.n_experts : 0;
    void *routes = mem_grow(t->routes, t->n_routes + 1u, sizeof *t->routes), *balance;

    if (!routes)
        return false;
    t->routes = routes;
    balance = mem_grow(t->balance, at + 2 * (size_t)n, sizeof *t->balance);
    if (!balance)
        return false;
    t->balance = balance;
    t->routes[t->n_routes] = (struct train_route){ in, at, 0 };
    *index = t->n_routes++;
    return true;
}

static bool lower_rows(struct train *t, const struct reverse_step *s)
{
    struct train_item it = item_of(t, s, s->kind == REVERSE_ZERO ? T_ZERO
                                         : s->kind == REVERSE_ADD ? T_ADD : T_ROWS);
    const struct instr *in = it.in;
    const val lead = reverse_info(in->op)->scatter ? in->src[0]
                                                   : in->dst[reverse_info(in->op)->dst];
    struct want w = { .kind = TP_ROWS, .extent = prog_value(t->own, lead)->extent };

    if (it.kind != T_ROWS) {
        w.extent = t->bufs[s->dst[0].buf].extent;
        it.drop = 0;
    } else {
        for (int k = 0; k < (int)TRAIN_PARTS && k < in->n_w; k++)
            if (in->op != OP_ROPE && in->op != OP_ROUTE &&
                !add_part(t, &it, k, in->w[k], w.extent, false))
                return false;
        if (in->op == OP_ROPE)
            it.rope = rope_table_of(t, in);
        if (in->op == OP_ROUTE && t->o.balance > 0.0f && in->a.route.n_sharing <= 1 &&
            !add_route(t, in, &it.extra))   /* who shares is balanced where each has its own */
            return false;
    }
    return put_step(t, &it, &w) != UINT32_MAX;
}

/* A row item that turns dy into the format of the product's kernel. */
static uint32_t lower_prepare(struct train *t, const struct reverse_step *s,
                              enum act_format format, enum extent extent)
{
    struct train_item it = item_of(t, s, T_PREPARE);
    struct want w = { .kind = TP_ROWS, .extent = extent };
    const struct prog_value *v = prog_value(t->own, it.in->dst[0]);
    const uint64_t stride = act_row_bytes(format, v->width);
    const uint32_t buf = new_buf(t, extent, max_rows_of(t, extent, v->per) * stride, stride);
    uint32_t ph;

    if (buf == UINT32_MAX)
        return buf;
    it.prepared = buf;
    it.format = format;
    will_read(t, &w, s->dy.buf);
    ph = put(t, &it, &w);
    if (ph == UINT32_MAX)
        return ph;
    has_read(t, s->dy.buf, ph);
    has_written(t, buf, ph);
    return buf;
}

/* Scale of a product in place on dy, and its bias. The gradient of the result is nobody
 * else's, so it may change. */
static bool lower_bias(struct train *t, const struct reverse_step *s, enum extent extent)
{
    struct train_item it = item_of(t, s, T_BIAS);
    const struct instr *in = it.in;
    struct want w = { .kind = TP_ROWS, .extent = extent };
    const bool expert = in->op == OP_EXPERT_LINEAR;
    uint32_t ph;

    if (!in->w[1] && !in->w[2] && (expert || in->a.linear.scale == 0.0f))
        return true;
    if (!add_part(t, &it, 0, in->w[1], extent, false))
        return false;
    will_write(t, &w, s->dy.buf);
    ph = put(t, &it, &w);
    if (ph == UINT32_MAX)
        return false;
    has_read(t, s->dy.buf, ph);
    has_written(t, s->dy.buf, ph);
    return true;
}

/* ---- experts ---- */

static uint32_t slots_buf(struct train *t, const struct instr *in)
{
    const struct prog_value *v = prog_value(t->own, in->dst[0]);
    const uint64_t stride = (uint64_t)prog_value(t->own, in->src[0])->width * 4;

    return new_buf(t, v->extent, max_rows_of(t, v->extent, v->per) * stride, stride);
}

/* Several slots share a row of the operand: their gradients are summed. */
static bool lower_slots(struct train *t, const struct reverse_step *s, uint32_t buf)
{
    struct train_item it = item_of(t, s, T_SLOTS);
    struct want w = { .kind = TP_ROWS, .extent = prog_value(t->own, it.in->dst[0])->extent };
    uint32_t ph;

    it.extra = buf;
    will_read(t, &w, buf);
    will_write(t, &w, s->dst[0].buf);
    ph = put(t, &it, &w);
    if (ph == UINT32_MAX)
        return false;
    has_read(t, buf, ph);
    has_written(t, s->dst[0].buf, ph);
    return true;
}

/* The slots by expert, in the one place for them. */
static bool lower_sort(struct train *t, const struct reverse_step *s)
{
    const struct train_item it = item_of(t, s, T_SORT);
    struct want w = { .kind = TP_SORT };
    uint32_t ph;

    if (!t->sort_buf) {
        t->sort_buf = new_buf(t, EXT_ONE, 0, 0);
        if (t->sort_buf == UINT32_MAX)
            return false;
    }
    will_write(t, &w, t->sort_buf);
    ph = put(t, &it, &w);
    if (ph == UINT32_MAX)
        return false;
    has_written(t, t->sort_buf, ph);
    return true;
}

static int plan_sort(struct train *t, struct err *e)
{
    uint64_t slots = 0, experts = 0;

    for (uint32_t i = 0; i < t->n_items; i++)
        if (t->items[i].kind == T_SORT) {
            const struct instr *in = t->items[i].in;
            const struct prog_value *ids = prog_value(t->own, in->src[1]);
            const uint64_t n = max_rows_of(t, ids->extent, ids->per) * ids->width;

            slots = n > slots ? n : slots;
            experts = t->weight[in->w[0]].param->mats > experts ? t->weight[in->w[0]].param->mats
                                                                : experts;
        }
    if (slots == 0)
        return 0;
    t->sort_memory = mem_array((size_t)(2 * slots + experts + 1), sizeof *t->sort_memory);
    if (!t->sort_memory)
        return err_set(e, WATT_ENOMEM, "training: slots of experts");
    t->sorted.start = t->sort_memory;
    t->sorted.order = t->sorted.start + experts + 1;
    t->sorted.token = t->sorted.order + slots;
    return 0;
}

/* ---- products ---- */

static bool lower_product(struct train *t, const struct reverse_step *s)
{
    const bool expert = prog_instr(t->own, s->instr)->op == OP_EXPERT_LINEAR;
    struct train_item it = item_of(t, s, expert ? T_EXPERT : T_PRODUCT);
    const struct instr *in = it.in;
    const enum extent extent = prog_value(t->own, in->dst[0])->extent;
    const struct packed *turned = &t->weight[in->w[0]].turned;
    struct want w = { .kind = expert ? TP_EXPERTS : TP_PRODUCTS };
    uint32_t ph;

    if (expert && !lower_sort(t, s))
        return false;
    if (!lower_bias(t, s, extent))
        return false;
    it.matrix = t->trains[in->w[0]] ? in->w[0] : 0;
    it.format = t->o.compute == DTYPE_BF16 ? ACTF_BF16 : ACTF_F32;
    if (s->dst[0].buf && !(it.format == ACTF_F32 && turned->n_in % PACK_ROWS == 0)) {
        it.prepared = lower_prepare(t, s, it.format, extent);
        if (it.prepared == UINT32_MAX)
            return false;
        will_read(t, &w, it.prepared);
    }
    if (it.matrix && t->weight[it.matrix].written_at != UINT32_MAX &&
        t->weight[it.matrix].written_at + 1 > w.from)
        w.from = t->weight[it.matrix].written_at + 1;
    if (expert && s->dst[0].buf && prog_value(t->own, in->src[0])->per == 1) {
        it.extra = slots_buf(t, in);
        if (it.extra == UINT32_MAX)
            return false;
        will_write(t, &w, it.extra);
    }
    if (expert)
        will_read(t, &w, t->sort_buf);
    ph = put_step(t, &it, &w);
    if (ph == UINT32_MAX)
        return false;
    if (expert)
        has_read(t, t->sort_buf, ph);
    if (it.prepared != UINT32_MAX)
        has_read(t, it.prepared, ph);
    if (it.matrix)
        t->weight[it.matrix].written_at = ph;
    if (it.extra == UINT32_MAX)
        return true;
    has_written(t, it.extra, ph);
    return lower_slots(t, s, it.extra);
}

/* ---- the rest ---- */

static bool lower_drop(struct train *t, const struct reverse_step *s)
{
    const struct train_item it = item_of(t, s, T_DROP);
    struct want w = { .kind = TP_ROWS, .extent = EXT_N };
    uint32_t ph;

    will_write(t, &w, s->dy.buf);
    ph = put(t, &it, &w);
    if (ph == UINT32_MAX)
        return false;
    has_written(t, s->dy.buf, ph);
    return true;
}

/* The walk through time, then the gradients of its matrix and bias. */
static bool lower_cell(struct train *t, const struct reverse_step *s)
{
    struct train_item it = item_of(t, s, T_SCAN), sum = item_of(t, s, T_CELL_BIAS);
    struct train_item product = item_of(t, s, T_CELL_MATRIX);
    const struct instr *in = it.in;
    struct want scan = { .kind = TP_SCAN }, rows = { .kind = TP_ROWS, .extent = EXT_N };
    struct want products = { .kind = TP_PRODUCTS };
    const uint64_t stride = (uint64_t)prog_value(t->own, in->src[0])->width * 4;
    uint32_t ph;

    it.extra = sum.extra = product.extra = new_buf(t, EXT_N, max_rows_of(t, EXT_N, 1) * stride,
                                                   stride);
    if (it.extra == UINT32_MAX)
        return false;
    ph = put_step(t, &it, &scan);
    if (ph == UINT32_MAX)
        return false;
    has_written(t, it.extra, ph);
    if (in->w[1] && t->trains[in->w[1]]) {
        if (!add_part(t, &sum, 0, in->w[1], EXT_N, false))
            return false;
        will_read(t, &rows, it.extra);
        ph = put(t, &sum, &rows);
        if (ph == UINT32_MAX)
            return false;
        has_read(t, it.extra, ph);
    }
    if (!t->trains[in->w[0]])
        return true;
    product.matrix = in->w[0];
    if (t->weight[in->w[0]].written_at != UINT32_MAX)
        products.from = t->weight[in->w[0]].written_at + 1;
    will_read(t, &products, it.extra);
    ph = put(t, &product, &products);
    if (ph == UINT32_MAX)
        return false;
    has_read(t, it.extra, ph);
    t->weight[in->w[0]].written_at = ph;
    return true;
}

static bool lower_whole(struct train *t, const struct reverse_step *s)
{
    struct train_item it = item_of(t, s, T_SCAN);
    const struct instr *in = it.in;
    struct want w = { .kind = TP_SCAN };
    uint32_t ph;

    if (in->op == OP_CELL)
        return lower_cell(t, s);
    if (in->op == OP_EMBED) {
        if (t->drop[s->instr] && t->trains[in->w[0]] && !lower_drop(t, s))
            return false;
        it.kind = T_EMBED;
        w.kind = TP_EMBED;
        it.matrix = in->w[0];
        if (!t->trains[in->w[0]])
            return true;
        if (t->weight[it.matrix].written_at != UINT32_MAX)
            w.from = t->weight[it.matrix].written_at + 1;
    } else if (in->op == OP_ATTENTION) {
        it.kind = T_ATTENTION;
        w.kind = TP_ATTENTION;
        for (int k = 0; k < 2; k++)         /* sinks, biases of buckets */
            if (!add_part(t, &it, k, in->w[k], EXT_S, true))
                return false;
    } else {
        for (int k = 0; k < (int)TRAIN_PARTS && k < in->n_w; k++)
            if (!add_part(t, &it, k, in->w[k], EXT_S, true))
                return false;
    }
    ph = put_step(t, &it, &w);
    if (ph == UINT32_MAX)
        return false;
    if (it.matrix)
        t->weight[it.matrix].written_at = ph;
    return true;
}

static bool lower_step(struct train *t, const struct reverse_step *s)
{
    const struct instr *in = prog_instr(t->own, s->instr);

    if (s->kind != REVERSE_INSTR || reverse_info(in->op)->how == REVERSE_ROWS)
        return lower_rows(t, s);
    if (in->op == OP_LINEAR || in->op == OP_EXPERT_LINEAR)
        return lower_product(t, s);
    return lower_whole(t, s);
}

/* A layer begins: its values are made again in front of its backward. */
static bool lower_rerun(struct train *t, uint32_t layer)
{
    struct train_phase ph = { .kind = TP_RERUN };

    t->floor = t->n_phases;
    if (layer == UINT32_MAX)
        return true;
    if (!train_rerun_layer(t, layer, &ph.first, &ph.last) ||
        !grow((void **)&t->phases, t->n_phases, &t->cap_phases, sizeof *t->phases))
        return false;
    t->phases[t->n_phases++] = ph;
    t->floor = t->n_phases;
    return true;
}

static bool lower_steps(struct train *t)
{
    uint32_t layer = UINT32_MAX;

    for (uint32_t i = 0; i < t->rev.n_steps; i++) {
        const struct reverse_step *s = &t->rev.steps[i];
        const uint32_t of = prog_instr(t->own, s->instr)->layer;

        if (t->local && s->kind == REVERSE_INSTR && of != layer) {
            if (!lower_rerun(t, of))
                return false;
            layer = of;
        }
        if (!lower_step(t, s))
            return false;
    }
    return true;
}

static bool lower_loss(struct train *t)
{
    const struct want w = { .kind = TP_ROWS, .extent = EXT_R };
    const struct train_item it = { .kind = T_LOSS, .prepared = UINT32_MAX, .extra = UINT32_MAX };
    const uint32_t ph = put(t, &it, &w);

    if (ph == UINT32_MAX)
        return false;
    has_written(t, t->rev.buf_of[prog_result(t->own)], ph);
    return true;
}

/* ---- memory ---- */

static int plan_bufs(struct train *t, struct err *e)
{
    uint32_t *dying = mem_array((size_t)t->n_phases + 1, sizeof *dying);
    uint32_t *next = mem_array((size_t)t->n_bufs + 1, sizeof *next);
    uint32_t *born = mem_array((size_t)t->n_phases + 1, sizeof *born);
    uint32_t *next_born = mem_array((size_t)t->n_bufs + 1, sizeof *next_born);
    struct ranges r = { 0 };
    int rc = dying && next && born && next_born ? ranges_init(&r, (size_t)t->n_bufs + 1, e)
             : err_set(e, WATT_ENOMEM, "training: work space of the memory plan");

    if (rc < 0)
        goto out;
    memset(dying, 0, ((size_t)t->n_phases + 1) * sizeof *dying);
    memset(born, 0, ((size_t)t->n_phases + 1) * sizeof *born);
    for (uint32_t i = 1; i < t->n_bufs; i++) {
        if (t->bufs[i].first == UINT32_MAX)
            continue;
        next[i] = dying[t->bufs[i].last];
        dying[t->bufs[i].last] = i;
        next_born[i] = born[t->bufs[i].first];
        born[t->bufs[i].first] = i;
    }
    for (uint32_t ph = 0; ph < t->n_phases; ph++) {
        for (uint32_t i = born[ph]; i; i = next_born[i])
            t->bufs[i].offset = ranges_take(&r, t->bufs[i].bytes);
        for (uint32_t i = dying[ph]; i; i = next[i])
            ranges_give(&r, t->bufs[i].offset, t->bufs[i].bytes);
    }
    t->arena_bytes = ALIGN64(r.peak);
out:
    ranges_deinit(&r);
    mem_free(dying);
    mem_free(next);
    mem_free(born);
    mem_free(next_born);
    return rc;
}

static void plan_scratch(struct train *t)
{
    t->worker_bytes = MATMUL_SCRATCH;
    for (uint32_t i = 0; i < t->n_items; i++) {
        const struct train_item *it = &t->items[i];
        uint64_t need = 0;

        if (it->kind == T_ATTENTION)
            need = train_attention_scratch(t, it->in);
        else if (it->kind == T_SCAN)
            need = train_scan_scratch(t, it->in);
        else if (it->kind == T_ROWS && it->in->op == OP_ROUTE)
            need = 8 * (uint64_t)it->in->a.route.n_experts * sizeof(double);
        else if (it->kind == T_ROWS || it->kind == T_DROP)      /* a row, and angles */
            need = 2 * sizeof(float) * (uint64_t)prog_value(t->own, it->in->dst[0])->width;
        if (ALIGN64(need) > t->worker_bytes)
            t->worker_bytes = ALIGN64(need);
    }
    for (wid w = 1; w <= prog_n_weights(t->own); w++)
        if (t->weight[w].turned.n_out * UINT64_C(8) > t->worker_bytes)
            t->worker_bytes = ALIGN64(t->weight[w].turned.n_out * UINT64_C(8));
}

static int list_reduced(struct train *t, struct err *e)
{
    t->reduced = mem_array((size_t)t->n_parts + 1, sizeof *t->reduced);
    if (!t->reduced)
        return err_set(e, WATT_ENOMEM, "training: list of sums");
    for (uint32_t i = 0; i < t->n_parts; i++) {
        uint32_t k = 0;

        while (k < t->n_reduced && t->reduced[k] != t->parts[i].w)
            k++;
        if (k == t->n_reduced)
            t->reduced[t->n_reduced++] = t->parts[i].w;
    }
    return 0;
}

int train_lower(struct train *t, struct err *e)
{
    int rc;

    for (wid w = 1; w <= prog_n_weights(t->own); w++)
        t->weight[w].written_at = UINT32_MAX;
    t->loss_in_place = loss_in_place(t);
    if (!gradient_bufs(t) || !lower_loss(t) || !lower_steps(t))
        return err_set(e, WATT_ENOMEM, "training: schedule");
    rc = plan_bufs(t, e);
    if (rc == 0)
        rc = plan_sort(t, e);
    if (rc == 0)
        rc = list_reduced(t, e);
    if (rc < 0)
        return rc;
    plan_scratch(t);
    t->region_bytes = t->arena_bytes + ALIGN64(t->part_floats * 4) +
                      t->worker_bytes * t->n_threads;
    if (t->dry)
        return 0;
    t->region = mem_map((size_t)t->region_bytes);
    if (!t->region)
        return err_set(e, WATT_ENOMEM, "training: %" PRIu64 " bytes of gradients of values",
                       t->region_bytes);
    t->part_at = (float *)(void *)(t->region + t->arena_bytes);
    t->worker_scratch = t->region + t->arena_bytes + ALIGN64(t->part_floats * 4);
    return 0;
}

static struct train_place place_of(const struct train *t, const struct reverse_ref *r)
{
    if (!r->buf)
        return (struct train_place){ NULL, 0 };
    if (t->loss_in_place && r->buf == t->rev.buf_of[prog_result(t->own)])
        return train_value(t, prog_result(t->own));
    return (struct train_place){
        (float *)(void *)(t->region + t->bufs[r->buf].offset) + r->col, t->rev.bufs[r->buf].width };
}

void train_resolve(struct train *t)
{
    for (uint32_t i = 0; i < t->n_items; i++) {
        struct train_item *it = &t->items[i];
        const struct reverse_ref result = { t->rev.buf_of[prog_result(t->own)], 0, 0 };

        if (it->kind == T_LOSS) {
            it->dy = place_of(t, &result);
            continue;
        }
        it->dy = place_of(t, &it->step->dy);
        for (int k = 0; k < PROG_MAX_SRC; k++)
            it->dst[k] = place_of(t, &it->step->dst[k]);
    }
}
