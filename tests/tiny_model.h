/* tiny_model.h: a model file of random weights, made in a moment, so that tests
 * need no data. Include after cmocka.h. */
#ifndef TESTS_TINY_MODEL_H
#define TESTS_TINY_MODEL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/gguf.h"
#include "models/synth.h"

#define TINY_VOCAB 320u
#define TINY_CTX   128u

static char tiny_dir[] = "watt-tiny-XXXXXX";
static char tiny_path[64];      /* the file */
static char bare_path[64];      /* the same without a chat template */

/* A copy of a model file without one of its keys. */
static inline int tiny_copy_without(const char *from, const char *to, const char *key, struct err *e)
{
    struct gguf_writer *w = NULL;
    struct gguf *g = NULL;
    int rc = gguf_open(&g, from, e);

    if (rc == 0)
        rc = gguf_writer_open(&w, to, e);
    for (size_t i = 0; rc == 0 && i < gguf_n_kv(g); i++)
        if (!sv_eq_cstr(gguf_kv_at(g, i)->key, key))
            rc = gguf_writer_copy(w, gguf_kv_at(g, i), e);
    for (size_t i = 0; rc == 0 && i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char name[GGUF_MAX_NAME_BYTES + 1];

        (void)snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        rc = gguf_writer_tensor(w, name, t->t.dtype, t->t.n_dims, t->t.shape, e);
    }
    if (rc == 0)
        rc = gguf_writer_begin(w, e);
    for (size_t i = 0; rc == 0 && i < gguf_n_tensors(g); i++) {
        const struct tensor *t = &gguf_tensor_at(g, i)->t;
        uint64_t size = 0, rows = 1;

        for (int d = 0; d + 1 < t->n_dims; d++)
            rows *= (uint64_t)t->shape[d];
        assert_true(dtype_row_bytes(t->dtype, (uint64_t)t->shape[t->n_dims - 1], &size));
        rc = gguf_writer_data(w, t->data, (size_t)(size * rows), e);
    }
    if (rc == 0)
        rc = gguf_writer_commit(w, e);
    else
        gguf_writer_abort(w);
    gguf_close(g);
    return rc;
}

/* Group set-up and tear-down: the files, in a directory of their own. */
static inline int tiny_make(void **state)
{
    struct shape s = { .name = "tiny", .pre = "gpt-2", .n_layers = 2, .n_embd = 64, .n_ff = 128,
                       .n_heads = 4, .n_kv_heads = 2, .head_dim = 16, .n_vocab = TINY_VOCAB,
                       .n_ctx = TINY_CTX, .norm_eps = 1e-5f, .rope_base = 10000 };
    const struct synth_opts o = { .seed = 3, .n_threads = 1 };
    struct err e = { 0 };

    (void)state;
    assert_non_null(mkdtemp(tiny_dir));
    (void)snprintf(tiny_path, sizeof tiny_path, "%s/tiny.gguf", tiny_dir);
    (void)snprintf(bare_path, sizeof bare_path, "%s/bare.gguf", tiny_dir);
    if (shape_set_arch(&s, "llama", &e) < 0 || synth_write(tiny_path, &s, &o, &e) < 0
        || tiny_copy_without(tiny_path, bare_path, "tokenizer.chat_template", &e) < 0)
        fail_msg("%s", e.msg);
    return 0;
}

static inline int tiny_remove(void **state)
{
    (void)state;
    (void)unlink(tiny_path);
    (void)unlink(bare_path);
    (void)rmdir(tiny_dir);
    return 0;
}

#endif
