/* exec_products.c: matrix products of the CPU executor, plain and by expert, cut into
 * tasks of some panels times some rows. The cut follows the shape alone; kernels give the
 * same bits for any cut. */
#include <string.h>

#include "chips/cpu/exec_internal.h"

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

static uint32_t rows_of(const struct cpu_exec *x, val v)
{
    const struct prog_value *p = prog_value(x->p, v);

    return prog_rows_of(p, x->b->n_rows, x->b->n_streams, x->b->n_out);
}

/* Where a product reads its activations. */
static void set_act(const struct cpu_exec *x, const struct item *it, struct matmul_args *m)
{
    if (exec_reads_value(x->p, it->in->src[0], it->format)) {
        m->act = it->src[0];
        m->act_stride = (size_t)it->src_stride[0] * sizeof(float);
    } else {
        m->act = x->s.prepared[it->index].rows;
        m->act_stride = x->s.prepared[it->index].stride;
    }
}

static size_t n_tasks(const struct packed *w, uint32_t rows)
{
    const struct matmul_cut cut = rows ? matmul_cut(w, rows) : (struct matmul_cut){ 1, 1 };

    return (size_t)ceil_div(w->n_panels, cut.panels) * ceil_div(rows, cut.rows);
}

/* Most tasks that a worker takes at once: a call copies its rows into tiles before it begins, so
 * neighbouring tasks of the same rows cost less as one call. One row has no tiles. */
static size_t run_of(uint32_t rows)
{
    return rows > 1 ? 8 : 1;
}

/* Which rows and panels of a product the tasks from `task` on mean, as many as are of the same
 * rows: one call. */
struct piece { uint32_t row, n_rows, first, last, n_tasks; };

static struct piece piece_of(const struct packed *w, uint32_t rows, uint32_t task, size_t n)
{
    const struct matmul_cut cut = matmul_cut(w, rows);
    const uint32_t cuts = ceil_div(w->n_panels, cut.panels), at = task % cuts;
    const uint32_t row = task / cuts * cut.rows;
    const uint32_t some = n < cuts - at ? (uint32_t)n : cuts - at;

    return (struct piece){ row, rows - row < cut.rows ? rows - row : cut.rows, at * cut.panels,
                           at + some < cuts ? (at + some) * cut.panels : w->n_panels, some };
}

/* Returns how many of the n tasks from `task` on it has done, one at least. */
static uint32_t run_tasks(struct cpu_exec *x, const struct item *it, uint32_t task, size_t n,
                          uint32_t rows, void *scratch)
{
    const struct packed *w = &x->s.packed[it->in->w[0]];
    const struct piece p = piece_of(w, rows, task, n);
    struct matmul_args m = { .out_stride = it->dst_stride, .w = w, .first = p.first,
                             .last = p.last, .n_rows = p.n_rows, .scratch = scratch };

    set_act(x, it, &m);
    m.act = (const uint8_t *)m.act + (size_t)p.row * m.act_stride;
    m.out = it->dst + (size_t)p.row * it->dst_stride;
    x->k.matmul[w->dtype](&m);
    return p.n_tasks;
}

static size_t item_tasks(const struct cpu_exec *x, const struct item *it)
{
    return n_tasks(&x->s.packed[it->in->w[0]], rows_of(x, it->in->dst[0]));
}

void exec_products(struct cpu_exec *x, const struct phase *ph, unsigned worker, void *scratch)
{
    const size_t most = run_of(rows_of(x, x->s.items[ph->first].in->dst[0]));
    uint32_t i = ph->first;
    size_t base = 0, all = 0;       /* base: first task of item i */

    for (uint32_t k = ph->first; k != NO_PHASE; k = x->s.items[k].next)
        all += item_tasks(x, &x->s.items[k]);
    for (size_t run = most, task; (task = team_take_run(x->team, worker, all, &run)) != TEAM_NONE;
         run = most) {
        if (task < base) {          /* from the end of another's share */
            i = ph->first;
            base = 0;
        }
        for (size_t done, n; run > 0; task += done, run -= done) {
            for (; task - base >= (n = item_tasks(x, &x->s.items[i])); base += n)
                i = x->s.items[i].next;
            n -= task - base;
            done = run_tasks(x, &x->s.items[i], (uint32_t)(task - base), run < n ? run : n,
                             rows_of(x, x->s.items[i].in->dst[0]), scratch);
        }
    }
}

/* Counting sort of the slots by expert; one worker does it, the others wait. */
void exec_sort(struct cpu_exec *x, const struct phase *ph)
{
    const struct item *it = &x->s.items[ph->first];
    struct sorted *s = &x->sorted[it->sort];
    const struct prog_value *ids = prog_value(x->p, it->in->src[1]);
    const uint32_t tokens = rows_of(x, it->in->src[1]), k = ids->width;
    uint32_t at = 0;

    if (team_next(x->team) != 0)
        return;
    s->n_experts = x->s.packed[it->in->w[0]].n_mats;
    memset(s->start, 0, (s->n_experts + 1u) * sizeof *s->start);
    for (uint32_t t = 0; t < tokens; t++) {
        const int32_t *id = (const int32_t *)(const void *)(it->src[1] + (size_t)t * it->src_stride[1]);

        for (uint32_t j = 0; j < k; j++)
            s->start[id[j]]++;
    }
    for (uint32_t e = 0; e <= s->n_experts; e++) {      /* counts to starts */
        const uint32_t n = e < s->n_experts ? s->start[e] : 0;

        s->start[e] = at;
        at += n;
    }
    for (uint32_t t = 0; t < tokens; t++) {
        const int32_t *id = (const int32_t *)(const void *)(it->src[1] + (size_t)t * it->src_stride[1]);

        for (uint32_t j = 0; j < k; j++) {
            const uint32_t to = s->start[id[j]]++;

            s->order[to] = t * k + j;
            s->token[to] = t;
        }
    }
    for (uint32_t e = s->n_experts; e > 0; e--)         /* each start ran to its end */
        s->start[e] = s->start[e - 1];
    s->start[0] = 0;
}

static uint32_t run_expert_tasks(struct cpu_exec *x, const struct item *it, uint32_t expert,
                                 uint32_t task, size_t n, void *scratch)
{
    const struct packed *w = &x->s.packed[it->in->w[0]];
    const struct sorted *s = &x->sorted[it->sort];
    const uint32_t from = s->start[expert];
    const struct piece p = piece_of(w, s->start[expert + 1] - from, task, n);
    const bool by_token = prog_value(x->p, it->in->src[0])->per == 1;
    struct matmul_args m = { .out = it->dst, .out_stride = it->dst_stride, .w = w, .mat = expert,
                             .first = p.first, .last = p.last, .n_rows = p.n_rows,
                             .act_index = (by_token ? s->token : s->order) + from + p.row,
                             .out_index = s->order + from + p.row, .scratch = scratch };

    set_act(x, it, &m);
    x->k.matmul[w->dtype](&m);
    return p.n_tasks;
}

static size_t expert_tasks(const struct cpu_exec *x, const struct item *it, uint32_t expert)
{
    const struct sorted *s = &x->sorted[it->sort];

    return n_tasks(&x->s.packed[it->in->w[0]], s->start[expert + 1] - s->start[expert]);
}

/* Steps to the next expert, and after the last to the first of the next item. */
static void next_expert(const struct cpu_exec *x, uint32_t *i, uint32_t *expert)
{
    const struct item *it = &x->s.items[*i];

    if (++*expert == x->sorted[it->sort].n_experts) {
        *expert = 0;
        *i = it->next;
    }
}

void exec_expert_products(struct cpu_exec *x, const struct phase *ph, unsigned worker,
                          void *scratch)
{
    const size_t most = run_of(rows_of(x, x->s.items[ph->first].in->src[1]));
    uint32_t i = ph->first, expert = 0;
    size_t base = 0, all = 0;       /* base: first task of (item i, expert) */

    for (uint32_t k = ph->first, e = 0; k != NO_PHASE; next_expert(x, &k, &e))
        all += expert_tasks(x, &x->s.items[k], e);
    for (size_t run = most, task; (task = team_take_run(x->team, worker, all, &run)) != TEAM_NONE;
         run = most) {
        if (task < base) {          /* from the end of another's share */
            i = ph->first;
            expert = 0;
            base = 0;
        }
        for (size_t done, n; run > 0; task += done, run -= done) {
            for (; task - base >= (n = expert_tasks(x, &x->s.items[i], expert)); base += n)
                next_expert(x, &i, &expert);
            n -= task - base;
            done = run_expert_tasks(x, &x->s.items[i], expert, (uint32_t)(task - base),
                                    run < n ? run : n, scratch);
        }
    }
}
