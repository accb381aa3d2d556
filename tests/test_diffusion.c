/* test_diffusion.c: answers in blocks against plain references that run everything anew in every
 * step, one token a step; then several tokens a step, limits, and the command. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/json.h"
#include "base/mem.h"
#include "models/diffusion.h"
#include "models/generate.h"
#include "spawn.h"
#include "tiny.h"

enum { BLOCK = 8, N_MAX = 20, N_PROMPT = 11, VOCAB = 512, MASK = VOCAB - 1, TOTAL = N_PROMPT + N_MAX };

static const int32_t prompt[N_PROMPT] = { 5, 300, 17, 41, 8, 260, 99, 3, 77, 120, 64 };

struct rig {
    struct model     *m;
    struct tokenizer *tok;
    struct session   *s;
    uint32_t          shift;
};

static void rig_open(struct rig *g, const char *shape, enum session_exec exec)
{
    const struct session_opts o = { .n_ctx = 128, .exec = exec, .n_threads = 2 };
    struct err e = { 0 };

    *g = (struct rig){ .m = tiny_open(shape_find(shape), QUANT_F32) };
    g->shift = (shape_find(shape)->features & SHAPE_SHIFTED) != 0;
    if (tokenizer_open(&g->tok, model_gguf(g->m), &e) < 0 || session_open(&g->s, g->m, &o, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(tokenizer_role(g->tok, TOKEN_MASK), MASK);
}

static void rig_close(struct rig *g)
{
    session_close(g->s);
    tokenizer_close(g->tok);
    model_close(g->m);
}

/* ---- the references ---- */

static float rows[TOTAL * VOCAB];

/* Appends ids[from, to) to a sequence that is cut to `from`; all rows' logits. */
static void append(const struct rig *g, const int32_t *ids, uint32_t from, uint32_t to)
{
    const struct session_input in = { .tokens = ids + from, .n_tokens = to - from,
                                      .want = SESSION_ALL };
    struct err e = { 0 };

    if (session_truncate(g->s, 0, from, &e) < 0 || session_eval(g->s, &in, 1, rows, &e) < 0)
        fail_msg("%s", e.msg);
}

/* Logits of the block [done, end) from nothing: what the cache's kind shows it. begun: the tokens
 * as they were at the block's first step. Returns the row of the block's first token. */
static const float *evaluate(const struct rig *g, enum diffusion_cache cache, const int32_t *ids,
                             const int32_t *begun, uint32_t done, uint32_t end)
{
    uint32_t from = 0;

    session_reset(g->s, 0);
    switch (cache) {
    case DIFFUSION_CACHE_NONE:      /* one forward pass over prompt, answer and masks */
        append(g, ids, 0, TOTAL);
        break;
    case DIFFUSION_CACHE_PREFIX:    /* what is in front is as the block's first step saw it */
        append(g, begun, 0, TOTAL);
        from = done - g->shift;
        append(g, ids, from, TOTAL);
        if (memcmp(ids, begun, TOTAL * sizeof *ids) == 0) {
            from = 0;
            append(g, ids, 0, TOTAL);
        }
        break;
    case DIFFUSION_CACHE_BLOCK:     /* prompt, then block after block */
        append(g, ids, 0, N_PROMPT);
        for (uint32_t b = N_PROMPT; b < done; b += BLOCK)
            append(g, ids, b - g->shift, b + BLOCK);
        from = done - g->shift;
        append(g, ids, from, end);
        break;
    }
    return rows + (size_t)(done - g->shift - from) * VOCAB;
}

/* The most probable token but the mask; *p its probability among all. */
static int32_t best(const float *logits, double *p)
{
    double sum = 0;
    int32_t id = 0;

    for (int32_t i = 1; i < VOCAB; i++)
        if (i != MASK && logits[i] > logits[id])
            id = i;
    for (int i = 0; i < VOCAB; i++)
        sum += exp((double)logits[i] - logits[id]);
    *p = 1 / sum;
    return id;
}

/* The answer with one token fixed per step, the surest first. */
static void reference(const struct rig *g, enum diffusion_cache cache, int32_t *ids)
{
    memcpy(ids, prompt, sizeof prompt);
    for (uint32_t i = N_PROMPT; i < TOTAL; i++)
        ids[i] = MASK;
    for (uint32_t done = N_PROMPT; done < TOTAL; done += BLOCK) {
        const uint32_t end = done + BLOCK < TOTAL ? done + BLOCK : TOTAL;
        int32_t begun[TOTAL];

        memcpy(begun, ids, sizeof begun);
        for (uint32_t n = done; n < end; n++) {
            const float *logits = evaluate(g, cache, ids, begun, done, end);
            double most = -1;
            uint32_t at = 0;
            int32_t id = -1;

            for (uint32_t i = done; i < end; i++) {
                double p;
                const int32_t t = best(logits + (size_t)(i - done) * VOCAB, &p);

                if (ids[i] == MASK && p > most) {
                    most = p;
                    at = i;
                    id = t;
                }
            }
            ids[at] = id;
        }
    }
}

/* ---- the decoder ---- */

struct answer { int32_t ids[TOTAL]; uint32_t n, n_steps, n_blocks, n_fixed; };

static void run(const struct rig *g, const struct diffusion_opts *o, struct answer *a)
{
    struct diffusion *d = NULL;
    struct diffusion_step step = { 0 };
    struct err e = { 0 };

    *a = (struct answer){ 0 };
    if (diffusion_open(&d, g->s, 0, g->m, g->tok, o, &e) < 0 ||
        diffusion_start(d, prompt, N_PROMPT, N_MAX, NULL, &e) < 0)
        fail_msg("%s", e.msg);
    memcpy(a->ids, prompt, sizeof prompt);
    a->n = N_PROMPT;
    while (!step.done) {
        uint32_t masks = 0;

        if (diffusion_step(d, &step, &e) < 0)
            fail_msg("%s", e.msg);
        a->n_fixed += step.n_fixed;
        for (uint32_t i = 0; i < step.n_block; i++)
            masks += step.block[i] == MASK;
        assert_int_equal(step.block_done, masks == 0);
        if (step.block_done) {
            assert_true(a->n + step.n_block <= TOTAL);
            memcpy(a->ids + a->n, step.block, step.n_block * sizeof *step.block);
            a->n += step.n_block;
            a->n_blocks++;
        }
    }
    a->n_steps = (uint32_t)diffusion_n_steps(d);
    assert_int_equal(a->n, TOTAL);
    assert_int_equal(a->n_fixed, N_MAX);
    assert_int_equal(diffusion_step(d, &step, &e), WATT_EINVAL);
    diffusion_close(d);
}

static void check_plain(enum diffusion_cache cache)
{
    static const char *const shapes[] = { "tiny-llada", "tiny-dream" };
    static const enum session_exec execs[] = { SESSION_EXEC_CPU, SESSION_EXEC_REF };
    const struct diffusion_opts o = { .block = BLOCK, .cache = cache };

    for (int i = 0; i < 4; i++) {
        int32_t want[TOTAL];
        struct answer a;
        struct rig g;

        rig_open(&g, shapes[i / 2], execs[i % 2]);
        reference(&g, cache, want);
        run(&g, &o, &a);
        assert_memory_equal(a.ids, want, sizeof want);
        assert_int_equal(a.n_steps, N_MAX);
        assert_int_equal(a.n_blocks, 3);
        rig_close(&g);
    }
}

static void test_whole_sequence(void **state)
{
    (void)state;
    check_plain(DIFFUSION_CACHE_NONE);
}

static void test_prefix_cache(void **state)
{
    (void)state;
    check_plain(DIFFUSION_CACHE_PREFIX);
}

static void test_block_cache(void **state)
{
    (void)state;
    check_plain(DIFFUSION_CACHE_BLOCK);
}

/* A threshold that is never reached fixes the surest token of each step, as no threshold does. */
static void test_high_threshold(void **state)
{
    const struct diffusion_opts none = { .block = N_MAX, .cache = DIFFUSION_CACHE_NONE };
    struct diffusion_opts o = none;
    struct answer a, b;
    struct rig g;

    (void)state;
    rig_open(&g, "tiny-llada", SESSION_EXEC_CPU);
    run(&g, &none, &a);
    o.threshold = 1;
    run(&g, &o, &b);
    assert_memory_equal(a.ids, b.ids, sizeof a.ids);
    assert_int_equal(b.n_steps, N_MAX);
    rig_close(&g);
}

static void test_parallel(void **state)
{
    struct answer a;
    struct rig g;

    (void)state;
    rig_open(&g, "tiny-llada", SESSION_EXEC_CPU);
    for (uint32_t steps = 1; steps <= BLOCK; steps++) {
        const struct diffusion_opts o = { .block = BLOCK, .steps = steps };

        run(&g, &o, &a);        /* 8, 8 and 4 tokens */
        assert_int_equal(a.n_steps, 2 * steps + (steps < 4 ? steps : 4));
    }
    run(&g, &(struct diffusion_opts){ .block = BLOCK, .threshold = 1e-9f }, &a);
    assert_int_equal(a.n_steps, 3);
    rig_close(&g);
}

static void test_algorithms(void **state)
{
    struct answer a, b;
    struct rig g;

    (void)state;
    rig_open(&g, "tiny-dream", SESSION_EXEC_CPU);
    for (int i = DIFFUSION_CONFIDENCE; i <= DIFFUSION_RANDOM; i++)
        for (int c = DIFFUSION_CACHE_BLOCK; c <= DIFFUSION_CACHE_NONE; c++) {
            const struct diffusion_opts o = { .block = BLOCK, .steps = 3, .seed = 4,
                                              .algorithm = (enum diffusion_algorithm)i,
                                              .cache = (enum diffusion_cache)c };

            run(&g, &o, &a);
            run(&g, &o, &b);
            assert_memory_equal(a.ids, b.ids, sizeof a.ids);
            run(&g, &(struct diffusion_opts){ .block = BLOCK, .threshold = 0.5f,
                                              .algorithm = o.algorithm, .cache = o.cache }, &b);
        }
    rig_close(&g);
}

static void test_refusals(void **state)
{
    struct model *causal = tiny_open(shape_find("tiny-llama"), QUANT_F32);
    struct diffusion_opts o = { .block = 129 };
    const int32_t long_prompt[128] = { 0 }, bad = VOCAB;
    struct diffusion *d = NULL;
    struct err e = { 0 };
    struct rig g;

    (void)state;
    rig_open(&g, "tiny-llada", SESSION_EXEC_CPU);
    assert_int_equal(diffusion_open(&d, g.s, 0, causal, g.tok, NULL, &e), WATT_ENOTSUP);
    assert_non_null(strstr(e.msg, "llama is no diffusion language model"));
    assert_int_equal(diffusion_open(&d, g.s, 0, g.m, NULL, NULL, &e), WATT_ENOTSUP);
    assert_non_null(strstr(e.msg, "mask_token_id is missing"));
    assert_int_equal(diffusion_open(&d, g.s, 0, g.m, g.tok, &o, &e), WATT_ELIMIT);
    assert_non_null(strstr(e.msg, "blocks of 129 tokens, the session gives 128"));
    o = (struct diffusion_opts){ .threshold = 1.5f };
    assert_int_equal(diffusion_open(&d, g.s, 0, g.m, g.tok, &o, &e), WATT_EINVAL);
    assert_int_equal(diffusion_open(&d, g.s, 0, g.m, g.tok, NULL, &e), 0);
    assert_int_equal(diffusion_start(d, prompt, 0, 0, NULL, &e), WATT_EINVAL);
    assert_int_equal(diffusion_start(d, long_prompt, 128, 0, NULL, &e), WATT_ELIMIT);
    assert_non_null(strstr(e.msg, "leaves no room for an answer in a context of 128"));
    assert_int_equal(diffusion_start(d, &bad, 1, 0, NULL, &e), WATT_EINVAL);
    diffusion_close(d);
    rig_close(&g);
    model_close(causal);
}

/* Inputs of these models and the rows that are wanted of them. */
static void test_session(void **state)
{
    struct session_input in = { .tokens = prompt, .n_tokens = N_PROMPT, .want = SESSION_SOME,
                                .first_wanted = 3, .n_wanted = 2 };
    float some[2 * VOCAB];
    struct err e = { 0 };
    struct rig g;

    (void)state;
    rig_open(&g, "tiny-llada", SESSION_EXEC_CPU);
    append(&g, prompt, 0, N_PROMPT);
    session_reset(g.s, 0);
    assert_int_equal(session_eval(g.s, &in, 1, some, &e), 0);
    assert_memory_equal(some, rows + 3 * VOCAB, sizeof some);
    in.first_wanted = N_PROMPT - 1;
    assert_int_equal(session_eval(g.s, &in, 1, some, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "results of 2 rows from 10 on wanted, of 11"));
    in.n_wanted = 0;
    assert_int_equal(session_eval(g.s, &in, 1, some, &e), WATT_EINVAL);
    rig_close(&g);
}

/* ---- answers as text ---- */

struct heard { int32_t ids[N_MAX]; uint32_t n; };

static int hear(void *ctx, const struct generated *t)
{
    struct heard *h = ctx;

    if (t->id >= 0 && h->n < N_MAX)
        h->ids[h->n++] = t->id;
    return 0;
}

static void test_generator(void **state)
{
    struct generator *gen = NULL;
    struct sampler *sampler = NULL;
    struct sampler_options so;
    const struct sampler_spec spec = { .n_vocab = VOCAB, .n_ctx = 128 };
    struct heard h = { 0 };
    const struct generate_opts o = { .n_max = N_MAX, .ignore_end = true, .on_token = hear,
                                     .ctx = &h };
    const struct diffusion_opts d = { .block = BLOCK };
    struct generate_result res;
    struct answer a;
    struct err e = { 0 };
    struct rig g;

    (void)state;
    rig_open(&g, "tiny-llada", SESSION_EXEC_CPU);
    run(&g, &d, &a);
    sampler_defaults(&so);
    so.temp = 0;
    assert_int_equal(sampler_open(&sampler, &spec, &so, &e), 0);
    assert_int_equal(generator_open(&gen, g.s, 0, g.m, g.tok, &e), 0);
    assert_int_equal(generator_diffusion(gen, &d, &e), 0);
    assert_null(generator_logits(gen));
    if (generator_run(gen, sampler, prompt, N_PROMPT, &o, &res, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(res.reason, GENERATE_LENGTH);
    assert_int_equal(res.n_generated, N_MAX);
    assert_int_equal(res.n_steps, N_MAX);
    assert_memory_equal(h.ids, a.ids + N_PROMPT, sizeof h.ids);
    assert_int_equal(generator_len(gen), TOTAL);
    assert_int_equal(generator_reach(gen, TOTAL), 0);
    generator_close(gen);
    sampler_close(sampler);
    rig_close(&g);
}

#ifdef WATT_FAULTS
static void test_out_of_memory(void **state)
{
    struct err e = { 0 };
    int rc = WATT_ENOMEM;
    struct rig g;

    (void)state;
    rig_open(&g, "tiny-llada", SESSION_EXEC_CPU);
    for (unsigned long n = 1; rc == WATT_ENOMEM && n < 100; n++) {
        struct diffusion *d = NULL;

        (void)fault_arm(FAULT_ALLOC, n);
        rc = diffusion_open(&d, g.s, 0, g.m, g.tok, NULL, &e);
        if (rc == 0)
            rc = diffusion_start(d, prompt, N_PROMPT, N_MAX, NULL, &e);
        (void)fault_arm(FAULT_ALLOC, 0);
        diffusion_close(d);
    }
    assert_int_equal(rc, 0);
    rig_close(&g);
}
#endif

/* ---- the command ---- */

static struct spawned r;

static void write_shape(const char *path, const char *name)
{
    const struct synth_opts o = { .mix = QUANT_F32, .pure = true, .seed = 7, .n_threads = 1 };
    struct err e = { 0 };

    if (synth_write(path, shape_find(name), &o, &e) < 0)
        fail_msg("%s", e.msg);
}

static void test_command(void **state)
{
    char dir[] = "watt-diffusion-XXXXXX", path[64];
    const char *last;
    const json_t *timings;
    json_t *j = NULL;
    struct err e = { 0 };

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/m.gguf", dir);
    write_shape(path, "tiny-llada");
    spawn(&r, NULL, "run", path, "--raw", "--json", "-n", "20", "--ignore-end", "--ctx", "128",
          "--diffusion-block", "8", "--diffusion-steps", "4", "the");
    assert_int_equal(r.code, 0);
    r.out[strlen(r.out) - 1] = '\0';
    last = strrchr(r.out, '\n');
    assert_non_null(last);
    assert_int_equal(json_parse(&j, "output", last + 1, strlen(last + 1), NULL, &e), 0);
    timings = json_object_get(j, "timings");
    assert_int_equal(json_integer_value(json_object_get(timings, "predicted_n")), 20);
    assert_int_equal(json_integer_value(json_object_get(timings, "steps")), 12);
    json_close(j);
    write_shape(path, "tiny-llama");
    spawn(&r, NULL, "run", path, "--raw", "-n", "3", "--diffusion-steps", "4", "the");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "llama is no diffusion language model"));
    (void)unlink(path);
    (void)rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_sequence),
        cmocka_unit_test(test_prefix_cache),
        cmocka_unit_test(test_block_cache),
        cmocka_unit_test(test_high_threshold),
        cmocka_unit_test(test_parallel),
        cmocka_unit_test(test_algorithms),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_session),
        cmocka_unit_test(test_generator),
#ifdef WATT_FAULTS
        cmocka_unit_test(test_out_of_memory),
#endif
        cmocka_unit_test(test_command),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
