/* sources.c: tensors of a folder as rows of numbers, whatever they are stored as.
 *
 * Plain types; FP8 (E4M3, E5M2) times a scale of the tensor, of each row or of each block, read
 * as BF16; MXFP4 as OCP's microscaling formats define it, in gpt-oss's order, read as GGUF's
 * MXFP4; GPTQ (Frantar et al. 2022, arXiv 2210.17323) and AWQ (Lin et al. 2023, arXiv
 * 2306.00978) in 4 bits, read as Q4_0 where every zero point is 8, which loses nothing, else as
 * Q4_1, whose minimum is rounded to F16. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "models/hf/internal.h"
#include "models/name_table.h"

#define MAX_EXTENT (INT64_C(1) << 40)

/* ---- quantization_config ---- */

static int read_4bit(struct hf *h, const struct json_place *at, struct err *e)
{
    uint64_t bits = 4;
    int64_t group = 128;
    const char *format;
    struct json_place place;
    bool by_importance = false;
    int rc = json_get_u64(at, h->quant.method == HF_QUANT_AWQ ? "w_bit" : "bits", 4, 1, 16, &bits,
                          e);

    if (rc == 0)
        rc = json_get_u64(at, "bits", bits, 1, 16, &bits, e);
    if (rc == 0)
        rc = json_find(at, h->quant.method == HF_QUANT_AWQ && !json_object_get(at->value,
                           "group_size") ? "q_group_size" : "group_size", &place, e);
    if (rc == 0 && place.value)
        rc = json_read_i64(&place, -1, 1 << 20, &group, e);
    if (rc == 0)
        rc = json_get_bool(at, "desc_act", false, &by_importance, e);
    if (rc == 0)
        rc = json_get_cstr(at, h->quant.method == HF_QUANT_AWQ ? "version" : "checkpoint_format",
                           "", &format, e);
    if (rc < 0)
        return rc;
    if (bits != 4)
        return json_refuse(at, e, WATT_ENOTSUP, "%" PRIu64 " bits, only 4 are read", bits);
    if (group == 0 || group % 32 == (group > 0 ? 1 : 0) || (group > 0 && group % 32 != 0))
        return json_refuse(at, e, WATT_ENOTSUP, "group_size is %" PRId64 ", expected a multiple of "
                           "32", group);
    if (by_importance)
        return json_refuse(at, e, WATT_ENOTSUP, "desc_act is true: inputs in another order are not "
                           "read");
    if (h->quant.method == HF_QUANT_AWQ && format[0] && strcmp(format, "gemm") != 0 &&
        strcmp(format, "GEMM") != 0)
        return json_refuse(at, e, WATT_ENOTSUP, "version is '%.20s', known is gemm", format);
    h->quant.group = group > 0 ? (uint32_t)group : 0;
    h->quant.zero_offset = strcmp(format, "gptq_v2") == 0 ? 0 : 1;
    return 0;
}

static int read_fp8(struct hf *h, const struct json_place *at, struct err *e)
{
    struct json_place block, item;
    uint64_t v;
    size_t n;
    int rc = json_find(at, "weight_block_size", &block, e);

    h->quant.block[0] = h->quant.block[1] = 128;
    if (rc < 0 || !block.value)
        return rc;
    rc = json_read_array(&block, 2, &n, e);
    if (rc == 0 && n != 2)
        rc = json_refuse(&block, e, WATT_EFORMAT, "%zu numbers, expected 2", n);
    for (size_t i = 0; rc == 0 && i < 2; i++) {
        item = json_item(&block, i);
        rc = json_read_u64(&item, 1, 1 << 20, &v, e);
        if (rc == 0)
            h->quant.block[i] = (uint32_t)v;
    }
    return rc;
}

int hf_quant_read(struct hf *h, struct err *e)
{
    struct json_place at;
    const char *method;
    int rc = hf_field(h, "quantization_config", &at, e);

    if (rc < 0 || !at.value)
        return rc;
    rc = json_get_cstr(&at, "quant_method", "", &method, e);
    if (rc < 0)
        return rc;
    if (strcmp(method, "fp8") == 0) {
        h->quant.method = HF_QUANT_FP8;
        return read_fp8(h, &at, e);
    }
    if (strcmp(method, "compressed-tensors") == 0) {
        const char *format;

        h->quant.method = HF_QUANT_COMPRESSED;
        rc = json_get_cstr(&at, "format", "float-quantized", &format, e);
        if (rc == 0 && strcmp(format, "float-quantized") != 0 && strcmp(format, "dense") != 0 &&
            strcmp(format, "naive-quantized") != 0)
            rc = json_refuse(&at, e, WATT_ENOTSUP, "format is '%.40s', known are float-quantized "
                             "and naive-quantized", format);
        return rc;
    }
    if (strcmp(method, "mxfp4") == 0) {
        h->quant.method = HF_QUANT_MXFP4;
        return 0;
    }
    if (strcmp(method, "gptq") == 0 || strcmp(method, "awq") == 0) {
        h->quant.method = method[0] == 'g' ? HF_QUANT_GPTQ : HF_QUANT_AWQ;
        return read_4bit(h, &at, e);
    }
    return json_refuse(&at, e, WATT_ENOTSUP, "quant_method is '%.40s', known are fp8, "
                       "compressed-tensors, mxfp4, gptq, awq", method);
}

/* ---- what a tensor is ---- */

static int refuse(const struct hf *h, const struct safetensors_tensor *t, struct err *e, int code,
                  const char *what)
{
    char shown[NAME_SHOWN];

    return err_set(e, code, "%s: tensor '%s' (%s): %s", safetensors_path(h->st, t->shard),
                   name_show(shown, t->name), safetensors_type_name(t->type), what);
}

/* The tensor called name[0..n) plus suffix; NULL: none. */
static const struct safetensors_tensor *sibling(const struct hf *h, struct sv name, size_t n,
                                                const char *suffix)
{
    char full[SAFETENSORS_MAX_NAME_BYTES + 32];

    (void)snprintf(full, sizeof full, "%.*s%s", (int)n, name.data, suffix);
    return safetensors_find(h->st, full);
}

static bool ends(struct sv name, const char *suffix)
{
    return sv_ends(name, sv_cstr(suffix));
}

/* Scales, zero points and the like, which are read with the tensor they belong to. */
static bool is_companion(const struct hf *h, struct sv name)
{
    static const struct { const char *suffix, *of[2]; } kinds[] = {
        { "_scale_inv", { "", NULL } }, { "_scale", { "", NULL } },
        { ".input_scale", { ".weight", ".weight" } }, { ".output_scale", { ".weight", NULL } },
        { "_scales", { "_blocks", NULL } }, { ".scales", { ".qweight", NULL } },
        { ".qzeros", { ".qweight", NULL } }, { ".g_idx", { ".qweight", NULL } },
        { ".k_scale", { ".weight", NULL } }, { ".v_scale", { ".weight", NULL } },
    };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const size_t n = strlen(kinds[i].suffix);

        if (ends(name, kinds[i].suffix) && sibling(h, name, name.len - n, kinds[i].of[0]))
            return true;
    }
    return false;
}

static bool is_float(const struct safetensors_tensor *t)
{
    return t->type == SAFETENSORS_F32 || t->type == SAFETENSORS_F16 || t->type == SAFETENSORS_BF16;
}

static int take_shape(const struct hf *h, const struct safetensors_tensor *t, struct hf_source *s,
                      struct err *e)
{
    int n = 0;

    for (int i = 0; i < t->n_dims; i++) {
        if (t->shape[i] <= 0 || t->shape[i] > MAX_EXTENT)
            return refuse(h, t, e, WATT_EFORMAT, "an extent is 0 or too big");
        if (n == TENSOR_MAX_DIMS)
            return refuse(h, t, e, WATT_EFORMAT, "more than 4 extents");
        s->shape[n++] = t->shape[i];
    }
    if (n == 0)
        s->shape[n++] = 1;
    s->n_dims = n;
    return 0;
}

/* Rows and columns of one matrix, and how many there are. */
static void extents(const struct hf_source *s, int64_t *n, int64_t *rows, int64_t *cols)
{
    *cols = s->shape[s->n_dims - 1];
    *rows = s->n_dims > 1 ? s->shape[s->n_dims - 2] : 1;
    *n = 1;
    for (int i = 0; i + 2 < s->n_dims; i++)
        *n *= s->shape[i];
}

static int fp8(const struct hf *h, struct hf_source *s, struct err *e)
{
    const struct safetensors_tensor *t = s->t;
    int64_t n, rows, cols, scales = 1;

    s->store = HF_FP8;
    s->dtype = DTYPE_BF16;
    s->scale = sibling(h, t->name, t->name.len, "_scale_inv");
    if (!s->scale)
        s->scale = sibling(h, t->name, t->name.len, "_scale");
    if (!s->scale)
        return refuse(h, t, e, WATT_EFORMAT, "its scale is missing, expected NAME_scale_inv or "
                      "NAME_scale");
    if (!is_float(s->scale))
        return refuse(h, s->scale, e, WATT_EFORMAT, "expected F32, F16 or BF16");
    for (int i = 0; i < s->scale->n_dims; i++)
        if (s->scale->shape[i] <= 0 || !((scales *= s->scale->shape[i]) < MAX_EXTENT))
            return refuse(h, s->scale, e, WATT_EFORMAT, "an extent is 0 or too big");
    extents(s, &n, &rows, &cols);
    if (scales == 1) {
        s->block[0] = rows * n;
        s->block[1] = cols;
    } else if (scales == n * rows) {
        s->block[0] = 1;
        s->block[1] = cols;
    } else {
        s->block[0] = h->quant.block[0] ? h->quant.block[0] : 128;
        s->block[1] = h->quant.block[1] ? h->quant.block[1] : 128;
        if (scales != n * ((rows + s->block[0] - 1) / s->block[0]) *
                          ((cols + s->block[1] - 1) / s->block[1]))
            return refuse(h, s->scale, e, WATT_EFORMAT, "its shape does not fit the weight: one "
                          "scale for all, for each row or for each block expected");
    }
    return 0;
}

static int mxfp4(const struct hf *h, struct hf_source *s, struct err *e)
{
    const struct safetensors_tensor *t = s->t;

    s->store = HF_MXFP4;
    s->dtype = DTYPE_MXFP4;
    s->scale = sibling(h, t->name, t->name.len - strlen("_blocks"), "_scales");
    if (!s->scale || s->scale->type != SAFETENSORS_U8)
        return refuse(h, t, e, WATT_EFORMAT, "its scales are missing or not U8");
    if (t->n_dims != 4 || t->shape[3] != 16 || s->scale->n_dims != 3 ||
        memcmp(t->shape, s->scale->shape, 3 * sizeof t->shape[0]) != 0)
        return refuse(h, t, e, WATT_EFORMAT, "expected blocks [experts, rows, n, 16] beside scales "
                      "[experts, rows, n]");
    s->n_dims = 3;
    s->shape[2] *= 32;
    return 0;
}

static uint32_t nibble(const uint8_t *words, int64_t word, unsigned at)
{
    return load_le32(words + 4 * word) >> (4 * at) & 15;
}

/* Where AWQ puts output 0, 1, … of eight within a word. */
static const uint8_t awq_at[8] = { 0, 4, 1, 5, 2, 6, 3, 7 };

static uint32_t zero_point(const struct hf_source *s, int64_t group, int64_t out, uint32_t offset)
{
    const int64_t words = s->shape[0] / 8;
    const unsigned at = s->store == HF_AWQ ? awq_at[out % 8] : (unsigned)(out % 8);

    return nibble(s->zeros->data, group * words + out / 8, at) + offset;
}

static int check_order(const struct hf *h, const struct hf_source *s, size_t stem, struct err *e)
{
    const struct safetensors_tensor *order = sibling(h, s->t->name, stem, ".g_idx");

    if (!order)
        return 0;
    if (order->type != SAFETENSORS_I32 || order->n_dims != 1 || order->shape[0] != s->shape[1])
        return refuse(h, order, e, WATT_EFORMAT, "expected an I32 for each input");
    for (int64_t i = 0; i < order->shape[0]; i++)
        if (load_le32(order->data + 4 * i) != (uint32_t)(i / s->group))
            return refuse(h, order, e, WATT_ENOTSUP, "inputs are in another order, which is not "
                          "read");
    return 0;
}

/* X.qweight with X.scales and X.qzeros. */
static int packed4(const struct hf *h, struct hf_source *s, struct err *e)
{
    const struct safetensors_tensor *t = s->t;
    const size_t stem = t->name.len - strlen(".qweight");
    const bool awq = h->quant.method == HF_QUANT_AWQ;
    int64_t groups;

    s->store = awq ? HF_AWQ : HF_GPTQ;
    s->scale = sibling(h, t->name, stem, ".scales");
    s->zeros = sibling(h, t->name, stem, ".qzeros");
    if (h->quant.method != HF_QUANT_GPTQ && !awq)
        return refuse(h, t, e, WATT_EFORMAT, "packed weights, but config.json has no "
                      "quantization_config of gptq or awq");
    if (t->type != SAFETENSORS_I32 || t->n_dims != 2 || !s->scale || !s->zeros ||
        s->zeros->type != SAFETENSORS_I32 || !is_float(s->scale))
        return refuse(h, t, e, WATT_EFORMAT, "expected I32 [.., ..] with I32 .qzeros and .scales");
    s->n_dims = 2;
    s->shape[0] = awq ? t->shape[1] * 8 : t->shape[1];      /* outputs */
    s->shape[1] = awq ? t->shape[0] : t->shape[0] * 8;      /* inputs */
    s->group = h->quant.group ? h->quant.group : (uint32_t)s->shape[1];
    if (s->shape[1] % 32 != 0 || s->shape[0] % 8 != 0 || s->shape[1] > INT32_MAX)
        return refuse(h, t, e, WATT_ENOTSUP, "inputs must be a multiple of 32, outputs of 8");
    groups = (s->shape[1] + s->group - 1) / s->group;
    if (s->scale->n_dims != 2 || s->scale->shape[0] != groups ||
        s->scale->shape[1] != s->shape[0] || s->zeros->n_dims != 2 ||
        s->zeros->shape[0] != groups || s->zeros->shape[1] != s->shape[0] / 8)
        return refuse(h, t, e, WATT_EFORMAT, "scales or zero points have another shape than its "
                      "groups");
    s->symmetric = true;
    s->zero_offset = awq ? 0 : h->quant.zero_offset;
    for (int64_t g = 0; g < groups && s->symmetric; g++)
        for (int64_t o = 0; o < s->shape[0] && s->symmetric; o++)
            s->symmetric = zero_point(s, g, o, s->zero_offset) == 8;
    s->dtype = s->symmetric ? DTYPE_Q4_0 : DTYPE_Q4_1;
    return check_order(h, s, stem, e);
}

int hf_source(const struct hf *h, const struct safetensors_tensor *t, struct hf_source *s,
              struct str *logical_name, bool *companion, struct err *e)
{
    int rc;

    *s = (struct hf_source){ .t = t };
    str_reset(logical_name);
    *companion = is_companion(h, t->name);
    if (*companion)
        return 0;
    str_append(logical_name, t->name.data, t->name.len);
    rc = take_shape(h, t, s, e);
    if (rc < 0)
        return rc;
    if (ends(t->name, ".qweight")) {
        logical_name->len -= strlen(".qweight");
        str_puts(logical_name, ".weight");
        rc = packed4(h, s, e);
    } else if (ends(t->name, "_blocks") && t->type == SAFETENSORS_U8) {
        rc = mxfp4(h, s, e);
    } else if (t->type == SAFETENSORS_F8_E4M3 || t->type == SAFETENSORS_F8_E5M2) {
        rc = fp8(h, s, e);
    } else if (!safetensors_dtype(t->type, &s->dtype)) {
        s->dtype = DTYPE_COUNT;     /* an error where a family uses it */
    }
    if (rc == 0 && !str_ok(logical_name))
        rc = err_set(e, WATT_ENOMEM, "%s: out of memory", h->dir);
    return rc;
}

/* ---- numbers ---- */

/* OCP 8-bit floating point (arXiv 2209.05433): E4M3 has no infinities, 7F is NaN. */
static float e4m3(uint8_t v)
{
    const unsigned exponent = v >> 3 & 15, fraction = v & 7;
    float f;

    if ((v & 0x7F) == 0x7F)
        return NAN;
    f = exponent ? ldexpf(1 + (float)fraction / 8, (int)exponent - 7) : ldexpf((float)fraction, -9);
    return v & 0x80 ? -f : f;
}

static float number(const struct safetensors_tensor *t, int64_t i)
{
    if (t->type == SAFETENSORS_F32)
        return load_le_f32(t->data + 4 * i);
    return t->type == SAFETENSORS_F16 ? f16_to_f32(load_le16(t->data + 2 * i))
                                      : bf16_to_f32(load_le16(t->data + 2 * i));
}

static float fp8_scale(const struct hf_source *s, int64_t row, int64_t col)
{
    int64_t n, rows, cols, down, across;

    extents(s, &n, &rows, &cols);
    if (s->block[0] == rows * n && s->block[1] == cols)
        return number(s->scale, 0);
    if (s->block[1] == cols && s->block[0] == 1)
        return number(s->scale, row);
    down = (rows + s->block[0] - 1) / s->block[0];
    across = (cols + s->block[1] - 1) / s->block[1];
    return number(s->scale, (row / rows * down + row % rows / s->block[0]) * across +
                                col / s->block[1]);
}

static void read_fp8_row(const struct hf_source *s, int64_t row, int64_t col, int64_t n,
                         float *out)
{
    const int64_t cols = s->shape[s->n_dims - 1];
    const uint8_t *in = s->t->data + row * cols + col;

    for (int64_t i = 0; i < n;) {
        const int64_t end = ((col + i) / s->block[1] + 1) * s->block[1] - col;
        const float scale = fp8_scale(s, row, col + i);

        for (; i < n && i < end; i++)
            out[i] = scale * (s->t->type == SAFETENSORS_F8_E4M3
                                  ? e4m3(in[i]) : f16_to_f32((uint16_t)(in[i] << 8)));
    }
}

void hf_source_read(const struct hf_source *s, int64_t row, int64_t col, int64_t n, float *out)
{
    const struct dtype_info *info = dtype_info((uint32_t)s->dtype);
    const int64_t cols = s->shape[s->n_dims - 1];

    CHECK(s->store == HF_PLAIN || s->store == HF_FP8);
    if (s->store == HF_FP8)
        read_fp8_row(s, row, col, n, out);
    else if (s->dtype == DTYPE_F32 || s->dtype == DTYPE_F16 || s->dtype == DTYPE_BF16)
        for (int64_t i = 0; i < n; i++)
            out[i] = number(s->t, row * cols + col + i);
    else
        info->dequant(out, s->t->data + (row * cols + col) * info->block_bytes, (size_t)n);
}

/* ---- blocks ---- */

/* Element 2i of 32 in the low half of byte i becomes element i of 16 there. */
static void mxfp4_row(const struct hf_source *s, int64_t row, uint8_t *out)
{
    const int64_t n = s->shape[2] / 32;
    const uint8_t *in = s->t->data + row * n * 16, *scale = s->scale->data + row * n;

    for (int64_t b = 0; b < n; b++, in += 16, out += 17) {
        out[0] = scale[b];
        for (unsigned i = 0; i < 16; i++) {
            const unsigned low = in[i / 2] >> (i % 2 * 4) & 15;
            const unsigned high = in[8 + i / 2] >> (i % 2 * 4) & 15;

            out[1 + i] = (uint8_t)(low | high << 4);
        }
    }
}

static unsigned weight4(const struct hf_source *s, int64_t in, int64_t out)
{
    if (s->store == HF_AWQ)
        return nibble(s->t->data, in * (s->shape[0] / 8) + out / 8, awq_at[out % 8]);
    return nibble(s->t->data, in / 8 * s->shape[0] + out, (unsigned)(in % 8));
}

static void packed4_row(const struct hf_source *s, int64_t row, uint8_t *out)
{
    for (int64_t in = 0; in < s->shape[1]; in += 32) {
        const int64_t group = in / s->group;
        const float d = number(s->scale, group * s->shape[0] + row);

        store_le16(out, f32_to_f16(d));
        out += 2;
        if (!s->symmetric) {
            const float zero = (float)zero_point(s, group, row, s->zero_offset);

            store_le16(out, f32_to_f16(-d * zero));
            out += 2;
        }
        for (int64_t i = 0; i < 16; i++)
            *out++ = (uint8_t)(weight4(s, in + i, row) | weight4(s, in + 16 + i, row) << 4);
    }
}

void hf_source_blocks(const struct hf_source *s, int64_t row, void *out)
{
    if (s->store == HF_MXFP4)
        mxfp4_row(s, row, out);
    else
        packed4_row(s, row, out);
}
