/* service.c: opens a service, runs its thread, lets others watch; see service.h. */
#include "models/service.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "chips/exec.h"
#include "chips/kv_layout.h"
#include "models/service_internal.h"

#define DEFAULT_CTX     4096u
#define DEFAULT_SEQS    16u
#define DEFAULT_BLOCKS   8u     /* answers by diffusion: each has a block of rows in a step */
#define DEFAULT_ROWS    256u
#define DEFAULT_MIXED   64u
#define DEFAULT_DRAFT   8u
#define DEFAULT_QUEUED  1024u
#define DEFAULT_WAIT_NS UINT64_C(60000000000)
#define DEFAULT_SPILL   (UINT64_C(4) << 30)
#define DEFAULT_BYTES   (UINT64_C(1) << 30)
#define MAX_QUEUED      (SCHED_MAX_REQS / 2)
/* Fixed states are kept every so many tokens of a long prompt. */
#define SNAPSHOT_TOKENS 512u
#define MAX_PAUSE_NS   990e6    /* after one step, to keep a level of power */
#define SLOTS_EVERY_NS  UINT64_C(20000000)

const char *service_finish_name(enum service_finish f)
{
    static const char *const names[] = { "stop", "length", "cancelled", "deadline", "error" };

    return (unsigned)f < sizeof names / sizeof *names ? names[f] : "?";
}

/* ---- options ---- */

static uint32_t or_default(uint32_t v, uint32_t d)
{
    return v ? v : d;
}

/* A step has room for the blocks of all answers. */
static int fill_blocks(struct service_opts *o, struct err *e)
{
    struct diffusion_opts *d = &o->diffusion;
    const uint64_t rows = (uint64_t)o->max_seqs * (d->block ? d->block + 1u : DIFFUSION_BLOCK + 1u);

    diffusion_fill(d);
    if (o->draft)
        return err_set(e, WATT_EINVAL, "service: a draft model for one that writes by diffusion, "
                       "whose tokens don't follow each other");
    if (d->block > o->n_ctx)
        return err_set(e, WATT_ELIMIT, "service: blocks of %u tokens in a context of %u", d->block,
                       o->n_ctx);
    if (d->cache != DIFFUSION_CACHE_BLOCK || rows > SERVICE_MAX_BLOCK_ROWS)
        return err_set(e, WATT_ELIMIT, "service: %u answers of blocks of %u tokens: %" PRIu64 " rows "
                       "of a step, of at most %u", o->max_seqs, d->block, rows,
                       SERVICE_MAX_BLOCK_ROWS);
    if (o->max_rows < rows)
        o->max_rows = (uint32_t)rows;
    return diffusion_check(d, e);
}

static int fill_opts(const struct model *m, const struct service_opts *in, struct service_opts *o,
                     struct err *e)
{
    const struct model_facts *f = model_facts(m);
    const uint32_t trained = f->n_ctx_train && f->n_ctx_train < DEFAULT_CTX ? f->n_ctx_train
                                                                            : DEFAULT_CTX;

    *o = in ? *in : (struct service_opts){ 0 };
    o->n_ctx = or_default(o->n_ctx, trained);
    o->max_seqs = or_default(o->max_seqs, diffusion_fits(m) ? DEFAULT_BLOCKS : DEFAULT_SEQS);
    o->max_rows = or_default(o->max_rows, f->whole_inputs ? o->n_ctx : DEFAULT_ROWS);
    o->mixed_rows = or_default(o->mixed_rows, DEFAULT_MIXED);
    o->max_draft = or_default(o->max_draft, DEFAULT_DRAFT);
    o->max_queued = or_default(o->max_queued, DEFAULT_QUEUED);
    o->max_wait_ns = o->max_wait_ns ? o->max_wait_ns : DEFAULT_WAIT_NS;
    o->spill_bytes = o->spill_bytes ? o->spill_bytes : DEFAULT_SPILL;
    o->queue_bytes = o->queue_bytes ? o->queue_bytes : DEFAULT_BYTES;
    o->n_snapshots = or_default(o->n_snapshots, 2 * o->max_seqs);
    if (o->max_rows < o->max_seqs)
        o->max_rows = o->max_seqs;
    if (o->max_seqs > SCHED_MAX_SEATS || o->max_queued > MAX_QUEUED ||
        o->max_draft > SERVICE_MAX_DRAFT || o->n_ctx > (1u << 26))
        return err_set(e, WATT_ELIMIT, "service: %u answers of %u positions, %u waiting, %u drafts; "
                       "at most %u, %u, %u and %u", o->max_seqs, o->n_ctx, o->max_queued,
                       o->max_draft, SCHED_MAX_SEATS, 1u << 26, MAX_QUEUED, SERVICE_MAX_DRAFT);
    return diffusion_fits(m) ? fill_blocks(o, e) : 0;
}

static uint32_t max_out(const struct model *m, const struct service_opts *o)
{
    if (diffusion_fits(m))
        return o->max_seqs * o->diffusion.block + 1;
    return 2 * o->max_seqs + o->max_draft + 1;
}

/* The session that lends executor, weights and arena; its own pages are not used. */
static struct session_opts session_of(const struct model *m, const struct service_opts *o)
{
    struct session_opts s = o->session;
    const uint32_t n_out = max_out(m, o);

    s.n_ctx = KV_PAGE_TOKENS;
    s.n_seqs = o->max_seqs;
    s.max_rows = o->max_rows > n_out ? o->max_rows : n_out;
    s.max_out = n_out;
    s.kv_bytes = 0;     /* a page each, never touched */
    s.n_marks = 0;
    return s;
}

static int kv_spec_of(const struct model *m, const struct service_opts *o,
                      const struct session_memory *mem, struct kv_spec *spec, struct err *e)
{
    const uint64_t page = mem->kv_token * KV_PAGE_TOKENS;
    const uint64_t per_seq = (o->n_ctx + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS + 1;
    uint64_t n = per_seq * o->max_seqs;

    *spec = (struct kv_spec){ .page_tokens = KV_PAGE_TOKENS,
                              .slot_floats = model_facts(m)->fixed_floats };
    if (spec->slot_floats)
        spec->n_slots = 2 * o->max_seqs + o->n_snapshots;
    if (page == 0)
        return 0;
    if (o->kv_bytes)
        n = o->kv_bytes / page;
    if (n == 0 || n >= KV_NO_PAGE)
        return err_set(e, WATT_ELIMIT, "service: %" PRIu64 " bytes of keys and values are %" PRIu64
                       " pages of %" PRIu64, o->kv_bytes, n, page);
    spec->page_bytes = page;
    spec->n_pages = (uint32_t)n;
    return 0;
}

static void sched_spec_of(const struct service *s, struct sched_spec *p);

/* The parts of a service, from those of its session. */
static int add_up(const struct service *s, struct session_memory *mem, const struct kv_spec *kv,
                  struct err *e)
{
    struct sched_spec spec;
    int rc = drafter_plan(&s->opts, &mem->draft, e);

    if (rc < 0)
        return rc;
    sched_spec_of(s, &spec);
    mem->total -= mem->kv + mem->fixed;
    mem->kv = kv->page_bytes * kv->n_pages;
    mem->fixed = kv_slots_bytes(kv);
    mem->requests = s->opts.queue_bytes + sched_bytes(&spec, KV_PAGE_TOKENS);
    if (!s->opts.no_prefix_cache && !model_facts(s->model)->whole_inputs)
        mem->requests += prefix_bytes(kv);
    if (s->opts.spill_dir)      /* pages on their way to the folder and back */
        mem->requests += SPILL_BUFFERS * (kv->page_bytes + kv->slot_floats * sizeof(float));
    mem->total += mem->kv + mem->fixed + mem->requests + mem->draft;
    return 0;
}

/* ---- what the scheduler runs ---- */

static int step(void *ctx, const struct batch *b, float *out, struct err *e)
{
    struct service *s = ctx;
    int rc;

    mem_guard_enter();
    rc = exec_step(session_exec(s->session), b, kv_pages(s->kv), out, e);
    mem_guard_leave();
    return rc;
}

struct each { void (*fn)(void *arg, uint32_t i); void *arg; uint32_t n; struct team *team; };

static void each_worker(void *arg, unsigned worker)
{
    const struct each *x = arg;
    size_t i;

    (void)worker;
    while ((i = team_next(x->team)) < x->n)
        x->fn(x->arg, (uint32_t)i);
}

static void each(void *ctx, uint32_t n, void (*fn)(void *arg, uint32_t i), void *arg)
{
    struct service *s = ctx;
    struct each x = { fn, arg, n, s->team };

    team_run(s->team, each_worker, &x);
}

static void ran(void *ctx, const struct sched_share *shares, uint32_t n, uint64_t start_ns,
                uint64_t end_ns)
{
    struct service *s = ctx;

    for (uint32_t i = 0; i < n && s->opts.on_step; i++) {
        const struct answer *a = shares[i].client_ctx;

        s->shares[i] = (struct service_share){
            .account = shares[i].account, .request = a->job->id, .choice = a->choice,
            .n_prompt_rows = shares[i].n_prompt_rows, .n_answer_rows = shares[i].n_answer_rows,
            .n_past = shares[i].n_past,
        };
    }
    if (s->opts.on_step)
        s->opts.on_step(s->opts.on_step_ctx, s->shares, n, start_ns, end_ns);
}

static void sched_spec_of(const struct service *s, struct sched_spec *p)
{
    const struct model_facts *f = model_facts(s->model);
    const struct service_opts *o = &s->opts;

    *p = (struct sched_spec){
        .model = { .ctx = (void *)(uintptr_t)s, .step = step, .each = each,
                   .propose = s->drafter ? drafter_propose : NULL, .ran = ran },
        .kv = s->kv, .prefix = s->prefix, .width = f->n_out, .n_vocab = f->n_vocab,
        .n_ctx = o->n_ctx, .n_seats = o->max_seqs, .max_rows = o->max_rows,
        .mixed_rows = o->mixed_rows, .max_out = max_out(s->model, o), .max_draft = o->max_draft,
        .max_reqs = o->max_seqs + o->max_queued, .max_req_bytes = UINT64_MAX / 2,
        .snapshot_tokens = SNAPSHOT_TOKENS, .whole = f->whole_inputs, .pooled = f->pooled,
        .block = s->diffuses ? o->diffusion.block : 0, .mask = s->diffusion.mask,
        .shifted = s->diffusion.shift,
    };
}

/* ---- the thread ---- */

/* Under mu. */
static struct job *take_inbox(struct service *s)
{
    struct job *j = s->inbox;

    s->inbox = NULL;
    s->inbox_end = &s->inbox;
    return j;
}

static void submit_answer(struct service *s, struct job *j, struct answer *a, uint64_t fork_of)
{
    const struct service_request *r = &j->r;
    const struct model_facts *f = model_facts(s->model);
    const struct sched_request q = {
        .tokens = j->tokens, .n_tokens = r->n_tokens, .max_new = r->max_tokens,
        .want_rows = r->prompt_logprobs && a->choice == 0, .no_cache = r->no_cache,
        .second_from = r->second_from,
        .want_first = f->embeds && !f->pooled && f->pooling == POOLING_CLS,
        .max_draft = r->speculate == SERVICE_SPEC_OFF ? 0
                   : r->max_draft && r->max_draft < s->opts.max_draft ? r->max_draft
                                                                      : s->opts.max_draft,
        .priority = r->priority, .account = r->account, .deadline_ns = r->deadline_ns,
        .adapter = r->adapter, .adapter_scale = r->adapter_scale, .space = j->space, .fork_of = fork_of, .client = &answer_client, .ctx = a,
    };
    struct err e = { 0 };

    if (sched_submit(s->sched, &q, &a->sched_id, &e) < 0)
        answer_fail(a, SERVICE_ERROR, &e);
}

static void submit_job(struct service *s, struct job *j)
{
    const uint32_t n = j->r.n_choices;
    uint64_t lead = 0;

    for (uint32_t i = 0; i < n; i++) {      /* the last event may free j, not before i + 1 == n */
        struct answer *a = &j->answers[i];

        if (atomic_load(&a->cancel))
            answer_fail(a, SERVICE_CANCELLED, NULL);
        else
            submit_answer(s, j, a, lead);
        if (i + 1 < n && lead == 0)
            lead = a->sched_id;
    }
}

/* Under mu: tells the scheduler what was cancelled. */
static void pass_cancels(struct service *s, bool all)
{
    for (struct job *j = s->jobs; j; j = j->next)
        for (uint32_t i = 0; i < j->r.n_choices; i++)
            if (j->answers[i].sched_id && !j->answers[i].done &&
                (all || atomic_load(&j->answers[i].cancel)))
                sched_cancel(s->sched, j->answers[i].sched_id);
}

/* Under mu. Now and then is enough while it runs. */
static void note_slots(struct service *s)
{
    const uint64_t now = clock_mono_ns();
    uint32_t n;

    if (now - s->slots_ns < SLOTS_EVERY_NS && !sched_idle(s->sched))
        return;
    s->slots_ns = now;
    n = sched_list(s->sched, s->views, s->max_slots);
    s->n_slots_known = n < s->max_slots ? n : s->max_slots;
    for (uint32_t i = 0; i < s->n_slots_known; i++) {
        const struct sched_view *v = &s->views[i];
        const struct answer *a = v->ctx;

        s->slots[i] = (struct service_slot){
            .request = a->job->id, .choice = a->choice, .running = v->running,
            .n_prompt = v->n_prompt, .n_done = v->n_done, .n_answer = v->n_drawn,
            .max_tokens = v->max_new, .priority = v->priority, .account = v->account,
            .age_ns = now - v->submitted_ns,
        };
    }
}

/* Under mu: what watchers see. */
static void note_stats(struct service *s)
{
    struct service_stats *st = &s->stats;
    struct sched_stats q;
    struct prefix_stats p = { 0 };

    sched_stats(s->sched, &q);
    if (s->prefix)
        prefix_stats(s->prefix, &p);
    st->n_running = q.n_running;
    st->n_waiting = q.n_waiting;
    st->n_pages = kv_n_pages(s->kv);
    st->n_pages_free = kv_n_free(s->kv);
    st->n_pages_cached = kv_n_cached(s->kv);
    st->n_slots = kv_n_slots(s->kv);
    st->n_slots_free = kv_n_free_slots(s->kv);
    st->n_steps = q.n_steps;
    st->n_prompt_tokens = q.n_prompt_tokens;
    st->n_cached_tokens = q.n_cached_tokens;
    st->n_answer_tokens = q.n_drawn;
    st->n_drafted = q.n_drafted;
    st->n_accepted = q.n_accepted;
    st->n_preempted = q.n_preempted;
    st->n_spilled = p.n_spilled;
    st->n_returned = p.n_returned;
    st->prefill_ns = q.prompt_ns;
    st->decode_ns = q.answer_ns;
    s->wait = sched_wait(s->sched);
}

/* Waits for work. Returns the jobs that came in; *stop: the service closes. */
static struct job *wait_for_work(struct service *s, bool *stop)
{
    struct job *in;

    service_metrics_step(s);
    (void)pthread_mutex_lock(&s->mu);
    note_stats(s);
    note_slots(s);
    while (!s->inbox && sched_idle(s->sched) && !s->stop && !s->forget)
        (void)pthread_cond_wait(&s->wake, &s->mu);
    in = take_inbox(s);
    if (s->any_cancel || s->stop)
        pass_cancels(s, s->stop);
    s->any_cancel = false;
    *stop = s->stop;
    sched_limit(s->sched, s->limits.max_running, s->limits.max_prompt_rows);
    s->duty = s->limits.duty;
    if (s->forget && s->prefix)
        prefix_forget(s->prefix);
    s->forget = false;
    (void)pthread_mutex_unlock(&s->mu);
    return in;
}

/* Sleeps so long that what took from..now is the duty's share of the time; not past a stop. */
static void pause_after(struct service *s, uint64_t from)
{
    const uint64_t ran = clock_mono_ns() - from;
    const double rest = (double)ran * (1 / s->duty - 1);
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(rest < MAX_PAUSE_NS ? rest : MAX_PAUSE_NS);
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_mutex_lock(&s->mu);
    while (!s->stop && pthread_cond_timedwait(&s->wake, &s->mu, &until) == 0)
        ;                           /* what comes in meanwhile waits for the next step anyway */
    (void)pthread_mutex_unlock(&s->mu);
}

static void *run(void *arg)
{
    struct service *s = arg;
    bool stop = false;

    while (!stop) {
        struct job *in = wait_for_work(s, &stop);

        while (in) {
            struct job *next = in->next_in;

            if (stop)
                for (uint32_t i = 0; i < in->r.n_choices; i++)
                    atomic_store(&in->answers[i].cancel, true);
            submit_job(s, in);
            in = next;
        }
        if (!sched_idle(s->sched)) {
            const uint64_t from = s->duty > 0 && s->duty < 1 ? clock_mono_ns() : 0;

            (void)sched_step(s->sched);
            if (from)
                pause_after(s, from);
        }
    }
    return NULL;
}

void service_job_over(struct service *s, struct job *j)
{
    (void)pthread_mutex_lock(&s->mu);
    if (j->prev)
        j->prev->next = j->next;
    else
        s->jobs = j->next;
    if (j->next)
        j->next->prev = j->prev;
    s->n_answers -= j->r.n_choices;
    s->live_bytes -= j->bytes;
    if (s->n_answers == 0)
        (void)pthread_cond_broadcast(&s->calm);
    (void)pthread_mutex_unlock(&s->mu);
    job_close(j);
}

/* ---- open and close ---- */

static void note_ends(struct service *s)
{
    for (uint32_t i = 0; s->tok && i < s->width; i++)
        if (tokenizer_is_eog(s->tok, (int32_t)i))
            s->end_bits[i / 64] |= UINT64_C(1) << i % 64;
}

/* Names what cached pages depend on beside tokens: the file, its layout in memory, the kernels.
 * Stable from one start to the next, for the spill folder. */
static void name_space(struct service *s)
{
    const struct gguf *g = model_gguf(s->model);
    const struct kv_layout *layout = session_layout(s->session);
    const struct model_facts *f = model_facts(s->model);
    struct stat st = { 0 };
    struct str name;

    str_init(&name, 0);
    (void)stat(gguf_path(g), &st);
    str_printf(&name, "%s|%s|%s|%s|%s|%" PRIu64 "|%" PRIu64 "|%lld|%lld|%u|%u|%" PRIu64 "|%08x",
               WATT_VERSION, gguf_path(g), f->arch, f->quant, session_exec_name(s->session),
               f->n_params, f->tensor_bytes, (long long)st.st_size, (long long)st.st_mtime,
               (unsigned)layout->k_dtype, (unsigned)layout->v_dtype, layout->page_bytes,
               s->opts.session.isa_mask);
    sha256(str_cstr(&name), name.len, s->space_key);
    str_deinit(&name);
}

static int open_prefix(struct service *s, const struct kv_spec *kv, struct err *e)
{
    const struct service_opts *o = &s->opts;
    const struct spill_spec spill = { .dir = o->spill_dir, .max_bytes = o->spill_bytes,
                                      .page_bytes = kv->page_bytes,
                                      .slot_bytes = kv->slot_floats * sizeof(float),
                                      .page_tokens = KV_PAGE_TOKENS };
    int rc = 0;

    name_space(s);
    if (o->no_prefix_cache || model_facts(s->model)->whole_inputs)
        return 0;
    if (o->spill_dir)
        rc = spill_open(&s->spill, &spill, e);
    return rc < 0 ? rc : prefix_open(&s->prefix, s->kv, 0, s->spill, e);
}

static int open_memory(struct service *s, struct err *e)
{
    struct kv_spec spec;
    int rc = kv_spec_of(s->model, &s->opts, &s->memory, &spec, e);

    if (rc == 0)
        rc = kv_open(&s->kv, &spec, e);
    if (rc == 0)
        rc = open_prefix(s, &spec, e);
    if (rc == 0)
        rc = add_up(s, &s->memory, &spec, e);
    if (rc < 0)
        return rc;
    s->mask_words = (s->width + 63) / 64;
    s->end_bits = mem_calloc(s->mask_words, sizeof *s->end_bits);
    s->max_slots = s->opts.max_seqs + s->opts.max_queued;
    s->slots = mem_array(s->max_slots, sizeof *s->slots);
    s->views = mem_array(s->max_slots, sizeof *s->views);
    s->shares = mem_array(s->opts.max_seqs, sizeof *s->shares);
    if (!s->end_bits || !s->slots || !s->shares || !s->views)
        return err_set(e, WATT_ENOMEM, "service: tables of %u answers", s->max_slots);
    note_ends(s);
    return 0;
}

static int open_parts(struct service *s, struct err *e)
{
    struct session_opts so;
    struct sched_spec spec;
    int rc = 0;

    s->team = s->opts.session.team;
    if (!s->team)
        rc = team_open(&s->own_team, s->opts.session.n_threads ? s->opts.session.n_threads
                                                               : team_default_threads(), e);
    if (rc < 0)
        return rc;
    if (!s->team)
        s->team = s->own_team;
    so = session_of(s->model, &s->opts);
    so.team = s->team;
    rc = session_open(&s->session, s->model, &so, e);
    if (rc < 0)
        return rc;
    session_memory(s->session, &s->memory);
    s->width = session_width(s->session);
    rc = open_memory(s, e);
    if (rc == 0 && !s->diffuses)
        rc = drafter_open(&s->drafter, s, e);
    if (rc == 0)
        rc = service_metrics_open(&s->metrics, s, e);
    if (rc < 0)
        return rc;
    sched_spec_of(s, &spec);
    return sched_open(&s->sched, &spec, e);
}

static int start(struct service *s, struct err *e)
{
    const int rc = pthread_create(&s->thread, NULL, run, s);

    if (rc != 0)
        return err_errno(e, WATT_ENOMEM, rc, "service: no thread");
    s->started = true;
    return 0;
}

/* Waits have an end by a clock that nobody sets. */
static void init_waiting(struct service *s)
{
    pthread_condattr_t attr;

    (void)pthread_mutex_init(&s->mu, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->wake, &attr);
    (void)pthread_cond_init(&s->calm, &attr);
    (void)pthread_condattr_destroy(&attr);
}

int service_open(struct service **out, const struct model *m, const struct tokenizer *tok,
                 const struct service_opts *opts, struct err *e)
{
    struct service *s = mem_calloc(1, sizeof *s);
    int rc;

    if (!s)
        return err_set(e, WATT_ENOMEM, "service");
    s->model = m;
    s->tok = tok;
    s->inbox_end = &s->inbox;
    init_waiting(s);
    (void)snprintf(s->name, sizeof s->name, "%s", opts && opts->name ? opts->name
                   : model_facts(m)->name[0] ? model_facts(m)->name : model_facts(m)->arch);
    rc = fill_opts(m, opts, &s->opts, e);
    s->diffuses = diffusion_fits(m);
    if (rc == 0 && s->diffuses)
        rc = diffusion_read(m, tok, &s->diffusion, e);
    if (rc == 0)
        rc = open_parts(s, e);
    if (rc == 0) {
        note_stats(s);
        rc = start(s, e);
    }
    if (rc < 0) {
        service_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void service_stop(struct service *s)
{
    if (!s->started)
        return;
    (void)pthread_mutex_lock(&s->mu);
    s->closing = s->stop = true;
    (void)pthread_cond_broadcast(&s->wake);
    (void)pthread_mutex_unlock(&s->mu);
    (void)pthread_join(s->thread, NULL);
    s->started = false;
    CHECK(sched_idle(s->sched));        /* the thread's last step ended all */
}

void service_close(struct service *s)
{
    if (!s)
        return;
    service_stop(s);
    sched_close(s->sched);
    service_metrics_close(s->metrics);
    drafter_close(s->drafter);
    prefix_close(s->prefix);
    spill_close(s->spill);
    kv_close(s->kv);
    session_close(s->session);
    team_close(s->own_team);
    mem_free(s->end_bits);
    mem_free(s->slots);
    mem_free(s->views);
    mem_free(s->shares);
    (void)pthread_mutex_destroy(&s->mu);
    (void)pthread_cond_destroy(&s->wake);
    (void)pthread_cond_destroy(&s->calm);
    mem_free(s);
}

bool service_drain(struct service *s, uint64_t wait_ns)
{
    struct timespec until;
    bool calm;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(wait_ns / 1000000000u);
    until.tv_nsec += (long)(wait_ns % 1000000000u);
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_mutex_lock(&s->mu);
    s->closing = true;
    while (s->n_answers > 0 && pthread_cond_timedwait(&s->calm, &s->mu, &until) == 0)
        ;
    calm = s->n_answers == 0;
    (void)pthread_mutex_unlock(&s->mu);
    return calm;
}

/* ---- facts ---- */

int service_plan(const struct model *m, const struct service_opts *opts,
                 struct session_memory *mem, struct err *e)
{
    struct service s = { .model = m };
    struct session_opts so;
    struct kv_spec kv;
    int rc = fill_opts(m, opts, &s.opts, e);

    if (rc < 0)
        return rc;
    so = session_of(m, &s.opts);
    rc = session_plan(m, &so, mem, e);
    if (rc == 0)
        rc = kv_spec_of(m, &s.opts, mem, &kv, e);
    s.diffuses = diffusion_fits(m);
    return rc == 0 ? add_up(&s, mem, &kv, e) : rc;
}

void service_memory(const struct service *s, struct session_memory *mem)
{
    *mem = s->memory;
}

uint32_t service_n_ctx(const struct service *s) { return s->opts.n_ctx; }
const struct model *service_model(const struct service *s) { return s->model; }
const struct tokenizer *service_tokenizer(const struct service *s) { return s->tok; }

const struct diffusion_opts *service_diffusion(const struct service *s)
{
    return s->diffuses ? &s->opts.diffusion : NULL;
}

/* ---- from any thread ---- */

void service_cancel(struct service *s, uint64_t id, uint32_t choice)
{
    (void)pthread_mutex_lock(&s->mu);
    for (struct job *j = s->jobs; j; j = j->next) {
        if (j->id != id)
            continue;
        for (uint32_t i = 0; i < j->r.n_choices; i++)
            if (choice == SERVICE_ALL || choice == i)
                atomic_store(&j->answers[i].cancel, true);
        s->any_cancel = true;
        break;
    }
    (void)pthread_mutex_unlock(&s->mu);
}

void service_limit(struct service *s, const struct service_limits *l)
{
    (void)pthread_mutex_lock(&s->mu);
    s->limits = *l;
    (void)pthread_mutex_unlock(&s->mu);
}

void service_stats(struct service *s, struct service_stats *st)
{
    (void)pthread_mutex_lock(&s->mu);
    *st = s->stats;
    st->max_seqs = s->opts.max_seqs;
    st->max_queued = s->opts.max_queued;
    (void)pthread_mutex_unlock(&s->mu);
}

uint32_t service_list(struct service *s, struct service_slot *out, uint32_t max)
{
    uint32_t n;

    (void)pthread_mutex_lock(&s->mu);
    n = s->n_slots_known;
    if (n > 0 && max > 0)
        memcpy(out, s->slots, (n < max ? n : max) * sizeof *out);
    (void)pthread_mutex_unlock(&s->mu);
    return n;
}

void service_forget(struct service *s)
{
    (void)pthread_mutex_lock(&s->mu);
    s->forget = true;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->mu);
}
