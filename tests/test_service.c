/* test_service.c: one engine, many requests: the same tokens alone and in company, cold and from
 * the cache, with speculation and without, with cancels and preemption. What requests can ask for
 * is in test_service_requests.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "remove_tree.h"
#include "service_rig.h"
#include "tiny.h"
#include "tiny_gguf.h"

/* ---- the same tokens ---- */

#define N_REQS 64
#define N_PROMPT 160

struct load {
    int32_t  prompt[N_REQS][N_PROMPT];
    uint32_t n_prompt[N_REQS], max[N_REQS];
    uint64_t seed[N_REQS];
    int32_t  ids[N_REQS][MAX_ANSWER];
    uint32_t n[N_REQS];
};

/* Several share beginnings; some repeat themselves, so that look-up has something to find. */
static void make_load(struct load *l, uint64_t seed, uint32_t n_vocab)
{
    struct rng rng;

    rng_init(&rng, seed);
    for (int i = 0; i < N_REQS; i++) {
        const bool shares = i > 4 && rng_below(&rng, 2);
        const uint32_t from = rng_below(&rng, 4), n = 1 + rng_below(&rng, N_PROMPT);

        l->n_prompt[i] = n;
        for (uint32_t k = 0; k < N_PROMPT; k++)
            l->prompt[i][k] = i % 3 == 0 && k >= 12 ? l->prompt[i][k - 12]
                                                    : (int32_t)rng_below(&rng, n_vocab);
        if (shares)
            memcpy(l->prompt[i], l->prompt[from], rng_below(&rng, n) * sizeof(int32_t));
        l->max[i] = 1 + rng_below(&rng, 28);
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
    r.priority = (int32_t)(i % 7);
    return r;
}

/* One after the other on a service without cache and speculation. */
static void run_alone(const struct model *m, struct load *l, const struct session_opts *so)
{
    struct service *s = open_service(m, NULL, (struct service_opts){ .n_ctx = 256, .max_seqs = 1,
                                                                     .no_prefix_cache = true,
                                                                     .session = *so });

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

struct totals { uint32_t cached, accepted, drafted, preempted, cancelled, returned; };

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

/* Twice over the same requests on one service: cold, then from the cache. */
static void add_round(struct totals *sum, const struct model *m, const struct load *l,
                      struct service_opts o, enum service_speculate spec, uint64_t seed, bool cancels)
{
    struct service *s = open_service(m, NULL, o);
    struct service_stats st;

    for (uint64_t again = 0; again < 2; again++) {
        const struct totals t = run_together(s, l, spec, 2 * seed + again, cancels);

        sum->cached += t.cached;
        sum->accepted += t.accepted;
        sum->preempted += t.preempted;
        sum->cancelled += t.cancelled;
    }
    service_stats(s, &st);
    sum->returned += (uint32_t)st.n_returned;
    service_close(s);
}

/* Pages that leave memory go to a folder that holds some of them, and come back. */
static void add_spilling_rounds(struct totals *sum, const struct model *m, const struct load *l,
                                struct service_opts o)
{
    char dir[] = "watt-pages-XXXXXX";

    assert_non_null(mkdtemp(dir));
    o.spill_dir = dir;
    o.spill_bytes = o.kv_bytes * 6 + 200000;
    add_round(sum, m, l, o, SERVICE_SPEC_LOOKUP, 6, true);
    add_round(sum, m, l, o, SERVICE_SPEC_OFF, 7, true);     /* from what the last process left */
    assert_int_equal(remove_tree(dir), 0);
}

/* Ten answers of up to 188 positions over a quarter of the pages that takes. */
static void check_same_in(const char *name, const struct model *m, const struct model *draft,
                          enum dtype cache)
{
    struct load *l = mem_calloc(1, sizeof *l);
    struct totals sum = { 0 };
    struct service_opts o = { .n_ctx = 256, .max_seqs = 10, .max_rows = 48, .mixed_rows = 17,
                              .max_draft = 5, .n_snapshots = 12,
                              .session = { .kv_set = cache != SESSION_KV_AUTO, .k_dtype = cache,
                                           .v_dtype = cache } };
    struct session_memory mem;
    struct err e = { 0 };

    assert_non_null(l);
    assert_int_equal(service_plan(m, &o, &mem, &e), 0);
    o.kv_bytes = mem.kv_token * 64 * 7;
    make_load(l, 5, model_facts(m)->n_vocab);
    run_alone(m, l, &o.session);
    add_round(&sum, m, l, o, SERVICE_SPEC_OFF, 1, false);
    add_round(&sum, m, l, o, SERVICE_SPEC_LOOKUP, 2, false);
    add_round(&sum, m, l, o, SERVICE_SPEC_LOOKUP, 3, true);
    add_spilling_rounds(&sum, m, l, o);
    o.draft = draft;
    o.session.n_threads = 2;
    add_round(&sum, m, l, o, SERVICE_SPEC_DRAFT, 4, true);
    o.no_prefix_cache = true;
    add_round(&sum, m, l, o, SERVICE_SPEC_AUTO, 5, true);
    print_message("%s: %u cached, %u accepted, %u preempted, %u cancelled, %u pages from disk\n", name,
                  sum.cached, sum.accepted, sum.preempted, sum.cancelled, sum.returned);
    assert_true(sum.cached > 0 && sum.accepted > 0 && sum.cancelled > 0 && sum.returned > 0);
    mem_free(l);
}

static void check_same(const char *name, const struct model *m, const struct model *draft)
{
    check_same_in(name, m, draft, (enum dtype)SESSION_KV_AUTO);
}

static void same_tokens_dense(void **state)
{
    struct shape shape = tiny_shape("llama");
    struct model *m = tiny_open(&shape, QUANT_Q4_0), *draft;

    (void)state;
    shape.n_layers = 1;
    draft = tiny_open(&shape, QUANT_F32);
    check_same("dense", m, draft);
    model_close(draft);
    model_close(m);
}

static void same_tokens_hybrid(void **state)
{
    struct model *m = tiny_hybrid();

    (void)state;
    check_same("hybrid", m, m);
    model_close(m);
}

static void same_tokens_of_experts(void **state)
{
    struct model *m = tiny_open(shape_find("tiny-moe"), QUANT_Q4_0);

    (void)state;
    check_same("experts", m, m);
    model_close(m);
}

static void same_tokens_in_small_caches(void **state)
{
    const struct shape shape = tiny_shape("llama");
    struct model *m = tiny_open(&shape, QUANT_Q8_0);

    (void)state;
    check_same_in("Q8_0 cache", m, m, DTYPE_Q8_0);
    check_same_in("BF16 cache", m, m, DTYPE_BF16);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_tokens_dense),
        cmocka_unit_test(same_tokens_of_experts),
        cmocka_unit_test(same_tokens_in_small_caches),
        cmocka_unit_test(same_tokens_hybrid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
