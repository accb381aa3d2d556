/* build_scan.c: the recurrent blocks that architectures share: short convolutions, Mamba-1 and
 * Mamba-2. */
#include <inttypes.h>
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
    kernel = build_need(b, full, SHAPE(width, n_taps));
    (void)snprintf(full, sizeof full, "%s.bias", name);
    bias = build_opt(b, full, SHAPE(width));
    return prog_short_conv(b->p, x, kernel, bias, prog_state_fixed(b->p, (uint32_t)n_state),
                           (struct conv_args){ n_taps });
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
