/* test_lora.c: low-rank adapters: trained, exported and loaded; the trainer's logits when served;
 * adapters and the base in one batch with the bits each gives alone; merged; hostile files
 * refused. */
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

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "chips/cpu/features.h"
#include "models/lora.h"
#include "models/session.h"
#include "models/train/create.h"
#include "models/train/trainer.h"
#include "remove_tree.h"

enum { VOCAB = 48, CTX = 16, TOKENS = 2000 };

static char dir[] = "test_lora.XXXXXX";
static char base_path[64], data_path[64], a_path[64], b_path[64], other_path[64];

static bool untied;     /* bases have a head apart from the embedding */

static void make_base(const char *arch)
{
    struct create_opts c = { .shape = { .name = "t", .pre = "gpt-2", .n_layers = 2, .n_embd = 32,
                                        .n_ff = 64, .n_heads = 2, .n_kv_heads = 2, .head_dim = 16,
                                        .n_vocab = VOCAB, .n_ctx = 64, .norm_eps = 1e-5f,
                                        .rope_base = 10000, .tied = !untied },
                             .seed = 3 };
    struct err e;

    assert_int_equal(shape_set_arch(&c.shape, arch, &e), 0);
    if (strstr(arch, "moe")) {
        c.shape.n_experts = 5;
        c.shape.n_experts_used = 2;
    }
    if (create_model(base_path, &c, &e) < 0)
        fail_msg("%s", e.msg);
}

static int make_dir(void **state)
{
    struct shard_writer *w;
    struct rng rng;
    struct err e;
    int32_t ids[TOKENS];

    (void)state;
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(base_path, sizeof base_path, "%s/base.gguf", dir);
    (void)snprintf(data_path, sizeof data_path, "%s/d.shard", dir);
    (void)snprintf(a_path, sizeof a_path, "%s/a.gguf", dir);
    (void)snprintf(b_path, sizeof b_path, "%s/b.gguf", dir);
    (void)snprintf(other_path, sizeof other_path, "%s/o.gguf", dir);
    rng_init(&rng, 5);
    for (unsigned i = 0; i < TOKENS; i++)
        ids[i] = rng_below(&rng, 8) || i == 0 ? (int32_t)((i * 7) % VOCAB) : ids[i - 1];
    assert_int_equal(shard_writer_open(&w, data_path, VOCAB, 1, false, &e), 0);
    assert_int_equal(shard_writer_add(w, ids, NULL, TOKENS, true, &e), 0);
    assert_int_equal(shard_writer_commit(w, &e), 0);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return remove_tree(dir);
}

static struct model *open_with(const struct model_opts *o)
{
    struct model *m;
    struct err e;

    if (model_open(&m, base_path, o, &e) < 0)
        fail_msg("%s", e.msg);
    return m;
}

struct rig {
    struct model   *model;
    struct shard   *shard;
    struct team    *team;
    struct trainer *t;
};

static struct rig rig_open(const struct lora_spec *spec, enum dtype compute)
{
    const struct model_opts mo = { .new_adapter = spec };
    struct trainer_opts o = {
        .data = { .ctx = CTX, .max_rows = CTX * 4, .max_streams = 4, .seed = 2, .held = 0.1 },
        .isa_mask = CPU_ALL,
        .optim = { .kind = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .clip = 1 },
        .schedule = { SCHEDULE_CONSTANT, 100, 0, 0, 0.02, 0.02 },
        .compute = compute, .kv = DTYPE_F32, .lora = spec,
    };
    struct rig r = { .model = open_with(&mo) };
    struct dataset_source src = { 0 };
    struct err e;

    if (shard_open(&r.shard, data_path, &e) < 0 || team_open(&r.team, 2, &e) < 0)
        fail_msg("%s", e.msg);
    src.shard = r.shard;
    o.team = r.team;
    if (trainer_open(&r.t, r.model, &src, 1, NULL, 0, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return r;
}

static void rig_close(struct rig *r)
{
    trainer_close(r->t);
    team_close(r->team);
    shard_close(r->shard);
    model_close(r->model);
}

/* Trains an adapter of this rank, writes it; returns the loss gained. */
static double make_adapter(const char *to, uint32_t rank, uint64_t seed, enum dtype compute,
                           const char *const *targets, size_t n)
{
    const struct lora_spec spec = { .rank = rank, .alpha = (float)(2 * rank), .targets = targets,
                                    .n_targets = n, .seed = seed };
    struct rig r = rig_open(&spec, compute);
    struct trainer_step s;
    struct err e;
    double first = 0;

    for (unsigned i = 0; i < 30; i++) {
        if (trainer_step(r.t, &s, &e) < 0)
            fail_msg("%s", e.msg);
        if (i == 0)
            first = s.loss;
    }
    if (trainer_export(r.t, to, false, &e) < 0)
        fail_msg("%s", e.msg);
    rig_close(&r);
    return first - s.loss;
}

static struct lora *opened_at(const char *from, float scale)
{
    struct lora *l;
    struct err e;

    if (lora_open(&l, from, scale, &e) < 0)
        fail_msg("%s", e.msg);
    return l;
}

static struct lora *opened(const char *from)
{
    return opened_at(from, 1);
}

static void fill(int32_t *ids, unsigned seed)
{
    for (unsigned i = 0; i < CTX; i++)
        ids[i] = (int32_t)((i * 5 + seed * 11) % VOCAB);
}

/* Logits of one sequence with one adapter of a model. */
static void alone(const struct model *m, uint32_t adapter, unsigned seed, float *out)
{
    const struct session_opts so = { .n_threads = 2, .max_out = CTX };
    int32_t ids[CTX];
    struct session_input in = { 0, ids, CTX, SESSION_ALL, NULL, 0, 0 };
    struct session *s;
    struct err e;

    fill(ids, seed);
    if (session_open(&s, m, &so, &e) < 0 || session_set_adapter(s, 0, adapter, &e) < 0 ||
        session_eval(s, &in, 1, out, &e) < 0)
        fail_msg("%s", e.msg);
    session_close(s);
}

/* ---- tests ---- */

/* n: tensors that are adapted. */
static void trains_and_serves(const char *arch, enum dtype compute, const char *const *targets,
                              size_t n_targets, size_t n)
{
    const struct lora_spec spec = { .rank = 4, .alpha = 12, .seed = 7, .targets = targets,
                                    .n_targets = n_targets };
    const uint32_t rows = CTX;
    static float want[CTX * VOCAB], got[CTX * VOCAB], plain[CTX * VOCAB];
    int32_t token[CTX], target[CTX] = { 0 };
    const struct train_batch b = { .n_rows = CTX, .n_streams = 1, .stream_rows = &rows,
                                   .token = token, .target = target };
    struct trainer_step s;
    struct model_opts mo = { 0 };
    struct model *m;
    struct lora *l;
    struct rig r;
    struct err e;
    double first = 0, off = 0, all = 0;

    make_base(arch);
    m = open_with(NULL);
    alone(m, 0, 1, plain);
    model_close(m);
    r = rig_open(&spec, compute);
    fill(token, 1);
    assert_int_equal(train_logits(trainer_train(r.t), &b, want, &e), 0);
    assert_memory_equal(want, plain, sizeof want);      /* B is zero: the model as it was */
    for (unsigned i = 0; i < 40; i++) {
        if (trainer_step(r.t, &s, &e) < 0)
            fail_msg("%s", e.msg);
        first = i ? first : s.loss;
    }
    if (!(s.loss < first - 0.1))      /* its embeddings are random, and stay so */
        fail_msg("loss from %g to %g", first, s.loss);
    for (uint32_t i = 0; i < train_n_params(trainer_train(r.t)); i++) {
        const struct train_param *p = train_param(trainer_train(r.t), i);

        assert_int_equal(p->trains, lora_is_name(p->name));
    }
    assert_int_equal(train_logits(trainer_train(r.t), &b, want, &e), 0);
    assert_memory_not_equal(want, plain, sizeof want);
    if (trainer_export(r.t, a_path, false, &e) < 0)
        fail_msg("%s", e.msg);
    rig_close(&r);
    l = opened(a_path);
    assert_int_equal(lora_n_targets(l), n);
    mo.adapters = (const struct lora *const *)&l;
    mo.n_adapters = 1;
    m = open_with(&mo);
    alone(m, 1, 1, got);
    assert_memory_equal(want, got, sizeof want);
    alone(m, 0, 1, got);
    assert_memory_equal(plain, got, sizeof want);
    model_close(m);
    /* merged: the same function, other roundings */
    m = open_with(NULL);
    if (lora_merge(other_path, model_gguf(m), l, &e) < 0)
        fail_msg("%s", e.msg);
    model_close(m);
    if (model_open(&m, other_path, NULL, &e) < 0)
        fail_msg("%s", e.msg);
    alone(m, 0, 1, got);
    for (unsigned i = 0; i < CTX * VOCAB; i++) {
        off += (double)(got[i] - want[i]) * (got[i] - want[i]);
        all += (double)want[i] * want[i];
    }
    if (!(sqrt(off / all) < (compute == DTYPE_BF16 ? 0.02 : 1e-4)))
        fail_msg("%s: merged, logits are off by %g", arch, sqrt(off / all));
    model_close(m);
    lora_close(l);
}

static void test_trains_and_serves(void **state)
{
    static const char *const head[] = { "all", "token_embd" }, *const experts[] = { "ffn_down_exps" };
    static const char *const rows[] = { "token_embd", "all", "output" };

    (void)state;
    trains_and_serves("llama", DTYPE_F32, NULL, 0, 2 * 7);
    trains_and_serves("llama", DTYPE_BF16, NULL, 0, 2 * 7);
    trains_and_serves("llama", DTYPE_F32, head, 2, 2 * 7 + 1);
    trains_and_serves("llama", DTYPE_BF16, head, 2, 2 * 7 + 1);
    trains_and_serves("qwen3moe", DTYPE_F32, NULL, 0, 2 * 7);
    trains_and_serves("qwen3moe", DTYPE_BF16, NULL, 0, 2 * 7);
    trains_and_serves("qwen3moe", DTYPE_F32, experts, 1, 2);
    untied = true;
    for (int half = 0; half < 2; half++) {
        trains_and_serves("llama", half ? DTYPE_BF16 : DTYPE_F32, rows, 1, 1);
        trains_and_serves("llama", half ? DTYPE_BF16 : DTYPE_F32, rows, 3, 2 * 7 + 2);
    }
    untied = false;
}

/* Sequences of two adapters and of the base in one step: the bits that each gives in a model that
 * has nothing else, whatever their ranks. */
static void one_batch(const char *arch, enum dtype of_a, enum dtype of_b)
{
    const char *const few[] = { "attn_q", strstr(arch, "moe") ? "ffn_down_exps" : "ffn_down",
                                "token_embd" };
    static float want[3][CTX * VOCAB], got[3 * CTX * VOCAB];
    const struct session_opts so = { .n_threads = 2, .n_seqs = 3, .max_out = 3 * CTX };
    struct lora *both[2];
    struct model_opts mo = { .n_adapters = 1 };
    struct session_input in[3] = { 0 };
    int32_t ids[3][CTX];
    struct session *s;
    struct model *m;
    struct err e;

    make_base(arch);
    (void)make_adapter(a_path, 4, 1, of_a, untied ? few : NULL, untied ? 3 : 0);
    (void)make_adapter(b_path, 7, 2, of_b, few, untied ? 3 : 2);
    both[0] = opened(a_path);
    both[1] = opened(b_path);
    m = open_with(NULL);
    alone(m, 0, 0, want[0]);
    model_close(m);
    for (unsigned i = 0; i < 2; i++) {
        mo.adapters = (const struct lora *const *)&both[i];
        m = open_with(&mo);
        alone(m, 1, i + 1, want[i + 1]);
        model_close(m);
    }
    mo.adapters = (const struct lora *const *)both;
    mo.n_adapters = LORA_MAX_ADAPTERS + 1;
    assert_int_equal(model_open(&m, base_path, &mo, &e), WATT_ELIMIT);
    mo.n_adapters = 2;
    m = open_with(&mo);
    assert_int_equal(model_n_adapters(m), 2);
    if (session_open(&s, m, &so, &e) < 0)
        fail_msg("%s", e.msg);
    for (uint32_t i = 0; i < 3; i++) {
        fill(ids[i], i);
        in[i] = (struct session_input){ i, ids[i], CTX, SESSION_ALL, NULL, 0, 0 };
        assert_int_equal(session_set_adapter(s, i, i, &e), 0);
    }
    if (session_eval(s, in, 3, got, &e) < 0)
        fail_msg("%s", e.msg);
    for (unsigned i = 0; i < 3; i++)
        assert_memory_equal(want[i], got + i * CTX * VOCAB, sizeof want[i]);
    assert_int_equal(session_set_adapter(s, 0, 1, &e), WATT_EINVAL);    /* it holds tokens */
    session_reset(s, 0);
    assert_int_equal(session_set_adapter(s, 0, 3, &e), WATT_EINVAL);
    assert_int_equal(session_set_adapter(s, 0, 2, &e), 0);
    session_close(s);
    {   /* the reference interpreter agrees */
        const struct session_opts ro = { .exec = SESSION_EXEC_REF, .n_seqs = 3, .max_out = 3 * CTX };

        if (session_open(&s, m, &ro, &e) < 0)
            fail_msg("%s", e.msg);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(session_set_adapter(s, i, i, &e), 0);
        assert_int_equal(session_eval(s, in, 3, got, &e), 0);
        for (unsigned i = 0; i < 3; i++)
            for (unsigned k = 0; k < CTX * VOCAB; k++)
                assert_true(fabsf(want[i][k] - got[i * CTX * VOCAB + k]) < (of_a == of_b && of_a == DTYPE_F32
                                                                            ? 1e-3f : 0.1f));
        session_close(s);
    }
    model_close(m);
    lora_close(both[0]);
    lora_close(both[1]);
}

/* One adapter at several scales in one step, beside the base: what it gives when it is opened at that
 * scale, bit for bit where the scale is a power of two and so loses nothing. */
static void scales(const char *arch, enum dtype type)
{
    static const char *const targets[] = { "attn_q", "ffn_down", "token_embd" };
    static const float at[] = { 2, 1, -0.5f, 0.7f, 1 };     /* the last is the base's */
    static float want[5][CTX * VOCAB], got[5 * CTX * VOCAB], ref[5 * CTX * VOCAB];
    struct session_opts so = { .n_threads = 2, .n_seqs = 5, .max_out = 5 * CTX };
    struct model_opts mo = { .n_adapters = 1 };
    struct session_input in[5] = { 0 };
    int32_t ids[5][CTX];
    struct session *s;
    struct model *m;
    struct lora *l;
    struct err e;

    make_base(arch);
    (void)make_adapter(a_path, 4, 1, type, untied ? targets : NULL, untied ? 3 : 0);
    for (unsigned i = 0; i < 5; i++) {
        l = opened_at(a_path, at[i]);
        mo.adapters = (const struct lora *const *)&l;
        m = open_with(&mo);
        alone(m, i < 4, i, want[i]);
        model_close(m);
        lora_close(l);
    }
    assert_memory_not_equal(want[0], want[1], sizeof want[0]);
    l = opened(a_path);
    mo.adapters = (const struct lora *const *)&l;
    m = open_with(&mo);
    for (int k = 0; k < 2; k++) {
        so.exec = k ? SESSION_EXEC_REF : SESSION_EXEC_CPU;
        if (session_open(&s, m, &so, &e) < 0)
            fail_msg("%s", e.msg);
        for (uint32_t i = 0; i < 5; i++) {
            fill(ids[i], i);
            in[i] = (struct session_input){ i, ids[i], CTX, SESSION_ALL, NULL, 0, 0 };
            assert_int_equal(session_set_adapter(s, i, i < 4, &e), 0);
            assert_int_equal(session_set_adapter_scale(s, i, at[i], &e), 0);
        }
        assert_int_equal(session_set_adapter_scale(s, 0, NAN, &e), WATT_EINVAL);
        assert_int_equal(session_set_adapter_scale(s, 0, 0, &e), WATT_EINVAL);
        assert_int_equal(session_set_adapter_scale(s, 5, 1, &e), WATT_EINVAL);
        if (session_eval(s, in, 5, k ? ref : got, &e) < 0)
            fail_msg("%s", e.msg);
        assert_int_equal(session_set_adapter_scale(s, 0, 1, &e), WATT_EINVAL);  /* it holds tokens */
        session_close(s);
    }
    for (unsigned i = 0; i < 5; i++) {
        if (i != 3)
            assert_memory_equal(want[i], got + i * CTX * VOCAB, sizeof want[i]);
        for (unsigned k = 0; k < CTX * VOCAB; k++) {
            assert_true(fabsf(want[i][k] - got[i * CTX * VOCAB + k]) < (type == DTYPE_F32 ? 1e-4f : 0.1f));
            assert_true(fabsf(ref[i * CTX * VOCAB + k] - got[i * CTX * VOCAB + k]) <
                        (type == DTYPE_F32 ? 1e-3f : 0.1f));
        }
    }
    model_close(m);
    lora_close(l);
}

static void test_scales(void **state)
{
    (void)state;
    scales("llama", DTYPE_F32);
    scales("llama", DTYPE_BF16);
    scales("qwen3moe", DTYPE_F32);
    untied = true;
    scales("llama", DTYPE_F32);
    scales("llama", DTYPE_BF16);
    untied = false;
}

static void test_one_batch(void **state)
{
    (void)state;
    one_batch("llama", DTYPE_F32, DTYPE_F32);
    one_batch("qwen3", DTYPE_F32, DTYPE_BF16);
    one_batch("llama", DTYPE_BF16, DTYPE_BF16);
    one_batch("qwen3moe", DTYPE_F32, DTYPE_F32);
    one_batch("qwen3moe", DTYPE_BF16, DTYPE_F32);
    untied = true;
    one_batch("llama", DTYPE_F32, DTYPE_F32);
    one_batch("llama", DTYPE_BF16, DTYPE_F32);
    untied = false;
}

/* Saved and taken up again: the losses that would have been; the file is itself an adapter. */
static void test_resume(void **state)
{
    const struct lora_spec spec = { .rank = 3, .alpha = 3, .seed = 7 };
    double a[6], b[6], *curve;
    struct trainer_step s;
    struct lora *l;
    struct rig r;
    struct err e;
    size_t n;

    (void)state;
    make_base("llama");
    r = rig_open(&spec, DTYPE_F32);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(trainer_step(r.t, &s, &e), 0);
        a[i] = s.loss;
        if (i == 2 && trainer_save(r.t, other_path, NULL, 0, &e) < 0)
            fail_msg("%s", e.msg);
    }
    rig_close(&r);
    r = rig_open(&spec, DTYPE_F32);
    if (trainer_load(r.t, other_path, &curve, &n, &e) < 0)
        fail_msg("%s", e.msg);
    mem_free(curve);
    for (unsigned i = 3; i < 6; i++) {
        assert_int_equal(trainer_step(r.t, &s, &e), 0);
        b[i] = s.loss;
    }
    assert_memory_equal(a + 3, b + 3, 3 * sizeof *a);
    rig_close(&r);
    l = opened(other_path);
    assert_int_equal(lora_n_targets(l), 14);
    lora_close(l);
}

/* An adapter of the embedding's rows, as converters of other engines' adapters write them, for a model
 * whose embedding is the head: the head stays as it is, and merging parts the two. */
static void test_rows_of_tied(void **state)
{
    const int64_t sa[] = { VOCAB, 4 }, sb[] = { 32, 4 };
    static float data[VOCAB * 4], plain[CTX * VOCAB], want[CTX * VOCAB], got[CTX * VOCAB];
    struct model_opts mo = { .n_adapters = 1 };
    struct gguf_writer *w;
    struct model *m;
    struct lora *l;
    struct err e;
    float most = 0;

    (void)state;
    make_base("llama");
    for (unsigned i = 0; i < VOCAB * 4; i++)
        data[i] = (float)(i % 13) / 13.0f - 0.4f;
    assert_int_equal(gguf_writer_open(&w, a_path, &e), 0);
    assert_int_equal(gguf_writer_str(w, "general.architecture", SV("llama"), &e), 0);
    assert_int_equal(gguf_writer_str(w, "general.type", SV("adapter"), &e), 0);
    assert_int_equal(gguf_writer_str(w, "adapter.type", SV("lora"), &e), 0);
    assert_int_equal(gguf_writer_f32(w, "adapter.lora.alpha", 2, &e), 0);
    assert_int_equal(gguf_writer_tensor(w, "token_embd.weight.lora_a", DTYPE_F32, 2, sa, &e), 0);
    assert_int_equal(gguf_writer_tensor(w, "token_embd.weight.lora_b", DTYPE_F32, 2, sb, &e), 0);
    assert_int_equal(gguf_writer_begin(w, &e), 0);
    assert_int_equal(gguf_writer_data(w, data, sizeof data, &e), 0);
    assert_int_equal(gguf_writer_data(w, data, 32 * 4 * sizeof *data, &e), 0);
    assert_int_equal(gguf_writer_commit(w, &e), 0);
    l = opened(a_path);
    mo.adapters = (const struct lora *const *)&l;
    m = open_with(&mo);
    alone(m, 0, 1, plain);
    alone(m, 1, 1, want);
    assert_memory_not_equal(plain, want, sizeof want);
    model_close(m);
    m = open_with(NULL);
    alone(m, 0, 1, got);
    assert_memory_equal(plain, got, sizeof got);
    if (lora_merge(other_path, model_gguf(m), l, &e) < 0)
        fail_msg("%s", e.msg);
    model_close(m);
    assert_int_equal(model_open(&m, other_path, NULL, &e), 0);
    assert_non_null(gguf_find_tensor(model_gguf(m), "output.weight"));
    alone(m, 0, 1, got);
    for (unsigned i = 0; i < CTX * VOCAB; i++) {
        const float changed = fabsf(plain[i] - want[i]);

        assert_true(fabsf(got[i] - want[i]) < 1e-3f);
        most = changed > most ? changed : most;
    }
    assert_true(most > 0.1f);       /* so that the bound says something */
    model_close(m);
    lora_close(l);
}

/* ---- hostile ---- */

static void write_adapter(const char *type, const char *kind, bool alpha, int rank_a, int rank_b,
                          const char *name_a, const char *name_b, float value)
{
    const int64_t sa[] = { rank_a, 32 }, sb[] = { 32, rank_b };
    struct gguf_writer *w;
    float data[32 * 64];
    struct err e;

    for (unsigned i = 0; i < 32 * 64; i++)
        data[i] = value;
    assert_int_equal(gguf_writer_open(&w, other_path, &e), 0);
    assert_int_equal(gguf_writer_str(w, "general.architecture", SV("llama"), &e), 0);
    if (type)
        assert_int_equal(gguf_writer_str(w, "general.type", sv_cstr(type), &e), 0);
    if (kind)
        assert_int_equal(gguf_writer_str(w, "adapter.type", sv_cstr(kind), &e), 0);
    if (alpha)
        assert_int_equal(gguf_writer_f32(w, "adapter.lora.alpha", 4, &e), 0);
    assert_int_equal(gguf_writer_tensor(w, name_a, DTYPE_F32, 2, sa, &e), 0);
    assert_int_equal(gguf_writer_tensor(w, name_b, DTYPE_F32, 2, sb, &e), 0);
    assert_int_equal(gguf_writer_begin(w, &e), 0);
    assert_int_equal(gguf_writer_data(w, data, (size_t)rank_a * 32 * 4, &e), 0);
    assert_int_equal(gguf_writer_data(w, data, (size_t)rank_b * 32 * 4, &e), 0);
    assert_int_equal(gguf_writer_commit(w, &e), 0);
}

static void refused(const char *says)
{
    struct lora *l;
    struct err e;
    const int rc = lora_open(&l, other_path, 1, &e);

    if (rc == 0)
        fail_msg("accepted; wanted \"%s\"", says);
    if (!strstr(e.msg, says) || !strstr(e.msg, "o.gguf"))
        fail_msg("wanted \"%s\", got \"%s\"", says, e.msg);
}

/* A well-formed adapter that is not of this model. */
static void not_of_the_model(const char *says)
{
    struct model_opts mo = { .n_adapters = 1 };
    struct lora *l = opened(other_path);
    struct model *m;
    struct err e;

    mo.adapters = (const struct lora *const *)&l;
    assert_int_equal(model_open(&m, base_path, &mo, &e), WATT_EINVAL);
    if (!strstr(e.msg, says) || !strstr(e.msg, "o.gguf"))
        fail_msg("opened: wanted \"%s\", got \"%s\"", says, e.msg);
    m = open_with(NULL);
    assert_int_equal(lora_merge(a_path, model_gguf(m), l, &e), WATT_EINVAL);
    if (!strstr(e.msg, "o.gguf") || !strstr(e.msg, "weight"))
        fail_msg("merged: got \"%s\"", e.msg);
    model_close(m);
    lora_close(l);
}

#define Q "blk.0.attn_q.weight"

static void test_refused(void **state)
{
    struct model *m;
    struct err e;

    (void)state;
    make_base("llama");
    write_adapter(NULL, "lora", true, 4, 4, Q ".lora_a", Q ".lora_b", 0);
    refused("general.type");
    write_adapter("model", "lora", true, 4, 4, Q ".lora_a", Q ".lora_b", 0);
    refused("general.type");
    write_adapter("adapter", "other", true, 4, 4, Q ".lora_a", Q ".lora_b", 0);
    refused("adapter.type");
    write_adapter("adapter", "lora", false, 4, 4, Q ".lora_a", Q ".lora_b", 0);
    refused("adapter.lora.alpha");
    write_adapter("adapter", "lora", true, 4, 3, Q ".lora_a", Q ".lora_b", 0);
    refused(".lora_a and its counterpart");
    write_adapter("adapter", "lora", true, 4, 4, Q ".lora_a", "blk.1.attn_q.weight.lora_b", 0);
    refused("without " Q ".lora_b");
    write_adapter("adapter", "lora", true, 4, 4, Q ".lora_b", "blk.1.attn_q.weight.lora_b", 0);
    refused(".lora_a and 2");
    write_adapter("adapter", "lora", true, 4, 4, Q ".lora_a", "more", 0);
    refused("without");
    write_adapter("adapter", "lora", true, 4, 4, Q ".lora_a", Q ".lora_b", NAN);
    refused("not finite");
    /* well-formed, but not of this model */
    write_adapter("adapter", "lora", true, 4, 4, "blk.7.attn_q.weight.lora_a",
                  "blk.7.attn_q.weight.lora_b", 0);
    not_of_the_model("blk.7.attn_q.weight");
    write_adapter("adapter", "lora", true, 4, 4, "blk.0.ffn_up.weight.lora_a",
                  "blk.0.ffn_up.weight.lora_b", 0);
    not_of_the_model("blk.0.ffn_up.weight");
    {
        const char *const nothing[] = { "no_such" };
        const struct lora_spec spec = { .rank = 2, .targets = nothing, .n_targets = 1 };
        const struct model_opts bad = { .new_adapter = &spec };

        assert_int_equal(model_open(&m, base_path, &bad, &e), WATT_EINVAL);
        assert_non_null(strstr(e.msg, "targets"));
    }
    {
        const char *const some[] = { "attn_q", "no_such" };
        const struct lora_spec spec = { .rank = 2, .targets = some, .n_targets = 2 };
        const struct model_opts bad = { .new_adapter = &spec };

        assert_int_equal(model_open(&m, base_path, &bad, &e), WATT_EINVAL);
        assert_non_null(strstr(e.msg, "no_such"));
    }
    /* rows of an embedding of other columns */
    write_adapter("adapter", "lora", true, 4, 32, "token_embd.weight.lora_a",
                  "token_embd.weight.lora_b", 0);
    not_of_the_model("of 4 tokens and 32 columns");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trains_and_serves),
        cmocka_unit_test(test_one_batch),
        cmocka_unit_test(test_scales),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_rows_of_tied),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
