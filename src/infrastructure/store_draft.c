/* store_draft.c: models that are being fetched, each under a lock of its own. */
#include "infrastructure/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/mem.h"

/* ---- drafts ---- */

struct draft_list { char **names; size_t n; };

/* Folders of .partial whose names begin so. */
static int list_drafts(const struct store *s, const char *front, struct draft_list *l, struct err *e)
{
    char *path = store_join("%s/" STORE_PARTIAL, s->dir);
    DIR *d = path ? opendir(path) : NULL;
    int rc = path ? 0 : err_set(e, WATT_ENOMEM, "%s", s->dir);

    *l = (struct draft_list){ 0 };
    for (const struct dirent *x; rc == 0 && d && (x = readdir(d));) {
        const size_t n = strlen(x->d_name);
        char **bigger;

        if (*x->d_name == '.' || strncmp(x->d_name, front, strlen(front)) != 0 ||
            !strstr(x->d_name, "--") || (n > 5 && strcmp(x->d_name + n - 5, ".lock") == 0))
            continue;
        bigger = l->n < STORE_MAX_ENTRIES ? mem_grow(l->names, l->n + 1, sizeof *bigger) : NULL;
        if (bigger)
            l->names = bigger;
        if (bigger && (l->names[l->n] = mem_strdup(x->d_name)))
            l->n++;
        else
            rc = err_set(e, WATT_ENOMEM, "%s", path);
    }
    if (d)
        (void)closedir(d);
    mem_free(path);
    if (rc < 0) {
        store_free_names(l->names, l->n);
        *l = (struct draft_list){ 0 };
    } else if (l->n > 0) {
        qsort(l->names, l->n, sizeof *l->names, store_by_text);
    }
    return rc;
}

/* Those of n but for `keep`; under n's lock. */
static int remove_drafts(const struct store *s, const struct store_name *n, const char *keep,
                         uint64_t *freed, struct err *e)
{
    char *front = store_join("%s--%s--%s--", n->org, n->repo, n->tag);
    struct draft_list l;
    int rc = front ? list_drafts(s, front, &l, e) : err_set(e, WATT_ENOMEM, "%s", s->dir);

    mem_free(front);
    *freed = 0;
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        char *path = store_join("%s/" STORE_PARTIAL "/%s", s->dir, l.names[i]);

        if (path && strcmp(l.names[i], keep) != 0) {
            *freed += store_tree_bytes(AT_FDCWD, path, STORE_MAX_DEPTH + 2);
            rc = store_remove_tree(AT_FDCWD, path, STORE_MAX_DEPTH + 2, e);
        }
        mem_free(path);
    }
    store_free_names(l.names, l.n);
    return rc;
}

static int lock_draft(const struct store *s, const struct store_name *n, int *fd, struct err *e)
{
    char *bin = store_join("%s/" STORE_PARTIAL, s->dir);
    char *lock = store_join("%s/" STORE_PARTIAL "/%s--%s--%s.lock", s->dir, n->org, n->repo, n->tag);
    int rc = bin && lock ? store_make_folder(bin, e) : err_set(e, WATT_ELIMIT, "%s: too long", s->dir);

    *fd = -1;
    if (rc == 0) {
        *fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (*fd < 0)
            rc = err_errno(e, WATT_EIO, errno, "%s", lock);
        else if (flock(*fd, LOCK_EX | LOCK_NB) < 0)
            rc = err_set(e, WATT_EBUSY, "%s/%s:%s is being fetched already", n->org, n->repo, n->tag);
    }
    mem_free(bin);
    mem_free(lock);
    return rc;
}

/* What is left of a fetch; nothing is WATT_ENOENT. */
int store_remove_partial(const struct store *s, const char *name, uint64_t *freed, struct err *e)
{
    struct store_name n;
    int fd, rc = store_name_parse(&n, name, NULL);

    if (rc < 0 || !*n.tag)
        return WATT_ENOENT;
    rc = lock_draft(s, &n, &fd, e);
    if (rc == 0)
        rc = remove_drafts(s, &n, "", freed, e);
    if (fd >= 0)
        (void)close(fd);
    return rc == 0 && *freed == 0 ? WATT_ENOENT : rc;
}

/* ---- fetching ---- */

int store_begin(const struct store *s, const struct store_name *n, const char *commit,
                struct store_draft *d, struct err *e)
{
    uint64_t freed;
    int rc;

    *d = (struct store_draft){ .lock_fd = -1, .open = true };
    d->folder = store_join("%s/" STORE_PARTIAL "/%s--%s--%s--%.12s", s->dir, n->org, n->repo, n->tag, commit);
    rc = d->folder ? 0 : err_set(e, WATT_ELIMIT, "%s: too long", s->dir);
    if (rc == 0)
        rc = lock_draft(s, n, &d->lock_fd, e);
    if (rc == 0)
        rc = remove_drafts(s, n, strrchr(d->folder, '/') + 1, &freed, e);
    if (rc == 0)
        rc = store_make_folder(d->folder, e);
    if (rc < 0)
        store_end(d);
    return rc;
}

/* A rename to a folder that is not empty fails: then an older version of the model is there. */
static int put_in_place(const struct store *s, const char *from, const char *repo, const char *to,
                        struct err *e)
{
    int lock, rc = store_lock(s, &lock, e);

    if (rc == 0)                                /* under the lock nobody takes repo away, empty */
        rc = store_make_folder(repo, e);
    if (rc == 0 && rename(from, to) < 0) {
        rc = errno == ENOTEMPTY || errno == EEXIST ? store_drop_model(s, to, e) : 0;
        if (rc == 0)
            rc = store_make_folder(repo, e);
        if (rc == 0 && rename(from, to) < 0)
            rc = err_errno(e, WATT_EIO, errno, "%s", to);
    }
    store_unlock(lock);
    return rc;
}

int store_commit(const struct store *s, const struct store_name *n, struct store_draft *d,
                 const struct store_model *m, const char *model, struct err *e)
{
    char *manifest = store_join("%s/" STORE_MANIFEST, d->folder), *repo = store_join("%s/%s/%s", s->dir, n->org, n->repo);
    char *to = store_join("%s/%s/%s/%s", s->dir, n->org, n->repo, n->tag);
    int rc = manifest && repo && to ? store_write_json(manifest, store_manifest_json(n, m, model), e)
                                    : err_set(e, WATT_ELIMIT, "%s: too long", s->dir);

    if (rc == 0)
        rc = put_in_place(s, d->folder, repo, to, e);
    mem_free(manifest);
    mem_free(repo);
    mem_free(to);
    return rc;
}

void store_end(struct store_draft *d)
{
    if (!d->open)
        return;
    if (d->lock_fd >= 0)
        (void)close(d->lock_fd);
    mem_free(d->folder);
    *d = (struct store_draft){ .lock_fd = -1 };
}

int store_partials(const struct store *s, int (*each)(void *ctx, const char *name, uint64_t bytes),
                   void *ctx, struct err *e)
{
    struct draft_list l;
    int rc = list_drafts(s, "", &l, e);

    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        char *path = store_join("%s/" STORE_PARTIAL "/%s", s->dir, l.names[i]);
        char name[STORE_NAME_MAX] = "";
        const char *p = l.names[i];

        for (unsigned k = 0; *p && k < 3; k++) {        /* ORG--REPO--TAG--COMMIT */
            const char *end = strstr(p, "--");
            const size_t n = end ? (size_t)(end - p) : strlen(p), have = strlen(name);

            (void)snprintf(name + have, sizeof name - have, "%s%.*s", k == 1 ? "/" : k == 2 ? ":" : "",
                           (int)n, p);
            p = end ? end + 2 : p + n;
        }
        if (!path)
            rc = err_set(e, WATT_ENOMEM, "%s", s->dir);
        else if (each(ctx, name, store_tree_bytes(AT_FDCWD, path, STORE_MAX_DEPTH + 2)) != 0)
            i = l.n - 1;
        mem_free(path);
    }
    store_free_names(l.names, l.n);
    return rc;
}
