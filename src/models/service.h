/* service.h: one model serving many requests at once.
 *
 * A service owns a thread that batches all requests into steps (infrastructure/sched.h), the
 * cache of prefixes they share (infrastructure/prefix.h), and per answer a sampler, stop strings,
 * a detokeniser and perhaps a grammar. It knows nothing of HTTP or of any API: requests come in
 * as tokens and options, answers go out as events.
 *
 * What holds: the tokens of a request are the same bits whether it runs alone or among others, in
 * any order, cold or from the cache, with speculation or without, preempted or not. All memory of
 * steps is had at open; a request that can never fit is refused, one that can't fit now waits in
 * a bounded queue, and one that the queue can't hold is refused with a time to come back.
 *
 * Models that write by diffusion are served in blocks (diffusion.h): the tokens of a block come
 * together, as they do alone. They take no grammar, no bad words, no log probabilities, no mirostat and no
 * speculation: refused, for those are of one token after the other. Their prompts are shared by the choices of a
 * request only, since what they read both ways depends on all of it.
 *
 * Threads. Every function but open and close may be called from any thread at any time; close
 * when nobody calls any more. Events come on the service's own thread, one at a time, those of a
 * request in order; whoever receives them must not block and may call service_submit and
 * service_cancel. After the event with `last` set, nothing of the request is touched again. */
#ifndef MODELS_SERVICE_H
#define MODELS_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/metric.h"
#include "base/str.h"
#include "models/diffusion.h"
#include "models/model.h"
#include "models/sampler.h"
#include "models/session.h"
#include "models/stops.h"
#include "models/token_mask.h"
#include "models/tokenizer.h"

#define SERVICE_MAX_CHOICES   128u
#define SERVICE_MAX_LOGPROBS  64u       /* alternatives per token */
#define SERVICE_MAX_DRAFT     16u       /* tokens proposed per step */
#define SERVICE_MAX_STOP_IDS  256u
#define SERVICE_MAX_SALT      256u      /* bytes */
#define SERVICE_MAX_SCALE     100       /* of an adapter */
#define SERVICE_MAX_BLOCK_ROWS 65536u   /* of the blocks of all answers by diffusion, in a step */

/* ---- opening ---- */

/* The share of an answer in a step. */
struct service_share {
    uint64_t account, request;
    uint32_t choice;
    uint32_t n_prompt_rows, n_answer_rows;  /* of the step's rows */
    uint32_t n_past;            /* positions that they found in the cache */
};

struct service_opts {           /* zero means the default everywhere */
    uint32_t n_ctx;             /* positions of one answer with its prompt; default: as trained,
                                 * but at most 4096 */
    uint32_t max_seqs;          /* answers that run together; default 16, by diffusion 8 */
    uint32_t max_rows;          /* tokens of one step; default 256; n_ctx for models that take an
                                 * input in one step */
    uint32_t mixed_rows;        /* of those, prompt tokens while answers are running, so that
                                 * streams keep their pace; default 64 */
    uint32_t max_draft;         /* most tokens proposed per answer and step; default 8 */
    uint32_t max_queued;        /* requests that wait; default 1024 */
    uint64_t max_wait_ns;       /* a request whose first token would take longer, as far as recent
                                 * steps tell, is refused while others wait; default 60 s */
    uint64_t queue_bytes;       /* memory of all requests' own buffers; default 1 GiB */
    uint64_t kv_bytes;          /* pages of keys and values, shared by all answers and the cache
                                 * of prefixes; default: max_seqs * n_ctx positions */
    uint32_t n_snapshots;       /* fixed states that the cache of prefixes keeps, for models that
                                 * have one; default 2 * max_seqs */
    bool     no_prefix_cache;
    const char *spill_dir;      /* pages that leave the cache go here; NULL: are forgotten */
    uint64_t    spill_bytes;    /* bound of that folder; default 4 GiB */
    /* Of models that write by diffusion: the block is as this says, the rest for requests that say
     * nothing; of the kinds of cache BLOCK only. */
    struct diffusion_opts diffusion;
    const struct model *draft;  /* proposes tokens; same vocabulary; borrowed; NULL: none */
    /* Executor, threads, cache types, progress; n_ctx, n_seqs, max_rows, max_out, kv_bytes and
     * n_marks in it are not read. */
    struct session_opts session;
    struct metrics *metrics;    /* NULL: none */
    const char     *name;       /* label model_name of the metrics; default: the model's own */
    /* Who had which share of a step that has just run, for the ledger; on the service's thread;
     * NULL: nobody asks. */
    void (*on_step)(void *ctx, const struct service_share *shares, uint32_t n, uint64_t start_ns,
                    uint64_t end_ns);
    void  *on_step_ctx;
};

struct service;

/* m and tok are borrowed and must outlive the service; tok NULL: ids only. WATT_EINVAL,
 * WATT_ELIMIT with the numbers when the options can't fit, WATT_ENOMEM. */
int  service_open(struct service **out, const struct model *m, const struct tokenizer *tok,
                  const struct service_opts *opts, struct err *e) MUST_CHECK;
/* Cancels what runs and what waits: their last events come during this call, and afterwards none. From
 * then on submissions are refused (SERVICE_CLOSING); every function may still be called. */
void service_stop(struct service *s);
/* service_stop, and the end of the memory. NULL is fine. */
void service_close(struct service *s);
/* From now on submissions are refused (SERVICE_CLOSING). Waits until nothing runs or waits, at
 * most wait_ns: true when that came about. */
bool service_drain(struct service *s, uint64_t wait_ns);

/* What service_open would take. */
int  service_plan(const struct model *m, const struct service_opts *opts,
                  struct session_memory *mem, struct err *e) MUST_CHECK;
void     service_memory(const struct service *s, struct session_memory *mem);
uint32_t service_n_ctx(const struct service *s);
const struct model *service_model(const struct service *s);
const struct tokenizer *service_tokenizer(const struct service *s);
/* NULL: the model does not write by diffusion. */
const struct diffusion_opts *service_diffusion(const struct service *s);

/* ---- events ---- */

enum service_finish {
    SERVICE_STOP,               /* the model ended its answer, or a stop string or id came */
    SERVICE_LENGTH,             /* max_tokens, or the context is full */
    SERVICE_CANCELLED,
    SERVICE_DEADLINE,
    SERVICE_ERROR               /* error says which */
};
const char *service_finish_name(enum service_finish f);     /* "stop", "length", … */

struct service_usage {
    uint32_t n_prompt;          /* tokens */
    uint32_t n_cached;          /* of those, taken from the cache */
    uint32_t n_answer;          /* tokens drawn, an end token included */
    uint32_t n_drafted, n_accepted;     /* by speculation */
    uint32_t n_preempted;       /* times the answer had to give its memory away and recompute */
};

struct service_times {          /* ns */
    uint64_t submitted;         /* clock_mono_ns */
    uint64_t queued;            /* until its first step began */
    uint64_t prefill;           /* from there to the first token */
    uint64_t decode;            /* from the first token to the last */
    uint64_t first_token;       /* from submission; 0: none came */
    uint64_t total;             /* from submission to the end */
};

enum service_event_kind {
    SERVICE_PROGRESS,           /* some of the prompt is in; only when asked for */
    SERVICE_PROMPT_TOKEN,       /* log probability of a prompt token; only when asked for */
    SERVICE_TOKEN,              /* one token of the answer */
    SERVICE_EMBEDDING,          /* the result of a model that gives no logits */
    SERVICE_DONE                /* one choice is over */
};

struct service_event {          /* valid during the call */
    enum service_event_kind kind;
    uint64_t request;
    uint32_t choice;            /* 0..n_choices-1 */
    bool     last;              /* DONE of the request's last choice */
    /* PROGRESS: tokens of the prompt that are in, from the cache or computed */
    uint32_t n_done, n_total, n_cached;
    /* PROMPT_TOKEN, TOKEN */
    int32_t  id;
    uint32_t index;             /* of the token in the prompt or in the answer */
    struct sv text;             /* TOKEN: whole characters that may be shown now, often none;
                                 * DONE: those that were still held back */
    bool     has_logprob;       /* the first token of a prompt has none */
    float    logprob;           /* natural logarithm, of the model's own distribution */
    const struct token_logprob *top;    /* [n_top], best first */
    size_t   n_top;
    uint32_t rank;              /* PROMPT_TOKEN: among all tokens, 1 is the most probable; 0: it has none */
    /* EMBEDDING */
    const float *row;
    uint32_t width;
    /* DONE */
    enum service_finish finish;
    int32_t  stop_index;        /* of the stop string that came, or -1 */
    int32_t  stop_id;           /* the token that ended the answer, or -1 */
    const struct err *error;    /* SERVICE_ERROR; else NULL */
    struct service_usage usage;
    struct service_times times;
};
typedef void service_event_fn(void *ctx, const struct service_event *ev);

/* ---- requests ---- */

enum service_speculate { SERVICE_SPEC_AUTO, SERVICE_SPEC_OFF, SERVICE_SPEC_LOOKUP, SERVICE_SPEC_DRAFT };

struct service_request {        /* copied; service_request_init first */
    const int32_t *tokens;
    uint32_t n_tokens;          /* > 0 */
    uint32_t max_tokens;        /* of the answer; 0: as many as the context holds */
    bool     clip_max;          /* max_tokens that pass the end of the context are cut to it
                                 * in place of being refused */
    bool     prompt_only;       /* no answer: embeddings, or the log probabilities of the prompt */
    uint32_t second_from;       /* of a pair: tokens from here on are of segment 1; 0: no pair */
    uint32_t min_tokens;        /* no end, stop string or stop id before so many */
    uint32_t n_choices;
    /* Choice i draws with sampling.seed + i. */
    struct sampler_options sampling;
    const char *const *stops;   /* at most STOPS_MAX */
    size_t   n_stops;
    bool     include_stop;      /* the stop string is shown */
    const int32_t *stop_ids;    /* end the answer like an end token */
    size_t   n_stop_ids;
    bool     ignore_end;        /* go on after the model's end token */
    bool     special;           /* control tokens are shown as spelled */
    const int32_t *shown;       /* those that are shown although others are not; borrowed until the */
    size_t   n_shown;           /* last event */
    bool     continues;         /* the answer goes on a text: its leading space stays */
    const uint64_t *allowed;    /* one bit per token that may ever come; NULL: all */
    const int32_t  *bad_ids;    /* sequences of tokens that the answer must not have (bad_words.h), */
    const uint32_t *bad_ends;   /* end to end, and where each ends */
    size_t   n_bad;
    struct token_mask *mask;    /* grammar of choice 0; the service clones it for the others and
                                 * closes it, also when the request is refused; NULL: none */
    bool     logprobs;          /* of every token of the answer, with */
    uint32_t n_top;             /* so many alternatives */
    bool     prompt_logprobs;   /* of the prompt's tokens (its cache is not read then), with */
    uint32_t n_prompt_top;
    bool     progress;          /* SERVICE_PROGRESS when its turn comes, after each step of the prompt */
    /* By diffusion only; zero and SERVICE_NO_ALGORITHM: as the service has it. */
    uint32_t diffusion_steps;
    float    diffusion_threshold;
    int      diffusion_algorithm;
    enum service_speculate speculate;
    uint32_t max_draft;         /* 0: as the service has it */
    int32_t  priority;          /* higher first; clamped to -100..100 */
    uint64_t account;           /* whose share of the machine this uses (an API key) */
    uint64_t deadline_ns;       /* clock_mono_ns; 0: none */
    struct sv salt;             /* only requests with the same salt share cache */
    uint32_t adapter;           /* of model_opts.adapters, from 1; 0: the model itself. Requests of
                                 * different adapters share no cache */
    float    adapter_scale;     /* how much of what that adds, within ±SERVICE_MAX_SCALE; 0 stands for 1; nor
                                 * do those of different scales */
    bool     no_cache;          /* neither reads nor fills the cache of prefixes */
    uint64_t caller_bytes;      /* what its answer takes of the caller's memory, counted in queue_bytes */
    service_event_fn *on_event;
    void    *ctx;
};
#define SERVICE_NO_ALGORITHM (-1)
void service_request_init(struct service_request *r);

/* Why a submission was refused. */
enum service_refusal {
    SERVICE_REFUSED_INVALID,    /* WATT_EINVAL, WATT_ENOTSUP: the request is wrong */
    SERVICE_REFUSED_CONTEXT,    /* WATT_ELIMIT: context_length_exceeded */
    SERVICE_REFUSED_MEMORY,     /* WATT_ELIMIT: could never fit the cache */
    SERVICE_REFUSED_QUEUE,      /* WATT_EBUSY: too many wait; retry_after_ms says when to come */
    SERVICE_REFUSED_CLOSING,    /* WATT_ECANCEL */
    SERVICE_REFUSED_NOMEM       /* WATT_ENOMEM: this machine has no memory left */
};

struct service_ticket {
    uint64_t id;                /* of the accepted request; never 0 */
    enum service_refusal refusal;   /* of a refused one */
    uint32_t n_prompt, n_ctx;   /* for the message of a CONTEXT refusal */
    uint64_t retry_after_ms;
};

/* Hands a request in; events may come before this returns. A negative return is a refusal: no
 * event will come, t->refusal says which kind and e why. */
int  service_submit(struct service *s, const struct service_request *r, struct service_ticket *t,
                    struct err *e) MUST_CHECK;
/* Ends a request at the next step; its DONE events come then. An id that is over or unknown is
 * nothing. choice SERVICE_ALL: all. */
#define SERVICE_ALL UINT32_MAX
void service_cancel(struct service *s, uint64_t id, uint32_t choice);

/* ---- holding back ---- */

struct service_limits {         /* 0: none */
    uint32_t max_running;       /* answers that begin while so many run wait */
    uint32_t max_prompt_rows;   /* of one step */
    double   duty;              /* share of the time that steps run, in (0, 1]; the thread sleeps
                                 * after each step for the rest */
};
/* From the next step on; any thread, as often as it likes. */
void service_limit(struct service *s, const struct service_limits *l);

/* ---- watching ---- */

struct service_stats {          /* now, and sums since open */
    uint32_t n_running, n_waiting;      /* answers */
    uint32_t max_seqs, max_queued;
    uint32_t n_pages, n_pages_free, n_pages_cached;     /* cached: held by nothing but the cache */
    uint32_t n_slots, n_slots_free;
    uint64_t n_requests, n_refused, n_steps;
    uint64_t n_finished[SERVICE_ERROR + 1];             /* answers, by enum service_finish */
    uint64_t n_prompt_tokens, n_cached_tokens, n_answer_tokens;
    uint64_t n_drafted, n_accepted, n_preempted;
    uint64_t n_spilled, n_returned;                     /* pages to and from the folder */
    uint64_t prefill_ns, decode_ns;     /* of steps, shared out by rows */
    double   tokens_per_s;              /* of answers, over the last seconds */
};
void service_stats(struct service *s, struct service_stats *st);

struct service_slot {           /* an answer that runs or waits */
    uint64_t request;
    uint32_t choice;
    bool     running;
    uint32_t n_prompt, n_done;  /* tokens; done: positions computed or cached */
    uint32_t n_answer, max_tokens;
    int32_t  priority;
    uint64_t account, age_ns;
};
/* Up to max of them, running ones first; returns how many there are in all. */
uint32_t service_list(struct service *s, struct service_slot *out, uint32_t max);

/* Forgets all prefixes that nobody is using, in memory and on disk. */
void service_forget(struct service *s);

#endif
