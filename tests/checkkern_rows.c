/* checkkern_rows.c: kernels over rows of floats against their references in double: odd
 * lengths, rows that end at an unreadable page, in place, extreme values; a column's result
 * must not depend on where the row is cut.
 *
 * Tolerance: norms and softmax 4e-6 relative to the largest result of the row, element-wise
 * functions 4e-6 relative or 1e-6 absolute. NaN must stay NaN. */
#include "checkkern.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rowcase {
    struct ck *ck;
    const struct kernels *k, *ref;
    size_t n;
    float *x, *b, *c, *y;       /* ending at guard pages */
    float *want;
};

static float *guarded_floats(struct ck *ck, size_t n)
{
    return ck_guarded(ck, n * sizeof(float), sizeof(float));
}

static void fill(struct ck *ck, float *x, size_t n)
{
    const uint32_t kind = rng_below(&ck->rng, 6);

    for (size_t i = 0; i < n; i++) {
        x[i] = (float)rng_normal(&ck->rng);
        if (kind == 0)
            x[i] *= 1e4f;
        else if (kind == 1)
            x[i] *= 1e-5f;
        else if (kind == 2)
            x[i] = 0.0f;
        else if (kind == 3)
            x[i] = x[i] * 30.0f;
    }
}

static void open_case(struct rowcase *r, struct ck *ck, const struct kernels *k,
                      const struct kernels *ref, size_t n)
{
    *r = (struct rowcase){ .ck = ck, .k = k, .ref = ref, .n = n };
    r->x = guarded_floats(ck, n);
    r->b = guarded_floats(ck, n);
    r->c = guarded_floats(ck, n);
    r->y = guarded_floats(ck, n);
    r->want = calloc(n, sizeof *r->want);
    if (!r->want)
        abort();
    fill(ck, r->x, n);
    fill(ck, r->b, n);
    fill(ck, r->c, n);
}

static void close_case(struct rowcase *r)
{
    ck_free(r->x);
    ck_free(r->b);
    ck_free(r->c);
    ck_free(r->y);
    free(r->want);
}

/* Results beside the reference's: relative to the row's largest, or to each. */
static void compare(struct rowcase *r, const float *got, const char *what, bool by_row)
{
    float top = 0;

    for (size_t i = 0; i < r->n; i++)
        top = fabsf(r->want[i]) > top ? fabsf(r->want[i]) : top;
    for (size_t i = 0; i < r->n; i++) {
        const float scale = by_row ? top : fabsf(r->want[i]);
        const float limit = 4e-6f * scale + (by_row ? 0 : 1e-6f);
        const bool same = got[i] == r->want[i] || (isnan(got[i]) && isnan(r->want[i])) ||
                          fabsf(got[i] - r->want[i]) <= limit;

        ck_expect(r->ck, same, "%s n %zu column %zu: %.9g, expected %.9g (x %.9g)", what, r->n, i,
                  (double)got[i], (double)r->want[i], (double)r->x[i]);
        if (!same)
            return;
    }
}

/* Gates that vanish where parts as large as x cancel: by the error function, which is 2e-7 of one off there,
 * and xIELU, whose line and curve meet below 0. */
static void compare_vanishing_gate(struct rowcase *r, const char *what)
{
    for (size_t i = 0; i < r->n; i++) {
        const float limit = 4e-6f * fabsf(r->want[i]) + 4e-7f * fabsf(r->x[i] * r->b[i]);
        const bool same = r->y[i] == r->want[i] || (isnan(r->y[i]) && isnan(r->want[i])) ||
                          fabsf(r->y[i] - r->want[i]) <= limit;

        ck_expect(r->ck, same, "%s n %zu column %zu: %.9g, expected %.9g (x %.9g)", what, r->n, i,
                  (double)r->y[i], (double)r->want[i], (double)r->x[i]);
        if (!same)
            return;
    }
}

static void check_norms(struct rowcase *r)
{
    const size_t n = r->n;

    r->ref->rms_norm(r->want, r->x, r->b, n, 1e-5f);
    r->k->rms_norm(r->y, r->x, r->b, n, 1e-5f);
    compare(r, r->y, "rms_norm", true);
    r->ref->rms_norm(r->want, r->x, NULL, n, 1e-6f);
    memcpy(r->y, r->x, n * sizeof *r->y);
    r->k->rms_norm(r->y, r->y, NULL, n, 1e-6f);
    compare(r, r->y, "rms_norm in place", true);
    r->ref->l2_norm(r->want, r->x, n, 1e-6f);
    r->k->l2_norm(r->y, r->x, n, 1e-6f);
    compare(r, r->y, "l2_norm", true);
    r->ref->layer_norm(r->want, r->x, r->b, r->c, n, 1e-5f);
    r->k->layer_norm(r->y, r->x, r->b, r->c, n, 1e-5f);
    /* a mean near the values cancels: only the scale of gain and bias can be promised */
    compare(r, r->y, "layer_norm", true);
    r->ref->softmax(r->want, r->x, n);
    r->k->softmax(r->y, r->x, n);
    compare(r, r->y, "softmax", true);
    memcpy(r->y, r->x, n * sizeof *r->y);
    r->k->softmax(r->y, r->y, n);
    compare(r, r->y, "softmax in place", true);
}

static void check_arithmetic(struct rowcase *r)
{
    const size_t n = r->n;

    r->ref->add(r->want, r->x, r->b, n);
    r->k->add(r->y, r->x, r->b, n);
    compare(r, r->y, "add", false);
    r->ref->mul(r->want, r->x, r->b, n);
    memcpy(r->y, r->x, n * sizeof *r->y);
    r->k->mul(r->y, r->y, r->b, n);
    compare(r, r->y, "mul in place", false);
    r->ref->affine(r->want, r->x, 1.5f, -0.25f, n);
    r->k->affine(r->y, r->x, 1.5f, -0.25f, n);
    compare(r, r->y, "affine", false);
    memcpy(r->want, r->b, n * sizeof *r->y);
    memcpy(r->y, r->b, n * sizeof *r->y);
    r->ref->axpy(r->want, r->x, 0.75f, n);
    r->k->axpy(r->y, r->x, 0.75f, n);
    compare(r, r->y, "axpy", false);
}

/* To the bit: a mask is found again by forward, backward and layers that run again. */
static void check_drop(struct rowcase *r)
{
    static const float shares[] = { 0.0f, 0.2f, 0.95f };

    for (uint32_t from = 0; from < 6; from++)
        for (size_t s = 0; s < 3; s++) {
            const struct drop a = drop_of(r->ref->drop, 7, 3, from, shares[s]);
            struct drop b = a;

            b.run = r->k->drop;
            memcpy(r->want, r->x, r->n * sizeof *r->y);
            memcpy(r->y, r->x, r->n * sizeof *r->y);
            drop_cols(&a, r->want, r->n, from * 101, (uint32_t)r->n);
            drop_cols(&b, r->y, r->n, from * 101, (uint32_t)r->n);
            ck_expect(r->ck, memcmp(r->want, r->y, r->n * sizeof *r->y) == 0,
                      "drop of %g of %zu columns from %u: other bits than expected",
                      (double)shares[s], r->n, from * 101);
        }
}

static void check_activations(struct rowcase *r)
{
    char what[32];

    for (int a = ACT_NONE; a < ACT_COUNT; a++) {
        const struct act_args args = { .act = (enum act)a, .param = 7.5f,
                                       .xielu = { 0.8f, 0.7f, 0.5f, -1e-6f } };
        const struct act_args oai = { .act = ACT_SILU, .limit = 7, .alpha = 1.702f, .up_offset = 1 };

        (void)snprintf(what, sizeof what, "unary %d", a);
        r->ref->unary(r->want, r->x, r->n, &args);
        r->k->unary(r->y, r->x, r->n, &args);
        compare(r, r->y, what, false);
        (void)snprintf(what, sizeof what, "gated %d", a);
        r->ref->gated(r->want, r->x, r->b, r->n, &args);
        memcpy(r->y, r->x, r->n * sizeof *r->y);
        r->k->gated(r->y, r->y, r->b, r->n, &args);
        if (a == ACT_GELU_ERF || a == ACT_XIELU)
            compare_vanishing_gate(r, what);
        else if (a != ACT_EXP && a != ACT_NEG_EXP)  /* no gate is one: e^x may be infinite in f32 */
            compare(r, r->y, what, false);
        r->ref->gated(r->want, r->x, r->b, r->n, &oai);
        r->k->gated(r->y, r->x, r->b, r->n, &oai);
        compare(r, r->y, "gated with limits", false);
    }
}

static void check_rope(struct rowcase *r, enum rope_pairing pairing)
{
    const uint32_t dim = 2 + 2 * rng_below(&r->ck->rng, 40);
    const uint32_t heads = (uint32_t)(r->n / dim), rot = 2 + 2 * rng_below(&r->ck->rng, dim / 2);
    float *cs;

    if (heads == 0)
        return;
    cs = guarded_floats(r->ck, rot);
    for (uint32_t i = 0; i < rot / 2; i++) {
        const double angle = rng_double(&r->ck->rng) * 100;

        cs[2 * i] = (float)cos(angle);
        cs[2 * i + 1] = (float)sin(angle);
    }
    memcpy(r->want, r->x, r->n * sizeof *r->y);
    memcpy(r->y, r->x, r->n * sizeof *r->y);
    r->ref->rope(r->want, cs, heads, dim, rot, pairing);
    r->k->rope(r->y, cs, heads, dim, rot, pairing);
    compare(r, r->y, pairing == ROPE_NEOX ? "rope neox" : "rope normal", true);
    ck_free(cs);
}

/* NaN and infinity must not vanish; a huge and an empty range must not overflow. */
static void check_extremes(struct ck *ck, const struct kernels *k)
{
    float x[37], y[37];
    const struct act_args silu = { .act = ACT_SILU };

    for (int at = 0; at < 37; at += 5) {
        for (int i = 0; i < 37; i++)
            x[i] = (float)i - 18;
        x[at] = NAN;
        k->rms_norm(y, x, NULL, 37, 1e-5f);
        ck_expect(ck, isnan(y[0]) && isnan(y[36]), "rms_norm loses NaN at %d", at);
        k->softmax(y, x, 37);
        ck_expect(ck, isnan(y[at]), "softmax loses NaN at %d", at);
        k->unary(y, x, 37, &silu);
        ck_expect(ck, isnan(y[at]) && !isnan(y[(at + 1) % 37]), "silu and NaN at %d", at);
    }
    for (int i = 0; i < 37; i++)
        x[i] = i % 2 ? 3e38f : -3e38f;
    k->softmax(y, x, 37);
    ck_expect(ck, y[0] == 0 && fabsf(y[1] - 1.0f / 18) < 1e-6f, "softmax of huge values: %g %g",
              (double)y[0], (double)y[1]);
    k->unary(y, x, 37, &silu);
    ck_expect(ck, y[0] == 0 && y[1] == 3e38f, "silu of huge values: %g %g", (double)y[0],
              (double)y[1]);
    for (int i = 0; i < 37; i++)
        x[i] = i == 7 ? 0.5f : -INFINITY;
    k->softmax(y, x, 37);
    ck_expect(ck, y[7] == 1 && y[8] == 0, "softmax of masked values: %g %g", (double)y[7],
              (double)y[8]);
}

/* Element-wise results depend on the element alone: the same bits in any cut. */
static void check_cuts(struct rowcase *r)
{
    const struct act_args gelu = { .act = ACT_GELU };
    const size_t cut = rng_below(&r->ck->rng, (uint32_t)r->n + 1);

    r->k->gated(r->want, r->x, r->b, r->n, &gelu);
    r->k->gated(r->y, r->x, r->b, cut, &gelu);
    r->k->gated(r->y + cut, r->x + cut, r->b + cut, r->n - cut, &gelu);
    ck_expect(r->ck, memcmp(r->want, r->y, r->n * sizeof *r->y) == 0,
              "gated n %zu cut at %zu: other bits", r->n, cut);
}

void ck_rows(struct ck *ck, const struct kernels *k, const struct kernels *ref)
{
    static const size_t odd[] = { 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 127, 257, 1000 };
    const int rounds = ck->full ? 20 : ck->brief ? 1 : 2;

    for (int round = 0; round < rounds; round++)
        for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
            struct rowcase r;

            open_case(&r, ck, k, ref, odd[i]);
            check_norms(&r);
            check_arithmetic(&r);
            check_drop(&r);
            check_activations(&r);
            check_rope(&r, ROPE_NORMAL);
            check_rope(&r, ROPE_NEOX);
            check_cuts(&r);
            close_case(&r);
        }
    check_extremes(ck, k);
}
