/* exec_profile.c: which instructions each phase of the CPU executor works on, for
 * chips/profile.h. */
#include "chips/cpu/exec_internal.h"

static const char *const kinds[] = {
    [PHASE_ROWS] = "rows", [PHASE_PRODUCTS] = "products", [PHASE_EXPERTS] = "experts",
    [PHASE_SORT] = "sort", [PHASE_ATTENTION] = "attention", [PHASE_SCAN] = "scan",
};

/* What an item is beside the instruction's own work; NULL: that work. */
static const char *side_job(enum item_kind kind)
{
    switch (kind) {
    case ITEM_ROPE_TABLE: return "rotation table";
    case ITEM_PREPARE:    return "prepare";
    case ITEM_SORT:       return "sort";
    case ITEM_FINISH:     return "scale and bias";
    case ITEM_KV_STORE:   return "cache write";
    case ITEM_DROP:       return "dropout";
    case ITEM_INSTR:
    case ITEM_PRODUCT:
    case ITEM_EXPERT_PRODUCT:
    case ITEM_ATTENTION:
    case ITEM_SCAN:       break;
    }
    return NULL;
}

int exec_profile_open(struct cpu_exec *x, struct err *e)
{
    const struct schedule *s = &x->s;
    const struct instr *first = prog_instr(x->p, 0);
    uint32_t n = 0;
    int rc = profile_open(&x->profile, team_size(x->team), s->n_phases, s->n_items, e);

    if (rc < 0)
        return rc;
    for (uint32_t ph = 0; ph < s->n_phases; ph++) {
        struct profile_phase *to = &x->profile->phase[ph];

        *to = (struct profile_phase){ .kind = kinds[s->phases[ph].kind], .first = n };
        for (uint32_t i = s->phases[ph].first; i != NO_PHASE; i = s->items[i].next)
            x->profile->piece[n++] = (struct profile_piece){
                (uint32_t)(s->items[i].in - first), side_job(s->items[i].kind) };
        to->n = n - to->first;
    }
    return 0;
}
