/* safetensors.h: reads weights in safetensors files, one or a folder of shards.
 *
 * Format: the public safetensors specification: 8 bytes of length, a JSON header that
 * names each tensor's type, shape and place, then the data without holes. Nothing in
 * a file is trusted: the header's size, every type, shape, offset and product is
 * checked before use; duplicate names, overlaps and holes are refused. Messages name
 * file, tensor, what was found and what was expected.
 *
 * An open set of files is immutable: any thread may read it. The files are mapped, so
 * nobody may cut them short meanwhile. */
#ifndef MODELS_SAFETENSORS_H
#define MODELS_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/file.h"
#include "base/str.h"
#include "chips/dtype.h"

/* Named maxima. */
#define SAFETENSORS_MAX_HEADER     ((size_t)32 << 20)   /* bytes of one file's header */
#define SAFETENSORS_MAX_TENSORS    1048576u
#define SAFETENSORS_MAX_SHARDS     1024u
#define SAFETENSORS_MAX_NAME_BYTES 512u
#define SAFETENSORS_MAX_DIMS       8

enum safetensors_type {
    SAFETENSORS_BOOL, SAFETENSORS_U8, SAFETENSORS_I8, SAFETENSORS_U16, SAFETENSORS_I16,
    SAFETENSORS_U32, SAFETENSORS_I32, SAFETENSORS_U64, SAFETENSORS_I64,
    SAFETENSORS_F16, SAFETENSORS_BF16, SAFETENSORS_F32, SAFETENSORS_F64,
    SAFETENSORS_F8_E4M3, SAFETENSORS_F8_E5M2, SAFETENSORS_F8_E8M0, SAFETENSORS_F4,
    SAFETENSORS_TYPES
};

struct safetensors;

struct safetensors_tensor {
    struct sv             name;
    enum safetensors_type type;
    uint8_t               n_dims;   /* 0 for a single number */
    int64_t               shape[SAFETENSORS_MAX_DIMS];  /* outermost first; 0 is allowed */
    const uint8_t        *data;     /* little-endian, at any alignment */
    uint64_t              size_bytes;
    uint32_t              shard;
    uint64_t              file_offset;
};

/* path: a .safetensors file; an index (….safetensors.index.json), whose shards lie
 * beside it; or a folder with model.safetensors.index.json or model.safetensors. On
 * failure *out is untouched: WATT_ENOENT, WATT_EFORMAT, WATT_ELIMIT, WATT_ENOTSUP an
 * unknown type, WATT_EIO, WATT_ENOMEM. */
int  safetensors_open(struct safetensors **out, const char *path, struct err *e) MUST_CHECK;
/* One file from memory; data must stay valid until safetensors_close. */
int  safetensors_open_memory(struct safetensors **out, const void *data, size_t size,
                             const char *name, struct err *e) MUST_CHECK;
void safetensors_close(struct safetensors *st);     /* NULL is fine */

uint32_t    safetensors_n_shards(const struct safetensors *st);
const char *safetensors_path(const struct safetensors *st, uint32_t shard);
/* The mapping of a shard, which stays the reader's; zeroed with fd -1 when from memory. */
const struct file_map *safetensors_map(const struct safetensors *st, uint32_t shard);
uint64_t    safetensors_file_bytes(const struct safetensors *st);   /* all shards */

size_t safetensors_n_tensors(const struct safetensors *st);
const struct safetensors_tensor *safetensors_at(const struct safetensors *st, size_t i);
const struct safetensors_tensor *safetensors_find(const struct safetensors *st,
                                                  const char *name);    /* NULL: absent */

/* "BF16", as files spell it. */
const char *safetensors_type_name(enum safetensors_type type);
/* The element type of our own that has the same bytes; false where there is none. */
bool safetensors_dtype(enum safetensors_type type, enum dtype *out);

#endif
