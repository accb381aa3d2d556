/* cli_pull.c: `watt pull`: a model from a hub into the store. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "applications/cli.h"
#include "applications/progress.h"
#include "infrastructure/hub.h"

struct pull_opts {
    const char *hub, *store, *alias, *ca;
    int64_t     connections;
    bool        quiet;
};

#define AT(f) offsetof(struct pull_opts, f)
static const struct cli_opt options[] = {
    { "hub", 0, CLI_TEXT, AT(hub), "URL", "fetch from there (default $WATT_HUB, $HF_ENDPOINT, " HUB_DEFAULT ")", 0, 0 },
    { "alias", 0, CLI_TEXT, AT(alias), "NAME", "a short name for the model", 0, 0 },
    { "connections", 0, CLI_INT, AT(connections), "N", "at once (default 4)", 1, DOWNLOAD_MAX_CONNECTIONS },
    { "store", 0, CLI_FILE, AT(store), "DIR", "keep models there (default $WATT_STORE, or watt/models under $XDG_DATA_HOME)", 0, 0 },
    { "ca", 0, CLI_FILE, AT(ca), "FILE", "trust these certificates, in PEM, in place of the system's", 0, 0 },
    { "quiet", 'q', CLI_FLAG, AT(quiet), NULL, "no notes on standard error", 0, 0 },
    { 0 }
};
#undef AT

struct bars { struct progress fetching, verifying; };

static int on_progress(void *ctx, enum download_phase phase, const char *path, uint64_t done,
                       uint64_t total)
{
    struct bars *b = ctx;

    (void)path;
    progress_update(phase == DOWNLOAD_FETCHING ? &b->fetching : &b->verifying, done, total);
    return cli_interrupted();
}

static int pull(const struct cli *c, const void *options_struct)
{
    const struct pull_opts *o = options_struct;
    struct bars bars;
    const struct hub_opts ho = { .url = o->hub, .ca_file = o->ca,
                                 .n_connections = (unsigned)o->connections,
                                 .progress = on_progress, .ctx = &bars };
    struct store_model m = { 0 };
    struct store_name n;
    struct store *s = NULL;
    struct err e = { 0 };
    char size[32];
    bool fresh = false;
    int rc = store_name_parse(&n, c->args[0], &e);

    if (rc < 0)
        return cli_usage(c, "%s", e.msg);
    cli_catch_interrupt();
    progress_init(&bars.fetching, "fetching", "B");
    progress_init(&bars.verifying, "checking", "B");
    rc = store_open(&s, o->store, &e);
    if (rc == 0)
        rc = hub_pull(s, &n, &ho, &m, &fresh, &e);
    progress_finish(&bars.fetching);
    progress_finish(&bars.verifying);
    if (rc == 0 && o->alias)
        rc = store_alias(s, o->alias, m.name, &e);
    if (rc == 0) {
        printf("%s\n", o->alias ? o->alias : m.name);
        if (!o->quiet)
            cli_note(c, "%s: %s in %s", fresh ? "fetched" : "already here, and the newest",
                     format_bytes(size, m.bytes), m.path);
    }
    store_model_deinit(&m);
    store_close(s);
    return rc < 0 ? cli_fail(c, &e) : CLI_OK;
}

const struct cli_verb verb_pull = {
    .name = "pull",
    .summary = "fetch a model from a hub",
    .usage = "ORG/REPO[:QUANT][@REVISION]",
    .about = "Fetches a GGUF file (with all its parts) or a folder of safetensors from a hub that speaks "
             "Hugging Face's API, over several connections, and checks its SHA-256. QUANT names the file "
             "by its quantisation, or is `safetensors`; without it the repository's Q4_K_M, Q8_0 or "
             "what comes next is meant. What was fetched before an interruption is not fetched again, "
             "whatever ended it.\n"
             "\n"
             "A token for repositories that ask for one is read from HF_TOKEN. The name that is "
             "printed can then stand wherever a model's path can; see watt list.",
    .examples = "watt pull ggml-org/SmolLM2-135M-Instruct-GGUF:Q8_0\n"
                "watt pull sentence-transformers/all-MiniLM-L6-v2:safetensors --alias minilm\n"
                "watt pull org/repo --hub https://hub.example.com",
    .options = options,
    .options_size = sizeof(struct pull_opts),
    .min_args = 1,
    .max_args = 1,
    .run = pull,
};
