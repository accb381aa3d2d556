/* sched.c: the life of requests: submitted, queued, seated, preempted, ended; see sched.h. */
#include "infrastructure/sched.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "infrastructure/sched_internal.h"

#define IDLE_ACCOUNTS 256u      /* whose use is remembered although they are away */

uint64_t sched_now(const struct sched *s)
{
    return s->spec.model.now_ns ? s->spec.model.now_ns(s->spec.model.ctx) : clock_mono_ns();
}

/* ---- open and close ---- */

static int check_spec(const struct sched_spec *p, struct err *e)
{
    if (p->n_seats == 0 || p->n_seats > SCHED_MAX_SEATS || p->max_reqs < p->n_seats ||
        p->max_reqs > SCHED_MAX_REQS)
        return err_set(e, WATT_EINVAL, "scheduler: %u seats and %u requests, wanted at most %u and "
                       "%u", p->n_seats, p->max_reqs, SCHED_MAX_SEATS, SCHED_MAX_REQS);
    if (p->max_rows < p->n_seats || p->max_out <= p->n_seats || p->mixed_rows == 0)
        return err_set(e, WATT_EINVAL, "scheduler: steps of %u rows (%u beside answers) and %u "
                       "results for %u seats", p->max_rows, p->mixed_rows, p->max_out, p->n_seats);
    if (p->n_ctx == 0 || p->n_vocab == 0 || p->max_draft > SCHED_MAX_DRAFT ||
        !p->model.step || p->snapshot_tokens % kv_page_tokens(p->kv) != 0)
        return err_set(e, WATT_EINVAL, "scheduler: context %u, vocabulary %u, %u drafts", p->n_ctx,
                       p->n_vocab, p->max_draft);
    if (p->block > 0 && (!p->whole || p->prefix || kv_slot_bytes(p->kv) > 0 || p->mask < 0 ||
                         (uint64_t)p->n_seats * (p->block + 1u) > p->max_rows ||
                         (uint64_t)p->n_seats * p->block > p->max_out))
        return err_set(e, WATT_EINVAL, "scheduler: %u blocks of %u tokens in steps of %u rows and %u "
                       "results", p->n_seats, p->block, p->max_rows, p->max_out);
    if (kv_slot_bytes(p->kv) > 0 && kv_n_slots(p->kv) / 2 < p->n_seats)
        return err_set(e, WATT_EINVAL, "scheduler: %u states for %u seats, wanted two for each",
                       kv_n_slots(p->kv), p->n_seats);
    return 0;
}

static uint32_t accounts_of(const struct sched_spec *p)
{
    return p->max_reqs + IDLE_ACCOUNTS;
}

static uint32_t table_pages(const struct sched_spec *p, uint32_t page_tokens)
{
    /* drafts may pass the end of an answer by their own number */
    return (p->n_ctx + p->max_draft) / page_tokens + 1;
}

uint64_t sched_bytes(const struct sched_spec *p, uint32_t page_tokens)
{
    const uint64_t seat = sizeof(uint32_t) * (table_pages(p, page_tokens) + 4) + sizeof(struct kv_mark) +
                          sizeof(int32_t) * (2 * p->max_draft + 1) +
                          sizeof(struct sched_proposal) + sizeof(struct sched_share) +
                          sizeof(struct stream);

    return sizeof(struct sched) + seat * p->n_seats + sizeof(struct req) * p->max_reqs +
           sizeof(struct account) * accounts_of(p) + (uint64_t)p->max_rows * 12 +
           (uint64_t)p->max_out * (4 + (uint64_t)p->width * 4);
}

static int allocate(struct sched *s, struct err *e)
{
    const struct sched_spec *p = &s->spec;
    const uint32_t n = p->n_seats;

    s->max_pages = table_pages(p, kv_page_tokens(p->kv));
    s->max_accounts = accounts_of(p);
    s->reqs = mem_calloc(p->max_reqs, sizeof *s->reqs);
    s->accounts = mem_array(s->max_accounts, sizeof *s->accounts);
    s->running = mem_array(n, sizeof *s->running);
    s->free_seats = mem_array(n, sizeof *s->free_seats);
    s->tables = mem_array((size_t)n * s->max_pages, sizeof *s->tables);
    s->marks = mem_array(n, sizeof *s->marks);
    s->drafts = mem_array((size_t)n * (p->max_draft + 1), sizeof *s->drafts);
    s->drawn = mem_array((size_t)n * (p->max_draft + 1), sizeof *s->drawn);
    s->proposals = mem_array(n, sizeof *s->proposals);
    s->shares = mem_array(n, sizeof *s->shares);
    s->planned = mem_array(n, sizeof *s->planned);
    s->drawing = mem_array(n, sizeof *s->drawing);
    s->token = mem_array(p->max_rows, sizeof *s->token);
    s->type = mem_array(p->max_rows, sizeof *s->type);
    s->row_stream = mem_array(p->max_rows, sizeof *s->row_stream);
    s->out_row = mem_array(p->max_out, sizeof *s->out_row);
    s->streams = mem_array(n, sizeof *s->streams);
    s->out = mem_array(p->max_out, p->width * sizeof *s->out);
    if (!s->reqs || !s->accounts || !s->running || !s->free_seats || !s->tables || !s->marks ||
        !s->drafts || !s->drawn || !s->proposals || !s->shares || !s->planned || !s->drawing ||
        !s->token || !s->type || !s->row_stream || !s->out_row || !s->streams || !s->out)
        return err_set(e, WATT_ENOMEM, "scheduler: %u seats, %u requests, %u results of %u", n,
                       p->max_reqs, p->max_out, p->width);
    return 0;
}

int sched_open(struct sched **out, const struct sched_spec *spec, struct err *e)
{
    struct sched *s;
    int rc = check_spec(spec, e);

    if (rc < 0)
        return rc;
    s = mem_calloc(1, sizeof *s);
    if (!s)
        return err_set(e, WATT_ENOMEM, "scheduler");
    s->spec = *spec;
    s->n_marks = kv_slot_bytes(spec->kv) > 0 ? 1 : 0;
    rc = allocate(s, e);
    if (rc < 0) {
        sched_close(s);
        return rc;
    }
    s->free_req = SCHED_NONE;
    for (uint32_t i = spec->max_reqs; i-- > 0;) {
        s->reqs[i].next = s->free_req;
        s->free_req = i;
    }
    for (uint32_t i = spec->n_seats; i-- > 0;)
        s->free_seats[s->n_free_seats++] = i;
    *out = s;
    return 0;
}

void sched_close(struct sched *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; s->reqs && i < s->spec.max_reqs; i++)
        if (s->reqs[i].state != REQ_FREE)
            req_finish(s, &s->reqs[i], SCHED_CANCELLED, NULL);
    mem_free(s->reqs);
    mem_free(s->accounts);
    mem_free(s->running);
    mem_free(s->free_seats);
    mem_free(s->tables);
    mem_free(s->marks);
    mem_free(s->drafts);
    mem_free(s->drawn);
    mem_free(s->proposals);
    mem_free(s->shares);
    mem_free(s->planned);
    mem_free(s->drawing);
    mem_free(s->token);
    mem_free(s->type);
    mem_free(s->row_stream);
    mem_free(s->out_row);
    mem_free(s->streams);
    mem_free(s->out);
    mem_free(s);
}

/* ---- submitting ---- */

int sched_fits(const struct sched *s, uint32_t n_tokens, uint32_t max_new, bool *context,
               struct err *e)
{
    const uint64_t n = (uint64_t)n_tokens + max_new;
    /* one page more: a copy of the last one, when it is shared */
    const uint64_t pages = pages_for(s, n) ? (uint64_t)pages_for(s, n) + 1 : 0;

    *context = n > s->spec.n_ctx;
    if (*context)
        return err_set(e, WATT_ELIMIT, "a prompt of %u tokens and %u new ones exceed the context "
                       "of %u", n_tokens, max_new, s->spec.n_ctx);
    if (pages > kv_n_pages(s->spec.kv))
        return err_set(e, WATT_ELIMIT, "%" PRIu64 " tokens take %" PRIu64 " pages of cache, there "
                       "are %u", n, pages, kv_n_pages(s->spec.kv));
    if (s->spec.whole && n_tokens > s->spec.max_rows) {
        *context = true;
        return err_set(e, WATT_ELIMIT, "%u tokens of a model that reads them in one step of at "
                       "most %u", n_tokens, s->spec.max_rows);
    }
    return 0;
}

static int check_request(const struct sched *s, const struct sched_request *r, struct err *e)
{
    bool context;

    if (r->n_tokens == 0)
        return err_set(e, WATT_EINVAL, "request without tokens");
    for (uint32_t i = 0; i < r->n_tokens; i++)
        if (r->tokens[i] < 0 || (uint32_t)r->tokens[i] >= s->spec.n_vocab)
            return err_set(e, WATT_EINVAL, "token %d is outside 0..%u", r->tokens[i],
                           s->spec.n_vocab - 1);
    if (r->max_new > 0 && s->spec.whole && s->spec.block == 0)
        return err_set(e, WATT_ENOTSUP, "this model draws no tokens");
    return sched_fits(s, r->n_tokens, r->max_new, &context, e);
}

static struct req *find(const struct sched *s, uint64_t id)
{
    const uint64_t i = (id & UINT32_MAX) - 1;
    struct req *r;

    if (i >= s->spec.max_reqs)
        return NULL;
    r = req_at(s, (uint32_t)i);
    return r->state != REQ_FREE && r->gen == id >> 32 ? r : NULL;
}

static int take_tokens(struct sched *s, struct req *r, const struct sched_request *o,
                       struct err *e)
{
    const uint64_t n = (uint64_t)o->n_tokens + o->max_new, bytes = n * sizeof *r->tokens;

    if (bytes > s->spec.max_req_bytes - s->req_bytes)
        return err_set(e, WATT_EBUSY, "the tokens of all requests take %" PRIu64 " bytes of %"
                       PRIu64, s->req_bytes, s->spec.max_req_bytes);
    r->tokens = mem_array((size_t)n, sizeof *r->tokens);
    if (!r->tokens)
        return err_set(e, WATT_ENOMEM, "a request of %" PRIu64 " tokens", n);
    memcpy(r->tokens, o->tokens, o->n_tokens * sizeof *o->tokens);
    s->req_bytes += bytes;
    return 0;
}

static int32_t level_of(int32_t priority)
{
    return priority > SCHED_PRIORITY_MAX ? SCHED_PRIORITY_MAX
         : priority < -SCHED_PRIORITY_MAX ? -SCHED_PRIORITY_MAX : priority;
}

static void attach(struct sched *s, struct req *r, struct req *leader)
{
    r->prev = req_index(s, leader);
    r->next = leader->follower;
    leader->follower = req_index(s, r);
}

static void start_waiting(struct sched *s, struct req *r)
{
    struct req *leader = r->o.fork_of ? find(s, r->o.fork_of) : NULL;

    if (!leader || leader->prompt_done || leader->n_prompt != r->n_prompt) {
        queue_insert(s, r);
        return;
    }
    r->state = REQ_ATTACHED;
    s->n_attached++;
    attach(s, r, leader);
}

int sched_submit(struct sched *s, const struct sched_request *o, uint64_t *id, struct err *e)
{
    const struct sched_wait wait = sched_wait(s);
    const uint32_t i = s->free_req;
    struct req *r;
    uint32_t account, gen;
    int rc = check_request(s, o, e);

    if (rc < 0)
        return rc;
    if (s->spec.max_wait_ns && s->n_waiting > 0 &&
        sched_wait_ns(&wait, o->n_tokens) > s->spec.max_wait_ns)
        return err_set(e, WATT_EBUSY, "%u requests wait, for some %" PRIu64 " s", s->n_waiting,
                       wait.queue_ns / 1000000000);
    account = i == SCHED_NONE ? SCHED_NONE : account_get(s, o->account);
    if (account == SCHED_NONE)
        return err_set(e, WATT_EBUSY, "%u requests wait or run", s->spec.max_reqs);
    r = req_at(s, i);
    rc = take_tokens(s, r, o, e);
    if (rc < 0)
        return rc;
    s->free_req = r->next;
    gen = r->gen + 1;
    *r = (struct req){ .gen = gen, .o = *o, .tokens = r->tokens, .n_tokens = o->n_tokens,
                       .n_prompt = o->n_tokens, .account = account, .follower = SCHED_NONE,
                       .order = s->next_order++, .level = level_of(o->priority),
                       .seat = SCHED_NONE };
    kv_seq_init(&r->seq, NULL, NULL, 0);
    r->result.n_prompt = o->n_tokens;
    r->result.times.submitted = sched_now(s);
    s->accounts[account].n_reqs++;
    if (o->deadline_ns && (s->next_deadline == 0 || o->deadline_ns < s->next_deadline))
        s->next_deadline = o->deadline_ns;
    start_waiting(s, r);
    s->stats.n_submitted++;
    s->blocked = false;
    *id = req_id(s, r);
    return 0;
}

void sched_cancel(struct sched *s, uint64_t id)
{
    struct req *r = find(s, id);

    if (r)
        r->cancelled = s->any_cancelled = true;
}

static uint64_t whole_ns(double ns)
{
    return ns < 1e18 ? (uint64_t)ns : (uint64_t)1e18;
}

struct sched_wait sched_wait(const struct sched *s)
{
    const double rows = (double)(s->waiting_tokens + s->filling) + s->n_waiting * s->mean_rows;
    const double row_ns = s->rows_per_ns > 0 ? 1 / s->rows_per_ns : 0;

    return (struct sched_wait){ whole_ns(rows * row_ns), row_ns,
                                s->n_waiting ? s->waiting_tokens / s->n_waiting : 0 };
}

uint64_t sched_wait_ns(const struct sched_wait *w, uint64_t n_tokens)
{
    const uint64_t own = n_tokens < w->mean_tokens ? n_tokens : w->mean_tokens;

    return whole_ns((double)w->queue_ns + (double)own * w->row_ns);
}

void sched_limit(struct sched *s, uint32_t max_running, uint32_t max_prompt_rows)
{
    s->limit_running = max_running;
    s->limit_rows = s->spec.whole ? 0 : max_prompt_rows;    /* a whole input can't be cut */
}

bool sched_idle(const struct sched *s)
{
    return s->n_running + s->n_waiting + s->n_attached == 0;
}

/* ---- seats ---- */

bool req_fills_cache(const struct sched *s, const struct req *r)
{
    return s->spec.prefix && !r->o.no_cache && !s->spec.whole;
}

bool req_reads_cache(const struct sched *s, const struct req *r)
{
    return req_fills_cache(s, r) && !r->o.want_rows;
}

static bool ranks_before(const struct req *a, const struct req *b)
{
    return a->level != b->level ? a->level > b->level : a->order < b->order;
}

void req_run(struct sched *s, struct req *r, uint32_t seat)
{
    uint32_t at = s->n_running++;

    CHECK(s->n_free_seats > 0 && s->free_seats[s->n_free_seats - 1] == seat);
    s->n_free_seats--;
    while (at > 0 && ranks_before(r, req_at(s, s->running[at - 1]))) {
        s->running[at] = s->running[at - 1];
        at--;
    }
    s->running[at] = req_index(s, r);
    r->state = REQ_RUNNING;
    r->seat = seat;
    if (r->result.times.admitted == 0)
        r->result.times.admitted = sched_now(s);
}

static void leave_seat(struct sched *s, struct req *r)
{
    uint32_t at = 0;

    while (s->running[at] != req_index(s, r))
        at++;
    memmove(s->running + at, s->running + at + 1, (--s->n_running - at) * sizeof *s->running);
    s->free_seats[s->n_free_seats++] = r->seat;
    r->seat = SCHED_NONE;
    s->blocked = false;
}

/* What it has computed may serve others, or itself when it comes back. */
static void give_memory(struct sched *s, struct req *r)
{
    if (req_fills_cache(s, r) && r->seq.len > 0)
        prefix_insert(s->spec.prefix, &r->o.space, r->tokens, &r->seq, true, &r->at);
    kv_seq_reset(s->spec.kv, &r->seq);
}

void req_preempt(struct sched *s, struct req *r)
{
    give_memory(s, r);
    leave_seat(s, r);
    r->result.n_preempted++;
    s->stats.n_preempted++;
    queue_insert(s, r);
}

/* ---- the end ---- */

/* The first of them computes the prompt in r's place. */
void req_release_followers(struct sched *s, struct req *r)
{
    struct req *lead = NULL;

    while (r->follower != SCHED_NONE) {
        struct req *f = req_at(s, r->follower);

        r->follower = f->next;
        if (lead) {
            attach(s, f, lead);
        } else {
            s->n_attached--;
            queue_insert(s, f);
            lead = f;
        }
    }
}

static void detach(struct sched *s, struct req *r)
{
    uint32_t *at = &req_at(s, r->prev)->follower;

    while (*at != req_index(s, r))
        at = &req_at(s, *at)->next;
    *at = r->next;
    s->n_attached--;
}

static void release(struct sched *s, struct req *r)
{
    if (r->state == REQ_WAITING)
        queue_remove(s, r);
    else if (r->state == REQ_ATTACHED)
        detach(s, r);
    else
        leave_seat(s, r);
    s->accounts[r->account].n_reqs--;
    s->req_bytes -= ((uint64_t)r->n_prompt + r->o.max_new) * sizeof *r->tokens;
    mem_free(r->tokens);
    r->tokens = NULL;
    r->state = REQ_FREE;
    r->next = s->free_req;
    s->free_req = req_index(s, r);
}

void req_finish(struct sched *s, struct req *r, enum sched_end end, struct err *error)
{
    const struct sched_client *client = r->o.client;
    void *ctx = r->o.ctx;
    struct sched_result result = r->result;
    const double n_rows = r->n_answer_rows > r->result.n_drawn ? r->n_answer_rows : r->result.n_drawn;

    if (end == SCHED_FAILED)
        kv_seq_reset(s->spec.kv, &r->seq);
    else
        give_memory(s, r);
    req_release_followers(s, r);
    release(s, r);
    s->stats.n_ended[end]++;
    if (result.n_drawn > 0)
        s->mean_rows += 0.05 * (n_rows - s->mean_rows);
    result.end = end;
    result.error = end == SCHED_FAILED ? error : NULL;
    result.times.ended = sched_now(s);
    client->ended(ctx, &result);
}

/* ---- watching ---- */

void sched_stats(const struct sched *s, struct sched_stats *st)
{
    *st = s->stats;
    st->n_running = s->n_running;
    st->n_waiting = s->n_waiting + s->n_attached;
}

static struct sched_view view(const struct sched *s, const struct req *r)
{
    return (struct sched_view){
        .id = req_id(s, r), .account = r->o.account, .ctx = r->o.ctx,
        .running = r->state == REQ_RUNNING, .n_prompt = r->n_prompt, .n_done = r->seq.len,
        .n_drawn = r->result.n_drawn, .max_new = r->o.max_new, .priority = r->o.priority,
        .submitted_ns = r->result.times.submitted,
    };
}

uint32_t sched_list(const struct sched *s, struct sched_view *out, uint32_t max)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n_running; i++, n++)
        if (n < max)
            out[n] = view(s, req_at(s, s->running[i]));
    for (uint32_t i = 0; i < s->spec.max_reqs; i++)
        if (s->reqs[i].state == REQ_WAITING || s->reqs[i].state == REQ_ATTACHED) {
            if (n < max)
                out[n] = view(s, &s->reqs[i]);
            n++;
        }
    return n;
}

/* ---- checking ---- */

static void verify_seats(const struct sched *s)
{
    const struct kv *kv = s->spec.kv;

    CHECK(s->n_running + s->n_free_seats == s->spec.n_seats);
    for (uint32_t i = 0; i < s->n_running; i++) {
        const struct req *r = req_at(s, s->running[i]);

        CHECK(r->state == REQ_RUNNING && r->seat < s->spec.n_seats);
        CHECK(i == 0 || ranks_before(req_at(s, s->running[i - 1]), r));
        CHECK(r->seq.pages == s->tables + (size_t)r->seat * s->max_pages);
        CHECK(r->seq.len < r->n_tokens + in_blocks(s, r) && r->seq.n_pages == pages_for(s, r->seq.len));
        CHECK(r->n_tokens <= s->spec.n_ctx);
        for (uint32_t p = 0; p < r->seq.n_pages; p++)
            CHECK(kv_page_owners(kv, r->seq.pages[p]) > 0);
        for (uint32_t k = 0; k < i; k++)
            CHECK(req_at(s, s->running[k])->seat != r->seat);
    }
}

/* Every owner of every page is a running request or the tree. */
static void verify_pages(const struct sched *s)
{
    const struct kv *kv = s->spec.kv;
    uint64_t held = 0, owners = 0;
    uint32_t cached = 0;

    for (uint32_t i = 0; i < s->n_running; i++)
        held += req_at(s, s->running[i])->seq.n_pages;
    for (uint32_t p = 0; p < kv_n_pages(kv); p++) {
        owners += kv_page_owners(kv, p);
        cached += kv_page_owners(kv, p) > 0 && kv_page_is_cached(kv, p);
    }
    CHECK(owners == held + cached);
}

static void verify_queues(const struct sched *s)
{
    uint32_t n_state[REQ_RUNNING + 1] = { 0 }, queued = 0;
    uint64_t bytes = 0, in_accounts = 0;

    for (uint32_t i = 0; i < s->spec.max_reqs; i++) {
        const struct req *r = &s->reqs[i];

        n_state[r->state]++;
        if (r->state != REQ_FREE)
            bytes += ((uint64_t)r->n_prompt + r->o.max_new) * sizeof *r->tokens;
        if (r->state == REQ_WAITING || r->state == REQ_ATTACHED)
            CHECK(r->seq.n_pages == 0 && r->seq.len == 0);
    }
    CHECK(n_state[REQ_RUNNING] == s->n_running && n_state[REQ_WAITING] == s->n_waiting);
    CHECK(n_state[REQ_ATTACHED] == s->n_attached && bytes == s->req_bytes);
    for (uint32_t i = 0; i < s->n_accounts; i++) {
        in_accounts += s->accounts[i].n_reqs;
        for (uint32_t q = s->accounts[i].first; q != SCHED_NONE; q = req_at(s, q)->next)
            queued++;
    }
    CHECK(queued == s->n_waiting && in_accounts == s->n_waiting + s->n_attached + s->n_running);
}

void sched_verify(const struct sched *s)
{
    verify_seats(s);
    verify_pages(s);
    verify_queues(s);
    if (s->spec.prefix)
        prefix_verify(s->spec.prefix);
}
