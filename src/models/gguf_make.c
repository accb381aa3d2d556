/* gguf_make.c: fills a struct gguf by hand; see gguf_make.h. Values stand in memory as they
 * would in a file, each in an allocation of its own that the struct gguf takes over. */
#include "models/gguf_make.h"

#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "models/gguf_priv.h"

struct gguf_make {
    struct gguf *g;
    size_t       cap_kv, cap_tensors;
    int          rc;
    struct err   why;
};

int gguf_make_open(struct gguf_make **out, const char *path, struct err *e)
{
    struct gguf_make *m = mem_calloc(1, sizeof *m);
    struct gguf *g = mem_calloc(1, sizeof *g);

    if (m && g)
        g->parts = mem_calloc(1, sizeof *g->parts);
    if (!m || !g || !g->parts || !(g->parts[0].path = mem_strdup(path))) {
        if (g)
            mem_free(g->parts);
        mem_free(g);
        mem_free(m);
        return err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    }
    g->parts[0].map.fd = -1;
    g->n_parts = 1;
    g->version = 3;
    g->made = true;
    m->g = g;
    *out = m;
    return 0;
}

void gguf_make_close(struct gguf_make *m)
{
    if (!m)
        return;
    gguf_close(m->g);
    mem_free(m);
}

static void no_memory(struct gguf_make *m, const char *what)
{
    if (m->rc == 0)
        m->rc = err_set(&m->why, WATT_ENOMEM, "%s: out of memory for %s", m->g->parts[0].path,
                        what);
}

/* ---- keys ---- */

static bool room_kv(struct gguf_make *m)
{
    const size_t cap = m->cap_kv ? 2 * m->cap_kv : 64;
    struct gguf_kv *grown;

    if (m->g->n_kv < m->cap_kv)
        return true;
    grown = mem_grow(m->g->kv, cap, sizeof *grown);
    if (!grown)
        return false;
    m->g->kv = grown;
    m->cap_kv = cap;
    return true;
}

/* Takes bytes over, also when it fails; key is copied. */
static void add_kv(struct gguf_make *m, const char *key, struct gguf_kv kv, void *bytes)
{
    char *copy = m->rc == 0 && bytes ? mem_strdup(key) : NULL;

    if (!copy || !room_kv(m)) {
        no_memory(m, key);
        mem_free(copy);
        mem_free(bytes);
        mem_free((void *)(uintptr_t)kv.str_at);
        return;
    }
    kv.key = sv_cstr(copy);
    kv.data = bytes;
    m->g->kv[m->g->n_kv++] = kv;
}

static void add_scalar(struct gguf_make *m, const char *key, enum gguf_type type,
                       const uint8_t *bytes, size_t n)
{
    uint8_t *copy = mem_alloc(n);

    if (copy)
        memcpy(copy, bytes, n);
    add_kv(m, key, (struct gguf_kv){ .type = type, .n = 1, .size_bytes = n }, copy);
}

void gguf_make_u32(struct gguf_make *m, const char *key, uint32_t v)
{
    uint8_t bytes[4];

    store_le32(bytes, v);
    add_scalar(m, key, GGUF_U32, bytes, sizeof bytes);
}

void gguf_make_f32(struct gguf_make *m, const char *key, float v)
{
    uint8_t bytes[4];

    store_le_f32(bytes, v);
    add_scalar(m, key, GGUF_F32, bytes, sizeof bytes);
}

void gguf_make_bool(struct gguf_make *m, const char *key, bool v)
{
    const uint8_t byte = v;

    add_scalar(m, key, GGUF_BOOL, &byte, 1);
}

void gguf_make_str(struct gguf_make *m, const char *key, struct sv v)
{
    uint8_t *bytes = mem_alloc(8 + v.len);

    if (bytes) {
        store_le64(bytes, v.len);
        memcpy(bytes + 8, v.data, v.len);
    }
    add_kv(m, key, (struct gguf_kv){ .type = GGUF_STRING, .n = 1, .size_bytes = 8 + v.len }, bytes);
}

void gguf_make_array(struct gguf_make *m, const char *key, enum gguf_type type, const void *data,
                     uint64_t n)
{
    size_t size = 0;
    uint8_t *bytes;

    CHECK(gguf_type_bytes(type) > 0);
    bytes = n <= GGUF_MAX_ARRAY && mul_size((size_t)n, gguf_type_bytes(type), &size)
                ? mem_alloc(size) : NULL;
    if (bytes && size)
        memcpy(bytes, data, size);
    add_kv(m, key, (struct gguf_kv){ .type = type, .is_array = true, .n = n, .size_bytes = size },
           bytes);
}

void gguf_make_strs(struct gguf_make *m, const char *key, const struct sv *v, uint64_t n)
{
    uint64_t size = 0;
    uint8_t *bytes;
    uint32_t *at;

    for (uint64_t i = 0; i < n; i++)
        size += 8 + v[i].len;
    if (n > GGUF_MAX_ARRAY || size > GGUF_MAX_STRS_BYTES) {
        if (m->rc == 0)
            m->rc = err_set(&m->why, WATT_ELIMIT, "%s: %s takes more than %u bytes",
                            m->g->parts[0].path, key, GGUF_MAX_STRS_BYTES);
        return;
    }
    bytes = mem_alloc((size_t)size);
    at = mem_array((size_t)n, sizeof *at);
    if (!bytes || !at) {
        mem_free(bytes);
        mem_free(at);
        no_memory(m, key);
        return;
    }
    for (uint64_t i = 0, to = 0; i < n; i++) {
        at[i] = (uint32_t)to;
        store_le64(bytes + to, v[i].len);
        if (v[i].len)
            memcpy(bytes + to + 8, v[i].data, v[i].len);
        to += 8 + v[i].len;
    }
    add_kv(m, key, (struct gguf_kv){ .type = GGUF_STRING, .is_array = true, .n = n,
                                     .size_bytes = size, .str_at = at }, bytes);
}

bool gguf_make_has(const struct gguf_make *m, const char *key)
{
    for (size_t i = 0; i < m->g->n_kv; i++)
        if (sv_eq_cstr(m->g->kv[i].key, key))
            return true;
    return false;
}

/* ---- tensors ---- */

uint32_t gguf_make_part(struct gguf_make *m, const struct file_map *map)
{
    struct gguf_part *grown = mem_grow(m->g->parts, m->g->n_parts + 1, sizeof *grown);

    if (!grown) {
        no_memory(m, "its files");
        return 0;
    }
    m->g->parts = grown;
    grown[m->g->n_parts] = (struct gguf_part){ .map = *map };
    m->g->file_bytes += map->size;
    return m->g->n_parts++;
}

void gguf_make_tensor(struct gguf_make *m, struct sv name, const struct tensor *t, uint32_t part,
                      uint64_t file_offset)
{
    const size_t cap = m->cap_tensors ? 2 * m->cap_tensors : 256;
    struct gguf_tensor *grown = m->g->tensors;
    char *copy;

    if (m->g->n_tensors == m->cap_tensors) {
        grown = mem_grow(m->g->tensors, cap, sizeof *grown);
        if (!grown) {
            no_memory(m, "its tensors");
            return;
        }
        m->cap_tensors = cap;
        m->g->tensors = grown;
    }
    copy = m->rc == 0 ? mem_strndup(name.data, name.len) : NULL;
    if (!copy) {
        no_memory(m, "its tensors");
        return;
    }
    grown[m->g->n_tensors++] = (struct gguf_tensor){ { copy, name.len }, *t, part, file_offset };
}

size_t gguf_make_n_tensors(const struct gguf_make *m) { return m->g->n_tensors; }

struct tensor *gguf_make_tensor_at(struct gguf_make *m, size_t i)
{
    CHECK(i < m->g->n_tensors);
    return &m->g->tensors[i].t;
}

/* ---- the end ---- */

static struct sv key_at(const void *array, uint32_t i)
{
    return ((const struct gguf_kv *)array)[i].key;
}

static struct sv tensor_name(const void *array, uint32_t i)
{
    return ((const struct gguf_tensor *)array)[i].name;
}

static int index_names(struct gguf *g, struct err *e)
{
    char shown[NAME_SHOWN];
    int rc = name_table_init(&g->kv_names, g->n_kv, e);

    for (uint32_t i = 0; rc == 0 && i < g->n_kv; i++)
        if (name_table_put(&g->kv_names, i, key_at, g->kv) != NAME_NONE)
            rc = err_set(e, WATT_EFORMAT, "%s: key %s would appear twice", g->parts[0].path,
                         name_show(shown, g->kv[i].key));
    if (rc == 0)
        rc = name_table_init(&g->tensor_names, g->n_tensors, e);
    for (uint32_t i = 0; rc == 0 && i < g->n_tensors; i++)
        if (name_table_put(&g->tensor_names, i, tensor_name, g->tensors) != NAME_NONE)
            rc = err_set(e, WATT_EFORMAT, "%s: tensor %s would appear twice", g->parts[0].path,
                         name_show(shown, g->tensors[i].name));
    return rc;
}

int gguf_make_finish(struct gguf **out, struct gguf_make *m, void (*release)(void *owner),
                     void *owner, struct err *e)
{
    struct gguf *g = m->g;
    int rc = m->rc < 0 ? err_set(e, m->rc, "%s", m->why.msg) : index_names(g, e);

    if (rc < 0) {
        gguf_make_close(m);
        return rc;
    }
    g->release = release;
    g->owner = owner;
    mem_free(m);
    *out = g;
    return 0;
}
