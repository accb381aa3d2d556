/* build_scan.c: the recurrent blocks that architectures share: short convolutions, Kimi Delta
 * Attention, Mamba-1 and Mamba-2. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "models/build.h"

val build_short_conv(struct build *b, val x, const char *name, uint32_t n_taps)
{
    const int64_t width = prog_width(b->p, x);
    const uint64_t n_state = (uint64_t)width * (n_taps - 1u);
    char full[64];
    wid kernel, bias;

    if (prog_failed(b->p))
        return 0;
    if (n_taps < 2 || n_taps > 256 || n_state > (1u << 28)) {
        prog_fail(b->p, WATT_EFORMAT, "%s: a convolution over %u rows of %" PRId64 " columns, "
                  "expected 2..256 rows", gguf_path(b->g), n_taps, width);
        return 0;
    }
    (void)snprintf(full, sizeof full, "%s.weight", name);
    kernel = build_need(b, full, build_dims(b, full) > 2 ? SHAPE(width, 1, n_taps)
                                                         : SHAPE(width, n_taps));
    (void)snprintf(full, sizeof full, "%s.bias", name);
    bias = build_opt(b, full, SHAPE(width));
    return prog_short_conv(b->p, x, kernel, bias, prog_state_fixed(b->p, (uint32_t)n_state),
                           (struct conv_args){ n_taps });
}

/* ---- Kimi Delta Attention ---- */

struct kda { uint32_t n, dim, taps; };

static val act(struct build *b, val x, enum act f)
{
    return prog_unary(b->p, x, (struct act_args){ .act = f });
}

/* A head's part of q, k or v: a product, a convolution over time, SiLU. */
static val kda_part(struct build *b, val x, const struct kda *a, char which)
{
    char linear[32], conv[32];

    (void)snprintf(linear, sizeof linear, "blk.%%u.attn_%c", which);
    (void)snprintf(conv, sizeof conv, "blk.%%u.ssm_conv1d_%c", which);
    x = build_linear(b, x, linear, a->n * a->dim);
    return act(b, build_short_conv(b, x, conv, a->taps), ACT_SILU);
}

/* x / sqrt(sum of x^2 + eps), per head. */
static val unit_length(struct build *b, val x, uint32_t dim)
{
    const struct norm_args a = { .kind = NORM_RMS, .group = dim,
                                 .eps = b->norm.eps / (float)dim };

    return prog_affine(b->p, prog_norm(b->p, x, 0, 0, a), (float)(1 / sqrt(dim)), 0);
}

/* From one matrix, or a narrow pair. */
static val kda_pair(struct build *b, val x, const struct kda *a, char which)
{
    char first[32], second[32], weight[40];

    (void)snprintf(first, sizeof first, "blk.%%u.ssm_%c_a", which);
    (void)snprintf(second, sizeof second, "blk.%%u.ssm_%c_b", which);
    (void)snprintf(weight, sizeof weight, "%s.weight", second);
    if (!build_has(b, weight))
        return build_linear(b, x, first, a->n * a->dim);
    return build_linear(b, build_linear(b, x, first, 0), second, a->n * a->dim);
}

/* Logarithms of what every column of the state keeps. */
static val kda_decay(struct build *b, val x, const struct kda *a, float lower_bound)
{
    const val f = prog_add_w(b->p, kda_pair(b, x, a, 'f'),
                             build_need(b, "blk.%u.ssm_dt.bias", SHAPE(a->n * a->dim)));
    const wid rate = build_need(b, "blk.%u.ssm_a", SHAPE(a->n, 1));
    const val ones = prog_affine(b->p, prog_cols(b->p, f, 0, a->n), 0, 1);
    const val rates = prog_reshape(b->p, prog_mul_w(b->p, ones, rate), a->n);
    val y = prog_reshape(b->p, lower_bound < 0 ? f : act(b, f, ACT_SOFTPLUS), a->n);

    y = prog_mul(b->p, y, rates);
    if (lower_bound < 0)
        y = prog_affine(b->p, act(b, y, ACT_SIGMOID), lower_bound, 0);
    return prog_reshape(b->p, y, 1);
}

val build_kda(struct build *b, val x, uint32_t n_heads, float lower_bound)
{
    const struct kda a = { n_heads, build_need_u32(b, "kda.head_dim"),
                           build_need_u32(b, "ssm.conv_kernel") };
    const struct delta_args args = { .n_heads = a.n, .n_k_heads = a.n, .k_dim = a.dim,
                                     .v_dim = a.dim, .scale = (float)(1 / sqrt(a.dim)) };
    const bool biases = b->biases;
    val q, k, v, y;

    if (prog_failed(b->p))
        return 0;
    if (a.n == 0 || a.n > 4096 || a.dim > 4096 || (uint64_t)a.n * a.dim * a.dim > (1u << 28)) {
        prog_fail(b->p, WATT_EFORMAT, "%s: delta attention of %u heads of %u columns: the state must "
                  "stay under 2^28 numbers", gguf_path(b->g), a.n, a.dim);
        return 0;
    }
    b->biases = false;      /* the published block has none */
    q = unit_length(b, kda_part(b, x, &a, 'q'), a.dim);
    k = unit_length(b, kda_part(b, x, &a, 'k'), a.dim);
    v = kda_part(b, x, &a, 'v');
    y = prog_delta_rule(b->p, q, k, v, kda_decay(b, x, &a, lower_bound),
                        act(b, build_linear(b, x, "blk.%u.ssm_beta", a.n), ACT_SIGMOID),
                        prog_state_fixed(b->p, a.n * a.dim * a.dim), &args);
    y = prog_gated(b->p, kda_pair(b, x, &a, 'g'), build_norm_heads(b, y, "blk.%u.ssm_norm", a.dim),
                   (struct act_args){ .act = ACT_SIGMOID });
    y = build_linear(b, y, "blk.%u.attn_output", b->n_embd);
    b->biases = biases;
    return y;
}

/* ---- Mamba ---- */

struct sizes { uint32_t inner, state, rank, taps, groups; };

/* Zeros after an error. */
static struct sizes read_sizes(struct build *b)
{
    const struct sizes s = {
        build_need_u32(b, "ssm.inner_size"), build_need_u32(b, "ssm.state_size"),
        build_need_u32(b, "ssm.time_step_rank"), build_need_u32(b, "ssm.conv_kernel"),
        build_u32(b, "ssm.group_count", 1),
    };

    if (prog_failed(b->p))
        return (struct sizes){ 0 };
    if (s.inner > PROG_MAX_WIDTH / 8 || s.state > 65536 || s.rank > PROG_MAX_WIDTH / 8 ||
        (uint64_t)s.groups * s.state > PROG_MAX_WIDTH / 8 || s.inner % s.groups != 0 ||
        (uint64_t)s.inner * s.state > (1u << 28)) {
        prog_fail(b->p, WATT_EFORMAT, "%s: state space of %u columns with %u numbers each in %u "
                  "groups: groups must divide and the state stay under 2^28 numbers",
                  gguf_path(b->g), s.inner, s.state, s.groups);
        return (struct sizes){ 0 };
    }
    return s;
}

static const struct act_args silu = { .act = ACT_SILU };

static val scan(struct build *b, val x, val dt, val bs, val cs, wid a, const struct ssm_args *args)
{
    const uint32_t n = args->n_heads * args->head_dim * args->d_state;

    return prog_ssm_scan(b->p, x, dt, bs, cs, a,
                         build_need(b, "blk.%u.ssm_d", args->head_dim == 1
                                                           ? SHAPE(args->n_heads)
                                                           : SHAPE(args->n_heads, 1)),
                         prog_state_fixed(b->p, n), args);
}

/* Norm of dt, B or C: with a gain where there is one, plain where the keys ask for it. */
static val inner_norm(struct build *b, val x, const char *name, bool always)
{
    char full[64];

    (void)snprintf(full, sizeof full, "%s.weight", name);
    if (build_has(b, full))
        return build_norm(b, x, name);
    return always ? prog_norm(b->p, x, 0, 0, b->norm) : x;
}

val build_mamba(struct build *b, val x)
{
    const struct sizes n = read_sizes(b);
    const bool norms = build_bool(b, "ssm.dt_b_c_rms", false);
    const struct ssm_args args = { n.inner, 1, n.state, 1 };
    val xz, u, y, dt, bs, cs;

    if (prog_failed(b->p))
        return 0;
    xz = build_linear(b, x, "blk.%u.ssm_in", 2 * n.inner);
    u = build_short_conv(b, prog_cols(b->p, xz, 0, n.inner), "blk.%u.ssm_conv1d", n.taps);
    u = prog_unary(b->p, u, silu);
    y = build_linear(b, u, "blk.%u.ssm_x", n.rank + 2 * n.state);
    dt = inner_norm(b, prog_cols(b->p, y, 0, n.rank), "blk.%u.ssm_dt_norm", norms);
    bs = inner_norm(b, prog_cols(b->p, y, n.rank, n.state), "blk.%u.ssm_b_norm", norms);
    cs = inner_norm(b, prog_cols(b->p, y, n.rank + n.state, n.state), "blk.%u.ssm_c_norm", norms);
    dt = build_linear(b, dt, "blk.%u.ssm_dt", n.inner);
    y = scan(b, u, dt, bs, cs, build_need(b, "blk.%u.ssm_a", SHAPE(n.inner, n.state)), &args);
    y = prog_gated(b->p, prog_cols(b->p, xz, n.inner, n.inner), y, silu);
    return build_linear(b, y, "blk.%u.ssm_out", b->n_embd);
}

val build_mamba2(struct build *b, val x)
{
    const struct sizes n = read_sizes(b);
    const uint32_t bc = n.groups * n.state, conv = n.inner + 2 * bc;
    struct ssm_args args = { n.rank, 0, n.state, n.groups };
    val all, u, y, dt;

    if (prog_failed(b->p))
        return 0;
    if (n.inner % n.rank != 0) {
        prog_fail(b->p, WATT_EFORMAT, "%s: key %s.ssm.inner_size is %u, expected a multiple of the "
                  "%u heads", gguf_path(b->g), b->arch, n.inner, n.rank);
        return 0;
    }
    args.head_dim = n.inner / n.rank;
    all = build_linear(b, x, "blk.%u.ssm_in", n.inner + conv + n.rank);
    u = build_short_conv(b, prog_cols(b->p, all, n.inner, conv), "blk.%u.ssm_conv1d", n.taps);
    u = prog_unary(b->p, u, silu);
    dt = prog_add_w(b->p, prog_cols(b->p, all, n.inner + conv, n.rank),
                    build_need(b, "blk.%u.ssm_dt.bias", SHAPE(n.rank)));
    y = scan(b, prog_cols(b->p, u, 0, n.inner), dt, prog_cols(b->p, u, n.inner, bc),
             prog_cols(b->p, u, n.inner + bc, bc),
             build_need(b, "blk.%u.ssm_a", SHAPE(n.rank, 1)), &args);
    y = prog_gated(b->p, prog_cols(b->p, all, 0, n.inner), y, silu);
    if (build_has(b, "blk.%u.ssm_norm.weight"))
        y = build_norm_heads(b, y, "blk.%u.ssm_norm", n.inner / n.groups);
    return build_linear(b, y, "blk.%u.ssm_out", b->n_embd);
}
