/* test_service.c: one engine, many requests: the same tokens alone and in company, cold and from
 * the cache, with speculation and without, with cancels and preemption; limits, stops, choices,
 * deadlines, log probabilities, failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "models/service.h"
#include "tiny.h"

enum { MAX_ANSWER = 96, MAX_CHOICES_HERE = 8 };

/* What came of one request. */
struct got {
    pthread_mutex_t mu;
    pthread_cond_t  cond;
    bool     over;
    int32_t  ids[MAX_CHOICES_HERE][MAX_ANSWER];
    float    logprob[MAX_CHOICES_HERE][MAX_ANSWER];
    uint32_t n[MAX_CHOICES_HERE];
    char     text[4096];
    size_t   len;
    enum service_finish finish[MAX_CHOICES_HERE];
    struct service_usage usage[MAX_CHOICES_HERE];
    uint32_t n_prompt_events, cancel_after;
    struct service *svc;
    struct err error;
    int32_t  stop_index;
};

static void on_event(void *ctx, const struct service_event *ev)
{
    struct got *g = ctx;

    if (ev->kind == SERVICE_PROMPT_TOKEN)
        g->n_prompt_events++;
    if (ev->kind == SERVICE_TOKEN) {
        assert_true(g->n[ev->choice] < MAX_ANSWER);
        g->logprob[ev->choice][g->n[ev->choice]] = ev->logprob;
        g->ids[ev->choice][g->n[ev->choice]++] = ev->id;
        if (g->cancel_after && g->n[ev->choice] == g->cancel_after)
            service_cancel(g->svc, ev->request, SERVICE_ALL);
    }
    if (ev->text.len > 0 && ev->choice == 0 && g->len + ev->text.len < sizeof g->text) {
        memcpy(g->text + g->len, ev->text.data, ev->text.len);
        g->len += ev->text.len;
        g->text[g->len] = '\0';
    }
    if (ev->kind != SERVICE_DONE)
        return;
    g->finish[ev->choice] = ev->finish;
    g->usage[ev->choice] = ev->usage;
    g->stop_index = ev->stop_index;
    if (ev->error)
        g->error = *ev->error;
    if (ev->last) {
        (void)pthread_mutex_lock(&g->mu);
        g->over = true;
        (void)pthread_cond_signal(&g->cond);
        (void)pthread_mutex_unlock(&g->mu);
    }
}

static void got_init(struct got *g)
{
    memset(g, 0, sizeof *g);
    (void)pthread_mutex_init(&g->mu, NULL);
    (void)pthread_cond_init(&g->cond, NULL);
}

static void got_wait(struct got *g)
{
    (void)pthread_mutex_lock(&g->mu);
    while (!g->over)
        (void)pthread_cond_wait(&g->cond, &g->mu);
    (void)pthread_mutex_unlock(&g->mu);
}

static uint64_t submit(struct service *s, struct service_request *r, struct got *g)
{
    struct service_ticket t;
    struct err e = { 0 };

    got_init(g);
    g->svc = s;
    r->on_event = on_event;
    r->ctx = g;
    if (service_submit(s, r, &t, &e) < 0)
        fail_msg("%s", e.msg);
    return t.id;
}

static struct service *open_service(const struct model *m, const struct tokenizer *tok,
                                    struct service_opts o)
{
    struct service *s = NULL;
    struct err e = { 0 };

    o.session.n_threads = 2;
    if (service_open(&s, m, tok, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

/* ---- the same tokens ---- */

#define N_REQS 64
#define N_PROMPT 200

struct load {
    int32_t  prompt[N_REQS][N_PROMPT];
    uint32_t n_prompt[N_REQS], max[N_REQS];
    uint64_t seed[N_REQS];
    int32_t  ids[N_REQS][MAX_ANSWER];
    uint32_t n[N_REQS];
};

/* Several share beginnings; some repeat themselves, so that look-up has something to find. */
static void make_load(struct load *l, uint64_t seed)
{
    struct rng rng;

    rng_init(&rng, seed);
    for (int i = 0; i < N_REQS; i++) {
        const bool shares = i > 4 && rng_below(&rng, 2);
        const uint32_t from = rng_below(&rng, 4), n = 1 + rng_below(&rng, N_PROMPT);

        l->n_prompt[i] = n;
        for (uint32_t k = 0; k < N_PROMPT; k++)
            l->prompt[i][k] = i % 3 == 0 && k >= 12 ? l->prompt[i][k - 12]
                                                    : (int32_t)rng_below(&rng, 320);
        if (shares)
            memcpy(l->prompt[i], l->prompt[from], rng_below(&rng, n) * sizeof(int32_t));
        l->max[i] = 1 + rng_below(&rng, 40);
        l->seed[i] = rng_u64(&rng);
    }
}

static struct service_request request_of(const struct load *l, uint32_t i)
{
    struct service_request r;

    service_request_init(&r);
    r.tokens = l->prompt[i];
    r.n_tokens = l->n_prompt[i];
    r.max_tokens = l->max[i];
    r.sampling.seed = l->seed[i];
    r.sampling.temp = i % 4 == 0 ? 0.0f : 0.7f;
    r.sampling.repeat_penalty = i % 5 == 0 ? 1.1f : 1.0f;
    r.ignore_end = true;
    r.account = i % 3;
    r.priority = (int32_t)(i % 2);
    return r;
}

/* One after the other on a service without cache and speculation. */
static void run_alone(const struct model *m, struct load *l)
{
    struct service *s = open_service(m, NULL, (struct service_opts){ .n_ctx = 256, .max_seqs = 1,
                                                                     .no_prefix_cache = true });

    for (uint32_t i = 0; i < N_REQS; i++) {
        struct service_request r = request_of(l, i);
        struct got g;

        r.speculate = SERVICE_SPEC_OFF;
        (void)submit(s, &r, &g);
        got_wait(&g);
        assert_int_equal(g.finish[0], SERVICE_LENGTH);
        assert_int_equal(g.n[0], l->max[i]);
        memcpy(l->ids[i], g.ids[0], sizeof l->ids[i]);
        l->n[i] = g.n[0];
    }
    service_close(s);
}

static void same_or_beginning(const struct load *l, uint32_t i, const struct got *g)
{
    const bool cancelled = g->finish[0] == SERVICE_CANCELLED;

    if (!cancelled)
        assert_int_equal(g->finish[0], SERVICE_LENGTH);
    if ((!cancelled && g->n[0] != l->n[i]) || g->n[0] > l->n[i] ||
        memcmp(g->ids[0], l->ids[i], g->n[0] * sizeof(int32_t)) != 0)
        fail_msg("request %u: other tokens in company", i);
}

struct totals { uint32_t cached, accepted, drafted, preempted, cancelled; };

static struct totals run_together(struct service *s, const struct load *l, enum service_speculate spec,
                         uint64_t seed, bool cancels)
{
    struct got *g = mem_calloc(N_REQS, sizeof *g);
    uint32_t order[N_REQS];
    struct totals sum = { 0 };
    struct rng rng;

    assert_non_null(g);
    rng_init(&rng, seed);
    for (uint32_t i = 0; i < N_REQS; i++) {
        const uint32_t k = rng_below(&rng, i + 1);

        order[i] = order[k];
        order[k] = i;
    }
    for (uint32_t i = 0; i < N_REQS; i++) {
        struct service_request r = request_of(l, order[i]);
        const uint32_t after = cancels && rng_below(&rng, 4) == 0 ? 1 + rng_below(&rng, 20) : 0;
        struct service_ticket t;
        struct err e = { 0 };

        got_init(&g[order[i]]);
        g[order[i]].svc = s;
        g[order[i]].cancel_after = after;
        r.speculate = spec;
        r.on_event = on_event;
        r.ctx = &g[order[i]];
        if (service_submit(s, &r, &t, &e) < 0)
            fail_msg("%s", e.msg);
        if (cancels && rng_below(&rng, 8) == 0)
            service_cancel(s, t.id, SERVICE_ALL);
    }
    for (uint32_t i = 0; i < N_REQS; i++) {
        got_wait(&g[i]);
        same_or_beginning(l, i, &g[i]);
        sum.cached += g[i].usage[0].n_cached;
        sum.accepted += g[i].usage[0].n_accepted;
        sum.drafted += g[i].usage[0].n_drafted;
        sum.preempted += g[i].usage[0].n_preempted;
        sum.cancelled += g[i].finish[0] == SERVICE_CANCELLED;
    }
    mem_free(g);
    return sum;
}

static void check_same(const char *arch, enum quant_mix mix)
{
    struct shape shape = tiny_shape(arch);
    struct model *m = tiny_open(&shape, mix);
    struct load *l = mem_calloc(1, sizeof *l);
    struct totals sum = { 0 };
    /* ten sequences of up to 240 positions, in half the pages that takes */
    struct service_opts o = { .n_ctx = 256, .max_seqs = 10, .max_rows = 48, .mixed_rows = 17,
                              .max_draft = 5 };
    struct session_memory mem;
    struct err e = { 0 };

    assert_non_null(l);
    assert_int_equal(service_plan(m, &o, &mem, &e), 0);
    o.kv_bytes = mem.kv_token * 64 * 20;
    make_load(l, 5);
    run_alone(m, l);
    for (uint64_t round = 0; round < 6; round++) {
        struct service *s = open_service(m, NULL, o);
        const enum service_speculate spec = round % 2 ? SERVICE_SPEC_LOOKUP : SERVICE_SPEC_OFF;

        for (int again = 0; again < 2; again++) {   /* cold, then from the cache */
            const struct totals t = run_together(s, l, spec, 10 * round + (uint64_t)again,
                                                 round >= 2);

            sum.cached += t.cached;
            sum.accepted += t.accepted;
            sum.preempted += t.preempted;
            sum.cancelled += t.cancelled;
        }
        service_close(s);
    }
    print_message("%s: %u cached, %u accepted, %u preempted, %u cancelled\n", arch, sum.cached,
                  sum.accepted, sum.preempted, sum.cancelled);
    assert_true(sum.cached > 0 && sum.accepted > 0 && sum.cancelled > 0);
    if (mem.kv_token > 0)
        assert_true(sum.preempted > 0);
    mem_free(l);
    model_close(m);
}

static void same_bits_under_load(void **state)
{
    (void)state;
    check_same("llama", QUANT_Q4_0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_under_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
