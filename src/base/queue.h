/* queue.h: a bounded first-in-first-out queue between threads.
 *
 * Any number of threads push and any number pop. A message is a value of fixed
 * size and is copied in and out; what it points to changes owner with it.
 * Nothing is allocated after queue_open. A full queue is the sender's business:
 * it waits, or turns its caller away. Threads hold a lock for the copy only. */
#ifndef BASE_QUEUE_H
#define BASE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define QUEUE_MAX_MESSAGES ((size_t)1 << 20)
#define QUEUE_MAX_MESSAGE_BYTES ((size_t)1 << 12)
#define QUEUE_NO_WAIT 0u
#define QUEUE_FOR_EVER UINT64_MAX

struct queue;

/* Sizes in 1..QUEUE_MAX_…, else WATT_EINVAL; WATT_ENOMEM. */
int  queue_open(struct queue **out, size_t max_messages, size_t message_bytes,
                struct err *e) MUST_CHECK;
/* Nobody may wait in it any more; messages left are dropped, so drain it first
 * if they own something. NULL is fine. */
void queue_close(struct queue *q);

/* Waits at most wait_ns for room. 0; WATT_EBUSY full; WATT_ECANCEL shut. */
int  queue_push(struct queue *q, const void *message, uint64_t wait_ns);
/* Waits at most wait_ns for a message. 0; WATT_EBUSY empty; WATT_ECANCEL shut
 * and empty. */
int  queue_pop(struct queue *q, void *message, uint64_t wait_ns);
/* From now on pushes are refused, pops empty what is left, and whoever waits
 * wakes up. Can be called more than once. */
void queue_shut(struct queue *q);
size_t queue_count(struct queue *q);     /* now; may have changed on return */

#endif
