/* hub_listing.h: what a repository of a model hub holds, and which of its files make a model.
 *
 * The listing is the answer of HUB/api/models/ORG/REPO/revision/REV?blobs=true: {"sha": commit,
 * "siblings": [{"rfilename", "size", "lfs": {"sha256", "size"}}]}. */
#ifndef INFRASTRUCTURE_HUB_LISTING_H
#define INFRASTRUCTURE_HUB_LISTING_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "infrastructure/store.h"

#define HUB_MAX_FILES 100000u

struct hub_listing {
    char   commit[STORE_PART_MAX];
    struct store_file *files;   /* [n_files] in order of paths; size UINT64_MAX: not told */
    size_t n_files;
};
/* Answer of the revision endpoint. Names that would lead out of a folder are WATT_EFORMAT. */
int  hub_listing_parse(struct hub_listing *out, const char *text, size_t n, struct err *e) MUST_CHECK;
void hub_listing_deinit(struct hub_listing *l);

/* Which files make the model that a tag means: a GGUF file with all its parts, or a folder of
 * safetensors. tag "": the one that store_tag_rank likes best. */
struct hub_choice {
    char     tag[STORE_PART_MAX];       /* as the file spells it, or "safetensors" */
    char     format[16];
    const char *model;          /* path of what to open; "" for the folder; the listing's */
    size_t  *files;             /* [n_files] indexes in the listing */
    size_t   n_files;
    uint64_t bytes;             /* of those whose size is known */
};
/* WATT_ENOENT: no such one; the message lists what there is. */
int  hub_choose(struct hub_choice *out, const struct hub_listing *l, const char *tag,
                struct err *e) MUST_CHECK;
void hub_choice_deinit(struct hub_choice *c);
/* Appends the tags that there are, separated by ", ". */
void hub_tags(const struct hub_listing *l, struct str *out);

#endif
