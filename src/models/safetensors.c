/* safetensors.c: opens and checks safetensors files; see safetensors.h.
 *
 * A shard's header is parsed as JSON, its tensors are copied into one array (names
 * into one pool), and the document is dropped. An index only says which shard holds
 * which tensor; it is compared with what the shards hold. */
#include "models/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "models/name_table.h"

#define MAX_INDEX_BYTES ((size_t)64 << 20)
#define HEADER_DEPTH 4

static const struct {
    const char *name;
    uint8_t     bits;
    int8_t      dtype;      /* enum dtype, -1: none has these bytes */
} types[SAFETENSORS_TYPES] = {
    [SAFETENSORS_BOOL] = { "BOOL", 8, DTYPE_I8 },
    [SAFETENSORS_U8] = { "U8", 8, -1 },
    [SAFETENSORS_I8] = { "I8", 8, DTYPE_I8 },
    [SAFETENSORS_U16] = { "U16", 16, -1 },
    [SAFETENSORS_I16] = { "I16", 16, DTYPE_I16 },
    [SAFETENSORS_U32] = { "U32", 32, -1 },
    [SAFETENSORS_I32] = { "I32", 32, DTYPE_I32 },
    [SAFETENSORS_U64] = { "U64", 64, -1 },
    [SAFETENSORS_I64] = { "I64", 64, DTYPE_I64 },
    [SAFETENSORS_F16] = { "F16", 16, DTYPE_F16 },
    [SAFETENSORS_BF16] = { "BF16", 16, DTYPE_BF16 },
    [SAFETENSORS_F32] = { "F32", 32, DTYPE_F32 },
    [SAFETENSORS_F64] = { "F64", 64, DTYPE_F64 },
    [SAFETENSORS_F8_E4M3] = { "F8_E4M3", 8, -1 },
    [SAFETENSORS_F8_E5M2] = { "F8_E5M2", 8, -1 },
    [SAFETENSORS_F8_E8M0] = { "F8_E8M0", 8, -1 },
    [SAFETENSORS_F4] = { "F4", 4, -1 },
};

struct shard {
    struct file_map map;        /* fd -1 when opened from memory */
    const uint8_t  *data;
    size_t          size;
    char           *path;
};

struct entry {
    struct safetensors_tensor t;
    size_t                    name_at;  /* in the pool of names, which moves while it grows */
};

struct safetensors {
    struct shard     *shards;
    uint32_t          n_shards, shards_cap;
    struct entry     *entries;
    size_t            n_tensors;
    struct str        names;
    struct name_table table;
};

const char *safetensors_type_name(enum safetensors_type type)
{
    return types[type].name;
}

bool safetensors_dtype(enum safetensors_type type, enum dtype *out)
{
    if (types[type].dtype < 0)
        return false;
    *out = (enum dtype)types[type].dtype;
    return true;
}

/* ---- one tensor ---- */

static int read_type(const struct json_place *at, enum safetensors_type *out, struct err *e)
{
    struct json_place place;
    const char *name;
    int rc = json_need(at, "dtype", &place, e);

    if (rc == 0)
        rc = json_read_cstr(&place, &name, e);
    if (rc < 0)
        return rc;
    for (int i = 0; i < SAFETENSORS_TYPES; i++) {
        if (strcmp(types[i].name, name) == 0) {
            *out = (enum safetensors_type)i;
            return 0;
        }
    }
    return json_refuse(&place, e, WATT_ENOTSUP, "type '%.32s' is not known", name);
}

/* Fills shape and size_bytes. */
static int read_shape(const struct json_place *at, struct safetensors_tensor *t, struct err *e)
{
    struct json_place place, item;
    uint64_t elems = 1, extent, bits;
    size_t n_dims;
    int rc = json_need(at, "shape", &place, e);

    if (rc == 0)
        rc = json_read_array(&place, SAFETENSORS_MAX_DIMS, &n_dims, e);
    if (rc < 0)
        return rc;
    t->n_dims = (uint8_t)n_dims;
    for (size_t i = 0; i < n_dims; i++) {
        item = json_item(&place, i);
        rc = json_read_u64(&item, 0, INT64_MAX, &extent, e);
        if (rc < 0)
            return rc;
        t->shape[i] = (int64_t)extent;
        if (!mul_u64(elems, extent, &elems))
            return json_refuse(&place, e, WATT_EFORMAT, "the product overflows 64 bits");
    }
    if (!mul_u64(elems, types[t->type].bits, &bits) || bits % 8 != 0)
        return json_refuse(&place, e, WATT_EFORMAT, "%" PRIu64 " elements of %s are no whole bytes",
                           elems, types[t->type].name);
    t->size_bytes = bits / 8;
    return 0;
}

/* Sets file_offset relative to the data. */
static int read_offsets(const struct json_place *at, uint64_t data_bytes,
                        struct safetensors_tensor *t, struct err *e)
{
    struct json_place place, item;
    uint64_t ends[2];
    size_t n;
    int rc = json_need(at, "data_offsets", &place, e);

    if (rc == 0)
        rc = json_read_array(&place, 2, &n, e);
    if (rc == 0 && n != 2)
        rc = json_refuse(&place, e, WATT_EFORMAT, "%zu numbers, expected 2", n);
    for (size_t i = 0; i < 2 && rc == 0; i++) {
        item = json_item(&place, i);
        rc = json_read_u64(&item, 0, INT64_MAX, &ends[i], e);
    }
    if (rc < 0)
        return rc;
    if (ends[0] > ends[1] || ends[1] > data_bytes)
        return json_refuse(&place, e, WATT_EFORMAT,
                           "from %" PRIu64 " to %" PRIu64 ", but there are %" PRIu64
                           " bytes of data", ends[0], ends[1], data_bytes);
    if (ends[1] - ends[0] != t->size_bytes)
        return json_refuse(&place, e, WATT_EFORMAT,
                           "%" PRIu64 " bytes, expected %" PRIu64 " from type and shape",
                           ends[1] - ends[0], t->size_bytes);
    t->file_offset = ends[0];
    return 0;
}

static int read_tensor(struct safetensors *st, const struct json_place *root, const char *key,
                       uint64_t data_bytes, struct entry *entry, struct err *e)
{
    struct safetensors_tensor *t = &entry->t;
    const struct sv name = sv_cstr(key);
    struct json_place place;
    char shown[NAME_SHOWN];
    int rc;

    if (!name_acceptable(name, SAFETENSORS_MAX_NAME_BYTES))
        return json_refuse(root, e, WATT_EFORMAT,
                           "the name '%s' of %zu bytes, expected 1 to %u of UTF-8 without control "
                           "characters", name_show(shown, name), name.len,
                           SAFETENSORS_MAX_NAME_BYTES);
    rc = json_need(root, key, &place, e);
    if (rc == 0)
        rc = read_type(&place, &t->type, e);
    if (rc == 0)
        rc = read_shape(&place, t, e);
    if (rc == 0)
        rc = read_offsets(&place, data_bytes, t, e);
    if (rc < 0)
        return rc;
    entry->name_at = st->names.len;
    t->name.len = name.len;
    str_append(&st->names, key, name.len);
    return str_ok(&st->names) ? 0 : json_refuse(root, e, WATT_ENOMEM, "out of memory for names");
}

/* ---- one file ---- */

static int by_offset(const void *a, const void *b)
{
    const struct safetensors_tensor *x = &((const struct entry *)a)->t;
    const struct safetensors_tensor *y = &((const struct entry *)b)->t;

    if (x->file_offset != y->file_offset)
        return x->file_offset < y->file_offset ? -1 : 1;
    return (x->size_bytes > y->size_bytes) - (x->size_bytes < y->size_bytes);
}

/* The data of a file's tensors follow one another from its start to its end. */
static int check_layout(const struct safetensors *st, const struct entry *entries, size_t n,
                        uint64_t data_bytes, struct err *e)
{
    char shown[NAME_SHOWN];
    uint64_t at = 0;

    for (size_t i = 0; i < n; i++) {
        const struct safetensors_tensor *t = &entries[i].t;

        if (t->file_offset != at) {
            const struct sv name = { st->names.data + entries[i].name_at, t->name.len };

            return err_set(e, WATT_EFORMAT, "tensor '%s' starts at byte %" PRIu64
                           " of the data, expected %" PRIu64 ", the end of the one before",
                           name_show(shown, name), t->file_offset, at);
        }
        at += t->size_bytes;
    }
    if (at != data_bytes)
        return err_set(e, WATT_EFORMAT, "%" PRIu64 " bytes of data, but its tensors take %" PRIu64,
                       data_bytes, at);
    return 0;
}

static int grow_tensors(struct safetensors *st, size_t n, struct err *e)
{
    struct entry *grown;

    if (n > SAFETENSORS_MAX_TENSORS - st->n_tensors)
        return err_set(e, WATT_ELIMIT, "more than %u tensors", SAFETENSORS_MAX_TENSORS);
    grown = mem_grow(st->entries, st->n_tensors + n, sizeof *grown);
    if (!grown)
        return err_set(e, WATT_ENOMEM, "out of memory for %zu tensors", n);
    memset(grown + st->n_tensors, 0, n * sizeof *grown);
    st->entries = grown;
    return 0;
}

static int read_tensors(struct safetensors *st, uint32_t shard, json_t *header, uint64_t data_start,
                        struct err *e)
{
    const struct shard *s = &st->shards[shard];
    const struct json_place root = json_root(header, "header");
    const uint64_t data_bytes = s->size - data_start;
    const size_t first = st->n_tensors;
    size_t n = 0;
    const char *key;
    json_t *value;
    int rc;

    if (!json_is_object(header))
        return json_refuse(&root, e, WATT_EFORMAT, "expected an object");
    rc = grow_tensors(st, json_count(&root), e);
    if (rc < 0)
        return rc;
    json_object_foreach(header, key, value) {
        struct entry *entry = &st->entries[first + n];

        if (strcmp(key, "__metadata__") == 0)
            continue;
        rc = read_tensor(st, &root, key, data_bytes, entry, e);
        if (rc < 0)
            return rc;
        entry->t.shard = shard;
        n++;
    }
    if (n > 0)
        qsort(st->entries + first, n, sizeof *st->entries, by_offset);
    rc = check_layout(st, st->entries + first, n, data_bytes, e);
    if (rc < 0)
        return rc;
    for (size_t i = first; i < first + n; i++) {
        struct safetensors_tensor *t = &st->entries[i].t;

        t->file_offset += data_start;
        t->data = s->data + t->file_offset;
    }
    st->n_tensors += n;
    return 0;
}

static int read_header(struct safetensors *st, uint32_t shard, struct err *e)
{
    const struct json_limits limits = { SAFETENSORS_MAX_HEADER, HEADER_DEPTH };
    const struct shard *s = &st->shards[shard];
    json_t *header;
    uint64_t n;
    int rc;

    if (s->size < 8)
        return err_set(e, WATT_EFORMAT, "is no safetensors file: %zu bytes, at least 8 expected",
                       s->size);
    n = load_le64(s->data);
    if (n > SAFETENSORS_MAX_HEADER && n <= s->size - 8)
        return err_set(e, WATT_ELIMIT, "its header takes %" PRIu64 " bytes, at most %zu are read",
                       n, SAFETENSORS_MAX_HEADER);
    if (n > s->size - 8)
        return err_set(e, WATT_EFORMAT,
                       "is no safetensors file or cut short: its header should take %" PRIu64
                       " bytes, %zu follow", n, s->size - 8);
    if (n == 0 || s->data[8] != '{')
        return err_set(e, WATT_EFORMAT, "is no safetensors file: its header doesn't start with '{'");
    rc = json_parse(&header, "header", s->data + 8, (size_t)n, &limits, e);
    if (rc < 0)
        return rc;
    rc = read_tensors(st, shard, header, 8 + n, e);
    json_close(header);
    return rc;
}

/* Takes a place for one more shard; the caller fills data and size. */
static int add_shard(struct safetensors *st, const char *path, struct err *e)
{
    struct shard *s;

    if (st->n_shards == st->shards_cap) {
        const uint32_t cap = st->shards_cap ? 2 * st->shards_cap : 4;
        struct shard *grown;

        if (st->n_shards == SAFETENSORS_MAX_SHARDS)
            return err_set(e, WATT_ELIMIT, "more than %u shards", SAFETENSORS_MAX_SHARDS);
        grown = mem_grow(st->shards, cap, sizeof *grown);
        if (!grown)
            return err_set(e, WATT_ENOMEM, "out of memory for %" PRIu32 " shards", cap);
        st->shards = grown;
        st->shards_cap = cap;
    }
    s = &st->shards[st->n_shards++];
    *s = (struct shard){ .map.fd = -1, .path = mem_strdup(path) };
    return s->path ? 0 : err_set(e, WATT_ENOMEM, "out of memory");
}

static int open_shard(struct safetensors *st, const char *path, struct err *e)
{
    int rc = add_shard(st, path, e);
    struct shard *s = rc == 0 ? &st->shards[st->n_shards - 1] : NULL;

    if (rc == 0) {
        rc = file_map_open(&s->map, path, e);
        if (rc < 0)
            return rc;      /* names the path already */
        s->data = s->map.data;
        s->size = s->map.size;
        rc = read_header(st, st->n_shards - 1, e);
    }
    if (rc < 0)
        (void)err_prefix(e, "%s", path);
    return rc;
}

/* ---- names ---- */

static struct sv name_at(const void *array, uint32_t i)
{
    return ((const struct entry *)array)[i].t.name;
}

/* Names become pointers, since the pool no longer moves, and are indexed. */
static int index_names(struct safetensors *st, const char *path, struct err *e)
{
    char shown[NAME_SHOWN];
    int rc = name_table_init(&st->table, st->n_tensors, e);

    for (size_t i = 0; i < st->n_tensors; i++)
        st->entries[i].t.name.data = st->names.data + st->entries[i].name_at;
    for (uint32_t i = 0; i < st->n_tensors && rc == 0; i++) {
        const uint32_t twin = name_table_put(&st->table, i, name_at, st->entries);

        if (twin != NAME_NONE)
            rc = err_set(e, WATT_EFORMAT, "tensor '%s' is in %s and in %s",
                         name_show(shown, st->entries[i].t.name),
                         st->shards[st->entries[twin].t.shard].path,
                         st->shards[st->entries[i].t.shard].path);
    }
    if (rc < 0)
        (void)err_prefix(e, "%s", path);
    return rc;
}

/* ---- an index of shards ---- */

static bool plain_file_name(const char *name)
{
    const size_t n = strlen(name);

    return n > 0 && n < 256 && name[0] != '.' && !strchr(name, '/') && !strchr(name, '\\');
}

/* The shard of this file name, opened if it is new; NAME_NONE on failure. */
static int shard_of(struct safetensors *st, struct str *path, size_t folder_len, const char *file,
                    uint32_t *out, struct err *e)
{
    path->len = folder_len;
    str_puts(path, file);
    if (!str_ok(path))
        return err_set(e, WATT_ENOMEM, "out of memory");
    /* neighbours in the map are mostly in the same shard, so search from the last */
    for (uint32_t i = st->n_shards; i > 0; i--) {
        if (strcmp(st->shards[i - 1].path, str_cstr(path)) == 0) {
            *out = i - 1;
            return 0;
        }
    }
    *out = st->n_shards;
    return open_shard(st, str_cstr(path), e);
}

static int open_listed(struct safetensors *st, const struct json_place *map, struct str *path,
                       size_t folder_len, struct err *e)
{
    const char *key;
    json_t *value;
    int rc = 0;

    json_object_foreach((json_t *)(uintptr_t)map->value, key, value) {
        const char *file = json_string_value(value);
        char shown[NAME_SHOWN];
        uint32_t shard;

        if (!file || !plain_file_name(file))
            return json_refuse(map, e, WATT_EFORMAT, "'%s' is in '%s', expected the name of a file "
                               "beside the index", name_show(shown, sv_cstr(key)),
                               file ? file : "?");
        rc = shard_of(st, path, folder_len, file, &shard, e);
        if (rc < 0)
            return rc;
    }
    return rc;
}

/* Every tensor of the map is where it says, and there are no others. */
static int check_listed(const struct safetensors *st, const struct json_place *map,
                        size_t folder_len, struct err *e)
{
    char shown[NAME_SHOWN];
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)map->value, key, value) {
        const struct safetensors_tensor *t = safetensors_find(st, key);

        if (!t || strcmp(st->shards[t->shard].path + folder_len, json_string_value(value)) != 0)
            return json_refuse(map, e, WATT_EFORMAT, "tensor '%s' is not in %s",
                               name_show(shown, sv_cstr(key)), json_string_value(value));
    }
    for (size_t i = 0; i < st->n_tensors && st->n_tensors != json_count(map); i++) {
        const struct sv name = st->entries[i].t.name;

        if (!json_object_getn(map->value, name.data, name.len))
            return json_refuse(map, e, WATT_EFORMAT, "tensor '%s' of %s is not in the index",
                               name_show(shown, name), st->shards[st->entries[i].t.shard].path);
    }
    return 0;
}

static int open_index(struct safetensors *st, const char *index, struct err *e)
{
    const struct json_limits limits = { MAX_INDEX_BYTES, HEADER_DEPTH };
    const char *slash = strrchr(index, '/');
    const size_t folder_len = slash ? (size_t)(slash - index) + 1 : 0;
    struct json_place root, map;
    json_t *document;
    struct str path;
    char *bytes;
    size_t n;
    int rc = file_read(index, MAX_INDEX_BYTES, &bytes, &n, e);

    if (rc < 0)
        return rc;
    rc = json_parse(&document, index, bytes, n, &limits, e);
    mem_free(bytes);
    if (rc < 0)
        return rc;
    str_init(&path, 0);
    str_append(&path, index, folder_len);
    root = json_root(document, index);
    rc = json_need(&root, "weight_map", &map, e);
    if (rc == 0 && !json_is_object(map.value))
        rc = json_refuse(&map, e, WATT_EFORMAT, "expected an object");
    if (rc == 0)
        rc = open_listed(st, &map, &path, folder_len, e);
    if (rc == 0)
        rc = index_names(st, index, e);
    if (rc == 0)
        rc = check_listed(st, &map, folder_len, e);
    str_deinit(&path);
    json_close(document);
    return rc;
}

/* ---- opening ---- */

static struct safetensors *st_alloc(void)
{
    struct safetensors *st = mem_calloc(1, sizeof *st);

    if (st)
        str_init(&st->names, 0);
    return st;
}

/* What a folder holds: an index, or else one file. */
static int path_in_folder(struct str *out, const char *folder, struct err *e)
{
    static const char *const names[] = { "/model.safetensors.index.json", "/model.safetensors" };
    struct stat s;

    for (size_t i = 0; i < 2; i++) {
        str_reset(out);
        str_puts(out, folder);
        str_puts(out, names[i]);
        if (!str_ok(out))
            return err_set(e, WATT_ENOMEM, "%s: out of memory", folder);
        if (stat(str_cstr(out), &s) == 0)
            return 0;
    }
    return err_set(e, WATT_ENOENT,
                   "%s: holds neither model.safetensors nor model.safetensors.index.json", folder);
}

static int open_path(struct safetensors *st, const char *path, struct err *e)
{
    int rc;

    if (sv_ends(sv_cstr(path), SV(".json")))
        return open_index(st, path, e);
    rc = open_shard(st, path, e);
    return rc == 0 ? index_names(st, path, e) : rc;
}

int safetensors_open(struct safetensors **out, const char *path, struct err *e)
{
    struct safetensors *st = st_alloc();
    struct str inside;
    struct stat s;
    int rc = 0;

    if (!st)
        return err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    str_init(&inside, 0);
    if (stat(path, &s) == 0 && S_ISDIR(s.st_mode)) {
        rc = path_in_folder(&inside, path, e);
        path = str_cstr(&inside);
    }
    if (rc == 0)
        rc = open_path(st, path, e);
    str_deinit(&inside);
    if (rc < 0) {
        safetensors_close(st);
        return rc;
    }
    *out = st;
    return 0;
}

int safetensors_open_memory(struct safetensors **out, const void *data, size_t size,
                            const char *name, struct err *e)
{
    struct safetensors *st = st_alloc();
    int rc;

    if (!st)
        return err_set(e, WATT_ENOMEM, "%s: out of memory", name);
    rc = add_shard(st, name, e);
    if (rc == 0) {
        st->shards[0].data = data;
        st->shards[0].size = size;
        rc = read_header(st, 0, e);
    }
    if (rc < 0)
        (void)err_prefix(e, "%s", name);
    else
        rc = index_names(st, name, e);
    if (rc < 0) {
        safetensors_close(st);
        return rc;
    }
    *out = st;
    return 0;
}

void safetensors_close(struct safetensors *st)
{
    if (!st)
        return;
    for (uint32_t i = 0; i < st->n_shards; i++) {
        file_map_close(&st->shards[i].map);
        mem_free(st->shards[i].path);
    }
    mem_free(st->shards);
    mem_free(st->entries);
    str_deinit(&st->names);
    name_table_deinit(&st->table);
    mem_free(st);
}

/* ---- facts ---- */

uint32_t safetensors_n_shards(const struct safetensors *st)
{
    return st->n_shards;
}

const char *safetensors_path(const struct safetensors *st, uint32_t shard)
{
    CHECK(shard < st->n_shards);
    return st->shards[shard].path;
}

const struct file_map *safetensors_map(const struct safetensors *st, uint32_t shard)
{
    CHECK(shard < st->n_shards);
    return &st->shards[shard].map;
}

uint64_t safetensors_file_bytes(const struct safetensors *st)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < st->n_shards; i++)
        total += st->shards[i].size;
    return total;
}

size_t safetensors_n_tensors(const struct safetensors *st)
{
    return st->n_tensors;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors *st, size_t i)
{
    CHECK(i < st->n_tensors);
    return &st->entries[i].t;
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *st, const char *name)
{
    const uint32_t i = name_table_find(&st->table, sv_cstr(name), name_at, st->entries);

    return i == NAME_NONE ? NULL : &st->entries[i].t;
}
