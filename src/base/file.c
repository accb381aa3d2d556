/* file.c: mapped files, whole files, atomic replacement; see file.h. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/str.h"

#define READ_BYTES ((size_t)1 << 16)

static int open_regular(const char *path, int *fd, size_t *size, struct err *e)
{
    struct stat st;
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);   /* a FIFO must not hang us */

    if (f < 0)
        return err_errno(e, errno == ENOENT ? WATT_ENOENT : WATT_EIO, errno, "%s", path);
    if (fault_hit(FAULT_READ) ? (errno = EIO, true) : fstat(f, &st) != 0) {
        int rc = err_errno(e, WATT_EIO, errno, "%s", path);

        (void)close(f);
        return rc;
    }
    if (!S_ISREG(st.st_mode)) {
        (void)close(f);
        return err_set(e, WATT_EINVAL, "%s: %s, not a regular file", path,
                       S_ISDIR(st.st_mode) ? "is a directory" : "is special");
    }
    *fd = f;
    *size = (size_t)st.st_size;
    return 0;
}

int file_map_open(struct file_map *m, const char *path, struct err *e)
{
    size_t size = 0;
    void *data = NULL;
    int fd = -1;
    int rc = open_regular(path, &fd, &size, e);

    if (rc < 0)
        return rc;
    if (size > 0) {
        data = fault_hit(FAULT_READ) ? (errno = ENOMEM, MAP_FAILED)
                                     : mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) {
            rc = err_errno(e, WATT_EIO, errno, "%s: cannot map %zu bytes", path, size);
            (void)close(fd);
            return rc;
        }
    }
    *m = (struct file_map){ data, size, fd };
    return 0;
}

void file_map_close(struct file_map *m)
{
    if (m->data) {
        (void)munmap((void *)(uintptr_t)m->data, m->size);
        (void)close(m->fd);
    } else if (m->fd > 0) {
        (void)close(m->fd);
    }
    *m = (struct file_map){ .fd = -1 };
}

void file_map_forget(const struct file_map *m, size_t offset, size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t end, start;

    if (!add_size(offset, size, &end) || end > m->size)
        return;
    start = (offset + page - 1) / page * page;
    end = end / page * page;
    if (start < end)
        (void)madvise((void *)(uintptr_t)(m->data + start), end - start, MADV_DONTNEED);
}

/* room: what is read at once; the size of the file and one more, when known. */
static int read_all(int fd, const char *path, size_t max_bytes, size_t room, struct str *s,
                    struct err *e)
{
    for (;;) {
        ssize_t n;

        if (s->len > max_bytes)
            return err_set(e, WATT_ELIMIT, "%s: longer than %zu bytes", path, max_bytes);
        if (!str_reserve(s, room))
            return err_set(e, WATT_ENOMEM, "%s: out of memory while reading", path);
        n = fault_hit(FAULT_READ) ? (errno = EIO, -1) : read(fd, s->data + s->len, room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, WATT_EIO, errno, "%s", path);
        if (n == 0)
            return 0;
        s->len += (size_t)n;
        if (room > READ_BYTES)
            room = READ_BYTES;    /* the file is growing under us */
    }
}

int file_read(const char *path, size_t max_bytes, char **data, size_t *size, struct err *e)
{
    const bool from_stdin = strcmp(path, "-") == 0;
    size_t known = 0;
    struct str s;
    int fd = STDIN_FILENO, rc;

    if (!from_stdin) {
        rc = open_regular(path, &fd, &known, e);
        if (rc < 0)
            return rc;
    }
    str_init(&s, SIZE_MAX - 1);
    if (known > max_bytes)
        rc = err_set(e, WATT_ELIMIT, "%s: %zu bytes, at most %zu are read", path, known, max_bytes);
    else
        rc = read_all(fd, path, max_bytes, known >= READ_BYTES ? known + 1 : READ_BYTES, &s, e);
    if (!from_stdin)
        (void)close(fd);
    if (rc == 0) {
        char *taken = str_take(&s, size);

        if (taken)
            *data = taken;
        else
            rc = err_set(e, WATT_ENOMEM, "%s: out of memory while reading", path);
    }
    str_deinit(&s);
    return rc;
}

/* Is the name, without following a link, that very file? Links of /proc (/dev/stdout leads to one)
 * point to files that have lost their names: replacing "a name" there would replace the link. */
static bool names_file(const char *path, const struct stat *st)
{
    struct stat seen;

    return lstat(path, &seen) == 0 && seen.st_dev == st->st_dev && seen.st_ino == st->st_ino;
}

/* What is there already: a regular file is replaced (through a symbolic link,
 * the file it points to), a folder is an error, anything else (a terminal, a
 * pipe, /dev/null, an open file without a name) is written into. */
static int look_at_target(struct file_new *n, const char *path, bool *special, struct err *e)
{
    char resolved[PATH_MAX];
    struct stat st;

    *special = false;
    if (stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return err_set(e, WATT_EINVAL, "%s: is a directory", path);
        *special = !S_ISREG(st.st_mode) || !realpath(path, resolved) || !names_file(resolved, &st);
        n->path = mem_strdup(*special ? path : resolved);
    } else {
        n->path = mem_strdup(path);
    }
    return n->path ? 0 : err_set(e, WATT_ENOMEM, "%s: out of memory", path);
}

/* A name beside n->path that nobody has, into n->temp. */
static int name_temp(struct file_new *n, struct err *e)
{
    struct str temp;
    uint32_t r;

    if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
        r = (uint32_t)getpid();
    str_init(&temp, 0);
    str_printf(&temp, "%s.%08x.part", n->path, r);
    mem_free(n->temp);
    n->temp = str_take(&temp, NULL);
    str_deinit(&temp);
    return n->temp ? 0 : err_set(e, WATT_ENOMEM, "%s: out of memory", n->path);
}

#define TEMP_TRIES 100

static int open_named(struct file_new *n, int *fd, struct err *e)
{
    for (int i = 0; i < TEMP_TRIES; i++) {
        int rc = name_temp(n, e);

        if (rc < 0)
            return rc;
        *fd = open(n->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (*fd >= 0)
            return 0;
        if (errno != EEXIST)
            break;
    }
    mem_free(n->temp);     /* not ours: abort must not unlink it */
    n->temp = NULL;
    return err_errno(e, WATT_EIO, errno, "%s: cannot create a file there", n->path);
}

/* A file without a name in the folder of n->path: even kill -9 leaves nothing.
 * Returns -1 where the file system has no such files. */
static int open_nameless(const struct file_new *n)
{
    const char *slash = strrchr(n->path, '/');
    size_t len = slash ? (size_t)(slash - n->path) : 0;
    char folder[PATH_MAX] = ".";

    if (slash && len == 0)
        len = 1;           /* "/x" lies in "/" */
    if (len >= sizeof folder)
        return -1;
    if (slash) {
        memcpy(folder, n->path, len);
        folder[len] = '\0';
    }
    return open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
}

int file_new_open(struct file_new *n, const char *path, struct err *e)
{
    bool special;
    int fd = -1, rc;

    *n = (struct file_new){ 0 };
    rc = look_at_target(n, path, &special, e);
    if (rc < 0)
        goto fail;
    if (special) {
        fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
        n->direct = true;
        if (fd < 0)
            rc = err_errno(e, WATT_EIO, errno, "%s", path);
    } else {
        fd = open_nameless(n);
        if (fd < 0)
            rc = open_named(n, &fd, e);
    }
    if (rc < 0)
        goto fail;
    n->f = fdopen(fd, "wb");
    if (!n->f) {
        (void)close(fd);
        rc = err_set(e, WATT_ENOMEM, "%s: out of memory", path);
        goto fail;
    }
    return 0;
fail:
    file_new_abort(n);
    return rc;
}

int file_new_write(struct file_new *n, const void *data, size_t size, struct err *e)
{
    if (size == 0)
        return 0;
    if (fault_hit(FAULT_WRITE))
        return err_errno(e, WATT_EIO, ENOSPC, "%s: cannot write", n->path);
    if (fwrite(data, 1, size, n->f) != size)
        return err_errno(e, WATT_EIO, errno, "%s: cannot write", n->path);
    return 0;
}

/* Everything on the disk, or an error. Pipes and terminals can't be synced. */
static int flush(struct file_new *n, struct err *e)
{
    bool bad;

    errno = EIO;           /* an earlier fwrite by stdio may have failed: its errno is gone */
    bad = fault_hit(FAULT_WRITE) || ferror(n->f) || fflush(n->f) != 0 ||
          (!n->direct && fsync(fileno(n->f)) != 0 && errno != EINVAL && errno != ENOTSUP);
    return bad ? err_errno(e, WATT_EIO, errno, "%s: cannot write", n->path) : 0;
}

/* Gives a nameless file a name, so that it can be renamed over the old one. */
static int link_nameless(struct file_new *n, struct err *e)
{
    char self[64];

    (void)snprintf(self, sizeof self, "/proc/self/fd/%d", fileno(n->f));
    for (int i = 0; i < TEMP_TRIES; i++) {
        int rc = name_temp(n, e);

        if (rc < 0)
            return rc;
        if (linkat(AT_FDCWD, self, AT_FDCWD, n->temp, AT_SYMLINK_FOLLOW) == 0)
            return 0;
        if (errno != EEXIST)
            break;
    }
    mem_free(n->temp);
    n->temp = NULL;
    return err_errno(e, WATT_EIO, errno, "%s: cannot create a file there", n->path);
}

/* So that the new name survives a power cut; best effort, the data is safe. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX] = ".";
    int fd;

    if (slash && (size_t)(slash - path) < sizeof folder) {
        size_t len = slash == path ? 1 : (size_t)(slash - path);

        memcpy(folder, path, len);
        folder[len] = '\0';
    }
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
}

int file_new_commit(struct file_new *n, struct err *e)
{
    int rc = flush(n, e);

    if (rc == 0 && !n->direct && !n->temp)
        rc = link_nameless(n, e);
    if (fclose(n->f) != 0 && rc == 0)
        rc = err_errno(e, WATT_EIO, errno, "%s: cannot write", n->path);
    n->f = NULL;
    if (rc == 0 && !n->direct && rename(n->temp, n->path) != 0)
        rc = err_errno(e, WATT_EIO, errno, "%s: cannot rename %s to it", n->path, n->temp);
    if (rc == 0) {
        mem_free(n->temp);
        n->temp = NULL;
        if (!n->direct)
            sync_folder(n->path);
    }
    file_new_abort(n);
    return rc;
}

void file_new_abort(struct file_new *n)
{
    if (n->f)
        (void)fclose(n->f);
    if (n->temp)
        (void)unlink(n->temp);
    mem_free(n->temp);
    mem_free(n->path);
    *n = (struct file_new){ 0 };
}

int file_write(const char *path, const void *data, size_t size, struct err *e)
{
    struct file_new n;
    int rc = file_new_open(&n, path, e);

    if (rc < 0)
        return rc;
    rc = file_new_write(&n, data, size, e);
    if (rc == 0)
        return file_new_commit(&n, e);
    file_new_abort(&n);
    return rc;
}
