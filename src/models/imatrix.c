/* imatrix.c: reads importance matrices; see imatrix.h. */
#include "models/imatrix.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"
#include "models/gguf.h"
#include "models/name_table.h"

#define MAX_NAME_BYTES GGUF_MAX_NAME_BYTES
#define MAX_DATASET_BYTES 4096u

struct entry {
    size_t   name_at, name_len;     /* in names */
    uint64_t at, n;                 /* in values */
};

struct imatrix {
    char             *path;
    struct str        names, dataset;
    struct entry     *entries;
    float            *values;
    uint32_t          n_entries, n_chunks;
    uint64_t          n_values;
    struct name_table table;
};

static struct sv entry_name(const void *array, uint32_t i)
{
    const struct imatrix *m = array;

    return (struct sv){ m->names.data + m->entries[i].name_at, m->entries[i].name_len };
}

/* Room for that many entries and values, which the file's size bounds. */
static int reserve(struct imatrix *m, uint32_t n_entries, uint64_t n_values, struct err *e)
{
    m->entries = mem_array(n_entries, sizeof *m->entries);
    m->values = n_values <= SIZE_MAX ? mem_array((size_t)n_values, sizeof *m->values) : NULL;
    if (!m->entries || !m->values)
        return err_set(e, WATT_ENOMEM, "%s: importance matrix of %" PRIu64 " values", m->path,
                       n_values);
    return name_table_init(&m->table, n_entries, e);
}

/* Adds an entry whose n values are at the end of values already. */
static int add_entry(struct imatrix *m, struct sv name, uint64_t n, struct err *e)
{
    char shown[NAME_SHOWN];

    if (!name_acceptable(name, MAX_NAME_BYTES))
        return err_set(e, WATT_EFORMAT, "%s: entry %" PRIu32 ": no tensor has the name \"%s\"",
                       m->path, m->n_entries, name_show(shown, name));
    m->entries[m->n_entries] = (struct entry){ m->names.len, name.len, m->n_values, n };
    str_append(&m->names, name.data, name.len);
    if (!str_ok(&m->names))
        return err_set(e, WATT_ENOMEM, "%s: names", m->path);
    if (name_table_put(&m->table, m->n_entries, entry_name, m) != NAME_NONE)
        return err_set(e, WATT_EFORMAT, "%s: entry \"%s\" is there twice", m->path,
                       name_show(shown, name));
    m->n_values += n;
    m->n_entries++;
    return 0;
}

/* ---- legacy ---- */

struct cursor {
    const uint8_t *p;
    size_t         left;
};

/* A count that isn't negative; false when the file ends or it is. */
static bool take_count(struct cursor *c, uint32_t *out)
{
    if (c->left < 4)
        return false;
    *out = load_le32(c->p);
    c->p += 4;
    c->left -= 4;
    return *out <= INT32_MAX;
}

static bool take_bytes(struct cursor *c, size_t n, const uint8_t **out)
{
    if (c->left < n)
        return false;
    *out = c->p;
    c->p += n;
    c->left -= n;
    return true;
}

static int read_legacy_entry(struct imatrix *m, struct cursor *c, struct err *e)
{
    uint32_t name_len, calls, n;
    const uint8_t *name, *values;

    if (!take_count(c, &name_len) || name_len > MAX_NAME_BYTES ||
        !take_bytes(c, name_len, &name) || !take_count(c, &calls) || !take_count(c, &n) ||
        n == 0 || !take_bytes(c, (size_t)n * 4, &values))
        return err_set(e, WATT_EFORMAT,
                       "%s: entry %" PRIu32 " of the importance matrix is cut short or malformed",
                       m->path, m->n_entries);
    for (uint32_t i = 0; i < n; i++)
        m->values[m->n_values + i] =
            load_le_f32(values + (size_t)i * 4) / (calls > 0 ? (float)calls : 1.0f);
    return add_entry(m, (struct sv){ (const char *)name, name_len }, n, e);
}

static int read_legacy(struct imatrix *m, const void *data, size_t size, struct err *e)
{
    struct cursor c = { data, size };
    uint32_t n, len;
    const uint8_t *text;
    int rc;

    /* an entry takes 17 bytes at least: three counts, a letter, a value */
    if (!take_count(&c, &n) || n == 0 || n > c.left / 17 || n > GGUF_MAX_TENSORS)
        return err_set(e, WATT_EFORMAT,
                       "%s: not an importance matrix: neither GGUF nor a legacy file", m->path);
    rc = reserve(m, n, size / 4, e);
    for (uint32_t i = 0; rc == 0 && i < n; i++)
        rc = read_legacy_entry(m, &c, e);
    if (rc == 0 && take_count(&c, &m->n_chunks) && take_count(&c, &len) &&
        len <= MAX_DATASET_BYTES && take_bytes(&c, len, &text))
        str_append(&m->dataset, text, len);
    return rc;
}

/* ---- GGUF ---- */

#define SUMS   ".in_sum2"
#define COUNTS ".counts"

/* Means of one pair of tensors: sums [n_matrices, n_in] over counts [n_matrices]. */
static int read_pair(struct imatrix *m, const struct gguf_tensor *sums,
                     const struct gguf_tensor *counts, struct sv name, struct err *e)
{
    const uint64_t n = (uint64_t)tensor_elems(&sums->t);
    const uint64_t n_matrices = counts ? (uint64_t)tensor_elems(&counts->t) : 0;
    float *to = m->values + m->n_values;
    char shown[NAME_SHOWN];

    if (!counts || counts->t.dtype != DTYPE_F32 || sums->t.dtype != DTYPE_F32 ||
        n % n_matrices != 0)
        return err_set(e, WATT_EFORMAT,
                       "%s: \"%s\" needs an F32 tensor of sums and one of counts that divide it",
                       m->path, name_show(shown, name));
    for (uint64_t k = 0; k < n_matrices; k++) {
        const float count = load_le_f32((const uint8_t *)counts->t.data + k * 4);
        const uint64_t row = n / n_matrices;

        for (uint64_t i = k * row; i < (k + 1) * row; i++)
            /* an expert that the text never reached: every input alike */
            to[i] = count > 0 ? load_le_f32((const uint8_t *)sums->t.data + i * 4) / count : 1.0f;
    }
    return add_entry(m, name, n, e);
}

static int read_pairs(struct imatrix *m, const struct gguf *g, struct err *e)
{
    uint32_t n_entries = 0;
    uint64_t n_values = 0;
    int rc;

    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);

        if (!sv_ends(t->name, SV(SUMS)))
            continue;
        n_entries++;
        n_values += (uint64_t)tensor_elems(&t->t);  /* each is in the file: no overflow */
    }
    if (n_entries == 0)
        return err_set(e, WATT_EFORMAT,
                       "%s: not an importance matrix: it has no tensor whose name ends in " SUMS,
                       m->path);
    rc = reserve(m, n_entries, n_values, e);
    for (size_t i = 0; rc == 0 && i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char other[GGUF_MAX_NAME_BYTES + 1];
        size_t len;

        if (!sv_ends(t->name, SV(SUMS)))
            continue;
        len = t->name.len - strlen(SUMS);
        memcpy(other, t->name.data, len);
        memcpy(other + len, COUNTS, sizeof COUNTS);
        rc = read_pair(m, t, gguf_find_tensor(g, other), (struct sv){ t->name.data, len }, e);
    }
    return rc;
}

static int read_gguf(struct imatrix *m, const void *data, size_t size, struct err *e)
{
    const struct gguf_kv *datasets;
    struct gguf *g;
    struct sv text;
    int rc = gguf_open_memory(&g, data, size, m->path, e);

    if (rc < 0)
        return rc;
    rc = read_pairs(m, g, e);
    if (rc == 0 && gguf_get_u32(g, "imatrix.chunk_count", &m->n_chunks, NULL) < 0)
        m->n_chunks = 0;
    datasets = gguf_find(g, "imatrix.datasets");
    if (rc == 0 && datasets && datasets->n > 0 && gguf_elem_str(g, datasets, 0, &text) &&
        text.len <= MAX_DATASET_BYTES)
        str_append(&m->dataset, text.data, text.len);
    gguf_close(g);
    return rc;
}

int imatrix_open_memory(struct imatrix **out, const void *data, size_t size, const char *name,
                        struct err *e)
{
    struct imatrix *m = mem_calloc(1, sizeof *m);
    int rc;

    if (!m)
        return err_set(e, WATT_ENOMEM, "%s: importance matrix", name);
    str_init(&m->names, 0);
    str_init(&m->dataset, MAX_DATASET_BYTES);
    m->path = mem_strdup(name);
    if (!m->path)
        rc = err_set(e, WATT_ENOMEM, "%s: importance matrix", name);
    else if (size >= 4 && memcmp(data, "GGUF", 4) == 0)
        rc = read_gguf(m, data, size, e);
    else
        rc = read_legacy(m, data, size, e);
    if (rc < 0) {
        imatrix_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

int imatrix_open(struct imatrix **out, const char *path, struct err *e)
{
    struct file_map map = { 0 };
    int rc = file_map_open(&map, path, e);

    if (rc < 0)
        return rc;
    rc = imatrix_open_memory(out, map.data, map.size, path, e);
    file_map_close(&map);
    return rc;
}

void imatrix_close(struct imatrix *m)
{
    if (!m)
        return;
    name_table_deinit(&m->table);
    str_deinit(&m->names);
    str_deinit(&m->dataset);
    mem_free(m->entries);
    mem_free(m->values);
    mem_free(m->path);
    mem_free(m);
}

const char *imatrix_path(const struct imatrix *m)
{
    return m->path;
}

uint32_t imatrix_n_entries(const struct imatrix *m)
{
    return m->n_entries;
}

uint32_t imatrix_n_chunks(const struct imatrix *m)
{
    return m->n_chunks;
}

struct sv imatrix_dataset(const struct imatrix *m)
{
    return sv_of(&m->dataset);
}

const float *imatrix_find(const struct imatrix *m, struct sv name, uint64_t *n)
{
    const uint32_t i = name_table_find(&m->table, name, entry_name, m);

    if (i == NAME_NONE)
        return NULL;
    *n = m->entries[i].n;
    return m->values + m->entries[i].at;
}
