/* weights_cache.c: prepared weights on disk; see weights_cache.h. */
#include "chips/cpu/weights_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"

#define VERSION      1u
#define ORDER        0x01020304u
#define CHUNK        ((uint64_t)1 << 20)    /* with a hash of its own */
#define DATA_ALIGN   ((uint64_t)2 << 20)    /* of the data in the file: a large page's */
#define N_CHECKED    32u        /* chunks hashed at a find */
#define HEAD_SAMPLE  ((size_t)1 << 20)      /* of a model's file: the beginning, */
#define N_SAMPLES    64u                    /* so many places, */
#define SAMPLE       ((size_t)16 << 10)     /* so many bytes each */
#define BLOCK        ((size_t)4 << 20)      /* of a model's file, hashed as one */
#define MAX_BYTES    ((uint64_t)1 << 50)
#define SPARE_SHARE  50u        /* a 50th of the disk stays free */
#define MAX_ENTRIES  4096u

struct head {
    char     magic[8];
    uint32_t order, version;
    uint64_t layout, sample, times, source_bytes;
    uint64_t content;           /* of all bytes of the model's files */
    uint64_t data_at, data_bytes, n_chunks;
    uint64_t table;             /* of the chunks' hashes, which follow at TABLE_AT */
    char     name[384];
    uint64_t self;              /* of everything before */
};

#define TABLE_AT 4096u
static const char magic[8] = { 'W', 'A', 'T', 'T', 'P', 'A', 'C', 'K' };

static void note(const struct weights_cache_opts *o, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void note(const struct weights_cache_opts *o, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list ap;

    if (!o->note)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    o->note(o->ctx, text);
}

/* All n bytes, or false. */
static bool read_at(int fd, void *to, size_t n, uint64_t at)
{
    uint8_t *p = to;

    while (n > 0) {
        const ssize_t got = fault_hit(FAULT_READ) ? (errno = EIO, -1)
                                                  : pread(fd, p, n, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        p += got;
        n -= (size_t)got;
        at += (uint64_t)got;
    }
    return true;
}

/* ---- the model's files ---- */

static bool sample_file(int fd, uint64_t size, uint8_t *buf, XXH3_state_t *h)
{
    const size_t first = size < HEAD_SAMPLE ? (size_t)size : HEAD_SAMPLE;

    if (!read_at(fd, buf, first, 0))
        return false;
    (void)XXH3_64bits_update(h, buf, first);
    for (uint64_t i = 0; i < N_SAMPLES && size > HEAD_SAMPLE; i++) {
        /* the last one ends with the file */
        const uint64_t at = (size - SAMPLE) / (N_SAMPLES - 1) * i + (i + 1 == N_SAMPLES
                                ? (size - SAMPLE) % (N_SAMPLES - 1) : 0);

        if (!read_at(fd, buf, SAMPLE, at))
            return false;
        (void)XXH3_64bits_update(h, buf, SAMPLE);
    }
    return true;
}

/* Sizes and times of change, which are cheap to ask for again. */
static bool stat_files(const struct weights_cache_opts *o, uint64_t *times, uint64_t *bytes)
{
    XXH64_hash_t h = 0;

    *bytes = 0;
    for (uint32_t i = 0; i < o->n_fds; i++) {
        struct stat st;
        int64_t v[3];

        if (o->fds[i] < 0 || fstat(o->fds[i], &st) != 0 || !S_ISREG(st.st_mode))
            return false;
        v[0] = st.st_size;
        v[1] = st.st_mtim.tv_sec;
        v[2] = st.st_mtim.tv_nsec;
        h = XXH3_64bits_withSeed(v, sizeof v, h);
        *bytes += (uint64_t)st.st_size;
    }
    *times = h;
    return o->n_fds > 0;
}

bool weights_cache_key(struct weights_key *k, const struct weights_cache_opts *o, uint64_t layout,
                       uint64_t data_bytes)
{
    XXH3_state_t *h = XXH3_createState();
    uint8_t *buf = mem_alloc(HEAD_SAMPLE);
    bool ok = h && buf && data_bytes > 0 && data_bytes < MAX_BYTES;

    *k = (struct weights_key){ .layout = layout, .data_bytes = data_bytes };
    ok = ok && stat_files(o, &k->times, &k->source_bytes);
    if (ok)
        (void)XXH3_64bits_reset(h);
    for (uint32_t i = 0; ok && i < o->n_fds; i++) {
        struct stat st;

        ok = fstat(o->fds[i], &st) == 0 && sample_file(o->fds[i], (uint64_t)st.st_size, buf, h);
    }
    if (ok)
        k->sample = XXH3_64bits_digest(h);
    else
        note(o, "weights cache: not used: %s has no files that can be read again", o->name);
    (void)XXH3_freeState(h);
    mem_free(buf);
    return ok;
}

/* The hash of all bytes, by the team. */
struct content_job {
    const struct weights_cache_opts *o;
    struct team *team;
    uint64_t *hashes;           /* [blocks of all files] */
    uint8_t  *bufs;             /* [threads][BLOCK] */
    bool      failed;           /* set by any worker, read afterwards */
};

static void content_work(void *arg, unsigned worker)
{
    struct content_job *j = arg;
    uint8_t *buf = j->bufs + (size_t)worker * BLOCK;
    uint64_t base = 0, task = team_next(j->team);

    for (uint32_t i = 0; i < j->o->n_fds; i++) {
        struct stat st;
        uint64_t n;

        if (fstat(j->o->fds[i], &st) != 0) {
            __atomic_store_n(&j->failed, true, __ATOMIC_RELAXED);
            return;
        }
        n = ((uint64_t)st.st_size + BLOCK - 1) / BLOCK;
        for (; task < base + n; task = team_next(j->team)) {
            const uint64_t at = (task - base) * BLOCK, left = (uint64_t)st.st_size - at;
            const size_t len = left < BLOCK ? (size_t)left : BLOCK;

            if (!read_at(j->o->fds[i], buf, len, at)) {
                __atomic_store_n(&j->failed, true, __ATOMIC_RELAXED);
                return;
            }
            j->hashes[task] = XXH3_64bits(buf, len);
        }
        base += n;
    }
}

static bool content_hash(const struct weights_cache_opts *o, uint64_t source_bytes,
                         struct team *team, uint64_t *out)
{
    const size_t n = (size_t)(source_bytes / BLOCK) + o->n_fds;     /* at least as many as blocks */
    struct content_job j = { .o = o, .team = team, .hashes = mem_calloc(n, sizeof *j.hashes) };
    const size_t buf_bytes = team_size(team) * BLOCK;

    j.bufs = mem_map(buf_bytes);
    if (j.hashes && j.bufs) {
        team_run(team, content_work, &j);
        *out = XXH3_64bits(j.hashes, n * sizeof *j.hashes);
    } else {
        j.failed = true;
    }
    mem_unmap(j.bufs, buf_bytes);
    mem_free(j.hashes);
    return !j.failed;
}

/* ---- the cache's files ---- */

static bool path_of(char *path, size_t size, const char *dir, const char *file)
{
    const int n = snprintf(path, size, "%s/%s", dir, file);

    return n > 0 && (size_t)n < size;
}

static void file_of(char *file, size_t size, const struct weights_key *k)
{
    const uint64_t v[] = { VERSION, k->layout, k->sample, k->source_bytes, k->data_bytes };

    (void)snprintf(file, size, "%016" PRIx64 WEIGHTS_CACHE_SUFFIX, (uint64_t)XXH3_64bits(v, sizeof v));
}

static uint64_t chunks_of(uint64_t data_bytes)
{
    return (data_bytes + CHUNK - 1) / CHUNK;
}

static uint64_t data_at_of(uint64_t data_bytes)
{
    return (TABLE_AT + 8 * chunks_of(data_bytes) + DATA_ALIGN - 1) / DATA_ALIGN * DATA_ALIGN;
}

static uint64_t self_hash(const struct head *h)
{
    return XXH3_64bits(h, offsetof(struct head, self));
}

/* NULL: the header is one of ours and fits the file; else what is wrong. */
static const char *bad_head(const struct head *h, uint64_t file_bytes)
{
    if (memcmp(h->magic, magic, sizeof magic) != 0)
        return "no file of prepared weights";
    if (h->order != ORDER)
        return "of another byte order";
    if (h->version != VERSION)
        return "of another version";
    if (h->self != self_hash(h) || h->name[sizeof h->name - 1] != '\0')
        return "its header is damaged";
    if (h->data_bytes == 0 || h->data_bytes >= MAX_BYTES ||
        h->n_chunks != chunks_of(h->data_bytes) || h->data_at != data_at_of(h->data_bytes) ||
        file_bytes != h->data_at + h->data_bytes)
        return "it is cut off";
    return NULL;
}

struct chunk_job {
    struct team   *team;
    const uint8_t *data;
    uint64_t       data_bytes;
    uint64_t      *hashes;      /* made, or compared with */
    const uint64_t *which;      /* chunks to do; NULL: all */
    uint64_t       n;
    bool           compare, differs;
};

static void chunk_work(void *arg, unsigned worker)
{
    struct chunk_job *j = arg;

    (void)worker;
    for (uint64_t task; (task = team_next(j->team)) < j->n;) {
        const uint64_t i = j->which ? j->which[task] : task, left = j->data_bytes - i * CHUNK;
        const uint64_t h = XXH3_64bits(j->data + i * CHUNK, left < CHUNK ? (size_t)left
                                                                         : (size_t)CHUNK);

        if (!j->compare)
            j->hashes[i] = h;
        else if (j->hashes[i] != h)
            __atomic_store_n(&j->differs, true, __ATOMIC_RELAXED);
    }
}

/* Do the mapped chunks have the hashes of the table: all, or a choice that is another one each
 * time, with the first and the last. */
static bool chunks_hold(const uint8_t *data, const struct head *h, uint64_t *hashes, bool all,
                        struct team *team)
{
    uint64_t which[N_CHECKED];
    struct chunk_job j = { .team = team, .data = data, .data_bytes = h->data_bytes,
                           .hashes = hashes, .n = h->n_chunks, .compare = true };
    struct rng rng;

    if (!all && h->n_chunks > N_CHECKED) {
        rng_init(&rng, clock_mono_ns() ^ h->self);
        for (uint32_t i = 2; i < N_CHECKED; i++)
            which[i] = rng_u64(&rng) % h->n_chunks;
        which[0] = 0;
        which[1] = h->n_chunks - 1;
        j.which = which;
        j.n = N_CHECKED;
    }
    team_run(team, chunk_work, &j);
    return !j.differs;
}

void weights_cache_unmap(struct weights_cached *c)
{
    if (c->map)
        (void)munmap(c->map, c->map_bytes);
    *c = (struct weights_cached){ 0 };
}

/* What stands in the way of using an open cache file of this key; NULL: it is mapped into c. */
static const char *map_file(struct weights_cached *c, int fd, struct head *h, bool verify,
                            struct team *team)
{
    const char *why = NULL;
    struct stat st;
    uint64_t *hashes;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size < sizeof *h ||
        !read_at(fd, h, sizeof *h, 0))
        return "it can't be read";
    why = bad_head(h, (uint64_t)st.st_size);
    if (why)
        return why;
    hashes = mem_array((size_t)h->n_chunks, sizeof *hashes);
    if (!hashes)
        return "out of memory";
    if (!read_at(fd, hashes, (size_t)h->n_chunks * sizeof *hashes, TABLE_AT)) {
        why = "it can't be read";
    } else if (XXH3_64bits(hashes, (size_t)h->n_chunks * sizeof *hashes) != h->table) {
        why = "its table of hashes is damaged";
    } else {
        void *p = fault_hit(FAULT_READ) ? MAP_FAILED
                                        : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);

        if (p == MAP_FAILED) {
            why = "it can't be mapped";
        } else {
            *c = (struct weights_cached){ (const uint8_t *)p + h->data_at, p, (size_t)st.st_size };
            (void)madvise(p, c->map_bytes, MADV_WILLNEED);      /* only a wish */
            if (!chunks_hold(c->data, h, hashes, verify, team))
                why = "its data is damaged";
        }
    }
    mem_free(hashes);
    if (why)
        weights_cache_unmap(c);
    return why;
}

/* The model's files have another time: are they the same nevertheless? If so the header is
 * brought up to date, so that the next start need not read them. */
static const char *check_times(struct head *h, int fd, const struct weights_key *k,
                               const struct weights_cache_opts *o, struct team *team)
{
    uint64_t content;

    if (h->times == k->times)
        return NULL;
    if (!content_hash(o, k->source_bytes, team, &content))
        return "the model's files can't be read";
    if (h->content != content)
        return "the model's files changed";
    h->times = k->times;
    h->self = self_hash(h);
    (void)!pwrite(fd, h, sizeof *h, 0);     /* torn or failed: found out next time */
    return NULL;
}

bool weights_cache_find(struct weights_cached *c, const struct weights_key *k,
                        const struct weights_cache_opts *o, struct team *team)
{
    char file[64], path[PATH_MAX];
    const char *why;
    struct head h;
    int fd;

    *c = (struct weights_cached){ 0 };
    file_of(file, sizeof file, k);
    if (!path_of(path, sizeof path, o->dir, file))
        return false;
    fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);     /* a cache that others look after */
    if (fd < 0)
        return false;
    why = map_file(c, fd, &h, o->verify, team);
    if (!why && (h.layout != k->layout || h.sample != k->sample ||
                 h.source_bytes != k->source_bytes || h.data_bytes != k->data_bytes))
        why = "it is of another model";
    if (!why)
        why = check_times(&h, fd, k, o, team);
    if (!why)
        (void)futimens(fd, NULL);           /* it was used now */
    else
        note(o, "weights cache: %s is made anew: %s", path, why);
    (void)close(fd);
    if (why)
        weights_cache_unmap(c);
    return !why;
}

/* ---- writing ---- */

struct listed { char file[64]; uint64_t bytes; int64_t used_s; };

static int by_use(const void *a, const void *b)     /* latest first */
{
    const struct listed *x = a, *y = b;

    if (x->used_s != y->used_s)
        return x->used_s > y->used_s ? -1 : 1;
    return strcmp(x->file, y->file);
}

static bool is_ours(const char *file)
{
    const size_t len = strlen(file), suffix = sizeof WEIGHTS_CACHE_SUFFIX - 1;

    return len == 16 + suffix && strspn(file, "0123456789abcdef") == 16 &&
           strcmp(file + 16, WEIGHTS_CACHE_SUFFIX) == 0;
}

/* The cache files of a folder; -1: it can't be read, with errno. */
static int scan(const char *dir, struct listed *list)
{
    DIR *d = opendir(dir);
    int n = 0;

    if (!d)
        return errno == ENOENT ? 0 : -1;
    for (struct dirent *ent; n < (int)MAX_ENTRIES && (ent = readdir(d));) {
        struct stat st;

        if (!is_ours(ent->d_name) || fstatat(dirfd(d), ent->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(st.st_mode))
            continue;
        (void)snprintf(list[n].file, sizeof list[n].file, "%.63s", ent->d_name);
        list[n].bytes = (uint64_t)st.st_size;
        list[n++].used_s = st.st_mtim.tv_sec;
    }
    (void)closedir(d);
    qsort(list, (size_t)n, sizeof *list, by_use);
    return n;
}

/* Room in the folder's budget and on the disk; files used longest ago are removed for it. */
static bool make_room(const struct weights_cache_opts *o, uint64_t need, const char *keep)
{
    const uint64_t max = o->max_bytes ? o->max_bytes : WEIGHTS_CACHE_MAX_DEFAULT;
    struct listed *list = mem_array(MAX_ENTRIES, sizeof *list);
    uint64_t total = need;
    struct statvfs fs;
    int n = list ? scan(o->dir, list) : -1;

    if (need > max) {
        note(o, "weights cache: not written: %" PRIu64 " bytes are more than the %" PRIu64
             " that it may hold", need, max);
        n = -1;
    }
    for (int i = 0; i < n; i++)
        if (strcmp(list[i].file, keep) != 0)        /* which is about to be replaced */
            total += list[i].bytes;
    while (n > 0 && total > max) {
        char path[PATH_MAX];

        n--;
        if (strcmp(list[n].file, keep) == 0)
            continue;
        if (path_of(path, sizeof path, o->dir, list[n].file) && unlink(path) == 0) {
            total -= list[n].bytes;
            note(o, "weights cache: %s, unused for the longest time, made room", path);
        }
    }
    mem_free(list);
    if (n < 0)
        return false;
    if (statvfs(o->dir, &fs) == 0) {
        const uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
        const uint64_t spare = (uint64_t)fs.f_blocks * fs.f_frsize / SPARE_SHARE;

        if (left < need || left - need < spare) {
            note(o, "weights cache: not written: %" PRIu64 " bytes wanted, %" PRIu64 " free on the "
                 "disk of %s, of which %" PRIu64 " shall stay free", need, left, o->dir, spare);
            return false;
        }
    }
    return true;
}

static bool make_dir(const struct weights_cache_opts *o)
{
    char path[PATH_MAX];
    const size_t len = strlen(o->dir);

    if (len == 0 || len >= sizeof path)
        return false;
    memcpy(path, o->dir, len + 1);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(path, 0700);
        *slash = '/';
    }
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return true;
    note(o, "weights cache: not written: %s: %s", o->dir, strerror(errno));
    return false;
}

static int write_file(const char *path, const struct head *h, const uint64_t *hashes,
                      const void *data, struct err *e)
{
    static const uint8_t zeros[4096];
    const uint64_t table_end = TABLE_AT + 8 * h->n_chunks;
    struct file_new f;
    int rc = file_new_open(&f, path, e);

    if (rc < 0)
        return rc;
    rc = file_new_write(&f, h, sizeof *h, e);
    if (rc == 0)
        rc = file_new_write(&f, zeros, TABLE_AT - sizeof *h, e);
    if (rc == 0)
        rc = file_new_write(&f, hashes, (size_t)h->n_chunks * sizeof *hashes, e);
    for (uint64_t at = table_end; rc == 0 && at < h->data_at;) {
        const uint64_t left = h->data_at - at;
        const size_t n = left < sizeof zeros ? (size_t)left : sizeof zeros;

        rc = file_new_write(&f, zeros, n, e);
        at += n;
    }
    /* whole large pages at a time, for file systems that keep them in large pages */
    for (uint64_t at = 0; rc == 0 && at < h->data_bytes;) {
        const uint64_t left = h->data_bytes - at;
        const size_t n = left < 8 * DATA_ALIGN ? (size_t)left : (size_t)(8 * DATA_ALIGN);

        rc = file_new_write(&f, (const uint8_t *)data + at, n, e);
        at += n;
    }
    if (rc == 0)
        return file_new_commit(&f, e);
    file_new_abort(&f);
    return rc;
}

bool weights_cache_store(const struct weights_key *k, const struct weights_cache_opts *o,
                         const void *data, struct team *team)
{
    struct head h = { .order = ORDER, .version = VERSION, .layout = k->layout, .sample = k->sample,
                      .times = k->times, .source_bytes = k->source_bytes,
                      .data_at = data_at_of(k->data_bytes), .data_bytes = k->data_bytes,
                      .n_chunks = chunks_of(k->data_bytes) };
    struct chunk_job j = { .team = team, .data = data, .data_bytes = k->data_bytes,
                           .n = h.n_chunks };
    uint64_t times, bytes;
    char file[64], path[PATH_MAX];
    struct err e = { 0 };
    bool ok = false;

    file_of(file, sizeof file, k);
    if (!path_of(path, sizeof path, o->dir, file) || !make_dir(o) ||
        !make_room(o, h.data_at + h.data_bytes, file))
        return false;
    memcpy(h.magic, magic, sizeof magic);
    (void)snprintf(h.name, sizeof h.name, "%s", o->name ? o->name : "");
    j.hashes = mem_calloc((size_t)h.n_chunks, sizeof *j.hashes);
    if (!j.hashes || !content_hash(o, k->source_bytes, team, &h.content)) {
        note(o, "weights cache: not written: %s", j.hashes ? "the model's files can't be read again"
                                                           : "out of memory");
    } else if (!stat_files(o, &times, &bytes) || times != k->times) {
        note(o, "weights cache: not written: the model's files changed meanwhile");
    } else {
        team_run(team, chunk_work, &j);
        h.table = XXH3_64bits(j.hashes, (size_t)h.n_chunks * sizeof *j.hashes);
        h.self = self_hash(&h);
        ok = write_file(path, &h, j.hashes, data, &e) == 0;
        if (!ok)
            note(o, "weights cache: not written: %s", e.msg);
    }
    mem_free(j.hashes);
    return ok;
}

/* ---- looking after a folder ---- */

static void look(const char *dir, const struct listed *l, struct team *team, bool verify,
                 struct weights_cache_entry *entry)
{
    struct weights_cached c = { 0 };
    struct head h = { .name = "" };
    char path[PATH_MAX];
    int fd = path_of(path, sizeof path, dir, l->file) ? open(path, O_RDONLY | O_CLOEXEC) : -1;

    *entry = (struct weights_cache_entry){ .bytes = l->bytes, .used_s = l->used_s };
    (void)snprintf(entry->file, sizeof entry->file, "%s", l->file);
    entry->sound = fd >= 0 && map_file(&c, fd, &h, verify, team) == NULL;
    if (memcmp(h.magic, magic, sizeof magic) == 0 && h.self == self_hash(&h))
        (void)snprintf(entry->name, sizeof entry->name, "%.*s", (int)sizeof h.name - 1, h.name);
    weights_cache_unmap(&c);
    if (fd >= 0)
        (void)close(fd);
}

int weights_cache_list(const char *dir, bool verify,
                       int (*each)(void *ctx, const struct weights_cache_entry *entry), void *ctx,
                       struct err *e)
{
    struct listed *list = mem_array(MAX_ENTRIES, sizeof *list);
    struct team *team = NULL;
    int rc = list ? team_open(&team, team_default_threads(), e)
                  : err_set(e, WATT_ENOMEM, "weights cache: list");
    int n = rc == 0 ? scan(dir, list) : 0;

    if (n < 0)
        rc = err_errno(e, WATT_EIO, errno, "%s", dir);
    for (int i = 0; rc == 0 && i < n; i++) {
        struct weights_cache_entry entry;

        look(dir, &list[i], team, verify, &entry);
        if (each(ctx, &entry) != 0)
            break;
    }
    team_close(team);
    mem_free(list);
    return rc;
}

int weights_cache_remove(const char *dir, const char *file, struct err *e)
{
    char path[PATH_MAX];

    if (!is_ours(file) || !path_of(path, sizeof path, dir, file))
        return err_set(e, WATT_EINVAL, "%.64s: no file of the weights cache", file);
    if (unlink(path) != 0)
        return err_errno(e, errno == ENOENT ? WATT_ENOENT : WATT_EIO, errno, "%s", path);
    return 0;
}
