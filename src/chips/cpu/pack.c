/* pack.c: geometry of packed weights, and the walk over panels; see pack.h.
 * What one group looks like is in pack_plain.c and pack_quant.c. */
#include "chips/cpu/pack.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "chips/cpu/layout.h"
#include "chips/cpu/pack_types.h"

/* Largest file_bytes of any layout: a group of Q6_K, or two blocks of Q8_0. */
#define GROUP_FILE_MAX 256u

static const struct layout layouts[DTYPE_COUNT] = {
    [DTYPE_F32] = { F32_GROUP, PLAIN_BYTES, 4, ACTF_F32, pack_f32, read_f32 },
    [DTYPE_F16] = { F16_GROUP, PLAIN_BYTES, 4, ACTF_F32, pack_f16, read_f16 },
    [DTYPE_BF16] = { BF16_GROUP, PLAIN_BYTES, 4, ACTF_BF16, pack_bf16, read_bf16 },
    [DTYPE_Q4_0] = { Q4_0_GROUP, Q4_0_BYTES, 36, ACTF_Q8, pack_q4_0, read_q4_0 },
    [DTYPE_Q8_0] = { Q8_0_GROUP, Q8_0_BYTES, 68, ACTF_Q8, pack_q8_0, read_q8_0 },
    [DTYPE_Q4_K] = { QK_GROUP, Q4_K_BYTES, 144, ACTF_Q8, pack_q4_k, read_q4_k },
    [DTYPE_Q5_K] = { QK_GROUP, Q5_K_BYTES, 176, ACTF_Q8, pack_q5_k, read_q5_k },
    [DTYPE_Q6_K] = { QK_GROUP, Q6_K_BYTES, 210, ACTF_Q8, pack_q6_k, read_q6_k },
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

/* Groups with missing rows or missing inputs go through a copy padded with zeros; in
 * every quantised type, a block of zero bytes has scale zero. */
static void pack_padded(const struct layout *l, uint8_t *dst, const uint8_t *src, size_t stride,
                        uint32_t n_rows, size_t bytes)
{
    uint8_t whole[PACK_ROWS * GROUP_FILE_MAX] = { 0 };

    CHECK(l->file_bytes <= GROUP_FILE_MAX && bytes <= l->file_bytes);
    for (uint32_t r = 0; r < n_rows; r++)
        memcpy(whole + r * l->file_bytes, src + r * stride, bytes);
    l->pack(dst, whole, l->file_bytes, 1);
}

static void pack_panel(const struct packed *p, const struct layout *l, uint8_t *dst,
                       const uint8_t *src, size_t row_bytes, uint32_t n_rows)
{
    const size_t n_groups = (size_t)groups_of(l, p->n_in);
    size_t done = 0;

    if (n_rows == PACK_ROWS) {
        done = row_bytes / l->file_bytes;
        l->pack(dst, src, row_bytes, done);
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
            l->read(out, group, row % PACK_ROWS);
        } else {
            float whole[LAYOUT_STEP];

            l->read(whole, group, row % PACK_ROWS);
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
