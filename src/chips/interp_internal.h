/* interp_internal.h: what the reference functions of the operations see.
 *
 * Values are f32 rows in one arena; every sum is in double, in ascending order per
 * output, so that a row's bits depend on that row alone. Scratch is sized at open:
 * nothing here allocates. */
#ifndef CHIPS_INTERP_INTERNAL_H
#define CHIPS_INTERP_INTERNAL_H

#include "chips/exec.h"
#include "chips/op.h"

struct interp {
    struct exec exec;                   /* first */
    const struct program *p;
    const struct kv_layout *layout;
    struct exec_limits limits;
    uint8_t  *arena;
    struct exec_memory memory;
    uint64_t *offset;                   /* [n_values + 1] into arena */
    float   **vector;                   /* [n_weights + 1] weights read as numbers, or NULL */
    float    *row_buf;                  /* [widest matrix or table row] */
    float    *kv_buf;                   /* [largest k_dim or v_dim] */
    double   *scratch;                  /* work of one operation */
    struct profile *profile;            /* NULL: nobody asked */
    /* the step at hand */
    const struct batch *b;
    uint8_t  *kv_pages;
};

/* Doubles that one operation needs beside its values; 0 for most. */
size_t interp_scratch(const struct program *p, const struct instr *in);

static inline uint32_t rows_in(const struct interp *x, val v)
{
    return prog_rows_of(prog_value(x->p, v), x->b->n_rows, x->b->n_streams, x->b->n_out);
}
static inline uint32_t width_of(const struct interp *x, val v)
{
    return prog_value(x->p, v)->width;
}
/* Row r of a value (or of a window). */
static inline float *row_of(const struct interp *x, val v, uint32_t r)
{
    const struct prog_value *b = prog_value(x->p, prog_value(x->p, v)->base);

    return (float *)(void *)(x->arena + x->offset[v]) + (size_t)r * b->width;
}
static inline int32_t *ids_of(const struct interp *x, val v, uint32_t r)
{
    return (int32_t *)(void *)row_of(x, v, r);
}
static inline const float *vector_of(const struct interp *x, wid w)
{
    return w ? x->vector[w] : NULL;
}
static inline int64_t vector_len(const struct interp *x, wid w)
{
    return w ? tensor_elems(&prog_weight_at(x->p, w)->t) : 0;
}
/* Row r of a matrix, table or stack of expert matrices as f32; valid until the next call. */
const float *interp_weight_row(struct interp *x, wid w, uint64_t r);

static inline double dot(const float *a, const float *b, uint32_t n)
{
    double s[8] = { 0 };
    uint32_t i = 0;

    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++)
            s[k] += (double)a[i + (uint32_t)k] * b[i + (uint32_t)k];
    for (; i < n; i++)
        s[0] += (double)a[i] * b[i];
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

#endif
