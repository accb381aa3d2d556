/* sched_internal.h: shared by the scheduler's files: sched.c (life of requests), sched_queue.c
 * (who is next), sched_step.c (one step). */
#ifndef INFRASTRUCTURE_SCHED_INTERNAL_H
#define INFRASTRUCTURE_SCHED_INTERNAL_H

#include "infrastructure/kv_seq.h"
#include "infrastructure/sched.h"

#define SCHED_NONE UINT32_MAX
#define SCHED_LEVEL_FAIR (SCHED_PRIORITY_MAX + 1)   /* admitted by fairness: nobody is before */
/* What a drawn token costs an account, in prompt tokens. */
#define SCHED_ANSWER_COST 2u

enum req_state {
    REQ_FREE,
    REQ_ATTACHED,       /* waits for the prompt of the request it forks */
    REQ_WAITING,        /* in its account's queue */
    REQ_RUNNING         /* has a seat */
};

struct req {
    enum req_state state;
    uint32_t gen;               /* of the id */
    struct sched_request o;     /* tokens is not used */
    int32_t *tokens;            /* [n_prompt + max_new] */
    uint32_t n_tokens;          /* known: prompt and drawn */
    uint32_t n_prompt;
    uint32_t account;
    uint32_t next, prev;        /* in the queue; next: in the chain of free ones too; attached: the
                                 * next follower of prev */
    uint32_t follower;          /* first of those attached */
    uint64_t order;             /* of submission */
    int32_t  level;             /* priority; above all once fairness has admitted it */
    uint32_t seat;
    struct kv_seq seq;
    struct prefix_at at;        /* where seq stands in the tree */
    bool     cancelled;
    bool     prompt_done;       /* was in at least once */
    uint32_t n_shown;           /* rows of the prompt that the client has seen */
    uint32_t n_block, n_masks;  /* the block behind n_tokens; 0: none */
    uint32_t block_step;        /* of it */
    uint32_t n_answer_rows;     /* that steps had of it */
    struct err *error;          /* during the call of finish */
    struct sched_result result;
    /* in the step under way */
    uint32_t n_rows, n_draft, n_new, n_show, first_out, n_out;
    bool     draws, draw_failed, denoises;
};

struct account {
    uint64_t id;
    uint64_t used;              /* virtual time */
    uint32_t first, last;       /* waiting, best first */
    uint32_t n_reqs;            /* that wait, run or are attached */
};

struct sched {
    struct sched_spec spec;
    uint32_t n_marks;           /* per seat */
    struct req *reqs;           /* [max_reqs] */
    uint32_t  free_req;
    uint32_t  n_waiting, n_attached, n_running;
    uint64_t  next_order, req_bytes;
    uint64_t  waiting_tokens;   /* known ones of those who wait */
    uint64_t  filling;          /* tokens of prompts that have a seat and are not in */
    double    mean_rows;        /* of steps, that recent answers had */
    struct account *accounts;   /* [max_accounts] */
    uint32_t  max_accounts, n_accounts;
    uint64_t  used_floor;       /* where an account begins that was away */
    uint64_t  n_admitted;
    uint32_t *running;          /* [n_seats] by rank */
    uint32_t *free_seats;       /* stack of n_free_seats */
    uint32_t  n_free_seats;
    uint32_t  max_pages;        /* of one sequence */
    uint32_t *tables;           /* [n_seats][max_pages] */
    struct kv_mark *marks;      /* [n_seats] */
    int32_t  *drafts;           /* [n_seats][max_draft] */
    int32_t  *drawn;            /* [n_seats][max_draft + 1] */
    uint64_t  next_deadline;    /* none is earlier; 0: there is none */
    bool      any_cancelled;
    uint32_t  limit_running, limit_rows;    /* 0: none; see sched_limit */
    bool      blocked;          /* the next does not fit, and nothing has changed since */
    /* the step under way */
    struct sched_proposal *proposals;   /* [n_seats] */
    struct sched_share    *shares;      /* [n_seats] */
    uint32_t *planned;          /* [n_seats] requests in the batch */
    uint32_t *drawing;          /* [n_seats] those that draw, followers included */
    uint32_t  n_planned, n_drawing;
    int32_t  *token, *type;
    uint32_t *row_stream, *out_row;
    struct stream *streams;
    struct batch   batch;
    float    *out;              /* [max_out][width] */
    double    rows_per_ns;      /* of recent steps; 0: none yet */
    struct sched_stats stats;
};

static inline struct req *req_at(const struct sched *s, uint32_t i) { return &s->reqs[i]; }
static inline uint32_t req_index(const struct sched *s, const struct req *r)
{
    return (uint32_t)(r - s->reqs);
}
static inline uint64_t req_id(const struct sched *s, const struct req *r)
{
    return (uint64_t)r->gen << 32 | (req_index(s, r) + 1);
}
static inline uint32_t pages_for(const struct sched *s, uint64_t n_tokens)
{
    const uint32_t per = kv_page_tokens(s->spec.kv);

    return kv_page_bytes(s->spec.kv) == 0 ? 0 : (uint32_t)((n_tokens + per - 1) / per);
}
/* Does its answer come in blocks? */
static inline bool in_blocks(const struct sched *s, const struct req *r)
{
    return s->spec.block > 0 && r->o.max_new > 0;
}
/* Positions that are run for good before the answer goes on. */
static inline uint32_t final_len(const struct sched *s, const struct req *r)
{
    return r->n_tokens - (in_blocks(s, r) && s->spec.shifted ? 1 : 0);
}
uint64_t sched_now(const struct sched *s);

/* ---- sched.c ---- */

/* Ends a request in any state and frees it. */
void req_finish(struct sched *s, struct req *r, enum sched_end end, struct err *error);
/* Seats a request whose memory is in r->seq already. */
void req_run(struct sched *s, struct req *r, uint32_t seat);
/* Gives its memory to the prefix tree and its seat back, and queues it again. */
void req_preempt(struct sched *s, struct req *r);
/* What the tree may share of it. */
bool req_reads_cache(const struct sched *s, const struct req *r);
bool req_fills_cache(const struct sched *s, const struct req *r);
/* Queues the followers of a request whose prompt will not be theirs. */
void req_release_followers(struct sched *s, struct req *r);

/* ---- sched_queue.c ---- */

/* Finds or makes the account; SCHED_NONE when all are in use. */
uint32_t account_get(struct sched *s, uint64_t id);
void account_charge(struct sched *s, const struct req *r, uint64_t cost);
void queue_insert(struct sched *s, struct req *r);
void queue_remove(struct sched *s, struct req *r);
/* The next to be admitted; NULL: nobody waits. *fair: by fairness alone. */
struct req *queue_next(const struct sched *s, bool *fair);

#endif
