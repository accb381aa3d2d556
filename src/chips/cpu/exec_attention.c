/* exec_attention.c: one attention of the CPU executor, cut into tasks: a block of queries
 * of one stream and KV head, and for long contexts read by few rows one segment of the
 * keys; their partials are merged after a barrier. The kernels fix the order of all sums,
 * so the cut changes nothing. */
#include "chips/cpu/exec_internal.h"

#define SPLIT_MAX_ROWS 4u       /* more rows than that keep the workers busy by themselves */

/* How the work on one stream is cut; derived afresh by each worker from the batch. */
struct cut {
    uint32_t heads_per_task, head_blocks, rows_per_task, row_blocks;
    uint32_t n_keys, n_segments;    /* 1: not split */
    size_t   partial;               /* first float of the stream's partials */
    size_t   n_tasks;
};

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

static size_t partial_floats(const struct attn_args *a)
{
    return (size_t)a->v_dim + 2;
}

/* used: floats of the partial buffer that streams before this one took. */
static struct cut cut_stream(const struct cpu_exec *x, const struct attn_args *a,
                             const struct stream *s, size_t *used)
{
    const uint32_t group = a->n_heads / a->n_kv_heads;
    struct cut c = { .n_keys = s->n_past + s->n_rows, .n_segments = 1, .partial = *used };
    size_t need;

    c.heads_per_task = group < ATTN_MAX_QUERIES ? group : ATTN_MAX_QUERIES;
    c.head_blocks = ceil_div(group, c.heads_per_task);
    c.rows_per_task = ATTN_MAX_QUERIES / c.heads_per_task;
    c.row_blocks = ceil_div(s->n_rows, c.rows_per_task);
    if (s->n_rows <= SPLIT_MAX_ROWS && c.n_keys > ATTN_SEGMENT_TOKENS) {
        const uint32_t n = ceil_div(c.n_keys, ATTN_SEGMENT_TOKENS);

        need = (size_t)s->n_rows * a->n_heads * n * partial_floats(a);
        if (need <= x->s.partial_floats - *used) {
            c.n_segments = n;
            *used += need;
        }
    }
    c.n_tasks = (size_t)a->n_kv_heads * c.head_blocks * c.row_blocks * c.n_segments;
    return c;
}

static struct attn_task task_of(struct cpu_exec *x, const struct item *it, const struct stream *s,
                                const struct cut *c, size_t task, void *scratch)
{
    const struct attn_args *a = &it->in->a.attn;
    const uint32_t group = a->n_heads / a->n_kv_heads;
    struct attn_task t = { .args = a, .layout = x->layout, .state = it->in->state,
                           .kv_pages = x->kv_pages, .pages = s->pages, .n_keys = c->n_keys,
                           .sinks = x->vector[it->in->w[0]], .scratch = scratch };
    uint32_t row;

    t.slopes = x->slopes[it->in - prog_instr(x->p, 0)];
    t.relative = x->relative[it->in - prog_instr(x->p, 0)];
    t.segment = (uint32_t)(task % c->n_segments);
    task /= c->n_segments;
    t.first_head = (uint32_t)(task % c->head_blocks) * c->heads_per_task;
    t.n_heads = group - t.first_head < c->heads_per_task ? group - t.first_head
                                                         : c->heads_per_task;
    task /= c->head_blocks;
    t.kv_head = (uint32_t)(task % a->n_kv_heads);
    row = (uint32_t)(task / a->n_kv_heads) * c->rows_per_task;
    t.n_rows = s->n_rows - row < c->rows_per_task ? s->n_rows - row : c->rows_per_task;
    t.first_pos = s->n_past + row;
    t.q = it->src[0] + (size_t)(s->first_row + row) * it->src_stride[0];
    t.q_stride = it->src_stride[0];
    t.out = it->dst + (size_t)(s->first_row + row) * it->dst_stride;
    t.out_stride = it->dst_stride;
    t.drop = drop_of(x->k.drop, x->drop_seed, (uint32_t)(it->in - prog_instr(x->p, 0)),
                     ATTN_DROP_OPERAND, x->attn_dropout);
    t.drop_row = (uint64_t)(s->first_row + row) * a->n_heads;
    if (c->n_segments > 1) {
        /* partials: [row][head of the model][segment]; queries of a task are head after
         * head of one row, so several rows only come with all heads of the group */
        const size_t head = (size_t)row * a->n_heads + (size_t)t.kv_head * group + t.first_head;

        t.partial = x->partials + c->partial + head * c->n_segments * partial_floats(a);
        t.partial_stride = c->n_segments * partial_floats(a);
    }
    return t;
}

/* Rows of one task are group heads apart in the partials only when there is one KV head;
 * otherwise a task of a split stream takes one row. */
static void one_row_per_task(const struct stream *s, const struct attn_args *a, struct cut *c)
{
    if (c->n_segments == 1)
        return;
    c->rows_per_task = 1;
    c->row_blocks = s->n_rows;
    c->n_tasks = (size_t)a->n_kv_heads * c->head_blocks * c->row_blocks * c->n_segments;
}

void exec_attention(struct cpu_exec *x, const struct phase *ph, unsigned worker, void *scratch)
{
    const struct item *it = &x->s.items[ph->first];
    const struct attn_args *a = &it->in->a.attn;
    const uint32_t n_streams = x->b->n_streams;
    size_t base = 0, used = 0;
    struct cut c = { 0 };
    uint32_t s = 0;
    bool split = false;

    for (uint32_t i = 0; i < n_streams; i++) {
        c = cut_stream(x, a, &x->b->streams[i], &used);
        split |= c.n_segments > 1;
    }
    used = 0;
    c = cut_stream(x, a, &x->b->streams[0], &used);
    one_row_per_task(&x->b->streams[0], a, &c);
    for (size_t task = team_next(x->team); s < n_streams; task = team_next(x->team)) {
        struct attn_task t;

        while (task - base >= c.n_tasks) {
            base += c.n_tasks;
            if (++s == n_streams)
                break;
            c = cut_stream(x, a, &x->b->streams[s], &used);
            one_row_per_task(&x->b->streams[s], a, &c);
        }
        if (s == n_streams)
            break;
        t = task_of(x, it, &x->b->streams[s], &c, task - base, scratch);
        if (c.n_segments > 1) {         /* a window may leave a segment without a key */
            t.partial += t.segment * partial_floats(a);
        }
        x->k.attention(&t);
    }
    if (!split)
        return;
    team_barrier(x->team, worker);
    used = base = 0;
    s = 0;
    c = cut_stream(x, a, &x->b->streams[0], &used);
    one_row_per_task(&x->b->streams[0], a, &c);
    for (size_t task = team_next(x->team); s < n_streams; task = team_next(x->team)) {
        struct attn_task t;

        for (;;) {
            const size_t n = c.n_segments > 1 ? c.n_tasks / c.n_segments : 0;

            if (task - base < n)
                break;
            base += n;
            if (++s == n_streams)
                return;
            c = cut_stream(x, a, &x->b->streams[s], &used);
            one_row_per_task(&x->b->streams[s], a, &c);
        }
        t = task_of(x, it, &x->b->streams[s], &c, (task - base) * c.n_segments, scratch);
        x->k.attention_merge(&t, c.n_segments, partial_floats(a));
    }
}
