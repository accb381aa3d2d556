/* prepare.c: files to shards; see prepare.h.
 *
 * A block of the file is read, cut into tasks that end with a line (or with a document where lines
 * are documents), tokenized by the team, and written in the order of the file. */
#include "models/train/prepare.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/json.h"
#include "base/mem.h"
#include "models/train/chat_tokens.h"
#include "models/train/shard.h"

#define BLOCK_BYTES ((size_t)16 << 20)
#define TASK_BYTES  ((size_t)64 << 10)
#define MAX_TASKS   (BLOCK_BYTES / TASK_BYTES * 2)

struct task {
    struct sv   text;
    uint64_t    line;           /* number of its first line, from 1 */
    bool        begins, ends;   /* of one document over several tasks */
    struct chat_tokens t;
    struct str  doc_ends;       /* uint64_t: ids at each end of a document */
    int         rc;
    struct err  e;
};

struct prepare {
    const struct prepare_opts *o;
    struct prepare_result     *r;
    const char                *path;
    struct shard_writer       *w;
    struct tokenizer_scratch **scratch;     /* [team_size] */
    struct task               *tasks;       /* [MAX_TASKS] */
    size_t                     n_tasks;
    bool                       records, inside;     /* inside: a document is open */
    uint64_t                   line;
};

bool prepare_is_records(const char *path)
{
    const char *dot = strrchr(path, '.');

    return dot && (strcasecmp(dot, ".jsonl") == 0 || strcasecmp(dot, ".ndjson") == 0);
}

/* ---- one task ---- */

static int end_doc(struct task *t, struct err *e)
{
    const uint64_t n = t->t.ids.n;

    str_append(&t->doc_ends, &n, sizeof n);
    return str_ok(&t->doc_ends) ? 0 : err_set(e, WATT_ENOMEM, "out of memory for documents");
}

static int add_record(struct prepare *p, struct task *t, struct sv line, uint64_t number,
                      struct err *e)
{
    const struct json_limits limits = { PREPARE_MAX_RECORD, 0 };
    char name[160];
    json_t *json;
    struct json_place root;
    int rc;

    (void)snprintf(name, sizeof name, "line %" PRIu64, number);
    rc = json_parse(&json, name, line.data, line.len, &limits, e);
    if (rc < 0)
        return err_prefix(e, "%s", p->path);
    root = json_root(json, name);
    rc = chat_tokens_add(&t->t, &root, e);
    json_close(json);
    if (rc < 0)
        return err_prefix(e, "%s", p->path);
    return end_doc(t, e);
}

static bool blank(struct sv s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!strchr(" \t\r\n", s.data[i]) || s.data[i] == '\0')
            return false;
    return true;
}

/* The next line without its end; false when there is none. */
static bool next_line(struct sv *rest, struct sv *line)
{
    const char *nl = rest->len ? memchr(rest->data, '\n', rest->len) : NULL;

    if (rest->len == 0)
        return false;
    line->data = rest->data;
    line->len = nl ? (size_t)(nl - rest->data) : rest->len;
    rest->data += line->len + (nl ? 1 : 0);
    rest->len -= line->len + (nl ? 1 : 0);
    if (line->len > 0 && line->data[line->len - 1] == '\r')
        line->len--;
    return true;
}

static int add_lines(struct prepare *p, struct task *t, struct err *e)
{
    struct sv rest = t->text, line, para = { NULL, 0 };
    uint64_t number = t->line;
    int rc = 0;

    for (; rc == 0 && next_line(&rest, &line); number++) {
        const bool empty = blank(line);

        if (p->records && !empty) {
            rc = add_record(p, t, line, number, e);
        } else if (!p->records && p->o->split == PREPARE_LINES && !empty) {
            rc = chat_tokens_text(&t->t, line, true, true, e);
            rc = rc == 0 ? end_doc(t, e) : rc;
        } else if (!p->records && p->o->split == PREPARE_PARAGRAPHS) {
            if (!empty)
                para = (struct sv){ para.data ? para.data : line.data,
                                    (size_t)(line.data + line.len -
                                             (para.data ? para.data : line.data)) };
            if (para.data && (empty || rest.len == 0)) {
                rc = chat_tokens_text(&t->t, para, true, true, e);
                rc = rc == 0 ? end_doc(t, e) : rc;
                para.data = NULL;
            }
        }
    }
    return rc;
}

static void work(void *arg, unsigned worker)
{
    struct prepare *p = arg;

    for (size_t i; (i = team_next(p->o->team)) < p->n_tasks;) {
        struct task *t = &p->tasks[i];

        t->t.ids.n = 0;
        t->t.n_hidden = 0;
        str_reset(&t->t.marks);
        str_reset(&t->doc_ends);
        t->t.scratch = p->scratch[worker];
        if (p->records || p->o->split != PREPARE_FILE) {
            t->rc = add_lines(p, t, &t->e);
        } else {
            t->rc = chat_tokens_text(&t->t, t->text, t->begins, t->ends, &t->e);
            if (t->rc == 0 && t->ends)
                t->rc = end_doc(t, &t->e);
        }
    }
}

/* ---- blocks ---- */

static int write_task(struct prepare *p, const struct task *t, struct err *e)
{
    const uint8_t *marks = (const uint8_t *)t->t.marks.data;
    size_t at = 0;

    for (size_t i = 0; i < t->doc_ends.len / sizeof(uint64_t); i++) {
        uint64_t end;
        int rc;

        memcpy(&end, t->doc_ends.data + i * sizeof end, sizeof end);
        rc = shard_writer_add(p->w, t->t.ids.ids + at, marks + at, (size_t)end - at, true, e);
        if (rc < 0)
            return rc;
        at = (size_t)end;
        p->r->n_docs++;
    }
    for (size_t i = 0; i < t->t.ids.n; i++)
        p->r->n_learned += marks[i];
    p->r->n_hidden += t->t.n_hidden;
    return at < t->t.ids.n ? shard_writer_add(p->w, t->t.ids.ids + at, marks + at, t->t.ids.n - at,
                                              false, e)
                           : 0;
}

/* The end of a piece of s that has at least `least` bytes, if there is one: behind a line, or
 * behind an empty line where paragraphs are documents. 0: no. */
static size_t cut(const struct prepare *p, struct sv s, size_t least)
{
    const bool paragraphs = !p->records && p->o->split == PREPARE_PARAGRAPHS;
    size_t at = least;

    while (at < s.len) {
        const char *nl = memchr(s.data + at, '\n', s.len - at);

        if (!nl)
            return 0;
        at = (size_t)(nl - s.data) + 1;
        if (!paragraphs)
            return at;
        if (at < s.len && s.data[at] == '\n')
            return at + 1;
        if (at + 1 < s.len && s.data[at] == '\r' && s.data[at + 1] == '\n')
            return at + 2;
    }
    return 0;
}

static uint64_t count_lines(struct sv s)
{
    uint64_t n = 0;

    for (const char *p = s.data; (p = memchr(p, '\n', s.len - (size_t)(p - s.data))) != NULL;) {
        n++;
        p++;
        if (p == s.data + s.len)
            break;
    }
    return n;
}

/* Tokenizes what is complete of the block; *used says how much that was. last: all of it is. */
static int run_block(struct prepare *p, struct sv block, bool last, size_t *used, struct err *e)
{
    const bool whole = !p->records && p->o->split == PREPARE_FILE;

    p->n_tasks = 0;
    *used = 0;
    while (*used < block.len && p->n_tasks < MAX_TASKS) {
        const struct sv rest = { block.data + *used, block.len - *used };
        struct task *t = &p->tasks[p->n_tasks];
        size_t n = rest.len > TASK_BYTES ? cut(p, rest, TASK_BYTES) : 0;

        if (n == 0 && last)
            n = rest.len;
        else if (n == 0 && whole && rest.len > PREPARE_MAX_RECORD / 2)
            n = rest.len;               /* a text without lines is cut where it is */
        if (n == 0)
            break;
        t->text = (struct sv){ rest.data, n };
        t->line = p->line + 1;
        t->begins = !p->inside;
        *used += n;
        t->ends = last && *used == block.len;
        p->inside = whole && !t->ends;
        p->line += count_lines(t->text);
        p->n_tasks++;
    }
    if (last && *used == block.len && p->inside && p->n_tasks < MAX_TASKS) {
        /* the text ended with the block before: what is missing is its end */
        p->tasks[p->n_tasks++] = (struct task){ .text = { "", 0 }, .ends = true,
                                                .t = p->tasks[p->n_tasks].t,
                                                .doc_ends = p->tasks[p->n_tasks].doc_ends };
        p->inside = false;
    }
    team_run(p->o->team, work, p);
    for (size_t i = 0; i < p->n_tasks; i++) {
        const int rc = p->tasks[i].rc < 0 ? err_set(e, p->tasks[i].e.code, "%s", p->tasks[i].e.msg)
                                          : write_task(p, &p->tasks[i], e);

        if (rc < 0)
            return rc;
    }
    return 0;
}

static int run_file(struct prepare *p, FILE *f, uint64_t size, struct err *e)
{
    size_t cap = BLOCK_BYTES, have = 0;
    uint64_t done = 0;
    char *buf = mem_alloc(cap);
    int rc = buf ? 0 : err_set(e, WATT_ENOMEM, "%s: out of memory", p->path);

    for (bool last = false; rc == 0 && !last;) {
        size_t got, used = 0;

        if (have == cap) {              /* one record is longer than the block */
            char *grown = cap < PREPARE_MAX_RECORD ? mem_realloc(buf, 2 * cap) : NULL;

            if (!grown) {
                rc = err_set(e, WATT_ELIMIT, "%s: what begins in line %" PRIu64 " is longer than %zu "
                             "bytes", p->path, p->line + 1, cap);
                break;
            }
            buf = grown;
            cap *= 2;
        }
        got = fault_hit(FAULT_READ) ? 0 : fread(buf + have, 1, cap - have, f);
        have += got;
        if (ferror(f)) {
            rc = err_set(e, WATT_EIO, "%s: can't be read", p->path);
            break;
        }
        last = have < cap;
        done += got;
        do {
            size_t n;

            rc = run_block(p, (struct sv){ buf + used, have - used }, last, &n, e);
            used += n;
            if (n == 0)
                break;
        } while (rc == 0 && used < have);
        memmove(buf, buf + used, have - used);
        have -= used;
        if (rc == 0 && p->o->progress && p->o->progress(p->o->ctx, done, size))
            rc = err_set(e, WATT_ECANCEL, "stopped");
    }
    if (rc == 0 && done != size)
        rc = err_set(e, WATT_EIO, "%s: %" PRIu64 " bytes were read, it had %" PRIu64
                     " when it was opened", p->path, done, size);
    mem_free(buf);
    return rc;
}

static int open_all(struct prepare *p, FILE **f, uint64_t *size, struct err *e)
{
    const unsigned n = team_size(p->o->team);
    struct stat st;
    int rc = 0;

    *f = fopen(p->path, "rbe");
    if (!*f)
        return err_errno(e, errno == ENOENT ? WATT_ENOENT : WATT_EIO, errno, "%s", p->path);
    if (fstat(fileno(*f), &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(e, WATT_EINVAL, "%s: is not a regular file", p->path);
    *size = (uint64_t)st.st_size;
    p->scratch = mem_calloc(n, sizeof *p->scratch);
    p->tasks = mem_calloc(MAX_TASKS, sizeof *p->tasks);
    if (!p->scratch || !p->tasks)
        return err_set(e, WATT_ENOMEM, "%s: out of memory", p->path);
    for (unsigned i = 0; rc == 0 && i < n; i++)
        rc = tokenizer_scratch_open(&p->scratch[i], p->o->tok, e);
    for (size_t i = 0; i < MAX_TASKS; i++) {
        p->tasks[i].t.tok = p->o->tok;
        p->tasks[i].t.tmpl = p->o->tmpl;
        str_init(&p->tasks[i].t.marks, 0);
        str_init(&p->tasks[i].doc_ends, 0);
    }
    return rc;
}

static void close_all(struct prepare *p, FILE *f)
{
    for (size_t i = 0; p->tasks && i < MAX_TASKS; i++) {
        tokens_deinit(&p->tasks[i].t.ids);
        str_deinit(&p->tasks[i].t.marks);
        str_deinit(&p->tasks[i].doc_ends);
    }
    for (unsigned i = 0; p->scratch && i < team_size(p->o->team); i++)
        tokenizer_scratch_close(p->scratch[i]);
    mem_free(p->tasks);
    mem_free(p->scratch);
    if (f)
        (void)fclose(f);
}

int prepare_shard(const char *path, const char *out, const struct prepare_opts *o,
                  struct prepare_result *r, struct err *e)
{
    struct prepare p = { .o = o, .r = r, .path = path, .records = prepare_is_records(path) };
    uint64_t size = 0;
    FILE *f = NULL;
    int rc;

    *r = (struct prepare_result){ 0 };
    rc = open_all(&p, &f, &size, e);
    if (rc == 0)
        rc = shard_writer_open(&p.w, out, tokenizer_n_vocab(o->tok), shard_vocab_hash(o->tok),
                               p.records, e);
    if (rc == 0)
        rc = run_file(&p, f, size, e);
    if (rc == 0) {
        r->n_tokens = shard_writer_n_tokens(p.w);
        if (r->n_tokens == 0) {
            rc = err_set(e, WATT_EINVAL, "%s: gives no tokens", path);
        } else {
            rc = shard_writer_commit(p.w, e);
            p.w = NULL;
        }
    }
    shard_writer_abort(p.w);
    close_all(&p, f);
    return rc;
}
