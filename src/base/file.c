/* file.c: mapped files, whole files, atomic replacement; see file.h. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/str.h"

static int open_regular(const char *path, int *fd, size_t *size, struct err *e)
{
    struct stat st;
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);   /* a FIFO must not hang us */

    if (f < 0)
        return err_errno(e, errno == ENOENT ? WATT_ENOENT : WATT_EIO, errno, "%s", path);
    if (fstat(f, &st) != 0) {
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
        data = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED || fault_hit(FAULT_READ)) {
            if (data != MAP_FAILED)
                (void)munmap(data, size);
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

static int read_all(int fd, const char *path, size_t max_bytes, struct str *s, struct err *e)
{
    for (;;) {
        size_t room = 1 << 16;
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
    }
}

int file_read(const char *path, size_t max_bytes, char **data, size_t *size, struct err *e)
{
    const int from_stdin = strcmp(path, "-") == 0;
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
        rc = read_all(fd, path, max_bytes, &s, e);
    if (!from_stdin)
        (void)close(fd);
    if (rc == 0) {
        *data = str_take(&s, size);
        if (!*data)
            rc = err_set(e, WATT_ENOMEM, "%s: out of memory while reading", path);
    }
    str_deinit(&s);
    return rc;
}

int file_new_open(struct file_new *n, const char *path, struct err *e)
{
    struct str temp;
    int fd;

    *n = (struct file_new){ 0 };
    str_init(&temp, 0);
    str_printf(&temp, "%s.XXXXXX", path);
    n->path = mem_strdup(path);
    n->temp = str_take(&temp, NULL);
    str_deinit(&temp);
    if (!n->path || !n->temp) {
        file_new_abort(n);
        return err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    }
    fd = mkostemp(n->temp, O_CLOEXEC);
    if (fd < 0) {
        int rc = err_errno(e, WATT_EIO, errno, "%s: cannot create a file there", path);

        mem_free(n->temp);
        n->temp = NULL;
        file_new_abort(n);
        return rc;
    }
    /* mkostemp makes 0600; give what open() would have given */
    mode_t mask = umask(0);
    (void)umask(mask);
    (void)fchmod(fd, 0666 & ~mask);
    n->f = fdopen(fd, "wb");
    if (!n->f) {
        (void)close(fd);
        file_new_abort(n);
        return err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    }
    return 0;
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

int file_new_commit(struct file_new *n, struct err *e)
{
    int rc = 0;

    if (fflush(n->f) != 0 || fsync(fileno(n->f)) != 0)
        rc = err_errno(e, WATT_EIO, errno, "%s: cannot write", n->path);
    if (fclose(n->f) != 0 && rc == 0)
        rc = err_errno(e, WATT_EIO, errno, "%s: cannot write", n->path);
    n->f = NULL;
    if (rc == 0 && rename(n->temp, n->path) != 0)
        rc = err_errno(e, WATT_EIO, errno, "%s: cannot rename %s to it", n->path, n->temp);
    if (rc == 0) {
        mem_free(n->temp);
        n->temp = NULL;
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
