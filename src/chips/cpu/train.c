/* train.c: the executor that trains: opening, batches, and steps; see chips/train.h. */
#include "chips/train.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "chips/cpu/train_internal.h"

/* ---- a step ---- */

static void run_rows(struct train *t, const struct train_phase *ph, void *scratch)
{
    const uint32_t n = train_units(t, ph->extent), per = train_block_rows(n);

    for (size_t block; (block = team_next(t->team)) * per < n;)
        for (uint32_t u = (uint32_t)block * per; u < n && u < (block + 1) * per; u++)
            train_rows_unit(t, ph, u, (uint32_t)block, u == block * per, scratch);
}

static void run_loss(struct train *t)
{
    const struct train_item *it = &t->items[t->phases[0].first];

    for (size_t row; (row = team_next(t->team)) < t->batch.n_out;)
        train_loss_row(t, it, (uint32_t)row);
}

#define REDUCE_FLOATS 256u      /* of one task */

static uint32_t blocks_of(const struct train *t, const struct train_part *part)
{
    const uint32_t n = train_units(t, part->extent);

    return part->by_stream ? t->batch.n_streams : (n + train_block_rows(n) - 1) / train_block_rows(n);
}

static void add_blocks(struct train *t, const struct train_part *part, float *g, uint32_t from)
{
    const float *at = t->part_at + part->offset + from;
    const uint32_t n = part->n - from < REDUCE_FLOATS ? part->n - from : REDUCE_FLOATS;

    for (uint32_t b = 0; b < blocks_of(t, part); b++)
        t->x->k.add(g + from, g + from, at + (uint64_t)b * part->n, n);
}

/* The blocks' sums of every vector, in order of blocks, then of instructions. */
static void run_reduce(struct train *t)
{
    size_t base = 0, task = team_next(t->team);

    for (uint32_t i = 0; i < t->n_reduced; i++) {
        const struct train_param *pa = t->weight[t->reduced[i]].param;
        const size_t n = ((size_t)pa->n + REDUCE_FLOATS - 1) / REDUCE_FLOATS;

        for (; task - base < n; task = team_next(t->team))
            for (uint32_t k = 0; k < t->n_parts; k++)
                if (t->parts[k].w == t->reduced[i])
                    add_blocks(t, &t->parts[k], pa->g, (uint32_t)(task - base) * REDUCE_FLOATS);
        base += n;
    }
}

static void run_backward(struct train *t, unsigned worker, void *scratch)
{
    for (uint32_t i = 0; i < t->n_phases; i++) {
        const struct train_phase *ph = &t->phases[i];

        switch (ph->kind) {
        case TP_ROWS:      run_rows(t, ph, scratch); break;
        case TP_PRODUCTS:  train_products(t, ph, scratch); break;
        case TP_EMBED:     train_embed(t, ph); break;
        case TP_ATTENTION: train_attention(t, ph, scratch); break;
        case TP_SCAN:      train_scan(t, ph, scratch); break;
        case TP_SORT:      train_sort(t, ph); break;
        case TP_RERUN:     train_rerun(t, ph, worker); break;
        case TP_EXPERTS:   train_experts(t, ph, scratch); break;
        }
        team_barrier(t->team, worker);
    }
    run_reduce(t);
}

static void step_job(void *arg, unsigned worker)
{
    struct train *t = arg;
    void *scratch = t->worker_scratch + worker * t->worker_bytes;

    mem_guard_enter();
    exec_phases(t->x, worker);
    if (t->n_routes > 0) {
        train_balance(t);
        team_barrier(t->team, worker);
    }
    if (t->backward)
        run_backward(t, worker, scratch);
    else if (!t->logits_only)
        run_loss(t);
    mem_guard_leave();
}

/* ---- batches ---- */

static int check_streams(const struct train *t, const struct train_batch *b, struct err *e)
{
    uint64_t rows = 0;

    if (b->n_rows == 0 || b->n_rows > t->limits.max_rows)
        return err_set(e, WATT_EINVAL, "training: batch of %u rows, must be in 1..%u", b->n_rows,
                       t->limits.max_rows);
    if (b->n_streams == 0 || b->n_streams > t->limits.max_streams)
        return err_set(e, WATT_EINVAL, "training: batch of %u sequences, must be in 1..%u",
                       b->n_streams, t->limits.max_streams);
    for (uint32_t s = 0; s < b->n_streams; s++) {
        if (b->stream_rows[s] == 0)
            return err_set(e, WATT_EINVAL, "training: sequence %u is empty", s);
        rows += b->stream_rows[s];
    }
    if (rows != b->n_rows)
        return err_set(e, WATT_EINVAL, "training: sequences have %" PRIu64 " rows, the batch %u",
                       rows, b->n_rows);
    return 0;
}

static void set_streams(struct train *t, const struct train_batch *b)
{
    uint32_t row = 0, page = 0;

    t->n_later = 0;
    for (uint32_t s = 0; s < b->n_streams; s++) {
        t->streams[s] = (struct stream){ .first_row = row, .n_rows = b->stream_rows[s],
                                         .pages = t->pages + page,
                                         .fixed = t->fixed + s * t->fixed_floats };
        page += (b->stream_rows[s] + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
        for (uint32_t i = 0; i < b->stream_rows[s]; i++, row++) {
            t->row_stream[row] = s;
            if (i == 0)
                continue;
            t->later_row[t->n_later] = row;
            t->earlier_row[t->n_later++] = row - 1;
        }
    }
    if (t->fixed_floats)
        memset(t->fixed, 0, b->n_streams * t->fixed_floats * sizeof *t->fixed);
}

/* Rows that count; all: whatever their weight. */
static int set_targets(struct train *t, const struct train_batch *b, bool all, struct err *e)
{
    const uint32_t width = train_width(t, prog_result(t->own));
    uint32_t n = 0;

    for (uint32_t r = 0; r < b->n_rows; r++) {
        t->out_of[r] = UINT32_MAX;
        if (b->target[r] < 0 || (!all && b->weight && b->weight[r] == 0.0f))
            continue;
        if ((uint32_t)b->target[r] >= width)
            return err_set(e, WATT_EINVAL, "training: target %d of row %u is outside 0..%u",
                           b->target[r], r, width - 1);
        if (n == t->limits.max_out)
            return err_set(e, WATT_EINVAL, "training: more than %u rows with a target", n);
        t->out_of[r] = n;
        t->out_row[n++] = r;
    }
    if (n == 0)
        return err_set(e, WATT_EINVAL, "training: no row of the batch has a target");
    t->batch.n_out = n;
    return 0;
}

static int set_batch(struct train *t, const struct train_batch *b, bool all, struct err *e)
{
    int rc = check_streams(t, b, e);

    if (rc < 0)
        return rc;
    set_streams(t, b);
    t->b = b;
    t->batch = (struct batch){ .n_rows = b->n_rows, .n_streams = b->n_streams, .token = b->token,
                               .row_stream = t->row_stream, .streams = t->streams,
                               .out_row = t->out_row };
    rc = set_targets(t, b, all, e);
    if (rc == 0)
        rc = batch_check(&t->batch, t->own, &t->limits, e);
    t->x->b = &t->batch;
    t->x->kv_pages = t->kv_pages;
    t->x->dropout = t->backward ? t->o.dropout : 0.0f;
    t->x->attn_dropout = t->backward ? t->o.attn_dropout : 0.0f;
    t->x->drop_seed = rng_mix(t->o.seed ^ rng_mix(b->seed));
    return rc;
}

static int step(struct train *t, const struct train_batch *b, bool all, struct train_loss *out,
                struct err *e)
{
    int rc = set_batch(t, b, all, e);

    if (rc < 0)
        return rc;
    team_run(t->team, step_job, t);
    if (!t->logits_only)
        train_loss_sum(t, out);
    return 0;
}

int train_forward_backward(struct train *t, const struct train_batch *b, float scale,
                           struct train_loss *out, struct err *e)
{
    t->backward = true;
    t->scale = scale;
    return step(t, b, false, out, e);
}

int train_evaluate(struct train *t, const struct train_batch *b, struct train_loss *out,
                   struct err *e)
{
    t->backward = false;
    return step(t, b, false, out, e);
}

int train_logits(struct train *t, const struct train_batch *b, float *out, struct err *e)
{
    const val result = prog_result(t->own);
    const uint32_t width = train_width(t, result);
    struct train_loss loss;
    int rc;

    t->backward = false;
    t->logits_only = true;
    rc = step(t, b, true, &loss, e);
    t->logits_only = false;
    for (uint32_t r = 0; rc == 0 && r < t->batch.n_out; r++)
        memcpy(out + (size_t)r * width, train_row(train_value(t, result), r),
               width * sizeof *out);
    return rc;
}

/* ---- dropout: what is added to the residual stream, and where it begins ---- */

struct drops {
    const struct program *p;
    uint8_t *drop;
    uint32_t *readers;          /* [n_values + 1] by base */
    uint32_t *maker;            /* [n_values + 1] instruction that began the residual stream + 1 */
    bool *residual;             /* [n_values + 1] */
};

static bool is_base(const struct drops *d, val v)
{
    return prog_value(d->p, v)->base == v;
}

/* The operand that joins the residual stream, -1: the instruction is no such addition. */
static int branch_of(const struct drops *d, const struct instr *in)
{
    if (in->op != OP_ADD || in->n_src != 2 ||
        prog_value(d->p, in->src[0])->width != prog_value(d->p, in->src[1])->width ||
        d->residual[in->src[0]] == d->residual[in->src[1]])
        return -1;
    return d->residual[in->src[0]] ? 1 : 0;
}

static void mark_drop(struct drops *d, uint32_t i)
{
    const struct instr *in = prog_instr(d->p, i);
    const val a = in->n_src > 0 ? in->src[0] : 0;
    const int branch = in->n_src > 1 ? branch_of(d, in) : -1;

    if (branch >= 0) {
        const val v = in->src[branch];

        d->residual[in->dst[0]] = true;
        if (is_base(d, v) && d->readers[v] == 1)
            d->drop[i] = (uint8_t)(2u << branch);
        return;
    }
    if (in->op == OP_EMBED || (in->op == OP_ADD && in->n_src == 2 && d->residual[a] &&
                               d->residual[in->src[1]]) ||
        (in->op == OP_AFFINE && d->residual[a] && d->maker[a])) {
        d->residual[in->dst[0]] = true;         /* embeddings, added and scaled */
        d->drop[i] = 1;
        d->maker[in->dst[0]] = i + 1;
        for (int s = 0; s < in->n_src; s++)
            if (d->maker[in->src[s]])
                d->drop[d->maker[in->src[s]] - 1] = 0;
    } else if (in->op == OP_ROWS && d->residual[a]) {
        d->residual[in->dst[0]] = true;
    }
}

static int find_drops(struct train *t, struct err *e)
{
    const size_t n = (size_t)prog_n_values(t->own) + 1;
    struct drops d = { .p = t->own, .drop = t->drop, .readers = mem_calloc(n, sizeof *d.readers),
                       .maker = mem_calloc(n, sizeof *d.maker),
                       .residual = mem_calloc(n, sizeof *d.residual) };
    const bool ok = d.readers && d.maker && d.residual;

    for (uint32_t i = 0; ok && i < prog_n_instr(t->own); i++)
        for (int s = 0; s < prog_instr(t->own, i)->n_src; s++)
            d.readers[prog_value(t->own, prog_instr(t->own, i)->src[s])->base]++;
    for (uint32_t i = 0; ok && i < prog_n_instr(t->own); i++)
        mark_drop(&d, i);
    mem_free(d.readers);
    mem_free(d.maker);
    mem_free(d.residual);
    return ok ? 0 : err_set(e, WATT_ENOMEM, "training: places of dropout");
}

/* ---- opening ---- */

static int check_opts(const struct program *p, const struct train_opts *o, struct err *e)
{
    const val result = prog_result(p);

    if (o->compute != DTYPE_F32 && o->compute != DTYPE_BF16)
        return err_set(e, WATT_EINVAL, "training: compute type %s, must be F32 or BF16",
                       dtype_name(o->compute));
    if (o->kv != DTYPE_F32 && o->kv != DTYPE_F16 && o->kv != DTYPE_BF16)
        return err_set(e, WATT_EINVAL, "training: cache type %s, must be F32, F16 or BF16",
                       dtype_name(o->kv));
    if (o->max_rows == 0 || o->max_streams == 0 || o->max_streams > o->max_rows ||
        o->max_out > o->max_rows || o->max_rows > (1u << 19))
        return err_set(e, WATT_EINVAL, "training: at most %u rows in %u sequences, %u of them with "
                       "a target: rows must be in 1..2^19, the others in 1..rows", o->max_rows,
                       o->max_streams, o->max_out);
    if (!(o->dropout >= 0.0f && o->dropout < 1.0f))
        return err_set(e, WATT_EINVAL, "training: dropout %g, must be in 0..1",
                       (double)o->dropout);
    if (!(o->attn_dropout >= 0.0f && o->attn_dropout < 1.0f))
        return err_set(e, WATT_EINVAL, "training: dropout of attention %g, must be in 0..1",
                       (double)o->attn_dropout);
    if (!(o->balance >= 0.0f))
        return err_set(e, WATT_EINVAL, "training: load balance %g", (double)o->balance);
    if (prog_value(p, result)->extent != EXT_R || prog_value(p, result)->per != 1)
        return err_set(e, WATT_ENOTSUP, "training: the model's result is not logits of rows");
    return 0;
}

static void *zeros(size_t n, size_t size)
{
    return mem_calloc(n + 1, size);
}

static int open_batch(struct train *t, struct err *e)
{
    const struct exec_limits *l = &t->limits;
    const size_t n_pages = (size_t)l->max_rows / KV_PAGE_TOKENS + l->max_streams;

    t->streams = zeros(l->max_streams, sizeof *t->streams);
    t->row_stream = zeros(l->max_rows, sizeof *t->row_stream);
    t->out_row = zeros(l->max_rows, sizeof *t->out_row);
    t->out_of = zeros(l->max_rows, sizeof *t->out_of);
    t->later_row = zeros(l->max_rows, sizeof *t->later_row);
    t->earlier_row = zeros(l->max_rows, sizeof *t->earlier_row);
    t->pages = zeros(n_pages, sizeof *t->pages);
    t->row_loss = zeros(l->max_rows, sizeof *t->row_loss);
    t->row_right = zeros(l->max_rows, sizeof *t->row_right);
    for (sid s = 1; s <= prog_n_states(t->own); s++)
        t->fixed_floats += prog_state_at(t->own, s)->n_floats;
    if (!t->streams || !t->row_stream || !t->out_row || !t->out_of || !t->later_row ||
        !t->earlier_row || !t->pages || !t->row_loss || !t->row_right)
        return err_set(e, WATT_ENOMEM, "training: batch of %u rows", l->max_rows);
    for (size_t i = 0; i < n_pages; i++)
        t->pages[i] = (uint32_t)i;
    t->kv_bytes = n_pages * t->layout.page_bytes + 64;
    if (t->dry)
        return 0;
    t->kv_pages = mem_map((size_t)t->kv_bytes);
    t->fixed = mem_map((size_t)(t->fixed_floats * l->max_streams + 16) * sizeof *t->fixed);
    if (!t->kv_pages || !t->fixed)
        return err_set(e, WATT_ENOMEM, "training: %" PRIu64 " bytes of keys and values",
                       t->kv_bytes);
    return 0;
}

/* Forward, its memory planned (dry) or there. */
static int open_forward(struct train *t, struct err *e)
{
    const struct cpu_exec_opts o = { .team = t->team, .isa_mask = t->o.isa_mask };
    int rc = kv_layout_init(&t->layout, t->own, t->o.kv, t->o.kv, e);

    if (rc < 0)
        return rc;
    if (!t->dry) {
        train_copy_weights(t);
        rc = cpu_exec_open_keep(&t->exec, t->own, &t->layout, &t->limits, &o, t->drop, t->local, e);
        t->x = (struct cpu_exec *)(void *)t->exec;
        return rc;
    }
    t->x = mem_calloc(1, sizeof *t->x);
    if (!t->x)
        return err_set(e, WATT_ENOMEM, "training: header");
    t->x->p = t->own;
    t->x->s = (struct schedule){ .keep = true, .drop = t->drop, .local = t->local };
    return schedule_build(&t->x->s, t->own, &t->limits, t->n_threads, e);
}

static int open_parts(struct train *t, struct err *e)
{
    const uint32_t n_instr = prog_n_instr(t->p);
    int rc = train_weights_open(t, e);

    if (rc < 0)
        return rc;
    t->drop = zeros(n_instr, sizeof *t->drop);
    t->per_instr = zeros(n_instr, sizeof *t->per_instr);
    if (!t->drop || !t->per_instr)
        return err_set(e, WATT_ENOMEM, "training: header");
    if (t->o.dropout > 0.0f && (rc = find_drops(t, e)) < 0)
        return rc;
    rc = reverse_derive(&t->rev, t->own, t->trains, t->drop, e);
    if (rc == 0 && t->o.recompute)
        rc = train_local_open(t, e);
    if (rc == 0)
        rc = open_forward(t, e);
    if (rc == 0)
        rc = train_turned_open(t, e);
    if (rc == 0)
        rc = train_lower(t, e);
    if (rc == 0)
        rc = open_batch(t, e);
    return rc;
}

static int open_with(struct train **out, const struct program *p, const struct train_opts *o,
                     unsigned n_threads, bool dry, struct err *e)
{
    struct train *t;
    int rc = check_opts(p, o, e);

    if (rc < 0)
        return rc;
    t = mem_calloc(1, sizeof *t);
    if (!t)
        return err_set(e, WATT_ENOMEM, "training: header");
    t->p = p;
    t->o = *o;
    t->team = o->team;
    train_kernels_init(&t->k, o->isa_mask & cpu_features());
    t->n_threads = n_threads;
    t->dry = dry;
    t->limits = (struct exec_limits){ o->max_rows, o->max_streams,
                                      o->max_out ? o->max_out : o->max_rows };
    rc = open_parts(t, e);
    if (rc < 0) {
        train_close(t);
        return rc;
    }
    if (!dry) {
        train_resolve(t);
        train_turn_all(t);
    }
    *out = t;
    return 0;
}

int train_open(struct train **out, const struct program *p, const struct train_opts *o,
               struct err *e)
{
    return open_with(out, p, o, team_size(o->team), false, e);
}

int train_plan(const struct program *p, const struct train_opts *o, unsigned n_threads,
               struct train_memory *m, struct err *e)
{
    struct train *t;
    int rc = open_with(&t, p, o, n_threads, true, e);

    if (rc < 0)
        return rc;
    train_memory(t, m);
    train_close(t);
    return 0;
}

void train_memory(const struct train *t, struct train_memory *m)
{
    const struct schedule *s = &t->x->s;

    *m = (struct train_memory){
        .masters = t->n_trained * sizeof(float), .gradients = t->n_trained * sizeof(float),
        .prepared = t->bf16_bytes + t->turned_bytes + s->packed_bytes + s->vector_bytes,
        .values = s->arena_bytes + t->arena_bytes + t->kv_bytes +
                  t->fixed_floats * t->limits.max_streams * sizeof(float),
        .scratch = s->scratch_bytes + t->region_bytes - t->arena_bytes,
    };
}

static void close_batch(struct train *t)
{
    mem_free(t->streams);
    mem_free(t->row_stream);
    mem_free(t->out_row);
    mem_free(t->out_of);
    mem_free(t->later_row);
    mem_free(t->earlier_row);
    mem_free(t->pages);
    mem_free(t->row_loss);
    mem_free(t->row_right);
    mem_unmap(t->kv_pages, (size_t)t->kv_bytes);
    mem_unmap(t->fixed, (size_t)(t->fixed_floats * t->limits.max_streams + 16) * sizeof *t->fixed);
}

void train_close(struct train *t)
{
    if (!t)
        return;
    close_batch(t);
    exec_close(t->exec);
    if (!t->exec && t->x) {
        schedule_deinit(&t->x->s);
        mem_free(t->x);
    }
    train_weights_close(t);
    reverse_deinit(&t->rev);
    kv_layout_deinit(&t->layout);
    mem_unmap(t->region, (size_t)t->region_bytes);
    mem_free(t->drop);
    mem_free(t->items);
    mem_free(t->phases);
    mem_free(t->bufs);
    mem_free(t->parts);
    mem_free(t->reduced);
    mem_free(t->sort_memory);
    mem_free(t->balance);
    mem_free(t->routes);
    mem_free(t->per_instr);
    mem_free(t->local);
    mem_free(t->again_value);
    mem_free(t->again);
    mem_free(t);
}

double train_ops(const struct train *t, uint32_t n_rows, uint32_t n_streams, uint32_t n_out)
{
    struct prog_cost total;
    double ops = 0;

    prog_cost(t->own, n_rows, n_streams, 0, n_out, &total, t->per_instr);
    for (uint32_t i = 0; i < prog_n_instr(t->own); i++) {
        const enum op op = prog_instr(t->own, i)->op;

        if (op == OP_LINEAR || op == OP_EXPERT_LINEAR || op == OP_ATTENTION ||
            op == OP_SSM_SCAN || op == OP_CELL)
            ops += 3 * t->per_instr[i].ops;
    }
    return ops;
}
