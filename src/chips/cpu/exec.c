/* exec.c: the CPU executor: opens (schedule, memory, packed weights) and runs steps: the
 * phases of the schedule in order, one barrier between two. */
#include "chips/cpu/exec.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "chips/cpu/exec_internal.h"
#include "chips/relative.h"
#include "chips/rope.h"

/* ---- a step ---- */

/* Units of a row phase that a worker takes at once: few while there are few. */
static uint32_t units_per_task(uint32_t n)
{
    return n <= 16 ? 1 : n <= 128 ? 4 : 8;
}

static void run_rows(struct cpu_exec *x, const struct phase *ph, void *scratch)
{
    const uint32_t n = exec_units(x, ph->extent), per = units_per_task(n);

    for (size_t task; (task = team_next(x->team)) * per < n;)
        for (uint32_t u = (uint32_t)task * per; u < n && u < (task + 1) * per; u++)
            exec_rows_unit(x, ph, u, scratch);
}

void exec_phase(struct cpu_exec *x, const struct phase *ph, unsigned worker)
{
    void *scratch = x->worker_scratch + worker * x->s.worker_bytes;

    switch (ph->kind) {
    case PHASE_ROWS:      run_rows(x, ph, scratch); break;
    case PHASE_PRODUCTS:  exec_products(x, ph, worker, scratch); break;
    case PHASE_SORT:      exec_sort(x, ph); break;
    case PHASE_EXPERTS:   exec_expert_products(x, ph, worker, scratch); break;
    case PHASE_ATTENTION: exec_attention(x, ph, worker, scratch); break;
    case PHASE_SCAN:      exec_scan(x, ph, worker, scratch); break;
    }
}

void exec_phases(struct cpu_exec *x, unsigned worker)
{
    uint64_t start = profile_now(x->profile);

    for (uint32_t i = 0; i < x->s.n_phases; i++) {
        exec_phase(x, &x->s.phases[i], worker);
        profile_done(x->profile, i, worker, start);
        team_barrier(x->team, worker);
        start = profile_passed(x->profile, i, worker, start);
    }
}

static void step_job(void *arg, unsigned worker)
{
    mem_guard_enter();
    exec_phases(arg, worker);
    mem_guard_leave();
}

/* Are rows of the result made by products and row-wise items alone, whole, and read by nobody whose
 * pointers are kept elsewhere? Then they need not be copied: with a large vocabulary that takes
 * one thread longer than all norms. */
static bool can_be_direct(const struct cpu_exec *x)
{
    const val result = prog_result(x->p);

    if (x->s.keep || prog_value(x->p, result)->base != result)
        return false;
    for (uint32_t i = 0; i < x->s.n_prepared; i++)
        if (prog_value(x->p, x->s.prepared[i].value)->base == result)
            return false;
    for (uint32_t i = 0; i < x->s.n_items; i++) {
        const struct item *it = &x->s.items[i];
        const struct instr *in = it->in;
        bool touches = false;

        for (int k = 0; k < in->n_dst && it->kind != ITEM_PREPARE; k++)
            touches |= prog_value(x->p, in->dst[k])->base == result;
        for (int k = 0; k < in->n_src; k++)
            touches |= prog_value(x->p, in->src[k])->base == result;
        if (touches && ((it->kind != ITEM_PRODUCT && it->kind != ITEM_FINISH &&
                         it->kind != ITEM_INSTR) || in->op == OP_ROUTE))
            return false;
    }
    return true;
}

/* Where the items find `v` when the result lies at out. */
static float *place_in(const struct cpu_exec *x, val v, float *out)
{
    const val result = prog_result(x->p);

    if (prog_value(x->p, v)->base != result)
        return (float *)(void *)(x->region + x->s.offset[v]);
    return out + (x->s.offset[v] - x->s.offset[result]) / sizeof *out;
}

static void place_result(struct cpu_exec *x, float *out)
{
    for (uint32_t i = 0; i < x->s.n_items; i++) {
        struct item *it = &x->s.items[i];

        if (it->in->n_dst > 0)
            it->dst = place_in(x, it->in->dst[0], out);
        for (int k = 0; k < it->in->n_src; k++)
            it->src[k] = place_in(x, it->in->src[k], out);
    }
}

static int cpu_step(struct exec *exec, const struct batch *b, void *kv_pages, float *out,
                    struct err *e)
{
    struct cpu_exec *x = (struct cpu_exec *)(void *)exec;
    const val result = prog_result(x->p);
    const struct prog_value *v = prog_value(x->p, result);
    const uint32_t stride = prog_value(x->p, v->base)->width;
    const float *from = (const float *)(const void *)(x->region + x->s.offset[result]);
    int rc = batch_check(b, x->p, &x->s.limits, e);
    uint32_t rows;

    if (rc < 0)
        return rc;
    x->b = b;
    x->kv_pages = kv_pages;
    if (x->direct)
        place_result(x, out);
    team_run(x->team, step_job, x);
    if (x->profile)
        x->profile->n_steps++;
    rows = x->direct ? 0 : prog_rows_of(v, b->n_rows, b->n_streams, b->n_out);
    for (uint32_t r = 0; r < rows; r++)
        memcpy(out + (size_t)r * v->width, from + (size_t)r * stride, v->width * sizeof *out);
    return 0;
}

/* ---- opening ---- */

static float *place_of(const struct cpu_exec *x, val v)
{
    return (float *)(void *)(x->region + x->s.offset[v]);
}

/* Pointers of items, tables and buffers into the one region. */
static void resolve(struct cpu_exec *x)
{
    struct schedule *s = &x->s;
    uint8_t *at = x->region + s->arena_bytes;
    const uint64_t sort_each = s->sort_bytes / SORT_BUFFERS;

    for (uint32_t i = 0; i < s->n_items; i++) {
        struct item *it = &s->items[i];

        if (it->in->n_dst > 0) {
            it->dst = place_of(x, it->in->dst[0]);
            it->dst_stride = prog_value(x->p, prog_value(x->p, it->in->dst[0])->base)->width;
        }
        for (int k = 0; k < it->in->n_src; k++) {
            it->src[k] = place_of(x, it->in->src[k]);
            it->src_stride[k] = prog_value(x->p, prog_value(x->p, it->in->src[k])->base)->width;
        }
    }
    for (uint32_t i = 0; i < s->n_prepared; i++)
        s->prepared[i].rows = at + s->prepared_offset[i];
    at += s->prepared_bytes;
    for (uint32_t i = 0; i < s->n_ropes; i++) {
        s->ropes[i].cos_sin = (float *)(void *)at;
        at += ((uint64_t)s->limits.max_rows * s->ropes[i].args.n_rot * 4 + 63) & ~UINT64_C(63);
    }
    for (uint32_t i = 0; i < SORT_BUFFERS && s->sort_bytes > 0; i++) {
        x->sorted[i].start = (uint32_t *)(void *)at;
        x->sorted[i].order = (uint32_t *)(void *)(at + s->sort_start_bytes);
        x->sorted[i].token = (uint32_t *)(void *)(at + s->sort_start_bytes + s->sort_slot_bytes);
        at += sort_each;
    }
    x->partials = (float *)(void *)at;
    at += (s->partial_floats * 4 + 63) & ~UINT64_C(63);
    x->worker_scratch = at;
}

static bool make_relative(const struct cpu_exec *x, const struct instr *in, float **out)
{
    const struct attn_args *a = &in->a.attn;

    *out = mem_array((size_t)a->n_heads * relative_stride(a->max_distance), sizeof **out);
    if (*out)
        relative_table(*out, x->vector[in->w[1]], a);
    return *out != NULL;
}

static int make_tables(struct cpu_exec *x, struct err *e)
{
    const uint32_t n_instr = prog_n_instr(x->p);

    for (uint32_t i = 0; i < x->s.n_ropes; i++) {
        struct rope_table *t = &x->s.ropes[i];

        t->freq = mem_array(t->args.n_rot / 2, sizeof *t->freq);
        if (!t->freq)
            return err_set(e, WATT_ENOMEM, "executor: rope frequencies");
        rope_frequencies(&t->args, x->vector[t->factors], t->freq, &t->magnitude);
    }
    x->slopes = mem_calloc((size_t)n_instr + 1, sizeof *x->slopes);
    x->relative = mem_calloc((size_t)n_instr + 1, sizeof *x->relative);
    if (!x->slopes || !x->relative)
        return err_set(e, WATT_ENOMEM, "executor: slopes");
    for (uint32_t i = 0; i < n_instr; i++) {
        const struct instr *in = prog_instr(x->p, i);

        if (in->op == OP_ATTENTION && in->w[1] && !make_relative(x, in, &x->relative[i]))
            return err_set(e, WATT_ENOMEM, "executor: biases by distance");
        if (in->op != OP_ATTENTION || in->a.attn.alibi_max_bias == 0.0f)
            continue;
        x->slopes[i] = mem_array(in->a.attn.n_heads, sizeof **x->slopes);
        if (!x->slopes[i])
            return err_set(e, WATT_ENOMEM, "executor: slopes");
        attn_slopes(x->slopes[i], in->a.attn.n_heads, in->a.attn.alibi_max_bias);
    }
    return 0;
}

static void cpu_memory(const struct exec *exec, struct exec_memory *m)
{
    const struct cpu_exec *x = (const struct cpu_exec *)(const void *)exec;

    *m = (struct exec_memory){ .weights = x->own_bytes + x->s.vector_bytes,
                               .shared = x->s.packed_bytes - x->own_bytes, .arena = x->s.arena_bytes, .scratch = x->s.scratch_bytes };
}

static void cpu_close(struct exec *exec)
{
    struct cpu_exec *x = (struct cpu_exec *)(void *)exec;

    for (uint32_t i = 0; x->slopes && i < prog_n_instr(x->p); i++)
        mem_free(x->slopes[i]);
    for (uint32_t i = 0; x->relative && i < prog_n_instr(x->p); i++)
        mem_free(x->relative[i]);
    mem_free(x->slopes);
    profile_close(x->profile);
    mem_free(x->relative);
    exec_weights_close(x);
    mem_unmap(x->region, (size_t)x->region_bytes);
    schedule_deinit(&x->s);
    mem_free(x);
}

static int cpu_profile(struct exec *exec, bool on, struct err *e)
{
    struct cpu_exec *x = (struct cpu_exec *)(void *)exec;

    if (on && !x->profile)
        return exec_profile_open(x, e);
    if (on) {
        profile_reset(x->profile);
    } else {
        profile_close(x->profile);
        x->profile = NULL;
    }
    return 0;
}

static const struct profile *cpu_profiled(struct exec *exec)
{
    struct cpu_exec *x = (struct cpu_exec *)(void *)exec;

    if (x->profile)
        profile_collect(x->profile);
    return x->profile;
}

static const struct exec_ops cpu_ops = {
    .name = "cpu", .step = cpu_step, .memory = cpu_memory, .close = cpu_close,
    .profile = cpu_profile, .profiled = cpu_profiled,
};

static int open_with(struct exec **out, const struct program *p, const struct kv_layout *layout,
                     const struct exec_limits *limits, const struct cpu_exec_opts *o,
                     const struct schedule *how, struct err *e)
{
    struct cpu_exec *x = mem_calloc(1, sizeof *x);
    int rc;

    if (!x)
        return err_set(e, WATT_ENOMEM, "executor: header");
    x->base.ops = &cpu_ops;
    x->p = p;
    x->layout = layout;
    x->team = o->team;
    kernels_init(&x->k, o->isa_mask);
    x->s = *how;
    rc = schedule_build(&x->s, p, limits, team_size(o->team), e);
    if (rc < 0)
        goto fail;
    x->region_bytes = x->s.arena_bytes + x->s.scratch_bytes;
    x->region = mem_map((size_t)x->region_bytes);
    if (!x->region) {
        rc = err_set(e, WATT_ENOMEM, "executor: %" PRIu64 " bytes of arena and scratch",
                     x->region_bytes);
        goto fail;
    }
    resolve(x);
    x->direct = can_be_direct(x);
    if (o->lock && (rc = mem_lock(x->region, (size_t)x->region_bytes, "work space", e)) < 0)
        goto fail;
    rc = exec_weights_open(x, o, e);
    if (rc == 0)
        rc = make_tables(x, e);
    if (rc < 0)
        goto fail;
    *out = &x->base;
    return 0;
fail:
    cpu_close(&x->base);
    return rc;
}

int cpu_exec_open(struct exec **out, const struct program *p, const struct kv_layout *layout,
                  const struct exec_limits *limits, const struct cpu_exec_opts *o, struct err *e)
{
    return open_with(out, p, layout, limits, o, &(struct schedule){ 0 }, e);
}

int cpu_exec_open_keep(struct exec **out, const struct program *p,
                       const struct kv_layout *layout, const struct exec_limits *limits,
                       const struct cpu_exec_opts *o, const uint8_t *drop,
                       const uint32_t *local, struct err *e)
{
    const struct schedule how = { .keep = true, .drop = drop, .local = local };

    return open_with(out, p, layout, limits, o, &how, e);
}

int cpu_exec_plan(const struct program *p, const struct kv_layout *layout,
                  const struct exec_limits *limits, uint32_t n_threads,
                  const struct weights_pool *pool, uint64_t pool_key, struct exec_memory *m,
                  struct err *e)
{
    struct schedule s = { 0 };
    int rc = schedule_build(&s, p, limits, n_threads, e);
    uint64_t shared;

    (void)layout;
    if (rc < 0)
        return rc;
    shared = exec_weights_shared(p, &s, pool, pool_key);
    *m = (struct exec_memory){ .weights = s.packed_bytes - shared + s.vector_bytes,
                               .shared = shared,
                               .arena = s.arena_bytes, .scratch = s.scratch_bytes };
    schedule_deinit(&s);
    return 0;
}
