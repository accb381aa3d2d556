/* service_answer.c: one choice of a request: from rows of logits to tokens, from tokens to text
 * and events. draw runs on any thread of the team, everything else on the service's thread. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "models/generate.h"
#include "models/service_internal.h"

/* ---- init ---- */

static bool restricted(const struct service_request *r)
{
    return r->mask || r->allowed || r->min_tokens > 0 || r->n_bad > 0;
}

static uint32_t max_draft(const struct job *j)
{
    return j->svc->opts.max_draft;
}

static int open_sampler(struct answer *a, struct err *e)
{
    struct job *j = a->job;
    const struct service *s = j->svc;
    struct sampler_options o = j->r.sampling;
    const struct sampler_spec spec = {
        .n_vocab = s->width, .n_ctx = s->opts.n_ctx,
        .piece = s->tok ? generate_piece : NULL, .piece_ctx = (void *)(uintptr_t)s->tok,
    };
    int rc;

    if (!s->tok)
        o.n_dry_breakers = 0;
    o.seed += a->choice;
    rc = sampler_open(&a->sampler, &spec, &o, e);
    for (uint32_t i = 0; rc == 0 && i < j->r.n_tokens; i++)
        sampler_accept(a->sampler, (uint32_t)j->tokens[i]);
    return rc;
}

static void forbid_ends(const struct answer *a, uint64_t *bits)
{
    const struct service *s = a->job->svc;
    const struct service_request *r = &a->job->r;

    for (uint32_t i = 0; i < s->mask_words; i++)
        bits[i] &= ~s->end_bits[i];
    for (size_t i = 0; i < r->n_stop_ids; i++)
        bits[r->stop_ids[i] / 64] &= ~(UINT64_C(1) << r->stop_ids[i] % 64);
}

/* What may come in a block, and what before min_tokens. */
static int open_denoiser(struct answer *a, struct err *e)
{
    const struct service *s = a->job->svc;
    const struct service_request *r = &a->job->r;
    const uint32_t mask = (uint32_t)s->diffusion.mask;
    struct diffusion_opts o = s->opts.diffusion;

    o.seed = r->sampling.seed + a->choice;
    if (r->diffusion_steps) {
        o.steps = r->diffusion_steps;
        o.threshold = 0;
    }
    if (r->diffusion_threshold > 0)
        o.threshold = r->diffusion_threshold;
    if (r->diffusion_algorithm != SERVICE_NO_ALGORITHM)
        o.algorithm = (enum diffusion_algorithm)r->diffusion_algorithm;
    diffusion_fill(&o);
    a->bits = mem_array(s->mask_words, sizeof *a->bits);
    a->early = mem_array(s->mask_words, sizeof *a->early);
    if (!a->bits || !a->early)
        return err_set(e, WATT_ENOMEM, "request: token mask");
    if (r->allowed)
        memcpy(a->bits, r->allowed, s->mask_words * sizeof *a->bits);
    else
        memset(a->bits, 0xff, s->mask_words * sizeof *a->bits);
    a->bits[mask / 64] &= ~(UINT64_C(1) << mask % 64);
    memcpy(a->early, a->bits, s->mask_words * sizeof *a->bits);
    forbid_ends(a, a->early);
    return denoiser_open(&a->denoiser, &o, s->width, s->diffusion.mask, e);
}

static int alloc_notes(struct answer *a, struct err *e)
{
    const struct service_request *r = &a->job->r;
    const uint32_t n = max_draft(a->job) + 1;

    a->notes = mem_calloc(n, sizeof *a->notes);
    if (!a->notes)
        return err_set(e, WATT_ENOMEM, "request: log probabilities");
    for (uint32_t i = 0; i < n && r->logprobs && r->n_top > 0; i++) {
        a->notes[i].top = mem_array(r->n_top, sizeof *a->notes[i].top);
        if (!a->notes[i].top)
            return err_set(e, WATT_ENOMEM, "request: %u log probabilities", r->n_top);
    }
    return 0;
}

int answer_init(struct answer *a, struct job *j, uint32_t choice, struct err *e)
{
    const struct service_request *r = &j->r;
    const struct service *s = j->svc;
    int rc;

    a->job = j;
    a->choice = choice;
    a->stop_id = a->stop_index = -1;
    a->spec_share = 1;
    str_init(&a->piece, 0);
    str_init(&a->text, 0);
    if (s->tok)
        detok_init(&a->detok, s->tok, (r->special ? DETOKENIZE_SPECIAL : 0u) |
                                      (r->continues ? DETOKENIZE_CONTINUE : 0u));
    a->detok.shown = r->shown;
    a->detok.n_shown = r->n_shown;
    rc = stops_init(&a->stops, r->stops, r->n_stops, e);
    if (rc < 0 || (r->prompt_only && !r->prompt_logprobs))
        return rc;
    if (s->diffuses) {
        rc = open_denoiser(a, e);
        return rc < 0 ? rc : open_sampler(a, e);
    }
    if (restricted(r)) {
        a->bits = mem_array(s->mask_words, sizeof *a->bits);
        if (!a->bits)
            return err_set(e, WATT_ENOMEM, "request: token mask");
    }
    rc = bad_words_text_init(&a->written, &j->bad, e);
    if (rc == 0)
        rc = alloc_notes(a, e);
    return rc < 0 ? rc : open_sampler(a, e);
}

void answer_deinit(struct answer *a)
{
    for (uint32_t i = 0; a->notes && i <= max_draft(a->job); i++)
        mem_free(a->notes[i].top);
    mem_free(a->notes);
    mem_free(a->bits);
    mem_free(a->early);
    denoiser_close(a->denoiser);
    sampler_close(a->sampler);
    token_mask_close(a->mask);
    bad_words_text_deinit(&a->written);
    stops_deinit(&a->stops);
    str_deinit(&a->piece);
    str_deinit(&a->text);
}

/* ---- drawing ---- */

static bool any_bit(const uint64_t *bits, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (bits[i])
            return true;
    return false;
}

/* What may come now, into a->bits; *mask NULL: everything. */
static int fill_mask(struct answer *a, const uint64_t **mask, struct err *e)
{
    const struct service *s = a->job->svc;
    const struct service_request *r = &a->job->r;
    const bool early = a->n_drawn < r->min_tokens, bad = bad_words_any(&a->written);
    int rc = a->mask ? a->mask->ops->fill(a->mask, a->bits, e) : TOKEN_MASK_ANY;

    *mask = NULL;
    if (rc < 0)
        return rc;
    if (rc == TOKEN_MASK_ANY) {
        if (!r->allowed && !early && !bad)
            return 0;
        memset(a->bits, 0xff, s->mask_words * sizeof *a->bits);
    }
    for (uint32_t i = 0; r->allowed && i < s->mask_words; i++)
        a->bits[i] &= r->allowed[i];
    if (early) {
        forbid_ends(a, a->bits);
        /* a grammar whose text is over goes before min_tokens */
        if (rc == TOKEN_MASK_SOME && !any_bit(a->bits, s->mask_words))
            return a->mask->ops->fill(a->mask, a->bits, e) < 0 ? e->code : (*mask = a->bits, 0);
    }
    if (bad)
        bad_words_forbid(&a->written, a->bits);
    *mask = a->bits;
    return 0;
}

/* No token is left. The model's own doing, or that of what the request forbids? */
static int blame(struct answer *a, const float *row)
{
    struct token_logprob best;

    if (a->error.code == WATT_EINVAL && sampler_top_logprobs(a->sampler, row, 1, &best) == 1)
        return err_set(&a->error, WATT_ENOTSUP, "after %u tokens of the answer everything that may come "
                       "is forbidden: by bad words, biases, allowed tokens and a grammar together",
                       a->n_drawn);
    return a->error.code;
}

static void note_logprobs(struct answer *a, struct draw_note *note, const float *row, uint32_t id)
{
    const struct service_request *r = &a->job->r;

    if (!r->logprobs)
        return;
    note->logprob = sampler_logprob(row, a->job->svc->width, id);
    note->n_top = r->n_top ? sampler_top_logprobs(a->sampler, row, r->n_top, note->top) : 0;
}

static int32_t draw(void *ctx, const float *row)
{
    struct answer *a = ctx;
    const uint64_t *mask = NULL;
    uint32_t id = 0;
    int rc = a->bits ? fill_mask(a, &mask, &a->error) : 0;

    if (rc == 0)
        rc = sampler_sample(a->sampler, row, mask, &id, &a->error) < 0 ? blame(a, row) : 0;
    if (rc < 0)
        return SCHED_DRAW_FAILED;
    note_logprobs(a, &a->notes[a->n_notes++], row, id);
    sampler_accept(a->sampler, id);
    bad_words_push(&a->written, (int32_t)id);
    if (a->mask && a->mask->ops->accept(a->mask, (int32_t)id, &a->error) < 0) {
        a->n_notes--;
        return SCHED_DRAW_FAILED;
    }
    a->notes[a->n_notes - 1].complete =
        a->mask && a->mask->ops->complete && a->mask->ops->complete(a->mask);
    a->n_drawn++;
    return (int32_t)id;
}

/* Some tokens of a block; n_taken is where it begins in the answer. */
static int32_t denoise(void *ctx, int32_t *block, uint32_t n_block, uint32_t step, const float *rows)
{
    struct answer *a = ctx;
    const uint32_t min = a->job->r.min_tokens;
    const struct denoise_step s = {
        .block = block, .n_block = n_block, .first_at = a->job->r.n_tokens + a->n_taken,
        .step = step, .rows = rows, .packed = true, .sampler = a->sampler, .allowed = a->bits,
        .early = a->early, .n_early = min > a->n_taken ? min - a->n_taken : 0,
    };
    const int left = denoiser_step(a->denoiser, &s, NULL, &a->error);

    for (uint32_t i = 0; left == 0 && i < n_block; i++)
        sampler_accept(a->sampler, (uint32_t)block[i]);
    return left < 0 ? SCHED_DRAW_FAILED : left;
}

static void failed(void *ctx, struct err *e)
{
    *e = ((struct answer *)ctx)->error;
}

/* ---- events ---- */

static void send(struct answer *a, struct service_event *ev)
{
    struct job *j = a->job;

    ev->request = j->id;
    ev->choice = a->choice;
    if (j->r.on_event)
        j->r.on_event(j->r.ctx, ev);
}

static bool is_stop_id(const struct service_request *r, int32_t id)
{
    for (size_t i = 0; i < r->n_stop_ids; i++)
        if (r->stop_ids[i] == id)
            return true;
    return false;
}

/* Does this token end the answer without being part of it? */
static bool ends(const struct answer *a, int32_t id)
{
    const struct service *s = a->job->svc;
    const struct service_request *r = &a->job->r;

    return is_stop_id(r, id) || (s->tok && !r->ignore_end && tokenizer_is_eog(s->tok, id));
}

/* The text that this token adds, into a->text. True: a stop string came. */
static bool add_text(struct answer *a, int32_t id)
{
    const struct service_request *r = &a->job->r;
    bool hit;

    str_reset(&a->piece);
    str_reset(&a->text);
    if (!a->job->svc->tok)
        return false;
    detok_push(&a->detok, id, &a->piece);
    if (a->n_taken <= r->min_tokens) {
        str_append(&a->text, str_cstr(&a->piece), a->piece.len);
        return false;
    }
    hit = stops_push(&a->stops, str_cstr(&a->piece), a->piece.len, &a->text);
    if (hit) {
        a->stop_index = a->stops.hit;
        if (r->include_stop)
            str_append(&a->text, a->stops.strings[a->stops.hit], a->stops.len[a->stops.hit]);
    }
    return hit;
}

static bool text_is_short(struct answer *a)
{
    if (!str_ok(&a->piece) || !str_ok(&a->text) || !str_ok(&a->stops.held))
        a->lacks = true;
    return a->lacks;
}

static bool took(void *ctx, int32_t id)
{
    static const struct draw_note none = { 0 };
    struct answer *a = ctx;
    const struct draw_note *note = a->denoiser ? &none : &a->notes[a->next_note++];
    struct service_event ev = { .kind = SERVICE_TOKEN, .id = id, .index = a->n_taken++ };
    bool hit;

    if (a->next_note == a->n_notes)
        a->next_note = a->n_notes = 0;
    if (ends(a, id)) {
        a->stop_id = id;
        return true;
    }
    hit = add_text(a, id);
    if (text_is_short(a))
        return true;
    ev.text = sv_of(&a->text);
    ev.has_logprob = a->job->r.logprobs;
    ev.logprob = note->logprob;
    ev.top = note->top;
    ev.n_top = note->n_top;
    send(a, &ev);
    return hit || note->complete;
}

static void prompt_token(struct answer *a, uint32_t index, const float *row)
{
    struct job *j = a->job;
    struct service_event ev = { .kind = SERVICE_PROMPT_TOKEN, .id = j->tokens[index],
                                .index = index, .top = j->prompt_top };

    if (row) {
        ev.has_logprob = true;
        ev.logprob = sampler_logprob(row, j->svc->width, (uint32_t)ev.id);
        ev.rank = sampler_rank(row, j->svc->width, (uint32_t)ev.id);
        if (j->r.n_prompt_top > 0)
            ev.n_top = sampler_top_logprobs(a->sampler, row, j->r.n_prompt_top, j->prompt_top);
    }
    send(a, &ev);
}

static void prompt_row(void *ctx, uint32_t pos, const float *row)
{
    struct answer *a = ctx;
    struct job *j = a->job;

    if (!j->r.prompt_logprobs) {
        struct service_event ev = { .kind = SERVICE_EMBEDDING, .row = row,
                                    .width = j->svc->width };

        send(a, &ev);
        return;
    }
    if (pos == 0)
        prompt_token(a, 0, NULL);
    if (pos + 1 < j->r.n_tokens)
        prompt_token(a, pos + 1, row);
}

static void progress(void *ctx, uint32_t n_done, uint32_t n_total, uint32_t n_cached)
{
    struct answer *a = ctx;
    struct service_event ev = { .kind = SERVICE_PROGRESS, .n_done = n_done, .n_total = n_total,
                                .n_cached = n_cached };

    if (a->job->r.progress && a->n_taken == 0)      /* what was preempted is told once */
        send(a, &ev);
}

/* ---- the end ---- */

static enum service_finish finish_of(const struct sched_result *r)
{
    switch (r->end) {
    case SCHED_STOPPED:   return SERVICE_STOP;
    case SCHED_LENGTH:    return SERVICE_LENGTH;
    case SCHED_CANCELLED: return SERVICE_CANCELLED;
    case SCHED_LATE:  return SERVICE_DEADLINE;
    case SCHED_FAILED:    break;
    }
    return SERVICE_ERROR;
}

/* What was held back is text after all, unless a stop string came. */
static void rest_of_text(struct answer *a)
{
    str_reset(&a->piece);
    str_reset(&a->text);
    if (!a->job->svc->tok || a->stop_index >= 0)
        return;
    detok_finish(&a->detok, &a->piece);
    if (!stops_push(&a->stops, str_cstr(&a->piece), a->piece.len, &a->text))
        stops_finish(&a->stops, &a->text);
}

static void finish(struct answer *a, struct service_event *ev)
{
    struct job *j = a->job;
    struct err memory = { 0 };

    rest_of_text(a);
    if (text_is_short(a) && ev->finish != SERVICE_ERROR) {
        ev->finish = SERVICE_ERROR;
        (void)err_set(&memory, WATT_ENOMEM, "answer: out of memory");
        ev->error = &memory;
    }
    ev->kind = SERVICE_DONE;
    ev->text = sv_of(&a->text);
    ev->stop_index = a->stop_index;
    ev->stop_id = a->stop_id;
    ev->times.submitted = j->submitted_ns;
    ev->times.total = clock_mono_ns() - j->submitted_ns;
    a->done = true;
    ev->last = --j->n_left == 0;
    service_metrics_done(j->svc, ev);
    send(a, ev);
    if (j->n_left == 0)
        service_job_over(j->svc, j);
}

void answer_fail(struct answer *a, enum service_finish how, const struct err *why)
{
    struct service_event ev = { .finish = how, .error = how == SERVICE_ERROR ? why : NULL,
                                .usage.n_prompt = a->job->r.n_tokens };

    finish(a, &ev);
}

static uint64_t between(uint64_t from, uint64_t to)
{
    return from && to > from ? to - from : 0;
}

static void ended(void *ctx, const struct sched_result *r)
{
    struct answer *a = ctx;
    const struct sched_times *t = &r->times;
    struct service_event ev = {
        .finish = finish_of(r),
        .error = r->error,
        .usage = { .n_prompt = r->n_prompt, .n_cached = r->n_cached, .n_answer = r->n_drawn,
                   .n_drafted = r->n_drafted, .n_accepted = r->n_accepted,
                   .n_preempted = r->n_preempted },
        .times = { .queued = between(a->job->submitted_ns, t->admitted),
                   .prefill = between(t->admitted, t->first_token ? t->first_token : t->ended),
                   .decode = between(t->first_token, t->last_token),
                   .first_token = between(a->job->submitted_ns, t->first_token) },
    };

    finish(a, &ev);
}

const struct sched_client answer_client = {
    .draw = draw, .denoise = denoise, .failed = failed, .took = took, .prompt_row = prompt_row,
    .progress = progress, .ended = ended,
};
