/* roofline.c: limits of a step from cost model and peaks; see roofline.h. */
#include "applications/roofline.h"

#include "base/mem.h"
#include "chips/op.h"

enum roofline_peak roofline_peak_of(const struct program *p, const struct instr *in,
                                    const struct peaks *k)
{
    const bool product = in->op == OP_LINEAR || in->op == OP_EXPERT_LINEAR;
    const enum dtype t = product ? prog_weight_at(p, in->w[0])->t.dtype : DTYPE_F32;

    if (dtype_info(t)->quantised && k->int8_ops_s > 0)
        return ROOF_INT8;
    if (t == DTYPE_BF16 && k->bf16_ops_s > 0)
        return ROOF_BF16;
    return ROOF_F32;
}

double roofline_ops_s(const struct peaks *k, enum roofline_peak peak)
{
    return peak == ROOF_INT8 ? k->int8_ops_s : peak == ROOF_BF16 ? k->bf16_ops_s : k->f32_ops_s;
}

const char *roofline_peak_name(enum roofline_peak peak)
{
    static const char *const names[] = { "F32", "int8", "BF16", "memory" };

    return names[peak];
}

/* The cost model counts caches in F16: the factor to the type in use. */
static double kv_factor(const struct program *p, const struct session_memory *mem)
{
    double f16 = 0;

    for (sid s = 1; s <= prog_n_states(p); s++) {
        const struct prog_state *st = prog_state_at(p, s);

        if (st->kind == STATE_KV)
            f16 += 2.0 * st->n_kv_heads * ((double)st->k_dim + st->v_dim);
    }
    return f16 > 0 && mem->kv_token > 0 ? (double)mem->kv_token / f16 : 1;
}

void roofline_costs(struct prog_cost *per, const struct model *m,
                    const struct session_memory *mem, const struct roofline_load *load)
{
    const struct program *p = model_program(m);
    const double factor = kv_factor(p, mem);
    struct prog_cost total;

    for (uint32_t i = 0; i < prog_n_instr(p); i++)
        per[i] = (struct prog_cost){ 0 };
    prog_cost(p, load->n_rows, load->n_streams, load->n_past, load->n_out, &total, per);
    for (uint32_t i = 0; i < prog_n_instr(p); i++)
        if (prog_instr(p, i)->op == OP_ATTENTION)
            per[i].kv_bytes *= factor;
}

int roofline_step(struct roofline *r, const struct model *m, const struct session_memory *mem,
                  const struct peaks *peaks, const struct roofline_load *load, struct err *e)
{
    const struct program *p = model_program(m);
    struct prog_cost *per = mem_array(prog_n_instr(p), sizeof *per);

    if (!per)
        return err_set(e, WATT_ENOMEM, "roofline of %u instructions", prog_n_instr(p));
    roofline_costs(per, m, mem, load);
    *r = (struct roofline){ 0 };
    for (uint32_t i = 0; i < prog_n_instr(p); i++) {
        r->ops += per[i].ops;
        r->weight_bytes += per[i].weight_bytes;
        r->kv_bytes += per[i].kv_bytes;
        if (peaks)
            r->ops_s += per[i].ops / roofline_ops_s(peaks,
                                                    roofline_peak_of(p, prog_instr(p, i), peaks));
    }
    if (peaks)
        r->read_s = (r->weight_bytes + r->kv_bytes) / peaks->read_bytes_s;
    r->limit_s = r->ops_s > r->read_s ? r->ops_s : r->read_s;
    mem_free(per);
    return 0;
}
