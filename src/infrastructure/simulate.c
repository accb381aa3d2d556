/* simulate.c: replays arrivals on the scheduler with a made-up clock and model; see simulate.h.
 *
 * The model is a checksum: the result of a position is a number mixed from the result of the one
 * before, which it reads from the cache (and from the fixed state), and the token. Every request
 * knows what must come out, so a page of somebody else, a stale copy or a lost state is seen at
 * once, in every run. With blocks (diffusion) what a stretch shows depends on all of its tokens. */
#include "infrastructure/simulate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "infrastructure/kv.h"
#include "infrastructure/prefix.h"

#define VOCAB 50000u
#define PAGE_TOKENS 64u
#define MAX_SCALED (1u << 27)
#define CELL_RATIO 1.01         /* histograms are good to a percent */
#define CELLS 4096u
#define LEAST_S 1e-6

struct sim_req {
    struct sim *sim;
    uint64_t id, at_ns, last_ns;
    uint32_t chain;             /* of all tokens known; blocks: of those run for good */
    int32_t  last;              /* blocks: the last token known */
    uint32_t n_drawn, n_answer, cancel_at;
    bool     doomed;
};

struct histogram {
    uint64_t cells[CELLS], n;
    double   sum, max;
};

struct sim {
    struct sim_spec spec;
    const struct trace *trace;
    struct kv     *kv;
    struct prefix *prefix;
    struct sched  *sched;
    uint64_t  now_ns;
    struct rng rng;
    struct sim_req *reqs;       /* [n] */
    int32_t  *tokens;           /* [cap_tokens] of the prompt at hand */
    uint32_t  cap_tokens;
    struct histogram ttft, itl, queue;
    struct sim_report report;
};

/* ---- the made-up model ---- */

static uint32_t mix(uint32_t chain, int32_t token)
{
    uint64_t x = ((uint64_t)chain << 32 | (uint32_t)token) + UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    return (uint32_t)(x ^ x >> 29);
}

static int32_t token_of(uint32_t chain)
{
    return (int32_t)(mix(chain, 1) % VOCAB);
}

/* What a row must show: by way of the pages, and by way of the state. */
static uint32_t result_of(uint32_t by_page, uint32_t by_state)
{
    return mix(by_page, 2) ^ mix(by_state, 3);
}

static uint32_t *cell(const struct sim *m, const struct stream *st, uint32_t pos)
{
    return (uint32_t *)kv_pages(m->kv) + (size_t)st->pages[pos / PAGE_TOKENS] * PAGE_TOKENS +
           pos % PAGE_TOKENS;
}

/* Of tokens that see each other, on top of what is in front of them. */
static uint32_t stretch_of(uint32_t chain, const int32_t *tokens, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        chain = mix(chain, tokens[i]);
    return chain;
}

static uint32_t place_in(uint32_t stretch, uint32_t at)
{
    return mix(stretch, (int32_t)(at + 5));
}

static void run_stretch(const struct sim *m, const struct batch *b, const struct stream *st,
                        float *out, uint32_t *n_out)
{
    const uint32_t all = stretch_of(st->n_past ? *cell(m, st, st->n_past - 1) : 0,
                                    b->token + st->first_row, st->n_rows);

    for (uint32_t i = 0; i < st->n_rows; i++) {
        const uint32_t result = place_in(all, i);

        *cell(m, st, st->n_past + i) = result;
        if (*n_out < b->n_out && b->out_row[*n_out] == st->first_row + i)
            memcpy(&out[(*n_out)++], &result, sizeof result);
    }
}

static void run_stream(const struct sim *m, const struct batch *b, const struct stream *st,
                       float *out, uint32_t *n_out)
{
    uint32_t state = 0, chain = st->n_past ? *cell(m, st, st->n_past - 1) : 0;

    if (st->fixed)
        memcpy(&state, st->fixed, sizeof state);
    for (uint32_t i = 0; i < st->n_rows; i++) {
        const uint32_t row = st->first_row + i;
        uint32_t result;

        chain = mix(chain, b->token[row]);
        state = mix(state, b->token[row]);
        *cell(m, st, st->n_past + i) = chain;
        if (*n_out == b->n_out || b->out_row[*n_out] != row)
            continue;
        result = result_of(chain, st->fixed ? state : chain);
        memcpy(&out[(*n_out)++], &result, sizeof result);
    }
    if (st->fixed)
        memcpy(st->fixed, &state, sizeof state);
}

static int step(void *ctx, const struct batch *b, float *out, struct err *e)
{
    struct sim *m = ctx;
    double ns = m->spec.step_ns + m->spec.row_ns * b->n_rows;
    uint32_t n_out = 0;

    (void)e;
    for (uint32_t i = 0; i < b->n_streams; i++) {
        const struct stream *st = &b->streams[i];

        (m->spec.block ? run_stretch : run_stream)(m, b, st, out, &n_out);
        ns += m->spec.position_ns * st->n_rows * ((double)st->n_past + st->n_rows * 0.5) +
              m->spec.read_ns * ((double)st->n_past + st->n_rows);
    }
    CHECK(n_out == b->n_out);
    m->now_ns += (uint64_t)ns + 1;
    m->report.mean_rows += b->n_rows;
    m->report.busy_s += ns * 1e-9;
    return 0;
}

static void propose(void *ctx, struct sched_proposal *list, uint32_t n)
{
    struct sim *m = ctx;

    for (uint32_t i = 0; i < n; i++) {
        struct sched_proposal *p = &list[i];
        uint32_t chain = ((struct sim_req *)p->client_ctx)->chain;

        for (p->n_draft = 0; p->n_draft < p->room; p->n_draft++) {
            const bool right = rng_double(&m->rng) < m->spec.draft_right;
            const int32_t token = token_of(chain);

            p->draft[p->n_draft] = right ? token : (token + 1) % (int32_t)VOCAB;
            chain = mix(chain, p->draft[p->n_draft]);
        }
    }
}

static uint64_t now(void *ctx)
{
    return ((struct sim *)ctx)->now_ns;
}

/* ---- histograms ---- */

static void observe(struct histogram *h, double s)
{
    const double at = s > LEAST_S ? log(s / LEAST_S) / log(CELL_RATIO) : 0;

    h->cells[at < CELLS - 1 ? (size_t)at : CELLS - 1]++;
    h->n++;
    h->sum += s;
    h->max = s > h->max ? s : h->max;
}

static double quantile(const struct histogram *h, double q)
{
    const double want = q * (double)h->n;
    uint64_t seen = 0;

    for (size_t i = 0; i < CELLS; i++) {
        seen += h->cells[i];
        if ((double)seen >= want && seen > 0)
            return fmin(LEAST_S * pow(CELL_RATIO, (double)i + 0.5), h->max);
    }
    return 0;
}

static struct quantiles quantiles(const struct histogram *h)
{
    return (struct quantiles){ quantile(h, 0.5), quantile(h, 0.9), quantile(h, 0.99),
                                   h->n ? h->sum / (double)h->n : 0, h->max };
}

/* ---- the made-up clients ---- */

static void note(struct sim *m, uint64_t what)
{
    m->report.digest = rng_mix(m->report.digest ^ rng_mix(what ^ m->now_ns));
}

static uint64_t index_of(const struct sim_req *r)
{
    return (uint64_t)(r - r->sim->reqs);
}

static int32_t draw(void *ctx, const float *row)
{
    struct sim_req *r = ctx;
    uint32_t result;
    int32_t token;

    memcpy(&result, row, sizeof result);
    CHECK(result == result_of(r->chain, r->chain));
    token = token_of(r->chain);
    r->chain = mix(r->chain, token);
    return token;
}

/* Checks every result, and fixes some of the masks by it; a finished block is run for good next. */
static int32_t denoise(void *ctx, int32_t *block, uint32_t n_block, uint32_t nth, const float *rows)
{
    struct sim_req *r = ctx;
    const struct sim *m = r->sim;
    const uint32_t shift = m->spec.shifted;
    const uint32_t before = shift ? mix(r->chain, r->last) : r->chain;
    const uint32_t all = stretch_of(before, block, n_block);
    int32_t left = 0, fixed = 0;

    CHECK(nth < n_block);
    for (uint32_t i = 0; i < n_block; i++) {
        uint32_t result;

        if (block[i] != (int32_t)VOCAB)
            continue;
        memcpy(&result, rows++, sizeof result);
        CHECK(result == place_in(all, i));      /* shifted: the row before, of one that is longer */
        if (fixed == 0 || result % 3 == 0) {
            block[i] = (int32_t)(result % VOCAB);
            fixed++;
        } else {
            left++;
        }
    }
    if (left == 0) {
        r->chain = place_in(stretch_of(before, block, n_block), n_block - 1);
        r->last = block[n_block - 1];
    }
    return left;
}

static bool took(void *ctx, int32_t token)
{
    struct sim_req *r = ctx;
    struct sim *m = r->sim;

    if (r->n_drawn++ > 0)
        observe(&m->itl, (double)(m->now_ns - r->last_ns) * 1e-9);
    r->last_ns = m->now_ns;
    note(m, index_of(r) << 32 | (uint32_t)token);
    if (r->doomed && r->n_drawn == r->cancel_at)
        sched_cancel(m->sched, r->id);
    return false;
}

static void failed(void *ctx, struct err *e)
{
    (void)ctx;
    (void)err_set(e, WATT_EINVAL, "simulated models do not fail");
}

static void ended(void *ctx, const struct sched_result *res)
{
    struct sim_req *r = ctx;
    struct sim *m = r->sim;
    const double ttft = (double)(res->times.first_token - res->times.submitted) * 1e-9;
    const double span = (double)(res->times.last_token - res->times.first_token) * 1e-9;
    struct sim_outcome o = { .arrival = index_of(r), .n_drawn = r->n_drawn };

    CHECK(res->n_drawn == r->n_drawn);
    note(m, index_of(r) << 8 | (uint64_t)res->end);
    m->report.n_ended[res->end]++;
    if (res->times.admitted) {
        o.queue_s = (double)(res->times.admitted - res->times.submitted) * 1e-9;
        observe(&m->queue, o.queue_s);
    }
    if (res->times.first_token)
        observe(&m->ttft, ttft);
    o.end = res->end;
    o.good = res->end == SCHED_LENGTH && ttft <= m->spec.ttft_goal_s &&
             (r->n_drawn < 2 || span / (r->n_drawn - 1) <= m->spec.itl_goal_s);
    o.ttft_s = res->times.first_token ? ttft : 0;
    o.itl_s = r->n_drawn > 1 ? span / (r->n_drawn - 1) : 0;
    m->report.n_good += o.good;
    if (m->spec.ended)
        m->spec.ended(m->spec.ctx, &o);
}

static const struct sched_client client = { .draw = draw, .denoise = denoise, .failed = failed, .took = took,
                                            .ended = ended };

/* ---- arrivals ---- */

static uint32_t scaled(const struct sim *m, uint32_t n)
{
    const double v = round(n * m->spec.scale);

    return v < 1 ? 1 : v > MAX_SCALED ? MAX_SCALED : (uint32_t)v;
}

static int fill_prompt(struct sim *m, size_t i, uint32_t n, struct err *e)
{
    const struct trace_arrival *a = &m->trace->v[i];

    if (n > m->cap_tokens) {
        int32_t *tokens = mem_grow(m->tokens, n, sizeof *tokens);

        if (!tokens)
            return err_set(e, WATT_ENOMEM, "simulation: a prompt of %u tokens", n);
        m->tokens = tokens;
        m->cap_tokens = n;
    }
    for (uint32_t k = 0; k < n; k++) {
        const uint64_t b = (uint64_t)(k / m->spec.scale) / TRACE_BLOCK_TOKENS;
        const uint64_t id = b < a->n_blocks ? m->trace->blocks[a->first_block + b]
                                            : (UINT64_C(1) << 62) + i;

        m->tokens[k] = (int32_t)(rng_mix(id * 131071 + k) % VOCAB);
    }
    return 0;
}

static int arrive(struct sim *m, size_t i, struct err *e)
{
    const struct trace_arrival *a = &m->trace->v[i];
    struct sim_req *r = &m->reqs[i];
    struct sched_request q = { .n_tokens = scaled(m, a->n_prompt),
                               .max_new = scaled(m, a->n_answer), .account = a->account,
                               .priority = a->priority, .max_draft = m->spec.max_draft,
                               .client = &client, .ctx = r };
    struct err why;
    int rc = fill_prompt(m, i, q.n_tokens, e);

    if (rc < 0)
        return rc;
    *r = (struct sim_req){ .sim = m, .at_ns = m->now_ns, .n_answer = q.max_new,
                           .doomed = rng_double(&m->rng) < m->spec.cancel_share };
    r->chain = stretch_of(0, m->tokens, q.n_tokens);
    if (m->spec.block) {
        r->last = m->tokens[q.n_tokens - 1];
        r->chain = q.n_tokens == 1 && m->spec.shifted
                       ? 0 : place_in(r->chain, q.n_tokens - 1 - m->spec.shifted);
    }
    r->cancel_at = rng_below(&m->rng, q.max_new);
    q.tokens = m->tokens;
    if (m->spec.deadline_s > 0)
        q.deadline_ns = m->now_ns + (uint64_t)(m->spec.deadline_s * 1e9);
    rc = sched_submit(m->sched, &q, &r->id, &why);
    m->report.n_requests++;
    m->report.n_refused += rc == WATT_EBUSY;
    m->report.n_never += rc == WATT_ELIMIT;
    note(m, (uint64_t)i << 8 | (unsigned)-rc);
    if (rc == WATT_ENOMEM)
        return err_set(e, rc, "simulation: %s", why.msg);
    if (rc == 0 && r->doomed && r->cancel_at == 0)
        sched_cancel(m->sched, r->id);
    return 0;
}

static uint64_t due_ns(const struct sim *m, size_t i)
{
    return (uint64_t)((double)m->trace->v[i].at_ns / m->spec.rate);
}

static int replay(struct sim *m, bool (*cancelled)(void), struct err *e)
{
    size_t next = 0;
    int rc = 0;

    while (rc == 0 && (next < m->trace->n || !sched_idle(m->sched))) {
        struct sched_stats st;

        if (sched_idle(m->sched) && due_ns(m, next) > m->now_ns)
            m->now_ns = due_ns(m, next);
        while (rc == 0 && next < m->trace->n && due_ns(m, next) <= m->now_ns)
            rc = arrive(m, next++, e);
        (void)sched_step(m->sched);
        sched_stats(m->sched, &st);
        m->report.peak_running = st.n_running > m->report.peak_running ? st.n_running
                                                                       : m->report.peak_running;
        m->report.peak_waiting = st.n_waiting > m->report.peak_waiting ? st.n_waiting
                                                                       : m->report.peak_waiting;
        if (m->spec.verify)
            sched_verify(m->sched);
        if (cancelled && st.n_steps % 256 == 0 && cancelled())
            rc = err_set(e, WATT_ECANCEL, "interrupted");
    }
    return rc;
}

/* ---- the run ---- */

static double or_default(double v, double d)
{
    return v > 0 ? v : d;
}

static uint32_t or_count(uint32_t v, uint32_t d)
{
    return v ? v : d;
}

static void fill_spec(struct sim_spec *p)
{
    p->step_ns = or_default(p->step_ns, 25e6);
    p->row_ns = or_default(p->row_ns, 3.5e6);
    p->position_ns = or_default(p->position_ns, 50);
    p->n_ctx = or_count(p->n_ctx, 131072);
    p->n_seats = or_count(p->n_seats, 64);
    p->max_rows = or_count(p->max_rows, 512);
    p->mixed_rows = or_count(p->mixed_rows, 64);
    if (p->max_rows < p->n_seats * (p->block + 1))
        p->max_rows = p->n_seats * (p->block + 1);
    p->n_pages = or_count(p->n_pages, 16384);
    p->max_queued = or_count(p->max_queued, 1024);
    p->draft_right = or_default(p->draft_right, 0.7);
    p->rate = or_default(p->rate, 1);
    p->scale = or_default(p->scale, 1);
    p->ttft_goal_s = or_default(p->ttft_goal_s, 10);
    p->itl_goal_s = or_default(p->itl_goal_s, 0.25);
}

static int open_parts(struct sim *m, struct err *e)
{
    const struct sim_spec *p = &m->spec;
    const struct kv_spec kv = { .page_bytes = PAGE_TOKENS * sizeof(uint32_t),
                                .page_tokens = PAGE_TOKENS, .n_pages = p->n_pages,
                                .slot_floats = p->n_slots ? 1 : 0, .n_slots = p->n_slots };
    struct sched_spec s = {
        .model = { .ctx = m, .step = step, .propose = p->max_draft ? propose : NULL, .now_ns = now },
        .width = 1, .n_vocab = VOCAB + 1, .n_ctx = p->n_ctx, .n_seats = p->n_seats,
        .max_rows = p->max_rows, .mixed_rows = p->mixed_rows, .max_draft = p->max_draft,
        .max_out = p->n_seats * (1 + p->max_draft + p->block) + 1, .whole = p->block > 0,
        .block = p->block, .mask = (int32_t)VOCAB, .shifted = p->shifted, .max_reqs = p->n_seats + p->max_queued,
        .max_req_bytes = UINT64_C(1) << 40, .max_wait_ns = (uint64_t)(p->max_wait_s * 1e9), .snapshot_tokens = 8 * PAGE_TOKENS,
    };
    int rc = kv_open(&m->kv, &kv, e);

    if (rc == 0 && !p->no_prefix && p->block == 0)
        rc = prefix_open(&m->prefix, m->kv, 0, NULL, e);
    if (rc < 0)
        return rc;
    s.kv = m->kv;
    s.prefix = m->prefix;
    rc = sched_open(&m->sched, &s, e);
    m->reqs = mem_calloc(m->trace->n, sizeof *m->reqs);
    if (rc == 0 && !m->reqs)
        rc = err_set(e, WATT_ENOMEM, "simulation: %zu requests", m->trace->n);
    return rc;
}

static void finish_report(struct sim *m)
{
    struct sim_report *r = &m->report;
    struct sched_stats st;

    sched_stats(m->sched, &st);
    r->ttft_s = quantiles(&m->ttft);
    r->itl_s = quantiles(&m->itl);
    r->queue_s = quantiles(&m->queue);
    r->simulated_s = (double)m->now_ns * 1e-9;
    r->goodput_per_s = r->simulated_s > 0 ? (double)r->n_good / r->simulated_s : 0;
    r->n_prompt_tokens = st.n_prompt_tokens;
    r->n_cached_tokens = st.n_cached_tokens;
    r->n_answer_tokens = st.n_drawn;
    r->n_drafted = st.n_drafted;
    r->n_accepted = st.n_accepted;
    r->n_steps = st.n_steps;
    r->n_preempted = st.n_preempted;
    r->mean_rows = st.n_steps ? r->mean_rows / (double)st.n_steps : 0;
}

static void sim_close(struct sim *m)
{
    sched_close(m->sched);
    prefix_close(m->prefix);
    kv_close(m->kv);
    mem_free(m->reqs);
    mem_free(m->tokens);
    mem_free(m);
}

int sim_run(const struct trace *t, const struct sim_spec *spec, bool (*cancelled)(void),
            struct sim_report *r, struct err *e)
{
    struct sim *m = mem_calloc(1, sizeof *m);
    int rc;

    if (!m)
        return err_set(e, WATT_ENOMEM, "simulation");
    m->spec = *spec;
    m->trace = t;
    fill_spec(&m->spec);
    rng_init(&m->rng, spec->seed);
    rc = open_parts(m, e);
    if (rc == 0)
        rc = replay(m, cancelled, e);
    if (rc == 0 && m->prefix) {
        prefix_forget(m->prefix);
        CHECK(kv_n_free(m->kv) == kv_n_pages(m->kv));
        CHECK(kv_n_free_slots(m->kv) == kv_n_slots(m->kv));
    }
    if (rc == 0) {
        finish_report(m);
        *r = m->report;
    }
    sim_close(m);
    return rc;
}
