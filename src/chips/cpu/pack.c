/* pack.c: geometry of packed weights, and the walk over panels; see pack.h.
 * What one group looks like is in pack_plain.c and pack_quant.c. */
#include "chips/cpu/pack.h"

#include <inttypes.h>
#include <string.h>

#include <xxhash.h>

#include "base/mem.h"
#include "chips/cpu/layout.h"
#include "chips/cpu/pack_types.h"
#include "chips/cpu/pack_words.h"

/* Largest file_bytes of any layout: a group of Q6_K, or two blocks of Q8_0. */
#define GROUP_FILE_MAX 256u

static const struct piece q4_1[] = {
    { 0, Q4_1_D, 1, 2 }, { 20, Q4_1_D + 32, 1, 2 }, { 2, Q4_1_M, 1, 2 }, { 22, Q4_1_M + 32, 1, 2 },
    { 4, Q4_1_Q, 4, 4 }, { 24, Q4_1_Q + 256, 4, 4 },
};
static const struct piece q5_0[] = {
    { 0, Q5_0_D, 1, 2 }, { 22, Q5_0_D + 32, 1, 2 }, { 2, Q5_0_H, 1, 4 }, { 24, Q5_0_H + 64, 1, 4 },
    { 6, Q5_0_Q, 4, 4 }, { 28, Q5_0_Q + 256, 4, 4 },
};
static const struct piece q5_1[] = {
    { 0, Q5_1_D, 1, 2 }, { 24, Q5_1_D + 32, 1, 2 }, { 2, Q5_1_M, 1, 2 }, { 26, Q5_1_M + 32, 1, 2 },
    { 4, Q5_1_H, 1, 4 }, { 28, Q5_1_H + 64, 1, 4 }, { 8, Q5_1_Q, 4, 4 }, { 32, Q5_1_Q + 256, 4, 4 },
};
static const struct piece iq4_nl[] = {
    { 0, Q4_0_D, 1, 2 }, { 18, Q4_0_D + 32, 1, 2 },
    { 2, Q4_0_Q, 4, 4 }, { 20, Q4_0_Q + 256, 4, 4 },
};
static const struct piece iq4_xs[] = {
    { 0, IQ4_XS_D, 1, 2 }, { 2, IQ4_XS_SH, 1, 2 }, { 4, IQ4_XS_SL, 1, 4 }, { 8, IQ4_XS_Q, 32, 4 },
};
static const struct piece mxfp4[] = {
    { 0, MXFP4_E, 1, 1 }, { 17, MXFP4_E + 16, 1, 1 }, { 34, MXFP4_E + 32, 1, 1 },
    { 51, MXFP4_E + 48, 1, 1 }, { 1, MXFP4_Q, 4, 4 }, { 18, MXFP4_Q + 256, 4, 4 },
    { 35, MXFP4_Q + 512, 4, 4 }, { 52, MXFP4_Q + 768, 4, 4 },
};
static const struct piece nvfp4[] = { { 0, NVFP4_D, 1, 4 }, { 4, NVFP4_Q, 8, 4 } };
static const struct piece q2_k[] = {
    { 80, Q2_K_D, 1, 2 }, { 82, Q2_K_D + 32, 1, 2 }, { 0, Q2_K_SC, 4, 4 }, { 16, Q2_K_Q, 16, 4 },
};
static const struct piece q3_k[] = {
    { 108, Q3_K_D, 1, 2 }, { 96, Q3_K_SC, 3, 4 }, { 0, Q3_K_H, 8, 4 }, { 32, Q3_K_Q, 16, 4 },
};
static const struct piece tq2_0[] = { { 64, TQ2_0_D, 1, 2 }, { 0, TQ2_0_Q, 16, 4 } };

#define PIECES(list) .pieces = (list), .n_pieces = sizeof(list) / sizeof *(list)

static const struct layout layouts[DTYPE_COUNT] = {
    [DTYPE_Q4_1] = { Q4_1_GROUP, Q4_1_BYTES, 40, ACTF_Q8, PIECES(q4_1) },
    [DTYPE_Q5_0] = { Q5_0_GROUP, Q5_0_BYTES, 44, ACTF_Q8, PIECES(q5_0) },
    [DTYPE_Q5_1] = { Q5_1_GROUP, Q5_1_BYTES, 48, ACTF_Q8, PIECES(q5_1) },
    [DTYPE_IQ4_NL] = { Q4_0_GROUP, Q4_0_BYTES, 36, ACTF_Q8, PIECES(iq4_nl) },
    [DTYPE_IQ4_XS] = { QK_GROUP, IQ4_XS_BYTES, 136, ACTF_Q8, PIECES(iq4_xs) },
    [DTYPE_MXFP4] = { MXFP4_GROUP, MXFP4_BYTES, 68, ACTF_Q8, PIECES(mxfp4) },
    [DTYPE_NVFP4] = { NVFP4_GROUP, NVFP4_BYTES, 36, ACTF_Q8, PIECES(nvfp4) },
    [DTYPE_Q2_K] = { QK_GROUP, Q2_K_BYTES, 84, ACTF_Q8, PIECES(q2_k) },
    [DTYPE_Q3_K] = { QK_GROUP, Q3_K_BYTES, 110, ACTF_Q8, PIECES(q3_k) },
    [DTYPE_TQ2_0] = { QK_GROUP, TQ2_0_BYTES, 66, ACTF_Q8, PIECES(tq2_0) },
    [DTYPE_F32] = { F32_GROUP, PLAIN_BYTES, 4, ACTF_F32, pack_f32, read_f32, NULL, 0 },
    [DTYPE_F16] = { F16_GROUP, PLAIN_BYTES, 4, ACTF_F32, pack_f16, read_f16, NULL, 0 },
    [DTYPE_BF16] = { BF16_GROUP, PLAIN_BYTES, 4, ACTF_BF16, pack_bf16, read_bf16, NULL, 0 },
    [DTYPE_Q4_0] = { Q4_0_GROUP, Q4_0_BYTES, 36, ACTF_Q8, pack_q4_0, read_q4_0, NULL, 0 },
    [DTYPE_Q8_0] = { Q8_0_GROUP, Q8_0_BYTES, 68, ACTF_Q8, pack_q8_0, read_q8_0, NULL, 0 },
    [DTYPE_Q4_K] = { QK_GROUP, Q4_K_BYTES, 144, ACTF_Q8, pack_q4_k, read_q4_k, NULL, 0 },
    [DTYPE_Q5_K] = { QK_GROUP, Q5_K_BYTES, 176, ACTF_Q8, pack_q5_k, read_q5_k, NULL, 0 },
    [DTYPE_Q6_K] = { QK_GROUP, Q6_K_BYTES, 210, ACTF_Q8, pack_q6_k, read_q6_k, NULL, 0 },
};

const struct layout *layout_of(enum dtype dtype)
{
    return (unsigned)dtype < DTYPE_COUNT && layouts[dtype].group ? &layouts[dtype] : NULL;
}

static uint64_t groups_of(const struct layout *l, uint32_t n_in)
{
    return ((uint64_t)n_in + l->group - 1) / l->group;
}

int pack_describe(struct packed *p, const struct tensor *t, struct err *e)
{
    const struct dtype_info *info = dtype_info(t->dtype);
    const struct layout *l = layout_of(t->dtype);
    struct packed out = { .dtype = t->dtype, .n_mats = 1 };
    uint64_t row_bytes, bytes;

    if (!info || !info->dequant)
        return err_set(e, WATT_ENOTSUP, "a matrix of type %s can't be multiplied",
                       dtype_name(t->dtype));
    if (t->n_dims != 2 && t->n_dims != 3)
        return err_set(e, WATT_ENOTSUP, "a matrix has 2 or 3 dimensions, found %u", t->n_dims);
    for (int i = 0; i < t->n_dims; i++)
        if (t->shape[i] <= 0 || t->shape[i] > INT32_MAX)
            return err_set(e, WATT_ENOTSUP, "a matrix can't have an extent of %" PRId64,
                           t->shape[i]);
    if (t->n_dims == 3)
        out.n_mats = (uint32_t)t->shape[0];
    out.n_out = (uint32_t)t->shape[t->n_dims - 2];
    out.n_in = (uint32_t)t->shape[t->n_dims - 1];
    out.n_panels = (out.n_out + PACK_ROWS - 1) / PACK_ROWS;
    if (!dtype_row_bytes(t->dtype, out.n_in, &row_bytes))
        return err_set(e, WATT_ENOTSUP, "rows of %" PRIu32 " elements are not whole %s blocks",
                       out.n_in, info->name);
    if (!mul_u64(row_bytes, out.n_out, &bytes) || !mul_u64(bytes, out.n_mats, &bytes) ||
        bytes > t->size_bytes)
        return err_set(e, WATT_ENOTSUP, "a matrix of this shape needs more than the tensor's %"
                       PRIu64 " bytes", t->size_bytes);
    if (l) {
        out.act = l->act;
        out.panel_bytes = (groups_of(l, out.n_in) * l->group_bytes + 63) & ~(uint64_t)63;
        if (!mul_u64(out.panel_bytes, out.n_panels, &out.mat_bytes) ||
            !mul_u64(out.mat_bytes, out.n_mats, &bytes))
            return err_set(e, WATT_ENOTSUP, "a packed matrix of this shape is too large");
    } else {
        out.act = ACTF_F32;
        out.raw = true;
        out.panel_bytes = row_bytes * PACK_ROWS;
        out.mat_bytes = row_bytes * out.n_out;
    }
    *p = out;
    return 0;
}

uint64_t pack_bytes(const struct packed *p)
{
    return p->mat_bytes * p->n_mats;
}

uint64_t pack_fingerprint(const struct packed *p, uint64_t seed)
{
    const struct layout *l = layout_of(p->dtype);
    const uint64_t v[] = { PACK_VERSION, PACK_ROWS, p->dtype, p->n_out, p->n_in, p->n_mats,
                           p->n_panels, p->panel_bytes, p->mat_bytes, p->raw, l->group,
                           l->group_bytes, l->file_bytes, l->n_pieces };

    seed = XXH3_64bits_withSeed(v, sizeof v, seed);
    return l->n_pieces ? XXH3_64bits_withSeed(l->pieces, l->n_pieces * sizeof *l->pieces, seed)
                       : seed;
}

static void pack_pieces(const struct layout *l, uint8_t *dst, const uint8_t *src, size_t stride)
{
    for (uint32_t i = 0; i < l->n_pieces; i++) {
        const struct piece *p = &l->pieces[i];
        const uint8_t *from = src + p->from;
        uint8_t *to = dst + p->to;

        if (p->width == 4)
            pack_words(to, from, stride, p->n);
        else if (p->width == 2)
            pack_halves(to, from, stride);
        else
            for (unsigned r = 0; r < PACK_ROWS; r++)
                to[r] = from[r * stride];
    }
}

static void pack_groups(const struct layout *l, uint8_t *dst, const uint8_t *src, size_t stride,
                        size_t n)
{
    if (l->pack) {
        l->pack(dst, src, stride, n);
        return;
    }
    for (size_t g = 0; g < n; g++)
        pack_pieces(l, dst + g * l->group_bytes, src + g * l->file_bytes, stride);
}

/* One lane of one group as floats: by way of the file's bytes for types made of pieces. */
static void read_group(enum dtype dtype, const struct layout *l, float *out, const uint8_t *group,
                       unsigned lane)
{
    uint8_t file[GROUP_FILE_MAX];

    if (l->read) {
        l->read(out, group, lane);
        return;
    }
    for (uint32_t i = 0; i < l->n_pieces; i++) {
        const struct piece *p = &l->pieces[i];

        for (unsigned u = 0; u < p->n; u++)
            memcpy(file + p->from + u * p->width,
                   group + p->to + (size_t)(PACK_ROWS * u + lane) * p->width, p->width);
    }
    dtype_info(dtype)->dequant(out, file, l->group);
}

/* Groups with missing rows or missing inputs go through a copy padded with zeros; in
 * every quantised type, a block of zero bytes has scale zero. */
static void pack_padded(const struct layout *l, uint8_t *dst, const uint8_t *src, size_t stride,
                        uint32_t n_rows, size_t bytes)
{
    uint8_t whole[PACK_ROWS * GROUP_FILE_MAX] = { 0 };

    CHECK(l->file_bytes <= GROUP_FILE_MAX && bytes <= l->file_bytes);
    for (uint32_t r = 0; r < n_rows; r++)
        memcpy(whole + r * l->file_bytes, src + r * stride, bytes);
    pack_groups(l, dst, whole, l->file_bytes, 1);
}

static void pack_panel(const struct packed *p, const struct layout *l, uint8_t *dst,
                       const uint8_t *src, size_t row_bytes, uint32_t n_rows)
{
    const size_t n_groups = (size_t)groups_of(l, p->n_in);
    size_t done = 0;

    if (n_rows == PACK_ROWS) {
        done = row_bytes / l->file_bytes;
        pack_groups(l, dst, src, row_bytes, done);
    }
    for (size_t g = done; g < n_groups; g++) {
        const size_t at = g * l->file_bytes, left = row_bytes - at;

        pack_padded(l, dst + g * l->group_bytes, src + at, row_bytes, n_rows,
                    left < l->file_bytes ? left : l->file_bytes);
    }
    memset(dst + n_groups * l->group_bytes, 0, p->panel_bytes - n_groups * l->group_bytes);
}

void pack_panels(const struct packed *p, const struct tensor *t, uint32_t mat,
                 uint32_t first, uint32_t last)
{
    const struct layout *l = layout_of(p->dtype);
    const uint8_t *src = t->data;
    uint64_t row_bytes = 0;

    CHECK(mat < p->n_mats && first <= last && last <= p->n_panels);
    CHECK(dtype_row_bytes(p->dtype, p->n_in, &row_bytes));
    src += row_bytes * p->n_out * mat;
    for (uint32_t i = first; i < last; i++) {
        const uint32_t n_rows = panel_rows(p, i);
        const uint8_t *rows = src + row_bytes * PACK_ROWS * i;
        uint8_t *dst = (uint8_t *)p->data + mat * p->mat_bytes + i * p->panel_bytes;

        if (p->raw)
            memcpy(dst, rows, row_bytes * n_rows);
        else
            pack_panel(p, l, dst, rows, (size_t)row_bytes, n_rows);
    }
}

static void read_raw(const struct packed *p, uint32_t mat, uint32_t row, uint32_t from,
                     uint32_t n, float *out)
{
    const struct dtype_info *info = dtype_info(p->dtype);
    const uint8_t *src = (const uint8_t *)p->data + mat * p->mat_bytes;
    uint64_t row_bytes = 0;

    CHECK(dtype_row_bytes(p->dtype, p->n_in, &row_bytes));
    src += row * row_bytes + from / info->block_elems * info->block_bytes;
    info->dequant(out, src, n);
}

void layout_read(const struct packed *p, uint32_t mat, uint32_t row, uint32_t from,
                 uint32_t n, float *out)
{
    const struct layout *l = layout_of(p->dtype);
    const uint8_t *group;

    if (p->raw) {
        read_raw(p, mat, row, from, n, out);
        return;
    }
    group = panel_at(p, mat, row / PACK_ROWS) + (size_t)(from / l->group) * l->group_bytes;
    while (n > 0) {
        const uint32_t part = n < l->group ? n : l->group;

        if (part == l->group) {
            read_group(p->dtype, l, out, group, row % PACK_ROWS);
        } else {
            float whole[LAYOUT_STEP];

            read_group(p->dtype, l, whole, group, row % PACK_ROWS);
            memcpy(out, whole, part * sizeof *out);
        }
        out += part;
        n -= part;
        group += l->group_bytes;
    }
}

void pack_read_row(const struct packed *p, uint32_t mat, uint32_t row, float *out)
{
    CHECK(mat < p->n_mats && row < p->n_out);
    layout_read(p, mat, row, 0, p->n_in, out);
}
