/* batch.h: what one step works on; the engine fills it, executors read it.
 *
 * Rows of one stream are contiguous and in order of position. Nothing here owns
 * memory. */
#ifndef CHIPS_BATCH_H
#define CHIPS_BATCH_H

#include <stdint.h>

#include "base/err.h"

/* One sequence in the step. */
struct stream {
    uint32_t first_row, n_rows;     /* its rows in the batch */
    uint32_t n_past;                /* positions already in its cache: its first row's position */
    const uint32_t *pages;          /* page of position p: pages[p / page_tokens], in every layer */
    float   *fixed;                 /* its fixed states, one after the other; NULL when none */
};

struct batch {
    uint32_t n_rows, n_streams, n_out;
    const int32_t  *token;          /* [n_rows] */
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

struct program;
struct exec_limits;

/* What every executor checks before it writes anything: counts within the limits, rows
 * of streams contiguous and complete, out_row increasing, token ids and positions inside
 * the tables that the program looks them up in. WATT_EINVAL. Allocates nothing. */
int batch_check(const struct batch *b, const struct program *p, const struct exec_limits *limits,
                struct err *e) MUST_CHECK;

#endif
