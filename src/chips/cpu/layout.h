/* layout.h: how packed panels and prepared activations lie in memory. Internal to
 * the packers and the kernels; docs/kernels.md draws the pictures.
 *
 * A panel is a row of groups, one after another. A group holds the same few
 * inputs of all PACK_ROWS output rows; its parts are multiples of 64 bytes, so
 * that every vector load of a panel is aligned. The integer parts of quantised
 * groups are the file's own 32-bit words, transposed: word t of row 0, of row
 * 1, … of row 15. Packing is thus a transposition and nothing else. */
#ifndef CHIPS_CPU_LAYOUT_H
#define CHIPS_CPU_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "chips/cpu/kernels.h"

/* ---- packed groups: offsets in bytes ---- */

/* Two blocks of 32. f16 d[2][16]; then per block the words [4][16] of nibbles: in word t
 * low nibbles are inputs 4t…4t+3, high nibbles inputs 16+4t…. */
enum { Q4_0_GROUP = 64, Q4_0_D = 0, Q4_0_Q = 64, Q4_0_BYTES = 64 + 2 * 256 };

/* Two blocks of 32. f16 d[2][16]; then per block [8][16][4] of q + 128. */
enum { Q8_0_GROUP = 64, Q8_0_D = 0, Q8_0_Q = 64, Q8_0_BYTES = 64 + 2 * 512 };

/* One superblock of 256. f16 d[16], f16 dmin[16]; scales u8 [8][16], minima u8 [8][16], 6 bits
 * each; nibbles [4][8][16] words: in chunk c low nibbles are sub-block 2c, high nibbles 2c+1,
 * word t inputs 4t…. Q5_K has its fifth bits before them: [8][16] words, bit j of sub-block j. */
enum { QK_GROUP = 256, Q4_K_D = 0, Q4_K_SC = 64, Q4_K_M = 192, Q4_K_Q = 320,
       Q4_K_BYTES = 320 + 2048 };
enum { Q5_K_H = 320, Q5_K_Q = 832, Q5_K_BYTES = 832 + 2048 };

/* One superblock of 256. f32 d[16]; scales i8 [16][16], one per 16 inputs; then per half of
 * 128 inputs the high 2 bits [8][16] words and the low 4 bits [2][8][16] words. Sub-block j of
 * a half, 32 inputs: bits 2j of the high words; nibble j/2 of low words j%2. */
enum { Q6_K_D = 0, Q6_K_SC = 64, Q6_K_Q = 320, Q6_K_H = 0, Q6_K_L = 512, Q6_K_HALF = 1536,
       Q6_K_BYTES = 320 + 2 * 1536 };

/* The types below are used through a wide copy (wide.h). Parts in order of the enums, b: block.
 * Two blocks of 32: f16 d[2][16], f16 m[2][16], u32 fifth bits [2][16], words [2][4][16]. */
enum { Q4_1_GROUP = 64, Q4_1_D = 0, Q4_1_M = 64, Q4_1_Q = 128, Q4_1_BYTES = 128 + 512 };
enum { Q5_0_GROUP = 64, Q5_0_D = 0, Q5_0_H = 64, Q5_0_Q = 192, Q5_0_BYTES = 192 + 512 };
enum { Q5_1_GROUP = 64, Q5_1_D = 0, Q5_1_M = 64, Q5_1_H = 128, Q5_1_Q = 256,
       Q5_1_BYTES = 256 + 512 };
/* IQ4_NL lies as Q4_0. IQ4_XS: f16 d[16], u16 high parts of scales [16], u32 low parts [16],
 * words [8][4][16]. */
enum { IQ4_XS_D = 0, IQ4_XS_SH = 32, IQ4_XS_SL = 64, IQ4_XS_Q = 128, IQ4_XS_BYTES = 128 + 2048 };
/* Four blocks of 32: u8 e[4][16], words [4][4][16]. */
enum { MXFP4_GROUP = 128, MXFP4_E = 0, MXFP4_Q = 64, MXFP4_BYTES = 64 + 1024 };
/* One block of 64: u8 d[16][4], words [8][16]. */
enum { NVFP4_GROUP = 64, NVFP4_D = 0, NVFP4_Q = 64, NVFP4_BYTES = 64 + 512 };
/* Superblocks: f16 d[16] (and dmin), words of scales, of high bits, of 2-bit planes. */
enum { Q2_K_D = 0, Q2_K_SC = 64, Q2_K_Q = 320, Q2_K_BYTES = 320 + 1024 };
enum { Q3_K_D = 0, Q3_K_SC = 64, Q3_K_H = 256, Q3_K_Q = 768, Q3_K_BYTES = 768 + 1024 };
enum { TQ2_0_D = 0, TQ2_0_Q = 64, TQ2_0_BYTES = 64 + 1024 };

/* Plain types: f32 [16]; f16 [2][16]; bf16 [16][2]. */
enum { F32_GROUP = 1, F16_GROUP = 2, BF16_GROUP = 2, PLAIN_BYTES = 64 };

/* ---- how a type is packed ---- */

/* Consecutive units of a group's bytes in the file that are transposed: unit i of row r goes to
 * to + 16 * i * width + r * width. */
struct piece { uint16_t from, to, n, width; };

struct layout {
    uint32_t        group;          /* inputs per group; 0: the type has no layout */
    uint32_t        group_bytes;
    uint32_t        file_bytes;     /* of a group's inputs in one row of the file */
    enum act_format act;
    /* n groups from 16 rows of the file, stride bytes apart. */
    void          (*pack)(uint8_t *dst, const uint8_t *src, size_t stride, size_t n);
    /* One lane of one group back into group floats. */
    void          (*read)(float *out, const uint8_t *group, unsigned lane);
    /* Instead of the two: the group is the file's bytes, piece by piece. */
    const struct piece *pieces;
    uint32_t            n_pieces;
};

const struct layout *layout_of(enum dtype dtype);

/* Inputs [from, from + n) of one row; from is a multiple of LAYOUT_STEP. */
#define LAYOUT_STEP 256u
void layout_read(const struct packed *p, uint32_t mat, uint32_t row, uint32_t from,
                 uint32_t n, float *out);

static inline const uint8_t *panel_at(const struct packed *p, uint32_t mat, uint32_t panel)
{
    return (const uint8_t *)p->data + mat * p->mat_bytes + panel * p->panel_bytes;
}
/* Output rows that really exist in a panel. */
static inline uint32_t panel_rows(const struct packed *p, uint32_t panel)
{
    const uint32_t left = p->n_out - panel * PACK_ROWS;

    return left < PACK_ROWS ? left : PACK_ROWS;
}

/* ---- prepared activations, ACTF_Q8 ---- */

static inline size_t act_align(size_t n) { return (n + 63) & ~(size_t)63; }
static inline size_t act_blocks(uint32_t n_in) { return ((size_t)n_in + ACT_BLOCK - 1) / ACT_BLOCK; }

/* Offsets of the parts of a row in bytes; q is at 0. */
struct act_parts { size_t d, ds, b32, b16, size; };

static inline struct act_parts act_parts(uint32_t n_in)
{
    const size_t n = act_blocks(n_in), w = act_align(4 * n);
    struct act_parts p;

    p.d = act_align(ACT_BLOCK * n);
    p.ds = p.d + w;
    p.b32 = p.ds + w;
    p.b16 = p.b32 + w;
    p.size = p.b16 + act_align(8 * n);
    return p;
}

#endif
