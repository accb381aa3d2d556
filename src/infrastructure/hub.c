/* hub.c: see hub.h. */
#include "infrastructure/hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"

#define MAX_LISTING ((size_t)64 << 20)

/* ---- the hub ---- */

static const char *first_set(const char *given, const char *const *names)
{
    for (size_t i = 0; !given && names[i]; i++) {
        const char *v = getenv(names[i]);

        if (v && *v)
            given = v;
    }
    return given && *given ? given : NULL;
}

int hub_url(const struct hub_opts *o, char *out, size_t cap, struct err *e)
{
    static const char *const names[] = { "WATT_HUB", "HF_ENDPOINT", NULL };
    const char *url = first_set(o ? o->url : NULL, names);
    size_t n;

    if (!url)
        url = HUB_DEFAULT;
    n = strlen(url);
    while (n > 0 && url[n - 1] == '/')
        n--;
    if (n >= cap || n > 1000 || (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0))
        return err_set(e, WATT_EINVAL, "hub: '%.200s' is no URL (http://… or https://…)", url);
    memcpy(out, url, n);
    out[n] = '\0';
    return 0;
}

static int explain(const struct store_name *n, const char *hub, const char *token,
                   const struct http_client_response *a, const char *url, struct err *e)
{
    int rc = http_client_refused(url, a, e);

    if (a->status == 401 || a->status == 403 || a->status == 404)
        rc = err_set(e, rc, "%s/%s at %s: %s", n->org, n->repo, hub,
                     a->status == 404 ? "no such repository or revision"
                     : token ? "the token (HF_TOKEN) may not read this repository"
                             : "no such repository, or one that asks for a token: set HF_TOKEN");
    return rc;
}

int hub_list(struct http_client *c, const char *hub, const struct store_name *n, const char *token,
             struct hub_listing *out, struct err *e)
{
    const char *revision = *n->revision ? n->revision : "main";
    struct http_client_request r = { .bearer = token, .max_body = MAX_LISTING, .total_ms = 120000 };
    struct http_client_response a;
    struct str url;
    int rc;

    str_init(&url, 0);
    str_printf(&url, "%s/api/models/%s/%s/revision/", hub, n->org, n->repo);
    http_client_escape(&url, sv_cstr(revision), "");
    str_puts(&url, "?blobs=true");
    r.url = str_cstr(&url);
    rc = http_client_fetch(c, &r, &a, e);
    if (rc == 0)
        rc = explain(n, hub, token, &a, r.url, e);
    if (rc == 0) {
        rc = hub_listing_parse(out, a.body.len ? a.body.data : "", a.body.len, e);
        if (rc < 0)
            rc = err_prefix(e, "%s", r.url);
    }
    http_client_response_deinit(&a);
    str_deinit(&url);
    return rc;
}

/* ---- pulling ---- */

struct pull {
    const struct store *s;
    const struct hub_opts *o;
    struct store_name   n;      /* with the tag that was chosen */
    char                hub[1024];
    const char         *token;
    struct http_client *c;
    struct hub_listing  l;
    struct hub_choice   choice;
    struct download_file *files;
    char              **urls;
};

static int plan_files(struct pull *p, struct err *e)
{
    const size_t n = p->choice.n_files;

    p->files = mem_calloc(n, sizeof *p->files);
    p->urls = mem_calloc(n, sizeof *p->urls);
    if (!p->files || !p->urls)
        return err_set(e, WATT_ENOMEM, "%zu files", n);
    for (size_t i = 0; i < n; i++) {
        const struct store_file *f = &p->l.files[p->choice.files[i]];
        struct str url;

        str_init(&url, 0);
        str_printf(&url, "%s/%s/%s/resolve/%s/", p->hub, p->n.org, p->n.repo, p->l.commit);
        http_client_escape(&url, sv_cstr(f->path), "/");
        p->urls[i] = str_take(&url, NULL);
        if (!p->urls[i])
            return err_set(e, WATT_ENOMEM, "%s", f->path);
        p->files[i] = (struct download_file){ .url = p->urls[i], .path = f->path, .size = f->size,
                                              .has_sha256 = f->has_sha256 };
        memcpy(p->files[i].sha256, f->sha256, SHA256_BYTES);
    }
    return 0;
}

/* Is the version that the hub has in the store? */
static bool is_here(const struct pull *p, struct store_model *m)
{
    char name[STORE_NAME_MAX];

    store_name_text(&p->n, name);
    if (store_find(p->s, name, m, NULL) < 0)
        return false;
    if (strcmp(m->commit, p->l.commit) == 0)
        return true;
    store_model_deinit(m);
    return false;
}

static void now_text(char out[32])
{
    const time_t t = (time_t)(clock_wall_ns() / 1000000000);
    struct tm tm = { 0 };

    (void)gmtime_r(&t, &tm);
    (void)strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static int commit(struct pull *p, struct store_draft *d, struct err *e)
{
    const size_t n = p->choice.n_files;
    struct store_model m = { .hub = p->hub, .n_files = n };
    int rc;

    m.files = mem_calloc(n, sizeof *m.files);
    if (!m.files)
        return err_set(e, WATT_ENOMEM, "manifest");
    for (size_t i = 0; i < n; i++) {
        m.files[i] = p->l.files[p->choice.files[i]];
        m.files[i].size = p->files[i].size;
    }
    (void)snprintf(m.format, sizeof m.format, "%s", p->choice.format);
    (void)snprintf(m.revision, sizeof m.revision, "%s", *p->n.revision ? p->n.revision : "main");
    (void)snprintf(m.commit, sizeof m.commit, "%s", p->l.commit);
    now_text(m.pulled);
    rc = store_commit(p->s, &p->n, d, &m, p->choice.model, e);
    mem_free(m.files);
    return rc;
}

static int fetch(struct pull *p, struct err *e)
{
    const struct download_opts o = { .bearer = p->token, .n_connections = p->o->n_connections,
                                     .retry_ms = p->o->retry_ms, .progress = p->o->progress,
                                     .ctx = p->o->ctx };
    struct store_draft d = { 0 };
    int rc = plan_files(p, e);

    if (rc == 0)
        rc = store_begin(p->s, &p->n, p->l.commit, &d, e);
    if (rc == 0)
        rc = download_files(p->c, d.folder, p->files, p->choice.n_files, &o, e);
    if (rc == 0)
        rc = commit(p, &d, e);
    store_end(&d);
    return rc;
}

static void pull_close(struct pull *p)
{
    for (size_t i = 0; p->urls && i < p->choice.n_files; i++)
        mem_free(p->urls[i]);
    mem_free(p->urls);
    mem_free(p->files);
    hub_choice_deinit(&p->choice);
    hub_listing_deinit(&p->l);
    http_client_close(p->c);
}

int hub_pull(const struct store *s, const struct store_name *n, const struct hub_opts *o,
             struct store_model *out, bool *fresh, struct err *e)
{
    static const char *const token_names[] = { "HF_TOKEN", NULL };
    static const struct hub_opts none;
    struct pull p = { .s = s, .o = o ? o : &none, .n = *n };
    const struct http_client_opts co = { .ca_file = p.o->ca_file };
    struct store_model m = { 0 };
    char name[STORE_NAME_MAX];
    int rc = hub_url(p.o, p.hub, sizeof p.hub, e);

    *fresh = false;
    p.token = first_set(p.o->token, token_names);
    if (rc == 0)
        rc = http_client_open(&p.c, &co, e);
    if (rc == 0)
        rc = hub_list(p.c, p.hub, n, p.token, &p.l, e);
    if (rc == 0) {
        rc = hub_choose(&p.choice, &p.l, n->tag, e);
        if (rc < 0)
            rc = err_prefix(e, "%s/%s", n->org, n->repo);
    }
    if (rc == 0) {
        (void)snprintf(p.n.tag, sizeof p.n.tag, "%s", p.choice.tag);
        if (!is_here(&p, &m)) {
            *fresh = true;
            rc = fetch(&p, e);
            store_name_text(&p.n, name);
            if (rc == 0)
                rc = store_find(s, name, &m, e);
        }
    }
    if (rc == 0 && out) {
        *out = m;
        m = (struct store_model){ 0 };
    }
    store_model_deinit(&m);
    pull_close(&p);
    return rc;
}
