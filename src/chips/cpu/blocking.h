/* blocking.h: how a fast matrix product walks through rows, panels and inputs.
 *
 * Activation rows are taken in blocks of R at most (R: what the kernel holds in
 * registers), copied into tiles so that a kernel reads one stream, in the order
 * it needs. Inputs are cut into chunks of at least CHUNK_MIN so that a tile and a
 * panel's chunk stay in the first two cache levels; between chunks the sums wait
 * as f32 in the output, which changes no bit. Loops, outermost first: chunk,
 * tiles that fit in scratch, panel, tile.
 *
 * An instruction set brings its kernels as a struct blocking; the walk itself is
 * in blocking.c. One row needs no tile: the prepared row is one. */
#ifndef CHIPS_CPU_BLOCKING_H
#define CHIPS_CPU_BLOCKING_H

#include "chips/cpu/layout.h"

#define TILE_ROWS_MAX 16u

/* Activations of n_rows rows for a chunk of inputs, interleaved by row: [n][R] for what is
 * one word per block or input, [n][R][32] for q, [n][2][R] for b16. */
struct tile {
    const void    *x;           /* ACTF_F32: f32 [inputs][R]; ACTF_BF16: pairs [inputs/2][R] */
    const int8_t  *q;           /* ACTF_Q8, and the rest */
    const float   *d, *ds;
    const int32_t *b32, *b16;
    const uint8_t *ahead;       /* packed weights that come next, for kernels of several rows to */
    uint32_t       ahead_lines; /* ask for: so many lines of 64 bytes per block of inputs */
};

/* sum[r][panel][16] += products over n units of one chunk (a unit is a 32-block, an input or
 * a pair). panel: the chunk's first group in the first panel; others follow panel_bytes apart. */
typedef void tile_fn(float *sum, const struct tile *t, const uint8_t *panel, size_t panel_bytes,
                     size_t n);

/* n whole groups of a panel in the form that the kernels read (wide.h). */
typedef void expand_fn(uint8_t *dst, const uint8_t *groups, size_t n);

struct blocking {
    uint32_t  rows_max;                         /* largest R with a kernel, <= TILE_ROWS_MAX */
    uint32_t  rows_once;                        /* so many or fewer are one tile; 0: rows_max */
    uint32_t  panels_max;                       /* panels a kernel takes at once: 1 or 2 */
    uint32_t  parts;                            /* TILE_… that the kernels read */
    tile_fn  *fn[TILE_ROWS_MAX + 1][2];         /* [R][panels - 1]; NULL: use a larger R */
    expand_fn *expand;                          /* NULL: the kernels read panels as they are */
    const struct blocking *many;                /* for more than MANY_ROWS rows; NULL: itself */
};
#define MANY_ROWS 48u
enum { TILE_X = 1, TILE_D = 2, TILE_DS = 4, TILE_B32 = 8, TILE_B16 = 16 };

void matmul_blocked(const struct matmul_args *a, const struct blocking *b);
/* The same for raw weights: b is the blocking of F32. */
void matmul_raw(const struct matmul_args *a, const struct blocking *b);

#endif
