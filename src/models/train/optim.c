/* optim.c: optimisers over all parameters; see optim.h.
 *
 * Work is cut into tasks once: pieces of PIECE elements for everything element by element, whole
 * matrices for Muon, the largest first so that threads end together. */
#include "models/train/optim.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "chips/cpu/update.h"
#include "models/train/optim_internal.h"

#define PIECE ((uint64_t)1 << 15)

struct state { float *m, *v, *ema; };

struct task {
    uint32_t slot;
    uint64_t first, n;      /* elements */
    bool     muon;          /* a whole matrix */
};

struct optim {
    struct optim_opts  o;
    struct optim_slot *slots;
    struct state      *states;
    size_t             n_slots;
    struct task       *tasks, *pieces;  /* of the update; of norms, averages: pieces of all */
    size_t             n_tasks, n_pieces;
    double            *sums;            /* [n_pieces] */
    struct muon_room **rooms;           /* [team_size] */
    struct optim_array *arrays;
    size_t             n_arrays;
    void              *memory;
    size_t             memory_bytes;
    struct update_kernels update;
    struct kernels     kernels;
    /* of the step that runs */
    struct adamw_args  adamw;
    float              lr, g_scale;
};

static uint64_t elems(const struct optim_slot *s)
{
    return (uint64_t)s->mats * s->rows * s->cols;
}

static bool is_muon(const struct optim *o, const struct optim_slot *s)
{
    return o->o.kind == OPTIM_MUON && s->hidden;
}

static bool has_v(const struct optim *o, const struct optim_slot *s)
{
    return o->o.kind != OPTIM_SGD && !is_muon(o, s);
}

/* ---- opening ---- */

static uint64_t padded(uint64_t n)
{
    return (n + 15) & ~(uint64_t)15;
}

static int map_states(struct optim *o, struct err *e)
{
    uint64_t total = 0;
    float *at;

    for (size_t i = 0; i < o->n_slots; i++)
        total += padded(elems(&o->slots[i])) *
                 (1u + (has_v(o, &o->slots[i]) ? 1u : 0u) + (o->o.ema > 0 ? 1u : 0u));
    if (!mul_size((size_t)total, sizeof(float), &o->memory_bytes))
        return err_set(e, WATT_ELIMIT, "moments of %" PRIu64 " numbers", total);
    o->memory = mem_map(o->memory_bytes ? o->memory_bytes : 1);
    if (!o->memory)
        return err_set(e, WATT_ENOMEM, "no memory for %zu bytes of moments", o->memory_bytes);
    at = o->memory;
    for (size_t i = 0; i < o->n_slots; i++) {
        const struct optim_slot *s = &o->slots[i];
        const uint64_t n = padded(elems(s));
        struct state *st = &o->states[i];

        st->m = at;
        at += n;
        if (has_v(o, s)) {
            st->v = at;
            at += n;
        }
        if (o->o.ema > 0) {
            st->ema = at;
            at += n;
            memcpy(st->ema, s->w, (size_t)elems(s) * sizeof(float));
        }
    }
    return 0;
}

static int compare_tasks(const void *pa, const void *pb)
{
    const struct task *a = pa, *b = pb;

    if (a->n != b->n)
        return a->n > b->n ? -1 : 1;
    if (a->slot != b->slot)
        return a->slot < b->slot ? -1 : 1;
    return a->first < b->first ? -1 : a->first > b->first;
}

static void add_pieces(const struct optim_slot *s, uint32_t slot, struct task *to, size_t *n_to)
{
    for (uint64_t at = 0, n = elems(s); at < n; at += PIECE)
        to[(*n_to)++] = (struct task){ slot, at, n - at < PIECE ? n - at : PIECE, false };
}

static int cut_tasks(struct optim *o, struct err *e)
{
    size_t most = 0, matrices = 0;

    for (size_t i = 0; i < o->n_slots; i++) {
        most += (size_t)((elems(&o->slots[i]) + PIECE - 1) / PIECE);
        matrices += o->slots[i].mats;
    }
    o->tasks = mem_array(most + matrices + 1, sizeof *o->tasks);
    o->pieces = mem_array(most + 1, sizeof *o->pieces);
    o->sums = mem_array(most + 1, sizeof *o->sums);
    if (!o->tasks || !o->pieces || !o->sums)
        return err_set(e, WATT_ENOMEM, "out of memory for the optimiser");
    for (uint32_t i = 0; i < o->n_slots; i++) {
        const struct optim_slot *s = &o->slots[i];
        const uint64_t one = (uint64_t)s->rows * s->cols;

        add_pieces(s, i, o->pieces, &o->n_pieces);
        if (!is_muon(o, s))
            add_pieces(s, i, o->tasks, &o->n_tasks);
        for (uint32_t m = 0; is_muon(o, s) && m < s->mats; m++)
            o->tasks[o->n_tasks++] = (struct task){ i, m * one, one, true };
    }
    qsort(o->tasks, o->n_tasks, sizeof *o->tasks, compare_tasks);
    return 0;
}

static int open_rooms(struct optim *o, struct err *e)
{
    const unsigned n = team_size(o->o.team);
    uint32_t small = 0, large = 0;
    int rc = 0;

    for (size_t i = 0; i < o->n_slots; i++) {
        const struct optim_slot *s = &o->slots[i];
        const uint32_t low = s->rows < s->cols ? s->rows : s->cols;
        const uint32_t high = s->rows < s->cols ? s->cols : s->rows;

        if (!is_muon(o, s))
            continue;
        small = low > small ? low : small;
        large = high > large ? high : large;
    }
    if (small == 0)
        return 0;
    o->rooms = mem_calloc(n, sizeof *o->rooms);
    if (!o->rooms)
        return err_set(e, WATT_ENOMEM, "out of memory for Muon");
    for (unsigned i = 0; rc == 0 && i < n; i++)
        rc = muon_room_open(&o->rooms[i], small, large, e);
    return rc;
}

static int list_arrays(struct optim *o, struct err *e)
{
    o->arrays = mem_array(3 * o->n_slots, sizeof *o->arrays);
    if (!o->arrays)
        return err_set(e, WATT_ENOMEM, "out of memory for the optimiser");
    for (size_t i = 0; i < o->n_slots; i++) {
        const struct optim_slot *s = &o->slots[i];
        const struct state *st = &o->states[i];

        o->arrays[o->n_arrays++] = (struct optim_array){ "m", s, st->m, elems(s) };
        if (st->v)
            o->arrays[o->n_arrays++] = (struct optim_array){ "v", s, st->v, elems(s) };
        if (st->ema)
            o->arrays[o->n_arrays++] = (struct optim_array){ "ema", s, st->ema, elems(s) };
    }
    return 0;
}

static bool in_range(float f, float min, float max)
{
    return f >= min && f <= max;    /* false for NaN */
}

int optim_open(struct optim **out, const struct optim_slot *slots, size_t n,
               const struct optim_opts *opts, struct err *e)
{
    struct optim *o;
    int rc;

    if (!in_range(opts->beta1, 0, 0.999999f) || !in_range(opts->beta2, 0, 0.9999999f) ||
        !in_range(opts->eps, 1e-30f, 1) || !in_range(opts->momentum, 0, 0.999999f) ||
        !in_range(opts->weight_decay, 0, 1e6f) || !in_range(opts->clip, 0, 1e30f) ||
        !in_range(opts->ema, 0, 0.9999999f))
        return err_set(e, WATT_EINVAL, "optimiser: beta1 %g, beta2 %g, eps %g, momentum %g, weight "
                       "decay %g, clip %g, ema %g", (double)opts->beta1, (double)opts->beta2,
                       (double)opts->eps, (double)opts->momentum, (double)opts->weight_decay,
                       (double)opts->clip, (double)opts->ema);
    if (n == 0 || n > UINT32_MAX)
        return err_set(e, WATT_EINVAL, "optimiser: %zu parameters", n);
    o = mem_calloc(1, sizeof *o);
    if (!o)
        return err_set(e, WATT_ENOMEM, "out of memory for the optimiser");
    o->o = *opts;
    o->n_slots = n;
    o->slots = mem_array(n, sizeof *o->slots);
    o->states = mem_calloc(n, sizeof *o->states);
    update_kernels_init(&o->update, opts->isa_mask);
    kernels_init(&o->kernels, opts->isa_mask);
    rc = o->slots && o->states ? 0 : err_set(e, WATT_ENOMEM, "out of memory for the optimiser");
    if (rc == 0) {
        memcpy(o->slots, slots, n * sizeof *slots);
        rc = map_states(o, e);
    }
    if (rc == 0)
        rc = cut_tasks(o, e);
    if (rc == 0)
        rc = open_rooms(o, e);
    if (rc == 0)
        rc = list_arrays(o, e);
    if (rc < 0) {
        optim_close(o);
        return rc;
    }
    *out = o;
    return 0;
}

void optim_close(struct optim *o)
{
    if (!o)
        return;
    for (unsigned i = 0; o->rooms && i < team_size(o->o.team); i++)
        muon_room_close(o->rooms[i]);
    mem_free(o->rooms);
    if (o->memory)
        mem_unmap(o->memory, o->memory_bytes ? o->memory_bytes : 1);
    mem_free(o->slots);
    mem_free(o->states);
    mem_free(o->tasks);
    mem_free(o->pieces);
    mem_free(o->sums);
    mem_free(o->arrays);
    mem_free(o);
}

size_t optim_n_arrays(const struct optim *o)
{
    return o->n_arrays;
}

struct optim_array optim_array_at(const struct optim *o, size_t i)
{
    CHECK(i < o->n_arrays);
    return o->arrays[i];
}

uint64_t optim_bytes(const struct optim *o)
{
    return o->memory_bytes;
}

/* ---- steps ---- */

/* In eight sums, so that the compiler can use vectors whatever the machine. */
static double sum_squares(const float *g, uint64_t n)
{
    double s[8] = { 0 };
    uint64_t i = 0;

    for (; i + 8 <= n; i += 8)
        for (unsigned j = 0; j < 8; j++)
            s[j] += (double)g[i + j] * (double)g[i + j];
    for (; i < n; i++)
        s[i % 8] += (double)g[i] * (double)g[i];
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

static void sum_work(void *arg, unsigned worker)
{
    struct optim *o = arg;

    (void)worker;
    for (size_t t; (t = team_next(o->o.team)) < o->n_pieces;) {
        const struct task *p = &o->pieces[t];

        o->sums[t] = sum_squares(o->slots[p->slot].g + p->first, p->n);
    }
}

static void sgd(struct optim *o, const struct optim_slot *s, float *m, uint64_t first, uint64_t n,
                float keep)
{
    o->update.blend(m + first, s->g + first, o->o.momentum, o->g_scale, n);
    o->update.blend(s->w + first, m + first, keep, -o->lr, n);
}

static void update_work(void *arg, unsigned worker)
{
    struct optim *o = arg;

    for (size_t t; (t = team_next(o->o.team)) < o->n_tasks;) {
        const struct task *p = &o->tasks[t];
        const struct optim_slot *s = &o->slots[p->slot];
        const struct state *st = &o->states[p->slot];
        const float keep = s->decays ? 1.0f - o->lr * o->o.weight_decay : 1.0f;

        if (p->muon) {
            const struct muon_args a = { o->g_scale, o->o.momentum, keep, o->lr };

            muon_matrix(o->rooms[worker], &o->kernels, s->w + p->first, st->m + p->first,
                        s->g + p->first, s->rows, s->cols, &a);
        } else if (st->v) {
            struct adamw_args a = o->adamw;

            a.keep = keep;
            o->update.adamw(s->w + p->first, st->m + p->first, st->v + p->first, s->g + p->first,
                            p->n, &a);
        } else {
            sgd(o, s, st->m, p->first, p->n, keep);
        }
    }
}

static void average_work(void *arg, unsigned worker)
{
    struct optim *o = arg;

    (void)worker;
    for (size_t t; (t = team_next(o->o.team)) < o->n_pieces;) {
        const struct task *p = &o->pieces[t];

        o->update.blend(o->states[p->slot].ema + p->first, o->slots[p->slot].w + p->first, o->o.ema,
                        1.0f - o->o.ema, p->n);
    }
}

static int norm_of(struct optim *o, double *norm, struct err *e)
{
    double sum = 0;

    team_run(o->o.team, sum_work, o);
    for (size_t i = 0; i < o->n_pieces; i++) {
        if (!isfinite(o->sums[i]))
            return err_set(e, WATT_EINVAL, "the gradient of %s is not finite",
                           o->slots[o->pieces[i].slot].name);
        sum += o->sums[i];
    }
    *norm = sqrt(sum);
    return 0;
}

int optim_step(struct optim *o, uint64_t step, double lr, double *norm, struct err *e)
{
    const struct optim_opts *p = &o->o;
    const double t = (double)step + 1;
    const int rc = norm_of(o, norm, e);

    if (rc < 0)
        return rc;
    o->lr = (float)lr;
    o->g_scale = p->clip > 0 && *norm > (double)p->clip ? (float)((double)p->clip / *norm) : 1.0f;
    o->adamw = (struct adamw_args){
        .g_scale = o->g_scale, .beta1 = p->beta1, .beta2 = p->beta2, .eps = p->eps,
        .rate = (float)(lr / (1 - pow((double)p->beta1, t))),
        .root = (float)(1 / sqrt(1 - pow((double)p->beta2, t))),
    };
    team_run(p->team, update_work, o);
    if (p->ema > 0)
        team_run(p->team, average_work, o);
    return 0;
}

void optim_swap_ema(struct optim *o)
{
    for (size_t i = 0; o->o.ema > 0 && i < o->n_slots; i++) {
        float *w = o->slots[i].w, *ema = o->states[i].ema;

        for (uint64_t j = 0, n = elems(&o->slots[i]); j < n; j++) {
            const float x = w[j];

            w[j] = ema[j];
            ema[j] = x;
        }
    }
}
