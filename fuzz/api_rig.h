/* api_rig.h: a server without a network: http.h's functions over one exchange in memory, and a model
 * whose service takes no more requests, so that each is read to its very end and then refused.
 * Each fuzzer of an API includes it once. */
#ifndef FUZZ_API_RIG_H
#define FUZZ_API_RIG_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "applications/api.h"
#include "applications/api_store.h"
#include "base/mem.h"
#include "models/synth.h"

#define RIG_HEADERS 8

struct http_exchange {
    const char *method, *path;
    struct sv   body;
    const char *names[RIG_HEADERS], *values[RIG_HEADERS];
    void       *user;
    void      (*drop_user)(void *user);
    int         status;         /* of the answer; 0: none yet */
    unsigned    holds;
    bool        streams, ended;
};

/* ---- http.h ---- */

const char *http_method(const struct http_exchange *x) { return x->method; }
const char *http_path(const struct http_exchange *x) { return x->path; }
const char *http_query(const struct http_exchange *x, const char *name)
{
    return strcmp(name, "fail_on_no_slot") == 0 ? x->values[0] : NULL;
}
const char *http_peer(const struct http_exchange *x) { (void)x; return "-"; }
bool http_keep_head(struct http_exchange *x) { (void)x; return true; }
bool http_gone(const struct http_exchange *x) { (void)x; return false; }
uint64_t http_started_ns(const struct http_exchange *x) { (void)x; return 1; }
void *http_user(const struct http_exchange *x) { return x->user; }
struct sv http_body(const struct http_exchange *x) { return x->body; }
bool http_begun(const struct http_exchange *x) { return x->status != 0; }
void http_hold(struct http_exchange *x) { x->holds++; }
void http_release(struct http_exchange *x) { CHECK(x->holds-- > 0); }
void http_end(struct http_exchange *x) { x->ended = true; }
void http_break(struct http_exchange *x) { x->ended = true; }
void http_on_abort(struct http_exchange *x, void (*fn)(void *), void *ctx)
{
    (void)x;
    (void)fn;
    (void)ctx;
}
void http_keep_alive(struct http_exchange *x, const char *type, const char *text, uint32_t ms)
{
    (void)x;
    (void)type;
    (void)text;
    (void)ms;
}

const char *http_header(const struct http_exchange *x, const char *name)
{
    for (size_t i = 0; i < RIG_HEADERS; i++)
        if (x->names[i] && strcasecmp(x->names[i], name) == 0)
            return x->values[i];
    return NULL;
}

void http_set_user(struct http_exchange *x, void *user, void (*drop)(void *user))
{
    x->user = user;
    x->drop_user = drop;
}

/* What goes out must be a header of one line. */
void http_add_header(struct http_exchange *x, const char *name, const char *value)
{
    (void)x;
    CHECK(!strpbrk(name, "\r\n:") && !strpbrk(value, "\r\n"));
}

void http_reply(struct http_exchange *x, int status, const char *type, const void *data, size_t n)
{
    if (x->status != 0)
        return;
    x->status = status;
    x->ended = true;
    if (strcmp(type, "application/json") == 0) {
        json_t *j = json_loadb(data, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

        CHECK(j || n > ((size_t)1 << 20));      /* large numbers of values aside */
        json_decref(j);
    }
}

void http_stream(struct http_exchange *x, int status, const char *type)
{
    (void)type;
    x->streams = true;
    x->status = status;
}

bool http_write(struct http_exchange *x, const void *data, size_t n)
{
    (void)x;
    (void)data;
    (void)n;
    return true;
}

/* ---- the server ---- */

static struct api_server rig;

static void rig_must(int rc, const struct err *e)
{
    if (rc < 0) {
        (void)fprintf(stderr, "%s\n", e->msg);
        abort();
    }
}

static int rig_plan(void *ctx, struct api_model *m, const char *path, enum api_use use, uint64_t *bytes,
                    struct err *e)
{
    const struct text_model_opts to = { .no_session = true, .model.embed = use == API_USE_EMBED };
    int rc = text_model_open(&m->tm, path, &to, e);

    (void)ctx;
    *bytes = 1;
    return rc == 0 ? api_grammars_open(&m->grammars, m->tm->tok, m->tm->tools, e) : rc;
}

static int rig_load(void *ctx, struct api_model *m, const char *path, enum api_use use, struct err *e)
{
    const struct service_opts sv = { .max_seqs = 1, .session.n_threads = 1 };
    const int rc = service_open(&m->svc, m->tm->model, m->tm->tok, &sv, e);

    (void)ctx;
    (void)path;
    (void)use;
    if (rc == 0)
        (void)service_drain(m->svc, 0);         /* refuses what would run */
    return rc;
}

static void rig_unload(void *ctx, struct api_model *m)
{
    (void)ctx;
    service_close(m->svc);
    api_grammars_close(m->grammars);
    text_model_close(m->tm);
}

static void rig_open(void)
{
    struct shape shape = { .name = "tiny", .pre = "gpt-2", .n_layers = 1, .n_embd = 32, .n_ff = 32,
                           .n_heads = 2, .n_kv_heads = 1, .head_dim = 16, .n_vocab = 320,
                           .n_ctx = 128, .norm_eps = 1e-5f, .rope_base = 10000 };
    const struct synth_opts so = { .seed = 3, .n_threads = 1 };
    const struct api_models_opts mo = { .loader = { NULL, rig_plan, rig_load, rig_unload, api_resume },
                                        .keep_ns = API_KEEP_FOREVER };
    const char *tmp = getenv("TMPDIR");
    char path[512];
    struct err e;
    int fd;

    (void)snprintf(path, sizeof path, "%s/watt-fuzz-XXXXXX", tmp && *tmp ? tmp : P_tmpdir);
    fd = mkstemp(path);
    CHECK(fd >= 0);
    (void)close(fd);
    rig_must(shape_set_arch(&shape, "llama", &e), &e);
    rig_must(synth_write(path, &shape, &so, &e), &e);
    rig_must(api_models_open(&rig.models, &mo, &e), &e);
    rig_must(api_models_add(rig.models, "tiny", path, NULL, 0, &e), &e);
    rig_must(api_models_load(rig.models, "tiny", API_USE_ANSWER, &e), &e);
    rig_must(api_models_load(rig.models, "tiny", API_USE_EMBED, &e), &e);
    (void)unlink(path);
    rig_must(metrics_open(&rig.metrics, &e), &e);
    rig_must(api_keys_open(&rig.keys, &e), &e);
    rig_must(api_store_open(&rig.responses, 1 << 20, &e), &e);
    rig.started = 1;
}

/* One request; every one has exactly one answer, which is no fault of ours. */
static void rig_ask(struct http_exchange *x)
{
    if (!rig.models)
        rig_open();
    x->holds = 1;
    api_request(&rig, x);
    CHECK(x->holds == 0 && x->status != 0 && x->ended);
    CHECK(x->status != 500);
    if (x->drop_user)
        x->drop_user(x->user);
}

/* The first byte names a route of the table, the rest is the body. */
static inline void rig_route(const struct api_route *routes, const uint8_t *data, size_t size)
{
    struct http_exchange x = { 0 };
    size_t n = 0;

    if (size == 0)
        return;
    while (routes[n].path)
        n++;
    routes += data[0] % n;
    x.method = routes->method;
    x.path = routes->path;
    x.body = (struct sv){ (const char *)data + 1, size - 1 };
    rig_ask(&x);
}

#endif
