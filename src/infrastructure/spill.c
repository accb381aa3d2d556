/* spill.c: pages in a folder; see spill.h.
 *
 * All state is under one mutex, which is not held while a file is read or written. An entry that
 * is being written is not found yet. */
#include "infrastructure/spill.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/sha256.h"

#define NONE UINT32_MAX
#define N_BUFFERS (SPILL_BUFFERS - 1u)   /* and one to read into */
#define MAGIC "WATTKV1"
#define SUFFIX ".page"
#define NAME_BYTES (2 * SPILL_KEY_BYTES + sizeof SUFFIX)

struct header {
    char     magic[8];
    uint8_t  key[SPILL_KEY_BYTES];
    uint64_t page_bytes, slot_bytes;    /* slot_bytes 0: no state */
    uint32_t page_tokens, unused;
    uint8_t  digest[SHA256_BYTES];      /* of the rest of the file, and of this with zeros here */
};

enum entry_state { ENTRY_FREE, ENTRY_WRITING, ENTRY_READY };

struct entry {
    struct spill_key key;
    enum entry_state state;
    uint32_t newer, older;              /* by last use; free ones are chained by older */
    uint64_t bytes;
};

struct buffer { uint8_t *data; uint64_t bytes; uint32_t entry; };

struct spill {
    struct spill_spec spec;
    char     *dir;
    int       dir_fd, lock_fd;
    uint64_t  max_file;
    uint8_t  *scratch;                  /* [max_file] the owner's */
    pthread_t thread;
    bool      started, stop;
    pthread_mutex_t mu;
    pthread_cond_t  work, idle;
    struct map index;                   /* key to entry */
    struct entry *entries;              /* [max_entries] */
    uint32_t  max_entries, free_entry, newest, oldest;
    struct buffer buffers[N_BUFFERS];   /* ring */
    uint32_t  first, n_full;
    struct spill_stats stats;
};

/* ---- keys and names ---- */

struct spill_key spill_key(const uint64_t space[2], const struct spill_key *parent,
                           const int32_t *tokens, uint32_t n)
{
    uint8_t digest[SHA256_BYTES];
    struct spill_key key;
    struct sha256 h;

    sha256_init(&h);
    sha256_add(&h, space, 2 * sizeof *space);
    sha256_add(&h, parent ? parent->bytes : (const uint8_t *)"the first page..", SPILL_KEY_BYTES);
    sha256_add(&h, tokens, n * sizeof *tokens);
    sha256_end(&h, digest);
    memcpy(key.bytes, digest, sizeof key.bytes);
    return key;
}

static void name_of(const struct spill_key *key, char name[NAME_BYTES])
{
    for (unsigned i = 0; i < SPILL_KEY_BYTES; i++)
        (void)snprintf(name + 2 * i, 3, "%02x", key->bytes[i]);
    memcpy(name + 2 * SPILL_KEY_BYTES, SUFFIX, sizeof SUFFIX);
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool key_of(const char *name, struct spill_key *key)
{
    if (strlen(name) != NAME_BYTES - 1 || strcmp(name + 2 * SPILL_KEY_BYTES, SUFFIX) != 0)
        return false;
    for (unsigned i = 0; i < SPILL_KEY_BYTES; i++) {
        const int a = digit(name[2 * i]), b = digit(name[2 * i + 1]);

        if (a < 0 || b < 0)
            return false;
        key->bytes[i] = (uint8_t)(a * 16 + b);
    }
    return true;
}

static struct sv view(const struct spill_key *key)
{
    return (struct sv){ (const char *)key->bytes, sizeof key->bytes };
}

static uint64_t file_bytes(const struct spill_spec *p, bool slot)
{
    return sizeof(struct header) + (uint64_t)p->page_tokens * sizeof(int32_t) + p->page_bytes +
           (slot ? p->slot_bytes : 0);
}

/* ---- entries, under mu ---- */

static void unlink_entry(struct spill *s, uint32_t i)
{
    const struct entry *x = &s->entries[i];

    *(x->newer == NONE ? &s->newest : &s->entries[x->newer].older) = x->older;
    *(x->older == NONE ? &s->oldest : &s->entries[x->older].newer) = x->newer;
}

static void front_entry(struct spill *s, uint32_t i)
{
    struct entry *x = &s->entries[i];

    x->newer = NONE;
    x->older = s->newest;
    *(s->newest == NONE ? &s->oldest : &s->entries[s->newest].newer) = i;
    s->newest = i;
}

static uint32_t find_entry(const struct spill *s, const struct spill_key *key)
{
    uint64_t i;

    return map_get(&s->index, view(key), &i) ? (uint32_t)i : NONE;
}

static void drop_entry(struct spill *s, uint32_t i, bool delete_file)
{
    struct entry *x = &s->entries[i];
    char name[NAME_BYTES];

    name_of(&x->key, name);
    if (delete_file)
        (void)unlinkat(s->dir_fd, name, 0);
    (void)map_remove(&s->index, view(&x->key));
    unlink_entry(s, i);
    s->stats.n_bytes -= x->bytes;
    s->stats.n_files--;
    x->state = ENTRY_FREE;
    x->older = s->free_entry;
    s->free_entry = i;
}

/* Room for one more file of so many bytes, from those used least recently. */
static bool make_room(struct spill *s, uint64_t bytes)
{
    while (s->free_entry == NONE || s->stats.n_bytes + bytes > s->spec.max_bytes) {
        uint32_t i = s->oldest;

        while (i != NONE && s->entries[i].state != ENTRY_READY)
            i = s->entries[i].newer;
        if (i == NONE)
            return false;
        drop_entry(s, i, true);
    }
    return true;
}

static uint32_t add_entry(struct spill *s, const struct spill_key *key, uint64_t bytes,
                          enum entry_state state)
{
    uint32_t i;

    if (!make_room(s, bytes))
        return NONE;
    i = s->free_entry;
    if (map_put(&s->index, view(key), i, NULL) < 0)
        return NONE;
    s->free_entry = s->entries[i].older;
    s->entries[i] = (struct entry){ .key = *key, .state = state, .bytes = bytes };
    front_entry(s, i);
    s->stats.n_bytes += bytes;
    s->stats.n_files++;
    return i;
}

/* ---- files ---- */

static void digest_of(const struct header *h, const uint8_t *rest, uint64_t n,
                      uint8_t digest[SHA256_BYTES])
{
    struct header blank = *h;
    struct sha256 x;

    memset(blank.digest, 0, sizeof blank.digest);
    sha256_init(&x);
    sha256_add(&x, &blank, sizeof blank);
    sha256_add(&x, rest, (size_t)n);
    sha256_end(&x, digest);
}

static bool write_all(int fd, const uint8_t *p, uint64_t n)
{
    while (n > 0) {
        const ssize_t w = fault_hit(FAULT_WRITE) ? (errno = ENOSPC, -1) : write(fd, p, (size_t)n);

        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return false;
        p += w;
        n -= (uint64_t)w;
    }
    return true;
}

/* Appears whole or not at all. */
static bool write_file(const struct spill *s, const struct spill_key *key, const uint8_t *data,
                       uint64_t n)
{
    char name[NAME_BYTES], part[NAME_BYTES + 8];
    bool ok;
    int fd;

    name_of(key, name);
    (void)snprintf(part, sizeof part, "%s.part", name);
    fd = openat(s->dir_fd, part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return false;
    ok = write_all(fd, data, n);
    ok = close(fd) == 0 && ok;
    ok = ok && renameat(s->dir_fd, part, s->dir_fd, name) == 0;
    if (!ok)
        (void)unlinkat(s->dir_fd, part, 0);
    return ok;
}

static bool read_file(const struct spill *s, const struct spill_key *key, uint8_t *data,
                      uint64_t n)
{
    char name[NAME_BYTES];
    uint64_t at = 0;
    struct stat st;
    int fd;

    name_of(key, name);
    fd = openat(s->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != n)
        n = UINT64_MAX;
    while (n != UINT64_MAX && at < n) {
        const ssize_t r = fault_hit(FAULT_READ) ? -1 : read(fd, data + at, (size_t)(n - at));

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            break;
        at += (uint64_t)r;
    }
    (void)close(fd);
    return at == n;
}

/* Is what was read what its name says? */
static bool sound(const struct spill *s, const struct spill_key *key, const int32_t *tokens,
                  uint64_t n)
{
    const size_t tokens_bytes = s->spec.page_tokens * sizeof *tokens;
    uint8_t digest[SHA256_BYTES];
    struct header h;

    memcpy(&h, s->scratch, sizeof h);
    if (memcmp(h.magic, MAGIC, sizeof h.magic) != 0 ||
        memcmp(h.key, key->bytes, sizeof h.key) != 0 || h.page_bytes != s->spec.page_bytes ||
        h.page_tokens != s->spec.page_tokens ||
        (h.slot_bytes != 0 && h.slot_bytes != s->spec.slot_bytes) ||
        n != file_bytes(&s->spec, h.slot_bytes != 0) ||
        memcmp(s->scratch + sizeof h, tokens, tokens_bytes) != 0)
        return false;
    digest_of(&h, s->scratch + sizeof h, n - sizeof h, digest);
    return memcmp(digest, h.digest, sizeof digest) == 0;
}

/* ---- the writer ---- */

static void *writer(void *arg)
{
    struct spill *s = arg;

    (void)pthread_mutex_lock(&s->mu);
    for (;;) {
        struct buffer *b = &s->buffers[s->first];
        struct spill_key key;
        struct header h;
        bool ok;

        while (s->n_full == 0 && !s->stop)
            (void)pthread_cond_wait(&s->work, &s->mu);
        if (s->n_full == 0)
            break;
        b = &s->buffers[s->first];
        key = s->entries[b->entry].key;
        (void)pthread_mutex_unlock(&s->mu);
        memcpy(&h, b->data, sizeof h);
        digest_of(&h, b->data + sizeof h, b->bytes - sizeof h, h.digest);
        memcpy(b->data, &h, sizeof h);
        ok = write_file(s, &key, b->data, b->bytes);
        (void)pthread_mutex_lock(&s->mu);
        if (ok)
            s->entries[b->entry].state = ENTRY_READY;
        else
            drop_entry(s, b->entry, false);
        s->stats.n_put += ok;
        s->stats.n_dropped += !ok;
        s->first = (s->first + 1) % N_BUFFERS;
        if (--s->n_full == 0)
            (void)pthread_cond_broadcast(&s->idle);
    }
    (void)pthread_mutex_unlock(&s->mu);
    return NULL;
}

/* ---- open and close ---- */

/* What an earlier process left: whole files of the right sizes; parts and others of ours go. */
static int look_through(struct spill *s, struct err *e)
{
    const int fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *x;

    if (!d) {
        if (fd >= 0)
            (void)close(fd);
        return err_errno(e, WATT_EIO, errno, "%s", s->dir);
    }
    while ((x = readdir(d)) != NULL) {
        const size_t n = strlen(x->d_name);
        struct spill_key key;
        struct stat st;

        if (n > 5 && strcmp(x->d_name + n - 5, ".part") == 0 && strstr(x->d_name, SUFFIX))
            (void)unlinkat(s->dir_fd, x->d_name, 0);
        if (!key_of(x->d_name, &key) ||
            fstatat(s->dir_fd, x->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (!S_ISREG(st.st_mode) || ((uint64_t)st.st_size != file_bytes(&s->spec, false) &&
                                     (uint64_t)st.st_size != file_bytes(&s->spec, true)) ||
            add_entry(s, &key, (uint64_t)st.st_size, ENTRY_READY) == NONE)
            (void)unlinkat(s->dir_fd, x->d_name, 0);
    }
    (void)closedir(d);
    return 0;
}

static int open_dir(struct spill *s, struct err *e)
{
    if (mkdir(s->dir, 0700) < 0 && errno != EEXIST)
        return err_errno(e, WATT_EIO, errno, "%s", s->dir);
    s->dir_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir_fd < 0)
        return err_errno(e, WATT_EIO, errno, "%s", s->dir);
    s->lock_fd = openat(s->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock_fd < 0)
        return err_errno(e, WATT_EIO, errno, "%s/lock", s->dir);
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return err_set(e, WATT_EBUSY, "%s: another process keeps its pages here", s->dir);
    return 0;
}

static int allocate(struct spill *s, struct err *e)
{
    const uint64_t least = file_bytes(&s->spec, false), n = s->spec.max_bytes / least;

    s->max_file = file_bytes(&s->spec, true);
    if (s->spec.max_bytes < s->max_file)
        return err_set(e, WATT_ELIMIT, "%s: %" PRIu64 " bytes hold no page of %" PRIu64, s->dir,
                       s->spec.max_bytes, s->max_file);
    s->max_entries = n < SPILL_MAX_FILES ? (uint32_t)n : SPILL_MAX_FILES;
    s->entries = mem_calloc(s->max_entries, sizeof *s->entries);
    s->scratch = mem_alloc((size_t)s->max_file);
    for (unsigned i = 0; i < N_BUFFERS; i++)
        s->buffers[i].data = mem_calloc(1, (size_t)s->max_file);
    for (unsigned i = 0; i < N_BUFFERS; i++)
        if (!s->buffers[i].data || !s->entries || !s->scratch)
            return err_set(e, WATT_ENOMEM, "%s: tables of %u files", s->dir, s->max_entries);
    s->free_entry = s->newest = s->oldest = NONE;
    for (uint32_t i = s->max_entries; i-- > 0;) {
        s->entries[i].older = s->free_entry;
        s->free_entry = i;
    }
    return map_init(&s->index, MAP_MAX_ENTRIES, e);
}

int spill_open(struct spill **out, const struct spill_spec *spec, struct err *e)
{
    struct spill *s = mem_calloc(1, sizeof *s);
    int rc;

    if (!s)
        return err_set(e, WATT_ENOMEM, "spill folder");
    s->spec = *spec;
    s->dir_fd = s->lock_fd = -1;
    (void)pthread_mutex_init(&s->mu, NULL);
    (void)pthread_cond_init(&s->work, NULL);
    (void)pthread_cond_init(&s->idle, NULL);
    s->dir = mem_strdup(spec->dir);
    rc = s->dir ? allocate(s, e) : err_set(e, WATT_ENOMEM, "spill folder");
    if (rc == 0)
        rc = open_dir(s, e);
    if (rc == 0)
        rc = look_through(s, e);
    if (rc == 0 && (fault_hit(FAULT_THREAD) || pthread_create(&s->thread, NULL, writer, s) != 0))
        rc = err_set(e, WATT_ENOMEM, "%s: no thread to write", s->dir);
    if (rc < 0) {
        spill_close(s);
        return rc;
    }
    s->started = true;
    *out = s;
    return 0;
}

void spill_close(struct spill *s)
{
    if (!s)
        return;
    if (s->started) {
        (void)pthread_mutex_lock(&s->mu);
        s->stop = true;
        (void)pthread_cond_signal(&s->work);
        (void)pthread_mutex_unlock(&s->mu);
        (void)pthread_join(s->thread, NULL);
    }
    if (s->lock_fd >= 0)
        (void)close(s->lock_fd);
    if (s->dir_fd >= 0)
        (void)close(s->dir_fd);
    for (unsigned i = 0; i < N_BUFFERS; i++)
        mem_free(s->buffers[i].data);
    map_deinit(&s->index);
    mem_free(s->entries);
    mem_free(s->scratch);
    mem_free(s->dir);
    (void)pthread_mutex_destroy(&s->mu);
    (void)pthread_cond_destroy(&s->work);
    (void)pthread_cond_destroy(&s->idle);
    mem_free(s);
}

/* ---- use ---- */

bool spill_has(const struct spill *s, const struct spill_key *key)
{
    struct spill *m = (struct spill *)(uintptr_t)s;
    uint32_t i;
    bool ready;

    (void)pthread_mutex_lock(&m->mu);
    i = find_entry(s, key);
    ready = i != NONE && s->entries[i].state == ENTRY_READY;
    (void)pthread_mutex_unlock(&m->mu);
    return ready;
}

static void fill_buffer(const struct spill *s, struct buffer *b, const struct spill_key *key,
                        const int32_t *tokens, const void *page, const void *slot)
{
    const size_t tokens_bytes = s->spec.page_tokens * sizeof *tokens;
    struct header h = { .page_bytes = s->spec.page_bytes, .page_tokens = s->spec.page_tokens,
                        .slot_bytes = slot ? s->spec.slot_bytes : 0 };
    uint8_t *at = b->data + sizeof h;

    memcpy(h.magic, MAGIC, sizeof h.magic);
    memcpy(h.key, key->bytes, sizeof h.key);
    memcpy(b->data, &h, sizeof h);
    memcpy(at, tokens, tokens_bytes);
    at += tokens_bytes;
    if (s->spec.page_bytes)
        memcpy(at, page, (size_t)s->spec.page_bytes);
    if (slot)
        memcpy(at + s->spec.page_bytes, slot, (size_t)s->spec.slot_bytes);
    b->bytes = file_bytes(&s->spec, slot != NULL);
}

bool spill_put(struct spill *s, const struct spill_key *key, const int32_t *tokens,
               const void *page, const void *slot)
{
    struct buffer *b;
    uint32_t i;
    bool room;

    (void)pthread_mutex_lock(&s->mu);
    i = find_entry(s, key);
    room = i == NONE && s->n_full < N_BUFFERS;
    if (i != NONE) {
        unlink_entry(s, i);
        front_entry(s, i);
    }
    if (room)
        i = add_entry(s, key, file_bytes(&s->spec, slot != NULL), ENTRY_WRITING);
    room = room && i != NONE;
    s->stats.n_dropped += !room && i == NONE;
    b = &s->buffers[(s->first + s->n_full) % N_BUFFERS];
    (void)pthread_mutex_unlock(&s->mu);
    if (!room)
        return false;
    fill_buffer(s, b, key, tokens, page, slot);     /* nobody else looks at it yet */
    (void)pthread_mutex_lock(&s->mu);
    b->entry = i;
    s->n_full++;
    (void)pthread_cond_signal(&s->work);
    (void)pthread_mutex_unlock(&s->mu);
    return true;
}

bool spill_get(struct spill *s, const struct spill_key *key, const int32_t *tokens, void *page,
               void *slot, bool *has_slot)
{
    const size_t tokens_bytes = s->spec.page_tokens * sizeof *tokens;
    const uint8_t *at = s->scratch + sizeof(struct header) + tokens_bytes;
    uint64_t bytes = 0;
    uint32_t i;
    bool ok;

    (void)pthread_mutex_lock(&s->mu);
    i = find_entry(s, key);
    if (i != NONE && s->entries[i].state == ENTRY_READY) {
        bytes = s->entries[i].bytes;
        unlink_entry(s, i);
        front_entry(s, i);
    }
    (void)pthread_mutex_unlock(&s->mu);
    if (bytes == 0)
        return false;
    ok = read_file(s, key, s->scratch, bytes) && sound(s, key, tokens, bytes);
    (void)pthread_mutex_lock(&s->mu);
    i = find_entry(s, key);
    if (!ok && i != NONE)
        drop_entry(s, i, true);
    s->stats.n_got += ok;
    s->stats.n_damaged += !ok;
    (void)pthread_mutex_unlock(&s->mu);
    if (!ok)
        return false;
    *has_slot = bytes == file_bytes(&s->spec, true) && s->spec.slot_bytes > 0;
    if (s->spec.page_bytes)
        memcpy(page, at, (size_t)s->spec.page_bytes);
    if (*has_slot && slot)
        memcpy(slot, at + s->spec.page_bytes, (size_t)s->spec.slot_bytes);
    return true;
}

void spill_flush(struct spill *s)
{
    (void)pthread_mutex_lock(&s->mu);
    while (s->n_full > 0)
        (void)pthread_cond_wait(&s->idle, &s->mu);
    (void)pthread_mutex_unlock(&s->mu);
}

void spill_forget(struct spill *s)
{
    spill_flush(s);
    (void)pthread_mutex_lock(&s->mu);
    while (s->newest != NONE)
        drop_entry(s, s->newest, true);
    (void)pthread_mutex_unlock(&s->mu);
}

void spill_stats(struct spill *s, struct spill_stats *st)
{
    (void)pthread_mutex_lock(&s->mu);
    *st = s->stats;
    (void)pthread_mutex_unlock(&s->mu);
}
