/* q8_tile.h: products of quantised weights with ACTF_Q8 activations, AVX2.
 *
 * Weights are used as small unsigned numbers. Without VNNI, vpmaddubsw sums pairs
 * of products in 16 bits, and those of 4-, 5- and 6-bit weights are added there
 * for 8, 4 and 2 words before they are widened: 8 * 2 * 15 * 127, 4 * 2 * 31 * 127
 * and 2 * 2 * 63 * 127 all stay below 2^15. 8-bit weights are multiplied as two
 * nibbles, the upper sum times 16 as it is widened. Sums of a block are exact, and the
 * float arithmetic is that of avx512/q8_tile.h in the same order, so both give the
 * same bits.
 *
 * An activation is broadcast once for two registers of weights: the two halves of the
 * panel, or two nibbles of one half. Words are the outer loop and rows the inner one, so
 * that 2 R sums and three more registers are all that is live. */
#ifndef CHIPS_CPU_AVX2_Q8_TILE_H
#define CHIPS_CPU_AVX2_Q8_TILE_H

#include "chips/cpu/avx2/vec.h"

#define R_MAX 4

/* Where a kernel stands in its tile. */
struct cursor {
    const int8_t  *q;
    const float   *d, *ds;
    const int32_t *b32, *b16;
};

ALWAYS_INLINE struct cursor cursor_of(const struct tile *t)
{
    return (struct cursor){ t->q, t->d, t->ds, t->b32, t->b16 };
}
ALWAYS_INLINE void cursor_next(struct cursor *c, const unsigned R)
{
    c->q += ACT_BLOCK * R;
    c->d += R;
    c->ds += R;
    c->b32 += R;
    c->b16 += 2 * R;
}

#define EACH_HALF _Pragma("GCC unroll 2") for (unsigned h = 0; h < 2; h++)

/* acc[half of the lanes][row] */
ALWAYS_INLINE void sums_load(__m256 acc[2][R_MAX], const float *sum, const unsigned R)
{
    EACH_ROW(R) EACH_HALF
        acc[h][r] = _mm256_load_ps(sum + PACK_ROWS * r + 8 * h);
}
ALWAYS_INLINE void sums_store(float *sum, __m256 acc[2][R_MAX], const unsigned R)
{
    EACH_ROW(R) EACH_HALF
        _mm256_store_ps(sum + PACK_ROWS * r + 8 * h, acc[h][r]);
}

/* ---- weights ---- */

/* How a block's weights lie: word k is that of inputs 4k … 4k+3. */
enum form {
    NIBBLE_HALVES,      /* Q4_0: low nibbles words 0 … 3, high nibbles 4 … 7 */
    NIBBLES,            /* Q4_K, j odd: the high ones; h: words with the fifth bit at j, or NULL */
    SIX_BITS,           /* Q6_K: nibbles low for j < 2; h: words of pairs */
    WHOLE_BYTES         /* minus j */
};
struct weights {
    enum form      form;
    unsigned       bits;        /* 4, 5, 6 or 8: below 1 << bits */
    const uint8_t *q, *h;
    unsigned       j;
};

/* Word k of lanes 8 half …. */
ALWAYS_INLINE __m256i word_of(const struct weights *w, const unsigned k, const unsigned half)
{
    const __m256i low = _mm256_set1_epi8(15);
    const size_t at = 64 * (size_t)k + 32 * half;
    __m256i v, u;

    switch (w->form) {
    case NIBBLE_HALVES:
        v = load256(w->q + 64 * (k % 4) + 32 * half);
        return _mm256_and_si256(k < 4 ? v : _mm256_srli_epi16(v, 4), low);
    case NIBBLES:
        v = load256(w->q + at);
        v = _mm256_and_si256(w->j % 2 ? _mm256_srli_epi16(v, 4) : v, low);
        if (!w->h)
            return v;
        u = load256(w->h + at);         /* bit j of each byte to bit 4 */
        u = w->j < 4 ? _mm256_slli_epi16(u, 4 - (int)w->j) : _mm256_srli_epi16(u, (int)w->j - 4);
        return _mm256_or_si256(v, _mm256_and_si256(u, _mm256_set1_epi8(16)));
    case SIX_BITS:
        v = load256(w->q + at);
        v = _mm256_and_si256(w->j < 2 ? v : _mm256_srli_epi16(v, 4), low);
        u = load256(w->h + at);
        u = w->j < 2 ? _mm256_slli_epi16(u, 4 - 2 * (int)w->j)
                     : _mm256_srli_epi16(u, 2 * (int)w->j - 4);
        return _mm256_or_si256(v, _mm256_and_si256(u, _mm256_set1_epi8(0x30)));
    case WHOLE_BYTES:
        break;
    }
    v = load256(w->q + at);
    return w->j ? _mm256_sub_epi8(v, _mm256_set1_epi8((char)w->j)) : v;
}

/* ---- sums ---- */

/* s = bias >> shift: -128 times the sum, down to the type's own offset. bias NULL: zero. */
ALWAYS_INLINE void start(__m256i s[2][R_MAX], const int32_t *bias, const int shift,
                         const unsigned R)
{
    EACH_ROW(R)
        s[0][r] = s[1][r] = bias ? _mm256_srai_epi32(bcast32(bias + r), shift)
                                 : _mm256_setzero_si256();
}

#ifdef __AVXVNNI__
/* s += words k … k + n - 1 of the weights times R rows. */
ALWAYS_INLINE void dot(__m256i s[2][R_MAX], const struct weights *w, const int8_t *q,
                       const unsigned k, const unsigned n, const unsigned R)
{
#pragma GCC unroll 8
    for (unsigned i = k; i < k + n; i++) {
        const __m256i w0 = word_of(w, i, 0), w1 = word_of(w, i, 1);

        EACH_ROW(R) {
            const __m256i x = bcast32(q + ACT_BLOCK * r + 4 * i);

            s[0][r] = _mm256_dpbusd_avx_epi32(s[0][r], w0, x);
            s[1][r] = _mm256_dpbusd_avx_epi32(s[1][r], w1, x);
        }
    }
}
#else
/* Sums are made in the order written. Left alone, gcc forms all products first, to add them
 * as a tree, and keeps them in memory meanwhile. */
#define IN_ORDER(v) __asm__("" : "+x"(v))

/* t += two registers of weights times word i of R rows, in 16 bits. */
ALWAYS_INLINE void add16(__m256i t[2][R_MAX], __m256i w0, __m256i w1, const int8_t *q,
                         const unsigned i, const unsigned first, const unsigned R)
{
    EACH_ROW(R) {
        const __m256i x = bcast32(q + ACT_BLOCK * r + 4 * i);
        const __m256i m0 = _mm256_maddubs_epi16(w0, x), m1 = _mm256_maddubs_epi16(w1, x);

        t[0][r] = first ? m0 : _mm256_add_epi16(t[0][r], m0);
        t[1][r] = first ? m1 : _mm256_add_epi16(t[1][r], m1);
        IN_ORDER(t[0][r]);
        IN_ORDER(t[1][r]);
    }
}

/* Nibbles of one half at a time. */
ALWAYS_INLINE void dot8(__m256i s[2][R_MAX], const struct weights *w, const int8_t *q,
                        const unsigned k, const unsigned n, const unsigned R)
{
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i one = _mm256_set1_epi16(1), sixteen = _mm256_set1_epi16(16);

    EACH_HALF {
        __m256i t[2][R_MAX];

        __asm__("" : "+r"(q));      /* or broadcasts of the first half are kept, in memory */
#pragma GCC unroll 8
        for (unsigned i = k; i < k + n; i++) {
            const __m256i v = word_of(w, i, h);

            add16(t, _mm256_and_si256(v, low), _mm256_and_si256(_mm256_srli_epi16(v, 4), low), q,
                  i, i == k, R);
        }
        EACH_ROW(R)
            s[h][r] = _mm256_add_epi32(s[h][r],
                                       _mm256_add_epi32(_mm256_madd_epi16(t[0][r], one),
                                                        _mm256_madd_epi16(t[1][r], sixteen)));
    }
}

ALWAYS_INLINE void dot(__m256i s[2][R_MAX], const struct weights *w, const int8_t *q,
                       const unsigned k, const unsigned n, const unsigned R)
{
    const unsigned n16 = w->bits <= 4 ? 8 : w->bits == 5 ? 4 : 2;    /* words that fit 16 bits */
    const __m256i one = _mm256_set1_epi16(1);
    __m256i t[2][R_MAX];

    if (w->bits == 8) {
        dot8(s, w, q, k, n, R);
        return;
    }
#pragma GCC unroll 8
    for (unsigned i = k; i < k + n; i++) {
        add16(t, word_of(w, i, 0), word_of(w, i, 1), q, i, (i - k) % n16 == 0, R);
        if ((i - k + 1) % n16 == 0 || i + 1 == k + n)
            EACH_ROW(R) EACH_HALF
                s[h][r] = _mm256_add_epi32(s[h][r], _mm256_madd_epi16(t[h][r], one));
    }
}
#endif

/* acc += float(s) * (scale * d) */
ALWAYS_INLINE void finish(__m256 acc[2][R_MAX], __m256i s[2][R_MAX], const __m256 *scale,
                          const float *d, const unsigned R)
{
    EACH_ROW(R) EACH_HALF
        acc[h][r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(s[h][r]),
                                    _mm256_mul_ps(scale[h], _mm256_set1_ps(d[r])), acc[h][r]);
}

/* Defines the kernels NAME_R from NAME(sum, tile, panel, n, R). */
#define Q8_KERNEL(NAME, R)                                                         \
    static void NAME##_##R(float *sum, const struct tile *t, const uint8_t *panel, \
                           size_t panel_bytes, size_t n)                           \
    {                                                                              \
        (void)panel_bytes;                                                         \
        NAME(sum, t, panel, n, R);                                                 \
    }
#define Q8_KERNELS(NAME)                                                           \
    Q8_KERNEL(NAME, 1) Q8_KERNEL(NAME, 2) Q8_KERNEL(NAME, 3) Q8_KERNEL(NAME, 4)
#define Q8_FN(NAME)                                                                \
    { [1] = { NAME##_1 }, [2] = { NAME##_2 }, [3] = { NAME##_3 }, [4] = { NAME##_4 } }

#endif
