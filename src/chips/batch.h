/* batch.h: what one step works on; the engine fills it, executors read it.
 *
 * Rows of one stream are contiguous and in order of position. Nothing here owns
 * memory. */
#ifndef CHIPS_BATCH_H
#define CHIPS_BATCH_H

#include <stdint.h>

#include "base/err.h"
#include "chips/program.h"

/* One sequence in the step. */
struct stream {
    uint32_t first_row, n_rows;     /* its rows in the batch */
    uint32_t n_past;                /* positions already in its cache: its first row's position */
    const uint32_t *pages;          /* page of position p: pages[p / page_tokens], in every layer */
    float   *fixed;                 /* its fixed states, one after the other; NULL when none */
    uint32_t adapter;               /* which of a program's adapters its rows use; 0: the base */
    float    adapter_scale;         /* how much of what that adds; 0 stands for 1 */
};

static inline float stream_adapter_scale(const struct stream *s)
{
    return s->adapter_scale != 0.0f ? s->adapter_scale : 1.0f;
}

struct batch {
    uint32_t n_rows, n_streams, n_out;
    const int32_t  *token;          /* [n_rows] */
    const int32_t  *type;           /* [n_rows] token types (segments), or NULL: all 0 */
    const uint32_t *row_stream;     /* [n_rows] index into streams */
    const struct stream *streams;   /* [n_streams] */
    const uint32_t *out_row;        /* [n_out] rows whose results are wanted, increasing */
    /* [n_rows][4] positions for multi-section rope; NULL: text, all four equal */
    const int32_t  *pos4;
};

/* Position of a row in its stream. */
static inline uint32_t batch_pos(const struct batch *b, uint32_t row)
{
    const struct stream *s = &b->streams[b->row_stream[row]];

    return s->n_past + (row - s->first_row);
}

/* Row of a table that an OP_EMBED takes for a row of the batch. */
static inline uint64_t batch_table_row(const struct batch *b, const struct embed_args *a,
                                       uint32_t row)
{
    switch (a->by) {
    case EMBED_TOKEN:    return (uint64_t)b->token[row];
    case EMBED_POSITION: return (uint64_t)batch_pos(b, row) + a->offset;
    case EMBED_TYPE:     return b->type ? (uint64_t)b->type[row] : 0;
    case EMBED_ZERO:     break;
    }
    return a->offset;
}

struct exec_limits;

/* What every executor checks before it writes anything: counts within the limits, rows
 * of streams contiguous and complete, out_row increasing, token ids, positions
 * and token types inside the tables that the program looks them up in; streams that are
 * pooled complete. WATT_EINVAL. Allocates nothing. */
int batch_check(const struct batch *b, const struct program *p, const struct exec_limits *limits,
                struct err *e) MUST_CHECK;

#endif
