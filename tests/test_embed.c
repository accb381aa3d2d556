/* test_embed.c: embeddings and scores: pooling against rows taken one by one, company, limits,
 * pairs, and the command. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/json.h"
#include "models/embed.h"
#include "models/embed_pair.h"
#include "spawn.h"
#include "tiny_bert.h"
#include "watt.h"

enum { EMBD = TINY_BERT_EMBD };

static char folder[] = "watt-embed-XXXXXX";
static char plain[64], headed[64];

static int make(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(plain, sizeof plain, "%s/plain.gguf", folder);
    (void)snprintf(headed, sizeof headed, "%s/head.gguf", folder);
    tiny_bert_write(plain, &(struct tiny_bert){ .pooling = 1 });
    tiny_bert_write(headed, &(struct tiny_bert){ .head = true });
    return 0;
}

static int clear(void **state)
{
    (void)state;
    (void)unlink(plain);
    (void)unlink(headed);
    return rmdir(folder);
}

static struct embedder *open_with(const char *path, struct embedder_opts o)
{
    struct embedder *x = NULL;
    struct err e = { 0 };

    o.session.n_threads = 2;
    if (embedder_open(&x, path, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return x;
}

/* ---- results in a list ---- */

enum { MAX_TEXTS = 40, MAX_ROWS = 64 };

struct results {
    size_t   n, stop_at;        /* stop_at 0: never */
    uint32_t n_rows[MAX_TEXTS], n_tokens[MAX_TEXTS];
    float    rows[MAX_TEXTS][MAX_ROWS * EMBD];
    uint32_t width;
};
static struct results a, b;

static int take(void *ctx, const struct embedded *r)
{
    struct results *t = ctx;

    assert_int_equal(r->index, t->n);
    assert_true(t->n < MAX_TEXTS && r->n_rows <= MAX_ROWS);
    t->n_rows[t->n] = r->n_rows;
    t->n_tokens[t->n] = r->n_tokens;
    memcpy(t->rows[t->n++], r->rows, (size_t)r->n_rows * t->width * sizeof(float));
    return t->n == t->stop_at;
}

static int run(struct embedder *x, const char *const *texts, size_t n, struct results *to,
               struct err *e)
{
    struct embed_input in[MAX_TEXTS] = { 0 };

    for (size_t i = 0; i < n; i++)
        in[i].text = sv_cstr(texts[i]);
    to->n = 0;
    to->width = embedder_width(x);
    return embedder_run(x, in, n, take, to, e);
}

static void run_ok(struct embedder *x, const char *const *texts, size_t n, struct results *to)
{
    struct err e = { 0 };

    if (run(x, texts, n, to, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(to->n, n);
}

static const char *const texts[] = { "abc", "the end .", "q", "hello hello world", "x.y", "zz zz zz" };
#define N_TEXTS (sizeof texts / sizeof *texts)

static void near(const float *got, const float *want, uint32_t n, double limit)
{
    for (uint32_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= limit))
            fail_msg("number %u: %.9g, expected %.9g", i, (double)got[i], (double)want[i]);
}

/* The vector of a text from its rows, by hand. */
static void pool(enum pooling p, const float *rows, uint32_t n, bool raw, float *out)
{
    double v[EMBD] = { 0 }, length = 0;

    for (uint32_t c = 0; c < EMBD; c++) {
        if (p == POOLING_CLS)
            v[c] = rows[c];
        else if (p == POOLING_LAST)
            v[c] = rows[(size_t)(n - 1) * EMBD + c];
        for (uint32_t r = 0; p == POOLING_MEAN && r < n; r++)
            v[c] += (double)rows[(size_t)r * EMBD + c] / n;
        length += v[c] * v[c];
    }
    for (uint32_t c = 0; c < EMBD; c++)
        out[c] = (float)(raw ? v[c] : v[c] / sqrt(length));
}

static void test_pooling(void **state)
{
    struct embedder *rows = open_with(plain, (struct embedder_opts){ .pooling = POOLING_NONE,
                                                                     .raw = true });
    (void)state;
    run_ok(rows, texts, N_TEXTS, &a);
    for (enum pooling p = POOLING_MEAN; p <= POOLING_LAST; p++)
        for (int raw = 0; raw < 2; raw++) {
            struct embedder *x = open_with(plain, (struct embedder_opts){ .pooling = p,
                                                                          .raw = raw });
            assert_int_equal(embedder_pooling(x), p);
            run_ok(x, texts, N_TEXTS, &b);
            for (size_t i = 0; i < N_TEXTS; i++) {
                float want[EMBD];

                assert_int_equal(b.n_rows[i], 1);
                assert_int_equal(b.n_tokens[i], a.n_rows[i]);
                pool(p, a.rows[i], a.n_rows[i], raw, want);
                near(b.rows[i], want, EMBD, 2e-6);
            }
            embedder_close(x);
        }
    embedder_close(rows);
}

/* What the file says, else what its kind of model is used with. */
static void test_defaults(void **state)
{
    struct embedder *x = open_with(plain, (struct embedder_opts){ 0 });

    (void)state;
    assert_int_equal(embedder_pooling(x), POOLING_MEAN);
    assert_int_equal(embedder_max_tokens(x), TINY_BERT_CTX);
    assert_int_equal(embedder_width(x), EMBD);
    embedder_close(x);
    x = open_with(headed, (struct embedder_opts){ 0 });
    assert_int_equal(embedder_pooling(x), POOLING_MEAN);
    embedder_close(x);
}

/* Any number of texts to a step, the same bits. */
static void test_company(void **state)
{
    const char *many[MAX_TEXTS];

    (void)state;
    for (size_t i = 0; i < MAX_TEXTS; i++)
        many[i] = texts[i % N_TEXTS];
    for (enum pooling p = POOLING_NONE; p <= POOLING_LAST; p++) {
        struct embedder *x = open_with(plain, (struct embedder_opts){ .pooling = p, .n_texts = 1 });

        run_ok(x, many, MAX_TEXTS, &a);
        embedder_close(x);
        for (uint32_t n = 2; n <= 64; n *= 4) {
            x = open_with(plain, (struct embedder_opts){ .pooling = p, .n_texts = n });
            run_ok(x, many, MAX_TEXTS, &b);
            assert_memory_equal(a.n_rows, b.n_rows, sizeof a.n_rows);
            for (size_t i = 0; i < MAX_TEXTS; i++)
                assert_memory_equal(a.rows[i], b.rows[i], a.n_rows[i] * EMBD * sizeof(float));
            embedder_close(x);
        }
    }
}

static void test_dimensions(void **state)
{
    struct embedder *full = open_with(plain, (struct embedder_opts){ .raw = true });
    struct embedder *cut = open_with(plain, (struct embedder_opts){ .n_dims = 5 });
    const struct embedder_opts more = { .n_dims = EMBD + 1 };
    struct embedder *x = NULL;
    struct err e = { 0 };

    (void)state;
    run_ok(full, texts, N_TEXTS, &a);
    run_ok(cut, texts, N_TEXTS, &b);
    assert_int_equal(embedder_width(cut), 5);
    for (size_t i = 0; i < N_TEXTS; i++) {
        double length = 0, dot = 0;

        for (int c = 0; c < 5; c++) {
            length += (double)a.rows[i][c] * a.rows[i][c];
            dot += (double)a.rows[i][c] * b.rows[i][c];
        }
        assert_true(fabs(dot / sqrt(length) - 1) < 1e-6);
    }
    assert_int_equal(embedder_open(&x, plain, &more, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "17 dimensions asked for, its embeddings have 16"));
    embedder_close(full);
    embedder_close(cut);
}

/* 38 letters and the two ends are as many as the model takes. */
static void test_long_texts(void **state)
{
    char text[100];
    const char *list[] = { "abc", text };
    struct embedder *x = open_with(plain, (struct embedder_opts){ 0 });
    struct embedder *cut = open_with(plain, (struct embedder_opts){ .truncate = true });
    struct err e = { 0 };

    (void)state;
    memset(text, 'a', sizeof text);
    text[38] = '\0';
    run_ok(x, list, 2, &a);
    assert_int_equal(a.n_tokens[1], TINY_BERT_CTX);
    text[38] = 'a';
    text[41] = '\0';
    assert_int_equal(run(x, list, 2, &b, &e), WATT_ELIMIT);
    assert_non_null(strstr(e.msg, "text 2: 43 tokens, at most 40"));
    run_ok(cut, list, 2, &b);       /* [SEP] stays at the end */
    assert_int_equal(b.n_tokens[1], TINY_BERT_CTX);
    assert_memory_equal(a.rows[1], b.rows[1], EMBD * sizeof(float));
    embedder_close(x);
    embedder_close(cut);
}

static void test_ids(void **state)
{
    static const int32_t ids[] = { TINY_CLS, TINY_FIRST_LETTER, TINY_FIRST_LETTER + 27, TINY_SEP };
    static const int32_t bad[] = { TINY_BERT_VOCAB };
    struct embedder *x = open_with(plain, (struct embedder_opts){ 0 });
    const char *text = "ab";
    struct embed_input in = { .ids = ids, .n_ids = 4 };
    struct err e = { 0 };

    (void)state;
    run_ok(x, &text, 1, &a);
    b.n = 0;
    b.width = EMBD;
    assert_int_equal(embedder_run(x, &in, 1, take, &b, &e), 0);
    assert_memory_equal(a.rows[0], b.rows[0], EMBD * sizeof(float));
    in.ids = bad;
    in.n_ids = 1;
    assert_int_equal(embedder_run(x, &in, 1, take, &b, &e), WATT_EINVAL);
    in.n_ids = 0;
    assert_int_equal(embedder_run(x, &in, 1, take, &b, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "text 1: no tokens"));
    /* after errors it goes on */
    run_ok(x, &text, 1, &b);
    assert_memory_equal(a.rows[0], b.rows[0], EMBD * sizeof(float));
    embedder_close(x);
}

static void test_stop(void **state)
{
    struct embedder *x = open_with(plain, (struct embedder_opts){ .n_texts = 2 });
    struct err e = { 0 };

    (void)state;
    a.stop_at = 3;
    assert_int_equal(run(x, texts, N_TEXTS, &a, &e), WATT_ECANCEL);
    assert_int_equal(a.n, 3);
    a.stop_at = 0;
    embedder_close(x);
}

/* ---- pairs ---- */

static struct tokens pair_of(const struct embedder *x, const char *query, const char *doc,
                             uint32_t max, bool truncate, size_t *second)
{
    const struct pair_request q = { sv_cstr(query), max, truncate };
    struct tokens out = { 0 };
    struct pair_style s;
    struct err e = { 0 };

    assert_int_equal(pair_style_read(&s, embedder_model(x), embedder_tokenizer(x), &e), 0);
    if (pair_encode(&s, embedder_tokenizer(x), NULL, &q, sv_cstr(doc), &out, second, &e) < 0)
        fail_msg("%s", e.msg);
    return out;
}

static void expect_ids(struct tokens *t, const int32_t *ids, size_t n)
{
    assert_int_equal(t->n, n);
    assert_memory_equal(t->ids, ids, n * sizeof *ids);
    tokens_deinit(t);
}

#define LETTER(c) (TINY_FIRST_LETTER + (c) - 'a')
#define INNER(c)  (TINY_FIRST_LETTER + 26 + (c) - 'a')

static void test_pairs(void **state)
{
    const int32_t whole[] = { TINY_CLS, LETTER('a'), INNER('b'), TINY_SEP, LETTER('c'), INNER('d'),
                              INNER('e'), TINY_SEP };
    const int32_t cut[] = { TINY_CLS, LETTER('a'), INNER('b'), TINY_SEP, LETTER('c'), TINY_SEP };
    struct embedder *x = open_with(headed, (struct embedder_opts){ .pooling = POOLING_RANK });
    size_t second = 0;
    struct tokens t = pair_of(x, "ab", "cde", 40, false, &second);

    (void)state;
    assert_int_equal(second, 4);
    expect_ids(&t, whole, 8);
    t = pair_of(x, "ab", "cde", 6, true, &second);
    expect_ids(&t, cut, 6);
    embedder_close(x);
}

static void test_template(void **state)
{
    const int32_t want[] = { TINY_CLS, LETTER('q'), LETTER('a'), TINY_SEP, LETTER('d'), LETTER('b'),
                             TINY_MASK };
    const struct tiny_bert good = { .head = true, .rerank = "q {query} [SEP] d {document} [MASK]" };
    const struct tiny_bert bad = { .head = true, .rerank = "{document} {query}" };
    const struct embedder_opts o = { .pooling = POOLING_RANK };
    struct embedder *x;
    char path[64];
    struct err e = { 0 };
    size_t second = 0;
    struct tokens t;

    (void)state;
    (void)snprintf(path, sizeof path, "%s/t.gguf", folder);
    tiny_bert_write(path, &good);
    x = open_with(path, o);
    t = pair_of(x, "a", "b", 40, false, &second);
    expect_ids(&t, want, 7);
    embedder_close(x);
    tiny_bert_write(path, &bad);
    assert_int_equal(embedder_open(&x, path, &o, &e), WATT_EFORMAT);
    assert_non_null(strstr(e.msg, "rerank has no {query} followed by {document}"));
    (void)unlink(path);
}

/* ---- scores ---- */

/* tanh(cls x + bias) on the first row, then cls.output: from the file's own numbers. */
static double score_by_hand(const struct gguf *g, const float *row)
{
    const float *w = gguf_find_tensor(g, "cls.weight")->t.data;
    const float *bias = gguf_find_tensor(g, "cls.bias")->t.data;
    const float *out = gguf_find_tensor(g, "cls.output.weight")->t.data;
    double sum = ((const float *)gguf_find_tensor(g, "cls.output.bias")->t.data)[0];

    for (int r = 0; r < EMBD; r++) {
        double h = bias[r];

        for (int c = 0; c < EMBD; c++)
            h += (double)w[r * EMBD + c] * row[c];
        sum += out[r] * tanh(h);
    }
    return sum;
}

static void test_rank(void **state)
{
    static const char *const docs[] = { "cde", "the end .", "a" };
    struct embedder *x = open_with(headed, (struct embedder_opts){ .pooling = POOLING_RANK });
    struct embedder *rows = open_with(headed, (struct embedder_opts){ .pooling = POOLING_NONE,
                                                                      .raw = true });
    struct sv list[3];
    float scores[3];
    uint64_t n_tokens = 0;
    struct err e = { 0 };

    (void)state;
    for (int i = 0; i < 3; i++)
        list[i] = sv_cstr(docs[i]);
    if (embedder_rank(x, SV("ab"), list, 3, scores, &n_tokens, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(n_tokens, 8 + 12 + 6);
    for (int i = 0; i < 3; i++) {
        struct tokens t;
        struct session *s = NULL;
        int32_t types[TINY_BERT_CTX] = { 0 };
        float row[EMBD];
        size_t second = 0;

        t = pair_of(x, "ab", docs[i], 40, false, &second);
        for (size_t k = second; k < t.n; k++)
            types[k] = 1;
        assert_int_equal(session_open(&s, embedder_model(rows),
                                      &(struct session_opts){ .n_threads = 1 }, &e), 0);
        assert_int_equal(session_eval(s, &(struct session_input){ .tokens = t.ids,
                                                                  .n_tokens = (uint32_t)t.n,
                                                                  .want = SESSION_FIRST,
                                                                  .types = types },
                                      1, row, &e), 0);
        assert_true(fabs(score_by_hand(model_gguf(embedder_model(x)), row) - scores[i]) < 1e-5);
        session_close(s);
        tokens_deinit(&t);
    }
    assert_int_equal(embedder_rank(rows, SV("ab"), list, 3, scores, NULL, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "pools by none"));
    embedder_close(x);
    embedder_close(rows);
}

static void test_rank_errors(void **state)
{
    const struct embedder_opts o = { .pooling = POOLING_RANK };
    struct embedder *x = NULL;
    const struct sv docs[] = { SV("a"), SV("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa") };
    float scores[2];
    struct err e = { 0 };

    (void)state;
    assert_int_equal(embedder_open(&x, plain, &o, &e), WATT_ENOTSUP);
    assert_non_null(strstr(e.msg, "has no classification head"));
    x = open_with(headed, o);
    assert_int_equal(embedder_rank(x, SV("ab"), docs, 2, scores, NULL, &e), WATT_ELIMIT);
    assert_non_null(strstr(e.msg, "document 2: query and document have 54 tokens"));
    embedder_close(x);
}

/* ---- what models refuse ---- */

static void test_sessions(void **state)
{
    struct embedder *x = open_with(plain, (struct embedder_opts){ .pooling = POOLING_NONE });
    const int32_t ids[10] = { 0 };
    const struct session_opts small = { .n_ctx = 40, .max_rows = 8, .n_threads = 1 };
    struct session *s = NULL;
    float rows[10 * EMBD];
    struct err e = { 0 };

    (void)state;
    assert_int_equal(session_open(&s, embedder_model(x), &small, &e), 0);
    assert_int_equal(session_append(s, 0, ids, 10, rows, &e), WATT_ELIMIT);
    assert_non_null(strstr(e.msg, "takes an input in one step"));
    assert_int_equal(session_len(s, 0), 0);
    session_close(s);
    embedder_close(x);
}

#ifdef WATT_FAULTS
/* Every allocation failing once, and the same vectors after. */
static void test_out_of_memory(void **state)
{
    const struct embedder_opts o = { .session.n_threads = 1 };
    struct err e = { 0 };
    int rc = WATT_ENOMEM;

    (void)state;
    for (unsigned long n = 1; rc == WATT_ENOMEM && n < 5000; n++) {
        struct embedder *x = NULL;

        (void)fault_arm(FAULT_ALLOC, n);
        rc = embedder_open(&x, plain, &o, &e);
        if (rc == 0)
            rc = run(x, texts, N_TEXTS, &a, &e);
        (void)fault_arm(FAULT_ALLOC, 0);
        embedder_close(x);
    }
    assert_int_equal(rc, 0);
}
#endif

/* ---- the public interface ---- */

static void test_api(void **state)
{
    struct embedder *own = open_with(plain, (struct embedder_opts){ 0 });
    const struct watt_embedder_options rank = { .size = sizeof rank, .pooling = WATT_POOLING_RANK };
    static const char *const docs[] = { "cde", "the end .", "a" };
    struct watt_embedder *x = NULL;
    struct watt_error_info e = { 0 };
    float out[N_TEXTS * EMBD], scores[3];
    uint64_t n = 0;

    (void)state;
    run_ok(own, texts, N_TEXTS, &a);
    assert_int_equal(watt_embedder_open(&x, plain, NULL, &e), 0);
    assert_int_equal(watt_embedder_width(x), EMBD);
    assert_int_equal(watt_embed(x, texts, N_TEXTS, out, &n, &e), 0);
    for (size_t i = 0; i < N_TEXTS; i++)
        assert_memory_equal(out + i * EMBD, a.rows[i], EMBD * sizeof *out);
    assert_int_equal(watt_rerank(x, "ab", docs, 3, scores, NULL, &e), WATT_EINVAL);
    assert_int_equal(e.code, WATT_EINVAL);
    watt_embedder_close(x);
    assert_int_equal(watt_embedder_open(&x, plain, &rank, &e), WATT_ENOTSUP);
    assert_int_equal(watt_embedder_open(&x, headed, &rank, &e), 0);
    assert_int_equal(watt_rerank(x, "ab", docs, 3, scores, &n, &e), 0);
    assert_int_equal(n, 8 + 12 + 6);
    watt_embedder_close(x);
    watt_embedder_close(NULL);
    assert_int_equal(watt_embed(NULL, texts, 1, out, NULL, NULL), WATT_EINVAL);
    embedder_close(own);
}

/* ---- the command ---- */

static struct spawned r;

static json_t *parsed(const char *text)
{
    json_t *j = NULL;
    struct err e = { 0 };

    if (json_parse(&j, "output", text, strlen(text), NULL, &e) < 0)
        fail_msg("%s", e.msg);
    return j;
}

static void test_command_json(void **state)
{
    struct embedder *x = open_with(plain, (struct embedder_opts){ 0 });
    json_t *j, *data;

    (void)state;
    run_ok(x, texts, 2, &a);
    spawn(&r, "abc\n\nthe end .\n", "embed", plain);
    assert_int_equal(r.code, 0);
    j = parsed(r.out);
    assert_string_equal(json_string_value(json_object_get(j, "object")), "list");
    data = json_object_get(j, "data");
    assert_int_equal(json_array_size(data), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *v = json_object_get(json_array_get(data, i), "embedding");

        assert_int_equal(json_array_size(v), EMBD);
        for (size_t c = 0; c < EMBD; c++)
            assert_true((float)json_number_value(json_array_get(v, c)) == a.rows[i][c]);
    }
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "usage"),
                                                        "total_tokens")),
                     a.n_tokens[0] + a.n_tokens[1]);
    json_close(j);
    embedder_close(x);
}

static void test_command_raw(void **state)
{
    struct embedder *x = open_with(plain, (struct embedder_opts){ 0 });

    (void)state;
    run_ok(x, texts, 1, &a);
    spawn(&r, NULL, "embed", plain, "--text", "abc", "--format", "f32");
    assert_int_equal(r.code, 0);
    assert_int_equal(r.out_len, EMBD * sizeof(float));
    assert_memory_equal(r.out, a.rows[0], r.out_len);
    embedder_close(x);
}

static void test_command_rerank(void **state)
{
    double last = INFINITY;
    json_t *j, *list;

    (void)state;
    spawn(&r, "cde\nthe end .\na\n", "embed", headed, "--rerank", "ab", "--top", "2",
          "--normalize");
    assert_int_equal(r.code, 0);
    j = parsed(r.out);
    list = json_object_get(j, "results");
    assert_int_equal(json_array_size(list), 2);
    for (size_t i = 0; i < 2; i++) {
        const double s = json_number_value(json_object_get(json_array_get(list, i),
                                                           "relevance_score"));

        assert_true(s > 0 && s < 1 && s <= last);
        last = s;
    }
    json_close(j);
    spawn(&r, NULL, "embed", plain, "--rerank", "ab", "--text", "c");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "has no classification head"));
    spawn(&r, NULL, "embed", headed, "--rerank", "ab", "--text", "c", "--pooling", "mean");
    assert_int_equal(r.code, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pooling),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_company),
        cmocka_unit_test(test_dimensions),
        cmocka_unit_test(test_long_texts),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_template),
        cmocka_unit_test(test_rank),
        cmocka_unit_test(test_rank_errors),
        cmocka_unit_test(test_sessions),
#ifdef WATT_FAULTS
        cmocka_unit_test(test_out_of_memory),
#endif
        cmocka_unit_test(test_api),
        cmocka_unit_test(test_command_json),
        cmocka_unit_test(test_command_raw),
        cmocka_unit_test(test_command_rerank),
    };

    return cmocka_run_group_tests(tests, make, clear);
}
