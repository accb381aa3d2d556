/* serve_options.c: see serve_options.h. */
#include "applications/serve_options.h"

#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "models/template.h"

/* As llama-server and vLLM spell them. Functions, reasoning and the cache of prefixes need no switch,
 * and there is one device. */
const struct cli_alias serve_aliases[] = {
    { "-m", "", true }, { "-hf", "", true }, { "--hf-repo", "", true },
    { "-a", "alias", true }, { "--ctx-size", "ctx", true }, { "-np", "parallel", true },
    { "-ub", "max-rows", true }, { "--ubatch-size", "max-rows", true },
    { "--chat-template-file", "template", true }, { "--chat-template", "template", true },
    { "-md", "draft", true }, { "--model-draft", "draft", true }, { "-to", "idle", true },
    { "--timeout", "idle", true }, { "--threads-http", "http-threads", true },
    { "-ctk", "kv", true }, { "--cache-type-k", "kv", true }, { "-ctv", "kv", true },
    { "--cache-type-v", "kv", true }, { "--ssl-key-file", "tls-key", true },
    { "--ssl-cert-file", "tls-cert", true }, { "--ssl-keyfile", "tls-key", true },
    { "--ssl-certfile", "tls-cert", true },
    { "--served-model-name", "name", true }, { "--max-model-len", "ctx", true },
    { "--max-num-seqs", "parallel", true }, { "--max-num-batched-tokens", "max-rows", true },
    { "--kv-cache-dtype", "kv", true }, { "--kv-cache-memory-bytes", "kv-bytes", true },
    { "--no-enable-prefix-caching", "no-prefix-cache", false },
    { "-ngl", NULL, true }, { "--n-gpu-layers", NULL, true }, { "--gpu-layers", NULL, true },
    { "-fa", NULL, true }, { "--flash-attn", NULL, true }, { "-b", NULL, true },
    { "--batch-size", NULL, true }, { "-tb", NULL, true }, { "--threads-batch", NULL, true },
    { "--jinja", NULL, false }, { "--metrics", NULL, false }, { "--slots", NULL, false },
    { "--no-slots", NULL, false }, { "--no-webui", NULL, false }, { "--embedding", NULL, false },
    { "--embeddings", NULL, false }, { "--reranking", NULL, false }, { "--rerank", NULL, false },
    { "-cb", NULL, false }, { "--cont-batching", NULL, false }, { "--mlock", NULL, false },
    { "--no-mmap", NULL, false }, { "--gpu-memory-utilization", NULL, true },
    { "--enable-prefix-caching", NULL, false }, { "--enable-chunked-prefill", NULL, false },
    { "--enable-auto-tool-choice", NULL, false }, { "--tool-call-parser", NULL, true },
    { "--reasoning-parser", NULL, true }, { "--trust-remote-code", NULL, false },
    { "--enforce-eager", NULL, false }, { 0 }
};

struct value {
    const char *model, *text;       /* the model's own name; what was given for it */
    char       *source;             /* of a template: what the file says */
};

struct values {
    const char  *option;
    struct value v[CLI_LIST_MAX];
    size_t       n;
};

struct serve_values {
    struct api_models *ms;
    const char   *first;
    struct values drafts, templates, folders;
    struct lora  *loras[CLI_LIST_MAX];
    char         *names[CLI_LIST_MAX];
    struct api_adapter adapters[CLI_LIST_MAX];
    size_t        n_loras;
};

/* ---- whose ---- */

/* The model named in front of the first '=', and what stands behind it; or the first one and all of it. */
static const char *model_of(const struct serve_values *x, const char *given, const char **rest)
{
    const char *eq = strchr(given, '=');
    char *name = eq && eq > given ? mem_strndup(given, (size_t)(eq - given)) : NULL;
    const char *own = name ? api_models_name(x->ms, name) : NULL;

    mem_free(name);
    *rest = own ? eq + 1 : given;
    return own ? own : x->first;
}

static const struct value *value_of(const struct values *l, const char *model)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i].model, model) == 0)
            return &l->v[i];
    return NULL;
}

/* NAME= of no model: what is meant is not a file, unless there is one of that name. */
static int check_name(const char *option, const char *given, const char *rest, struct err *e)
{
    const char *eq = strchr(given, '='), *slash = strchr(given, '/');

    if (rest != given || !eq || (slash && slash < eq) || access(given, F_OK) == 0)
        return 0;
    return err_set(e, WATT_EINVAL, "%s %s: no model is called '%.*s'", option, given,
                   (int)(eq - given), given);
}

static int read_values(struct serve_values *x, struct values *l, const char *option,
                       const struct cli_list *given, struct err *e)
{
    l->option = option;
    for (size_t i = 0; i < given->n; i++) {
        struct value v = { 0 };
        int rc;

        v.model = model_of(x, given->v[i], &v.text);
        rc = check_name(option, given->v[i], v.text, e);
        if (rc < 0)
            return rc;
        if (!v.model)
            return err_set(e, WATT_EINVAL, "%s %s: for which model? NAME=%s says", option,
                           given->v[i], v.text);
        if (!*v.text)
            return err_set(e, WATT_EINVAL, "%s %s: nothing behind '='", option, given->v[i]);
        if (value_of(l, v.model))
            return err_set(e, WATT_EINVAL, "%s is given twice for model %s", option, v.model);
        l->v[l->n++] = v;
    }
    return 0;
}

/* ---- open and close ---- */

static int read_templates(struct serve_values *x, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < x->templates.n; i++) {
        struct value *v = &x->templates.v[i];
        size_t n;

        rc = file_read(v->text, TEMPLATE_SOURCE_MAX, &v->source, &n, e);
    }
    return rc;
}

/* A folder belongs to one cache at a time. */
static int check_folders(const struct serve_values *x, struct err *e)
{
    const struct values *l = &x->folders;

    for (size_t i = 0; i < l->n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(l->v[i].text, l->v[k].text) == 0)
                return err_set(e, WATT_EINVAL, "--cache-dir %s is given for two models, %s and %s",
                               l->v[i].text, l->v[k].model, l->v[i].model);
    return 0;
}

/* A name is clients' word for a model and so can't be one that there is already. */
static int add_lora(struct serve_values *x, const char *given, struct err *e)
{
    const char *rest, *model = model_of(x, given, &rest), *eq = strchr(rest, '=');
    struct api_adapter *a = &x->adapters[x->n_loras];

    if (!eq || eq == rest || !eq[1])
        return err_set(e, WATT_EINVAL, "--lora %s: %sexpected ADAPTER=FILE or MODEL=ADAPTER=FILE",
                       given, rest == given ? "" : "is a model's own name; ");
    if (!model)
        return err_set(e, WATT_EINVAL, "--lora %s: for which model? MODEL=%s says", given, rest);
    *a = (struct api_adapter){ .model = model, .index = 1 };
    for (size_t k = 0; k < x->n_loras; k++)
        a->index += strcmp(x->adapters[k].model, model) == 0;
    a->name = x->names[x->n_loras] = mem_strndup(rest, (size_t)(eq - rest));
    if (!a->name)
        return err_set(e, WATT_ENOMEM, "name");
    x->n_loras++;
    if (api_models_name(x->ms, a->name))
        return err_set(e, WATT_EINVAL, "--lora %s: is a model's own name", given);
    for (size_t k = 0; k + 1 < x->n_loras; k++)
        if (strcmp(a->name, x->names[k]) == 0)
            return err_set(e, WATT_EINVAL, "--lora %s: the name is given twice", given);
    return lora_open(&x->loras[x->n_loras - 1], eq + 1, 1, e);
}

int serve_values_open(struct serve_values **out, struct api_models *ms, const char *first,
                      const struct serve_lists *given, struct err *e)
{
    struct serve_values *x = mem_calloc(1, sizeof *x);
    int rc;

    if (!x)
        return err_set(e, WATT_ENOMEM, "options");
    x->ms = ms;
    x->first = first;
    rc = read_values(x, &x->drafts, "--draft", given->drafts, e);
    if (rc == 0)
        rc = read_values(x, &x->templates, "--template", given->templates, e);
    if (rc == 0)
        rc = read_values(x, &x->folders, "--cache-dir", given->folders, e);
    if (rc == 0)
        rc = read_templates(x, e);
    if (rc == 0)
        rc = check_folders(x, e);
    for (size_t i = 0; rc == 0 && i < given->loras->n; i++)
        rc = add_lora(x, given->loras->v[i], e);
    if (rc < 0) {
        serve_values_close(x);
        return rc;
    }
    *out = x;
    return 0;
}

void serve_values_close(struct serve_values *x)
{
    if (!x)
        return;
    for (size_t i = 0; i < x->templates.n; i++)
        mem_free(x->templates.v[i].source);
    for (size_t i = 0; i < x->n_loras; i++) {
        lora_close(x->loras[i]);
        mem_free(x->names[i]);
    }
    mem_free(x);
}

/* ---- asking ---- */

const char *serve_draft(const struct serve_values *x, const char *model)
{
    const struct value *v = value_of(&x->drafts, model);

    return v ? v->text : NULL;
}

const char *serve_folder(const struct serve_values *x, const char *model)
{
    const struct value *v = value_of(&x->folders, model);

    return v ? v->text : NULL;
}

const char *serve_template(const struct serve_values *x, const char *model, const char **file)
{
    const struct value *v = value_of(&x->templates, model);

    *file = v ? v->text : NULL;
    return v ? v->source : NULL;
}

uint32_t serve_adapters(const struct serve_values *x, const char *model,
                        const struct lora *out[CLI_LIST_MAX])
{
    uint32_t n = 0;

    for (size_t i = 0; i < x->n_loras; i++)
        if (strcmp(x->adapters[i].model, model) == 0)
            out[n++] = x->loras[i];
    return n;
}

const struct api_adapter *serve_all_adapters(const struct serve_values *x, size_t *n)
{
    *n = x->n_loras;
    return x->adapters;
}
