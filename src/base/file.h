/* file.h: mapped and whole-file reading, and atomic replacement.
 *
 * Messages name the path. A directory, a device or a pipe where a regular file
 * is wanted is WATT_EINVAL; a missing file WATT_ENOENT; others WATT_EIO. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

/* A read-only mapping of a whole regular file. An empty file has data NULL.
 * Who shortens the file while it is mapped ends the process (SIGBUS): replace
 * files, as file_new does, and never rewrite them in place. */
struct file_map {
    const uint8_t *data;
    size_t         size;
    int            fd;      /* stays open, so that pread() can go around the mapping */
};

int  file_map_open(struct file_map *m, const char *path, struct err *e) MUST_CHECK;
void file_map_close(struct file_map *m);    /* a zeroed or closed map is fine */
/* Tells the kernel that this range won't be read again soon: its pages stop
 * counting as ours. Ranges are shrunk to whole pages. */
void file_map_forget(const struct file_map *m, size_t offset, size_t size);

/* Reads a whole file into memory (mem_free it; NUL after the last byte, not
 * counted). More than max_bytes is WATT_ELIMIT. "-" is standard input. */
int file_read(const char *path, size_t max_bytes, char **data, size_t *size,
              struct err *e) MUST_CHECK;

/* A new version of a file: readers see the old one or the new one, and a
 * failure leaves no trace. It is written to a file that has no name until
 * commit (where the file system knows such files; else to PATH.xxxxxxxx.part),
 * then renamed over the old one; a symbolic link stays, and the file it points
 * to is replaced. A device or a pipe (/dev/null), or what /dev/stdout leads to where that
 * has no name, is written into directly. */
struct file_new {
    FILE *f;            /* write here with file_new_write or stdio; seekable unless direct */
    char *path, *temp;  /* temp: NULL while nameless */
    bool  direct;
};

int  file_new_open(struct file_new *n, const char *path, struct err *e) MUST_CHECK;
int  file_new_write(struct file_new *n, const void *data, size_t size, struct err *e) MUST_CHECK;
/* Flushes, syncs, renames; errors of earlier writes by stdio count too. On
 * failure the temporary file is gone. */
int  file_new_commit(struct file_new *n, struct err *e) MUST_CHECK;
void file_new_abort(struct file_new *n);    /* after commit or a zeroed one: nothing */
/* Opens, writes and commits: the file is whole, or as it was. */
int  file_write(const char *path, const void *data, size_t size, struct err *e) MUST_CHECK;

#endif
