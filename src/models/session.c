/* session.c: sequences over an executor and a page pool; see session.h. */
#include "models/session.h"

#include <math.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/rng.h"
#include "chips/cpu/exec.h"
#include "chips/exec.h"
#include "chips/kv_layout.h"
#include "infrastructure/kv_seq.h"

#define DEFAULT_CTX 4096u
#define DEFAULT_ROWS 512u
#define BLOCK_OUT 128u
#define MAX_SEQS 4096u
#define MAX_CTX (1u << 26)

#define MAX_MARKS 4096u

struct seq {
    struct kv_seq mem;
    uint32_t  old_len;      /* before the call under way */
    uint32_t  adapter;
    float     adapter_scale;        /* 0: 1 */
};

/* What sharing sessions have in common. */
struct engine {
    struct kv_layout   layout;
    struct exec_limits limits;
    struct team       *own_team;    /* NULL: the caller's, or none */
    struct exec       *exec;
    uint32_t           n_owners;
};

struct session {
    const struct model  *m;
    struct session_opts  opts;      /* defaults filled in */
    struct exec_limits   limits;
    struct session_memory memory;
    struct engine *engine;
    struct kv     *kv;
    uint32_t     max_pages;         /* of one sequence */
    struct seq  *seqs;              /* [n_seqs] */
    uint32_t    *tables;            /* [n_seqs * max_pages], the page tables' memory */
    struct kv_mark *marks;          /* [n_seqs * n_marks] */
    bool        *named;             /* [n_seqs] work space of one call */
    /* the batch under construction */
    int32_t       *token;           /* [max_rows] */
    int32_t       *type;            /* [max_rows] */
    uint32_t      *row_stream;      /* [max_rows] */
    uint32_t      *out_row;         /* [max_out] */
    struct stream *streams;         /* [max_streams] */
    struct batch   batch;
    void         (*on_work)(void *ctx, double ops, double bytes);
    void          *work_ctx;
};

/* ---- options and sizes ---- */

static uint32_t at_most(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t pages_of(uint64_t n_tokens)
{
    return (uint32_t)((n_tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS);
}

static int fill_opts(const struct model *m, const struct session_opts *in,
                     struct session_opts *o, struct err *e)
{
    const struct model_facts *f = model_facts(m);

    *o = in ? *in : (struct session_opts){ 0 };
    if (o->n_ctx == 0)
        o->n_ctx = at_most(f->n_ctx_train ? f->n_ctx_train : DEFAULT_CTX, DEFAULT_CTX);
    if (o->n_seqs == 0)
        o->n_seqs = 1;
    if (o->max_rows == 0)
        o->max_rows = f->whole_inputs ? o->n_ctx : at_most(DEFAULT_ROWS, o->n_ctx);
    if (o->max_rows < o->n_seqs)
        o->max_rows = o->n_seqs;
    if (o->max_out == 0)
        o->max_out = !f->causal && !f->embeds && o->n_seqs < BLOCK_OUT ? BLOCK_OUT : o->n_seqs;
    if (o->max_out > o->max_rows)
        o->max_out = o->max_rows;
    if (o->share) {
        o->k_dtype = o->share->opts.k_dtype;
        o->v_dtype = o->share->opts.v_dtype;
        o->exec = o->share->opts.exec;
    } else if (!o->kv_set) {
        o->k_dtype = o->v_dtype = f->main_dtype == DTYPE_F32 ? DTYPE_F32 : DTYPE_F16;
    }
    if (o->isa_mask == 0)
        o->isa_mask = UINT32_MAX;
    if (o->n_ctx > MAX_CTX || o->n_seqs > MAX_SEQS)
        return err_set(e, WATT_ELIMIT, "session: %u sequences of %u positions, at most %u of %u",
                       o->n_seqs, o->n_ctx, MAX_SEQS, MAX_CTX);
    if (f->fixed_floats == 0)
        o->n_marks = 0;
    if (o->n_marks > MAX_MARKS)
        return err_set(e, WATT_ELIMIT, "session: %u marks, at most %u", o->n_marks, MAX_MARKS);
    return 0;
}

static int kv_need(const struct model *m, const struct session_opts *o,
                   const struct kv_layout *layout, struct kv_spec *spec, struct err *e)
{
    const uint64_t pages = (uint64_t)o->n_seqs * pages_of(o->n_ctx);
    const uint64_t fixed = model_facts(m)->fixed_floats;

    *spec = (struct kv_spec){ .slot_floats = fixed, .page_tokens = KV_PAGE_TOKENS,
                              .n_slots = fixed ? o->n_seqs * (1 + o->n_marks) : 0 };
    if (layout->page_bytes == 0)
        return 0;
    spec->page_bytes = layout->page_bytes;
    spec->n_pages = (uint32_t)pages;
    if (pages >= KV_NO_PAGE)
        return err_set(e, WATT_ELIMIT, "session: %" PRIu64 " pages of keys and values", pages);
    if (o->kv_bytes && o->kv_bytes / layout->page_bytes < pages)
        spec->n_pages = (uint32_t)(o->kv_bytes / layout->page_bytes);
    if (spec->n_pages == 0)
        return err_set(e, WATT_ELIMIT, "session: %" PRIu64 " bytes of keys and values hold no page "
                       "of %" PRIu64, o->kv_bytes, layout->page_bytes);
    return 0;
}

static struct exec_limits limits_of(const struct session_opts *o)
{
    return (struct exec_limits){ .max_rows = o->max_rows, .max_streams = o->n_seqs,
                                 .max_out = o->max_out };
}

/* Bytes of the file that steps read in place. */
static uint64_t mapped_bytes(const struct program *p, enum session_exec exec)
{
    uint64_t n = 0;

    for (wid w = 1; w <= prog_n_weights(p); w++) {
        const struct prog_weight *pw = prog_weight_at(p, w);
        const bool table_only = (pw->uses & USE_TABLE) && !(pw->uses & USE_MATRIX);

        if (exec == SESSION_EXEC_REF ? (pw->uses & (USE_TABLE | USE_MATRIX)) != 0 : table_only)
            n += pw->t.size_bytes;
    }
    return n;
}

static struct session_memory add_up(const struct session_opts *o, const struct program *p,
                                    const struct kv_layout *layout, const struct kv_spec *kv,
                                    const struct exec_memory *x)
{
    struct session_memory m = {
        .weights = x->weights,
        .shared = x->shared,
        .mapped = mapped_bytes(p, o->exec),
        .kv = kv->page_bytes * kv->n_pages,
        .fixed = kv_slots_bytes(kv),
        .fixed_seq = kv->n_slots ? kv_slots_bytes(kv) / kv->n_slots : 0,
        .arena = x->arena,
        .scratch = x->scratch,
        .kv_token = kv_layout_token_bytes(layout),
    };

    m.total = m.weights + m.mapped + m.kv + m.fixed + m.arena + m.scratch;
    return m;
}

/* ---- executors ---- */

unsigned session_threads(const struct session_opts *o)
{
    return o->team ? team_size(o->team) : o->n_threads ? o->n_threads : team_threads(o->cpus);
}

int session_team_open(struct team **out, const struct session_opts *o, struct err *e)
{
    const struct team_opts t = { .n_threads = o->n_threads, .pin = o->pin, .only = o->cpus };

    return team_open_with(out, &t, e);
}

/* The model's files: which they are, and that they are as they were. */
static uint64_t files_key(const struct model *m)
{
    uint64_t h = 1;

    for (uint32_t i = 0; i < gguf_n_parts(model_gguf(m)); i++) {
        struct stat st = { 0 };

        (void)fstat(gguf_part_fd(model_gguf(m), i), &st);
        h = rng_mix(h ^ (uint64_t)st.st_dev);
        h = rng_mix(h ^ (uint64_t)st.st_ino);
        h = rng_mix(h ^ (uint64_t)st.st_size);
        h = rng_mix(h ^ (uint64_t)st.st_mtim.tv_sec);
        h = rng_mix(h ^ (uint64_t)st.st_mtim.tv_nsec);
    }
    return h;
}

static int exec_plan(const struct model *m, const struct session_opts *o,
                     const struct kv_layout *layout, struct exec_memory *x, struct err *e)
{
    const struct exec_limits limits = limits_of(o);
    const struct program *p = model_program(m);

    *x = (struct exec_memory){ 0 };
    if (o->exec == SESSION_EXEC_CPU)
        return cpu_exec_plan(p, layout, &limits, session_threads(o), o->weights_pool, files_key(m), x,
                             e);
    return interp_plan(p, &limits, x, e);
}

static void engine_drop(struct engine *g)
{
    if (!g || --g->n_owners > 0)
        return;
    exec_close(g->exec);
    kv_layout_deinit(&g->layout);
    team_close(g->own_team);
    mem_free(g);
}

struct opening { const struct gguf *file; const struct session_opts *opts; };

/* The executor has its own copy: the file's pages need not stay. */
static void forget_weight(void *ctx, const void *data, uint64_t size)
{
    const struct opening *o = ctx;

    gguf_forget(o->file, data, (size_t)size);
}

static int forward_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
    const struct opening *o = ctx;

    return o->opts->progress ? o->opts->progress(o->opts->ctx, done_bytes, total_bytes) : 0;
}

static int open_cpu(struct engine *g, const struct model *m, const struct session_opts *o,
                    struct err *e)
{
    struct opening ctx = { model_gguf(m), o };
    const uint32_t n_fds = gguf_n_parts(model_gguf(m));
    int *fds = mem_array(n_fds, sizeof *fds);
    const struct weights_cache_opts cache = {
        .dir = model_n_adapters(m) > 0 ? NULL : o->weights_cache,  /* named by the file alone */
        .max_bytes = o->weights_cache_bytes,
        .verify = o->weights_cache_verify, .fds = fds, .n_fds = n_fds,
        .name = gguf_path(model_gguf(m)), .note = o->note,
        .ctx = o->note_ctx,
    };
    struct cpu_exec_opts x = { .team = o->team, .isa_mask = o->isa_mask, .cache = &cache,
                               .pool = o->weights_pool, .pool_key = files_key(m),
                               .lock = o->lock, .progress = forward_progress,
                               .forget = forget_weight, .ctx = &ctx };
    int rc = fds ? 0 : err_set(e, WATT_ENOMEM, "session: %u files", n_fds);

    for (uint32_t i = 0; fds && i < n_fds; i++)
        fds[i] = gguf_part_fd(model_gguf(m), i);
    if (rc == 0 && !x.team) {
        rc = session_team_open(&g->own_team, o, e);
        x.team = g->own_team;
    }
    if (rc == 0)
        rc = cpu_exec_open(&g->exec, model_program(m), &g->layout, &g->limits, &x, e);
    mem_free(fds);
    return rc;
}

static int engine_open(struct engine **out, const struct model *m, const struct session_opts *o,
                       struct err *e)
{
    const struct program *p = model_program(m);
    struct engine *g = mem_calloc(1, sizeof *g);
    int rc;

    if (!g)
        return err_set(e, WATT_ENOMEM, "session: engine");
    g->n_owners = 1;
    g->limits = limits_of(o);
    rc = kv_layout_init(&g->layout, p, o->k_dtype, o->v_dtype, e);
    if (rc == 0 && o->exec == SESSION_EXEC_CPU)
        rc = open_cpu(g, m, o, e);
    else if (rc == 0)
        rc = interp_open(&g->exec, p, &g->layout, &g->limits, e);
    if (rc < 0)
        engine_drop(g);
    else
        *out = g;
    return rc;
}

static int engine_share(struct session *s, struct err *e)
{
    const struct session *other = s->opts.share;
    const struct exec_limits *has = &other->engine->limits;

    if (other->m != s->m)
        return err_set(e, WATT_EINVAL, "session: can't share an executor with another model");
    if (s->limits.max_rows > has->max_rows || s->limits.max_streams > has->max_streams ||
        s->limits.max_out > has->max_out)
        return err_set(e, WATT_EINVAL, "session: steps of %u rows, %u sequences and %u results, "
                       "the shared executor takes %u, %u and %u", s->limits.max_rows,
                       s->limits.max_streams, s->limits.max_out, has->max_rows, has->max_streams,
                       has->max_out);
    s->engine = other->engine;
    s->engine->n_owners++;
    return 0;
}

int session_plan(const struct model *m, const struct session_opts *opts,
                 struct session_memory *mem, struct err *e)
{
    const struct program *p = model_program(m);
    struct session_opts o;
    struct kv_layout layout = { 0 };
    struct kv_spec kv;
    struct exec_memory x;
    int rc = fill_opts(m, opts, &o, e);

    if (rc < 0)
        return rc;
    rc = kv_layout_init(&layout, p, o.k_dtype, o.v_dtype, e);
    if (rc < 0)
        return rc;
    rc = kv_need(m, &o, &layout, &kv, e);
    if (rc == 0)
        rc = exec_plan(m, &o, &layout, &x, e);
    if (rc == 0)
        *mem = add_up(&o, p, &layout, &kv, &x);
    kv_layout_deinit(&layout);
    return rc;
}

/* ---- open and close ---- */

static int alloc_tables(struct session *s, struct err *e)
{
    const struct session_opts *o = &s->opts;

    s->max_pages = pages_of(o->n_ctx);
    s->seqs = mem_calloc(o->n_seqs, sizeof *s->seqs);
    s->named = mem_calloc(o->n_seqs, sizeof *s->named);
    s->marks = mem_array((size_t)o->n_seqs * o->n_marks + 1, sizeof *s->marks);
    s->tables = mem_array((size_t)o->n_seqs * s->max_pages, sizeof *s->tables);
    s->token = mem_array(s->limits.max_rows, sizeof *s->token);
    s->type = mem_array(s->limits.max_rows, sizeof *s->type);
    s->row_stream = mem_array(s->limits.max_rows, sizeof *s->row_stream);
    s->out_row = mem_array(s->limits.max_out, sizeof *s->out_row);
    s->streams = mem_array(s->limits.max_streams, sizeof *s->streams);
    if (!s->seqs || !s->named || !s->tables || !s->marks || !s->token || !s->type ||
        !s->row_stream || !s->out_row || !s->streams)
        return err_set(e, WATT_ENOMEM, "session: tables of %u sequences", o->n_seqs);
    for (uint32_t i = 0; i < o->n_seqs; i++)
        kv_seq_init(&s->seqs[i].mem, s->tables + (size_t)i * s->max_pages,
                    s->marks + (size_t)i * o->n_marks, o->n_marks);
    return 0;
}

static int open_parts(struct session *s, struct err *e)
{
    const struct program *p = model_program(s->m);
    struct kv_spec kv;
    struct exec_memory x;
    int rc = s->opts.share ? engine_share(s, e) : engine_open(&s->engine, s->m, &s->opts, e);

    if (rc == 0)
        rc = kv_need(s->m, &s->opts, &s->engine->layout, &kv, e);
    if (rc == 0)
        rc = alloc_tables(s, e);
    if (rc == 0)
        rc = kv_open(&s->kv, &kv, e);
    if (rc == 0 && s->opts.lock)
        rc = kv_lock(s->kv, e);
    s->opts.cpus = NULL;        /* the caller's */
    if (rc < 0)
        return rc;
    s->engine->exec->ops->memory(s->engine->exec, &x);
    s->memory = add_up(&s->opts, p, &s->engine->layout, &kv, &x);
    return 0;
}

int session_open(struct session **out, const struct model *m, const struct session_opts *opts,
                 struct err *e)
{
    struct session *s = mem_calloc(1, sizeof *s);
    int rc;

    if (!s)
        return err_set(e, WATT_ENOMEM, "session: header");
    s->m = m;
    rc = fill_opts(m, opts, &s->opts, e);
    s->limits = limits_of(&s->opts);
    if (rc == 0)
        rc = open_parts(s, e);
    if (rc < 0) {
        session_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void session_close(struct session *s)
{
    if (!s)
        return;
    engine_drop(s->engine);
    kv_close(s->kv);
    mem_free(s->seqs);
    mem_free(s->named);
    mem_free(s->tables);
    mem_free(s->marks);
    mem_free(s->token);
    mem_free(s->type);
    mem_free(s->row_stream);
    mem_free(s->out_row);
    mem_free(s->streams);
    mem_free(s);
}

void session_memory(const struct session *s, struct session_memory *mem) { *mem = s->memory; }
uint32_t session_n_ctx(const struct session *s) { return s->opts.n_ctx; }
uint32_t session_n_seqs(const struct session *s) { return s->opts.n_seqs; }
uint32_t session_max_rows(const struct session *s) { return s->limits.max_rows; }
uint32_t session_max_out(const struct session *s) { return s->limits.max_out; }
uint32_t session_width(const struct session *s) { return model_facts(s->m)->n_out; }
struct exec *session_exec(const struct session *s) { return s->engine->exec; }
const struct kv_layout *session_layout(const struct session *s) { return &s->engine->layout; }
const char *session_exec_name(const struct session *s) { return s->engine->exec->ops->name; }

uint32_t session_len(const struct session *s, uint32_t seq)
{
    return seq < s->opts.n_seqs ? s->seqs[seq].mem.len : 0;
}

/* ---- evaluation ---- */

static bool is_pooled(const struct session *s)
{
    return model_facts(s->m)->pooled;
}

/* Results of rows that an input asks for. */
static uint32_t n_wanted(const struct session *s, const struct session_input *in)
{
    if (in->want == SESSION_NONE || is_pooled(s))
        return 0;
    if (in->want == SESSION_SOME)
        return in->n_wanted;
    return in->want == SESSION_ALL ? in->n_tokens : 1;
}

static int check_input(const struct session *s, const struct session_input *in, struct err *e)
{
    const uint32_t n_vocab = model_facts(s->m)->n_vocab;
    const struct kv_seq *q;

    if (in->seq >= s->opts.n_seqs)
        return err_set(e, WATT_EINVAL, "session: sequence %u, there are %u", in->seq,
                       s->opts.n_seqs);
    q = &s->seqs[in->seq].mem;
    if (in->n_tokens == 0)
        return err_set(e, WATT_EINVAL, "session: no tokens for sequence %u", in->seq);
    if (s->named[in->seq])
        return err_set(e, WATT_EINVAL, "session: sequence %u is named twice", in->seq);
    if (in->n_tokens > s->opts.n_ctx - q->len)
        return err_set(e, WATT_ELIMIT, "context full: %u positions used, %u more asked for, %u in "
                       "all", q->len, in->n_tokens, s->opts.n_ctx);
    if (in->want == SESSION_SOME && (in->n_wanted == 0 || in->n_wanted > in->n_tokens ||
                                     in->first_wanted > in->n_tokens - in->n_wanted))
        return err_set(e, WATT_EINVAL, "session: results of %u rows from %u on wanted, of %u",
                       in->n_wanted, in->first_wanted, in->n_tokens);
    if (model_facts(s->m)->whole_inputs &&
        (in->n_tokens > s->limits.max_rows || n_wanted(s, in) > s->limits.max_out))
        return err_set(e, WATT_ELIMIT, "session: %u tokens with %u results, but this model takes "
                       "an input in one step, and a step has room for %u and %u", in->n_tokens,
                       n_wanted(s, in), s->limits.max_rows, s->limits.max_out);
    for (uint32_t i = 0; i < in->n_tokens; i++)
        if (in->tokens[i] < 0 || (uint32_t)in->tokens[i] >= n_vocab)
            return err_set(e, WATT_EINVAL, "token %d is outside 0..%u", in->tokens[i],
                           n_vocab - 1);
    return 0;
}

static int check_inputs(struct session *s, const struct session_input *in, uint32_t n_in,
                        const float *out, struct err *e)
{
    uint64_t pages = 0;
    int rc = 0;

    memset(s->named, 0, s->opts.n_seqs * sizeof *s->named);
    for (uint32_t i = 0; rc == 0 && i < n_in; i++) {
        rc = check_input(s, &in[i], e);
        if (rc == 0 && (in[i].want != SESSION_NONE || is_pooled(s)) && !out)
            rc = err_set(e, WATT_EINVAL, "session: results wanted, but nowhere to put them");
        if (rc == 0) {
            s->named[in[i].seq] = true;
            pages += kv_seq_need(s->kv, &s->seqs[in[i].seq].mem, in[i].n_tokens).pages;
        }
    }
    if (rc == 0 && pages > kv_n_free(s->kv))
        rc = err_set(e, WATT_ELIMIT, "context full: %" PRIu64 " pages of %u positions wanted, %u "
                     "of %u free", pages, KV_PAGE_TOKENS, kv_n_free(s->kv), kv_n_pages(s->kv));
    return rc;
}

static bool is_wanted(const struct session *s, const struct session_input *in, uint32_t i)
{
    if (is_pooled(s))
        return false;
    return in->want == SESSION_ALL || (in->want == SESSION_LAST && i + 1 == in->n_tokens) ||
           (in->want == SESSION_FIRST && i == 0) ||
           (in->want == SESSION_SOME && i >= in->first_wanted &&
            i - in->first_wanted < in->n_wanted);
}

/* Adds rows of one input to the batch from its token `at` on; returns how many fitted. */
static uint32_t add_rows(struct session *s, const struct session_input *in, uint32_t at)
{
    struct batch *b = &s->batch;
    struct kv_seq *q = &s->seqs[in->seq].mem;
    const uint32_t first = b->n_rows;
    uint32_t n = 0;

    if (model_facts(s->m)->whole_inputs && (in->n_tokens > s->limits.max_rows - b->n_rows ||
                                            n_wanted(s, in) > s->limits.max_out - b->n_out))
        return 0;
    while (at + n < in->n_tokens && b->n_rows < s->limits.max_rows) {
        const bool wanted = is_wanted(s, in, at + n);

        if (wanted && b->n_out == s->limits.max_out)
            break;
        if (wanted)
            s->out_row[b->n_out++] = b->n_rows;
        s->token[b->n_rows] = in->tokens[at + n];
        s->type[b->n_rows] = in->types ? in->types[at + n] : 0;
        s->row_stream[b->n_rows++] = b->n_streams;
        n++;
    }
    if (n > 0)
        s->streams[b->n_streams++] = (struct stream){
            .first_row = first, .n_rows = n, .n_past = q->len, .pages = q->pages,
            .fixed = q->slot == KV_NO_SLOT ? NULL : kv_slot(s->kv, q->slot),
            .adapter = s->seqs[in->seq].adapter,
            .adapter_scale = s->seqs[in->seq].adapter_scale,
        };
    return n;
}

static void tell_work(const struct session *s)
{
    const struct batch *b = &s->batch;
    struct prog_cost c;
    uint64_t past = 0;

    for (uint32_t i = 0; i < b->n_streams; i++)
        past += b->streams[i].n_past;
    prog_cost(model_program(s->m), b->n_rows, b->n_streams, (uint32_t)(past / b->n_streams), b->n_out,
              &c, NULL);
    s->on_work(s->work_ctx, c.ops, c.weight_bytes + c.kv_bytes + c.act_bytes);
}

static int run_step(struct session *s, float *out, struct err *e)
{
    int rc;

    mem_guard_enter();
    rc = exec_step(s->engine->exec, &s->batch, kv_pages(s->kv), out, e);
    mem_guard_leave();
    if (rc == 0 && s->on_work)
        tell_work(s);
    return rc;
}

/* Runs steps until every input's tokens are in. Rows of inputs follow each other, so the
 * results of one step follow those of the step before. */
static int run_all(struct session *s, const struct session_input *in, uint32_t n_in, float *out,
                   struct err *e)
{
    const uint32_t width = session_width(s);
    uint32_t i = 0, at = 0;

    while (i < n_in) {
        int rc;

        s->batch = (struct batch){ .token = s->token, .type = s->type, .row_stream = s->row_stream,
                                   .streams = s->streams, .out_row = s->out_row };
        while (i < n_in) {
            const uint32_t n = add_rows(s, &in[i], at);

            at += n;
            if (at < in[i].n_tokens)
                break;
            i++;
            at = 0;
        }
        rc = run_step(s, out, e);
        if (rc < 0)
            return rc;
        for (uint32_t k = 0; k < s->batch.n_streams; k++) {
            /* streams name their sequence by its page table */
            const size_t q = (size_t)(s->streams[k].pages - s->tables) / s->max_pages;

            kv_seq_advance(&s->seqs[q].mem, s->streams[k].n_rows);
        }
        if (out)
            out += (size_t)(is_pooled(s) ? s->batch.n_streams : s->batch.n_out) * width;
    }
    return 0;
}

/* Slots can't be short: each sequence and each mark has one, and a sequence that wants another
 * shares its own. */
static void make_room(struct session *s, const struct session_input *in)
{
    struct seq *q = &s->seqs[in->seq];
    const bool ok = kv_seq_reserve(s->kv, &q->mem, in->n_tokens);

    CHECK(ok);
    q->old_len = q->mem.len;
}

/* Back to where the call began. Only a model with fixed state whose first step went well and a
 * later one did not can't: it goes back to its last mark. */
static void undo(struct session *s, struct seq *q)
{
    const bool ok = kv_seq_truncate(s->kv, &q->mem, kv_seq_reach(s->kv, &q->mem, q->old_len));

    CHECK(ok);
}

int session_eval(struct session *s, const struct session_input *in, uint32_t n_in, float *out,
                 struct err *e)
{
    int rc = check_inputs(s, in, n_in, out, e);

    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < n_in; i++)
        make_room(s, &in[i]);
    rc = run_all(s, in, n_in, out, e);
    for (uint32_t i = 0; rc < 0 && i < n_in; i++)
        undo(s, &s->seqs[in[i].seq]);
    return rc;
}

int session_append(struct session *s, uint32_t seq, const int32_t *tokens, uint32_t n_tokens,
                   float *logits, struct err *e)
{
    const struct session_input in = { .seq = seq, .tokens = tokens, .n_tokens = n_tokens,
                                      .want = logits ? SESSION_LAST : SESSION_NONE };

    return session_eval(s, &in, 1, logits, e);
}

/* ---- sequences ---- */

int session_truncate(struct session *s, uint32_t seq, uint32_t n_keep, struct err *e)
{
    if (seq >= s->opts.n_seqs || n_keep > s->seqs[seq].mem.len)
        return err_set(e, WATT_EINVAL, "session: can't keep %u positions of sequence %u, which has "
                       "%u", n_keep, seq, session_len(s, seq));
    if (!kv_seq_truncate(s->kv, &s->seqs[seq].mem, n_keep))
        return err_set(e, WATT_ENOTSUP, "session: the state of this architecture can't go back to "
                       "position %u, where it has no mark", n_keep);
    return 0;
}

uint32_t session_reach(const struct session *s, uint32_t seq, uint32_t n)
{
    return seq < s->opts.n_seqs ? kv_seq_reach(s->kv, &s->seqs[seq].mem, n) : 0;
}

void session_mark(struct session *s, uint32_t seq)
{
    CHECK(seq < s->opts.n_seqs);
    kv_seq_mark(s->kv, &s->seqs[seq].mem);
}

void session_reset(struct session *s, uint32_t seq)
{
    CHECK(seq < s->opts.n_seqs);
    kv_seq_reset(s->kv, &s->seqs[seq].mem);
}

int session_fork(struct session *s, uint32_t from, uint32_t to, struct err *e)
{
    bool ok;

    if (from >= s->opts.n_seqs || to >= s->opts.n_seqs || from == to)
        return err_set(e, WATT_EINVAL, "session: can't fork sequence %u to %u of %u", from, to,
                       s->opts.n_seqs);
    ok = kv_seq_fork(s->kv, &s->seqs[to].mem, &s->seqs[from].mem, s->seqs[from].mem.len);
    CHECK(ok);      /* all of it is always in reach */
    s->seqs[to].adapter = s->seqs[from].adapter;
    s->seqs[to].adapter_scale = s->seqs[from].adapter_scale;
    return 0;
}

int session_set_adapter(struct session *s, uint32_t seq, uint32_t adapter, struct err *e)
{
    if (seq >= s->opts.n_seqs || adapter > model_n_adapters(s->m))
        return err_set(e, WATT_EINVAL, "session: sequence %u of %u can't have adapter %u of %u", seq,
                       s->opts.n_seqs, adapter, model_n_adapters(s->m));
    if (s->seqs[seq].mem.len > 0)
        return err_set(e, WATT_EINVAL, "session: sequence %u holds tokens: their keys and values "
                       "are of another adapter", seq);
    s->seqs[seq].adapter = adapter;
    return 0;
}

int session_set_adapter_scale(struct session *s, uint32_t seq, float scale, struct err *e)
{
    if (seq >= s->opts.n_seqs || !isfinite(scale) || scale == 0 || s->seqs[seq].mem.len > 0)
        return err_set(e, WATT_EINVAL, "session: sequence %u of %u, which holds %u tokens, can't have its "
                       "adapter at scale %g", seq, s->opts.n_seqs,
                       seq < s->opts.n_seqs ? s->seqs[seq].mem.len : 0, (double)scale);
    s->seqs[seq].adapter_scale = scale;
    return 0;
}

/* ---- where time goes ---- */

void session_on_work(struct session *s, void (*fn)(void *ctx, double ops, double bytes), void *ctx)
{
    s->on_work = fn;
    s->work_ctx = ctx;
}

int session_profile(struct session *s, bool on, struct err *e)
{
    return s->engine->exec->ops->profile(s->engine->exec, on, e);
}

const struct profile *session_profiled(const struct session *s)
{
    return s->engine->exec->ops->profiled(s->engine->exec);
}
