/* fuzz_checkpoint.c: the reader of checkpoints. The input is a file, or with a first byte of 'P' changes to
 * a good one: three bytes each, a place and what is written there; place 0xFFFF cuts the file. The position
 * in the data that a file claims is tried even where its hash does not fit. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "models/train/create.h"
#include "models/train/trainer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { VOCAB = 8, CTX = 8, TOKENS = 400 };

static struct {
    bool            made;
    struct model   *model;
    struct shard   *shard;
    struct team    *team;
    struct trainer *t;
    struct dataset *data;
    char           *good;       /* a checkpoint of t's */
    size_t          good_size;
} rig;

static void in(char path[64], const char *folder, const char *name)
{
    (void)snprintf(path, 64, "%s/%s", folder, name);
}

static int make_data(const char *path, struct err *e)
{
    int32_t ids[TOKENS];
    struct shard_writer *w;
    int rc = shard_writer_open(&w, path, VOCAB, 1, false, e);

    for (int i = 0; i < TOKENS; i++)
        ids[i] = i * 5 / 3 % VOCAB;
    if (rc == 0)
        rc = shard_writer_add(w, ids, NULL, TOKENS, true, e);
    return rc == 0 ? shard_writer_commit(w, e) : rc;
}

static int make_rig(const char *model, const char *data, const char *check, struct err *e)
{
    struct create_opts c = { .shape = { .name = "t", .pre = "gpt-2", .n_layers = 1, .n_embd = 8,
                                        .n_ff = 8, .n_heads = 1, .n_kv_heads = 1, .head_dim = 8,
                                        .n_vocab = VOCAB, .n_ctx = 16, .norm_eps = 1e-5f,
                                        .rope_base = 10000, .tied = true }, .seed = 3 };
    struct trainer_opts o = {
        .data = { .ctx = CTX, .max_rows = CTX, .max_streams = 1, .seed = 2, .held = 0.2 },
        .isa_mask = CPU_ALL, .schedule = { SCHEDULE_CONSTANT, 100, 0, 0, 0.01, 0.01 },
        .optim = { .kind = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f },
        .compute = DTYPE_F32, .kv = DTYPE_F32 };
    double curve[2 * CHECKPOINT_CURVE] = { 0 };
    struct dataset_source source = { 0 };
    struct trainer_step s;
    int rc = shape_set_arch(&c.shape, "llama", e);

    rc = rc == 0 ? create_model(model, &c, e) : rc;
    rc = rc == 0 ? make_data(data, e) : rc;
    rc = rc == 0 ? model_open(&rig.model, model, NULL, e) : rc;
    rc = rc == 0 ? shard_open(&rig.shard, data, e) : rc;
    rc = rc == 0 ? team_open(&rig.team, 1, e) : rc;
    source.shard = rig.shard;
    o.team = rig.team;
    rc = rc == 0 ? trainer_open(&rig.t, rig.model, &source, 1, NULL, 0, &o, e) : rc;
    rc = rc == 0 ? dataset_open(&rig.data, &source, 1, &o.data, e) : rc;
    rc = rc == 0 ? trainer_step(rig.t, &s, e) : rc;
    rc = rc == 0 ? trainer_save(rig.t, check, curve, 2, e) : rc;
    return rc == 0 ? file_read(check, 1 << 24, &rig.good, &rig.good_size, e) : rc;
}

static void make(void)
{
    char folder[] = "fuzz_checkpoint.XXXXXX", model[64], data[64], check[64];
    struct err e = { 0 };

    if (!mkdtemp(folder))
        abort();
    in(model, folder, "m.gguf");
    in(data, folder, "d.shard");
    in(check, folder, "c.gguf");
    if (make_rig(model, data, check, &e) < 0) {
        (void)fprintf(stderr, "%s\n", e.msg);
        abort();
    }
    (void)unlink(model);        /* what is open stays */
    (void)unlink(data);
    (void)unlink(check);
    (void)rmdir(folder);
    rig.made = true;
}

static void look(const char *path)
{
    struct checkpoint_state s;
    double *curve;
    size_t n;
    struct err e;

    if (checkpoint_peek(path, &s, &e) == 0) {
        (void)!dataset_seek(rig.data, &s.data, &e);
        checkpoint_state_deinit(&s);
    }
    if (trainer_load(rig.t, path, &curve, &n, &e) == 0) {
        struct trainer_step step;

        mem_free(curve);
        (void)!trainer_step(rig.t, &step, &e);
    }
}

static size_t change(uint8_t *file, const uint8_t *data, size_t size)
{
    size_t n = rig.good_size;

    for (size_t i = 1; i + 3 <= size; i += 3) {
        const size_t at = (size_t)data[i] << 8 | data[i + 1];

        if (at == 0xFFFF)
            n = n * data[i + 2] / 256;
        else
            file[at % rig.good_size] = data[i + 2];
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int fd = memfd_create("checkpoint", MFD_CLOEXEC);
    char path[64];
    uint8_t *file;
    size_t n = size;

    if (!rig.made)
        make();
    file = malloc(size + rig.good_size + 1);
    if (!file || fd < 0)
        abort();
    if (size > 0 && data[0] == 'P') {
        memcpy(file, rig.good, rig.good_size);
        n = change(file, data, size);
    } else if (size > 0) {
        memcpy(file, data, size);
    }
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (write(fd, file, n) == (ssize_t)n)
        look(path);
    (void)close(fd);
    free(file);
    return 0;
}
