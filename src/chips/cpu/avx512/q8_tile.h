/* q8_tile.h: products of quantised weights with ACTF_Q8 activations, AVX-512 VNNI.
 *
 * vpdpbusd multiplies unsigned by signed bytes, so weights stand as unsigned
 * numbers w + offset; the accumulator starts from minus offset times the sum of
 * the activations (b32, b16), which costs one load. Types with a minimum (K
 * types) have no offset. 4- and 6-bit weights are used shifted up so that their
 * offset is 128 as well, with the scale divided by the same power of two.
 *
 * Each file of one type defines its parts as an always-inlined function of
 * compile-time constants and instantiates Q8_KERNELS. Arithmetic per output, in
 * ascending order of blocks: acc = fma(float(dot), scale * d, acc), and for
 * types with minima acc = fma(-min, d * sum, acc) after it. */
#ifndef CHIPS_CPU_AVX512_Q8_TILE_H
#define CHIPS_CPU_AVX512_Q8_TILE_H

#include "chips/cpu/avx512/vec.h"

/* Where a kernel stands in its tile. */
struct cursor {
    const int8_t  *q;
    const float   *d, *ds;
    const int32_t *b32, *b16;
    const uint8_t *ahead;
    uint32_t       ahead_lines;
};

ALWAYS_INLINE struct cursor cursor_of(const struct tile *t)
{
    return (struct cursor){ t->q, t->d, t->ds, t->b32, t->b16, t->ahead, t->ahead_lines };
}
ALWAYS_INLINE void cursor_next(struct cursor *c, const unsigned R)
{
    c->q += ACT_BLOCK * R;
    c->d += R;
    c->ds += R;
    c->b32 += R;
    c->b16 += 2 * R;
}

/* acc: in regs, loaded from sum; or sum itself. */
ALWAYS_INLINE __m512 *sums_load(__m512 *regs, float *sum, const unsigned R)
{
    if (R > R_REGS)
        return (__m512 *)(void *)sum;
    EACH_ROW(R)
        regs[r] = _mm512_load_ps(sum + PACK_ROWS * r);
    return regs;
}
ALWAYS_INLINE void sums_store(float *sum, const __m512 *acc, const unsigned R)
{
    if (R > R_REGS)
        return;
    EACH_ROW(R)
        _mm512_store_ps(sum + PACK_ROWS * r, acc[r]);
}

ALWAYS_INLINE void start(__m512i *s, const int32_t *bias, const unsigned R)
{
    EACH_ROW(R)
        s[r] = bcast32(bias + r);
}
/* s + w times the four bytes at q in every lane. Compilers make two instructions and a register
 * of this, and the core runs out of registers to look ahead with. */
ALWAYS_INLINE __m512i dot_bcast(__m512i s, __m512i w, const int8_t *q)
{
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(s) : "v"(w), "m"(*(const int8_t (*)[4])q));
    return s;
}
/* The weights of inputs 4k … 4k+3 of a block times R rows. */
ALWAYS_INLINE void dot(__m512i *s, __m512i w, const int8_t *q, const unsigned k, const unsigned R)
{
    EACH_ROW(R)
        s[r] = dot_bcast(s[r], w, q + ACT_BLOCK * r + 4 * k);
}
/* Asks for weights of the next panel, into the second level: nearer, and into the first level,
 * requests collide with the hardware's own, which reach 8 KB ahead. One row needs none of this:
 * there the hardware's foresight is better, and a core has few misses of its own under way. With
 * more rows the weights come slowly and between other streams, and it fails. */
ALWAYS_INLINE void fetch(struct cursor *c, const unsigned R)
{
    for (uint32_t i = 0; i < c->ahead_lines && R > 1; i++, c->ahead += 64)
        _mm_prefetch((const char *)c->ahead, _MM_HINT_T1);
}
/* One row of many inputs does not stay in the first level beside the weights that stream through;
 * at every second block, asks for the activations that come soon. */
ALWAYS_INLINE void fetch_row(const struct cursor *c, const unsigned R)
{
    if (R == 1)
        _mm_prefetch((const char *)c->q + 128, _MM_HINT_T0);
}
/* acc += float(s) * (scale * d) */
ALWAYS_INLINE void finish(__m512 *acc, const __m512i *s, __m512 scale, const float *d,
                          const unsigned R)
{
    EACH_ROW(R)
        acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s[r]),
                                 _mm512_mul_ps(scale, _mm512_set1_ps(d[r])), acc[r]);
}
/* The same and acc -= min * ds */
ALWAYS_INLINE void finish_min(__m512 *acc, const __m512i *s, __m512 scale, const float *d,
                              __m512 min, const float *ds, const unsigned R)
{
    EACH_ROW(R) {
        const __m512 a = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s[r]),
                                         _mm512_mul_ps(scale, _mm512_set1_ps(d[r])), acc[r]);

        acc[r] = _mm512_fnmadd_ps(min, _mm512_set1_ps(ds[r]), a);
    }
}

/* Defines the kernels NAME_R from NAME(sum, tile, panel, n, R), and NAME_blocking. */
#define Q8_KERNEL(NAME, R)                                                         \
    static void NAME##_##R(float *sum, const struct tile *t, const uint8_t *panel, \
                           size_t panel_bytes, size_t n)                           \
    {                                                                              \
        (void)panel_bytes;                                                         \
        NAME(sum, t, panel, n, R);                                                 \
    }
/* ONCE: so many rows take one tile, 12 or 16. One of 16 rows keeps its sums in memory and is a
 * little slower, but reads and decodes the weights once: right where that is dear. */
#define Q8_KERNELS(NAME, PARTS, MANY)                                              \
    Q8_KERNEL(NAME, 1) Q8_KERNEL(NAME, 2) Q8_KERNEL(NAME, 3) Q8_KERNEL(NAME, 4)    \
    Q8_KERNEL(NAME, 6) Q8_KERNEL(NAME, 8) Q8_KERNEL(NAME, 10) Q8_KERNEL(NAME, 11)  \
    Q8_KERNEL(NAME, 12)                                                            \
    static const struct blocking NAME##_blocking = { Q8_FNS(NAME, PARTS, MANY) };
/* With a kernel of 16 rows for batches of 13 to 16. Its sums wait in memory, which is a little
 * slower, but it reads and decodes the weights once: right where that is dear. */
#define Q8_KERNELS_16(NAME, PARTS, MANY)                                           \
    Q8_KERNEL(NAME, 1) Q8_KERNEL(NAME, 2) Q8_KERNEL(NAME, 3) Q8_KERNEL(NAME, 4)    \
    Q8_KERNEL(NAME, 6) Q8_KERNEL(NAME, 8) Q8_KERNEL(NAME, 10) Q8_KERNEL(NAME, 11)  \
    Q8_KERNEL(NAME, 12)                                                            \
    Q8_KERNEL(NAME, 16)                                                            \
    static const struct blocking NAME##_blocking = {                               \
        Q8_FNS(NAME, PARTS, MANY), .rows_once = 16, .fn[16] = { NAME##_16 }        \
    };
#define Q8_FNS(NAME, PARTS, MANY)                                                  \
    .rows_max = R_REGS, .panels_max = 1, .parts = (PARTS), .many = (MANY),         \
    .fn[1] = { NAME##_1 }, .fn[2] = { NAME##_2 }, .fn[3] = { NAME##_3 },           \
    .fn[4] = { NAME##_4 }, .fn[6] = { NAME##_6 }, .fn[8] = { NAME##_8 },           \
    .fn[10] = { NAME##_10 }, .fn[11] = { NAME##_11 }, .fn[12] = { NAME##_12 }

#endif
