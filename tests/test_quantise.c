/* test_quantise.c: whole model files to other types: what comes out, the same from any
 * number of threads, importance matrices, refusals, and that a failure or Ctrl-C leaves
 * nothing behind. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "models/quantise.h"
#include "spawn.h"

static char dir[] = "test_quantise.XXXXXX";
static char source[64], target[64], other[64], matrix[64];

enum { WIDE = 512, LAYERS = 8, EXPERTS = 3 };

static struct spec {
    char       name[64];
    int        n_dims;
    int64_t    shape[3];
} specs[8 * LAYERS + 8];
static size_t n_specs;

static void add(const char *name, int n_dims, int64_t a, int64_t b, int64_t c)
{
    struct spec *s = &specs[n_specs++];

    (void)snprintf(s->name, sizeof s->name, "%s", name);
    s->n_dims = n_dims;
    s->shape[0] = a;
    s->shape[1] = b;
    s->shape[2] = c;
}

static void describe(void)
{
    char name[64];

    add("token_embd.weight", 2, 60, WIDE, 0);
    for (int i = 0; i < LAYERS; i++) {
#define BLK(what) ((void)snprintf(name, sizeof name, "blk.%d.%s.weight", i, what), name)
        add(BLK("attn_norm"), 1, WIDE, 0, 0);
        add(BLK("attn_q"), 2, 144, WIDE, 0);   /* more than one piece */
        add(BLK("attn_k"), 2, 64, WIDE, 0);
        add(BLK("attn_v"), 2, 64, WIDE, 0);
        add(BLK("ffn_down"), 2, 40, WIDE, 0);
        add(BLK("ffn_down_exps"), 3, EXPERTS, 8, WIDE);
        add(BLK("ffn_gate_inp"), 2, EXPERTS, WIDE, 0);
    }
    add("odd.weight", 2, 5, 96, 0);             /* blocks of 32, not of 256 */
    add("odder.weight", 2, 5, 100, 0);          /* neither */
    add("output_norm.weight", 1, WIDE, 0, 0);
    add("output.weight", 2, 60, WIDE, 0);
}

static size_t elems(const struct spec *s)
{
    size_t n = 1;

    for (int d = 0; d < s->n_dims; d++)
        n *= (size_t)s->shape[d];
    return n;
}

/* Writes the source; element `at` of tensor `broken` gets that value. */
static void write_source(const char *path, const char *broken, size_t at, float value)
{
    struct gguf_writer *w;
    struct rng r;
    struct err e;

    rng_init(&r, 1);
    assert_int_equal(gguf_writer_open(&w, path, &e), 0);
    assert_int_equal(gguf_writer_str(w, "general.architecture", SV("llama"), &e), 0);
    assert_int_equal(gguf_writer_u32(w, "general.file_type", 0, &e), 0);
    assert_int_equal(gguf_writer_u32(w, "llama.block_count", LAYERS, &e), 0);
    assert_int_equal(gguf_writer_u32(w, "llama.attention.head_count", 8, &e), 0);
    assert_int_equal(gguf_writer_u32(w, "llama.attention.head_count_kv", 1, &e), 0);
    for (size_t i = 0; i < n_specs; i++)
        assert_int_equal(gguf_writer_tensor(w, specs[i].name, DTYPE_F32, specs[i].n_dims,
                                            specs[i].shape, &e), 0);
    assert_int_equal(gguf_writer_begin(w, &e), 0);
    for (size_t i = 0; i < n_specs; i++) {
        const size_t n = elems(&specs[i]);
        float *x = mem_array(n, sizeof *x);

        assert_non_null(x);
        for (size_t j = 0; j < n; j++)
            x[j] = 0.05f * (float)rng_normal(&r);
        if (broken && strcmp(specs[i].name, broken) == 0)
            x[at] = value;
        assert_int_equal(gguf_writer_data(w, x, n * sizeof *x, &e), 0);
        mem_free(x);
    }
    assert_int_equal(gguf_writer_commit(w, &e), 0);
}

static int make_files(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(source, sizeof source, "%s/in.gguf", dir);
    (void)snprintf(target, sizeof target, "%s/out.gguf", dir);
    (void)snprintf(other, sizeof other, "%s/other.gguf", dir);
    (void)snprintf(matrix, sizeof matrix, "%s/matrix", dir);
    describe();
    write_source(source, NULL, 0, 0);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    (void)remove(source);
    (void)remove(target);
    (void)remove(other);
    (void)remove(matrix);
    return rmdir(dir);
}

static size_t files_there(void)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    size_t n = 0;

    assert_non_null(d);
    while ((entry = readdir(d)) != NULL)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    (void)closedir(d);
    return n;
}

/* Plan and run in one; 0 or the error. */
static int convert(const char *from, const char *to, const struct quantise_options *o,
                   unsigned n_threads, const struct quantise_watch *watch,
                   struct quantise_loss *loss, struct err *e)
{
    struct quantise_plan *p = NULL;
    struct team *team = NULL;
    struct gguf *g;
    int rc = gguf_open(&g, from, e);

    if (rc < 0)
        return rc;
    rc = quantise_plan_open(&p, g, o, e);
    if (rc == 0)
        rc = team_open(&team, n_threads, e);
    if (rc == 0)
        rc = quantise_run(p, to, team, watch, loss, e);
    team_close(team);
    quantise_plan_close(p);
    gguf_close(g);
    return rc;
}

static enum dtype type_of(const struct gguf *g, const char *name)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, name);

    assert_non_null(t);
    return t->t.dtype;
}

/* The tensor's values, to be freed. */
static float *values_of(const struct gguf *g, const char *name, size_t *n)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, name);
    float *x;

    assert_non_null(t);
    *n = (size_t)tensor_elems(&t->t);
    x = mem_array(*n, sizeof *x);
    assert_non_null(x);
    dtype_info((uint32_t)t->t.dtype)->dequant(x, t->t.data, *n);
    return x;
}

static double error_between(const struct gguf *a, const struct gguf *b, const char *name,
                            const float *weights)
{
    size_t n, m;
    float *x = values_of(a, name, &n), *y = values_of(b, name, &m);
    double error = 0, sum = 0;

    assert_int_equal(n, m);
    for (size_t i = 0; i < n; i++) {
        const double d = (double)y[i] - (double)x[i], w = weights ? (double)weights[i] : 1;

        error += w * d * d;
        sum += w * (double)x[i] * (double)x[i];
    }
    mem_free(x);
    mem_free(y);
    return sqrt(error / sum);
}

static void a_mix_gives_each_tensor_its_type(void **state)
{
    const struct quantise_options o = { .mix = QUANT_Q4_K_M };
    struct quantise_loss loss;
    struct gguf *g, *in;
    struct err e;
    uint32_t v;

    (void)state;
    assert_int_equal(convert(source, target, &o, 2, NULL, &loss, &e), 0);
    assert_true(loss.error > 0.05 && loss.error < 0.075);
    assert_int_equal(gguf_open(&g, target, &e), 0);
    assert_int_equal(gguf_open(&in, source, &e), 0);
    assert_int_equal(type_of(g, "token_embd.weight"), DTYPE_Q4_K);
    assert_int_equal(type_of(g, "output.weight"), DTYPE_Q6_K);
    assert_int_equal(type_of(g, "blk.1.attn_q.weight"), DTYPE_Q4_K);
    assert_int_equal(type_of(g, "blk.0.attn_v.weight"), DTYPE_Q6_K);
    assert_int_equal(type_of(g, "blk.1.attn_v.weight"), DTYPE_Q4_K);
    assert_int_equal(type_of(g, "blk.0.ffn_down.weight"), DTYPE_Q6_K);
    assert_int_equal(type_of(g, "blk.0.attn_norm.weight"), DTYPE_F32);
    assert_int_equal(type_of(g, "blk.0.ffn_gate_inp.weight"), DTYPE_F32);
    assert_int_equal(type_of(g, "odd.weight"), DTYPE_Q5_0);
    assert_int_equal(type_of(g, "odder.weight"), DTYPE_F16);
    assert_int_equal(gguf_get_u32(g, "general.file_type", &v, &e), 0);
    assert_int_equal(v, 15);
    assert_int_equal(gguf_get_u32(g, "general.quantization_version", &v, &e), 0);
    assert_int_equal(v, 2);
    assert_int_equal(gguf_get_u32(g, "llama.block_count", &v, &e), 0);
    assert_int_equal(v, LAYERS);
    assert_int_equal(gguf_n_tensors(g), n_specs);
    for (size_t i = 0; i < n_specs; i++) {
        const struct gguf_tensor *t = gguf_find_tensor(g, specs[i].name);

        assert_int_equal(t->t.n_dims, specs[i].n_dims);
        for (int d = 0; d < specs[i].n_dims; d++)
            assert_int_equal(t->t.shape[d], specs[i].shape[d]);
        assert_true(error_between(in, g, specs[i].name, NULL) < 0.08);
    }
    assert_true(error_between(in, g, "blk.0.attn_norm.weight", NULL) == 0);
    gguf_close(in);
    gguf_close(g);
}

static void every_type_with_a_quantiser_works(void **state)
{
    struct err e;

    (void)state;
    for (int m = 0; m < QUANT_MIX_COUNT; m++) {
        const struct quantise_options o = { .mix = (enum quant_mix)m };
        const struct quant_mix_info *info = quant_mix_info(o.mix);
        struct quantise_loss loss;
        struct gguf *g;
        uint32_t v;
        int rc;

        (void)remove(target);
        rc = convert(source, target, &o, 2, NULL, &loss, &e);
        if (!dtype_info((uint32_t)info->base)->quant) {
            assert_int_equal(rc, WATT_ENOTSUP);
            assert_non_null(strstr(e.msg, "no quantiser"));
            assert_int_equal(access(target, F_OK), -1);
            continue;
        }
        if (rc < 0)
            fail_msg("%s: %s", info->name, e.msg);
        assert_int_equal(gguf_open(&g, target, &e), 0);
        assert_int_equal(gguf_get_u32(g, "general.file_type", &v, &e), 0);
        assert_int_equal(v, info->file_type);
        assert_true(loss.error < 0.5);
        gguf_close(g);
    }
}

static void options_set_types(void **state)
{
    struct quantise_options o = { .mix = QUANT_Q4_K_M, .pure = true };
    struct gguf *g;
    struct err e;

    (void)state;
    assert_int_equal(convert(source, target, &o, 1, NULL, NULL, &e), 0);
    assert_int_equal(gguf_open(&g, target, &e), 0);
    assert_int_equal(type_of(g, "output.weight"), DTYPE_Q4_K);
    assert_int_equal(type_of(g, "blk.0.attn_v.weight"), DTYPE_Q4_K);
    assert_int_equal(type_of(g, "odd.weight"), DTYPE_Q5_0);
    assert_int_equal(type_of(g, "output_norm.weight"), DTYPE_F32);
    gguf_close(g);
    o.has_output_type = o.has_embedding_type = true;
    o.output_type = DTYPE_F16;
    o.embedding_type = DTYPE_Q8_0;
    assert_int_equal(convert(source, target, &o, 1, NULL, NULL, &e), 0);
    assert_int_equal(gguf_open(&g, target, &e), 0);
    assert_int_equal(type_of(g, "output.weight"), DTYPE_F16);
    assert_int_equal(type_of(g, "token_embd.weight"), DTYPE_Q8_0);
    gguf_close(g);
}

static void any_number_of_threads_gives_the_same_file(void **state)
{
    const struct quantise_options o = { .mix = QUANT_Q3_K_M };
    struct quantise_loss first = { 0 }, loss;
    char *one = NULL, *more;
    size_t n_one = 0, n;
    struct err e;

    (void)state;
    for (unsigned n_threads = 1; n_threads <= 4; n_threads++) {
        assert_int_equal(convert(source, target, &o, n_threads, NULL, &loss, &e), 0);
        assert_int_equal(file_read(target, 1 << 26, &more, &n, &e), 0);
        if (!one) {
            one = more;
            n_one = n;
            first = loss;
            continue;
        }
        assert_int_equal(n, n_one);
        assert_memory_equal(one, more, n);
        assert_true(loss.error == first.error);
        mem_free(more);
    }
    mem_free(one);
}

static void what_is_quantised_stays_so_unless_allowed(void **state)
{
    struct quantise_options o = { .mix = QUANT_Q8_0 };
    struct gguf *a, *b;
    struct err e;

    (void)state;
    assert_int_equal(convert(source, other, &o, 2, NULL, NULL, &e), 0);
    o.mix = QUANT_Q4_0;
    assert_int_equal(convert(other, target, &o, 2, NULL, NULL, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "token_embd.weight"));
    assert_non_null(strstr(e.msg, "Q8_0"));
    o.allow_requantise = true;
    assert_int_equal(convert(other, target, &o, 2, NULL, NULL, &e), 0);
    /* to whole numbers of more bits nothing is lost, so nothing need be allowed */
    o.allow_requantise = false;
    o.mix = QUANT_F32;
    assert_int_equal(convert(other, target, &o, 2, NULL, NULL, &e), 0);
    assert_int_equal(gguf_open(&a, other, &e), 0);
    assert_int_equal(gguf_open(&b, target, &e), 0);
    assert_int_equal(type_of(b, "blk.0.attn_q.weight"), DTYPE_F32);
    assert_true(error_between(a, b, "blk.0.attn_q.weight", NULL) == 0);
    gguf_close(a);
    gguf_close(b);
    /* and the same type again is a copy */
    o.mix = QUANT_Q8_0;
    assert_int_equal(convert(other, target, &o, 2, NULL, NULL, &e), 0);
    assert_int_equal(gguf_open(&a, other, &e), 0);
    assert_int_equal(gguf_open(&b, target, &e), 0);
    assert_memory_equal(gguf_find_tensor(a, "output.weight")->t.data,
                        gguf_find_tensor(b, "output.weight")->t.data,
                        gguf_find_tensor(a, "output.weight")->t.size_bytes);
    gguf_close(a);
    gguf_close(b);
    (void)remove(other);
}

static void weights_that_are_no_numbers_are_refused(void **state)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    struct quantise_options o = { .mix = QUANT_Q4_K_M };
    struct err e;

    (void)state;
    (void)remove(target);
    for (size_t i = 0; i < 3; i++) {
        write_source(other, "blk.3.attn_q.weight", 70001, bad[i]);
        assert_int_equal(convert(other, target, &o, 3, NULL, NULL, &e), WATT_EFORMAT);
        assert_non_null(strstr(e.msg, "blk.3.attn_q.weight"));
        assert_non_null(strstr(e.msg, "70001"));
        assert_int_equal(access(target, F_OK), -1);
    }
    write_source(other, "output.weight", 5, 1e6f);
    o.mix = QUANT_F16;
    assert_int_equal(convert(other, target, &o, 3, NULL, NULL, &e), WATT_EFORMAT);
    assert_non_null(strstr(e.msg, "F16"));
    o.mix = QUANT_BF16;
    assert_int_equal(convert(other, target, &o, 3, NULL, NULL, &e), 0);
    /* a vector is copied as it is */
    write_source(other, "output_norm.weight", 5, NAN);
    assert_int_equal(convert(other, target, &o, 3, NULL, NULL, &e), 0);
    (void)remove(other);
    (void)remove(target);
}

static void the_source_is_no_target(void **state)
{
    const struct quantise_options o = { .mix = QUANT_Q8_0 };
    struct err e;

    (void)state;
    assert_int_equal(convert(source, source, &o, 1, NULL, NULL, &e), WATT_EINVAL);
    assert_int_equal(symlink("in.gguf", other), 0);
    assert_int_equal(convert(source, other, &o, 1, NULL, NULL, &e), WATT_EINVAL);
    assert_int_equal(remove(other), 0);
}

struct watched {
    uint64_t done, total;
    unsigned calls, stop_after;
};

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct watched *w = arg;

    assert_true(done <= total && done >= w->done);
    w->done = done;
    w->total = total;
    w->calls++;
}

static bool on_cancelled(void *arg)
{
    const struct watched *w = arg;

    return w->stop_after && w->calls >= w->stop_after;
}

static void progress_reaches_the_end_and_stopping_leaves_nothing(void **state)
{
    const struct quantise_options o = { .mix = QUANT_Q4_0 };
    struct watched w = { 0 };
    const struct quantise_watch watch = { on_progress, on_cancelled, &w };
    struct err e;
    char *data;
    size_t n;

    (void)state;
    (void)remove(target);
    assert_int_equal(convert(source, target, &o, 1, &watch, NULL, &e), 0);
    assert_true(w.done == w.total && w.total > 0);
    (void)remove(target);
    for (unsigned k = 1; k < 20; k += 6) {
        w = (struct watched){ .stop_after = k };
        assert_int_equal(convert(source, target, &o, 2, &watch, NULL, &e), WATT_ECANCEL);
        assert_int_equal(files_there(), 1);
    }
    /* what was under the name before stays */
    assert_int_equal(symlink("nowhere", target), 0);
    assert_int_equal(remove(target), 0);
    write_source(target, NULL, 0, 0);
    w = (struct watched){ .stop_after = 1 };
    assert_int_equal(convert(source, target, &o, 2, &watch, NULL, &e), WATT_ECANCEL);
    assert_int_equal(file_read(target, 1 << 26, &data, &n, &e), 0);
    assert_memory_equal(data, "GGUF", 4);
    mem_free(data);
    (void)remove(target);
}

#ifdef WATT_FAULTS
static void every_failure_leaves_nothing(void **state)
{
    static const enum fault_kind kinds[] = { FAULT_ALLOC, FAULT_READ, FAULT_WRITE, FAULT_THREAD };
    const struct quantise_options o = { .mix = QUANT_Q8_0 };

    (void)state;
    (void)remove(target);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        unsigned long n;

        for (n = 1; n < 10000; n += 1 + n / 6) {
            struct err e;
            int rc;

            (void)fault_arm(kinds[k], n);
            rc = convert(source, target, &o, 2, NULL, NULL, &e);
            (void)fault_arm(kinds[k], 0);
            if (rc == 0)
                break;
            assert_true(e.msg[0] != '\0');
            assert_int_equal(files_there(), 1);
        }
        assert_true(n > 1 && n < 10000);
        assert_int_equal(remove(target), 0);
    }
}
#endif

/* ---- importance ---- */

static float importance_value(size_t entry, size_t i)
{
    return (float)((i * 37 + entry * 11) % 101 == 0 ? 400 : (i + entry) % 7 + 1);
}

/* Entries for attn_q of layer 0 and the experts of layer 1. */
static void write_gguf_matrix(const char *path, int64_t n_in)
{
    const int64_t shapes[4][2] = { { 1, n_in }, { 1, 1 }, { EXPERTS, WIDE }, { EXPERTS, 1 } };
    static const char *const names[4] = {
        "blk.0.attn_q.weight.in_sum2", "blk.0.attn_q.weight.counts",
        "blk.1.ffn_down_exps.weight.in_sum2", "blk.1.ffn_down_exps.weight.counts"
    };
    static const struct sv datasets[] = { { "text.txt", 8 } };
    static const float counts[EXPERTS] = { 4, 0, 2 };
    struct gguf_writer *w;
    struct err e;

    assert_int_equal(gguf_writer_open(&w, path, &e), 0);
    assert_int_equal(gguf_writer_str(w, "general.type", SV("imatrix"), &e), 0);
    assert_int_equal(gguf_writer_strs(w, "imatrix.datasets", datasets, 1, &e), 0);
    assert_int_equal(gguf_writer_u32(w, "imatrix.chunk_count", 12, &e), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(gguf_writer_tensor(w, names[i], DTYPE_F32, 2, shapes[i], &e), 0);
    assert_int_equal(gguf_writer_begin(w, &e), 0);
    for (size_t entry = 0; entry < 2; entry++) {
        const size_t rows = entry ? EXPERTS : 1, n = entry ? WIDE : (size_t)n_in;

        for (size_t i = 0; i < rows * n; i++) {
            const float v = importance_value(entry, i) * counts[i / n];

            assert_int_equal(gguf_writer_data(w, &v, sizeof v, &e), 0);
        }
        assert_int_equal(gguf_writer_data(w, counts, rows * sizeof *counts, &e), 0);
    }
    assert_int_equal(gguf_writer_commit(w, &e), 0);
}

/* The first entry alone, in the legacy format; returns its size. */
static size_t legacy_matrix(uint8_t *to)
{
    static const char name[] = "blk.0.attn_q.weight", text[] = "text.txt";
    uint8_t *p = to;

    store_le32(p, 1);
    store_le32(p + 4, sizeof name - 1);
    memcpy(p + 8, name, sizeof name - 1);
    p += 8 + sizeof name - 1;
    store_le32(p, 4);
    store_le32(p + 4, WIDE);
    p += 8;
    for (size_t i = 0; i < WIDE; i++, p += 4) {
        const float v = 4 * importance_value(0, i);
        uint32_t u;

        memcpy(&u, &v, sizeof u);
        store_le32(p, u);
    }
    store_le32(p, 12);
    store_le32(p + 4, sizeof text - 1);
    memcpy(p + 8, text, sizeof text - 1);
    return (size_t)(p + 8 - to) + sizeof text - 1;
}

static void both_formats_are_read(void **state)
{
    static _Alignas(8) uint8_t legacy[4 * WIDE + 200];
    const size_t size = legacy_matrix(legacy);
    struct imatrix *a, *b;
    const float *x, *y;
    uint64_t n;
    struct err e;

    (void)state;
    write_gguf_matrix(matrix, WIDE);
    assert_int_equal(imatrix_open(&a, matrix, &e), 0);
    assert_int_equal(imatrix_open_memory(&b, legacy, size, "legacy", &e), 0);
    assert_int_equal(imatrix_n_entries(a), 2);
    assert_int_equal(imatrix_n_entries(b), 1);
    assert_int_equal(imatrix_n_chunks(a), 12);
    assert_int_equal(imatrix_n_chunks(b), 12);
    assert_true(sv_eq_cstr(imatrix_dataset(a), "text.txt"));
    assert_true(sv_eq_cstr(imatrix_dataset(b), "text.txt"));
    assert_string_equal(imatrix_path(b), "legacy");
    x = imatrix_find(a, SV("blk.0.attn_q.weight"), &n);
    assert_int_equal(n, WIDE);
    y = imatrix_find(b, SV("blk.0.attn_q.weight"), &n);
    assert_int_equal(n, WIDE);
    for (size_t i = 0; i < WIDE; i++) {
        assert_true(x[i] == importance_value(0, i));
        assert_true(y[i] == x[i]);
    }
    x = imatrix_find(a, SV("blk.1.ffn_down_exps.weight"), &n);
    assert_int_equal(n, EXPERTS * WIDE);
    assert_true(x[3] == importance_value(1, 3));
    assert_true(x[WIDE + 3] == 1);      /* never reached: all alike */
    assert_null(imatrix_find(a, SV("blk.0.attn_k.weight"), &n));
    imatrix_close(a);
    imatrix_close(b);
    imatrix_close(NULL);
}

static void malformed_matrices_are_refused(void **state)
{
    static _Alignas(8) uint8_t legacy[4 * WIDE + 200], copy[sizeof legacy];
    const size_t size = legacy_matrix(legacy), data_end = size - 16;
    struct imatrix *m;
    struct err e;

    (void)state;
    for (size_t n = 0; n < size; n++) {
        const int rc = imatrix_open_memory(&m, legacy, n, "cut", &e);

        if (n < data_end) {
            assert_int_equal(rc, WATT_EFORMAT);
            assert_non_null(strstr(e.msg, "cut"));
        } else {
            assert_int_equal(rc, 0);
            imatrix_close(m);
        }
    }
    for (size_t at = 0; at < 40; at++)
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, legacy, size);
            copy[at] ^= (uint8_t)(1 << bit);
            if (imatrix_open_memory(&m, copy, size, "flipped", &e) == 0)
                imatrix_close(m);
        }
    /* a model is no importance matrix */
    assert_int_equal(imatrix_open(&m, source, &e), WATT_EFORMAT);
    assert_non_null(strstr(e.msg, "in_sum2"));
    assert_int_equal(imatrix_open(&m, "test_quantise.nowhere", &e), WATT_ENOENT);
}

static void importance_is_used(void **state)
{
    struct quantise_options o = { .mix = QUANT_Q4_K_S };
    static float weights[WIDE * WIDE];
    struct quantise_loss loss;
    struct imatrix *m;
    struct gguf *in, *plain, *weighted;
    struct sv name;
    struct err e;
    uint32_t v;

    (void)state;
    write_gguf_matrix(matrix, WIDE);
    assert_int_equal(imatrix_open(&m, matrix, &e), 0);
    assert_int_equal(convert(source, other, &o, 2, NULL, NULL, &e), 0);
    o.importance = m;
    assert_int_equal(convert(source, target, &o, 2, NULL, &loss, &e), 0);
    assert_true(loss.weighted > 0 && loss.weighted < loss.error);
    assert_int_equal(gguf_open(&in, source, &e), 0);
    assert_int_equal(gguf_open(&plain, other, &e), 0);
    assert_int_equal(gguf_open(&weighted, target, &e), 0);
    for (size_t i = 0; i < WIDE * WIDE; i++)
        weights[i] = importance_value(0, i % WIDE);
    assert_true(error_between(in, weighted, "blk.0.attn_q.weight", weights) <
                0.9 * error_between(in, plain, "blk.0.attn_q.weight", weights));
    for (size_t i = 0; i < EXPERTS * 8 * WIDE; i++) {
        const size_t expert = i / (8 * WIDE);

        weights[i] = expert == 1 ? 1 : importance_value(1, expert * WIDE + i % WIDE);
    }
    assert_true(error_between(in, weighted, "blk.1.ffn_down_exps.weight", weights) <
                0.9 * error_between(in, plain, "blk.1.ffn_down_exps.weight", weights));
    assert_true(error_between(plain, weighted, "blk.2.attn_q.weight", NULL) == 0);
    assert_int_equal(gguf_get_str(weighted, "quantize.imatrix.dataset", &name, &e), 0);
    assert_true(sv_eq_cstr(name, "text.txt"));
    assert_int_equal(gguf_get_u32(weighted, "quantize.imatrix.entries_count", &v, &e), 0);
    assert_int_equal(v, 2);
    gguf_close(in);
    gguf_close(plain);
    gguf_close(weighted);
    imatrix_close(m);

    write_gguf_matrix(matrix, WIDE / 2);
    assert_int_equal(imatrix_open(&m, matrix, &e), 0);
    o.importance = m;
    assert_int_equal(convert(source, target, &o, 2, NULL, NULL, &e), WATT_EFORMAT);
    assert_non_null(strstr(e.msg, "another model"));
    imatrix_close(m);
    (void)remove(other);
    (void)remove(target);
    (void)remove(matrix);
}

/* ---- the verb ---- */

static struct spawned r;

static void the_verb_quantises(void **state)
{
    struct gguf *g;
    struct err e;

    (void)state;
    spawn(&r, NULL, "quantize", source, target, "q4_k_m", "--threads", "2");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "Q4_K_M"));
    assert_non_null(strstr(r.out, "bits per weight"));
    assert_non_null(strstr(r.err, "note: "));
    assert_int_equal(gguf_open(&g, target, &e), 0);
    gguf_close(g);
    spawn(&r, NULL, "quantize", target, other, "Q8_0");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "--allow-requantize"));
    assert_int_equal(access(other, F_OK), -1);
    (void)remove(target);

    write_gguf_matrix(matrix, WIDE);
    spawn(&r, NULL, "quantize", source, "IQ4_XS", "--dry-run", "--imatrix", matrix,
          "--output-type", "q8_0");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "blk.0.attn_q.weight"));
    assert_non_null(strstr(r.out, "weighted"));
    assert_int_equal(access(target, F_OK), -1);
    (void)remove(matrix);
}

static void the_verb_refuses(void **state)
{
    (void)state;
    spawn(&r, NULL, "quantize", source, target);
    assert_int_equal(r.code, 2);
    spawn(&r, NULL, "quantize", source, target, "Q9");
    assert_int_equal(r.code, 2);
    spawn(&r, NULL, "quantize", source, target, "Q4_0", "--output-type", "IQ1_S");
    assert_int_equal(r.code, 2);
    spawn(&r, NULL, "quantize", source, target, "IQ2_XS");
    assert_int_equal(r.code, 1);
    spawn(&r, NULL, "quantize", dir, target, "Q4_0");
    assert_int_equal(r.code, 1);
    spawn(&r, NULL, "quantize", source, "no/such/folder/x.gguf", "Q4_0");
    assert_int_equal(r.code, 1);
    spawn(&r, NULL, "quantize", source, target, "Q4_0", "--imatrix", source);
    assert_int_equal(r.code, 1);
    assert_int_equal(files_there(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mix_gives_each_tensor_its_type),
        cmocka_unit_test(every_type_with_a_quantiser_works),
        cmocka_unit_test(options_set_types),
        cmocka_unit_test(any_number_of_threads_gives_the_same_file),
        cmocka_unit_test(what_is_quantised_stays_so_unless_allowed),
        cmocka_unit_test(weights_that_are_no_numbers_are_refused),
        cmocka_unit_test(the_source_is_no_target),
        cmocka_unit_test(progress_reaches_the_end_and_stopping_leaves_nothing),
#ifdef WATT_FAULTS
        cmocka_unit_test(every_failure_leaves_nothing),
#endif
        cmocka_unit_test(both_formats_are_read),
        cmocka_unit_test(malformed_matrices_are_refused),
        cmocka_unit_test(importance_is_used),
        cmocka_unit_test(the_verb_quantises),
        cmocka_unit_test(the_verb_refuses),
    };

    return cmocka_run_group_tests(tests, make_files, remove_files);
}
