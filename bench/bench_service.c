/* bench_service.c: what a service costs over the bare engine, and what its cache saves.
 *
 *   bench_service MODEL [STREAMS [TOKENS [ROUNDS]]]
 *
 * Both share one executor and take turns: TOKENS greedy tokens of STREAMS answers through the
 * service, and as many steps of as many rows straight through the session. Then the time to the
 * first token of a 2,000-token prompt, cold and from the cache. Medians of ROUNDS. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "models/service.h"

enum { MAX_STREAMS = 64, MAX_ROUNDS = 50, PROMPT = 8, PREFIX = 2000 };

struct bench {
    struct model   *m;
    struct session *session;
    struct service *svc;
    struct rng      rng;
    uint32_t        streams, tokens, rounds;
    int32_t         prompt[PREFIX];
    float          *out;
    pthread_mutex_t mu;
    pthread_cond_t  cond;
    uint32_t        left;
    uint64_t        first_ns, last_ns;      /* of the tokens of a round */
    uint32_t        n_started;
};

static void die(const struct err *e)
{
    (void)fprintf(stderr, "bench_service: %s\n", e->msg);
    exit(1);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *v, uint32_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

static void on_event(void *ctx, const struct service_event *ev)
{
    struct bench *b = ctx;

    if (ev->kind == SERVICE_TOKEN && ev->index == 0 && ++b->n_started == b->streams)
        b->first_ns = clock_mono_ns();      /* from here on all of them decode */
    if (ev->kind == SERVICE_TOKEN)
        b->last_ns = clock_mono_ns();
    if (ev->kind != SERVICE_DONE)
        return;
    if (ev->finish == SERVICE_ERROR)
        die(ev->error);
    (void)pthread_mutex_lock(&b->mu);
    b->left--;
    (void)pthread_cond_signal(&b->cond);
    (void)pthread_mutex_unlock(&b->mu);
}

static void submit(struct bench *b, uint32_t n_prompt, uint32_t n_answer)
{
    struct service_request r;
    struct service_ticket t;
    struct err e = { 0 };

    service_request_init(&r);
    r.tokens = b->prompt;
    r.n_tokens = n_prompt;
    r.max_tokens = n_answer;
    r.ignore_end = true;
    r.speculate = SERVICE_SPEC_OFF;
    r.sampling.temp = 0;
    r.on_event = on_event;
    r.ctx = b;
    if (service_submit(b->svc, &r, &t, &e) < 0)
        die(&e);
}

static void wait_all(struct bench *b)
{
    (void)pthread_mutex_lock(&b->mu);
    while (b->left > 0)
        (void)pthread_cond_wait(&b->cond, &b->mu);
    (void)pthread_mutex_unlock(&b->mu);
}

static void new_prompt(struct bench *b)
{
    for (uint32_t i = 0; i < PREFIX; i++)
        b->prompt[i] = (int32_t)rng_below(&b->rng, model_facts(b->m)->n_vocab);
}

/* Seconds per step of all streams. */
static double through_service(struct bench *b)
{
    b->left = b->streams;
    b->n_started = 0;
    for (uint32_t i = 0; i < b->streams; i++) {
        new_prompt(b);
        submit(b, PROMPT, b->tokens);
    }
    wait_all(b);
    return (double)(b->last_ns - b->first_ns) * 1e-9 / (b->tokens - 1);
}

static double through_session(struct bench *b)
{
    struct session_input in[MAX_STREAMS];
    int32_t token[MAX_STREAMS];
    struct err e = { 0 };
    uint64_t start = 0;

    for (uint32_t i = 0; i < b->streams; i++)
        session_reset(b->session, i);
    for (uint32_t k = 0; k < PROMPT + b->tokens - 1; k++) {
        if (k == PROMPT)
            start = clock_mono_ns();
        for (uint32_t i = 0; i < b->streams; i++) {
            token[i] = (int32_t)rng_below(&b->rng, model_facts(b->m)->n_vocab);
            in[i] = (struct session_input){ .seq = i, .tokens = &token[i], .n_tokens = 1,
                                            .want = SESSION_LAST };
        }
        if (session_eval(b->session, in, b->streams, b->out, &e) < 0)
            die(&e);
    }
    return (double)(clock_mono_ns() - start) * 1e-9 / (b->tokens - 1);
}

static double first_token(struct bench *b)
{
    const uint64_t start = clock_mono_ns();

    b->left = 1;
    submit(b, PREFIX, 1);
    wait_all(b);
    return (double)(b->last_ns - start) * 1e-9;
}

static void open_all(struct bench *b, const char *path)
{
    struct session_opts so = { .n_ctx = 512, .n_seqs = b->streams, .max_rows = 512,
                               .max_out = 3 * b->streams + 16 };
    struct service_opts o = { .n_ctx = PREFIX + 64, .max_seqs = b->streams };
    struct err e = { 0 };

    if (model_open(&b->m, path, NULL, &e) < 0)
        die(&e);
    if (team_open(&so.team, team_default_threads(), &e) < 0 ||
        session_open(&b->session, b->m, &so, &e) < 0)
        die(&e);
    o.session = so;
    o.session.share = b->session;
    o.kv_bytes = UINT64_C(512) << 20;
    if (service_open(&b->svc, b->m, NULL, &o, &e) < 0)
        die(&e);
    b->out = mem_array(b->streams, session_width(b->session) * sizeof *b->out);
    (void)pthread_mutex_init(&b->mu, NULL);
    (void)pthread_cond_init(&b->cond, NULL);
    rng_init(&b->rng, 1);
}

static uint32_t number(int argc, char **argv, int i, uint32_t unset, uint32_t most)
{
    const unsigned long v = i < argc ? strtoul(argv[i], NULL, 10) : unset;

    return v == 0 || v > most ? most : (uint32_t)v;
}

int main(int argc, char **argv)
{
    double svc[MAX_ROUNDS], bare[MAX_ROUNDS], ratio[MAX_ROUNDS], cold[3], hit[3];
    static struct bench b;

    if (argc < 2) {
        (void)fprintf(stderr, "usage: bench_service MODEL [STREAMS [TOKENS [ROUNDS]]]\n");
        return 2;
    }
    b.streams = number(argc, argv, 2, 16, MAX_STREAMS);
    b.tokens = number(argc, argv, 3, 16, 300);
    b.rounds = number(argc, argv, 4, 9, MAX_ROUNDS);
    open_all(&b, argv[1]);
    (void)through_session(&b);
    for (uint32_t i = 0; i < b.rounds; i++) {
        bare[i] = through_session(&b);
        svc[i] = through_service(&b);
        ratio[i] = svc[i] / bare[i];
    }
    (void)printf("%u streams, %u tokens: session %.2f ms a step, service %.2f ms, median of ratios "
                 "%.3f\n", b.streams, b.tokens, 1e3 * median(bare, b.rounds),
                 1e3 * median(svc, b.rounds), median(ratio, b.rounds));
    for (int i = 0; i < 3; i++) {
        new_prompt(&b);
        cold[i] = first_token(&b);
        hit[i] = first_token(&b);
    }
    (void)printf("first token of %d: cold %.3f s, cached %.4f s, %.2f %%\n", PREFIX,
                 median(cold, 3), median(hit, 3), 100 * median(hit, 3) / median(cold, 3));
    service_close(b.svc);
    session_close(b.session);
    mem_free(b.out);
    model_close(b.m);
    return 0;
}
