/* sweep.h: the same load at one concurrency after the other, and what came of it.
 *
 * Closed loop: so many clients, each of which sends its next request when the last answer is over.
 * Open loop: recorded arrivals, so many times as fast, whatever the answers do. Prompts are made up,
 * of the wanted length; two that a trace says begin alike do so. Every token's arrival is noted:
 *   TTFT   from sending a request to its first token
 *   ITL    between two tokens of an answer (of a stream: between two events that hold text)
 *   tokens a second of a user: those of one answer after the first, over the time since it
 * and, with a meter of energy, the joules that the machine used meanwhile, idle ones too.
 *
 * Who answers is a target: the service in this process (sweep_service.c) or a server (sweep_url.c). */
#ifndef APPLICATIONS_SWEEP_H
#define APPLICATIONS_SWEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/quantiles.h"
#include "energy/meter.h"
#include "infrastructure/trace_file.h"

#define SWEEP_MAX_POINTS 64u
#define SWEEP_MAX_SLOTS  4096u      /* requests under way */
#define SWEEP_MAX_ANSWER 65536u
#define SWEEP_UNKNOWN    (-1.0)

/* ---- for targets ---- */

struct sweep_slot;              /* a request under way */

/* The k-th token of a request's prompt, as a number that any vocabulary or word list can take a
 * remainder of. */
uint64_t sweep_prompt_token(const struct sweep_slot *s, uint32_t k);
uint32_t sweep_n_prompt(const struct sweep_slot *s);
uint32_t sweep_n_answer(const struct sweep_slot *s);

/* From any thread, those of a request in order. sweep_done ends it: n_prompt and n_answer are what
 * the answerer counted (0: it did not say), failure NULL or why there is no answer; refused: it
 * asked to come back later. */
void sweep_token(struct sweep_slot *s);
void sweep_done(struct sweep_slot *s, uint32_t n_prompt, uint32_t n_cached, uint32_t n_answer,
                bool refused, const char *failure);

struct sweep_target {
    const char *name;           /* in reports */
    void *ctx;
    /* Begins a request. A failure here ends the sweep; one of the answerer is a sweep_done. Events
     * may come before this returns. */
    int  (*start)(void *ctx, struct sweep_slot *s, struct err *e);
    /* Lets events come for at most `ms`, or until some did; NULL: they come by themselves. */
    void (*run)(void *ctx, unsigned ms);
    /* Cancels what is under way; no event comes after this returns. */
    void (*stop)(void *ctx);
    void (*close)(void *ctx);
};

/* ---- a sweep ---- */

struct sweep_spec {
    const double *values;       /* [n_values] clients, or how many times as fast as recorded */
    size_t   n_values;
    const struct trace *trace;  /* NULL: closed loop */
    uint32_t n_prompt, n_answer;        /* of each request without a trace */
    double   scale;             /* of a trace's lengths */
    uint32_t n_requests;        /* of a point; 0: four for each client, at least 16; all of a trace */
    uint64_t seed;
    struct meter *meter;        /* NULL: none */
    bool   (*cancelled)(void);  /* may be NULL */
    void   (*progress)(void *ctx, uint64_t done, uint64_t total);
    void    *progress_ctx;
};

struct sweep_point {
    double   value;             /* clients, or the rate */
    uint32_t n_requests, n_failed, n_refused;
    double   seconds;
    double   in_tok_s, out_tok_s, requests_s;
    double   cached_share;      /* of the prompts' tokens, where the answerer tells */
    double   user_tok_s;        /* median of the answers of at least two tokens */
    struct quantiles ttft_s, itl_s;
    double   watts, joules_token, tok_s_watt;       /* SWEEP_UNKNOWN; of answered tokens */
    bool     front;             /* no other is better in user_tok_s and out_tok_s */
    char     failure[160];      /* the first one's text */
};

/* out: [n_values]. *n: points that were measured, also when a later one fails. */
int sweep_run(struct sweep_target *t, const struct sweep_spec *spec, struct sweep_point *out,
              size_t *n, struct err *e) MUST_CHECK;

#endif
