/* queue.c: a ring under a mutex, with two conditions; see queue.h. */
#include "base/queue.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

struct queue {
    pthread_mutex_t mu;
    pthread_cond_t  not_empty, not_full;
    size_t   max, bytes;
    size_t   head, n;            /* under mu: oldest message, how many */
    unsigned pop_waits, push_waits;  /* under mu: who is to be woken */
    bool     shut;               /* under mu */
    uint8_t *ring;               /* under mu: [max][bytes] */
};

int queue_open(struct queue **out, size_t max_messages, size_t message_bytes, struct err *e)
{
    pthread_condattr_t attr;
    struct queue *q;

    if (max_messages == 0 || max_messages > QUEUE_MAX_MESSAGES || message_bytes == 0 ||
        message_bytes > QUEUE_MAX_MESSAGE_BYTES)
        return err_set(e, WATT_EINVAL, "queue: %zu messages of %zu bytes", max_messages,
                       message_bytes);
    q = mem_calloc(1, sizeof *q);
    if (!q)
        return err_set(e, WATT_ENOMEM, "queue: out of memory");
    q->ring = mem_array(max_messages, message_bytes);
    if (!q->ring) {
        mem_free(q);
        return err_set(e, WATT_ENOMEM, "queue: out of memory");
    }
    q->max = max_messages;
    q->bytes = message_bytes;
    (void)pthread_mutex_init(&q->mu, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&q->not_empty, &attr);
    (void)pthread_cond_init(&q->not_full, &attr);
    (void)pthread_condattr_destroy(&attr);
    *out = q;
    return 0;
}

void queue_close(struct queue *q)
{
    if (!q)
        return;
    (void)pthread_cond_destroy(&q->not_full);
    (void)pthread_cond_destroy(&q->not_empty);
    (void)pthread_mutex_destroy(&q->mu);
    mem_free(q->ring);
    mem_free(q);
}

/* The moment that is wait_ns from now; far away when that overflows. */
static struct timespec deadline(uint64_t wait_ns)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_sec += (time_t)(wait_ns / 1000000000u);
    ts.tv_nsec += (long)(wait_ns % 1000000000u);
    if (ts.tv_nsec >= 1000000000) {
        ts.tv_sec++;
        ts.tv_nsec -= 1000000000;
    }
    return ts;
}

/* Waits until *n is no longer `bad` or the queue is shut; under mu. False when
 * the time is over. */
static bool wait_while(struct queue *q, pthread_cond_t *cond, unsigned *waits, size_t bad,
                       uint64_t wait_ns)
{
    struct timespec until;
    int rc = 0;

    if (wait_ns == QUEUE_NO_WAIT)
        return q->n != bad || q->shut;
    if (wait_ns != QUEUE_FOR_EVER)
        until = deadline(wait_ns);
    ++*waits;
    while (q->n == bad && !q->shut && rc != ETIMEDOUT)
        rc = wait_ns == QUEUE_FOR_EVER ? pthread_cond_wait(cond, &q->mu)
                                       : pthread_cond_timedwait(cond, &q->mu, &until);
    --*waits;
    return q->n != bad || q->shut;
}

int queue_push(struct queue *q, const void *message, uint64_t wait_ns)
{
    bool wake = false;
    int rc = 0;

    (void)pthread_mutex_lock(&q->mu);
    if (!wait_while(q, &q->not_full, &q->push_waits, q->max, wait_ns)) {
        rc = WATT_EBUSY;
    } else if (q->shut) {
        rc = WATT_ECANCEL;
    } else {
        memcpy(q->ring + (q->head + q->n) % q->max * q->bytes, message, q->bytes);
        q->n++;
        wake = q->pop_waits > 0;
    }
    (void)pthread_mutex_unlock(&q->mu);
    if (wake)
        (void)pthread_cond_signal(&q->not_empty);
    return rc;
}

int queue_pop(struct queue *q, void *message, uint64_t wait_ns)
{
    bool wake = false;
    int rc = 0;

    (void)pthread_mutex_lock(&q->mu);
    if (!wait_while(q, &q->not_empty, &q->pop_waits, 0, wait_ns)) {
        rc = WATT_EBUSY;
    } else if (q->n == 0) {
        rc = WATT_ECANCEL;
    } else {
        memcpy(message, q->ring + q->head * q->bytes, q->bytes);
        q->head = (q->head + 1) % q->max;
        q->n--;
        wake = q->push_waits > 0;
    }
    (void)pthread_mutex_unlock(&q->mu);
    if (wake)
        (void)pthread_cond_signal(&q->not_full);
    return rc;
}

void queue_shut(struct queue *q)
{
    (void)pthread_mutex_lock(&q->mu);
    q->shut = true;
    (void)pthread_cond_broadcast(&q->not_empty);
    (void)pthread_cond_broadcast(&q->not_full);
    (void)pthread_mutex_unlock(&q->mu);
}

size_t queue_count(struct queue *q)
{
    size_t n;

    (void)pthread_mutex_lock(&q->mu);
    n = q->n;
    (void)pthread_mutex_unlock(&q->mu);
    return n;
}
