/* hf.c: opens a model folder; see hf.h. The order: config.json (family, keys), tokenizer and
 * texts, weights. Everything ends up in a struct gguf, which keeps the shards open and owns the
 * memory of what was written. */
#include "models/hf/hf.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "models/hf/weights.h"

/* What the result needs while it lives. */
struct owner {
    struct safetensors *st;
    struct hf_weights  *weights;
    struct hf_made      made[HF_MAX_MADE];
    unsigned            n_made;
};

static void release(void *arg)
{
    struct owner *o = arg;

    hf_weights_close(o->weights);
    safetensors_close(o->st);
    for (unsigned i = 0; i < o->n_made; i++)
        mem_free(o->made[i].data);
    mem_free(o);
}

void hf_warn(const struct hf *h, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list ap;

    if (!h->opts || !h->opts->warn)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    h->opts->warn(h->opts->ctx, text);
}

bool hf_path(const struct hf *h, const char *name, struct str *out)
{
    const size_t n = strlen(h->dir);

    str_reset(out);
    str_puts(out, h->dir);
    if (n > 0 && h->dir[n - 1] != '/')
        str_putc(out, '/');
    str_puts(out, name);
    return str_ok(out);
}

bool hf_is_folder(const char *path)
{
    struct stat s;

    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

/* The folder's own name, without what comes before and slashes after it. */
static struct sv last_part(const char *path)
{
    size_t end = strlen(path), start;

    while (end > 1 && path[end - 1] == '/')
        end--;
    for (start = end; start > 0 && path[start - 1] != '/'; start--)
        ;
    return (struct sv){ path + start, end - start };
}

static int open_all(struct hf *h, struct err *e)
{
    struct str path;
    int rc = 0;

    str_init(&path, 0);
    if (!hf_path(h, "config.json", &path) || !(h->config_path = str_take(&path, NULL)))
        rc = err_set(e, WATT_ENOMEM, "%s: out of memory", h->dir);
    str_deinit(&path);
    if (rc == 0)
        rc = hf_config_load(h, e);
    if (rc == 0)
        rc = gguf_make_open(&h->out, h->dir, e);
    if (rc < 0)
        return rc;
    gguf_make_str(h->out, "general.architecture", sv_cstr(h->family->arch));
    gguf_make_str(h->out, "general.name", last_part(h->dir));
    gguf_make_str(h->out, "general.type", SV("model"));
    rc = hf_keys(h, e);
    if (rc == 0)
        rc = hf_tokenizer(h, e);
    return rc == 0 && !(h->opts && h->opts->vocab_only) ? hf_weights_open(h, e) : rc;
}

int hf_open(struct gguf **out, const char *path, const struct hf_opts *opts, struct err *e)
{
    struct hf h = { .dir = path, .opts = opts };
    struct owner *owner = mem_calloc(1, sizeof *owner);
    int rc = owner ? open_all(&h, e) : err_set(e, WATT_ENOMEM, "%s: out of memory", path);

    if (owner) {
        owner->st = h.st;
        owner->weights = h.weights;
        memcpy(owner->made, h.made, sizeof h.made);
        owner->n_made = h.n_made;
    }
    if (rc == 0) {
        rc = gguf_make_finish(out, h.out, release, owner, e);
        h.out = NULL;
    }
    gguf_make_close(h.out);
    json_close(h.config);
    mem_free(h.config_path);
    if (rc < 0 && owner)
        release(owner);
    return rc;
}
