/* interp.c: the scalar reference executor: the oracle of every other one.
 *
 * Reads matrices and tables where the file is mapped, one dequantised row at a
 * time; keeps vectors as f32; sums in double. Operations are in interp_*.c and found
 * through the table of op.c. */
#include <string.h>

#include "base/mem.h"
#include "chips/interp_internal.h"

static int interp_step(struct exec *exec, const struct batch *b, void *kv_pages, float *out,
                       struct err *e)
{
    struct interp *x = (struct interp *)(void *)exec;
    const val result = prog_result(x->p);
    int rc = batch_check(b, x->p, &x->limits, e);

    if (rc < 0)
        return rc;
    x->b = b;
    x->kv_pages = kv_pages;
    for (uint32_t i = 0; i < prog_n_instr(x->p); i++) {
        const struct instr *in = prog_instr(x->p, i);

        op_info(in->op)->ref(x, in);
    }
    for (uint32_t r = 0; r < rows_in(x, result); r++)
        memcpy(out + (size_t)r * width_of(x, result), row_of(x, result, r),
               width_of(x, result) * sizeof *out);
    return 0;
}

static void interp_memory(const struct exec *exec, struct exec_memory *m)
{
    const struct interp *x = (const struct interp *)(const void *)exec;

    *m = (struct exec_memory){ .weights = x->vector_bytes, .arena = x->arena_bytes,
                               .scratch = x->scratch_bytes };
}

static void interp_close(struct exec *exec)
{
    struct interp *x = (struct interp *)(void *)exec;

    if (x->vector)
        for (wid w = 1; w <= prog_n_weights(x->p); w++)
            mem_free(x->vector[w]);
    mem_free(x->vector);
    mem_free(x->offset);
    mem_free(x->row_buf);
    mem_free(x->kv_buf);
    mem_free(x->scratch);
    mem_unmap(x->arena, (size_t)x->arena_bytes);
    mem_free(x);
}

static const struct exec_ops interp_ops = {
    .name = "ref", .step = interp_step, .memory = interp_memory, .close = interp_close,
};

const float *interp_weight_row(struct interp *x, wid w, uint64_t r)
{
    const struct tensor *t = &prog_weight_at(x->p, w)->t;
    const uint64_t n = (uint64_t)tensor_row(t);
    const uint64_t row_bytes = t->size_bytes / ((uint64_t)tensor_elems(t) / n);

    dtype_info(t->dtype)->dequant(x->row_buf, (const uint8_t *)t->data + r * row_bytes,
                                  (size_t)n);
    return x->row_buf;
}

/* Every weight that some instruction reads has bytes that can be read. */
static int check_weight(const struct prog_weight *w, struct err *e)
{
    const struct tensor *t = &w->t;
    const struct dtype_info *info = dtype_info(t->dtype);
    uint64_t row_bytes;

    if (!info->dequant)
        return err_set(e, WATT_ENOTSUP, "tensor %s: type %s can't be a weight", w->name,
                       info->name);
    if (!t->data)
        return err_set(e, WATT_EINVAL, "tensor %s: no data", w->name);
    if (!dtype_row_bytes(t->dtype, (uint64_t)tensor_row(t), &row_bytes) ||
        t->size_bytes != row_bytes * (uint64_t)(tensor_elems(t) / tensor_row(t)))
        return err_set(e, WATT_EFORMAT, "tensor %s: %llu bytes don't fit its shape", w->name,
                       (unsigned long long)t->size_bytes);
    return 0;
}

static int load_weights(struct interp *x, struct err *e)
{
    uint64_t widest = 1;

    x->vector = mem_calloc((size_t)prog_n_weights(x->p) + 1, sizeof *x->vector);
    if (!x->vector)
        return err_set(e, WATT_ENOMEM, "interpreter: weight table");
    for (wid w = 1; w <= prog_n_weights(x->p); w++) {
        const struct prog_weight *pw = prog_weight_at(x->p, w);
        const size_t n = (size_t)tensor_elems(&pw->t);
        int rc;

        if (pw->uses == 0)
            continue;
        rc = check_weight(pw, e);
        if (rc < 0)
            return rc;
        if (pw->uses & (USE_MATRIX | USE_TABLE) && (uint64_t)tensor_row(&pw->t) > widest)
            widest = (uint64_t)tensor_row(&pw->t);
        if (!(pw->uses & USE_VECTOR))
            continue;
        x->vector[w] = mem_array(n, sizeof(float));
        if (!x->vector[w])
            return err_set(e, WATT_ENOMEM, "tensor %s: %zu numbers", pw->name, n);
        dtype_info(pw->t.dtype)->dequant(x->vector[w], pw->t.data, n);
        x->vector_bytes += n * sizeof(float);
    }
    x->row_buf = mem_array((size_t)widest, sizeof(float));
    x->scratch_bytes += widest * sizeof(float);
    return x->row_buf ? 0 : err_set(e, WATT_ENOMEM, "interpreter: row buffer");
}

static int alloc_scratch(struct interp *x, struct err *e)
{
    size_t doubles = 1, dim = 1;

    for (uint32_t i = 0; i < prog_n_instr(x->p); i++) {
        const size_t n = interp_scratch(x->p, prog_instr(x->p, i));

        doubles = n > doubles ? n : doubles;
    }
    for (sid s = 1; s <= prog_n_states(x->p); s++) {
        const struct prog_state *st = prog_state_at(x->p, s);

        dim = st->k_dim > dim ? st->k_dim : dim;
        dim = st->v_dim > dim ? st->v_dim : dim;
    }
    x->scratch = mem_array(doubles, sizeof *x->scratch);
    x->kv_buf = mem_array(dim, sizeof *x->kv_buf);
    x->scratch_bytes += doubles * sizeof *x->scratch + dim * sizeof *x->kv_buf;
    if (!x->scratch || !x->kv_buf)
        return err_set(e, WATT_ENOMEM, "interpreter: scratch");
    return 0;
}

int interp_open(struct exec **out, const struct program *p, const struct kv_layout *layout,
                const struct exec_limits *limits, struct err *e)
{
    struct interp *x = mem_calloc(1, sizeof *x);
    int rc;

    if (!x)
        return err_set(e, WATT_ENOMEM, "interpreter: header");
    *x = (struct interp){ .exec.ops = &interp_ops, .p = p, .layout = layout, .limits = *limits };
    x->offset = mem_calloc((size_t)prog_n_values(p) + 1, sizeof *x->offset);
    if (!x->offset) {
        rc = err_set(e, WATT_ENOMEM, "interpreter: plan");
        goto fail;
    }
    rc = prog_plan(p, limits->max_rows, limits->max_streams, limits->max_out, x->offset,
                   &x->arena_bytes, e);
    if (rc < 0)
        goto fail;
    x->arena = mem_map((size_t)x->arena_bytes);
    if (!x->arena) {
        rc = err_set(e, WATT_ENOMEM, "interpreter: arena of %llu bytes",
                     (unsigned long long)x->arena_bytes);
        goto fail;
    }
    rc = load_weights(x, e);
    if (rc == 0)
        rc = alloc_scratch(x, e);
    if (rc < 0)
        goto fail;
    *out = &x->exec;
    return 0;
fail:
    interp_close(&x->exec);
    return rc;
}
