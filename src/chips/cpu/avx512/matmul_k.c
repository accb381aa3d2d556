/* matmul_k.c: Q4_K, Q5_K and Q6_K times ACTF_Q8, AVX-512 VNNI; see q8_tile.h. */
#include "chips/cpu/avx512/matmul.h"
#include "chips/cpu/avx512/q8_tile.h"

ALWAYS_INLINE __m512 bytes_scale(const uint8_t *p)      /* sixteen u8 */
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_load_si128((const void *)p)));
}
ALWAYS_INLINE __m512 signed_scale(const uint8_t *p)     /* sixteen i8 */
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128((const void *)p)));
}

/* ---- Q4_K and Q5_K: unsigned, with a minimum per sub-block ---- */

/* Sub-block j = 2c + odd, whose words of nibbles are at q and of fifth bits at h (or NULL). */
ALWAYS_INLINE void k_block(__m512 *acc, struct cursor *c, const uint8_t *g, const uint8_t *q,
                           const uint8_t *h, size_t j, const unsigned odd, __m512 d, __m512 dmin,
                           const unsigned R)
{
    const __m512i low = _mm512_set1_epi8(15), fifth = _mm512_set1_epi8(16);
    const __m512i turn = _mm512_set1_epi32((4 - (int)j) & 31);
    const __m512 scale = _mm512_mul_ps(d, bytes_scale(g + Q4_K_SC + PACK_ROWS * j));
    const __m512 min = _mm512_mul_ps(dmin, bytes_scale(g + Q4_K_M + PACK_ROWS * j));
    __m512i s[R_MAX];

    fetch(c, R);
    EACH_ROW(R)
        s[r] = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (unsigned k = 0; k < 8; k++) {
        __m512i w = load512(q + 64 * k);

        w = _mm512_and_si512(odd ? _mm512_srli_epi16(w, 4) : w, low);
        if (h) {        /* bit j of each byte to bit 4 */
            const __m512i b = _mm512_rolv_epi32(load512(h + 64 * k), turn);

            w = _mm512_ternarylogic_epi32(w, b, fifth, 0xF8);      /* w | (b & fifth) */
        }
        dot(s, w, c->q, k, R);
    }
    finish_min(acc, s, scale, c->d, min, c->ds, R);
    cursor_next(c, R);
}

ALWAYS_INLINE void k_product(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                             const unsigned R, const unsigned bits)
{
    struct cursor c = cursor_of(t);
    __m512 regs[R_REGS], *acc = sums_load(regs, sum, R);

    for (size_t i = 0; i < n / 8; i++, g += bits == 5 ? Q5_K_BYTES : Q4_K_BYTES) {
        const __m512 d = half_scale(g + Q4_K_D), dmin = half_scale(g + Q4_K_D + 32);
        const uint8_t *q = g + (bits == 5 ? Q5_K_Q : Q4_K_Q), *h = bits == 5 ? g + Q5_K_H : NULL;

        for (size_t j = 0; j < 8; j += 2, q += 512) {
            fetch_row(&c, R);
            k_block(acc, &c, g, q, h, j, 0, d, dmin, R);
            k_block(acc, &c, g, q, h, j + 1, 1, d, dmin, R);
        }
    }
    sums_store(sum, acc, R);
}

ALWAYS_INLINE void q4_k(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    k_product(sum, t, g, n, R, 4);
}
Q8_KERNELS(q4_k, TILE_D | TILE_DS, NULL)

ALWAYS_INLINE void q5_k(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    k_product(sum, t, g, n, R, 5);
}
Q8_KERNELS(q5_k, TILE_D | TILE_DS, &q5_k_wide_avx512)

void matmul_q4_k_avx512(const struct matmul_args *a) { matmul_blocked(a, &q4_k_blocking); }
void matmul_q5_k_avx512(const struct matmul_args *a) { matmul_blocked(a, &q5_k_blocking); }

/* ---- Q6_K: a scale per 16; shifted up by two, 4 (q - 32) = 4 q - 128 ---- */

/* Word i of sub-block j, shifted up by two: l the nibbles, h the high bits. */
ALWAYS_INLINE __m512i q6_word(const uint8_t *l, const uint8_t *h, const unsigned j,
                              const unsigned i)
{
    const __m512i top = _mm512_set1_epi8((char)0xC0), six = _mm512_set1_epi8((char)0xFC);
    const __m512i v = load512(l + 64 * i), u = load512(h + 64 * i);
    const __m512i nibble = j < 2 ? _mm512_slli_epi16(v, 2) : _mm512_srli_epi16(v, 2);
    const __m512i pair = j < 3 ? _mm512_slli_epi16(u, 6 - 2 * (int)j) : u;

    return _mm512_and_si512(_mm512_ternarylogic_epi32(top, pair, nibble, 0xCA), six);
}

/* Half of sub-block j (of 4 in a half superblock): words 4 half … 4 half + 3. */
ALWAYS_INLINE void q6_half(__m512i *s, const struct cursor *c, const uint8_t *l, const uint8_t *h,
                           const unsigned j, const unsigned half, const unsigned R)
{
    start(s, c->b16 + half * R, R);
#pragma GCC unroll 4
    for (unsigned k = 4 * half; k < 4 * half + 4; k++)
        dot(s, q6_word(l, h, j, k), c->q, k, R);
}

/* Some rows, from r0 on, of a tile of R times the words w: few enough that dots and products stay
 * in registers beside the words, though the sums wait in memory. */
#define Q6_SOME 8
ALWAYS_INLINE void q6_some(__m512 *acc, const struct cursor *c, const __m512i *w, __m512 s0,
                           __m512 s1, const unsigned r0, const unsigned R)
{
    __m512i s[Q6_SOME];
    __m512 u[Q6_SOME];

    start(s, c->b16 + r0, Q6_SOME);
#pragma GCC unroll 4
    for (unsigned k = 0; k < 4; k++)
        dot(s, w[k], c->q + ACT_BLOCK * r0, k, Q6_SOME);
    EACH_ROW(Q6_SOME)
        u[r] = _mm512_mul_ps(_mm512_cvtepi32_ps(s[r]), s0);
    start(s, c->b16 + R + r0, Q6_SOME);
#pragma GCC unroll 4
    for (unsigned k = 4; k < 8; k++)
        dot(s, w[k], c->q + ACT_BLOCK * r0, k, Q6_SOME);
    EACH_ROW(Q6_SOME) {
        u[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s[r]), s1, u[r]);
        acc[r0 + r] = _mm512_fmadd_ps(u[r], _mm512_set1_ps(c->d[r0 + r]), acc[r0 + r]);
    }
}

/* As two_scales() of matmul_wide.c. */
ALWAYS_INLINE void q6_block(__m512 *acc, struct cursor *c, const uint8_t *l, const uint8_t *h,
                            const uint8_t *sc, __m512 d, const unsigned j, const unsigned R)
{
    const __m512 s0 = _mm512_mul_ps(d, signed_scale(sc + PACK_ROWS * (2 * j)));
    const __m512 s1 = _mm512_mul_ps(d, signed_scale(sc + PACK_ROWS * (2 * j + 1)));
    __m512i s[R_MAX];
    __m512 u[R_MAX];

    fetch(c, R);
    if (R > R_REGS) {
        __m512i w[8];

#pragma GCC unroll 8
        for (unsigned i = 0; i < 8; i++)
            w[i] = q6_word(l + 512 * (j % 2), h, j, i);
        q6_some(acc, c, w, s0, s1, 0, R);
        q6_some(acc, c, w, s0, s1, Q6_SOME, R);
        cursor_next(c, R);
        return;
    }
    q6_half(s, c, l + 512 * (j % 2), h, j, 0, R);
    EACH_ROW(R)
        u[r] = _mm512_mul_ps(_mm512_cvtepi32_ps(s[r]), s0);
    q6_half(s, c, l + 512 * (j % 2), h, j, 1, R);
    EACH_ROW(R)
        u[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s[r]), s1, u[r]);
    EACH_ROW(R)
        acc[r] = _mm512_fmadd_ps(u[r], _mm512_set1_ps(c->d[r]), acc[r]);
    cursor_next(c, R);
}

/* Words i of sub-blocks j and j + 2: u the high bits, v the nibbles. */
ALWAYS_INLINE void q6_pair(__m512i (*s)[2], __m512i u, __m512i v, const int8_t *q,
                           const unsigned j, const unsigned i)
{
    const __m512i top = _mm512_set1_epi8((char)0xC0), six = _mm512_set1_epi8((char)0xFC);
    const __m512i lo = _mm512_ternarylogic_epi32(top, j ? _mm512_slli_epi16(u, 4)
                                                      : _mm512_slli_epi16(u, 6),
                                                 _mm512_slli_epi16(v, 2), 0xCA);
    const __m512i hi = _mm512_ternarylogic_epi32(top, j ? u : _mm512_slli_epi16(u, 2),
                                                 _mm512_srli_epi16(v, 2), 0xCA);

    s[j][i / 4] = dot_bcast(s[j][i / 4], _mm512_and_si512(lo, six), q + ACT_BLOCK * j + 4 * i);
    s[j + 2][i / 4] = dot_bcast(s[j + 2][i / 4], _mm512_and_si512(hi, six),
                                q + ACT_BLOCK * (j + 2) + 4 * i);
}

/* Reads lines that are needed a little later than those behind them. */
ALWAYS_INLINE void touch(const uint8_t *p, const unsigned lines)
{
#pragma GCC unroll 8
    for (unsigned i = 0; i < lines; i++) {
        const __m512i v = load512(p + 64 * i);

        __asm__ volatile("" : : "v"(v));
    }
}

/* Half a superblock times one row. Every line is read once and in order, which is what the
 * hardware foresees; the same sums as four times q6_block(). */
ALWAYS_INLINE void q6_half_row(__m512 *acc, struct cursor *c, const uint8_t *half,
                               const uint8_t *sc, __m512 d)
{
    __m512i s[4][2], h[8];

#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++) {
        s[i / 2][i % 2] = bcast32(c->b16 + i);
        h[i] = load512(half + Q6_K_H + 64 * i);
        __asm__("" : "+v"(h[i]));       /* loaded here, not beside the nibbles */
    }
#pragma GCC unroll 2
    for (unsigned j = 0; j < 2; j++)
#pragma GCC unroll 8
        for (unsigned i = 0; i < 8; i++)
            q6_pair(s, h[i], load512(half + Q6_K_L + 512 * j + 64 * i), c->q, j, i);
#pragma GCC unroll 4
    for (unsigned j = 0; j < 4; j++) {
        const __m512 s0 = _mm512_mul_ps(d, signed_scale(sc + PACK_ROWS * (2 * j)));
        const __m512 s1 = _mm512_mul_ps(d, signed_scale(sc + PACK_ROWS * (2 * j + 1)));
        __m512 u = _mm512_mul_ps(_mm512_cvtepi32_ps(s[j][0]), s0);

        u = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s[j][1]), s1, u);
        *acc = _mm512_fmadd_ps(u, _mm512_set1_ps(c->d[0]), *acc);
        c->d++;
    }
    c->q += 4 * ACT_BLOCK;
    c->b16 += 8;
}

ALWAYS_INLINE void q6_k(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    struct cursor c = cursor_of(t);
    __m512 regs[R_REGS], *acc = sums_load(regs, sum, R);

    for (size_t i = 0; i < n / 8; i++, g += Q6_K_BYTES) {
        const __m512 d = _mm512_mul_ps(_mm512_load_ps((const void *)(g + Q6_K_D)),
                                       _mm512_set1_ps(0.25f));

        if (R == 1)
            touch(g + Q6_K_SC, 4);
        for (size_t half = 0; half < 2; half++) {
            const uint8_t *h = g + Q6_K_Q + Q6_K_HALF * half + Q6_K_H;
            const uint8_t *l = g + Q6_K_Q + Q6_K_HALF * half + Q6_K_L;
            const uint8_t *sc = g + Q6_K_SC + 8 * PACK_ROWS * half;

            if (R == 1) {
                q6_half_row(acc, &c, h, sc, d);
                continue;
            }
            q6_block(acc, &c, l, h, sc, d, 0, R);
            q6_block(acc, &c, l, h, sc, d, 1, R);
            q6_block(acc, &c, l, h, sc, d, 2, R);
            q6_block(acc, &c, l, h, sc, d, 3, R);
        }
    }
    sums_store(sum, acc, R);
}
Q8_KERNELS_16(q6_k, TILE_D | TILE_B16, &q6_k_wide_avx512)

void matmul_q6_k_avx512(const struct matmul_args *a) { matmul_blocked(a, &q6_k_blocking); }
