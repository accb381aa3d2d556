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
        const uint64_t start = profile_now(x->profile);

        op_info(in->op)->ref(x, in);
        profile_done(x->profile, i, 0, start);
        (void)profile_passed(x->profile, i, 0, start);
    }
    if (x->profile)
        x->profile->n_steps++;
    for (uint32_t r = 0; r < rows_in(x, result); r++)
        memcpy(out + (size_t)r * width_of(x, result), row_of(x, result, r),
               width_of(x, result) * sizeof *out);
    return 0;
}

static void interp_memory(const struct exec *exec, struct exec_memory *m)
{
    const struct interp *x = (const struct interp *)(const void *)exec;

    *m = x->memory;
}

static void interp_close(struct exec *exec)
{
    struct interp *x = (struct interp *)(void *)exec;

    if (x->vector)
        for (wid w = 1; w <= prog_n_weights(x->p); w++)
            mem_free(x->vector[w]);
    profile_close(x->profile);
    mem_free(x->vector);
    mem_free(x->offset);
    mem_free(x->row_buf);
    mem_free(x->kv_buf);
    mem_free(x->scratch);
    mem_unmap(x->arena, (size_t)x->memory.arena);
    mem_free(x);
}

/* One phase per instruction. */
static int interp_profile(struct exec *exec, bool on, struct err *e)
{
    struct interp *x = (struct interp *)(void *)exec;
    const uint32_t n = prog_n_instr(x->p);
    int rc;

    profile_close(x->profile);
    x->profile = NULL;
    if (!on)
        return 0;
    rc = profile_open(&x->profile, 1, n, n, e);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < n; i++) {
        x->profile->phase[i] = (struct profile_phase){ .kind = "instruction", .first = i, .n = 1 };
        x->profile->piece[i] = (struct profile_piece){ i, NULL };
    }
    return 0;
}

static const struct profile *interp_profiled(struct exec *exec)
{
    struct interp *x = (struct interp *)(void *)exec;

    if (x->profile)
        profile_collect(x->profile);
    return x->profile;
}

static const struct exec_ops interp_ops = {
    .name = "ref", .step = interp_step, .memory = interp_memory, .close = interp_close,
    .profile = interp_profile, .profiled = interp_profiled,
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

/* Sizes of everything that interp_open allocates, in elements. */
struct sizes { uint64_t vectors, row, scratch, kv; };

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static struct sizes measure(const struct program *p)
{
    struct sizes s = { .row = 1, .scratch = 1, .kv = 1 };

    for (wid w = 1; w <= prog_n_weights(p); w++) {
        const struct prog_weight *pw = prog_weight_at(p, w);

        if (pw->uses & (USE_MATRIX | USE_TABLE))
            s.row = max_u64(s.row, (uint64_t)tensor_row(&pw->t));
        if (pw->uses & USE_VECTOR)
            s.vectors += (uint64_t)tensor_elems(&pw->t);
    }
    for (uint32_t i = 0; i < prog_n_instr(p); i++)
        s.scratch = max_u64(s.scratch, interp_scratch(p, prog_instr(p, i)));
    for (sid st = 1; st <= prog_n_states(p); st++)
        s.kv = max_u64(s.kv, max_u64(prog_state_at(p, st)->k_dim, prog_state_at(p, st)->v_dim));
    return s;
}

static struct exec_memory memory_of(const struct sizes *s, uint64_t arena)
{
    return (struct exec_memory){
        .weights = s->vectors * sizeof(float),
        .arena = arena,
        .scratch = (s->row + s->kv) * sizeof(float) + s->scratch * sizeof(double),
    };
}

static int load_vectors(struct interp *x, struct err *e)
{
    for (wid w = 1; w <= prog_n_weights(x->p); w++) {
        const struct prog_weight *pw = prog_weight_at(x->p, w);
        const size_t n = (size_t)tensor_elems(&pw->t);
        int rc = pw->uses ? check_weight(pw, e) : 0;

        if (rc < 0)
            return rc;
        if (!(pw->uses & USE_VECTOR))
            continue;
        x->vector[w] = mem_array(n, sizeof(float));
        if (!x->vector[w])
            return err_set(e, WATT_ENOMEM, "tensor %s: %zu numbers", pw->name, n);
        dtype_info(pw->t.dtype)->dequant(x->vector[w], pw->t.data, n);
    }
    return 0;
}

int interp_plan(const struct program *p, const struct exec_limits *limits,
                struct exec_memory *m, struct err *e)
{
    const struct sizes s = measure(p);
    uint64_t *offset = mem_array((size_t)prog_n_values(p) + 1, sizeof *offset), arena;
    int rc;

    if (!offset)
        return err_set(e, WATT_ENOMEM, "interpreter: plan");
    rc = prog_plan(p, limits->max_rows, limits->max_streams, limits->max_out, offset, &arena, e);
    mem_free(offset);
    if (rc == 0)
        *m = memory_of(&s, arena);
    return rc;
}

/* Everything but the arena and the weights' numbers. */
static int alloc_tables(struct interp *x, const struct sizes *s, struct err *e)
{
    x->offset = mem_calloc((size_t)prog_n_values(x->p) + 1, sizeof *x->offset);
    x->vector = mem_calloc((size_t)prog_n_weights(x->p) + 1, sizeof *x->vector);
    x->row_buf = mem_array((size_t)s->row, sizeof *x->row_buf);
    x->kv_buf = mem_array((size_t)s->kv, sizeof *x->kv_buf);
    x->scratch = mem_array((size_t)s->scratch, sizeof *x->scratch);
    if (!x->offset || !x->vector || !x->row_buf || !x->kv_buf || !x->scratch)
        return err_set(e, WATT_ENOMEM, "interpreter: work space");
    return 0;
}

int interp_open(struct exec **out, const struct program *p, const struct kv_layout *layout,
                const struct exec_limits *limits, struct err *e)
{
    const struct sizes s = measure(p);
    struct interp *x = mem_calloc(1, sizeof *x);
    uint64_t arena = 0;
    int rc;

    if (!x)
        return err_set(e, WATT_ENOMEM, "interpreter: header");
    *x = (struct interp){ .exec.ops = &interp_ops, .p = p, .layout = layout, .limits = *limits };
    rc = alloc_tables(x, &s, e);
    if (rc == 0)
        rc = prog_plan(p, limits->max_rows, limits->max_streams, limits->max_out, x->offset,
                       &arena, e);
    if (rc < 0)
        goto fail;
    x->memory = memory_of(&s, arena);
    x->arena = mem_map((size_t)arena);
    if (!x->arena) {
        rc = err_set(e, WATT_ENOMEM, "interpreter: arena of %llu bytes",
                     (unsigned long long)arena);
        goto fail;
    }
    rc = load_vectors(x, e);
    if (rc < 0)
        goto fail;
    *out = &x->exec;
    return 0;
fail:
    interp_close(&x->exec);
    return rc;
}
