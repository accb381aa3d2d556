/* test_grad_archs.c: every architecture of the golden models either trains, with gradients that
 * differences of the loss confirm, or names the instruction that has no backward. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>

#include "shared.h"
#include "golden.h"

#include "base/rng.h"
#include "chips/train.h"

enum { ROWS = 24 };

struct rig {
    struct model *m;
    struct train *t;
    struct train_batch b;
    int32_t token[ROWS], target[ROWS];
    uint32_t lengths[2];
};

static double loss_of(struct rig *r)
{
    struct train_loss l;
    struct err e = { 0 };

    train_refresh(r->t);
    assert_int_equal(train_evaluate(r->t, &r->b, &l, &e), 0);
    return l.sum;
}

/* All parameters along one direction, each by its own size. */
static double move(struct rig *r, float **keep, float **dir, float step)
{
    for (uint32_t i = 0; i < train_n_params(r->t); i++) {
        const struct train_param *p = train_param(r->t, i);

        for (uint64_t k = 0; p->trains && k < p->n; k++)
            p->w[k] = keep[i][k] + step * dir[i][k];
    }
    return loss_of(r);
}

/* A direction that follows the gradient in part, so that what it predicts is no small number
 * between large ones. */
static double draw(const struct train_param *p, float *dir, struct rng *rng)
{
    double norm = 0, size = 0, want = 0;

    for (uint64_t k = 0; k < p->n; k++) {
        norm += (double)p->g[k] * p->g[k] / (double)p->n;
        size += (double)p->w[k] * p->w[k] / (double)p->n;
    }
    norm = sqrt(norm) + 1e-30;
    size = sqrt(size) + 1e-3;
    for (uint64_t k = 0; k < p->n; k++) {
        dir[k] = (float)(size * (rng_normal(rng) + p->g[k] / norm));
        want += (double)dir[k] * p->g[k];
    }
    return want;
}

static void check_gradient(struct rig *r, const char *name)
{
    const uint32_t n = train_n_params(r->t);
    float **keep = mem_calloc(n, sizeof *keep), **dir = mem_calloc(n, sizeof *dir);
    double want = 0, near = 1;
    struct train_loss l;
    struct rng rng;
    struct err e = { 0 };

    assert_true(keep && dir);
    rng_init(&rng, 3);
    assert_int_equal(train_forward_backward(r->t, &r->b, 1, &l, &e), 0);
    for (uint32_t i = 0; i < n; i++) {
        const struct train_param *p = train_param(r->t, i);

        if (!p->trains)
            continue;
        keep[i] = mem_array(p->n, sizeof **keep);
        dir[i] = mem_array(p->n, sizeof **dir);
        assert_true(keep[i] && dir[i]);
        memcpy(keep[i], p->w, p->n * sizeof **keep);
        want += draw(p, dir[i], &rng);
    }
    for (float step = 1e-2f; step > 1e-5f; step /= 4) {    /* kinks and curvature want small ones */
        const double d = (move(r, keep, dir, step) - move(r, keep, dir, -step)) / (2 * (double)step);

        near = fmin(near, fabs(d - want) / (fabs(want) + 1e-6));
    }
    for (uint32_t i = 0; i < n; i++) {
        mem_free(keep[i]);
        mem_free(dir[i]);
    }
    mem_free(keep);
    mem_free(dir);
    if (!(near < 1e-2))
        fail_msg("%s: the gradient predicts %g, differences are off by %g of it", name, want, near);
}

/* True: it trains. */
static bool check_model(const char *path, const char *name, struct team *team)
{
    const struct train_opts o = { .team = team, .isa_mask = CPU_ALL, .compute = DTYPE_F32,
                                  .max_rows = ROWS, .max_streams = 2 };
    struct rig r = { .lengths = { 9, ROWS - 9 } };
    struct err e = { 0 };
    struct rng rng;
    int rc = model_open(&r.m, path, NULL, &e);

    if (rc < 0)
        fail_msg("%s: %s", name, e.msg);
    rng_init(&rng, 5);
    for (int i = 0; i < ROWS; i++) {
        r.token[i] = (int32_t)rng_below(&rng, model_facts(r.m)->n_vocab);
        r.target[i] = i % 6 == 2 ? -1 : (int32_t)rng_below(&rng, model_facts(r.m)->n_vocab);
    }
    r.b = (struct train_batch){ .n_rows = ROWS, .n_streams = 2, .stream_rows = r.lengths,
                                .token = r.token, .target = r.target };
    rc = train_open(&r.t, model_program(r.m), &o, &e);
    if (rc == 0)
        check_gradient(&r, name);
    else if (rc != WATT_ENOTSUP || !strstr(e.msg, "training: "))
        fail_msg("%s: %s", name, e.msg);
    else
        print_message("%s: %s\n", name, e.msg);
    train_close(r.t);
    model_close(r.m);
    return rc == 0;
}

static void test_models(void **state)
{
    char folder[4200];
    struct dirent *d;
    struct team *team;
    struct err e = { 0 };
    int n = 0, trained = 0;
    DIR *dir;

    (void)state;
    SHARED_OR_SKIP("golden/llama-dense.gguf");
    (void)snprintf(folder, sizeof folder, "%s", shared_path("golden"));
    assert_int_equal(team_open(&team, 2, &e), 0);
    dir = opendir(folder);
    assert_non_null(dir);
    while ((d = readdir(dir))) {
        const size_t len = strlen(d->d_name);
        char path[4700];

        if (len < 5 || strcmp(d->d_name + len - 5, ".gguf") != 0)
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", folder, d->d_name);
        n++;
        trained += check_model(path, d->d_name, team);
    }
    (void)closedir(dir);
    team_close(team);
    print_message("%d of %d models train\n", trained, n);
    assert_int_equal(trained, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_models) };

    return cmocka_run_group_tests_name("grad_archs", tests, NULL, NULL);
}
