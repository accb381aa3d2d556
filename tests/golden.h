/* golden.h: tiny models and their logits from an independent implementation (shared data,
 * folder golden). Include after cmocka.h and shared.h. */
#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"
#include "models/model.h"
#include "models/session.h"

struct golden {
    struct model *m;
    char         *file;             /* the .logits file */
    uint32_t      n, width;
    int32_t      *tokens;           /* [n] */
    float        *logits;           /* [n][width] */
};

static inline void golden_close(struct golden *g)
{
    model_close(g->m);
    mem_free(g->file);
    mem_free(g->tokens);
    mem_free(g->logits);
}

/* golden/NAME.gguf and its .logits; fails the test when they can't be read. */
static inline void golden_open(struct golden *g, const char *name)
{
    char path[128];
    struct err e = { 0 };
    size_t size;
    const uint8_t *b;

    (void)snprintf(path, sizeof path, "golden/%s.gguf", name);
    if (model_open(&g->m, shared_path(path), NULL, &e) < 0)
        fail_msg("%s: %s", name, e.msg);
    (void)snprintf(path, sizeof path, "golden/%s.gguf.logits", name);
    if (file_read(shared_path(path), 1u << 24, &g->file, &size, &e) < 0)
        fail_msg("%s: %s", name, e.msg);
    b = (const uint8_t *)g->file;
    assert_true(size >= 8);
    g->n = load_le32(b);
    g->width = load_le32(b + 4);
    assert_int_equal(size, 8 + 4ull * g->n + 4ull * g->n * g->width);
    g->tokens = mem_array(g->n, sizeof *g->tokens);
    g->logits = mem_array((size_t)g->n * g->width, sizeof *g->logits);
    assert_true(g->tokens && g->logits);
    for (uint32_t i = 0; i < g->n; i++)
        g->tokens[i] = (int32_t)load_le32(b + 8 + 4 * i);
    for (size_t i = 0; i < (size_t)g->n * g->width; i++)
        g->logits[i] = load_le_f32(b + 8 + 4 * ((size_t)g->n + i));
    assert_int_equal(g->width, model_facts(g->m)->n_out);
}

/* All logits, the tokens given in chunks of `chunk` (0: at once). */
static inline void golden_run(const struct golden *g, const struct session_opts *base,
                              uint32_t chunk, float *out)
{
    struct session_opts o = *base;
    struct session *s = NULL;
    struct err e = { 0 };

    o.n_ctx = g->n;
    o.max_rows = o.max_out = g->n;
    if (session_open(&s, g->m, &o, &e) < 0)
        fail_msg("%s", e.msg);
    for (uint32_t at = 0; at < g->n; at += chunk ? chunk : g->n) {
        const uint32_t n = chunk && chunk < g->n - at ? chunk : g->n - at;
        const struct session_input in = { .tokens = g->tokens + at, .n_tokens = n,
                                          .want = SESSION_ALL };

        if (session_eval(s, &in, 1, out + (size_t)at * g->width, &e) < 0)
            fail_msg("%s", e.msg);
    }
    session_close(s);
}

/* Normalised mean squared error. */
static inline double golden_nmse(const float *got, const float *want, size_t n)
{
    double err = 0, ref = 0;

    for (size_t i = 0; i < n; i++) {
        const double d = (double)got[i] - want[i];

        err += d * d;
        ref += (double)want[i] * want[i];
    }
    return isfinite(err) ? err / ref : INFINITY;
}

#endif
