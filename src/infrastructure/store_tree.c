/* store_tree.c: folders made, listed, measured and removed; no link is followed. */
#include "infrastructure/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

char *store_join(const char *fmt, ...)
{
    char buf[4096];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(buf, sizeof buf, fmt, args);
    va_end(args);
    return n > 0 && (size_t)n < sizeof buf ? mem_strdup(buf) : NULL;
}

/* With every folder above it. */
int store_make_folder(const char *path, struct err *e)
{
    char *p = mem_strdup(path);
    int rc = p ? 0 : err_set(e, WATT_ENOMEM, "%s", path);

    for (char *s = p ? p + 1 : NULL; rc == 0 && s; s = s ? s + 1 : NULL) {
        s = strchr(s, '/');
        if (s)
            *s = '\0';
        if (mkdir(p, 0777) < 0 && errno != EEXIST)
            rc = err_errno(e, WATT_EIO, errno, "%s: can't be made", p);
        if (s)
            *s = '/';
    }
    mem_free(p);
    return rc;
}

/* With everything in it; follows no link. */
int store_remove_tree(int at, const char *name, int depth, struct err *e)
{
    const int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    int rc = 0;

    if (!d) {
        const int why = errno;

        if (fd >= 0)
            (void)close(fd);
        if (why == ENOENT)
            return 0;
        return err_errno(e, WATT_EIO, why, "%s: can't be removed", name);
    }
    for (const struct dirent *x; rc == 0 && (x = readdir(d));) {
        struct stat st;

        if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0)
            continue;
        if (fstatat(dirfd(d), x->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
            rc = depth > 0 ? store_remove_tree(dirfd(d), x->d_name, depth - 1, e)
                           : err_set(e, WATT_ELIMIT, "%s: folders too deep to remove", name);
        else if (unlinkat(dirfd(d), x->d_name, 0) < 0)
            rc = err_errno(e, WATT_EIO, errno, "%s/%s: can't be removed", name, x->d_name);
    }
    (void)closedir(d);
    if (rc == 0 && unlinkat(at, name, AT_REMOVEDIR) < 0)
        rc = err_errno(e, WATT_EIO, errno, "%s: can't be removed", name);
    return rc;
}

/* Bytes on the disk; what can't be read counts nothing. */
uint64_t store_tree_bytes(int at, const char *name, int depth)
{
    const int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    uint64_t sum = 0;

    if (!d && fd >= 0)
        (void)close(fd);
    for (const struct dirent *x; d && (x = readdir(d));) {
        struct stat st;

        if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0 ||
            fstatat(dirfd(d), x->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (!S_ISDIR(st.st_mode))
            sum += (uint64_t)st.st_blocks * 512;
        else if (depth > 0)
            sum += store_tree_bytes(dirfd(d), x->d_name, depth - 1);
    }
    if (d)
        (void)closedir(d);
    return sum;
}

int store_by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void store_free_names(char **v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        mem_free(v[i]);
    mem_free(v);
}

/* The folders in a folder, sorted; a missing one has none. */
int store_list_folder(const char *path, char ***out, size_t *n_out, struct err *e)
{
    DIR *d = opendir(path);
    char part[STORE_PART_MAX], **v = NULL;
    size_t n = 0;
    int rc = 0;

    *out = NULL;
    *n_out = 0;
    if (!d && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    if (!d)
        return err_errno(e, WATT_EIO, errno, "%s", path);
    for (const struct dirent *x; rc == 0 && (x = readdir(d));) {
        char **bigger;

        if (!store_copy_part(part, x->d_name, strlen(x->d_name)) || x->d_type == DT_REG)
            continue;
        bigger = n < STORE_MAX_ENTRIES ? mem_grow(v, n + 1, sizeof *v) : NULL;
        if (bigger)
            v = bigger;
        if (bigger && (v[n] = mem_strdup(part)))
            n++;
        else
            rc = err_set(e, WATT_ENOMEM, "%s: too many entries", path);
    }
    (void)closedir(d);
    if (rc < 0) {
        store_free_names(v, n);
        return rc;
    }
    if (n > 0)
        qsort(v, n, sizeof *v, store_by_text);
    *out = v;
    *n_out = n;
    return 0;
}
