/* op_rig.h: one operation in a program of its own: operands come from the columns of an embedding
 * table, so that a test knows every number, and the result of every row is wanted. Runs it in
 * either executor, in steps of any cut, with any streams beside it. Include after cmocka.h. */
#ifndef TESTS_OP_RIG_H
#define TESTS_OP_RIG_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/team.h"
#include "chips/cpu/exec.h"
#include "chips/exec.h"

enum { RIG_VOCAB = 61, RIG_ROWS = 96, RIG_STREAMS = 3, RIG_WEIGHTS = 32 };

struct op_rig {
    struct program *p;
    struct kv_layout layout;
    uint32_t in_width, out_width;
    float   *table;                     /* [RIG_VOCAB][in_width] */
    float   *weight[RIG_WEIGHTS];
    uint32_t n_weights;
    uint64_t n_state;                   /* floats of a stream */
    struct rng rng;
    int32_t  token[RIG_STREAMS][RIG_ROWS];
};

static inline float *rig_floats(size_t n)
{
    float *x = mem_calloc(n + 1, sizeof *x);

    assert_non_null(x);
    return x;
}

static inline void rig_open(struct op_rig *g, uint32_t in_width, uint64_t seed)
{
    struct err e = { 0 };

    *g = (struct op_rig){ .in_width = in_width };
    rng_init(&g->rng, seed);
    assert_int_equal(prog_open(&g->p, &e), 0);
    g->table = rig_floats((size_t)RIG_VOCAB * in_width);
    for (size_t i = 0; i < (size_t)RIG_VOCAB * in_width; i++)
        g->table[i] = (float)rng_normal(&g->rng);
    for (int s = 0; s < RIG_STREAMS; s++)
        for (int i = 0; i < RIG_ROWS; i++)
            g->token[s][i] = (int32_t)rng_below(&g->rng, RIG_VOCAB);
}

static inline void rig_close(struct op_rig *g)
{
    kv_layout_deinit(&g->layout);
    prog_close(g->p);
    mem_free(g->table);
    for (uint32_t i = 0; i < g->n_weights; i++)
        mem_free(g->weight[i]);
}

/* The table's columns as a value. */
static inline val rig_input(struct op_rig *g)
{
    const struct tensor t = { .data = g->table, .dtype = DTYPE_F32, .n_dims = 2,
                              .shape = { RIG_VOCAB, g->in_width },
                              .size_bytes = (uint64_t)RIG_VOCAB * g->in_width * 4 };

    return prog_embed(g->p, prog_weight(g->p, "table", &t),
                      (struct embed_args){ .by = EMBED_TOKEN });
}

/* A weight of n numbers around mean; *data to read it. */
static inline wid rig_weight(struct op_rig *g, uint32_t n, float mean, float deviation,
                             const float **data)
{
    float *x = rig_floats(n);
    const struct tensor t = { .data = x, .dtype = DTYPE_F32, .n_dims = 1, .shape = { n },
                              .size_bytes = (uint64_t)n * 4 };
    char name[16];

    assert_true(g->n_weights < RIG_WEIGHTS);
    for (uint32_t i = 0; i < n; i++)
        x[i] = mean + deviation * (float)rng_normal(&g->rng);
    g->weight[g->n_weights] = x;
    *data = x;
    (void)snprintf(name, sizeof name, "w%u", g->n_weights++);
    return prog_weight(g->p, name, &t);
}

/* Declares the result (a row per token) and ends the recording. */
static inline void rig_finish(struct op_rig *g, val y)
{
    struct err e = { 0 };

    g->out_width = prog_width(g->p, y);
    prog_output(g->p, prog_rows(g->p, y));
    if (prog_finish(g->p, &e) < 0 || kv_layout_init(&g->layout, g->p, DTYPE_F32, DTYPE_F32, &e) < 0)
        fail_msg("%s", e.msg);
    for (sid s = 1; s <= prog_n_states(g->p); s++)
        g->n_state += prog_state_at(g->p, s)->n_floats;
}

/* The operand of a stream's row. */
static inline const float *rig_row(const struct op_rig *g, int stream, int row)
{
    return g->table + (size_t)g->token[stream][row] * g->in_width;
}

/* n_streams sequences of RIG_ROWS tokens in steps of `chunk` rows each; the results of stream 0
 * to out [RIG_ROWS][out_width]. threads 0: the reference interpreter. */
static inline void rig_run(const struct op_rig *g, unsigned threads, uint32_t chunk,
                           uint32_t n_streams, float *out)
{
    const struct exec_limits limits = { chunk * n_streams, n_streams, chunk * n_streams };
    struct team *team = NULL;
    struct exec *x = NULL;
    struct err e = { 0 };
    float *state = rig_floats(g->n_state * RIG_STREAMS);
    float *got = rig_floats((size_t)chunk * RIG_STREAMS * g->out_width);
    int32_t token[RIG_STREAMS * RIG_ROWS];
    uint32_t row_stream[RIG_STREAMS * RIG_ROWS], out_row[RIG_STREAMS * RIG_ROWS];
    int rc;

    if (threads > 0) {
        assert_int_equal(team_open(&team, threads, &e), 0);
        rc = cpu_exec_open(&x, g->p, &g->layout, &limits,
                           &(struct cpu_exec_opts){ .team = team, .isa_mask = UINT32_MAX }, &e);
    } else {
        rc = interp_open(&x, g->p, &g->layout, &limits, &e);
    }
    if (rc < 0)
        fail_msg("%s", e.msg);
    for (uint32_t at = 0; at < RIG_ROWS; at += chunk) {
        const uint32_t n = RIG_ROWS - at < chunk ? RIG_ROWS - at : chunk;
        struct stream streams[RIG_STREAMS];
        struct batch b = { .n_rows = n * n_streams, .n_streams = n_streams, .n_out = n * n_streams,
                           .token = token, .row_stream = row_stream, .streams = streams,
                           .out_row = out_row };

        for (uint32_t s = 0; s < n_streams; s++) {
            /* stream 0 comes last, so that the others are really in front of it */
            const uint32_t which = n_streams - 1 - s;

            streams[s] = (struct stream){ .first_row = s * n, .n_rows = n, .n_past = at,
                                          .fixed = state + which * g->n_state };
            for (uint32_t i = 0; i < n; i++) {
                token[s * n + i] = g->token[which][at + i];
                row_stream[s * n + i] = s;
                out_row[s * n + i] = s * n + i;
            }
        }
        if (exec_step(x, &b, NULL, got, &e) < 0)
            fail_msg("%s", e.msg);
        memcpy(out + (size_t)at * g->out_width, got + (size_t)(n_streams - 1) * n * g->out_width,
               (size_t)n * g->out_width * sizeof *out);
    }
    exec_close(x);
    team_close(team);
    mem_free(state);
    mem_free(got);
}

/* Normalised mean squared error against doubles. */
static inline double rig_nmse(const float *got, const double *want, size_t n)
{
    double err = 0, ref = 0;

    for (size_t i = 0; i < n; i++) {
        err += (got[i] - want[i]) * (got[i] - want[i]);
        ref += want[i] * want[i];
    }
    return isfinite(err) && ref > 0 ? err / ref : INFINITY;
}

/* Both executors against want [RIG_ROWS][out_width], then the same bits however the rows are
 * cut, whoever is beside them, and on any number of threads. */
static inline void rig_check(const struct op_rig *g, const double *want, double ref_limit,
                             double fast_limit, const char *what)
{
    static const uint32_t chunks[] = { 1, 7, 64, RIG_ROWS };
    const size_t n = (size_t)RIG_ROWS * g->out_width;
    float *once = rig_floats(n), *cut = rig_floats(n);

    for (unsigned threads = 0; threads <= 3; threads++) {
        const double limit = threads ? fast_limit : ref_limit;
        double nmse;

        rig_run(g, threads, RIG_ROWS, 1, once);
        nmse = rig_nmse(once, want, n);
        if (!(nmse <= limit))
            fail_msg("%s, %u threads: NMSE %g, at most %g", what, threads, nmse, limit);
        for (int c = 0; c < 4; c++)
            for (uint32_t streams = 1; streams <= RIG_STREAMS; streams += 2) {
                rig_run(g, threads, chunks[c], streams, cut);
                if (memcmp(once, cut, n * sizeof *once) != 0)
                    fail_msg("%s, %u threads: other bits in chunks of %u beside %u", what, threads,
                             chunks[c], streams - 1);
            }
    }
    mem_free(once);
    mem_free(cut);
}

#endif
