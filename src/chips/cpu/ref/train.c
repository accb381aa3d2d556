/* train.c (any machine): kernels of the backward pass, vectors of one number; and the choice of a
 * table. */
#include <math.h>

#include "chips/cpu/features.h"
#include "chips/cpu/train_kernels.h"
#include "chips/dtype.h"

#define VN 1
typedef float vf;

static inline vf v_zero(void) { return 0.0f; }
static inline vf v_set1(float x) { return x; }
static inline vf v_load(const float *p) { return *p; }
static inline vf v_loadn(const float *p, size_t n) { return n ? *p : 0.0f; }
static inline void v_store(float *p, vf v) { *p = v; }
static inline void v_storen(float *p, vf v, size_t n)
{
    if (n)
        *p = v;
}
static inline vf v_add(vf a, vf b) { return a + b; }
static inline vf v_sub(vf a, vf b) { return a - b; }
static inline vf v_mul(vf a, vf b) { return a * b; }
static inline vf v_div(vf a, vf b) { return a / b; }
static inline vf v_fma(vf a, vf b, vf c) { return a * b + c; }
static inline vf v_max(vf a, vf b) { return a > b ? a : b; }
static inline vf v_min(vf a, vf b) { return a < b ? a : b; }
static inline vf v_round(vf a) { return rintf(a); }
static inline vf v_scale2(vf x, vf n) { return ldexpf(x, (int)n); }
static inline vf v_if_gt(vf a, vf b, vf yes, vf no) { return a > b ? yes : no; }
static inline vf v_if_nan(vf a, vf yes, vf no) { return isnan(a) ? yes : no; }
static inline float v_sum(vf v) { return v; }
static inline float v_hmax(vf v) { return v; }
static inline vf v_load_f16(const uint16_t *p) { return f16_to_f32(*p); }
static inline void v_store_f16(uint16_t *p, vf v) { *p = f32_to_f16(v); }
static inline vf v_abs(vf v) { return fabsf(v); }

#define TILE_M 4u
#define TILE_V 3u
#define TRAIN_TABLE train_ref
#include "chips/cpu/train_body.h"

void train_kernels_init(struct train_kernels *k, uint32_t mask)
{
    *k = train_ref;
#if defined(__x86_64__)
    if (mask & CPU_AVX2)
        *k = train_avx2;
    if ((mask & CPU_AVX2) && (mask & CPU_AVX512)) {
        *k = train_avx512;
        if (mask & CPU_AVX512_BF16)
            k->outer_bf16 = outer_bf16_dot_avx512;
    }
#elif defined(__aarch64__)
    if (mask & CPU_NEON)
        *k = train_neon;
#endif
}
