/* test_service_diffusion.c: models that write by diffusion behind a service: the tokens that
 * models/diffusion.h makes alone, whatever runs beside them; blocks as they come; cancels amid a
 * block; what can't be had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "service_rig.h"
#include "tiny.h"

enum { VOCAB = 512, MASK = VOCAB - 1, N_REQS = 48, N_PROMPT = 90, BLOCK = 8, N_CTX = 160 };

struct rig {
    struct model     *m;
    struct tokenizer *tok;
};

static void rig_open(struct rig *g, const char *shape)
{
    struct err e = { 0 };

    g->m = tiny_open(shape_find(shape), QUANT_F32);
    if (tokenizer_open(&g->tok, model_gguf(g->m), &e) < 0)
        fail_msg("%s", e.msg);
}

static void rig_close(struct rig *g)
{
    tokenizer_close(g->tok);
    model_close(g->m);
}

/* ---- the same tokens ---- */

struct asked {
    int32_t  prompt[N_PROMPT], ids[MAX_CHOICES_HERE][MAX_ANSWER];
    uint32_t n_prompt, max, n_choices;
    struct diffusion_opts how;
    struct sampler_options sampling;
};

static void make_asked(struct asked *a, struct rng *rng, uint32_t i)
{
    memset(a, 0, sizeof *a);
    a->n_prompt = i % 9 == 0 ? 1 : 1 + rng_below(rng, N_PROMPT);
    a->max = 1 + rng_below(rng, 40);
    a->n_choices = i % 6 == 0 ? 3 : 1;
    for (uint32_t k = 0; k < a->n_prompt; k++)
        a->prompt[k] = (int32_t)rng_below(rng, VOCAB);
    a->how = (struct diffusion_opts){ .block = BLOCK,
                                      .algorithm = (enum diffusion_algorithm)(i % 4) };
    if (i % 3 == 0)
        a->how.steps = 1 + rng_below(rng, BLOCK);
    else if (i % 3 == 1)
        a->how.threshold = 0.01f;
    sampler_defaults(&a->sampling);
    a->sampling.seed = rng_u64(rng);
    a->sampling.temp = i % 2 ? 0.8f : 0;
    a->sampling.repeat_penalty = i % 5 == 0 ? 1.2f : 1;
}

/* What models/diffusion.h answers, with nobody beside. */
static void answer_alone(const struct rig *g, struct session *s, struct asked *a)
{
    const struct sampler_spec spec = { .n_vocab = VOCAB, .n_ctx = N_CTX };

    for (uint32_t c = 0; c < a->n_choices; c++) {
        struct sampler_options so = a->sampling;
        struct diffusion_opts o = a->how;
        struct diffusion_step step = { 0 };
        struct diffusion *d = NULL;
        struct sampler *sampler = NULL;
        struct err e = { 0 };
        uint32_t n = 0;

        so.seed += c;
        o.seed = so.seed;
        if (sampler_open(&sampler, &spec, &so, &e) < 0)
            fail_msg("%s", e.msg);
        for (uint32_t i = 0; i < a->n_prompt; i++)
            sampler_accept(sampler, (uint32_t)a->prompt[i]);
        if (diffusion_open(&d, s, 0, g->m, g->tok, &o, &e) < 0 ||
            diffusion_start(d, a->prompt, a->n_prompt, a->max, sampler, &e) < 0)
            fail_msg("%s", e.msg);
        while (!step.done) {
            if (diffusion_step(d, &step, &e) < 0)
                fail_msg("%s", e.msg);
            if (step.block_done) {
                memcpy(a->ids[c] + n, step.block, step.n_block * sizeof *step.block);
                n += step.n_block;
            }
        }
        assert_int_equal(n, a->max);
        diffusion_close(d);
        sampler_close(sampler);
    }
}

static struct service_request request_of(const struct asked *a, uint32_t i)
{
    struct service_request r;

    service_request_init(&r);
    r.tokens = a->prompt;
    r.n_tokens = a->n_prompt;
    r.max_tokens = a->max;
    r.n_choices = a->n_choices;
    r.sampling = a->sampling;
    r.ignore_end = true;
    r.diffusion_steps = a->how.steps;
    r.diffusion_threshold = a->how.threshold;
    r.diffusion_algorithm = (int)a->how.algorithm;
    r.account = i % 3;
    r.priority = (int32_t)(i % 5);
    return r;
}

/* All of them at once, a quarter cancelled somewhere; every token that came is the one of alone. */
static void run_together(struct service *s, const struct asked *all, uint64_t seed, bool cancels,
                         uint32_t *n_preempted, uint32_t *n_cancelled)
{
    struct got *got = mem_calloc(N_REQS, sizeof *got);
    uint32_t order[N_REQS];
    struct rng rng;

    assert_non_null(got);
    rng_init(&rng, seed);
    for (uint32_t i = 0; i < N_REQS; i++) {
        const uint32_t k = rng_below(&rng, i + 1);

        order[i] = order[k];
        order[k] = i;
    }
    for (uint32_t k = 0; k < N_REQS; k++) {
        const uint32_t i = order[k];
        struct service_request r = request_of(&all[i], i);

        const uint64_t id = submit(s, &r, &got[i]);

        if (cancels && rng_below(&rng, 4) == 0)
            service_cancel(s, id, rng_below(&rng, 2) ? SERVICE_ALL : 0);
    }
    for (uint32_t i = 0; i < N_REQS; i++) {
        got_wait(&got[i]);
        for (uint32_t c = 0; c < all[i].n_choices; c++) {
            const bool cut = got[i].finish[c] == SERVICE_CANCELLED;

            if (!cut)
                assert_int_equal(got[i].finish[c], SERVICE_LENGTH);
            if ((!cut && got[i].n[c] != all[i].max) || (cut && got[i].n[c] % BLOCK != 0) ||
                memcmp(got[i].ids[c], all[i].ids[c], got[i].n[c] * sizeof(int32_t)) != 0)
                fail_msg("request %u, choice %u: other tokens in company", i, c);
            *n_cancelled += cut;
            *n_preempted += got[i].usage[c].n_preempted;
        }
    }
    mem_free(got);
}

static void check_same(const char *shape)
{
    struct asked *all = mem_calloc(N_REQS, sizeof *all);
    struct service_opts o = { .n_ctx = N_CTX, .max_seqs = 6, .mixed_rows = 17,
                              .diffusion.block = BLOCK };
    const struct session_opts so = { .n_ctx = N_CTX, .n_threads = 1 };
    uint32_t n_preempted = 0, n_cancelled = 0;
    struct session_memory mem;
    struct session *alone = NULL;
    struct err e = { 0 };
    struct rng rng;
    struct rig g;

    assert_non_null(all);
    rig_open(&g, shape);
    rng_init(&rng, 11);
    assert_int_equal(session_open(&alone, g.m, &so, &e), 0);
    for (uint32_t i = 0; i < N_REQS; i++) {
        make_asked(&all[i], &rng, i);
        answer_alone(&g, alone, &all[i]);
    }
    session_close(alone);
    assert_int_equal(service_plan(g.m, &o, &mem, &e), 0);
    for (uint64_t round = 0; round < 4; round++) {
        struct service *s;

        o.kv_bytes = round < 2 ? 0 : mem.kv_token * 64 * 6;     /* of 18 pages */
        o.session.n_threads = 1 + round % 2;
        s = open_service(g.m, g.tok, o);
        run_together(s, all, round, round > 0, &n_preempted, &n_cancelled);
        service_close(s);
    }
    assert_true(n_preempted > 0 && n_cancelled > 0);
    mem_free(all);
    rig_close(&g);
}

static void same_tokens(void **state)
{
    (void)state;
    check_same("tiny-llada");
}

static void same_tokens_shifted(void **state)
{
    (void)state;
    check_same("tiny-dream");
}

/* ---- how they come ---- */

struct watched {
    struct got got;
    struct service *svc;
    uint64_t request, steps_at[MAX_ANSWER];
    uint32_t n;
};

static uint64_t n_steps(struct service *s)
{
    struct service_stats st;

    service_stats(s, &st);
    return st.n_steps;
}

static void watch(void *ctx, const struct service_event *ev)
{
    struct watched *w = ctx;

    if (ev->kind == SERVICE_TOKEN)
        w->steps_at[w->n++] = n_steps(w->svc);
    on_event(&w->got, ev);
}

static void blocks_come_whole(void **state)
{
    const int32_t prompt[5] = { 1, 2, 3, 4, 5 };
    struct service_request r;
    struct service_ticket t;
    struct watched w = { 0 };
    struct service *s;
    struct err e = { 0 };
    struct rig g;

    (void)state;
    rig_open(&g, "tiny-llada");
    s = open_service(g.m, g.tok, (struct service_opts){ .n_ctx = 128, .diffusion.block = BLOCK });
    assert_int_equal(service_diffusion(s)->block, BLOCK);
    service_request_init(&r);
    r.tokens = prompt;
    r.n_tokens = 5;
    r.max_tokens = 20;
    r.ignore_end = true;
    r.on_event = watch;
    r.ctx = &w;
    got_init(&w.got);
    w.svc = s;
    assert_int_equal(service_submit(s, &r, &t, &e), 0);
    got_wait(&w.got);
    assert_int_equal(w.n, 20);
    for (uint32_t i = 1; i < 20; i++)       /* together, and a step per token between blocks */
        if (i % BLOCK == 0)
            assert_true(w.steps_at[i] >= w.steps_at[i - 1] + (i < 16 ? 8 : 4));
        else
            assert_int_equal(w.steps_at[i], w.steps_at[i - 1]);
    assert_int_equal(w.got.usage[0].n_answer, 20);
    assert_int_equal(w.got.usage[0].n_drafted, 0);
    service_close(s);
    rig_close(&g);
}

/* Ends the answer at its third step: by a cancel, or by waiting until its deadline is over. */
struct ender { struct service *svc; uint64_t deadline_ns; uint32_t n_steps; };

static void end_at_third(void *ctx, const struct service_share *shares, uint32_t n, uint64_t start_ns,
                         uint64_t end_ns)
{
    struct ender *x = ctx;

    (void)start_ns, (void)end_ns;
    if (++x->n_steps != 3)
        return;
    assert_int_equal(n, 1);
    if (!x->deadline_ns)
        service_cancel(x->svc, shares[0].request, SERVICE_ALL);
    while (clock_mono_ns() < x->deadline_ns)
        (void)usleep(1000);
}

/* An answer of hundreds of steps ends at the next one. */
static void ends_between_steps(void **state)
{
    const int32_t prompt[5] = { 1, 2, 3, 4, 5 };
    struct ender ender = { .svc = NULL };
    struct service *s;
    struct rig g;

    (void)state;
    rig_open(&g, "tiny-dream");
    s = open_service(g.m, g.tok, (struct service_opts){ .n_ctx = 500, .diffusion.block = 400,
                                                        .on_step = end_at_third, .on_step_ctx = &ender });
    for (int late = 0; late < 2; late++) {
        struct service_request r;
        struct service_stats st;
        struct got got;
        uint64_t from;

        service_request_init(&r);
        r.tokens = prompt;
        r.n_tokens = 5;
        r.max_tokens = 400;
        r.deadline_ns = late ? clock_mono_ns() + 100000000 : 0;
        from = n_steps(s);
        ender = (struct ender){ .svc = s, .deadline_ns = r.deadline_ns };
        (void)submit(s, &r, &got);
        got_wait(&got);
        assert_int_equal(got.finish[0], late ? SERVICE_DEADLINE : SERVICE_CANCELLED);
        assert_int_equal(got.n[0], 0);
        assert_true(n_steps(s) < from + 10);
        while (service_stats(s, &st), st.n_running > 0)
            (void)usleep(1000);
        assert_int_equal(st.n_pages_free, st.n_pages);
    }
    service_close(s);
    rig_close(&g);
}

/* A prompt as long as a step beside answers that run is not put off until they are over. */
static void long_prompts_come_in(void **state)
{
    int32_t prompt[300];
    struct service_request r;
    struct got first[2], second;
    struct service *s;
    struct rig g;

    (void)state;
    for (int i = 0; i < 300; i++)
        prompt[i] = i;
    rig_open(&g, "tiny-llada");
    s = open_service(g.m, g.tok, (struct service_opts){ .n_ctx = 400, .max_seqs = 3,
                                                        .mixed_rows = 16, .diffusion.block = 16 });
    service_request_init(&r);
    r.tokens = prompt;
    r.n_tokens = 10;
    r.max_tokens = 380;
    r.ignore_end = true;
    for (int i = 0; i < 2; i++) {
        got_init(&first[i]);
        first[i].cancel_after = 64;
        first[i].svc = s;
        r.on_event = on_event;
        r.ctx = &first[i];
        assert_int_equal(service_submit(s, &r, &(struct service_ticket){ 0 }, &(struct err){ 0 }), 0);
    }
    r.n_tokens = 300;
    r.max_tokens = 16;
    (void)submit(s, &r, &second);
    got_wait(&second);
    assert_int_equal(second.finish[0], SERVICE_LENGTH);
    assert_int_equal(second.n[0], 16);
    for (int i = 0; i < 2; i++)
        got_wait(&first[i]);
    service_close(s);
    rig_close(&g);
}

/* min_tokens and what may come hold for blocks, too. */
static void ends_are_held_back(void **state)
{
    const int32_t prompt[5] = { 1, 2, 3, 4, 5 };
    uint64_t allowed[VOCAB / 64] = { 0 };
    const int32_t stops[2] = { 70, 71 };
    struct service *s;
    struct rig g;

    (void)state;
    rig_open(&g, "tiny-llada");
    s = open_service(g.m, g.tok, (struct service_opts){ .n_ctx = 128, .diffusion.block = BLOCK });
    allowed[1] = UINT64_C(0x1f) << 6;       /* 70 to 74 */
    for (uint32_t min = 0; min <= 12; min += 6) {
        struct service_request r;
        struct got got;

        service_request_init(&r);
        r.tokens = prompt;
        r.n_tokens = 5;
        r.max_tokens = 60;
        r.min_tokens = min;
        r.sampling.temp = 20;
        r.sampling.min_p = 0;
        r.sampling.seed = 3;
        r.allowed = allowed;
        r.stop_ids = stops;
        r.n_stop_ids = 2;
        r.ignore_end = true;
        (void)submit(s, &r, &got);
        got_wait(&got);
        assert_int_equal(got.finish[0], SERVICE_STOP);
        assert_true(got.n[0] >= min);
        for (uint32_t i = 0; i < got.n[0]; i++)
            assert_true(got.ids[0][i] >= 72 && got.ids[0][i] <= 74);
    }
    service_close(s);
    rig_close(&g);
}

/* ---- refusals ---- */

static void refuses_what_blocks_cannot(void **state)
{
    const int32_t prompt[3] = { 1, 2, 3 };
    struct service_request r;
    struct service_ticket t;
    struct service_opts o = { .n_ctx = 128 };
    struct service *s, *none = NULL;
    struct err e = { 0 };
    struct rig g, plain;

    (void)state;
    rig_open(&g, "tiny-llada");
    rig_open(&plain, "tiny-llama");
    s = open_service(g.m, g.tok, o);
    for (int i = 0; i < 4; i++) {
        service_request_init(&r);
        r.tokens = prompt;
        r.n_tokens = 3;
        r.max_tokens = 8;
        r.logprobs = i == 0;
        r.sampling.mirostat = i == 1 ? 2 : 0;
        r.diffusion_threshold = i == 2 ? 1.5f : 0;
        r.max_tokens = i == 3 ? 126 : 8;
        assert_true(service_submit(s, &r, &t, &e) < 0);
        assert_int_equal(t.refusal, i == 3 ? SERVICE_REFUSED_CONTEXT : SERVICE_REFUSED_INVALID);
        assert_non_null(strstr(e.msg, i == 0 ? "log probabilities" : i == 1 ? "mirostat"
                               : i == 2 ? "threshold 1.5" : "context"));
    }
    service_close(s);
    s = open_service(plain.m, plain.tok, o);
    service_request_init(&r);
    r.tokens = prompt;
    r.n_tokens = 3;
    r.diffusion_steps = 4;
    assert_true(service_submit(s, &r, &t, &e) < 0);
    assert_non_null(strstr(e.msg, "llama is no diffusion language model"));
    service_close(s);
    o.diffusion.cache = DIFFUSION_CACHE_NONE;
    assert_int_equal(service_open(&none, g.m, g.tok, &o, &e), WATT_ELIMIT);
    o.diffusion = (struct diffusion_opts){ .block = 129 };
    assert_int_equal(service_open(&none, g.m, g.tok, &o, &e), WATT_ELIMIT);
    o.diffusion = (struct diffusion_opts){ 0 };
    assert_int_equal(service_open(&none, g.m, NULL, &o, &e), WATT_ENOTSUP);
    assert_non_null(strstr(e.msg, "mask_token_id"));
    o.draft = plain.m;
    assert_int_equal(service_open(&none, g.m, g.tok, &o, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "draft"));
    rig_close(&g);
    rig_close(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_tokens),
        cmocka_unit_test(same_tokens_shifted),
        cmocka_unit_test(blocks_come_whole),
        cmocka_unit_test(ends_between_steps),
        cmocka_unit_test(long_prompts_come_in),
        cmocka_unit_test(ends_are_held_back),
        cmocka_unit_test(refuses_what_blocks_cannot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
