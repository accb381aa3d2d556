/* test_base_mem.c: heap, arenas, overflow, injected failures, and the guard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/team.h"

static void refuses_what_overflows(void **state)
{
    size_t out = 7;

    (void)state;
    assert_false(mul_size(SIZE_MAX / 2, 3, &out));
    assert_false(add_size(SIZE_MAX, 1, &out));
    assert_int_equal(out, 7);
    assert_null(mem_array(SIZE_MAX / 8, 9));
    assert_null(mem_grow(NULL, SIZE_MAX / 8, 9));
    assert_null(mem_aligned(SIZE_MAX - 3, 64));
    assert_null(mem_strndup("", SIZE_MAX));
}

static void gives_pointers_for_nothing(void **state)
{
    void *a = mem_alloc(0), *b = mem_calloc(0, 0), *c = mem_aligned(0, 64);

    (void)state;
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(NULL);
    assert_null(mem_map(0));
    mem_unmap(NULL, 0);
}

static void aligns_and_zeroes(void **state)
{
    (void)state;
    for (size_t align = 16; align <= 4096; align *= 2)
        for (size_t size = 1; size < 300; size += 37) {
            unsigned char *p = mem_aligned(size, align);

            assert_non_null(p);
            assert_int_equal((uintptr_t)p % align, 0);
            for (size_t i = 0; i < size; i++)
                assert_int_equal(p[i], 0);
            mem_free(p);
        }
}

static void arena_gives_and_takes_back(void **state)
{
    struct arena a;
    struct err e;
    size_t mark;
    void *p;

    (void)state;
    assert_int_equal(arena_init(&a, 1024, &e), 0);
    p = arena_alloc(&a, 1);
    assert_non_null(p);
    mark = arena_mark(&a);
    assert_int_equal(mark, 64);
    assert_int_equal((uintptr_t)arena_alloc(&a, 65) % 64, 0);
    assert_null(arena_alloc(&a, 1024));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_non_null(arena_alloc(&a, 1024 - 64 - 128));
    assert_null(arena_alloc(&a, 1));
    arena_rewind(&a, mark);
    assert_int_equal(a.peak, 1024);
    assert_non_null(arena_alloc(&a, 512));
    arena_deinit(&a);
    assert_int_equal(arena_init(&a, 0, &e), 0);
    assert_null(arena_alloc(&a, 1));
    arena_deinit(&a);
}

#ifdef WATT_FAULTS
static void fails_on_demand(void **state)
{
    struct arena a;
    struct err e;
    void *p;

    (void)state;
    (void)fault_arm(FAULT_ALLOC, 2);
    p = mem_alloc(1);
    assert_non_null(p);
    assert_null(mem_realloc(p, 100));     /* p stays good */
    p = mem_realloc(p, 100);
    assert_non_null(p);
    assert_int_equal(fault_arm(FAULT_ALLOC, 0), 3);
    mem_free(p);
    (void)fault_arm(FAULT_ALLOC, 1);
    assert_int_equal(arena_init(&a, 64, &e), WATT_ENOMEM);
    assert_null(a.base);
    (void)fault_arm(FAULT_ALLOC, 0);
}

/* Runs fn in a child whose stderr is read: must abort, saying `expected`. */
static void must_abort(void (*fn)(void), const char *expected)
{
    char text[2048];
    size_t n = 0;
    ssize_t k;
    int fd[2], status;
    pid_t pid;

    assert_int_equal(pipe(fd), 0);
    pid = fork();
    if (pid == 0) {
        const struct rlimit no_core = { 0, 0 };

        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(fd[1], STDERR_FILENO);
        fn();
        _exit(0);
    }
    (void)close(fd[1]);
    while (n < sizeof text - 1 && (k = read(fd[0], text + n, sizeof text - 1 - n)) > 0)
        n += (size_t)k;
    text[n] = '\0';
    (void)close(fd[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        fail_msg("nothing was refused");
    if (!strstr(text, expected))
        fail_msg("said '%s', not '%s'", text, expected);
}

static void ours_in_step(void)
{
    mem_guard_enter();
    mem_free(mem_alloc(10));
}

/* volatile: a compiler may leave out an allocation that nobody uses */
static void *volatile sink;

static void libc_in_step(void)
{
    mem_guard_enter();
    sink = malloc(12345);
}

static void library_in_step(void)
{
    mem_guard_enter();
    sink = json_loads("{\"a\":1}", 0, NULL);
}

static void stdio_in_step(void)
{
    mem_guard_enter();
    sink = fopen("/dev/null", "r");
}

static void job_on_second(void *arg, unsigned worker)
{
    (void)arg;
    if (worker == 1)
        sink = malloc(777);
}

static void worker_in_step(void)
{
    struct team *t = NULL;
    struct err e;

    if (team_open(&t, 2, &e) < 0)
        return;
    mem_guard_enter();
    team_run(t, job_on_second, NULL);
}

static void leave_too_often(void)
{
    mem_guard_leave();
}

static void guard_sees_everybody(void **state)
{
    (void)state;
    must_abort(ours_in_step, "guard_depth == 0");
    must_abort(libc_in_step, "allocation of 12345 bytes inside a step");
    must_abort(library_in_step, "inside a step");
    must_abort(stdio_in_step, "inside a step");
    must_abort(leave_too_often, "guard_depth > 0");
#ifndef __SANITIZE_THREAD__               /* its runtime allows no threads after fork */
    must_abort(worker_in_step, "allocation of 777 bytes inside a step");
#endif
}
#endif

static void guard_nests_and_ends(void **state)
{
    void *p;

    (void)state;
    assert_false(mem_guarded());
    mem_guard_enter();
    mem_guard_enter();
    mem_guard_leave();
    assert_true(mem_guarded());
    mem_guard_leave();
    assert_false(mem_guarded());
    p = mem_alloc(100);
    assert_non_null(p);
    mem_guard_enter();
    mem_free(p);                          /* freeing is allowed */
    mem_guard_leave();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_overflows),
        cmocka_unit_test(gives_pointers_for_nothing),
        cmocka_unit_test(aligns_and_zeroes),
        cmocka_unit_test(arena_gives_and_takes_back),
#ifdef WATT_FAULTS
        cmocka_unit_test(fails_on_demand),
        cmocka_unit_test(guard_sees_everybody),
#endif
        cmocka_unit_test(guard_nests_and_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
