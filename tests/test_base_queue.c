/* test_base_queue.c: order, bounds, waiting, shutting, and many threads at once. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/queue.h"

static void first_in_first_out(void **state)
{
    struct queue *q;
    struct err e;
    uint32_t x;

    (void)state;
    assert_int_equal(queue_open(&q, 3, sizeof x, &e), 0);
    assert_int_equal(queue_pop(q, &x, QUEUE_NO_WAIT), WATT_EBUSY);
    mem_guard_enter();                    /* nothing allocates after queue_open */
    for (uint32_t round = 0; round < 10; round++) {
        for (x = 0; x < 3; x++)
            assert_int_equal(queue_push(q, &x, QUEUE_NO_WAIT), 0);
        assert_int_equal(queue_push(q, &x, QUEUE_NO_WAIT), WATT_EBUSY);
        assert_int_equal(queue_count(q), 3);
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(queue_pop(q, &x, QUEUE_NO_WAIT), 0);
            assert_int_equal(x, i);
        }
        x = 9;
        assert_int_equal(queue_push(q, &x, QUEUE_NO_WAIT), 0);   /* moves the head around */
        assert_int_equal(queue_pop(q, &x, QUEUE_FOR_EVER), 0);
    }
    mem_guard_leave();
    queue_close(q);
    queue_close(NULL);
}

static void waits_as_long_as_asked(void **state)
{
    struct queue *q;
    struct err e;
    uint64_t start;
    char x = 1;

    (void)state;
    assert_int_equal(queue_open(&q, 1, 1, &e), 0);
    start = clock_mono_ns();
    assert_int_equal(queue_pop(q, &x, 20000000), WATT_EBUSY);
    assert_true(clock_mono_ns() - start >= 20000000);
    assert_int_equal(queue_push(q, &x, 0), 0);
    start = clock_mono_ns();
    assert_int_equal(queue_push(q, &x, 20000000), WATT_EBUSY);
    assert_true(clock_mono_ns() - start >= 20000000);
    queue_close(q);
}

static void shut_lets_what_is_there_out(void **state)
{
    struct queue *q;
    struct err e;
    char x = 5;

    (void)state;
    assert_int_equal(queue_open(&q, 2, 1, &e), 0);
    assert_int_equal(queue_push(q, &x, 0), 0);
    queue_shut(q);
    queue_shut(q);
    assert_int_equal(queue_push(q, &x, QUEUE_FOR_EVER), WATT_ECANCEL);
    x = 0;
    assert_int_equal(queue_pop(q, &x, QUEUE_FOR_EVER), 0);
    assert_int_equal(x, 5);
    assert_int_equal(queue_pop(q, &x, QUEUE_FOR_EVER), WATT_ECANCEL);
    assert_int_equal(queue_pop(q, &x, QUEUE_NO_WAIT), WATT_ECANCEL);
    queue_close(q);
}

static void refuses_bad_sizes(void **state)
{
    struct queue *q = NULL;
    struct err e;

    (void)state;
    assert_int_equal(queue_open(&q, 0, 1, &e), WATT_EINVAL);
    assert_int_equal(queue_open(&q, 1, 0, &e), WATT_EINVAL);
    assert_int_equal(queue_open(&q, QUEUE_MAX_MESSAGES + 1, 1, &e), WATT_EINVAL);
    assert_int_equal(queue_open(&q, 1, QUEUE_MAX_MESSAGE_BYTES + 1, &e), WATT_EINVAL);
#ifdef WATT_FAULTS
    for (unsigned long n = 1; n <= 2; n++) {
        (void)fault_arm(FAULT_ALLOC, n);
        assert_int_equal(queue_open(&q, 1, 1, &e), WATT_ENOMEM);
        (void)fault_arm(FAULT_ALLOC, 0);
    }
#endif
    assert_null(q);
}

#define N_SENDERS 4
#define N_TAKERS 3
#define N_EACH 20000

struct message { uint32_t sender, number; };

struct peer {
    struct queue *q;
    pthread_t thread;
    uint32_t  index;
    uint64_t  n, sum;
    uint32_t  last[N_SENDERS];
    int       out_of_order;
};

static void *sender_main(void *p)
{
    struct peer *s = p;

    for (uint32_t i = 1; i <= N_EACH; i++) {
        struct message m = { s->index, i };

        if (queue_push(s->q, &m, QUEUE_FOR_EVER) != 0)
            return NULL;
        s->n++;
    }
    return NULL;
}

static void *taker_main(void *p)
{
    struct peer *t = p;
    struct message m;

    while (queue_pop(t->q, &m, QUEUE_FOR_EVER) == 0) {
        t->n++;
        t->sum += m.number;
        /* what one sender sent arrives at one taker in order */
        t->out_of_order |= m.number <= t->last[m.sender];
        t->last[m.sender] = m.number;
    }
    return NULL;
}

static void loses_nothing_between_threads(void **state)
{
    struct peer senders[N_SENDERS] = { 0 }, takers[N_TAKERS] = { 0 };
    uint64_t n = 0, sum = 0;
    struct queue *q;
    struct err e;

    (void)state;
    assert_int_equal(queue_open(&q, 7, sizeof(struct message), &e), 0);
    for (uint32_t i = 0; i < N_TAKERS; i++) {
        takers[i].q = q;
        assert_int_equal(pthread_create(&takers[i].thread, NULL, taker_main, &takers[i]), 0);
    }
    for (uint32_t i = 0; i < N_SENDERS; i++) {
        senders[i].q = q;
        senders[i].index = i;
        assert_int_equal(pthread_create(&senders[i].thread, NULL, sender_main, &senders[i]), 0);
    }
    for (uint32_t i = 0; i < N_SENDERS; i++)
        assert_int_equal(pthread_join(senders[i].thread, NULL), 0);
    queue_shut(q);
    for (uint32_t i = 0; i < N_TAKERS; i++) {
        assert_int_equal(pthread_join(takers[i].thread, NULL), 0);
        n += takers[i].n;
        sum += takers[i].sum;
        assert_false(takers[i].out_of_order);
    }
    assert_int_equal(n, N_SENDERS * N_EACH);
    assert_int_equal(sum, (uint64_t)N_SENDERS * N_EACH * (N_EACH + 1) / 2);
    queue_close(q);
}

static void *shut_later(void *p)
{
    (void)usleep(10000);
    queue_shut(p);
    return NULL;
}

static void shut_wakes_who_waits(void **state)
{
    struct queue *q;
    pthread_t thread;
    struct err e;
    char x = 0;

    (void)state;
    for (int full = 0; full < 2; full++) {
        assert_int_equal(queue_open(&q, 1, 1, &e), 0);
        if (full)
            assert_int_equal(queue_push(q, &x, 0), 0);
        assert_int_equal(pthread_create(&thread, NULL, shut_later, q), 0);
        assert_int_equal(full ? queue_push(q, &x, QUEUE_FOR_EVER) : queue_pop(q, &x, QUEUE_FOR_EVER),
                         WATT_ECANCEL);
        assert_int_equal(pthread_join(thread, NULL), 0);
        queue_close(q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_in_first_out),
        cmocka_unit_test(waits_as_long_as_asked),
        cmocka_unit_test(shut_lets_what_is_there_out),
        cmocka_unit_test(refuses_bad_sizes),
        cmocka_unit_test(loses_nothing_between_threads),
        cmocka_unit_test(shut_wakes_who_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
