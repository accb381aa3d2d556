/* bench_tokenize.c: speed of opening a vocabulary, encoding and decoding.
 *
 *     bench_tokenize VOCABULARY.gguf TEXT-FILE [SECONDS]
 *
 * Prints milliseconds to open and MB/s of text on one core, in processor time:
 * medians of passes
 * over the file with one thread's scratch, as a server's worker has it, and the
 * first pass, whose cache of words is empty. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/file.h"
#include "base/mem.h"
#include "models/gguf.h"
#include "models/tokenizer.h"

#define MAX_PASSES 1000

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

/* This thread's own time: other work on the machine doesn't count. */
static uint64_t cpu_ns(void)
{
    struct timespec ts = { 0 };

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static double seconds_since(uint64_t t0) { return (double)(cpu_ns() - t0) * 1e-9; }

static int bench_open(const struct gguf *g, struct tokenizer **t, struct err *e)
{
    double ms[9];

    for (size_t i = 0; i < 9; i++) {
        const uint64_t t0 = cpu_ns();
        int rc;

        tokenizer_close(*t);
        *t = NULL;
        rc = tokenizer_open(t, g, e);
        if (rc < 0)
            return rc;
        ms[i] = seconds_since(t0) * 1e3;
    }
    (void)printf("open    %8.1f ms (%u tokens, %u merges)\n", median(ms, 9),
                 tokenizer_n_vocab(*t), tokenizer_n_merges(*t));
    return 0;
}

static int bench_text(const struct tokenizer *t, const char *text, size_t len, double seconds,
                      struct err *e)
{
    struct tokenizer_scratch *s = NULL;
    struct tokens v = { 0 };
    struct str back;
    double enc[MAX_PASSES], dec[MAX_PASSES], first = 0;
    const uint64_t start = cpu_ns();
    size_t n = 0;
    int rc = tokenizer_scratch_open(&s, t, e);

    str_init(&back, 0);
    while (rc == 0 && n < MAX_PASSES && (n < 3 || seconds_since(start) < seconds)) {
        uint64_t t0 = cpu_ns();

        v.n = 0;
        rc = tokenizer_encode(t, s, text, len, 0, &v, e);
        enc[n] = seconds_since(t0);
        if (n == 0)
            first = enc[0];
        str_reset(&back);
        t0 = cpu_ns();
        if (rc == 0)
            rc = tokenizer_decode(t, v.ids, v.n, 0, &back, e);
        dec[n++] = seconds_since(t0);
    }
    if (rc == 0) {
        (void)printf("encode  %8.1f MB/s (first pass %.1f), %zu tokens, %.2f bytes a token\n",
                     (double)len / median(enc, n) * 1e-6, (double)len / first * 1e-6, v.n,
                     (double)len / (double)v.n);
        (void)printf("decode  %8.1f MB/s\n", (double)len / median(dec, n) * 1e-6);
    }
    tokenizer_scratch_close(s);
    tokens_deinit(&v);
    str_deinit(&back);
    return rc;
}

int main(int argc, char **argv)
{
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    char *text = NULL;
    size_t len = 0;
    int rc;

    if (argc < 3) {
        (void)fprintf(stderr, "usage: bench_tokenize VOCABULARY.gguf TEXT-FILE [SECONDS]\n");
        return 2;
    }
    rc = file_read(argv[2], (size_t)1 << 30, &text, &len, &e);
    if (rc == 0)
        rc = gguf_open(&g, argv[1], &e);
    if (rc == 0)
        rc = bench_open(g, &t, &e);
    if (rc == 0)
        rc = bench_text(t, text, len, argc > 3 ? strtod(argv[3], NULL) : 3, &e);
    if (rc < 0)
        (void)fprintf(stderr, "bench_tokenize: %s\n", e.msg);
    tokenizer_close(t);
    gguf_close(g);
    mem_free(text);
    return rc < 0;
}
