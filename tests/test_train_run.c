/* test_train_run.c: training runs: losses are the same bits for any number of threads and across
 * being interrupted anywhere, by checkpoints of the version before too; what is exported gives the
 * trainer's logits when served; damaged checkpoints, full disks and losses that are not finite are
 * errors that change nothing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <xxhash.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "chips/cpu/features.h"
#include "models/session.h"
#include "models/train/create.h"
#include "models/train/shard.h"
#include "models/train/trainer.h"
#include "remove_tree.h"

enum { VOCAB = 48, CTX = 16, BATCH = 4, TOKENS = 4000 };

static char dir[] = "test_train_run.XXXXXX";
static char shard_path_[64], check_path[64], other_path[64], model_path[64];

static void write_shard(const char *to, uint64_t seed)
{
    struct shard_writer *w;
    struct rng rng;
    struct err e;
    int32_t *ids = mem_array(TOKENS, sizeof *ids);
    uint32_t at = 0;

    /* a text that can be learned: mostly each token's follower by a fixed rule */
    rng_init(&rng, seed);
    for (uint32_t i = 0; i < TOKENS; i++) {
        at = rng_below(&rng, 8) ? (at * 5 + 3) % VOCAB : rng_below(&rng, VOCAB);
        ids[i] = (int32_t)at;
    }
    assert_int_equal(shard_writer_open(&w, to, VOCAB, 1, false, &e), 0);
    for (uint32_t i = 0; i < TOKENS; i += 40)
        assert_int_equal(shard_writer_add(w, ids + i, NULL, 40, true, &e), 0);
    assert_int_equal(shard_writer_commit(w, &e), 0);
    mem_free(ids);
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(shard_path_, sizeof shard_path_, "%s/a.shard", dir);
    (void)snprintf(check_path, sizeof check_path, "%s/c.gguf", dir);
    (void)snprintf(other_path, sizeof other_path, "%s/d.gguf", dir);
    (void)snprintf(model_path, sizeof model_path, "%s/m.gguf", dir);
    write_shard(shard_path_, 1);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return remove_tree(dir);
}

/* ---- rigs ---- */

struct rig {
    struct model   *model;
    struct shard   *shard;
    struct team    *team;
    struct trainer *t;
};

static struct model *new_model(const char *arch)
{
    struct create_opts c = { .shape = { .name = "t", .pre = "gpt-2", .n_layers = 2, .n_embd = 32,
                                        .n_ff = 64, .n_heads = 2, .n_kv_heads = 2, .head_dim = 16,
                                        .n_vocab = VOCAB, .n_ctx = 64, .norm_eps = 1e-5f,
                                        .rope_base = 10000, .tied = true },
                             .seed = 3 };
    struct model *m;
    struct err e;

    assert_int_equal(shape_set_arch(&c.shape, arch, &e), 0);
    if (strcmp(arch, "gpt2") == 0)
        c.shape.rope_base = 0;
    if (strcmp(arch, "qwen3moe") == 0) {
        c.shape.n_experts = 4;
        c.shape.n_experts_used = 2;
    }
    if (create_model(model_path, &c, &e) < 0 || model_open(&m, model_path, NULL, &e) < 0)
        fail_msg("%s", e.msg);
    return m;
}

static struct trainer_opts options(void)
{
    return (struct trainer_opts){
        .data = { .ctx = CTX, .max_rows = CTX * BATCH, .max_streams = BATCH, .held = 0.1,
                  .seed = 11 },
        .accum = 2, .eval_batches = 3, .isa_mask = CPU_ALL, .seed = 11,
        .optim = { .kind = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f,
                   .momentum = 0.95f, .weight_decay = 0.1f, .clip = 1 },
        .schedule = { SCHEDULE_COSINE, 40, 4, 0, 0.01, 0.001 },
        .compute = DTYPE_F32, .kv = DTYPE_F32,
    };
}

static struct rig *rig_open(const char *arch, struct trainer_opts o, unsigned threads)
{
    struct rig *r = mem_calloc(1, sizeof *r);
    struct dataset_source src = { 0 };
    struct err e;

    assert_non_null(r);
    r->model = new_model(arch);
    if (shard_open(&r->shard, shard_path_, &e) < 0 || team_open(&r->team, threads, &e) < 0)
        fail_msg("%s", e.msg);
    src.shard = r->shard;
    o.team = r->team;
    if (trainer_open(&r->t, r->model, &src, 1, NULL, 0, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return r;
}

static void rig_close(struct rig *r)
{
    trainer_close(r->t);
    team_close(r->team);
    shard_close(r->shard);
    model_close(r->model);
    mem_free(r);
}

static void steps(struct rig *r, double *loss, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct trainer_step s;
        struct err e;

        if (trainer_step(r->t, &s, &e) < 0)
            fail_msg("%s", e.msg);
        loss[i] = s.loss;
    }
}

static void load(struct rig *r, const char *from)
{
    double *curve;
    size_t n;
    struct err e;

    if (trainer_load(r->t, from, &curve, &n, &e) < 0)
        fail_msg("%s", e.msg);
    mem_free(curve);
}

/* Options that bring all of the state into play. */
static struct trainer_opts rich(enum optim_kind kind)
{
    struct trainer_opts o = options();

    o.optim.kind = kind;
    o.optim.ema = 0.9f;
    o.dropout = 0.2f;
    o.attn_dropout = 0.1f;
    o.data.documents = true;
    o.data.max_streams = 12;
    return o;
}

/* ---- learning ---- */

static void learns(const char *arch, enum optim_kind kind)
{
    struct trainer_opts o = options();
    struct trainer_eval before, after;
    double loss[40];
    struct rig *r;
    struct err e;

    o.optim.kind = kind;
    o.balance = 0.01f;
    r = rig_open(arch, o, 2);
    assert_int_equal(trainer_validate(r->t, &before, &e), 0);
    steps(r, loss, 40);
    assert_int_equal(trainer_validate(r->t, &after, &e), 0);
    assert_true(fabs(before.loss - log(VOCAB)) < 0.3);      /* nothing known at first */
    if (!(after.loss < before.loss - 0.8 && loss[39] < loss[0] - 0.8))
        fail_msg("%s: from %g to %g", arch, before.loss, after.loss);
    assert_int_equal(trainer_n_steps(r->t), 40);
    assert_int_equal(trainer_n_tokens(r->t), 40 * 2 * CTX * BATCH);
    rig_close(r);
}

static void test_learns(void **state)
{
    (void)state;
    learns("llama", OPTIM_ADAMW);
    learns("llama", OPTIM_MUON);
    learns("qwen3", OPTIM_MUON);
    learns("gpt2", OPTIM_ADAMW);
    learns("qwen3moe", OPTIM_ADAMW);
}

/* ---- bits ---- */

static void same_threads(const struct trainer_opts *o)
{
    double one[12], more[12];
    struct rig *r = rig_open("llama", *o, 1);

    steps(r, one, 12);
    rig_close(r);
    for (unsigned threads = 2; threads <= 3; threads++) {
        r = rig_open("llama", *o, threads);
        steps(r, more, 12);
        assert_memory_equal(one, more, sizeof one);
        rig_close(r);
    }
}

static void test_threads(void **state)
{
    struct trainer_opts o = rich(OPTIM_ADAMW);

    (void)state;
    same_threads(&o);
    o = rich(OPTIM_MUON);
    same_threads(&o);
    o = options();
    o.compute = DTYPE_BF16;
    o.kv = DTYPE_F16;
    same_threads(&o);
}

/* Saved after any step and taken up again: the losses, validations and weights that would have
 * been. */
static void resumes(const struct trainer_opts *o)
{
    double whole[12], rest[12];
    struct trainer_eval end, again;
    struct rig *r = rig_open("llama", *o, 1);
    char *a, *b;
    size_t n_a, n_b;
    struct err e;

    steps(r, whole, 12);
    assert_int_equal(trainer_validate(r->t, &end, &e), 0);
    assert_int_equal(trainer_save(r->t, other_path, NULL, 0, &e), 0);
    rig_close(r);
    assert_int_equal(file_read(other_path, 1 << 30, &a, &n_a, &e), 0);
    for (unsigned at = 0; at < 12; at += 5) {
        r = rig_open("llama", *o, 2);
        steps(r, rest, at);
        if (at == 5)        /* validating beside changes nothing */
            assert_int_equal(trainer_validate(r->t, &again, &e), 0);
        if (trainer_save(r->t, check_path, NULL, 0, &e) < 0)
            fail_msg("%s", e.msg);
        rig_close(r);
        r = rig_open("llama", *o, 3);
        load(r, check_path);
        assert_int_equal(trainer_n_steps(r->t), at);
        steps(r, rest + at, 12 - at);
        assert_memory_equal(whole, rest, sizeof whole);
        assert_int_equal(trainer_validate(r->t, &again, &e), 0);
        assert_true(again.loss == end.loss);
        assert_int_equal(trainer_save(r->t, other_path, NULL, 0, &e), 0);
        rig_close(r);
        assert_int_equal(file_read(other_path, 1 << 30, &b, &n_b, &e), 0);
        assert_int_equal(n_a, n_b);
        assert_memory_equal(a, b, n_a);
        mem_free(b);
    }
    mem_free(a);
}

static void test_resume(void **state)
{
    struct trainer_opts o = rich(OPTIM_ADAMW);

    (void)state;
    resumes(&o);
    o = rich(OPTIM_MUON);
    resumes(&o);
    o = options();
    o.optim.kind = OPTIM_SGD;
    resumes(&o);
}

/* A trainer whose loading failed goes on as if nobody had asked. */
static void refuses(struct rig *r, const char *from, int code, const char *says)
{
    double *curve;
    size_t n;
    struct err e;
    const int rc = trainer_load(r->t, from, &curve, &n, &e);

    if (rc != code || !strstr(e.msg, says))
        fail_msg("wanted %d \"%s\", got %d \"%s\"", code, says, rc, rc < 0 ? e.msg : "");
}

/* Two steps, saved to check_path, and four more; a rig that has done none of them. */
static struct rig *saved_after_two(const struct trainer_opts *o, double whole[6])
{
    struct rig *r = rig_open("llama", *o, 1);
    struct err e;

    steps(r, whole, 2);
    assert_int_equal(trainer_save(r->t, check_path, NULL, 0, &e), 0);
    steps(r, whole + 2, 4);
    rig_close(r);
    return rig_open("llama", *o, 1);
}

/* ---- the format before: version 1 ---- */

static void hash_bytes(XXH3_state_t *h, const void *p, size_t n)
{
    const uint64_t size = n;

    (void)XXH3_64bits_update(h, &size, sizeof size);
    (void)XXH3_64bits_update(h, p, n);
}

static void hash_array(XXH3_state_t *h, const struct gguf_kv *kv, uint64_t per, uint64_t i)
{
    (void)XXH3_64bits_update(h, kv->data + 8 * per * i, 8 * per);
}

/* The hash as version 1 had it: state, curve, weights, moments. */
static uint64_t old_hash(const struct gguf *g, const struct rig *r, const double *curve, size_t n)
{
    static const char *const words[] = { "train.step", "train.tokens", "train.calls",
                                         "train.drawn" };
    const struct gguf_kv *place = gguf_find(g, "train.place"), *data = gguf_find(g, "train.data");
    const struct train *t = trainer_train(r->t);
    XXH3_state_t *h = XXH3_createState();
    struct sv setup;
    uint64_t out;
    struct err e;

    assert_true(h && place && data);
    (void)XXH3_64bits_reset(h);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(gguf_get_u64(g, words[i], &out, &e), 0);
        (void)XXH3_64bits_update(h, &out, sizeof out);
    }
    (void)XXH3_64bits_update(h, &data->n, sizeof data->n);
    for (uint64_t i = 0; i < data->n; i++) {
        hash_array(h, place, 3, i);
        hash_array(h, data, 1, i);
    }
    assert_int_equal(gguf_get_str(g, "train.setup", &setup, &e), 0);
    hash_bytes(h, setup.data, setup.len);
    hash_bytes(h, curve, n * sizeof *curve);
    for (uint32_t i = 0; i < train_n_params(t); i++) {
        const struct gguf_tensor *x = gguf_find_tensor(g, train_param(t, i)->name);

        if (train_param(t, i)->trains)
            hash_bytes(h, x->t.data, (size_t)x->t.size_bytes);
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *x = gguf_tensor_at(g, i);

        if (sv_starts(x->name, SV("opt.")))
            hash_bytes(h, x->t.data, (size_t)x->t.size_bytes);
    }
    out = XXH3_64bits_digest(h);
    (void)XXH3_freeState(h);
    return out;
}

/* The checkpoint `from` to `to`, its keys but some: they are written between the two. */
static struct gguf_writer *copy_begin(const char *to, const struct gguf *from,
                                      const char *const *but, size_t n_but)
{
    struct gguf_writer *w;
    struct err e;

    assert_int_equal(gguf_writer_open(&w, to, &e), 0);
    for (size_t i = 0; i < gguf_n_kv(from); i++) {
        const struct gguf_kv *kv = gguf_kv_at(from, i);
        bool copy = true;

        for (size_t k = 0; k < n_but; k++)
            copy &= !sv_eq_cstr(kv->key, but[k]);
        if (copy)
            assert_int_equal(gguf_writer_copy(w, kv, &e), 0);
    }
    return w;
}

static void copy_end(struct gguf_writer *w, const struct gguf *from)
{
    struct err e;

    for (size_t i = 0; i < gguf_n_tensors(from); i++) {
        const struct gguf_tensor *x = gguf_tensor_at(from, i);
        char name[128];

        (void)snprintf(name, sizeof name, "%.*s", (int)x->name.len, x->name.data);
        assert_int_equal(gguf_writer_tensor(w, name, x->t.dtype, x->t.n_dims, x->t.shape, &e), 0);
    }
    assert_int_equal(gguf_writer_begin(w, &e), 0);
    for (size_t i = 0; i < gguf_n_tensors(from); i++)
        assert_int_equal(gguf_writer_data(w, gguf_tensor_at(from, i)->t.data,
                                          (size_t)gguf_tensor_at(from, i)->t.size_bytes, &e), 0);
    assert_int_equal(gguf_writer_commit(w, &e), 0);
}

/* The checkpoint `from` as version 1 to `to`, with that version's curve of six columns. */
static void write_old(const char *to, const char *from, const struct rig *r, const double *curve,
                      size_t n, uint64_t spoil)
{
    static const char *const changed[] = { "train.version", "train.curve", "train.hash" };
    struct gguf_writer *w;
    struct gguf *g;
    struct err e;

    assert_int_equal(gguf_open(&g, from, &e), 0);
    w = copy_begin(to, g, changed, 3);
    assert_int_equal(gguf_writer_u32(w, "train.version", 1, &e), 0);
    assert_int_equal(gguf_writer_array(w, "train.curve", GGUF_F64, curve, n, &e), 0);
    assert_int_equal(gguf_writer_u64(w, "train.hash", old_hash(g, r, curve, n) ^ spoil, &e), 0);
    copy_end(w, g);
    gguf_close(g);
}

/* Setups that no trainer writes: empty, of other parts, as long as can be and ending in a comma. */
static void test_odd_setups(void **state)
{
    static const char *const setup = "train.setup";
    const struct trainer_opts o = options();
    char full[512];
    const char *const odd[] = { "", ",", "a,", ", ", ",,,,", "seed 12", full };
    struct rig *r = rig_open("llama", o, 1);
    struct gguf_writer *w;
    struct gguf *g;
    struct err e;

    (void)state;
    memset(full, 'x', sizeof full);
    full[510] = ',';
    full[511] = '\0';
    assert_int_equal(trainer_save(r->t, check_path, NULL, 0, &e), 0);
    assert_int_equal(gguf_open(&g, check_path, &e), 0);
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        w = copy_begin(other_path, g, &setup, 1);
        assert_int_equal(gguf_writer_str(w, setup, sv_cstr(odd[i]), &e), 0);
        copy_end(w, g);
        refuses(r, other_path, WATT_EINVAL,
                odd[i] == full ? "made with x" : "this run has optimizer adamw");
        refuses(r, other_path, WATT_EINVAL, odd[i] == full ? "x; this run has optimizer adamw" : "");
    }
    gguf_close(g);
    rig_close(r);
}

static void test_version_1(void **state)
{
    const double old[12] = { 1, 128, 3.9, NAN, 0.001, 2.5, 2, 256, 3.8, 3.7, 0.002, 2.25 };
    const struct trainer_opts o = rich(OPTIM_MUON);
    double whole[6], rest[6], *curve;
    struct rig *r = saved_after_two(&o, whole);
    size_t n;
    struct err e;

    (void)state;
    write_old(other_path, check_path, r, old, 12, 1);
    refuses(r, other_path, WATT_EFORMAT, "damaged");
    write_old(other_path, check_path, r, old, 11, 0);
    refuses(r, other_path, WATT_EFORMAT, "no multiple of 6");
    write_old(other_path, check_path, r, old, 12, 0);
    if (trainer_load(r->t, other_path, &curve, &n, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(n, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_memory_equal(curve + i * CHECKPOINT_CURVE, old + i * 6, 6 * sizeof *old);
        assert_true(isnan(curve[i * CHECKPOINT_CURVE + 6]));     /* joules */
    }
    steps(r, rest + 2, 4);
    assert_memory_equal(whole + 2, rest + 2, 4 * sizeof *rest);
    assert_int_equal(trainer_save(r->t, check_path, curve, n, &e), 0);   /* as version 2 */
    mem_free(curve);
    load(r, check_path);
    rig_close(r);
}

/* The exported model served gives the trainer's logits, bit for bit. */
static void serves(const char *arch, enum dtype compute)
{
    struct trainer_opts o = options();
    const uint32_t rows = CTX;
    int32_t token[CTX], target[CTX];
    struct train_batch b = { .n_rows = rows, .n_streams = 1, .stream_rows = &rows, .token = token,
                             .target = target };
    struct session_opts so = { .n_threads = 2 };
    float *want = mem_array(CTX * VOCAB, sizeof *want), *got = mem_array(CTX * VOCAB, sizeof *got);
    struct session_input in = { 0, token, CTX, SESSION_ALL, NULL, 0, 0 };
    struct session *s;
    struct model *m;
    struct rig *r;
    double loss[6];
    struct err e;

    o.compute = compute;
    o.kv = compute == DTYPE_BF16 ? DTYPE_F16 : DTYPE_F32;
    r = rig_open(arch, o, 2);
    steps(r, loss, 6);
    for (unsigned i = 0; i < CTX; i++) {
        token[i] = (int32_t)(i * 7 % VOCAB);
        target[i] = 0;
    }
    assert_int_equal(train_logits(trainer_train(r->t), &b, want, &e), 0);
    if (trainer_export(r->t, other_path, false, &e) < 0 ||
        model_open(&m, other_path, NULL, &e) < 0)
        fail_msg("%s", e.msg);
    so.max_out = CTX;
    assert_int_equal(session_open(&s, m, &so, &e), 0);
    assert_int_equal(session_eval(s, &in, 1, got, &e), 0);
    assert_memory_equal(want, got, CTX * VOCAB * sizeof *want);
    session_close(s);
    model_close(m);
    rig_close(r);
    mem_free(want);
    mem_free(got);
}

static void test_served_bits(void **state)
{
    (void)state;
    serves("llama", DTYPE_F32);
    serves("llama", DTYPE_BF16);
    serves("qwen3", DTYPE_F32);
    serves("gpt2", DTYPE_F32);
    serves("gpt2", DTYPE_BF16);
}

/* ---- what goes wrong ---- */

static void test_bad_checkpoints(void **state)
{
    struct trainer_opts o = rich(OPTIM_ADAMW), other;
    double whole[6], rest[6];
    struct rig *r = saved_after_two(&o, whole);
    char *data;
    size_t size;
    struct err e;

    (void)state;
    steps(r, rest, 2);
    assert_memory_equal(whole, rest, 2 * sizeof *rest);
    assert_int_equal(file_read(check_path, 1 << 30, &data, &size, &e), 0);
    for (size_t i = 0; i < 200; i++) {      /* bytes of the weights and moments */
        const size_t at = size / 2 + i * (size / 2 - 1) / 200;
        struct file_new f;

        data[at] = (char)(data[at] ^ 0x10);
        assert_int_equal(file_new_open(&f, other_path, &e), 0);
        assert_int_equal(file_new_write(&f, data, size, &e), 0);
        assert_int_equal(file_new_commit(&f, &e), 0);
        {
            double *curve = NULL;
            size_t n;
            const int rc = trainer_load(r->t, other_path, &curve, &n, &e);

            /* a byte of the padding between tensors holds nothing */
            if (rc == 0) {
                mem_free(curve);
                assert_true(data[at] == 0x10);
            } else {
                assert_int_equal(rc, WATT_EFORMAT);
                assert_non_null(strstr(e.msg, "d.gguf"));
            }
        }
        data[at] = (char)(data[at] ^ 0x10);
    }
    for (size_t n = 0; n < size; n += size / 37 + 1) {
        struct file_new f;

        assert_int_equal(file_new_open(&f, other_path, &e), 0);
        assert_int_equal(file_new_write(&f, data, n, &e), 0);
        assert_int_equal(file_new_commit(&f, &e), 0);
        refuses(r, other_path, WATT_EFORMAT, "d.gguf");
    }
    refuses(r, "missing.gguf", WATT_ENOENT, "missing.gguf");
    refuses(r, model_path, WATT_EFORMAT, "no checkpoint");
    steps(r, rest + 2, 4);
    assert_memory_equal(whole, rest, sizeof rest);
    rig_close(r);
    mem_free(data);

    other = o;
    other.data.seed = 12;
    r = rig_open("llama", other, 1);
    refuses(r, check_path, WATT_EINVAL, "was made with seed 11; this run has seed 12");
    rig_close(r);
    other = o;
    other.optim.kind = OPTIM_SGD;
    r = rig_open("llama", other, 1);
    refuses(r, check_path, WATT_EINVAL, "adamw");
    rig_close(r);
    r = rig_open("qwen3", o, 1);
    refuses(r, check_path, WATT_EFORMAT, "another model");
    rig_close(r);
    write_shard(shard_path_, 2);
    r = rig_open("llama", o, 1);
    refuses(r, check_path, WATT_EINVAL, "other data");
    rig_close(r);
    write_shard(shard_path_, 1);
}

#ifdef WATT_FAULTS
/* A disk that is full at any write keeps the checkpoint there was. */
static void test_full_disk(void **state)
{
    const struct trainer_opts o = rich(OPTIM_ADAMW);
    struct rig *r = rig_open("llama", o, 1), *r2;
    double a[3], b[3];
    struct err e;

    (void)state;
    steps(r, a, 1);
    assert_int_equal(trainer_save(r->t, check_path, NULL, 0, &e), 0);
    steps(r, a, 3);
    for (unsigned long n = 1;; n += 1 + n / 8) {
        int rc;

        (void)fault_arm(FAULT_WRITE, n);
        rc = trainer_save(r->t, check_path, NULL, 0, &e);
        (void)fault_arm(FAULT_WRITE, 0);
        if (rc == 0)
            break;
        assert_int_equal(rc, WATT_EIO);
        r2 = rig_open("llama", o, 1);
        load(r2, check_path);
        assert_int_equal(trainer_n_steps(r2->t), 1);
        if (n == 1) {
            steps(r2, b, 3);
            assert_memory_equal(a, b, sizeof a);
        }
        rig_close(r2);
    }
    rig_close(r);
}
#endif

static void test_not_finite(void **state)
{
    struct trainer_opts o = options();
    struct trainer_step s;
    struct rig *r;
    struct err e;
    int rc = 0;

    (void)state;
    o.schedule.lr = 1e30;
    o.schedule.warmup = 0;
    o.optim.clip = 0;
    r = rig_open("llama", o, 1);
    for (unsigned i = 0; rc == 0 && i < 40; i++)
        rc = trainer_step(r->t, &s, &e);
    assert_int_equal(rc, WATT_EINVAL);
    assert_non_null(strstr(e.msg, "not finite"));
    assert_non_null(strstr(e.msg, "step"));
    rig_close(r);
}

/* The data become shorter while they are used. */
static void test_shrinking_data(void **state)
{
    struct rig *r = rig_open("llama", options(), 1);
    struct trainer_step s;
    struct err e;
    int rc = 0;

    (void)state;
    assert_int_equal(truncate(shard_path_, 300), 0);
    for (unsigned i = 0; rc == 0 && i < 100; i++)
        rc = trainer_step(r->t, &s, &e);
    assert_int_equal(rc, WATT_EIO);
    assert_non_null(strstr(e.msg, "a.shard"));
    rig_close(r);
    write_shard(shard_path_, 1);
}

static void test_refused_options(void **state)
{
    struct trainer_opts o = options();
    struct dataset_source src = { 0 };
    struct model *m = new_model("llama");
    struct trainer *t;
    struct err e;

    (void)state;
    assert_int_equal(shard_open(&src.shard, shard_path_, &e), 0);
    assert_int_equal(team_open(&o.team, 1, &e), 0);
    o.data.ctx = 65;
    o.data.max_rows = 65 * BATCH;
    assert_int_equal(trainer_open(&t, m, &src, 1, NULL, 0, &o, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "context"));
    o = (struct trainer_opts){ .team = o.team };
    assert_int_equal(trainer_open(&t, m, &src, 1, NULL, 0, &o, &e), WATT_EINVAL);
    assert_int_equal(trainer_open(&t, m, &src, 0, NULL, 0, &o, &e), WATT_EINVAL);
    team_close(o.team);
    shard_close(src.shard);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_odd_setups),
        cmocka_unit_test(test_served_bits),
        cmocka_unit_test(test_bad_checkpoints),
#ifdef WATT_FAULTS
        cmocka_unit_test(test_full_disk),
#endif
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_shrinking_data),
        cmocka_unit_test(test_refused_options),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
