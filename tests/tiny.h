/* tiny.h: small model files of random weights in a temporary folder. Include after
 * cmocka.h. */
#ifndef TESTS_TINY_H
#define TESTS_TINY_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/model.h"
#include "models/shape.h"
#include "models/synth.h"

/* 2 layers, 256 wide: wide enough for the types with blocks of 256. */
static inline struct shape tiny_shape(const char *arch)
{
    struct shape s = { .name = "tiny", .pre = "llama-bpe", .n_layers = 2, .n_embd = 256,
                       .n_ff = 512, .n_heads = 4, .n_kv_heads = 2, .head_dim = 64,
                       .n_vocab = 320, .n_ctx = 512, .norm_eps = 1e-5f, .rope_base = 10000 };
    struct err e = { 0 };

    if (shape_set_arch(&s, arch, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

/* Writes the model, opens it and removes the file, which stays mapped. */
static inline struct model *tiny_open(const struct shape *s, enum quant_mix mix)
{
    const struct synth_opts o = { .mix = mix, .pure = true, .seed = 7, .n_threads = 1 };
    char dir[] = "watt-tiny-XXXXXX", path[64];
    struct model *m = NULL;
    struct err e = { 0 };
    int rc;

    if (!mkdtemp(dir))
        fail_msg("no temporary folder");
    (void)snprintf(path, sizeof path, "%s/m.gguf", dir);
    rc = synth_write(path, s, &o, &e);
    if (rc == 0)
        rc = model_open(&m, path, NULL, &e);
    (void)unlink(path);
    (void)rmdir(dir);
    if (rc < 0)
        fail_msg("%s", e.msg);
    return m;
}

#endif
