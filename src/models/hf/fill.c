/* fill.c: writes the tensors that can't stay in their files, with a team of threads.
 *
 * Work is cut into tasks of whole rows, whose size does not depend on the number of threads. A
 * row of the result is a row of a source, or, where matrices are turned, a column of it: then a
 * few rows at a time are gathered, so that files are read along their own rows. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/team.h"
#include "models/hf/weights.h"

#define TASK_ELEMS 65536
#define TURNED_ROWS 32
#define CHANGES (HF_ADD1 | HF_NEG_EXP | HF_SCALED | HF_SCALE_ROWS)

struct fill {
    struct hf_weights *w;
    struct gguf_make  *out;
    struct team       *team;
    size_t            *first_task;  /* [n_tensors + 1] */
    float            **rows;        /* [workers]: TURNED_ROWS rows of the widest tensor */
    float            **line;        /* [workers]: what is read before it is scattered */
};

static int64_t rows_per_task(const struct hf_tensor *t)
{
    const int64_t n = TASK_ELEMS / t->cols;

    return n > TURNED_ROWS ? n / TURNED_ROWS * TURNED_ROWS : TURNED_ROWS;
}

/* Rows of the whole result. */
static int64_t all_rows(const struct hf_tensor *t)
{
    return t->n_sources * t->n * t->rows;
}

/* The row of its matrix in the source that row r of the result's matrix comes from. */
static int64_t mapped(const struct hf *h, const struct hf_tensor *t, int64_t r)
{
    const int64_t dim = h->head_dim, group = h->n_kv_heads ? h->n_heads / h->n_kv_heads : 1;

    switch ((enum hf_map)(t->how & HF_MAP_MASK)) {
    case HF_ROPE_Q:
    case HF_ROPE_K: {
        const int64_t heads = (t->how & HF_MAP_MASK) == HF_ROPE_Q ? h->n_heads : h->n_kv_heads;
        const int64_t n = t->rows / heads, i = r % n;

        return r - i + i % 2 * (n / 2) + i / 2;
    }
    case HF_FIRST:
        return r;
    case HF_SECOND:
        return t->rows + r;
    case HF_EVEN:
        return 2 * r;
    case HF_ODD:
        return 2 * r + 1;
    case HF_QKV: {
        const int64_t head = r / dim, i = r % dim;
        int64_t at;

        if (head < h->n_heads)
            at = head / group * (group + 2) + head % group;
        else if (head < h->n_heads + h->n_kv_heads)
            at = (head - h->n_heads) * (group + 2) + group;
        else
            at = (head - h->n_heads - h->n_kv_heads) * (group + 2) + group + 1;
        return at * dim + i;
    }
    default:
        return r;
    }
}

/* row: of its matrix in the result. */
static void change(const struct hf *h, const struct hf_tensor *t, int64_t row, float *x, int64_t n)
{
    float scale = t->how & HF_SCALED ? h->scale[HF_SCALE_INDEX(t->how)] : 1;

    for (unsigned i = 0; (t->how & HF_SCALE_ROWS) && i < 5; i++) {
        if (row < h->row_ends[i]) {
            scale = h->row_scale[i];
            break;
        }
    }
    if (scale != 1)
        for (int64_t i = 0; i < n; i++)
            x[i] *= scale;
    if (t->how & HF_ADD1)
        for (int64_t i = 0; i < n; i++)
            x[i] += 1;
    if (t->how & HF_NEG_EXP)
        for (int64_t i = 0; i < n; i++)
            x[i] = -expf(x[i]);
}

static void store(const struct tensor *t, int64_t row, int64_t cols, const float *x)
{
    const struct dtype_info *info = dtype_info((uint32_t)t->dtype);
    uint8_t *to = (uint8_t *)(uintptr_t)t->data + (row * cols) * info->block_bytes;

    if (t->dtype == DTYPE_F32)
        memcpy(to, x, (size_t)cols * sizeof *x);
    else
        info->quant(to, x, (size_t)cols, NULL);
}

/* Rows that need no numbers: the bytes as they are. */
static bool copies(const struct hf_tensor *t, const struct hf_source *s, const struct tensor *v)
{
    return s->store == HF_PLAIN && s->dtype == v->dtype &&
           !(t->how & (CHANGES | HF_TURN)) && (t->how & HF_MAP_MASK) != HF_K_B;
}

static void straight_row(const struct hf *h, const struct hf_tensor *t, const struct hf_source *s,
                         const struct tensor *v, int64_t row, int64_t from, float *x)
{
    const uint64_t elems = (uint64_t)t->cols;
    uint64_t bytes = 0;

    (void)dtype_row_bytes((uint32_t)v->dtype, elems, &bytes);
    if (s->store != HF_PLAIN && s->store != HF_FP8) {
        hf_source_blocks(s, from, (uint8_t *)(uintptr_t)v->data + (uint64_t)row * bytes);
    } else if (copies(t, s, v)) {
        memcpy((uint8_t *)(uintptr_t)v->data + (uint64_t)row * bytes,
               s->t->data + (uint64_t)from * bytes, (size_t)bytes);
    } else {
        /* vectors are rows of one element, of which many make one row of the file */
        const int64_t width = s->shape[s->n_dims - 1], at = from * t->cols;

        hf_source_read(s, at / width, at % width, t->cols, x);
        change(h, t, row % t->rows, x, t->cols);
        store(v, row, t->cols, x);
    }
}

/* Rows [row, row + n) of one matrix of the result, which are columns of the source's. */
static void turned_rows(const struct hf *h, const struct hf_tensor *t, const struct hf_source *s,
                        const struct tensor *v, int64_t row, int64_t n, float *x, float *line)
{
    const int64_t part = row % (t->n * t->rows), matrix = part / t->rows, r = part % t->rows;
    int64_t low = INT64_MAX, high = 0;

    for (int64_t i = 0; i < n; i++) {
        const int64_t c = mapped(h, t, r + i);

        low = c < low ? c : low;
        high = c > high ? c : high;
    }
    for (int64_t c = 0; c < t->cols; c++) {
        hf_source_read(s, matrix * t->cols + c, low, high - low + 1, line);
        for (int64_t i = 0; i < n; i++)
            x[i * t->cols + c] = line[mapped(h, t, r + i) - low];
    }
    for (int64_t i = 0; i < n; i++) {
        change(h, t, r + i, x + i * t->cols, t->cols);
        store(v, row + i, t->cols, x + i * t->cols);
    }
}

/* Keys of head `matrix`: row r of the result is column r of its rows. */
static void key_rows(const struct hf *h, const struct hf_tensor *t, const struct hf_source *s,
                     const struct tensor *v, int64_t row, int64_t n, float *x, float *line)
{
    const int64_t matrix = row / t->rows, r = row % t->rows;
    const int64_t first = matrix * (h->kv_b[0] + h->kv_b[1]);

    for (int64_t c = 0; c < t->cols; c++) {
        hf_source_read(s, first + c, r, n, line);
        for (int64_t i = 0; i < n; i++)
            x[i * t->cols + c] = line[i];
    }
    for (int64_t i = 0; i < n; i++)
        store(v, row + i, t->cols, x + i * t->cols);
}

static void fill_rows(const struct fill *f, const struct hf_tensor *t, int64_t row, int64_t n,
                      unsigned worker)
{
    const struct hf *h = f->w->h;
    const struct tensor *v = gguf_make_tensor_at(f->out, t->index);
    const int64_t part = t->n * t->rows;
    float *x = f->rows[worker], *line = f->line[worker];

    while (n > 0) {
        const struct hf_source *s = &f->w->sources[t->first_source + row / part];
        const int64_t in_part = row % part, in_matrix = in_part % t->rows;
        const int64_t left = t->rows - in_matrix;
        int64_t step = n < left ? n : left;

        if ((t->how & HF_MAP_MASK) == HF_K_B || (t->how & HF_TURN)) {
            step = step < TURNED_ROWS ? step : TURNED_ROWS;
            if (t->how & HF_TURN)
                turned_rows(h, t, s, v, row, step, x, line);
            else
                key_rows(h, t, s, v, row, step, x, line);
        } else {
            const int64_t matrix = in_part / t->rows;
            const enum hf_map map = (enum hf_map)(t->how & HF_MAP_MASK);
            const bool halves = map >= HF_FIRST && map <= HF_ODD;

            for (int64_t i = 0; i < step; i++) {
                const int64_t from = map == HF_TO_VOCAB
                    ? (in_matrix + i < s->shape[0] ? in_matrix + i : 0) : map == HF_V_B
                    ? matrix * (h->kv_b[0] + h->kv_b[1]) + h->kv_b[0] + in_matrix + i
                    : matrix * t->rows * (halves ? 2 : 1) + mapped(h, t, in_matrix + i);

                straight_row(h, t, s, v, row + i, from, x);
            }
        }
        row += step;
        n -= step;
    }
}

static void work(void *arg, unsigned worker)
{
    const struct fill *f = arg;
    const size_t n_tasks = f->first_task[f->w->n_tensors];
    size_t task;

    while ((task = team_next(f->team)) < n_tasks) {
        size_t low = 0, high = f->w->n_tensors;
        const struct hf_tensor *t;
        int64_t row, n, left;

        while (high - low > 1) {
            const size_t mid = low + (high - low) / 2;

            if (f->first_task[mid] <= task)
                low = mid;
            else
                high = mid;
        }
        t = &f->w->tensors[low];
        row = (int64_t)(task - f->first_task[low]) * rows_per_task(t);
        left = all_rows(t) - row;
        n = left < rows_per_task(t) ? left : rows_per_task(t);
        fill_rows(f, t, row, n, worker);
    }
}

static void fill_close(struct fill *f, unsigned n_workers)
{
    for (unsigned i = 0; f->rows && i < n_workers; i++)
        mem_free(f->rows[i]);
    for (unsigned i = 0; f->line && i < n_workers; i++)
        mem_free(f->line[i]);
    mem_free(f->rows);
    mem_free(f->line);
    mem_free(f->first_task);
    team_close(f->team);
}

/* Scratch of each worker: the widest rows that have to be seen as numbers. */
static bool make_scratch(struct fill *f, unsigned n_workers)
{
    int64_t rows = 1, line = 1;

    for (size_t i = 0; i < f->w->n_tensors; i++) {
        const struct hf_tensor *t = &f->w->tensors[i];
        const bool turned = (t->how & HF_TURN) || (t->how & HF_MAP_MASK) == HF_K_B;
        const int64_t need = (turned ? TURNED_ROWS : 1) * t->cols;

        if (t->direct)
            continue;
        rows = need > rows ? need : rows;
        if (turned && 2 * t->rows + TURNED_ROWS > line)
            line = 2 * t->rows + TURNED_ROWS;
    }
    f->rows = mem_calloc(n_workers, sizeof *f->rows);
    f->line = mem_calloc(n_workers, sizeof *f->line);
    for (unsigned i = 0; f->rows && f->line && i < n_workers; i++) {
        f->rows[i] = mem_array((size_t)rows, sizeof **f->rows);
        f->line[i] = mem_array((size_t)line, sizeof **f->line);
        if (!f->rows[i] || !f->line[i])
            return false;
    }
    return f->rows && f->line;
}

int hf_fill(struct hf_weights *w, struct gguf_make *out, struct err *e)
{
    struct fill f = { .w = w, .out = out };
    unsigned n_workers = team_default_threads();
    size_t n_tasks = 0;
    int rc = 0;

    if (w->memory_bytes == 0)
        return 0;
    if (w->memory_bytes < (1u << 20))
        n_workers = 1;
    f.first_task = mem_array(w->n_tensors + 1, sizeof *f.first_task);
    if (!f.first_task || !make_scratch(&f, n_workers))
        rc = err_set(e, WATT_ENOMEM, "%s: out of memory while its weights are turned", w->h->dir);
    for (size_t i = 0; rc == 0 && i <= w->n_tensors; i++) {
        const struct hf_tensor *t = &w->tensors[i];

        f.first_task[i] = n_tasks;
        if (i < w->n_tensors && !t->direct)
            n_tasks += (size_t)((all_rows(t) + rows_per_task(t) - 1) / rows_per_task(t));
    }
    if (rc == 0)
        rc = team_open(&f.team, n_workers, e);
    if (rc == 0)
        team_run(f.team, work, &f);
    fill_close(&f, n_workers);
    return rc;
}
