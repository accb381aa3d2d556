/* store_internal.h: shared by the files of the store: store.c (models that are there),
 * store_manifest.c (names and manifests), store_draft.c (what is being fetched), store_tree.c
 * (folders). */
#ifndef INFRASTRUCTURE_STORE_INTERNAL_H
#define INFRASTRUCTURE_STORE_INTERNAL_H

#include <jansson.h>

#include "infrastructure/store.h"

#define STORE_MANIFEST    "manifest.json"
#define STORE_PARTIAL     ".partial"
#define STORE_MAX_ENTRIES 100000u       /* of a folder */
#define STORE_MAX_DEPTH   6             /* of a model's folders */

struct store {
    char *dir;
};

/* ---- store_tree.c ---- */

/* A path; the caller's to mem_free. NULL: over 4 KiB, or no memory. */
char    *store_join(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* With every folder above it. */
int      store_make_folder(const char *path, struct err *e) MUST_CHECK;
/* With everything in it, at most so deep; follows no link. A missing one is no failure. */
int      store_remove_tree(int at, const char *name, int depth, struct err *e) MUST_CHECK;
/* Bytes on the disk; what can't be read counts nothing. */
uint64_t store_tree_bytes(int at, const char *name, int depth);
/* The folders in a folder, sorted; a missing one has none. */
int      store_list_folder(const char *path, char ***out, size_t *n_out, struct err *e) MUST_CHECK;
void     store_free_names(char **v, size_t n);
int      store_by_text(const void *a, const void *b);      /* of char *, for qsort */

/* ---- store_manifest.c ---- */

/* May it stand in a name? */
bool     store_name_char(char c);
/* Takes n bytes for a part of a name; false: they can't be one. */
bool     store_copy_part(char out[STORE_PART_MAX], const char *s, size_t n);
int      store_load_manifest(struct store_model *out, const char *folder, struct err *e) MUST_CHECK;
json_t  *store_manifest_json(const struct store_name *n, const struct store_model *m,
                             const char *model);
/* Replaces the file; takes j over, which may be NULL (no memory). */
int      store_write_json(const char *path, json_t *j, struct err *e) MUST_CHECK;

/* ---- store_draft.c ---- */

/* What is left of a fetch; nothing is WATT_ENOENT. */
int      store_remove_partial(const struct store *s, const char *name, uint64_t *freed,
                              struct err *e) MUST_CHECK;

/* ---- store.c ---- */

/* Whoever changes names, puts models in their places or takes them away does so alone, among
 * threads and processes. *fd is for store_unlock, also after a failure. */
int      store_lock(const struct store *s, int *fd, struct err *e) MUST_CHECK;
void     store_unlock(int fd);
/* Takes away the model in a folder; under the lock. WATT_ENOENT. */
int      store_drop_model(const struct store *s, const char *folder, struct err *e) MUST_CHECK;

#endif
