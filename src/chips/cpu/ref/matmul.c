/* matmul.c: matrix products, scalar, sums in double: the oracle, and the kernels of
 * machines that no other folder serves. Any type: weights are read back to f32. */
#include <string.h>

#include "chips/cpu/layout.h"
#include "chips/cpu/ref/ref.h"

enum { STEP = 8 * LAYOUT_STEP, ROWS = 64 };

struct part {
    double sum[ROWS];
    float  w[STEP];
};
_Static_assert(sizeof(struct part) <= MATMUL_SCRATCH, "scratch");

static double dot_f32(const uint8_t *act, const float *w, uint32_t from, uint32_t n)
{
    const float *x = (const void *)act;
    double sum = 0.0;

    for (uint32_t i = 0; i < n; i++)
        sum += (double)x[from + i] * (double)w[i];
    return sum;
}

static double dot_bf16(const uint8_t *act, const float *w, uint32_t from, uint32_t n)
{
    const uint16_t *x = (const void *)act;
    double sum = 0.0;

    for (uint32_t i = 0; i < n; i++)
        sum += (double)bf16_to_f32(x[from + i]) * (double)w[i];
    return sum;
}

static double dot_q8(const uint8_t *act, const float *w, uint32_t from, uint32_t n, size_t at_d)
{
    const int8_t *q = (const void *)act;
    const float *d = (const void *)(act + at_d);
    double sum = 0.0;

    for (uint32_t i = 0; i < n; i++)
        sum += (double)d[(from + i) / ACT_BLOCK] * q[from + i] * (double)w[i];
    return sum;
}

/* Output row o of the matrix times at most ROWS activation rows from r0. */
static void one_output(const struct matmul_args *a, uint32_t o, uint32_t r0, uint32_t n_rows)
{
    struct part *p = a->scratch;
    const struct packed *w = a->w;
    const size_t at_d = act_parts(w->n_in).d;

    for (uint32_t r = 0; r < n_rows; r++)
        p->sum[r] = 0.0;
    for (uint32_t from = 0; from < w->n_in; from += STEP) {
        const uint32_t n = w->n_in - from < STEP ? w->n_in - from : STEP;

        layout_read(w, a->mat, o, from, n, p->w);
        for (uint32_t r = 0; r < n_rows; r++) {
            const uint32_t row = a->act_index ? a->act_index[r0 + r] : r0 + r;
            const uint8_t *act = (const uint8_t *)a->act + row * a->act_stride;

            if (w->act == ACTF_Q8)
                p->sum[r] += dot_q8(act, p->w, from, n, at_d);
            else if (w->act == ACTF_BF16)
                p->sum[r] += dot_bf16(act, p->w, from, n);
            else
                p->sum[r] += dot_f32(act, p->w, from, n);
        }
    }
    for (uint32_t r = 0; r < n_rows; r++) {
        const uint32_t row = a->out_index ? a->out_index[r0 + r] : r0 + r;

        a->out[row * a->out_stride + o] = (float)p->sum[r];
    }
}

void matmul_ref(const struct matmul_args *a)
{
    const uint32_t end = a->last * PACK_ROWS < a->w->n_out ? a->last * PACK_ROWS : a->w->n_out;

    for (uint32_t r0 = 0; r0 < a->n_rows; r0 += ROWS) {
        const uint32_t n_rows = a->n_rows - r0 < ROWS ? a->n_rows - r0 : ROWS;

        for (uint32_t o = a->first * PACK_ROWS; o < end; o++)
            one_output(a, o, r0, n_rows);
    }
}

void kernels_init_ref_matmul(struct kernels *k)
{
    k->act_prepare[ACTF_F32] = act_f32_ref;
    k->act_prepare[ACTF_BF16] = act_bf16_ref;
    k->act_prepare[ACTF_Q8] = act_q8_ref;
    for (uint32_t i = 0; i < DTYPE_COUNT; i++) {
        const struct dtype_info *info = dtype_info(i);

        if (info && info->dequant)
            k->matmul[i] = matmul_ref;
    }
}
