/* download.h: files over HTTP into a folder: several connections, resumed where they were left,
 * checked by size and SHA-256.
 *
 * A file NAME is fetched in ranges into NAME.part; NAME.state beside it has a byte per MiB that is
 * there, so a process that is killed at any instruction loses what was in flight and no more. A
 * server that knows no ranges is read from the beginning. The whole file is hashed before it gets
 * its name; one that doesn't fit its hash is thrown away. A passing failure (a connection that
 * breaks, 5xx, 429) is tried again, up to DOWNLOAD_TRIES times in a row without a byte.
 *
 * One call, one thread. */
#ifndef INFRASTRUCTURE_DOWNLOAD_H
#define INFRASTRUCTURE_DOWNLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/sha256.h"

#define DOWNLOAD_TRIES 6u
#define DOWNLOAD_MAX_CONNECTIONS 32u
#define DOWNLOAD_SIZE_UNKNOWN UINT64_MAX

struct http_client;

struct download_file {
    const char *url;
    const char *path;           /* in the folder; its own folders are made */
    uint64_t    size;           /* DOWNLOAD_SIZE_UNKNOWN is asked for and then set */
    bool        has_sha256;
    uint8_t     sha256[SHA256_BYTES];
};

enum download_phase { DOWNLOAD_FETCHING, DOWNLOAD_VERIFYING };

struct download_opts {          /* zero means the default */
    const char *bearer;         /* token for the server of the URLs; NULL: none */
    unsigned    n_connections;  /* default 4 */
    uint64_t    stall_ms;       /* of a connection; default 30 s */
    uint64_t    retry_ms;       /* before the first new try, then doubled; default 1 s */
    /* A few times a second; done and total of all files. Other than 0 stops with WATT_ECANCEL. */
    int       (*progress)(void *ctx, enum download_phase phase, const char *path, uint64_t done,
                          uint64_t total);
    void       *ctx;
};

/* Those that are there whole are left alone. WATT_EIO, with what is kept when the disk is full;
 * WATT_ENOENT, WATT_EINVAL (401, 403) as the server says; WATT_EFORMAT size or hash is another. */
int  download_files(struct http_client *c, const char *folder, struct download_file *files, size_t n,
                    const struct download_opts *o, struct err *e) MUST_CHECK;

#endif
