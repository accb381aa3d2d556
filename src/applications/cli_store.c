/* cli_store.c: `watt list` and `watt rm`: the models that were fetched. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "applications/cli.h"
#include "applications/progress.h"
#include "base/mem.h"
#include "infrastructure/store.h"

struct store_opts {
    const char *store;
    bool        json, paths;
};

#define AT(f) offsetof(struct store_opts, f)
#define STORE_OPTION { "store", 0, CLI_FILE, AT(store), "DIR", "the store (default $WATT_STORE, or watt/models under $XDG_DATA_HOME)", 0, 0 }
static const struct cli_opt list_options[] = {
    STORE_OPTION,
    { "json", 0, CLI_FLAG, AT(json), NULL, "as JSON, with every file and its hash", 0, 0 },
    { "paths", 0, CLI_FLAG, AT(paths), NULL, "paths in place of sizes and dates", 0, 0 },
    { 0 }
};
static const struct cli_opt rm_options[] = {
    STORE_OPTION,
    { 0 }
};
#undef AT

struct listing {
    const struct cli        *c;
    const struct store_opts *o;
    json_t  *json;              /* list; NULL: text */
    size_t   n;
    uint64_t bytes;
};

static void put_line(const struct listing *l, const char *name, uint64_t bytes, const char *what)
{
    char size[32];

    if (l->o->paths)
        printf("%-48s  %s\n", name, what);
    else
        printf("%-48s  %10s  %s\n", name, format_bytes(size, bytes), what);
}

static json_t *files_json(const struct store_model *m)
{
    json_t *list = json_array();

    for (size_t i = 0; i < m->n_files; i++) {
        const struct store_file *f = &m->files[i];
        char hex[2 * SHA256_BYTES + 1] = "";

        for (size_t k = 0; f->has_sha256 && k < SHA256_BYTES; k++)
            (void)snprintf(hex + 2 * k, 3, "%02x", f->sha256[k]);
        (void)json_array_append_new(list, json_pack("{s:s,s:I,s:s*}", "path", f->path, "size",
            (json_int_t)f->size, "sha256", f->has_sha256 ? hex : NULL));
    }
    return list;
}

static int on_model(void *ctx, const struct store_model *m)
{
    struct listing *l = ctx;

    l->n++;
    l->bytes += m->bytes;
    if (l->json)
        (void)json_array_append_new(l->json, json_pack(
            "{s:s,s:s,s:s,s:I,s:s,s:s,s:s,s:s,s:s,s:o}", "name", m->name, "path", m->path, "format",
            m->format, "bytes", (json_int_t)m->bytes, "digest", m->digest, "hub", m->hub, "revision",
            m->revision, "commit", m->commit, "pulled", m->pulled, "files", files_json(m)));
    else
        put_line(l, m->name, m->bytes, l->o->paths ? m->path : m->pulled);
    return 0;
}

static int on_alias(void *ctx, const char *alias, const char *name)
{
    struct listing *l = ctx;

    if (l->json)
        (void)json_array_append_new(l->json, json_pack("{s:s,s:s}", "alias", alias, "name", name));
    else
        printf("%-48s  %s\n", alias, name);
    return 0;
}

static int on_partial(void *ctx, const char *name, uint64_t bytes)
{
    struct listing *l = ctx;

    if (l->json)
        (void)json_array_append_new(l->json, json_pack("{s:s,s:I}", "partial", name, "bytes",
                                                       (json_int_t)bytes));
    else
        put_line(l, name, bytes, "not fetched to the end");
    return 0;
}

static void on_bad(void *ctx, const struct err *why)
{
    const struct listing *l = ctx;

    cli_note(l->c, "%s", why->msg);
}

static int list(const struct cli *c, const void *options_struct)
{
    struct listing l = { .c = c, .o = options_struct };
    struct store *s = NULL;
    struct err e = { 0 };
    int rc = store_open(&s, l.o->store, &e);

    l.json = l.o->json ? json_array() : NULL;
    if (rc == 0)
        rc = store_list(s, on_model, on_bad, &l, &e);
    if (rc == 0)
        rc = store_aliases(s, on_alias, &l, &e);
    if (rc == 0)
        rc = store_partials(s, on_partial, &l, &e);
    if (rc == 0 && l.json) {
        (void)json_dumpf(l.json, stdout, JSON_INDENT(1));
        (void)putchar('\n');
    } else if (rc == 0 && l.n == 0) {
        cli_note(c, "%s holds no models; see watt pull", store_dir(s));
    }
    json_decref(l.json);
    store_close(s);
    return rc < 0 ? cli_fail(c, &e) : CLI_OK;
}

static int rm(const struct cli *c, const void *options_struct)
{
    const struct store_opts *o = options_struct;
    struct store *s = NULL;
    struct err e = { 0 };
    uint64_t freed, sum = 0;
    char size[32];
    int rc = store_open(&s, o->store, &e);

    for (size_t i = 0; rc == 0 && i < c->n_args; i++) {
        rc = store_remove(s, c->args[i], &freed, &e);
        sum += freed;
    }
    if (sum > 0)
        cli_note(c, "removed %s", format_bytes(size, sum));
    store_close(s);
    return rc < 0 ? cli_fail(c, &e) : CLI_OK;
}

const struct cli_verb verb_list = {
    .name = "list",
    .summary = "the models that were fetched",
    .usage = "",
    .about = "Names, sizes and dates of the models in the store, their aliases, and what was not "
             "fetched to the end. A name or an alias can stand wherever a model's path can.",
    .examples = "watt list\n"
                "watt list --json",
    .options = list_options,
    .options_size = sizeof(struct store_opts),
    .run = list,
};

const struct cli_verb verb_rm = {
    .name = "rm",
    .summary = "remove fetched models",
    .usage = "NAME…",
    .about = "Removes models from the store with their aliases, or an alias, or what is left of a model "
             "that was not fetched to the end. Whoever has one open keeps it until it is closed.",
    .examples = "watt rm ggml-org/SmolLM2-135M-Instruct-GGUF:Q8_0\n"
                "watt rm minilm",
    .options = rm_options,
    .options_size = sizeof(struct store_opts),
    .min_args = 1,
    .max_args = 64,
    .run = rm,
};
