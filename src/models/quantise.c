/* quantise.c: plans and writes a model file in another type; see quantise.h. */
#include "models/quantise.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "models/name_table.h"

struct quantise_plan {
    const struct gguf      *g;
    struct quantise_options options;
    struct quantise_tensor *tensors;
    size_t                  n_tensors;
};

/* ---- planning ---- */

/* First element of a number or array under "ARCHITECTURE.key"; 0: absent or none. */
static uint32_t arch_number(const struct gguf *g, const char *key)
{
    const struct gguf_kv *kv;
    struct sv arch;
    char name[256];
    int64_t v;
    int n;

    if (gguf_get_str(g, "general.architecture", &arch, NULL) < 0 || arch.len > 64)
        return 0;
    n = snprintf(name, sizeof name, "%.*s.%s", (int)arch.len, arch.data, key);
    if (n < 0 || (size_t)n >= sizeof name)
        return 0;
    kv = gguf_find(g, name);
    if (!kv || kv->n == 0 || !gguf_elem_i64(kv, 0, &v) || v < 0 || v > UINT32_MAX)
        return 0;
    return (uint32_t)v;
}

static struct quant_model model_facts(const struct gguf *g, const struct quantise_options *o)
{
    const uint32_t heads = arch_number(g, "attention.head_count");
    const uint32_t kv_heads = arch_number(g, "attention.head_count_kv");

    return (struct quant_model){
        .n_layers = arch_number(g, "block_count"),
        .n_experts = arch_number(g, "expert_count"),
        .n_gqa = kv_heads > 0 && heads > kv_heads ? heads / kv_heads : 1,
        .tied = gguf_find_tensor(g, "output.weight") == NULL,
        .importance = o->importance != NULL,
    };
}

static bool fits_rows(enum dtype type, const struct tensor *t)
{
    return tensor_row(t) % (int64_t)dtype_info((uint32_t)type)->block_elems == 0;
}

static bool is_quantised(enum dtype type)
{
    return dtype_info((uint32_t)type)->quantised;
}

/* The type that the options ask for, whether it fits or not. */
static enum dtype wanted_type(const struct quantise_plan *p, const struct quant_model *m,
                              struct quantise_tensor *t)
{
    const struct quantise_options *o = &p->options;
    const struct tensor *source = &t->source->t;
    const enum dtype base = quant_mix_info(o->mix)->base;
    enum dtype type;

    if (o->keep || (o->keep_quantised && is_quantised(source->dtype)) ||
        dtype_info((uint32_t)source->dtype)->dequant == NULL ||
        !quant_mix_applies(t->source->name, source->n_dims))
        return source->dtype;
    if (o->has_embedding_type && sv_eq_cstr(t->source->name, "token_embd.weight"))
        return o->embedding_type;
    if (o->has_output_type &&
        sv_eq_cstr(t->source->name, m->tied ? "token_embd.weight" : "output.weight"))
        return o->output_type;
    if (o->pure && fits_rows(base, source))
        return base;
    type = quant_mix_pick(o->mix, m, t->source->name, source->n_dims, tensor_row(source));
    t->substituted = !fits_rows(base, source);
    return type;
}

static int check_type(const struct quantise_plan *p, struct quantise_tensor *t, struct err *e)
{
    const struct tensor *source = &t->source->t;
    char shown[NAME_SHOWN];

    if (t->type == source->dtype)
        return 0;
    if (!dtype_info((uint32_t)t->type)->quant)
        return err_set(e, WATT_ENOTSUP, "%s: tensor \"%s\" would be %s, for which there is no "
                       "quantiser", gguf_path(p->g), name_show(shown, t->source->name),
                       dtype_name((uint32_t)t->type));
    if (!fits_rows(t->type, source))
        return err_set(e, WATT_EINVAL, "%s: tensor \"%s\": rows of %" PRId64 " elements are no "
                       "whole blocks of %s, which has %" PRIu32, gguf_path(p->g),
                       name_show(shown, t->source->name), tensor_row(source),
                       dtype_name((uint32_t)t->type), dtype_info((uint32_t)t->type)->block_elems);
    t->requantised = is_quantised(source->dtype) && is_quantised(t->type);
    if (t->requantised && !p->options.allow_requantise)
        return err_set(e, WATT_EINVAL, "%s: tensor \"%s\" is %s already; to quantise it again to "
                       "%s loses quality twice and must be allowed", gguf_path(p->g),
                       name_show(shown, t->source->name), dtype_name((uint32_t)source->dtype),
                       dtype_name((uint32_t)t->type));
    return 0;
}

/* Finds the tensor's row of importance, or one for each of its experts. */
static int find_importance(const struct quantise_plan *p, struct quantise_tensor *t,
                           struct err *e)
{
    const struct tensor *source = &t->source->t;
    const uint64_t row = (uint64_t)tensor_row(source);
    const uint64_t experts = source->n_dims == 3 ? (uint64_t)source->shape[0] : 1;
    const float *values;
    char shown[NAME_SHOWN];
    uint64_t n;

    if (!p->options.importance || t->type == source->dtype || !is_quantised(t->type))
        return 0;
    values = imatrix_find(p->options.importance, t->source->name, &n);
    if (!values)
        return 0;
    if (n != row && n != row * experts)
        return err_set(e, WATT_EFORMAT, "%s: \"%s\" has %" PRIu64 " values, the tensor of %s "
                       "needs %" PRIu64 ": is it of another model?",
                       imatrix_path(p->options.importance), name_show(shown, t->source->name), n,
                       gguf_path(p->g), row * experts);
    t->importance = values;
    t->n_importance = n;
    return 0;
}

static int plan_tensor(const struct quantise_plan *p, const struct quant_model *m,
                       struct quantise_tensor *t, struct err *e)
{
    int rc;

    t->type = wanted_type(p, m, t);
    rc = check_type(p, t, e);
    if (rc == 0)
        rc = find_importance(p, t, e);
    if (rc == 0 && !dtype_row_bytes((uint32_t)t->type, (uint64_t)tensor_elems(&t->source->t),
                                    &t->size_bytes))
        rc = err_set(e, WATT_EINVAL, "%s: a tensor of %" PRId64 " elements is too big",
                     gguf_path(p->g), tensor_elems(&t->source->t));
    return rc;
}

int quantise_plan_open(struct quantise_plan **out, const struct gguf *g,
                       const struct quantise_options *options, struct err *e)
{
    struct quantise_plan *p = mem_calloc(1, sizeof *p);
    const struct quant_model facts = model_facts(g, options);
    int rc = 0;

    if (!p)
        return err_set(e, WATT_ENOMEM, "quantise: plan");
    p->g = g;
    p->options = *options;
    p->n_tensors = gguf_n_tensors(g);
    p->tensors = mem_calloc(p->n_tensors, sizeof *p->tensors);
    if (!p->tensors)
        rc = err_set(e, WATT_ENOMEM, "quantise: plan of %zu tensors", p->n_tensors);
    for (size_t i = 0; rc == 0 && i < p->n_tensors; i++) {
        p->tensors[i].source = gguf_tensor_at(g, i);
        rc = plan_tensor(p, &facts, &p->tensors[i], e);
    }
    if (rc < 0) {
        quantise_plan_close(p);
        return rc;
    }
    *out = p;
    return 0;
}

void quantise_plan_close(struct quantise_plan *p)
{
    if (!p)
        return;
    mem_free(p->tensors);
    mem_free(p);
}

size_t quantise_plan_n_tensors(const struct quantise_plan *p)
{
    return p->n_tensors;
}

const struct quantise_tensor *quantise_plan_tensor(const struct quantise_plan *p, size_t i)
{
    CHECK(i < p->n_tensors);
    return &p->tensors[i];
}

struct quantise_summary quantise_plan_summary(const struct quantise_plan *p)
{
    struct quantise_summary s = { .n_tensors = (uint32_t)p->n_tensors };

    for (size_t i = 0; i < p->n_tensors; i++) {
        const struct quantise_tensor *t = &p->tensors[i];
        const bool changed = t->type != t->source->t.dtype;

        s.source_bytes += t->source->t.size_bytes;
        s.bytes += t->size_bytes;
        s.n_elems += (uint64_t)tensor_elems(&t->source->t);
        s.n_changed += changed;
        s.n_requantised += t->requantised;
        s.n_substituted += t->substituted;
        s.n_weighted += t->importance != NULL;
        s.n_unweighted += changed && is_quantised(t->type) && p->options.importance &&
                          !t->importance;
    }
    return s;
}

/* ---- keys ---- */

static bool is_replaced(struct sv key)
{
    return sv_eq_cstr(key, "general.file_type") ||
           sv_eq_cstr(key, "general.quantization_version") || sv_starts(key, SV("split.")) ||
           sv_starts(key, SV("quantize.imatrix."));
}

static int write_importance_keys(struct gguf_writer *w, const struct imatrix *m, struct err *e)
{
    const struct sv dataset = imatrix_dataset(m);
    int rc = gguf_writer_str(w, "quantize.imatrix.file", sv_cstr(imatrix_path(m)), e);

    if (rc == 0 && dataset.len > 0)
        rc = gguf_writer_str(w, "quantize.imatrix.dataset", dataset, e);
    if (rc == 0)
        rc = gguf_writer_u32(w, "quantize.imatrix.entries_count", imatrix_n_entries(m), e);
    if (rc == 0 && imatrix_n_chunks(m) > 0)
        rc = gguf_writer_u32(w, "quantize.imatrix.chunks_count", imatrix_n_chunks(m), e);
    return rc;
}

/* The file_type: the mix's, or, where every tensor keeps its type, that of the type with the most
 * bytes; UINT32_MAX: none has its number. */
static uint32_t file_type(const struct quantise_plan *p)
{
    uint64_t bytes[DTYPE_COUNT] = { 0 };
    enum dtype most = DTYPE_F32;

    if (!p->options.keep)
        return quant_mix_info(p->options.mix)->file_type;
    for (size_t i = 0; i < p->n_tensors; i++) {
        const enum dtype type = p->tensors[i].type;

        bytes[type] += p->tensors[i].size_bytes;
        if (bytes[type] > bytes[most])
            most = type;
    }
    for (int i = 0; i < QUANT_MIX_COUNT; i++)
        if (quant_mix_info((enum quant_mix)i)->base == most)
            return quant_mix_info((enum quant_mix)i)->file_type;
    return UINT32_MAX;
}

static int write_header(const struct quantise_plan *p, struct gguf_writer *w, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < gguf_n_kv(p->g); i++)
        if (!is_replaced(gguf_kv_at(p->g, i)->key))
            rc = gguf_writer_copy(w, gguf_kv_at(p->g, i), e);
    if (rc == 0 && file_type(p) != UINT32_MAX)
        rc = gguf_writer_u32(w, "general.file_type", file_type(p), e);
    if (rc == 0)
        rc = gguf_writer_u32(w, "general.quantization_version", QUANTISE_VERSION, e);
    if (rc == 0 && p->options.importance)
        rc = write_importance_keys(w, p->options.importance, e);
    for (size_t i = 0; rc == 0 && i < p->n_tensors; i++) {
        const struct quantise_tensor *t = &p->tensors[i];
        char name[GGUF_MAX_NAME_BYTES + 1];

        memcpy(name, t->source->name.data, t->source->name.len);
        name[t->source->name.len] = '\0';
        rc = gguf_writer_tensor(w, name, t->type, t->source->t.n_dims, t->source->t.shape, e);
    }
    return rc == 0 ? gguf_writer_begin(w, e) : rc;
}

/* ---- running ---- */

/* One worker's buffers: a piece as floats, as read, as written, its importance, and
 * what the new blocks mean. */
struct scratch {
    float   *x, *y, *w;
    uint8_t *in, *out;
};

struct piece_loss {
    double error, sum, weighted_error, weighted_sum;
};

struct run {
    const struct quantise_plan  *plan;
    struct gguf_writer          *w;
    struct team                 *team;
    const struct quantise_watch *watch;
    struct scratch              *scratch;       /* one for each worker */
    uint64_t                     total_bytes;
    _Atomic uint64_t             done_bytes;
    atomic_bool                  stop;
    pthread_mutex_t              mu;
    size_t                       failed_piece;  /* under mu: the first one that failed */
    int                          rc;            /* under mu: why */
    struct err                   err;           /* under mu */
    /* of the tensor at work */
    const struct quantise_tensor *t;
    uint32_t                      index;
    size_t                        n_pieces;
    struct piece_loss            *loss;         /* [n_pieces], added up in order */
};

#define PIECE_BYTES ((size_t)QUANTISE_PIECE * 8)    /* the widest type: F64, I64 */

static void scratch_deinit(struct scratch *s)
{
    mem_free(s->x);
    mem_free(s->y);
    mem_free(s->w);
    mem_free(s->in);
    mem_free(s->out);
}

static int scratch_init(struct scratch *s, struct err *e)
{
    s->x = mem_array(QUANTISE_PIECE, sizeof *s->x);
    s->y = mem_array(QUANTISE_PIECE, sizeof *s->y);
    s->w = mem_array(QUANTISE_PIECE, sizeof *s->w);
    s->in = mem_alloc(PIECE_BYTES);
    s->out = mem_alloc(PIECE_BYTES);
    if (!s->x || !s->y || !s->w || !s->in || !s->out)
        return err_set(e, WATT_ENOMEM, "quantise: buffers");
    return 0;
}

/* The bytes of the source, through its descriptor where it has one: a file that
 * shrinks is then an error, and what was read doesn't count as our memory. */
static int read_piece(const struct run *r, uint8_t *to, uint64_t offset, size_t size,
                      struct err *e)
{
    const struct gguf_tensor *source = r->t->source;
    const int fd = gguf_part_fd(r->plan->g, source->part);

    if (fd < 0) {
        memcpy(to, (const uint8_t *)source->t.data + offset, size);
        return 0;
    }
    for (size_t done = 0; done < size;) {
        const ssize_t n = fault_hit(FAULT_READ)
                              ? (errno = EIO, -1)
                              : pread(fd, to + done, size - done,
                                      (off_t)(source->file_offset + offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, WATT_EIO, errno, "%s", gguf_path(r->plan->g));
        if (n == 0)
            return err_set(e, WATT_EIO, "%s: the file has become shorter", gguf_path(r->plan->g));
        done += (size_t)n;
    }
    return 0;
}

static int check_values(const struct run *r, const float *x, size_t n, uint64_t first,
                        struct err *e)
{
    const float limit = r->t->type == DTYPE_F16 ? 65504.0f : FLT_MAX;
    char shown[NAME_SHOWN];

    for (size_t i = 0; i < n; i++) {
        if (fabsf(x[i]) <= limit && isfinite(x[i]))
            continue;
        return err_set(e, WATT_EFORMAT, "%s: tensor \"%s\": element %" PRIu64 " is %g%s",
                       gguf_path(r->plan->g), name_show(shown, r->t->source->name), first + i,
                       (double)x[i], isfinite(x[i]) ? ", more than F16 can hold (BF16 can)" : "");
    }
    return 0;
}

/* Importance of elements first … first + n of the tensor: it repeats for each row, or
 * for each row of an expert. */
static const float *spread_importance(const struct run *r, float *w, uint64_t first, size_t n)
{
    const struct quantise_tensor *t = r->t;
    const uint64_t row = (uint64_t)tensor_row(&t->source->t);
    const uint64_t matrix = t->n_importance > row
                                ? row * (uint64_t)t->source->t.shape[t->source->t.n_dims - 2] : 0;

    if (!t->importance)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        const uint64_t at = first + i;

        w[i] = t->importance[at % row + (matrix ? at / matrix * row : 0)];
    }
    return w;
}

static struct piece_loss measure(const float *x, const float *y, const float *w, size_t n)
{
    struct piece_loss l = { 0 };

    for (size_t i = 0; i < n; i++) {
        const double v = (double)x[i], d = (double)y[i] - v;
        const double weight = w && w[i] > 0 && isfinite(w[i]) ? (double)w[i] : w ? 0 : 1;

        l.error += d * d;
        l.sum += v * v;
        l.weighted_error += weight * d * d;
        l.weighted_sum += weight * v * v;
    }
    return l;
}

static uint64_t bytes_of(enum dtype type, uint64_t n_elems)
{
    const struct dtype_info *info = dtype_info((uint32_t)type);

    return n_elems / info->block_elems * info->block_bytes;
}

static int run_piece(struct run *r, struct scratch *s, size_t piece, struct err *e)
{
    const struct quantise_tensor *t = r->t;
    const enum dtype from = t->source->t.dtype;
    const uint64_t first = (uint64_t)piece * QUANTISE_PIECE;
    const uint64_t left = (uint64_t)tensor_elems(&t->source->t) - first;
    const size_t n = left < QUANTISE_PIECE ? (size_t)left : QUANTISE_PIECE;
    const size_t in_bytes = (size_t)bytes_of(from, n), out_bytes = (size_t)bytes_of(t->type, n);
    const uint8_t *out = s->in;
    int rc = read_piece(r, s->in, bytes_of(from, first), in_bytes, e);

    if (rc == 0 && t->type != from) {
        const float *w;

        dtype_info((uint32_t)from)->dequant(s->x, s->in, n);
        rc = check_values(r, s->x, n, first, e);
        if (rc < 0)
            return rc;
        w = spread_importance(r, s->w, first, n);
        dtype_info((uint32_t)t->type)->quant(s->out, s->x, n, w);
        dtype_info((uint32_t)t->type)->dequant(s->y, s->out, n);
        r->loss[piece] = measure(s->x, s->y, w, n);
        out = s->out;
    }
    if (rc == 0)
        rc = gguf_writer_data_at(r->w, r->index, bytes_of(t->type, first), out, out_bytes, e);
    if (rc == 0)
        atomic_fetch_add(&r->done_bytes, in_bytes);
    return rc;
}

static void note_failure(struct run *r, size_t piece, int rc, const struct err *e)
{
    (void)pthread_mutex_lock(&r->mu);
    if (r->rc == 0 || piece < r->failed_piece) {
        r->rc = rc;
        r->failed_piece = piece;
        r->err = *e;
    }
    (void)pthread_mutex_unlock(&r->mu);
    atomic_store(&r->stop, true);
}

static void watch_run(struct run *r, size_t piece)
{
    const struct quantise_watch *watch = r->watch;

    if (watch && watch->progress)
        watch->progress(watch->arg, atomic_load(&r->done_bytes), r->total_bytes);
    if (watch && watch->cancelled && watch->cancelled(watch->arg)) {
        struct err e;

        note_failure(r, piece, err_set(&e, WATT_ECANCEL, "stopped"), &e);
    }
}

static void run_pieces(void *arg, unsigned worker)
{
    struct run *r = arg;
    size_t piece;

    while (!atomic_load(&r->stop) && (piece = team_next(r->team)) < r->n_pieces) {
        struct err e;
        const int rc = run_piece(r, &r->scratch[worker], piece, &e);

        if (rc < 0)
            note_failure(r, piece, rc, &e);
        if (worker == 0)
            watch_run(r, piece);
    }
}

/* Adds up a tensor's pieces, in their order. */
static void add_loss(const struct run *r, struct piece_loss *total)
{
    if (r->t->type == r->t->source->t.dtype)
        return;
    for (size_t i = 0; i < r->n_pieces; i++) {
        total->error += r->loss[i].error;
        total->sum += r->loss[i].sum;
        if (r->t->importance) {
            total->weighted_error += r->loss[i].weighted_error;
            total->weighted_sum += r->loss[i].weighted_sum;
        }
    }
}

static int run_tensors(struct run *r, struct piece_loss *total, struct err *e)
{
    for (size_t i = 0; i < r->plan->n_tensors && r->rc == 0; i++) {
        const uint64_t n = (uint64_t)tensor_elems(&r->plan->tensors[i].source->t);

        r->t = &r->plan->tensors[i];
        r->index = (uint32_t)i;
        r->n_pieces = (size_t)((n + QUANTISE_PIECE - 1) / QUANTISE_PIECE);
        team_run(r->team, run_pieces, r);
        if (r->rc == 0)
            add_loss(r, total);
    }
    if (r->rc < 0)
        return err_set(e, r->rc, "%s", r->err.msg);
    return 0;
}

/* The number of pieces of the largest tensor: what a tensor's losses need. */
static size_t most_pieces(const struct quantise_plan *p)
{
    uint64_t most = 1;

    for (size_t i = 0; i < p->n_tensors; i++) {
        const uint64_t n = (uint64_t)tensor_elems(&p->tensors[i].source->t);

        if (n / QUANTISE_PIECE + 1 > most)
            most = n / QUANTISE_PIECE + 1;
    }
    return (size_t)most;
}

/* Refuses the source itself as the target, and a disk that is too small. */
static int check_target(const struct quantise_plan *p, const char *path, struct err *e)
{
    const uint64_t need = quantise_plan_summary(p).bytes;
    struct stat target, source;
    struct statvfs disk;
    char *dir, *slash;
    int rc = 0;

    for (uint32_t i = 0; stat(path, &target) == 0 && i < gguf_n_parts(p->g); i++)
        if (gguf_part_fd(p->g, i) >= 0 && fstat(gguf_part_fd(p->g, i), &source) == 0 &&
            source.st_dev == target.st_dev && source.st_ino == target.st_ino)
            return err_set(e, WATT_EINVAL, "%s: is the source itself", path);
    dir = mem_strdup(path);
    if (!dir)
        return err_set(e, WATT_ENOMEM, "%s: path", path);
    slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = '\0';
    if (statvfs(slash ? dir : ".", &disk) == 0 && disk.f_blocks > 0 &&
        need / disk.f_frsize > disk.f_bavail)
        rc = err_set(e, WATT_EIO, "%s: %" PRIu64 " bytes are needed, the disk has %" PRIu64
                     " free", path, need, (uint64_t)disk.f_bavail * (uint64_t)disk.f_frsize);
    mem_free(dir);
    return rc;
}

static void run_deinit(struct run *r)
{
    for (unsigned i = 0; r->scratch && i < team_size(r->team); i++)
        scratch_deinit(&r->scratch[i]);
    mem_free(r->scratch);
    mem_free(r->loss);
    (void)pthread_mutex_destroy(&r->mu);
}

static int run_init(struct run *r, struct err *e)
{
    int rc = 0;

    (void)pthread_mutex_init(&r->mu, NULL);
    r->total_bytes = quantise_plan_summary(r->plan).source_bytes;
    r->loss = mem_calloc(most_pieces(r->plan), sizeof *r->loss);
    r->scratch = mem_calloc(team_size(r->team), sizeof *r->scratch);
    if (!r->loss || !r->scratch)
        return err_set(e, WATT_ENOMEM, "quantise: buffers");
    for (unsigned i = 0; rc == 0 && i < team_size(r->team); i++)
        rc = scratch_init(&r->scratch[i], e);
    return rc;
}

int quantise_run(const struct quantise_plan *p, const char *path, struct team *team,
                 const struct quantise_watch *watch, struct quantise_loss *loss, struct err *e)
{
    struct run r = { .plan = p, .team = team, .watch = watch };
    struct piece_loss total = { 0 };
    int rc = check_target(p, path, e);

    if (rc < 0)
        return rc;
    rc = run_init(&r, e);
    if (rc == 0)
        rc = gguf_writer_open(&r.w, path, e);
    if (rc == 0)
        rc = write_header(p, r.w, e);
    if (rc == 0)
        rc = run_tensors(&r, &total, e);
    if (rc == 0)
        rc = gguf_writer_commit(r.w, e);
    else
        gguf_writer_abort(r.w);
    run_deinit(&r);
    if (rc == 0 && loss)
        *loss = (struct quantise_loss){
            .error = total.sum > 0 ? sqrt(total.error / total.sum) : 0,
            .weighted = total.weighted_sum > 0 ? sqrt(total.weighted_error / total.weighted_sum)
                                               : 0,
        };
    return rc;
}
