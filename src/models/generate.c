/* generate.c: prompt to answer; see generate.h. */
#include "models/generate.h"

#include "base/clock.h"
#include "base/mem.h"
#include "models/stops.h"

#define NONE (-1)

struct generator {
    struct session         *session;
    const struct tokenizer *tok;
    uint32_t seq, n_vocab;
    int32_t  waiting;       /* drawn, not yet appended; NONE */
    float   *logits;        /* [session_width] of the last appended token; NULL with blocks */
    /* Diffusion language models: the tokens wait here until an answer is asked for. */
    struct diffusion *blocks;       /* NULL: tokens follow each other */
    const struct model *model;
    int32_t *held;          /* [n_ctx] */
    uint32_t n_held;
};

/* What one run carries along. */
struct run {
    struct generator           *g;
    const struct generate_opts *o;
    struct detok                detok;
    struct stops                stops;
    struct str                  piece, text;
};

static int open_logits(struct generator *g, struct err *e)
{
    g->logits = mem_calloc(session_width(g->session), sizeof *g->logits);
    return g->logits ? 0 : err_set(e, WATT_ENOMEM, "generator: logits");
}

static int open_blocks(struct generator *g, struct err *e)
{
    const uint32_t most = session_max_out(g->session);
    const struct diffusion_opts o = { .block = most < DIFFUSION_BLOCK ? most : DIFFUSION_BLOCK };

    g->held = mem_array(session_n_ctx(g->session), sizeof *g->held);
    if (!g->held)
        return err_set(e, WATT_ENOMEM, "generator: tokens");
    return diffusion_open(&g->blocks, g->session, g->seq, g->model, g->tok, &o, e);
}

int generator_open(struct generator **out, struct session *s, uint32_t seq, const struct model *m,
                   const struct tokenizer *tok, struct err *e)
{
    const struct model_facts *f = model_facts(m);
    struct generator *g;
    int rc;

    if (f->embeds || f->n_out != f->n_vocab)
        return err_set(e, WATT_ENOTSUP, "%s: %s is an encoder, it does not generate text",
                       gguf_path(model_gguf(m)), f->arch);
    g = mem_calloc(1, sizeof *g);
    if (!g)
        return err_set(e, WATT_ENOMEM, "generator");
    *g = (struct generator){ .session = s, .tok = tok, .seq = seq, .n_vocab = f->n_vocab,
                             .waiting = NONE, .model = m };
    rc = diffusion_fits(m) ? open_blocks(g, e) : open_logits(g, e);
    if (rc < 0)
        generator_close(g);
    else
        *out = g;
    return rc;
}

int generator_diffusion(struct generator *g, const struct diffusion_opts *opts, struct err *e)
{
    struct diffusion *d = NULL;
    int rc;

    if (!g->blocks)
        return err_set(e, WATT_ENOTSUP, "%s: %s is no diffusion language model",
                       gguf_path(model_gguf(g->model)), model_facts(g->model)->arch);
    rc = diffusion_open(&d, g->session, g->seq, g->model, g->tok, opts, e);
    if (rc < 0)
        return rc;
    diffusion_close(g->blocks);
    g->blocks = d;
    return 0;
}

void generator_close(struct generator *g)
{
    if (!g)
        return;
    diffusion_close(g->blocks);
    mem_free(g->held);
    mem_free(g->logits);
    mem_free(g);
}

uint32_t generator_len(const struct generator *g)
{
    return g->blocks ? g->n_held : session_len(g->session, g->seq) + (g->waiting != NONE);
}

void generator_reset(struct generator *g)
{
    session_reset(g->session, g->seq);
    g->waiting = NONE;
    g->n_held = 0;
}

uint32_t generator_reach(const struct generator *g, uint32_t n)
{
    if (g->blocks)      /* every answer runs everything anew */
        return 0;
    return n > session_len(g->session, g->seq) ? generator_len(g)
                                               : session_reach(g->session, g->seq, n);
}

int generator_truncate(struct generator *g, uint32_t n, struct err *e)
{
    const uint32_t len = session_len(g->session, g->seq);
    int rc;

    if (n > generator_len(g))
        return err_set(e, WATT_EINVAL, "session: %u tokens cannot be kept of %u", n, generator_len(g));
    if (g->blocks) {
        g->n_held = n;
        return 0;
    }
    if (n > len)
        return 0;
    if (n < len) {
        rc = session_truncate(g->session, g->seq, n, e);
        if (rc < 0)
            return rc;
    }
    g->waiting = NONE;
    return 0;
}

const float *generator_logits(const struct generator *g) { return g->logits; }
uint32_t generator_width(const struct generator *g)      { return g->n_vocab; }

/* ---- appending ---- */

static bool is_cancelled(const struct generate_opts *o)
{
    return o && o->cancelled && o->cancelled(o->ctx);
}

static int append_chunk(struct generator *g, const int32_t *ids, size_t n, bool last, struct err *e)
{
    const struct session_input in = { .seq = g->seq, .tokens = ids, .n_tokens = (uint32_t)n,
                                      .want = last ? SESSION_LAST : SESSION_NONE };

    return session_eval(g->session, &in, 1, last ? g->logits : NULL, e);
}

static int append_waiting(struct generator *g, bool last, struct err *e)
{
    int rc;

    if (g->waiting == NONE)
        return 0;
    rc = append_chunk(g, &g->waiting, 1, last, e);
    if (rc == 0)
        g->waiting = NONE;
    return rc;
}

int generator_append(struct generator *g, const int32_t *ids, size_t n,
                     const struct generate_opts *o, struct err *e)
{
    const uint32_t n_ctx = session_n_ctx(g->session), len = generator_len(g);
    const size_t chunk = session_max_rows(g->session);
    size_t at = 0;
    int rc;

    if (len > n_ctx || n > n_ctx - len)
        return err_set(e, WATT_ELIMIT, "context full: %zu more tokens after %u do not fit in a context of %u",
                       n, len, n_ctx);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= g->n_vocab)
            return err_set(e, WATT_EINVAL, "token %d is not in the vocabulary of %u", ids[i], g->n_vocab);
    if (g->blocks) {        /* all of it is one input of the model, once the answer begins */
        for (; at < n; at++)
            g->held[g->n_held++] = ids[at];
        return 0;
    }
    rc = append_waiting(g, n == 0, e);
    if (rc < 0)
        return rc;
    while (at < n) {
        const size_t take = n - at < chunk ? n - at : chunk;

        if (is_cancelled(o))
            return err_set(e, WATT_ECANCEL, "cancelled after %zu of %zu tokens", at, n);
        rc = append_chunk(g, ids + at, take, at + take == n, e);
        if (rc < 0)
            return rc;
        at += take;
        if (o && o->on_prefill)
            o->on_prefill(o->ctx, (uint32_t)at, (uint32_t)n);
    }
    session_mark(g->session, g->seq);
    return 0;
}

/* ---- generating ---- */

static int run_open(struct run *r, struct generator *g, const struct generate_opts *o, struct err *e)
{
    *r = (struct run){ .g = g, .o = o };
    str_init(&r->piece, 0);
    str_init(&r->text, 0);
    if (g->tok)
        detok_init(&r->detok, g->tok, (o->special ? DETOKENIZE_SPECIAL : 0u)
                                      | (o->continues ? DETOKENIZE_CONTINUE : 0u));
    return stops_init(&r->stops, o->stops, o->n_stops, e);
}

static void run_close(struct run *r)
{
    str_deinit(&r->piece);
    str_deinit(&r->text);
    stops_deinit(&r->stops);
}

static int report(struct run *r, int32_t id, bool *ended)
{
    const struct generated now = { id, { str_cstr(&r->text), r->text.len },
                                   id >= 0 ? r->g->logits : NULL };

    if (r->o->on_token && r->o->on_token(r->o->ctx, &now) != 0)
        *ended = true;
    return str_ok(&r->text) && str_ok(&r->piece) && str_ok(&r->stops.held) ? 0 : WATT_ENOMEM;
}

/* A new token on its way to the reader; *hit: a stop string came. */
static int emit(struct run *r, int32_t id, bool *hit, bool *ended)
{
    str_reset(&r->piece);
    str_reset(&r->text);
    if (r->g->tok)
        detok_push(&r->detok, id, &r->piece);
    *hit = stops_push(&r->stops, str_cstr(&r->piece), r->piece.len, &r->text);
    return report(r, id, ended);
}

/* What was held back is text after all. */
static int emit_rest(struct run *r)
{
    bool ignored = false;

    str_reset(&r->piece);
    str_reset(&r->text);
    if (r->g->tok)
        detok_finish(&r->detok, &r->piece);
    if (!stops_push(&r->stops, str_cstr(&r->piece), r->piece.len, &r->text))
        stops_finish(&r->stops, &r->text);
    return r->text.len > 0 ? report(r, NONE, &ignored) : 0;
}

static int draw(struct generator *g, struct sampler *sampler, int32_t *id, struct err *e)
{
    uint32_t drawn;
    const int rc = sampler_sample(sampler, g->logits, NULL, &drawn, e);

    if (rc == 0)
        *id = (int32_t)drawn;
    return rc;
}

/* From the logits of the prompt's last token to the end of the answer. */
static int answer(struct run *r, struct sampler *sampler, uint64_t start_ns,
                  struct generate_result *result, struct err *e)
{
    struct generator *g = r->g;
    uint64_t first_ns = 0;

    for (;;) {
        bool hit = false, ended = false;
        int32_t id = NONE;
        uint64_t now;
        int rc;

        if (is_cancelled(r->o)) {
            result->reason = GENERATE_CANCELLED;
            return 0;
        }
        rc = append_waiting(g, true, e);
        if (rc == 0)
            rc = draw(g, sampler, &id, e);
        if (rc < 0)
            return rc;
        if (g->tok && !r->o->ignore_end && tokenizer_is_eog(g->tok, id)) {
            result->reason = GENERATE_END;
            return 0;
        }
        sampler_accept(sampler, (uint32_t)id);
        g->waiting = id;
        now = clock_mono_ns();
        if (result->n_generated++ == 0) {
            first_ns = now;
            result->first_token_ns = now - start_ns;
        }
        result->decode_ns = now - first_ns;
        if (emit(r, id, &hit, &ended) < 0)
            return err_set(e, WATT_ENOMEM, "answer: out of memory");
        if (hit || ended || result->n_generated == r->o->n_max
            || generator_len(g) > session_n_ctx(g->session)) {
            result->reason = hit ? GENERATE_STOP : ended ? GENERATE_CANCELLED
                             : result->n_generated == r->o->n_max ? GENERATE_LENGTH : GENERATE_CONTEXT;
            return 0;
        }
    }
}

/* The tokens of a finished block, until something ends the answer. */
static int emit_block(struct run *r, const struct diffusion_step *step, bool *over,
                      struct generate_result *result, struct err *e)
{
    struct generator *g = r->g;

    for (uint32_t i = 0; i < step->n_block && !*over; i++) {
        const int32_t id = step->block[i];
        bool hit = false, ended = false;

        if (g->tok && !r->o->ignore_end && tokenizer_is_eog(g->tok, id)) {
            result->reason = GENERATE_END;
            *over = true;
            break;
        }
        g->held[g->n_held++] = id;
        result->n_generated++;
        if (emit(r, id, &hit, &ended) < 0)
            return err_set(e, WATT_ENOMEM, "answer: out of memory");
        if (hit || ended || result->n_generated == r->o->n_max) {
            result->reason = hit ? GENERATE_STOP : ended ? GENERATE_CANCELLED : GENERATE_LENGTH;
            *over = true;
        }
    }
    return 0;
}

/* The same for models that make blocks: steps until each is done. */
static int answer_blocks(struct run *r, struct sampler *sampler, uint64_t start_ns,
                         struct generate_result *result, struct err *e)
{
    struct generator *g = r->g;
    struct diffusion_step step = { 0 };
    uint64_t begun_ns;
    bool over = false;
    int rc = diffusion_start(g->blocks, g->held, g->n_held, r->o->n_max, sampler, e);

    begun_ns = clock_mono_ns();
    result->prefill_ns = begun_ns - start_ns;
    while (rc == 0 && !over) {
        if (is_cancelled(r->o)) {
            result->reason = GENERATE_CANCELLED;
            return 0;
        }
        rc = diffusion_step(g->blocks, &step, e);
        if (rc < 0 || !step.block_done)
            continue;
        if (result->n_generated == 0)
            result->first_token_ns = clock_mono_ns() - start_ns;
        result->decode_ns = clock_mono_ns() - begun_ns;
        rc = emit_block(r, &step, &over, result, e);
        if (rc == 0 && !over && step.done) {
            result->reason = GENERATE_CONTEXT;
            over = true;
        }
    }
    result->n_steps = (uint32_t)diffusion_n_steps(g->blocks);
    return rc;
}

int generator_run(struct generator *g, struct sampler *sampler, const int32_t *prompt, size_t n,
                  const struct generate_opts *opts, struct generate_result *result, struct err *e)
{
    static const struct generate_opts defaults;
    const struct generate_opts *o = opts ? opts : &defaults;
    const uint64_t start_ns = clock_mono_ns();
    struct generate_result res = { .n_prompt = (uint32_t)n };
    struct run r;
    int rc;

    if (n == 0 && g->waiting == NONE && g->n_held == 0)
        return err_set(e, WATT_EINVAL, "prompt: no tokens");
    rc = run_open(&r, g, o, e);
    if (rc < 0)
        return rc;
    rc = generator_append(g, prompt, n, o, e);
    if (rc == WATT_ECANCEL) {
        res.reason = GENERATE_CANCELLED;
        rc = 0;
    } else if (rc == 0) {
        for (size_t i = 0; i < n; i++)
            sampler_accept(sampler, (uint32_t)prompt[i]);
        res.prefill_ns = clock_mono_ns() - start_ns;
        rc = g->blocks ? answer_blocks(&r, sampler, start_ns, &res, e)
                       : answer(&r, sampler, start_ns, &res, e);
    }
    if (rc == 0 && res.reason != GENERATE_STOP && emit_rest(&r) < 0)
        rc = err_set(e, WATT_ENOMEM, "answer: out of memory");
    run_close(&r);
    if (rc == 0 && result)
        *result = res;
    return rc;
}

const char *generate_reason_name(enum generate_reason reason)
{
    static const char *const names[] = { "end", "stop", "length", "context", "cancelled" };

    return (unsigned)reason < sizeof names / sizeof *names ? names[reason] : "?";
}

struct sv generate_piece(void *tokenizer, uint32_t id)
{
    return tokenizer_piece(tokenizer, (int32_t)id);
}
