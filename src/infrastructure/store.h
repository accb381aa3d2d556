/* store.h: fetched models on disk: a folder per model with a manifest, and names for them.
 *
 *   DIR/ORG/REPO/TAG/manifest.json     what it is, whence, and every file with size and SHA-256
 *   DIR/ORG/REPO/TAG/…                 the files
 *   DIR/aliases.json                   other names
 *   DIR/.partial/ORG--REPO--TAG--…/    a version of a model that is being fetched, under a lock
 *
 * A model appears whole, by a rename, and goes the same way, so other processes need no lock to
 * read. Whoever changes names or models holds DIR/.partial/changes.lock. What is in DIR is checked
 * like any file: names that would lead out of a folder are refused.
 *
 * Names are ORG/REPO[:TAG][@REVISION], with an optional hf.co/ in front; TAG is the quantisation of a
 * GGUF file, or "safetensors". Without TAG (or with :latest) the one that prefer says is meant.
 *
 * A store is immutable once open: any thread. */
#ifndef INFRASTRUCTURE_STORE_H
#define INFRASTRUCTURE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/sha256.h"
#include "base/str.h"

#define STORE_PART_MAX  97u     /* bytes of ORG, REPO, TAG, REVISION with a NUL */
#define STORE_NAME_MAX  320u
#define STORE_MAX_FILES 4096u   /* of one model */

struct store;

struct store_name {
    char org[STORE_PART_MAX], repo[STORE_PART_MAX];
    char tag[STORE_PART_MAX], revision[STORE_PART_MAX];     /* "" when not given */
};

/* WATT_EINVAL: not such a name. */
int  store_name_parse(struct store_name *n, const char *text, struct err *e) MUST_CHECK;
/* ORG/REPO:TAG. */
void store_name_text(const struct store_name *n, char out[STORE_NAME_MAX]);
/* How much a tag is wanted when none was given, lower first: Q4_K_M, Q8_0, … */
unsigned store_tag_rank(const char *tag);
/* May this be a file of a model: relative, in a few folders, no "..", nothing hidden, no control
 * character? */
bool store_path_ok(const char *path);

struct store_file {
    char    *path;              /* relative to the model's folder */
    uint64_t size;
    bool     has_sha256;
    uint8_t  sha256[SHA256_BYTES];
};

struct store_model {
    char   name[STORE_NAME_MAX];        /* ORG/REPO:TAG */
    char  *folder, *path;               /* path: what to open, a file or the folder */
    char  *hub;
    char   format[16];                  /* "gguf", "safetensors" */
    char   revision[STORE_PART_MAX], commit[STORE_PART_MAX];
    char   pulled[32];                  /* RFC 3339 */
    char   digest[2 * SHA256_BYTES + 1];    /* of all files; what Ollama's clients call a digest */
    uint64_t bytes;
    struct store_file *files;           /* [n_files] */
    size_t n_files;
};
void store_model_deinit(struct store_model *m);     /* a zeroed one is fine */

/* dir NULL: $WATT_STORE, else $XDG_DATA_HOME/watt/models, else ~/.local/share/watt/models. Makes
 * nothing yet; WATT_EINVAL when there is no home. */
int  store_open(struct store **out, const char *dir, struct err *e) MUST_CHECK;
void store_close(struct store *s);      /* NULL is fine */
const char *store_dir(const struct store *s);

/* Every whole model, in order of names; each() other than 0 stops. One whose manifest is damaged is
 * told to bad(), which may be NULL. */
int  store_list(const struct store *s, int (*each)(void *ctx, const struct store_model *m),
                void (*bad)(void *ctx, const struct err *why), void *ctx, struct err *e) MUST_CHECK;
/* By an alias or a name. WATT_ENOENT. */
int  store_find(const struct store *s, const char *name, struct store_model *out,
                struct err *e) MUST_CHECK;
/* Takes an alias away, or a model with its aliases, or what is left of one that was not fetched to
 * the end; *freed bytes (0 for an alias). WATT_ENOENT; WATT_EBUSY: it is being fetched. */
int  store_remove(const struct store *s, const char *name, uint64_t *freed, struct err *e) MUST_CHECK;

/* alias: letters, digits and "._:/-". Replaces. WATT_ENOENT: name isn't there. */
int  store_alias(const struct store *s, const char *alias, const char *name,
                 struct err *e) MUST_CHECK;
int  store_aliases(const struct store *s, int (*each)(void *ctx, const char *alias, const char *name),
                   void *ctx, struct err *e) MUST_CHECK;

/* ---- for whoever fetches ---- */

struct store_draft {            /* zero it first */
    char *folder;               /* where to write; what an earlier try left is there */
    int   lock_fd;
    bool  open;
};
/* WATT_EBUSY: somebody else is fetching it. n has a tag. What is left of other versions than commit
 * is removed. */
int  store_begin(const struct store *s, const struct store_name *n, const char *commit,
                 struct store_draft *d, struct err *e) MUST_CHECK;
/* Writes the manifest (m's folder, path and digest are not read; model: what to open, relative, ""
 * for the folder) and puts the model in its place. */
int  store_commit(const struct store *s, const struct store_name *n, struct store_draft *d,
                  const struct store_model *m, const char *model, struct err *e) MUST_CHECK;
/* Lets go; what was fetched stays for the next try. */
void store_end(struct store_draft *d);
/* Versions that were not fetched to the end. */
int  store_partials(const struct store *s, int (*each)(void *ctx, const char *name, uint64_t bytes),
                    void *ctx, struct err *e) MUST_CHECK;

/* ---- for whoever opens models ---- */

/* A path that exists is itself; else a name in the default store is its model's path. *path is the
 * caller's to mem_free. WATT_ENOENT, with what could be done when it looks like a name. */
int  store_resolve(const char *given, char **path, struct err *e) MUST_CHECK;

/* A manifest's text, for the fuzzer; the paths of out are relative to folder. */
int  store_manifest_parse(struct store_model *out, const char *folder, const char *text, size_t n,
                          struct err *e) MUST_CHECK;

#endif
