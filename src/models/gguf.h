/* gguf.h: model files in GGUF, versions 2 and 3, little-endian: reader and writer.
 *
 * Format: the public GGUF specification. Nothing in a file is trusted: every
 * count, length, offset, type and product is checked against the file's size
 * before use; duplicate names, overlapping or unaligned tensors are refused.
 * Messages name file, key or tensor, what was found and what was expected.
 *
 * A split model (name-00001-of-00003.gguf) is opened by its first part and looks
 * like one file: the keys are the first part's, the tensors those of all parts.
 * An open file is immutable: any thread may read it. It must not be cut short by
 * others meanwhile, since it is mapped. */
#ifndef MODELS_GGUF_H
#define MODELS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "chips/tensor.h"

enum gguf_type {
    GGUF_U8 = 0, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32,
    GGUF_BOOL, GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64
};

/* Named maxima. */
#define GGUF_MAX_KEYS       65536u
#define GGUF_MAX_TENSORS    1048576u
#define GGUF_MAX_KEY_BYTES  65535u
#define GGUF_MAX_NAME_BYTES 255u
#define GGUF_MAX_ARRAY      (1u << 26)   /* elements of one array */
#define GGUF_MAX_PARTS      1024u
#define GGUF_MAX_STRS_BYTES UINT32_MAX   /* one array of strings, with their lengths */

struct gguf;

/* One key and its value. Views point into the mapped file. */
struct gguf_kv {
    struct sv      key;
    enum gguf_type type;        /* of the value; of the elements when is_array */
    bool           is_array;    /* arrays of arrays are refused */
    uint64_t       n;           /* elements; 1 for scalars */
    const uint8_t *data;        /* unaligned, little-endian, checked to lie in the file */
    uint64_t       size_bytes;
    const uint32_t *str_at;     /* arrays of strings: where element i's length stands in
                                   data; else NULL */
};

struct gguf_tensor {
    struct sv     name;
    struct tensor t;            /* shape outermost first; data in the mapping */
    uint32_t      part;         /* which file of a split model */
    uint64_t      file_offset;  /* of data in that file */
};

int  gguf_open(struct gguf **out, const char *path, struct err *e) MUST_CHECK;
/* From memory (fuzzing, embedded models); `name` is used in messages. data must
 * be 8-byte aligned and stay valid until gguf_close. */
int  gguf_open_memory(struct gguf **out, const void *data, size_t size, const char *name,
                      struct err *e) MUST_CHECK;
void gguf_close(struct gguf *g);    /* NULL is fine */

const char *gguf_path(const struct gguf *g);
uint32_t gguf_version(const struct gguf *g);
uint64_t gguf_file_bytes(const struct gguf *g);     /* all parts */
uint32_t gguf_n_parts(const struct gguf *g);
/* Descriptor for pread() of a part, -1 when opened from memory. */
int      gguf_part_fd(const struct gguf *g, uint32_t part);

/* Tells the kernel that these bytes of a tensor's data won't be read again soon: their
 * pages stop counting as ours. Bytes outside the file's mappings are ignored. */
void     gguf_forget(const struct gguf *g, const void *data, size_t size);

size_t gguf_n_kv(const struct gguf *g);
const struct gguf_kv *gguf_kv_at(const struct gguf *g, size_t i);
const struct gguf_kv *gguf_find(const struct gguf *g, const char *key);   /* NULL: absent */

/* Typed reads. Integers of any width and bools convert when the value fits.
 * Return 0, WATT_ENOENT when the key is absent (message set, *out untouched), or
 * WATT_EFORMAT on another type or range (message names key, found, expected). */
int gguf_get_u32(const struct gguf *g, const char *key, uint32_t *out, struct err *e) MUST_CHECK;
int gguf_get_u64(const struct gguf *g, const char *key, uint64_t *out, struct err *e) MUST_CHECK;
int gguf_get_f32(const struct gguf *g, const char *key, float *out, struct err *e) MUST_CHECK;
int gguf_get_bool(const struct gguf *g, const char *key, bool *out, struct err *e) MUST_CHECK;
int gguf_get_str(const struct gguf *g, const char *key, struct sv *out, struct err *e) MUST_CHECK;

/* Element i < kv->n of an array (or i = 0 of a scalar), converted as above; false
 * when the type doesn't fit. Strings of an array are found in O(1): an index is
 * made at open. */
bool gguf_elem_i64(const struct gguf_kv *kv, uint64_t i, int64_t *out);
bool gguf_elem_f64(const struct gguf_kv *kv, uint64_t i, double *out);
bool gguf_elem_str(const struct gguf *g, const struct gguf_kv *kv, uint64_t i, struct sv *out);

size_t gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name); /* hashed */

/* ---- writing ---- */

struct gguf_writer;

/* Keys and tensor descriptions are added first, then gguf_writer_begin writes the
 * header and tensor data follows in the order of the descriptions. The file
 * appears under `path` only when gguf_writer_commit succeeds; until then, and
 * after a failure, what was there stays. What the reader would refuse is refused
 * with WATT_EINVAL or WATT_ELIMIT. A key general.alignment (u32) comes before the
 * first tensor. One thread at a time, but for gguf_writer_data_at. */
int  gguf_writer_open(struct gguf_writer **out, const char *path, struct err *e) MUST_CHECK;
int  gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t v, struct err *e) MUST_CHECK;
int  gguf_writer_u64(struct gguf_writer *w, const char *key, uint64_t v, struct err *e) MUST_CHECK;
int  gguf_writer_i32(struct gguf_writer *w, const char *key, int32_t v, struct err *e) MUST_CHECK;
int  gguf_writer_f32(struct gguf_writer *w, const char *key, float v, struct err *e) MUST_CHECK;
int  gguf_writer_bool(struct gguf_writer *w, const char *key, bool v, struct err *e) MUST_CHECK;
int  gguf_writer_str(struct gguf_writer *w, const char *key, struct sv v, struct err *e) MUST_CHECK;
/* type: any scalar type but string; data: n little-endian elements. */
int  gguf_writer_array(struct gguf_writer *w, const char *key, enum gguf_type type,
                       const void *data, uint64_t n, struct err *e) MUST_CHECK;
int  gguf_writer_strs(struct gguf_writer *w, const char *key, const struct sv *v, uint64_t n,
                      struct err *e) MUST_CHECK;
/* A key as it stands in another file. */
int  gguf_writer_copy(struct gguf_writer *w, const struct gguf_kv *kv, struct err *e) MUST_CHECK;
/* Shape outermost first, as in struct tensor. */
int  gguf_writer_tensor(struct gguf_writer *w, const char *name, enum dtype dtype, int n_dims,
                        const int64_t *shape, struct err *e) MUST_CHECK;
int  gguf_writer_begin(struct gguf_writer *w, struct err *e) MUST_CHECK;
/* The next size bytes of tensor data; a tensor's end is padded by itself. */
int  gguf_writer_data(struct gguf_writer *w, const void *data, size_t size, struct err *e) MUST_CHECK;
/* The same out of order and from any thread: size bytes at offset of the i-th
 * described tensor. Each byte is written once, by one way or the other. */
int  gguf_writer_data_at(struct gguf_writer *w, uint32_t tensor, uint64_t offset,
                         const void *data, size_t size, struct err *e) MUST_CHECK;
/* Fails with WATT_EINVAL when tensor data is missing. Frees w in every case. */
int  gguf_writer_commit(struct gguf_writer *w, struct err *e) MUST_CHECK;
void gguf_writer_abort(struct gguf_writer *w);  /* NULL is fine */

#endif
