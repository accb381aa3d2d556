/* test_grad.c: the executor that trains: gradients of every instruction against differences of
 * the loss, the same bits for any number of threads, the bits that serve. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "op_rig.h"

#include "base/fault.h"
#include "chips/passes/reverse.h"
#include "chips/train.h"

enum { ROWS = 23, STREAMS = 3 };

static const uint32_t lengths[STREAMS] = { 9, 1, 13 };

struct grad_case {
    struct op_rig g;
    struct train *t;
    struct team *team;
    int32_t token[ROWS], target[ROWS];
    float weight[ROWS];
    struct train_batch b;
    float scale;
    bool drops;             /* the loss is that of the pass with dropout */
    bool narrow;            /* kernels of this mask */
    uint32_t mask;
};

static void open_trainer(struct grad_case *c, unsigned threads, const struct train_opts *more)
{
    struct train_opts o = more ? *more : (struct train_opts){ .compute = DTYPE_F32 };
    struct err e = { 0 };

    assert_int_equal(team_open(&c->team, threads, &e), 0);
    o.team = c->team;
    o.isa_mask = c->narrow ? c->mask : CPU_ALL;
    o.max_rows = ROWS + 4;
    o.max_streams = STREAMS + 1;
    if (train_open(&c->t, c->g.p, &o, &e) < 0)
        fail_msg("%s", e.msg);
}

static void close_trainer(struct grad_case *c)
{
    train_close(c->t);
    team_close(c->team);
}

static void fill_batch(struct grad_case *c)
{
    for (int i = 0; i < ROWS; i++) {
        c->token[i] = (int32_t)rng_below(&c->g.rng, RIG_VOCAB);
        c->target[i] = i % 5 == 3 ? -1 : (int32_t)rng_below(&c->g.rng, c->g.out_width);
        c->weight[i] = i % 7 == 2 ? 0.5f : 1.0f;
    }
    c->b = (struct train_batch){ .n_rows = ROWS, .n_streams = STREAMS, .stream_rows = lengths,
                                 .token = c->token, .target = c->target, .weight = c->weight,
                                 .seed = 5 };
    c->scale = 0.25f;
}

static double loss_of(struct grad_case *c)
{
    struct train_loss l;
    struct err e = { 0 };

    train_refresh(c->t);
    if ((c->drops ? train_forward_backward(c->t, &c->b, c->scale, &l, &e)
                  : train_evaluate(c->t, &c->b, &l, &e)) < 0)
        fail_msg("%s", e.msg);
    return (double)c->scale * (l.sum + l.balance * l.weight);
}

static void forward_backward(struct grad_case *c, struct train_loss *l)
{
    struct err e = { 0 };

    train_refresh(c->t);
    train_zero(c->t);
    if (train_forward_backward(c->t, &c->b, c->scale, l, &e) < 0)
        fail_msg("%s", e.msg);
}

/* Along random directions of each parameter: central differences against the gradient. */
static void check_param(struct grad_case *c, const struct train_param *p, float step, double tol)
{
    float *keep = rig_floats(p->n), *dir = rig_floats(p->n), *grad = rig_floats(p->n);

    memcpy(keep, p->w, p->n * sizeof *keep);
    memcpy(grad, p->g, p->n * sizeof *grad);
    for (int turn = 0; turn < 3; turn++) {
        double want = 0, got, up, down, norm = 0;

        for (uint64_t i = 0; i < p->n; i++) {
            dir[i] = (float)rng_normal(&c->g.rng);
            want += (double)dir[i] * grad[i];
            norm += (double)grad[i] * grad[i];
        }
        for (uint64_t i = 0; i < p->n; i++)
            p->w[i] = keep[i] + step * dir[i];
        up = loss_of(c);
        for (uint64_t i = 0; i < p->n; i++)
            p->w[i] = keep[i] - step * dir[i];
        down = loss_of(c);
        memcpy(p->w, keep, p->n * sizeof *keep);
        got = (up - down) / (2 * (double)step);
        if (fabs(got - want) > tol * (sqrt(norm) + 1e-3))
            fail_msg("%s: gradient along a direction %g, differences give %g (norm %g)", p->name,
                     want, got, sqrt(norm));
    }
    mem_free(keep);
    mem_free(dir);
    mem_free(grad);
}

static void check_all(struct grad_case *c, float step, double tol)
{
    struct train_loss l;

    for (uint32_t i = 0; i < train_n_params(c->t); i++) {
        const struct train_param *p = train_param(c->t, i);

        forward_backward(c, &l);
        if (p->trains)
            check_param(c, p, step, tol);
    }
}

/* Gradients of all parameters one after the other. */
static float *gradients(const struct grad_case *c, size_t *n)
{
    float *out;

    *n = 0;
    for (uint32_t i = 0; i < train_n_params(c->t); i++)
        *n += train_param(c->t, i)->trains ? train_param(c->t, i)->n : 0;
    out = rig_floats(*n);
    *n = 0;
    for (uint32_t i = 0; i < train_n_params(c->t); i++) {
        const struct train_param *p = train_param(c->t, i);

        if (!p->trains)
            continue;
        memcpy(out + *n, p->g, p->n * sizeof *out);
        *n += p->n;
    }
    return out;
}

/* The same bits with 1, 2 and 3 threads. */
static void check_threads(struct grad_case *c, const struct train_opts *o)
{
    struct train_loss first = { 0 }, l;
    float *want = NULL;

    for (unsigned threads = 1; threads <= 3; threads++) {
        size_t n;
        float *got;

        open_trainer(c, threads, o);
        forward_backward(c, &l);
        got = gradients(c, &n);
        if (threads == 1) {
            first = l;
            want = got;
        } else {
            assert_memory_equal(got, want, n * sizeof *got);
            assert_true(l.sum == first.sum && l.balance == first.balance);
            mem_free(got);
        }
        close_trainer(c);
    }
    mem_free(want);
}

static void check_with(struct grad_case *c, val y, float step, double tol,
                       const struct train_opts *o)
{
    rig_finish(&c->g, y);
    fill_batch(c);
    c->drops = o && (o->dropout > 0 || o->attn_dropout > 0);
    open_trainer(c, 2, o);
    check_all(c, step, tol);
    close_trainer(c);
    check_threads(c, o);
    rig_close(&c->g);
}

static void check(struct grad_case *c, val y)
{
    check_with(c, y, 1e-2f, 5e-3, NULL);
}

static wid matrix(struct op_rig *g, uint32_t mats, uint32_t rows, uint32_t cols, float deviation)
{
    const uint32_t n = mats * rows * cols;
    float *x = rig_floats(n);
    struct tensor t = { .data = x, .dtype = DTYPE_F32, .n_dims = mats > 1 ? 3 : 2,
                        .size_bytes = (uint64_t)n * 4 };
    char name[16];

    assert_true(g->n_weights < RIG_WEIGHTS);
    for (uint32_t i = 0; i < n; i++)
        x[i] = deviation * (float)rng_normal(&g->rng);
    t.shape[0] = mats > 1 ? mats : rows;
    t.shape[1] = mats > 1 ? rows : cols;
    t.shape[2] = cols;
    g->weight[g->n_weights] = x;
    (void)snprintf(name, sizeof name, "w%u", g->n_weights++);
    return prog_weight(g->p, name, &t);
}

static wid vector(struct op_rig *g, uint32_t n, float mean, float deviation)
{
    const float *data;

    return rig_weight(g, n, mean, deviation, &data);
}

/* ---- instructions ---- */

static void test_linear(void **state)
{
    struct grad_case c = { 0 };
    val x;

    (void)state;
    rig_open(&c.g, 20, 1);
    x = rig_input(&c.g);
    x = prog_linear(c.g.p, x, matrix(&c.g, 1, 33, 20, 0.3f), vector(&c.g, 33, 0, 1), 0,
                    (struct linear_args){ 0 });
    x = prog_linear(c.g.p, x, matrix(&c.g, 1, 16, 33, 0.3f), 0, 0, (struct linear_args){ 0.5f });
    check(&c, x);
}

static void test_tied(void **state)
{
    struct grad_case c = { 0 };
    val x;
    wid table;

    (void)state;
    rig_open(&c.g, 24, 2);
    x = rig_input(&c.g);
    {
        const struct tensor t = { .data = c.g.table, .dtype = DTYPE_F32, .n_dims = 2,
                                  .shape = { RIG_VOCAB, 24 }, .size_bytes = RIG_VOCAB * 24 * 4 };

        table = prog_weight(c.g.p, "table", &t);
    }
    x = prog_norm(c.g.p, x, vector(&c.g, 24, 1, 0.2f), 0, (struct norm_args){ .eps = 1e-5f });
    check(&c, prog_linear(c.g.p, x, table, 0, 0, (struct linear_args){ 0.1f }));
}

static void test_norms(void **state)
{
    (void)state;
    for (int kind = NORM_RMS; kind <= NORM_L2; kind++)
        for (uint32_t group = 0; group <= 8; group += 8) {
            struct grad_case c = { 0 };
            val x;

            rig_open(&c.g, 24, 3 + (uint64_t)kind);
            x = rig_input(&c.g);
            x = prog_norm(c.g.p, x, vector(&c.g, group ? group : 24, 1, 0.2f),
                          vector(&c.g, 24, 0, 0.2f),
                          (struct norm_args){ .kind = (enum norm_kind)kind, .group = group,
                                              .eps = 1e-5f });
            check(&c, x);
        }
}

static void test_rope(void **state)
{
    (void)state;
    for (int pairing = ROPE_NORMAL; pairing <= ROPE_NEOX; pairing++) {
        const struct rope_args a = { .pairing = (enum rope_pairing)pairing, .n_heads = 2,
                                     .head_dim = 12, .n_rot = 8, .base = 100, .freq_scale = 1,
                                     .attn_factor = 1 };
        struct grad_case c = { 0 };

        rig_open(&c.g, 24, 9);
        check(&c, prog_rope(c.g.p, rig_input(&c.g), 0, &a));
    }
}

static void test_units(void **state)
{
    (void)state;
    for (int act = ACT_SILU; act < ACT_COUNT; act++) {
        const struct act_args a = { .act = (enum act)act,
                                    .param = act == ACT_SOFTCAP ? 2.0f : act == ACT_CLAMP ? 1.5f : 0,
                                    .xielu = { 0.8f, 0.7f, 0.5f, -1e-6f } };
        const bool kinked = act == ACT_RELU || act == ACT_RELU2 || act == ACT_CLAMP || act == ACT_XIELU;
        struct grad_case c = { 0 };
        val x;
        rig_open(&c.g, 24, 10);
        x = rig_input(&c.g);
        check_with(&c, prog_unary(c.g.p, x, a), kinked ? 1e-3f : 1e-2f, kinked ? 5e-2 : 5e-3, NULL);
        rig_open(&c.g, 24, 11);
        x = rig_input(&c.g);
        check_with(&c, prog_gated(c.g.p, prog_cols(c.g.p, x, 0, 12), prog_cols(c.g.p, x, 12, 12), a),
                   kinked ? 1e-3f : 1e-2f, kinked ? 5e-2 : 5e-3, NULL);
    }
}

static void test_gate_limits(void **state)
{
    const struct act_args a = { .act = ACT_SILU, .limit = 1.5f, .alpha = 1.702f, .up_offset = 1 };
    struct grad_case c = { 0 };
    val x;

    (void)state;
    rig_open(&c.g, 24, 12);
    x = rig_input(&c.g);
    check_with(&c, prog_gated(c.g.p, prog_cols(c.g.p, x, 0, 12), prog_cols(c.g.p, x, 12, 12), a),
               1e-3f, 5e-2, NULL);
}

/* Additions, products and windows that overlap, of one value used many times. */
static void test_sums(void **state)
{
    struct grad_case c = { 0 };
    struct program *p;
    val x, y, parts[3];

    (void)state;
    rig_open(&c.g, 24, 13);
    p = c.g.p;
    x = rig_input(&c.g);
    y = prog_add(p, x, prog_mul(p, x, x));
    y = prog_add(p, y, prog_cols(p, x, 5, 1));
    y = prog_mul(p, y, prog_cols(p, y, 3, 1));
    y = prog_add_w(p, prog_mul_w(p, y, vector(&c.g, 24, 1, 0.1f)), vector(&c.g, 24, 0, 0.3f));
    y = prog_div_w(p, prog_add_w(p, y, vector(&c.g, 1, 0, 0.3f)), vector(&c.g, 24, 2, 0.1f));
    y = prog_mul_w(p, prog_affine(p, y, 0.5f, 1), vector(&c.g, 1, 1, 0.1f));
    parts[0] = prog_softmax(p, y, 8);
    parts[1] = prog_cols(p, y, 4, 12);
    parts[2] = prog_group_sum(p, prog_cols(p, y, 0, 12), 3);
    y = prog_concat(p, parts, 3);
    y = prog_position_scale(p, y, (struct position_scale_args){ .c = 0.3f, .length = 4 });
    check(&c, prog_affine(p, y, 0.3f, 0));
}

static void test_reshape(void **state)
{
    struct grad_case c = { 0 };
    val x;

    (void)state;
    rig_open(&c.g, 24, 14);
    x = prog_reshape(c.g.p, rig_input(&c.g), 3);
    x = prog_norm(c.g.p, x, vector(&c.g, 8, 1, 0.1f), 0, (struct norm_args){ .eps = 1e-5f });
    check(&c, prog_reshape(c.g.p, x, 1));
}

static void attention_case(struct attn_args *a, bool sinks, uint64_t seed)
{
    const uint32_t q = a->n_heads * a->k_dim, k = a->n_kv_heads * a->k_dim;
    const uint32_t v = a->n_kv_heads * a->v_dim;
    struct grad_case c = { 0 };
    val x;

    rig_open(&c.g, q + k + v, seed);
    x = rig_input(&c.g);
    if (a->n_buckets)
        a->buckets = vector(&c.g, a->n_buckets * a->n_heads, 0, 1);
    x = prog_attention(c.g.p, prog_cols(c.g.p, x, 0, q), prog_cols(c.g.p, x, q, k),
                       prog_cols(c.g.p, x, q + k, v), sinks ? vector(&c.g, a->n_heads, 0, 1) : 0,
                       prog_state_kv(c.g.p, a->n_kv_heads, a->k_dim, a->v_dim, a->window), a);
    check(&c, x);
}

static void test_attention(void **state)
{
    const struct attn_args plain = { .n_heads = 4, .n_kv_heads = 2, .k_dim = 8, .v_dim = 8,
                                     .scale = 0.35f, .write = true };
    struct attn_args a = plain;

    (void)state;
    attention_case(&a, false, 20);
    attention_case(&a, true, 21);
    a.window = 4;
    attention_case(&a, false, 22);
    a.mask = MASK_CHUNKED;
    attention_case(&a, false, 23);
    a.mask = MASK_SYMMETRIC;
    attention_case(&a, false, 24);
    a = plain;
    a.mask = MASK_NONE;
    a.v_dim = 6;
    attention_case(&a, false, 25);
    a = plain;
    a.softcap = 2;
    a.alibi_max_bias = 4;
    attention_case(&a, true, 26);
    a = plain;
    a.mask = MASK_NONE;
    a.n_buckets = 8;
    a.max_distance = 9;
    attention_case(&a, false, 27);
    a.mask = MASK_CAUSAL;
    a.softcap = 3;
    attention_case(&a, true, 28);
}

/* Queries of a second instruction over the first one's keys and values, which they train together;
 * alone: the first one's own result goes nowhere. */
static void shared_case(struct attn_args *a, bool alone, uint64_t seed)
{
    const uint32_t q = a->n_heads * a->k_dim, k = a->n_kv_heads * a->k_dim;
    const uint32_t v = a->n_kv_heads * a->v_dim;
    struct grad_case c = { 0 };
    val x, y;
    sid kept;

    rig_open(&c.g, 2 * q + k + v, seed);
    x = rig_input(&c.g);
    kept = prog_state_kv(c.g.p, a->n_kv_heads, a->k_dim, a->v_dim, a->window);
    a->write = true;
    y = prog_attention(c.g.p, prog_cols(c.g.p, x, 0, q), prog_cols(c.g.p, x, 2 * q, k),
                       prog_cols(c.g.p, x, 2 * q + k, v), 0, kept, a);
    a->write = false;
    a->scale *= 0.8f;
    x = prog_attention(c.g.p, prog_cols(c.g.p, x, q, q), 0, 0, 0, kept, a);
    check(&c, alone ? x : prog_add(c.g.p, x, y));
}

static void test_shared_keys(void **state)
{
    struct attn_args a = { .n_heads = 4, .n_kv_heads = 2, .k_dim = 8, .v_dim = 6, .scale = 0.35f };

    (void)state;
    shared_case(&a, false, 30);
    shared_case(&a, true, 31);
    a.window = 4;
    a.softcap = 2;
    shared_case(&a, false, 32);
}

/* A state has one writer, in front of its readers, whose window holds theirs. */
static void test_shared_keys_refused(void **state)
{
    static const char *const words[] = { "nobody in front", "keys already", "window" };

    (void)state;
    for (int wrong = 0; wrong < 3; wrong++) {
        struct attn_args a = { .n_heads = 1, .n_kv_heads = 1, .k_dim = 8, .v_dim = 8, .scale = 1,
                               .window = 4 };
        struct op_rig g;
        struct err e = { 0 };
        sid kept;
        val x;

        rig_open(&g, 8, 60);
        x = rig_input(&g);
        kept = prog_state_kv(g.p, 1, 8, 8, 4);
        for (int i = 0; i < 2; i++) {
            a.write = wrong == 1 || (wrong == 2 && i == 0);
            x = prog_attention(g.p, x, a.write ? x : 0, a.write ? x : 0, 0, kept, &a);
            a.window = wrong == 2 ? 5 : 4;
        }
        assert_true(prog_finish(g.p, &e) < 0);
        assert_non_null(strstr(e.msg, words[wrong]));
        rig_close(&g);
    }
}

static void experts_case(struct route_args r, float balance, bool spread)
{
    const struct train_opts o = { .compute = DTYPE_F32, .balance = balance };
    const uint32_t n = r.n_experts / (r.n_sharing ? r.n_sharing : 1);
    struct grad_case c = { 0 };
    struct program *p;
    val x, ids, weights, y;

    rig_open(&c.g, 24, 30 + (uint64_t)r.score);
    p = c.g.p;
    x = rig_input(&c.g);
    prog_route(p, prog_linear(p, x, matrix(&c.g, 1, r.n_experts, 24, 0.6f), 0, 0,
                              (struct linear_args){ 0 }), 0, &r, &ids, &weights);
    if (spread)
        y = prog_expert_linear(p, prog_expert_spread(p, x, weights), ids,
                               matrix(&c.g, n, 16, 24, 0.3f), 0, 0);
    else
        y = prog_expert_linear(p, x, ids, matrix(&c.g, n, 16, 24, 0.3f),
                               matrix(&c.g, 1, n, 16, 0.3f), 0);
    y = prog_expert_linear(p, prog_unary(p, y, (struct act_args){ .act = ACT_SILU }), ids,
                           matrix(&c.g, n, 24, 16, 0.3f), 0, 0);
    y = prog_expert_sum(p, y, weights);
    check_with(&c, prog_add(p, x, y), 1e-3f, 2e-2, &o);
}

static void test_experts(void **state)
{
    struct route_args r = { .score = ROUTE_SOFTMAX, .n_experts = 5, .n_used = 2 };

    (void)state;
    experts_case(r, 0, false);
    experts_case(r, 0.3f, false);
    r.normalise = true;
    r.scale = 2;
    experts_case(r, 0, true);
    r.score = ROUTE_SIGMOID;
    experts_case(r, 0.2f, false);
    r.score = ROUTE_SOFTMAX_SELECTED;
    r.normalise = false;
    experts_case(r, 0, false);
    r = (struct route_args){ ROUTE_SOFTMAX, 6, 3, .n_sharing = 2, .normalise = true };
    experts_case(r, 0.2f, false);       /* neighbours that share: a row may take one twice */
}

static void test_conv(void **state)
{
    struct grad_case c = { 0 };

    (void)state;
    rig_open(&c.g, 40, 40);
    check(&c, prog_short_conv(c.g.p, rig_input(&c.g), vector(&c.g, 160, 0, 0.5f),
                              vector(&c.g, 40, 0, 0.5f), prog_state_fixed(c.g.p, 120),
                              (struct conv_args){ 4 }));
}

static void conv2d_case(const struct conv2d_args *a, uint32_t channels)
{
    struct grad_case c = { 0 };
    struct program *p;
    val x;

    rig_open(&c.g, a->height * a->width * channels, 46);
    p = c.g.p;
    x = prog_reshape(p, rig_input(&c.g), a->height * a->width);
    x = prog_conv2d(p, x, vector(&c.g, a->n_out * (channels / a->groups) * a->k_height * a->k_width,
                                 0, 0.5f), vector(&c.g, a->n_out, 0, 0.5f), a);
    check(&c, prog_reshape(p, x, 1));
}

static void test_conv2d(void **state)
{
    (void)state;
    conv2d_case(&(struct conv2d_args){ 4, 5, 4, 3, 2, 1, 1, 1, 0, 1, 1, 1 }, 3);
    conv2d_case(&(struct conv2d_args){ 5, 6, 4, 2, 3, 2, 2, 1, 2, 2, 1, 2 }, 4);
}

static void ssm_case(struct ssm_args a, bool per_state)
{
    const uint32_t x = a.n_heads * a.head_dim, bc = a.n_groups * a.d_state;
    const uint32_t n_a = a.n_heads * (per_state ? a.d_state : 1);
    struct grad_case c = { 0 };
    struct program *p;
    val v;
    wid aw;

    rig_open(&c.g, x + a.n_heads + 2 * bc, 41);
    p = c.g.p;
    v = rig_input(&c.g);
    aw = vector(&c.g, n_a, -0.7f, 0.1f);
    check(&c, prog_ssm_scan(p, prog_cols(p, v, 0, x), prog_cols(p, v, x, a.n_heads),
                            prog_cols(p, v, x + a.n_heads, bc),
                            prog_cols(p, v, x + a.n_heads + bc, bc), aw,
                            vector(&c.g, a.n_heads, 0.5f, 0.1f),
                            prog_state_fixed(p, x * a.d_state), &a));
}

static void test_ssm(void **state)
{
    (void)state;
    ssm_case((struct ssm_args){ 4, 6, 8, 2 }, false);
    ssm_case((struct ssm_args){ 24, 1, 8, 1 }, true);
}

static val sigmoid_of(struct program *p, val x, float scale)
{
    return prog_affine(p, prog_unary(p, x, (struct act_args){ .act = ACT_SIGMOID }), scale, 0);
}

static void delta_case(const struct delta_args *a, bool per_key)
{
    const uint32_t k = a->n_k_heads * a->k_dim, v = a->n_heads * a->v_dim;
    const uint32_t decays = a->n_heads * (per_key ? a->k_dim : 1);
    struct grad_case c = { 0 };
    struct program *p;
    val x;

    rig_open(&c.g, 2 * k + v + decays + a->n_heads, 42);
    p = c.g.p;
    x = rig_input(&c.g);
    check(&c, prog_delta_rule(p, prog_cols(p, x, 0, k), prog_affine(p, prog_cols(p, x, k, k), 0.4f, 0),
                              prog_cols(p, x, 2 * k, v),
                              sigmoid_of(p, prog_cols(p, x, 2 * k + v, decays), -1),
                              sigmoid_of(p, prog_cols(p, x, 2 * k + v + decays, a->n_heads), 1),
                              prog_state_fixed(p, v * a->k_dim), a));
}

static void test_delta(void **state)
{
    (void)state;
    delta_case(&(struct delta_args){ 4, 2, 8, 6, 0.35f, false }, false);
    delta_case(&(struct delta_args){ 4, 2, 16, 6, 0.35f, true }, false);
    delta_case(&(struct delta_args){ 2, 2, 7, 5, 0.35f, false }, true);
}

static void test_linear_attention(void **state)
{
    const struct linear_attn_args a = { 4, 8, 6, 0.35f, 1.0f };
    struct grad_case c = { 0 };
    val x;

    (void)state;
    rig_open(&c.g, 2 * 32 + 24, 43);
    x = rig_input(&c.g);
    check(&c, prog_linear_attention(c.g.p, prog_cols(c.g.p, x, 0, 32), prog_cols(c.g.p, x, 32, 32),
                                    prog_cols(c.g.p, x, 64, 24), prog_state_fixed(c.g.p, 24 * 8), &a));
}

static void test_wkv(void **state)
{
    const struct wkv_args a = { 3, 8 };
    struct grad_case c = { 0 };
    struct program *p;
    val x, o[6];

    (void)state;
    rig_open(&c.g, 6 * 24, 44);
    p = c.g.p;
    x = rig_input(&c.g);
    for (uint32_t i = 0; i < 6; i++)
        o[i] = prog_cols(p, x, i * 24, 24);
    check(&c, prog_wkv(p, o[0], sigmoid_of(p, o[1], -1), o[2], o[3], prog_affine(p, o[4], 0.3f, 0),
                       prog_affine(p, o[5], 0.3f, 0), prog_state_fixed(p, 24 * 8), &a));
}

/* One value as two operands, and a shift. */
static void test_shift(void **state)
{
    struct grad_case c = { 0 };
    val x;

    (void)state;
    rig_open(&c.g, 20, 45);
    x = rig_input(&c.g);
    check(&c, prog_mul(c.g.p, x, prog_shift(c.g.p, x, prog_state_fixed(c.g.p, 20))));
}

static void test_cells(void **state)
{
    (void)state;
    for (int kind = CELL_LSTM; kind <= CELL_GRU; kind++) {
        const uint32_t n = 12, gates = kind == CELL_LSTM ? 4 : 3;
        struct grad_case c = { 0 };

        rig_open(&c.g, gates * n, 50);
        check(&c, prog_cell(c.g.p, rig_input(&c.g), vector(&c.g, gates * n * n, 0, 0.4f),
                            vector(&c.g, gates * n, 0, 0.3f),
                            prog_state_fixed(c.g.p, kind == CELL_LSTM ? 2 * n : n),
                            (struct cell_args){ (enum cell_kind)kind, n }));
    }
}

/* What has no backward is named. Frequency factors are the case at hand: they are read in double,
 * once per step, and train_open() lets nobody train them. */
static void test_no_backward(void **state)
{
    const struct rope_args a = { .n_heads = 1, .head_dim = 8, .n_rot = 8, .base = 100,
                                 .freq_scale = 1, .attn_factor = 1 };
    bool trains[3] = { false, true, true };
    uint8_t drop[8] = { 0 };
    struct grad_case c = { 0 };
    struct reverse r;
    struct err e = { 0 };
    val x;

    (void)state;
    rig_open(&c.g, 8, 60);
    x = rig_input(&c.g);
    rig_finish(&c.g, prog_rope(c.g.p, x, vector(&c.g, 4, 1, 0.1f), &a));
    assert_int_equal(prog_n_weights(c.g.p), 2);
    assert_int_equal(reverse_derive(&r, c.g.p, trains, drop, &e), WATT_ENOTSUP);
    assert_non_null(strstr(e.msg, "rope"));
    trains[2] = false;
    assert_int_equal(reverse_derive(&r, c.g.p, trains, drop, &e), 0);
    reverse_deinit(&r);
    rig_close(&c.g);
}

/* ---- a whole model ---- */

enum { DIM = 32, HEADS = 4, WIDE = 48, LAYERS = 3 };

static val small_linear(struct grad_case *c, val x, uint32_t rows)
{
    return prog_linear(c->g.p, x, matrix(&c->g, 1, rows, prog_width(c->g.p, x), 0.2f), 0, 0,
                       (struct linear_args){ 0 });
}

/* Llama's blocks; sharing: every second layer reads the keys and values of the one in front of it
 * (Brandon et al. 2024, arXiv 2405.12981). */
static val model_of(struct grad_case *c, uint64_t seed, bool sharing)
{
    const struct rope_args r = { .pairing = ROPE_NEOX, .n_heads = HEADS, .head_dim = DIM / HEADS,
                                 .n_rot = DIM / HEADS, .base = 100, .freq_scale = 1,
                                 .attn_factor = 1 };
    struct attn_args a = { .n_heads = HEADS, .n_kv_heads = HEADS, .k_dim = DIM / HEADS,
                           .v_dim = DIM / HEADS, .scale = 0.35f };
    struct program *p;
    val x, y, qkv;
    sid kept = 0;

    rig_open(&c->g, DIM, seed);
    p = c->g.p;
    x = rig_input(&c->g);
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
        prog_layer(p, layer);
        y = prog_norm(p, x, vector(&c->g, DIM, 1, 0.1f), 0, (struct norm_args){ .eps = 1e-5f });
        a.write = !sharing || layer % 2 == 0;
        qkv = small_linear(c, y, (a.write ? 3 : 1) * DIM);
        if (a.write)
            kept = prog_state_kv(p, HEADS, DIM / HEADS, DIM / HEADS, 0);
        y = prog_attention(p, prog_rope(p, prog_cols(p, qkv, 0, DIM), 0, &r),
                           a.write ? prog_rope(p, prog_cols(p, qkv, DIM, DIM), 0, &r) : 0,
                           a.write ? prog_cols(p, qkv, 2 * DIM, DIM) : 0, 0, kept, &a);
        x = prog_add(p, x, small_linear(c, y, DIM));
        y = prog_norm(p, x, vector(&c->g, DIM, 1, 0.1f), 0, (struct norm_args){ .eps = 1e-5f });
        y = prog_gated(p, small_linear(c, y, WIDE), small_linear(c, y, WIDE),
                       (struct act_args){ .act = ACT_SILU });
        x = prog_add(p, x, small_linear(c, y, DIM));
    }
    prog_layer(p, UINT32_MAX);
    return small_linear(c, x, RIG_VOCAB);
}

static val model(struct grad_case *c, uint64_t seed)
{
    return model_of(c, seed, false);
}

static void test_sharing_model(void **state)
{
    const struct train_opts o = { .compute = DTYPE_F32, .dropout = 0.2f, .recompute = true };
    struct grad_case c = { 0 }, d = { 0 };

    (void)state;
    check_with(&c, model_of(&c, 78, true), 2e-3f, 1e-2, NULL);
    check_with(&d, model_of(&d, 79, true), 2e-3f, 1e-2, &o);
}

static void test_dropout(void **state)
{
    const struct train_opts o = { .compute = DTYPE_F32, .dropout = 0.3f, .seed = 4 };
    struct grad_case c = { 0 };

    (void)state;
    check_with(&c, model(&c, 70), 2e-3f, 1e-2, &o);
}

static void test_attn_dropout(void **state)
{
    const struct train_opts o = { .compute = DTYPE_F32, .attn_dropout = 0.3f, .seed = 4 };
    const struct train_opts both = { .compute = DTYPE_F32, .attn_dropout = 0.1f, .dropout = 0.3f };
    const struct train_opts half = { .compute = DTYPE_BF16, .kv = DTYPE_F16, .attn_dropout = 0.3f };
    struct grad_case c = { 0 }, d = { 0 }, h = { 0 };
    struct train_loss with, without;

    (void)state;
    check_with(&c, model(&c, 70), 2e-3f, 1e-2, &o);
    check_with(&d, model(&d, 70), 2e-3f, 1e-2, &both);
    rig_finish(&h.g, model(&h, 70));
    fill_batch(&h);
    check_threads(&h, &half);
    open_trainer(&h, 2, &half);
    forward_backward(&h, &with);
    close_trainer(&h);
    open_trainer(&h, 2, &(struct train_opts){ .compute = DTYPE_BF16, .kv = DTYPE_F16 });
    forward_backward(&h, &without);
    close_trainer(&h);
    assert_true(with.sum != without.sum);
    rig_close(&h.g);
}

/* BF16 rounds operands: gradients are near those of F32, and of one set of bits. */
static void test_bf16(void **state)
{
    const struct train_opts half = { .compute = DTYPE_BF16, .kv = DTYPE_F16 };
    struct grad_case c = { 0 };
    struct train_loss l;
    float *want, *got;
    double near = 0, all = 0;
    size_t n;

    (void)state;
    rig_finish(&c.g, model(&c, 71));
    fill_batch(&c);
    open_trainer(&c, 2, NULL);
    forward_backward(&c, &l);
    want = gradients(&c, &n);
    close_trainer(&c);
    open_trainer(&c, 2, &half);
    forward_backward(&c, &l);
    got = gradients(&c, &n);
    close_trainer(&c);
    for (size_t i = 0; i < n; i++) {
        near += (double)(got[i] - want[i]) * (got[i] - want[i]);
        all += (double)want[i] * want[i];
    }
    assert_true(sqrt(near / all) < 0.03);
    check_threads(&c, &half);
    mem_free(want);
    mem_free(got);
    rig_close(&c.g);
}

/* The program over what a file with the masters in their serving types would hold. */
static struct program *served(struct grad_case *c)
{
    struct tensor t[RIG_WEIGHTS + 2] = { 0 };
    struct program *p = NULL;
    struct err e = { 0 };

    assert_true(prog_n_weights(c->g.p) <= RIG_WEIGHTS + 1);
    for (uint32_t i = 0; i < train_n_params(c->t); i++) {
        const struct train_param *pa = train_param(c->t, i);
        uint16_t *half = mem_array(pa->n, sizeof *half);

        assert_non_null(half);
        t[i + 1] = pa->shape;
        t[i + 1].dtype = pa->serve;
        t[i + 1].data = pa->w;
        if (pa->serve == DTYPE_BF16) {
            for (uint64_t k = 0; k < pa->n; k++)
                half[k] = f32_to_bf16(pa->w[k]);
            t[i + 1].data = half;
            t[i + 1].size_bytes = pa->n * 2;
        } else {
            mem_free(half);
        }
    }
    assert_int_equal(prog_clone(&p, c->g.p, t, &e), 0);
    return p;
}

/* Every stream by itself, a row at a time, in the executor that serves. */
static void serve(struct grad_case *c, enum dtype kv, float *out)
{
    const struct exec_limits limits = { 1, 1, 1 };
    const struct cpu_exec_opts o = { .team = c->team, .isa_mask = CPU_ALL };
    const uint32_t width = c->g.out_width, page = 0, zero = 0;
    struct program *p = served(c);
    struct kv_layout layout;
    struct exec *x = NULL;
    struct err e = { 0 };
    uint32_t row = 0;

    assert_int_equal(kv_layout_init(&layout, p, kv, kv, &e), 0);
    assert_int_equal(cpu_exec_open(&x, p, &layout, &limits, &o, &e), 0);
    for (uint32_t s = 0; s < STREAMS; s++) {
        void *pages = mem_aligned(layout.page_bytes, 64);

        for (uint32_t i = 0; i < lengths[s]; i++, row++) {
            const struct stream stream = { .n_rows = 1, .n_past = i, .pages = &page };
            const struct batch b = { .n_rows = 1, .n_streams = 1, .n_out = 1,
                                     .token = c->token + row, .row_stream = &zero,
                                     .streams = &stream, .out_row = &zero };

            assert_int_equal(exec_step(x, &b, pages, out + (size_t)row * width, &e), 0);
        }
        mem_free(pages);
    }
    exec_close(x);
    kv_layout_deinit(&layout);
    for (wid w = 1; w <= prog_n_weights(p); w++)
        if (prog_weight_at(p, w)->t.dtype == DTYPE_BF16)
            mem_free((void *)(uintptr_t)prog_weight_at(p, w)->t.data);
    prog_close(p);
}

static void test_served(void **state)
{
    const enum dtype types[][2] = { { DTYPE_F32, DTYPE_F32 }, { DTYPE_BF16, DTYPE_F32 },
                                    { DTYPE_BF16, DTYPE_F16 } };

    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const struct train_opts o = { .compute = types[i][0], .kv = types[i][1] };
        struct grad_case c = { 0 };
        struct train_loss l;
        struct err e = { 0 };
        float *want, *got;
        size_t n;

        rig_finish(&c.g, model_of(&c, 72, i == 2));
        fill_batch(&c);
        for (int k = 0; k < ROWS; k++)
            c.target[k] = 0;
        n = (size_t)ROWS * c.g.out_width;
        want = rig_floats(n);
        got = rig_floats(n);
        open_trainer(&c, 2, &o);
        forward_backward(&c, &l);
        for (uint32_t k = 0; k < train_n_params(c.t); k++)      /* a step of descent */
            for (uint64_t j = 0; j < train_param(c.t, k)->n; j++)
                train_param(c.t, k)->w[j] -= 0.1f * train_param(c.t, k)->g[j];
        train_refresh(c.t);
        assert_int_equal(train_logits(c.t, &c.b, got, &e), 0);
        serve(&c, types[i][1], want);
        assert_memory_equal(got, want, n * sizeof *got);
        close_trainer(&c);
        rig_close(&c.g);
        mem_free(want);
        mem_free(got);
    }
}

/* Two batches add up; a batch that is wrong says so and adds nothing. */
static void test_batches(void **state)
{
    struct grad_case c = { 0 };
    struct train_loss l;
    struct train_batch bad;
    struct train_memory planned, had;
    struct err e = { 0 };
    float *once, *twice;
    int32_t wild[ROWS];
    const struct train_opts o = { .compute = DTYPE_F32, .max_rows = ROWS + 4,
                                  .max_streams = STREAMS + 1 };
    size_t n;

    (void)state;
    rig_finish(&c.g, model(&c, 73));
    fill_batch(&c);
    open_trainer(&c, 2, NULL);
    train_memory(c.t, &had);
    assert_int_equal(train_plan(c.g.p, &o, 2, &planned, &e), 0);
    assert_memory_equal(&planned, &had, sizeof had);
    forward_backward(&c, &l);
    assert_int_equal(l.n_targets, 19);
    assert_true(train_ops(c.t, ROWS, STREAMS, ROWS) > 6.0 * ROWS * LAYERS * (3 + 1 + 3) * DIM * DIM);
    once = gradients(&c, &n);
    assert_int_equal(train_forward_backward(c.t, &c.b, c.scale, &l, &e), 0);
    twice = gradients(&c, &n);
    for (size_t i = 0; i < n; i++)
        assert_true(fabsf(twice[i] - 2 * once[i]) <= 1e-5f + 1e-5f * fabsf(once[i]));
    mem_free(once);
    once = twice;
    memcpy(wild, c.token, sizeof wild);
    wild[3] = RIG_VOCAB;
    bad = c.b;
    bad.token = wild;
    assert_int_equal(train_forward_backward(c.t, &bad, 1, &l, &e), WATT_EINVAL);
    bad = c.b;
    bad.n_rows--;
    assert_int_equal(train_forward_backward(c.t, &bad, 1, &l, &e), WATT_EINVAL);
    bad = c.b;
    memset(wild, 0xFF, sizeof wild);
    bad.target = wild;
    assert_int_equal(train_forward_backward(c.t, &bad, 1, &l, &e), WATT_EINVAL);
    wild[0] = (int32_t)c.g.out_width;
    assert_int_equal(train_forward_backward(c.t, &bad, 1, &l, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "target"));
    twice = gradients(&c, &n);
    assert_memory_equal(once, twice, n * sizeof *once);
    mem_free(once);
    mem_free(twice);
    close_trainer(&c);
    rig_close(&c.g);
}

static bool only_vectors(void *ctx, const struct prog_weight *w)
{
    (void)ctx;
    return w->uses == USE_VECTOR;
}

/* Frozen weights have no master, and what trains has the gradient that it has among all. */
static void test_frozen(void **state)
{
    const struct train_opts o = { .compute = DTYPE_F32, .trains = only_vectors };
    struct grad_case c = { 0 };
    struct train_loss l;
    float *some;
    size_t n;

    (void)state;
    rig_finish(&c.g, model(&c, 74));
    fill_batch(&c);
    open_trainer(&c, 2, &o);
    forward_backward(&c, &l);
    some = gradients(&c, &n);
    assert_int_equal(n, 2 * DIM * LAYERS);
    close_trainer(&c);
    open_trainer(&c, 2, NULL);
    forward_backward(&c, &l);
    n = 0;
    for (uint32_t i = 0; i < train_n_params(c.t); i++) {
        const struct train_param *p = train_param(c.t, i);

        if (p->kind != TRAIN_VECTOR)
            continue;
        assert_memory_equal(p->g, some + n, p->n * sizeof *some);
        n += p->n;
    }
    close_trainer(&c);
    mem_free(some);
    rig_close(&c.g);
}

/* Layers with everything that keeps a state, and experts. */
static val mixed_model(struct grad_case *c)
{
    const struct route_args r = { .score = ROUTE_SOFTMAX, .n_experts = 4, .n_used = 2 };
    const struct ssm_args ssm = { 4, 8, 8, 1 };
    struct program *p;
    val x, y, ids, weights;

    rig_open(&c->g, DIM, 75);
    p = c->g.p;
    x = rig_input(&c->g);
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
        prog_layer(p, layer);
        y = small_linear(c, x, DIM + 4 + 16);
        y = prog_short_conv(p, y, vector(&c->g, (DIM + 20) * 3, 0, 0.5f), 0,
                            prog_state_fixed(p, (DIM + 20) * 2), (struct conv_args){ 3 });
        y = prog_ssm_scan(p, prog_cols(p, y, 0, DIM), prog_cols(p, y, DIM, 4),
                          prog_cols(p, y, DIM + 4, 8), prog_cols(p, y, DIM + 12, 8),
                          vector(&c->g, 4, -0.7f, 0.1f), 0, prog_state_fixed(p, DIM * 8), &ssm);
        x = prog_add(p, x, y);
        prog_route(p, small_linear(c, x, 4), 0, &r, &ids, &weights);
        y = prog_expert_linear(p, x, ids, matrix(&c->g, 4, DIM, DIM, 0.2f), 0, 0);
        x = prog_add(p, x, prog_expert_sum(p, y, weights));
        y = small_linear(c, x, 4 * DIM);
        x = prog_add(p, x, prog_cell(p, y, vector(&c->g, 4 * DIM * DIM, 0, 0.1f), 0,
                                     prog_state_fixed(p, 2 * DIM),
                                     (struct cell_args){ CELL_LSTM, DIM }));
    }
    prog_layer(p, UINT32_MAX);
    return small_linear(c, x, RIG_VOCAB);
}

/* Layers run again give the gradients that kept values give, in less memory. */
static void test_recompute(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++)
        for (int half = 0; half < 2; half++) {
            struct train_opts o = { .compute = half ? DTYPE_BF16 : DTYPE_F32, .dropout = 0.2f,
                                    .attn_dropout = 0.2f, .balance = 0.1f };
            struct train_memory kept, again;
            struct train_loss a, b;
            struct grad_case c = { 0 };
            float *want, *got;
            size_t n;

            rig_finish(&c.g, kind == 1 ? mixed_model(&c) : model_of(&c, 76, kind == 2));
            fill_batch(&c);
            open_trainer(&c, 2, &o);
            forward_backward(&c, &a);
            want = gradients(&c, &n);
            train_memory(c.t, &kept);
            close_trainer(&c);
            o.recompute = true;
            open_trainer(&c, 2, &o);
            forward_backward(&c, &b);
            forward_backward(&c, &b);
            got = gradients(&c, &n);
            train_memory(c.t, &again);
            close_trainer(&c);
            assert_memory_equal(got, want, n * sizeof *got);
            assert_true(a.sum == b.sum && a.balance == b.balance);
            assert_true(again.values < kept.values);
            check_threads(&c, &o);
            mem_free(want);
            mem_free(got);
            rig_close(&c.g);
        }
}

static float *gradients_of(struct grad_case *c, const struct train_opts *o, size_t *n)
{
    struct train_loss l;
    float *g;

    open_trainer(c, 2, o);
    forward_backward(c, &l);
    g = gradients(c, n);
    close_trainer(c);
    return g;
}

/* Every instruction set's kernels give the gradients of the scalar ones, up to rounding. */
static void test_instruction_sets(void **state)
{
    const uint32_t masks[] = { CPU_AVX2, CPU_AVX2 | CPU_AVX512, CPU_NEON, CPU_ALL };

    (void)state;
    for (int half = 0; half < 2; half++) {
        const struct train_opts o = { .compute = half ? DTYPE_BF16 : DTYPE_F32,
                                      .kv = half ? DTYPE_F16 : DTYPE_F32, .balance = 0.1f };
        struct grad_case c = { .narrow = true };
        float *want;
        size_t n;

        for (int kind = 0; kind < 2; kind++) {
            rig_finish(&c.g, kind ? mixed_model(&c) : model(&c, 77));
            fill_batch(&c);
            c.mask = 0;
            want = gradients_of(&c, &o, &n);
            for (size_t m = 0; m < sizeof masks / sizeof *masks; m++) {
                double off = 0, all = 0;
                float *got;

                c.mask = masks[m];
                got = gradients_of(&c, &o, &n);
                for (size_t i = 0; i < n; i++) {
                    off += (double)(got[i] - want[i]) * (got[i] - want[i]);
                    all += (double)want[i] * want[i];
                }
                if (!(sqrt(off / all) < (half ? 1e-2 : 1e-5)))
                    fail_msg("mask %x: gradients %g apart", masks[m], sqrt(off / all));
                mem_free(got);
            }
            mem_free(want);
            rig_close(&c.g);
        }
    }
}

static bool none(void *ctx, const struct prog_weight *w)
{
    (void)ctx;
    (void)w;
    return false;
}

/* Options that can't be, and memory that is short at each allocation: errors, nothing else. */
static void test_refused(void **state)
{
    struct train_opts o = { .compute = DTYPE_BF16, .isa_mask = CPU_ALL, .max_rows = ROWS,
                            .max_streams = STREAMS, .recompute = true, .balance = 0.1f,
                            .dropout = 0.1f };
    const struct train_opts good = o;
    struct train_opts bad[] = { o, o, o, o, o };
    struct train_memory m;
    struct grad_case c = { 0 };
    struct train *t = NULL;
    struct err e = { 0 };

    (void)state;
    rig_finish(&c.g, mixed_model(&c));
    bad[0].compute = DTYPE_Q4_0;
    bad[1].kv = DTYPE_Q8_0;
    bad[2].dropout = 1;
    bad[3].attn_dropout = -0.5f;
    bad[4].max_streams = ROWS + 1;
    for (int i = 0; i < 5; i++)
        assert_int_equal(train_plan(c.g.p, &bad[i], 2, &m, &e), WATT_EINVAL);
    o = good;
    o.trains = none;
    assert_int_equal(train_plan(c.g.p, &o, 2, &m, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "trains"));
#ifdef WATT_FAULTS
    o = good;
    assert_int_equal(team_open(&o.team, 2, &e), 0);
    for (unsigned long n = 1; !t; n++) {
        (void)fault_arm(FAULT_ALLOC, n);
        if (train_open(&t, c.g.p, &o, &e) < 0)
            assert_int_equal(e.code, WATT_ENOMEM);
        (void)fault_arm(FAULT_ALLOC, 0);
        assert_true(n < 2000);
    }
    train_close(t);
    team_close(o.team);
#endif
    (void)t;
    rig_close(&c.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear), cmocka_unit_test(test_tied), cmocka_unit_test(test_norms),
        cmocka_unit_test(test_rope), cmocka_unit_test(test_units),
        cmocka_unit_test(test_gate_limits), cmocka_unit_test(test_sums),
        cmocka_unit_test(test_reshape), cmocka_unit_test(test_attention),
        cmocka_unit_test(test_shared_keys), cmocka_unit_test(test_shared_keys_refused),
        cmocka_unit_test(test_experts), cmocka_unit_test(test_conv), cmocka_unit_test(test_ssm),
        cmocka_unit_test(test_delta), cmocka_unit_test(test_linear_attention),
        cmocka_unit_test(test_wkv), cmocka_unit_test(test_shift), cmocka_unit_test(test_conv2d),
        cmocka_unit_test(test_cells), cmocka_unit_test(test_no_backward),
        cmocka_unit_test(test_sharing_model), cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_attn_dropout), cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_served), cmocka_unit_test(test_batches),
        cmocka_unit_test(test_frozen), cmocka_unit_test(test_recompute),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_instruction_sets),
    };

    return cmocka_run_group_tests_name("grad", tests, NULL, NULL);
}
