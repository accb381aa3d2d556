/* gguf_get.c: facts of an open GGUF file and typed reads of its keys; see gguf.h.
 * Everything here lies inside the file already: gguf_open checked it. */
#include "models/gguf.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>

#include "base/bytes.h"
#include "models/gguf_priv.h"

static const struct {
    const char *name;
    unsigned    bytes;
} types[] = {
    [GGUF_U8] = { "u8", 1 },     [GGUF_I8] = { "i8", 1 },         [GGUF_U16] = { "u16", 2 },
    [GGUF_I16] = { "i16", 2 },   [GGUF_U32] = { "u32", 4 },       [GGUF_I32] = { "i32", 4 },
    [GGUF_F32] = { "f32", 4 },   [GGUF_BOOL] = { "bool", 1 },     [GGUF_STRING] = { "string", 0 },
    [GGUF_ARRAY] = { "array", 0 }, [GGUF_U64] = { "u64", 8 },     [GGUF_I64] = { "i64", 8 },
    [GGUF_F64] = { "f64", 8 },
};

const char *gguf_type_name(uint32_t type)
{
    return type < sizeof types / sizeof types[0] ? types[type].name : "?";
}

unsigned gguf_type_bytes(uint32_t type)
{
    return type < sizeof types / sizeof types[0] ? types[type].bytes : 0;
}

const char *gguf_path(const struct gguf *g)
{
    return g->parts[0].path;
}

uint32_t gguf_version(const struct gguf *g)
{
    return g->version;
}

uint64_t gguf_file_bytes(const struct gguf *g)
{
    return g->file_bytes;
}

uint32_t gguf_n_parts(const struct gguf *g)
{
    return g->n_parts;
}

int gguf_part_fd(const struct gguf *g, uint32_t part)
{
    CHECK(part < g->n_parts);
    return g->parts[part].map.fd;
}

size_t gguf_n_kv(const struct gguf *g)
{
    return g->n_kv;
}

const struct gguf_kv *gguf_kv_at(const struct gguf *g, size_t i)
{
    CHECK(i < g->n_kv);
    return &g->kv[i];
}

size_t gguf_n_tensors(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i)
{
    CHECK(i < g->n_tensors);
    return &g->tensors[i];
}

/* ---- elements ---- */

/* An integer is a sign and a magnitude, so that u64 keeps its upper half. */
static bool elem_int(const struct gguf_kv *kv, uint64_t i, bool *negative, uint64_t *magnitude)
{
    int64_t v;

    if (i >= kv->n)
        return false;
    switch (kv->type) {
    case GGUF_U8:
    case GGUF_BOOL:
        v = kv->data[i];
        break;
    case GGUF_I8:
        v = (int8_t)kv->data[i];
        break;
    case GGUF_U16:
        v = load_le16(kv->data + 2 * i);
        break;
    case GGUF_I16:
        v = (int16_t)load_le16(kv->data + 2 * i);
        break;
    case GGUF_U32:
        v = load_le32(kv->data + 4 * i);
        break;
    case GGUF_I32:
        v = (int32_t)load_le32(kv->data + 4 * i);
        break;
    case GGUF_I64:
        v = (int64_t)load_le64(kv->data + 8 * i);
        break;
    case GGUF_U64:
        *negative = false;
        *magnitude = load_le64(kv->data + 8 * i);
        return true;
    default:
        return false;
    }
    *negative = v < 0;
    *magnitude = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    return true;
}

bool gguf_elem_i64(const struct gguf_kv *kv, uint64_t i, int64_t *out)
{
    uint64_t magnitude;
    bool negative;

    if (!elem_int(kv, i, &negative, &magnitude) || (!negative && magnitude > INT64_MAX))
        return false;
    *out = (int64_t)(negative ? 0 - magnitude : magnitude);
    return true;
}

bool gguf_elem_f64(const struct gguf_kv *kv, uint64_t i, double *out)
{
    uint64_t magnitude;
    bool negative;

    if (i >= kv->n)
        return false;
    if (kv->type == GGUF_F32) {
        *out = (double)load_le_f32(kv->data + 4 * i);
    } else if (kv->type == GGUF_F64) {
        *out = load_le_f64(kv->data + 8 * i);
    } else if (elem_int(kv, i, &negative, &magnitude)) {
        if (magnitude > (uint64_t)1 << 53)      /* a double would round it */
            return false;
        *out = negative ? -(double)magnitude : (double)magnitude;
    } else {
        return false;
    }
    return true;
}

bool gguf_elem_str(const struct gguf *g, const struct gguf_kv *kv, uint64_t i, struct sv *out)
{
    const uint8_t *p = kv->data;

    (void)g;
    if (kv->type != GGUF_STRING || i >= kv->n)
        return false;
    if (kv->is_array)
        p += kv->str_at[i];
    *out = (struct sv){ (const char *)p + 8, (size_t)load_le64(p) };
    return true;
}

/* ---- by key ---- */

/* The scalar of a key; a missing key or an array sets e. */
static int scalar(const struct gguf *g, const char *key, const char *expected,
                  const struct gguf_kv **out, struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, key);

    if (!kv)
        return err_set(e, WATT_ENOENT, "%s: key '%s' is missing, expected %s", gguf_path(g), key,
                       expected);
    if (kv->is_array)
        return err_set(e, WATT_EFORMAT,
                       "%s: key '%s' is an array of %" PRIu64 " %s, expected %s", gguf_path(g), key,
                       kv->n, gguf_type_name(kv->type), expected);
    *out = kv;
    return 0;
}

static int wrong_value(const struct gguf *g, const struct gguf_kv *kv, const char *key,
                       const char *expected, struct err *e)
{
    char shown[NAME_SHOWN], number[40];
    const char *value = number;
    uint64_t magnitude;
    bool negative;
    double d;
    struct sv s;

    if (elem_int(kv, 0, &negative, &magnitude)) {
        (void)snprintf(number, sizeof number, "%s%" PRIu64, negative ? "-" : "", magnitude);
    } else if (gguf_elem_f64(kv, 0, &d)) {
        (void)snprintf(number, sizeof number, "%g", d);
    } else {
        (void)gguf_elem_str(g, kv, 0, &s);
        value = name_show(shown, s);
    }
    return err_set(e, WATT_EFORMAT, "%s: key '%s' is the %s '%s', expected %s", gguf_path(g), key,
                   gguf_type_name(kv->type), value, expected);
}

static int get_unsigned(const struct gguf *g, const char *key, uint64_t max, const char *expected,
                        uint64_t *out, struct err *e)
{
    const struct gguf_kv *kv;
    bool negative;
    uint64_t v;
    int rc = scalar(g, key, expected, &kv, e);

    if (rc < 0)
        return rc;
    if (!elem_int(kv, 0, &negative, &v) || negative || v > max)
        return wrong_value(g, kv, key, expected, e);
    *out = v;
    return 0;
}

int gguf_get_u32(const struct gguf *g, const char *key, uint32_t *out, struct err *e)
{
    uint64_t v = 0;
    int rc = get_unsigned(g, key, UINT32_MAX, "an integer of 0 to 2^32-1", &v, e);

    if (rc == 0)
        *out = (uint32_t)v;
    return rc;
}

int gguf_get_u64(const struct gguf *g, const char *key, uint64_t *out, struct err *e)
{
    return get_unsigned(g, key, UINT64_MAX, "an integer of 0 to 2^64-1", out, e);
}

int gguf_get_bool(const struct gguf *g, const char *key, bool *out, struct err *e)
{
    uint64_t v = 0;
    int rc = get_unsigned(g, key, 1, "true or false", &v, e);

    if (rc == 0)
        *out = v != 0;
    return rc;
}

int gguf_get_f32(const struct gguf *g, const char *key, float *out, struct err *e)
{
    static const char expected[] = "a number in the range of f32";
    const struct gguf_kv *kv;
    double d;
    int rc = scalar(g, key, expected, &kv, e);

    if (rc < 0)
        return rc;
    if (!gguf_elem_f64(kv, 0, &d) || (isfinite(d) && fabs(d) > (double)FLT_MAX))
        return wrong_value(g, kv, key, expected, e);
    *out = (float)d;
    return 0;
}

int gguf_get_str(const struct gguf *g, const char *key, struct sv *out, struct err *e)
{
    const struct gguf_kv *kv;
    int rc = scalar(g, key, "a string", &kv, e);

    if (rc < 0)
        return rc;
    if (!gguf_elem_str(g, kv, 0, out))
        return wrong_value(g, kv, key, "a string", e);
    return 0;
}
