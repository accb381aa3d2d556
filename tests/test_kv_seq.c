/* test_kv_seq.c: sequences over pages and slots: whatever is forked, marked, cut and written in
 * whatever order, each sequence reads what a lone one would, and nothing is lost from the pool;
 * the same of sessions of a hybrid model, by the bits of its logits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infrastructure/kv_seq.h"
#include "models/session.h"
#include "tiny_gguf.h"

/* ---- the pool alone ---- */

#define SEQS 5u
#define MARKS 2u
#define PAGE 4u             /* positions */
#define LEN 40u
#define PAGES (LEN / PAGE)

/* A page holds the tokens themselves, a slot one number that depends on all of them in order. */
struct pool {
    struct kv *kv;
    struct kv_seq seq[SEQS];
    uint32_t pages[SEQS][PAGES];
    struct kv_mark marks[SEQS][MARKS];
    /* what each should hold */
    uint32_t token[SEQS][LEN], len[SEQS];
    uint32_t marked[SEQS][MARKS], n_marked[SEQS];
    bool paged, fixed;
};

static float digest(const uint32_t *token, uint32_t n)
{
    uint32_t h = 0;

    for (uint32_t i = 0; i < n; i++)
        h = (h * 31 + token[i] + 1) & 0xFFFFFF;
    return (float)h;
}

static uint32_t *page_at(const struct pool *p, const struct kv_seq *q, uint32_t pos)
{
    return (uint32_t *)(void *)((uint8_t *)kv_pages(p->kv) +
                                (size_t)q->pages[pos / PAGE] * kv_page_bytes(p->kv)) + pos % PAGE;
}

static void pool_open(struct pool *p, bool paged, bool fixed)
{
    const struct kv_spec spec = { .page_bytes = paged ? 64 : 0, .page_tokens = PAGE,
                                  .n_pages = paged ? SEQS * PAGES : 0,
                                  .slot_floats = fixed ? 3 : 0,
                                  .n_slots = fixed ? SEQS * (1 + MARKS) : 0 };
    struct err e = { 0 };

    *p = (struct pool){ .paged = paged, .fixed = fixed };
    if (kv_open(&p->kv, &spec, &e) < 0)
        fail_msg("%s", e.msg);
    for (uint32_t s = 0; s < SEQS; s++)
        kv_seq_init(&p->seq[s], p->pages[s], p->marks[s], MARKS);
}

static void pool_append(struct pool *p, uint32_t s, uint32_t n, struct rng *rng)
{
    struct kv_seq *q = &p->seq[s];

    if (n > LEN - p->len[s])
        n = LEN - p->len[s];
    if (n == 0)
        return;
    assert_true(kv_seq_reserve(p->kv, q, n));
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t t = rng_below(rng, 1000), pos = p->len[s];

        p->token[s][p->len[s]++] = t;
        if (p->paged)
            *page_at(p, q, pos) = t;
        if (p->fixed) {
            float *f = kv_slot(p->kv, q->slot);

            assert_true(f[0] == digest(p->token[s], pos));
            f[0] = f[2] = digest(p->token[s], pos + 1);
        }
    }
    kv_seq_advance(q, n);
}

static void shadow_cut(struct pool *p, uint32_t s, uint32_t n)
{
    p->len[s] = n;
    while (p->n_marked[s] > 0 && p->marked[s][p->n_marked[s] - 1] > n)
        p->n_marked[s]--;
}

static uint32_t shadow_reach(const struct pool *p, uint32_t s, uint32_t n)
{
    uint32_t best = 0;

    if (n >= p->len[s] || !p->fixed)
        return n >= p->len[s] ? p->len[s] : n;
    for (uint32_t i = 0; i < p->n_marked[s]; i++)
        if (p->marked[s][i] <= n)
            best = p->marked[s][i];
    return best;
}

static void pool_truncate(struct pool *p, uint32_t s, uint32_t n)
{
    const uint32_t reach = shadow_reach(p, s, n);

    assert_int_equal(kv_seq_reach(p->kv, &p->seq[s], n), reach);
    if (reach != n)
        assert_false(kv_seq_truncate(p->kv, &p->seq[s], n));
    assert_true(kv_seq_truncate(p->kv, &p->seq[s], reach));
    shadow_cut(p, s, reach);
}

static void pool_mark(struct pool *p, uint32_t s)
{
    const uint32_t len = p->len[s];

    kv_seq_mark(p->kv, &p->seq[s]);
    if (!p->fixed || len == 0 || (p->n_marked[s] && p->marked[s][p->n_marked[s] - 1] == len))
        return;
    if (p->n_marked[s] == MARKS)
        memmove(p->marked[s], p->marked[s] + 1, --p->n_marked[s] * sizeof **p->marked);
    p->marked[s][p->n_marked[s]++] = len;
}

static void pool_fork(struct pool *p, uint32_t from, uint32_t to, uint32_t n)
{
    const uint32_t reach = shadow_reach(p, from, n);

    if (reach != n)
        assert_false(kv_seq_fork(p->kv, &p->seq[to], &p->seq[from], n));
    assert_true(kv_seq_fork(p->kv, &p->seq[to], &p->seq[from], reach));
    memcpy(p->token[to], p->token[from], sizeof p->token[to]);
    memcpy(p->marked[to], p->marked[from], sizeof p->marked[to]);
    p->n_marked[to] = p->n_marked[from];
    shadow_cut(p, to, reach);
}

static void pool_check(const struct pool *p)
{
    for (uint32_t s = 0; s < SEQS; s++) {
        assert_int_equal(p->seq[s].len, p->len[s]);
        assert_int_equal(p->seq[s].n_marks, p->n_marked[s]);
        for (uint32_t i = 0; p->paged && i < p->len[s]; i++)
            assert_int_equal(*page_at(p, &p->seq[s], i), p->token[s][i]);
        if (p->fixed && p->len[s] > 0)
            assert_true(kv_slot(p->kv, p->seq[s].slot)[2] == digest(p->token[s], p->len[s]));
        for (uint32_t i = 0; i < p->n_marked[s]; i++)
            assert_true(kv_slot(p->kv, p->seq[s].marks[i].slot)[0] ==
                        digest(p->token[s], p->marked[s][i]));
    }
}

static void pool_play(bool paged, bool fixed)
{
    struct pool p;
    struct rng rng;

    pool_open(&p, paged, fixed);
    rng_init(&rng, 21);
    for (int step = 0; step < 4000; step++) {
        const uint32_t s = rng_below(&rng, SEQS), t = (s + 1 + rng_below(&rng, SEQS - 1)) % SEQS;

        switch (rng_below(&rng, 8)) {
        case 0:  pool_truncate(&p, s, rng_below(&rng, p.len[s] + 1)); break;
        case 1:  pool_mark(&p, s); break;
        case 2:  pool_fork(&p, s, t, p.len[s]); break;
        case 3:  pool_fork(&p, s, t, rng_below(&rng, p.len[s] + 1)); break;
        default: pool_append(&p, s, 1 + rng_below(&rng, 7), &rng);
        }
        pool_check(&p);
    }
    for (uint32_t s = 0; s < SEQS; s++)
        kv_seq_reset(p.kv, &p.seq[s]);
    assert_int_equal(kv_n_free(p.kv), kv_n_pages(p.kv));
    assert_int_equal(kv_n_free_slots(p.kv), kv_n_slots(p.kv));
    kv_close(p.kv);
}

static void test_random_play(void **state)
{
    (void)state;
    pool_play(true, false);
    pool_play(false, true);
    pool_play(true, true);
}

/* A pool that is too small refuses before anything is taken. */
static void test_pool_is_short(void **state)
{
    struct kv_spec spec = { .page_bytes = 64, .page_tokens = PAGE, .n_pages = 3, .slot_floats = 1,
                            .n_slots = 1 };
    struct kv *kv = NULL;
    struct err e = { 0 };
    uint32_t pages[2][8];
    struct kv_mark mark[1];
    struct kv_seq a, b;

    (void)state;
    assert_int_equal(kv_open(&kv, &spec, &e), 0);
    kv_seq_init(&a, pages[0], mark, 1);
    kv_seq_init(&b, pages[1], NULL, 0);
    assert_int_equal(kv_seq_need(kv, &a, 13).pages, 4);
    assert_false(kv_seq_reserve(kv, &a, 13));
    assert_int_equal(kv_n_free(kv), 3);
    assert_true(kv_seq_reserve(kv, &a, 6));
    kv_seq_advance(&a, 6);
    assert_false(kv_seq_reserve(kv, &b, 1));        /* no slot */
    assert_true(kv_seq_fork(kv, &b, &a, 6));
    assert_int_equal(kv_n_free(kv), 1);
    assert_int_equal(kv_seq_need(kv, &b, 1).pages, 1);
    assert_int_equal(kv_seq_need(kv, &b, 1).slots, 1);
    assert_false(kv_seq_reserve(kv, &b, 1));        /* a copy of the slot is wanted */
    kv_seq_reset(kv, &a);
    assert_int_equal(kv_seq_need(kv, &b, 1).pages, 0);
    assert_true(kv_seq_reserve(kv, &b, 1));
    kv_seq_reset(kv, &b);
    assert_int_equal(kv_n_free(kv), 3);
    kv_close(kv);
    spec.page_bytes = 60;
    assert_int_equal(kv_open(&kv, &spec, &e), WATT_EINVAL);
}

/* ---- sessions of a hybrid model ---- */

#define N_VOCAB 96u
#define N_CTX 200u
#define N_SEQS 3u

static void append(struct session *s, uint32_t seq, const int32_t *ids, uint32_t n, float *out)
{
    struct err e = { 0 };

    if (session_append(s, seq, ids, n, out, &e) < 0)
        fail_msg("%s", e.msg);
}

/* Logits of ids from nothing, at once. */
static void fresh(struct session *s, const int32_t *ids, uint32_t n, float *out)
{
    session_reset(s, 0);
    append(s, 0, ids, n, out);
}

static void play(enum session_exec exec, int steps)
{
    struct model *m = tiny_hybrid();
    const struct session_opts o = { .exec = exec, .n_threads = 2, .n_ctx = N_CTX, .n_seqs = N_SEQS,
                                    .n_marks = MARKS, .max_rows = 32 };
    static int32_t ids[N_SEQS][N_CTX];
    float got[N_VOCAB], want[N_VOCAB];
    struct session *s = NULL, *lone = NULL;
    struct err e = { 0 };
    struct rng rng;

    rng_init(&rng, 4);
    if (session_open(&s, m, &o, &e) < 0 || session_open(&lone, m, &o, &e) < 0)
        fail_msg("%s", e.msg);
    for (int step = 0; step < steps; step++) {
        const uint32_t q = rng_below(&rng, N_SEQS), t = (q + 1 + rng_below(&rng, 2)) % N_SEQS;
        const uint32_t len = session_len(s, q), n = 1 + rng_below(&rng, 30);

        switch (rng_below(&rng, 6)) {
        case 0:
            assert_int_equal(session_truncate(s, q, session_reach(s, q, len / 2), &e), 0);
            break;
        case 1:
            session_mark(s, q);
            break;
        case 2:
            assert_int_equal(session_fork(s, q, t, &e), 0);
            memcpy(ids[t], ids[q], sizeof ids[t]);
            break;
        default:
            if (n > N_CTX - len) {
                session_reset(s, q);
                break;
            }
            for (uint32_t i = 0; i < n; i++)
                ids[q][len + i] = (int32_t)rng_below(&rng, N_VOCAB);
            append(s, q, ids[q] + len, n, got);
            fresh(lone, ids[q], len + n, want);
            assert_memory_equal(got, want, sizeof got);
        }
    }
    session_close(s);
    session_close(lone);
    model_close(m);
}

static void test_hybrid_reference(void **state)
{
    (void)state;
    play(SESSION_EXEC_REF, 60);
}

static void test_hybrid_fast(void **state)
{
    (void)state;
    play(SESSION_EXEC_CPU, 400);
}

/* Without a mark a recurrence can't go back; with one it can, and the numbers say what it costs. */
static void test_marks(void **state)
{
    struct model *m = tiny_hybrid();
    struct session_opts o = { .n_threads = 1, .n_ctx = N_CTX, .n_marks = 1 };
    struct session_memory with, without;
    struct session *s = NULL;
    float got[N_VOCAB], want[N_VOCAB];
    int32_t ids[20];
    struct err e = { 0 };

    (void)state;
    for (int i = 0; i < 20; i++)
        ids[i] = i * 3;
    assert_int_equal(session_open(&s, m, &o, &e), 0);
    session_memory(s, &with);
    append(s, 0, ids, 10, got);
    session_mark(s, 0);
    append(s, 0, ids + 10, 5, want);
    assert_int_equal(session_truncate(s, 0, 12, &e), WATT_ENOTSUP);
    assert_int_equal(session_len(s, 0), 15);
    assert_int_equal(session_reach(s, 0, 12), 10);
    for (int again = 0; again < 3; again++) {
        assert_int_equal(session_truncate(s, 0, 10, &e), 0);
        append(s, 0, ids + 10, 5, got);
        assert_memory_equal(got, want, sizeof got);
    }
    session_close(s);
    o.n_marks = 0;
    assert_int_equal(session_plan(m, &o, &without, &e), 0);
    assert_int_equal(with.fixed, 2 * without.fixed);
    assert_int_equal(without.fixed, without.fixed_seq);
    /* 4 heads of 16 x 16, and three rows of 128 columns in front of the convolution */
    assert_int_equal(without.fixed_seq, (4 * 16 * 16 + 3 * 128) * 4);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_play),
        cmocka_unit_test(test_pool_is_short),
        cmocka_unit_test(test_hybrid_reference),
        cmocka_unit_test(test_hybrid_fast),
        cmocka_unit_test(test_marks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
