/* cost.c: operations and bytes of a step; see prog_cost() in program.h. Each
 * operation's own count is in the table of op.c. */
#include "chips/op.h"

static double rows_of(const struct prog_value *v, double n_rows, double n_streams, double n_out)
{
    switch (v->extent) {
    case EXT_N:   return n_rows * v->per;
    case EXT_S:   return n_streams * v->per;
    case EXT_R:   return n_out * v->per;
    case EXT_ONE: return v->per;
    }
    return 0;
}

void prog_cost(const struct program *p, uint32_t n_rows, uint32_t n_streams, uint32_t n_past,
               uint32_t n_out, struct prog_cost *total, struct prog_cost *per)
{
    *total = (struct prog_cost){ 0 };
    if (n_rows == 0 || n_streams == 0)
        return;
    for (uint32_t i = 0; i < prog_n_instr(p); i++) {
        const struct instr *in = prog_instr(p, i);
        struct prog_cost c = { 0 };
        const struct op_load load = {
            .rows = rows_of(prog_value(p, in->dst[0]), n_rows, n_streams, n_out),
            .n_rows = n_rows, .n_streams = n_streams, .n_past = n_past,
        };

        if (load.rows > 0)
            op_info(in->op)->cost(p, in, &load, &c);
        for (int s = 0; s < in->n_src; s++) {
            const struct prog_value *v = prog_value(p, in->src[s]);

            c.act_bytes += 4 * rows_of(v, n_rows, n_streams, n_out) * v->width;
        }
        for (int d = 0; d < in->n_dst; d++) {
            const struct prog_value *v = prog_value(p, in->dst[d]);

            c.act_bytes += 4 * rows_of(v, n_rows, n_streams, n_out) * v->width;
        }
        total->ops += c.ops;
        total->weight_bytes += c.weight_bytes;
        total->kv_bytes += c.kv_bytes;
        total->act_bytes += c.act_bytes;
        if (per)
            per[i] = c;
    }
}
