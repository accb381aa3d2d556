/* rows.c: moves row-wise work behind prog_rows().
 *
 * Only R of the N token rows need logits. A row-wise instruction all of whose
 * results are read only through OP_ROWS, or by instructions already moved, can run
 * on those R rows: its results become R values and its sources are gathered
 * instead. Walking backwards every reader is decided before the writer, so one
 * pass is enough. Rows are independent, hence the bits do not change. */
#include <string.h>

#include "base/mem.h"
#include "chips/op.h"
#include "chips/program_internal.h"

struct rows_pass {
    bool *need_all;     /* [n_values + 1] by base: read as N rows by somebody */
    bool *want_rows;    /* by base: read through OP_ROWS or by a moved instruction */
    bool *moved;        /* [n_instr] */
    val  *subst;        /* what a value is called from now on */
    val  *gathered;     /* by value: its OP_ROWS version, 0 when none */
};

static void rows_pass_deinit(struct rows_pass *r)
{
    mem_free(r->need_all);
    mem_free(r->want_rows);
    mem_free(r->moved);
    mem_free(r->subst);
    mem_free(r->gathered);
}

static bool can_move(const struct program *p, const struct rows_pass *r, const struct instr *in)
{
    bool wanted = false;

    if (!op_info(in->op)->row_wise)
        return false;
    for (int i = 0; i < in->n_dst; i++) {
        const val v = in->dst[i];

        if (p->value[v].extent != EXT_N || r->need_all[v] || p->result == v)
            return false;
        wanted |= r->want_rows[v];
    }
    return wanted;
}

static bool decide(const struct program *p, struct rows_pass *r)
{
    bool any = false;

    for (uint32_t i = p->n_instr; i-- > 0;) {
        const struct instr *in = &p->instr[i];

        r->moved[i] = can_move(p, r, in);
        any |= r->moved[i];
        for (int s = 0; s < in->n_src; s++) {
            const val base = p->value[in->src[s]].base;

            if (r->moved[i] || in->op == OP_ROWS)
                r->want_rows[base] = true;
            else
                r->need_all[base] = true;
        }
    }
    return any;
}

/* The R version of v, adding an OP_ROWS when v is still made for all rows. */
static val gather(struct program *p, struct rows_pass *r, val v)
{
    struct prog_value x = p->value[v];
    struct instr in = { .op = OP_ROWS, .n_src = 1, .n_dst = 1, .src = { v }, .layer = UINT32_MAX };

    if (x.extent != EXT_N)
        return v;
    if (!r->gathered[v]) {
        x.extent = EXT_R;
        x.base = 0;
        x.col = 0;
        in.dst[0] = program_add_value(p, &x);
        if (in.dst[0] && program_add_instr(p, &in))
            r->gathered[v] = in.dst[0];
    }
    return r->gathered[v];
}

static void rename_windows(struct program *p, const struct rows_pass *r, uint32_t n_values)
{
    for (val v = 1; v <= n_values; v++) {
        const val base = p->value[v].base, to = r->subst[base];

        if (base != v && to != base) {
            p->value[v].base = p->value[to].base;
            p->value[v].col += p->value[to].col;
        }
    }
}

/* Writes the instructions again after the old ones, then drops the old ones. */
static void rewrite(struct program *p, struct rows_pass *r)
{
    const uint32_t n = p->n_instr, n_values = p->n_values;

    for (uint32_t i = 0; i < n; i++)
        for (int d = 0; r->moved[i] && d < p->instr[i].n_dst; d++)
            p->value[p->instr[i].dst[d]].extent = EXT_R;
    for (val v = 1; v <= n_values; v++)
        p->value[v].extent = p->value[p->value[v].base].extent;
    for (uint32_t i = 0; i < n && !prog_failed(p); i++) {
        struct instr in = p->instr[i];

        for (int s = 0; s < in.n_src; s++)
            in.src[s] = r->subst[in.src[s]];
        if (in.op == OP_ROWS && (p->value[in.src[0]].extent == EXT_R ||
                                 r->gathered[in.src[0]])) {
            const val v = in.src[0];

            r->subst[in.dst[0]] = p->value[v].extent == EXT_R ? v : r->gathered[v];
            continue;
        }
        if (in.op == OP_ROWS)
            r->gathered[in.src[0]] = in.dst[0];
        for (int s = 0; r->moved[i] && s < in.n_src; s++)
            in.src[s] = gather(p, r, in.src[s]);
        (void)program_add_instr(p, &in);
    }
    if (prog_failed(p))
        return;
    rename_windows(p, r, n_values);
    p->result = r->subst[p->result];
    p->n_instr -= n;
    memmove(p->instr, p->instr + n, p->n_instr * sizeof *p->instr);
}

int pass_rows(struct program *p, struct err *e)
{
    const size_t n = (size_t)p->n_values + 1;
    /* gather() is only asked about values that exist now, so n is enough */
    struct rows_pass r = {
        .need_all = mem_calloc(n, sizeof(bool)),
        .want_rows = mem_calloc(n, sizeof(bool)),
        .moved = mem_calloc((size_t)p->n_instr + 1, sizeof(bool)),
        .subst = mem_array(n, sizeof(val)),
        .gathered = mem_calloc(n, sizeof(val)),
    };

    if (!r.need_all || !r.want_rows || !r.moved || !r.subst || !r.gathered) {
        rows_pass_deinit(&r);
        return err_set(e, WATT_ENOMEM, "program: work space of passes");
    }
    for (val v = 0; v < n; v++)
        r.subst[v] = v;
    if (decide(p, &r))
        rewrite(p, &r);
    rows_pass_deinit(&r);
    if (prog_failed(p)) {
        if (e)
            *e = p->err;
        return p->err.code;
    }
    return 0;
}
