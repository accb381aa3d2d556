/* update_body.h: kernels of optimisers, written once in the operations of the simd.h that the
 * including file chose; see update.h. Nothing is fused, so that bits are the reference's. */
#include "chips/cpu/update.h"

static inline vf part(const float *p, size_t left)
{
    return left >= VN ? v_load(p) : v_loadn(p, left);
}

static inline void put_part(float *p, vf v, size_t left)
{
    if (left >= VN)
        v_store(p, v);
    else
        v_storen(p, v, left);
}

static void adamw(float *w, float *m, float *v, const float *g, size_t n,
                  const struct adamw_args *a)
{
    const vf scale = v_set1(a->g_scale), beta1 = v_set1(a->beta1), beta2 = v_set1(a->beta2);
    const vf new1 = v_set1(1.0f - a->beta1), new2 = v_set1(1.0f - a->beta2);
    const vf keep = v_set1(a->keep), rate = v_set1(a->rate), root = v_set1(a->root);
    const vf eps = v_set1(a->eps);

    for (size_t i = 0; i < n; i += VN) {
        const size_t left = n - i;
        const vf s = v_mul(part(g + i, left), scale);
        const vf mean = v_add(v_mul(beta1, part(m + i, left)), v_mul(new1, s));
        const vf square = v_add(v_mul(beta2, part(v + i, left)), v_mul(new2, v_mul(s, s)));
        const vf below = v_add(v_mul(v_sqrt(square), root), eps);

        put_part(m + i, mean, left);
        put_part(v + i, square, left);
        put_part(w + i, v_sub(v_mul(keep, part(w + i, left)), v_div(v_mul(rate, mean), below)),
                 left);
    }
}

static void blend(float *y, const float *x, float a, float b, size_t n)
{
    const vf va = v_set1(a), vb = v_set1(b);

    for (size_t i = 0; i < n; i += VN) {
        const size_t left = n - i;

        put_part(y + i, v_add(v_mul(va, part(y + i, left)), v_mul(vb, part(x + i, left))), left);
    }
}
