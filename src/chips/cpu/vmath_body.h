/* vmath_body.h: exp, tanh, erf, log1p on vectors, written in the operations of a
 * simd.h that the including file chose. Every lane is computed alike, so a value's
 * result doesn't depend on its place in the row. */
#ifndef CHIPS_CPU_VMATH_BODY_H
#define CHIPS_CPU_VMATH_BODY_H

/* exp(r) - 1 on |r| <= ln2/2, x = n ln2 + r (degree 6, Cephes' coefficients). */
static inline vf v_exp_part(vf x, vf *n)
{
    vf r, p = v_set1(1.9875691500e-4f);

    *n = v_round(v_mul(x, v_set1(1.44269504088896341f)));
    r = v_fma(*n, v_set1(-0.693359375f), x);
    r = v_fma(*n, v_set1(2.12194440e-4f), r);
    p = v_fma(p, r, v_set1(1.3981999507e-3f));
    p = v_fma(p, r, v_set1(8.3334519073e-3f));
    p = v_fma(p, r, v_set1(4.1665795894e-2f));
    p = v_fma(p, r, v_set1(1.6666665459e-1f));
    p = v_fma(p, r, v_set1(5.0000001201e-1f));
    return v_fma(p, v_mul(r, r), r);
}

static inline vf v_exp_within(vf x)
{
    vf n, p = v_exp_part(x, &n);

    return v_scale2(v_add(p, v_set1(1.0f)), n);
}

/* exp(x), under 2 ulp. exp(0) is exactly 1; below -104 gives 0, above 88.8 infinity, NaN stays. */
static inline vf v_exp(vf x)
{
    vf p = v_exp_within(v_min(v_max(x, v_set1(-104.0f)), v_set1(89.0f)));

    p = v_if_gt(x, v_set1(-104.0f), p, v_zero());
    return v_if_nan(x, x, p);
}

/* The same for x that is at most 0 or NaN: 2^-150, which -104 gives, is rounded to 0, and the
 * maximum is its second operand where that is no number. */
static inline vf v_exp_below(vf x)
{
    return v_exp_within(v_max(v_set1(-104.0f), x));
}

/* exp(x) - 1 for x that is at most 0 or NaN: exact where that is small, too. */
static inline vf v_expm1_below(vf x)
{
    vf n, p = v_exp_part(v_max(v_set1(-104.0f), x), &n);

    return v_add(v_scale2(p, n), v_sub(v_scale2(v_set1(1.0f), n), v_set1(1.0f)));
}

/* 1 / (1 + exp(-x)) */
static inline vf v_sigmoid(vf x)
{
    return v_div(v_set1(1.0f), v_add(v_set1(1.0f), v_exp(v_sub(v_zero(), x))));
}

/* tanh(x): odd polynomial near 0 where 1 - 2/(e^2x + 1) would cancel. */
static inline vf v_tanh(vf x)
{
    vf a = v_abs(x), x2 = v_mul(x, x);
    vf big = v_sub(v_set1(1.0f),
                   v_div(v_set1(2.0f), v_add(v_exp(v_add(a, a)), v_set1(1.0f))));
    vf p = v_set1(-5.70498872745e-3f);

    p = v_fma(p, x2, v_set1(2.06390887954e-2f));
    p = v_fma(p, x2, v_set1(-5.37397155531e-2f));
    p = v_fma(p, x2, v_set1(1.33314422036e-1f));
    p = v_fma(p, x2, v_set1(-3.33332819422e-1f));
    p = v_fma(v_mul(p, x2), x, x);
    big = v_if_gt(v_zero(), x, v_sub(v_zero(), big), big);
    big = v_if_gt(a, v_set1(0.625f), big, p);
    return v_if_nan(x, x, big);
}

/* erf(x): Abramowitz and Stegun 7.1.26, absolute error below 2e-7. */
static inline vf v_erf(vf x)
{
    vf a = v_abs(x);
    vf t = v_div(v_set1(1.0f), v_fma(a, v_set1(0.3275911f), v_set1(1.0f)));
    vf p = v_set1(1.061405429f);

    p = v_fma(p, t, v_set1(-1.453152027f));
    p = v_fma(p, t, v_set1(1.421413741f));
    p = v_fma(p, t, v_set1(-0.284496736f));
    p = v_mul(v_fma(p, t, v_set1(0.254829592f)), t);
    p = v_sub(v_set1(1.0f), v_mul(p, v_exp(v_sub(v_zero(), v_mul(a, a)))));
    return v_if_gt(v_zero(), x, v_sub(v_zero(), p), p);
}

#endif
