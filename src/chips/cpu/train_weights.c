/* train_weights.c: parameters of the executor that trains: F32 masters and gradients, the BF16
 * copies that forward reads, and matrices turned for the gradient of a product's operand. */
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "chips/cpu/train_internal.h"
#include "chips/relative.h"

#define COPY_FLOATS ((size_t)1 << 16)   /* of one task */
#define TURN_ROWS 64u                   /* rows of a matrix turned by one task; even */

static const struct prog_weight *weight_at(const struct train *t, wid w)
{
    return prog_weight_at(t->p, w);
}

/* Frequencies, selection biases and the scales of quantised products never train. */
static bool fixed_by_use(const struct program *p, wid w)
{
    for (uint32_t i = 0; i < prog_n_instr(p); i++) {
        const struct instr *in = prog_instr(p, i);

        if ((in->op == OP_ROPE || in->op == OP_ROUTE) && in->w[0] == w)
            return true;
        if ((in->op == OP_LINEAR || in->op == OP_EXPERT_LINEAR) && in->w[2] == w)
            return true;
    }
    return false;
}

static bool wants_training(const struct train *t, wid w)
{
    const struct prog_weight *pw = weight_at(t, w);

    return pw->uses != 0 && !fixed_by_use(t->p, w) && (!t->o.trains || t->o.trains(t->o.ctx, pw));
}

static void describe_param(struct train *t, wid w, struct train_param *pa)
{
    const struct prog_weight *pw = weight_at(t, w);
    const struct tensor *s = &pw->t;
    const bool wide = (pw->uses & (USE_MATRIX | USE_TABLE)) != 0;

    *pa = (struct train_param){ .name = pw->name, .shape = *s, .serve = s->dtype,
                                .trains = t->trains[w], .mats = 1, .rows = 1,
                                .n = (uint64_t)tensor_elems(s) };
    pa->kind = pw->uses & USE_TABLE ? TRAIN_EMBEDDING
             : pw->uses & USE_MATRIX ? TRAIN_MATRIX : TRAIN_VECTOR;
    pa->cols = (uint32_t)pa->n;
    if (wide && s->n_dims >= 2) {
        pa->cols = (uint32_t)tensor_row(s);
        pa->rows = (uint32_t)s->shape[s->n_dims - 2];
        pa->mats = (uint32_t)(pa->n / ((uint64_t)pa->rows * pa->cols));
    }
    if (pa->trains)
        pa->serve = wide ? t->o.compute : DTYPE_F32;
}

static uint64_t round64(uint64_t n)
{
    return (n + 63) & ~UINT64_C(63);
}

/* The program over our own tensors. */
static int clone_program(struct train *t, struct err *e)
{
    const uint32_t n = prog_n_weights(t->p);
    struct tensor *tensors = mem_calloc((size_t)n + 1, sizeof *tensors);
    int rc;

    if (!tensors)
        return err_set(e, WATT_ENOMEM, "training: tensors");
    for (wid w = 1; w <= n; w++) {
        const struct train_weight *tw = &t->weight[w];

        tensors[w] = weight_at(t, w)->t;
        if (!tw->param || !tw->param->trains)
            continue;
        tensors[w].dtype = tw->param->serve;
        tensors[w].data = tw->bf16 ? (const void *)tw->bf16 : tw->param->w;
        tensors[w].size_bytes = tw->param->n * (tw->bf16 ? 2u : 4u);
    }
    rc = prog_clone(&t->own, t->p, tensors, e);
    mem_free(tensors);
    return rc;
}

static int check_readable(const struct prog_weight *pw, struct err *e)
{
    const struct dtype_info *info = dtype_info(pw->t.dtype);
    uint64_t row_bytes;

    if (!info || !info->dequant)
        return err_set(e, WATT_ENOTSUP, "tensor %s: type %s can't be a weight", pw->name,
                       dtype_name(pw->t.dtype));
    if (!pw->t.data)
        return err_set(e, WATT_EINVAL, "tensor %s: no data", pw->name);
    if (!dtype_row_bytes(pw->t.dtype, (uint64_t)tensor_row(&pw->t), &row_bytes) ||
        pw->t.size_bytes != row_bytes * (uint64_t)(tensor_elems(&pw->t) / tensor_row(&pw->t)))
        return err_set(e, WATT_EFORMAT, "tensor %s: %" PRIu64 " bytes don't fit its shape",
                       pw->name, pw->t.size_bytes);
    return 0;
}

static int list_params(struct train *t, struct err *e)
{
    const uint32_t n = prog_n_weights(t->p);

    t->weight = mem_calloc((size_t)n + 1, sizeof *t->weight);
    t->trains = mem_calloc((size_t)n + 1, sizeof *t->trains);
    t->params = mem_calloc((size_t)n + 1, sizeof *t->params);
    if (!t->weight || !t->trains || !t->params)
        return err_set(e, WATT_ENOMEM, "training: list of parameters");
    for (wid w = 1; w <= n; w++) {
        struct train_param *pa = &t->params[t->n_params];

        if (weight_at(t, w)->uses == 0)
            continue;
        t->trains[w] = wants_training(t, w);
        describe_param(t, w, pa);
        t->weight[w].param = pa;
        t->n_params++;
        if (!pa->trains)
            continue;
        t->n_trained += round64(pa->n);
        if (pa->serve == DTYPE_BF16)
            t->bf16_bytes += round64(pa->n * 2);
    }
    return 0;
}

int train_weights_open(struct train *t, struct err *e)
{
    uint64_t at = 0;
    uint8_t *half;
    int rc = list_params(t, e);

    if (rc < 0)
        return rc;
    if (t->n_trained == 0)
        return err_set(e, WATT_EINVAL, "training: no weight trains");
    if (t->dry)
        return clone_program(t, e);
    t->masters = mem_map((size_t)t->n_trained * sizeof(float));
    t->gradients = mem_map((size_t)t->n_trained * sizeof(float));
    half = t->bf16_region = t->bf16_bytes ? mem_map((size_t)t->bf16_bytes) : NULL;
    if (!t->masters || !t->gradients || (t->bf16_bytes && !half))
        return err_set(e, WATT_ENOMEM, "training: %" PRIu64 " parameters", t->n_trained);
    for (wid w = 1; w <= prog_n_weights(t->p); w++) {
        const struct prog_weight *pw = weight_at(t, w);
        struct train_param *pa = t->weight[w].param;

        if (!pa || !pa->trains)
            continue;
        rc = check_readable(pw, e);
        if (rc < 0)
            return rc;
        pa->w = t->masters + at;
        pa->g = t->gradients + at;
        at += round64(pa->n);
        dtype_info(pw->t.dtype)->dequant(pa->w, pw->t.data, (size_t)pa->n);
        if (pa->serve == DTYPE_BF16) {
            t->weight[w].bf16 = (uint16_t *)(void *)half;
            half += round64(pa->n * 2);
        }
    }
    return clone_program(t, e);
}

void train_weights_close(struct train *t)
{
    prog_close(t->own);
    mem_unmap(t->masters, (size_t)t->n_trained * sizeof(float));
    mem_unmap(t->gradients, (size_t)t->n_trained * sizeof(float));
    mem_unmap(t->bf16_region, (size_t)t->bf16_bytes);
    mem_unmap(t->turned_region, (size_t)t->turned_bytes);
    mem_free(t->weight);
    mem_free(t->trains);
    mem_free(t->params);
}

/* ---- turned matrices ---- */

/* Some operand of a product by this matrix wants a gradient. */
static bool must_turn(const struct train *t, wid w)
{
    for (uint32_t i = 0; i < t->rev.n_steps; i++) {
        const struct reverse_step *s = &t->rev.steps[i];
        const struct instr *in = prog_instr(t->own, s->instr);

        if (s->kind == REVERSE_INSTR && (in->op == OP_LINEAR || in->op == OP_EXPERT_LINEAR) &&
            in->w[0] == w && s->dst[0].buf)
            return true;
    }
    return false;
}

int train_turned_open(struct train *t, struct err *e)
{
    uint8_t *at;

    for (wid w = 1; w <= prog_n_weights(t->own); w++) {
        const struct tensor *s = &prog_weight_at(t->own, w)->t;
        struct packed *pk = &t->weight[w].turned;
        struct tensor view = { .dtype = t->o.compute, .n_dims = s->n_dims,
                               .size_bytes = UINT64_MAX };
        int rc;

        if (!must_turn(t, w))
            continue;
        memcpy(view.shape, s->shape, sizeof view.shape);
        view.shape[s->n_dims - 1] = s->shape[s->n_dims - 2];
        view.shape[s->n_dims - 2] = s->shape[s->n_dims - 1];
        rc = pack_describe(pk, &view, e);
        if (rc < 0)
            return err_prefix(e, "tensor %s", prog_weight_at(t->own, w)->name);
        t->turned_bytes += round64(pack_bytes(pk));
    }
    if (t->dry)
        return 0;
    at = t->turned_region = t->turned_bytes ? mem_map((size_t)t->turned_bytes) : NULL;
    if (t->turned_bytes && !at)
        return err_set(e, WATT_ENOMEM, "training: %" PRIu64 " bytes of turned matrices",
                       t->turned_bytes);
    for (wid w = 1; w <= prog_n_weights(t->own); w++) {
        struct packed *pk = &t->weight[w].turned;

        if (pk->n_out == 0)
            continue;
        pk->data = at;
        at += round64(pack_bytes(pk));
    }
    return 0;
}

/* A row of the matrix as f32: the master's, or in buf. */
static void read_row(const struct train *t, wid w, uint64_t row, uint32_t n, float *buf,
                     const float **out)
{
    const struct train_param *pa = t->weight[w].param;
    const struct tensor *s = &prog_weight_at(t->own, w)->t;
    const uint64_t row_bytes = s->size_bytes / ((uint64_t)tensor_elems(s) / n);

    if (pa->w) {
        *out = pa->w + row * n;
        return;
    }
    dtype_info(s->dtype)->dequant(buf, (const uint8_t *)s->data + row * row_bytes, n);
    *out = buf;
}

static void turn_f32(const struct packed *pk, uint8_t *mat, uint32_t row, const float *x)
{
    for (uint32_t p = 0; p < pk->n_panels; p++) {
        float *to = (float *)(void *)(mat + p * pk->panel_bytes) + (size_t)row * PACK_ROWS;
        const uint32_t left = pk->n_out - p * PACK_ROWS;

        memcpy(to, x + (size_t)p * PACK_ROWS, (left < PACK_ROWS ? left : PACK_ROWS) * sizeof *to);
    }
}

/* Rows go in pairs: row is even, hi the next one, or NULL. */
static void turn_bf16(const struct train *t, const struct packed *pk, uint8_t *mat, uint32_t row,
                      const float *lo, const float *hi)
{
    for (uint32_t p = 0; p < pk->n_panels; p++) {
        uint32_t *to = (uint32_t *)(void *)(mat + p * pk->panel_bytes) + (size_t)row / 2 * PACK_ROWS;
        const uint32_t at = p * PACK_ROWS, left = pk->n_out - at;

        t->k.bf16_pairs(to, lo + at, hi ? hi + at : NULL, left < PACK_ROWS ? left : PACK_ROWS);
    }
}

/* buf: two rows. */
static void turn_rows(const struct train *t, wid w, uint32_t mat, uint32_t first, float *buf)
{
    const struct packed *pk = &t->weight[w].turned;
    const uint32_t end = pk->n_in - first < TURN_ROWS ? pk->n_in : first + TURN_ROWS;
    const uint64_t base = (uint64_t)mat * pk->n_in;
    uint8_t *to = (uint8_t *)pk->data + mat * pk->mat_bytes;
    const float *lo, *hi = NULL;

    for (uint32_t r = first; r < end && pk->dtype == DTYPE_F32; r++) {
        read_row(t, w, base + r, pk->n_out, buf, &lo);
        turn_f32(pk, to, r, lo);
    }
    for (uint32_t r = first; r < end && pk->dtype != DTYPE_F32; r += 2) {
        read_row(t, w, base + r, pk->n_out, buf, &lo);
        hi = NULL;
        if (r + 1 < end)
            read_row(t, w, base + r + 1, pk->n_out, buf + pk->n_out, &hi);
        turn_bf16(t, pk, to, r, lo, hi);
    }
}

/* ---- making anew ---- */

static void copy_job(void *arg, unsigned worker)
{
    struct train *t = arg;
    size_t base = 0, task = team_next(t->team);

    (void)worker;
    for (uint32_t i = 0; i < t->n_params; i++) {
        const struct train_param *pa = &t->params[i];
        const size_t n = pa->serve == DTYPE_BF16 && pa->trains
                             ? ((size_t)pa->n + COPY_FLOATS - 1) / COPY_FLOATS : 0;
        wid w = 1;

        while (n && t->weight[w].param != pa)
            w++;
        for (; task - base < n; task = team_next(t->team)) {
            const size_t from = (task - base) * COPY_FLOATS;

            t->k.to_bf16(t->weight[w].bf16 + from, pa->w + from,
                         pa->n - from < COPY_FLOATS ? (size_t)pa->n - from : COPY_FLOATS);
        }
        base += n;
    }
}

static void turn_job(void *arg, unsigned worker)
{
    struct train *t = arg;
    float *buf = (float *)(void *)(t->worker_scratch + worker * t->worker_bytes);
    size_t base = 0, task = team_next(t->team);

    for (wid w = 1; w <= prog_n_weights(t->own); w++) {
        const struct packed *pk = &t->weight[w].turned;
        const uint32_t cuts = pk->n_out && (t->turn_all || t->trains[w]) ? (pk->n_in + TURN_ROWS - 1) / TURN_ROWS : 0;
        const size_t n = (size_t)cuts * pk->n_mats;

        for (; task - base < n; task = team_next(t->team))
            turn_rows(t, w, (uint32_t)((task - base) / cuts),
                      (uint32_t)((task - base) % cuts) * TURN_ROWS, buf);
        base += n;
    }
}

void train_copy_weights(struct train *t)
{
    if (t->bf16_bytes)
        team_run(t->team, copy_job, t);
}

void train_turn_all(struct train *t)
{
    t->turn_all = true;
    if (t->turned_bytes)
        team_run(t->team, turn_job, t);
    t->turn_all = false;
}

void train_refresh(struct train *t)
{
    train_copy_weights(t);
    exec_weights_refresh(t->x, t->trains);
    for (uint32_t i = 0; i < prog_n_instr(t->own); i++) {
        const struct instr *in = prog_instr(t->own, i);

        if (t->x->relative[i] && t->trains[in->w[1]])
            relative_table(t->x->relative[i], t->x->vector[in->w[1]], &in->a.attn);
    }
    if (t->turned_bytes)
        team_run(t->team, turn_job, t);
}

static void zero_job(void *arg, unsigned worker)
{
    struct train *t = arg;

    (void)worker;
    for (size_t task; (task = team_next(t->team)) * COPY_FLOATS < t->n_trained;) {
        const uint64_t from = task * COPY_FLOATS, left = t->n_trained - from;

        memset(t->gradients + from, 0, (left < COPY_FLOATS ? left : COPY_FLOATS) * sizeof(float));
    }
}

void train_zero(struct train *t)
{
    team_run(t->team, zero_job, t);
}

uint32_t train_n_params(const struct train *t)
{
    return t->n_params;
}

const struct train_param *train_param(const struct train *t, uint32_t i)
{
    CHECK(i < t->n_params);
    return &t->params[i];
}
