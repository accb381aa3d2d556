/* sampler.c: the sampler's options, history, chain and draw; see sampler.h. The
 * stages are in sampler_stages.c, ordering in sampler_cands.c, DRY in
 * sampler_dry.c. */
#include "models/sampler.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "models/sampler_internal.h"

static const char *const default_breakers[] = { "\n", ":", "\"", "*" };

static const char *const stage_names[SAMPLER_STAGES] = {
    "penalties", "dry", "top_k", "typical_p", "top_p", "min_p", "xtc", "temperature",
};

static void stage_dry(struct sampler *s)
{
    if (s->dry.window > 0)
        dry_apply(&s->dry, &s->h, &s->c);
}

static void (*const stage_fns[SAMPLER_STAGES])(struct sampler *s) = {
    [SAMPLER_PENALTIES] = stage_penalties, [SAMPLER_DRY] = stage_dry,
    [SAMPLER_TOP_K] = stage_top_k,
    [SAMPLER_TYPICAL_P] = stage_typical_p, [SAMPLER_TOP_P] = stage_top_p,
    [SAMPLER_MIN_P] = stage_min_p, [SAMPLER_XTC] = stage_xtc,
    [SAMPLER_TEMPERATURE] = stage_temperature,
};

/* ---- options ---- */

void sampler_defaults(struct sampler_options *o)
{
    *o = (struct sampler_options){
        .temp = 0.8f, .dynatemp_exponent = 1.0f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f,
        .typical_p = 1.0f, .xtc_threshold = 0.1f, .repeat_penalty = 1.0f, .penalty_last_n = 64,
        .dry_base = 1.75f, .dry_allowed_length = 2, .dry_last_n = -1,
        .dry_breakers = default_breakers,
        .n_dry_breakers = sizeof default_breakers / sizeof *default_breakers,
        .mirostat_tau = 5.0f, .mirostat_eta = 0.1f, .min_keep = 1, .n_order = SAMPLER_STAGES,
    };
    for (unsigned i = 0; i < SAMPLER_STAGES; i++)
        o->order[i] = (enum sampler_stage)i;
}

const char *sampler_stage_name(enum sampler_stage stage)
{
    return (unsigned)stage < SAMPLER_STAGES ? stage_names[stage] : "?";
}

static bool parse_stage(struct sv name, enum sampler_stage *out)
{
    for (unsigned i = 0; i < SAMPLER_STAGES; i++)
        if (sv_eq_cstr(name, stage_names[i])) {
            *out = (enum sampler_stage)i;
            return true;
        }
    if (sv_eq_cstr(name, "typ_p"))
        *out = SAMPLER_TYPICAL_P;
    else if (sv_eq_cstr(name, "temp"))
        *out = SAMPLER_TEMPERATURE;
    else
        return false;
    return true;
}

int sampler_order_parse(struct sampler_options *o, const char *names, struct err *e)
{
    enum sampler_stage order[SAMPLER_STAGES];
    size_t n = 0;

    while (*names) {
        const struct sv name = { names, strcspn(names, ";,") };
        enum sampler_stage stage;

        if (!parse_stage(name, &stage))
            return err_set(e, WATT_EINVAL, "sampler: no stage is called '%.*s'; the stages are penalties, "
                           "dry, top_k, typical_p, top_p, min_p, xtc and temperature",
                           (int)(name.len < 64 ? name.len : 64), name.data);
        for (size_t i = 0; i < n; i++)
            if (order[i] == stage)
                return err_set(e, WATT_EINVAL, "sampler: stage %s is named twice", stage_names[stage]);
        order[n++] = stage;
        names += name.len;
        names += *names != '\0';
    }
    memcpy(o->order, order, n * sizeof *order);
    o->n_order = n;
    return 0;
}

static int check_range(const char *name, float v, float min, float max, struct err *e)
{
    if (v >= min && v <= max)   /* false for NaN */
        return 0;
    return err_set(e, WATT_EINVAL, "sampler: %s is %g, wanted %g to %g", name, (double)v,
                   (double)min, (double)max);
}

static int check_order(const struct sampler_options *o, struct err *e)
{
    unsigned seen = 0;

    if (o->n_order > SAMPLER_STAGES)
        return err_set(e, WATT_EINVAL, "sampler: an order of %zu stages, there are %d", o->n_order,
                       SAMPLER_STAGES);
    for (size_t i = 0; i < o->n_order; i++) {
        const unsigned stage = (unsigned)o->order[i];

        if (stage >= SAMPLER_STAGES)
            return err_set(e, WATT_EINVAL, "sampler: stage number %u in the order", stage);
        if (seen & 1u << stage)
            return err_set(e, WATT_EINVAL, "sampler: stage %s is named twice", stage_names[stage]);
        seen |= 1u << stage;
    }
    return 0;
}

static int check_options(const struct sampler_options *o, const struct sampler_spec *spec,
                         struct err *e)
{
    const struct { const char *name; float v, min, max; } ranges[] = {
        { "temp", o->temp, -1e6f, 1e6f },
        { "dynatemp_range", o->dynatemp_range, 0, 1e6f },
        { "dynatemp_exponent", o->dynatemp_exponent, 0, 1e3f },
        { "top_p", o->top_p, 0, 1 },
        { "min_p", o->min_p, 0, 1 },
        { "typical_p", o->typical_p, 0, 1 },
        { "xtc_probability", o->xtc_probability, 0, 1 },
        { "xtc_threshold", o->xtc_threshold, 0, 1 },
        { "repeat_penalty", o->repeat_penalty, 1e-3f, 1e3f },
        { "frequency_penalty", o->frequency_penalty, -1e3f, 1e3f },
        { "presence_penalty", o->presence_penalty, -1e3f, 1e3f },
        { "dry_multiplier", o->dry_multiplier, 0, 1e3f },
        { "dry_base", o->dry_base, 0, 1e3f },
        { "mirostat_tau", o->mirostat_tau, 0, 1e3f },
        { "mirostat_eta", o->mirostat_eta, 0, 1e3f },
    };

    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (check_range(ranges[i].name, ranges[i].v, ranges[i].min, ranges[i].max, e) < 0)
            return WATT_EINVAL;
    if (o->mirostat != 0 && o->mirostat != 2)
        return err_set(e, WATT_EINVAL, "sampler: mirostat is %u, wanted 0 or 2", o->mirostat);
    if (o->penalty_last_n < -1 || o->dry_last_n < -1)
        return err_set(e, WATT_EINVAL, "sampler: %s is %d, wanted -1 or more",
                       o->penalty_last_n < -1 ? "penalty_last_n" : "dry_last_n",
                       o->penalty_last_n < -1 ? o->penalty_last_n : o->dry_last_n);
    for (size_t i = 0; i < o->n_bias; i++)
        if (o->bias[i].id >= spec->n_vocab || isnan(o->bias[i].bias))
            return err_set(e, WATT_EINVAL, "sampler: bias %g for token %u of a vocabulary of %u",
                           (double)o->bias[i].bias, o->bias[i].id, spec->n_vocab);
    return check_order(o, e);
}

/* ---- life ---- */

static bool has_penalties(const struct sampler_options *o)
{
    return o->repeat_penalty != 1.0f || o->frequency_penalty != 0.0f || o->presence_penalty != 0.0f;
}

static int open_history(struct sampler *s, struct err *e)
{
    if (has_penalties(&s->o))
        s->penalty_window = s->o.penalty_last_n < 0 ? s->spec.n_ctx : (size_t)s->o.penalty_last_n;
    s->h.cap = s->penalty_window > s->dry.window ? s->penalty_window : s->dry.window;
    if (s->h.cap == 0)
        return 0;
    s->h.ring = mem_array(s->h.cap, sizeof *s->h.ring);
    if (s->penalty_window > 0)
        s->counts = mem_calloc(s->spec.n_vocab, sizeof *s->counts);
    if (!s->h.ring || (s->penalty_window > 0 && !s->counts))
        return err_set(e, WATT_ENOMEM, "sampler: a history of %zu tokens", s->h.cap);
    return 0;
}

int sampler_open(struct sampler **out, const struct sampler_spec *spec,
                 const struct sampler_options *o, struct err *e)
{
    struct sampler *s;
    int rc;

    if (spec->n_vocab == 0 || spec->n_vocab > SAMPLER_MAX_VOCAB)
        return err_set(e, WATT_EINVAL, "sampler: a vocabulary of %u tokens, wanted 1 to %u",
                       spec->n_vocab, SAMPLER_MAX_VOCAB);
    rc = check_options(o, spec, e);
    if (rc < 0)
        return rc;
    s = mem_calloc(1, sizeof *s);
    if (!s)
        return err_set(e, WATT_ENOMEM, "sampler");
    s->o = *o;
    s->spec = *spec;
    s->o.bias = NULL;               /* copied below; the caller's may go away */
    s->o.dry_breakers = NULL;
    rc = dry_open(&s->dry, spec, o, e);
    if (rc < 0)
        goto fail;
    rc = open_history(s, e);
    if (rc < 0)
        goto fail;
    s->c.v = mem_array(spec->n_vocab, sizeof *s->c.v);
    s->bias = mem_array(o->n_bias, sizeof *s->bias);
    if (!s->c.v || !s->bias) {
        rc = err_set(e, WATT_ENOMEM, "sampler: a vocabulary of %u tokens", spec->n_vocab);
        goto fail;
    }
    if (o->n_bias > 0)
        memcpy(s->bias, o->bias, o->n_bias * sizeof *s->bias);
    sampler_reset(s);
    *out = s;
    return 0;
fail:
    sampler_close(s);
    return rc;
}

uint64_t sampler_bytes(const struct sampler_spec *spec, const struct sampler_options *o)
{
    const uint64_t n = spec->n_vocab;
    const bool dry = o->dry_multiplier > 0 && o->dry_last_n != 0;
    const uint64_t penalty = !has_penalties(o) ? 0
                             : o->penalty_last_n < 0 ? spec->n_ctx : (uint64_t)o->penalty_last_n;
    const uint64_t window = !dry ? 0 : o->dry_last_n < 0 ? spec->n_ctx : (uint64_t)o->dry_last_n;
    uint64_t bytes = sizeof(struct sampler) + n * sizeof(struct sampler_token) +
                     o->n_bias * sizeof *o->bias;

    if (penalty)
        bytes += n * sizeof(uint32_t);              /* counts */
    if (dry)
        bytes += (n + window) * sizeof(uint32_t) +  /* longest, match */
                 (spec->piece ? o->n_dry_breakers * (SAMPLER_BREAKER_MAX + 1) : 0);
    return bytes + (penalty > window ? penalty : window) * sizeof(uint32_t);    /* the history */
}

void sampler_close(struct sampler *s)
{
    if (!s)
        return;
    dry_close(&s->dry);
    mem_free(s->c.v);
    mem_free(s->bias);
    mem_free(s->h.ring);
    mem_free(s->counts);
    mem_free(s);
}

void sampler_forget(struct sampler *s)
{
    s->h.n = s->h.head = 0;
    s->c.n = 0;
    if (s->counts)
        memset(s->counts, 0, s->spec.n_vocab * sizeof *s->counts);
    dry_reset(&s->dry);
}

void sampler_reset(struct sampler *s)
{
    sampler_forget(s);
    rng_init(&s->rng, s->o.seed);
    s->mu = 2.0f * s->o.mirostat_tau;
}

void sampler_accept(struct sampler *s, uint32_t id)
{
    if (id >= s->spec.n_vocab || s->h.cap == 0)
        return;
    if (s->penalty_window > 0) {
        if (s->h.n >= s->penalty_window)
            s->counts[history_at(&s->h, s->penalty_window - 1)]--;
        s->counts[id]++;
    }
    s->h.ring[s->h.head] = id;
    s->h.head = (s->h.head + 1) % s->h.cap;
    if (s->h.n < s->h.cap)
        s->h.n++;
    if (s->dry.n_breakers > 0)
        dry_accept(&s->dry, s->spec.piece(s->spec.piece_ctx, id));
}

/* ---- chain ---- */

static void load(struct cands *c, const float *logits, uint32_t n, const uint64_t *mask)
{
    bool impossible = false;

    for (uint32_t i = 0; i < n; i++) {
        float v = logit_clean(logits[i]);

        if (mask && !(mask[i / 64] >> (i % 64) & 1))
            v = -INFINITY;
        impossible |= v == -INFINITY;
        c->v[i] = (struct sampler_token){ i, v, v };
    }
    c->n = n;
    c->n_sorted = 0;
    c->whole = true;
    c->impossible = impossible;
}

static void add_bias(struct sampler *s)
{
    for (size_t i = 0; i < s->o.n_bias; i++) {
        struct sampler_token *t = &s->c.v[s->bias[i].id];

        if (t->logit != -INFINITY)      /* no bias brings a forbidden token back */
            t->logit = t->p = logit_clean(t->logit + s->bias[i].bias);
        s->c.impossible |= t->logit == -INFINITY;
    }
}

static bool greedy(const struct sampler *s)
{
    return s->o.temp <= 0.0f && s->o.dynatemp_range <= 0.0f;
}

/* Does this stage run with these options? */
static bool wanted(const struct sampler *s, enum sampler_stage stage)
{
    if (stage == SAMPLER_PENALTIES || stage == SAMPLER_DRY)
        return true;
    if (greedy(s))
        return false;
    return stage == SAMPLER_TEMPERATURE || s->o.mirostat == 0;
}

static void run_stages(struct sampler *s)
{
    for (size_t i = 0; i < s->o.n_order; i++) {
        const enum sampler_stage stage = s->o.order[i];

        if (!wanted(s, stage))
            continue;
        /* penalties find tokens by id, the others expect probabilities above 0 */
        if (stage != SAMPLER_PENALTIES && stage != SAMPLER_DRY)
            cands_drop_impossible(&s->c);
        stage_fns[stage](s);
    }
    if (greedy(s)) {
        s->c.v[0] = s->c.v[cands_best(&s->c)];
        s->c.n = 1;
    } else if (s->o.mirostat == 2) {
        stage_mirostat(s);
    }
}

static void softmax(struct cands *c)
{
    const float max = c->v[cands_best(c)].logit;
    double sum = 0;

    for (size_t i = 0; i < c->n; i++) {
        c->v[i].p = expf(c->v[i].logit - max);
        sum += (double)c->v[i].p;
    }
    for (size_t i = 0; i < c->n; i++)
        c->v[i].p = (float)((double)c->v[i].p / sum);
}

/* Nothing but the best logit counts: no list of candidates is needed. */
static bool only_best(const struct sampler *s, const uint64_t *mask)
{
    return greedy(s) && !mask && s->o.n_bias == 0 && s->penalty_window == 0 && s->dry.window == 0;
}

/* The lowest id of the best logit; false when it is not finite. NaN is never above anything. */
static bool find_best(const float *logits, uint32_t n, uint32_t *best)
{
    enum { LANES = 16 };
    float max[LANES], top = -INFINITY;
    uint32_t i = 0;

    for (uint32_t k = 0; k < LANES; k++)
        max[k] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (uint32_t k = 0; k < LANES; k++)
            max[k] = logits[i + k] > max[k] ? logits[i + k] : max[k];
    for (; i < n; i++)
        max[0] = logits[i] > max[0] ? logits[i] : max[0];
    for (uint32_t k = 0; k < LANES; k++)
        top = max[k] > top ? max[k] : top;
    if (isinf(top))
        return false;
    for (i = 0; logits[i] != top; i++)
        ;
    *best = i;
    return true;
}

int sampler_apply(struct sampler *s, const float *logits, const uint64_t *mask, struct err *e)
{
    struct cands *c = &s->c;
    uint32_t best;

    if (only_best(s, mask) && find_best(logits, s->spec.n_vocab, &best)) {
        c->v[0] = (struct sampler_token){ best, logits[best], 1 };
        c->n = 1;
        return 0;
    }
    load(c, logits, s->spec.n_vocab, mask);
    add_bias(s);
    if (c->impossible && c->v[cands_best(c)].logit == -INFINITY) {
        c->n = 0;
        return err_set(e, WATT_EINVAL, "sampler: no token is left: all %u logits are -inf or NaN%s",
                       s->spec.n_vocab, mask ? " or masked" : "");
    }
    run_stages(s);
    cands_drop_impossible(c);   /* never the best: stages keep finite logits finite */
    CHECK(c->n > 0);
    cands_sort_ids(c);
    softmax(c);
    return 0;
}

const struct sampler_token *sampler_tokens(const struct sampler *s, size_t *n)
{
    *n = s->c.n;
    return s->c.v;
}

/* The first candidate, ids ascending, at which the summed probability passes u.
 * That order makes the draw independent of how the stages moved them. */
static const struct sampler_token *draw(struct sampler *s)
{
    const struct cands *c = &s->c;
    const struct sampler_token *last = &c->v[0];
    double u, sum = 0;

    if (c->n == 1)
        return last;
    u = rng_double(&s->rng);
    for (size_t i = 0; i < c->n; i++) {
        if (c->v[i].p <= 0.0f)
            continue;
        last = &c->v[i];
        sum += (double)last->p;
        if (u < sum)
            break;
    }
    return last;    /* rounding may leave the sum a little under 1 */
}

int sampler_sample(struct sampler *s, const float *logits, const uint64_t *mask, uint32_t *id,
                   struct err *e)
{
    const struct sampler_token *t;
    const int rc = sampler_apply(s, logits, mask, e);

    if (rc < 0)
        return rc;
    t = draw(s);
    if (s->o.mirostat == 2 && !greedy(s))
        s->mu -= s->o.mirostat_eta * (-log2f(t->p) - s->o.mirostat_tau);
    *id = t->id;
    return 0;
}

/* ---- log probabilities ---- */

/* max and log of the sum of exp(logit - max) over the raw logits; false when no
 * logit is finite. */
static bool log_sum_exp(const float *logits, uint32_t n, float *max, double *log_sum)
{
    double sum = 0;

    *max = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        const float v = logit_clean(logits[i]);

        *max = v > *max ? v : *max;
    }
    if (*max == -INFINITY)
        return false;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)expf(logit_clean(logits[i]) - *max);
    *log_sum = log(sum);
    return true;
}

float sampler_logprob(const float *logits, uint32_t n_vocab, uint32_t id)
{
    double log_sum;
    float max;

    if (id >= n_vocab || !log_sum_exp(logits, n_vocab, &max, &log_sum))
        return -INFINITY;
    return (float)((double)(logit_clean(logits[id]) - max) - log_sum);
}

uint32_t sampler_rank(const float *logits, uint32_t n_vocab, uint32_t id)
{
    const float own = logit_clean(logits[id]);
    uint32_t rank = 1;

    for (uint32_t i = 0; i < n_vocab; i++) {
        const float v = logit_clean(logits[i]);

        rank += v > own || (v == own && i < id);
    }
    return rank;
}

size_t sampler_top_logprobs(struct sampler *s, const float *logits, size_t n,
                            struct token_logprob *out)
{
    double log_sum;
    float max;

    if (n == 0 || !log_sum_exp(logits, s->spec.n_vocab, &max, &log_sum))
        return 0;
    load(&s->c, logits, s->spec.n_vocab, NULL);
    cands_drop_impossible(&s->c);
    cands_sort_top(&s->c, n);
    if (n > s->c.n)
        n = s->c.n;
    for (size_t i = 0; i < n; i++)
        out[i] = (struct token_logprob){ s->c.v[i].id,
                                         (float)((double)(s->c.v[i].logit - max) - log_sum) };
    s->c.n = 0;     /* these are not the chain's candidates */
    return n;
}
