/* sched.h: continuous batching: who gets which rows of the next step.
 *
 * Requests come with token ids, wait in a bounded queue, are given a seat and pages, have their
 * prompt computed in chunks, and then take part in every step with one row (and with those of
 * proposed tokens) until they end. The scheduler fills struct batch itself. It knows neither what
 * a token means nor what runs the step: both are reached by the functions of struct sched_model
 * and struct sched_client, so the same code serves the engine (models/service.h) and the
 * simulator (infrastructure/simulate.h).
 *
 * Order. Waiting requests of higher priority come first, except that every SCHED_FAIR_EVERYth
 * admission goes by fairness alone, which bounds how long anybody waits. Within a priority the
 * account that has used least of the machine comes first (virtual token counter: Sheng et al.,
 * "Fairness in Serving Large Language Models", 2024); within an account, first come, first served.
 *
 * Memory. A request that could never fit is refused. One that fits now (its prompt, and a page to
 * grow for everybody who runs) is admitted; pages are taken as it grows. When the pool is empty,
 * first the cache of prefixes gives back what nobody uses, then the request that came last is
 * preempted: it gives its pages to that cache and computes what it still lacks when it is its
 * turn again. The first in order always fits alone, so everything ends.
 *
 * Blocks. A model that reads both ways (diffusion) makes its answer a block at a time: the block
 * begins as masks, is run again and again on top of what is final, while its client fixes tokens,
 * and is run once more when no mask is left, so that later ones see its keys and values. Such a
 * request has the rows of a whole block in a step. Its prompt can't be cut into chunks.
 *
 * The tokens drawn do not depend on any of this: a row's result depends on the tokens before it
 * only, and a client draws exactly once for every position, in order.
 *
 * One owner thread. Submitting allocates; a step does not. */
#ifndef INFRASTRUCTURE_SCHED_H
#define INFRASTRUCTURE_SCHED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "chips/batch.h"
#include "infrastructure/kv.h"
#include "infrastructure/prefix.h"

#define SCHED_MAX_SEATS  4096u
#define SCHED_MAX_REQS   (1u << 20)
#define SCHED_MAX_DRAFT  64u
#define SCHED_FAIR_EVERY 16u
#define SCHED_PRIORITY_MAX 100
#define SCHED_DRAW_FAILED (-1)

/* ---- doors up ---- */

/* What may be proposed for one request before a step. */
struct sched_proposal {
    void          *client_ctx;
    uint64_t       request;
    uint32_t       seat;        /* 0..n_seats-1, the request's own while it runs */
    const int32_t *tokens;      /* [n_tokens] prompt and answer so far */
    uint32_t       n_tokens;
    uint32_t       room;        /* most tokens wanted, > 0 */
    int32_t       *draft;       /* [room] to be written */
    uint32_t       n_draft;     /* to be written; 0: none */
};

/* Who had how many rows of a step. */
struct sched_share {
    uint64_t account;
    void    *client_ctx;
    uint32_t n_prompt_rows, n_answer_rows;
    uint32_t n_past;            /* positions that its rows found in the cache */
};

struct sched_model {
    void *ctx;
    /* Runs a step; out: [n_out][width]. A failure ends the requests of the batch with it. */
    int  (*step)(void *ctx, const struct batch *b, float *out, struct err *e);
    /* Calls fn(arg, i) for every i below n, in any order, on any threads, and returns when all
     * are done; NULL: one after the other. */
    void (*each)(void *ctx, uint32_t n, void (*fn)(void *arg, uint32_t i), void *arg);
    /* Proposes tokens for several requests; NULL: never. */
    void (*propose)(void *ctx, struct sched_proposal *list, uint32_t n);
    /* After a step that has run; NULL: nobody asks. */
    void (*ran)(void *ctx, const struct sched_share *shares, uint32_t n, uint64_t start_ns,
                uint64_t end_ns);
    uint64_t (*now_ns)(void *ctx);      /* NULL: clock_mono_ns */
};

enum sched_end { SCHED_STOPPED, SCHED_LENGTH, SCHED_CANCELLED, SCHED_LATE, SCHED_FAILED };

struct sched_times {            /* ns of the scheduler's clock; 0: did not happen */
    uint64_t submitted, admitted, first_token, last_token, ended;
};

struct sched_result {
    enum sched_end end;
    const struct err *error;    /* SCHED_FAILED; else NULL */
    uint32_t n_prompt, n_cached, n_drawn, n_drafted, n_accepted, n_preempted;
    struct sched_times times;
};

/* What a request is to its owner. All but draw are called on the owner thread. */
struct sched_client {
    /* The token that follows, drawn from a row of results. Called once per position of the answer
     * and in order; on any thread, beside other requests' draws; allocates nothing.
     * SCHED_DRAW_FAILED ends the request with what `failed` then says. */
    int32_t (*draw)(void *ctx, const float *row);
    void    (*failed)(void *ctx, struct err *e);
    /* Blocks, in place of draw: fixes tokens of block[0..n_block) that are masks yet; rows: a row of
     * results for each of those, in order; step: of this block, from 0. Returns how many masks are
     * left (fewer than there were), or SCHED_DRAW_FAILED. Once 0, each token goes to `took`. On any
     * thread; allocates nothing. NULL where there are no blocks. */
    int32_t (*denoise)(void *ctx, int32_t *block, uint32_t n_block, uint32_t step,
                       const float *rows);
    /* A drawn token joins the answer. True: this was the last. */
    bool    (*took)(void *ctx, int32_t token);
    /* A row of the prompt's results, with want_rows; NULL otherwise. */
    void    (*prompt_row)(void *ctx, uint32_t pos, const float *row);
    /* Its turn has come, or more of the prompt is in; may be NULL. */
    void    (*progress)(void *ctx, uint32_t n_done, uint32_t n_total, uint32_t n_cached);
    /* Always the last call. */
    void    (*ended)(void *ctx, const struct sched_result *r);
};

/* ---- the scheduler ---- */

struct sched_spec {
    struct sched_model model;
    struct kv     *kv;          /* borrowed */
    struct prefix *prefix;      /* borrowed; NULL: nothing is shared */
    uint32_t width;             /* floats of a row of results */
    uint32_t n_vocab;           /* ids in requests are below it */
    uint32_t n_ctx;             /* positions of one request */
    uint32_t n_seats;           /* requests that run together */
    uint32_t max_rows;          /* of a step; at least n_seats */
    uint32_t mixed_rows;        /* rows for prompts while answers run; > 0 */
    uint32_t max_out;           /* results of a step; more than n_seats */
    uint32_t max_draft;         /* proposed tokens per request and step */
    uint32_t max_reqs;          /* that run or wait */
    uint64_t max_req_bytes;     /* of all requests' tokens */
    uint64_t max_wait_ns;       /* refuses what would wait longer for its first token; 0: never */
    uint32_t snapshot_tokens;   /* fixed states are entered into the prefix tree every so many
                                 * positions of a prompt, a multiple of a page; 0: at its end */
    bool     whole;             /* an input goes in one step (models that read both ways) */
    uint32_t block;             /* with `whole`: answers come in blocks of so many tokens. A step
                                 * takes those of all seats: max_rows, max_out; 0: one by one */
    int32_t  mask;              /* what a block begins as */
    bool     shifted;           /* a row's results are of the next position: the last final token is
                                 * run with the block */
    bool     pooled;            /* results are one row per input of a step, whatever is wanted */
};

struct sched_request {
    const int32_t *tokens;      /* copied */
    uint32_t n_tokens;
    uint32_t max_new;           /* tokens to draw; 0: the prompt only */
    bool     want_rows;         /* every row of the prompt goes to prompt_row (but the last one,
                                 * when tokens are drawn from it); the cache is not read then.
                                 * Without answer and want_rows the last row goes there, */
    bool     want_first;        /* or the first */
    bool     no_cache;          /* neither read nor filled */
    uint32_t second_from;       /* tokens from here on are of type 1 (segments); 0: all of type 0 */
    uint32_t max_draft;         /* 0: no speculation */
    int32_t  priority;          /* higher first */
    uint64_t account;
    uint64_t deadline_ns;       /* of the scheduler's clock; 0: none */
    uint32_t adapter;           /* of its rows (struct stream); part of the space, too */
    float    adapter_scale;     /* likewise */
    struct prefix_space space;
    uint64_t fork_of;           /* begins as a copy of this request when that one's prompt is in:
                                 * same tokens, whose rows are then computed once; 0: no */
    const struct sched_client *client;
    void    *ctx;
};

struct sched;

/* WATT_EINVAL, WATT_ELIMIT, WATT_ENOMEM. */
int  sched_open(struct sched **out, const struct sched_spec *spec, struct err *e) MUST_CHECK;
/* Ends everything as cancelled. NULL is fine. */
void sched_close(struct sched *s);
/* Memory that sched_open takes, without that of requests; spec->kv is not looked at. */
uint64_t sched_bytes(const struct sched_spec *spec, uint32_t page_tokens);

/* Can this ever run? WATT_ELIMIT: no, *context says whether for n_ctx or for the pool. */
int  sched_fits(const struct sched *s, uint32_t n_tokens, uint32_t max_new, bool *context,
                struct err *e) MUST_CHECK;
/* Queues a request; *id is never 0. WATT_ELIMIT never fits, WATT_EBUSY the queue is full,
 * WATT_EINVAL, WATT_ENOMEM; then no function of the client was or will be called. */
int  sched_submit(struct sched *s, const struct sched_request *r, uint64_t *id,
                  struct err *e) MUST_CHECK;
/* Ends it at the beginning of the next step. Unknown ids are nothing. */
void sched_cancel(struct sched *s, uint64_t id);
/* How long the queue will take from now, as far as recent steps tell. */
struct sched_wait {
    uint64_t queue_ns;
    double   row_ns;            /* of a prompt's token */
    uint64_t mean_tokens;       /* of the prompts that wait */
};
struct sched_wait sched_wait(const struct sched *s);
/* How far the first token of a prompt of n_tokens is. One longer than those that wait counts as they
 * do, or it would never be taken while short ones come. */
uint64_t sched_wait_ns(const struct sched_wait *w, uint64_t n_tokens);

/* Ends what was cancelled or is late, admits, runs one step. Returns 1 when a step ran, 0 when
 * there was nothing to run. Steps that fail end their requests, not the scheduler. */
int  sched_step(struct sched *s);
bool sched_idle(const struct sched *s);     /* nothing runs or waits */
/* From now on at most so many requests are seated (those that are stay) and so many prompt rows go
 * into a step; 0: as the spec has it. */
void sched_limit(struct sched *s, uint32_t max_running, uint32_t max_prompt_rows);

struct sched_stats {
    uint32_t n_running, n_waiting;
    uint64_t n_submitted, n_steps, n_rows;
    uint64_t n_ended[SCHED_FAILED + 1];
    uint64_t n_prompt_tokens, n_cached_tokens, n_drawn, n_drafted, n_accepted, n_preempted;
    uint64_t prompt_ns, answer_ns;      /* of steps, shared out by rows */
};
void sched_stats(const struct sched *s, struct sched_stats *st);

struct sched_view {             /* of one request */
    uint64_t id, account;
    void    *ctx;
    bool     running;
    uint32_t n_prompt, n_done, n_drawn, max_new;
    int32_t  priority;
    uint64_t submitted_ns;
};
/* Up to max, running ones first in order of their rank; returns how many there are. */
uint32_t sched_list(const struct sched *s, struct sched_view *out, uint32_t max);

/* Every invariant, as CHECKs: pages, seats, queues, accounts. For tests. */
void sched_verify(const struct sched *s);

#endif
