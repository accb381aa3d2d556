/* test_charrnn.c: folders of character LSTMs against plain code in double; folders that are damaged;
 * the real ones of the shared data on their author's text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "models/charrnn.h"
#include "models/model.h"
#include "models/perplexity.h"
#include "models/session.h"
#include "models/tokenizer.h"
#include "shared.h"

enum { V = 5, W = 4, H = 6, T = 40 };

static char folder[] = "watt-charrnn-XXXXXX";
static float embedding[V][W], kernel[2][2 * H][4 * H], bias[2][4 * H], soft_w[H][V], soft_b[V];

static const char manifest[] =
    "{\"Variable\": {\"filename\": \"Variable\", \"shape\": []},"
    " \"embedding\": {\"filename\": \"embedding\", \"shape\": [5, 4]},"
    " \"rnnlm/multi_rnn_cell/cell_0/basic_lstm_cell/weights\": {\"filename\": \"w0\", \"shape\": [10, 24]},"
    " \"rnnlm/multi_rnn_cell/cell_0/basic_lstm_cell/biases\": {\"filename\": \"b0\", \"shape\": [24]},"
    " \"rnnlm/multi_rnn_cell/cell_1/basic_lstm_cell/kernel\": {\"filename\": \"w1\", \"shape\": [12, 24]},"
    " \"rnnlm/multi_rnn_cell/cell_1/basic_lstm_cell/bias\": {\"filename\": \"b1\", \"shape\": [24]},"
    " \"rnnlm/softmax_w\": {\"filename\": \"sw\", \"shape\": [6, 5]},"
    " \"rnnlm/softmax_b\": {\"filename\": \"sb\", \"shape\": [5]}}";
static const char vocab[] = "{\"\\n\": 2, \"\\\\\": 0, \"\": 4, \"\u00e9\": 1, \"b\": 3}";

static void put(const char *name, const void *data, size_t size)
{
    char path[128];
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void put_json(const char *m, const char *v)
{
    put("manifest.json", m, strlen(m));
    put("vocab.json", v, strlen(v));
}

static void randomise(struct rng *rng, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = 0.7f * (float)rng_normal(rng);
}

static int make_folder(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 2);
    assert_non_null(mkdtemp(folder));
    randomise(&rng, &embedding[0][0], V * W);
    randomise(&rng, &kernel[0][0][0], 2 * 2 * H * 4 * H);
    randomise(&rng, &bias[0][0], 2 * 4 * H);
    randomise(&rng, &soft_w[0][0], H * V);
    randomise(&rng, soft_b, V);
    put("embedding", embedding, sizeof embedding);
    put("w0", kernel[0], (W + H) * sizeof kernel[0][0]);
    put("b0", bias[0], sizeof bias[0]);
    put("w1", kernel[1], 2 * H * sizeof kernel[0][0]);
    put("b1", bias[1], sizeof bias[1]);
    put("sw", soft_w, sizeof soft_w);
    put("sb", soft_b, sizeof soft_b);
    put_json(manifest, vocab);
    return 0;
}

static int remove_folder(void **state)
{
    static const char *const names[] = { "embedding", "w0", "b0", "w1", "b1", "sw", "sb",
                                         "manifest.json", "vocab.json" };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];

        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    return rmdir(folder);
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* As TensorFlow writes it: [x, h] W + b, gates in, candidate, forget, out. */
static void cell(int layer, const double *x, int n_in, double *h, double *c)
{
    double z[4 * H];

    for (int g = 0; g < 4 * H; g++) {
        z[g] = bias[layer][g];
        for (int i = 0; i < n_in; i++)
            z[g] += x[i] * kernel[layer][i][g];
        for (int i = 0; i < H; i++)
            z[g] += h[i] * kernel[layer][n_in + i][g];
    }
    for (int i = 0; i < H; i++) {
        c[i] = c[i] * sigmoid(z[2 * H + i] + 1) + sigmoid(z[i]) * tanh(z[H + i]);
        h[i] = tanh(c[i]) * sigmoid(z[3 * H + i]);
    }
}

static void test_logits(void **state)
{
    const struct session_opts o = { .exec = SESSION_EXEC_REF, .n_ctx = T, .max_out = T };
    double h[2][H] = { { 0 } }, c[2][H] = { { 0 } }, x[W], error = 0, size = 0;
    float got[T][V];
    int32_t ids[T];
    struct model *m = NULL;
    struct session *s = NULL;
    struct err e = { 0 };
    struct rng rng;

    (void)state;
    rng_init(&rng, 4);
    for (int t = 0; t < T; t++)
        ids[t] = (int32_t)rng_below(&rng, V);
    if (model_open(&m, folder, NULL, &e) < 0 || session_open(&s, m, &o, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(model_facts(m)->arch, "lstm");
    assert_int_equal(session_eval(s, &(struct session_input){ .tokens = ids, .n_tokens = T,
                                                              .want = SESSION_ALL }, 1, got[0], &e),
                     0);
    for (int t = 0; t < T; t++) {
        for (int i = 0; i < W; i++)
            x[i] = embedding[ids[t]][i];
        cell(0, x, W, h[0], c[0]);
        cell(1, h[0], H, h[1], c[1]);
        for (int v = 0; v < V; v++) {
            double z = soft_b[v];

            for (int i = 0; i < H; i++)
                z += h[1][i] * soft_w[i][v];
            error += (z - got[t][v]) * (z - got[t][v]);
            size += z * z;
        }
    }
    assert_true(error / size < 1e-12);
    session_close(s);
    model_close(m);
}

static void count_notes(void *ctx, const char *text)
{
    int *n = ctx;

    assert_non_null(strstr(text, "id 4 is no single character, taken as 'a'"));
    ++*n;
}

/* Every character is a token; what is no character gets the first letter that is missing. */
static void test_vocabulary(void **state)
{
    const char text[] = "ab\\\nb\xc3\xa9" "a";
    const int32_t want[] = { 4, 3, 0, 2, 3, 1, 4 };
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct tokens ids = { 0 };
    struct err e = { 0 };
    int notes = 0;

    (void)state;
    assert_int_equal(charrnn_open(&g, folder, count_notes, &notes, &e), 0);
    assert_int_equal(notes, 1);
    if (tokenizer_open(&t, g, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(tokenizer_encode(t, NULL, text, strlen(text), 0, &ids, &e), 0);
    assert_int_equal(ids.n, 7);
    assert_memory_equal(ids.ids, want, sizeof want);
    tokens_deinit(&ids);
    tokenizer_close(t);
    gguf_close(g);
}

static void refused(const char *from, const char *to, int code, const char *part)
{
    const char *at = strstr(manifest, from);
    char changed[sizeof manifest + 64];
    struct gguf *g = NULL;
    struct err e = { 0 };

    assert_non_null(at);
    (void)snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - manifest), manifest, to,
                   at + strlen(from));
    put_json(changed, vocab);
    if (charrnn_open(&g, folder, NULL, NULL, &e) != code || !strstr(e.msg, part))
        fail_msg("%d: '%s', expected %d with '%s'", e.code, e.msg, code, part);
}

static void test_damaged(void **state)
{
    struct gguf *g = NULL;
    struct err e = { 0 };

    (void)state;
    refused("\"w0\"", "\"w1\"", WATT_ELIMIT, "w1");
    refused("\"w1\"", "\"w0\"", WATT_EFORMAT, "needs 1152");
    refused("\"w0\"", "\"../w0\"", WATT_EFORMAT, "leaves the folder");
    refused("\"w0\"", "\"nowhere\"", WATT_ENOENT, "nowhere");
    refused("[10, 24]", "[10, 23]", WATT_EFORMAT, "columns of gates");
    refused("[10, 24]", "[10, 4000000000]", WATT_EFORMAT, "shape");
    refused("[12, 24]", "[11, 24]", WATT_ELIMIT, "w1");
    refused("[6, 5]", "[5, 6]", WATT_EFORMAT, "softmax_w");
    refused("cell_0/basic_lstm_cell/weights", "cell_0/gru/weights", WATT_EFORMAT, "0 layers");
    refused("cell_1/basic_lstm_cell/bias", "cell_1/basic_lstm_cell/off", WATT_EFORMAT, "biases");
    refused("{\"Var", "{\"embedding\": 3, \"Var", WATT_EFORMAT, "manifest.json");
    put_json(manifest, "{\"a\": 0, \"b\": 1, \"c\": 2, \"d\": 3, \"e\": 3}");
    assert_int_equal(charrnn_open(&g, folder, NULL, NULL, &e), WATT_EFORMAT);
    assert_non_null(strstr(e.msg, "stands twice"));
    put_json(manifest, "{\"a\": 0}");
    assert_int_equal(charrnn_open(&g, folder, NULL, NULL, &e), WATT_EFORMAT);
    put_json(manifest, vocab);
    assert_false(charrnn_is_folder("no-such-folder"));
    assert_true(charrnn_is_folder(folder));
}

/* The first 20,000 characters of the author's text: the cross-entropy the model is known for. */
static void test_shakespeare(void **state)
{
    const struct session_opts so = { .n_threads = 2, .n_ctx = 20001, .max_rows = 512, .max_out = 512 };
    struct perplexity_opts o = { .ctx = 20000, .stride = 20000, .bos = -1 };
    struct model *m = NULL;
    struct tokenizer *t = NULL;
    struct session *s = NULL;
    struct tokens ids = { 0 };
    struct perplexity r;
    struct err e = { 0 };
    char *text;
    size_t size;

    (void)state;
    SHARED_OR_SKIP("models/charrnn-shakespeare/vocab.json");
    if (file_read(shared_path("corpora/tinyshakespeare.txt"), 2u << 20, &text, &size, &e) < 0 ||
        model_open(&m, shared_path("models/charrnn-shakespeare"), NULL, &e) < 0 ||
        tokenizer_open(&t, model_gguf(m), &e) < 0 ||
        tokenizer_encode(t, NULL, text, 20000, 0, &ids, &e) < 0 ||
        session_open(&s, m, &so, &e) < 0 || perplexity_measure(&r, s, ids.ids, ids.n, &o, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(ids.n, 20000);
    if (!(fabs(r.mean - 1.32) <= 0.01))
        fail_msg("%.4f nats a character", r.mean);
    session_close(s);
    tokens_deinit(&ids);
    tokenizer_close(t);
    model_close(m);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_vocabulary),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_shakespeare),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
