/* download.c: see download.h.
 *
 * All files' missing ranges are one list of work; a connection takes the first that is free, as
 * long a run as leaves the others something to do. */
#include "infrastructure/download.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "infrastructure/http_client.h"

#define BLOCK       ((uint64_t)1 << 20)
#define MAX_RUN     ((uint64_t)256 << 20)   /* of one request */
#define MIN_RUN     ((uint64_t)8 << 20)
#define MAGIC       "WATTDL1\n"
#define ETAG_BYTES  256u
#define STATE_HEAD  (8u + 8u + ETAG_BYTES)
#define MAX_SIZE    ((uint64_t)1 << 44)
#define NO_FILE     SIZE_MAX

enum block { BLOCK_MISSING, BLOCK_HERE, BLOCK_TAKEN };     /* TAKEN: never on disk */

struct file {
    struct download_file *d;
    char    *path, *part, *state;
    int      fd, state_fd;
    uint8_t *blocks;            /* [n_blocks] enum block */
    uint64_t n_blocks, n_missing;
    char     etag[ETAG_BYTES];
    bool     whole, no_ranges;  /* has its name; must come in one piece */
    unsigned n_busy;            /* connections */
};

struct run {                    /* what one connection fetches */
    struct job  *job;
    size_t       file;          /* NO_FILE: idle */
    uint64_t     first, at, end;        /* bytes; at: written so far */
    bool         moved;         /* a byte came */
    bool         asked_ranges, left;    /* left: nothing went wrong, but others go on with it */
};

struct job {
    struct http_client *c;
    const struct download_opts *o;
    const char  *folder;
    struct file *files;
    size_t       n_files;
    struct run   runs[DOWNLOAD_MAX_CONNECTIONS];
    unsigned     n_runs, n_failures;    /* in a row */
    uint64_t     done, total, not_before_ns;
    int          rc;
    struct err  *e;
};

static uint64_t block_bytes(const struct file *f, uint64_t i)
{
    const uint64_t left = f->d->size - i * BLOCK;

    return left < BLOCK ? left : BLOCK;
}

static int tell(struct job *j, enum download_phase phase, const char *path, uint64_t done)
{
    return j->o->progress ? j->o->progress(j->o->ctx, phase, path, done, j->total) : 0;
}

static int fail(struct job *j, int rc)
{
    if (j->rc == 0)
        j->rc = rc;
    return rc;
}

/* ---- the state on disk ---- */

static char *with_end(const char *folder, const char *path, const char *end)
{
    char buf[4096];
    const int n = snprintf(buf, sizeof buf, "%s/%s%s", folder, path, end);

    return n > 0 && (size_t)n < sizeof buf ? mem_strdup(buf) : NULL;
}

static int write_all(int fd, const void *data, size_t n, uint64_t at)
{
    const char *p = data;

    while (n > 0) {
        const ssize_t k = pwrite(fd, p, n, (off_t)at);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k < 0 ? errno : ENOSPC;
        p += k;
        n -= (size_t)k;
        at += (uint64_t)k;
    }
    return 0;
}

static int disk_failed(struct job *j, const struct file *f, int why)
{
    if (why == ENOSPC || why == EDQUOT || why == EFBIG)
        return fail(j, err_set(j->e, WATT_EIO, "%s: no room on the disk; %" PRIu64 " of %" PRIu64
                               " bytes are kept, and the next try goes on there", f->part, j->done,
                               j->total));
    return fail(j, err_errno(j->e, WATT_EIO, why, "%s", f->part));
}

/* Begins anew: an empty bitmap for this size. */
static int reset_state(struct job *j, struct file *f)
{
    uint8_t head[STATE_HEAD] = MAGIC;
    int why = ftruncate(f->state_fd, 0) < 0 || ftruncate(f->fd, 0) < 0 ? errno : 0;

    memset(f->blocks, BLOCK_MISSING, f->n_blocks);
    f->n_missing = f->n_blocks;
    memcpy(head + 8, &f->d->size, 8);
    memcpy(head + 16, f->etag, ETAG_BYTES);
    if (why == 0)
        why = write_all(f->state_fd, head, sizeof head, 0);
    return why ? disk_failed(j, f, why) : 0;
}

/* What an earlier try left, when it is of the same file. */
static bool read_state(struct file *f)
{
    uint8_t head[STATE_HEAD];
    uint64_t size;
    ssize_t n;

    if (pread(f->state_fd, head, sizeof head, 0) != (ssize_t)sizeof head ||
        memcmp(head, MAGIC, 8) != 0)
        return false;
    memcpy(&size, head + 8, 8);
    if (size != f->d->size)
        return false;
    memcpy(f->etag, head + 16, ETAG_BYTES);
    f->etag[ETAG_BYTES - 1] = '\0';
    for (const char *c = f->etag; *c; c++)
        if (*c < ' ' || *c > '~')
            f->etag[0] = '\0';
    n = pread(f->state_fd, f->blocks, f->n_blocks, STATE_HEAD);
    if (n < 0)
        return false;
    memset(f->blocks + n, BLOCK_MISSING, f->n_blocks - (uint64_t)n);
    f->n_missing = 0;
    for (uint64_t i = 0; i < f->n_blocks; i++) {
        f->blocks[i] = f->blocks[i] == BLOCK_HERE ? BLOCK_HERE : BLOCK_MISSING;
        f->n_missing += f->blocks[i] == BLOCK_MISSING;
    }
    return true;
}

static int note_block(struct job *j, struct file *f, uint64_t i)
{
    const uint8_t here = BLOCK_HERE;
    int why;

    if (f->blocks[i] == BLOCK_HERE)
        return 0;
    why = write_all(f->state_fd, &here, 1, STATE_HEAD + i);
    if (why)
        return disk_failed(j, f, why);
    f->blocks[i] = BLOCK_HERE;
    f->n_missing--;
    return 0;
}

static void note_etag(struct file *f, const char *etag)
{
    /* a weak tag can't be asked for with a range */
    if (f->etag[0] || !etag[0] || strncmp(etag, "W/", 2) == 0)
        return;
    (void)snprintf(f->etag, sizeof f->etag, "%s", etag);
    (void)write_all(f->state_fd, f->etag, ETAG_BYTES, 16);  /* only a hint */
}

/* ---- opening files ---- */

static int make_folders(const char *path, struct err *e)
{
    char *p = mem_strdup(path);
    int rc = p ? 0 : err_set(e, WATT_ENOMEM, "%s", path);

    for (char *s = p ? strchr(p + 1, '/') : NULL; rc == 0 && s; s = strchr(s + 1, '/')) {
        *s = '\0';
        if (mkdir(p, 0777) < 0 && errno != EEXIST)
            rc = err_errno(e, WATT_EIO, errno, "%s", p);
        *s = '/';
    }
    mem_free(p);
    return rc;
}

static int open_parts(struct job *j, struct file *f)
{
    const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    int rc = make_folders(f->path, j->e);

    if (rc < 0)
        return fail(j, rc);
    f->n_blocks = (f->d->size + BLOCK - 1) / BLOCK;
    f->blocks = mem_calloc(f->n_blocks ? f->n_blocks : 1, 1);
    if (!f->blocks)
        return fail(j, err_set(j->e, WATT_ENOMEM, "%s: %" PRIu64 " blocks", f->path, f->n_blocks));
    f->fd = open(f->part, flags, 0666);
    if (f->fd >= 0)
        f->state_fd = open(f->state, flags, 0666);
    if (f->fd < 0 || f->state_fd < 0)
        return fail(j, err_errno(j->e, WATT_EIO, errno, "%s", f->fd < 0 ? f->part : f->state));
    return read_state(f) ? 0 : reset_state(j, f);
}

/* A size that nobody told is asked for. */
static int ask_size(struct job *j, struct file *f)
{
    const struct http_client_request r = { .url = f->d->url, .method = "HEAD",
                                           .bearer = j->o->bearer };
    struct http_client_response a;
    int rc;

    if (f->d->size != DOWNLOAD_SIZE_UNKNOWN)
        return 0;
    rc = http_client_fetch(j->c, &r, &a, j->e);
    if (rc == 0)
        rc = http_client_refused(f->d->url, &a, j->e);
    if (rc == 0 && a.length == UINT64_MAX)
        rc = err_set(j->e, WATT_EFORMAT, "%s: the server doesn't tell the size", f->d->url);
    if (rc == 0)
        f->d->size = a.length;
    http_client_response_deinit(&a);
    return rc < 0 ? fail(j, rc) : 0;
}

static int file_open(struct job *j, struct file *f, struct download_file *d)
{
    struct stat st;
    int rc;

    f->d = d;
    f->fd = f->state_fd = -1;
    f->path = with_end(j->folder, d->path, "");
    f->part = with_end(j->folder, d->path, ".part");
    f->state = with_end(j->folder, d->path, ".state");
    if (!f->path || !f->part || !f->state)
        return fail(j, err_set(j->e, WATT_ELIMIT, "%.200s: the path is too long", d->path));
    rc = ask_size(j, f);
    if (rc < 0)
        return rc;
    if (d->size > MAX_SIZE)
        return fail(j, err_set(j->e, WATT_ELIMIT, "%s: %" PRIu64 " bytes, at most %" PRIu64,
                               d->path, d->size, MAX_SIZE));
    f->whole = stat(f->path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == d->size;
    return f->whole ? 0 : open_parts(j, f);
}

static void file_close(struct file *f)
{
    if (f->fd >= 0)
        (void)close(f->fd);
    if (f->state_fd >= 0)
        (void)close(f->state_fd);
    f->fd = f->state_fd = -1;
    mem_free(f->blocks);
    mem_free(f->path);
    mem_free(f->part);
    mem_free(f->state);
}

static void count(struct job *j)
{
    j->done = j->total = 0;
    for (size_t i = 0; i < j->n_files; i++) {
        const struct file *f = &j->files[i];

        j->total += f->d->size;
        if (f->whole) {
            j->done += f->d->size;
            continue;
        }
        for (uint64_t b = 0; b < f->n_blocks; b++)
            if (f->blocks[b] == BLOCK_HERE)
                j->done += block_bytes(f, b);
    }
}

/* Better now than at the last byte. */
static int check_room(struct job *j)
{
    const uint64_t left = j->total - j->done;
    struct statvfs st;
    uint64_t room;

    if (statvfs(j->folder, &st) < 0)
        return 0;
    room = (uint64_t)st.f_bavail * st.f_frsize;
    if (left <= room)
        return 0;
    return fail(j, err_set(j->e, WATT_EIO, "%s: no room on the disk: %" PRIu64 " bytes are to come, %"
                           PRIu64 " are free; %" PRIu64 " of %" PRIu64 " bytes are kept", j->folder,
                           left, room, j->done, j->total));
}

/* ---- one connection's work ---- */

static uint64_t run_bytes(const struct job *j)
{
    const uint64_t share = (j->total - j->done) / (2 * j->n_runs) / BLOCK * BLOCK;

    return share < MIN_RUN ? MIN_RUN : share > MAX_RUN ? MAX_RUN : share;
}

/* The first missing run of blocks; false: nothing is left to begin. */
static bool choose(struct job *j, struct run *r)
{
    const uint64_t most = run_bytes(j) / BLOCK;

    for (size_t i = 0; i < j->n_files; i++) {
        struct file *f = &j->files[i];
        uint64_t b = 0, n = 0;

        if (f->whole || (f->no_ranges && f->n_busy > 0))
            continue;
        while (!f->no_ranges && b < f->n_blocks && f->blocks[b] != BLOCK_MISSING)
            b++;
        if (b == f->n_blocks || f->n_missing == 0)
            continue;
        while (b + n < f->n_blocks &&
               (f->no_ranges || (n < most && f->blocks[b + n] == BLOCK_MISSING)))
            n++;
        for (uint64_t k = b; k < b + n; k++)
            if (f->blocks[k] == BLOCK_MISSING)
                f->blocks[k] = BLOCK_TAKEN;
        *r = (struct run){ .job = j, .file = i, .first = b * BLOCK, .at = b * BLOCK,
                           .end = b + n == f->n_blocks ? f->d->size : (b + n) * BLOCK };
        f->n_busy++;
        return true;
    }
    return false;
}

static void give_back(struct run *r)
{
    struct file *f = &r->job->files[r->file];

    for (uint64_t b = r->first / BLOCK; b * BLOCK < r->end; b++)
        if (f->blocks[b] == BLOCK_TAKEN)
            f->blocks[b] = BLOCK_MISSING;
    f->n_busy--;
    r->file = NO_FILE;
}

static int on_head(void *ctx, const struct http_client_response *a)
{
    struct run *r = ctx;
    struct job *j = r->job;
    struct file *f = &j->files[r->file];

    if (a->status >= 400)
        return 0;
    if (a->status == 206) {
        if (a->range_first != r->first ||
            (a->range_total != UINT64_MAX && a->range_total != f->d->size))
            return fail(j, err_set(j->e, WATT_EFORMAT, "%s: the server has %" PRIu64 " bytes, "
                                   "expected %" PRIu64, f->d->url, a->range_total, f->d->size));
        note_etag(f, a->etag);
        return 0;
    }
    if (a->length != UINT64_MAX && a->length != f->d->size)
        return fail(j, err_set(j->e, WATT_EFORMAT, "%s: the server has %" PRIu64 " bytes, expected %"
                               PRIu64, f->d->url, a->length, f->d->size));
    if (!r->asked_ranges)
        return 0;
    if (!f->no_ranges) {        /* or it has changed: it comes whole, to one connection */
        f->no_ranges = true;
        memset(f->etag, 0, sizeof f->etag);
        (void)reset_state(j, f);
        count(j);
    }
    r->left = true;
    return 1;
}

static int on_data(void *ctx, const void *data, size_t n)
{
    struct run *r = ctx;
    struct job *j = r->job;
    struct file *f = &j->files[r->file];
    int why;

    if (n > r->end - r->at)
        return fail(j, err_set(j->e, WATT_EFORMAT, "%s: more bytes than announced", f->d->url));
    why = write_all(f->fd, data, n, r->at);
    if (why)
        return disk_failed(j, f, why);
    for (uint64_t b = r->at / BLOCK;
         b < f->n_blocks && b * BLOCK + block_bytes(f, b) <= r->at + n; b++)
        if (f->blocks[b] != BLOCK_HERE) {
            if (note_block(j, f, b) < 0)
                return 1;
            j->done += block_bytes(f, b);
        }
    r->at += n;
    r->moved = true;
    j->n_failures = 0;
    return 0;
}

static int on_poll(void *ctx)
{
    struct run *r = ctx;
    struct job *j = r->job;

    if (j->rc == 0 && tell(j, DOWNLOAD_FETCHING, j->files[r->file].d->path, j->done) != 0)
        (void)fail(j, err_set(j->e, WATT_ECANCEL, "stopped; %" PRIu64 " of %" PRIu64
                              " bytes are kept", j->done, j->total));
    return j->rc != 0;
}

/* Another try, after a while, unless there were too many. */
static void try_again(struct job *j, const struct http_client_response *a, const struct err *why)
{
    uint64_t wait_ms = j->o->retry_ms ? j->o->retry_ms : 1000;

    if (++j->n_failures >= DOWNLOAD_TRIES) {
        (void)fail(j, err_set(j->e, why->code, "%s; %" PRIu64 " of %" PRIu64 " bytes are kept",
                              why->msg, j->done, j->total));
        return;
    }
    wait_ms <<= j->n_failures - 1;
    if (a->retry_after[0] >= '0' && a->retry_after[0] <= '9' && strlen(a->retry_after) < 6) {
        unsigned s = 0;

        for (const char *c = a->retry_after; *c >= '0' && *c <= '9'; c++)
            s = s * 10 + (unsigned)(*c - '0');
        wait_ms = s > 60 ? 60000 : s * 1000u > wait_ms ? s * 1000u : wait_ms;
    }
    j->not_before_ns = clock_mono_ns() + wait_ms * 1000000;
}

static void on_done(void *ctx, int rc, const struct http_client_response *a, const struct err *why)
{
    struct run *r = ctx;
    struct job *j = r->job;
    const struct file *f = &j->files[r->file];
    struct err e = { 0 };
    const bool complete = r->at == r->end;

    if (r->left || j->rc < 0) {
        give_back(r);
        return;
    }
    if (rc == 0)
        rc = http_client_refused(f->d->url, a, &e);
    else
        e = *why;
    if (rc == 0 && !complete)
        rc = err_set(&e, WATT_EIO, "%s: the connection ended early", f->d->url);
    give_back(r);
    if (rc < 0 && (rc == WATT_EIO || rc == WATT_ETIME || rc == WATT_EBUSY) && a->status != 416)
        try_again(j, a, &e);
    else if (rc < 0)
        (void)fail(j, err_set(j->e, rc, "%s", e.msg));
}

static int start(struct job *j, struct run *r)
{
    const struct file *f = &j->files[r->file];
    struct http_client_request q = {
        .url = f->d->url, .bearer = j->o->bearer,
        .stall_ms = j->o->stall_ms ? j->o->stall_ms : 30000,
        .on_head = on_head, .on_data = on_data, .poll = on_poll, .on_done = on_done, .ctx = r,
    };
    int rc;

    r->asked_ranges = !f->no_ranges && f->d->size > 0;
    if (r->asked_ranges) {
        q.range_first = r->first;
        q.range_bytes = r->end - r->first;
        q.if_range = f->etag[0] ? f->etag : NULL;
    }
    rc = http_client_start(j->c, &q, j->e);
    if (rc < 0)
        give_back(r);
    return rc < 0 ? fail(j, rc) : 0;
}

static bool some_missing(const struct job *j)
{
    for (size_t i = 0; i < j->n_files; i++)
        if (!j->files[i].whole && j->files[i].n_missing > 0)
            return true;
    return false;
}

static void fill_connections(struct job *j)
{
    if (j->rc < 0 || clock_mono_ns() < j->not_before_ns)
        return;
    for (unsigned i = 0; i < j->n_runs && j->rc == 0; i++)
        if (j->runs[i].file == NO_FILE) {
            if (!choose(j, &j->runs[i]) || start(j, &j->runs[i]) < 0)
                return;
        }
}

static void wait_a_while(struct job *j, const char *path)
{
    const struct timespec t = { .tv_nsec = 50000000 };

    (void)nanosleep(&t, NULL);
    if (tell(j, DOWNLOAD_FETCHING, path, j->done) != 0)
        (void)fail(j, err_set(j->e, WATT_ECANCEL, "stopped; %" PRIu64 " of %" PRIu64
                              " bytes are kept", j->done, j->total));
}

static int fetch(struct job *j)
{
    for (;;) {
        fill_connections(j);
        if (http_client_run(j->c, 200) > 0)
            continue;
        if (j->rc < 0 || !some_missing(j))
            return j->rc;
        if (clock_mono_ns() < j->not_before_ns)
            wait_a_while(j, j->files[0].d->path);
    }
}

/* ---- the end ---- */

static int hash_file(struct job *j, const struct file *f, uint64_t *seen, uint8_t digest[SHA256_BYTES])
{
    const size_t cap = (size_t)1 << 20;
    uint8_t *buf = mem_alloc(cap);
    struct sha256 h;
    uint64_t at = 0;
    int rc = buf ? 0 : err_set(j->e, WATT_ENOMEM, "%s", f->part);

    sha256_init(&h);
    while (rc == 0 && at < f->d->size) {
        const ssize_t n = pread(f->fd, buf, cap, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            rc = err_errno(j->e, WATT_EIO, n < 0 ? errno : EIO, "%s", f->part);
            break;
        }
        sha256_add(&h, buf, (size_t)n);
        at += (uint64_t)n;
        *seen += (uint64_t)n;
        if (tell(j, DOWNLOAD_VERIFYING, f->d->path, *seen) != 0)
            rc = err_set(j->e, WATT_ECANCEL, "stopped; everything is here but for the check");
    }
    mem_free(buf);
    sha256_end(&h, digest);
    return rc < 0 ? fail(j, rc) : 0;
}

static int settle(struct job *j, struct file *f, uint64_t *seen)
{
    uint8_t digest[SHA256_BYTES];
    int rc = 0;

    if (f->whole)
        return 0;
    if (f->d->has_sha256) {
        rc = hash_file(j, f, seen, digest);
        if (rc == 0 && memcmp(digest, f->d->sha256, SHA256_BYTES) != 0) {
            (void)unlink(f->state);
            (void)unlink(f->part);
            return fail(j, err_set(j->e, WATT_EFORMAT, "%s: what came has another SHA-256 than the "
                                   "hub names; it was thrown away", f->d->path));
        }
    }
    if (rc == 0 && (fsync(f->fd) < 0 || rename(f->part, f->path) < 0))
        rc = fail(j, err_errno(j->e, WATT_EIO, errno, "%s", f->path));
    if (rc == 0)
        (void)unlink(f->state);
    f->whole = rc == 0;
    return rc;
}

int download_files(struct http_client *c, const char *folder, struct download_file *files, size_t n,
                   const struct download_opts *o, struct err *e)
{
    static const struct download_opts none;
    struct job j = { .c = c, .o = o ? o : &none, .folder = folder, .n_files = n, .e = e };
    uint64_t seen = 0;

    j.n_runs = j.o->n_connections ? j.o->n_connections : 4;
    if (j.n_runs > DOWNLOAD_MAX_CONNECTIONS)
        j.n_runs = DOWNLOAD_MAX_CONNECTIONS;
    for (unsigned i = 0; i < j.n_runs; i++)
        j.runs[i].file = NO_FILE;
    j.files = mem_calloc(n ? n : 1, sizeof *j.files);
    if (!j.files)
        return err_set(e, WATT_ENOMEM, "%zu files to fetch", n);
    for (size_t i = 0; i < n; i++)
        j.files[i].fd = j.files[i].state_fd = -1;
    for (size_t i = 0; i < n && j.rc == 0; i++)
        (void)file_open(&j, &j.files[i], &files[i]);
    if (j.rc == 0) {
        count(&j);
        (void)check_room(&j);
    }
    if (j.rc == 0)
        (void)fetch(&j);
    for (size_t i = 0; i < n && j.rc == 0; i++)
        (void)settle(&j, &j.files[i], &seen);
    for (size_t i = 0; i < n; i++)
        file_close(&j.files[i]);
    mem_free(j.files);
    return j.rc;
}
