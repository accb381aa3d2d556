/* batch.c: checks a step's batch against the program; see batch.h. */
#include "chips/batch.h"

#include <math.h>
#include <inttypes.h>

#include "chips/exec.h"

static int check_counts(const struct batch *b, const struct exec_limits *limits, struct err *e)
{
    if (b->n_rows == 0 || b->n_rows > limits->max_rows)
        return err_set(e, WATT_EINVAL, "batch: %u rows, must be in 1..%u", b->n_rows,
                       limits->max_rows);
    if (b->n_streams == 0 || b->n_streams > limits->max_streams)
        return err_set(e, WATT_EINVAL, "batch: %u streams, must be in 1..%u", b->n_streams,
                       limits->max_streams);
    if (b->n_out > limits->max_out)
        return err_set(e, WATT_EINVAL, "batch: %u results, at most %u", b->n_out,
                       limits->max_out);
    return 0;
}

static int check_rows(const struct batch *b, struct err *e)
{
    uint32_t row = 0;

    for (uint32_t s = 0; s < b->n_streams; s++) {
        const struct stream *st = &b->streams[s];

        if (st->first_row != row || st->n_rows == 0 || st->n_rows > b->n_rows - row)
            return err_set(e, WATT_EINVAL, "batch: stream %u has rows %u and %u more, expected "
                           "them to follow row %u of %u", s, st->first_row, st->n_rows, row,
                           b->n_rows);
        if (st->n_past > (uint32_t)INT32_MAX - st->n_rows)
            return err_set(e, WATT_EINVAL, "batch: stream %u at position %u", s, st->n_past);
        for (; row < st->first_row + st->n_rows; row++)
            if (b->row_stream[row] != s)
                return err_set(e, WATT_EINVAL, "batch: row %u names stream %u, expected %u", row,
                               b->row_stream[row], s);
    }
    if (row != b->n_rows)
        return err_set(e, WATT_EINVAL, "batch: %u rows in streams, %u in all", row, b->n_rows);
    for (uint32_t i = 0; i < b->n_out; i++)
        if (b->out_row[i] >= b->n_rows || (i > 0 && b->out_row[i] <= b->out_row[i - 1]))
            return err_set(e, WATT_EINVAL, "batch: result %u is row %u, must increase and stay "
                           "under %u", i, b->out_row[i], b->n_rows);
    return 0;
}

static int check_table(const struct batch *b, const struct program *p, const struct instr *in,
                       struct err *e)
{
    static const char *const what[] = { [EMBED_TOKEN] = "token", [EMBED_POSITION] = "position",
                                        [EMBED_TYPE] = "token type" };
    const struct prog_weight *w = prog_weight_at(p, in->w[0]);
    const int64_t n = w->t.shape[0];

    for (uint32_t row = 0; row < b->n_rows; row++) {
        const int64_t i = (int64_t)batch_table_row(b, &in->a.embed, row);

        if (i < 0 || i >= n)
            return err_set(e, WATT_EINVAL, "%s %" PRId64 " is outside 0..%" PRId64 " of %s",
                           what[in->a.embed.by], i, n - 1, w->name);
    }
    return 0;
}

static int check_fixed(const struct batch *b, struct err *e)
{
    for (uint32_t s = 0; s < b->n_streams; s++)
        if (!b->streams[s].fixed)
            return err_set(e, WATT_EINVAL, "batch: stream %u has no fixed state", s);
    return 0;
}

/* A mean over part of a sequence would not be its mean. */
static int check_pool(const struct batch *b, struct err *e)
{
    for (uint32_t s = 0; s < b->n_streams; s++)
        if (b->streams[s].n_past != 0)
            return err_set(e, WATT_EINVAL, "batch: stream %u is pooled, but begins at position %u",
                           s, b->streams[s].n_past);
    return 0;
}

static int check_adapters(const struct batch *b, uint32_t n, struct err *e)
{
    for (uint32_t s = 0; s < b->n_streams; s++)
        if (b->streams[s].adapter >= n)
            return err_set(e, WATT_EINVAL, "batch: stream %u asks for adapter %u of %u", s,
                           b->streams[s].adapter, n);
        else if (!isfinite(b->streams[s].adapter_scale))
            return err_set(e, WATT_EINVAL, "batch: stream %u asks for an adapter at scale %g", s,
                           (double)b->streams[s].adapter_scale);
    return 0;
}

int batch_check(const struct batch *b, const struct program *p, const struct exec_limits *limits,
                struct err *e)
{
    int rc = check_counts(b, limits, e);

    if (rc == 0)
        rc = check_rows(b, e);
    for (uint32_t i = 0; rc == 0 && i < prog_n_instr(p); i++) {
        const struct instr *in = prog_instr(p, i);

        if (in->state && prog_state_at(p, in->state)->kind == STATE_FIXED)
            rc = check_fixed(b, e);
        if (rc == 0 && in->op == OP_ADAPTER)
            rc = check_adapters(b, in->a.adapter.n, e);
        if (rc == 0 && in->op == OP_POOL)
            rc = check_pool(b, e);
        if (rc == 0 && in->op == OP_EMBED && in->a.embed.by != EMBED_ZERO)
            rc = check_table(b, p, in, e);
    }
    return rc;
}
