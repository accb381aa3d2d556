/* plan.c: places the values of a program in one arena; see prog_plan().
 *
 * Walks the instructions in order with a list of free ranges: a result takes the
 * smallest range that holds it (best fit), a value that is read for the last time
 * gives its range back and neighbours merge. An element-by-element result takes
 * over the range of a source of the same size that dies there. */
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "chips/op.h"
#include "chips/passes/ranges.h"

#define ALIGN 64u
#define NOWHERE UINT64_MAX

struct planner {
    const struct program *p;
    uint32_t n_rows, n_streams, n_out;
    uint64_t *offset;           /* by value */
    struct ranges ranges;
    val *next_dying;            /* values by the instruction that reads them last: */
    val *first_dying;           /* [n_instr], lists through next_dying */
};

uint32_t prog_rows_of(const struct prog_value *v, uint32_t n_rows, uint32_t n_streams,
                      uint32_t n_out)
{
    switch (v->extent) {
    case EXT_N:   return n_rows * v->per;
    case EXT_S:   return n_streams * v->per;
    case EXT_R:   return n_out * v->per;
    case EXT_ONE: return v->per;
    }
    return 0;
}

/* Rows times width times 4 can't overflow: 2^32 * 2^24 * 4. */
static uint64_t size_of(const struct planner *pl, val v)
{
    const struct prog_value *x = prog_value(pl->p, v);
    const uint64_t rows = prog_rows_of(x, pl->n_rows, pl->n_streams, pl->n_out);

    return (rows * x->width * 4 + ALIGN - 1) / ALIGN * ALIGN;
}

/* No other source of the instruction lies over v: all but v itself have another base. */
static bool is_alone(const struct planner *pl, const struct instr *in, val v)
{
    for (int s = 0; s < in->n_src; s++)
        if (in->src[s] != v && prog_value(pl->p, in->src[s])->base == v)
            return false;
    return true;
}

/* A source that dies at instruction i and whose place its first result can take. */
static val heir_of(const struct planner *pl, const struct instr *in, uint32_t i)
{
    const struct prog_value *dst = prog_value(pl->p, in->dst[0]);

    if (!op_info(in->op)->in_place)
        return 0;
    for (int s = 0; s < in->n_src; s++) {
        const struct prog_value *v = prog_value(pl->p, in->src[s]);

        if (v->base == in->src[s] && v->last == i && v->width == dst->width &&
            v->per == dst->per && v->extent == dst->extent && is_alone(pl, in, in->src[s]))
            return in->src[s];
    }
    return 0;
}

static void place(struct planner *pl, uint32_t i)
{
    const struct instr *in = prog_instr(pl->p, i);
    const val heir = heir_of(pl, in, i);

    for (int d = 0; d < in->n_dst; d++)
        pl->offset[in->dst[d]] = d == 0 && heir ? pl->offset[heir]
                                                : ranges_take(&pl->ranges, size_of(pl, in->dst[d]));
    for (val v = pl->first_dying[i]; v; v = pl->next_dying[v])
        if (v != heir)
            ranges_give(&pl->ranges, pl->offset[v], size_of(pl, v));
}

static int planner_init(struct planner *pl, struct err *e)
{
    const size_t n_values = prog_n_values(pl->p), n_instr = prog_n_instr(pl->p);

    int rc = ranges_init(&pl->ranges, n_values + 1, e);

    if (rc < 0)
        return rc;
    pl->next_dying = mem_calloc(n_values + 1, sizeof(val));
    pl->first_dying = mem_calloc(n_instr + 1, sizeof(val));
    if (!pl->next_dying || !pl->first_dying)
        return err_set(e, WATT_ENOMEM, "program: work space of the memory plan");
    for (val v = 1; v <= n_values; v++) {
        const struct prog_value *x = prog_value(pl->p, v);

        pl->offset[v] = NOWHERE;
        if (x->base == v && x->first != UINT32_MAX) {
            pl->next_dying[v] = pl->first_dying[x->last];
            pl->first_dying[x->last] = v;
        }
    }
    return 0;
}

int prog_plan(const struct program *p, uint32_t n_rows, uint32_t n_streams, uint32_t n_out,
              uint64_t *offset, uint64_t *total_bytes, struct err *e)
{
    struct planner pl = { .p = p, .n_rows = n_rows, .n_streams = n_streams, .n_out = n_out,
                          .offset = offset };
    uint64_t most = 0;
    int rc;

    if (n_rows == 0 || n_streams == 0 || n_out == 0 || n_rows > (1u << 19) ||
        n_streams > n_rows || n_out > n_rows)
        return err_set(e, WATT_EINVAL, "program: a step of %u rows in %u streams with %u "
                       "results: rows must be in 1..2^19, the others in 1..rows", n_rows,
                       n_streams, n_out);
    for (val v = 1; v <= prog_n_values(p); v++)
        if (prog_value(p, v)->per > (1u << 12) || !add_u64(most, size_of(&pl, v), &most) ||
            most > (UINT64_C(1) << 62))
            return err_set(e, WATT_ELIMIT, "program: values of a step of %u rows exceed 2^62 "
                           "bytes", n_rows);
    rc = planner_init(&pl, e);
    if (rc == 0) {
        offset[0] = 0;
        for (uint32_t i = 0; i < prog_n_instr(p); i++)
            place(&pl, i);
        for (val v = 1; v <= prog_n_values(p); v++) {
            const struct prog_value *x = prog_value(p, v);

            if (x->first == UINT32_MAX)
                offset[v] = 0;              /* nothing makes it */
            else if (x->base != v)
                offset[v] = offset[x->base] + 4 * (uint64_t)x->col;
        }
        *total_bytes = pl.ranges.peak;
    }
    ranges_deinit(&pl.ranges);
    mem_free(pl.next_dying);
    mem_free(pl.first_dying);
    return rc;
}
