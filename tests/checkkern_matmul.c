/* checkkern_matmul.c: packing, prepared activations and matrix products.
 *
 * The expectation is computed in double from the file's own blocks, dequantised,
 * and from the prepared activations read back, so that only the additions of the
 * kernel can differ. Tolerance: 2^-24 (8 + 4 sqrt(n_in)) of the sum of the
 * absolute terms; types with minima add scale and minimum as terms of their own, each
 * up to twice the largest weight of a block. Cuts by rows and panels must not change one bit. */
#include "checkkern.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chips/cpu/layout.h"
#include "chips/quant_random.h"

struct shape { uint32_t n_mats, n_out, n_in, n_rows; };

struct product {
    struct ck     *ck;
    const struct kernels *k;
    struct shape   s;
    struct tensor  t;
    struct packed  w;
    uint8_t       *file, *act, *scratch;
    float         *x;               /* activations before preparation */
    float         *out;             /* [n_rows][out_stride] */
    size_t         row_bytes, act_stride, out_stride;
    double        *wd, *ad;         /* dequantised: [n_mats * n_out][n_in], [n_rows][n_in] */
};

static void *need(size_t n)
{
    void *p = calloc(n ? n : 1, 1);

    if (!p)
        abort();
    return p;
}

static void fill_weights(struct product *p, enum dtype dtype)
{
    struct rng *rng = &p->ck->rng;
    const size_t n = (size_t)p->s.n_mats * p->s.n_out * p->s.n_in;

    if (dtype == DTYPE_F32) {
        for (size_t i = 0; i < n; i++) {
            const float v = (float)rng_normal(rng);

            memcpy(p->file + 4 * i, &v, 4);
        }
    } else if (dtype == DTYPE_F16 || dtype == DTYPE_BF16) {
        for (size_t i = 0; i < n; i++) {
            const float v = (float)rng_normal(rng);
            const uint16_t h = dtype == DTYPE_F16 ? f32_to_f16(v) : f32_to_bf16(v);

            memcpy(p->file + 2 * i, &h, 2);
        }
    } else if (dtype == DTYPE_F64) {
        for (size_t i = 0; i < n; i++) {
            const double v = rng_normal(rng);

            memcpy(p->file + 8 * i, &v, 8);
        }
    } else {
        const size_t row = p->row_bytes;

        for (size_t r = 0; r < (size_t)p->s.n_mats * p->s.n_out; r++)
            quant_random_blocks(dtype, p->file + r * row, p->s.n_in, 1.0f, rng);
    }
}

/* Rows of ordinary numbers; some of extremes: all zero, huge, tiny, one outlier. */
static void fill_activations(struct product *p)
{
    struct rng *rng = &p->ck->rng;

    for (uint32_t r = 0; r < p->s.n_rows; r++) {
        const uint32_t kind = rng_below(rng, 8);
        float *x = p->x + (size_t)r * p->s.n_in;

        for (uint32_t i = 0; i < p->s.n_in; i++) {
            const float v = (float)rng_normal(rng);

            x[i] = kind == 0 ? 0.0f : kind == 1 ? v * 1e20f : kind == 2 ? v * 1e-20f
                 : kind == 3 ? (rng_below(rng, 2) ? 3.0f : -3.0f) : v;
        }
        if (kind == 4)
            x[rng_below(rng, p->s.n_in)] = 1e4f;
    }
}

static void read_activations(struct product *p, enum act_format f)
{
    const struct act_parts at = act_parts(p->s.n_in);

    for (uint32_t r = 0; r < p->s.n_rows; r++) {
        const uint8_t *a = p->act + r * p->act_stride;

        for (uint32_t i = 0; i < p->s.n_in; i++) {
            double v;

            if (f == ACTF_Q8)
                v = (double)((const float *)(const void *)(a + at.d))[i / ACT_BLOCK] *
                    ((const int8_t *)a)[i];
            else if (f == ACTF_BF16)
                v = (double)bf16_to_f32(((const uint16_t *)(const void *)a)[i]);
            else
                v = (double)((const float *)(const void *)a)[i];
            p->ad[(size_t)r * p->s.n_in + i] = v;
        }
    }
}

static bool product_open(struct product *p, struct ck *ck, const struct kernels *k,
                         const struct kernels *ref, enum dtype dtype, struct shape s)
{
    const struct dtype_info *info = dtype_info(dtype);
    float *row;
    uint64_t row_bytes = 0;
    struct err e;

    memset(p, 0, sizeof *p);
    p->ck = ck;
    p->k = k;
    p->s = s;
    if (!dtype_row_bytes(dtype, s.n_in, &row_bytes))
        abort();
    p->row_bytes = (size_t)row_bytes;
    p->t = (struct tensor){ .dtype = dtype, .n_dims = 3,
                            .shape = { s.n_mats, s.n_out, s.n_in },
                            .size_bytes = row_bytes * s.n_out * s.n_mats };
    p->t.data = p->file = ck_guarded(ck, (size_t)p->t.size_bytes, 1);
    if (pack_describe(&p->w, &p->t, &e) < 0) {
        ck_expect(ck, false, "%s: %s", info->name, e.msg);
        ck_free(p->file);
        return false;
    }
    fill_weights(p, dtype);
    p->w.data = ck_guarded(ck, (size_t)pack_bytes(&p->w), p->w.raw ? 1 : 64);
    for (uint32_t m = 0; m < s.n_mats; m++) {       /* in two cuts */
        const uint32_t cut = rng_below(&ck->rng, p->w.n_panels + 1);

        pack_panels(&p->w, &p->t, m, cut, p->w.n_panels);
        pack_panels(&p->w, &p->t, m, 0, cut);
    }
    p->x = ck_guarded(ck, 4 * (size_t)s.n_rows * s.n_in, 4);
    fill_activations(p);
    p->act_stride = act_row_bytes(p->w.act, s.n_in);
    p->act = ck_guarded(ck, p->act_stride * s.n_rows, 64);
    row = need(p->act_stride);
    for (uint32_t r = 0; r < s.n_rows; r++) {
        const float *x = p->x + (size_t)r * s.n_in;

        k->act_prepare[p->w.act](p->act + r * p->act_stride, x, s.n_in);
        ref->act_prepare[p->w.act](row, x, s.n_in);
        ck_expect(ck, memcmp(row, p->act + r * p->act_stride, p->act_stride) == 0,
                  "act_prepare %d of %u inputs differs", (int)p->w.act, s.n_in);
    }
    free(row);
    p->scratch = ck_guarded(ck, MATMUL_SCRATCH, 64);
    p->out_stride = s.n_out + rng_below(&ck->rng, 3);
    p->out = ck_guarded(ck, 4 * (p->out_stride * (s.n_rows - 1) + s.n_out), 4);

    row = need(sizeof *row * s.n_in);
    p->wd = need(sizeof *p->wd * s.n_mats * s.n_out * s.n_in);
    p->ad = need(sizeof *p->ad * s.n_rows * s.n_in);
    for (uint32_t r = 0; r < s.n_mats * s.n_out; r++) {
        float *back = need(sizeof *back * s.n_in);

        info->dequant(row, p->file + r * p->row_bytes, s.n_in);
        pack_read_row(&p->w, r / s.n_out, r % s.n_out, back);
        ck_expect(ck, memcmp(row, back, sizeof *row * s.n_in) == 0,
                  "%s %ux%u: row %u doesn't come back", info->name, s.n_out, s.n_in, r);
        for (uint32_t i = 0; i < s.n_in; i++)
            p->wd[(size_t)r * s.n_in + i] = (double)row[i];
        free(back);
    }
    free(row);
    read_activations(p, p->w.act);
    return true;
}

static void product_close(struct product *p)
{
    ck_free(p->file);
    ck_free(p->w.data);
    ck_free(p->x);
    ck_free(p->act);
    ck_free(p->scratch);
    ck_free(p->out);
    free(p->wd);
    free(p->ad);
}

static struct matmul_args args_of(struct product *p, uint32_t mat)
{
    return (struct matmul_args){ .out = p->out, .out_stride = p->out_stride, .act = p->act,
                                 .act_stride = p->act_stride, .n_rows = p->s.n_rows, .w = &p->w,
                                 .mat = mat, .first = 0, .last = p->w.n_panels,
                                 .scratch = p->scratch };
}

static bool has_minima(enum dtype t)
{
    return t == DTYPE_Q4_1 || t == DTYPE_Q5_1 || t == DTYPE_Q2_K || t == DTYPE_Q4_K ||
           t == DTYPE_Q5_K;
}

/* The expectation of one output, and the sum of what the kernel's terms may reach. */
static double exact(const struct product *p, const double *w, const double *a, double *sum_abs)
{
    const double extra = has_minima(p->w.dtype) ? 3.0 : 0.0;
    double sum = 0.0;

    *sum_abs = 0.0;
    for (uint32_t b = 0; b < p->s.n_in; b += 32) {
        const uint32_t end = p->s.n_in - b < 32 ? p->s.n_in : b + 32;
        double top = 0.0, total = 0.0;

        for (uint32_t i = b; i < end; i++) {
            sum += w[i] * a[i];
            *sum_abs += fabs(w[i] * a[i]);
            top = fmax(top, fabs(w[i]));
            total += fabs(a[i]);
        }
        *sum_abs += extra * top * total;
    }
    return sum;
}

static void check_values(struct product *p, uint32_t mat)
{
    const struct shape s = p->s;
    double worst = 0.0;
    uint32_t at_r = 0, at_o = 0;

    for (uint32_t r = 0; r < s.n_rows; r++) {
        for (uint32_t o = 0; o < s.n_out; o++) {
            const double *w = p->wd + ((size_t)mat * s.n_out + o) * s.n_in;
            const double *a = p->ad + (size_t)r * s.n_in;
            double sum_abs, err;
            const double sum = exact(p, w, a, &sum_abs);

            err = fabs((double)p->out[r * p->out_stride + o] - sum);
            err /= 0x1p-24 * (8.0 + 4.0 * sqrt(s.n_in)) * sum_abs + 1e-37;
            if (!(err <= worst)) {
                worst = err;
                at_r = r;
                at_o = o;
            }
        }
    }
    ck_expect(p->ck, worst <= 1.0,
              "matmul %s [%u, %u] x %u rows: %.3g times the tolerance at row %u, output %u",
              dtype_name(p->w.dtype), s.n_out, s.n_in, s.n_rows, worst, at_r, at_o);
}

/* A random cut by panels and rows, rows in another order, must give the same bits, and
 * write nothing else. */
static void check_cuts(struct product *p, uint32_t mat)
{
    const struct shape s = p->s;
    const size_t n = p->out_stride * (s.n_rows - 1) + s.n_out;
    float *whole = need(4 * n);
    uint32_t *index = need(sizeof *index * s.n_rows);
    struct matmul_args a = args_of(p, mat);
    bool same = true;

    memcpy(whole, p->out, 4 * n);
    for (uint32_t r = 0; r < s.n_rows; r++)
        for (uint32_t o = 0; o < s.n_out; o++)
            p->out[r * p->out_stride + o] = -1.0f;
    for (uint32_t i = 0; i < s.n_rows; i++)
        index[i] = i;
    for (uint32_t i = s.n_rows - 1; i > 0; i--) {
        const uint32_t j = rng_below(&p->ck->rng, i + 1), x = index[i];

        index[i] = index[j];
        index[j] = x;
    }
    for (uint32_t first = 0; first < p->w.n_panels; first = a.last) {
        a.first = first;
        a.last = first + 1 + rng_below(&p->ck->rng, p->w.n_panels - first);
        for (uint32_t r = 0; r < s.n_rows; r += a.n_rows) {
            a.n_rows = 1 + rng_below(&p->ck->rng, s.n_rows - r);
            a.act_index = a.out_index = index + r;
            p->k->matmul[p->w.dtype](&a);
        }
    }
    for (uint32_t r = 0; r < s.n_rows && same; r++)
        same = memcmp(whole + r * p->out_stride, p->out + r * p->out_stride,
                      4 * (r + 1 < s.n_rows ? p->out_stride : s.n_out)) == 0;
    ck_expect(p->ck, same, "matmul %s [%u, %u] x %u rows: cuts change bits, or stray writes",
              dtype_name(p->w.dtype), s.n_out, s.n_in, s.n_rows);
    free(whole);
    free(index);
}

static void one_product(struct ck *ck, const struct kernels *k, const struct kernels *ref,
                        enum dtype dtype, struct shape s)
{
    struct product p;

    if (!product_open(&p, ck, k, ref, dtype, s))
        return;
    for (uint32_t m = 0; m < s.n_mats; m++) {
        const struct matmul_args a = args_of(&p, m);

        k->matmul[dtype](&a);
        check_values(&p, m);
        check_cuts(&p, m);
    }
    product_close(&p);
}

/* NaN or infinity in an activation must show in every output of its row. */
static void check_nan(struct ck *ck, const struct kernels *k, enum dtype dtype)
{
    enum { N_IN = 512, N_OUT = 24 };
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    const struct shape s = { 1, N_OUT, N_IN, 2 };

    for (size_t b = 0; b < sizeof bad / sizeof bad[0]; b++) {
        struct product p;
        bool shows = true, clean = true;

        if (!product_open(&p, ck, k, k, dtype, s))
            return;
        memset(p.x, 0, 4 * (size_t)N_IN);
        p.x[N_IN + rng_below(&ck->rng, N_IN)] = bad[b];
        for (uint32_t r = 0; r < 2; r++)
            k->act_prepare[p.w.act](p.act + r * p.act_stride, p.x + (size_t)r * N_IN, N_IN);
        k->matmul[dtype](&(struct matmul_args){ .out = p.out, .out_stride = p.out_stride,
                         .act = p.act, .act_stride = p.act_stride, .n_rows = 2, .w = &p.w,
                         .last = p.w.n_panels, .scratch = p.scratch });
        for (uint32_t o = 0; o < N_OUT; o++) {
            shows = shows && !isfinite(p.out[p.out_stride + o]);
            clean = clean && p.out[o] == 0.0f;
        }
        ck_expect(ck, shows && clean, "matmul %s: an activation of %g", dtype_name(dtype),
                  (double)bad[b]);
        product_close(&p);
    }
}

/* Instruction sets that do the same operations in the same order give the same bits:
 * quantised types over AVX2 and the VNNI sets, floats over AVX2 and plain AVX-512; all over
 * NEON and its products of integers. */
static void check_sets(struct ck *ck, enum dtype dtype)
{
    static const char *const sets[] = { "avx2", "avxvnni", "avx512", "avx512vnni", "neon",
                                        "neondot", "neoni8mm" };
    const struct dtype_info *info = dtype_info(dtype);
    const struct shape s = { 1, 1 + rng_below(&ck->rng, 40),
                             (1 + rng_below(&ck->rng, 600u / info->block_elems + 1)) *
                             info->block_elems, 1 + rng_below(&ck->rng, 30) };
    struct kernels base, k;
    struct product p;
    const size_t n_sets = sizeof sets / sizeof sets[0];
    float *first = NULL;
    size_t n, base_set = 0;
    uint32_t mask;

    while (base_set < n_sets && !ck_mask_usable(sets[base_set], &mask))
        base_set++;
    if (base_set == n_sets)
        return;
    kernels_init(&base, mask);
    if (!product_open(&p, ck, &base, &base, dtype, s))
        return;
    n = 4 * (p.out_stride * (s.n_rows - 1) + s.n_out);
    for (size_t i = base_set; i < n_sets; i++) {
        const struct matmul_args a = args_of(&p, 0);

        if (!ck_mask_usable(sets[i], &mask))
            continue;
        kernels_init(&k, mask);
        k.matmul[dtype](&a);
        if (!first) {
            first = need(n);
            memcpy(first, p.out, n);
        }
        ck_expect(ck, memcmp(first, p.out, n) == 0, "matmul %s [%u, %u] x %u rows: %s differs "
                  "from %s", info->name, s.n_out, s.n_in, s.n_rows, sets[i], sets[base_set]);
    }
    free(first);
    product_close(&p);
}

void ck_matmul(struct ck *ck, const struct kernels *k, const struct kernels *ref)
{
    static const uint32_t rows[] = { 1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 16, 23, 31, 67 };
    const unsigned n_rows = sizeof rows / sizeof rows[0], step = ck->brief ? 4 : 1;

    for (uint32_t type = 0; type < DTYPE_COUNT; type++) {
        const struct dtype_info *info = dtype_info(type);
        const unsigned n = ck->full ? 3 * n_rows : n_rows;

        if (!info || !info->dequant)
            continue;
        ck_expect(ck, k->matmul[type] != NULL, "no product for %s", info->name);
        for (unsigned i = 0; i < n; i += step) {
            struct shape s = { 1, 1 + rng_below(&ck->rng, 40), 0, rows[i % n_rows] };
            const uint32_t blocks = 1 + rng_below(&ck->rng, 600u / info->block_elems + 1);

            s.n_in = blocks * info->block_elems;
            if (i == 3)
                s.n_mats = 3;
            one_product(ck, k, ref, (enum dtype)type, s);
        }
        if (type != DTYPE_F16 && type != DTYPE_F32 && type != DTYPE_F64)
            check_nan(ck, k, (enum dtype)type);
        if (k->mask == ref->mask)       /* once is enough */
            check_sets(ck, (enum dtype)type);
        if (ck->full)       /* deeper than any cut inside a kernel */
            one_product(ck, k, ref, (enum dtype)type, (struct shape){ 1, 33, 20480, 29 });
    }
}
