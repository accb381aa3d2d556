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

static atomic_int n_open, n_resumed, n_failed, n_failing;
static atomic_bool slow;        /* loading and failing take their time */

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
    if (atomic_load(&slow))
        (void)usleep(20000);
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
    (void)alarm(60);            /* a thread that sleeps on is a failure, not a wait */
    atomic_store(&slow, true);
    for (int i = 0; i < 4; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "m%d", i);    /* the first loads, the others wait */
        assert_int_equal(api_models_hold(ms, name, API_USE_ANSWER, &c, &m, &e), API_PARKED);
    }
    (void)api_models_drain(ms, 0);
    while (atomic_load(&n_failing) < 3)
        (void)usleep(1000);
    api_models_stop(ms);
    api_models_close(ms);
    (void)alarm(0);
    atomic_store(&slow, false);
    assert_int_equal(atomic_load(&n_open), 0);
    assert_int_equal(atomic_load(&n_resumed) + atomic_load(&n_failed), 4);
}

static void *release_soon(void *m)
{
    (void)usleep(100000);
    api_model_release(m);
    return NULL;
}

static void waits_for_one_about_to_be_idle(void **state)
{
    struct api_models *ms = table(150, 2);
    const struct api_model *a = NULL, *b = NULL;
    struct api_call c = { 0 };
    struct err e = { 0 };
    pthread_t t;
    int before;

    (void)state;
    atomic_store(&n_resumed, 0);
    atomic_store(&n_failed, 0);
    assert_int_equal(api_models_load(ms, "m0", API_USE_ANSWER, &e), 0);
    assert_int_equal(api_models_hold(ms, "m0", API_USE_ANSWER, NULL, &a, &e), API_HELD);
    assert_int_equal(pthread_create(&t, NULL, release_soon, (void *)(uintptr_t)a), 0);
    assert_int_equal(api_models_hold(ms, "m1", API_USE_ANSWER, &c, &b, &e), API_PARKED);
    for (int i = 0; i < 500 && atomic_load(&n_resumed) + atomic_load(&n_failed) == 0; i++)
        (void)usleep(10000);
    assert_int_equal(atomic_load(&n_resumed), 1);
    (void)pthread_join(t, NULL);
    assert_int_equal(api_models_hold(ms, "m1", API_USE_ANSWER, NULL, &b, &e), API_HELD);
    before = atomic_load(&n_failed);        /* that one stays busy: told so, after a while */
    assert_int_equal(api_models_hold(ms, "m0", API_USE_ANSWER, &c, &a, &e), API_PARKED);
    for (int i = 0; i < 500 && atomic_load(&n_failed) == before; i++)
        (void)usleep(10000);
    assert_int_equal(atomic_load(&n_failed), before + 1);
    api_model_release(b);
    api_models_close(ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stops_amid_a_drain),
        cmocka_unit_test(waits_for_one_about_to_be_idle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
