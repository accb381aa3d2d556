/* service_submit.c: requests come in: checked, copied, and with everything that their answers
 * need, in the thread of whoever submits. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "models/generate.h"
#include "models/service_internal.h"

void service_request_init(struct service_request *r)
{
    *r = (struct service_request){ .n_choices = 1, .diffusion_algorithm = SERVICE_NO_ALGORITHM };
    sampler_defaults(&r->sampling);
}

/* ---- checks ---- */

static int refuse(struct service_ticket *t, enum service_refusal why, int rc)
{
    t->refusal = why;
    return rc;
}

static int check_ids(const char *what, const int32_t *ids, size_t n, uint32_t n_vocab,
                     struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= n_vocab)
            return err_set(e, WATT_EINVAL, "%s %d is outside 0..%u", what, ids[i], n_vocab - 1);
    return 0;
}

/* What is of one token after the other, and what is of blocks. */
static int check_diffusion(const struct service *s, const struct service_request *r, struct err *e)
{
    const char *what = r->mask ? "a grammar or a bound of reasoning"
                     : r->n_bad ? "bad words"
                     : r->logprobs || r->prompt_logprobs ? "log probabilities"
                     : r->sampling.mirostat != 0 ? "mirostat" : NULL;
    const bool of_blocks = r->diffusion_steps || r->diffusion_threshold != 0 ||
                           r->diffusion_algorithm != SERVICE_NO_ALGORITHM;
    struct diffusion_opts o = { .threshold = r->diffusion_threshold };

    if (!s->diffuses && of_blocks)
        return err_set(e, WATT_ENOTSUP, "%s is no diffusion language model: it has no steps, threshold "
                       "or algorithm of blocks", model_facts(s->model)->arch);
    if (s->diffuses && what)
        return err_set(e, WATT_ENOTSUP, "%s writes by diffusion, whose answers can't have %s",
                       model_facts(s->model)->arch, what);
    if (r->diffusion_algorithm != SERVICE_NO_ALGORITHM)
        o.algorithm = (enum diffusion_algorithm)r->diffusion_algorithm;
    return diffusion_check(&o, e);
}

static int check(const struct service *s, const struct service_request *r, struct err *e)
{
    const struct model_facts *f = model_facts(s->model);
    const bool logits = (f->causal || s->diffuses) && f->n_out == f->n_vocab;
    int rc;

    if (!r->tokens || r->n_tokens == 0)
        return err_set(e, WATT_EINVAL, "request without tokens");
    if (r->adapter > model_n_adapters(s->model))
        return err_set(e, WATT_EINVAL, "adapter %u of %u", r->adapter, model_n_adapters(s->model));
    if (!(fabsf(r->adapter_scale) <= SERVICE_MAX_SCALE))
        return err_set(e, WATT_EINVAL, "an adapter at scale %g, wanted %d to %d",
                       (double)r->adapter_scale, -SERVICE_MAX_SCALE, SERVICE_MAX_SCALE);
    if (r->n_choices == 0 || r->n_choices > SERVICE_MAX_CHOICES)
        return err_set(e, WATT_EINVAL, "%u choices, wanted 1 to %u", r->n_choices,
                       SERVICE_MAX_CHOICES);
    if (r->n_top > SERVICE_MAX_LOGPROBS || r->n_prompt_top > SERVICE_MAX_LOGPROBS)
        return err_set(e, WATT_EINVAL, "log probabilities of %u tokens, wanted at most %u",
                       r->n_top > r->n_prompt_top ? r->n_top : r->n_prompt_top,
                       SERVICE_MAX_LOGPROBS);
    if (r->n_stop_ids > SERVICE_MAX_STOP_IDS)
        return err_set(e, WATT_EINVAL, "%zu stop ids, wanted at most %u", r->n_stop_ids,
                       SERVICE_MAX_STOP_IDS);
    if (r->n_stops > 0 && !s->tok)
        return err_set(e, WATT_ENOTSUP, "stop strings for a model without a vocabulary");
    if (!logits && (!r->prompt_only || r->prompt_logprobs))
        return err_set(e, WATT_ENOTSUP, "%s gives no next-token logits: a service makes no answers "
                       "with it", f->arch);
    rc = check_diffusion(s, r, e);
    if (rc < 0)
        return rc;
    if (r->prompt_only && (r->mask || r->n_choices > 1))
        return err_set(e, WATT_EINVAL, "choices or a grammar for a request without answer");
    rc = check_ids("token", r->tokens, r->n_tokens, f->n_vocab, e);
    if (rc == 0 && r->n_bad > 0)
        rc = check_ids("token of a bad word", r->bad_ids, r->bad_ends[r->n_bad - 1], f->n_vocab, e);
    return rc < 0 ? rc : check_ids("stop id", r->stop_ids, r->n_stop_ids, f->n_vocab, e);
}

/* How many tokens may be drawn; and whether all that can ever fit. */
static int settle_length(const struct service *s, struct service_request *r,
                         struct service_ticket *t, struct err *e)
{
    const uint32_t n_ctx = s->opts.n_ctx;
    const uint32_t left = r->n_tokens < n_ctx ? n_ctx - r->n_tokens : 0;
    bool context;
    int rc;

    t->n_prompt = r->n_tokens;
    t->n_ctx = n_ctx;
    if (!r->prompt_only && left == 0)
        return refuse(t, SERVICE_REFUSED_CONTEXT,
                      err_set(e, WATT_ELIMIT, "the prompt has %u tokens, the context holds %u",
                              r->n_tokens, n_ctx));
    if (!r->prompt_only && (r->max_tokens == 0 || (r->clip_max && r->max_tokens > left)))
        r->max_tokens = left;
    if (r->prompt_only)
        r->max_tokens = 0;
    rc = sched_fits(s->sched, r->n_tokens, r->max_tokens, &context, e);
    return rc < 0 ? refuse(t, context ? SERVICE_REFUSED_CONTEXT : SERVICE_REFUSED_MEMORY, rc) : 0;
}

/* ---- a job ---- */

static uint64_t job_bytes(const struct service *s, const struct service_request *r)
{
    const struct sampler_spec spec = { .n_vocab = s->width, .n_ctx = s->opts.n_ctx,
                                       .piece = s->tok ? generate_piece : NULL };
    uint64_t own = sizeof(struct answer) + (uint64_t)(r->n_tokens + (uint64_t)r->max_tokens) * 4;

    if (!r->prompt_only)
        own += sampler_bytes(&spec, &r->sampling);
    if (s->diffuses)
        own += denoiser_bytes(s->opts.diffusion.block) + (uint64_t)s->mask_words * 16;
    if (r->n_bad)               /* a sequence may be all of them, and every answer remembers as much */
        own += (uint64_t)r->bad_ends[r->n_bad - 1] * sizeof *r->bad_ids;
    if (r->mask || r->allowed || r->min_tokens || r->n_bad)
        own += (uint64_t)s->mask_words * 8;
    if (r->logprobs)
        own += (uint64_t)(s->opts.max_draft + 1) * r->n_top * sizeof(struct token_logprob);
    own *= r->n_choices;
    if (r->n_bad)
        own += (uint64_t)r->bad_ends[r->n_bad - 1] * sizeof *r->bad_ids + r->n_bad * sizeof *r->bad_ends;
    own += r->caller_bytes < UINT64_MAX / 4 ? r->caller_bytes : UINT64_MAX / 4;
    return sizeof(struct job) + (uint64_t)r->n_tokens * 4 + (uint64_t)s->mask_words * 8 + own;
}

static void *copy_of(const void *from, size_t n, size_t size)
{
    void *to = n ? mem_array(n, size) : NULL;

    if (to)
        memcpy(to, from, n * size);
    return to;
}

static struct prefix_space space_of(const struct service *s, const struct service_request *r)
{
    const bool scaled = r->adapter && r->adapter_scale != 0 && r->adapter_scale != 1;
    const uint32_t adapter = r->adapter | (scaled ? UINT32_C(1) << 31 : 0);     /* a scale follows */
    uint8_t digest[SHA256_BYTES];
    struct prefix_space space;
    struct sha256 h;

    sha256_init(&h);
    sha256_add(&h, s->space_key, sizeof s->space_key);
    sha256_add(&h, &adapter, sizeof adapter);
    if (scaled)
        sha256_add(&h, &r->adapter_scale, sizeof r->adapter_scale);
    if (r->salt.len > 0)
        sha256_add(&h, r->salt.data, r->salt.len);
    sha256_end(&h, digest);
    memcpy(space.id, digest, sizeof space.id);
    return space;
}

static int copy_request(struct job *j, const struct service_request *r, struct err *e)
{
    const struct service *s = j->svc;

    j->r = *r;
    j->r.mask = NULL;
    j->tokens = copy_of(r->tokens, r->n_tokens, sizeof *j->tokens);
    j->stop_ids = copy_of(r->stop_ids, r->n_stop_ids, sizeof *j->stop_ids);
    if (r->allowed)
        j->allowed = copy_of(r->allowed, s->mask_words, sizeof *j->allowed);
    if (r->prompt_logprobs && r->n_prompt_top > 0)
        j->prompt_top = mem_array(r->n_prompt_top, sizeof *j->prompt_top);
    j->answers = mem_calloc(r->n_choices, sizeof *j->answers);
    if (!j->tokens || (r->n_stop_ids && !j->stop_ids) || (r->allowed && !j->allowed) ||
        (r->prompt_logprobs && r->n_prompt_top && !j->prompt_top) || !j->answers)
        return err_set(e, WATT_ENOMEM, "request of %u tokens", r->n_tokens);
    j->r.tokens = j->tokens;
    j->r.stop_ids = j->stop_ids;
    j->r.allowed = j->allowed;
    j->r.bad_ids = NULL;
    j->r.bad_ends = NULL;
    j->space = space_of(s, r);
    return bad_words_init(&j->bad, r->bad_ids, r->bad_ends, r->n_bad, e);
}

static int open_answers(struct job *j, struct token_mask **mask, struct err *e)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < j->r.n_choices; i++) {
        struct answer *a = &j->answers[i];

        a->job = j;
        if (*mask && i + 1 < j->r.n_choices)
            rc = (*mask)->ops->clone(&a->mask, *mask, e);
        else if (*mask) {
            a->mask = *mask;
            *mask = NULL;
        }
        j->n_left++;        /* as many as job_close has to undo */
        if (rc == 0) {
            j->r.mask = a->mask;
            rc = answer_init(a, j, i, e);
        }
    }
    /* what the caller's memory held is copied or not read again */
    j->r.stops = NULL;
    j->r.salt = (struct sv){ NULL, 0 };
    j->r.sampling.bias = NULL;
    j->r.sampling.dry_breakers = NULL;
    return rc;
}

void job_close(struct job *j)
{
    if (!j)
        return;
    for (uint32_t i = 0; j->answers && i < j->r.n_choices; i++)
        if (j->answers[i].job)
            answer_deinit(&j->answers[i]);
    mem_free(j->answers);
    mem_free(j->tokens);
    mem_free(j->stop_ids);
    mem_free(j->allowed);
    bad_words_deinit(&j->bad);
    mem_free(j->prompt_top);
    mem_free(j);
}

/* Takes *mask over when all goes well. */
static int job_open(struct job **out, struct service *s, const struct service_request *r,
                    struct token_mask **mask, struct err *e)
{
    struct job *j = mem_calloc(1, sizeof *j);
    int rc;

    if (!j)
        return err_set(e, WATT_ENOMEM, "request");
    j->svc = s;
    j->submitted_ns = clock_mono_ns();
    rc = copy_request(j, r, e);
    if (rc == 0)
        rc = open_answers(j, mask, e);
    if (rc < 0) {
        job_close(j);
        return rc;
    }
    *out = j;
    return 0;
}

/* ---- submitting ---- */

/* Under mu: is there room? Takes it. */
static int reserve(struct service *s, uint64_t bytes, uint32_t n, uint64_t n_tokens,
                   struct service_ticket *t, struct err *e)
{
    const uint32_t most = s->opts.max_seqs + s->opts.max_queued;
    const uint64_t wait_ms = s->wait.queue_ns / 1000000;

    if (s->closing)
        return refuse(t, SERVICE_REFUSED_CLOSING,
                      err_set(e, WATT_ECANCEL, "the service is closing"));
    if (bytes > s->opts.queue_bytes || n > most)
        return refuse(t, SERVICE_REFUSED_MEMORY,
                      err_set(e, WATT_ELIMIT, "a request of %" PRIu64 " bytes and %u choices, of "
                              "at most %" PRIu64 " and %u", bytes, n, s->opts.queue_bytes, most));
    if (n > most - s->n_answers || bytes > s->opts.queue_bytes - s->live_bytes ||
        (s->stats.n_waiting > 0 && sched_wait_ns(&s->wait, n_tokens) > s->opts.max_wait_ns)) {
        t->retry_after_ms = wait_ms < 1000 ? 1000 : wait_ms > 60000 ? 60000 : wait_ms;
        return refuse(t, SERVICE_REFUSED_QUEUE,
                      err_set(e, WATT_EBUSY, "%u answers wait or run, of at most %u; come back in "
                              "%" PRIu64 " ms", s->n_answers, most, t->retry_after_ms));
    }
    s->n_answers += n;
    s->live_bytes += bytes;
    return 0;
}

static void unreserve(struct service *s, uint64_t bytes, uint32_t n)
{
    (void)pthread_mutex_lock(&s->mu);
    s->n_answers -= n;
    s->live_bytes -= bytes;
    (void)pthread_mutex_unlock(&s->mu);
}

/* False: the thread has taken its last jobs meanwhile. */
static bool hand_in(struct service *s, struct job *j, struct service_ticket *t)
{
    (void)pthread_mutex_lock(&s->mu);
    if (s->stop) {
        (void)pthread_mutex_unlock(&s->mu);
        return false;
    }
    j->id = t->id = ++s->next_id;
    j->next = s->jobs;
    if (s->jobs)
        s->jobs->prev = j;
    s->jobs = j;
    *s->inbox_end = j;
    s->inbox_end = &j->next_in;
    s->stats.n_requests++;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->mu);
    return true;
}

static int submit(struct service *s, const struct service_request *in, struct token_mask **mask,
                  struct service_ticket *t, struct err *e)
{
    struct service_request r = *in;
    struct job *j;
    uint64_t bytes;
    int rc = check(s, &r, e);

    if (r.salt.len > SERVICE_MAX_SALT && rc == 0)
        rc = err_set(e, WATT_EINVAL, "a cache salt of %zu bytes, wanted at most %u", r.salt.len,
                     SERVICE_MAX_SALT);
    if (rc < 0)
        return refuse(t, SERVICE_REFUSED_INVALID, rc);
    rc = settle_length(s, &r, t, e);
    if (rc < 0)
        return rc;
    bytes = job_bytes(s, &r);
    (void)pthread_mutex_lock(&s->mu);
    rc = reserve(s, bytes, r.n_choices, r.n_tokens, t, e);
    s->stats.n_refused += rc < 0;
    (void)pthread_mutex_unlock(&s->mu);
    if (rc < 0)
        return rc;
    rc = job_open(&j, s, &r, mask, e);
    if (rc < 0) {
        unreserve(s, bytes, r.n_choices);
        return refuse(t, rc == WATT_ENOMEM ? SERVICE_REFUSED_NOMEM : SERVICE_REFUSED_INVALID, rc);
    }
    j->bytes = bytes;
    if (hand_in(s, j, t))
        return 0;
    unreserve(s, bytes, r.n_choices);
    job_close(j);
    return refuse(t, SERVICE_REFUSED_CLOSING, err_set(e, WATT_ECANCEL, "the service is closing"));
}

int service_submit(struct service *s, const struct service_request *r, struct service_ticket *t,
                   struct err *e)
{
    struct token_mask *mask = r->mask;
    int rc;

    *t = (struct service_ticket){ 0 };
    rc = submit(s, r, &mask, t, e);
    token_mask_close(mask);     /* NULL when an answer has it */
    if (rc < 0)
        service_metrics_refused(s, t->refusal);
    return rc;
}
