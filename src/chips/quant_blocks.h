/* quant_blocks.h: how the quantised blocks of GGUF files lie in memory.
 *
 * All fields are little-endian; the structs are packed, since a file may put a
 * tensor at any address. d is an IEEE half unless said otherwise. Elements are
 * counted from 0 within a block; "super-block" is a block of 256 elements with
 * scales of its own for each 16 or 32 of them.
 * Formats: the public GGUF type definitions (F16 scales, K-quants, IQ codebooks,
 * TQ ternary), OCP Microscaling 1.0 (MXFP4) and NVFP4. */
#ifndef CHIPS_QUANT_BLOCKS_H
#define CHIPS_QUANT_BLOCKS_H

#include <stdint.h>

#define QUANT_PACKED __attribute__((packed))

/* Blocks of 32. Nibble j holds element j, high nibble element j + 16; qh bit j is
 * the fifth bit of element j. */
struct QUANT_PACKED block_q4_0 { uint16_t d; uint8_t qs[16]; };                 /* d (q - 8) */
struct QUANT_PACKED block_q4_1 { uint16_t d, m; uint8_t qs[16]; };              /* d q + m */
struct QUANT_PACKED block_q5_0 { uint16_t d; uint8_t qh[4], qs[16]; };          /* d (q - 16) */
struct QUANT_PACKED block_q5_1 { uint16_t d, m; uint8_t qh[4], qs[16]; };       /* d q + m */
struct QUANT_PACKED block_q8_0 { uint16_t d; int8_t qs[32]; };                  /* d q */
struct QUANT_PACKED block_q8_1 { uint16_t d, s; int8_t qs[32]; };               /* d q; s = d sum q */
struct QUANT_PACKED block_iq4_nl { uint16_t d; uint8_t qs[16]; };               /* d iq4_levels[q] */
struct QUANT_PACKED block_mxfp4 { uint8_t e, qs[16]; };                         /* e8m0 fp4_levels[q] */

/* 64 elements as four groups of 16, each with an unsigned E4M3 scale; group g has
 * qs[8 g ...], nibble j element j, high nibble element j + 8 of the group. */
struct QUANT_PACKED block_nvfp4 { uint8_t d[4], qs[32]; };

/* Super-blocks. "2-bit planes": byte i of each 32 holds elements i, i + 32, i + 64,
 * i + 96 of its 128 in bits 0, 2, 4, 6. */
struct QUANT_PACKED block_q2_k {    /* d (s & 15) q - dmin (s >> 4), s of each 16 */
    uint8_t  scales[16], qs[64];    /* qs: 2-bit planes */
    uint16_t d, dmin;
};
struct QUANT_PACKED block_q3_k {    /* d (s - 32) (q - 4), s of each 16 */
    uint8_t  hmask[32], qs[64];     /* bit 2 of q: hmask[i % 32] bit i / 32; qs: 2-bit planes */
    uint8_t  scales[12];            /* 6 bits each: q3k_scale() */
    uint16_t d;
};
struct QUANT_PACKED block_q4_k {    /* d sc q - dmin m, sc and m of each 32 */
    uint16_t d, dmin;
    uint8_t  scales[12];            /* 6 bits each: q4k_scale_min() */
    uint8_t  qs[128];               /* byte i of each 32: elements i and i + 32 of its 64 */
};
struct QUANT_PACKED block_q5_k {    /* as Q4_K */
    uint16_t d, dmin;
    uint8_t  scales[12];
    uint8_t  qh[32];                /* bit 4 of q: qh[i % 32] bit i / 32 */
    uint8_t  qs[128];
};
struct QUANT_PACKED block_q6_k {    /* d s (q - 32), s of each 16 */
    uint8_t  ql[128];   /* byte i of each 64: elements i and i + 64 of its 128 */
    uint8_t  qh[64];    /* bits 4 and 5 of q: 2-bit planes */
    int8_t   scales[16];
    uint16_t d;
};
struct QUANT_PACKED block_q8_k {    /* activations only; d is a float */
    float   d;
    int8_t  qs[256];
    int16_t bsums[16];              /* of each 16 */
};

/* Codebook super-blocks: an index names 8 (IQ1, IQ2) or 4 (IQ3) magnitudes. */
struct QUANT_PACKED block_iq2_xxs { uint16_t d, qs[32]; };  /* each 32: 4 index bytes, 4 x 7 sign bits, 4-bit scale */
struct QUANT_PACKED block_iq2_xs  { uint16_t d, qs[32]; uint8_t scales[8]; };   /* qs: 9 index, 7 sign bits */
struct QUANT_PACKED block_iq2_s   { uint16_t d; uint8_t qs[32], signs[32], qh[8], scales[8]; };
struct QUANT_PACKED block_iq3_xxs { uint16_t d; uint8_t qs[64], gas[32]; };     /* gas: signs and scale as IQ2_XXS */
struct QUANT_PACKED block_iq3_s   { uint16_t d; uint8_t qs[64], qh[8], signs[32], scales[4]; };
struct QUANT_PACKED block_iq1_s   { uint16_t d; uint8_t qs[32]; uint16_t qh[8]; };
struct QUANT_PACKED block_iq1_m   { uint8_t qs[32], qh[16]; uint16_t scales[4]; };  /* d in the top nibbles of scales */
struct QUANT_PACKED block_iq4_xs {  /* d (s - 32) iq4_levels[q], s of each 32 */
    uint16_t d, scales_h;
    uint8_t  scales_l[4];
    uint8_t  qs[128];               /* each 32 as IQ4_NL */
};

/* Ternary. TQ1_0: five base-3 digits a byte, as a fraction of 256, most significant
 * first: bytes 0..31 hold elements 0..159, 32..47 the next 80, qh the last 16. */
struct QUANT_PACKED block_tq1_0 { uint8_t qs[48], qh[4]; uint16_t d; };
struct QUANT_PACKED block_tq2_0 { uint8_t qs[64]; uint16_t d; };    /* 2-bit planes, d (q - 1) */

/* Scale and minimum of group j < 8 of Q4_K and Q5_K. */
static inline void q4k_scale_min(const uint8_t s[12], unsigned j, unsigned *scale, unsigned *min)
{
    if (j < 4) {
        *scale = s[j] & 63u;
        *min = s[j + 4] & 63u;
    } else {
        *scale = (s[j + 4] & 15u) | (unsigned)s[j - 4] >> 6 << 4;
        *min = (unsigned)s[j + 4] >> 4 | (unsigned)s[j] >> 6 << 4;
    }
}

/* Scale of group j < 16 of Q3_K, -32..31. */
static inline int q3k_scale(const uint8_t s[12], unsigned j)
{
    const unsigned low = j < 8 ? s[j] & 15u : (unsigned)s[j - 8] >> 4;
    const unsigned high = (unsigned)s[8 + j % 4] >> j / 4 * 2 & 3u;

    return (int)(low | high << 4) - 32;
}

/* Scale of group j < 8 of IQ4_XS, -32..31. */
static inline int iq4xs_scale(const struct block_iq4_xs *b, unsigned j)
{
    const unsigned low = (unsigned)b->scales_l[j / 2] >> j % 2 * 4 & 15u;
    const unsigned high = (unsigned)b->scales_h >> j * 2 & 3u;

    return (int)(low | high << 4) - 32;
}

#endif
