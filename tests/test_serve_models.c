/* test_serve_models.c: several models in one server, loaded when asked for and unloaded again, within
 * one bound of memory; vectors and scores. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>

#include "models/embed.h"
#include "serve_rig.h"
#include "tiny_bert.h"

static char bert_path[96], rank_path[96], broken_path[96], store_dir[96];

static const char *text_of(const json_t *j, const char *a)
{
    const char *s = json_string_value(json_object_get(j, a));

    return s ? s : "";
}

/* The state of a model, by its name: static text. */
static const char *state_of(const struct server *s, const char *name)
{
    static char state[32];
    const json_t *m;
    json_t *j;
    size_t i;

    assert_int_equal(ask(s, "GET", "/v1/models", "", ""), 200);
    j = parsed();
    state[0] = '\0';
    json_array_foreach(json_object_get(j, "data"), i, m)
        if (strcmp(text_of(m, "id"), name) == 0)
            (void)snprintf(state, sizeof state, "%s", text_of(json_object_get(m, "status"), "value"));
    json_decref(j);
    return state;
}

static bool becomes(const struct server *s, const char *name, const char *state)
{
    for (int i = 0; i < 3000; i++) {
        if (strcmp(state_of(s, name), state) == 0)
            return true;
        (void)usleep(20000);
    }
    return false;
}

static int post_to(const struct server *s, const char *path, const char *body)
{
    return ask(s, "POST", path, "Content-Type: application/json\r\n", body);
}

static int complete(const struct server *s, const char *model)
{
    char body[256];

    (void)snprintf(body, sizeof body, "{\"model\":\"%s\",\"prompt\":\"Once\",\"max_tokens\":8,"
                   "\"temperature\":0}", model);
    return post_to(s, "/v1/completions", body);
}

static int up(void **state)
{
    FILE *f;

    (void)tiny_make(state);
    (void)snprintf(bert_path, sizeof bert_path, "%s/bert.gguf", tiny_dir);
    (void)snprintf(rank_path, sizeof rank_path, "%s/rank.gguf", tiny_dir);
    (void)snprintf(broken_path, sizeof broken_path, "%s/broken.gguf", tiny_dir);
    (void)snprintf(store_dir, sizeof store_dir, "%s/store", tiny_dir);
    assert_int_equal(setenv("WATT_STORE", store_dir, 1), 0);
    tiny_bert_write(bert_path, &(struct tiny_bert){ .pooling = 1 });
    tiny_bert_write(rank_path, &(struct tiny_bert){ .head = true, .pooling = 4 });
    f = fopen(broken_path, "wb");
    assert_non_null(f);
    (void)fputs("no model at all, whatever its name", f);
    (void)fclose(f);
    (void)signal(SIGPIPE, SIG_IGN);
    return 0;
}

static int down(void **state)
{
    (void)unlink(bert_path);
    (void)unlink(rank_path);
    (void)unlink(broken_path);
    return tiny_remove(state);
}

/* Every model by its names; those that nobody asked for stay on disk. */
static void several_models(void **state)
{
    char second[128], broken[128], vectors[128], first_text[512];
    const char *const argv[] = { "watt", "serve", tiny_path, "--port", "0", "--quiet", "--threads", "2",
                                 "--parallel", "4", "--model", second, "--model", broken, "--model",
                                 vectors, "--alias", "gpt-4", "--alias", "small=two", NULL };
    struct server s;
    json_t *j;

    (void)state;
    (void)snprintf(second, sizeof second, "two=%s", bare_path);
    (void)snprintf(broken, sizeof broken, "broken=%s", broken_path);
    (void)snprintf(vectors, sizeof vectors, "vectors=%s", bert_path);
    start_argv(&s, argv);
    assert_string_equal(state_of(&s, "tiny"), "loaded");
    assert_string_equal(state_of(&s, "two"), "unloaded");
    assert_int_equal(complete(&s, ""), 200);
    assert_int_equal(complete(&s, "gpt-4"), 200);
    j = parsed();
    assert_string_equal(text_of(j, "model"), "tiny");
    (void)snprintf(first_text, sizeof first_text, "%s",
                   text_of(json_array_get(json_object_get(j, "choices"), 0), "text"));
    json_decref(j);
    assert_int_equal(complete(&s, "small:latest"), 200);    /* loads it */
    j = parsed();
    assert_string_equal(text_of(j, "model"), "two");
    assert_string_equal(text_of(json_array_get(json_object_get(j, "choices"), 0), "text"), first_text);
    json_decref(j);
    assert_string_equal(state_of(&s, "two"), "loaded");
    assert_int_equal(complete(&s, "three"), 404);
    assert_int_equal(complete(&s, "broken"), 500);
    assert_non_null(strstr(answer, "broken.gguf"));
    assert_string_equal(state_of(&s, "broken"), "failed");
    assert_int_equal(complete(&s, "vectors"), 400);
    assert_non_null(strstr(answer, "embeddings"));
    assert_int_equal(post_to(&s, "/v1/embeddings", "{\"model\":\"vectors\",\"input\":\"a b\"}"), 200);
    assert_int_equal(ask(&s, "GET", "/v1/models/small", "", ""), 200);
    assert_int_equal(ask(&s, "GET", "/api/ps", "", ""), 200);
    assert_non_null(strstr(answer, "\"context_length\""));
    assert_null(strstr(answer, "broken"));
    assert_int_equal(ask(&s, "GET", "/api/tags", "", ""), 200);
    assert_non_null(strstr(answer, "broken"));
    assert_int_equal(post_to(&s, "/api/show", "{\"model\":\"two\"}"), 200);
    assert_int_equal(post_to(&s, "/api/show", "{\"model\":\"three\"}"), 404);
    assert_int_equal(post_to(&s, "/models/unload", "{\"model\":\"two\"}"), 200);
    assert_true(becomes(&s, "two", "unloaded"));
    assert_int_equal(post_to(&s, "/models/load", "{\"model\":\"two\"}"), 200);
    assert_true(becomes(&s, "two", "loaded"));
    assert_int_equal(ask(&s, "GET", "/props?model=two", "", ""), 200);
    assert_non_null(strstr(answer, "\"is_sleeping\":false"));
    assert_int_equal(ask(&s, "GET", "/slots", "", ""), 200);
    assert_int_equal(ask(&s, "GET", "/load", "", ""), 200);
    assert_int_equal(ask(&s, "GET", "/health", "", ""), 200);
    assert_int_equal(stop(&s), 0);
}

/* Idle models go: by the server's time, a request's own, or at once. */
static void idle_ones_leave(void **state)
{
    const char *const argv[] = { "watt", "serve", tiny_path, "--port", "0", "--quiet", "--name", "tiny",
                                 "--threads", "2", "--keep-alive", "200ms", NULL };
    struct server s;

    (void)state;
    start_argv(&s, argv);
    assert_true(becomes(&s, "tiny", "unloaded"));
    assert_int_equal(ask(&s, "GET", "/health", "", ""), 200);
    assert_int_equal(ask(&s, "GET", "/props", "", ""), 200);
    assert_non_null(strstr(answer, "\"is_sleeping\":true"));
    assert_int_equal(complete(&s, "tiny"), 200);
    assert_true(becomes(&s, "tiny", "unloaded"));
    assert_int_equal(post_to(&s, "/api/generate", "{\"model\":\"tiny\",\"prompt\":\"\",\"keep_alive\":-1}"),
                     200);
    assert_non_null(strstr(answer, "\"load\""));
    (void)usleep(500000);
    assert_string_equal(state_of(&s, "tiny"), "loaded");
    assert_int_equal(post_to(&s, "/api/generate", "{\"model\":\"tiny\",\"prompt\":\"a\",\"stream\":false,"
                             "\"keep_alive\":\"0s\",\"options\":{\"num_predict\":3}}"), 200);
    assert_true(becomes(&s, "tiny", "unloaded"));
    assert_int_equal(post_to(&s, "/api/generate", "{\"model\":\"tiny\",\"prompt\":\"a\","
                             "\"keep_alive\":\"soon\"}"), 400);
    assert_non_null(strstr(answer, "keep_alive"));
    assert_int_equal(post_to(&s, "/api/chat", "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\","
                             "\"content\":\"a\"}],\"options\":{\"num_ctx\":1000000}}"), 400);
    assert_non_null(strstr(answer, "num_ctx"));
    assert_int_equal(stop(&s), 0);
}

struct many { const struct server *s; int status[24]; char *const *models; };

/* A client of its own: `ask` has one buffer. */
static int ask_alone(const struct server *s, const char *model)
{
    char request[512], reply[64] = "";
    const int fd = dial(s);
    char body[256];
    size_t n = 0;

    (void)snprintf(body, sizeof body, "{\"model\":\"%s\",\"prompt\":\"Once\",\"max_tokens\":30}", model);
    (void)snprintf(request, sizeof request, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: "
                   "close\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    say(fd, request, strlen(request));
    while (n < sizeof reply - 1) {
        const ssize_t k = recv(fd, reply + n, sizeof reply - 1 - n, 0);

        if (k <= 0)
            break;
        n += (size_t)k;
    }
    (void)close(fd);
    return n > 12 ? (int)strtol(reply + 9, NULL, 10) : 0;
}

static void *one_of_many(void *arg)
{
    struct many *m = arg;
    static const char *const names[] = { "tiny", "two", "tiny2" };
    static _Atomic unsigned next;
    const unsigned i = next++;

    m->status[i % 24] = ask_alone(m->s, names[i % 3]);
    return NULL;
}

/* One at a time fits: others make room when idle, and are told to come back when not. */
static void one_bound_of_memory(void **state)
{
    char second[128], third[128], big[64], bytes[32];
    const char *argv[] = { "watt", "serve", tiny_path, "--port", "0", "--quiet", "--name", "tiny",
                           "--threads", "2", "--model", second, "--model", third, "--memory", bytes,
                           NULL };
    struct many m = { 0 };
    pthread_t threads[24];
    struct server s;
    unsigned ok = 0;
    size_t size;
    json_t *j;

    (void)state;
    (void)snprintf(second, sizeof second, "two=%s", bare_path);
    (void)snprintf(third, sizeof third, "tiny2=%s", tiny_path);
    (void)snprintf(bytes, sizeof bytes, "1G");
    start_argv(&s, argv);
    assert_int_equal(ask(&s, "GET", "/api/ps", "", ""), 200);
    j = parsed();
    size = (size_t)json_integer_value(json_object_get(json_array_get(json_object_get(j, "models"), 0),
                                                      "size"));
    json_decref(j);
    assert_true(size > 0);
    assert_int_equal(stop(&s), 0);

    (void)snprintf(bytes, sizeof bytes, "%zu", size * 3 / 2);
    start_argv(&s, argv);
    assert_int_equal(complete(&s, "two"), 200);
    assert_string_equal(state_of(&s, "tiny"), "unloaded");
    assert_string_equal(state_of(&s, "two"), "loaded");
    m.s = &s;
    for (size_t i = 0; i < 24; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, one_of_many, &m), 0);
    for (size_t i = 0; i < 24; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < 24; i++) {
        ok += m.status[i] == 200;
        if (m.status[i] != 200 && m.status[i] != 429)
            fail_msg("request %zu: %d", i, m.status[i]);
    }
    assert_true(ok > 0);
    while ((m.status[0] = complete(&s, "tiny")) == 429)     /* the last one's answer came, its end not yet */
        (void)usleep(100000);
    assert_int_equal(m.status[0], 200);
    assert_int_equal(stop(&s), 0);

    (void)snprintf(bytes, sizeof bytes, "%zu", size * 3 / 2);
    (void)snprintf(big, sizeof big, "%zu", size / 2);
    argv[15] = big;
    {
        static struct spawned r;

        spawn(&r, NULL, "serve", tiny_path, "--port", "0", "--memory", big);
        assert_int_equal(r.code, 1);
        assert_non_null(strstr(r.err, "bytes of memory"));
    }
}

/* ---- vectors ---- */

static struct server vectors;

static int vectors_up(void **state)
{
    static char rank[128];
    const char *const argv[] = { "watt", "serve", bert_path, "--port", "0", "--quiet", "--threads", "2",
                                 "--model", rank, NULL };

    (void)state;
    (void)snprintf(rank, sizeof rank, "rank=%s", rank_path);
    start_argv(&vectors, argv);
    return 0;
}

static int vectors_down(void **state)
{
    (void)state;
    assert_int_equal(stop(&vectors), 0);
    return 0;
}

struct taken { float rows[4][TINY_BERT_EMBD]; };

static int take(void *ctx, const struct embedded *r)
{
    struct taken *t = ctx;

    memcpy(t->rows[r->index], r->rows, sizeof t->rows[0]);
    return 0;
}

static void same_as(const json_t *list, const float *want, size_t n)
{
    assert_int_equal(json_array_size(list), n);
    for (size_t i = 0; i < n; i++)
        if ((float)json_number_value(json_array_get(list, i)) != want[i])
            fail_msg("number %zu is %.9g, not %.9g", i, json_number_value(json_array_get(list, i)),
                     (double)want[i]);
}

/* What `watt embed` gives, to the bit, whatever else is in the step. */
static void vectors_of_texts(void **state)
{
    const struct embed_input in[3] = { { .text = SV("a b c") }, { .text = SV("d") },
                                       { .text = SV("x y z x y z x y z") } };
    struct embedder *x;
    struct taken t;
    struct err e = { 0 };
    json_t *j, *data;

    (void)state;
    assert_int_equal(embedder_open(&x, bert_path, NULL, &e), 0);
    assert_int_equal(embedder_run(x, in, 3, take, &t, &e), 0);
    embedder_close(x);
    assert_int_equal(post_to(&vectors, "/v1/embeddings", "{\"input\":[\"a b c\",\"d\","
                             "\"x y z x y z x y z\"],\"model\":\"bert\"}"), 200);
    j = parsed();
    data = json_object_get(j, "data");
    for (size_t i = 0; i < 3; i++)
        same_as(json_object_get(json_array_get(data, i), "embedding"), t.rows[i], TINY_BERT_EMBD);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "usage"), "prompt_tokens")),
                     5 + 3 + 11);
    json_decref(j);
    assert_int_equal(post_to(&vectors, "/v1/embeddings", "{\"input\":[[2,6,7,8,3]]}"), 200);
    j = parsed();               /* the ids of "a b c" */
    assert_int_equal(json_array_size(json_object_get(j, "data")), 1);
    json_decref(j);
    assert_int_equal(post_to(&vectors, "/api/embed", "{\"model\":\"bert\",\"input\":\"d\"}"), 200);
    j = parsed();
    same_as(json_array_get(json_object_get(j, "embeddings"), 0), t.rows[1], TINY_BERT_EMBD);
    assert_int_equal(json_integer_value(json_object_get(j, "prompt_eval_count")), 3);
    json_decref(j);
    assert_int_equal(post_to(&vectors, "/api/embeddings", "{\"model\":\"bert\",\"prompt\":\"d\"}"), 200);
    j = parsed();
    same_as(json_object_get(j, "embedding"), t.rows[1], TINY_BERT_EMBD);
    json_decref(j);
    assert_int_equal(post_to(&vectors, "/embedding", "{\"content\":\"d\"}"), 200);
    j = parsed();
    same_as(json_array_get(json_object_get(json_array_get(j, 0), "embedding"), 0), t.rows[1],
            TINY_BERT_EMBD);
    json_decref(j);
}

static void formats_of_vectors(void **state)
{
    static const char prefix[] = "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
                                 "\"embedding\":\"";
    double sum = 0;
    json_t *j;
    const json_t *v;

    (void)state;
    assert_int_equal(post_to(&vectors, "/v1/embeddings", "{\"input\":\"d\",\"dimensions\":4}"), 200);
    j = parsed();
    v = json_object_get(json_array_get(json_object_get(j, "data"), 0), "embedding");
    assert_int_equal(json_array_size(v), 4);
    for (size_t i = 0; i < 4; i++)
        sum += json_number_value(json_array_get(v, i)) * json_number_value(json_array_get(v, i));
    assert_true(fabs(sum - 1) < 1e-5);
    json_decref(j);
    assert_int_equal(post_to(&vectors, "/v1/embeddings", "{\"input\":\"d\",\"encoding_format\":"
                             "\"base64\"}"), 200);
    assert_memory_equal(answer, prefix, sizeof prefix - 1);
    assert_int_equal(strcspn(answer + sizeof prefix - 1, "\""), (TINY_BERT_EMBD * 4 + 2) / 3 * 4);
}

#define LONG "a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a"

static void wrong_requests(void **state)
{
    static const struct { const char *path, *body; int status; const char *needle; } cases[] = {
        { "/v1/embeddings", "{}", 400, "input" },
        { "/v1/embeddings", "{\"input\":[]}", 400, "input" },
        { "/v1/embeddings", "{\"input\":7}", 400, "input" },
        { "/v1/embeddings", "{\"input\":[7,9999]}", 400, "input" },
        { "/v1/embeddings", "{\"input\":\"a\",\"dimensions\":17}", 400, "dimensions" },
        { "/v1/embeddings", "{\"input\":\"a\",\"dimensions\":0}", 400, "dimensions" },
        { "/v1/embeddings", "{\"input\":\"a\",\"encoding_format\":\"int8\"}", 400, "encoding_format" },
        { "/v1/embeddings", "{\"input\":\"" LONG "\"}", 400, "at most 40" },
        { "/v1/embeddings", "{\"input\":\"" LONG "\",\"truncate\":\"END\"}", 200, "embedding" },
        { "/v1/embeddings", "{\"input\":\"" LONG "\",\"truncate\":true,\"truncation_direction\":\"Right\"}",
          200, "embedding" },
        { "/v1/embeddings", "{\"input\":\"" LONG "\",\"truncate\":\"none\"}", 400, "at most 40" },
        { "/v1/embeddings", "{\"input\":\"a\",\"truncate\":\"START\"}", 400, "\"param\":\"truncate\"" },
        { "/v1/embeddings", "{\"input\":\"a\",\"truncate\":true,\"truncation_direction\":\"Left\"}", 400,
          "\"param\":\"truncation_direction\"" },
        { "/v1/embeddings", "{\"input\":\"a\",\"truncation_direction\":\"Left\"}", 200, "embedding" },
        { "/v1/rerank", "{\"model\":\"rank\",\"query\":\"a\",\"documents\":[\"" LONG "\"],\"truncate\":\"END\"}",
          200, "relevance_score" },
        { "/v1/rerank", "{\"model\":\"rank\",\"query\":\"a\",\"documents\":[\"b\"],\"truncate\":\"MIDDLE\"}",
          400, "\"param\":\"truncate\"" },
        { "/v1/embeddings", "{\"input\":\"a\",\"model\":\"rank\"}", 400, "rerank" },
        { "/v1/rerank", "{\"query\":\"a\",\"documents\":[\"b\"]}", 400, "cosine" },
        { "/v1/rerank", "{\"model\":\"rank\",\"documents\":[\"b\"]}", 400, "query" },
        { "/v1/rerank", "{\"model\":\"rank\",\"query\":\"a\"}", 400, "documents" },
        { "/v1/rerank", "{\"model\":\"rank\",\"query\":\"a\",\"documents\":[]}", 400, "input" },
        { "/v1/rerank", "{\"model\":\"rank\",\"query\":\"a\",\"documents\":[{\"x\":1}]}", 400, "text" },
        { "/v1/score", "{\"model\":\"rank\",\"text_1\":[\"a\",\"b\"],\"text_2\":[\"a\",\"b\",\"c\"]}",
          400, "text_1" },
        { "/v1/completions", "{\"prompt\":\"a\"}", 400, "embeddings" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int status = post_to(&vectors, cases[i].path, cases[i].body);

        if (status != cases[i].status || !strstr(answer, cases[i].needle))
            fail_msg("%s %s: %d %s", cases[i].path, cases[i].body, status, answer);
    }
}

static void documents_ranked(void **state)
{
    const struct embedder_opts o = { .pooling = POOLING_RANK };
    const struct sv docs[4] = { SV("b c"), SV("x"), SV("a a a"), SV("q r s t") };
    struct embedder *x;
    struct err e = { 0 };
    float scores[4];
    double last = 2;
    const json_t *results;
    json_t *j;

    (void)state;
    assert_int_equal(embedder_open(&x, rank_path, &o, &e), 0);
    assert_int_equal(embedder_rank(x, SV("a b"), docs, 4, scores, NULL, &e), 0);
    embedder_close(x);
    assert_int_equal(post_to(&vectors, "/v1/rerank", "{\"model\":\"rank\",\"query\":\"a b\",\"documents\":"
                             "[\"b c\",\"x\",{\"text\":\"a a a\"},\"q r s t\"],\"return_documents\":true}"),
                     200);
    j = parsed();
    results = json_object_get(j, "results");
    assert_int_equal(json_array_size(results), 4);
    for (size_t i = 0; i < 4; i++) {
        const json_t *r = json_array_get(results, i);
        const size_t index = (size_t)json_integer_value(json_object_get(r, "index"));
        const double score = json_number_value(json_object_get(r, "relevance_score"));

        assert_true(fabs(score - 1 / (1 + exp(-(double)scores[index]))) < 1e-6);
        assert_true(score <= last);
        last = score;
        assert_string_equal(text_of(json_object_get(r, "document"), "text"), docs[index].data);
    }
    json_decref(j);
    assert_int_equal(post_to(&vectors, "/rerank", "{\"model\":\"rank\",\"query\":\"a b\",\"texts\":"
                             "[\"b c\",\"x\"],\"raw_scores\":true,\"top_n\":1}"), 200);
    j = parsed();
    assert_int_equal(json_array_size(j), 1);
    assert_true((float)json_number_value(json_object_get(json_array_get(j, 0), "score")) ==
                (scores[0] > scores[1] ? scores[0] : scores[1]));
    json_decref(j);
    assert_int_equal(post_to(&vectors, "/v1/score", "{\"model\":\"rank\",\"text_1\":\"a b\",\"text_2\":"
                             "[\"b c\",\"x\"],\"raw_scores\":true}"), 200);
    j = parsed();
    for (size_t i = 0; i < 2; i++)
        assert_true((float)json_number_value(json_object_get(
            json_array_get(json_object_get(j, "data"), i), "score")) == scores[i]);
    json_decref(j);
}

/* A model that writes embeds as well, from its last token. */
static void a_decoder_embeds(void **state)
{
    const char *const argv[] = { "watt", "serve", tiny_path, "--port", "0", "--quiet", "--threads", "2",
                                 NULL };
    struct server s;
    json_t *j;

    (void)state;
    start_argv(&s, argv);
    assert_int_equal(complete(&s, "tiny"), 200);
    assert_int_equal(post_to(&s, "/v1/embeddings", "{\"input\":[\"a text\",\"another\"]}"), 200);
    j = parsed();
    assert_int_equal(json_array_size(json_object_get(json_array_get(json_object_get(j, "data"), 1),
                                                     "embedding")), 64);
    json_decref(j);
    assert_int_equal(complete(&s, "tiny"), 200);
    assert_int_equal(stop(&s), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_models),
        cmocka_unit_test(idle_ones_leave),
        cmocka_unit_test(one_bound_of_memory),
        cmocka_unit_test(a_decoder_embeds),
    };
    const struct CMUnitTest embedding[] = {
        cmocka_unit_test(vectors_of_texts),
        cmocka_unit_test(formats_of_vectors),
        cmocka_unit_test(wrong_requests),
        cmocka_unit_test(documents_ranked),
    };
    int n;

    (void)up(NULL);
    n = cmocka_run_group_tests(tests, NULL, NULL);
    n += cmocka_run_group_tests(embedding, vectors_up, vectors_down);
    (void)down(NULL);
    return n;
}
