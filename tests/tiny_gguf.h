/* tiny_gguf.h: model files of random weights from a list of keys and tensors, for
 * architectures that `watt synth` has no shapes of. Include after cmocka.h. */
#ifndef TESTS_TINY_GGUF_H
#define TESTS_TINY_GGUF_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/gguf.h"
#include "models/model.h"

struct tiny_key {
    const char *name;       /* without the architecture in front */
    double      value;
    bool        is_float;
};

struct tiny_tensor {
    const char *name;
    int64_t     shape[4];   /* outermost first, zeros behind */
    float       mean, deviation;
};

static inline int tiny_describe(struct gguf_writer *w, const char *arch, const struct tiny_key *keys,
                                size_t n_keys, const struct tiny_tensor *ts, size_t n_ts,
                                struct err *e)
{
    int rc = gguf_writer_str(w, "general.architecture", sv_cstr(arch), e);

    for (size_t i = 0; rc == 0 && i < n_keys; i++) {
        char name[128];

        (void)snprintf(name, sizeof name, "%s.%s", arch, keys[i].name);
        rc = keys[i].is_float ? gguf_writer_f32(w, name, (float)keys[i].value, e)
                              : gguf_writer_u32(w, name, (uint32_t)keys[i].value, e);
    }
    for (size_t i = 0; rc == 0 && i < n_ts; i++) {
        int n_dims = 0;

        while (n_dims < 4 && ts[i].shape[n_dims])
            n_dims++;
        rc = gguf_writer_tensor(w, ts[i].name, DTYPE_F32, n_dims, ts[i].shape, e);
    }
    return rc == 0 ? gguf_writer_begin(w, e) : rc;
}

static inline int tiny_fill(struct gguf_writer *w, const struct tiny_tensor *t, struct rng *rng,
                            struct err *e)
{
    size_t n = 1;
    float *x;
    int rc;

    for (int d = 0; d < 4 && t->shape[d]; d++)
        n *= (size_t)t->shape[d];
    x = mem_array(n, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = t->mean + t->deviation * (float)rng_normal(rng);
    rc = gguf_writer_data(w, x, n * sizeof *x, e);
    mem_free(x);
    return rc;
}

/* Writes the file, opens it and removes it; it stays mapped. */
static inline struct model *tiny_gguf(const char *arch, const struct tiny_key *keys, size_t n_keys,
                                      const struct tiny_tensor *ts, size_t n_ts, uint64_t seed)
{
    char dir[] = "watt-tiny-XXXXXX", path[64];
    struct gguf_writer *w = NULL;
    struct model *m = NULL;
    struct err e = { 0 };
    struct rng rng;
    int rc;

    rng_init(&rng, seed);
    if (!mkdtemp(dir))
        fail_msg("no temporary folder");
    (void)snprintf(path, sizeof path, "%s/m.gguf", dir);
    rc = gguf_writer_open(&w, path, &e);
    if (rc == 0)
        rc = tiny_describe(w, arch, keys, n_keys, ts, n_ts, &e);
    for (size_t i = 0; rc == 0 && i < n_ts; i++)
        rc = tiny_fill(w, &ts[i], &rng, &e);
    if (rc == 0)
        rc = gguf_writer_commit(w, &e);
    else
        gguf_writer_abort(w);
    if (rc == 0)
        rc = model_open(&m, path, NULL, &e);
    (void)unlink(path);
    (void)rmdir(dir);
    if (rc < 0)
        fail_msg("%s", e.msg);
    return m;
}

/* A layer of Mamba-2, one of attention, one of a feed-forward: every kind of state. */
static inline struct model *tiny_hybrid(void)
{
    static const struct tiny_key keys[] = {
        { "embedding_length", 64, false }, { "block_count", 3, false },
        { "context_length", 512, false }, { "attention.head_count", 4, false },
        { "attention.head_count_kv", 2, false }, { "attention.key_length", 16, false },
        { "attention.value_length", 16, false }, { "ssm.inner_size", 64, false },
        { "ssm.state_size", 16, false }, { "ssm.time_step_rank", 4, false },
        { "ssm.conv_kernel", 4, false }, { "ssm.group_count", 2, false },
        { "feed_forward_length", 96, false }, { "attention.layer_norm_rms_epsilon", 1e-5, true },
    };
    static const struct tiny_tensor ts[] = {
        { "token_embd.weight", { 96, 64 }, 0, 1 },
        { "output_norm.weight", { 64 }, 1, 0.1f },
        { "output.weight", { 96, 64 }, 0, 0.2f },
        { "blk.0.attn_norm.weight", { 64 }, 1, 0.1f },
        { "blk.0.ssm_in.weight", { 196, 64 }, 0, 0.2f },
        { "blk.0.ssm_conv1d.weight", { 128, 4 }, 0, 0.5f },
        { "blk.0.ssm_conv1d.bias", { 128 }, 0, 0.2f },
        { "blk.0.ssm_dt.bias", { 4 }, -1, 0.5f },
        { "blk.0.ssm_a", { 4, 1 }, -0.5f, 0.1f },
        { "blk.0.ssm_d", { 4, 1 }, 1, 0.1f },
        { "blk.0.ssm_norm.weight", { 2, 32 }, 1, 0.1f },
        { "blk.0.ssm_out.weight", { 64, 64 }, 0, 0.2f },
        { "blk.1.attn_norm.weight", { 64 }, 1, 0.1f },
        { "blk.1.attn_q.weight", { 64, 64 }, 0, 0.2f },
        { "blk.1.attn_k.weight", { 32, 64 }, 0, 0.2f },
        { "blk.1.attn_v.weight", { 32, 64 }, 0, 0.2f },
        { "blk.1.attn_output.weight", { 64, 64 }, 0, 0.2f },
        { "blk.2.attn_norm.weight", { 64 }, 1, 0.1f },
        { "blk.2.ffn_up.weight", { 96, 64 }, 0, 0.2f },
        { "blk.2.ffn_down.weight", { 64, 96 }, 0, 0.2f },
    };

    return tiny_gguf("nemotron_h", keys, sizeof keys / sizeof *keys, ts, sizeof ts / sizeof *ts, 5);
}

#endif
