/* gguf_write.c: writes GGUF files, version 3; see gguf.h.
 *
 * Keys and tensor descriptions are collected as the bytes of the header;
 * gguf_writer_begin writes them, and data goes to its place after them. What the
 * reader would refuse is refused here, so a committed file always opens. */
#include "models/gguf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fault.h"
#include "base/mem.h"
#include "models/gguf_priv.h"

struct names {                  /* all that were used, to refuse the second use */
    struct str        text;
    struct span { size_t at, len; } *v;
    uint32_t          n, cap;
    struct name_table table;    /* has room for cap */
};

struct place {
    uint64_t offset, size;      /* from the start of the tensor data */
};

struct gguf_writer {
    struct file_new file;
    struct str      keys, descriptions;
    struct names    key_names, tensor_names;
    struct place   *tensors;
    uint32_t        tensors_cap;
    uint32_t        alignment;
    uint64_t        data_bytes;     /* with padding, of all tensors described so far */
    uint64_t        data_start;     /* byte of the file; set by begin */
    bool            begun;
    uint32_t        tensor;         /* sequential writing: where gguf_writer_data is */
    uint64_t        in_tensor;
    _Atomic uint64_t written;       /* payload bytes, by either way of writing */
};

static uint64_t padded(uint64_t n, uint32_t alignment)
{
    return (n + alignment - 1) / alignment * alignment;
}

/* ---- names ---- */

static struct sv name_at(const void *array, uint32_t i)
{
    const struct names *names = array;

    return (struct sv){ names->text.data + names->v[i].at, names->v[i].len };
}

static int names_grow(struct names *names, struct err *e)
{
    const uint32_t cap = names->cap ? 2 * names->cap : 64;
    struct span *v = mem_grow(names->v, cap, sizeof *v);
    struct name_table table;
    int rc;

    if (!v)
        return err_set(e, WATT_ENOMEM, "out of memory for %" PRIu32 " names", cap);
    names->v = v;
    rc = name_table_init(&table, cap, e);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < names->n; i++)
        CHECK(name_table_put(&table, i, name_at, names) == NAME_NONE);
    name_table_deinit(&names->table);
    names->table = table;
    names->cap = cap;
    return 0;
}

/* Remembers a name that must be new and acceptable. what: "key", "tensor". */
static int names_add(struct names *names, const char *path, const char *what, struct sv name,
                     size_t max_bytes, uint32_t max_names, struct err *e)
{
    char shown[NAME_SHOWN];

    if (!name_acceptable(name, max_bytes))
        return err_set(e, WATT_EINVAL,
                       "%s: %s '%s': the name has %zu bytes, expected 1 to %zu of UTF-8 without "
                       "control characters", path, what, name_show(shown, name), name.len,
                       max_bytes);
    if (names->n == max_names)
        return err_set(e, WATT_ELIMIT, "%s: %s '%s' is one more than the maximum of %" PRIu32, path,
                       what, name_show(shown, name), max_names);
    if (names->n == names->cap && names_grow(names, e) < 0) {
        (void)err_prefix(e, "%s", path);
        return WATT_ENOMEM;
    }
    names->v[names->n] = (struct span){ names->text.len, name.len };
    str_append(&names->text, name.data, name.len);
    if (!str_ok(&names->text))
        return err_set(e, WATT_ENOMEM, "%s: out of memory for the names of %ss", path, what);
    if (name_table_put(&names->table, names->n, name_at, names) != NAME_NONE) {
        names->text.len = names->v[names->n].at;
        return err_set(e, WATT_EINVAL, "%s: %s '%s' is given twice", path, what,
                       name_show(shown, name));
    }
    names->n++;
    return 0;
}

static void names_deinit(struct names *names)
{
    str_deinit(&names->text);
    mem_free(names->v);
    name_table_deinit(&names->table);
}

/* ---- header bytes ---- */

static void put_u32(struct str *s, uint32_t v)
{
    uint8_t b[4];

    store_le32(b, v);
    str_append(s, b, sizeof b);
}

static void put_u64(struct str *s, uint64_t v)
{
    uint8_t b[8];

    store_le64(b, v);
    str_append(s, b, sizeof b);
}

static void put_str(struct str *s, struct sv v)
{
    put_u64(s, v.len);
    str_append(s, v.data, v.len);
}

static int set_alignment(struct gguf_writer *w, enum gguf_type type, bool is_array, uint64_t v,
                         struct err *e)
{
    if (is_array || type != GGUF_U32 || v < GGUF_MIN_ALIGNMENT || v > GGUF_MAX_ALIGNMENT ||
        (v & (v - 1)) != 0)
        return err_set(e, WATT_EINVAL,
                       "%s: key 'general.alignment' is %" PRIu64
                       ", expected a u32 that is a power of two of %u to %u", w->file.path, v,
                       GGUF_MIN_ALIGNMENT, GGUF_MAX_ALIGNMENT);
    if (w->tensor_names.n)
        return err_set(e, WATT_EINVAL, "%s: key 'general.alignment' comes after the first tensor",
                       w->file.path);
    w->alignment = (uint32_t)v;
    return 0;
}

/* The key and the type of its value; first: the value of a u32, for alignment. */
static int begin_key(struct gguf_writer *w, struct sv key, enum gguf_type type, bool is_array,
                     uint64_t n, uint64_t first, struct err *e)
{
    char shown[NAME_SHOWN];
    int rc = 0;

    if (w->begun)
        return err_set(e, WATT_EINVAL, "%s: key '%s' comes after the header was written",
                       w->file.path, name_show(shown, key));
    if (n > GGUF_MAX_ARRAY)
        return err_set(e, WATT_ELIMIT, "%s: key '%s' has %" PRIu64 " elements, at most %u",
                       w->file.path, name_show(shown, key), n, GGUF_MAX_ARRAY);
    if (sv_eq_cstr(key, "general.alignment"))
        rc = set_alignment(w, type, is_array, first, e);
    if (rc == 0)
        rc = names_add(&w->key_names, w->file.path, "key", key, GGUF_MAX_KEY_BYTES, GGUF_MAX_KEYS,
                       e);
    if (rc < 0)
        return rc;
    put_str(&w->keys, key);
    if (is_array) {
        put_u32(&w->keys, GGUF_ARRAY);
        put_u32(&w->keys, type);
        put_u64(&w->keys, n);
    } else {
        put_u32(&w->keys, type);
    }
    return 0;
}

/* Appends fail silently until here. */
static int end_key(struct gguf_writer *w, struct err *e)
{
    if (!str_ok(&w->keys))
        return err_set(e, WATT_ENOMEM, "%s: out of memory after %zu bytes of keys", w->file.path,
                       w->keys.len);
    return 0;
}

static int scalar(struct gguf_writer *w, const char *key, enum gguf_type type, uint64_t bits,
                  struct err *e)
{
    uint8_t b[8];
    int rc = begin_key(w, sv_cstr(key), type, false, 1, bits, e);

    if (rc < 0)
        return rc;
    store_le64(b, bits);
    str_append(&w->keys, b, gguf_type_bytes(type));
    return end_key(w, e);
}

int gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t v, struct err *e)
{
    return scalar(w, key, GGUF_U32, v, e);
}

int gguf_writer_u64(struct gguf_writer *w, const char *key, uint64_t v, struct err *e)
{
    return scalar(w, key, GGUF_U64, v, e);
}

int gguf_writer_i32(struct gguf_writer *w, const char *key, int32_t v, struct err *e)
{
    return scalar(w, key, GGUF_I32, (uint32_t)v, e);
}

int gguf_writer_f32(struct gguf_writer *w, const char *key, float v, struct err *e)
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof bits);
    return scalar(w, key, GGUF_F32, bits, e);
}

int gguf_writer_bool(struct gguf_writer *w, const char *key, bool v, struct err *e)
{
    return scalar(w, key, GGUF_BOOL, v, e);
}

int gguf_writer_str(struct gguf_writer *w, const char *key, struct sv v, struct err *e)
{
    int rc = begin_key(w, sv_cstr(key), GGUF_STRING, false, 1, 0, e);

    if (rc < 0)
        return rc;
    put_str(&w->keys, v);
    return end_key(w, e);
}

int gguf_writer_array(struct gguf_writer *w, const char *key, enum gguf_type type,
                      const void *data, uint64_t n, struct err *e)
{
    const unsigned bytes = gguf_type_bytes(type);
    int rc;

    if (bytes == 0)
        return err_set(e, WATT_EINVAL, "%s: key '%s': arrays of type %u are not written this way",
                       w->file.path, key, type);
    for (uint64_t i = 0; type == GGUF_BOOL && i < n; i++) {
        if (((const uint8_t *)data)[i] > 1)
            return err_set(e, WATT_EINVAL, "%s: key '%s': bool %" PRIu64 " is %u", w->file.path,
                           key, i, ((const uint8_t *)data)[i]);
    }
    rc = begin_key(w, sv_cstr(key), type, true, n, 0, e);
    if (rc < 0)
        return rc;
    str_append(&w->keys, data, (size_t)n * bytes);
    return end_key(w, e);
}

int gguf_writer_strs(struct gguf_writer *w, const char *key, const struct sv *v, uint64_t n,
                     struct err *e)
{
    uint64_t total = 0;
    int rc;

    for (uint64_t i = 0; i < n; i++) {
        total += 8 + v[i].len;
        if (v[i].len > GGUF_MAX_STRS_BYTES || total > GGUF_MAX_STRS_BYTES)
            return err_set(e, WATT_ELIMIT, "%s: key '%s': its strings take more than %u bytes",
                           w->file.path, key, GGUF_MAX_STRS_BYTES);
    }
    rc = begin_key(w, sv_cstr(key), GGUF_STRING, true, n, 0, e);
    if (rc < 0)
        return rc;
    for (uint64_t i = 0; i < n; i++)
        put_str(&w->keys, v[i]);
    return end_key(w, e);
}

int gguf_writer_copy(struct gguf_writer *w, const struct gguf_kv *kv, struct err *e)
{
    int64_t first = 0;
    int rc;

    if (!kv->is_array)
        (void)gguf_elem_i64(kv, 0, &first);
    rc = begin_key(w, kv->key, kv->type, kv->is_array, kv->n, (uint64_t)first, e);
    if (rc < 0)
        return rc;
    str_append(&w->keys, kv->data, (size_t)kv->size_bytes);
    return end_key(w, e);
}

/* ---- tensors ---- */

static int tensor_bytes(const struct gguf_writer *w, const char *name, enum dtype dtype,
                        int n_dims, const int64_t *shape, uint64_t *bytes, struct err *e)
{
    int64_t elems = 1;

    if (n_dims < 1 || n_dims > TENSOR_MAX_DIMS)
        return err_set(e, WATT_EINVAL, "%s: tensor '%s' has %d dimensions, expected 1 to %d",
                       w->file.path, name, n_dims, TENSOR_MAX_DIMS);
    for (int i = 0; i < n_dims; i++) {
        if (shape[i] <= 0 || __builtin_mul_overflow(elems, shape[i], &elems))
            return err_set(e, WATT_EINVAL,
                           "%s: tensor '%s': dimension %d is %" PRId64
                           ", expected more than 0 and a product below 2^63", w->file.path, name,
                           i, shape[i]);
    }
    if (!dtype_row_bytes((uint32_t)dtype, (uint64_t)shape[n_dims - 1], bytes) ||
        !mul_u64(*bytes, (uint64_t)(elems / shape[n_dims - 1]), bytes) || *bytes > INT64_MAX)
        return err_set(e, WATT_EINVAL,
                       "%s: tensor '%s': rows of %" PRId64 " elements can't be stored as %s",
                       w->file.path, name, shape[n_dims - 1], dtype_name((uint32_t)dtype));
    return 0;
}

static int add_place(struct gguf_writer *w, uint64_t bytes, struct err *e)
{
    const uint32_t n = w->tensor_names.n;
    uint64_t end;

    if (n >= w->tensors_cap) {
        const uint32_t cap = w->tensors_cap ? 2 * w->tensors_cap : 64;
        struct place *grown = mem_grow(w->tensors, cap, sizeof *grown);

        if (!grown)
            return err_set(e, WATT_ENOMEM, "%s: out of memory for %" PRIu32 " tensors",
                           w->file.path, cap);
        w->tensors = grown;
        w->tensors_cap = cap;
    }
    /* sizes stay below 2^62, so that no later sum of a few of them overflows */
    if (!add_u64(w->data_bytes, bytes, &end) || end > (uint64_t)1 << 62)
        return err_set(e, WATT_EINVAL, "%s: the tensors take more than 2^62 bytes", w->file.path);
    w->tensors[n] = (struct place){ w->data_bytes, bytes };
    return 0;
}

int gguf_writer_tensor(struct gguf_writer *w, const char *name, enum dtype dtype, int n_dims,
                       const int64_t *shape, struct err *e)
{
    struct str *s = &w->descriptions;
    uint64_t bytes;
    int rc;

    if (w->begun)
        return err_set(e, WATT_EINVAL, "%s: tensor '%s' comes after the header was written",
                       w->file.path, name);
    rc = tensor_bytes(w, name, dtype, n_dims, shape, &bytes, e);
    if (rc == 0)
        rc = add_place(w, bytes, e);
    if (rc == 0)
        rc = names_add(&w->tensor_names, w->file.path, "tensor", sv_cstr(name),
                       GGUF_MAX_NAME_BYTES, GGUF_MAX_TENSORS, e);
    if (rc < 0)
        return rc;
    put_str(s, sv_cstr(name));
    put_u32(s, (uint32_t)n_dims);
    for (int i = n_dims; i > 0; i--)
        put_u64(s, (uint64_t)shape[i - 1]);
    put_u32(s, (uint32_t)dtype);
    put_u64(s, w->data_bytes);
    w->data_bytes = padded(w->data_bytes + bytes, w->alignment);
    if (!str_ok(s))
        return err_set(e, WATT_ENOMEM, "%s: out of memory for tensor descriptions", w->file.path);
    return 0;
}

/* ---- the file ---- */

int gguf_writer_open(struct gguf_writer **out, const char *path, struct err *e)
{
    struct gguf_writer *w = mem_calloc(1, sizeof *w);
    int rc;

    if (!w)
        return err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    str_init(&w->keys, SIZE_MAX / 2);
    str_init(&w->descriptions, SIZE_MAX / 2);
    str_init(&w->key_names.text, SIZE_MAX / 2);
    str_init(&w->tensor_names.text, SIZE_MAX / 2);
    w->alignment = GGUF_DEFAULT_ALIGNMENT;
    rc = file_new_open(&w->file, path, e);
    if (rc < 0) {
        gguf_writer_abort(w);
        return rc;
    }
    *out = w;
    return 0;
}

static int write_zeros(struct gguf_writer *w, uint64_t n, struct err *e)
{
    static const uint8_t zeros[4096];
    int rc = 0;

    for (; n > 0 && rc == 0; n -= n < sizeof zeros ? n : sizeof zeros)
        rc = file_new_write(&w->file, zeros, n < sizeof zeros ? (size_t)n : sizeof zeros, e);
    return rc;
}

int gguf_writer_begin(struct gguf_writer *w, struct err *e)
{
    uint8_t head[24] = "GGUF";
    uint64_t header;
    int rc;

    if (w->begun)
        return err_set(e, WATT_EINVAL, "%s: the header was written already", w->file.path);
    if (!str_ok(&w->keys) || !str_ok(&w->descriptions))
        return err_set(e, WATT_ENOMEM, "%s: out of memory for its header", w->file.path);
    store_le32(head + 4, 3);
    store_le64(head + 8, w->tensor_names.n);
    store_le64(head + 16, w->key_names.n);
    rc = file_new_write(&w->file, head, sizeof head, e);
    if (rc == 0)
        rc = file_new_write(&w->file, w->keys.data, w->keys.len, e);
    if (rc == 0)
        rc = file_new_write(&w->file, w->descriptions.data, w->descriptions.len, e);
    header = sizeof head + w->keys.len + w->descriptions.len;
    w->data_start = padded(header, w->alignment);
    if (rc == 0)
        rc = write_zeros(w, w->data_start - header, e);
    /* The file gets its length now: data may come in any order, and padding that
     * nobody writes is zero. What is no file (/dev/full, a pipe) has no length. */
    if (rc == 0 && fflush(w->file.f) != 0)
        rc = err_errno(e, WATT_EIO, errno, "%s: cannot write", w->file.path);
    if (rc == 0 && ftruncate(fileno(w->file.f), (off_t)(w->data_start + w->data_bytes)) != 0 &&
        errno != EINVAL)
        rc = err_errno(e, WATT_EIO, errno, "%s: cannot make it %" PRIu64 " bytes long",
                       w->file.path, w->data_start + w->data_bytes);
    w->begun = rc == 0;
    return rc;
}

int gguf_writer_data(struct gguf_writer *w, const void *data, size_t size, struct err *e)
{
    const uint8_t *from = data;

    if (!w->begun)
        return err_set(e, WATT_EINVAL, "%s: tensor data before the header", w->file.path);
    while (size > 0) {
        const struct place *t;
        uint64_t part;
        int rc;

        if (w->tensor >= w->tensor_names.n)
            return err_set(e, WATT_EINVAL, "%s: %zu bytes more than the tensors take",
                           w->file.path, size);
        t = &w->tensors[w->tensor];
        part = t->size - w->in_tensor;
        if (part > size)
            part = size;
        rc = file_new_write(&w->file, from, (size_t)part, e);
        if (rc < 0)
            return rc;
        from += part;
        size -= (size_t)part;
        w->in_tensor += part;
        atomic_fetch_add_explicit(&w->written, part, memory_order_relaxed);
        if (w->in_tensor < t->size)
            return 0;
        rc = write_zeros(w, padded(t->size, w->alignment) - t->size, e);
        if (rc < 0)
            return rc;
        w->tensor++;
        w->in_tensor = 0;
    }
    return 0;
}

int gguf_writer_data_at(struct gguf_writer *w, uint32_t tensor, uint64_t offset, const void *data,
                        size_t size, struct err *e)
{
    const int fd = fileno(w->file.f);
    const uint8_t *from = data;
    uint64_t at;

    if (!w->begun || tensor >= w->tensor_names.n || offset > w->tensors[tensor].size ||
        size > w->tensors[tensor].size - offset)
        return err_set(e, WATT_EINVAL,
                       "%s: %zu bytes at %" PRIu64 " of tensor %" PRIu32 " don't lie inside it",
                       w->file.path, size, offset, tensor);
    at = w->data_start + w->tensors[tensor].offset + offset;
    while (size > 0) {
        const ssize_t n = fault_hit(FAULT_WRITE) ? (errno = ENOSPC, -1)
                                                 : pwrite(fd, from, size, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_errno(e, WATT_EIO, n < 0 ? errno : EIO, "%s: cannot write", w->file.path);
        from += n;
        at += (uint64_t)n;
        size -= (size_t)n;
        atomic_fetch_add_explicit(&w->written, (uint64_t)n, memory_order_relaxed);
    }
    return 0;
}

int gguf_writer_commit(struct gguf_writer *w, struct err *e)
{
    uint64_t expected = 0;
    int rc = 0;

    for (uint32_t i = 0; i < w->tensor_names.n; i++)
        expected += w->tensors[i].size;
    if (!w->begun)
        rc = err_set(e, WATT_EINVAL, "%s: the header was not written", w->file.path);
    else if (atomic_load(&w->written) != expected)
        rc = err_set(e, WATT_EINVAL, "%s: %" PRIu64 " bytes of tensor data were written, expected %"
                     PRIu64, w->file.path, atomic_load(&w->written), expected);
    else
        rc = file_new_commit(&w->file, e);
    gguf_writer_abort(w);
    return rc;
}

void gguf_writer_abort(struct gguf_writer *w)
{
    if (!w)
        return;
    file_new_abort(&w->file);
    str_deinit(&w->keys);
    str_deinit(&w->descriptions);
    names_deinit(&w->key_names);
    names_deinit(&w->tensor_names);
    mem_free(w->tensors);
    mem_free(w);
}
