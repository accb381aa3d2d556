/* test_api_models.c: the table of models with a loader that loads nothing: its thread ends whenever
 * it is told to, and a model that is about to be idle makes room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "applications/api.h"
#include "base/clock.h"

static atomic_int n_open, n_resumed, n_failed, n_failing;
static atomic_bool held;        /* loading waits until it is false */
static atomic_bool slow;        /* failing takes its time */

/* Time that goes on when it is told to. */
static _Atomic uint64_t now_ns = 1;

static uint64_t told_mono(void *ctx)
{
    (void)ctx;
    return atomic_load(&now_ns);
}

static int64_t told_wall(void *ctx)
{
    return (int64_t)told_mono(ctx);
}

static int plan(void *ctx, struct api_model *m, const char *path, enum api_use use, uint64_t *bytes,
                struct err *e)
{
    (void)ctx, (void)m, (void)path, (void)use, (void)e;
    *bytes = 100;
    return 0;
}

static int load(void *ctx, struct api_model *m, const char *path, enum api_use use, struct err *e)
{
    (void)ctx, (void)m, (void)path, (void)use, (void)e;
    while (atomic_load(&held))
        (void)usleep(1000);
    (void)atomic_fetch_add(&n_open, 1);
    return 0;
}

static void let_go(void *ctx, struct api_model *m)
{
    (void)ctx, (void)m;
    (void)atomic_fetch_sub(&n_open, 1);
}

static void resume(struct api_call *c, int rc, const struct err *e)
{
    (void)c;
    if (rc < 0) {
        assert_true(e->msg[0] != '\0');
        (void)atomic_fetch_add(&n_failing, 1);
        if (atomic_load(&slow))
            (void)usleep(20000);
    }
    (void)atomic_fetch_add(rc < 0 ? &n_failed : &n_resumed, 1);
}

static struct api_models *table(uint64_t bytes, int n)
{
    const struct api_models_opts o = { .loader = { NULL, plan, load, let_go, resume },
                                       .memory_bytes = bytes, .keep_ns = API_KEEP_FOREVER };
    struct api_models *ms = NULL;
    struct err e = { 0 };

    if (api_models_open(&ms, &o, &e) < 0)
        fail_msg("%s", e.msg);
    for (int i = 0; i < n; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "m%d", i);
        assert_int_equal(api_models_add(ms, name, "file", NULL, 0, &e), 0);
    }
    return ms;
}

/* The thread answers those that wait when it hears of a drain, and is told to stop meanwhile. */
static void stops_amid_a_drain(void **state)
{
    struct api_models *ms = table(0, 4);
    const struct api_model *m;
    struct api_call c = { 0 };
    struct err e = { 0 };

    (void)state;
    atomic_store(&held, true);
    atomic_store(&slow, true);
    for (int i = 0; i < 4; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "m%d", i);    /* the first loads, the others wait */
        assert_int_equal(api_models_hold(ms, name, API_USE_ANSWER, &c, &m, &e), API_PARKED);
    }
    (void)api_models_drain(ms, 0);
    atomic_store(&held, false);
    while (atomic_load(&n_failing) < 3)
        (void)usleep(1000);
    api_models_stop(ms);
    api_models_close(ms);
    atomic_store(&slow, false);
    assert_int_equal(atomic_load(&n_open), 0);
    assert_int_equal(atomic_load(&n_resumed) + atomic_load(&n_failed), 4);
}

/* Whoever waits is told how it ended, be it in a minute on a busy machine. */
static void await(atomic_int *count, int most)
{
    for (int i = 0; i < 6000 && atomic_load(count) < most; i++)
        (void)usleep(10000);
    assert_int_equal(atomic_load(count), most);
}

/* Time stands: nobody gives up before it is told to. */
static void waits_for_one_about_to_be_idle(void **state)
{
    const struct clock_source told = { told_mono, told_wall, NULL };
    struct api_models *ms;
    const struct api_model *a = NULL, *b = NULL;
    struct api_call c = { 0 };
    struct err e = { 0 };

    (void)state;
    clock_install(&told);
    ms = table(150, 2);
    atomic_store(&n_resumed, 0);
    atomic_store(&n_failed, 0);
    assert_int_equal(api_models_load(ms, "m0", API_USE_ANSWER, &e), 0);
    assert_int_equal(api_models_hold(ms, "m0", API_USE_ANSWER, NULL, &a, &e), API_HELD);
    assert_int_equal(api_models_hold(ms, "m1", API_USE_ANSWER, &c, &b, &e), API_PARKED);
    (void)usleep(20000);
    assert_int_equal(atomic_load(&n_resumed), 0);
    api_model_release(a);
    await(&n_resumed, 1);
    assert_int_equal(api_models_hold(ms, "m1", API_USE_ANSWER, NULL, &b, &e), API_HELD);
    /* that one stays busy: told so, after a while */
    assert_int_equal(api_models_hold(ms, "m0", API_USE_ANSWER, &c, &a, &e), API_PARKED);
    (void)usleep(20000);
    assert_int_equal(atomic_load(&n_failed), 0);
    atomic_store(&now_ns, UINT64_C(3600000000000));
    await(&n_failed, 1);
    api_model_release(b);
    api_models_close(ms);
    clock_install(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stops_amid_a_drain),
        cmocka_unit_test(waits_for_one_about_to_be_idle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
