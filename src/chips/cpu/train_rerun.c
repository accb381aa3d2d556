/* train_rerun.c: forward of one layer again, in front of its backward, so that only what layers
 * hand on is kept between forward and backward (Chen et al. 2016, arXiv 1604.06174).
 *
 * A value that only its own layer reads is local. Local values that the backward reads, and those
 * that they are made from, are made again: by copies of forward's items, in phases of their own in
 * the same order. The copies do what the items did, on the same operands, so the bits are the same;
 * dropout's masks depend on places alone, and the states of scans begin at zero again. */
#include <string.h>

#include "base/mem.h"
#include "chips/cpu/train_internal.h"

static val base_of(const struct train *t, val v)
{
    return prog_value(t->own, v)->base;
}

/* Values whose readers are all of their own layer, outside routers with a balance loss, which
 * reads logits and choices once for all layers. */
static void find_local(struct train *t)
{
    memset(t->local, 0xFF, ((size_t)prog_n_values(t->own) + 1) * sizeof *t->local);
    for (uint32_t i = 0; i < prog_n_instr(t->own); i++) {
        const struct instr *in = prog_instr(t->own, i);
        const bool balanced = in->op == OP_ROUTE && t->o.balance > 0.0f;

        for (int d = 0; d < in->n_dst; d++)
            if (!balanced && in->dst[d] != prog_result(t->own))
                t->local[in->dst[d]] = in->layer;
        for (int s = 0; s < reverse_n_operands(in); s++) {
            const val v = base_of(t, reverse_operand(t->own, in, s));

            if (t->local[v] != in->layer || balanced)
                t->local[v] = UINT32_MAX;
        }
    }
}

static void want(struct train *t, val v)
{
    if (t->local[base_of(t, v)] != UINT32_MAX)
        t->again_value[base_of(t, v)] = true;
}

/* What the backward reads, then, last instruction first, what that is made from. */
static void find_again(struct train *t)
{
    for (uint32_t i = 0; i < t->rev.n_steps; i++) {
        const struct instr *in = prog_instr(t->own, t->rev.steps[i].instr);
        const struct reverse_info *info = reverse_info(in->op);

        if (t->rev.steps[i].kind != REVERSE_INSTR)
            continue;
        for (int s = 0; s < reverse_n_operands(in); s++)
            if (s < 7 && (info->reads >> s & 1))
                want(t, reverse_operand(t->own, in, s));
        if (info->reads & REVERSE_READS_RESULT)
            want(t, in->dst[0]);
    }
    for (uint32_t i = prog_n_instr(t->own); i-- > 0;) {
        const struct instr *in = prog_instr(t->own, i);
        bool again = false;

        for (int d = 0; d < in->n_dst; d++)
            again |= t->again_value[in->dst[d]];
        for (int s = 0; again && s < in->n_src; s++)
            want(t, in->src[s]);
    }
}

int train_local_open(struct train *t, struct err *e)
{
    const size_t n = (size_t)prog_n_values(t->own) + 1;

    t->local = mem_calloc(n, sizeof *t->local);
    t->again_value = mem_calloc(n, sizeof *t->again_value);
    if (!t->local || !t->again_value)
        return err_set(e, WATT_ENOMEM, "training: list of values made again");
    find_local(t);
    find_again(t);
    return 0;
}

/* ---- a layer's phases ---- */

static bool makes_again(const struct train *t, const struct instr *in)
{
    for (int d = 0; d < in->n_dst; d++)
        if (t->again_value[in->dst[d]])
            return true;
    return false;
}

/* Some product that runs again reads this prepared buffer. */
static bool prepares(const struct train *t, uint32_t layer, const struct item *of)
{
    const struct schedule *s = &t->x->s;

    for (uint32_t i = 0; i < s->n_items; i++) {
        const struct item *it = &s->items[i];

        if ((it->kind == ITEM_PRODUCT || it->kind == ITEM_EXPERT_PRODUCT) &&
            it->in->layer == layer && makes_again(t, it->in) && it->index == of->index &&
            !exec_reads_value(t->own, it->in->src[0], it->format))
            return true;
    }
    return false;
}

static bool runs_again(const struct train *t, uint32_t layer, const struct item *it)
{
    if (it->kind == ITEM_PREPARE)
        return prepares(t, layer, it);
    if (it->kind == ITEM_ROPE_TABLE || it->in->layer != layer)
        return false;
    if (it->kind == ITEM_DROP && it->index < PROG_MAX_SRC)
        return t->again_value[base_of(t, it->in->src[it->index])];
    return makes_again(t, it->in);
}

/* Copies stand behind forward's items; n_items stays. */
static bool copy_item(struct train *t, uint32_t i, struct phase *ph)
{
    struct schedule *s = &t->x->s;
    const uint32_t at = s->n_items + t->n_copies;

    if (at >= s->cap_items) {
        void *bigger = mem_grow(s->items, (size_t)s->cap_items * 2 + 64, sizeof *s->items);

        if (!bigger)
            return false;
        s->items = bigger;
        s->cap_items = s->cap_items * 2 + 64;
    }
    s->items[at] = s->items[i];
    s->items[at].next = NO_PHASE;
    if (ph->last == NO_PHASE)
        ph->first = at;
    else
        s->items[ph->last].next = at;
    ph->last = at;
    t->n_copies++;
    return true;
}

bool train_rerun_layer(struct train *t, uint32_t layer, uint32_t *first, uint32_t *last)
{
    *first = t->n_again;
    for (uint32_t p = 0; p < t->x->s.n_phases; p++) {
        struct phase ph = t->x->s.phases[p];
        void *bigger;

        ph.first = ph.last = NO_PHASE;
        for (uint32_t i = t->x->s.phases[p].first; i != NO_PHASE; i = t->x->s.items[i].next)
            if (runs_again(t, layer, &t->x->s.items[i]) && !copy_item(t, i, &ph))
                return false;
        if (ph.first == NO_PHASE)
            continue;
        bigger = mem_grow(t->again, t->n_again + 1u, sizeof *t->again);
        if (!bigger)
            return false;
        t->again = bigger;
        t->again[t->n_again++] = ph;
    }
    *last = t->n_again;
    return true;
}

/* The states of the layer's scans, by streams. */
static void reset_states(struct train *t, const struct train_phase *ph)
{
    for (size_t s; (s = team_next(t->team)) < t->batch.n_streams;)
        for (uint32_t i = ph->first; i < ph->last; i++) {
            const struct instr *in = t->x->s.items[t->again[i].first].in;
            const struct prog_state *state;

            if (t->again[i].kind != PHASE_SCAN)
                continue;
            state = prog_state_at(t->own, in->state);
            memset(t->streams[s].fixed + state->first, 0, state->n_floats * sizeof(float));
        }
}

void train_rerun(struct train *t, const struct train_phase *ph, unsigned worker)
{
    if (t->fixed_floats) {
        reset_states(t, ph);
        team_barrier(t->team, worker);
    }
    for (uint32_t i = ph->first; i < ph->last; i++) {
        exec_phase(t->x, &t->again[i], worker);
        if (i + 1 < ph->last)
            team_barrier(t->team, worker);
    }
}
