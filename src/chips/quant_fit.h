/* quant_fit.h: the search behind the quantisers: scales, minima and levels that
 * (nearly) minimise the weighted squared error of a group of elements.
 *
 * Method: eight starting scales at once, spread around the one that maps the largest
 * element to the last level. Each is refined by turns: levels by rounding, then scale
 * and minimum by least squares (Lloyd's algorithm with the levels' grid fixed). The
 * eight run in the lanes of a vector, so that the result is the same on every
 * machine. Formulas are in docs/quantise.md.
 *
 * x: [n] finite, magnitudes at most QUANT_LIMIT. w: [n] above 0, at most 1. n is
 * 8 to 256. No state; thread-safe. */
#ifndef CHIPS_QUANT_FIT_H
#define CHIPS_QUANT_FIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FIT_LANES 8
/* Beyond it (and at infinity) an element counts as this: squares of sums stay finite. */
#define QUANT_LIMIT 1e9f
/* A group whose largest magnitude is below it is zero: its scale is none in half precision. */
#define QUANT_TINY  1e-12f

/* Elements and weights of one block as the fits want them: NaN becomes 0, large
 * magnitudes QUANT_LIMIT; weights are scaled to a maximum of 1 and at least 1e-5 (NaN,
 * infinite and negative ones too); no importance, or none above 0, means all 1. Returns
 * the largest magnitude. */
float fit_prepare(float *x, float *w, const float *in, const float *importance, size_t n);

/* The levels a scale multiplies. */
enum fit_grid {
    FIT_WHOLE,      /* whole numbers lo..hi */
    FIT_IQ4,        /* iq4_levels, which are about -127..113 */
    FIT_FP4,        /* fp4_levels */
};
struct fit_levels {
    enum fit_grid grid;
    float         lo, hi;
};

/* x about d q. The best d found, 0 for a zero group. *curvature, when not NULL, is
 * sum w q^2: how fast the error grows as d is moved. */
float fit_scale(const float *x, const float *w, size_t n, const struct fit_levels *l,
                float *curvature);

/* x about d q + m, q whole in 0..hi, d >= 0; m <= 0 when min_only_below. */
struct fit_affine {
    float d, m;
    float curvature_d, curvature_m;     /* sum w q^2, sum w */
};
struct fit_affine fit_affine(const float *x, const float *w, size_t n, float hi,
                             bool min_only_below);

/* Errors sum w (x - d q - m)^2 of eight pairs (d, m) with the nearest levels each. */
void fit_errors(float error[FIT_LANES], const float *x, const float *w, size_t n,
                const struct fit_levels *l, const float d[FIT_LANES], const float m[FIT_LANES]);

/* The nearest levels q[n] of x about d q + m: whole numbers as they are, codebooks as
 * their index. d may be 0 (then q is the level nearest 0). */
void fit_round(int8_t *q, const float *x, size_t n, const struct fit_levels *l, float d, float m);

/* The value of an index that fit_round wrote. */
float fit_level(const struct fit_levels *l, int q);

#endif
