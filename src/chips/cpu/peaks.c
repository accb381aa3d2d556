/* peaks.c: runs the busiest loops on all threads and keeps the best time; see peaks.h. */
#include "chips/cpu/peaks.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"

#define REGION_BYTES ((size_t)256 << 20)
#define SLICE_BYTES  ((size_t)1 << 20)
#define TARGET_NS    20000000u      /* of one run */
#define N_RUNS       3
#define N_READS      31         /* passes over the region: long enough to be sustained */

peak_fn *peak_of(enum peak_kind kind, uint32_t mask)
{
#if defined(__x86_64__)
    mask &= cpu_features();
    if (kind == PEAK_F32)
        return mask & CPU_AVX512 ? peak_f32_avx512 : mask & CPU_AVX2 ? peak_f32_avx2 : peak_f32_ref;
    if (kind == PEAK_INT8)
        return mask & CPU_AVX512_VNNI ? peak_int8_avx512vnni
             : mask & CPU_AVX_VNNI ? peak_int8_avxvnni
             : mask & CPU_AVX2 ? peak_int8_avx2 : NULL;
    if (kind == PEAK_BF16)
        return mask & CPU_AVX512_BF16 ? peak_bf16_avx512 : NULL;
    return NULL;
#elif defined(__aarch64__)
    mask &= cpu_features();
    if (kind == PEAK_F32)
        return mask & CPU_NEON ? peak_f32_neon : peak_f32_ref;
    if (kind == PEAK_INT8)
        return mask & CPU_NEON_I8MM ? peak_int8_neoni8mm
             : mask & CPU_NEON_DOT ? peak_int8_neondot
             : mask & CPU_NEON ? peak_int8_neon : NULL;
    if (kind == PEAK_BF16)
        return mask & CPU_NEON_BF16 ? peak_bf16_neon : NULL;
    return NULL;
#else
    (void)mask;
    return kind == PEAK_F32 ? peak_f32_ref : NULL;
#endif
}

uint64_t peak_f32_ref(uint64_t n)
{
    volatile float keep;
    float a[16];

    for (unsigned i = 0; i < 16; i++)
        a[i] = (float)i;
    for (uint64_t k = 0; k < n; k++)
        for (unsigned i = 0; i < 16; i++)
            a[i] = a[i] * 0.5f + 0.25f;
    for (unsigned i = 1; i < 16; i++)
        a[0] += a[i];
    keep = a[0];
    (void)keep;
    return n * 16 * 2;
}

uint64_t peak_read_ref(const void *p, size_t n)
{
    const uint64_t *x = p;
    uint64_t sum[8] = { 0 };

    for (size_t i = 0; i + 8 <= n / 8; i += 8)
        for (unsigned k = 0; k < 8; k++)
            sum[k] += x[i + k];
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

uint64_t peak_read(const void *p, size_t n, uint32_t mask)
{
#if defined(__x86_64__)
    if (mask & cpu_features() & CPU_AVX512)
        return peak_read_avx512(p, n);
    if (mask & cpu_features() & CPU_AVX2)
        return peak_read_avx2(p, n);
#elif defined(__aarch64__)
    if (mask & cpu_features() & CPU_NEON)
        return peak_read_neon(p, n);
#endif
    (void)mask;
    return peak_read_ref(p, n);
}

struct job {
    struct team *team;
    peak_fn     *fn;
    uint64_t     n, ops, sink;
    uint32_t     mask;
    uint8_t     *region;
};

static void run_ops(void *arg, unsigned worker)
{
    struct job *j = arg;
    const uint64_t ops = j->fn(j->n);

    (void)worker;
    (void)__atomic_fetch_add(&j->ops, ops, __ATOMIC_RELAXED);
}

static void run_touch(void *arg, unsigned worker)
{
    struct job *j = arg;
    size_t i;

    (void)worker;
    while ((i = team_next(j->team)) < REGION_BYTES / SLICE_BYTES)
        for (size_t k = 0; k < SLICE_BYTES; k += 4096)
            j->region[i * SLICE_BYTES + k] = (uint8_t)i;
}

static void run_read(void *arg, unsigned worker)
{
    struct job *j = arg;
    uint64_t sum = 0;
    size_t i;

    (void)worker;
    while ((i = team_next(j->team)) < REGION_BYTES / SLICE_BYTES)
        sum += peak_read(j->region + i * SLICE_BYTES, SLICE_BYTES, j->mask);
    (void)__atomic_fetch_add(&j->sink, sum, __ATOMIC_RELAXED);
}

static uint64_t timed(struct job *j, team_fn *fn)
{
    const uint64_t start = clock_mono_ns();

    team_run(j->team, fn, j);
    return clock_mono_ns() - start + 1;
}

static double best_ops(struct job *j, enum peak_kind kind)
{
    double best = 0.0;

    j->fn = peak_of(kind, j->mask);
    if (!j->fn)
        return 0.0;
    j->n = 1u << 16;        /* find a length, then keep it */
    for (uint64_t ns = timed(j, run_ops); ns < TARGET_NS / 2 && j->n < UINT64_C(1) << 40;
         ns = timed(j, run_ops))
        j->n *= 2;
    for (int i = 0; i < N_RUNS; i++) {
        uint64_t ns;

        j->ops = 0;
        ns = timed(j, run_ops);
        if ((double)j->ops / (double)ns > best)
            best = (double)j->ops / (double)ns;
    }
    return best * 1e9;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

int peaks_measure(struct peaks *p, struct team *team, uint32_t mask, struct err *e)
{
    struct job j = { .team = team, .mask = mask };
    double rate[N_READS];

    j.region = mem_map(REGION_BYTES);
    if (!j.region)
        return err_set(e, WATT_ENOMEM, "peaks: no region of %zu bytes to read", REGION_BYTES);
    (void)timed(&j, run_touch);
    for (int i = 0; i < N_READS; i++)
        rate[i] = (double)REGION_BYTES / (double)timed(&j, run_read);
    mem_unmap(j.region, REGION_BYTES);
    qsort(rate, N_READS, sizeof *rate, by_value);
    p->read_bytes_s = rate[N_READS / 2] * 1e9;
    p->read_best_bytes_s = rate[N_READS - 1] * 1e9;
    p->f32_ops_s = best_ops(&j, PEAK_F32);
    p->int8_ops_s = best_ops(&j, PEAK_INT8);
    p->bf16_ops_s = best_ops(&j, PEAK_BF16);
    return 0;
}
