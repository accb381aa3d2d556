/* service_internal.h: shared by the service's files: service.c (open, thread, watching),
 * service_submit.c (requests in), service_answer.c (tokens to events), service_draft.c
 * (speculation), service_metrics.c. */
#ifndef MODELS_SERVICE_INTERNAL_H
#define MODELS_SERVICE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/team.h"
#include "infrastructure/kv.h"
#include "infrastructure/prefix.h"
#include "infrastructure/sched.h"
#include "infrastructure/spill.h"
#include "models/bad_words.h"
#include "models/denoiser.h"
#include "models/service.h"

struct job;

/* What a draw leaves for the event of its token. */
struct draw_note {
    float  logprob;
    size_t n_top;
    struct token_logprob *top;      /* [n_top wanted] */
    bool   complete;                /* the grammar's text ended with this token; it may be ahead
                                     * by now */
};

/* One choice of a request: everything that is its own. */
struct answer {
    struct job      *job;
    uint32_t         choice;
    uint64_t         sched_id;      /* 0: not submitted yet */
    atomic_bool      cancel;        /* set by anybody; read by the service's thread */
    struct sampler  *sampler;
    struct token_mask *mask;
    struct denoiser *denoiser;      /* of models that write by diffusion; else NULL */
    uint64_t        *early;         /* [mask_words] what may come before min_tokens, of those */
    uint64_t        *bits;          /* [mask_words]; NULL when nothing is ever forbidden */
    struct bad_words_text written;
    struct stops     stops;
    struct detok     detok;
    struct str       piece, text;
    bool             lacks;         /* no memory for a piece of the text: the answer is an error */
    struct draw_note *notes;        /* [max_draft + 1] */
    uint32_t         n_notes, next_note;
    uint32_t         n_drawn;       /* by draw, which runs ahead of took */
    uint32_t         n_taken;
    int32_t          stop_id, stop_index;
    bool             done;
    /* speculation, by the service's thread: tokens known and proposed last time, the share of
     * proposals that was right lately, steps without any */
    uint32_t         spec_tokens, spec_drafted, spec_pause;
    float            spec_share;
    struct err       error;
};

struct job {
    struct service *svc;
    struct job     *next, *prev;    /* in the service's list, under mu */
    struct job     *next_in;        /* in the inbox, under mu */
    uint64_t        id, bytes, submitted_ns;
    struct service_request r;       /* pointers into this job's memory, or not used */
    int32_t        *tokens;
    int32_t        *stop_ids;
    uint64_t       *allowed;
    struct bad_words bad;
    struct prefix_space space;
    struct answer  *answers;        /* [n_choices] */
    uint32_t        n_left;
    struct token_logprob *prompt_top;
};

struct service {
    const struct model     *model;
    const struct tokenizer *tok;
    struct service_opts opts;       /* defaults filled in */
    char            name[128];
    struct session *session;        /* executor, weights, arena */
    struct team    *own_team, *team;
    struct kv      *kv;
    struct prefix  *prefix;
    struct spill   *spill;
    struct sched   *sched;
    struct drafter *drafter;
    struct service_metrics *metrics;
    bool            diffuses;
    struct diffusion_facts diffusion;
    uint32_t        width, mask_words;
    uint64_t       *end_bits;       /* [mask_words] tokens that end an answer */
    uint8_t         space_key[32];  /* what cached pages depend on, but for tokens */
    struct session_memory memory;

    pthread_t       thread;
    bool            started;
    pthread_mutex_t mu;
    pthread_cond_t  wake;           /* work for the thread */
    pthread_cond_t  calm;           /* nothing runs or waits any more */
    struct job     *jobs;           /* under mu: all that live */
    struct job     *inbox, **inbox_end;     /* under mu */
    uint64_t        next_id;        /* under mu */
    uint64_t        live_bytes;     /* under mu: of all jobs */
    uint32_t        n_answers;      /* under mu: that run, wait or are in the inbox */
    bool            closing, stop;  /* under mu */
    bool            any_cancel;     /* under mu */
    bool            forget;         /* under mu */
    struct service_limits limits;   /* under mu */
    double          duty;           /* the thread's copy; 0: no pauses */
    struct service_stats stats;     /* under mu: as of the last step */
    struct sched_wait wait;         /* under mu: the scheduler's estimate */
    struct service_slot *slots;     /* under mu: [max_slots] as of the last step */
    struct sched_view   *views;     /* the thread's */
    struct service_share *shares;           /* [max_seqs] the thread's */
    uint32_t        max_slots, n_slots_known;
    uint64_t        slots_ns;
};

extern const struct sched_client answer_client;

/* ---- service_submit.c ---- */
void job_close(struct job *j);      /* NULL is fine; closes samplers and masks */

/* ---- service_answer.c ---- */
int  answer_init(struct answer *a, struct job *j, uint32_t choice, struct err *e) MUST_CHECK;
void answer_deinit(struct answer *a);
/* The request never reached the scheduler: its DONE event. */
void answer_fail(struct answer *a, enum service_finish finish, const struct err *why);

/* ---- service.c ---- */
/* The last event of a job is out: forgets it. The service's thread. */
void service_job_over(struct service *s, struct job *j);

/* ---- service_draft.c ---- */
int  drafter_open(struct drafter **out, struct service *s, struct err *e) MUST_CHECK;
void drafter_close(struct drafter *d);
/* What drafter_open takes; 0 without a draft model. */
int  drafter_plan(const struct service_opts *o, uint64_t *bytes, struct err *e) MUST_CHECK;
void drafter_propose(void *ctx, struct sched_proposal *list, uint32_t n);

/* ---- service_metrics.c ---- */
int  service_metrics_open(struct service_metrics **out, struct service *s, struct err *e) MUST_CHECK;
void service_metrics_close(struct service_metrics *x);
void service_metrics_step(struct service *s);
void service_metrics_done(struct service *s, const struct service_event *ev);
void service_metrics_refused(struct service *s, enum service_refusal why);      /* any thread */

#endif
