/* roofline.c: limits of a step from cost model and peaks; see roofline.h. */
#include "applications/roofline.h"

#include "base/mem.h"
#include "chips/op.h"

/* Operations per second that an instruction can reach. */
static double peak_ops(const struct program *p, const struct instr *in, const struct peaks *k)
{
    const bool product = in->op == OP_LINEAR || in->op == OP_EXPERT_LINEAR;
    const enum dtype t = product ? prog_weight_at(p, in->w[0])->t.dtype : DTYPE_F32;

    if (dtype_info(t)->quantised && k->int8_ops_s > 0)
        return k->int8_ops_s;
    if (t == DTYPE_BF16 && k->bf16_ops_s > 0)
        return k->bf16_ops_s;
    return k->f32_ops_s;
}

int roofline_step(struct roofline *r, const struct model *m, const struct session_memory *mem,
                  const struct peaks *peaks, uint32_t n_rows, uint32_t n_streams,
                  uint32_t n_past, uint32_t n_out, struct err *e)
{
    const struct program *p = model_program(m);
    struct prog_cost total, one, *per = mem_calloc(prog_n_instr(p), sizeof *per);

    if (!per)
        return err_set(e, WATT_ENOMEM, "roofline of %u instructions", prog_n_instr(p));
    prog_cost(p, n_rows, n_streams, n_past, n_out, &total, per);
    *r = (struct roofline){ .ops = total.ops, .weight_bytes = total.weight_bytes };
    /* the cost model counts caches in F16: scale to the type in use */
    prog_cost(p, 1, 1, 0, 1, &one, NULL);
    r->kv_bytes = total.kv_bytes;
    if (one.kv_bytes > 0 && mem->kv_token > 0)
        r->kv_bytes *= (double)mem->kv_token / (one.kv_bytes / 2);
    for (uint32_t i = 0; peaks && i < prog_n_instr(p); i++)
        r->ops_s += per[i].ops / peak_ops(p, prog_instr(p, i), peaks);
    if (peaks)
        r->read_s = (r->weight_bytes + r->kv_bytes) / peaks->read_bytes_s;
    r->limit_s = r->ops_s > r->read_s ? r->ops_s : r->read_s;
    mem_free(per);
    return 0;
}
