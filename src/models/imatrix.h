/* imatrix.h: importance matrices: for each weight matrix the mean square of every
 * input it was multiplied with, measured on some text. The quantiser weights each
 * element's squared error with it.
 *
 * Two public formats are read, told apart by their first bytes; neither is trusted:
 *   GGUF   tensors "NAME.in_sum2" [n_matrices, n_in] and "NAME.counts" [n_matrices, 1],
 *          F32; keys imatrix.datasets, imatrix.chunk_count
 *   legacy (.dat) i32 n_entries; for each: i32 length, name, i32 calls, i32 n_values,
 *          f32 values (mean times calls); then, if not at the end: i32 chunks,
 *          i32 length, name of the text
 * n_matrices is the number of experts where NAME holds one matrix for each. An open
 * one is immutable: any thread may read it. */
#ifndef MODELS_IMATRIX_H
#define MODELS_IMATRIX_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct imatrix;

/* WATT_ENOENT, WATT_EIO, WATT_ENOMEM, or WATT_EFORMAT naming file and entry. */
int  imatrix_open(struct imatrix **out, const char *path, struct err *e) MUST_CHECK;
/* From 8-byte aligned memory, which is not needed afterwards; `name` is for messages. */
int  imatrix_open_memory(struct imatrix **out, const void *data, size_t size, const char *name,
                         struct err *e) MUST_CHECK;
void imatrix_close(struct imatrix *m);  /* NULL is fine */

const char *imatrix_path(const struct imatrix *m);
uint32_t imatrix_n_entries(const struct imatrix *m);
uint32_t imatrix_n_chunks(const struct imatrix *m);     /* 0: not said */
struct sv imatrix_dataset(const struct imatrix *m);     /* first one; empty: not said */

/* Values of the tensor of that name, *n of them; NULL when there are none. They are
 * what the file says: perhaps negative, infinite or NaN. */
const float *imatrix_find(const struct imatrix *m, struct sv name, uint64_t *n);

#endif
