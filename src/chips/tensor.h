/* tensor.h: a view of an n-dimensional array over memory somebody else owns.
 *
 * Shapes are outermost first: a matrix of a linear layer is [n_out, n_in], rows
 * contiguous. (GGUF writes them innermost first; models/gguf turns them.)
 * Rows of quantised types are whole blocks. Copy it freely. */
#ifndef CHIPS_TENSOR_H
#define CHIPS_TENSOR_H

#include <stdint.h>

#include "chips/dtype.h"

#define TENSOR_MAX_DIMS 4

struct tensor {
    const void *data;
    enum dtype  dtype;
    uint8_t     n_dims;                     /* 1..4 */
    int64_t     shape[TENSOR_MAX_DIMS];     /* outermost first; all > 0 */
    uint64_t    size_bytes;                 /* of the whole, contiguous */
};

static inline int64_t tensor_elems(const struct tensor *t)
{
    int64_t n = 1;

    for (int i = 0; i < t->n_dims; i++)
        n *= t->shape[i];
    return n;
}
/* Innermost extent: elements per row. */
static inline int64_t tensor_row(const struct tensor *t)
{
    return t->shape[t->n_dims - 1];
}

#endif
