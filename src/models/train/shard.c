/* shard.c: files of token ids; see shard.h for the layout. */
#include "models/train/shard.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/bytes.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"

#define MAGIC       "WATTSHRD"
#define FLAG_WIDE   1u
#define FLAG_MARKS  2u
#define AT_VERSION  8
#define AT_FLAGS    12
#define AT_TOKENS   16
#define AT_DOCS     24
#define AT_VOCAB    32
#define AT_VOCAB_HASH 40
#define AT_DATA_HASH  48
#define AT_RESERVED   56
#define AT_HEADER_HASH 88
#define PIECE       ((size_t)1 << 16)       /* bytes read at once */

struct shard {
    int      fd;
    char    *path;
    uint64_t n_tokens, n_docs, n_vocab, vocab_hash, data_hash;
    uint64_t ends_at, marks_at, size;       /* in the file */
    uint32_t id_bytes;
    bool     marks;
};

static uint64_t pad8(uint64_t n)
{
    return (n + 7) & ~(uint64_t)7;
}

/* ---- reading ---- */

static int read_at(const struct shard *s, uint64_t at, void *buf, size_t n, struct err *e)
{
    uint8_t *p = buf;

    while (n > 0) {
        const ssize_t got = fault_hit(FAULT_READ) ? -1 : pread(s->fd, p, n, (off_t)at);

        if (got < 0)
            return err_set(e, WATT_EIO, "%s: can't be read at byte %" PRIu64, s->path, at);
        if (got == 0)
            return err_set(e, WATT_EIO, "%s: ends at byte %" PRIu64 ", it had %" PRIu64
                           " when it was opened", s->path, at, s->size);
        p += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

static int parse_header(struct shard *s, const uint8_t *h, struct err *e)
{
    const uint32_t flags = load_le32(h + AT_FLAGS);

    if (memcmp(h, MAGIC, 8) != 0)
        return err_set(e, WATT_EFORMAT, "%s: is no token shard: it does not begin with %s", s->path,
                       MAGIC);
    if (load_le32(h + AT_VERSION) != SHARD_VERSION)
        return err_set(e, WATT_EFORMAT, "%s: version is %" PRIu32 ", expected %u", s->path,
                       load_le32(h + AT_VERSION), SHARD_VERSION);
    if (XXH3_64bits(h, AT_HEADER_HASH) != load_le64(h + AT_HEADER_HASH))
        return err_set(e, WATT_EFORMAT, "%s: the header is damaged: its hash does not fit", s->path);
    if (flags & ~(FLAG_WIDE | FLAG_MARKS))
        return err_set(e, WATT_EFORMAT, "%s: flags are %#" PRIx32 ", known are 1 and 2", s->path,
                       flags);
    for (int i = 0; i < 4; i++)
        if (load_le64(h + AT_RESERVED + 8 * i) != 0)
            return err_set(e, WATT_EFORMAT, "%s: reserved bytes are not zero", s->path);
    s->n_tokens = load_le64(h + AT_TOKENS);
    s->n_docs = load_le64(h + AT_DOCS);
    s->n_vocab = load_le64(h + AT_VOCAB);
    s->vocab_hash = load_le64(h + AT_VOCAB_HASH);
    s->data_hash = load_le64(h + AT_DATA_HASH);
    s->id_bytes = flags & FLAG_WIDE ? 4 : 2;
    s->marks = flags & FLAG_MARKS;
    if (s->n_tokens == 0 || s->n_tokens > SHARD_MAX_TOKENS)
        return err_set(e, WATT_EFORMAT, "%s: n_tokens is %" PRIu64 ", expected 1 to %" PRIu64,
                       s->path, s->n_tokens, SHARD_MAX_TOKENS);
    if (s->n_docs == 0 || s->n_docs > s->n_tokens)
        return err_set(e, WATT_EFORMAT, "%s: n_docs is %" PRIu64 ", expected 1 to %" PRIu64,
                       s->path, s->n_docs, s->n_tokens);
    if (s->n_vocab == 0 || s->n_vocab > TOKENIZER_MAX_VOCAB ||
        (s->id_bytes == 2 && s->n_vocab > 65536))
        return err_set(e, WATT_EFORMAT, "%s: n_vocab is %" PRIu64 ", which ids of %" PRIu32
                       " bytes can't be of", s->path, s->n_vocab, s->id_bytes);
    s->ends_at = SHARD_HEADER_BYTES + pad8(s->n_tokens * s->id_bytes);
    s->marks_at = s->ends_at + 8 * s->n_docs;
    s->size = s->marks_at + (s->marks ? pad8((s->n_tokens + 7) / 8) : 0);
    return 0;
}

/* All behind the header: its hash, and the ends in their order. */
static int check_data(struct shard *s, struct err *e)
{
    XXH3_state_t *h = XXH3_createState();
    uint8_t *buf = mem_alloc(PIECE);
    uint64_t at = SHARD_HEADER_BYTES, last = 0;
    int rc = 0;

    if (!h || !buf)
        rc = err_set(e, WATT_ENOMEM, "%s: out of memory", s->path);
    else
        (void)XXH3_64bits_reset(h);
    while (rc == 0 && at < s->size) {
        /* pieces begin at multiples of 8 behind the header, as do the ends */
        const size_t n = s->size - at < PIECE ? (size_t)(s->size - at) : PIECE;

        rc = read_at(s, at, buf, n, e);
        if (rc < 0)
            break;
        (void)XXH3_64bits_update(h, buf, n);
        for (size_t i = 0; i < n && rc == 0; i += 8) {
            uint64_t end;

            if (at + i < s->ends_at || at + i >= s->marks_at)
                continue;
            end = load_le64(buf + i);
            if (end <= last || end > s->n_tokens)
                rc = err_set(e, WATT_EFORMAT, "%s: document %" PRIu64 " ends at token %" PRIu64
                             ", the one before at %" PRIu64 " of %" PRIu64, s->path,
                             (at + i - s->ends_at) / 8, end, last, s->n_tokens);
            last = end;
        }
        at += n;
    }
    if (rc == 0 && last != s->n_tokens)
        rc = err_set(e, WATT_EFORMAT, "%s: the last document ends at token %" PRIu64 " of %" PRIu64,
                     s->path, last, s->n_tokens);
    if (rc == 0 && XXH3_64bits_digest(h) != s->data_hash)
        rc = err_set(e, WATT_EFORMAT, "%s: the data are damaged: their hash does not fit", s->path);
    mem_free(buf);
    if (h)
        (void)XXH3_freeState(h);
    return rc;
}

static int open_file(struct shard *s, struct err *e)
{
    uint8_t header[SHARD_HEADER_BYTES];
    struct file_map m;
    struct stat st;
    int rc = file_map_open(&m, s->path, e);     /* its checks and messages; the mapping goes */

    if (rc < 0)
        return rc;
    s->fd = fcntl(m.fd, F_DUPFD_CLOEXEC, 0);
    file_map_close(&m);
    if (s->fd < 0 || fstat(s->fd, &st) < 0)
        return err_set(e, WATT_EIO, "%s: can't be read", s->path);
    if (st.st_size < (off_t)SHARD_HEADER_BYTES)
        return err_set(e, WATT_EFORMAT, "%s: %jd bytes, a shard's header takes %u", s->path,
                       (intmax_t)st.st_size, SHARD_HEADER_BYTES);
    rc = read_at(s, 0, header, sizeof header, e);
    if (rc == 0)
        rc = parse_header(s, header, e);
    if (rc == 0 && (uint64_t)st.st_size != s->size)
        return err_set(e, WATT_EFORMAT, "%s: %jd bytes, by its header it has %" PRIu64, s->path,
                       (intmax_t)st.st_size, s->size);
    return rc == 0 ? check_data(s, e) : rc;
}

int shard_open(struct shard **out, const char *path, struct err *e)
{
    struct shard *s = mem_calloc(1, sizeof *s);
    int rc;

    if (!s)
        return err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    s->fd = -1;
    s->path = mem_strdup(path);
    rc = s->path ? open_file(s, e) : err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    if (rc < 0) {
        shard_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void shard_close(struct shard *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        (void)close(s->fd);
    mem_free(s->path);
    mem_free(s);
}

const char *shard_path(const struct shard *s) { return s->path; }
uint64_t shard_n_tokens(const struct shard *s) { return s->n_tokens; }
uint64_t shard_n_docs(const struct shard *s) { return s->n_docs; }
uint64_t shard_n_vocab(const struct shard *s) { return s->n_vocab; }
uint64_t shard_vocab(const struct shard *s) { return s->vocab_hash; }
uint64_t shard_hash(const struct shard *s) { return s->data_hash; }
bool shard_has_marks(const struct shard *s) { return s->marks; }

static int read_marks(const struct shard *s, uint64_t first, uint32_t n, uint8_t *marks,
                      struct err *e)
{
    uint8_t bits[512];

    for (uint32_t done = 0; done < n;) {
        const uint64_t at = first + done, byte = at / 8;
        const uint32_t skip = (uint32_t)(at % 8), left = n - done;
        const uint32_t most = (uint32_t)sizeof bits * 8 - skip, take = left < most ? left : most;
        const int rc = read_at(s, s->marks_at + byte, bits, (skip + take + 7) / 8, e);

        if (rc < 0)
            return rc;
        for (uint32_t i = 0; i < take; i++)
            marks[done + i] = (uint8_t)(bits[(skip + i) / 8] >> ((skip + i) % 8) & 1);
        done += take;
    }
    return 0;
}

int shard_read(const struct shard *s, uint64_t first, uint32_t n, int32_t *ids, uint8_t *marks,
               struct err *e)
{
    uint8_t buf[4096];
    const uint32_t most = (uint32_t)sizeof buf / s->id_bytes;

    CHECK(first <= s->n_tokens && n <= s->n_tokens - first);
    for (uint32_t done = 0; done < n;) {
        const uint32_t take = n - done < most ? n - done : most;
        const int rc = read_at(s, SHARD_HEADER_BYTES + (first + done) * s->id_bytes, buf,
                               (size_t)take * s->id_bytes, e);

        if (rc < 0)
            return rc;
        for (uint32_t i = 0; i < take; i++) {
            const uint32_t id = s->id_bytes == 2 ? load_le16(buf + 2 * i) : load_le32(buf + 4 * i);

            if (id >= s->n_vocab)
                return err_set(e, WATT_EFORMAT, "%s: token %" PRIu64 " is %" PRIu32
                               ", the vocabulary has %" PRIu64, s->path, first + done + i, id,
                               s->n_vocab);
            ids[done + i] = (int32_t)id;
        }
        done += take;
    }
    if (marks && s->marks)
        return read_marks(s, first, n, marks, e);
    if (marks)
        memset(marks, 1, n);
    return 0;
}

int shard_doc(const struct shard *s, uint64_t i, uint64_t *first, uint64_t *end, struct err *e)
{
    uint8_t buf[16] = { 0 };
    int rc;

    CHECK(i < s->n_docs);
    rc = i ? read_at(s, s->ends_at + 8 * (i - 1), buf, 16, e)
           : read_at(s, s->ends_at, buf + 8, 8, e);
    if (rc < 0)
        return rc;
    *first = load_le64(buf);
    *end = load_le64(buf + 8);
    if (*end <= *first || *end > s->n_tokens)       /* rewritten since it was checked */
        return err_set(e, WATT_EFORMAT, "%s: document %" PRIu64 " changed while it was read",
                       s->path, i);
    return 0;
}

bool shard_is(const char *path)
{
    char magic[8] = "";
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool is;

    if (fd < 0)
        return false;
    is = pread(fd, magic, sizeof magic, 0) == (ssize_t)sizeof magic &&
         memcmp(magic, MAGIC, sizeof magic) == 0;
    (void)close(fd);
    return is;
}

uint64_t shard_vocab_hash(const struct tokenizer *t)
{
    const uint32_t n = tokenizer_n_vocab(t);
    uint64_t h = XXH3_64bits_withSeed(&n, sizeof n, (XXH64_hash_t)tokenizer_type(t));

    for (uint32_t i = 0; i < n; i++) {
        const struct sv text = tokenizer_text(t, (int32_t)i);

        h = XXH3_64bits_withSeed(text.data, text.len, h);
    }
    return h;
}

/* ---- writing ---- */

struct shard_writer {
    struct file_new file;
    XXH3_state_t   *hash;
    uint64_t        n_tokens, last_end, n_vocab, vocab_hash;
    uint32_t        id_bytes;
    bool            marks;
    struct str      ends, bits;         /* written behind the ids */
};

static int put(struct shard_writer *w, const void *data, size_t n, struct err *e)
{
    (void)XXH3_64bits_update(w->hash, data, n);
    return file_new_write(&w->file, data, n, e);
}

int shard_writer_open(struct shard_writer **out, const char *path, uint64_t n_vocab,
                      uint64_t vocab_hash, bool marks, struct err *e)
{
    static const uint8_t zeros[SHARD_HEADER_BYTES];
    struct shard_writer *w;
    int rc;

    if (n_vocab == 0 || n_vocab > TOKENIZER_MAX_VOCAB)
        return err_set(e, WATT_EINVAL, "%s: a vocabulary of %" PRIu64 " tokens", path, n_vocab);
    w = mem_calloc(1, sizeof *w);
    if (!w)
        return err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    w->hash = XXH3_createState();
    w->n_vocab = n_vocab;
    w->vocab_hash = vocab_hash;
    w->marks = marks;
    w->id_bytes = n_vocab > 65536 ? 4 : 2;
    str_init(&w->ends, (size_t)1 << 40);
    str_init(&w->bits, (size_t)1 << 40);
    rc = w->hash ? file_new_open(&w->file, path, e)
                 : err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    if (rc == 0 && w->file.direct)
        rc = err_set(e, WATT_EINVAL, "%s: a shard can't be written to a device or a pipe", path);
    if (rc == 0)
        rc = file_new_write(&w->file, zeros, sizeof zeros, e);
    if (rc < 0) {
        shard_writer_abort(w);
        return rc;
    }
    (void)XXH3_64bits_reset(w->hash);
    *out = w;
    return 0;
}

void shard_writer_abort(struct shard_writer *w)
{
    if (!w)
        return;
    file_new_abort(&w->file);
    if (w->hash)
        (void)XXH3_freeState(w->hash);
    str_deinit(&w->ends);
    str_deinit(&w->bits);
    mem_free(w);
}

uint64_t shard_writer_n_tokens(const struct shard_writer *w) { return w->n_tokens; }

static int put_ids(struct shard_writer *w, const int32_t *ids, size_t n, struct err *e)
{
    uint8_t buf[4096];
    const size_t most = sizeof buf / w->id_bytes;

    for (size_t done = 0; done < n;) {
        const size_t take = n - done < most ? n - done : most;
        int rc;

        for (size_t i = 0; i < take; i++) {
            const int32_t id = ids[done + i];

            if (id < 0 || (uint64_t)id >= w->n_vocab)
                return err_set(e, WATT_EINVAL, "%s: token %" PRId32 " of a vocabulary of %" PRIu64,
                               w->file.path, id, w->n_vocab);
            if (w->id_bytes == 2)
                store_le16(buf + 2 * i, (uint16_t)id);
            else
                store_le32(buf + 4 * i, (uint32_t)id);
        }
        rc = put(w, buf, take * w->id_bytes, e);
        if (rc < 0)
            return rc;
        done += take;
    }
    return 0;
}

static void put_marks(struct shard_writer *w, const uint8_t *marks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint64_t at = w->n_tokens + i;

        if (at % 8 == 0)
            str_putc(&w->bits, 0);
        if (str_ok(&w->bits) && marks[i])
            w->bits.data[at / 8] = (char)((uint8_t)w->bits.data[at / 8] | 1u << at % 8);
    }
}

int shard_writer_add(struct shard_writer *w, const int32_t *ids, const uint8_t *marks, size_t n,
                     bool ends, struct err *e)
{
    uint8_t end[8];
    int rc;

    CHECK(marks || n == 0 || !w->marks);
    if (n > SHARD_MAX_TOKENS - w->n_tokens)
        return err_set(e, WATT_ELIMIT, "%s: more than %" PRIu64 " tokens", w->file.path,
                       SHARD_MAX_TOKENS);
    rc = put_ids(w, ids, n, e);
    if (rc < 0)
        return rc;
    if (w->marks)
        put_marks(w, marks, n);
    w->n_tokens += n;
    if (ends && w->n_tokens > w->last_end) {
        store_le64(end, w->n_tokens);
        str_append(&w->ends, end, sizeof end);
        w->last_end = w->n_tokens;
    }
    return str_ok(&w->ends) && str_ok(&w->bits)
               ? 0 : err_set(e, WATT_ENOMEM, "%s: out of memory", w->file.path);
}

static int finish(struct shard_writer *w, struct err *e)
{
    static const uint8_t zeros[8];
    uint8_t h[SHARD_HEADER_BYTES] = { 0 };
    const uint64_t id_bytes = w->n_tokens * w->id_bytes;
    int rc = put(w, zeros, (size_t)(pad8(id_bytes) - id_bytes), e);

    if (rc == 0)
        rc = put(w, w->ends.data, w->ends.len, e);
    if (rc == 0 && w->marks)
        rc = put(w, w->bits.data, w->bits.len, e);
    if (rc == 0 && w->marks)
        rc = put(w, zeros, (size_t)(pad8(w->bits.len) - w->bits.len), e);
    if (rc < 0)
        return rc;
    memcpy(h, MAGIC, 8);
    store_le32(h + AT_VERSION, SHARD_VERSION);
    store_le32(h + AT_FLAGS, (w->id_bytes == 4 ? FLAG_WIDE : 0) | (w->marks ? FLAG_MARKS : 0));
    store_le64(h + AT_TOKENS, w->n_tokens);
    store_le64(h + AT_DOCS, w->ends.len / 8);
    store_le64(h + AT_VOCAB, w->n_vocab);
    store_le64(h + AT_VOCAB_HASH, w->vocab_hash);
    store_le64(h + AT_DATA_HASH, XXH3_64bits_digest(w->hash));
    store_le64(h + AT_HEADER_HASH, XXH3_64bits(h, AT_HEADER_HASH));
    if (fseeko(w->file.f, 0, SEEK_SET) != 0)
        return err_set(e, WATT_EIO, "%s: can't go back to the header", w->file.path);
    return file_new_write(&w->file, h, sizeof h, e);
}

int shard_writer_commit(struct shard_writer *w, struct err *e)
{
    int rc = shard_writer_add(w, NULL, NULL, 0, true, e);   /* should the last one still be open */

    if (rc == 0 && w->n_tokens == 0)
        rc = err_set(e, WATT_EINVAL, "%s: no document to write", w->file.path);
    if (rc == 0)
        rc = finish(w, e);
    if (rc == 0)
        rc = file_new_commit(&w->file, e);
    shard_writer_abort(w);
    return rc;
}
