/* checkpoint.c: training state and trained models as files; see checkpoint.h. */
#include "models/train/checkpoint.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "models/quant_mix.h"

#define PIECE 16384u

/* The parameter that a tensor of the file is trained as; NULL: it is not. */
static const struct train_param *trained(const struct train *t, struct sv name)
{
    for (uint32_t i = 0; i < train_n_params(t); i++) {
        const struct train_param *p = train_param(t, i);

        if (p->trains && sv_eq_cstr(name, p->name))
            return p;
    }
    return NULL;
}

/* ---- hash ---- */

struct hash { XXH3_state_t *h; };

static void hash_u64(struct hash *h, uint64_t v)
{
    uint8_t b[8];

    store_le64(b, v);
    (void)XXH3_64bits_update(h->h, b, sizeof b);
}

static void hash_bytes(struct hash *h, const void *p, size_t n)
{
    hash_u64(h, n);
    (void)XXH3_64bits_update(h->h, p, n);
}

static void hash_state(struct hash *h, const struct checkpoint_state *s)
{
    const size_t columns = s->version == 1 ? CHECKPOINT_CURVE - 1 : CHECKPOINT_CURVE;

    hash_u64(h, s->step);
    hash_u64(h, s->tokens);
    hash_u64(h, s->calls);
    hash_u64(h, s->data.n_drawn);
    hash_u64(h, s->n_sources);
    for (size_t i = 0; i < s->n_sources; i++) {
        hash_u64(h, s->data.place[i].epoch);
        hash_u64(h, s->data.place[i].index);
        hash_u64(h, s->data.place[i].piece);
        hash_u64(h, s->data_hash[i]);
    }
    hash_bytes(h, s->setup, strlen(s->setup));
    hash_u64(h, (uint64_t)s->n_points * columns * sizeof(double));
    for (size_t i = 0; i < s->n_points; i++)
        (void)XXH3_64bits_update(h->h, s->curve + i * CHECKPOINT_CURVE, columns * sizeof(double));
}

/* ---- writing ---- */

struct out {
    struct gguf_writer *w;
    const struct gguf  *model;
    const struct train *t;
    const struct optim *o;          /* NULL: none */
    bool                f32;
    const struct lora_spec *lora;   /* NULL: the model itself */
    struct err         *e;
};

static int put_model_keys(const struct out *x, bool bf16)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < gguf_n_kv(x->model); i++) {
        const struct gguf_kv *kv = gguf_kv_at(x->model, i);

        if (!sv_starts(kv->key, SV("train.")) && !sv_starts(kv->key, SV("split.")) &&
            !sv_eq_cstr(kv->key, "general.file_type"))
            rc = gguf_writer_copy(x->w, kv, x->e);
    }
    return rc == 0 ? gguf_writer_u32(x->w, "general.file_type",
                                     quant_mix_info(bf16 ? QUANT_BF16 : QUANT_F32)->file_type, x->e)
                   : rc;
}

static int put_adapter_keys(const struct out *x)
{
    const struct gguf_kv *arch = gguf_find(x->model, "general.architecture");
    int rc = gguf_writer_str(x->w, "general.type", SV("adapter"), x->e);

    if (rc == 0 && arch)
        rc = gguf_writer_copy(x->w, arch, x->e);
    if (rc == 0)
        rc = gguf_writer_str(x->w, "adapter.type", SV("lora"), x->e);
    return rc == 0 ? gguf_writer_f32(x->w, "adapter.lora.alpha", x->lora->alpha, x->e) : rc;
}

static bool keeps(const struct gguf_tensor *g)
{
    return !sv_starts(g->name, SV("opt."));
}

static const char *name_of(char buf[GGUF_MAX_NAME_BYTES + 1], struct sv name)
{
    (void)snprintf(buf, GGUF_MAX_NAME_BYTES + 1, "%.*s", (int)name.len, name.data);
    return buf;
}

static enum dtype type_of(const struct out *x, const struct gguf_tensor *g,
                          const struct train_param *p)
{
    if (!p)
        return g->t.dtype;
    return x->f32 ? DTYPE_F32 : p->serve;
}

static int describe_adapter(const struct out *x)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < train_n_params(x->t); i++) {
        const struct train_param *p = train_param(x->t, i);

        if (p->trains)
            rc = gguf_writer_tensor(x->w, p->name, x->f32 ? DTYPE_F32 : p->serve, p->shape.n_dims,
                                    p->shape.shape, x->e);
    }
    return rc;
}

static int describe_model(const struct out *x)
{
    char name[GGUF_MAX_NAME_BYTES + 1];
    int rc = 0;

    if (x->lora)
        return describe_adapter(x);

    for (size_t i = 0; rc == 0 && i < gguf_n_tensors(x->model); i++) {
        const struct gguf_tensor *g = gguf_tensor_at(x->model, i);

        if (keeps(g))
            rc = gguf_writer_tensor(x->w, name_of(name, g->name),
                                    type_of(x, g, trained(x->t, g->name)), g->t.n_dims, g->t.shape,
                                    x->e);
    }
    return rc;
}

static int put_bf16(const struct out *x, const float *w, uint64_t n)
{
    uint16_t buf[PIECE / 8];
    int rc = 0;

    for (uint64_t at = 0; rc == 0 && at < n;) {
        const size_t m = n - at < PIECE / 8 ? (size_t)(n - at) : PIECE / 8;

        for (size_t i = 0; i < m; i++)
            store_le16(&buf[i], f32_to_bf16(w[at + i]));
        rc = gguf_writer_data(x->w, buf, m * sizeof *buf, x->e);
        at += m;
    }
    return rc;
}

static int put_adapter(const struct out *x)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < train_n_params(x->t); i++) {
        const struct train_param *p = train_param(x->t, i);

        if (p->trains && !x->f32 && p->serve == DTYPE_BF16)
            rc = put_bf16(x, p->w, p->n);
        else if (p->trains)
            rc = gguf_writer_data(x->w, p->w, (size_t)p->n * sizeof(float), x->e);
    }
    return rc;
}

static int put_model(const struct out *x)
{
    int rc = 0;

    if (x->lora)
        return put_adapter(x);

    for (size_t i = 0; rc == 0 && i < gguf_n_tensors(x->model); i++) {
        const struct gguf_tensor *g = gguf_tensor_at(x->model, i);
        const struct train_param *p = trained(x->t, g->name);

        if (!keeps(g))
            continue;
        if (!p)
            rc = gguf_writer_data(x->w, g->t.data, (size_t)g->t.size_bytes, x->e);
        else if (type_of(x, g, p) == DTYPE_BF16)
            rc = put_bf16(x, p->w, p->n);
        else
            rc = gguf_writer_data(x->w, p->w, (size_t)p->n * sizeof(float), x->e);
    }
    return rc;
}

/* Every trained parameter is a tensor of the file, in a type that we write. */
static int check_params(const struct out *x)
{
    for (uint32_t i = 0; i < train_n_params(x->t); i++) {
        const struct train_param *p = train_param(x->t, i);
        const struct gguf_tensor *g = p->trains ? gguf_find_tensor(x->model, p->name) : NULL;

        if (!p->trains)
            continue;
        if (x->lora ? !lora_is_name(p->name) : !g || (uint64_t)tensor_elems(&g->t) != p->n)
            return err_set(x->e, WATT_ENOTSUP, "%s: %s is trained but is no tensor of the file",
                           gguf_path(x->model), p->name);
        if (!x->f32 && p->serve != DTYPE_F32 && p->serve != DTYPE_BF16)
            return err_set(x->e, WATT_ENOTSUP, "%s: is served as %s", p->name,
                           dtype_name((uint32_t)p->serve));
    }
    return 0;
}

static bool serves_bf16(const struct train *t)
{
    for (uint32_t i = 0; i < train_n_params(t); i++)
        if (train_param(t, i)->trains && train_param(t, i)->serve == DTYPE_BF16)
            return true;
    return false;
}

static int finish(struct out *x, int rc)
{
    if (rc == 0)
        return gguf_writer_commit(x->w, x->e);
    gguf_writer_abort(x->w);
    return rc;
}

int export_write(const char *path, const struct gguf *model, const struct train *t, bool f32,
                 const struct lora_spec *lora, struct err *e)
{
    struct out x = { .model = model, .t = t, .f32 = f32, .lora = lora, .e = e };
    int rc = check_params(&x);

    if (rc == 0)
        rc = gguf_writer_open(&x.w, path, e);
    if (rc < 0)
        return rc;
    rc = lora ? put_adapter_keys(&x) : put_model_keys(&x, !f32 && serves_bf16(t));
    if (rc == 0)
        rc = describe_model(&x);
    if (rc == 0)
        rc = gguf_writer_begin(x.w, e);
    if (rc == 0)
        rc = put_model(&x);
    return finish(&x, rc);
}

/* The hash of everything that a run goes on from. */
static int hash_all(const struct train *t, const struct optim *o, const struct checkpoint_state *s,
                    uint64_t *out, struct err *e)
{
    struct hash h = { XXH3_createState() };

    if (!h.h)
        return err_set(e, WATT_ENOMEM, "out of memory for a checkpoint");
    (void)XXH3_64bits_reset(h.h);
    hash_state(&h, s);
    for (uint32_t i = 0; i < train_n_params(t); i++) {
        const struct train_param *p = train_param(t, i);

        if (p->trains)
            hash_bytes(&h, p->w, (size_t)p->n * sizeof(float));
    }
    for (size_t i = 0; o && i < optim_n_arrays(o); i++) {
        const struct optim_array a = optim_array_at(o, i);

        hash_bytes(&h, a.data, (size_t)a.n * sizeof(float));
    }
    *out = XXH3_64bits_digest(h.h);
    (void)XXH3_freeState(h.h);
    return 0;
}

static int put_state(const struct out *x, const struct checkpoint_state *s, uint64_t hash)
{
    static const char *const names[] = { "train.step", "train.tokens", "train.calls",
                                         "train.drawn", "train.hash" };
    const uint64_t values[] = { s->step, s->tokens, s->calls, s->data.n_drawn, hash };
    uint64_t *places = mem_array(3 * s->n_sources + 1, sizeof *places);
    struct gguf_writer *w = x->w;
    int rc = places ? gguf_writer_u32(w, "train.version", CHECKPOINT_VERSION, x->e)
                    : err_set(x->e, WATT_ENOMEM, "out of memory for a checkpoint");

    for (size_t i = 0; rc == 0 && i < 5; i++)
        rc = gguf_writer_u64(w, names[i], values[i], x->e);
    for (size_t i = 0; rc == 0 && i < s->n_sources; i++) {
        store_le64(&places[3 * i], s->data.place[i].epoch);
        store_le64(&places[3 * i + 1], s->data.place[i].index);
        store_le64(&places[3 * i + 2], s->data.place[i].piece);
    }
    if (rc == 0)
        rc = gguf_writer_array(w, "train.place", GGUF_U64, places, 3 * s->n_sources, x->e);
    for (size_t i = 0; rc == 0 && i < s->n_sources; i++)
        store_le64(&places[i], s->data_hash[i]);
    if (rc == 0)
        rc = gguf_writer_array(w, "train.data", GGUF_U64, places, s->n_sources, x->e);
    if (rc == 0)
        rc = gguf_writer_str(w, "train.setup", sv_cstr(s->setup), x->e);
    if (rc == 0)
        rc = gguf_writer_array(w, "train.curve", GGUF_F64, s->curve,
                               s->n_points * CHECKPOINT_CURVE, x->e);
    mem_free(places);
    return rc;
}

static void array_name(char buf[GGUF_MAX_NAME_BYTES + 1], const struct optim_array *a)
{
    (void)snprintf(buf, GGUF_MAX_NAME_BYTES + 1, "opt.%s.%s", a->kind, a->slot->name);
}

static int describe_arrays(const struct out *x)
{
    char name[GGUF_MAX_NAME_BYTES + 1];
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < optim_n_arrays(x->o); i++) {
        const struct optim_array a = optim_array_at(x->o, i);
        const struct train_param *p = trained(x->t, sv_cstr(a.slot->name));

        array_name(name, &a);
        CHECK(p);
        rc = gguf_writer_tensor(x->w, name, DTYPE_F32, p->shape.n_dims, p->shape.shape, x->e);
    }
    return rc;
}

int checkpoint_write(const char *path, const struct gguf *model, const struct train *t,
                     const struct optim *o, const struct checkpoint_state *s,
                     const struct lora_spec *lora, struct err *e)
{
    struct out x = { .model = model, .t = t, .o = o, .f32 = true, .lora = lora, .e = e };
    uint64_t hash = 0;
    int rc = check_params(&x);

    if (rc == 0)
        rc = hash_all(t, o, s, &hash, e);
    if (rc == 0)
        rc = gguf_writer_open(&x.w, path, e);
    if (rc < 0)
        return rc;
    rc = lora ? put_adapter_keys(&x) : put_model_keys(&x, false);
    if (rc == 0)
        rc = put_state(&x, s, hash);
    if (rc == 0)
        rc = describe_model(&x);
    if (rc == 0)
        rc = describe_arrays(&x);
    if (rc == 0)
        rc = gguf_writer_begin(x.w, e);
    if (rc == 0)
        rc = put_model(&x);
    for (size_t i = 0; rc == 0 && i < optim_n_arrays(o); i++) {
        const struct optim_array a = optim_array_at(o, i);

        rc = gguf_writer_data(x.w, a.data, (size_t)a.n * sizeof(float), e);
    }
    return finish(&x, rc);
}

/* ---- reading ---- */

bool checkpoint_is(const struct gguf *g)
{
    return gguf_find(g, "train.version") != NULL;
}

void checkpoint_state_deinit(struct checkpoint_state *s)
{
    mem_free(s->curve);
    *s = (struct checkpoint_state){ 0 };
}

static int read_array(const struct gguf *g, const char *key, enum gguf_type type, uint64_t max,
                      const struct gguf_kv **out, struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, key);

    if (!kv || !kv->is_array || kv->type != type || kv->n > max)
        return err_set(e, WATT_EFORMAT, "%s: %s is no array of at most %" PRIu64 " numbers",
                       gguf_path(g), key, max);
    *out = kv;
    return 0;
}

static int read_places(const struct gguf *g, struct checkpoint_state *s, struct err *e)
{
    const struct gguf_kv *place, *data;
    int rc = read_array(g, "train.place", GGUF_U64, 3 * DATASET_MAX_SOURCES, &place, e);

    if (rc == 0)
        rc = read_array(g, "train.data", GGUF_U64, DATASET_MAX_SOURCES, &data, e);
    if (rc < 0)
        return rc;
    if (place->n != 3 * data->n)
        return err_set(e, WATT_EFORMAT, "%s: train.place has %" PRIu64 " numbers for %" PRIu64
                       " shards", gguf_path(g), place->n, data->n);
    s->n_sources = (size_t)data->n;
    for (size_t i = 0; i < s->n_sources; i++) {
        s->data.place[i].epoch = load_le64(place->data + 24 * i);
        s->data.place[i].index = load_le64(place->data + 24 * i + 8);
        s->data.place[i].piece = load_le64(place->data + 24 * i + 16);
        s->data_hash[i] = load_le64(data->data + 8 * i);
    }
    return 0;
}

/* columns: as the file has them; the one that version 1 lacks is not known. */
static int read_curve(const struct gguf *g, uint32_t columns, struct checkpoint_state *s,
                      struct err *e)
{
    const struct gguf_kv *kv;
    const int rc = read_array(g, "train.curve", GGUF_F64, GGUF_MAX_ARRAY, &kv, e);

    if (rc < 0)
        return rc;
    if (kv->n % columns != 0 || kv->n / columns > CHECKPOINT_MAX_POINTS)
        return err_set(e, WATT_EFORMAT, "%s: train.curve has %" PRIu64 " numbers, no multiple of %"
                       PRIu32, gguf_path(g), kv->n, columns);
    s->n_points = (size_t)kv->n / columns;
    s->curve = mem_array(s->n_points * CHECKPOINT_CURVE + 1, sizeof *s->curve);
    if (!s->curve)
        return err_set(e, WATT_ENOMEM, "%s: out of memory", gguf_path(g));
    for (size_t i = 0; i < s->n_points; i++)
        for (uint32_t k = 0; k < CHECKPOINT_CURVE; k++)
            s->curve[i * CHECKPOINT_CURVE + k] =
                k < columns ? load_le_f64(kv->data + 8 * (i * columns + k)) : NAN;
    return 0;
}

static int read_state(const struct gguf *g, struct checkpoint_state *s, uint64_t *hash,
                      struct err *e)
{
    struct sv setup;
    uint32_t version = 0;
    int rc;

    if (!checkpoint_is(g))
        return err_set(e, WATT_EFORMAT, "%s: is a model but no checkpoint of a training run",
                       gguf_path(g));
    rc = gguf_get_u32(g, "train.version", &version, e);
    if (rc == 0 && (version == 0 || version > CHECKPOINT_VERSION))
        rc = err_set(e, WATT_EFORMAT, "%s: train.version is %" PRIu32 ", expected at most %u",
                     gguf_path(g), version, CHECKPOINT_VERSION);
    s->version = version;
    if (rc == 0)
        rc = gguf_get_u64(g, "train.step", &s->step, e);
    if (rc == 0)
        rc = gguf_get_u64(g, "train.tokens", &s->tokens, e);
    if (rc == 0)
        rc = gguf_get_u64(g, "train.calls", &s->calls, e);
    if (rc == 0)
        rc = gguf_get_u64(g, "train.drawn", &s->data.n_drawn, e);
    if (rc == 0)
        rc = gguf_get_u64(g, "train.hash", hash, e);
    if (rc == 0)
        rc = gguf_get_str(g, "train.setup", &setup, e);
    if (rc == 0 && (setup.len >= sizeof s->setup || memchr(setup.data, 0, setup.len)))
        rc = err_set(e, WATT_EFORMAT, "%s: train.setup is too long", gguf_path(g));
    if (rc < 0)
        return rc == WATT_ENOENT ? err_set(e, WATT_EFORMAT, "%s", e ? e->msg : "") : rc;
    memcpy(s->setup, setup.data, setup.len);
    rc = read_places(g, s, e);
    return rc == 0 ? read_curve(g, version == 1 ? CHECKPOINT_CURVE - 1 : CHECKPOINT_CURVE, s, e)
                   : rc;
}

/* The data of a tensor of n floats. */
static int find_floats(const struct gguf *g, const char *name, uint64_t n, const void **out,
                       struct err *e)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, name);

    if (!t || t->t.dtype != DTYPE_F32 || (uint64_t)tensor_elems(&t->t) != n)
        return err_set(e, WATT_EFORMAT, "%s: %s is no tensor of %" PRIu64 " F32 numbers: a "
                       "checkpoint of another model or optimiser", gguf_path(g), name, n);
    *out = t->t.data;
    return 0;
}

typedef int each_fn(void *arg, float *to, const void *from, uint64_t n);

/* Weights, then moments, in the order of hash_all. */
static int each(const struct gguf *g, struct train *t, struct optim *o, each_fn *fn, void *arg,
                struct err *e)
{
    char name[GGUF_MAX_NAME_BYTES + 1];
    const void *from;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < train_n_params(t); i++) {
        const struct train_param *p = train_param(t, i);

        if (!p->trains)
            continue;
        rc = find_floats(g, p->name, p->n, &from, e);
        rc = rc == 0 ? fn(arg, p->w, from, p->n) : rc;
    }
    for (size_t i = 0; rc == 0 && o && i < optim_n_arrays(o); i++) {
        const struct optim_array a = optim_array_at(o, i);

        array_name(name, &a);
        rc = find_floats(g, name, a.n, &from, e);
        rc = rc == 0 ? fn(arg, a.data, from, a.n) : rc;
    }
    return rc;
}

static int each_hash(void *arg, float *to, const void *from, uint64_t n)
{
    (void)to;
    hash_bytes(arg, from, (size_t)n * sizeof(float));
    return 0;
}

static int each_copy(void *arg, float *to, const void *from, uint64_t n)
{
    (void)arg;
    memcpy(to, from, (size_t)n * sizeof(float));
    return 0;
}

int checkpoint_read(const char *path, struct train *t, struct optim *o,
                    struct checkpoint_state *s, struct err *e)
{
    struct hash h = { NULL };
    struct gguf *g = NULL;
    uint64_t expected = 0;
    int rc;

    *s = (struct checkpoint_state){ 0 };
    rc = gguf_open(&g, path, e);
    if (rc == 0)
        rc = read_state(g, s, &expected, e);
    if (rc == 0) {
        h.h = XXH3_createState();
        rc = h.h ? 0 : err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    }
    if (rc == 0) {
        (void)XXH3_64bits_reset(h.h);
        hash_state(&h, s);
        rc = each(g, t, o, each_hash, &h, e);
    }
    if (rc == 0 && XXH3_64bits_digest(h.h) != expected)
        rc = err_set(e, WATT_EFORMAT, "%s: is damaged: the hash of its contents does not fit", path);
    if (rc == 0)
        rc = each(g, t, o, each_copy, NULL, e);
    if (h.h)
        (void)XXH3_freeState(h.h);
    gguf_close(g);
    if (rc < 0)
        checkpoint_state_deinit(s);
    return rc;
}

int checkpoint_peek(const char *path, struct checkpoint_state *s, struct err *e)
{
    struct gguf *g = NULL;
    uint64_t hash = 0;
    int rc;

    *s = (struct checkpoint_state){ 0 };
    rc = gguf_open(&g, path, e);
    if (rc == 0)
        rc = read_state(g, s, &hash, e);
    gguf_close(g);
    if (rc < 0)
        checkpoint_state_deinit(s);
    return rc;
}
