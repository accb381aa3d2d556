/* sched_queue.c: accounts and who waits in them; who is next. */
#include <stddef.h>

#include "infrastructure/sched_internal.h"

/* ---- accounts ---- */

static bool active(const struct account *a)
{
    return a->n_reqs > 0;
}

/* Where an account begins that was away: nobody saves up for later what it did not use. */
static uint64_t floor_of(const struct sched *s)
{
    uint64_t least = UINT64_MAX;

    for (uint32_t i = 0; i < s->n_accounts; i++)
        if (active(&s->accounts[i]) && s->accounts[i].used < least)
            least = s->accounts[i].used;
    return least == UINT64_MAX ? s->used_floor : least;
}

/* A place for a new account: a fresh one, or that of the idle one that used least. */
static uint32_t account_place(struct sched *s)
{
    uint32_t best = SCHED_NONE;

    if (s->n_accounts < s->max_accounts)
        return s->n_accounts++;
    for (uint32_t i = 0; i < s->n_accounts; i++)
        if (!active(&s->accounts[i]) &&
            (best == SCHED_NONE || s->accounts[i].used < s->accounts[best].used))
            best = i;
    return best;
}

uint32_t account_get(struct sched *s, uint64_t id)
{
    uint32_t i = 0;

    while (i < s->n_accounts && s->accounts[i].id != id)
        i++;
    if (i < s->n_accounts && active(&s->accounts[i]))
        return i;
    s->used_floor = floor_of(s);
    if (i == s->n_accounts) {
        i = account_place(s);
        if (i == SCHED_NONE)
            return i;
        s->accounts[i] = (struct account){ .id = id, .first = SCHED_NONE, .last = SCHED_NONE };
    }
    if (s->accounts[i].used < s->used_floor)
        s->accounts[i].used = s->used_floor;
    return i;
}

void account_charge(struct sched *s, const struct req *r, uint64_t cost)
{
    s->accounts[r->account].used += cost;
}

/* ---- queues ---- */

static bool before(const struct req *a, const struct req *b)
{
    return a->level != b->level ? a->level > b->level : a->order < b->order;
}

void queue_insert(struct sched *s, struct req *r)
{
    struct account *a = &s->accounts[r->account];
    const uint32_t i = req_index(s, r);
    uint32_t after = a->last;

    if (a->first != SCHED_NONE && before(r, req_at(s, a->first)))
        after = SCHED_NONE;
    while (after != SCHED_NONE && before(r, req_at(s, after)))
        after = req_at(s, after)->prev;
    r->prev = after;
    r->next = after == SCHED_NONE ? a->first : req_at(s, after)->next;
    *(after == SCHED_NONE ? &a->first : &req_at(s, after)->next) = i;
    *(r->next == SCHED_NONE ? &a->last : &req_at(s, r->next)->prev) = i;
    r->state = REQ_WAITING;
    s->n_waiting++;
    s->waiting_tokens += r->n_tokens;
}

void queue_remove(struct sched *s, struct req *r)
{
    struct account *a = &s->accounts[r->account];

    CHECK(r->state == REQ_WAITING);
    *(r->prev == SCHED_NONE ? &a->first : &req_at(s, r->prev)->next) = r->next;
    *(r->next == SCHED_NONE ? &a->last : &req_at(s, r->next)->prev) = r->prev;
    s->blocked = false;
    s->n_waiting--;
    s->waiting_tokens -= r->n_tokens;
}

/* The account that used least among those that wait. */
static const struct account *poorest(const struct sched *s)
{
    const struct account *best = NULL;

    for (uint32_t i = 0; i < s->n_accounts; i++) {
        const struct account *a = &s->accounts[i];

        if (a->first != SCHED_NONE && (!best || a->used < best->used))
            best = a;
    }
    return best;
}

static struct req *oldest(const struct sched *s, const struct account *a)
{
    struct req *best = NULL;

    for (uint32_t i = a->first; i != SCHED_NONE; i = req_at(s, i)->next)
        if (!best || req_at(s, i)->order < best->order)
            best = req_at(s, i);
    return best;
}

struct req *queue_next(const struct sched *s, bool *fair)
{
    struct req *best = NULL;

    *fair = (s->n_admitted + 1) % SCHED_FAIR_EVERY == 0;
    if (s->n_waiting == 0)
        return NULL;
    if (*fair)
        return oldest(s, poorest(s));
    for (uint32_t i = 0; i < s->n_accounts; i++) {
        struct req *r = s->accounts[i].first == SCHED_NONE ? NULL
                                                           : req_at(s, s->accounts[i].first);
        const uint64_t used = s->accounts[i].used;

        if (r && (!best || r->level > best->level ||
                  (r->level == best->level &&
                   (used < s->accounts[best->account].used ||
                    (used == s->accounts[best->account].used && r->order < best->order)))))
            best = r;
    }
    return best;
}
