/* train_products.c: gradients of a product's operand (dY W, by the kernels of forward over the
 * turned matrix) and of its matrix (dY^T X), and of embedding tables. Tasks are blocks of results;
 * nobody cuts a sum, so threads change no bit. */
#include <string.h>

#include "chips/cpu/train_internal.h"

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

/* ---- the operand ---- */

static size_t operand_tasks(const struct train *t, const struct train_item *it, uint32_t rows)
{
    const struct packed *w = &t->weight[it->in->w[0]].turned;
    struct matmul_cut cut;

    if (!it->dst[0].p || rows == 0)
        return 0;
    cut = matmul_cut(w, rows);
    return (size_t)ceil_div(w->n_panels, cut.panels) * ceil_div(rows, cut.rows);
}

static void operand_task(const struct train *t, const struct train_item *it, uint32_t task,
                         uint32_t rows, void *scratch)
{
    const struct packed *w = &t->weight[it->in->w[0]].turned;
    const struct matmul_cut cut = matmul_cut(w, rows);
    const uint32_t cuts = ceil_div(w->n_panels, cut.panels);
    const uint32_t row = task / cuts * cut.rows, panel = task % cuts * cut.panels;
    struct matmul_args m = { .out_stride = it->dst[0].stride, .w = w, .first = panel,
                             .last = panel + cut.panels < w->n_panels ? panel + cut.panels
                                                                      : w->n_panels,
                             .n_rows = rows - row < cut.rows ? rows - row : cut.rows,
                             .scratch = scratch };

    m.act = train_prepared(t, it, &m.act_stride);
    m.act = (const uint8_t *)m.act + (size_t)row * m.act_stride;
    m.out = train_row(it->dst[0], row);
    t->x->k.matmul[w->dtype](&m);
}

/* ---- the matrix ---- */

static size_t matrix_tasks(const struct train *t, const struct train_item *it)
{
    const struct train_param *pa;

    if (!it->matrix)
        return 0;
    pa = t->weight[it->matrix].param;
    return (size_t)ceil_div(pa->rows, OUTER_MAX_OUT) * ceil_div(pa->cols, OUTER_MAX_IN);
}

static void matrix_task(const struct train *t, const struct train_item *it, uint32_t task,
                        uint32_t rows, void *scratch)
{
    const struct train_param *pa = t->weight[it->matrix].param;
    const uint32_t cuts = ceil_div(pa->cols, OUTER_MAX_IN);
    const uint32_t o = task / cuts * OUTER_MAX_OUT, i = task % cuts * OUTER_MAX_IN;
    const struct train_place x = train_value(t, it->in->src[0]);
    const struct outer_args a = {
        .g = pa->g + (uint64_t)o * pa->cols + i, .g_stride = pa->cols, .dy = it->dy.p + o,
        .dy_stride = it->dy.stride, .x = x.p + i, .x_stride = x.stride, .n_rows = rows,
        .n_out = pa->rows - o < OUTER_MAX_OUT ? pa->rows - o : OUTER_MAX_OUT,
        .n_in = pa->cols - i < OUTER_MAX_IN ? pa->cols - i : OUTER_MAX_IN, .scratch = scratch };

    (t->o.compute == DTYPE_BF16 ? t->k.outer_bf16 : t->k.outer)(&a);
}

/* ---- a cell's matrix: rows with the hidden state in front of them ---- */

static uint32_t cell_gates(const struct train *t, const struct train_item *it)
{
    return train_width(t, it->in->src[0]);
}

static size_t cell_tasks(const struct train *t, const struct train_item *it)
{
    return (size_t)ceil_div(cell_gates(t, it), OUTER_MAX_OUT) *
           ceil_div(it->in->a.cell.n_hidden, OUTER_MAX_IN);
}

static void cell_task(const struct train *t, const struct train_item *it, uint32_t task,
                      void *scratch)
{
    const uint32_t n = it->in->a.cell.n_hidden, gates = cell_gates(t, it);
    const uint32_t cuts = ceil_div(n, OUTER_MAX_IN);
    const uint32_t o = task / cuts * OUTER_MAX_OUT, i = task % cuts * OUTER_MAX_IN;
    const struct train_place x = train_value(t, it->in->dst[0]), dy = train_extra(t, it);
    const struct outer_args a = {
        .g = t->weight[it->matrix].param->g + (uint64_t)o * n + i, .g_stride = n, .dy = dy.p + o,
        .dy_stride = dy.stride, .x = x.p + i, .x_stride = x.stride, .dy_index = t->later_row,
        .x_index = t->earlier_row, .n_rows = t->n_later,
        .n_out = gates - o < OUTER_MAX_OUT ? gates - o : OUTER_MAX_OUT,
        .n_in = n - i < OUTER_MAX_IN ? n - i : OUTER_MAX_IN, .scratch = scratch };

    t->k.outer(&a);
}

void train_products(struct train *t, const struct train_phase *ph, void *scratch)
{
    size_t base = 0, task = team_next(t->team);

    for (uint32_t i = ph->first; i != NO_PHASE; i = t->items[i].next) {
        const struct train_item *it = &t->items[i];
        const uint32_t rows = train_value_rows(t, it->in->dst[0]);
        size_t n_matrix, n;

        if (it->kind == T_CELL_MATRIX) {
            for (n = cell_tasks(t, it); task - base < n; task = team_next(t->team))
                cell_task(t, it, (uint32_t)(task - base), scratch);
            base += n;
            continue;
        }
        n_matrix = matrix_tasks(t, it);         /* the longer ones first */
        n = n_matrix + operand_tasks(t, it, rows);
        for (; task - base < n; task = team_next(t->team)) {
            if (task - base < n_matrix)
                matrix_task(t, it, (uint32_t)(task - base), rows, scratch);
            else
                operand_task(t, it, (uint32_t)(task - base - n_matrix), rows, scratch);
        }
        base += n;
    }
}

/* ---- tables: by blocks of columns, rows ascending ---- */

#define TABLE_COLS 32u

void train_embed(struct train *t, const struct train_phase *ph)
{
    size_t base = 0, task = team_next(t->team);

    for (uint32_t i = ph->first; i != NO_PHASE; i = t->items[i].next) {
        const struct train_item *it = &t->items[i];
        const struct train_param *pa = t->weight[it->matrix].param;
        const size_t n = ceil_div(pa->cols, TABLE_COLS);

        for (; task - base < n; task = team_next(t->team)) {
            const uint32_t c = (uint32_t)(task - base) * TABLE_COLS;
            const uint32_t cols = pa->cols - c < TABLE_COLS ? pa->cols - c : TABLE_COLS;

            for (uint32_t r = 0; r < t->batch.n_rows; r++) {
                float *g = pa->g + batch_table_row(&t->batch, &it->in->a.embed, r) * pa->cols + c;
                const float *dy = train_row(it->dy, r) + c;

                for (uint32_t k = 0; k < cols; k++)
                    g[k] += dy[k];
            }
        }
        base += n;
    }
}
