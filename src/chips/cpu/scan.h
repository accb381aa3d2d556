/* scan.h: kernels of the recurrences: one column of state against a run of rows.
 *
 * A column is n floats that stay in registers while the rows go by where n is 16 to 256 and a
 * power of two, so that a prompt reads and writes the state once per run and not once per row.
 * The arithmetic per row is the same whatever the run: elements in order, sums in SCAN_LANES partial
 * sums that are folded by halves, no fused multiply-add. So neither the cut into runs nor the
 * instruction set changes a bit. */
#ifndef CHIPS_CPU_SCAN_H
#define CHIPS_CPU_SCAN_H

#include <stddef.h>
#include <stdint.h>

#define SCAN_LANES 16u

/* Operands of a run; row r of each is at base + r * stride. */
struct scan_rows {
    uint32_t     n_rows, n;
    const float *k, *q;             /* [n] per row */
    size_t       k_stride, q_stride;
    const float *keep;              /* one number per row, or [n] */
    size_t       keep_stride;
    const float *v;                 /* [n_rows] what is added along k */
    const float *beta;              /* delta: [n_rows] */
    const float *a, *b;             /* wkv: [n] per row, strides as k's */
    float       *y;                 /* [n_rows] */
};

struct scan_kernels {
    /* S = keep S + k v;  y = q S */
    void (*linear)(float *s, const struct scan_rows *r);
    /* The same for one row (n_rows is 1) of n_cols columns that lie one behind the other; v and
     * y are [n_cols] */
    void (*linear_cols)(float *s, const struct scan_rows *r, uint32_t n_cols);
    void (*linear_each)(float *s, const struct scan_rows *r);       /* keep: [n] per row */
    /* S = keep S;  S += k (beta (v - k S));  y = q S */
    void (*delta)(float *s, const struct scan_rows *r);
    void (*delta_each)(float *s, const struct scan_rows *r);
    /* S = keep S + b (a S) + k v, with a S of the old state;  y = q S; keep: [n] per row */
    void (*wkv)(float *s, const struct scan_rows *r);
    /* y[i] = w[i] x for n_out rows of n */
    void (*dots)(float *y, const float *w, const float *x, uint32_t n_out, uint32_t n);
    /* y[c] = bias[c] + sum over j of kernel[j][c] u[j][c], j ascending; bias may be NULL */
    void (*conv)(float *y, const float *bias, const float *kernel, const float *const *u,
                 uint32_t n_taps, uint32_t n);
};

extern const struct scan_kernels scan_ref;
#if defined(__x86_64__)
extern const struct scan_kernels scan_avx2, scan_avx512;
#endif

/* The best of a kernels' mask (chips/cpu/features.h). */
const struct scan_kernels *scan_kernels_of(uint32_t mask);

#endif
