/* matmul_q8.c: Q4_0 and Q8_0 times ACTF_Q8, AVX2 and AVX-VNNI; see q8_tile.h. */
#include "chips/cpu/avx2/matmul.h"
#include "chips/cpu/avx2/q8_tile.h"

/* One block of a group of two; Q4_0: q of 0..15, offset 8; Q8_0: bytes q + 128. */
ALWAYS_INLINE void one_block(__m256 acc[2][R_MAX], struct cursor *c, const uint8_t *g,
                             const unsigned block, const unsigned bits, const unsigned R)
{
    const uint8_t *d = g + (bits == 4 ? Q4_0_D : Q8_0_D) + 32 * block;
    const struct weights w = {
        .form = bits == 4 ? NIBBLE_HALVES : WHOLE_BYTES, .bits = bits,
        .q = bits == 4 ? g + Q4_0_Q + 256 * block : g + Q8_0_Q + 512 * block,
    };
    const __m256 scale[2] = { half_scale(d), half_scale(d + 16) };
    __m256i s[2][R_MAX];

    start(s, c->b32, bits == 4 ? 4 : 0, R);
    dot(s, &w, c->q, 0, 8, R);
    finish(acc, s, scale, c->d, R);
    cursor_next(c, R);
}

ALWAYS_INLINE void product(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                           const unsigned bits, const unsigned R)
{
    struct cursor c = cursor_of(t);
    __m256 acc[2][R_MAX];

    sums_load(acc, sum, R);
    for (size_t i = 0; i < n / 2; i++, g += bits == 4 ? Q4_0_BYTES : Q8_0_BYTES) {
        one_block(acc, &c, g, 0, bits, R);
        one_block(acc, &c, g, 1, bits, R);
    }
    if (n % 2)
        one_block(acc, &c, g, 0, bits, R);
    sums_store(sum, acc, R);
}

ALWAYS_INLINE void q4_0(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    product(sum, t, g, n, 4, R);
}
Q8_KERNELS(q4_0)

ALWAYS_INLINE void q8_0(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    product(sum, t, g, n, 8, R);
}
Q8_KERNELS(q8_0)

static const struct blocking q4_0_blocking = {
    .rows_max = R_MAX, .panels_max = 1, .parts = TILE_D | TILE_B32, .fn = Q8_FN(q4_0),
};
static const struct blocking q8_0_blocking = {
    .rows_max = R_MAX, .panels_max = 1, .parts = TILE_D | TILE_B32, .fn = Q8_FN(q8_0),
};

void ISA(matmul_q4_0)(const struct matmul_args *a) { matmul_blocked(a, &q4_0_blocking); }
void ISA(matmul_q8_0)(const struct matmul_args *a) { matmul_blocked(a, &q8_0_blocking); }
