/* train_bf16.c: the gradient of a matrix with the pairs' dot product of AVX-512 BF16: pairs are
 * neighbouring rows of the batch, a row that has none goes with zeros. */
#include <immintrin.h>
#include <string.h>

#include "chips/cpu/train_kernels.h"

#define INLINE static inline __attribute__((always_inline))
#define M 8u
#define V 3u
#define N 16u
#define PAIRS OUTER_DEPTH
#define EACH_M(m) _Pragma("GCC unroll 8") for (unsigned m = 0; m < M; m++)
#define EACH_V(v, W) _Pragma("GCC unroll 3") for (unsigned v = 0; v < (W); v++)

/* Sixteen pairs of two rows as words, the earlier row low. */
INLINE __m512i pair16(__m512 lo, __m512 hi)
{
    const __m512i l = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(lo));
    const __m512i h = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(hi));

    return _mm512_or_si512(l, _mm512_slli_epi32(h, 16));
}

static const float *row_at(const float *base, size_t stride, const uint32_t *index, uint32_t row,
                           uint32_t n)
{
    if (row >= n)
        return NULL;
    return base + (index ? index[row] : row) * stride;
}

INLINE __m512 load_tail(const float *p, size_t left)
{
    if (!p)
        return _mm512_setzero_ps();
    return left >= N ? _mm512_loadu_ps(p)
                     : _mm512_maskz_loadu_ps((__mmask16)((1u << left) - 1u), p);
}

/* x: words [n_in / wide][pairs][wide] */
static void pack_x(uint32_t *to, const struct outer_args *a, uint32_t row, uint32_t pairs)
{
    const uint32_t padded = (a->n_in + N - 1) / N * N;

    for (uint32_t p = 0; p < pairs; p++) {
        const float *lo = row_at(a->x, a->x_stride, a->x_index, row + 2 * p, a->n_rows);
        const float *hi = row_at(a->x, a->x_stride, a->x_index, row + 2 * p + 1, a->n_rows);

        for (uint32_t i = 0; i < padded; i += N) {
            const uint32_t panel = i / (V * N) * (V * N);
            const uint32_t wide = padded - panel < V * N ? padded - panel : V * N;

            _mm512_storeu_si512(to + (size_t)panel * pairs + (size_t)p * wide + (i - panel),
                                pair16(load_tail(lo + i, a->n_in - i),
                                       load_tail(hi ? hi + i : NULL, a->n_in - i)));
        }
    }
}

/* dy: words [n_out / M][pairs][M] */
static void pack_dy(uint32_t *to, const struct outer_args *a, uint32_t row, uint32_t pairs)
{
    for (uint32_t p = 0; p < pairs; p++) {
        const float *lo = row_at(a->dy, a->dy_stride, a->dy_index, row + 2 * p, a->n_rows);
        const float *hi = row_at(a->dy, a->dy_stride, a->dy_index, row + 2 * p + 1, a->n_rows);

        for (uint32_t o = 0; o < a->n_out; o += N) {
            const __m512i w = pair16(load_tail(lo + o, a->n_out - o),
                                     load_tail(hi ? hi + o : NULL, a->n_out - o));
            uint32_t *y = to + (size_t)o * pairs + (size_t)p * M;

            _mm256_storeu_si256((__m256i *)(void *)y, _mm512_castsi512_si256(w));
            if (o + M < a->n_out)
                _mm256_storeu_si256((__m256i *)(void *)(y + (size_t)M * pairs),
                                    _mm512_extracti64x4_epi64(w, 1));
        }
    }
}

INLINE void tile(const struct outer_args *a, const uint32_t *dy, const uint32_t *x, uint32_t pairs,
                 uint32_t o, uint32_t i, const unsigned W)
{
    __m512 acc[M * V];

    EACH_M(m) EACH_V(v, W)
        acc[m * V + v] = _mm512_setzero_ps();
    for (uint32_t p = 0; p < pairs; p++) {
        __m512bh w[V];

        EACH_V(v, W)
            w[v] = (__m512bh)_mm512_loadu_si512(x + v * N);
        EACH_M(m) {
            const __m512bh s = (__m512bh)_mm512_set1_epi32((int)dy[m]);

            EACH_V(v, W)
                acc[m * V + v] = _mm512_dpbf16_ps(acc[m * V + v], s, w[v]);
        }
        x += W * N;
        dy += M;
    }
    EACH_M(m)
        if (o + m < a->n_out)
            EACH_V(v, W) {
                float *to = a->g + (o + m) * a->g_stride + i + v * N;
                const uint32_t left = a->n_in - i - v * N;
                const __mmask16 k = left >= N ? (__mmask16)0xFFFF : (__mmask16)((1u << left) - 1u);

                _mm512_mask_storeu_ps(to, k, _mm512_add_ps(_mm512_maskz_loadu_ps(k, to),
                                                           acc[m * V + v]));
            }
}

void outer_bf16_dot_avx512(const struct outer_args *a)
{
    uint32_t *dy = a->scratch, *x = dy + (OUTER_MAX_OUT + 8) * PAIRS;
    const uint32_t padded = (a->n_in + N - 1) / N * N;

    for (uint32_t r = 0; r < a->n_rows; r += 2 * PAIRS) {
        const uint32_t rows = a->n_rows - r < 2 * PAIRS ? a->n_rows - r : 2 * PAIRS;
        const uint32_t pairs = (rows + 1) / 2;

        pack_dy(dy, a, r, pairs);
        pack_x(x, a, r, pairs);
        for (uint32_t i = 0; i < padded; i += V * N)
            for (uint32_t o = 0; o < a->n_out; o += M) {
                const uint32_t *w = dy + (size_t)o * pairs, *b = x + (size_t)i * pairs;

                if (padded - i >= V * N)
                    tile(a, w, b, pairs, o, i, 3);
                else if (padded - i == 2 * N)
                    tile(a, w, b, pairs, o, i, 2);
                else
                    tile(a, w, b, pairs, o, i, 1);
            }
    }
}
