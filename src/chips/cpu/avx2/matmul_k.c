/* matmul_k.c: Q4_K, Q5_K and Q6_K times ACTF_Q8, AVX2 and AVX-VNNI; see q8_tile.h. */
#include "chips/cpu/avx2/matmul.h"
#include "chips/cpu/avx2/q8_tile.h"

/* ---- Q4_K and Q5_K: unsigned, with a minimum per sub-block ---- */

/* Sub-block j of a superblock; words of nibbles at q, of fifth bits at h5 or NULL. */
ALWAYS_INLINE void k_block(__m256 acc[2][R_MAX], struct cursor *c, const uint8_t *g,
                           const uint8_t *q, const uint8_t *h5, const unsigned j,
                           const unsigned R)
{
    const struct weights w = { .form = NIBBLES, .bits = h5 ? 5 : 4, .q = q, .h = h5, .j = j };
    __m256 scale[2], min[2];
    __m256i s[2][R_MAX];

    EACH_HALF {
        scale[h] = _mm256_mul_ps(half_scale(g + Q4_K_D + 16 * h),
                                 bytes_scale(g + Q4_K_SC + PACK_ROWS * j + 8 * h));
        min[h] = _mm256_mul_ps(half_scale(g + Q4_K_D + 32 + 16 * h),
                               bytes_scale(g + Q4_K_M + PACK_ROWS * j + 8 * h));
    }
    start(s, NULL, 0, R);
    dot(s, &w, c->q, 0, 8, R);
    finish(acc, s, scale, c->d, R);
    EACH_ROW(R) EACH_HALF
        acc[h][r] = _mm256_fnmadd_ps(min[h], _mm256_set1_ps(c->ds[r]), acc[h][r]);
    cursor_next(c, R);
}

ALWAYS_INLINE void k_product(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                             const unsigned R, const unsigned bits)
{
    struct cursor c = cursor_of(t);
    __m256 acc[2][R_MAX];

    sums_load(acc, sum, R);
    for (size_t i = 0; i < n / 8; i++, g += bits == 5 ? Q5_K_BYTES : Q4_K_BYTES) {
        const uint8_t *q = g + (bits == 5 ? Q5_K_Q : Q4_K_Q), *h = bits == 5 ? g + Q5_K_H : NULL;

        if (bits == 4) {
            for (unsigned j = 0; j < 8; j += 2, q += 512) {
                k_block(acc, &c, g, q, NULL, j, R);
                k_block(acc, &c, g, q, NULL, j + 1, R);
            }
        } else {        /* j is known, so that fifth bits are shifted by constants */
#pragma GCC unroll 8
            for (unsigned j = 0; j < 8; j++)
                k_block(acc, &c, g, q + 512 * (j / 2), h, j, R);
        }
    }
    sums_store(sum, acc, R);
}

ALWAYS_INLINE void q4_k(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    k_product(sum, t, g, n, R, 4);
}
Q8_KERNELS(q4_k)

ALWAYS_INLINE void q5_k(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    k_product(sum, t, g, n, R, 5);
}
Q8_KERNELS(q5_k)

/* ---- Q6_K: q of 0..63, offset 32, a scale per 16 ---- */

ALWAYS_INLINE void q6_block(__m256 acc[2][R_MAX], struct cursor *c, const uint8_t *g,
                            const uint8_t *words, const uint8_t *sc, const unsigned j,
                            const unsigned R)
{
    const struct weights w = { .form = SIX_BITS, .bits = 6, .q = words + Q6_K_L + 512 * (j % 2),
                               .h = words + Q6_K_H, .j = j };
    __m256i s[2][R_MAX];
    __m256 u[2][R_MAX];

    start(s, c->b16, 2, R);
    dot(s, &w, c->q, 0, 4, R);
    EACH_HALF {
        const __m256 scale = _mm256_mul_ps(_mm256_load_ps((const void *)(g + Q6_K_D + 32 * h)),
                                           signed_scale(sc + PACK_ROWS * (2 * j) + 8 * h));

        EACH_ROW(R)
            u[h][r] = _mm256_mul_ps(_mm256_cvtepi32_ps(s[h][r]), scale);
    }
    start(s, c->b16 + R, 2, R);
    dot(s, &w, c->q, 4, 4, R);
    EACH_HALF {
        const __m256 scale = _mm256_mul_ps(_mm256_load_ps((const void *)(g + Q6_K_D + 32 * h)),
                                           signed_scale(sc + PACK_ROWS * (2 * j + 1) + 8 * h));

        EACH_ROW(R) {
            u[h][r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(s[h][r]), scale, u[h][r]);
            acc[h][r] = _mm256_fmadd_ps(u[h][r], _mm256_set1_ps(c->d[r]), acc[h][r]);
        }
    }
    cursor_next(c, R);
}

ALWAYS_INLINE void q6_k(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    struct cursor c = cursor_of(t);
    __m256 acc[2][R_MAX];

    sums_load(acc, sum, R);
    for (size_t i = 0; i < n / 8; i++, g += Q6_K_BYTES) {
        for (size_t half = 0; half < 2; half++) {
            const uint8_t *words = g + Q6_K_Q + Q6_K_HALF * half;
            const uint8_t *sc = g + Q6_K_SC + 8 * PACK_ROWS * half;

            q6_block(acc, &c, g, words, sc, 0, R);
            q6_block(acc, &c, g, words, sc, 1, R);
            q6_block(acc, &c, g, words, sc, 2, R);
            q6_block(acc, &c, g, words, sc, 3, R);
        }
    }
    sums_store(sum, acc, R);
}
Q8_KERNELS(q6_k)

static const struct blocking q4_k_blocking = {
    .rows_max = R_MAX, .panels_max = 1, .parts = TILE_D | TILE_DS, .fn = Q8_FN(q4_k),
};
static const struct blocking q5_k_blocking = {
    .rows_max = R_MAX, .panels_max = 1, .parts = TILE_D | TILE_DS, .fn = Q8_FN(q5_k),
    .many = &ISA(q5_k_wide),
};
static const struct blocking q6_k_blocking = {
    .rows_max = R_MAX, .panels_max = 1, .parts = TILE_D | TILE_B16, .fn = Q8_FN(q6_k),
    .many = &ISA(q6_k_wide),
};

void ISA(matmul_q4_k)(const struct matmul_args *a) { matmul_blocked(a, &q4_k_blocking); }
void ISA(matmul_q5_k)(const struct matmul_args *a) { matmul_blocked(a, &q5_k_blocking); }
void ISA(matmul_q6_k)(const struct matmul_args *a) { matmul_blocked(a, &q6_k_blocking); }
