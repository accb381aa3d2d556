/* gguf_read.c: opens GGUF files and checks everything in their headers; see
 * gguf.h. Typed access to keys is in gguf_get.c.
 *
 * A cursor walks the header; every step asks need() whether the bytes are there.
 * Arrays are allocated only after their count was compared with the bytes left,
 * so memory is bounded by a small multiple of the file's size. */
#include "models/gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "models/gguf_priv.h"

/* The least bytes that a key with its value, and a tensor's description, take. */
#define MIN_KV_BYTES     (8 + 1 + 4 + 1)
#define MIN_TENSOR_BYTES (8 + 1 + 4 + 8 + 4 + 8)

struct cursor {
    const uint8_t *data;
    size_t         size, at;
    struct err    *e;
};

static bool need(struct cursor *c, uint64_t n, const char *what)
{
    if (n <= c->size - c->at)
        return true;
    (void)err_set(c->e, WATT_EFORMAT,
                  "%s at byte %zu takes %" PRIu64 " bytes, the file ends after %zu", what, c->at,
                  n, c->size - c->at);
    return false;
}

static int take_u32(struct cursor *c, const char *what, uint32_t *out)
{
    if (!need(c, 4, what))
        return WATT_EFORMAT;
    *out = load_le32(c->data + c->at);
    c->at += 4;
    return 0;
}

static int take_u64(struct cursor *c, const char *what, uint64_t *out)
{
    if (!need(c, 8, what))
        return WATT_EFORMAT;
    *out = load_le64(c->data + c->at);
    c->at += 8;
    return 0;
}

static int take_str(struct cursor *c, const char *what, struct sv *out)
{
    uint64_t len;
    int rc = take_u64(c, what, &len);

    if (rc < 0)
        return rc;
    if (!need(c, len, what))
        return WATT_EFORMAT;
    *out = (struct sv){ (const char *)c->data + c->at, (size_t)len };
    c->at += (size_t)len;
    return 0;
}

/* ---- keys ---- */

/* Finds where each of n strings starts; leaves the cursor after the last. */
static int index_strings(struct cursor *c, struct gguf_kv *kv)
{
    const size_t start = c->at;
    uint32_t *at;

    if (!need(c, kv->n * 8, "its array of strings"))    /* n <= GGUF_MAX_ARRAY */
        return WATT_EFORMAT;
    at = mem_array((size_t)kv->n, sizeof *at);
    if (!at)
        return err_set(c->e, WATT_ENOMEM, "out of memory for its %" PRIu64 " strings", kv->n);
    kv->str_at = at;
    for (uint64_t i = 0; i < kv->n; i++) {
        struct sv s;

        if (c->at - start > GGUF_MAX_STRS_BYTES)
            return err_set(c->e, WATT_ELIMIT, "its strings take more than %u bytes",
                           GGUF_MAX_STRS_BYTES);
        at[i] = (uint32_t)(c->at - start);
        if (take_str(c, "a string of its array", &s) < 0) {
            (void)err_prefix(c->e, "element %" PRIu64 " of %" PRIu64, i, kv->n);
            return WATT_EFORMAT;
        }
    }
    return 0;
}

static int check_bools(struct cursor *c, const struct gguf_kv *kv)
{
    for (uint64_t i = 0; i < kv->n; i++) {
        if (kv->data[i] > 1)
            return err_set(c->e, WATT_EFORMAT, "bool %" PRIu64 " has the value %u, expected 0 or 1",
                           i, kv->data[i]);
    }
    return 0;
}

static int take_values(struct cursor *c, struct gguf_kv *kv)
{
    const unsigned bytes = gguf_type_bytes(kv->type);
    struct sv s;
    int rc = 0;

    kv->data = c->data + c->at;
    if (kv->type == GGUF_STRING && !kv->is_array) {
        rc = take_str(c, "its string", &s);
    } else if (kv->type == GGUF_STRING) {
        rc = index_strings(c, kv);
    } else {
        if (!need(c, kv->n * bytes, kv->is_array ? "its array" : "its value"))
            return WATT_EFORMAT;
        c->at += (size_t)kv->n * bytes;
    }
    kv->size_bytes = (uint64_t)(c->data + c->at - kv->data);
    return rc == 0 && kv->type == GGUF_BOOL ? check_bools(c, kv) : rc;
}

static int take_array_head(struct cursor *c, struct gguf_kv *kv, uint32_t *type)
{
    int rc = take_u32(c, "its element type", type);

    if (rc == 0)
        rc = take_u64(c, "its number of elements", &kv->n);
    if (rc < 0)
        return rc;
    kv->is_array = true;
    if (*type == GGUF_ARRAY)
        return err_set(c->e, WATT_ENOTSUP, "is an array of arrays, which GGUF models don't use");
    if (kv->n > GGUF_MAX_ARRAY)
        return err_set(c->e, WATT_ELIMIT, "has %" PRIu64 " elements, at most %u are read", kv->n,
                       GGUF_MAX_ARRAY);
    return 0;
}

static int take_kv_value(struct cursor *c, struct gguf_kv *kv)
{
    uint32_t type;
    int rc = take_u32(c, "its type", &type);

    if (rc < 0)
        return rc;
    kv->n = 1;
    if (type == GGUF_ARRAY && (rc = take_array_head(c, kv, &type)) < 0)
        return rc;
    if (type > GGUF_F64)
        return err_set(c->e, WATT_EFORMAT, "has type %" PRIu32 ", known are 0 to %d", type,
                       GGUF_F64);
    kv->type = (enum gguf_type)type;
    return take_values(c, kv);
}

static int take_kv(struct cursor *c, struct gguf_kv *kv, uint64_t i, uint64_t n)
{
    char shown[NAME_SHOWN];
    int rc = take_str(c, "its name", &kv->key);

    if (rc == 0 && !name_acceptable(kv->key, GGUF_MAX_KEY_BYTES))
        rc = err_set(c->e, WATT_EFORMAT,
                     "the name '%s' of %zu bytes, expected 1 to %u of UTF-8 without control "
                     "characters", name_show(shown, kv->key), kv->key.len, GGUF_MAX_KEY_BYTES);
    if (rc < 0) {
        (void)err_prefix(c->e, "key %" PRIu64 " of %" PRIu64, i, n);
        return rc;
    }
    rc = take_kv_value(c, kv);
    if (rc < 0)
        (void)err_prefix(c->e, "key '%s'", name_show(shown, kv->key));
    return rc;
}

static struct sv kv_name_at(const void *array, uint32_t i)
{
    return ((const struct gguf_kv *)array)[i].key;
}

static struct sv tensor_name_at(const void *array, uint32_t i)
{
    return ((const struct gguf_tensor *)array)[i].name;
}

/* Keys of one part. Later parts repeat a few; the caller decides what to keep. */
struct keys {
    struct gguf_kv   *kv;
    size_t            n;
    struct name_table names;
};

static void keys_deinit(struct keys *k)
{
    for (size_t i = 0; i < k->n; i++)
        mem_free((void *)(uintptr_t)k->kv[i].str_at);
    mem_free(k->kv);
    name_table_deinit(&k->names);
    *k = (struct keys){ 0 };
}

static int take_keys(struct cursor *c, uint64_t n, struct keys *k)
{
    char shown[NAME_SHOWN];
    int rc;

    if (n > GGUF_MAX_KEYS)
        return err_set(c->e, WATT_ELIMIT, "says it has %" PRIu64 " keys, at most %u are read", n,
                       GGUF_MAX_KEYS);
    if (n > (c->size - c->at) / MIN_KV_BYTES)
        return err_set(c->e, WATT_EFORMAT, "says it has %" PRIu64 " keys, but is only %zu bytes", n,
                       c->size);
    k->kv = mem_calloc((size_t)n, sizeof *k->kv);
    if (!k->kv)
        return err_set(c->e, WATT_ENOMEM, "out of memory for %" PRIu64 " keys", n);
    rc = name_table_init(&k->names, (size_t)n, c->e);
    for (uint64_t i = 0; i < n && rc == 0; i++) {
        k->n++;
        rc = take_kv(c, &k->kv[i], i, n);
        if (rc == 0 && name_table_put(&k->names, (uint32_t)i, kv_name_at, k->kv) != NAME_NONE)
            rc = err_set(c->e, WATT_EFORMAT, "key '%s' appears twice",
                         name_show(shown, k->kv[i].key));
    }
    return rc;
}

/* An integer among the keys of a part; absent leaves *out. */
static int key_u32(const struct keys *k, const char *key, uint32_t *out, struct err *e)
{
    const uint32_t i = name_table_find(&k->names, sv_cstr(key), kv_name_at, k->kv);
    int64_t v;

    if (i == NAME_NONE)
        return 0;
    if (k->kv[i].is_array || !gguf_elem_i64(&k->kv[i], 0, &v) || v < 0 || v > UINT32_MAX)
        return err_set(e, WATT_EFORMAT, "key '%s' is %s%s, expected an integer of 0 to %u", key,
                       k->kv[i].is_array ? "an array of " : "a number out of range of type ",
                       gguf_type_name(k->kv[i].type), UINT32_MAX);
    *out = (uint32_t)v;
    return 0;
}

/* ---- tensors ---- */

/* Fills t->shape, outermost first, from n_dims extents, innermost first. */
static int take_shape(struct cursor *c, struct tensor *t)
{
    uint32_t n_dims;
    int64_t elems = 1;
    int rc = take_u32(c, "its number of dimensions", &n_dims);

    if (rc < 0)
        return rc;
    if (n_dims < 1 || n_dims > TENSOR_MAX_DIMS)
        return err_set(c->e, WATT_EFORMAT, "has %" PRIu32 " dimensions, expected 1 to %d", n_dims,
                       TENSOR_MAX_DIMS);
    t->n_dims = (uint8_t)n_dims;
    for (uint32_t i = 0; i < n_dims; i++) {
        uint64_t extent;

        rc = take_u64(c, "its shape", &extent);
        if (rc < 0)
            return rc;
        if (extent == 0 || extent > INT64_MAX ||
            __builtin_mul_overflow(elems, (int64_t)extent, &elems))
            return err_set(c->e, WATT_EFORMAT,
                           "dimension %" PRIu32 " is %" PRIu64
                           ", expected more than 0 and a product below 2^63", i, extent);
        t->shape[n_dims - 1 - i] = (int64_t)extent;
    }
    return 0;
}

static int check_type(struct cursor *c, uint32_t type, struct tensor *t)
{
    const struct dtype_info *info = dtype_info(type);
    const uint64_t row = (uint64_t)tensor_row(t);
    uint64_t row_bytes;

    if (!info)
        return err_set(c->e, WATT_EFORMAT, "has element type %" PRIu32 ", which is not known", type);
    t->dtype = (enum dtype)type;
    if (row % info->block_elems != 0)
        return err_set(c->e, WATT_EFORMAT,
                       "has rows of %" PRIu64 " elements, %s needs a multiple of %" PRIu32, row,
                       info->name, info->block_elems);
    if (!dtype_row_bytes(type, row, &row_bytes) ||
        !mul_u64(row_bytes, (uint64_t)(tensor_elems(t) / tensor_row(t)), &t->size_bytes))
        return err_set(c->e, WATT_EFORMAT, "its size overflows 64 bits");
    return 0;
}

/* file_offset is left relative to the start of the tensor data. */
static int take_tensor_body(struct cursor *c, struct gguf_tensor *t)
{
    uint32_t type;
    int rc = take_shape(c, &t->t);

    if (rc == 0)
        rc = take_u32(c, "its element type", &type);
    if (rc == 0)
        rc = check_type(c, type, &t->t);
    if (rc == 0)
        rc = take_u64(c, "its offset", &t->file_offset);
    return rc;
}

static int take_tensor(struct cursor *c, struct gguf_tensor *t, uint64_t i, uint64_t n)
{
    char shown[NAME_SHOWN];
    int rc = take_str(c, "its name", &t->name);

    if (rc == 0 && !name_acceptable(t->name, GGUF_MAX_NAME_BYTES))
        rc = err_set(c->e, WATT_EFORMAT,
                     "the name '%s' of %zu bytes, expected 1 to %u of UTF-8 without control "
                     "characters", name_show(shown, t->name), t->name.len, GGUF_MAX_NAME_BYTES);
    if (rc < 0) {
        (void)err_prefix(c->e, "tensor %" PRIu64 " of %" PRIu64, i, n);
        return rc;
    }
    rc = take_tensor_body(c, t);
    if (rc < 0)
        (void)err_prefix(c->e, "tensor '%s'", name_show(shown, t->name));
    return rc;
}

/* Turns relative offsets into places in the file. */
static int place_tensor(struct gguf_tensor *t, const struct gguf_part *p, uint64_t data_start,
                        uint32_t alignment, struct err *e)
{
    const uint64_t offset = t->file_offset;
    char shown[NAME_SHOWN];
    uint64_t start, end;

    if (offset % alignment != 0)
        return err_set(e, WATT_EFORMAT,
                       "tensor '%s': offset %" PRIu64 " is not a multiple of the alignment %" PRIu32,
                       name_show(shown, t->name), offset, alignment);
    if (!add_u64(data_start, offset, &start) || !add_u64(start, t->t.size_bytes, &end) ||
        end > p->size)
        return err_set(e, WATT_EFORMAT,
                       "tensor '%s': %" PRIu64 " bytes at offset %" PRIu64 " of the tensor data "
                       "(which starts at byte %" PRIu64 ") go past the end of the file at %zu",
                       name_show(shown, t->name), t->t.size_bytes, offset, data_start, p->size);
    t->file_offset = start;
    t->t.data = p->data + start;
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const struct gguf_tensor *const *x = a, *const *y = b;

    return ((*x)->file_offset > (*y)->file_offset) - ((*x)->file_offset < (*y)->file_offset);
}

static int overlap_error(const struct gguf_tensor *a, const struct gguf_tensor *b, struct err *e)
{
    char first[NAME_SHOWN], second[NAME_SHOWN];

    return err_set(e, WATT_EFORMAT,
                   "tensor '%s' at byte %" PRIu64 " overlaps tensor '%s' of %" PRIu64
                   " bytes at byte %" PRIu64, name_show(second, b->name), b->file_offset,
                   name_show(first, a->name), a->t.size_bytes, a->file_offset);
}

/* Tensors of one part. Writers lay them out in order, so sorting is the exception. */
static int check_overlaps(const struct gguf_tensor *t, size_t n, struct err *e)
{
    const struct gguf_tensor **order;
    bool sorted = true;
    int rc = 0;

    for (size_t i = 1; i < n && sorted; i++)
        sorted = t[i].file_offset >= t[i - 1].file_offset + t[i - 1].t.size_bytes;
    if (sorted)
        return 0;
    order = mem_array(n, sizeof *order);
    if (!order)
        return err_set(e, WATT_ENOMEM, "out of memory to check %zu tensors", n);
    for (size_t i = 0; i < n; i++)
        order[i] = &t[i];
    qsort(order, n, sizeof *order, by_offset);
    for (size_t i = 1; i < n && rc == 0; i++) {
        if (order[i]->file_offset < order[i - 1]->file_offset + order[i - 1]->t.size_bytes)
            rc = overlap_error(order[i - 1], order[i], e);
    }
    mem_free(order);
    return rc;
}

static int take_tensors(struct gguf *g, uint32_t part, struct cursor *c, uint64_t n,
                        uint32_t alignment)
{
    const struct gguf_part *p = &g->parts[part];
    const size_t first = g->n_tensors;
    struct gguf_tensor *grown;
    uint64_t data_start;
    int rc = 0;

    if (n == 0)
        return 0;
    grown = mem_grow(g->tensors, first + (size_t)n, sizeof *grown);
    if (!grown)
        return err_set(c->e, WATT_ENOMEM, "out of memory for %" PRIu64 " tensors", n);
    g->tensors = grown;
    memset(grown + first, 0, (size_t)n * sizeof *grown);
    for (uint64_t i = 0; i < n && rc == 0; i++) {
        grown[first + i].part = part;
        rc = take_tensor(c, &grown[first + i], i, n);
    }
    data_start = ((uint64_t)c->at + alignment - 1) / alignment * alignment;
    for (uint64_t i = 0; i < n && rc == 0; i++)
        rc = place_tensor(&grown[first + i], p, data_start, alignment, c->e);
    if (rc == 0)
        rc = check_overlaps(grown + first, (size_t)n, c->e);
    g->n_tensors = first + (size_t)n;
    return rc;
}

/* ---- files ---- */

static int check_magic(struct cursor *c, uint32_t *version)
{
    uint32_t magic;
    int rc;

    if (c->size < 4 || memcmp(c->data, "GGUF", 4) != 0) {
        char shown[NAME_SHOWN];
        const struct sv found = { (const char *)c->data, c->size < 4 ? c->size : 4 };

        return err_set(c->e, WATT_EFORMAT, "is no GGUF file: it starts with '%s', expected 'GGUF'",
                       name_show(shown, found));
    }
    (void)take_u32(c, "the magic", &magic);
    rc = take_u32(c, "the version", version);
    if (rc < 0)
        return rc;
    if ((*version & 0xffff) == 0 && *version != 0)
        return err_set(c->e, WATT_ENOTSUP,
                       "is a big-endian GGUF file (version field %08" PRIx32
                       "); only little-endian ones are read", *version);
    if (*version != 2 && *version != 3)
        return err_set(c->e, WATT_ENOTSUP,
                       "is GGUF version %" PRIu32 "; versions 2 and 3 are read", *version);
    return 0;
}

static int check_tensor_count(const struct gguf *g, const struct cursor *c, uint64_t n)
{
    if (n > GGUF_MAX_TENSORS - g->n_tensors)
        return err_set(c->e, WATT_ELIMIT,
                       "says it has %" PRIu64 " tensors, at most %u are read", n, GGUF_MAX_TENSORS);
    if (n > (c->size - c->at) / MIN_TENSOR_BYTES)
        return err_set(c->e, WATT_EFORMAT,
                       "says it has %" PRIu64 " tensors, but is only %zu bytes", n, c->size);
    return 0;
}

static int part_alignment(const struct keys *k, uint32_t *alignment, struct err *e)
{
    int rc;

    *alignment = GGUF_DEFAULT_ALIGNMENT;
    rc = key_u32(k, "general.alignment", alignment, e);
    if (rc < 0)
        return rc;
    if (*alignment < GGUF_MIN_ALIGNMENT || *alignment > GGUF_MAX_ALIGNMENT ||
        (*alignment & (*alignment - 1)) != 0)
        return err_set(e, WATT_EFORMAT,
                       "key 'general.alignment' is %" PRIu32 ", expected a power of two of %u to %u",
                       *alignment, GGUF_MIN_ALIGNMENT, GGUF_MAX_ALIGNMENT);
    return 0;
}

/* Reads the header of a part that is mapped already; k owns its keys. */
static int read_part(struct gguf *g, uint32_t part, struct keys *k, struct err *e)
{
    const struct gguf_part *p = &g->parts[part];
    struct cursor c = { p->data, p->size, 0, e };
    uint64_t n_tensors = 0, n_kv = 0;
    uint32_t version, alignment;
    int rc = check_magic(&c, &version);

    if (rc == 0)
        rc = take_u64(&c, "the number of tensors", &n_tensors);
    if (rc == 0)
        rc = take_u64(&c, "the number of keys", &n_kv);
    if (rc == 0)
        rc = check_tensor_count(g, &c, n_tensors);
    if (rc == 0)
        rc = take_keys(&c, n_kv, k);
    if (rc == 0)
        rc = part_alignment(k, &alignment, e);
    if (rc == 0)
        rc = take_tensors(g, part, &c, n_tensors, alignment);
    if (rc == 0 && part == 0)
        g->version = version;
    if (rc == 0)
        g->file_bytes += p->size;
    return rc;
}

static int map_part(struct gguf_part *p, const char *path, struct err *e)
{
    int rc;

    p->map.fd = -1;
    p->path = mem_strdup(path);
    if (!p->path)
        return err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    rc = file_map_open(&p->map, path, e);
    if (rc < 0)
        return rc;
    p->data = p->map.data;
    p->size = p->map.size;
    return 0;
}

/* "…-00001-of-00003.gguf": the suffix of part `no` (from 0) of `count`. */
static void part_suffix(char buf[40], uint32_t no, uint32_t count)
{
    (void)snprintf(buf, 40, "-%05" PRIu32 "-of-%05" PRIu32 ".gguf", no + 1, count);
}

/* What the keys say about splitting; 0 of 1 for a file that stands alone. */
static int split_facts(const struct keys *k, uint32_t *no, uint32_t *count, uint32_t *n_tensors,
                       struct err *e)
{
    int rc;

    *no = 0;
    *count = 1;
    *n_tensors = UINT32_MAX;
    rc = key_u32(k, "split.no", no, e);
    if (rc == 0)
        rc = key_u32(k, "split.count", count, e);
    if (rc == 0)
        rc = key_u32(k, "split.tensors.count", n_tensors, e);
    if (rc < 0)
        return rc;
    if (*count == 0)    /* writers that don't split may say so */
        *count = 1;
    if (*count > GGUF_MAX_PARTS)
        return err_set(e, WATT_ELIMIT, "key 'split.count' is %" PRIu32 ", at most %u are read",
                       *count, GGUF_MAX_PARTS);
    if (*no >= *count)
        return err_set(e, WATT_EFORMAT, "key 'split.no' is %" PRIu32 " of %" PRIu32 " parts", *no,
                       *count);
    return 0;
}

static int read_later_part(struct gguf *g, uint32_t part, uint32_t n_parts, const char *path,
                           struct err *e)
{
    uint32_t no, count, n_tensors;
    struct keys k = { 0 };
    int rc = map_part(&g->parts[part], path, e);

    if (rc < 0) {
        (void)err_prefix(e, "part %" PRIu32 " of %" PRIu32, part + 1, n_parts);
        return rc;
    }
    rc = read_part(g, part, &k, e);
    if (rc == 0)
        rc = split_facts(&k, &no, &count, &n_tensors, e);
    if (rc == 0 && (no != part || count != n_parts))
        rc = err_set(e, WATT_EFORMAT,
                     "says it is part %" PRIu32 " of %" PRIu32 ", expected part %" PRIu32
                     " of %" PRIu32, no + 1, count, part + 1, n_parts);
    keys_deinit(&k);
    if (rc < 0)
        (void)err_prefix(e, "%s", path);
    return rc;
}

/* Opens parts 1.. of a model whose first part has been read. */
static int read_later_parts(struct gguf *g, uint32_t count, struct err *e)
{
    const char *path = g->parts[0].path;
    char suffix[40];
    struct gguf_part *grown;
    struct str next;
    size_t stem;
    int rc = 0;

    part_suffix(suffix, 0, count);
    if (!sv_ends(sv_cstr(path), sv_cstr(suffix)))
        return err_set(e, WATT_EINVAL,
                       "%s: is the first of %" PRIu32 " parts, so its name should end in '%s'",
                       path, count, suffix);
    stem = strlen(path) - strlen(suffix);
    grown = mem_grow(g->parts, count, sizeof *grown);
    if (!grown)
        return err_set(e, WATT_ENOMEM, "%s: out of memory for %" PRIu32 " parts", path, count);
    g->parts = grown;
    memset(grown + 1, 0, (count - 1) * sizeof *grown);
    path = grown[0].path;
    str_init(&next, 0);
    while (g->n_parts < count && rc == 0) {
        const uint32_t part = g->n_parts++;

        part_suffix(suffix, part, count);
        str_reset(&next);
        str_append(&next, path, stem);
        str_puts(&next, suffix);
        grown[part].map.fd = -1;
        if (!str_ok(&next))
            rc = err_set(e, WATT_ENOMEM, "%s: out of memory", path);
        else
            rc = read_later_part(g, part, count, str_cstr(&next), e);
    }
    str_deinit(&next);
    return rc;
}

static int index_tensors(struct gguf *g, uint32_t expected, struct err *e)
{
    char shown[NAME_SHOWN];
    int rc;

    if (expected != UINT32_MAX && expected != g->n_tensors)
        return err_set(e, WATT_EFORMAT,
                       "key 'split.tensors.count' is %" PRIu32 ", but the parts have %zu tensors",
                       expected, g->n_tensors);
    rc = name_table_init(&g->tensor_names, g->n_tensors, e);
    for (uint32_t i = 0; i < g->n_tensors && rc == 0; i++) {
        if (name_table_put(&g->tensor_names, i, tensor_name_at, g->tensors) != NAME_NONE)
            rc = err_set(e, WATT_EFORMAT, "tensor '%s' appears twice",
                         name_show(shown, g->tensors[i].name));
    }
    return rc;
}

/* g has its first part; reads the rest. */
static int read_model(struct gguf *g, bool from_file, struct err *e)
{
    const char *path = g->parts[0].path;
    uint32_t no = 0, count = 1, expected = UINT32_MAX;
    struct keys k = { 0 };
    int rc;

    rc = read_part(g, 0, &k, e);
    if (rc == 0)
        rc = split_facts(&k, &no, &count, &expected, e);
    g->kv = k.kv;
    g->n_kv = k.n;
    g->kv_names = k.names;
    if (rc == 0 && no != 0)
        rc = err_set(e, WATT_EINVAL,
                     "is part %" PRIu32 " of %" PRIu32 " of a split model; open the first part",
                     no + 1, count);
    if (rc == 0 && count > 1 && !from_file)
        rc = err_set(e, WATT_ENOTSUP, "is the first of %" PRIu32 " parts; a split model is "
                     "opened from its files", count);
    if (rc < 0) {
        (void)err_prefix(e, "%s", path);
        return rc;
    }
    if (count > 1 && (rc = read_later_parts(g, count, e)) < 0)
        return rc;
    rc = index_tensors(g, count > 1 ? expected : UINT32_MAX, e);
    if (rc < 0)
        (void)err_prefix(e, "%s", path);
    return rc;
}

static int model_alloc(struct gguf **out, const char *name, struct err *e)
{
    struct gguf *g = mem_calloc(1, sizeof *g);

    if (g)
        g->parts = mem_calloc(1, sizeof *g->parts);
    if (!g || !g->parts) {
        mem_free(g);
        return err_set(e, WATT_ENOMEM, "%s: out of memory", name);
    }
    g->n_parts = 1;
    g->parts[0].map.fd = -1;
    *out = g;
    return 0;
}

int gguf_open(struct gguf **out, const char *path, struct err *e)
{
    struct gguf *g;
    int rc = model_alloc(&g, path, e);

    if (rc < 0)
        return rc;
    rc = map_part(&g->parts[0], path, e);
    if (rc == 0)
        rc = read_model(g, true, e);
    if (rc < 0) {
        gguf_close(g);
        return rc;
    }
    *out = g;
    return 0;
}

int gguf_open_memory(struct gguf **out, const void *data, size_t size, const char *name,
                     struct err *e)
{
    struct gguf *g;
    int rc;

    if ((uintptr_t)data % GGUF_MIN_ALIGNMENT != 0)
        return err_set(e, WATT_EINVAL, "%s: the memory is not aligned to %u bytes", name,
                       GGUF_MIN_ALIGNMENT);
    rc = model_alloc(&g, name, e);
    if (rc < 0)
        return rc;
    g->parts[0].data = data;
    g->parts[0].size = size;
    g->parts[0].path = mem_strdup(name);
    if (!g->parts[0].path)
        rc = err_set(e, WATT_ENOMEM, "%s: out of memory", name);
    else
        rc = read_model(g, false, e);
    if (rc < 0) {
        gguf_close(g);
        return rc;
    }
    *out = g;
    return 0;
}

/* What gguf_make.c allocated for each key and tensor. */
static void free_made(struct gguf *g)
{
    for (size_t i = 0; i < g->n_kv; i++) {
        mem_free((void *)(uintptr_t)g->kv[i].key.data);
        mem_free((void *)(uintptr_t)g->kv[i].data);
    }
    for (size_t i = 0; i < g->n_tensors; i++)
        mem_free((void *)(uintptr_t)g->tensors[i].name.data);
}

void gguf_close(struct gguf *g)
{
    struct keys k;

    if (!g)
        return;
    if (g->made)
        free_made(g);
    k = (struct keys){ g->kv, g->n_kv, g->kv_names };
    keys_deinit(&k);
    name_table_deinit(&g->tensor_names);
    for (uint32_t i = 0; i < g->n_parts; i++) {
        if (!g->made)
            file_map_close(&g->parts[i].map);
        mem_free(g->parts[i].path);
    }
    if (g->release)
        g->release(g->owner);
    mem_free(g->parts);
    mem_free(g->tensors);
    mem_free(g);
}

/* ---- lookups ---- */

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
    const uint32_t i = name_table_find(&g->kv_names, sv_cstr(key), kv_name_at, g->kv);

    return i == NAME_NONE ? NULL : &g->kv[i];
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name)
{
    const uint32_t i = name_table_find(&g->tensor_names, sv_cstr(name), tensor_name_at, g->tensors);

    return i == NAME_NONE ? NULL : &g->tensors[i];
}

void gguf_forget(const struct gguf *g, const void *data, size_t size)
{
    const uint8_t *p = data;

    for (uint32_t i = 0; i < g->n_parts; i++) {
        const struct file_map *m = &g->parts[i].map;

        if (m->data && p >= m->data && p < m->data + m->size)
            file_map_forget(m, (size_t)(p - m->data), size);
    }
}
