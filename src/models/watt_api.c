/* watt_api.c: the public face (include/watt.h) over the modules of this floor.
 * Nothing is decided here: arguments are checked and translated. */
#include "watt.h"

#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "chips/cpu/features.h"
#include "models/generate.h"
#include "models/sampler.h"
#include "models/text_model.h"
#include "models/watt_internal.h"

/* No feature has this bit: it makes "ref", an empty mask, differ from 0, "all". */
#define ISA_CHOSEN   0x80000000u
#define MAX_SESSIONS 256u
#define MAX_MESSAGES 100000u

struct watt_model {
    struct text_model *t;
    uint32_t n_threads, n_sessions;
    bool     taken[MAX_SESSIONS];
    void   (*progress)(void *ctx, uint64_t done, uint64_t total);
    void    *progress_ctx;
};

struct watt_session {
    struct watt_model *m;
    struct generator  *g;
    uint32_t           seq;
    atomic_bool        cancel;      /* set by anybody, taken back by the owner */
};

struct watt_sampler {
    struct sampler *s;
};

const char *watt_version(void)
{
    return WATT_VERSION;
}

const char *watt_error_name(int code)
{
    return err_name(code);
}

/* ---- errors and structs that may grow ---- */

int watt_told(struct watt_error_info *e, int rc, const struct err *why)
{
    if (e && rc < 0) {
        e->code = rc;
        (void)snprintf(e->msg, sizeof e->msg, "%s", why->msg);
    }
    return rc;
}

int watt_refuse(struct watt_error_info *e, int code, const char *what)
{
    struct err why;

    return watt_told(e, err_set(&why, code, "%s", what), &why);
}

int watt_read_isa(const char *isa, uint32_t *mask, struct err *e)
{
    uint32_t m;

    if (!isa)
        return 0;
    if (!cpu_mask_parse(isa, &m))
        return err_set(e, WATT_EINVAL, "isa '%.64s' is unknown", isa);
    *mask = m | ISA_CHOSEN;
    return 0;
}

/* Reads a struct of the caller's size into ours, whose further members are 0. */
static bool read_struct(void *ours, size_t our_size, const void *theirs)
{
    size_t size;

    if (!theirs)
        return true;
    memcpy(&size, theirs, sizeof size);
    if (size < sizeof size)
        return false;
    memcpy(ours, theirs, size < our_size ? size : our_size);
    return true;
}

/* Fills a struct of the caller's size; `size` stays the caller's. */
static void write_struct(void *theirs, void *ours, size_t our_size)
{
    size_t size;

    memcpy(&size, theirs, sizeof size);
    memcpy(ours, &size, sizeof size);
    memcpy(theirs, ours, size < our_size ? size : our_size);
}

/* ---- models ---- */

static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
    const struct watt_model *m = ctx;

    if (m->progress)
        m->progress(m->progress_ctx, done, total);
    return 0;
}

static int session_options(struct session_opts *so, struct topo_set *cpus,
                           const struct watt_model_options *o, struct err *e)
{
    static const enum team_pin pin[] = { [WATT_PIN_NODE] = TEAM_PIN_NODE,
                                         [WATT_PIN_CPU] = TEAM_PIN_CPU,
                                         [WATT_PIN_NONE] = TEAM_PIN_NONE };
    static const enum dtype kv[] = { [WATT_KV_F32] = DTYPE_F32, [WATT_KV_F16] = DTYPE_F16,
                                     [WATT_KV_BF16] = DTYPE_BF16, [WATT_KV_Q8_0] = DTYPE_Q8_0 };

    if (o->n_sessions > MAX_SESSIONS)
        return err_set(e, WATT_EINVAL, "n_sessions is %u, at most %u", o->n_sessions, MAX_SESSIONS);
    if (o->n_threads > TEAM_MAX_THREADS)
        return err_set(e, WATT_EINVAL, "n_threads is %u, at most %u", o->n_threads, TEAM_MAX_THREADS);
    if ((unsigned)o->kv_type > WATT_KV_Q8_0)
        return err_set(e, WATT_EINVAL, "kv_type is %u, which names no type", (unsigned)o->kv_type);
    if (watt_read_isa(o->isa, &so->isa_mask, e) < 0)
        return WATT_EINVAL;
    so->n_ctx = o->n_ctx;
    so->n_seqs = o->n_sessions ? o->n_sessions : 1;
    so->n_marks = SESSION_CHAT_MARKS;
    if (o->pin < 0 || o->pin > WATT_PIN_NONE)
        return err_set(e, WATT_EINVAL, "pin is %d, which names no way of binding", o->pin);
    if (o->cpus) {
        int rc = topo_set_parse(cpus, o->cpus, e);

        if (rc < 0)
            return err_prefix(e, "cpus");
        so->cpus = cpus;
    }
    so->pin = pin[o->pin];
    so->lock = o->lock_memory != 0;
    so->weights_cache = o->weights_cache;
    so->n_threads = o->n_threads ? o->n_threads : team_threads(so->cpus);
    if (o->kv_type != WATT_KV_DEFAULT) {
        so->kv_set = true;
        so->k_dtype = so->v_dtype = kv[o->kv_type];
    }
    return 0;
}

int watt_model_open(struct watt_model **out, const char *path,
                    const struct watt_model_options *options, struct watt_error_info *e)
{
    struct watt_model_options o = { 0 };
    struct text_model_opts t = { 0 };
    struct topo_set cpus;
    struct watt_model *m;
    struct err why = { 0 };
    int rc;

    if (!out || !path || !read_struct(&o, sizeof o, options))
        return watt_refuse(e, WATT_EINVAL,
                           "watt_model_open: an argument is NULL or options->size is not set");
    rc = session_options(&t.session, &cpus, &o, &why);
    if (rc < 0)
        return watt_told(e, rc, &why);
    m = mem_calloc(1, sizeof *m);
    if (!m)
        return watt_refuse(e, WATT_ENOMEM, "watt_model_open: out of memory");
    m->n_threads = t.session.n_threads;
    m->n_sessions = t.session.n_seqs;
    m->progress = o.progress;
    m->progress_ctx = o.progress_ctx;
    t.session.progress = on_progress;
    t.session.ctx = m;
    rc = text_model_open(&m->t, path, &t, &why);
    if (rc < 0) {
        mem_free(m);
        return watt_told(e, rc, &why);
    }
    *out = m;
    return 0;
}

void watt_model_close(struct watt_model *m)
{
    if (!m)
        return;
    text_model_close(m->t);
    mem_free(m);
}

int watt_model_info(const struct watt_model *m, struct watt_model_info *info,
                    struct watt_error_info *e)
{
    const struct model_facts *f;
    struct session_memory mem;
    struct watt_model_info i;

    if (!m || !info || info->size < sizeof info->size)
        return watt_refuse(e, WATT_EINVAL,
                           "watt_model_info: an argument is NULL or info->size is not set");
    f = model_facts(m->t->model);
    session_memory(m->t->session, &mem);
    i = (struct watt_model_info){
        .architecture = f->arch, .name = f->name, .n_params = f->n_params,
        .file_bytes = gguf_file_bytes(model_gguf(m->t->model)), .memory_bytes = mem.total,
        .n_vocab = f->n_vocab, .n_layers = f->n_layers, .n_embd = f->n_embd,
        .n_ctx_train = f->n_ctx_train, .n_ctx = session_n_ctx(m->t->session),
        .n_threads = m->n_threads, .bos = -1, .eos = -1,
        .has_vocabulary = m->t->tok != NULL, .has_chat_template = m->t->tmpl != NULL,
    };
    if (m->t->tok) {
        i.bos = tokenizer_bos(m->t->tok);
        i.eos = tokenizer_eos(m->t->tok);
    }
    write_struct(info, &i, sizeof i);
    return 0;
}

/* ---- text and tokens ---- */

static int need_vocabulary(const struct watt_model *m, struct watt_error_info *e)
{
    if (!m)
        return watt_refuse(e, WATT_EINVAL, "the model is NULL");
    return m->t->tok ? 0 : watt_refuse(e, WATT_ENOTSUP, m->t->tok_why);
}

int watt_tokenize(const struct watt_model *m, const char *text, size_t n_bytes, unsigned flags,
                  int32_t *ids, size_t cap, size_t *n, struct watt_error_info *e)
{
    struct tokens list = { 0 };
    struct err why = { 0 };
    int rc = need_vocabulary(m, e);

    if (rc < 0)
        return rc;
    if ((!text && n_bytes > 0) || !n || (!ids && cap > 0))
        return watt_refuse(e, WATT_EINVAL, "watt_tokenize: an argument is NULL");
    rc = tokenizer_encode(m->t->tok, NULL, text ? text : "", n_bytes,
                          (flags & WATT_ADD_SPECIAL ? TOKENIZE_ADD_SPECIAL : 0)
                          | (flags & WATT_PARSE_SPECIAL ? TOKENIZE_PARSE_SPECIAL : 0), &list, &why);
    if (rc == 0) {
        *n = list.n;
        if (list.n > cap)
            rc = err_set(&why, WATT_ELIMIT, "watt_tokenize: %zu tokens, there is room for %zu", list.n, cap);
        else if (list.n > 0)
            memcpy(ids, list.ids, list.n * sizeof *ids);
    }
    tokens_deinit(&list);
    return watt_told(e, rc, &why);
}

/* Hands a string over in the way that the header describes. */
static int give_text(const struct str *s, char *text, size_t cap, size_t *n_bytes, struct err *why)
{
    *n_bytes = s->len;
    if (s->len > cap)
        return err_set(why, WATT_ELIMIT, "a text of %zu bytes, there is room for %zu", s->len, cap);
    if (s->len > 0)
        memcpy(text, s->data, s->len);
    if (s->len < cap)
        text[s->len] = '\0';
    return 0;
}

int watt_detokenize(const struct watt_model *m, const int32_t *ids, size_t n, unsigned flags,
                    char *text, size_t cap, size_t *n_bytes, struct watt_error_info *e)
{
    struct err why = { 0 };
    struct str s;
    int rc = need_vocabulary(m, e);

    if (rc < 0)
        return rc;
    if ((!ids && n > 0) || (!text && cap > 0) || !n_bytes)
        return watt_refuse(e, WATT_EINVAL, "watt_detokenize: an argument is NULL");
    str_init(&s, 0);
    rc = tokenizer_decode(m->t->tok, ids, n, flags & WATT_SHOW_SPECIAL ? DETOKENIZE_SPECIAL : 0, &s, &why);
    if (rc == 0)
        rc = give_text(&s, text, cap, n_bytes, &why);
    str_deinit(&s);
    return watt_told(e, rc, &why);
}

const char *watt_token_piece(const struct watt_model *m, int32_t id, size_t *n_bytes)
{
    struct sv piece = { NULL, 0 };

    if (m && m->t->tok && id >= 0 && (uint32_t)id < tokenizer_n_vocab(m->t->tok))
        piece = tokenizer_piece(m->t->tok, id);
    if (n_bytes)
        *n_bytes = piece.len;
    return piece.data;
}

int watt_token_is_end(const struct watt_model *m, int32_t id)
{
    return m && m->t->tok && tokenizer_is_eog(m->t->tok, id);
}

static json_t *messages_json(const struct watt_message *messages, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < n; i++)
        if (json_array_append_new(list, json_pack("{s:s, s:s}", "role", messages[i].role,
                                                  "content", messages[i].content)) != 0) {
            json_decref(list);
            return NULL;
        }
    return list ? json_pack("{s:o, s:b}", "messages", list, "add_generation_prompt", 1) : NULL;
}

int watt_chat_render(const struct watt_model *m, const struct watt_message *messages, size_t n,
                     char *text, size_t cap, size_t *n_bytes, struct watt_error_info *e)
{
    struct err why = { 0 };
    struct str s;
    json_t *vars;
    int rc;

    if (!m || !messages || n > MAX_MESSAGES || (!text && cap > 0) || !n_bytes)
        return watt_refuse(e, WATT_EINVAL,
                           "watt_chat_render: an argument is NULL, or too many messages");
    for (size_t i = 0; i < n; i++)
        if (!messages[i].role || !messages[i].content)
            return watt_refuse(e, WATT_EINVAL,
                               "watt_chat_render: a message without role or content");
    vars = messages_json(messages, n);
    if (!vars)
        return watt_refuse(e, WATT_EINVAL,
                           "watt_chat_render: a message is not valid UTF-8, or out of memory");
    str_init(&s, 0);
    rc = text_model_render(m->t, vars, &s, &why);
    if (rc == 0)
        rc = give_text(&s, text, cap, n_bytes, &why);
    str_deinit(&s);
    json_decref(vars);
    return watt_told(e, rc, &why);
}

/* ---- sessions ---- */

int watt_session_open(struct watt_session **out, struct watt_model *m, struct watt_error_info *e)
{
    struct watt_session *s;
    struct err why = { 0 };
    uint32_t seq = 0;
    int rc;

    if (!out || !m)
        return watt_refuse(e, WATT_EINVAL, "watt_session_open: an argument is NULL");
    while (seq < m->n_sessions && m->taken[seq])
        seq++;
    if (seq == m->n_sessions) {
        rc = err_set(&why, WATT_ELIMIT, "all %u sessions of the model are open; see n_sessions",
                     m->n_sessions);
        return watt_told(e, rc, &why);
    }
    s = mem_calloc(1, sizeof *s);
    if (!s)
        return watt_refuse(e, WATT_ENOMEM, "watt_session_open: out of memory");
    rc = generator_open(&s->g, m->t->session, seq, m->t->model, m->t->tok, &why);
    if (rc < 0) {
        mem_free(s);
        return watt_told(e, rc, &why);
    }
    s->m = m;
    s->seq = seq;
    atomic_init(&s->cancel, false);
    m->taken[seq] = true;
    *out = s;
    return 0;
}

void watt_session_close(struct watt_session *s)
{
    if (!s)
        return;
    generator_reset(s->g);
    generator_close(s->g);
    s->m->taken[s->seq] = false;
    mem_free(s);
}

void watt_session_reset(struct watt_session *s)
{
    if (s)
        generator_reset(s->g);
}

uint32_t watt_session_length(const struct watt_session *s)
{
    return s ? generator_len(s->g) : 0;
}

int watt_session_truncate(struct watt_session *s, uint32_t n, struct watt_error_info *e)
{
    struct err why = { 0 };

    if (!s)
        return watt_refuse(e, WATT_EINVAL, "watt_session_truncate: the session is NULL");
    return watt_told(e, generator_truncate(s->g, n, &why), &why);
}

void watt_session_cancel(struct watt_session *s)
{
    if (s)
        atomic_store_explicit(&s->cancel, true, memory_order_relaxed);
}

static bool take_cancel(struct watt_session *s)
{
    return atomic_exchange_explicit(&s->cancel, false, memory_order_relaxed);
}

static bool eval_cancelled(void *session)
{
    return take_cancel(session);
}

int watt_session_eval(struct watt_session *s, const int32_t *ids, size_t n, const float **logits,
                      struct watt_error_info *e)
{
    struct err why = { 0 };
    struct generate_opts o = { .cancelled = eval_cancelled, .ctx = s };
    int rc;

    if (!s || !ids || n == 0)
        return watt_refuse(e, WATT_EINVAL, "watt_session_eval: an argument is NULL, or no tokens");
    if (logits && !generator_logits(s->g))
        return watt_refuse(e, WATT_ENOTSUP,
                           "watt_session_eval: a diffusion language model has no logits "
                           "of a next token");
    rc = generator_append(s->g, ids, n, &o, &why);
    if (rc == 0 && logits)
        *logits = generator_logits(s->g);
    return watt_told(e, rc, &why);
}

/* ---- drawing tokens ---- */

void watt_sampler_options_init(struct watt_sampler_options *o)
{
    struct sampler_options d;

    sampler_defaults(&d);
    *o = (struct watt_sampler_options){
        .size = sizeof *o, .seed = d.seed, .temperature = d.temp,
        .dynatemp_range = d.dynatemp_range, .dynatemp_exponent = d.dynatemp_exponent,
        .top_k = d.top_k, .top_p = d.top_p, .min_p = d.min_p, .typical_p = d.typical_p,
        .xtc_probability = d.xtc_probability, .xtc_threshold = d.xtc_threshold,
        .repeat_penalty = d.repeat_penalty, .frequency_penalty = d.frequency_penalty,
        .presence_penalty = d.presence_penalty, .penalty_last_n = d.penalty_last_n,
        .dry_multiplier = d.dry_multiplier, .dry_base = d.dry_base,
        .dry_allowed_length = d.dry_allowed_length, .dry_last_n = d.dry_last_n,
        .mirostat = d.mirostat, .mirostat_tau = d.mirostat_tau, .mirostat_eta = d.mirostat_eta,
    };
}

static int sampler_options_of(struct sampler_options *to, const struct watt_sampler_options *o,
                              struct err *e)
{
    sampler_defaults(to);
    to->seed = o->seed;
    to->temp = o->temperature;
    to->dynatemp_range = o->dynatemp_range;
    to->dynatemp_exponent = o->dynatemp_exponent;
    to->top_k = o->top_k;
    to->top_p = o->top_p;
    to->min_p = o->min_p;
    to->typical_p = o->typical_p;
    to->xtc_probability = o->xtc_probability;
    to->xtc_threshold = o->xtc_threshold;
    to->repeat_penalty = o->repeat_penalty;
    to->frequency_penalty = o->frequency_penalty;
    to->presence_penalty = o->presence_penalty;
    to->penalty_last_n = o->penalty_last_n;
    to->dry_multiplier = o->dry_multiplier;
    to->dry_base = o->dry_base;
    to->dry_allowed_length = o->dry_allowed_length;
    to->dry_last_n = o->dry_last_n;
    if (o->dry_breakers) {
        to->dry_breakers = o->dry_breakers;
        to->n_dry_breakers = o->n_dry_breakers;
    }
    to->mirostat = o->mirostat;
    to->mirostat_tau = o->mirostat_tau;
    to->mirostat_eta = o->mirostat_eta;
    return o->order ? sampler_order_parse(to, o->order, e) : 0;
}

/* The same bias list with the ids that the sampler wants. */
static int copy_bias(const struct watt_sampler_options *o, struct logit_bias **out, struct err *e)
{
    struct logit_bias *bias = mem_array(o->n_bias, sizeof *bias);

    if (!bias)
        return err_set(e, WATT_ENOMEM, "watt_sampler_open: out of memory");
    for (size_t i = 0; i < o->n_bias; i++) {
        if (o->bias[i].id < 0) {
            mem_free(bias);
            return err_set(e, WATT_EINVAL, "bias for token %d", o->bias[i].id);
        }
        bias[i] = (struct logit_bias){ (uint32_t)o->bias[i].id, o->bias[i].bias };
    }
    *out = bias;
    return 0;
}

int watt_sampler_open(struct watt_sampler **out, const struct watt_model *m,
                      const struct watt_sampler_options *options, struct watt_error_info *e)
{
    struct watt_sampler_options o;
    struct sampler_options so;
    struct sampler_spec spec;
    struct logit_bias *bias = NULL;
    struct watt_sampler *s = NULL;
    struct err why = { 0 };
    int rc;

    watt_sampler_options_init(&o);
    if (!out || !m || !read_struct(&o, sizeof o, options) || (o.n_bias > 0 && !o.bias))
        return watt_refuse(e, WATT_EINVAL,
                           "watt_sampler_open: an argument is NULL or options->size is not set");
    rc = sampler_options_of(&so, &o, &why);
    if (rc == 0)
        rc = copy_bias(&o, &bias, &why);
    if (rc < 0)
        return watt_told(e, rc, &why);
    so.bias = bias;
    so.n_bias = o.n_bias;
    spec = (struct sampler_spec){ .n_vocab = model_facts(m->t->model)->n_vocab,
                                  .n_ctx = session_n_ctx(m->t->session) };
    if (m->t->tok) {
        spec.piece = generate_piece;
        spec.piece_ctx = m->t->tok;
    }
    s = mem_calloc(1, sizeof *s);
    rc = s ? sampler_open(&s->s, &spec, &so, &why) : err_set(&why, WATT_ENOMEM, "watt_sampler_open: out of memory");
    mem_free(bias);
    if (rc < 0) {
        mem_free(s);
        return watt_told(e, rc, &why);
    }
    *out = s;
    return 0;
}

void watt_sampler_close(struct watt_sampler *s)
{
    if (!s)
        return;
    sampler_close(s->s);
    mem_free(s);
}

void watt_sampler_reset(struct watt_sampler *s)
{
    if (s)
        sampler_reset(s->s);
}

void watt_sampler_accept(struct watt_sampler *s, int32_t id)
{
    if (s && id >= 0)
        sampler_accept(s->s, (uint32_t)id);
}

int watt_sampler_sample(struct watt_sampler *s, const float *logits, const uint64_t *mask,
                        int32_t *id, struct watt_error_info *e)
{
    struct err why = { 0 };
    uint32_t drawn = 0;
    int rc;

    if (!s || !logits || !id)
        return watt_refuse(e, WATT_EINVAL, "watt_sampler_sample: an argument is NULL");
    rc = sampler_sample(s->s, logits, mask, &drawn, &why);
    if (rc == 0)
        *id = (int32_t)drawn;
    return watt_told(e, rc, &why);
}

size_t watt_sampler_top_logprobs(struct watt_sampler *s, const float *logits, size_t n,
                                 struct watt_logprob *out)
{
    struct token_logprob *top;
    size_t got;

    if (!s || !logits || !out || n == 0)
        return 0;
    top = mem_array(n, sizeof *top);
    if (!top)
        return 0;
    got = sampler_top_logprobs(s->s, logits, n, top);
    for (size_t i = 0; i < got; i++)
        out[i] = (struct watt_logprob){ (int32_t)top[i].id, top[i].logprob };
    mem_free(top);
    return got;
}

/* ---- generating ---- */

struct generating {
    struct watt_session *s;
    const struct watt_generate_options *o;
};

static bool generate_cancelled(void *ctx)
{
    const struct generating *now = ctx;

    return take_cancel(now->s);
}

static int generate_token(void *ctx, const struct generated *g)
{
    const struct generating *now = ctx;
    const struct watt_token t = { .size = sizeof t, .id = g->id, .text = g->text.data,
                                  .n_bytes = g->text.len };

    return now->o->on_token ? now->o->on_token(now->o->ctx, &t) : 0;
}

/* Is there text in front of the answer? Control tokens such as bos are none. */
static bool goes_on(const struct watt_session *s, const int32_t *prompt, size_t n)
{
    if (generator_len(s->g) > 0)
        return true;
    for (size_t i = 0; s->m->t->tok && i < n; i++)
        if (tokenizer_kind(s->m->t->tok, prompt[i]) != TOKEN_CONTROL)
            return true;
    return false;
}

int watt_generate(struct watt_session *s, struct watt_sampler *sampler, const int32_t *prompt,
                  size_t n, const struct watt_generate_options *options,
                  struct watt_generate_result *result, struct watt_error_info *e)
{
    struct watt_generate_options o = { 0 };
    struct generating now = { s, &o };
    struct generate_result r = { 0 };
    struct generate_opts go;
    struct err why = { 0 };
    int rc;

    if (!s || !sampler || !prompt || n == 0 || !read_struct(&o, sizeof o, options)
        || (result && result->size < sizeof result->size) || (o.n_stop > 0 && !o.stop))
        return watt_refuse(e, WATT_EINVAL,
                      "watt_generate: an argument is NULL, no tokens, or a size is not set");
    go = (struct generate_opts){
        .n_max = o.max_tokens, .stops = o.stop, .n_stops = o.n_stop, .ignore_end = o.ignore_end != 0,
        .continues = goes_on(s, prompt, n), .on_token = generate_token,
        .cancelled = generate_cancelled, .ctx = &now,
    };
    rc = generator_run(s->g, sampler->s, prompt, n, &go, &r, &why);
    if (rc == 0 && result) {
        struct watt_generate_result ours = {
            .reason = (enum watt_stop_reason)r.reason, .n_prompt = r.n_prompt,
            .n_generated = r.n_generated, .prefill_ns = r.prefill_ns,
            .first_token_ns = r.first_token_ns, .decode_ns = r.decode_ns,
        };

        write_struct(result, &ours, sizeof ours);
    }
    return watt_told(e, rc, &why);
}
