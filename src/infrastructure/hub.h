/* hub.h: models from a hub that speaks Hugging Face's API, into a store.
 *
 *   GET HUB/api/models/ORG/REPO/revision/REV?blobs=true   the listing; see hub_listing.h
 *   GET HUB/ORG/REPO/resolve/COMMIT/FILE                   the bytes, perhaps by a redirect
 *
 * Every file is asked for by the commit that the listing named, so a model is of one version. */
#ifndef INFRASTRUCTURE_HUB_H
#define INFRASTRUCTURE_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "infrastructure/download.h"
#include "infrastructure/http_client.h"
#include "infrastructure/hub_listing.h"
#include "infrastructure/store.h"

#define HUB_DEFAULT "https://huggingface.co"

/* ---- fetching ---- */

struct hub_opts {               /* zero means the default */
    const char *url;            /* default $WATT_HUB, $HF_ENDPOINT, HUB_DEFAULT */
    const char *token;          /* default $HF_TOKEN; "": none */
    const char *ca_file;
    unsigned    n_connections;
    uint64_t    retry_ms;
    /* Other than 0 stops. */
    int       (*progress)(void *ctx, enum download_phase phase, const char *path, uint64_t done,
                          uint64_t total);
    void       *ctx;
};

/* The hub that these options mean, without a '/' at its end; WATT_EINVAL when it is no URL. */
int  hub_url(const struct hub_opts *o, char *out, size_t cap, struct err *e) MUST_CHECK;
/* Asks for a repository's listing. */
int  hub_list(struct http_client *c, const char *hub, const struct store_name *n, const char *token,
              struct hub_listing *out, struct err *e) MUST_CHECK;
/* Fetches n (revision "": main) into the store; what is there already in that version stays. *out,
 * which may be NULL, is the model as the store has it, *fresh whether anything was fetched. */
int  hub_pull(const struct store *s, const struct store_name *n, const struct hub_opts *o,
              struct store_model *out, bool *fresh, struct err *e) MUST_CHECK;

#endif
