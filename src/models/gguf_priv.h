/* gguf_priv.h: what the files of the GGUF module share. */
#ifndef MODELS_GGUF_PRIV_H
#define MODELS_GGUF_PRIV_H

#include "base/file.h"
#include "models/gguf.h"
#include "models/name_table.h"

#define GGUF_DEFAULT_ALIGNMENT 32u
#define GGUF_MIN_ALIGNMENT     8u
#define GGUF_MAX_ALIGNMENT     (1u << 20)

struct gguf_part {
    struct file_map map;        /* zeroed with fd -1 when opened from memory */
    const uint8_t  *data;
    size_t          size;
    char           *path;       /* or the name given to gguf_open_memory */
};

struct gguf {
    uint32_t            version;
    struct gguf_part   *parts;
    uint32_t            n_parts;
    uint64_t            file_bytes;
    struct gguf_kv     *kv;     /* of the first part */
    size_t              n_kv;
    struct gguf_tensor *tensors;
    size_t              n_tensors;
    struct name_table   kv_names, tensor_names;
    /* Put together by gguf_make.c: names and values are allocations of their own, maps are
     * the owner's, who goes last. */
    bool                made;
    void              (*release)(void *owner);
    void               *owner;
};

/* "u32", "string", …; "?" for numbers that name no type. */
const char *gguf_type_name(uint32_t type);
/* Bytes of one element; 0 for strings, arrays and unknown types. */
unsigned gguf_type_bytes(uint32_t type);

#endif
