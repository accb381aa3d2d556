/* service_draft.c: proposes tokens that a step then checks (speculative decoding).
 *
 * Two sources: prompt look-up, which finds the last place where the text went on after the same
 * few tokens (Saxena, "Prompt lookup decoding", 2023), and a small model of the same vocabulary
 * (Leviathan et al., "Fast inference from transformers via speculative decoding", 2023). What is
 * drawn does not depend on them: the scheduler draws every token from the large model's own row,
 * by the request's own random numbers, and takes a row of a proposed token into account only when
 * the token drawn before is the proposed one. So acceptance is by equality, and the answer is bit
 * for bit the one without proposals.
 *
 * A proposal costs rows. Each answer keeps count of how many of its were right, and asks for fewer
 * or, for a while, none. */
#include <string.h>

#include "base/mem.h"
#include "models/service_internal.h"

#define LOOKUP_LONGEST 4u       /* tokens that have to be the same */
#define LOOKUP_SHORTEST 2u
#define FEED_MAX 256u           /* tokens that the draft model reads per answer and step */
#define GOOD_SHARE 0.4f
#define PAUSE_STEPS 32u
/* With more answers at once, rows are dear: a step is limited by arithmetic, not by memory. */
#define AUTO_SEQS 4u

struct draft_seat {
    uint64_t request;
    int32_t *fed;               /* [n_ctx + max_draft] what the seat's sequence holds */
    uint32_t n_fed;
    bool     going;
};

struct drafter {
    struct service *svc;
    struct session *session;    /* NULL: no draft model */
    struct draft_seat *seats;   /* [max_seqs] */
    struct session_input *in;   /* [max_seqs] */
    uint32_t *who;              /* [max_seqs] */
    int32_t  *next;             /* [max_seqs] */
    float    *out;              /* [max_seqs][width] */
    uint32_t  width;
};

/* ---- open and close ---- */

static int alloc_seats(struct drafter *d, struct err *e)
{
    const struct service_opts *o = &d->svc->opts;
    const uint32_t n = o->max_seqs;

    d->width = session_width(d->session);
    d->seats = mem_calloc(n, sizeof *d->seats);
    d->in = mem_array(n, sizeof *d->in);
    d->who = mem_array(n, sizeof *d->who);
    d->next = mem_array(n, sizeof *d->next);
    d->out = mem_array(n, d->width * sizeof *d->out);
    for (uint32_t i = 0; d->seats && i < n; i++) {
        d->seats[i].fed = mem_array((size_t)o->n_ctx + o->max_draft, sizeof(int32_t));
        if (!d->seats[i].fed)
            return err_set(e, WATT_ENOMEM, "draft model: tables");
    }
    if (!d->seats || !d->in || !d->who || !d->next || !d->out)
        return err_set(e, WATT_ENOMEM, "draft model: tables of %u answers", n);
    return 0;
}

static struct session_opts session_of(const struct service_opts *o, struct team *team)
{
    return (struct session_opts){
        .n_ctx = o->n_ctx + o->max_draft, .n_seqs = o->max_seqs, .n_marks = 1, .team = team,
        .n_threads = o->session.n_threads, .isa_mask = o->session.isa_mask, .exec = o->session.exec,
    };
}

int drafter_plan(const struct service_opts *o, uint64_t *bytes, struct err *e)
{
    const struct session_opts so = session_of(o, o->session.team);
    struct session_memory mem;
    int rc;

    *bytes = 0;
    if (!o->draft)
        return 0;
    rc = session_plan(o->draft, &so, &mem, e);
    if (rc == 0)
        *bytes = mem.total + (uint64_t)o->max_seqs *
                 ((uint64_t)model_facts(o->draft)->n_out * sizeof(float) +
                  ((uint64_t)o->n_ctx + o->max_draft) * sizeof(int32_t) + sizeof(struct draft_seat) +
                  sizeof(struct session_input) + 8);
    return rc;
}

static int open_model(struct drafter *d, struct err *e)
{
    const struct service *s = d->svc;
    const struct model *m = s->opts.draft;
    const struct session_opts so = session_of(&s->opts, s->team);
    int rc;

    if (model_facts(m)->n_vocab != model_facts(s->model)->n_vocab || !model_facts(m)->causal ||
        model_facts(m)->n_out != model_facts(m)->n_vocab)
        return err_set(e, WATT_EINVAL, "draft model: a vocabulary of %u tokens, the model has %u",
                       model_facts(m)->n_vocab, model_facts(s->model)->n_vocab);
    rc = session_open(&d->session, m, &so, e);
    return rc < 0 ? rc : alloc_seats(d, e);
}

int drafter_open(struct drafter **out, struct service *s, struct err *e)
{
    struct drafter *d = mem_calloc(1, sizeof *d);
    int rc;

    if (!d)
        return err_set(e, WATT_ENOMEM, "speculation");
    d->svc = s;
    rc = s->opts.draft ? open_model(d, e) : 0;
    if (rc < 0) {
        drafter_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

void drafter_close(struct drafter *d)
{
    if (!d)
        return;
    for (uint32_t i = 0; d->seats && i < d->svc->opts.max_seqs; i++)
        mem_free(d->seats[i].fed);
    session_close(d->session);
    mem_free(d->seats);
    mem_free(d->in);
    mem_free(d->who);
    mem_free(d->next);
    mem_free(d->out);
    mem_free(d);
}

/* ---- prompt look-up ---- */

/* The latest earlier place that ends with the last k tokens; 0: none. */
static uint32_t same_before(const int32_t *t, uint32_t n, uint32_t k)
{
    for (uint32_t end = n - 1; end >= k; end--)
        if (t[end - 1] == t[n - 1] && memcmp(t + end - k, t + n - k, k * sizeof *t) == 0)
            return end;
    return 0;
}

static uint32_t look_up(const struct sched_proposal *p)
{
    for (uint32_t k = LOOKUP_LONGEST; k >= LOOKUP_SHORTEST; k--) {
        const uint32_t at = p->n_tokens > k ? same_before(p->tokens, p->n_tokens, k) : 0;
        uint32_t n = 0;

        if (at == 0)
            continue;
        for (; n < p->room; n++)        /* what follows may run into the proposal itself */
            p->draft[n] = at + n < p->n_tokens ? p->tokens[at + n]
                                               : p->draft[at + n - p->n_tokens];
        return n;
    }
    return 0;
}

/* ---- the draft model ---- */

static int32_t best_of(const float *row, uint32_t n)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < n; i++)
        if (row[i] > row[best])
            best = i;
    return (int32_t)best;
}

/* Takes back what the seat holds beyond the request's tokens, and all of another request. */
static void rewind_seat(struct drafter *d, const struct sched_proposal *p)
{
    struct draft_seat *q = &d->seats[p->seat];
    uint32_t same = 0;

    if (q->request == p->request)
        while (same < q->n_fed && same < p->n_tokens && q->fed[same] == p->tokens[same])
            same++;
    if (same < q->n_fed || q->request != p->request) {
        same = session_reach(d->session, p->seat, same);
        if (session_truncate(d->session, p->seat, same, NULL) < 0) {
            session_reset(d->session, p->seat);
            same = 0;
        }
    }
    q->request = p->request;
    q->n_fed = same;
}

static void feed(struct drafter *d, const struct sched_proposal *p, const int32_t *tokens,
                 uint32_t n, bool want, uint32_t *n_in)
{
    struct draft_seat *q = &d->seats[p->seat];

    memcpy(q->fed + q->n_fed, tokens, n * sizeof *tokens);
    d->in[(*n_in)++] = (struct session_input){ .seq = p->seat, .tokens = q->fed + q->n_fed,
                                               .n_tokens = n,
                                               .want = want ? SESSION_LAST : SESSION_NONE };
    q->n_fed += n;
}

/* Everything known goes in; those that have caught up go on to propose. */
static bool catch_up(struct drafter *d, struct sched_proposal **list, uint32_t n)
{
    uint32_t n_in = 0;

    for (uint32_t i = 0; i < n; i++) {
        struct sched_proposal *p = list[i];
        struct draft_seat *q = &d->seats[p->seat];
        uint32_t take;

        rewind_seat(d, p);
        take = p->n_tokens - q->n_fed;
        q->going = take > 0 && take <= FEED_MAX;
        if (take > 0)
            feed(d, p, p->tokens + q->n_fed, q->going ? take : FEED_MAX, q->going, &n_in);
    }
    return n_in == 0 || session_eval(d->session, d->in, n_in, d->out, NULL) == 0;
}

static void propose_by_model(struct drafter *d, struct sched_proposal **list, uint32_t n)
{
    bool ok = catch_up(d, list, n);

    for (uint32_t step = 0; ok; step++) {
        uint32_t n_in = 0, row = 0;

        for (uint32_t i = 0; i < n; i++) {
            struct sched_proposal *p = list[i];
            struct draft_seat *q = &d->seats[p->seat];

            if (!q->going)
                continue;
            if (step == 0)
                session_mark(d->session, p->seat);
            p->draft[p->n_draft++] = best_of(d->out + (size_t)row++ * d->width, d->width);
            q->going = p->n_draft < p->room;
            if (q->going)
                feed(d, p, &p->draft[p->n_draft - 1], 1, true, &n_in);
        }
        ok = n_in > 0 && session_eval(d->session, d->in, n_in, d->out, NULL) == 0;
    }
}

/* ---- who gets how many ---- */

/* What came of the last proposal. */
static void learn(struct answer *a, uint32_t n_tokens)
{
    const uint32_t gained = n_tokens - a->spec_tokens;

    if (a->spec_drafted == 0)
        return;
    a->spec_share = 0.8f * a->spec_share +
                    0.2f * (float)(gained - 1) / (float)a->spec_drafted;
    if (a->spec_share < GOOD_SHARE / 4)
        a->spec_pause = PAUSE_STEPS;
    a->spec_drafted = 0;
}

static enum service_speculate kind_of(const struct drafter *d, const struct answer *a, uint32_t n)
{
    const enum service_speculate kind = a->job->r.speculate;

    if (kind == SERVICE_SPEC_DRAFT && !d->session)
        return SERVICE_SPEC_LOOKUP;
    if (kind != SERVICE_SPEC_AUTO)
        return kind;
    if (n > AUTO_SEQS)
        return SERVICE_SPEC_OFF;
    return d->session ? SERVICE_SPEC_DRAFT : SERVICE_SPEC_LOOKUP;
}

void drafter_propose(void *ctx, struct sched_proposal *list, uint32_t n)
{
    struct service *s = ctx;
    struct drafter *d = s->drafter;
    struct sched_proposal *by_model[SCHED_MAX_SEATS];
    uint32_t n_model = 0;

    for (uint32_t i = 0; i < n; i++) {
        struct sched_proposal *p = &list[i];
        struct answer *a = p->client_ctx;
        enum service_speculate kind;

        learn(a, p->n_tokens);
        a->spec_tokens = p->n_tokens;
        if (a->spec_pause > 0) {
            a->spec_pause--;
            continue;
        }
        kind = kind_of(d, a, n);
        if (a->spec_share < GOOD_SHARE && p->room > 2)
            p->room = 2;
        if (kind == SERVICE_SPEC_LOOKUP)
            p->n_draft = look_up(p);
        else if (kind == SERVICE_SPEC_DRAFT)
            by_model[n_model++] = p;
    }
    if (n_model > 0)
        propose_by_model(d, by_model, n_model);
    for (uint32_t i = 0; i < n; i++)
        ((struct answer *)list[i].client_ctx)->spec_drafted = list[i].n_draft;
}
