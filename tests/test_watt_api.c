/* test_watt_api.c: the library through its public header only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "watt.h"

#include "base/fault.h"
#include "shared.h"
#include "spawn.h"
#include "tiny_model.h"

static struct watt_error_info e;

static struct watt_model *opened(uint32_t n_ctx, uint32_t n_sessions)
{
    const struct watt_model_options o = { .size = sizeof o, .n_threads = 2, .n_ctx = n_ctx,
                                          .n_sessions = n_sessions };
    struct watt_model *m = NULL;

    if (watt_model_open(&m, tiny_path, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return m;
}

static struct watt_session *session_of(struct watt_model *m)
{
    struct watt_session *s = NULL;

    if (watt_session_open(&s, m, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

static struct watt_sampler *sampler_of(struct watt_model *m, float temperature, uint64_t seed)
{
    struct watt_sampler_options o;
    struct watt_sampler *s = NULL;

    watt_sampler_options_init(&o);
    o.temperature = temperature;
    o.seed = seed;
    if (watt_sampler_open(&s, m, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

static size_t tokens_of(const struct watt_model *m, const char *text, int32_t *ids, size_t cap)
{
    size_t n = 0;

    if (watt_tokenize(m, text, strlen(text), WATT_ADD_SPECIAL, ids, cap, &n, &e) < 0)
        fail_msg("%s", e.msg);
    return n;
}

/* ---- models ---- */

static void models_that_do_not_open(void **state)
{
    struct watt_model_options o = { .size = sizeof o };
    struct watt_model *m = NULL;

    (void)state;
    assert_int_equal(watt_model_open(&m, "no-such-file.gguf", NULL, &e), WATT_ENOENT);
    assert_int_equal(e.code, WATT_ENOENT);
    assert_non_null(strstr(e.msg, "no-such-file.gguf"));
    assert_int_equal(watt_model_open(&m, ".", NULL, &e), WATT_EINVAL);
    assert_int_equal(watt_model_open(&m, NULL, NULL, NULL), WATT_EINVAL);
    assert_int_equal(watt_model_open(NULL, tiny_path, NULL, &e), WATT_EINVAL);
    o.size = 0;
    assert_int_equal(watt_model_open(&m, tiny_path, &o, &e), WATT_EINVAL);
    o = (struct watt_model_options){ .size = sizeof o, .isa = "mmx" };
    assert_int_equal(watt_model_open(&m, tiny_path, &o, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "mmx"));
    o = (struct watt_model_options){ .size = sizeof o, .cpus = "0,x" };
    assert_int_equal(watt_model_open(&m, tiny_path, &o, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "cpus"));
    o = (struct watt_model_options){ .size = sizeof o, .cpus = "4095" };
    assert_int_equal(watt_model_open(&m, tiny_path, &o, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "4095"));
    o = (struct watt_model_options){ .size = sizeof o, .pin = 7 };
    assert_int_equal(watt_model_open(&m, tiny_path, &o, &e), WATT_EINVAL);
    o = (struct watt_model_options){ .size = sizeof o, .n_sessions = 1000000 };
    assert_int_equal(watt_model_open(&m, tiny_path, &o, &e), WATT_EINVAL);
    o = (struct watt_model_options){ .size = sizeof o, .kv_type = (enum watt_kv_type)99 };
    assert_int_equal(watt_model_open(&m, tiny_path, &o, &e), WATT_EINVAL);
    assert_null(m);
    watt_model_close(NULL);
}

static void facts_of_a_model(void **state)
{
    struct watt_model *m = opened(100, 2);
    struct watt_model_info i = { .size = sizeof i };
    struct { size_t size; const char *architecture; } old = { sizeof old, NULL };

    (void)state;
    assert_int_equal(watt_model_info(m, &i, &e), 0);
    assert_string_equal(i.architecture, "llama");
    assert_int_equal(i.n_vocab, TINY_VOCAB);
    assert_int_equal(i.n_layers, 2);
    assert_int_equal(i.n_embd, 64);
    assert_int_equal(i.n_ctx, 100);
    assert_int_equal(i.n_ctx_train, TINY_CTX);
    assert_int_equal(i.n_threads, 2);
    assert_true(i.n_params > 50000 && i.file_bytes > 50000 && i.memory_bytes > 50000);
    assert_true(i.has_vocabulary);
    /* a program compiled with an older, shorter struct */
    assert_int_equal(watt_model_info(m, (struct watt_model_info *)(void *)&old, &e), 0);
    assert_string_equal(old.architecture, "llama");
    assert_int_equal(old.size, sizeof old);
    i.size = 0;
    assert_int_equal(watt_model_info(m, &i, &e), WATT_EINVAL);
    watt_model_close(m);
    assert_string_equal(watt_version(), WATT_VERSION);
    assert_string_equal(watt_error_name(WATT_ENOMEM), "out of memory");
}

/* ---- text ---- */

static void text_and_back(void **state)
{
    static const char text[] = "Grüße, world! \xf0\x9f\x8c\x8d";
    struct watt_model *m = opened(64, 1);
    int32_t ids[64];
    char back[64];
    size_t n = 0, len = 0, need = 0;

    (void)state;
    assert_int_equal(watt_tokenize(m, text, strlen(text), 0, NULL, 0, &need, &e), WATT_ELIMIT);
    assert_true(need > 0 && need <= 64);
    assert_int_equal(watt_tokenize(m, text, strlen(text), 0, ids, need - 1, &n, &e), WATT_ELIMIT);
    assert_int_equal(watt_tokenize(m, text, strlen(text), 0, ids, need, &n, &e), 0);
    assert_int_equal(n, need);
    assert_int_equal(watt_detokenize(m, ids, n, 0, back, sizeof back, &len, &e), 0);
    assert_string_equal(back, text);
    assert_int_equal(len, strlen(text));
    assert_int_equal(watt_detokenize(m, ids, n, 0, back, len - 1, &len, &e), WATT_ELIMIT);
    assert_int_equal(len, strlen(text));
    assert_int_equal(watt_tokenize(m, "", 0, 0, NULL, 0, &n, &e), 0);
    assert_int_equal(n, 0);
    assert_non_null(watt_token_piece(m, ids[0], &len));
    assert_true(len > 0);
    assert_null(watt_token_piece(m, -1, &len));
    assert_null(watt_token_piece(m, (int32_t)TINY_VOCAB, &len));
    assert_int_equal(len, 0);
    assert_false(watt_token_is_end(m, -5));
    assert_int_equal(watt_tokenize(NULL, text, 1, 0, ids, 64, &n, &e), WATT_EINVAL);
    ids[0] = 1 << 20;
    assert_int_equal(watt_detokenize(m, ids, 1, 0, back, sizeof back, &len, &e), WATT_EINVAL);
    watt_model_close(m);
}

static void chat_needs_a_template(void **state)
{
    const struct watt_message hello = { "user", "hello" }, broken = { "user", NULL };
    struct watt_model *m = NULL;
    char text[64];
    size_t n;

    (void)state;
    assert_int_equal(watt_model_open(&m, bare_path, NULL, &e), 0);
    assert_int_equal(watt_chat_render(m, &hello, 1, text, sizeof text, &n, &e), WATT_ENOTSUP);
    assert_non_null(strstr(e.msg, "template"));
    assert_int_equal(watt_chat_render(m, &broken, 1, text, sizeof text, &n, &e), WATT_EINVAL);
    watt_model_close(m);
}

/* ---- sessions ---- */

static void sessions_hold_tokens(void **state)
{
    struct watt_model *m = opened(32, 1);
    struct watt_session *s = session_of(m), *other = NULL;
    const float *logits;
    float first[TINY_VOCAB];
    int32_t ids[40];

    (void)state;
    for (int i = 0; i < 40; i++)
        ids[i] = 20 + i;
    assert_int_equal(watt_session_open(&other, m, &e), WATT_ELIMIT);
    assert_int_equal(watt_session_eval(s, ids, 5, &logits, &e), 0);
    assert_int_equal(watt_session_length(s), 5);
    memcpy(first, logits, sizeof first);
    for (unsigned i = 0; i < TINY_VOCAB; i++)
        assert_true(isfinite(first[i]));
    assert_int_equal(watt_session_eval(s, ids + 5, 27, NULL, &e), 0);
    assert_int_equal(watt_session_eval(s, ids, 1, NULL, &e), WATT_ELIMIT);
    assert_non_null(strstr(e.msg, "context full"));
    assert_int_equal(watt_session_length(s), 32);
    /* going back and on again gives the same bits */
    assert_int_equal(watt_session_truncate(s, 33, &e), WATT_EINVAL);
    assert_int_equal(watt_session_truncate(s, 3, &e), 0);
    assert_int_equal(watt_session_length(s), 3);
    assert_int_equal(watt_session_eval(s, ids + 3, 2, &logits, &e), 0);
    assert_memory_equal(first, logits, sizeof first);
    watt_session_reset(s);
    assert_int_equal(watt_session_length(s), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(watt_session_eval(s, ids + i, 1, &logits, &e), 0);
    assert_memory_equal(first, logits, sizeof first);
    ids[0] = -1;
    assert_int_equal(watt_session_eval(s, ids, 1, NULL, &e), WATT_EINVAL);
    ids[0] = (int32_t)TINY_VOCAB;
    assert_int_equal(watt_session_eval(s, ids, 1, NULL, &e), WATT_EINVAL);
    assert_int_equal(watt_session_eval(s, ids, 0, NULL, &e), WATT_EINVAL);
    watt_session_cancel(s);
    assert_int_equal(watt_session_eval(s, ids + 1, 1, NULL, &e), WATT_ECANCEL);
    assert_int_equal(watt_session_eval(s, ids + 1, 1, NULL, &e), 0);    /* it counted once */
    watt_session_close(s);
    s = session_of(m);      /* its place is free again, and empty */
    assert_int_equal(watt_session_length(s), 0);
    watt_session_close(s);
    watt_session_close(NULL);
    watt_model_close(m);
}

static void sessions_do_not_touch_each_other(void **state)
{
    struct watt_model *m = opened(32, 2);
    struct watt_session *a = session_of(m), *b = session_of(m);
    const int32_t text[] = { 30, 40, 50, 60 }, noise[] = { 99, 98, 97 };
    const float *logits;
    float alone[TINY_VOCAB];

    (void)state;
    assert_int_equal(watt_session_eval(a, text, 4, &logits, &e), 0);
    memcpy(alone, logits, sizeof alone);
    watt_session_reset(a);
    assert_int_equal(watt_session_eval(a, text, 2, NULL, &e), 0);
    assert_int_equal(watt_session_eval(b, noise, 3, NULL, &e), 0);
    assert_int_equal(watt_session_eval(a, text + 2, 2, &logits, &e), 0);
    assert_memory_equal(alone, logits, sizeof alone);
    watt_session_close(a);
    watt_session_close(b);
    watt_model_close(m);
}

/* ---- generating ---- */

struct heard {
    char    text[4096];
    size_t  len;
    int32_t ids[256];
    int     n, stop_after;
    struct watt_session *cancel;
};

static int hear(void *ctx, const struct watt_token *t)
{
    struct heard *h = ctx;

    assert_true(h->len + t->n_bytes < sizeof h->text);
    memcpy(h->text + h->len, t->text, t->n_bytes);
    h->len += t->n_bytes;
    h->text[h->len] = '\0';
    if (t->id >= 0)
        h->ids[h->n++] = t->id;
    if (h->cancel && t->id >= 0 && h->n == 3)
        watt_session_cancel(h->cancel);
    return h->stop_after && h->n == h->stop_after;
}

static struct watt_generate_options hearing(struct heard *h, uint32_t max_tokens)
{
    memset(h, 0, sizeof *h);
    return (struct watt_generate_options){ .size = sizeof(struct watt_generate_options),
                                           .max_tokens = max_tokens, .ignore_end = 1,
                                           .on_token = hear, .ctx = h };
}

static void greedy_equals_taking_the_best(void **state)
{
    struct watt_model *m = opened(TINY_CTX, 1);
    struct watt_session *s = session_of(m);
    struct watt_sampler *sampler = sampler_of(m, 0, 0);
    struct watt_generate_result r = { .size = sizeof r };
    struct watt_generate_options o;
    static struct heard h;
    int32_t ids[16];
    const float *logits;
    size_t n = tokens_of(m, "once", ids, 16);

    (void)state;
    o = hearing(&h, 20);
    assert_int_equal(watt_generate(s, sampler, ids, n, &o, &r, &e), 0);
    assert_int_equal(r.reason, WATT_STOP_LENGTH);
    assert_int_equal(r.n_prompt, n);
    assert_int_equal(r.n_generated, 20);
    assert_int_equal(h.n, 20);
    assert_true(r.prefill_ns > 0 && r.first_token_ns >= r.prefill_ns && r.decode_ns > 0);
    assert_int_equal(watt_session_length(s), n + 20);
    watt_session_reset(s);
    assert_int_equal(watt_session_eval(s, ids, n, &logits, &e), 0);
    for (int i = 0; i < 20; i++) {
        int32_t best = 0;

        for (int32_t j = 1; j < (int32_t)TINY_VOCAB; j++)
            if (logits[j] > logits[best])
                best = j;
        assert_int_equal(best, h.ids[i]);
        assert_int_equal(watt_session_eval(s, &best, 1, &logits, &e), 0);
    }
    watt_sampler_close(sampler);
    watt_session_close(s);
    watt_model_close(m);
}

static void same_seed_same_text(void **state)
{
    struct watt_model *m = opened(TINY_CTX, 1);
    struct watt_session *s = session_of(m);
    static struct heard first, second, third;
    int32_t ids[16];
    const size_t n = tokens_of(m, "hello", ids, 16);

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct heard *h = i == 0 ? &first : i == 1 ? &second : &third;
        struct watt_generate_options o = hearing(h, 40);
        struct watt_sampler *sampler = sampler_of(m, 1, i == 2 ? 8 : 7);

        watt_session_reset(s);
        assert_int_equal(watt_generate(s, sampler, ids, n, &o, NULL, &e), 0);
        watt_sampler_close(sampler);
    }
    assert_memory_equal(first.ids, second.ids, sizeof first.ids);
    assert_memory_not_equal(first.ids, third.ids, sizeof first.ids);
    watt_session_close(s);
    watt_model_close(m);
}

/* Two calls in a row are one text, whichever way it is cut. */
static void going_on_where_it_ended(void **state)
{
    struct watt_model *m = opened(TINY_CTX, 1);
    struct watt_session *s = session_of(m);
    struct watt_sampler *sampler = sampler_of(m, 0, 0);
    static struct heard whole, part;
    struct watt_generate_options o = hearing(&whole, 12);
    int32_t ids[16];
    const size_t n = tokens_of(m, "once", ids, 16);

    (void)state;
    assert_int_equal(watt_generate(s, sampler, ids, n, &o, NULL, &e), 0);
    watt_session_reset(s);
    o = hearing(&part, 5);
    assert_int_equal(watt_generate(s, sampler, ids, n, &o, NULL, &e), 0);
    /* the token that would have come next is given as the prompt */
    o = hearing(&part, 6);
    assert_int_equal(watt_generate(s, sampler, whole.ids + 5, 1, &o, NULL, &e), 0);
    assert_memory_equal(part.ids, whole.ids + 6, 6 * sizeof(int32_t));
    watt_sampler_close(sampler);
    watt_session_close(s);
    watt_model_close(m);
}

static void answers_end_for_a_reason(void **state)
{
    struct watt_model *m = opened(24, 1);
    struct watt_session *s = session_of(m);
    struct watt_sampler *sampler = sampler_of(m, 0, 0);
    struct watt_generate_result r = { .size = sizeof r };
    struct watt_generate_options o;
    static struct heard h, stopped;
    const char *stops[2] = { "never said \1", NULL };
    char needle[8];
    int32_t ids[32];
    const size_t n = tokens_of(m, "ab", ids, 16);

    (void)state;
    o = hearing(&h, 0);
    assert_int_equal(watt_generate(s, sampler, ids, n, &o, &r, &e), 0);
    assert_int_equal(r.reason, WATT_STOP_CONTEXT);
    assert_int_equal(r.n_prompt + r.n_generated, 25);   /* the last one needs no place */
    assert_int_equal(watt_generate(s, sampler, ids, n, &o, &r, &e), WATT_ELIMIT);
    assert_non_null(strstr(e.msg, "context full"));
    watt_session_reset(s);
    o = hearing(&h, 0);
    h.stop_after = 4;
    assert_int_equal(watt_generate(s, sampler, ids, n, &o, &r, &e), 0);
    assert_int_equal(r.reason, WATT_STOP_CANCELLED);
    assert_int_equal(r.n_generated, 4);
    watt_session_reset(s);
    o = hearing(&h, 0);
    h.cancel = s;
    assert_int_equal(watt_generate(s, sampler, ids, n, &o, &r, &e), 0);
    assert_int_equal(r.reason, WATT_STOP_CANCELLED);
    assert_int_equal(r.n_generated, 3);
    /* a stop string out of the middle of what it says */
    watt_sampler_close(sampler);
    sampler = sampler_of(m, 1, 4);
    watt_session_reset(s);
    o = hearing(&h, 18);
    assert_int_equal(watt_generate(s, sampler, ids, n, &o, &r, &e), 0);
    if (h.len < 10)
        fail_msg("only %zu bytes: %s", h.len, h.text);
    memcpy(needle, h.text + 5, 4);
    needle[4] = '\0';
    stops[1] = needle;
    watt_session_reset(s);
    watt_sampler_reset(sampler);
    o = hearing(&stopped, 18);
    o.stop = stops;
    o.n_stop = 2;
    assert_int_equal(watt_generate(s, sampler, ids, n, &o, &r, &e), 0);
    assert_int_equal(r.reason, WATT_STOP_STRING);
    assert_true(stopped.len == (size_t)(strstr(h.text, needle) - h.text));
    assert_memory_equal(stopped.text, h.text, stopped.len);
    stops[1] = "";
    assert_int_equal(watt_generate(s, sampler, ids, n, &o, &r, &e), WATT_EINVAL);
    watt_sampler_close(sampler);
    watt_session_close(s);
    watt_model_close(m);
}

/* ---- samplers ---- */

static void samplers_check_options(void **state)
{
    struct watt_model *m = opened(16, 1);
    const struct watt_logit_bias bad = { (int32_t)TINY_VOCAB, 1 }, negative = { -1, 1 },
                                 ban = { 7, -INFINITY };
    struct watt_sampler_options o;
    struct watt_sampler *s = NULL;
    struct watt_logprob top[4];
    float logits[TINY_VOCAB] = { 0 };
    int32_t id;

    (void)state;
    watt_sampler_options_init(&o);
    o.top_p = 2;
    assert_int_equal(watt_sampler_open(&s, m, &o, &e), WATT_EINVAL);
    watt_sampler_options_init(&o);
    o.order = "top_k;nonsense";
    assert_int_equal(watt_sampler_open(&s, m, &o, &e), WATT_EINVAL);
    watt_sampler_options_init(&o);
    o.n_bias = 1;
    assert_int_equal(watt_sampler_open(&s, m, &o, &e), WATT_EINVAL);
    o.bias = &bad;
    assert_int_equal(watt_sampler_open(&s, m, &o, &e), WATT_EINVAL);
    o.bias = &negative;
    assert_int_equal(watt_sampler_open(&s, m, &o, &e), WATT_EINVAL);
    assert_null(s);
    o.bias = &ban;
    o.temperature = 0;
    assert_int_equal(watt_sampler_open(&s, m, &o, &e), 0);
    logits[7] = 9;
    logits[9] = 5;
    assert_int_equal(watt_sampler_sample(s, logits, NULL, &id, &e), 0);
    assert_int_equal(id, 9);
    assert_int_equal(watt_sampler_top_logprobs(s, logits, 4, top), 4);
    assert_int_equal(top[0].id, 7);     /* raw: the ban is not in it */
    assert_true(top[0].logprob < 0 && top[1].logprob < top[0].logprob);
    for (unsigned i = 0; i < TINY_VOCAB; i++)
        logits[i] = NAN;
    assert_int_equal(watt_sampler_sample(s, logits, NULL, &id, &e), WATT_EINVAL);
    watt_sampler_close(s);
    watt_sampler_close(NULL);
    watt_model_close(m);
}

/* ---- a real model ---- */

static void stories_by_heart(void **state)
{
    struct watt_model *m = NULL;
    struct watt_session *s;
    struct watt_sampler *sampler;
    struct watt_model_info i = { .size = sizeof i };
    struct watt_generate_options o;
    static struct heard h;
    char want[4096];
    size_t n;
    FILE *f;

    (void)state;
    SHARED_OR_SKIP("models/stories260K-f32.gguf");
    f = fopen(shared_path("models/stories260K.greedy257.txt"), "rb");
    assert_non_null(f);
    n = fread(want, 1, sizeof want - 1, f);
    (void)fclose(f);
    while (n > 0 && want[n - 1] == '\n')
        n--;
    want[n] = '\0';
    if (watt_model_open(&m, shared_path("models/stories260K-f32.gguf"), NULL, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(watt_model_info(m, &i, &e), 0);
    s = session_of(m);
    sampler = sampler_of(m, 0, 1);
    o = hearing(&h, 256);
    assert_int_equal(watt_generate(s, sampler, &i.bos, 1, &o, NULL, &e), 0);
    /* the file has one token more, a quotation mark */
    assert_int_equal(h.len, n - 1);
    assert_memory_equal(h.text, want, h.len);
    o = hearing(&h, 1);
    assert_int_equal(watt_generate(s, sampler, h.ids, 0, &o, NULL, &e), WATT_EINVAL);
    watt_sampler_close(sampler);
    watt_session_close(s);
    watt_model_close(m);
}

/* ---- another program ---- */

/* examples/complete.c, which knows the header and the shared library only. */
static void the_example_runs(void **state)
{
    char *path = getenv("WATT_EXAMPLE");
    static char first[4096];
    static struct spawned r;

    (void)state;
    if (!path || access(path, X_OK) != 0)
        skip();
    for (int i = 0; i < 2; i++) {
        spawn_program(&r, path, (char *[]){ path, tiny_path, (char *)(uintptr_t)"once", NULL }, NULL, -1);
        assert_int_equal(r.code, 0);
        assert_string_equal(r.err, "");
        assert_true(r.out_len < sizeof first);
        if (i == 0)
            memcpy(first, r.out, r.out_len + 1);
        assert_memory_equal(r.out, first, r.out_len + 1);
    }
    spawn_program(&r, path, (char *[]){ path, (char *)(uintptr_t)"no-such-file.gguf", NULL }, NULL, -1);
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "no-such-file.gguf");
}

/* ---- torture ---- */

static int open_and_speak(void)
{
    const struct watt_model_options mo = { .size = sizeof mo, .n_threads = 1, .n_ctx = 32 };
    struct watt_generate_options o;
    struct watt_model *m = NULL;
    struct watt_session *s = NULL;
    struct watt_sampler *sampler = NULL;
    static struct heard h;
    int32_t ids[8];
    size_t n = 0;
    int rc = watt_model_open(&m, tiny_path, &mo, &e);

    o = hearing(&h, 4);
    if (rc == 0)
        rc = watt_session_open(&s, m, &e);
    if (rc == 0)
        rc = watt_sampler_open(&sampler, m, NULL, &e);
    if (rc == 0)
        rc = watt_tokenize(m, "ab", 2, 0, ids, 8, &n, &e);
    if (rc == 0)
        rc = watt_generate(s, sampler, ids, n, &o, NULL, &e);
    watt_sampler_close(sampler);
    watt_session_close(s);
    watt_model_close(m);
    return rc;
}

static void failed_allocations(void **state)
{
#ifdef WATT_FAULTS
    unsigned long n, failures = 0;

    (void)state;
    for (n = 1; n < 20000; n++) {
        int rc;

        fault_arm(FAULT_ALLOC, n);
        rc = open_and_speak();
        if (fault_arm(FAULT_ALLOC, 0) < n) {
            assert_int_equal(rc, 0);
            break;
        }
        failures += rc < 0;
        assert_true(rc == 0 || rc == WATT_ENOMEM || rc == WATT_ELIMIT);
    }
    assert_true(n < 20000);
    assert_true(failures > 20);
#else
    (void)state;
    assert_int_equal(open_and_speak(), 0);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_that_do_not_open),
        cmocka_unit_test(facts_of_a_model),
        cmocka_unit_test(text_and_back),
        cmocka_unit_test(chat_needs_a_template),
        cmocka_unit_test(sessions_hold_tokens),
        cmocka_unit_test(sessions_do_not_touch_each_other),
        cmocka_unit_test(greedy_equals_taking_the_best),
        cmocka_unit_test(same_seed_same_text),
        cmocka_unit_test(going_on_where_it_ended),
        cmocka_unit_test(answers_end_for_a_reason),
        cmocka_unit_test(samplers_check_options),
        cmocka_unit_test(stories_by_heart),
        cmocka_unit_test(the_example_runs),
        cmocka_unit_test(failed_allocations),
    };

    return cmocka_run_group_tests_name("watt_api", tests, tiny_make, tiny_remove);
}
