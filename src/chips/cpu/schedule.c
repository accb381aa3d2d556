/* schedule.c: lowers a program to items in phases and plans the executor's memory; what
 * items and phases are stands in exec_internal.h.
 *
 * An item goes to the earliest open phase that is of its kind and lies behind
 * everything it reads. Only the last LOOK_BACK phases are open, so that work stays
 * near its use and values stay short-lived. */
#include <string.h>

#include "base/mem.h"
#include "chips/cpu/exec_internal.h"
#include "chips/passes/ranges.h"
#include "chips/route.h"

#define LOOK_BACK 8u
#define PREPARED_BACK 16u   /* prepared rows that a later product may still share */
#define ALIGN64(n) (((uint64_t)(n) + 63) & ~UINT64_C(63))

static val base_of(const struct schedule *s, val v)
{
    return prog_value(s->p, v)->base;
}

static enum extent extent_of(const struct schedule *s, val v)
{
    return prog_value(s->p, v)->extent;
}

/* Doubles an array before it overflows. */
static bool make_room(void **array, uint32_t n, uint32_t *cap, size_t size)
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

static bool add_phase(struct schedule *s, const struct phase *ph)
{
    if (!make_room((void **)&s->phases, s->n_phases, &s->cap_phases, sizeof *s->phases))
        return false;
    s->phases[s->n_phases++] = *ph;
    return true;
}

/* Is ph a phase that an item wanting `want` can join? */
static bool joins(const struct phase *ph, const struct phase *want)
{
    if (ph->kind != want->kind || want->kind == PHASE_ATTENTION || want->kind == PHASE_SORT ||
        want->kind == PHASE_SCAN)
        return false;
    if (want->kind == PHASE_ROWS)
        return ph->extent == want->extent;
    return ph->src == want->src && ph->ids == want->ids;
}

/* Puts an item into the first phase from `from` on that it can join, or a new one.
 * NO_PHASE when memory is short. */
static uint32_t put(struct schedule *s, struct item it, uint32_t from, const struct phase *want)
{
    uint32_t ph = s->n_phases > LOOK_BACK ? s->n_phases - LOOK_BACK : 0;

    ph = ph > from ? ph : from;
    while (ph < s->n_phases && !joins(&s->phases[ph], want))
        ph++;
    if (ph >= s->n_phases) {
        struct phase fresh = *want;

        fresh.first = fresh.last = NO_PHASE;
        if (!add_phase(s, &fresh))
            return NO_PHASE;
        ph = s->n_phases - 1;
    }
    if (!make_room((void **)&s->items, s->n_items, &s->cap_items, sizeof *s->items))
        return NO_PHASE;
    it.phase = ph;
    it.next = NO_PHASE;
    if (s->phases[ph].last == NO_PHASE)
        s->phases[ph].first = s->n_items;
    else
        s->items[s->phases[ph].last].next = s->n_items;
    s->phases[ph].last = s->n_items;
    s->items[s->n_items++] = it;
    return ph;
}

/* First phase in which an item of a row phase (or another kind) may read v. */
static uint32_t ready(const struct schedule *s, val v, bool for_rows)
{
    const uint32_t ph = s->value_phase[base_of(s, v)];

    if (ph == NO_PHASE)
        return 0;
    if (for_rows && s->phases[ph].kind == PHASE_ROWS && s->phases[ph].extent == extent_of(s, v))
        return ph;
    return ph + 1;
}

static uint32_t later(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static void touch(struct schedule *s, val v, uint32_t ph)
{
    const val b = base_of(s, v);

    if (s->value_last[b] == NO_PHASE || s->value_last[b] < ph)
        s->value_last[b] = ph;
}

static void made(struct schedule *s, val v, uint32_t ph)
{
    s->value_phase[base_of(s, v)] = ph;
    touch(s, v, ph);
}

static bool row_item(struct schedule *s, enum item_kind kind, const struct instr *in,
                     enum extent extent, uint32_t index, uint32_t from, uint32_t *ph)
{
    const struct phase want = { .kind = PHASE_ROWS, .extent = extent };
    const struct item it = { .kind = kind, .in = in, .index = index };

    *ph = put(s, it, from, &want);
    return *ph != NO_PHASE;
}

/* A row-wise instruction: reads of the same extent stay in the chain, OP_ROWS changes it. */
static bool lower_rowwise(struct schedule *s, const struct instr *in, uint32_t index,
                          uint32_t from)
{
    const enum extent extent = extent_of(s, in->dst[0]);
    const uint8_t drop = s->drop ? s->drop[in - prog_instr(s->p, 0)] : 0;
    uint32_t ph;

    for (int i = 0; i < in->n_src; i++)
        from = later(from, ready(s, in->src[i], extent_of(s, in->src[i]) == extent));
    for (uint32_t i = 0; i < 2; i++)
        if (drop >> (i + 1) & 1) {
            if (!row_item(s, ITEM_DROP, in, extent, i, from, &from))
                return false;
        }
    if (!row_item(s, ITEM_INSTR, in, extent, index, from, &ph) ||
        ((drop & 1) && !row_item(s, ITEM_DROP, in, extent, PROG_MAX_SRC, ph, &ph)))
        return false;
    for (int i = 0; i < in->n_src; i++)
        touch(s, in->src[i], ph);
    for (int i = 0; i < in->n_dst; i++)
        made(s, in->dst[i], ph);
    return true;
}

static bool same_rope(const struct rope_args *a, const struct rope_args *b)
{
    return a->n_rot == b->n_rot && a->base == b->base && a->freq_scale == b->freq_scale &&
           a->ext_factor == b->ext_factor && a->attn_factor == b->attn_factor &&
           a->beta_fast == b->beta_fast && a->beta_slow == b->beta_slow &&
           a->n_ctx_orig == b->n_ctx_orig && a->interleaved == b->interleaved &&
           a->yarn_smooth == b->yarn_smooth &&
           memcmp(a->sections, b->sections, sizeof a->sections) == 0;
}

/* The table of a rotation; a new one is filled as early as a row phase is open, in front
 * of the rotation in the chain of the same row. */
static bool rope_of(struct schedule *s, const struct instr *in, uint32_t *index, uint32_t *ready_at)
{
    struct rope_table *bigger;
    uint32_t ph;

    for (uint32_t i = 0; i < s->n_ropes; i++)
        if (s->ropes[i].factors == in->w[0] && same_rope(&s->ropes[i].args, &in->a.rope)) {
            *index = i;
            *ready_at = s->ropes[i].phase;
            return true;
        }
    bigger = mem_grow(s->ropes, s->n_ropes + 1u, sizeof *s->ropes);
    if (!bigger)
        return false;
    s->ropes = bigger;
    *index = s->n_ropes;
    if (!row_item(s, ITEM_ROPE_TABLE, in, EXT_N, *index, 0, &ph))
        return false;
    s->ropes[s->n_ropes++] = (struct rope_table){ .args = in->a.rope, .factors = in->w[0],
                                                  .phase = ph };
    *ready_at = ph;
    return true;
}

/* The buffer that holds v in `format`, made in the earliest row phase possible. */
static bool prepared_of(struct schedule *s, val v, enum act_format format,
                        const struct instr *in, uint32_t *index, uint32_t *ready_at)
{
    struct prepared *bigger;
    uint32_t ph;

    *ready_at = ready(s, v, false);
    *index = 0;
    if (exec_reads_value(s->p, v, format))
        return true;
    for (uint32_t i = s->n_prepared; i-- > 0 && s->n_prepared - i <= PREPARED_BACK;)
        if (s->prepared[i].value == v && s->prepared[i].format == format) {
            *index = i;
            *ready_at = s->prepared[i].phase + 1;
            return true;
        }
    bigger = mem_grow(s->prepared, s->n_prepared + 1u, sizeof *s->prepared);
    if (!bigger)
        return false;
    s->prepared = bigger;
    s->prepared[s->n_prepared] = (struct prepared){
        .value = v, .format = format, .stride = act_row_bytes(format, prog_value(s->p, v)->width) };
    *index = s->n_prepared++;
    if (!row_item(s, ITEM_PREPARE, in, extent_of(s, v), *index, ready(s, v, true), &ph))
        return false;
    s->items[s->n_items - 1].format = format;
    s->prepared[*index].phase = ph;
    touch(s, v, ph);
    *ready_at = ph + 1;
    return true;
}

/* The slots of in's ids by expert: one phase for all products that share the ids. */
static bool sort_of(struct schedule *s, const struct instr *in, uint32_t *buffer, uint32_t *at)
{
    const struct phase want = { .kind = PHASE_SORT, .ids = in->src[1] };
    struct item it = { .kind = ITEM_SORT, .in = in };
    struct sort_phase *bigger;
    uint32_t i = s->n_sorts;

    while (i > 0 && s->n_sorts - i < SORT_BUFFERS && s->sorts[i - 1].ids != in->src[1])
        i--;
    if (i > 0 && s->n_sorts - i < SORT_BUFFERS && s->sorts[i - 1].ids == in->src[1]) {
        *buffer = (i - 1) % SORT_BUFFERS;
        *at = s->sorts[i - 1].phase;
        return true;
    }
    bigger = mem_grow(s->sorts, s->n_sorts + 1u, sizeof *s->sorts);
    if (!bigger)
        return false;
    s->sorts = bigger;
    *buffer = it.sort = s->n_sorts % SORT_BUFFERS;
    /* behind everything that may still read the buffer's last content */
    *at = put(s, it, later(ready(s, in->src[1], false), s->n_sorts >= SORT_BUFFERS
                                                            ? s->n_phases : 0), &want);
    if (*at == NO_PHASE)
        return false;
    s->sorts[s->n_sorts++] = (struct sort_phase){ in->src[1], *at };
    touch(s, in->src[1], *at);
    return true;
}

static bool lower_product(struct schedule *s, const struct instr *in)
{
    const bool expert = in->op == OP_EXPERT_LINEAR;
    const enum act_format format = s->packed[in->w[0]].act;
    struct phase want = { .kind = expert ? PHASE_EXPERTS : PHASE_PRODUCTS, .src = in->src[0],
                          .ids = expert ? in->src[1] : 0 };
    struct item it = { .kind = expert ? ITEM_EXPERT_PRODUCT : ITEM_PRODUCT, .in = in,
                       .format = format };
    uint32_t from, ph;

    if (!prepared_of(s, in->src[0], format, in, &it.index, &from))
        return false;
    if (expert) {
        uint32_t sorted_at;

        if (!sort_of(s, in, &it.sort, &sorted_at))
            return false;
        from = later(from, sorted_at + 1);
    }
    ph = put(s, it, from, &want);
    if (ph == NO_PHASE)
        return false;
    touch(s, in->src[0], ph);
    if (expert)
        touch(s, in->src[1], ph);
    made(s, in->dst[0], ph);
    if (in->w[1] || in->w[2] || (!expert && in->a.linear.scale != 0.0f &&
                                 in->a.linear.scale != 1.0f)) {
        if (!row_item(s, ITEM_FINISH, in, extent_of(s, in->dst[0]), 0, ph + 1, &ph))
            return false;
        if (expert)
            touch(s, in->src[1], ph);
        made(s, in->dst[0], ph);
    }
    return true;
}

static bool lower_attention(struct schedule *s, const struct instr *in)
{
    const struct phase want = { .kind = PHASE_ATTENTION };
    const struct item it = { .kind = ITEM_ATTENTION, .in = in };
    uint32_t from = ready(s, in->src[0], false), ph;

    if (in->n_src == 3) {
        const uint32_t kv = later(ready(s, in->src[1], true), ready(s, in->src[2], true));

        if (!row_item(s, ITEM_KV_STORE, in, EXT_N, 0, kv, &ph))
            return false;
        touch(s, in->src[1], ph);
        touch(s, in->src[2], ph);
        s->state_phase[in->state] = ph;
    }
    if (s->state_phase[in->state] != NO_PHASE)
        from = later(from, s->state_phase[in->state] + 1);
    ph = put(s, it, from, &want);
    if (ph == NO_PHASE)
        return false;
    touch(s, in->src[0], ph);
    made(s, in->dst[0], ph);
    return true;
}

/* One instruction per state, so nothing but the operands orders scans. */
static bool lower_scan(struct schedule *s, const struct instr *in)
{
    const struct phase want = { .kind = PHASE_SCAN };
    const struct item it = { .kind = ITEM_SCAN, .in = in };
    uint32_t from = 0, ph;

    for (int i = 0; i < in->n_src; i++)
        from = later(from, ready(s, in->src[i], false));
    ph = put(s, it, from, &want);
    if (ph == NO_PHASE)
        return false;
    for (int i = 0; i < in->n_src; i++)
        touch(s, in->src[i], ph);
    made(s, in->dst[0], ph);
    return true;
}

static bool lower(struct schedule *s, const struct instr *in)
{
    uint32_t index = 0, from = 0;

    switch (in->op) {
    case OP_LINEAR:
    case OP_EXPERT_LINEAR:
        return lower_product(s, in);
    case OP_ATTENTION:
        return lower_attention(s, in);
    case OP_SHORT_CONV:
    case OP_SSM_SCAN:
    case OP_DELTA_RULE:
    case OP_LINEAR_ATTENTION:
    case OP_WKV:
    case OP_SHIFT:
    case OP_CELL:
        return lower_scan(s, in);
    case OP_ROPE:
        return rope_of(s, in, &index, &from) && lower_rowwise(s, in, index, from);
    default:
        return lower_rowwise(s, in, index, from);
    }
}

/* ---- memory ---- */

static uint64_t value_bytes(const struct schedule *s, val v)
{
    const struct prog_value *x = prog_value(s->p, v);

    return ALIGN64((uint64_t)prog_rows_of(x, s->limits.max_rows, s->limits.max_streams,
                                          s->limits.max_out) * x->width * 4);
}

/* Every value apart; those that are made again per layer in one of two regions, which layers take
 * in turn: a layer's last phase may be its neighbour's first. */
static int plan_kept(struct schedule *s, struct err *e)
{
    const uint32_t n = prog_n_values(s->p);
    uint64_t kept = 0, local = 0;

    for (val v = 1; v <= n; v++) {
        uint64_t before = 0;

        if (base_of(s, v) != v || s->value_phase[v] == NO_PHASE)
            continue;
        if (!s->local || s->local[v] == UINT32_MAX) {
            s->offset[v] = kept;
            kept += value_bytes(s, v);
            continue;
        }
        for (val u = 1; u < v; u++)     /* the layer's values in front of it */
            if (base_of(s, u) == u && s->local[u] == s->local[v] && s->value_phase[u] != NO_PHASE)
                before += value_bytes(s, u);
        s->offset[v] = before;
        local = before + value_bytes(s, v) > local ? before + value_bytes(s, v) : local;
    }
    if (kept > UINT64_MAX / 4 || local > UINT64_MAX / 4)
        return err_set(e, WATT_ELIMIT, "executor: values of a step exceed 2^62 bytes");
    s->arena_bytes = kept + 2 * local;
    for (val v = 1; v <= n; v++)
        if (base_of(s, v) == v && s->local && s->local[v] != UINT32_MAX)
            s->offset[v] += kept + (s->local[v] % 2) * local;
    for (val v = 1; v <= n; v++)
        if (base_of(s, v) != v)
            s->offset[v] = s->offset[base_of(s, v)] + 4u * (uint64_t)prog_value(s->p, v)->col;
    return 0;
}

/* Places values by the phases they live in. */
static int plan_values(struct schedule *s, struct err *e)
{
    const uint32_t n = prog_n_values(s->p);
    const val result = base_of(s, prog_result(s->p));
    val *next = mem_calloc((size_t)n + 1, sizeof *next);
    val *dying = mem_calloc((size_t)s->n_phases + 1, sizeof *dying);    /* lists by phase */
    struct ranges r = { 0 };
    int rc = next && dying ? ranges_init(&r, (size_t)n + 1, e)
                           : err_set(e, WATT_ENOMEM, "executor: work space of the memory plan");

    if (rc < 0)
        goto out;
    for (val v = 1; v <= n; v++)
        if (base_of(s, v) == v && s->value_last[v] != NO_PHASE && v != result) {
            next[v] = dying[s->value_last[v]];
            dying[s->value_last[v]] = v;
        }
    for (uint32_t ph = 0; ph < s->n_phases; ph++) {
        for (uint32_t i = s->phases[ph].first; i != NO_PHASE; i = s->items[i].next) {
            const struct item *it = &s->items[i];

            if (it->kind != ITEM_INSTR && it->kind != ITEM_PRODUCT &&
                it->kind != ITEM_EXPERT_PRODUCT && it->kind != ITEM_ATTENTION &&
                it->kind != ITEM_SCAN)
                continue;
            for (int d = 0; d < it->in->n_dst; d++)
                s->offset[it->in->dst[d]] = ranges_take(&r, value_bytes(s, it->in->dst[d]));
        }
        for (val v = dying[ph]; v; v = next[v])
            ranges_give(&r, s->offset[v], value_bytes(s, v));
    }
    s->arena_bytes = r.peak;
    for (val v = 1; v <= n; v++)
        if (base_of(s, v) != v)
            s->offset[v] = s->offset[base_of(s, v)] + 4u * (uint64_t)prog_value(s->p, v)->col;
out:
    ranges_deinit(&r);
    mem_free(next);
    mem_free(dying);
    return rc;
}

static uint64_t prepared_size(const struct schedule *s, uint32_t i)
{
    const struct prog_value *x = prog_value(s->p, s->prepared[i].value);

    return ALIGN64((uint64_t)s->prepared[i].stride *
                   prog_rows_of(x, s->limits.max_rows, s->limits.max_streams, s->limits.max_out));
}

/* Prepared rows live from their phase to the last product that reads them. */
static int plan_prepared(struct schedule *s, struct err *e)
{
    const size_t n = s->n_prepared;
    uint32_t *last = mem_calloc(n + 1, sizeof *last);
    uint32_t *next = mem_calloc(n + 1, sizeof *next);       /* index + 1; lists by phase */
    uint32_t *dying = mem_calloc((size_t)s->n_phases + 1, sizeof *dying);
    struct ranges r = { 0 };
    int rc = 0;

    s->prepared_offset = mem_calloc(n + 1, sizeof *s->prepared_offset);
    if (!last || !next || !dying || !s->prepared_offset)
        rc = err_set(e, WATT_ENOMEM, "executor: work space of the memory plan");
    if (rc == 0)
        rc = ranges_init(&r, n + 1, e);
    if (rc < 0)
        goto out;
    for (uint32_t i = 0; i < s->n_items; i++) {
        const struct item *it = &s->items[i];

        if ((it->kind == ITEM_PRODUCT || it->kind == ITEM_EXPERT_PRODUCT) &&
            !exec_reads_value(s->p, it->in->src[0], it->format) && it->phase > last[it->index])
            last[it->index] = it->phase;
    }
    for (uint32_t i = 0; i < n; i++) {
        next[i] = dying[last[i]];
        dying[last[i]] = i + 1;
    }
    for (uint32_t ph = 0; ph < s->n_phases; ph++) {
        for (uint32_t i = s->phases[ph].first; i != NO_PHASE; i = s->items[i].next)
            if (s->items[i].kind == ITEM_PREPARE)
                s->prepared_offset[s->items[i].index] =
                    ranges_take(&r, prepared_size(s, s->items[i].index));
        for (uint32_t i = dying[ph]; i; i = next[i - 1])
            ranges_give(&r, s->prepared_offset[i - 1], prepared_size(s, i - 1));
    }
    s->prepared_bytes = r.peak;
out:
    ranges_deinit(&r);
    mem_free(last);
    mem_free(next);
    mem_free(dying);
    return rc;
}

static void plan_scratch(struct schedule *s, uint32_t n_threads)
{
    uint64_t worker = MATMUL_SCRATCH, order = 0, partial = 0;
    uint32_t experts = 0;

    for (uint32_t i = 0; i < s->n_items; i++) {
        const struct instr *in = s->items[i].in;

        if (s->items[i].kind == ITEM_ATTENTION) {
            const struct attn_args *a = &in->a.attn;
            const uint64_t need = ALIGN64(attn_scratch_bytes(a->k_dim, a->v_dim));
            const uint64_t part = (uint64_t)a->n_heads * (a->v_dim + 2u) * 64 *
                                  s->limits.max_streams;

            worker = need > worker ? need : worker;
            partial = part > partial ? part : partial;
        } else if (s->items[i].kind == ITEM_SCAN) {
            const uint64_t need = ALIGN64(exec_scan_scratch(in));

            worker = need > worker ? need : worker;
        } else if (s->items[i].kind == ITEM_SORT) {
            const struct prog_value *ids = prog_value(s->p, in->src[1]);
            const uint32_t n = (uint32_t)prog_weight_at(s->p, in->w[0])->t.shape[0];
            const uint64_t slots = (uint64_t)prog_rows_of(ids, s->limits.max_rows,
                                                          s->limits.max_streams,
                                                          s->limits.max_out) * ids->width;

            order = slots > order ? slots : order;
            experts = n > experts ? n : experts;
        } else if (s->items[i].kind == ITEM_INSTR && in->op == OP_ROUTE) {
            const uint64_t need = ALIGN64(route_scratch(&in->a.route) * sizeof(double));

            worker = need > worker ? need : worker;
        }
    }
    s->partial_floats = partial < PARTIAL_MAX_FLOATS ? partial : PARTIAL_MAX_FLOATS;
    s->worker_bytes = worker;
    if (experts > 0) {
        s->sort_start_bytes = ALIGN64((experts + 1u) * 4u);
        s->sort_slot_bytes = ALIGN64(order * 4);
        s->sort_bytes = SORT_BUFFERS * (s->sort_start_bytes + 2 * s->sort_slot_bytes);
    }
    for (uint32_t i = 0; i < s->n_ropes; i++)
        s->rope_bytes += ALIGN64((uint64_t)s->limits.max_rows * s->ropes[i].args.n_rot * 4);
    s->scratch_bytes = s->prepared_bytes + s->rope_bytes + s->sort_bytes +
                       ALIGN64(s->partial_floats * 4) + worker * n_threads;
}

static int describe_weights(struct schedule *s, struct err *e)
{
    for (wid w = 1; w <= prog_n_weights(s->p); w++) {
        const struct prog_weight *pw = prog_weight_at(s->p, w);
        int rc;

        if (pw->uses & USE_VECTOR)
            s->vector_bytes += ALIGN64((uint64_t)tensor_elems(&pw->t) * 4);
        if (!(pw->uses & USE_MATRIX))
            continue;
        rc = pack_describe(&s->packed[w], &pw->t, e);
        if (rc < 0)
            return err_prefix(e, "tensor %s", pw->name);
        if (!s->packed[w].raw)
            s->packed_bytes += ALIGN64(pack_bytes(&s->packed[w]));
    }
    return 0;
}

int schedule_build(struct schedule *s, const struct program *p, const struct exec_limits *limits,
                   uint32_t n_threads, struct err *e)
{
    const size_t n_values = prog_n_values(p), n_states = prog_n_states(p);
    int rc;

    s->p = p;
    s->limits = *limits;
    s->value_phase = mem_array(n_values + 1, sizeof *s->value_phase);
    s->value_last = mem_array(n_values + 1, sizeof *s->value_last);
    s->state_phase = mem_array(n_states + 1, sizeof *s->state_phase);
    s->packed = mem_calloc((size_t)prog_n_weights(p) + 1, sizeof *s->packed);
    s->offset = mem_calloc(n_values + 1, sizeof *s->offset);
    if (!s->value_phase || !s->value_last || !s->state_phase || !s->packed || !s->offset)
        goto no_memory;
    memset(s->value_phase, 0xFF, (n_values + 1) * sizeof *s->value_phase);
    memset(s->value_last, 0xFF, (n_values + 1) * sizeof *s->value_last);
    memset(s->state_phase, 0xFF, (n_states + 1) * sizeof *s->state_phase);
    rc = describe_weights(s, e);
    if (rc < 0)
        goto fail;
    for (uint32_t i = 0; i < prog_n_instr(p); i++)
        if (!lower(s, prog_instr(p, i)))
            goto no_memory;
    rc = s->keep ? plan_kept(s, e) : plan_values(s, e);
    if (rc == 0)
        rc = plan_prepared(s, e);
    if (rc < 0)
        goto fail;
    plan_scratch(s, n_threads);
    return 0;
no_memory:
    rc = err_set(e, WATT_ENOMEM, "executor: schedule of %u instructions", prog_n_instr(p));
fail:
    schedule_deinit(s);
    return rc;
}

void schedule_deinit(struct schedule *s)
{
    for (uint32_t i = 0; i < s->n_ropes; i++)
        mem_free(s->ropes[i].freq);
    mem_free(s->items);
    mem_free(s->phases);
    mem_free(s->ropes);
    mem_free(s->prepared);
    mem_free(s->sorts);
    mem_free(s->value_phase);
    mem_free(s->value_last);
    mem_free(s->state_phase);
    mem_free(s->packed);
    mem_free(s->offset);
    mem_free(s->prepared_offset);
    *s = (struct schedule){ 0 };
}
