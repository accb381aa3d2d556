/* lora_merge.c: adapters merged into the weights of a model; see lora.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "models/lora_internal.h"

static enum dtype merged_type(enum dtype t)
{
    return t == DTYPE_BF16 || t == DTYPE_F16 ? DTYPE_BF16 : DTYPE_F32;
}

static const char *name_of(char buf[GGUF_MAX_NAME_BYTES + 1], struct sv name)
{
    (void)snprintf(buf, GGUF_MAX_NAME_BYTES + 1, "%.*s", (int)name.len, name.data);
    return buf;
}

/* Does it adapt the embedding or the head where one tensor is both? The other is no part of it. */
static bool parts_head(const struct gguf *base, const struct target *t)
{
    return strcmp(t->name, EMBEDDING) == 0 && !gguf_find_tensor(base, "output.weight");
}

static bool fits_tensor(const struct target *t, const struct tensor *w)
{
    const int i = t->mats ? 1 : 0;

    if (t->table)
        return w->n_dims == 2 && w->shape[0] == t->n_in && w->shape[1] == t->n_out;
    return w->n_dims == i + 2 && w->shape[i] == t->n_out && w->shape[i + 1] == t->n_in &&
           (i == 0 || w->shape[0] == t->mats);
}

static int check_fits(const struct gguf *base, const struct lora *l, struct err *e)
{
    struct sv arch;

    if (gguf_get_str(base, "general.architecture", &arch, e) < 0)
        return err_set(e, WATT_EFORMAT, "%s: has no general.architecture", gguf_path(base));
    if (!sv_eq_cstr(arch, l->arch))
        return err_set(e, WATT_EINVAL, "%s: is of architecture %s, the model of %.*s", lora_path(l),
                       l->arch, (int)arch.len, arch.data);
    for (size_t i = 0; i < l->n_targets; i++) {
        const struct target *t = &l->targets[i];
        const struct gguf_tensor *g = gguf_find_tensor(base, t->name);

        if (!g || !fits_tensor(t, &g->t))
            return err_set(e, WATT_EINVAL, "%s: %s is no matrix of %" PRIu32 " by %" PRIu32
                           " in %s", lora_path(l), t->name, t->table ? t->n_in : t->n_out,
                           t->table ? t->n_out : t->n_in, gguf_path(base));
        if (strcmp(t->name, EMBEDDING) == 0 && !t->table && !parts_head(base, t))
            return err_set(e, WATT_EINVAL, "%s: %s is adapted, but is no product of %s",
                           lora_path(l), t->name, gguf_path(base));
        if (!dtype_info((uint32_t)g->t.dtype)->dequant)
            return err_set(e, WATT_ENOTSUP, "%s: %s has type %s", gguf_path(base), t->name,
                           dtype_name((uint32_t)g->t.dtype));
    }
    return 0;
}

static uint64_t merged_rows(const struct target *t)
{
    return t->table ? t->n_in : (uint64_t)t->n_out * (t->mats ? t->mats : 1);
}

static uint32_t merged_width(const struct target *t)
{
    return t->table ? t->n_out : t->n_in;
}

/* Row o of an embedding: W + s A B^T. */
static void merge_table_row(float *row, const struct target *t, uint64_t o)
{
    for (uint32_t i = 0; i < t->n_out; i++)
        for (uint32_t k = 0; k < t->rank; k++)
            row[i] += t->scale * t->a[o * t->rank + k] * t->b[(size_t)i * t->rank + k];
}

/* Row o, of all matrices' rows, of W + s B A. */
static void merge_row(float *row, const struct gguf_tensor *g, const struct target *t, uint64_t o)
{
    const struct dtype_info *info = dtype_info((uint32_t)g->t.dtype);
    const float *a = t->table ? NULL : t->a + o / t->n_out * t->rank * t->n_in;

    info->dequant(row, (const uint8_t *)g->t.data + o * (g->t.size_bytes / merged_rows(t)),
                  merged_width(t));
    if (t->table) {
        merge_table_row(row, t, o);
        return;
    }
    for (uint32_t k = 0; k < t->rank; k++) {
        const float f = t->scale * t->b[o * t->rank + k];

        for (uint32_t i = 0; i < t->n_in; i++)
            row[i] += f * a[(size_t)k * t->n_in + i];
    }
}

static int put_merged(struct gguf_writer *w, const struct gguf_tensor *g, const struct target *t,
                      struct err *e)
{
    const uint64_t rows = merged_rows(t);
    const uint32_t width = merged_width(t);
    float *row = mem_array(width, sizeof *row);
    uint16_t *half = mem_array(width, sizeof *half);
    int rc = row && half ? 0 : err_set(e, WATT_ENOMEM, "adapter: out of memory");

    for (uint64_t o = 0; rc == 0 && o < rows; o++) {
        merge_row(row, g, t, o);
        if (merged_type(g->t.dtype) == DTYPE_F32) {
            rc = gguf_writer_data(w, row, width * sizeof *row, e);
            continue;
        }
        for (uint32_t i = 0; i < width; i++)
            store_le16(&half[i], f32_to_bf16(row[i]));
        rc = gguf_writer_data(w, half, width * sizeof *half, e);
    }
    mem_free(row);
    mem_free(half);
    return rc;
}

/* Tensor i of base, as it stands or merged; a head beside its embedding follows the others, as
 * tensor gguf_n_tensors(base). */
struct merge {
    struct gguf_writer *w;
    const struct gguf *base;
    const struct lora *l;
    bool parts;                     /* the head becomes a tensor of its own */
    const struct target *head;      /* of it; NULL: as it stands */
};

static const struct gguf_tensor *merge_at(const struct merge *m, size_t i, const struct target **t,
                                          char name[GGUF_MAX_NAME_BYTES + 1])
{
    const struct gguf_tensor *g;

    if (i == gguf_n_tensors(m->base)) {
        *t = m->head;
        (void)snprintf(name, GGUF_MAX_NAME_BYTES + 1, "output.weight");
        return gguf_find_tensor(m->base, EMBEDDING);
    }
    g = gguf_tensor_at(m->base, i);
    *t = lora_target(m->l, name_of(name, g->name));
    if (*t == m->head)
        *t = NULL;
    return g;
}

static int write_merged(const struct merge *m, struct err *e)
{
    const size_t n = gguf_n_tensors(m->base) + (m->parts ? 1 : 0);
    char name[GGUF_MAX_NAME_BYTES + 1];
    const struct target *t;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < gguf_n_kv(m->base); i++)
        if (!sv_starts(gguf_kv_at(m->base, i)->key, SV("split.")))
            rc = gguf_writer_copy(m->w, gguf_kv_at(m->base, i), e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct gguf_tensor *g = merge_at(m, i, &t, name);

        rc = gguf_writer_tensor(m->w, name, t ? merged_type(g->t.dtype) : g->t.dtype, g->t.n_dims,
                                g->t.shape, e);
    }
    if (rc == 0)
        rc = gguf_writer_begin(m->w, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct gguf_tensor *g = merge_at(m, i, &t, name);

        rc = t ? put_merged(m->w, g, t, e)
               : gguf_writer_data(m->w, g->t.data, (size_t)g->t.size_bytes, e);
    }
    return rc;
}

int lora_merge(const char *path, const struct gguf *base, const struct lora *l, struct err *e)
{
    struct merge m = { .base = base, .l = l };
    int rc = check_fits(base, l, e);

    for (size_t i = 0; rc == 0 && i < l->n_targets; i++)
        if (parts_head(base, &l->targets[i])) {
            m.parts = true;
            m.head = l->targets[i].table ? NULL : &l->targets[i];
        }
    if (rc == 0)
        rc = gguf_writer_open(&m.w, path, e);
    if (rc < 0)
        return rc;
    rc = write_merged(&m, e);
    if (rc == 0)
        return gguf_writer_commit(m.w, e);
    gguf_writer_abort(m.w);
    return rc;
}
