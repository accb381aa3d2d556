/* pack.h: weights prepared for the matrix kernels.
 *
 * A matrix [n_out, n_in] is cut into panels of PACK_ROWS output rows, interleaved
 * so that one vector register holds the same few inputs of sixteen rows. A kernel
 * then gives each output its own lane: the sum over n_in runs in ascending order
 * in that lane, whatever the number of activation rows, so one token and five
 * hundred give the same bits. Missing rows of the last panel are zeros.
 *
 * The layout depends on the element type alone, not on the instruction set, so
 * that prepared weights can be cached on disk. Types without a layout of their
 * own keep the file's rows (raw) and take the general path: a tile is dequantised
 * to F32 panels in scratch and multiplied by the F32 kernel, in the same order of
 * additions.
 *
 * Packed bytes stay within a few percent of the file's: decoding is bound by
 * memory bandwidth. */
#ifndef CHIPS_CPU_PACK_H
#define CHIPS_CPU_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "chips/tensor.h"

#define PACK_ROWS 16u

/* What the kernels of a type want to read as activations. */
enum act_format {
    ACTF_F32,       /* plain floats */
    ACTF_BF16,      /* rounded to nearest even, padded to pairs */
    ACTF_Q8,        /* blocks of 32: int8 with one f32 scale and the blocks' sums; kernels.h */
    ACTF_COUNT
};

struct packed {
    enum dtype dtype;
    uint32_t   n_out, n_in, n_mats;     /* n_mats: experts, 1 for plain matrices */
    uint32_t   n_panels;                /* per matrix: ceil(n_out / PACK_ROWS) */
    uint64_t   panel_bytes;             /* from one panel to the next; 64-byte multiple unless raw */
    uint64_t   mat_bytes;               /* from one expert to the next */
    enum act_format act;
    bool       raw;                     /* general path: data is the file's rows */
    void      *data;                    /* owned by whoever asked for the packing */
};

/* Fills everything but data. WATT_ENOTSUP: a type or shape that can't be multiplied. */
int      pack_describe(struct packed *p, const struct tensor *t, struct err *e) MUST_CHECK;
uint64_t pack_bytes(const struct packed *p);
/* A number for how the bytes of p lie: element type, shape and layout; another one when the
 * layout changes. seed chains several. For files of prepared weights. */
uint64_t pack_fingerprint(const struct packed *p, uint64_t seed);
/* Raise it when packed bytes mean something else though all sizes in layout.h stayed. */
#define PACK_VERSION 1u
/* Packs panels [first, last) of matrix `mat` from the tensor's rows into p->data.
 * Thread-safe for disjoint ranges; callers split by ranges, never by threads. */
void     pack_panels(const struct packed *p, const struct tensor *t, uint32_t mat,
                     uint32_t first, uint32_t last);
/* The reverse, one row to f32: tests, and rows of tables tied to the output. */
void     pack_read_row(const struct packed *p, uint32_t mat, uint32_t row, float *out);

#endif
