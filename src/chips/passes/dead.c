/* dead.c: drops instructions whose results nobody reads, then sets how long every
 * value lives and how every weight is used. */
#include "base/mem.h"
#include "chips/op.h"
#include "chips/program_internal.h"

static bool is_live(const struct program *p, const bool *live, const struct instr *in)
{
    bool any = op_info(in->op)->effect;

    for (int d = 0; d < in->n_dst; d++)
        any |= live[in->dst[d]] || in->dst[d] == p->result;
    return any;
}

static void drop_dead(struct program *p, bool *live)
{
    uint32_t n = 0;

    for (uint32_t i = p->n_instr; i-- > 0;) {
        struct instr *in = &p->instr[i];

        if (!is_live(p, live, in)) {
            in->op = OP_NONE;
            continue;
        }
        for (int s = 0; s < in->n_src; s++)
            live[p->value[in->src[s]].base] = true;
    }
    for (uint32_t i = 0; i < p->n_instr; i++)
        if (p->instr[i].op != OP_NONE)
            p->instr[n++] = p->instr[i];
    p->n_instr = n;
}

static void set_lifetimes(struct program *p)
{
    for (val v = 1; v <= p->n_values; v++) {
        p->value[v].first = UINT32_MAX;     /* stays so where nothing makes it any more */
        p->value[v].last = 0;
    }
    for (uint32_t i = 0; i < p->n_instr; i++) {
        const struct instr *in = &p->instr[i];

        for (int s = 0; s < in->n_src; s++)
            p->value[p->value[in->src[s]].base].last = i;
        for (int d = 0; d < in->n_dst; d++)
            p->value[in->dst[d]].first = p->value[in->dst[d]].last = i;
        for (int w = 0; w < in->n_w; w++)
            if (in->w[w])
                p->weight[in->w[w]].uses |= op_info(in->op)->w_use[w];
    }
    p->value[p->result].last = p->n_instr;
    for (val v = 1; v <= p->n_values; v++) {
        p->value[v].first = p->value[p->value[v].base].first;
        p->value[v].last = p->value[p->value[v].base].last;
    }
}

int pass_dead(struct program *p, struct err *e)
{
    bool *live = mem_calloc((size_t)p->n_values + 1, sizeof *live);

    if (!live)
        return err_set(e, WATT_ENOMEM, "program: work space of passes");
    drop_dead(p, live);
    set_lifetimes(p);
    mem_free(live);
    return 0;
}
