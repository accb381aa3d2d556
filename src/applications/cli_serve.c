/* cli_serve.c: `watt serve`: models behind HTTP. */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "applications/api.h"
#include "applications/api_store.h"
#include "applications/budget_sync.h"
#include "applications/machine_memory.h"
#include "applications/meter_args.h"
#include "applications/model_args.h"
#include "applications/power_cap.h"
#include "applications/progress.h"
#include "applications/serve_options.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "chips/kv_layout.h"
#include "models/embed.h"
#include "models/embed_pair.h"

struct serve_opts {
    const char *host, *name, *key_file, *tls_cert, *tls_key, *cors, *isa;
    const char *keep, *idle, *store, *hub;
    struct cli_list aliases, keys, models, loras, drafts, templates, folders;
    uint64_t memory;
    int64_t  ping_s, idle_s;
    uint64_t store_bytes;
    int64_t  port, ctx, parallel, max_rows, mixed_rows, queue, drain_s, http_threads, connections;
    uint64_t kv_bytes, spill_bytes, body_bytes;
    struct machine_args machine;
    struct meter_args meter;
    const char *ledger, *tariff;
    int64_t  ledger_days;
    double   power_cap;
    int      kv, exec, reasoning;
    int64_t  reasoning_budget, diffusion_block, diffusion_steps;
    double   diffusion_threshold;
    int      diffusion_algorithm;
    bool     no_cache, access_log, quiet, stored;
};

#define AT(f) offsetof(struct serve_opts, f)
static const struct cli_opt options[] = {
    { "host", 0, CLI_TEXT, AT(host), "ADDRESS", "address to listen on; 0.0.0.0 for all (default 127.0.0.1)", 0, 0 },
    { "port", 'p', CLI_INT, AT(port), "N", "port; 0: any free one, which is printed (default 8080)", 0, 65535 },
    { "name", 0, CLI_TEXT, AT(name), "NAME", "the first model's name for clients (default: the file's)", 0, 0 },
    { "alias", 0, CLI_LIST, AT(aliases), "NAME", "another name for the first model, or NAME=MODEL for the one of that name; may be given often", 0, 0 },
    { "model", 0, CLI_LIST, AT(models), "NAME=MODEL", "one more model under this name, loaded when it is asked for; may be given often", 0, 0 },
    { "stored", 0, CLI_FLAG, AT(stored), NULL, "the fetched models too, see watt pull (default: when no model is named)", 0, 0 },
    { "store", 0, CLI_FILE, AT(store), "DIR", "where those are (default $WATT_STORE, or watt/models under $XDG_DATA_HOME)", 0, 0 },
    { "hub", 0, CLI_TEXT, AT(hub), "URL", "where clients' pulls fetch from (default as watt pull)", 0, 0 },
    { "memory", 0, CLI_BYTES, AT(memory), "SIZE", "of all models that are loaded; idle ones make room (default: nine tenths of this machine's)", 0, 0 },
    { "keep-alive", 0, CLI_TEXT, AT(keep), "TIME", "how long an idle model stays: 90s, 5m, 1h, 0, -1 for ever (default 5m; with a single model for ever)", 0, 0 },
    { "sleep-idle-seconds", 0, CLI_TEXT, AT(idle), "SECONDS", "the same", 0, 0 },
    { "lora", 0, CLI_LIST, AT(loras), "[MODEL=]NAME=FILE", "an adapter (GGUF) of the first model, or of MODEL, for requests that name it as their model; may be given often", 0, 0 },
    { "api-key", 0, CLI_LIST, AT(keys), "KEY", "ask for this key, may be given often; WATT_API_KEY in the environment is one too", 0, 0 },
    { "api-keys", 0, CLI_FILE, AT(key_file), "FILE", "ask for one of these keys: a SHA-256 in hexadecimal on each line, then its limits; read again at SIGHUP", 0, 0 },
    { "tls-cert", 0, CLI_FILE, AT(tls_cert), "FILE", "certificate chain in PEM; with --tls-key the server speaks HTTPS only", 0, 0 },
    { "tls-key", 0, CLI_FILE, AT(tls_key), "FILE", "its private key in PEM", 0, 0 },
    { "cors", 0, CLI_TEXT, AT(cors), "ORIGIN", "let pages of this origin call the server; * for any (default: none)", 0, 0 },
    { "ctx", 'c', CLI_INT, AT(ctx), "N", "positions of one answer with its prompt (default: as trained, at most 4096)", 1, 4294967295.0 },
    { "parallel", 0, CLI_INT, AT(parallel), "N", "answers that run together (default 16)", 1, 4096 },
    { "max-rows", 0, CLI_INT, AT(max_rows), "N", "tokens of one step (default 256)", 1, 65536 },
    { "mixed-rows", 0, CLI_INT, AT(mixed_rows), "N", "of those, prompt tokens while answers are running (default 64)", 1, 65536 },
    { "queue", 0, CLI_INT, AT(queue), "N", "requests that may wait; more get 429 (default 1024)", 1, 1e6 },
    { "kv", 0, CLI_CHOICE, AT(kv), KV_CHOICES, "element type of the key/value cache (default auto)", 0, 0 },
    { "kv-bytes", 0, CLI_BYTES, AT(kv_bytes), "SIZE", "memory of the key/value cache (default: all answers at full length)", 0, 0 },
    { "no-prefix-cache", 0, CLI_FLAG, AT(no_cache), NULL, "compute every prompt anew", 0, 0 },
    { "cache-dir", 0, CLI_LIST, AT(folders), "[NAME=]DIR", "cache pages of the first model, or of NAME, that memory has no room for go here; once for a model", 0, 0 },
    { "cache-dir-bytes", 0, CLI_BYTES, AT(spill_bytes), "SIZE", "bound of each such folder (default 4G)", 0, 0 },
    { "draft", 0, CLI_LIST, AT(drafts), "[NAME=]MODEL", "a small model that proposes tokens to the first one, or to NAME; answers are the same, sooner; once for a model", 0, 0 },
    { "template", 0, CLI_LIST, AT(templates), "[NAME=]FILE", "chat template in place of the first model's, or of NAME's; once for a model", 0, 0 },
    { "reasoning-format", 0, CLI_CHOICE, AT(reasoning), "auto|deepseek|none", "what is reasoned comes apart from the answer, or (none) within it (default auto)", 0, 0 },
    { "reasoning-budget", 0, CLI_INT, AT(reasoning_budget), "N", "most tokens of reasoning where a request sets no bound; 0: no reasoning, -1: no bound (default -1)", -1, 1e9 },
    { "diffusion-block", 0, CLI_INT, AT(diffusion_block), "N", "models that write by diffusion: tokens of a block (default 32)", 0, 4096 },
    { "diffusion-steps", 0, CLI_INT, AT(diffusion_steps), "N", "steps per block of requests that say none (default: its length, one token a step)", 0, 65536 },
    { "diffusion-threshold", 0, CLI_REAL, AT(diffusion_threshold), "P", "likewise: fix every token of at least this probability at once; 0: off (default 0)", 0, 1 },
    { "diffusion-algorithm", 0, CLI_CHOICE, AT(diffusion_algorithm), DIFFUSION_ALGORITHMS, "likewise: which tokens are fixed first (default confidence)", 0, 0 },
    { "max-body", 0, CLI_BYTES, AT(body_bytes), "SIZE", "largest request (default 32M)", 0, 0 },
    { "connections", 0, CLI_INT, AT(connections), "N", "most open connections (default 4096)", 1, 1e6 },
    { "idle", 0, CLI_INT, AT(idle_s), "SECONDS", "connections that say nothing so long, or dawdle over a request, are closed (default 60)", 1, 86400 },
    { "http-threads", 0, CLI_INT, AT(http_threads), "N", "threads that talk to clients (default 2)", 1, 64 },
    { "ping", 0, CLI_INT, AT(ping_s), "SECONDS", "silence after which an event stream gets a comment line; 0: never (default 15)", 0, 86400 },
    { "store-bytes", 0, CLI_BYTES, AT(store_bytes), "SIZE", "memory for responses that clients may go on from, /v1/responses (default 64M)", 0, 0 },
    { "drain", 0, CLI_INT, AT(drain_s), "SECONDS", "how long answers may go on after SIGTERM (default 30)", 0, 86400 },
    METER_OPTIONS(struct serve_opts, meter),
    { "ledger", 0, CLI_FILE, AT(ledger), "FILE", "book every request in this file, or in postgresql://…; see watt ledger (default: none)", 0, 0 },
    { "ledger-days", 0, CLI_INT, AT(ledger_days), "N", "keep single requests so long, then their sums by hour and day (default 90)", 1, 36500 },
    { "power-cap", 0, CLI_REAL, AT(power_cap), "W", "hold the machine's mean power under so many watts, by doing less, then by the limits of processor and GPUs where they may be set; needs a meter (default: no bound)", 1, 1e7 },
    { "tariff", 0, CLI_FILE, AT(tariff), "FILE", "prices of energy, hardware and tokens, a file or URL; see docs/energy.md", 0, 0 },
    MACHINE_OPTIONS(struct serve_opts, machine),
    { "exec", 0, CLI_CHOICE, AT(exec), EXEC_CHOICES, "executor: the fast one, or the slow and exact reference (default cpu)", 0, 0 },
    { "isa", 0, CLI_TEXT, AT(isa), "NAMES", "use no other kernels than these: ref, avx2, avx512, … joined by +", 0, 0 },
    { "access-log", 0, CLI_FLAG, AT(access_log), NULL, "a line of JSON per request on standard error", 0, 0 },
    { "quiet", 'q', CLI_FLAG, AT(quiet), NULL, "no notes on standard error", 0, 0 },
    { 0 }
};
#undef AT

static const struct serve_opts defaults = { .port = 8080, .reasoning_budget = -1, .drain_s = 30, .ping_s = 15, .store_bytes = (uint64_t)64 << 20 };

struct serving {
    const struct cli        *c;
    const struct serve_opts *o;
    struct api_server s;
    struct store     *store;
    struct serve_values *values;        /* of options that are of one model each */
    char             *cert, *key;
    size_t            n_models;
    struct machine_args machine;
    struct progress   bar;
    bool              ledger_fails;
    struct power_cap  cap;
    struct budget_sync *budgets;
};

/* ---- keys ---- */

static int read_keys(struct serving *v, struct err *e)
{
    const char *env = getenv("WATT_API_KEY");
    int rc = api_keys_open(&v->s.keys, e);

    for (size_t i = 0; rc == 0 && i < v->o->keys.n; i++)
        rc = api_keys_add(v->s.keys, v->o->keys.v[i], e);
    if (rc == 0 && env && *env)
        rc = api_keys_add(v->s.keys, env, e);
    if (rc == 0 && v->o->key_file)
        rc = api_keys_read(v->s.keys, v->o->key_file, e);
    return rc;
}

/* ---- opening ---- */

static void on_warning(void *ctx, const char *text)
{
    const struct serving *v = ctx;

    if (!v->o->quiet)
        cli_note(v->c, "%s", text);
}

static int on_loading(void *bar, uint64_t done, uint64_t total)
{
    progress_update(bar, done, total);
    return cli_interrupted();
}

/* ---- loading one model; on the thread of api_models ---- */

/* A model without a chat template gets ChatML, and its operator is told. */
static int default_template(struct serving *v, struct api_model *m, struct err *e)
{
    const char *source = template_default();

    if (m->tm->tmpl)
        return 0;
    on_warning(v, "no chat template: conversations are written as ChatML; see --template");
    m->template_text = source;
    return template_open(&m->tm->tmpl, source, strlen(source), "ChatML", e);
}

/* A budget that nothing can count would be none. */
static int check_budgets(struct serving *v, struct meter *m, const struct tariff *t, struct err *e)
{
    if (api_keys_budget(v->s.keys, BUDGET_JOULES) && strcmp(meter_source(m), "none") == 0)
        return err_set(e, WATT_EINVAL, "%s: joules_day needs a meter: %s", v->o->key_file,
                       meter_why(m));
    if (api_keys_budget(v->s.keys, BUDGET_MONEY) && !t)
        return err_set(e, WATT_EINVAL, "%s: money_day needs prices: see --tariff", v->o->key_file);
    return 0;
}

/* Meter, tariff and ledger. What the operator asked for and can't be had is an error now, not a
 * hole in the books later. */
static int open_energy(struct serving *v, struct err *e)
{
    const struct serve_opts *o = v->o;
    const struct ledger_opts lo = { .keep_days = (unsigned)o->ledger_days };
    struct api_energy_opts eo = { .metrics = v->s.metrics };
    struct meter_coefficients k;
    int rc = meter_args_open(&eo.meter, &o->meter, e);

    if (rc == 0 && o->meter.estimate)
        rc = meter_coefficients_parse(o->meter.estimate, &k, e);
    if (rc == 0 && o->meter.estimate)
        eo.weights = &k;
    if (rc == 0 && o->tariff)
        rc = tariff_open(&eo.tariff, o->tariff, e);
    if (rc == 0 && o->ledger)
        rc = ledger_open(&eo.ledger, o->ledger, &lo, e);
    if (rc == 0)
        rc = check_budgets(v, eo.meter, eo.tariff, e);
    if (rc < 0) {
        tariff_close(eo.tariff);
        ledger_close(eo.ledger);
        meter_close(eo.meter);
        return rc;
    }
    return api_energy_open(&v->s.energy, &eo, e);
}

static int open_answering(struct serving *v, struct api_model *m, const char *path, struct err *e)
{
    const struct lora *adapters[CLI_LIST_MAX];
    struct text_model_opts to = {
        .model = { .warn = on_warning, .ctx = v, .n_ctx = (uint32_t)v->o->ctx, .adapters = adapters,
                   .n_adapters = serve_adapters(v->values, m->name, adapters) },
        .no_session = true,
    };
    const char *draft = serve_draft(v->values, m->name);
    const struct model_facts *facts;
    int rc;

    to.template_source = serve_template(v->values, m->name, &to.template_name);
    rc = text_model_open(&m->tm, path, &to, e);
    to.model.n_adapters = 0;            /* the model that drafts has none */
    if (rc < 0)
        return rc;
    m->template_text = to.template_source;
    m->reasoning_in_text = v->o->reasoning == 2;
    m->think_budget = v->o->reasoning_budget < 0 ? API_NO_BUDGET : (uint32_t)v->o->reasoning_budget;
    if (!m->tm->tok)
        return err_set(e, WATT_ENOTSUP, "%s", m->tm->tok_why);
    facts = model_facts(m->tm->model);
    if (facts->embeds || facts->n_out != facts->n_vocab)
        return err_set(e, WATT_ENOTSUP, "%s: %s gives embeddings or scores, no text; see "
                       "/v1/embeddings and /v1/rerank", m->name, facts->arch);
    if (!facts->causal && !diffusion_fits(m->tm->model))
        return err_set(e, WATT_ENOTSUP, "%s: %s reads both ways and writes no text", m->name,
                       facts->arch);
    if (diffusion_fits(m->tm->model))
        m->think_budget = API_NO_BUDGET;        /* nothing can count in a block */
    if (!m->tm->tmpl && m->tm->tmpl_why[0])
        on_warning(v, m->tm->tmpl_why);
    rc = default_template(v, m, e);
    if (rc == 0 && draft)
        rc = model_open(&m->draft, draft, &to.model, e);
    return rc;
}

static uint32_t embedding_ctx(const struct serving *v, const struct model_facts *f)
{
    uint32_t n = v->o->ctx ? (uint32_t)v->o->ctx : EMBED_MAX_TOKENS;

    return f->n_ctx_train && f->n_ctx_train < n ? f->n_ctx_train : n;
}

static int open_embedding(struct serving *v, struct api_model *m, const char *path, struct err *e)
{
    const struct text_model_opts to = {
        .model = { .warn = on_warning, .ctx = v, .n_ctx = (uint32_t)v->o->ctx, .embed = true },
        .no_session = true,
    };
    const struct model_facts *facts;
    int rc = text_model_open(&m->tm, path, &to, e);

    if (rc < 0)
        return rc;
    if (!m->tm->tok)
        return err_set(e, WATT_ENOTSUP, "%s", m->tm->tok_why);
    facts = model_facts(m->tm->model);
    if (facts->pooling == POOLING_NONE && !facts->ranks)
        return err_set(e, WATT_ENOTSUP, "%s: the file asks for a vector per token, which these "
                       "interfaces have no place for; see watt embed --pooling", m->name);
    if (!facts->ranks)
        return 0;
    m->pairs = mem_calloc(1, sizeof *m->pairs);
    return m->pairs ? pair_style_read(m->pairs, m->tm->model, m->tm->tok, e)
                    : err_set(e, WATT_ENOMEM, "%s", m->name);
}

/* Texts don't stay in the cache, so it need not hold as many contexts as run together. */
static int small_cache(struct service_opts *so, const struct model *m, struct err *e)
{
    struct session_memory mem;
    const uint64_t seqs = so->max_seqs ? so->max_seqs : 16;
    const uint64_t pages = ((uint64_t)so->n_ctx / KV_PAGE_TOKENS + 1) * 2 + seqs;
    const int rc = so->kv_bytes ? 0 : service_plan(m, so, &mem, e);

    if (rc == 0 && !so->kv_bytes && mem.kv_token > 0)
        so->kv_bytes = mem.kv_token * KV_PAGE_TOKENS * pages;
    return rc;
}

/* Requests' own buffers, as many as may wait: samplers have a number or two per token of the
 * vocabulary. Bounded, for it is reserved like everything else; more get 429. */
static uint64_t queue_bytes(const struct serving *v, const struct model_facts *f)
{
    const uint64_t most = (uint64_t)(v->n_models > 1 || v->store ? 256 : 1024) << 20;
    const uint64_t n = (uint64_t)(v->o->parallel ? v->o->parallel : 16) +
                       (uint64_t)(v->o->queue ? v->o->queue : 1024);
    const uint64_t each = (uint64_t)f->n_vocab * 18 + (v->o->ctx ? (uint64_t)v->o->ctx : 4096) * 8 +
                          65536;

    return each < most / n ? each * n : most;
}

static int service_options(struct serving *v, const struct api_model *m, enum api_use use,
                           struct service_opts *so, struct err *e)
{
    const struct serve_opts *o = v->o;
    int rc;

    *so = (struct service_opts){
        .n_ctx = (uint32_t)o->ctx, .max_seqs = (uint32_t)o->parallel,
        .max_rows = (uint32_t)o->max_rows, .mixed_rows = (uint32_t)o->mixed_rows,
        .max_queued = (uint32_t)o->queue, .kv_bytes = o->kv_bytes,
        .queue_bytes = queue_bytes(v, model_facts(m->tm->model)),
        .no_prefix_cache = o->no_cache, .spill_dir = serve_folder(v->values, m->name),
        .spill_bytes = o->spill_bytes,
        .diffusion = { .block = (uint32_t)o->diffusion_block, .steps = (uint32_t)o->diffusion_steps,
                       .threshold = (float)o->diffusion_threshold,
                       .algorithm = (enum diffusion_algorithm)o->diffusion_algorithm },
        .draft = m->draft, .metrics = v->s.metrics, .name = m->name,
    };
    rc = session_opts_exec(&so->session, o->exec, o->isa, e);
    v->machine = o->machine;
    if (rc == 0)
        rc = session_opts_machine(&so->session, &v->machine, e);
    if (rc < 0)
        return rc;
    session_opts_kv(&so->session, o->kv);
    so->session.weights_pool = m->weights;
    if (use == API_USE_ANSWER)
        return 0;
    so->n_ctx = embedding_ctx(v, model_facts(m->tm->model));
    so->max_rows = 0;
    so->spill_dir = NULL;
    if (!so->session.kv_set) {          /* as watt embed has it */
        so->session.kv_set = true;
        so->session.k_dtype = so->session.v_dtype = DTYPE_F32;
    }
    return small_cache(so, m->tm->model, e);
}

/* What a refusal says; parts that there are none of are left out. */
static void name_parts(char *to, size_t size, const struct session_memory *mem)
{
    const struct { const char *name; uint64_t bytes; } parts[] = {
        { "weights", mem->weights }, { "weights read in the file", mem->mapped },
        { "keys and values", mem->kv }, { "fixed states", mem->fixed },
        { "work space", mem->arena + mem->scratch }, { "requests", mem->requests },
        { "draft model", mem->draft },
    };
    size_t n = 0;

    *to = '\0';
    for (size_t i = 0; i < sizeof parts / sizeof *parts && n < size; i++)
        if (parts[i].bytes > 0)
            n += (size_t)snprintf(to + n, size - n, "%s%s %" PRIu64, n ? ", " : "", parts[i].name,
                                  parts[i].bytes);
}

static int plan_model(void *ctx, struct api_model *m, const char *path, enum api_use use,
                      uint64_t *bytes, struct err *e)
{
    struct serving *v = ctx;
    struct session_memory mem = { 0 };
    struct service_opts so;
    int rc = (use == API_USE_EMBED ? open_embedding : open_answering)(v, m, path, e);

    if (rc == 0)
        rc = api_grammars_open(&m->grammars, m->tm->tok, m->tm->tools, e);
    if (rc == 0)
        rc = service_options(v, m, use, &so, e);
    if (rc == 0)
        rc = service_plan(m->tm->model, &so, &mem, e);
    *bytes = mem.total;
    name_parts(m->parts, sizeof m->parts, &mem);
    return rc;
}

static int open_model_service(void *ctx, struct api_model *m, const char *path, enum api_use use,
                              struct err *e)
{
    struct serving *v = ctx;
    struct service_opts so;
    int rc = service_options(v, m, use, &so, e);

    (void)path;                 /* opened by plan_model */
    if (rc < 0)
        return rc;
    so.session.progress = on_loading;
    so.session.ctx = &v->bar;
    rc = api_energy_attach(v->s.energy, m->tm->model, &so, &m->energy, e);
    if (rc < 0)
        return rc;
    progress_init(&v->bar, "loading", "B");
    rc = service_open(&m->svc, m->tm->model, m->tm->tok, &so, e);
    progress_finish(&v->bar);
    return rc;
}

static void close_model(void *ctx, struct api_model *m)
{
    (void)ctx;
    service_close(m->svc);
    api_energy_detach(m->energy);
    api_grammars_close(m->grammars);
    text_model_close(m->tm);
    model_close(m->draft);
    mem_free(m->pairs);
    m->svc = NULL;
    m->energy = NULL;
    m->grammars = NULL;
    m->tm = NULL;
    m->draft = NULL;
    m->pairs = NULL;
    m->template_text = NULL;
    m->parts[0] = '\0';
}

/* ---- which models ---- */

/* What clients call a file: its name without folder and ".gguf"; a fetched one's name is its own. */
static char *name_of(const char *path)
{
    size_t end = strlen(path), from;
    struct stat st;

    if (stat(path, &st) < 0)
        return mem_strdup(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    for (from = end; from > 0 && path[from - 1] != '/';)
        from--;
    if (end - from > 5 && strncmp(path + end - 5, ".gguf", 5) == 0)
        end -= 5;
    return mem_strndup(path + from, end - from);
}

/* Aliases of a model: those without '=' are the first one's. */
static size_t aliases_of(const struct serving *v, const char *name, bool first,
                         const char *out[CLI_LIST_MAX], char *copies[CLI_LIST_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < v->o->aliases.n; i++) {
        const char *a = v->o->aliases.v[i], *eq = strchr(a, '=');

        if (eq ? strcmp(eq + 1, name) != 0 : !first)
            continue;
        copies[n] = eq ? mem_strndup(a, (size_t)(eq - a)) : mem_strdup(a);
        out[n] = copies[n];
        n += copies[n] != NULL;
    }
    return n;
}

static int add_model(struct serving *v, const char *name, const char *path, struct err *e)
{
    const char *aliases[CLI_LIST_MAX] = { NULL };
    char *copies[CLI_LIST_MAX] = { NULL };
    const bool first = v->n_models == 0;
    const size_t n = aliases_of(v, name, first, aliases, copies);
    const int rc = api_models_add(v->s.models, name, path, aliases, n, e);

    for (size_t i = 0; i < n; i++)
        mem_free(copies[i]);
    v->n_models++;
    return rc;
}

/* An alias that is nobody's would be found out by its first client. */
static int check_aliases(const struct serving *v, struct err *e)
{
    for (size_t i = 0; i < v->o->aliases.n; i++) {
        const char *a = v->o->aliases.v[i], *eq = strchr(a, '=');
        char *name = eq ? mem_strndup(a, (size_t)(eq - a)) : NULL;
        const bool known = !name || api_models_name(v->s.models, name);

        mem_free(name);
        if (!known)
            return err_set(e, WATT_EINVAL, "--alias %s: no model of this command is called '%s'", a, eq + 1);
    }
    return 0;
}

static int add_models(struct serving *v, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < v->c->n_args; i++) {
        char *name = i == 0 && v->o->name ? mem_strdup(v->o->name) : name_of(v->c->args[i]);

        rc = name ? add_model(v, name, v->c->args[i], e) : err_set(e, WATT_ENOMEM, "name");
        mem_free(name);
    }
    for (size_t i = 0; rc == 0 && i < v->o->models.n; i++) {
        const char *given = v->o->models.v[i], *eq = strchr(given, '=');
        const bool only = !eq && i == 0 && v->c->n_args == 0;   /* as llama-server has it */
        char *name = only ? v->o->name ? mem_strdup(v->o->name) : name_of(given)
                          : eq && eq > given ? mem_strndup(given, (size_t)(eq - given)) : NULL;

        rc = name ? add_model(v, name, only ? given : eq + 1, e)
                  : err_set(e, WATT_EINVAL, "--model %s: expected NAME=MODEL", given);
        mem_free(name);
    }
    return rc;
}

static int open_values(struct serving *v, struct err *e)
{
    const struct serve_opts *o = v->o;
    const struct serve_lists given = { &o->drafts, &o->templates, &o->folders, &o->loras };
    const char *first = v->n_models ? api_models_name(v->s.models, NULL) : NULL;
    const int rc = serve_values_open(&v->values, v->s.models, first, &given, e);

    if (rc == 0)
        v->s.adapters = serve_all_adapters(v->values, &v->s.n_adapters);
    return rc;
}

static int open_models(struct serving *v, struct err *e)
{
    const struct serve_opts *o = v->o;
    const char *keep = o->keep ? o->keep : o->idle;
    const size_t n = v->c->n_args + o->models.n;
    const bool stored = o->stored || n == 0;
    struct api_models_opts mo = {
        .loader = { v, plan_model, open_model_service, close_model, api_resume },
        .memory_bytes = o->memory ? o->memory : machine_memory() / 10 * 9,
        .keep_ns = n == 1 && !stored ? API_KEEP_FOREVER : UINT64_C(300000000000),
    };
    int rc = 0;

    if (keep && !api_keep_parse(keep, &mo.keep_ns))
        return err_set(e, WATT_EINVAL, "--keep-alive: '%.40s' is no time, such as 90s, 5m or -1", keep);
    if (stored)
        rc = store_open(&v->store, o->store, e);
    mo.store = v->s.store = v->store;
    v->s.hub = o->hub;
    if (rc == 0)
        rc = api_models_open(&v->s.models, &mo, e);
    if (rc == 0)
        rc = add_models(v, e);
    if (rc == 0)
        rc = check_aliases(v, e);
    return rc < 0 ? rc : open_values(v, e);
}

/* Who comes meanwhile is told that it is being loaded. */
static int load_first(struct serving *v, struct err *e)
{
    const char *name = v->n_models ? api_models_name(v->s.models, NULL) : NULL;
    int rc = name ? api_models_load(v->s.models, name, API_USE_ANSWER, e) : 0;

    if (rc == WATT_ENOTSUP) {           /* it may be one that embeds */
        struct err why = { 0 };

        if (api_models_load(v->s.models, name, API_USE_EMBED, &why) == 0)
            rc = 0;
    }
    atomic_store(&v->s.loading, false);
    return rc;
}

static int open_http(struct serving *v, struct err *e)
{
    const struct serve_opts *o = v->o;
    const struct http_opts ho = {
        .host = o->host, .port = (uint16_t)o->port, .n_threads = (unsigned)o->http_threads,
        .max_connections = (unsigned)o->connections, .max_body_bytes = o->body_bytes,
        .idle_s = (unsigned)o->idle_s, .tls_cert = v->cert, .tls_key = v->key,
        .handler = { &v->s, api_request, api_refused, api_ended },
    };

    return http_open(&v->s.http, &ho, e);
}

static int read_certificate(const struct serve_opts *o, char **cert, char **key, struct err *e)
{
    size_t n;
    int rc = 0;

    if (o->tls_cert)
        rc = file_read(o->tls_cert, (size_t)1 << 20, cert, &n, e);
    if (rc == 0 && o->tls_key)
        rc = file_read(o->tls_key, (size_t)1 << 20, key, &n, e);
    return rc;
}

/* Where the machine's own limits can't be set the bound is held without them; that is told once. */
static int open_cap(struct serving *v, struct err *e)
{
    const struct power_limit_opts lo = { .root = v->o->meter.root, .nvml = v->o->meter.nvml };
    int rc = power_cap_open(&v->cap, v->o->power_cap, api_energy_meter(v->s.energy), &lo,
                            v->s.metrics, e);

    if (rc < 0)
        return rc;
    if (power_limit_recovered(v->cap.limits) > 0)
        cli_note(v->c, "limits of power that a killed process had left are as they were before it: %u",
                 power_limit_recovered(v->cap.limits));
    if (!v->o->quiet && power_limit_why(v->cap.limits)[0])
        cli_note(v->c, "--power-cap: the machine's own limits %s: %s", power_limit_n(v->cap.limits)
                 ? "can be set in part" : "can't be set, it is held by doing less alone",
                 power_limit_why(v->cap.limits));
    return 0;
}

/* What keys have used today, before this start and by other servers, as the ledger knows it. */
static int open_budgets(struct serving *v, struct err *e)
{
    if (!v->o->ledger || api_keys_count(v->s.keys) == 0)
        return 0;
    return budget_sync_open(&v->budgets, v->o->ledger, v->s.keys, e);
}

static int open_all(struct serving *v, struct err *e)
{
    int rc = read_certificate(v->o, &v->cert, &v->key, e);

    v->s.started = (int64_t)time(NULL);
    v->s.cors = v->o->cors;
    v->s.access_log = v->o->access_log;
    v->s.ping_ms = (uint32_t)(v->o->ping_s * 1000);
    if (rc == 0)
        rc = read_keys(v, e);
    if (rc == 0)
        rc = api_store_open(&v->s.responses, v->o->store_bytes, e);
    if (rc == 0)
        rc = metrics_open(&v->s.metrics, e);
    if (rc == 0)
        rc = open_energy(v, e);
    if (rc == 0)
        rc = open_budgets(v, e);
    if (rc == 0 && v->o->power_cap > 0)
        rc = open_cap(v, e);
    if (rc == 0)
        rc = open_models(v, e);
    atomic_store(&v->s.loading, true);
    if (rc == 0)
        rc = open_http(v, e);
    return rc == 0 ? load_first(v, e) : rc;
}

static void close_all(struct serving *v)
{
    api_models_stop(v->s.models);       /* last events answer what was still open */
    while (atomic_load(&v->s.n_pulls) > 0)
        (void)poll(NULL, 0, 20);        /* they were told by `draining` */
    http_close(v->s.http);
    api_models_close(v->s.models);
    power_cap_close(&v->cap);
    budget_sync_close(v->budgets);
    api_energy_close(v->s.energy);
    store_close(v->store);
    serve_values_close(v->values);
    metrics_close(v->s.metrics);
    mem_free(v->cert);
    mem_free(v->key);
    api_keys_close(v->s.keys);
    api_store_close(v->s.responses);
}

/* ---- serving ---- */

static volatile sig_atomic_t hung_up;

static void on_hangup(int sig)
{
    (void)sig;
    hung_up = 1;
}

static void catch_hangup(void)
{
    struct sigaction sa = { .sa_handler = on_hangup, .sa_flags = SA_RESTART };

    sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGHUP, &sa, NULL);
}

static void swap(char **a, char **b)
{
    char *was = *a;

    *a = *b;
    *b = was;
}

static int reload_certificate(struct serving *v, struct err *e)
{
    char *cert = NULL, *key = NULL;
    int rc = read_certificate(v->o, &cert, &key, e);

    if (rc == 0 && (strcmp(cert, v->cert) != 0 || strcmp(key, v->key) != 0))
        rc = http_set_tls(v->s.http, cert, key, e);
    if (rc == 0) {
        swap(&cert, &v->cert);
        swap(&key, &v->key);
    }
    mem_free(cert);             /* the server has its own copy */
    mem_free(key);
    return rc;
}

/* Keys and certificate anew; what can't be read stays as it was. */
static void reload(struct serving *v)
{
    struct err e = { 0 };

    hung_up = 0;
    if (v->o->key_file && api_keys_read(v->s.keys, v->o->key_file, &e) < 0)
        cli_note(v->c, "SIGHUP: the keys stay as they were: %s", e.msg);
    else if (v->o->key_file && !v->o->quiet)
        cli_note(v->c, "SIGHUP: %zu keys", api_keys_count(v->s.keys));
    if (v->o->tls_cert && reload_certificate(v, &e) < 0)
        cli_note(v->c, "SIGHUP: the certificate stays as it was, not that of %s: %s", v->o->tls_cert,
                 e.msg);
    else if (v->o->tls_cert && !v->o->quiet)
        cli_note(v->c, "SIGHUP: new connections get the certificate of %s", v->o->tls_cert);
}

/* The books fail and the answers go on: the operator is told, once, and again when it is over. */
static void watch_ledger(struct serving *v)
{
    const bool was = v->ledger_fails;
    char why[256];

    v->ledger_fails = api_energy_ledger_fails(v->s.energy, why);
    if (v->ledger_fails && !was)
        cli_note(v->c, "%s; entries wait in memory", why);
    else if (was && !v->ledger_fails)
        cli_note(v->c, "the ledger is written again");
}

static void tick(void *cap, struct service *const *list, size_t n)
{
    power_cap_tick(cap, list, n);
}

static void hold_power(struct serving *v)
{
    struct power_cap *p = &v->cap;

    api_models_services(v->s.models, tick, p);
    if (p->cap.out_of_reach && !p->out_of_reach)
        cli_note(v->c, "%g W can't be held: the machine uses more at the least work there is",
                 p->cap.watts);
    p->out_of_reach = p->cap.out_of_reach;
    if (p->why[0])
        cli_note(v->c, "--power-cap: %s; that limit is left alone", p->why);
    p->why[0] = '\0';
}

/* Tells systemd how we are (sd_notify(3)); nothing where nobody asks. */
static void notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    const size_t n = path ? strlen(path) : 0;
    int fd;

    if (n == 0 || n >= sizeof to.sun_path || (*path != '/' && *path != '@'))
        return;
    memcpy(to.sun_path, path, n);
    if (*path == '@')
        to.sun_path[0] = '\0';          /* an abstract name */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&to,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    (void)close(fd);
}

static void drain(struct serving *v)
{
    atomic_store(&v->s.draining, true);
    notify("STOPPING=1");
    http_quiesce(v->s.http);
    cli_clear_interrupt();
    if (!v->o->quiet)
        cli_note(v->c, "finishing what runs; again to leave at once");
    for (int64_t i = 0; i < v->o->drain_s * 10 && !cli_interrupted(); i++)
        if (api_models_drain(v->s.models, UINT64_C(100000000)))
            break;
    for (int i = 0; i < 20 && http_n_exchanges(v->s.http) > 0; i++)
        (void)poll(NULL, 0, 50);            /* the last bytes */
}

static int serve(const struct cli *c, const void *options_)
{
    static struct log_sink sink = { .write = log_write_fd, .level = LOG_INFO, .format = LOG_JSON };
    const struct serve_opts *o = options_;
    struct serving v = { .c = c, .o = o };
    struct err e = { 0 };
    int rc;

    if (!o->tls_cert != !o->tls_key)
        return cli_usage(c, "--tls-cert and --tls-key belong together");
    sink.ctx = (void *)(intptr_t)STDERR_FILENO;
    if (o->access_log)
        log_install(&sink);
    signal(SIGPIPE, SIG_IGN);
    cli_catch_interrupt();
    catch_hangup();
    rc = open_all(&v, &e);
    if (rc == 0) {
        printf("%s://%s:%u\n", o->tls_cert ? "https" : "http", o->host ? o->host : "127.0.0.1",
               http_port(v.s.http));
        fflush(stdout);
        notify("READY=1");
        if (!o->quiet && api_keys_count(v.s.keys) == 0 && o->host && strcmp(o->host, "127.0.0.1") != 0)
            cli_note(c, "anybody who reaches this address may use it; see --api-key");
        while (!cli_interrupted()) {
            (void)poll(NULL, 0, 250);
            if (hung_up)
                reload(&v);
            watch_ledger(&v);
            if (o->power_cap > 0)
                hold_power(&v);
        }
        drain(&v);
    }
    close_all(&v);
    return rc < 0 ? cli_fail(c, &e) : CLI_OK;
}

const struct cli_verb verb_serve = {
    .name = "serve",
    .summary = "serve models over HTTP to the clients of the usual APIs",
    .usage = "[MODEL …]",
    .about = "Answers requests of many clients at once: /v1/chat/completions, /v1/responses,\n"
             "/v1/completions, /v1/embeddings, /v1/rerank, /v1/models, with streams, tools\n"
             "in the prompt, grammars (response_format, structured_outputs); Anthropic's\n"
             "/v1/messages; Ollama's /api/chat, /api/generate; llama-server's /completion,\n"
             "/infill; /health, /metrics, /openapi.json.\n"
             "\n"
             "Prompts that begin alike are computed once. Answers are the same bits alone and\n"
             "under load. What can't fit is refused: 400 if never, 429 if not now.\n"
             "\n"
             "The first MODEL is loaded at the start, others when they are asked for, all within\n"
             "--memory; idle ones leave. Without MODEL the fetched ones are served, see watt pull.\n"
             "\n"
             "The address is printed once requests are taken; before that, while the first model\n"
             "is loaded, /health and requests are answered 503. SIGTERM and Ctrl-C let running\n"
             "answers finish.",
    .examples = "watt serve model.gguf\n"
                "watt serve --model small=a.gguf --model big=b.gguf --keep-alive 10m\n"
                "watt serve model.gguf --host 0.0.0.0 --api-key secret --parallel 32\n"
                "watt serve model.gguf --port 8443 --tls-cert cert.pem --tls-key key.pem",
    .options = options,
    .aliases = serve_aliases,
    .defaults = &defaults,
    .options_size = sizeof(struct serve_opts),
    .min_args = 0,
    .max_args = CLI_LIST_MAX,
    .run = serve,
};
