/* bench_train.c: time of forward and backward of one batch, against the machine's peak:
 *   bench_train LAYERS WIDTH HEADS VOCAB STREAMS ROWS [f32|bf16 [THREADS [STEPS [llama]]]]
 * The model is GPT-2's block (or Llama's), weights at random. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "chips/cpu/peaks.h"
#include "chips/train.h"

struct model {
    struct program *p;
    struct rng rng;
    uint32_t n_weights;
};

static wid weight(struct model *m, uint32_t rows, uint32_t cols, float mean, float deviation)
{
    const size_t n = (size_t)(rows ? rows : 1) * cols;
    float *x = mem_array(n, sizeof *x);
    struct tensor t = { .data = x, .dtype = DTYPE_F32, .n_dims = rows ? 2 : 1,
                        .size_bytes = n * 4 };
    char name[32];

    if (!x)
        exit(1);
    for (size_t i = 0; i < n; i++)
        x[i] = mean + deviation * (float)(rng_double(&m->rng) - 0.5);
    t.shape[0] = rows ? rows : cols;
    t.shape[1] = cols;
    (void)snprintf(name, sizeof name, "w%u", m->n_weights++);
    return prog_weight(m->p, name, &t);
}

static val linear(struct model *m, val x, uint32_t n, bool bias)
{
    const uint32_t n_in = prog_width(m->p, x);

    return prog_linear(m->p, x, weight(m, n, n_in, 0, 0.04f), bias ? weight(m, 0, n, 0, 0) : 0, 0,
                       (struct linear_args){ 0 });
}

static val norm(struct model *m, val x, bool llama)
{
    const uint32_t n = prog_width(m->p, x);

    return prog_norm(m->p, x, weight(m, 0, n, 1, 0), llama ? 0 : weight(m, 0, n, 0, 0),
                     (struct norm_args){ .kind = llama ? NORM_RMS : NORM_LAYER, .eps = 1e-5f });
}

static val attention(struct model *m, val x, uint32_t heads, bool llama)
{
    const uint32_t n = prog_width(m->p, x), d = n / heads;
    const struct attn_args a = { .n_heads = heads, .n_kv_heads = heads, .k_dim = d, .v_dim = d,
                                 .scale = 1 / sqrtf((float)d), .write = true };
    const struct rope_args r = { .pairing = ROPE_NEOX, .n_heads = heads, .head_dim = d,
                                 .n_rot = d, .base = 10000, .freq_scale = 1, .attn_factor = 1 };
    val q, k, v;

    if (llama) {
        q = prog_rope(m->p, linear(m, x, n, false), 0, &r);
        k = prog_rope(m->p, linear(m, x, n, false), 0, &r);
        v = linear(m, x, n, false);
    } else {
        x = linear(m, x, 3 * n, true);
        q = prog_cols(m->p, x, 0, n);
        k = prog_cols(m->p, x, n, n);
        v = prog_cols(m->p, x, 2 * n, n);
    }
    x = prog_attention(m->p, q, k, v, 0, prog_state_kv(m->p, heads, d, d, 0), &a);
    return linear(m, x, n, !llama);
}

static val feed_forward(struct model *m, val x, bool llama)
{
    const uint32_t n = prog_width(m->p, x), wide = llama ? (n * 8 / 3 + 31) / 32 * 32 : 4 * n;
    const struct act_args silu = { .act = ACT_SILU }, gelu = { .act = ACT_GELU };

    if (llama)
        x = prog_gated(m->p, linear(m, x, wide, false), linear(m, x, wide, false), silu);
    else
        x = prog_unary(m->p, linear(m, x, wide, true), gelu);
    return linear(m, x, n, !llama);
}

static struct program *build(struct model *m, const uint32_t *a, bool llama)
{
    struct err e = { 0 };
    wid table;
    val x;

    rng_init(&m->rng, 1);
    if (prog_open(&m->p, &e) < 0)
        exit(1);
    table = weight(m, a[3], a[1], 0, 0.04f);
    x = prog_embed(m->p, table, (struct embed_args){ .by = EMBED_TOKEN });
    if (!llama)
        x = prog_add(m->p, x, prog_embed(m->p, weight(m, a[5], a[1], 0, 0.04f),
                                         (struct embed_args){ .by = EMBED_POSITION }));
    for (uint32_t i = 0; i < a[0]; i++) {
        prog_layer(m->p, i);
        x = prog_add(m->p, x, attention(m, norm(m, x, llama), a[2], llama));
        x = prog_add(m->p, x, feed_forward(m, norm(m, x, llama), llama));
    }
    x = prog_linear(m->p, norm(m, x, llama), table, 0, 0, (struct linear_args){ 0 });
    prog_output(m->p, prog_rows(m->p, x));
    if (prog_finish(m->p, &e) < 0) {
        (void)fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
    return m->p;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    uint32_t a[6] = { 4, 128, 4, 65, 12, 64 };
    const bool bf16 = argc > 7 && strcmp(argv[7], "bf16") == 0;
    const unsigned threads = argc > 8 ? (unsigned)strtoul(argv[8], NULL, 10) : 2;
    const int steps = argc > 9 ? (int)strtol(argv[9], NULL, 10) : 10;
    struct model m = { 0 };
    struct train_opts o = { .isa_mask = CPU_ALL, .compute = bf16 ? DTYPE_BF16 : DTYPE_F32 };
    struct train_loss loss = { 0 };
    struct train_memory memory;
    struct train *t = NULL;
    struct peaks peaks;
    struct err e = { 0 };
    uint32_t n_rows, *lengths;
    int32_t *token;
    double cpu = 0, ops, *ms = mem_array((size_t)steps + 1, sizeof *ms), refresh = 0;

    for (int i = 0; i < 6 && i + 1 < argc; i++)
        a[i] = (uint32_t)strtoul(argv[i + 1], NULL, 10);
    n_rows = a[4] * a[5];
    o.max_rows = n_rows;
    o.max_streams = a[4];
    lengths = mem_array(a[4], sizeof *lengths);
    token = mem_array(n_rows, sizeof *token);
    if (!lengths || !token || !ms || team_open(&o.team, threads, &e) < 0 ||
        train_open(&t, build(&m, a, argc > 10), &o, &e) < 0 ||
        peaks_measure(&peaks, o.team, CPU_ALL, &e) < 0) {
        (void)fprintf(stderr, "%s\n", e.msg);
        return 1;
    }
    for (uint32_t i = 0; i < a[4]; i++)
        lengths[i] = a[5];
    for (uint32_t i = 0; i < n_rows; i++)
        token[i] = (int32_t)rng_below(&m.rng, a[3]);
    for (int i = 0; i <= steps; i++) {
        const struct train_batch b = { .n_rows = n_rows, .n_streams = a[4], .stream_rows = lengths,
                                       .token = token, .target = token };
        uint64_t start = clock_mono_ns();
        const clock_t used = clock();

        if (train_forward_backward(t, &b, 1.0f / (float)n_rows, &loss, &e) < 0)
            return 1;
        ms[i] = (double)(clock_mono_ns() - start) / 1e6;
        if (i > 0)
            cpu += (double)(clock() - used) / CLOCKS_PER_SEC / steps;
        start = clock_mono_ns();
        train_refresh(t);
        refresh += (double)(clock_mono_ns() - start) / 1e6 / (steps + 1);
    }
    qsort(ms + 1, (size_t)steps, sizeof *ms, by_value);
    train_memory(t, &memory);
    ops = train_ops(t, n_rows, a[4], n_rows);
    (void)printf("%u layers x %u, %u x %u rows, %s, %u threads: loss %.4f\n", a[0], a[1], a[4],
                 a[5], bf16 ? "BF16" : "F32", threads, loss.sum / loss.weight);
    (void)printf("median %.2f ms, best %.2f ms, refresh %.2f ms; %.1f GFLOP a step\n",
                 ms[1 + steps / 2], ms[1], refresh, ops / 1e9);
    (void)printf("%.1f GFLOP/s at the median, %.1f at best; peak %.1f: %.1f %%, %.1f %%\n",
                 ops / ms[1 + steps / 2] / 1e6, ops / ms[1] / 1e6,
                 (bf16 ? peaks.bf16_ops_s : peaks.f32_ops_s) / 1e9,
                 100 * ops / ms[1 + steps / 2] * 1e3 / (bf16 ? peaks.bf16_ops_s : peaks.f32_ops_s),
                 100 * ops / ms[1] * 1e3 / (bf16 ? peaks.bf16_ops_s : peaks.f32_ops_s));
    (void)printf("%.1f GFLOP per second of processor time\n", ops / cpu / 1e9);
    (void)printf("memory: masters %.1f, gradients %.1f, prepared %.1f, values %.1f, scratch %.1f MB\n",
                 (double)memory.masters / 1e6, (double)memory.gradients / 1e6,
                 (double)memory.prepared / 1e6, (double)memory.values / 1e6,
                 (double)memory.scratch / 1e6);
    train_close(t);
    return 0;
}
