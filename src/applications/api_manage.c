/* api_manage.c: which models there are, and what brings them and takes them away: the lists of the
 * OpenAI API, llama-server's load and unload, Ollama's tags, ps, show, pull, copy and delete. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "applications/api.h"
#include "base/clock.h"
#include "base/mem.h"
#include "chips/dtype.h"
#include "infrastructure/hub.h"
#include "models/template_vars.h"

#define FOREVER_S  ((int64_t)100 * 365 * 86400)
#define TIME_BYTES 48
#define MAX_PULLS  4u
#define PULL_LINE_NS UINT64_C(200000000)    /* between two lines of progress */

/* ---- the OpenAI API ---- */

struct listing {
    struct api_call *c;
    json_t *list;
    const char *only;           /* a name; NULL: all */
};

static const char *state_name(enum api_state s)
{
    static const char *const names[] = { "unloaded", "loading", "loaded", "failed" };

    return names[s];
}

static void openai_entry(void *ctx, const struct api_model_info *i)
{
    struct listing *l = ctx;
    json_t *aliases = json_array(), *status, *j;

    if ((l->only && strcmp(l->only, i->name) != 0) || !api_key_may_use(l->c->key, i->name)) {
        json_decref(aliases);
        return;
    }
    for (size_t k = 0; k < i->n_aliases; k++)
        (void)json_array_append_new(aliases, json_string(i->aliases[k]));
    status = json_pack("{s:s,s:s*}", "value", state_name(i->state), "error", i->why);
    j = json_pack("{s:s,s:s,s:I,s:s,s:o,s:o}", "id", i->name, "object", "model", "created",
                  (json_int_t)l->c->s->started, "owned_by", "watt", "aliases", aliases, "status",
                  status);
    if (i->m && i->m->svc)
        (void)json_object_set_new(j, "max_model_len", json_integer(service_n_ctx(i->m->svc)));
    if (i->use == API_USE_EMBED)
        (void)json_object_set_new(j, "task", json_string(i->m && i->m->pairs ? "rerank" : "embed"));
    (void)json_array_append_new(l->list, j);
}

static json_t *adapter_entry(const struct api_call *c, const struct api_adapter *a)
{
    return json_pack("{s:s,s:s,s:I,s:s,s:s}", "id", a->name, "object", "model", "created",
                     (json_int_t)c->s->started, "owned_by", "watt", "parent",
                     a->model);
}

static void list_models(struct api_call *c)
{
    struct listing l = { c, json_array(), NULL };

    api_models_each(c->s->models, true, openai_entry, &l);
    for (size_t i = 0; i < c->s->n_adapters; i++)
        if (api_key_may_use(c->key, c->s->adapters[i].name))
            (void)json_array_append_new(l.list, adapter_entry(c, &c->s->adapters[i]));
    api_json(c, 200, json_pack("{s:s,s:o}", "object", "list", "data", l.list));
}

static void one_model(struct api_call *c)
{
    struct listing l = { c, json_array(), NULL };
    const char *given = http_path(c->x) + strlen("/v1/models/");

    for (size_t i = 0; i < c->s->n_adapters; i++)
        if (strcmp(given, c->s->adapters[i].name) == 0 && api_key_may_use(c->key, given)) {
            json_decref(l.list);
            api_json(c, 200, adapter_entry(c, &c->s->adapters[i]));
            return;
        }
    l.only = api_model_named(c, given);
    if (l.only) {
        api_models_each(c->s->models, true, openai_entry, &l);
        if (json_array_size(l.list) > 0)
            api_json(c, 200, json_incref(json_array_get(l.list, 0)));
        else
            api_error(c, 404, "invalid_request_error", "model_not_found", "model",
                      "The model '%.100s' does not exist.", l.only);
    }
    json_decref(l.list);
}

/* ---- llama-server ---- */

static const char *body_name(struct api_call *c)
{
    const json_t *v = json_object_get(c->body, "model");

    if (!v)
        v = json_object_get(c->body, "name");
    if (json_string_length(v) > 0)
        return api_model_named(c, json_string_value(v));
    api_error(c, 400, "invalid_request_error", NULL, "model", "model must be a string");
    return NULL;
}

static void change(struct api_call *c, int (*fn)(struct api_models *, const char *, struct err *))
{
    const char *name = body_name(c);
    struct err e = { 0 };

    if (!name)
        return;
    if (fn(c->s->models, name, &e) < 0)
        api_model_fail(c, &e);
    else
        api_json(c, 200, json_pack("{s:b}", "success", 1));
}

static void load(struct api_call *c)
{
    change(c, api_models_want);
}

static void unload(struct api_call *c)
{
    change(c, api_models_unload);
}

/* ---- Ollama: lists ---- */

/* RFC 3339. */
static void time_text(int64_t s, char out[TIME_BYTES])
{
    const time_t t = (time_t)s;
    struct tm tm = { 0 };

    (void)gmtime_r(&t, &tm);
    (void)strftime(out, TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static json_t *details(const struct model_facts *f)
{
    const double n = (double)f->n_params;
    char size[32];

    (void)snprintf(size, sizeof size, n >= 1e9 ? "%.1fB" : n >= 1e6 ? "%.1fM" : "%.0fK",
                   n >= 1e9 ? n / 1e9 : n >= 1e6 ? n / 1e6 : n / 1e3);
    return json_pack("{s:s,s:s,s:s,s:[s],s:s,s:s}", "parent_model", "", "format", "gguf", "family",
                     f->arch, "families", f->arch, "parameter_size", size, "quantization_level",
                     dtype_name(f->main_dtype));
}

/* What the name of a fetched model tells. */
static json_t *few_details(const struct store_model *m)
{
    const char *tag = m ? strrchr(m->name, ':') : NULL;

    return json_pack("{s:s,s:s,s:s,s:[],s:s,s:s}", "parent_model", "", "format",
                     m ? m->format : "gguf", "family", "", "families", "parameter_size", "",
                     "quantization_level", tag ? tag + 1 : "");
}

static json_int_t file_size(const struct api_model_info *i)
{
    struct stat st;

    if (i->stored)
        return (json_int_t)i->stored->bytes;
    return stat(i->path, &st) == 0 && S_ISREG(st.st_mode) ? (json_int_t)st.st_size : 0;
}

/* The digest of a model that isn't of the store is that of its name: clients show its beginning. */
static json_t *ollama_entry(const struct api_model_info *i)
{
    char digest[API_KEY_HASH_BYTES];

    api_key_hash(i->name, digest);
    return json_pack("{s:s,s:s,s:I,s:s,s:o}", "name", i->name, "model", i->name, "size",
                     file_size(i), "digest", i->stored ? i->stored->digest : digest, "details",
                     i->m ? details(model_facts(i->m->tm->model)) : few_details(i->stored));
}

static bool listed_already(const json_t *list, const char *name)
{
    const json_t *last = json_array_get(list, json_array_size(list) - 1);
    const char *had = json_string_value(json_object_get(last, "name"));

    return had && strcmp(had, name) == 0;
}

static void tag_entry(void *ctx, const struct api_model_info *i)
{
    struct listing *l = ctx;
    char time[TIME_BYTES];
    json_t *j;

    if (!api_key_may_use(l->c->key, i->name) || listed_already(l->list, i->name))
        return;
    time_text(l->c->s->started, time);
    j = ollama_entry(i);
    (void)json_object_set_new(j, "modified_at", json_string(i->stored ? i->stored->pulled : time));
    (void)json_array_append_new(l->list, j);
}

static void tags(struct api_call *c)
{
    struct listing l = { c, json_array(), NULL };

    api_models_each(c->s->models, true, tag_entry, &l);
    api_json(c, 200, json_pack("{s:o}", "models", l.list));
}

static void ps_entry(void *ctx, const struct api_model_info *i)
{
    struct listing *l = ctx;
    const int64_t now = clock_wall_ns() / 1000000000;
    char time[TIME_BYTES];
    json_t *j;

    if (i->state != API_LOADED || !api_key_may_use(l->c->key, i->name))
        return;
    time_text(i->idle_left_ns < 0 ? now + FOREVER_S : now + i->idle_left_ns / 1000000000, time);
    j = ollama_entry(i);
    (void)json_object_set_new(j, "size", json_integer((json_int_t)i->bytes));
    (void)json_object_set_new(j, "size_vram", json_integer(0));
    (void)json_object_set_new(j, "expires_at", json_string(time));
    (void)json_object_set_new(j, "context_length", json_integer(service_n_ctx(i->m->svc)));
    (void)json_array_append_new(l->list, j);
}

static void ps(struct api_call *c)
{
    struct listing l = { c, json_array(), NULL };

    api_models_each(c->s->models, false, ps_entry, &l);
    api_json(c, 200, json_pack("{s:o}", "models", l.list));
}

/* ---- Ollama: show ---- */

static json_t *capabilities(const struct text_model *t)
{
    const struct model_facts *f = model_facts(t->model);
    json_t *list = json_pack("[s]", f->ranks ? "rerank" : f->embeds ? "embedding" : "completion");

    if (t->tmpl && template_takes_tools(t->tmpl))
        (void)json_array_append_new(list, json_string("tools"));
    if (t->tmpl && (template_mentions(t->tmpl, "enable_thinking") ||
                    template_mentions(t->tmpl, "reasoning_effort")))
        (void)json_array_append_new(list, json_string("thinking"));
    if (t->tok && tokenizer_role(t->tok, TOKEN_FIM_MID) >= 0)
        (void)json_array_append_new(list, json_string("insert"));
    return list;
}

static void show_model(struct api_call *c, const struct text_model *t)
{
    static const char *const keys[] = { "context_length", "embedding_length", "block_count" };
    const struct model_facts *f = model_facts(t->model);
    const uint32_t values[] = { f->n_ctx_train, f->n_embd, f->n_layers };
    struct sv text = { "", 0 };
    struct err none = { 0 };
    char time[TIME_BYTES];
    json_t *info = json_pack("{s:s,s:I}", "general.architecture", f->arch,
                             "general.parameter_count", (json_int_t)f->n_params);

    time_text(c->s->started, time);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char key[96];

        (void)snprintf(key, sizeof key, "%s.%s", f->arch, keys[i]);
        (void)json_object_set_new(info, key, json_integer(values[i]));
    }
    if (gguf_get_str(model_gguf(t->model), "tokenizer.chat_template", &text, &none) < 0)
        text = (struct sv){ "", 0 };
    api_json(c, 200, json_pack("{s:s,s:s,s:o,s:o,s:o,s:o,s:s}", "modelfile", "", "parameters", "",
                               "template", api_text(text), "details", details(f), "model_info", info,
                               "capabilities", capabilities(t), "modified_at", time));
}

struct path_of { const char *name; char *path; };

static void find_path(void *ctx, const struct api_model_info *i)
{
    struct path_of *p = ctx;

    if (!p->path && strcmp(i->name, p->name) == 0)
        p->path = mem_strdup(i->path);
}

/* One that isn't loaded is read for what it is, without its weights. */
static void show(struct api_call *c)
{
    const struct text_model_opts opts = { .no_session = true };
    struct path_of p = { .name = body_name(c) };
    struct text_model *t = NULL;
    struct err e = { 0 };

    if (!p.name)
        return;
    if (api_model_if_loaded(c, p.name)) {
        show_model(c, c->m->tm);
        return;
    }
    api_models_each(c->s->models, true, find_path, &p);
    if (!p.path)
        (void)err_set(&e, WATT_ENOENT, "model '%.100s' not found", p.name);
    else if (text_model_open(&t, p.path, &opts, &e) == 0)
        show_model(c, t);
    if (!t)
        api_fail(c, "model", &e);
    text_model_close(t);
    mem_free(p.path);
}

/* ---- Ollama: pull ---- */

struct pulling {
    struct api_server    *s;
    struct http_exchange *x;
    struct store_name     name;
    bool                  stream, begun;
    uint64_t              last_ns;
    enum download_phase   phase;
};

static void put_line(struct pulling *p, json_t *j)
{
    char *text = j ? mem_alloc(4096) : NULL;
    size_t n = text ? json_dumpb(j, text, 4095, JSON_COMPACT) : 0;

    if (n > 0 && n < 4095) {
        text[n++] = '\n';
        (void)http_write(p->x, text, n);
    }
    mem_free(text);
    json_decref(j);
}

static int on_pull(void *ctx, enum download_phase phase, const char *path, uint64_t done,
                   uint64_t total)
{
    struct pulling *p = ctx;
    const uint64_t now = clock_mono_ns();
    char status[300];

    if (p->stream && (now - p->last_ns > PULL_LINE_NS || phase != p->phase)) {
        p->last_ns = now;
        p->phase = phase;
        (void)snprintf(status, sizeof status, "pulling %.250s", path);
        if (phase == DOWNLOAD_FETCHING)
            put_line(p, json_pack("{s:s,s:s,s:I,s:I}", "status", status, "digest", path, "total",
                                  (json_int_t)total, "completed", (json_int_t)done));
        else
            put_line(p, json_pack("{s:s}", "status", "verifying sha256 digest"));
    }
    return http_gone(p->x) || atomic_load(&p->s->draining);
}

static int status_of(int code)
{
    switch (code) {
    case WATT_ENOENT: return 404;
    case WATT_EINVAL: case WATT_ENOTSUP: return 400;
    case WATT_EBUSY:  return 409;
    default:          return 502;
    }
}

static void *pull_main(void *arg)
{
    struct pulling *p = arg;
    const struct hub_opts o = { .url = p->s->hub, .progress = on_pull, .ctx = p };
    struct api_call c = { .s = p->s, .x = p->x };
    struct api_server *s = p->s;
    struct err e = { 0 };
    bool fresh;
    int rc;

    if (p->stream) {
        http_stream(p->x, 200, "application/x-ndjson");
        put_line(p, json_pack("{s:s}", "status", "pulling manifest"));
    }
    rc = hub_pull(s->store, &p->name, &o, NULL, &fresh, &e);
    if (p->stream) {
        put_line(p, rc == 0 ? json_pack("{s:s}", "status", "success")
                            : json_pack("{s:s}", "error", e.msg));
        http_end(p->x);
    } else if (rc == 0) {
        api_json(&c, 200, json_pack("{s:s}", "status", "success"));
    } else {
        api_error(&c, status_of(rc), "invalid_request_error", NULL, "model", "%s", e.msg);
    }
    http_release(p->x);
    mem_free(p);
    atomic_fetch_sub(&s->n_pulls, 1);
    return NULL;
}

static void begin_pull(struct api_call *c, const struct store_name *n, bool stream)
{
    struct pulling *p = mem_calloc(1, sizeof *p);
    pthread_attr_t attr;
    pthread_t thread;
    int rc;

    if (!p) {
        api_error(c, 503, "server_error", "out_of_memory", NULL, "out of memory");
        return;
    }
    if (atomic_fetch_add(&c->s->n_pulls, 1) >= MAX_PULLS) {
        atomic_fetch_sub(&c->s->n_pulls, 1);
        mem_free(p);
        http_add_header(c->x, "Retry-After", "60");
        api_error(c, 429, "rate_limit_error", NULL, NULL, "%u models are being fetched already",
                  MAX_PULLS);
        return;
    }
    *p = (struct pulling){ .s = c->s, .x = c->x, .name = *n, .stream = stream };
    http_hold(c->x);
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    rc = pthread_create(&thread, &attr, pull_main, p);
    (void)pthread_attr_destroy(&attr);
    if (rc != 0) {
        http_release(c->x);
        mem_free(p);
        atomic_fetch_sub(&c->s->n_pulls, 1);
        api_error(c, 503, "server_error", NULL, NULL, "no thread to fetch with");
    }
}

static const char *given_name(struct api_call *c)
{
    const json_t *v = json_object_get(c->body, "model");

    if (!v)
        v = json_object_get(c->body, "name");
    if (json_string_length(v) > 0)
        return json_string_value(v);
    api_error(c, 400, "invalid_request_error", NULL, "model", "model must be a string");
    return NULL;
}

static void pull(struct api_call *c)
{
    const char *given = given_name(c), *own;
    const json_t *stream = json_object_get(c->body, "stream");
    struct store_name n;
    struct err e = { 0 };

    if (!given)
        return;
    own = api_models_name(c->s->models, given);
    if (own && (!c->s->store || store_name_parse(&n, own, NULL) < 0))
        api_json(c, 200, json_pack("{s:s}", "status", "success"));
    else if (!c->s->store)
        api_error(c, 404, "invalid_request_error", "model_not_found", "model", "The model '%.100s' "
                  "does not exist, and this server serves no store to fetch it into.", given);
    else if (store_name_parse(&n, own && strchr(given, '/') == NULL ? own : given, &e) < 0)
        api_fail(c, "model", &e);
    else
        begin_pull(c, &n, !json_is_false(stream));
}

/* ---- Ollama: delete, copy, create ---- */

static bool has_store(struct api_call *c)
{
    if (!c->s->store)
        api_error(c, 400, "invalid_request_error", NULL, NULL,
                  "this server serves no store: its models are those it was started with");
    return c->s->store != NULL;
}

static void discard(struct api_call *c)
{
    const char *given = given_name(c), *own;
    struct err e = { 0 };
    uint64_t freed;

    if (!given || !has_store(c))
        return;
    own = api_models_name(c->s->models, given);     /* while its files tell */
    if (store_remove(c->s->store, given, &freed, &e) < 0) {
        api_fail(c, "model", &e);
        return;
    }
    if (own && api_models_unload(c->s->models, own, &e) < 0)
        e.code = 0;                     /* nobody had it open */
    api_json(c, 200, json_object());
}

static void name_again(struct api_call *c, const char *source, const char *name, const char *said)
{
    struct err e = { 0 };

    if (!has_store(c))
        return;
    if (store_alias(c->s->store, name, source, &e) < 0)
        api_fail(c, "source", &e);
    else
        api_json(c, 200, said ? json_pack("{s:s}", "status", said) : json_object());
}

static int read_two(struct api_call *c, const char *key1, const char **first, const char *key2,
                    const char **second, struct err *e)
{
    struct json_place p;
    int rc = json_need(&c->at, key1, &p, e);

    if (rc == 0)
        rc = json_read_cstr(&p, first, e);
    if (rc == 0)
        rc = json_need(&c->at, key2, &p, e);
    return rc == 0 ? json_read_cstr(&p, second, e) : rc;
}

static void copy(struct api_call *c)
{
    const char *source, *name;
    struct err e = { 0 };

    if (read_two(c, "source", &source, "destination", &name, &e) < 0)
        api_fail(c, NULL, &e);
    else
        name_again(c, source, name, NULL);
}

/* Ollama's create, as far as it names a model that is here; a model of other settings is none of
 * the store's. */
static void create(struct api_call *c)
{
    static const char *const settings[] = { "system", "template", "parameters", "messages", "adapters",
                                            "files", "quantize", "modelfile" };
    const char *from, *name;
    struct json_place p;
    struct err e = { 0 };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof settings / sizeof *settings; i++) {
        rc = json_find(&c->at, settings[i], &p, &e);
        if (rc == 0 && p.value && json_count(&p) + json_string_length(p.value) > 0)
            rc = json_refuse(&p, &e, WATT_ENOTSUP, "models are made by watt pull and watt quantize; "
                             "here they are only named, model and from");
    }
    if (rc == 0)
        rc = read_two(c, "from", &from, json_object_get(c->body, "model") ? "model" : "name", &name, &e);
    if (rc < 0)
        api_fail(c, NULL, &e);
    else
        name_again(c, from, name, "success");
}

const struct api_route api_manage_routes[] = {
    { "GET", "/v1/models", list_models, API_INFER, false, "Models that this server has" },
    { "GET", "/models", list_models, API_INFER, false, "The same" },
    { "GET", "/v1/models/", one_model, API_INFER, false, "One model" },
    { "POST", "/models/load", load, API_ADMIN, true, "Begins to load a model" },
    { "POST", "/models/unload", unload, API_ADMIN, true, "Lets a model go once it is idle" },
    { "GET", "/api/tags", tags, API_INFER, false, "Models that this server has" },
    { "GET", "/api/ps", ps, API_INFER, false, "Models in memory" },
    { "POST", "/api/show", show, API_METRICS, true, "What a model is" },
    { "POST", "/api/pull", pull, API_ADMIN, true, "Fetches a model from the hub" },
    { "DELETE", "/api/delete", discard, API_ADMIN, true, "Removes a fetched model" },
    { "POST", "/api/copy", copy, API_ADMIN, true, "Another name for a fetched model" },
    { "POST", "/api/create", create, API_ADMIN, true, "The same, as Ollama's create from a model" },
    { 0 }
};
