/* checkkern_matmul_bench.c: matrix products against this machine's limits.
 *
 * One row is bound by reading the weights: all threads, weights larger than the
 * caches, next to a plain read of the same bytes. Many rows are bound by the
 * multipliers: one thread by its own processor time, so that a shared machine
 * disturbs little, next to the instruction set's busiest loop. Measurement and
 * limit alternate; the figure is the median of the ratios. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/team.h"
#include "checkkern.h"
#include "chips/cpu/layout.h"
#include "chips/cpu/peaks.h"
#include "chips/quant_random.h"

enum { N_REPS = 9 };
#define STREAM_MIB 192

struct bench {
    struct kernels k;
    struct team   *team;
    struct packed  w;
    float         *out;
    uint8_t       *act, *scratch;       /* scratch: one per worker */
    size_t         act_stride;
    uint32_t       n_rows, stream_mib;
    uint64_t       sink;
};

static void *need_map(size_t n)
{
    void *p = mem_map(n);

    if (!p)
        abort();
    return p;
}

static double cpu_seconds(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Tasks of all matrices, in the cut that the kernels recommend. */
struct tasks { struct matmul_cut cut; size_t rows, panels, all; };

static struct tasks tasks_of(const struct bench *b)
{
    struct tasks t = { .cut = matmul_cut(&b->w, b->n_rows) };

    t.rows = (b->n_rows + t.cut.rows - 1) / t.cut.rows;
    t.panels = (b->w.n_panels + t.cut.panels - 1) / t.cut.panels;
    t.all = t.rows * t.panels * b->w.n_mats;
    return t;
}

static void product_task(struct bench *b, const struct tasks *t, size_t i, unsigned worker)
{
    const uint32_t mat = (uint32_t)(i / (t->rows * t->panels));
    const uint32_t row = (uint32_t)(i / t->panels % t->rows) * t->cut.rows;
    const uint32_t panel = (uint32_t)(i % t->panels) * t->cut.panels;
    const struct matmul_args a = {
        .out = b->out + (size_t)row * b->w.n_out, .out_stride = b->w.n_out,
        .act = b->act + row * b->act_stride, .act_stride = b->act_stride,
        .n_rows = b->n_rows - row < t->cut.rows ? b->n_rows - row : t->cut.rows,
        .w = &b->w, .mat = mat, .first = panel,
        .last = b->w.n_panels - panel < t->cut.panels ? b->w.n_panels : panel + t->cut.panels,
        .scratch = b->scratch + worker * MATMUL_SCRATCH
    };

    b->k.matmul[b->w.dtype](&a);
}

static void job_product(void *arg, unsigned worker)
{
    struct bench *b = arg;
    const struct tasks t = tasks_of(b);
    size_t i;

    while ((i = team_next(b->team)) < t.all)
        product_task(b, &t, i, worker);
}

static void job_read(void *arg, unsigned worker)
{
    struct bench *b = arg;
    const size_t bytes = (size_t)pack_bytes(&b->w) & ~(size_t)511, slice = (size_t)1 << 18;
    uint64_t sum = 0;
    size_t i;

    (void)worker;
    while ((i = team_next(b->team)) * slice < bytes) {
        const size_t n = bytes - i * slice < slice ? bytes - i * slice : slice;
        const uint8_t *p = (const uint8_t *)b->w.data + i * slice;

        sum += peak_read(p, n, b->k.mask);
    }
    (void)__atomic_fetch_add(&b->sink, sum, __ATOMIC_RELAXED);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

/* Median of the ratios, and the ratio of the best rates, which a busy machine lowers less. */
static void bench_stream(struct bench *b)
{
    double ratio[N_REPS], best = 0.0, best_read = 0.0;
    const double bytes = (double)pack_bytes(&b->w);

    for (int i = 0; i < N_REPS; i++) {
        uint64_t t[3];
        double rate, read;

        t[0] = clock_mono_ns();
        team_run(b->team, job_read, b);
        t[1] = clock_mono_ns();
        team_run(b->team, job_product, b);
        t[2] = clock_mono_ns();
        rate = bytes / (double)(t[2] - t[1]);
        read = bytes / (double)(t[1] - t[0]);
        ratio[i] = rate / read;
        best = rate > best ? rate : best;
        best_read = read > best_read ? read : best_read;
    }
    printf("%8.1f GB/s  %5.1f %% of reading, median; best %5.1f %% of %.1f, %u threads\n", best,
           100.0 * median(ratio, N_REPS), 100.0 * best / best_read, best_read,
           team_size(b->team));
}

static enum peak_kind kind_of(enum act_format f)
{
    return f == ACTF_Q8 ? PEAK_INT8 : f == ACTF_BF16 ? PEAK_BF16 : PEAK_F32;
}

static void bench_compute(struct bench *b)
{
    peak_fn *peak = peak_of(kind_of(b->w.act), b->k.mask);
    double ratio[N_REPS], rate[N_REPS];
    const struct tasks tasks = tasks_of(b);
    const double ops = 2.0 * b->w.n_out * b->w.n_in * b->n_rows;
    uint64_t n = 1 << 16;

    if (!peak)
        peak = peak_of(PEAK_F32, b->k.mask);
    for (double t = cpu_seconds(); (void)peak(n), cpu_seconds() - t < 0.01; t = cpu_seconds())
        n *= 2;
    for (int i = 0; i < N_REPS; i++) {
        double t[3], limit;

        t[0] = cpu_seconds();
        limit = (double)peak(n);
        t[1] = cpu_seconds();
        limit /= t[1] - t[0];
        for (size_t k = 0; k < tasks.all; k++)
            product_task(b, &tasks, k, 0);
        t[2] = cpu_seconds();
        rate[i] = ops / (t[2] - t[1]) * 1e-9;
        ratio[i] = ops / (t[2] - t[1]) / limit;
    }
    printf("%8.1f GOP/s %5.1f %% of peak, one thread\n", median(rate, N_REPS),
           100.0 * median(ratio, N_REPS));
}

static void bench_pack(struct bench *b, const struct tensor *t)
{
    double best = 1e9;

    for (int i = 0; i < 3; i++) {
        const double start = cpu_seconds();

        pack_panels(&b->w, t, 0, 0, b->w.n_panels);
        best = cpu_seconds() - start < best ? cpu_seconds() - start : best;
    }
    printf("%-6s [%6u,%5u] pack    %8.2f GB/s of file, one thread\n", dtype_name(b->w.dtype),
           b->w.n_out, b->w.n_in, (double)t->size_bytes / best * 1e-9);
}

static void bench_shape(struct bench *b, enum dtype dtype, uint32_t n_out, uint32_t n_in,
                        uint32_t n_rows)
{
    struct tensor t = { .dtype = dtype, .n_dims = 2, .shape = { n_out, n_in } };
    struct rng rng;
    struct err e;
    uint64_t row;
    void *file, *data;
    float *x;

    rng_init(&rng, 1);
    if (!dtype_row_bytes(dtype, n_in, &row))
        return;
    t.size_bytes = row * n_out;
    t.data = file = need_map((size_t)t.size_bytes);
    quant_random_blocks(dtype, file, (size_t)n_out * n_in, 0.02f, &rng);
    if (pack_describe(&b->w, &t, &e) < 0) {
        printf("%s\n", e.msg);
        mem_unmap(file, (size_t)t.size_bytes);
        return;
    }
    if (n_rows == 1)
        b->w.n_mats = (uint32_t)(((uint64_t)b->stream_mib << 20) / b->w.mat_bytes + 1);
    b->w.data = data = need_map((size_t)pack_bytes(&b->w));
    if (n_rows == 1 || b->w.raw)
        pack_panels(&b->w, &t, 0, 0, b->w.n_panels);
    else
        bench_pack(b, &t);
    for (uint32_t m = 1; m < b->w.n_mats; m++)
        memcpy((uint8_t *)data + m * b->w.mat_bytes, data, (size_t)b->w.mat_bytes);
    b->n_rows = n_rows;
    b->act_stride = act_row_bytes(b->w.act, n_in);
    b->act = need_map(b->act_stride * n_rows);
    b->out = need_map(sizeof *b->out * n_rows * n_out);
    x = need_map(sizeof *x * n_in);
    for (uint32_t i = 0; i < n_in; i++)
        x[i] = (float)rng_normal(&rng);
    for (uint32_t r = 0; r < n_rows; r++)
        b->k.act_prepare[b->w.act](b->act + r * b->act_stride, x, n_in);
    printf("%-6s [%6u,%5u] x %4u  ", dtype_name(dtype), n_out, n_in, n_rows);
    if (n_rows == 1)
        bench_stream(b);
    else
        bench_compute(b);
    (void)fflush(stdout);
    mem_unmap(x, sizeof *x * n_in);
    mem_unmap(b->out, sizeof *b->out * n_rows * n_out);
    mem_unmap(b->act, b->act_stride * n_rows);
    mem_unmap(data, (size_t)pack_bytes(&b->w));
    mem_unmap(file, (size_t)t.size_bytes);
}

/* [mask=NAME] [threads=N] [stream=MIB of weights for one row] [TYPE] [ROWS] */
void ck_matmul_bench(int argc, char **argv)
{
    static const uint32_t shapes[][2] = {
        { 2048, 2048 }, { 512, 2048 }, { 8192, 2048 }, { 2048, 8192 }
    };
    static const uint32_t rows[] = { 1, 4, 16, 32, 512 };
    static const enum dtype types[] = {
        DTYPE_Q4_0, DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_BF16, DTYPE_F16, DTYPE_F32
    };
    struct bench b = { .stream_mib = STREAM_MIB };
    enum dtype only = DTYPE_COUNT;
    uint32_t only_rows = 0, mask = CPU_ALL;
    unsigned n_threads = 0;
    struct err e;

    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "mask=", 5) == 0) {
            if (!ck_mask_usable(argv[i] + 5, &mask))
                (void)fprintf(stderr, "checkkern: this machine lacks %s\n", argv[i] + 5);
        } else if (strncmp(argv[i], "threads=", 8) == 0) {
            n_threads = (unsigned)strtoul(argv[i] + 8, NULL, 10);
        } else if (strncmp(argv[i], "stream=", 7) == 0) {
            b.stream_mib = (uint32_t)strtoul(argv[i] + 7, NULL, 10);
        } else if (!dtype_parse(argv[i], &only)) {
            only_rows = (uint32_t)strtoul(argv[i], NULL, 10);
        }
    }
    kernels_init(&b.k, mask);
    if (team_open(&b.team, n_threads ? n_threads : team_default_threads(), &e) < 0) {
        (void)fprintf(stderr, "checkkern: %s\n", e.msg);
        return;
    }
    b.scratch = need_map(MATMUL_SCRATCH * team_size(b.team));
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        const enum dtype type = only == DTYPE_COUNT ? types[t] : only;

        for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
            for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
                if (!only_rows || rows[r] == only_rows)
                    bench_shape(&b, type, shapes[s][0], shapes[s][1], rows[r]);
        if (only != DTYPE_COUNT)
            break;
    }
    mem_unmap(b.scratch, MATMUL_SCRATCH * team_size(b.team));
    team_close(b.team);
}
