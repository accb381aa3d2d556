/* test_tokenizer_pairs.c: vocabularies of published models with texts and the ids
 * that their original tokenizers gave (shared data, tokenizers/): encode gives
 * those ids, decode gives the text back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "models/gguf.h"
#include "models/tokenizer.h"
#include "shared.h"

#define SEPARATOR "\n__ggml_vocab_test__\n"

static char *read_shared(const char *name, const char *suffix, size_t *size)
{
    char rel[256];
    struct err e = { 0 };
    char *data = NULL;

    (void)snprintf(rel, sizeof rel, "tokenizers/%s%s", name, suffix);
    if (file_read(shared_path(rel), (size_t)64 << 20, &data, size, &e) < 0)
        fail_msg("%s", e.msg);
    return data;
}

static struct tokenizer *open_vocab(const char *name, struct gguf **g)
{
    char rel[256];
    struct err e = { 0 };
    struct tokenizer *t = NULL;
    uint64_t t0;

    (void)snprintf(rel, sizeof rel, "tokenizers/%s", name);
    if (gguf_open(g, shared_path(rel), &e) < 0)
        fail_msg("%s", e.msg);
    t0 = clock_mono_ns();
    if (tokenizer_open(&t, *g, &e) < 0)
        fail_msg("%s", e.msg);
    (void)fprintf(stderr, "%s: %u tokens opened in %.1f ms\n", name, tokenizer_n_vocab(t),
                  (double)(clock_mono_ns() - t0) * 1e-6);
    return t;
}

/* One text and its line of ids; *line moves behind it. */
static unsigned check_text(const struct tokenizer *t, const char *text, size_t len, char **line)
{
    struct tokens got = { 0 };
    struct str back;
    struct err e = { 0 };
    unsigned wrong = 0;
    char *p = *line, *end = strchr(p, '\n');
    size_t k = 0;

    if (!end)
        end = p + strlen(p);
    if (tokenizer_encode(t, NULL, text, len, 0, &got, &e) < 0)
        fail_msg("%s", e.msg);
    for (; p < end; k++) {
        char *next;
        const long id = strtol(p, &next, 10);

        if (next == p || next > end)
            break;
        if (k >= got.n || got.ids[k] != id)
            wrong = 1;
        p = next;
    }
    if (k != got.n)
        wrong = 1;
    if (wrong) {
        (void)fprintf(stderr, "text \"%.*s\"\n  expected %.*s\n  got     ", (int)len, text,
                      (int)(end - *line), *line);
        for (size_t i = 0; i < got.n; i++)
            (void)fprintf(stderr, " %d", got.ids[i]);
        (void)fprintf(stderr, "\n");
    }
    *line = *end ? end + 1 : end;
    str_init(&back, 0);
    if (tokenizer_type(t) != TOKENIZER_WPM) {
        assert_int_equal(tokenizer_decode(t, got.ids, got.n, 0, &back, &e), 0);
        if (back.len != len || (len > 0 && memcmp(back.data, text, len) != 0)) {
            (void)fprintf(stderr, "text \"%.*s\" comes back as \"%s\"\n", (int)len, text,
                          str_cstr(&back));
            wrong = 1;
        }
    }
    str_deinit(&back);
    tokens_deinit(&got);
    return wrong;
}

static void check_vocab(void **state)
{
    const char *name = *state;
    size_t n_in, n_out;
    char *in, *out, *line, rel[256];
    struct gguf *g = NULL;
    struct tokenizer *t;
    unsigned wrong = 0, n = 0;

    (void)snprintf(rel, sizeof rel, "tokenizers/%s", name);
    SHARED_OR_SKIP(rel);
    t = open_vocab(name, &g);
    gguf_close(g);
    in = read_shared(name, ".inp", &n_in);
    out = line = read_shared(name, ".out", &n_out);
    for (const char *p = in;;) {
        const char *sep = strstr(p, SEPARATOR);
        const size_t len = sep ? (size_t)(sep - p) : (size_t)(in + n_in - p);

        if (!sep && len == 0 && !*line)
            break;
        wrong += check_text(t, p, len, &line);
        n++;
        if (!sep)
            break;
        p = sep + sizeof SEPARATOR - 1;
    }
    if (wrong)
        (void)fprintf(stderr, "%s: %u of %u texts wrong\n", name, wrong, n);
    assert_int_equal(wrong, 0);
    assert_true(n > 40);
    mem_free(in);
    mem_free(out);
    tokenizer_close(t);
}

#define PAIR(name) { name, check_vocab, NULL, NULL, (void *)(uintptr_t)("ggml-vocab-" name ".gguf") }

int main(void)
{
    const struct CMUnitTest tests[] = {
        PAIR("bert-bge"),  PAIR("deepseek-llm"), PAIR("falcon"), PAIR("gpt-2"),  PAIR("gpt-4o"),
        PAIR("llama-bpe"), PAIR("llama-spm"),    PAIR("qwen2"),  PAIR("refact"),
    };

    return cmocka_run_group_tests_name("tokenizer_pairs", tests, NULL, NULL);
}
