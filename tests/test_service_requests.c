/* test_service_requests.c: what a request can ask of a service: choices, stops, limits, masks, log
 * probabilities, deadlines, priorities; refusals; failing memory; many requests and few seats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>

#include <math.h>

#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/metric.h"
#include "base/rng.h"
#include "service_rig.h"
#include "tiny.h"

static struct model *model;
static struct tokenizer *tok;
static int32_t prompt[300];

static int open_model(void **state)
{
    struct shape shape = tiny_shape("llama");
    struct err e = { 0 };
    struct rng rng;

    (void)state;
    model = tiny_open(&shape, QUANT_F32);
    if (tokenizer_open(&tok, model_gguf(model), &e) < 0)
        fail_msg("%s", e.msg);
    rng_init(&rng, 3);
    for (size_t i = 0; i < sizeof prompt / sizeof *prompt; i++)
        prompt[i] = (int32_t)rng_below(&rng, 256);
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    tokenizer_close(tok);
    model_close(model);
    return 0;
}

static struct service *plain(void)
{
    return open_service(model, tok, (struct service_opts){ .n_ctx = 256, .max_seqs = 4 });
}

/* 60 tokens of prompt, greedy, 12 of answer. */
static struct service_request ask(void)
{
    struct service_request r;

    service_request_init(&r);
    r.tokens = prompt;
    r.n_tokens = 60;
    r.max_tokens = 12;
    r.sampling.temp = 0;
    r.ignore_end = true;
    return r;
}

static void run(struct service *s, struct service_request *r, struct got *g)
{
    (void)submit(s, r, g);
    got_wait(g);
}

static enum service_refusal refused(struct service *s, const struct service_request *r)
{
    struct service_ticket t;
    struct err e = { 0 };

    assert_true(service_submit(s, r, &t, &e) < 0);
    assert_true(e.msg[0] != '\0');
    return t.refusal;
}

/* ---- answers ---- */

static void choices_share_a_prompt(void **state)
{
    struct service *s = plain();
    struct service_request r = ask(), one;
    struct got g, alone;

    (void)state;
    r.sampling.temp = 1;
    r.sampling.seed = 40;
    r.n_choices = 7;        /* more than there are seats */
    run(s, &r, &g);
    for (uint32_t i = 0; i < 7; i++) {
        assert_int_equal(g.finish[i], SERVICE_LENGTH);
        one = r;
        one.n_choices = 1;
        one.sampling.seed = 40 + i;
        one.no_cache = true;
        run(s, &one, &alone);
        assert_memory_equal(g.ids[i], alone.ids[0], 12 * sizeof(int32_t));
    }
    service_close(s);
}

static void stops_end_answers(void **state)
{
    struct service *s = plain();
    struct service_request r = ask();
    struct got whole, g;
    char stop[8] = { 0 };
    const char *stops[] = { stop };
    int32_t stop_id;
    size_t at;

    (void)state;
    run(s, &r, &whole);
    assert_int_equal(whole.n[0], 12);
    assert_true(whole.len >= 4);
    for (at = whole.len / 2; at > 0 && (whole.text[at] & 0xc0) == 0x80; at--)
        ;
    stop[0] = whole.text[at];       /* the first byte of a character: cut where it first comes */
    if ((unsigned char)stop[0] < 0x80) {
        r.stops = stops;
        r.n_stops = 1;
        run(s, &r, &g);
        assert_int_equal(g.finish[0], SERVICE_STOP);
        assert_int_equal(g.stop_index, 0);
        assert_int_equal(g.len, (size_t)(strchr(whole.text, stop[0]) - whole.text));
        r.include_stop = true;
        run(s, &r, &g);
        assert_int_equal(g.len, (size_t)(strchr(whole.text, stop[0]) - whole.text) + 1);
        r.n_stops = 0;
    }
    stop_id = whole.ids[0][5];
    r.stop_ids = &stop_id;
    r.n_stop_ids = 1;
    run(s, &r, &g);
    assert_int_equal(g.finish[0], SERVICE_STOP);
    assert_true(g.n[0] <= 5);
    r.min_tokens = 9;
    run(s, &r, &g);
    assert_true(g.n[0] >= 9);
    service_close(s);
}

static void log_probabilities(void **state)
{
    struct service *s = plain();
    struct service_request r = ask();
    struct got g, again;

    (void)state;
    r.logprobs = true;
    r.n_top = 3;
    r.prompt_logprobs = true;
    r.n_prompt_top = 2;
    run(s, &r, &g);
    assert_int_equal(g.n_prompt_events, 60);
    for (uint32_t i = 0; i < 12; i++)
        assert_true(g.logprob[0][i] <= 0 && g.logprob[0][i] > -30);
    r.prompt_logprobs = false;
    run(s, &r, &again);
    assert_int_equal(again.n_prompt_events, 0);
    assert_true(again.usage[0].n_cached > 0);
    assert_memory_equal(g.logprob, again.logprob, sizeof g.logprob);
    r.prompt_logprobs = true;       /* the prompt alone */
    r.prompt_only = true;
    run(s, &r, &again);
    assert_int_equal(again.n_prompt_events, 60);
    assert_int_equal(again.n[0], 0);
    service_close(s);
}

static void cached_tokens_are_reported(void **state)
{
    struct service *s = plain();
    struct service_request r = ask();
    struct got g;

    (void)state;
    r.n_tokens = 200;
    run(s, &r, &g);
    assert_int_equal(g.usage[0].n_cached, 0);
    run(s, &r, &g);
    assert_int_equal(g.usage[0].n_cached, 199);     /* all but the one whose logits are needed */
    r.n_tokens = 150;                               /* in the middle of a page */
    run(s, &r, &g);
    assert_int_equal(g.usage[0].n_cached, 149);
    r.salt = SV("other");
    run(s, &r, &g);
    assert_int_equal(g.usage[0].n_cached, 0);
    r.salt = (struct sv){ NULL, 0 };
    service_forget(s);
    run(s, &r, &g);
    assert_int_equal(g.usage[0].n_cached, 0);
    service_close(s);
}

/* ---- masks ---- */

/* Allows the tokens of a list one after the other, then nothing. */
struct forced {
    struct token_mask base;
    const int32_t *ids;
    size_t n, at;
    atomic_int *n_open;
};

static int forced_fill(struct token_mask *m, uint64_t *bits, struct err *e)
{
    struct forced *f = (struct forced *)m;

    if (f->at == f->n)
        return err_set(e, WATT_EINVAL, "forced text: it is over");
    memset(bits, 0, 5 * sizeof *bits);      /* 320 tokens */
    bits[f->ids[f->at] / 64] |= UINT64_C(1) << f->ids[f->at] % 64;
    return TOKEN_MASK_SOME;
}

static int forced_accept(struct token_mask *m, int32_t id, struct err *e)
{
    struct forced *f = (struct forced *)m;

    if (f->at == f->n || f->ids[f->at] != id)
        return err_set(e, WATT_EINVAL, "forced text: token %d", id);
    f->at++;
    return 0;
}

static bool forced_complete(const struct token_mask *m)
{
    const struct forced *f = (const struct forced *)m;

    return f->n < 8 && f->at == f->n;
}

static struct forced *forced_open(const int32_t *ids, size_t n, atomic_int *n_open);

static int forced_clone(struct token_mask **out, const struct token_mask *m, struct err *e)
{
    const struct forced *f = (const struct forced *)m;

    (void)e;
    *out = &forced_open(f->ids, f->n, f->n_open)->base;
    return 0;
}

static void forced_close(struct token_mask *m)
{
    --*((struct forced *)m)->n_open;
    mem_free(m);
}

static struct forced *forced_open(const int32_t *ids, size_t n, atomic_int *n_open)
{
    static const struct token_mask_ops ops = { forced_fill, forced_accept, forced_complete,
                                               forced_clone, forced_close };
    struct forced *f = mem_calloc(1, sizeof *f);

    assert_non_null(f);
    *f = (struct forced){ .base.ops = &ops, .ids = ids, .n = n, .n_open = n_open };
    ++*n_open;
    return f;
}

static void masks_are_obeyed(void **state)
{
    static const int32_t ids[] = { 7, 8, 9, 7, 8, 9, 7, 8, 9, 7 };
    struct service *s = plain();
    struct service_request r = ask();
    atomic_int n_open = 0;
    struct got g;

    (void)state;
    r.n_choices = 3;
    r.speculate = SERVICE_SPEC_LOOKUP;
    r.mask = &forced_open(ids, 5, &n_open)->base;
    run(s, &r, &g);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(g.finish[i], SERVICE_STOP);
        assert_int_equal(g.n[i], 5);
        assert_memory_equal(g.ids[i], ids, 5 * sizeof *ids);
    }
    r.n_choices = 1;
    r.mask = &forced_open(ids, 10, &n_open)->base;      /* ends before the answer does */
    run(s, &r, &g);
    assert_int_equal(g.finish[0], SERVICE_ERROR);
    assert_non_null(strstr(g.error.msg, "forced text"));
    assert_int_equal(g.n[0], 10);
    r.mask = &forced_open(ids, 5, &n_open)->base;
    r.n_tokens = 0;
    assert_int_equal(refused(s, &r), SERVICE_REFUSED_INVALID);
    service_close(s);
    assert_int_equal(n_open, 0);
}

/* The tokens that came without them come no more, whatever else runs and is proposed. */
static void bad_words_never_come(void **state)
{
    struct service *s = plain();
    struct service_request r = ask();
    uint32_t ends[4] = { 1, 3, 6, 6 };
    struct got free_, g, again, others[3];
    int32_t ids[8];

    (void)state;
    r.max_tokens = 90;
    r.speculate = SERVICE_SPEC_OFF;
    run(s, &r, &free_);
    ids[0] = free_.ids[0][4];                           /* alone; behind one; behind two */
    memcpy(ids + 1, free_.ids[0], 2 * sizeof *ids);
    memcpy(ids + 3, free_.ids[0] + 1, 3 * sizeof *ids);
    r.bad_ids = ids;
    r.bad_ends = ends;
    r.n_bad = 3;
    run(s, &r, &g);
    assert_int_equal(g.n[0], 90);
    assert_int_equal(g.ids[0][0], free_.ids[0][0]);
    assert_int_not_equal(g.ids[0][1], free_.ids[0][1]);
    for (uint32_t i = 0; i < 90; i++) {
        assert_int_not_equal(g.ids[0][i], ids[0]);
        assert_false(i >= 1 && memcmp(g.ids[0] + i - 1, ids + 1, 2 * sizeof *ids) == 0);
        assert_false(i >= 2 && memcmp(g.ids[0] + i - 2, ids + 3, 3 * sizeof *ids) == 0);
    }
    r.speculate = SERVICE_SPEC_LOOKUP;
    r.n_choices = 3;
    for (int i = 0; i < 3; i++)
        (void)submit(s, &r, &others[i]);
    for (int i = 0; i < 3; i++) {
        got_wait(&others[i]);
        for (int k = 0; k < 3; k++)
            assert_memory_equal(others[i].ids[k], g.ids[0], 90 * sizeof *ids);
    }
    /* what is forbidden isn't brought back by what else is asked */
    r.n_choices = 1;
    r.max_tokens = 5;
    r.allowed = (const uint64_t[5]){ [4] = UINT64_C(3) << 50 };     /* 306 and 307 */
    r.n_bad = 2;
    ids[0] = 306;
    ids[1] = ids[2] = 307;
    run(s, &r, &again);
    assert_int_equal(again.finish[0], SERVICE_ERROR);
    assert_int_equal(again.error.code, WATT_ENOTSUP);
    assert_int_equal(again.n[0], 1);
    assert_int_equal(again.ids[0][0], 307);
    r.bad_ends = ends + 2;                              /* an empty one */
    assert_int_equal(refused(s, &r), SERVICE_REFUSED_INVALID);
    r.bad_ends = ends;
    ids[0] = 320;
    assert_int_equal(refused(s, &r), SERVICE_REFUSED_INVALID);
    service_close(s);
}

/* ---- limits ---- */

/* A step that waits until it may go on: whoever is asked meanwhile finds the service at work. */
struct gate { pthread_mutex_t mu; };

static void pass_gate(void *ctx, const struct service_share *shares, uint32_t n, uint64_t start_ns,
                      uint64_t end_ns)
{
    struct gate *g = ctx;

    (void)shares, (void)n, (void)start_ns, (void)end_ns;
    (void)pthread_mutex_lock(&g->mu);
    (void)pthread_mutex_unlock(&g->mu);
}

static void refusals_say_why(void **state)
{
    struct gate gate = { PTHREAD_MUTEX_INITIALIZER };
    struct service *s = open_service(model, tok, (struct service_opts){
        .n_ctx = 256, .max_seqs = 1, .max_queued = 2, .kv_bytes = 1 << 20, .on_step = pass_gate,
        .on_step_ctx = &gate });
    struct service_request r = ask();
    struct service_stats st;
    struct got g[3], last;

    (void)state;
    r.n_tokens = 300;
    assert_int_equal(refused(s, &r), SERVICE_REFUSED_CONTEXT);
    r.n_tokens = 200;
    r.max_tokens = 57;
    assert_int_equal(refused(s, &r), SERVICE_REFUSED_CONTEXT);
    r.n_stop_ids = SERVICE_MAX_STOP_IDS + 1;
    assert_int_equal(refused(s, &r), SERVICE_REFUSED_INVALID);
    r = ask();
    r.sampling.top_p = 2;
    assert_int_equal(refused(s, &r), SERVICE_REFUSED_INVALID);
    r = ask();
    r.n_choices = 4;
    assert_int_equal(refused(s, &r), SERVICE_REFUSED_MEMORY);
    r = ask();
    r.max_tokens = 60;
    (void)pthread_mutex_lock(&gate.mu);
    for (int i = 0; i < 3; i++)
        (void)submit(s, &r, &g[i]);
    assert_int_equal(refused(s, &r), SERVICE_REFUSED_QUEUE);
    (void)pthread_mutex_unlock(&gate.mu);
    for (int i = 0; i < 3; i++)
        got_wait(&g[i]);
    r.max_tokens = 1000;
    r.clip_max = true;
    r.n_tokens = 230;
    run(s, &r, &last);
    assert_int_equal(last.n[0], 26);
    assert_int_equal(last.finish[0], SERVICE_LENGTH);
    service_stats(s, &st);
    assert_true(st.n_refused >= 2);
    assert_true(service_drain(s, UINT64_C(10000000000)));
    assert_int_equal(refused(s, &r), SERVICE_REFUSED_CLOSING);
    service_close(s);
}

static void deadlines_and_cancels(void **state)
{
    struct service *s = plain();
    struct service_request r = ask();
    struct got g;
    uint64_t id;

    (void)state;
    r.deadline_ns = 1;
    run(s, &r, &g);
    assert_int_equal(g.finish[0], SERVICE_DEADLINE);
    r.deadline_ns = 0;
    r.max_tokens = 90;
    id = submit(s, &r, &g);
    service_cancel(s, id, SERVICE_ALL);
    service_cancel(s, id + 1000, SERVICE_ALL);
    got_wait(&g);
    assert_true(g.finish[0] == SERVICE_CANCELLED || g.n[0] == 90);
    (void)submit(s, &r, &g);
    service_close(s);               /* ends what runs */
    assert_true(g.over);
}

static void allocation_failures(void **state)
{
    bool opened = false;

    (void)state;
#ifdef WATT_FAULTS
    for (unsigned long n = 1; !opened && n < 3000; n++) {
        const struct service_opts o = { .n_ctx = 128, .max_seqs = 2, .max_queued = 4,
                                        .session.n_threads = 1 };
        struct service *s = NULL;
        struct err e = { 0 };
        int rc;

        (void)fault_arm(FAULT_ALLOC, n);
        rc = service_open(&s, model, tok, &o, &e);
        (void)fault_arm(FAULT_ALLOC, 0);
        opened = rc == 0;
        if (rc < 0)
            assert_int_equal(rc, WATT_ENOMEM);
        else
            service_close(s);
    }
    assert_true(opened);
    opened = false;
    for (unsigned long n = 1; !opened && n < 300; n++) {
        struct service *s = open_service(model, tok, (struct service_opts){ .n_ctx = 128,
                                                                            .max_seqs = 2 });
        struct service_request r = ask();
        struct service_ticket t;
        struct err e = { 0 };
        struct got g;
        int rc;

        got_init(&g);
        r.on_event = on_event;
        r.ctx = &g;
        r.n_choices = 2;
        r.logprobs = true;
        r.n_top = 2;
        (void)fault_arm(FAULT_ALLOC, n);
        rc = service_submit(s, &r, &t, &e);
        if (rc == 0)
            got_wait(&g);
        (void)fault_arm(FAULT_ALLOC, 0);
        opened = rc == 0 && g.finish[0] == SERVICE_LENGTH && g.finish[1] == SERVICE_LENGTH;
        if (rc < 0)
            assert_int_equal(t.refusal, SERVICE_REFUSED_NOMEM);
        got_init(&g);
        rc = service_submit(s, &r, &t, &e);     /* and the next one is served */
        assert_int_equal(rc, 0);
        got_wait(&g);
        assert_int_equal(g.finish[1], SERVICE_LENGTH);
        service_close(s);
    }
    assert_true(opened);
#endif
    (void)opened;
}

/* ---- watching ---- */

struct seen { double answers, tokens; unsigned n; };

static void see(void *ctx, const struct metric_view *v)
{
    struct seen *x = ctx;

    x->n++;
    if (strcmp(v->name, "watt_answers_total") == 0)
        x->answers += v->value;
    if (strcmp(v->name, "watt_generated_tokens_total") == 0)
        x->tokens += v->value;
}

static void count_rows(void *ctx, const struct service_share *shares, uint32_t n, uint64_t start_ns,
                       uint64_t end_ns)
{
    uint64_t *rows = ctx;

    assert_true(end_ns >= start_ns);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(shares[i].account, 77);
        rows[0] += shares[i].n_prompt_rows;
        rows[1] += shares[i].n_answer_rows;
    }
}

static void watchers_see_everything(void **state)
{
    uint64_t rows[2] = { 0 };
    struct metrics *metrics;
    struct seen seen = { 0 };
    struct service_slot slot;
    struct service_stats st;
    struct session_memory mem, plan;
    struct service_opts o = { .n_ctx = 256, .max_seqs = 4, .on_step = count_rows,
                              .on_step_ctx = rows };
    struct service_request r = ask();
    struct service *s;
    struct got g;

    (void)state;
    assert_int_equal(metrics_open(&metrics, NULL), 0);
    o.metrics = metrics;
    s = open_service(model, tok, o);
    r.account = 77;
    r.speculate = SERVICE_SPEC_OFF;
    run(s, &r, &g);
    assert_true(service_drain(s, UINT64_C(10000000000)));
    metrics_walk(metrics, see, &seen);
    assert_true(seen.answers == 1 && seen.tokens == 12);
    assert_int_equal(rows[0], 60);
    assert_int_equal(rows[1], 11);
    service_stats(s, &st);
    assert_int_equal(st.n_requests, 1);
    assert_true(service_list(s, &slot, 1) <= 1);
    service_memory(s, &mem);
    o.session.n_threads = 1;
    assert_int_equal(service_plan(model, &o, &plan, NULL), 0);
    assert_int_equal(mem.total, plan.total);
    service_close(s);
    metrics_close(metrics);
}

/* ---- the end ---- */

struct crowd {
    struct service *svc;
    atomic_uint n_accepted, n_over, n_refused;
};

static void count_over(void *ctx, const struct service_event *ev)
{
    if (ev->last)
        (void)atomic_fetch_add(&((struct crowd *)ctx)->n_over, 1);
}

static void *keep_asking(void *arg)
{
    struct crowd *c = arg;

    for (bool open = true; open;) {
        struct service_request r = ask();
        struct service_ticket t;
        struct err e = { 0 };

        r.on_event = count_over;
        r.ctx = c;
        if (service_submit(c->svc, &r, &t, &e) == 0) {
            (void)atomic_fetch_add(&c->n_accepted, 1);
            continue;
        }
        open = t.refusal == SERVICE_REFUSED_QUEUE;
        if (!open)
            assert_int_equal(t.refusal, SERVICE_REFUSED_CLOSING);
        (void)atomic_fetch_add(&c->n_refused, 1);
        (void)usleep(100);
    }
    return NULL;
}

/* A service that stops answers all it took and refuses the rest, however many are at its door. */
static void stops_beside_those_who_ask(void **state)
{
    (void)state;
    for (int round = 0; round < 8; round++) {
        struct crowd c = { .svc = open_service(model, tok, (struct service_opts){
                               .n_ctx = 128, .max_seqs = 4, .max_queued = 50 }) };
        struct service_stats st;
        pthread_t t[3];

        for (int i = 0; i < 3; i++)
            assert_int_equal(pthread_create(&t[i], NULL, keep_asking, &c), 0);
        (void)usleep(1000u << round % 4);
        service_stop(c.svc);
        for (int i = 0; i < 3; i++)
            assert_int_equal(pthread_join(t[i], NULL), 0);
        assert_int_equal(atomic_load(&c.n_accepted), atomic_load(&c.n_over));
        assert_true(atomic_load(&c.n_refused) >= 3);
        service_stats(c.svc, &st);      /* whoever looks may still look */
        service_close(c.svc);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stops_beside_those_who_ask),
        cmocka_unit_test(choices_share_a_prompt),
        cmocka_unit_test(stops_end_answers),
        cmocka_unit_test(log_probabilities),
        cmocka_unit_test(cached_tokens_are_reported),
        cmocka_unit_test(masks_are_obeyed),
        cmocka_unit_test(bad_words_never_come),
        cmocka_unit_test(refusals_say_why),
        cmocka_unit_test(deadlines_and_cancels),
        cmocka_unit_test(allocation_failures),
        cmocka_unit_test(watchers_see_everything),
    };

    return cmocka_run_group_tests(tests, open_model, close_model);
}
