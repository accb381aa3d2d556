/* test_train_optim.c: optimisers against their formulas in double, the same bits for any number of
 * threads and instruction set, clipping, averages, schedules. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "chips/cpu/features.h"
#include "chips/cpu/update.h"
#include "models/train/optim.h"
#include "models/train/schedule.h"

enum { STEPS = 5, ROWS = 37, COLS = 53, MATS = 2, VECTOR = 1001 };
#define MATRIX (MATS * ROWS * COLS)

struct rig {
    float w[MATRIX + VECTOR], g[MATRIX + VECTOR];
    struct optim_slot slots[2];
};

static struct rig *rig_open(void)
{
    struct rig *r = mem_calloc(1, sizeof *r);
    struct rng rng;

    assert_non_null(r);
    rng_init(&rng, 4);
    for (size_t i = 0; i < MATRIX + VECTOR; i++)
        r->w[i] = (float)rng_normal(&rng);
    r->slots[0] = (struct optim_slot){ "matrix", r->w, r->g, MATS, ROWS, COLS, true, true };
    r->slots[1] = (struct optim_slot){ "vector", r->w + MATRIX, r->g + MATRIX, 1, 1, VECTOR, false,
                                       false };
    return r;
}

static void draw_gradients(struct rig *r, unsigned step)
{
    struct rng rng;

    rng_init(&rng, 100 + step);
    for (size_t i = 0; i < MATRIX + VECTOR; i++)
        r->g[i] = (float)(0.1 * rng_normal(&rng));
}

static struct optim_opts options(enum optim_kind kind)
{
    return (struct optim_opts){ .kind = kind, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f,
                                .momentum = 0.95f, .weight_decay = 0.1f, .isa_mask = CPU_ALL };
}

/* Runs STEPS steps; returns the last norm. */
static double run(struct rig *r, struct optim_opts o, unsigned threads)
{
    struct optim *opt;
    struct err e;
    double norm = 0;

    assert_int_equal(team_open(&o.team, threads, &e), 0);
    if (optim_open(&opt, r->slots, 2, &o, &e) < 0)
        fail_msg("%s", e.msg);
    for (unsigned s = 0; s < STEPS; s++) {
        draw_gradients(r, s);
        assert_int_equal(optim_step(opt, s, 0.01, &norm, &e), 0);
    }
    optim_close(opt);
    team_close(o.team);
    return norm;
}

static void test_adamw_formula(void **state)
{
    struct rig *r = rig_open(), *want = rig_open();
    static double m[MATRIX + VECTOR], v[MATRIX + VECTOR];

    (void)state;
    (void)run(r, options(OPTIM_ADAMW), 1);
    for (unsigned s = 0; s < STEPS; s++) {
        draw_gradients(want, s);
        for (size_t i = 0; i < MATRIX + VECTOR; i++) {
            const double g = (double)want->g[i];

            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.95 * v[i] + 0.05 * g * g;
            if (i < MATRIX)
                want->w[i] = (float)((double)want->w[i] * (1 - 0.01 * 0.1));
            want->w[i] = (float)((double)want->w[i] -
                                 0.01 * (m[i] / (1 - pow(0.9, s + 1))) /
                                     (sqrt(v[i] / (1 - pow(0.95, s + 1))) + 1e-8));
        }
    }
    for (size_t i = 0; i < MATRIX + VECTOR; i++)
        assert_true(fabs((double)r->w[i] - (double)want->w[i]) < 3e-6);
    mem_free(r);
    mem_free(want);
}

static void test_sgd_formula(void **state)
{
    struct rig *r = rig_open(), *want = rig_open();
    static double m[MATRIX + VECTOR];

    (void)state;
    (void)run(r, options(OPTIM_SGD), 2);
    for (unsigned s = 0; s < STEPS; s++) {
        draw_gradients(want, s);
        for (size_t i = 0; i < MATRIX + VECTOR; i++) {
            const double keep = i < MATRIX ? 1 - 0.01 * 0.1 : 1;

            m[i] = 0.95 * m[i] + (double)want->g[i];
            want->w[i] = (float)((double)want->w[i] * keep - 0.01 * m[i]);
        }
    }
    for (size_t i = 0; i < MATRIX + VECTOR; i++)
        assert_true(fabs((double)r->w[i] - (double)want->w[i]) < 3e-6);
    mem_free(r);
    mem_free(want);
}

/* The step that Muon takes has singular values near 1: D D^T is near the identity on the shorter
 * side, times the scale. The iteration leaves them between about 0.7 and 1.2. */
static void check_muon(uint32_t rows, uint32_t cols)
{
    const size_t n = (size_t)rows * cols;
    const uint32_t small = rows < cols ? rows : cols, large = rows < cols ? cols : rows;
    float *w = mem_calloc(n, sizeof *w), *g = mem_calloc(n, sizeof *g);
    struct optim_slot slot = { "m", w, g, 1, rows, cols, true, false };
    struct optim_opts o = options(OPTIM_MUON);
    const double scale = 0.2 * sqrt(large);
    struct optim *opt;
    struct rng rng;
    struct err e;
    double norm, trace = 0, most = 0;

    rng_init(&rng, 8);
    for (size_t i = 0; i < n; i++)
        g[i] = (float)rng_normal(&rng);
    assert_int_equal(team_open(&o.team, 1, &e), 0);
    assert_int_equal(optim_open(&opt, &slot, 1, &o, &e), 0);
    assert_int_equal(optim_step(opt, 0, 1.0, &norm, &e), 0);
    for (uint32_t i = 0; i < small; i++) {
        for (uint32_t j = 0; j < small; j++) {
            double sum = 0;

            for (uint32_t k = 0; k < large; k++)
                sum += rows < cols ? (double)w[i * cols + k] * (double)w[j * cols + k]
                                   : (double)w[k * cols + i] * (double)w[k * cols + j];
            sum /= scale * scale;
            if (i == j)
                trace += sum;
            else if (fabs(sum) > most)
                most = fabs(sum);
        }
    }
    assert_true(trace / small > 0.5 && trace / small < 1.3);
    assert_true(most < 0.35);
    optim_close(opt);
    team_close(o.team);
    mem_free(w);
    mem_free(g);
}

static void test_muon(void **state)
{
    (void)state;
    check_muon(24, 80);
    check_muon(80, 24);
    check_muon(33, 33);
}

static void test_threads(void **state)
{
    static const enum optim_kind kinds[] = { OPTIM_ADAMW, OPTIM_MUON, OPTIM_SGD };

    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct optim_opts o = options(kinds[k]);
        struct rig *one = rig_open();
        double norm;

        o.clip = 0.5f;
        o.ema = 0.9f;
        norm = run(one, o, 1);
        for (unsigned threads = 2; threads <= 3; threads++) {
            struct rig *more = rig_open();

            assert_true(run(more, o, threads) == norm);
            assert_memory_equal(more->w, one->w, sizeof one->w);
            mem_free(more);
        }
        mem_free(one);
    }
}

/* The kernels of every instruction set give the reference's bits, tails included. */
static void test_kernels(void **state)
{
    static const uint32_t masks[] = { CPU_AVX2, CPU_ALL };
    const struct adamw_args a = { 0.7f, 0.9f, 0.95f, 1e-8f, 0.999f, 0.02f, 1.7f };
    struct update_kernels ref, k;
    struct rng rng;

    (void)state;
    update_kernels_init(&ref, 0);
    rng_init(&rng, 2);
    for (size_t m = 0; m < 2; m++) {
        update_kernels_init(&k, masks[m]);
        for (size_t n = 1; n < 70; n++) {
            float x[2][4][70];

            for (size_t i = 0; i < 4 * 70; i++)
                x[0][i / 70][i % 70] = (float)rng_normal(&rng);
            for (size_t i = 0; i < 70; i++)
                x[0][2][i] = fabsf(x[0][2][i]);
            memcpy(x[1], x[0], sizeof x[0]);
            ref.adamw(x[0][0], x[0][1], x[0][2], x[0][3], n, &a);
            k.adamw(x[1][0], x[1][1], x[1][2], x[1][3], n, &a);
            assert_memory_equal(x[0], x[1], sizeof x[0]);
            ref.blend(x[0][0], x[0][1], 0.3f, 1.7f, n);
            k.blend(x[1][0], x[1][1], 0.3f, 1.7f, n);
            assert_memory_equal(x[0], x[1], sizeof x[0]);
        }
    }
}

static void test_clip_and_bad_gradients(void **state)
{
    struct optim_opts o = options(OPTIM_SGD);
    struct rig *r = rig_open(), *before = rig_open();
    struct optim *opt;
    struct err e;
    double norm, moved = 0;

    (void)state;
    o.momentum = 0;
    o.weight_decay = 0;
    o.clip = 0.25f;
    assert_int_equal(team_open(&o.team, 2, &e), 0);
    assert_int_equal(optim_open(&opt, r->slots, 2, &o, &e), 0);
    draw_gradients(r, 0);
    assert_int_equal(optim_step(opt, 0, 1, &norm, &e), 0);
    assert_true(norm > 5 && norm < 8);      /* 0.1 sqrt(4923) */
    for (size_t i = 0; i < MATRIX + VECTOR; i++)
        moved += pow((double)r->w[i] - (double)before->w[i], 2);
    assert_true(fabs(sqrt(moved) - 0.25) < 1e-4);
    memcpy(before->w, r->w, sizeof r->w);
    r->g[MATRIX + 3] = NAN;
    assert_int_equal(optim_step(opt, 1, 1, &norm, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "vector"));
    r->g[MATRIX + 3] = 0;
    r->g[5] = INFINITY;
    assert_int_equal(optim_step(opt, 1, 1, &norm, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "matrix"));
    assert_memory_equal(before->w, r->w, sizeof r->w);
    optim_close(opt);
    o.beta1 = 1.5f;
    assert_int_equal(optim_open(&opt, r->slots, 2, &o, &e), WATT_EINVAL);
    o.beta1 = NAN;
    assert_int_equal(optim_open(&opt, r->slots, 2, &o, &e), WATT_EINVAL);
    team_close(o.team);
    mem_free(r);
    mem_free(before);
}

static void test_average(void **state)
{
    struct optim_opts o = options(OPTIM_SGD);
    struct rig *r = rig_open();
    double want[3] = { (double)r->w[0], (double)r->w[MATRIX], 0 };
    struct optim *opt;
    struct err e;
    double norm;
    float last;

    (void)state;
    o.ema = 0.75f;
    assert_int_equal(team_open(&o.team, 1, &e), 0);
    assert_int_equal(optim_open(&opt, r->slots, 2, &o, &e), 0);
    assert_int_equal(optim_n_arrays(opt), 4);
    for (unsigned s = 0; s < STEPS; s++) {
        draw_gradients(r, s);
        assert_int_equal(optim_step(opt, s, 0.1, &norm, &e), 0);
        want[0] = 0.75 * want[0] + 0.25 * (double)r->w[0];
        want[1] = 0.75 * want[1] + 0.25 * (double)r->w[MATRIX];
    }
    last = r->w[0];
    optim_swap_ema(opt);
    assert_true(fabs((double)r->w[0] - want[0]) < 1e-6);
    assert_true(fabs((double)r->w[MATRIX] - want[1]) < 1e-6);
    optim_swap_ema(opt);
    assert_true(r->w[0] == last);
    optim_close(opt);
    team_close(o.team);
    mem_free(r);
}

static void test_schedules(void **state)
{
    struct schedule s = { SCHEDULE_COSINE, 100, 10, 20, 1.0, 0.1 };

    (void)state;
    assert_true(fabs(schedule_lr(&s, 0) - 0.1) < 1e-12);
    assert_true(fabs(schedule_lr(&s, 9) - 1.0) < 1e-12);
    assert_true(fabs(schedule_lr(&s, 10) - 1.0) < 1e-12);
    assert_true(fabs(schedule_lr(&s, 55) - 0.55) < 1e-12);
    assert_true(fabs(schedule_lr(&s, 100) - 0.1) < 1e-12);
    assert_true(fabs(schedule_lr(&s, 5000) - 0.1) < 1e-12);
    s.kind = SCHEDULE_LINEAR;
    assert_true(fabs(schedule_lr(&s, 55) - 0.55) < 1e-12);
    assert_true(fabs(schedule_lr(&s, 82) - 0.28) < 1e-12);
    s.kind = SCHEDULE_WSD;
    assert_true(fabs(schedule_lr(&s, 79) - 1.0) < 1e-12);
    assert_true(fabs(schedule_lr(&s, 85) - (0.1 + 0.9 * 0.5)) < 1e-12);
    s.kind = SCHEDULE_CONSTANT;
    assert_true(fabs(schedule_lr(&s, 99) - 1.0) < 1e-12);
    s = (struct schedule){ SCHEDULE_WSD, 3, 0, 50, 1.0, 0.0 };
    for (uint64_t i = 0; i < 5; i++)
        assert_true(schedule_lr(&s, i) >= 0 && schedule_lr(&s, i) <= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw_formula),
        cmocka_unit_test(test_sgd_formula),
        cmocka_unit_test(test_muon),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_kernels),
        cmocka_unit_test(test_clip_and_bad_gradients),
        cmocka_unit_test(test_average),
        cmocka_unit_test(test_schedules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
