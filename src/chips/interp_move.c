/* interp_move.c: reference of operations that only move rows and columns. */
#include <string.h>

#include "chips/interp_internal.h"

void ref_embed(struct interp *x, const struct instr *in)
{
    const struct embed_args *a = &in->a.embed;

    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++) {
        const uint64_t i = batch_table_row(x->b, a, r);

        memcpy(row_of(x, in->dst[0], r), interp_weight_row(x, in->w[0], i),
               width_of(x, in->dst[0]) * sizeof(float));
    }
}

void ref_rows(struct interp *x, const struct instr *in)
{
    const uint32_t per = prog_value(x->p, in->dst[0])->per;

    for (uint32_t o = 0; o < x->b->n_out; o++)
        for (uint32_t i = 0; i < per; i++)
            memcpy(row_of(x, in->dst[0], o * per + i),
                   row_of(x, in->src[0], x->b->out_row[o] * per + i),
                   width_of(x, in->dst[0]) * sizeof(float));
}

void ref_pool(struct interp *x, const struct instr *in)
{
    const uint32_t width = width_of(x, in->dst[0]);

    for (uint32_t i = 0; i < x->b->n_streams; i++) {
        const struct stream *s = &x->b->streams[i];

        for (uint32_t c = 0; c < width; c++) {
            double sum = 0;

            for (uint32_t r = 0; r < s->n_rows; r++)
                sum += row_of(x, in->src[0], s->first_row + r)[c];
            row_of(x, in->dst[0], i)[c] = (float)(sum / s->n_rows);
        }
    }
}

/* One unit's numbers in pieces of the narrower of both widths. */
void ref_adapter(struct interp *x, const struct instr *in)
{
    const bool chosen = prog_value(x->p, in->dst[0])->extent == EXT_R;

    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++) {
        const uint32_t row = chosen ? x->b->out_row[r] : r;
        const uint32_t own = x->b->streams[x->b->row_stream[row]].adapter;

        for (uint32_t k = 0; k < prog_value(x->p, in->dst[0])->width; k++) {
            int32_t id = (int32_t)own;

            if (in->a.adapter.n_each) {
                memcpy(&id, row_of(x, in->src[0], r) + k, sizeof id);
                id += (int32_t)(own * in->a.adapter.n_each);
            }
            memcpy(row_of(x, in->dst[0], r) + k, &id, sizeof id);
        }
    }
}

void ref_adapter_scale(struct interp *x, const struct instr *in)
{
    const struct prog_value *v = prog_value(x->p, in->dst[0]);
    const bool chosen = v->extent == EXT_R;

    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++) {
        const uint32_t row = chosen ? x->b->out_row[r / v->per] : r / v->per;
        const float scale = stream_adapter_scale(&x->b->streams[x->b->row_stream[row]]);

        for (uint32_t k = 0; k < v->width; k++)
            row_of(x, in->dst[0], r)[k] = row_of(x, in->src[0], r)[k] * scale;
    }
}

void ref_reshape(struct interp *x, const struct instr *in)
{
    const struct prog_value *s = prog_value(x->p, in->src[0]), *d = prog_value(x->p, in->dst[0]);
    const uint32_t n = s->width < d->width ? s->width : d->width;
    const uint32_t rows = rows_in(x, in->dst[0]) * (d->width / n);

    for (uint32_t i = 0; i < rows; i++)
        memcpy(row_of(x, in->dst[0], i / (d->width / n)) + (size_t)(i % (d->width / n)) * n,
               row_of(x, in->src[0], i / (s->width / n)) + (size_t)(i % (s->width / n)) * n,
               n * sizeof(float));
}

void ref_concat(struct interp *x, const struct instr *in)
{
    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++) {
        float *y = row_of(x, in->dst[0], r);

        for (int s = 0; s < in->n_src; s++) {
            const uint32_t width = width_of(x, in->src[s]);

            memcpy(y, row_of(x, in->src[s], r), width * sizeof(float));
            y += width;
        }
    }
}
