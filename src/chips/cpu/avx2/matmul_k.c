/* matmul_k.c: Q4_K, Q5_K and Q6_K times ACTF_Q8, AVX2 and AVX-VNNI; see q8_tile.h. */
#include "chips/cpu/avx2/matmul.h"
#include "chips/cpu/avx2/q8_tile.h"

/* ---- Q4_K and Q5_K: unsigned, with a minimum per sub-block ---- */

/* Words k … k + n - 1 of sub-block j = 2c + odd; h: words of fifth bits or NULL. */
ALWAYS_INLINE void k_weights(__m256i *w, const uint8_t *q, const uint8_t *h, size_t j,
                             const unsigned odd, const unsigned k, const unsigned n)
{
    const __m256i low = _mm256_set1_epi8(15), fifth = _mm256_set1_epi8(16);
    const __m128i down = _mm_cvtsi32_si128(j > 4 ? (int)j - 4 : 0);
    const __m128i up = _mm_cvtsi32_si128(j < 4 ? 4 - (int)j : 0);

#pragma GCC unroll 8
    for (unsigned i = 0; i < n; i++) {
        const __m256i v = load256(q + 64 * (k + i));

        w[i] = _mm256_and_si256(odd ? _mm256_srli_epi16(v, 4) : v, low);
        if (h) {        /* bit j of each byte to bit 4 */
            const __m256i b = _mm256_sll_epi16(_mm256_srl_epi16(load256(h + 64 * (k + i)), down), up);

            w[i] = _mm256_or_si256(w[i], _mm256_and_si256(b, fifth));
        }
    }
}

ALWAYS_INLINE void k_block(__m256 acc[2][R_MAX], struct cursor *c, const uint8_t *g,
                           const uint8_t *q, const uint8_t *h5, size_t j, const unsigned odd,
                           const unsigned R)
{
#pragma GCC unroll 2
    for (unsigned h = 0; h < 2; h++) {
        const __m256 scale = _mm256_mul_ps(half_scale(g + Q4_K_D + 16 * h),
                                           bytes_scale(g + Q4_K_SC + PACK_ROWS * j + 8 * h));
        const __m256 min = _mm256_mul_ps(half_scale(g + Q4_K_D + 32 + 16 * h),
                                         bytes_scale(g + Q4_K_M + PACK_ROWS * j + 8 * h));
        __m256i s[R_MAX], w[8];

        start_zero(s, R);
        if (h5) {
            k_weights(w, q + 32 * h, h5 + 32 * h, j, odd, 0, 4);
            dot(s, w, c->q, 0, 4, R);
            k_weights(w, q + 32 * h, h5 + 32 * h, j, odd, 4, 4);
            dot(s, w, c->q, 4, 4, R);
        } else {
            k_weights(w, q + 32 * h, NULL, j, odd, 0, 8);
            dot(s, w, c->q, 0, 8, R);
        }
        finish(acc[h], s, scale, c->d, R);
        EACH_ROW(R)
            acc[h][r] = _mm256_fnmadd_ps(min, _mm256_set1_ps(c->ds[r]), acc[h][r]);
    }
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

        for (size_t j = 0; j < 8; j += 2, q += 512) {
            k_block(acc, &c, g, q, h, j, 0, R);
            k_block(acc, &c, g, q, h, j + 1, 1, R);
        }
    }
    sums_store(sum, acc, R);
}

ALWAYS_INLINE void q4_k(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    k_product(sum, t, g, n, R, 4);
}
Q8_KERNELS(q4_k, TILE_D | TILE_DS)

ALWAYS_INLINE void q5_k(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    k_product(sum, t, g, n, R, 5);
}
Q8_KERNELS(q5_k, TILE_D | TILE_DS)

void ISA(matmul_q4_k)(const struct matmul_args *a) { matmul_blocked(a, &q4_k_blocking); }
void ISA(matmul_q5_k)(const struct matmul_args *a) { matmul_blocked(a, &q5_k_blocking); }

/* ---- Q6_K: q of 0..63, offset 32, a scale per 16 ---- */

/* Two words from k on of sub-block j of a half superblock. */
ALWAYS_INLINE void q6_weights(__m256i *w, const uint8_t *l, const uint8_t *h, const unsigned j,
                              const unsigned k)
{
    const __m256i low = _mm256_set1_epi8(15), pair = _mm256_set1_epi8(0x30);

#pragma GCC unroll 2
    for (unsigned i = 0; i < 2; i++) {
        const __m256i v = load256(l + 64 * (k + i)), u = load256(h + 64 * (k + i));
        const __m256i lo = _mm256_and_si256(j < 2 ? v : _mm256_srli_epi16(v, 4), low);
        const __m256i hi = j == 0 ? _mm256_slli_epi16(u, 4) : j == 1 ? _mm256_slli_epi16(u, 2)
                         : j == 2 ? u : _mm256_srli_epi16(u, 2);

        w[i] = _mm256_or_si256(lo, _mm256_and_si256(hi, pair));
    }
}

/* Inputs 16 part … of sub-block j. */
ALWAYS_INLINE void q6_part(__m256i *s, const struct cursor *c, const uint8_t *l,
                           const uint8_t *high, const unsigned j, const unsigned part,
                           const unsigned R)
{
    __m256i w[2];

    start(s, c->b16 + part * R, 2, R);
    q6_weights(w, l, high, j, 4 * part);
    dot(s, w, c->q, 4 * part, 2, R);
    q6_weights(w, l, high, j, 4 * part + 2);
    dot(s, w, c->q, 4 * part + 2, 2, R);
}

ALWAYS_INLINE void q6_block(__m256 acc[2][R_MAX], struct cursor *c, const uint8_t *g,
                            const uint8_t *words, const uint8_t *sc, const unsigned j,
                            const unsigned R)
{
#pragma GCC unroll 2
    for (unsigned h = 0; h < 2; h++) {
        const uint8_t *l = words + Q6_K_L + 512 * (j % 2) + 32 * h, *hi = words + Q6_K_H + 32 * h;
        const __m256 d = _mm256_load_ps((const void *)(g + Q6_K_D + 32 * h));
        const __m256 s0 = _mm256_mul_ps(d, signed_scale(sc + PACK_ROWS * (2 * j) + 8 * h));
        const __m256 s1 = _mm256_mul_ps(d, signed_scale(sc + PACK_ROWS * (2 * j + 1) + 8 * h));
        __m256i s[R_MAX];
        __m256 u[R_MAX];

        q6_part(s, c, l, hi, j, 0, R);
        EACH_ROW(R)
            u[r] = _mm256_mul_ps(_mm256_cvtepi32_ps(s[r]), s0);
        q6_part(s, c, l, hi, j, 1, R);
        EACH_ROW(R)
            u[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(s[r]), s1, u[r]);
        EACH_ROW(R)
            acc[h][r] = _mm256_fmadd_ps(u[r], _mm256_set1_ps(c->d[r]), acc[h][r]);
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
Q8_KERNELS(q6_k, TILE_D | TILE_B16)

void ISA(matmul_q6_k)(const struct matmul_args *a) { matmul_blocked(a, &q6_k_blocking); }
